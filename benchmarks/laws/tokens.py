"""What token processes, samplers and objectives must satisfy, on laws carried exactly through transition probabilities.

No Monte Carlo: a sampler's transitions turn the law of x_t over all sequences into the law of x_s (`law_after`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from reference_impls import catalogue
from reference_impls.core import grids, tokens
from reference_impls.core.draws import Philox
from reference_impls.core.drive import drive, rows_of
from reference_impls.core.tokens import Given, TokenProcess, categorical, clipped
from reference_impls.core.types import Model, Objective, Predictor, Reduction, Run, Sampler, WrongKind
from reference_impls.targets.tokens import Table, exact_ratio, joint_3x3, sequences

# ---- exact laws over sequences ---------------------------------------------------------------------------------------


def states_of(process: TokenProcess, length: int) -> Tensor:
    """Every sequence of states, int64 [states^length, length], in the order of a flattened law."""
    return sequences(process.states, length).to(device())


def noised_law(target: Any, t: float | None, process: TokenProcess) -> Tensor:
    """The law of x_t over all sequences of states, float64 [states^L]; t = None is clean data."""
    law = torch.nn.functional.pad(target.table().to(device()), (0, process.states - process.K) * target.shape[0])
    for axis in range(law.ndim if t is not None else 0):
        law = process.carried(law.movedim(axis, -1), process.sigma(t)).movedim(-1, axis)
    return law.flatten()


def prior_law(process: TokenProcess, length: int) -> Tensor:
    """The law that sampling starts from, float64 [states^length]."""
    law = torch.ones(1, dtype=torch.float64, device=device())
    for _ in range(length):
        law = torch.kron(law, process.prior(device()))
    return law


def carried_by(transition: Callable[[Tensor], Tensor], law: Tensor, process: TokenProcess, length: int) -> Tensor:
    """The law after one step: positions are drawn independently given the whole sequence before it."""
    chances = clipped(transition(states_of(process, length)))
    chances = torch.nn.functional.pad(chances, (0, process.states - chances.shape[-1]))
    matrix = chances[:, 0]
    for position in range(1, length):
        matrix = (matrix[:, :, None] * chances[:, position, None]).flatten(1)
    return law @ matrix


def law_after(card: Sampler, model: Model, grid: Tensor, process: TokenProcess, start: Tensor, length: int) -> Tensor:
    """The exact law, float64 [states^length], of the sampler's output if its start has the law `start`."""
    law = start
    for transition in card.transitions(model, grid, process):
        law = carried_by(transition, law, process, length)
    return law


