"""Every metric: ideal where it must be, blind to order, right against closed forms and torch-fidelity, covered by its
interval; and each law rejects a metric with one factor, sign or role wrong."""

import dataclasses
import math
from collections import Counter, defaultdict

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from benchmarks import metrics
from benchmarks.metrics import (
    Context,
    conditional,
    energy,
    fidelity,
    flow_error,
    frechet,
    inverse,
    kid,
    modes,
    neighbours,
    tokens,
)
from benchmarks.metrics import labels as labels_module
from benchmarks.metrics import sliced_transport as transport
from benchmarks.statistics import Interval, jackknife, t_interval
from reference_impls import targets
from reference_impls.core.draws import Philox
from reference_impls.targets import atoms
from reference_impls.targets.inverse import AtomProblem, Mask, Measurement
from reference_impls.targets.labelled import class_log_prob, spread_labels

FALSE_ALARM = 1e-6
SIZES = [45] * 20


def normals(seed, *shape):
    return Philox(seed, shape[0]).normal("test", torch.empty(shape, dtype=torch.float64))


def uniforms(seed, *shape):
    return Philox(seed, shape[0]).uniform("test", shape)


def shards(rows):
    return list(rows.split(SIZES))


def covers(hits, repeats, at_least, at_most=1.0):
    assert stats.binom.cdf(hits, repeats, at_least) > FALSE_ALARM, f"{hits} of {repeats} cover, level {at_least}"
    assert stats.binom.sf(hits - 1, repeats, at_most) > FALSE_ALARM, f"{hits} of {repeats} cover, at most {at_most}"


# one case for each kind of job; every metric applies to at least one


@dataclasses.dataclass
class Case:
    traits: set[str]
    samples: list[torch.Tensor]
    context: Context


def images() -> Case:
    train, held_out = atoms.digits("train")[0], atoms.digits("held_out")[0]
    mixing = normals(1, 64, 16) / 8
    context = Context(
        target=targets.named("digits"),
        start=shards(torch.zeros(900, 1, 8, 8)),
        ends=shards(metrics.shuffled(held_out, 3)),
        reference=held_out,
        train=train,
        features=lambda x: torch.nn.functional.silu(x.flatten(1).to(mixing) @ mixing),
    )
    samples = shards(held_out + 0.2 * normals(2, 900, 1, 8, 8))
    return Case({"exact_flow", "atoms", "exact_samples", "features", "train"}, samples, context)


def line() -> Case:
    target = targets.named("g3")
    start = shards(torch.zeros(900, 1, dtype=torch.float64))
    context = Context(target=target, start=start, end=(0.9, 0.3))
    return Case({"mixture_1d", "exact_samples", "total_variance"}, shards(normals(3, 900, 1)), context)


def shortened() -> Case:
    whole = shards(normals(23, 900, 2))
    return Case({"full_run"}, shards(torch.cat(whole) + 0.1 * normals(24, 900, 2)), Context(full=lambda: whole))


def shared_starts() -> Case:
    samples = shards(normals(20, 900, 2))
    return Case({"shared_start"}, samples, Context(target=targets.named("ring-2d"), start=samples))


def density() -> Case:
    target = targets.named("grid9")
    context = Context(
        target=target, start=shards(torch.zeros(900, 2)), log_weight=shards(0.5 * normals(4, 900, 1)[:, 0])
    )  # fmt: skip
    return Case({"modes", "log_weight"}, shards(5 * normals(5, 900, 2)), context)


def rewarded() -> Case:
    samples = shards(4 * normals(21, 900, 2))
    return Case({"reward"}, samples, Context(target=targets.named("ring-2d-rewarded"), start=samples))


def letters() -> Case:
    target = targets.named("markov")
    like = torch.zeros(900, 8, dtype=torch.int64)
    text = target.sample(Philox(6, 1900), like.new_zeros(1900, 8)).flatten()
    context = Context(target=target, start=shards(like), text=text[:8000], held_out_text=text[8000:], classes=4)
    return Case({"tokens", "token_table", "text"}, shards((uniforms(7, 900, 8) * 4).long()), context)


def inpainting() -> Case:
    problem = targets.named("digits-inpainting")
    group = torch.arange(900) % 45
    context = Context(problem=problem, group=shards(group), truth=shards(problem.truth[group]))
    samples = shards(problem.truth[group] + 0.3 * normals(8, 900, 1, 8, 8))
    return Case({"posterior", "truth"}, samples, context)


def plane() -> Case:
    problem = targets.named("linear-gaussian-2d")
    context = Context(problem=problem, group=shards(torch.zeros(900, dtype=torch.int64)))
    return Case({"posterior"}, shards(normals(9, 900, 2)), context)


def classes() -> Case:
    target = targets.named("mixture-2d")
    labels = spread_labels(target.class_weights, range(900))
    context = Context(
        target=target, start=shards(torch.zeros(900, 2)), labels=shards(labels),
        classify=lambda x: class_log_prob(target, x).argmax(1),
    )  # fmt: skip
    samples = target.given(labels).sample(Philox(18, 900), torch.empty(900, 2, dtype=torch.float64))
    return Case({"labels", "exact_samples"}, shards(samples), context)


def edits() -> Case:
    problem = targets.named("digits-patched")
    known, guide = problem.guide.known, problem.guide.image
    train, held_out = atoms.digits("train")[0], atoms.digits("held_out")[0]
    context = Context(
        target=problem.prior, guides=shards(guide), known=shards(known), reference=held_out, train=train
    )
    return Case({"guides", "known", "train"}, shards(guide + 0.2 * normals(19, 900, 1, 8, 8)), context)


def halves() -> Case:
    problem = targets.named("mixture-2d-half")
    group = torch.arange(900) % 30
    image, known = problem.rows(group).guide
    context = Context(
        target=problem.prior, guides=shards(image), known=shards(known.expand(900, 2)), group=shards(group),
        rest=[problem.rest(problem, row) for row in range(30)],
    )  # fmt: skip
    return Case({"guides", "known", "rest"}, shards(image + normals(22, 900, 2)), context)


CASES = {
    make.__name__: make()
    for make in (
        images, line, shortened, shared_starts, density, rewarded, letters, inpainting, plane, classes, edits, halves,
    )
}
CELLS = [(case, m.name) for case, made in CASES.items() for m in metrics.applicable(made.traits)]
cells = pytest.mark.parametrize("case, name", CELLS)


def numbers(scores):
    flat = {}
    for key, value in scores.items():
        bounds = (value.estimate, value.low, value.high) if isinstance(value, Interval) else (value,)
        bounds = value if isinstance(value, list) else bounds
        flat |= {f"{key} {part}": v for part, v in enumerate(bounds)}
    return flat


def fresh(case: Case) -> Context:
    return dataclasses.replace(case.context, memo={})


def test_every_metric_has_a_case():
    assert {name for _, name in CELLS} == set(metrics.metrics())


@cells
def test_a_metric_returns_itself_and_companions_named_after_it(case, name):
    made, metric = CASES[case], metrics.named(name)
    for scores in (metric.score(made.samples, made.context), metric.floor and metric.floor(made.context)):
        if scores is not None:
            assert name in scores and all(key == name or key.startswith(f"{name}_") for key in scores)
            assert all(math.isfinite(v) for v in numbers(scores).values())
    assert metric.needs <= set(metrics.TRAITS)


@cells
def test_score_and_floor_have_the_same_keys_n_and_method(case, name):
    made, metric = CASES[case], metrics.named(name)
    if metric.floor is not None:
        score, floor = metric.score(made.samples, made.context), metric.floor(made.context)
        assert score.keys() == floor.keys()
        for key, value in score.items():
            if isinstance(value, Interval):
                assert value.n - floor[key].n in (0, 3) and value.method == floor[key].method  # 897 stands for 900


