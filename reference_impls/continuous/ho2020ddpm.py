"""ho2020ddpm - DDPM: a Markov chain of small Gaussian noisings inverted by Gaussian kernels trained as denoisers.

Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, arXiv:2006.11239.
Official code: hojonathanho/diffusion (no licence file; formulas only).
Path        x_t = alpha_t x0 + sigma_t eps at t = i/1000, alpha_t^2 = prod_{j<=i} (1 - beta_j), beta linear 1e-4 .. .02
            (the paper's alpha-bar is our alpha_t^2, its alpha_t our (alpha_t/alpha_s)^2). t = 0 is clean data.
Loss        L_simple: mean over dimensions of |eps - eps_hat|^2, t uniform on the knots 1/T .. 1.               [eq. 14]
            L_vlb: one term of the bound, T KL(q(x_s|x_t,x0) || p(x_s|x_t)), s = t - 1/T, t uniform on 2/T .. 1. [eq. 5]
Step        x_s = c_mean D + c_x x_t + sqrt(v) z, the posterior q(x_s | x_t, x0 = D):
            c_mean = alpha_s b/sigma_t^2, c_x = (alpha_t/alpha_s) sigma_s^2/sigma_t^2,
            b = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2;
            v = b sigma_s^2/sigma_t^2 ("small") or b ("large"); no noise on the last step.            [eq. 7, alg. 2]
Cost        NFE = steps; stochastic; weak order 1. Strided chains rebuild beta from the kept knots.
Exact when  small: point masses; large: N(0, I) data (on a variance-preserving path);
            v = b sigma_s^2/sigma_t^2 + c_mean^2 Var[x0|x_t] is exact on every isotropic Gaussian.
            L_simple and each L_vlb term t >= 2/T have the same minimiser.
Differs     The official sampler clips D to [-1,1]: option clip, off by default, for it breaks every Gaussian law.
            "large" uses the small variance of index 2 at index 1, where no noise is added anyway. The code casts
            coefficients to float32 on look-up: here they are float64 and cast last. The even subsequence is that of
            openai/improved-diffusion (MIT), which for one step takes the first knot: here it is the last. The paper
            trains L_simple; the decoder term t = 1/T and bits per dimension come with the solver shelf.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import convert, grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Objective, Paper, Reduction, Run, Sampler, expand

TRAINED = 1000  # T of the paper


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) = N(c_mean x0 + c_x x_t, small I); large is the forward variance of t given s."""

    c_mean: Tensor
    c_x: Tensor
    small: Tensor
    large: Tensor


def posterior(t: Tensor, s: Tensor, process: Process) -> Posterior:
    """Equations 6 and 7 for any s < t, times float64 of one shape; s may be clean (sigma_s = 0)."""
    h = process.lam(s) - process.lam(t)
    fresh = -torch.expm1(-2 * h)  # share of sigma_t^2 that was added between s and t: b/sigma_t^2
    ratio = process.alpha(t) / process.alpha(s)
    return Posterior(
        process.alpha(s) * fresh,
        ratio * (process.sigma(s) / process.sigma(t)) ** 2,
        process.sigma(s) ** 2 * fresh,
        process.sigma(t) ** 2 * fresh,
    )


class Plan(NamedTuple):
    t: Tensor
    c_mean: Tensor
    c_x: Tensor
    noise: Tensor


