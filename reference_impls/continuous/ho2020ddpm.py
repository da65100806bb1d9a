"""ho2020ddpm - DDPM: a Markov chain of small Gaussian noisings inverted by Gaussian kernels trained as denoisers.

Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020, arXiv:2006.11239.
Official code: hojonathanho/diffusion (no licence file; formulas only).
Path        x_t = alpha_t x0 + sigma_t eps at t = i/T, T = 1000, alpha_t^2 = prod_{j<=i} (1 - beta_j), beta linear
            1e-4 .. .02 (the paper's alpha-bar is our alpha_t^2, its alpha_t our (alpha_t/alpha_s)^2). t = 0 is clean
            data. Nine other schedules: SCHEDULES, chain(name).
Loss        L_simple: mean over dimensions of |eps - eps_hat|^2, t uniform on the knots 1/T .. 1.               [eq. 14]
            The same with x0 or mu_q = c_mean x0 + c_x x_t as the prediction's target; |r| or Huber(r) for r^2.
            L_vlb = L_T + sum_i L_{i-1} + L_0, in nats per dimension:                                            [eq. 5]
            L_T = (alpha_1^2 x0^2 + sigma_1^2 - 1 - log sigma_1^2)/2, the prior's; where that is N(0, p^2 I), on VE,
            alpha_1/p and sigma_1/p in their place;
            L_{i-1} = KL(q(x_s|x_t,x0) || p(x_s|x_t)), t = i/T, s = t - 1/T; the loss is T times one term, t uniform;
            L_0 = -log P(x0|x_t) at t = 1/T, P the Gaussian's mass on x0's level of 256 in [-1,1].              [eq. 13]
            CIFAR-10: eps, L_simple, Adam at 2e-4 after 5,000 updates of warm-up, batch 128, gradient norm at most 1,
            dropout .1, flips, weights averaged by .9999 [code]; sampled with "large".
Step        x_s = c_mean D + c_x x_t + sqrt(v) z, the posterior q(x_s | x_t, x0 = D):
            c_mean = alpha_s b/sigma_t^2, c_x = (alpha_t/alpha_s) sigma_s^2/sigma_t^2,
            b = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2;
            v = b sigma_s^2/sigma_t^2 ("small") or b ("large"); no noise on the last step.            [eq. 7, alg. 2]
            matched: v = small + c_mean^2 Var[x0|x_t], Var = (sigma_t^2/alpha_t) tr(dD/dx)/d by one pullback.
Cost        NFE = steps; stochastic; weak order 1. Strided chains rebuild beta from the kept knots. The bound: T
            evaluations. matched: one pullback a step but the last; exact where the law measures orders, so none stated.
Exact when  small: point masses; large: N(0, I) data (on a variance-preserving path); matched: every isotropic
            Gaussian. small, matched: the same x/alpha on every path with the same rho. L_simple and each L_vlb term
            t >= 2/T have the same minimiser; L1's is the median.
            The decoder's levels have mass 1. In the mean over its noise the bound is not above the log-likelihood.
Differs     The official sampler clips D to [-1,1]: card official; it breaks every Gaussian law. A net that predicts
            x_s is exempt there, not here. calc_bpd_loop clips too: option clip of the bound.
            At t = 1/T, where small is 0, both official variances are the small one of 2/T: here too, for L_0 alone,
            where no noise is added anyway. The official decoder has a tanh for Phi (off by 1.8e-4): decoder "tanh".
            The code casts coefficients to float32 on look-up: here they are float64 and cast last. Its losses are in
            bits per dimension: bits(); its 'kl' is one term without T. The even subsequence is that of
            openai/improved-diffusion (MIT), which for one step takes the first knot: here it is the last. The cosine
            schedule is from there too; sigmoid is from ermongroup/ddim (MIT), whose L_simple sums over dimensions;
            exponential and geometric, L1 and Huber are of later code bases and no official one.
            matched is no variance of the paper: it is the best isotropic one, for exact models to be measured by.
            The code's 'learned' variance is in nichol2021iddpm: net_with_log_variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import convert, grids, types
from reference_impls.core.drive import drive
from reference_impls.core.options import counts, one_of
from reference_impls.core.process import Process, cosine_betas, discrete
from reference_impls.core.types import Draws, Model, Paper, Predictor, Reduction, Run, Sampler, Time, expand

TRAINED = 1000  # T of the paper
Curve = Callable[[Tensor], Tensor]

# ---- schedules ---------------------------------------------------------------------------------------------------


def _line(first: float, last: float, knots: int) -> Tensor:
    return torch.linspace(first, last, knots, dtype=torch.float64)


def _warmed(knots: int, first: float, last: float, share: float) -> Tensor:
    rising = int(knots * share)
    return torch.cat([_line(first, last, rising), torch.full((knots - rising,), last, dtype=torch.float64)])


SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {  # (T, beta_1, beta_T) -> betas; get_beta_schedule
    "linear": lambda knots, first, last: _line(first, last, knots),
    "quadratic": lambda knots, first, last: _line(first**0.5, last**0.5, knots) ** 2,
    "constant": lambda knots, first, last: _warmed(knots, last, last, 0.0),
    "jsd": lambda knots, first, last: 1 / _line(knots, 1, knots),
    "warmup10": partial(_warmed, share=0.1),
    "warmup50": partial(_warmed, share=0.5),
    "sigmoid": lambda knots, first, last: _line(-6, 6, knots).sigmoid() * (last - first) + first,
    "cosine": lambda knots, first, last: cosine_betas(knots),
    "exponential": lambda knots, first, last: -torch.expm1(_line(-12, -12, knots) / knots),  # alpha-bar = exp(-12 t)
    "geometric": lambda knots, first, last: first * (last / first) ** _line(0, 1, knots),
}


def betas(schedule: str, *, knots: int = TRAINED, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """float64 [knots] in (0, 1], of SCHEDULES; first, last: the paper's beta_1, beta_T (sec. 4). Raises ValueError.

    jsd, cosine and exponential have no ends of their own choosing; geometric leaves 2 % of the signal at t = 1.
    """
    one_of("schedule", schedule, SCHEDULES)
    if not 0 < first <= last <= 1:
        raise ValueError(f"first, last: {first!r}, {last!r}, expected 0 < first <= last <= 1, the betas' ends")
    counts(1, knots=knots)
    return SCHEDULES[schedule](knots, first, last)


def chain(schedule: str, *, knots: int = TRAINED, first: float = 1e-4, last: float = 0.02) -> Process:
    """The process of these betas, named discrete-<schedule>."""
    return discrete(betas(schedule, knots=knots, first=first, last=last), name=f"discrete-{schedule}")


# ---- the kernels and the sampler ---------------------------------------------------------------------------------


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) = N(c_mean x0 + c_x x_t, small I); large is the forward variance of t given s."""

    c_mean: Tensor
    c_x: Tensor
    small: Tensor
    large: Tensor