def total_variation(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().sum().item() / 2


# ---- cases -----------------------------------------------------------------------------------------------------------
def is_token(card: Any) -> bool:
    return "token" in getattr(card, "defined_on", {"token"}) and card.path in tokens.NAMED


def every_process(K: int) -> list[TokenProcess]:
    return [tokens.named(name, K) for name in tokens.NAMED]


def uniforms(seed: int, *shape: int) -> Tensor:
    return Philox(seed, shape[0], device()).uniform("law", shape)


def random_target(seed: int, K: int, length: int) -> Table:
    """A law over K^length sequences without zeros."""
    weights = -uniforms(seed, K**length).log() + 0.05
    return Table("random", (weights / weights.sum()).reshape([K] * length))


def random_states(seed: int, process: TokenProcess, rows: int, length: int) -> Tensor:
    return (uniforms(seed, rows, length) * process.states).long()


@st.composite
def random_grids(draw: Any, latest: float = 0.8, most: int = 5) -> Tensor:
    """Decreasing times in [1e-3, latest]; latest < 1, for there exp(-d Q) loses exp(sigma) digits."""
    shares = draw(st.lists(st.floats(0.2, 1.0), min_size=1, max_size=most))
    fraction = torch.tensor([0.0, *shares], dtype=torch.float64).cumsum(0) / sum(shares)
    return latest + fraction * (1e-3 - latest)


def run(card: Sampler, process: TokenProcess, grid: Tensor, *, seed: int = 1, model: Model | None = None,
        x: Tensor | None = None, samples: Any = None, **aids: Any) -> Run:  # fmt: skip
    x = random_states(3, process, 40, 2) if x is None else x
    draws = Philox(seed, x.shape[0] if samples is None else samples, device())
    return card.sample(model or exact_ratio(joint_3x3(), process), x, grid, process=process, draws=draws, **aids)


FOUR = torch.linspace(0.8, 1e-3, 5, dtype=torch.float64)


# ---- processes -------------------------------------------------------------------------------------------------------
def kernel_is_the_exponential_of_its_rates(process: TokenProcess) -> None:
    every = torch.arange(process.states, device=device())
    into = process.rate_into(every).T  # rows from, columns to
    generator = into - torch.diag(into.sum(1))

    @given(st.floats(1e-6, 20))
    def holds(d: float) -> None:
        kernel = process.kernel(d, device())
        gap = (kernel - torch.linalg.matrix_exp(d * generator)).abs().max().item()
        assert gap <= 1e-12, f"noise {d:g}: the kernel differs from exp(d Q) by {gap:.2e}"
        column = (process.chance_into(every, d).T - kernel).abs().max().item()
        assert column <= 1e-15, f"noise {d:g}: chance_into differs from the kernel's columns by {column:.2e}"

    holds()


def kernel_rows_are_laws(process: TokenProcess) -> None:
    @given(st.floats(0, 50))
    def holds(d: float) -> None:
        kernel = process.kernel(d, device())
        gap = (kernel.sum(1) - 1).abs().max().item()
        assert gap <= 1e-14 and kernel.min() >= 0, f"noise {d:g}: rows sum to 1 to {gap:.2e}, least {kernel.min():.2e}"

    holds()


def noises_add_up(process: TokenProcess) -> None:
    @given(st.floats(0, 8), st.floats(0, 8))
    def holds(a: float, b: float) -> None:
        both, first, second = (process.kernel(d, device()) for d in (a + b, a, b))
        gap = (first @ second - both).abs().max().item()
        assert gap <= 1e-14, f"kernels of {a:g} and {b:g} do not make that of their sum: {gap:.2e}"
        back = (process.carried(process.carried(first, b), -b) - first).abs().max().item()
        assert back <= 1e-14 * math.exp(b), f"noise {b:g} given and taken leaves {back:.2e}"

    holds()


def corrupt_has_the_kernels_law(process: TokenProcess) -> None:
    mesh = (torch.arange(2000, dtype=torch.float64, device=device()) + 0.5)[:, None] / 2000

    @given(st.floats(0.01, 1.0), st.integers(0, process.K - 1))
    def holds(t: float, letter: int) -> None:
        found = process.corrupt(torch.full((2000, 1), letter, device=device()), t, mesh)
        share = torch.bincount(found[:, 0], minlength=process.states) / 2000
        expected = process.kernel(process.sigma(t), device())[letter]
        gap = (share - expected).abs().max().item()
        assert gap <= 1 / 2000, f"t = {t:g}: shares {share.tolist()} for chances {expected.tolist()}"

    holds()


def noise_rate_is_its_slope(process: TokenProcess) -> None:
    @given(st.floats(0.01, 0.99))
    def holds(t: float) -> None:
        h = 1e-5
        slope = (process.sigma(t + h) - process.sigma(t - h)) / (2 * h)
        assert slope > 0, f"the noise does not grow at t = {t:g}"
        assert abs(process.rate(t) - slope) <= 1e-4 * slope, f"t = {t:g}: rate {process.rate(t):g}, slope {slope:g}"

    holds()


# ---- samplers --------------------------------------------------------------------------------------------------------
def batch_never_changes_token_probabilities(card: Sampler) -> None:
    @given(st.integers(0, 10**6), random_grids(), st.sampled_from(every_process(3)))
    def holds(seed: int, grid: Tensor, process: TokenProcess) -> None:
        model, x = exact_ratio(random_target(seed, 3, 2), process), random_states(seed, process, 5, 2)
        for transition in card.transitions(model, grid, process):
            alone = torch.cat([transition(row[None]) for row in x])
            gap = (clipped(transition(x)) - clipped(alone)).abs().max().item()
            assert gap <= 1e-12, f"{process.name}: a row's probabilities change by {gap:.2e} in a batch"
        together = run(card, process, grid, x=x, model=model).x
        alone = [run(card, process, grid, x=x[i : i + 1], model=model, samples=range(i, i + 1)).x for i in range(5)]
        assert torch.equal(together, torch.cat(alone)), f"{process.name}: a row draws other tokens in a batch"

    holds()


def single_token_is_exact(card: Sampler) -> None:
    @given(st.integers(0, 10**6), st.integers(2, 5), random_grids())
    def holds(seed: int, K: int, grid: Tensor) -> None:
        target = random_target(seed, K, 1)
        for process in every_process(K):
            law = noised_law(target, grid[0].item(), process)
            steps = card.transitions(exact_ratio(target, process), grid, process)
            for transition, s in zip(steps, [*grid[1:].tolist(), None], strict=True):
                law = carried_by(transition, law, process, 1)
                gap = (law - noised_law(target, s, process)).abs().max().item()
                assert gap <= 1e-11, f"{process.name}: the law at t = {s or 0:g} is wrong by {gap:.2e}"

    holds()


def token_law_converges_as_declared(card: Sampler) -> None:
    target = joint_3x3()
    for process in every_process(3):
        start, data = noised_law(target, process.t_max, process), noised_law(target, None, process)
        errors = [
            total_variation(
                law_after(card, exact_ratio(target, process), grids.uniform_t(steps, process), process, start, 2), data
            )
            for steps in (128, 256)
        ]
        slope = math.log2(errors[0] / errors[1])
        assert abs(slope - card.weak_order) <= 0.15, f"{process.name}: TV {errors} at 128, 256 steps: order {slope:.2f}"


def token_nfe_is_as_declared(card: Sampler) -> None:
    for process in every_process(3):
        for steps in range(1, 8):
            for grid in (card.grid(steps, process), grids.t_to_zero(steps, process)):
                found, declared = run(card, process, grid).nfe, card.nfe(grid)
                assert found == declared, f"{steps} steps to {grid[-1]:g}: metered {found}, declared {declared}"


def relabelling_letters_relabels_the_law(card: Sampler) -> None:
    @given(st.integers(0, 10**6), st.permutations(range(4)), random_grids())
    def holds(seed: int, names: list[int], grid: Tensor) -> None:
        law = random_target(seed, 4, 2).law
        order = torch.tensor(names, device=law.device)
        for process in every_process(4):
            renamed = torch.cat([order, torch.arange(4, process.states, device=law.device)])  # a mask keeps its name
            relabelled = torch.empty_like(law)
            relabelled[order[:, None], order[None]] = law
            models = [exact_ratio(Table("random", p), process) for p in (law, relabelled)]
            pair = [card.transitions(model, grid, process) for model in models]
            x = random_states(seed, process, 20, 2)
            for one, other in zip(*pair, strict=True):
                w = clipped(one(x))
                gap = (w - clipped(other(renamed[x]))[..., renamed[: w.shape[-1]]]).abs().max().item()
                assert gap <= 1e-10, f"{process.name}: relabelling by {names} moves probabilities by {gap:.2e}"

    holds()


def draws_from_its_transitions(card: Sampler) -> None:
    @given(st.integers(0, 2**31), random_grids())
    def holds(seed: int, grid: Tensor) -> None:
        for process in every_process(3):
            exact = exact_ratio(joint_3x3(), process)
            # half of every ratio: a model that is wrong and that would rather keep what it has, masks too
            model = Predictor("ratio", lambda x, t, exact=exact: (exact(x, t) / 2).scatter(-1, x[..., None], 1))
            x = start = random_states(seed, process, 40, 2)
            draws = Philox(seed, 40, device())
            for i, transition in enumerate(card.transitions(model, grid, process)):
                x = categorical(transition(x), draws.at(i).uniform("step", (40, 2)))
            found = run(card, process, grid, seed=seed, x=start, model=model).x
            assert torch.equal(found, x), f"{process.name}: {(found != x).sum()} of 80 tokens are not as declared"
            assert found.min() >= 0 and found.max() < process.K, f"{process.name}: something else than letters is left"

    holds()


def given_tokens_stay_given(card: Sampler) -> None:
    coarse = torch.tensor([0.8, 0.4], dtype=torch.float64)
    for process in every_process(3):
        where = torch.tensor([True, False], device=device())
        given_ = Given(where, torch.tensor([2, 0], device=device()))
        exact, seen = exact_ratio(joint_3x3(), process), []
        spy = Predictor("ratio", lambda x, t, seen=seen, exact=exact: seen.append(x[:, 0].clone()) or exact(x, t))
        found = run(card, process, coarse, model=spy, condition=given_).x
        assert all((column == 2).all() for column in seen), f"{process.name}: the model saw another token there"
        assert (found[:, 0] == 2).all(), f"{process.name}: a given position was redrawn at the end"
        assert found[:, 1].unique().numel() > 1, f"{process.name}: a position that is not given never varied"


def token_seed_matters_only_if_stochastic(card: Sampler) -> None:
    for process in every_process(3):
        same = torch.equal(run(card, process, FOUR, seed=1).x, run(card, process, FOUR, seed=2).x)
        ends = "equal" if same else "other"
        assert same != card.stochastic, f"card says stochastic={card.stochastic}, two seeds give {ends} ends"


def token_inputs_are_left_alone(card: Sampler) -> None:
    for process in every_process(3):
        x, grid, outputs = random_states(3, process, 40, 2), FOUR.clone(), []
        exact = exact_ratio(joint_3x3(), process)

        def predict(y: Tensor, t: Any, exact: Any = exact, outputs: list = outputs) -> Tensor:
            out = exact(y, t)
            outputs.append((out, out.clone()))
            return out

        kept = x.clone()
        run(card, process, grid, x=x, model=Predictor("ratio", predict))
        assert torch.equal(x, kept), "the start state was written to"
        assert torch.equal(grid, FOUR), "the grid was written to"
        assert all(torch.equal(out, copy) for out, copy in outputs), "a model's output was written to"


def token_samplers_refuse_the_wrong_kind(card: Sampler) -> None:
    process = tokens.named(card.path, 3)
    try:
        run(card, process, FOUR, model=Predictor("posterior", exact_ratio(joint_3x3(), process).predict))
    except WrongKind:
        return
    raise AssertionError("a model of kind 'posterior' was accepted, expected WrongKind")


def token_reductions_hold(card: Sampler) -> None:
    for reduction in card.reduces:
        pair = card, catalogue.samplers()[reduction.to]

        @given(st.integers(0, 10**6), random_grids(), st.sampled_from(sorted(tokens.NAMED)))
        def holds(seed: int, grid: Tensor, name: str) -> None:
            process = tokens.named(card.path if reduction.on == "own" else name, 3)  # noqa: B023  called in this turn
            x = random_states(seed, process, 10, 2)
            ratio = (uniforms(seed, 10, 2, process.states) * 2).scatter(-1, x[..., None], 1)  # of no target: any model
            model = Predictor("ratio", lambda y, t: ratio)
            for mine, theirs in zip(*(method.transitions(model, grid, process) for method in pair), strict=True):  # noqa: B023
                gap = (clipped(mine(x)) - clipped(theirs(x))).abs().max().item()
                assert gap <= reduction.tolerance, f"{process.name}: differs from {reduction.to} by {gap:.2e}"  # noqa: B023

        holds()


# ---- objectives ------------------------------------------------------------------------------------------------------
def one_number_per_sequence(card: Objective) -> None:
    for process in every_process(3):
        x0 = random_states(1, process, 6, 4).clamp(max=2)
        model = Predictor("ratio", lambda x, t, process=process: 1 + 0.1 * process.law_from(x, 0.3))
        t = card.times(torch.linspace(0.1, 0.9, 6, dtype=torch.float64, device=device()), process)
        x_t = process.corrupt(x0, t, uniforms(2, 6, 4))
        together = card.loss(model, x0, t, x_t, process=process)
        assert together.shape == (6,), f"loss has shape {tuple(together.shape)}, expected (6,)"
        for i in range(6):
            row = slice(i, i + 1)
            gap = (card.loss(model, x0[row], t[row], x_t[row], process=process)[0] - together[i]).abs().item()
            assert gap <= 1e-12 * (1 + together[i].abs().item()), f"a sample's loss depends on its batch by {gap:.2e}"


def expected_slope(card: Objective, process: TokenProcess, u: float, seed: int, shift: Tensor) -> Tensor:
    """Gradient in log s, [2,states], of E[loss | x_t] at the exact ratios times exp(shift): 9 atoms, no Monte Carlo."""
    target, every = random_target(seed, 3, 2), sequences(3, 2).to(device())
    t = card.times(torch.tensor([u], dtype=torch.float64, device=device()), process)
    x_t = random_states(seed + 1, process, 1, 2)
    if process.mask is not None:
        x_t[:, 0] = process.mask  # a loss on letters alone is the constant 0
    reach = process.chance_into(x_t, process.sigma(t))[0]
    posterior = target.law.flatten() * reach[0, every[:, 0]] * reach[1, every[:, 1]]
    posterior = posterior / posterior.sum()
    log_s = (target.ratio(x_t, t, process)[0].log() + shift).requires_grad_()
    model = Predictor("ratio", lambda x, _: log_s.exp().scatter(-1, x_t[0, :, None], 1).expand(9, -1, -1))
    losses = card.loss(model, every, t.expand(9), x_t.expand(9, -1), process=process)
    return torch.autograd.grad((posterior * losses).sum(), log_s)[0]


def _shifts(seed: int, process: TokenProcess) -> Tensor:
    return (uniforms(seed + 2, 2, process.states) - 0.5).sign() * 0.3


def exact_ratio_is_stationary(card: Objective) -> None:
    @given(st.floats(0.02, 0.98), st.integers(0, 10**6))
    def holds(u: float, seed: int) -> None:
        for process in every_process(3):
            shift = _shifts(seed, process)
            here, there = (expected_slope(card, process, u, seed, z).norm().item() for z in (0 * shift, shift))
            assert here <= 1e-12 * there, f"{process.name}: slope {here:.2e} at the exact ratio, displaced {there:.2e}"

    holds()


def loss_grows_away_from_the_exact_ratio(card: Objective) -> None:
    @given(st.floats(0.02, 0.98), st.integers(0, 10**6))
    def holds(u: float, seed: int) -> None:
        for process in every_process(3):
            shift = _shifts(seed, process)
            slope = expected_slope(card, process, u, seed, shift) * shift
            assert slope.min() >= 0 and slope.max() > 0, f"{process.name}: log s moved by {shift}: slope {slope}"

    holds()


def token_gradient_is_finite_at_the_ends_of_t(card: Objective) -> None:
    ends = torch.tensor([1e-12, 1 - 1e-12], dtype=torch.float64, device=device()).repeat(20)
    for process in every_process(3):
        for dtype in (torch.float64, torch.float32):
            t, x0 = card.times(ends, process), random_states(1, process, 40, 4).clamp(max=2)
            log_s = torch.zeros(40, 4, process.states, dtype=dtype, device=device(), requires_grad=True)
            model = Predictor("ratio", lambda x, _, log_s=log_s: log_s.exp())
            loss = card.loss(model, x0, t, process.corrupt(x0, t, uniforms(2, 40, 4)), process=process)
            slope = torch.autograd.grad(loss.sum(), log_s)[0]
            assert torch.isfinite(loss).all() and torch.isfinite(slope).all(), f"{process.name}, {dtype}: not finite"


# ---- healthy specimens, and mutants of them --------------------------------------------------------------------------
class Rows(NamedTuple):
    t: Tensor
    s: Tensor


def rows(grid: Tensor) -> Rows:
    times = grid if grid[-1] == 0 else torch.cat([grid, grid.new_zeros(1)])
    return Rows(times[:-1], times[1:])


def reversal(ratio: Tensor, x: Tensor, row: Rows, process: TokenProcess) -> Tensor:
    """p(x_s = z | x_t = x) of one token: the law at s, read from the ratios at t, times the chance to come to x."""
    d = process.sigma(row.t) - (process.sigma(row.s) if row.s > 0 else 0.0)
    weights = process.carried(ratio, -d) * process.chance_into(x, d)
    return weights if row.s > 0 else weights[..., : process.K]


def specimen(*, weights: Callable = reversal, step: Callable | None = None, before: bool = True, after: bool = True,
             order: Callable = lambda steps: steps, checks_kind: bool = True, **traits: Any) -> Sampler:  # fmt: skip
    """A textbook sampler by time reversal, one token at a time; each argument breaks it in one place."""

    def redraw(x: Tensor, row: Rows, memory: None, *, model: Any, draws: Any, process: Any) -> tuple[Tensor, None]:
        u = draws.uniform("step", tuple(x.shape))
        return categorical(weights(model(x, row.t), x, row, process), u), None

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, condition: Any = None) -> Run:
        def one(y: Tensor, row: Rows, memory: None, *, model: Any, draws: Any) -> tuple[Tensor, None]:
            y = condition.over(y) if condition and before else y
            return (step or redraw)(y, row, memory, model=model, draws=draws, process=process)

        model = model if checks_kind else Predictor("ratio", model)
        done = drive(rows(grid), one, model, x, draws=draws, consumes="ratio")
        return done._replace(x=condition.over(done.x)) if condition and after else done

    def transitions(model: Model, grid: Tensor, process: TokenProcess) -> list[Callable[[Tensor], Tensor]]:
        steps = order(rows_of(rows(grid)))
        return [lambda x, row=row: weights(model(x, row.t), x, row, process) for row in steps]

    card = Sampler(
        id="specimen.tokens", sample=sample, transitions=transitions, grid=grids.uniform_t, consumes="ratio",
        path="absorbing-loglinear", start=tokens.prior_of_tokens, defined_on=frozenset({"token"}), stochastic=True,
        nfe=lambda grid: float(rows(grid).t.shape[0]), weak_order=1.0, exact_on=frozenset({"single_token"}),
    )  # fmt: skip
    return replace(card, **traits)


