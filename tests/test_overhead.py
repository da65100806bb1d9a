"""Time per step of the driver beside a bare loop, side by side (pytest-benchmark; not a gate: asv tracks the ratio).

Alone: ``python -m pytest tests/test_overhead.py``; under xdist the benchmarks run once and time nothing.
"""

import pytest
import torch

from benchmarks.speed.samplers import SHAPES, bare_loop, means, runner


@pytest.mark.benchmark(group="200 steps of 64x2 float32")
def test_bare_loop(benchmark):
    result = benchmark(bare_loop(SHAPES["64x2"]))
    assert torch.isfinite(result).all()


@pytest.mark.benchmark(group="200 steps of 64x2 float32")
@pytest.mark.parametrize("id", means())
def test_sampler(benchmark, id):
    result = benchmark(runner(id, SHAPES["64x2"]))
    assert torch.isfinite(result.x).all() and result.nfe >= 200
