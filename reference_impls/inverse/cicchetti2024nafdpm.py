"""cicchetti2024nafdpm - NAF-DPM: a first estimate of the clean image, then a short diffusion of what is left of it.

Cicchetti, Comminiello, "NAF-DPM: A Nonlinear Activation-Free Diffusion Probabilistic Model for Document Enhancement",
2024, arXiv:2404.05669. Official code: ispamm/NAF-DPM (MIT).
Path        r_t = alpha_t r + sigma_t eps, r = x0 - f(y), f the first network; chain of 100 betas, 1e-5 to .2: the
            code's index i is our t = (i+1)/100, t = 0 is clean data. Our state is x_t = r_t + alpha_t f = alpha_t x0
            + sigma_t eps: the residual's diffusion is the image's own, given y, from a start moved by alpha_t f, and
            its mean is f + E[r | r_t, y].
Loss        2 |H(D - x0)|^2 + |D - x0|^2 + 50/100 (|f - x0|^2 + 2 |(f - x0) - H(f - x0)|^2), means over pixels; H the
            Laplacian (8, around it -1), zeros outside; t uniform on the knots. AdamW 1e-4, weight decay 1e-4, average
            .9999 every 100 updates from 2,000 on. Fine-tuning adds a reader's loss of the restored image.
Step        D = f + net(x_t - alpha_t f, f);  x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) D: DDIM, in "first_order"
            (DPM-Solver++ of order 1) with D - f clipped to [-q, q] and divided by q/range, q the larger of the
            .995-quantile of |D - f| and the range, 1 in [0, 1]. The end is clipped to the range of the data.
Cost        NFE = steps + 1: the first estimate is an evaluation of the other network. Order 1.
Exact when  point mass. Without clipping both are the DDIM of the conditional mean; f = 0 leaves DDIM itself.
            H and identity are linear: the minimiser is E[x0 | x_t, y], that of f alone E[x0 | y].
Differs     r is not detached in the first two terms, so that they train f too; f as the network's input is. The fast
            solver is of first order and stops at t = 1/100, where the code returns it with the noise it still has
            (sigma .003); its network sees times ten times too large, (t - 1/100) 1000 instead of 100 (t - 1/100):
            `solver_labels` does the same. Its conversion for x0 subtracts batched images in a loop, to the same end.
            Its norms add 1e-3 to the variance in any dtype but float32, 1e-5 there, and here always. In test mode its
            nets pool over windows 1.5 times as wide as the first image that they see, whatever they were made for (1.5
            x 128 pixels): over the whole image, as here, unless a later one is larger than that. The code may also
            predict noise and sample DDPM ("fixedlarge"): ho2020ddpm. Images in [0, 1]; here [low, high].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import (
    Draws,
    Model,
    Objective,
    Paper,
    Predictor,
    Reduction,
    Run,
    Sampler,
    Time,
    expand,
    require,
)

TRAINED = 100  # length of the chain [code]
PIXEL_WEIGHT = 50.0  # BETA_LOSS, divided by the chain's length [code]
STRETCH = 1000 / TRAINED  # of the labels that the code's solver hands to its network


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D
    pull: Tensor


def plan(grid: Tensor, process: Process) -> Plan:
    """Coefficients of every step."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    pull = -process.alpha(s) * torch.expm1(process.lam(t) - process.lam(s))
    return Plan(t, process.sigma(s) / process.sigma(t), pull)


def thresholded(residual: Tensor, quantile: float, span: float) -> Tensor:
    """Each sample clipped to [-q, q] and divided by q/span: q the larger of span and the quantile of its |values|."""
    size = expand(torch.quantile(residual.flatten(1).abs(), quantile, dim=1).clamp(min=span), residual)
    return residual.clamp(-size, size) * (span / size)


def first_order(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, first: Tensor, quantile: float, span: float
) -> tuple[Tensor, None]:
    """One interval; first: f(y) [B,*D]."""
    mean = model(x, row.t)
    if quantile > 0 and mean.numel():  # of an empty batch there is no quantile
        mean = first + thresholded(mean - first, quantile, span)
    return torch.mul(x, row.keep).add_(mean, alpha=row.pull), None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    condition: Any,
    quantile: float = 0.995,
    share: float = 1.0,
    clip: bool = True,
    low: float = -1.0,
    high: float = 1.0,
) -> Run:
    """Restore from grid[0] to grid[-1]. x [B,*D]: the residual's noise; condition: what the model was trained to see.

    quantile .995 (0: no clipping of the residual), clip to [low, high] at the end: the code, whose range is [0, 1].
    share of the residual that is added to the first estimate: 1; 0 leaves the first estimate alone.
    The model has `first`. Raises ValueError for a quantile outside [0, 1] or low >= high, WrongKind without `first`.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile: {quantile!r}, expected in [0, 1]; 0 clips nothing, .995 is the code's")
    if not low < high:
        raise ValueError(f"low: {low!r}, expected below high = {high!r}, the range of the data")
    meter = require(model, "mean", x.shape[0])
    first = meter.first(condition).to(x)
    start, end = process.alpha(grid[0].item()), process.alpha(grid[-1].item())
    step = partial(first_order, first=first, quantile=quantile, span=high - low)
    run = drive(plan(grid, process), step, meter.given(condition), x + start * first, draws=draws)
    restored = first + share * (run.x - end * first) if share != 1 else run.x + (1 - end) * first
    return Run(restored.clamp(low, high) if clip else restored, meter.nfe)


def edges(x: Tensor) -> Tensor:
    """H x: 8 times each pixel less its eight neighbours, each channel of x [B,C,H,W] alone, zeros outside."""
    kernel = torch.full((3, 3), -1.0, dtype=x.dtype, device=x.device)
    kernel[1, 1] = 8.0
    return functional.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def restored(
    model: Any, x0: Tensor, t: Tensor, noise: Tensor, process: Process, condition: Any
) -> tuple[Tensor, Tensor]:
    """(f, D) of noised samples [B,C,H,W]; the state alpha_t x0 + sigma_t eps is r_t + alpha_t f."""
    first = model.first(condition).to(x0)
    return first, model.given(condition)(process.noised(x0, t, noise), t)


def loss_of(first: Tensor, mean: Tensor, x0: Tensor) -> Tensor:
    """Diffusion of the residual, whose error is D - x0, and pixels of the first estimate, both with edges; [B]."""
    error, flaw = mean - x0, first - x0
    residual = 2 * _mean_square(edges(error)) + _mean_square(error)
    return residual + PIXEL_WEIGHT / TRAINED * (_mean_square(flaw) + 2 * _mean_square(flaw - edges(flaw)))


def loss(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, condition: Any) -> Tensor:
    """The training loss, means over pixels, [B] (trainer.py)."""
    return loss_of(*restored(model, x0, t, noise, process, condition), x0)


def reading_loss(
    model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process, condition: Any,
    reader: Callable[[Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """The same plus reader(D): a loss of the text in the restored image, [B,*D] -> [B].

    finetune.py: CTC of a recogniser on the crops with text, in nats per letter, 0 where there are none.
    """
    first, mean = restored(model, x0, t, noise, process, condition)
    return loss_of(first, mean, x0) + reader(mean)


def _mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(1)


def chain_times(u: Tensor, process: Process) -> Tensor:
    """t uniform on the chain's 100 knots."""
    return ((u * TRAINED).floor().clamp(max=TRAINED - 1) + 1) / TRAINED


