"""Unnormalised densities: log Z and expectations by quadrature, scores by differentiation, samples by their moments."""

import math

import pytest
import torch

from reference_impls import targets
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.targets import densities
from reference_impls.targets.densities import Funnel, Gaussian, Grid, ManyWell

ALL = [Grid(), Funnel(), ManyWell(), Gaussian((1.3, -0.4), 0.6, 0.8)]
FUNCTIONS = {
    "square": lambda x: x.square().sum(1),
    "abs": lambda x: x.abs().sum(1),
    "sum": lambda x: x.sum(1),
}


def line(reach: float, points: int) -> torch.Tensor:
    return torch.linspace(-reach, reach, points, dtype=torch.float64)


def plane(reach: float, points: int) -> torch.Tensor:
    axis = line(reach, points)
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def test_names_are_found_among_the_targets():
    for name in ("grid9", "funnel-10d", "manywell-5d"):
        target = targets.named(name)
        assert target.name == name and target.log_density(torch.zeros(3, *target.shape)).shape == (3,)


@pytest.mark.parametrize("density", [Grid(), Gaussian((1.3, -0.4), 0.6, 0.8)], ids=lambda d: d.name)
def test_a_plane_integrates_to_z_and_to_the_expectations(density):
    # the trapezoidal rule is exact to rounding for smooth decaying functions; |x| has a kink, where it is O(h^2)
    x, h = plane(12.0, 1201), 24.0 / 1200
    mass = density.log_density(x).exp() * h * h
    assert math.log(mass.sum().item()) == pytest.approx(density.log_Z, abs=1e-12)
    for name, tolerance in (("square", 1e-10), ("sum", 1e-10), ("abs", 2 * h * h)):
        found = (mass * FUNCTIONS[name](x)).sum().item() / mass.sum().item()
        assert found == pytest.approx(density.expectations[name], abs=tolerance), name


def test_the_funnel_integrates_to_one():
    # given x_1 the other nine are exchangeable and independent: their integral is the ninth power of one
    funnel = Funnel()
    neck, tilt = line(27.0, 601), line(12.0, 401)
    x = torch.zeros(len(neck), len(tilt), 10, dtype=torch.float64)
    x[..., 0] = neck[:, None]
    x[..., 1] = tilt * (neck / 2).exp()[:, None]
    with_one = funnel.log_density(x.reshape(-1, 10)).reshape(len(neck), -1)
    x[..., 1] = 0
    without = funnel.log_density(x.reshape(-1, 10)).reshape(len(neck), -1)
    one = (with_one - without).logsumexp(1) + neck / 2 + math.log((tilt[1] - tilt[0]).item())
    log_z = (without[:, 0] + 9 * one).logsumexp(0).item() + math.log((neck[1] - neck[0]).item())
    assert log_z == pytest.approx(0.0, abs=1e-12)
    x = Philox(0, 4).normal("x", torch.empty(4, 10, dtype=torch.float64))
    swapped = x[:, [0, 2, 1, *range(3, 10)]]
    torch.testing.assert_close(funnel.log_density(x), funnel.log_density(swapped), rtol=0, atol=1e-13)
    parts = sum(
        funnel.log_density(torch.cat([x[:, :1], *[x[:, j : j + 1] * (j == i) for j in range(1, 10)]], 1))
        - funnel.log_density(torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1)) for i in range(1, 10)
    )  # fmt: skip
    alone = funnel.log_density(torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], 1))
    torch.testing.assert_close(funnel.log_density(x), alone + parts, rtol=1e-12, atol=1e-12)


def test_wells_have_the_published_constants():
    for separation, log_z, square in ((2.0, 0.2930017367, 1.8353417215), (4.0, -0.1082111026, 3.9341046423)):
        well = ManyWell(dim=1, separation=separation)
        assert well.log_Z == pytest.approx(log_z, abs=6e-11)
        assert well.expectations["square"] == pytest.approx(square, abs=6e-11)
        # by a rule of another kind: Gauss-Legendre in 400 cells, cut at 0 where |x| has its kink
        nodes = torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=torch.float64)
        edges = line(4.0, 4001)
        half = (edges[1] - edges[0]) / 2
        x = ((edges[1:] + edges[:-1])[:, None] / 2 + half * nodes).reshape(-1, 1)
        weight = (torch.tensor([5.0, 8.0, 5.0], dtype=torch.float64) / 9 * half).repeat(4000)
        mass = weight * well.log_density(x).exp()
        assert math.log(mass.sum().item()) == pytest.approx(well.log_Z, abs=1e-12)
        for name, value in well.expectations.items():
            assert (mass * FUNCTIONS[name](x)).sum().item() / mass.sum().item() == pytest.approx(value, abs=1e-11), name
    assert ManyWell().log_Z == pytest.approx(-0.5410555129, abs=6e-11)
    # d = 2 shifted by 1.5 is the shifted double well of the official code: E x^2 = 4.08534172
    assert ManyWell(dim=1, separation=2.0).expectations["square"] + 1.5**2 == pytest.approx(4.08534172, abs=6e-9)


