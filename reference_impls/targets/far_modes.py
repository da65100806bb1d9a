"""Modes in the plane so far apart that only noise decides between them: local dynamics cannot find their weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from reference_impls.targets.mixtures import Mixture


def unequal_pair() -> Mixture:
    """N(-5, I/4) of weight .2, N(5, I/4) of weight .8 in the plane: Song & Ermon 2019, figure 3, but narrower."""
    centres = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    return Mixture("unequal-pair-2d", weights, centres, torch.eye(2, dtype=torch.float64).repeat(2, 1, 1) / 4)


def ring() -> Mixture:
    """Eight equal modes of standard deviation .3 on a circle of radius 4: total variance 16.18."""
    angles = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    centres = 4 * torch.stack([angles.cos(), angles.sin()], 1)
    return Mixture("ring-2d", weights, centres, 0.09 * torch.eye(2, dtype=torch.float64).repeat(8, 1, 1))


NAMED: dict[str, Callable[[], Mixture]] = {"unequal-pair-2d": unequal_pair, "ring-2d": ring}
