"""Chosen boundary conditions: the linear-Gaussian theory, exactly; choosing, its cost; that nothing else is random."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws import inverse as laws
from reference_impls import targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Conditional, Pairs, Predictor, WrongKind, require
from reference_impls.inverse import ma2024bcsr as paper

F64 = dict(dtype=torch.float64)
VE = processes.named("ve-edm")


def gaussian_problem(seed, d=4, m=2):
    """One Gaussian seen through m numbers, for ROWS measurements."""
    return laws.random_problem(seed, d, m, 1)


def posterior(problem):
    """m(y) [B,d] and P [d,d], from the precision form: no formula shared with the target."""
    S, A, s = problem.covariances[0], problem.matrix, problem.noise_std
    P = torch.linalg.inv(torch.linalg.inv(S) + A.T @ A / s**2)
    return problem.means[0] + (problem.y - problem.means[0] @ A.T) @ A @ P / s**2, P


def conditional(problem, process):
    return Conditional(
        "mean", lambda x, t, c: problem.conditional_mean(x, process.alpha(t), process.sigma(t), c), problem.mean_given
    )


def closed_form(problem, x, sigma_max, sigma_min=0.0):
    """h(x_T, y) = m + U diag sqrt((w + s^2)/(w + S^2)) U^T (x_T - m) on the path x0 + sigma eps."""
    mean, P = posterior(problem)
    w, U = torch.linalg.eigh(P)
    return mean + (x - mean) @ U * ((w + sigma_min**2) / (w + sigma_max**2)).sqrt() @ U.T


@pytest.mark.parametrize("seed", [0, 1])
def test_the_conditional_flow_has_its_closed_form(seed):
    """Invariant 1: the sampler's DDIM with the exact denoiser, at first order and then extrapolated."""
    problem = gaussian_problem(seed)
    x = 3 * laws.normals(seed, "x", laws.ROWS, 4)
    process = VE.between(0.05, 3.0)
    model = conditional(problem, process)
    expected = closed_form(problem, x, 3.0, 0.05)
    meter, ends = require(model, "mean", laws.ROWS), []
    for steps in (128, 256, 512):
        rows = paper.plan(grids.uniform_lam(steps, process), process)
        ends.append(paper.restore(meter, x, rows, problem.y))
    errors = [(end - expected).abs().max().item() for end in ends]
    assert 1.8 < errors[0] / errors[1] < 2.2
    better = [2 * fine - coarse for coarse, fine in zip(ends, ends[1:], strict=False)]
    best = (4 * better[1] - better[0]) / 3
    assert (best - expected).abs().max() < 1e-3 * errors[2] + 1e-9


def test_the_closed_form_solves_the_flow():
    """Its velocity in sigma is (x - D)/sigma at every sigma, to the error of a central difference."""
    problem = gaussian_problem(3)
    x, h = laws.normals(1, "x", laws.ROWS, 4) * 5, 1e-4
    for sigma in (0.3, 1.0, 4.0):
        here = closed_form(problem, x, 5.0, sigma)
        slope = (closed_form(problem, x, 5.0, sigma + h) - closed_form(problem, x, 5.0, sigma - h)) / (2 * h)
        velocity = (here - problem.conditional_mean(here, 1.0, sigma, problem.y)) / sigma
        torch.testing.assert_close(slope, velocity, rtol=0, atol=1e-6)


