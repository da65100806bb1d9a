"""ho2022cfg - Classifier-free guidance: extrapolate from the unconditional prediction through the conditional one.

Ho, Salimans, "Classifier-Free Diffusion Guidance", NeurIPS 2021 workshop, arXiv:2207.12598.
Official code: none by the authors; checked against deep-floyd/IF (its own licence), modules/base.py.
Path        x_t = alpha_t x0 + sigma_t eps, variance preserving; the paper's lambda is our 2 lam, its law of times
            tan(a u + b) = sigma/alpha with uniform u, which is t uniform on the cosine path. Any Gaussian path works.
Loss        |e(x_t, c) - eps|^2, the condition c replaced by none for a share (.1) of the samples: one network for
            both predictions; minimiser E[x0 | x_t, c], or E[x0 | x_t] where c was dropped.                   [alg. 1]
Step        D = u + guidance (c - u), u and c the means without and with the condition, guidance = 1 + w of the paper;
            alike on noise or scores: x is common to both, so x - alpha D commutes with the combination.       [eq. 6]
            With h = lam_s - lam_t then one of                                                                [alg. 2]
            ancestral  x_s = e^-h (sigma_s/sigma_t) x_t - alpha_s expm1(-2h) D + s z,
                       s = sigma_s^(1-v) sigma_t^v sqrt(1 - e^-2h), v the interpolation; no noise where sigma_s = 0;
            ddim       x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) D;
            2m         as ddim with D + (D - D_before) h / (2 h_before); memory: D_before.
            Third branch (IF): D = u + guidance ((1 - m) c + m c_positive - u), given a Mixed condition.
Cost        NFE = 2 steps, both branches in one call where the condition is labels; 1 a step at guidance 0 or 1, where a
            branch has no weight and is not evaluated; one more a step with a third branch (Mixed). Orders 1 (ddim), 2
            (2m), weak order 1 (ancestral).
Exact when  guidance 1 is the conditional sampler, 0 the unconditional one, both bitwise; a model that does not heed
            its condition gives the same for every guidance: DDIM, DPM-Solver++(2M), DDPM. Point masses: any step.
            Gaussians c ~ N(m, s), u ~ N(0, S) from noise of variance T^2, T -> inf: variance s^(1+w) / S^w. That is
            not the variance 1/((1+w)/s - w/S) of p_c^(1+w) p_u^-w: guided flows do not sample the tilted law.
Differs     The paper names w, IF guidance = 1 + w with default 7 [code]: followed. The paper interpolates the variance
            with v of .2 to .3 [recall]: v = 0, DDPM's lower bound, is the default here. Its log-SNR runs over
            [-20, 20]: the cosine path here reaches lam = 4.2 at t_min. IF takes the learned variance of the
            conditional branch, and clips the guided mean: see the cascade's card. ddim and 2m are no samplers of the
            paper; guidance is used with them everywhere since.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import (
    ConditionalModel,
    Draws,
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
)

NONE = -1  # the label that stands for no condition
MIXER = 0.15  # weight of the positive branch: IF's base; its stage I passes .25, II and III .5 [code]


class Mixed(NamedTuple):
    """A condition and a second of the same kind to be mixed into it: IF's third branch."""

    plain: Any
    positive: Any


def guided(model: ConditionalModel, condition: Any, guidance: float, *, mixer: float = MIXER) -> Model:
    """u + guidance (c - u) as a Model of the mean; a branch without weight is not evaluated.

    condition: labels int64 [B], then all branches are rows of one call; or whatever else the model takes, then each
    is a call; or Mixed of two such, the second with weight `mixer`. Raises ValueError if guidance is not finite, mixer
    not in [0, 1] or a condition None.
    """
    _refuse(condition, guidance, mixer)
    if isinstance(condition, Mixed):
        shares = [(condition.plain, guidance * (1 - mixer)), (condition.positive, guidance * mixer)]
    else:
        shares = [(condition, guidance)]
    told = [(given, weight) for given, weight in shares if weight]
    if not told:
        return Predictor("mean", lambda x, t: model(x, t))
    branches = _branches(model, [given for given, _ in told], with_none=guidance != 1)
    weights = [weight for _, weight in told]

    def predict(x: Tensor, t: Time) -> Tensor:
        *means, last = branches(x, t)
        if guidance == 1:  # no branch without a condition: the weights sum to 1
            return last if not means else torch.lerp(last, means[0], weights[0])
        out = torch.sub(means[0], last).mul_(weights[0]).add_(last)
        for mean, weight in zip(means[1:], weights[1:], strict=True):
            out.add_(mean, alpha=weight).sub_(last, alpha=weight)
        return out

    return Predictor("mean", predict)


