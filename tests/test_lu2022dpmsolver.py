"""lu2022dpmsolver: the numbered invariants of its card, its anchors, and numbers from a run of the official code."""

import inspect
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence, errors_against_the_flow
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.continuous import lu2022dpmsolver as dpm
from reference_impls.core import grids, process
from reference_impls.core.drive import drive
from reference_impls.core.types import Predictor

VP = process.named("vp-linear").between(0.05, 0.9)
VE = process.named("ve-edm")
SAMPLERS = {
    id.partition(".")[2]: card for id, card in catalogue.samplers().items() if id.startswith("lu2022dpmsolver.")
}
DOWN = [name for name in SAMPLERS if not name.startswith("encoder")]
FIXED = [name for name in DOWN if not name.startswith("adaptive")]
G3 = targets.named("g3")
go = partial(dict, process=VP, draws=Silence())


def q(lam, degree):
    """A polynomial of this degree and size 1 in lam."""
    return sum((0.3 * lam) ** k / (k + 1) for k in range(degree + 1))


def polynomial(degree, path=VP):
    """A mean whose noise prediction is q(lam) whatever x is (toolkit T2)."""
    return Predictor("mean", lambda x, t: (x - path.sigma(t) * q(path.lam(t), degree)) / path.alpha(t))


def exact_end(x, t, s, degree, path=VP):
    """(alpha_s/alpha_t) x - alpha_s int e^-l q(l) dl in closed form, and the size of the integral."""

    def antiderivative(lam):  # of e^-l l^k: -e^-l sum_j k!/j! l^j
        parts = ((k, j) for k in range(degree + 1) for j in range(k + 1))
        f = math.factorial
        return -math.exp(-lam) * sum(0.3**k / (k + 1) * f(k) / f(j) * lam**j for k, j in parts)

    integral = path.alpha(s) * (antiderivative(path.lam(s)) - antiderivative(path.lam(t)))
    return path.alpha(s) / path.alpha(t) * x - integral, abs(integral)


SINGLE = [  # order, form, r1, r2, the highest degree that is exact
    (1, "dpm", 0.0, 0.0, 0), (2, "dpm", 0.0, 0.0, 0), (2, "dpm", 0.3, 0.0, 0), (2, "taylor", 0.0, 0.0, 1),
    (2, "taylor", 0.7, 0.0, 1), (3, "dpm", 0.0, 0.0, 1), (3, "dpm", 0.2, 0.9, 1), (3, "taylor", 0.0, 0.0, 2),
    (3, "taylor", 0.25, 0.8, 2),
]  # fmt: skip


@pytest.mark.parametrize(("order", "form", "r1", "r2", "highest"), SINGLE)
@pytest.mark.parametrize("inner", ["lam", "t", "sqrt_t"])
def test_singlestep_is_exact_on_polynomials(order, form, r1, r2, highest, inner):
    """T2: exact up to the degree of the table, and not one further."""
    grid = grids.uniform_t(4, VP)
    x = torch.tensor([[0.8]], dtype=torch.float64)
    for degree in range(highest + 2):
        options = dict(order=order, form=form, r1=r1, r2=r2, inner=inner)
        found = dpm.sample(polynomial(degree), x, grid, **go(), **options).x.item()
        end, size = exact_end(0.8, 0.9, 0.05, degree)
        assert (abs(found - end) <= 1e-10 * size) is (degree <= highest), (
            f"degree {degree}: {found - end:.1e} of {size}"
        )


@pytest.mark.parametrize(
    ("order", "form", "highest"), [(2, "dpm", 0), (2, "taylor", 1), (3, "dpm", 1), (3, "taylor", 2)]
)
def test_fast_is_exact_on_polynomials(order, form, highest):
    """The same over the points of an uneven grid, in steps of this order alone."""
    grid = grids.uniform_t(2 * order, VP)
    x = torch.tensor([[0.8]], dtype=torch.float64)
    orders = torch.full((2,), float(order), dtype=torch.float64)
    times = [grid[[min(i * order + j, (i + 1) * order) for i in (0, 1)]] for j in (0, 1, 2, order)]
    for degree in range(highest + 2):
        found = drive(
            dpm.stages(tuple(times), orders, VP, form), dpm.singlestep, polynomial(degree), x, draws=Silence()
        )
        end, size = exact_end(0.8, 0.9, 0.05, degree)
        assert (abs(found.x.item() - end) <= 1e-10 * size) is (degree <= highest)