def the_order_in_a_shard_changes_nothing(score, made):
    order = [uniforms(30 + k, size).argsort() for k, size in enumerate(SIZES)]

    def permuted(parts):
        return parts and [part[o] for part, o in zip(parts, order, strict=True)]

    context = fresh(made)
    along = ("ends", "start", "log_weight", "truth", "group", "labels", "guides", "known")
    parallel = {name: permuted(getattr(context, name)) for name in along}
    parallel["full"] = context.full and (lambda: permuted(context.full()))
    moved = score(permuted(made.samples), dataclasses.replace(context, memo={}, **parallel))
    still = score(made.samples, context)
    assert numbers(moved) == pytest.approx(numbers(still), rel=1e-9, abs=1e-12)


@cells
def test_the_order_in_a_shard_changes_nothing(case, name):
    the_order_in_a_shard_changes_nothing(metrics.named(name).score, CASES[case])


def test_order_law_rejects_transport_without_sorting(monkeypatch):
    monkeypatch.setattr(transport, "sorted_projections", lambda rows, rays: rays @ rows.mT)
    with pytest.raises(AssertionError):
        the_order_in_a_shard_changes_nothing(metrics.named("sliced_w1").score, CASES["line"])


@cells
def test_scores_repeat_whatever_was_scored_before_and_leave_the_global_generator_alone(case, name):
    made, metric = CASES[case], metrics.named(name)
    state = torch.random.get_rng_state()
    alone = metric.score(made.samples, fresh(made))
    for other in metrics.applicable(made.traits):
        other.score(made.samples, made.context)
        other.score([shard.clone() for shard in made.samples[::-1]][::-1], made.context)
    assert metric.score(made.samples, made.context) == alone
    assert torch.equal(torch.random.get_rng_state(), state)


@cells
def test_float32_samples_score_as_float64_ones(case, name):
    made, metric = CASES[case], metrics.named(name)
    if not made.samples[0].is_floating_point():
        return
    narrow = metric.score([shard.float() for shard in made.samples], fresh(made))
    assert numbers(narrow) == pytest.approx(numbers(metric.score(made.samples, fresh(made))), rel=1e-3, abs=1e-4)


def test_samples_that_are_not_finite_are_refused_in_one_line():
    made = CASES["images"]
    broken = [made.samples[0].clone(), *made.samples[1:]]
    broken[0][3] = math.nan
    for metric in metrics.applicable(made.traits):
        with pytest.raises(ValueError, match="rows are not finite") as error:
            metric.score(broken, fresh(made))
        assert "\n" not in str(error.value)


def test_an_unknown_metric_is_answered_with_those_there_are():
    with pytest.raises(KeyError, match="expected one of .*coverage, .*frechet"):
        metrics.named("fid")
    assert metrics.applicable({"train"}) == (metrics.named("nearest_train"),)
    assert metrics.applicable(()) == ()


def test_shards_that_do_not_make_ten_blocks_are_refused():
    with pytest.raises(ValueError, match="15 shards, expected a multiple of 10"):
        metrics.blocks_of([torch.zeros(3, 1)] * 15)


def test_exact_samples_share_no_draw_with_the_sampler_and_follow_the_law_at_the_end():
    made = CASES["line"]
    exact = torch.cat(made.context.exact_samples(0))
    assert not torch.isin(exact, torch.cat(made.context.exact_samples(1))).any()
    plain = made.context.target.sample(Philox(0, 900), exact)
    clean = dataclasses.replace(made.context, memo={}, end=(1.0, 0.0))
    assert not torch.isin(torch.cat(clean.exact_samples(0)), plain).any()
    big = dataclasses.replace(made.context, memo={}).exact_samples(0, [10000] * 20)
    found = metrics.named("ks").score(big, made.context)["ks"]
    assert found.estimate < math.sqrt(math.log(2 / FALSE_ALARM) / 2 / 2e5)
    wrong = metrics.named("ks").score(big, clean)["ks"]
    assert wrong.low > 0.01


# error against the exact flow


def test_flow_error_of_known_displacements():
    ends = shards(normals(10, 900, 4))
    context = Context(ends=ends)
    nothing = {"flow_error": 0.0, "flow_error_max": 0.0, "flow_error_by_shard": [0.0] * len(ends)}
    assert flow_error.flow_error(ends, context) == nothing
    moved = torch.zeros(900, 4, dtype=torch.float64)
    moved[:90] = torch.tensor([3.0, 0.0, 4.0, 0.0])  # RMS over four coordinates: 5/2
    samples = shards(torch.cat(ends) + moved)
    found = flow_error.flow_error(samples, context)
    assert found["flow_error"] == pytest.approx(2.5 * math.sqrt(0.1)) and found["flow_error_max"] == pytest.approx(2.5)
    assert found["flow_error_by_shard"][0] == pytest.approx(2.5) and found["flow_error_by_shard"][-1] == 0  # 45 each
    robust = flow_error.flow_error_median(samples, context)
    assert robust == {"flow_error_median": 0.0, "flow_error_median_changed": pytest.approx(0.1)}


def test_flow_error_refuses_other_shapes():
    with pytest.raises(ValueError, match="samples: shards"):
        flow_error.flow_error([torch.zeros(4, 2)], Context(ends=[torch.zeros(4, 1)]))


# sliced transport


def transport_agrees_with_scipy(distance):
    a, b = normals(11, 50), normals(12, 50) * 2 + 1
    one = torch.ones(1, 1, dtype=torch.float64)
    pair = [transport.sorted_projections(rows[:, None], one) for rows in (a, b)]
    assert distance(*pair, 1) == pytest.approx(stats.wasserstein_distance(a.numpy(), b.numpy()), rel=1e-12)
    cost = (a[:, None] - b[None, :]).square().numpy()
    from scipy.optimize import linear_sum_assignment

    best = cost[linear_sum_assignment(cost)].mean() ** 0.5
    assert distance(*pair, 2) == pytest.approx(best, rel=1e-12)


def test_transport_in_one_dimension_agrees_with_scipy():
    transport_agrees_with_scipy(transport.distance)


@pytest.mark.parametrize(
    "mutant",
    [lambda a, b, power: (a - b).abs().pow(power).mean().item(), lambda a, b, power: (a - b).abs().mean().item()],
    ids=["without the root", "deaf to the power"],
)
def test_transport_law_rejects(mutant):
    with pytest.raises(AssertionError):
        transport_agrees_with_scipy(mutant)


def test_sliced_transport_of_a_shift_is_its_mean_projection():
    made = CASES["images"]
    exact = made.context.exact_samples(0)
    shift = normals(13, 64).reshape(1, 8, 8)
    along = (transport.directions(64) @ shift.flatten()).abs()
    for power in (1, 2):
        name = f"sliced_w{power}"
        same = metrics.named(name).score(exact, made.context)[name]
        assert same.estimate == same.high == 0.0
        found = metrics.named(name).score([shard + shift for shard in exact], made.context)[name]
        assert found.estimate == pytest.approx(along.pow(power).mean().pow(1 / power).item(), rel=1e-9)
        assert found.n == 90 and found.blocks == 10


def test_directions_are_uniform_unit_vectors():
    rays = transport.directions(64)
    torch.testing.assert_close(rays.norm(dim=1), torch.ones(128, dtype=torch.float64))
    top = torch.linalg.eigvalsh(rays.mT @ rays / 128 * 64)[-1]  # Marchenko-Pastur edge (1 + sqrt(1/2))^2 = 2.9
    assert 2.3 < top < 3.5
    assert torch.equal(transport.directions(1), torch.ones(1, 1, dtype=torch.float64))


# energy distance


def energy_agrees_with_scipy(distance):
    """scipy's is the root of the biased one, in which a row is also paired with itself."""
    a, b = normals(11, 50), normals(12, 40) * 2 + 1
    biased = stats.energy_distance(a.numpy(), b.numpy()) ** 2
    itself = sum(pairs(v) / len(v) for v in (a, b))
    assert distance(a[:, None], b[:, None]) == pytest.approx(biased - itself, rel=1e-10)


def pairs(values):
    return (values[:, None] - values).abs().sum().item() / (len(values) * (len(values) - 1))


def test_energy_in_one_dimension_agrees_with_scipy():
    energy_agrees_with_scipy(energy.energy)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda a, b: energy.energy(a, b) / 2,
        lambda a, b: 2 * energy.between(a, b) - energy.between(a, a) - energy.between(b, b),
    ],
    ids=["half of it", "pairs a row with itself"],
)
def test_energy_law_rejects(mutant):
    with pytest.raises(AssertionError):
        energy_agrees_with_scipy(mutant)


