"""Posterior samples of an inverse problem against its exact posterior.

Sample i answers measurement group[i] of context.problem. What is averaged are measurements where there are two or more
(one value each: t over measurements), otherwise the samples given the one measurement (t over shards or 10 blocks).
psnr             10 log10(peak^2 / MSE) to the truth, mean over samples, dB; a blurred mean scores above exact samples.
edge_error       RMS over pixels of the 3x3 Laplacian (8, around it -1) of (sample - truth), zeros outside, mean over
                 samples: the error at high frequencies. Images [C,H,W] only.
data_fit         root mean square of (y - A x)/noise_std. If y comes from the prior, exact samples have 1.
posterior_error  RMS over coordinates of (mean of a measurement's samples - exact posterior mean): above 0 for exact
                 samples too, as n is the number of samples in one mean: the floor has the same.
diversity        RMS over coordinates of the standard deviation among the samples of one measurement.
posterior_energy energy distance (energy.py, unbiased) of a measurement's samples and as many times EXACT exact ones.
The floor is exact posterior samples in the same layout; posterior_error and posterior_energy rank by nature, the others
are read against the floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.metrics import ADDRESS, Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.metrics.energy import energy
from benchmarks.statistics import Interval, t_interval
from reference_impls.core.draws import Philox

PEAK = 2.0  # of images in [-1, 1]
BLOCKS = 10
EXACT = 4  # exact posterior samples for each one that they are compared with


def over_samples(values: Tensor, samples: Shards, context: Context) -> Interval:
    """Mean of one value per sample: t over the means of the measurements, or over shards where there is only one."""
    group = torch.cat(list(context.group)).cpu()
    several = group.min() != group.max()
    parts = [values[group == g] for g in group.unique()] if several else values.split([len(shard) for shard in samples])
    over = "measurements" if several else "shards"
    return t_interval([part.mean().item() for part in parts], context.level, n=len(values), over=over)


def over_sets(value: Callable[[Tensor, int], float], samples: Shards, context: Context) -> Interval:
    """Mean of value(rows [s,d], measurement) over the sets of samples of one measurement each, or over 10 blocks."""
    group, rows = torch.cat(list(context.group)).cpu(), flat(torch.cat(list(samples)))
    found = group.unique()
    if len(found) > 1:
        sets, over = [(rows[group == g], int(g)) for g in found], "measurements"
    else:
        sets, over = [(flat(block), int(found)) for block in blocks_of(samples, BLOCKS)], "blocks"
    least = min(len(part) for part, _ in sets)
    if least < 2:
        raise ValueError(f"group: {least} sample of a measurement, expected at least 2; draw several for each")
    return t_interval([value(part, g) for part, g in sets], context.level, n=least, over=over)


def score_psnr(samples: Shards, context: Context) -> Scores:
    error = flat(torch.cat(list(samples))) - flat(torch.cat(list(context.truth)))
    decibels = 10 * torch.log10(PEAK**2 / error.square().mean(1).clamp(min=1e-20))  # equal images stop at 206 dB
    return {"psnr": over_samples(decibels, samples, context)}


def score_edge_error(samples: Shards, context: Context) -> Scores:
    error = (torch.cat(list(samples)).cpu() - torch.cat(list(context.truth)).cpu()).double()
    kernel = torch.full((3, 3), -1.0, dtype=torch.float64)
    kernel[1, 1] = 8.0
    edges = torch.nn.functional.conv2d(error.reshape(-1, 1, *error.shape[2:]), kernel[None, None], padding=1)
    return {"edge_error": over_samples(edges.reshape(len(error), -1).square().mean(1).sqrt(), samples, context)}


def score_data_fit(samples: Shards, context: Context) -> Scores:
    group = torch.cat(list(context.group)).cpu()
    rows = torch.cat(list(samples)).detach().to("cpu", torch.float64)
    measurement = context.problem.measurement
    residual = (measurement.operator.forward(rows) - measurement.y[group]) / measurement.noise_std
    squares = over_samples(residual.square().mean(1), samples, context)
    return {"data_fit": squares.mapped(lambda square: math.sqrt(max(square, 0.0)), "root of the mean square")}


def score_posterior_error(samples: Shards, context: Context) -> Scores:
    exact = context.once("posterior mean", lambda: flat(context.problem.posterior_mean))

    def error(rows: Tensor, g: int) -> float:
        return (rows.mean(0) - exact[g]).square().mean().sqrt().item()

    return {"posterior_error": over_sets(error, samples, context)}


def score_diversity(samples: Shards, context: Context) -> Scores:
    return {"diversity": over_sets(lambda rows, g: rows.var(0).mean().sqrt().item(), samples, context)}


def score_posterior_energy(samples: Shards, context: Context) -> Scores:
    group = torch.cat(list(context.group)).cpu()
    every = group.sort().values.repeat(EXACT)  # whatever the order of the samples
    exact = flat(context.once(("posterior samples", tuple(every.tolist())), lambda: drawn(every, context, 1)))

    def distance(rows: Tensor, g: int) -> float:
        return energy(rows, exact[every == g])

    return {"posterior_energy": over_sets(distance, samples, context)}


def drawn(group: Tensor, context: Context, copy: int) -> Tensor:
    """Exact posterior samples, one for each entry of group [n]: float64 [n,*D]. copy: draws of another make others."""
    like = torch.empty(len(group), *context.problem.shape, dtype=torch.float64)
    draws = Philox(context.seed, len(group)).at(ADDRESS + copy)
    one = context.problem.measurement.y.shape[0] == 1
    posterior = context.problem.posterior if one else context.problem.rows(group).posterior
    return posterior.sample(draws, like)


def exact_shards(context: Context) -> list[Tensor]:
    """Exact posterior samples in the job's layout."""
    group = torch.cat(list(context.group)).cpu()
    samples = context.once(("posterior samples", tuple(group.tolist())), lambda: drawn(group, context, 0))
    return list(samples.split([len(shard) for shard in context.group]))


def _metric(name: str, title: str, unit: str, better, score, needs: tuple[str, ...] = ()) -> Metric:
    return Metric(
        name=name, title=title, unit=unit, better=better, ideal=0.0 if better == "lower" else None,
        needs=frozenset({"posterior", *needs}), score=score,
        floor=lambda context: score(exact_shards(context), context),
    )  # fmt: skip


METRICS = (
    _metric("psnr", "PSNR of the samples", "dB", "higher", score_psnr, ("truth",)),
    _metric("edge_error", "Error at high frequencies", "RMS", "lower", score_edge_error, ("truth",)),
    _metric("data_fit", "Residual in units of the noise", "RMS", "ideal", score_data_fit),
    _metric("posterior_error", "Error of the posterior mean", "RMS", "lower", score_posterior_error),
    _metric("diversity", "Spread of the posterior samples", "RMS", "ideal", score_diversity),
    _metric("posterior_energy", "Energy distance to the posterior", "state", "lower", score_posterior_energy),
)