MULTI = [(2, "dpm", False, 0), (2, "taylor", False, 1), (3, "dpm", False, 2), (3, "dpm", True, 1)]


@pytest.mark.parametrize(("order", "form", "official", "highest"), MULTI)
def test_multistep_is_exact_on_polynomials_from_exact_starts(order, form, official, highest):
    """T2, and disagreement 1: without its factor 2 the third-order form is exact to degree 1 only."""
    grid = grids.uniform_t(12, VP)
    rows = dpm.multistep_plan(grid, VP, order=order, form=form, official=official, lower_order_final=False)
    first = order - 1
    for degree in range(highest + 2):
        start = exact_end(0.8, 0.9, grid[first].item(), degree)[0]
        before = tuple(
            torch.full((1, 1), q(VP.lam(grid[i].item()), degree), dtype=torch.float64) for i in reversed(range(first))
        )
        later = type(rows)(*(column[first:] for column in rows))
        x = torch.full((1, 1), start, dtype=torch.float64)
        found = drive(later, dpm.multistep, polynomial(degree), x, draws=Silence(), memory=before).x.item()
        end, size = exact_end(start, grid[first].item(), 0.05, degree)
        assert (abs(found - end) <= 1e-10 * size) is (degree <= highest)


A1 = {  # vp-linear .9 -> .05, lam grid, largest error over 9 starts at 64 and 512 steps; two digits: 6 %
    "singlestep2": (7.1e-4, 1.1e-5),
    "singlestep3": (1.9e-5, 4.1e-8),
    "2m": (4.9e-3, 8.1e-5),
    "3m_official": (1.5e-3, 2.1e-5),
    "3m": (4.2e-4, 1.2e-6),
}


@pytest.mark.parametrize("name", A1)
def test_errors_of_the_design_on_vp(name):
    found = [errors_against_the_flow(SAMPLERS[name], VP, grids.uniform_lam, steps) for steps in (64, 512)]
    assert found == pytest.approx(A1[name], rel=0.06)


A2 = {  # ve-edm 80 -> .002, RMS over 64 quantiles at 6, 12, 24, 36, 60 evaluations; 1 %
    ("singlestep2", "power(7)"): (0.948, 0.291, 6.09e-2, 2.19e-2, 7.23e-3),
    ("singlestep2", "lam"): (1.43, 0.303, 6.50e-2, 2.35e-2, 7.66e-3),
    ("singlestep3", "power(7)"): (0.305, 0.196, 2.49e-2, 5.85e-3, 8.24e-4),
    ("singlestep3", "lam"): (0.918, 0.163, 1.59e-2, 4.17e-3, 6.23e-4),
    ("fast", "own"): (1.34, 8.23e-2, 1.34e-2, 3.25e-3, 4.94e-4),
}


@pytest.mark.parametrize(("name", "grid"), A2)
def test_errors_of_the_design_from_sigma_80(name, grid):
    card, levels = SAMPLERS[name], (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    x = G3.flow(torch.special.ndtri(levels)[:, None], 0.0, 1.0, 1.0, 80.0)
    made = card.grid if grid == "own" else grids.named(grid)
    for nfe, expected in zip((6, 12, 24, 36, 60), A2[name, grid], strict=True):
        times = made(round(nfe / card.nfe(grids.uniform_t(1, VE))), VE)
        run = card.sample(exact_model(VE), x, times, process=VE, draws=Silence())
        error = (run.x - G3.flow(x, 1.0, 80.0, 1.0, 0.002)).square().mean().sqrt().item()
        assert run.nfe == nfe and error == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("remainder", "order"), [(0, 2), (1, 2), (2, 3)])
def test_fast_has_the_order_that_its_remainder_leaves_it(remainder, order):
    """Invariant 1: a last step of order 1 costs an order; NFE = 2 mod 3 has none."""
    errors = [
        errors_against_the_flow(SAMPLERS["fast"], VP, dpm.fast_lam, steps + remainder) for steps in (192, 384, 768)
    ]
    slopes = [math.log2(errors[i] / errors[i + 1]) for i in (0, 1)]
    assert slopes == pytest.approx([order, order], abs=0.15)


