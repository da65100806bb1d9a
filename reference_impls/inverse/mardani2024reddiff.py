"""mardani2024reddiff - RED-Diff: optimise one point, with the denoiser's residual as stochastic regulariser.

Mardani, Song, Kautz, Vahdat, "A Variational Perspective on Solving Inverse Problems with Diffusion Models", ICLR 2024,
arXiv:2305.04391. Official code: NVlabs/RED-diff (NVIDIA Source Code Licence, non-commercial; formulas only).
Path        x_t = alpha_t mu + sigma_t eps on the linear chain of 1,000 betas at t = i/1000 (the code's abar_i is our
            alpha_t^2 at t = (i+1)/1000; t = 0 is clean data). Any path with alpha_t > 0 works; rho = sigma/alpha.
Loss        k w(rho_t) <stopgrad(eps_hat(x_t) - eps), mu>/d + v |y - A mu|^2/(2m), d pixels, m measurements; k = .25,
            v = 1, w(rho) = rho ("linear"); KL(N(mu, 0) || p(x0|y)) up to weights.                              [alg. 1]
Step        D = D(alpha_t mu + sigma_t eps, t); as eps_hat - eps = (mu - D)/rho_t the gradient is closed:
            g = k w(rho_t)/rho_t (mu - D)/d + v A^T (A mu - y)/m; one Adam step on mu, whose two moments are the memory.
            Starts at mu = A^+ y. The state is a clean estimate at every t, so nothing happens at sigma_s = 0.
            DPS (baseline; Chung et al., ICLR 2023, arXiv:2209.14687): x_s = alpha_s D + c2 e + c1 z
            + 2 zeta J^T A^T r/|r|, r = y - A D, e = (x_t - alpha_t D)/sigma_t, J = dD/dx_t, c2^2 = sigma_s^2 - c1^2,
            c1 = eta sigma_s sqrt(1 - exp(-2h)), h = lam_s - lam_t. Starts at alpha_t A^+ y + sigma_t z.
Cost        RED-Diff: NFE = steps, no backward pass; stochastic; Adam ramps up by its bias correction. DPS: NFE = steps
            and as many backward passes; stochastic unless eta = 0. Neither has an order or converges to p(x0|y).
Exact when  no dependence on the network's Jacobian. k = 0: the gradient stays in the range of A^T, A mu -> y. Gaussian
            prior N(c, S), "linear": E g = k/d (1-a)(a S + (1-a) I)^-1 (mu - c) + data term, a = alpha_t^2; with S -> 0
            it is k/d (mu - c) at every t. A penalised estimate of fixed weight: not the posterior mean, and blind to
            the measurement's noise level. zeta = 0 is DDIM. DPS ends on the point if the prior is one.
Differs     The repository returns the iterate BEFORE its last Adam step plus sigma_x0 noise (`as_saved`); algorithm 1
            returns the last iterate, and so do we. Its losses are means over the batch as well, so that through
            Adam's 1e-8 the batch size moves entries whose gradient is small: here each sample is a batch of one. Its
            script adds noise of 2 sigma_y to a y in [-1,1]. Where steps do not divide 1000 its index list is longer
            than steps; here index i is floor(1000 i/steps). DPS: the gradient of |r|^2 over |r|, per sample, as in
            this repository; the official DPS takes that of the norm (half the push at equal zeta), of ONE norm over
            the batch, with ancestral steps (eta = 1) and a clipped mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Meter, Model, Paper, Reduction, Run, Sampler

TRAINED = 1000  # length of the training chain [code]
ADAM_FLOOR = 1e-8  # added to the root of the second moment: the default of torch.optim.Adam, which the code uses

# w(rho), rho = sigma/alpha, under the code's names but for "clip" (trunc_linear) and "two-thirds" (power2over3)
WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda rho: rho,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "log": torch.log1p,
    "clip": lambda rho: rho.clamp(max=1.0),
    "const": torch.ones_like,
    "two-thirds": lambda rho: rho ** (2 / 3),
}


class Plan(NamedTuple):
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    prior: Tensor  # k w(rho)/rho: what multiplies the mean over pixels of mu - D
    move: Tensor  # Adam: mu - move first / (level sqrt(second) + 1e-8)
    level: Tensor


class Moments(NamedTuple):
    first: Tensor
    second: Tensor


def plan(
    grid: Tensor, process: Process, *, weight: str, prior_weight: float, rate: float, betas: tuple[float, float]
) -> Plan:
    """Coefficients of every step; the state is updated at all times of the grid but its last."""
    if weight not in WEIGHTS:
        raise ValueError(f"weight: {weight!r} is not known; expected one of {', '.join(WEIGHTS)}")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas: {betas!r}, expected two numbers in [0, 1)")
    t = grids.checked(grid)[:-1]
    rho = process.rho(t)
    if not torch.isfinite(rho).all():
        raise grids.BadGrid(
            f"grid: starts at {t[0].item():g}, where alpha = 0 on {process.name} and mu leaves no trace; start it lower"
        )
    count = torch.arange(1, t.shape[0] + 1, dtype=torch.float64)
    return Plan(
        t,
        process.alpha(t),
        process.sigma(t),
        prior_weight * WEIGHTS[weight](rho) / rho,
        rate / (1 - betas[0] ** count),
        (1 - betas[1] ** count).rsqrt(),
    )


def gradient(mu: Tensor, mean: Tensor, prior: float, data: float, measurement: Any) -> Tensor:
    """Of the loss in mu, where mean = D(x_t) is held constant: means over pixels and over measurements. [B,*D].

    measurement: y [B,m] and operator with forward [B,*D] -> [B,m] and its transpose.
    """
    operator, y = measurement.operator, measurement.y
    misfit = operator.transpose((operator.forward(mu) - y) * (data / y.shape[-1])).reshape(mu.shape)
    return misfit.add_(mu - mean, alpha=prior / mu[0].numel())


def adam(
    mu: Tensor, grad: Tensor, row: Plan, memory: Moments | None, betas: tuple[float, float]
) -> tuple[Tensor, Moments]:
    """One step of Adam with bias correction (Kingma & Ba 2015), all in new tensors."""
    first, second = memory or Moments(torch.zeros_like(mu), torch.zeros_like(mu))
    first = torch.lerp(grad, first, betas[0])
    second = torch.mul(second, betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    return mu.addcdiv(first, second.sqrt().mul_(row.level).add_(ADAM_FLOOR), value=-row.move), Moments(first, second)


def reddiff_step(
    mu: Tensor,
    row: Plan,
    memory: Moments | None,
    *,
    model: Model,
    draws: Draws,
    measurement: Any,
    data_weight: float,
    betas: tuple[float, float],
    spread: float,
) -> tuple[Tensor, Moments]:
    """Algorithm 1, one t. The closed form mu - D subtracts the very eps that was added: the paper's control variate."""
    x0 = mu.add(draws.normal("spread", mu), alpha=spread) if spread > 0 else mu
    x_t = torch.mul(x0, row.alpha).add_(draws.normal("step", mu), alpha=row.sigma)
    mean = model(x_t, row.t).detach()
    return adam(mu, gradient(x0, mean, row.prior, data_weight, measurement), row, memory, betas)


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    measurement: Any,
    weight: str = "linear",
    prior_weight: float = 0.25,
    data_weight: float = 1.0,
    rate: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.99),
    spread: float = 0.0,
    as_saved: bool = False,
) -> Run:
    """RED-Diff over the times grid[:-1]. x [B,*D]: mu at the start, in the units of the data; so is the end.

    measurement: operator A, y [B,m] or [1,m] (row b of y is what x's row b must explain).
    weight, prior_weight (lambda), data_weight (obs_weight), rate (lr) .1, betas, spread (sigma_x0): reddiff.yaml and
    reddiff.py of the official code; its README runs inpainting at rate .5, its sample script at .25.
    as_saved: the iterate before the last step (+ spread times its noise), which the official code writes to disk.
    Raises ValueError for an unknown weight, BadGrid where alpha = 0.
    """
    rows = plan(grid, process, weight=weight, prior_weight=prior_weight, rate=rate, betas=betas)
    if as_saved:
        rows.move[-1] = 0.0
    step = partial(
        reddiff_step, measurement=measurement.matching(x), data_weight=data_weight, betas=betas, spread=spread
    )
    tags = ("step", "spread") if spread > 0 else ("step",)
    run = drive(rows, step, model, x, draws=draws, tags=tags)
    if as_saved and spread > 0:
        run = run._replace(x=run.x.add(draws.at(len(rows.t) - 1).normal("spread", x), alpha=spread))
    return run