# Frechet


def with_moments(seed, n, mean, covariance):
    """n rows whose sample mean and sample covariance are exactly these."""
    z = normals(seed, n, len(mean))
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T)).mT)
    return z @ torch.linalg.cholesky(covariance).mT + mean


def random_covariance(seed, d):
    a = normals(seed, d, 2 * d)
    return a @ a.T / d


def frechet_of_gaussians_is_closed(distance, d=6):
    mean, s1, s2 = normals(14, d), random_covariance(15, d), random_covariance(16, d)
    root = linalg.sqrtm(s1.numpy() @ s2.numpy()).real
    closed = (mean @ mean + s1.trace() + s2.trace() - 2 * numpy.trace(root)).item()
    a, b = with_moments(17, 40, mean, s1), with_moments(18, 70, 0 * mean, s2)
    assert distance(a, b) == pytest.approx(closed, rel=1e-10)
    assert distance(b, a) == pytest.approx(closed, rel=1e-10)
    assert distance(a, a.flip(0)) == pytest.approx(0, abs=1e-12)


def plugin(a, b):
    return frechet.distance(frechet.factor(a), frechet.factor(b))


def frechet_by_population_covariance(a, b):
    one, two = frechet.factor(a), frechet.factor(b)
    return frechet.distance(one._replace(samples=len(a) + 1), two._replace(samples=len(b) + 1))


def frechet_by_frobenius(a, b):
    """Frobenius for the nuclear norm: agrees in one dimension."""
    one, two = frechet.factor(a), frechet.factor(b)
    roots = [part.root / math.sqrt(part.samples - 1) for part in (one, two)]
    overlap = (roots[0] @ roots[1].mT).norm()
    return ((one.mean - two.mean).square().sum() + sum(r.square().sum() for r in roots) - 2 * overlap).item()


def frechet_without_means(a, b):
    return plugin(a - a.mean(0), b - b.mean(0))


def test_frechet_of_gaussians_is_closed():
    frechet_of_gaussians_is_closed(plugin)


@pytest.mark.parametrize("mutant", [frechet_by_population_covariance, frechet_by_frobenius, frechet_without_means])
def test_frechet_law_rejects(mutant):
    with pytest.raises(AssertionError):
        frechet_of_gaussians_is_closed(mutant)


def factors_join(joined):
    rows = normals(19, 900, 12) * 3 + 5
    parts = [frechet.factor(part) for part in rows.split([45] * 19 + [45])]
    whole, built = frechet.factor(rows), joined(parts)
    torch.testing.assert_close(built.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(built.root.mT @ built.root, whole.root.mT @ whole.root, rtol=1e-12, atol=1e-9)


def joined_without_gaps(parts):
    root = torch.linalg.qr(torch.cat([part.root for part in parts]), mode="r").R
    return frechet.joined(parts)._replace(root=root)


def test_factors_of_shards_join_to_the_factor_of_all():
    factors_join(frechet.joined)
    with pytest.raises(AssertionError):
        factors_join(joined_without_gaps)


def test_fewer_samples_than_features_and_dead_features_do_no_harm():
    a, b = normals(20, 20, 40), normals(21, 30, 40)
    a[:, 7] = b[:, 7] = 0.0
    s1, s2 = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.svdvals((a - a.mean(0)) @ (b - b.mean(0)).T / math.sqrt(19 * 29)).sum()
    closed = (a.mean(0) - b.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * roots
    assert plugin(a, b) == pytest.approx(closed.item(), rel=1e-12)


def frechet_is_covered(change, d=8, repeats=200):
    """Samples N(m, C) against fixed data; the true value is the distance of N(m, C) itself to the data's Gaussian."""
    reference = normals(22, 900, d)
    mean, covariance = 0.1 * torch.ones(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64) * 1.1
    truth = plugin(with_moments(23, 2000, mean, covariance), reference)
    context = Context(reference=reference, features=lambda x: x)
    rows = normals(24, repeats, 900, d) * math.sqrt(1.1) + 0.1
    found = [change(frechet.score(shards(part), context)) for part in rows]
    covers(sum(i.low <= truth <= i.high for i in found), repeats, 0.93, 0.99)
    errors = torch.tensor([i.estimate - truth for i in found])
    assert abs(errors.mean()) < 4.9 * errors.std() / math.sqrt(repeats)


def frechet_uncorrected(scores):
    found, value = scores["frechet"], scores["frechet_plugin"]
    shift = value - found.estimate
    return dataclasses.replace(found, estimate=value, low=found.low + shift, high=found.high + shift)


def frechet_without_the_jackknife_factor(scores):
    found = scores["frechet"]
    half = (found.high - found.estimate) / 19
    return dataclasses.replace(found, low=found.estimate - half, high=found.estimate + half)


def test_frechet_is_covered_by_its_interval():
    frechet_is_covered(lambda scores: scores["frechet"])


@pytest.mark.parametrize("mutant", [frechet_uncorrected, frechet_without_the_jackknife_factor])
def test_frechet_interval_law_rejects(mutant):
    with pytest.raises(AssertionError):
        frechet_is_covered(mutant)


def test_features_that_are_too_wide_are_refused():
    context = Context(reference=normals(25, 900, 65), features=lambda x: x)
    with pytest.raises(ValueError, match="d = 65, expected at most 64"):
        frechet.score(shards(normals(26, 900, 65)), context)


# KID


def kid_is_unbiased_and_covered(estimate, repeats=300):
    """Against a fixed held-out set y, the mean of k(x, x') - 2 k(x, y) + k(y, y') for x normal in closed form."""
    d = 3
    y = normals(27, 50, d) + 0.2
    grams = y @ y.T / d + 1
    within_y = (grams.pow(3).sum() - grams.diagonal().pow(3).sum()) / (50 * 49)
    # x ~ N(0, I): x.x'/d has mean 0 and variance 1/d, x.y/d mean 0 and variance |y|^2/d^2; E(1+z)^3 = 1 + 3 var z
    truth = (1 + 3 / d) + within_y - 2 * (1 + 3 * y.square().sum(1) / d**2).mean()
    x = normals(28, repeats, 20, 45, d)
    found = [t_interval([estimate(block, y) for block in blocks]) for blocks in x]
    covers(sum(i.low <= truth <= i.high for i in found), repeats, 0.93, 0.97)
    errors = torch.tensor([i.estimate - truth for i in found])
    assert abs(errors.mean()) < 4.9 * errors.std() / math.sqrt(repeats)


def kid_biased(x, y):
    return (kid.kernel(x, x).mean() + kid.within(y) - 2 * kid.kernel(x, y).mean()).item()


def kid_with_one_cross_term(x, y):
    return (kid.within(x) + kid.within(y) - kid.kernel(x, y).mean()).item()


def test_kid_is_unbiased_and_covered_by_its_interval():
    kid_is_unbiased_and_covered(kid.squared_mmd)


@pytest.mark.parametrize("mutant", [kid_biased, kid_with_one_cross_term])
def test_kid_law_rejects(mutant):
    with pytest.raises(AssertionError):
        kid_is_unbiased_and_covered(mutant)


# neighbours


def test_on_identical_sets_precision_recall_density_and_coverage_are_one():
    rows = normals(29, 900, 5)
    context = Context(reference=rows, features=lambda x: x)
    assert neighbours.score_precision(shards(rows), context)["precision"].low == 1.0
    density = neighbours.score_density(shards(rows), context)["density"]
    assert density.estimate == pytest.approx(1.0, abs=1e-12)  # each ball holds its centre and k - 1 others inside
    assert neighbours.precision(rows, rows).min() == 1.0
    whole = neighbours.distances(rows, rows).amin(0) < neighbours.radii(rows, 5)
    assert whole.all()


def test_neighbours_by_hand_on_a_line():
    reference = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]], dtype=torch.float64)
    assert neighbours.radii(reference, 1).tolist() == [1, 1, 1, 1, 7]
    assert neighbours.radii(reference, 3).tolist() == [3, 2, 2, 3, 9]
    generated = torch.tensor([[2.5], [4.5], [7.5], [30.0]], dtype=torch.float64)
    # balls: [-3,3] [-1,3] [0,4] [0,6] [1,19]
    assert neighbours.precision(generated, reference, k=3).tolist() == [1, 1, 1, 0]
    balls = (neighbours.distances(generated, reference) < neighbours.radii(reference, 3)).sum(1)
    assert balls.tolist() == [5, 2, 1, 0]
    # recall: balls of the generated with k = 1: [.5,4.5] [2.5,6.5] [4.5,10.5] [7.5,52.5]
    assert neighbours.precision(reference, generated, k=1).tolist() == [0, 1, 1, 1, 1]


