"""The claims ledger: what papers claim, frozen as experiments with an estimand, a margin and jobs, and what came out.

Each module here is named after a paper's key and lists its claims in ``CLAIMS``. A claim's `judge` is a pure function
of records: it sees values of scored jobs and nothing else. Its interval is at level 1 - 0.05/(claims of that paper).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.statistics import ClaimKind, Direction, Interval, Verdict, claim_level, verdict

if TYPE_CHECKING:
    from benchmarks.jobs import Job
    from benchmarks.records import Record, Store
    from benchmarks.report.ledger import Finding

Grade = Literal["E", "A", "S", "C"]


class Missing(Exception):
    """A claim cannot be judged from these records; the message says which of its jobs failed."""


class NotRun(Missing):
    """A job of the claim has no record here: nothing was tried, so nothing is out of reach."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A frozen claim. It is reproduced if its estimand lies on the `direction` side of `margin`.

    key: <paper>/<sentence>; says: in our own words; locus: where it stands in the paper, with the mark of our source.
    kind: of statistics.ClaimKind; evidence: E exact identity, A analytic target, S small trained nets (>= 3 seeds),
    C the authors' checkpoint. paper_number: what the paper (or who else) prints; scaled: what is smaller here;
    transfer: why it should carry over ("exact", "strong", "weak"); estimand: what is estimated, with its unit.
    jobs: what must have run; metrics: what scores them; judge(evidence) -> an Interval, or a float that is exact.
    missing: for a claim that cannot be run here, what is missing and the nearest claim in reach.
    """

    key: str
    says: str
    locus: str
    kind: ClaimKind
    evidence: Grade
    estimand: str
    direction: Direction = "above"
    margin: float = 0.0
    paper_number: str = ""
    scaled: str = "nothing"
    transfer: Literal["exact", "strong", "weak"] = "exact"
    jobs: Callable[[], Sequence[Job]] = tuple
    metrics: tuple[str, ...] = ()
    judge: Callable[[Evidence], Interval | float] | None = None
    missing: str | None = None

    @property
    def paper(self) -> str:
        return self.key.split("/", 1)[0]


@dataclass(frozen=True)
class Evidence:
    """What the records say of a claim's jobs. level: that at which intervals are wanted."""

    level: float
    samples: Mapping[str, Record]  # by job id
    scores: Mapping[tuple[str, str], Record]  # by (job id, metric)
    used: dict[str, Record] = field(default_factory=dict)

    def record(self, job: Job) -> Record:
        found = self.samples.get(job.id)
        return self._good(found, f"{job}")

    def value(self, job: Job, name: str, metric: str | None = None) -> Interval | float:
        """A value of the job's score by `metric` (by default the one called `name`), or of the job itself ("nfe")."""
        found = self.scores.get((job.id, metric or name))
        record = self.record(job) if found is None and name in getattr(self.samples.get(job.id), "values", {}) else None
        record = record or self._good(found, f"{metric or name} of {job}")
        if name not in record.values:
            raise Missing(f"{name} of {job}: not among its values {', '.join(sorted(record.values))}")
        return record.values[name]

    def number(self, job: Job, name: str, metric: str | None = None) -> float:
        """The same as a plain number: an interval's estimate."""
        found = self.value(job, name, metric)
        return found.estimate if isinstance(found, Interval) else float(found)

    def _good(self, record: Record | None, what: str) -> Record:
        if record is None:
            raise NotRun(
                f"not run here: {what}; `trilemma bench default` runs it, or `trilemma bench claims` where networks are trained"
            )
        if record.status != "ok":
            raise Missing(f"{what}: {record.status}, {record.reason}")
        self.used[record.id] = record
        return record


@cache
def claims() -> dict[str, Claim]:
    """key -> claim, of every module in this folder."""
    found: dict[str, Claim] = {}
    for file in pkgutil.iter_modules(__path__):
        for claim in importlib.import_module(f"{__name__}.{file.name}").CLAIMS:
            if claim.paper != file.name.replace("_", "-") or claim.key in found:
                raise ValueError(
                    f"claim: {claim.key!r} in {file.name}.py, expected a new key that begins with the paper's"
                )
            found[claim.key] = claim
    return found


def of_paper(paper: str) -> list[Claim]:
    return [claim for claim in claims().values() if claim.paper == paper]


def judge(store: Store) -> list[Finding]:
    """A finding for every claim there is, from the records that count; reference records answer where no others do."""
    samples, scores, dated = _by_job(store)
    return [_finding(claim, samples, scores, dated) for claim in claims().values()]


def _by_job(store: Store) -> tuple[dict[str, Record], dict[tuple[str, str], Record], set[str]]:
    """What answers each job and each score, and the ids of the answers that are dated.

    Of several records those count that today's code would write, then the latest; older or committed ones answer where
    no others do. A score counts before others if it is one of the samples that answer its job.
    """
    from benchmarks.score import is_current

    asked = {job.id for claim in claims().values() for job in claim.jobs()}
    latest = sorted(
        (r for r in store.records() if r.job.id in asked), key=lambda r: (r.written, r.key), reverse=True
    )  # fmt: skip
    old = {r.key: store.is_beside(r) or not is_current(r) for r in latest}
    samples, dated = _first((r for r in latest if r.score is None), lambda r: r.job.id, lambda r: old[r.key])

    def stray(score: Record) -> bool:
        made = samples.get(score.job.id)
        return made is None or made.samples_digest != score.score.samples

    scores, more = _first(
        (r for r in latest if r.score is not None), lambda r: (r.job.id, r.score.metric),
        lambda r: 2 * stray(r) + old[r.key],
    )  # fmt: skip
    return samples, scores, dated | more


