"""How a method that is given a measurement must behave, and what an exact posterior must satisfy.

The methods are those whose card needs "measurement"; problems are random linear-Gaussian ones with exact denoisers.
The specimen at the end, textbook guidance by the misfit's gradient, passes every law; each mutant differs in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from benchmarks.laws.conduct import dtype_is_kept, is_finite, own_process, random_grids
from benchmarks.laws.specimens import HEALTHY, rows
from reference_impls import targets
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.drive import drive
from reference_impls.core.types import Predictor, Run, Sampler, WrongKind
from reference_impls.targets.inverse import LinearGaussian, Matrix, Measurement, log_gaussian

ROWS = 4
UNSHRUNK = (Phase.explicit, Phase.generate)  # cases are small as drawn; shrinking one costs ten times the law


def measured(card: Sampler) -> bool:
    """A sampler of means on Gaussian paths whose only aid is a measurement."""
    return card.consumes == "mean" and "gaussian" in card.defined_on and card.needs == {"measurement"}


def normals(seed: int, tag: str, *shape: int) -> Tensor:
    """float64 normals of any shape on the laws' device: the same for the same seed and tag."""
    like = torch.empty(1, *shape, dtype=torch.float64, device=device())
    return Philox(seed, 1, device()).normal(tag, like)[0]


def orthogonal(seed: int, d: int) -> Tensor:
    return torch.linalg.qr(normals(seed, "rotation", d, d))[0]


def random_problem(seed: int, d: int, m: int, K: int = 2) -> LinearGaussian:
    """K Gaussian components in d dimensions seen through m <= d numbers; ROWS unrelated measurements."""
    root = normals(seed, "root", K, d, d) / d**0.5
    return LinearGaussian(
        name="law",
        weights=normals(seed, "weight", K).softmax(0).cpu(),
        means=(1.5 * normals(seed, "mean", K, d)).cpu(),
        covariances=(root @ root.mT + 0.1 * torch.eye(d, device=device())).cpu(),
        matrix=normals(seed, "matrix", m, d).cpu(),
        noise_std=0.3,
        y=(2 * normals(seed, "y", ROWS, m)).cpu(),
    )


problems = st.builds(
    lambda seed, d, m, K: random_problem(seed, d, min(d, m), K),
    st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3),
)  # fmt: skip


@dataclass(frozen=True)
class Turned:
    """The draws of another source, every noise multiplied by an orthogonal matrix [d,d]."""

    draws: Any
    turn: Tensor

    def at(self, *where: int) -> Turned:
        return replace(self, draws=self.draws.at(*where))

    def normal(self, tag: str, like: Tensor) -> Tensor:
        return self.draws.normal(tag, like) @ self.turn.T

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        return self.draws.uniform(tag, shape)

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        return self.draws.block(steps, tag, like) @ self.turn.T


def solve(
    card: Sampler, process: Any, grid: Tensor, measurement: Measurement, model: Any, shape: tuple[int, ...], *,
    draws: Any = None, x: Tensor | None = None, count: int = ROWS,
) -> Run:  # fmt: skip
    """Start as the card says, unless x is given, and run."""
    aids = {"measurement": measurement}
    draws = Philox(1, count, device()) if draws is None else draws
    like = torch.empty(count, *shape, dtype=torch.float64, device=device())
    x = card.start(draws, like, grid, process, aids) if x is None else x
    return card.sample(model, x, grid, process=process, draws=draws, **aids)


def on(card: Sampler, process: Any, grid: Tensor, problem: LinearGaussian, **options: Any) -> Tensor:
    model = targets.exact(problem.prior, process)
    return solve(card, process, grid, problem.measurement, model, problem.shape, **options).x


def gap(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / (1 + a.abs().max())).item()


def on_random_problems(card: Sampler, holds: Callable[[LinearGaussian, Any, Tensor], None]) -> None:
    """holds(problem, process, grid) on random problems and grids of the card's own path."""
    process = own_process(card)
    cases = given(problems, random_grids(process))(lambda problem, grid: holds(problem, process, grid))
    settings(phases=UNSHRUNK)(cases)()