def precision_and_recall_part_ways(precision, recall):
    """The generator makes one of two modes: all of it is precise and half is recalled. And the other way round."""
    two = torch.cat([normals(31, 450, 2), normals(32, 450, 2) + 50])
    order = uniforms(33, 900).argsort()
    one = normals(34, 900, 2)
    for generated, reference, precise, recalled in ((one, two, 1.0, 0.5), (two, one, 0.5, 1.0)):
        context = Context(reference=reference[order], features=lambda x: x)
        samples = shards(generated[order])
        found = precision(samples, context)["precision"], recall(samples, context)["recall"]
        assert abs(found[0].estimate - precise) < 0.05 and abs(found[1].estimate - recalled) < 0.07


def renamed(score, old, new):
    return lambda samples, context: {new: score(samples, context)[old]}


def test_precision_falls_with_invented_and_recall_with_dropped_modes():
    precision_and_recall_part_ways(neighbours.score_precision, neighbours.score_recall)


def test_neighbour_law_rejects_exchanged_precision_and_recall():
    with pytest.raises(AssertionError):
        precision_and_recall_part_ways(
            renamed(neighbours.score_recall, "recall", "precision"),
            renamed(neighbours.score_precision, "precision", "recall"),
        )


def test_coverage_of_a_dropped_mode_is_half_the_floor():
    made = CASES["images"]
    labels = atoms.digits("held_out")[1]
    half = made.context.reference[labels < 5]
    full = neighbours.score_coverage(made.context.train_shards(), made.context)["coverage"]
    few = half[(uniforms(35, 900) * len(half)).long()]
    found = neighbours.score_coverage(shards(few), made.context)["coverage"]
    assert found.high < full.low and found.n == 90 and found.blocks == 10


def test_the_training_set_scores_zero_distance_and_the_held_out_set_a_ratio_of_one():
    made = CASES["images"]
    memorised = neighbours.score_nearest_train(made.context.train_shards(), made.context)
    assert memorised["nearest_train"].estimate == 0.0 == memorised["nearest_train_ratio"].high
    floor = metrics.named("nearest_train").floor(made.context)
    assert floor["nearest_train_ratio"].estimate == pytest.approx(1.0, rel=1e-12)
    shifted = neighbours.score_nearest_train([shard + 0.001 for shard in made.context.train_shards()], made.context)
    assert shifted["nearest_train"].estimate == pytest.approx(0.001, rel=1e-6)  # RMS per pixel


# torch-fidelity


def agrees_with_torch_fidelity(ours):
    """d = 24 with unequal laws; n = m as its kernel distance demands."""
    generated = normals(36, 300, 24) @ (torch.eye(24) + 0.1).double() + 0.3
    reference = normals(37, 300, 24) * torch.linspace(0.5, 2, 24)
    theirs, mine = fidelity.scores(generated, reference), ours(generated, reference)
    assert mine["frechet"] == pytest.approx(theirs["frechet"], rel=1e-6)
    assert mine["kid"] == pytest.approx(theirs["kid"], rel=1e-9)
    assert 0.05 < theirs["precision"] < 0.95 and abs(theirs["precision"] - theirs["recall"]) > 0.05
    assert mine["precision"] == pytest.approx(theirs["precision"], abs=1e-6)  # theirs is a mean in float32
    assert mine["recall"] == pytest.approx(theirs["recall"], abs=1e-6)


def our_scores(generated, reference):
    return {
        "frechet": plugin(generated, reference),
        "kid": kid.squared_mmd(generated, reference),
        "precision": neighbours.precision(generated, reference).mean().item(),
        "recall": neighbours.precision(reference, generated).mean().item(),
    }


def scores_exchanged(generated, reference):
    found = our_scores(generated, reference)
    return found | {"precision": found["recall"], "recall": found["precision"]}


def scores_with_biased_kid(generated, reference):
    return our_scores(generated, reference) | {"kid": kid_biased(generated, reference)}


def scores_with_population_covariance(generated, reference):
    return our_scores(generated, reference) | {"frechet": frechet_by_population_covariance(generated, reference)}


def scores_with_a_neighbour_too_many(generated, reference):
    return our_scores(generated, reference) | {"precision": neighbours.precision(generated, reference, 4).mean().item()}


def test_our_numbers_agree_with_torch_fidelity():
    agrees_with_torch_fidelity(our_scores)


@pytest.mark.parametrize(
    "mutant",
    [scores_exchanged, scores_with_biased_kid, scores_with_population_covariance, scores_with_a_neighbour_too_many],
)
def test_torch_fidelity_rejects(mutant):
    with pytest.raises(AssertionError):
        agrees_with_torch_fidelity(mutant)


def test_torch_fidelity_scores_what_it_is_given_and_not_what_it_kept():
    first = fidelity.scores(normals(38, 60, 4), normals(39, 60, 4))
    again = fidelity.scores(normals(38, 60, 4) + 1, normals(39, 60, 4))
    assert again["frechet"] > first["frechet"] + 2


# the rest given the known part


def test_energy_to_a_mixture_is_twice_the_squared_gap_of_the_distribution_functions():
    """2 int (F_n - F)^2 by quadrature, where the mean |X - X'| is over n^2 pairs and not over n (n - 1)."""
    weights, means, variances = (torch.tensor(v, dtype=torch.float64) for v in ([0.3, 0.7], [-1.0, 1.5], [0.2, 0.5]))
    x = normals(23, 7, 1)[:, 0]
    line = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    cdf = (weights * torch.special.ndtr((line[:, None] - means) / variances.sqrt())).sum(1)
    steps = (x[:, None] <= line).double().mean(0)
    biased = 2 * torch.trapezoid((steps - cdf).square(), line).item()
    pairs = (x[:, None] - x).abs().sum().item()
    expected = biased - pairs * (1 / (7 * 6) - 1 / 7**2)
    assert conditional.energy_to(x, weights, means, variances) == pytest.approx(expected, abs=1e-4)


def rest_is_covered(bias=0.0, repeats=400, factor=1.0, whole=False):
    """Exact rests have expectation 0 whatever n is, also where a guide has but three samples in a block."""
    problem, made = targets.named("mixture-2d-half"), CASES["halves"]
    group, hits = torch.cat(list(made.context.group)), 0
    for k in range(repeats):
        u = uniforms(1000 + k, 900, 2)
        rest = torch.empty(900, dtype=torch.float64)
        for row in range(30):
            law, mine = made.context.rest[row], group == row
            part = (u[mine, :1] >= law.weights[:, 0].cumsum(0)[:-1]).sum(1)
            rest[mine] = law.means[part, 0] + law.variances[part, 0].sqrt() * torch.special.ndtri(u[mine, 1])
        rows = torch.stack([problem.guide.image[group, 0] + 9, factor * rest + bias], 1)  # the known part is not asked
        if whole:
            rows[:, 1] = rows[:, 1][uniforms(k, 900).argsort()]
        found = conditional.score_rest(shards(rows), made.context)["rest_energy"]
        hits += found.low <= 0 <= found.high
    covers(hits, repeats, 0.93)


def test_the_rest_of_exact_completions_is_covered():
    rest_is_covered()


@pytest.mark.parametrize("mutant", [{"bias": 0.4}, {"factor": 0.7}, {"whole": True}], ids=str)
def test_rest_law_rejects(mutant):
    with pytest.raises(AssertionError):
        rest_is_covered(repeats=40, **mutant)


