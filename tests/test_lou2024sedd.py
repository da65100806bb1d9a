"""lou2024sedd: the numbered invariants of its card, golden numbers of the 3x3 joint, the bound, and the nets' heads.

Each sampler's law over all sequences is carried exactly through its transition probabilities: no Monte Carlo.
"""

import math

import numpy
import pytest
import torch

from benchmarks.laws.tokens import law_after, noised_law, prior_law, random_states, total_variation, uniforms
from reference_impls import catalogue
from reference_impls.core import grids, tokens
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor
from reference_impls.discrete import lou2024sedd
from reference_impls.targets.tokens import exact_ratio, joint_3x3, markov, sequences

EULER, ANALYTIC = (catalogue.samplers()[f"lou2024sedd.{name}"] for name in ("euler", "analytic"))
PROCESSES = [tokens.named(name, 3) for name in tokens.NAMED]
LOG_LINEAR = [tokens.named(name, 3) for name in ("uniform-loglinear", "absorbing-loglinear")]


def by_name(process):
    return process.name


def random_ratio(seed, process, rows, length, x):
    """Any positive ratios, 1 at x."""
    return (4 * (uniforms(seed, rows, length, process.states) - 0.5)).exp().scatter(-1, x[..., None], 1)


def generator_of(process):
    """Q with columns from, as the paper writes it: uniform 11^T/V - I; absorbing -I with ones added in row M."""
    K = process.K
    if process.graph == "uniform":
        return numpy.ones((K, K)) / K - numpy.eye(K)
    Q = -numpy.eye(K + 1)
    Q[K, :] += 1
    return Q


# ---- 1: the loss is the sum over neighbours --------------------------------------------------------------------------
@pytest.mark.parametrize("process", PROCESSES, ids=by_name)
def test_1_loss_is_the_sum_over_neighbours(process):
    rows, length = 40, 3
    x0 = random_states(1, process, rows, length).clamp(max=2)
    t = 0.01 + 0.94 * uniforms(2, rows, 1)[:, 0]
    x_t = process.corrupt(x0, t, uniforms(3, rows, length))
    s = random_ratio(4, process, rows, length, x_t)
    found = lou2024sedd.loss(Predictor("ratio", lambda x, u: s), x0, t, x_t, process=process)
    Q = generator_of(process)
    for b in range(rows):
        P = torch.linalg.matrix_exp(process.sigma(t[b].item()) * torch.tensor(Q)).numpy()  # P[y, x0]
        total = 0.0
        for place in range(length):
            x, clean = x_t[b, place].item(), x0[b, place].item()
            for y in range(process.states):
                if y != x and Q[x, y] > 0:
                    r, score = P[y, clean] / P[x, clean], s[b, place, y].item()
                    constant = r * (math.log(r) - 1) if r > 1e-14 else 0.0  # the exponential has rounding for zeros
                    total += Q[x, y] * (score - r * math.log(score) + constant)
        assert found[b].item() == pytest.approx(process.rate(t[b].item()) * total, rel=1e-9, abs=1e-10)


# The stationarity of the expected loss at the exact ratio (invariant 2) is the law exact_ratio_is_stationary; here the
# sizes that the law does not see.
@pytest.mark.parametrize("process", PROCESSES, ids=by_name)
def test_2_every_term_is_at_least_zero_and_the_expected_loss_is_not_zero(process):
    target, t = joint_3x3(), 0.5
    every = sequences(process.states, 2)
    x_t = every.repeat_interleave(9, 0)
    x0 = sequences(3, 2).repeat(len(every), 1)
    reach = process.chance_into(x_t, process.sigma(t))
    weight = target.law[x0[:, 0], x0[:, 1]] * reach.gather(-1, x0[..., None]).prod(1)[:, 0]
    possible = weight > 0
    x_t, x0, weight, rows = x_t[possible], x0[possible], weight[possible], int(possible.sum())
    times = torch.full((rows,), t, dtype=torch.float64)
    assert weight.sum().item() == pytest.approx(1, abs=1e-14)

    def losses(ratio):
        return lou2024sedd.loss(Predictor("ratio", lambda x, u: ratio), x0, times, x_t, process=process)

    law = process.law_from(x0, process.sigma(t))
    own = law / law.gather(-1, x_t[..., None])
    assert losses(own.clamp(min=1e-300)).abs().max() < 1e-12  # s = r, the ratios given x0: every term vanishes
    assert losses(random_ratio(7, process, rows, 2, x_t)).min() >= 0
    exact = target.ratio(x_t, t, process)
    best = (weight * losses(exact)).sum()
    assert best > 0.05
    for seed in range(20):
        other = exact * random_ratio(seed, process, rows, 2, x_t)
        assert (weight * losses(other)).sum() > best


