"""Other people's samplers as cards, so that the same laws, tables, plots and timings hold them (extra `peers`).

A module here adapts one library: CARDS are its samplers, OBJECTIVES its objectives if there are any, TWINS says which
of this suite's samplers are of the same method. A card's id is
<module>.<name>; it declares what the library's documentation claims of the method, no less and no more, so that a law
that fails is a finding. An adapter changes nothing of the library's arithmetic: it hands over the grid in the library's
own terms, the exact mean as the prediction that the library wants, and keyed normals wherever the library draws noise.
A library that is not installed is left out, and `missing` says so.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Meter, Objective, Run, Sampler, require


@cache
def modules() -> dict[str, Any]:
    """name -> adapter module, of every library that is installed."""
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names() if name not in missing()}


@cache
def names() -> tuple[str, ...]:
    return tuple(file.name for file in pkgutil.iter_modules(__path__))


LIBRARIES = {"k_diffusion": "k-diffusion"}  # where a distribution is not called like its module


def library_of(name: str) -> str:
    return LIBRARIES.get(name, name)


@cache
def missing() -> dict[str, str]:
    """name -> why, of the adapters whose library is not here."""
    found = {}
    for name in names():
        try:
            importlib.metadata.version(library_of(name))
        except importlib.metadata.PackageNotFoundError:
            found[name] = f"{library_of(name)} is not installed; `tox -e peers` brings it"
    return found


@cache
def samplers() -> dict[str, Sampler]:
    """id -> card of every installed peer."""
    return {card.id: card for module in modules().values() for card in module.CARDS}


@cache
def objectives() -> dict[str, Objective]:
    """id -> card of every installed peer's objective: for `trilemma check`."""
    return {card.id: card for module in modules().values() for card in getattr(module, "OBJECTIVES", ())}


@cache
def twins() -> dict[str, str]:
    """id of a peer's card -> id of this suite's sampler of the method that it is named after, to compare costs."""
    pairs = ((name, pair) for name, module in modules().items() for pair in getattr(module, "TWINS", {}).items())
    return {f"{name}.{theirs}": ours for name, (theirs, ours) in pairs}


def is_peer(id: str) -> bool:
    return id.partition(".")[0] in names()


def version_of(id: str) -> str:
    """Distribution and version behind a card."""
    library = library_of(id.partition(".")[0])
    return f"{library} {importlib.metadata.version(library)}"


class Keyed:
    """Hands out the normals of `draws` in the order in which they are asked for."""

    def __init__(self, draws: Draws):
        self.draws, self.count = draws, 0

    def normal(self, like: Tensor) -> Tensor:
        self.count += 1
        return self.draws.at(self.count - 1).normal("peer", like)


@contextmanager
def keyed(draws: Draws) -> Iterator[Keyed]:
    """While it lasts, torch.randn and torch.randn_like give the next normals of `draws`."""
    source = Keyed(draws)

    def randn(*shape: Any, dtype: Any = None, device: Any = None, **ignored: Any) -> Tensor:
        shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return source.normal(torch.empty(shape, dtype=dtype, device=device))

    def randn_like(like: Tensor, **ignored: Any) -> Tensor:
        return source.normal(like)

    with mock.patch("torch.randn", randn), mock.patch("torch.randn_like", randn_like):
        yield source


class Brownian:
    """Increments of one Brownian path per sample over noise levels that only go down, each scaled to variance 1.

    What a library's `noise_sampler(from, to)` gives where overlapping intervals must share their path: asked first for
    [a, m] and then for [a, b], the second is made of the first and a fresh normal over [m, b].
    """

    def __init__(self, source: Keyed, like: Tensor):
        self.source, self.like = source, like
        self.first, self.last, self.path = None, None, None

    def __call__(self, first: Any, last: Any) -> Tensor:
        first, last = float(first), float(last)
        if self.first is None or abs(first - self.first) > 1e-9 * first or last > self.last:
            self.first, self.last, self.path = first, first, torch.zeros_like(self.like)
        self.path = self.path + abs(self.last - last) ** 0.5 * self.source.normal(self.like)
        self.last = last
        return self.path / abs(first - last) ** 0.5


class Levels:
    """A grid as noise levels rho, and the model asked at a level with the state in the library's own scaling.

    scale: rho -> alpha of the library's path. Where that is the process's own, states are handed over as they are.
    """

    def __init__(self, model: Meter, grid: Tensor, process: Process, scale: Callable[[Tensor], Tensor]):
        grids.checked(grid)
        if process.alpha(grid[0].item()) <= 0:
            raise grids.BadGrid(f"grid: starts at {grid[0].item():g}, where alpha = 0 and there is no noise level")
        self.model, self.process, self.scale = model, process, scale
        self.rho = process.rho(grid)
        self.times = dict(zip(self.rho.tolist(), grid.tolist(), strict=True))
        own, alpha = scale(self.rho), process.alpha(grid)
        self.same = bool(((own - alpha).abs() <= 1e-12 * alpha).all())

    def stretch(self, rho: float) -> float:
        """The library's alpha over the process's."""
        if self.same:
            return 1.0
        own = self.scale(torch.tensor(rho, dtype=torch.float64)).item()
        return own / self.process.alpha(self.time(rho))

    def time(self, rho: float) -> float:
        """The grid's own time if it is one of the grid's levels up to float32, else the process's inverse."""
        near = min(self.times, key=lambda level: abs(level - rho))
        if abs(near - rho) <= 1e-6 * rho:
            return self.times[near]
        return self.process.time_of_logsnr(-float(torch.tensor(rho, dtype=torch.float64).log()))

    def mean(self, y: Tensor, rho: float) -> Tensor:
        """E[x0 | y] for a state in the library's scaling."""
        return self.model(y if self.same else y / self.stretch(rho), self.time(rho))

    def enter(self, x: Tensor) -> Tensor:
        return x if self.same else x * self.stretch(self.rho[0].item())

    def leave(self, y: Tensor) -> Tensor:
        return y if self.same else y / self.stretch(self.rho[-1].item())


def vp(rho: Tensor) -> Tensor:
    """alpha of a variance-preserving path at noise level rho."""
    return (1 + rho**2).rsqrt()


def ve(rho: Tensor) -> Tensor:
    return torch.ones_like(rho)


def card(
    id: str, go: Callable[..., Tensor], *, scale: Callable[[Tensor], Tensor], path: str, **traits: Any
) -> Sampler:
    """A card around go(levels, y, source, **options) -> y at the last level."""

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, **options: Any) -> Run:
        meter = require(model, "mean", x.shape[0])
        levels = Levels(meter, grid, process, scale)
        with keyed(draws) as source:
            y = go(levels, levels.enter(x), source, **options)
        return Run(levels.leave(y), meter.nfe, meter.vjps)

    traits.setdefault("grid", grids.uniform_lam)
    return Sampler(id=id, sample=sample, consumes="mean", path=path, **traits)
