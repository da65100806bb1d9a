"""lipman2022fm - Flow matching: regress a velocity field on conditional velocities, then solve an ODE.

Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow Matching for Generative Modeling", ICLR 2023, arXiv:2210.02747.
Official code: facebookresearch/flow_matching (CC BY-NC 4.0; the authors' later library, formulas only).
Path        x_t = (1-t) x0 + t eps (condot): the paper's t is our 1 - t, its velocity our -u. Its optimal-transport path
            with a floor, std 1 - (1-smin) t, is `floored(smin)`; the VP path is the suite's vp-linear.
Loss        |u_hat - u|^2 averaged over dimensions, u = alpha' x0 + sigma' eps (= eps - x0 on condot), t uniform.
                                                                                                      [eq. 9, 23]
Step        Euler: x_s = x_t + (s-t) u(x_t, t); midpoint and Heun as in any textbook; u = a x + b D, a = sigma'/sigma,
            b = alpha' - a alpha. There is no velocity at sigma = 0: on an interval that ends at 0 Heun takes its Euler
            step, which lands on D on condot. dopri5: Dormand-Prince 5(4), each sample with its own time and step size.
Cost        NFE: Euler steps, midpoint 2 steps, Heun 2 steps less one if the grid ends at 0, dopri5 metered.
Exact when  condot: point masses in one step of any size; Euler is DDIM. One Euler step from t = 1 returns E[x0].
            The likelihood equals the closed log density up to the solver's tolerance.
Differs     Training times run over [t_min, t_max] of the process (1e-3 .. 1), not (0, 1): u from the mean is 0/0 at
            t = 0. The official adaptive solver (torchdiffeq) shares one step size over the batch, steps beyond the end
            and interpolates back: here each sample has its own step size and lands on the end, so a batch never changes
            a sample and nothing is evaluated outside; dopri5 is core.ode's loop. Its step control is that
            of Hairer, Norsett & Wanner, as in SciPy's RK45. The library's heun2 evaluates u at the clean end, which a
            net defines and a mean does not: hence our Euler step there. The library's smin is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import convert, diffusion, grids
from reference_impls.core.diffusion import slopes
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import (
    Draws,
    Likelihood,
    Model,
    Objective,
    Paper,
    Predictor,
    Reduction,
    Run,
    Sampler,
    Time,
    Transform,
    expand,
    require,
)


def floored(sigma_min: float = 1e-4) -> Process:
    """The paper's OT path: alpha = 1 - t, sigma = smin + (1-smin) t, down to t = 0.

    smin 1e-4: ours; the paper has "sufficiently small", the library 0.
    """
    return Process(
        "condot-floored", lambda t: torch.log1p(-t), lambda t: sigma_min + (1 - sigma_min) * t, 0.0, 1.0,
        alpha_of=lambda t: 1 - t,
    )  # fmt: skip


class Plan(NamedTuple):
    t: Tensor
    second: Tensor  # time of the second evaluation: the middle or the end; nan where there is none
    part_x: Tensor  # x' = part_x x_t + part_mean D
    part_mean: Tensor
    x: Tensor  # x_s = x x_t + mean D + x_second x' + mean_second D'
    mean: Tensor
    x_second: Tensor
    mean_second: Tensor


def plan(grid: Tensor, process: Process, *, place: float, weight: float) -> Plan:
    """A two-stage Runge-Kutta step with the second stage at t + place (s-t), weighted weight; weight 0 is Euler."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    step, second = s - t, t + place * (s - t)
    a, b = slopes(t, process)
    a_second, b_second = slopes(second, process)
    usable = (second != 0) & (weight > 0)
    share = torch.where(usable, weight, 0.0)
    advance = torch.where(usable, place, 1.0) * step
    nothing = torch.zeros_like(t)
    return Plan(
        t, torch.where(usable, second, math.nan), 1 + advance * a, advance * b,
        1 + step * (1 - share) * a, step * (1 - share) * b,
        torch.where(usable, step * share * a_second, nothing), torch.where(usable, step * share * b_second, nothing),
    )  # fmt: skip


def ode_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """One interval of Euler, midpoint or Heun."""
    mean = model(x, row.t)
    ahead = torch.mul(x, row.part_x).add_(mean, alpha=row.part_mean)
    if math.isnan(row.second):
        return ahead, None
    x_s = torch.mul(x, row.x).add_(mean, alpha=row.mean).add_(ahead, alpha=row.x_second)
    return x_s.add_(model(ahead, row.second), alpha=row.mean_second), None