# ---- 3: one token ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("process", PROCESSES, ids=by_name)
def test_3_one_analytic_step_is_the_posterior_of_one_token(process):
    p0, t, s = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), 0.7, 0.2
    d = process.sigma(t) - process.sigma(s)
    clean = torch.nn.functional.pad(p0, (0, process.states - 3))
    p_t, p_s = (process.carried(clean, process.sigma(u)) for u in (t, s))
    exact = process.kernel(d) * p_s[:, None] / p_t[None]  # [z, x]: p(x_s = z | x_t = x)
    x = torch.arange(process.states)[:, None]
    model = Predictor("ratio", lambda y, u: p_t / p_t[y][..., None])
    grid = torch.tensor([t, s], dtype=torch.float64)
    step = ANALYTIC.transitions(model, grid, process)[0](x)[:, 0]
    assert torch.allclose(step, exact.T, rtol=0, atol=2e-15 * math.exp(d))
    assert (p_t @ step - p_s).abs().max() <= 1e-15 * math.exp(d)
    by_euler = EULER.transitions(model, grid, process)[0](x)[:, 0]
    posterior_gap, marginal_gap = (by_euler - step).abs().max(), (p_t @ by_euler - p_s).abs().max()
    # (t - s) sigma'(t) = e^d - 1 on the log-linear curve: Euler then moves the marginal rightly, even where it is
    # not the posterior, as long as no weight is negative
    assert marginal_gap < 1e-14 if "loglinear" in process.name else marginal_gap > 1e-3
    assert posterior_gap < 1e-14 if process.name == "absorbing-loglinear" else posterior_gap > 1e-2


# ---- 4: reversed rates carry p_t back to p_s -------------------------------------------------------------------------
@pytest.mark.parametrize("process", PROCESSES, ids=by_name)
def test_4_reversed_rates_carry_the_law_back(process):
    target, x = joint_3x3(), sequences(process.states, 2)
    reachable = noised_law(target, 0.5, process) > 0
    unit_jump = lou2024sedd.Plan(0.0, 1.0, 1.0, 0.0)
    index = torch.arange(len(x))
    start, end = 0.75, 0.45

    def slope(law, t):
        rates = lou2024sedd.euler(target.ratio(x, t, process), x, unit_jump, process)
        rates = (rates - torch.nn.functional.one_hot(x, process.states)) * process.rate(t)  # per position
        gain = torch.zeros_like(law)
        for place, stride in enumerate((process.states, 1)):
            for z in range(process.states):
                gain.index_add_(0, index + (z - x[:, place]) * stride, law * rates[:, place, z])
        return gain

    law, steps = noised_law(target, start, process), 200
    h = (start - end) / steps
    for i in range(steps):  # classical Runge-Kutta, downwards in t
        t = start - i * h
        k1 = slope(law, t)
        k2 = slope(law + h / 2 * k1, t - h / 2)
        k3 = slope(law + h / 2 * k2, t - h / 2)
        k4 = slope(law + h * k3, t - h)
        law = law + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    assert reachable.all()
    assert (law - noised_law(target, end, process)).abs().max() < 1e-10


# ---- 5: the bound ----------------------------------------------------------------------------------------------------
def integral_of_the_loss(model, process, nodes=60):
    """[9]: Int_0^t_max E[loss | x0] dt for each x0 of two tokens, over sigma = sigma(t_max) w^3 by Gauss & Legendre."""
    w, weight = (torch.tensor(array) for array in numpy.polynomial.legendre.leggauss(nodes))
    w, weight = (w + 1) / 2, weight / 2
    most = process.sigma(process.t_max)
    x0 = sequences(3, 2)
    every = sequences(process.states, 2)
    total = torch.zeros(9, dtype=torch.float64)
    for node, share in zip(w.tolist(), weight.tolist(), strict=True):
        t = -math.expm1(-most * node**3) / 0.999  # the log-linear curve, solved for t
        chance = process.law_from(x0, process.sigma(t))
        for row in every:
            times = torch.full((9,), t, dtype=torch.float64)
            x_t = row.expand(9, 2)
            reach = chance.gather(-1, x_t[..., None]).prod(1)[:, 0]
            x_possible = torch.where(reach[:, None] > 0, x_t, x0)  # impossible: any state, weight 0
            value = lou2024sedd.loss(model, x0, times, x_possible, process=process) / process.rate(t)
            total += torch.where(reach > 0, reach * value, 0) * share * most * 3 * node**2
    return total


