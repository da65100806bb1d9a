"""li2025evodiff: the official class's numbers, the invariants of its card, and what the published order is not."""

import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from reference_impls import targets
from reference_impls.continuous import li2025evodiff as evodiff
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor
from reference_impls.targets.gaussian import Gaussian

EDM = process.named("ve-edm")


def normals(rows, *shape, seed=7):
    return Philox(seed, rows).normal("start", torch.empty(rows, *shape, dtype=torch.float64))


def run(model, x, grid, path=EDM, **options):
    return evodiff.sample(model, x, grid, process=path, draws=Silence(), **options)


def point(value):
    return Predictor("mean", lambda x, t: torch.full_like(x, value))


@pytest.mark.parametrize(
    ("steps", "final", "official"),
    [  # EVODiff_edm.sample in float64, logSNR grid 80 -> .002, gmm-64, x = 80 Philox(7, 2); run for this suite
        (6, "code", (3.379056835982202, -1.0909370566025354, -0.35263581432262503)),
        (6, "full", (3.1128141295088483, -0.9922572990845958, -0.2894027780983463)),
        (24, "code", (2.8775406651839788, -0.9433374002993163, -0.22348959535635798)),
    ],
)
def test_official_numbers(steps, final, official):
    x = 80 * normals(2, 1, 8, 8)
    found = run(targets.exact(targets.named("gmm-64"), EDM), x, grids.uniform_lam(steps, EDM), final=final)
    assert (found.x.sum().item(), found.x[0, 0, 0, 0].item(), found.x[1, 0, 7, 7].item()) == pytest.approx(
        official, rel=1e-11
    )
    assert found.nfe == steps + (final == "full")


MIXTURE = targets.exact(targets.named("mixture-2d"), EDM)
TURNING = Predictor("mean", lambda x, t: (1 if t > 1 else -1) * MIXTURE(x, t))  # makes <m0,m1>, and so r1, negative


@pytest.mark.parametrize("weights", ["code", "paper"])
@pytest.mark.parametrize(("model", "middle"), [(MIXTURE, 1.4), (TURNING, 0.99)])
def test_one_corrected_interval_by_hand(weights, model, middle):
    """Two steps of final = "full" in plain arithmetic, two entries a sample, with the code's clamp of ri."""
    grid, x = torch.tensor([3.0, middle, 0.3], dtype=torch.float64), torch.tensor([[1.7, -0.9]], dtype=torch.float64)
    found = run(model, x, grid, final="full", weights=weights).x

    def dot(a, b):
        return (a * b).sum()

    def clip(a, b):
        return (dot(a, b) / dot(b, b)).clamp(-2, 2)

    def logistic(v):
        return 1 / (1 + torch.exp(-v))

    m1 = model(x, 3.0)
    x1 = middle / 3 * x + middle * (1 / middle - 1 / 3) * m1
    m0 = model(x1, middle)
    h = 1 / 0.3 - 1 / middle
    q = 0.3 * h
    euler = 0.3 / middle * x1 + q * m0
    r = math.log(3 / middle) / math.log(middle / 0.3)
    b = math.sqrt((0.3 / middle) / (middle / 3))
    w = 0.5 * (1 - ((0.3 + 0.3) / (3 + 0.3)) ** 2)
    r1 = (1 - w) * b + w * clip(m0, m1)
    assert (r1 < 0).item() is (model is TURNING)
    d1 = m0 - r1 * m1
    ri = min(max(r * logistic(0.25 * r1.abs()), 0.25 * r), 1.5 * r)
    probe = euler + 0.5 * q / ri * d1
    mt = model(probe, 0.3)
    d2 = mt - ((1 - w) * b + w * clip(mt, m0)) * m0
    back, ahead = d1 / (r * h), r * d2 / h
    eta = logistic((0.5 * clip(ahead + back, ahead - back)).abs()) * (0.5 if weights == "code" else 1.0)
    bend = -eta / r * d1 + r * (1 - eta) * d2
    z = (clip(probe - euler - 0.5 * q / ri * bend, d1) / q).abs() - 0.5
    zeta = logistic(z) if weights == "code" else logistic(-z)
    torch.testing.assert_close(found, euler + 0.5 * q / zeta * bend, rtol=1e-12, atol=1e-12)