def _skewed(ratio: Tensor, x: Tensor, row: Rows, process: TokenProcess) -> Tensor:
    w = reversal(ratio, x, row, process)
    return w * torch.linspace(1, 1.001, w.shape[-1], dtype=w.dtype, device=w.device)


def _of_the_batch(ratio: Tensor, x: Tensor, row: Rows, process: TokenProcess) -> Tensor:
    return reversal(ratio + 1e-6 * ratio.mean(0), x, row, process)


def _keeps_masks(ratio: Tensor, x: Tensor, row: Rows, process: TokenProcess) -> Tensor:
    d = process.sigma(row.t) - (process.sigma(row.s) if row.s > 0 else 0.0)
    return process.carried(ratio, -d) * process.chance_into(x, d)


def _one_euler_step(ratio: Tensor, x: Tensor, row: Rows, process: TokenProcess, factor: float = 1.0) -> Tensor:
    rates = process.rate_into(x) * ratio * process.rate(row.t) * (row.t - row.s) * factor
    w = rates.scatter(-1, x[..., None], 1 - rates.sum(-1, keepdim=True))
    return w if row.s > 0 else reversal(ratio, x, row, process)


def _noise_of_the_other_end(ratio: Tensor, x: Tensor, row: Rows, process: TokenProcess) -> Tensor:
    d = process.sigma(row.t) - process.sigma(row.s)
    weights = process.carried(ratio, -process.sigma(row.s)) * process.chance_into(x, d)
    return weights if row.s > 0 else reversal(ratio, x, row, process)


