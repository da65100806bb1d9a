"""zhao2023unipc - UniPC: a multistep exponential predictor and a corrector that costs no evaluation of its own.

Zhao, Bai, Rao, Zhou, Lu, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
NeurIPS 2023, arXiv:2302.04867. Official code: wl-zhao/UniPC (MIT).
Path        x_t = alpha_t x0 + sigma_t eps, vp-linear, lam = log(alpha/sigma), t in [1e-3, 1]. Any path with alpha > 0
            at its start works.
Loss        none: training free.
Step        h = lam_s - lam_t. Data: m = D, L = sigma_s/sigma_t, w = alpha_s, z = -h. Noise: m = e, L = alpha_s/alpha_t,
            w = -sigma_s, z = h. r_j = (lam_{t_j} - lam_t)/h for the j-th node before t (r_j < 0), r = 1 at s.
            base = L x_t + w h phi_1(z) m_t.  p = order of this step, phi the phi-functions.
            UniP-p: x' = base + sum_j G_j (m_j - m_t)/r_j over the p - 1 nodes before, where
                    sum_j r_j^{k-1} G_j = w h k! phi_{k+1}(z), k = 1..p-1; with p = 2, bh1 and bh2 take G = w B/2,
                    B = h (bh1), h phi_1(z) (bh2).
            UniC-p: m_s = m(x', s); x_s the same with the node s added and k = 1..p (p = 1: G = w B/2). m_s is kept as
                    the prediction at s: it is not evaluated again at x_s.
            The corrector acts when its evaluation is at hand, at the start of the next interval; the last interval has
            none. Memory: the corrected state and the last predictions.
            Orders 1, 2, .. p at the start; lower_order_final: at most the steps that remain. A step to sigma_s = 0 is
            of order 1. threshold: D is clipped to [-q, q] and divided by q, the quantile of |D| in its sample, at least
            the bound.
Cost        NFE = steps, one more with correct_last or denoise_to_zero. Started exactly, UniP-p has order p and UniPC-p
            p + 1. As shipped: UniP 2 for p >= 2 (its first step is of order 1), UniPC 3 for p >= 2 without
            lower_order_final (its first step is of order 2; on VP from high noise that is invisible and p = 3 shows 4)
            and 2 with it.
Exact when  point mass, any step; every path with the same rho gives the same x/alpha. UniP-1 is DDIM; UniP-2 with bh2
            is DPM-Solver++(2M). Predictions polynomial in lam: UniPC-p up to degree p (p >= 2), UniP-3 up to 2.
Differs     B of the paper drops out wherever the system is solved, so that bh1, bh2 and vary differ only in UniP-2 and
            UniPC-1; "vary" is the system solved throughout. The code's vary corrector takes the new node's weight
            from the row before the last and drops the last row of the others: variant "vary_official", order 1. The
            code refuses steps < order: here the order is then at most steps. Its default is bh1, its README's bh2
            elsewhere. Its thresholding acts on every data prediction, that of the corrector too, and on none of noise,
            where it is refused here; zju-pi/diff-sampler always thresholds. Its continuous cosine path divides alpha
            by alpha(0) and ends at t = .9946: the suite's path does not. The order of the last interval before
            denoise_to_zero is lowered as if it were the last; on a grid that ends at 0 that to 0 is the last.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.phi import phi
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Paper, Predictor, Reduction, Run, Sampler, Time, require

VARIANTS = ("bh1", "bh2", "vary", "vary_official")


class Plan(NamedTuple):
    """Row i: evaluate at t, correct the interval that ended there, predict the next one. Lists are newest first."""

    t: Tensor
    of_state: Tensor  # m = of_state x + of_mean D; 0 and 1 for data prediction
    of_mean: Tensor
    back: Tensor  # corrected x = back (corrected x before) + sum_j corrected_j m_j, from the prediction at t on
    corrected: Tensor  # [steps, order+1]
    keep: Tensor  # x' = keep x + sum_j ahead_j m_j
    ahead: Tensor  # [steps, order]


def step_orders(steps: int, order: int, lower_order_final: bool) -> list[int]:
    """Order of every step: 1, 2, .. at the start, at most `order` and `steps`; the code's rule at the end."""
    most = min(order, steps)
    rising = [min(i + 1, most) for i in range(steps)]
    if not lower_order_final:
        return rising
    return [min(p, steps - i) if i >= most - 1 else p for i, p in enumerate(rising)]


