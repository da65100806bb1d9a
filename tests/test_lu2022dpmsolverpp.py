"""lu2022dpmsolverpp: the numbered invariants of its card, its anchors, and its formulas by hand."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence, errors_against_the_flow, relative_variance_error
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.continuous import lu2022dpmsolverpp as dpmpp
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.drive import drive
from reference_impls.core.types import Conditional, Predictor

VP = process.named("vp-linear").between(0.05, 0.9)
VE = process.named("ve-edm")
G3 = targets.named("g3")
SAMPLERS = {
    id.partition(".")[2]: card for id, card in catalogue.samplers().items() if id.startswith("lu2022dpmsolverpp.")
}
go = partial(dict, process=VP, draws=Silence())


def q(lam: float, degree: int) -> float:
    """A polynomial of this degree in lam."""
    return sum((0.3 * lam) ** k / (k + 1) for k in range(degree + 1))


def polynomial(degree: int, predicts: str = "mean") -> Predictor:
    """A data or noise prediction that ignores x and is q(lam) (toolkit T2), as a mean."""
    if predicts == "mean":
        return Predictor("mean", lambda x, t: torch.full_like(x, q(VP.lam(t), degree)))
    return Predictor("mean", lambda x, t: (x - VP.sigma(t) * q(VP.lam(t), degree)) / VP.alpha(t))


def exact_end(x: float, t: float, s: float, degree: int, eta: float, predicts: str) -> tuple[float, float]:
    """The mean of the reverse SDE's end from x, in closed form, and the size of its integral.

    D: (sigma_s/sigma_t) e^(-eta h) x + (1+eta) sigma_s int e^(l - eta (lam_s - l)) D dl;
    e: (alpha_s/alpha_t) x - (1+eta) alpha_s int e^-l e dl.
    """
    lam_t, lam_s = VP.lam(t), VP.lam(s)
    c = 1 + eta if predicts == "mean" else -1.0

    def antiderivative(lam: float) -> float:  # of e^(c l) l^k: e^(c l) sum_j (-1)^(k-j) k!/j! l^j / c^(k-j+1)
        f, parts = math.factorial, ((k, j) for k in range(degree + 1) for j in range(k + 1))
        terms = (0.3**k / (k + 1) * (-1) ** (k - j) * f(k) / f(j) * lam**j / c ** (k - j + 1) for k, j in parts)
        return math.exp(c * lam) * sum(terms)

    integral = (1 + eta) * (antiderivative(lam_s) - antiderivative(lam_t))
    if predicts == "mean":
        integral *= VP.sigma(s) * math.exp(-eta * lam_s)
        return VP.sigma(s) / VP.sigma(t) * math.exp(-eta * (lam_s - lam_t)) * x + integral, abs(integral)
    return VP.alpha(s) / VP.alpha(t) * x - VP.alpha(s) * integral, abs(VP.alpha(s) * integral)


MULTI = [  # order, form, official, highest degree that is exact
    (1, "dpm", False, 0), (2, "dpm", False, 0), (2, "taylor", False, 1), (3, "dpm", False, 2), (3, "dpm", True, 1),
]  # fmt: skip


@pytest.mark.parametrize(("order", "form", "official", "highest"), MULTI)
@pytest.mark.parametrize(("eta", "predicts"), [(0.0, "mean"), (1.0, "mean"), (0.6, "mean"), (0.0, "eps"), (0.7, "eps")])
def test_multistep_is_exact_on_polynomials_from_exact_starts(order, form, official, highest, eta, predicts):
    """T2 and disagreement 1, for the mean of the SDE forms too."""
    grid, first = grids.uniform_t(12, VP), order - 1
    options = dict(order=order, form=form, official=official, eta=eta, predicts=predicts, lower_order_final=False)
    rows = dpmpp.multistep_plan(grid, VP, **options)
    later = type(rows)(*(column[first:] for column in rows))
    for degree in range(highest + 2):
        start = exact_end(0.8, 0.9, grid[first].item(), degree, eta, predicts)[0]
        lams = [VP.lam(grid[i].item()) for i in reversed(range(first))]
        before = tuple(torch.full((1, 1), q(lam, degree), dtype=torch.float64) for lam in lams)
        x = torch.full((1, 1), start, dtype=torch.float64)
        model = polynomial(degree, predicts)
        found = drive(later, dpmpp.multistep, model, x, draws=Silence(), memory=before).x.item()
        end, size = exact_end(start, grid[first].item(), 0.05, degree, eta, predicts)
        assert (abs(found - end) <= 1e-10 * size) is (degree <= highest), f"{degree}: {(found - end) / size:.1e}"


SINGLE = [  # order, form, r1, r2, eta, highest
    (2, "dpm", 0.0, 0.0, 0.0, 0), (2, "dpm", 0.3, 0.0, 0.0, 0), (2, "taylor", 0.0, 0.0, 0.0, 1),
    (2, "taylor", 0.7, 0.0, 0.8, 1), (2, "dpm", 0.0, 0.0, 1.0, 0), (3, "dpm", 0.0, 0.0, 0.0, 1),
    (3, "dpm", 0.2, 0.9, 0.0, 1), (3, "taylor", 0.0, 0.0, 0.0, 2), (3, "taylor", 0.25, 0.8, 0.0, 2),
]  # fmt: skip


@pytest.mark.parametrize(("order", "form", "r1", "r2", "eta", "highest"), SINGLE)
def test_singlestep_is_exact_on_polynomials(order, form, r1, r2, eta, highest):
    """T2."""
    grid, x = grids.uniform_t(4, VP), torch.tensor([[0.8]], dtype=torch.float64)
    for degree in range(highest + 2):
        options = dict(order=order, form=form, r1=r1, r2=r2, eta=eta)
        found = dpmpp.sample_singlestep(polynomial(degree), x, grid, **go(), **options).x.item()
        end, size = exact_end(0.8, 0.9, 0.05, degree, eta, "mean")
        assert (abs(found - end) <= 1e-10 * size) is (degree <= highest), f"{degree}: {(found - end) / size:.1e}"


@pytest.mark.parametrize("r1", [0.3, 0.8])
def test_2s_is_of_order_2_with_its_stage_anywhere(r1):
    card = replace(SAMPLERS["2s"], sample=partial(dpmpp.sample_singlestep, r1=r1))
    coarse, fine = (errors_against_the_flow(card, VP, grids.uniform_lam, steps) for steps in (256, 512))
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.1)


A1 = {  # largest error over 9 starts, vp-linear .9 -> .05, lam grid, at 64 and 512 steps; two digits: 6 %
    "2s": (3.0e-3, 5.0e-5),
    "3s": (6.9e-5, 1.5e-7),
    "3m_official": (2.1e-4, 3.1e-6),
}


@pytest.mark.parametrize("name", A1)
def test_errors_of_the_design_on_vp(name):
    found = [errors_against_the_flow(SAMPLERS[name], VP, grids.uniform_lam, steps) for steps in (64, 512)]
    assert found == pytest.approx(A1[name], rel=0.06)


def test_corrected_third_order_with_exact_starts():
    """A1: 1.0e-4 and 1.0e-7 at 64 and 512 steps on vp-linear."""
    scale = math.sqrt(1.2 * VP.alpha(0.9) ** 2 + VP.sigma(0.9) ** 2)
    x, model = (torch.linspace(-2.2, 2.2, 9, dtype=torch.float64) * scale)[:, None], exact_model(VP)
    found = []
    for steps in (64, 512):
        grid = grids.uniform_lam(steps, VP)
        states = [
            G3.flow(x, VP.alpha(0.9), VP.sigma(0.9), VP.alpha(t), VP.sigma(t)) for t in grid[[0, 1, 2, -1]].tolist()
        ]
        rows = dpmpp.multistep_plan(grid, VP, order=3)
        rest = type(rows)(*(column[2:] for column in rows))
        means = tuple(model(states[i], grid[i].item()) for i in (1, 0))
        end = drive(rest, dpmpp.multistep, model, states[2], draws=Silence(), memory=means).x
        found.append((end - states[3]).abs().max().item())
    assert found == pytest.approx((1.0e-4, 1.0e-7), rel=0.06)


A2 = {  # RMS error over 64 quantiles of p_80, ve-edm 80 -> .002, at 6, 12, 24, 36, 60 steps; 1 %
    ("3m_official", "power(7)"): (0.880, 0.110, 1.03e-2, 2.92e-3, 7.77e-4),
    ("3m_official", "lam"): (0.327, 6.19e-2, 9.47e-3, 2.97e-3, 8.24e-4),
    ("3m", "power(7)"): (1.07, 0.227, 1.45e-2, 4.05e-3, 7.69e-4),
    ("3m", "lam"): (0.363, 6.39e-2, 8.84e-3, 2.28e-3, 4.33e-4),
}


@pytest.mark.parametrize(("name", "grid"), A2)
def test_errors_of_the_design_from_sigma_80(name, grid):
    levels = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    x = G3.flow(torch.special.ndtri(levels)[:, None], 0.0, 1.0, 1.0, 80.0)
    exact, options = G3.flow(x, 1.0, 80.0, 1.0, 0.002), dict(process=VE, draws=Silence(), lower_order_final=False)
    for steps, expected in zip((6, 12, 24, 36, 60), A2[name, grid], strict=True):
        run = SAMPLERS[name].sample(exact_model(VE), x, grids.named(grid)(steps, VE), **options)
        assert (run.x - exact).square().mean().sqrt().item() == pytest.approx(expected, rel=0.01)


A3 = {  # relative variance error on N(0, .25), vp-linear .9 -> .05, lam grid, at 8 .. 256 steps
    "sde2m": (-1.1e-1, -9.8e-3, 6.6e-4, 4.3e-4, 1.3e-4, 3.5e-5),
    "sde2m_heun": (-6e-3, 3.1e-2, 1.1e-2, 3.0e-3, 7.6e-4, 1.9e-4),
    "sde1": (-4.4e-1, -2.6e-1, -1.5e-1, -7.7e-2, -3.9e-2, -2.0e-2),
    "sde1_eps": (2.2e-1, 6.8e-2, 2.6e-2, 1.1e-2, 5.3e-3, 2.6e-3),
}


@pytest.mark.parametrize("name", A3)
def test_variance_errors_of_the_design(name):
    """Two digits: 6 %; -6e-3 and 3.1e-2 are compared by their last digit."""
    found = [relative_variance_error(SAMPLERS[name], VP, grids.uniform_lam(2**k, VP), 0.25) for k in range(3, 9)]
    assert found == pytest.approx(A3[name], rel=0.06, abs=6e-4 if name == "sde2m_heun" else 0)


@pytest.mark.parametrize(("name", "path", "order"), [("sde3m", "vp", 2.0), ("sde1_eps", "ve", 1.0)])
def test_slow_weak_orders_arrive(name, path, order):
    """Where the slope falls slowly, that at 2,048 steps is the card's."""
    place = VP if path == "vp" else VE.between(0.05, 20.0)
    errors = [relative_variance_error(SAMPLERS[name], place, grids.uniform_lam(n, place), 0.25) for n in (1024, 2048)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_the_trap_of_the_independent_stage():
    """Invariant 4: weak order 2 with one Brownian path, 1 with independent noise; slopes of the card, 2.11 and .94."""
    for name, low, high in (("sde2s", 1.85, 2.35), ("sde2s_independent", 0.85, 1.15)):
        errors = [relative_variance_error(SAMPLERS[name], VP, grids.uniform_lam(n, VP), 0.25) for n in (128, 256)]
        assert low < math.log2(abs(errors[0] / errors[1])) < high


def test_stage_noise_is_one_brownian_path():
    """Notation section: with M = sqrt(e^(2 eta l_1) - e^(2 eta l_t)) z_1 the stage adds sigma_1 e^(-eta l_1) M and the
    end carries sigma_s e^(-eta l_s) M; both alone keep the marginal's variance on a point mass."""
    grid, eta, r1 = torch.tensor([0.8, 0.5], dtype=torch.float64), 0.6, 0.3
    rows = dpmpp.singlestep_plan(grid, VP, eta=eta, r1=r1)
    t1 = rows.t1.item()
    lam_t, lam_1, lam_s = VP.lam(0.8), VP.lam(t1), VP.lam(0.5)
    assert lam_1 == pytest.approx(lam_t + r1 * (lam_s - lam_t), rel=1e-12)
    path = math.sqrt(math.exp(2 * eta * lam_1) - math.exp(2 * eta * lam_t))
    assert rows.noise1.item() == pytest.approx(VP.sigma(t1) * math.exp(-eta * lam_1) * path, rel=1e-12)
    assert rows.carried.item() == pytest.approx(VP.sigma(0.5) * math.exp(-eta * lam_s) * path, rel=1e-12)
    fresh = math.sqrt(math.exp(2 * eta * lam_s) - math.exp(2 * eta * lam_1))
    assert rows.noise.item() == pytest.approx(VP.sigma(0.5) * math.exp(-eta * lam_s) * fresh, rel=1e-12)
    assert rows.keep1.item() ** 2 * VP.sigma(0.8) ** 2 + rows.noise1.item() ** 2 == pytest.approx(VP.sigma(t1) ** 2)
    apart = dpmpp.singlestep_plan(grid, VP, eta=eta, r1=r1, noise="independent")
    assert apart.carried.item() == 0 and apart.noise1.item() == rows.noise1.item()
    assert apart.noise.item() == pytest.approx(math.hypot(rows.carried.item(), rows.noise.item()), rel=1e-12)


def test_noise_of_stage_and_step_come_from_their_own_addresses():
    """One interval of 2S-SDE with a mean of 0, by hand."""
    grid, draws = torch.tensor([0.8, 0.5], dtype=torch.float64), Philox(3, 2)
    x, zero = torch.ones(2, 1, dtype=torch.float64), Predictor("mean", lambda y, t: torch.zeros_like(y))
    rows = dpmpp.singlestep_plan(grid, VP, eta=1.0)
    found = SAMPLERS["sde2s"].sample(zero, x, grid, process=VP, draws=draws).x
    z_1, z = (draws.at(0).normal(tag, x) for tag in ("stage1", "step"))
    torch.testing.assert_close(found, rows.keep * x + rows.carried * z_1 + rows.noise * z, rtol=1e-14, atol=1e-14)


@given(st.floats(0.1, 0.5), st.floats(0.55, 0.9), st.floats(0, 2))
def test_every_eta_keeps_the_marginals_of_the_oracle(s, t, eta):
    """Constant-D step: N(alpha_t x0, sigma_t^2) goes to N(alpha_s x0, sigma_s^2) for every eta."""
    row = dpmpp.multistep_plan(torch.tensor([t, s], dtype=torch.float64), VP, order=1, eta=eta)
    assert row.keep.item() * VP.alpha(t) + row.now.item() == pytest.approx(VP.alpha(s), rel=1e-12)
    assert row.keep.item() ** 2 * VP.sigma(t) ** 2 + row.noise.item() ** 2 == pytest.approx(VP.sigma(s) ** 2, rel=1e-12)


@given(st.floats(0.1, 0.5), st.floats(0.55, 0.9), st.floats(0, 2))
def test_noise_prediction_step_is_the_card_s(s, t, eta):
    """(E-eta): (alpha_s/alpha_t) x - (1+eta) sigma_s expm1(h) e + sigma_s sqrt(eta expm1(2h)) z."""
    row = dpmpp.multistep_plan(torch.tensor([t, s], dtype=torch.float64), VP, order=1, eta=eta, predicts="eps")
    h = VP.lam(s) - VP.lam(t)
    assert row.keep.item() == pytest.approx(VP.alpha(s) / VP.alpha(t), rel=1e-12)
    assert row.now.item() == pytest.approx(-(1 + eta) * VP.sigma(s) * math.expm1(h), rel=1e-11)
    assert row.noise.item() == pytest.approx(VP.sigma(s) * math.sqrt(eta * math.expm1(2 * h)), rel=1e-11, abs=1e-300)
    assert row.tilt.item() == pytest.approx(1 / VP.sigma(t)) and row.share.item() * VP.sigma(t) == -VP.alpha(t)


def test_second_step_is_the_published_formula():
    """x = (sigma_s/sigma_t) x - alpha_s expm1(-h) [(1 + 1/(2 r)) D_0 - D_{-1}/(2 r)] on an uneven grid, by hand."""
    grid = torch.tensor([0.9, 0.55, 0.4], dtype=torch.float64)
    model = exact_model(VP)
    x = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    d0 = model(x, 0.9)
    h0, h1 = (VP.lam(grid[i + 1].item()) - VP.lam(grid[i].item()) for i in (0, 1))
    x1 = VP.sigma(0.55) / VP.sigma(0.9) * x - VP.alpha(0.55) * math.expm1(-h0) * d0
    d1, r = model(x1, 0.55), h0 / h1
    bracket = (1 + 1 / (2 * r)) * d1 - d0 / (2 * r)
    x2 = VP.sigma(0.4) / VP.sigma(0.55) * x1 - VP.alpha(0.4) * math.expm1(-h1) * bracket
    found = dpmpp.sample(model, x, grid, process=VP, draws=Silence(), lower_order_final=False).x
    torch.testing.assert_close(found, x2, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("steps", "lowered"), [(9, True), (10, False)])
def test_lower_order_final_acts_below_ten_steps(steps, lowered):
    """The code's rule, not its docstring's."""
    rows = dpmpp.multistep_plan(grids.uniform_lam(steps, VP), VP)
    assert (rows.before[-1].item() == 0) is lowered
    assert rows.before[0].item() == 0 and (rows.before[1:-1] != 0).all()
    x, grid = torch.ones(1, 1, dtype=torch.float64), grids.uniform_lam(steps, VP)
    options = ({}, {"lower_order_final": False})
    ends = [dpmpp.sample(exact_model(VP), x, grid, process=VP, draws=Silence(), **each).x for each in options]
    assert (ends[0] != ends[1]).item() is lowered  # it is the default, as in the code
    third = dpmpp.multistep_plan(grids.uniform_lam(steps, VP), VP, order=3)
    assert [(row != 0).item() for row in third.earlier[-2:]] == [not lowered] * 2


@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if not any(part in name for part in ("2s", "3s", "guided", "fast"))]
)
def test_survives_both_ends_of_condot(name):
    """lam = -inf at t = 1 and +inf at t = 0: the first and the last step are first order, and the end is D."""
    path, card = process.named("condot"), SAMPLERS[name]
    grid = torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64)
    x, seen = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None], []
    model = Predictor("mean", lambda y, t: seen.append(exact_model(path)(y, t)) or seen[-1])
    for lower_order_final in (False, True):
        if name.endswith("eps"):
            with pytest.raises(grids.BadGrid, match="alpha = 0 on condot"):
                card.sample(model, x, grid, process=path, draws=Philox(0, 5))
            return
        run = card.sample(model, x, grid, process=path, draws=Philox(0, 5), lower_order_final=lower_order_final)
        last = seen[-1].clamp(-1, 1) if name == "2m_thresholded" else seen[-1]  # of one coordinate
        torch.testing.assert_close(run.x, last, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["2s", "3s_taylor", "fast", "sde2s", "sde2s_independent", "sde2s_sigma", "sde2m_eps"])
