"""What a sampler costs beside its network: evaluations, overhead per step against a bare loop, seconds, peak memory.

The methods are those of the catalogue that need nothing but a mean; the model returns a tensor made beforehand, so that
all time measured is the sampler's own. One torch thread, as in a worker.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.overhead import SHAPES, STEPS, bare_loop, runner
from reference_impls import catalogue, targets
from reference_impls.core import process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Run


def means() -> list[str]:
    """Ids of the fixed-grid samplers of means on Gaussian paths that need no aid and walk from noise to data.

    Further forms of a method cost what it costs and are left out.
    """
    return [
        id
        for id, card in catalogue.samplers().items()
        if card.consumes == "mean"
        and not card.needs
        and not card.variant
        and card.nfe
        and card.walks == "down"
        and "gaussian" in card.defined_on
    ]


def run_of(id: str, shape: tuple[int, ...], steps: int = STEPS) -> Callable[[], Run]:
    """One run of a sampler with a null model on its own path, on the lam grid, in float32."""
    return runner(catalogue.samplers()[id], torch.ones(shape), steps)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def overhead_ratio(id: str, shape: tuple[int, ...], pairs: int = 40) -> float:
    """Median over alternating pairs of (sampler's time)/(bare loop's time), the sampler's plan included."""
    ours, bare = run_of(id, shape), bare_loop(torch.ones(shape))
    with torch.inference_mode():
        ours(), bare()
        return statistics.median(seconds(ours) / seconds(bare) for _ in range(pairs))


class Samplers:
    params = (means(), list(SHAPES))
    param_names = ("sampler", "state")
    number, repeat, warmup_time = 1, 10, 0.0
    timeout = 300

    def setup(self, id: str, state: str) -> None:
        torch.set_num_threads(1)
        self.run = run_of(id, SHAPES[state])

    def time_run(self, id: str, state: str) -> None:
        self.run()

    def peakmem_run(self, id: str, state: str) -> None:
        self.run()

    def track_overhead_ratio(self, id: str, state: str) -> float:
        return overhead_ratio(id, SHAPES[state], 10 if state == "64x3x32x32" else 40)

    track_overhead_ratio.unit = "times the bare loop"

    def track_nfe_20_steps(self, id: str, state: str) -> float:
        return run_of(id, SHAPES[state], 20)().nfe

    track_nfe_20_steps.unit = "evaluations per sample"


class ExactDenoisers:
    """Where the analytic suites spend their time: one evaluation of a target's exact mean on 256 float64 rows."""

    params = (["g3", "product-2d", "product-64d", "mixture-2d", "digits"],)
    param_names = ("target",)

    def setup(self, name: str) -> None:
        torch.set_num_threads(1)
        target = targets.named(name)
        like = torch.empty(256, *target.shape, dtype=torch.float64)
        self.x = target.sample(Philox(0, 256), like) + 0.5 * Philox(1, 256).normal("noise", like)
        self.model = targets.exact(target, process.named("ve-edm"))
        self.model(self.x, 0.5)

    def time_mean(self, name: str) -> None:
        self.model(self.x, 0.5)


class Noise:
    """Keyed noise beside the device's own generator: 64 x 64 normals, and 200 steps of 64 x 2 in one block."""

    def setup(self) -> None:
        torch.set_num_threads(1)
        self.draws, self.large, self.small = Philox(0, 64), torch.empty(64, 64), torch.empty(64, 2)

    def time_normal(self) -> None:
        self.draws.at(3).normal("step", self.large)

    def time_block(self) -> None:
        self.draws.block(STEPS, "step", self.small)
