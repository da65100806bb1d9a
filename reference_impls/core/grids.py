"""Time grids: (steps, process) -> float64 [steps+1], strictly decreasing from t_max.

The last time is process.t_min, or 0 for the grids named ``..._to_zero`` (that interval counts in steps).
Grids in lam or rho need alpha(t_max) > 0, those in lam and to zero also sigma(t_min) > 0, and say so.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from reference_impls.core.process import Process
from reference_impls.core.types import Grid


class BadGrid(ValueError):
    """A grid that cannot be built or is not strictly decreasing; the message names the argument and the mend."""


def checked(grid: Tensor) -> Tensor:
    """The grid itself if it is a float64 vector of at least two strictly decreasing finite times; else BadGrid."""
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise BadGrid(f"grid: shape is {tuple(grid.shape)}, expected [steps+1] with steps >= 1")
    if grid.dtype != torch.float64:
        raise BadGrid(f"grid: dtype is {grid.dtype}, expected torch.float64; times lose digits in less")
    rises = (grid[1:] >= grid[:-1]).nonzero()
    if rises.numel() or not torch.isfinite(grid).all():
        i = int(rises[0]) if rises.numel() else int((~torch.isfinite(grid)).nonzero()[0])
        pair = " -> ".join(f"{t:g}" for t in grid[i : i + 2].tolist())
        raise BadGrid(
            f"grid: not strictly decreasing at index {i} ({pair}); larger t is more noise, so times go down from t_max"
        )
    if grid[-1] < 0:
        raise BadGrid(f"grid: ends at {grid[-1].item():g}, expected at least 0, which is clean data")
    return grid


def evenly(t: Tensor) -> bool:
    """Whether times are evenly spaced, up to the rounding of float32, in which codes compute them."""
    even = torch.linspace(t[0].item(), t[-1].item(), len(t), dtype=torch.float64)
    return bool((t.cpu() - even).abs().max() <= 1e-6)


def fractions(steps: int) -> Tensor:
    if not isinstance(steps, int) or steps < 1:
        raise BadGrid(f"steps: {steps!r}, expected an integer >= 1")
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def _signal_at_start(process: Process, grid: str) -> None:
    if process.alpha(process.t_max) <= 0:
        raise BadGrid(
            f"grid: {grid} needs alpha(t_max) > 0, but {process.name} has alpha({process.t_max:g}) = 0; "
            "use process.between(t_min, .999) or the grid t"
        )


def _noise_at_end(process: Process, grid: str) -> None:
    if process.sigma(process.t_min) <= 0:
        raise BadGrid(
            f"grid: {grid} needs sigma(t_min) > 0, but {process.name} has sigma({process.t_min:g}) = 0; "
            "use process.between(t_min, t_max) with t_min > 0"
        )


def _pinned(times: Tensor, process: Process) -> Tensor:
    times[0], times[-1] = process.t_max, process.t_min  # inverses round: the ends are the process's own, exactly
    return times


def uniform_t(steps: int, process: Process) -> Tensor:
    """Times evenly spaced."""
    return _pinned(process.t_max + fractions(steps) * (process.t_min - process.t_max), process)


def quadratic_t(steps: int, process: Process) -> Tensor:
    """sqrt(t) evenly spaced."""
    root_max, root_min = process.t_max**0.5, process.t_min**0.5
    return _pinned((root_max + fractions(steps) * (root_min - root_max)) ** 2, process)


def uniform_lam(steps: int, process: Process) -> Tensor:
    """Half log-SNR evenly spaced."""
    _signal_at_start(process, "lam")
    _noise_at_end(process, "lam")
    lam_max, lam_min = process.lam(process.t_max), process.lam(process.t_min)
    return _pinned(process.time_of_logsnr(lam_max + fractions(steps) * (lam_min - lam_max)), process)


def _power_rho(fraction: Tensor, process: Process, exponent: float) -> Tensor:
    high, low = (process.rho(t) ** (1 / exponent) for t in (process.t_max, process.t_min))
    return process.time_of_logsnr(-(high + fraction * (low - high)).log() * exponent)


def power(exponent: float) -> Grid:
    """rho^(1/exponent) evenly spaced from rho(t_max) to rho(t_min)."""

    def grid(steps: int, process: Process) -> Tensor:
        _signal_at_start(process, f"power({exponent:g})")
        return _pinned(_power_rho(fractions(steps), process, exponent), process)

    return grid


def power_to_zero(exponent: float) -> Grid:
    """power(exponent) with steps - 1 intervals down to t_min and one more to 0; steps = 1 is [t_max, 0]."""

    def grid(steps: int, process: Process) -> Tensor:
        _signal_at_start(process, f"power({exponent:g})_to_zero")
        _noise_at_end(process, f"power({exponent:g})_to_zero")
        fractions(steps)  # refuses steps < 1
        inner = power(exponent)(steps - 1, process) if steps > 1 else torch.tensor([process.t_max], dtype=torch.float64)
        return torch.cat([inner, torch.zeros(1, dtype=torch.float64)])

    return grid


def t_to_zero(steps: int, process: Process) -> Tensor:
    """Times evenly spaced from t_max to 0."""
    return process.t_max * (1 - fractions(steps))


NAMED: dict[str, Grid] = {"t": uniform_t, "t^2": quadratic_t, "lam": uniform_lam, "t_to_zero": t_to_zero}


def named(name: str) -> Grid:
    """A grid by name: t, t^2, lam, t_to_zero, power(E), power(E)_to_zero; raises BadGrid with this list."""
    if name in NAMED:
        return NAMED[name]
    match = re.fullmatch(r"power\((\d+(?:\.\d+)?)\)(_to_zero)?", name)
    if not match or float(match[1]) <= 0:
        names = ", ".join(NAMED)
        raise BadGrid(f"grid: {name!r} is not known; expected {names}, power(E) or power(E)_to_zero with E > 0")
    return (power_to_zero if match[2] else power)(float(match[1]))
