"""RED-Diff and its DPS baseline: the card's invariants, both algorithms written out with torch's autograd and Adam."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws import inverse as laws
from reference_impls import catalogue, targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Meter, Predictor
from reference_impls.inverse import mardani2024reddiff as paper

F64 = dict(dtype=torch.float64)
REDDIFF, DPS = paper.PAPER.samplers
CHAIN = processes.named("discrete-linear")
ALL = dict(weight="linear", prior_weight=0.25, rate=0.1, betas=(0.9, 0.99))
CODE_WEIGHTS = {  # of 1/snr = sqrt(1 - abar)/sqrt(abar), as the official code spells them
    "linear": lambda q: q,
    "sqrt": lambda q: q**0.5,
    "square": lambda q: q**2,
    "log": lambda q: math.log(q + 1.0),
    "clip": lambda q: min(q, 1.0),
    "const": lambda q: q**0.0,
    "two-thirds": lambda q: q ** (2 / 3),
}


def row_at(t, **options):
    """The plan's row at one time."""
    plan = paper.plan(torch.tensor([t, 0.0], **F64), CHAIN, **(ALL | options))
    return type(plan)._make(column[0].item() for column in plan)


def expected_gradient(problem, mu, t, **options):
    """E over eps of the gradient at mu [B,d], by a product Gauss-Hermite rule of 3 points a coordinate."""
    nodes = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], **F64)
    shares = torch.tensor([1 / 6, 2 / 3, 1 / 6], **F64)
    model, row = targets.exact(problem.prior, CHAIN), row_at(t, **options)
    measurement = problem.measurement.matching(mu)
    total = torch.zeros_like(mu)
    for index in itertools.product(range(3), repeat=mu.shape[1]):
        x_t = row.alpha * mu + row.sigma * nodes[list(index)]
        total += shares[list(index)].prod() * paper.gradient(mu, model(x_t, t), row.prior, 1.0, measurement)
    return total


def data_gradient(problem, mu):
    return (mu @ problem.matrix.T - problem.y) @ problem.matrix / problem.matrix.shape[0]


times = st.integers(1, 1000).map(lambda i: i / 1000)


@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 4), times, st.sampled_from(sorted(CODE_WEIGHTS)))
def test_regulariser_has_its_closed_form_for_gaussian_priors(seed, d, m, t, weight):
    """Invariant 1: E[eps_hat - eps] = sqrt(abar (1 - abar)) (abar S + (1 - abar) I)^-1 (mu - m), times lambda w/d."""
    problem = laws.random_problem(seed, d, min(d, m), 1)
    mu = laws.normals(seed, "mu", laws.ROWS, d)
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, **F64), 0)[round(1000 * t) - 1].item()
    spread = abar * problem.covariances[0] + (1 - abar) * torch.eye(d, **F64)
    residual = math.sqrt(abar * (1 - abar)) * torch.linalg.solve(spread, (mu - problem.means).T).T
    w = CODE_WEIGHTS[weight](math.sqrt((1 - abar) / abar))
    expected = 0.25 * w * residual / d + data_gradient(problem, mu)
    found = expected_gradient(problem, mu, t, weight=weight)
    assert (found - expected).abs().max() <= 1e-8 * (1 + expected.abs().max())


@given(times)
def test_regulariser_of_a_point_mass_is_the_same_at_every_time(t):
    problem = replace(laws.random_problem(1, 3, 2, 1), covariances=torch.zeros(1, 3, 3, **F64))
    mu = laws.normals(2, "mu", laws.ROWS, 3)
    expected = 0.25 * (mu - problem.means) / 3 + data_gradient(problem, mu)
    assert torch.allclose(expected_gradient(problem, mu, t), expected, rtol=0, atol=1e-10)


def average_gradient(problem, mu, ts, **options):
    return sum(expected_gradient(problem, mu, t, **options) for t in ts) / len(ts)


