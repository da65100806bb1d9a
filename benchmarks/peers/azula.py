"""Samplers of probabilists/azula (MIT): they take any path alpha, sigma and any list of times, as ours do."""

from __future__ import annotations

from typing import Any

import azula.sample
import torch
from azula.denoise import DiracPosterior
from torch import Tensor

from benchmarks.peers import keyed
from reference_impls.core import grids
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Meter, Run, Sampler, require


class Denoiser(torch.nn.Module):
    """What azula asks: a posterior with a mean, and the path."""

    def __init__(self, model: Meter, process: Process):
        super().__init__()
        self.model, self.process = model, process

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.process.alpha(t), self.process.sigma(t)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return DiracPosterior(mean=self.model(x, t.item()))


def _card(name: str, kind: type, *, own: dict[str, Any] | None = None, **traits: Any) -> Sampler:
    made_of = own or {}

    class Walk(kind):
        """The library's sampler on a list of times of ours."""

        times: Tensor

        @property
        def timesteps(self) -> Tensor:
            return self.times

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
        meter = require(model, "mean", x.shape[0])
        grids.checked(grid)
        walk = Walk(Denoiser(meter, process), steps=len(grid) - 1, silent=True, **made_of)
        walk.times = grid
        with keyed(draws):
            return Run(walk(x), meter.nfe, meter.vjps)

    traits.setdefault("known_failures", {"gradient_reaches_the_start": "samples under torch.no_grad by design"})
    return Sampler(
        id=f"azula.{name}", sample=sample, grid=grids.uniform_t, consumes="mean", path="vp-linear",
        nfe=traits.pop("nfe", lambda grid: grid.shape[0] - 1.0), **traits,
    )  # fmt: skip


POINT = frozenset({"delta"})
LIBRARY = azula.sample
CARDS = (
    _card("ddpm", LIBRARY.DDPMSampler, stochastic=True, weak_order=1.0, exact_on=POINT),
    _card("ddim", LIBRARY.DDIMSampler, order=1.0, exact_on=POINT),
    _card("euler", LIBRARY.EulerSampler, order=1.0),
    _card("heun", LIBRARY.HeunSampler, order=2.0, nfe=lambda grid: 2.0 * (grid.shape[0] - 1)),
    _card("ito", LIBRARY.ItoSampler, stochastic=True, weak_order=1.0),
    _card("zab", LIBRARY.zABSampler, order=2.0),
    _card("vab", LIBRARY.vABSampler, order=2.0),
    _card("zeab", LIBRARY.zEABSampler, order=2.0, exact_on=POINT),
    _card("zeab_3", LIBRARY.zEABSampler, own={"order": 3}, order=3.0, exact_on=POINT),
    _card("xeab", LIBRARY.xEABSampler, order=2.0, exact_on=POINT),
    _card("xeab_3", LIBRARY.xEABSampler, own={"order": 3}, order=3.0, exact_on=POINT),
)
TWINS = {
    "ddpm": "ho2020ddpm.ancestral",
    "ddim": "song2020ddim.ddim",
    "euler": "lipman2022fm.euler",
}