def _halved(p: int, corrector: bool, variant: str) -> bool:
    """Whether the weight is w B/2 instead of the solution of the system (bh1 and bh2, one node)."""
    return variant in ("bh1", "bh2") and p == (1 if corrector else 2)


def _stale(nodes: Tensor, right: Tensor) -> Tensor:
    """The corrector's weights as the vary variant of the code has them. nodes [R,K] with 1 last, right [R,K]."""
    size = nodes.shape[1]
    powers = torch.arange(size)
    factorials = torch.tensor([math.factorial(k + 1) for k in range(size)], dtype=torch.float64)
    inverse = torch.linalg.inv(nodes[:, :, None] ** powers / factorials)  # [R, k, j]
    values = right / factorials  # w h phi_{k+1}
    weights = (values[:, :-1, None] * inverse[:, :-1]).sum(1) if size > 1 else torch.zeros_like(nodes)
    weights[:, -1] = values[:, -1] * inverse[:, max(size - 2, 0), -1]
    return weights


def node_weights(lam: Tensor, reach: Tensor, sign: int, rows: Tensor, p: int, corrector: bool, variant: str) -> Tensor:
    """Weights G_j/r_j of the differences m_j - m_t for the intervals `rows`, older nodes first to last, then s: [R, J].

    lam [steps+1]; reach w [steps]; sign of z/h: -1 data, +1 noise.
    """
    h, reach = (lam[rows + 1] - lam[rows])[:, None], reach[rows][:, None]
    nodes = (lam[rows[:, None] - torch.arange(1, p)] - lam[rows, None]) / h
    nodes = torch.cat([nodes, torch.ones_like(h)], 1) if corrector else nodes
    size = nodes.shape[1]
    if _halved(p, corrector, variant):
        return reach * (h if variant == "bh1" else h * phi(1, sign * h)) / 2 / nodes
    right = [reach * h * math.factorial(k) * phi(k + 1, sign * h) for k in range(1, size + 1)]
    right = torch.cat(right, 1) if right else nodes
    if corrector and variant == "vary_official":
        return _stale(nodes, right) / nodes
    powers = torch.arange(size)[:, None]
    return torch.linalg.solve(nodes[:, None] ** powers, right) / nodes


def interval_weights(
    grid: Tensor, process: Process, orders: list[int], width: int, noise: bool, variant: str, corrector: bool
) -> Tensor:
    """Weights of m_t and of m at the nodes before, for every interval; with corrector that of m_s comes first."""
    lam, alpha, sigma = process.lam(grid), process.alpha(grid), process.sigma(grid)
    h, reach = lam[1:] - lam[:-1], -sigma[1:] if noise else alpha[1:]
    first = alpha[1:] * process.rho(grid[:-1]) if noise else -alpha[1:]
    weights = torch.zeros(len(orders), width + corrector, dtype=torch.float64)
    weights[:, int(corrector)] = first * torch.expm1(-h)  # w h phi_1(z), finite at sigma_s = 0
    for p in sorted(set(orders)):
        # a step to lam = inf extrapolates nothing: it keeps the weight of order 1
        rows = (h.isfinite() & (torch.tensor(orders) == p)).nonzero()[:, 0]
        if rows.numel() and (p > 1 or corrector):
            each = node_weights(lam, reach, 1 if noise else -1, rows, p, corrector, variant)
            weights[rows, int(corrector)] -= each.sum(1)
            weights[rows, corrector + 1 : corrector + p] += each[:, : p - 1]
            if corrector:
                weights[rows, 0] = each[:, -1]
    return weights


