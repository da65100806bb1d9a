"""COW: the pipeline written out for each reading of its levels, the cycle's stationary law, the kept seed, guidance."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Conditional, Guide, Predictor, WrongKind, expand
from reference_impls.editing import wang2024cow as paper

F64 = dict(dtype=torch.float64)
CHAIN = processes.named("discrete-linear")
COW, GUIDED = paper.PAPER.samplers
ABAR = (1 - torch.linspace(1e-4, 0.02, 1000, **F64)).cumprod(0)
EXACT = exact_model(CHAIN)
MODEL = Predictor("mean", lambda x, t: EXACT(x, t) + 0.2 * x.roll(1, -1))  # lets every coordinate see its neighbour
KNOWN = torch.tensor([True, True, False, False])


def normals(tag, *shape):
    return Philox(7, shape[0]).normal(tag, torch.empty(*shape, **F64))


def three_laws(x, t, condition):
    """Labels 0, 1, 2 and none: the exact mean of N(m, .3), m of its own for each, and a part of the neighbour."""
    centre = torch.tensor([-1.0, 0.5, 1.5, 0.2], **F64)
    m = 0.2 if condition is None else centre[condition][:, None]
    alpha, sigma = expand(CHAIN.alpha(t), x), expand(CHAIN.sigma(t), x)
    return m + 0.3 * alpha / (0.3 * alpha**2 + sigma**2) * (x - alpha * m) + 0.1 * x.roll(1, -1)


LABELLED = Conditional("mean", three_laws)


def written_out(canvas, known, S, draws, levels, eps, cycles=10, eta=1.0, eta_last=0.1):
    """pipeline_COW.py with the schedulers' arrays: timesteps 1 + 100 i at S = 10, alpha-bar of index 0 after the last.

    eps(x, chain index, inside a cycle). Returns the end and the seed's latents.
    """
    ratio, r, b, f = 1000 // S, int(0.5 * S), int(0.7 * S), int(0.4 * S)
    inverse = [i * ratio + 1 for i in range(S)]
    abar_of = [ABAR[0], *(ABAR[i] for i in inverse)]  # with k steps remaining

    def up(x, i):
        if levels == "0.17.1":
            a, a_up, label = ABAR[inverse[i]], ABAR[inverse[i] + ratio], inverse[i]
        else:
            a, a_up = abar_of[i], abar_of[i + 1]
            label = inverse[i] if levels == "0.27.1" else ([0, *inverse])[i]
        e = eps(x, label, False)
        return a_up.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + (1 - a_up).sqrt() * e

    def down(x, k, eta, z, inside):
        a, a_s = abar_of[k], abar_of[k - 1]
        e = eps(x, inverse[k - 1], inside)
        v = eta * ((1 - a_s) / (1 - a) * (1 - a / a_s)).sqrt()
        return a_s.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + (1 - a_s - v**2).sqrt() * e + v * z

    seed = [canvas]
    for i in range(b):
        seed.append(up(seed[-1], i))
    x, row = canvas, 0
    for i in range(r):
        x = up(x, i)
    a, a_up = (abar_of[r], abar_of[b]) if levels == "consistent" else (ABAR[inverse[r]], ABAR[inverse[b]])
    for _ in range(cycles):
        x = (a_up / a).sqrt() * x + (1 - a_up / a).sqrt() * draws.at(row).normal("churn", x)
        x = torch.where(known, seed[b], x)
        for k in range(b, r, -1):
            x = torch.where(known, seed[k - 1], down(x, k, eta, draws.at(row).normal("step", x), True))
            row += 1
    for k in range(r, 0, -1):
        if k == f:
            x = torch.where(known, seed[f], x)
        x, row = down(x, k, eta_last, draws.at(row).normal("step", x), False), row + 1
    return x, seed


@pytest.mark.parametrize("levels", paper.LEVELS)
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (5, {}),
        (7, {}),
        (10, {}),
        (3, {"cycles": 0}),
        (10, {"cycles": 0}),
        (10, {"eta": 0.0, "eta_last": 1.0, "cycles": 2}),
    ],
)
def test_sampler_is_the_published_pipeline(levels, steps, options):
    guide, draws = Guide(normals("guide", 3, 4), KNOWN), Philox(3, 3)
    grid = COW.grid(steps, CHAIN)
    x = COW.start(draws, guide.image, grid, CHAIN, {"guide": guide})

    def eps(x, i, inside):
        return (x - ABAR[i].sqrt() * MODEL(x, (i + 1) / 1000)) / (1 - ABAR[i]).sqrt()

    expected, _ = written_out(torch.where(KNOWN, guide.image, 1 / 255), KNOWN, steps, draws, levels, eps, **options)
    run = COW.sample(MODEL, x, grid, process=CHAIN, draws=draws, guide=guide, levels=levels, **options)
    torch.testing.assert_close(run.x, expected, rtol=1e-9, atol=1e-9)
    if not options:
        assert run.nfe == COW.nfe(grid)


@pytest.mark.parametrize(("suppress", "diverse"), [(-1, -1), (2, 1)])
def test_guided_sampler_is_the_published_pipeline(suppress, diverse):
    """neg + (suppress - diverse) outside the seed and inside the cycles, then neg + 7.5 (text - neg), on eps."""
    guide, draws, labels = Guide(normals("guide", 3, 4), KNOWN), Philox(3, 3), torch.tensor([0, 1, 0])
    grid = GUIDED.grid(10, CHAIN)
    x = GUIDED.start(draws, guide.image, grid, CHAIN, {"guide": guide})

    def eps(x, i, inside):
        def of(label):
            mean = three_laws(x, (i + 1) / 1000, label)
            return (x - ABAR[i].sqrt() * mean) / (1 - ABAR[i]).sqrt()

        neg = of(None)
        if inside and suppress != diverse:
            neg = KNOWN * neg + ~KNOWN * (neg + of(torch.full((3,), suppress)) - of(torch.full((3,), diverse)))
        return neg + 7.5 * (of(labels) - neg)

    expected, _ = written_out(torch.where(KNOWN, guide.image, 1 / 255), KNOWN, 10, draws, "consistent", eps)
    run = GUIDED.sample(
        LABELLED, x, grid, process=CHAIN, draws=draws, guide=guide, condition=labels, suppress=suppress, diverse=diverse
    )
    torch.testing.assert_close(run.x, expected, rtol=1e-8, atol=1e-8)
    assert run.nfe == (74 if suppress == diverse else 74 + 40)


def test_guidance_one_is_the_conditional_run_and_blind_labels_do_nothing():
    guide, labels = Guide(normals("guide", 3, 4), KNOWN), torch.tensor([0, 1, 2])
    grid = COW.grid(10, CHAIN)
    x = COW.start(Silence(), guide.image, grid, CHAIN, {"guide": guide})
    aids = dict(process=CHAIN, draws=Philox(3, 3), guide=guide)
    alone = COW.sample(LABELLED.given(labels), x, grid, **aids).x
    one = GUIDED.sample(LABELLED, x, grid, **aids, condition=labels, guidance=1.0).x
    torch.testing.assert_close(one, alone, rtol=1e-10, atol=1e-10)
    assert (GUIDED.sample(LABELLED, x, grid, **aids, condition=labels).x - alone).abs().max() > 0.1
    blind = Conditional("mean", lambda x, t, condition: MODEL(x, t))
    same = GUIDED.sample(blind, x, grid, **aids, condition=labels, suppress=2, diverse=1).x
    torch.testing.assert_close(same, COW.sample(MODEL, x, grid, **aids).x, rtol=1e-9, atol=1e-9)


@given(st.integers(2, 60))
def test_renoising_composes_with_the_right_levels_only(steps):
    """Invariant 1: alpha_r -> alpha_b and sigma_r^2 -> sigma_b^2; the code's factor is that of one step higher."""
    grid = COW.grid(steps, CHAIN)
    r, b, _ = paper.turns(steps)
    if b == r:
        return
    rows = paper.plan(grid, CHAIN, cycles=1, eta=1.0, eta_last=0.1, levels="consistent")
    (low, high), (lower, higher) = (
        [grid[steps - k - up].item() for k in (r, b)] for up in (0, 1)
    )  # fmt: skip
    scale, fresh = rows.scale[0].item(), rows.fresh[0].item()
    assert scale * CHAIN.alpha(low) == pytest.approx(CHAIN.alpha(high), rel=1e-12)
    assert scale**2 * CHAIN.sigma(low) ** 2 + fresh**2 == pytest.approx(CHAIN.sigma(high) ** 2, rel=1e-10)
    for levels in paper.LEVELS[1:]:
        coded = paper.plan(grid, CHAIN, cycles=1, eta=1.0, eta_last=0.1, levels=levels)
        assert coded.scale[0].item() == pytest.approx(CHAIN.alpha(higher) / CHAIN.alpha(lower), rel=1e-12)
        assert coded.scale[0] ** 2 + coded.fresh[0] ** 2 == pytest.approx(1, rel=1e-10)  # the chain preserves variance
        assert coded.scale[0] < 0.999 * rows.scale[0]


