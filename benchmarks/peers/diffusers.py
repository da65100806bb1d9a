"""Schedulers of huggingface/diffusers (Apache-2.0) on any grid.

A scheduler steps from one training index to another, or along a list `sigmas` of noise levels; here the grid IS that
chain or that list, in float64, so that what is held to the laws is the scheduler's arithmetic and not its choice of
times. Samples are predicted (prediction_type "sample") wherever the scheduler can, so that no conversion is timed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.peers import Brownian, Keyed, Levels, card, ve, vp
from reference_impls.core import grids
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Run, Sampler, require

diffusers.utils.logging.set_verbosity_error()  # a scheduler that adapts its own options says so at every step count


def chain(levels: Levels, y: Tensor, source: Keyed, *, kind: Callable[..., Any], eta: float | None = None) -> Tensor:
    """DDPM and DDIM: the grid's levels are the training chain, and every index of it is visited."""
    abar = (vp(levels.rho) ** 2).flip(0)  # index 0 is the cleanest level
    clean = levels.rho[-1].item() == 0
    abar = abar[1:] if clean else abar
    made = kind(num_train_timesteps=len(abar), clip_sample=False, prediction_type="sample")
    made.alphas_cumprod, made.one = abar, torch.ones((), dtype=torch.float64)
    made.final_alpha_cumprod = made.one
    made.set_timesteps(len(abar))
    indices = made.timesteps if clean else made.timesteps[:-1]
    more = {} if eta is None else {"eta": eta}
    for index, rho in zip(indices.tolist(), levels.rho.tolist(), strict=False):
        y = made.step(levels.mean(y, rho), index, y, **more).prev_sample
    return y


