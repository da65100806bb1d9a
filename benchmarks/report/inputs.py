"""Everything that a report is made of, read once; and the digest by which an unchanged report is not made again."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digests import ROOT, digest
from benchmarks.records import REFERENCE, record_files
from benchmarks.report.ledger import Finding

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.records import Record, Store
    from benchmarks.tables.views import Measures
    from reference_impls.core.types import Paper

STAGES = "stages.json"
SHELF = "solvers"  # the table of the solver shelf
PEERS = "peers"  # the suite that holds other libraries to the laws
PAGED = ("claims", SHELF)  # tables that the first page does not show
CODE = ("benchmarks", "reference_impls")


def inputs_digest(
    folders: Iterable[Path], plan: Any = None, findings: Sequence[Finding] | None = None, root: Path = ROOT
) -> str:
    """Over the bytes of all record files, the plan, verdicts that are given, the code and checkpoints.lock."""
    folders = tuple(folders)
    total: dict[str, Any] = {"claims": findings and [asdict(finding) for finding in findings]}
    total["stages"] = [_bytes_digest(folder / STAGES) for folder in folders[:1] if (folder / STAGES).is_file()]
    if plan is not None:
        total["plan"] = [plan.suite, plan.digest, [[e.what, e.table, e.reason] for e in plan.excluded]]
        if plan.shelf:
            kept = [path for suite in (SHELF, PEERS) for path in record_files(REFERENCE / suite)]
            total["shelf"] = [_bytes_digest(path) for path in kept]
    total["records"] = sorted(_bytes_digest(path) for folder in folders for path in record_files(folder))
    total |= {"code": code_digest(root), "store": [folder.name for folder in folders[:1]]}
    return digest(total)


@cache
def code_digest(root: Path = ROOT) -> str:
    """Over all Python, templates and style sheets of the repository's packages, and checkpoints.lock: once a process,
    whose code does not change either."""
    found = [path for folder in CODE for path in (root / folder).rglob("*") if path.suffix in (".py", ".j2", ".css")]
    lock = root / "checkpoints.lock"
    found += [lock] if lock.is_file() else []
    return digest({path.relative_to(root).as_posix(): _bytes_digest(path) for path in found})


def _bytes_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_by_this_code(record: Record) -> bool:
    """Whether today's code and data would answer the record's question with the same `made_of`."""
    from benchmarks import score

    return score.is_current(record)


@dataclass
class Inputs:
    """Records as a frame, plan, claims, cards and pinned checkpoints. stages: wall seconds of the run's, if known."""

    store: Store
    plan: Any = None
    findings: Sequence[Finding] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    current: Callable[[Record], bool] | None = made_by_this_code
    root: Path = ROOT

    def committed(self, suite: str) -> Inputs | None:
        """What stands under results/reference/<suite>, whatever code made it, if this suite's report shows it."""
        if self.plan is None or not self.plan.shelf:
            return None
        from benchmarks import records

        return Inputs(records.Store(records.REFERENCE / suite), current=None)

    @cached_property
    def records(self) -> list[Record]:
        """Those that count: made by the code as it is, one for each question."""
        from benchmarks.tables.cells import counting

        return counting(self.store.records(), self.current)

    @property
    def made(self) -> str:
        """Of committed records: their number, dates and commits, in a sentence; "" where there are none."""
        if not self.records:
            return ""
        days = sorted({record.written[:10] for record in self.records})
        span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        commits = ", ".join(sorted({record.commit[:10] for record in self.records}))
        return f"{len(self.records)} committed records, made {span} by commit {commits}."

    @cached_property
    def stale(self) -> int:
        """How many records answer for code or data that is no more."""
        kept = {record.key for record in self.records}
        return sum(record.score is None and record.key not in kept for record in self.store.records())

    @cached_property
    def frame(self) -> pd.DataFrame:
        from benchmarks.tables.cells import cells

        adaptive = frozenset(card.id for card in self.methods.values() if card.nfe is None)
        return cells(self.records, adaptive=adaptive, declared=self.declared_nfe)

    @cached_property
    def tabled(self) -> pd.DataFrame:
        """The frame without jobs that ran for a claim or for the solver shelf alone: these have pages of their own."""
        if self.plan is None:
            return self.frame
        elsewhere = {cell.job.id for cell in self.plan.cells if cell.table not in PAGED}
        apart = {cell.job.id for cell in self.plan.cells} - elsewhere
        return self.frame[~self.frame.job.isin(apart)]

    @cached_property
    def shelved(self) -> pd.DataFrame:
        """The rows of the solver shelf: of a plan its table, of records without a plan all of them."""
        if self.plan is None:
            return self.frame
        return self.frame[self.frame.job.isin({cell.job.id for cell in self.plan.cells if cell.table == SHELF})]

    @cached_property
    def measures(self) -> Measures:
        from benchmarks.tables.views import measures

        return measures()

    @cached_property
    def papers(self) -> Mapping[str, Paper]:
        from reference_impls import catalogue

        return catalogue.papers()

    @cached_property
    def methods(self) -> Mapping[str, Any]:
        """Cards of the catalogue and of the other libraries that are installed."""
        from benchmarks import peers

        return {**self.samplers, **peers.samplers()}

    @cached_property
    def samplers(self) -> Mapping[str, Any]:
        return {sampler.id: sampler for paper in self.papers.values() for sampler in paper.samplers}

    def declared_nfe(self, job: Any) -> float | None:
        """NFE that the card declares for a job's grid: where a failed job belongs in a table. None if it cannot say."""
        from benchmarks import problems

        card = self.methods.get(job.method)
        if job.kind != "sample" or card is None or card.nfe is None:
            return None
        try:
            process = problems.process_of(job.process, None if "gaussian" in card.defined_on else 2)
            return float(card.nfe(problems.grid_of(job.grid, job.steps, card, process)))
        except ValueError:  # the grid or the process is what failed
            return None

    @cached_property
    def checkpoints(self) -> list[dict[str, Any]]:
        path = self.root / "checkpoints.lock"
        return tomllib.loads(path.read_text()).get("checkpoint", []) if path.is_file() else []