def test_a_step_to_clean_data_is_the_mean(name):
    """The final step of k-diffusion: D, and one evaluation."""
    path, card, seen = process.named("vp-linear"), SAMPLERS[name], []
    grid = torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64)
    model = Predictor("mean", lambda y, t: seen.append(exact_model(path)(y, t)) or seen[-1])
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    run = card.sample(model, x, grid, process=path, draws=Philox(0, 5))
    torch.testing.assert_close(run.x, seen[-1], rtol=1e-12, atol=1e-12)
    assert run.nfe == len(seen) == card.nfe(grid)


@pytest.mark.parametrize("name", ["2s", "3s", "fast", "sde2s"])
def test_cost_of_the_interval_to_zero_where_noise_remains(name):
    """On cosine sigma(0) > 0; the declared cost reads the grid alone: the interval to t = 0 has order 1 too."""
    path, card = process.named("cosine"), SAMPLERS[name]
    grid, x = torch.linspace(0.9, 0, 6, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    run = card.sample(exact_model(path), x, grid, process=path, draws=Philox(0, 1))
    assert run.nfe == card.nfe(grid) and torch.isfinite(run.x).all()


def test_denoise_to_zero_adds_the_mean_at_the_end():
    grid, x = grids.uniform_lam(6, VP), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    for name in ("2m", "3s", "2m_thresholded"):
        plain, more = (
            SAMPLERS[name].sample(exact_model(VP), x, grid, **go(), denoise_to_zero=each) for each in (False, True)
        )
        end = exact_model(VP) if name != "2m_thresholded" else dpmpp.thresholded(exact_model(VP), 0.995, 1.0)
        assert torch.equal(more.x, end(plain.x, 0.05)) and more.nfe == plain.nfe + 1
    clean = torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    with pytest.raises(grids.BadGrid, match="denoise_to_zero"):
        dpmpp.sample(Predictor("mean", never), x, clean, **go(), denoise_to_zero=True)


def test_thresholding():
    """Invariant 6: identity where |D| <= 1, idempotent, within [-1, 1]; by hand where a pixel stands out."""
    fixed = torch.tensor([[0.5, -1.0, 0.2, 0.9], [3.0, -1.0, 0.5, 2.0], [9.0, -0.1, 0.2, 0.3]], dtype=torch.float64)
    model = dpmpp.thresholded(Predictor("mean", lambda x, t: fixed), 0.995, 1.0)
    once = model(fixed, 0.5)
    assert torch.equal(once[0], fixed[0]) and once.abs().max() <= 1
    place = 0.995 * 3  # linear quantile of the sorted 0.5, 1, 2, 3
    most = 2.0 + (place - 2) * 1.0
    expected = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64).clamp(-most, most) / most
    torch.testing.assert_close(once[1], expected, rtol=1e-14, atol=0)
    twice = dpmpp.thresholded(Predictor("mean", lambda x, t: once), 0.995, 1.0)(fixed, 0.5)
    assert torch.equal(twice, once)
    wide = dpmpp.thresholded(Predictor("mean", lambda x, t: fixed), 0.995, 2.0)(fixed, 0.5)
    torch.testing.assert_close(wide[0], fixed[0] / 2)


