"""Kernel distance: unbiased squared MMD with k(x, y) = (x.y / d + 1)^3 (Binkowski et al. 2018, section 4).

Each shard is set against the whole held-out half; with m in the shard and n held out
    sum_{i != j} k(x_i, x_j) / (m (m-1)) + sum_{i != j} k(y_i, y_j) / (n (n-1)) - 2 sum k(x_i, y_j) / (m n)
is unbiased, whatever m, and independent between shards given the held-out data: a t interval over shards holds.
The spread over random overlapping subsets that other packages print is no standard error: it grows with the number of
subsets that share samples and does not fall with n. The estimate may fall below 0.
"""

from __future__ import annotations

from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards
from benchmarks.statistics import t_interval


def kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.mT / x.shape[1] + 1) ** 3


def within(x: Tensor) -> Tensor:
    """Mean of the kernel over pairs of different rows."""
    gram = kernel(x, x)
    return (gram.sum() - gram.diagonal().sum()) / (x.shape[0] * (x.shape[0] - 1))


def squared_mmd(x: Tensor, y: Tensor, within_y: Tensor | None = None) -> float:
    """Unbiased squared MMD of rows x [m,d] and y [n,d]."""
    return (within(x) + (within(y) if within_y is None else within_y) - 2 * kernel(x, y).mean()).item()


def score(samples: Shards, context: Context) -> Scores:
    reference = context.embedded_reference()
    own = context.once("kernel within reference", lambda: within(reference))
    values = [squared_mmd(rows, reference, own) for rows in context.embedded(samples)]
    n = sum(shard.shape[0] for shard in samples)
    return {"kid": t_interval(values, context.level, n=n, over="shards")}


METRICS = (
    Metric(
        name="kid", title="Kernel distance", unit="MMD^2", better="lower", ideal=0.0,
        needs=frozenset({"features"}), score=score, floor=lambda context: score(context.train_shards(), context),
    ),
)  # fmt: skip
