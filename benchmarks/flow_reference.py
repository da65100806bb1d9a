"""The exact flow, for errors of deterministic samplers: in closed form where the target has it, else by brute force.

The brute force is Heun's method on the power(7) grid with REFERENCE_STEPS steps; its own error is estimated against
half as many. In xt = x/alpha the probability flow of every Gaussian path is d xt/d rho = (xt - D)/rho, which is what
is stepped; where alpha(t_max) = 0 the first interval is stepped in t.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks import problems
from benchmarks.jobs import Job
from reference_impls import targets
from reference_impls.core import convert, grids

REFERENCE_STEPS = 2000
FINAL_STEPS = 32  # of those that follow from t_min to 0, evenly in rho, on grids that end at 0
WITH_SIGNAL = 0.999  # of t_max, where alpha(t_max) = 0: the first interval is [t_max, .999 t_max]


def is_closed(target: Any) -> bool:
    return callable(getattr(target, "flow", None))


def reference_job(job: Job) -> Job:
    """The job whose answer is the exact flow of `job`'s start states to its last time; shared by all methods."""
    first, last = problems.span_of(job)
    process = problems.process_of(job.process)
    name = job.process
    if first != process.t_max or last not in (0.0, process.t_min):
        low = last or min(process.t_min, first / 2)
        name = f"{job.process.partition('[')[0]}[{low},{first}]"
    return Job(
        kind="reference", method="flow", target=job.target, process=name, steps=REFERENCE_STEPS,
        grid="power(7)" if last > 0 else "power(7)_to_zero", n=job.n, shards=job.shards, seed=job.seed, start="exact",
    )  # fmt: skip


def starts(job: Job, device: torch.device) -> list[Tensor]:
    """The shards' exact start states in the job's dtype."""
    target, process = problems.target_of(job.target), problems.process_of(job.process)
    first, _ = problems.span_of(job)

    def of(rows: range) -> Tensor:
        draws, like = problems.draws_of(job, rows, device), problems.like_of(job, target, len(rows), device)
        return problems.exact_start(target, process, first, draws, like)

    return [of(rows) for rows in job.rows()]


def closed_ends(job: Job) -> list[Tensor]:
    """End states of the closed flow, float64, from the job's own (rounded) start states."""
    target, process = problems.target_of(job.target), problems.process_of(job.process)
    before, after = (problems.levels(process, t) for t in problems.span_of(job))
    return [target.flow(x.double(), *before, *after) for x in starts(job, torch.device("cpu"))]


def flowed(target: Any, process: Any, x: Tensor, steps: int, to_zero: bool) -> Tensor:
    """Heun's method from t_max to t_min in `steps` steps, on to 0 where asked. x [B,*D] float64 at t_max."""
    model = targets.exact(target, process)
    t = process.t_max
    if process.alpha(t) <= 0:
        x, t = _step_in_t(model, process, x, t, WITH_SIGNAL * t), WITH_SIGNAL * t
    grid = grids.power(7.0)(steps, process.between(process.t_min, t))
    times, rhos = grid.tolist(), process.rho(grid).tolist()
    scaled = x / process.alpha(t)

    def slope(scaled: Tensor, t: float, rho: float) -> Tensor:
        return (scaled - model(process.alpha(t) * scaled, t)) / rho

    if to_zero:
        last = rhos[-1]
        tail = [last * (1 - k / FINAL_STEPS) for k in range(1, FINAL_STEPS + 1)]
        rhos += tail
        times += [process.between(0.0, t).time_of_logsnr(-float(torch.tensor(rho).log())) for rho in tail[:-1]] + [0.0]
    for i in range(len(times) - 1):
        h = rhos[i + 1] - rhos[i]
        here = slope(scaled, times[i], rhos[i])
        ahead = scaled + h * here
        # at rho = 0 the slope rho E[eps] vanishes where the target has a density or is atoms and x is on one
        there = slope(ahead, times[i + 1], rhos[i + 1]) if rhos[i + 1] > 0 else torch.zeros_like(here)
        scaled = scaled + h / 2 * (here + there)
    return scaled * process.alpha(times[-1])


def _step_in_t(model: Any, process: Any, x: Tensor, t: float, s: float) -> Tensor:
    def velocity(x: Tensor, t: float) -> Tensor:
        return convert.velocity_of_mean(x, model(x, t), process.alpha(t), process.sigma(t), *process.rates(t))

    here = velocity(x, t)
    return x + (s - t) / 2 * (here + velocity(x + (s - t) * here, s))


def ends(job: Job, device: torch.device) -> dict[str, Tensor]:
    """x, coarse: end states [n,*D] with all steps and with half of them. job: a reference job."""
    target, process = problems.target_of(job.target), problems.process_of(job.process)
    whole = torch.cat(starts(job, device))
    to_zero = job.grid.endswith("_to_zero")
    return {
        "x": flowed(target, process, whole, job.steps, to_zero),
        "coarse": flowed(target, process, whole, job.steps // 2, to_zero),
    }
