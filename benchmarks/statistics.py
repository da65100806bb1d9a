"""What may be said of a number: intervals, moments that merge, comparisons, verdicts.

Every interval is two-sided at a stated level and names its method. Values are sequences of numbers or float tensors;
all arithmetic is in float64. A number that cannot carry an interval raises ValueError: it is never given a false one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Values = Sequence[float] | Tensor
Better = Literal["lower", "higher", "ideal"]
Direction = Literal["above", "below", "within"]
ClaimKind = Literal[
    "order", "limit-equality", "ranking", "ratio", "threshold", "invariance", "minimiser", "negative"
]  # fmt: skip
Outcome = Literal["reproduced", "refuted here", "inconclusive", "out of reach here"]

LEVEL = 0.95
EQUALITIES = {"limit-equality", "invariance", "minimiser"}  # kinds of claim whose estimand is a deviation from 0


@dataclass(frozen=True)
class Interval:
    """An estimate with the interval [low, high] at `level`, by `method`.

    n: samples that one estimate rests on (a comparison of Frechet values or recalls at different n is void).
    blocks: independent units (shards, seed blocks, pairs) whose spread gave the interval; 0 where there are none.
    Raises ValueError if a bound is not finite or the estimate lies outside: JSON has no infinity and a table no NaN.
    """

    estimate: float
    low: float
    high: float
    n: int
    level: float
    method: str
    blocks: int = 0

    def __post_init__(self):
        if not all(map(math.isfinite, (self.estimate, self.low, self.high))):
            raise ValueError(f"interval: {self.estimate} [{self.low}, {self.high}] is not finite; the job is nonfinite")
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"interval: estimate {self.estimate} outside [{self.low}, {self.high}]")
        if not 0 < self.level < 1:
            raise ValueError(f"level: {self.level!r}, expected a number between 0 and 1")

    @property
    def counted(self) -> tuple[int, str]:
        """How many independent units it rests on, and what they are, as `method` says: (5, "training seeds").

        (n, "samples") where it is not over units: an interval narrows with more of these.
        """
        over = re.search(r"over \d+ ([a-z ]+)", self.method)
        return (self.blocks, over[1]) if over and self.blocks else (self.n, "samples")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Interval:
        return cls(**data)

    def mapped(self, change: Callable[[float], float], note: str = "") -> Interval:
        """The interval of change(estimand), for a monotone change of either direction."""
        low, high = sorted((change(self.low), change(self.high)))
        method = f"{self.method}, {note}" if note else self.method
        return replace(self, estimate=change(self.estimate), low=low, high=high, method=method)

    def at(self, level: float) -> Interval:
        """The same t interval at another level; ValueError for intervals that do not scale."""
        if not self.method.startswith("t ") or self.blocks < 2:
            raise ValueError(f"level: an interval by {self.method!r} has no other level; compute it from its values")
        factor = t_quantile(level, self.blocks - 1) / t_quantile(self.level, self.blocks - 1)
        low = self.estimate - factor * (self.estimate - self.low)
        return replace(self, low=low, high=self.estimate + factor * (self.high - self.estimate), level=level)


def t_quantile(level: float, freedom: float) -> float:
    """The t with P(|T| <= t) = level at `freedom` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def _vector(values: Values, least: int, argument: str = "values") -> Tensor:
    vector = torch.as_tensor(values, dtype=torch.float64).detach().cpu().flatten()
    if vector.numel() < least:
        raise ValueError(f"{argument}: {vector.numel()} of them, expected at least {least}; add shards, seeds or pairs")
    if not torch.isfinite(vector).all():
        raise ValueError(f"{argument}: {int((~torch.isfinite(vector)).sum())} of {vector.numel()} are not finite")
    return vector


def t_interval(values: Values, level: float = LEVEL, *, n: int | None = None, over: str = "blocks") -> Interval:
    """Mean of independent values, Student's t. n: samples one estimate rests on (default: the number of values)."""
    vector = _vector(values, 2)
    m = vector.numel()
    return _around(vector.mean().item(), vector.std().item() / math.sqrt(m), m, level, n or m, f"t over {m} {over}")


def _around(centre: float, error: float, blocks: int, level: float, n: int, method: str) -> Interval:
    half = t_quantile(level, blocks - 1) * error
    return Interval(centre, centre - half, centre + half, n, level, method, blocks)


