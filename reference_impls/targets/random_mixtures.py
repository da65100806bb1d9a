"""Twenty seeded Gaussian mixtures in two dimensions, for claims about "most" targets: gmm-2d-00 .. gmm-2d-19.

Four components each: weights proportional to uniforms on (.5, 1.5), means N(0, I), axes exp(N(-1.2, .5^2)), any
direction; all drawn with Philox under the target's number, so that they are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from reference_impls.core.draws import Philox
from reference_impls.targets.mixtures import Mixture

COUNT, COMPONENTS = 20, 4


def random_mixture(number: int) -> Mixture:
    """The mixture with this number."""
    draws, pairs = Philox(number, COMPONENTS), torch.empty(COMPONENTS, 2, dtype=torch.float64)
    weights = 0.5 + draws.uniform("weights", (COMPONENTS,))
    axes = (draws.normal("axes", pairs) * 0.5 - 1.2).exp()
    angle = torch.pi * draws.uniform("angles", (COMPONENTS,))
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    covariances = turn @ torch.diag_embed(axes**2) @ turn.mT
    return Mixture(f"gmm-2d-{number:02d}", weights / weights.sum(), draws.normal("means", pairs), covariances)


NAMED: dict[str, Callable[[], Mixture]] = {
    f"gmm-2d-{number:02d}": lambda number=number: random_mixture(number) for number in range(COUNT)
}