def listed(rho: Tensor, kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    """A scheduler that walks a list of noise levels: ours."""
    steps = len(rho) - 1
    if "final_sigmas_type" in inspect.signature(kind.__init__).parameters:
        options = {**options, "final_sigmas_type": "zero" if rho[-1] == 0 else "sigma_min"}
    made = kind(prediction_type="sample", **options)
    made.set_timesteps(steps)
    made.sigmas, made.timesteps = rho, torch.arange(steps)
    made.set_begin_index(0)
    return made


def along(levels: Levels, y: Tensor, source: Keyed, *, kind: Callable[..., Any], **options: Any) -> Tensor:
    """The multistep and singlestep schedulers: one evaluation per level."""
    made = listed(levels.rho, kind, options)
    for index, rho in zip(made.timesteps, levels.rho.tolist(), strict=False):
        y = made.step(levels.mean(y, rho), index, y).prev_sample
    return y


def euler(levels: Levels, y: Tensor, source: Keyed) -> Tensor:
    made = diffusers.EulerDiscreteScheduler(prediction_type="sample")
    made.set_timesteps(len(levels.rho) - 1)
    made.sigmas, made.timesteps = levels.rho, torch.arange(len(levels.rho) - 1, dtype=torch.float64)
    made.set_begin_index(0)
    made.is_scale_input_called = True
    for index, rho in zip(made.timesteps, levels.rho.tolist(), strict=False):
        y = made.step(levels.mean(y, rho), index, y).prev_sample
    return y


def doubled(rho: Tensor) -> Tensor:
    """Levels as the two-stage schedulers list them: inner ones twice, the last twice too unless it is clean."""
    inner = rho[1:-1].repeat_interleave(2)
    return torch.cat([rho[:1], inner, rho[-1:]] if rho[-1] == 0 else [rho[:1], inner, rho[-1:], rho[-1:]])


def heun(levels: Levels, y: Tensor, source: Keyed) -> Tensor:
    made = diffusers.HeunDiscreteScheduler(prediction_type="sample")
    made.set_timesteps(len(levels.rho) - 1)
    made.sigmas = doubled(levels.rho)
    made.timesteps = torch.arange(len(made.sigmas) - 1)
    made.set_begin_index(0)
    for index in made.timesteps:
        y = made.step(levels.mean(y, made.sigmas[index].item()), index, y).prev_sample
    return y


def two_stage_sde(levels: Levels, y: Tensor, source: Keyed) -> Tensor:
    """DPMSolverSDE: predicts noise, its second stage lies halfway in log sigma, its noise comes from one path."""
    made = diffusers.DPMSolverSDEScheduler(prediction_type="epsilon")
    made.set_timesteps(len(levels.rho) - 1)
    made.sigmas = doubled(levels.rho)
    made.timesteps = torch.arange(len(made.sigmas) - 1)
    made.set_begin_index(0)
    made.noise_sampler = Brownian(source, y)
    for index in made.timesteps:
        here = made.sigmas[index].item()
        if not made.state_in_first_order:
            here = made.mid_point_sigma.item()
        y = made.step((y - levels.mean(y, here)) / here, index, y).prev_sample
    return y


def flow_euler(model: Any, x: Tensor, grid: Tensor, *, process: Process, draws: Draws) -> Run:
    """FlowMatchEulerDiscrete: state x/(alpha + sigma) at the time sigma/(alpha + sigma), velocity eps - x0.

    At alpha = 0 there is no noise level, but there is this time: 1.
    """
    meter = require(model, "mean", x.shape[0])
    total = process.alpha(grids.checked(grid)) + process.sigma(grid)
    made = diffusers.FlowMatchEulerDiscreteScheduler()
    made.set_timesteps(len(grid) - 1)
    made.sigmas, made.timesteps = process.sigma(grid) / total, torch.arange(len(grid) - 1, dtype=torch.float64)
    made.set_begin_index(0)
    y, scale = x / total[0].item(), total.tolist()
    for index, t in enumerate(grid[:-1].tolist()):
        mean = meter(scale[index] * y, t)
        y = made.step((y - mean) / made.sigmas[index].item(), made.timesteps[index], y).prev_sample
    return Run(scale[-1] * y, meter.nfe, meter.vjps)


def once(grid: Tensor) -> float:
    return grid.shape[0] - 1.0


def twice(grid: Tensor) -> float:
    return 2.0 * (grid.shape[0] - 1) - float(grid[-1] == 0)


MULTI, SINGLE = diffusers.DPMSolverMultistepScheduler, diffusers.DPMSolverSinglestepScheduler
VP = dict(scale=vp, path="vp-linear", nfe=once)
POINT = frozenset({"delta"})


def _along(name: str, kind: Callable[..., Any], *, order: float, **options: Any) -> Any:
    return card(f"diffusers.{name}", partial(along, kind=kind, **options), order=order, exact_on=POINT, **VP)


CARDS = (
    card("diffusers.ddpm", partial(chain, kind=partial(diffusers.DDPMScheduler, variance_type="fixed_small")),
         stochastic=True, weak_order=1.0, exact_on=POINT, **VP),
    card("diffusers.ddim", partial(chain, kind=partial(diffusers.DDIMScheduler, set_alpha_to_one=True)),
         order=1.0, exact_on=POINT, **VP),
    card("diffusers.ddim_noisy", partial(chain, kind=partial(diffusers.DDIMScheduler, set_alpha_to_one=True), eta=1.0),
         stochastic=True, weak_order=1.0, exact_on=POINT, **VP),
    _along("dpmpp_2m", MULTI, order=2.0, solver_order=2),
    _along("dpmpp_3m", MULTI, order=3.0, solver_order=3, lower_order_final=False),
    card("diffusers.dpmpp_2m_sde", partial(along, kind=MULTI, algorithm_type="sde-dpmsolver++", solver_order=2),
         stochastic=True, weak_order=2.0, exact_on=POINT, **VP),
    _along("dpmpp_singlestep", SINGLE, order=2.0, solver_order=2),
    _along("dpmpp_singlestep_3", SINGLE, order=3.0, solver_order=3),
    _along("deis", diffusers.DEISMultistepScheduler, order=2.0, solver_order=2),
    _along("deis_3", diffusers.DEISMultistepScheduler, order=3.0, solver_order=3, lower_order_final=False),
    _along("unipc", diffusers.UniPCMultistepScheduler, order=3.0, solver_order=2, lower_order_final=False),
    _along("unipc_3", diffusers.UniPCMultistepScheduler, order=4.0, solver_order=3, lower_order_final=False),
    card("diffusers.dpm_sde", two_stage_sde, scale=ve, path="ve-edm", nfe=twice, stochastic=True, weak_order=2.0,
         exact_on=POINT, grid=grids.power(7.0)),
    card("diffusers.euler", euler, scale=ve, path="ve-edm", nfe=once, order=1.0, exact_on=POINT, grid=grids.power(7.0)),
    card("diffusers.heun", heun, scale=ve, path="ve-edm", nfe=twice, order=2.0, exact_on=POINT, grid=grids.power(7.0)),
    Sampler(id="diffusers.flow_match_euler", sample=flow_euler, consumes="mean", path="condot", nfe=once, order=1.0,
            exact_on=POINT, grid=grids.uniform_t),
)  # fmt: skip
TWINS = {
    "ddpm": "ho2020ddpm.ancestral",
    "ddim": "song2020ddim.ddim",
    "ddim_noisy": "song2020ddim.stochastic",
    "dpmpp_2m": "lu2022dpmsolverpp.2m",
    "dpmpp_3m": "lu2022dpmsolverpp.3m_official",
    "dpmpp_2m_sde": "lu2022dpmsolverpp.sde2m",
    "dpmpp_singlestep": "lu2022dpmsolverpp.2s",
    "deis_3": "zhang2023deis.tab3",
    "unipc_3": "zhao2023unipc.unipc3",
    "dpm_sde": "lu2022dpmsolverpp.sde2s",
    "heun": "karras2022edm.heun",
    "flow_match_euler": "lipman2022fm.euler",
}
