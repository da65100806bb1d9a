"""lu2022dpmsolverpp - DPM-Solver++: exponential integration of the data prediction in log-SNR, as ODE and as SDE.

Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
Machine Intelligence Research 2025, arXiv:2211.01095. Official code: LuChengTHU/dpm-solver (MIT); SDE forms:
crowsonkb/k-diffusion (MIT).
Path        x_t = alpha_t x0 + sigma_t eps, vp-linear, lam = log(alpha/sigma); the paper steps s -> t, we step t -> s.
Loss        none: training free.
Step        h = lam_s - lam_t, H = (1 + eta) h, f_k = alpha_s H phi_k(-H), z a unit normal:
            1      x_s = (sigma_s/sigma_t) e^(-eta h) x_t + f_1 D_t + sigma_s sqrt(1 - e^(-2 eta h)) z
            2M     adds f_1 a/2 ("dpm", midpoint) or f_2 a ("taylor", heun); a = (D_t - D_before) h/(h before) [alg. 2]
            3M     adds f_2 D' + f_3 D'', the derivatives of the parabola through the last three D
            2S     D_1 at share r1 of the interval by order 1; f_1 (D_1 - D_t)/(2 r1) or f_2 (D_1 - D_t)/r1    [alg. 1]
            3S     D_1 at r1, D_2 at r2; f_2 (D_2 - D_t)/r2, or the parabola's f_2 D' + f_3 D''
            fast   3S, .., 3S and a tail that spends exactly NFE evaluations: inner = "grid"
            2S-SDE the stage at r1 has its own noise z_1, which the step's end takes over in part: one Brownian path
            Shares r1 < r2 are counted in lam, or as the code does on time grids in t or sqrt t (inner).
            eta = 0 is the flow ODE, eta = 1 the time reversal. noise: the squared correlation of the stage's noise
            with the end's is e^(-2 eta (h - q)) (1 - e^(-2 eta q))/(1 - e^(-2 eta h)), q = r1 h ("brownian", the
            SDE's own path), (1 - e^-q)/(1 - e^-h) ("sigma") or 0 ("independent").
            predicts = "eps": the multistep forms with e instead of D, f_k = -(1 + eta) sigma_s h phi_k(h),
            (alpha_s/alpha_t) x_t in front and sigma_s sqrt(eta (e^(2h) - 1)) z behind.
            threshold: D is clipped to [-q, q] and divided by q, the quantile of |D| in its sample, at least the bound.
            guided: D = D_free + guidance (D_told - D_free), thresholded afterwards; one of them knows the label.
            Memory: the last two D. A step to sigma_s = 0 lands on D.
Cost        NFE = steps (multistep, fast), twice that guided, 2 or 3 a step (singlestep), 1 for a step to clean data;
            denoise_to_zero adds one. Order 2, 3S order 3, fast 3 where NFE = 2 mod 3, else 2; 3M is held to order 2
            by its start-up. Weak order 1 (SDE-1), 2 (SDE-2M, -3M, 2S-SDE).
Exact when  point mass, any step, in law for the SDE forms in D; every path with the same rho gives the same x/alpha;
            order = 1 is DDIM, with eta = 1 DDPM's small variance; eta = 0 of an SDE form is its ODE form.
Differs     3M: code and copies leave out the factor 2 of the second difference and are of order 2: `3m_official`,
            `sde3m_official`; `3m`, `sde3m` have it. "dpm" is second order but not exact for D linear in lam, "taylor"
            is. lower_order_final: the docstring of the code says below 15 steps, its code below 10: the code is
            followed; k-diffusion has none, nor have the SDE cards. The code refuses fewer steps than its order: here
            the start-up is cut short. Its noise prediction ignores a threshold: refused here. 2S-SDE: k-diffusion's eta
            scales a standard deviation, ours the noise's variance rate (equal at 0 and 1). Its noise comes by default
            from a path that runs in sigma, ours from the SDE's own; `sde2s_sigma` has that of k-diffusion, and the
            smaller error (Gaussian data, 16 steps of power(7) on ve-edm: variance -4.2 % against -8.0 %). Both have
            weak order 2, with independent noise 1. The code's adaptive and upward steps take D as well: here they stand
            with lu2022dpmsolver, in e.
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
from reference_impls.core.types import (
    ConditionalModel,
    Draws,
    Model,
    Paper,
    Predictor,
    Reduction,
    Run,
    Sampler,
    Time,
    require,
)

FINAL_BELOW = 10  # lower_order_final acts below this many steps [code]
Form = Literal["dpm", "taylor"]


def required(order: int, form: str, eta: float, process: Process, grid: Tensor, *, signal: bool) -> None:
    """Raises ValueError for an option that there is not, BadGrid where a start lacks the signal that is needed."""
    if type(order) is not int or order not in (1, 2, 3):
        raise ValueError(f"order: {order!r}, expected 1, 2 or 3")
    if form not in ("dpm", "taylor"):
        raise ValueError(f"form: {form!r}, expected 'dpm' (midpoint, the default) or 'taylor' (heun)")
    if not 0 <= eta < math.inf:
        raise ValueError(f"eta: {eta!r}, expected a number >= 0 (0 is the flow ODE, 1 the time reversal)")
    if signal and process.alpha(grids.checked(grid)[0].item()) <= 0:
        raise grids.BadGrid(f"grid: starts at {grid[0]:g}, where alpha = 0 on {process.name}; start at alpha > 0")


class Level(NamedTuple):
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    lam: Tensor


def level(t: Tensor, process: Process) -> Level:
    """Signal, noise and log-SNR at these times, float64."""
    return Level(t, process.alpha(t), process.sigma(t), process.lam(t))


def weight(k: int, t: Level, end: Level, eta: Tensor, eps: bool = False) -> Tensor:
    """f_k of a stage from t to `end`, q their distance in lam: alpha_end Q phi_k(-Q) with Q = (1 + eta) q, or for e
    -(1 + eta) sigma_end q phi_k(q). f_1 is finite at both ends of a path, the others are not used there."""
    q = end.lam - t.lam
    if eps:
        first = end.alpha * t.sigma / t.alpha * torch.expm1(-q)  # sigma_end exp(q) = alpha_end sigma_t/alpha_t
        return (1 + eta) * (first if k == 1 else -end.sigma * q * phi(k, q))
    q = (1 + eta) * q
    return end.alpha * (-torch.expm1(-q) if k == 1 else q * phi(k, -q))


class Multistep(NamedTuple):
    t: Tensor
    tilt: Tensor  # prediction = tilt x + share D; tilt = 0: D itself
    share: Tensor
    keep: Tensor  # x_s = keep x + now m + before m_before + earlier m_earlier + noise z
    now: Tensor
    before: Tensor
    earlier: Tensor
    noise: Tensor


def multistep_plan(
    grid: Tensor, process: Process, *, order: int = 2, form: Form = "dpm", eta: float = 0.0, predicts: str = "mean",
    official: bool = False, lower_order_final: bool = True,
) -> Multistep:  # fmt: skip
    """Coefficients of every interval. official: the second difference of order 3 without its factor 2, as coded."""
    if predicts not in ("mean", "eps"):
        raise ValueError(f"predicts: {predicts!r}, expected 'mean' (data prediction) or 'eps'")
    eps, n = predicts == "eps", grids.checked(grid).shape[0] - 1
    required(order, form, eta, process, grid, signal=eps)
    t, s, place = level(grid[:-1], process), level(grid[1:], process), torch.arange(n)
    h, orders = s.lam - t.lam, (place + 1).clamp(max=order)
    if lower_order_final and n < FINAL_BELOW:
        orders = torch.minimum(orders, n - place)
    orders = torch.where(h.isinf(), 1, orders)  # no extrapolation to or from lam = inf
    eta_of = eta * (s.sigma > 0).double()  # the last step to clean data lands on D
    k0, k1 = torch.zeros_like(h), torch.zeros_like(h)  # h over the interval before, over the one before that
    k0[1:], k1[2:] = h[1:] / h[:-1], h[2:] / h[:-2]
    k0, k1 = (torch.where(orders == 1, 0.0, each) for each in (k0, k1))
    f1, f2, f3 = (weight(k, t, s, eta_of, eps) for k in (1, 2, 3))
    slope = torch.where(orders == 3, f2, f1 / 2 if form == "dpm" else f2)
    # (m - m_before)/r0 - (m_before - m_earlier)/r1 enters with bend
    bend = torch.where(orders == 3, k1 / (k0 + k1) * (f2 + (1 if official else 2) * k0 * f3), 0.0)
    slope, curve = torch.where(orders == 1, 0.0, k0 * (slope + bend)), k1 * bend
    zero, ratio = torch.zeros_like(h), s.sigma / t.sigma
    damped = ratio * torch.where(eta_of > 0, -eta_of * h, 0.0).exp()
    tilt, share, keep = (1 / t.sigma, -t.alpha / t.sigma, s.alpha / t.alpha) if eps else (zero, zero + 1, damped)
    noise = s.sigma * (eta_of * torch.expm1(2 * h) if eps else -torch.expm1(-2 * eta_of * h)).sqrt()
    noise = torch.where(eta_of > 0, noise, 0.0)
    return Multistep(t.t, tilt, share, keep, f1 + slope, -slope - curve, curve, noise)


def multistep(
    x: Tensor, row: Multistep, before: tuple[Tensor, ...], *, model: Model, draws: Draws
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Algorithm 2, one interval; memory: the predictions of the two intervals before, latest first."""
    m = model(x, row.t)
    if row.tilt:
        m = torch.mul(x, row.tilt).add_(m, alpha=row.share)
    x_s = torch.mul(x, row.keep).add_(m, alpha=row.now)
    if row.before:
        x_s.add_(before[0], alpha=row.before)
    if row.earlier:
        x_s.add_(before[1], alpha=row.earlier)
    return (x_s.add_(draws.normal("step", x), alpha=row.noise) if row.noise else x_s), (m, *before[:1])


