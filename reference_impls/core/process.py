"""Gaussian noising processes x_t = alpha(t) x0 + sigma(t) eps.

Times are float64; a python float gives a python float, a tensor gives a float64 tensor of the same shape.
lam = log(alpha/sigma) decreases in t; rho = sigma/alpha = exp(-lam).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from reference_impls.core.types import Time, expand

Curve = Callable[[Time], Time]


def lifted(curve: Callable[[Tensor], Tensor]) -> Curve:
    """A curve on float64 tensors that also takes a python float and then returns one."""

    def evaluate(t: Time) -> Time:
        if isinstance(t, Tensor):
            return curve(t.double())
        return curve(torch.tensor(t, dtype=torch.float64)).item()

    return evaluate


def _slope(curve: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():  # a schedule's slope, whatever the caller records
        leaf = t.detach().clone().requires_grad_()
        value = curve(leaf).sum()
        return torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(t)


@dataclass(frozen=True)
class Process:
    """log_alpha and sigma_of are curves on float64 tensors; prior_std is the standard deviation of the sampling prior.

    alpha_of is given where alpha can reach 0 and exp(log_alpha) would lose it; time_of is the closed inverse of lam
    where there is one, otherwise time_of_logsnr bisects.
    """

    name: str
    log_alpha: Callable[[Tensor], Tensor]
    sigma_of: Callable[[Tensor], Tensor]
    t_min: float
    t_max: float
    prior_std: float = 1.0
    time_of: Callable[[Tensor], Tensor] | None = None
    alpha_of: Callable[[Tensor], Tensor] | None = None
    kind: str = field(default="gaussian", init=False)

    def alpha(self, t: Time) -> Time:
        return lifted(self._alpha)(t)

    def _alpha(self, t: Tensor) -> Tensor:
        return self.alpha_of(t) if self.alpha_of else self.log_alpha(t).exp()

    def sigma(self, t: Time) -> Time:
        return lifted(self.sigma_of)(t)

    def lam(self, t: Time) -> Time:
        """Half the log signal-to-noise ratio, log(alpha/sigma); +inf where sigma = 0, -inf where alpha = 0."""
        return lifted(lambda s: self.log_alpha(s) - self.sigma_of(s).log())(t)

    def rho(self, t: Time) -> Time:
        """sigma/alpha, the noise level of x/alpha."""
        return lifted(lambda s: self.sigma_of(s) * (-self.log_alpha(s)).exp())(t)

    def rates(self, t: Time) -> tuple[Time, Time]:
        """d alpha/dt and d sigma/dt by automatic differentiation.

        The curves are elementwise, so the reverse mode gives every time's derivative in one pass; torch's forward mode
        takes 1.2 ms a call where this takes .1, and imports a compiler.
        """
        s = torch.as_tensor(t, dtype=torch.float64)
        rates = tuple(_slope(curve, s) for curve in (self._alpha, self.sigma_of))
        return rates if isinstance(t, Tensor) else tuple(rate.item() for rate in rates)

    def time_of_logsnr(self, lam: Time) -> Time:
        """The t in [t_min, t_max] with lam(t) = lam: closed where the process has it, otherwise 80 bisections."""
        return lifted(self.time_of or self._bisect)(lam)

    def _bisect(self, lam: Tensor) -> Tensor:
        low, high = torch.full_like(lam, self.t_min), torch.full_like(lam, self.t_max)
        for _ in range(80):
            middle = (low + high) / 2
            noisier = self.lam(middle) < lam  # lam falls in t: too noisy means t is too large
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return (low + high) / 2

    def between(self, t_min: float, t_max: float) -> Process:
        """The same curves on another interval; prior_std is kept."""
        return replace(self, t_min=t_min, t_max=t_max)

    def noised(self, x0: Tensor, t: Time, eps: Tensor) -> Tensor:
        """alpha_t x0 + sigma_t eps in x0's dtype; t a float or [B]."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps


def vp_linear(beta_min: float = 0.1, beta_max: float = 20.0, *, t_min: float = 1e-3, t_max: float = 1.0) -> Process:
    """Variance preserving, beta(t) linear: log alpha = -t^2 (b1-b0)/4 - t b0/2. Defaults: Song et al. 2021."""
    slope = beta_max - beta_min

    def log_alpha(t: Tensor) -> Tensor:
        return -t * t * slope / 4 - t * beta_min / 2

    def time_of(lam: Tensor) -> Tensor:
        q = 2 * slope * torch.logaddexp(-2 * lam, torch.zeros_like(lam))
        return q / ((beta_min**2 + q).sqrt() + beta_min) / slope

    return Process(
        "vp-linear", log_alpha, lambda t: (-torch.expm1(2 * log_alpha(t))).sqrt(), t_min, t_max, time_of=time_of
    )


def subvp(beta_min: float = 0.1, beta_max: float = 20.0, *, t_min: float = 1e-3, t_max: float = 1.0) -> Process:
    """Sub-VP: alpha as vp-linear, sigma = 1 - alpha^2 (Song et al. 2021)."""
    log_alpha = vp_linear(beta_min, beta_max).log_alpha
    slope = beta_max - beta_min

    def time_of(lam: Tensor) -> Tensor:
        # alpha/(1-alpha^2) = e^lam: with y = e^{-lam}/2, alpha = sqrt(y^2+1) - y, so -log alpha = asinh(y)
        q = 4 * slope * torch.asinh((-lam).exp() / 2)
        return q / ((beta_min**2 + q).sqrt() + beta_min) / slope

    return Process("subvp", log_alpha, lambda t: -torch.expm1(2 * log_alpha(t)), t_min, t_max, time_of=time_of)


def ve_geo(sigma_min: float = 0.01, sigma_max: float = 50.0, *, t_min: float = 1e-5, t_max: float = 1.0) -> Process:
    """Variance exploding, sigma geometric in t. Defaults: Song et al. 2021 (CIFAR-10)."""
    ratio = math.log(sigma_max / sigma_min)

    def sigma(t: Tensor) -> Tensor:
        return sigma_min * (t * ratio).exp()

    return Process(
        "ve-geo", torch.zeros_like, sigma, t_min, t_max, prior_std=sigma_min * math.exp(t_max * ratio),
        time_of=lambda lam: (-lam - math.log(sigma_min)) / ratio, alpha_of=torch.ones_like,
    )  # fmt: skip


def ve_edm(*, t_min: float = 0.002, t_max: float = 80.0) -> Process:
    """Variance exploding with sigma = t. Defaults: Karras et al. 2022."""
    return Process(
        "ve-edm", torch.zeros_like, torch.clone, t_min, t_max, prior_std=t_max,
        time_of=lambda lam: (-lam).exp(), alpha_of=torch.ones_like,
    )  # fmt: skip


def ve_sqrt(*, t_min: float = 4e-4, t_max: float = 1e4) -> Process:
    """Variance exploding at a constant rate: sigma = sqrt(t), .02 to 100. Defaults: Karras et al. 2022, table 1."""
    return Process(
        "ve-sqrt", torch.zeros_like, torch.sqrt, t_min, t_max, prior_std=math.sqrt(t_max),
        time_of=lambda lam: (-2 * lam).exp(), alpha_of=torch.ones_like,
    )  # fmt: skip


def cosine(shift: float = 0.008, *, t_min: float = 1e-3, t_max: float = 0.999) -> Process:
    """alpha = cos(pi/2 (t+s)/(1+s)), sigma = sin(same): continuous form of Nichol & Dhariwal 2021, not divided at 0."""
    half_pi = math.pi / 2

    def angle(t: Tensor) -> Tensor:
        return half_pi * (t + shift) / (1 + shift)

    return Process(
        "cosine", lambda t: angle(t).cos().log(), lambda t: angle(t).sin(), t_min, t_max,
        time_of=lambda lam: (1 + shift) / half_pi * torch.atan((-lam).exp()) - shift, alpha_of=lambda t: angle(t).cos(),
    )  # fmt: skip


