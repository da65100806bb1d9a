"""The training loop: against torch's own optimiser, against closed minimisers, and across interruptions."""

from __future__ import annotations

import copy
import math
from itertools import islice

import pytest
import torch
from torch import nn

from reference_impls import nets
from reference_impls.core import fit, grids, process, tokens
from reference_impls.core.draws import Philox
from reference_impls.core.types import Objective, Predictor

PLAN = fit.Plan(steps=40, batch=16, rate=1e-2, warmup=5, decay="cosine", final=0.1, clip=0.5, ema=0.9)


def small(device="cpu", seed: int = 0) -> nn.Module:
    """A small network in float64 that already says something."""
    net = nets.build("mlp", seed=seed, dim=3, width=8, depth=1).double().to(device)
    with torch.no_grad():
        net.leave.weight.add_(0.3)
    return net


def regression(net: nn.Module, batch: int = PLAN.batch) -> fit.Losses:
    """Squared error of sin(3x) at random points and levels."""

    def losses(draws):
        x = draws.normal("x", torch.empty(batch, 3, dtype=torch.float64, device=next(net.parameters()).device))
        level = draws.uniform("t", (batch,))
        return (net(x, level) - (3 * x).sin()).square().sum(1)

    return losses


def trained(net: nn.Module, plan: fit.Plan = PLAN, **options) -> fit.Progress:
    return list(fit.fit(net, regression(net, plan.batch), plan, **{"seed": 0} | options))[-1]


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# against an independent implementation


