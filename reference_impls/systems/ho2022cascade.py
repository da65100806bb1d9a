"""ho2022cascade - cascades: each stage enlarges the last one's image, seen through noise that hides its flaws.

Ho, Saharia, Chan, Fleet, Norouzi, Salimans, "Cascaded Diffusion Models for High Fidelity Image Generation", JMLR 2022,
arXiv:2106.15282; the later forms are those of Imagen (arXiv:2205.11487) and Imagen Video (arXiv:2210.02303).
Official code: deep-floyd/IF (DeepFloyd IF Licence, non-commercial; formulas only), an independent system of this kind.
Path        x_t = alpha_t x0 + sigma_t eps on the cosine chain of 1,000 betas (at most .999), t = i/1000; the code's
            index i is our t = (i+1)/1000, t = 0 is clean data. Any path works.
Loss        |eps_hat - eps|^2, mean over pixels, eps_hat = (x_t - alpha_t D)/sigma_t, D = D(x_t, t, low~, level);
            low~ = alpha_a up(low) + sigma_a z on the same chain, a = (int(1000 level) + 1)/1000, level ~ U(0,1); up is
            bilinear with aligned corners.
Step        low~ drawn anew (or once) at each step, apart for the unguided half; D = u + g (c - u), clipped to
            [-q, q]/q with q = the p-quantile of |D| in [1, c]; e = exp(-h), h = lam_s - lam_t;
            x_s = e sigma_s/sigma_t x_t + alpha_s (1 - e^2) D + std z, log std between log(sigma_s sqrt(1 - e^2)) and
            log(sigma_t sqrt(1 - e^2)) at the model's share. No noise is added on arrival at sigma_s = 0.
            "ddim": x_s = alpha_s D + sigma_s (x_t - alpha_t D)/sigma_t.
            A cascade runs its stages in turn; each one's end is the next one's low. The first has labels for its
            condition and no image (the code's stage I): its two halves are D(x_t, t, label) and D(x_t, t).
Cost        NFE = steps, 2 steps with guidance; of a cascade their sum weighed by pixels, sum_j nfe_j pixels_j/pixels.
            Weak order 1 ("ancestral"), order 1 ("ddim", its augmentation drawn once: another noise is another ODE).
Exact when  point mass. The minimiser is E[x0 | x_t, low~, a]. Linear Gaussian: two Gaussian observations, gain
            S H^T (H S H^T + R)^-1 with H = [I; A]; level -> 1 forgets low, level -> 0 forces A D = low.
Differs     The code noises up(low), Imagen's pseudo-code low itself [recall]: `small`. At level 0 the code noises by
            the chain's first knot (sigma .0064): so do we; level < 0 hands over up(low) as it is. It draws the
            augmentation anew at each call, so that cond and uncond halves see different images and even equal halves
            are guided by the difference of their noises; fixed=True draws it once, for both. The quantile is of D after
            guidance, per sample; c = 1 is plain clipping. Its lowest log variance at the chain's first index is that of
            the second, which no step uses. A learned share outside [0, 1] extrapolates, as in the code. It never
            reaches its branch that ends fast27 lower, for a table of names comes before: ours is the table's. Imagen
            Video has v instead of eps [recall]: both parametrisations are here. Either way the loss weighs D by
            (alpha_t/sigma_t)^2, 2e-9 at t = 1: what a network says of pure noise is hardly trained. On digits level .25
            narrows the gap between a first stage's pictures and real ones by costing more on the real ones; that a
            smaller level brings a cascade nearer to the data is open (claims ledger).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process, named
from reference_impls.core.types import (
    Conditional,
    Draws,
    Meter,
    Model,
    Noised,
    Objective,
    Paper,
    Reduction,
    Run,
    Sampler,
    Time,
    expand,
)

TRAINED = 1000  # length of the chain [code]
CHAIN = named("discrete-cosine")  # of the augmentation, whatever path the sampler takes [code]
GROUPS = {  # steps in equal parts of the chain, clean to noisy, under the code's names
    "fast27": (10, 10, 3, 2, 2),
    "smart27": (7, 4, 2, 1, 2, 4, 7),
    "smart50": (10, 6, 4, 3, 2, 2, 3, 4, 6, 10),
    "smart100": (1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10, 13),
    "smart185": (1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20),
    "super27": (1, 1, 1, 1, 1, 1, 1, 2, 5, 13),
    "super40": (2, 2, 2, 2, 2, 2, 3, 4, 6, 15),
    "super100": (4, 4, 6, 6, 8, 8, 10, 10, 14, 30),
}


def lifted(low: Tensor, like: Tensor) -> Tensor:
    """Images [B,C,h,w] at the size of `like` [..,H,W]: bilinear, corners on corners; all else as it is."""
    if low.ndim != 4 or low.shape[2:] == like.shape[2:]:
        return low
    return functional.interpolate(low, like.shape[2:], mode="bilinear", align_corners=True)


def knot(level: Tensor | float) -> Tensor | float:
    """The chain's time after int(1000 level) + 1 of its 1,000 steps; level in [0, 1)."""
    if isinstance(level, Tensor):
        return (level.double() * TRAINED).floor().clamp(max=TRAINED - 1) / TRAINED + 1 / TRAINED
    return (int(level * TRAINED) + 1) / TRAINED


