"""nichol2021iddpm - improved DDPM: DDPM with learned variances, a cosine chain, importance-sampled times, respacing.

Nichol, Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021, arXiv:2102.09672.
Official code: openai/improved-diffusion (MIT).
Path        x_t = alpha_t x0 + sigma_t eps at t = i/T, T = 1000, beta_i = min(1 - f(i/T)/f((i-1)/T), .999),
            f(u) = cos^2(pi/2 (u + .008)/1.008) (process discrete-cosine); t = 0 is clean data.               [sec. 3.2]
            With another T the linear chain's ends are 1e-4 1000/T and .02 1000/T.
Model       One net, twice the channels: eps_hat and r. D = (x - sigma_t eps_hat)/alpha_t, share = (r + 1)/2 in [0,1].
            log v = share log b + (1 - share) log b~, b = sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2 the forward
            variance, b~ = b sigma_s^2/sigma_t^2 the posterior's: v depends on s, share does not.             [sec. 3.1]
            `net_with_log_variance`: the second output is log v itself (the code's LEARNED), for the steps of one chain.
Loss        L_hybrid = L_simple + .001 L_vlb, L_vlb in bits per dimension with the mean detached: one sampled term
            times T at t, t uniform on the knots. L_vlb alone: T times a term in bits per dimension.          [sec. 3.1]
            Importance (objective bound_importance, L_vlb): p(i) ~ sqrt(mean of the last 10 squared losses at knot i),
            mixed with .001 uniform, once every knot has 10; losses are weighted by 1/(T p(i)).               [sec. 3.3]
Step        x_s = c_mean D + c_x x_t + sqrt(v) z, DDPM's c_mean, c_x for the kept knots t, s; last: no noise. [sec. 4]
Cost        NFE = steps; stochastic; weak order 1. Bound: one evaluation per kept knot.
Exact when  share 0 is DDPM's fixedsmall, share 1 its fixedlarge; the share of log(b~ + c_mean^2 Var[x0|x_t]) is exact
            on isotropic Gaussians. The gradient of L_hybrid in the mean is that of L_simple. Respacing to all knots
            changes nothing; alpha at kept knots stays.
Differs     .001 multiplies bits per dimension (mean over dimensions), a nats reading differs by log 2; without
            rescale_learned_sigmas the code adds one term in bits, unscaled by T/1000: option scaled. The code's KL, not
            RESCALED_KL, is one term without T. Its decoder has a tanh for Phi (2e-4): decoder "tanh". At t = 1/T, where
            b~ is 0, the lower end is b~ of the knot above [code]. The code does not bound r: share may leave [0,1]. It
            clips D to [-1,1] in sampling (card official), and in calc_bpd_loop: option clip of the bound. LEARNED keeps
            its log v on any respaced chain; here the net is told the chain, elsewhere the share stays. Respacing rounds
            accumulated sums, half to even; "ddimN" needs an integer stride; both keep index 0, and one step is index 0,
            a jump from N(0, I) at nearly clean data (kept; its code then raises). The code's net sees the index i - 1,
            times 1000/T: label(). Nets here resolve inputs of order 1 and see it in thousands. resample.py raises with
            numpy 1.24 and later (np.int); its draw is an inverse CDF of one uniform here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import convert, grids, types
from reference_impls.core.drive import drive
from reference_impls.core.options import counts, one_of
from reference_impls.core.process import Process, cosine_betas, discrete, linear_betas
from reference_impls.core.types import Draws, Objective, Paper, Run, Sampler, Shared, ShareModel, Time, expand

TRAINED = 1000  # T of the released models but ImageNet-64's 4000

# ---- chains and kept knots ---------------------------------------------------------------------------------------


def chain(schedule: str, knots: int = TRAINED) -> Process:
    """The "linear" or "cosine" chain of that many knots, as get_named_beta_schedule; linear from 20 knots on, where
    beta_T = 20/knots is 1. Raises ValueError."""
    made = {
        "linear": lambda: linear_betas(knots, 0.1 / knots, 20 / knots),
        "cosine": lambda: cosine_betas(knots),
    }
    one_of("schedule", schedule, made)
    counts(1, knots=knots)
    return discrete(made[schedule](), name=f"discrete-{schedule}")


def kept(sections: str | int | Sequence[int], knots: int = TRAINED) -> list[int]:
    """Kept indices, ascending in 0..knots-1 (index i is the knot i+1): space_timesteps.

    sections: how many of each of as many equal parts, evenly spaced: 50, [10, 15, 20] or "10,15,20"; or "ddimN": N by
    an integer stride. Raises BadGrid where that cannot be.
    """
    if isinstance(sections, str) and sections.startswith("ddim"):
        for stride in range(1, knots):
            if str(len(range(0, knots, stride))) == sections[4:]:
                return list(range(0, knots, stride))
        raise grids.BadGrid(f"sections: {sections!r}, expected N = ceil({knots}/k) for an integer k; try even spacing")
    if isinstance(sections, str):
        if not re.fullmatch(r"\d+(,\d+)*", sections):
            raise grids.BadGrid(f"sections: {sections!r}, expected 'ddim50', '50' or '10,15,20'")
        sections = [int(count) for count in sections.split(",")]
    if not isinstance(sections, int | Sequence):
        raise grids.BadGrid(f"sections: {sections!r}, expected 50, [10, 15, 20], '10,15,20' or 'ddim50'")
    counts = [sections] if isinstance(sections, int) else list(sections)
    indices, start = [], 0
    for i, count in enumerate(counts):
        size = knots // len(counts) + (i < knots % len(counts))
        if count not in range(size + 1):
            raise grids.BadGrid(f"sections: {count!r} of {size} knots in part {i}, expected at most {size}")
        stride = (size - 1) / max(1, count - 1)
        indices += [start + round(place) for place in accumulate([0.0] + [stride] * (count - 1))][:count]
        start += size
    return indices


def _times(indices: Sequence[int], process: Process, knots: int) -> Tensor:
    if process.t_max != 1:
        raise grids.BadGrid(
            f"grid: a chain's knots lie in (0, 1], but {process.name} starts at {process.t_max:g}; "
            "use the grid t, lam or power(7)"
        )
    return grids.checked(torch.tensor([*(i + 1 for i in reversed(indices)), 0], dtype=torch.float64) / knots)


def even_subsequence(steps: int, process: Process, *, knots: int = TRAINED) -> Tensor:
    """timestep_respacing = str(steps): one section, evenly spaced, then clean data."""
    if steps not in range(1, knots + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{knots} on the trained chain; for more use the grid t")
    return _times(kept(steps, knots), process, knots)


def stride_subsequence(steps: int, process: Process, *, knots: int = TRAINED) -> Tensor:
    """timestep_respacing = "ddim<steps>", then clean data."""
    return _times(kept(f"ddim{steps}", knots), process, knots)


def in_sections(counts: Sequence[int], knots: int = TRAINED) -> types.Grid:
    """The grid of a list of sections; its steps are their sum."""

    def grid(steps: int, process: Process) -> Tensor:
        if steps != sum(counts):
            raise grids.BadGrid(f"steps: {steps!r}, expected {sum(counts)}, the sum of the sections {list(counts)}")
        return _times(kept(counts, knots), process, knots)

    return grid


# ---- the model ---------------------------------------------------------------------------------------------------


def _known(predicted: str) -> str:
    if predicted not in ("eps", "x0"):
        raise ValueError(f"predicted: {predicted!r}, expected 'eps' or 'x0' (predict_xstart)")
    return predicted


def label(t: Time, knots: int = TRAINED, *, rescaled: bool = True) -> Time:
    """What the official net sees at the knot t: index t knots - 1, by default (rescale_timesteps) times 1000/knots."""
    return (t * knots - 1) * (1000 / knots if rescaled else 1)


def _halves(
    net: Callable[[Tensor, Tensor], Tensor], x: Tensor, rows: Tensor, process: Process, knots: int, predicted: str
) -> tuple[Tensor, Tensor]:
    """The mean by the first half of the net's channels, and the second half, both [B,C,*D]; rows: times [B]."""
    first, second = net(x, (label(rows, knots) / 1000).to(x.device, x.dtype)).to(x.dtype).chunk(2, dim=1)
    if predicted == "eps":
        first = convert.mean_of_eps(x, first, expand(process.alpha(rows), x), expand(process.sigma(rows), x))
    return first, second


