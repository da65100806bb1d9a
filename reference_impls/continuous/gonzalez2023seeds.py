"""gonzalez2023seeds - SEEDS: exponential Runge-Kutta for the reverse SDE, stage noise taken from one Brownian path.

Gonzalez, Fernandez Pinto, Tran, Gherbi, Hajri, Masmoudi, "SEEDS: Exponential SDE Solvers for Fast High-Quality Sampling
from Diffusion Models", NeurIPS 2023, arXiv:2305.14267. Official code: nfsrules/SEEDS (CC BY-NC-SA 4.0; formulas only).
Path        x_t = alpha_t x0 + sigma_t eps, lam = log(alpha/sigma), rho = sigma/alpha; the paper's s -> t is our t -> s.
            vp-linear for the noise and data forms, ve-edm for the EDM forms, which here hold on any path (y = x/alpha).
Loss        none: training free.
Step        Reverse SDE with noise knob eta (1 in the paper). Every form is x_u = (P_u/P_t) x_t + w_u int m dG + P_u M:
            a prediction m, a carry P, a measure G and noise M of variance V(t -> u). With W = w G:
              noise m = e: G = rho, P = alpha, W = -(1+eta) sigma, V = eta (rho_t^2 - rho_u^2);
              data  m = D: G = e^{(1+eta) lam}, P = sigma e^{-eta lam}, W = -alpha,
                    V = e^{2 eta lam_u} - e^{2 eta lam_t};
              edm   m = F of EDM, q = rho^2 + sd^2. SEEDS (eta = 1): G = rho/(sd sqrt q), P = alpha q,
                    W = 2 alpha rho sqrt(q)/sd, V = 1/q_u - 1/q_t. ERK (eta = 0): G = arctan(rho/sd), P = alpha sqrt q,
                    W = P G, V = 0.
            Stages at equal shares c of log G; z = log(G_t/G_s); k_j(c) = W_u c z phi_j(c z), with the phi-functions:
              1:  k1 m_0.     2 (c2 = 1/2): x1 by k1(c2) m_0; then 2a k1 (m_0 + (m_1-m_0)/(2 c2)), or
                  2b k1 m_0 + k2 (m_1-m_0)/c2.
              3 (c2 = 1/3, c3 = 2/3): x2 by k1(c3) m_0 + (c3/c2) k2(c3) (m_1-m_0); then 3a k1 m_0 + k2 (m_2-m_0)/c3, or
                  3b k1 m_0 + k2 d1 + k3 d2, d the derivatives at t of the parabola through m_0, m_1, m_2.
            Stage and end share M: the increments up to u, all of them times P_u.
            An interval that ends at t = 0 takes the mean D alone (one evaluation), or nothing with landing = "skip".
Cost        NFE = order per step, 1 (or 0) for an interval to 0. Weak order 1, 2, 2 (order 3 has a smaller constant and
            is NOT weakly of order 3). ERK and eta = 0: order 1, 2, 3.
Exact when  data: point mass, any step. edm with eta = 1: N(0, sd^2 I), where F = 0. data1 is DDIM with eta = 1, same
            draws; eta = 0 of order 1 is DDIM.
Differs     official = True writes order 2 and 3 as the code does. Data, order 3: the second stage's k2(c3) is there
            W (2 phi_1(c2 z) - 1), which tends to W and not to 0: weak order 1. Noise, order 3: the second stage's noise
            is scaled by sigma_s instead of the stage's sigma, and the first two increments change places at the end.
            Noise of order 2 has its increments right only for c2 = 1/2. ERK, order 3: the end starts from m_1, with a
            wrong sign. EDM-SEEDS-3: a stage's last increment stands for all of its increments, those of age j grown by
            e^{c_j z}; right at c2 = 1/3 only. EDM-SEEDS-1 returns its input in the code and EDM-SEEDS-2 raises, and the
            code's EDM forms store butcher and never read it: both are refused. At eta = 0 the code's noise and data
            forms are the formulas here; their order 4 (noise form, 5 evaluations) is not offered. The code's 2b for
            data carries a note that it needs correction: it equals the formula here. The code subtracts its draws in
            the noise and data forms and adds them in EDM's: here they are added. Its loop does nothing on the last
            interval, wherever that ends; landing = "skip" does so at 0 only. noise_type = "discrete" takes +1 where a
            normal exceeds 1/2, else -1, as the code does: mean -.38 and variance .85, so that nothing keeps its
            marginals. The code seeds the global generator inside its sampler, so that all batches share noise: not
            offered. Its VP range starts at rho 124.58 (beta_d 19.1) where EDM has 152.17 (19.9), which is a shorter
            range of the path here. General eta is derived here.
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

TAGS = ("stage1", "stage2")
C3 = 2 / 3  # third node of order 3, fixed in the code


class Frame(NamedTuple):
    """What a prediction is integrated against; functions of float64 times. See Step in the module's docstring."""

    level: Callable[[Tensor], Tensor]  # log G
    time: Callable[[Tensor], Tensor]  # and its inverse
    keep: Callable[[Tensor, Tensor], Tensor]  # P of the second time over P of the first
    reach: Callable[[Tensor], Tensor]  # W
    spread: Callable[[Tensor, Tensor], Tensor]  # P sqrt(V) at the second time, V from the first; with keep never inf
    of_state: Callable[[Tensor], Tensor]  # m = of_state x + of_mean D; 0 and 1 for the mean itself
    of_mean: Callable[[Tensor], Tensor]


