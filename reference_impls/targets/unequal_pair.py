"""Two far modes of unequal weight, on which local dynamics cannot find the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch

from reference_impls.targets.mixtures import Mixture


def unequal_pair() -> Mixture:
    """N(-5, I/4) of weight .2, N(5, I/4) of weight .8 in the plane: Song & Ermon 2019, figure 3, but narrower."""
    centres = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    return Mixture("unequal-pair-2d", weights, centres, torch.eye(2, dtype=torch.float64).repeat(2, 1, 1) / 4)


NAMED: dict[str, Callable[[], Mixture]] = {"unequal-pair-2d": unequal_pair}
