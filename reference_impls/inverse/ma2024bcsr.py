"""ma2024bcsr - optimal boundary conditions: one starting noise, chosen on a few known images, restores all the others.

Ma, Yang, Yang, Fu, Liu, "Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image Super-Resolution",
ICLR 2024, arXiv:2305.15357. Official code: none published.
Path        x_t = alpha_t x0 + sigma_t eps; any. Tested in the paper on SR3's and StableSR's chains; here the cosine
            chain of the suite's enlarging networks, t = i/1000, t = 0 is clean data.
Loss        none: training free. A measure M of distance to the true image ranks starting noises.
Step        h(x_T, y): DDIM, x_s = (sigma_s/sigma_t) x_t + (alpha_s - alpha_t sigma_s/sigma_t) D(x_t, t, y); the idea
            holds for any deterministic solver. x* = argmin over K noises x^(k) of mean_r M(h(x^(k), y_r), z_r) on R
            known pairs (y_r, z_r); then h(x*, y) for every y, with the same solver and grid.
Cost        NFE = steps, and once K R steps to choose; metered together, spread over the batch. Order 1. Deterministic:
            one image for each y.
Exact when  point mass. Linear Gaussian, posterior N(m(y), U diag(w) U^T): on ve-edm from sigma_max to 0
            h = m(y) + U diag sqrt(w/(w + sigma_max^2)) U^T (x_T - m(y)): as sigma_max grows E|h - z|^2 tends to
            tr P + |P^(1/2) x_T|^2/sigma_max^2 with P free of y: every y ranks the noises alike, and the best of all is
            x_T = 0, which gives the posterior mean. The chosen score falls in K, for nested noises.
Differs     No code: K about 1,000, R about 300, DDIM and LPIPS are from memory [recall]; M here is a squared or an
            absolute difference, or any function given as `distance` (LPIPS, features). The argument for one noise for
            all y assumes p(y | h(x_T, no image)) about uniform; in the linear Gaussian case it is exact without. There
            M = "mse" moves along the distortion axis, towards the posterior mean; on digits it does not, in the ledger
            the chosen noise ends farther from the posterior mean than one taken at random. Without diversity it is in
            either case. Noises are drawn from the process's prior by a seed of their own: they belong to the tuning,
            which precedes all samples. A noise from which the solver blows up, a score that is not finite, is never
            chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.draws import Philox
from reference_impls.core.drive import drive
from reference_impls.core.options import counts
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Meter, Model, Pairs, Paper, Reduction, Run, Sampler, require

TRAINED = 1000  # length of the chain
ROWS = 1024  # images restored together while choosing

Distance = Callable[[Tensor, Tensor], Tensor]  # (restored [B,*D], true [B,*D]) -> [B], smaller is better
DISTANCES: dict[str, Distance] = {
    "mse": lambda x, z: (x - z).flatten(1).square().mean(1),
    "mae": lambda x, z: (x - z).flatten(1).abs().mean(1),
}


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D
    pull: Tensor


def plan(grid: Tensor, process: Process) -> Plan:
    """Coefficients of every step."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    ratio = process.sigma(s) / process.sigma(t)
    return Plan(t, ratio, process.alpha(s) - process.alpha(t) * ratio)


def ddim_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws | None) -> tuple[Tensor, None]:
    """One interval of the conditional flow."""
    return torch.mul(x, row.keep).add_(model(x, row.t), alpha=row.pull), None


def restore(model: Meter, x: Tensor, rows: Plan, condition: Any) -> Tensor:
    """h(x, y): x [B,*D] at the plan's first time, row b under row b of the condition."""
    return drive(rows, ddim_step, model.given(condition), x, draws=None).x


class Choice(NamedTuple):
    """x: the chosen noise [*D]; index: its place; scores: float64 [K], the mean distance on the reference set."""

    x: Tensor
    index: int
    scores: Tensor


def noises(candidates: int, like: Tensor, process: Process, seed: int) -> Tensor:
    """[candidates,*D] draws of the prior in like's dtype and device; the first k of more are the same k."""
    pool = Philox(seed, candidates, like.device).normal("candidate", like.new_empty(candidates, *like.shape[1:]))
    return pool * process.prior_std


def choose(model: Meter, pool: Tensor, rows: Plan, reference: Pairs, distance: Distance) -> Choice:
    """The noise of pool [K,*D] that restores the reference pairs best, the first of equal ones.

    A score that is not finite counts as the worst; raises ValueError if no score is finite.
    """
    scores, count = [], reference.x0.shape[0]
    index = torch.arange(pool.shape[0] * count, device=pool.device)
    for part in index.split(ROWS):
        k, r = part // count, part % count
        end = restore(model, pool[k], rows, reference.condition[r])
        scores.append(distance(end, reference.x0[r]).double())
    mean = torch.cat(scores).reshape(pool.shape[0], count).mean(1)
    finite = mean.isfinite()
    if not finite.any():
        raise ValueError(
            f"distance: not finite from any of {len(pool)} noises, expected it from one at least; check the model"
        )
    best = int(torch.where(finite, mean, math.inf).argmin())
    return Choice(pool[best], best, mean)


