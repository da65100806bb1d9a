"""CODE: the published loop written out, the confidence bound, the round trip, the correction's stationary law."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import checkpoints
from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from reference_impls import targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide, Predictor, expand
from reference_impls.editing import vandelft2025code as paper
from reference_impls.targets.atoms import digits

F64 = dict(dtype=torch.float64)
CHAIN = processes.named("discrete-linear")
CODE, OFFICIAL = paper.PAPER.samplers
ABAR = (1 - torch.linspace(1e-4, 0.02, 1000, **F64)).cumprod(0)
EXACT = exact_model(CHAIN)
MODEL = Predictor("mean", lambda x, t: EXACT(x, t) + 0.2 * x.roll(1, -1))  # lets every coordinate see its neighbour
ALL = dict(
    confidence=1.7, stop=0, bound_at_index=False, climb=False, threshold=False, corrected=1, deepest=0, shallowest=20,
    above=0, epsilon=1.15e-5, rounds=4, steps=200, shrink=0.8, closing=True, printed_sign=False,
)  # fmt: skip
ROUND_TRIP = dict(steps=0, closing=False, confidence=math.inf)


def normals(tag, *shape):
    return Philox(7, shape[0]).normal(tag, torch.empty(*shape, **F64))


def gaussian(path, c, mu=0.0):
    def predict(x, t):
        alpha, sigma = expand(path.alpha(t), x), expand(path.sigma(t), x)
        return mu + alpha * c / (alpha**2 * c + sigma**2) * (x - alpha * mu)

    return Predictor("mean", predict)


def edited(x, grid, *, model=MODEL, process=CHAIN, draws=None, **options):
    return CODE.sample(model, x, grid, process=process, draws=draws or Silence(), guide=Guide(x), **options)


def phi(z):
    return math.erf(z / math.sqrt(2)) / 2 + 0.5


@pytest.mark.parametrize("threshold", [False, True])
@pytest.mark.parametrize("at_index", [False, True])
@pytest.mark.parametrize("end", ["lowest", "climb", "clean"])
def test_sampler_is_the_published_loop(threshold, at_index, end):
    """30 levels of the chain, latents 25 and 10 corrected on the way down from the top, in the code's letters."""
    n, spacing, eps0, N, K = 30, 5, 3e-3, 7, 3
    index = [spacing * j for j in range(n)]
    draws = Philox(3, 4)
    x = start = 1.5 * normals("image", 4, 3)
    row = 0

    def eps(x, j, cut):
        mean = MODEL(x, (index[j] + 1) / 1000)
        if cut:
            s = torch.quantile(mean.abs(), 0.98, dim=1, keepdim=True).clamp(1, 1.3)
            mean = torch.clamp(mean, -s, s) / s
        return (x - ABAR[index[j]].sqrt() * mean) / (1 - ABAR[index[j]]).sqrt()

    def ddim(x, j, to):
        e = eps(x, j, threshold)
        x0 = (x - (1 - ABAR[index[j]]).sqrt() * e) / ABAR[index[j]].sqrt()
        abar = ABAR[index[to]] if to >= 0 else torch.ones((), **F64)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * e

    for j in range(n - 1):
        if j > 0:
            abar = ABAR[j if at_index else index[j]]
            bound = (abar.sqrt() + 1.2 * (1 - abar).sqrt()).item()
            x = x.clamp(-bound, bound)
        x, row = ddim(x, j, j + 1), row + 1
    for j in range(n - 1, -1, -1):
        if j in (25, 10):
            e = eps0 * 100 ** ((n - 1 - j) / (n - 1))
            for _ in range(K):
                for _ in range(N // K):
                    score = -eps(x, j, threshold) / (1 - ABAR[index[j]]).sqrt()
                    x = x + e * score + math.sqrt(2 * e) * draws.at(row).normal("step", x)
                    row += 1
                x, row = x - e * eps(x, j, False) / (1 - ABAR[index[j]]).sqrt(), row + 1
                e = e * 0.8
        if j or end != "lowest":
            x, row = ddim(x, j, j - 1 if j else 1 if end == "climb" else -1), row + 1

    grid = (torch.tensor(index, **F64).flip(0) + 1) / 1000
    grid = torch.cat([grid, torch.zeros(1, **F64)]) if end == "clean" else grid
    run = edited(
        start, grid, draws=draws, steps=N, rounds=K, epsilon=eps0, corrected=2, deepest=25, shallowest=10,
        confidence=1.2, bound_at_index=at_index, threshold=threshold, climb=end == "climb",
    )  # fmt: skip
    torch.testing.assert_close(run.x, x, rtol=1e-10, atol=1e-10)
    assert run.nfe == row == 2 * 29 + 2 * 3 * (2 + 1) + (end != "lowest")


def test_official_card_is_the_notebook_for_latent_200():
    """ddim_step and editing_with_ode of CODE.ipynb, run in float64 from our start (their casts to float32 taken out).

    gmm-64, image .5 Philox(1, 3), all draws Philox(2, 3): levels 0 .. 198 of 200, latents 198 and 20, 250 steps each.
    """
    image, draws = 0.5 * Philox(1, 3).normal("g", torch.empty(3, 1, 8, 8, **F64)), Philox(2, 3)
    grid = OFFICIAL.grid(198, CHAIN)
    assert torch.equal(grid, CODE.grid(199, CHAIN)[1:])
    x = OFFICIAL.start(draws, image, grid, CHAIN, {"guide": Guide(image)})
    model = targets.exact(targets.named("gmm-64"), CHAIN)
    run = OFFICIAL.sample(model, x, grid, process=CHAIN, draws=draws, guide=Guide(image))
    official = (10.826210273067598, 0.23438390993730396, -0.4305378265965023)
    assert (run.x.sum().item(), run.x[0, 0, 0, 0].item(), run.x[2, 0, 7, 7].item()) == pytest.approx(official, rel=1e-9)
    assert run.nfe == OFFICIAL.nfe(grid) == 2 * 198 + 2 * (4 * 62 + 4) + 1 == 901


def test_bound_of_the_code_is_far_too_tight():
    """Correction to the card, from a run of the official file: j = 50 of 200 levels, 1.280 instead of 1.898."""
    grid = CODE.grid(199, CHAIN)
    right, coded = (paper.plan(grid, CHAIN, **{**ALL, "bound_at_index": b}).bound for b in (False, True))
    assert (right[50].item(), coded[50].item()) == pytest.approx((1.898, 1.280), abs=5e-4)
    assert right[0] == coded[0] == math.inf and (coded[1:100] < right[1:100]).all()
    assert torch.isinf(right[199:]).all()  # only encoding is clipped
    later = paper.plan(grid, CHAIN, **{**ALL, "stop": 3}).bound
    assert torch.isinf(later[:4]).all() and torch.equal(later[4:], right[4:])


@given(st.floats(0.001, 0.999), st.floats(0.1, 3), st.floats(-1, 1))
def test_bound_holds_with_the_confidence_s_probability(t, confidence, x0):
    """Invariant 1: per pixel; the least probability is at |x0| = 1 and has its closed form."""
    alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
    bound = paper.confidence_bound(torch.tensor(t, **F64), CHAIN, confidence).item()

    def inside(x0):
        return phi((bound - alpha * x0) / sigma) - phi((-bound - alpha * x0) / sigma)

    assert inside(x0) >= inside(1.0) - 1e-12
    assert inside(1.0) >= phi(confidence) - phi(-confidence) - 1e-12
    assert inside(1.0) == pytest.approx(phi(confidence + 2 * alpha / sigma) - phi(-confidence), abs=1e-12)


def test_bound_s_probabilities_of_the_card():
    found = [phi(1.7 + 2 * math.sqrt(a / (1 - a))) - phi(-1.7) for a in (0.9, 0.1)]
    assert found == pytest.approx([0.9554, 0.9465], abs=1e-4)
    assert phi(1.7) - phi(-1.7) == pytest.approx(0.9109, abs=1e-4)
    for abar, expected in zip((0.9, 0.1), found, strict=True):
        path = processes.Process("one level", lambda t, a=abar: 0.5 * math.log(a) + 0 * t,
                                 lambda t, a=abar: (1 - a) ** 0.5 + 0 * t, 0.0, 1.0)  # fmt: skip
        bound = paper.confidence_bound(torch.tensor(0.5, **F64), path, 1.7).item()
        z = math.sqrt(1 - abar)
        assert phi((bound - math.sqrt(abar)) / z) - phi((-bound - math.sqrt(abar)) / z) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["discrete-linear", "vp-linear", "ve-edm", "condot"])