def test_the_sign_of_zeta_changes_beyond_twenty_steps():
    """The step rule, seen from the plan of one interval: the same row with many = False and True."""
    d1, d2, m0, m1 = (normals(1, 6, seed=s) for s in range(1, 5))
    rows = evodiff.plan(grids.uniform_lam(21, EDM), EDM)
    row = evodiff.Plan._make(column[5].item() for column in rows)
    reach = torch.full((1, 1), 0.4, dtype=torch.float64)
    kinds = {}
    for weights, many in (("code", False), ("code", True), ("paper", False)):
        kinds[weights, many] = evodiff.weights_of(d1, d2, row, reach, m0, m1, weights=weights, many=many, per=True)[1]
    few, paper = kinds["code", False], kinds["paper", False]

    def logit(p):
        return (p / (1 - p)).log()

    step = (m0 * (m0 - m1)).sum() / (m0 - m1).square().sum() * row.step
    factor = torch.sigmoid(step.clamp(-2, 2) * (2 - row.keep**2))
    torch.testing.assert_close(logit(kinds["code", True]), -logit(few) * factor, rtol=1e-10, atol=1e-12)
    assert logit(paper).sign() != logit(few).sign()
    model, x = targets.exact(targets.named("gmm-64"), EDM), 80 * normals(1, 1, 8, 8)
    for steps in (20, 21):  # the rule that `sample` applies
        grid = grids.uniform_lam(steps, EDM)
        step = evodiff.partial(evodiff.evodiff_step, weights="code", many=steps > 20, per=True)
        plan = evodiff.plan(grid, EDM, final="plain")
        assert torch.equal(run(model, x, grid, final="plain").x, evodiff.drive(plan, step, model, x, draws=Silence()).x)


@pytest.mark.parametrize("value", [1.3, 0.0])
@pytest.mark.parametrize("steps", [5, 24])
def test_point_mass_on_an_even_grid(steps, value):
    """Invariant 2: with 0/0 := 0 and the plain end, x_N - c = (s_N/s_0)(x_0 - c); c = 0 makes every product 0/0."""
    x = 80 * normals(3, 4)
    for final in ("plain", "full"):
        found = run(point(value), x, grids.uniform_lam(steps, EDM), final=final).x
        torch.testing.assert_close(found, value + 0.002 / 80 * (x - value), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("steps", "share"), [(5, 1.0705), (10, 1.0928), (20, 1.0280), (30, 1.0311)])
def test_the_coded_end_is_not_consistent(steps, share):
    """Invariant 3: on a constant denoiser c the code's last interval returns `share` c, where the flow returns c."""
    sigma = 80 * (0.002 / 80) ** ((steps - 1) / steps)
    ratio = 0.002 / sigma
    g = 1 - 0.5 * math.sqrt(ratio if ratio < 0.5 else ratio - 0.5)
    exact = 1 - math.sqrt(0.002 * sigma) + 0.5 * (1 - ratio) * (1 - g)
    assert exact == pytest.approx(share, abs=5e-5)
    x = 80 * normals(2, 3)
    found = run(point(0.8), x, grids.uniform_lam(steps, EDM)).x
    closed = exact * 0.8 + (1 - math.sqrt(0.002 * sigma)) * 0.002 / 80 * (x - 0.8)
    torch.testing.assert_close(found, closed, rtol=1e-12, atol=1e-13)