class Stages(NamedTuple):
    t: Tensor
    t1: Tensor
    t2: Tensor
    order: Tensor
    keep1: Tensor  # x_1 = keep1 x + now1 D_t + noise1 z_1
    now1: Tensor
    noise1: Tensor
    keep2: Tensor  # x_2 = keep2 x + now2 D_t + mid2 D_1
    now2: Tensor
    mid2: Tensor
    keep: Tensor  # x_s = keep x + now D_t + mid D_1 + late D_2 + carried z_1 + noise z
    now: Tensor
    mid: Tensor
    late: Tensor
    carried: Tensor
    noise: Tensor


def inside(t: Tensor, s: Tensor, share: float, inner: str, process: Process) -> Tensor:
    """Times at a share of each interval, counted in lam (the paper), in t or in sqrt t (the code on time grids)."""
    if inner == "lam":
        lam_t, lam_s = process.lam(t), process.lam(s)
        return process.time_of_logsnr(torch.where(lam_s.isinf(), lam_t, lam_t + share * (lam_s - lam_t)))
    power = {"t": 1.0, "sqrt_t": 0.5}[inner]
    return (t**power + share * (s**power - t**power)) ** (1 / power)


def fast_orders(evaluations: int, order: int = 3) -> list[int]:
    """Orders of the steps that spend exactly these evaluations (the code's "singlestep")."""
    whole, rest = divmod(evaluations, order)
    tail = [2, 1] if order == 3 and whole and not rest else [rest] * (rest > 0)
    return [order] * (whole - (len(tail) == 2)) + tail