def plan(
    grid: Tensor,
    process: Process,
    *,
    order: int = 3,
    variant: str = "bh1",
    prediction: str = "data",
    corrector: bool = True,
    lower_order_final: bool = True,
    correct_last: bool = False,
) -> Plan:
    """Coefficients of every step; with correct_last one more row that evaluates at grid[-1] and only corrects."""
    noise = _checked(grid, process, order, variant, prediction, corrector, correct_last)
    steps = grid.shape[0] - 1
    orders = step_orders(steps, order, lower_order_final)
    alpha, sigma = process.alpha(grid), process.sigma(grid)
    keep = alpha[1:] / alpha[:-1] if noise else sigma[1:] / sigma[:-1]
    zero = torch.zeros(1, dtype=torch.float64)
    ahead = interval_weights(grid, process, orders, order, noise, variant, False)
    corrected = torch.zeros(steps, order + 1, dtype=torch.float64)
    if corrector:
        corrected = interval_weights(grid, process, orders, order, noise, variant, True)
    rows = Plan(
        grid, 1 / sigma if noise else torch.zeros_like(grid), -alpha / sigma if noise else torch.ones_like(grid),
        torch.cat([zero, keep]), torch.cat([zero.expand(1, order + 1), corrected]),
        torch.cat([keep, zero + 1]), torch.cat([ahead, zero.expand(1, order)]),
    )  # fmt: skip
    return rows if correct_last else Plan(*(column[:-1] for column in rows))


def _checked(
    grid: Tensor, process: Process, order: int, variant: str, prediction: str, corrector: bool, correct_last: bool
) -> bool:
    """Whether the noise is predicted; raises ValueError, and BadGrid, a ValueError, where the grid is at fault."""
    if type(order) is not int or order not in range(1, 5):
        raise ValueError(f"order: {order!r}, expected 1..4")
    if variant not in VARIANTS:
        raise ValueError(f"variant: {variant!r}, expected one of {', '.join(VARIANTS)}")
    if prediction not in ("data", "noise"):
        raise ValueError(f"prediction: {prediction!r}, expected 'data' or 'noise'")
    if correct_last and not corrector:
        raise ValueError(f"correct_last: {correct_last!r}, expected False without the corrector")
    if process.alpha(grids.checked(grid)[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: starts at {grid[0].item():g}, where alpha = 0 and log-SNR has no value; start below, as "
            "process.between(t_min, .999) does"
        )
    if correct_last and process.sigma(grid[-1].item()) <= 0:
        raise grids.BadGrid(
            f"grid: ends at {grid[-1].item():g}, where sigma = 0 and nothing can be corrected; end at t > 0, or leave "
            "correct_last off"
        )
    return prediction == "noise"


class Memory(NamedTuple):
    state: Tensor | None  # corrected, at the start of the interval before; None at first, and without a corrector
    predictions: tuple[Tensor, ...]  # newest first


def predict_correct(
    x: Tensor, row: Plan, memory: Memory, *, model: Model, draws: Draws, corrector: bool
) -> tuple[Tensor, Memory]:
    """Evaluate at the predicted x, correct it, predict the next state."""
    prediction = model(x, row.t)
    if row.of_state:
        prediction = torch.mul(x, row.of_state).add_(prediction, alpha=row.of_mean)
    held = (prediction, *memory.predictions)
    if memory.state is not None:
        x = torch.mul(memory.state, row.back)
        for weight, each in zip(row.corrected, held, strict=False):  # held is shorter while it fills up
            x.add_(each, alpha=weight)
    held = held[: len(row.ahead)]
    ahead = torch.mul(x, row.keep)
    for weight, each in zip(row.ahead, held, strict=False):
        ahead.add_(each, alpha=weight)
    return ahead, Memory(x if corrector else None, held)


def thresholded(model: Model, quantile: float, bound: float) -> Model:
    """The model with D clipped to [-q, q] and divided by q = max(quantile of |D| in its sample, bound)."""

    def predict(x: Tensor, t: Time) -> Tensor:
        mean = model(x, t)
        if not mean.numel():
            return mean  # of an empty batch there is no quantile
        size = mean.abs().flatten(1)
        wide = size if size.dtype == torch.float64 else size.float()  # there is no quantile of half precision
        most = torch.quantile(wide, quantile, dim=1).clamp(min=bound).to(mean).reshape(-1, *[1] * (x.ndim - 1))
        return mean.clamp(-most, most) / most

    return Predictor(getattr(model, "kind", None), predict)


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 3, variant: str = "bh1",
    prediction: str = "data", corrector: bool = True, lower_order_final: bool = True, correct_last: bool = False,
    threshold: float = 0.0, bound: float = 1.0, denoise_to_zero: bool = False,
) -> Run:  # fmt: skip
    """UniPC-p (UniP-p without corrector) from grid[0] to grid[-1]. x [B,*D].

    order, variant, prediction, lower_order_final: the code's sampler for CIFAR-10; correct_last: no part of the code.
    threshold: a quantile, .995 in the code, or 0 for none; denoise_to_zero: D at grid[-1] in place of x.
    """
    rows = plan(
        grid, process, order=order, variant=variant, prediction=prediction, corrector=corrector,
        lower_order_final=lower_order_final, correct_last=correct_last,
    )  # fmt: skip
    if threshold and (prediction != "data" or not (0 < threshold <= 1 and 0 < bound < math.inf)):
        raise ValueError(f"threshold: {threshold!r}, bound {bound!r}, expected (0, 1] of data predictions, a bound > 0")
    if denoise_to_zero and process.sigma(grid[-1].item()) <= 0:
        raise grids.BadGrid("denoise_to_zero: True on a grid that ends at clean data; drop one of both")
    model = thresholded(model, threshold, bound) if threshold else model
    run = drive(rows, partial(predict_correct, corrector=corrector), model, x, draws=draws, memory=Memory(None, ()))
    if not denoise_to_zero:
        return run
    meter = require(model, "mean", x.shape[0])
    return run._replace(x=meter(run.x, grid[-1].item()), nfe=run.nfe + meter.nfe)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


