"""lou2024sedd - SEDD: learn the ratios p_t(y)/p_t(x) of sequences one token apart, and run the jump process backwards.

Lou, Meng, Ermon, "Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution", ICML 2024,
arXiv:2310.16834. Official code: louaaron/Score-Entropy-Discrete-Diffusion (MIT).
Path        each token jumps alone with rate sigma'(t) Q, Q = 1 pi^T - I; pi uniform over K letters, or all on a mask
            (index K). t in [1e-5, 1], sigma = -log(1 - (1-1e-3) t) or 1e-4^(1-t) 20^t. Paper's t is ours. [sec. 3.3]
            Model: s_l(y) = p_t(x with x^l := y)/p_t(x), [B,L,states], 1 at y = x^l.
Loss        sigma'(t) sum_l sum_{y != x^l} Q(y -> x^l) [s_l(y) - r log s_l(y) + r (log r - 1)],
            r = P(y | x0^l)/P(x^l | x0^l); t uniform on [1e-3, 1].                                     [thm 3.6; alg. 1]
            Bound: -log p(x0) <= Int loss dt + KL(P(. | x0, t_max) || prior). On the absorbing graph that KL is infinite
            (a token is unmasked with chance 1e-3 at t = 1) and omitted, as in the code: strictly, no bound.
Step        all positions at once, each by one uniform. Euler: P(y) = [y = x] + (t-s) sigma'(t) R(y), R(y) =
            Q(y -> x) s(y) off x, -sum at x. Analytic: P(y) = (exp(-d Q) s)(y) P_d(x | y), d = sigma_t - sigma_s.
            The interval from the last time to 0 is the denoising step: analytic with d = sigma_t, never to a mask.
            Infilling overwrites the given positions before every step and at the end.                 [sec. 4.1, 4.2]
Cost        NFE = steps + 1 (steps if the grid itself ends at 0). Stochastic; first order in the law for L >= 2.
Exact when  one token: the analytic step maps p_t to p_s for every interval (Euler too on log-linear noise, while no
            weight is negative). Absorbing with log-linear noise: both steps are one, for any s. Exact ratios, p_{t_max}
            for prior: the bound is -log p(x0) for each x0. Infilling: absorbing graph, as steps grow; on the uniform
            graph a clean given token is taken for a noisy one, and the conditional stays biased at any number of steps.
Differs     The code draws by an exponential race in float32, here by inverse CDF in float64; negative weights count as
            0 in both. Its reported bound averages over t in [1e-3, 1] only; ours runs from 0. Both omit noise below
            sigma(0), which is 1e-4 on the geometric curve. `scale_by_sigma` exists for absorbing nets alone.
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
from reference_impls.core.tokens import Given, TokenProcess, categorical, prior_of_tokens
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
    require,
)

Move = Callable[..., Tensor]  # (ratio, x, row, process) -> weights of the next tokens


class Plan(NamedTuple):
    t: Tensor
    s: Tensor  # 0 in the last row: the denoising step
    jump: Tensor  # (t - s) sigma'(t)
    dsigma: Tensor  # sigma_t - sigma_s, all of sigma_t in the denoising step


def plan(grid: Tensor, process: TokenProcess) -> Plan:
    """One row per interval of the grid and, unless it ends at 0, one more from its last time to 0."""
    times = grids.checked(grid)
    if times[-1] > 0:
        times = torch.cat([times, times.new_zeros(1)])
    t, s = times[:-1], times[1:]
    sigma_s = torch.where(s > 0, process.sigma(s), 0)
    return Plan(t, s, (t - s) * process.rate(t), process.sigma(t) - sigma_s)


def euler(ratio: Tensor, x: Tensor, row: Plan, process: TokenProcess) -> Tensor:
    """Weights [B,L,states] of the next token by one Euler step (section 4.1); those of a long step may be negative."""
    rates = process.rate_into(x) * ratio.double() * row.jump
    own = x[..., None]
    return rates.scatter(-1, own, 1 - rates.sum(-1, keepdim=True))


def analytic(ratio: Tensor, x: Tensor, row: Plan, process: TokenProcess) -> Tensor:
    """Weights [B,L,states] by Tweedie's formula for jumps (section 4.1): ratios at sigma_s, then the way back to x."""
    return process.carried(ratio, -row.dsigma) * process.chance_into(x, row.dsigma)


def weights(model: Model, x: Tensor, row: Plan, process: TokenProcess, move: Move) -> Tensor:
    """Weights of the next token in any step; the denoising step is analytic and leaves no mask."""
    ratio = model(x, row.t)
    if row.s > 0:
        return move(ratio, x, row, process)
    return analytic(ratio, x, row, process)[..., : process.K]


def step(
    x: Tensor,
    row: Plan,
    memory: None,
    *,
    model: Model,
    draws: Draws,
    process: TokenProcess,
    move: Move,
    condition: Given | None,
) -> tuple[Tensor, None]:
    """Overwrite what is given, evaluate, redraw every position from its own weights."""
    x = x if condition is None else condition.over(x)
    return categorical(weights(model, x, row, process, move), draws.uniform("step", tuple(x.shape))), None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: TokenProcess,
    draws: Draws,
    move: Move = analytic,
    condition: Given | None = None,
) -> Run:
    """Sections 4.1 and, with a condition, 4.2: x int64 [B,L] at grid[0] to letters [B,L].

    condition: positions whose tokens are known in advance. move: the step; default as in the published scripts.
    """
    bound = partial(step, process=process, move=move, condition=condition)
    run = drive(plan(grid, process), bound, model, x, draws=draws, consumes="ratio")
    return run if condition is None else run._replace(x=condition.over(run.x))


