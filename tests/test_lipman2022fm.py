"""lipman2022fm: the numbered invariants of its card."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Mapped, Silence
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.core import convert, grids, ode, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, expand
from reference_impls.flows import lipman2022fm as fm

CONDOT = process.named("condot")
G3 = targets.named("g3")


def velocity_of(target, path):
    def u(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        return convert.velocity_of_mean(x, target.mean(x, alpha, sigma), alpha, sigma, *path.rates(t))

    return u


@given(st.floats(0.05, 0.95), st.floats(-2, 2), st.sampled_from(["condot", "vp-linear", "ve-geo", "cosine"]))
def test_conditional_velocities_average_to_the_marginal_one(t, x, name):
    """Invariant 1: alpha' x0 + sigma' eps under p(x0 | x_t), by quadrature over G3, is the velocity of the mean."""
    path = process.named(name)
    alpha, sigma, (alpha_rate, sigma_rate) = path.alpha(t), path.sigma(t), path.rates(t)
    x0 = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    weight = (G3.log_prob(x0[:, None]) - (x - alpha * x0) ** 2 / (2 * sigma**2)).softmax(0)
    conditional = alpha_rate * x0 + sigma_rate * (x - alpha * x0) / sigma
    at = torch.tensor([[x]], dtype=torch.float64)
    expected = velocity_of(G3, path)(at, t).item()
    assert (weight * conditional).sum().item() == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", ["condot", "vp-linear", "cosine", "subvp"])
def test_continuity_equation(name):
    """Invariant 2: dp/dt + d(p u)/dx = 0 by central differences."""
    path, h = process.named(name), 1e-5
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]

    def p(y, t):
        return G3.log_prob(y, path.alpha(t), path.sigma(t)).exp()

    u = velocity_of(G3, path)
    for t in (0.2, 0.5, 0.8):
        in_time = (p(x, t + h) - p(x, t - h)) / (2 * h)
        flux = [p(x + d, t) * u(x + d, t)[:, 0] for d in (h, -h)]
        residual = in_time + (flux[0] - flux[1]) / (2 * h)
        assert residual.abs().max().item() < 1e-6 * max(1.0, in_time.abs().max().item())


def test_marginal_and_conditional_objectives_have_one_gradient():
    """Invariant 3: for a velocity linear in its parameters on 6 atoms, the population gradients agree to 1e-12."""
    atoms = torch.tensor([-1.5, -0.4, 0.1, 0.9, 1.3, 2.0], dtype=torch.float64)[:, None]
    theta = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    for t in (0.3, 0.7):
        alpha, sigma = CONDOT.alpha(t), CONDOT.sigma(t)
        everywhere = torch.linspace(-6, 6, 2001, dtype=torch.float64)[None]
        x0, x = (part.reshape(-1, 1) for part in torch.broadcast_tensors(atoms, everywhere))
        noise = (x - alpha * x0) / sigma
        weight = torch.softmax(-noise[:, 0].square() / 2, 0)  # every atom meets every x: the sums are over one set
        model = Predictor("mean", lambda x, t_, s=sigma: x - s * (theta[0] + theta[1] * x + theta[2] * x.sin()))
        rows = torch.full((x0.shape[0],), t, dtype=torch.float64)
        conditional = (weight * fm.loss(model, x0, rows, noise, process=CONDOT)).sum()
        posterior = torch.softmax(-((x - alpha * atoms[:, 0]) ** 2) / (2 * sigma**2), 1)
        exact = (x - posterior @ atoms) / sigma
        marginal = (weight * ((x - model(x, t)) / sigma - exact).square()[:, 0]).sum()
        gradients = [torch.autograd.grad(loss, theta)[0] for loss in (conditional, marginal)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["condot", "vp-linear", "subvp", "ve-geo"])
def test_likelihood_is_the_closed_density(name):
    """Invariant 4: exact divergence on a target whose p_T equals the prior up to the mismatch that is computed here."""
    path = process.named(name).between(1e-3, 1.0)
    card = catalogue.likelihoods()["lipman2022fm.flow"]
    x = torch.linspace(-1.8, 1.8, 7, dtype=torch.float64)[:, None]
    found = card.log_prob(exact_model(path), x, process=path, draws=Silence())
    alpha_s, sigma_s = path.alpha(path.t_min), path.sigma(path.t_min)
    alpha_t, sigma_t = path.alpha(path.t_max), path.sigma(path.t_max)
    start = G3.flow(x, alpha_s, sigma_s, alpha_t, sigma_t)
    prior = torch.distributions.Normal(0.0, path.prior_std).log_prob(start[:, 0])
    mismatch = prior - G3.log_prob(start, alpha_t, sigma_t)
    expected = G3.log_prob(x, alpha_s, sigma_s) + mismatch
    assert (found - expected).abs().max().item() < 1e-6


@pytest.mark.parametrize("name", ["condot", "ve-geo"])
def test_likelihood_counts_every_dimension(name):
    """Invariant 4 in two correlated dimensions, at points whose paths take different numbers of steps."""
    path, target = process.named(name), targets.named("gaussian-2d")
    x = torch.tensor([[0.3, -0.2], [3.0, 1.0], [-4.0, 2.5]], dtype=torch.float64)
    found = fm.log_prob(targets.exact(target, path), x, process=path, draws=Silence())
    ends = [curve(t) for t in (path.t_min, path.t_max) for curve in (path.alpha, path.sigma)]
    start = target.flow(x, *ends)
    prior = torch.distributions.Normal(0.0, path.prior_std).log_prob(start).sum(1)
    expected = target.log_prob(x, *ends[:2]) + prior - target.log_prob(start, *ends[2:])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_probe_belongs_to_its_sample_and_is_a_sign():
    """A row alone equals the row in its batch, though rows end at different times; only the draws' signs count."""
    path = CONDOT.between(0.02, 0.98)
    model = targets.exact(targets.named("mixture-2d"), path)
    x = torch.tensor([[0.3, -0.2], [3.0, 1.0], [-4.0, 2.5], [1.0, 1.0]], dtype=torch.float64)
    together = fm.log_prob(model, x, process=path, draws=Philox(3, 4), probe=True)
    for i in range(4):
        alone = fm.log_prob(model, x[i : i + 1], process=path, draws=Philox(3, range(i, i + 1)), probe=True)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)
    signs = Philox(3, 4).normal("probe", x).sign()

    class Signs:
        def normal(self, tag, like):
            return signs

    same = fm.log_prob(model, x, process=path, draws=Signs(), probe=True)
    torch.testing.assert_close(same, together, rtol=0, atol=0)