def posterior(t: Tensor, s: Tensor, process: Process) -> Posterior:
    """Equations 6 and 7 for any s < t, times float64 of one shape; s may be clean (sigma_s = 0)."""
    h = process.lam(s) - process.lam(t)
    fresh = -torch.expm1(-2 * h)  # share of sigma_t^2 that was added between s and t: b/sigma_t^2
    ratio = process.alpha(t) / process.alpha(s)
    sigma_t, sigma_s = process.sigma(t), process.sigma(s)
    return Posterior(process.alpha(s) * fresh, ratio * (sigma_s / sigma_t) ** 2, sigma_s**2 * fresh, sigma_t**2 * fresh)


class Plan(NamedTuple):
    t: Tensor
    c_mean: Tensor
    c_x: Tensor
    noise: Tensor  # standard deviation
    spread: Tensor  # matched: variance added per unit of the Jacobian's mean diagonal, 0 on a last clean step


def plan(grid: Tensor, process: Process, *, large: bool = False) -> Plan:
    """Coefficients of every step. large: the variance b ("fixedlarge") instead of the posterior's ("fixedsmall")."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    kernel = posterior(t, s, process)
    noisy = process.sigma(s) > 0
    variance = torch.where(noisy, kernel.large if large else kernel.small, 0.0)
    spread = torch.where(noisy, kernel.c_mean**2 * process.sigma(t) ** 2 / process.alpha(t), 0.0)
    return Plan(t, kernel.c_mean, kernel.c_x, variance.sqrt(), spread)


def ancestral_step(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, clip: float = math.inf
) -> tuple[Tensor, None]:
    """Algorithm 2, one interval."""
    mean = model(x, row.t)
    if clip < math.inf:
        mean = mean.clamp(-clip, clip)
    x_s = torch.mul(x, row.c_x).add_(mean, alpha=row.c_mean)
    return (x_s.add_(draws.normal("step", x), alpha=row.noise) if row.noise > 0 else x_s), None


def _positive(clip: float) -> float:
    if not clip > 0:
        raise ValueError(f"clip: {clip!r}, expected a positive bound of the mean; inf clips nothing")
    return clip


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, large: bool = False,
    clip: float = math.inf,
) -> Run:  # fmt: skip
    """Ancestral sampling from grid[0] to grid[-1]. x [B,*D]. large: the paper finds both similar (sec. 3.2).

    clip: bound of |D|; infinite as in the paper, 1 in the code.
    """
    step = partial(ancestral_step, clip=_positive(clip))
    return drive(plan(grid, process, large=large), step, model, x, draws=draws, tags=("step",))


def matched_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """The step whose variance is that of the exact reverse kernel, averaged over dimensions.

    z J z with random signs z has the mean tr J; J = dD/dx has no negative eigenvalue where D is an exact mean.
    """
    if row.spread == 0:
        return ancestral_step(x, row, memory, model=model, draws=draws)
    mean, pull = model.vjp(x, row.t)
    x_s = torch.mul(x, row.c_x).add_(mean, alpha=row.c_mean)
    signs = torch.where(draws.normal("signs", x) < 0, -1.0, 1.0).to(x.dtype)
    slope = pull(signs).mul(signs).flatten(1).mean(1).clamp(min=0)
    deviation = slope.mul(row.spread).add_(row.noise**2).sqrt_()
    return x_s.addcmul_(expand(deviation, x), draws.normal("step", x)), None


def sample_matched(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
    """Ancestral sampling with v = small + c_mean^2 tr Var[x0|x_t]/d. x [B,*D]. Needs alpha > 0 at grid[0]."""
    rows = plan(grid, process)
    if process.alpha(grid[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: starts at {grid[0].item():g}, where alpha = 0 and the denoiser's slope says nothing of Var[x0]; "
            "start at t with alpha > 0"
        )
    return drive(rows, matched_step, model, x, draws=draws, tags=("step", "signs"))


def even_subsequence(steps: int, process: Process, *, knots: int = TRAINED) -> Tensor:
    """steps of the chain's knots, evenly spaced from the last down to the first, then clean data; one step: the last.

    The sums are rounded one by one, half to even, as in respace.py of openai/improved-diffusion.
    """
    if steps not in range(1, knots + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{knots} on the trained chain; for more use the grid t")
    if process.t_max != 1:
        raise grids.BadGrid(
            f"grid: the chain starts at t = 1, but {process.name} at {process.t_max:g}; use the grid t, lam or power(7)"
        )
    stride = (knots - 1) / max(1, steps - 1)
    indices = [round(place) for place in accumulate([0.0] + [stride] * (steps - 1))] if steps > 1 else [knots - 1]
    return grids.checked(torch.tensor([*(i + 1 for i in reversed(indices)), 0], dtype=torch.float64) / knots)


# ---- losses ------------------------------------------------------------------------------------------------------


DISTANCES: dict[str, Callable[[Tensor, float], Tensor]] = {  # of r and of Huber's width
    "l2": lambda r, width: r.square(),
    "l1": lambda r, width: r.abs(),
    "huber": lambda r, width: torch.where(r.abs() <= width, r.square() / 2, width * (r.abs() - width / 2)),
}
PREDICTED = ("eps", "x0", "previous")  # the code's eps, xstart, xprev


def simple_loss(
    model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, predicted: str = "eps",
    distance: str = "l2", width: float = 1.0, knots: int = TRAINED,
) -> Tensor:  # fmt: skip
    """L_simple, equation 14: mean over dimensions of the distance of the prediction from its target, [B].

    predicted: what is compared: eps, x0, or previous, the mean of x_s given x_t, s = t - 1/knots: knots are those of
    the chain, which the process does not tell. width: up to which Huber's distance is quadratic; 1 is torch's default.
    """
    one_of("predicted", predicted, PREDICTED)
    one_of("distance", distance, DISTANCES)
    if not width > 0:
        raise ValueError(f"width: {width!r}, expected a number > 0, up to which Huber's distance is quadratic")
    x = process.noised(x0, t, noise)
    mean = model(x, t)
    if predicted == "eps":
        residual = convert.eps_of_mean(x, mean, expand(process.alpha(t), x), expand(process.sigma(t), x)) - noise
    else:
        residual = mean - x0
    if predicted == "previous":
        residual = residual * expand(posterior(t, _below(t, knots), process).c_mean, x)
    return DISTANCES[distance](residual, width).flatten(1).mean(1)


def _below(t: Tensor, knots: int) -> Tensor:
    """The knot below each knot t; 0 below the first."""
    return ((t * knots).round() - 1) / knots


def net_as_mean(
    net: Callable[[Tensor, Tensor], Tensor], *, process: Process, predicted: str = "eps", knots: int = TRAINED
) -> Predictor:
    """A raw network that predicts eps, x0 or the mean of x_{t - 1/knots}, as a mean.

    net: (x [B,*D], embedding [B] = t - 1/knots: the code's index over knots) -> [B,*D], cast to x's dtype here.
    """
    one_of("predicted", predicted, PREDICTED)

    def predict(x: Tensor, t: Time) -> Tensor:
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        raw = net(x, (rows - 1 / knots).to(x.device, x.dtype)).to(x.dtype)
        if predicted == "x0":
            return raw
        if predicted == "eps":
            return convert.mean_of_eps(x, raw, expand(process.alpha(rows), x), expand(process.sigma(rows), x))
        kernel = posterior(rows, _below(rows, knots), process)
        return (raw - expand(kernel.c_x, x) * x) / expand(kernel.c_mean, x)

    return Predictor("mean", predict)


# ---- the bound ---------------------------------------------------------------------------------------------------


def normal_cdf(z: Tensor) -> Tensor:
    """Phi with all its digits in the lower tail, where torch.special.ndtr is (1 + erf)/2 and has none below -8."""
    return torch.erfc(-math.sqrt(0.5) * z) / 2


def tanh_cdf(z: Tensor) -> Tensor:
    """The official code's stand-in for Phi, (1 + tanh)/2, with the digits of its lower tail."""
    return torch.sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))