def test_thresholding_follows_the_sampler():
    """Every mean that 2M and 2S use is thresholded, and 0 leaves them alone."""
    grid, x = grids.uniform_lam(5, VP), torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(3, 2)
    wild = Predictor("mean", lambda y, t: 3 * y)
    for sample in (dpmpp.sample, dpmpp.sample_singlestep):
        by_hand = sample(dpmpp.thresholded(wild, 0.9, 1.5), x, grid, **go())
        assert torch.equal(sample(wild, x, grid, **go(), threshold=0.9, bound=1.5).x, by_hand.x)
        assert not torch.equal(sample(wild, x, grid, **go()).x, by_hand.x)


def test_guidance_is_the_extrapolation_of_the_mean():
    """By hand over the rows: D_free + guidance (D_told - D_free), thresholded afterwards; two evaluations a step."""
    labels, x = torch.tensor([0, 2, -1]), torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(3, 2)
    grid, seen = grids.uniform_lam(5, VP), []

    def mean(y, t, condition):
        seen.append(condition)
        return y / 2 if condition is None else y / 2 + 0.1 * (condition + 1).to(y)[:, None]

    for options in (
        {},
        {"order": 3, "official": True, "predicts": "eps", "form": "taylor", "lower_order_final": False},
    ):
        told = Predictor("mean", lambda y, t: mean(y, t, None) + 3.0 * 0.1 * (labels + 1).to(y)[:, None])
        run = dpmpp.sample_guided(Conditional("mean", mean), x, grid, **go(), condition=labels, guidance=3.0, **options)
        torch.testing.assert_close(run.x, dpmpp.sample(told, x, grid, **go(), **options).x, rtol=1e-13, atol=1e-13)
        assert run.nfe == 10
    clipped = dict(threshold=0.9, bound=0.4)
    run = dpmpp.sample_guided(Conditional("mean", mean), x, grid, **go(), condition=labels, guidance=3.0, **clipped)
    torch.testing.assert_close(run.x, dpmpp.sample(told, x, grid, **go(), **clipped).x, rtol=1e-13, atol=1e-13)
    usual, strong = (
        dpmpp.sample_guided(Conditional("mean", mean), x, grid, **go(), condition=labels, **each).x
        for each in ({}, {"guidance": 7.5})
    )
    assert torch.equal(usual, strong)