class Plan(NamedTuple):
    """One row per step. Index k runs over the stages: [steps, order], and [steps, order, order] for pull and noise."""

    evaluations: Tensor
    t: Tensor
    of_state: Tensor
    of_mean: Tensor
    keep: Tensor  # state after evaluation k = keep_k x + sum_j pull_kj m_j + sum_j noise_kj z_j
    pull: Tensor
    noise: Tensor


def noise_frame(process: Process, eta: float) -> Frame:
    def spread(a: Tensor, b: Tensor) -> Tensor:
        return process.sigma(b) * (eta * torch.expm1(2 * (process.lam(b) - process.lam(a)))).sqrt()

    return Frame(
        lambda t: -process.lam(t), lambda level: process.time_of_logsnr(-level),
        lambda a, b: process.alpha(b) / process.alpha(a), lambda t: -(1 + eta) * process.sigma(t), spread,
        lambda t: 1 / process.sigma(t), lambda t: -process.alpha(t) / process.sigma(t),
    )  # fmt: skip


def data_frame(process: Process, eta: float) -> Frame:
    def keep(a: Tensor, b: Tensor) -> Tensor:
        return process.sigma(b) / process.sigma(a) * (eta * (process.lam(a) - process.lam(b))).exp()

    def spread(a: Tensor, b: Tensor) -> Tensor:
        return process.sigma(b) * (-torch.expm1(2 * eta * (process.lam(a) - process.lam(b)))).sqrt()

    return Frame(
        lambda t: (1 + eta) * process.lam(t), lambda level: process.time_of_logsnr(level / (1 + eta)),
        keep, lambda t: -process.alpha(t), spread, torch.zeros_like, torch.ones_like,
    )  # fmt: skip


def _edm_prediction(process: Process, sigma_data: float) -> tuple[Callable[[Tensor], Tensor], ...]:
    """F = (D - c_skip y)/c_out of EDM's table 1 at rho, with y = x/alpha: its coefficients of x and of D."""

    def out(t: Tensor) -> Tensor:
        return process.rho(t) * sigma_data / (process.rho(t) ** 2 + sigma_data**2).sqrt()

    def of_state(t: Tensor) -> Tensor:
        return -(sigma_data**2) / (process.rho(t) ** 2 + sigma_data**2) / out(t) / process.alpha(t)

    return of_state, lambda t: 1 / out(t)


