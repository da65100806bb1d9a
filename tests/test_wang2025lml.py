"""wang2025lml: the turn itself, the solvers it is put into, the official schedulers' numbers."""

import inspect
import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from reference_impls import targets
from reference_impls.continuous import wang2025lml as lml
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor
from reference_impls.targets.gaussian import Gaussian

CHAIN, VP = process.named("discrete-linear"), process.named("vp-linear").between(0.05, 0.9)
GMM = targets.named("gmm-64")


def normals(rows, *shape, seed=7, tag="start", dtype=torch.float64):
    return Philox(seed, rows).normal(tag, torch.empty(rows, *shape, dtype=dtype))


def turn(n, before, lamb=0.3, kappa=0.4, arithmetic="code"):
    return lml.turned(n, before, lamb, kappa, arithmetic)


def dot(a, b):
    return (a * b).flatten(1).sum(1)


# The turn


@pytest.mark.parametrize("arithmetic", ["code", "stable"])
def test_turn_is_the_damped_inverse_hessian(arithmetic):
    """Invariants 1, 2: the direction of (lamb I + u u^T)^-1 n by a dense solve, the length of n."""
    n, before = normals(3, 4, 8), normals(3, 4, 8, seed=8)
    found = turn(n, before, arithmetic=arithmetic).flatten(1)
    for row, a, b in zip(found, n.flatten(1), before.flatten(1), strict=True):
        u = 0.4 * b + 0.6 * a
        way = torch.linalg.solve(0.3 * torch.eye(32, dtype=torch.float64) + torch.outer(u, u), a)
        torch.testing.assert_close(row, way * a.norm() / way.norm(), rtol=1e-12, atol=1e-13)
        assert row.norm().item() == pytest.approx(a.norm().item(), rel=1e-14)


@pytest.mark.parametrize("arithmetic", ["code", "stable"])
def test_limits_of_lamb(arithmetic):
    """Invariant 2: lamb -> inf leaves n; lamb -> 0 makes it orthogonal to u."""
    n, before = normals(2, 30), normals(2, 30, seed=8)
    torch.testing.assert_close(turn(n, before, 1e12, arithmetic=arithmetic), n, rtol=1e-10, atol=1e-10)
    u = 0.4 * before + 0.6 * n
    across = dot(turn(n, before, 1e-12, arithmetic=arithmetic), u) / (dot(n, n) * dot(u, u)).sqrt()
    assert across.abs().max() <= 1e-9


def test_kappa_0_or_a_parallel_memory_changes_nothing():
    """Invariant 3, at lamb down to 1e-4 of |n|^2: 1e-8 as written (it cancels), rounding alone if stable."""
    n = normals(4, 50)
    for before, kappa in ((normals(4, 50, seed=8), 0.0), (3 * n, 0.7), (-0.2 * n, 0.3), (None, 0.9)):
        for lamb in (5e-3, 1.0, 100.0):
            torch.testing.assert_close(turn(n, before, lamb, kappa), n, rtol=1e-8, atol=1e-8)
            if kappa == 0.0 or before is None:
                torch.testing.assert_close(turn(n, before, lamb, kappa, "stable"), n, rtol=1e-15, atol=0)


@pytest.mark.parametrize("arithmetic", ["code", "stable"])
def test_turn_commutes_with_rotation_and_scale(arithmetic):
    """Invariant 4."""
    n, before = normals(3, 12), normals(3, 12, seed=8)
    q = torch.linalg.qr(normals(12, 12, seed=9))[0]
    rotated = turn(n @ q, before @ q, arithmetic=arithmetic)
    torch.testing.assert_close(rotated, turn(n, before, arithmetic=arithmetic) @ q, rtol=1e-12, atol=1e-13)
    scaled = turn(7 * n, 7 * before, 49 * 0.3, arithmetic=arithmetic)
    torch.testing.assert_close(scaled, 7 * turn(n, before, arithmetic=arithmetic), rtol=1e-12, atol=1e-13)


def test_no_direction_stays_none():
    zero, other = torch.zeros(2, 5, dtype=torch.float64), normals(2, 5)
    for arithmetic in ("code", "stable"):
        assert torch.equal(turn(zero, other, arithmetic=arithmetic), zero)
    assert torch.equal(lml.turned_at_random(zero, torch.zeros_like(zero), 0.3), zero)