def test_cycle_has_the_card_s_stationary_variances():
    """Invariant 2: N(0, .5), alpha-bar indices 700 and 500: .9406, .9523, .9589, .9607 against .9611, first order."""
    v = (ABAR[500] * 0.5 + 1 - ABAR[500]).item()
    assert v == pytest.approx(0.9611, abs=1e-4)
    found = []
    for steps, inner in ((10, 2), (25, 5), (100, 20), (500, 100)):
        r, b, _ = paper.turns(steps)
        assert b - r == inner
        index = torch.cat([torch.linspace(0, 500, r + 1, **F64), torch.linspace(500, 700, inner + 1, **F64)[1:],
                           torch.linspace(700, 999, steps - b + 1, **F64)[1:]])  # fmt: skip
        rows = paper.plan((index.flip(0) + 1) / 1000, CHAIN, cycles=1, eta=1.0, eta_last=0.0, levels="consistent")
        assert rows.t[0].item() == pytest.approx(0.701) and rows.inside.sum() == inner
        factor, variance = rows.scale[0].item(), rows.fresh[0].item() ** 2
        for j in range(inner):
            alpha, sigma = (f(rows.t[j].item()) for f in (CHAIN.alpha, CHAIN.sigma))
            step = rows.keep[j].item() + rows.pull[j].item() * 0.5 * alpha / (0.5 * alpha**2 + sigma**2)
            factor, variance = factor * step, variance * step**2 + rows.noise[j].item() ** 2
        found.append(variance / (1 - factor**2))
    assert found == pytest.approx([0.9406, 0.9523, 0.9589, 0.9607], abs=1e-4)
    assert (v - found[2]) / (v - found[3]) == pytest.approx(5, rel=0.1)