def augmented(low: Tensor, like: Tensor, level: Tensor | float, noise: Tensor, label: Tensor | None = None) -> Noised:
    """low [B,c,h,w] enlarged to `like` and noised to `level` (float in [0, 1), or [B]) by unit normals like it."""
    t = knot(level)
    alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
    image = lifted(low.to(like.dtype), like)
    image = expand(alpha, image) * image + expand(sigma, image) * noise
    return Noised(image, alpha, sigma, partial(lifted, like=like), label)


class Labelled(NamedTuple):
    """What a stage is given: an image, if it is not the first, and the class that guidance is about, int64 [B]."""

    image: Tensor | None
    label: Tensor | None = None


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D + exp(log_low + share (log_high - log_low)) z
    pull: Tensor
    log_low: Tensor  # log of the standard deviation; -inf: no noise
    log_high: Tensor


def plan(grid: Tensor, process: Process, *, ddim: bool = False) -> Plan:
    """Coefficients of every step; ddim: the deterministic form."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    alpha_t, alpha_s = process.alpha(t), process.alpha(s)
    h = process.lam(s) - process.lam(t)
    ratio = process.sigma(s) / process.sigma(t)
    if ddim:
        silent = torch.full_like(t, -torch.inf)
        return Plan(t, ratio, alpha_s - alpha_t * ratio, silent, silent)
    fresh = -torch.expm1(-2 * h)  # r/sigma_t^2
    high = (process.sigma(t) ** 2 * fresh).log() / 2
    low = torch.where(process.sigma(s) > 0, high + ratio.log(), -torch.inf)
    keep = torch.exp(-h) * ratio
    return Plan(t, keep, alpha_s * fresh, low, torch.where(process.sigma(s) > 0, high, -torch.inf))


def thresholded(mean: Tensor, quantile: float, ceiling: float) -> Tensor:
    """Each sample clipped to its own q and divided by it: q = the quantile of its |values|, kept in [1, ceiling]."""
    if not mean.numel():
        return mean  # of an empty batch there is no quantile
    size = torch.quantile(mean.flatten(1).abs(), quantile, dim=1).clamp(1, ceiling)
    size = expand(size, mean)
    return mean.clamp(-size, size) / size


class Settings(NamedTuple):
    """What a step is told beside its row; see `sample`."""

    image: Tensor | None
    label: Tensor | None
    level: float
    fixed: bool
    guidance: float
    quantile: float
    ceiling: float
    share: float
    learned: bool
    small: bool = False


def seen(x: Tensor, draws: Draws, told: Settings, tag: str, label: Tensor | None) -> Any:
    """The condition of one call: the enlarged image, noised with the draw of this tag; without an image the label."""
    if told.image is None:
        return label
    size = told.image.to(x) if told.small else x
    image = lifted(told.image.to(x), size)
    if told.level < 0:
        return Noised(image, 1.0, 0.0, partial(lifted, like=size), label)
    return augmented(told.image, size, told.level, draws.normal(tag, image), label)


def cascade_step(
    x: Tensor, row: Plan, once: Noised | None, *, model: Meter, draws: Draws, told: Settings
) -> tuple[Tensor, Noised | None]:
    """One interval; memory is the condition if it is drawn once."""
    given = once if once is not None else seen(x, draws, told, "augment", told.label)
    share = told.share
    if told.learned:
        mean, share = model.given(given).with_share(x, row.t)
    else:
        mean = model.given(given)(x, row.t)
    if told.guidance != 1:
        free = once._replace(label=None) if once is not None else seen(x, draws, told, "augment-free", None)
        unguided = model if free is None else model.given(free)
        mean = torch.lerp(unguided(x, row.t), mean, told.guidance)
    if told.quantile > 0:
        mean = thresholded(mean, told.quantile, told.ceiling)
    x_s = torch.mul(x, row.keep).add_(mean, alpha=row.pull)
    if row.log_low == -torch.inf:
        return x_s, once
    spread = row.log_low + share * (row.log_high - row.log_low)
    noise = draws.normal("step", x)
    if isinstance(spread, Tensor):
        return x_s.addcmul_(noise, spread.exp()), once
    return x_s.add_(noise, alpha=math.exp(spread)), once


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, condition: Any, level: float = 0.25,
    fixed: bool = False, guidance: float = 1.0, quantile: float = 0.95, ceiling: float = 1.0, share: float = 0.0,
    learned: bool = False, ddim: bool = False, small: bool = False,
) -> Run:  # fmt: skip
    """One stage from grid[0] to grid[-1]. x [B,*D]; condition: low [B,c,h,w], Labelled(low, label), or labels [B].

    Labels alone, int64, are the first stage's, which has no image: level and fixed mean nothing to it.
    level .25 (stage II of the code; 0 in stage III; below 0: no noise at all), fixed: the augmentation is drawn once,
    guidance g (the code: 4 in stages II and III, 7 in I; our default 1 asks no unguided half), quantile .95 (0: no
    clipping), ceiling 1 (1.5 in stage I), share of the log variance from its lower bound 0 to its upper 1, or `learned`
    from the model's with_share; small: the image is noised at its own size. Raises ValueError for a level >= 1, a
    ceiling below 1, a quantile outside [0, 1], guidance or share that are not finite, a condition that x cannot have.
    """
    for name, value, wanted, holds in (
        ("level", level, "below 1 (0 is the chain's first knot, below 0 none)", level < 1),
        ("quantile", quantile, "in [0, 1], 0 for no clipping", 0 <= quantile <= 1),
        ("ceiling", ceiling, "at least 1, which is plain clipping", ceiling >= 1),
        ("guidance", guidance, "a finite number, 1 for none", math.isfinite(guidance)),
        ("share", share, "a finite number, 0 for the lower variance and 1 for the upper", math.isfinite(share)),
    ):
        if not holds:
            raise ValueError(f"{name}: {value!r}, expected {wanted}")
    image, label = _told(condition, x)
    told = Settings(image, label, level, fixed, guidance, quantile, ceiling, share, learned, small)
    rows = plan(grid, process, ddim=ddim)
    once = seen(x, draws, told, "augment", label) if fixed and image is not None else None
    tags = () if ddim else ("step",)
    return drive(rows, partial(cascade_step, told=told), model, x, draws=draws, memory=once, tags=tags)


def _told(condition: Any, x: Tensor) -> Labelled:
    """Image and label of a condition that x can have."""
    if isinstance(condition, Tensor):
        labels = condition.ndim == 1 and not condition.is_floating_point()
        condition = Labelled(None, condition) if labels else Labelled(condition)
    if not isinstance(condition, Labelled):
        what = "None" if condition is None else f"a {type(condition).__name__}"
        raise ValueError(f"condition: {what}, expected an image, Labelled(image, label) or labels int64 [B]")
    for part in condition:
        if part is not None and part.shape[0] != x.shape[0]:
            raise ValueError(f"condition: {part.shape[0]} rows, expected {x.shape[0]}, one for each row of x")
    image = condition.image
    if image is not None and image.ndim == x.ndim == 4 and image.shape[1] != x.shape[1]:
        raise ValueError(f"condition: an image of {image.shape[1]} channels, expected {x.shape[1]}, as x has")
    return condition


class Stage(NamedTuple):
    """One stage: run(model, x, grid, process=, draws=, [condition=]) at `shape` = [C,H,W]; the first takes no image."""

    run: Callable[..., Run]
    model: Model
    grid: Tensor
    process: Process
    shape: tuple[int, ...]


def cascade(stages: Sequence[Stage], like: Tensor, *, draws: Draws) -> list[Run]:
    """The stages in turn, each from its own noise and given the last one's end. like [B,..]: rows, dtype, device.

    Stage j draws at address (j,). The answer holds each stage's run; cost_of weighs them.
    """
    runs: list[Run] = []
    for j, stage in enumerate(stages):
        own = draws.at(j)
        x = own.normal("start", like.new_empty(like.shape[0], *stage.shape)) * stage.process.prior_std
        aids = {"condition": runs[-1].x} if runs else {}
        runs.append(stage.run(stage.model, x, stage.grid, process=stage.process, draws=own, **aids))
    return runs


def cost_of(runs: Sequence[Run]) -> float:
    """Evaluations weighed by pixels, in units of an evaluation at the last stage's size."""
    last = runs[-1].x.shape[1:].numel()
    return sum(run.nfe * run.x.shape[1:].numel() / last for run in runs)


