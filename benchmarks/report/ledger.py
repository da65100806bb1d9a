"""Claims with their verdicts as the report shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OUTCOMES = ("reproduced", "refuted here", "inconclusive", "out of reach here")
GRADES = {"E": "exact identity", "A": "analytic target", "S": "small trained networks", "C": "the authors' checkpoint"}


@dataclass(frozen=True)
class Finding:
    """A frozen claim and what the records say of it.

    key: <paper>/<claim>; says: the claim in our words; locus: where it stands in the paper; kind: of statistics.ClaimKind;
    grade: of GRADES; paper_number: what the paper prints; scaled: what is scaled down here, transfer: why it should carry
    over ("exact", "strong", "weak"); estimand: what is estimated, claimed to lie `direction` the margin.
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
