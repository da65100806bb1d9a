"""Frechet distance between the Gaussians fitted to the features of the samples and of the held-out data.

    F = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)                      Heusel et al. 2017, eq. 6
    tr (S1 S2)^(1/2) = nuclear norm of A B^T / sqrt((n1 - 1)(n2 - 1)),        A, B the centred features [n,d]
A = Q R with orthonormal Q leaves the nuclear norm to R_A R_B^T, at most d x d: no matrix root, no squared condition
number, and shards join by factorising their stacked R (and the gaps of their means) again.
The plug-in value is biased upwards by O(d^2/n). The estimate is bias-corrected by the jackknife over shards, given the
held-out data: its estimand is the distance from the law of the samples to the Gaussian of these data; it may fall
below 0.
Values compare only at equal n, reference and extractor. Features have d <= 64: beyond, the jackknife does not cover.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards
from benchmarks.statistics import jackknife

WIDEST = 64


class Factor(NamedTuple):
    """n, mean [d] and an upper triangular root [min(n,d),d] with root^T root = sum (x - mean)(x - mean)^T."""

    samples: int
    mean: Tensor
    root: Tensor


def factor(rows: Tensor) -> Factor:
    mean = rows.mean(0)
    return Factor(rows.shape[0], mean, torch.linalg.qr(rows - mean, mode="r").R)


def joined(parts: list[Factor]) -> Factor:
    """The factor of all rows together."""
    n = sum(part.samples for part in parts)
    mean = sum(part.mean * (part.samples / n) for part in parts)
    gaps = torch.stack([math.sqrt(part.samples) * (part.mean - mean) for part in parts])
    return Factor(n, mean, torch.linalg.qr(torch.cat([*(part.root for part in parts), gaps]), mode="r").R)


def distance(a: Factor, b: Factor) -> float:
    root_a, root_b = a.root / math.sqrt(a.samples - 1), b.root / math.sqrt(b.samples - 1)
    overlap = torch.linalg.matrix_norm(root_a @ root_b.mT, ord="nuc")
    spread = root_a.square().sum() + root_b.square().sum()
    return ((a.mean - b.mean).square().sum() + spread - 2 * overlap).item()


def score(samples: Shards, context: Context) -> Scores:
    reference = context.once("reference factor", lambda: factor(context.embedded_reference()))
    if reference.mean.numel() > WIDEST:
        raise ValueError(f"features: d = {reference.mean.numel()}, expected at most {WIDEST}; use a narrower layer")
    shards = [factor(rows) for rows in context.embedded(samples)]
    whole = distance(joined(shards), reference)
    left_out = [distance(joined(shards[:j] + shards[j + 1 :]), reference) for j in range(len(shards))]
    sizes = [shard.samples for shard in shards]
    return {"frechet": jackknife(whole, left_out, sizes, context.level), "frechet_plugin": whole}


METRICS = (
    Metric(
        name="frechet", title="Frechet distance", unit="feature^2", better="lower", ideal=0.0,
        needs=frozenset({"features"}), score=score, floor=lambda context: score(context.train_shards(), context),
    ),
)  # fmt: skip