def chance_of_level(
    x0: Tensor, mean: Tensor, deviation: Tensor, *, levels: int = 256, cdf: Curve = normal_cdf
) -> Tensor:
    """Mass of N(mean, deviation^2) on the level x0, equation 13: levels evenly spaced in [-1,1], the outer two open."""
    half, gap = 1 / (levels - 1), x0 - mean
    inner = -gap.abs()  # by symmetry the tail that keeps its digits
    edge = cdf((torch.where(x0 < 0, gap, -gap) + half) / deviation)
    return torch.where(x0.abs() > 0.999, edge, cdf((inner + half) / deviation) - cdf((inner - half) / deviation))


def _level_nats(x0: Tensor, mean: Tensor, deviation: Tensor, levels: int, cdf: Curve) -> Tensor:
    return -chance_of_level(x0, mean, deviation, levels=levels, cdf=cdf).clamp(min=1e-12).log()


def _density_nats(x0: Tensor, mean: Tensor, deviation: Tensor, levels: int) -> Tensor:
    return ((x0 - mean) / deviation).square() / 2 + deviation.log() + math.log(2 * math.pi) / 2


DECODERS: dict[str, Callable[[Tensor, Tensor, Tensor, int], Tensor]] = {  # -log p(x0 | x_t) by coordinate
    "phi": partial(_level_nats, cdf=normal_cdf),
    "tanh": partial(_level_nats, cdf=tanh_cdf),
    "density": _density_nats,  # continuous data: no level, the Gaussian's own density
}


