"""Labels: laws made of classes, and the law of x0 given its class, for every row of a batch its own.

    p(x) = sum_c w_c p_c(x),   p(c | x) proportional to w_c p_c(x),   E[x0 | x] = sum_c p(c | x) E_c[x0 | x]
holds at every (alpha, sigma). A labelled target has `class_laws`, a target for each class, `class_weights` (float64
[K]) and `given(label)`. Labels are int64 and -1 stands for "no label", under which a row follows the whole law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reference_impls.core.convert import Coefficient
from reference_impls.core.types import Draws

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Given:
    """The law of x0 given its label: row b of a batch has label[b] of `law`, a labelled target.

    label: int64 [B], or [1] for a batch of any size. Raises ValueError for labels that the law does not have.
    """

    law: Any
    label: Tensor

    def __post_init__(self):
        if getattr(self.law, "class_laws", None) is None:
            raise ValueError(f"law: {self.law.name} has no classes, expected a labelled target")
        classes = len(self.law.class_laws)
        if self.label.ndim != 1 or self.label.is_floating_point():
            raise ValueError(
                f"label: {self.label.dtype} of shape {tuple(self.label.shape)}, expected int64 [B], one for each row"
            )
        if self.label.numel() and not -1 <= self.label.min() <= self.label.max() < classes:
            raise ValueError(
                f"label: {self.label.min().item()} .. {self.label.max().item()}, expected 0 .. {classes - 1}, the "
                f"classes of {self.law.name}, or -1 for none"
            )

    @property
    def name(self) -> str:
        return f"{self.law.name} given its label"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.law.shape)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,*D], dtype and device; the classes share their draws, so that a row is its own."""
        return self._by_class(lambda law, rows: law.sample(draws, like)[rows], like)

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x, label], [B,*D]."""
        return self._by_class(lambda law, rows: law.mean(x[rows], *_at(rows, alpha, sigma)), x)

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x given the label, [B] in nats."""
        return self._by_class(lambda law, rows: law.log_prob(x[rows], *_at(rows, alpha, sigma)), x)

    def _by_class(self, of: Callable[[Any, Any], Tensor], x: Tensor) -> Tensor:
        """of(law of a class, the rows that have it) for every class there is, each row put in its place."""
        present = self.label.unique().tolist()
        if len(present) <= 1 or x.shape[0] == 0:
            return of(self._law(present[0] if present else -1), slice(None))
        if self.label.shape[0] != x.shape[0]:
            raise ValueError(f"label: {self.label.shape[0]} labels, expected 1 or {x.shape[0]}, one for each row of x")
        places = [(self.label == c).nonzero()[:, 0].to(x.device) for c in present]
        parts = [of(self._law(c), rows) for c, rows in zip(present, places, strict=True)]
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _law(self, label: int) -> Any:
        return self.law if label < 0 else self.law.class_laws[label]


def _at(rows: Any, *levels: Coefficient) -> tuple[Coefficient, ...]:
    """The levels of these rows: one for all stays what it is."""
    return tuple(c[rows] if isinstance(c, Tensor) and c.ndim and c.shape[0] > 1 else c for c in levels)


def class_log_prob(target: Any, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
    """log p(label = c | alpha x0 + sigma eps = x), [B,K] in nats; needs a density at (alpha, sigma)."""
    each = torch.stack([law.log_prob(x, alpha, sigma) for law in target.class_laws], dim=1)
    return (each + target.class_weights.log().to(each)).log_softmax(1)


def spread_labels(weights: Tensor, samples: range) -> Tensor:
    """int64, a label for each sample index k: the class in which frac((k + 1/2) golden) falls of [0, 1) cut by weights.

    It depends on k alone. Any b indices in a row hold each class b times its weight, to within a few: stratified
    without order, for every way to cut samples into shards and batches.
    """
    u = (torch.arange(samples.start, samples.stop, dtype=torch.float64) + 0.5) * GOLDEN % 1.0
    return torch.searchsorted(weights.double().cumsum(0)[:-1].contiguous(), u, right=True)


NAMED: dict[str, Callable[[], Any]] = {}  # labels are a trait of targets that stand in other modules