def test_bad_guidance_is_refused_before_the_first_evaluation():
    x, model = torch.ones(2, 1, dtype=torch.float64), Conditional("mean", lambda y, t, condition: never(y, t))
    clipped_noise = {"predicts": "eps", "threshold": 0.9}
    for options in (
        {"guidance": math.nan}, {"condition": torch.zeros(3, dtype=torch.int64)}, {"threshold": 2.0}, clipped_noise,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="guidance, condition|threshold"):
            told = {"condition": torch.zeros(2, dtype=torch.int64)} | options
            dpmpp.sample_guided(model, x, grids.uniform_lam(3, VP), **go(), **told)


def never(x, t):
    raise AssertionError("evaluated before the refusal")


# dpm_solver_pytorch.py at commit 52bc3fb, "dpmsolver++", float64: exact noise prediction of G3, vp-linear
# 1 -> 1e-3, from (.3, -1.1); singlestep_fixed with four steps on its time grids, singlestep (fast) by evaluations
FIXED = {
    ("t", "t", 2): (0.467865743208022, -1.7059861854321745),
    ("t", "t", 3): (0.40638529856659894, -2.0117337136757647),
    ("t^2", "sqrt_t", 2): (0.4982538969127572, -1.1764444051589256),
    ("t^2", "sqrt_t", 3): (0.5118447873005683, -1.2597136820037917),
}
FAST = {
    ("own", 6): (0.4603677350836394, -0.9538859508272688),
    ("own", 7): (0.5314929056864082, -1.247731971669573),
    ("own", 8): (0.545168443411887, -1.2528062648718015),
    ("t", 6): (0.5399600923797423, -1.0501071822150605),
    ("t", 7): (0.5516648315518946, -1.180451192841383),
    ("t", 8): (0.46910495932747787, -1.700806652407844),
}
FROM = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)


