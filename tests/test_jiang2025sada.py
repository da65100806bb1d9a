"""jiang2025sada: the test, what replaces a skipped call, the official schedulers' paths, pruned tokens."""

import inspect
import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from reference_impls import catalogue, targets
from reference_impls.continuous import jiang2025sada as sada
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor
from reference_impls.targets.gaussian import Gaussian

CHAIN, CONDOT = process.named("discrete-linear"), process.named("condot")
GMM = targets.named("gmm-64")
KNOTS = (torch.linspace(999, 0, 51, dtype=torch.float64).round() + 1) / 1000  # the code's "linspace" spacing, 50 steps


def normals(rows, *shape, seed=7):
    return Philox(seed, rows).normal("start", torch.empty(rows, *shape, dtype=torch.float64))


def run(model, x, grid=KNOTS, path=CHAIN, **options):
    return sada.sample(model, x, grid, process=path, draws=Silence(), **options)


def plan_of(grid, path, may, **options):
    published = dict(weights="code", order=2, lower_order_final=True, lag_terms=4, lag_every=4, network="noise")
    return sada.plan(grid, path, may, **published | {"over_alpha": False} | options)


def calls_of(model, x, sample, grid, path, **options):
    """The run, and how many rows were evaluated at each time of the grid."""
    seen = {}

    def counted(y, t):
        seen[t] = seen.get(t, 0) + len(y)
        return model(y, t)

    found = sample(Predictor("mean", counted), x, grid, process=path, draws=Silence(), **options)
    return found, [seen.get(t, 0) for t in grid[:-1].tolist()]


# The official code


@pytest.mark.parametrize(
    ("rows", "terms", "official", "skips"),
    [  # PatchedDPMSolverMultistepScheduler in float64, 50 steps, gmm-64, Philox(7, rows); `skips` is its skipping_path
        (3, 0, (4.36417653263668, -0.9478376798781524, -0.45349548426351827),
         [10, 11, 13, 15, 16, 18, 20, 21, 23, 25, 27, 29, 31, 33, 35]),
        (3, 4, (4.2896652293643385, -0.953185378451157, -0.454283272113548),
         [10, 11, 13, 15, 16, 18, 20, 21, 23, 25, 26, 27, 29, 30, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43, 45, 46]),
        (1, 4, (-0.9132803250205863, -0.9522874192247084, 0.41501814141290116),
         [10, 11, 13, 15, 16, 18, 19, 21, 23, 25, 26, 27, 29, 30, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43, 45, 46]),
    ],
)  # fmt: skip
def test_official_numbers_and_path(rows, terms, official, skips):
    model, x = targets.exact(GMM, CHAIN), normals(rows, 1, 8, 8)
    found, calls = calls_of(model, x, sada.sample, KNOTS, CHAIN, lag_terms=terms, batch_global=True)
    assert [i - 1 for i, n in enumerate(calls) if n == 0] == skips and found.nfe == 50 - len(skips)
    y = found.x
    assert (y.sum().item(), y[0, 0, 0, 0].item(), y[-1, 0, 7, 7].item()) == pytest.approx(official, rel=1e-11)
    if rows == 1:  # of one sample the batch's mean is its own
        assert torch.equal(y, run(model, x, lag_terms=terms).x)


CLEAN = torch.zeros(1, dtype=torch.float64)
TO_CLEAN = torch.cat([KNOTS[:-1], CLEAN])
EULER_KNOTS = torch.cat([(torch.linspace(999, 0, 50, dtype=torch.float64).round() + 1) / 1000, CLEAN])


