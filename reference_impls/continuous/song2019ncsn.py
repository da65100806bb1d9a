"""song2019ncsn - NCSN: learn the score at falling noise levels, sample by Langevin dynamics from level to level.

Song, Ermon, "Generative Modeling by Estimating Gradients of the Data Distribution", NeurIPS 2019, arXiv:1907.05600.
Official code: ermongroup/ncsn (GPL-3.0; formulas only).
Path        x = x0 + sigma_i z, sigma_1 > .. > sigma_L geometric; the paper's ten run from 1 to .01 (`unit_levels`) on
            images in [0,1], dequantised as x 255/256 + U/256. Our t is any path's with alpha, sigma > 0; the levels
            are a grid's times after its first, in training (`level_times`) as in sampling: L = steps, sigma_L at the
            grid's end. On ve-geo evenly spaced t are geometric levels.                                         [sec. 4]
Loss        sigma_i^2/2 |s(x, i) + (x - x0)/sigma_i^2|^2, summed over the sample, i uniform on the levels.    [eq. 5, 6]
Step        inner (T) times at each level: x <- x + d s + sqrt(2 d) z, d = rate sigma_i^2; then the next level. [alg. 1]
            denoise: x + sigma_L^2 s at the end, which is alpha D.
Cost        NFE = steps inner, one more to denoise. Stochastic; no order: the chain must settle at each level instead.
Exact when  on p_sigma = N(m, v): the variance goes to (1 - d/v)^2 var + 2 d in each step, to v/(1 - d/(2v)) in the end
            and away if d >= 2 v. Without noise it climbs log p_sigma and rests where s = 0.
Differs     Algorithm 1 has x + (a/2) s + sqrt(a) z, a = 2e-5 sigma_i^2/sigma_L^2, so d = .1 sigma_i^2 (rate .1), and
            so has the form of the official toy script; the official image sampler adds d s + sqrt(2 d) z with
            d = 2e-5 sigma_i^2/sigma_L^2: rate .2, twice the paper's. The rate is ours: theirs is 2e-5 at sigma_L = .01.
            The image sampler returns what it had BEFORE each update, clamped to [0,1], so that its last state is never
            seen (as_returned; it is not computed here). Neither denoises: the end has the noise of sigma_L, and its
            variance there is 5 % (rate .1) or 11 % (.2) too large where the data are a point. Sliced score matching,
            inpainting (both calls pass 2e-5, rate .2; the 8e-6 of its signature is never used) and one level's Langevin
            dynamics, also in the code, are not here; the last is a grid of one interval. The numbers of equations and
            sections are recalled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import CHUNK_BYTES, drive
from reference_impls.core.options import counts
from reference_impls.core.process import Process, ve_geo
from reference_impls.core.types import Draws, Model, Objective, Paper, Run, Sampler, expand, require

PAPER_RATE, CODE_RATE = 0.1, 0.2  # d/sigma^2 of algorithm 1 and of runners/anneal_runner.py, both with 2e-5 and .01
LEVELS = 10  # L of the paper


def unit_levels(levels: int = LEVELS) -> Process:
    """The paper's levels, sigma = 1 at t = 1 down to .01 at t = 0; t_max lies one level above, for a grid's first time.

    uniform_t(levels, it) then has exactly them after its first time. Raises ValueError.
    """
    counts(2, levels=levels)
    return ve_geo(0.01, 1.0, t_min=0.0, t_max=1 + 1 / (levels - 1))


class Plan(NamedTuple):
    s: Tensor
    pull: Tensor  # x <- x + (pull D - back x + noise z)
    back: Tensor
    noise: Tensor
    inner: Tensor


def plan(grid: Tensor, process: Process, *, rate: float = PAPER_RATE, inner: int = 100) -> Plan:
    """Coefficients of every level, the grid's times after its first. Raises ValueError and BadGrid."""
    counts(1, inner=inner)
    if not 0 < rate < math.inf:
        raise ValueError(f"rate: {rate!r}, expected a number > 0")
    s = grids.checked(grid)[1:]
    alpha, sigma = process.alpha(s), process.sigma(s)
    if not (sigma > 0).all():
        raise grids.BadGrid(
            f"grid: ends at {s[-1].item():g}, where sigma = 0 and Langevin's step is 0; end it at a level with noise"
        )
    rates = torch.full_like(s, rate)  # d s = rate sigma^2 (alpha D - x)/sigma^2
    return Plan(s, rates * alpha, rates, (2 * rates).sqrt() * sigma, torch.full_like(s, inner))


