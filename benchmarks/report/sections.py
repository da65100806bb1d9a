"""The sections of the first page. Each answers one question from the records, or says what is missing and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.plots import figures
from benchmarks.report import declared, ledger
from benchmarks.report.blocks import Claims, Heading, Key, Missing, Pairs, Plots, Prose, Section, Shown
from benchmarks.report.gallery import gallery
from benchmarks.tables import kinds, views
from benchmarks.tables.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.plots.style import Look
    from benchmarks.report.inputs import Inputs

FAMILIES = {  # what a metric must need for its target to stand in a section, tried in this order
    "tokens": {"tokens", "text", "token_table"},
    "inverse": {"posterior", "truth"},
    "control": {"log_weight", "modes"},
    "quality": {"features", "train"},
    "precision": {"exact_flow", "exact_samples", "mixture_1d"},
}
X_TITLES = {
    "nfe": "network evaluations per sample (NFE)",
    "steps": "steps",
    "per_sample": "seconds per sample (computed)",
    "cost": "cost per sample: NFE + 2 x backward passes",
}
MARKED = "Best is bold, † marks what the interval of the difference does not tell from the best; noise floor unranked."


class Sections:
    """All sections over one set of inputs."""

    def __init__(self, inputs: Inputs, looks: dict[str, Look]):
        self.inputs, self.frame, self.looks, self.named = inputs, inputs.frame, looks, inputs.measures
        self.tables: list[Table] = []  # in the order of appearance, to be written as files
        self.failures: Shown | None = None

    def all(self) -> list[Section]:
        """Every section but the summary, which tells how long these took."""
        jobs = self.frame.drop_duplicates("record")
        self.failures = self.failed(jobs[jobs.status != "ok"])
        return [
            self.claims(), self.precision(), self.quality(), self.speed(), self.tokens(), self.control(),
            self.inverse(), self.same_noise(), self.laws(), self.provenance(), self.missing(),
        ]  # fmt: skip

    # what is where

    def family(self, rows: pd.DataFrame) -> str:
        """The section to which the scores of one (target, model) belong; "" where nothing was scored."""
        needs = set().union(*(self.named[metric].needs for metric in set(rows.metric) if metric))
        found = next((name for name, of in FAMILIES.items() if needs & of), "")
        trained = set(rows.model) != {"exact"}
        if found == "quality" and not trained and needs & FAMILIES["precision"]:
            return "precision"
        return "quality" if found == "precision" and trained else found

    def groups(self, family: str) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """({target, model, net_dtype}, rows of its methods) of a section."""
        scored = self.frame[self.frame.kind.isin({"score", "sample"})]
        parts = views.settled(views.methods(scored), ["target", "model", "net_dtype"])
        return [(key, rows) for key, rows in parts if self.family(rows) == family]

    def floors(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Floors beside these rows: of the same target and n, and of the same process where the floor names one."""
        floor = views.floor_rows(self.frame)
        fits = floor.target.isin(set(rows.target)) & floor["size"].isin(set(rows["size"]))
        fits &= (floor.process == "") | floor.process.isin(set(rows.process))
        named = floor[fits & (floor.process != "")]
        exact = set(rows.start) == {"exact"}
        return named if exact and not named.empty else floor[fits & (floor.process == "")]

    def unscored(self) -> pd.DataFrame:
        """Failed samples of a (target, model) of which nothing was scored: they belong to no section."""
        failed = self.frame[(self.frame.kind == "sample") & (self.frame.status != "ok")]
        placed = {(k["target"], k["model"]) for family in FAMILIES for k, _ in self.groups(family)}
        return failed[[(row.target, row.model) not in placed for row in failed.itertuples()]]

    def keep(self, table: Table, folded: bool = False) -> Shown:
        self.tables.append(table)
        return Shown(table, folded)

    def key(self, id: str, rows: pd.DataFrame) -> Key:
        return Key(id, tuple(sorted(set(rows.series))))

    def nothing(self, family: str, what: str) -> list[object]:
        return [] if self.groups(family) else [Missing(f"No record in this store scores {what}. {self.why()}")]

    def why(self) -> str:
        if self.frame.empty:
            return "The store holds no records: run a suite first (`trilemma run smoke`), then `trilemma report`."
        return "Either its suite was not run into this store, or all of its jobs failed: see the failed rows above."

    # plots and tables of one group

    def plots(
        self, rows: pd.DataFrame, metrics: Sequence[str], x: str, id: str, *, ticks: Sequence[float] = (),
        guides: Sequence[int] = (), table: Table | None = None, always_log: bool = False,
    ) -> Plots | None:  # fmt: skip
        """One panel for each metric that has numbers."""
        floors, made = self.floors(rows), []
        for metric in metrics:
            measure = self.named[metric]
            series = views.series(rows, metric, x)
            if not series:
                continue
            failed = views.failures(views.of_value(rows, metric, metric))
            failed = failed[failed[x].notna()]
            missing = {label: sorted(set(of[x].astype(float))) for label, of in failed.groupby("series")}
            title = measure.title + (f" [{measure.unit}]" if measure.unit else "")
            plot = figures.Lines(
                id=views.slug("plot", id, metric), title=f"{measure.title} against {x}, {id}", series=series,
                x_title=X_TITLES[x], y_title=title,
                log_y=always_log or self.log_scale(series, measure), ticks=ticks, band=self.band(floors, metric),
                ideal=measure.ideal if measure.ideal else None, ideal_title="ideal", missing=missing,
                guides=guides if "exact_flow" in measure.needs else (), apart=bool(ticks),
            )  # fmt: skip
            made.append((figures.lines(plot, self.looks), self.said_of(plot, measure)))
        return Plots(tuple(made), table) if made else None

    def log_scale(self, series: dict[str, list[views.Point]], measure: views.Measure) -> bool:
        extent = views.extent(series)
        return measure.better == "lower" and measure.ideal == 0 and extent is not None and extent[1] > 4 * extent[0]

    def band(self, floors: pd.DataFrame, metric: str) -> tuple[float, float] | None:
        rows = floors[(floors.value == metric) & (floors.status == "ok")]
        if rows.empty:
            return None
        lows, highs = rows.low.fillna(rows.estimate), rows.high.fillna(rows.estimate)
        return float(lows.min()), float(highs.max())

    def said_of(self, plot: figures.Lines, measure: views.Measure) -> str:
        """The caption of a panel: only what its title and axes do not say."""
        better = {"lower": "Lower is better.", "higher": "Higher is better."}.get(measure.better, "")
        held = any(p.low is not None for points in plot.series.values() for p in points)
        ns = {p.n for points in plot.series.values() for p in points} - {None}
        count = f", n = {ns.pop()} samples per estimate" if len(ns) == 1 else ""
        bars = f"Bars: 95 % intervals{count}." if held else "No interval: exact, or over fixed samples."
        shifted = "Shifted sideways by up to 4 % so that bars stay apart." if plot.apart else ""
        crosses = "Crosses at the upper edge: failed jobs." if plot.missing else ""
        return " ".join(part for part in (better, bars, shifted, crosses) if part)

    # sections

    def summary(self) -> Section:
        frame = self.frame
        if frame.empty:
            return Section("summary", "Summary", "What ran, when and where, and what failed.", [Missing(self.why())])
        jobs = frame.drop_duplicates("record")
        asked, scores = jobs[jobs.kind != "score"], jobs[jobs.kind == "score"]
        ok, ours = int((asked.status == "ok").sum()), asked[asked.paper != ""]
        claims = ledger.counts(self.inputs.findings)
        verdicts = (
            ", ".join(f"{many} {outcome}" for outcome, many in claims.items()) + f", of {sum(claims.values())} claims"
        )
        pairs = [
            ("Jobs", f"{ok} of {len(asked)} ok: " + ", ".join(
                f"{int((of.status == 'ok').sum())}/{len(of)} {kind}" for kind, of in asked.groupby("kind"))),
            ("Scores", f"{int((scores.status == 'ok').sum())} of {len(scores)} ok"),
            ("Methods", f"{ours.label.nunique()} variants of {ours.method.nunique()} methods from {ours.paper.nunique()} "
                        f"papers, on {asked.target.nunique()} targets"),
            ("Claims", verdicts if self.inputs.findings else "none evaluated: run `trilemma claims`"),
            ("Written", f"{jobs.written.min()} to {jobs.written.max()}"),
            ("Where", "; ".join(sorted({f"{r.device} ({r.hardware})" for r in jobs.itertuples()}))),
            ("Work", self.split(jobs)),
        ]  # fmt: skip
        blocks: list[object] = [Pairs(tuple(pairs))]
        blocks.append(self.failures or Prose("No job and no score of this store failed, timed out or was skipped."))
        for problem in self.inputs.store.problems:
            blocks.append(Missing(problem))
        return Section("summary", "Summary", "What ran, when and where; what failed; how claims came out.", blocks)

    def split(self, jobs: pd.DataFrame) -> str:
        """Seconds inside the jobs by kind, and the stages of the last run where the command wrote them down."""
        within = {
            "generation": jobs[jobs.kind.isin({"sample", "likelihood", "reference", "floor"})].seconds.sum(),
            "timing": jobs[jobs.kind == "timing"].seconds.sum(),
            "scoring": jobs[jobs.kind == "score"].seconds.sum(),
        }
        said = "inside the jobs: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in within.items())
        if self.inputs.stages:
            parts = (f"{name} {float(seconds):.1f} s" for name, seconds in self.inputs.stages.items())
            said += "; wall time of the last run that did work: " + ", ".join(parts)
        return said

    def failed(self, rows: pd.DataFrame) -> Shown | None:
        if rows.empty:
            return None
        columns = (Column("status", "Status"), Column("reason", "Reason"))
        made = [
            Row((r.kind, r.label, f"{r.target}, {r.model}",
                 f"{r.process} {r.grid} {views.plain(r.steps, int) or ''}".strip(), r.metric), (Cell(status=r.status, record=r.record), Cell(r.reason or "none given")))
            for r in rows.sort_values(["status", "kind", "label", "target", "steps"]).itertuples()
        ]  # fmt: skip
        caption = (
            "Every job and score that gave no number. They stand as words in the tables below and are never left out."
        )
        heads = ("Kind", "Method", "Target, model", "Path, grid, steps", "Metric")
        return self.keep(Table("failed", "Failed rows", caption, heads, columns, tuple(made)))

    def claims(self) -> Section:
        asks = "What the papers say, frozen before it was run, and whether these records bear it out at these sizes."
        findings = self.inputs.findings
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
        caption = (
            "Counts, never averaged: a claim that holds on an analytic target and fails with networks has two rows."
        )
        columns = tuple(Column(views.slug(outcome), outcome) for outcome in outcomes) + (Column("all", "all"),)
        blocks.append(
            self.keep(Table("verdicts", "Verdicts by grade of evidence", caption, ("Evidence",), columns, tuple(rows)))
        )
        table = ledger.tabled(findings)
        self.tables.append(table)
        blocks.append(Claims(tuple(findings), table))
        return Section("claims", "Claims", asks, blocks)

    def precision(self) -> Section:
        asks = (
            "How far does a sampler end from the exact answer for a given number of network evaluations, with a "
            "perfect denoiser? Deterministic samplers are held against the exact flow from the same start, all of them against "
            "exact samples."
        )
        blocks = self.nothing("precision", "an analytic target")
        for key, rows in self.groups("precision"):
            blocks.append(Heading(views.slug("precision", key["target"]), key["target"]))
            own = rows.grid == "own"
            shared = [
                (f"{k['process']}, grid {k['grid']}", part)
                for k, part in views.settled(rows[~own], ["process", "grid"])
            ]
            for title, part in [("each on its paper's path and grid", rows[own]), *shared]:
                if not part.empty:
                    blocks += self.precision_group(key["target"], title, part)
        return Section("work-precision", "Work and precision", asks, blocks)

    def precision_group(self, target: str, title: str, rows: pd.DataFrame) -> list[object]:
        id = views.slug(target, "own" if "own" in set(rows.grid) else title)
        metrics = sorted(set(rows.metric) - {""}, key=lambda m: ("exact_flow" not in self.named[m].needs, m))
        chosen = [self.named[value] for metric in metrics for value in views.values_of(rows, metric)]
        both = self.with_floors(rows)
        table = views.long(
            both, chosen, id=id, title=f"{target}, {title}", settings=views.varied(rows),
            caption="Exact denoiser; same start states for all methods. Errors against the exact flow are over fixed "
            f"samples (seed {_seeds(rows)}, n = {_sizes(rows)}) and carry no interval. {self.floor_said(both)}",
        )  # fmt: skip
        orders = sorted({1, *self.orders(rows)})
        plots = self.plots(rows, metrics, "nfe", id, guides=orders, table=self.keep(table, True).table, always_log=True)
        return [Heading(id + "-setting", title), self.key(id, rows), plots] if plots else [self.keep(table)]

    def orders(self, rows: pd.DataFrame) -> set[int]:
        """Declared orders of the methods in these rows."""
        cards = {sampler.id: sampler for paper in self.inputs.papers.values() for sampler in paper.samplers}
        found = (cards[method].order for method in set(rows.method) if method in cards)
        return {int(order) for order in found if order}

    def with_floors(self, rows: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        return pd.concat([rows, self.floors(rows)], ignore_index=True)

    def floor_said(self, rows: pd.DataFrame) -> str:
        if views.floor_rows(rows).empty:
            return "No noise floor in this store."
        return "Noise floor: what the metric says of the truth itself at the same n."

    def quality(self) -> Section:
        asks = (
            "Quality, diversity and cost of samples from small trained networks. Differences here are differences of "
            "samplers: network, start noise, reference and n are shared within a table."
        )
        blocks = self.nothing("quality", "a trained network on images")
        for key, rows in self.groups("quality"):
            id, title = anchor(key), named(key)
            blocks += [Heading(id, title), self.key(id, rows)]
            metrics = sorted(set(rows.metric) - {""}, key=self.quality_order)
            both = self.with_floors(rows)
            measures = [self.named[m] for m in metrics]
            everything = [self.named[v] for m in metrics for v in views.values_of(rows, m)]
            table = views.long(
                both, everything, id=id + "-all", title=f"{title}: every job", settings=views.varied(rows),
                caption=f"One row for each job, seed {_seeds(rows)}. {self.floor_said(both)}",
            )  # fmt: skip
            plots = self.plots(
                rows, metrics, "nfe", id, ticks=self.budget_ticks(rows), table=self.keep(table, True).table
            )
            blocks += [plots] if plots else []
            blocks += self.against_time(key, rows, metrics[:1], id)
            caption = (
                "A column holds each method's largest metered NFE within the budget, printed where it is less. Compare "
                f"only at equal n, reference and features. {MARKED} {self.floor_said(both)}"
            )
            for measure in measures[:1]:
                table = views.by_budget(
                    both, measure, id=views.slug(id, measure.name), title=f"{measure.title}: {title}", caption=caption
                )
                blocks.append(self.keep(table))
            for budget, below in views.spans():
                table = views.by_metric(
                    both, measures, budget, below, id=f"{id}-nfe-{budget}", title=f"{title}: NFE up to {budget}",
                    caption=caption,
                )  # fmt: skip
                if any(row.kind == "" for row in table.rows):
                    blocks.append(self.keep(table))
        return Section("quality", "Quality, diversity and cost with trained networks", asks, blocks)

    def against_time(self, key: dict[str, Any], rows: pd.DataFrame, metrics: Sequence[str], id: str) -> list[object]:
        """The first metrics again, against seconds computed from the timed cell of the same method and network."""
        timed = self.frame[(self.frame.kind == "timing") & (self.frame.status == "ok")]
        for name in ("target", "model", "net_dtype"):
            timed = timed[timed[name] == key[name]]
        timed = timed[timed.value == "seconds_per_sample"]
        each = {row.series: row.estimate / row.nfe for row in timed.itertuples()}
        known = rows[rows.series.isin(set(each))].copy()
        if known.empty:
            return []
        known["per_sample"] = known.nfe * known.series.map(each)
        table = views.long(
            known, [self.named[metric] for metric in metrics], id=id + "-time", title=f"{named(key)}: quality and time",
            caption="One row for each job of a method that was timed.",
        )  # fmt: skip
        plots = self.plots(known, metrics, "per_sample", id + "-time", table=self.keep(table, True).table)
        where = ", ".join(sorted({f"{row.device} ({row.hardware})" for row in timed.itertuples()}))
        said = f"Seconds are computed, not measured: those of the method's timed cell on {where}, scaled by NFE."
        return [plots, Prose(said)] if plots else []

    def quality_order(self, metric: str) -> tuple:
        first = ("frechet", "kid", "precision", "recall", "coverage", "density", "nearest_train")
        return (first.index(metric) if metric in first else len(first), metric)

    def budget_ticks(self, rows: pd.DataFrame) -> tuple[int, ...]:
        top = rows.nfe.max()
        return tuple(b for b in (2, *views.BUDGETS, 100, 200) if b <= max(top, 50) and b >= min(rows.nfe.min(), 5))

    def speed(self) -> Section:
        asks = (
            "How many samples per second, on which hardware, and how much of it is the sampler rather than the network?"
        )
        rows = self.frame[self.frame.kind == "timing"]
        if rows.empty:
            return Section("speed", "Speed", asks, [Missing(f"No timing job in this store. {self.why()}")])
        blocks: list[object] = []
        for key, part in views.settled(rows, ["target", "model", "device", "hardware"]):
            title = f"{key['target']}, network {key['model']}, {key['device']} ({key['hardware']})"
            id = views.slug("speed", key["target"], key["model"], key["device"])
            table = kinds.speeds(part, id, title)
            series = {
                row.labels[0]: [views.Point(0, c.value, c.low, c.high, None)]
                for row in table.rows if (c := row.cells[2]).status == "ok" and c.value is not None
            }  # fmt: skip
            blocks.append(Heading(id + "-heading", title))
            if series:
                figure = figures.dots(
                    "plot-" + id,
                    f"Samples per second, {title}",
                    "samples per second at the timed NFE",
                    series,
                    self.looks,
                )
                blocks.append(
                    Plots(((figure, "Samples per second in the timed cell; bars carry the ratio's interval."),))
                )
            blocks.append(self.keep(table))
        return Section("speed", "Speed", asks, blocks)

    def stepped(self, family: str, title: str, asks: str, what: str, *, x: str = "steps", note: str = "") -> Section:
        """A section of panels against x and one table of every job, for each target and model."""
        blocks = self.nothing(family, what)
        for key, rows in self.groups(family):
            several = (rows.groupby("series").process.nunique() > 1).any()
            for path, part in views.settled(rows, ["process"]) if several else [({}, rows)]:
                name = named(key) + "".join(f", path {process}" for process in path.values())
                blocks += self.stepped_group(views.slug(family, anchor(key), *path.values()), name, part, x)
        return Section(family, title, asks, [Prose(note), *blocks] if note and self.groups(family) else blocks)

    def stepped_group(self, id: str, name: str, rows: pd.DataFrame, x: str) -> list[object]:
        metrics, both = sorted(set(rows.metric) - {""}), self.with_floors(rows)
        chosen = [self.named[value] for metric in metrics for value in views.values_of(rows, metric)]
        table = views.long(
            both, chosen, id=id + "-all", title=name, settings=views.varied(rows),
            caption=f"One row for each job, seed {_seeds(rows)}. {self.floor_said(both)}",
        )  # fmt: skip
        rows = rows.assign(cost=rows.nfe + 2 * rows.vjps)
        plots = self.plots(rows, metrics, x, id, table=self.keep(table, True).table)
        return [Heading(id, name), self.key(id, rows), plots if plots else Shown(table)]

    def tokens(self) -> Section:
        asks = (
            "How many steps does a discrete sampler need until its samples follow the exact table of sequences, and "
            "what does a trained token network reach?"
        )
        section = self.stepped("tokens", "Tokens", asks, "token samples")
        rows = self.frame[self.frame.kind == "likelihood"]
        blocks = list(section.blocks)
        if rows.empty:
            blocks.append(Missing("No likelihood job in this store, so no bound per character."))
        else:
            blocks += [Heading("tokens-bounds", "Bounds and likelihoods"), self.keep(kinds.likelihoods(rows))]
            blocks.append(Prose(
                "For absorbing noise the terminal KL divergence is infinite at any finite noise level (the prior puts no "
                "mass on unmasked letters); like the official code, the number omits that term, so there it is a bound only up "
                "to it."
            ))  # fmt: skip
        return Section(section.id, section.title, section.asks, blocks)

    def control(self) -> Section:
        asks = "Sampling from an unnormalised density: how far is the estimate of log Z off, and are all modes found?"
        return self.stepped("control", "Control", asks, "a learned control on a density")

    def inverse(self) -> Section:
        asks = (
            "Restoring a signal from a noisy measurement: how far is the mean of the answers from the exact posterior "
            "mean, do they explain the measurement no better than its noise allows, and are they as diverse as the posterior?"
        )
        note = "A residual of 1 in units of the noise is what the truth has; far below it the noise is fitted."
        return self.stepped("inverse", "Inverse problems", asks, "an inverse problem", x="cost", note=note)

    def same_noise(self) -> Section:
        asks = "What do the samples look like, method by method, from the same start noise?"
        blocks: list[object] = []
        for key, rows in self.groups("quality"):
            shown, problems = gallery(self.inputs, rows, key["target"])
            if shown:
                blocks.append(Heading(views.slug("gallery", anchor(key)), named(key)))
                blocks.append(shown)
            blocks += [Missing(problem) for problem in problems]
        return Section(
            "gallery", "Same noise, different samplers", asks, blocks or [Missing(f"No image samples. {self.why()}")]
        )

    def laws(self) -> Section:
        asks = "Which analytic properties are tested, for how many methods, and does each test notice a broken one?"
        return Section("laws", "Laws", asks, self.law_blocks())

    def law_blocks(self) -> list[object]:
        made = declared.laws_over(self.inputs.papers.values())
        return [self.keep(made) if isinstance(made, Table) else made]

    def provenance(self) -> Section:
        asks = "What answered: code, machine, versions, pinned weights."
        records = self.inputs.records
        if not records:
            return Section("provenance", "Provenance", asks, [Missing("No records, so nothing to trace.")])
        fields = ("device", "hardware", "threads", "python", "torch", "platform")
        made_at = Counter(tuple(getattr(record.place, name) for name in fields) for record in records)
        columns = tuple(Column(name, name.capitalize()) for name in (*fields[1:], "records"))
        rows = [
            Row((place[0],), tuple(map(Cell, (*place[1:], many)))) for place, many in sorted(made_at.items(), key=str)
        ]
        blocks: list[object] = [
            self.keep(
                Table("places", "Places", "Where the records that count were made.", ("Device",), columns, tuple(rows))
            )
        ]
        commits = sorted({(r.commit, r.dirty) for r in records})
        blocks.append(Pairs((
            ("Commits", ", ".join(commit[:12] + " with uncommitted changes" * dirty for commit, dirty in commits)),
            ("Records", f"{len(records)} that count, in {len(set(self.frame.made_of))} states of code and data"),
        )))  # fmt: skip
        if self.inputs.checkpoints:
            blocks.append(self.keep(declared.checkpoints(self.inputs.checkpoints)))
        else:
            blocks.append(Missing("checkpoints.lock pins no weights: nothing trained entered these numbers."))
        return Section("provenance", "Provenance", asks, blocks)

    def missing(self) -> Section:
        asks = "What this report cannot say, and why."
        pairs = [("Papers without a record", self.unseen())]
        if self.inputs.stale:
            pairs.append(
                (
                    "Records left out",
                    f"{self.inputs.stale}, made by code or data that is no more; they stay in the store",
                )
            )
        unscored = self.unscored()
        if not unscored.empty:
            names = sorted({f"{r.label} on {r.target} ({r.model}): {r.status}" for r in unscored.itertuples()})
            pairs.append(("Sampled without a score", "; ".join(names)))
        away = [finding for finding in self.inputs.findings if finding.outcome == "out of reach here"]
        pairs.append(
            ("Claims out of reach", "; ".join(f"{f.key}: {f.why or 'no reason given'}" for f in away) or "none")
        )
        pairs.append(("Not compared", "Published numbers of large networks: the networks here are small and their images "
                      "are 8x8 digits; where a claim names a paper's number, the ledger says what was scaled."))  # fmt: skip
        return Section("missing", "What is missing", asks, [Pairs(tuple(pairs)), *self.excluded()])

    def excluded(self) -> list[object]:
        """What the suite selected and could not ask."""
        excluded = getattr(self.inputs.plan, "excluded", ())
        if not excluded:
            return []
        rows = sorted({(each.what, each.table, each.reason) for each in excluded})
        columns = (Column("table", "Table"), Column("reason", "Reason"))
        made = tuple(Row((what,), (Cell(table), Cell(reason))) for what, table, reason in rows)
        caption = "Combinations that the suite selects by traits and that cannot be run."
        return [self.keep(Table("excluded", "Excluded combinations", caption, ("Combination",), columns, made))]

    def unseen(self) -> str:
        seen = set(self.frame.paper) | {finding.of_paper for finding in self.inputs.findings}
        return ", ".join(sorted(set(self.inputs.papers) - seen)) or "none"


def named(key: dict[str, Any]) -> str:
    """A group as its heading says it: target, network, and the network's dtype where it is not the usual one."""
    network = "" if key["model"] == "exact" else f", network {key['model']}"
    return (
        key["target"]
        + network
        + (f" in {key['net_dtype']}" if key.get("net_dtype") not in ("", None, "float32") else "")
    )


def anchor(key: dict[str, Any]) -> str:
    """The same as an id."""
    return views.slug(*(part for part in key.values() if part not in ("exact", "float32")))


def _seeds(rows: pd.DataFrame) -> str:
    return ", ".join(str(seed) for seed in sorted(set(rows.seed.dropna())))


def _sizes(rows: pd.DataFrame) -> str:
    return ", ".join(str(size) for size in sorted(set(rows["size"].dropna())))
