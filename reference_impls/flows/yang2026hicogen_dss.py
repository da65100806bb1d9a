"""yang2026hicogen-dss - HiCoGen's decaying stochasticity: reverse SDE steps whose noise is spent early.

Yang et al., "HiCoGen: Hierarchical Compositional Text-to-Image Generation in Diffusion Models via Reinforcement
Learning", CVPR 2026, arXiv:2511.19965. Official code: none published; formulas from published summaries.
Path        x_t = (1-t) x0 + t eps (condot), T the grid's first time; any Gaussian path works: f = alpha'/alpha,
            g^2 = 2 sigma^2 (sigma'/sigma - alpha'/alpha), of condot -1/(1-t) and 2t/(1-t). g^2 diverges where
            alpha = 0: a grid for eta > 0 begins at t < 1.
Loss        GRPO: A_i = (r_i - mean)/std of a group; mean over the noisy steps of min(q A, clip(q, 1-c, 1+c) A), to be
            raised, q the ratio of the step's Gaussian densities under the new policy and the old one. `grpo` takes one
            gradient for each set of walks: there q = 1, and the clip does not act.
Step        Euler-Maruyama over dt = t - s. marginal (A): x_s = x - dt (u - g^2 eta^2 score/2) + g eta sqrt(dt) z.
            literal (B): x_s = x - dt (f x - g^2 score) + g eta sqrt(dt) z, as printed. eta by schedule:
            cos  eta_min + (eta_max - eta_min)(1 + cos(pi (T-t)/T))/2, falls from the start: the paper's
            late the same with 1 - cos; uniform eta_max; box eta_max where low <= t/T < high.
            budget > 0 scales eta so that the grid's sum of eta^2 dt (or of g^2 eta^2 dt, `injected`) is that number.
Cost        NFE = steps. A: weak order 1, with eta = 0 Euler's method, order 1. B: the same for eta = 1.
Exact when  A with eta = 0 is Euler on the flow ODE bit for bit. A keeps the marginals for every schedule as dt -> 0;
            B only for eta = 1, where it is A. The largest integral of eta^2 W under a budget of eta^2 <= eta_max^2 is
            bang-bang: all where W is largest. Data N(0, c): Phi(0,s)^2 = v_0/v_s along the flow (A),
            (v_0 alpha_s/(v_s alpha_0))^2 along the literal drift, W = g^2 Phi^2, v = alpha^2 c + sigma^2.
Differs     The printed SDE changes the noise and leaves the drift: it narrows the samples unless eta = 1. The argument
            for early noise needs W increasing in t; on data N(0, c) the printed drift's W peaks at t = .12, .50, .80
            for c = .04, 1, 9. "Equal budget" of eta^2 weighs g^2, which grows towards t = 1: by it early noise gives
            about half as much diversity again as uniform noise, at equal injected noise about 4 % more (claims ledger,
            eight modes). Discretisation, T and eta_min are not published: ours are Euler-Maruyama, grid[0] and 0; our
            grid leaves out t = 1. Whether a group shares its start is not published; here x says so. A step's gradient
            grows like one over its noise: with eta_min = 0 the last steps drown the others, and GRPO learns less with
            early noise than with late or even noise, not more; with a floor of .3 still less than with even noise
            (claims ledger). Constant eta = a/sqrt(2) is sigma_t = a sqrt(t/(1-t)), Flow-GRPO's (name from memory).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive, rows_of
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Objective, Paper, Reduction, Run, Sampler, require

SCHEDULES = ("cos", "late", "uniform", "box")


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D + noise z
    pull: Tensor
    noise: Tensor


def squared_diffusion(t: Tensor, process: Process) -> Tensor:
    """g^2 = 2 sigma^2 (sigma'/sigma - alpha'/alpha), = 2 sigma sigma' - 2 sigma^2 alpha'/alpha."""
    alpha_rate, sigma_rate = process.rates(t)
    sigma = process.sigma(t)
    return 2 * sigma * (sigma_rate - sigma * alpha_rate / process.alpha(t))


def stochasticity(
    t: Tensor, start: float, *, schedule: str, eta_max: float, eta_min: float = 0.0, low: float = 0.0, high: float = 0.3
) -> Tensor:
    """eta at times t of a run that starts at `start`. low, high: the box, in shares of start; .3: ours."""
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule: {schedule!r}, expected one of {', '.join(SCHEDULES)}")
    if not 0 <= eta_min <= eta_max < math.inf:
        raise ValueError(f"eta_min, eta_max: {eta_min!r}, {eta_max!r}, expected 0 <= eta_min <= eta_max, finite")
    if schedule == "box" and not low < high:
        raise ValueError(f"low, high: {low!r}, {high!r}, expected low < high, shares of the first time; swap them")
    share = t / start
    if schedule == "uniform":
        return torch.full_like(t, eta_max)
    if schedule == "box":
        return eta_min + (eta_max - eta_min) * ((low <= share) & (share < high)).to(t.dtype)
    turn = torch.cos(math.pi * (1 - share)) * (1 if schedule == "cos" else -1)
    return eta_min + (eta_max - eta_min) * (1 + turn) / 2


def influence(t: Tensor, process: Process, *, variance: float, literal: bool = False) -> Tensor:
    """W(t) = g^2 Phi(0,t)^2 per coordinate of data N(0, variance): how far noise added at t reaches x0."""
    v = process.alpha(t) ** 2 * variance + process.sigma(t) ** 2
    shrink = (variance / v * process.alpha(t)) ** 2 if literal else variance / v
    return squared_diffusion(t, process) * shrink


def bang_bang(weight: Tensor, dt: Tensor, *, budget: float, eta_max: float) -> Tensor:
    """eta^2 per step that maximises sum eta^2 W dt under sum eta^2 dt = budget and eta <= eta_max: greedy in W."""
    if not 0 <= budget <= eta_max**2 * dt.sum().item() * (1 + 1e-12):
        raise ValueError(
            f"budget: {budget!r}, expected 0 to eta_max^2 times the grid's length, {eta_max**2 * dt.sum():g}"
        )
    order = weight.argsort(descending=True)
    before = torch.cumsum(eta_max**2 * dt[order], 0) - eta_max**2 * dt[order]  # spent on steps of larger weight
    squared = torch.zeros_like(dt)
    squared[order] = ((budget - before) / dt[order]).clamp(0, eta_max**2)
    return squared


def plan(
    grid: Tensor, process: Process, *, literal: bool, schedule: str, eta_max: float, eta_min: float, low: float,
    high: float, budget: float, injected: bool,
) -> Plan:  # fmt: skip
    """Coefficients of every step; options as in `sample`. Raises ValueError, BadGrid."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    dt, sigma = t - s, process.sigma(t)
    eta = stochasticity(t, t[0].item(), schedule=schedule, eta_max=eta_max, eta_min=eta_min, low=low, high=high)
    if not 0 <= budget < math.inf:
        raise ValueError(f"budget: {budget!r}, expected 0 (eta as it is) or a positive number")
    noisy = literal or eta.max() > 0
    if noisy and process.alpha(t[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: begins at {t[0].item():g}, where alpha = 0 on {process.name} and g^2 diverges; begin it lower"
        )
    g2 = squared_diffusion(t, process) if noisy else torch.zeros_like(t)
    if budget > 0:
        spent = (eta**2 * dt * (g2 if injected else 1)).sum().item()
        if spent <= 0:
            raise ValueError(f"budget: {budget!r} with a schedule that is 0 at every time of the grid, expected noise")
        eta = eta * math.sqrt(budget / spent)
    alpha_rate, sigma_rate = process.rates(t)
    growth = sigma_rate / sigma
    if literal:  # drift f x - g^2 score, score = (alpha D - x)/sigma^2
        x_rate, mean_rate = alpha_rate / process.alpha(t) + g2 / sigma**2, -g2 * process.alpha(t) / sigma**2
    else:  # u - g^2 eta^2 score/2, u = growth x + (alpha' - growth alpha) D
        half = g2 * eta**2 / (2 * sigma**2)
        x_rate, mean_rate = growth + half, alpha_rate - growth * process.alpha(t) - half * process.alpha(t)
    return Plan(t, 1 - dt * x_rate, -dt * mean_rate, (g2 * eta**2 * dt).sqrt())


def dss_step(
    x: Tensor, row: Plan, memory: list[Tensor] | None, *, model: Model, draws: Draws
) -> tuple[Tensor, list[Tensor] | None]:
    """One interval; memory collects the states where there is one."""
    x_s = torch.mul(x, row.keep).add_(model(x, row.t), alpha=row.pull)
    if row.noise > 0:
        x_s.add_(draws.normal("step", x), alpha=row.noise)
    return x_s, memory if memory is None else [*memory, x_s]


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    literal: bool = False,
    schedule: str = "cos",
    eta_max: float = 1.0,
    eta_min: float = 0.0,
    low: float = 0.0,
    high: float = 0.3,
    budget: float = 0.0,
    injected: bool = False,
    states: bool = False,
) -> Run:
    """Euler-Maruyama from grid[0] to grid[-1]. x [B,*D]. literal: family B. schedule, eta_max 1: the paper.

    eta_min 0, low, high: ours. budget: see Step; 0 leaves eta as scheduled. states: Run.memory lists every state, x
    first, for `step_log_densities`. Raises ValueError, BadGrid.
    """
    rows = plan(
        grid, process, literal=literal, schedule=schedule, eta_max=eta_max, eta_min=eta_min, low=low, high=high,
        budget=budget, injected=injected,
    )  # fmt: skip
    tags = ("step",) if bool((rows.noise > 0).any()) else ()
    return drive(rows, dss_step, model, x, draws=draws, tags=tags, memory=[x] if states else None)


