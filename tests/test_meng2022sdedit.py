"""SDEdit: the published loop written out, the edit's law on Gaussian data, the refiner, bad input."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from benchmarks.laws.impulses import output_law
from reference_impls import catalogue, targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide, Predictor
from reference_impls.editing import meng2022sdedit as paper

F64 = dict(dtype=torch.float64)
CHAIN = processes.named("discrete-linear")
SDE, ODE, OFFICIAL = paper.PAPER.samplers
EXPERTS = paper.PAPER.transforms[0].apply
EXACT = exact_model(CHAIN)
MODEL = Predictor("mean", lambda x, t: EXACT(x, t) + 0.2 * x.roll(1, -1))  # lets every coordinate see its neighbour


def normals(tag, *shape):
    return Philox(7, shape[0]).normal(tag, torch.empty(*shape, **F64))


def knots(first, last=0):
    return torch.arange(first, last - 1, -1, **F64) / 1000


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("lag", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_sampler_is_the_published_loop(large, lag, masked):
    """Two repetitions of 12 steps with the code's arrays, index i our t = (i+1)/1000; `lag` is its level."""
    betas = torch.linspace(1e-4, 0.02, 1000, **F64)
    abar = (1 - betas).cumprod(0)
    before = torch.cat([torch.ones(1, **F64), abar[:-1]])
    beta_tilde = betas * (1 - before) / (1 - abar)
    k, draws, guide = 12, Philox(3, 4), 0.8 * normals("guide", 4, 3)
    known = torch.tensor([True, False, False]) if masked else torch.zeros(3, dtype=torch.bool)

    x0 = guide.clone()
    for repetition in range(2):
        e = draws.at(k).normal("start", guide) if repetition else normals("e", 4, 3)
        x = abar[k - 1].sqrt() * x0 + (1 - abar[k - 1]).sqrt() * e
        for j, i in enumerate(range(k - 1, -1, -1)):
            eps = (x - abar[i].sqrt() * MODEL(x, (i + 1) / 1000)) / (1 - abar[i]).sqrt()
            step = (x - betas[i] / (1 - abar[i]).sqrt() * eps) / (1 - betas[i]).sqrt()
            if i > 0:
                variance = betas[i] if large else beta_tilde[i]
                step = step + variance.sqrt() * draws.at(repetition * k + j).normal("step", x)
            level = abar[i] if lag else before[i]
            x = torch.where(known, level.sqrt() * guide + (1 - level).sqrt() * e, step)
        x0 = torch.where(known, guide, x)

    start = CHAIN.noised(guide, k / 1000, normals("e", 4, 3))
    found = SDE.sample(
        MODEL, start, knots(k), process=CHAIN, draws=draws, guide=Guide(guide, known if masked else None),
        repetitions=2, lag=lag, large=large,
    )  # fmt: skip
    torch.testing.assert_close(found.x, x, rtol=1e-11, atol=1e-11)
    assert found.nfe == 2 * k


@pytest.mark.parametrize(
    ("large", "masked", "official"),
    [  # image_editing_sample's loop in float64 (its `extract` casts to float32), gmm-64, k = 40, three passes: guide
       # .5 Philox(1, 3), first e Philox(5, 3), the rest Philox(2, 3)
        (False, True, (13.43768774189836, 0.10291139903284607, -0.9093736842838274)),
        (False, False, (13.347601079223066, 0.5334327613604553, -0.24711293779929194)),
        (True, True, (13.43335847699112, 0.10291139903284607, -0.9093736842838274)),
        (True, False, (13.358366306050696, 0.5254875131575175, -0.24603100438473968)),
    ],
)  # fmt: skip
def test_official_numbers(large, masked, official):
    like = torch.empty(3, 1, 8, 8, **F64)
    guide, e = 0.5 * Philox(1, 3).normal("g", like), Philox(5, 3).normal("e", like)
    known = torch.arange(64).reshape(1, 8, 8) % 3 == 0 if masked else None
    model = targets.exact(targets.named("gmm-64"), CHAIN)
    run = OFFICIAL.sample(
        model, CHAIN.noised(guide, 0.04, e), knots(40), process=CHAIN, draws=Philox(2, 3), guide=Guide(guide, known),
        large=large,
    )  # fmt: skip
    x = run.x
    assert (x.sum().item(), x[0, 0, 0, 0].item(), x[2, 0, 7, 7].item()) == pytest.approx(official, rel=1e-10)
    assert run.nfe == 120