class GuidedPlan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D + noise z + guidance
    pull: Tensor
    noise: Tensor


def guided_plan(grid: Tensor, process: Process, *, eta: float) -> GuidedPlan:
    """Coefficients of the unconditional DDIM(eta) step."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: {eta!r}, expected a number in [0, 1]")
    t, s = grids.checked(grid)[:-1], grid[1:]
    fresh = -torch.expm1(2 * (process.lam(t) - process.lam(s)))  # share of sigma_s^2 that is new noise at eta = 1
    keep = process.sigma(s) / process.sigma(t) * (1 - eta**2 * fresh).sqrt()
    return GuidedPlan(t, keep, process.alpha(s) - process.alpha(t) * keep, eta * process.sigma(s) * fresh.sqrt())


def dps_step(
    x: Tensor, row: GuidedPlan, memory: None, *, model: Meter, draws: Draws, measurement: Any, zeta: float
) -> tuple[Tensor, None]:
    """DDIM and a step of length zeta along -grad |r|^2/|r|: one evaluation, one product with its Jacobian."""
    mean, pull = model.vjp(x, row.t)
    operator = measurement.operator
    residual = measurement.y - operator.forward(mean)
    length = residual.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # an exact fit is not pushed
    guide = pull(operator.transpose(residual / length).reshape(x.shape))
    x_s = torch.mul(x, row.keep).add_(mean, alpha=row.pull).add_(guide, alpha=2 * zeta)
    return (x_s.add_(draws.normal("step", x), alpha=row.noise) if row.noise > 0 else x_s), None


def sample_dps(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    measurement: Any,
    zeta: float = 0.25,
    eta: float = 1.0,
) -> Run:
    """DPS from grid[0] to grid[-1]. x [B,*D]; measurement as for RED-Diff.

    zeta .25, eta 1: the official DPS for inpainting (scale .5 on the norm, ancestral, 1,000 steps); the
    RED-Diff repository has zeta .1 for inpainting and eta 0 (dps.yaml), both 1 in its batch script, and names zeta in
    {.1, .25, .5, 1, 2} to try.
    """
    step = partial(dps_step, measurement=measurement.matching(x), zeta=zeta)
    tags = ("step",) if eta > 0 else ()
    return drive(guided_plan(grid, process, eta=eta), step, model, x, draws=draws, tags=tags)


def spread_subsequence(steps: int, process: Process) -> Tensor:
    """Indices floor(1000 i/steps), i < steps, then clean data: range(0, 1000, 1000//steps) where steps divides 1000."""
    if not 1 <= steps <= TRAINED:
        raise grids.BadGrid(
            f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; use the grid t or lam for more"
        )
    indices = torch.arange(steps) * TRAINED // steps
    return torch.cat([torch.zeros(1, dtype=torch.float64), (indices.double() + 1) / TRAINED]).flip(0)


def start_at_pseudo_inverse(
    draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]
) -> Tensor:
    """mu = A^+ y, [B,*D]."""
    measurement = aids["measurement"].matching(like)
    return measurement.operator.pinv(measurement.y).reshape(like.shape)


