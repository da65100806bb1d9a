"""Sliced Wasserstein distances between the samples and an equally large exact sample of the target.

In one dimension W_p^p of two samples of equal size is the mean of |sorted difference|^p. Sliced:
    SW_p = (mean over directions of W_p^p of the projections)^(1/p)          Bonneel et al. 2015, eq. 9
over DIRECTIONS fixed directions, uniform on the sphere, which all methods, blocks and floors share; plain W_p in 1-D.
The mean of 10 seed blocks with its t interval estimates the expectation at the block's size, which is above 0 for a
perfect sampler: the floor, an independent exact sample in the samples' place, is where the column ends.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.statistics import t_interval
from reference_impls.core.draws import Philox

DIRECTIONS = 128  # twice the dimension of the digits; the same for every method, so no part of a comparison's noise
BLOCKS = 10


def directions(size: int, seed: int = 0) -> Tensor:
    """float64 [k,size] unit vectors, uniform on the sphere; the single direction 1 for size 1."""
    if size == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    like = torch.empty(DIRECTIONS, size, dtype=torch.float64)
    rays = Philox(seed, DIRECTIONS).normal("directions", like)
    return rays / rays.norm(dim=1, keepdim=True)


def sorted_projections(rows: Tensor, rays: Tensor) -> Tensor:
    """[b,d], [k,d] -> [k,b], each row ascending."""
    return (rays @ rows.mT).sort(1).values


def distance(a: Tensor, b: Tensor, power: int) -> float:
    """SW_power of two sets of sorted projections [k,b]."""
    return (a - b).abs().pow(power).mean().pow(1 / power).item()


def exact_blocks(context: Context, sizes: list[int], copy: int) -> list[Tensor]:
    """Sorted projections of an exact sample in blocks of these sizes; the same for every method."""

    def make() -> list[Tensor]:
        rays = directions(math.prod(context.target.shape), context.seed)
        return [sorted_projections(flat(block), rays) for block in context.exact_samples(copy, sizes)]

    return context.once(("exact blocks", copy, tuple(sizes), context.end), make)


def against_exact(name: str, power: int, mine: list[Tensor], exact: list[Tensor], level: float) -> Scores:
    values = [distance(a, b, power) for a, b in zip(mine, exact, strict=True)]
    return {name: t_interval(values, level, n=mine[0].shape[1])}


def metric(power: int) -> Metric:
    name = f"sliced_w{power}"

    def score(samples: Shards, context: Context) -> Scores:
        blocks = [flat(block) for block in blocks_of(samples, BLOCKS)]
        rays = directions(blocks[0].shape[1], context.seed)
        mine = context.once_for(samples, "projections", lambda: [sorted_projections(rows, rays) for rows in blocks])
        return against_exact(name, power, mine, exact_blocks(context, [len(rows) for rows in blocks], 0), context.level)

    def floor(context: Context) -> Scores:
        sizes = [len(block) for block in blocks_of([torch.empty(size) for size in context.sizes()], BLOCKS)]
        mine, exact = (exact_blocks(context, sizes, copy) for copy in (1, 0))
        return against_exact(name, power, mine, exact, context.level)

    return Metric(
        name=name, title=f"Sliced W{power}", unit="state", better="lower", ideal=0.0,
        needs=frozenset({"exact_samples"}), score=score, floor=floor,
    )  # fmt: skip


METRICS = (metric(1), metric(2))
