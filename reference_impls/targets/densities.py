"""Unnormalised densities with known log Z, the targets of methods that see no data.

log_density(x) is log rho [B] in nats with rho = Z p, `score` its gradient in closed form, `expectations` those of
|x|^2, |x|_1 and sum x under p. `exact_control` is the optimal control where the noised density is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, Protocol

import torch
from torch import Tensor

from reference_impls.core.process import Process
from reference_impls.core.types import Base, Draws, Model, Predictor, Time, expand
from reference_impls.targets import exact

Coefficient = float | Tensor


class Density(Protocol):
    """rho = Z p on R^D. modes: float64 [K,D] of equal weight, or None; a sample belongs to the nearest."""

    name: str
    shape: tuple[int, ...]
    log_Z: float
    modes: Tensor | None
    expectations: Mapping[str, float]  # "square", "abs", "sum"

    def log_density(self, x: Tensor) -> Tensor: ...

    def score(self, x: Tensor) -> Tensor: ...

    def sample(self, draws: Draws, like: Tensor) -> Tensor: ...


@lru_cache(maxsize=2**14)
def _level_at(process: Process, t: float) -> tuple[float, float, float]:
    alpha, sigma, g = level(process, torch.tensor(t, dtype=torch.float64))
    return alpha.item(), sigma.item(), g.item()


def level(process: Process, t: Time) -> tuple[Time, Time, Time]:
    """alpha, sigma and the diffusion coefficient g at t; g^2 = alpha^2 d(rho^2)/dt, as x/alpha only gathers noise."""
    if not isinstance(t, Tensor):
        return _level_at(process, t)
    alpha, sigma, (alpha_rate, sigma_rate) = process.alpha(t), process.sigma(t), process.rates(t)
    return alpha, sigma, (2 * sigma * (alpha * sigma_rate - sigma * alpha_rate) / alpha).sqrt()


def control_of_mean(model: Model, process: Process, base: Base = "noising", std: float = 1.0) -> Predictor:
    """The optimal control (x [B,*D], t) -> g grad log p_t, less g times the reference's score for base "reference".

    With m the mean, grad log p_t = (alpha m - x) / sigma^2; the reference is N(0, std^2 I) noised by the same process,
    of variance v = alpha^2 std^2 + sigma^2.
    """

    def predict(x: Tensor, t: Time) -> Tensor:
        alpha, sigma, g = level(process, t)
        known = g / sigma**2
        if base == "reference":
            known = known * (alpha * std) ** 2 / ((alpha * std) ** 2 + sigma**2)
        return expand(g * alpha / sigma**2, x) * model(x, t) - expand(known, x) * x

    return Predictor("control", predict)


def exact_control(target: Any, process: Process, base: Base = "noising", std: float = 1.0) -> Predictor:
    """The optimal control of a target that has mean(x, alpha, sigma)."""
    return control_of_mean(exact(target, process), process, base, std)


def folded_normal_mean(mean: float, std: float) -> float:
    """E|X| for X ~ N(mean, std^2)."""
    spread = std * math.sqrt(2 / math.pi) * math.exp(-((mean / std) ** 2) / 2)
    return spread + mean * math.erf(mean / std / math.sqrt(2))


@dataclass(frozen=True)
class Gaussian:
    """Z N(centre, std^2 I): every control, weight and marginal of it is known. For laws."""

    centre: tuple[float, ...] = (3.0,)  # with std 1 the "gauss_shift" of the official DIS code
    std: float = 1.0
    log_Z: float = 0.0
    name: str = "gaussian"

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.centre),)

    @property
    def modes(self) -> Tensor:
        return torch.tensor([self.centre], dtype=torch.float64)

    @property
    def expectations(self) -> dict[str, float]:
        return {
            "square": sum(m * m for m in self.centre) + len(self.centre) * self.std**2,
            "abs": sum(folded_normal_mean(m, self.std) for m in self.centre),
            "sum": sum(self.centre),
        }

    def _centre(self, x: Tensor) -> Tensor:
        return torch.tensor(self.centre, dtype=x.dtype, device=x.device)

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        variance = _like((alpha * self.std) ** 2 + sigma**2, x)
        squares = (x - alpha * self._centre(x)) ** 2 / variance
        return -(squares + (2 * math.pi * variance).log()).sum(1) / 2

    def log_density(self, x: Tensor) -> Tensor:
        return self.log_prob(x) + self.log_Z

    def score(self, x: Tensor) -> Tensor:
        return (self._centre(x) - x) / self.std**2

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        gain = alpha * self.std**2 / ((alpha * self.std) ** 2 + sigma**2)
        return self._centre(x) + gain * (x - alpha * self._centre(x))

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        return self._centre(like) + self.std * draws.normal("target", like)


def _like(value: Coefficient, x: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


@dataclass(frozen=True)
class Grid:
    """Nine Gaussians of weight 1/9 and variance .3 I at {-5,0,5}^2: a product of two mixtures of three. log Z = 0.

    The GMM "grid" of the PIS and DIS papers (official target gmm).
    """

    name: str = "grid9"
    shape: tuple[int, ...] = (2,)
    log_Z: float = 0.0
    variance: float = 0.3
    centres: tuple[float, ...] = (-5.0, 0.0, 5.0)

    @property
    def modes(self) -> Tensor:
        return torch.tensor(list(product(self.centres, repeat=2)), dtype=torch.float64)

    @property
    def expectations(self) -> dict[str, float]:
        square = sum(c * c for c in self.centres) / 3 + self.variance
        size = sum(folded_normal_mean(c, math.sqrt(self.variance)) for c in self.centres) / 3
        return {"square": 2 * square, "abs": 2 * size, "sum": 0.0}

    def _offsets(self, x: Tensor, alpha: Coefficient, variance: Coefficient) -> tuple[Tensor, Tensor, Tensor]:
        """x - alpha c [B,2,3], the components' log weights [B,2,3] up to a constant, and the centres [3]."""
        centres = torch.tensor(self.centres, dtype=x.dtype, device=x.device)
        alpha, variance = (v.unsqueeze(-1) if isinstance(v, Tensor) else v for v in (alpha, variance))
        offsets = x.unsqueeze(-1) - alpha * centres
        return offsets, -(offsets**2) / (2 * variance), centres

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps, [B]."""
        variance = _like(alpha**2 * self.variance + sigma**2, x)
        logits = self._offsets(x, alpha, variance)[1].logsumexp(-1)
        return (logits - (2 * math.pi * variance).log() / 2 - math.log(3)).sum(1)

    def log_density(self, x: Tensor) -> Tensor:
        return self.log_prob(x)

    def score(self, x: Tensor) -> Tensor:
        offsets, logits, _ = self._offsets(x, 1.0, self.variance)
        return -(logits.softmax(-1) * offsets).sum(-1) / self.variance

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x]."""
        variance = alpha**2 * self.variance + sigma**2
        offsets, logits, centres = self._offsets(x, alpha, variance)
        weights = logits.softmax(-1)
        return (weights * centres).sum(-1) + alpha * self.variance / variance * (weights * offsets).sum(-1)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        centres = torch.tensor(self.centres, dtype=like.dtype, device=like.device)
        which = (3 * draws.uniform("component", tuple(like.shape))).long().to(like.device)
        return centres[which] + math.sqrt(self.variance) * draws.normal("target", like)


