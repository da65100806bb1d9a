"""How a sampler of means must behave: counts, independence of the batch, noise, memory, shapes, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from benchmarks.laws.specimens import SQRT2, around, rows, sample, sampler, scaled, step
from reference_impls import targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.drive import drive
from reference_impls.core.types import Conditional, Guide, Predictor, Run, Sampler, Shared, Time, WrongKind, expand

CALLED_WITH = {"condition", "guide", "share", "noise_logits"}


def plain(card: Sampler) -> bool:
    """A sampler of means on Gaussian paths that needs no aid but those of `call`: what the generic laws can run."""
    return card.consumes == "mean" and "gaussian" in card.defined_on and card.needs <= CALLED_WITH


def usable(process: Any) -> Any:
    """The process on an interval where alpha > 0 and sigma > 0 at both ends, so that every method is defined."""
    t_min = process.t_min if process.sigma(process.t_min) > 0 else 0.02 * process.t_max
    t_max = process.t_max if process.alpha(process.t_max) > 0 else 0.98 * process.t_max
    return process.between(t_min, t_max)


def own_process(card: Sampler) -> Any:
    return usable(processes.named(card.path))


def spaced(card: Sampler, process: Any, steps: int) -> Tensor:
    """Times even in lam over the whole interval, or in t for a card that is defined on such times alone."""
    if card.even:
        return torch.linspace(process.t_max, process.t_min, steps + 1, dtype=torch.float64)
    lam = torch.linspace(process.lam(process.t_max), process.lam(process.t_min), steps + 1, dtype=torch.float64)
    grid = process.time_of_logsnr(lam)
    grid[0], grid[-1] = process.t_max, process.t_min
    return grid


@st.composite
def random_grids(draw: Any, process: Any, card: Sampler | None = None, most: int = 6) -> Tensor:
    """Decreasing times over the whole interval, spaced by random shares of lam; evenly if the card asks for it."""
    shares = draw(st.lists(st.floats(0.2, 1.0), min_size=1, max_size=most))
    if card is not None and card.even:
        return spaced(card, process, len(shares))
    fraction = torch.tensor([0.0, *shares], dtype=torch.float64).cumsum(0) / sum(shares)
    lam_max, lam_min = process.lam(process.t_max), process.lam(process.t_min)
    grid = process.time_of_logsnr(lam_max + fraction * (lam_min - lam_max))
    grid[0], grid[-1] = process.t_max, process.t_min
    return grid


def entry(card: Sampler, grid: Tensor) -> float:
    """The time at which the sampler takes its state: the noisy end, or the data end for an inversion."""
    return grid[0 if card.walks == "down" else -1].item()


def starts(process: Any, t: float, rows_: int = 5, seed: int = 0, shape: tuple[int, ...] = (1,)) -> Tensor:
    """float64 [rows,*shape] normals at the scale of the state at t."""
    like = torch.empty(rows_, *shape, dtype=torch.float64, device=device())
    return Philox(seed, rows_, device()).normal("law", like) * math.hypot(process.alpha(t), process.sigma(t))


def exact_model(process: Any, name: str = "g3") -> Predictor:
    return targets.exact(targets.named(name), process)


def _levels_of_a_standard_normal(y: Tensor, rho: Tensor) -> Tensor:
    spread = (1 + rho**2).to(y)
    return -(y.flatten(1).square().sum(1, keepdim=True) / spread + y.shape[1:].numel() * spread.log()) / 2


def heeding(model: Any) -> Conditional:
    """The same without a condition; a label k adds (k + 1)/10 to the mean, and -1, which stands for none, nothing."""

    def predict(x: Tensor, t: Time, label: Tensor | None) -> Tensor:
        return model(x, t) if label is None else model(x, t) + expand((label + 1).to(x) / 10, x)

    return Conditional(model.kind, predict)


def call(card: Sampler, model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, **options: Any) -> Run:
    """card.sample with the aids it needs, fixed for each sample index.

    A label, which a model without conditions does not heed, so that guidance by it changes nothing; a guide image of
    which nothing need be kept; a share of the variance of a third; the noise levels of a standard normal.
    """
    rows = getattr(draws, "samples", torch.arange(x.shape[0])).to(x.device)
    if "condition" in card.needs:
        told = model.predict if isinstance(model, Conditional) else lambda y, *rest: alone(y, *rest[:-1])
        first = getattr(model, "first", None) or (lambda label: torch.zeros_like(x))
        alone, model = model, Conditional(model.kind, told, first)
        options["condition"] = rows % 3
    if "share" in card.needs:
        alone = model
        model = Shared(model.kind, lambda y, *times: (alone(y, *times), torch.full_like(y, 1 / 3)))
    if "noise_logits" in card.needs:
        options["noise_logits"] = _levels_of_a_standard_normal
    if "guide" in card.needs:
        place = torch.arange(1, x.shape[1:].numel() + 1, dtype=x.dtype, device=x.device)
        options["guide"] = Guide(torch.cos((rows[:, None] + 1) * place).reshape(x.shape) / 2)
    return card.sample(model, x, grid, process=process, draws=draws, **options)


def run(card: Sampler, process: Any, grid: Tensor, *, x: Tensor | None = None, model: Any = None, seed: int = 1,
        samples: Any = None, **options: Any) -> Run:  # fmt: skip
    x = starts(process, entry(card, grid)) if x is None else x
    draws = Philox(seed, x.shape[0] if samples is None else samples, device())
    return call(card, model or exact_model(process), x, grid, process=process, draws=draws, **options)


class Counted:
    """The model with a count of the rows that it was asked for, estimates from a condition alone included.

    The laws' own: what a Run says of its evaluations is held against it.
    """

    def __init__(self, model: Predictor, x: Tensor):
        self.kind, self.model, self.x, self.rows = model.kind, model, x, 0

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        self.rows += x.shape[0]
        return self.model(x, t)

    def first(self, condition: Any) -> Tensor:
        self.rows += self.x.shape[0]
        return torch.zeros_like(self.x)

    @property
    def nfe(self) -> float:
        return self.rows / self.x.shape[0]


def counted(card: Sampler, process: Any, grid: Tensor) -> float:
    """Evaluations per sample as they were counted here; AssertionError if the Run says another number."""
    x = starts(process, entry(card, grid))
    model = Counted(exact_model(process), x)
    says = run(card, process, grid, x=x, model=model).nfe
    assert says == model.nfe, f"{_steps_of(grid)}: the model was asked {model.nfe:g} times, the Run says {says!r}"
    return model.nfe


def _steps_of(grid: Tensor) -> str:
    return f"{grid.shape[0] - 1} steps ending at {grid[-1]:g}"


def is_finite(*ends: Tensor) -> None:
    """Before ends are compared: nan differs from itself, and is neither above a bound nor below it."""
    bad = [int((~torch.isfinite(end)).sum()) for end in ends]
    assert not any(bad), f"{max(bad)} of {ends[bad.index(max(bad))].numel()} numbers of the end state are not finite"


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(type(each).__name__ for each in value)})"
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}."
    return "None" if value is None else f"a {module}{kind.__name__}"


def returns_the_end_state(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 5, dtype=torch.float64)
    x = starts(process, entry(card, grid))
    found = run(card, process, grid, x=x)
    expected = f"expected the end state, a Tensor of the start's shape {tuple(x.shape)}, or a Run of it"
    if not isinstance(found, Run):
        raise AssertionError(f"the card's sample returned {_described(found)}, expected a Run of the end state")
    assert isinstance(found.x, Tensor), f"it returned {_described(found.x)}, {expected}"
    assert found.x.shape == x.shape, f"it returned a Tensor {tuple(found.x.shape)}, {expected}"
    is_finite(found.x)
    for name in ("nfe", "vjps"):
        value = getattr(found, name)
        good = isinstance(value, int | float) and math.isfinite(value) and value >= 0
        assert good, f"{name} of the Run that it returned is {value!r}, expected a number of at least 0"


def dtype_is_kept(exact: Predictor, x: Tensor, go: Callable[[Predictor, Tensor], Tensor]) -> None:
    """go(model, x) -> end state: in float64 and in float32, end and states that the model is asked at are like x."""
    for dtype in (torch.float64, torch.float32):
        seen: list[torch.dtype] = []

        def predict(y: Tensor, t: Any, seen: list[torch.dtype] = seen) -> Tensor:
            seen.append(y.dtype)
            return exact(y.double(), t).to(y.dtype)

        end = go(Predictor("mean", predict), x.to(dtype))
        assert end.dtype == dtype, f"a state of {dtype} came back as {end.dtype}"
        others = sorted({str(each) for each in seen if each != dtype})
        assert not others, f"from a state of {dtype} the model was asked at states of {', '.join(others)}"
        rounded = dtype == torch.float64 and torch.equal(end.float().double(), end)
        assert not rounded, f"from a state of {dtype} every number of the end fits into float32: it was rounded"


def state_keeps_its_dtype(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 5, dtype=torch.float64)
    x = starts(process, entry(card, grid))
    dtype_is_kept(exact_model(process), x, lambda model, x: run(card, process, grid, x=x, model=model).x)


def batch_never_changes_a_sample(card: Sampler) -> None:
    """The model is asked row by row: how a device rounds sums in batches of another size is none of the sampler's."""
    process = own_process(card)
    exact = exact_model(process)

    def predict(x: Tensor, t: Time) -> Tensor:
        rows, times = x.split(1), t.expand(len(x)).split(1) if isinstance(t, Tensor) else [t] * len(x)
        return torch.cat([exact(row, time) for row, time in zip(rows, times, strict=True)])

    @given(random_grids(process, card))
    def holds(grid: Tensor) -> None:
        x = starts(process, entry(card, grid))

        def ends(rows: range) -> Tensor:
            return run(card, process, grid, x=x[rows], model=Predictor(exact.kind, predict), samples=rows).x

        together, alone = ends(range(len(x))), torch.cat([ends(range(i, i + 1)) for i in range(len(x))])
        gap = (together - alone).abs().max().item()
        assert gap <= 1e-12 * (1 + x.abs().max().item()), f"a row alone differs from the row in its batch by {gap:.2e}"

    holds()


