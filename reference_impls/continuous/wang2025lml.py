"""wang2025lml - LML: a damped rank-one inverse Hessian turns the update direction of any solver, keeping its length.

Wang et al., "Unleashing High-Quality Image Generation in Diffusion Sampling Using Second-Order Levenberg-Marquardt-
Langevin", ICCV 2025, arXiv:2505.24222. Official code: zituitui/LML-diffusion-sampler (MIT; schedulers Apache-2.0).
Path        x_t = alpha_t x0 + sigma_t eps on the linear chain of 1,000 betas at t = i/1000 (the code's index i is our
            t = (i+1)/1000); the flow form on condot, whose sigma is our t. Any path works.
Loss        none: training free.
Step        LM(n) = |n| d/|d|, d = n - u <u,n>/(lamb + <u,u>) = lamb (lamb I + u u^T)^-1 n,
            u = kappa n_before + (1 - kappa) n (u = n in the first step); inner products over a whole sample. With
            e = (x - alpha_t D)/sigma_t, h = lam_s - lam_t; memory: n (raw, not turned) and what the base remembers.
            ddim   x_s = alpha_s D + sigma_s LM(e); before t falls to t_max (1 - freeze), e in place of LM(e).
            dpmpp  x_s = (sigma_s/sigma_t) x + LM(n), n = alpha_s h (phi1(-h) m + c1 D1 + c2 D2), m = D; dpm the same
                   with e, (alpha_s/alpha_t) x, -sigma_s for alpha_s, phi(+h). D1 = r0 (m - m1), r0 = h/h_before;
                   order 2: c1 = phi1/2 (midpoint) or phi2 (taylor, the code's "heun"), c2 = 0; order 3: D1 of the
                   parabola through the last three, D2 its second divided difference times h^2, c1 = phi2, c2 = phi3.
                   Start-up by the lower orders; below 15 steps the last but one is of order 2, the last of order 1.
            flow   x_s = x + (s - t) LM(u), u the velocity alpha' D + sigma' e.
Cost        NFE = steps. Deterministic. At kappa = 0 the order of the base: 1, min(order, 2), 1.
Exact when  kappa = 0, or one dimension, or n_before parallel to n: LM(n) = n for every lamb > 0. lamb -> inf: LM(n) ->
            n; lamb -> 0: it is orthogonal to u. LM commutes with rotations; LM(c n; c n_before, c^2 lamb) = c LM(n).
            For kappa > 0 and a small lamb nothing converges to the flow as steps grow: the turn does not fade.
Differs     Every published script has kappa = 0, where the method is its base up to rounding: what then acts is that
            1 - |n|^2/(lamb + |n|^2) cancels, to a relative error of about eps |n|^2/lamb. arithmetic = "code" is d as
            written; "stable" is lamb n + kappa (<n,w> n - |n|^2 w) + kappa^2 (|w|^2 n - <n,w> w), w = n_before - n, the
            same d (up to its length) without cancellation. The README's lamb are 5e-5 to 1e-2, the argparse defaults 1
            to 5. The code sets n_before = None in its constructor alone, so that with kappa > 0 the first step of an
            image remembers the last one of the image before: here every run starts afresh. Its third order lacks the
            factor 2 of D2 and is of order 2: kept. Its dpm form ends at index 0, not at clean data; the flow form
            ignores the switch that turns LM off, and sums over the first two dimensions of a sample, all that its
            packed tokens have: here over all. 0/0 (n = 0) is n here. Its eta > 0, its SDE solvers (which it does not
            turn), its stochastic flow and the clipping of x0 to [-1, 1], its DDIM's default, are left out. "turned" is
            this suite's ablation: LM replaced by a turn of n through a given angle in a random direction.
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
from reference_impls.core.phi import phi
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Paper, Reduction, Run, Sampler

TRAINED = 1000  # length of the training chain [code]
FINAL_BELOW = 15  # lower_order_final acts below this many steps [code]
ARITHMETIC = ("code", "stable")


class Plan(NamedTuple):
    t: Tensor
    of_x: Tensor  # m = of_x x + of_mean D: what the base solver predicts with
    of_mean: Tensor
    now: Tensor  # n = now m + before m_1 + older m_2
    before: Tensor
    older: Tensor
    keep: Tensor  # x_s = keep x + pull D + scale LM(n)
    pull: Tensor
    scale: Tensor
    turns: Tensor  # 0 where LM(n) is n


class Memory(NamedTuple):
    direction: Tensor  # n of the step before
    last: Tensor  # m of the step before, and of the one before that
    older: Tensor | None


def _plan(t: Tensor, **columns: Tensor) -> Plan:
    return Plan(t, **{f: columns.get(f, torch.zeros_like(t)) for f in Plan._fields[1:]})


def ddim_plan(grid: Tensor, process: Process, *, freeze: float = 0.0) -> Plan:
    """DDIM in its noise form. freeze: share of the chain, from its noisy end, in which nothing is turned."""
    if not 0 <= freeze <= 1:
        raise ValueError(f"freeze: {freeze!r}, expected a share in [0, 1]; 0 turns every step")
    t, s = grids.checked(grid)[:-1], grid[1:]
    sigma = process.sigma(t)
    index = TRAINED * t / process.t_max - 1  # of the chain, a whole number up to rounding
    return _plan(
        t, of_x=1 / sigma, of_mean=-process.alpha(t) / sigma, now=torch.ones_like(t), pull=process.alpha(s),
        scale=process.sigma(s), turns=(index < TRAINED - TRAINED * freeze - 1e-6).double(),
    )  # fmt: skip


def flow_plan(grid: Tensor, process: Process) -> Plan:
    """Euler's method in t on the velocity."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    alpha_rate, sigma_rate = process.rates(t)
    growth, one = sigma_rate / process.sigma(t), torch.ones_like(t)
    return _plan(
        t, of_x=growth, of_mean=alpha_rate - growth * process.alpha(t), now=one, keep=one, scale=s - t, turns=one
    )