def test_all_known_ends_as_the_seed_does_whatever_the_noise():
    """Invariant 3: the state at f is the seed's latent bit for bit; the way down does not see the cycles."""
    guide, grid = Guide(normals("guide", 3, 2), torch.ones(2, dtype=torch.bool)), COW.grid(10, CHAIN)
    ends = [
        COW.sample(MODEL, guide.image, grid, process=CHAIN, draws=Philox(seed, 3), guide=guide, eta_last=0.0,
                   cycles=cycles).x
        for seed, cycles in ((1, 10), (2, 10), (1, 3))
    ]  # fmt: skip
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
    other = COW.sample(
        MODEL, normals("other canvas", 3, 2), grid, process=CHAIN, draws=Philox(1, 3), guide=guide, eta_last=0.0
    ).x  # the seed's latents come from the guide, not from the canvas
    assert torch.equal(ends[0], other)


def test_known_region_holds_the_seed_s_latents():
    """Invariants 3 and 5, bit for bit: what the network sees inside the cycles at every k, and last at f."""
    guide, grid = Guide(normals("guide", 3, 4), KNOWN), COW.grid(10, CHAIN)
    x = COW.start(Silence(), guide.image, grid, CHAIN, {"guide": guide})
    seen = []
    spy = Predictor("mean", lambda x, t: seen.append((t, x.clone())) or MODEL(x, t))
    COW.sample(spy, x, grid, process=CHAIN, draws=Philox(5, 3), guide=guide)
    tau, kept = grid.flip(0).tolist(), KNOWN.expand(3, 4)
    seed = {t: x for t, x in seen[:7]}  # states 0 .. 6 of the seed's inversion; 7 is seen first in a cycle
    cycles, last = seen[12:32], seen[32:]
    assert [t for t, _ in cycles] == [tau[7], tau[6]] * 10 and [t for t, _ in last] == tau[5:0:-1]
    tops = [x[kept] for t, x in cycles if t == tau[7]]
    assert all(torch.equal(top, tops[0]) for top in tops)
    assert all(torch.equal(x[kept], seed[tau[6]][kept]) for t, x in cycles if t == tau[6])
    assert torch.equal(last[0][1][kept], seed[tau[5]][kept])  # k = r: after the last step of a cycle
    assert torch.equal(last[1][1][kept], seed[tau[4]][kept])  # k = f
    assert not torch.equal(last[2][1][kept], seed[tau[3]][kept])  # free from there on
    free = [x[~kept] for t, x in cycles if t == tau[7]]
    assert not torch.equal(free[0], free[1])


