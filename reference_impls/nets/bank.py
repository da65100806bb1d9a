"""Several perceptrons of one size, of which each call asks one: which one, the caller says."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor, nn

from reference_impls.core.types import Time
from reference_impls.nets.mlp import MLP


class Bank(nn.Module):
    """(x [B,*D], noise embedding [B] or a float, which) -> what the perceptron `which` of `experts` says of x's row.

    options: of each perceptron, see MLP; dim is the product of *D. Nothing is shared: the first weights are drawn one
    network after the other.
    """

    def __init__(self, generator: Generator, *, experts: int, **options: Any):
        super().__init__()
        self.experts = nn.ModuleList(MLP(generator, **options) for _ in range(experts))

    def forward(self, x: Tensor, embedding: Time, which: int = 0) -> Tensor:
        return self.experts[which](x.flatten(1), embedding).reshape(x.shape)


NET = Bank