def test_rest_needs_two_samples_of_each_guide():
    context = CASES["halves"].context
    odd = dataclasses.replace(context, group=shards(torch.cat([torch.arange(90), *[torch.zeros(90)] * 9]).long()))
    with pytest.raises(ValueError, match="samples: a block of 90 with 90 unknown entries and 90 guides, expected"):
        conditional.score_rest(CASES["halves"].samples, odd)


# modes, log Z, distribution functions


def test_mode_weights_of_known_shares():
    made = CASES["density"]
    centres = made.context.target.modes
    even = shards(centres.repeat(100, 1))
    found = modes.score_modes(even, made.context)
    assert found["mode_weights"].high == 0 == found["mode_weights_pooled"] and found["mode_weights_kept"] == 9
    assert found["mode_weights_least"] == pytest.approx(1.0)
    lost = shards(torch.cat([centres[:6].repeat(149, 1), centres[7:8].repeat(6, 1)]))  # the 8th keeps 6 of 900 < 1 %
    found = modes.score_modes(lost, made.context)
    assert found["mode_weights_kept"] == 6 and found["mode_weights_least"] == 0
    assert found["mode_weights_pooled"] == pytest.approx(6 * (149 / 900 - 1 / 9), rel=1e-12)


def test_the_reward_is_the_share_in_the_first_mode_and_not_towards_it():
    """Of each 10 samples 4 lie at the first centre, 2 just inside three deviations, 1 just outside, 3 far away."""
    law = targets.named("ring-2d-rewarded")
    steps = torch.tensor([0, 0, 0, 0, 0.89, -0.89, 0.91, 9, -4, -8], dtype=torch.float64)
    rows = law.modes[0] + steps[:, None] * torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = metrics.named("reward").score(shards(rows.repeat(90, 1)), Context(target=law))["reward"]
    assert (found.estimate, found.n) == (pytest.approx(0.6), 90)
    context = dataclasses.replace(CASES["rewarded"].context, memo={}, level=1 - FALSE_ALARM)
    exact = metrics.named("reward").floor(context)
    assert exact["reward"].low < (1 - math.exp(-4.5)) / 8 < exact["reward"].high


def test_balls_name_their_modes_where_these_weigh_the_same():
    """90 samples at each of ten means; unequal balls name none."""
    law = targets.named("gmm-64")
    assert torch.equal(law.modes, law.means)
    context = Context(target=law, start=shards(torch.zeros(900, 1, 8, 8)))
    rows = law.means[torch.arange(900) % 10]
    found = metrics.named("mode_weights").score(shards(rows), context)
    assert found["mode_weights_pooled"] == pytest.approx(0, abs=1e-15) and found["mode_weights_kept"] == 10
    assert dataclasses.replace(law, weights=torch.linspace(0.05, 0.15, 10, dtype=torch.float64)).modes is None


def test_mode_floor_is_the_noise_of_a_multinomial():
    """E|share - 1/9| / 2 summed over nine modes at n = 90, from the binomial law itself."""
    exact = 9 * stats.binom(90, 1 / 9).expect(lambda k: abs(k / 90 - 1 / 9)) / 2
    context = dataclasses.replace(CASES["density"].context, memo={}, level=1 - FALSE_ALARM)
    floor = metrics.named("mode_weights").floor(context)["mode_weights"]
    assert floor.low < exact < floor.high and floor.high - floor.low < 0.2


def log_z_is_covered(make, repeats=1000):
    """log w ~ N(-s^2/2, s^2): log mean w has bias about -(e^{s^2} - 1)/(2n), the lower bound expectation -s^2/2."""
    s = 0.7
    target = dataclasses.replace(targets.named("grid9"), log_Z=3.0)
    found = []
    for log_w in 3.0 + s * normals(40, repeats, 200) - s**2 / 2:
        found.append(make([], Context(target=target, log_weight=log_w.split([10] * 20))))
    z, bound = ([scores[key] for scores in found] for key in ("log_z", "log_z_lower_bound"))
    covers(sum(i.low <= 0 <= i.high for i in z), repeats, 0.93, 0.97)
    covers(sum(i.low <= -(s**2) / 2 <= i.high for i in bound), repeats, 0.94, 0.96)
    errors = torch.tensor([i.estimate for i in z])
    assert abs(errors.mean()) < 4.9 * errors.std() / math.sqrt(repeats)
    share = sum(scores["log_z_ess"] for scores in found) / repeats
    assert share == pytest.approx(math.exp(-(s**2)), rel=0.05)


def log_z_by_the_mean_of_shards(samples, context):
    """The mean over shards of log mean w: its bias is that of one shard, 20 times larger."""
    values = [(w.logsumexp(0) - math.log(len(w))).item() - context.target.log_Z for w in context.log_weight]
    return modes.score_log_z(samples, context) | {"log_z": t_interval(values)}


def log_z_without_log_n(samples, context):
    found = modes.score_log_z(samples, context)
    return found | {"log_z": found["log_z"].mapped(lambda v: v + math.log(200))}


def test_log_z_is_covered_by_its_interval():
    log_z_is_covered(modes.score_log_z)


@pytest.mark.parametrize("mutant", [log_z_by_the_mean_of_shards, log_z_without_log_n])
def test_log_z_law_rejects(mutant):
    with pytest.raises(AssertionError):
        log_z_is_covered(mutant, repeats=400)


def test_equal_weights_give_log_z_exactly():
    context = Context(target=targets.named("manywell-5d"), log_weight=shards(torch.full((900,), -0.5410555129)))
    found = modes.score_log_z([], context)
    assert found["log_z"].estimate == pytest.approx(0, abs=1e-7) and found["log_z"].high == pytest.approx(0, abs=1e-7)
    assert found["log_z_ess"] == pytest.approx(1)


def sup_distance_is_as_published(distance):
    u = uniforms(41, 101)
    assert distance(u, u**1.3) == pytest.approx(stats.kstest((u**1.3).numpy(), "uniform").statistic, rel=1e-12)
    even = (torch.arange(1, 51, dtype=torch.float64) - 0.5) / 50
    assert distance(even, even) == pytest.approx(1 / 100)


def test_sup_distance_agrees_with_scipy_and_rejects_one_sided_steps():
    sup_distance_is_as_published(modes.sup_distance)
    with pytest.raises(AssertionError):
        sup_distance_is_as_published(
            lambda x, cdf: (cdf[x.argsort()] - torch.arange(1, len(x) + 1) / len(x)).abs().max().item()
        )


# tokens


