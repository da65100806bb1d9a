"""kim2023dmcmc - DMCMC: a Langevin-Gibbs chain over states and noise levels, whose cleanest states are then denoised.

Kim, Ye, "Denoising MCMC for Accelerating Diffusion-Based Generative Models", ICML 2023, arXiv:2209.14593.
Official code: 1202kbs/DMCMC (no licence file; its score network is score_sde's, Apache-2.0).
Path        y = x0 + rho e, in the code rho = sigma from .01 to 50 (CIFAR-10) or 348 (CelebA-HQ); here ve-edm, and any
            path by y = x_t/alpha_t, rho = sigma_t/alpha_t. Levels rho_k = low (high/low)^u_k, u from 1 to .001 evenly,
            k = 0 the noisiest, high = rho(grid[0]), low = rho(t_min) on a grid to clean data, else that of the grid's
            end; all k equally likely.
Loss        noise classifier: -log c(k | x0 + rho_k e), k uniform. Minimiser: p(k | y) = p_rho_k(y)/sum_j p_rho_j(y). It
            takes no time and is an aid here: noise_logits(y, rho [K]) -> [B,K], log p(k | y) up to a constant. A model
            with a classifier of its own (Levelled) is asked instead of the aid. In the code: four 3x3 convolutions with
            ReLU and average pooling and one linear layer, Adam at 1e-3, batch 100, 100 epochs.
Step        Chain: y from rho(grid[0]) to 0 by KAR2 in 19 intervals, y += kick z, k by Gibbs, then `warm` steps of size
            warm_size and `burn` steps of size eta of
              y += (eta/2) score(y, rho) + sqrt(eta) z, score = (D - y)/rho^2;  k ~ p(k | y)  (DLG)
            An output is the state of the smallest rho among the chain's state and its next n_skip steps, denoised from
            there to the grid's end: the grid's own spacing in rho^(1/7), scaled to the state's rho. KAR1: Heun, Euler
            alone to 0; KAR2: the same with churn, gamma = min(80/(steps + 1), sqrt(2) - 1) for rho in [.05, 1], its
            noise 1.007 times; "euler". On a grid that ends clean then Tweedie at a small rho: y = D(y, tweedie).
            An own loop: every row has levels of its own, and the chain is no walk down the grid.
Cost        An output: n_skip + (2 steps - 1, euler: steps) + 1; a chain: 37 + warm + burn more, which `outputs` share.
            Both are metered. Stochastic; neither an order nor a weak order.
Exact when  chain = False, tweedie = 0: the integrator alone, KAR1 = EDM's Heun on ve-edm. Gibbs by sampling leaves the
            joint law of (y, k) invariant for eta -> 0; Langevin at fixed rho on N(0, v) has variance v/(1 - eta/(4 v)),
            v with rho^2 included, and is stable for eta < 4 v. Tweedie's step is y + rho^2 score.
Differs     The paper samples k | y; the code takes the argmax, after which levels are not uniform: gibbs = "sample" or
            "argmax". The smallest of n_skip + 1 levels is no draw of p(y | rho) either: the outputs' law is biased even
            with exact pieces. The code applies Tweedie at .01 to a state that has already gone to 0. One eta serves all
            levels, unstable at the small ones: the next Gibbs move lifts rho again. Successive outputs of a chain are
            correlated: with outputs = 1 (default) each sample has a chain of its own and pays for it; with more, row b
            belongs to chain b modulo the number of chains, as in the code, whose batch is its chains.
            The eta of the published tables is not given for CIFAR-10 (.5, its burn-in's, here; .8 for CelebA-HQ). The
            code counts neither the chain's start nor Tweedie's step. `official` has the notebook's KAR2 and argmax
            with CIFAR-10's chain, `official_celebahq` with CelebA-HQ's (its own levels reach 348: ve-edm[0.01,348]).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.options import counts
from reference_impls.core.process import Process
from reference_impls.core.types import (
    Draws,
    Kind,
    Meter,
    Model,
    Objective,
    Paper,
    Reduction,
    Run,
    Sampler,
    Time,
    expand,
    require,
)

NoiseLogits = Callable[[Tensor, Tensor], Tensor]  # (y [B,*D], rho float64 [K]) -> [B,K]

EXPONENT = 7  # of the level spacing (EDM's rho) [code]
CHURN, CHURN_MIN, CHURN_MAX, CHURN_NOISE = 80.0, 0.05, 1.0, 1.007  # of KAR2 [code]
FIRST_STEPS = 19  # intervals of the chain's first descent: N = 20 [code]
LOWEST = 1e-3  # u of the smallest level [code]
INTEGRATORS = ("kar1", "kar2", "euler")


class State(NamedTuple):
    y: Tensor  # [B,*D]
    rho: Tensor  # float64 [B]


def noise_levels(low: float, high: float, count: int = 1000) -> Tensor:
    """float64 [count], decreasing from high; count 1000 as in the code."""
    u = torch.linspace(1.0, LOWEST, count, dtype=torch.float64)
    return low * (high / low) ** u


def level_of(u: Tensor, count: int = 1000) -> Tensor:
    """The uniform law of k as an inverse CDF: u [B] in (0,1) -> int64 [B]."""
    return (u * count).long().clamp(max=count - 1)


def level_times(u: Tensor, process: Process, levels: int = 1000) -> Tensor:
    """Times of levels drawn alike, between the ends of the process: u [B] in (0,1) -> float64 [B]."""
    rho = noise_levels(process.rho(process.t_min), process.rho(process.t_max), levels)
    return process.time_of_logsnr(-rho.to(u.device)[level_of(u, levels)].log())


@dataclass(frozen=True)
class Levelled:
    """A model of means that tells the noise level of y as well: logits of y [B,*D] are [B,K] for the levels rho [K]."""

    kind: Kind
    predict: Callable[..., Tensor]
    rho: Tensor  # float64
    logits: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, *times: Time) -> Tensor:
        return self.predict(x, *times)

    def noise_logits(self, y: Tensor, rho: Tensor) -> Tensor:
        """[B,K]; rho: checked once by `classifier`, not again."""
        return self.logits(y)


def levelled(
    net: Callable[[Tensor], Tensor], *, process: Process, mean: Model, trained: Process, levels: int = 1000
) -> Levelled:
    """The parametrisation: a noise classifier beside a model of means. mean: on `process`; trained: the process whose
    ends are those of the levels that the classifier learnt."""
    return Levelled(
        mean.kind, mean, noise_levels(trained.rho(trained.t_min), trained.rho(trained.t_max), levels), net
    )


def classifier(model: Model, aid: NoiseLogits | None, rho: Tensor) -> NoiseLogits:
    """The model's own noise classifier, else the aid. Raises ValueError if it knows other levels, or there is none."""
    own = getattr(model, "rho", None)
    if own is None and aid is None:
        raise ValueError("noise_logits: None, expected log p(k | y) with chain = True; give it, or set chain = False")
    if own is not None and (own.shape != rho.shape or (own / rho - 1).abs().max() > 1e-6):
        raise ValueError(
            f"levels: {len(rho)} from {rho[0]:g} to {rho[-1]:g}, expected the model's own {len(own)} from {own[0]:g} "
            f"to {own[-1]:g}; set levels and the process's interval to those that its classifier has learnt"
        )
    return aid if own is None else model.noise_logits


