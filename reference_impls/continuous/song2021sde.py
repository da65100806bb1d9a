"""song2021sde - Score-SDE: noising as a diffusion, sampling as its time reversal, likelihood through the ODE beside it.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, "Score-Based Generative Modeling through Stochastic Differential
Equations", ICLR 2021, arXiv:2011.13456. Official code: yang-song/score_sde_pytorch (Apache-2.0; formulas only).
Path        dx = f x dt + g dw with f = alpha'/alpha, g^2 = 2 sigma (sigma' - f sigma): VP (vp-linear), sub-VP (subvp),
            VE (ve-geo), and any other path with alpha, sigma > 0. The paper's t is ours; its chains have beta_i =
            beta(t_i)/N with t_i = i/(N-1), i < N, and sigma_i = sigma(t_i).                       [eq. 5, 9, 11, 29]
Loss        |sigma_t score + z|^2, or g^2 |score + z/sigma_t|^2 (likelihood weighting), the mean over dimensions or half
            the sum; t uniform on [1e-5, 1].                                                                  [eq. 7]
Step        With score = (alpha_t D - x)/sigma_t^2, a = alpha_t/alpha_s, b = sigma_t^2 - a^2 sigma_s^2, dt = t - s:
            Euler-Maruyama     x_s = (1 - f dt) x + g^2 dt score + g sqrt(dt) z                       [eq. 6, app. D]
            reverse diffusion  x_s = (2 - a) x + b score + sqrt(b) z                                  [app. E; eq. 46]
            ancestral          x_s = (x + b score)/a + sqrt(v) z, v = b (VP) or b sigma_s^2/sigma_t^2 (VE);
                               v = 0 where sigma_s = 0, so that it ends on D                          [eq. 4, 47]
            Langevin           x <- x + d score + sqrt(2 d) z at t, before the predictor,
                               d = 2 (a r |z|/|score|)^2                                              [alg. 4, 5]
            flow = True halves the score's factor and drops the noise. denoise: the last predictor's mean. Known pixels
            become alpha y + sigma z before and after the predictor; guided() adds grad log p(y|x_t) to the score.
            Probability flow: dx/dt = u = f x - g^2 score/2 by Dormand-Prince, a step size for each row. [sec. 4.3, 5]
            log p(x_0) = log prior(x_T) + int div u dt, div exact or v^T (du/dx) v with one v.               [eq. 39]
Cost        NFE = steps (M + 1) with M corrections; flow: as the solver needs. Predictors: weak order 1; with flow,
            order 1. The corrector's bias does not vanish with the steps: on variance v it settles at v/(1 - d/(2v)).
Exact when  ancestral: N(0, I) data on VP with v = b, point masses with the other v; then it is DDPM's. Euler-Maruyama
            with flow is Euler in t, the flow solver that of lipman2022fm. No pixel known: the plain sampler. The
            log-likelihood is exact up to tolerance and the prior's mismatch with p_T.
Differs     shipped = True is the code's chain: its times are 1 .. eps, N - 1 intervals, but each of the N updates is as
            long as 1/N (our grid adds the end 0), so that they overshoot the span; beta_i and sigma_i have i =
            floor(t (N-1)), which is a neighbour of the nearest i (nearest = True). VP needs N > 20, there beta_N < 1.
            On times that are not evenly spaced such updates fit no interval, and no number of steps mends it: refused.
            Its |z| and |score| are means over the batch (langevin_batch), so that a sample depends on its batch; the
            paper has this for large batches [recall]. Row by row, |z|/|score| has no finite variance in one dimension.
            The paper's algorithms correct after the predictor, at s [recall]; the code, followed, before it, at t.
            The code raises for Euler-Maruyama with probability_flow, for correctors on sub-VP (no .alphas) and for
            ancestral steps on it: refused where shipped.
            Its inpainter leaves known pixels at the level of t after the predictor has moved to s, starts from clean
            known pixels and builds its denoised image from the noised one, so that unknown pixels keep their noise:
            all three where shipped alone. Its colouriser rounds the basis to seven digits and clears the first colour,
            not the grey, of its first noise: not followed.
            Its ODE solver has one step size for a batch; its denoising of the ODE's end is a step of the chain with
            beta_0 (denoise = "chain"), not the mean. It counts N (M + 1) evaluations also without a corrector. VE data
            count as smoothed by sigma(0), there and here. Its likelihood starts at t = 1e-5, ours at the process's
            t_min: 1e-3 on the card's vp-linear; between(1e-5, 1) is the code's. Numbers of equations, algorithms,
            sections are recalled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import convert, diffusion, grids, types
from reference_impls.core.drive import drive
from reference_impls.core.options import fitting, one_of
from reference_impls.core.process import Process, discrete
from reference_impls.core.types import Draws, Model, Paper, Predictor, Reduction, Run, Sampler, Time, expand


class Interval(NamedTuple):
    """What a predictor knows of a step: length, f and g^2 at t, the chain x_t = a x_s + sqrt(b) z, sigma_s/sigma_t."""

    dt: Tensor
    f: Tensor
    g2: Tensor
    a: Tensor
    b: Tensor
    left: Tensor


def intervals(t: Tensor, s: Tensor, process: Process) -> Interval:
    """Of the exact process."""
    chain = diffusion.transition(t, s, process)
    return Interval(t - s, *diffusion.drift(t, process), *chain, process.sigma(s) / process.sigma(t))


def family(process: Process, t: Tensor) -> str:
    """Which of the paper's three the process is, by its curves at t: "VE", "VP" or "sub-VP"; raises ValueError."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    for name, gap in (("VE", alpha - 1), ("VP", alpha**2 + sigma**2 - 1), ("sub-VP", alpha**2 + sigma - 1)):
        if (gap.abs() <= 1e-9).all():
            return name
    raise ValueError(f"process: {process.name!r} is none of VE, VP and sub-VP; use shipped=False, and no 'ancestral'")


