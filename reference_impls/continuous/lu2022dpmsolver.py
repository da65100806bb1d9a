"""lu2022dpmsolver - DPM-Solver: exponential Runge-Kutta and multistep integration of the noise prediction in log-SNR.

Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10
Steps", NeurIPS 2022, arXiv:2206.00927. Official code: LuChengTHU/dpm-solver (MIT).
Path        x_t = alpha_t x0 + sigma_t eps, vp-linear, lam = log(alpha/sigma); the paper steps s -> t, we step t -> s.
            Down to t = 1e-3; beyond 15 evaluations the code recommends 1e-4. Any path with alpha > 0: at alpha = 0 the
            noise prediction says nothing of x0, and that is refused. A chain of T levels has its knots at i/T.
Loss        none: training free.
Step        x_s = (alpha_s/alpha_t) x_t - alpha_s int exp(-l) e_l dl over lam_t..lam_s, e = (x - alpha D)/sigma; with
            h = lam_s - lam_t and f_k(r) = -sigma_r q h phi_k(q h), r the end of a stage, q its share of h:
            1      x_s = (alpha_s/alpha_t) x_t + f_1 e_t                                             [eq. 3.7, DDIM]
            2      e_1 at share r1 by order 1, then f_1 e_t + f_1 (e_1 - e_t)/(2 r1) ("dpm"),            [alg. 1]
                   or f_1 e_t + f_2 (e_1 - e_t)/r1 ("taylor")
            3      e_1 at r1, e_2 at r2 from f_1 e_t + (r2/r1) f_2 (e_1 - e_t), then                     [alg. 2]
                   f_1 e_t + f_2 (e_2 - e_t)/r2 ("dpm") or f_1 e_t + f_2 E' + f_3 E'' ("taylor"), E' and E'' the
                   derivatives of the parabola through the three
            2M, 3M the same with the predictions of the intervals before (the repository's; memory: two of them)
            fast   orders 3, .., 3 and a tail that spends exactly NFE evaluations                  [appendix; recall]
            12, 23 adaptive pairs: E = rms((high - low)/max(atol, rtol max(|low|, |low before|))); accepted if
                   E <= 1; h becomes .9 h E^(-1/p).                                               [appendix; recall]
            encode the same steps from s up to t, h < 0; 3M with the code's factor on demand (`encoder_3m_official`).
            An interval that ends at clean data has order 1 and lands on D.
Cost        NFE = order x steps (singlestep), steps (2M, 3M, fast), metered (adaptive); one less for each stage that an
            interval to clean data leaves out; denoise_to_zero adds one. Orders as named; "fast" has order 3 where
            NFE = 2 mod 3 and otherwise 2, because its last step is of order 1.
Exact when  point mass, any step; every path with the same rho gives the same x/alpha (fixed grids); order 1 is DDIM.
            A prediction polynomial in lam: degree 0 ("dpm" 2, 2M), 1 ("dpm" 3, "taylor" 2), 2 ("taylor" 3, 3M).
Differs     3M: the code leaves out the factor 2 of its second difference and is of order 2: `3m_official`; `3m` has it.
            The code's lower_order_final is said to act below 15 steps and acts below 10: followed. It refuses fewer
            steps than the order: here the start-up is cut short. Adaptive: the code takes the largest E of the batch,
            so that a sample depends on its neighbours (`shared`); here every sample has its own steps, as in the paper,
            unless asked. The code stops within 1e-5 of t_end and may then stop short of it; here the last step ends
            on it, and the first is no longer than the whole. It rounds E^(-1/p) to float32; not followed. It takes any
            safety factor; at 1 a rejected step can stay what it was, for ever: here it is below 1. Upwards its adaptive
            control steps .05 down and then tries the whole way at once, for ever if that is rejected: not offered. It
            begins a chain at the last knot with lam >= -5.1 (`clipped_lam`), then stretches its times over
            the T' knots that are left and labels knot i with 1000 (i - 1)/T' instead of i - 1 (up to 4 off on a cosine
            chain of 1000): here times stay those of the chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.phi import phi
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Paper, Reduction, Run, Sampler, expand, require

FINAL_BELOW = 10  # lower_order_final acts below this many steps [code]
CLIP = -5.1  # half log-SNR below which a chain is not begun [code]
Form = Literal["dpm", "taylor"]


def required(order: int, form: str, process: Process, grid: Tensor, orders: tuple[int, ...] = (1, 2, 3)) -> None:
    """Raises ValueError for an order or form that there is not, BadGrid for a grid that starts without signal."""
    if type(order) is not int or order not in orders:
        raise ValueError(f"order: {order!r}, expected {' or '.join(str(each) for each in orders)}")
    if form not in ("dpm", "taylor"):
        raise ValueError(f"form: {form!r}, expected 'dpm' (the default of paper and code) or 'taylor'")
    if process.alpha(grids.checked(grid)[0].item()) <= 0:
        raise grids.BadGrid(f"grid: starts at {grid[0]:g}, where alpha = 0 on {process.name}; start at alpha > 0")


class Level(NamedTuple):
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor


def level(t: Tensor, process: Process) -> Level:
    """Signal, noise and log-SNR at these times, float64."""
    return Level(t, process.alpha(t), process.sigma(t), process.lam(t))


def weight(k: int, t: Level, end: Level) -> Tensor:
    """f_k for a stage from t to `end`: -sigma_end q phi_k(q), q = lam_end - lam_t; f_1 is finite at sigma_end = 0."""
    q = end.lam - t.lam
    if k == 1:
        return end.alpha * t.sigma / t.alpha * torch.expm1(-q)  # sigma_end exp(q) = alpha_end sigma_t/alpha_t
    return -end.sigma * q * phi(k, q)


class Stages(NamedTuple):
    """One interval of a singlestep method; e = tilt x + share D. Columns are float64 of one shape."""

    t: Tensor
    t1: Tensor
    t2: Tensor
    order: Tensor
    tilt: Tensor
    share: Tensor
    tilt1: Tensor
    share1: Tensor
    tilt2: Tensor
    share2: Tensor
    keep1: Tensor  # x_1 = keep1 x + now1 e_t
    now1: Tensor
    keep2: Tensor  # x_2 = keep2 x + now2 e_t + mid2 e_1
    now2: Tensor
    mid2: Tensor
    keep: Tensor  # x_s = keep x + now e_t + mid e_1 + late e_2
    now: Tensor
    mid: Tensor
    late: Tensor


def stages(times: tuple[Tensor, Tensor, Tensor, Tensor], order: Tensor, process: Process, form: Form) -> Stages:
    """Coefficients for times t > t1 > t2 > s; those that an order does not reach are 0 and their times unread."""
    t, t1, t2, s = (level(each, process) for each in times)
    h, h1, h2 = (end.lam - t.lam for end in (s, t1, t2))
    r1, r2, f1, f2 = h1 / h, h2 / h, weight(1, t, s), weight(2, t, s)
    first, second = {2: f1 / (2 * r1), 3: torch.zeros_like(f1)}, {2: torch.zeros_like(f1), 3: f2 / r2}
    if form == "taylor":
        f3 = weight(3, t, s)
        first = {2: f2 / r1, 3: (r2 * f2 - 2 * f3) / (r1 * (r2 - r1))}
        second[3] = (2 * f3 - r1 * f2) / (r2 * (r2 - r1))
    mid, late = (torch.where(order < 2, 0.0, torch.where(order == 2, c[2], c[3])) for c in (first, second))
    mid2 = torch.where(order < 3, 0.0, weight(2, t, t2) * h2 / h1)
    tilts = [each for end in (t, t1, t2) for each in (1 / end.sigma, -end.alpha / end.sigma)]
    return Stages(
        t.t, t1.t, t2.t, order, *tilts, t1.alpha / t.alpha, weight(1, t, t1),
        t2.alpha / t.alpha, weight(1, t, t2) - mid2, mid2, s.alpha / t.alpha, f1 - mid - late, mid, late,
    )  # fmt: skip


def total(x: Tensor, keep: float, terms: tuple[tuple[float, Tensor], ...]) -> Tensor:
    """keep x + the sum of weight times prediction, in a fresh tensor."""
    out = torch.mul(x, keep)
    for factor, term in terms:
        if factor:
            out.add_(term, alpha=factor)
    return out


def singlestep(x: Tensor, row: Stages, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """Algorithms 1 and 2, one interval, of the row's order."""
    e = torch.mul(x, row.tilt).add_(model(x, row.t), alpha=row.share)
    e_1 = e_2 = e
    if row.order >= 2:
        x_1 = total(x, row.keep1, ((row.now1, e),))
        e_1 = torch.mul(x_1, row.tilt1).add_(model(x_1, row.t1), alpha=row.share1)
    if row.order >= 3:
        x_2 = total(x, row.keep2, ((row.now2, e), (row.mid2, e_1)))
        e_2 = torch.mul(x_2, row.tilt2).add_(model(x_2, row.t2), alpha=row.share2)
    return total(x, row.keep, ((row.now, e), (row.mid, e_1), (row.late, e_2))), None


