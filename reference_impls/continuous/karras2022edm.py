"""karras2022edm - EDM: sigma as the time variable, a preconditioned denoiser, and Heun's method with optional churn.

Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022,
arXiv:2206.00364. Official code: NVlabs/edm (CC BY-NC-SA 4.0; formulas only).
Path        x_t = x0 + t eps, t in [.002, 80] (ve-edm; the paper's sigma is our t). The general form holds on any path:
            s(t) = alpha_t, sig(t) = rho_t = sigma_t/alpha_t. Steps go t -> s, s < t.                       [eq. 1, 4]
            Table 1's columns: VP is vp-linear, VE is ve-sqrt (sig = sqrt t), iDDPM and EDM are ve-edm.
Loss        (rho^2 + sd^2)/(rho sd)^2 |D(x0 + rho eps; rho) - x0|^2, summed over a sample; log rho ~ N(-1.2, 1.2^2).
            The other columns: 1/rho^2 and rho(t), t ~ U(1e-5, 1); log rho ~ U(log .02, log 100); rho = u_j, j uniform.
            D(x; rho) = c_skip x + c_out F(c_in x; c_noise) with the column's c's.                [eq. 7, 8; table 1]
Step        churn: rho_h = rho_t (1 + gamma), x_h = alpha_h (x/alpha_t + S_noise sqrt(rho_h^2 - rho_t^2) z);
            d = u(x_h, h), m = h + a (s - h), x_m = x_h + (m - h) d, d_m = u(x_m, m),
            x_s = x_h + (s - h) ((1 - 1/(2a)) d + d_m/(2a)); a = 1 is Heun, 1/2 midpoint, 2/3 Ralston. Euler, and every
            step to s = 0: x_h + (s - h) d. u = alpha' D + sigma' e is the velocity; on ve-edm (x - D)/t. [alg. 1, 2, 3]
Cost        NFE = 2 steps, less one if the grid ends at 0; Euler: steps. Order 2, Euler 1. No memory, no ramp-up.
Exact when  point mass on ve-edm: one step of any size. N(0, sd^2 I): F = 0 is optimal and the loss is 1 per dimension.
            Euler on ve-edm is DDIM. churn = 0 equals the deterministic sampler bit for bit; the churn step alone maps
            p_t to p_h. (k t_min, k t_max) and data k x0 return k x.
Differs     The official grids are 0/0 at one step: here that is [t_max, 0], so x = D(x; t_max). Churn's gamma divides
            by the number of intervals, the last one to 0 included, as in the code. S_noise = 1.003 inflates the
            marginals on purpose: laws of order and exactness are declared at S_noise = 1. Nothing is rounded to stored
            levels, except by the iDDPM column's c_noise, which is an index. That column's range ends at 81 in the code,
            whose first level is u_8 = 80.20, and at t_max = 80 here: u_9 = 71.29, from which it starts. Where gamma = 0
            the code's general sampler still adds the rounding of its level times a draw (1e-6 on VP): here nothing. The
            code's iDDPM levels come from float32 sines (7e-4 of a sample in two steps, 2e-5 from three), ours from
            float64. It has no loss for that column: weight and law are those of L_simple on its levels,
            (eps - F)^2 = ((D - x0)/rho)^2. Its nets return twice the channels and drop half, which belongs to the net;
            it computes preconditioning in float32, we in x's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Objective, Paper, Predictor, Reduction, Run, Sampler, Time, expand


class Plan(NamedTuple):
    t: Tensor  # where the step is entered after churn (h in the docstring)
    m: Tensor  # of the second stage
    scale: Tensor  # x_h = scale x + noise z
    noise: Tensor
    stages: Tensor
    euler_x: Tensor  # x_m = euler_x x_h + euler_mean D, the end of a step of one stage
    euler_mean: Tensor
    end_x: Tensor  # x_s = end_x x_h + end_mean D + end_x_m x_m + end_mean_m D_m
    end_mean: Tensor
    end_x_m: Tensor
    end_mean_m: Tensor


def plan(
    grid: Tensor,
    process: Process,
    *,
    order: int = 2,
    stage: float = 1.0,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Plan:
    """Coefficients of every step. order 1: Euler; stage: the a of algorithm 3, where the second stage stands.

    churn (S_churn), its range in rho (S_min, S_max), its noise factor (S_noise): alg. 2. An interval that ends at 0 has
    no second stage, as in the code: those coefficients are not used, and not finite where sigma = 0. On a process with
    a last knot, churn reaches no further than that.
    """
    if order not in (1, 2) or not isinstance(order, int) or not 0 < stage <= 1:
        raise ValueError(f"order, stage: {order!r}, {stage!r}, expected 1 or 2, and a share in (0, 1] (1 is Heun)")
    if not churn >= 0:
        raise ValueError(f"churn: {churn!r}, expected a number >= 0 (0 is the deterministic sampler)")
    if not 0 < churn_noise < math.inf:
        raise ValueError(f"churn_noise: {churn_noise!r}, expected a finite number > 0 (1 keeps the marginals)")
    if not churn_min <= churn_max:
        raise ValueError(
            f"churn_min, churn_max: {churn_min!r}, {churn_max!r}, expected levels with churn_min <= churn_max"
        )
    t, s = grids.checked(grid)[:-1], grid[1:]
    rho = process.rho(t)
    if churn > 0 and not rho.isfinite().all():
        raise grids.BadGrid(f"grid: starts at {t[0].item():g}, where alpha = 0: no level for churn above; start below")
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

    stages = torch.where(s == 0, 1, order).double()
    step, a = s - h, 1 + (stage - 1) * (stages - 1)
    m = torch.where(a == 1, s, h + a * step)  # a sum may round beyond the grid
    (growth, pull), (growth_m, pull_m) = velocity(h), velocity(m)
    first, second = (1 - 1 / (2 * a)) * step, step / (2 * a)
    return Plan(
        h, m, scale, added, stages, 1 + a * step * growth, a * step * pull,
        1 + first * growth, first * pull, second * growth_m, second * pull_m,
    )  # fmt: skip


def two_stage_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """Algorithms 2 and 3, one interval. A churned row adds the draw "churn" before anything is evaluated."""
    if row.noise > 0:
        x = torch.mul(x, row.scale).add_(draws.normal("churn", x), alpha=row.noise)
    mean = model(x, row.t)
    ahead = torch.mul(x, row.euler_x).add_(mean, alpha=row.euler_mean)
    if row.stages == 1:
        return ahead, None
    mean_m = model(ahead, row.m)
    end = torch.mul(x, row.end_x).add_(mean, alpha=row.end_mean)
    return end.add_(ahead, alpha=row.end_x_m).add_(mean_m, alpha=row.end_mean_m), None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    order: int = 2,
    stage: float = 1.0,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Run:
    """Heun's method and its relatives from grid[0] to grid[-1]. x [B,*D]. Defaults: algorithm 1."""
    rows = plan(
        grid, process, order=order, stage=stage, churn=churn, churn_min=churn_min, churn_max=churn_max,
        churn_noise=churn_noise,
    )  # fmt: skip
    return drive(rows, two_stage_step, model, x, draws=draws, tags=("churn",) if churn > 0 else ())


