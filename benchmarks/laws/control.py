"""What controls must satisfy: samplers and path losses that are given a log density instead of data.

Three ways to know without Monte Carlo. (1) An affine control on a Gaussian density makes the log weight and every path
loss a quadratic form in the start and the noise: values at a few points give its mean, its variance and the mean of its
exponential exactly. (2) A mean is a control in other units (`control_of_mean`), so the generic laws of samplers hold
for controls through that change of units, and their mutants serve again. (3) Where the control is optimal the weights
of a continuous path are constant but for the start, so that what remains must vanish with the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, accuracy, conduct, device
from benchmarks.laws.accuracy import Mapped
from benchmarks.laws.impulses import Impulses, Recorder
from benchmarks.laws.steered import (
    LOG_DENSITY,
    adds_the_first_coordinate,
    forgets_the_widths,
    half_the_noise_term,
    objective,
    specimen,
    wide_noising_kernel,
)
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.process import Process
from reference_impls.core.types import Objective, Predictor, Run, Sampler, expand
from reference_impls.targets.densities import Gaussian, control_of_mean, exact_control, level

ONE = Gaussian((1.3,), 0.6, 0.8)  # the density of the published table of variances
FINE = (32, 64, 128)


def steered(card: Sampler) -> bool:
    return card.consumes == "control" and card.needs == LOG_DENSITY and "gaussian" in card.defined_on


def weighed(card: Sampler) -> bool:
    """A steered sampler that returns weights: it says what its control is added to."""
    return steered(card) and card.base is not None


def path_loss(card: Objective) -> bool:
    return card.minimiser == "control" and card.times is None and card.needs == LOG_DENSITY


# ---- quadratic forms ---------------------------------------------------------------------------------------------
class Moments(NamedTuple):
    """Of a quadratic form q(z), z ~ N(0, I): mean, variance, log E exp(q) (nan where that is infinite)."""

    mean: Tensor
    variance: Tensor
    log_mean_exp: Tensor


def quadratic_points(size: int) -> Tensor:
    """float64 [1 + size + size (size+1)/2 + 1, size]: 0, e_i, e_i + e_j, and a row of random numbers as a witness."""
    basis = torch.eye(size, dtype=torch.float64, device=device())
    i, j = torch.triu_indices(size, size, device=device())
    witness = Philox(0, 1, device()).normal("witness", basis[:1])
    return torch.cat([torch.zeros_like(basis[:1]), basis, basis[i] + basis[j], witness])


def moments(values: Tensor, size: int) -> Moments:
    """Exact moments from the values at `quadratic_points`; AssertionError if they are not those of a quadratic form."""
    origin, single, double = values[0], values[1 : size + 1], values[size + 1 : -1]
    i, j = torch.triu_indices(size, size, device=values.device)
    upper = torch.zeros(size, size, dtype=values.dtype, device=values.device)
    upper[i, j] = double - single[i] - single[j] + origin
    curve = upper + upper.T - torch.diag(upper.diagonal())
    slope = single - origin - curve.diagonal() / 2
    witness = quadratic_points(size)[-1]
    gap = (values[-1] - origin - slope @ witness - witness @ curve @ witness / 2).abs().item()
    allowed = 1e-9 * max(1.0, values.abs().max().item())
    assert gap <= allowed, f"log weight or loss: {gap:.3g} away from a quadratic form, expected at most {allowed:.3g}"
    rest, sign = torch.eye(size).to(curve) - curve.detach(), math.nan
    if torch.linalg.eigvalsh(rest)[0] > 0:
        sign = origin.detach() - torch.logdet(rest) / 2 + slope.detach() @ torch.linalg.solve(rest, slope.detach()) / 2
    return Moments(origin + curve.trace() / 2, slope @ slope + (curve**2).sum() / 2, torch.as_tensor(sign))


def weight_moments(card: Sampler, model: Any, grid: Tensor, process: Process, target: Gaussian) -> Moments:
    """Moments of the log weight in one dimension, over the start and every normal that the sampler draws."""
    aids = {"log_density": target.log_density}

    def values(draws: Any, rows: int) -> Tensor:
        like = torch.empty(rows, 1, dtype=torch.float64, device=device())
        x = card.start(draws, like, grid, process, aids)
        return card.sample(model, x, grid, process=process, draws=draws, **aids).log_weight

    recorder = Recorder()
    values(recorder, 1)
    size = sum(recorder.sizes.values())
    points = quadratic_points(size)
    return moments(values(Impulses(points, recorder.sizes), len(points)), size)


def loss_moments(card: Objective, model: Any, grid: Tensor, process: Process, target: Gaussian) -> Moments:
    """Moments of a path loss in one dimension, over x ~ N(0, prior_std^2) and the noise; differentiable."""
    points = quadratic_points(grid.shape[0])
    x, noise = process.prior_std * points[:, :1], points[:, 1:].T[:, :, None]
    loss = card.loss(model, x, grid, noise, process=process, log_density=target.log_density)
    return moments(loss, grid.shape[0])


@st.composite
def cases(draw: Any, path: str) -> tuple[Tensor, Gaussian, tuple[float, float, float]]:
    """A grid of 1 to 5 uneven intervals over the path, a Gaussian density, and an affine control a x + b + c t."""
    process = processes.named(path)
    shares = draw(st.lists(st.floats(0.2, 1.0), min_size=1, max_size=5))
    fraction = torch.tensor([0.0, *shares], dtype=torch.float64).cumsum(0) / sum(shares)
    grid = process.t_max + fraction * (process.t_min - process.t_max)
    grid[-1] = process.t_min
    density = Gaussian((draw(st.floats(-2, 2)),), draw(st.floats(0.3, 2.0)), draw(st.floats(-3, 3)))
    return grid, density, tuple(draw(st.floats(-0.7, 0.7)) for _ in range(3))


def affine(theta: Any) -> Predictor:
    return Predictor("control", lambda x, t: theta[0] * x + theta[1] + theta[2] * t)


def floor_of(process: Process, target: Gaussian) -> float:
    """Var log(p_prior / p_T) under the prior in one dimension, a quadratic form in x again."""
    alpha, prior = process.alpha(process.t_max), process.prior_std**2
    variance = (alpha * target.std) ** 2 + process.sigma(process.t_max) ** 2
    slope, curve = -alpha * target.centre[0] / variance, 1 / variance - 1 / prior
    return slope**2 * prior + (curve * prior) ** 2 / 2


# ---- samplers ----------------------------------------------------------------------------------------------------
def weights_average_to_z(card: Sampler) -> None:
    process = processes.named(card.path)

    @given(cases(card.path))
    def holds(case: Any) -> None:
        grid, density, theta = case
        found = weight_moments(card, affine(theta), grid, process, density).log_mean_exp.item()
        wrong = f"log E exp(log_weight) = {found}, log Z = {density.log_Z} with u = {theta} on {grid.tolist()}"
        assert abs(found - density.log_Z) <= 1e-8, wrong

    holds()


def _falls_to_its_floor(variances: list[float], floor: float, what: str) -> None:
    excess = [variance - floor for variance in variances]
    assert min(excess) > 0, f"{what}: variances {variances} are not above their floor {floor}"
    order = math.log2(excess[-2] / excess[-1])
    assert 0.85 <= order <= 1.25, f"{what}: excess over {floor:.4g} has order {order:.2f} in dt, expected 1: {excess}"


def weights_settle_at_the_optimal_control(card: Sampler) -> None:
    process = processes.named(card.path)
    model = exact_control(ONE, process, card.base)
    variances = [
        weight_moments(card, model, grids.uniform_t(steps, process), process, ONE).variance.item() for steps in FINE
    ]
    _falls_to_its_floor(variances, floor_of(process, ONE), "log weights at the optimal control")


def _case_of_two(seed: int = 3) -> tuple[Tensor, Gaussian, Predictor]:
    """Four starts in two dimensions, a density with a centre, and a control that bends."""
    x = Philox(seed, 4, device()).normal("law", torch.empty(4, 2, dtype=torch.float64, device=device()))
    return x, Gaussian((0.5, -1.0), 0.7, 0.3), Predictor("control", lambda y, t: torch.tanh(y.flip(1) - t))


def log_weight_follows_log_density(card: Sampler) -> None:
    """Adding c to log rho leaves the samples and adds c to every log weight."""
    process, (x, density, model) = processes.named(card.path), _case_of_two()
    grid = grids.uniform_t(5, process)
    runs = {}
    for shift in (0.0, -7.25):
        aid = {"log_density": lambda y, shift=shift: density.log_density(y) + shift}
        runs[shift] = card.sample(model, x, grid, process=process, draws=Philox(1, 4, device()), **aid)
    assert torch.equal(runs[0.0].x, runs[-7.25].x), "samples depend on a constant in log rho"
    gap = (runs[-7.25].log_weight - runs[0.0].log_weight + 7.25).abs().max().item()
    allowed = 1e-13 * (10 + runs[0.0].log_weight.abs().max().item())
    assert gap <= allowed, f"a constant -7.25 in log rho moves log weights by that to {gap:.2e}, allowed {allowed:.0e}"


def log_weight_belongs_to_its_path(card: Sampler) -> None:
    """A row alone has the weight it has in its batch; turning density, control, start and noise turns no weight."""
    process, (x, density, model) = processes.named(card.path), _case_of_two()
    grid, draws = grids.uniform_t(5, process), Philox(1, 4, device())
    aids = {"process": process, "log_density": density.log_density}
    together = card.sample(model, x, grid, draws=draws, **aids).log_weight
    assert together.shape == (4,), f"log_weight has shape {tuple(together.shape)}, expected (4,)"
    own = [Philox(1, range(i, i + 1), device()) for i in range(4)]
    alone = torch.cat([card.sample(model, x[i : i + 1], grid, draws=own[i], **aids).log_weight for i in range(4)])
    allowed = 1e-11 * (1 + together.abs().max().item())
    gap = (alone - together).abs().max().item()
    assert gap <= allowed, f"the weight of a row alone differs from that in its batch by {gap:.2e}"
    if "rotation" not in card.symmetric:
        return
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.7], [-0.7, 0.0]], dtype=torch.float64, device=device()))
    turned = card.sample(
        Predictor("control", lambda y, t: model(y @ turn, t) @ turn.T), x @ turn.T, grid, process=process,
        draws=Mapped(draws, lambda z: z @ turn.T), log_density=lambda y: density.log_density(y @ turn),
    )  # fmt: skip
    gap = (turned.log_weight - together).abs().max().item()
    assert gap <= allowed, f"turning everything by 0.7 changes log weights by {gap:.2e}"


# ---- path losses -------------------------------------------------------------------------------------------------
def one_number_per_path(card: Objective) -> None:
    process, (x, density, model) = processes.named(card.path), _case_of_two()
    grid = grids.uniform_t(5, process)
    noise = Philox(1, 4, device()).block(5, "step", x)
    aids = {"process": process, "log_density": density.log_density}
    together = card.loss(model, x, grid, noise, **aids)
    assert together.shape == (4,), f"loss has shape {tuple(together.shape)}, expected (4,)"
    for i in range(4):
        alone = card.loss(model, x[i : i + 1], grid, noise[:, i : i + 1], **aids)
        gap = (alone[0] - together[i]).abs().item()
        assert gap <= 1e-11 * (1 + together.abs().max().item()), f"a path's loss depends on its batch by {gap:.2e}"


def _reduced(card: Objective, found: Moments) -> Tensor:
    return found.variance if card.reduce == "variance" else found.mean


def _gradient(card: Objective, theta: tuple[float, ...], grid: Tensor, process: Process, target: Gaussian) -> Tensor:
    """Of the card's own reduction of its losses over all paths, by automatic differentiation."""
    leaf = torch.tensor(theta, dtype=torch.float64, device=device(), requires_grad=True)
    loss = _reduced(card, loss_moments(card, affine(leaf), grid, process, target))
    return torch.autograd.grad(loss, leaf)[0]


