"""Token processes, exact token targets, and the inverse-CDF draw."""

import math

import pytest
import torch

from benchmarks.laws import laws
from benchmarks.laws.tokens import noised_law, random_states, random_target, total_variation
from reference_impls import targets
from reference_impls.core import tokens
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor
from reference_impls.targets.tokens import Table, exact_posterior, exact_ratio, joint_3x3, markov, sequences

PROCESSES = [tokens.named(name, K) for name in tokens.NAMED for K in (2, 5)]
LAWS = [law for law in laws().values() if law.subject == "token_process"]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: f"{p.name}-{p.K}")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_law(law, process):
    law.check(process)


# ---- the draw --------------------------------------------------------------------------------------------------------
def test_categorical_cuts_the_unit_interval_at_the_cumulative_sums():
    weights = torch.tensor([2.0, 0.0, 1.0, 5.0], dtype=torch.float64)  # cuts at 1/4, 1/4, 3/8, without normalisation
    u = torch.tensor([1e-12, 0.25 - 1e-12, 0.25, 0.375 - 1e-12, 0.375, 1 - 2**-53], dtype=torch.float64)
    assert tokens.categorical(weights.expand(6, -1), u).tolist() == [0, 0, 2, 2, 3, 3]


def test_negative_weights_count_as_zero():
    weights = torch.tensor([[-0.5, 0.3, -0.1, 1.2]], dtype=torch.float64)
    assert tokens.clipped(weights)[0].tolist() == pytest.approx([0, 0.2, 0, 0.8], abs=1e-15)
    u = torch.tensor([[1e-9, 0.2 - 1e-9, 0.2 + 1e-9, 1 - 1e-9]], dtype=torch.float64)
    assert tokens.categorical(weights[:, None].expand(1, 4, -1), u).tolist() == [[1, 1, 3, 3]]


def test_chances_below_float32_are_drawn():
    weights = torch.tensor([1e-12, 1.0, 1e-12], dtype=torch.float64)
    u = torch.tensor([5e-13, 0.5, 1 - 5e-13], dtype=torch.float64)
    assert tokens.categorical(weights.expand(3, -1), u).tolist() == [0, 1, 2]


@pytest.mark.parametrize("row", [[math.nan, 1.0], [-1.0, 0.0]])
def test_a_row_that_is_no_law_is_an_error_and_not_a_token(row):
    with pytest.raises(RuntimeError, match="weights: a row is nan or has no mass"):
        tokens.categorical(torch.tensor([[0.5, 0.5], row]), torch.tensor([0.5, 0.5]))


def test_the_absorbing_graph_starts_masked_and_the_uniform_graph_spread():
    like = torch.zeros(3000, 2, dtype=torch.int64)
    masked, spread = (
        tokens.prior_of_tokens(Philox(0, 3000), like, None, tokens.named(name, 3), {})
        for name in ("absorbing-loglinear", "uniform-loglinear")
    )
    assert (masked == 3).all()
    assert (torch.bincount(spread.flatten()) / 6000).tolist() == pytest.approx([1 / 3] * 3, abs=5 * 0.0061)


def test_given_overwrites_a_copy():
    x = torch.zeros(2, 3, dtype=torch.int64)
    given = tokens.Given(torch.tensor([True, False, True]), torch.tensor([4, 5, 6]))
    assert given.over(x).tolist() == [[4, 0, 6]] * 2
    assert x.sum() == 0


# ---- processes -------------------------------------------------------------------------------------------------------
def test_noise_curves():
    log_linear, geometric = (tokens.named(name, 4) for name in ("absorbing-loglinear", "uniform-geometric"))
    for t in (0.0, 0.25, 1.0):
        assert -math.expm1(-log_linear.sigma(t)) == pytest.approx(0.999 * t, abs=1e-15)
        assert geometric.sigma(t) == pytest.approx(1e-4 ** (1 - t) * 20**t, rel=1e-13)
    assert log_linear.rate(1.0) == pytest.approx(999.0, rel=1e-12)
    assert geometric.rate(0.5) == pytest.approx(geometric.sigma(0.5) * math.log(2e5), rel=1e-13)


