"""Intervals cover, moments merge, verdicts say what the interval says; and each law rejects a broken version."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import statistics
from benchmarks.statistics import Interval, Moments, Verdict
from reference_impls.core.draws import Philox

FALSE_ALARM = 1e-6


def uniforms(seed, *shape):
    return Philox(seed, shape[0]).uniform("test", shape)


def normals(seed, *shape):
    return Philox(seed, shape[0]).normal("test", torch.empty(shape, dtype=torch.float64))


def covers(intervals, truth, at_least, at_most=1.0):
    """The number that covers is a likely draw of a binomial with a chance between the two levels."""
    hits, repeats = sum(i.low <= truth <= i.high for i in intervals), len(intervals)
    assert stats.binom.cdf(hits, repeats, at_least) > FALSE_ALARM, f"{hits} of {repeats} cover, level {at_least}"
    assert stats.binom.sf(hits - 1, repeats, at_most) > FALSE_ALARM, f"{hits} of {repeats} cover, at most {at_most}"


def interval(low, high, level=0.95, n=900, method="t over 20 shards", blocks=20):
    return Interval((low + high) / 2, low, high, n, level, method, blocks)


# t


def t_interval_covers(make):
    for level, blocks in ((0.95, 10), (0.8, 4)):
        intervals = [make(values, level) for values in normals(1, 4000, blocks) * 3 + 2]
        covers(intervals, 2.0, level, level)  # exact for normal values: neither less nor more


def t_with_normal_quantile(values, level):
    found = statistics.t_interval(values, level)
    shrink = stats.norm.ppf((1 + level) / 2) / statistics.t_quantile(level, len(values) - 1)
    half = (found.high - found.estimate) * shrink
    return replace(found, low=found.estimate - half, high=found.estimate + half)


def t_with_biased_variance(values, level):
    found = statistics.t_interval(values, level)
    half = (found.high - found.estimate) * math.sqrt((len(values) - 1) / len(values))
    return replace(found, low=found.estimate - half, high=found.estimate + half)


def t_one_sided(values, level):
    return replace(statistics.t_interval(values, 2 * level - 1), level=level)


def test_t_interval_covers_at_its_level():
    t_interval_covers(statistics.t_interval)


@pytest.mark.parametrize("mutant", [t_with_normal_quantile, t_with_biased_variance, t_one_sided])
def test_t_law_rejects(mutant):
    with pytest.raises(AssertionError):
        t_interval_covers(mutant)


def test_t_interval_agrees_with_scipy():
    values = normals(2, 12).tolist()
    low, high = stats.t.interval(0.9, 11, stats.tmean(values), stats.sem(values))
    found = statistics.t_interval(values, 0.9, n=540, over="shards")
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.n, found.blocks, found.method) == (540, 12, "t over 12 shards")


def test_an_interval_at_another_level_is_the_interval_computed_at_that_level():
    values = normals(3, 8)
    moved, direct = statistics.t_interval(values).at(0.99), statistics.t_interval(values, 0.99)
    assert (moved.low, moved.high, moved.level) == pytest.approx((direct.low, direct.high, 0.99), rel=1e-12)
    with pytest.raises(ValueError, match="no other level"):
        statistics.median_interval(values).at(0.99)


# jackknife


def squared_mean_by(jackknife, rows, sizes):
    """(mean)^2, whose plug-in has bias variance/n: from the whole and from all but one shard."""
    shards = rows.split(sizes)
    without = [torch.cat([s for k, s in enumerate(shards) if k != j]).mean() ** 2 for j in range(len(shards))]
    return jackknife((rows.mean() ** 2).item(), torch.stack(without), sizes)


def jackknife_covers_and_removes_the_bias(jackknife, sizes=(5,) * 20, mean=1.0):
    n = sum(sizes)
    found = [squared_mean_by(jackknife, rows, list(sizes)) for rows in normals(4, 3000, n) * 2 + mean]
    covers(found, mean**2, 0.93, 0.97)
    errors = torch.tensor([i.estimate - mean**2 for i in found])
    assert abs(errors.mean()) < 4.9 * errors.std() / math.sqrt(len(errors))  # two-sided 1e-6; the plug-in is off by 4/n
    spread = torch.tensor([(i.high - i.low) / 2 / statistics.t_quantile(0.95, i.blocks - 1) for i in found])
    assert spread.square().mean().sqrt() == pytest.approx(errors.std().item(), rel=0.1)


def jackknife_without_its_factor(whole, left_out, sizes):
    found = statistics.jackknife(whole, left_out, sizes)
    half = (found.high - found.estimate) / (len(sizes) - 1)
    return replace(found, low=found.estimate - half, high=found.estimate + half)


def jackknife_without_bias_correction(whole, left_out, sizes):
    found = statistics.jackknife(whole, left_out, sizes)
    shift = whole - found.estimate
    return replace(found, estimate=whole, low=found.low + shift, high=found.high + shift)


def jackknife_corrected_twice(whole, left_out, sizes):
    found = statistics.jackknife(whole, left_out, sizes)
    shift = found.estimate - whole
    return replace(found, estimate=found.estimate + shift, low=found.low + shift, high=found.high + shift)


def jackknife_blind_to_sizes(whole, left_out, sizes):
    return statistics.jackknife(whole, left_out, [1] * len(sizes))


@pytest.mark.parametrize("sizes", [(5,) * 20, (2,) * 10 + (8,) * 10], ids=["equal", "unequal"])
def test_jackknife_covers_and_removes_the_bias(sizes):
    jackknife_covers_and_removes_the_bias(statistics.jackknife, sizes)


@pytest.mark.parametrize(
    "mutant", [jackknife_without_its_factor, jackknife_without_bias_correction, jackknife_corrected_twice]
)
def test_jackknife_law_rejects(mutant):
    with pytest.raises(AssertionError):
        jackknife_covers_and_removes_the_bias(mutant, mean=0.3)


def test_jackknife_of_unequal_shards_rejects_equal_weights():
    with pytest.raises(AssertionError):
        jackknife_of_the_mean_is_the_mean(jackknife_blind_to_sizes)


def jackknife_of_the_mean_is_the_mean(jackknife):
    rows, sizes = normals(5, 60), [2, 3, 5, 10, 20, 20]
    whole = rows.mean().item()
    without = [(rows.sum() - part.sum()) / (60 - len(part)) for part in rows.split(sizes)]
    assert jackknife(whole, torch.stack(without), sizes).estimate == pytest.approx(whole, abs=1e-14)


def test_jackknife_of_the_mean_is_the_mean():
    jackknife_of_the_mean_is_the_mean(statistics.jackknife)
    values = normals(6, 20)
    without = (values.sum() - values) / 19
    found, direct = statistics.jackknife(values.mean().item(), without, [1] * 20), statistics.t_interval(values)
    assert (found.low, found.high) == pytest.approx((direct.low, direct.high), rel=1e-12)


# order statistics


def median_interval_covers(make):
    for m, level in ((6, 0.95), (15, 0.95), (40, 0.9)):
        skewed = -uniforms(7, 3000, m).log()  # exponential: median log 2
        attained = make(skewed[0], level)
        ranks = (skewed[0].sort().values == attained.low).nonzero()
        assert len(ranks) == 1, "the bound is no order statistic"
        k = ranks.item() + 1
        exact = 1 - 2 * stats.binom.cdf(k - 1, m, 0.5)
        assert exact >= level > 1 - 2 * stats.binom.cdf(k, m, 0.5)  # covers, and the next narrower does not
        covers([make(values, level) for values in skewed], math.log(2), exact, exact)


def median_one_rank_too_narrow(values, level):
    found, x = statistics.median_interval(values, level), values.sort().values
    k = (x == found.low).nonzero().item()
    return replace(found, low=x[k + 1].item(), high=x[-k - 2].item())


def median_by_t(values, level):
    found, median = statistics.t_interval(values, level), values.quantile(0.5).item()
    half = found.high - found.estimate
    return replace(found, estimate=median, low=median - half, high=median + half)


def test_median_interval_covers_at_its_level():
    median_interval_covers(statistics.median_interval)


@pytest.mark.parametrize("mutant", [median_one_rank_too_narrow, median_by_t])
def test_median_law_rejects(mutant):
    with pytest.raises(AssertionError):
        median_interval_covers(mutant)


def test_six_pairs_give_a_95_percent_interval_and_five_are_refused():
    found = statistics.median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0])
    assert (found.estimate, found.low, found.high) == (3.5, 1.0, 6.0)
    with pytest.raises(ValueError, match="expected at least 6"):
        statistics.median_interval([1.0] * 5)


def test_a_ratio_of_times_is_the_median_over_pairs_and_inverts():
    seconds, anchor = uniforms(8, 7) + 1, uniforms(9, 7) + 1
    ratio, inverse = statistics.paired_ratio(seconds, anchor), statistics.paired_ratio(anchor, seconds)
    assert ratio.estimate == pytest.approx((seconds / anchor).log().quantile(0.5).exp().item())
    inverted = ratio.mapped(lambda r: 1 / r)
    for bound in ("estimate", "low", "high"):
        assert getattr(inverse, bound) == pytest.approx(getattr(inverted, bound))
    with pytest.raises(ValueError, match="anchor"):
        statistics.paired_ratio(seconds, anchor[:6])


# pairs, slopes, weights, distribution functions


def test_pairing_removes_what_pairs_share():
    shared, own = normals(10, 20) * 10, normals(11, 20, 2)
    a, b = shared + own[:, 0] + 1, shared + own[:, 1]
    found = statistics.paired_difference(a, b)
    low, high = stats.ttest_rel(a.numpy(), b.numpy()).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    with pytest.raises(ValueError, match="b: 19 values"):
        statistics.paired_difference(a, b[:19])


@given(st.floats(0.5, 5), st.floats(-3, 3))
def test_slope_of_a_power_law_is_its_exponent(order, scale):
    steps = [8, 16, 32, 64]
    found = statistics.log_log_slope(steps, [math.exp(scale) * s**-order for s in steps]).mapped(lambda slope: -slope)
    assert found.low <= found.estimate <= found.high
    assert found.estimate == pytest.approx(order, abs=1e-12)


def slope_interval_covers(make):
    x = torch.arange(1, 9).double()
    noisy = [(-2 * x.log() + 0.1 * e).exp() for e in normals(12, 3000, 8)]
    covers([make(x, y) for y in noisy], -2.0, 0.95, 0.95)


def slope_with_too_many_degrees_of_freedom(x, y):
    found, m = statistics.log_log_slope(x, y), len(x)
    half = (found.high - found.estimate) * math.sqrt((m - 2) / m)
    return replace(found, low=found.estimate - half, high=found.estimate + half)


def test_slope_interval_covers_and_the_law_rejects_a_biased_residual():
    slope_interval_covers(statistics.log_log_slope)
    with pytest.raises(AssertionError):
        slope_interval_covers(slope_with_too_many_degrees_of_freedom)


def test_slope_agrees_with_scipy():
    x, y = uniforms(13, 9) + 0.1, uniforms(14, 9) + 0.1
    fit = stats.linregress(x.log().numpy(), y.log().numpy())
    half = stats.t.ppf(0.975, 7) * fit.stderr
    found = statistics.log_log_slope(x, y)
    assert (found.estimate, found.high) == pytest.approx((fit.slope, fit.slope + half), rel=1e-12)


@given(st.integers(1, 50), st.floats(-700, 700))
def test_effective_sample_size_of_equal_weights_is_n_whatever_their_scale(n, shift):
    assert statistics.effective_sample_size([shift] * n) == pytest.approx(n, rel=1e-12)
    assert statistics.effective_sample_size([shift] * n + [shift - 800] * 5) == pytest.approx(n, rel=1e-12)
    assert statistics.effective_sample_size([math.log(3), 0.0]) == pytest.approx(16 / 10)


def dkw_covers(make):
    """The law of the samples is uniform, F is u^2: the true distance is 1/4. The band is conservative, never short."""
    n, found, exact = 50, [], []
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    for u in uniforms(15, 2000, n):
        u = u.sort().values
        for target, out in ((u**2, found), (u, exact)):
            out.append(make(max((steps[1:] - target).max().item(), (target - steps[:-1]).max().item()), n, 0.95))
    covers(found, 0.25, 0.95)
    covers(exact, 0.0, 0.95, 0.985)


def dkw_one_sided(distance, n, level):
    half = math.sqrt(math.log(1 / (1 - level)) / (2 * n))
    found = statistics.sup_distance_interval(distance, n, level)
    return replace(found, low=max(0.0, distance - half), high=distance + half)


def test_dkw_band_covers_and_the_law_rejects_a_one_sided_constant():
    dkw_covers(statistics.sup_distance_interval)
    with pytest.raises(AssertionError):
        dkw_covers(dkw_one_sided)


# moments


def shards(seed=16, sizes=(45, 45, 1, 44, 7)):
    rows = normals(seed, sum(sizes), 5) * torch.tensor([1, 10, 1e-3, 1, 1]) + 1e4  # far from 0: raw moments cancel
    return rows, {k: Moments.of(part) for k, part in enumerate(rows.split(sizes))}


def merging_ignores_arrival(merge):
    rows, parts = shards()
    arrived = list(parts.items())
    results = []
    for attempt in range(20):
        random.Random(attempt).shuffle(arrived)
        results.append(merge(dict(arrived)))
    assert all(torch.equal(r.m2, results[0].m2) and torch.equal(r.mean, results[0].mean) for r in results)
    torch.testing.assert_close(results[0].covariance, torch.cov(rows.T), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(results[0].mean, rows.mean(0), rtol=1e-14, atol=0)


def merged_as_they_arrive(parts):
    total, *others = parts.values()
    for other in others:
        total = total.merged(other)
    return total


def merged_without_the_gap(parts):
    total = statistics.merged_in_shard_order(parts)
    return Moments(total.n, total.mean, sum(parts[k].m2 for k in sorted(parts)))


def test_merging_is_bit_identical_in_any_order_of_arrival():
    merging_ignores_arrival(statistics.merged_in_shard_order)


@pytest.mark.parametrize("mutant", [merged_as_they_arrive, merged_without_the_gap])
def test_merge_law_rejects(mutant):
    with pytest.raises(AssertionError):
        merging_ignores_arrival(mutant)


def test_a_missing_shard_is_refused():
    parts = shards()[1]
    del parts[2]
    with pytest.raises(ValueError, match="without a gap"):
        statistics.merged_in_shard_order(parts)


# intervals as data


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_intervals_survive_json(values):
    found = statistics.t_interval(values)
    assert Interval.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))) == found


def test_a_decreasing_map_keeps_the_estimate_inside():
    found = interval(1.0, 3.0).mapped(lambda v: -v)
    assert (found.low, found.estimate, found.high) == (-3.0, -2.0, -1.0)


@pytest.mark.parametrize("values, says", [([1.0], "at least 2"), ([1.0, math.nan], "1 of 2 are not finite")])
def test_values_without_an_interval_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        statistics.t_interval(values)


def test_an_interval_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        Interval(1.0, -math.inf, math.inf, 1, 0.95, "t")


# several intervals at once


def test_the_extreme_of_simultaneous_intervals_covers_the_extreme_truth():
    """Three quantities of means 0, .1 and .2, 200 sets of ten normals each: both picks, at the level asked for."""
    truth, hits = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64), {min: 0, max: 0}
    level = statistics.shared_level(0.9, 3)
    assert level == pytest.approx(1 - 0.1 / 3)
    for seed in range(200):
        rows = Philox(seed, 10).normal("x", torch.empty(10, 3, dtype=torch.float64)) + truth
        found = [statistics.t_interval(rows[:, k], level) for k in range(3)]
        for pick in hits:
            each = statistics.extreme_of(found, pick, 0.9)
            hits[pick] += each.low <= pick(truth).item() <= each.high
            assert each.level == 0.9 and each.blocks == 10 and each.estimate == pick(one.estimate for one in found)
    assert min(hits.values()) >= 180 - 5 * math.sqrt(200 * 0.9 * 0.1), "Bonferroni keeps at least the level"
    swapped = statistics.extreme_of(found, max, 0.9)
    assert swapped.low == max(one.low for one in found) and swapped.high == max(one.high for one in found)


# verdicts

CASES = [
    ("ranking", "above", 0.0, (0.1, 0.5), "reproduced"),
    ("ranking", "above", 0.0, (-0.1, 0.5), "inconclusive"),
    ("ranking", "above", 0.0, (-0.5, -0.1), "refuted here"),
    ("ratio", "above", 2.0, (1.0, 1.9), "refuted here"),
    ("ratio", "above", 2.0, (1.9, 2.5), "inconclusive"),
    ("ratio", "above", 2.0, (2.1, 2.5), "reproduced"),
    ("threshold", "below", 0.1, (0.01, 0.09), "reproduced"),
    ("threshold", "below", 0.1, (0.11, 0.2), "refuted here"),
    ("threshold", "below", 0.1, (0.05, 0.2), "inconclusive"),
    ("limit-equality", "within", 0.1, (-0.05, 0.09), "reproduced"),
    ("limit-equality", "within", 0.1, (0.05, 0.11), "inconclusive"),
    ("limit-equality", "within", 0.1, (-0.2, 0.05), "inconclusive"),
    ("limit-equality", "within", 0.1, (-0.2, 0.2), "inconclusive"),
    ("invariance", "within", 0.1, (0.11, 0.2), "refuted here"),
    ("minimiser", "within", 0.1, (-0.3, -0.2), "refuted here"),
    ("order", "within", 0.15, (-0.1, 0.1), "reproduced"),
    ("order", "above", 2.85, (2.9, 3.1), "reproduced"),
    ("negative", "below", 0.0, (-0.2, -0.1), "reproduced"),
]


def verdicts_follow_the_interval(judge):
    for kind, direction, margin, (low, high), outcome in CASES:
        found = judge(interval(low, high, level=0.99), kind=kind, claims_of_paper=5, direction=direction, margin=margin)
        assert found.outcome == outcome, (kind, direction, margin, low, high, found)


def verdict_on_the_estimate(estimand, **claim):
    return statistics.verdict(estimand.estimate, **claim)


def verdict_equality_by_overlap(estimand, *, direction, margin, **claim):
    if direction == "within" and estimand.low < margin and estimand.high > -margin:
        return Verdict("reproduced", "")
    return statistics.verdict(estimand, direction=direction, margin=margin, **claim)


def verdict_deaf_to_direction(estimand, *, direction, margin, **claim):
    if direction == "below":
        direction = "above"
    return statistics.verdict(estimand, direction=direction, margin=margin, **claim)


def verdict_deaf_to_margin(estimand, *, direction, margin, **claim):
    return statistics.verdict(estimand, direction=direction, margin=margin if direction == "within" else 0.0, **claim)


def test_verdicts_follow_the_interval():
    verdicts_follow_the_interval(statistics.verdict)


@pytest.mark.parametrize(
    "mutant",
    [verdict_on_the_estimate, verdict_equality_by_overlap, verdict_deaf_to_direction, verdict_deaf_to_margin],
)
def test_verdict_law_rejects(mutant):
    with pytest.raises(AssertionError):
        verdicts_follow_the_interval(mutant)


def test_the_level_is_shared_among_the_claims_of_a_paper():
    assert statistics.claim_level(1) == 0.95
    assert statistics.claim_level(5) == pytest.approx(0.99)
    with pytest.raises(ValueError, match="expected at least 0.99 for 5 claims"):
        statistics.verdict(interval(0.1, 0.2, level=0.95), kind="ranking", claims_of_paper=5)


def test_exact_numbers_and_missing_ones_have_verdicts():
    assert statistics.verdict(3e-15, kind="limit-equality", direction="within", margin=1e-12, claims_of_paper=9)[0] == (
        "reproduced"
    )
    out = statistics.verdict(None, kind="ranking", claims_of_paper=1, missing="needs ImageNet-64; nearest: digits")
    assert out == Verdict("out of reach here", "needs ImageNet-64; nearest: digits", None)


@pytest.mark.parametrize(
    "claim, says",
    [
        (dict(kind="limit-equality", direction="above"), "direction"),
        (dict(kind="ranking", direction="within", margin=0.1), "direction"),
        (dict(kind="invariance", direction="within"), "margin"),
    ],
)
def test_contradictory_claims_are_refused(claim, says):
    with pytest.raises(ValueError, match=says):
        statistics.verdict(interval(0, 1), claims_of_paper=1, **claim)


def test_an_inconclusive_verdict_says_how_many_samples_or_seeds_settle_it():
    found = statistics.verdict(interval(-0.125, 0.375, n=900), kind="ranking", claims_of_paper=1)
    # half-width 1/4 must fall to the estimate 1/8
    assert found.settles == 80 and found.why.endswith("; about 80 shards would settle it, 20 were used")
    claim = dict(kind="invariance", direction="within", margin=0.125, claims_of_paper=1)
    assert statistics.verdict(interval(-0.25, 0.25), **claim).settles == 80
    without = interval(-0.125, 0.375, n=900, method="order statistics", blocks=0)
    assert statistics.verdict(without, kind="ranking", claims_of_paper=1).settles == 3600


def test_what_settles_is_counted_in_what_the_interval_is_over():
    pairs = statistics.paired_difference([1.0, 2.0, 4.0], [0.0, 3.0, 2.0], n=4096, over="training seeds")
    assert pairs.counted == (3, "training seeds")
    settles = math.ceil(3 * ((pairs.high - pairs.estimate) / pairs.estimate) ** 2)
    found = statistics.verdict(pairs, kind="ranking", claims_of_paper=1)
    assert found.settles == settles
    assert found.why.endswith(f"; about {settles} training seeds would settle it, 3 were used")
    assert statistics.extreme_of([pairs], max, 0.95).counted == (3, "training seeds")
    assert pairs.mapped(math.exp, "exp of log ratios").counted == (3, "training seeds")
    assert statistics.t_interval([1.0, 2.0], over="shards, 8 to 12 steps").counted == (2, "shards")


# best and tied


def test_best_and_tied_are_marked_from_unpaired_intervals():
    cells = {"a": interval(1.0, 1.2), "b": interval(1.1, 1.3), "c": interval(2.0, 2.2), "d": None}
    assert statistics.tied_best(cells, "lower") == {"a": "best", "b": "tied", "c": "", "d": ""}
    assert statistics.tied_best(cells, "higher") == {"a": "", "b": "", "c": "best", "d": ""}
    assert set(statistics.tied_best(cells, "ideal").values()) == {""}


def test_counts_tie_only_when_equal():
    assert statistics.tied_best({"a": 3.0, "b": 3.0, "c": 4.0}, "lower") == {"a": "best", "b": "tied", "c": ""}


def ties_hold_for_equal_methods(mark):
    """With k methods of one law, some is marked worse than the best in at most about 1 - level of the tables."""
    untied = 0
    for values in normals(17, 600, 8, 10):
        marks = mark({str(k): row for k, row in enumerate(values)})
        untied += "" in marks.values()
    assert stats.binom.sf(untied - 1, 600, 0.08) > FALSE_ALARM, f"{untied} of 600 tables mark an equal method as worse"


def unpaired_ties(cells):
    return statistics.tied_best({k: statistics.t_interval(v) for k, v in cells.items()}, "lower")


def unpaired_ties_without_correction(cells):
    found = {k: statistics.t_interval(v) for k, v in cells.items()}
    best = min(found, key=lambda k: found[k].estimate)
    return {k: "tied" if statistics.tied_best({best: found[best], k: i}, "lower")[k] else "" for k, i in found.items()}


def paired_ties(cells):
    return statistics.tied_best_paired(cells, "lower")


def test_equal_methods_are_tied():
    ties_hold_for_equal_methods(unpaired_ties)
    ties_hold_for_equal_methods(paired_ties)


def test_tie_law_rejects_marks_without_a_correction_for_picking_the_best():
    with pytest.raises(AssertionError):
        ties_hold_for_equal_methods(unpaired_ties_without_correction)


def test_pairing_separates_what_unpaired_intervals_tie():
    shared = normals(18, 20) * 5
    cells = {"a": shared, "b": shared + 1 + 0.1 * normals(19, 20)}
    assert unpaired_ties(cells)["b"] == "tied"
    assert paired_ties(cells) == {"a": "best", "b": ""}