def euler(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
    """Euler in t. x [B,*D] at grid[0]."""
    return drive(plan(grid, process, place=1.0, weight=0.0), ode_step, model, x, draws=draws)


def midpoint(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
    """Explicit midpoint in t. x [B,*D] at grid[0]."""
    return drive(plan(grid, process, place=0.5, weight=1.0), ode_step, model, x, draws=draws)


def heun(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
    """Heun in t. x [B,*D] at grid[0]."""
    return drive(plan(grid, process, place=1.0, weight=0.5), ode_step, model, x, draws=draws)


def dopri5(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, rtol: float = 1e-5, atol: float = 1e-5
) -> Run:
    """Adaptive solution from grid[0] to grid[-1] (inner times unused). x [B,*D]. rtol = atol = 1e-5: the library's."""
    start, end = grids.checked(grid)[0].item(), grid[-1].item()
    if process.sigma(end) <= 0:
        raise grids.BadGrid(f"grid: ends at {end:g}, where sigma = 0 and the velocity is 0/0; end it at t_min > 0")
    meter = require(model, "mean", x.shape[0])
    end_state = diffusion.flow(meter, x, start, end, process=process, rtol=rtol, atol=atol)
    return Run(end_state, meter.nfe, meter.vjps)


def log_prob(
    model: Model,
    x0: Tensor,
    *,
    process: Process,
    draws: Draws,
    probe: bool = False,
    rtol: float = 1e-9,
    atol: float = 1e-9,
) -> Tensor:
    """log p at t_min by the instantaneous change of variables, nats [B], with the prior N(0, prior_std^2 I) at t_max.

    x0 [B,*D] is taken as the state at t_min; the result is detached. rtol = atol = 1e-9 (ours; the library has 1e-5):
    errors below 1e-7 nats on G3. probe: one Rademacher vector per sample, fixed along the trajectory (Hutchinson;
    unbiased), instead of the exact trace by one backward pass per dimension.
    """
    signs = draws.normal("probe", x0).sign() if probe else None
    meter = require(model, "mean", x0.shape[0])
    x, gain = diffusion.flow_with_divergence(
        meter, x0.detach(), process.t_min, process.t_max, process=process, probe=signs, rtol=rtol, atol=atol
    )
    size, variance = math.prod(x0.shape[1:]), process.prior_std**2
    return gain - x.flatten(1).square().sum(1) / (2 * variance) - size / 2 * math.log(2 * math.pi * variance)


def velocity(net: Callable[[Tensor, Tensor], Tensor], *, process: Process) -> Predictor:
    """A raw net that returns u (dx/dt in our t, the negative of the paper's) as a mean; on condot x - t u.

    net: (x [B,*D], t [B]) -> [B,*D], cast to x's dtype here.
    """

    def predict(x: Tensor, t: Time) -> Tensor:
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        u = net(x, rows.to(x.device, x.dtype)).to(x.dtype)
        terms = (process.alpha(rows), process.sigma(rows), *process.rates(rows))
        return convert.mean_of_velocity(x, u, *(expand(term, x) for term in terms))

    return Predictor("mean", predict)


def loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """Conditional flow matching, [B]: squared error of the velocity, mean over dimensions (equation 9)."""
    x, (a, b), rates = process.noised(x0, t, noise), slopes(t, process), process.rates(t)
    target = expand(rates[0], x) * x0 + expand(rates[1], x) * noise
    return (expand(a, x) * x + expand(b, x) * model(x, t) - target).flatten(1).square().mean(1)


def uniform_times(u: Tensor, process: Process) -> Tensor:
    """t uniform on [t_min, t_max]: u [B] in (0,1) -> t [B]."""
    return process.t_min + u.double() * (process.t_max - process.t_min)


def reschedule(model: Model, *, process: Process, to: Process) -> Predictor:
    """A mean trained on `process`, used on the path `to`, exactly: the mean depends on (x/alpha, rho) alone."""

    def predict(x: Tensor, t: Time) -> Tensor:
        t_own = process.time_of_logsnr(to.lam(t))
        ratio = process.alpha(t_own) / to.alpha(t)
        return model(expand(ratio, x) * x, t_own)

    return Predictor("mean", predict)


def _fixed(name: str, sample: Callable[..., Run], **traits) -> Sampler:
    return Sampler(
        id=f"lipman2022fm.{name}", sample=sample, grid=grids.t_to_zero, consumes="mean", path="condot",
        exact_on=frozenset({"delta"}), symmetric=frozenset({"rotation"}), **traits,
    )  # fmt: skip


PAPER = Paper(
    key="lipman2022fm",
    title="Flow Matching for Generative Modeling",
    authors="Yaron Lipman, Ricky T. Q. Chen, Heli Ben-Hamu, Maximilian Nickel, Matt Le",
    venue="ICLR 2023",
    arxiv="2210.02747",
    code="facebookresearch/flow_matching",
    licence="CC BY-NC 4.0",
    samplers=(
        _fixed(
            "euler", euler, nfe=lambda grid: grid.shape[0] - 1.0, order=1.0,
            reduces=(Reduction({}, "song2020ddim.ddim", on="own"),),
        ),
        _fixed("midpoint", midpoint, nfe=lambda grid: 2.0 * (grid.shape[0] - 1), order=2.0),
        _fixed("heun", heun, nfe=lambda grid: 2.0 * (grid.shape[0] - 1) - float(grid[-1] == 0), order=2.0),
        # not rotation equivariant: its error control is componentwise
        Sampler(id="lipman2022fm.dopri5", sample=dopri5, grid=grids.uniform_t, consumes="mean", path="condot"),
    ),
    objectives=(Objective(id="lipman2022fm.cfm", loss=loss, minimiser="mean", path="condot", times=uniform_times),),
    likelihoods=(Likelihood(id="lipman2022fm.flow", log_prob=log_prob, kind="exact", consumes="mean", path="condot"),),
    transforms=(
        Transform(
            id="lipman2022fm.reschedule",
            apply=reschedule,
            identity_at={"to": "process"},
            limit=lambda model, *, condition, process: (reschedule(model, process=process, to=process), model),
        ),
    ),
    parametrisations={"velocity": velocity},
)  # fmt: skip