def inside(t: Tensor, s: Tensor, share: float, inner: str, process: Process) -> Tensor:
    """Times at a share of each interval, counted in lam (the paper), in t or in sqrt t (the code on time grids)."""
    if inner == "lam":
        lam_t, lam_s = process.lam(t), process.lam(s)
        return process.time_of_logsnr(torch.where(lam_s.isinf(), lam_t, lam_t + share * (lam_s - lam_t)))
    power = {"t": 1.0, "sqrt_t": 0.5}[inner]
    return (t**power + share * (s**power - t**power)) ** (1 / power)


def singlestep_plan(
    grid: Tensor, process: Process, *, order: int = 2, form: Form = "dpm", r1: float = 0.0, r2: float = 0.0,
    inner: str = "lam",
) -> Stages:  # fmt: skip
    """One step of `order` for every interval, with inner points at shares r1 < r2 of it; 0: 1/order and 2/order."""
    r1, r2 = r1 or 1 / order, r2 or 2 / order
    if order > 1 and not (0 < r1 < 1 and (order == 2 or r1 < r2 < 1)):
        raise ValueError(f"r1, r2: {r1!r}, {r2!r}, expected 0 < r1 < r2 < 1 (r1 < 1 alone at order 2)")
    if inner not in ("lam", "t", "sqrt_t"):
        raise ValueError(f"inner: {inner!r}, expected 'lam', 't' or 'sqrt_t'")
    t, s = grid[:-1], grid[1:]
    orders = torch.where((s == 0) | process.lam(s).isinf(), 1, order).double()
    t1, t2 = (inside(t, s, share, inner, process) if share < 1 else t for share in (r1, r2))
    return stages((t, t1, t2, s), orders, process, form)


