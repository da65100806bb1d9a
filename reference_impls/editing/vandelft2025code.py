"""vandelft2025code - CODE: invert a corrupted image along the flow ODE, clip it to what noise allows, mend the latent.

van Delft, Martorella, Alahi, "CODE: Confident Ordinary Differential Editing", AAAI 2025, arXiv:2408.12418.
Official code: vita-epfl/CODE (MIT).
Path        x_t = alpha_t x0 + sigma_t eps on the linear chain of 1,000 betas at t = i/1000. The grid's levels with
            t > 0, counted from the cleanest, are the code's grid index j = 0 .. L; its 200 levels are (5j + 1)/1000.
            The image x is at level 0 (it carries that level's noise); a last time 0 is clean data, only decoded to.
Loss        none of its own: the denoiser of any paper.
Step        Encode, j = 0 .. L-1: for j > stop clip x to +-(alpha_j + c sigma_j); DDIM from t_j up to t_{j+1}.
            Correct the latent j = L: K rounds, each N // K times x + e s + sqrt(2 e) z, s = (alpha D - x)/sigma^2, and
            once x + e s; then e is multiplied by .8. e = epsilon 100^((n-1-j)/(n-1)) of n levels.
            Decode: DDIM from t_L down to t_0, and on to clean data if the grid ends there.                    [alg. 1]
            DDIM from u to w, either way: (sigma_w/sigma_u) (x - alpha_u D) + alpha_w D.
Cost        NFE = 2 L + K (N // K) + K for each corrected latent, one more if the grid ends at 0; `official` 901
            on its 199 levels. Stochastic by the correction only.
Exact when  no correction and no clipping: a point mass comes back exactly on any grid, the round trip of Gaussian data
            is first order, the latent tends to the exact flow's. The correction's stationary variance on Gaussian data,
            v the marginal's, is v/(1 - e/(2v)), stable for e < 2v. |x0| <= 1: a pixel of x_t is clipped with
            probability at most 2 Phi(-c). c = inf is no clipping; clipping twice is clipping once. What comes back is
            what the denoiser knows: not an image off the atoms whose exact denoiser is asked.
Differs     The code clips at the alpha-bar of the grid index j where it should take that of the level's index in the
            chain, 5 j: far too tight below the middle (`bound_at_index`; j = 50 of 200: 1.280 for 1.898). With clipping
            on it decodes from the top of the grid, whatever latent is corrected (`deepest`). Its decoding goes on at
            index 0, whose "previous" is index 1: the result is one level too noisy (`climb`). Algorithm 1 as printed
            has a minus before the score, its equation 1 and the code a plus (`printed_sign`). The last update of a
            round uses the raw network output where all others threshold D; a round of one step evaluates and does not
            move (less than one a round is refused here). The image gets .01 noise twice in the notebook (`renoise`),
            once in the trainer, unscaled by alpha: our start puts it at level 0. The notebook corrects two latents
            (`corrected`) in 250 steps, the text has 200 and 300; thresholding (`threshold`) is on in both; clipping is
            on in the trainer, off in the notebook. Options that are the code's are off by default; the notebook's for
            latent 200 together are `official`. The code's switches that clip while correcting or decoding, or scale
            epsilon by 1/sigma, are off in both: not here. Of four samples the paper keeps the nearest to the clean
            image: an oracle, not done here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Guide, Model, Paper, Reduction, Run, Sampler

TRAINED, SPACING = 1000, 5  # length of the training chain; the official grid has every fifth of its levels
QUANTILE, MOST = 0.98, 1.3  # of dynamic thresholding [code]
NOTEBOOK = dict(  # what differs from the text, for latent 200
    steps=250, corrected=2, above=1, confidence=math.inf, bound_at_index=True, threshold=True, climb=True, renoise=0.01
)  # fmt: skip
TEXT = dict(
    steps=200, corrected=1, above=0, confidence=1.7, bound_at_index=False, threshold=False, climb=False, renoise=0.0
)  # fmt: skip
COUNTS = {  # option -> its least value and what it is
    "steps": (0, "the noisy updates of a latent; 0 leaves it as it is"),
    "rounds": (1, "of one step size each; 1 keeps the size"),
    "corrected": (1, "the latents to correct; steps = 0 without closing corrects none"),
    "deepest": (0, "the index of the highest of them; 0 is the noisiest level"),
    "shallowest": (0, "the index of the lowest of them"),
    "above": (0, "levels of the whole grid above this one; 0 if it is whole"),
    "stop": (0, "the last index that is not clipped"),
}
SIZES = {  # option -> what it is
    "epsilon": "the step size, finite",
    "shrink": "what the step size is multiplied by after a round, finite",
    "renoise": "the standard deviation of a second noise, finite; 0 is none",
    "confidence": "standard deviations of noise; inf does not clip",
}


class Plan(NamedTuple):
    t: Tensor
    bound: Tensor  # x is clipped to +-bound before it is used; inf: not at all
    squash: Tensor  # 1 where D is thresholded
    grow: Tensor  # x' = x + grow x + pull D + noise z: of a correction's grow 1 + grow would keep few digits in float32
    pull: Tensor
    noise: Tensor


def levels(grid: Tensor) -> Tensor:
    """The grid's times but a last 0, from the cleanest to the noisiest."""
    rising = grids.checked(grid).flip(0)
    return rising[1:] if rising[0] == 0 else rising