def each_problem_of_a_batch_is_solved_alone(card: Sampler) -> None:
    def holds(problem: LinearGaussian, process: Any, grid: Tensor) -> None:
        together = on(card, process, grid, problem)
        sources = [Philox(1, range(b, b + 1), device()) for b in range(ROWS)]
        alone = [on(card, process, grid, problem.rows([b]), draws=sources[b], count=1) for b in range(ROWS)]
        found = gap(together, torch.cat(alone))
        assert found <= 1e-12, f"a problem solved alone differs from the same one in a batch by {found:.2e}"

    on_random_problems(card, holds)


def cost_of_a_measured_run_is_as_declared(card: Sampler) -> None:
    process = processes.named(card.path)
    problem = random_problem(3, 3, 2)
    model = targets.exact(problem.prior, process)
    for steps in range(1, 8):
        for where, grid in ((process, card.grid(steps, process)), (own_process(card), None)):
            grid = torch.linspace(where.t_max, where.t_min, steps + 1, dtype=torch.float64) if grid is None else grid
            run = solve(card, where, grid, problem.measurement, model, problem.shape)
            assert torch.isfinite(run.x).all(), f"{steps} steps: the end is not finite"
            assert run.nfe == card.nfe(grid), f"{steps} steps: {run.nfe} evaluations, declared {card.nfe(grid)}"
            assert run.vjps == card.vjps(grid), f"{steps} steps: {run.vjps} backward passes, declared {card.vjps(grid)}"


def every_time_of_a_measured_run_is_used(card: Sampler) -> None:
    def holds(problem: LinearGaussian, process: Any, grid: Tensor) -> None:
        before = on(card, process, grid, problem)
        for i in range(1, grid.shape[0] - 1):
            moved = grid.clone()
            moved[i] = 0.7 * grid[i] + 0.3 * grid[i + 1]
            found = gap(before, on(card, process, moved, problem))
            assert found > 1e-9, f"moving grid point {i} from {grid[i]:g} to {moved[i]:g} changes nothing"

    on_random_problems(card, holds)


def result_follows_the_measurement(card: Sampler) -> None:
    """From one start, halfway between two measurements, the two ends differ along the measurements' difference."""
    process = own_process(card)

    @settings(phases=UNSHRUNK)
    @given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 6))
    def holds(seed: int, d: int, steps: int) -> None:
        grid = torch.linspace(process.t_max, process.t_min, steps + 1, dtype=torch.float64)
        matrix = orthogonal(seed, d).cpu()
        wide = 4 * torch.eye(d, dtype=torch.float64)[None]
        problem = replace(random_problem(seed, d, d, 1), matrix=matrix, covariances=wide)
        middle = problem.means @ matrix.T
        offset = 3 * torch.nn.functional.normalize(problem.y, dim=1)
        like = torch.empty(ROWS, d, dtype=torch.float64, device=device())
        between = replace(problem, y=middle.expand(ROWS, -1)).measurement
        x = card.start(Philox(1, ROWS, device()), like, grid, process, {"measurement": between})
        towards, away = (on(card, process, grid, replace(problem, y=middle + side * offset), x=x) for side in (1, -1))
        response = ((towards - away) @ matrix.T.to(like) * offset.to(like)).sum(1).min().item()
        assert response > 0, f"two opposite measurements move the ends against their difference: {response:.3g}"

    holds()


def what_is_unseen_and_independent_stays_as_it_was(card: Sampler) -> None:
    process = own_process(card)

    @settings(phases=UNSHRUNK)
    @given(st.integers(0, 2**20), random_grids(process))
    def holds(seed: int, grid: Tensor) -> None:
        seen, unseen = random_problem(seed, 2, 2), random_problem(seed + 1, 2, 1)
        i, j = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
        i, j = i.flatten(), j.flatten()
        covariances = torch.stack([torch.block_diag(seen.covariances[a], unseen.covariances[b]) for a, b in zip(i, j)])  # noqa: B905
        both = replace(
            seen,
            weights=seen.weights[i] * unseen.weights[j],
            means=torch.cat([seen.means[i], unseen.means[j]], 1),
            covariances=covariances,
            matrix=torch.cat([seen.matrix, torch.zeros(2, 2, dtype=torch.float64)], 1),
        )
        first, second = on(card, process, grid, both), on(card, process, grid, replace(both, y=both.y + 1))
        found = gap(first[:, 2:], second[:, 2:])
        assert found <= 1e-9, f"another measurement moves coordinates that it does not see by {found:.2e}"
        assert gap(first[:, :2], second[:, :2]) > 1e-9, "another measurement moves nothing"

    holds()