def test_no_cycles_and_no_seed_is_the_round_trip():
    """Invariant 4: exact on a point mass, first order on Gaussian data."""
    point = Predictor("mean", lambda x, t: torch.full_like(x, 0.4))
    x, grid = normals("x", 3, 2), COW.grid(10, CHAIN)
    plain = dict(process=CHAIN, guide=Guide(x), cycles=0, eta_last=0.0, draws=Silence())
    torch.testing.assert_close(COW.sample(point, x, grid, **plain).x, x, rtol=1e-11, atol=1e-11)
    law = Predictor("mean", lambda x, t: 0.5 * CHAIN.alpha(t) / (0.5 * CHAIN.alpha(t) ** 2 + CHAIN.sigma(t) ** 2) * x)
    errors = [
        (COW.sample(law, x, grids.uniform_lam(n, CHAIN.between(0.001, 1)), **plain).x - x).abs().max()
        for n in (80, 160)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3)


def test_inversion_of_the_releases_is_off_by_a_level_or_a_label():
    """A point mass shows the level an inversion ends at: tau_r; 0.17.1 one higher; 0.27.1 has D at the upper time."""
    grid, x = COW.grid(10, CHAIN), normals("x", 3, 2)
    tau = grid.flip(0)
    for levels, first, end in (("consistent", 0, 5), ("0.27.1", 0, 5), ("0.17.1", 1, 6)):
        rows = paper.inversion_plan(grid, CHAIN, 5, levels=levels)
        y = x
        for keep, pull in zip(rows.keep.tolist(), rows.pull.tolist(), strict=True):
            y = keep * y + pull * 0.4
        start, up = tau[first].item(), tau[end].item()
        gap = (y - CHAIN.alpha(up) * 0.4) / CHAIN.sigma(up)
        if levels == "0.27.1":  # e of the upper label: the point's path is left
            assert (gap - (x - CHAIN.alpha(start) * 0.4) / CHAIN.sigma(start)).abs().max() > 0.1
            torch.testing.assert_close(rows.t, tau[1:6])
        else:
            expected = (x - CHAIN.alpha(start) * 0.4) / CHAIN.sigma(start)
            torch.testing.assert_close(gap, expected, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(rows.t, tau[first : first + 5])


def test_grid_start_and_cost_are_the_code_s():
    grid = COW.grid(10, CHAIN)
    torch.testing.assert_close(1000 * grid - 1, torch.tensor([*range(901, 0, -100), 0], **F64), rtol=0, atol=1e-9)
    assert (COW.nfe(grid), GUIDED.nfe(grid)) == (37, 74)
    guide = Guide(normals("guide", 2, 4), KNOWN)
    x = COW.start(Silence(), guide.image, grid, CHAIN, {"guide": guide})
    assert torch.equal(x[:, :2], guide.image[:, :2]) and x[:, 2:].tolist() == [[pytest.approx(1 / 255)] * 2] * 2
    assert torch.equal(COW.start(Silence(), guide.image, grid, CHAIN, {"guide": Guide(guide.image)}), guide.image)
    assert paper.turns(10) == (5, 7, 4) and paper.turns(1) == (1, 1, 0)
    left, eta, first, before, after, inside = paper.route(10, 2, 1.0, 0.1).T.tolist()
    assert left == [7, 6, 7, 6, 5, 4, 3, 2, 1] and first == [1, 0, 1, 0, 0, 0, 0, 0, 0]
    assert before == [7, -1, 7, -1, -1, -1, -1, -1, -1] and after == [6, 5, 6, 5, 4, -1, -1, -1, -1]
    assert eta == [1] * 4 + [0.1] * 5 and inside == [1] * 4 + [0] * 5
    for steps, said in ((0, r"1\.\.999"), (1000, r"1\.\.999")):
        with pytest.raises(grids.BadGrid, match=said):
            COW.grid(steps, CHAIN)
    with pytest.raises(grids.BadGrid, match="ve-edm at 80"):
        COW.grid(10, processes.named("ve-edm"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": "1.0"}, "levels: '1.0', expected one of consistent, 0.27.1, 0.17.1"),
        ({"cycles": -1}, "cycles: -1, expected an integer >= 0"),
        ({"cycles": 2.5}, "cycles: 2.5, expected an integer >= 0"),
        ({"eta": math.nan}, "eta, eta_last: nan, 0.1"),
        ({"eta": 1.5}, "eta, eta_last: 1.5, 0.1"),
        ({"eta_last": -0.5}, "eta, eta_last: 1.0, -0.5"),
    ],
)
def test_bad_input_is_refused_before_the_first_evaluation(options, said):
    x, silent = normals("x", 2, 1), Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    aids = dict(process=CHAIN, draws=Silence(), guide=Guide(x))
    with pytest.raises(ValueError, match=said):
        COW.sample(silent, x, COW.grid(10, CHAIN), **aids, **options)
    for grid, message, more in (
        (torch.tensor([0.5, 0.2, 0.0], **F64), "sigma = 0", {}),
        (torch.tensor([0.2, 0.5], **F64), "not strictly decreasing", {}),
        (torch.tensor([0.5, 0.2], **F64), "expected 2 or more for levels '0.17.1'", {"levels": "0.17.1"}),
    ):
        with pytest.raises(grids.BadGrid, match=message):
            COW.sample(silent, x, grid, **aids, **more)


@pytest.mark.parametrize(
    ("guide", "said"),
    [
        (None, "guide: NoneType, expected Guide"),
        (Guide(None), "guide: Guide, expected Guide"),
        (Guide(normals("g", 2, 4)), r"guide.image: shape \(2, 4\), expected \(3, 4\), that of x, or one row for all"),
        (Guide(normals("g", 3, 1)), r"guide.image: shape \(3, 1\), expected \(3, 4\)"),
        (Guide(normals("g", 3, 4), KNOWN.double()), "guide.known: torch.float64, expected torch.bool"),
        (Guide(normals("g", 3, 4), [True]), "guide.known: list, expected torch.bool"),
        (Guide(normals("g", 3, 4), KNOWN[:3]), r"guide.known: shape \(3,\), expected one that broadcasts to x"),
        (Guide(normals("g", 3, 4), KNOWN.expand(1, 3, 4)), r"guide.known: shape \(1, 3, 4\), expected one"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused_before_the_first_evaluation(guide, said):
    x, grid = normals("x", 3, 4), COW.grid(10, CHAIN)
    silent = Conditional("mean", lambda x, t, condition: pytest.fail("evaluated"))
    common = dict(process=CHAIN, draws=Philox(1, 3), guide=guide)
    with pytest.raises(ValueError, match=said):
        COW.sample(silent, x, grid, **common)
    with pytest.raises(ValueError, match=said):
        GUIDED.sample(silent, x, grid, condition=torch.tensor([0, 1, 2]), **common)
    with pytest.raises(ValueError, match=said):
        COW.start(Silence(), x, grid, CHAIN, {"guide": guide})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"condition": torch.tensor([0, 1])}, r"condition: \(\(2,\), torch.int64\), expected int64 of shape \(3,\)"),
        ({"condition": torch.zeros(3, **F64)}, r"condition: \(\(3,\), torch.float64\), expected int64"),
        ({"condition": None}, "condition: NoneType, expected int64"),
        ({"guidance": math.nan}, "guidance: nan, expected a finite number"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_the_first_evaluation(options, said):
    x, grid = normals("x", 3, 4), COW.grid(10, CHAIN)
    silent = Conditional("mean", lambda x, t, condition: pytest.fail("evaluated"))
    common = dict(process=CHAIN, draws=Philox(1, 3), guide=Guide(x))
    with pytest.raises(ValueError, match=said):
        GUIDED.sample(silent, x, grid, **{"condition": torch.tensor([0, 1, 2])} | options, **common)


def test_a_model_without_labels_is_refused_before_the_first_evaluation():
    x, silent = normals("x", 3, 4), Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    with pytest.raises(WrongKind, match="takes no condition"):
        GUIDED.sample(
            silent, x, COW.grid(10, CHAIN), process=CHAIN, draws=Philox(1, 3), guide=Guide(x),
            condition=torch.tensor([0, 1, 2]),
        )  # fmt: skip


def test_one_image_guides_every_row():
    x, grid = normals("x", 3, 4), COW.grid(10, CHAIN)
    one, each = (
        COW.sample(MODEL, x, grid, process=CHAIN, draws=Philox(1, 3), guide=guide).x
        for guide in (Guide(x[:1], KNOWN), Guide(x[:1].expand(3, 4), KNOWN.expand(3, 4)))
    )
    assert torch.equal(one, each)


def test_the_code_s_own_chain_has_less_noise_at_the_turns():
    """Stable Diffusion's betas, linspace(.00085^.5, .012^.5)^2: sigma .760 and .917 at r and b, ours .899 and .987."""
    own = processes.discrete(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, **F64) ** 2, name="sd")
    for chain, expected in ((own, (0.760, 0.917)), (CHAIN, (0.899, 0.987))):
        grid = COW.grid(10, chain)
        assert [chain.sigma(grid[10 - k].item()) for k in paper.turns(10)[:2]] == pytest.approx(expected, abs=5e-4)
        x = normals("x", 3, 4)
        run = COW.sample(MODEL, x, grid, process=chain, draws=Philox(1, 3), guide=Guide(x, KNOWN))
        assert run.nfe == 37 and run.x.isfinite().all()


def test_two_intervals_are_enough_for_the_releases_levels():
    """Up one interval and down one, from the level and with the time of each release."""
    x, grid = normals("x", 2, 1), torch.tensor([0.5, 0.2, 0.1], **F64)
    aids = dict(process=CHAIN, guide=Guide(x), eta_last=0.0)
    ends = [COW.sample(MODEL, x, grid, draws=Philox(1, 2), levels=levels, **aids).x for levels in paper.LEVELS]
    assert all((one - other).abs().max() > 1e-3 for one, other in itertools.combinations(ends, 2))


def test_a_chain_of_one_interval_goes_up_and_down():
    x = normals("x", 2, 1)
    run = COW.sample(MODEL, x, COW.grid(1, CHAIN), process=CHAIN, draws=Philox(1, 2), guide=Guide(x))
    assert run.nfe == 3 and math.isfinite(run.x.sum().item())


@pytest.mark.parametrize("steps", [1, 2])
def test_of_so_few_intervals_the_seed_is_put_back_at_clean_data(steps):
    """f = int(.4 S) is 0: the latent put back last is the seed itself."""
    guide, grid = Guide(normals("guide", 3, 4), KNOWN), COW.grid(steps, CHAIN)
    x = COW.start(Silence(), guide.image, grid, CHAIN, {"guide": guide})
    end = COW.sample(MODEL, x, grid, process=CHAIN, draws=Philox(5, 3), guide=guide).x
    assert torch.equal(end[:, KNOWN], guide.image[:, KNOWN]) and not torch.equal(end[:, ~KNOWN], x[:, ~KNOWN])