def _step(change: Callable[..., Tensor]) -> Callable:
    """A step whose new tokens are change(x, row, model, draws, process)."""
    return lambda x, row, memory, *, model, draws, process: (change(x, row, model, draws, process), None)


def _fair(x: Tensor, row: Rows, model: Any, draws: Any, process: TokenProcess) -> Tensor:
    return categorical(reversal(model(x, row.t), x, row, process), draws.uniform("step", tuple(x.shape)))


def _reversed_uniforms(x: Tensor, row: Rows, model: Any, draws: Any, process: TokenProcess) -> Tensor:
    return categorical(reversal(model(x, row.t), x, row, process), draws.uniform("step", tuple(x.shape)).flip(0))


def _median(x: Tensor, row: Rows, model: Any, draws: Any, process: TokenProcess) -> Tensor:
    return categorical(reversal(model(x, row.t), x, row, process), torch.full(x.shape, 0.5, device=x.device))


def _evaluates_twice(x: Tensor, row: Rows, model: Any, draws: Any, process: TokenProcess) -> Tensor:
    model(x, row.t)
    return _fair(x, row, model, draws, process)


def _writes_to_x(x: Tensor, row: Rows, model: Any, draws: Any, process: TokenProcess) -> Tensor:
    return x.copy_(_fair(x, row, model, draws, process))


