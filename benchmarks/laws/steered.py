"""A textbook steered sampler and textbook path losses, and ways to break them: the mutants of the laws of controls.

The healthy specimens must pass every law that applies to them. The path is Euler's with drift -f x + g u; its work is
log of its law over that of the noising started from rho, both as products of the discrete kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.process import Process
from reference_impls.core.types import Objective, Run, Sampler, require

LOG_DENSITY = frozenset({"log_density"})


class Row(NamedTuple):
    t: Tensor
    dt: Tensor
    f: Tensor
    g: Tensor
    back: Tensor
    spread: Tensor


def rows(grid: Tensor, process: Process) -> list[Row]:
    """f, g of the noising at t and its exact kernel N(back x_s, spread^2) from s to t, as floats."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    alpha_rate, sigma_rate = process.rates(t)
    f, back = alpha_rate / process.alpha(t), process.alpha(t) / process.alpha(s)
    g = (2 * process.sigma(t) * (sigma_rate - f * process.sigma(t))).sqrt()
    spread = (process.sigma(t) ** 2 - (back * process.sigma(s)) ** 2).sqrt()
    return [Row(*numbers) for numbers in zip(*(c.tolist() for c in (t, t - s, f, g, back, spread)), strict=True)]


def log_normal(gap: Tensor, std: float) -> Tensor:
    return -(gap / std).flatten(1).square().sum(1) / 2 - gap.shape[1:].numel() * math.log(std * math.sqrt(2 * math.pi))


def kernel_ratio(x: Tensor, x_s: Tensor, mean: Tensor, row: Row) -> Tensor:
    """log of the generative kernel over the noising kernel, [B]."""
    return log_normal(x_s - mean, row.g * row.dt**0.5) - log_normal(x - row.back * x_s, row.spread)


def weighed_path(
    model: Any, x: Tensor, grid: Tensor, noise: Callable[[int], Tensor], *, process: Process, log_density: Any,
    follow: Callable = lambda u: u, ratio: Callable = kernel_ratio, prior: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Euler's path with the control follow(u), and its work [B]: log of its law over rho and the noising, at u."""
    work = prior * log_normal(x, process.prior_std)
    for i, row in enumerate(rows(grid, process)):
        u = model(x, row.t)
        drift = (1 - row.f * row.dt) * x
        x_s = drift + row.g * row.dt * follow(u) + row.g * row.dt**0.5 * noise(i)
        work = work + ratio(x, x_s, drift + row.g * row.dt * u, row)
        x = x_s
    return x, work - log_density(x)


def specimen(*, weight: Callable[[Tensor], Tensor] = torch.neg, **broken: Any) -> Sampler:
    """A healthy steered sampler with unbiased weights, or one with a part replaced."""

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, log_density: Any) -> Run:
        meter = require(model, "control", x.shape[0])
        end, work = weighed_path(
            meter, x, grid, lambda i: draws.at(i).normal("step", x), process=process, log_density=log_density, **broken
        )
        return Run(end, meter.nfe, 0.0, weight(work))

    return Sampler(
        id="specimen.steered", sample=sample, grid=grids.uniform_t, consumes="control", path="vp-10", needs=LOG_DENSITY,
        base="noising", unbiased=True, stochastic=True, weak_order=1.0, symmetric=frozenset({"rotation"}),
        nfe=lambda grid: grid.shape[0] - 1.0,
    )  # fmt: skip


def objective(reduce: str, *, of_rows: Callable[[Tensor], Tensor] = lambda loss: loss, **broken: Any) -> Objective:
    """A healthy path loss: the work along attached paths for the mean, along detached paths for the variance."""
    parts = {"follow": torch.Tensor.detach if reduce == "variance" else (lambda u: u)} | broken

    def loss(model: Any, x: Tensor, grid: Tensor, noise: Tensor, *, process: Any, log_density: Any) -> Tensor:
        path = weighed_path(model, x, grid, lambda i: noise[i], process=process, log_density=log_density, **parts)
        return of_rows(path[1])

    return Objective(
        id="specimen.work", loss=loss, minimiser="control", path="vp-10", reduce=reduce, needs=LOG_DENSITY,
        base="noising",
    )  # fmt: skip


def forgets_the_widths(x: Tensor, x_s: Tensor, mean: Tensor, row: Row) -> Tensor:
    """The two kernels without their normalising constants: no ratio of widths, which is the divergence in the limit."""
    return kernel_ratio(x, x_s, mean, row) - x.shape[1:].numel() * math.log(row.spread / row.g / row.dt**0.5)


def half_the_noise_term(x: Tensor, x_s: Tensor, mean: Tensor, row: Row) -> Tensor:
    return log_normal(x_s - mean, row.g * row.dt**0.5) / 2 - log_normal(x - row.back * x_s, row.spread)


def wide_noising_kernel(x: Tensor, x_s: Tensor, mean: Tensor, row: Row) -> Tensor:
    return log_normal(x_s - mean, row.g * row.dt**0.5) - log_normal(x - row.back * x_s, 1.5 * row.spread)


def adds_the_first_coordinate(x: Tensor, x_s: Tensor, mean: Tensor, row: Row) -> Tensor:
    return kernel_ratio(x, x_s, mean, row) + x.flatten(1)[:, 0]
