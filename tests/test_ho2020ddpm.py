"""ho2020ddpm: the numbered invariants of its card, its schedules, losses, variances and bound."""

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
from reference_impls.core.types import Meter, Predictor, expand
from reference_impls.targets import gaussian

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


SCHEDULES = {  # beta_1, beta_T, alpha-bar_500, alpha-bar_T at T = 1000: the card's table
    "linear": (1e-4, 0.02, 7.858724e-2, 4.035830e-5),
    "quadratic": (1e-4, 0.02, 3.331878e-1, 7.334125e-4),
    "constant": (0.02, 0.02, 4.102399e-5, 1.682967e-9),
    "jsd": (1e-3, 1.0, 0.5, 0.0),
    "warmup10": (1e-4, 0.02, 1.124632e-4, 4.613687e-9),
    "warmup50": (1e-4, 0.02, 6.352711e-3, 2.606135e-7),
    "sigmoid": (1.492052e-4, 1.995079e-2, 3.019311e-1, 3.968182e-5),
    "cosine": (4.128422e-5, 0.999, 4.938436e-1, 2.428767e-9),
    "exponential": (1.192829e-2, 1.192829e-2, 2.478752e-3, 6.144212e-6),
    "geometric": (1e-4, 0.02, 7.804075e-1, 2.279218e-2),
}


@pytest.mark.parametrize("name", ddpm.SCHEDULES)
def test_schedule_anchors(name):
    """beta_1, beta_T, alpha-bar_500 and alpha-bar_T of every schedule, to the seven digits of the card."""
    betas, chain = ddpm.betas(name), ddpm.chain(name)
    found = [betas[0].item(), betas[-1].item(), chain.alpha(0.5) ** 2, chain.alpha(1.0) ** 2]
    assert found == pytest.approx(SCHEDULES[name], rel=5e-7)  # half a unit of the last digit
    assert betas.shape == (1000,) and chain.name == f"discrete-{name}"
    bar = torch.cumprod(1 - betas, 0)
    torch.testing.assert_close(chain.alpha(torch.arange(1, 1001).double() / 1000) ** 2, bar, rtol=1e-12, atol=0)


def test_schedules_elsewhere():
    """Other lengths and ends; the ramps end where the code's do; geometric leaves signal at T: prior KL in bits."""
    assert ddpm.betas("warmup10", knots=50)[[4, 5]].tolist() == pytest.approx([0.02, 0.02])
    assert ddpm.betas("warmup50", knots=7)[:4].tolist() == pytest.approx([1e-4, 0.01005, 0.02, 0.02])
    assert ddpm.betas("jsd", knots=4).tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])
    assert ddpm.betas("quadratic", knots=3, first=0.01, last=0.09).tolist() == pytest.approx([0.01, 0.04, 0.09])
    ends = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    for name, bits in (("geometric", 1.7e-2), ("linear", 2.9e-5)):
        found = ddpm.bits(ddpm.prior_nats(ends, ddpm.chain(name)), (1,))
        assert found.tolist() == pytest.approx([bits, bits], rel=0.03)
    with pytest.raises(ValueError, match="schedule: 'cosin' is not known; expected one of linear, .*cosine"):
        ddpm.betas("cosin")
    for first, last in ((0.0, 0.02), (0.02, 1e-4), (1e-4, 1.5)):
        with pytest.raises(ValueError, match=f"first, last: {first!r}, {last!r}, expected 0 < first <= last <= 1"):
            ddpm.betas("linear", first=first, last=last)