def start_noised(draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]) -> Tensor:
    """alpha_t A^+ y + sigma_t z at t = grid[0], [B,*D]: where the repository starts DPS."""
    restored = start_at_pseudo_inverse(draws, like, grid, process, aids)
    t = grid[0].item()
    return process.alpha(t) * restored + process.sigma(t) * draws.normal("start", like)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


def no_backward(grid: Tensor) -> float:
    return 0.0


PAPER = Paper(
    key="mardani2024reddiff",
    title="A Variational Perspective on Solving Inverse Problems with Diffusion Models",
    authors="Morteza Mardani, Jiaming Song, Jan Kautz, Arash Vahdat",
    venue="ICLR 2024",
    arxiv="2305.04391",
    code="NVlabs/RED-diff",
    licence="NVIDIA Source Code Licence (non-commercial)",
    samplers=(
        Sampler(
            id="mardani2024reddiff.reddiff",
            sample=sample,
            grid=spread_subsequence,
            consumes="mean",
            path="discrete-linear",
            start=start_at_pseudo_inverse,
            needs=frozenset({"measurement"}),
            nfe=evaluations,
            vjps=no_backward,
            stochastic=True,
        ),
        Sampler(
            id="mardani2024reddiff.dps",
            sample=sample_dps,
            grid=spread_subsequence,
            consumes="mean",
            path="discrete-linear",
            start=start_noised,
            needs=frozenset({"measurement"}),
            nfe=evaluations,
            vjps=evaluations,
            stochastic=True,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation"}),
            reduces=(
                Reduction({"zeta": 0.0, "eta": 0.0}, "song2020ddim.ddim"),
                Reduction({"zeta": 0.0, "eta": 1.0}, "ho2020ddpm.ancestral"),
            ),
            baseline=True,
        ),
    ),
)