class Rung(NamedTuple):
    """Coefficients of one term of the bound, float64 of the times' shape, or python floats."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    excess: Tensor  # v_q/v - 1 - log(v_q/v)
    weight: Tensor  # c_mean^2/v
    deviation: Tensor  # sqrt(v)
    clean: Tensor  # 1 where s is clean


def rungs(t: Tensor, s: Tensor, above: Tensor, process: Process, *, large: bool = False) -> Rung:
    """Terms from t to s; above: the kept knot above t, whose small variance stands in where s is clean."""
    kernel, clean = posterior(t, s, process), s <= 0
    first = posterior(above, t, process).small
    small, variance = (torch.where(clean, first, v) for v in (kernel.small, kernel.large if large else kernel.small))
    ratio, weight = small / variance, kernel.c_mean**2 / variance
    excess = ratio - 1 - ratio.log()
    return Rung(t, process.alpha(t), process.sigma(t), excess, weight, variance.sqrt(), clean.double())


def term(x0: Tensor, mean: Tensor, rung: Rung, *, decoder: str = "phi", levels: int = 256) -> Tensor:
    """L_{i-1}, or L_0 where s is clean, of equation 5 in nats per dimension, [B]; mean: the model's at x_t.

    With fixed variance v the KL is (-1 + log v - log v_q + v_q/v + (mu_q - mu)^2/v)/2, v_q the posterior's variance.
    """
    gap = (mean - x0).flatten(1).square().mean(1)
    nats = (expand(rung.excess, gap) + expand(rung.weight, gap) * gap) / 2
    clean = torch.as_tensor(rung.clean, device=x0.device) > 0
    if not clean.any():
        return nats
    deviation = torch.as_tensor(expand(rung.deviation, x0), dtype=x0.dtype, device=x0.device)
    return torch.where(clean, DECODERS[decoder](x0, mean, deviation, levels).flatten(1).mean(1), nats)


def bound_loss(
    model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, large: bool = False,
    decoder: str = "phi", levels: int = 256, knots: int = TRAINED,
) -> Tensor:  # fmt: skip
    """knots times the term of equation 5 at the knot t, in nats per dimension, [B]: its mean over t is L_vlb - L_T.

    knots: those of the chain, which the process does not tell: with others the term ends at no knot.
    """
    one_of("decoder", decoder, DECODERS)
    counts(2, levels=levels, knots=knots)
    rung = rungs(t, _below(t, knots), t + 1 / knots, process, large=large)
    return knots * term(x0, model(process.noised(x0, t, noise), t), rung, decoder=decoder, levels=levels)


def prior_nats(x0: Tensor, process: Process) -> Tensor:
    """L_T = KL(q(x_1 | x0) || N(0, prior_std^2 I)), the law that sampling starts from, in nats per dimension, [B]."""
    signal, noise = ((curve(1.0) / process.prior_std) ** 2 for curve in (process.alpha, process.sigma))
    return (signal * x0.flatten(1).square().mean(1) + (noise - 1 - math.log(noise))) / 2


def bound_step(
    x0: Tensor, rung: Rung, total: Tensor, *, model: Model, draws: Draws, decoder: str, levels: int, clip: float,
    low: float, high: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Adds one term to the total; the state that drive hands on is x0 itself."""
    if not low < rung.t <= high:
        return x0, total
    x = torch.mul(x0, rung.alpha).add_(draws.normal("step", x0), alpha=rung.sigma)
    return x0, total + term(x0, model(x, rung.t).clamp(-clip, clip), rung, decoder=decoder, levels=levels)