@pytest.mark.parametrize("card", [SDE, ODE], ids=lambda card: card.id)
@pytest.mark.parametrize("shape", [(3,), (4, 3)], ids=["one mask", "a mask for each row"])
def test_known_pixels_end_as_the_guide_bit_for_bit(card, shape):
    guide, known = normals("guide", 4, 3), normals("mask", 4, 3)[: shape[0] if len(shape) > 1 else 1].reshape(shape) > 0
    aids = {"guide": Guide(guide, known)}
    grid = card.grid(9, CHAIN)
    x = card.start(Philox(1, 4), guide, grid, CHAIN, aids)
    end = card.sample(MODEL, x, grid, process=CHAIN, draws=Philox(1, 4), **aids).x
    keep = known.expand_as(guide)
    assert torch.equal(end[keep], guide[keep]) and (end[~keep] != guide[~keep]).all()
    again = card.sample(MODEL, x, grid, process=CHAIN, draws=Philox(1, 4), **aids, repetitions=2).x
    assert torch.equal(again[keep], guide[keep]) and (again[~keep] != end[~keep]).all()


def test_the_code_returns_known_pixels_one_level_up():
    """Correction to the card: x holds sqrt(abar_0) g + sqrt(1 - abar_0) e there, e that of the last repetition."""
    guide, known = normals("guide", 4, 3), torch.tensor([True, True, False])
    x = CHAIN.noised(guide, 0.009, normals("e", 4, 3))
    run = OFFICIAL.sample(MODEL, x, knots(9), process=CHAIN, draws=Philox(1, 4), guide=Guide(guide, known))
    e = Philox(1, 4).at(18).normal("start", x)
    expected = math.sqrt(1 - 1e-4) * guide + 0.01 * e
    torch.testing.assert_close(run.x[:, :2], expected[:, :2], rtol=1e-12, atol=1e-12)
    assert run.nfe == 27


def edited(card, level, c, steps=512):
    """(slope in the guide, variance) of the end on N(0, c) data, ve-edm from `level` to level/1e4, by impulses."""
    path = processes.named("ve-edm").between(1e-4 * level, level)
    grid = grids.uniform_lam(steps, path)
    model = Predictor("mean", lambda x, t: c / (c + t**2) * x)

    def go(x, draws):
        guide = Guide(torch.zeros_like(x))
        return card.sample(model, x, grid, process=path, draws=draws, guide=guide).x

    one = card.start(Silence(), torch.ones(1, 1, **F64), grid, path, {"guide": Guide(torch.ones(1, 1, **F64))})
    slope = go(one, Silence()).item() - go(torch.zeros_like(one), Silence()).item()
    return slope, output_law(go, mean=0.0, variance=level**2)[1]


@pytest.mark.parametrize(("level", "c"), [(0.5, 1.0), (2.0, 0.25), (1.0, 4.0)])
def test_edit_of_gaussian_data_has_its_closed_law(level, c):
    """First-order steps: the gap halves with the step, and its extrapolation to no step is the closed form."""
    k = math.sqrt(c / (c + level**2))
    laws = ((ODE, k, k**2 * level**2), (SDE, k**2, k**4 * level**2 + k**2 * level**2))
    for card, slope, variance in laws:
        coarse, fine = edited(card, level, c, 256), edited(card, level, c, 512)
        for j, exact in enumerate((slope, variance)):
            assert 2 * fine[j] - coarse[j] == pytest.approx(exact, rel=2e-3)
            if abs(coarse[j] - exact) > 1e-4 * exact:  # the SDE's slope is exact up to the end of the grid
                assert (coarse[j] - exact) / (fine[j] - exact) == pytest.approx(2, abs=0.15)