def shipped_intervals(t: Tensor, process: Process, *, nearest: bool) -> Interval:
    """Of the code's chain, looked up at index floor(t (N-1)) or at the nearest one; all are as long as 1/N.

    Raises BadGrid for a start above 1, and for updates' times t that are not evenly spaced.
    """
    if t[0] > 1 or not grids.evenly(t):
        raise grids.BadGrid(f"grid: from {t[0]:g}, expected even times from 1 down; use chain_times or shipped=False")
    steps, kind, (f, g2) = t.shape[0], family(process, t), diffusion.drift(t, process)
    index, one = (t * (steps - 1)).round() if nearest else (t * (steps - 1)).floor(), torch.ones_like(t)
    knot, below = index / max(1, steps - 1), (index - 1).clamp(min=0) / max(1, steps - 1)
    if kind == "VP":
        beta = -2 / steps * process.rates(knot)[0] / process.alpha(knot)
        return Interval(one / steps, f, g2, (1 - beta).sqrt(), beta, one)
    if kind == "VE":
        sigma, lower = process.sigma(knot), torch.where(index > 0, process.sigma(below), 0.0)
        return Interval(one / steps, f, g2, one, sigma**2 - lower**2, lower / sigma)
    return Interval(one / steps, f, g2, 1 + f / steps, g2 / steps, one)  # the code has no chain: Euler's coefficients


def chain_times(steps: int, process: Process) -> Tensor:
    """The code's times linspace(t_max, t_min, steps), each the start of an update, and the end 0; needs t_min > 0."""
    grids.fractions(steps)  # refuses steps < 1
    times = torch.linspace(process.t_max, process.t_min, steps, dtype=torch.float64)
    return grids.checked(torch.cat([times, torch.zeros(1, dtype=torch.float64)]))