def loss(
    model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, condition: Tensor,
    augmentation: tuple[Tensor, Tensor], augment: bool = True,
) -> Tensor:  # fmt: skip
    """Squared error of the noise, mean over pixels, [B]. condition: low [B,c,h,w].

    augmentation: uniforms [B] for the level and unit normals like x0; augment False: the image as it is, level none.
    """
    level, image_noise = augmentation
    if augment:
        given = augmented(condition, x0, level, image_noise)
    else:
        given = Noised(lifted(condition.to(x0), x0), 1.0, 0.0, partial(lifted, like=x0))
    mean = model.given(given)(process.noised(x0, t, noise), t)
    weight = (process.alpha(t) / process.sigma(t)) ** 2
    return weight.to(x0.device, x0.dtype) * (mean - x0).flatten(1).square().mean(1)


def chain_times(u: Tensor, process: Process) -> Tensor:
    """t uniform on the chain's 1,000 knots."""
    return (u * TRAINED).floor().clamp(max=TRAINED - 1) / TRAINED + 1 / TRAINED


def _parametrised(net: Any, process: Process, mean_of: Callable[..., Tensor]) -> Conditional:
    """net(x, 2t - 1, image, level) -> [B,*D] as a conditional mean; level: log(sigma/alpha)/4 of the image, -2 without.

    An image that is not Noised is enlarged and taken to have no noise.
    """

    def predict(x: Tensor, t: Time, condition: Any) -> Tensor:
        if condition is None:
            raise ValueError("condition: None, expected an image: the network always sees one")
        if not isinstance(condition, Noised):
            condition = Noised(lifted(condition.to(x), x), 1.0, 0.0, partial(lifted, like=x))
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        alpha, sigma = (torch.as_tensor(c, dtype=torch.float64) for c in (condition.alpha, condition.sigma))
        level = ((sigma / alpha).clamp(min=3.4e-4).log() / 4).expand(x.shape[0])  # e^-8: below any knot
        image = lifted(condition.image, x)  # one that was noised at its own size
        raw = net(x, (2 * rows - 1).to(x.device), image, level.to(x.device)).to(x.dtype)
        return mean_of(x, raw, expand(process.alpha(rows), x), expand(process.sigma(rows), x))

    return Conditional("mean", predict)