def test_no_noise_returns_the_guide_and_much_noise_forgets_it():
    assert edited(ODE, 1e-3, 1.0)[0] == pytest.approx(1, abs=1e-5)
    assert edited(SDE, 1e-3, 1.0)[1] == pytest.approx(2e-6, rel=0.02)
    for card in (ODE, SDE):
        slope, variance = edited(card, 300.0, 1.0, 1024)
        assert abs(slope) < 0.004 and variance == pytest.approx(1, abs=0.02)


@given(st.integers(1, 8), st.floats(-1, 1))
def test_without_a_known_region_the_image_is_not_looked_at(steps, value):
    x, grid = normals("x", 3, 2), SDE.grid(steps, CHAIN)
    ends = [
        card.sample(MODEL, x, grid, process=CHAIN, draws=Philox(1, 3), guide=Guide(torch.full_like(x, value))).x
        for card in (SDE, catalogue.samplers()["meng2022sdedit.sde"])
    ]
    plain = catalogue.samplers()["ho2020ddpm.ancestral"].sample(MODEL, x, grid, process=CHAIN, draws=Philox(1, 3)).x
    assert torch.equal(ends[0], ends[1])
    torch.testing.assert_close(ends[0], plain, rtol=1e-12, atol=1e-12)


def test_an_end_above_clean_data_becomes_a_guide_over_its_alpha():
    """Point mass, no noise: the second repetition starts from alpha_t0 times the point, so it ends where it should."""
    path = processes.named("vp-linear").between(0.2, 0.6)
    point = Predictor("mean", lambda x, t: torch.full_like(x, 0.7))
    x = torch.full((1, 1), path.alpha(0.6) * 0.7, **F64)
    grid = grids.uniform_t(5, path)
    end = ODE.sample(point, x, grid, process=path, draws=Silence(), guide=Guide(x), repetitions=3).x
    assert end.item() == pytest.approx(0.7 * path.alpha(0.2), rel=1e-12)


def test_a_state_stays_in_its_precision_beside_a_guide_of_another():
    guide, known = normals("guide", 4, 3), torch.tensor([True, False, True])
    x = CHAIN.noised(guide, 0.009, normals("e", 4, 3)).float()
    run = SDE.sample(MODEL, x, knots(9), process=CHAIN, draws=Philox(1, 4), guide=Guide(guide, known))
    assert run.x.dtype == torch.float32 and torch.equal(run.x[:, known], guide.float()[:, known])


def test_start_is_the_noised_guide():
    guide, grid = normals("guide", 5, 2, 2), SDE.grid(10, CHAIN)
    x = SDE.start(Philox(4, 5), guide.float(), grid, CHAIN, {"guide": Guide(guide)})
    abar = (1 - torch.linspace(1e-4, 0.02, 1000, **F64)).cumprod(0)[499]
    expected = abar.sqrt() * guide + (1 - abar).sqrt() * Philox(4, 5).normal("start", guide)
    assert x.dtype == torch.float32 and torch.allclose(x.double(), expected, rtol=0, atol=1e-6)