def vp_chain(steps: int = 1000, beta_min: float = 0.1, beta_max: float = 20.0) -> Process:
    """The discrete VP chain beta_i = linspace(beta_min/N, beta_max/N, N) at t = i/N; needs steps > beta_max."""
    if not steps > beta_max:
        raise ValueError(f"steps: {steps}, expected more than beta_max = {beta_max:g}, so that every beta is below 1")
    return discrete(torch.linspace(beta_min, beta_max, steps, dtype=torch.float64) / steps, name="vp-chain")


class Kernel(NamedTuple):
    """x_s = x x_t + score grad log p_t + noise z."""

    x: Tensor
    score: Tensor
    noise: Tensor


PREDICTORS: dict[str, Callable[[Interval], Kernel]] = {
    "euler_maruyama": lambda i: Kernel(1 - i.dt * i.f, i.dt * i.g2, (i.dt * i.g2).sqrt()),
    "reverse_diffusion": lambda i: Kernel(2 - i.a, i.b, i.b.sqrt()),
    "ancestral_large": lambda i: Kernel(1 / i.a, i.b / i.a, torch.where(i.left > 0, i.b, 0.0).sqrt()),
    "ancestral_small": lambda i: Kernel(1 / i.a, i.b / i.a, i.left * i.b.sqrt()),
    "none": lambda i: Kernel(torch.ones_like(i.dt), torch.zeros_like(i.dt), torch.zeros_like(i.dt)),
}
ANCESTRAL = {"VP": "ancestral_large", "VE": "ancestral_small"}  # the paper's, and all that the code has


def lengths(rows: Tensor) -> Tensor:
    """Euclidean norms of a batch's rows, [B,1,..]."""
    return rows.flatten(1).norm(dim=1).reshape(-1, *[1] * (rows.ndim - 1))


CORRECTORS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {  # |z|/|score| of (z, score, sigma_t)
    "langevin": lambda z, score, sigma: lengths(z) / lengths(score),
    "langevin_batch": lambda z, score, sigma: lengths(z).mean() / lengths(score).mean(),
    # annealed Langevin dynamics: what the others are on average where x is noise alone
    "ald": lambda z, score, sigma: torch.full_like(lengths(z), sigma),
}


def refuse(predictor: str, corrector: str, flow: bool, kind: str, b: Tensor) -> None:
    """Raises ValueError for what the paper or, on its chain of that kind, the code rules out; BadGrid if beta >= 1."""
    ancestral = predictor.startswith("ancestral")
    if one_of("corrector", corrector, (*CORRECTORS, "none")) == predictor == "none":
        raise ValueError("predictor, corrector: 'none' twice, expected at least one that moves the state")
    if flow and (ancestral or (kind and predictor == "euler_maruyama")):
        raise ValueError(f"flow: True with {predictor!r}, which has none or raises in the code; use another")
    if kind == "sub-VP" and corrector != "none":
        raise ValueError(f"corrector: {corrector!r} raises on sub-VP in the code, expected 'none', or shipped=False")
    if kind and ancestral and predictor != (own := ANCESTRAL.get(kind, "one that is not ancestral")):
        raise ValueError(f"predictor: {predictor!r} is not the code's on {kind}, expected {own}, or shipped=False")
    chained = predictor not in ("euler_maruyama", "none") or corrector != "none"
    if kind == "VP" and chained and not (b < 1).all():
        raise grids.BadGrid(f"steps: {len(b)}, too few for the code's beta(t)/steps < 1; more, or shipped=False")


def defined(grid: Tensor, process: Process, *columns: Tensor) -> None:
    """Raises BadGrid where a coefficient is 0/0."""
    if not all(column.isfinite().all() for column in columns):
        at = f"grid: {grid[0].item():g} .. {grid[-1].item():g} on {process.name} meets alpha = 0 or sigma = 0"
        raise grids.BadGrid(f"{at}, where this method is not defined; use process.between(t_min, t_max)")


class Plan(NamedTuple):
    t: Tensor
    alpha: Tensor
    sigma: Tensor
    damp: Tensor  # a, in the corrector's step
    keep: Tensor  # x_s = keep x_t + pull D + noise z
    pull: Tensor
    noise: Tensor
    known: Tensor  # known coordinates become known y + blur z after the predictor
    blur: Tensor


