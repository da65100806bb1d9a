"""Mixtures with a reward: what a sampler that is trained by rewards alone should learn to prefer.

    r(x) = 1 where x lies within three standard deviations of the first mode, else 0
so that the mean reward is the share of the samples that are in the first mode and not merely towards it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reference_impls.targets import far_modes
from reference_impls.targets.mixtures import Mixture


@dataclass(frozen=True)
class Rewarded(Mixture):
    """A mixture of equal round components, of whose modes the first is rewarded within `radius`."""

    radius: float = 0.9

    @property
    def modes(self) -> Tensor:
        return self.means

    def reward(self, x: Tensor) -> Tensor:
        """1 or 0 for each row of x [B,d], float64 [B]."""
        return ((x.double() - self.means[0].to(x.device)).norm(dim=1) < self.radius).double()


def rewarded_ring() -> Rewarded:
    """The eight modes of standard deviation .3 of ring-2d; their mean reward is (1 - exp(-4.5))/8 = .12361."""
    ring = far_modes.ring()
    return Rewarded("ring-2d-rewarded", ring.weights, ring.means, ring.covariances, radius=3 * 0.3)


NAMED: dict[str, Callable[[], Rewarded]] = {"ring-2d-rewarded": rewarded_ring}