@pytest.mark.parametrize(
    ("card", "terms", "grid", "official", "skips"),
    [  # float64, 50 steps to clean data, gmm-64, Philox(7, 3): PatchedEulerDiscreteScheduler with a network of eps, and
       # PatchedDPMSolverMultistepScheduler with one of v ("v_prediction")
        ("official_euler", 4, EULER_KNOTS, (5.19774850173606, -0.9143911671849434, -0.4543480520214355),
         [10, 11, 12, 13, 15, 17, 19, 20, 22, 25, 26, 27, 29, 30, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43, 45, 46]),
        ("official_v", 0, TO_CLEAN, (4.74550221252443, -0.9196826310802526, -0.44580223610449327),
         [10, 11, 12, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45]),
        ("official_v", 4, TO_CLEAN, (4.853854324517848, -0.9140383329590089, -0.44517322589852787),
         [10, 11, 12, 13, 15, 17, 19, 21, 23, 25, 26, 27, 29, 30, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43, 45, 46]),
    ],
)  # fmt: skip
def test_official_numbers_of_the_other_forms(card, terms, grid, official, skips):
    sample = catalogue.samplers()[f"jiang2025sada.{card}"].sample
    x = normals(3, 1, 8, 8)
    found, calls = calls_of(targets.exact(GMM, CHAIN), x, sample, grid, CHAIN, lag_terms=terms)
    assert [i - 1 for i, n in enumerate(calls) if n == 0] == skips
    y = found.x
    assert (y.sum().item(), y[0, 0, 0, 0].item(), y[-1, 0, 7, 7].item()) == pytest.approx(official, rel=1e-11)


def test_official_numbers_of_the_flow_form():
    """PatchedFlowMatchEulerDiscreteScheduler in float64, 50 steps, Lagrange on: its path is not left to rounding."""
    grid = torch.cat([torch.linspace(1, 0.02, 50, dtype=torch.float64), CLEAN])
    x = normals(3, 1, 8, 8)
    found, calls = calls_of(targets.exact(GMM, CONDOT), x, sada.sample_flow, grid, CONDOT, batch_global=True)
    skips = [21, 22, 23, 25, 26, 27, 29, 30, 31, 33, 34, 35, 37, 38, 39, 41, 42, 43, 45, 46]
    assert [i - 1 for i, n in enumerate(calls) if n == 0] == skips
    y = found.x
    assert (y.sum().item(), y[0, 0, 0, 0].item(), y[-1, 0, 7, 7].item()) == pytest.approx(
        (4.837392682697471, -0.911384522507999, -0.4434355871337228), rel=1e-11
    )


# The weights


@pytest.mark.parametrize(("weights", "order"), [("code", 2), ("paper", 3), ("ab3", 4)])
def test_local_order_of_the_weights(weights, order):
    """Invariant 1: the weights sum to 1; against x(t - h) of x' = cos t with exact slopes at t, t + h, t + 2h."""
    w = sada.WEIGHTS[weights]
    assert sum(w) == pytest.approx(1, abs=1e-15)
    errors = []
    for h in (0.02, 0.01, 0.005):
        guess = math.sin(1.0) - h * sum(a * math.cos(1.0 + k * h) for k, a in enumerate(w))
        errors.append(abs(guess - math.sin(1.0 - h)))
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(slope == pytest.approx(order, abs=0.1) for slope in slopes), slopes


@pytest.mark.parametrize("index", [900, 500, 200])
def test_the_coded_stride_is_one_training_step(index):
    """Invariant 2: one of the 20 training steps that a step of 1/50 advances; point-mass data c = e = 1."""
    t = torch.tensor([(index + 1) / 1000], dtype=torch.float64)
    f_x, f_eps = sada.chain_step(t, CHAIN)
    x = CHAIN.alpha(t) + CHAIN.sigma(t)
    beta = 1e-4 + (0.02 - 1e-4) * index / 999
    coded = -0.5 * beta * x + 0.5 * beta / CHAIN.sigma(t)
    torch.testing.assert_close(f_x * x + f_eps, coded, rtol=1e-10, atol=0)
    s = t - 0.02
    true = CHAIN.alpha(s) + CHAIN.sigma(s) - x
    assert (true / -coded).item() == pytest.approx(20, rel=0.25)  # beta falls by a tenth or a fifth over the step