def edm_seeds_frame(process: Process, sigma_data: float) -> Frame:
    def q(t: Tensor) -> Tensor:
        return process.rho(t) ** 2 + sigma_data**2

    def level(t: Tensor) -> Tensor:  # log of G less that of its bound 1/sd, with which differences would cancel
        return -torch.log1p((sigma_data / process.rho(t)) ** 2) / 2

    def time(level: Tensor) -> Tensor:
        return process.time_of_logsnr(torch.expm1(-2 * level).log() / 2 - math.log(sigma_data))

    def keep(a: Tensor, b: Tensor) -> Tensor:
        return process.alpha(b) / process.alpha(a) * q(b) / q(a)

    def spread(a: Tensor, b: Tensor) -> Tensor:
        rho_a, rho_b = process.rho(a), process.rho(b)
        return process.alpha(b) * ((rho_a - rho_b) * (rho_a + rho_b) * q(b) / q(a)).sqrt()

    return Frame(
        level, time, keep,
        lambda t: 2 * process.sigma(t) * q(t).sqrt() / sigma_data, spread, *_edm_prediction(process, sigma_data),
    )  # fmt: skip


def edm_erk_frame(process: Process, sigma_data: float) -> Frame:
    def carry(t: Tensor) -> Tensor:
        return process.alpha(t) * (process.rho(t) ** 2 + sigma_data**2).sqrt()

    def angle(t: Tensor) -> Tensor:
        return (process.rho(t) / sigma_data).atan()

    return Frame(
        lambda t: angle(t).log(), lambda level: process.time_of_logsnr(-(sigma_data * level.exp().tan()).log()),
        lambda a, b: carry(b) / carry(a), lambda t: carry(t) * angle(t), lambda a, b: torch.zeros_like(a),
        *_edm_prediction(process, sigma_data),
    )  # fmt: skip


def _frame(process: Process, prediction: str, eta: float, sigma_data: float) -> Frame:
    if prediction == "edm":
        if eta not in (0, 1) or not 0 < sigma_data < math.inf:
            raise ValueError(
                f"eta, sigma_data: {eta!r}, {sigma_data!r}, expected 1 (SEEDS) or 0 (ERK) with 'edm', and a number > 0"
            )
        return edm_seeds_frame(process, sigma_data) if eta else edm_erk_frame(process, sigma_data)
    if prediction not in ("noise", "data"):
        raise ValueError(f"prediction: {prediction!r}, expected 'noise', 'data' or 'edm'")
    if not 0 <= eta < math.inf:
        raise ValueError(f"eta: {eta!r}, expected a number of at least 0 (0 is the flow ODE, 1 the reverse SDE)")
    return {"noise": noise_frame, "data": data_frame}[prediction](process, eta)


def _nodes(order: int, butcher: str, c2: float) -> tuple[float, ...]:
    """Shares of log G where a step evaluates, and its end: (0, .., 1)."""
    if order not in (1, 2, 3) or not isinstance(order, int):
        raise ValueError(f"order: {order!r}, expected 1, 2 or 3")
    if butcher not in ("a", "b"):
        raise ValueError(f"butcher: {butcher!r}, expected 'a' or 'b' (2a and 2b, 3a and 3b of the paper)")
    c2 = c2 or {1: 0.0, 2: 1 / 2, 3: 1 / 3}[order]
    if (order == 2 and not 0 < c2 < 1) or (order == 3 and not 0 < c2 < C3):
        raise ValueError(f"c2: {c2!r}, expected in (0, 1) for order 2, in (0, 2/3) for order 3, or 0: the default")
    if order == 3 and butcher == "b" and c2 != 1 / 3:
        raise ValueError(f"c2: {c2!r}, expected 1/3 for 3b, whose differences are written for it")
    return {1: (0.0, 1.0), 2: (0.0, c2, 1.0), 3: (0.0, c2, C3, 1.0)}[order]


def pulls(k1: Tensor, k2: Tensor, k3: Tensor, c: tuple[float, ...], butcher: str) -> list[list[Tensor]]:
    """Weights of the predictions in each stage and in the end. k [steps, order] at the nodes c[1:]."""
    rows, zero = [[k1[:, 0]]], torch.zeros_like(k1[:, 0])
    if len(c) == 3:
        step = k1[:, 1] / (2 * c[1]) if butcher == "a" else k2[:, 1] / c[1]
        rows.append([k1[:, 1] - step, step])
    if len(c) == 4:
        step = c[2] / c[1] * k2[:, 1]
        rows.append([k1[:, 1] - step, step])
        k1, k2, k3 = k1[:, 2], k2[:, 2], k3[:, 2]
        if butcher == "a":
            rows.append([k1 - k2 / c[2], zero, k2 / c[2]])
        else:
            rows.append([k1 - 4.5 * k2 + 9 * k3, 6 * k2 - 18 * k3, 9 * k3 - 1.5 * k2])
    return [row + [zero] * (len(c) - 1 - len(row)) for row in rows]


