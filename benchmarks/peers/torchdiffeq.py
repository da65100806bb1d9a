"""Solvers of rtqichen/torchdiffeq (MIT), with which torchcfm samples: dx/dt = u(x, t) along a list of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchdiffeq
from torch import Tensor

from reference_impls.core import convert, grids
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Run, Sampler, require


def _card(name: str, stages: float | None, *, options: dict[str, Any] | None = None, **traits: Any) -> Sampler:
    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, **tolerances: float) -> Run:
        meter = require(model, "mean", x.shape[0])
        grids.checked(grid)
        if process.sigma(grid[-1].item()) <= 0:
            raise grids.BadGrid(f"grid: ends at {grid[-1].item():g}, where sigma = 0 and the velocity of a mean is 0/0")

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            t = t.item()
            terms = process.alpha(t), process.sigma(t), *process.rates(t)
            return convert.velocity_of_mean(x, meter(x, t), *terms)

        times = grid if stages else grid[[0, -1]]
        ends = torchdiffeq.odeint(velocity, x, times.to(x.device), method=name, options=options, **tolerances)
        return Run(ends[-1], meter.nfe, meter.vjps)

    def adaptive(
        model: Any, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, rtol: float = 1e-5, atol: float = 1e-5
    ) -> Run:
        return sample(model, x, grid, process=process, draws=draws, rtol=rtol, atol=atol)

    cost: Callable[[Tensor], float] | None = None if stages is None else lambda grid: stages * (grid.shape[0] - 1)
    return Sampler(
        id=f"torchdiffeq.{name}", sample=sample if stages else adaptive, grid=grids.uniform_t, consumes="mean",
        path="condot", nfe=cost, **traits,
    )  # fmt: skip


CARDS = (
    _card("euler", 1.0, order=1.0, exact_on=frozenset({"delta"})),
    _card("midpoint", 2.0, order=2.0),
    _card("heun2", 2.0, order=2.0),
    _card("rk4", 4.0, order=4.0, known_failures={
        "order_is_as_declared": "the slopes fall from 4.5 towards 4 and come within .08 of each other at rounding only"
    }),
    _card("dopri5", None, per_sample=False),  # one step size for the batch
)
TWINS = {
    "euler": "lipman2022fm.euler",
    "midpoint": "lipman2022fm.midpoint",
    "heun2": "lipman2022fm.heun",
    "dopri5": "lipman2022fm.dopri5",
}
