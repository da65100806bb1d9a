"""karras2022edm - EDM: sigma as the time variable, a preconditioned denoiser, and Heun's method with optional churn.

Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022,
arXiv:2206.00364. Official code: NVlabs/edm (CC BY-NC-SA 4.0; formulas only).
Path        x_t = x0 + t eps, t in [.002, 80] (ve-edm; the paper's sigma is our t). The general form holds on any path:
            s(t) = alpha_t, sig(t) = rho_t = sigma_t/alpha_t. Steps go t -> s, s < t.                       [eq. 1, 4]
Loss        (rho^2 + sd^2)/(rho sd)^2 |D(x0 + rho eps; rho) - x0|^2, summed over a sample; log rho ~ N(-1.2, 1.2^2).
            D(x; rho) = c_skip x + c_out F(c_in x; c_noise).                                      [eq. 7, 8; table 1]
Step        churn: rho_h = rho_t (1 + gamma), x_h = alpha_h (x/alpha_t + S_noise sqrt(rho_h^2 - rho_t^2) z);
            d = u(x_h, h), x' = x_h + (s - h) d, x_s = x_h + (s - h) (d + u(x', s))/2; at s = 0 only x'.
            u = alpha' D + sigma' e is the velocity; on ve-edm u = (x - D)/t.                           [alg. 1, 2]
Cost        NFE = 2 steps, less one if the grid ends at 0. Order 2. No memory, no ramp-up.
Exact when  point mass on ve-edm: one step of any size. N(0, sd^2 I): F = 0 is optimal and the loss is 1 per dimension.
            churn = 0 equals the deterministic sampler bit for bit; the churn step alone maps p_t to p_h.
            (k t_min, k t_max) and data k x0 return k x.
Differs     The official grid is 0/0 at one step: here that is [t_max, 0], so x = D(x; t_max). Churn's gamma divides by
            the number of intervals, the last one to 0 included, as in the code. S_noise = 1.003 inflates the marginals
            on purpose: laws of order and exactness are declared at S_noise = 1. Nothing is rounded to stored levels.
            Where gamma = 0 the code's general sampler still adds the rounding of its level times a draw (1e-6 on VP):
            here nothing. Its Euler and alpha != 1 forms, and table 1's other columns, come with the solver shelf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Objective, Paper, Predictor, Run, Sampler, Time, expand


class Plan(NamedTuple):
    t: Tensor  # where the step is entered after churn (h in the docstring)
    s: Tensor
    scale: Tensor  # x_h = scale x + noise z
    noise: Tensor
    euler_x: Tensor  # x' = euler_x x_h + euler_mean D
    euler_mean: Tensor
    half_x: Tensor  # x_s = half_x x_h + half_mean D + half_x_s x' + half_mean_s D'
    half_mean: Tensor
    half_x_s: Tensor
    half_mean_s: Tensor


def plan(
    grid: Tensor,
    process: Process,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Plan:
    """Coefficients of every step. churn (S_churn), its range in rho (S_min, S_max), its noise factor (S_noise): alg. 2.

    An interval that ends at 0 has no second stage, as in the code: those coefficients are not used, and not finite
    where sigma = 0. On a process with a last knot, churn reaches no further than that.
    """
    t, s = grids.checked(grid)[:-1], grid[1:]
    rho = process.rho(t)
    gamma = min(churn / t.shape[0], math.sqrt(2) - 1) * ((rho >= churn_min) & (rho <= churn_max)).double()
    raised = process.time_of_logsnr(-(rho * (1 + gamma)).log()) if churn > 0 else t
    h = torch.where(gamma > 0, raised, t)
    scale = process.alpha(h) / process.alpha(t) if churn > 0 else torch.ones_like(t)
    gamma = (process.rho(h) / rho - 1).clamp(min=0)  # as reached: a chain has no level beyond its last knot
    added = process.alpha(h) * rho * (gamma * (2 + gamma)).sqrt() * churn_noise if churn > 0 else torch.zeros_like(t)

    def velocity(time: Tensor) -> tuple[Tensor, Tensor]:  # u = growth x + pull D
        alpha_rate, sigma_rate = process.rates(time)
        growth = sigma_rate / process.sigma(time)
        return growth, alpha_rate - growth * process.alpha(time)

    (growth_h, pull_h), (growth_s, pull_s), step = velocity(h), velocity(s), s - h
    half = step / 2
    return Plan(
        h, s, scale, added, 1 + step * growth_h, step * pull_h,
        1 + half * growth_h, half * pull_h, half * growth_s, half * pull_s,
    )  # fmt: skip


def heun_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """Algorithm 2, one interval. A churned row adds the draw "churn" before anything is evaluated."""
    if row.noise > 0:
        x = torch.mul(x, row.scale).add_(draws.normal("churn", x), alpha=row.noise)
    mean_h = model(x, row.t)
    ahead = torch.mul(x, row.euler_x).add_(mean_h, alpha=row.euler_mean)
    if row.s == 0:
        return ahead, None
    mean_s = model(ahead, row.s)
    end = torch.mul(x, row.half_x).add_(mean_h, alpha=row.half_mean)
    return end.add_(ahead, alpha=row.half_x_s).add_(mean_s, alpha=row.half_mean_s), None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Run:
    """Heun's method from grid[0] to grid[-1]. x [B,*D]. Defaults: the deterministic sampler (algorithm 1)."""
    rows = plan(grid, process, churn=churn, churn_min=churn_min, churn_max=churn_max, churn_noise=churn_noise)
    return drive(rows, heun_step, model, x, draws=draws, tags=("churn",) if churn > 0 else ())