def slopes(final, weights="code"):
    """Invariant 4: N(0, diag), spectrum e^-2 .. e^1, sigma 10 -> .05, even log sigma: slopes of log2 error."""
    path = EDM.between(0.05, 10.0)
    variances = torch.linspace(-2, 1, 8, dtype=torch.float64).exp()
    law = Gaussian("spectrum", torch.zeros_like(variances), variances)
    x = 10 * normals(4, 8)
    exact = law.flow(x, 1.0, 10.0, 1.0, 0.05)
    errors = [
        (run(targets.exact(law, path), x, grids.uniform_lam(n, path), path, final=final, weights=weights).x - exact)
        .square().mean().sqrt().item()
        for n in (80, 160, 320, 640)
    ]  # fmt: skip
    return errors, [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]


@pytest.mark.parametrize(("final", "weights"), [("plain", "code"), ("full", "code"), ("plain", "paper")])
def test_order_one_is_what_there_is(final, weights):
    _, found = slopes(final, weights)
    assert all(0.9 <= slope <= 1.1 for slope in found), found


def test_the_coded_end_has_no_order():
    errors, _ = slopes("code")
    assert errors[-1] > 0.03  # 5e-2 on the card


def test_scale_equivariance_of_the_plain_end_only():
    """Invariant 5: data k x0 on k grid from k x give k times the end; the coded end takes sqrt(sigma_s sigma_p) from 1,
    here .0039 k."""
    k, grid, x = 30.0, grids.uniform_lam(8, EDM), 80 * normals(2, 1, 8, 8)
    model = targets.exact(targets.named("gmm-64"), EDM)
    scaled = Predictor("mean", lambda y, t: k * model(y / k, t / k))
    wide = EDM.between(0.002 * k, 80.0 * k)
    for final, equal in (("plain", True), ("full", True), ("code", False)):
        one, other = run(model, x, grid, final=final).x, run(scaled, k * x, k * grid, wide, final=final).x
        gap = (other - k * one).abs().max().item() / (k * one.abs().max().item())
        assert (gap <= 1e-12) if equal else (gap > 0.05), (final, gap)


def test_moving_the_data_does_not_move_the_result():
    """Invariant 6: inner products of raw predictions; mending this would be another method."""
    grid, x, shift = grids.uniform_lam(8, EDM), 80 * normals(2, 1, 8, 8), 2.0
    model = targets.exact(targets.named("gmm-64"), EDM)
    shifted = Predictor("mean", lambda y, t: model(y - shift, t) + shift)
    gap = run(shifted, x + shift, grid, final="plain").x - shift - run(model, x, grid, final="plain").x
    assert gap.abs().max() > 0.01


def test_inner_products_are_those_of_a_channel():
    """Invariant 7: permuted channels are permuted results, mixed ones are not, unless a sample is one channel."""
    means = 0.6 * normals(5, 3, 4, 4, seed=3)
    law = targets.spherical.Balls("balls", torch.full((5,), 0.2, dtype=torch.float64), means, 0.15)
    model, x, grid = targets.exact(law, EDM), 80 * normals(2, 3, 4, 4), grids.uniform_lam(7, EDM)
    mix = torch.linalg.qr(normals(3, 3, seed=5))[0]

    def under(change, **options):
        inverse = change.T
        turned = Predictor("mean", lambda y, t: turn(model(turn(y, inverse), t), change))
        gap = run(turned, turn(x, change), grid, **options).x - turn(run(model, x, grid, **options).x, change)
        return gap.abs().max().item()

    def turn(y, change):
        return torch.einsum("ij,bjhw->bihw", change, y)

    order = torch.eye(3, dtype=torch.float64)[[2, 0, 1]]
    assert under(order) <= 1e-12 and under(mix, per_channel=False) <= 1e-12
    assert under(mix) > 1e-2