@pytest.mark.parametrize(("grid", "inner", "order"), FIXED)
def test_singlestep_on_time_grids_is_the_official_one(grid, inner, order):
    path = process.named("vp-linear")
    run = partial(dpmpp.sample_singlestep, exact_model(path), FROM, grids.named(grid)(4, path), order=order)
    found = run(process=path, draws=Silence(), inner=inner).x
    assert found.flatten().tolist() == pytest.approx(FIXED[grid, inner, order], rel=1e-11)
    assert (run(process=path, draws=Silence()).x - found).abs().max() > 1e-3  # in lam it ends elsewhere


@pytest.mark.parametrize(("grid", "steps"), FAST)
def test_fast_is_the_official_one(grid, steps):
    path, card = process.named("vp-linear"), SAMPLERS["fast"]
    made = (card.grid if grid == "own" else grids.named(grid))(steps, path)
    run = card.sample(exact_model(path), FROM, made, process=path, draws=Silence())
    assert run.x.flatten().tolist() == pytest.approx(FAST[grid, steps], rel=1e-11) and run.nfe == steps


def test_fast_spends_what_the_paper_says():
    """The card's examples, and a step of its own to clean data."""
    lists = {10: [3, 3, 3, 1], 11: [3, 3, 3, 2], 12: [3, 3, 3, 2, 1], 15: [3, 3, 3, 3, 2, 1], 1: [1], 2: [2], 3: [2, 1]}
    assert {steps: dpmpp.fast_orders(steps) for steps in lists} == lists
    assert dpmpp.fast_orders(7, 2) == [2, 2, 2, 1] and dpmpp.fast_orders(4, 1) == [1] * 4
    clean = torch.cat([dpmpp.fast_lam(6, VP), torch.zeros(1, dtype=torch.float64)])
    assert dpmpp.singlestep_plan(clean, VP, order=3, inner="grid").order.tolist() == [3, 2, 1, 1]