def terminal(process, reference):
    """[9]: KL(P(. | x0, t_max) || reference) over pairs of states."""
    law = process.law_from(sequences(3, 2), process.sigma(process.t_max))
    pairs = (law[:, 0, :, None] * law[:, 1, None, :]).flatten(1)
    return (torch.xlogy(pairs, pairs) - torch.xlogy(pairs, reference)).sum(1)


@pytest.mark.parametrize("process", LOG_LINEAR, ids=by_name)
def test_5_with_exact_ratios_the_bound_is_the_likelihood_of_every_sequence(process):
    target = joint_3x3()
    found = integral_of_the_loss(exact_ratio(target, process), process)
    found = found + terminal(process, noised_law(target, process.t_max, process))
    assert torch.allclose(found, -target.law.flatten().log(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("process", LOG_LINEAR, ids=by_name)
def test_5_any_other_ratio_is_worse_on_average_though_not_everywhere(process):
    target = joint_3x3()
    exact = exact_ratio(target, process)
    tilt = torch.linspace(-0.3, 0.3, process.states, dtype=torch.float64).exp()
    tilted = Predictor("ratio", lambda x, t: exact(x, t) * tilt / tilt[x][..., None])
    gap = integral_of_the_loss(tilted, process, nodes=30) - integral_of_the_loss(exact, process, nodes=30)
    assert (target.law.flatten() * gap).sum() > 0.01
    assert gap.min() < 0


@pytest.mark.parametrize("process", LOG_LINEAR, ids=by_name)
def test_5_log_prob_is_an_unbiased_estimate_of_the_bound(process):
    target, copies = joint_3x3(), 300
    model = exact_ratio(target, process)
    x0 = sequences(3, 2).repeat(copies, 1)
    draws = Philox(11, len(x0))
    found = -lou2024sedd.log_prob(model, x0, process=process, draws=draws, strata=32).reshape(copies, 9)
    expected = integral_of_the_loss(model, process)
    if process.graph == "uniform":
        expected = expected + terminal(process, torch.full((9,), 1 / 9, dtype=torch.float64))
    error = (found.mean(0) - expected).abs() / (found.std(0) / math.sqrt(copies))
    assert error.max() < 5.3  # false alarm 1e-6 over nine means


def test_log_prob_puts_one_time_in_each_stratum(monkeypatch):
    process, model = LOG_LINEAR[0].between(1e-5, 0.8), exact_ratio(joint_3x3(), LOG_LINEAR[0])
    x0, strata = sequences(3, 2), 25
    for value, integral, slack in ((torch.ones_like, 0.8, 1e-14), (torch.clone, 0.32, 0.32 / strata)):
        monkeypatch.setattr(lou2024sedd, "loss", lambda m, x, t, x_t, *, process, value=value: value(t))
        found = lou2024sedd.log_prob(model, x0, process=process, draws=Philox(0, 9), strata=strata, prior=False)
        assert (found + integral).abs().max() <= slack
    with_prior = lou2024sedd.log_prob(model, x0, process=process, draws=Philox(0, 9), strata=strata)
    expected = terminal(process, torch.full((9,), 1 / 9, dtype=torch.float64))
    assert torch.allclose(found - with_prior, expected, rtol=0, atol=1e-14)
    assert expected.min() > 0.01


def test_the_terminal_term_is_exact_on_the_uniform_graph_and_left_out_on_the_absorbing_one():
    x0 = sequences(3, 2)
    uniform, absorbing = LOG_LINEAR
    flat = torch.full((9,), 1 / 9, dtype=torch.float64)
    assert torch.allclose(lou2024sedd.prior_loss(x0, uniform), terminal(uniform, flat), rtol=0, atol=1e-15)
    assert lou2024sedd.prior_loss(x0, absorbing).tolist() == [0.0] * 9
    assert math.isinf(terminal(absorbing, prior_law(absorbing, 2)).max())


# ---- 6: absorbing with log-linear noise, and total variation against steps -------------------------------------------
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 64])
def test_6_absorbing_law_is_a_mixture_of_data_and_product_of_marginals(steps):
    process, target = LOG_LINEAR[1], joint_3x3()
    grid = grids.uniform_t(steps, process)
    shares = torch.cat([grid[:-1] - grid[1:], grid[-1:]])  # a mask is lifted in (s, t] with chance (t - s)/1
    together = shares.square().sum()  # both tokens in the same step: drawn independently of each other
    product = target.law.sum(1)[:, None] * target.law.sum(0)
    mixture = torch.nn.functional.pad(together * product + (1 - together) * target.law, (0, 1, 0, 1)).flatten()
    for card in (EULER, ANALYTIC):
        law = law_after(card, exact_ratio(target, process), grid, process, prior_law(process, 2), 2)
        assert (law - mixture).abs().max() < 1e-13
        assert total_variation(law, noised_law(target, None, process)) == pytest.approx(0.316 / steps, rel=3e-5 * steps)