def _rows(t: Time, x: Tensor) -> Tensor:
    return t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)


def net_with_range(
    net: Callable[[Tensor, Tensor], Tensor], *, process: Process, knots: int = TRAINED, predicted: str = "eps"
) -> Shared:
    """A raw network with twice the channels as a ShareModel: the first half predicts eps (or x0), the second r.

    net: (x [B,C,*D], label/1000 [B]) -> [B,2C,*D], cast to x's dtype here. r = -1: share 0, the posterior's variance.
    """
    _known(predicted)

    def predict(x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        mean, r = _halves(net, x, _rows(t, x), process, knots, predicted)
        return mean, (r + 1) / 2

    return Shared("mean", predict)


def net_with_log_variance(
    net: Callable[[Tensor, Tensor], Tensor], *, process: Process, knots: int = TRAINED, predicted: str = "eps",
    grid: Tensor | None = None,
) -> Shared:  # fmt: skip
    """The same where the second half is log v (LEARNED) of the step from t to the next time of the grid: all knots, or
    a respaced chain's. Given as share (log v - log b~)/(log b - log b~), of which samplers and losses make log v again.
    """
    _known(predicted)
    times = _times(range(knots), process, knots) if grid is None else grids.checked(grid)

    def predict(x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        rows = _rows(t, x)
        mean, log_v = _halves(net, x, rows, process, knots, predicted)
        i = (times[:-1].to(rows.device) - rows[:, None]).abs().argmin(1).to(times.device)
        rung = rungs(times[i], times[i + 1], times[(i - 1).clamp(min=0)], process)
        return mean, (log_v - expand(rung.low, x)) / expand(rung.span, x)

    return Shared("mean", predict)


# ---- the sampler -------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    t: Tensor
    c_mean: Tensor
    c_x: Tensor
    root: Tensor  # sqrt(b); 0 where the step is clean
    shrink: Tensor  # log(sigma_s/sigma_t), half of log(b~/b)


def plan(grid: Tensor, process: Process) -> Plan:
    """Coefficients of every step of a respaced chain, whose beta' is 1 - (alpha_t/alpha_s)^2 on a VP path."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    ratio, shrink = process.alpha(t) / process.alpha(s), (process.sigma(s) / process.sigma(t)).log()
    grown = -torch.expm1(2 * (process.lam(t) - process.lam(s)))  # b/sigma_t^2
    root = torch.where(process.sigma(s) > 0, process.sigma(t) * grown.sqrt(), 0.0)
    return Plan(t, process.alpha(s) * grown, ratio * (2 * shrink).exp(), root, shrink)


def ranged_step(
    x: Tensor, row: Plan, memory: None, *, model: ShareModel, draws: Draws, clip: float = math.inf
) -> tuple[Tensor, None]:
    """One interval: DDPM's, with sqrt(v) = root (sigma_s/sigma_t)^(1 - share) for each coordinate."""
    mean, share = model.with_share(x, row.t)
    if clip < math.inf:
        mean = mean.clamp(-clip, clip)
    x_s = torch.mul(x, row.c_x).add_(mean, alpha=row.c_mean)
    if row.root == 0:
        return x_s, None
    deviation = torch.mul(share, -row.shrink).add_(row.shrink).exp_()
    return x_s.addcmul_(deviation, draws.normal("step", x), value=row.root), None


def _positive(clip: float) -> float:
    if not clip > 0:
        raise ValueError(f"clip: {clip!r}, expected a positive bound of the mean; inf clips nothing")
    return clip


def sample(
    model: ShareModel, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, clip: float = math.inf
) -> Run:
    """Ancestral sampling with the model's variance from grid[0] to grid[-1]. x [B,*D]. Raises WrongKind for a model
    without a share. clip: bound of |D|; infinite as in the paper, 1 in the code."""
    return drive(plan(grid, process), partial(ranged_step, clip=_positive(clip)), model, x, draws=draws, tags=("step",))


# ---- the bound and the losses ------------------------------------------------------------------------------------


def normal_cdf(z: Tensor) -> Tensor:
    """Phi with all its digits in the lower tail, where torch.special.ndtr is (1 + erf)/2 and has none below -8."""
    return torch.erfc(-math.sqrt(0.5) * z) / 2


def tanh_cdf(z: Tensor) -> Tensor:
    """approx_standard_normal_cdf."""
    return torch.sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))


