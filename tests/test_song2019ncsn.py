"""song2019ncsn: the numbered invariants of its card, its two step sizes and what its code returns."""

import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.impulses import output_law
from reference_impls import catalogue, targets
from reference_impls.continuous import song2019ncsn as ncsn
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, expand
from reference_impls.targets.mixtures import Mixture

VE = process.named("ve-edm").between(0.01, 20.0)
G3 = targets.named("g3")


def level(sigma: float) -> torch.Tensor:
    """The grid of one level."""
    return torch.tensor([20.0, sigma], dtype=torch.float64)


def gaussian(variance: float, mean: float = 0.0) -> Predictor:
    def predict(x, t):
        return mean + variance / (variance + expand(t, x) ** 2) * (x - mean)

    return Predictor("mean", predict)


@pytest.mark.parametrize("sigma", [1.0, 0.2])
def test_least_loss_is_the_fisher_gap(sigma):
    """Invariant 1: with the exact score the loss is sigma^2/2 (d/sigma^2 - E|score|^2), here by quadrature over x."""
    path = process.ve_geo(sigma_min=0.01, sigma_max=sigma)  # at t = 1
    atoms = torch.tensor([-1.5, -0.4, 0.1, 0.9, 1.3, 2.0], dtype=torch.float64)[:, None]
    x0, x = torch.broadcast_tensors(atoms, torch.linspace(-12, 12, 8001, dtype=torch.float64)[None])
    density = torch.exp(-((x - x0) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi) * 6)
    share = torch.softmax(-((x - x0) ** 2) / (2 * sigma**2), 0)
    mean = (share * x0).sum(0)
    exact = Predictor("mean", lambda y, t: mean.expand(6, -1).reshape(-1, 1))
    t = torch.ones(x.numel(), dtype=torch.float64)
    each = ncsn.loss(exact, x0.reshape(-1, 1), t, ((x - x0) / sigma).reshape(-1, 1), process=path).reshape(x.shape)
    found = torch.trapezoid((density * each).sum(0), x[0])
    score = (mean - x[0]) / sigma**2
    expected = sigma**2 / 2 * (1 / sigma**2 - torch.trapezoid(density.sum(0) * score**2, x[0]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize(("power", "name"), [(2.0, "ve-geo"), (1.0, "ve-geo"), (2.0, "vp-linear")])
def test_loss_is_the_published_one(power, name):
    """sigma^power/2 |s + (x - alpha x0)/sigma^2|^2 summed over the sample, with s from a mean by Tweedie's formula."""
    path = process.named(name)
    x0, noise = (Philox(3, 3).normal(tag, torch.empty(3, 2, 2, dtype=torch.float64)) for tag in ("x0", "noise"))
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    found = ncsn.loss(Predictor("mean", lambda x, _: 0.3 * x), x0, t, noise, process=path, power=power)
    for i, at in enumerate(t.tolist()):
        alpha, sigma = path.alpha(at), path.sigma(at)
        x = alpha * x0[i] + sigma * noise[i]
        score = (alpha * 0.3 * x - x) / sigma**2
        expected = sigma**power / 2 * (score + (x - alpha * x0[i]) / sigma**2).square().sum().item()
        assert found[i].item() == pytest.approx(expected, rel=1e-11)
    assert ncsn.loss.__kwdefaults__["power"] == 2.0
    assert ncsn.plan.__kwdefaults__["inner"] == ncsn.sample.__kwdefaults__["inner"] == 100


def test_levels_are_the_published_ones():
    """Ten from 1 to .01, geometric, in training as in sampling; a training time is one of them, all equally likely."""
    path = ncsn.unit_levels()
    expected = torch.exp(torch.linspace(0, math.log(0.01), 10, dtype=torch.float64))
    card = catalogue.samplers()["song2019ncsn.langevin"]
    torch.testing.assert_close(path.sigma(card.grid(10, path)[1:]), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(path.sigma(ncsn.level_times(path)), expected, rtol=1e-12, atol=0)
    u = (torch.arange(10, dtype=torch.float64) + 0.5) / 10
    torch.testing.assert_close(ncsn.uniform_levels(u, path), ncsn.level_times(path), rtol=0, atol=0)
    ends = ncsn.uniform_levels(torch.tensor([1e-12, 1 - 1e-12]), path)
    assert ends.tolist() == ncsn.level_times(path)[[0, 9]].tolist()
    four = ncsn.unit_levels(4)
    assert four.sigma(card.grid(4, four)).tolist()[1:] == pytest.approx([1, 0.01 ** (1 / 3), 0.01 ** (2 / 3), 0.01])
    seen = []
    model = Predictor("mean", lambda x, t: seen.append(t) or x)
    card.sample(model, torch.zeros(1, 1), card.grid(10, path), process=path, draws=Silence(), inner=1)
    assert path.sigma(torch.tensor(seen)).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize(("id", "form"), [("langevin", "paper"), ("langevin_code", "code")])
def test_two_levels_are_the_published_updates(id, form):
    """Algorithm 1 with eps = 2e-5, and the image sampler's with the same number, by hand, sigma_L = .01."""
    sigmas, x = (0.06, 0.01), torch.tensor([[0.3], [0.8]], dtype=torch.float64)
    grid, draws = torch.tensor([1.0, *sigmas], dtype=torch.float64), Philox(4, 2)
    model = gaussian(0.04, 0.5)
    card = catalogue.samplers()[f"song2019ncsn.{id}"]
    found = card.sample(model, x, grid, process=VE, draws=draws, inner=3)
    for i, sigma in enumerate(sigmas):
        step = 2e-5 * (sigma / 0.01) ** 2
        for k in range(3):
            score, z = (model(x, sigma) - x) / sigma**2, draws.at(i, k).normal("langevin", x)
            x = x + step / 2 * score + step**0.5 * z if form == "paper" else x + step * score + (2 * step) ** 0.5 * z
    torch.testing.assert_close(found.x, x, rtol=1e-12, atol=1e-12)
    assert found.nfe == 6
    assert card.nfe(grid) == 200 and card.sample(model, x, grid, process=VE, draws=draws).nfe == 200


def test_an_update_where_the_signal_shrinks_has_the_score_of_that_path():
    """x + d s + sqrt(2 d) z with s = (alpha D - x)/sigma^2, here on VP, by hand."""
    path, x, draws = process.named("vp-linear"), torch.tensor([[0.3], [0.8]], dtype=torch.float64), Philox(4, 2)
    model, d = targets.exact(G3, path), 0.1 * path.sigma(0.4) ** 2
    score = (path.alpha(0.4) * model(x, 0.4) - x) / path.sigma(0.4) ** 2
    expected = x + d * score + (2 * d) ** 0.5 * draws.at(0, 0).normal("langevin", x)
    grid = torch.tensor([0.9, 0.4], dtype=torch.float64)
    found = ncsn.sample(model, x, grid, process=path, draws=draws, inner=1).x
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_variance_follows_the_closed_recursion(rate):
    """Invariant 2: var <- (1 - d/v)^2 var + 2 d, at every length, from a variance that is not its own."""
    sigma, data = 0.5, 0.15
    v, d = data + sigma**2, rate * sigma**2
    variance = 3.0
    for inner in range(1, 8):
        variance = (1 - d / v) ** 2 * variance + 2 * d
        found = output_law(
            lambda x, draws, inner=inner: (
                ncsn.sample(gaussian(data), x, level(sigma), process=VE, draws=draws, rate=rate, inner=inner).x
            ),
            0.0,
            3.0,
        )
        assert found[1] == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize(("rate", "inflation"), [(0.1, 1.0526316), (0.2, 1.1111111)])
def test_stationary_variance_at_both_rates(rate, inflation):
    """Invariant 2: v/(1 - d/(2v)) where the data are a point, so that d/v is the rate."""
    run = output_law(
        lambda x, draws: ncsn.sample(
            gaussian(0.0), x, level(0.5), process=VE, draws=draws, rate=rate, inner=100
        ).x, 0.0, 0.25,
    )  # fmt: skip
    assert run[1] / 0.25 == pytest.approx(inflation, abs=1e-7)


def test_bias_is_of_first_order_and_the_chain_diverges_at_two():
    """Invariant 3: halving d halves the bias; d just below 2 v settles and just above does not."""

    def variance(rate, inner):
        options = dict(process=VE, rate=rate, inner=inner)
        run = output_law(lambda x, z: ncsn.sample(gaussian(0.0), x, level(0.5), draws=z, **options).x, 0.0, 0.25)
        return run[1] / 0.25

    slopes = [math.log2((variance(2 * r, 2000) - 1) / (variance(r, 2000) - 1)) for r in (0.02, 0.01)]
    assert slopes == pytest.approx([1.0, 1.0], abs=0.02)
    assert variance(1.9, 400) == pytest.approx(1 / (1 - 1.9 / 2), rel=1e-6)
    assert variance(2.1, 200) > 1e6


def test_annealing_finds_the_weights_of_far_modes():
    """Invariant 4: one level keeps the halves it starts with, annealing has .2 and .8 within binomial bounds.

    Modes 14 apart, noise from 20 down; n = 1,000, tail 1e-6 (4.89 standard deviations).
    """
    modes = Mixture(
        "two", torch.tensor([0.2, 0.8], dtype=torch.float64), torch.tensor([[-5.0, -5.0], [5.0, 5.0]]).double(),
        0.01 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2),
    )  # fmt: skip
    path = process.named("ve-edm").between(1.0, 20.0)
    model, n = targets.exact(modes, path), 1000
    x = 8 * (2 * Philox(0, n).uniform("start", (n, 2)) - 1)  # off the support, as in the paper's figure 3
    shares = []
    for steps, inner in ((10, 50), (1, 500)):
        grid = grids.uniform_lam(steps, path)
        run = ncsn.sample(model, x, grid, process=path, draws=Philox(1, n), inner=inner)
        assert run.nfe == 500
        shares.append((run.x.sum(1) > 0).double().mean().item())
    bound = 4.8916 * math.sqrt(0.16 / n)
    assert abs(shares[0] - 0.8) <= bound
    assert abs(shares[1] - 0.5) <= 4.8916 * math.sqrt(0.25 / n) and abs(shares[1] - 0.8) > bound


def test_without_noise_it_climbs_and_rests_at_the_top():
    """Invariant 5: gradient ascent on log p_sigma; at a zero of the score it does not move (1e-15)."""
    x, height = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], []
    for inner in (1, 2, 4, 8, 400):
        end = ncsn.sample(targets.exact(G3, VE), x, level(0.6), process=VE, draws=Silence(), inner=inner).x
        height.append(G3.log_prob(end, 1.0, 0.6))
    assert all((b > a).all() for a, b in zip(height, height[1:-1], strict=False))
    still = torch.full((3, 1), 0.7, dtype=torch.float64)
    found = ncsn.sample(gaussian(0.3, 0.7), still, level(0.6), process=VE, draws=Silence()).x
    torch.testing.assert_close(found, still, rtol=0, atol=1e-15)


def test_the_code_returns_the_state_before_its_last_update_clamped():
    """Corrections of the card; the last state is not computed, so it costs one evaluation less."""
    x, grid = (
        torch.tensor([[0.3], [1.8], [-0.9]], dtype=torch.float64),
        torch.tensor([1.0, 0.4, 0.1], dtype=torch.float64),
    )
    model, options = targets.exact(G3, VE), dict(process=VE, rate=0.2)
    found = ncsn.sample(model, x, grid, draws=Philox(2, 3), inner=4, as_returned=True, **options)
    first = ncsn.sample(model, x, grid[:2], draws=Philox(2, 3), inner=4, **options).x
    state = first
    for k in range(3):
        score, z = (model(state, 0.1) - state) / 0.01, Philox(2, 3).at(1, k).normal("langevin", x)
        state = state + 0.002 * score + 0.004**0.5 * z
    assert (state < 0).any() and (state > 1).any() and ((state > 0) & (state < 1)).any()
    torch.testing.assert_close(found.x, state.clamp(0, 1), rtol=1e-12, atol=1e-12)
    assert found.nfe == 7


@pytest.mark.parametrize("name", ["ve-edm", "vp-linear"])
def test_denoising_is_one_tweedie_step(name):
    """x + sigma_L^2 s, on a path with alpha < 1 too; one evaluation more."""
    path = process.named(name).between(0.1, 0.9)
    x, grid = torch.tensor([[0.3], [0.8]], dtype=torch.float64), torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    model = targets.exact(G3, path)
    plain, clean = (
        ncsn.sample(model, x, grid, process=path, draws=Philox(2, 2), inner=3, denoise=each) for each in (False, True)
    )
    score = (path.alpha(0.1) * model(plain.x, 0.1) - plain.x) / path.sigma(0.1) ** 2
    torch.testing.assert_close(clean.x, plain.x + path.sigma(0.1) ** 2 * score, rtol=1e-12, atol=1e-12)
    assert clean.nfe == plain.nfe + 1


def test_large_states_draw_their_noise_in_pieces(monkeypatch):
    x, grid = torch.ones(2, 3, dtype=torch.float64), torch.tensor([1.0, 0.4, 0.1], dtype=torch.float64)
    ends = []
    for size in (ncsn.CHUNK_BYTES, 100, 1):
        monkeypatch.setattr(ncsn, "CHUNK_BYTES", size)
        ends.append(ncsn.sample(gaussian(0.3), x, grid, process=VE, draws=Philox(2, 2), inner=5).x)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


def test_starts_uniform_on_the_unit_interval():
    like = torch.empty(4000, 2, dtype=torch.float64)
    card = catalogue.samplers()["song2019ncsn.langevin"]
    x = card.start(Philox(0, 4000), like, grids.uniform_t(3, VE), VE, {})
    assert torch.equal(x, Philox(0, 4000).uniform("start", (4000, 2)))
    assert 0 < x.min() < 0.001 and 0.999 < x.max() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate: 0.0, expected a number > 0"),
        ({"rate": math.inf}, "rate: inf, expected a number > 0"),
        ({"inner": 0}, "inner: 0, expected an integer >= 1"),
        ({"inner": 2.5}, "inner: 2.5, expected an integer >= 1"),
        ({"denoise": True, "as_returned": True}, "denoise, as_returned: both True"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    x = torch.zeros(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        ncsn.sample(None, x, level(0.1), process=VE, draws=Silence(), **options)


def test_the_paper_s_levels_are_two_at_least():
    for levels in (1, 0, -3, 2.5):
        with pytest.raises(ValueError, match=f"levels: {levels}, expected an integer >= 2"):
            ncsn.unit_levels(levels)


def test_a_level_without_noise_is_refused_before_anything_is_evaluated():
    path = process.named("condot")
    grid, x = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    with pytest.raises(grids.BadGrid, match="grid: ends at 0, where sigma = 0"):
        ncsn.sample(Predictor("mean", lambda *_: 1 / 0), x, grid, process=path, draws=Silence())
