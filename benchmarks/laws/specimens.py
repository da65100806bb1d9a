"""A textbook first-order sampler and a textbook squared-error objective, and ways to break them: the laws' mutants.

The healthy specimen must pass every law that applies to it; each mutant differs from it in one place.
It solves the reverse SDE with a constant mean over each interval: x_s = keep x_t + pull D + noise z.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.types import Objective, Run, Sampler, expand


class Rows(NamedTuple):
    t: Tensor
    s: Tensor
    keep: Tensor
    pull: Tensor
    noise: Tensor


def rows(grid: Tensor, process: Any, eta: float) -> Rows:
    """eta in [0,1]: the noise knob of the reverse SDE (0 the flow ODE, 1 the time reversal)."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    h = process.lam(s) - process.lam(t)
    damped = torch.where(h.isinf(), 0.0, (-eta * h).exp()) if eta else torch.ones_like(h)
    return Rows(
        t,
        s,
        process.sigma(s) / process.sigma(t) * damped,
        -process.alpha(s) * torch.expm1(-(1 + eta) * h),
        process.sigma(s) * (-torch.expm1(-2 * eta * h)).sqrt() if eta else torch.zeros_like(h),
    )


def step(x: Tensor, row: Rows, memory: Any, *, model: Any, draws: Any, tag: str = "step") -> tuple[Tensor, Any]:
    x_s = row.keep * x + row.pull * model(x, row.t)
    return (x_s + row.noise * draws.normal(tag, x) if row.noise else x_s), None


def sample(
    model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, eta: float = 0.0,
    rows: Callable = rows, step: Callable = step,
) -> Run:  # fmt: skip
    return drive(rows(grid, process, eta), step, model, x, draws=draws)


HEALTHY = Sampler(
    id="specimen.exponential",
    sample=sample,
    grid=grids.uniform_lam,
    consumes="mean",
    path="vp-linear",
    nfe=lambda grid: grid.shape[0] - 1.0,
    order=1.0,
    exact_on=frozenset({"delta"}),
    symmetric=frozenset({"rotation", "paths"}),
)
HEALTHY_NOISY = replace(
    HEALTHY,
    id="specimen.exponential_noisy",
    sample=partial(sample, eta=1.0),
    order=None,
    stochastic=True,
    weak_order=1.0,
)


def sampler(*, noisy: bool = False, **changes: Any) -> Sampler:
    """The specimen with the plan (rows), the step, the whole sample or a declared trait replaced."""
    card = HEALTHY_NOISY if noisy else HEALTHY
    inner = {key: changes.pop(key) for key in ("rows", "step") if key in changes}
    if inner:
        changes["sample"] = partial(card.sample, **inner)
    return replace(card, id="specimen.mutant", **changes)


def scaled(field: str, factor: Callable[[Tensor, Any, float], Any]) -> Callable:
    """A plan in which one column is multiplied by factor(grid, process, eta)."""

    def changed(grid: Tensor, process: Any, eta: float) -> Rows:
        right = rows(grid, process, eta)
        return right._replace(**{field: getattr(right, field) * factor(grid, process, eta)})

    return changed


def around(*, model: Callable | None = None, state: Callable | None = None, before: Callable | None = None,
           noisy: bool = False, **traits: Any) -> Sampler:  # fmt: skip
    """The specimen with a function around its model, around every new state, or run before it starts."""

    def changed_step(x: Tensor, row: Rows, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, Any]:
        x_s, memory = step(x, row, memory, model=around_model(model), draws=draws)
        return (state(x_s) if state else x_s), memory

    around_model = model or (lambda inner: inner)

    def changed(inner: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
        if before:
            inner, x, grid = before(inner, x, grid)
        return sample(inner, x, grid, step=changed_step, eta=1.0 if noisy else 0.0, **aids)

    return sampler(noisy=noisy, sample=changed, **traits)


def squared_error(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Any) -> Tensor:
    """Squared error of the mean divided by sigma^2, [B]."""
    error = model(process.noised(x0, t, noise), t) - x0
    return (error / expand(process.sigma(t), x0)).flatten(1).square().mean(1)


OBJECTIVE = Objective(
    id="specimen.squared_error",
    loss=squared_error,
    minimiser="mean",
    path="vp-linear",
    times=lambda u, process: process.t_min + u.double() * (process.t_max - process.t_min),
)


def objective(loss: Callable[..., Tensor]) -> Objective:
    return replace(OBJECTIVE, id="specimen.mutant", loss=loss)


SQRT2 = math.sqrt(2)