@dataclass(frozen=True)
class Funnel:
    """x_1 ~ N(0, 9), the others N(0, exp(x_1)) given x_1 (Neal 2003). log Z = 0. No modes: the mass is one funnel."""

    dim: int = 10
    variance: float = 9.0
    log_Z: float = 0.0
    modes: None = None

    @property
    def name(self) -> str:
        return f"funnel-{self.dim}d"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def expectations(self) -> dict[str, float]:
        others = self.dim - 1
        return {
            "square": self.variance + others * math.exp(self.variance / 2),
            "abs": math.sqrt(2 / math.pi) * (math.sqrt(self.variance) + others * math.exp(self.variance / 8)),
            "sum": 0.0,
        }

    def log_density(self, x: Tensor) -> Tensor:
        neck, others = x[:, 0], x[:, 1:]
        first = -(neck**2) / (2 * self.variance) - math.log(2 * math.pi * self.variance) / 2
        return first - (others**2).sum(1) * (-neck).exp() / 2 - (self.dim - 1) / 2 * (neck + math.log(2 * math.pi))

    def score(self, x: Tensor) -> Tensor:
        neck, others = x[:, :1], x[:, 1:]
        narrow = (-neck).exp()
        first = -neck / self.variance + (others**2).sum(1, keepdim=True) * narrow / 2 - (self.dim - 1) / 2
        return torch.cat([first, -others * narrow], 1)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        z = draws.normal("target", like)
        neck = math.sqrt(self.variance) * z[:, :1]
        return torch.cat([neck, (neck / 2).exp() * z[:, 1:]], 1)