def _writes_to_the_ratio(x: Tensor, row: Rows, model: Any, draws: Any, process: TokenProcess) -> Tensor:
    ratio = model(x, row.t)
    w = reversal(ratio, x, row, process)
    ratio.mul_(2)
    return categorical(w, draws.uniform("step", tuple(x.shape)))


def denoising_score_entropy(model: Model, x0: Tensor, t: Tensor, x_t: Tensor, *, process: TokenProcess) -> Tensor:
    """sum over states with a rate into x_t of s - r log s, [B]: textbook, unweighted, without its constant."""
    into = process.rate_into(x_t) > 0
    law = process.law_from(x0, process.sigma(t))
    r = torch.where(into, law / law.gather(-1, x_t[..., None]), 0)
    s = torch.where(into, model(x_t, t).double(), 1)
    return (into * (s - r * s.log())).sum((1, 2))


OBJECTIVE = Objective(
    id="specimen.score_entropy", loss=denoising_score_entropy, minimiser="ratio", path="absorbing-loglinear",
    times=lambda u, process: 1e-3 + u.double() * (process.t_max - 1e-3),
)  # fmt: skip


def _loss(change: Callable[..., Tensor]) -> Callable[[], Objective]:
    """A maker of the specimen with change(model, x0, t, x_t, process) for its loss."""
    return lambda: replace(OBJECTIVE, loss=lambda model, x0, t, x_t, *, process: change(model, x0, t, x_t, process))