@pytest.mark.parametrize("network", sada.NETWORKS)
@pytest.mark.parametrize("path", ["vp-linear", "subvp"])
def test_the_velocity_of_the_paper_is_that_of_the_flow(path, network):
    """f of "paper" against the flow of a Gaussian over a small time, made of eps or of v."""
    path = process.named(path).between(0.05, 0.9)
    law = Gaussian("g", torch.full((3,), 0.4, dtype=torch.float64), torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64))
    grid = torch.tensor([0.9, 0.5, 0.4], dtype=torch.float64)
    may = torch.zeros(2, dtype=torch.float64)
    rows = plan_of(grid, path, may, weights="paper", network=network)
    x, h = normals(2, 3), 1e-5
    mean = law.mean(x, path.alpha(0.5), path.sigma(0.5))
    out = rows.out_x[1] * x + rows.out_mean[1] * mean
    eps = (x - path.alpha(0.5) * mean) / path.sigma(0.5)
    expected = eps if network == "noise" else path.alpha(0.5) * eps - path.sigma(0.5) * mean
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    y = path.alpha(0.4) * mean + path.sigma(0.4) * eps  # with the output of there, the same mean comes back
    there = eps if network == "noise" else path.alpha(0.4) * eps - path.sigma(0.4) * mean
    torch.testing.assert_close(rows.ghost_x[1] * y + rows.ghost_out[1] * there, mean, rtol=1e-12, atol=1e-12)
    ends = [law.flow(x, path.alpha(0.5), path.sigma(0.5), path.alpha(t), path.sigma(t)) for t in (0.5 + h, 0.5 - h)]
    torch.testing.assert_close(
        rows.f_x[1] * x + rows.f_out[1] * out, (ends[0] - ends[1]) / (2 * h), rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(rows.stride, torch.tensor([0.4, 0.1], dtype=torch.float64))


# What replaces a skipped call


def test_no_skips_is_the_base_solver():
    """Invariant 3, bit for bit, whatever else is set: an empty range, and one that begins after the end."""
    model, x = targets.exact(GMM, CHAIN), normals(2, 1, 8, 8)
    base = run(model, x, last=0)
    assert base.nfe == 50 and torch.equal(base.x, run(model, x, first=47, weights="ab3", lag_terms=0).x)
    assert torch.equal(base.x, run(model, x, most=0).x)


def test_point_mass_on_skipped_steps():
    """Invariants 2, 6 on 50 steps: reused noise with the solver's own state is exact; of the extrapolations, whose
    errors in x0 partly cancel over a run, the coded one is by far the worst."""
    point = Predictor("mean", lambda x, t: torch.ones_like(x))
    x = CHAIN.alpha(1.0) + CHAIN.sigma(1.0) * normals(6, 5)
    exact = CHAIN.alpha(0.001) + CHAIN.sigma(0.001) / CHAIN.sigma(1.0) * (x - CHAIN.alpha(1.0))
    gaps, costs = {}, {}
    for weights in sada.WEIGHTS:
        found = run(point, x, weights=weights, lag_terms=0)
        gaps[weights], costs[weights] = (found.x - exact).abs().max().item(), found.nfe
    assert all(nfe < 47 for nfe in costs.values()), costs
    assert gaps["reuse"] <= 1e-12 and gaps["paper"] > 1e-7 and gaps["code"] > 20 * gaps["paper"], gaps


@pytest.mark.parametrize(
    ("weights", "errors"),
    [("code", (-0.045, -0.016, 0.006, 0.027)), ("paper", (3.7e-4, 2.1e-4, 0.5e-4, 5.1e-4)), ("reuse", (0.0,) * 4)],
)
def test_prediction_of_a_skipped_step(weights, errors):
    """Invariant 2 on the Stable Diffusion chain, c = e = 1, steps of 1/50: the error of the x0 that a skipped step gets
    at indices 700, 500, 300, 100; as coded those of the card, with the paper's weights 1e-4 .. 7e-4."""
    path = process.discrete(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
    for index, error in zip((700, 500, 300, 100), errors, strict=True):
        grid = (torch.tensor([index + 40, index + 20, index, index - 20], dtype=torch.float64) + 1) / 1000
        x = (path.alpha(grid) + path.sigma(grid))[:, None]
        plan = plan_of(grid, path, torch.ones(3, dtype=torch.float64), weights=weights, order=1)
        rows = [sada.Plan._make(row) for row in zip(*(column.tolist() for column in plan), strict=True)]
        memory = None
        for i, row in enumerate(rows):
            end, memory = sada.sada_step(
                x[i : i + 1], row, memory, model=Predictor("mean", lambda y, t: torch.ones_like(y)), draws=Silence(),
                weights=weights, most=4, batch_global=False,
            )  # fmt: skip
        if weights == "reuse":  # from the solver's own state, exact on a point mass once the history is
            assert memory.ghost.item() == pytest.approx(1.0, abs=1e-12)
        else:
            assert memory.ghost.item() - 1 == pytest.approx(error, abs=6e-4 if weights == "code" else 2e-5)


def test_lagrange_is_exact_for_polynomials_in_the_index():
    """Invariant 4: a mean cubic in the step's index, four terms: every prediction used is the true one."""
    index = {t: i for i, t in enumerate(KNOTS.tolist())}

    def cubic(x, t):
        i = index[t] / 50
        return torch.full_like(x, 0.3 - i + 2 * i**2 - 1.5 * i**3)

    x = normals(3, 4)
    found, calls = calls_of(Predictor("mean", cubic), x, sada.sample, KNOTS, CHAIN, first=24)
    base = run(Predictor("mean", cubic), x, last=0)
    assert [i for i in range(25, 48) if calls[i]] == [25, 29, 33, 37, 41, 45] and found.nfe == 50 - 17
    torch.testing.assert_close(found.x, base.x, rtol=1e-10, atol=1e-10)
    fewer = run(Predictor("mean", cubic), x, first=24, lag_terms=3)
    assert (fewer.x - base.x).abs().max() > 1e-6


def test_lagrange_weights_use_what_there_is():
    rows = sada.lagrange_weights(12, 3, 4)
    assert rows[0].tolist() == [0, 0, 0] and rows[1].tolist() == [0, 0, 1] == rows[4].tolist()
    assert rows[6].tolist() == [0, pytest.approx(-0.5), pytest.approx(1.5)]  # nodes 1, 5, value at 7
    assert rows[10].tolist() == pytest.approx([12 / 32, -20 / 16, 60 / 32], rel=1e-14)  # nodes 1, 5, 9, value at 11
    nodes = torch.tensor([1.0, 5.0, 9.0], dtype=torch.float64)
    for degree in range(3):
        assert (rows[10] @ nodes**degree).item() == pytest.approx(11.0**degree, rel=1e-12)


def test_straight_flows_are_skipped_and_exact():
    """Invariant 5: point mass on condot: the criterion is 0 at every step, so all are skipped up to four in a row."""
    point, grid = Predictor("mean", lambda x, t: torch.full_like(x, 0.7)), grids.t_to_zero(50, CONDOT)
    x = normals(4, 3)
    found, calls = calls_of(point, x, sada.sample_flow, grid, CONDOT, lag_terms=0)
    torch.testing.assert_close(found.x, torch.full_like(x, 0.7), rtol=1e-12, atol=1e-12)
    straight = Predictor(
        "mean", lambda x, t: torch.zeros_like(x)
    )  # velocity x/t: exactly constant, no rounding to read
    x = torch.tensor([[0.5], [-2.0]], dtype=torch.float64)
    times = torch.cat([torch.arange(50, 0, -1), torch.zeros(1)]).double() / 64
    found, calls = calls_of(straight, x, sada.sample_flow, times, CONDOT, lag_terms=0)
    skipped = [i for i, n in enumerate(calls) if n == 0]
    assert found.nfe < 50 and max(map(len, runs(skipped))) <= 4 and found.x.abs().max() <= 1e-12


def runs(indices):
    """Maximal runs of consecutive indices."""
    found = []
    for i in indices:
        if found and found[-1][-1] == i - 1:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def test_flow_steps_by_hand():
    """Five steps with a forced skip of the fourth: f = 2 f_1 - f_2, then the memory holds f_1 twice."""
    model, x = targets.exact(GMM, CONDOT), normals(1, 1, 8, 8)
    grid = torch.linspace(0.9, 0.4, 6, dtype=torch.float64)
    plan_ = sada.schedule(5, 10, 47, 0, 4, 0)
    assert plan_.tolist() == [0, 0, 0, 1, 0]

    def velocity(y, t):
        return (y - model(y, t)) / t

    fs, y = [], x
    for i in range(3):
        fs.append(velocity(y, grid[i].item()))
        y = y - 0.1 * fs[-1]
    goes = -((fs[2] - fs[1]) - (fs[1] - fs[0]))
    rows = sada.FlowPlan(0.6, -0.1, 1 / 0.6, -1 / 0.6, sada.TESTED)
    none, streak = torch.zeros(1, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
    y3, memory = sada.flow_step(
        y,
        rows,
        sada.FlowMemory(fs[2], fs[1], ~none, streak + 1),
        model=model,
        draws=Silence(),
        most=4,
        batch_global=False,
    )
    torch.testing.assert_close(y3, y - 0.1 * (2 * fs[2] - fs[1]), rtol=1e-13, atol=1e-13)
    assert torch.equal(memory.f1, fs[2]) and torch.equal(memory.f2, fs[2])
    assert memory.skip.item() and memory.streak.item() == 2  # C = 0 after a skip: "<=" says skip again
    _, fresh = sada.flow_step(
        y, rows, sada.FlowMemory(fs[1], fs[0], none, streak), model=model, draws=Silence(), most=4, batch_global=False
    )
    f = (y - model(y, 0.6)) / 0.6
    assert fresh.skip.item() is bool((-((f - fs[1]) - (fs[1] - fs[0]))).mean() <= 0) and goes.isfinite().all()


def test_most_skips_in_a_row():
    c, streak = torch.tensor([-1.0, -1.0, 1.0, 0.0]), torch.tensor([0, 4, 2, 3])
    assert [v.tolist() for v in sada.decided(c, 1, streak, 4)] == [[True, False, False, True], [1, 0, 0, 4]]
    assert sada.decided(c, 2, streak, 4)[0].tolist() == [True, False, True, True]
    assert sada.decided(c, 0, streak, 4)[0].tolist() == [False] * 4


def test_defaults_are_those_of_the_demos():
    """sd_demo.py and flux_demo.py for 50 steps; below 15 steps the last one is of first order, as in the scheduler."""
    found = {name: option.default for name, option in inspect.signature(sada.sample).parameters.items()}
    demo = dict(weights="code", order=2, first=10, last=47, most=4, lag_terms=4, lag_every=4, lag_first=24, even=0)
    assert demo.items() <= found.items() and found["network"] == "noise"
    assert [found[name] for name in ("batch_global", "lower_order_final", "over_alpha")] == [False, True, False]
    found = {name: option.default for name, option in inspect.signature(sada.sample_flow).parameters.items()}
    flux = dict(first=10, last=47, most=4, lag_terms=3, lag_every=4, lag_first=20, batch_global=False, even=0)
    assert flux.items() <= found.items()
    for steps, lower, first in ((14, True, True), (15, True, False), (14, False, False)):
        grid = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        rows = plan_of(grid, CHAIN, torch.zeros(steps), lower_order_final=lower)
        assert (rows.before[-1] == 0) == first and (rows.before[1:-1] != 0).all() and rows.before[0] == 0


def test_one_training_step_ends_at_clean_data():
    """f of the last, partial step of the chain: from .0004, less than one of 1,000, it goes to 0."""
    t = torch.tensor([0.0004], dtype=torch.float64)
    f_x, f_eps = sada.chain_step(t, CHAIN)
    assert f_x.item() == pytest.approx((CHAIN.alpha(t) ** 2 - 1).item() / 2, rel=1e-12)
    assert f_eps.item() == pytest.approx(CHAIN.sigma(t).item() / 2, rel=1e-12)


def test_first_three_steps_and_the_ranges_scale():
    for steps, begin, end, lag in ((50, 10, 47, 24), (100, 20, 94, 48), (25, 5, 23, 12), (10, 3, 9, 4)):
        may = sada.schedule(steps, 10, 47, 4, 4, 24)
        assert may.nonzero()[0].item() == begin and may.nonzero()[-1].item() < end
        assert (may[begin:lag] == sada.TESTED).all() and (may[end:] == 0).all() and (may[begin:].bool()).sum() > 0
        assert [i for i in range(lag, end) if not may[i]] == [i for i in range(lag, end) if i % 4 == 0]


def test_few_steps_wait_for_three_velocities_and_unscaled_indices_are_the_codes():
    """8 steps scale lag_first to 3, whose multiple below is 0: the first forced skip still comes after three f."""
    for steps in (7, 8, 9):
        may = sada.schedule(steps, 10, 47, 4, 4, 24)
        assert (may[:3] == 0).all() and may[4:].nonzero().shape[0] > 0
    for steps, first in ((25, 10), (15, 10), (60, 10)):
        may = sada.schedule(steps, 10, 47, 4, 4, 24, scaled=False)
        assert may.nonzero()[0].item() == first and (may[47:] == 0).all() and (may[first:24] == sada.TESTED).all()
    model, x = targets.exact(GMM, CHAIN), normals(3, 1, 8, 8)
    grid = torch.linspace(1.0, 0.001, 26, dtype=torch.float64)
    scaled, given = (
        sada.sample(model, x, grid, process=CHAIN, draws=Silence(), scaled=scaled) for scaled in (True, False)
    )
    assert scaled.nfe < given.nfe < 25
    assert torch.equal(
        sada.sample(model, x, KNOTS, process=CHAIN, draws=Silence(), scaled=False).x,
        sada.sample(model, x, KNOTS, process=CHAIN, draws=Silence()).x,
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"first": -5}, "first: -5, expected an integer >= 0"),
        ({"first": 10.5}, "first: 10.5, expected an integer >= 0"),
        ({"last": 400}, "last: 400, expected at most 50"),
        ({"most": -1}, "most: -1, expected an integer >= 0"),
        ({"most": math.nan}, "most: nan, expected an integer >= 0"),
        ({"lag_terms": 2.5}, "lag_terms: 2.5, expected an integer >= 0"),
        ({"even": 100}, "even: 100, expected 0"),
    ],
)
def test_odd_indices_are_named_before_any_call(change, says):
    def never(x, t):
        raise AssertionError("called")

    for sample, path in ((sada.sample, CHAIN), (sada.sample_flow, CONDOT)):
        with pytest.raises(ValueError, match=says):
            sample(Predictor("mean", never), normals(1, 1, 8, 8), KNOTS, process=path, draws=Silence(), **change)


