"""The sections about other libraries: what the laws say of their samplers; and what every sampler costs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.report.blocks import Missing, Prose, Section
from benchmarks.report.inputs import PEERS
from benchmarks.report.panels import Panels
from benchmarks.tables import views
from benchmarks.tables.kinds import failed_row
from benchmarks.tables.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from benchmarks.records import Record
    from benchmarks.report.inputs import Inputs

NOT_RUN = "Not asked in this store; `tox -e peers` does."
SHORT = {"holds": "holds", "fails": "FAILS", "raises": "RAISES", "fails as declared": "known", "": ""}


def verdicts(panels: Panels) -> Section:
    asks = (
        "Are other libraries' samplers what their documentation says? Each is held to the same laws as the suite's "
        "own, at a float64 state, on grids handed over in the library's own terms; its arithmetic is not touched."
    )
    inputs, made = _with(panels, "law")
    records = [record for record in inputs.records if record.kind == "law"]
    if not records:
        return Section("referee", "The referee", asks, [Missing(f"No law was held against a sampler. {NOT_RUN}")])
    bad = [r for r in records if r.status != "ok" or not r.values.get("good")]
    libraries = ", ".join(sorted({str(r.values["library"]) for r in records if "library" in r.values}))
    said = f"{len(records) - len(bad)} of {len(records)} verdicts are good."
    said += f" Libraries: {libraries}." if libraries else ""
    blocks = [Prose(f"{said} {made}"), panels.keep(_failing(bad)), panels.keep(_grid(records), True)]
    return Section("referee", "The referee", asks, blocks)


def _with(panels: Panels, kind: str) -> tuple[Inputs, str]:
    """Inputs with records of this kind: the run's own, else the committed ones and when these were made."""
    if any(record.kind == kind for record in panels.inputs.records):
        return panels.inputs, ""
    committed = panels.inputs.committed(PEERS)
    return (panels.inputs, "") if committed is None else (committed, committed.made)


def _failing(bad: Sequence[Record]) -> Table:
    """A row for each law that does not hold: by how much, the smallest example, and the command that shows it."""
    columns = (Column("found", "Found"), Column("example", "Smallest example"), Column("again", "Again"))
    rows = []
    for record in sorted(bad, key=lambda r: (r.job.method, r.job.law)):
        labels = (record.job.method, record.job.law.replace("_", " "))
        if record.status != "ok":
            failed = Cell(status=record.status, reason=record.reason, record=record.id)
            rows.append(Row(labels, (failed, Cell(), Cell())))
            continue
        said = record.values
        cells = (Cell(said["why"], record=record.id), Cell(said["example"]), Cell(f"trilemma {said['again']}"))
        rows.append(Row(labels, cells))
    caption = (
        "Laws that do not hold, with the number and the smallest input that shows it, as hypothesis found it. A law "
        "that a library cannot keep by design stands on its card and is not listed."
    )
    return Table("referee-failures", "What does not hold", caption, ("Sampler", "Law"), columns, tuple(rows))


def _grid(records: Sequence[Record]) -> Table:
    """Samplers x laws."""
    laws = sorted({record.job.law for record in records})
    found = {(r.job.method, r.job.law): r for r in records}
    rows = []
    for method in sorted({record.job.method for record in records}):
        cells = []
        for law in laws:
            record = found.get((method, law))
            if record is None:
                cells.append(Cell())
            elif record.status != "ok":
                cells.append(Cell(status=record.status, reason=record.reason, record=record.id))
            else:
                outcome = str(record.values["outcome"])
                cells.append(Cell(SHORT.get(outcome, outcome), record=record.id))
        rows.append(Row((method,), tuple(cells)))
    columns = tuple(Column(law, law.replace("_", " ")) for law in laws)
    caption = "Empty: the card declares nothing that the law could ask for. 'known': fails, and the card says why."
    return Table("referee-verdicts", "Verdicts", caption, ("Sampler",), columns, tuple(rows))


def overhead(panels: Panels) -> Section:
    asks = "What does a sampler cost beside its network: how much of each step is its own work?"
    inputs, said = _with(panels, "overhead")
    rows = inputs.frame[inputs.frame.kind == "overhead"]
    if rows.empty:
        return Section("overhead", "Overhead per step", asks, [Missing(f"No overhead was measured. {NOT_RUN}")])
    records = [record for record in inputs.records if record.kind == "overhead"]
    rows = rows.assign(shape=rows.record.map({record.id: record.job.shape for record in records}))
    twins = {record.job.method: str(record.values["twin"]) for record in records if "twin" in record.values}
    blocks: list[object] = [Prose(said)] if said else []
    for key, part in views.settled(rows, ["shape", "device", "hardware"]):
        title = f"Overhead per step: states {key['shape']}, {key['device']} ({key['hardware']})"
        columns = (
            Column("ratio", "Time / bare loop", "", "lower"), Column("same", "Time / bare loop of as many terms"),
            Column("terms", "Terms"), Column("microseconds", "Time per step", "µs", "lower"),
            Column("times_ours", "Times ours"), Column("ours", "Ours"),
        )  # fmt: skip
        steps = part[(part.value == "microseconds_per_step") & (part.status == "ok")]
        spent, made = dict(zip(steps.method, steps.estimate, strict=True)), []
        for (label, _), of in part.groupby(["label", "record"]):
            first = next(of.itertuples())
            if first.status != "ok":
                made.append(failed_row((label,), first, len(columns)))
                continue
            values = {row.value: views.cell(row) for row in of.itertuples()}
            ours = twins.get(first.method)
            times = Cell(spent[first.method] / spent[ours]) if ours in spent else Cell()
            beside = (Cell(int(values["terms"].value)), values["microseconds_per_step"], times, Cell(ours or ""))
            made.append(Row((label,), (values["ratio"], values["ratio_same_terms"], *beside)))
        caption = (
            "A whole run of 200 steps with a model that returns a tensor made beforehand, plan included, against the "
            "bare loop x = a x + b D in alternation (ABBA): medians over pairs, n counts pairs. Terms: tensor "
            "operations of a state's size that a step dispatches; the second ratio is to a loop of as many. Times "
            "ours: time per step over that of this suite's sampler of the same method in the same run. Ratios of one "
            "table compare; microseconds are of this machine on that day."
        )
        blocks.append(panels.keep(Table(views.slug("overhead", key["shape"], key["device"]), title, caption,
                                        ("Sampler",), columns, tuple(made))))  # fmt: skip
    return Section("overhead", "Overhead per step", asks, blocks)