@pytest.mark.parametrize(("lamb", "low", "high"), [(1e-3, 0.07, 0.17), (8e-4, 0.09, 0.23), (1e-4, 1.0, 2.0)])
def test_what_rounding_does_at_kappa_0(lamb, low, high):
    """Invariant 6: |n|^2 = 3072 in float32 deviates by .11, .15 and 1.41 of its length on the card (a fully random
    direction deviates by sqrt(2)); the deviation is one of rounding, so a factor 1.5 is allowed; "stable" has none."""
    n = normals(8, 3072, dtype=torch.float32)
    n = n * (3072**0.5 / n.norm(dim=1, keepdim=True))
    gap = {a: ((turn(n, None, lamb, 0.0, a) - n).norm(dim=1) / n.norm(dim=1)).mean() for a in lml.ARITHMETIC}
    assert low <= gap["code"] <= high and gap["stable"] <= 1e-6


def test_turned_at_random_is_by_the_angle_and_keeps_the_length():
    n, z = normals(5, 2, 9), normals(5, 2, 9, seed=8)
    found = lml.turned_at_random(n, z, 0.3)
    torch.testing.assert_close(dot(found, n) / dot(n, n), torch.full((5,), math.cos(0.3), dtype=torch.float64))
    torch.testing.assert_close(dot(found, found), dot(n, n))
    assert (dot(found, z) > math.cos(0.3) * dot(n, z)).all()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_noise_forms_commute_with_rotation_to_the_rounding_of_their_arithmetic(order):
    """One step from pure noise: as written the turn loses eps |n|^2/lamb of n, which the law of rotations cannot ask;
    the same turn without the cancellation loses eps |n|."""
    grid, target = torch.tensor([1.0, 0.02], dtype=torch.float64), targets.named("mixture-2d")
    model = targets.exact(target, CHAIN)
    q = torch.linalg.qr(normals(2, 2, seed=9))[0]
    rotated = Predictor("mean", lambda x, t: model(x @ q.T, t) @ q)
    x, draws = normals(5, 2), Philox(1, 5)
    size = ((CHAIN.alpha(grid[1]) / CHAIN.alpha(grid[0]) * x).norm(dim=1) + 1).max()  # |n| is at most this, about
    for arithmetic, bound in (("stable", 8 * 2.0**-52 * size), ("code", 2.0**-52 * size**3)):
        options = dict(process=CHAIN, draws=draws, order=order, prediction="eps", arithmetic=arithmetic)
        gap = lml.sample_dpm(rotated, x @ q, grid, **options).x - lml.sample_dpm(model, x, grid, **options).x @ q
        assert gap.abs().max() <= bound


# The solvers


@pytest.mark.parametrize(
    ("steps", "options", "official"),
    [  # DPMSolverMultistepLMScheduler in float64, linspace spacing, gmm-64, Philox(7, 2), lamb 1, kappa .2
        (20, {"order": 3}, (1.0245639490059246, -0.9903416659900989, -0.9554318307507143)),
        (8, {"order": 2, "solver": "taylor"}, (2.624755193824893, -0.8886902033080708, -0.11217202322641208)),
        (16, {"order": 2, "prediction": "eps"}, (205.84909318028764, -17.940473992525348, -32.23958919511371)),
    ],
)
def test_official_numbers_of_dpm(steps, options, official):
    """The noise form, turned, is thrown far off by kappa .2 and magnifies rounding: 4e-11 between the two programs."""
    run = lml.sample_dpm(
        targets.exact(GMM, CHAIN), normals(2, 1, 8, 8), lml.knots(steps, CHAIN), process=CHAIN, draws=Silence(),
        kappa=0.2, **options,
    )  # fmt: skip
    x, tolerance = run.x, 1e-8 if "prediction" in options else 1e-10
    assert (x.sum().item(), x[0, 0, 0, 0].item(), x[1, 0, 7, 7].item()) == pytest.approx(official, rel=tolerance)
    assert run.nfe == steps


def test_official_numbers_of_ddim():
    """DDIMLMScheduler in float64: 10 steps, lamb 2, kappa .3, freeze .4."""
    x = lml.sample_ddim(
        targets.exact(GMM, CHAIN), normals(2, 1, 8, 8), lml.knots_to_zero(10, CHAIN), process=CHAIN, draws=Silence(),
        lamb=2.0, kappa=0.3, freeze=0.4,
    ).x  # fmt: skip
    official = (4.736862733132144, -0.6031609888031674, 0.6274908684908906)
    assert (x.sum().item(), x[0, 0, 0, 0].item(), x[1, 0, 7, 7].item()) == pytest.approx(official, rel=1e-10)