def test_probe_is_unbiased():
    """Invariant 4: over all sign vectors of 2 dimensions, with a mean linear in x, the average is the exact value."""
    path = CONDOT.between(0.1, 0.9)
    matrix = torch.tensor([[0.7, 0.3], [-0.2, 0.4]], dtype=torch.float64)
    model = Predictor("mean", lambda x, t: x @ matrix.T)
    x = torch.tensor([[0.3, -0.8]], dtype=torch.float64)

    class Signs:
        def __init__(self, signs):
            self.signs = signs

        def normal(self, tag, like):
            return torch.tensor([self.signs], dtype=like.dtype)

    exact = fm.log_prob(model, x, process=path, draws=Silence())
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    probes = [fm.log_prob(model, x, process=path, draws=Signs(s), probe=True) for s in signs]
    torch.testing.assert_close(torch.stack(probes).mean(0), exact, rtol=1e-7, atol=1e-7)
    assert (probes[0] - probes[1]).abs().item() > 1e-3


def test_first_step_returns_the_data_mean_and_last_step_the_posterior_mean():
    """Invariant 5."""
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    whole = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = fm.euler(exact_model(CONDOT), x, whole, process=CONDOT, draws=Silence()).x
    torch.testing.assert_close(found, torch.full_like(x, -0.36 + 0.18 + 0.375), rtol=1e-13, atol=1e-13)
    last = torch.tensor([0.6, 0.0], dtype=torch.float64)
    found = fm.euler(exact_model(CONDOT), x, last, process=CONDOT, draws=Silence()).x
    torch.testing.assert_close(found, G3.mean(x, 0.4, 0.6), rtol=1e-13, atol=1e-13)


GOLDEN = {  # output standard deviation, N(.3, .6^2), condot, uniform grid, steps 1, 2, 4, .. 64
    fm.euler: (0, 0.2647058824, 0.4195338513, 0.5036685931, 0.5499860218, 0.5744822557, 0.5871067479),
    fm.heun: (0.5, 0.5672577855, 0.6024811792, 0.6017134621, 0.6005687856, 0.6001596931, 0.6000421011),
}