def evaluations(grid: Tensor) -> float:
    return 2.0 * (grid.shape[0] - 1) - float(grid[-1] == 0)


def precondition(net: Callable[[Tensor, Tensor], Tensor], *, process: Process, sigma_data: float = 0.5) -> Predictor:
    """D(x; rho) = c_skip x + c_out net(c_in x, c_noise) of table 1, last column, as a mean on any path.

    net: (x [B,*D] of unit variance, c_noise [B] = log(rho)/4) -> [B,*D], cast to x's dtype here.
    sigma_data .5: standard deviation of the data, as in the paper for images in [-1,1].
    """

    def predict(x: Tensor, t: Time) -> Tensor:
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        rho = process.rho(rows)
        spread = (rho**2 + sigma_data**2).sqrt()
        skip, out = sigma_data**2 / spread**2, rho * sigma_data / spread
        level = expand(1 / spread / process.alpha(rows), x)
        raw = net(level * x, (rho.log() / 4).to(x.device, x.dtype)).to(x.dtype)
        return expand(skip / process.alpha(rows), x) * x + expand(out, x) * raw

    return Predictor("mean", predict)


def loss(
    model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, sigma_data: float = 0.5
) -> Tensor:
    """Weighted squared error of the mean, [B]: lambda(rho) |D - x0|^2 summed over the sample (training/loss.py)."""
    weight = (process.rho(t) ** 2 + sigma_data**2) / (process.rho(t) * sigma_data) ** 2
    error = model(process.noised(x0, t, noise), t) - x0
    return weight.to(x0.device, x0.dtype) * error.flatten(1).square().sum(1)


def lognormal_times(u: Tensor, process: Process, *, location: float = -1.2, scale: float = 1.2) -> Tensor:
    """log rho ~ N(-1.2, 1.2^2) (P_mean, P_std of the paper) as an inverse CDF: u [B] in (0,1) -> t [B]."""
    return process.time_of_logsnr(-(location + scale * torch.special.ndtri(u.double())))


PAPER = Paper(
    key="karras2022edm",
    title="Elucidating the Design Space of Diffusion-Based Generative Models",
    authors="Tero Karras, Miika Aittala, Timo Aila, Samuli Laine",
    venue="NeurIPS 2022",
    arxiv="2206.00364",
    code="NVlabs/edm",
    licence="CC BY-NC-SA 4.0",
    samplers=(
        Sampler(
            id="karras2022edm.heun",
            sample=sample,
            grid=grids.power_to_zero(7.0),
            consumes="mean",
            path="ve-edm",
            nfe=evaluations,
            order=2.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation"}),
        ),
        Sampler(
            id="karras2022edm.churn",
            # S_churn 40, S_min .05, S_max 50, S_noise 1.003: the published ImageNet-64 setting (README)
            sample=partial(sample, churn=40.0, churn_min=0.05, churn_max=50.0, churn_noise=1.003),
            grid=grids.power_to_zero(7.0),
            consumes="mean",
            path="ve-edm",
            nfe=evaluations,
            stochastic=True,
            weak_order=2.0,
            exact_options={"churn_noise": 1.0, "churn": 8.0},
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation"}),
        ),
    ),
    objectives=(
        Objective(id="karras2022edm.loss", loss=loss, minimiser="mean", path="ve-edm", times=lognormal_times),
    ),
    parametrisations={"edm": precondition},
)
