"""Quality and diversity by nearest neighbours, and the distance to the training data.

With r_k(z) the distance from z to its k-th nearest neighbour within z's own set (z itself not counted):
    precision  share of generated x inside some ball of radius r_3(y) about a held-out y       Kynkaanniemi et al. 2019
    recall     share of held-out y inside some ball of radius r_3(x) about a generated x       the same
    density    mean over generated x of (number of balls r_5(y) that hold x) / 5               Naeem et al. 2020, eq. 4
    coverage   share of held-out y whose ball r_5(y) holds some generated x                    the same, eq. 5
with <= for the first two and < for the last two, as published; k = 3 and k = 5 are the papers' defaults.
Precision and density are means over generated samples given the held-out half: t over shards. Recall and coverage are
not means over generated samples and grow with their number: they are computed in 10 blocks (of 90, at n = 900) against
the whole held-out half, t over blocks, and n is the block's. A perfect sampler reaches the floor's value, not 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.metrics import Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.statistics import t_interval

NEIGHBOURS = 3
NEIGHBOURS_NAEEM = 5
BLOCKS = 10


def distances(a: Tensor, b: Tensor) -> Tensor:
    """[n,d], [m,d] -> [n,m] Euclidean. By differences: by a product, equal rows come out up to 1e-7 apart."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def radii(rows: Tensor, k: int) -> Tensor:
    """[n]: the distance of every row to its k-th nearest other row."""
    if rows.shape[0] <= k:
        raise ValueError(f"samples: {rows.shape[0]} in a set, expected more than k = {k}")
    own = distances(rows, rows).fill_diagonal_(torch.inf)  # not itself, though there may be equal rows
    return own.topk(k, largest=False).values[:, -1]


def inside(to_centres: Tensor, radius: Tensor) -> Tensor:
    """[n,m] distances and [m] radii -> [n], whether a point lies in some closed ball."""
    return (to_centres <= radius).any(1)


def precision(generated: Tensor, reference: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """[n] 0 or 1 for each generated row; recall is the same function with its arguments exchanged."""
    return inside(distances(generated, reference), radii(reference, k)).double()


def _reference_radii(context: Context, k: int) -> Tensor:
    return context.once(("radii", k), lambda: radii(context.embedded_reference(), k))


def _cross(samples: Shards, context: Context) -> Tensor:
    rows = context.embedded(samples)
    return context.once_for(samples, "cross", lambda: distances(torch.cat(rows), context.embedded_reference()))


def _over_shards(name: str, values: Tensor, samples: Shards, context: Context) -> Scores:
    means = [part.mean().item() for part in values.split([shard.shape[0] for shard in samples])]
    return {name: t_interval(means, context.level, n=values.numel(), over="shards")}


def score_precision(samples: Shards, context: Context) -> Scores:
    held = inside(_cross(samples, context), _reference_radii(context, NEIGHBOURS))
    return _over_shards("precision", held.double(), samples, context)


def score_density(samples: Shards, context: Context) -> Scores:
    k = NEIGHBOURS_NAEEM
    balls = (_cross(samples, context) < _reference_radii(context, k)).sum(1)
    return _over_shards("density", balls.double() / k, samples, context)


def _by_block(samples: Shards, context: Context) -> list[tuple[Tensor, Tensor]]:
    """(features [b,d], distances [b,m] to the held-out half) of every block."""
    rows = blocks_of(context.embedded(samples), BLOCKS)
    return list(zip(rows, _cross(samples, context).split([len(block) for block in rows]), strict=True))


def _over_blocks(name: str, values: list[float], block: int, context: Context) -> Scores:
    return {name: t_interval(values, context.level, n=block)}


def score_recall(samples: Shards, context: Context) -> Scores:
    blocks = _by_block(samples, context)
    values = [inside(cross.mT, radii(rows, NEIGHBOURS)).double().mean().item() for rows, cross in blocks]
    return _over_blocks("recall", values, len(blocks[0][0]), context)


def score_coverage(samples: Shards, context: Context) -> Scores:
    blocks = _by_block(samples, context)
    radius = _reference_radii(context, NEIGHBOURS_NAEEM)
    values = [(cross.amin(0) < radius).double().mean().item() for _, cross in blocks]
    return _over_blocks("coverage", values, len(blocks[0][0]), context)


def _to_train(rows: Tensor, context: Context) -> Tensor:
    """[n] distance to the nearest training example, root mean square over the coordinates."""
    train = context.once("train rows", lambda: flat(context.train))
    return distances(rows, train).amin(1) / train.shape[1] ** 0.5


def score_nearest_train(samples: Shards, context: Context) -> Scores:
    """ratio: to the held-out data's own mean distance; far below 1 is memorisation, far above 1 is off the data."""
    held_out = context.once("held out to train", lambda: _to_train(flat(context.reference), context).mean().item())
    scores = _over_shards("nearest_train", _to_train(flat(torch.cat(list(samples))), context), samples, context)
    ratio = scores["nearest_train"].mapped(lambda value: value / held_out, "over the held-out mean")
    return scores | {"nearest_train_ratio": ratio}


def _floor_nearest_train(context: Context) -> Scores:
    """The held-out data in the samples' place; the training data themselves would score 0."""
    return score_nearest_train(list(context.reference.tensor_split(20)), context)


def _metric(name, title, unit, score, *, better="higher", ideal=1.0, needs="features", floor=None) -> Metric:
    floor = floor or (lambda context: score(context.train_shards(), context))
    return Metric(
        name=name, title=title, unit=unit, better=better, ideal=ideal, needs=frozenset({needs}),
        score=score, floor=floor,
    )  # fmt: skip


METRICS = (
    _metric("precision", "Precision", "share", score_precision),
    _metric("recall", "Recall", "share", score_recall),
    _metric("density", "Density", "balls / k", score_density),
    _metric("coverage", "Coverage", "share", score_coverage),
    _metric(
        "nearest_train", "Distance to the nearest training example", "RMS", score_nearest_train,
        better="ideal", ideal=None, needs="train", floor=_floor_nearest_train,
    ),
)  # fmt: skip