def jackknife(
    whole: float, left_out: Values, sizes: Sequence[int], level: float = LEVEL, *, over: str = "shards"
) -> Interval:
    """Bias-corrected estimate and t interval from leave-one-shard-out estimates.

    whole: estimate from all samples; left_out[j]: from all but shard j; sizes[j]: samples in shard j.
    Delete-m_j jackknife of Busing, Meijer & van der Leeden, Statistics and Computing 9 (1999), with h_j = n / m_j:
        p_j = h_j whole - (h_j - 1) left_out_j,  estimate = sum_j p_j / h_j,
        variance = mean_j (p_j - estimate)^2 / (h_j - 1)
    which for g equal shards is g whole - (g - 1) mean(left_out) and (g - 1)/g sum_j (left_out_j - mean)^2.
    """
    without = _vector(left_out, 2, "left_out")
    if without.numel() != len(sizes):
        raise ValueError(f"sizes: {len(sizes)} of them, expected {without.numel()}, one for each left-out estimate")
    n, m = sum(sizes), without.numel()
    share = n / torch.tensor(sizes, dtype=torch.float64)
    pseudo = share * whole - (share - 1) * without
    estimate = (pseudo / share).sum()
    variance = ((pseudo - estimate) ** 2 / (share - 1)).mean()
    return _around(estimate.item(), variance.sqrt().item(), m, level, n, f"t on the jackknife over {m} {over}")


def median_interval(values: Values, level: float = LEVEL) -> Interval:
    """Median with the order statistics x_(k), x_(m+1-k), k the largest with 2 P(Binomial(m, 1/2) < k) <= 1 - level.

    Holds for any continuous law; covers with at least the level. ValueError where even the range covers less
    (fewer than 6 values at 0.95).
    """
    from scipy.special import bdtr

    vector = _vector(values, 1).sort().values
    m, k = vector.numel(), 0
    while 2 * bdtr(k, m, 0.5) <= 1 - level:
        k += 1
    if k == 0:
        need = math.ceil(1 - math.log2(1 - level))
        raise ValueError(f"values: {m} of them, expected at least {need} for an order-statistic interval at {level:g}")
    median = vector.quantile(0.5).item()
    return Interval(median, vector[k - 1].item(), vector[m - k].item(), m, level, f"order statistics {k} of {m}", m)


def paired_difference(
    a: Values, b: Values, level: float = LEVEL, *, n: int | None = None, over: str = "pairs"
) -> Interval:
    """Mean of a - b, t; a[i] and b[i] share seeds, start states and reference; over: what a pair is one of."""
    a, b = _vector(a, 2, "a"), _vector(b, 2, "b")
    if a.numel() != b.numel():
        raise ValueError(f"b: {b.numel()} values, expected {a.numel()}; pairs share their seeds")
    return t_interval(a - b, level, n=n, over=over)


def shared_level(level: float, count: int) -> float:
    """The level at which each of `count` intervals is taken so that all hold together at `level` (Bonferroni)."""
    return 1 - (1 - level) / count


def extreme_of(found: Sequence[Interval], pick: Callable[..., float], level: float) -> Interval:
    """The smallest or largest (pick: min or max) of quantities whose intervals hold together at `level`.

    Its ends are the picks of theirs, and hold at that level; its estimate, the pick of theirs, leans to the outside.
    """
    ends = (pick(getattr(each, end) for each in found) for end in ("estimate", "low", "high"))
    first = found[0]
    method = f"{pick.__name__} of {len(found)} simultaneous intervals, {first.method}"
    return Interval(*ends, first.n, level, method, first.blocks)


def paired_ratio(seconds: Values, anchor: Values, level: float = LEVEL) -> Interval:
    """Median of seconds / anchor over pairs timed in the same run, by order statistics of the log ratios."""
    a, b = _vector(seconds, 1, "seconds"), _vector(anchor, 1, "anchor")
    if a.numel() != b.numel() or (a <= 0).any() or (b <= 0).any():
        raise ValueError(f"anchor: {b.numel()} times beside {a.numel()}, expected as many, all positive")
    return median_interval((a / b).log(), level).mapped(math.exp, "exp of log ratios")