def test_even_skips_are_spread_over_the_window():
    """The uniform skipping that the test is compared with: so many calls, whatever C says, at even distances."""
    for even in (1, 5, 12, 37):
        chosen = sada.schedule(50, 10, 47, 4, 4, 24, even).nonzero()[:, 0]
        assert len(chosen) == even and chosen[0] - 10 == 46 - chosen[-1]  # as far from one end as from the other
        assert chosen.diff().max() - chosen.diff().min() <= 1 if even > 1 else chosen == 28
    whole = sada.schedule(50, 3, 50, 4, 4, 24, 46).nonzero()[:, 0]  # every step but the three first and the last
    assert whole.tolist() == list(range(3, 49))
    model, x = targets.exact(GMM, CHAIN), normals(3, 1, 8, 8)
    for sample, path, grid in (
        (sada.sample, CHAIN, KNOTS), (sada.sample_flow, CONDOT, torch.linspace(1, 0.02, 51, dtype=torch.float64))
    ):  # fmt: skip
        found, calls = calls_of(model, x, sample, grid, path, even=12)
        chosen = sada.schedule(50, 10, 47, 0, 4, 0, 12).nonzero()[:, 0].tolist()
        assert found.nfe == 38 and [i - 1 for i, n in enumerate(calls) if n == 0] == chosen
    skipped = run(Predictor("mean", lambda x, t: torch.ones_like(x)), x, even=12, weights="reuse")
    exact = run(Predictor("mean", lambda x, t: torch.ones_like(x)), x, last=0)
    torch.testing.assert_close(skipped.x, exact.x, rtol=1e-12, atol=1e-12)