@dataclass(frozen=True)
class Residual:
    """Two networks as a conditional mean: D = f + second([x - alpha_t f, f], label), f = first(condition) [B,C,H,W].

    label: the chain's index 100 t - 1, times `stretch`. f as the network's input passes no gradient on [code].
    """

    net: Any
    process: Process
    stretch: float = 1.0
    kind: str = field(default="mean", init=False)

    def __call__(self, x: Tensor, *times: Time) -> Tensor:
        raise ValueError("condition: None, expected an image to restore: there is no unconditional model")

    def first(self, condition: Tensor) -> Tensor:
        return self.net.first(condition)

    def given(self, condition: Tensor) -> Predictor:
        first = self.first(condition)

        def predict(x: Tensor, t: Time) -> Tensor:
            f = first.to(x.dtype)
            rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64, device=x.device)
            noisy = x - expand(self.process.alpha(rows), x) * f
            label = self.stretch * (TRAINED * rows - 1)
            return f + self.net.second(torch.cat([noisy, f.detach()], dim=1), label).to(x.dtype)

        return Predictor("mean", predict)


def residual(net: Any, *, process: Process, solver_labels: bool = False) -> Residual:
    """net: a pair (first, second), see Residual. solver_labels: times as the code's fast solver passes them."""
    return Residual(net, process, STRETCH if solver_labels else 1.0)


def knots(steps: int, process: Process) -> Tensor:
    """Times evenly spaced from 1 to 1/100, where the code's solver ends; a path with t_max = 1, any steps >= 1."""
    if process.t_max != 1:
        raise grids.BadGrid(f"grid: the chain ends at t = 1, but {process.name} at {process.t_max:g}; use the grid t")
    return grids.checked(1 - (1 - 1 / TRAINED) * grids.fractions(steps))


def whole_chain(steps: int, process: Process) -> Tensor:
    """Indices floor(100 i/steps) as times and then clean data: every knot at the code's 100 steps; steps in 1..100."""
    if process.t_max != 1:
        raise grids.BadGrid(f"grid: the chain ends at t = 1, but {process.name} at {process.t_max:g}; use the grid t")
    if steps not in range(1, TRAINED + 1):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED} on the trained chain; use the grid t for more")
    at = (torch.arange(1, steps + 1) * TRAINED) // steps
    return torch.cat([torch.zeros(1, dtype=torch.float64), at.double() / TRAINED]).flip(0)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0])


UNCLIPPED = {"quantile": 0.0, "clip": False}
_CARD = dict(
    consumes="mean",
    path="discrete-linear-100",
    needs=frozenset({"condition"}),
    condition="image",
    nfe=evaluations,
    order=1.0,
    exact_options=UNCLIPPED,
    exact_on=frozenset({"delta"}),
    reduces=(Reduction(UNCLIPPED, "song2020ddim.ddim"),),
)

PAPER = Paper(
    key="cicchetti2024nafdpm",
    title="NAF-DPM: A Nonlinear Activation-Free Diffusion Probabilistic Model for Document Enhancement",
    authors="Giordano Cicchetti, Danilo Comminiello",
    venue="arXiv 2024",
    arxiv="2404.05669",
    code="ispamm/NAF-DPM",
    licence="MIT",
    samplers=(
        Sampler(id="cicchetti2024nafdpm.first_order", sample=sample, grid=knots, **_CARD),
        Sampler(id="cicchetti2024nafdpm.ddim", sample=partial(sample, quantile=0.0), grid=whole_chain, **_CARD),
    ),
    objectives=(
        Objective(
            id="cicchetti2024nafdpm.loss",
            loss=loss,
            minimiser="mean",
            path="discrete-linear-100",
            times=chain_times,
            needs=frozenset({"condition"}),
        ),
        Objective(
            id="cicchetti2024nafdpm.reading_loss",
            loss=reading_loss,
            minimiser="mean",
            path="discrete-linear-100",
            times=chain_times,
            needs=frozenset({"condition", "reader"}),
        ),
    ),
    parametrisations={"residual": residual},
)