def _refuse(condition: Any, guidance: float, mixer: float) -> None:
    if not math.isfinite(guidance):
        raise ValueError(f"guidance: {guidance!r}, expected a finite number (1 is the conditional model)")
    if not 0 <= mixer <= 1:
        raise ValueError(f"mixer: {mixer!r}, expected a number in [0, 1], the positive branch's share")
    if any(part is None for part in (condition if isinstance(condition, Mixed) else (condition,))):
        raise ValueError(
            "condition: None, expected labels int64 [B] or what else the model takes; -1 labels a row without one"
        )


def _branches(model: ConditionalModel, given: list[Any], *, with_none: bool) -> Callable[[Tensor, Time], tuple]:
    """(x, t) -> the means under each condition, and last that without one if `with_none`."""
    count = len(given) + with_none
    if not all(isinstance(each, Tensor) and each.ndim == 1 and not each.is_floating_point() for each in given):
        models = [model.given(each) for each in given] + ([model] if with_none else [])
        return lambda x, t: tuple(each(x, t) for each in models)
    together = model.given(torch.cat([*given, torch.full_like(given[0], NONE)] if with_none else given))

    def means(x: Tensor, t: Time) -> tuple:
        if given[0].shape[0] != x.shape[0]:
            raise ValueError(f"condition: {given[0].shape[0]} labels, expected {x.shape[0]}, one for each row of x")
        rows = t.repeat(count) if isinstance(t, Tensor) and t.ndim else t
        return together(torch.cat([x] * count) if count > 1 else x, rows).chunk(count) if x.shape[0] else (x,) * count

    return means


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + now D_t + before D_before + noise z
    now: Tensor
    before: Tensor
    noise: Tensor


def ancestral_plan(grid: Tensor, process: Process, *, interpolation: float = 0.0) -> Plan:
    """Algorithm 2: the posterior q(x_s | x_t, x0 = D), its variance between that of q and the noising's own."""
    if not 0 <= interpolation <= 1:
        raise ValueError(f"interpolation: {interpolation!r}, expected a number in [0, 1] (0 is the smaller variance)")
    t, s, h = _steps(grid, process)
    sigma_t, sigma_s = process.sigma(t), process.sigma(s)
    spread = sigma_s ** (1 - interpolation) * sigma_t**interpolation
    noise = torch.where(sigma_s > 0, spread * (-torch.expm1(-2 * h)).sqrt(), 0.0)
    return Plan(t, sigma_s / sigma_t * (-h).exp(), -process.alpha(s) * torch.expm1(-2 * h), torch.zeros_like(h), noise)


def flow_plan(grid: Tensor, process: Process, *, order: int = 1) -> Plan:
    """The flow in lam with D constant over an interval, or for order 2 linear through the interval before."""
    t, s, h = _steps(grid, process)
    slope = torch.zeros_like(h)
    if order == 2:
        slope[1:] = torch.where(h[1:].isfinite(), h[1:] / h[:-1] / 2, 0.0)
    pull = -process.alpha(s) * torch.expm1(-h)
    return Plan(t, process.sigma(s) / process.sigma(t), pull * (1 + slope), -pull * slope, torch.zeros_like(h))


def _steps(grid: Tensor, process: Process) -> tuple[Tensor, Tensor, Tensor]:
    t, s = grids.checked(grid)[:-1], grid[1:]
    return t, s, process.lam(s) - process.lam(t)


def step(
    x: Tensor, row: Plan, memory: Any, *, model: ConditionalModel, draws: Draws, condition: Any, guidance: float,
    mixer: float,
) -> tuple[Tensor, Any]:  # fmt: skip
    """One interval of any plan; memory: the guided model, which is made once, and the mean before."""
    combined, before = memory or (guided(model, condition, guidance, mixer=mixer), None)
    mean = combined(x, row.t)
    x_s = torch.mul(x, row.keep).add_(mean, alpha=row.now)
    if row.before:
        x_s.add_(before, alpha=row.before)
    return (x_s.add_(draws.normal("step", x), alpha=row.noise) if row.noise > 0 else x_s), (combined, mean)


def ancestral(
    model: ConditionalModel, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, condition: Any,
    guidance: float = 7.0, interpolation: float = 0.0, mixer: float = MIXER,
) -> Run:  # fmt: skip
    """Guided ancestral sampling from grid[0] to grid[-1] (algorithm 2). x [B,*D].

    guidance 7: IF stage I [code]. interpolation 0: the posterior's own variance, DDPM's smaller one. mixer: of a Mixed
    condition. Raises ValueError, BadGrid.
    """
    rows, move = ancestral_plan(grid, process, interpolation=interpolation), _bound(x, condition, guidance, mixer)
    return drive(rows, move, model, x, draws=draws, tags=("step",))


