"""Samples that were asked for by class: are they of it, and how much of it do they show.

class_accuracy  share of the samples that context.classify assigns to the class asked for: t over shards.
class_spread    RMS over coordinates of the standard deviation within a class, pooled over the classes with their
                degrees of freedom: mean of 10 blocks, t. Guidance that narrows a class lowers it.
class_error     RMS over coordinates of (mean of a class's samples - mean of its exact samples), pooled over samples:
                mean of 10 blocks, t; above 0 for exact samples too, as the floor shows.
The floor is exact samples of each row's class.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.metrics import ADDRESS, Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.statistics import t_interval
from reference_impls.core.draws import Philox

BLOCKS = 10
EXACT = 2000  # samples of each class from which its mean is taken


def score_accuracy(samples: Shards, context: Context) -> Scores:
    right = [
        (context.classify(shard).cpu() == label.cpu()).double().mean().item()
        for shard, label in zip(samples, context.labels, strict=True)
    ]
    return {"class_accuracy": t_interval(right, context.level, n=sum(map(len, samples)), over="shards")}


def within(rows: Tensor, labels: Tensor) -> float:
    """Pooled variance per coordinate of rows [n,d] about the mean of their class: sum of squares over (n - K) d."""
    classes, place = labels.unique(return_inverse=True)
    if len(rows) <= len(classes):
        raise ValueError(f"labels: {len(classes)} classes in a block of {len(rows)}, expected several samples of each")
    sums = rows.new_zeros(len(classes), rows.shape[1]).index_add_(0, place, rows)
    means = sums / place.bincount()[:, None]
    return (rows - means[place]).square().sum().item() / (len(rows) - len(classes)) / rows.shape[1]


def score_spread(samples: Shards, context: Context) -> Scores:
    return _over_blocks("class_spread", within, samples, context)


def score_error(samples: Shards, context: Context) -> Scores:
    exact = context.once("class means", lambda: class_means(context))

    def error(rows: Tensor, labels: Tensor) -> float:
        classes, place = labels.unique(return_inverse=True)
        sums = rows.new_zeros(len(classes), rows.shape[1]).index_add_(0, place, rows)
        gap = sums / place.bincount()[:, None] - exact[classes]
        return gap[place].square().mean().item()

    return _over_blocks("class_error", error, samples, context)


def _over_blocks(name: str, square: Callable[[Tensor, Tensor], float], samples: Shards, context: Context) -> Scores:
    blocks = [flat(block) for block in blocks_of(samples, BLOCKS)]
    labels = blocks_of([label.cpu() for label in context.labels], BLOCKS)
    values = [math.sqrt(square(*pair)) for pair in zip(blocks, labels, strict=True)]
    return {name: t_interval(values, context.level, n=len(blocks[0]))}


def class_means(context: Context) -> Tensor:
    """[K,d] means of the classes: of atoms their own, of other laws that of EXACT samples."""

    def mean(law) -> Tensor:
        atoms = getattr(law, "atoms", None)
        if atoms is not None:
            return flat(atoms).mean(0)
        like = torch.empty(EXACT, *context.target.shape, dtype=torch.float64)
        return flat(law.sample(Philox(context.seed, EXACT).at(ADDRESS + 1), like)).mean(0)

    return torch.stack([mean(law) for law in context.target.class_laws])


def exact_shards(context: Context) -> list[Tensor]:
    """Exact samples of the classes asked for, in the job's layout."""
    labels = torch.cat(list(context.labels)).cpu()

    def make() -> Tensor:
        like = torch.empty(len(labels), *context.target.shape, dtype=torch.float64)
        return context.target.given(labels).sample(Philox(context.seed, len(labels)).at(ADDRESS), like)

    whole = context.once(("exact classes", tuple(labels.tolist())), make)
    return list(whole.split([len(label) for label in context.labels]))


def _metric(name: str, title: str, unit: str, better, ideal: float | None, score) -> Metric:
    return Metric(
        name=name, title=title, unit=unit, better=better, ideal=ideal, needs=frozenset({"labels", "exact_samples"}),
        score=score, floor=lambda context: score(exact_shards(context), context),
    )  # fmt: skip


METRICS = (
    _metric("class_accuracy", "Samples of the class asked for", "share", "higher", None, score_accuracy),
    _metric("class_spread", "Spread within a class", "RMS", "ideal", None, score_spread),
    _metric("class_error", "Error of the class means", "RMS", "lower", 0.0, score_error),
)
