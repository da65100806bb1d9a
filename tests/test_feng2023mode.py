"""feng2023mode: blocks that cover every time once, experts that see their block alone, what more of them buy."""

import math

import pytest
import torch
from torch import nn

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from reference_impls import nets
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, require
from reference_impls.systems import feng2023mode as mode

VP, CHAIN = process.named("vp-linear"), process.named("discrete-linear")


def normals(*shape: int) -> torch.Tensor:
    return Philox(3, shape[0]).normal("x", torch.empty(shape, dtype=torch.float64))


def sample(model, x, grid, path=VP, **options):
    return mode.sample(model, x, grid, process=path, draws=Silence(), **options).x


class Counted:
    """An expert that counts its rows and refuses times outside (low, high]."""

    kind = "mean"

    def __init__(self, model, low, high):
        self.model, self.low, self.high, self.rows = model, low, high, 0

    def __call__(self, x, t):
        times = torch.as_tensor(t, dtype=torch.float64)
        assert ((times > self.low) & (times <= self.high)).all(), f"{times} outside ({self.low}, {self.high}]"
        self.rows += x.shape[0]
        return self.model(x, t)


@pytest.mark.parametrize("experts", [1, 2, 4, 8, 10])
def test_each_step_of_the_chain_has_one_expert(experts):
    """Block k of n holds the steps kT/n + 1 .. (k+1)T/n of 1 .. T: edges belong to the block below them."""
    edges = mode.uniform_edges(experts, CHAIN)
    step = torch.arange(1, 1001)
    found = mode.block_of(step.double() / 1000, edges)
    assert torch.equal(found, (step - 1) * experts // 1000)
    assert found.bincount().tolist() == [1000 // experts] * experts
    assert mode.block_of(torch.tensor([0.0, 1.0], dtype=torch.float64), edges).tolist() == [0, experts - 1]
    between = process.named("ve-edm")
    beyond = mode.block_of(torch.tensor([0.0, 200.0], dtype=torch.float64), mode.uniform_edges(experts, between))
    assert beyond.tolist() == [0, experts - 1]


def test_every_number_of_experts_has_its_steps_of_the_chain():
    """Step i of 1 .. 1,000 lies in block ceil(i n/1000) - 1 in whole numbers, also where i/1000 and its edge round
    apart, and an expert that is trained alone draws the steps of its block, each alike."""
    step = torch.arange(1, 1001)
    for experts in range(1, 1001):
        edges, block = mode.uniform_edges(experts, CHAIN), (step * experts - 1) // 1000
        assert torch.equal(mode.block_of(step.double() / 1000, edges), block), experts
        assert torch.equal(mode.block_of(mode.chain_times((step - 0.5) / 1000, CHAIN), edges), block), experts
        if experts in (3, 7, 10, 20, 40, 64, 300, 1000):
            for k in range(experts):
                own = step[block == k]
                middles = (torch.arange(len(own)).double() + 0.5) / len(own)
                u = torch.cat([middles, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)])
                found = mode.block_times(u, CHAIN, block=k, experts=experts)
                assert (1000 * found).round().tolist() == [*own.tolist(), own[0].item(), own[-1].item()], (experts, k)


@pytest.mark.parametrize("name", ["vp-linear", "vp-linear[.05,1]", "ve-edm", "discrete-linear"])
@pytest.mark.parametrize("experts", range(2, 11))
def test_a_node_that_is_an_edge_up_to_rounding_belongs_to_the_block_below(experts, name):
    path = VP.between(0.05, 1.0) if "[" in name else process.named(name)
    edges = mode.uniform_edges(experts, path)
    for steps in (1, 2, 3, 10, 40):
        nodes = grids.uniform_t(steps * experts, path)[:-1]
        expected = experts - 1 - torch.arange(steps * experts) // steps
        assert torch.equal(mode.block_of(nodes, edges), expected), steps
    between = (edges[1:-1] * (1 + 1e-13), edges[1:-1] * (1 - 1e-13))  # what is no rounding has the side it is on
    assert [mode.block_of(t, edges).tolist() for t in between] == [list(range(1, experts)), list(range(experts - 1))]


def test_equal_experts_are_one_bitwise():
    model, x, edges = exact_model(VP), normals(40, 1), mode.uniform_edges(5, VP)
    made = mode.mixture([model] * 5, edges)
    for t in (VP.t_min, 0.2, 0.3999, 1.0):
        assert torch.equal(made(x, t), model(x, t))
    t = torch.linspace(VP.t_min, 1.0, 40, dtype=torch.float64)
    assert (made(x, t) - model(x, t)).abs().max() < 1e-14
    same = torch.full((40,), 0.5, dtype=torch.float64)
    assert torch.equal(made(x, same), model(x, same))


def test_no_rows_are_no_rows():
    made = mode.mixture([exact_model(VP)] * 3, mode.uniform_edges(3, VP))
    assert made(normals(4, 1)[:0], torch.zeros(0, dtype=torch.float64)).shape == (0, 1)


@pytest.mark.parametrize("experts", [2, 7])
def test_a_row_goes_to_its_own_expert_and_to_no_other(experts):
    """NFE is 1 an evaluation whatever n is, also where rows have times of their own."""
    edges = mode.uniform_edges(experts, VP)
    bounds = [-math.inf, *edges[1:-1].tolist(), math.inf]
    parts = [Counted(exact_model(VP), bounds[k], bounds[k + 1]) for k in range(experts)]
    made, x = require(mode.mixture(parts, edges), "mean", 30), normals(30, 1)
    t = torch.linspace(1.0, VP.t_min, 30, dtype=torch.float64)
    assert (made(x, t) - exact_model(VP)(x, t)).abs().max() < 1e-14
    assert made.nfe == 1.0 and sum(part.rows for part in parts) == 30 and all(part.rows for part in parts)
    mixed = VP.t_min + Philox(5, 30).uniform("t", (30,)) * (VP.t_max - VP.t_min)  # in no order
    assert (made(x, mixed) - exact_model(VP)(x, mixed)).abs().max() < 1e-14
    for part in parts:
        part.rows = 0
    made(x, edges[1].item())
    assert [part.rows for part in parts] == [30] + [0] * (experts - 1)


def test_exact_experts_give_the_samples_of_the_exact_denoiser():
    """Each expert is exact on its block and refuses every other time; DDIM by hand beside it."""
    grid, x, model = grids.uniform_lam(23, VP), normals(20, 1), exact_model(VP)
    end = x
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        mean = model(end, t)
        end = VP.alpha(s) * mean + VP.sigma(s) * (end - VP.alpha(t) * mean) / VP.sigma(t)
    for experts in (1, 4, 10):
        torch.testing.assert_close(sample(model, x, grid, experts=experts), end, rtol=1e-12, atol=1e-12)


def test_frozen_experts_answer_in_the_middle_of_their_block():
    model, edges, x = exact_model(VP), mode.uniform_edges(4, VP), normals(9, 1)
    made = mode.mixture(mode.frozen_experts(model, edges), edges)
    for k in range(4):
        low, high = edges[k].item(), edges[k + 1].item()
        for t in (low + 1e-9, (low + high) / 2, high):
            assert torch.equal(made(x, t), model(x, (low + high) / 2))
    jump = (made(x, edges[2].item() + 1e-9) - made(x, edges[2].item())).abs().max()
    smooth = (model(x, edges[2].item() + 1e-9) - model(x, edges[2].item())).abs().max()
    assert jump > 1e-2 and smooth < 1e-6  # the edge is hard: finer steps do not make it smaller


def test_more_experts_of_the_same_size_come_nearer():
    """Frozen experts: the error against DDIM of the model itself at least halves when the blocks are quartered, and
    n = 1 is one level for all times."""
    grid, x, model = grids.uniform_lam(200, VP), normals(64, 1), exact_model(VP)
    exact = sample(model, x, grid, experts=1)
    errors = [(sample(model, x, grid, experts=n, frozen=True) - exact).square().mean().sqrt() for n in (4, 16, 64, 256)]
    assert all(fine < coarse / 2 for coarse, fine in zip(errors, errors[1:], strict=False)), errors


def test_ten_experts_are_the_default():
    """The published number [recall]; nine or eleven frozen ones answer otherwise, and so do banks of networks."""
    grid, x, model = grids.uniform_lam(9, VP), normals(5, 1), exact_model(VP)
    found = [sample(model, x, grid, frozen=True, **options) for options in ({}, *({"experts": n} for n in (9, 10, 11)))]
    assert [torch.equal(found[0], other) for other in found[1:]] == [False, True, False]
    asked = []
    mode.from_eps(lambda x, u, which: asked.append(which) or x, process=CHAIN)(normals(20, 1), torch.arange(1, 21) / 20)
    assert asked == list(range(10))


# memory across edges


def two_m(model, x, grid, experts, *, frozen, restart):
    """DPM-Solver++(2M) written out: the slope in lam through the mean before, unless another expert gave that."""
    bounds = torch.linspace(VP.t_min, VP.t_max, experts + 1, dtype=torch.float64).tolist()
    before = block_before = lam_before = None
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        block = sum(t > edge for edge in bounds[1:-1])
        mean = model(x, (bounds[block] + bounds[block + 1]) / 2 if frozen else t)
        h, slope = VP.lam(s) - VP.lam(t), 0.0
        if before is not None and not (restart and block != block_before):
            slope = (mean - before) / (VP.lam(t) - lam_before)
        x = VP.sigma(s) / VP.sigma(t) * x + VP.alpha(s) * (1 - math.exp(-h)) * (mean + slope * h / 2)
        before, block_before, lam_before = mean, block, VP.lam(t)
    return x


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_2m_remembers_the_expert_before_unless_it_restarts(frozen, restart):
    grid, x, model = torch.tensor([1.0, 0.8, 0.55, 0.5, 0.3, 0.2], dtype=torch.float64), normals(9, 1), exact_model(VP)
    options = dict(experts=4, frozen=frozen, restart=restart)
    found = sample(model, x, grid, order=2, **options)
    torch.testing.assert_close(found, two_m(model, x, grid, **options), rtol=1e-12, atol=1e-12)
    other = sample(model, x, grid, order=2, **options | {"restart": not restart})
    assert (found - other).abs().max() > 1e-4
    assert torch.equal(sample(model, x, grid, **options), sample(model, x, grid, order=1, **options))


def aligned(n: int, experts: int) -> torch.Tensor:
    """n steps in each block, even in lam: a grid that has the edges to the bit."""
    edges = mode.uniform_edges(experts, VP).flip(0)
    lam = VP.lam(edges)
    share = torch.arange(1, n, dtype=torch.float64) / n
    inside = [VP.time_of_logsnr(lam[k] + share * (lam[k + 1] - lam[k])) for k in range(experts)]
    return torch.cat([*(part for k in range(experts) for part in (edges[k : k + 1], inside[k])), edges[-1:]])


def test_hard_edges_cost_a_solver_with_memory_its_order():
    """The card's artefact, in a mixture with jumps: halving h halves the error of 2M, with a restart it quarters it.

    Expert k of 4 has the mean (1 + k/2) tanh(x + t): smooth inside its block, with a jump at each edge. The error is
    that of a step against 2,048 steps a block of the restarted method.
    """
    edges = mode.uniform_edges(4, VP)

    def jumping(x, t):
        return (1 + int(mode.block_of(torch.tensor(t, dtype=torch.float64), edges)) / 2) * torch.tanh(x + t)

    model, x = Predictor("mean", jumping), normals(16, 1)
    exact = sample(model, x, aligned(2048, 4), experts=4, order=2, restart=True)
    for restart, low, high in ((False, 1.7, 2.3), (True, 3.4, 4.6)):
        errors = [
            (sample(model, x, aligned(n, 4), experts=4, order=2, restart=restart) - exact).square().mean().sqrt()
            for n in (32, 64, 128)
        ]
        assert all(low < a / b < high for a, b in zip(errors, errors[1:], strict=False)), (restart, errors)


@pytest.mark.parametrize("experts", [3, 4, 5, 10])
def test_a_restart_has_order_2_on_a_plain_grid_that_has_the_edges(experts):
    """Evenly spaced times with as many steps in each block: nodes and edges are rounded apart. Frozen experts jump."""
    path, model, x = VP.between(0.05, 1.0), exact_model(VP), normals(16, 1)
    options = dict(path=path, experts=experts, frozen=True, order=2, restart=True)
    exact, coarse, fine = (sample(model, x, grids.uniform_t(n * experts, path), **options) for n in (512, 32, 64))
    ratio = (coarse - exact).square().mean().sqrt() / (fine - exact).square().mean().sqrt()
    assert 3.4 < ratio < 4.6


# training


class Levels(nn.Module):
    """A scale for each of n experts: D_k(x, t) = scale_k x."""

    def __init__(self, n):
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(torch.tensor(0.1 * (k + 1)).double()) for k in range(n)])

    def mixture(self):
        experts = [Predictor("mean", lambda x, t, k=k: self.scales[k] * x) for k in range(len(self.scales))]
        return mode.mixture(experts, mode.uniform_edges(len(experts), CHAIN))


