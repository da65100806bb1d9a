"""The sections about the run itself: what ran and failed, claims, laws, provenance, and what is missing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.report import declared, ledger
from benchmarks.report.blocks import Claims, Missing, Pairs, Prose, Section, Shown
from benchmarks.report.panels import Panels
from benchmarks.tables import views
from benchmarks.tables.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    import pandas as pd


def summary(panels: Panels, failures: Shown | None) -> Section:
    """failures: what `failed` gave."""
    frame = panels.frame
    if frame.empty:
        return Section("summary", "Summary", "What ran, when and where, and what failed.", [Missing(panels.why())])
    jobs = frame.drop_duplicates("record")
    asked, scores = jobs[jobs.kind != "score"], jobs[jobs.kind == "score"]
    ok, ours = int((asked.status == "ok").sum()), asked[asked.paper != ""]
    claims = ledger.counts(panels.inputs.findings)
    verdicts = (
        ", ".join(f"{many} {outcome}" for outcome, many in claims.items()) + f", of {sum(claims.values())} claims"
    )
    pairs = [
        ("Jobs", f"{ok} of {len(asked)} ok: " + ", ".join(
            f"{int((of.status == 'ok').sum())}/{len(of)} {kind}" for kind, of in asked.groupby("kind"))),
        ("Scores", f"{int((scores.status == 'ok').sum())} of {len(scores)} ok"),
        ("Methods", f"{ours.label.nunique()} variants of {ours.method.nunique()} methods from {ours.paper.nunique()} "
                    f"papers, on {asked.target.nunique()} targets"),
        ("Claims", verdicts if panels.inputs.findings else "none evaluated: run `trilemma claims`"),
        ("Written", f"{jobs.written.min()} to {jobs.written.max()}"),
        ("Where", "; ".join(sorted({f"{r.device} ({r.hardware})" for r in jobs.itertuples()}))),
        ("Work", split(panels, jobs)),
    ]  # fmt: skip
    blocks: list[object] = [Pairs(tuple(pairs))]
    blocks.append(failures or Prose("No job and no score of this store failed, timed out or was skipped."))
    for problem in panels.inputs.store.problems:
        blocks.append(Missing(problem))
    return Section("summary", "Summary", "What ran, when and where; what failed; how claims came out.", blocks)


def split(panels: Panels, jobs: pd.DataFrame) -> str:
    """Seconds inside the jobs by kind, and the stages of the last run where the command wrote them down."""
    within = {
        "generation": jobs[jobs.kind.isin({"sample", "likelihood", "reference", "floor"})].seconds.sum(),
        "timing": jobs[jobs.kind == "timing"].seconds.sum(),
        "scoring": jobs[jobs.kind == "score"].seconds.sum(),
    }
    said = "inside the jobs: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in within.items())
    if panels.inputs.stages:
        parts = (f"{name} {float(seconds):.1f} s" for name, seconds in panels.inputs.stages.items())
        said += "; wall time of the last run that did work: " + ", ".join(parts)
    return said


def failed(panels: Panels) -> Shown | None:
    """Every job and score without a number, those with one reason together; None where there is none."""
    rows = panels.frame[panels.frame.status != "ok"].drop_duplicates("record")
    if rows.empty:
        return None
    columns = tuple(Column(*names) for names in (
        ("status", "Status"), ("records", "Records"), ("methods", "Methods"), ("steps", "Steps"), ("reason", "Reason"),
    ))  # fmt: skip
    made = []
    for key, of in views.settled(rows, ["status", "kind", "target", "model", "metric", "reason"]):
        steps = ", ".join(str(step) for step in sorted(set(of.steps.dropna())))
        labels = (key["kind"], f"{key['target']}, {key['model']}", key["metric"])
        status = Cell(status=key["status"], record=of.record.iloc[0])
        methods = ", ".join(sorted(set(of.label)))
        made.append(
            Row(labels, (status, Cell(len(of)), Cell(methods), Cell(steps), Cell(key["reason"] or "none given")))
        )
    caption = "Jobs and scores that gave no number. Each stands as a word in the tables below; none is left out."
    heads = ("Kind", "Target, model", "Metric")
    return panels.keep(Table("failed", "Failed rows", caption, heads, columns, tuple(made)))


def claims(panels: Panels) -> Section:
    asks = "What the papers say, frozen before it was run, and whether these records bear it out at these sizes."
    findings = panels.inputs.findings
    if not findings:
        text = "No claim was judged by the records of this store: `trilemma claims` lists those that there are."
        return Section("claims", "Claims", asks, [Missing(text)])
    counts, blocks = ledger.counts(findings), []
    grades = sorted({finding.grade for finding in findings})
    outcomes = list(counts)
    rows = [
        Row((f"{grade}: {ledger.GRADES.get(grade, 'not graded')}",), tuple(
            Cell(sum(f.outcome == outcome and f.grade == grade for f in findings)) for outcome in outcomes)
            + (Cell(sum(f.grade == grade for f in findings)),))
        for grade in grades
    ]  # fmt: skip
    rows.append(Row(("all",), (*(Cell(counts[o]) for o in outcomes), Cell(len(findings)))))
    caption = "Counts, never averaged: a claim that holds on an analytic target and fails with networks has two rows."
    columns = tuple(Column(views.slug(outcome), outcome) for outcome in outcomes) + (Column("all", "all"),)
    blocks.append(
        panels.keep(Table("verdicts", "Verdicts by grade of evidence", caption, ("Evidence",), columns, tuple(rows)))
    )
    table = ledger.tabled(findings)
    panels.tables.append(table)
    blocks.append(Claims(tuple(findings), table))
    return Section("claims", "Claims", asks, blocks)


def laws(panels: Panels) -> Section:
    asks = "Which analytic properties are tested, for how many methods, and does each test notice a broken one?"
    return Section("laws", "Laws", asks, law_blocks(panels))


def law_blocks(panels: Panels) -> list[object]:
    made = declared.laws_over(panels.inputs.papers.values())
    return [panels.keep(made) if isinstance(made, Table) else made]


def provenance(panels: Panels) -> Section:
    asks = "What answered: code, machine, versions, pinned weights."
    records = panels.inputs.records
    if not records:
        return Section("provenance", "Provenance", asks, [Missing("No records, so nothing to trace.")])
    fields = ("device", "hardware", "threads", "python", "torch", "platform")
    made_at = Counter(tuple(getattr(record.place, name) for name in fields) for record in records)
    columns = tuple(Column(name, name.capitalize()) for name in (*fields[1:], "records"))
    rows = [Row((place[0],), tuple(map(Cell, (*place[1:], many)))) for place, many in sorted(made_at.items(), key=str)]
    blocks: list[object] = [
        panels.keep(
            Table("places", "Places", "Where the records that count were made.", ("Device",), columns, tuple(rows))
        )
    ]
    commits = sorted({(r.commit, r.dirty) for r in records})
    blocks.append(Pairs((
        ("Commits", ", ".join(commit[:12] + " with uncommitted changes" * dirty for commit, dirty in commits)),
        ("Records", f"{len(records)} that count, in {len(set(panels.frame.made_of))} states of code and data"),
    )))  # fmt: skip
    if panels.inputs.checkpoints:
        blocks.append(panels.keep(declared.checkpoints(panels.inputs.checkpoints)))
    else:
        blocks.append(Missing("checkpoints.lock pins no weights: nothing trained entered these numbers."))
    return Section("provenance", "Provenance", asks, blocks)


def missing(panels: Panels) -> Section:
    asks = "What this report cannot say, and why."
    pairs = [("Papers without a record", unseen(panels))]
    if panels.inputs.stale:
        pairs.append(
            (
                "Records left out",
                f"{panels.inputs.stale}, made by code or data that is no more; they stay in the store",
            )
        )
    unscored = panels.unscored()
    if not unscored.empty:
        names = sorted({f"{r.label} on {r.target} ({r.model}): {r.status}" for r in unscored.itertuples()})
        pairs.append(("Sampled without a score", "; ".join(names)))
    away = [finding for finding in panels.inputs.findings if finding.outcome == "out of reach here"]
    pairs.append(("Claims out of reach", "; ".join(f"{f.key}: {f.why or 'no reason given'}" for f in away) or "none"))
    pairs.append(("Not compared", "Published numbers of large networks: the networks here are small and their images "
                  "are 8x8 digits; where a claim names a paper's number, the ledger says what is scaled."))  # fmt: skip
    return Section("missing", "What is missing", asks, [Pairs(tuple(pairs)), *excluded(panels)])


def excluded(panels: Panels) -> list[object]:
    """What the suite selected and could not ask."""
    excluded = getattr(panels.inputs.plan, "excluded", ())
    if not excluded:
        return []
    rows = sorted({(each.what, each.table, each.reason) for each in excluded})
    columns = (Column("table", "Table"), Column("reason", "Reason"))
    made = tuple(Row((what,), (Cell(table), Cell(reason))) for what, table, reason in rows)
    caption = "Combinations that the suite selects by traits and that cannot be run."
    return [panels.keep(Table("excluded", "Excluded combinations", caption, ("Combination",), columns, made))]


def unseen(panels: Panels) -> str:
    seen = set(panels.frame.paper) | {finding.of_paper for finding in panels.inputs.findings}
    return ", ".join(sorted(set(panels.inputs.papers) - seen)) or "none"
