"""Isotropic normal laws of the scales at which formulas are told apart: one point, narrow, unit, wide, nearly flat.

"point-4d" has the coordinates 1 and -1 and no variance; "normal-.04-8d", "normal-1-8d" and "normal-9-8d" are N(0, c I).
"flat-64d-guides" edits: 20 standard normal guides in 64 dimensions on a prior N(0, 1e8 I), whose score within a hundred
of the origin is below 1e-5: what an edit does there is all noise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide
from reference_impls.targets.editing import GUIDE_SEED, Editing
from reference_impls.targets.gaussian import Gaussian, isotropic

SCALES = {".04": 0.04, "1": 1.0, "9": 9.0}
FLAT = 1e8


def point() -> Gaussian:
    """The point mass at a checkerboard of 2 x 2 pixels, RMS coordinate 1."""
    return isotropic(torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64), 0.0, "point-4d")


def normal(written: str) -> Gaussian:
    """N(0, c I) in 8 dimensions, c one of SCALES as it is written."""
    return isotropic(torch.zeros(8, dtype=torch.float64), SCALES[written], f"normal-{written}-8d")


def flat_guides() -> Editing:
    """20 guides where the prior's score is nil."""
    prior = isotropic(torch.zeros(64, dtype=torch.float64), FLAT, "flat-64d")
    images = Philox(GUIDE_SEED, 20).normal("flat", torch.empty(20, 64, dtype=torch.float64))
    return Editing("flat-64d-guides", prior, Guide(images, None))


NAMED: dict[str, Callable[[], Any]] = {
    "point-4d": point,
    **{f"normal-{written}-8d": partial(normal, written) for written in SCALES},
    "flat-64d-guides": flat_guides,
}
