"""Gaussian data N(mu, C): denoiser, density and probability-flow map in closed form.

With C = U diag(c) U^T and v_t = alpha_t^2 c + sigma_t^2, in the coordinates y = U^T (x - alpha_t mu):
    p_t = N(alpha_t mu, U diag(v_t) U^T),   E[x0|x] = mu + U (alpha c / v) y,   flow y_t = sqrt(v_t / v_s) y_s.
alpha, sigma: floats, or tensors [B,1,..] that broadcast against x [B,*D]. All is computed in x's dtype and device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reference_impls.core.convert import Coefficient
from reference_impls.core.types import Draws


@dataclass(frozen=True)
class Gaussian:
    """N(mu, U diag(variances) U^T). mu, variances [*D] float64; basis U [d,d] with D = (d,), or None for U = I.

    variances may be 0: the point mass at mu. Without a basis everything is elementwise and D is any shape.
    """

    name: str
    mu: Tensor
    variances: Tensor
    basis: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mu.shape)

    @property
    def total_variance(self) -> float:
        """The trace of the covariance."""
        return self.variances.sum().item()

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,*D], dtype and device."""
        mu, variances = self.mu.to(like), self.variances.to(like)
        return mu + self._rotated(draws.normal("data", like) * variances.sqrt())

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x], [B,*D]."""
        mu, variances = self.mu.to(x), self.variances.to(x)
        spread = alpha**2 * variances + sigma**2
        gain = alpha * variances / torch.where(variances > 0, spread, 1.0)  # a point mass knows x0 even at sigma = 0
        return mu + self._rotated(gain * self._centred(x, alpha, mu))

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x, [B] in nats."""
        mu, variances = self.mu.to(x), self.variances.to(x)
        spread = alpha**2 * variances + sigma**2
        y = self._centred(x, alpha, mu)
        return -((y**2 / spread) + (2 * math.pi * spread).log()).flatten(1).sum(1) / 2

    def flow(
        self, x: Tensor, alpha_s: Coefficient, sigma_s: Coefficient, alpha_t: Coefficient, sigma_t: Coefficient
    ) -> Tensor:
        """The probability-flow map from the state at (alpha_s, sigma_s) to the state at (alpha_t, sigma_t)."""
        mu, variances = self.mu.to(x), self.variances.to(x)
        stretch = ((alpha_t**2 * variances + sigma_t**2) / (alpha_s**2 * variances + sigma_s**2)) ** 0.5
        return alpha_t * mu + self._rotated(stretch * self._centred(x, alpha_s, mu))

    def _centred(self, x: Tensor, alpha: Coefficient, mu: Tensor) -> Tensor:
        y = x - alpha * mu
        return y if self.basis is None else y @ self.basis.to(x)

    def _rotated(self, y: Tensor) -> Tensor:
        return y if self.basis is None else y @ self.basis.to(y).T


def gaussian(mu: Tensor, covariance: Tensor, name: str = "gaussian") -> Gaussian:
    """N(mu, covariance) with mu [d] and covariance [d,d] symmetric, no negative eigenvalue; raises ValueError."""
    covariance = covariance.double()
    if not torch.allclose(covariance, covariance.T, rtol=1e-10, atol=0):
        raise ValueError(f"covariance: not symmetric ({covariance.tolist()}), expected covariance == covariance.T")
    variances, basis = torch.linalg.eigh(covariance)
    if variances[0] < -1e-12 * variances[-1]:
        raise ValueError(f"covariance: smallest eigenvalue is {variances[0].item():g}, expected none below 0")
    return Gaussian(name, mu.double(), variances.clamp(min=0), basis)


def isotropic(mu: Tensor, variance: float = 1.0, name: str = "isotropic") -> Gaussian:
    """N(mu, variance I) with mu of any shape [*D]; variance = 0 is the point mass at mu."""
    return Gaussian(name, mu.double(), torch.full_like(mu, variance, dtype=torch.float64))


def gaussian_2d() -> Gaussian:
    """Correlation 0.8, standard deviations 1.1 and 0.5, off centre: no axis, isotropy or symmetry to hide behind."""
    return gaussian(
        torch.tensor([0.7, -0.4], dtype=torch.float64),
        torch.tensor([[1.21, 0.44], [0.44, 0.25]], dtype=torch.float64),
        "gaussian-2d",
    )


NAMED: dict[str, Callable[[], Gaussian]] = {"gaussian-2d": gaussian_2d}