def _slope_of_the_mean(card: Objective, theta: Any, grid: Tensor, process: Process, target: Gaussian) -> Tensor:
    """d/dtheta of the mean loss by differences of values: no gradient enters. Fourth order, step 1e-3."""
    slopes, h = [], 1e-3
    for i in range(3):
        mean = {}
        for k in (-2, -1, 1, 2):
            moved = [value + (k * h if j == i else 0.0) for j, value in enumerate(theta)]
            mean[k] = loss_moments(card, affine(moved), grid, process, target).mean.item()
        slopes.append((8 * (mean[1] - mean[-1]) - (mean[2] - mean[-2])) / (12 * h))
    return torch.tensor(slopes, dtype=torch.float64, device=device())


def _gradient_is(card: Objective, factor: float, what: str) -> None:
    process = processes.named(card.path)

    @given(cases(card.path))
    def holds(case: Any) -> None:
        grid, density, theta = case
        found = _gradient(card, theta, grid, process, density)
        expected = factor * _slope_of_the_mean(card, theta, grid, process, density)
        gap = ((found - expected).norm() / (1 + expected.norm())).item()
        assert gap <= 1e-6, f"{what}: gradient {found.tolist()}, expected {expected.tolist()} with u = {theta}"

    holds()


def mean_gradient_is_the_slope_of_the_mean(card: Objective) -> None:
    """The gradient must run through the path as well as through the cost."""
    _gradient_is(card, 1.0, "mean")