def step_log_densities(model: Model, states: list[Tensor], rows: Plan) -> Tensor:
    """log N(x_s; keep x_t + pull D(x_t), noise^2 I) in nats, [noisy steps,B]; steps without noise have none.

    states: steps + 1 tensors [B,*D], as Run.memory of `sample(states=True)`; rows: the plan that made them. The model
    may be another than the one that walked: its ratio to the old one is exp of the difference. Raises ValueError for
    another number of states, and where no step has noise.
    """
    if len(states) != rows.t.shape[0] + 1:
        raise ValueError(f"states: {len(states)}, expected {rows.t.shape[0] + 1}, one more than the plan has steps")
    if not (rows.noise > 0).any():
        raise ValueError("rows: no step has noise, expected one with a density; plan with eta_max > 0")
    meter, found = require(model, "mean", states[0].shape[0]), []
    for row, x, x_s in zip(rows_of(rows), states, states[1:], strict=False):
        if row.noise > 0:
            mean = torch.mul(x, row.keep).add(meter(x, row.t), alpha=row.pull)
            misfit = ((x_s - mean) / row.noise).flatten(1)
            constant = misfit.shape[1] * (math.log(2 * math.pi) / 2 + math.log(row.noise))
            found.append(-misfit.square().sum(1) / 2 - constant)
    return torch.stack(found)