def transitions(model: Model, grid: Tensor, process: TokenProcess, *, move: Move) -> list[Callable[[Tensor], Tensor]]:
    """For each step the map from x [B,L] to the weights [B,L,states] (letters only in the last) that it draws from."""
    return [partial(weights, model, row=row, process=process, move=move) for row in rows_of(plan(grid, process))]


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1) + float(grid[-1] > 0)


def loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: TokenProcess) -> Tensor:
    """Diffusion-weighted denoising score entropy, the integrand of theorem 3.6: [B], nats per unit of t.

    x0 and noise, which is x_t, are int64 [B,L]; t is [B].
    """
    into = process.rate_into(noise)
    law = process.law_from(x0, process.sigma(t))
    r = torch.where(into > 0, law / law.gather(-1, noise[..., None]), 0)  # 0/0 where x_t cannot be left: weight 0
    s = torch.where(into > 0, model(noise, t).double(), 1)
    entropy = s - torch.xlogy(r, s) + torch.xlogy(r, r) - r
    return process.rate(t).to(x0.device) * (into * entropy).sum((-1, -2))


def uniform_times(u: Tensor, process: TokenProcess, *, first: float = 1e-3) -> Tensor:
    """t uniform on [1e-3, t_max] (sampling_eps of losses.py): u [B] in (0,1) -> t [B]."""
    return first + u.double() * (process.t_max - first)


def prior_loss(x0: Tensor, process: TokenProcess) -> Tensor:
    """KL(P(. | x0, t_max) || prior), nats [B]; 0 on the absorbing graph, where it is infinite and the code omits it."""
    if process.graph == "absorbing":
        return torch.zeros(x0.shape[0], dtype=torch.float64, device=x0.device)
    law = process.law_from(x0, process.sigma(process.t_max))
    return (torch.xlogy(law, law) - torch.xlogy(law, process.prior(x0.device))).sum((-1, -2))


def log_prob(
    model: Model, x0: Tensor, *, process: TokenProcess, draws: Draws, strata: int = 64, prior: bool = True
) -> Tensor:
    """Lower bound of log p(x0) in nats, [B]: theorem 3.6 with t from 0, unbiased, one t and x_t in each of `strata`.

    strata: evaluations per sample (the paper draws t at random, often; the choice is ours). prior: False leaves the
    terminal KL out. On the absorbing graph it is infinite and always left out: the number is then no strict bound.
    """
    meter = require(model, "ratio", x0.shape[0])
    total = torch.zeros(x0.shape[0], dtype=torch.float64, device=x0.device)
    for j in range(strata):
        here = draws.at(j)
        t = process.t_max * (j + here.uniform("time", (x0.shape[0],)).to(x0.device)) / strata
        x_t = process.corrupt(x0, t, here.uniform("noise", tuple(x0.shape)))
        total += loss(meter, x0, t, x_t, process=process) * (process.t_max / strata)
    return -total - prior_loss(x0, process) if prior else -total


def rows(t: Time, x: Tensor) -> Tensor:
    return t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64, device=x.device)


def uniform_net(net: Callable[[Tensor, Tensor], Tensor], *, process: TokenProcess) -> Predictor:
    """A raw net whose output is log s, with its own index forced to 0. net: (x [B,L], sigma [B]) -> [B,L,states]."""

    def predict(x: Tensor, t: Time) -> Tensor:
        # float64: log undoes exp for every output in (-745, 709), so the loss sees the net's own log s
        return net(x, process.sigma(rows(t, x))).double().scatter(-1, x[..., None], 0.0).exp()

    return Predictor("ratio", predict)


def absorbing_net(net: Callable[[Tensor, Tensor], Tensor], *, process: TokenProcess) -> Predictor:
    """`scale_by_sigma`: log s = output - log(e^sigma - 1) - log K, so that a silent net says "any letter alike"."""

    def scaled(x: Tensor, sigma: Tensor) -> Tensor:
        log_odds = sigma + torch.log(-torch.expm1(-sigma))  # log(e^sigma - 1), also where e^sigma overflows
        return net(x, sigma).double() - (log_odds + math.log(process.K))[:, None, None]

    return uniform_net(scaled, process=process)


def _card(name: str, move: Move, **traits) -> Sampler:
    return Sampler(
        id=f"lou2024sedd.{name}", sample=partial(sample, move=move), transitions=partial(transitions, move=move),
        grid=grids.uniform_t, consumes="ratio", path="absorbing-loglinear", start=prior_of_tokens,
        defined_on=frozenset({"token"}), nfe=evaluations, stochastic=True, weak_order=1.0, **traits,
    )  # fmt: skip


PAPER = Paper(
    key="lou2024sedd",
    title="Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution",
    authors="Aaron Lou, Chenlin Meng, Stefano Ermon",
    venue="ICML 2024",
    arxiv="2310.16834",
    code="louaaron/Score-Entropy-Discrete-Diffusion",
    licence="MIT",
    samplers=(
        _card("euler", euler, reduces=(Reduction({}, "lou2024sedd.analytic", on="own"),)),
        _card("analytic", analytic, exact_on=frozenset({"single_token"})),
    ),
    objectives=(
        Objective(
            id="lou2024sedd.score_entropy",
            loss=loss,
            minimiser="ratio",
            path="absorbing-loglinear",
            times=uniform_times,
        ),
    ),
    likelihoods=(
        Likelihood(
            id="lou2024sedd.bound", log_prob=log_prob, kind="bound", consumes="ratio", path="absorbing-loglinear"
        ),
    ),
    parametrisations={"absorbing": absorbing_net, "uniform": uniform_net},
)
