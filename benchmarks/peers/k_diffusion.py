"""Samplers of crowsonkb/k-diffusion (MIT): state x0 + sigma eps, a list of noise levels, model(x, sigma) -> mean.

Its grids in log sigma, like ours in lam, need sigma > 0; its SDE samplers take a noise sampler, which here shares one
Brownian path per sample wherever two of its intervals overlap, as the library's default does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.peers import Brownian, Keyed, Levels, card, ve
from reference_impls.core import grids

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # one of its dependencies still imports pkg_resources
    import k_diffusion.sampling as library


def model_of(levels: Levels) -> Callable[[Tensor, Tensor], Tensor]:
    """The library calls a model with one noise level per row, all alike; of no rows there is no level."""
    return lambda x, sigma: levels.mean(x, sigma[0].item()) if len(sigma) else x


def along(
    levels: Levels, y: Tensor, source: Keyed, *, sampler: Callable[..., Tensor], noise: bool = False, **options: Any
) -> Tensor:
    """A sampler over the list of levels."""
    more = {"noise_sampler": Brownian(source, y)} if noise else {}
    return sampler(model_of(levels), y, levels.rho.to(y.device), disable=True, **more, **options)


def between(levels: Levels, y: Tensor, source: Keyed, *, rtol: float = 0.05, atol: float = 0.0078) -> Tensor:
    """The adaptive one: only the ends of the grid count, as with our own adaptive methods."""
    low, high = levels.rho[-1].item(), levels.rho[0].item()
    if low <= 0:
        raise grids.BadGrid("grid: ends at noise level 0, which an adaptive walk in log sigma never reaches")
    return library.sample_dpm_adaptive(model_of(levels), y, low, high, disable=True, rtol=rtol, atol=atol)


def once(grid: Tensor) -> float:
    return grid.shape[0] - 1.0


def twice(grid: Tensor) -> float:
    return 2.0 * (grid.shape[0] - 1) - float(grid[-1] == 0)


POINT = frozenset({"delta"})
NO_GRAD = {"gradient_reaches_the_start": "samples under torch.no_grad by design"}
VE = dict(scale=ve, path="ve-edm", grid=grids.power(7.0), known_failures=NO_GRAD)


def _ode(name: str, order: float, nfe: Callable[[Tensor], float] = once, **options: Any) -> Any:
    sampler = getattr(library, f"sample_{name}")
    traits = dict(order=order, exact_on=POINT, nfe=nfe)
    return card(f"k_diffusion.{name}", partial(along, sampler=sampler, **options), **traits, **VE)


def _sde(name: str, weak_order: float, nfe: Callable[[Tensor], float] = once, label: str = "", **options: Any) -> Any:
    sampler = getattr(library, f"sample_{name}")
    traits = dict(stochastic=True, weak_order=weak_order, exact_on=POINT, nfe=nfe)
    return card(f"k_diffusion.{label or name}", partial(along, sampler=sampler, noise=True, **options), **traits, **VE)


CARDS = (
    _ode("euler", 1.0),
    _ode("heun", 2.0, twice),
    _ode("dpm_2", 2.0, twice),
    _ode("lms", 4.0),
    _ode("dpmpp_2m", 2.0),
    _sde("euler_ancestral", 1.0),
    _sde("dpmpp_2s_ancestral", 2.0, twice),
    _sde("dpmpp_sde", 2.0, twice),
    _sde("dpmpp_2m_sde", 2.0),
    _sde("dpmpp_2m_sde", 2.0, label="dpmpp_2m_sde_heun", solver_type="heun"),
    _sde("dpmpp_3m_sde", 2.0),
    card("k_diffusion.dpm_adaptive", between, per_sample=False, **VE),  # one step size for the batch
)
TWINS = {
    "euler": "song2020ddim.ddim",
    "heun": "karras2022edm.heun",
    "dpmpp_2m": "lu2022dpmsolverpp.2m",
    "dpmpp_sde": "lu2022dpmsolverpp.sde2s",
    "dpmpp_2m_sde": "lu2022dpmsolverpp.sde2m",
}