def condot(*, t_min: float = 1e-3, t_max: float = 1.0) -> Process:
    """Conditional optimal transport (rectified flow): alpha = 1 - t, sigma = t."""
    return Process(
        "condot", lambda t: torch.log1p(-t), torch.clone, t_min, t_max,
        time_of=lambda lam: torch.sigmoid(-lam), alpha_of=lambda t: 1 - t,
    )  # fmt: skip


def brownian_bridge(variance: float = 1.0, *, t_min: float = 0.0, t_max: float = 1 - 1e-6) -> Process:
    """Brownian motion from x0 pinned to 0 at t = 1: alpha = 1 - t, sigma^2 = variance t (1-t); constant diffusion rate.

    prior_std is the standard deviation at t_max < 1 when x0 ~ N(0, variance): reversed in time that is Brownian motion.
    """
    return Process(
        "brownian-bridge", lambda t: torch.log1p(-t), lambda t: (variance * t * (1 - t)).sqrt(), t_min, t_max,
        prior_std=math.sqrt(variance * (1 - t_max)), alpha_of=lambda t: 1 - t,
        time_of=lambda lam: torch.sigmoid(-2 * lam - math.log(variance)),
    )  # fmt: skip


def discrete(betas: Tensor, *, name: str = "discrete") -> Process:
    """The chain alpha_i^2 = prod_{j<=i} (1 - beta_j) placed at t = i/T; log alpha is linear in t between knots.

    betas: float64 [T] in (0, 1]. t_min = 0 is clean data (alpha = 1, sigma = 0), 1/T the first noised knot, 1 the last.
    Raises ValueError for a beta outside.
    """
    steps = betas.shape[0]
    outside = (~((betas > 0) & (betas <= 1))).nonzero()
    if len(outside):
        i = int(outside[0])
        raise ValueError(
            f"betas: {betas[i].item():g} at {i + 1} of {steps}, expected numbers in (0, 1]; more knots or smaller ends"
        )
    knots = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas.double()).cumsum(0) / 2])
    knots = knots.clamp(min=-800.0)  # where a beta is 1: alpha is still exactly 0, and what lies between is no 0 x inf

    def log_alpha(t: Tensor) -> Tensor:
        place = t * steps
        left = place.detach().floor().clamp(0, steps - 1)
        table = knots.to(t.device)
        start, end = table[left.long()], table[left.long() + 1]
        return start + (place - left) * (end - start)

    return Process(name, log_alpha, lambda t: (-torch.expm1(2 * log_alpha(t))).sqrt(), 0.0, 1.0)


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """float64 [steps], linspace(first, last). Defaults: Ho et al. 2020."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int = 1000, shift: float = 0.008, most: float = 0.999) -> Tensor:
    """float64 [steps], min(1 - f(i/T)/f((i-1)/T), most), f(u) = cos^2(pi/2 (u+s)/(1+s)); Nichol & Dhariwal 2021."""
    level = (math.pi / 2 * (torch.linspace(0, 1, steps + 1, dtype=torch.float64) + shift) / (1 + shift)).cos() ** 2
    return (1 - level[1:] / level[:-1]).clamp(max=most)


NAMED: dict[str, Callable[[], Process]] = {
    "vp-linear": vp_linear,
    "vp-10": lambda: replace(vp_linear(0.1, 10.0, t_min=0.0), name="vp-10"),
    "brownian-bridge": brownian_bridge,
    "subvp": subvp,
    "ve-geo": ve_geo,
    "ve-edm": ve_edm,
    "ve-sqrt": ve_sqrt,
    "cosine": cosine,
    "condot": condot,
    "discrete-linear": lambda: discrete(linear_betas(), name="discrete-linear"),
    "discrete-cosine": lambda: discrete(cosine_betas(), name="discrete-cosine"),
    "discrete-linear-100": lambda: discrete(linear_betas(100, 1e-5, 0.2), name="discrete-linear-100"),
}


def named(name: str) -> Process:
    """A process by its name; raises KeyError with the names there are."""
    if name not in NAMED:
        raise KeyError(f"process: {name!r} is not known; expected one of {', '.join(sorted(NAMED))}")
    return NAMED[name]()
