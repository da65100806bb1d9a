"""Where a sampler asks its model: at the state that belongs to the time that it names."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from benchmarks.laws.conduct import call, entry, own_process, plain, random_grids, starts
from benchmarks.laws.specimens import around, rows, sampler
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, Sampler, expand

SINGLE = 4 * 2.0**-23  # four roundings in float32, relative: other libraries keep and invert their schedules in it


def asks_at_the_time_of_its_state(card: Sampler) -> None:
    """Data at one point m: every question (x', t') has x' = alpha_t' m + sigma_t'/sigma_t0 (x0 - alpha_t0 m).

    There the mean is m wherever it is asked, so that the end says nothing of the times: a sampler that asks at the end
    of its step passes for an exact one of first order. Of which row a question is, the sampler need not say (guidance
    asks in twice as many rows, caching in fewer): the nearest counts. State and time are believed
    to the digits of float32.

    Asked of deterministic samplers that are exact on delta: there a state at t' that is not on the solution is a
    defect. Others ask elsewhere by design (noise added anew, corrected or thresholded states, restarts, steps that are
    not exact for a constant mean) and do not claim this exactness.
    """
    process = own_process(card)

    @given(random_grids(process, card), st.floats(-2, 2))
    def holds(grid: Tensor, point: float) -> None:
        begin = entry(card, grid)
        x = starts(process, begin)
        alpha_0, sigma_0 = process.alpha(begin), process.sigma(begin)

        def solution(t: Tensor) -> Tensor:
            """Of each start at each of the times [Q]: [Q,B,1]."""
            alpha, sigma = (expand(f(t), x[None]) for f in (process.alpha, process.sigma))
            return alpha * point + sigma / sigma_0 * (x - alpha_0 * point)

        worst = (0.0, 0.0, 0.0, math.inf)  # excess, time, gap, bound

        def predict(y: Tensor, t: Any) -> Tensor:
            nonlocal worst
            times = torch.as_tensor(t, dtype=torch.float64, device=y.device).flatten().expand(y.shape[0])
            exact, reach = solution(times), 1 + x.abs().max() * torch.stack([
                process.alpha(times) / alpha_0, process.sigma(times) / sigma_0, torch.ones_like(times),
            ]).amax(0)  # fmt: skip
            gap, row = (y[:, None] - exact).abs().amax(2).min(1)
            moved = (solution(times * (1 + SINGLE)) - exact).abs().amax(2)
            bound = SINGLE * reach + moved.gather(1, row[:, None])[:, 0]
            found = zip((gap - bound).tolist(), times.tolist(), gap.tolist(), bound.tolist(), strict=True)
            worst = max(worst, *found, key=lambda each: math.inf if math.isnan(each[0]) else each[0])
            return torch.full_like(y, point)

        aids = {"process": process, "draws": Philox(3, 5, device()), **card.exact_options}
        call(card, Predictor("mean", predict), x, grid, **aids)
        _, time, gap, bound = worst
        assert gap <= bound, (
            f"point mass at {point:g}: asked at time {time:g} in a state {gap:.2e} off the one of that time "
            f"(tolerance {bound:.1e}) on {grid.tolist()}"
        )

    holds()


# ---- mutants -----------------------------------------------------------------------------------------------------
def _at_the_next_time(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, None]:
    return row.keep * x + row.pull * model(x, row.s), None


def _second_stage(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, None]:
    """Two stages, of which the second asks at the end of the step in the name of its start."""
    first = model(x, row.t)
    return row.keep * x + row.pull * (first + model(row.keep * x + row.pull * first, row.t)) / 2, None


def _errs_in_between(grid: Tensor, process: Any, eta: float) -> Any:
    """The last state but one is pulled too much and the last too little: on a point mass the end is exact."""
    right = rows(grid, process, eta)
    if len(right.pull) < 2:
        return right
    wrong, last = right.pull.clone(), right.keep[-1]
    wrong[-2:] += torch.stack([1e-4 / last, torch.full_like(last, -1e-4)])
    return right._replace(pull=wrong)


LAWS = (
    Law(
        name=asks_at_the_time_of_its_state.__name__,
        subject="sampler",
        check=asks_at_the_time_of_its_state,
        applies=lambda card: plain(card) and not card.stochastic and "delta" in card.exact_on,
        mutants={
            "asks_at_the_next_time": lambda: sampler(step=_at_the_next_time),
            "asks_the_second_stage_at_the_first_time": lambda: sampler(step=_second_stage, nfe=None),
            "rounds_times_to_thousandths": lambda: around(
                model=lambda inner: lambda x, t: inner(x, torch.as_tensor(t).mul(1000).round().div(1000).item())
            ),
            "errs_in_between_and_mends_it_at_the_end": lambda: sampler(rows=_errs_in_between),
        },
    ),
)
