"""Second moments: of all samples against the law's own, and of those that one start state leads to.

variance_error   total variance of the samples over that of alpha x0 + sigma eps where the grid ends, less 1: mean over
                 shards, t. 0 in expectation for exact samples at any n, as each shard's variance is unbiased.
start_diversity  total variance of what one start state leads to, Tr Cov(x0 | x_T): each shard has a start state of its
                 own (start "shared"), mean over shards, t. 0 for a deterministic sampler.
"""

from __future__ import annotations

from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, flat
from benchmarks.statistics import t_interval


def total_variance(rows: Tensor) -> float:
    """Trace of the unbiased covariance of [n,*D]. Raises ValueError for fewer than two rows."""
    if rows.shape[0] < 2:
        raise ValueError(f"samples: {rows.shape[0]} in a shard, expected 2 or more; ask for fewer shards")
    return flat(rows).var(0, unbiased=True).sum().item()


def score_variance(samples: Shards, context: Context) -> Scores:
    alpha, sigma = context.end
    exact = alpha**2 * context.target.total_variance + sigma**2 * samples[0][0].numel()
    errors = [total_variance(shard) / exact - 1 for shard in samples]
    return {"variance_error": t_interval(errors, context.level, n=sum(map(len, samples)), over="shards")}


def score_start(samples: Shards, context: Context) -> Scores:
    found = [total_variance(shard) for shard in samples]
    return {"start_diversity": t_interval(found, context.level, n=sum(map(len, samples)), over="start states")}


METRICS = (
    Metric(
        name="variance_error", title="Relative error of the variance", unit="", better="ideal", ideal=0.0,
        needs=frozenset({"total_variance", "exact_samples"}), score=score_variance,
        floor=lambda context: score_variance(context.exact_samples(0), context),
    ),
    Metric(
        name="start_diversity", title="Variance from one start", unit="", better="higher", ideal=None,
        needs=frozenset({"shared_start"}), score=score_start,
    ),
)  # fmt: skip
