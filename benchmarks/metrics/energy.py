"""Energy distance to an exact sample: 2 E|x - y| - E|x - x'| - E|y - y'|, unbiased (Szekely & Rizzo 2013).

Each of 10 blocks of the samples is set against one exact sample of the job's size; with m rows x and n rows y
    2 sum |x_i - y_j| / (m n) - sum_{i != j} |x_i - x_j| / (m (m-1)) - sum_{i != j} |y_i - y_j| / (n (n-1))
has the right expectation at any m if rows are independent, so that it is 0 for a perfect sampler and may fall below;
outputs of one chain in a block raise it. The exact sample is the
same for all methods: a difference of two methods does not carry its noise, a single value does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.statistics import t_interval

BLOCKS = 10


def between(x: Tensor, y: Tensor) -> float:
    """Mean of |x_i - y_j| over all pairs of rows."""
    return torch.cdist(x, y).mean().item()


def within(x: Tensor) -> float:
    """Mean of |x_i - x_j| over pairs of different rows."""
    gaps = torch.cdist(x, x).fill_diagonal_(0)  # by a product of matrices a row may lie 1e-7 from itself
    return gaps.sum().item() / (x.shape[0] * (x.shape[0] - 1))


def energy(x: Tensor, y: Tensor, within_y: float | None = None) -> float:
    """Unbiased energy distance of rows x [m,d] and y [n,d]."""
    return 2 * between(x, y) - within(x) - (within(y) if within_y is None else within_y)


def against_exact(samples: Shards, context: Context) -> Scores:
    sizes = [shard.shape[0] for shard in samples]
    key = tuple(sizes), context.end
    exact = context.once(("energy", *key), lambda: flat(torch.cat(context.exact_samples(0, sizes))))
    own = context.once(("energy within", *key), lambda: within(exact))
    blocks = [flat(block) for block in blocks_of(samples, BLOCKS)]
    values = [energy(rows, exact, own) for rows in blocks]
    return {"energy": t_interval(values, context.level, n=len(blocks[0]))}


METRICS = (
    Metric(
        name="energy", title="Energy distance", unit="state", better="lower", ideal=0.0,
        needs=frozenset({"exact_samples"}), score=against_exact,
        floor=lambda context: against_exact(context.exact_samples(1), context),
    ),
)  # fmt: skip