def descend(problem, mu, gradient, steps):
    """Plain gradient descent at half the inverse curvature of the data term and of lambda = .25."""
    rate = 0.5 / (torch.linalg.matrix_norm(problem.matrix, 2) ** 2 / problem.matrix.shape[0] + 0.25)
    for _ in range(steps):
        mu = mu - rate * gradient(problem, mu)
    return mu


def stationary(problem, ts, prior_weight=0.25):
    """(A^T A/m + (k/d) R) mu = A^T y/m + (k/d) R c, R the average of (1 - abar)(abar S + (1 - abar) I)^-1."""
    m, d = problem.matrix.shape
    eye = torch.eye(d, **F64)
    alphas = [CHAIN.alpha(t) for t in ts]
    R = sum((1 - a**2) * torch.linalg.inv(a**2 * problem.covariances[0] + (1 - a**2) * eye) for a in alphas) / len(ts)
    left = problem.matrix.T @ problem.matrix / m + prior_weight / d * R
    right = problem.y @ problem.matrix / m + prior_weight / d * problem.means @ R
    return torch.linalg.solve(left, right.T).T, R


@given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 3), st.lists(times, min_size=1, max_size=4))
def test_expected_gradient_vanishes_at_the_stationary_point(seed, d, m, ts):
    """Invariant 2; the gradient is affine in mu with a positive definite slope, so that it vanishes nowhere else."""
    problem = laws.random_problem(seed, d, min(d, m), 1)
    point = stationary(problem, ts)[0]
    scale = 1 + point.abs().max()
    assert average_gradient(problem, point, ts).abs().max() <= 1e-10 * scale
    off = point + 1e-3 * laws.normals(seed, "off", laws.ROWS, d)
    assert average_gradient(problem, off, ts).abs().max() > 1e-8 * scale


def test_descent_on_the_expected_gradient_reaches_the_stationary_point():
    problem = replace(laws.random_problem(3, 2, 2, 1), matrix=torch.tensor([[1.0, 0.3], [-0.2, 0.8]], **F64))
    found = descend(problem, torch.zeros(laws.ROWS, 2, **F64), partial(average_gradient, ts=[0.1, 0.4]), steps=150)
    assert torch.allclose(found, stationary(problem, [0.1, 0.4])[0], rtol=0, atol=1e-10)


def test_stationary_point_is_a_penalised_estimate_and_not_the_posterior_mean():
    """Invariant 2: blind to the noise level; equal to the posterior mean only where lambda R is tuned, as in 1-d."""
    ts = [i / 1000 for i in range(1, 1001, 20)]
    problem = laws.random_problem(4, 4, 2, 1)
    for noise_std in (0.1, 0.3, 1.0):
        noisier = replace(problem, noise_std=noise_std)
        assert (stationary(noisier, ts)[0] - noisier.posterior_mean).norm(dim=1).min() > 0.1
    line = laws.random_problem(4, 1, 1, 1)
    R = stationary(line, ts)[1].item()
    tuned = line.noise_std**2 / line.covariances.item() / R  # lambda R = s^2/v
    assert torch.allclose(stationary(line, ts, tuned)[0], line.posterior_mean, rtol=0, atol=1e-12)
    assert (stationary(line, ts, 2 * tuned)[0] - line.posterior_mean).abs().min() > 0.01


def solved(card, problem, steps=20, process=CHAIN, model=None, draws=None, x=None, **options):
    aids = {"measurement": problem.measurement}
    rows = problem.measurement.y.shape[0]
    grid, draws = card.grid(steps, process), draws or Philox(1, rows)
    model = model or targets.exact(problem.prior, process)
    x = card.start(draws, torch.empty(rows, *problem.shape, **F64), grid, process, aids) if x is None else x
    return card.sample(model, x, grid, process=process, draws=draws, **options, **aids)


def test_reddiff_does_not_read_the_noise_level():
    problem = laws.random_problem(4, 4, 2, 2)
    assert torch.equal(solved(REDDIFF, problem).x, solved(REDDIFF, replace(problem, noise_std=3.0)).x)