def polynomial_row(degree, *, order, solver="midpoint", prediction="mean"):
    """Step 3 of an uneven grid fed with exact history of q(lam) = lam^degree, and the exact integral (toolkit T2)."""
    grid = torch.tensor([0.9, 0.7, 0.45, 0.3, 0.2], dtype=torch.float64)
    rows = lml.dpm_plan(grid, VP, order=order, solver=solver, prediction=prediction, lower_order_final=False)
    lam = VP.lam(grid)
    q = lam**degree
    found = (rows.now[3] * q[3] + rows.before[3] * q[2] + rows.older[3] * q[1]).item()
    sign = 1.0 if prediction == "mean" else -1.0
    nodes, w = torch.tensor(LEGENDRE[0], dtype=torch.float64), torch.tensor(LEGENDRE[1], dtype=torch.float64)
    line = lam[3] + (lam[4] - lam[3]) * (nodes + 1) / 2
    integral = ((lam[4] - lam[3]) / 2 * w * (sign * line).exp() * line**degree).sum().item()
    factor = VP.sigma(0.2) if prediction == "mean" else -VP.alpha(0.2)
    return found, factor * integral


LEGENDRE = (
    [0.9739065285171717, 0.8650633666889845, 0.6794095682990244, 0.4333953941292472, 0.1488743389816312],
    [0.0666713443086881, 0.1494513491505806, 0.2190863625159820, 0.2692667193099963, 0.2955242247147529],
)
LEGENDRE = ([*LEGENDRE[0], *(-v for v in LEGENDRE[0])], LEGENDRE[1] * 2)


@pytest.mark.parametrize("prediction", ["mean", "eps"])
@pytest.mark.parametrize(
    ("order", "solver", "exact"),
    [(1, "midpoint", 0), (2, "midpoint", 0), (2, "taylor", 1), (3, "midpoint", 1), (3, "taylor", 1)],
)
def test_polynomial_exactness(order, solver, exact, prediction):
    """T2: the coded third order is exact to degree 1, where a right one is to degree 2: the factor 2 is missing."""
    for degree in range(exact + 2):
        found, truth = polynomial_row(degree, order=order, solver=solver, prediction=prediction)
        assert (abs(found - truth) <= 1e-12 * (1 + abs(truth))) is (degree <= exact), (degree, found, truth)


def test_final_orders():
    """Below 15 steps the last step is of order 1 and the one before of order 2; from 15 on all are of order 3."""
    for steps, lowered in ((14, True), (15, False)):
        rows = lml.dpm_plan(grids.uniform_lam(steps, VP), VP, order=3)
        assert ((rows.before[-1] == 0) & (rows.older[-2] == 0)).item() is lowered
        assert (rows.older[2:-2] != 0).all() and rows.older[1] == 0 and rows.before[1] != 0 and rows.before[0] == 0
        assert rows.before[-2] != 0
    assert lml.dpm_plan(grids.uniform_lam(1, VP), VP, order=3).before.tolist() == [0.0]


def test_defaults_are_those_of_the_schedulers():
    """order 2, data prediction, midpoint, lower orders at the end; lamb 1, kappa 0, no freeze."""
    grid = grids.uniform_lam(6, VP)
    stated = lml.dpm_plan(grid, VP, order=2, prediction="mean", solver="midpoint", lower_order_final=True)
    assert all(torch.equal(a, b) for a, b in zip(lml.dpm_plan(grid, VP), stated, strict=True))
    for sample, more in (
        (lml.sample_ddim, {"freeze": 0.0}),
        (lml.sample_flow, {}),
        (lml.sample_dpm, {"order": 2, "prediction": "mean", "solver": "midpoint", "lower_order_final": True}),
    ):
        found = inspect.signature(sample).parameters
        stated = {"lamb": 1.0, "kappa": 0.0, "arithmetic": "code"} | more
        assert {name: each.default for name, each in found.items() if each.default is not each.empty} == stated


@pytest.mark.parametrize("order", [1, 2, 3])
def test_ends_on_clean_data_at_any_order(order):
    """At sigma_s = 0 the last step is of order 1 and lands on D, lower_order_final or not."""
    grid, seen = torch.tensor([0.9, 0.6, 0.4, 0.2, 0.0], dtype=torch.float64), []
    model = Predictor("mean", lambda y, t: seen.append(targets.exact(GMM, CHAIN)(y, t)) or seen[-1])
    for final in (False, True):
        found = lml.sample_dpm(
            model, normals(2, 1, 8, 8), grid, process=CHAIN, draws=Silence(), order=order, lower_order_final=final
        ).x
        torch.testing.assert_close(found, seen[-1], rtol=1e-9, atol=1e-9)