@given(st.integers(0, 2**20))
def test_in_the_limit_every_image_ranks_the_noises_alike(seed):
    """Invariant 2: the risk is tr P + |P^(1/2) x_T|^2/S^2; noise 0 is best, a random one has twice the floor."""
    problem, big = gaussian_problem(seed), 1e7
    mean, P = posterior(problem)
    pool = big * laws.normals(seed, "pool", 40, 4)
    theory = P.trace() + torch.einsum("ki,ij,kj->k", pool, P, pool) / big**2
    for b in range(laws.ROWS):
        one = problem.rows([b])
        ends = closed_form(replace(one, y=one.y.expand(40, -1)), pool, big)
        risk = (ends - mean[b]).square().sum(1) + P.trace()
        torch.testing.assert_close(risk, theory, rtol=1e-5, atol=0)
        assert torch.equal(risk.argsort()[:3], theory.argsort()[:3])
    zero = closed_form(problem, torch.zeros(laws.ROWS, 4, **F64), big)
    torch.testing.assert_close(zero, mean, rtol=0, atol=1e-6 * (1 + mean.abs().max().item()))
    sigmas = math.sqrt(4) * big * torch.cat([torch.eye(4, **F64), -torch.eye(4, **F64)])  # mean over these is E over N
    mean_risk = P.trace() + torch.einsum("ki,ij,kj->k", sigmas, P, sigmas).mean() / big**2
    assert mean_risk.item() == pytest.approx(2 * P.trace().item(), rel=1e-12)


def chosen(problem, reference, *, candidates, process, steps=6, seed=0, distance="mse"):
    model, rows = conditional(problem, process), paper.plan(grids.power(7.0)(steps, process), process)
    pool = paper.noises(candidates, torch.empty(1, *problem.shape, **F64), process, seed)
    return paper.choose(require(model, "mean", 1), pool, rows, reference, paper.DISTANCES[distance]), pool


def test_choosing_on_posterior_means_finds_the_least_noise_of_the_theory():
    """With the means as truths and a fine grid the score is |P^(1/2) x_T|^2/S^2 up to the end's own sigma."""
    problem = gaussian_problem(5)
    mean, P = posterior(problem)
    process = VE.between(1e-4, 1000.0)
    choice, pool = chosen(problem, Pairs(mean, problem.y), candidates=50, process=process, steps=300)
    theory = torch.einsum("ki,ij,kj->k", pool, P, pool) / 1000**2
    assert choice.index == int(theory.argmin())
    assert torch.corrcoef(torch.stack([choice.scores, theory]))[0, 1] > 0.999
    assert torch.equal(choice.x, pool[choice.index])


def test_more_noises_never_choose_worse():
    """Invariant 4: of nested pools the chosen score falls; the pool's start does not depend on its size."""
    problem = gaussian_problem(6)
    reference = Pairs(laws.normals(1, "truth", laws.ROWS, 4), problem.y)
    scores, pools = [], []
    for candidates in (1, 3, 10, 30):
        choice, pool = chosen(problem, reference, candidates=candidates, process=VE)
        assert choice.scores[choice.index] == choice.scores.min()
        scores.append(choice.scores.min().item())
        pools.append(pool)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0]
    assert all(torch.equal(pool, pools[-1][: len(pool)]) for pool in pools)
    assert pools[-1].std().item() == pytest.approx(80, rel=0.35)  # 120 numbers of the prior's 80


def test_with_more_pairs_the_scores_become_the_risk():
    """Invariant 4, R to infinity. Over noises the risk |P^(1/2) x|^2/S^2 has variance 2 tr P^2, the cross term with the
    R errors z - m(y) has 4 tr P^2/R: their correlation is 1/sqrt(1 + 2/R), about .58 at 1 and .99 at 100."""
    problem, count = gaussian_problem(8), 100
    S, A, s = problem.covariances[0], problem.matrix, problem.noise_std
    z = problem.means[0] + laws.normals(4, "truth", count, 4) @ torch.linalg.cholesky(S).T
    y = z @ A.T + s * laws.normals(5, "noise", count, A.shape[0])
    _, P = posterior(problem)
    process, found = replace(VE.between(1e-4, 1000.0), prior_std=1000.0), {}
    for pairs in (1, count):
        choice, pool = chosen(problem, Pairs(z[:pairs], y[:pairs]), candidates=40, process=process, steps=300)
        theory = torch.einsum("ki,ij,kj->k", pool, P, pool)
        found[pairs] = torch.corrcoef(torch.stack([choice.scores, theory]))[0, 1].item()
    assert found[count] > 0.95 and found[1] < 0.95 * found[count], found