CDFS: dict[str, Callable[[Tensor], Tensor]] = {"phi": normal_cdf, "tanh": tanh_cdf}


def level_nats(x0: Tensor, mean: Tensor, log_v: Tensor, levels: int, cdf: Callable[[Tensor], Tensor]) -> Tensor:
    """-log of N(mean, v)'s mass on the level x0, the first and the last open to their side: elementwise.

    Mirrored so that an open level opens downwards and any other lies below the mean: there Phi keeps its digits.
    """
    open_ended, outward = x0.abs() > 0.999, (x0 - mean) * torch.where(x0 > 0, 1.0, -1.0)
    place = torch.where(open_ended, -outward, -(x0 - mean).abs())
    upper, lower = (cdf((place + side / (levels - 1)) * (-log_v / 2).exp()) for side in (1, -1))
    return -(upper - torch.where(open_ended, 0.0, lower)).clamp(min=1e-12).log()


class Rung(NamedTuple):
    """Coefficients of one term of the bound, float64 of the times' shape, or python floats."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    low: Tensor  # log b~
    span: Tensor  # log b - log b~
    c_mean: Tensor
    clean: Tensor  # 1 where s is clean


def rungs(t: Tensor, s: Tensor, above: Tensor, process: Process) -> Rung:
    """Terms from t to s; above: the kept knot above t, whose log b~ stands in where s is clean."""

    def logs(t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grown = -torch.expm1(2 * (process.lam(t) - process.lam(s)))
        log_b = (process.sigma(t) ** 2 * grown).log()
        return log_b, log_b + 2 * (process.sigma(s) / process.sigma(t)).log(), process.alpha(s) * grown

    (log_b, low, c_mean), clean = logs(t, s), s <= 0
    low = torch.where(clean, logs(above, t)[1], low)
    return Rung(t, process.alpha(t), process.sigma(t), low, log_b - low, c_mean, clean.double())


def _readable(decoder: str, levels: int) -> None:
    one_of("decoder", decoder, CDFS)
    counts(2, levels=levels)


def bound_term(
    x0: Tensor, mean: Tensor, share: Tensor, rung: Rung, *, decoder: str = "phi", levels: int = 256
) -> Tensor:
    """KL(q(x_s | x_t, x0) || p(x_s | x_t)), or -log P(x0 | x_t) where s is clean, in nats per dimension, [B].

    mean, share: the model's at x_t.
    """
    _readable(decoder, levels)
    above_low = share * expand(rung.span, x0)
    log_v = above_low + expand(rung.low, x0)
    nats = (torch.expm1(-above_low) + above_low + (expand(rung.c_mean, x0) * (mean - x0)).square() / log_v.exp()) / 2
    clean = torch.as_tensor(rung.clean, device=x0.device) > 0
    if clean.any():
        first = level_nats(x0, mean, log_v, levels, CDFS[decoder])
        nats = torch.where(clean.reshape(-1, *[1] * (x0.ndim - 1)), first, nats)
    return nats.flatten(1).mean(1)


def _bits_term(
    model: ShareModel, x0: Tensor, t: Tensor, noise: Tensor, process: Process, knots: int, decoder: str, levels: int,
    detached: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The mean at x_t [B,*D] and the term of the bound at the knot t in bits per dimension [B]."""
    _readable(decoder, levels)
    counts(2, knots=knots)
    mean, share = model.with_share(process.noised(x0, t, noise), t)
    rung = rungs(t, ((t * knots).round() - 1) / knots, t + 1 / knots, process)
    seen = mean.detach() if detached else mean
    return mean, bound_term(x0, seen, share, rung, decoder=decoder, levels=levels) / math.log(2)


