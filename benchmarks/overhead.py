"""What a sampler costs beside its network: time per step with a model that returns a tensor made beforehand.

The anchor is the bare loop x = a x + b D in the same run, A B B A as in timing.py; a ratio to it holds on any machine.
One loop has two terms, the least that a solver can do, the other as many as the method combines in a step, counted from
the tensor operations it dispatches (of two step counts, so that the plan does not enter): for a method that forms each
new tensor by one product and accumulates into it, operations are terms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import peers, problems
from benchmarks.jobs import Job
from benchmarks.statistics import median_interval, paired_ratio
from benchmarks.timing import DeviceNoise, seconds_of
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.types import Predictor, Run

SHAPES = {"64x2": (64, 2), "64x1x8x8": (64, 1, 8, 8), "64x3x32x32": (64, 3, 32, 32)}
STEPS = 200
SECONDS = 0.3  # of measurement on each side; at least LEAST pairs, at most MOST
LEAST, MOST = 8, 24


def null_model(x: Tensor) -> Predictor:
    mean = torch.full_like(x, 0.5)
    return Predictor("mean", lambda *_: mean)


def runner(card: Any, x: Tensor, steps: int = STEPS, seed: int = 0, **options: Any) -> Callable[[], Run]:
    """One run with a null model on the card's own path and the lam grid; the plan is part of it, noise the device's."""
    path = processes.named(card.path)
    path = path.between(max(path.t_min, 1e-3), path.t_max if path.alpha(path.t_max) > 0 else 0.999 * path.t_max)
    grid, draws, model = grids.uniform_lam(steps, path), DeviceNoise(seed, x.device), null_model(x)
    return lambda: card.sample(model, x, grid, process=path, draws=draws, **options)


def bare_loop(x: Tensor, steps: int = STEPS, terms: int = 2) -> Callable[[], Tensor]:
    """x = a x + b D for two terms; each further one adds c D."""
    mean = torch.full_like(x, 0.5)
    rows = [(0.99, 0.01)] * steps

    def loop() -> Tensor:
        y = x
        for a, b in rows:
            y = a * y + b * mean
            for _ in range(terms - 2):
                y = y + b * mean
        return y

    return loop


class Operations(TorchDispatchMode):
    """Counts the operations whose result is of a state's size."""

    def __init__(self, entries: int):
        super().__init__()
        self.entries, self.count = entries, 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        found = function(*arguments, **(keywords or {}))
        if isinstance(found, Tensor) and found.numel() == self.entries and not function._schema.name.endswith("detach"):
            self.count += 1
        return found


def terms_of(card: Any, shape: tuple[int, ...] = (13, 17), **options: Any) -> float:
    """Tensor operations of a state's size per step, from the difference between 20 and 40 steps.

    shape: with more entries than any schedule of so many steps, so that none of its tensors is taken for a state.
    """
    counts = []
    for steps in (20, 40):
        work = runner(card, torch.ones(shape), steps, **options)
        with Operations(torch.Size(shape).numel()) as found:
            work()
        counts.append(found.count)
    return (counts[1] - counts[0]) / 20


@torch.inference_mode()
def measured(job: Job, device: torch.device) -> dict[str, Any]:
    """Values of an overhead job.

    ratio              seconds of the sampler over those of the two-term loop, median of the pairs
    ratio_same_terms   the same over the loop with as many terms as the method combines per step
    terms              that number
    microseconds_per_step, bare_microseconds_per_step    medians
    twin               of a peer: id of this suite's sampler of the same method, if there is one
    """
    card = problems.method_of(job.kind, job.method)
    x = torch.ones(SHAPES[job.shape], dtype=getattr(torch, job.dtype), device=device)
    terms = max(2, round(terms_of(card, **job.options)))
    ours, bare, same = runner(card, x, seed=job.seed, **job.options), bare_loop(x), bare_loop(x, terms=terms)
    sides = {"ours": ours, "bare": bare, "same": same}
    for work in sides.values():
        work()
    once = seconds_of(ours, device)
    pairs = max(LEAST, min(MOST, int(SECONDS / max(once, 1e-6))))
    pairs += pairs % 2
    found: dict[str, list[float]] = {name: [] for name in sides}
    begun = time.monotonic()
    for pair in range(pairs):
        for name in sides if pair % 2 == 0 else reversed(sides):
            found[name].append(seconds_of(sides[name], device))
        if pair % 2 and pair >= LEAST and time.monotonic() - begun > 10 * SECONDS:
            break
    twin = {"twin": peers.twins()[job.method]} if job.method in peers.twins() else {}
    return {
        **twin,
        "ratio": paired_ratio(found["ours"], found["bare"]),
        "ratio_same_terms": paired_ratio(found["ours"], found["same"]),
        "terms": terms,
        "steps": STEPS,
        "microseconds_per_step": median_interval([1e6 * each / STEPS for each in found["ours"]]),
        "bare_microseconds_per_step": median_interval([1e6 * each / STEPS for each in found["bare"]]),
    }
