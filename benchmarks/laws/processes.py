"""What every noising process and every time grid must satisfy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.process import Process
from reference_impls.core.types import Grid

fractions = st.floats(0.01, 0.99)


def inner_time(process: Process, fraction: float) -> float:
    """A time inside the interval, midway between thousandths: a chain of 1,000 noise levels is smooth around it."""
    t = process.t_min + fraction * (process.t_max - process.t_min)
    return (math.floor(t * 1000) + 0.5) / 1000


def rates_are_the_derivatives(card: Process) -> None:
    @given(fractions)
    def holds(fraction: float) -> None:
        t = inner_time(card, fraction)
        h = 1e-4 * min(t, 1.0)
        for curve, rate in zip((card.alpha, card.sigma), card.rates(t), strict=True):
            found = (8 * (curve(t + h) - curve(t - h)) - (curve(t + 2 * h) - curve(t - 2 * h))) / (12 * h)
            assert abs(rate - found) <= 1e-8 * (1 + abs(found)), f"{card.name}: rate {rate} at {t}, difference {found}"

    holds()


def time_of_logsnr_inverts(card: Process) -> None:
    @given(fractions)
    def holds(fraction: float) -> None:
        t = card.t_min + fraction * (card.t_max - card.t_min)
        lam = card.lam(t)
        for way, process in {"closed": card, "bisected": replace(card, time_of=None)}.items():
            back = process.time_of_logsnr(lam)
            slope = abs(card.lam(t * (1 + 1e-6)) - card.lam(t * (1 - 1e-6))) / (2e-6 * t)
            # lam is known to 1e-15 of its two logarithms; dividing by its slope gives the time
            allowed = 1e-12 * t + 1e-13 * (1 + abs(lam) + abs(math.log(card.sigma(t)))) / slope
            assert abs(back - t) <= allowed, f"{card.name}, {way}: lam({t}) = {lam} comes back as {back}"

    holds()


def noise_grows_with_time(card: Process) -> None:
    @given(fractions, fractions)
    def holds(one: float, other: float) -> None:
        s, t = (card.t_min + f * (card.t_max - card.t_min) for f in sorted((one, other)))
        alpha_s, alpha_t, sigma_s, sigma_t = card.alpha(s), card.alpha(t), card.sigma(s), card.sigma(t)
        assert alpha_t <= alpha_s, f"{card.name}: alpha grows from {alpha_s} at {s} to {alpha_t} at {t}"
        if t - s > 1e-9 * t:
            assert card.lam(t) < card.lam(s), f"{card.name}: lam does not fall from {s} to {t}"
        for found, expected, what in (
            (card.rho(t), sigma_t / alpha_t, "sigma/alpha"),
            (card.lam(s), math.log(alpha_s / sigma_s), "log(alpha/sigma)"),
        ):
            assert abs(found - expected) <= 1e-10 * (1 + abs(expected)), f"{card.name}: {found} for {what} = {expected}"

    holds()


def prior_is_the_noise_at_the_start(card: Process) -> None:
    """Between the noise alone and the noise on data of standard deviation sqrt(2)."""
    alpha, sigma = card.alpha(card.t_max), card.sigma(card.t_max)
    low, high = sigma * (1 - 1e-12), math.hypot(sigma, math.sqrt(2) * alpha) * (1 + 1e-12)
    high = min(high, 1.01 * sigma)  # and not more than a hundredth away from the noise
    assert low <= card.prior_std <= high, f"{card.name}: prior_std {card.prior_std}, expected {low} to {high}"


def rows_and_floats_agree(card: Process) -> None:
    @given(st.lists(fractions, min_size=1, max_size=4))
    def holds(shares: list[float]) -> None:
        t = torch.tensor([inner_time(card, f) for f in shares], dtype=torch.float64, device=device())
        curves: dict[str, Callable] = {
            "alpha": card.alpha,
            "sigma": card.sigma,
            "lam": card.lam,
            "rho": card.rho,
            "d alpha": lambda s: card.rates(s)[0],
            "d sigma": lambda s: card.rates(s)[1],
            "time of lam": lambda s: card.time_of_logsnr(card.lam(s)),
        }
        for name, curve in curves.items():
            rows = curve(t)
            assert (rows.dtype, rows.shape) == (t.dtype, t.shape), f"{card.name}: {name} {rows.dtype} {rows.shape}"
            floats = [curve(s) for s in t.tolist()]
            gap = max(abs(a - b) / (1 + abs(b)) for a, b in zip(rows.tolist(), floats, strict=True))
            assert gap <= 1e-12, f"{card.name}: {name} of rows and of floats differ by {gap}"

    holds()


class NamedGrid(NamedTuple):
    """A grid with the name that says where it ends and in what it is even."""

    name: str
    grid: Grid


def ends_where_its_name_says(card: NamedGrid) -> None:
    @given(st.integers(1, 40), st.sampled_from(["vp-linear", "ve-edm", "subvp", "cosine", "ve-geo"]))
    def holds(steps: int, path: str) -> None:
        process = processes.named(path)
        grid = card.grid(steps, process)
        ends = process.t_max, 0.0 if card.name.endswith("_to_zero") else process.t_min
        assert grid.shape == (steps + 1,), f"{card.name}: {tuple(grid.shape)} for steps = {steps}"
        assert (grid[0].item(), grid[-1].item()) == ends, f"{card.name}: from {grid[0]} to {grid[-1]}, expected {ends}"
        grids.checked(grid)

    holds()


def refuses_what_it_cannot_make(card: NamedGrid) -> None:
    """Steps that are none, and paths with alpha(t_max) = 0 or sigma(t_min) = 0: a proper grid or a one-line BadGrid."""
    for path, steps in [("vp-linear", 0), ("vp-linear", -3), ("vp-linear", 1.5), ("condot", 7), ("discrete-linear", 7)]:
        try:
            grid = card.grid(steps, processes.named(path))
        except grids.BadGrid as error:
            asked = repr(steps) if path == "vp-linear" else path
            assert asked in str(error) and "\n" not in str(error), f"{card.name}: {error}, expected a line with {asked}"
            continue
        assert path != "vp-linear", f"{card.name}: made a grid with steps = {steps!r}, expected BadGrid"
        sound = bool(torch.isfinite(grid).all() and (grid[1:] < grid[:-1]).all())
        assert sound, f"{card.name}: {grid.tolist()} on {path}, expected decreasing times or BadGrid"


class _Rates(Process):
    """A process whose rate of sigma has the wrong sign."""

    def rates(self, t):
        alpha_rate, sigma_rate = super().rates(t)
        return alpha_rate, -sigma_rate


def _as(kind: type, card: Process, **changes) -> Process:
    fields = {name: getattr(card, name) for name, f in Process.__dataclass_fields__.items() if f.init}
    return kind(**(fields | changes))


def _mean_over_rows(curve: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda t: curve(t).mean() + 0 * t


def _mutant(name: str, **changes: Callable[[Process], object]) -> Process:
    card = processes.named(name)
    return replace(card, **{field: change(card) for field, change in changes.items()})


LAWS = (
    Law(
        name="rates_are_the_derivatives",
        subject="process",
        check=rates_are_the_derivatives,
        mutants={"sign_of_sigma": lambda: _as(_Rates, processes.named("vp-linear"))},
    ),
    Law(
        name="time_of_logsnr_inverts",
        subject="process",
        check=time_of_logsnr_inverts,
        mutants={
            "subvp_with_the_inverse_of_vp": lambda: _mutant("subvp", time_of=lambda _: processes.vp_linear().time_of),
            "snr_for_its_root": lambda: _mutant("ve-edm", time_of=lambda _: lambda lam: (-2 * lam).exp()),
            "shift_added": lambda: _mutant("cosine", time_of=lambda p: lambda lam: p.time_of(lam) + 0.016),
        },
    ),
    Law(
        name="noise_grows_with_time",
        subject="process",
        check=noise_grows_with_time,
        mutants={
            "time_reversed": lambda: _mutant(
                "condot",
                log_alpha=lambda _: torch.log,
                alpha_of=lambda _: torch.clone,
                sigma_of=lambda _: lambda t: 1 - t,
            ),
            "two_alphas": lambda: _mutant("condot", alpha_of=lambda _: lambda t: (1 - t) ** 2),
        },
    ),
    Law(
        name="prior_is_the_noise_at_the_start",
        subject="process",
        check=prior_is_the_noise_at_the_start,
        mutants={
            "unit_prior_of_ve": lambda: replace(processes.named("ve-edm"), prior_std=1.0),
            "least_noise": lambda: replace(processes.named("ve-geo"), prior_std=0.01),
        },
    ),
    Law(
        name="rows_and_floats_agree",
        subject="process",
        check=rows_and_floats_agree,
        mutants={"mean_over_rows": lambda: _mutant("ve-edm", sigma_of=lambda p: _mean_over_rows(p.sigma_of))},
    ),
    Law(
        name="ends_where_its_name_says",
        subject="grid",
        check=ends_where_its_name_says,
        mutants={
            "one_too_few": lambda: NamedGrid("t", lambda steps, p: grids.uniform_t(max(1, steps - 1), p)),
            "upwards": lambda: NamedGrid("lam", lambda steps, p: grids.uniform_lam(steps, p).flip(0)),
            "stops_before_zero": lambda: NamedGrid("power(7)_to_zero", grids.power(7)),
            "ends_early": lambda: NamedGrid("t", lambda steps, p: grids.uniform_t(steps, p) + p.t_min / 2),
        },
    ),
    Law(
        name="refuses_what_it_cannot_make",
        subject="grid",
        check=refuses_what_it_cannot_make,
        mutants={
            "takes_any_steps": lambda: NamedGrid("t", lambda steps, p: grids.uniform_t(max(1, int(steps)), p)),
            "blind_to_alpha_zero": lambda: NamedGrid("power(7)", _blind_power),
        },
    ),
)


def _blind_power(steps: int, process: Process) -> Tensor:
    grids.fractions(steps)
    return grids._pinned(grids._power_rho(grids.fractions(steps), process, 7.0), process)
