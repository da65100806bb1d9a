"""ho2020ddpm: the numbered invariants of its card that do not need the decoder (it comes with the solver shelf)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import relative_variance_error
from reference_impls import catalogue, targets
from reference_impls.continuous import ho2020ddpm as ddpm
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, expand

CHAIN = process.named("discrete-linear")
CARDS = catalogue.samplers()

knots = st.lists(st.integers(1, 1000), min_size=2, max_size=12, unique=True).map(
    lambda indices: torch.tensor(sorted(indices, reverse=True), dtype=torch.float64) / 1000
)


@given(knots)
def test_posterior_composes_with_the_marginals(grid):
    """Invariant 1: c_mean x0 + c_x x_t + sqrt(small) z has the law of x_s, on any kept subset."""
    t, s = grid[:-1], grid[1:]
    kernel = ddpm.posterior(t, s, CHAIN)
    torch.testing.assert_close(kernel.c_mean + kernel.c_x * CHAIN.alpha(t), CHAIN.alpha(s), rtol=1e-12, atol=0)
    variance = kernel.c_x**2 * CHAIN.sigma(t) ** 2 + kernel.small
    torch.testing.assert_close(variance, CHAIN.sigma(s) ** 2, rtol=1e-12, atol=0)


def test_posterior_is_that_of_the_betas():
    """The coefficients in the paper's letters: beta_t, alpha-bar_t, alpha-bar_{t-1}."""
    betas = process.linear_betas()
    bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])
    t = torch.arange(2, 1001, dtype=torch.float64) / 1000
    kernel = ddpm.posterior(t, t - 1 / 1000, CHAIN)
    before, here, beta = bar[1:-1], bar[2:], betas[1:]
    torch.testing.assert_close(kernel.c_mean, beta * before.sqrt() / (1 - here), rtol=1e-10, atol=0)
    torch.testing.assert_close(kernel.c_x, (1 - before) * (1 - beta).sqrt() / (1 - here), rtol=1e-10, atol=0)
    torch.testing.assert_close(kernel.small, beta * (1 - before) / (1 - here), rtol=1e-10, atol=0)
    torch.testing.assert_close(kernel.large, beta, rtol=1e-10, atol=0)