@pytest.mark.parametrize("sample", GOLDEN, ids=lambda f: f.__name__)
def test_gains_on_gaussian_data(sample):
    """Invariant 6, toolbox T6: the map is affine, so two starts give its slope; the mean stays .3.

    Heun needs the velocity at the data end, which exists on Gaussian data: the grid stops at 1e-7, not at 0.
    """

    def mean(x, t):
        alpha, sigma = expand(CONDOT.alpha(t), x), expand(CONDOT.sigma(t), x)
        return 0.3 + alpha * 0.36 / (alpha**2 * 0.36 + sigma**2) * (x - alpha * 0.3)

    path = CONDOT.between(1e-7 if sample is fm.heun else 0.0, 1.0)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for k, gain in enumerate(GOLDEN[sample]):
        end = sample(Predictor("mean", mean), x, grids.uniform_t(2**k, path), process=path, draws=Silence()).x
        assert (end[1] - end[0]).item() == pytest.approx(gain, abs=2e-7 if sample is fm.heun else 1e-10)
        assert end[0].item() == pytest.approx(0.3, abs=1e-6 if sample is fm.heun else 1e-13)


def test_rotated_data_rotate_samples():
    """Invariant 7, first half, for every fixed-step sampler (the law checks random angles)."""
    target = targets.named("mixture-2d")
    plain = targets.exact(target, CONDOT)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turned = Predictor("mean", lambda x, t: plain(x @ turn, t) @ turn.T)
    x = Philox(0, 8).normal("x", torch.empty(8, 2, dtype=torch.float64))
    for sample in (fm.euler, fm.midpoint, fm.heun):
        grid = grids.t_to_zero(5, CONDOT)
        one = sample(plain, x, grid, process=CONDOT, draws=Mapped(Silence(), lambda z: z)).x
        other = sample(turned, x @ turn.T, grid, process=CONDOT, draws=Silence()).x
        torch.testing.assert_close(other, one @ turn.T, rtol=1e-12, atol=1e-12)


@given(st.floats(0.05, 0.95), st.floats(-2, 2), st.sampled_from(["cosine", "vp-linear", "ve-geo"]))
def test_reschedule_gives_the_mean_of_the_other_path(r, x, name):
    """Invariant 7, second half: a mean trained on condot, used on another path, is that path's exact mean."""
    other = process.named(name)
    moved = fm.reschedule(exact_model(CONDOT), process=CONDOT.between(1e-9, 1.0), to=other)
    at = torch.tensor([[x]], dtype=torch.float64)
    expected = G3.mean(at, other.alpha(r), other.sigma(r))
    torch.testing.assert_close(moved(at, r), expected, rtol=1e-12, atol=1e-12)
    same = fm.reschedule(exact_model(CONDOT), process=CONDOT, to=CONDOT)
    torch.testing.assert_close(same(at, r), exact_model(CONDOT)(at, r), rtol=1e-12, atol=1e-12)


@given(st.floats(0.05, 0.95), st.floats(1e-4, 0.1))
def test_floored_path_has_the_published_conditional_velocity(t, floor):
    """u = (x1 - (1-smin) x)/(1 - (1-smin) t') = x1 - (1-smin) x0 along the path, t' = 1 - t and our u = -u'."""
    path = fm.floored(floor)
    x0, eps = 0.7, -1.3
    rates = path.rates(t)
    ours = rates[0] * x0 + rates[1] * eps
    assert -ours == pytest.approx(x0 - (1 - floor) * eps, rel=1e-12)
    x, s = path.alpha(t) * x0 + path.sigma(t) * eps, 1 - t
    assert -ours == pytest.approx((x0 - (1 - floor) * x) / (1 - (1 - floor) * s), rel=1e-9)


def test_dopri5_meets_its_tolerance_and_counts_by_row():
    """Error falls with the tolerance; a stiff row does not make an easy one pay; each row costs 2 + 6 per step."""
    path = CONDOT.between(1e-3, 1.0)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = G3.flow(x, 0.0, 1.0, path.alpha(1e-3), path.sigma(1e-3))
    errors, costs = [], []
    for tol in (1e-3, 1e-5, 1e-7, 1e-9):
        options = {"process": path, "draws": Silence(), "rtol": tol, "atol": tol}
        run = fm.dopri5(exact_model(path), x, grids.uniform_t(1, path), **options)
        errors.append((run.x - exact).abs().max().item())
        costs.append(run.nfe)
    assert all(error <= 100 * tol for error, tol in zip(errors, (1e-3, 1e-5, 1e-7, 1e-9), strict=True))
    assert costs == sorted(costs) and errors == sorted(errors, reverse=True)
    single = fm.dopri5(exact_model(path), x[:1], grids.uniform_t(1, path), process=path, draws=Silence())
    assert (single.nfe - 2) % 6 == 0