def bound_loss(
    model: ShareModel, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, decoder: str = "phi",
    levels: int = 256, knots: int = TRAINED,
) -> Tensor:  # fmt: skip
    """knots times the term at the knot t in bits per dimension, [B]: L_vlb - L_T in the mean over t (RESCALED_KL).

    knots: those of the chain, which the process does not tell: with others the term ends at no knot.
    """
    return knots * _bits_term(model, x0, t, noise, process, knots, decoder, levels, False)[1]


def hybrid_loss(
    model: ShareModel, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, weight: float = 1e-3,
    scaled: bool = True, predicted: str = "eps", decoder: str = "phi", levels: int = 256, knots: int = TRAINED,
) -> Tensor:  # fmt: skip
    """L_simple + weight L_vlb, [B]: the bound teaches the share alone, for the mean is detached in it.

    weight: the paper's lambda (sec. 3.1). scaled: knots weight, as with rescale_learned_sigmas; False: 1000 weight.
    predicted: what L_simple compares, "eps", or "x0" (predict_xstart).
    """
    mean, bits = _bits_term(model, x0, t, noise, process, knots, decoder, levels, True)
    residual = mean - x0
    if _known(predicted) == "eps":
        x = process.noised(x0, t, noise)
        residual = convert.eps_of_mean(x, mean, expand(process.alpha(t), x), expand(process.sigma(t), x)) - noise
    return residual.flatten(1).square().mean(1) + weight * (knots if scaled else 1000) * bits


