"""Samples of many measurements together, against the prior that they were restored with.

If y has the law of measurements of the prior, exact posterior samples of many y have the prior's law between them: the
integral of p(x0 | y) p(y) over y is p(x0). What an earlier stage of a cascade made in place of y shows here.

prior_frechet   Frechet distance (frechet.py, in pixels: d <= 64) of all samples to the prior's atoms, or to PRIOR exact
                draws of another law: jackknife over 10 blocks of measurements, below 20 measurements of samples. Few
                measurements have not the prior's law between them: make the job with few shards, each begins with the
                first measurement.
The floor is exact posterior samples of the same measurements, whatever made these.
"""

from __future__ import annotations

import torch

from benchmarks.metrics import ADDRESS, Context, Metric, Scores, Shards, flat
from benchmarks.metrics.frechet import Factor, distance, factor, joined
from benchmarks.metrics.inverse import exact_shards
from benchmarks.statistics import jackknife
from reference_impls.core.draws import Philox

BLOCKS = 10
PRIOR = 2**14


def prior_factor(context: Context) -> Factor:
    prior = context.problem.prior
    atoms = getattr(prior, "atoms", None)
    if atoms is not None and not getattr(prior, "blur", 0):
        return factor(flat(atoms))
    like = torch.empty(PRIOR, *context.problem.shape, dtype=torch.float64)
    return factor(flat(prior.sample(Philox(context.seed, PRIOR).at(ADDRESS + 2), like)))


def score(samples: Shards, context: Context) -> Scores:
    group, rows = torch.cat(list(context.group)).cpu(), flat(torch.cat(list(samples)))
    several = len(group.unique()) >= 2 * BLOCKS
    over = "blocks of measurements" if several else "blocks"
    parts = group.argsort(stable=True).tensor_split(BLOCKS)
    if several:
        parts = [torch.isin(group, few).nonzero()[:, 0] for few in group.unique().tensor_split(BLOCKS)]
    reference = context.once("prior factor", lambda: prior_factor(context))
    blocks = [factor(rows[part]) for part in parts]
    left_out = [distance(joined(blocks[:j] + blocks[j + 1 :]), reference) for j in range(BLOCKS)]
    found = jackknife(distance(joined(blocks), reference), left_out, list(map(len, parts)), context.level, over=over)
    return {"prior_frechet": found}


METRICS = (
    Metric(
        name="prior_frechet", title="Frechet distance to the prior", unit="state^2", better="lower", ideal=0.0,
        needs=frozenset({"posterior"}), score=score, floor=lambda context: score(exact_shards(context), context),
    ),
)  # fmt: skip
