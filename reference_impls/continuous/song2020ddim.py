"""song2020ddim - DDIM: non-Markovian chains with DDPM's marginals; without noise, a first-order solver of the flow ODE.

Song, Meng, Ermon, "Denoising Diffusion Implicit Models", ICLR 2021, arXiv:2010.02502.
Official code: ermongroup/ddim (MIT).
Path        x_t = alpha_t x0 + sigma_t eps on the linear chain of 1,000 betas at t = i/1000 (the paper's alpha_t is our
            alpha_t^2, its index i our t = (i+1)/1000); t = 0 is clean data. Any path works.
Loss        that of DDPM; this paper adds none.
Step        e = (x_t - alpha_t D)/sigma_t;  v = eta sigma_s sqrt(1 - exp(-2h)), h = lam_s - lam_t;
            x_s = alpha_s D + sqrt(sigma_s^2 - v^2) e + v z; at sigma_s = 0 it lands on D.               [eq. 12, 16]
            sigma-hat: z enters with sigma_t sqrt(1 - exp(-2h)) instead, whatever eta; the paper takes eta = 1.
            Inversion: the same step with eta = 0 walked from s up to t, e taken at s.                          [eq. 14]
            Round trip: up from grid[-1] to grid[0], and down again with eta = 0.                             [sec. 5.4]
Cost        NFE = steps, for inversion too; round trip: 2 steps. Order 1 (eta = 0), weak order 1 (eta = 1).
Exact when  point mass: any step, any eta, pathwise for eta = 0; the round trip returns its start. eta = 1 is DDPM's
            "fixedsmall" chain, same draws. sigma-hat is its "fixedlarge". Every path with the same rho gives the same
            x/alpha.
Differs     Even indices are the paper's floor(c i), c = T/S, i < S [app. D.2, recalled]: the official "uniform" list
            range(0, T, T // S) where S divides T; elsewhere that one has more than S indices (8 for S = 7, 1,000 for
            S = 501). The official "quadratic" list repeats indices for S > 29, a step from t to t that does nothing:
            here each is once, so that the sampler has fewer steps than asked (49 for 50, 96 for 100, 688 for 1,000).
            Both start below the last index (900 and 800 of 999 for S = 10, 0 for S = 1) from N(0, I): kept, and a bias
            that the tables show. With eta = 0 the official loop draws noise and multiplies it by 0; here nothing is
            drawn. Its "ddpm_noisy" is sigma-hat with eta = 1 and clip = 1; its other loop does not clip. It has no
            inversion: ours agrees with ddim_reverse_sample of openai/improved-diffusion (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Guide, Model, Paper, Reduction, Run, Sampler

TRAINED = 1000  # length of the training chain [code]


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D + noise z
    pull: Tensor
    noise: Tensor


def plan(grid: Tensor, process: Process, *, eta: float = 0.0, sigma_hat: bool = False) -> Plan:
    """Coefficients of every step; eta in [0,1] scales the standard deviation of the added noise (equation 16).

    sigma_hat: the larger noise of section 5.1, sqrt(1 - alpha_t^2/alpha_s^2) on a VP path, sigma_t sqrt(1 - exp(-2h))
    on any; x/alpha is then no longer the same on all. None in the step to clean data.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: {eta!r}, expected a number in [0, 1] (0 is DDIM, 1 is DDPM's small variance)")
    lam, sigma = process.lam(grids.checked(grid)), process.sigma(grid)
    h, sigma_t, sigma_s = lam[1:] - lam[:-1], sigma[:-1], sigma[1:]
    shrink = torch.log1p(eta**2 * torch.expm1(-2 * h)) / 2  # log sqrt(1 - (v/sigma_s)^2)
    fresh = (-torch.expm1(-2 * h)).sqrt()
    return Plan(
        grid[:-1],
        sigma_s / sigma_t * shrink.exp(),
        -process.alpha(grid[1:]) * torch.expm1(shrink - h),
        fresh * (torch.where(sigma_s > 0, sigma_t, 0.0) if sigma_hat else eta * sigma_s),
    )


def ddim_step(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, clip: float = 0.0
) -> tuple[Tensor, None]:
    """Equation 12 with the prediction expressed by the mean."""
    mean = model(x, row.t).clamp(-clip, clip) if clip else model(x, row.t)
    x_s = torch.mul(x, row.keep).add_(mean, alpha=row.pull)
    return (x_s.add_(draws.normal("step", x), alpha=row.noise) if row.noise > 0 else x_s), None


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, eta: float = 0.0, sigma_hat: bool = False,
    clip: float = 0.0,
) -> Run:  # fmt: skip
    """DDIM from grid[0] to grid[-1]. x [B,*D]. eta 0: the official default (main.py). clip: of D to [-clip, clip], 0
    none, as in generalized_steps; ddpm_steps of the code clips to 1."""
    if not clip >= 0:
        raise ValueError(f"clip: {clip!r}, expected a number >= 0 (0 does not clip)")
    rows, tags = plan(grid, process, eta=eta, sigma_hat=sigma_hat), ("step",) if eta > 0 or sigma_hat else ()
    step = partial(ddim_step, clip=clip) if clip else ddim_step
    return drive(rows, step, model, x, draws=draws, tags=tags)