def variance_gradient_is_twice_the_slope_of_the_mean(card: Objective) -> None:
    """On the policy's own paths; the mean of the same losses is the KL divergence up to a constant."""
    _gradient_is(card, 2.0, "variance")


def constant_in_log_density_moves_no_gradient(card: Objective) -> None:
    process = processes.named(card.path)

    @given(cases(card.path), st.floats(-20, 20))
    def holds(case: Any, shift: float) -> None:
        grid, density, theta = case
        moved = replace(density, log_Z=density.log_Z + shift)
        first, second = (_gradient(card, theta, grid, process, target) for target in (density, moved))
        gap = ((first - second).norm() / (1 + first.norm())).item()
        means = [loss_moments(card, affine(theta), grid, process, target).mean.item() for target in (density, moved)]
        off = abs(means[1] - means[0] + shift) / (1 + abs(means[0]))
        assert max(gap, off) <= 1e-9, f"{shift} more in log rho: gradient moves by {gap:.2e}, mean is off by {off:.2e}"

    holds()


def variance_falls_to_its_floor(card: Objective) -> None:
    process = processes.named(card.path)
    model = exact_control(ONE, process, card.base)
    variances = [
        loss_moments(card, model, grids.uniform_t(steps, process), process, ONE).variance.item() for steps in FINE
    ]
    _falls_to_its_floor(variances, floor_of(process, ONE), "losses at the optimal control")


