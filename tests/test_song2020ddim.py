"""song2020ddim: the numbered invariants of its card."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence, relative_variance_error
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.continuous import song2020ddim as ddim
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide, Predictor, expand

VP = process.named("vp-linear").between(0.05, 0.9)
CARD = catalogue.samplers()["song2020ddim.ddim"]
times = st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)).filter(lambda pair: pair[0] > pair[1] + 1e-3)


def gaussian(path, c: float, mu: float = 0.0) -> Predictor:
    def predict(x, t):
        alpha, sigma = expand(path.alpha(t), x), expand(path.sigma(t), x)
        return mu + alpha * c / (alpha**2 * c + sigma**2) * (x - alpha * mu)

    return Predictor("mean", predict)


@given(times, st.sampled_from(["vp-linear", "condot", "ve-edm", "cosine"]))
def test_eta_one_is_the_constant_mean_step_of_the_reverse_sde(pair, path):
    """Invariant 1: x_s = (sigma_s/sigma_t) e^{-h} x + alpha_s (1 - e^{-2h}) D + sigma_s sqrt(1 - e^{-2h}) z."""
    path = process.named(path)
    grid = torch.tensor(pair, dtype=torch.float64)
    row = ddim.plan(grid, path, eta=1.0)
    h = path.lam(pair[1]) - path.lam(pair[0])
    assert row.keep.item() == pytest.approx(path.sigma(pair[1]) / path.sigma(pair[0]) * math.exp(-h), rel=1e-12)
    assert row.pull.item() == pytest.approx(path.alpha(pair[1]) * -math.expm1(-2 * h), rel=1e-12)
    assert row.noise.item() == pytest.approx(path.sigma(pair[1]) * math.sqrt(-math.expm1(-2 * h)), rel=1e-12)


@given(times, st.floats(0, 1))
def test_every_eta_keeps_the_marginals_of_the_oracle(pair, eta):
    """Invariant 2: with D = x0, the step maps N(alpha_t x0, sigma_t^2) to N(alpha_s x0, sigma_s^2)."""
    row = ddim.plan(torch.tensor(pair, dtype=torch.float64), VP, eta=eta)
    t, s = pair
    assert row.keep.item() * VP.alpha(t) + row.pull.item() == pytest.approx(VP.alpha(s), rel=1e-12)
    assert row.keep.item() ** 2 * VP.sigma(t) ** 2 + row.noise.item() ** 2 == pytest.approx(VP.sigma(s) ** 2, rel=1e-12)


@given(times)
def test_eta_is_the_paper_s_formula(pair):
    """Equation 16: sigma = eta sqrt((1 - a_s)/(1 - a_t)) sqrt(1 - a_t/a_s) with a the paper's alpha (our alpha^2)."""
    t, s = pair
    a_t, a_s = VP.alpha(t) ** 2, VP.alpha(s) ** 2
    row = ddim.plan(torch.tensor(pair, dtype=torch.float64), VP, eta=0.4)
    expected = 0.4 * math.sqrt((1 - a_s) / (1 - a_t)) * math.sqrt(1 - a_t / a_s)
    assert row.noise.item() == pytest.approx(expected, rel=1e-11)


@given(times, st.floats(0, 4), st.floats(-1, 1))
def test_gaussian_data_is_multiplied_by_the_closed_factor(pair, c, mu):
    """Invariant 4, and its consequence that the variance is never too large."""
    t, s = pair
    grid = torch.tensor(pair, dtype=torch.float64)
    x = torch.tensor([[1.7]], dtype=torch.float64)
    found = ddim.sample(gaussian(VP, c, mu), x, grid, process=VP, draws=Silence()).x.item()
    v_t, v_s = (VP.alpha(q) ** 2 * c + VP.sigma(q) ** 2 for q in (t, s))
    factor = (VP.alpha(t) * VP.alpha(s) * c + VP.sigma(t) * VP.sigma(s)) / v_t
    assert found == pytest.approx(VP.alpha(s) * mu + factor * (1.7 - VP.alpha(t) * mu), rel=1e-12, abs=1e-12)
    assert factor <= math.sqrt(v_s / v_t) * (1 + 1e-14)


