"""Gaussian mixtures: denoiser, density and, for rotated products of 1-D mixtures, the exact probability-flow map.

In one dimension the flow keeps the distribution function, F_t(x_t) = F_s(x_s); a product of 1-D mixtures flows
coordinate by coordinate, and the flow commutes with rotations. alpha, sigma: floats, or tensors [B,1] beside x [B,d].
Components stand in front, [K,B,d], so that sums over them run over long contiguous rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reference_impls.core.convert import Coefficient
from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws
from reference_impls.targets.gaussian import Gaussian, gaussian
from reference_impls.targets.labelled import Given

LOG_ROOT_TAU = math.log(2 * math.pi) / 2
MOST_STEPS = 200  # of the root finder; it stops after 5 to 15


@dataclass(frozen=True)
class Product:
    """x0 = rotation y with independent y_i ~ sum_k weights[k,i] N(means[k,i], variances[k,i]); all [K,d] float64.

    rotation: orthogonal [d,d], or None for the identity.
    """

    name: str
    weights: Tensor
    means: Tensor
    variances: Tensor
    rotation: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    @cached_property
    def class_laws(self) -> tuple[Gaussian, ...] | None:
        """In one dimension a label names the component; in more, a component for each coordinate is no class."""
        if self.shape != (1,):
            return None
        pairs = enumerate(zip(self.means, self.variances, strict=True))
        return tuple(gaussian(mean, variance[:, None], f"{self.name} class {k}") for k, (mean, variance) in pairs)

    @property
    def class_weights(self) -> Tensor | None:
        return None if self.class_laws is None else self.weights[:, 0]

    def given(self, label: Tensor) -> Given:
        """The law of x0 given its component, see Given."""
        return Given(self, label)

    @property
    def total_variance(self) -> float:
        """The trace of the covariance, which the rotation leaves as it is."""
        mean = (self.weights * self.means).sum(0)
        return (self.weights * (self.variances + (self.means - mean) ** 2)).sum().item()

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,d], dtype and device; components by inverse CDF."""
        u = draws.uniform("component", tuple(like.shape)).to(like.device)
        k = (u[None] >= self.weights.to(u).cumsum(0)[:-1, None]).sum(0, keepdim=True)
        _, *tables = self._tables(like)
        mean, variance = (table.expand(-1, *like.shape).gather(0, k)[0] for table in tables)
        return self._rotated(mean + variance.sqrt() * draws.normal("data", like))

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x], [B,d]."""
        y = self._straight(x)
        _, means, variances = self._tables(y)
        spread, residual, log_joint = self._joint(y, alpha, sigma)
        each = means + alpha * variances / spread * residual
        return self._rotated((log_joint.softmax(0) * each).sum(0))

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x, [B] in nats."""
        log_joint = self._joint(self._straight(x), alpha, sigma)[2]
        return (log_joint.logsumexp(0) - LOG_ROOT_TAU).sum(1)

    def flow(
        self, x: Tensor, alpha_s: Coefficient, sigma_s: Coefficient, alpha_t: Coefficient, sigma_t: Coefficient
    ) -> Tensor:
        """The probability-flow map from the state at (alpha_s, sigma_s) to the state at (alpha_t, sigma_t).

        Computed in float64, returned in x's dtype. alpha_s = 0 is allowed; sigma_t = 0 where no variance is 0.
        """
        y = self._straight(x.double())
        log_weights, means, variances = self._tables(y)
        before, after = (
            Lines(log_weights, alpha * means, (alpha**2 * variances + sigma**2) ** 0.5)
            for alpha, sigma in ((_double(alpha_s), _double(sigma_s)), (_double(alpha_t), _double(sigma_t)))
        )
        return self._rotated(transported(y, before, after)).to(x.dtype)

    def _joint(self, y: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """Each component's variance at (alpha, sigma) and residual; log(weight density sqrt(2 pi)). [K,1 or B,d]."""
        log_weights, means, variances = self._tables(y)
        spread = alpha**2 * variances + sigma**2
        residual = y - alpha * means
        return spread, residual, log_weights - spread.log() / 2 - residual**2 / (2 * spread)

    def _tables(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log weights, means, variances as [K,1,d] in y's dtype and device."""
        return tuple(table.to(y)[:, None] for table in (self.weights.log(), self.means, self.variances))

    def _straight(self, x: Tensor) -> Tensor:
        return x if self.rotation is None else x @ self.rotation.to(x)

    def _rotated(self, y: Tensor) -> Tensor:
        return y if self.rotation is None else y @ self.rotation.to(y).T


@dataclass(frozen=True)
class Lines:
    """Mixtures on the line, one for each entry of [B,d]: log_weights, centres and stds broadcast to [K,B,d]."""

    log_weights: Tensor
    centres: Tensor
    stds: Tensor

    def log_cdf(self, y: Tensor, side: Tensor | float) -> Tensor:
        """log P(Y <= y) where side is 1, log P(Y >= y) where it is -1."""
        return (self.log_weights + torch.special.log_ndtr(side * (y - self.centres) / self.stds)).logsumexp(0)

    def log_density(self, y: Tensor) -> Tensor:
        z = (y - self.centres) / self.stds
        return (self.log_weights - z**2 / 2 - self.stds.log()).logsumexp(0) - LOG_ROOT_TAU


def transported(y: Tensor, before: Lines, after: Lines) -> Tensor:
    """The y_t with F_after(y_t) = F_before(y), float64 [B,d], by whichever tail is the smaller and by its logarithm.

    The error is that of the probability, about 1e-16 F/p, so 1e-13 wherever the mixture has no empty gap.
    """
    left, right = before.log_cdf(y, 1.0), before.log_cdf(y, -1.0)
    side = torch.where(left <= right, 1.0, -1.0).to(y)
    level = torch.minimum(left, right)
    # where every component has less than the level, so has the mixture: the components' quantiles bracket its own
    quantiles = after.centres + side * normal_quantile(level) * after.stds
    slack = 1e-9 * after.stds.amax(0)
    return root(after, side, level, quantiles.amin(0) - slack, quantiles.amax(0) + slack)


def root(lines: Lines, side: Tensor, level: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The y in [low, high] with log_cdf(y, side) = level: Newton steps in the log domain, halving where they stray."""
    scale = lines.stds.amin(0) + torch.maximum(low.abs(), high.abs())
    y, last = (low + high) / 2, high - low
    settled = 0
    for _ in range(MOST_STEPS):
        log_cdf = lines.log_cdf(y, side)
        excess = side * (log_cdf - level)  # grows in y on either side
        low, high = torch.where(excess < 0, y, low), torch.where(excess < 0, high, y)
        newton = y - excess * (log_cdf - lines.log_density(y)).exp()
        step = (newton - y).abs()
        close = step <= 1e-11 * scale  # then rounding may put the step outside [low, high]: take it
        keep = close | (newton >= low) & (newton <= high) & (2 * step <= last)
        y, last = torch.where(keep, newton, (low + high) / 2), torch.where(keep, step, (high - low) / 2)
        settled = settled + 1 if bool((close | (high - low <= 1e-15 * scale)).all()) else 0
        if settled == 2:  # one step more than needed: it squares an error of 1e-11
            break
    return y


def normal_quantile(log_p: Tensor) -> Tensor:
    """z with log Phi(z) = log_p, for log_p <= log(1/2) however far down; relative error 1e-14."""
    far = -2 * log_p.clamp(max=-10)  # z ~ -sqrt(far - log(2 pi far)) in the tail
    z = torch.where(log_p < -10, -(far - (2 * math.pi * far).log()).sqrt(), torch.special.ndtri(log_p.exp()))
    for _ in range(3):
        log_cdf = torch.special.log_ndtr(z)
        z = z - (log_cdf - log_p) * (log_cdf + z**2 / 2 + LOG_ROOT_TAU).exp()
    return z


@dataclass(frozen=True)
class Mixture:
    """sum_k weights[k] N(means[k], covariances[k]): weights [K], means [K,d], covariances [K,d,d], float64.

    The flow has no closed form. A label names the component.
    """

    name: str
    weights: Tensor
    means: Tensor
    covariances: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    @cached_property
    def class_laws(self) -> tuple[Gaussian, ...]:
        pairs = enumerate(zip(self.means, self.covariances, strict=True))
        return tuple(gaussian(mean, covariance, f"{self.name} class {k}") for k, (mean, covariance) in pairs)

    @property
    def class_weights(self) -> Tensor:
        return self.weights

    def given(self, label: Tensor) -> Given:
        """The law of x0 given its component, see Given."""
        return Given(self, label)

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """variances [K,d] and bases [K,d,d] of the covariances."""
        return tuple(torch.linalg.eigh(self.covariances))

    @property
    def total_variance(self) -> float:
        """The trace of the covariance: within the components and between them."""
        within = (self.weights * self.covariances.diagonal(dim1=1, dim2=2).sum(1)).sum()
        between = (self.weights[:, None] * (self.means - self.weights @ self.means) ** 2).sum()
        return (within + between).item()

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,d], dtype and device; the component by inverse CDF."""
        u = draws.uniform("component", (like.shape[0],)).to(like.device)
        k = torch.searchsorted(self.weights.to(u).cumsum(0)[:-1], u, right=True)
        variances, bases = (table.to(like)[k] for table in self.axes)
        scaled = variances.sqrt() * draws.normal("data", like)
        return self.means.to(like)[k] + (bases @ scaled[:, :, None])[:, :, 0]

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x], [B,d]."""
        variances, bases = (table.to(x) for table in self.axes)
        spread, y, log_joint = self._joint(x, alpha, sigma)
        each = self.means.to(x)[:, None] + (alpha * variances[:, None] / spread * y) @ bases.mT
        return (log_joint.softmax(0)[..., None] * each).sum(0)

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x, [B] in nats."""
        return self._joint(x, alpha, sigma)[2].logsumexp(0) - LOG_ROOT_TAU * x.shape[1]

    def _joint(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """Along each component's axes: variance and residual [K,1 or B,d]; log(weight density (2 pi)^(d/2)) [K,B]."""
        variances, bases = (table.to(x) for table in self.axes)
        spread = alpha**2 * variances[:, None] + sigma**2
        y = (x - alpha * self.means.to(x)[:, None]) @ bases
        return spread, y, self.weights.to(x).log()[:, None] - (spread.log() + y**2 / spread).sum(2) / 2


def _double(value: Coefficient) -> Coefficient:
    return value.double() if isinstance(value, Tensor) else value


def rotation(d: int, seed: int) -> Tensor:
    """A rotation drawn uniformly from SO(d), float64 [d,d]: QR of Philox normals, signs fixed, so alike everywhere."""
    q, r = torch.linalg.qr(Philox(seed, d).normal("rotation", torch.empty(d, d, dtype=torch.float64)))
    q = q * r.diagonal().sign()
    q[:, 0] *= torch.linalg.det(q).sign()
    return q


def _column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def g3(name: str = "g3") -> Product:
    """Three components in one dimension, the suite's reference: shape (1,)."""
    return Product(name, _column(0.3, 0.45, 0.25), _column(-1.2, 0.4, 1.5), _column(0.09, 0.04, 0.16))


def product_of_g3(scales: Tensor, seed: int, name: str) -> Product:
    """Coordinate i is scales[i] times the G3 law (a negative scale mirrors it), then all are rotated by `seed`."""
    one = g3()
    d = scales.shape[0]
    return Product(
        name, one.weights.expand(3, d), one.means * scales, one.variances * scales**2, rotation(d, seed)
    )  # fmt: skip


def product_2d() -> Product:
    """Nine modes, unlike in the two directions, turned off the axes."""
    return product_of_g3(torch.tensor([1.0, -0.6], dtype=torch.float64), 6, "product-2d")


def product_64d() -> Product:
    """3^64 modes; scales fall geometrically from 1 to 1/8, as a picture's spectrum does, every other one mirrored."""
    i = torch.arange(64, dtype=torch.float64)
    return product_of_g3(0.125 ** (i / 63) * (1 - 2 * (i % 2)), 64, "product-64d")


def mixture_2d() -> Mixture:
    """Three ellipses of different weight, size and direction; no rotation makes it a product."""
    return Mixture(
        "mixture-2d",
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        torch.tensor([[-1.0, -0.6], [1.1, -0.3], [0.2, 1.3]], dtype=torch.float64),
        torch.tensor(
            [[[0.20, 0.12], [0.12, 0.14]], [[0.06, -0.05], [-0.05, 0.25]], [[0.30, 0.00], [0.00, 0.03]]],
            dtype=torch.float64,
        ),
    )


NAMED: dict[str, Callable[[], Product | Mixture]] = {
    "g3": g3,
    "product-2d": product_2d,
    "product-64d": product_64d,
    "mixture-2d": mixture_2d,
}