def ddim(u: Tensor, w: Tensor, process: Process, *, bound: Tensor | None = None, threshold: bool = False) -> Plan:
    """Rows from the times u to the times w, in either direction."""
    keep = process.sigma(w) / process.sigma(u)
    free, flag = torch.full_like(u, math.inf), torch.full_like(u, float(threshold))
    pull = process.alpha(w) - process.alpha(u) * keep
    return Plan(u, free if bound is None else bound, flag, keep - 1, pull, torch.zeros_like(u))


def confidence_bound(t: Tensor, process: Process, confidence: float) -> Tensor:
    """alpha_t + c sigma_t: a pixel of x_t with |x0| <= 1 lies within it with probability Phi(c) - Phi(-c) or more."""
    return process.alpha(t) + confidence * process.sigma(t)


def langevin(
    t: Tensor, process: Process, epsilon: float, *, steps: int, rounds: int, shrink: float, closing: bool,
    threshold: bool, printed_sign: bool,
) -> Plan:  # fmt: skip
    """Rows of the annealed correction at time t (0-dimensional): rounds x (steps // rounds noisy, one noise-free)."""
    each = steps // rounds
    size, noisy, raw = [], [], []
    for k in range(rounds):
        moves = each > 1  # the code's `if steps > 1`
        size += [epsilon * shrink**k * moves] * each + [epsilon * shrink**k] * closing
        noisy += [1.0] * each + [0.0] * closing
        raw += [0.0] * each + [1.0] * closing
    e, noisy, raw = (torch.tensor(column, dtype=torch.float64) for column in (size, noisy, raw))
    drift = (-1 if printed_sign else 1) * e / process.sigma(t) ** 2
    times, flag = t.expand_as(e), (1 - raw) * float(threshold)
    free = torch.full_like(e, math.inf)
    return Plan(times, free, flag, -drift, drift * process.alpha(t), noisy * (2 * e).sqrt())


def _refuse(steps: int, rounds: int, options: Mapping[str, Any]) -> None:
    """ValueError for a value that an option cannot have."""
    for name, (least, meaning) in COUNTS.items():
        if not isinstance(options[name], int) or options[name] < least:
            raise ValueError(f"{name}: {options[name]!r}, expected a whole number from {least}, {meaning}")
    for name, meaning in SIZES.items():
        if not 0 <= options[name] <= math.inf or (name != "confidence" and options[name] == math.inf):
            raise ValueError(f"{name}: {options[name]!r}, expected a number from 0, {meaning}")
    if 0 < steps < rounds:
        raise ValueError(f"steps: {steps!r}, expected 0 or rounds = {rounds} at least; a round has steps // rounds")


