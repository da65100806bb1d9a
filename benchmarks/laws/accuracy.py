"""What a sampler of means computes: its order, its exactness, its reductions, its symmetries, its output law."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from benchmarks.laws.conduct import (
    call,
    entry,
    exact_model,
    heeding,
    own_process,
    plain,
    random_grids,
    run,
    starts,
    usable,
)
from benchmarks.laws.impulses import output_law, output_moments
from benchmarks.laws.specimens import HEALTHY, HEALTHY_NOISY, SQRT2, sampler, scaled, step
from reference_impls import catalogue, targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws, Predictor, Reduction, Sampler, expand

PATHS = ("vp-linear", "ve-edm", "condot")
GRIDS = ("lam", "t", "power(7)")
# What exact_on may name, and the variances of the data, if it is isotropic.
CLASSES = {"delta": (0.0,), "standard": (1.0,), "isotropic": (0.25, 3.0), "gaussian": ()}


def _away_from_the_ends(name: str) -> Any:
    return processes.named(name).between(0.05, 0.9)


def errors_against_the_flow(card: Sampler, process: Any, grid: grids.Grid, steps: int) -> float:
    """Largest error over 9 starts against the CDF flow map of G3 (toolkit T1)."""
    times = grid(steps, process)
    begin, end = (entry(card, times), entry(card, times.flip(0)))
    scale = math.sqrt(1.2 * process.alpha(begin) ** 2 + process.sigma(begin) ** 2)
    x = (torch.linspace(-2.2, 2.2, 9, dtype=torch.float64, device=device()) * scale)[:, None]
    exact = targets.named("g3").flow(
        x, process.alpha(begin), process.sigma(begin), process.alpha(end), process.sigma(end)
    )
    return (run(card, process, times, x=x, **card.exact_options).x - exact).abs().max().item()


def order_window(errors: list[float]) -> list[float]:
    """The two slopes of the first three errors in [1e-11, 0.1] whose slopes differ by at most 0.08; else empty (T1)."""
    for i in range(len(errors) - 2):
        three = errors[i : i + 3]
        if all(1e-11 <= error <= 0.1 for error in three):
            slopes = [math.log2(three[0] / three[1]), math.log2(three[1] / three[2])]
            if abs(slopes[0] - slopes[1]) <= 0.08:
                return slopes
    return []


def observed_order(card: Sampler, path: str, grid: str, most: int = 4096) -> tuple[float | None, list[float]]:
    """Mean slope in the window on one path and grid, None without a window; and the errors, steps doubled from 32."""
    errors, steps = [], 32
    while steps <= most:
        errors.append(errors_against_the_flow(card, _away_from_the_ends(path), grids.named(grid), steps))
        slopes = order_window(errors)
        if slopes:
            return sum(slopes) / 2, errors
        steps *= 2
    return None, errors


def order_is_as_declared(card: Sampler) -> None:
    found = {}
    for path in PATHS:
        for grid in GRIDS:
            order, errors = observed_order(card, path, grid)
            seen = ", ".join(f"{error:.1e}" for error in errors)
            assert order is not None, f"{path} x {grid}: no steady slope from 32 to 4096 steps, declared order " + (
                f"{card.order:g}; errors {seen}"
            )
            assert order >= card.order - 0.15, f"{path} x {grid}: observed order {order:.2f}, declared {card.order:g}"
            found[path, grid] = order
    least = min(found, key=found.get)
    assert found[least] <= card.order + 0.35, (
        f"least observed order {found[least]:.2f} on {least}, declared {card.order:g}"
    )


def relative_variance_error(card: Sampler, process: Any, grid: Tensor, variance: float, **options: Any) -> float:
    """Var(x_end)/V - 1 for N(0, variance) data by impulses, from the exact law where the sampler starts (T5)."""
    begin, end = entry(card, grid), entry(card, grid.flip(0))

    def predict(x: Tensor, t: Any) -> Tensor:
        alpha, sigma = expand(process.alpha(t), x), expand(process.sigma(t), x)
        return alpha * variance / (alpha**2 * variance + sigma**2) * x

    def go(x: Tensor, draws: Draws) -> Tensor:
        return call(card, Predictor("mean", predict), x, grid, process=process, draws=draws, **options).x

    start = process.alpha(begin) ** 2 * variance + process.sigma(begin) ** 2
    _, found = output_law(go, mean=0.0, variance=start)
    return found / (process.alpha(end) ** 2 * variance + process.sigma(end) ** 2) - 1


def observed_weak_order(card: Sampler, process: Any, most: int = 2048) -> tuple[float | None, list[float]]:
    """Slope of the variance error, the first within 0.1 of the one before, steps doubled from 128; and the errors."""
    errors, steps, slopes = [], 128, []
    while steps <= most:
        grid = grids.uniform_lam(steps, process)
        errors.append(abs(relative_variance_error(card, process, grid, 0.25, **card.exact_options)))
        slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors[-3:])]
        if len(slopes) == 2 and abs(slopes[0] - slopes[1]) <= 0.1:
            return slopes[1], errors
        steps *= 2
    return None, errors


def weak_order_is_as_declared(card: Sampler) -> None:
    for path in ("vp-linear", "ve-edm"):
        process = _away_from_the_ends(path) if path == "vp-linear" else processes.named(path).between(0.05, 20.0)
        order, errors = observed_weak_order(card, process)
        seen = ", ".join(f"{error:.1e}" for error in errors)
        assert order is not None, f"{path}: no steady slope of the variance error from 128 to 2048 steps: {seen}"
        assert card.weak_order - 0.15 <= order <= card.weak_order + 0.35, (
            f"{path}: observed weak order {order:.2f}, declared {card.weak_order:g}; variance errors {seen}"
        )


def _exact_variance(card: Sampler, exact_class: str, variance: float) -> None:
    process = own_process(card)

    @given(random_grids(process, most=4))
    def holds(grid: Tensor) -> None:
        error = relative_variance_error(card, process, grid, variance, **card.exact_options)
        spread = [process.alpha(t) ** 2 * variance + process.sigma(t) ** 2 for t in _ends(card, grid)]
        wrong = f"{exact_class} data: relative variance error {error:.2e} on {grid.tolist()}"
        assert abs(error) <= _rounding(*spread), wrong

    holds()


def _ends(card: Sampler, grid: Tensor) -> tuple[float, float]:
    return entry(card, grid), entry(card, grid.flip(0))


def _rounding(begin: float, end: float) -> float:
    """Of a variance at the end, relative: rounding at the start's scale, seen at the end's."""
    return 1e-11 + 4e-16 * begin / end


def _exact_gaussian(card: Sampler) -> None:
    """Mean and covariance of the end on N(m, C) data, C neither isotropic nor along the axes."""
    process = own_process(card)
    centre = torch.tensor([1.3, -0.6], dtype=torch.float64, device=device())
    widths = torch.tensor([0.25, 3.0], dtype=torch.float64, device=device())
    axes = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64, device=device())

    def spread(t: float) -> Tensor:
        return process.alpha(t) ** 2 * widths + process.sigma(t) ** 2

    def predict(x: Tensor, t: Any) -> Tensor:
        alpha, sigma = expand(process.alpha(t), x), expand(process.sigma(t), x)
        along = (x - alpha * centre) @ axes * (alpha * widths / (alpha**2 * widths + sigma**2))
        return centre + along @ axes.T

    @given(random_grids(process, most=4))
    def holds(grid: Tensor) -> None:
        def go(x: Tensor, draws: Draws) -> Tensor:
            aids = {"process": process, "draws": draws, **card.exact_options}
            return call(card, Predictor("mean", predict), x, grid, **aids).x

        begin, end = _ends(card, grid)
        law = output_moments(go, process.alpha(begin) * centre, axes * spread(begin).sqrt())
        least = spread(end).min().item()
        error = (axes.T @ law.covariance @ axes - torch.diag(spread(end))).abs().max().item() / least
        off = (law.mean - process.alpha(end) * centre).abs().max().item() / math.sqrt(least)
        bound = _rounding(spread(begin).max().item(), least)
        assert error <= bound, f"gaussian data: relative covariance error {error:.2e} on {grid.tolist()}"
        assert off <= 1e-9, f"gaussian data: the mean is off by {off:.2e} standard deviations on {grid.tolist()}"

    holds()


def exact_on_declared_targets(card: Sampler) -> None:
    process = own_process(card)
    unknown = sorted(card.exact_on - CLASSES.keys())
    assert not unknown, f"its card is exact on {', '.join(unknown)}, which is none of {', '.join(CLASSES)}"
    for exact_class, variances in CLASSES.items():
        by_points = exact_class == "delta" and not card.stochastic  # below, the whole map and not its spread alone
        for variance in variances if exact_class in card.exact_on and not by_points else ():
            _exact_variance(card, exact_class, variance)
    if "gaussian" in card.exact_on:
        _exact_gaussian(card)
    if "delta" not in card.exact_on:
        return

    @given(random_grids(process, most=4), st.floats(-2, 2))
    def holds(grid: Tensor, point: float) -> None:
        begin, end = entry(card, grid), entry(card, grid.flip(0))
        alpha_t, sigma_t, alpha_s, sigma_s = (
            f(t) for t in (begin, end) for f in (process.alpha, process.sigma)
        )  # fmt: skip
        x, draws = starts(process, begin), Philox(3, 5, device())
        if card.stochastic:  # with no noise the mean of the law remains, and it is affine in x: compare at the point
            x, draws = torch.full_like(x, alpha_t * point), Silence()
        mean = Predictor("mean", lambda y, t: torch.full_like(y, point))
        found = call(card, mean, x, grid, process=process, draws=draws, **card.exact_options).x
        exact = alpha_s * point + sigma_s / sigma_t * (x - alpha_t * point)
        bound = 1e-9 * (1 + x.abs().max().item() * max(alpha_s / alpha_t, sigma_s / sigma_t, 1.0))
        gap = (found - exact).abs().max().item()
        assert gap <= bound, f"point mass at {point:g}: off by {gap:.2e} (tolerance {bound:.1e}) on {grid.tolist()}"

    holds()


class Silence:
    """Draws that are all zero."""

    def at(self, *where: int) -> Silence:
        return self

    def normal(self, tag: str, like: Tensor) -> Tensor:
        return torch.zeros_like(like)

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, 0.5, dtype=torch.float64)

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        return like.new_zeros(len(range(steps) if isinstance(steps, int) else steps), *like.shape)


class Mapped:
    """Draws passed through a linear map of each sample."""

    def __init__(self, draws: Draws, transform: Any):
        self.draws, self.transform = draws, transform

    def at(self, *where: int) -> Mapped:
        return Mapped(self.draws.at(*where), self.transform)

    def normal(self, tag: str, like: Tensor) -> Tensor:
        return self.transform(self.draws.normal(tag, like))

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        return self.draws.uniform(tag, shape)

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        return self.transform(self.draws.block(steps, tag, like))


def reduces_as_declared(card: Sampler) -> None:
    """On random grids away from the ends of the path, and on the card's own, which most walk to clean data."""
    for reduction in card.reduces:
        other = catalogue.samplers()[reduction.to]
        for path in {"any": (*PATHS, card.path), "own": (card.path,)}[reduction.on]:
            _agrees(card, other, reduction, usable(processes.named(path)))
        process = processes.named(card.path)
        for steps in (4, 25):
            _agree_on(card, other, reduction, process, card.grid(steps, process))