def basis_of_the_measurement_does_not_matter(card: Sampler) -> None:
    def holds(problem: LinearGaussian, process: Any, grid: Tensor) -> None:
        turn = orthogonal(7, problem.matrix.shape[0]).cpu()
        turned = replace(problem, matrix=turn @ problem.matrix, y=problem.y @ turn.T)
        found = gap(on(card, process, grid, problem), on(card, process, grid, turned))
        assert found <= 1e-9, f"the same measurement in another orthonormal basis moves the end by {found:.2e}"

    on_random_problems(card, holds)


def coordinates_of_the_unknown_are_alike(card: Sampler) -> None:
    """Under rotations where the card declares them, else signed permutations, which elementwise optimisers respect."""

    def holds(problem: LinearGaussian, process: Any, grid: Tensor) -> None:
        d = problem.shape[0]
        turn = orthogonal(11, d).cpu()
        if "rotation" not in card.symmetric:
            turn = torch.eye(d, dtype=torch.float64)[torch.arange(d) - 1] * normals(11, "sign", d).cpu().sign()
        covariances = turn @ problem.covariances @ turn.T
        turned = replace(
            problem,
            means=problem.means @ turn.T,
            covariances=(covariances + covariances.mT) / 2,
            matrix=problem.matrix @ turn.T,
        )
        draws = Turned(Philox(1, ROWS, device()), turn.to(device()))
        expected = on(card, process, grid, problem) @ turn.T.to(device())
        found = gap(expected, on(card, process, grid, turned, draws=draws))
        assert found <= 1e-9, f"turning problem and noise turns the end up to {found:.2e}"

    on_random_problems(card, holds)


def shape_of_the_unknown_does_not_matter(card: Sampler) -> None:
    process = own_process(card)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    problem = random_problem(5, 12, 5)
    flat = targets.exact(problem.prior, process)
    expected = on(card, process, grid, problem)
    for shape in ((3, 4), (1, 4, 3), (2, 2, 3)):
        model = Predictor("mean", lambda x, t: flat(x.flatten(1), t).reshape(x.shape))
        measurement = replace(problem.measurement, operator=Matrix(problem.matrix, shape))
        end = solve(card, process, grid, measurement, model, shape).x
        assert end.shape == (ROWS, *shape), f"states {(ROWS, *shape)} came back as {tuple(end.shape)}"
        found = gap(expected, end.flatten(1))
        assert found <= 1e-12, f"sample shape {shape} moves the end by {found:.2e}"


def point_mass_prior_overrules_the_measurement(card: Sampler) -> None:
    process = processes.named(card.path)

    @settings(phases=UNSHRUNK)
    @given(problems, st.integers(1, 6))
    def holds(problem: LinearGaussian, steps: int) -> None:
        point = problem.means[0].to(device())
        model = Predictor("mean", lambda x, t: point + 0 * x)
        grid = torch.linspace(process.t_max, 0, steps + 1, dtype=torch.float64)
        found = gap(point, solve(card, process, grid, problem.measurement, model, problem.shape).x)
        assert found <= 1e-9, f"the only possible point is missed by {found:.2e}"

    holds()


def seed_moves_a_measured_run_only_if_stochastic(card: Sampler) -> None:
    process, problem = own_process(card), random_problem(3, 3, 2)
    grid = torch.linspace(process.t_max, process.t_min, 5, dtype=torch.float64)
    x = normals(1, "x", ROWS, 3)
    first, second = (on(card, process, grid, problem, draws=Philox(seed, ROWS, device()), x=x) for seed in (1, 2))
    is_finite(first, second)
    same = torch.equal(first, second)
    ends = "equal" if same else "other"
    assert same != card.stochastic, f"card says stochastic={card.stochastic}, two seeds give {ends} ends"