def joint_case(rows):
    target = targets.named("joint-3x3")
    return rows.split([len(rows) // 20] * 20), Context(target=target, start=rows.split([len(rows) // 20] * 20))


def test_token_tv_is_zero_on_the_table_itself_and_one_off_it():
    counts = (targets.named("joint-3x3").law * 100).round().long().flatten()
    place = torch.arange(9).repeat_interleave(counts)  # 100 rows in the exact shares
    exact = torch.stack([place // 3, place % 3], 1)
    halves = torch.cat([exact[::2], exact[1::2]]).repeat(10, 1)
    samples, context = joint_case(halves)
    found = tokens.score_tv(samples, context)
    assert found["token_tv"].high == pytest.approx(0, abs=1e-15)
    assert found["token_tv_pooled"] == pytest.approx(0, abs=1e-15)
    masked = [torch.full_like(shard, 3) for shard in samples]
    assert tokens.score_tv(masked, context)["token_tv"].low == pytest.approx(1.0)


def test_token_tv_by_hand():
    samples, context = joint_case(torch.zeros(200, 2, dtype=torch.int64))
    assert tokens.score_tv(samples, context)["token_tv"].estimate == pytest.approx(0.8)  # 1 - p(0, 0)
    transposed = targets.named("joint-3x3").law.T.contiguous()
    gap = (transposed - targets.named("joint-3x3").law).abs().sum().item() / 2
    counts = (transposed * 100).round().long().flatten()
    place = torch.arange(9).repeat_interleave(counts)
    rows = torch.stack([place // 3, place % 3], 1)
    assert tokens.law_gap(rows, targets.named("joint-3x3").law) == pytest.approx(gap)  # the first token counts most


def test_token_floor_is_the_noise_of_a_multinomial():
    law = targets.named("joint-3x3").law.flatten()
    exact = sum(stats.binom(90, p).expect(lambda k, p=p: abs(k / 90 - p)) for p in law.tolist()) / 2
    context = Context(
        target=targets.named("joint-3x3"), start=shards(torch.zeros(900, 2, dtype=torch.int64)), level=1 - FALSE_ALARM
    )
    floor = metrics.named("token_tv").floor(context)["token_tv"]
    assert floor.low < exact < floor.high and floor.high - floor.low < 0.2


def test_pair_tables_are_the_marginals():
    law = targets.named("markov").table()
    pairs = tokens.pair_tables(law)
    assert len(pairs) == 7
    for pair in pairs:  # the chain is stationary
        torch.testing.assert_close(pair, targets.named("markov").pairs, rtol=1e-9, atol=1e-12)


def witten_bell_by_dictionaries(text, classes, order):
    """The same model from its definition, one token at a time."""
    counts = defaultdict(Counter)
    for length in range(order):
        for i in range(length, len(text)):
            counts[tuple(text[i - length : i])][text[i]] += 1

    def p(history, token):
        shorter = p(history[1:], token) if history else 1 / classes
        seen = counts.get(tuple(history))
        if seen is None:
            return shorter
        return (seen[token] + len(seen) * shorter) / (sum(seen.values()) + len(seen))

    return p


def n_gram_is_witten_bell(fitted):
    text = [0, 1, 0, 1, 0, 2]
    table = fitted(torch.tensor(text), 3, 2).log_prob(torch.tensor([[0, 1], [0, 2], [0, 0]])).exp()
    assert table[:, 0].tolist() == pytest.approx([4 / 9] * 3)
    assert table[:, 1].tolist() == pytest.approx([24 / 45, 13 / 45, 8 / 45])
    longer = (uniforms(42, 400) ** 2 * 5).long()
    rows = (uniforms(43, 30, 7) * 5).long()
    p = witten_bell_by_dictionaries(longer.tolist(), 5, 4)
    expected = [[p(row[max(0, i - 3) : i], row[i]) for i in range(7)] for row in rows.tolist()]
    found = fitted(longer, 5, 4).log_prob(rows).exp()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


class CountsForFollowers(tokens.NGram):
    """Absolute counts where the number of different followers belongs."""

    @classmethod
    def fitted(cls, text, classes, order=5):
        made = tokens.NGram.fitted(text, classes, order)
        return cls(classes, tuple(dataclasses.replace(g, followers=g.totals) for g in made.grams))


class WithoutBackingOff(tokens.NGram):
    """Every context mixed with the uniform law instead of the shorter context."""

    def log_prob(self, rows):
        return tokens.NGram(self.classes, self.grams[-1:]).log_prob(rows)


def test_n_gram_is_interpolated_witten_bell():
    n_gram_is_witten_bell(tokens.NGram.fitted)


@pytest.mark.parametrize("mutant", [CountsForFollowers, WithoutBackingOff])
def test_n_gram_law_rejects(mutant):
    with pytest.raises(AssertionError):
        n_gram_is_witten_bell(mutant.fitted)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**20))
def test_n_gram_probabilities_sum_to_one_after_any_context(order, classes, seed):
    model = tokens.NGram.fitted((uniforms(seed, 60) * classes).long(), classes, order)
    context = (uniforms(seed + 1, 1, 5) * classes).long().expand(classes, -1)
    rows = torch.cat([context, torch.arange(classes)[:, None]], 1)
    assert model.log_prob(rows)[:, -1].exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_n_gram_reaches_the_entropy_rate_of_a_markov_source():
    source = targets.named("markov")
    rows = source.sample(Philox(44, 400), torch.zeros(400, 300, dtype=torch.int64))
    model = tokens.NGram.fitted(rows[:200].flatten(), 4, 3)
    rates = -model.log_prob(rows[200:])[:, 2:].mean(1)
    rate = source.entropy() - dataclasses.replace(source, length=7).entropy()
    fitting = 48 / (2 * 60000) + 2 / 300  # nats: 48 free chances from 60000 letters; contexts that span two rows
    assert rates.mean().item() == pytest.approx(rate, abs=4.9 * rates.std().item() / math.sqrt(200) + fitting)


def test_masks_left_in_a_sample_are_named():
    model = tokens.NGram.fitted(torch.tensor([0, 1, 2, 0]), 3, 2)
    with pytest.raises(ValueError, match="1 of 3 outside 0..2; a mask"):
        model.log_prob(torch.tensor([[0, 3, 1]]))


def test_entropy_within_a_sequence_by_hand():
    rows = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert tokens.entropies(rows).tolist() == pytest.approx([2, 0, 1, 2 - 0.75 * math.log2(3)])


# inverse problems


def test_inverse_metrics_on_known_samples():
    made = CASES["inpainting"]
    problem, group = made.context.problem, torch.cat(list(made.context.group))
    off = [truth + 0.2 for truth in made.context.truth]
    assert inverse.score_psnr(off, made.context)["psnr"].estimate == pytest.approx(20.0)  # 10 log10(2^2 / .2^2)
    edges = math.sqrt((24 * 0.6**2 + 4 * 1.0**2) / 64)  # of .2: a side lacks 3 neighbours, a corner 5
    assert inverse.score_edge_error(off, made.context)["edge_error"].estimate == pytest.approx(edges)
    mean = shards(problem.posterior_mean[group])
    assert inverse.score_posterior_error(mean, made.context)["posterior_error"].high == pytest.approx(0, abs=1e-14)
    assert inverse.score_diversity(mean, made.context)["diversity"].high == pytest.approx(0, abs=1e-14)
    shifted = inverse.score_posterior_error([m + 0.25 for m in mean], made.context)["posterior_error"]
    assert shifted.estimate == pytest.approx(0.25) and shifted.blocks == 45 and shifted.n == 20
    filled = shards(problem.measurement.operator.pinv(problem.measurement.y[group] + 0.6))
    assert inverse.score_data_fit(filled, made.context)["data_fit"].estimate == pytest.approx(3.0)  # .6 / .2
    alternating = [truth + 0.5 * (-1) ** k for k, truth in enumerate(shards(problem.truth[group]))]  # a shard has each
    spread = inverse.score_diversity(alternating, made.context)["diversity"]
    assert spread.estimate == pytest.approx(0.5 * math.sqrt(20 / 19))


def posterior_samples_fit_as_the_noise(score):
    """Measurements of the prior's own atoms: residuals of exact posterior samples are N(0, s^2) again."""
    prior = targets.named("digits")
    truth = prior.sample(Philox(45, 450), torch.empty(450, 1, 8, 8, dtype=torch.float64))
    keep = torch.zeros(1, 8, 8, dtype=torch.bool)
    keep[..., :4] = True
    clean = Mask(keep).forward(truth)
    y = clean + normals(46, *clean.shape)
    problem = AtomProblem("test", prior, Measurement(Mask(keep), y, 1.0), truth)
    group = shards(torch.arange(900) % 450)
    context = Context(problem=problem, group=group, level=1 - FALSE_ALARM)
    found = score(inverse.exact_shards(context), context)["data_fit"]
    assert found.low < 1 < found.high and found.high - found.low < 0.2


def data_fit_against_the_wrong_measurement(samples, context):
    return inverse.score_data_fit(samples, dataclasses.replace(context, group=[g // 2 for g in context.group]))


def data_fit_in_pixels(samples, context):
    """In units of the signal: the residual of the kept half, spread over the whole image."""
    return {"data_fit": inverse.score_data_fit(samples, context)["data_fit"].mapped(lambda v: v / math.sqrt(2))}


def test_posterior_samples_fit_as_the_noise():
    posterior_samples_fit_as_the_noise(inverse.score_data_fit)


@pytest.mark.parametrize("mutant", [data_fit_against_the_wrong_measurement, data_fit_in_pixels])
def test_data_fit_law_rejects(mutant):
    with pytest.raises(AssertionError):
        posterior_samples_fit_as_the_noise(mutant)


def test_one_measurement_is_scored_in_blocks_of_its_samples():
    made = CASES["plane"]
    floor = metrics.named("posterior_error").floor(made.context)["posterior_error"]
    score = metrics.named("posterior_error").score(made.samples, made.context)["posterior_error"]
    assert (floor.n, floor.blocks) == (90, 10) and floor.high < score.low  # N(0, I) is not the posterior
    spread = metrics.named("diversity").floor(dataclasses.replace(made.context, level=1 - FALSE_ALARM))["diversity"]
    posterior = made.context.problem.posterior
    centred = posterior.means - made.context.problem.posterior_mean
    exact = (posterior.weights[:, None] * (posterior.covariances.diagonal(dim1=1, dim2=2) + centred**2)).sum(0)
    assert spread.low < exact.mean().sqrt().item() < spread.high


def test_exact_posterior_samples_are_at_no_energy_distance():
    """Fresh exact samples have mean 0 (the estimate is unbiased), the posterior's mean and N(0, I) have not."""
    for case, fewest in (("inpainting", 45), ("plane", 10)):
        context = dataclasses.replace(CASES[case].context, level=1 - FALSE_ALARM)
        floor = metrics.named("posterior_energy").floor(context)["posterior_energy"]
        assert floor.low < 0 < floor.high and floor.blocks == fewest
        group = torch.cat(list(context.group))
        means = context.problem.posterior_mean[group]
        flat_samples = inverse.score_posterior_energy(shards(means), context)["posterior_energy"]
        noise = inverse.score_posterior_energy(shards(normals(3, *means.shape)), context)["posterior_energy"]
        assert 0 < flat_samples.at(0.95).low <= flat_samples.at(0.95).high < noise.at(0.95).low


def test_posterior_energy_of_points_has_its_closed_form():
    """Samples at one place c from a posterior Y: 2 E|c - Y| - E|Y - Y'|, by the same exact draws."""
    context = CASES["plane"].context
    group = torch.cat(list(context.group))
    exact = inverse.drawn(group.repeat(inverse.EXACT), context, 1).flatten(1)
    at = torch.tensor([0.3, -0.2], dtype=torch.float64)
    gaps = (exact[:, None] - exact).square().sum(2).sqrt()
    expected = 2 * (exact - at).norm(dim=1).mean() - gaps.sum() / (len(exact) * (len(exact) - 1))
    found = inverse.score_posterior_energy(shards(at.expand(len(group), 2)), context)["posterior_energy"]
    assert found.estimate == pytest.approx(expected.item(), rel=1e-6)


def test_a_kept_memo_does_not_answer_for_other_measurements():
    made = CASES["inpainting"]
    for group in (torch.arange(900) % 45, torch.arange(900) % 90):
        shared = dataclasses.replace(made.context, group=shards(group))
        alone = dataclasses.replace(shared, memo={})
        for before, now in zip(inverse.exact_shards(shared), inverse.exact_shards(alone), strict=True):
            assert torch.equal(before, now)


def test_one_sample_per_measurement_has_no_diversity():
    made = CASES["inpainting"]
    context = dataclasses.replace(made.context, group=shards(torch.arange(900)))
    with pytest.raises(ValueError, match="group: 1 sample of a measurement, expected at least 2"):
        inverse.score_diversity(made.samples, context)


# what jackknife and t are given


def test_frechet_jackknifes_the_values_of_all_but_one_shard():
    reference, rows = normals(47, 900, 3), normals(48, 900, 3) + 0.5
    parts = shards(rows)
    without = [plugin(torch.cat(parts[:j] + parts[j + 1 :]), reference) for j in range(20)]
    expected = jackknife(plugin(rows, reference), without, SIZES)
    found = frechet.score(parts, Context(reference=reference, features=lambda x: x))["frechet"]
    assert (found.estimate, found.low, found.high) == pytest.approx((expected.estimate, expected.low, expected.high))


def test_source_bits_are_those_of_the_law():
    """Exact samples cost the source's entropy, samples of another law their cross-entropy, within 5 standard errors."""
    target = targets.named("joint-3x3")
    table = target.table().double()
    entropy = -(table * table.log2()).sum().item()
    product = torch.outer(table.sum(1), table.sum(0))
    metric = metrics.named("source_bits")
    context = Context(target=target, start=[torch.zeros(2000, 2, dtype=torch.int64)] * 10)
    floor = metric.floor(context)["source_bits"]
    assert floor.low < 0 < floor.high
    law = torch.multinomial(product.flatten(), 20_000, replacement=True, generator=torch.Generator().manual_seed(3))
    shards = list(torch.stack([law // 3, law % 3], 1).split(2000))
    found = metric.score(shards, context)["source_bits"]
    expected = (-(product * table.log2()).sum().item() - entropy) / 2
    assert abs(found.estimate - expected) < 5 * (found.high - found.low) / 4
    assert expected > 0.05


# labels


def test_accuracy_counts_and_its_interval_covers():
    """Each sample is right with probability .8, independently of the others."""
    labels, hits = shards(torch.zeros(900, dtype=torch.int64)), 0
    for seed in range(100):
        said = (uniforms(seed, 900) > 0.8).long()
        context = Context(labels=labels, classify=lambda rows: rows[:, 0].long())
        found = metrics.named("class_accuracy").score(shards(said[:, None].double()), context)["class_accuracy"]
        assert found.estimate == pytest.approx((said == 0).double().mean().item(), abs=1e-12)
        hits += found.low <= 0.8 <= found.high
    covers(hits, 100, 0.9)


def test_spread_within_a_class_is_pooled_over_degrees_of_freedom():
    """Two classes a thousand apart: the spread between them does not count; by hand against torch's own variance."""
    labels = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    rows = normals(60, 7, 3) + 1000.0 * labels[:, None]
    each = [rows[labels == c] for c in (0, 1)]
    pooled = sum((len(part) - 1) * part.var(0).sum() for part in each) / (7 - 2) / 3
    assert labels_module.within(rows, labels) == pytest.approx(pooled.item(), rel=1e-10)
    with pytest.raises(ValueError, match="^labels: 2 classes in a block of 2"):
        labels_module.within(rows[:2], labels[:2])


def test_class_metrics_of_exact_samples_are_at_the_floor_and_of_others_are_not():
    made = CASES["classes"]
    for name in ("class_accuracy", "class_spread", "class_error"):
        exact = metrics.named(name).score(made.samples, made.context)[name]
        floor = metrics.named(name).floor(made.context)[name]
        assert exact.low <= floor.high and floor.low <= exact.high
    law, labels = made.context.target, torch.cat(list(made.context.labels))
    narrow = law.means[labels] + 0.5 * (torch.cat(made.samples) - law.means[labels])
    for name, side in (("class_accuracy", 1), ("class_spread", -1)):
        found = metrics.named(name).score(shards(narrow), made.context)[name]
        exact = metrics.named(name).score(made.samples, made.context)[name]
        assert side * (found.estimate - exact.estimate) > 0
    name = "class_spread"
    half, whole = (metrics.named(name).score(s, made.context)[name].estimate for s in (shards(narrow), made.samples))
    assert half == pytest.approx(whole / 2, rel=0.05)
    moved = metrics.named("class_error").score(shards(torch.cat(made.samples) + 0.5), made.context)["class_error"]
    assert moved.estimate == pytest.approx(0.5, rel=0.1)
    swapped = dataclasses.replace(made.context, memo={}, labels=shards((labels + 1) % 3))
    assert metrics.named("class_accuracy").score(made.samples, swapped)["class_accuracy"].high < 0.1


# guides


def test_distance_to_the_guide_of_known_displacements():
    guides = shards(normals(61, 900, 4))
    known = shards(torch.tensor([True, False, True, False]).expand(900, 4))
    context = Context(guides=guides, known=known)
    moved = [guide + torch.tensor([0.0, 3.0, 0.0, 4.0]) for guide in guides]
    assert metrics.named("guide_distance").score(moved, context)["guide_distance"].estimate == pytest.approx(2.5)
    kept = metrics.named("known_error").score(moved, context)
    assert kept["known_error"].estimate == kept["known_error_max"] == 0.0
    moved[3] = moved[3] + torch.tensor([0.2, 0.0, 0.0, 0.0])
    assert metrics.named("known_error").score(moved, context)["known_error_max"] == pytest.approx(0.2)


def test_seam_energy_counts_the_jumps_across_the_border_alone():
    """The quarter of a 4 x 4 picture has 4 neighbours across its border; other jumps, however large, do not count."""
    known = torch.zeros(900, 1, 4, 4, dtype=torch.bool)
    known[..., :2, :2] = True
    pictures = 9 * normals(62, 900, 1, 1, 1).expand(900, 1, 4, 4).clone()
    pictures[..., 3, 3] += 50
    context = Context(known=shards(known), guides=shards(pictures))
    seam = metrics.named("seam_energy")
    assert seam.score(shards(pictures), context)["seam_energy"].estimate == pytest.approx(0, abs=1e-24)
    pictures[..., :2, :2] += 0.5
    pictures[..., 0, 2] -= 1.0
    found = seam.score(shards(pictures), context)["seam_energy"].estimate
    assert found == pytest.approx((3 * 0.5**2 + 1.5**2) / 4)
    with pytest.raises(ValueError, match="expected a border"):
        seam.score(shards(pictures), dataclasses.replace(context, known=shards(known | True)))


# chains, and far edits


def autoregressive(length: int, share: float, chains: int = 400) -> torch.Tensor:
    """[chains,length,1] of a stationary process with autocorrelation share^lag and unit variance."""
    z, rows = normals(71, chains, length), []
    for step in range(length):
        rows.append(z[:, step] if not rows else share * rows[-1] + math.sqrt(1 - share**2) * z[:, step])
    return torch.stack(rows, 1)[..., None]


@pytest.mark.parametrize("share", [-0.5, 0.0, 0.8])
def test_correlation_time_of_an_autoregressive_chain_has_its_closed_form(share):
    length = 20
    exact = 1 + 2 * sum((1 - lag / length) * share**lag for lag in range(1, length))
    samples = list(autoregressive(length, share))
    metric = metrics.named("correlation_time")
    found = metric.score(samples, Context())["correlation_time"]
    assert found.low < exact < found.high and found.high - found.low < 0.5 * exact and found.blocks == 400
    far = [sample + 100 for sample in samples]  # where a chain lies changes nothing
    assert metric.score(far, Context())["correlation_time"].estimate == pytest.approx(found.estimate, rel=1e-9)


def test_correlation_time_wants_chains():
    for samples in ([normals(1, 5, 2)] * 2, [normals(1, 1, 2)] * 9, [normals(1, rows, 2) for rows in (4, 5, 5)]):
        with pytest.raises(ValueError, match="expected at least 3, all of one length above 1"):
            metrics.named("correlation_time").score(samples, Context())


def test_the_distance_that_95_percent_keep_covers_its_quantile():
    """|z| of a plane normal law: the quantile is sqrt(2 log 20); the interval covers it about as often as it says."""
    exact, metric, covered = math.sqrt(2 * math.log(20)), metrics.named("guide_distance_95"), 0
    for seed in range(200):
        guides = shards(normals(1000 + seed, 900, 2))
        samples = [guide + gap for guide, gap in zip(guides, shards(normals(seed, 900, 2)), strict=True)]
        found = metric.score(samples, Context(guides=guides))["guide_distance_95"]
        covered += found.low <= exact <= found.high
    assert 184 <= covered <= 199  # 190 expected, and a little more, as order statistics are discrete
    with pytest.raises(ValueError, match="samples: 30, expected more"):
        metric.score([normals(1, 30, 2)], Context(guides=[normals(2, 30, 2)]))


# samples of many measurements against the prior


def pooled(samples, group, problem, sizes=1):
    context = Context(problem=problem, group=[group])
    return metrics.named("prior_frechet").score([samples], context)["prior_frechet"]


def test_exact_posterior_samples_of_real_pictures_have_the_prior_s_moments():
    """Between them they have the prior's law, and their means have not: these lose the posterior's variance. A shift by
    c adds its square in each of 64 pixels. The order of the rows means nothing."""
    problem, group = targets.named("digits-superresolution"), torch.arange(900)
    floor = metrics.named("prior_frechet").floor(Context(problem=problem, group=[group]))["prior_frechet"]
    assert (floor.n, floor.blocks) == (900, 10) and floor.low < 0 < floor.high
    assert pooled(problem.posterior_mean, group, problem).low > floor.high
    exact = problem.posterior.sample(Philox(5, 900), torch.empty(900, 1, 8, 8, dtype=torch.float64))
    found = pooled(exact, group, problem)
    assert found.low < 0 < found.high
    plugin = found.estimate - pooled(exact + 0.5, group, problem).estimate
    gap = (exact.mean(0) - problem.prior.atoms.mean(0)).sum().item()
    assert plugin == pytest.approx(-(64 * 0.25 + 2 * 0.5 * gap), rel=0.02)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(1))
    assert pooled(exact[order], order, problem).estimate == pytest.approx(found.estimate, abs=1e-9)


def test_pictures_of_a_first_stage_of_few_steps_are_enlarged_to_another_law():
    floors = {}
    for name in ("digits-superresolution", "digits-cascade"):
        context = Context(problem=targets.named(name), group=[torch.arange(900)])
        floors[name] = metrics.named("prior_frechet").floor(context)["prior_frechet"]
    assert floors["digits-cascade"].low > floors["digits-superresolution"].high


def test_one_measurement_s_posterior_is_told_from_the_prior():
    """Known moments in closed form: the Gaussian prior N(0, 2) and its posterior N(1, .3)."""
    problem = targets.named("gaussian-1d-seen")
    context = Context(problem=problem, group=shards(torch.zeros(900, dtype=torch.int64)))
    found = metrics.named("prior_frechet").floor(context)["prior_frechet"]
    exact = 1 + 2 + 0.3 - 2 * math.sqrt(2 * 0.3)
    assert found.low < exact < found.high and found.blocks == 10


# second moments


@pytest.mark.parametrize(
    "name", ["g3", "gaussian-2d", "product-2d", "mixture-2d", "unequal-pair-2d", "ring-2d", "ring-2d-rewarded"]
)
def test_total_variance_of_a_law_is_that_of_its_samples(name):
    """400,000 draws: the trace of their covariance within five standard errors."""
    law = targets.named(name)
    rows = law.sample(Philox(31, 400_000), torch.empty(400_000, *law.shape, dtype=torch.float64))
    square = (rows - rows.mean(0)).square().sum(1)
    assert abs(square.mean().item() - law.total_variance) < 5 * square.std().item() / math.sqrt(len(square))
    assert targets.named("ring-2d").total_variance == pytest.approx(16.18, abs=1e-12)


def test_variance_error_is_zero_for_exact_samples_and_exact_for_stretched_ones():
    law = targets.named("ring-2d")
    context = Context(target=law, start=shards(torch.zeros(900, 2)), end=(0.8, 0.5))
    exact = context.exact_samples(0)
    found = metrics.named("variance_error").score(exact, context)["variance_error"]
    assert found.low < 0 < found.high and found.n == 900
    wide = metrics.named("variance_error").score([3 + 1.5 * shard for shard in exact], context)["variance_error"]
    assert 1 + wide.estimate == pytest.approx(2.25 * (1 + found.estimate), rel=1e-12)


def test_variance_from_one_start_forgets_where_the_shards_are():
    """Shards far apart, each of unit variance in two coordinates; unbiased, so that two samples a shard do as well."""
    rows = normals(32, 4000, 2)
    places = 100 * normals(33, 2000, 2)
    for each in (2, 40):
        moved = [shard + place for shard, place in zip(rows.split(each), places, strict=False)]
        found = metrics.named("start_diversity").score(moved, Context())["start_diversity"]
        assert found.low < 2 < found.high and found.blocks == 4000 // each
    with pytest.raises(ValueError, match="^samples: 1 in a shard, expected 2 or more"):
        metrics.named("start_diversity").score(list(rows.split(1)), Context())