def _agrees(card: Sampler, other: Sampler, reduction: Reduction, process: Any) -> None:
    @given(random_grids(process, card))
    def holds(grid: Tensor) -> None:
        _agree_on(card, other, reduction, process, grid)

    holds()


def _agree_on(card: Sampler, other: Sampler, reduction: Reduction, process: Any, grid: Tensor) -> None:
    plain_model = exact_model(process)
    model, same = plain_model, plain_model
    if "condition" in card.needs & other.needs:
        model = same = heeding(plain_model)
    elif reduction.given is not None:
        model = heeding(plain_model)
        same = model.given(torch.arange(5, device=device()) % 3) if reduction.given == "condition" else plain_model
    ours = run(card, process, grid, model=model, **reduction.options).x
    theirs = run(other, process, grid, model=same, **reduction.to_options).x
    gap = (ours - theirs).abs().max().item() / (1 + theirs.abs().max().item())
    assert gap <= reduction.tolerance, (
        f"with {dict(reduction.options)} on {process.name} it differs from {reduction.to} by {gap:.2e} "
        f"in {grid.shape[0] - 1} steps from {grid[0].item():g} to {grid[-1].item():g}"
    )


def _rotation(card: Sampler) -> None:
    process, target = own_process(card), targets.named("mixture-2d")

    @given(random_grids(process, card), st.floats(0, 2 * math.pi))
    def holds(grid: Tensor, angle: float) -> None:
        turn = torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
            dtype=torch.float64,
            device=device(),
        )
        plain_model = targets.exact(target, process)
        turned = Predictor("mean", lambda x, t: plain_model(x @ turn, t) @ turn.T)
        x = starts(process, entry(card, grid), shape=(2,))
        draws = Philox(5, x.shape[0], device())
        first = call(card, plain_model, x, grid, process=process, draws=draws).x @ turn.T
        second = call(card, turned, x @ turn.T, grid, process=process, draws=Mapped(draws, lambda z: z @ turn.T)).x
        gap = (first - second).abs().max().item() / (1 + first.abs().max().item())
        assert gap <= 1e-9, f"rotating data, start and noise by {angle:.3f} rotates the result only to {gap:.2e}"

    holds()