def measured_state_keeps_its_dtype(card: Sampler) -> None:
    process, problem = own_process(card), random_problem(3, 3, 2)
    grid = torch.linspace(process.t_max, process.t_min, 5, dtype=torch.float64)

    def go(model: Predictor, x: Tensor) -> Tensor:
        return solve(card, process, grid, problem.measurement, model, problem.shape, x=x).x

    dtype_is_kept(targets.exact(problem.prior, process), normals(1, "x", ROWS, 3), go)


def measured_run_does_not_touch_its_inputs(card: Sampler) -> None:
    process, problem = own_process(card), random_problem(3, 3, 2)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    x = normals(1, "x", ROWS, 3)
    operator = Matrix(problem.matrix.to(device()), problem.shape)
    measurement = Measurement(operator, problem.y.to(device()), problem.noise_std)
    exact, outputs = targets.exact(problem.prior, process), []

    def predict(at: Tensor, t: Any) -> Tensor:
        out = exact(at, t)
        outputs.append((out, out.detach().clone()))
        return out

    inputs = {"start": x, "grid": grid, "operator": operator.matrix, "y": measurement.y}
    kept = {name: value.clone() for name, value in inputs.items()}
    solve(card, process, grid, measurement, Predictor("mean", predict), problem.shape, x=x)
    for name, value in inputs.items():
        assert torch.equal(value, kept[name]), f"{name} was written to"
    assert all(torch.equal(out, copy) for out, copy in outputs), "a model's output was written to"


def measured_run_refuses_the_wrong_model_kind(card: Sampler) -> None:
    process, problem = own_process(card), random_problem(3, 3, 2)
    grid = torch.linspace(process.t_max, process.t_min, 4, dtype=torch.float64)
    wrong = Predictor("jump", targets.exact(problem.prior, process).predict)
    try:
        solve(card, process, grid, problem.measurement, wrong, problem.shape)
    except WrongKind:
        return
    raise AssertionError("a model of kind 'jump' was accepted, expected WrongKind")


def prior_times_likelihood_is_posterior_times_evidence(problem: Any) -> None:
    """At draws from the prior, for up to three measurements; atoms are compared by their spikes of width 1e-3."""
    sigma = 1e-3 if hasattr(problem.prior, "atoms") else 0.0
    for b in range(min(3, problem.measurement.y.shape[0])):
        one = problem.rows([b])
        x = one.prior.sample(Philox(b, 8), torch.empty(8, *one.shape, dtype=torch.float64))
        measurement = one.measurement.matching(x)
        residual = measurement.y - measurement.operator.forward(x)
        noise = measurement.noise_std**2 * torch.eye(residual.shape[1], dtype=torch.float64)
        joint = one.prior.log_prob(x, 1.0, sigma) + log_gaussian(residual, noise)
        found = (joint - one.posterior.log_prob(x, 1.0, sigma) - one.log_evidence).abs().max().item()
        assert found <= 1e-8, f"measurement {b}: log p(x) p(y|x) and log p(x|y) p(y) differ by {found:.2e}"


# ---- specimen and mutants ----------------------------------------------------------------------------------------
def misfit(measurement: Measurement, mean: Tensor) -> Tensor:
    return measurement.y - measurement.operator.forward(mean)


def guided_step(
    x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any, measurement: Measurement,
    residual: Callable[[Measurement, Tensor], Tensor] = misfit,
    push: Callable[[Tensor], Tensor] = lambda guide: guide,
) -> tuple[Tensor, None]:  # fmt: skip
    """The textbook step plus a tenth of the gradient of -|y - A D(x)|^2/2 in x."""
    mean, pull = model.vjp(x, row.t)
    guide = pull(measurement.operator.transpose(residual(measurement, mean)).reshape(x.shape))
    return row.keep * x + row.pull * mean + 0.1 * push(guide), None


def guided_sample(
    model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, measurement: Measurement,
    step: Callable[..., Any] = guided_step,
) -> Run:  # fmt: skip
    return drive(rows(grid, process, 0.0), partial(step, measurement=measurement.matching(x)), model, x, draws=draws)