def test_a_block_trains_its_own_expert_alone():
    x0, noise, net = normals(50, 3), normals(50, 3).flip(0), Levels(5)
    for k in range(5):
        u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
        t = mode.block_times(u, CHAIN, block=k, experts=5)
        total = mode.loss(net.mixture(), x0, t, noise, process=CHAIN).sum()
        found = torch.autograd.grad(total, list(net.scales), allow_unused=True)
        assert [g is not None and g != 0 for g in found] == [j == k for j in range(5)]


def test_the_whole_loss_is_the_blocks_own_losses_by_their_shares():
    """Every step of the chain once: joint training is the sum of independent trainings."""
    steps, net = torch.arange(1000), Levels(4)
    u = (steps.double() + 0.5) / 1000
    t = mode.chain_times(u, CHAIN)
    assert torch.equal((t * 1000).round().long(), steps + 1)
    x0, noise = normals(1000, 2), normals(1000, 2).flip(0)
    whole = mode.loss(net.mixture(), x0, t, noise, process=CHAIN).mean()
    parts = []
    for k in range(4):
        own = slice(250 * k, 250 * (k + 1))
        times = mode.block_times((torch.arange(250).double() + 0.5) / 250, CHAIN, block=k, experts=4)
        assert torch.equal(times, t[own])
        alone = Predictor("mean", lambda x, t, k=k: net.scales[k] * x)
        parts.append(mode.loss(alone, x0[own], times, noise[own], process=CHAIN).mean())
    torch.testing.assert_close(whole, torch.stack(parts).mean(), rtol=1e-12, atol=0)