def coded_noise(sigma: Tensor, h: Tensor, c: tuple[float, ...], sign: int) -> list[list[Tensor]]:
    """Weights of the draws as etd_serk.py has them for order 2 and 3. sigma at the nodes, h = lam_s - lam_t; sign +1
    for the noise form and -1 for the data form."""

    def spread(share: float) -> Tensor:
        return (sign * torch.expm1(2 * sign * share * h)).sqrt()

    first, zero = spread(c[1]), torch.zeros_like(h)
    second = (sign * c[1] * h).exp() * spread(c[2] - c[1])
    if len(c) == 3:
        return [[sigma[:, 1] * first, zero], [sigma[:, 2] * second, sigma[:, 2] * first]]
    third, stage = (sign * c[2] * h).exp() * spread(1 - c[2]), sigma[:, 3 if sign > 0 else 2]
    end = (second, third, first) if sign > 0 else (third, second, first)
    return [
        [sigma[:, 1] * first, zero, zero], [stage * second, stage * first, zero], [sigma[:, 3] * each for each in end]
    ]  # fmt: skip


def _stack(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _inner(times: Tensor, process: Process, frame: Frame, c: tuple[float, ...], butcher: str, coded: str) -> Plan:
    """Rows of the intervals between times, none of which is 0. coded: "", or the form to write as the code has it."""
    share, t, s = torch.tensor(c, dtype=torch.float64), times[:-1, None], times[1:, None]
    z = frame.level(t) - frame.level(s)
    nodes = torch.cat([t, frame.time(frame.level(t) - share[1:-1] * z), s], 1)
    reach, cz = frame.reach(nodes[:, 1:]), share[1:] * z
    k1, k2, k3 = (reach * cz * phi(j, cz) for j in (1, 2, 3))
    own = frame.spread(nodes[:, :-1], nodes[:, 1:])  # of each increment where it ends; from there it is kept as P is
    noise = (own[:, None] * frame.keep(nodes[:, None, 1:], nodes[:, 1:, None])).tril()
    if coded == "edm":  # as if an increment grew with its age alone, and all were of one size
        index = torch.arange(len(c) - 1)
        noise = (own[..., None] * (share[(index[:, None] - index).clamp(min=0)] * z[..., None]).exp()).tril()
    if coded == "data" and len(c) == 4:
        k2[:, 1] = reach[:, 1] * (2 * phi(1, c[1] * z[:, 0]) - 1)
    rows = pulls(k1, k2, k3, c, butcher)
    if coded == "erk" and len(c) == 4:
        wrong = k2[:, 2] / (2 * c[2])
        rows[2] = [torch.zeros_like(wrong), k1[:, 2] + wrong, -wrong]
    if coded in ("noise", "data") and len(c) > 2:
        h = (process.lam(s) - process.lam(t))[:, 0]
        noise = _stack(coded_noise(process.sigma(nodes), h, c, 1 if coded == "noise" else -1))
    at = nodes[:, :-1]
    evaluations = torch.full((at.shape[0],), len(c) - 1)
    keep = frame.keep(t, nodes[:, 1:])
    return Plan(evaluations, at, frame.of_state(at), frame.of_mean(at), keep, _stack(rows), noise)


def _coded(prediction: str, order: int, butcher: str, eta: float) -> str:
    """The form that official = True has to write as the code does, "" where that is the formula."""
    if eta not in (0, 1):
        raise ValueError(f"official: True, expected False for eta {eta!r}: the code has 1 (SEEDS) and 0 (ERK) alone")
    if prediction == "edm" and eta == 1 and order < 3:
        raise ValueError("official: True, expected False or order 3: the code's EDM-SEEDS of order 1 and 2 do not run")
    if prediction == "edm" and butcher == "b":
        raise ValueError("official: True, expected False or butcher 'a': the code's EDM forms never read the option")
    return {("noise", 0): "", ("data", 0): "", ("edm", 0): "erk"}.get((prediction, eta), prediction)


def plan(
    grid: Tensor,
    process: Process,
    *,
    prediction: str = "noise",
    order: int = 3,
    butcher: str = "a",
    c2: float = 0.0,
    eta: float = 1.0,
    official: bool = False,
    landing: str = "mean",
    sigma_data: float = 0.5,
) -> Plan:
    """Coefficients of every step. c2 0: the default of the order. landing: what an interval that ends at 0 does."""
    c, frame = _nodes(order, butcher, c2), _frame(process, prediction, eta, sigma_data)
    if landing not in ("mean", "skip"):
        raise ValueError(f"landing: {landing!r}, expected 'mean' or 'skip' (the official loop)")
    if process.alpha(grids.checked(grid)[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: starts at {grid[0].item():g}, where alpha = 0 and log-SNR has no value; start below, as "
            "process.between(t_min, .999) does"
        )
    coded = _coded(prediction, order, butcher, eta) if official else ""
    if grid[-1] > 0:
        return _inner(grid, process, frame, c, butcher, coded)
    rows = _inner(grid[:-1], process, frame, c, butcher, coded)
    last = Plan(*(torch.zeros(1, *column.shape[1:], dtype=column.dtype) for column in rows))
    last.evaluations[0] = 1 if landing == "mean" else 0
    last.t[:], last.of_mean[:], last.pull[:, 0, 0] = grid[-2], 1.0, process.alpha(grid[-1:])  # x_s = alpha_s D
    return Plan(*(torch.cat(pair) for pair in zip(rows, last, strict=True)))


def exponential_step(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, tags: tuple[str, ...], discrete: bool
) -> tuple[Tensor, None]:
    """One interval; every stage starts from x. tags: a draw for each increment of the Brownian path, () if eta = 0.

    discrete: the draws are the code's thresholded normals, not the normals themselves.
    """
    state, predictions = x, []
    for k in range(row.evaluations):
        mean = model(state, row.t[k])
        if row.of_state[k]:
            mean = torch.mul(state, row.of_state[k]).add_(mean, alpha=row.of_mean[k])
        predictions.append(mean)
        state = torch.mul(x, row.keep[k])
        for pull, each in zip(row.pull[k], predictions, strict=False):
            if pull:
                state.add_(each, alpha=pull)
        for weight, tag in zip(row.noise[k], tags, strict=False):
            if weight:
                z = draws.normal(tag, x)
                state.add_((z > 0.5).to(z.dtype) * 2 - 1 if discrete else z, alpha=weight)
    return state, None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    prediction: str = "noise",
    order: int = 3,
    butcher: str = "a",
    c2: float = 0.0,
    eta: float = 1.0,
    official: bool = False,
    landing: str = "mean",
    sigma_data: float = 0.5,
    noise_type: str = "gaussian",
) -> Run:
    """SEEDS (EDM-ERK: prediction "edm", eta 0) from grid[0] to grid[-1]. x [B,*D].

    prediction, butcher, c2, noise_type: the code's defaults; order 3: the published runs; eta 1: the paper; sigma_data
    .5: EDM's. Raises ValueError for options that are not offered, BadGrid where the grid starts without signal.
    """
    if noise_type not in ("gaussian", "discrete"):
        raise ValueError(f"noise_type: {noise_type!r}, expected 'gaussian' or 'discrete' (the code's biased one)")
    rows = plan(
        grid, process, prediction=prediction, order=order, butcher=butcher, c2=c2, eta=eta, official=official,
        landing=landing, sigma_data=sigma_data,
    )  # fmt: skip
    tags = (*TAGS[: order - 1], "step") if eta > 0 else ()
    step = partial(exponential_step, tags=tags, discrete=noise_type == "discrete")
    return drive(rows, step, model, x, draws=draws, tags=tags)


def _evaluations(order: int) -> Callable[[Tensor], float]:
    return lambda grid: order * (grid.shape[0] - 1.0) - (order - 1) * float(grid[-1] == 0)


def _card(name: str, prediction: str, stages: int, *, options: dict | None = None, **fields) -> Sampler:
    sampler = partial(sample, prediction=prediction, order=stages, **(options or {}))
    return Sampler(
        **dict(
            id=f"gonzalez2023seeds.{name}", sample=sampler, grid=grids.power_to_zero(7.0), consumes="mean",
            path="ve-edm" if prediction == "edm" else "vp-linear", nfe=_evaluations(stages),
            stochastic=(options or {}).get("eta", 1.0) > 0, symmetric=frozenset({"rotation", "paths"}),
            exact_on=frozenset({"delta"} if prediction == "data" else ()),
        ) | fields
    )  # fmt: skip


DDIM, FLOW = "song2020ddim.ddim", {"eta": 0.0}
AMPLIFIED = 1e-10  # noise forms amplify rounding by alpha_s/alpha_t, 152 on vp-linear
STANDARD = {"exact_options": {"sigma_data": 1.0}, "exact_on": frozenset({"standard"})}

PAPER = Paper(
    key="gonzalez2023seeds",
    title="SEEDS: Exponential SDE Solvers for Fast High-Quality Sampling from Diffusion Models",
    authors="Martin Gonzalez, Nelson Fernandez Pinto, Thuy Tran, Elies Gherbi, Hatem Hajri, Nader Masmoudi",
    venue="NeurIPS 2023",
    arxiv="2305.14267",
    code="nfsrules/SEEDS",
    licence="CC BY-NC-SA 4.0",
    samplers=(
        _card("data3", "data", 3, weak_order=2.0, reduces=(Reduction(FLOW, "lu2022dpmsolverpp.3s"),)),
        _card("data2", "data", 2, weak_order=2.0, variant=True, reduces=(Reduction(FLOW, "lu2022dpmsolverpp.2s"),)),
        _card(
            "data2b", "data", 2, options={"butcher": "b"}, weak_order=2.0, variant=True,
            reduces=(Reduction(FLOW, "lu2022dpmsolverpp.2s_taylor"),),
        ),
        _card(
            "data1", "data", 1, weak_order=1.0, variant=True,
            reduces=(Reduction({}, "song2020ddim.stochastic"), Reduction(FLOW, DDIM)),
        ),
        _card(
            "noise3", "noise", 3, weak_order=2.0, variant=True,
            reduces=(Reduction(FLOW, "lu2022dpmsolver.singlestep3", tolerance=AMPLIFIED),),
        ),
        _card(  # weak order 2 too, but on the law's Gaussian its error changes sign and has no steady slope
            "noise2", "noise", 2, variant=True,
            reduces=(Reduction(FLOW, "lu2022dpmsolver.singlestep2", tolerance=AMPLIFIED),),
        ),
        _card(
            "noise2b", "noise", 2, options={"butcher": "b"}, variant=True,
            reduces=(Reduction(FLOW, "lu2022dpmsolver.singlestep2_taylor", tolerance=AMPLIFIED),),
        ),
        _card(
            "noise1", "noise", 1, weak_order=1.0, variant=True,
            reduces=(
                Reduction({}, "lu2022dpmsolverpp.sde1_eps", tolerance=AMPLIFIED),
                Reduction(FLOW, DDIM, tolerance=AMPLIFIED),
            ),
        ),
        _card("edm3", "edm", 3, weak_order=2.0, **STANDARD),
        _card("edm2", "edm", 2, weak_order=2.0, variant=True, **STANDARD),
        _card("edm1", "edm", 1, weak_order=1.0, variant=True, **STANDARD),
        *(
            _card(f"erk{order}", "edm", order, options={"eta": 0.0}, order=float(order), variant=order < 3)
            for order in (3, 2, 1)
        ),
        _card("data3_official", "data", 3, options={"official": True}, variant=True),
        _card(
            "data3_discrete", "data", 3, options={"noise_type": "discrete"}, variant=True, exact_on=frozenset(),
            symmetric=frozenset({"paths"}),
        ),
        _card(
            "noise3_official", "noise", 3, options={"official": True}, variant=True, symmetric=frozenset({"rotation"})
        ),
        _card("erk3_official", "edm", 3, options={"eta": 0.0, "official": True}, order=1.0, variant=True),
    ),
)  # fmt: skip