def test_a_chain_that_ends_in_pure_noise():
    """jsd's last beta is 1: alpha is 0 there, the first step forgets its start, and nothing is 0 x inf."""
    chain = ddpm.chain("jsd")
    assert (chain.alpha(1.0), chain.sigma(1.0)) == (0.0, 1.0)
    assert chain.alpha(0.999) ** 2 == pytest.approx(1e-3, rel=1e-12)
    rows = ddpm.plan(ddpm.even_subsequence(1000, chain), chain)
    assert all(torch.isfinite(column).all() for column in (rows.c_mean, rows.c_x, rows.noise))
    assert rows.c_x[0] == 0 and rows.c_mean[0].item() == pytest.approx(math.sqrt(1e-3), rel=1e-12)
    model = Predictor("mean", lambda x, t: torch.full_like(x, 0.4))
    starts = torch.tensor([[3.0], [-5.0]], dtype=torch.float64)
    found = ddpm.sample(model, starts, ddpm.even_subsequence(3, chain), process=chain, draws=Philox(0, 2)).x
    torch.testing.assert_close(found, torch.full_like(found, 0.4), rtol=1e-12, atol=0)
    with pytest.raises(grids.BadGrid, match="grid: starts at 1, where alpha = 0"):
        ddpm.sample_matched(model, starts, ddpm.even_subsequence(3, chain), process=chain, draws=Philox(0, 2))


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


def bound_of_a_gaussian(c: float, large: bool | None, path=CHAIN) -> float:
    """E[L_vlb] in nats for N(0, c) data with the exact mean; variance exact (None), large or small; Gaussian decoder.

    The terms are closed: L_T + sum of KL + L_0 with p(x0 | x_1) = N(mean, Var[x0 | x_1] or the fixed variance).
    """
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = path.alpha(t), path.sigma(t)
    spread = c * sigma**2 / (alpha**2 * c + sigma**2)  # Var[x0 | x_t]
    signal, noise = alpha[-1] ** 2 / path.prior_std**2, sigma[-1] ** 2 / path.prior_std**2
    prior = 0.5 * (signal * c + noise - 1 - noise.log())  # E KL(q(x_T | x0) || N(0, prior_std^2))
    kernel = ddpm.posterior(t[1:], t[:-1], path)
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
    assert indices(2) == [0, 999] and indices(1) == [999]
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
    for objective in ddpm.PAPER.objectives:
        expected = [0.002, 0.501, 0.501, 1.0] if objective.id == "ho2020ddpm.bound" else [0.001, 0.5, 0.501, 1.0]
        assert objective.times(u, CHAIN).tolist() == pytest.approx(expected, rel=1e-14)
    assert ddpm.knot_times(u, CHAIN, knots=4).tolist() == [0.25, 0.5, 0.75, 1.0]


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


# x0 and noise of four coordinates, index 0, 10, 500, 999; net .9 x + t/1000 - .3. Numbers of training_losses in
# improved_diffusion/gaussian_diffusion.py (openai/improved-diffusion, MIT), run in float64 with the linear schedule.
PIXELS = torch.tensor([[0.0, 64.0, 128.0, 255.0]], dtype=torch.float64).expand(4, 4) / 127.5 - 1
NOISE = torch.tensor([[0.5, -1.0, 0.25, 2.0]], dtype=torch.float64).expand(4, 4)
AT = torch.tensor([1, 11, 501, 1000], dtype=torch.float64) / 1000


def official_net(x, embedding):
    return 0.9 * x + embedding[:, None] - 0.3


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("eps", [1.284934465963525, 1.2036248512869856, 0.029672007698599998, 0.4391728769426323]),
        ("x0", [0.08505521990023186, 0.07000555755706993, 0.8886074696879287, 1.9477057477997195]),
        ("previous", [0.08505521990023186, 0.08195987424196344, 0.0396094477314025, 0.4445163980656338]),
    ],
)
def test_simple_loss_is_the_official_one(predicted, expected):
    model = ddpm.PAPER.parametrisations[predicted](official_net, process=CHAIN)
    found = ddpm.simple_loss(model, PIXELS, AT, NOISE, process=CHAIN, predicted=predicted)
    assert found.tolist() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("large", "expected"),
    [
        (False, [1934.4006324540742, 137.13989008093182, 0.23606120360723748, 6.465496176530787]),
        (True, [1934.4006324540742, 125.83049594157364, 0.2361240534386736, 6.465490851327477]),
    ],
)
def test_bound_loss_is_the_official_one(large, expected):
    """RESCALED_KL in bits, its first number the decoder's with tanh; Phi differs from it there, and only there."""
    model = ddpm.net_as_mean(official_net, process=CHAIN)
    found, exact = (
        ddpm.bits(ddpm.bound_loss(model, PIXELS, AT, NOISE, process=CHAIN, large=large, decoder=decoder), (1,))
        for decoder in ("tanh", "phi")
    )
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    assert torch.equal(found[1:], exact[1:]) and found[0] != exact[0]
    assert exact[0].item() == pytest.approx(found[0].item(), rel=0.1)