SCIPY = {  # start: (evaluations, end) of scipy 1.17.1's integrate.RK45, condot 1 -> .001, rtol = atol = 1e-5
    -1.5: (50, -1.4275474871516964),
    -0.25: (62, 0.24840100353760264),
    0.0: (74, 0.3710018786799281),  # where the starting step takes its other branch
    0.75: (50, 0.9792840089775168),
    2.0: (44, 2.031883661945322),
}


def test_dopri5_takes_the_steps_of_scipy():
    """Start-up, accepted and rejected steps: same evaluations and same end, alone and with all rows in one batch."""
    path = CONDOT.between(1e-3, 1.0)
    grid = grids.uniform_t(1, path)
    x = torch.tensor(list(SCIPY), dtype=torch.float64)[:, None]
    ends = torch.tensor([end for _, end in SCIPY.values()], dtype=torch.float64)[:, None]
    together = fm.dopri5(exact_model(path), x, grid, process=path, draws=Silence())
    torch.testing.assert_close(together.x, ends, rtol=1e-10, atol=1e-10)
    assert together.nfe == sum(nfe for nfe, _ in SCIPY.values()) / len(SCIPY)
    for row, (nfe, _) in zip(x, SCIPY.values(), strict=True):
        assert fm.dopri5(exact_model(path), row[None], grid, process=path, draws=Silence()).nfe == nfe


def test_dopri5_stays_inside_a_short_interval():
    """Where the starting step would be longer than the whole interval, its trial evaluation too is cut."""
    path, seen = CONDOT.between(0.4999, 0.5), []

    def mean(x, t):
        seen.append(t.min().item())
        return 0.9 * x  # hardly moves

    x = torch.ones(1, 1, dtype=torch.float64)
    fm.dopri5(Predictor("mean", mean), x, grids.uniform_t(1, path), process=path, draws=Silence())
    assert min(seen) >= 0.4999


def test_dopri5_leaves_no_sliver_of_time():
    """A resting field takes steps 1e-6, 1e-5 .. .1: an end a few ulp beyond their sum is reached by the last one."""
    for ulps in range(12):
        evaluations = []

        def field(y, t, rows, seen=evaluations):
            seen.append(1)
            return torch.zeros_like(y)

        y = torch.ones(1, 1, dtype=torch.float64)
        end = 0.111111 + ulps * 2.0**-56
        assert torch.equal(ode.integrate(field, y, 0.0, end, rtol=1e-5, atol=1e-5), y)
        assert len(evaluations) == 2 + 6 * 6


def test_dopri5_names_the_time_where_the_model_breaks():
    path = CONDOT.between(1e-3, 1.0)
    broken = Predictor("mean", lambda x, t: x * torch.where(t < 0.5, math.nan, 1.0)[:, None])
    x = torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="dopri5: step size nan at t = 0.[5-9]"):
        fm.dopri5(broken, x, grids.uniform_t(1, path), process=path, draws=Silence())


def test_gradients_flow_through_the_adaptive_solver():
    """d x_end / d x_start is the derivative of the flow map, to the solver's tolerance."""
    path = CONDOT.between(0.02, 0.98)
    x = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None].requires_grad_()
    options = {"rtol": 1e-9, "atol": 1e-9}
    end = fm.dopri5(exact_model(path), x, grids.uniform_t(1, path), process=path, draws=Silence(), **options).x
    found = torch.autograd.grad(end.sum(), x)[0]
    ends = [path.alpha(t) if f == "a" else path.sigma(t) for t in (0.98, 0.02) for f in "as"]
    with torch.no_grad():
        expected = (G3.flow(x + 1e-5, *ends) - G3.flow(x - 1e-5, *ends)) / 2e-5
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    still = Predictor("mean", lambda y, t: y)  # u = (x - D)/t = 0, so the error estimate is exactly 0
    end = fm.dopri5(still, x, grids.uniform_t(1, path), process=path, draws=Silence()).x
    torch.testing.assert_close(torch.autograd.grad(end.sum(), x)[0], torch.ones_like(x), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["condot", "vp-linear"])
