"""Claims with their verdicts as the report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.tables.table import Cell, Column, Row, Table, interval, number

OUTCOMES = ("reproduced", "refuted here", "inconclusive", "out of reach here")
GRADES = {"E": "exact identity", "A": "analytic target", "S": "small trained networks", "C": "the authors' checkpoint"}


@dataclass(frozen=True)
class Finding:
    """A frozen claim and what the records say of it.

    key: <paper>/<claim>; says: the claim in our words; locus: where it stands in the paper; kind: a ClaimKind;
    grade: of GRADES; paper_number: what the paper prints; scaled: what is scaled down here, transfer: why it should
    carry over ("exact", "strong", "weak"); estimand: what is estimated, claimed to lie `direction` the margin.
    estimate, low, high at level, from n by method: None where nothing is estimated. why: the verdict in one line.
    records: ids behind it; made, commit: when and by which code they were made, where that is not this run.
    """

    key: str
    says: str
    outcome: str
    why: str = ""
    paper: str = ""
    locus: str = ""
    kind: str = ""
    grade: str = ""
    paper_number: str = ""
    scaled: str = ""
    transfer: str = ""
    estimand: str = ""
    direction: str = ""
    margin: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int | None = None
    method: str = ""
    settles: int | None = None
    records: tuple[str, ...] = ()
    made: str = ""
    commit: str = ""

    @property
    def of_paper(self) -> str:
        return self.paper or self.key.split("/", 1)[0]


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """outcome -> how many; every outcome is there."""
    total = dict.fromkeys(OUTCOMES, 0)
    for finding in findings:
        total[finding.outcome] = total.get(finding.outcome, 0) + 1
    return total


def tabled(findings: Sequence[Finding], id: str = "claims-ledger") -> Table:
    """One row per claim and grade."""
    columns = tuple(Column(*names) for names in (
        ("verdict", "Verdict"), ("evidence", "Grade"), ("estimate", "Estimate"), ("n", "n"), ("against", "Against"),
        ("says", "The paper says"), ("paper_number", "Paper's number"), ("scaled", "Scaled down"), ("why", "Why"),
    ))  # fmt: skip
    rows = []
    for f in findings:
        estimate = interval(f.estimate, f.low, f.high) if f.estimate is not None else None
        against = f"{f.direction} {number(f.margin)}".strip() if f.margin is not None else f.direction or None
        said = f"{f.says} [{f.locus}]" if f.locus else f.says
        scaled = f"{f.scaled} (transfer: {f.transfer})" if f.transfer else f.scaled
        dated = f" Run {f.made} at {f.commit[:12]}." if f.made else ""
        why = (f.why + dated).strip() or None
        rows.append(Row((f.key,), (
            Cell(f.outcome, record=f.records[0] if f.records else ""), Cell(f.grade or None), Cell(estimate), Cell(f.n),
            Cell(against), Cell(said), Cell(f.paper_number or None), Cell(scaled or None), Cell(why),
        )))  # fmt: skip
    caption = (
        "Reproduced: the whole interval lies on the claimed side of the margin; refuted here: the whole interval lies "
        "on the other; inconclusive: it covers the margin. Intervals at level 1 - 0.05/(claims of the paper)."
    )
    return Table(id, "Claims ledger", caption, ("Claim",), columns, tuple(rows))
