"""Super-resolution of pictures that an earlier stage of a cascade has made: no digit was seen through them.

The first stage knows the law of the 4x4 pictures of digits-superresolution exactly: 897 pictures of training digits,
each with the measurement's noise, 897 normal laws of deviation .2. It draws from it by DDIM on the cosine path,
    x_s = alpha_s D + sigma_s (x_t - alpha_t D) / sigma_t,  alpha = cos(pi t/2), sigma = sin(pi t/2), t = 1 .. 0
in N even steps, so few that its pictures are not quite of that law: at N = 5 they are drawn towards the mean and have
lost noise. The second stage takes them for pictures of digits. With many steps the two laws are one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from reference_impls.core.draws import Philox
from reference_impls.targets.atoms import Atoms
from reference_impls.targets.inverse import MEASUREMENT_SEED, AtomProblem, Rows, digits_superresolution

PICTURES = 900  # as many as there are held-out digits
STEPS = 5


@dataclass(frozen=True)
class MadeUp(AtomProblem):
    """A problem whose measurements were made and not measured: they have no truth, and no pairs to be tuned on."""

    truth: None = None
    reference: None = None

    def rows(self, index: Rows) -> MadeUp:
        return replace(self, measurement=self.measurement.rows(index))


def first_stage(law: Atoms, steps: int, count: int) -> Tensor:
    """[count,*D], float64: what DDIM makes of `count` keyed draws of unit normals by the exact denoiser of `law`."""
    x = Philox(MEASUREMENT_SEED, count).normal("first stage", torch.empty(count, *law.shape, dtype=torch.float64))
    angles = [math.pi / 2 * (1 - i / steps) for i in range(steps + 1)]
    for t, s in zip(angles, angles[1:], strict=False):
        mean = law.mean(x, math.cos(t), math.sin(t))
        x = math.cos(s) * mean + math.sin(s) / math.sin(t) * (x - math.cos(t) * mean)
    return x


def digits_cascade(steps: int = STEPS) -> AtomProblem:
    """900 pictures of a first stage of `steps` evaluations, to be enlarged as digits-superresolution's; its name."""
    real = digits_superresolution()
    small = replace(real.measurement, y=real.measurement.operator.forward(real.prior.atoms)).picture
    made = first_stage(Atoms("small digits", small, blur=real.measurement.noise_std), steps, PICTURES)
    return MadeUp(real.name, real.prior, replace(real.measurement, y=made.flatten(1)))


NAMED: dict[str, Callable[[], Any]] = {"digits-cascade": digits_cascade}