def optimal_control_minimises(card: Objective) -> None:
    """Along (1 + e) u* the loss is least at an e that vanishes with the step, or is 0 to the error of differences."""
    process = processes.named(card.path)
    optimum = exact_control(ONE, process, card.base)
    h, least = 1e-3, []

    def loss(grid: Tensor, factor: float) -> float:
        model = Predictor("control", lambda x, t: factor * optimum(x, t))
        return _reduced(card, loss_moments(card, model, grid, process, ONE)).item()

    for steps in FINE:
        low, here, high = (loss(grids.uniform_t(steps, process), 1 + e) for e in (-h, 0.0, h))
        assert low + high > 2 * here, f"{steps} steps: the loss does not curve upwards at the optimal control"
        least.append(abs(h / 2 * (low - high) / (low + high - 2 * here)))
    falls = least[-1] <= max(0.65 * least[-2], 1e-5)
    assert falls and least[-1] <= 0.05, f"steps {FINE}: least loss at {least} away from the optimal control"


# ---- the generic laws, in other units ----------------------------------------------------------------------------
def in_means(card: Sampler) -> Sampler:
    """The same sampler as one of means: its control is made from the mean, its density is a fixed one."""

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any) -> Run:
        control = control_of_mean(model, process, card.base or "noising")
        control = replace(control, kind="control" if model.kind == "mean" else model.kind)
        still = {"log_density": lambda y: -y.flatten(1).square().sum(1) / 2}
        return card.sample(control, x, grid, process=process, draws=draws, **still)

    return replace(card, sample=sample, consumes="mean", needs=frozenset())


def in_controls(card: Sampler) -> Sampler:
    """A sampler of means as one of controls over the reversed noising drift: m = (x + sigma^2 u/g) / alpha."""

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, log_density: Any) -> Run:
        def predict(y: Tensor, t: Any) -> Tensor:
            alpha, sigma, g = level(process, t)
            return (y + expand(sigma**2 / g, y) * model(y, t)) / expand(alpha, y)

        mean = Predictor("mean" if model.kind == "control" else model.kind, predict)
        return card.sample(mean, x, grid, process=process, draws=draws)

    return replace(card, sample=sample, consumes="control", needs=LOG_DENSITY)


def does_not_write_to_its_control(card: Sampler) -> None:
    process, (x, density, model) = processes.named(card.path), _case_of_two()
    given_out: list[tuple[Tensor, Tensor]] = []

    def noted(y: Tensor, t: Any) -> Tensor:
        u = model(y, t)
        given_out.append((u, u.clone()))
        return u

    card.sample(
        Predictor("control", noted), x, grids.uniform_t(5, process), process=process, draws=Philox(1, 4, device()),
        log_density=density.log_density,
    )  # fmt: skip
    assert all(torch.equal(u, copy) for u, copy in given_out), "a control was written to after the model returned it"