def test_bound_of_a_clipped_model_is_the_official_one():
    """calc_bpd_loop (same source) clips by default: four kept knots of the cosine chain, fixedlarge, eps = 2 tanh x."""

    class Fixed:
        def at(self, i):
            return self

        def block(self, steps, tag, like):
            return torch.stack([torch.full_like(like, (0.3, -0.7, 1.1, 0.2)[i]) for i in steps])

    chain = process.named("discrete-cosine")
    model = ddpm.net_as_mean(lambda x, _: 2 * x.tanh(), process=chain)
    how = dict(process=chain, draws=Fixed(), steps=4, large=True, decoder="tanh")
    found = ddpm.bits(-ddpm.log_prob(model, PIXELS[:1], clip=1.0, **how), (4,))
    assert found.item() == pytest.approx(9.935217263642274, rel=1e-10)
    free = ddpm.bits(-ddpm.log_prob(model, PIXELS[:1], **how), (4,))
    assert free.item() > 100 * found.item()  # the eps of this net is wrong by 1 where alpha is 5e-5


def test_distances_are_what_they_are_called():
    """|r|, r^2 and Huber with 1 and with 2: by hand, averaged over the coordinates."""
    x0 = torch.zeros(1, 3, dtype=torch.float64)
    model = Predictor("mean", lambda x, _: torch.tensor([[0.5, -3.0, 1.0]], dtype=torch.float64))
    where = torch.tensor([0.7], dtype=torch.float64)
    for distance, expected in (("l1", 4.5), ("l2", 10.25), ("huber", 0.125 + 2.5 + 0.5)):
        found = ddpm.simple_loss(model, x0, where, x0, process=CHAIN, predicted="x0", distance=distance)
        assert found.item() == pytest.approx(expected / 3, rel=1e-12)
    wide = Predictor("mean", lambda x, _: torch.tensor([[0.5, -3.0, 1.5]], dtype=torch.float64))
    found = ddpm.simple_loss(wide, x0, where, x0, process=CHAIN, predicted="x0", distance="huber", width=2.0)
    assert found.item() == pytest.approx((0.125 + 2 * (3 - 1) + 1.125) / 3, rel=1e-12)


def test_l1_is_least_at_the_median_and_huber_between_it_and_the_mean():
    """x0 = 0, 0, 4 in equal shares at one x_t: median 0, mean 4/3; with all of 3 weights Huber's place is 1/2."""
    x0 = torch.tensor([[0.0], [0.0], [4.0]], dtype=torch.float64)
    t = torch.full((3,), 0.5, dtype=torch.float64)
    place = torch.linspace(-1, 5, 601, dtype=torch.float64)

    def least(distance):
        def total(at):
            model = Predictor("mean", lambda x, _: torch.full_like(x, at))
            return ddpm.simple_loss(
                model, x0, t, torch.zeros_like(x0), process=CHAIN, predicted="x0", distance=distance
            ).mean()

        return place[torch.stack([total(at) for at in place.tolist()]).argmin()].item()

    assert least("l1") == pytest.approx(0.0, abs=1e-9)
    assert least("l2") == pytest.approx(4 / 3, abs=0.006)
    assert least("huber") == pytest.approx(0.5, abs=1e-9)  # 2 p = 1