def check_condition(condition: Any, rows: int) -> None:
    """Raises ValueError unless the condition is a tensor with so many rows."""
    found = tuple(condition.shape) if isinstance(condition, Tensor) else type(condition).__name__
    if not isinstance(condition, Tensor) or condition.ndim == 0 or condition.shape[0] != rows:
        raise ValueError(f"condition: {found}, expected a tensor of {rows} rows, one for each row of x")


def measure_of(distance: str | Distance) -> Distance:
    """The function of that name, or the function itself."""
    if isinstance(distance, str) and distance in DISTANCES:
        return DISTANCES[distance]
    if not callable(distance):
        known = ", ".join(DISTANCES)
        raise ValueError(f"distance: {distance!r} is not known; expected one of {known}, or a function")
    return distance


def few_of(reference: Pairs, references: int, x: Tensor, condition: Tensor, measure: Distance) -> Pairs:
    """The first `references` pairs (0: all); ValueError unless they are like x and its condition, and measured."""
    if not isinstance(reference, Pairs) or not all(isinstance(part, Tensor) and part.ndim for part in reference):
        said = "expected Pairs(x0, condition) of two tensors, row by row"
        raise ValueError(f"reference: {type(reference).__name__}, {said}; see types.Pairs")
    (known, *each), (seen, *like) = (list(part.shape) for part in reference)
    if known != seen or each != list(x.shape[1:]) or like != list(condition.shape[1:]):
        raise ValueError(
            f"reference: x0 {[known, *each]} and condition {[seen, *like]}, expected as many of either, shaped like x, "
            f"{list(x.shape[1:])}, and the condition, {list(condition.shape[1:])}"
        )
    if not isinstance(references, int) or not 0 <= references <= known or known == 0:
        raise ValueError(f"references: {references!r} of {known} pairs, expected 0 (all) to {known}; give more pairs")
    few = Pairs(*(part[: references or known] for part in reference))
    two = few.x0[:2]
    found = measure(two, two)
    if not isinstance(found, Tensor) or found.shape != two.shape[:1]:
        found = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"distance: gives {found} for {len(two)} pairs, expected one number for each pair, [B]")
    return few


def sample(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, condition: Any) -> Run:
    """h from each row's own noise x [B,*D], grid[0] to grid[-1]: what choosing is compared with.

    Raises ValueError for a condition of other rows than x.
    """
    check_condition(condition, x.shape[0])
    meter = require(model, "mean", x.shape[0])
    return Run(restore(meter, x, plan(grid, process), condition), meter.nfe)


def sample_chosen(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    condition: Any,
    reference: Pairs,
    candidates: int = 1000,
    references: int = 0,
    pool_seed: int = 0,
    distance: str | Distance = "mse",
) -> Run:
    """h from one noise for all rows; of x [B,*D] only shape, dtype and device matter.

    reference: known pairs, their conditions like `condition`; candidates K 1,000 [recall]; references R, the first so
    many pairs (0: all); pool_seed: of the candidates; distance: a key of DISTANCES, or a function like those there.
    memory of the run: the Choice.
    Raises ValueError, before the model is evaluated: candidates < 1, pairs that do not match each other or x, more
    references than there are, a condition of other rows than x, an unknown distance or one that is not [B]. After it:
    if no noise has a finite score.
    """
    counts(1, candidates=candidates)
    check_condition(condition, x.shape[0])
    measure = measure_of(distance)
    few = few_of(reference, references, x, condition, measure)
    meter, rows = require(model, "mean", x.shape[0]), plan(grid, process)
    choice = choose(meter, noises(candidates, x, process, pool_seed), rows, few, measure)
    return Run(restore(meter, choice.x.expand_as(x), rows, condition), meter.nfe, memory=choice)


def spread_subsequence(steps: int, process: Process) -> Tensor:
    """Times ceil(1000 i/steps)/1000 down to clean data; steps in 1..1000 on a path with t_max = 1."""
    if process.t_max != 1:
        raise grids.BadGrid(f"grid: the chain ends at t = 1, but {process.name} at {process.t_max:g}; use the grid t")
    if steps not in range(1, TRAINED + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; for more use the grid t")
    return grids.checked(-(-torch.arange(steps, -1, -1) * TRAINED // steps).double() / TRAINED)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="ma2024bcsr",
    title="Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image Super-Resolution",
    authors="Yiyang Ma, Huan Yang, Wenhan Yang, Jianlong Fu, Jiaying Liu",
    venue="ICLR 2024",
    arxiv="2305.15357",
    code="none published",
    licence="none",
    samplers=(
        Sampler(
            id="ma2024bcsr.chosen",
            sample=sample_chosen,
            grid=spread_subsequence,
            consumes="mean",
            path="discrete-cosine",
            needs=frozenset({"condition", "reference"}),
            condition="image",
            exact_on=frozenset({"delta"}),
        ),
        Sampler(
            id="ma2024bcsr.random",
            sample=sample,
            grid=spread_subsequence,
            consumes="mean",
            path="discrete-cosine",
            needs=frozenset({"condition"}),
            condition="image",
            nfe=evaluations,
            order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(Reduction({}, "song2020ddim.ddim"),),
            baseline=True,
        ),
    ),
)