def _writes_to_its_control() -> Sampler:
    def sample(model: Any, *state: Any, **aids: Any) -> Run:
        return specimen().sample(Predictor(model.kind, lambda y, t: model(y, t).mul_(0.5)), *state, **aids)

    return replace(specimen(), sample=sample)


HIDDEN = frozenset({"writes_to_the_mean"})  # a mutant that the change of units hides: does_not_write_to_its_control


def _through_means(law: Law) -> Law:
    return Law(
        name=f"control_{law.name}", subject="sampler", check=lambda card: law.check(in_means(card)),
        applies=lambda card: steered(card) and law.applies(in_means(card)),
        mutants={
            name: (lambda make=make: in_controls(make())) for name, make in law.mutants.items() if name not in HIDDEN
        },
        first=law.first, own=law.own,
    )  # fmt: skip


# ---- the laws --------------------------------------------------------------------------------------------------
def _sampler_law(check: Any, applies: Any, **mutants: Callable[[], Sampler]) -> Law:
    return Law(name=check.__name__, subject="sampler", check=check, applies=applies, mutants=mutants)


def _loss_law(check: Any, reduces: tuple[str, ...], **mutants: Callable[[], Objective]) -> Law:
    return Law(
        name=check.__name__, subject="objective", check=check, mutants=mutants,
        applies=lambda card: path_loss(card) and card.reduce in reduces,
    )  # fmt: skip


def _detached(u: Tensor) -> Tensor:
    return u.detach()


def _unbiased(card: Sampler) -> bool:
    return weighed(card) and card.unbiased


UNUSED = frozenset({"order_is_as_declared", "exact_on_declared_targets", "reduces_as_declared"})
GENERIC = tuple(law for law in (*conduct.LAWS, *accuracy.LAWS) if law.name not in UNUSED)
LAWS = (
    *(_through_means(law) for law in GENERIC),
    _sampler_law(does_not_write_to_its_control, steered, halves_the_control_in_place=_writes_to_its_control),
    _sampler_law(
        weights_average_to_z, _unbiased,
        forgets_the_widths=lambda: specimen(ratio=forgets_the_widths),
        half_the_noise_term=lambda: specimen(ratio=half_the_noise_term),
        forgets_the_prior=lambda: specimen(prior=0.0),
        sign_of_the_work=lambda: specimen(weight=lambda work: work),
    ),
    _sampler_law(
        weights_settle_at_the_optimal_control, weighed,
        half_the_noise_term=lambda: specimen(ratio=half_the_noise_term),
        wide_noising_kernel=lambda: specimen(ratio=wide_noising_kernel),
        other_base=lambda: replace(specimen(), base="reference"),
    ),
    _sampler_law(
        log_weight_follows_log_density, weighed,
        centred_over_the_batch=lambda: specimen(weight=lambda work: work.mean() - work),
        stretched=lambda: specimen(weight=lambda work: -1.001 * work),
    ),
    _sampler_law(
        log_weight_belongs_to_its_path, weighed,
        centred_over_the_batch=lambda: specimen(weight=lambda work: work.mean() - work),
        adds_the_first_coordinate=lambda: specimen(ratio=adds_the_first_coordinate),
    ),
    _loss_law(
        one_number_per_path, ("mean", "variance"),
        centred_over_the_batch=lambda: objective("mean", of_rows=lambda loss: loss - loss.mean()),
    ),
    _loss_law(
        mean_gradient_is_the_slope_of_the_mean, ("mean",),
        detached_paths=lambda: objective("mean", follow=_detached),
    ),
    _loss_law(
        variance_gradient_is_twice_the_slope_of_the_mean, ("variance",),
        attached_paths=lambda: objective("variance", follow=lambda u: u),
        half_the_noise_term=lambda: objective("variance", ratio=half_the_noise_term),
    ),
    _loss_law(
        constant_in_log_density_moves_no_gradient, ("mean", "variance"),
        stretched=lambda: objective("mean", of_rows=lambda loss: 1.001 * loss),
    ),
    _loss_law(
        variance_falls_to_its_floor, ("variance",),
        forgets_the_prior=lambda: objective("variance", prior=0.0),
        wide_noising_kernel=lambda: objective("variance", ratio=wide_noising_kernel),
    ),
    _loss_law(
        optimal_control_minimises, ("mean", "variance"),
        wide_noising_kernel=lambda: objective("mean", ratio=wide_noising_kernel),
        wide_noising_kernel_for_the_variance=lambda: objective("variance", ratio=wide_noising_kernel),
    ),
)  # fmt: skip