@pytest.mark.parametrize("predicted", ddpm.PREDICTED)
def test_a_net_that_knows_its_target_gives_the_mean(predicted):
    """Feed the exact target of each parametrisation, at row times and at a float time, the first knot included."""
    x0, noise = (Philox(2, 4).normal(tag, torch.empty(4, 3, dtype=torch.float64)) for tag in ("x0", "noise"))
    for t in (AT, 0.3):
        rows = t if isinstance(t, torch.Tensor) else torch.full((4,), t, dtype=torch.float64)
        x = CHAIN.noised(x0, rows, noise)
        kernel = ddpm.posterior(rows, rows - 1e-3, CHAIN)
        target = {"eps": noise, "x0": x0, "previous": expand(kernel.c_mean, x) * x0 + expand(kernel.c_x, x) * x}
        seen = []

        def net(y, embedding, target=target[predicted], seen=seen):
            seen.append(embedding)
            return target

        found = ddpm.net_as_mean(net, process=CHAIN, predicted=predicted)(x, t)
        torch.testing.assert_close(found, x0, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(seen[0], rows - 1e-3)


@given(st.floats(-1.5, 1.5), st.floats(-6, 1), st.sampled_from(["phi", "tanh"]), st.sampled_from([256, 17]))
def test_levels_have_mass_one(mean, log_deviation, decoder, levels):
    """Invariant 4: the sum telescopes, for Phi and for the official stand-in, whatever mean and deviation."""
    x0 = torch.linspace(-1, 1, levels, dtype=torch.float64)
    cdf = {"phi": ddpm.normal_cdf, "tanh": ddpm.tanh_cdf}[decoder]
    deviation = torch.tensor(math.exp(log_deviation), dtype=torch.float64)
    chance = ddpm.chance_of_level(x0, torch.full_like(x0, mean), deviation, levels=levels, cdf=cdf)
    assert chance.sum().item() == pytest.approx(1.0, abs=1e-12) and chance.min() >= 0


def test_both_tails_keep_their_digits_and_continuous_data_have_the_density():
    std, x0 = torch.tensor(0.02, dtype=torch.float64), torch.tensor([-1 / 255, 1 / 255], dtype=torch.float64)
    for mean in (0.5, -0.5):  # 25 deviations away
        for level, chance in zip(x0.tolist(), ddpm.chance_of_level(x0, torch.full_like(x0, mean), std), strict=True):
            ends = [math.erfc((abs(level - mean) + side / 255) / 0.02 / math.sqrt(2)) / 2 for side in (-1, 1)]
            assert chance.item() == pytest.approx(ends[0] - ends[1], rel=1e-10, abs=0)
            assert 0 < chance < 1e-120
    normal = torch.distributions.Normal(torch.tensor(0.3, dtype=torch.float64), std)
    nats = ddpm.DECODERS["density"](x0, normal.loc, normal.scale, 256)
    torch.testing.assert_close(nats, -normal.log_prob(x0), rtol=1e-13, atol=0)


def test_level_is_the_mass_around_it():
    """Inner levels have both edges, outer ones one; far tails keep their digits; the stand-in is off by 1.79e-4."""
    normal = torch.distributions.Normal(torch.tensor(0.3, dtype=torch.float64), 0.01)
    x0 = torch.tensor([77, 170], dtype=torch.float64) / 127.5 - 1
    expected = normal.cdf(x0 + 1 / 255) - normal.cdf(x0 - 1 / 255)
    found = ddpm.chance_of_level(x0, torch.full_like(x0, 0.3), torch.tensor(0.01, dtype=torch.float64))
    torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=0)
    far = torch.tensor([0.3 + 0.08], dtype=torch.float64)  # 7.6 to 8.4 deviations above the mean
    inner, outer = (math.erfc(z / math.sqrt(2)) / 2 for z in (8 - 1 / 2.55, 8 + 1 / 2.55))
    found = ddpm.chance_of_level(far, torch.full_like(far, 0.3), torch.tensor(0.01, dtype=torch.float64))
    assert found.item() == pytest.approx(inner - outer, rel=1e-10, abs=0)
    z = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    gap = (ddpm.tanh_cdf(z) - torch.special.ndtr(z)).abs().max().item()
    assert gap == pytest.approx(1.79e-4, rel=3e-3)
    edge = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    found = ddpm.chance_of_level(edge, torch.full_like(edge, 0.9), torch.tensor(0.2, dtype=torch.float64))
    wide = torch.distributions.Normal(torch.tensor(0.9, dtype=torch.float64), 0.2)
    expected = [wide.cdf(edge[0] + 1 / 255).item(), 1 - wide.cdf(edge[1] - 1 / 255).item()]
    assert found.tolist() == pytest.approx(expected, rel=1e-10)


