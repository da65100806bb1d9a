"""lu2022dpmsolverpp - DPM-Solver++(2M): exponential multistep integration of the data prediction in log-SNR.

Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
Machine Intelligence Research 2025, arXiv:2211.01095. Official code: LuChengTHU/dpm-solver (MIT).
Path        x_t = alpha_t x0 + sigma_t eps, vp-linear, lam = log(alpha/sigma); the paper steps s -> t, we step t -> s.
Loss        none: training free.
Step        h = lam_s - lam_t, r = (previous h)/h;
            x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) [D_t + (D_t - D_before)/(2 r)]; memory: D_before, the
            step before's D. First step, and any step to sigma_s = 0: without the bracket's second term.    [alg. 2]
Cost        NFE = steps. Order 2, start-up included. Deterministic.
Exact when  point mass, any step; every path with the same rho gives the same x/alpha; order = 1 is DDIM.
Differs     The second term is the midpoint form ("dpm"), which is second order but not exact for a mean linear in lam
            (the "taylor" form is). lower_order_final: the docstring of the code says below 15 steps, its code below 10:
            the code is followed. It refuses one step at order 2: here that is the first-order step. Its grid "logSNR"
            is ours. The singlestep, third-order and SDE forms come with the solver shelf.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Paper, Reduction, Run, Sampler

FINAL_BELOW = 10  # lower_order_final acts below this many steps [code]


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + now D_t + before D_before
    now: Tensor
    before: Tensor


def plan(grid: Tensor, process: Process, *, order: int = 2, lower_order_final: bool = True) -> Plan:
    """Coefficients of every step. order 1 drops the multistep term everywhere: DDIM."""
    if order not in (1, 2):
        raise ValueError(f"order: {order!r}, expected 1 or 2")
    t, s = grids.checked(grid)[:-1], grid[1:]
    h = process.lam(s) - process.lam(t)
    weight = torch.zeros_like(h)  # 1/(2r)
    if order == 2:
        weight[1:] = torch.where(h[1:].isinf(), 0.0, h[1:] / h[:-1] / 2)  # no extrapolation to lam = inf
        if lower_order_final and h.shape[0] < FINAL_BELOW:
            weight[-1] = 0
    pull = -process.alpha(s) * torch.expm1(-h)
    return Plan(t, process.sigma(s) / process.sigma(t), pull * (1 + weight), -pull * weight)


def multistep(x: Tensor, row: Plan, mean_before: Tensor | None, *, model: Model, draws: Draws) -> tuple[Tensor, Tensor]:
    """Algorithm 2, one interval; memory is the mean of the interval before."""
    mean = model(x, row.t)
    x_s = torch.mul(x, row.keep).add_(mean, alpha=row.now)
    return (x_s.add_(mean_before, alpha=row.before) if row.before else x_s), mean


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    order: int = 2,
    lower_order_final: bool = True,
) -> Run:
    """2M from grid[0] to grid[-1]. x [B,*D]. Defaults: order 2 and lower_order_final as in the official sampler."""
    rows = plan(grid, process, order=order, lower_order_final=lower_order_final)
    return drive(rows, multistep, model, x, draws=draws)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="lu2022dpmsolverpp",
    title="DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    authors="Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu",
    venue="Machine Intelligence Research 2025",
    arxiv="2211.01095",
    code="LuChengTHU/dpm-solver",
    licence="MIT",
    samplers=(
        Sampler(
            id="lu2022dpmsolverpp.2m",
            sample=sample,
            grid=grids.uniform_lam,
            consumes="mean",
            path="vp-linear",
            nfe=evaluations,
            order=2.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),),
        ),
    ),
)