def test_memory_is_the_raw_direction_of_the_step_before():
    """Two flow steps by hand, kappa = .5: the second turn remembers v, not the turned v; the first has no memory."""
    path, grid = process.named("condot"), torch.tensor([0.9, 0.6, 0.3], dtype=torch.float64)
    x, model = normals(2, 6), targets.exact(Gaussian("g", *torch.ones(2, 6, dtype=torch.float64)), path)

    def velocity(y, t):
        return (y - model(y, t)) / t

    n0 = velocity(x, 0.9)
    x1 = x - 0.3 * turn(n0, None, 0.2, 0.5)
    x2 = x1 - 0.3 * turn(velocity(x1, 0.6), n0, 0.2, 0.5)
    found = lml.sample_flow(model, x, grid, process=path, draws=Silence(), lamb=0.2, kappa=0.5).x
    torch.testing.assert_close(found, x2, rtol=1e-13, atol=1e-13)


def test_freeze_is_the_codes_comparison_on_every_index():
    """timestep < 1000 - 1000 freeze, in this order: 1000 (1 - .7) rounds to above 300 and would turn index 300."""
    grid = torch.arange(1000, -1, -1, dtype=torch.float64) / 1000
    for hundredths in range(101):
        freeze = hundredths / 100
        found = lml.ddim_plan(grid, CHAIN, freeze=freeze).turns.tolist()
        assert found == [float(index < 1000 - 1000 * freeze) for index in range(999, -1, -1)]


def test_freeze_covers_the_noisy_share_of_the_chain():
    """Index < 1000 (1 - freeze), the index being 1000 t - 1; frozen steps still fill the memory."""
    grid = torch.tensor([0.8, 0.602, 0.601, 0.6, 0.3], dtype=torch.float64)
    assert lml.ddim_plan(grid, CHAIN, freeze=0.4).turns.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert lml.ddim_plan(torch.tensor([1.0, 0.4, 0.1], dtype=torch.float64), CHAIN).turns.tolist() == [1.0] * 2
    wide = torch.tensor([80.0, 41.0, 39.0, 1.0], dtype=torch.float64)  # on other paths the share is one of t_max
    assert lml.ddim_plan(wide, process.named("ve-edm"), freeze=0.5).turns.tolist() == [0.0, 0.0, 1.0]
    x, model = normals(2, 1, 8, 8), targets.exact(GMM, CHAIN)
    base = lml.sample_ddim(model, x, grid, process=CHAIN, draws=Silence(), kappa=0.5, freeze=1.0).x
    late = lml.sample_ddim(model, x, grid, process=CHAIN, draws=Silence(), kappa=0.5, freeze=0.4).x
    x3 = lml.sample_ddim(model, x, grid[:4], process=CHAIN, draws=Silence(), kappa=0.5, freeze=1.0).x

    def eps(y, t):
        return (y - CHAIN.alpha(t) * model(y, t)) / CHAIN.sigma(t)

    x2 = lml.sample_ddim(model, x, grid[:3], process=CHAIN, draws=Silence(), kappa=0.5, freeze=1.0).x
    way = turn(eps(x3, 0.6), eps(x2, 0.601), 1.0, 0.5)
    by_hand = CHAIN.alpha(0.3) * model(x3, 0.6) + CHAIN.sigma(0.3) * way
    torch.testing.assert_close(late, by_hand, rtol=1e-11, atol=1e-12)
    assert (late - base).abs().max() > 1e-4


def test_a_small_lamb_with_memory_does_not_converge():
    """Invariant 5: N(0, diag), DDIM form, kappa .5, lamb 1e-3: the error against the flow does not fall with the steps,
    while that of the base halves."""
    variances = torch.linspace(-2, 1, 16, dtype=torch.float64).exp()
    law = Gaussian("spectrum", torch.zeros_like(variances), variances)
    x, ends = normals(8, 16), [(VP.alpha(t), VP.sigma(t)) for t in (0.9, 0.05)]
    exact = law.flow(x, *ends[0], *ends[1])

    def error(steps, kappa):
        grid = grids.uniform_lam(steps, VP)
        run = lml.sample_ddim(targets.exact(law, VP), x, grid, process=VP, draws=Silence(), lamb=1e-3, kappa=kappa)
        return (run.x - exact).square().mean().sqrt().item()

    assert error(80, 0.0) / error(320, 0.0) == pytest.approx(4, rel=0.1)
    assert error(320, 0.5) > 0.5 * error(80, 0.5) > 50 * error(320, 0.0)