def _batch_mean(model: Model, x0: Tensor, t: Tensor, x_t: Tensor, process: TokenProcess) -> Tensor:
    return denoising_score_entropy(model, x0, t, x_t, process=process).mean().expand(x0.shape[0])


def _inverted(model: Model, x0: Tensor, t: Tensor, x_t: Tensor, process: TokenProcess) -> Tensor:
    upside_down = Predictor("ratio", lambda x, u: 1 / model(x, u))
    return denoising_score_entropy(upside_down, x0, t, x_t, process=process)


def _noise_of_another_time(model: Model, x0: Tensor, t: Tensor, x_t: Tensor, process: TokenProcess) -> Tensor:
    earlier = Predictor("ratio", lambda x, u: model(x, t))
    return denoising_score_entropy(earlier, x0, 0.9 * t, x_t, process=process)


def _opposite(model: Model, x0: Tensor, t: Tensor, x_t: Tensor, process: TokenProcess) -> Tensor:
    return -denoising_score_entropy(model, x0, t, x_t, process=process)


def _weighs_by_the_time_left(model: Model, x0: Tensor, t: Tensor, x_t: Tensor, process: TokenProcess) -> Tensor:
    return denoising_score_entropy(model, x0, t, x_t, process=process) / (process.t_max - t.float())