def inversion_plan(grid: Tensor, process: Process) -> Plan:
    """Rows from grid[-1] up to grid[0]: x_t = keep x_s + pull D(x_s, s). Needs sigma(grid[-1]) > 0."""
    s, t = grids.checked(grid).flip(0)[:-1], grid.flip(0)[1:]
    if process.sigma(s[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: ends at {s[0].item():g}, where sigma = 0 and the noise prediction is 0/0; to invert end at t > 0"
        )
    ratio = process.sigma(t) / process.sigma(s)
    return Plan(s, ratio, process.alpha(t) - process.alpha(s) * ratio, torch.zeros_like(t))


def invert(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
    """Encode: x [B,*D] at grid[-1] to its noise at grid[0] along the same decreasing grid (equation 14)."""
    return drive(inversion_plan(grid, process), ddim_step, model, x, draws=draws)


def round_trip(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, guide: Guide) -> Run:
    """Encode x [B,*D] at grid[-1], then decode it. guide: what `start_with_image` reads, not used here."""
    ways = zip(inversion_plan(grid, process), plan(grid, process), strict=True)
    return drive(Plan(*(torch.cat(way) for way in ways)), ddim_step, model, x, draws=draws)


def start_with_image(draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]) -> Tensor:
    """The guide's image as a state at grid[-1], [B,*D]: what is to be encoded carries that level's noise already."""
    return aids["guide"].image.to(like.device, like.dtype).expand_as(like).clone()


def _times(indices: Tensor, process: Process) -> Tensor:
    if process.t_max != 1:
        raise grids.BadGrid(
            f"grid: a subsequence of the chain starts in (0, 1], but {process.name} starts at {process.t_max:g}; "
            "use the grid t, lam or power(7)"
        )
    return grids.checked(torch.cat([torch.zeros(1, dtype=torch.float64), (indices.double() + 1) / TRAINED]).flip(0))


def uniform_subsequence(steps: int, process: Process) -> Tensor:
    """Indices floor(1000 i/steps), i < steps, then clean data; steps in 1..1000.

    Where steps divides 1,000 this is the list of runners/diffusion.py, range(0, 1000, 1000 // steps), which elsewhere
    has more than `steps` indices.
    """
    if steps not in range(1, TRAINED + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; for more use the grid t")
    return _times(torch.arange(steps) * TRAINED // steps, process)


def quadratic_subsequence(steps: int, process: Process) -> Tensor:
    """Indices int(linspace(0, sqrt(.8 T), steps)^2), then clean data; steps in 1..1000 (runners/diffusion.py).

    Beyond 29 steps some are equal: each is taken once, so that the grid has fewer intervals than `steps`.
    """
    if steps not in range(1, TRAINED + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; for more use the grid t")
    stop = (0.8 * TRAINED) ** 0.5
    roots = torch.arange(steps, dtype=torch.float64) * (stop / max(1, steps - 1))  # rounds as numpy's linspace does,
    roots[-1] = stop if steps > 1 else 0.0  # whose last is the end itself
    return _times((roots**2).floor().unique(), process)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="song2020ddim",
    title="Denoising Diffusion Implicit Models",
    authors="Jiaming Song, Chenlin Meng, Stefano Ermon",
    venue="ICLR 2021",
    arxiv="2010.02502",
    code="ermongroup/ddim",
    licence="MIT",
    samplers=tuple(
        Sampler(
            id=f"song2020ddim.{name}", sample=method, consumes="mean",
            **{"grid": uniform_subsequence, "path": "discrete-linear", "nfe": evaluations,
               "exact_on": frozenset({"delta"}), "symmetric": frozenset({"rotation", "paths"}), **traits},
        )
        for name, method, traits in (
            ("ddim", sample, dict(order=1.0)),
            ("stochastic", partial(sample, eta=1.0), dict(stochastic=True, weak_order=1.0, reduces=(
                Reduction({"eta": 0.0}, "song2020ddim.ddim"), Reduction({"eta": 1.0}, "ho2020ddpm.ancestral")))),
            ("sigma_hat", partial(sample, eta=1.0, sigma_hat=True), dict(stochastic=True, weak_order=1.0, variant=True,
                exact_on=frozenset(), symmetric=frozenset({"rotation"}),
                reduces=(Reduction({}, "ho2020ddpm.ancestral_large"),))),
            ("quadratic", sample, dict(order=1.0, grid=quadratic_subsequence, variant=True)),
            ("inversion", invert, dict(order=1.0, walks="up", grid=grids.uniform_lam, path="vp-linear")),
            ("round_trip", round_trip, dict(grid=grids.uniform_lam, path="vp-linear", start=start_with_image,
                needs=frozenset({"guide"}), nfe=lambda grid: 2 * evaluations(grid), exact_on=frozenset(),
                symmetric=frozenset({"rotation"}), variant=True)),
        )
    ),
)  # fmt: skip