def log_prob(
    model: Model, x0: Tensor, *, process: Process, draws: Draws, large: bool = False, decoder: str = "phi",
    levels: int = 256, steps: int = TRAINED, knots: int = TRAINED, clip: float = math.inf, low: float = 0.0,
    high: float = 1.0,
) -> Tensor:  # fmt: skip
    """Lower bound of log p(x0) in nats, [B]: -d L_vlb with one noise per term (calc_bpd_loop). x0 [B,*D].

    knots: of the chain, which the process does not tell. steps: how many are kept, evenly: the strided chain's bound.
    clip: as in `sample`, 1 in the code. low, high: only terms with low < t <= high, and L_T where high is 1.
    Raises ValueError, BadGrid.
    """
    one_of("decoder", decoder, DECODERS)
    counts(2, levels=levels, knots=knots)
    if steps < 2:
        raise ValueError(f"steps: {steps!r}, expected at least 2: the first step takes its variance from the second")
    if not 0 <= low < high <= 1:
        raise ValueError(f"low, high: {low!r}, {high!r}, expected 0 <= low < high <= 1")
    grid = even_subsequence(steps, process, knots=knots)
    rows = rungs(grid[:-1], grid[1:], torch.cat([grid[:1], grid[:-2]]), process, large=large)
    step = partial(bound_step, decoder=decoder, levels=levels, clip=_positive(clip), low=low, high=high)
    total = prior_nats(x0, process) if high >= 1 else x0.new_zeros(x0.shape[0])
    return -drive(rows, step, model, x0, draws=draws, memory=total, tags=("step",)).memory * x0.shape[1:].numel()