def fast_lam(steps: int, process: Process, order: int = 3) -> Tensor:
    """The paper's grid for inner = "grid": the steps of fast_orders evenly spaced in lam, each divided evenly."""
    grid, orders = grids.uniform_lam(steps, process), fast_orders(steps, order)
    shares = [(i + j / p) / len(orders) for i, p in enumerate(orders) for j in range(p)]
    lam, within = process.lam(grid[[0, -1]]), torch.tensor(shares[1:], dtype=torch.float64)
    grid[1:-1] = process.time_of_logsnr(lam[0] + within * (lam[1] - lam[0]))
    return grid


def spans(grid: Tensor, process: Process, order: int, r1: float, r2: float, inner: str) -> tuple[Tensor, ...]:
    """Orders of the steps, and their starts, ends and inner times: their starts where there are none."""
    if inner == "grid":
        clean = int(grid[-1] == 0)
        p = torch.tensor(fast_orders(grid.shape[0] - 1 - clean, order) + [1] * clean)
        start = p.cumsum(0) - p
        return p, grid[start], grid[start + p], *(grid[start + j * (p > j)] for j in (1, 2))
    t, s = grid[:-1], grid[1:]
    p = torch.where((s > 0) & ~process.lam(s).isinf(), order, 1)
    return p, t, s, *(torch.where(p > j, inside(t, s, (r1, r2)[j - 1], inner, process), t) for j in (1, 2))


