"""The exact output law of an affine sampler, without Monte Carlo: one run whose rows carry one unit impulse each.

On Gaussian data the denoiser is linear, and a sampler that neither adapts nor clips is affine in its start and in every
normal it draws: x_end = m + sum_j c_j z_j. A first run on a `Recorder` lists the normals, a second one on `Impulses`
puts row j at z_j = 1 and reads off every c_j at once. Mean and covariance follow with the error of rounding alone, so a
law may compare them with the target's at any tolerance and never raises a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.laws import device
from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws

Place = tuple[int, int, str]  # where[0] or 0, where[1] or 0, tag: equal places are equal normals
WITNESSES = 2  # rows that carry random numbers at every place, to show that the map is affine


class OutputLaw(NamedTuple):
    """Of the flattened output [d]: mean [d], covariance [d,d], and on how many normals (start included) it rests."""

    mean: Tensor
    covariance: Tensor
    impulses: int


class Recorder:
    """Draws of zeros that note every place a run takes normals from, and how many per sample, in order of first use."""

    def __init__(self, where: tuple[int, ...] = (), sizes: dict[Place, int] | None = None):
        self.where, self.sizes = where, {} if sizes is None else sizes

    def at(self, *where: int) -> Recorder:
        return Recorder((*self.where, *where), self.sizes)

    def normal(self, tag: str, like: Tensor) -> Tensor:
        size = like[0].numel()
        found = self.sizes.setdefault(place(self.where, tag), size)
        assert found == size, f"draws: {tag!r} at {self.where} has {size} numbers per sample here and {found} before"
        return torch.zeros_like(like)

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        raise AssertionError(f"draws: a uniform {tag!r} at {self.where}, expected an affine sampler: normals only")

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        return _stacked(self, steps, tag, like)


class Impulses:
    """Draws whose row b holds values[b,j] at the j-th normal of the list, counted over `sizes` in order."""

    def __init__(self, values: Tensor, sizes: dict[Place, int], where: tuple[int, ...] = ()):
        self.values, self.sizes, self.where = values, sizes, where
        self.firsts = dict(zip(sizes, _running(sizes.values()), strict=True))

    def at(self, *where: int) -> Impulses:
        there = object.__new__(Impulses)
        there.__dict__ = self.__dict__ | {"where": (*self.where, *where)}
        return there

    def normal(self, tag: str, like: Tensor) -> Tensor:
        here = place(self.where, tag)
        assert here in self.firsts, f"draws: {tag!r} at {self.where} was not drawn before: the run depends on its noise"
        first = self.firsts[here]
        return self.values[:, first : first + self.sizes[here]].to(like).reshape(like.shape)

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        raise AssertionError(f"draws: a uniform {tag!r} at {self.where}, expected an affine sampler: normals only")

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        return _stacked(self, steps, tag, like)


def place(where: tuple[int, ...], tag: str) -> Place:
    return (*(*where, 0, 0)[:2], tag)


def _running(sizes) -> list[int]:
    firsts, total = [], 0
    for size in sizes:
        firsts.append(total)
        total += size
    return firsts


def _stacked(draws: Draws, steps: int | range, tag: str, like: Tensor) -> Tensor:
    span = steps if isinstance(steps, range) else range(steps)
    return torch.stack([draws.at(i).normal(tag, like) for i in span]) if span else like.new_empty(0, *like.shape)


def output_law(run: Callable[[Tensor, Draws], Tensor], mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of run(x, draws) for x ~ N(mean, variance) of shape [B,1]; see output_moments."""
    law = output_moments(run, torch.tensor([mean], dtype=torch.float64, device=device()), variance**0.5)
    return law.mean.item(), law.covariance.item()


def output_moments(
    run: Callable[[Tensor, Draws], Tensor], mean: Tensor, factor: Tensor | float = 1.0, *, tolerance: float = 1e-11
) -> OutputLaw:
    """The law of run(x, draws) when x = mean + factor z with z ~ N(0, I) and draws are standard normals.

    run: (x float64 [B,*D], draws) -> [B,*D] for any B, affine in x and in its draws. mean: float64 [*D]. factor: a
    standard deviation, or [d,r] for correlated starts. tolerance: of the check that the map is affine, on two rows of
    random numbers everywhere, relative to the largest output and to 1. Raises AssertionError.
    """
    shape = mean.shape
    factor = factor if isinstance(factor, Tensor) else factor * torch.eye(mean.numel()).to(mean)
    recorder = Recorder()
    run(mean[None].clone(), recorder)
    starts = factor.shape[1]
    total = starts + sum(recorder.sizes.values())
    witnesses = Philox(0, WITNESSES).normal("witness", torch.empty(WITNESSES, total, dtype=torch.float64))
    values = torch.cat([torch.zeros(1, total), torch.eye(total), witnesses]).to(mean)
    x = (mean.flatten() + values[:, :starts] @ factor.T).reshape(-1, *shape)
    out = run(x, Impulses(values[:, starts:], recorder.sizes)).flatten(1)
    columns = out[1 : total + 1] - out[0]
    gap = (out[total + 1 :] - out[0] - values[total + 1 :] @ columns).abs().max().item()
    allowed = tolerance * max(1.0, out.abs().max().item())
    assert gap <= allowed, f"run: {gap:.3g} away from an affine map of its noise, expected at most {allowed:.3g}"
    return OutputLaw(out[0], columns.T @ columns, total)