def bits(nats: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Nats of samples of that shape as bits per dimension, the code's unit: nats/(d log 2)."""
    return nats / (math.prod(shape) * math.log(2))


def knot_times(u: Tensor, process: Process, *, first: int = 1, knots: int = TRAINED) -> Tensor:
    """t uniform on the knots first/knots .. 1: u [B] in (0,1) -> t [B]."""
    return (first + (u.double() * (knots - first + 1)).floor()) / knots


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


def _sampler(name: str, sample: Callable[..., Run], **fields: Any) -> Sampler:
    return Sampler(
        id=f"ho2020ddpm.{name}", sample=sample, grid=even_subsequence, consumes="mean", path="discrete-linear",
        nfe=evaluations, stochastic=True, **fields,
    )  # fmt: skip


def _objective(name: str, loss: Callable[..., Tensor], **fields: Any) -> types.Objective:
    fields = {"times": knot_times} | fields
    return types.Objective(id=f"ho2020ddpm.{name}", loss=loss, minimiser="mean", path="discrete-linear", **fields)


PAPER = Paper(
    key="ho2020ddpm",
    title="Denoising Diffusion Probabilistic Models",
    authors="Jonathan Ho, Ajay Jain, Pieter Abbeel",
    venue="NeurIPS 2020",
    arxiv="2006.11239",
    code="hojonathanho/diffusion",
    licence="none stated",
    samplers=(
        _sampler(
            "ancestral", sample, weak_order=1.0, exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}), reduces=(Reduction({}, "song2020ddim.stochastic"),),
        ),
        _sampler(
            "ancestral_large", partial(sample, large=True), weak_order=1.0, exact_on=frozenset({"standard"}),
            symmetric=frozenset({"rotation"}), reduces=(Reduction({"large": False}, "ho2020ddpm.ancestral"),),
        ),
        _sampler(  # the CIFAR-10 run: fixedlarge and clip_denoised (run_cifar.py, diffusion_utils_2.py)
            "official", partial(sample, large=True, clip=1.0), weak_order=1.0, exact_on=frozenset({"standard"}),
            exact_options={"clip": math.inf}, reduces=(Reduction({"clip": math.inf}, "ho2020ddpm.ancestral_large"),),
            variant=True,
        ),
        _sampler(
            "ancestral_matched", sample_matched, exact_on=frozenset({"delta", "standard", "isotropic"}),
            symmetric=frozenset({"paths"}), vjps=lambda grid: evaluations(grid) - float(grid[-1] == 0), variant=True,
        ),
    ),
    objectives=(
        _objective("simple", simple_loss),
        _objective("simple_x0", partial(simple_loss, predicted="x0")),
        _objective("simple_previous", partial(simple_loss, predicted="previous")),
        _objective(
            "simple_l1", partial(simple_loss, distance="l1"),
            known_failures=dict.fromkeys(
                ("exact_mean_is_stationary", "loss_grows_away_from_the_minimiser"),
                "its minimiser is the median of each coordinate, the mean only where the posterior is symmetric",
            ),
        ),
        _objective(
            "simple_huber", partial(simple_loss, distance="huber"),
            known_failures={
                "exact_mean_is_stationary": "its minimiser lies between mean and median, the mean only where the "
                "posterior is symmetric or all residuals are below 1",
            },
        ),
        _objective("bound", bound_loss, times=partial(knot_times, first=2)),
        _objective("bound_with_decoder", bound_loss),
    ),
    likelihoods=tuple(
        types.Likelihood(
            id=f"ho2020ddpm.bound_{size}", log_prob=partial(log_prob, large=size == "large"), kind="bound",
            consumes="mean", path="discrete-linear", levels=256,
        )
        for size in ("small", "large")
    ),
    parametrisations={name: partial(net_as_mean, predicted=name) for name in PREDICTED},
)  # fmt: skip
