"""Edited samples against the guide that each was made from.

guide_distance  RMS over coordinates of (sample - guide): t over shards. The faithful end of an editing method's
                trade-off; the other end, realism, is what the distances to the data say.
known_error     RMS of the same over the entries that had to be kept: 0 for a method that keeps them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, flat
from benchmarks.statistics import t_interval


def gaps(samples: Shards, context: Context) -> list[Tensor]:
    """sample - guide by shard, float64 [b,d]."""
    return [flat(shard) - flat(guide) for shard, guide in zip(samples, context.guides, strict=True)]


def score_distance(samples: Shards, context: Context) -> Scores:
    values = [gap.square().mean().sqrt().item() for gap in gaps(samples, context)]
    return {"guide_distance": t_interval(values, context.level, n=sum(map(len, samples)), over="shards")}


def score_known(samples: Shards, context: Context) -> Scores:
    kept = [known.reshape(len(known), -1) for known in context.known]
    values = [gap[mask].square().mean().sqrt().item() for gap, mask in zip(gaps(samples, context), kept, strict=True)]
    whole = torch.cat([gap.abs()[mask] for gap, mask in zip(gaps(samples, context), kept, strict=True)])
    found = t_interval(values, context.level, n=sum(map(len, samples)), over="shards")
    return {"known_error": found, "known_error_max": whole.max().item()}


METRICS = (
    Metric(
        name="guide_distance", title="Distance to the guide", unit="RMS", better="lower", ideal=None,
        needs=frozenset({"guides"}), score=score_distance,
    ),
    Metric(
        name="known_error", title="Error where the guide is known", unit="RMS", better="lower", ideal=0.0,
        needs=frozenset({"guides", "known"}), score=score_known,
    ),
)  # fmt: skip