def test_6_the_chance_to_lift_a_mask_is_dt_over_t_in_both_steps():
    process = LOG_LINEAR[1]
    grid = torch.tensor([0.9, 0.6, 0.1], dtype=torch.float64)
    x = torch.tensor([[3, 3], [3, 1]])
    for card in (EULER, ANALYTIC):
        for i, transition in enumerate(card.transitions(exact_ratio(joint_3x3(), process), grid, process)[:2]):
            w = transition(x)
            lifted = 1 - w[..., 3] / w.sum(-1)
            assert lifted[x == 3].tolist() == pytest.approx([((grid[i] - grid[i + 1]) / grid[i]).item()] * 3, rel=1e-12)
            assert w[1, 1].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-14)


# Total variation to the 3x3 joint with exact ratios, uniform t grid from 1 to 1e-5, denoising step included.
TV = {
    ("uniform-loglinear", "analytic"): (0.204391, 0.110623, 0.055456, 0.027344, 0.013510, 0.006706, 0.003340, 0.001666),
    ("uniform-loglinear", "euler"): (0.324973, 0.134881, 0.060383, 0.028431, 0.013764, 0.006767, 0.003355, 0.001670),
    ("uniform-geometric", "analytic"): (0.251088, 0.184780, 0.105576, 0.055289, 0.027715, 0.013789, 0.006867, 0.003425),
    ("uniform-geometric", "euler"): (0.141832, 0.177466, 0.109502, 0.028498, 0.010391, 0.004423, 0.002040, 0.000979),
}


@pytest.mark.parametrize(("name", "move"), TV)
def test_6_total_variation_against_steps(name, move):
    process, target = tokens.named(name, 3), joint_3x3()
    card = catalogue.samplers()[f"lou2024sedd.{move}"]
    data, start = noised_law(target, None, process), prior_law(process, 2)
    model, found = exact_ratio(target, process), []
    for steps in (2, 4, 8, 16, 32, 64, 128, 256):
        law = law_after(card, model, grids.uniform_t(steps, process), process, start, 2)
        found.append(total_variation(law, data))
    assert found == pytest.approx(TV[name, move], abs=6e-7)


# ---- 7: symmetries of the loss (those of the samplers are laws) ------------------------------------------------------
@pytest.mark.parametrize("process", PROCESSES, ids=by_name)
def test_7_the_loss_knows_neither_names_nor_places(process):
    rows, length = 12, 4
    x0, t = random_states(1, process, rows, length).clamp(max=2), uniforms(2, rows, 1)[:, 0]
    x_t = process.corrupt(x0, t, uniforms(3, rows, length))
    s = random_ratio(4, process, rows, length, x_t)
    names = torch.tensor([2, 0, 1, 3])[: process.states]
    places = torch.tensor([3, 1, 0, 2])

    def loss(s, x0, x_t):
        return lou2024sedd.loss(Predictor("ratio", lambda x, u: s), x0, t, x_t, process=process)

    renamed = torch.empty_like(s)
    renamed[..., names] = s
    for other in (loss(renamed, names[x0], names[x_t]), loss(s[:, places], x0[:, places], x_t[:, places])):
        assert torch.allclose(other, loss(s, x0, x_t), rtol=1e-12)


# ---- 8: the staggered score ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("process", PROCESSES, ids=by_name)
def test_8_staggered_ratios_are_those_of_the_earlier_law(process):
    target, x = joint_3x3(), sequences(process.states, 2)[:, :1]
    t, s = 0.7, 0.3
    marginal = torch.nn.functional.pad(target.law.sum(1), (0, process.states - 3))
    p_t, p_s = (process.carried(marginal, process.sigma(u)) for u in (t, s))
    d = process.sigma(t) - process.sigma(s)
    ratio = p_t / p_t[x][..., None]
    assert torch.allclose(process.carried(ratio, -d), p_s / p_t[x][..., None], rtol=0, atol=1e-13)
    assert torch.allclose(process.carried(process.carried(ratio, -d), d), ratio, rtol=0, atol=1e-13)