@pytest.mark.parametrize(("remainder", "order"), [(0, 2), (1, 2), (2, 3)])
def test_fast_has_the_order_that_its_remainder_leaves_it(remainder, order):
    """A last step of order 1 costs an order; NFE = 2 mod 3 has none."""
    errors = [
        errors_against_the_flow(SAMPLERS["fast"], VP, dpmpp.fast_lam, steps + remainder) for steps in (384, 768, 1536)
    ]
    slopes = [math.log2(errors[i] / errors[i + 1]) for i in (0, 1)]
    assert slopes == pytest.approx([order, order], abs=0.15)


def test_fast_of_order_2_on_one_brownian_path():
    """Stages at the grid's own points carry the noise of the path up to there; on points even in lam it is 2S-SDE."""
    fine, coarse, x = grids.uniform_lam(8, VP), grids.uniform_lam(4, VP), torch.ones(3, 2, dtype=torch.float64)
    options = dict(process=VP, draws=Philox(1, 3), eta=0.8)
    ours = dpmpp.sample_singlestep(exact_model(VP), x[:, :1], fine, inner="grid", **options)
    torch.testing.assert_close(
        ours.x, dpmpp.sample_singlestep(exact_model(VP), x[:, :1], coarse, **options).x, rtol=1e-11, atol=1e-11
    )