def test_impossible_levels_cost_what_the_code_says():
    """log max(P, 1e-12)."""
    x0 = torch.tensor([[0.5]], dtype=torch.float64)
    model = Predictor("mean", lambda x, _: torch.full_like(x, -0.5))
    first = torch.tensor([1e-3], dtype=torch.float64)
    for decoder in ("phi", "tanh"):
        found = ddpm.bound_loss(model, x0, first, torch.zeros_like(x0), process=CHAIN, decoder=decoder)
        assert found.item() == pytest.approx(-1000 * math.log(1e-12), rel=1e-12)


def test_prior_term_is_a_kl():
    """L_T = KL(N(alpha x0, sigma^2) || N(0, 1)), averaged over coordinates."""
    x0 = Philox(1, 3).normal("x0", torch.empty(3, 2, 2, dtype=torch.float64))
    chain = ddpm.chain("geometric")
    q = torch.distributions.Normal(chain.alpha(1.0) * x0, chain.sigma(1.0))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(x0), 1.0))
    torch.testing.assert_close(ddpm.prior_nats(x0, chain), kl.flatten(1).mean(1), rtol=1e-11, atol=0)


@pytest.mark.parametrize("large", [False, True])
def test_likelihood_of_a_gaussian_is_its_closed_bound(large):
    """Invariant 3 by the code that is shipped: the mean over N(0, .25) is the closed sum, within 5 SE."""
    c, n = 0.25, 4000
    draws = Philox(8, n)
    x0 = draws.normal("data", torch.empty(n, 1, dtype=torch.float64)) * math.sqrt(c)
    model = targets.exact(gaussian.isotropic(torch.zeros(1), c), CHAIN)
    found = -ddpm.log_prob(model, x0, process=CHAIN, draws=draws, large=large, decoder="density")
    assert abs(found.mean().item() - bound_of_a_gaussian(c, large)) <= 5 * found.std().item() / math.sqrt(n)


@pytest.mark.parametrize("large", [False, True])
def test_the_bound_on_ve_has_the_prior_that_samples_start_from(large):
    """Invariant 3 on ve-geo, whose prior is N(0, 50^2): the closed sum within 5 SE, with N(0, 1) 1,246 nats off."""
    path, c, n = process.named("ve-geo"), 0.25, 1000
    draws = Philox(9, n)
    x0 = draws.normal("data", torch.empty(n, 1, dtype=torch.float64)) * math.sqrt(c)
    model = targets.exact(gaussian.isotropic(torch.zeros(1), c), path)
    found = -ddpm.log_prob(model, x0, process=path, draws=draws, large=large, decoder="density")
    closed = bound_of_a_gaussian(c, large, path)
    assert abs(found.mean().item() - closed) <= 5 * found.std().item() / math.sqrt(n)
    end = 0.5 * (c / 50**2 - math.log1p(c / 50**2))  # KL(p_T || the prior), all that the exact variance leaves
    entropy = 0.5 * math.log(2 * math.pi * math.e * c)
    assert bound_of_a_gaussian(c, None, path) - entropy == pytest.approx(end, abs=1e-10)
    torch.testing.assert_close(ddpm.prior_nats(x0, path), x0[:, 0] ** 2 / (2 * 50**2), rtol=1e-9, atol=1e-12)