def level_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """All updates at one level; their noise is drawn in blocks, at addresses (level, update)."""
    chunk = max(1, CHUNK_BYTES // max(1, x.numel() * x.element_size()))
    for first in range(0, int(row.inner), chunk):
        for z in draws.block(range(first, min(first + chunk, int(row.inner))), "langevin", x):
            move = torch.mul(z, row.noise).add_(model(x, row.s), alpha=row.pull).sub_(x, alpha=row.back)
            x = move.add_(x)  # small moves add up first, so that each update rounds the state once
    return x, None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    rate: float = PAPER_RATE,
    inner: int = 100,
    denoise: bool = False,
    as_returned: bool = False,
) -> Run:
    """Annealed Langevin dynamics over the levels grid[1:], from any x [B,*D].

    rate: d/sigma^2, .1 in the paper, .2 in its code; inner (T) 100: both. denoise: one Tweedie step at the end, a later
    addition. as_returned: the official code's result, the state before the last update, clamped to [0,1].
    Raises ValueError for rate <= 0, inner no integer >= 1 or both of the last two, BadGrid where sigma = 0.
    """
    if denoise and as_returned:
        raise ValueError("denoise, as_returned: both True, expected at most one; the official code does not denoise")
    rows = plan(grid, process, rate=rate, inner=inner)
    if as_returned:
        rows.inner[-1] -= 1
    meter = require(model, "mean", x.shape[0])
    end = drive(rows, level_step, meter, x, draws=draws).x
    if denoise:
        last = rows.s[-1].item()
        end = meter(end, last) * process.alpha(last)
    return Run(end.clamp(0, 1) if as_returned else end, meter.nfe)


def level_times(process: Process, levels: int = LEVELS) -> Tensor:
    """Times of `levels` levels, rho geometric down to t_min: the sampler's in so many steps; float64 [levels]."""
    return grids.uniform_lam(levels, process)[1:]


def loss(
    model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, power: float = 2.0
) -> Tensor:  # fmt: skip
    """sigma^power/2 |s - target|^2 summed, [B]: s - target = alpha (D - x0)/sigma^2. power 2: the code's."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    error = expand(alpha / sigma**2, x0) * (model(process.noised(x0, t, noise), t) - x0)
    return (sigma**power / 2).to(x0.device, x0.dtype) * error.flatten(1).square().sum(1)


def uniform_levels(u: Tensor, process: Process, *, levels: int = LEVELS) -> Tensor:
    """One of the levels, all equally likely: u [B] in (0,1) -> t [B]."""
    return level_times(process, levels).to(u.device)[(u.double() * levels).long().clamp(max=levels - 1)]


def start_uniform(draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]) -> Tensor:
    """Uniform on [0,1], like the images of the paper."""
    return draws.uniform("start", tuple(like.shape)).to(like.device, like.dtype)


def evaluations(grid: Tensor, *, inner: int = 100) -> float:
    return float(inner * (grid.shape[0] - 1))


def _card(name: str, **fields: Any) -> Sampler:
    return Sampler(
        id=f"song2019ncsn.{name}", grid=grids.uniform_t, consumes="mean", path="ve-geo", start=start_uniform,
        nfe=evaluations, stochastic=True, symmetric=frozenset({"rotation"}), **fields,
    )  # fmt: skip


PAPER = Paper(
    key="song2019ncsn",
    title="Generative Modeling by Estimating Gradients of the Data Distribution",
    authors="Yang Song, Stefano Ermon",
    venue="NeurIPS 2019",
    arxiv="1907.05600",
    code="ermongroup/ncsn",
    licence="GPL-3.0",
    samplers=(
        _card("langevin", sample=sample),
        _card(
            "langevin_code", sample=partial(sample, rate=CODE_RATE), variant=True,
            known_failures={
                "every_interval_is_used": "a level's hundred updates forget where they began, to 1e-9 and less"
            },
        ),
    ),
    objectives=(
        Objective(
            id="song2019ncsn.dsm", loss=loss, minimiser="mean", path="ve-geo", times=uniform_levels,
        ),
    ),
)  # fmt: skip