@dataclass(frozen=True)
class ManyWell:
    """rho = prod_i exp(-(x_i^2 - separation)^2): 2^dim modes of equal weight, at +-sqrt(separation) in each coordinate.

    One well has Z = exp(-d^2/2) 2^(-1/4) sqrt(pi) D(-1/2, -d sqrt 2) with D the parabolic cylinder function, E|x| =
    sqrt(pi) (1 + erf d) / (2 Z), E x^2 = d + (log Z)'/2. Here Z and E x^2 come from the trapezoidal rule: exact to
    rounding for an analytic function that has decayed at both ends.
    """

    dim: int = 5
    separation: float = 4.0

    @property
    def name(self) -> str:
        return f"manywell-{self.dim}d"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def log_Z(self) -> float:
        return self.dim * math.log(self._one[0])

    @property
    def modes(self) -> Tensor:
        root = math.sqrt(self.separation)
        return torch.tensor(list(product((-root, root), repeat=self.dim)), dtype=torch.float64)

    @property
    def expectations(self) -> dict[str, float]:
        Z, square = self._one
        size = math.sqrt(math.pi) / 2 * (1 + math.erf(self.separation)) / Z
        return {"square": self.dim * square, "abs": self.dim * size, "sum": 0.0}

    @cached_property
    def _one(self) -> tuple[float, float]:
        """Z and E x^2 of one coordinate."""
        x = torch.linspace(-1, 1, 2**12 + 1, dtype=torch.float64) * (math.sqrt(self.separation) + 1.5)
        density = (-((x**2 - self.separation) ** 2)).exp()
        return (density.sum() * (x[1] - x[0])).item(), ((x**2 * density).sum() / density.sum()).item()

    def log_density(self, x: Tensor) -> Tensor:
        return -((x**2 - self.separation) ** 2).sum(1)

    def score(self, x: Tensor) -> Tensor:
        return -4 * x * (x**2 - self.separation)

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """Knots and the distribution function of one coordinate there, by Gauss-Legendre quadrature in every cell."""
        knots = torch.linspace(-1, 1, 2**14 + 1, dtype=torch.float64) * (math.sqrt(self.separation) + 1.5)
        half = (knots[1:] - knots[:-1]) / 2
        centre, reach = (knots[1:] + knots[:-1]) / 2, math.sqrt(3 / 5) * half
        density = [(-((x**2 - self.separation) ** 2)).exp() for x in (centre - reach, centre, centre + reach)]
        mass = half * (5 * density[0] + 8 * density[1] + 5 * density[2]) / 9
        return knots, torch.cat([torch.zeros(1, dtype=torch.float64), (mass / mass.sum()).cumsum(0)])

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """By inversion of the distribution function, linear in cells of 4e-4: exact to about 1e-8 in every moment."""
        u = draws.uniform("target", tuple(like.shape))
        knots, levels = (table.to(u.device) for table in self._table)
        right = torch.searchsorted(levels, u).clamp(1, len(knots) - 1)
        low, high = levels[right - 1], levels[right]
        x = torch.lerp(knots[right - 1], knots[right], ((u - low) / (high - low)).clamp(0, 1))
        return x.to(like.device, like.dtype)


NAMED: dict[str, Callable[[], Density]] = {"grid9": Grid, "funnel-10d": Funnel, "manywell-5d": ManyWell}