def from_eps(net: Any, *, process: Process) -> Conditional:
    """A network of the noise, as in the code: D = (x - sigma net)/alpha."""
    return _parametrised(net, process, lambda x, raw, alpha, sigma: (x - sigma * raw) / alpha)


def from_v(net: Any, *, process: Process) -> Conditional:
    """A network of v = alpha eps - sigma x0 on a path with alpha^2 + sigma^2 = 1: D = alpha x - sigma net."""
    return _parametrised(net, process, lambda x, raw, alpha, sigma: alpha * x - sigma * raw)


def grouped(name: str) -> Callable[[int, Process], Tensor]:
    """One of GROUPS as a grid; the steps asked for are its own sum, others and other names raise BadGrid."""
    if name not in GROUPS:
        raise grids.BadGrid(f"name: {name!r} is not known; expected one of {', '.join(GROUPS)}")

    def grid(steps: int, process: Process) -> Tensor:
        groups = GROUPS[name]
        if steps != sum(groups):
            raise grids.BadGrid(f"steps: {steps!r}, expected {sum(groups)}, the length of {name}; or use the grid t")
        return _times(indices_of(groups), process)

    return grid


def indices_of(groups: Sequence[int]) -> list[int]:
    """Indices kept of the chain: equal parts, in each a sum of equal strides, every sum rounded half to even [code]."""
    size, extra = divmod(TRAINED, len(groups))
    found, start = [], 0
    for i, count in enumerate(groups):
        length = size + (i < extra)
        stride = (length - 1) / (count - 1) if count > 1 else 1
        at = 0.0
        for _ in range(count):
            found.append(start + round(at))
            at += stride
        start += length
    return sorted(set(found))