def test_likelihood_is_the_sum_of_its_terms():
    """Prior, chain and decoder, each with its own noise; parts of the chain add up; strided."""
    x0 = PIXELS[:2]
    model, draws = Predictor("mean", lambda x, t: 0.8 * x), Philox(6, 2)
    grid = ddpm.even_subsequence(5, CHAIN)
    total = ddpm.prior_nats(x0, CHAIN)
    for i in range(5):
        noise = draws.at(i).normal("step", x0)
        t, s = grid[i].item(), grid[i + 1].item()
        x = CHAIN.noised(x0, t, noise)
        if s > 0:
            kernel = ddpm.posterior(grid[i], grid[i + 1], CHAIN)
            total = total + (kernel.c_mean**2 * (0.8 * x - x0).square() / kernel.small).mean(1) / 2
        else:  # variance of the step above
            deviation = ddpm.posterior(grid[i - 1], grid[i], CHAIN).small.sqrt()
            total = total - ddpm.chance_of_level(x0, 0.8 * x, deviation).clamp(min=1e-12).log().mean(1)
    found = ddpm.log_prob(model, x0, process=CHAIN, draws=draws, steps=5)
    torch.testing.assert_close(found, -4 * total, rtol=1e-10, atol=0)
    parts = [
        ddpm.log_prob(model, x0, process=CHAIN, draws=draws, steps=5, low=low, high=high)
        for low, high in ((0.0, 0.1), (0.1, 0.75), (0.75, 1.0))
    ]
    torch.testing.assert_close(sum(parts), found, rtol=1e-12, atol=0)
    assert ddpm.bits(-found, (4,)).tolist() == pytest.approx((total / math.log(2)).tolist(), rel=1e-10)


def test_full_chain_of_the_likelihood_is_the_mean_of_the_loss():
    """T E_t[term] + L_T: the loss over all knots with the same noise."""
    x0, model, draws = PIXELS[:1], Predictor("mean", lambda x, t: 0.8 * x), Philox(6, 1)
    noise = torch.cat([draws.at(i).normal("step", x0) for i in range(1000)])
    t = torch.arange(1000, 0, -1, dtype=torch.float64) / 1000
    losses = ddpm.bound_loss(model, x0.expand(1000, 4), t, noise, process=CHAIN, large=True)
    found = ddpm.log_prob(model, x0, process=CHAIN, draws=draws, large=True)
    assert found.item() == pytest.approx(-4 * (losses.mean() + ddpm.prior_nats(x0, CHAIN)).item(), rel=1e-11)


def test_matched_variance_is_that_of_the_exact_kernel():
    """small + c_mean^2 mean(Var[x0|x_t]) on uneven variances in three dimensions, with one pullback per noisy step."""
    variances = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    model = targets.exact(gaussian.Gaussian("uneven", torch.zeros(3).double(), variances), CHAIN)
    grid, draws = torch.tensor([0.6, 0.3, 0.0], dtype=torch.float64), Philox(3, 2)
    x = torch.tensor([[0.3, -1.0, 0.2], [1.5, 0.1, -0.4]], dtype=torch.float64)
    row = ddpm.posterior(grid[:1], grid[1:2], CHAIN)
    step = ddpm.sample_matched(model, x, grid[:2], process=CHAIN, draws=draws)
    alpha, sigma = CHAIN.alpha(0.6), CHAIN.sigma(0.6)
    spread = (variances * sigma**2 / (alpha**2 * variances + sigma**2)).mean()
    deviation = (row.small + row.c_mean**2 * spread).sqrt()
    expected = row.c_mean * model(x, 0.6) + row.c_x * x + deviation * draws.at(0).normal("step", x)
    torch.testing.assert_close(step.x, expected, rtol=1e-11, atol=1e-11)
    card = CARDS["ho2020ddpm.ancestral_matched"]
    for times in (grid, grid[:2]):
        run = card.sample(model, x, times, process=CHAIN, draws=draws)
        assert (run.nfe, run.vjps) == (times.shape[0] - 1, 1) == (card.nfe(times), card.vjps(times))