@pytest.mark.parametrize("density", ALL, ids=lambda d: d.name)
def test_score_is_the_gradient(density):
    x = 2 * Philox(1, 40).normal("x", torch.empty(40, *density.shape, dtype=torch.float64))
    x.requires_grad_()
    gradient = torch.autograd.grad(density.log_density(x).sum(), x)[0]
    gap = (density.score(x.detach()) - gradient).abs().max() / gradient.abs().max()
    assert gap <= 1e-14


@pytest.mark.parametrize("density", ALL, ids=lambda d: d.name)
def test_samples_have_the_moments_of_the_density(density):
    n = 20_000
    x = density.sample(Philox(2, n), torch.empty(n, *density.shape, dtype=torch.float64))
    # 6 standard errors; the funnel's |x|^2 has the mean of a lognormal of log-variance 9, which no sample shows
    for name in ("square", "abs", "sum") if density.name != "funnel-10d" else ("sum",):
        values = FUNCTIONS[name](x)
        error = (values.mean() - density.expectations[name]).abs() / (values.std() / n**0.5)
        assert error <= 6, name


def test_funnel_samples_follow_their_conditional_law():
    n = 20_000
    x = Funnel().sample(Philox(2, n), torch.empty(n, 10, dtype=torch.float64))
    white = torch.cat([x[:, :1] / 3, x[:, 1:] * (-x[:, :1] / 2).exp()], 1)
    covariance = white.T @ white / n - torch.eye(10)
    assert covariance.abs().max() <= 6 * math.sqrt(2 / n) and white.mean(0).abs().max() <= 6 / math.sqrt(n)
    assert Funnel().expectations["square"] == pytest.approx(9 + 9 * math.exp(4.5))


def test_modes_have_equal_shares_and_vanishing_score():
    for density in (Grid(), ManyWell()):
        n, modes = 36_000, density.modes
        x = density.sample(Philox(3, n), torch.empty(n, *density.shape, dtype=torch.float64))
        share = torch.bincount(torch.cdist(x, modes).argmin(1), minlength=len(modes)).double() / n
        weight = 1 / len(modes)
        assert (share - weight).abs().max() <= 6 * math.sqrt(weight / n)
        assert density.score(modes).abs().max() <= 1e-12
    assert Grid().modes.shape == (9, 2) and ManyWell().modes.shape == (32, 5)


@pytest.mark.parametrize("name", ["vp-10", "brownian-bridge", "ve-edm"])
@pytest.mark.parametrize("target", [Grid(), Gaussian((1.3, -0.4), 0.6, 0.8)], ids=lambda d: d.name)
def test_exact_control_is_the_diffusion_times_the_score(name, target):
    process = processes.named(name)
    like = torch.empty(5, 2, dtype=torch.float64)
    for t in (0.31, 0.8):
        x = process.noised(target.sample(Philox(4, 5), like), t, Philox(4, 5).normal("eps", like)).requires_grad_()
        alpha, sigma = process.alpha(t), process.sigma(t)
        log_p = target.log_prob(x, alpha, sigma).sum()
        log_reference = -x.square().sum() / (2 * (alpha**2 * 0.49 + sigma**2))
        known = {"vp-10": math.sqrt(0.1 + 9.9 * t), "brownian-bridge": 1.0, "ve-edm": math.sqrt(2 * t)}[name]
        for base, log_ratio in (("noising", log_p), ("reference", log_p - log_reference)):
            expected = known * torch.autograd.grad(log_ratio, x, retain_graph=True)[0]
            for time in (t, torch.full((5,), t, dtype=torch.float64)):
                found = densities.exact_control(target, process, base, std=0.7)(x.detach(), time)
                assert (found - expected).abs().max() <= 1e-9 * expected.abs().max(), (t, base)