def corrections(count: int, corrected: int, deepest: int, shallowest: int) -> list[int]:
    """Indices of the latents to correct among levels 0 .. count-1, as the code spreads them."""
    top = deepest or count - 1
    if not isinstance(deepest, int) or not 0 <= deepest < count:
        raise ValueError(f"deepest: {deepest!r}, expected the index of one of {count} levels, or 0 for the noisiest")
    if corrected == 1 or top + 1 <= shallowest + corrected:
        return [top]
    spread = torch.linspace(shallowest, top, corrected, dtype=torch.float64)
    return sorted({int(j + 1e-9) for j in spread.tolist()}, reverse=True)


def plan(
    grid: Tensor, process: Process, *, confidence: float, stop: int, bound_at_index: bool, climb: bool, threshold: bool,
    corrected: int, deepest: int, shallowest: int, above: int, epsilon: float, rounds: int, **correction: Any,
) -> Plan:  # fmt: skip
    """Every row of encoding, correcting and decoding; options as in `sample`. Raises ValueError, BadGrid."""
    lowest_first = levels(grid)
    count = lowest_first.shape[0]
    if process.sigma(lowest_first[0].item()) <= 0:
        raise grids.BadGrid(f"grid: its lowest level {lowest_first[0].item():g} has sigma = 0, expected noise or t = 0")
    if climb and count < 2:
        raise grids.BadGrid("grid: one level with noise, expected two: climb goes from the lowest to the one above it")
    places = (torch.arange(count, dtype=torch.float64) + 1) / TRAINED if bound_at_index else lowest_first
    bound = confidence_bound(places, process, confidence)
    bound[: stop + 1] = math.inf  # with stop = 0 the image itself is not clipped
    parts = [ddim(lowest_first[:-1], lowest_first[1:], process, bound=bound[:-1], threshold=threshold)]
    at, whole = corrections(count, corrected, deepest, shallowest), max(1, count + above - 1)
    for j in range(count - 1, -1, -1):
        here = lowest_first[j : j + 1]
        if j in at:
            size = epsilon * 100 ** ((whole - j) / whole)
            parts.append(langevin(here[0], process, size, rounds=rounds, threshold=threshold, **correction))
        below = lowest_first[j - 1 : j] if j else lowest_first[1:2] if climb else grid[-1:][grid[-1:] == 0]
        parts.append(ddim(here[: below.shape[0]], below, process, threshold=threshold))
    return Plan(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def thresholded(mean: Tensor) -> Tensor:
    """D clipped to [-s, s] and divided by s, s the 98 % quantile of its absolute values within [1, 1.3], per sample."""
    if mean.shape[0] == 0:
        return mean
    s = mean.flatten(1).abs().quantile(QUANTILE, dim=1).clamp(1, MOST).reshape(-1, *[1] * (mean.ndim - 1))
    return torch.minimum(torch.maximum(mean, -s), s).div_(s)


def code_step(x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """One row: clip, evaluate, threshold, move."""
    if row.bound < math.inf:
        x = x.clamp(-row.bound, row.bound)
    mean = model(x, row.t)
    if row.squash:
        mean = thresholded(mean)
    moved = torch.add(x, x, alpha=row.grow).add_(mean, alpha=row.pull)
    return (moved.add_(draws.normal("step", x), alpha=row.noise) if row.noise > 0 else moved), None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    guide: Guide,
    steps: int = 200,
    epsilon: float = 1.15e-5,
    rounds: int = 4,
    shrink: float = 0.8,
    closing: bool = True,
    corrected: int = 1,
    deepest: int = 0,
    shallowest: int = 20,
    above: int = 0,
    confidence: float = 1.7,
    stop: int = 0,
    bound_at_index: bool = False,
    threshold: bool = False,
    climb: bool = False,
    printed_sign: bool = False,
    renoise: float = 0.0,
) -> Run:
    """CODE: x [B,*D], the image at the grid's lowest level t > 0, to its correction at grid[-1].

    guide: not looked at, x is the image. steps N 200, rounds K 4, shrink .8, confidence c 1.7: the paper's text;
    epsilon 1.15e-5: the notebook. closing: the noise-free update of a round. corrected, shallowest: how many latents
    are corrected and where the lowest of them is, spread up to index `deepest` (0: the top). above: how many levels the
    whole grid has above this one, for the scale of epsilon. stop: up to this index nothing is clipped; 0 in the
    trainer. bound_at_index, threshold, climb, printed_sign, renoise (the image's second noise): see Differs. Raises
    ValueError, BadGrid.
    """
    options = dict(
        confidence=confidence, stop=stop, bound_at_index=bound_at_index, climb=climb, threshold=threshold,
        corrected=corrected, deepest=deepest, shallowest=shallowest, above=above, epsilon=epsilon, rounds=rounds,
        steps=steps, shrink=shrink, closing=closing, printed_sign=printed_sign,
    )  # fmt: skip
    _refuse(steps, rounds, {**options, "renoise": renoise})
    rows = plan(grid, process, **options)
    if renoise > 0:
        x = x.add(draws.normal("again", x), alpha=renoise)
    return drive(rows, code_step, model, x, draws=draws, tags=("step",))


def start_at_the_lowest_level(
    draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]
) -> Tensor:
    """alpha_0 g + sigma_0 z at the grid's lowest level with noise, [B,*D]: on the chain g + .01 z to 5e-5."""
    image = aids["guide"].image.to(like.device, like.dtype).expand_as(like)
    return process.noised(image, levels(grid)[0].item(), draws.normal("start", like))