def _same_on_every_path(card: Sampler) -> None:
    one, other = _away_from_the_ends("vp-linear"), processes.named("ve-edm").between(1e-3, 200.0)

    @given(random_grids(one))
    def holds(grid: Tensor) -> None:
        matched = other.time_of_logsnr(one.lam(grid))
        y = starts(other, entry(card, matched))
        found = [
            run(card, process, times, x=y * process.alpha(entry(card, times)), seed=5).x
            / process.alpha(entry(card, times.flip(0)))
            for process, times in ((one, grid), (other, matched))
        ]
        gap = (found[0] - found[1]).abs().max().item() / (1 + found[0].abs().max().item())
        assert gap <= 1e-9, f"x/alpha differs between vp-linear and ve-edm at equal rho by {gap:.2e}"

    holds()


def is_equivariant_as_declared(card: Sampler) -> None:
    for name in sorted(card.symmetric):
        {"rotation": _rotation, "paths": _same_on_every_path}[name](card)


# ---- mutants -----------------------------------------------------------------------------------------------------
def _alpha_ratio(grid: Tensor, process: Any, eta: float) -> Tensor:
    return process.alpha(grid[:-1]) / process.alpha(grid[1:])


def _root_of_the_step(grid: Tensor, process: Any, eta: float) -> Tensor:
    return 1 + 0.3 * (process.lam(grid[1:]) - process.lam(grid[:-1])).sqrt()