def test_matched_variance_probes_with_signs_of_its_own():
    """A Jacobian with entries off the diagonal: z^T J z for signs z that the step's noise does not share, by hand."""
    jacobian = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
    x, draws = torch.tensor([[0.3, -1.0], [1.5, 0.1], [-0.2, 0.6]], dtype=torch.float64), Philox(3, 3)
    grid = torch.tensor([0.6, 0.3], dtype=torch.float64)
    found = ddpm.sample_matched(Predictor("mean", lambda y, t: y @ jacobian), x, grid, process=CHAIN, draws=draws).x
    row = ddpm.posterior(grid[:1], grid[1:], CHAIN)
    signs = draws.at(0).normal("signs", x).sign()
    slope = (signs @ jacobian * signs).mean(1, keepdim=True)
    deviation = (row.small + row.c_mean**2 * CHAIN.sigma(0.6) ** 2 / CHAIN.alpha(0.6) * slope).sqrt()
    noise = draws.at(0).normal("step", x)
    assert (signs.prod(1) != noise.sign().prod(1)).any()  # else their products say nothing of the tag
    expected = row.c_mean * (x @ jacobian) + row.c_x * x + deviation * noise
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_matched_variance_follows_a_graph():
    """A pullback keeps the graph of a state that carries one, and none otherwise; a constant has slope 0."""
    x = torch.tensor([[0.5]], dtype=torch.float64)
    meter = Meter(Predictor("mean", lambda y, t: y**3), 1)
    mean, pull = meter.vjp(x, 0.5)
    assert not mean.requires_grad and not pull(torch.ones_like(x)).requires_grad
    leaf = x.clone().requires_grad_()
    mean, pull = meter.vjp(leaf, 0.5)
    slope = torch.autograd.grad(pull(torch.ones_like(x)), leaf)[0]
    assert slope.item() == pytest.approx(6 * 0.5) and mean.requires_grad
    constant = Meter(Predictor("mean", lambda y, t: torch.zeros_like(y)), 1)
    assert constant.vjp(x, 0.5)[1](torch.ones_like(x)).item() == 0


def test_official_card_is_large_and_clipped():
    """fixedlarge with the mean held in [-1,1], the last step at the mean itself."""
    model = Predictor("mean", lambda x, t: 3 * x)
    grid, x = ddpm.even_subsequence(4, CHAIN), torch.tensor([[1.2], [-0.1]], dtype=torch.float64)
    found, expected = (
        card.sample(model, x, grid, process=CHAIN, draws=Philox(1, 2), **options)
        for card, options in (
            (CARDS["ho2020ddpm.official"], {}),
            (CARDS["ho2020ddpm.ancestral"], {"large": True, "clip": 1.0}),
        )
    )
    assert torch.equal(found.x, expected.x) and found.x.abs().max() <= 1
    free = CARDS["ho2020ddpm.ancestral_large"].sample(model, x, grid, process=CHAIN, draws=Philox(1, 2)).x
    assert (free - found.x).abs().max() > 0.5


def test_chains_of_other_lengths():
    """knots: times, kept knots and the step below a knot belong to a chain of that length."""
    short = ddpm.chain("linear", knots=10)
    assert ddpm.even_subsequence(4, short, knots=10).tolist() == pytest.approx([1.0, 0.7, 0.4, 0.1, 0.0])
    x0 = noise = torch.full((1, 1), 0.5, dtype=torch.float64)
    t, model = torch.tensor([0.4], dtype=torch.float64), Predictor("mean", lambda x, _: 0 * x)
    kernel = ddpm.posterior(t, t - 0.1, short)
    found = ddpm.bound_loss(model, x0, t, noise, process=short, knots=10)
    assert found.item() == pytest.approx(10 * (kernel.c_mean**2 * 0.25 / kernel.small / 2).item(), rel=1e-10)
    found = ddpm.simple_loss(model, x0, t, noise, process=short, predicted="previous", knots=10)
    assert found.item() == pytest.approx((kernel.c_mean * 0.5).item() ** 2, rel=1e-10)