def test_third_order_with_exact_starts():
    """Invariant 2 on condot, where the start-up shows: from exact first states 3M has order 3, as coded order 2."""
    path = process.named("condot").between(0.05, 0.9)
    model, x = exact_model(path), torch.linspace(-2.2, 2.2, 9, dtype=torch.float64)[:, None]

    def state(t):
        return G3.flow(x, path.alpha(0.9), path.sigma(0.9), path.alpha(t), path.sigma(t))

    def e(t):
        return (state(t) - path.alpha(t) * model(state(t), t)) / path.sigma(t)

    def error(steps, official):
        times = (grid := grids.uniform_lam(steps, path)).tolist()
        rows = dpm.multistep_plan(grid, path, order=3, official=official)
        rest = type(rows)(*(column[2:] for column in rows))
        end = drive(rest, dpm.multistep, model, state(times[2]), draws=Silence(), memory=(e(times[1]), e(times[0]))).x
        return (end - state(times[-1])).abs().max().item()

    for official, order in ((False, 3.0), (True, 2.0)):
        errors = [error(steps, official) for steps in (128, 256, 512)]
        assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.2)


def test_fast_spends_what_the_paper_says():
    """DPM-Solver-fast by the card's examples; the grid divides each step evenly in lam."""
    lists = {10: [3, 3, 3, 1], 11: [3, 3, 3, 2], 12: [3, 3, 3, 2, 1], 15: [3, 3, 3, 3, 2, 1], 1: [1], 2: [2], 3: [2, 1]}
    assert {steps: dpm.fast_orders(steps) for steps in lists} == lists
    assert dpm.fast_orders(7, 2) == [2, 2, 2, 1] and dpm.fast_orders(4, 1) == [1] * 4
    halves = VP.lam(dpm.fast_lam(3, VP, 2))  # orders 2 and 1
    assert ((halves - halves[0]) / (halves[-1] - halves[0])).tolist() == pytest.approx([0, 0.25, 0.5, 1], abs=1e-12)
    shares = [0, 1 / 9, 2 / 9, 1 / 3, 1 / 2, 2 / 3, 1]  # 6 evaluations: orders 3, 2, 1
    lam = VP.lam(dpm.fast_lam(6, VP))
    torch.testing.assert_close(
        (lam - lam[0]) / (lam[-1] - lam[0]), torch.tensor(shares, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert dpm.fast_lam(6, VP)[[0, -1]].tolist() == [0.9, 0.05]
    rows = dpm.fast_plan(dpm.fast_lam(6, VP), VP)
    assert rows.order.tolist() == [3, 2, 1]
    clean = torch.cat([dpm.fast_lam(6, VP), torch.zeros(1, dtype=torch.float64)])
    assert dpm.fast_plan(clean, VP).order.tolist() == [3, 2, 1, 1]


def test_inner_points_of_time_grids_are_the_code_s():
    """The card: with points even in t, r1 counted in lam drifts from .512 to .396 near t = .05 (10 steps)."""
    grid = grids.uniform_t(10, VP)
    rows = dpm.singlestep_plan(grid, VP, inner="t")
    r1 = (VP.lam(rows.t1) - VP.lam(grid[:-1])) / (VP.lam(grid[1:]) - VP.lam(grid[:-1]))
    assert [r1[0].item(), r1[-1].item()] == pytest.approx([0.512, 0.396], abs=0.0005)
    twice = dpm.fast_plan(grids.uniform_t(20, VP), VP, order=2)
    for ours, theirs in zip(rows, twice, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    root = dpm.singlestep_plan(grids.quadratic_t(4, VP), VP, order=3, inner="sqrt_t")
    torch.testing.assert_close(
        root.t2.sqrt(), (root.t.sqrt() + root.t1.sqrt() * 0 + 2 * (root.t1.sqrt() - root.t.sqrt()))
    )


@pytest.mark.parametrize(("steps", "lowered"), [(9, True), (10, False)])
def test_lower_order_final_acts_below_ten_steps(steps, lowered):
    """The code's rule, not its docstring's; the last steps have orders .., 2, 1."""
    rows = dpm.multistep_plan(grids.uniform_lam(steps, VP), VP, order=3)
    assert [(row != 0).item() for row in rows.before[-2:]] == [True, not lowered]
    assert [(row != 0).item() for row in rows.earlier[-2:]] == [not lowered] * 2
    assert [(row != 0).item() for row in rows.before[:2]] == [False, True]
    assert [(row != 0).item() for row in rows.earlier[:3]] == [False, False, True]


def test_midpoint_in_lam():
    """Invariant 3: DPM-Solver-2 is the midpoint rule for d(x/alpha)/d lam = -rho e in its exponential form, by hand."""
    t, s = 0.6, 0.4
    lam_t, lam_s = VP.lam(t), VP.lam(s)
    m = VP.time_of_logsnr((lam_t + lam_s) / 2)
    x = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    model = exact_model(VP)

    def e(y, at):
        return (y - VP.alpha(at) * model(y, at)) / VP.sigma(at)

    u = VP.alpha(m) / VP.alpha(t) * x - VP.sigma(m) * math.expm1((lam_s - lam_t) / 2) * e(x, t)
    end = VP.alpha(s) / VP.alpha(t) * x - VP.sigma(s) * math.expm1(lam_s - lam_t) * e(u, m)
    found = dpm.sample(model, x, torch.tensor([t, s], dtype=torch.float64), **go()).x
    torch.testing.assert_close(found, end, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", FIXED)
def test_a_step_to_clean_data_is_the_mean(name):
    """It has order 1 and costs one evaluation; denoise_to_zero is the same with a grid that ends before."""
    path, card = process.named("vp-linear"), SAMPLERS[name]
    grid = torch.tensor([0.9, 0.6, 0.3, 0.1, 0.0], dtype=torch.float64)
    x, seen = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None], []
    model = Predictor("mean", lambda y, t: seen.append((t, exact_model(path)(y, t))) or seen[-1][1])
    run = card.sample(model, x, grid, process=path, draws=Silence())
    torch.testing.assert_close(run.x, seen[-1][1], rtol=1e-12, atol=1e-12)
    assert run.nfe == len(seen) == card.nfe(grid) and seen[-1][0] == pytest.approx(0.1)
    if "m" in name:
        return  # the final orders of multistep methods count the steps that follow
    other = card.sample(model, x, grid[:-1], process=path, draws=Silence(), denoise_to_zero=True)
    assert other.nfe == card.nfe(grid[:-1]) + 1 == run.nfe
    if "single" in name:
        torch.testing.assert_close(other.x, run.x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["singlestep2", "singlestep3", "fast"])
def test_cost_of_the_interval_to_zero_where_noise_remains(name):
    """On cosine sigma(0) > 0; the declared cost reads the grid alone: the interval to t = 0 has order 1 too."""
    path, card = process.named("cosine"), SAMPLERS[name]
    grid, x = torch.linspace(0.9, 0, 6, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    assert card.sample(exact_model(path), x, grid, process=path, draws=Silence()).nfe == card.nfe(grid)


def test_denoise_to_zero_adds_the_mean_at_the_end():
    for name in ("2m", "3m", "fast", "adaptive2"):
        grid = grids.uniform_lam(6, VP)
        x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
        plain, more = (
            SAMPLERS[name].sample(exact_model(VP), x, grid, **go(), denoise_to_zero=each) for each in (False, True)
        )
        assert torch.equal(more.x, exact_model(VP)(plain.x, 0.05)) and more.nfe == plain.nfe + 1


ADAPTIVE = {  # evaluations and largest error of dpm_solver_pytorch.py at commit 52bc3fb, float64: G3, vp-linear
    # from 1 to .001, starts linspace(-2.2, 2.2, 9), solver_type dpmsolver, atol = .156 rtol, rtol .05, 1e-2, 1e-3, 1e-4
    2: ((84, 1.727044e-2), (136, 4.873996e-3), (194, 9.548768e-4), (472, 1.590646e-4)),
    3: ((48, 3.296780e-2), (84, 6.662062e-4), (153, 1.303991e-4), (246, 2.872281e-5)),
}


@pytest.mark.parametrize("order", ADAPTIVE)
def test_shared_steps_are_the_official_ones(order):
    """NFE to the last evaluation; errors to a thousandth, because the code rounds its factors to float32."""
    path = process.named("vp-linear")
    x = torch.linspace(-2.2, 2.2, 9, dtype=torch.float64)[:, None]
    exact = G3.flow(x, path.alpha(1.0), path.sigma(1.0), path.alpha(1e-3), path.sigma(1e-3))
    card, grid = SAMPLERS[f"adaptive{order}_shared"], torch.tensor([1.0, 1e-3], dtype=torch.float64)
    for rtol, (nfe, error) in zip((0.05, 1e-2, 1e-3, 1e-4), ADAPTIVE[order], strict=True):
        options = dict(rtol=rtol, atol=0.156 * rtol, process=path, draws=Silence())
        run = card.sample(exact_model(path), x, grid, **options)
        assert run.nfe == nfe
        assert (run.x - exact).abs().max().item() == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("order", [2, 3])
def test_own_steps_are_shared_ones_of_a_batch_of_one(order):
    x = torch.linspace(-2, 2, 4, dtype=torch.float64)[:, None]
    grid = grids.uniform_lam(1, VP)
    own = dpm.sample_adaptive(exact_model(VP), x, grid, **go(), order=order)
    alone = [dpm.sample_adaptive(exact_model(VP), row[None], grid, **go(), order=order, shared=True) for row in x]
    torch.testing.assert_close(own.x, torch.cat([run.x for run in alone]), rtol=1e-12, atol=1e-12)
    assert own.nfe == pytest.approx(sum(run.nfe for run in alone) / 4)
    together = dpm.sample_adaptive(exact_model(VP), x, grid, **go(), order=order, shared=True)
    assert together.nfe > own.nfe  # the worst sample rules them all


def test_adaptive_options_are_the_code_s_and_bite():
    parameters = inspect.signature(dpm.sample_adaptive).parameters
    code = dict(rtol=0.05, atol=0.0078, first=0.05, safety=0.9, form="dpm", shared=False)
    assert {name: parameters[name].default for name in code} == code
    grid, x = grids.uniform_lam(1, VP), torch.linspace(-2, 2, 4, dtype=torch.float64)[:, None]
    run = partial(dpm.sample_adaptive, exact_model(VP), x, grid, **go(), order=2, shared=True)
    assert run(rtol=1e-3, atol=1e-4).nfe > run().nfe and run(atol=0.5).nfe < run().nfe
    assert not torch.equal(run(first=1e-4).x, run().x) and run(safety=0.5).nfe > run().nfe
    assert run(form="taylor").nfe != run().nfe


def test_a_model_that_gives_no_number_ends_the_adaptive_loop():
    grid, x = grids.uniform_lam(1, VP), torch.ones(2, 1, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="step in lam"):
        dpm.sample_adaptive(Predictor("mean", lambda y, t: y * math.nan), x, grid, **go())


def test_gradient_of_tight_adaptive_steps_reaches_the_start():
    """What the cards' known failure says: at rtol 1e-4 the frozen steps no longer matter."""
    x = torch.linspace(-1.5, 1.5, 4, dtype=torch.float64)[:, None]
    run = partial(dpm.sample_adaptive, exact_model(VP), grid=grids.uniform_lam(1, VP), **go(), rtol=1e-4, atol=1e-5)
    leaf = x.clone().requires_grad_()
    slope = torch.autograd.grad(run(x=leaf).x.sum(), leaf)[0]
    difference = (run(x=x + 1e-5).x - run(x=x - 1e-5).x) / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-2, atol=1e-2 * difference.abs().max().item())


BAD = [
    ("singlestep2", {"order": 4}, ValueError, r"order: 4, expected 1 or 2 or 3"),
    ("singlestep2", {"form": "heun"}, ValueError, "form: 'heun', expected 'dpm'"),
    ("singlestep2", {"r1": 1.2}, ValueError, "r1, r2: 1.2"),
    ("singlestep3", {"r1": 0.7, "r2": 0.5}, ValueError, "expected 0 < r1 < r2 < 1"),
    ("singlestep2", {"inner": "rho"}, ValueError, "inner: 'rho', expected 'lam', 't' or 'sqrt_t'"),
    ("2m", {"order": 0}, ValueError, "order: 0"),
    ("adaptive2", {"order": 1}, ValueError, "order: 1, expected 2 or 3"),
    ("adaptive3", {"rtol": 0.0, "atol": 0.0}, ValueError, "rtol, atol: 0.0, 0.0"),
    ("adaptive3", {"safety": 0.0}, ValueError, "first, safety: 0.05, 0.0, expected first > 0, 0 < safety < 1"),
    ("adaptive3", {"safety": 1.0}, ValueError, "0.05, 1.0, expected"),
    ("adaptive2", {"safety": 2.0}, ValueError, "0.05, 2.0, expected"),
    ("adaptive2", {"safety": math.nan}, ValueError, "0.05, nan, expected"),
    ("adaptive2", {"first": 0}, ValueError, "first, safety: 0, 0.9, expected"),
    ("adaptive2", {"rtol": -1.0}, ValueError, "rtol, atol: -1.0, 0.0078, expected"),
    ("fast", {"order": 2.0}, ValueError, "order: 2.0"),
    ("2m", {"order": 2.0}, ValueError, "order: 2.0"),
    ("singlestep2", {"order": 1, "inner": "x"}, ValueError, "inner: 'x'"),
    ("encoder2", {"inner": "rho"}, ValueError, "inner: 'rho', expected 'lam', 't' or 'sqrt_t'"),
]


def never(x, t):
    raise AssertionError("evaluated before the refusal")


@pytest.mark.parametrize(("name", "options", "error", "match"), BAD)
def test_bad_options_are_refused_before_the_first_evaluation(name, options, error, match):
    with pytest.raises(error, match=match):
        SAMPLERS[name].sample(Predictor("mean", never), torch.ones(1, 1), grids.uniform_lam(3, VP), **go(), **options)


@pytest.mark.parametrize("name", SAMPLERS)
def test_pure_noise_without_signal_is_refused(name):
    """alpha = 0 at t = 1 on condot: e = x there, whatever x0 is."""
    path, grid = process.named("condot"), torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    with pytest.raises(grids.BadGrid, match="alpha = 0 on condot"):
        SAMPLERS[name].sample(Predictor("mean", never), torch.ones(1, 1), grid, process=path, draws=Silence())


@pytest.mark.parametrize("name", DOWN)
def test_nothing_to_denoise_is_refused(name):
    path, grid = process.named("vp-linear"), torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    what = "denoise_to_zero" if not name.startswith("adaptive") else "adaptive steps"
    with pytest.raises(grids.BadGrid, match=f"ends at 0, clean data, expected sigma > 0 for {what}; end at t > 0"):
        options = dict(process=path, draws=Silence(), denoise_to_zero=True)
        SAMPLERS[name].sample(Predictor("mean", never), torch.ones(1, 1), grid, **options)


# ---- upwards, and chains -----------------------------------------------------------------------------------------
UPWARD = [(1, "dpm", 0), (2, "dpm", 0), (2, "taylor", 1), (3, "dpm", 1), (3, "taylor", 2)]


@pytest.mark.parametrize(("order", "form", "highest"), UPWARD)
def test_the_encoder_is_exact_on_polynomials(order, form, highest):
    """Invariant 5: the same steps with their ends exchanged, so that T2 holds upwards."""
    grid, x = grids.uniform_t(4, VP), torch.tensor([[0.8]], dtype=torch.float64)
    for degree in range(highest + 2):
        found = dpm.encode(polynomial(degree), x, grid, **go(), order=order, form=form).x.item()
        end, size = exact_end(0.8, 0.05, 0.9, degree)
        assert (abs(found - end) <= 1e-10 * size) is (degree <= highest)


@pytest.mark.parametrize("memory", [False, True])
def test_encoding_and_decoding_a_point_mass_is_the_identity(memory):
    """Invariant 5, for every order: e is constant along the flow of a point mass."""
    grid, x = grids.uniform_t(5, VP), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    point = Predictor("mean", lambda y, t: torch.full_like(y, 0.7))
    for order in (1, 2, 3):
        up = dpm.encode(point, x, grid, **go(), order=order, memory=memory)
        down = (dpm.sample_multistep if memory else dpm.sample)(point, up.x, grid, **go(), order=order)
        torch.testing.assert_close(down.x, x, rtol=1e-9, atol=1e-9)
        assert up.nfe == down.nfe == 5 * (1 if memory else order)


# DPM_Solver.inverse of dpm_solver_pytorch.py at commit 52bc3fb, float64: exact noise prediction of G3, vp-linear
# from .001 to 1, four steps even in lam, from (.3, -1.1)
UP_AS_CODED = {
    "encoder2": (-0.1995487043279016, -0.5642461768630556),
    "encoder3": (-0.20637276130416066, -0.7501477413937286),
    "encoder_2m": (-0.13184383883175482, -0.77727785325847),
    "encoder_3m_official": (-0.1318438388317547, -0.77727785325847),  # four steps: orders 1, 2, 2, 1
}


@pytest.mark.parametrize("name", UP_AS_CODED)
def test_the_encoder_is_the_official_inverse(name):
    path, x = process.named("vp-linear"), torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    run = SAMPLERS[name].sample(exact_model(path), x, grids.uniform_lam(4, path), process=path, draws=Silence())
    assert run.x.flatten().tolist() == pytest.approx(UP_AS_CODED[name], rel=1e-10)


UP_IN_TIME = [  # the same on points even in t: order 3 over nine steps, none lowered; order 2, four singlestep ones
    (9, {"order": 3, "memory": True, "official": True, "lower_order_final": False},
     (-0.06049438730985815, -0.8566211925507322)),
    (4, {"order": 2, "inner": "t"}, (-0.06640906432265926, -0.7730647627154473)),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "options", "end"), UP_IN_TIME)
def test_the_encoder_is_the_official_inverse_on_time_grids(steps, options, end):
    """And none of its options is idle: without one of them it ends elsewhere."""
    path, x = process.named("vp-linear"), torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    run = partial(dpm.encode, exact_model(path), x, grids.uniform_t(steps, path), process=path, draws=Silence())
    assert run(**options).x.flatten().tolist() == pytest.approx(end, rel=1e-10)
    for option in options.keys() - {"order", "memory"}:
        less = {name: value for name, value in options.items() if name != option}
        assert (run(**less).x - run(**options).x).abs().max() > 1e-3


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name.startswith("encoder")])
def test_clean_data_cannot_be_encoded(name):
    path, grid = process.named("vp-linear"), torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64)
    with pytest.raises(grids.BadGrid, match="ends at 0, clean data, expected sigma > 0 for encode; end at t > 0"):
        SAMPLERS[name].sample(Predictor("mean", never), torch.ones(1, 1), grid, process=path, draws=Silence())


