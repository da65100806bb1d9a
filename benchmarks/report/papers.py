"""One page per paper: its card, what it declares, the laws that hold it to that, its claims and all of its cells."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.report.blocks import Claims, Missing, Pairs, Prose, Section, Shown, Verbatim
from benchmarks.report.sections import Sections, ledger_table, likelihood_table, speed_table
from benchmarks.tables import views
from benchmarks.tables.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from reference_impls.core.types import Paper

LABELS = ("Path", "Loss", "Step", "Cost", "Exact when", "Differs")


def card_of(text: str) -> tuple[str, list[tuple[str, str]]]:
    """(what stands before the first label, (label, text) of each labelled paragraph) of a paper file's docstring."""
    pattern = re.compile(rf"^({'|'.join(LABELS)}) {{2,}}")
    head: list[str] = []
    parts: list[tuple[str, list[str]]] = []
    for line in inspect.cleandoc(text).splitlines():
        found = pattern.match(line)
        if found:
            parts.append((found[1], [line[found.end() :]]))
        elif parts:
            parts[-1][1].append(line)
        else:
            head.append(line)
    return "\n".join(head).strip(), [(label, inspect.cleandoc("\n".join(lines)).rstrip()) for label, lines in parts]


def page(paper: Paper, sections: Sections) -> list[Section]:
    """The sections of a paper's page."""
    from reference_impls import catalogue

    text = import_module(catalogue.modules()[paper.key]).__doc__ or ""
    head, parts = card_of(text)
    card: list[object] = [Prose(head.partition("\n")[2].strip() or head)]
    card += [Verbatim(label, said) for label, said in parts]
    return [
        Section("card", "Card", "The paper in the suite's notation, as it stands at the head of its file.", card),
        Section("declares", "What it declares", "Each of these is a law that fails if it is not so.", declared(paper)),
        Section("claims", "Claims", "What the paper says, and what these records say of it.", claims(paper, sections)),
        Section("cells", "All its numbers", "Every job of this paper in this store, failures included.", numbers(paper, sections)),
        Section("reproduce", "Reproduce", "The commands that make these records and this page.", [commands(paper)]),
    ]


def declared(paper: Paper) -> list[object]:
    blocks: list[object] = []
    if paper.samplers:
        blocks.append(Shown(sampler_table(paper)))
    if paper.objectives:
        blocks.append(Shown(objective_table(paper)))
    others = [(f"{kind} {item.id}", getattr(item, "kind", "") or "see its file")
              for kind, items in (("Likelihood", paper.likelihoods), ("Transform", paper.transforms)) for item in items]  # fmt: skip
    others += [(f"Parametrisation {name}", "raw network to model") for name in sorted(paper.parametrisations)]
    if others:
        blocks.append(Pairs(tuple(others)))
    blocks.append(law_table(paper))
    return blocks


def sampler_table(paper: Paper) -> Table:
    names = ("Consumes", "Path", "Order", "Weak order", "Noise", "Exact on", "Symmetric under", "Needs", "Reduces to", "Known failures")
    rows = []
    for s in paper.samplers:
        reduces = "; ".join(f"{r.to}{_options(r.to_options)}{_options(r.options, ' with')}" for r in s.reduces)
        failures = "; ".join(f"{law}: {why}" for law, why in sorted(s.known_failures.items()))
        said = (
            s.consumes, s.path, s.order, s.weak_order, "stochastic" if s.stochastic else "deterministic",
            ", ".join(sorted(s.exact_on)), ", ".join(sorted(s.symmetric)), ", ".join(sorted(s.needs)), reduces, failures,
        )  # fmt: skip
        label = f"{s.id} (baseline)" if s.baseline else s.id
        rows.append(Row((label,), tuple(Cell(part if part not in ("", None) else None) for part in said)))
    columns = tuple(Column(views.slug(name), name) for name in names)
    return Table(f"{paper.key}-samplers", "Samplers", "As declared on the card.", ("Sampler",), columns, tuple(rows))