def test_variance_errors_of_the_card():
    """Invariant 4: -0.28 at 8 steps and -0.010 at 256 for c = .25 on vp-linear .9 -> .05, lam grid."""
    found = [relative_variance_error(CARD, VP, grids.uniform_lam(steps, VP), 0.25) for steps in (8, 256)]
    assert found == pytest.approx([-0.28, -0.010], rel=0.03)


@given(times, st.sampled_from(["vp-linear", "condot", "ve-edm", "cosine"]))
def test_deterministic_step_is_euler_on_the_rho_ode(pair, name):
    """Invariant 3: d(x/alpha)/d rho = e, so x_s/alpha_s = x_t/alpha_t + (rho_s - rho_t) e; on two paths Euler in t."""
    path, (t, s) = process.named(name), pair
    x = torch.tensor([[1.7], [-0.2]], dtype=torch.float64)
    e = (x - path.alpha(t) * exact_model(path)(x, t)) / path.sigma(t)
    grid = torch.tensor(pair, dtype=torch.float64)
    found = ddim.sample(exact_model(path), x, grid, process=path, draws=Silence()).x
    expected = path.alpha(s) * (x / path.alpha(t) + (path.rho(s) - path.rho(t)) * e)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    if name in ("ve-edm", "condot"):
        euler = catalogue.samplers()["lipman2022fm.euler"]
        same = euler.sample(exact_model(path), x, grid, process=path, draws=Silence()).x
        torch.testing.assert_close(found, same, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_sampler_is_equation_twelve(eta):
    """Two steps and the landing, in the paper's letters, with the noise of each step at its own address."""
    a, model, draws = [VP.alpha(t) ** 2 for t in (0.9, 0.5, 0.2)], exact_model(VP), Philox(4, 2)
    x = start = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    for i, t in enumerate((0.9, 0.5)):
        e = (x - math.sqrt(a[i]) * model(x, t)) / math.sqrt(1 - a[i])
        s = eta * math.sqrt((1 - a[i + 1]) / (1 - a[i])) * math.sqrt(1 - a[i] / a[i + 1])
        x = math.sqrt(a[i + 1]) * (x - math.sqrt(1 - a[i]) * e) / math.sqrt(a[i]) + math.sqrt(1 - a[i + 1] - s**2) * e
        x = x + s * draws.at(i).normal("step", x)
    grid = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    found = ddim.sample(model, start, grid, process=VP, draws=draws, eta=eta).x
    torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-11)


@given(times, st.sampled_from(["vp-linear", "condot", "ve-edm"]))
def test_inversion_is_equation_fourteen(pair, name):
    """x_t/alpha_t = x_s/alpha_s + (rho_t - rho_s) e(x_s, s): the rho-ODE's Euler step upwards, evaluated at s."""
    path, (t, s) = process.named(name), pair
    x = torch.tensor([[1.7], [-0.2]], dtype=torch.float64)
    e = (x - path.alpha(s) * exact_model(path)(x, s)) / path.sigma(s)
    found = ddim.invert(exact_model(path), x, torch.tensor(pair, dtype=torch.float64), process=path, draws=Silence()).x
    expected = path.alpha(t) * (x / path.alpha(s) + (path.rho(t) - path.rho(s)) * e)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def round_trip_error(steps: int, model: Predictor) -> float:
    grid = grids.uniform_lam(steps, VP)
    spread = math.sqrt(1.2 * VP.alpha(0.05) ** 2 + VP.sigma(0.05) ** 2)  # the starts of toolkit T1, at the data end
    x = spread * torch.linspace(-2.2, 2.2, 9, dtype=torch.float64)[:, None]
    up = ddim.invert(model, x, grid, process=VP, draws=Silence()).x
    back = ddim.sample(model, up, grid, process=VP, draws=Silence()).x
    return (back - x).abs().max().item()