def plan(
    grid: Tensor, process: Process, *, predictor: str = "euler_maruyama", corrector: str = "none", flow: bool = False,
    denoise: bool = False, shipped: bool = False, nearest: bool = False, inpaints: bool = False,
) -> Plan:  # fmt: skip
    """Coefficients of every step; options as for `sample`. Raises ValueError and BadGrid."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    if nearest and not shipped:
        raise ValueError("nearest: True without shipped, whose index it rounds; use shipped=True or nearest=False")
    alpha, sigma = process.alpha(t), process.sigma(t)
    interval = shipped_intervals(t, process, nearest=nearest) if shipped else intervals(t, s, process)
    if one_of("predictor", predictor, (*PREDICTORS, "ancestral")) == "ancestral":
        predictor = ANCESTRAL[one_of("process for 'ancestral'", family(process, t), ANCESTRAL)]
    refuse(predictor, corrector, flow, family(process, t) if shipped else "", interval.b)
    x, score, noise = PREDICTORS[predictor](interval)
    if flow:
        score, noise = score / 2, torch.zeros_like(t)
    known, blur = (alpha.clone(), sigma.clone()) if shipped else (process.alpha(s), process.sigma(s))
    if denoise:
        blur[-1] = 0.0
        noise[-1] *= float(shipped and inpaints)  # the code's inpainter denoises what it has noised already
    keep, pull = x - score / sigma**2, score * alpha / sigma**2
    defined(grid, process, keep, pull, noise, alpha / sigma)
    return Plan(t, alpha, sigma, interval.a, keep, pull, noise, known, blur)


def corrected(x: Tensor, row: Plan, *, model: Model, draws: Draws, corrector: str, snr: float) -> Tensor:
    """One Langevin step at t (algorithms 4 and 5); a row whose score is 0 stays where it is."""
    z = draws.normal("corrector", x)
    score = torch.mul(model(x, row.t), row.alpha / row.sigma**2).sub_(x, alpha=1 / row.sigma**2)
    root = CORRECTORS[corrector](z, score, row.sigma).nan_to_num(0.0, posinf=0.0) * (math.sqrt(2) * row.damp * snr)
    return x + root * root * score + math.sqrt(2) * root * z


def predictor_corrector_step(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, predicts: bool, corrector: str, corrections: int,
    snr: float, known: Known | None,
) -> tuple[Tensor, None]:  # fmt: skip
    """Corrections at t, then the predictor to s; known coordinates are put back before it and after."""
    for k in range(corrections):
        # without at(0), which is the same address, the first is drawn ahead
        x = corrected(x, row, model=model, draws=draws.at(k) if k else draws, corrector=corrector, snr=snr)
    x = replaced(x, known, row.alpha, row.sigma, "known corrected", draws)
    if predicts:
        x = torch.mul(x, row.keep).add_(model(x, row.t), alpha=row.pull)
        if row.noise > 0:
            x.add_(draws.normal("step", x), alpha=row.noise)
    return replaced(x, known, row.known, row.blur, "known", draws), None


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, guide: types.Guide | None = None,
    predictor: str = "euler_maruyama", corrector: str = "none", snr: float = 0.16, corrections: int = 1,
    flow: bool = False, denoise: bool = False, shipped: bool = False, nearest: bool = False, grey: bool = False,
) -> Run:  # fmt: skip
    """Predictor-corrector sampling from grid[0] to grid[-1], with known coordinates if there is a guide. x [B,*D].

    predictor: euler_maruyama, reverse_diffusion, ancestral_large (VP), ancestral_small (VE), ancestral (of these two
    the process's), none. corrector: langevin, langevin_batch (norms are means over the batch), ald, none; snr (r) .16
    and corrections (M) 1 for each step: configs/default_cifar10_configs.py. flow: the discretised probability flow.
    denoise: no noise in the last step (the code's default True; here p at the grid's end is wanted). shipped: the
    code's chain, on even times; nearest: its index rounded. grey: the guide's `known` is a mask over the
    channels of COLOURS, such as GREY, not over the pixels. Raises ValueError and BadGrid (see `plan`).
    """
    if not 0 < snr < math.inf or not isinstance(corrections, int) or corrections < 1:
        raise ValueError(f"snr, corrections: {snr!r}, {corrections!r}, expected a number > 0 and an integer >= 1")
    chain = dict(flow=flow, denoise=denoise, shipped=shipped, nearest=nearest, inpaints=guide is not None)
    rows = plan(grid, process, predictor=predictor, corrector=corrector, **chain)
    moves, predicts = 0 if corrector == "none" else corrections, predictor != "none"
    bound = dict(predicts=predicts, corrector=corrector, corrections=moves, snr=snr, known=known_of(guide, grey, x))
    tags = ("step",) * bool(rows.noise.any()) + ("corrector",) * bool(moves)
    return drive(rows, partial(predictor_corrector_step, **bound), model, x, draws=draws, tags=tags)


class Known(NamedTuple):
    """Coordinates to keep: y and where, both in an orthonormal basis of the channels (None: of the pixels)."""

    image: Tensor
    mask: Tensor
    basis: Tensor | None


# an orthonormal basis of red, green, blue; its first column is the grey
COLOURS = torch.tensor([[2, -2, 0], [2, 1, 3], [2, 1, -3]]) / torch.tensor([12, 6, 18]).double().sqrt()
GREY = torch.tensor([True, False, False])[:, None, None]  # Guide.known over it: the grey alone


def turned(x: Tensor, basis: Tensor | None, *, back: bool) -> Tensor:
    """Channels to coordinates in the basis, or back."""
    return x if basis is None else torch.tensordot(x, basis.to(x), ([1], [int(back)])).movedim(-1, 1)


def known_of(guide: types.Guide | None, grey: bool, x: Tensor) -> Known | None:
    """What the guide keeps of x, None if that is nothing; ValueError if it does not fit, or is grey without colours."""
    if grey and (guide is None or (guide.known is not None and x.shape[1] != 3)):
        raise ValueError(f"guide: {guide and f'image {tuple(guide.image.shape)}'}, expected [B,3,..] to keep grey")
    if guide is None or guide.known is None:
        return None
    (image, mask), basis = fitting(guide, x), COLOURS if grey else None
    return Known(turned(image, basis, back=False), mask, basis)


def replaced(x: Tensor, known: Known | None, scale: float, blur: float, tag: str, draws: Draws) -> Tensor:
    """The known coordinates become scale y + blur z."""
    if known is None:
        return x
    image = torch.mul(known.image, scale)
    image = image.add_(draws.normal(tag, x), alpha=blur) if blur > 0 else image
    whole = torch.where(known.mask, image, turned(x, known.basis, back=False))
    return turned(whole, known.basis, back=True)


def start_with_known(
    draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any], *, grey: bool = False,
    clean: bool = False,
) -> Tensor:  # fmt: skip
    """The prior, but alpha y + sigma z at grid[0] where y is known; clean: y itself, the code's start of inpainting."""
    x, t = types.prior_of_process(draws, like, grid, process, aids), grid[0].item()
    scale, blur = (1.0, 0.0) if clean else (process.alpha(t), process.sigma(t))
    return replaced(x, known_of(aids["guide"], grey, x), scale, blur, "start known", draws)


def guided(
    model: Model, gradient: Callable[[Tensor, Time], Tensor], *, process: Process, scale: float = 1.0
) -> Predictor:
    """The model of p(x_t|y): its score has scale grad log p(y|x_t) more, so its mean sigma^2/alpha times that.

    gradient: (x [B,*D], t) -> [B,*D], of a classifier or of any known law of y given x_t. Not where alpha = 0.
    """

    def predict(x: Tensor, t: Time) -> Tensor:
        return model(x, t) + expand(scale * process.sigma(t) ** 2 / process.alpha(t), x) * gradient(x, t)

    return Predictor("mean", predict)


def ends_of(grid: Tensor, process: Process) -> list[float]:
    """Where the flow is integrated between. Raises BadGrid."""
    ends = grids.checked(grid)[[0, -1]]
    defined(ends, process, *diffusion.slopes(ends, process))
    return ends.tolist()


def probability_flow(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, rtol: float = 1e-5, atol: float = 1e-5,
    denoise: str = "none",
) -> Run:  # fmt: skip
    """The ODE from grid[0] to grid[-1], adaptive (inner times unused), so no drive. x [B,*D]; rtol, atol: the code's.

    denoise: "none"; "mean", x := D at the end (Tweedie); "chain", the code's step of the chain of 1,000 from there.
    """
    (first, last), keep, pull = ends_of(grid, process), 0.0, 1.0
    if one_of("denoise", denoise, ("none", "mean", "chain")) == "chain":  # the first row of 1,000 that start at the end
        chain = torch.linspace(last, 0, 1001, dtype=torch.float64)
        row = plan(chain, process, predictor="reverse_diffusion", shipped=True)
        keep, pull = row.keep[0].item(), row.pull[0].item()
    meter = types.require(model, "mean", x.shape[0])
    end = diffusion.flow(meter, x, first, last, process=process, rtol=rtol, atol=atol)
    if denoise != "none":
        end = torch.mul(end, keep).add_(meter(end, last), alpha=pull)
    return Run(end, meter.nfe)


def encode(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, rtol: float = 1e-5, atol: float = 1e-5
) -> Run:
    """The ODE the other way: data x [B,*D] at grid[-1] to its latent at grid[0], unique for each x."""
    (first, last), meter = ends_of(grid, process), types.require(model, "mean", x.shape[0])
    return Run(diffusion.flow(meter, x, last, first, process=process, rtol=rtol, atol=atol), meter.nfe)


def log_prob(
    model: Model, x0: Tensor, *, process: Process, draws: Draws, divergence: str = "exact", rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:  # fmt: skip
    """log p at t_min in nats [B] (detached), with the prior N(0, prior_std^2 I) at t_max; x0 [B,*D] is the state there.

    divergence: "exact" (a backward pass per dimension), or unbiased by one v per sample, fixed along its trajectory:
    "rademacher" (the code's default) or "gaussian". rtol, atol: likelihood.py, which starts at t = 1e-5: t_min of
    process.between(1e-5, 1). Raises ValueError and BadGrid.
    """
    ends_of(torch.tensor([process.t_max, process.t_min], dtype=torch.float64), process)  # refuses before the first
    estimated = one_of("divergence", divergence, ("exact", "rademacher", "gaussian")) != "exact"
    z = draws.normal("probe", x0) if estimated else None
    latent, gained = diffusion.flow_with_divergence(
        types.require(model, "mean", x0.shape[0]), x0.detach(), process.t_min, process.t_max, process=process,
        probe=z.sign() if divergence == "rademacher" else z, rtol=rtol, atol=atol,
    )  # fmt: skip
    variance, size = process.prior_std**2, math.prod(x0.shape[1:])
    return gained - latent.flatten(1).square().sum(1) / (2 * variance) - size / 2 * math.log(2 * math.pi * variance)


def bits_per_dimension(log_p: Tensor, dimensions: int, *, levels: int = 256, width: float = 2.0) -> Tensor:
    """Of dequantised data in bits: log p [B] in nats at data that spread `levels` grey levels over `width`.

    Adds log2(levels/width): 7 for 8 bits on [-1,1), 8 on [0,1) (likelihood.py).
    """
    return -log_p / (dimensions * math.log(2)) + math.log2(levels / width)


def loss(
    model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, likelihood_weighting: bool = False,
    reduce_mean: bool = True,
) -> Tensor:  # fmt: skip
    """Denoising score matching, [B]: sigma score + z = alpha (D - x0)/sigma, squared; times g^2/sigma^2 for likelihood.

    reduce_mean: over the dimensions (VP and sub-VP configurations), else half the sum (VE).
    """
    weight = expand(process.alpha(t) / process.sigma(t), x0)
    error = (weight * (model(process.noised(x0, t, noise), t) - x0)).flatten(1).square()
    losses = error.mean(1) if reduce_mean else error.sum(1) / 2
    likelihood = diffusion.drift(t, process)[1] / process.sigma(t) ** 2
    return losses * likelihood.to(losses) if likelihood_weighting else losses


def training_times(u: Tensor, process: Process, *, first: float = 1e-5) -> Tensor:
    """t uniform on [first, t_max]: u [B] in (0,1) -> t [B]; first: losses.py, whatever the sampler's last time."""
    return first + u.double() * (process.t_max - first)


def _labelled(net: Callable[[Tensor, Tensor], Tensor], process: Process, label: Callable, mean: Callable) -> Predictor:
    def predict(x: Tensor, t: Time) -> Tensor:
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        alpha, sigma = expand(process.alpha(rows), x), expand(process.sigma(rows), x)
        return mean(x, net(x, label(rows).to(x.device, x.dtype)).to(x.dtype), alpha, sigma)

    return Predictor("mean", predict)


def noise_net(net: Callable[[Tensor, Tensor], Tensor], *, process: Process) -> Predictor:
    """score = -net(x, 999 t)/sigma_t, for VP and sub-VP: the net predicts eps. net: (x [B,*D], [B]) -> [B,*D]."""
    return _labelled(net, process, lambda t: 999 * t, convert.mean_of_eps)


def score_net(net: Callable[[Tensor, Tensor], Tensor], *, process: Process) -> Predictor:
    """score = net(x, sigma_t), for VE. net: (x [B,*D], [B]) -> [B,*D]."""
    return _labelled(net, process, process.sigma, convert.mean_of_score)


def _card(name: str, path: str, options: Mapping[str, Any], per_step: int = 1, **fields: Any) -> Sampler:
    given = {"stochastic": True, "grid": grids.uniform_t, "symmetric": frozenset({"rotation"})} | fields
    return Sampler(
        id=f"song2021sde.{name}", sample=partial(sample, **options), consumes="mean", path=path,
        nfe=lambda grid: float(per_step * (grid.shape[0] - 1)), **given,
    )  # fmt: skip


PC, CODE = {"predictor": "reverse_diffusion", "corrector": "langevin"}, {"shipped": True, "denoise": True}
KEEPS = {"per_step": 2, "needs": frozenset({"guide"}), "symmetric": frozenset()}
OF_CODE = {"grid": chain_times, "even": True, "variant": True, "paths": frozenset({"vp-linear", "ve-geo"})}

PAPER = Paper(
    key="song2021sde",
    title="Score-Based Generative Modeling through Stochastic Differential Equations",
    authors="Yang Song, Jascha Sohl-Dickstein, Diederik P. Kingma, Abhishek Kumar, Stefano Ermon, Ben Poole",
    venue="ICLR 2021",
    arxiv="2011.13456",
    code="yang-song/score_sde_pytorch",
    licence="Apache-2.0",
    samplers=(
        _card("euler_maruyama", "vp-linear", {"predictor": "euler_maruyama"}, weak_order=1.0),
        _card("reverse_diffusion", "ve-geo", {"predictor": "reverse_diffusion"}, weak_order=1.0),
        _card("ancestral", "vp-linear", {"predictor": "ancestral_large"}, weak_order=1.0,
              exact_on=frozenset({"standard"}), reduces=(Reduction({}, "ho2020ddpm.ancestral_large"),)),
        _card("ancestral_ve", "ve-geo", {"predictor": "ancestral_small"}, weak_order=1.0,
              exact_on=frozenset({"delta"}), variant=True, symmetric=frozenset({"rotation", "paths"}),
              reduces=(Reduction({}, "ho2020ddpm.ancestral"),)),
        _card("pc", "ve-geo", PC, per_step=2, reduces=(
            Reduction({"corrector": "none"}, "song2021sde.reverse_diffusion"),)),
        _card("flow_reverse_diffusion", "vp-linear", {"predictor": "reverse_diffusion", "flow": True},
              stochastic=False, order=1.0, variant=True,
              reduces=(Reduction({"predictor": "euler_maruyama"}, "lipman2022fm.euler"),)),
        Sampler(
            id="song2021sde.flow", sample=probability_flow, grid=grids.uniform_t, consumes="mean", path="vp-linear",
            reduces=(Reduction({}, "lipman2022fm.dopri5", tolerance=1e-9, on="own"),),
        ),
        Sampler(
            id="song2021sde.encode", sample=encode, grid=grids.uniform_t, consumes="mean", path="vp-linear",
            walks="up",
        ),
        _card("inpaint", "ve-geo", PC, **KEEPS, start=start_with_known, reduces=(Reduction({}, "song2021sde.pc"),)),
        _card("colourise", "ve-geo", {**PC, "grey": True}, **KEEPS, start=partial(start_with_known, grey=True),
              variant=True, reduces=(Reduction({}, "song2021sde.pc"),)),
        _card("euler_maruyama_shipped", "vp-linear", {**CODE, "predictor": "euler_maruyama"},
              **OF_CODE | {"paths": OF_CODE["paths"] | {"subvp"}}),
        _card("reverse_diffusion_shipped", "ve-geo", {**CODE, "predictor": "reverse_diffusion"},
              **OF_CODE | {"paths": OF_CODE["paths"] | {"subvp"}}),
        _card("ancestral_shipped", "ve-geo", {**CODE, "predictor": "ancestral"}, **OF_CODE),
        _card("pc_shipped", "ve-geo", {**CODE, **PC, "corrector": "langevin_batch"}, per_step=2, **OF_CODE,
              per_sample=False, known_failures={
                  "gradient_reaches_the_start": "rows are coupled, and the law moves them all at once"}, reduces=(
                  Reduction({"corrector": "none"}, "song2021sde.reverse_diffusion_shipped", on="own"),)),
        _card("inpaint_shipped", "ve-geo", {**CODE, **PC, "corrector": "langevin_batch"}, **KEEPS, **OF_CODE,
              per_sample=False, known_failures={
                  "gradient_reaches_the_start": "rows are coupled, and the law moves them all at once"},
              start=partial(start_with_known, clean=True), reduces=(
                  Reduction({"denoise": False}, "song2021sde.pc_shipped", {"denoise": False}, on="own"),)),
    ),
    objectives=tuple(
        types.Objective(
            id=f"song2021sde.{name}", loss=partial(loss, **options), minimiser="mean", path=path, times=training_times
        )
        for name, path, options in (
            ("score_vp", "vp-linear", {}),
            ("score_vp_likelihood", "vp-linear", {"likelihood_weighting": True}),
            ("score_subvp", "subvp", {}),
            ("score_subvp_likelihood", "subvp", {"likelihood_weighting": True}),
            ("score_ve", "ve-geo", {"reduce_mean": False}),
            ("score_ve_likelihood", "ve-geo", {"reduce_mean": False, "likelihood_weighting": True}),
        )
    ),
    likelihoods=(
        types.Likelihood(id="song2021sde.log_prob", log_prob=log_prob, kind="exact", consumes="mean", path="vp-linear"),
    ),
    transforms=(
        types.Transform(
            id="song2021sde.guided",
            apply=guided,
            identity_at={"scale": 0.0},
            limit=lambda model, *, condition, process: (guided(model, model, process=process, scale=0.0), model),
        ),
    ),
    parametrisations={"noise_net": noise_net, "score_net": score_net},
)  # fmt: skip
