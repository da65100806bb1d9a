"""Samples whose shards are chains: how much less they are worth than independent ones.

correlation_time  integrated autocorrelation time by batch means, k B / (B + W (k - 1)/k) with k samples a shard, B the
                  variance of the shards' means and W that within shards, both summed over coordinates: B k over the
                  variance of a sample. 1 for independent samples; 1 + 2 sum_j (1 - j/k) rho_j for a stationary chain,
                  below that of an endless one where rho > 0. n samples are worth n / time independent ones. Jackknife
                  over shards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, flat
from benchmarks.statistics import jackknife


def correlation_time(chains: Tensor) -> float:
    """chains [m,k,d] float64: m chains of k samples; at least two of two."""
    count, length = chains.shape[:2]
    means = chains.mean(1)
    between = means.var(0, unbiased=True).sum()
    within = (chains - means[:, None]).square().sum() / (count * (length - 1))
    return (length * between / (between + within * (length - 1) / length)).item()


def score(samples: Shards, context: Context) -> Scores:
    lengths = {len(shard) for shard in samples}
    if len(samples) < 3 or len(lengths) > 1 or lengths == {1}:
        raise ValueError(
            f"samples: {len(samples)} shards of {min(lengths)} to {max(lengths)} rows, expected at least 3, all of one "
            "length above 1; a shard is a chain"
        )
    chains = torch.stack([flat(shard) for shard in samples])
    left_out = [correlation_time(torch.cat([chains[:j], chains[j + 1 :]])) for j in range(len(chains))]
    sizes = [chains.shape[1]] * len(chains)
    return {"correlation_time": jackknife(correlation_time(chains), left_out, sizes, context.level, over="chains")}


METRICS = (
    Metric(
        name="correlation_time", title="Autocorrelation time within shards", unit="samples", better="ideal", ideal=1.0,
        needs=frozenset({"exact_samples"}), score=score,
        floor=lambda context: score(context.exact_samples(0), context),
    ),
)  # fmt: skip