def _process(**methods: Callable) -> Callable[[], TokenProcess]:
    """A maker of a process over 3 letters with some of its methods replaced."""
    Broken = type("Broken", (TokenProcess,), methods)
    return lambda: Broken("broken", 3, "uniform", tokens.log_linear(), 1e-5, 1.0)


def _leaks(self: TokenProcess, x: Tensor, d: Any) -> Tensor:
    return TokenProcess.law_from(self, x, d) * (1 - 1e-9)


def _half_the_noise(self: TokenProcess, x: Tensor, d: Any) -> Tensor:
    return TokenProcess.law_from(self, x, d / 2)


def _redraws_elsewhere(self: TokenProcess, x: Tensor, d: Any) -> Tensor:
    own = torch.nn.functional.one_hot(x, self.K).double()
    return math.exp(-d) * own + (1 - math.exp(-d)) * (1 - own) / (self.K - 1)


def _reversed_order(self: TokenProcess, x0: Tensor, t: Any, u: Tensor) -> Tensor:
    return self.K - 1 - categorical(self.law_from(x0, self.sigma(t)), u)


def _faster(self: TokenProcess, t: Any) -> Any:
    return 1.01 * TokenProcess.rate(self, t)


Trait = Callable[[Any], bool]


def _law(subject: Any, check: Callable[[Any], None], applies: Trait = lambda card: True, **mutants: Any) -> Law:
    return Law(name=check.__name__, subject=subject, check=check, applies=applies, mutants=mutants)


def _of_samplers(check: Callable[[Any], None], trait: Trait = lambda card: True, **mutants: Any) -> Law:
    return _law("sampler", check, lambda card: is_token(card) and bool(card.transitions) and trait(card), **mutants)