@pytest.mark.parametrize("reduce", ["mean", "variance"])
def test_the_loop_is_adam_with_clipping_warmup_and_decay(reduce, device):
    """torch.optim.Adam and LambdaLR, fed the same draws and clipped gradients, walk the same weights."""
    net = small(device)
    twin = copy.deepcopy(net)
    progress = list(fit.fit(net, regression(net), PLAN, seed=0, reduce=reduce, every=10))

    def factor(step):
        if step < 5:
            return (step + 1) / 5
        return 0.1 + 0.9 * (1 + math.cos(math.pi * (step - 5) / 35)) / 2

    optimiser = torch.optim.Adam(twin.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    losses, ema, norms = regression(twin), {k: v.detach().clone() for k, v in twin.named_parameters()}, []
    for step in range(PLAN.steps):
        values = losses(Philox(0, PLAN.batch, device).at(step))
        loss = values.mean() if reduce == "mean" else (values - values.mean()).square().sum() / (PLAN.batch - 1)
        optimiser.zero_grad()
        loss.backward()
        norms.append(torch.cat([w.grad.flatten() for w in twin.parameters()]).norm().item())
        for weight in twin.parameters():  # clip_grad_norm_ divides by norm + 1e-6: written out, so that 1e-10 can hold
            weight.grad *= min(1.0, 0.5 / norms[-1])
        optimiser.step()
        schedule.step()
        decay = min(0.9, (1 + step) / (10 + step))
        ema = {k: decay * ema[k] + (1 - decay) * v.detach() for k, v in twin.named_parameters()}
    for name, weight in net.named_parameters():
        torch.testing.assert_close(weight, dict(twin.named_parameters())[name], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(progress[-1].ema()[name], ema[name], rtol=1e-9, atol=1e-11)
    assert max(norms) > 0.5, "the clip must have been in force"
    assert progress[-1].gradient == pytest.approx(sum(norms[-10:]) / 10, rel=1e-6)


def test_rates_follow_the_plan():
    plan = fit.Plan(steps=110, batch=1, rate=2.0, warmup=10, decay="exponential", final=0.01)
    assert plan.rate_at(0) == pytest.approx(0.2)
    assert plan.rate_at(9) == pytest.approx(2.0)
    assert plan.rate_at(60) == pytest.approx(0.2)  # half the way: sqrt(final)
    assert fit.DECAYS["linear"](0.25, 0.2) == pytest.approx(0.8)
    assert fit.DECAYS["cosine"](0.5, 0.2) == pytest.approx(0.6)
    for decay in fit.DECAYS.values():
        assert decay(0.0, 0.3) == pytest.approx(1.0)
    assert {name: decay(1.0, 0.3) for name, decay in fit.DECAYS.items()} == pytest.approx(
        {"constant": 1.0, "linear": 0.3, "cosine": 0.3, "exponential": 0.3}
    )


# reproducible and resumable


@pytest.mark.parametrize("stop", [7, 20, 39])
def test_a_resumed_run_ends_in_the_bits_of_an_undisturbed_one(stop, device):
    whole = trained(small(device), every=1).state()
    first = list(islice(fit.fit(net := small(device), regression(net), PLAN, seed=0, every=1), stop))[-1].state()
    assert int(first["step"]) == stop
    assert same(trained(small(device, seed=9), state=first).state(), whole)  # the first weights are the state's


def test_a_state_is_a_copy(device):
    net = small(device)
    early = next(iter(run := fit.fit(net, regression(net), PLAN, seed=0, every=5)))
    state, ema = early.state(), early.ema()
    kept = {name: value.clone() for name, value in state.items()}
    next(run)
    assert same(state, kept)
    assert all(torch.equal(ema[name], kept[f"ema/{name}"]) for name in ema)


def test_only_the_seed_decides(device):
    before = torch.random.get_rng_state()
    runs = ((0, 40), (0, 7), (1, 40))
    first, again, other = (trained(small(device), seed=seed, every=every).state() for seed, every in runs)
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(first, again)  # how often it reports changes nothing
    assert not same(first, other)


# what the draws are


def test_rows_are_drawn_uniformly_from_all_of_the_data():
    """4,000 draws of 8 rows: each count is binomial(4000, 1/8); beyond 6 standard deviations is one chance in 1e8."""
    data, draws = torch.arange(8), Philox(3, 50)
    rows = torch.cat([fit.chosen(draws.at(step), data, 50) for step in range(80)])
    assert (torch.bincount(rows, minlength=8) - 500).abs().max() < 6 * math.sqrt(4000 / 8 * 7 / 8)


def test_times_are_stratified_and_uniform():
    draws = Philox(3, 32)
    u = torch.stack([fit.strata(draws.at(step), 32) for step in range(200)])
    assert torch.equal((u * 32).floor(), torch.arange(32.0, dtype=torch.float64).expand(200, 32))
    within = (u * 32) % 1  # uniform in its stratum: mean 1/2 within 6 standard deviations
    assert (within.mean() - 0.5).abs() < 6 / math.sqrt(12 * u.numel())
    assert torch.corrcoef(within.T).fill_diagonal_(0).abs().max() < 6 / math.sqrt(200)


def test_tokens_are_corrupted_by_their_process():
    """With t given, a mask stands where the process says: the share is 1 - e^-sigma within 6 standard deviations."""
    own, seen = tokens.named("absorbing-loglinear", 4), []

    def loss(model, x0, t, noise, *, process):
        seen.append((noise == process.mask, 1 - torch.exp(-process.sigma(t))))
        assert ((noise == x0) | (noise == process.mask)).all()
        return torch.zeros(len(x0))

    card = Objective(id="x.x", loss=loss, minimiser="ratio", path=own.name, times=lambda u, process: 0.1 + 0.8 * u)
    losses = fit.token_losses(card, None, torch.randint(0, 4, (100, 16)), 64, process=own)
    for step in range(20):
        losses(Philox(0, 64).at(step))
    masked, chance = torch.stack([m for m, _ in seen]).double().mean(-1), torch.stack([c for _, c in seen])
    spread = (chance * (1 - chance) / 16).sum().sqrt()
    assert (masked - chance).sum().abs() < 6 * spread
    assert torch.corrcoef(torch.stack([masked.flatten(), chance.flatten()]))[0, 1] > 0.8


# closed minimisers


@pytest.mark.parametrize("t", [0.3, 0.8])
def test_data_losses_find_the_optimal_gain(t, device):
    """D(x) = w x on N(0, s^2): the least expected squared error is at w = alpha s^2 / (alpha^2 s^2 + sigma^2).

    The data set is finite: s^2 is its mean square. 1,000 updates of 64 rows leave the weight a scatter of order .003.
    """
    own, s = process.named("vp-linear"), 0.7
    net = nn.Linear(1, 1, bias=False).double().to(device)
    data = s * Philox(1, 500).normal("data", torch.empty(500, 1, dtype=torch.float64)).to(device)
    power = data.square().mean().item()

    def loss(model, x0, t, noise, *, process):
        return (model(process.noised(x0, t, noise), t) - x0).square().sum(1)

    card = Objective(
        id="x.x", loss=loss, minimiser="mean", path=own.name, times=lambda u, process: torch.full_like(u, t)
    )
    losses = fit.data_losses(card, Predictor("mean", lambda x, t: net(x)), data, 64, process=own)
    plan = fit.Plan(steps=1000, batch=64, rate=5e-2, decay="cosine", ema=0.99)
    for progress in fit.fit(net, losses, plan, seed=0, every=1000):
        alpha, sigma = own.alpha(t), own.sigma(t)
        expected = alpha * power / (alpha**2 * power + sigma**2)
        assert progress.ema()["weight"].item() == pytest.approx(expected, abs=0.015)


def test_path_losses_hand_over_a_start_and_unit_noise(device):
    """With x + sum of the noise sqrt(dt) as path, E exp(c . x_end) is Gaussian: mean 0, variance prior + 1."""
    own, seen = process.named("vp-10"), []

    def loss(model, x, grid, noise, *, process, log_density):
        dt = (grid[:-1] - grid[1:]).to(x)
        seen.append(x + (dt.sqrt()[:, None, None] * noise).sum(0))
        return log_density(x)

    like = torch.empty(256, 2, dtype=torch.float64, device=device)
    grid = grids.uniform_t(10, own)
    card = Objective(id="x.x", loss=loss, minimiser="control", path=own.name, reduce="variance")
    losses = fit.path_losses(card, None, like, grid, process=own, log_density=lambda x: x.sum(1))
    for step in range(40):
        losses(Philox(2, 256, device).at(step))
    ends = torch.cat(seen)
    variance = own.prior_std**2 + own.t_max - own.t_min
    assert ends.mean(0).abs().max() < 6 * math.sqrt(variance / len(ends))
    assert (ends.var(0) / variance - 1).abs().max() < 6 * math.sqrt(2 / len(ends))
    assert torch.unique(ends, dim=0).shape == ends.shape


def test_variance_does_not_see_a_constant(device):
    """A constant added to every loss moves no weight under reduce="variance" and no weight under "mean" either."""
    for reduce in ("variance", "mean"):
        plain, moved = small(device), small(device)
        shifted = regression(moved)
        list(fit.fit(plain, regression(plain), PLAN, seed=0, reduce=reduce))
        list(fit.fit(moved, lambda draws, f=shifted: f(draws) + 7.0, PLAN, seed=0, reduce=reduce))
        for left, right in zip(plain.parameters(), moved.parameters(), strict=True):
            torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-9)


# times that follow the losses


class Counting:
    """Times whose weights count the batches so far."""

    def __call__(self, u, process):
        return u

    def fresh(self):
        return torch.zeros(1, dtype=torch.float64)

    def weighted(self, u, memory):
        return 0.1 + 0.8 * u, (1 + memory).expand_as(u)

    def remembered(self, memory, t, losses):
        assert not losses.requires_grad and t.min() >= 0.1
        return memory + 1


def counting(net: nn.Module) -> fit.AdaptiveLosses:
    def loss(model, x0, t, noise, *, process):
        return (net(noise, t) - x0).square().sum(1)

    card = Objective(id="x.x", loss=loss, minimiser="mean", path="condot", times=Counting())
    data = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    return fit.data_losses(card, None, data, PLAN.batch, process=process.named("condot"))


def test_losses_are_weighted_by_what_is_remembered():
    net = small()
    losses, draws = counting(net), Philox(0, PLAN.batch)
    first, third = losses(draws), (losses(draws), losses(draws))[1]
    assert losses.memory.item() == 3
    torch.testing.assert_close(third, 3 * first, rtol=1e-12, atol=0)


@pytest.mark.parametrize("stop", [7, 39])
def test_a_memory_belongs_to_the_state(stop):
    """A resumed run goes on with it, a state of losses without one is refused, and so is the reverse."""
    whole = list(fit.fit(net := small(), counting(net), PLAN, seed=0))[-1].state()
    first = list(islice(fit.fit(net := small(), counting(net), PLAN, seed=0, every=1), stop))[-1].state()
    assert (whole["times"].item(), first["times"].item()) == (PLAN.steps, stop)
    again = small(seed=9)
    assert same(list(fit.fit(again, counting(again), PLAN, seed=0, state=first))[-1].state(), whole)
    assert first["times"].item() == stop, "the state is a copy"
    with pytest.raises(fit.BadPlan, match="state: 1 names differ from this net's, first 'times'"):
        trained(small(), state=first)
    with pytest.raises(fit.BadPlan, match="state: 1 names differ from this net's, first 'times'"):
        list(fit.fit(again, counting(again), PLAN, seed=0, state=trained(small()).state()))


def test_no_steps_keep_the_weights_and_report_once():
    net = small()
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    (only,) = fit.fit(net, regression(net), fit.Plan(steps=0, batch=16, rate=1e-2), seed=3)
    assert only.step == 0 and math.isnan(only.loss) and math.isnan(only.gradient)
    assert same(before, only.ema()) and same(before, dict(net.named_parameters()))


# a user's mistakes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": -1}, "steps: -1, expected >= 0"),
        ({"rate": -1.0}, "rate: -1.0, expected > 0"),
        ({"warmup": 41}, "warmup: 41, expected from 0 to steps"),
        ({"decay": "step"}, "decay: 'step', expected one of constant, linear, cosine, exponential"),
        ({"ema": 1.0}, r"ema: 1.0, expected in \[0, 1\)"),
        ({"clip": 0.0}, "clip: 0.0, expected > 0"),
    ],
)
def test_a_bad_plan_is_named(change, says):
    with pytest.raises(fit.BadPlan, match=says):
        fit.Plan(**{"steps": 40, "batch": 16, "rate": 1e-2} | change)


def test_a_state_of_another_net_or_a_longer_run_is_refused():
    state = trained(small()).state()
    other = nets.build("mlp", seed=0, dim=3, width=8, depth=2).double()
    with pytest.raises(fit.BadPlan, match="state: 8 names differ from this net's, first 'ema/hidden.1.bias'"):
        list(fit.fit(other, regression(other), PLAN, seed=0, state=state))
    with pytest.raises(fit.BadPlan, match="state: at step 40, expected at most 20"):
        short = fit.Plan(steps=20, batch=16, rate=1e-2)
        list(fit.fit(net := small(), regression(net), short, seed=0, state=state))


def test_a_loss_that_is_not_finite_ends_the_run():
    net = small()
    with pytest.raises(fit.Diverged, match=r"loss: nan by step 10, expected finite; lower rate \(0.01\) or clip"):
        list(fit.fit(net, lambda draws: regression(net)(draws) * math.nan, PLAN, seed=0, every=10))