def evaluations(grid: Tensor) -> float:
    return 2.0 * (grid.shape[0] - 1) - float(grid[-1] == 0)


VP_SLOPE, VP_FIRST, VP_END = 19.9, 0.1, 1e-3  # beta_d, beta_min, epsilon_s of the VP column
LEVELS, SMALLEST, SHIFT = 1000, 0.001, 0.008  # M, C_1, C_2 of the iDDPM column


def vp_level(t: Tensor, slope: float = VP_SLOPE, first: float = VP_FIRST) -> Tensor:
    """sig(t) of the VP column: sqrt(exp(beta_d t^2/2 + beta_min t) - 1)."""
    return torch.expm1(slope * t**2 / 2 + first * t).sqrt()


def vp_time(rho: Tensor) -> Tensor:
    """Inverse of vp_level."""
    return ((VP_FIRST**2 + 2 * VP_SLOPE * torch.log1p(rho**2)).sqrt() - VP_FIRST) / VP_SLOPE


@cache
def iddpm_levels() -> Tensor:
    """u_0 > .. > u_M = 0, float64 [1001]: u_{j-1}^2 + 1 = (u_j^2 + 1)/max(ab(j-1)/ab(j), C_1), ab(j) = sin^2(..)."""
    signal = [math.sin(math.pi / 2 * j / (LEVELS * (1 + SHIFT))) ** 2 for j in range(LEVELS + 1)]
    u = [0.0]
    for j in range(LEVELS, 0, -1):
        u.append(math.sqrt((u[-1] ** 2 + 1) / max(signal[j - 1] / signal[j], SMALLEST) - 1))
    return torch.tensor(u[::-1], dtype=torch.float64)