def test_round_trip_error_falls_as_one_over_steps():
    """Invariant 5 at the card's steps, 64 to 512 on G3, and an exact round trip of a point mass."""
    errors = [round_trip_error(steps, exact_model(VP)) for steps in (64, 128, 256, 512)]
    slopes = [math.log2(errors[i] / errors[i + 1]) for i in range(3)]
    assert slopes[0] > 0.6 and slopes[1:] == pytest.approx([1.0, 1.0], abs=0.15)
    assert round_trip_error(16, Predictor("mean", lambda x, t: torch.full_like(x, 0.4))) < 1e-12


def test_round_trip_is_inversion_and_then_the_sampler():
    """Section 5.4, from the image as it is; 2 N evaluations, upward ones first."""
    card, grid = catalogue.samplers()["song2020ddim.round_trip"], grids.uniform_lam(6, VP)
    image = torch.tensor([[1.7], [-0.2], [0.6]], dtype=torch.float64)
    aids, like = {"guide": Guide(image)}, torch.zeros(3, 1, dtype=torch.float64)
    x = card.start(Philox(0, 3), like, grid, VP, aids)
    assert torch.equal(x, image) and x.data_ptr() != image.data_ptr()
    up = ddim.invert(exact_model(VP), x, grid, process=VP, draws=Silence())
    down = ddim.sample(exact_model(VP), up.x, grid, process=VP, draws=Silence())
    found = card.sample(exact_model(VP), x, grid, process=VP, draws=Silence(), **aids)
    assert torch.equal(found.x, down.x) and found.nfe == up.nfe + down.nfe == card.nfe(grid) == 12


@pytest.mark.parametrize("id", ["song2020ddim.inversion", "song2020ddim.round_trip"])
def test_inversion_refuses_a_clean_end(id):
    grid, x = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    card, aids = catalogue.samplers()[id], {"guide": Guide(x)} if id.endswith("round_trip") else {}

    def never(x, t):
        raise AssertionError("the model was evaluated")

    with pytest.raises(grids.BadGrid, match="sigma = 0"):
        card.sample(Predictor("mean", never), x, grid, process=process.named("condot"), draws=Silence(), **aids)


