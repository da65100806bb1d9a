"""Layers that draw their first weights from a torch.Generator and never from the global one.

Weights are normal with standard deviation 1/sqrt(fan_in), biases zero; layers made with ``silent=True`` start at zero,
so that a residual branch or an output adds nothing before training.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from reference_impls.core.types import Time


def _drawn(layer: nn.Module, generator: Generator, *, silent: bool) -> nn.Module:
    weight = layer.weight
    fan_in = weight[0].numel() if not isinstance(layer, nn.Embedding) else 1
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) * (0.0 if silent else fan_in**-0.5))
        if getattr(layer, "bias", None) is not None:
            layer.bias.zero_()
    return layer


def linear(inputs: int, outputs: int, generator: Generator, *, silent: bool = False) -> nn.Module:
    return _drawn(skip_init(nn.Linear, inputs, outputs), generator, silent=silent)


def convolution(
    inputs: int, outputs: int, kernel: int, generator: Generator, *,
    silent: bool = False, groups: int = 1, bias: bool = True,
) -> nn.Module:  # fmt: skip
    """Stride 1, zero padding, same size out."""
    layer = skip_init(nn.Conv2d, inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    return _drawn(layer, generator, silent=silent)


def halving(inputs: int, outputs: int, generator: Generator) -> nn.Module:
    """A 2x2 convolution of stride 2: half the size out."""
    return _drawn(skip_init(nn.Conv2d, inputs, outputs, 2, stride=2), generator, silent=False)


def neighbourhood(width: int, reach: int, generator: Generator) -> nn.Module:
    """A convolution [B,width,L] -> [B,width,L] over `reach` places on either side, zeros beyond the ends."""
    return _drawn(skip_init(nn.Conv1d, width, width, 2 * reach + 1, padding=reach), generator, silent=False)


def table(rows: int, width: int, generator: Generator, *, silent: bool = False) -> nn.Module:
    """An embedding with entries N(0, 1), or zeros."""
    return _drawn(skip_init(nn.Embedding, rows, width), generator, silent=silent)


class Fourier(nn.Module):
    """A number c per sample as [c, cos 2 pi f c, sin 2 pi f c] with f geometric from `low` to `high`, no randomness.

    The default frequencies resolve embeddings of order 1 (a time in [0,1], a log noise level over a few units).
    Computed in at least float32 whatever the network's dtype: half precision would lose the phase.
    """

    def __init__(self, pairs: int = 8, low: float = 0.125, high: float = 8.0):
        super().__init__()
        self.width = 2 * pairs + 1
        exponents = torch.linspace(math.log(low), math.log(high), pairs, dtype=torch.float64)
        self.frequencies = tuple((2 * math.pi * exponents.exp()).tolist())

    def forward(self, embedding: Tensor) -> Tensor:
        """[B] -> [B, 2 pairs + 1]."""
        c = embedding if embedding.dtype == torch.float64 else embedding.float()
        phase = torch.stack([c * frequency for frequency in self.frequencies], dim=-1)
        return torch.cat([c[:, None], phase.cos(), phase.sin()], dim=-1)


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise embedding and one hidden layer: [B] or a float -> [B, width], after SiLU."""

    def __init__(self, width: int, generator: Generator):
        super().__init__()
        self.features = Fourier()
        self.first = linear(self.features.width, width, generator)
        self.second = linear(width, width, generator)

    def forward(self, embedding: Time, batch: int) -> Tensor:
        weight = self.first.weight
        if not isinstance(embedding, Tensor):
            embedding = torch.tensor(embedding, dtype=torch.float64)
        features = self.features(embedding.to(weight.device).expand(batch))
        hidden = nn.functional.silu(self.first(features.to(weight.dtype)))
        return nn.functional.silu(self.second(hidden))


def widened(out: Tensor) -> Tensor:
    """float32 or better: what a net returns, whatever the dtype of its weights."""
    return out if out.dtype == torch.float64 else out.float()