def dpm_plan(
    grid: Tensor, process: Process, *, order: int = 2, prediction: str = "mean", solver: str = "midpoint",
    lower_order_final: bool = True,
) -> Plan:  # fmt: skip
    """The multistep solver of data or noise predictions, orders 1 to 3, with its official start-up and end."""
    if order not in (1, 2, 3):
        raise ValueError(f"order: {order!r}, expected 1, 2 or 3")
    if prediction not in ("mean", "eps") or solver not in ("midpoint", "taylor"):
        raise ValueError(f"prediction, solver: {prediction!r}, {solver!r}, expected mean or eps, midpoint or taylor")
    t, s = grids.checked(grid)[:-1], grid[1:]
    lam = process.lam(grid)
    if prediction == "eps" and lam.isinf().any():
        raise grids.BadGrid(
            f"grid: {t[0].item():g} .. {s[-1].item():g} touches alpha = 0 or sigma = 0, where noise prediction has no "
            "step; use prediction = 'mean'"
        )
    h, count = lam.diff(), t.shape[0]
    orders = torch.arange(1, count + 1).clamp(max=order)
    orders[h.isinf()] = 1
    if lower_order_final and count < FINAL_BELOW:
        orders[-2:] = torch.minimum(orders[-2:], torch.tensor([2, 1])[-count:])
    mean = prediction == "mean"
    finite, sign = torch.where(h.isinf(), 1.0, h), -1.0 if mean else 1.0
    size = (process.alpha(s) if mean else -process.sigma(s)) * finite
    one = -process.alpha(s) * torch.expm1(-h) if mean else size * phi(1, finite)
    taylor = (orders > 2) | (solver == "taylor")
    first, second = torch.where(taylor, size * phi(2, sign * finite), one / 2), size * phi(3, sign * finite)
    h0, h1 = h.roll(1), h.roll(2)  # of the intervals before; rows of lower order do not use them
    third = orders > 2
    lean, curve = torch.where(third, h0 / (h0 + h1), 0.0), torch.where(third, h / (h0 + h1), 0.0)
    # D1 = D1_0 + lean (D1_0 - D1_1), D2 = curve (D1_0 - D1_1), D1_0 = h/h0 (m - m_1), D1_1 = h/h1 (m_1 - m_2)
    near = torch.where(orders > 1, (first * (1 + lean) + second * curve) * h / h0, 0.0)
    far = torch.where(third, (first * lean + second * curve) * h / h1, 0.0)
    sigma_t, alpha_t, ones = process.sigma(t), process.alpha(t), torch.ones_like(t)
    of_x, of_mean = (0 * t, ones) if mean else (1 / sigma_t, -alpha_t / sigma_t)
    keep = process.sigma(s) / sigma_t if mean else process.alpha(s) / alpha_t
    return _plan(
        t, of_x=of_x, of_mean=of_mean, now=one + near, before=-near - far, older=far, keep=keep, scale=ones, turns=ones
    )


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of every sample, [B,1,..]."""
    return (a * b).sum(dim=tuple(range(1, a.ndim)), keepdim=True)


def at_length_of(n: Tensor, d: Tensor) -> Tensor:
    """|n| d/|d|; n itself where d = 0."""
    length = inner(d, d).sqrt()
    return torch.where(length > 0, d * inner(n, n).sqrt() / torch.where(length > 0, length, 1.0), n)


def turned(n: Tensor, before: Tensor | None, lamb: float, kappa: float, arithmetic: str) -> Tensor:
    """LM(n): n [B,*D] turned by the damped inverse of u u^T, at its own length."""
    if arithmetic == "stable":
        w = torch.zeros_like(n) if before is None else before - n
        nn, nw, ww = inner(n, n), inner(n, w), inner(w, w)
        size = lamb + kappa * (nn + ww)  # d over a positive number, so that its square overflows for no lamb
        of_n, of_w = (lamb + kappa * nw + kappa**2 * ww) / size, (kappa * nn + kappa**2 * nw) / size
        return at_length_of(n, of_n * n - of_w * w)
    u = n if before is None else kappa * before + (1 - kappa) * n
    return at_length_of(n, n - u * inner(n, u) / (lamb + inner(u, u)))


def turned_at_random(n: Tensor, z: Tensor, angle: float) -> Tensor:
    """n turned through `angle` radians towards the part of z [B,*D] that is orthogonal to it."""
    across = z - n * (inner(n, z) / inner(n, n).clamp(min=torch.finfo(n.dtype).tiny))
    return n * math.cos(angle) + at_length_of(n, across) * math.sin(angle)


def lml_step(
    x: Tensor, row: Plan, memory: Memory | None, *, model: Model, draws: Draws, lamb: float, kappa: float,
    arithmetic: str = "code", angle: float = 0.0,
) -> tuple[Tensor, Memory]:  # fmt: skip
    """One step of any base: its raw direction n, and n turned."""
    mean = model(x, row.t)
    m = torch.mul(mean, row.of_mean).add_(x, alpha=row.of_x) if row.of_x else mean
    n = m * row.now
    if row.before:
        n.add_(memory.last, alpha=row.before)
    if row.older:
        n.add_(memory.older, alpha=row.older)
    if angle:
        way = turned_at_random(n, draws.normal("turn", n), angle)
    else:
        way = turned(n, memory and memory.direction, lamb, kappa, arithmetic) if row.turns else n
    x_s = torch.mul(way, row.scale).add_(x, alpha=row.keep)
    return (x_s.add_(mean, alpha=row.pull) if row.pull else x_s), Memory(n, m, memory and memory.last)


def _step(lamb: float, kappa: float, arithmetic: str) -> partial:
    if not 0 < lamb < math.inf or not 0 <= kappa <= 1:
        raise ValueError(f"lamb, kappa: {lamb!r}, {kappa!r}, expected a number lamb > 0 and kappa in [0, 1]")
    if arithmetic not in ARITHMETIC:
        raise ValueError(f"arithmetic: {arithmetic!r}, expected one of {', '.join(ARITHMETIC)}")
    return partial(lml_step, lamb=lamb, kappa=kappa, arithmetic=arithmetic)


def sample_ddim(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, lamb: float = 1.0, kappa: float = 0.0,
    arithmetic: str = "code", freeze: float = 0.0,
) -> Run:  # fmt: skip
    """DDIM with LM from grid[0] to grid[-1]. x [B,*D]. lamb 1, kappa 0: scripts/cifar10.py; freeze 0: the class."""
    return drive(ddim_plan(grid, process, freeze=freeze), _step(lamb, kappa, arithmetic), model, x, draws=draws)


def sample_dpm(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, lamb: float = 1.0, kappa: float = 0.0,
    arithmetic: str = "code", order: int = 2, prediction: str = "mean", solver: str = "midpoint",
    lower_order_final: bool = True,
) -> Run:  # fmt: skip
    """DPM-Solver++ (prediction "mean") or DPM-Solver ("eps") with LM. x [B,*D]. Defaults: those of the scheduler."""
    rows = dpm_plan(
        grid, process, order=order, prediction=prediction, solver=solver, lower_order_final=lower_order_final
    )
    return drive(rows, _step(lamb, kappa, arithmetic), model, x, draws=draws)


def sample_flow(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, lamb: float = 1.0, kappa: float = 0.0,
    arithmetic: str = "code",
) -> Run:  # fmt: skip
    """Euler's method on the velocity with LM. x [B,*D]. lamb 1, kappa 0: the defaults of the scheduler."""
    return drive(flow_plan(grid, process), _step(lamb, kappa, arithmetic), model, x, draws=draws)