SIGMA = (-8.0e-2, -4.2e-2, -6.2e-3, -2.2e-3)  # Gaussian data, c = .25, ve-edm 20 -> .05, power(7): relative variance
# errors at 16 steps, ours and with sampling.py of k-diffusion at its default tree, by its recursion; then at 64


def test_the_clock_of_the_noise_decides_the_constant():
    path, found = process.named("ve-edm").between(0.05, 20.0), []
    for steps in (16, 64):
        grid = grids.named("power(7)")(steps, path)
        found += [relative_variance_error(SAMPLERS[name], path, grid, 0.25) for name in ("sde2s", "sde2s_sigma")]
    assert found == pytest.approx(SIGMA, rel=0.02)


def test_the_sigma_clock_is_that_of_k_diffusion():
    """sample_dpmpp_sde takes W(sigma_t) - W(sigma_1) for its stage and W(sigma_t) - W(sigma_s) for its end, each
    divided by its standard deviation: their squared correlation is (sigma_t - sigma_1)/(sigma_t - sigma_s)."""
    path, grid = process.named("ve-edm"), torch.tensor([3.0, 1.2, 0.7], dtype=torch.float64)
    for eta, r1 in ((1.0, 0.5), (0.6, 0.3)):
        rows = dpmpp.singlestep_plan(grid, path, eta=eta, r1=r1, noise="sigma")
        share = (grid[:-1] - rows.t1) / (grid[:-1] - grid[1:])
        spread = grid[1:] * (-torch.expm1(-2 * eta * (grid[:-1] / grid[1:]).log())).sqrt()
        torch.testing.assert_close(rows.carried, share.sqrt() * spread, rtol=1e-12, atol=0)
        torch.testing.assert_close(rows.noise, (1 - share).sqrt() * spread, rtol=1e-12, atol=0)