def nfe_is_as_declared(card: Sampler) -> None:
    process = processes.named(card.path)
    for steps in range(1, 10):
        for where, grid in ((process, card.grid(steps, process)), (usable(process), None)):
            grid = torch.linspace(where.t_max, where.t_min, steps + 1, dtype=torch.float64) if grid is None else grid
            if card.walks == "up" and where.sigma(grid[-1].item()) <= 0:
                continue
            found, declared = counted(card, where, grid), card.nfe(grid)
            assert found == declared, f"{_steps_of(grid)}: metered {found:g}, declared {declared:g}"


def counts_its_evaluations(card: Sampler) -> None:
    """What declares no number of evaluations (adaptive methods, bare functions) still says how many it took."""
    process = own_process(card)
    for steps in (1, 2, 5):
        counted(card, process, spaced(card, process, steps))


def evaluates_inside_the_grid(card: Sampler) -> None:
    process = own_process(card)
    reach = SQRT2 if card.stochastic else 1.0  # churn may overshoot by sqrt(2), as in its official code

    @given(random_grids(process, card))
    def holds(grid: Tensor) -> None:
        seen: list[float] = []

        def predict(x: Tensor, t: Any) -> Tensor:
            seen.extend(t.flatten().tolist() if isinstance(t, Tensor) else [t])
            return exact_model(process)(x, t)

        run(card, process, grid, model=Predictor("mean", predict))
        assert seen, "the model was never evaluated"
        low, high = grid[-1].item() * (1 - 1e-12), grid[0].item() * reach * (1 + 1e-12)
        first, last = min(seen), max(seen)
        assert first >= low and last <= high, f"evaluated at {first!r} .. {last!r}, grid {low} .. {high}"

    holds()