def test_subsequences_are_the_published_indices():
    """The lists of runners/diffusion.py, as training indices (our t is (index + 1)/1000)."""
    chain = process.named("discrete-linear")

    def indices(grid):
        return (1000 * grid[:-1] - 1).round().long().flip(0).tolist()

    assert indices(ddim.uniform_subsequence(10, chain)) == list(range(0, 1000, 100))
    assert indices(ddim.quadratic_subsequence(10, chain)) == [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]
    assert indices(ddim.quadratic_subsequence(16, chain))[-4:] == [511, 600, 696, 800]  # int() of numpy's rounding
    assert indices(ddim.uniform_subsequence(3, chain)) == [0, 333, 666]  # the official list goes on to 999
    assert indices(ddim.uniform_subsequence(7, chain)) == [0, 142, 285, 428, 571, 714, 857]  # official: 0, 142, .., 994
    assert indices(ddim.uniform_subsequence(1, chain)) == indices(ddim.quadratic_subsequence(1, chain)) == [0]
    assert indices(CARD.grid(10, chain)) == list(range(0, 1000, 100)) and CARD.grid(10, chain)[-1] == 0
    quadratic = catalogue.samplers()["song2020ddim.quadratic"]
    assert torch.equal(quadratic.grid(10, chain), ddim.quadratic_subsequence(10, chain))
    assert indices(ddim.uniform_subsequence(1000, chain)) == list(range(1000))
    assert len(indices(ddim.quadratic_subsequence(29, chain))) == 29
    for steps in range(1, 1001):
        found = indices(ddim.uniform_subsequence(steps, chain))
        assert found == [1000 * i // steps for i in range(steps)]
        assert found[-1] >= 999 - 1000 // steps  # at most an interval below the chain's end
        assert 1000 % steps or found == list(range(0, 1000, 1000 // steps))
    for bad in (0, 1001, 2.5):
        with pytest.raises(grids.BadGrid, match=r"1\.\.1000"):
            ddim.uniform_subsequence(bad, chain)
    with pytest.raises(grids.BadGrid, match="ve-edm starts at 80"):
        ddim.uniform_subsequence(10, process.named("ve-edm"))
    for bad in (0, 1001, 2.5):
        with pytest.raises(grids.BadGrid, match=r"1\.\.1000"):
            ddim.quadratic_subsequence(bad, chain)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_more_quadratic_steps_are_the_official_list_without_its_repeats(eta):
    """runners/diffusion.py as numpy makes it; a step from an index to itself moves nothing, by equation 12 in letters.

    So the official loop over the whole list ends where the shorter grid does, with the noise that the real steps had.
    """
    chain, model = process.named("discrete-linear"), exact_model(process.named("discrete-linear"))
    for steps, count in ((30, 29), (50, 49), (54, 53), (100, 96), (1000, 688)):  # at 54 the last place is not rounded
        listed = [int(place) for place in np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2]
        grid = ddim.quadratic_subsequence(steps, chain)
        assert (1000 * grid[:-1] - 1).round().long().flip(0).tolist() == sorted(set(listed))
        assert len(grid) - 1 == count == CARD.nfe(grid)
    steps, draws = 50, Philox(6, 2)
    listed = [int(place) for place in np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2]
    x = start = torch.tensor([[0.4], [-1.2]], dtype=torch.float64)
    taken = 0
    for i, j in zip(reversed(listed), [*reversed(listed[:-1]), -1], strict=True):
        a_t, a_s = (1.0 if k < 0 else chain.alpha((k + 1) / 1000) ** 2 for k in (i, j))
        x0 = model(x, (i + 1) / 1000)
        e = (x - math.sqrt(a_t) * x0) / math.sqrt(1 - a_t)
        v = eta * math.sqrt((1 - a_t / a_s) * (1 - a_s) / (1 - a_t))
        x = math.sqrt(a_s) * x0 + math.sqrt(1 - a_s - v**2) * e + v * draws.at(taken).normal("step", x)
        taken += i != j
    grid = ddim.quadratic_subsequence(steps, chain)
    found = ddim.sample(model, start, grid, process=chain, draws=draws, eta=eta)
    torch.testing.assert_close(found.x, x, rtol=1e-10, atol=1e-10)
    assert found.nfe == taken == 49


def test_more_steps_of_the_default_grid_are_better():
    """Appendix D.2: from N(0, 1) the transport distance to data N(.8, .05) falls in steps that do and do not divide T.

    What is left at 1,000 of the mean's error is alpha .8 at the chain's end, which N(0, 1) lacks, times the factor.
    """
    chain, mu, c, found = process.named("discrete-linear"), 0.8, 0.05, {}
    for steps in (10, 29, 100, 250, 334, 400, 501, 600, 1000):
        x, times = torch.tensor([[0.0], [1.0]], dtype=torch.float64), ddim.uniform_subsequence(steps, chain)
        low, high = ddim.sample(gaussian(chain, c, mu), x, times, process=chain, draws=Silence()).x[:, 0].tolist()
        found[steps] = low - mu, high - low - math.sqrt(c)  # the map is affine: errors of the mean and the deviation
    errors = [math.hypot(*each) for each in found.values()]
    assert all(fine < coarse for coarse, fine in zip(errors, errors[1:], strict=False)), errors
    for steps in (334, 400, 501, 600):  # -.0186, -.0070, -.0515, -.0289 where the list begins at index 666, .., 599
        assert found[steps][0] == pytest.approx(found[1000][0], rel=0.02)


@pytest.mark.parametrize(
    ("grid", "index", "signal"),
    [(ddim.uniform_subsequence, 900, 2.70e-4), (ddim.quadratic_subsequence, 800, 1.51e-3)],
)
def test_ten_official_steps_start_from_noise_that_is_none_yet(grid, index, signal):
    """Pitfall of the card: index 900 or 800 of 999, where abar is not 0; on N(1, .01) the mean ends too low.

    With x ~ N(0, 1) for N(alpha, 1 - .99 alpha^2) at the start, the end is off by alpha times the sampler's factor.
    """
    chain = process.named("discrete-linear")
    times = grid(10, chain)
    assert times[0].item() == pytest.approx((index + 1) / 1000)
    assert chain.alpha(times[0].item()) ** 2 == pytest.approx(signal, rel=5e-3)  # three digits printed
    a, e = chain.alpha(times).tolist(), chain.sigma(times).tolist()
    factor = math.prod((a[i + 1] * a[i] * 0.01 + e[i + 1] * e[i]) / (a[i] ** 2 * 0.01 + e[i] ** 2) for i in range(10))
    ends = [
        ddim.sample(gaussian(chain, 0.01, 1.0), torch.tensor([[x]], dtype=torch.float64), times, process=chain,
                    draws=Silence()).x.item()
        for x in (a[0], 0.0)
    ]  # fmt: skip
    assert ends == pytest.approx([1.0, 1.0 - factor * a[0]], rel=1e-12)


def test_no_noise_is_the_default():
    """main.py: eta 0; and nothing is clipped."""
    grid, x = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float64), torch.tensor([[9.0]], dtype=torch.float64)
    rows = ddim.plan(grid, VP, eta=0.0, sigma_hat=False)
    assert all(torch.equal(*pair) for pair in zip(ddim.plan(grid, VP), rows, strict=True))
    found = ddim.sample(Predictor("mean", lambda x, t: x), x, grid, process=VP, draws=Philox(0, 1)).x
    torch.testing.assert_close(found, (rows.keep + rows.pull).prod() * x, rtol=1e-13, atol=0)


def test_eta_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"eta: 1.5, expected a number in \[0, 1\]"):
        ddim.plan(torch.tensor([0.9, 0.1], dtype=torch.float64), VP, eta=1.5)


@given(times)
def test_sigma_hat_is_the_paper_s_formula(pair):
    """Section 5.1: noise sqrt(1 - a_t/a_s) with the mean of eta = 1, a the paper's alpha (our alpha^2)."""
    grid = torch.tensor(pair, dtype=torch.float64)
    row, small = ddim.plan(grid, VP, eta=1.0, sigma_hat=True), ddim.plan(grid, VP, eta=1.0)
    a_t, a_s = (VP.alpha(q) ** 2 for q in pair)
    assert row.noise.item() == pytest.approx(math.sqrt(1 - a_t / a_s), rel=1e-11)
    assert row.keep == small.keep and row.pull == small.pull


def test_ddpm_noisy_is_sigma_hat_with_clip():
    """functions/denoising.py, ddpm_steps: two intervals in its letters, x0 clipped to [-1, 1], no noise in the last."""
    chain, draws = process.named("discrete-linear"), Philox(4, 2)
    model = Predictor("mean", lambda x, t: 2 * torch.tanh(3 * x))
    x = start = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    grid = torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64)
    for i, (t, s) in enumerate(((0.9, 0.4), (0.4, 0.0))):
        at, before = chain.alpha(t) ** 2, chain.alpha(s) ** 2
        beta = 1 - at / before
        x0 = model(x, t).clamp(-1, 1)
        x = (math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * x) / (1 - at)
        x = x + math.sqrt(beta) * draws.at(i).normal("step", x) * (s > 0)
    found = ddim.sample(model, start, grid, process=chain, draws=draws, eta=1.0, sigma_hat=True, clip=1.0).x
    torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-11)
    free = ddim.sample(model, start, grid, process=chain, draws=draws, eta=1.0, sigma_hat=True).x
    assert (found - free).abs().max() > 0.1 and free.abs().max() > 1  # without clip the last mean is beyond 1
    with pytest.raises(ValueError, match="clip: -1.0, expected a number >= 0"):
        ddim.sample(model, start, grid, process=chain, draws=draws, clip=-1.0)


def test_lands_on_the_mean_at_clean_data():
    """Equation 12 at sigma_s = 0, for every eta, from pure noise too (lam = -inf)."""
    path = process.named("condot")
    grid = torch.tensor([1.0, 0.0], dtype=torch.float64)
    x = torch.randn(4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for eta in (0.0, 0.5, 1.0):
        end = ddim.sample(exact_model(path), x, grid, process=path, draws=Philox(0, 4), eta=eta).x
        expected = targets.named("g3").mean(x, 0.0, 1.0)
        torch.testing.assert_close(end, expected, rtol=1e-14, atol=1e-14)