def spread_indices(steps: int, process: Process) -> Tensor:
    """One part of so many steps: indices 0 .. 999 as evenly as they go, steps in 1..1000; any path with t_max = 1."""
    if steps not in range(1, TRAINED + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; for more use the grid t")
    return _times(indices_of((steps,)) if steps > 1 else [TRAINED - 1], process)


def _times(indices: Sequence[int], process: Process) -> Tensor:
    if process.t_max != 1:
        raise grids.BadGrid(f"grid: the chain ends at t = 1, but {process.name} at {process.t_max:g}; use the grid t")
    times = (torch.tensor([-1, *indices], dtype=torch.float64) + 1) / TRAINED
    return grids.checked(times.flip(0))


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="ho2022cascade",
    title="Cascaded Diffusion Models for High Fidelity Image Generation",
    authors="Jonathan Ho, Chitwan Saharia, William Chan, David J. Fleet, Mohammad Norouzi, Tim Salimans",
    venue="JMLR 2022",
    arxiv="2106.15282",
    code="deep-floyd/IF",
    licence="DeepFloyd IF Licence (non-commercial)",
    samplers=(
        Sampler(
            id="ho2022cascade.ancestral",
            sample=sample,
            grid=spread_indices,
            consumes="mean",
            path="discrete-cosine",
            needs=frozenset({"condition"}),
            condition="image",
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_options={"quantile": 0.0},
            exact_on=frozenset({"delta"}),
        ),
        Sampler(
            id="ho2022cascade.ddim",
            sample=partial(sample, ddim=True, fixed=True, quantile=0.0),
            grid=spread_indices,
            consumes="mean",
            path="discrete-cosine",
            needs=frozenset({"condition"}),
            condition="image",
            nfe=evaluations,
            order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"paths"}),
            reduces=(Reduction({}, "song2020ddim.ddim"),),
            variant=True,
        ),
    ),
    objectives=(
        Objective(
            id="ho2022cascade.loss",
            loss=loss,
            minimiser="mean",
            path="discrete-cosine",
            times=chain_times,
            needs=frozenset({"condition", "augmentation"}),
        ),
    ),
    parametrisations={"eps": from_eps, "v": from_v},
)
