"""The one unknown entry of edited samples against its exact law given the entries that are known.

rest_energy  mean over guides of the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| of the samples X of that guide
             and its law Y, a mixture of normals on the line (Szekely & Rizzo 2013): t over 10 blocks. Closed are the
             terms with Y, E|N(d, s^2)| = d erf(d/(s sqrt 2)) + s sqrt(2/pi) exp(-d^2/(2 s^2)); the pairs X, X' of a
             block are of different samples, so that the estimate has no bias at any n and may fall below 0.
"""

from __future__ import annotations

import math

from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.statistics import t_interval


def mean_size(mean: Tensor, deviation: Tensor) -> Tensor:
    """E|N(mean, deviation^2)|, elementwise."""
    ratio = mean / deviation / math.sqrt(2)
    return mean * ratio.erf() + deviation * math.sqrt(2 / math.pi) * (-ratio.square()).exp()


def energy_to(samples: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> float:
    """Unbiased energy distance of the law of samples [n], n >= 2, to that mixture [K]."""
    n, joint = len(samples), weights[:, None] * weights
    across = (mean_size(samples[:, None] - means, variances.sqrt()) @ weights).mean()
    among = (samples[:, None] - samples).abs().sum() / (n * (n - 1))
    own = (joint * mean_size(means[:, None] - means, (variances[:, None] + variances).sqrt())).sum()
    return (2 * across - among - own).item()


def of_block(rows: Tensor, known: Tensor, group: Tensor, context: Context) -> float:
    unknown, values = rows[~known], []
    if len(unknown) != len(rows) or group.bincount().eq(1).any():
        raise ValueError(
            f"samples: a block of {len(rows)} with {len(unknown)} unknown entries and {len(group.unique())} guides, "
            "expected one such entry for each sample and two or more samples for each guide; make the job larger"
        )
    for guide in group.unique().tolist():
        law = context.rest[guide]
        parts = (part[:, 0].double() for part in (law.weights, law.means, law.variances))
        values.append(energy_to(unknown[group == guide], *parts))
    return sum(values) / len(values)


def score_rest(samples: Shards, context: Context) -> Scores:
    blocks = zip(*(blocks_of(parts) for parts in (samples, context.known, context.group)), strict=True)
    values = [of_block(flat(rows), known.flatten(1), group, context) for rows, known, group in blocks]
    return {"rest_energy": t_interval(values, context.level, n=sum(map(len, samples)) // len(values))}


METRICS = (
    Metric(
        name="rest_energy", title="Energy distance of the rest given the known part", unit="state", better="lower",
        ideal=0.0, needs=frozenset({"guides", "known", "rest"}), score=score_rest,
    ),
)  # fmt: skip