def _adds_the_first_coordinate(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, None]:
    x_s, _ = step(x, row, memory, model=model, draws=draws)
    return x_s + 1e-6 * x[:, :1], None


def _other_tag(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, None]:
    return step(x, row, memory, model=model, draws=draws, tag="stage1")


def _reduces_to(noisy: bool, **changes: Any) -> Sampler:
    """A mutant of the specimen that claims to be the catalogue's method with the specimen's own traits."""
    wanted = HEALTHY_NOISY if noisy else HEALTHY
    twin = next(
        id for id, card in catalogue.samplers().items()
        if (card.order, card.weak_order, card.exact_on, card.symmetric, card.walks)
        == (wanted.order, wanted.weak_order, wanted.exact_on, wanted.symmetric, wanted.walks)
    )  # fmt: skip
    return replace(sampler(noisy=noisy, **changes), reduces=(Reduction({}, twin),))


def _guided(weight: float, given: Any) -> Sampler:
    """The specimen under guidance of that weight, which claims to be itself on the model that `given` names."""

    def sample(model: Any, x: Tensor, grid: Tensor, *, condition: Any, **rest: Any) -> Any:
        told, plain_model = model.given(condition), model
        mean = Predictor("mean", lambda x, t: torch.lerp(plain_model(x, t), told(x, t), weight))
        return HEALTHY.sample(mean, x, grid, **rest)

    claims = tuple(each._replace(given=given) for each in _reduces_to(False).reduces)
    return replace(sampler(sample=sample), needs=frozenset({"condition"}), reduces=claims)


