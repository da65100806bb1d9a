"""Error of a deterministic sampler against the exact flow, same start states: no interval, nothing is random.

The error of one sample is the root mean square over its coordinates of (end - end of the exact flow).
On atoms an overall RMS is a few samples that ended on another atom: there the median and the share of samples whose end
moved by more than 0.1 are reported instead. The floor is the reference's own error: half its steps against all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, flat

MOVED = 0.1  # RMS beyond which a sample counts as having ended elsewhere; pixels lie in [-1, 1]


def errors(samples: Shards, ends: Shards) -> Tensor:
    """[n] root mean squares over the coordinates."""
    if [tuple(shard.shape) for shard in samples] != [tuple(shard.shape) for shard in ends]:
        raise ValueError(
            f"samples: shards of {[tuple(s.shape) for s in samples][:3]}.., expected those of the reference ends, "
            f"{[tuple(s.shape) for s in ends][:3]}..; both start from the same states"
        )
    gap = flat(torch.cat(list(samples))) - flat(torch.cat(list(ends)))
    return gap.square().mean(1).sqrt()


def flow_error(samples: Shards, context: Context) -> Scores:
    """Over all samples, the largest, and of each shard alone: from these an order has its interval."""
    error = errors(samples, context.ends)
    shards = error.split([shard.shape[0] for shard in samples])
    return {
        "flow_error": error.square().mean().sqrt().item(),
        "flow_error_max": error.max().item(),
        "flow_error_by_shard": [shard.square().mean().sqrt().item() for shard in shards],
    }


def flow_error_median(samples: Shards, context: Context) -> Scores:
    error = errors(samples, context.ends)
    return {
        "flow_error_median": error.quantile(0.5).item(),
        "flow_error_median_changed": (error > MOVED).double().mean().item(),
    }


METRICS = (
    Metric(
        name="flow_error", title="RMS error against the exact flow", unit="state", better="lower", ideal=0.0,
        needs=frozenset({"exact_flow"}), score=flow_error,
        floor=lambda context: flow_error(context.coarse_ends or context.ends, context),
    ),
    Metric(
        name="flow_error_median", title="Median error against the exact flow", unit="state", better="lower", ideal=0.0,
        needs=frozenset({"exact_flow", "atoms"}), score=flow_error_median,
        floor=lambda context: flow_error_median(context.coarse_ends or context.ends, context),
    ),
)  # fmt: skip