def singlestep_plan(
    grid: Tensor, process: Process, *, order: int = 2, form: Form = "dpm", eta: float = 0.0, r1: float = 0.0,
    r2: float = 0.0, inner: str = "lam", noise: str = "brownian",
) -> Stages:  # fmt: skip
    """Steps of `order` with inner points at shares r1 < r2 of them; 0: 1/order and 2/order. inner: where shares are
    counted; "grid": the inner points are the grid's own, one interval for each evaluation (DPM-Solver-fast)."""
    required(order, form, eta, process, grid, signal=order > 1)
    if order > 1 and not (0 < (r1 or 1 / order) < 1 and (order == 2 or (r1 or 1 / 3) < (r2 or 2 / 3) < 1)):
        raise ValueError(f"r1, r2: {r1!r}, {r2!r}, expected 0 < r1 < r2 < 1 (r1 < 1 alone at order 2)")
    if inner not in ("lam", "t", "sqrt_t", "grid") or (inner == "grid" and (r1 or r2)):
        raise ValueError(f"inner: {inner!r}, expected 'lam', 't' or 'sqrt_t', or 'grid' and neither r1 nor r2")
    if noise not in ("brownian", "sigma", "independent") or (eta > 0 and order == 3):
        raise ValueError(f"eta, noise: {eta!r}, {noise!r}, expected eta = 0 at order 3, brownian, sigma or independent")
    p, *times = spans(grid, process, order, r1 or 1 / order, r2 or 2 / order, inner)
    t, s, t1, t2 = (level(each, process) for each in times)
    h, h1, h2 = (end.lam - t.lam for end in (s, t1, t2))
    r1, r2, eta_of = h1 / h, h2 / h, eta * (s.sigma > 0).double()
    f1, f2, f3 = (weight(k, t, s, eta_of) for k in (1, 2, 3))
    mids, late = {2: f1 / (2 * r1) if form == "dpm" else f2 / r1, 3: 0 * f1}, f2 / r2
    if form == "taylor":
        mids[3], late = (r2 * f2 - 2 * f3) / (r1 * (r2 - r1)), (2 * f3 - r1 * f2) / (r2 * (r2 - r1))
    mid, late = torch.where(p == 2, mids[2], torch.where(p == 3, mids[3], 0.0)), torch.where(p == 3, late, 0.0)
    mid2 = torch.where(p == 3, weight(2, t, t2, eta_of) * h2 / h1, 0.0)
    damped = (torch.where(eta_of > 0, -eta_of * q, 0.0).exp() for q in (h, h1, h2))
    keep, *keeps = (end.sigma / t.sigma * each for end, each in zip((s, t1, t2), damped, strict=True))
    spread, spread1 = (torch.where(eta_of > 0, -torch.expm1(-2 * eta_of * q), 0.0).sqrt() for q in (h, h1))
    # squared correlation of the stage's noise with that of the end
    joint = (spread1 / spread * (-eta_of * (h - h1)).exp()) ** 2
    joint = torch.expm1(-h1) / torch.expm1(-h) if noise == "sigma" else joint
    joint = torch.where((p == 2) & (eta_of > 0) & (noise != "independent"), joint, 0.0)
    return Stages(
        t.t, t1.t, t2.t, p.double(), keeps[0], weight(1, t, t1, eta_of), t1.sigma * spread1,
        keeps[1], weight(1, t, t2, eta_of) - mid2, mid2, keep, f1 - mid - late, mid, late,
        s.sigma * spread * joint.sqrt(), s.sigma * spread * (1 - joint).sqrt(),
    )  # fmt: skip