def _card(name: str, observed: float | None, *, reduces: tuple[Reduction, ...] = (), **options) -> Sampler:
    return Sampler(
        id=f"zhao2023unipc.{name}", sample=partial(sample, **options), grid=grids.uniform_lam, consumes="mean",
        path="vp-linear", nfe=evaluations, order=observed, reduces=reduces, variant=name != "unipc3",
        # a threshold moves a point beyond its bound, and clipped coordinates have no symmetry
        exact_on=frozenset() if "threshold" in options else frozenset({"delta"}),
        symmetric=frozenset({"paths"} if "threshold" in options else {"rotation", "paths"}),
    )  # fmt: skip


DDIM, DPMPP = "song2020ddim.ddim", "lu2022dpmsolverpp"
FULL = dict(lower_order_final=False)

PAPER = Paper(
    key="zhao2023unipc",
    title="UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
    authors="Wenliang Zhao, Lujia Bai, Yongming Rao, Jie Zhou, Jiwen Lu",
    venue="NeurIPS 2023",
    arxiv="2302.04867",
    code="wl-zhao/UniPC",
    licence="MIT",
    samplers=(
        _card("unipc3", 2.0, reduces=(Reduction({"order": 1, "corrector": False}, DDIM),)),
        _card("unipc3_full", 3.0, **FULL),
        _card("unipc2_full", 3.0, order=2, variant="bh2", **FULL),
        _card("unipc1", 2.0, order=1, variant="bh2"),
        _card("unipc3_noise", 2.0, prediction="noise"),
        _card("unip3", 2.0, corrector=False, reduces=(Reduction(FULL | {"variant": "bh2"}, f"{DPMPP}.3m", FULL),)),
        _card(
            "unip2", 2.0, order=2, variant="bh2", corrector=False,
            reduces=(
                Reduction(FULL, f"{DPMPP}.2m", FULL), Reduction(FULL | {"variant": "vary"}, f"{DPMPP}.2m_taylor", FULL),
                Reduction(FULL | {"prediction": "noise"}, "lu2022dpmsolver.2m", FULL, tolerance=1e-10),
            ),
        ),
        _card("unipc3_thresholded", None, threshold=0.995),
        _card("unipc3_vary_official", 1.0, variant="vary_official", **FULL),
    ),
)  # fmt: skip
