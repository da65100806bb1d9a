"""How far edited samples may be from the guide that each was made from.

guide_distance_95  the distance |sample - guide|, Euclidean, that 95 % of the edits keep: quantile of all samples,
                   interval of order statistics x_(r) to x_(s), P(Bin(n, .95) < r) and P(Bin(n, .95) >= s) at most
                   (1 - level)/2 each; it holds for any continuous law of independent edits.
"""

from __future__ import annotations

import torch

from benchmarks.metrics import Context, Metric, Scores, Shards, flat
from benchmarks.statistics import Interval

SHARE = 0.95


def score(samples: Shards, context: Context) -> Scores:
    from scipy.stats import binom

    gaps = [flat(shard) - flat(guide) for shard, guide in zip(samples, context.guides, strict=True)]
    distance = torch.cat(gaps).norm(dim=1).sort().values
    n, beyond = len(distance), (1 - context.level) / 2
    first, last = int(binom.ppf(beyond, n, SHARE)), int(binom.ppf(1 - beyond, n, SHARE)) + 1
    if first < 1 or last > n:
        raise ValueError(f"samples: {n}, expected more: an interval at level {context.level:g} has no end among so few")
    low, high = distance[first - 1].item(), distance[last - 1].item()
    estimate = distance.quantile(SHARE).item()
    return {
        "guide_distance_95": Interval(
            estimate, low, high, n, context.level, f"order statistics {first} and {last} of {n}", n
        )
    }


METRICS = (
    Metric(
        name="guide_distance_95", title="Distance to the guide that 95 % keep", unit="state", better="lower",
        ideal=None, needs=frozenset({"guides"}), score=score,
    ),
)  # fmt: skip