def plan(grid: Tensor, process: Process, *, large: bool = False) -> Plan:
    """Coefficients of every step. large: the variance b ("fixedlarge") instead of the posterior's ("fixedsmall")."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    kernel = posterior(t, s, process)
    variance = torch.where(process.sigma(s) > 0, kernel.large if large else kernel.small, 0.0)
    return Plan(t, kernel.c_mean, kernel.c_x, variance.sqrt())


def ancestral_step(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, clip: float | None = None
) -> tuple[Tensor, None]:
    """Algorithm 2, one interval."""
    mean = model(x, row.t)
    if clip is not None:
        mean = mean.clamp(-clip, clip)
    x_s = torch.mul(x, row.c_x).add_(mean, alpha=row.c_mean)
    return (x_s.add_(draws.normal("step", x), alpha=row.noise) if row.noise > 0 else x_s), None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    large: bool = False,
    clip: float | None = None,
) -> Run:
    """Ancestral sampling from grid[0] to grid[-1]. x [B,*D]. large: the paper finds both similar (sec. 3.2)."""
    step = partial(ancestral_step, clip=clip)
    return drive(plan(grid, process, large=large), step, model, x, draws=draws, tags=("step",))


def even_subsequence(steps: int, process: Process) -> Tensor:
    """steps of the 1,000 knots, evenly spaced from the last down to the first, then clean data; one step: the last.

    The sums are rounded one by one, half to even, as in respace.py of openai/improved-diffusion.
    """
    if steps not in range(1, TRAINED + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; for more use the grid t")
    if process.t_max != 1:
        raise grids.BadGrid(
            f"grid: the chain starts at t = 1, but {process.name} at {process.t_max:g}; use the grid t, lam or power(7)"
        )
    stride = (TRAINED - 1) / max(1, steps - 1)
    indices = [round(place) for place in accumulate([0.0] + [stride] * (steps - 1))] if steps > 1 else [TRAINED - 1]
    return grids.checked(torch.tensor([*(i + 1 for i in reversed(indices)), 0], dtype=torch.float64) / TRAINED)


def simple_loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """L_simple, equation 14: mean over dimensions of the squared error of eps, [B]."""
    x = process.noised(x0, t, noise)
    alpha, sigma = expand(process.alpha(t), x), expand(process.sigma(t), x)
    return (convert.eps_of_mean(x, model(x, t), alpha, sigma) - noise).flatten(1).square().mean(1)


def bound_loss(
    model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, large: bool = False
) -> Tensor:
    """T times the KL term of equation 5 between t and t - 1/T in nats per dimension, [B]; t in [2/T, 1].

    With fixed variance v the term is (-1 + log v - log v_q + v_q/v + (mu_q - mu)^2/v)/2, v_q the posterior's variance.
    """
    kernel = posterior(t, t - 1 / TRAINED, process)
    variance = kernel.large if large else kernel.small
    x = process.noised(x0, t, noise)
    ratio, weight = kernel.small / variance, kernel.c_mean**2 / variance
    gap = (model(x, t) - x0).flatten(1).square().mean(1)
    return TRAINED / 2 * (expand(ratio - 1 - ratio.log(), gap) + expand(weight, gap) * gap)


def knot_times(u: Tensor, process: Process, *, first: int = 1) -> Tensor:
    """t uniform on the knots first/T .. 1: u [B] in (0,1) -> t [B]."""
    return (first + (u.double() * (TRAINED - first + 1)).floor()) / TRAINED


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="ho2020ddpm",
    title="Denoising Diffusion Probabilistic Models",
    authors="Jonathan Ho, Ajay Jain, Pieter Abbeel",
    venue="NeurIPS 2020",
    arxiv="2006.11239",
    code="hojonathanho/diffusion",
    licence="none stated",
    samplers=(
        Sampler(
            id="ho2020ddpm.ancestral",
            sample=sample,
            grid=even_subsequence,
            consumes="mean",
            path="discrete-linear",
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(Reduction({}, "song2020ddim.stochastic"),),
        ),
        Sampler(
            id="ho2020ddpm.ancestral_large",
            sample=partial(sample, large=True),
            grid=even_subsequence,
            consumes="mean",
            path="discrete-linear",
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_on=frozenset({"standard"}),
            symmetric=frozenset({"rotation"}),
            reduces=(Reduction({"large": False}, "ho2020ddpm.ancestral"),),
        ),
    ),
    objectives=(
        Objective(id="ho2020ddpm.simple", loss=simple_loss, minimiser="mean", path="discrete-linear", times=knot_times),
        Objective(
            id="ho2020ddpm.bound",
            loss=bound_loss,
            minimiser="mean",
            path="discrete-linear",
            times=partial(knot_times, first=2),
        ),
    ),
)
