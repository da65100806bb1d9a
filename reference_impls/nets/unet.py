"""A small U-Net for images of even height and width: residual blocks at two resolutions, attention at the lower."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.core.types import Time
from reference_impls.nets.layers import NoiseEmbedding, convolution, linear, table, widened

GROUPS = 8


class Residual(nn.Module):
    """x + branch(x), the branch scaled and shifted by the noise embedding after its second normalisation."""

    def __init__(self, inputs: int, outputs: int, embedding: int, generator: Generator):
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, inputs)
        self.conv_in = convolution(inputs, outputs, 3, generator)
        self.modulation = linear(embedding, 2 * outputs, generator, silent=True)
        self.norm_out = nn.GroupNorm(GROUPS, outputs)
        self.conv_out = convolution(outputs, outputs, 3, generator, silent=True)
        self.skip = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1, generator)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv_in(functional.silu(self.norm_in(x)))
        hidden = self.conv_out(functional.silu(torch.addcmul(shift, self.norm_out(hidden), 1 + scale)))
        return self.skip(x) + hidden


class Attention(nn.Module):
    """One-head self-attention over all places."""

    def __init__(self, channels: int, generator: Generator):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = convolution(channels, 3 * channels, 1, generator)
        self.out = convolution(channels, channels, 1, generator, silent=True)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        seen = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen.transpose(1, 2).unflatten(2, x.shape[2:]))


class UNet(nn.Module):
    """(x [B,C,H,W], noise embedding [B] or a float) -> [B,outputs,H,W] in float32 or better; H and W even.

    width: channels at full resolution, `inner` at half. The defaults have 139,033 parameters for one channel.
    seen: channels of an image [B,seen,H,W] that it sees beside x, whose own noise embedding `level` is added to x's.
    outputs: channels of the result, C unless given.
    classes: of labels int64 [B] that it may be told, each added to the noise embedding; -1, or no label, adds nothing.
    """

    def __init__(
        self, generator: Generator, *, channels: int = 1, width: int = 32, inner: int = 40, embedding: int = 64,
        seen: int = 0, classes: int = 0, outputs: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.embed = NoiseEmbedding(embedding, generator)
        if seen:
            self.embed_seen = NoiseEmbedding(embedding, generator)
        self.enter = convolution(channels + seen, width, 3, generator)
        self.down = Residual(width, width, embedding, generator)
        self.low_in = Residual(width, inner, embedding, generator)
        self.attention = Attention(inner, generator)
        self.low_out = Residual(inner, inner, embedding, generator)
        self.up = Residual(inner + width, width, embedding, generator)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.leave = convolution(width, outputs or channels, 3, generator, silent=True)
        if classes:
            self.labels = table(classes, embedding, generator)  # drawn last: the others start as without labels

    def forward(
        self, x: Tensor, embedding: Time, seen: Tensor | None = None, level: Time = 0.0, label: Tensor | None = None
    ) -> Tensor:
        context = self.embed(embedding, x.shape[0])
        if label is not None:
            label = label.to(x.device)
            context = context + self.labels(label.clamp(min=0)) * (label >= 0).to(context)[:, None]
        if seen is not None:
            context = context + self.embed_seen(level, x.shape[0])
            x = torch.cat([x, seen.to(x)], dim=1)
        fine = self.down(self.enter(x.to(self.enter.weight.dtype)), context)
        coarse = self.low_in(functional.avg_pool2d(fine, 2), context)
        coarse = self.low_out(self.attention(coarse), context)
        coarse = functional.interpolate(coarse, scale_factor=2, mode="nearest")
        hidden = self.up(torch.cat([coarse, fine], dim=1), context)
        return widened(self.leave(functional.silu(self.norm(hidden))))


NET = UNet