def _ends(steps: int, process: Process) -> tuple[float, float, Tensor]:
    """rho at both ends and i/(steps - 1), i < steps; refuses a path without signal at t_max or noise at t_min."""
    grids.uniform_lam(steps, process)
    shares = torch.linspace(0, 1, steps, dtype=torch.float64)
    return process.rho(process.t_max), process.rho(process.t_min), shares


def _to_zero(rho: Tensor, process: Process) -> Tensor:
    return grids.checked(torch.cat([process.time_of_logsnr(-rho.log()), torch.zeros(1, dtype=torch.float64)]))


def vp_to_zero(steps: int, process: Process) -> Tensor:
    """Table 1, VP: t = 1 + i/(N-1) (1e-3 - 1) on the VP schedule through rho(t_max) at 1 and rho(t_min) at 1e-3."""
    high, low, shares = _ends(steps, process)
    top, bottom = math.log1p(high**2), math.log1p(low**2)
    slope = 2 * (bottom / VP_END - top) / (VP_END - 1)
    return _to_zero(vp_level(1 + shares * (VP_END - 1), slope, top - slope / 2), process)


def ve_to_zero(steps: int, process: Process) -> Tensor:
    """Table 1, VE: t = sig^2 geometric from rho(t_max)^2 to rho(t_min)^2."""
    high, low, shares = _ends(steps, process)
    return _to_zero(high * (low / high) ** shares, process)


def iddpm_to_zero(steps: int, process: Process) -> Tensor:
    """Table 1, iDDPM: levels u_j within [rho(t_min), rho(t_max)], their indices evenly spaced and rounded."""
    high, low, shares = _ends(steps, process)
    u = iddpm_levels()
    kept = u[(u >= low) & (u <= high)]
    if steps > kept.shape[0]:
        raise grids.BadGrid(f"steps: {steps!r}, expected at most {kept.shape[0]}, the iDDPM levels between the ends")
    stride = (kept.shape[0] - 1) / max(1, steps - 1)  # multiplied as in the code: ties of the rounding depend on it
    return _to_zero(kept[(stride * torch.arange(steps, dtype=torch.float64)).round().long()], process)


def start_at_first_level(draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]) -> Tensor:
    """N(0, sigma(t_0)^2 I) as in the code, for a grid that begins below t_max."""
    return draws.normal("start", like) * process.sigma(grid[0].item())


def _deviation(sigma_data: float) -> float:
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data: {sigma_data!r}, expected a number > 0: the data's standard deviation")
    return sigma_data


def column(name: str, rho: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in, c_noise of a column of table 1, float64 of rho's shape."""
    one, unit = torch.ones_like(rho), (rho**2 + 1).rsqrt()
    if name == "vp":
        return one, -rho, unit, (LEVELS - 1) * vp_time(rho)
    if name == "ve":
        return one, rho, one, (rho / 2).log()
    if name == "iddpm":
        nearest = (iddpm_levels().to(rho.device) - rho[..., None]).abs().argmin(-1)
        return one, -rho, unit, LEVELS - 1.0 - nearest
    if name == "edm":
        sigma_data = _deviation(sigma_data)
        spread = (rho**2 + sigma_data**2).sqrt()
        return sigma_data**2 / spread**2, rho * sigma_data / spread, 1 / spread, rho.log() / 4
    raise ValueError(f"name: {name!r}, expected 'vp', 've', 'iddpm' or 'edm'")


def precondition(
    net: Callable[[Tensor, Tensor], Tensor], *, process: Process, sigma_data: float = 0.5, name: str = "edm"
) -> Predictor:
    """D(x; rho) = c_skip x + c_out net(c_in x, c_noise) with the c's of a column of table 1, as a mean on any path.

    net: (c_in x [B,*D], c_noise [B]) -> [B,*D], cast to x's dtype here. sigma_data .5: standard deviation of the data,
    as in the paper for images in [-1,1]; the other columns have none.
    """
    column(name, torch.ones(1, dtype=torch.float64), sigma_data)  # refuses what it cannot be, before any evaluation

    def predict(x: Tensor, t: Time) -> Tensor:
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        skip, out, level, noise = column(name, process.rho(rows), sigma_data)
        alpha = process.alpha(rows)
        raw = net(expand(level / alpha, x) * x, noise.to(x.device, x.dtype)).to(x.dtype)
        return expand(skip / alpha, x) * x + expand(out, x) * raw

    return Predictor("mean", predict)


def _weighted(model: Model, x0: Tensor, t: Tensor, noise: Tensor, process: Process, weight: Tensor) -> Tensor:
    error = model(process.noised(x0, t, noise), t) - x0
    return weight.to(x0.device, x0.dtype) * error.flatten(1).square().sum(1)


def loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, sigma_data: float = 0.5) -> Tensor:
    """Weighted squared error of the mean, [B]: lambda(rho) |D - x0|^2 summed over the sample (training/loss.py)."""
    weight = (process.rho(t) ** 2 + _deviation(sigma_data) ** 2) / (process.rho(t) * sigma_data) ** 2
    return _weighted(model, x0, t, noise, process, weight)