def _law(check: Any, mutants: dict[str, Any], applies: Any) -> Law:
    return Law(name=check.__name__, subject="sampler", check=check, applies=applies, mutants=mutants)


LAWS = (
    _law(order_is_as_declared, {
        "pulls_a_root_of_the_step_too_much": lambda: sampler(rows=scaled("pull", _root_of_the_step)),
        "declares_second_order": lambda: sampler(order=2.0),
        "declares_half_an_order": lambda: sampler(order=0.5),
        "keeps_a_hundredth_too_much": lambda: sampler(rows=scaled("keep", lambda g, p, e: 1.01)),
    }, lambda card: plain(card) and card.order is not None),
    _law(weak_order_is_as_declared, {
        "adds_sqrt2_too_much_noise": lambda: sampler(noisy=True, rows=scaled("noise", lambda g, p, e: SQRT2)),
        "declares_second_order": lambda: sampler(noisy=True, weak_order=2.0),
    }, lambda card: plain(card) and card.weak_order is not None),
    _law(exact_on_declared_targets, {
        "pulls_a_millionth_too_much": lambda: sampler(rows=scaled("pull", lambda g, p, e: 1 + 1e-6)),
        "claims_a_class_that_is_none": lambda: sampler(exact_on=frozenset({"delt"})),
        "claims_standard_normals": lambda: sampler(exact_on=frozenset({"standard"})),
        "claims_isotropic_normals": lambda: sampler(exact_on=frozenset({"isotropic"})),
        "claims_all_normals": lambda: sampler(exact_on=frozenset({"gaussian"})),
        "claims_all_normals_with_noise": lambda: sampler(noisy=True, exact_on=frozenset({"gaussian"})),
        "adds_the_noise_of_the_other_end": lambda: sampler(
            noisy=True, rows=scaled("noise", lambda g, p, e: p.sigma(g[:-1]) / p.sigma(g[1:]))),
    }, lambda card: plain(card) and bool(card.exact_on)),
    _law(reduces_as_declared, {
        "pulls_with_the_wrong_alpha": lambda: _reduces_to(False, rows=scaled("pull", _alpha_ratio)),
        "draws_under_another_tag": lambda: _reduces_to(True, step=_other_tag),
        "guides_a_millionth_too_much": lambda: _guided(1 + 1e-6, "condition"),
        "heeds_what_it_should_not": lambda: _guided(1e-6, "none"),
        "pulls_a_millionth_too_much_to_clean_data": lambda: _reduces_to(
            False, grid=grids.t_to_zero, rows=scaled("pull", lambda g, p, e: 1 + 1e-6 * (p.sigma(g[1:]) == 0))),
    }, lambda card: plain(card) and bool(card.reduces)),
    _law(is_equivariant_as_declared, {
        "adds_the_first_coordinate": lambda: sampler(step=_adds_the_first_coordinate),
        "pulls_with_the_wrong_alpha": lambda: sampler(rows=scaled("pull", _alpha_ratio)),
    }, lambda card: plain(card) and bool(card.symmetric)),
)  # fmt: skip
