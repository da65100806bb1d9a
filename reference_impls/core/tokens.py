"""Noising processes of tokens: each position jumps alone, at rate sigma'(t), to a state drawn from a law pi.

Generator 1 pi^T - I (rows: from), so P_d(y | x) = e^-d [x = y] + (1 - e^-d) pi(y) after more noise d. Uniform graph:
pi = 1/K on the letters 0..K-1. Absorbing graph: a mask state, index K, is added and pi sits on it: K + 1 states.
Probabilities are float64, whatever the network's dtype. sigma is the total noise, a number of jumps, not a deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from reference_impls.core.process import lifted
from reference_impls.core.types import Draws, Time, expand

Noise = Callable[[Tensor], Tensor]


class BadTokens(ValueError):
    """A token process, law or condition that cannot be; the message names the argument and the mend."""


@dataclass(frozen=True)
class TokenProcess:
    """K letters on a graph; noise is the curve sigma(t) on float64 tensors, increasing in t."""

    name: str
    K: int
    graph: Literal["uniform", "absorbing"]
    noise: Noise
    t_min: float
    t_max: float
    kind: str = field(default="token", init=False)

    def __post_init__(self):
        if self.K < 2:
            raise BadTokens(f"K: {self.K}, expected at least 2 letters")

    @property
    def states(self) -> int:
        """Size of the last axis of laws and ratios: K, and one more where there is a mask."""
        return self.K + (self.graph == "absorbing")

    @property
    def mask(self) -> int | None:
        return self.K if self.graph == "absorbing" else None

    def prior(self, device: torch.device | str = "cpu") -> Tensor:
        """pi, float64 [states]: what every position tends to, and what sampling starts from."""
        pi = torch.zeros(self.states, dtype=torch.float64, device=device)
        support = slice(self.mask, None)  # the mask, or every letter
        pi[support] = 1 / pi[support].shape[0]
        return pi

    def sigma(self, t: Time) -> Time:
        """Total noise: the expected number of jumps of one position up to t."""
        return lifted(self.noise)(t)

    def rate(self, t: Time) -> Time:
        """d sigma/dt, by forward-mode automatic differentiation."""
        s = torch.as_tensor(t, dtype=torch.float64).contiguous()  # forward mode refuses expanded tensors
        rate = torch.func.jvp(self.noise, (s,), (torch.ones_like(s),))[1]
        return rate if isinstance(t, Tensor) else rate.item()

    def carried(self, law: Tensor, dsigma: Time) -> Tensor:
        """The law [..,states] after more noise dsigma; negative dsigma takes noise away (entries may then be < 0)."""
        law = law.double()
        keep, jump = self._odds(dsigma, law)
        return keep * law + jump * law.sum(-1, keepdim=True) * self.prior(law.device)

    def law_from(self, x: Tensor, dsigma: Time) -> Tensor:
        """P(. | x) after noise dsigma, float64 [B,L,states]. x int64 [B,L]; dsigma a float or [B]."""
        return self.carried(one_hot(x, self.states), dsigma)

    def chance_into(self, x: Tensor, dsigma: Time) -> Tensor:
        """P(x | .), the chance that each state becomes x's state, float64 [B,L,states]. dsigma a float or [B]."""
        own = one_hot(x, self.states).double()
        keep, jump = self._odds(dsigma, own)
        return keep * own + jump * self.prior(x.device)[x][..., None]

    def rate_into(self, x: Tensor) -> Tensor:
        """Rate per unit of sigma from every other state into x's state; 0 at x itself. float64 [B,L,states]."""
        return self.prior(x.device)[x][..., None] * (1 - one_hot(x, self.states).double())

    def kernel(self, dsigma: float, device: torch.device | str = "cpu") -> Tensor:
        """P_d, float64 [states, states]: rows from, columns to. Large: the methods above never form it."""
        return self.law_from(torch.arange(self.states, device=device), dsigma)

    def corrupt(self, x0: Tensor, t: Time, u: Tensor) -> Tensor:
        """x_t int64 [B,L] given letters x0 [B,L] and one uniform u [B,L] per position."""
        return categorical(self.law_from(x0, self.sigma(t)), u)

    def between(self, t_min: float, t_max: float) -> TokenProcess:
        """The same curve on another interval."""
        return replace(self, t_min=t_min, t_max=t_max)

    def _odds(self, dsigma: Time, like: Tensor) -> tuple[Time, Time]:
        """Chance to keep a token and to redraw it, shaped against like [..,states]."""
        d = torch.as_tensor(dsigma, dtype=torch.float64)
        return expand(torch.exp(-d), like), expand(-torch.expm1(-d), like)