def test_without_the_prior_the_unseen_part_stays_and_the_rest_fits():
    """Invariant 3, plain descent: the gradient lies in the range of A^T, so A mu -> y and the rest of mu never moves.

    Adam scales entries one by one, so under it the unseen part moves. Where A^+ y fits exactly, as for a mask, nothing
    moves; for other operators Adam blows the rounding of the misfit up to steps of its rate.
    """
    problem = laws.random_problem(2, 4, 2, 1)
    unseen = torch.eye(4, **F64) - torch.linalg.pinv(problem.matrix) @ problem.matrix
    measurement = problem.measurement
    start = laws.normals(5, "mu", laws.ROWS, 4)

    def gradient(problem, mu):
        return paper.gradient(mu, torch.full_like(mu, 7.0), 0.0, 1.0, measurement.matching(mu))

    assert (gradient(problem, start) @ unseen).abs().max() < 1e-14
    end = descend(problem, start, gradient, steps=4000)
    assert ((end - start) @ unseen).abs().max() < 1e-11
    assert (end @ problem.matrix.T - problem.y).abs().max() < 1e-10
    moved = solved(REDDIFF, problem, x=start, prior_weight=0.0).x - start
    assert (moved @ unseen).abs().max() > 0.1
    masked = replace(problem, matrix=torch.eye(4, **F64)[:2])
    assert torch.equal(solved(REDDIFF, masked, prior_weight=0.0).x, torch.nn.functional.pad(problem.y, (0, 2)))


@given(st.floats(0.05, 5.0), times)
def test_control_variate_changes_the_variance_as_computed_and_not_the_mean(v, t):
    """Invariant 4: slope of the residual in eps -abar v/w, of eps_hat alone (1 - abar)/w, w = abar v + 1 - abar."""
    problem = replace(laws.random_problem(3, 1, 1, 1), covariances=torch.full((1, 1, 1), v, **F64))
    model, row = targets.exact(problem.prior, CHAIN), row_at(t)
    mu = laws.normals(5, "mu", laws.ROWS, 1)
    measurement = problem.measurement.matching(mu)

    def residual(eps):  # what multiplies lambda w/d in the step's gradient: eps_hat - eps
        mean = model(row.alpha * mu + row.sigma * eps, t)
        whole = paper.gradient(mu, mean, row.prior, 1.0, measurement) - paper.gradient(mu, mean, 0.0, 1.0, measurement)
        return whole / (0.25 * row.sigma / row.alpha)

    def eps_hat(eps):
        x_t = row.alpha * mu + row.sigma * eps
        return (x_t - row.alpha * model(x_t, t)) / row.sigma

    one, zero = torch.ones_like(mu), torch.zeros_like(mu)
    a = row.alpha**2
    w = a * v + 1 - a
    assert torch.allclose(residual(one) - residual(zero), -one * a * v / w, rtol=0, atol=1e-9)
    assert torch.allclose(eps_hat(one) - eps_hat(zero), one * (1 - a) / w, rtol=0, atol=1e-9)
    assert torch.allclose(residual(zero), eps_hat(zero), rtol=0, atol=1e-9)  # eps has mean 0: equal means
    if abs(a * v - (1 - a)) > 1e-6:
        smaller = (residual(one) - residual(zero)).abs().max() < (eps_hat(one) - eps_hat(zero)).abs().max()
        assert smaller == (a * v < 1 - a)


def test_identity_and_a_point_mass_end_at_their_weighted_average():
    """Invariant 5: y/m and lambda c/d weigh the two, m = d. Adam of rate .1 ends within one such step of it."""
    eye, zero = torch.eye(3, **F64), torch.zeros(1, 3, 3, **F64)
    problem = replace(laws.random_problem(6, 3, 3, 1), matrix=eye, covariances=zero)
    expected = (problem.y + 0.25 * problem.means) / 1.25
    found = descend(problem, problem.y, partial(average_gradient, ts=[0.3]), steps=200)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert (problem.y - expected).abs().max() > 0.5  # where the sampler starts
    assert torch.allclose(solved(REDDIFF, problem, steps=1000).x, expected, rtol=0, atol=0.1)


class NoDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("the network was differentiated")


def test_reddiff_never_differentiates_the_network():
    """Invariant 6. And no graph grows from step to step when the network's weights want gradients."""
    problem = laws.random_problem(5, 3, 2, 2)
    exact = targets.exact(problem.prior, CHAIN)
    weight = torch.ones((), **F64, requires_grad=True)
    opaque = Predictor("mean", lambda x, t: weight * NoDerivative.apply(exact(x, t)))
    run = solved(REDDIFF, problem, model=opaque)
    assert run.vjps == 0 and not run.x.requires_grad
    assert torch.equal(run.x, solved(REDDIFF, problem).x)
    with pytest.raises(RuntimeError, match="the network was differentiated"):
        solved(DPS, problem, model=opaque)


@pytest.mark.parametrize("weight", sorted(CODE_WEIGHTS))
@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_reddiff_equals_its_loss_minimised_by_autograd_and_adam(weight, spread):
    """Algorithm 1 from the loss: stopgrad residual times mu, means over pixels and measurements, torch.optim.Adam."""
    problem = laws.random_problem(8, 3, 2, 2)
    exact, steps = targets.exact(problem.prior, CHAIN), 20
    like = torch.empty(laws.ROWS, 3, **F64)
    last, saved = [], []
    for b in range(laws.ROWS):
        mu = (problem.y[b : b + 1] @ torch.linalg.pinv(problem.matrix).T).requires_grad_()
        optimiser = torch.optim.Adam([mu], lr=0.1, betas=(0.9, 0.99))
        draws = Philox(1, laws.ROWS)
        for k, i in enumerate(reversed(range(0, 1000, 1000 // steps))):
            t = (i + 1) / 1000
            alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
            x0 = mu + spread * draws.at(k).normal("spread", like)[b]
            eps = draws.at(k).normal("step", like)[b]
            x_t = alpha * x0 + sigma * eps
            eps_hat = (x_t - alpha * exact(x_t, t)) / sigma
            loss_noise = ((eps_hat - eps).detach() * x0).mean()
            loss_obs = (problem.y[b] - x0 @ problem.matrix.T).square().mean() / 2
            optimiser.zero_grad()
            (0.25 * CODE_WEIGHTS[weight](sigma / alpha) * loss_noise + loss_obs).backward()
            optimiser.step()
        last.append(mu.detach())
        saved.append(x0.detach())
    for as_saved, expected in ((False, last), (True, saved)):
        found = solved(REDDIFF, problem, steps, weight=weight, spread=spread, as_saved=as_saved).x
        assert torch.allclose(found, torch.cat(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_dps_equals_the_formula_by_autograd(eta):
    """DDIM(eta) written with abar, minus zeta/|r| times the gradient of |r|^2, each row differentiated alone."""
    problem = laws.random_problem(8, 3, 2, 2)
    exact, steps, zeta = targets.exact(problem.prior, CHAIN), 10, 0.3
    draws, like = Philox(1, laws.ROWS), torch.empty(laws.ROWS, 3, **F64)
    abars = torch.cat([torch.ones(1, **F64), torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, **F64), 0)])
    ends = []
    for b in range(laws.ROWS):
        restored = problem.y[b : b + 1] @ torch.linalg.pinv(problem.matrix).T
        x = abars[901] ** 0.5 * restored + (1 - abars[901]) ** 0.5 * draws.normal("start", like)[b]
        for k, i in enumerate(reversed(range(0, 1000, 100))):
            at, as_ = abars[i + 1], abars[i - 99] if i else abars[0]
            c1 = ((1 - at / as_) * (1 - as_) / (1 - at)).sqrt() * eta
            c2 = (1 - as_ - c1**2).sqrt()
            leaf = x.detach().requires_grad_()
            x0 = exact(leaf, (i + 1) / 1000)
            misfit = (problem.y[b] - x0 @ problem.matrix.T).square().sum()
            push = torch.autograd.grad(misfit, leaf)[0] / misfit.detach().sqrt()
            e = (x - at.sqrt() * x0.detach()) / (1 - at).sqrt()
            x = as_.sqrt() * x0.detach() + c1 * draws.at(k).normal("step", like)[b] + c2 * e - zeta * push
        ends.append(x)
    found = solved(DPS, problem, steps, zeta=zeta, eta=eta).x
    assert torch.allclose(found, torch.cat(ends), rtol=0, atol=1e-11)


@pytest.mark.parametrize("card", paper.PAPER.samplers, ids=lambda card: card.id)
def test_declared_reductions_hold(card):
    """Without guidance DPS is DDIM or DDPM on the same draws."""
    problem = laws.random_problem(9, 3, 2, 2)
    grid, draws, model = card.grid(10, CHAIN), Philox(3, laws.ROWS), targets.exact(problem.prior, CHAIN)
    x = laws.normals(3, "x", laws.ROWS, 3)
    for reduction in card.reduces:
        other = catalogue.samplers()[reduction.to].sample(
            model, x, grid, process=CHAIN, draws=draws, **reduction.to_options
        )
        found = solved(card, problem, 10, draws=draws, x=x, **reduction.options)
        assert torch.allclose(found.x, other.x, rtol=0, atol=reduction.tolerance)


def test_dps_leaves_an_exact_fit_alone():
    problem = replace(laws.random_problem(9, 2, 2, 1), matrix=torch.eye(2, **F64))
    fitting = replace(problem, y=problem.means.expand(laws.ROWS, -1))
    point = Predictor("mean", lambda x, t: problem.means + 0 * x)
    assert torch.allclose(solved(DPS, fitting, model=point).x, problem.means, rtol=0, atol=1e-12)


def test_grid_is_the_code_s_index_list_where_steps_divide_a_thousand():
    for steps in (1, 2, 10, 50, 100, 1000):
        indices = list(range(0, 1000, 1000 // steps))[::-1]
        expected = torch.tensor([(i + 1) / 1000 for i in indices] + [0.0], **F64)
        assert torch.equal(paper.spread_subsequence(steps, CHAIN), expected)
    uneven = grids.checked(paper.spread_subsequence(150, CHAIN))
    assert uneven.shape == (151,) and uneven[0] > 0.99
    for steps in (0, 1001):
        with pytest.raises(grids.BadGrid, match=f"steps: {steps}, expected 1..1000"):
            paper.spread_subsequence(steps, CHAIN)


def test_user_errors_name_the_argument():
    problem = laws.random_problem(9, 2, 1, 1)
    with pytest.raises(ValueError, match="weight: 'cubic' is not known; expected one of linear"):
        solved(REDDIFF, problem, weight="cubic")
    with pytest.raises(ValueError, match="betas: "):
        solved(REDDIFF, problem, betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="eta: 2.0, expected"):
        solved(DPS, problem, eta=2.0)
    flow = processes.named("condot")
    with pytest.raises(grids.BadGrid, match="grid: starts at 1, where alpha = 0 on condot"):
        grid = grids.uniform_t(4, flow)
        REDDIFF.sample(targets.exact(problem.prior, flow), problem.y, grid, process=flow, draws=Philox(0, 4),
                       measurement=problem.measurement)  # fmt: skip


def test_a_meter_sees_one_product_for_each_row():
    meter = Meter(Predictor("mean", lambda x, t: x**2), 2)
    mean, pull = meter.vjp(torch.tensor([[1.0], [3.0]]), 0.5)
    assert pull(torch.ones(2, 1)).flatten().tolist() == [2.0, 6.0] and (meter.nfe, meter.vjps) == (1.0, 1.0)
    assert not mean.requires_grad
