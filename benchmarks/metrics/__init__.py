"""Metrics: what a cell of a table scores. Each module here lists its own in ``METRICS``; ``named`` finds them all.

    metric.score(samples, context) -> {metric.name: Interval | float, and companions under metric.name + "_..."}
    metric.floor(context)          -> the same keys for the noise-floor row: reference against reference

samples: the shards of one job in shard order, a list of [b,*D] tensors on any device. A metric applies to a job if the
job's traits hold all that it needs. Everything is computed in float64; nothing is random but what the context's seed
addresses, so that scores are the same for every worker and are paired between methods.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.statistics import LEVEL, Better, Interval
from reference_impls.core.draws import Philox

Scores = dict[str, Interval | float | list[float]]  # a list has a number for each shard: no cell of a table
Shards = Sequence[Tensor]

TRAITS = {  # what a job can say of itself; a metric's `needs` come from here
    "exact_flow": "context.ends holds the end states of the exact flow from the job's own start states",
    "full_run": "context.full() gives the end states of the whole run from the job's own start states",
    "atoms": "the target is an empirical distribution, on which the flow picks an atom",
    "exact_samples": "context.target.sample draws from the law that the samples should have",
    "features": "context.features, context.reference and context.train are there",
    "train": "context.reference and context.train are there",
    "modes": "context.target.modes holds [K,*D] points, one for each of K modes of equal weight",
    "log_weight": "context.log_weight holds one log weight per sample and context.target.log_Z is known",
    "mixture_1d": "samples are [b,1], the target has weights, means and variances [K,1] of normal components",
    "tokens": "the samples are int64 [b,L]",
    "token_table": "context.target.table() is the law [K,..,K] of all K^L sequences",
    "text": "context.text and context.held_out_text are there",
    "posterior": "samples of the posterior of context.problem, one or more per measurement, in context.group",
    "truth": "context.truth holds the clean signal of every sample",
    "labels": "context.labels holds the class that each sample should have, context.classify finds one for a sample",
    "guides": "context.guides holds what each sample was made from",
    "total_variance": "context.target.total_variance is the trace of the target's covariance",
    "reward": "context.target.reward gives a number for each sample, [b]",
    "shared_start": "all samples of a shard come from one start state",
    "known": "context.known holds, beside the guides, which of their entries had to be kept",
    "rest": "context.rest has the exact law of each guide's one unknown entry, context.group each sample's guide",
}
ADDRESS = 2**31  # of the metrics' own draws


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What a metric may need beside the samples. Lists run parallel to the shards; unset fields are simply not there.

    One context serves all cells that share target, problem, data, features and seed: what depends on these is computed
    once and kept in `memo`. For cells that differ in other fields use `dataclasses.replace`, which keeps the memo.
    end: (alpha, sigma) of the law alpha x0 + sigma eps that the samples should have; (1, 0) is the target itself.
    """

    target: Any = None
    process: Any = None
    end: tuple[float, float] = (1.0, 0.0)
    start: Shards | None = None  # start states; a floor takes its shard sizes from them
    ends: Shards | None = None  # end states of the exact flow
    coarse_ends: Shards | None = None  # the same with half the reference's steps: the reference's own error
    full: Callable[[], Shards] | None = None  # end states of the whole run, which is made when asked for
    reference: Tensor | None = None  # held-out data [m,*D]
    train: Tensor | None = None  # training data [m,*D]
    features: Callable[[Tensor], Tensor] | None = None  # [b,*D] -> [b,d], d <= 64
    log_weight: Shards | None = None  # [b] in nats
    classes: int | None = None  # letters of the text
    text: Tensor | None = None  # int64 [m], trains the n-gram model
    held_out_text: Tensor | None = None  # int64 [m]
    problem: Any = None  # InverseProblem
    truth: Shards | None = None  # clean signals
    group: Shards | None = None  # int64 [b]: the measurement or the guide that a sample answers
    labels: Shards | None = None  # int64 [b]: the class that each sample should have
    classify: Callable[[Tensor], Tensor] | None = None  # [b,*D] -> int64 [b]
    guides: Shards | None = None  # [b,*D]
    known: Shards | None = None  # bool [b,*D]
    rest: Sequence[Any] | None = None  # by guide: a law with weights, means and variances [K,1]
    seed: int = 0
    level: float = LEVEL
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """make(), computed at the first call with this key."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def once_for(self, samples: Shards, key: Any, make: Callable[[], Any]) -> Any:
        """As once, but of these samples: kept until other samples are scored, as several metrics ask in turn."""
        last = self.memo.get("last samples")
        if last is None or [id(shard) for shard in last[0]] != [id(shard) for shard in samples]:
            self.memo["last samples"] = last = (list(samples), {})
        if key not in last[1]:
            last[1][key] = make()
        return last[1][key]

    def embedded(self, samples: Shards) -> list[Tensor]:
        """The shards' features, float64 [b,d]."""
        sizes = [shard.shape[0] for shard in samples]
        return self.once_for(
            samples, "embedded", lambda: list(flat(self.features(torch.cat(list(samples)))).split(sizes))
        )

    def embedded_reference(self) -> Tensor:
        """The held-out data's features, float64 [m,d]."""
        return self.once("reference features", lambda: flat(self.features(self.reference)))

    def sizes(self) -> list[int]:
        """Samples in each shard of the job that a floor stands beside."""
        if self.start is None:
            raise ValueError("start: None, expected the job's start states by shard; a floor is as large as its job")
        return [shard.shape[0] for shard in self.start]

    def exact_samples(self, copy: int, sizes: Sequence[int] | None = None) -> list[Tensor]:
        """Exact samples of the law at `end`, float64 by shard; the copies 0, 1, .. are independent of each other.

        Equal for all methods. Their addresses lie beyond every step, so that no start state or noise shares a draw.
        """
        sizes = list(sizes or self.sizes())

        def make() -> list[Tensor]:
            draws = Philox(self.seed, sum(sizes)).at(ADDRESS + copy)
            like = torch.empty(sum(sizes), *self.target.shape, dtype=torch.float64)
            alpha, sigma = self.end
            exact = alpha * self.target.sample(draws, like)
            return list((exact + sigma * draws.normal("eps", like) if sigma else exact).split(sizes))

        return self.once(("exact", copy, tuple(sizes), self.end), make)

    def train_shards(self) -> list[Tensor]:
        """The training data as 20 shards of samples: perfect memorisation, and the floor of the feature metrics."""
        return self.once("train shards", lambda: shards_of(shuffled(self.train, self.seed)))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of a table, with its companions.

    better: which way is better; "ideal" where nearness to `ideal` is what counts and nothing is ranked.
    ideal: what a perfect sampler tends to as n grows; None where it depends on the target or the data.
    needs: traits from TRAITS. score, floor: see the module; floor is None where the ideal is attained exactly.
    """

    name: str
    title: str
    unit: str
    better: Better
    ideal: float | None
    needs: frozenset[str]
    score: Callable[[Shards, Context], Scores]
    floor: Callable[[Context], Scores] | None = None

    def applies(self, traits: Iterable[str]) -> bool:
        return self.needs <= frozenset(traits)


@cache
def metrics() -> dict[str, Metric]:
    """name -> metric, of every module in this folder."""
    found: dict[str, Metric] = {}
    for file in pkgutil.iter_modules(__path__):
        for metric in getattr(importlib.import_module(f"{__name__}.{file.name}"), "METRICS", ()):
            if metric.name in found:
                raise ValueError(f"metric: {metric.name!r} is defined twice")
            found[metric.name] = metric
    return dict(sorted(found.items()))


def named(name: str) -> Metric:
    """A metric by name; raises KeyError with the names there are."""
    if name not in metrics():
        raise KeyError(f"metric: {name!r} is not known; expected one of {', '.join(metrics())}")
    return metrics()[name]


def applicable(traits: Iterable[str]) -> tuple[Metric, ...]:
    """Every metric that a job with these traits can be scored by, in the order of names."""
    traits = frozenset(traits)
    return tuple(metric for metric in metrics().values() if metric.applies(traits))


def flat(rows: Tensor) -> Tensor:
    """[b,*D] -> float64 [b,d] on the CPU. Raises ValueError if a value is not finite: such a job is no score."""
    rows = rows.detach().to("cpu", torch.float64).reshape(rows.shape[0], -1)
    bad = int((~torch.isfinite(rows)).any(1).sum())
    if bad:
        raise ValueError(f"samples: {bad} of {rows.shape[0]} rows are not finite; record the job as nonfinite")
    return rows


def blocks_of(shards: Shards, blocks: int = 10) -> list[Tensor]:
    """Consecutive shards joined into `blocks` blocks: 20 shards of 45 into 10 of 90. ValueError if they do not fit."""
    if len(shards) < blocks or len(shards) % blocks:
        raise ValueError(f"samples: {len(shards)} shards, expected a multiple of {blocks}; make the job with 20 shards")
    each = len(shards) // blocks
    return [torch.cat(list(shards[i : i + each])) for i in range(0, len(shards), each)]


def shuffled(rows: Tensor, seed: int = 0) -> Tensor:
    """The rows in a seeded random order: files group their examples by class or author, shards must not."""
    return rows[Philox(seed, rows.shape[0]).at(ADDRESS).uniform("order", (rows.shape[0],)).argsort().to(rows.device)]


def shards_of(rows: Tensor, shards: int = 20) -> list[Tensor]:
    """Rows cut into nearly equal consecutive shards, as a job's samples are."""
    if rows.shape[0] < 2 * shards:
        raise ValueError(f"rows: {rows.shape[0]}, expected at least {2 * shards} for {shards} shards")
    return list(rows.tensor_split(shards))