def test_grid_of_the_readme_and_img2img_tails():
    """--t 500: the knots 500, 499, .., 0. int(50 x .3) = 15 evaluations at strength .3, one at least."""
    torch.testing.assert_close(SDE.grid(500, CHAIN), knots(500), rtol=0, atol=1e-15)
    whole = grids.uniform_lam(50, processes.named("vp-linear"))
    edm = processes.named("ve-edm")
    torch.testing.assert_close(SDE.grid(4, edm)[0].item(), 40.0)  # half of t_max on any path
    for strength, steps in ((0.02, 1), (0.3, 15), (0.8, 40), (0.99, 49), (1.0, 50)):
        part = paper.tail(whole, strength)
        assert part.shape[0] - 1 == steps and torch.equal(part, whole[-1 - steps :])
    for bad in (0.0, 0.01, 0.0199, 1.2):
        with pytest.raises(ValueError, match="strength"):
            paper.tail(whole, bad)


def two_experts():
    calls = []

    def expert(name, shift):
        def predict(x, t):
            calls.append((name, t))
            return MODEL(x, t) + shift

        return Predictor("mean", predict)

    return expert("base", 0.0), expert("refiner", 1.0), calls


def test_refiner_has_the_least_noisy_fifth_of_the_grid():
    """SDXL: the base runs training indices 999 .. 200, our t > .2, the refiner 199 .. 0; one evaluation each."""
    base, refiner, calls = two_experts()
    both = EXPERTS(base, refiner, process=CHAIN)
    x, grid = normals("x", 3, 1), torch.arange(1000, -1, -100, **F64) / 1000
    run = ODE.sample(both, x, grid, process=CHAIN, draws=Silence(), guide=Guide(x))
    assert [name for name, _ in calls] == ["base"] * 8 + ["refiner"] * 2 and run.nfe == 10
    halves = ODE.sample(base, x, grid[:9], process=CHAIN, draws=Silence(), guide=Guide(x)).x
    handed = ODE.sample(refiner, halves, grid[8:], process=CHAIN, draws=Silence(), guide=Guide(x)).x
    assert torch.equal(run.x, handed)  # denoising_end of one, denoising_start of the other


def test_refiner_of_the_base_is_the_base_bit_for_bit():
    x, t = normals("x", 6, 1), torch.tensor([0.9, 0.2, 0.21, 0.05, 0.2, 1.0], **F64)
    same = EXPERTS(MODEL, MODEL, process=CHAIN)
    assert torch.equal(same(x, 0.2), MODEL(x, 0.2)) and torch.equal(same(x, t), MODEL(x, t))
    base, refiner, calls = two_experts()
    found = EXPERTS(base, refiner, process=CHAIN)(x, t)
    assert torch.equal(found - MODEL(x, t) > 0.5, (t <= 0.2)[:, None])
    assert sum(times.shape[0] for _, times in calls) == 6
    for t, share, added in ((1.0, 0.0, 1), (0.0, 1.0, 1), (0.5, 1.0, 0), (0.9, 0.1, 1)):  # 1 - .9 rounds to below .1
        found = EXPERTS(base, refiner, process=CHAIN, share=share)
        assert torch.equal(found(x, t), (refiner if added else base)(x, t))
        assert torch.equal(found(x, torch.tensor(t, **F64)), (refiner if added else base)(x, t))
    path = processes.named("ve-edm").between(2.0, 12.0)
    assert (
        EXPERTS(base, refiner, process=path, share=0.5)(x, 7.0).mean()
        > EXPERTS(base, refiner, process=path)(x, 7.0).mean()
    )
    with pytest.raises(ValueError, match="share: 1.5"):
        EXPERTS(base, refiner, process=CHAIN, share=1.5)


def test_distance_bound_misses_the_noise_of_the_way_up():
    """Score 0 in 64 dimensions, p = .05: the bound with one s0^2 of noise fails, with two and (a + b)^2 it holds."""
    path = processes.named("ve-edm").between(1e-3, 1.0)
    grid = grids.uniform_lam(256, path)
    guide = torch.zeros(400, 64, **F64)
    unbounded = Predictor("mean", lambda x, t: x)  # D = x: score 0, C = 0
    x = SDE.start(Philox(2, 400), guide, grid, path, {"guide": Guide(guide)})
    end = SDE.sample(unbounded, x, grid, process=path, draws=Philox(2, 400), guide=Guide(guide)).x
    u = math.log(1 / 0.05)
    chi = 64 + 2 * math.sqrt(64 * u) + 2 * u
    distance = end.square().sum(1)
    assert (distance <= chi).double().mean() < 0.5
    assert (distance <= 2 * chi).double().mean() > 0.95