def test_fixed_steps_are_the_textbook_ones(name):
    """Euler, explicit midpoint and Heun on the velocity, written out for one step of -.3."""
    path, grid = process.named(name), torch.tensor([0.7, 0.4], dtype=torch.float64)
    u, x = velocity_of(G3, path), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    slope = u(x, 0.7)
    ends = {
        fm.euler: (x - 0.3 * slope, 1),
        fm.midpoint: (x - 0.3 * u(x - 0.15 * slope, 0.55), 2),
        fm.heun: (x - 0.15 * (slope + u(x - 0.3 * slope, 0.4)), 2),
    }
    for sample, (end, nfe) in ends.items():
        found = sample(exact_model(path), x, grid, process=path, draws=Silence())
        torch.testing.assert_close(found.x, end, rtol=1e-12, atol=1e-12)
        assert found.nfe == nfe


@pytest.mark.parametrize("name", ["condot", "vp-linear", "discrete-linear", "cosine", "ve-geo"])
def test_heun_s_interval_to_zero_has_one_evaluation_on_every_path(name):
    """The declared cost holds whether or not sigma(0) = 0."""
    path = process.named(name)
    grid = torch.linspace(path.t_max, 0, 4, dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    card = catalogue.samplers()["lipman2022fm.heun"]
    assert card.sample(exact_model(path), x, grid, process=path, draws=Silence()).nfe == card.nfe(grid) == 5


@pytest.mark.parametrize("name", ["condot", "vp-linear", "ve-geo"])
def test_loss_is_the_error_of_the_velocity(name):
    """|u_hat - (alpha' x0 + sigma' eps)|^2, mean over dimensions, with u_hat = alpha' D + sigma' e."""
    path = process.named(name)
    x0, noise = (Philox(3, 4).normal(tag, torch.empty(4, 3, dtype=torch.float64)) for tag in ("x0", "noise"))
    t = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    found = fm.loss(Predictor("mean", lambda x, _: 0.3 * x), x0, t, noise, process=path)
    for i, at in enumerate(t.tolist()):
        alpha, sigma, (alpha_rate, sigma_rate) = path.alpha(at), path.sigma(at), path.rates(at)
        x = alpha * x0[i] + sigma * noise[i]
        e = (x - alpha * 0.3 * x) / sigma
        error = alpha_rate * (0.3 * x - x0[i]) + sigma_rate * (e - noise[i])
        assert found[i].item() == pytest.approx(error.square().mean().item(), rel=1e-11)


def test_training_times_are_uniform():
    u = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert fm.uniform_times(u, CONDOT.between(0.2, 0.6)).tolist() == pytest.approx([0.2, 0.3, 0.6])


def test_dopri5_tableau_is_consistent():
    """Row sums equal nodes, weights satisfy the quadrature conditions to order 5, error weights sum to 0."""
    for node, row in zip(ode.NODES, ode.STAGES, strict=True):
        assert sum(row) == pytest.approx(node, abs=1e-14)
    weights = (*ode.STAGES[-1], 0.0)
    for power in range(5):
        whole = sum(w * c**power for w, c in zip(weights, ode.NODES, strict=True))
        assert whole == pytest.approx(1 / (power + 1), abs=1e-14)
        embedded = sum((w - e) * c**power for w, e, c in zip(weights, ode.ERROR, ode.NODES, strict=True))
        if power < 4:
            assert embedded == pytest.approx(1 / (power + 1), abs=1e-14)
    assert sum(ode.ERROR) == pytest.approx(0, abs=1e-15)


def test_dopri5_refuses_a_clean_end():
    x, grid = torch.zeros(1, 1, dtype=torch.float64), grids.t_to_zero(1, CONDOT)
    with pytest.raises(grids.BadGrid, match="t_min > 0"):
        fm.dopri5(exact_model(CONDOT), x, grid, process=CONDOT, draws=Silence())


def test_velocity_parametrisation_inverts_the_conversion():
    """A net that returns u gives back the mean, on condot as x - t u and on other paths."""
    for path in (CONDOT.between(0.01, 1.0), process.named("cosine")):
        u = velocity_of(G3, path)
        net = lambda x, t, u=u: torch.cat([u(x[i : i + 1], t[i].item()) for i in range(len(x))])  # noqa: E731
        model = fm.velocity(net, process=path)
        x = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
        for t in (0.2, 0.7):
            torch.testing.assert_close(model(x, t), exact_model(path)(x, t), rtol=1e-11, atol=1e-11)