def advantages(rewards: Tensor, group: int = 16) -> Tensor:
    """(r - mean)/std within each run of `group` samples, [B]; std with n - 1, 0 for a group of equal rewards.

    group 16: the paper [text]. Raises ValueError for other shapes and for rewards that are not finite.
    """
    if rewards.ndim != 1 or not isinstance(group, int) or group < 2 or rewards.shape[0] % group:
        raise ValueError(
            f"rewards, group: {tuple(rewards.shape)}, {group!r}, expected [B] with B a multiple of group >= 2"
        )
    if bad := int((~rewards.isfinite()).sum()):
        raise ValueError(f"rewards: {bad} of {len(rewards)} are not finite, expected numbers; mend the reward")
    sets = rewards.reshape(-1, group)
    equal = sets.amax(1, keepdim=True) == sets.amin(1, keepdim=True)  # their mean may be off by a rounding
    centred = sets - sets.mean(1, keepdim=True)
    spread = sets.std(1, keepdim=True).clamp_min(torch.finfo(rewards.dtype).tiny)
    return torch.where(equal, 0.0, centred / spread).reshape(-1)


def check_clip(clip: float) -> None:
    if not clip > 0:
        raise ValueError(f"clip: {clip!r}, expected a positive number, by how much a ratio may pass 1")


def clipped_objective(log_ratio: Tensor, advantage: Tensor, clip: float = 0.2) -> Tensor:
    """mean over steps of min(q A, clip(q, 1-c, 1+c) A), [B], to be raised. log_ratio [steps,B] in nats, advantage [B].

    clip .2: Schulman et al. 2017; the paper's is not in our sources. Raises ValueError for clip <= 0.
    """
    check_clip(clip)
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean(0)


