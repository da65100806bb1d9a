"""U-Nets without pointwise activation functions: products of channel halves and of channel means do the work.

A block adds two branches to its input, each behind a gain per channel that starts at zero:
    conv1x1, depthwise conv3x3, gate, times conv1x1(mean over places), conv1x1;      conv1x1, gate, conv1x1.
The gate multiplies the first half of the channels by the second (Chen, Chu, Zhang, Sun, "Simple Baselines for Image
Restoration", ECCV 2022). A noise embedding scales and shifts what enters each branch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.core.types import Time
from reference_impls.nets.layers import convolution, halving, linear, widened


def gate(x: Tensor) -> Tensor:
    """[B,2C,..] -> [B,C,..]: the product of the two halves, hence of degree 2 in x."""
    first, second = x.chunk(2, dim=1)
    return first * second


class ChannelNorm(nn.Module):
    """Each place's channels to mean 0 and variance 1, then a gain per channel. floor: added to the variance."""

    def __init__(self, channels: int, floor: float = 1e-5):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) * (variance + self.floor).rsqrt() * self.gain


class Gated(nn.Module):
    """The block. embedding: width of the noise embedding, 0 for none; its gate moves what enters a branch."""

    def __init__(self, channels: int, embedding: int, generator: Generator):
        super().__init__()
        self.modulation = linear(embedding // 2, 4 * channels, generator) if embedding else None
        self.norm_places, self.norm_channels = ChannelNorm(channels), ChannelNorm(channels)
        self.widen = convolution(channels, 2 * channels, 1, generator)
        self.look = convolution(2 * channels, 2 * channels, 3, generator, groups=2 * channels)
        self.attend = convolution(channels, channels, 1, generator)
        self.narrow = convolution(channels, channels, 1, generator)
        self.mix_in = convolution(channels, 2 * channels, 1, generator)
        self.mix_out = convolution(channels, channels, 1, generator)
        self.gain_places = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gain_channels = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        shift_p, scale_p, shift_c, scale_c = (
            (0.0,) * 4 if context is None else self.modulation(gate(context))[:, :, None, None].chunk(4, dim=1)
        )
        hidden = gate(self.look(self.widen(self.norm_places(x) * (1 + scale_p) + shift_p)))
        hidden = hidden * self.attend(hidden.mean((2, 3), keepdim=True))
        x = x + self.gain_places * self.narrow(hidden)
        hidden = gate(self.mix_in(self.norm_channels(x) * (1 + scale_c) + shift_c))
        return x + self.gain_channels * self.mix_out(hidden)


class Sinusoids(nn.Module):
    """A number c per sample as sines and cosines of c 10000^(-k/(width/2 - 1)), which tell integers apart.

    Computed in at least float32 whatever the network's dtype.
    """

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.frequencies = tuple(math.exp(-math.log(10000) * k / (half - 1)) for k in range(half))

    def forward(self, embedding: Tensor) -> Tensor:
        c = embedding if embedding.dtype == torch.float64 else embedding.float()
        phase = torch.stack([c * frequency for frequency in self.frequencies], dim=-1)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class GatedUNet(nn.Module):
    """(x [B,C,H,W], noise embedding [B] or a float) -> [B,outputs,H,W] in float32 or better; any H and W.

    down, middle, up: blocks per resolution; each resolution of `down` halves the size and doubles the width.
    embedded False: takes no noise embedding. residual: adds x itself, of as many channels as come out.
    Sizes that are no multiple of 2^len(down) are filled up with zeros below and on the right.
    BLOCK, BEND and SHARE are the block, what stands between the layers of the noise embedding, and the share of its
    channels that leave: for a subclass that compares another block in the same net.
    """

    BLOCK: type[nn.Module] = Gated
    BEND = staticmethod(gate)
    SHARE = 0.5

    def __init__(
        self, generator: Generator, *, channels: int = 1, outputs: int = 1, width: int = 32,
        down: Sequence[int] = (1, 1, 1, 1), middle: int = 1, up: Sequence[int] = (1, 1, 1, 1),
        embedded: bool = True, residual: bool = False,
    ):  # fmt: skip
        super().__init__()
        embedding = 4 * width if embedded else 0
        if embedded:
            self.sinusoids = Sinusoids(width)
            self.embed_in = linear(width, 2 * embedding, generator)
            self.embed_out = linear(int(2 * embedding * self.SHARE), int(embedding / 2 / self.SHARE), generator)
        self.embedded, self.residual, self.multiple = embedded, residual, 2 ** len(down)
        self.enter = convolution(channels, width, 3, generator)
        self.leave = convolution(width, outputs, 3, generator, silent=True)

        def blocks(count: int, at: int) -> nn.ModuleList:
            return nn.ModuleList([self.BLOCK(at, embedding, generator) for _ in range(count)])

        self.down, self.halve, self.raise_, self.up = (nn.ModuleList() for _ in range(4))
        for count in down:
            self.down.append(blocks(count, width))
            self.halve.append(halving(width, 2 * width, generator))
            width *= 2
        self.middle = blocks(middle, width)
        for count in up:
            self.raise_.append(convolution(width, 2 * width, 1, generator, bias=False))
            width //= 2
            self.up.append(blocks(count, width))

    def _context(self, embedding: Time | None, batch: int) -> Tensor | None:
        if not self.embedded:
            return None
        weight = self.embed_in.weight
        if not isinstance(embedding, Tensor):
            embedding = torch.tensor(embedding, dtype=torch.float64)
        features = self.sinusoids(embedding.to(weight.device).expand(batch)).to(weight.dtype)
        return self.embed_out(self.BEND(self.embed_in(features)))

    def forward(self, x: Tensor, embedding: Time | None = None) -> Tensor:
        height, across = x.shape[2:]
        x = x.to(self.enter.weight.dtype)
        x = functional.pad(x, (0, -across % self.multiple, 0, -height % self.multiple))
        context, skips = self._context(embedding, x.shape[0]), []
        hidden = self.enter(x)
        for stage, halve in zip(self.down, self.halve, strict=True):
            for block in stage:
                hidden = block(hidden, context)
            skips.append(hidden)
            hidden = halve(hidden)
        for block in self.middle:
            hidden = block(hidden, context)
        for raise_, stage in zip(self.raise_, self.up, strict=True):
            hidden = functional.pixel_shuffle(raise_(hidden), 2) + skips.pop()
            for block in stage:
                hidden = block(hidden, context)
        out = self.leave(hidden)
        return widened((out + x if self.residual else out)[..., :height, :across])


NET = GatedUNet
