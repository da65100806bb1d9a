"""The pair of U-Nets of gated_pair with activation functions: what its block was simplified from, at equal parameters.

The block's branches, each behind a gain per channel that starts at zero:
    conv1x1, depthwise conv3x3, GELU, times sigmoid(conv1x1 ReLU conv1x1(mean over places)), conv1x1;
    conv1x1, GELU, conv1x1
(the baseline of Chen, Chu, Zhang, Sun, "Simple Baselines for Image Restoration", ECCV 2022). Its inner widths, 3/2, 1/2
and 5/4 of the channels, are ours: they make it as large as the gated block, within 2 %.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.nets.gated import ChannelNorm, GatedUNet
from reference_impls.nets.gated_pair import GatedPair
from reference_impls.nets.layers import convolution, linear


class Activated(nn.Module):
    """The block; `channels` a multiple of 4. embedding: as in gated.Gated, but half as many channels arrive."""

    def __init__(self, channels: int, embedding: int, generator: Generator):
        super().__init__()
        wide, squeezed, mixed = channels * 3 // 2, channels // 2, channels * 5 // 4
        self.modulation = linear(embedding // 2, 4 * channels, generator) if embedding else None
        self.norm_places, self.norm_channels = ChannelNorm(channels), ChannelNorm(channels)
        self.widen = convolution(channels, wide, 1, generator)
        self.look = convolution(wide, wide, 3, generator, groups=wide)
        self.squeeze = convolution(wide, squeezed, 1, generator)
        self.attend = convolution(squeezed, wide, 1, generator)
        self.narrow = convolution(wide, channels, 1, generator)
        self.mix_in = convolution(channels, mixed, 1, generator)
        self.mix_out = convolution(mixed, channels, 1, generator)
        self.gain_places = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gain_channels = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        shift_p, scale_p, shift_c, scale_c = (
            (0.0,) * 4
            if context is None
            else self.modulation(functional.gelu(context))[:, :, None, None].chunk(4, dim=1)
        )
        hidden = functional.gelu(self.look(self.widen(self.norm_places(x) * (1 + scale_p) + shift_p)))
        hidden = hidden * self.attend(self.squeeze(hidden.mean((2, 3), keepdim=True)).relu()).sigmoid()
        x = x + self.gain_places * self.narrow(hidden)
        hidden = functional.gelu(self.mix_in(self.norm_channels(x) * (1 + scale_c) + shift_c))
        return x + self.gain_channels * self.mix_out(hidden)


class ActivatedUNet(GatedUNet):
    """GatedUNet of that block, with GELU in the noise embedding."""

    BLOCK = Activated
    BEND = staticmethod(functional.gelu)
    SHARE = 1.0


class ActivatedPair(GatedPair):
    """As GatedPair, of ActivatedUNet."""

    UNET = ActivatedUNet


NET = ActivatedPair