def _first(
    records: Iterable[Record], key: Callable[[Record], Any], worse: Callable[[Record], int]
) -> tuple[dict[Any, Record], set[str]]:
    """For each key the first record that is ok of the least `worse`, else the first; ids of those with worse > 0."""
    found: dict[Any, Record] = {}
    dated: set[str] = set()
    for record in sorted(records, key=worse):
        if key(record) not in found or (found[key(record)].status != "ok" and record.status == "ok"):
            found[key(record)] = record
            if worse(record):
                dated.add(record.id)
    return found, dated


def _finding(claim: Claim, samples: Mapping[str, Record], scores: Mapping[Any, Record], dated: set[str]) -> Finding:
    siblings = len(of_paper(claim.paper))
    evidence = Evidence(claim_level(siblings), samples, scores)
    found, missing = None, claim.missing
    if missing is None:
        try:
            found = claim.judge(evidence)
        except NotRun as reason:
            return _described(claim, Verdict("inconclusive", str(reason)))
        except Missing as reason:
            missing = str(reason)
    outcome = verdict(
        found,
        kind=claim.kind,
        claims_of_paper=siblings,
        direction=claim.direction,
        margin=claim.margin,
        missing=missing,
    )
    return _described(claim, outcome, found, evidence.used, {id for id in evidence.used if id in dated})


def _described(
    claim: Claim, outcome: Verdict, found: Interval | float | None = None, used: Mapping[str, Record] = MappingProxyType({}),
    dated: Iterable[str] = (),
) -> Finding:  # fmt: skip
    from benchmarks.report.ledger import Finding

    number = dict(estimate=float(found)) if isinstance(found, float) else {}
    if isinstance(found, Interval):
        number = dict(
            estimate=found.estimate, low=found.low, high=found.high, level=found.level, n=found.n, method=found.method
        )
    old = [used[id] for id in dated]
    return Finding(
        key=claim.key, says=claim.says, outcome=outcome.outcome, why=outcome.why, paper=claim.paper, locus=claim.locus,
        kind=claim.kind, grade=claim.evidence, paper_number=claim.paper_number, scaled=claim.scaled,
        transfer=claim.transfer, estimand=claim.estimand, direction=claim.direction, margin=claim.margin,
        settles=outcome.settles, records=tuple(sorted(used)),
        made=max((record.written for record in old), default=""),
        commit=", ".join(sorted({record.commit[:10] for record in old})), **number,
    )  # fmt: skip


def paired_over(
    evidence: Evidence, name: str, ours: Sequence[Job], theirs: Sequence[Job], *, metric: str | None = None,
    change: Callable[[float], float] = float,
) -> Interval:  # fmt: skip
    """t interval of change(value of ours) - change(value of theirs), job by job: pairs share seed, start and reference."""
    from benchmarks.statistics import paired_difference

    first, second = ([change(evidence.number(job, name, metric)) for job in jobs] for jobs in (ours, theirs))
    return paired_difference(first, second, evidence.level, n=ours[0].n)


def left_open(first: str, interval: str) -> str:
    """The end of `scaled` of a claim that is judged on other seeds than it was first asked of."""
    return f"; {first} had left it open at {interval}: it is judged on others alone"


def trained(recipe: str, seed: int) -> str:
    """The checkpoint of that recipe and training seed, by name."""
    return f"{recipe}@{seed}" if seed else recipe


def contrast(
    key: str, metric: str, ours: Callable[[], Sequence[Job]], theirs: Callable[[], Sequence[Job]], *,
    change: Callable[[float], float] = float, **fields: Any,
) -> Claim:  # fmt: skip
    """The claim that a metric of some jobs differs from that of others paired with them (see `paired_over`)."""
    return Claim(
        key=key, metrics=(metric,), jobs=lambda: [*ours(), *theirs()],
        judge=lambda evidence: paired_over(evidence, metric, ours(), theirs(), change=change), **fields,
    )  # fmt: skip


def contrast_of_networks(
    key: str, metric: str, ours: Callable[[int], Sequence[Job]], theirs: Callable[[int], Sequence[Job]], seeds: Sequence[int],
    *, change: Callable[[float], float] = float, **fields: Any,
) -> Claim:  # fmt: skip
    """The same over networks: `ours` and `theirs` are a training seed's jobs, and the interval is over training seeds.

    A seed's value is the mean over its jobs of change(metric). metrics = (): it is a value of the job itself ("log_p").
    """
    from benchmarks.statistics import paired_difference

    def judge(evidence: Evidence) -> Interval:
        first, second = (
            [fmean(change(evidence.number(job, metric)) for job in jobs(seed)) for seed in seeds]
            for jobs in (ours, theirs)
        )
        n = sum(job.n for job in ours(seeds[0]))
        return paired_difference(first, second, evidence.level, n=n, over="training seeds")

    return Claim(
        key=key, jobs=lambda: [job for seed in seeds for jobs in (ours, theirs) for job in jobs(seed)],
        judge=judge, evidence="S", **{"metrics": (metric,)} | fields,
    )  # fmt: skip
