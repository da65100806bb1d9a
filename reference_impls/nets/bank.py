"""Several networks of one size, of which each call asks one: which one, the caller says."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor, nn

from reference_impls.core.types import Time
from reference_impls.nets.mlp import MLP
from reference_impls.nets.unet import UNet

KINDS: dict[str, type[nn.Module]] = {"mlp": MLP, "unet": UNet}


class Bank(nn.Module):
    """(x [B,*D], noise embedding [B] or a float, which) -> what the network `which` of `experts` says of x's row.

    of: "mlp", perceptrons that see x flattened, or "unet". options: of each network, see MLP (there dim is the product
    of *D) and UNet. Nothing is shared: the first weights are drawn one network after the other.
    """

    def __init__(self, generator: Generator, *, experts: int, of: str = "mlp", **options: Any):
        super().__init__()
        if of not in KINDS:
            raise ValueError(f"of: {of!r} is not known; expected one of {', '.join(KINDS)}")
        self.flat = of == "mlp"
        self.experts = nn.ModuleList(KINDS[of](generator, **options) for _ in range(experts))

    def forward(self, x: Tensor, embedding: Time, which: int = 0) -> Tensor:
        seen = x.flatten(1) if self.flat else x
        return self.experts[which](seen, embedding).reshape(x.shape)


NET = Bank