def log_log_slope(x: Values, y: Values, level: float = LEVEL) -> Interval:
    """Slope of log y against log x by least squares, t with m - 2 degrees of freedom.

    The observed order of a solver is minus the slope of its error in steps. The errors of a deterministic solver leave
    the line by their higher terms, not by chance: across seeds, take the slope of each seed and t_interval over them.
    """
    log_x, log_y = _vector(x, 3, "x"), _vector(y, 3, "y")
    if log_x.numel() != log_y.numel() or (log_x <= 0).any() or (log_y <= 0).any():
        raise ValueError(f"y: {log_y.numel()} values beside {log_x.numel()}, expected as many, all positive")
    log_x, log_y = log_x.log(), log_y.log()
    m = log_x.numel()
    dx, dy = log_x - log_x.mean(), log_y - log_y.mean()
    spread = (dx**2).sum()
    if spread == 0:
        raise ValueError(f"x: all {m} values are {math.exp(log_x[0]):g}, expected at least two different ones")
    slope = (dx * dy).sum() / spread
    error = (((dy - slope * dx) ** 2).sum() / (m - 2) / spread).sqrt()
    half = t_quantile(level, m - 2) * error.item()
    at = slope.item()
    return Interval(at, at - half, at + half, m, level, f"least squares on {m} points", m)


def sup_distance_interval(distance: float, n: int, level: float = LEVEL) -> Interval:
    """Kolmogorov-Smirnov distance of n samples with the band of Dvoretzky, Kiefer & Wolfowitz.

    |D_n - D| <= sup |F_n - F| <= sqrt(log(2 / (1 - level)) / (2 n)) at any law, with at least the level (Massart 1990).
    """
    half = math.sqrt(math.log(2 / (1 - level)) / (2 * n))
    return Interval(distance, max(0.0, distance - half), min(1.0, distance + half), n, level, "DKW band")


def effective_sample_size(log_weight: Values) -> float:
    """(sum w)^2 / sum w^2 (Kish), of unnormalised log weights."""
    log_w = _vector(log_weight, 1, "log_weight")
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp().item()


@dataclass(frozen=True, eq=False)
class Moments:
    """n, centred mean [d] and M2 = sum (x - mean)(x - mean)^T [d,d] of one or more shards, float64 on the CPU."""

    n: int
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """rows: [m,d], m >= 1."""
        rows = rows.detach().to("cpu", torch.float64)
        mean = rows.mean(0)
        return cls(rows.shape[0], mean, (rows - mean).mT @ (rows - mean))

    def merged(self, other: Moments) -> Moments:
        """Both together: Chan, Golub & LeVeque 1983."""
        n = self.n + other.n
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        return Moments(n, mean, self.m2 + other.m2 + torch.outer(gap, gap) * (self.n * other.n / n))

    @property
    def covariance(self) -> Tensor:
        return self.m2 / (self.n - 1)


def merged_in_shard_order(shards: Mapping[int, Moments]) -> Moments:
    """All shards, in the order of their indices whatever the order of arrival: bit-identical for any workers."""
    if sorted(shards) != list(range(len(shards))) or not shards:
        raise ValueError(f"shards: indices {sorted(shards)}, expected 0 to {len(shards) - 1} without a gap")
    total = shards[0]
    for index in range(1, len(shards)):
        total = total.merged(shards[index])
    return total


class Verdict(NamedTuple):
    """An outcome and, in one line, why; settles: how many units would settle an inconclusive one, if known.

    Units are what the interval's `counted` names: training seeds, pairs, shards, or samples where it has none of these.
    """

    outcome: Outcome
    why: str
    settles: int | None = None


def claim_level(claims_of_paper: int) -> float:
    """1 - 0.05 / claims: Bonferroni over the claims of one paper."""
    if claims_of_paper < 1:
        raise ValueError(f"claims_of_paper: {claims_of_paper!r}, expected an integer >= 1")
    return 1 - 0.05 / claims_of_paper