def test_bad_options_are_refused():
    """One line each: the argument, its value, what was expected; before the model is evaluated."""

    def never(x, t):
        raise AssertionError("the model was evaluated")

    model, x0, t = Predictor("mean", never), PIXELS, AT
    for call, says in (
        (lambda: ddpm.simple_loss(model, x0, t, NOISE, process=CHAIN, predicted="v"), "predicted: 'v' is not known"),
        (lambda: ddpm.simple_loss(model, x0, t, NOISE, process=CHAIN, distance="l3"), "distance: 'l3' is not known"),
        (lambda: ddpm.net_as_mean(official_net, process=CHAIN, predicted="v"), "predicted: 'v' is not known"),
        (lambda: ddpm.bound_loss(model, x0, t, NOISE, process=CHAIN, decoder="erf"), "decoder: 'erf' is not known"),
        (lambda: ddpm.log_prob(model, x0, process=CHAIN, draws=Philox(0, 4), decoder="erf"), "decoder: 'erf'"),
        (lambda: ddpm.log_prob(model, x0, process=CHAIN, draws=Philox(0, 4), steps=1), "steps: 1, expected at least 2"),
        (lambda: ddpm.log_prob(model, x0, process=CHAIN, draws=Philox(0, 4), levels=1), "levels: 1, expected an"),
        (lambda: ddpm.log_prob(model, x0, process=CHAIN, draws=Philox(0, 4), levels=0), "levels: 0, expected an"),
        (lambda: ddpm.bound_loss(model, x0, t, NOISE, process=CHAIN, levels=1), "levels: 1, expected an integer >= 2"),
        (lambda: ddpm.simple_loss(model, x0, t, NOISE, process=CHAIN, distance="huber", width=-1), "width: -1, "),
        (lambda: ddpm.simple_loss(model, x0, t, NOISE, process=CHAIN, distance="huber", width=0), "width: 0, expected"),
        (lambda: ddpm.betas("linear", knots=2.5), "knots: 2.5, expected an integer >= 1"),
        (lambda: ddpm.chain("quadratic", knots=0), "knots: 0, expected an integer >= 1"),
        (lambda: ddpm.sample(model, x0, t, process=CHAIN, draws=Philox(0, 4), clip=0.0), "clip: 0.0, expected"),
        (lambda: ddpm.log_prob(model, x0, process=CHAIN, draws=Philox(0, 4), clip=-1.0), "clip: -1.0, expected"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
    with pytest.raises(grids.BadGrid, match="ve-edm at 80"):
        ddpm.log_prob(model, x0, process=process.named("ve-edm"), draws=Philox(0, 4))


@pytest.mark.parametrize("large", [False, True])
def test_bound_of_a_short_chain_is_the_sum_of_its_terms(large):
    """A chain of 100 knots is told by `knots`: the mean of its terms over all knots, as in `bound_loss`, and L_T."""
    path = process.named("discrete-linear-100")
    x0 = Philox(2, 40).normal("x", torch.empty(40, 1, dtype=torch.float64))
    model = targets.exact(targets.named("g3"), path)
    whole = -ddpm.log_prob(model, x0, process=path, draws=Philox(4, 40), steps=100, knots=100, large=large)
    terms = sum(
        ddpm.bound_loss(
            model, x0, torch.full((40,), i / 100, dtype=torch.float64), Philox(4, 40).at(100 - i).normal("step", x0),
            process=path, knots=100, large=large,
        )
        for i in range(1, 101)
    )  # fmt: skip
    assert (whole - terms / 100 - ddpm.prior_nats(x0, path)).abs().max() < 1e-10
    other = -ddpm.log_prob(model, x0, process=path, draws=Philox(4, 40), steps=100, large=large)
    assert (whole - other).abs().max() > 1e-3  # knots of another chain


def test_terms_are_asked_of_an_interval_of_times():
    path, x0 = process.named("discrete-linear"), torch.zeros(2, 1, dtype=torch.float64)
    model = targets.exact(targets.named("g3"), path)
    for low, high in ((math.nan, 1.0), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)):
        with pytest.raises(ValueError, match="0 <= low < high <= 1"):
            ddpm.log_prob(model, x0, process=path, draws=Philox(0, 2), low=low, high=high)
    for knots in (-1, 0, True, 10.0):
        with pytest.raises(ValueError, match="knots"):
            ddpm.bound_loss(model, x0, torch.full((2,), 0.5), x0, process=path, knots=knots)


def test_images_have_the_published_256_levels_unless_said():
    for function in (ddpm.chance_of_level, ddpm.term, ddpm.bound_loss, ddpm.log_prob):
        assert function.__kwdefaults__["levels"] == 256