def test_the_loss_is_the_squared_error_of_the_noise():
    x0, noise, t = normals(6, 2), normals(6, 2).flip(0), mode.chain_times(torch.linspace(0.05, 0.95, 6), CHAIN)
    x, model = CHAIN.noised(x0, t, noise), Predictor("mean", lambda x, t: 0.3 * x)
    eps = (x - CHAIN.alpha(t)[:, None] * 0.3 * x) / CHAIN.sigma(t)[:, None]
    expected = (eps - noise).square().mean(1)
    torch.testing.assert_close(mode.loss(model, x0, t, noise, process=CHAIN), expected, rtol=1e-9, atol=1e-12)


def test_a_bank_of_networks_is_joined_as_the_noise_of_each_block():
    """bank(x, t - 1/1000, which): the chain's index in thousands; the answer is the noise, of its block's network."""
    asked, x = [], normals(8, 1)
    t = torch.tensor([0.05, 0.2, 0.25, 0.251, 0.5, 0.74, 0.76, 1.0], dtype=torch.float64)

    def bank(x, embedding, which):
        asked.append((which, embedding.tolist()))
        return torch.full_like(x, 0.1 * (which + 1))

    found = mode.from_eps(bank, process=CHAIN, experts=4)(x, t)
    expert = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3], dtype=torch.float64)
    eps = 0.1 * (expert[:, None] + 1)
    torch.testing.assert_close(
        CHAIN.alpha(t)[:, None] * found + CHAIN.sigma(t)[:, None] * eps, x, rtol=1e-12, atol=1e-12
    )
    assert [which for which, _ in asked] == [0, 1, 2, 3]
    assert sum((seen for _, seen in asked), []) == pytest.approx((t - 0.001).tolist(), abs=1e-15)
    asked.clear()
    one = mode.from_eps(bank, process=CHAIN, experts=4)(x, 0.6)
    torch.testing.assert_close(CHAIN.alpha(0.6) * one + CHAIN.sigma(0.6) * 0.3, x, rtol=1e-12, atol=1e-12)
    assert asked == [(2, pytest.approx([0.599] * 8, abs=1e-15))]