def clipped(weights: Tensor) -> Tensor:
    """The law that `categorical` draws from: negative weights count as 0, rows are normalised. float64 [..,states]."""
    weights = weights.double().clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)


def categorical(weights: Tensor, u: Tensor) -> Tensor:
    """The inverse CDF at u: int64 [..] from weights [..,states] >= 0, not necessarily normalised, and u in (0,1).

    Negative weights (a large Euler step makes them) count as 0, just as they never win an exponential race. All in
    float64: a race in float32 cuts the tails off. Raises RuntimeError for a row that is nan or has no mass (on an
    accelerator when it next synchronises).
    """
    cdf = weights.double().clamp(min=0).cumsum(-1)
    total = cdf[..., -1]
    torch._assert_async((total > 0).all(), "weights: a row is nan or has no mass, expected a law; check the model")
    return (cdf[..., :-1] <= (u.to(cdf.device) * total)[..., None]).sum(-1)


def prior_of_tokens(draws: Draws, like: Tensor, grid: Tensor, process: TokenProcess, aids: Mapping[str, Any]) -> Tensor:
    """A Start: every position from pi (absorbing graph: all masks), int64 in like's shape [B,L] and device."""
    u = draws.uniform("start", tuple(like.shape))
    return categorical(process.prior(like.device).expand(*like.shape, -1), u)


class Given(NamedTuple):
    """The aid "condition" of infilling: where, bool [L] or [B,L]; tokens, int64 of that shape, read where True."""

    where: Tensor
    tokens: Tensor

    def over(self, x: Tensor) -> Tensor:
        """x [B,L] with the given positions overwritten, as a fresh tensor."""
        return torch.where(self.where.to(x.device), self.tokens.to(x.device), x)


def ratio_of_posterior(posterior: Tensor, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
    """Ratios [B,L,states] from p(x0^l = a | x_t = x) [B,L,K]: sum_a p(a) P(k | a) / P(x^l | a).

    Exact where x^l is a state that every letter can reach: everywhere on the uniform graph, at masks on the absorbing
    one. An unmasked letter is known: its posterior says nothing of other letters there, and those entries are 0.
    """
    sigma = process.sigma(t)
    reach = process.chance_into(x, sigma)[..., : process.K]
    odds = torch.where(reach > 0, posterior.double() / torch.where(reach > 0, reach, 1), 0)
    if process.graph == "absorbing":
        odds = torch.cat([odds, torch.zeros_like(odds[..., :1])], -1)
    return process.carried(odds, sigma).scatter(-1, x[..., None], 1)


def posterior_of_ratio(ratio: Tensor, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
    """p(x0^l = a | x_t = x) [B,L,K] from ratios [B,L,states]; the inverse of `ratio_of_posterior`.

    Rows sum to 1 and are >= 0 for the ratios of some p_t; other ratios may give negative entries: nothing is clipped.
    At a mask the letters are normalised; for the ratios of some p_t their sum is 1/(e^sigma - 1).
    """
    sigma = process.sigma(t)
    weights = (process.carried(ratio, -sigma) * process.chance_into(x, sigma))[..., : process.K]
    return weights / weights.sum(-1, keepdim=True)


def log_linear(eps: float = 1e-3) -> Noise:
    """sigma = -log(1 - (1 - eps) t): the chance of a jump, (1 - eps) t, is linear in t. Default: Lou et al. 2024."""
    return lambda t: -torch.log1p(-(1 - eps) * t)


def geometric(sigma_min: float = 1e-4, sigma_max: float = 20.0) -> Noise:
    """sigma = sigma_min^(1-t) sigma_max^t; sigma(0) = sigma_min > 0. Defaults: Lou et al. 2024."""
    low, high = torch.tensor([sigma_min, sigma_max], dtype=torch.float64).log().tolist()
    return lambda t: torch.exp(low + t * (high - low))


T_MIN = 1e-5  # where sampling stops before the last denoising: Lou et al. 2024

NAMED: dict[str, Callable[[int], TokenProcess]] = {
    "uniform-loglinear": lambda K: TokenProcess("uniform-loglinear", K, "uniform", log_linear(), T_MIN, 1.0),
    "absorbing-loglinear": lambda K: TokenProcess("absorbing-loglinear", K, "absorbing", log_linear(), T_MIN, 1.0),
    "uniform-geometric": lambda K: TokenProcess("uniform-geometric", K, "uniform", geometric(), T_MIN, 1.0),
}


def named(name: str, K: int) -> TokenProcess:
    """A token process over K letters by its name; raises KeyError with the names there are."""
    if name not in NAMED:
        raise KeyError(f"token process: {name!r} is not known; expected one of {', '.join(sorted(NAMED))}")
    return NAMED[name](K)