def denoised(run: Run, model: Model, grid: Tensor) -> Run:
    """The run with x replaced by D(x, t) at its last time: denoise_to_zero of the code, one more evaluation."""
    meter = require(model, "mean", run.x.shape[0])
    return run._replace(x=meter(run.x, grid[-1].item()), nfe=run.nfe + meter.nfe)


def noisy_end(grid: Tensor, process: Process, purpose: str) -> None:
    """Raises BadGrid for a grid that ends at clean data, where e has no value and nothing is left to denoise."""
    if process.sigma(end := grids.checked(grid)[-1].item()) <= 0:
        raise grids.BadGrid(f"grid: ends at {end:g}, clean data, expected sigma > 0 for {purpose}; end at t > 0")


def driven(
    rows: NamedTuple, step: Callable, model: Model, x: Tensor, grid: Tensor, process: Process, draws: Draws,
    denoise_to_zero: bool, memory: Any = None,
) -> Run:  # fmt: skip
    """drive, and one evaluation more if denoise_to_zero, which is refused before the first."""
    if denoise_to_zero:
        noisy_end(grid, process, "denoise_to_zero")
    run = drive(rows, step, model, x, draws=draws, memory=memory)
    return denoised(run, model, grid) if denoise_to_zero else run


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 2, form: Form = "dpm",
    r1: float = 0.0, r2: float = 0.0, inner: str = "lam", denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """Singlestep DPM-Solver of one order, the code's singlestep_fixed. x [B,*D]. Defaults: algorithm 1, r1 = 1/2."""
    required(order, form, process, grid)
    rows = singlestep_plan(grid, process, order=order, form=form, r1=r1, r2=r2, inner=inner)
    return driven(rows, singlestep, model, x, grid, process, draws, denoise_to_zero)


def fast_orders(evaluations: int, order: int = 3) -> list[int]:
    """Orders of the steps that spend exactly these evaluations (DPM-Solver-fast; the code's "singlestep")."""
    whole, rest = divmod(evaluations, order)
    if order == 3 and whole and not rest:
        return [3] * (whole - 1) + [2, 1]
    return [order] * whole + [rest] * (rest > 0)


