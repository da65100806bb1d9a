"""How visible the border of what was kept is in edited pictures.

seam_energy  mean square difference of two neighbouring pixels, above or beside each other, of which one had to be kept
             and the other not, over samples and such pairs: t over shards. Real pictures have some of it too (digits
             .53), and grey ones none: less is better only above that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, flat
from benchmarks.statistics import t_interval


def seam_energy(pictures: Tensor, known: Tensor) -> float:
    """pictures [b,C,H,W]; known bool, broadcasts to them. ValueError where no border crosses any of them."""
    known, squares = known.expand_as(pictures), []
    for axis in (-2, -1):
        crossing = known.diff(dim=axis)  # of booleans: whether they differ
        squares.append(pictures.diff(dim=axis).square()[crossing])
    jumps = torch.cat(squares)
    if not len(jumps):
        raise ValueError("known: all or nothing in every picture, expected a border between the two")
    return jumps.mean().item()


def score(samples: Shards, context: Context) -> Scores:
    values = [
        seam_energy(flat(shard).reshape(shard.shape), known.cpu())
        for shard, known in zip(samples, context.known, strict=True)
    ]
    return {"seam_energy": t_interval(values, context.level, n=sum(map(len, samples)), over="shards")}


METRICS = (
    Metric(
        name="seam_energy", title="Jump across the border of what is known", unit="square", better="ideal", ideal=None,
        needs=frozenset({"guides", "known", "train"}), score=score,  # of data: laws on the plane have no neighbours
    ),
)  # fmt: skip