def flow(
    model: ConditionalModel, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, condition: Any,
    guidance: float = 7.0, order: int = 1, mixer: float = MIXER,
) -> Run:  # fmt: skip
    """The guided flow from grid[0] to grid[-1] by DDIM (order 1) or 2M (order 2). x [B,*D].

    guidance 7: IF stage I [code]. mixer: of a Mixed condition. Raises ValueError, BadGrid.
    """
    if order not in (1, 2):
        raise ValueError(f"order: {order!r}, expected 1 (ddim) or 2 (2m)")
    return drive(flow_plan(grid, process, order=order), _bound(x, condition, guidance, mixer), model, x, draws=draws)


def _bound(x: Tensor, condition: Any, guidance: float, mixer: float) -> Callable[..., Any]:
    """The step with its condition; raises ValueError before anything is evaluated."""
    _refuse(condition, guidance, mixer)
    for part in condition if isinstance(condition, Mixed) else (condition,):
        if isinstance(part, Tensor) and part.shape[0] != x.shape[0]:
            raise ValueError(f"condition: {part.shape[0]} rows, expected {x.shape[0]}, one for each row of x")
    return partial(step, condition=condition, guidance=guidance, mixer=mixer)


def dropped(labels: Tensor, u: Tensor, share: float = 0.1) -> Tensor:
    """Labels int64 [B] with NONE where u [B], uniform on [0, 1), is below `share` (.1 [recall]); algorithm 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share!r}, expected a number in [0, 1], the part of samples without a condition")
    return torch.where(u.to(labels.device) < share, NONE, labels)


def loss(model: ConditionalModel, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, condition: Any) -> Tensor:
    """Squared error of the noise prediction under the condition, [B], summed over the sample (algorithm 1).

    condition: labels as `dropped` leaves them.
    """
    error = model.given(condition)(process.noised(x0, t, noise), t) - x0
    snr = expand(process.alpha(t) / process.sigma(t), x0)
    return (snr * error).flatten(1).square().sum(1)


def uniform_times(u: Tensor, process: Process) -> Tensor:
    """t uniform on the process's interval: on the cosine path tan(a u + b) = sigma/alpha (section 4)."""
    return process.t_min + u.double() * (process.t_max - process.t_min)


def evaluations(grid: Tensor) -> float:
    return 2.0 * (grid.shape[0] - 1)


PAPER = Paper(
    key="ho2022cfg",
    title="Classifier-Free Diffusion Guidance",
    authors="Jonathan Ho, Tim Salimans",
    venue="NeurIPS 2021 workshop on deep generative models",
    arxiv="2207.12598",
    code="deep-floyd/IF",
    licence="DeepFloyd IF licence",
    samplers=(
        Sampler(
            id="ho2022cfg.ancestral",
            sample=ancestral,
            grid=grids.uniform_t,
            consumes="mean",
            path="cosine",
            needs=frozenset({"condition"}),
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(
                Reduction({}, "song2020ddim.stochastic"),
                Reduction({"guidance": 1.0}, "song2020ddim.stochastic", given="condition"),
            ),
        ),
        Sampler(
            id="ho2022cfg.ddim",
            sample=flow,
            grid=grids.uniform_t,
            consumes="mean",
            path="cosine",
            needs=frozenset({"condition"}),
            nfe=evaluations,
            order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(
                Reduction({}, "song2020ddim.ddim"),
                Reduction({"guidance": 1.0}, "song2020ddim.ddim", given="condition"),
                Reduction({"guidance": 0.0}, "song2020ddim.ddim", given="none"),
            ),
        ),
        Sampler(
            id="ho2022cfg.2m",
            sample=partial(flow, order=2),
            grid=grids.uniform_lam,
            consumes="mean",
            path="cosine",
            needs=frozenset({"condition"}),
            nfe=evaluations,
            order=2.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(
                Reduction({}, "lu2022dpmsolverpp.2m", {"lower_order_final": False}),
                Reduction({"order": 1}, "song2020ddim.ddim"),
            ),
        ),
    ),
    objectives=(
        Objective(
            id="ho2022cfg.loss",
            loss=loss,
            minimiser="mean",
            path="cosine",
            times=uniform_times,
            needs=frozenset({"condition"}),
        ),
    ),
    transforms=(
        Transform(
            id="ho2022cfg.guided",
            apply=guided,
            identity_at={"guidance": 1.0},
            limit=lambda model, *, condition, process: (guided(model, condition, 1.0), model.given(condition)),
        ),
    ),
)
