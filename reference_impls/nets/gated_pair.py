"""Two gated U-Nets trained together: one looks at an image alone, the other at a noised state beside an estimate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from reference_impls.core.types import Time
from reference_impls.nets.gated import GatedUNet


class GatedPair(nn.Module):
    """first: [B,C,H,W] -> [B,C,H,W], near the identity before training; second: ([B,2C,H,W], embedding) -> [B,C,H,W].

    Called itself it gives the second's output for x beside the first's estimate of x. options: of both, see GatedUNet.
    """

    UNET = GatedUNet

    def __init__(self, generator: Generator, *, channels: int = 1, **options: Any):
        super().__init__()
        self.first = self.UNET(
            generator, channels=channels, outputs=channels, embedded=False, residual=True, **options
        )
        self.second = self.UNET(generator, channels=2 * channels, outputs=channels, **options)

    def forward(self, x: Tensor, embedding: Time) -> Tensor:
        return self.second(torch.cat([x, self.first(x).to(x)], dim=1), embedding)


NET = GatedPair
