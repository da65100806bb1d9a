"""Laws of token sequences with exact posteriors and ratios at every noise level: a table and a second-order chain.

Both answer through cavities, c_l(a) = p(x0^l = a, x_t without position l) up to a factor per position: then
p(x0^l = a | x_t) ~ c_l(a) P(x_t^l | a), and p_t(x with x^l := k) ~ sum_a c_l(a) P(k | a), of which no entry is 0/0,
whatever the graph. Everything in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reference_impls.core.tokens import TokenProcess, categorical
from reference_impls.core.types import Draws, Predictor, Time


def posterior_of_cavity(cavity: Tensor, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
    """p(x0^l = a | x_t = x), [B,L,K], from cavities [B,L,K]."""
    weights = cavity * process.chance_into(x, process.sigma(t))[..., : process.K]
    return weights / weights.sum(-1, keepdim=True)


def ratio_of_cavity(cavity: Tensor, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
    """p_t(x with x^l := k)/p_t(x), [B,L,states], from cavities [B,L,K]."""
    masses = torch.nn.functional.pad(cavity, (0, process.states - process.K))
    law = process.carried(masses, process.sigma(t))
    return law / law.gather(-1, x[..., None])


def sequences(K: int, L: int) -> Tensor:
    """All K^L sequences, int64 [K^L, L], the last position running fastest."""
    index = torch.arange(K**L)
    return torch.stack([index // K**place % K for place in reversed(range(L))], -1)


@dataclass(frozen=True, eq=False)
class Table:
    """Any law on K^L sequences, given as float64 [K,..,K] with one axis per position; sums to 1."""

    name: str
    law: Tensor
    shape: tuple[int, ...] = field(init=False)
    K: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "shape", (self.law.ndim,))
        object.__setattr__(self, "K", self.law.shape[0])

    def table(self) -> Tensor:
        return self.law

    def log_prob(self, x: Tensor) -> Tensor:
        """log p0(x) in nats, [B]; x [B,L] of letters."""
        return self.law.to(x.device)[tuple(x.unbind(-1))].log()

    def entropy(self) -> float:
        """Of a whole sequence, in nats."""
        return -torch.xlogy(self.law, self.law).sum().item()

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """int64 [B,L] on like's device, from one uniform per sequence."""
        flat = self.law.to(like.device).flatten()
        index = categorical(flat.expand(like.shape[0], -1), draws.uniform("data", (like.shape[0],)))
        return sequences(self.K, self.shape[0]).to(like.device)[index]

    def cavity(self, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
        reach = process.chance_into(x, process.sigma(t))[..., : self.K]
        length = self.shape[0]
        axes = [[self.K if m == axis else 1 for m in range(length)] for axis in range(length)]
        cavities = []
        for here in range(length):
            joint = self.law.to(x.device).expand(x.shape[0], *self.law.shape)
            for m in set(range(length)) - {here}:
                joint = joint * reach[:, m].reshape(-1, *axes[m])
            others = [1 + m for m in range(length) if m != here]
            cavities.append(joint.sum(others) if others else joint)
        return torch.stack(cavities, 1)

    def posterior(self, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
        """p(x0^l = a | x_t = x), float64 [B,L,K]."""
        return posterior_of_cavity(self.cavity(x, t, process), x, t, process)

    def ratio(self, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
        """p_t(x with x^l := k)/p_t(x), float64 [B,L,states]."""
        return ratio_of_cavity(self.cavity(x, t, process), x, t, process)


@dataclass(frozen=True, eq=False)
class Markov:
    """A stationary second-order chain: after the letters a, b comes c with chance chances[a, b, c]."""

    name: str
    chances: Tensor  # float64 [K,K,K]
    length: int = 8
    pairs: Tensor = field(init=False)  # stationary law of two letters in a row, [K,K]

    def __post_init__(self):
        K = self.K
        move = torch.einsum("abc,bd->abdc", self.chances, torch.eye(K, dtype=torch.float64)).reshape(K * K, K * K)
        object.__setattr__(self, "pairs", torch.linalg.matrix_power(move, 2**12)[0].reshape(K, K))

    @property
    def K(self) -> int:
        return self.chances.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def table(self) -> Tensor:
        """p0 of every sequence, [K,..,K]: K^length numbers."""
        every = sequences(self.K, self.length)
        return self.log_prob(every).exp().reshape([self.K] * self.length)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p0(x) in nats, [B]; x [B,L] of letters."""
        chances, pairs = self.chances.to(x.device), self.pairs.to(x.device)
        return pairs[x[:, 0], x[:, 1]].log() + chances[x[:, :-2], x[:, 1:-1], x[:, 2:]].log().sum(-1)

    def entropy(self) -> float:
        """Of a whole sequence, in nats: H(two letters) + (length - 2) H(next letter | last two)."""
        per_letter = -(self.pairs[..., None] * torch.xlogy(self.chances, self.chances)).sum()
        return (-torch.xlogy(self.pairs, self.pairs).sum() + (self.length - 2) * per_letter).item()

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """int64 [B,L] on like's device, from one uniform per letter."""
        u = draws.uniform("data", tuple(like.shape)).to(like.device)
        chances, pairs = self.chances.to(like.device), self.pairs.to(like.device)
        letters = [categorical(pairs.sum(1).expand(like.shape[0], -1), u[:, 0])]
        letters.append(categorical(pairs[letters[0]], u[:, 1]))
        for place in range(2, like.shape[1]):
            letters.append(categorical(chances[letters[-2], letters[-1]], u[:, place]))
        return torch.stack(letters, -1)

    def cavity(self, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
        """Forward and backward messages over pairs of letters, normalised at every step: no underflow at any length."""
        reach = process.chance_into(x, process.sigma(t))[..., : self.K]
        chances, length = self.chances.to(x.device), x.shape[1]
        ahead = [self.pairs.to(x.device) * reach[:, 0, :, None]]  # at l = 1: p(x^{l-1} = a, x^l = b, seen before l)
        for place in range(1, length - 1):
            ahead.append(scaled(torch.einsum("zab,zb,abc->zbc", ahead[-1], reach[:, place], chances)))
        behind = [torch.ones_like(ahead[0])]  # at the last l: p(seen after l | x^{l-1} = a, x^l = b)
        for place in range(length - 1, 1, -1):
            behind.append(scaled(torch.einsum("abc,zc,zbc->zab", chances, reach[:, place], behind[-1])))
        behind.reverse()
        first = torch.einsum("ab,zb,zab->za", self.pairs.to(x.device), reach[:, 1], behind[0])
        rest = [(f * b).sum(1) for f, b in zip(ahead, behind, strict=True)]
        return torch.stack([first, *rest], 1)

    def posterior(self, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
        """p(x0^l = a | x_t = x), float64 [B,L,K]."""
        return posterior_of_cavity(self.cavity(x, t, process), x, t, process)

    def ratio(self, x: Tensor, t: Time, process: TokenProcess) -> Tensor:
        """p_t(x with x^l := k)/p_t(x), float64 [B,L,states]."""
        return ratio_of_cavity(self.cavity(x, t, process), x, t, process)


def scaled(message: Tensor) -> Tensor:
    return message / message.sum((1, 2), keepdim=True)


def _fitting(target: Table | Markov, process: TokenProcess) -> None:
    if target.K != process.K:
        raise ValueError(f"process: {process.name} has K = {process.K}, but {target.name} has {target.K} letters")


def exact_ratio(target: Table | Markov, process: TokenProcess) -> Predictor:
    """The exact ratio model of `target` under `process`; raises ValueError if their alphabets differ."""
    _fitting(target, process)
    return Predictor("ratio", lambda x, t: target.ratio(x, t, process))


def exact_posterior(target: Table | Markov, process: TokenProcess) -> Predictor:
    """The exact posterior model of `target` under `process`; raises ValueError if their alphabets differ."""
    _fitting(target, process)
    return Predictor("posterior", lambda x, t: target.posterior(x, t, process))


JOINT_3X3 = [[0.20, 0.05, 0.05], [0.02, 0.25, 0.08], [0.10, 0.05, 0.20]]

# Chance in percent of the next letter (columns) after the last two (rows aa, ab, .., dd). Drawn once: row i from a
# Dirichlet law with concentration .4 under torch seed 1000 + i, floored at 2 percent, rounded to whole percents.
# Entropy 7.9892 nats per sequence of 8, .9052 per further letter, log 4 = 1.3863 if letters were free.
AFTER_TWO = [
    [7, 3, 9, 81], [35, 5, 7, 53], [61, 2, 23, 14], [41, 2, 29, 28],
    [7, 4, 37, 52], [72, 6, 14, 8], [2, 2, 2, 94], [4, 37, 10, 49],
    [21, 5, 72, 2], [58, 21, 16, 5], [9, 3, 15, 73], [3, 3, 78, 16],
    [3, 10, 5, 82], [8, 20, 63, 9], [6, 77, 10, 7], [60, 4, 14, 22],
]  # fmt: skip


def joint_3x3() -> Table:
    """Two tokens of three letters."""
    return Table("joint-3x3", torch.tensor(JOINT_3X3, dtype=torch.float64))


def markov(length: int = 8) -> Markov:
    """Four letters with the table above."""
    percent = torch.tensor(AFTER_TWO, dtype=torch.float64)
    K = math.isqrt(percent.shape[0])
    return Markov("markov", (percent / 100).reshape(K, K, K), length)


NAMED: dict[str, Callable[[], Table | Markov]] = {"joint-3x3": joint_3x3, "markov": markov}
