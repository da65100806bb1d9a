"""The one sampling loop: walk the rows of a plan, metering the model and addressing the noise by step."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor

from reference_impls.core.types import Draws, Kind, Meter, Model, Run, require

CHUNK_BYTES = 64 * 2**20  # noise drawn ahead in one block never takes more than this


class Ahead:
    """The draws of the step that is under way: tags drawn ahead are looked up, all others pass through."""

    __slots__ = ("draws", "step", "blocks", "first")

    def __init__(self, draws: Draws):
        self.draws, self.step, self.blocks, self.first = draws, 0, {}, 0

    def at(self, *where: int) -> Draws:
        return self.draws.at(self.step, *where)

    def normal(self, tag: str, like: Tensor) -> Tensor:
        block = self.blocks.get(tag)
        return self.draws.at(self.step).normal(tag, like) if block is None else block[self.step - self.first]

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        return self.draws.at(self.step).uniform(tag, shape)

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        return self.draws.at(self.step).block(steps, tag, like)


def rows_of(plan: NamedTuple) -> list[Any]:
    """The plan's columns (float64 [steps]) as one row of python numbers per step."""
    return [type(plan)._make(row) for row in zip(*(column.tolist() for column in plan), strict=True)]


PREPARING: ContextVar[bool] = ContextVar("preparing", default=False)


class Ready(Exception):
    """Carries a loop out of a sampler that is only being prepared."""

    def __init__(self, loop: Callable[[Model, Tensor, Draws], Run]):
        self.loop = loop


def prepared(
    sample: Callable[..., Run], model: Model, x: Tensor, grid: Tensor, *, process: Any, draws: Draws, **options: Any
) -> Callable[[Model, Tensor, Draws], Run]:
    """What is left of a sampler once its schedule mathematics is done: (model, x, draws) -> Run, for any x like this.

    To be compiled or captured into a CUDA graph, and run many times. For samplers that are one call of `drive` and
    nothing else: work before it (the inversion of a guide, a choice, noise of a known region) is left out or stays that
    of this x, and so is an end step after it. Raises TypeError for a sampler that has a loop of its own.
    """
    token = PREPARING.set(True)
    try:
        sample(model, x, grid, process=process, draws=draws, **options)
    except Ready as ready:
        return ready.loop
    finally:
        PREPARING.reset(token)
    raise TypeError("sample: walks in a loop of its own, expected one that ends in a call of core.drive")


def drive(
    plan: NamedTuple,
    step: Callable[..., tuple[Tensor, Any]],
    model: Model,
    x: Tensor,
    *,
    draws: Draws,
    consumes: Kind = "mean",
    memory: Any = None,
    tags: tuple[str, ...] = (),
) -> Run:
    """Apply step(x, row, memory, model=, draws=) -> (x, memory) for each row of the plan.

    x: [B,*D], never written to. consumes: the kind of model the step calls; raises WrongKind otherwise.
    tags: normal draws of x's shape that every step takes; they are drawn for many steps at once.
    In step i, draws.normal(tag, like) is the draw at address (i,) and draws.at(j) the address (i, j).
    """
    rows = rows_of(plan)

    def loop(model: Model, x: Tensor, draws: Draws) -> Run:
        return walk(rows, step, require(model, consumes, x.shape[0]), x, draws=draws, memory=memory, tags=tags)

    if PREPARING.get():
        raise Ready(loop)
    return loop(model, x, draws)


def walk(
    rows: list[Any], step: Callable[..., tuple[Tensor, Any]], meter: Meter, x: Tensor, *, draws: Draws, memory: Any,
    tags: tuple[str, ...],
) -> Run:  # fmt: skip
    """The loop itself: nothing in it depends on a tensor's value, so that it compiles into one graph."""
    ahead = Ahead(draws)
    chunk = max(1, CHUNK_BYTES // max(1, x.numel() * x.element_size() * len(tags))) if tags else max(1, len(rows))
    for first in range(0, len(rows), chunk):
        here = range(first, min(first + chunk, len(rows)))
        ahead.first, ahead.blocks = first, {tag: draws.block(here, tag, x) for tag in tags}
        for ahead.step, row in zip(here, rows[here.start : here.stop], strict=True):
            x, memory = step(x, row, memory, model=meter, draws=ahead)
    return Run(x, meter.nfe, meter.vjps, None, memory)