def bound_step(
    x0: Tensor, rung: Rung, total: Tensor, *, model: ShareModel, draws: Draws, decoder: str, levels: int, clip: float
) -> tuple[Tensor, Tensor]:
    """Adds one term to the total; the state that drive hands on is x0 itself."""
    x = torch.mul(x0, rung.alpha).add_(draws.normal("step", x0), alpha=rung.sigma)
    mean, share = model.with_share(x, rung.t)
    return x0, total + bound_term(x0, mean.clamp(-clip, clip), share, rung, decoder=decoder, levels=levels)


def log_prob(
    model: ShareModel, x0: Tensor, *, process: Process, draws: Draws, steps: int = TRAINED, knots: int = TRAINED,
    decoder: str = "phi", levels: int = 256, clip: float = math.inf,
) -> Tensor:  # fmt: skip
    """Lower bound of log p(x0) in nats, [B], of the chain respaced to `steps` knots; one noise per term. x0 [B,*D].

    knots: of the chain, which the process does not tell. clip: bound of |D|; infinite as in the paper, 1 in the code
    (calc_bpd_loop). Raises ValueError, BadGrid, WrongKind.
    """
    _readable(decoder, levels)
    counts(2, knots=knots)
    if steps < 2:
        raise ValueError(f"steps: {steps!r}, expected at least 2: the first step takes its lower end from the second")
    grid = even_subsequence(steps, process, knots=knots)
    rows = rungs(grid[:-1], grid[1:], torch.cat([grid[:1], grid[:-2]]), process)
    signal, noise = ((curve(1.0) / process.prior_std) ** 2 for curve in (process.alpha, process.sigma))
    prior = (signal * x0.flatten(1).square().mean(1) + noise - 1 - math.log(noise)) / 2
    step = partial(bound_step, decoder=decoder, levels=levels, clip=_positive(clip))
    return -drive(rows, step, model, x0, draws=draws, memory=prior, tags=("step",)).memory * x0.shape[1:].numel()


# ---- times -------------------------------------------------------------------------------------------------------


