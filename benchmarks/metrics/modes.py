"""Does every mode of a known density get its share; log Z from log weights; distance of distribution functions.

mode_weights  total variation between the shares of the samples whose nearest mode is k and equal weights: the mean of
              10 blocks, t; it is above 0 at any n, as the floor shows. kept: modes with more than 1 % of all samples;
              least: the smallest share over its weight.
log_z         log mean w - log Z, bias-corrected by the jackknife over shards. lower_bound: mean log w - log Z, which
              is <= 0 in expectation (Jensen), t over shards. ess: effective share of the samples (Kish).
ks            sup |F_n - F| in one dimension against the closed F, with the DKW band.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.metrics.neighbours import distances
from benchmarks.statistics import effective_sample_size, jackknife, sup_distance_interval, t_interval

BLOCKS = 10
KEPT = 0.01


def shares(mode: Tensor, modes: int) -> Tensor:
    """int64 [n] -> float64 [modes], the share of each."""
    return torch.bincount(mode, minlength=modes).double() / mode.shape[0]


def total_variation(p: Tensor, q: Tensor) -> float:
    """sum |p - q| / 2."""
    return (p - q).abs().sum().item() / 2


def score_modes(samples: Shards, context: Context) -> Scores:
    means = flat(context.target.modes)
    found = [distances(flat(shard), means).argmin(1) for shard in samples]
    weights = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    blocks = blocks_of(found, BLOCKS)
    pooled = shares(torch.cat(found), len(means))
    values = [total_variation(shares(block, len(means)), weights) for block in blocks]
    return {
        "mode_weights": t_interval(values, context.level, n=blocks[0].shape[0]),
        "mode_weights_pooled": total_variation(pooled, weights),
        "mode_weights_kept": float((pooled > KEPT).sum()),
        "mode_weights_least": (pooled / weights).min().item(),
    }


def score_log_z(samples: Shards, context: Context) -> Scores:
    log_w = [flat(shard[:, None])[:, 0] for shard in context.log_weight]
    sizes = [len(shard) for shard in log_w]
    log_z = context.target.log_Z
    sums = torch.stack([shard.logsumexp(0) for shard in log_w])
    n = sum(sizes)
    without = [
        torch.cat([sums[:j], sums[j + 1 :]]).logsumexp(0).item() - math.log(n - sizes[j]) - log_z
        for j in range(len(sizes))
    ]
    bounds = [shard.mean().item() - log_z for shard in log_w]
    return {
        "log_z": jackknife(sums.logsumexp(0).item() - math.log(n) - log_z, without, sizes, context.level),
        "log_z_lower_bound": t_interval(bounds, context.level, n=n, over="shards"),
        "log_z_ess": effective_sample_size(torch.cat(log_w)) / n,
    }


def sup_distance(values: Tensor, cdf: Tensor) -> float:
    """sup |F_n - F| from the samples [n] and F at them [n]."""
    u = cdf[values.argsort()]
    n = u.numel()
    steps = torch.arange(1, n + 1, dtype=torch.float64)
    return max((steps / n - u).max().item(), (u - (steps - 1) / n).max().item())


def score_ks(samples: Shards, context: Context) -> Scores:
    values = flat(torch.cat(list(samples)))
    if values.shape[1] != 1:
        raise ValueError(f"samples: {values.shape[1]} coordinates, expected 1; use sliced_w1 in more dimensions")
    target, (alpha, sigma) = context.target, context.end
    spread = (alpha**2 * target.variances.double() + sigma**2).sqrt()
    each = torch.special.ndtr((values[:, None] - alpha * target.means.double()) / spread)  # [n,K,1]
    cdf = (target.weights.double() * each).sum((1, 2))
    return {"ks": sup_distance_interval(sup_distance(values[:, 0], cdf), len(values), context.level)}


METRICS = (
    Metric(
        name="mode_weights", title="Total variation of the mode weights", unit="share", better="lower", ideal=0.0,
        needs=frozenset({"modes"}), score=score_modes,
        floor=lambda context: score_modes(context.exact_samples(0), context),
    ),
    Metric(
        name="log_z", title="Error of log Z", unit="nats", better="ideal", ideal=0.0,
        needs=frozenset({"log_weight"}), score=score_log_z,
    ),
    Metric(
        name="ks", title="Kolmogorov-Smirnov distance", unit="share", better="lower", ideal=0.0,
        needs=frozenset({"mixture_1d"}), score=score_ks,
        floor=lambda context: score_ks(context.exact_samples(0), context),
    ),
)  # fmt: skip