def verdict(
    estimand: Interval | float | None,
    *,
    kind: ClaimKind,
    claims_of_paper: int,
    direction: Direction = "above",
    margin: float = 0.0,
    missing: str | None = None,
) -> Verdict:
    """What [L, U] says of a frozen claim.

    above: reproduced if L > margin, refuted here if U < margin; below: the mirror image; within (the equality kinds):
    reproduced if -margin < L and U < margin, refuted here if [L, U] lies wholly outside; else inconclusive.
    estimand: a float stands for an exact number without interval (evidence E). missing: why the claim cannot be run.
    Raises ValueError where kind, direction and margin contradict each other or the interval's level is too low.
    """
    if kind != "order" and (kind in EQUALITIES) != (direction == "within"):  # an order is a bound or an equality
        raise ValueError(f"direction: {direction!r} for a claim of kind {kind!r}; 'within' is for equality kinds")
    if direction == "within" and not margin > 0:
        raise ValueError(f"margin: {margin!r}, expected > 0; an equality is judged within a margin")
    if missing is not None or estimand is None:
        return Verdict("out of reach here", missing or "no record of this claim's jobs")
    if isinstance(estimand, Interval):
        least = claim_level(claims_of_paper)
        if estimand.level < least - 1e-12:
            raise ValueError(f"level: {estimand.level:g}, expected at least {least:g} for {claims_of_paper} claims")
        low, high, said = estimand.low, estimand.high, f"[{estimand.low:.4g}, {estimand.high:.4g}]"
    else:
        low = high = float(estimand)
        said = f"{low:.4g} exactly"
    if math.isnan(low):
        raise ValueError("estimand: NaN; the jobs of this claim failed, so give the reason as `missing`")
    held, broken, wanted = {
        "above": (low > margin, high < margin, f"> {margin:g}"),
        "below": (high < margin, low > margin, f"< {margin:g}"),
        "within": (-margin < low and high < margin, low > margin or high < -margin, f"within +-{margin:g}"),
    }[direction]
    why = f"{said} against {wanted}"
    if held or broken:
        return Verdict("reproduced" if held else "refuted here", why)
    settles = units_to_settle(estimand, direction, margin) if isinstance(estimand, Interval) else None
    if settles:
        had, units = estimand.counted
        why += f"; about {settles} {units} would settle it, {had} were used"
    return Verdict("inconclusive", why, settles)


def units_to_settle(interval: Interval, direction: Direction, margin: float) -> int | None:
    """How many units (see `Interval.counted`) clear the margin, if the estimate stays; None if it is on the margin.

    Half-widths fall as 1/sqrt(units); that the quantile of t falls as well is left out.
    """
    at = abs(interval.estimate) if direction == "within" else interval.estimate
    gap = abs(at - margin)
    half = max(interval.high - interval.estimate, interval.estimate - interval.low)
    return None if gap == 0 else math.ceil(interval.counted[0] * (half / gap) ** 2)


def tied_best(cells: Mapping[str, Interval | float | None], better: Better) -> dict[str, str]:
    """Marks "best", "tied" or "" for the cells of one column, from unpaired intervals.

    Tied: the interval of the difference to the best covers 0. It is joined from the two intervals by squaring and
    adding the half-widths that face each other (MOVER: Zou & Donner, Statistics in Medicine 27, 2008), the t intervals
    among them widened to 1 - (1 - level)/(cells - 1), since the best was picked from among all. Floats tie if equal.
    better="ideal" ranks nothing; None (a failed cell) is never marked.
    """
    marks = dict.fromkeys(cells, "")
    present = {name: cell for name, cell in cells.items() if cell is not None}
    if better == "ideal" or not present:
        return marks
    found = {name: _bounds(cell, len(present)) for name, cell in present.items()}
    sign = 1 if better == "lower" else -1
    best = min(found, key=lambda name: sign * found[name][0])
    at, low, high = found[best]
    for name, (other, other_low, other_high) in found.items():
        if sign == 1:
            half = math.hypot(high - at, other - other_low)
        else:
            half = math.hypot(at - low, other_high - other)
        marks[name] = "best" if name == best else "tied" if abs(other - at) <= half else ""
    return marks


def _bounds(cell: Interval | float, cells: int) -> tuple[float, float, float]:
    if not isinstance(cell, Interval):
        return float(cell), float(cell), float(cell)
    if cells > 2 and cell.method.startswith("t ") and cell.blocks > 1:
        cell = cell.at(1 - (1 - cell.level) / (cells - 1))
    return cell.estimate, cell.low, cell.high


def tied_best_paired(cells: Mapping[str, Values | None], better: Better, level: float = LEVEL) -> dict[str, str]:
    """Marks as tied_best, from values per block of methods that share seeds: much sharper than the unpaired marks."""
    marks = dict.fromkeys(cells, "")
    found = {name: _vector(values, 2, name) for name, values in cells.items() if values is not None}
    if better == "ideal" or not found:
        return marks
    sign = 1 if better == "lower" else -1
    best = min(found, key=lambda name: sign * found[name].mean().item())
    corrected = 1 - (1 - level) / max(1, len(found) - 1)
    for name, values in found.items():
        gap = None if name == best else paired_difference(values, found[best], corrected)
        marks[name] = "best" if gap is None else "tied" if gap.low <= 0 <= gap.high else ""
    return marks