def one_step_works(card: Sampler) -> None:
    process = processes.named(card.path) if card.walks == "down" else own_process(card)
    if card.nfe is None:
        process = usable(process)  # adaptive methods end where the velocity is defined
    grid = card.grid(1, process)
    result = run(card, process, grid)
    assert torch.isfinite(result.x).all(), "one step from pure noise is not finite"
    if card.nfe is not None:
        assert result.nfe == card.nfe(grid), f"one step: metered {result.nfe}, declared {card.nfe(grid)}"
    if "delta" in card.exact_on and process.sigma(grid[-1].item()) == 0:
        point = Predictor("mean", lambda x, t: torch.full_like(x, 0.7))
        gap = (run(card, process, grid, model=point).x - 0.7).abs().max().item()
        assert gap <= 1e-9, f"one step to clean data on a point mass misses it by {gap:.2e}"


def every_interval_is_used(card: Sampler) -> None:
    process = own_process(card)

    @given(st.integers(1, 4), st.floats(0.2, 0.8))
    def holds(i: int, share: float) -> None:
        grid = process.time_of_logsnr(
            torch.linspace(process.lam(process.t_max), process.lam(process.t_min), 6, dtype=torch.float64)
        )
        grid[0], grid[-1] = process.t_max, process.t_min
        moved = grid.clone()
        moved[i] = grid[i + 1] + (grid[i - 1] - grid[i + 1]) * share
        assume((moved[i] - grid[i]).abs() > 1e-3 * (grid[i - 1] - grid[i + 1]))
        gap = (run(card, process, grid).x - run(card, process, moved).x).abs().max().item()
        assert gap > 1e-9, f"moving grid point {i} from {grid[i]:g} to {moved[i]:g} changes nothing"

    holds()


