"""Empirical distributions: n equally likely points, if wanted blurred by N(0, b^2 I), with their exact denoiser.

    w_i = softmax_i(-|x - alpha y_i|^2 / (2 v)),  v = sigma^2 + alpha^2 b^2,  ybar = sum_i w_i y_i
    E[x0|x] = ybar + (alpha b^2 / v) (x - alpha ybar)
"digits" are the atoms of the training half of scikit-learn's 8x8 digits: real images whose exact denoiser is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal

import torch
from torch import Tensor

from reference_impls.core.convert import Coefficient
from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws
from reference_impls.targets.labelled import Given

ENTRIES = {"cpu": 2**18}  # rows x atoms held at once on a device: 2 MiB of weights stay near a core (5 ms for 900
OTHER_ENTRIES = 2**26  # digits against 10 ms in one piece, one thread); elsewhere the bound is memory
SMALLEST = 1e-100  # of v: keeps the limit v -> 0, the nearest atom, from becoming 0/0
TRAIN = 897
SPLIT_SEED = 8


@dataclass(frozen=True)
class Atoms:
    """The uniform law on atoms [n,*D] (float64), convolved with N(0, blur^2 I).

    alpha, sigma: floats, or tensors [B,1,..]. Weights are computed in float64 whatever x's dtype: logits reach 1e8,
    and a float32 logit of 1e3 is off by 1e-4, and so is the mean. Results have x's dtype and device.
    labels: int64 [n], the class of each atom, 0 .. K-1 with none empty; None where they have no classes.
    """

    name: str
    atoms: Tensor
    blur: float = 0.0
    labels: Tensor | None = None
    _placed: dict[tuple, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.atoms.shape[1:])

    @cached_property
    def class_laws(self) -> tuple[Atoms, ...] | None:
        """The uniform law on the atoms of each class, blurred alike."""
        if self.labels is None:
            return None
        classes = range(int(self.labels.max()) + 1)
        return tuple(Atoms(f"{self.name} class {c}", self.atoms[self.labels == c], self.blur) for c in classes)

    @property
    def class_weights(self) -> Tensor | None:
        return None if self.labels is None else self.labels.bincount().double() / self.labels.shape[0]

    def given(self, label: Tensor) -> Given:
        """The law of x0 given its class, see Given."""
        return Given(self, label)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,*D], dtype and device: an atom by inverse CDF, then the blur."""
        count = self.atoms.shape[0]
        index = (draws.uniform("atom", (like.shape[0],)) * count).long().clamp_(max=count - 1)  # u n may round up to n
        x0 = self.atoms[index.to(self.atoms.device)].to(like)
        return x0 + self.blur * draws.normal("blur", like) if self.blur else x0

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x], [B,*D]; at v = 0 the nearest atom to x/alpha."""
        alpha, spread = _column(alpha, x), self._spread(_column(alpha, x), _column(sigma, x))
        atoms = self._points(x.device, torch.float64 if x.dtype == torch.float64 else torch.float32)
        bar = self._by_rows(lambda logits: logits.softmax(1).to(atoms.dtype) @ atoms, x, alpha, spread)
        if self.blur:
            bar = bar + (alpha * self.blur**2 / spread) * (x.flatten(1) - alpha * bar)
        return bar.to(x.dtype).reshape(x.shape)

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x, [B] in nats; there is none at v = 0."""
        alpha, spread = _column(alpha, x), self._spread(_column(alpha, x), _column(sigma, x))
        log_sum = self._by_rows(lambda logits: logits.logsumexp(1, keepdim=True), x, alpha, spread)
        flat = x.flatten(1).double()
        volume = torch.as_tensor(2 * math.pi * spread, dtype=torch.float64)
        log_volume = flat.shape[1] / 2 * volume.log() + math.log(self.atoms.shape[0])
        return (log_sum - (flat**2).sum(1, keepdim=True) / (2 * spread) - log_volume).squeeze(1).to(x.dtype)

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Index (int64 [B]) of the nearest atom to each row of x [B,*D], and its Euclidean distance ([B])."""
        index = self._by_rows(lambda logits: logits.argmax(1), x, 1.0, 1.0)
        residual = x.flatten(1).double() - self._points(x.device, torch.float64)[index]
        return index, residual.norm(dim=1).to(x.dtype)

    def _spread(self, alpha: Coefficient, sigma: Coefficient) -> Coefficient:
        spread = sigma**2 + (alpha * self.blur) ** 2
        return spread.clamp(min=SMALLEST) if isinstance(spread, Tensor) else max(spread, SMALLEST)

    def _points(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        key = device, dtype
        if key not in self._placed:
            self._placed[key] = self.atoms.flatten(1).to(device, dtype).contiguous()
        return self._placed[key]

    def _half_squares(self, device: torch.device) -> Tensor:
        key = device, "half squares"
        if key not in self._placed:
            self._placed[key] = (self._points(device, torch.float64) ** 2).sum(1)[None] / 2
        return self._placed[key]

    def _by_rows(self, of: Callable[[Tensor], Tensor], x: Tensor, alpha: Coefficient, spread: Coefficient) -> Tensor:
        """of(logits [rows,n]) for as many rows at a time as ENTRIES allows, put together.

        logits = (alpha x.y_i - alpha^2 |y_i|^2/2) / v in one GEMM: |x|^2 is common to all atoms and cancels.
        """
        x, points, squares = x.flatten(1).double(), self._points(x.device, torch.float64), self._half_squares(x.device)
        height = max(1, ENTRIES.get(x.device.type, OTHER_ENTRIES) // points.shape[0])
        parts = []
        for top in range(0, max(1, x.shape[0]), height):
            rows = slice(top, top + height)
            a, v = (value[rows] if isinstance(value, Tensor) else value for value in (alpha, spread))
            if isinstance(v, Tensor) or isinstance(a, Tensor):
                logits = (x[rows] * (a / v)) @ points.T - (a * a / v) * squares
            else:
                logits = torch.addmm(squares, x[rows], points.T, beta=-a * a / v, alpha=a / v)
            parts.append(of(logits))
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def _column(value: Coefficient, x: Tensor) -> Coefficient:
    """A coefficient [B,1,..] or scalar tensor as float64 [B,1]; a float stays one."""
    return value.double().reshape(-1, 1).expand(x.shape[0], 1) if isinstance(value, Tensor) else value


@cache
def _all_digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # only the digits need scikit-learn

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float64) / 8 - 1  # 0..16 to [-1, 1]
    return images[:, None], torch.tensor(bunch.target, dtype=torch.int64)


@cache
def _in_train() -> Tensor:
    """Of the 1797 digits, which are in the train part (bool): TRAIN of them, each class in its share."""
    labels = _all_digits()[1]
    total = labels.shape[0]
    quota = [TRAIN * int((labels == k).sum()) / total for k in range(10)]
    shares = [math.floor(q) for q in quota]
    by_remainder = sorted(range(10), key=lambda k: (shares[k] - quota[k], k))
    for k in by_remainder[: TRAIN - sum(shares)]:
        shares[k] += 1
    key = Philox(SPLIT_SEED, total).uniform("split", (total,))
    chosen = torch.zeros(total, dtype=torch.bool)
    for k in range(10):
        members = (labels == k).nonzero()[:, 0]
        chosen[members[key[members].argsort()[: shares[k]]]] = True
    return chosen


def digits(part: Literal["train", "held_out", "all"]) -> tuple[Tensor, Tensor]:
    """Images float64 [n,1,8,8] in [-1,1] and labels int64 [n]: 897 train, 900 held out, or all 1797, in file order."""
    if part not in ("train", "held_out", "all"):
        raise ValueError(f"part: {part!r} is not known; expected 'train', 'held_out' or 'all'")
    images, labels = _all_digits()
    if part == "all":
        return images.clone(), labels.clone()
    kept = _in_train() if part == "train" else ~_in_train()
    return images[kept], labels[kept]


def labelled_digits() -> Atoms:
    """The training digits with their labels."""
    images, labels = digits("train")
    return Atoms("digits", images, labels=labels)


NAMED: dict[str, Callable[[], Atoms]] = {"digits": labelled_digits}
