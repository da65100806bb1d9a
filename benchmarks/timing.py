"""Seconds of a sampler against an anchor in the same run: the bare network evaluated as often, in alternation.

Times on a shared machine drift by tens of per cent within minutes, so a time alone says little; the ratio of two that
lie side by side says much. The order is A B B A A B B A ..: what drifts linearly cancels within a pair of pairs.
Nothing but the sampler is timed: start states are drawn, one run of each has passed, and noise is the device's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import problems
from benchmarks.jobs import Job
from benchmarks.statistics import median_interval, paired_ratio

PAIRS = 6  # at which the order statistics of the median cover 97 %


class DeviceNoise:
    """Draws from the device's own generator: for timing only, where keyed noise would be a part of the time."""

    def __init__(self, seed: int, device: torch.device):
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def at(self, *where: int) -> DeviceNoise:
        return self

    def normal(self, tag: str, like: Tensor) -> Tensor:
        return torch.empty_like(like).normal_(generator=self.generator)  # torch.randn itself may be lent to a peer

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64, device=self.device)

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        count = steps if isinstance(steps, int) else len(steps)
        return like.new_empty(count, *like.shape).normal_(generator=self.generator)


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall seconds of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def timed(job: Job, device: torch.device) -> dict[str, Any]:
    """Values of a timing job: the batch is job.n.

    ratio                     seconds of the sampler over seconds of the anchor, median of PAIRS pairs
    anchor_seconds_per_sample median; the anchor is ceil(nfe) evaluations of the network at the grid's times
    seconds_per_sample        the product of the two; samples_per_second its inverse
    """
    target = problems.target_of(job.target)
    process = problems.process_of(job.process, problems.letters_of(target))
    card = problems.method_of(job.kind, job.method)
    grid = problems.grid_of(job.grid, job.steps, card, process)
    model = problems.model_of(job, card, target, process, device)
    rows = range(job.n)
    like = problems.like_of(job, target, job.n, device)
    aids = problems.aids_of(card, job, target, rows, device)
    draws = problems.draws_of(job, rows, device)
    x = problems.start_of(job, card, target, process, grid, rows, draws, like, aids)
    run = lambda: card.sample(  # noqa: E731
        model, x, grid, process=process, draws=DeviceNoise(job.seed, device), **job.options, **aids
    )
    nfe = run().nfe  # the warm-up
    times = grid[:-1].tolist()
    calls = [times[k * len(times) // round(nfe)] for k in range(round(nfe))]

    def anchor() -> None:
        for t in calls:
            model(x, t)

    anchor()
    found: dict[str, list[float]] = {"A": [], "B": []}
    for pair in range(PAIRS):
        for which in "AB" if pair % 2 == 0 else "BA":
            found[which].append(seconds_of(anchor if which == "A" else run, device))
    return summary(found["B"], found["A"], job.n, nfe)


def summary(seconds: list[float], anchor: list[float], batch: int, nfe: float) -> dict[str, Any]:
    """The record's values from paired seconds of whole batches."""
    ratio = paired_ratio(seconds, anchor)
    each = median_interval([second / batch for second in anchor])
    return {
        "nfe": nfe,
        "batch": batch,
        "noise": "device",
        "ratio": ratio,
        "anchor_seconds_per_sample": each,
        "seconds_per_sample": ratio.estimate * each.estimate,
        "samples_per_second": 1 / (ratio.estimate * each.estimate),
    }