def test_n_experts_have_n_times_the_weights_and_one_is_active():
    """Invariant 3, on the recipes' networks: parameters grow with n, those that an evaluation touches do not."""
    one = nets.parameters_of(nets.build("bank", seed=0, experts=1, dim=64))
    for n in (2, 4):
        bank = nets.build("bank", seed=0, experts=n, dim=64)
        assert nets.parameters_of(bank) == n * one
        model = mode.from_eps(bank, process=CHAIN, experts=n)
        weights = list(bank.named_parameters())
        out = model(normals(2, 64).reshape(2, 1, 8, 8).float(), 0.3).square().sum()
        found = torch.autograd.grad(out, [w for _, w in weights], allow_unused=True)
        touched = {name.split(".")[1] for (name, _), g in zip(weights, found, strict=True) if g is not None}
        assert touched == {str(int(0.3 * n))}


def test_a_chain_ends_where_its_process_ends():
    """1,000 steps of any path that begins at 0 or near it: t_max for the last, a thousandth of it for the first."""
    ve = process.named("ve-edm")
    assert mode.chain_times(torch.tensor([0.0, 0.5, 0.9999]), ve).tolist() == pytest.approx([0.08, 40.08, 80.0])


# refusals


def test_bad_input_is_refused_before_anything_is_evaluated():
    model = Predictor("mean", lambda x, t: pytest.fail("something was evaluated"))
    x, grid = normals(3, 1), grids.uniform_t(3, VP)
    for experts in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="^experts: .*expected an integer >= 1"):
            sample(model, x, grid, experts=experts)
    with pytest.raises(ValueError, match="^order: 3, expected 1 .ddim. or 2 .2m."):
        sample(model, x, grid, order=3)
    with pytest.raises(ValueError, match="^edges: .*expected 3 rising times for 2 experts"):
        mode.mixture([model, model], torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="^edges: .*expected 3 rising times for 2 experts"):
        mode.mixture([model, model], torch.tensor([0.0, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="^experts: of kinds jump, mean"):
        mode.mixture([model, Predictor("jump", model.predict)], torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="^experts: none, expected one for each block"):
        mode.mixture([], torch.tensor([0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="^experts: 1001, expected at most 1000: block 0 has none"):
        mode.block_times(torch.zeros(2), CHAIN, block=0, experts=1001)
    with pytest.raises(ValueError, match="^experts: 2.5, expected an integer"):
        mode.block_times(torch.zeros(2), CHAIN, block=0, experts=2.5)
    with pytest.raises(ValueError, match="^block: 4, expected 0 .. 3"):
        mode.block_times(torch.zeros(2), CHAIN, block=4, experts=4)
    with pytest.raises(grids.BadGrid):
        sample(model, x, grid.flip(0))