def eps_loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """The loss of the VP, VE and iDDPM columns, [B]: |D - x0|^2/rho^2 summed over the sample."""
    return _weighted(model, x0, t, noise, process, process.rho(t) ** -2)


def vp_times(u: Tensor, process: Process) -> Tensor:
    """VP: t uniform on (1e-5, 1) of its schedule (training/loss.py), as an inverse CDF: u [B] in (0,1) -> t [B]."""
    return process.time_of_logsnr(-vp_level(1e-5 + u.double() * (1 - 1e-5)).log())


def ve_times(u: Tensor, process: Process) -> Tensor:
    """VE: log rho uniform on (log .02, log 100)."""
    return process.time_of_logsnr(-(math.log(0.02) + u.double() * math.log(100 / 0.02)))


def iddpm_times(u: Tensor, process: Process) -> Tensor:
    """iDDPM: rho = u_j, j uniform on 0..999; the level rises with u."""
    j = LEVELS - 1 - (u.double() * LEVELS).long().clamp(0, LEVELS - 1)
    return process.time_of_logsnr(-iddpm_levels().to(u.device)[j].log())


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
    samplers=tuple(
        Sampler(
            id=f"karras2022edm.{name}",
            sample=partial(sample, **options) if options else sample,
            consumes="mean",
            symmetric=frozenset({"rotation"}),
            # on ve-edm the velocity of a point mass is constant along its paths
            exact_on=frozenset({"delta"} if traits.get("path", "ve-edm") == "ve-edm" else ()),
            **{"grid": grids.power_to_zero(7.0), "path": "ve-edm", "nfe": evaluations, **traits},
        )
        for name, options, traits in (
            ("heun", {}, dict(order=2.0)),
            ("churn",
             # S_churn 40, S_min .05, S_max 50, S_noise 1.003: the published ImageNet-64 setting (README)
             dict(churn=40.0, churn_min=0.05, churn_max=50.0, churn_noise=1.003),
             dict(stochastic=True, weak_order=2.0, exact_options={"churn_noise": 1.0, "churn": 8.0})),
            ("euler", {"order": 1}, dict(order=1.0, nfe=lambda grid: grid.shape[0] - 1.0, variant=True, reduces=(
                Reduction({}, "song2020ddim.ddim", on="own"), Reduction({}, "lipman2022fm.euler")))),
            ("midpoint", {"stage": 0.5}, dict(order=2.0, variant=True)),
            ("ralston", {"stage": 2 / 3}, dict(order=2.0, variant=True)),
            # the other columns of table 1: heun on their schedule, scaling and time steps
            ("vp", {}, dict(order=2.0, path="vp-linear", grid=vp_to_zero, variant=True)),
            ("ve", {}, dict(order=2.0, path="ve-sqrt", grid=ve_to_zero, variant=True)),
            ("iddpm", {}, dict(order=2.0, grid=iddpm_to_zero, start=start_at_first_level, variant=True)),
        )
    ),
    objectives=(
        Objective(id="karras2022edm.loss", loss=loss, minimiser="mean", path="ve-edm", times=lognormal_times),
        Objective(id="karras2022edm.vp_loss", loss=eps_loss, minimiser="mean", path="vp-linear", times=vp_times),
        Objective(id="karras2022edm.ve_loss", loss=eps_loss, minimiser="mean", path="ve-sqrt", times=ve_times),
        Objective(id="karras2022edm.iddpm_loss", loss=eps_loss, minimiser="mean", path="ve-edm", times=iddpm_times),
    ),
    parametrisations={name: partial(precondition, name=name) for name in ("edm", "vp", "ve", "iddpm")},
)  # fmt: skip
