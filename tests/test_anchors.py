"""Regression numbers of the suite's design: errors on G3 and output variances, measured before any file was written.

Tolerances are the rounding of the printed digits: 6 % for two digits, 1 % where the table was computed to more.
"""

import math

import pytest
import torch

from benchmarks.laws.accuracy import errors_against_the_flow, relative_variance_error
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox

SAMPLERS = catalogue.samplers()
VP = process.named("vp-linear").between(0.05, 0.9)

A1 = {  # largest error over 9 starts, vp-linear .9 -> .05, lam grid, at 64 and 512 steps
    "lipman2022fm.euler": (2.1e-2, 2.8e-3),
    "lipman2022fm.heun": (2.9e-4, 5.3e-6),
    "karras2022edm.heun": (2.9e-4, 5.3e-6),
    "song2020ddim.ddim": (8.4e-2, 1.0e-2),
    "lu2022dpmsolverpp.2m": (1.6e-3, 2.5e-5),
}
A2 = {  # RMS error over 64 quantiles of p_80, ve-edm 80 -> .002, at 6, 12, 24, 36, 60 evaluations
    ("song2020ddim.ddim", "power(7)"): (0.376, 0.198, 0.105, 6.78e-2, 3.93e-2),
    ("song2020ddim.ddim", "lam"): (0.400, 0.206, 0.111, 7.20e-2, 4.10e-2),
    ("karras2022edm.heun", "power(7)"): (2.55, 0.417, 9.31e-2, 3.73e-2, 1.20e-2),
    ("karras2022edm.heun", "lam"): (3.76, 0.551, 0.127, 5.88e-2, 1.54e-2),
    ("lu2022dpmsolverpp.2m", "power(7)"): (0.280, 0.113, 2.43e-2, 1.00e-2, 3.45e-3),
    ("lu2022dpmsolverpp.2m", "lam"): (0.166, 5.07e-2, 1.44e-2, 6.69e-3, 2.49e-3),
}
A3 = {  # relative variance error on N(0, .25), vp-linear .9 -> .05, lam grid, at 8 .. 256 steps
    "song2020ddim.ddim": (-2.8e-1, -1.5e-1, -7.8e-2, -4.0e-2, -2.0e-2, -1.0e-2),
    "song2020ddim.stochastic": (-4.4e-1, -2.6e-1, -1.5e-1, -7.7e-2, -3.9e-2, -2.0e-2),
    "ho2020ddpm.ancestral": (-4.4e-1, -2.6e-1, -1.5e-1, -7.7e-2, -3.9e-2, -2.0e-2),
    "ho2020ddpm.ancestral_large": (4.1e-1, 1.9e-1, 9.1e-2, 4.4e-2, 2.2e-2, 1.1e-2),
}


@pytest.mark.parametrize("id", A1)
def test_error_on_vp_at_64_and_512_steps(id):
    found = [errors_against_the_flow(SAMPLERS[id], VP, grids.uniform_lam, steps) for steps in (64, 512)]
    assert found == pytest.approx(A1[id], rel=0.06)


def endpoint_error(id: str, grid: str, evaluations: int) -> float:
    path, g3 = process.named("ve-edm"), targets.named("g3")
    levels = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    x = g3.flow(torch.special.ndtri(levels)[:, None], 0.0, 1.0, 1.0, 80.0)
    card = SAMPLERS[id]
    per_step = card.nfe(grids.uniform_t(1, path))
    times = grids.named(grid)(round(evaluations / per_step), path)
    options = {"lower_order_final": False} if id == "lu2022dpmsolverpp.2m" else {}
    result = card.sample(exact_model(path), x, times, process=path, draws=Philox(0, 64), **options)
    assert result.nfe == evaluations
    return (result.x - g3.flow(x, 1.0, 80.0, 1.0, 0.002)).square().mean().sqrt().item()


@pytest.mark.parametrize(("id", "grid"), A2)
def test_endpoint_error_from_sigma_80(id, grid):
    found = [endpoint_error(id, grid, evaluations) for evaluations in (6, 12, 24, 36, 60)]
    assert found == pytest.approx(A2[id, grid], rel=0.01)


@pytest.mark.parametrize("id", A3)
def test_variance_error_on_gaussian_data(id):
    found = [relative_variance_error(SAMPLERS[id], VP, grids.uniform_lam(2**k, VP), 0.25) for k in range(3, 9)]
    assert found == pytest.approx(A3[id], rel=0.06)
    assert all(math.copysign(1, a) == math.copysign(1, b) for a, b in zip(found, A3[id], strict=True))
