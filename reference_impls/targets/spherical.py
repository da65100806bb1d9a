"""Mixtures of equal balls, p(x0) = sum_k weights[k] N(means[k], std^2 I), in any shape: denoiser and density are cheap.

    v = alpha^2 std^2 + sigma^2,  w_k = softmax_k(log weights[k] - |x - alpha mu_k|^2 / (2 v))
    E[x0|x] = ybar + (alpha std^2 / v) (x - alpha ybar),  ybar = sum_k w_k mu_k
The flow has no closed form. alpha, sigma: floats, or tensors [B,1,..] beside x [B,*D].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reference_impls.core.convert import Coefficient
from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws


@dataclass(frozen=True)
class Balls:
    """weights float64 [K], means float64 [K,*D], one std > 0 for all."""

    name: str
    weights: Tensor
    means: Tensor
    std: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    @property
    def modes(self) -> Tensor | None:
        """The means, where all have the same weight."""
        return self.means if self.weights.unique().numel() == 1 else None

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,*D], dtype and device; the component by inverse CDF."""
        u = draws.uniform("component", (like.shape[0],)).to(like.device)
        k = torch.searchsorted(self.weights.to(u).cumsum(0)[:-1], u, right=True)
        return self.means.to(like)[k].add_(draws.normal("data", like), alpha=self.std)

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x], [B,*D]."""
        spread, logits = self._joint(x, alpha, sigma)
        centre = (logits.softmax(1).to(x.dtype) @ self.means.to(x).flatten(1)).reshape(x.shape)
        return centre + (alpha * self.std**2 / spread) * (x - alpha * centre)

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x, [B] in nats."""
        spread, logits = self._joint(x, alpha, sigma)
        log_volume = torch.as_tensor(2 * math.pi * spread, dtype=logits.dtype, device=x.device).log().flatten()
        return (logits.logsumexp(1) - math.prod(self.shape) / 2 * log_volume).to(x.dtype)

    def _joint(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Coefficient, Tensor]:
        """v as it broadcasts over x, and log(weight density (2 pi v)^(d/2)) float64 [B,K].

        In float64 and by differences: logits reach 1e6 where sigma is small, and a product would cancel.
        """
        spread = alpha**2 * self.std**2 + sigma**2
        y, means = x.double().flatten(1), self.means.to(x.device).flatten(1)
        scale = alpha.double().reshape(-1, 1, 1) if isinstance(alpha, Tensor) else alpha
        square = (y[:, None] - scale * means).square().sum(2)
        width = spread.double().reshape(-1, 1) if isinstance(spread, Tensor) else spread
        return spread, self.weights.to(x.device).log() - square / (2 * width)


def gmm_64() -> Balls:
    """Ten equal modes in 64 dimensions shaped 1x8x8: means 0.6 N(0, I), standard deviation 0.15; drawn with seed 64."""
    means = Philox(64, 10).normal("means", torch.empty(10, 1, 8, 8, dtype=torch.float64))
    return Balls("gmm-64", torch.full((10,), 0.1, dtype=torch.float64), 0.6 * means, 0.15)


NAMED: dict[str, Callable[[], Balls]] = {"gmm-64": gmm_64}