def total(x: Tensor, keep: float, terms: tuple[tuple[float, Tensor | None], ...]) -> Tensor:
    """keep x + the sum of weight times term, in a fresh tensor; a term of weight 0 is not read."""
    out = torch.mul(x, keep)
    for factor, term in terms:
        if factor:
            out.add_(term, alpha=factor)
    return out


def singlestep(x: Tensor, row: Stages, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """Algorithm 1 and its relatives, one interval, of the row's order."""
    mean, mean_1, mean_2, z_1 = model(x, row.t), None, None, None
    if row.order >= 2:
        z_1 = draws.normal("stage1", x) if row.noise1 else None
        mean_1 = model(total(x, row.keep1, ((row.now1, mean), (row.noise1, z_1))), row.t1)
    if row.order >= 3:
        mean_2 = model(total(x, row.keep2, ((row.now2, mean), (row.mid2, mean_1))), row.t2)
    z = draws.normal("step", x) if row.noise else None
    terms = ((row.now, mean), (row.mid, mean_1), (row.late, mean_2), (row.carried, z_1), (row.noise, z))
    return total(x, row.keep, terms), None


def thresholded(model: Model, quantile: float, bound: float, predicts: str = "mean") -> Model:
    """The model with D clipped to [-q, q] and divided by q = max(quantile of |D| in its sample, bound); 0: as it is.

    Raises ValueError for noise prediction, in which the code ignores its threshold.
    """
    if quantile == 0:
        return model
    if predicts != "mean" or not (0 < quantile <= 1 and 0 < bound < math.inf):
        raise ValueError(f"threshold: {quantile!r}, bound {bound!r}, expected (0, 1] of data predictions, a bound > 0")

    def predict(x: Tensor, t: Time) -> Tensor:
        mean = model(x, t)
        if not mean.numel():
            return mean  # of an empty batch there is no quantile
        size = mean.abs().flatten(1)
        wide = size if size.dtype == torch.float64 else size.float()  # there is no quantile of half precision
        most = torch.quantile(wide, quantile, dim=1).clamp(min=bound).to(mean).reshape(-1, *[1] * (x.ndim - 1))
        return mean.clamp(-most, most) / most

    return Predictor(getattr(model, "kind", None), predict)


def driven(
    rows: NamedTuple, step: Callable, model: Model, x: Tensor, grid: Tensor, process: Process, draws: Draws,
    denoise_to_zero: bool, **more: Any,
) -> Run:  # fmt: skip
    """drive, and D at the last time in place of x if denoise_to_zero: one more evaluation, as in the code."""
    if not denoise_to_zero:
        return drive(rows, step, model, x, draws=draws, **more)
    if process.sigma(grid[-1].item()) <= 0:
        raise grids.BadGrid("denoise_to_zero: True on a grid that ends at clean data; drop one of both")
    run, meter = drive(rows, step, model, x, draws=draws, **more), require(model, "mean", x.shape[0])
    return run._replace(x=meter(run.x, grid[-1].item()), nfe=run.nfe + meter.nfe)


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 2, form: Form = "dpm",
    eta: float = 0.0, predicts: str = "mean", official: bool = False, lower_order_final: bool = True,
    threshold: float = 0.0, bound: float = 1.0, denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """1, 2M or 3M from grid[0] to grid[-1]. x [B,*D]. Defaults: 2M as in the official sampler, no threshold (0)."""
    options = dict(order=order, form=form, eta=eta, predicts=predicts, official=official)
    rows = multistep_plan(grid, process, **options, lower_order_final=lower_order_final)
    model, tags = thresholded(model, threshold, bound, predicts), ("step",) if eta > 0 else ()
    return driven(rows, multistep, model, x, grid, process, draws, denoise_to_zero, memory=(), tags=tags)


def guided(model: ConditionalModel, condition: Tensor, guidance: float) -> Model:
    """D without + guidance (D with - D without) the labels, int64 [B] and -1 for none; both by one call."""
    both = model.given(torch.cat([torch.full_like(condition, -1), condition]))

    def predict(x: Tensor, t: Time) -> Tensor:
        mean = both(torch.cat([x, x]), t)
        free, told = mean[: len(x)], mean[len(x) :]
        return free + guidance * (told - free)

    return Predictor("mean", predict)


def sample_guided(
    model: ConditionalModel, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, condition: Tensor,
    guidance: float = 7.5, order: int = 2, form: Form = "dpm", predicts: str = "mean", official: bool = False,
    lower_order_final: bool = True, threshold: float = 0.0, bound: float = 1.0,
) -> Run:  # fmt: skip
    """1, 2M or 3M under classifier-free guidance; a threshold acts on the guided D. x [B,*D], condition int64 [B].

    guidance: that of the code's text-to-image example; 1 is the conditional model.
    """
    options = dict(order=order, form=form, predicts=predicts, official=official, lower_order_final=lower_order_final)
    rows = multistep_plan(grid, process, **options)
    if not math.isfinite(guidance) or condition.shape != x.shape[:1]:
        raise ValueError(f"guidance, condition: {guidance!r}, {tuple(condition.shape)}, expected finite and [{len(x)}]")

    def step(x: Tensor, row: Multistep, before: tuple[Tensor, ...], *, model: Any, draws: Draws) -> tuple[Tensor, Any]:
        both = thresholded(guided(model, condition, guidance), threshold, bound, predicts)
        return multistep(x, row, before, model=both, draws=draws)

    return drive(rows, step, model, x, draws=draws, memory=())


def sample_singlestep(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 2, form: Form = "dpm",
    eta: float = 0.0, r1: float = 0.0, r2: float = 0.0, inner: str = "lam", noise: str = "brownian",
    threshold: float = 0.0, bound: float = 1.0, denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """2S, 3S or fast (inner = "grid") from grid[0] to grid[-1]. x [B,*D]. Defaults: algorithm 1 with r1 = 1/2."""
    rows = singlestep_plan(grid, process, order=order, form=form, eta=eta, r1=r1, r2=r2, inner=inner, noise=noise)
    model, tags = thresholded(model, threshold, bound), ("stage1", "step") if eta > 0 else ()
    return driven(rows, singlestep, model, x, grid, process, draws, denoise_to_zero, tags=tags)


def per_step(order: int, grid: Tensor) -> float:
    """Evaluations of `order` for each interval; one for an interval that ends at clean data."""
    return order * (grid.shape[0] - 1.0) - (order - 1) * float(grid[-1] == 0)


PAPER = Paper(
    key="lu2022dpmsolverpp",
    title="DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    authors="Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu",
    venue="Machine Intelligence Research 2025",
    arxiv="2211.01095",
    code="LuChengTHU/dpm-solver",
    licence="MIT",
    samplers=tuple(
        Sampler(
            id=f"lu2022dpmsolverpp.{name}",
            sample=partial(method, **options),
            consumes="mean",
            path="vp-linear",
            stochastic="eta" in options,
            # in noise prediction an SDE is not exact on a point; a threshold and clipped coordinates have no symmetry
            exact_on=frozenset() if options.keys() & {"predicts", "threshold"} else frozenset({"delta"}),
            symmetric=frozenset({"paths"} if "threshold" in options else {"rotation", "paths"}),
            **{"nfe": partial(per_step, 1 if method is sample else options.get("order", 2)), "grid": grids.uniform_lam,
               **traits},
        )
        for name, method, options, traits in (
            ("2m", sample, {}, dict(order=2.0, reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("2m_taylor", sample, {"form": "taylor"}, dict(order=2.0, variant=True)),
            ("2m_thresholded", sample, {"threshold": 0.995}, dict(variant=True)),
            ("2m_guided", sample_guided, {}, dict(
                order=2.0, variant=True, needs=frozenset({"condition"}), condition="label",
                nfe=lambda grid: 2 * per_step(1, grid), reduces=(
                    Reduction({}, "lu2022dpmsolverpp.2m"),
                    Reduction({"guidance": 1.0}, "lu2022dpmsolverpp.2m", given="condition"),
                    Reduction({"guidance": 0.0}, "lu2022dpmsolverpp.2m", given="none"),
                    Reduction({"predicts": "eps"}, "lu2022dpmsolver.2m"),
                    Reduction({"lower_order_final": False}, "ho2022cfg.2m", {"guidance": 7.5})))),
            # held to order 2 by its start-up, one step of order 1 and one of order 2
            ("3m", sample, {"order": 3}, dict(order=2.0, variant=True)),
            ("3m_official", sample, {"order": 3, "official": True}, dict(order=2.0)),
            ("2s", sample_singlestep, {}, dict(order=2.0, reduces=(Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("2s_taylor", sample_singlestep, {"form": "taylor"}, dict(order=2.0, variant=True)),
            ("3s", sample_singlestep, {"order": 3}, dict(order=3.0, variant=True)),
            ("3s_taylor", sample_singlestep, {"order": 3, "form": "taylor"}, dict(order=3.0, variant=True)),
            # no order: that of the last step depends on steps mod 3
            ("fast", sample_singlestep, {"order": 3, "inner": "grid"}, dict(
                nfe=partial(per_step, 1), grid=fast_lam, variant=True, reduces=(
                    Reduction({"order": 1}, "song2020ddim.ddim"),))),
            ("sde1", sample, {"eta": 1.0, "order": 1}, dict(weak_order=1.0, variant=True, reduces=(
                Reduction({}, "song2020ddim.stochastic"), Reduction({"eta": 0.0}, "song2020ddim.ddim")))),
            ("sde2m", sample, {"eta": 1.0, "lower_order_final": False}, dict(weak_order=2.0, reduces=(
                Reduction({"eta": 0.0}, "lu2022dpmsolverpp.2m", {"lower_order_final": False}),))),
            ("sde2m_heun", sample, {"eta": 1.0, "lower_order_final": False, "form": "taylor"},
             dict(weak_order=2.0, variant=True, reduces=(
                 Reduction({"eta": 0.0}, "lu2022dpmsolverpp.2m_taylor", {"lower_order_final": False}),))),
            ("sde3m", sample, {"eta": 1.0, "lower_order_final": False, "form": "taylor", "order": 3},
             dict(weak_order=2.0, variant=True, reduces=(
                 Reduction({"eta": 0.0}, "lu2022dpmsolverpp.3m", {"lower_order_final": False, "form": "taylor"}),
                 Reduction({"order": 2}, "lu2022dpmsolverpp.sde2m_heun"),
                 Reduction({"order": 1}, "lu2022dpmsolverpp.sde1")))),
            ("sde3m_official", sample,
             {"eta": 1.0, "lower_order_final": False, "form": "taylor", "order": 3, "official": True},
             dict(weak_order=2.0, variant=True, reduces=(Reduction(
                 {"eta": 0.0}, "lu2022dpmsolverpp.3m_official", {"lower_order_final": False, "form": "taylor"}),))),
            ("sde1_eps", sample, {"eta": 1.0, "order": 1, "predicts": "eps"}, dict(
                weak_order=1.0, variant=True, reduces=(Reduction({"eta": 0.0}, "song2020ddim.ddim"),))),
            ("sde2m_eps", sample, {"eta": 1.0, "lower_order_final": False, "predicts": "eps"},
             dict(weak_order=2.0, variant=True, reduces=(
                 Reduction({"eta": 0.0}, "lu2022dpmsolver.2m", {"lower_order_final": False}),))),
            ("sde2m_heun_eps", sample,
             {"eta": 1.0, "lower_order_final": False, "form": "taylor", "predicts": "eps"},
             dict(weak_order=2.0, variant=True, reduces=(
                 Reduction({"eta": 0.0}, "lu2022dpmsolver.2m_taylor", {"lower_order_final": False}),))),
            ("sde2s", sample_singlestep, {"eta": 1.0}, dict(weak_order=2.0, reduces=(
                Reduction({"eta": 0.0}, "lu2022dpmsolverpp.2s"),))),
            # the path of k-diffusion's default noise
            ("sde2s_sigma", sample_singlestep, {"eta": 1.0, "noise": "sigma"}, dict(
                weak_order=2.0, variant=True, reduces=(Reduction({"eta": 0.0}, "lu2022dpmsolverpp.2s"),))),
            # the trap: noise of stage and end from two paths
            ("sde2s_independent", sample_singlestep, {"eta": 1.0, "noise": "independent"},
             dict(weak_order=1.0, variant=True)),
        )
    ),
)  # fmt: skip