def test_a_state_without_height_and_width_is_one_channel():
    """The code takes [B,C,H,W] alone; [B,C,L] is projected whole here, as its flattening is."""
    x, grid = 80 * normals(2, 2, 3), grids.uniform_lam(6, EDM)
    model = Predictor("mean", lambda y, t: (y / (1 + t * t)).sin())
    torch.testing.assert_close(run(model, x, grid).x.flatten(1), run(model, x.flatten(1), grid).x, rtol=1e-13, atol=0)


def test_the_coded_end_turns_at_half():
    """g = 1 - sqrt(c)/2 with c = sigma_s/sigma_p below 1/2, else that less 1/2: at exactly 1/2 c is 0."""
    for ratio, c in ((0.49, 0.49), (0.5, 0.0), (0.75, 0.25)):
        row = evodiff.plan(torch.tensor([4.0, 2.0, 2 * ratio], dtype=torch.float64), EDM)
        pull, g = 1 - ratio, 1 - math.sqrt(c) / 2
        found = [column[-1].item() for column in (row.end_x, row.end_now, row.end_before)]
        assert found == pytest.approx([1 - 2 * math.sqrt(ratio), pull / 2, -g * pull / 2], rel=1e-13)


def test_beyond_twenty_steps_single_samples_of_one_dimension_are_lost():
    """1/zeta = 1 + exp(k z) where d1 almost vanishes. EVODiff_edm.sample on [199,1,1,1] loses the same two of these
    starts at 21 steps and none at 20; run for this suite."""
    path = EDM.between(0.05, 20.0)
    x = torch.linspace(-2.2, 2.2, 199, dtype=torch.float64)[:, None] * math.hypot(1, 20)
    ends = {n: run(targets.exact(targets.named("g3"), path), x, grids.uniform_lam(n, path), path).x for n in (20, 21)}
    assert ends[20].abs().max() < 3
    assert (ends[21].abs() > 100).nonzero()[:, 0].tolist() == [90, 126]
    assert ends[21].abs().max().item() == pytest.approx(90879.7685923463, rel=1e-3)  # e^z magnifies rounding


def test_evaluations_and_denoising():
    model, x = targets.exact(targets.named("g3"), EDM), 80 * normals(2, 1)
    for steps in (1, 2, 3, 7):
        grid = grids.uniform_lam(steps, EDM)
        plain = run(model, x, grid, final="plain")
        clean = run(model, x, grid, final="plain", denoise_to_zero=True)
        assert (plain.nfe, clean.nfe) == (steps, steps + 1)
        assert torch.equal(clean.x, model(plain.x, grid[-1].item()))


def test_a_grid_to_clean_data():
    """E lands on D there, also under the coded end; what would evaluate at sigma = 0 says so first."""
    grid, x = grids.power_to_zero(7.0)(6, EDM), 80 * normals(3, 1)
    seen = []
    model = Predictor("mean", lambda y, t: seen.append(targets.exact(targets.named("g3"), EDM)(y, t)) or seen[-1])
    assert torch.equal(run(model, x, grid, final="plain").x, seen[-1])
    seen.clear()
    m1, m0 = (run(model, x, grid), seen[-2:])[1]
    torch.testing.assert_close(run(model, x, grid).x, m0 + 0.5 * (m0 - m1), rtol=1e-13, atol=1e-13)
    seen.clear()
    for options, asked in (({"final": "full"}, "final = 'full'"), ({"denoise_to_zero": True}, "denoise_to_zero")):
        with pytest.raises(grids.BadGrid, match=f"sigma = 0, where {asked} would"):
            run(model, x, grid, **options)
    with pytest.raises(grids.BadGrid, match="alpha = 0"):
        run(model, x, torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64), process.named("condot"))
    assert not seen


@pytest.mark.parametrize("option", ["final", "weights"])
def test_bad_options(option):
    with pytest.raises(ValueError, match=f"{option}: 'euler', expected one of code, "):
        run(point(0.0), normals(1, 1), grids.uniform_lam(3, EDM), **{option: "euler"})