def float32_follows_float64(card: Sampler) -> None:
    process = own_process(card)
    grid = spaced(card, process, 16)
    x = starts(process, entry(card, grid), 64).float()
    exact = exact_model(process)
    rounded = Predictor("mean", lambda y, t: exact(y.double(), t).float().to(y.dtype))
    truth = run(card, process, grid, x=x.double()).x
    answered = run(card, process, grid, x=x.double(), model=rounded).x
    single = run(card, process, grid, x=x, model=rounded).x.double()
    is_finite(truth, answered, single)
    response = (answered - truth).square().mean().sqrt().item()
    error = (single - truth).square().mean().sqrt().item()
    bound = 32 * max(response, torch.finfo(torch.float32).eps * truth.abs().max().item())
    assert error <= bound, f"float32 error {error:.2e}, expected at most {bound:.2e} (32x the response to rounding)"


def seed_matters_only_if_stochastic(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 5, dtype=torch.float64)
    first, second = (run(card, process, grid, seed=seed).x for seed in (1, 2))
    is_finite(first, second)
    same = torch.equal(first, second)
    ends = "equal" if same else "other"
    assert same != card.stochastic, f"card says stochastic={card.stochastic}, two seeds give {ends} ends"


def leaves_global_rng_alone(card: Sampler) -> None:
    process = own_process(card)
    before = torch.random.get_rng_state()
    run(card, process, torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator moved"


def does_not_touch_its_inputs(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    x = starts(process, entry(card, grid))
    outputs: list[tuple[Tensor, Tensor]] = []

    def predict(y: Tensor, t: Any) -> Tensor:
        out = exact_model(process)(y, t)
        outputs.append((out, out.clone()))
        return out

    kept = x.clone(), grid.clone()
    run(card, process, grid, x=x, model=Predictor("mean", predict))
    assert torch.equal(x, kept[0]), "the start state was written to"
    assert torch.equal(grid, kept[1]), "the grid was written to"
    assert all(torch.equal(out, copy) for out, copy in outputs), "a model's output was written to"


def second_run_equals_a_fresh_one(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    first = run(card, process, grid).x
    run(card, process, grid, x=starts(process, entry(card, grid), 3, seed=9))
    second = run(card, process, grid).x
    is_finite(first, second)
    assert torch.equal(first, second), "the same call gave another result after a call in between"
    part = process.between(process.t_min, (grid[0].item() + grid[1].item()) / 2)
    _forgets_the_last_grid(card, process, grid, torch.linspace(part.t_max, part.t_min, 4, dtype=torch.float64))


def _forgets_the_last_grid(card: Sampler, process: Any, grid: Tensor, other: Tensor) -> None:
    """Two grids of as many steps, each after one of another number: the first again, after the second, is the same.

    Under a model that does not know the time, what differs between them is the sampler's own arithmetic: where that is
    of the grid before, one start has one end (but for the rounding of the model's units).
    """

    def end(times: Tensor) -> Tensor:
        x = starts(process, process.t_max)
        return run(card, process, times, x=x, model=Predictor("mean", lambda y, t: 0.3 * y)).x

    fewer = grid[[0, 1, 3]]
    first, _, second, again = (end(times) for times in (grid, fewer, other, grid))
    is_finite(first, second, again)
    kept = "it keeps what it planned by the number of steps"
    assert torch.equal(first, again), f"the same call gave another result after one on another grid: {kept}"
    moved = (first - second).abs().max().item() / (1 + first.abs().max().item())
    assert moved > 1e-9, f"two grids of as many steps gave the same end: {kept}, or does not heed the grid's times"


def accepts_its_sample_shapes(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)

    def predict(y: Tensor, t: Any) -> Tensor:  # a different exact Gaussian for each coordinate
        flat = y.flatten(1)
        variance = torch.linspace(0.2, 2.0, flat.shape[1], dtype=y.dtype, device=y.device)
        alpha, sigma = expand(process.alpha(t), flat), expand(process.sigma(t), flat)
        return (alpha * variance / (alpha**2 * variance + sigma**2) * flat).reshape(y.shape)

    flat = starts(process, entry(card, grid), 3, shape=(16,))
    expected = run(card, process, grid, x=flat, model=Predictor("mean", predict)).x
    for shape in ((4, 4), (1, 4, 4), (2, 2, 2, 2)):
        found = run(card, process, grid, x=flat.reshape(3, *shape), model=Predictor("mean", predict)).x
        assert found.shape == (3, *shape), f"states {(3, *shape)} came back as {tuple(found.shape)}"
        gap = (found.flatten(1) - expected).abs().max().item()
        assert gap <= 1e-12, f"sample shape {shape} changes the result by {gap:.2e}"


def no_samples_are_no_samples(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    x = starts(process, entry(card, grid), 0, shape=(3, 2))
    found = run(card, process, grid, x=x, model=Predictor("mean", lambda y, t: 0.3 * y)).x
    assert found.shape == x.shape, f"an empty batch came back as {tuple(found.shape)}, expected {tuple(x.shape)}"


def refuses_the_wrong_model_kind(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    wrong = Predictor("jump" if card.consumes != "jump" else "mean", exact_model(process).predict)
    try:
        run(card, process, grid, model=wrong)
    except WrongKind:
        return
    raise AssertionError(f"a model of kind {wrong.kind!r} was accepted, expected WrongKind")


def gradient_reaches_the_start(card: Sampler) -> None:
    process = own_process(card)
    grid = spaced(card, process, 4)
    x = starts(process, entry(card, grid))
    leaf, nudge = x.clone().requires_grad_(), 1e-5 * x.abs().max().item()
    end = run(card, process, grid, x=leaf).x
    assert end.requires_grad, "the end does not depend on the start in the graph"
    found = torch.autograd.grad(end.sum(), leaf)[0]
    expected = (run(card, process, grid, x=x + nudge).x - run(card, process, grid, x=x - nudge).x) / (2 * nudge)
    gap = (found - expected).abs().max().item() / (1e-9 + expected.abs().max().item())
    # a hundredth, because adaptive methods freeze their step sizes
    assert gap <= 1e-2, f"the gradient differs from the finite difference by {gap:.2e} of its size"


def refuses_a_grid_that_does_not_decrease(card: Sampler) -> None:
    process = own_process(card)
    down = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    wrong = {
        "rises": down.flip(0),
        "holds a time twice": down[[0, 1, 1, 3]],
        "has no interval": down[:1],
        "holds a time that is not finite": torch.tensor([process.t_max, math.nan, process.t_min], dtype=torch.float64),
        "is float32": down.float(),
    }
    for fault, grid in wrong.items():
        try:
            run(card, process, grid, x=starts(process, process.t_max))
        except grids.BadGrid:
            continue
        raise AssertionError(f"a grid that {fault} was accepted, expected BadGrid: {grid.tolist()}")


# ---- mutants -----------------------------------------------------------------------------------------------------
def _couples_rows() -> Sampler:
    return around(state=lambda x: x + 1e-6 * (x - x.mean(0)))


def _evaluates_twice() -> Sampler:
    return around(model=lambda inner: lambda x, t: (inner(x, t) + inner(x, t)) / 2)


def _rounds_times_up() -> Sampler:
    return around(model=lambda inner: lambda x, t: inner(x, t * (1 + 1e-6)))


def _divides_by_the_end(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any) -> Run:
    broken = scaled("pull", lambda g, p, e: 1 + 1e-6 / (g[:1] * (g.shape[0] - 2)))
    return sample(model, x, grid, process=process, draws=draws, rows=broken)


def _skips_the_third_point(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any) -> Run:
    keep = [i for i in range(grid.shape[0]) if i != 2] if grid.shape[0] > 4 else range(grid.shape[0])
    return sample(model, x, grid[list(keep)], process=process, draws=draws)


def _draws_by_wall_tag() -> Sampler:
    return sampler(step=lambda x, row, memory, *, model, draws: (
        step(x, row, memory, model=model, draws=draws)[0] + 1e-9 * draws.normal("step", x), None))  # fmt: skip


def _global_noise() -> Sampler:
    return sampler(step=lambda x, row, memory, *, model, draws: (
        step(x, row, memory, model=model, draws=draws)[0] + 0 * torch.randn_like(x), None))  # fmt: skip


def _writes_to_x() -> Sampler:
    def changed(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, None]:
        mean = model(x, row.t)
        return x.mul_(row.keep).add_(mean, alpha=row.pull), None

    return sampler(step=changed)


def _writes_to_the_mean() -> Sampler:
    def changed(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any) -> tuple[Tensor, None]:
        return model(x, row.t).mul_(row.pull).add_(x, alpha=row.keep), None

    return sampler(step=changed)


def _keeps_plans(most: int) -> Sampler:
    """It plans once for a number of steps, keeps the last `most` plans, and asks the model at the grid's own times."""
    plans: dict[int, Any] = {}

    def planned(grid: Tensor, process: Any, eta: float) -> Any:
        if grid.shape[0] not in plans:
            plans[grid.shape[0]] = rows(grid, process, eta)
            while len(plans) > most:
                plans.pop(next(iter(plans)))
        return plans[grid.shape[0]]._replace(t=grid[:-1], s=grid[1:])

    return sampler(rows=planned)


def _remembers_between_runs() -> Sampler:
    calls: list[int] = []

    def before(model: Any, x: Tensor, grid: Tensor) -> tuple[Any, Tensor, Tensor]:
        calls.append(1)
        return model, x * (1 + 1e-9 * len(calls)), grid

    return around(before=before)


def _transposes() -> Sampler:
    return around(state=lambda x: x.transpose(-1, -2).reshape(x.shape) if x.ndim > 2 else x)


def _sorts_the_grid() -> Sampler:
    return around(before=lambda model, x, grid: (model, x, grid.sort(descending=True).values))


def _takes_any_model(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any) -> Run:
    return drive(rows(grid, process, 0.0), step, Predictor("mean", lambda y, t: model(y, t)), x, draws=draws)


def _ending(change: Callable[[Tensor], Any], *, before: Callable[[Tensor], Tensor] = lambda x: x) -> Sampler:
    """The specimen with a function around its start state and one around its end."""

    def changed(model: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
        done = sample(model, before(x), grid, **aids)
        return done._replace(x=change(done.x))

    return sampler(sample=changed)


def _counting(change: Callable[[float], Any], *, of: Sampler | None = None, vjps: Any = 0.0, **traits: Any) -> Sampler:
    """The specimen, or another, whose Run says other numbers."""
    inner = (of or sampler()).sample

    def changed(model: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
        done = inner(model, x, grid, **aids)
        return done._replace(nfe=change(done.nfe), vjps=vjps)

    return sampler(sample=changed, **traits)


def _returns_a_tensor(*state: Any, **aids: Any) -> Tensor:
    return sample(*state, **aids).x


def _law(check: Any, mutants: dict[str, Any], applies: Any = plain, **kind: bool) -> Law:
    return Law(name=check.__name__, subject="sampler", check=check, applies=applies, mutants=mutants, **kind)


LAWS = (
    _law(returns_the_end_state, {
        "returns_nothing": lambda: _ending(lambda x: None),
        "returns_a_pair": lambda: _ending(lambda x: (x, 3)),
        "returns_a_list": lambda: _ending(Tensor.tolist),
        "returns_no_run": lambda: sampler(sample=_returns_a_tensor),
        "loses_rows": lambda: _ending(lambda x: x[:1]),
        "is_not_a_number": lambda: _ending(lambda x: x * math.nan),
        "counts_in_words": lambda: _counting(lambda nfe: "four"),
        "counts_no_backward_passes": lambda: _counting(lambda nfe: nfe, vjps=None),
    }, first=True),
    _law(state_keeps_its_dtype, {
        "comes_back_in_float32": lambda: _ending(Tensor.float),
        "comes_back_in_float64": lambda: _ending(Tensor.double),
        "works_in_float32": lambda: _ending(Tensor.double, before=Tensor.float),
        "asks_in_float32": lambda: around(model=lambda inner: lambda x, t: inner(x.float(), t).to(x)),
        "rounds_the_end": lambda: _ending(lambda x: x.float().to(x)),
    }, own=True),
    _law(batch_never_changes_a_sample, {"couples_rows": _couples_rows}, lambda card: plain(card) and card.per_sample),
    _law(nfe_is_as_declared, {
        "evaluates_twice": _evaluates_twice,
        "declares_one_less": lambda: sampler(nfe=lambda grid: grid.shape[0] - 2.0),
        "evaluates_twice_and_counts_once": lambda: _counting(lambda nfe: nfe / 2, of=_evaluates_twice()),
    }, lambda card: plain(card) and card.nfe is not None),
    _law(counts_its_evaluations, {
        "counts_one_too_many": lambda: _counting(lambda nfe: nfe + 1, nfe=None),
    }, lambda card: plain(card) and card.nfe is None),
    _law(evaluates_inside_the_grid, {
        "rounds_times_up": _rounds_times_up,
    }),
    _law(one_step_works, {"divides_by_the_steps_before_the_last": lambda: sampler(sample=_divides_by_the_end)}),
    _law(every_interval_is_used, {"skips_the_third_point": lambda: sampler(sample=_skips_the_third_point)},
         lambda card: plain(card) and card.nfe is not None and not card.even),
    _law(float32_follows_float64, {"adds_and_subtracts_a_thousand": lambda: around(state=lambda x: (x + 1e3) - 1e3)}),
    _law(seed_matters_only_if_stochastic, {
        "draws_where_it_says_it_does_not": _draws_by_wall_tag,
        "forgets_its_noise": lambda: sampler(noisy=True, rows=scaled("noise", lambda g, p, e: 0.0)),
    }),
    _law(leaves_global_rng_alone, {"global_noise": _global_noise}),
    _law(does_not_touch_its_inputs, {"writes_to_x": _writes_to_x, "writes_to_the_mean": _writes_to_the_mean}),
    _law(second_run_equals_a_fresh_one, {
        "remembers_between_runs": _remembers_between_runs,
        "keeps_the_plan_of_each_number_of_steps": lambda: _keeps_plans(99),
        "keeps_the_last_plan": lambda: _keeps_plans(1),
    }),
    _law(accepts_its_sample_shapes, {"transposes": _transposes}),
    _law(no_samples_are_no_samples, {
        "makes_one_of_none": lambda: around(state=lambda x: x if x.shape[0] else x.new_zeros(1, *x.shape[1:])),
    }, lambda card: plain(card) and card.per_sample),
    _law(refuses_the_wrong_model_kind, {"takes_any_model": lambda: sampler(sample=_takes_any_model)}),
    _law(gradient_reaches_the_start, {
        "forgets_the_graph": lambda: around(state=torch.Tensor.detach),
        "forgets_the_graph_of_the_mean": lambda: around(model=lambda inner: lambda x, t: inner(x, t).detach()),
    }),
    _law(refuses_a_grid_that_does_not_decrease, {"sorts_the_grid": _sorts_the_grid}),
)  # fmt: skip