def fifth_levels(steps: int, process: Process) -> Tensor:
    """Times evenly spaced from .996 t_max down to .001 t_max: with 199 steps the official 200 levels."""
    top = (TRAINED - SPACING + 1) / TRAINED
    return grids.uniform_t(steps, process.between(process.t_max / TRAINED, process.t_max * top))


def evaluations(grid: Tensor) -> float:
    """With the defaults: 200 steps in 4 rounds."""
    return 2.0 * (levels(grid).shape[0] - 1) + 204 + float(grid[-1] == 0)


def notebook_levels(steps: int, process: Process) -> Tensor:
    """The lower steps + 1 levels of fifth_levels(steps + 1): with 198 steps the notebook's for latent 200."""
    return fifth_levels(steps + 1, process)[1:]


def notebook_evaluations(grid: Tensor) -> float:
    """With 250 steps in 4 rounds at each latent, and the way up at the end."""
    count = levels(grid).shape[0]
    return 2.0 * (count - 1) + 252 * len(corrections(count, 2, 0, 20)) + 1


PAPER = Paper(
    key="vandelft2025code",
    title="CODE: Confident Ordinary Differential Editing",
    authors="Bastien van Delft, Tommaso Martorella, Alexandre Alahi",
    venue="AAAI 2025",
    arxiv="2408.12418",
    code="vita-epfl/CODE",
    licence="MIT",
    samplers=(
        Sampler(
            id="vandelft2025code.code",
            sample=sample,
            grid=fifth_levels,
            consumes="mean",
            path="discrete-linear",
            start=start_at_the_lowest_level,
            needs=frozenset({"guide"}),
            nfe=evaluations,
            stochastic=True,
        ),
        Sampler(
            id="vandelft2025code.official",
            sample=partial(sample, **NOTEBOOK),
            grid=notebook_levels,
            consumes="mean",
            path="discrete-linear",
            start=start_at_the_lowest_level,
            needs=frozenset({"guide"}),
            nfe=notebook_evaluations,
            stochastic=True,
            reduces=(Reduction(TEXT, "vandelft2025code.code"),),
            variant=True,
        ),
    ),
)