def test_eta_of_a_variance_rate_is_not_ddim_s_of_a_deviation():
    """Disagreement 13: the other eta (k-diffusion's ancestral one, DDIM's) gives eta^2 sigma_s^2 (1 - e^(-2h)); the
    two agree at 0 and 1, and for small steps where ours is the square of the other."""
    ddim = catalogue.samplers()["song2020ddim.ddim"].sample
    x, zero = torch.zeros(1, 1, dtype=torch.float64), Predictor("mean", lambda y, t: torch.zeros_like(y))
    sigma, h, draws = VE.sigma(0.4), math.log(0.5 / 0.4), Philox(3, 1)
    grid, z = torch.tensor([0.5, 0.4], dtype=torch.float64), draws.at(0).normal("step", x)
    for eta in (0.0, 0.5, 1.0):
        ours = dpmpp.sample(zero, x, grid, process=VE, draws=draws, order=1, eta=eta).x / z
        other = ddim(zero, x, grid, process=VE, draws=draws, eta=eta).x / z
        assert ours.item() ** 2 == pytest.approx(-math.expm1(-2 * eta * h) * sigma**2, rel=1e-12)
        assert other.item() ** 2 == pytest.approx(-(eta**2) * math.expm1(-2 * h) * sigma**2, rel=1e-12)


BAD = [
    ("2m", {"order": 2.0}, "order: 2.0, expected 1, 2 or 3"),
    ("2m", {"eta": math.inf}, "eta: inf, expected a number >= 0"),
    ("2m", {"predicts": "eps", "threshold": 0.995}, "threshold: 0.995, bound 1.0, expected .* of data predictions"),
    ("2s", {"inner": "rho"}, "inner: 'rho', expected 'lam', 't' or 'sqrt_t'"),
    ("2s", {"inner": "rho", "order": 1}, "inner: 'rho'"),
    ("fast", {"r1": 0.3}, "inner: 'grid', expected .* neither r1 nor r2"),
    ("2m", {"order": 4}, "order: 4, expected 1, 2 or 3"),
    ("2m", {"form": "heun"}, "form: 'heun', expected 'dpm'"),
    ("2m", {"eta": -0.1}, "eta: -0.1, expected a number >= 0"),
    ("2m", {"predicts": "v"}, "predicts: 'v', expected 'mean'"),
    ("2m", {"threshold": 1.5}, "threshold: 1.5"),
    ("2m", {"threshold": 0.9, "bound": 0.0}, "bound 0.0"),
    ("2m", {"threshold": 0.9, "bound": math.inf}, "bound inf"),
    ("2s", {"r1": 1.0}, "r1, r2: 1.0"),
    ("3s", {"r1": 0.8}, "expected 0 < r1 < r2 < 1"),
    ("3s", {"eta": 0.5}, "expected eta = 0 at order 3"),
    ("2s", {"noise": "tree"}, "'tree', expected"),
]


@pytest.mark.parametrize(("name", "options", "match"), BAD)
def test_bad_options_are_refused_before_the_first_evaluation(name, options, match):
    x, grid = torch.ones(1, 1, dtype=torch.float64), grids.uniform_lam(3, VP)
    with pytest.raises(ValueError, match=match):
        SAMPLERS[name].sample(Predictor("mean", never), x, grid, **go(), **options)


def test_inner_points_need_signal():
    path, grid = process.named("condot"), torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    with pytest.raises(grids.BadGrid, match="alpha = 0 on condot"):
        dpmpp.sample_singlestep(Predictor("mean", never), torch.ones(1, 1), grid, process=path, draws=Silence())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_threshold_works_in_half_precision(dtype):
    mean = torch.tensor([[0.5, -4.0, 2.0]], dtype=dtype)
    found = dpmpp.thresholded(Predictor("mean", lambda x, t: mean), 0.5, 1.0)(mean, 0.5)
    assert found.dtype == dtype and torch.equal(found, torch.tensor([[0.25, -1.0, 1.0]], dtype=dtype))