def test_round_trip_of_a_point_mass_is_exact(name):
    path = processes.named(name)
    path = path.between(0.02 * path.t_max, 0.9 * path.t_max)
    point = Predictor("mean", lambda x, t: torch.full_like(x, 0.4))
    x = normals("x", 5, 2)
    for steps in (1, 3, 10):
        back = edited(x, grids.uniform_t(steps, path), model=point, process=path, **ROUND_TRIP).x
        torch.testing.assert_close(back, x, rtol=1e-11, atol=1e-11)


def test_round_trip_of_gaussian_data_is_first_order():
    """Invariants 2 and 4: the error halves with the step, for a contracting and an expanding coordinate."""
    path, x = processes.named("vp-linear").between(1e-3, 0.999), torch.ones(1, 1, **F64)
    for c in (0.25, 4.0):
        errors = [
            abs(
                edited(x, grids.uniform_lam(steps, path), model=gaussian(path, c), process=path, **ROUND_TRIP).x.item()
                - 1
            )
            for steps in (160, 320, 640)
        ]
        assert errors[2] < 0.1
        assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], abs=0.2)


def test_latent_tends_to_the_exact_flow():
    """Invariant 3: the first state that decoding sees is sqrt(v_L/v_0) x, to first order in the step."""
    path, x = processes.named("vp-linear").between(1e-3, 0.8), torch.ones(1, 1, **F64)
    v_0, v_L = (path.alpha(t) ** 2 * 0.25 + path.sigma(t) ** 2 for t in (1e-3, 0.8))
    errors = []
    for steps in (200, 400):
        seen = []
        model = gaussian(path, 0.25)
        spy = Predictor("mean", lambda x, t, seen=seen, model=model: seen.append((t, x.clone())) or model(x, t))
        edited(x, grids.uniform_lam(steps, path), model=spy, process=path, **ROUND_TRIP)
        t, latent = seen[steps]
        assert t == pytest.approx(0.8)
        errors.append(latent.item() - math.sqrt(v_L / v_0))
    assert abs(errors[1]) < 0.02 and errors[0] / errors[1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize(("level", "c", "epsilon"), [(0.2, 0.5, 0.3), (0.6, 3.0, 1.2), (0.996, 1.0, 1.15e-5)])
def test_correction_has_its_stationary_variance(level, c, epsilon, printed):
    """Invariant 5: v/(1 - e/(2v)) for the update with noise; with algorithm 1's minus the latent runs away."""
    rows = paper.langevin(
        torch.tensor(level, **F64), CHAIN, epsilon, steps=8, rounds=2, shrink=0.8, closing=True, threshold=False,
        printed_sign=printed,
    )  # fmt: skip
    alpha, sigma = CHAIN.alpha(level), CHAIN.sigma(level)
    v = alpha**2 * c + sigma**2
    factor = 1 + rows.grow + rows.pull * alpha * c / v
    if printed:
        assert factor[0].item() == pytest.approx(1 + epsilon / v, rel=1e-12) and (factor > 1).all()
        return
    for k in range(2):
        e, first = epsilon * 0.8**k, 5 * k
        stationary = rows.noise[first] ** 2 / (1 - factor[first] ** 2)
        assert stationary.item() == pytest.approx(v / (1 - e / (2 * v)), rel=1e-9)
        assert factor[first].item() == pytest.approx(1 - e / v, rel=1e-12)
        assert (rows.noise[first : first + 5] > 0).tolist() == [True] * 4 + [False]
        assert factor[first + 4] == factor[first]


def test_long_correction_forgets_the_image():
    """Invariant 5: the slope of the end in the image falls as (1 - e/v)^N and is near 1 without steps."""
    path = processes.named("vp-linear").between(1e-3, 0.9)
    grid, one = grids.uniform_lam(400, path), torch.ones(1, 1, **F64)
    options = dict(
        model=gaussian(path, 1.0), process=path, confidence=math.inf, epsilon=0.01, closing=False, shrink=1.0
    )
    slopes = [edited(one, grid, steps=N, **options).x.item() for N in (0, 100, 1000)]
    assert slopes[0] == pytest.approx(1, abs=0.02)  # c = 1 on VP: v = 1
    assert [slope / slopes[0] for slope in slopes[1:]] == pytest.approx([0.99**100, 0.99**1000], rel=1e-9)


def test_a_round_of_one_step_evaluates_and_does_not_move():
    grid, x = CODE.grid(12, CHAIN), normals("x", 3, 2)
    idle, none = (edited(x, grid, draws=Philox(1, 3), steps=N, rounds=4) for N in (7, 0))
    assert torch.equal(idle.x, none.x) and idle.nfe == none.nfe + 4
    moving = edited(x, grid, draws=Philox(1, 3), steps=8, rounds=4)
    assert not torch.equal(moving.x, none.x) and moving.nfe == none.nfe + 8


def test_infinite_confidence_is_no_clipping():
    grid, x = CODE.grid(12, CHAIN), 1.5 * normals("x", 3, 2)
    ends = [edited(x, grid, steps=0, confidence=c).x for c in (math.inf, 1e12, 1.0)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_climbing_ends_one_level_up():
    """Correction to the card: decoding goes on at index 0 to index 1; a point mass shows the level it ends at."""
    point = Predictor("mean", lambda x, t: torch.full_like(x, 0.4))
    x, grid = normals("x", 3, 2), CODE.grid(10, CHAIN)
    run = edited(x, grid, model=point, climb=True, **ROUND_TRIP)
    t_0, t_1 = grid[-1].item(), grid[-2].item()
    expected = CHAIN.alpha(t_1) * 0.4 + CHAIN.sigma(t_1) / CHAIN.sigma(t_0) * (x - CHAIN.alpha(t_0) * 0.4)
    torch.testing.assert_close(run.x, expected, rtol=1e-11, atol=1e-11)
    clean = edited(x, torch.cat([grid, torch.zeros(1, **F64)]), model=point, **ROUND_TRIP)
    torch.testing.assert_close(clean.x, torch.full_like(x, 0.4), rtol=1e-11, atol=1e-11)
    assert (run.nfe, clean.nfe) == (21, 21)


def test_inversion_returns_what_its_denoiser_knows():
    """A digit off the 897 atoms of an exact denoiser does not come back from 200 levels, a network's image does.

    Off the atoms the noise prediction is the distance over sigma, at the lowest level 29 times what noise could be.
    RMS of the return per digit: .01, the noise of the start, on atoms; above .3 off them; the network's below .05.
    """
    known, other = (digits(part)[0][:3] for part in ("train", "held_out"))
    exact, net = targets.exact(targets.named("digits"), CHAIN), checkpoints.model("digits-simple", process=CHAIN)
    grid = CODE.grid(199, CHAIN)

    def errors(image, model):
        x = CODE.start(Philox(0, len(image)), image, grid, CHAIN, {"guide": Guide(image)})
        return (edited(x, grid, model=model, **ROUND_TRIP).x - image).flatten(1).square().mean(1).sqrt()

    found = errors(torch.cat([known, other]), exact)
    assert found[:3].max() < 0.02
    assert found[3:].min() > 0.3
    assert errors(other, net).max() < 0.05


def test_thresholding_is_per_sample():
    """The quantile within [1, 1.3]: below 1 plain clipping to 1, above 1.3 clipped and scaled."""
    mean = torch.tensor([[0.5, -0.2, 0.9], [2.0, -1.4, 0.3], [1.1, 1.1, -1.1]], **F64).reshape(3, 3, 1)
    expected = [[0.5, -0.2, 0.9], [1.0, -1.0, 0.3 / 1.3], [1.0, 1.0, -1.0]]
    torch.testing.assert_close(paper.thresholded(mean).flatten(1), torch.tensor(expected, **F64))
    torch.testing.assert_close(paper.thresholded(mean[1:2]), paper.thresholded(mean)[1:2])
    assert paper.thresholded(mean[:0]).shape == (0, 3, 1)


def test_latents_and_their_step_sizes():
    """The notebook: index 198 and 20 of 200; a lone latent, a shallow grid: the top alone. 100^((n-1-j)/(n-1))."""
    assert paper.corrections(199, 2, 0, 20) == [198, 20]
    assert paper.corrections(199, 1, 0, 20) == [198] and paper.corrections(22, 2, 0, 20) == [21]
    assert paper.corrections(200, 3, 0, 20) == [199, 109, 20]  # 109.5 is cut
    assert paper.corrections(200, 3, 0, 0) == [199, 99, 0]
    assert paper.corrections(23, 2, 0, 20) == [22, 20] and paper.corrections(200, 3, 198, 20) == [198, 109, 20]
    grid = CODE.grid(199, CHAIN)[1:]
    rows = paper.plan(grid, CHAIN, **{**ALL, "corrected": 2, "above": 1, "steps": 250})
    drift = -rows.grow * CHAIN.sigma(rows.t) ** 2
    first = drift[198], drift[198 + 252 + 178]
    assert first[0].item() == pytest.approx(1.15e-5 * 100 ** (1 / 199), rel=1e-6)
    assert first[1].item() == pytest.approx(1.15e-5 * 100 ** (179 / 199), rel=1e-6)
    assert rows.t[198 + 252 + 178].item() == pytest.approx(0.101)


def test_start_and_grid_are_the_code_s():
    grid = CODE.grid(199, CHAIN)
    torch.testing.assert_close(grid, (torch.arange(995, -1, -5, **F64) + 1) / 1000, rtol=0, atol=1e-15)
    assert CODE.nfe(grid) == 2 * 199 + 204 and CODE.nfe(torch.tensor([0.5, 0.1, 0.0], **F64)) == 2 + 204 + 1
    image = normals("image", 4, 2)
    x = CODE.start(Philox(2, 4), image, grid, CHAIN, {"guide": Guide(image)})
    z = Philox(2, 4).normal("start", image)
    torch.testing.assert_close(x, math.sqrt(1 - 1e-4) * image + 0.01 * z, rtol=1e-12, atol=1e-12)
    again = edited(image, grid[-5:], draws=Philox(2, 4), renoise=0.01, steps=0)
    noisier = edited(image + 0.01 * Philox(2, 4).normal("again", image), grid[-5:], steps=0)
    torch.testing.assert_close(again.x, noisier.x, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "^rounds: 0, expected a whole number from 1, of one"),
        ({"rounds": 2.0}, "^rounds: 2.0, expected a whole number from 1"),
        ({"steps": -1}, "^steps: -1, expected a whole number from 0, the noisy"),
        ({"steps": 2.5}, "^steps: 2.5, expected a whole number from 0"),
        ({"steps": 3}, "^steps: 3, expected 0 or rounds = 4 at least"),
        ({"confidence": -1.0}, "^confidence: -1.0, expected a number from 0, standard"),
        ({"confidence": math.nan}, "^confidence: nan, expected a number from 0"),
        ({"epsilon": -1.0}, "^epsilon: -1.0, expected a number from 0, the step size, finite"),
        ({"epsilon": math.nan}, "^epsilon: nan, expected"),
        ({"epsilon": math.inf}, "^epsilon: inf, expected"),
        ({"shrink": -1.0}, "^shrink: -1.0, expected a number from 0, what the"),
        ({"shrink": math.nan}, "^shrink: nan, expected"),
        ({"renoise": -1.0}, "^renoise: -1.0, expected a number from 0, the standard"),
        ({"renoise": math.nan}, "^renoise: nan, expected"),
        ({"stop": -1}, "^stop: -1, expected a whole number from 0, the last"),
        ({"shallowest": -1}, "^shallowest: -1, expected a whole number from 0"),
        ({"deepest": 9}, "^deepest: 9, expected the index of one of 9 levels"),
        ({"deepest": -1}, "^deepest: -1, expected a whole number from 0"),
        ({"corrected": 0}, "^corrected: 0, expected a whole number from 1"),
        ({"above": -1}, "^above: -1, expected a whole number from 0, levels"),
    ],
)
def test_bad_options_are_refused_before_the_first_evaluation(options, said):
    silent = Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    with pytest.raises(ValueError, match=said):
        edited(normals("x", 2, 1), CODE.grid(8, CHAIN), model=silent, **options)