# Samples on their own


def test_each_sample_has_its_own_path():
    """Claim (b): with a criterion per sample rows skip different calls, and each row is what it is alone."""
    model, x = targets.exact(GMM, CHAIN), normals(8, 1, 8, 8)
    together, calls = calls_of(model, x, sada.sample, KNOTS, CHAIN, lag_terms=0)
    assert any(0 < n < 8 for n in calls)
    alone = [run(model, x[i : i + 1], lag_terms=0) for i in range(8)]
    torch.testing.assert_close(together.x, torch.cat([each.x for each in alone]), rtol=1e-12, atol=1e-12)
    assert len({each.nfe for each in alone}) > 1 and together.nfe == sum(each.nfe for each in alone) / 8
    coupled = run(model, x, lag_terms=0, batch_global=True).x
    assert (coupled - together.x).abs().max() > 1e-6


# Tokens


def block(seed=3, width=6):
    """A transformer block without positions: attention and a feed-forward layer with residuals, [B,l,C] -> [B,l,C]."""
    q, k, v, up, down = (normals(width, width, seed=seed + j) / width**0.5 for j in range(5))

    def apply(x):
        weights = ((x @ q) @ (x @ k).mT / width**0.5).softmax(-1)
        x = x + weights @ (x @ v)
        return x + torch.tanh(x @ up) @ down

    return apply