@pytest.mark.parametrize("distance", ["mse", "mae"])
def test_scores_are_means_of_distances_over_the_pairs(distance):
    problem = gaussian_problem(7)
    reference = Pairs(laws.normals(1, "truth", 3, 4), problem.y[:3])
    choice, pool = chosen(problem, reference, candidates=4, process=VE, distance=distance)
    rows = paper.plan(grids.power(7.0)(6, VE), VE)
    for k in range(4):
        end = paper.restore(require(conditional(problem, VE), "mean", 3), pool[k].expand(3, 4), rows, problem.y[:3])
        gap = end - reference.x0
        expected = gap.square().mean() if distance == "mse" else gap.abs().mean()
        assert choice.scores[k].item() == pytest.approx(expected.item(), rel=1e-12)


def test_choosing_goes_in_parts_of_any_size(monkeypatch):
    problem = gaussian_problem(7)
    reference = Pairs(laws.normals(1, "truth", 3, 4), problem.y[:3])
    whole, _ = chosen(problem, reference, candidates=5, process=VE)
    monkeypatch.setattr(paper, "ROWS", 4)
    parts, _ = chosen(problem, reference, candidates=5, process=VE)
    torch.testing.assert_close(parts.scores, whole.scores, rtol=1e-12, atol=0)


# the sampler

DIGITS = targets.named("digits-superresolution")
CHAIN = processes.named("discrete-cosine")


def restored(rows, *, seed=1, reference=None, x=None, grid=None, model=None, **options):
    """`chosen` of the card on some of the measured digits."""
    condition = options.pop("condition") if "condition" in options else DIGITS.rows(rows).measurement.picture
    x = Philox(seed, len(rows)).normal("start", torch.empty(len(rows), 1, 8, 8, **F64)) if x is None else x
    grid = paper.spread_subsequence(4, CHAIN) if grid is None else grid
    options = dict(candidates=3, references=5) | options
    return paper.sample_chosen(
        model or conditional(DIGITS, CHAIN), x, grid, process=CHAIN, draws=Philox(seed, len(rows)), condition=condition,
        reference=reference or DIGITS.reference, **options,
    )  # fmt: skip


def test_one_noise_restores_every_row_and_nothing_else_is_random():
    """Invariant 5: neither seeds, start states nor the batch move an end; a row alone has the same noise."""
    first, second = restored([0, 1, 2], seed=1), restored([0, 1, 2], seed=2)
    assert torch.equal(first.x, second.x)
    assert first.memory.index == second.memory.index
    torch.testing.assert_close(restored([1]).x, first.x[1:2], rtol=0, atol=1e-12)
    rows = paper.plan(paper.spread_subsequence(4, CHAIN), CHAIN)
    meter = require(conditional(DIGITS, CHAIN), "mean", 3)
    by_hand = paper.restore(meter, first.memory.x.expand(3, 1, 8, 8), rows, DIGITS.rows([0, 1, 2]).measurement.picture)
    assert torch.equal(first.x, by_hand)
    assert not torch.equal(restored([0, 1, 2], pool_seed=1).x, first.x)


def test_the_choice_is_metered():
    """K R steps evaluations over a batch of B, and steps for each row; the first R pairs are asked."""
    run = restored([0, 1, 2])
    assert run.nfe == pytest.approx(4 + 3 * 5 * 4 / 3)
    assert run.memory.scores.shape == (3,)
    few = Pairs(*(part[:5] for part in DIGITS.reference))
    assert torch.equal(restored([0, 1, 2], reference=few, references=0).memory.scores, run.memory.scores)


def test_all_the_pairs_or_so_many_of_them():
    few = Pairs(*(part[:5] for part in DIGITS.reference))
    assert torch.equal(restored([0], reference=few, references=5).x, restored([0], reference=few, references=0).x)
    assert not torch.equal(
        restored([0], references=1).memory.scores, restored([0], reference=few, references=5).memory.scores
    )
    assert restored([0], candidates=1).memory.index == 0