# ---- infilling -------------------------------------------------------------------------------------------------------
def infilled(card, process, first, steps):
    """The exact law of the second token when the first is given."""
    model, law = exact_ratio(joint_3x3(), process), process.prior()
    x = torch.stack([torch.full((process.states,), first), torch.arange(process.states)], -1)
    for transition in card.transitions(model, grids.uniform_t(steps, process), process):
        chances = tokens.clipped(transition(x))[:, 1]
        law = law @ torch.nn.functional.pad(chances, (0, process.states - chances.shape[-1]))
    return law[:3]


@pytest.mark.parametrize("card", [EULER, ANALYTIC], ids=lambda card: card.id)
def test_infilling_is_exact_on_the_absorbing_graph_and_biased_on_the_uniform_one(card):
    uniform, absorbing = LOG_LINEAR
    law = joint_3x3().law
    for first in range(3):
        conditional = law[first] / law[first].sum()
        for steps in (1, 5):
            assert total_variation(infilled(card, absorbing, first, steps), conditional) < 1e-12
    # the model takes the given, clean token for a noisy one: a finding, the bias does not vanish with steps
    for steps in (256, 1024):
        errors = [total_variation(infilled(card, uniform, k, steps), law[k] / law[k].sum()) for k in range(3)]
        assert max(errors) == pytest.approx(0.1173, abs=1e-3)


def test_given_tokens_survive_a_run_and_the_rest_follows_them():
    process, chain, rows = tokens.named("absorbing-loglinear", 4), markov(4), 4000
    given = tokens.Given(torch.tensor([True, True, False, True]), torch.tensor([1, 2, 0, 3]))
    like = torch.zeros(rows, 4, dtype=torch.int64)
    draws = Philox(1, rows)
    grid = grids.uniform_t(3, process)
    start = ANALYTIC.start(draws, like, grid, process, {})
    x = ANALYTIC.sample(exact_ratio(chain, process), start, grid, process=process, draws=draws, condition=given).x
    assert (x[:, [0, 1, 3]] == torch.tensor([1, 2, 3])).all()
    weights = chain.table()[1, 2, :, 3]
    law = weights / weights.sum()
    shares = torch.bincount(x[:, 2], minlength=4) / rows
    assert ((shares - law).abs() <= 5.2 * (law * (1 - law) / rows).sqrt()).all()


# ---- nets ------------------------------------------------------------------------------------------------------------
def test_a_silent_absorbing_net_says_any_letter_alike():
    process = tokens.named("absorbing-loglinear", 5)
    model = lou2024sedd.PAPER.parametrisations["absorbing"](lambda x, sigma: torch.zeros(*x.shape, 6), process=process)
    x, t = torch.tensor([[5, 2]]), 0.3
    conditional = torch.full((5,), 0.2, dtype=torch.float64)
    assert torch.allclose(model(x, t)[0, 0, :5], conditional / math.expm1(process.sigma(t)), rtol=1e-14)
    assert model(x, t).gather(-1, x[..., None]).flatten().tolist() == [1.0, 1.0]
    assert tokens.posterior_of_ratio(model(x, t), x, t, process)[0, 0].tolist() == pytest.approx([0.2] * 5, rel=1e-13)


def test_a_nets_output_is_its_log_ratio_and_its_noise_the_total_noise():
    process, seen = tokens.named("uniform-geometric", 3), []
    raw = torch.tensor([-300.0, 0.5, 300.0]).expand(2, 1, 3)

    def net(x, sigma):
        seen.append(sigma)
        return raw

    model = lou2024sedd.PAPER.parametrisations["uniform"](net, process=process)
    x = torch.tensor([[1], [0]])
    assert model.kind == "ratio"
    assert model(x, 0.5).log().flatten().tolist() == pytest.approx([-300, 0, 300, 0, 0.5, 300], abs=1e-12)
    assert torch.equal(model(x, torch.tensor([0.5, 0.5], dtype=torch.float64)), model(x, 0.5))
    assert all(sigma.tolist() == pytest.approx([process.sigma(0.5)] * 2) for sigma in seen)


def test_training_times_run_from_a_thousandth_to_one():
    process = tokens.named("absorbing-loglinear", 3)
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert lou2024sedd.uniform_times(u, process).tolist() == pytest.approx([1e-3, 0.5005, 1.0], abs=1e-15)