GUIDED = replace(
    HEALTHY,
    id="specimen.guided",
    sample=guided_sample,
    needs=frozenset({"measurement"}),
    vjps=lambda grid: grid.shape[0] - 1.0,
    order=None,
    symmetric=frozenset({"rotation"}),
)


def guided(**changes: Any) -> Sampler:
    """The specimen with its residual, its push, its whole step or a declared trait replaced."""
    inner = {key: changes.pop(key) for key in ("residual", "push") if key in changes}
    if inner:
        changes["step"] = partial(guided_step, **inner)
    if "step" in changes:
        changes["sample"] = partial(guided_sample, step=changes.pop("step"))
    return replace(GUIDED, id="specimen.mutant", **changes)


def _normalises_over_the_batch() -> Sampler:
    return guided(residual=lambda measurement, mean: misfit(measurement, mean) / misfit(measurement, mean).norm())


def _averages_the_loss_over_the_batch() -> Sampler:
    return guided(residual=lambda measurement, mean: misfit(measurement, mean) / mean.shape[0])


def _takes_the_first_measurement() -> Sampler:
    return guided(residual=lambda measurement, mean: misfit(replace(measurement, y=measurement.y[:1]), mean))


def _takes_the_next_measurement() -> Sampler:
    return guided(residual=lambda measurement, mean: misfit(replace(measurement, y=measurement.y.roll(1, 0)), mean))


def _takes_the_sign_of_the_residual() -> Sampler:
    return guided(residual=lambda measurement, mean: misfit(measurement, mean).sign())


def _norm_is_a_sum_of_absolute_values() -> Sampler:
    return guided(residual=lambda measurement, mean: torch.nn.functional.normalize(misfit(measurement, mean), p=1.0))


def _pulls_twice(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any, measurement: Measurement) -> Any:
    model.vjp(x, row.t)[1](torch.ones_like(x))
    return guided_step(x, row, memory, model=model, draws=draws, measurement=measurement)


def _skips_the_jacobian(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any, measurement: Measurement) -> Any:
    mean = model(x, row.t)
    guide = measurement.operator.transpose(misfit(measurement, mean)).reshape(x.shape)
    return row.keep * x + row.pull * mean + 0.1 * guide, None


def _adds_noise(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any, measurement: Measurement) -> Any:
    x_s, memory = guided_step(x, row, memory, model=model, draws=draws, measurement=measurement)
    return x_s + 1e-9 * draws.normal("step", x), memory


def _writes_to_y(x: Tensor, row: Any, memory: Any, *, model: Any, draws: Any, measurement: Measurement) -> Any:
    measurement.y.mul_(1 + 1e-9)
    return guided_step(x, row, memory, model=model, draws=draws, measurement=measurement)