def test_a_chain_begins_where_the_code_begins_it():
    """The clip at -5.1 drops the noisiest four levels of the cosine chain and none of the linear one; the ends are
    those of dpm_solver_pytorch.py at commit 52bc3fb, float64: 2M, 8 steps even in lam, from (.3, -1.1)."""
    x, card = torch.tensor([[0.3], [-1.1]], dtype=torch.float64), SAMPLERS["2m_clipped"]
    for name, first, ends in (
        ("discrete-cosine", 0.996, (0.4948011084753554, -1.1723767348480207)),
        ("discrete-linear", 1.0, (0.49311513031665777, -1.20401574438213)),
    ):
        chain = process.named(name)
        grid = card.grid(8, chain)
        assert grid[[0, -1]].tolist() == [first, 0.001]
        assert chain.lam(first) >= -5.1 and (first == 1 or chain.lam(first + 1e-3) < -5.1)
        run = card.sample(exact_model(chain), x, grid, process=chain, draws=Silence())
        assert run.x.flatten().tolist() == pytest.approx(ends, rel=1e-11)
    inside = dpm.clipped_lam(2, process.named("discrete-cosine").between(0.1, 0.5))
    assert inside[[0, -1]].tolist() == [0.5, 0.1]


@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_every_form_of_one_interval_of_order_one_is_the_same(a, b):
    if abs(a - b) < 1e-3:
        return
    grid = torch.tensor([max(a, b), min(a, b)], dtype=torch.float64)
    x = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    ends = [
        SAMPLERS[name].sample(exact_model(VP), x, grid, **go(), order=1).x for name in ("singlestep2", "fast", "2m")
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-13, atol=1e-13)