def test_times_may_be_floats_or_one_per_row():
    process = tokens.named("uniform-loglinear", 3)
    x, t = random_states(0, process, 4, 2), torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)
    together = process.law_from(x, process.sigma(t))
    alone = torch.cat([process.law_from(x[i : i + 1], process.sigma(t[i].item())) for i in range(4)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-15)
    assert process.rate(t[:1].expand(4)).tolist() == pytest.approx([process.rate(0.1)] * 4, rel=1e-15)


def test_the_mask_is_one_state_more():
    uniform, absorbing = tokens.named("uniform-loglinear", 5), tokens.named("absorbing-loglinear", 5)
    assert (uniform.states, uniform.mask, absorbing.states, absorbing.mask) == (5, None, 6, 5)


def test_unknown_names_and_alphabets_are_refused():
    with pytest.raises(KeyError, match="'linear' is not known; expected one of absorbing-loglinear, "):
        tokens.named("linear", 3)
    with pytest.raises(tokens.BadTokens, match="K: 1, expected at least 2"):
        tokens.named("uniform-loglinear", 1)
    with pytest.raises(ValueError, match="K = 4, but joint-3x3 has 3 letters"):
        exact_ratio(joint_3x3(), tokens.named("uniform-loglinear", 4))


# ---- conversions -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("process", [tokens.named(name, 3) for name in tokens.NAMED], ids=lambda p: p.name)
def test_posterior_and_ratio_are_one_knowledge(process):
    target = random_target(5, 3, 3)
    x = random_states(1, process, 60, 3)
    t = torch.linspace(0.05, 0.8, 60, dtype=torch.float64)
    posterior, ratio = target.posterior(x, t, process), target.ratio(x, t, process)
    assert torch.allclose(tokens.posterior_of_ratio(ratio, x, t, process), posterior, rtol=0, atol=1e-12)
    found = tokens.ratio_of_posterior(posterior, x, t, process)
    jumps = process.rate_into(x) > 0  # the entries that a reversed process uses
    assert ((found - ratio).abs() <= 1e-12 * ratio)[jumps].all()
    assert (found.gather(-1, x[..., None]) == 1).all()


def test_absorbing_ratios_are_conditionals_over_the_odds():
    process, target = tokens.named("absorbing-loglinear", 3), joint_3x3()
    x, t = torch.tensor([[3, 1]]), 0.37
    conditional = target.law[:, 1] / target.law[:, 1].sum()
    found = target.ratio(x, t, process)[0, 0, :3]
    assert torch.allclose(found, conditional / math.expm1(process.sigma(t)), rtol=1e-14, atol=0)


# ---- targets ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("process", [tokens.named(name, 3) for name in tokens.NAMED], ids=lambda p: p.name)
def test_table_ratios_are_quotients_of_the_noised_law(process):
    target, t = joint_3x3(), 0.4
    law = noised_law(target, t, process).reshape(process.states, process.states)
    every = sequences(process.states, 2)
    ratio = target.ratio(every, t, process)
    own = law[every[:, 0], every[:, 1]]
    assert torch.allclose(ratio[:, 0], law[:, every[:, 1]].T / own[:, None], rtol=1e-13, atol=0)
    assert torch.allclose(ratio[:, 1], law[every[:, 0]] / own[:, None], rtol=1e-13, atol=0)


@pytest.mark.parametrize("length", [2, 3, 4])
@pytest.mark.parametrize("process", [tokens.named(name, 4) for name in tokens.NAMED], ids=lambda p: p.name)
def test_forward_backward_equals_the_sum_over_all_sequences(process, length):
    chain = markov(length)
    table = Table("sum", chain.table())
    x = sequences(process.states, length)
    t = torch.linspace(0.01, 1.0, len(x), dtype=torch.float64)
    assert torch.allclose(chain.ratio(x, t, process), table.ratio(x, t, process), rtol=1e-12, atol=0)
    assert torch.allclose(chain.posterior(x, t, process), table.posterior(x, t, process), rtol=0, atol=1e-13)


def test_long_chains_do_not_underflow():
    process, chain = tokens.named("uniform-loglinear", 4), markov(2000)
    x = chain.sample(Philox(0, 1), torch.zeros(1, 2000, dtype=torch.int64))
    ratio = chain.ratio(x, 0.3, process)
    assert torch.isfinite(ratio).all()
    window = markov(8).ratio(x[:, 996:1004], 0.3, process)  # far letters matter little
    assert torch.allclose(ratio[:, 1000], window[:, 4], rtol=0.2)


def test_markov_is_stationary_and_its_entropy_is_that_of_its_table():
    chain = targets.named("markov")
    assert torch.allclose(chain.chances.sum(-1), torch.ones(4, 4, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(torch.einsum("ab,abc->bc", chain.pairs, chain.chances), chain.pairs, atol=1e-15)
    table = chain.table()
    assert table.sum().item() == pytest.approx(1, abs=1e-12)
    assert chain.entropy() == pytest.approx(-(table * table.log()).sum().item(), abs=1e-10)
    assert chain.entropy() == pytest.approx(7.98922193462, abs=1e-11)
    ends = [table.sum(tuple(range(2, 8))), table.sum(tuple(range(6)))]
    assert torch.allclose(ends[0], ends[1], atol=1e-14)


def test_joint_entropy():
    assert targets.named("joint-3x3").entropy() == pytest.approx(1.95026585724, abs=1e-11)


@pytest.mark.parametrize("name", ["joint-3x3", "markov"])
def test_samples_have_the_targets_law(name):
    target, rows = targets.named(name), 20000
    x = target.sample(Philox(3, rows), torch.zeros(rows, *target.shape, dtype=torch.int64))
    table = target.table()
    last = table.reshape(-1, target.K, target.K).sum(0)
    shares = torch.bincount(x[:, -2] * target.K + x[:, -1], minlength=target.K**2) / rows
    deviation = (last * (1 - last) / rows).sqrt().flatten()
    assert ((shares - last.flatten()).abs() <= 5.6 * deviation).all()  # false alarm 1e-6 for all cells together
    cross_entropy = -target.log_prob(x)
    spread = cross_entropy.std() / math.sqrt(rows)
    assert abs(cross_entropy.mean() - target.entropy()) <= 4.9 * spread


def test_exact_models_say_their_kind():
    process = tokens.named("absorbing-loglinear", 3)
    x = torch.tensor([[3, 0], [1, 3]])
    ratio, posterior = exact_ratio(joint_3x3(), process), exact_posterior(joint_3x3(), process)
    assert (ratio.kind, posterior.kind) == ("ratio", "posterior")
    assert isinstance(ratio, Predictor)
    assert torch.allclose(posterior(x, 0.5).sum(-1), torch.ones(2, 2, dtype=torch.float64))
    assert posterior(x, 0.5)[0, 1].tolist() == [1, 0, 0]  # an unmasked letter is known
    assert ratio(x, 0.5).gather(-1, x[..., None]).flatten().tolist() == [1, 1, 1, 1]


def test_noised_law_tends_to_the_prior():
    process = tokens.named("uniform-geometric", 3)
    assert total_variation(noised_law(joint_3x3(), 1.0, process), torch.full((9,), 1 / 9, dtype=torch.float64)) < 1e-8