def classifier_loss(model: Levelled, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """-log c(k | x0 + rho_k noise) of the model's classifier, [B]; k is the level at t [B], see level_times."""
    rho = model.rho.to(t.device)
    k = (process.rho(t)[:, None] / rho).log().abs().argmin(1)
    logits = model.noise_logits(x0 + expand(rho[k], x0) * noise, model.rho)
    return torch.nn.functional.cross_entropy(logits, k.to(logits.device), reduction="none")


class Scaled:
    """The model in y and rho: D(y, rho) with a level for every row."""

    def __init__(self, meter: Meter, process: Process):
        self.meter, self.process = meter, process

    def __call__(self, y: Tensor, rho: Tensor) -> Tensor:
        t = self.process.time_of_logsnr(-rho.log())
        return self.meter(expand(self.process.alpha(t), y) * y, t)

    def score(self, y: Tensor, rho: Tensor) -> Tensor:
        return (self(y, rho) - y) / expand(rho**2, y)


def spacing(grid: Tensor, process: Process) -> tuple[Tensor, bool]:
    """Places in [0,1] of the grid's noisy times between its last one (0) and its first (1), evenly on power(7); and
    whether one more interval leads to clean data."""
    to_clean = process.sigma(grid[-1].item()) <= 0
    roots = process.rho(grid[:-1] if to_clean else grid) ** (1 / EXPONENT)
    span = roots[0] - roots[-1]
    return (roots - roots[-1]) / torch.where(span > 0, span, 1.0), to_clean


def levels_from(rho: Tensor, low: float, places: Tensor, to_clean: bool) -> Tensor:
    """[B,steps+1]: each row's levels from its own rho [B] down to low, and to 0 where asked."""
    root = rho[:, None] ** (1 / EXPONENT)
    end = root.clamp(max=low ** (1 / EXPONENT))  # a row that is cleaner already stays where it is
    levels = (end + places.to(rho) * (root - end)) ** EXPONENT
    levels[:, 0] = rho
    return torch.cat([levels, torch.zeros_like(rho)[:, None]], 1) if to_clean else levels


def integrated(
    model: Scaled, y: Tensor, levels: Tensor, draws: Draws, integrator: str, *, tag: str = "churn", batch: int = 0
) -> Tensor:
    """y from levels[:,0] to levels[:,-1] (KAR1, KAR2 or Euler's method in rho); a last level of 0 is reached by Euler.

    batch: rows of `draws` where these are more than the states.
    """
    rows, steps = y.shape[0], levels.shape[1] - 1
    like = y.new_empty(batch or rows, *y.shape[1:])
    gamma = min(CHURN / (steps + 1), math.sqrt(2) - 1) if integrator == "kar2" else 0.0
    for i in range(steps):
        rho, after = levels[:, i], levels[:, i + 1]
        if gamma:
            raised = torch.where((rho >= CHURN_MIN) & (rho <= CHURN_MAX), rho * (1 + gamma), rho)
            added = CHURN_NOISE * (raised**2 - rho**2).sqrt()
            y, rho = y + expand(added, y) * draws.at(i).normal(tag, like)[:rows], raised
        slope = (y - model(y, rho)) / expand(rho, y)
        ahead = y + expand(after - rho, y) * slope
        if integrator != "euler" and not (i == steps - 1 and not after.any()):
            slope_after = (ahead - model(ahead, after)) / expand(after, y)
            ahead = y + expand((after - rho) / 2, y) * (slope + slope_after)
        y = ahead
    return y


def langevin(model: Scaled, state: State, eta: float, z: Tensor) -> Tensor:
    """y + (eta/2) score + sqrt(eta) z."""
    return state.y.add(model.score(state.y, state.rho), alpha=eta / 2).add_(z, alpha=math.sqrt(eta))


def gibbs_level(logits: Tensor, u: Tensor | None) -> Tensor:
    """k of each row, int64 [B]: drawn from softmax(logits) by inverse CDF with u [B], or the argmax where u is None."""
    if u is None:
        return logits.argmax(1)
    total = logits.double().softmax(1).cumsum(1)
    return (total < u.to(total)[:, None] * total[:, -1:]).sum(1)


def moved(
    model: Scaled, state: State, eta: float, draws: Draws, batch: int, *, noise_logits: NoiseLogits, rho: Tensor,
    gibbs: str,
) -> State:  # fmt: skip
    """One move of the chains: Langevin at each row's rho, then Gibbs on rho. With eta = 0 Gibbs alone.

    draws: those of `batch` rows, of which the first ones, one for each chain, are used.
    """
    rows, y = state.y.shape[0], state.y
    if eta:
        y = langevin(model, state, eta, draws.normal("langevin", y.new_empty(batch, *y.shape[1:]))[:rows])
    u = draws.uniform("level", (batch,))[:rows] if gibbs == "sample" else None
    return State(y, rho.to(y.device)[gibbs_level(noise_logits(y, rho), u)])


def cleanest(states: list[State]) -> State:
    """Row by row the state of the smallest level; the earliest of equals."""
    best = states[0]
    for state in states[1:]:
        less = state.rho < best.rho
        best = State(
            torch.where(less.reshape(-1, *[1] * (best.y.ndim - 1)), state.y, best.y),
            torch.where(less, state.rho, best.rho),
        )
    return best


def outputs_of_chains(
    model: Scaled, y: Tensor, high: float, low: float, draws: Draws, *, outputs: int, n_skip: int, eta: float,
    kick: float, warm: int, warm_size: float, burn: int, levels: int, gibbs: str, noise_logits: NoiseLogits,
) -> State:  # fmt: skip
    """[B] states to be denoised: `outputs` of each of ceil(B/outputs) chains, which start from the first rows of y."""
    batch = y.shape[0]
    chains = -(-batch // outputs)
    first = levels_from(
        y.new_full((chains,), high, dtype=torch.float64),
        low,
        torch.linspace(1, 0, FIRST_STEPS, dtype=torch.float64),
        True,
    )
    y = integrated(model, y[:chains], first, draws, "kar2", tag="descent", batch=batch)
    y = y.add(draws.normal("kick", y.new_empty(batch, *y.shape[1:]))[:chains], alpha=kick)
    rho = noise_levels(low, high, levels)
    move = partial(moved, model, batch=batch, noise_logits=noise_logits, rho=rho, gibbs=gibbs)
    state, found = State(y, rho[:0]), []
    sizes = [0.0] + [warm_size] * warm + [eta] * (burn + n_skip * outputs)
    for j, size in enumerate(sizes):
        state = move(state, size, draws.at(j))
        found.append(state)
    after = len(sizes) - n_skip * outputs - 1  # the state from which the first output sets out
    chosen = [cleanest(found[after + o * n_skip : after + (o + 1) * n_skip + 1]) for o in range(outputs)]
    return State(*(torch.cat(parts)[:batch] for parts in zip(*chosen, strict=True)))


def refuse_sizes(**options: float) -> None:
    """ValueError unless each is a finite number of at least 0."""
    for name, value in options.items():
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name}: {value!r}, expected a finite number of at least 0; give one")


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, noise_logits: NoiseLogits | None = None,
    integrator: str = "kar1", gibbs: str = "sample", chain: bool = True, outputs: int = 1, n_skip: int = 10,
    eta: float = 0.5, kick: float = 0.5, warm: int = 10, warm_size: float = 0.5, burn: int = 10, levels: int = 1000,
    tweedie: float = 0.01,
) -> Run:  # fmt: skip
    """DLG and an integrator. x [B,*D] at grid[0]. Defaults: "Sampling Demo.ipynb", CIFAR-10, but for eta (see Differs).

    noise_logits: log p(k | y) up to a constant, the aid; not used with a model that has a classifier of its own
    (Levelled), nor with chain = False, which integrates x itself.
    Raises ValueError for options out of range, BadGrid where no two noise levels are known.
    """
    for name, value, known in (("integrator", integrator, INTEGRATORS), ("gibbs", gibbs, ("sample", "argmax"))):
        if value not in known:
            raise ValueError(f"{name}: {value!r}, expected one of {', '.join(known)}; choose one")
    counts(1, outputs=outputs, levels=levels)
    counts(0, n_skip=n_skip, warm=warm, burn=burn)
    refuse_sizes(eta=eta, kick=kick, warm_size=warm_size, tweedie=tweedie)
    meter, y = require(model, "mean", x.shape[0]), x / process.alpha(grids.checked(grid)[0].item())
    places, to_clean = spacing(grid, process)
    high = process.rho(grid[0].item())
    last = process.rho(grid[-2 if to_clean else -1].item())
    low = process.rho(process.t_min) if to_clean and process.sigma(process.t_min) > 0 else last
    if not math.isfinite(high) or not 0 < low < high:
        raise grids.BadGrid(
            f"grid: noise levels from {high:g} to {low:g}, expected two positive ones; start where alpha > 0"
        )
    scaled = Scaled(meter, process)
    state = State(y, torch.full((x.shape[0],), high, dtype=torch.float64, device=x.device))
    if chain:
        told = classifier(model, noise_logits, noise_levels(low, high, levels))
        state = outputs_of_chains(
            scaled, y, high, low, draws, outputs=outputs, n_skip=n_skip, eta=eta, kick=kick, warm=warm,
            warm_size=warm_size, burn=burn, levels=levels, gibbs=gibbs, noise_logits=told,
        )  # fmt: skip
    y = integrated(scaled, state.y, levels_from(state.rho, last, places, to_clean), draws, integrator)
    if to_clean and tweedie:
        y = scaled(y, torch.full_like(state.rho, tweedie))
    return Run(y * process.alpha(grid[-1].item()), meter.nfe)