def knot_times(u: Tensor, process: Process, *, knots: int = TRAINED) -> Tensor:
    """t uniform on the knots 1/knots .. 1: u [B] in (0,1) -> t [B]."""
    return (1 + (u.double() * knots).floor()) / knots


@dataclass(frozen=True)
class Importance:
    """Times that follow the losses (section 3.3; LossSecondMomentResampler), for training: see core.fit.Adaptive.

    Its memory: float64 [knots, losses], every knot's latest losses, the newest last, NaN where there is none yet.
    knots: those of the loss. losses, uniform: 10 and the uniform law's share .001, of paper and code.
    """

    knots: int = TRAINED
    losses: int = 10
    uniform: float = 1e-3

    def __call__(self, u: Tensor, process: Process) -> Tensor:
        return knot_times(u, process, knots=self.knots)

    def fresh(self) -> Tensor:
        return torch.full((self.knots, self.losses), math.nan, dtype=torch.float64)

    def remembered(self, memory: Tensor, t: Tensor, losses: Tensor) -> Tensor:
        found = memory.clone()
        for knot, loss in zip((t * self.knots).round().long().tolist(), losses.double().tolist(), strict=True):
            found[knot - 1] = torch.cat([found[knot - 1, 1:], found.new_tensor([loss])])
        return found

    def chances(self, memory: Tensor) -> Tensor:
        """p(knot), float64 [knots] with sum 1: uniform until every knot has all its losses, and if all are 0."""
        even = torch.full((self.knots,), 1 / self.knots, dtype=torch.float64)
        if memory.isnan().any():
            return even
        root = memory.square().mean(1).sqrt()
        if not root.any():  # no loss is left anywhere
            return even
        return (1 - self.uniform) * root / root.sum() + self.uniform * even

    def weighted(self, u: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Knots t [B] by inverse CDF of u [B], and the weights 1/(knots p) [B] with which the loss is unbiased."""
        p = self.chances(memory)
        index = torch.searchsorted(p.cumsum(0), u.double().cpu(), right=True).clamp(max=self.knots - 1)
        return ((index + 1).double() / self.knots).to(u.device), (1 / (self.knots * p[index])).to(u.device)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="nichol2021iddpm",
    title="Improved Denoising Diffusion Probabilistic Models",
    authors="Alex Nichol, Prafulla Dhariwal",
    venue="ICML 2021",
    arxiv="2102.09672",
    code="openai/improved-diffusion",
    licence="MIT",
    samplers=(
        Sampler(
            id="nichol2021iddpm.ancestral",
            sample=sample,
            grid=even_subsequence,
            consumes="mean",
            path="discrete-cosine",
            needs=frozenset({"share"}),
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
        ),
        Sampler(
            id="nichol2021iddpm.official",
            sample=partial(sample, clip=1.0),  # clip_denoised, the default of image_sample.py
            grid=even_subsequence,
            consumes="mean",
            path="discrete-cosine",
            needs=frozenset({"share"}),
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_options={"clip": math.inf},
            reduces=(types.Reduction({"clip": math.inf}, "nichol2021iddpm.ancestral"),),
            variant=True,
        ),
    ),
    objectives=(
        Objective(
            id="nichol2021iddpm.hybrid",
            loss=hybrid_loss,
            minimiser="mean",
            path="discrete-cosine",
            times=knot_times,
            needs=frozenset({"share"}),
        ),
        Objective(
            id="nichol2021iddpm.bound",
            loss=bound_loss,
            minimiser="mean",
            path="discrete-cosine",
            times=knot_times,
            needs=frozenset({"share"}),
        ),
        Objective(
            id="nichol2021iddpm.bound_importance",  # how the paper trains L_vlb
            loss=bound_loss,
            minimiser="mean",
            path="discrete-cosine",
            times=Importance(),
            needs=frozenset({"share"}),
        ),
    ),
    likelihoods=(
        types.Likelihood(
            id="nichol2021iddpm.bound", log_prob=log_prob, kind="bound", consumes="mean", path="discrete-cosine",
            levels=256,
        ),
    ),
    parametrisations={"range": net_with_range, "log_variance": net_with_log_variance},
)