def test_any_function_measures_the_distance():
    named = restored([0, 1], distance="mae")
    given = restored([0, 1], distance=lambda x, z: (x - z).flatten(1).abs().mean(1))
    assert torch.equal(named.memory.scores, given.memory.scores) and torch.equal(named.x, given.x)
    farthest = restored([0, 1], distance=lambda x, z: -paper.DISTANCES["mse"](x, z))
    assert farthest.memory.index == int(restored([0, 1]).memory.scores.argmax())


def test_defaults_are_those_of_the_card():
    """K about 1,000 [recall]; all the pairs there are, squared error."""
    options = inspect.signature(paper.sample_chosen).parameters
    assert {name: options[name].default for name in ("candidates", "references", "pool_seed", "distance")} == {
        "candidates": 1000, "references": 0, "pool_seed": 0, "distance": "mse"
    }  # fmt: skip


def test_scores_are_float64_whatever_the_state():
    run = restored([0, 1], x=torch.empty(2, 1, 8, 8), reference=Pairs(*(part.float() for part in DIGITS.reference)))
    assert run.x.dtype == torch.float32 and run.memory.scores.dtype == torch.float64


def test_the_card_of_random_noise_is_the_conditional_flow_from_each_rows_own():
    condition = DIGITS.rows([0, 1]).measurement.picture
    x = Philox(1, 2).normal("start", torch.empty(2, 1, 8, 8, **F64))
    grid, model = paper.spread_subsequence(4, CHAIN), conditional(DIGITS, CHAIN)
    run = paper.sample(model, x, grid, process=CHAIN, draws=Philox(1, 2), condition=condition)
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        mean = model.given(condition)(x, t)
        x = CHAIN.alpha(s) * mean + CHAIN.sigma(s) * (x - CHAIN.alpha(t) * mean) / CHAIN.sigma(t)
    torch.testing.assert_close(run.x, x, rtol=0, atol=1e-9)
    assert run.nfe == 4


def test_the_grid_divides_the_chain():
    assert [round(1000 * t) for t in paper.spread_subsequence(3, CHAIN).tolist()] == [1000, 667, 334, 0]
    assert torch.equal(paper.spread_subsequence(1000, CHAIN), torch.arange(1000, -1, -1).double() / 1000)


BAD = float("nan")


@pytest.mark.parametrize("value", [BAD, math.inf, -math.inf])
def test_a_noise_from_which_the_network_blows_up_is_not_chosen(value):
    """Its score shows it and is passed over; the others keep their order. If all blow up, that is said."""
    pool = paper.noises(8, torch.empty(1, 4, **F64), CHAIN, 0)
    reference = Pairs(*(torch.zeros(3, 4, **F64) for _ in range(2)))
    largest = int(pool[:, 0].argmax())

    def run(bound):
        def predict(x, t, condition):
            return torch.where((x[:, :1] > bound) & (t > 0.99), value, 0.5 * x)

        return paper.sample_chosen(
            Conditional("mean", predict), torch.empty(3, 4, **F64), paper.spread_subsequence(4, CHAIN), process=CHAIN,
            draws=Philox(0, 3), condition=reference.condition, reference=reference, candidates=8,
        )  # fmt: skip

    whole, found = run(math.inf).memory, run(pool[:, 0].max().item() - 1e-9)
    others = [k for k in range(8) if k != largest]
    assert not found.memory.scores[largest].isfinite() and found.x.isfinite().all()
    assert torch.equal(found.memory.scores[others], whole.scores[others])
    assert found.memory.index == min(others, key=lambda k: whole.scores[k].item())
    with pytest.raises(ValueError, match="distance: not finite from any of 8 noises"):
        run(-math.inf)


