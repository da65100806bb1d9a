"""Four 3x3 convolutions with ReLU and average pooling and one linear layer: a classifier that takes no time."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.nets.layers import convolution, linear, widened


class Pooled(nn.Module):
    """Images [B,1,8,8] -> [B, outputs], as they are: neither input nor layers are normalised.

    channels: of the first convolution, doubled at each further one. The last three are followed by a halving of the
    side, so that one pixel is left for the linear layer.
    """

    def __init__(self, generator: Generator, *, channels: int = 8, outputs: int = 10):
        super().__init__()
        widths = [1, *(channels * 2**k for k in range(4))]
        pairs = zip(widths, widths[1:], strict=False)
        self.convolutions = nn.ModuleList(convolution(inputs, width, 3, generator) for inputs, width in pairs)
        self.last = linear(widths[-1], outputs, generator)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.last.weight.dtype)
        for k, layer in enumerate(self.convolutions):
            x = functional.relu(layer(x))
            x = functional.avg_pool2d(x, 2) if k else x
        return widened(self.last(x.flatten(1)))


NET = Pooled