def evaluations(grid: Tensor, *, chain: int = 2 * FIRST_STEPS - 1 + 20 + 10, each: int = 2) -> float:
    """Of one output of a chain of its own; chain: of the descent, the burn-in and n_skip moves."""
    steps, to_clean = grid.shape[0] - 1, grid[-1].item() == 0
    return float(chain + each * steps + (2 - each if to_clean else 0))


CELEBA_HQ = dict(eta=0.8, warm=50, warm_size=1.6, burn=20, tweedie=1e-3)  # "Sampling Demo.ipynb", its N is 20

JUMPS = {"gradient_reaches_the_start": "a level is drawn or chosen in between, so the end jumps as the start moves"}

PAPER = Paper(
    key="kim2023dmcmc",
    title="Denoising MCMC for Accelerating Diffusion-Based Generative Models",
    authors="Beomsu Kim, Jong Chul Ye",
    venue="ICML 2023",
    arxiv="2209.14593",
    code="1202kbs/DMCMC",
    licence="none stated",
    samplers=(
        Sampler(
            id="kim2023dmcmc.dlg",
            sample=sample,
            grid=grids.power_to_zero(7.0),
            consumes="mean",
            path="ve-edm",
            needs=frozenset({"noise_logits"}),
            nfe=evaluations,
            stochastic=True,
            symmetric=frozenset({"rotation"}),
            reduces=(
                Reduction({"chain": False, "tweedie": 0.0}, "karras2022edm.heun", on="own"),
                Reduction({"chain": False, "tweedie": 0.0, "integrator": "euler"}, "song2020ddim.ddim"),
                Reduction(
                    {"chain": False, "tweedie": 0.0, "integrator": "kar2"},
                    "karras2022edm.churn",  # both gamma saturate on the law's grids
                    {"churn": CHURN, "churn_min": CHURN_MIN, "churn_max": CHURN_MAX, "churn_noise": CHURN_NOISE},
                    on="own",
                ),
            ),
            known_failures=JUMPS,
        ),
        Sampler(
            id="kim2023dmcmc.official",
            sample=partial(sample, integrator="kar2", gibbs="argmax"),
            grid=grids.power_to_zero(7.0),
            consumes="mean",
            path="ve-edm",
            needs=frozenset({"noise_logits"}),
            nfe=evaluations,
            stochastic=True,
            symmetric=frozenset({"rotation"}),
            variant=True,
            known_failures=JUMPS,
        ),
        Sampler(
            id="kim2023dmcmc.official_celebahq",
            sample=partial(sample, integrator="kar2", gibbs="argmax", **CELEBA_HQ),
            grid=grids.power_to_zero(7.0),
            consumes="mean",
            path="ve-edm",
            needs=frozenset({"noise_logits"}),
            nfe=partial(evaluations, chain=2 * FIRST_STEPS - 1 + 70 + 10),
            stochastic=True,  # without symmetry: 70 moves, unstable at low levels, make 1e-9 of rounding
            variant=True,
            known_failures=JUMPS,
        ),
        Sampler(
            id="kim2023dmcmc.chains",
            sample=partial(sample, outputs=4),
            grid=grids.power_to_zero(7.0),
            consumes="mean",
            path="ve-edm",
            needs=frozenset({"noise_logits"}),
            stochastic=True,
            per_sample=False,
            symmetric=frozenset({"rotation"}),
            variant=True,
            known_failures=JUMPS,
        ),
    ),
    objectives=(
        Objective(
            id="kim2023dmcmc.noise_classifier",
            loss=classifier_loss,
            minimiser="mean",  # the kind of the model that it trains, a Levelled one; what it moves are the logits
            path="ve-edm",
            times=level_times,
            needs=frozenset({"noise_logits"}),
        ),
    ),
    parametrisations={"levelled": levelled},
)