def objective_table(paper: Paper) -> Table:
    columns = tuple(Column(views.slug(name), name) for name in ("Minimiser predicts", "Path", "Reduced by", "Needs"))
    rows = tuple(
        Row((o.id,), tuple(Cell(part or None) for part in (o.minimiser, o.path, o.reduce, ", ".join(sorted(o.needs)))))
        for o in paper.objectives
    )
    return Table(f"{paper.key}-objectives", "Objectives", "As declared on the card.", ("Objective",), columns, rows)


def _options(options: Any, before: str = "") -> str:
    said = ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in sorted(options.items()))
    return f"{before} {said}" if said else ""


def law_table(paper: Paper) -> object:
    """Law by law the methods of this paper that it applies to, by their traits."""
    from importlib.util import find_spec

    if find_spec("hypothesis") is None:
        return Missing("The laws need the package hypothesis, which is not installed here: `pip install hypothesis`.")
    from benchmarks.laws import laws

    held = {"sampler": paper.samplers, "objective": paper.objectives, "likelihood": paper.likelihoods,
            "transform": paper.transforms}  # fmt: skip
    rows = []
    for name, law in sorted(laws().items()):
        of = [card.id.split(".", 1)[1] for card in held.get(law.subject, ()) if law.applies(card)]
        if of:
            rows.append(Row((name.replace("_", " "),), (Cell(law.subject), Cell(", ".join(of)), Cell(len(law.mutants)))))
    if not rows:
        return Missing("No analytic law applies to what this paper declares.")
    columns = (Column("subject", "Holds for a"), Column("methods", "Applied to"), Column("mutants", "Broken versions it rejects"))
    caption = "Chosen by traits. `python -m pytest tests/test_laws.py` runs them; a broken version is one that the law must reject."
    return Shown(Table(f"{paper.key}-laws", "Laws that apply", caption, ("Law",), columns, tuple(rows)))


def claims(paper: Paper, sections: Sections) -> list[object]:
    found = tuple(f for f in sections.inputs.findings if f.of_paper == paper.key)
    if not found:
        return [Missing("No claim of this paper was evaluated for this store.")]
    return [Claims(found, ledger_table(found, f"{paper.key}-claims"))]


def numbers(paper: Paper, sections: Sections) -> list[object]:
    frame = sections.frame[sections.frame.paper == paper.key]
    if frame.empty:
        return [Missing(f"No job of this paper is in the store. {sections.why()}")]
    blocks: list[object] = []
    failed = frame[frame.status != "ok"].drop_duplicates("record")
    said = f"{frame.record.nunique()} records, {len(failed)} of them without a number."
    blocks.append(Prose(said))
    for key, rows in views.settled(frame[frame.kind.isin({"score", "sample"})], ["target", "model"]):
        metrics = sorted(set(rows.metric) - {""})
        chosen = [sections.named[value] for metric in metrics for value in views.values_of(rows, metric)]
        id = views.slug(paper.key, key["target"], key["model"])
        if not chosen:
            chosen = [views.Measure("", "Samples")] if (rows.status != "ok").any() else [views.Measure("nfe", "Samples at NFE")]
        table = views.long(rows, chosen, id=id, title=f"{key['target']}, model {key['model']}", settings=("process", "grid"),
                           caption="One row for each job.")  # fmt: skip
        blocks.append(Shown(table, folded=True))
    timing, bounds = frame[frame.kind == "timing"], frame[frame.kind == "likelihood"]
    for key, rows in views.settled(timing, ["target", "model", "device"]):
        id = views.slug(paper.key, "speed", key["target"], key["model"], key["device"])
        blocks.append(Shown(speed_table(rows, id, f"Speed: {key['target']}, network {key['model']}, {key['device']}")))
    if not bounds.empty:
        blocks.append(Shown(likelihood_table(bounds)))
    return blocks


def commands(paper: Paper) -> object:
    return Verbatim("", f"trilemma run default --only {paper.key}\ntrilemma report\npython -m pytest tests -k {paper.key}")
