"""How much of a run its network takes, at the size of a published one: the sampler's share is what is left.

The network has the layout and size of EDM's DDPM++ for CIFAR-10 (55.7 million parameters there: widths 256 at 32, 16
and 8 pixels, four blocks each, attention at 16) with random weights, as time does not depend on them.
"""

from __future__ import annotations

import statistics

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from benchmarks.overhead import DeviceNoise
from benchmarks.timing import seconds_of
from reference_impls import catalogue
from reference_impls.core import grids, process
from reference_impls.core.types import Predictor, Sampler, Time
from reference_impls.nets.layers import NoiseEmbedding, convolution
from reference_impls.nets.unet import Attention, Residual

WIDTH, BLOCKS, LEVELS, ATTENDED = 256, 4, 3, 1
STEPS, PAIRS = 18, 4


class Large(nn.Module):
    """(x [B,3,32,32], noise embedding [B] or a float) -> [B,3,32,32]."""

    def __init__(self, seed: int = 0):
        super().__init__()
        generator = Generator().manual_seed(seed)

        def block(inputs: int, level: int) -> nn.ModuleList:
            parts = [Residual(inputs, WIDTH, 2 * WIDTH, generator)]
            return nn.ModuleList(parts + ([Attention(WIDTH, generator)] if level == ATTENDED else []))

        self.embed = NoiseEmbedding(2 * WIDTH, generator)
        self.enter = convolution(3, WIDTH, 3, generator)
        self.down = nn.ModuleList(block(WIDTH, level) for level in range(LEVELS) for _ in range(BLOCKS))
        self.middle = nn.ModuleList([block(WIDTH, ATTENDED), block(WIDTH, LEVELS)])
        self.up = nn.ModuleList(block(2 * WIDTH, level) for level in reversed(range(LEVELS)) for _ in range(BLOCKS + 1))
        self.norm, self.leave = nn.GroupNorm(8, WIDTH), convolution(WIDTH, 3, 3, generator)

    def forward(self, x: Tensor, embedding: Time) -> Tensor:
        context, kept = self.embed(embedding, x.shape[0]), []
        x = self.enter(x)
        for place, parts in enumerate(self.down):
            if place % BLOCKS == 0:
                x = functional.avg_pool2d(x, 2) if place else x
                kept.append(x)
            x = through(parts, x, context)
            kept.append(x)
        for parts in self.middle:
            x = through(parts, x, context)
        for place, parts in enumerate(self.up):
            x = functional.interpolate(x, scale_factor=2, mode="nearest") if place and place % (BLOCKS + 1) == 0 else x
            x = through(parts, torch.cat([x, kept.pop()], 1), context)
        return self.leave(functional.silu(self.norm(x)))


def through(parts: nn.ModuleList, x: Tensor, context: Tensor) -> Tensor:
    """A residual block, and attention where there is one."""
    for part in parts:
        x = part(x, context) if isinstance(part, Residual) else part(x)
    return x


def heun() -> Sampler:
    """Heun's method on the path ve-edm."""
    cards = catalogue.samplers().values()
    return next(card for card in cards if card.id.endswith(".heun") and card.path == "ve-edm")


class Network:
    """On a GPU if there is one, 64 images at a time; else on the CPU, one at a time."""

    timeout = 1200

    def setup(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = Large().to(self.device).eval()
        self.x = 80 * torch.ones(64 if self.device.type == "cuda" else 1, 3, 32, 32, device=self.device)

    @torch.inference_mode()
    def track_network_share(self) -> float:
        """Median over alternating pairs of (the run's evaluations alone)/(an 18-step Heun run)."""
        path, net = process.named("ve-edm"), self.net
        grid, card = grids.power(7.0)(STEPS, path), heun()
        model, draws = Predictor("mean", lambda x, t: net(x, t)), DeviceNoise(0, self.device)
        calls = grid.tolist()[:-1] * 2

        def run() -> float:
            return card.sample(model, self.x, grid, process=path, draws=draws).nfe

        def alone() -> None:
            for t in calls:
                net(self.x, t)

        assert run() == len(calls), "the network alone must be asked as often"
        alone()
        pairs = []
        for pair in range(PAIRS):
            sides = (alone, run) if pair % 2 else (run, alone)
            spent = {side: seconds_of(side, self.device) for side in sides}
            pairs.append(spent[alone] / spent[run])
        return statistics.median(pairs)

    track_network_share.unit = "share of the run's seconds"