def _of_objectives(check: Callable[[Any], None], **mutants: Any) -> Law:
    return _law("objective", check, lambda card: is_token(card) and card.minimiser == "ratio", **mutants)


def _claims_to_be(exact: bool) -> dict[str, Any]:
    """A false reduction: to the catalogue's first token sampler that is, or is not, exact on a single token."""
    known = catalogue.samplers().items()
    twin = next(id for id, card in known if is_token(card) and ("single_token" in card.exact_on) == exact)
    return {"reduces": (Reduction({}, twin),)}


LAWS = (
    _law("token_process", kernel_is_the_exponential_of_its_rates,
         half_the_noise=_process(law_from=_half_the_noise), redraws_elsewhere=_process(law_from=_redraws_elsewhere)),
    _law("token_process", kernel_rows_are_laws, leaks=_process(law_from=_leaks)),
    _law("token_process", noises_add_up, redraws_elsewhere=_process(law_from=_redraws_elsewhere)),
    _law("token_process", corrupt_has_the_kernels_law, reversed_order=_process(corrupt=_reversed_order)),
    _law("token_process", noise_rate_is_its_slope, a_hundredth_faster=_process(rate=_faster)),
    _of_samplers(batch_never_changes_token_probabilities,
                 ratios_of_the_batch=lambda: specimen(weights=_of_the_batch),
                 uniforms_of_another_row=lambda: specimen(step=_step(_reversed_uniforms))),
    _of_samplers(single_token_is_exact, lambda card: "single_token" in card.exact_on,
                 euler_step=lambda: specimen(weights=_one_euler_step),
                 noise_of_the_other_end=lambda: specimen(weights=_noise_of_the_other_end)),
    _of_samplers(token_law_converges_as_declared, lambda card: card.weak_order is not None,
                 half_the_rate=lambda: specimen(weights=partial(_one_euler_step, factor=0.5)),
                 declares_second_order=lambda: specimen(weak_order=2.0)),
    _of_samplers(token_nfe_is_as_declared, lambda card: card.nfe is not None,
                 evaluates_twice=lambda: specimen(step=_step(_evaluates_twice)),
                 forgets_the_denoising_step=lambda: specimen(nfe=lambda grid: grid.shape[0] - 1.0)),
    _of_samplers(relabelling_letters_relabels_the_law, skewed=lambda: specimen(weights=_skewed)),
    _of_samplers(draws_from_its_transitions,
                 keeps_masks=lambda: specimen(weights=_keeps_masks),
                 declares_the_steps_in_reverse=lambda: specimen(order=lambda steps: steps[-2::-1] + steps[-1:]),
                 uniforms_of_another_row=lambda: specimen(step=_step(_reversed_uniforms))),
    _of_samplers(given_tokens_stay_given, lambda card: "condition" in inspect.signature(card.sample).parameters,
                 overwrites_at_the_end_only=lambda: specimen(before=False),
                 overwrites_before_steps_only=lambda: specimen(after=False)),
    _of_samplers(token_seed_matters_only_if_stochastic, takes_the_median=lambda: specimen(step=_step(_median))),
    _of_samplers(token_inputs_are_left_alone,
                 writes_to_x=lambda: specimen(step=_step(_writes_to_x)),
                 writes_to_the_ratio=lambda: specimen(step=_step(_writes_to_the_ratio))),
    _of_samplers(token_samplers_refuse_the_wrong_kind, takes_any_model=lambda: specimen(checks_kind=False)),
    _of_samplers(token_reductions_hold, lambda card: bool(card.reduces),
                 is_not_the_inexact_step=lambda: specimen(**_claims_to_be(exact=False)),
                 skewed=lambda: specimen(weights=_skewed, **_claims_to_be(exact=True))),
    _of_objectives(one_number_per_sequence, mean_over_the_batch=_loss(_batch_mean)),
    _of_objectives(exact_ratio_is_stationary,
                   inverted_ratio=_loss(_inverted), noise_of_another_time=_loss(_noise_of_another_time)),
    _of_objectives(loss_grows_away_from_the_exact_ratio, opposite_sign=_loss(_opposite)),
    _of_objectives(token_gradient_is_finite_at_the_ends_of_t,
                   weighs_by_the_time_left=_loss(_weighs_by_the_time_left)),
)  # fmt: skip