def test_grids():
    """Leading and linspace spacing of the code at 3 steps: indices 666, 333, 0 and clean data; 999, 666, 333, 0."""
    assert lml.knots_to_zero(3, CHAIN).tolist() == [0.667, 0.334, 0.001, 0.0]
    assert lml.knots(3, CHAIN).tolist() == [1.0, 0.667, 0.334, 0.001]
    for grid in (lml.knots, lml.knots_to_zero):
        for steps, path in ((0, CHAIN), (1000, CHAIN), (5, process.named("ve-edm"))):
            with pytest.raises(grids.BadGrid, match="steps: "):
                grid(steps, path)


def test_turned_draws_nothing_where_there_is_no_room():
    x, model = normals(3, 1), targets.exact(targets.named("g3"), VP)
    found = lml.sample_turned(model, x, grids.uniform_lam(5, VP), process=VP, draws=Silence(), angle=0.5).x
    base = lml.sample_dpm(model, x, grids.uniform_lam(5, VP), process=VP, draws=Silence(), arithmetic="stable").x
    torch.testing.assert_close(found, base, rtol=1e-12, atol=1e-12)


def test_turned_turns_every_direction_by_its_angle():
    """One step of order 1 on two entries, from a state that is all direction: (x_s - c x) has n's length, and the angle
    .1 that is the default."""
    grid, x = torch.tensor([0.9, 0.5], dtype=torch.float64), normals(4, 2)
    model = targets.exact(targets.named("mixture-2d"), VP)
    common = dict(process=VP, draws=Philox(2, 4))
    base = lml.sample_dpm(model, x, grid, **common, arithmetic="stable").x - VP.sigma(0.5) / VP.sigma(0.9) * x
    for options, angle in (({}, 0.1), ({"angle": 0.4}, 0.4)):
        way = lml.sample_turned(model, x, grid, **common, **options).x - VP.sigma(0.5) / VP.sigma(0.9) * x
        torch.testing.assert_close(dot(way, way), dot(base, base))
        torch.testing.assert_close(
            dot(way, base) / dot(base, base), torch.full((4,), math.cos(angle), dtype=torch.float64)
        )
    longer = grids.uniform_lam(20, VP)
    found = lml.sample_turned(model, x, longer, **common, angle=1e-9).x
    second = lml.sample_dpm(model, x, longer, **common, order=2, arithmetic="stable").x
    torch.testing.assert_close(found, second, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("sample", "options", "said"),
    [
        (lml.sample_ddim, {"lamb": 0.0}, "lamb, kappa: 0.0"),
        (lml.sample_flow, {"kappa": 1.5}, "kappa in"),
        (lml.sample_dpm, {"arithmetic": "exact"}, "arithmetic: 'exact'"),
        (lml.sample_dpm, {"order": 4}, "order: 4, expected 1, 2 or 3"),
        (lml.sample_dpm, {"solver": "heun"}, "midpoint or taylor"),
        (lml.sample_ddim, {"freeze": 2.0}, "freeze: 2.0"),
    ],
)
def test_bad_options(sample, options, said):
    with pytest.raises(ValueError, match=said):
        sample(targets.exact(GMM, VP), normals(1, 64), grids.uniform_lam(3, VP), process=VP, draws=Silence(), **options)


def test_noise_prediction_needs_noise_and_signal_at_both_ends():
    def never(x, t):
        raise AssertionError("evaluated")

    for times, path in (([0.5, 0.0], CHAIN), ([1.0, 0.5], process.condot())):
        grid = torch.tensor(times, dtype=torch.float64)
        with pytest.raises(grids.BadGrid, match="alpha = 0 or sigma = 0"):
            lml.sample_dpm(
                Predictor("mean", never), normals(1, 2), grid, process=path, draws=Silence(), prediction="eps"
            )


@pytest.mark.parametrize(("dtype", "lamb"), [(torch.float32, 1e19), (torch.float32, 1e38), (torch.float64, 1e160)])
def test_a_large_lamb_turns_nothing_however_large(dtype, lamb):
    """Invariant 2; the square of what is normalised overflowed and its length came out as 0."""
    n, before = normals(2, 30, dtype=dtype), normals(2, 30, seed=8, dtype=dtype)
    torch.testing.assert_close(turn(n, before, lamb, arithmetic="stable"), n)