def walked(model: Model, x: Tensor, rows: Plan, noise: Tensor) -> list[Tensor]:
    """The states of `sample` from x [B,*D] with the given unit normals [steps,B,*D]: steps + 1, x first; detached."""
    states = [x]
    with torch.no_grad():
        for row, z in zip(rows_of(rows), noise, strict=True):
            moved = torch.mul(states[-1], row.keep).add_(model(states[-1], row.t), alpha=row.pull)
            states.append(moved.add_(z, alpha=row.noise))
    return states


def grpo_loss(
    model: Model, x: Tensor, grid: Tensor, noise: Tensor, *, process: Process, reward: Callable[[Tensor], Tensor],
    schedule: str = "cos", eta_max: float = 1.0, eta_min: float = 0.0, low: float = 0.0, high: float = 0.3,
    budget: float = 0.0, injected: bool = False, group: int = 16, clip: float = 0.2,
) -> Tensor:  # fmt: skip
    """Minus the clipped objective of walks by family A, [B]; its gradient is that of the mean reward, group by group.

    x [B,*D]: starts at grid[0], each run of `group` rows a group (rows of one start, where they should share it); noise
    [steps,B,*D]: unit normals; reward: samples [B,*D] -> [B]. Other options as in `sample`, `advantages` and
    `clipped_objective`. Raises ValueError, BadGrid, before the model is evaluated, for a schedule without noise too;
    after it for rewards that are not [B] or not finite.
    """
    rows = plan(
        grid, process, literal=False, schedule=schedule, eta_max=eta_max, eta_min=eta_min, low=low, high=high,
        budget=budget, injected=injected,
    )  # fmt: skip
    if not (rows.noise > 0).any():
        raise ValueError(f"eta_max: {eta_max!r} with {schedule!r}, expected noise: walks without it have no density")
    if noise.shape != (len(rows.t), *x.shape):
        raise ValueError(f"noise: {tuple(noise.shape)}, expected {(len(rows.t), *x.shape)}, normals of every step")
    advantages(x.new_zeros(x.shape[0]), group)  # refuses a group that does not fit
    check_clip(clip)
    states = walked(model, x, rows, noise)
    rewards = reward(states[-1]).to(x)
    if rewards.shape != x.shape[:1]:
        raise ValueError(f"reward: gives {tuple(rewards.shape)}, expected one number for each of {x.shape[0]} samples")
    advantage = advantages(rewards, group)
    log_density = step_log_densities(model, states, rows)
    return -clipped_objective(log_density - log_density.detach(), advantage, clip)


def below_the_top(steps: int, process: Process) -> Tensor:
    """Times evenly spaced from t_max to t_min in steps + 1 intervals, the first time left out."""
    return grids.checked(grids.uniform_t(steps + 1, process)[1:])


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="yang2026hicogen-dss",
    title="HiCoGen: Hierarchical Compositional Text-to-Image Generation in Diffusion Models via Reinforcement Learning",
    authors="Yang et al.",
    venue="CVPR 2026",
    arxiv="2511.19965",
    code="none published",
    licence="none",
    samplers=(
        Sampler(
            id="yang2026hicogen-dss.marginal",
            sample=sample,
            grid=below_the_top,
            consumes="mean",
            path="condot",
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            symmetric=frozenset({"rotation"}),
            reduces=(
                Reduction({"eta_max": 0.0}, "lipman2022fm.euler"),
                Reduction(
                    {"schedule": "uniform"}, "yang2026hicogen-dss.literal", {"schedule": "uniform"}, tolerance=1e-11
                ),
            ),
        ),
        Sampler(
            id="yang2026hicogen-dss.literal",
            sample=partial(sample, literal=True),
            grid=below_the_top,
            consumes="mean",
            path="condot",
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_options={"schedule": "uniform"},
            symmetric=frozenset({"rotation"}),
        ),
    ),
    objectives=(
        Objective(
            id="yang2026hicogen-dss.grpo",
            loss=grpo_loss,
            minimiser="mean",
            path="condot",
            needs=frozenset({"reward"}),
        ),
    ),
)