def test_pruned_block_equals_the_dense_one_where_it_must():
    """Invariant 7: all tokens kept, or a cache of this very call with attention left out of the unkept ones' reach."""
    f, tokens = block(), normals(2, 12, 6)
    everything = torch.ones(12, dtype=torch.bool)
    torch.testing.assert_close(
        sada.pruned(f, tokens, everything, torch.zeros_like(tokens)), f(tokens), rtol=1e-12, atol=0
    )
    alone = lambda x: x + torch.tanh(x @ normals(6, 6))  # noqa: E731  a block without attention
    keep = torch.arange(12) % 3 == 0
    cache = alone(tokens)
    torch.testing.assert_close(sada.pruned(alone, tokens, keep, cache), cache, rtol=1e-12, atol=0)
    old = normals(2, 12, 6, seed=11)
    kept_cache = old.clone()
    out = sada.pruned(f, tokens, keep, old)
    assert torch.equal(old, kept_cache) and torch.equal(out[:, ~keep], old[:, ~keep])
    torch.testing.assert_close(out[:, keep], f(tokens[:, keep]), rtol=1e-13, atol=0)


def test_one_token_of_every_window_and_the_unstable_ones():
    none = torch.zeros(7 * 8, dtype=torch.bool)
    for place in range(9):
        u = torch.full((4,), (place + 0.5) / 9, dtype=torch.float64)
        kept = sada.kept_tokens(u, none, 7, 8).reshape(7, 8)
        wanted = torch.zeros(7, 8, dtype=torch.bool)
        for y, x in ((0, 0), (0, 3), (3, 0), (3, 3)):  # the last row and the last two columns have no window
            wanted[y + place // 3, x + place % 3] = True
        assert torch.equal(kept, wanted)
    unstable = none.clone()
    unstable[[5, 55]] = True
    kept = sada.kept_tokens(u, unstable, 7, 8)
    assert kept[5] and kept[55] and kept.sum() == 6
    assert sada.kept_tokens(torch.full((14,), 0.9), none, 7, 8, window=(1, 4)).reshape(7, 8)[:, [3, 7]].all()


def test_unstable_tokens():
    momentum = torch.tensor([[1.0, -3.0], [2.0, -1.0], [0.0, 0.0], [4.0, 4.0]], dtype=torch.float64)
    assert sada.unstable_tokens(momentum, 9).tolist() == [False, True, True, True]
    assert sada.unstable_tokens(momentum, 2).tolist() == [False, True, False, True]


def test_when_the_cache_is_refreshed():
    """prune.py: at acc0, every `most` calls, and in the same rhythm counted from the call after a skipped one."""
    kinds = [sada.token_pass(i, 10, 20, 0, 4) for i in range(8, 22)]
    assert [i for i, kind in enumerate(kinds, 8) if kind == "refresh"] == [10, 14, 18]
    assert [i for i, kind in enumerate(kinds, 8) if kind == "dense"] == [8, 9, 20, 21]
    assert [i for i in range(14, 20) if sada.token_pass(i, 10, 20, 13, 4) == "refresh"] == [14, 18]
    assert [i for i in range(9, 21) if sada.token_pass(i, 9, 21, 0, 4) == "refresh"] == [9, 13, 17]
    assert [i for i in range(10, 20) if sada.token_pass(i, 10, 20, 10, 4) == "refresh"] == [11, 15, 19]


# Refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "rk4"}, "weights, order: 'rk4'"),
        ({"order": 3}, "order: 'code', 3"),
        ({"lag_first": 22}, "multiple of lag_every"),
        ({"lag_every": 1}, "every >= 2"),
        ({"lag_terms": -1}, "lag_terms: -1, expected an integer >= 0"),
        ({"network": "x0"}, "network: 'x0', expected one of noise, v"),
        ({"even": 38}, r"even: 38, expected 0 \(the test\) to 37 skips in steps 10 to 46"),
        ({"even": -1}, "even: -1"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        run(targets.exact(GMM, CHAIN), normals(1, 1, 8, 8), **options)


def test_a_start_without_signal_is_refused_before_the_first_call():
    def never(x, t):
        raise AssertionError("evaluated")

    with pytest.raises(grids.BadGrid, match="alpha = 0"):
        run(Predictor("mean", never), normals(1, 2), grids.uniform_t(5, CONDOT), CONDOT)


@pytest.mark.parametrize("form", [sada.sample, sada.sample_flow])
@pytest.mark.parametrize(("even", "last"), [(29, 48), (33, 50), (37, 50), (40, 50)])
def test_even_skips_are_as_many_as_were_asked_for(form, even, last):
    """Neither does a run of more than `most` of them end one, nor is one spent on the last step, which has no next."""
    path = process.named("condot" if form is sada.sample_flow else "vp-linear").between(0.02, 0.98)
    model, x = targets.exact(targets.named("g3"), path), torch.ones(3, 1, dtype=torch.float64)
    grid = grids.uniform_t(50, path)
    found = form(model, x, grid, process=path, draws=Philox(0, 3), even=even, first=3, last=last)
    assert found.nfe == 50 - even