def test_schedule_anchors():
    """beta_1, beta_T, alpha-bar_500 and alpha-bar_T of the linear schedule, to the digits of the card."""
    assert process.linear_betas()[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    assert [CHAIN.alpha(0.5) ** 2, CHAIN.alpha(1.0) ** 2] == pytest.approx([7.858724e-2, 4.035830e-5], rel=1e-6)


@given(knots, st.sampled_from([0.09, 0.25, 1.0, 4.0]))
def test_variance_with_the_posterior_spread_is_exact_on_isotropic_gaussians(grid, c):
    """Invariant 2, third class: small + c_mean^2 Var[x0 | x_t] transports the variance of any N(0, c)."""
    t, s = grid[:-1], grid[1:]
    alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
    kernel = ddpm.posterior(t, s, CHAIN)
    total = alpha**2 * c + sigma**2
    factor = kernel.c_mean * alpha * c / total + kernel.c_x
    added = kernel.small + kernel.c_mean**2 * c * sigma**2 / total
    exact = CHAIN.alpha(s) ** 2 * c + CHAIN.sigma(s) ** 2
    torch.testing.assert_close(factor**2 * total + added, exact, rtol=1e-12, atol=0)


def test_exactness_classes_do_not_leak():
    """Invariant 2: outside its class each variance is wrong, small by too little and large by too much."""
    vp = process.named("vp-linear").between(0.05, 0.9)
    grid = torch.linspace(0.9, 0.05, 9, dtype=torch.float64)
    for id, sign in (("ho2020ddpm.ancestral", -1), ("ho2020ddpm.ancestral_large", 1)):
        assert sign * relative_variance_error(CARDS[id], vp, grid, 0.25) > 1e-2
        assert abs(relative_variance_error(CARDS[id], vp, grid, 0.0 if sign < 0 else 1.0)) < 1e-13


def bound_of_a_gaussian(c: float, large: bool | None) -> float:
    """E[L_vlb] in nats for N(0, c) data with the exact mean; variance exact (None), large or small; Gaussian decoder.

    The terms are closed: L_T + sum of KL + L_0 with p(x0 | x_1) = N(mean, Var[x0 | x_1] or the fixed variance).
    """
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
    spread = c * sigma**2 / (alpha**2 * c + sigma**2)  # Var[x0 | x_t]
    prior = 0.5 * (alpha[-1] ** 2 * c + sigma[-1] ** 2 - 1 - (sigma[-1] ** 2).log())  # E KL(q(x_T | x0) || N(0, 1))
    kernel = ddpm.posterior(t[1:], t[:-1], CHAIN)
    gap = kernel.c_mean**2 * spread[1:]
    variance = kernel.small + gap if large is None else kernel.large if large else kernel.small
    kl = 0.5 * (-1 + variance.log() - kernel.small.log() + (kernel.small + gap) / variance)
    first = spread[0] if large is None else kernel.small[0]  # the code gives index 1 the small variance of index 2
    decoder = 0.5 * ((2 * math.pi * first).log() + spread[0] / first)
    return (prior + kl.sum() + decoder).item()


def test_bound_is_tight_with_the_exact_variance():
    """Invariant 3: the bound is the entropy plus KL(p_T || N(0,1)) exactly; with fixed variances it lies above."""
    c = 0.25
    entropy = 0.5 * math.log(2 * math.pi * math.e * c)
    end = CHAIN.alpha(1.0) ** 2 * (c - 1)  # V_T - 1
    prior_gap = 0.5 * (end - math.log1p(end))
    assert bound_of_a_gaussian(c, None) - entropy == pytest.approx(prior_gap, abs=1e-11)
    assert prior_gap == pytest.approx(2.289e-10, rel=1e-3)
    assert bound_of_a_gaussian(c, False) - entropy == pytest.approx(0.570, abs=1e-3)
    assert bound_of_a_gaussian(c, True) - entropy == pytest.approx(0.115, abs=1e-3)


@pytest.mark.parametrize("large", [False, True])
def test_bound_loss_is_the_kl_of_the_two_kernels(large):
    """The term of equation 5 from its definition, KL(N(mu_q, small) || N(mu, v)) per dimension times T."""
    draws = Philox(3, 8)
    x0, noise = (draws.normal(tag, torch.empty(8, 5, dtype=torch.float64)) for tag in ("x0", "noise"))
    t = torch.tensor([2, 3, 10, 100, 400, 700, 999, 1000], dtype=torch.float64) / 1000
    kernel = ddpm.posterior(t, t - 1e-3, CHAIN)
    guess = Predictor("mean", lambda x, _: 0.3 * x)
    found = ddpm.bound_loss(guess, x0, t, noise, process=CHAIN, large=large)
    x_t = CHAIN.noised(x0, t, noise)
    v = (kernel.large if large else kernel.small)[:, None].expand_as(x0)
    means = (expand(kernel.c_mean, x0) * x + expand(kernel.c_x, x0) * x_t for x in (x0, 0.3 * x_t))
    q, p = (
        torch.distributions.Normal(mean, variance.sqrt())
        for mean, variance in zip(means, (kernel.small[:, None].expand_as(x0), v), strict=True)
    )
    expected = 1000 * torch.distributions.kl_divergence(q, p).mean(1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_simple_loss_reaches_its_floor():
    """Invariant 5: with the exact mean of G3 the average loss is the floor, within 5 standard errors."""
    g3, n = targets.named("g3"), 200_000
    draws = Philox(11, n)
    like = torch.empty(n, 1, dtype=torch.float64)
    x0, noise = g3.sample(draws, like), draws.normal("noise", like)
    for t in (0.05, 0.3, 0.7):
        rows = torch.full((n,), t, dtype=torch.float64)
        found = ddpm.simple_loss(targets.exact(g3, CHAIN), x0, rows, noise, process=CHAIN)
        alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
        x = torch.linspace(-8, 8, 40_001, dtype=torch.float64)[:, None]
        density = g3.log_prob(x, alpha, sigma).exp()
        score = (alpha * g3.mean(x, alpha, sigma) - x)[:, 0] / sigma**2
        floor = 1 - sigma**2 * torch.trapezoid(density * score**2, x[:, 0]).item()  # E|eps - E[eps | x]|^2
        assert abs(found.mean().item() - floor) <= 5 * found.std().item() / math.sqrt(n)


def test_respacing_with_every_knot_is_the_chain_itself():
    """Invariant 6: the full set of knots is the identity, and a kept subset keeps alpha-bar there."""
    grid = ddpm.even_subsequence(1000, CHAIN)
    torch.testing.assert_close(grid, torch.arange(1000, -1, -1, dtype=torch.float64) / 1000, rtol=1e-14, atol=0)
    few = ddpm.even_subsequence(10, CHAIN)
    kept = torch.cumprod(1 - process.linear_betas(), 0).flip(0)[(1000 - 1000 * few[:-1]).round().long()]
    torch.testing.assert_close(CHAIN.alpha(few[:-1]) ** 2, kept, rtol=1e-12, atol=0)
    assert few[0] == 1 and few[-2] == 1e-3 and few[-1] == 0


def test_even_subsequence_is_the_published_one():
    """Corrections of the card: each accumulated sum is rounded, half to even; one step is the last knot."""

    def indices(steps):
        return (1000 * ddpm.even_subsequence(steps, CHAIN)[:-1] - 1).round().long().flip(0).tolist()

    assert indices(5) == [0, 250, 500, 749, 999]
    assert indices(7) == [0, 166, 333, 500, 666, 832, 999]
    assert indices(1) == [999]
    for bad in (0, 1001, 2.5):
        with pytest.raises(grids.BadGrid, match=f"steps: {bad!r}, expected 1..1000"):
            ddpm.even_subsequence(bad, CHAIN)
    with pytest.raises(grids.BadGrid, match="ve-edm at 80"):
        ddpm.even_subsequence(5, process.named("ve-edm"))


@pytest.mark.parametrize("large", [False, True])
def test_sampler_is_algorithm_two(large):
    """x_{t-1} = (x_t - beta_t eps/sqrt(1 - abar_t))/sqrt(a_t) + sqrt(v_t) z, z = 0 at the end, on a strided chain."""
    indices = [1000, 700, 350, 20, 1]
    bar = torch.cumprod(1 - process.linear_betas(), 0)
    model, draws = targets.exact(targets.named("g3"), CHAIN), Philox(4, 3)
    x = start = torch.tensor([[0.3], [-1.1], [2.0]], dtype=torch.float64)
    for i, index in enumerate(indices):
        here, before = bar[index - 1], bar[indices[i + 1] - 1] if i + 1 < len(indices) else torch.tensor(1.0).double()
        beta = 1 - here / before
        eps = (x - here.sqrt() * model(x, index / 1000)) / (1 - here).sqrt()
        x = (x - beta / (1 - here).sqrt() * eps) / (1 - beta).sqrt()
        if i + 1 < len(indices):
            variance = beta if large else beta * (1 - before) / (1 - here)
            x = x + variance.sqrt() * draws.at(i).normal("step", x)
    grid = torch.tensor([*indices, 0], dtype=torch.float64) / 1000
    found = ddpm.sample(model, start, grid, process=CHAIN, draws=draws, large=large)
    torch.testing.assert_close(found.x, x, rtol=1e-11, atol=1e-11)
    assert found.nfe == 5


def test_bound_loss_keeps_its_digits_in_float32():
    """Near the optimum the terms cancel: what does not depend on the state is computed in float64."""
    x0 = torch.full((2, 1), 0.5, dtype=torch.float64)
    t, noise = torch.tensor([0.5, 1.0], dtype=torch.float64), torch.zeros_like(x0)
    near = Predictor("mean", lambda x, _: torch.full_like(x, 0.501))
    for large in (False, True):
        exact = ddpm.bound_loss(near, x0, t, noise, process=CHAIN, large=large)
        found = ddpm.bound_loss(near, x0.float(), t, noise.float(), process=CHAIN, large=large)
        torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=0)


def test_times_are_the_knots():
    """Uniform over 1/1000 .. 1, for the bound from 2/1000."""
    u = torch.tensor([1e-9, 0.4995, 0.5005, 1 - 1e-9], dtype=torch.float64)
    expected = torch.tensor([[0.001, 0.5, 0.501, 1.0], [0.002, 0.501, 0.501, 1.0]], dtype=torch.float64)
    found = [objective.times(u, CHAIN) for objective in ddpm.PAPER.objectives]
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-14, atol=0)