def _comes_back_in_float32(model: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
    done = guided_sample(model, x, grid, **aids)
    return done._replace(x=done.x.float())


def _works_in_float32(model: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
    done = guided_sample(model, x.float(), grid, **aids)
    return done._replace(x=done.x.to(x))


def _skips_a_time(model: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
    return guided_sample(model, x, grid[[i for i in range(grid.shape[0]) if i != 1 or grid.shape[0] < 3]], **aids)


def _takes_any_model(model: Any, x: Tensor, grid: Tensor, **aids: Any) -> Run:
    return guided_sample(Predictor("mean", lambda at, t: model(at, t)), x, grid, **aids)


@dataclass(frozen=True)
class WrongPosterior(LinearGaussian):
    """One term of the conditioning formulas changed."""

    wrong: str = ""

    @property
    def conditioned(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        right = LinearGaussian(*(getattr(self, name) for name in LinearGaussian.__dataclass_fields__))
        evidence, weights, means, covariances = right.conditioned
        if self.wrong == "weights":
            weights = self.weights.expand_as(weights)
        elif self.wrong == "means":
            means = 2 * self.means - means
        elif self.wrong == "covariances":
            covariances = self.covariances
        else:
            evidence = replace(right, noise_std=right.noise_std * 1.01).conditioned[0]
        return evidence, weights, means, covariances


def _wrong(part: str) -> Callable[[], WrongPosterior]:
    return lambda: WrongPosterior(**vars(random_problem(3, 3, 2)), wrong=part)


def _law(
    check: Callable[[Any], None], mutants: dict[str, Any], applies: Callable[[Any], bool] = measured, own: bool = False
) -> Law:
    return Law(name=check.__name__, subject="sampler", check=check, applies=applies, mutants=mutants, own=own)


LAWS = (
    _law(each_problem_of_a_batch_is_solved_alone, {
        "normalises_over_the_batch": _normalises_over_the_batch,
        "averages_the_loss_over_the_batch": _averages_the_loss_over_the_batch,
        "takes_the_first_measurement": _takes_the_first_measurement,
    }, lambda card: measured(card) and card.per_sample),
    _law(cost_of_a_measured_run_is_as_declared, {
        "pulls_twice": lambda: guided(step=_pulls_twice),
        "declares_no_backward_pass": lambda: guided(vjps=lambda grid: 0.0),
        "declares_one_evaluation_less": lambda: guided(nfe=lambda grid: grid.shape[0] - 2.0),
    }, lambda card: measured(card) and card.nfe is not None and card.vjps is not None),
    _law(every_time_of_a_measured_run_is_used, {"skips_a_time": lambda: guided(sample=_skips_a_time)}),
    _law(result_follows_the_measurement, {
        "climbs_instead_of_descending": lambda: guided(push=torch.neg),
        "takes_the_next_measurement": _takes_the_next_measurement,
    }),
    _law(what_is_unseen_and_independent_stays_as_it_was, {
        "normalises_the_push": lambda: guided(push=lambda guide: guide + 0.1 * guide.norm(dim=1, keepdim=True)),
        "pushes_the_next_coordinate": lambda: guided(push=lambda guide: guide.roll(1, -1)),
        "ignores_y": lambda: guided(push=torch.zeros_like),
    }),
    _law(basis_of_the_measurement_does_not_matter, {
        "takes_the_sign_of_the_residual": _takes_the_sign_of_the_residual,
        "norm_is_a_sum_of_absolute_values": _norm_is_a_sum_of_absolute_values,
    }),
    _law(coordinates_of_the_unknown_are_alike, {
        "elementwise_but_declares_rotations": lambda: guided(push=torch.tanh),
        "favours_the_first_coordinate": lambda: guided(
            push=lambda guide: torch.cat([1.01 * guide[:, :1], guide[:, 1:]], 1), symmetric=frozenset()
        ),
        "knows_up_from_down": lambda: guided(push=lambda guide: guide.clamp(min=0), symmetric=frozenset()),
    }),
    _law(shape_of_the_unknown_does_not_matter, {
        "norm_over_the_last_axis": lambda: guided(push=lambda guide: guide / guide.norm(dim=-1, keepdim=True)),
        "mean_over_the_last_axis": lambda: guided(push=lambda guide: guide / guide.shape[-1]),
    }),
    _law(point_mass_prior_overrules_the_measurement, {"skips_the_jacobian": lambda: guided(step=_skips_the_jacobian)},
         lambda card: measured(card) and "delta" in card.exact_on),
    _law(seed_moves_a_measured_run_only_if_stochastic, {
        "draws_where_it_says_it_does_not": lambda: guided(step=_adds_noise),
        "says_it_draws_and_does_not": lambda: guided(stochastic=True),
    }),
    _law(measured_state_keeps_its_dtype, {
        "comes_back_in_float32": lambda: guided(sample=_comes_back_in_float32),
        "works_in_float32": lambda: guided(sample=_works_in_float32),
    }, own=True),
    _law(measured_run_does_not_touch_its_inputs, {"writes_to_y": lambda: guided(step=_writes_to_y)}),
    _law(measured_run_refuses_the_wrong_model_kind, {"takes_any_model": lambda: guided(sample=_takes_any_model)}),
    Law(
        name="prior_times_likelihood_is_posterior_times_evidence",
        subject="target",
        check=prior_times_likelihood_is_posterior_times_evidence,
        applies=lambda target: hasattr(target, "log_evidence"),
        mutants={part: _wrong(part) for part in ("weights", "means", "covariances", "evidence")},
    ),
)  # fmt: skip