def sample_turned(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, angle: float = 0.1, order: int = 2
) -> Run:
    """DPM-Solver++ with every direction turned through `angle` radians at random: 0.11 is float32 rounding at lamb 1e-3
    for |n|^2 = 3072 (this suite's ablation). x [B,*D] with at least two entries a sample."""
    if not math.isfinite(angle):
        raise ValueError(f"angle: {angle!r}, expected a number of radians")
    step = partial(lml_step, lamb=1.0, kappa=0.0, angle=angle if x.shape[1:].numel() > 1 else 0.0)
    return drive(dpm_plan(grid, process, order=order), step, model, x, draws=draws)


def knots_to_zero(steps: int, process: Process) -> Tensor:
    """Indices 0, k, 2k, .. with k = 1000 // steps, then clean data: "leading" spacing of the code's DDIM."""
    return _times(torch.arange(steps).flip(0) * (TRAINED // max(1, steps)), steps, process, clean=True)


def knots(steps: int, process: Process) -> Tensor:
    """Indices linspace(0, 999, steps + 1) rounded, index 0 the last: "linspace" spacing of the code's DPM-Solver."""
    return _times(torch.linspace(TRAINED - 1, 0, steps + 1, dtype=torch.float64).round(), steps, process, clean=False)


def _times(indices: Tensor, steps: int, process: Process, *, clean: bool) -> Tensor:
    if steps not in range(1, TRAINED) or process.t_max != 1:
        raise grids.BadGrid(
            f"steps: {steps!r} on {process.name}, expected 1..{TRAINED - 1} and t_max = 1; use the grid t or lam"
        )
    times = (indices.double() + 1) / TRAINED
    return grids.checked(torch.cat([times, times.new_zeros(1)]) if clean else times)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


BOTH = frozenset({"rotation", "paths"})
STABLE = {"kappa": 0.0, "arithmetic": "stable"}  # the base solver to rounding; as written to 1e-8, since it cancels


def _card(name: str, sampler: Callable[..., Run], order: float, *reduces: Reduction, **fields) -> Sampler:
    return Sampler(
        **dict(
            id=f"wang2025lml.{name}", sample=sampler, grid=knots, consumes="mean", path="discrete-linear",
            nfe=evaluations, order=order, exact_on=frozenset({"delta"}), symmetric=BOTH, reduces=reduces,
        ) | fields
    )  # fmt: skip


def _dpm(name: str, order: int, prediction: str, to: str, options: dict, **fields) -> Sampler:
    """Orders 2 and 3 equal another solver where none lowers its last orders. The noise form amplifies rounding: in one
    step from pure noise |n| is 150 and the cancellation 1e-9, so that no rotation is declared of it as written."""
    kept = {} if order == 1 else {"lower_order_final": False}
    tolerance, symmetric = (1e-12, BOTH) if prediction == "mean" else (1e-10, BOTH - {"rotation"})
    return _card(
        name, partial(sample_dpm, order=order, prediction=prediction), float(min(order, 2)),
        Reduction(STABLE | kept, to, options | kept, tolerance),
        *fields.pop("further", ()), symmetric=symmetric, **fields,
    )  # fmt: skip


DDIM = "song2020ddim.ddim"

PAPER = Paper(
    key="wang2025lml",
    title="Unleashing High-Quality Image Generation in Diffusion Sampling Using Second-Order "
    "Levenberg-Marquardt-Langevin",
    authors="Fangyikang Wang, Hubery Yin, Lei Qian, Yinan Li, Shaobin Zhuang, Huminhao Zhu, Yilin Zhang, Yanlong Tang, "
    "Chao Zhang, Hanbin Zhao and others",
    venue="ICCV 2025",
    arxiv="2505.24222",
    code="zituitui/LML-diffusion-sampler",
    licence="MIT",
    samplers=(
        _card(
            "ddim", sample_ddim, 1.0, Reduction({"kappa": 0.0}, DDIM, tolerance=1e-8), Reduction(STABLE, DDIM),
            Reduction({"kappa": 0.5, "freeze": 1.0}, DDIM), grid=knots_to_zero,
        ),
        _dpm(
            "dpmpp", 2, "mean", "lu2022dpmsolverpp.2m", {},
            further=(
                Reduction({"lower_order_final": False}, "lu2022dpmsolverpp.2m", {"lower_order_final": False}, 1e-8),
                Reduction(
                    STABLE | {"lower_order_final": False, "solver": "taylor"},
                    "lu2022dpmsolverpp.2m_taylor", {"lower_order_final": False},
                ),
            ),
        ),
        _dpm("dpmpp1", 1, "mean", DDIM, {}, variant=True),
        _dpm("dpmpp3", 3, "mean", "lu2022dpmsolverpp.3m_official", {}, variant=True),
        _dpm("dpm", 2, "eps", "lu2022dpmsolver.2m", {}, variant=True),
        _dpm("dpm1", 1, "eps", DDIM, {}, variant=True),
        _dpm("dpm3", 3, "eps", "lu2022dpmsolver.3m_official", {}, variant=True),
        _card(
            "flow", sample_flow, 1.0, Reduction({"kappa": 0.0}, DDIM, tolerance=1e-8, on="own"),
            Reduction(STABLE, "lipman2022fm.euler"),
            grid=grids.t_to_zero, path="condot", symmetric=frozenset({"rotation"}),
        ),
        Sampler(
            id="wang2025lml.turned",
            sample=sample_turned,
            grid=knots,
            consumes="mean",
            path="discrete-linear",
            nfe=evaluations,
            stochastic=True,
            symmetric=BOTH,
            baseline=True,
            variant=True,
            known_failures={"seed_matters_only_if_stochastic": "a direction in one dimension cannot be turned"},
        ),
    ),
)  # fmt: skip