def test_clip_holds_the_mean_inside():
    """As in the official sampler, on both sides; a mean inside is left alone."""
    grid = ddpm.even_subsequence(3, CHAIN)
    x = torch.zeros(2, 1, dtype=torch.float64)
    for mean, end in ((7.0, 1.0), (-7.0, -1.0), (-0.3, -0.3)):
        model = Predictor("mean", lambda x, t, mean=mean: torch.full_like(x, mean))
        found = ddpm.sample(model, x, grid, process=CHAIN, draws=Philox(0, 2), clip=1.0).x
        torch.testing.assert_close(found, torch.full_like(x, end), rtol=1e-12, atol=0)


def test_simple_loss_is_the_mean_squared_error_of_eps():
    """Equation 14 by hand, averaged over the dimensions of a sample."""
    x0, noise = (Philox(3, 3).normal(tag, torch.empty(3, 2, 2, dtype=torch.float64)) for tag in ("x0", "noise"))
    t = torch.tensor([1, 300, 1000], dtype=torch.float64) / 1000
    found = ddpm.simple_loss(Predictor("mean", lambda x, _: 0.3 * x), x0, t, noise, process=CHAIN)
    for i, at in enumerate(t.tolist()):
        x = CHAIN.alpha(at) * x0[i] + CHAIN.sigma(at) * noise[i]
        eps = (x - CHAIN.alpha(at) * 0.3 * x) / CHAIN.sigma(at)
        assert found[i].item() == pytest.approx((eps - noise[i]).square().mean().item(), rel=1e-11)