def test_the_limits_of_the_options_are_allowed():
    """Two levels, one round, no step size, no confidence: as without a correction; steps may be as few as rounds."""
    x, grid = normals("x", 3, 2), CODE.grid(1, CHAIN)
    still = edited(x, grid, steps=2, rounds=1, epsilon=0.0, confidence=0.0, climb=True)
    assert torch.equal(still.x, edited(x, grid, climb=True, **ROUND_TRIP).x) and still.nfe == 6
    one_each = edited(x, grid, draws=Philox(1, 3), steps=4, rounds=4, shrink=0.0, confidence=math.inf)
    assert one_each.nfe == 2 + 4 + 4


def test_bad_grids_are_refused_before_the_first_evaluation():
    silent = Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    for grid, said, options in (
        (torch.tensor([0.5, 0.0], **F64), "expected two", {"climb": True}),
        (torch.tensor([0.1, 0.5], **F64), "not strictly decreasing", {}),
    ):
        with pytest.raises(grids.BadGrid, match=said):
            edited(normals("x", 2, 1), grid, model=silent, **options)
    silent_end = processes.named("condot").between(0.1, 0.9)
    flat = processes.Process("flat", silent_end.log_alpha, lambda t: (t - 0.1).clamp(min=0), 0.1, 0.9)
    with pytest.raises(grids.BadGrid, match="sigma = 0"):
        edited(normals("x", 2, 1), grids.uniform_t(4, flat), model=silent, process=flat)