def test_a_measure_that_fails_on_a_noise_does_not_choose_it():
    """Distances that are NaN for noise 2 of 4, one for the others: the first of equal ones is chosen."""
    calls = []

    def distance(x, z):
        calls.append(len(x))
        return torch.where(torch.arange(len(x)) // 5 == 0, BAD, 1.0) if len(x) == 20 else torch.ones(len(x))

    assert restored([0], candidates=4, distance=distance).memory.index == 1 and calls == [2, 20]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"candidates": 0}, "candidates: 0, expected an integer >= 1"),
        ({"references": 101}, r"references: 101 of 100 pairs, expected 0 \(all\) to 100"),
        ({"references": -1}, "references: -1 of 100 pairs"),
        ({"distance": "lpips"}, "distance: 'lpips' is not known; expected one of mse, mae"),
        ({"reference": Pairs(torch.empty(0, 1, 8, 8), torch.empty(0, 1, 4, 4)), "references": 0}, "references: 0 of 0"),
        ({"grid": torch.tensor([0.2, 0.5], **F64)}, "grid: not strictly decreasing"),
        ({"candidates": 2.5}, "candidates: 2.5, expected an integer >= 1"),
        ({"references": 2.5}, "references: 2.5 of 100 pairs"),
        ({"reference": (torch.zeros(5, 1, 8, 8), None)}, r"reference: tuple, expected Pairs\(x0, condition\)"),
        ({"reference": Pairs(torch.zeros(5, 1, 8, 8), None)}, "reference: Pairs, expected Pairs"),
        ({"reference": Pairs(torch.zeros(5, 1, 8, 8), torch.zeros(4, 1, 4, 4))}, r"8\] and condition \[4, 1"),
        ({"reference": Pairs(torch.zeros(5, 64), torch.zeros(5, 1, 4, 4))}, r"x0 \[5, 64\].* like x, \[1, 8, 8\]"),
        ({"reference": Pairs(torch.zeros(5, 1, 8, 8), torch.zeros(5, 16))}, r"the condition, \[1, 4, 4\]"),
        ({"condition": DIGITS.rows([0, 1]).measurement.picture}, r"condition: \(2, 1, 4, 4\), expected a tensor of 1"),
        ({"condition": None}, "condition: NoneType, expected a tensor of 1 rows"),
        ({"distance": None}, "distance: None is not known; expected one of mse, mae, or a function"),
        ({"distance": lambda x, z: (x - z).square().mean()}, r"distance: gives \(\) for 2 pairs"),
        ({"distance": lambda x, z: (x - z).square()}, r"distance: gives \(2, 1, 8, 8\) for 2 pairs, expected one"),
        ({"distance": lambda x, z: 0.0}, "distance: gives float for 2 pairs"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_evaluation(options, says):
    with pytest.raises(ValueError, match=says):
        restored([0], model=Conditional("mean", lambda x, t, condition: pytest.fail("evaluated")), **options)


def test_no_reference_and_another_number_of_conditions_are_refused():
    x, y = torch.zeros(2, 4, **F64), torch.zeros(3, 4, **F64)
    model = Conditional("mean", lambda x, t, condition: pytest.fail("evaluated"))
    common = dict(process=CHAIN, draws=Philox(1, 2))
    refused = (y, r"\(3, 4\), expected a tensor of 2 rows"), (None, "NoneType"), (y[0, 0], r"\(\), expected a tensor")
    for condition, said in refused:
        with pytest.raises(ValueError, match=f"condition: {said}"):
            paper.sample(model, x, paper.spread_subsequence(2, CHAIN), condition=condition, **common)
    with pytest.raises(ValueError, match="reference: NoneType, expected Pairs"):
        paper.sample_chosen(model, x, paper.spread_subsequence(2, CHAIN), condition=y[:2], reference=None, **common)


def test_models_without_a_condition_and_grids_beyond_the_chain_are_refused():
    x = torch.zeros(1, 1, 8, 8, **F64)
    with pytest.raises(WrongKind, match="takes no condition"):
        paper.sample(
            Predictor("mean", lambda x, t: x), x, paper.spread_subsequence(2, CHAIN), process=CHAIN,
            draws=Philox(1, 1), condition=x,
        )  # fmt: skip
    for steps in (0, 1001):
        with pytest.raises(grids.BadGrid, match="expected 1..1000"):
            paper.spread_subsequence(steps, CHAIN)
    assert paper.spread_subsequence(1, CHAIN).tolist() == [1.0, 0.0]
    with pytest.raises(grids.BadGrid, match="ve-edm at 80"):
        paper.spread_subsequence(4, VE)