def test_official_card_is_the_repository_s_setting():
    options = inspect.signature(OFFICIAL.sample).parameters
    assert options["repetitions"].default == 3 and options["lag"].default is True and options["large"].default is False
    assert (OFFICIAL.nfe(knots(7)), SDE.nfe(knots(7)), ODE.nfe(knots(7))) == (21, 7, 7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eta": 1.5}, r"eta: 1.5, expected a number in \[0, 1\]"),
        ({"large": True, "eta": 0.0}, "large: True with eta 0.0"),
        ({"repetitions": 0}, "repetitions: 0, expected an integer >= 1"),
        ({"repetitions": 1.5}, "repetitions: 1.5, expected an integer >= 1"),
    ],
)
def test_bad_options_are_refused_before_the_first_evaluation(options, said):
    x = normals("x", 2, 1)
    silent = Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    with pytest.raises(ValueError, match=said):
        SDE.sample(silent, x, knots(3), process=CHAIN, draws=Silence(), guide=Guide(x), **options)
    with pytest.raises(grids.BadGrid):
        SDE.sample(silent, x, knots(3).flip(0), process=CHAIN, draws=Silence(), guide=Guide(x))


@pytest.mark.parametrize(
    ("image", "known", "said"),
    [
        ((2, 5), None, r"^guide.image: shape \(2, 5\), expected \(2, 3\), that of x, or one row for all"),
        ((3, 3), None, r"^guide.image: shape \(3, 3\)"),
        ((2, 2, 3), None, r"^guide.image: shape \(2, 2, 3\)"),
        ((2, 3), torch.ones(4, dtype=torch.bool), r"^guide.known: shape \(4,\), expected one that broadcasts"),
        ((2, 3), torch.ones(2, 3), "^guide.known: torch.float32, expected torch.bool, True where it is kept"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused_before_the_first_evaluation(image, known, said):
    x, guide = normals("x", 2, 3), Guide(torch.zeros(image, **F64), known)
    silent = Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    with pytest.raises(ValueError, match=said):
        SDE.sample(silent, x, knots(3), process=CHAIN, draws=Silence(), guide=guide)
    with pytest.raises(ValueError, match=said):
        SDE.start(Silence(), x, knots(3), CHAIN, {"guide": guide})


def test_one_image_may_serve_all_rows():
    x, image, known = normals("x", 4, 3), normals("g", 1, 3), torch.tensor([[True], [False], [False], [True]])
    ends = [
        SDE.sample(MODEL, x, knots(5), process=CHAIN, draws=Philox(1, 4), guide=Guide(g, known)).x
        for g in (image, image.expand(4, 3), image[0])
    ]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


def test_a_repetition_from_pure_noise_is_a_repetition():
    """On condot alpha(1) = 0: the second pass restarts from fresh noise, as a run of its own under its draws does."""
    path, target = processes.named("condot"), targets.named("mixture-2d")
    model, grid = targets.exact(target, path), torch.linspace(1, 0, 17, dtype=torch.float64)
    x, steps = Philox(1, 5).normal("start", torch.empty(5, 2, dtype=torch.float64)), 16
    guide = Guide(torch.zeros_like(x))
    draws = Philox(3, 5)
    twice = paper.sample(model, x, grid, process=path, draws=draws, guide=guide, eta=0.0, repetitions=2).x
    fresh = draws.at(steps).normal("start", x)
    again = paper.sample(model, fresh, grid, process=path, draws=draws, guide=guide, eta=0.0).x
    assert (twice - again).abs().max() < 1e-12