def fast_plan(grid: Tensor, process: Process, *, order: int = 3, form: Form = "dpm") -> Stages:
    """Steps over the points of the grid, one for each evaluation: a step of order p spans p intervals and evaluates at
    their starts. An interval to clean data is a step of its own."""
    clean = int(grid[-1] == 0)
    orders = fast_orders(grid.shape[0] - 1 - clean, order) + [1] * clean
    ends, order_of = [sum(orders[: i + 1]) for i in range(len(orders))], torch.tensor(orders, dtype=torch.float64)
    t, t1, t2 = (grid[[end - max(p - j, 0) for end, p in zip(ends, orders, strict=True)]] for j in range(3))
    times = t, torch.where(order_of < 2, t, t1), torch.where(order_of < 3, t, t2), grid[ends]
    return stages(times, order_of, process, form)


def sample_fast(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 3, form: Form = "dpm",
    denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """DPM-Solver-fast: the grid has one interval for each evaluation. x [B,*D]. Default: that of the paper."""
    required(order, form, process, grid)
    rows = fast_plan(grid, process, order=order, form=form)
    return driven(rows, singlestep, model, x, grid, process, draws, denoise_to_zero)


def fast_lam(steps: int, process: Process, order: int = 3) -> Tensor:
    """The paper's grid: the steps of fast_orders evenly spaced in lam, each of them divided evenly."""
    grid, orders = grids.uniform_lam(steps, process), fast_orders(steps, order)
    shares = [(i + j / p) / len(orders) for i, p in enumerate(orders) for j in range(p)]
    lam, inner = process.lam(grid[[0, -1]]), torch.tensor(shares[1:], dtype=torch.float64)
    grid[1:-1] = process.time_of_logsnr(lam[0] + inner * (lam[1] - lam[0]))
    return grid


class Multistep(NamedTuple):
    t: Tensor
    tilt: Tensor  # e = tilt x + share D
    share: Tensor
    keep: Tensor  # x_s = keep x + now e + before e_before + earlier e_earlier
    now: Tensor
    before: Tensor
    earlier: Tensor


def multistep_plan(
    grid: Tensor, process: Process, *, order: int = 2, form: Form = "dpm", official: bool = False,
    lower_order_final: bool = True,
) -> Multistep:  # fmt: skip
    """Coefficients of every interval. official: the second difference of order 3 without its factor 2, as coded."""
    n = grid.shape[0] - 1
    t, s, place = level(grid[:-1], process), level(grid[1:], process), torch.arange(n)
    h, orders = s.lam - t.lam, (place + 1).clamp(max=order)
    if lower_order_final and n < FINAL_BELOW:
        orders = torch.minimum(orders, n - place)
    orders = torch.where(h.isinf(), 1, orders)
    k0, k1 = torch.zeros_like(h), torch.zeros_like(h)  # h over the interval before, over the one before that
    k0[1:], k1[2:] = h[1:] / h[:-1], h[2:] / h[:-2]
    k0, k1 = (torch.where(orders == 1, 0.0, each) for each in (k0, k1))
    f1, f2, f3 = (weight(k, t, s) for k in (1, 2, 3))
    slope = torch.where(orders == 3, f2, f1 / 2 if form == "dpm" else f2)
    # (e_t - e_before)/r0 - (e_before - e_earlier)/r1 enters with bend
    bend = torch.where(orders == 3, k1 / (k0 + k1) * (f2 + (1 if official else 2) * k0 * f3), 0.0)
    slope, curve = torch.where(orders == 1, 0.0, k0 * (slope + bend)), k1 * bend
    return Multistep(t.t, 1 / t.sigma, -t.alpha / t.sigma, s.alpha / t.alpha, f1 + slope, -slope - curve, curve)


def multistep(
    x: Tensor, row: Multistep, before: tuple[Tensor, ...], *, model: Model, draws: Draws
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One interval of 2M or 3M; memory: the noise predictions of the two intervals before, latest first."""
    e = torch.mul(x, row.tilt).add_(model(x, row.t), alpha=row.share)
    x_s = torch.mul(x, row.keep).add_(e, alpha=row.now)
    if row.before:
        x_s.add_(before[0], alpha=row.before)
    if row.earlier:
        x_s.add_(before[1], alpha=row.earlier)
    return x_s, (e, *before[:1])


def sample_multistep(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 2, form: Form = "dpm",
    official: bool = False, lower_order_final: bool = True, denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """2M or 3M in noise prediction. x [B,*D]. lower_order_final and form: the defaults of the code; order 3 has no form
    of its own, but its start-up has."""
    required(order, form, process, grid)
    rows = multistep_plan(grid, process, order=order, form=form, official=official, lower_order_final=lower_order_final)
    return driven(rows, multistep, model, x, grid, process, draws, denoise_to_zero, memory=())


def encode(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 2, form: Form = "dpm",
    inner: str = "lam", memory: bool = False, official: bool = False, lower_order_final: bool = True,
) -> Run:  # fmt: skip
    """The same steps with their ends exchanged, from data at grid[-1] up to noise at grid[0]; with memory those of
    2M or 3M, which alone heed official and lower_order_final, inner being heeded without. x [B,*D]. The code's
    `inverse`."""
    required(order, form, process, grid)
    noisy_end(grid, process, "encode")
    own = dict(official=official, lower_order_final=lower_order_final) if memory else dict(inner=inner)
    plan, step = (multistep_plan, multistep) if memory else (singlestep_plan, singlestep)
    return drive(plan(grid.flip(0), process, order=order, form=form, **own), step, model, x, draws=draws, memory=())


def clipped_lam(steps: int, process: Process, knots: int = 1000) -> Tensor:
    """uniform_lam between the first knot 1/knots of a chain and the last one whose log-SNR is not below CLIP."""
    last = math.floor(process.time_of_logsnr(CLIP) * knots + 1e-6) / knots
    return grids.uniform_lam(steps, process.between(max(process.t_min, 1 / knots), min(process.t_max, last)))


def pair(model: Model, x: Tensor, t: Tensor, s: Tensor, order: int, form: Form, process: Process) -> list[Tensor]:
    """The lower- and the higher-order result of one step from t [R] to s [R]; they share their evaluations."""
    t1, t2 = (inside(t, s, share, "lam", process) for share in (1 / order, 2 / 3))
    orders = torch.tensor([[order - 1.0], [order]], dtype=torch.float64, device=t.device)
    rows = stages((t, t1, t2, s), orders, process, form)
    low, high = (Stages(*(expand(c[i] if c.ndim == 2 else c, x) for c in rows)) for i in (0, 1))
    e = [high.tilt * x + high.share * model(x, t)]
    x_1 = high.keep1 * x + high.now1 * e[0]
    e.append(high.tilt1 * x_1 + high.share1 * model(x_1, t1))
    if order == 3:
        x_2 = high.keep2 * x + high.now2 * e[0] + high.mid2 * e[1]
        e.append(high.tilt2 * x_2 + high.share2 * model(x_2, t2))
    weights = ((row.now, row.mid, row.late) for row in (low, high))
    return [high.keep * x + sum(w * each for w, each in zip(three, e, strict=False)) for three in weights]


def sample_adaptive(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 3, form: Form = "dpm",
    rtol: float = 0.05, atol: float = 0.0078, first: float = 0.05, safety: float = 0.9, shared: bool = False,
    denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """DPM-Solver-12 or -23 from grid[0] to grid[-1]; the times between are not used. A loop of its own, because every
    sample chooses its steps. x [B,*D]. rtol, atol, first step in lam, safety: the code's. shared: one step size for the
    batch, from its largest error. Raises FloatingPointError if a step underflows."""
    required(order, form, process, grid, (2, 3))
    noisy_end(grid, process, "adaptive steps")
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
        raise ValueError(f"rtol, atol: {rtol!r}, {atol!r}, expected >= 0 and not both 0")
    if not (first > 0 and 0 < safety < 1):  # with 1 a rejected step may stay as it is, for ever
        raise ValueError(f"first, safety: {first!r}, {safety!r}, expected first > 0, 0 < safety < 1; the code has .9")
    meter, end, lam_end = require(model, "mean", x.shape[0]), grid[-1].item(), process.lam(grid[-1].item())
    t = torch.full((x.shape[0],), grid[0].item(), dtype=torch.float64, device=x.device)
    h = torch.full_like(t, min(first, lam_end - process.lam(grid[0].item())))
    x, low_before, rows = x.clone(), x.clone(), torch.arange(x.shape[0], device=x.device)
    while rows.numel():
        lam = process.lam(t[rows])
        if not (h[rows] > 1e-14 * (1 + lam.abs())).all():
            raise FloatingPointError(f"step in lam: {h[rows].min():g}, expected above 0; loosen rtol or mend the model")
        s = torch.where(h[rows] >= (lam_end - lam) * (1 - 1e-10), end, process.time_of_logsnr(lam + h[rows]))
        low, high = pair(meter, x[rows], t[rows], s, order, form, process)
        scale = (rtol * torch.maximum(low.abs(), low_before[rows].abs())).clamp(min=atol)
        error = ((high - low) / scale).detach().double().flatten(1).square().mean(1).sqrt()
        error = error.max().expand_as(error) if shared else error
        good = error <= 1
        x[rows[good]], low_before[rows[good]], t[rows[good]] = high[good], low[good].detach(), s[good]
        h[rows] = torch.minimum(safety * h[rows] * error ** (-1 / order), lam_end - process.lam(t[rows]))
        rows = rows[t[rows] != end]
    return denoised(Run(x, meter.nfe), model, grid) if denoise_to_zero else Run(x, meter.nfe)


def per_step(order: int, grid: Tensor) -> float:
    """Evaluations of a singlestep method; an interval that ends at clean data needs one."""
    return order * (grid.shape[0] - 1.0) - (order - 1) * float(grid[-1] == 0)


PAPER = Paper(
    key="lu2022dpmsolver",
    title="DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps",
    authors="Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu",
    venue="NeurIPS 2022",
    arxiv="2206.00927",
    code="LuChengTHU/dpm-solver",
    licence="MIT",
    samplers=tuple(
        Sampler(
            id=f"lu2022dpmsolver.{name}",
            sample=partial(method, **options),
            consumes="mean",
            exact_on=frozenset({"delta"}),
            # the error of the adaptive pairs is measured in x, coordinate by coordinate
            symmetric=frozenset() if method is sample_adaptive else frozenset({"rotation", "paths"}),
            **{"path": "vp-linear", "grid": grids.uniform_lam, **traits},
        )
        for name, method, options, traits in (
            ("singlestep2", sample, {},
             dict(nfe=partial(per_step, 2), order=2.0, reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("singlestep2_taylor", sample, {"form": "taylor"}, dict(nfe=partial(per_step, 2), order=2.0, variant=True)),
            ("singlestep3", sample, {"order": 3},
             dict(nfe=partial(per_step, 3), order=3.0, reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("singlestep3_taylor", sample, {"order": 3, "form": "taylor"},
             dict(nfe=partial(per_step, 3), order=3.0, variant=True)),
            # no order: that of the last step depends on steps mod 3
            ("fast", sample_fast, {},
             dict(nfe=partial(per_step, 1), grid=fast_lam, reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("2m", sample_multistep, {},
             dict(nfe=partial(per_step, 1), order=2.0, reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("2m_taylor", sample_multistep, {"form": "taylor"},
             dict(nfe=partial(per_step, 1), order=2.0, variant=True)),
            # its start-up, a step of order 1 and one of order 2, leaves order 2; with exact starts it has order 3
            ("3m", sample_multistep, {"order": 3}, dict(nfe=partial(per_step, 1), order=2.0, variant=True)),
            ("3m_official", sample_multistep, {"order": 3, "official": True},
             dict(nfe=partial(per_step, 1), order=2.0, variant=True)),
            ("2m_clipped", sample_multistep, {},
             dict(nfe=partial(per_step, 1), order=2.0, path="discrete-cosine", grid=clipped_lam, variant=True)),
            ("encoder2", encode, {}, dict(nfe=partial(per_step, 2), order=2.0, walks="up", variant=True, reduces=(
                Reduction({"order": 1}, "song2020ddim.inversion"),))),
            ("encoder3", encode, {"order": 3}, dict(nfe=partial(per_step, 3), order=3.0, walks="up", variant=True)),
            ("encoder_2m", encode, {"memory": True},
             dict(nfe=partial(per_step, 1), order=2.0, walks="up", variant=True)),
            ("encoder_3m_official", encode, {"memory": True, "order": 3, "official": True},
             dict(nfe=partial(per_step, 1), order=2.0, walks="up", variant=True)),
            ("adaptive2", sample_adaptive, {"order": 2}, dict(known_failures={
                "gradient_reaches_the_start": "a gradient holds the steps fixed: at rtol .05 they matter, at 1e-4 not",
            })),
            ("adaptive3", sample_adaptive, {"order": 3}, dict(known_failures={
                "gradient_reaches_the_start": "a gradient holds the steps fixed: at rtol .05 they matter, at 1e-3 not",
                "float32_follows_float64": "early steps are powers of an error that is rounding: other steps, as good",
            })),
            ("adaptive2_shared", sample_adaptive, {"order": 2, "shared": True}, dict(per_sample=False, variant=True)),
            ("adaptive3_shared", sample_adaptive, {"order": 3, "shared": True},
             dict(per_sample=False, variant=True, known_failures={
                "float32_follows_float64": "early steps are powers of an error that is rounding: other steps, as good",
            })),
        )
    ),
)  # fmt: skip
