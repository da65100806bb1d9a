"""HiCoGen's schedule: both families written out, marginals, budgets, influence of noise, diversity, policy ratios."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import relative_variance_error
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, expand
from reference_impls.flows import yang2026hicogen_dss as paper

F64 = dict(dtype=torch.float64)
RF = processes.named("condot")
MARGINAL, LITERAL = paper.PAPER.samplers
ALL = dict(
    literal=False, schedule="cos", eta_max=1.0, eta_min=0.0, low=0.0, high=0.3, budget=0.0, injected=False
)  # fmt: skip


def normals(tag, *shape):
    return Philox(7, shape[0]).normal(tag, torch.empty(*shape, **F64))


# The card's target: 8 modes on a circle of radius 4, standard deviation .3; trace of the covariance 16.18
ANGLE = torch.arange(8, **F64) * (math.pi / 4)
CENTRES = 4 * torch.stack([ANGLE.cos(), ANGLE.sin()], 1)


def ring_mean(x, t, logits=0.0):
    alpha, sigma = RF.alpha(t), RF.sigma(t)
    v = 0.09 * alpha**2 + sigma**2
    centre = (x @ (alpha / v * CENTRES).T + logits).softmax(1) @ CENTRES  # all centres are as far from 0
    return centre + 0.09 * alpha / v * (x - alpha * centre)


RING = Predictor("mean", ring_mean)


def gaussian(path, c):
    def predict(x, t):
        alpha, sigma = expand(path.alpha(t), x), expand(path.sigma(t), x)
        return alpha * c / (alpha**2 * c + sigma**2) * x

    return Predictor("mean", predict)


def within(x):
    """Variance per coordinate about the nearest mode."""
    nearest = torch.cdist(x, CENTRES).argmin(1)
    return (x - CENTRES[nearest]).square().mean().item()


@pytest.mark.parametrize("literal", [False, True])
def test_step_is_the_card_s_formula(literal):
    """Rectified flow written out: f = -z/(1-t), g^2 = 2t/(1-t), score = -(z + (1-t) v)/t, eta of the cosine."""
    grid, draws, model = torch.tensor([0.9, 0.6, 0.35, 0.05], **F64), Philox(3, 4), exact_model(RF)
    z = start = normals("z", 4, 2)
    for i, (t, s) in enumerate(zip(grid.tolist(), grid.tolist()[1:], strict=False)):
        dt, g2, eta = t - s, 2 * t / (1 - t), 0.2 + 0.5 * 0.6 * (1 + math.cos(math.pi * (0.9 - t) / 0.9))
        v = (z - model(z, t)) / t
        score = -(z + (1 - t) * v) / t
        drift = -z / (1 - t) - g2 * score if literal else v - 0.5 * g2 * eta**2 * score
        z = z - dt * drift + math.sqrt(g2 * eta**2 * dt) * draws.at(i).normal("step", z)
    found = MARGINAL.sample(
        model, start, grid, process=RF, draws=draws, literal=literal, eta_max=0.8, eta_min=0.2, states=True
    )
    torch.testing.assert_close(found.x, z, rtol=1e-12, atol=1e-12)
    assert len(found.memory) == 4 and found.memory[0] is start and torch.equal(found.memory[-1], found.x)


@pytest.mark.parametrize("name", ["condot", "vp-linear", "ve-edm"])
def test_without_noise_it_is_euler_bit_for_bit(name):
    """Invariant 2; on condot from t = 1, where g^2 diverges."""
    path, x, euler = processes.named(name), normals("x", 5, 1), catalogue.samplers()["lipman2022fm.euler"]
    grid = grids.uniform_t(9, path)
    found = MARGINAL.sample(exact_model(path), x, grid, process=path, draws=Philox(1, 5), eta_max=0.0).x
    assert torch.equal(found, euler.sample(exact_model(path), x, grid, process=path, draws=Philox(1, 5)).x)


@given(st.floats(0.05, 1), st.floats(0, 0.9), st.floats(0.1, 2))
def test_schedules_fall_rise_or_stay(start, floor, height):
    """Invariant 3."""
    t = torch.linspace(start, 0, 23, **F64)
    options = dict(eta_min=floor * height, eta_max=height)
    cos, late, uniform, box = (paper.stochasticity(t, start, schedule=name, **options) for name in paper.SCHEDULES)
    assert (cos[0].item(), cos[-1].item()) == pytest.approx((height, floor * height))
    assert cos[11].item() == pytest.approx((1 + floor) * height / 2)
    assert (cos.diff() < 0).all()
    torch.testing.assert_close(late, cos.flip(0))
    assert (uniform == height).all()
    inside = (t < 0.3 * start).double()  # no share is .3
    torch.testing.assert_close(box, floor * height + (1 - floor) * height * inside)


def test_the_box_has_its_lower_end_and_not_its_upper():
    """Shares of the start that are exact in binary; where nothing is said the box is the last .3 of the way."""
    t = torch.tensor([0.75, 0.5, 0.375, 0.25, 0.125], **F64)
    found = paper.stochasticity(t, 1.0, schedule="box", eta_max=0.5, eta_min=0.25, low=0.25, high=0.5)
    assert found.tolist() == [0.25, 0.25, 0.5, 0.5, 0.25]
    grid, x = torch.tensor([0.9, 0.279, 0.261, 0.018, 0.009], **F64), normals("x", 5, 2)  # shares 1, .31, .29, .02
    assert paper.stochasticity(grid[:-1], 0.9, schedule="box", eta_max=1.0).tolist() == [0.0, 0.0, 1.0, 1.0]
    usual, told = (
        MARGINAL.sample(exact_model(RF), x, grid, process=RF, draws=Philox(1, 5), schedule="box", **options).x
        for options in ({}, {"low": 0.0, "high": 0.3, "eta_max": 1.0, "eta_min": 0.0})
    )
    assert torch.equal(usual, told)
    level = paper.stochasticity(t, 1.0, schedule="cos", eta_max=0.5, eta_min=0.5)
    torch.testing.assert_close(level, torch.full_like(t, 0.5))


def test_constant_noise_is_that_of_the_policy_gradient_for_flows():
    """eta = a/sqrt(2) on rectified flow: noise a sqrt(t/(1-t)) sqrt(dt), and the drift of that SDE written out."""
    a, grid, x, model = 0.7, torch.tensor([0.8, 0.6], **F64), normals("x", 5, 2), exact_model(RF)
    rows = paper.plan(grid, RF, **{**ALL, "schedule": "uniform", "eta_max": a / math.sqrt(2)})
    assert rows.noise.item() == pytest.approx(a * math.sqrt(0.8 / 0.2) * math.sqrt(0.2), rel=1e-12)
    v = (x - model(x, 0.8)) / 0.8
    drift = v + (a**2 * 0.8 / 0.2) / (2 * 0.8) * (x + 0.2 * v)
    torch.testing.assert_close(rows.keep * x + rows.pull * model(x, 0.8), x - 0.2 * drift, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("injected", [False, True])
@pytest.mark.parametrize("schedule", paper.SCHEDULES)
def test_budget_is_spent_exactly(schedule, injected):
    grid = MARGINAL.grid(40, RF)
    rows = paper.plan(grid, RF, **{**ALL, "schedule": schedule, "budget": 0.07, "injected": injected})
    t = grid[:-1]
    g2 = 2 * t / (1 - t)
    spent = rows.noise**2 / (1 if injected else g2)
    assert spent.sum().item() == pytest.approx(0.07, rel=1e-12)
    free = paper.plan(grid, RF, **{**ALL, "schedule": schedule}).noise
    torch.testing.assert_close(rows.noise / rows.noise.max(), free / free.max())
    drift = paper.plan(grid, RF, **{**ALL, "schedule": schedule, "eta_max": 0.0}).pull - rows.pull
    torch.testing.assert_close(-drift / (1 - t) * t**2, rows.noise**2 / 2)  # the score's share follows eta


@pytest.mark.parametrize("schedule", paper.SCHEDULES)
def test_marginal_family_keeps_gaussian_marginals_to_first_order(schedule):
    """Invariant 1, without Monte Carlo: for every schedule the variance error halves with the step, or better."""
    path = RF.between(0.02, 0.9)
    errors = [
        abs(relative_variance_error(MARGINAL, path, grids.uniform_t(n, path), 0.25, schedule=schedule))
        for n in (400, 800)
    ]
    assert errors[1] < 0.02 and errors[1] <= 0.55 * errors[0]  # cos: the first-order terms nearly cancel


def test_literal_family_is_biased_by_its_missing_noise():
    """Invariant 1: its variance is Phi^2 v_T plus the integral of eta^2 W; below the data's unless eta = 1."""
    path, c = RF.between(0.02, 0.9), 0.25
    fine = torch.linspace(0.02, 0.9, 200_001, **F64)
    v_T, v_0 = ((path.alpha(t) ** 2 * c + path.sigma(t) ** 2) for t in (0.9, 0.02))
    phi = (v_0 * path.alpha(0.9) / (v_T * path.alpha(0.02))) ** 2
    to_end = (v_0 / (c * path.alpha(0.02))) ** 2  # W reaches data; the run ends at .02
    for schedule, bias in (("cos", None), ("uniform", 0.0)):
        eta = paper.stochasticity(fine, 0.9, schedule=schedule, eta_max=1.0)
        integral = torch.trapezoid(eta**2 * paper.influence(fine, path, variance=c, literal=True) * to_end, fine)
        expected = (phi * v_T + integral.item()) / v_0 - 1
        assert expected == pytest.approx(0, abs=1e-6) if bias == 0.0 else expected < -0.3
        errors = [
            relative_variance_error(LITERAL, path, grids.uniform_t(n, path), c, schedule=schedule) for n in (800, 1600)
        ]
        assert 2 * errors[1] - errors[0] == pytest.approx(expected, abs=2e-3)


def test_moments_on_the_ring():
    """Invariant 1's numbers, 400 steps: A trace 16.11-16.20, within .088-.091; B within .011 (cos), .048 (.49)."""
    x, grid = normals("z_T", 2000, 2), MARGINAL.grid(400, RF)
    for options in ({}, {"schedule": "late"}, {"schedule": "uniform", "budget": 0.49}):
        end = MARGINAL.sample(RING, x, grid, process=RF, draws=Philox(5, 2000), **options).x
        assert torch.cov(end.T).trace().item() == pytest.approx(
            16.18, abs=0.2
        )  # the radius varies little: s.e. .04 and the mean's
        assert within(end) == pytest.approx(0.09, rel=0.1)  # 4 s.e. of 4,000 coordinates
    narrow = LITERAL.sample(RING, x, grid, process=RF, draws=Philox(5, 2000)).x
    assert within(narrow) == pytest.approx(0.011, abs=0.003)
    half = LITERAL.sample(RING, x, grid, process=RF, draws=Philox(5, 2000), schedule="uniform", budget=0.49).x
    assert within(half) == pytest.approx(0.048, abs=0.006)


@pytest.mark.parametrize(("c", "peak"), [(0.04, 0.12), (1.0, 0.50), (9.0, 0.80)])
def test_noise_matters_most_where_the_data_s_scale_says(c, peak):
    """Invariant 5: W of the literal drift peaks at .12, .50, .80; early noise is not universally best."""
    t = torch.linspace(0.001, 0.999, 999, **F64)
    weight = paper.influence(t, RF, variance=c, literal=True)
    assert t[weight.argmax()].item() == pytest.approx(peak, abs=0.006)
    torch.testing.assert_close(weight, 2 * t * (1 - t) * c**2 / ((1 - t) ** 2 * c + t**2) ** 2)
    flow = paper.influence(t, RF, variance=c)
    torch.testing.assert_close(flow, 2 * t / (1 - t) * c / ((1 - t) ** 2 * c + t**2))


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("name", ["condot", "vp-linear"])
def test_influence_is_the_linearised_drift_s(literal, name):
    """Phi(0,s) as the product of the plan's own factors from s to (nearly) data, fine steps, extrapolated."""
    path, c = processes.named(name).between(1e-3, 0.8), 0.6
    found = []
    for n in (4000, 8000):
        grid = grids.uniform_t(n, path)
        rows = paper.plan(grid, path, **{**ALL, "literal": literal, "eta_max": 0.0})
        alpha, sigma = path.alpha(rows.t), path.sigma(rows.t)
        found.append((rows.keep + rows.pull * alpha * c / (alpha**2 * c + sigma**2)).prod().item())
    begin, end = (torch.tensor(t, **F64) for t in (0.8, 1e-3))
    weight, at_end = (paper.influence(t, path, variance=c, literal=literal) for t in (begin, end))
    g2, g2_end = (paper.squared_diffusion(t, path) for t in (begin, end))
    expected = ((weight / g2) / (at_end / g2_end)).sqrt().item()
    assert 2 * found[1] - found[0] == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 2**20), st.floats(0.01, 0.99))
def test_bang_bang_is_the_best_allocation(seed, share):
    """Invariant 4: no other eta^2 <= eta_max^2 with that budget has a larger integral of eta^2 W."""
    u = Philox(seed, 12).uniform("law", (12, 3))
    weight, dt = u[:, 0], 0.02 + u[:, 1] / 10
    budget = share * 0.81 * dt.sum().item()
    best = paper.bang_bang(weight, dt, budget=budget, eta_max=0.9)
    assert (best * dt).sum().item() == pytest.approx(budget) and best.min() >= 0 and best.max() <= 0.81 + 1e-12
    assert ((best > 1e-9) & (best < 0.81 - 1e-9)).sum() <= 1
    assert best[weight.argmax()] == best.max()
    other = u[:, 2] * 0.81
    other = other * budget / (other * dt).sum()
    while (other > 0.81).any():  # pour what is over into the rest
        other = other.clamp(max=0.81)
        room = 0.81 - other
        other = other + room * ((budget - (other * dt).sum()) / (room * dt).sum())
    assert (other * dt * weight).sum() <= (best * dt * weight).sum() + 1e-12


def test_decreasing_schedule_is_the_best_in_sign_only_for_increasing_influence():
    """Invariant 4 for two data laws: with c = 9 the box lies high, with c = .04 low."""
    grid = MARGINAL.grid(99, RF)
    t, dt = grid[:-1], grid[:-1] - grid[1:]
    for c, early in ((9.0, True), (0.04, False)):
        best = paper.bang_bang(paper.influence(t, RF, variance=c, literal=True), dt, budget=0.2, eta_max=1.0)
        assert (t[best > 0].mean() > 0.5) == early


def diversity(**options):
    """Tr Cov(x0 | x_T) over 12 start states of the ring with 100 paths each, 200 steps."""
    groups, paths = 12, 100
    x = normals("z_T", groups, 2).repeat_interleave(paths, 0)
    grid, draws = MARGINAL.grid(200, RF), Philox(9, groups * paths)
    end = MARGINAL.sample(RING, x, grid, process=RF, draws=draws, **options).x
    traces = torch.stack([torch.cov(part.T).trace() for part in end.split(paths)])
    return traces.mean().item(), traces.std().item() / math.sqrt(groups)


def test_late_noise_is_lost_at_either_budget():
    """Invariant 6: .49 of eta^2: 16.1, 16.1, 1.43, .155; 1 of injected noise: 11.6, 11.9, 2.9, .27."""
    for budget, injected, expected in ((0.49, False, (16.1, 16.1, 1.43, 0.155)), (1.0, True, (11.6, 11.9, 2.9, 0.27))):
        for schedule, figure in zip(("uniform", "cos", "late", "box"), expected, strict=True):
            mean, error = diversity(schedule=schedule, budget=budget, injected=injected)
            # four s.e. of ours, and as much for the card's 8 start states
            assert abs(mean - figure) <= 4 * math.hypot(error, error * math.sqrt(12 / 8)) + 0.02, (
                schedule,
                mean,
                error,
            )


def test_step_densities_are_normal_and_skip_noiseless_steps():
    model, x = exact_model(RF), normals("x", 5, 2)
    grid = torch.tensor([0.9, 0.7, 0.4, 0.1], **F64)
    options = {**ALL, "schedule": "box", "low": 0.4, "high": 0.9, "eta_max": 0.7}
    rows = paper.plan(grid, RF, **options)
    assert (rows.noise > 0).tolist() == [False, True, True]
    run = MARGINAL.sample(model, x, grid, process=RF, draws=Philox(2, 5), states=True,
                          **{k: v for k, v in options.items() if k != "literal"})  # fmt: skip
    found = paper.step_log_densities(model, run.memory, rows)
    for k, i in enumerate((1, 2)):
        mean = rows.keep[i] * run.memory[i] + rows.pull[i] * model(run.memory[i], grid[i].item())
        law = torch.distributions.Normal(mean, rows.noise[i])
        torch.testing.assert_close(found[k], law.log_prob(run.memory[i + 1]).sum(1), rtol=1e-12, atol=1e-12)
    assert found.shape == (2, 5)


def test_policy_gradient_at_the_old_policy_is_reinforce():
    """At q = 1 nothing is clipped: the objective's gradient is the mean over steps of A grad log p."""
    theta = torch.zeros((), **F64, requires_grad=True)
    base = exact_model(RF)
    policy = Predictor("mean", lambda x, t: base(x, t) + theta)
    grid, x = MARGINAL.grid(6, RF), normals("x", 8, 2)
    run = MARGINAL.sample(base, x, grid, process=RF, draws=Philox(2, 8), states=True)
    rows = paper.plan(grid, RF, **ALL)
    advantage = paper.advantages(run.x.sum(1), group=4)
    log_p = paper.step_log_densities(policy, run.memory, rows)
    objective = paper.clipped_objective(log_p - log_p.detach(), advantage).sum()
    (found,) = torch.autograd.grad(objective, theta, retain_graph=True)
    (expected,) = torch.autograd.grad((log_p * advantage).mean(0).sum(), theta)
    torch.testing.assert_close(found, expected)
    assert found.abs() > 1e-3


def test_ascent_on_the_objective_raises_the_reward():
    """The weights of the ring's modes are learnt, the reward is 1 on the first one: from an eighth to most samples.

    40 updates of two passes, the second of which meets ratios that are not 1; 64 samples, 4 starts in groups of 16.
    """
    grid, logits = MARGINAL.grid(8, RF), torch.zeros(8, **F64, requires_grad=True)
    rows, x, rewards = paper.plan(grid, RF, **ALL), normals("starts", 4, 2).repeat_interleave(16, 0), []
    policy = Predictor("mean", lambda x, t: ring_mean(x, t, logits))
    for update in range(40):
        with torch.no_grad():
            run = MARGINAL.sample(policy, x, grid, process=RF, draws=Philox(update, 64), states=True)
            reward = (torch.cdist(run.x, CENTRES).argmin(1) == 0).double()
            old = paper.step_log_densities(policy, run.memory, rows)
        rewards.append(reward.mean().item())
        for _ in range(2):
            log_ratio = paper.step_log_densities(policy, run.memory, rows) - old
            gain = paper.clipped_objective(log_ratio, paper.advantages(reward)).mean()
            logits.data += 2.0 * torch.autograd.grad(gain, logits)[0]
    assert sum(rewards[:3]) / 3 < 0.3 and sum(rewards[-5:]) / 5 > 0.6
    assert logits.argmax() == 0


@pytest.mark.parametrize("schedule", ["cos", "late"])
def test_walks_of_the_objective_are_those_of_the_sampler(schedule):
    grid, x, options = MARGINAL.grid(6, RF), normals("starts", 8, 2), {"schedule": schedule, "budget": 0.05}
    model, draws = exact_model(RF, "ring-2d"), Philox(3, 8)
    run = MARGINAL.sample(model, x, grid, process=RF, draws=draws, states=True, **options)
    states = paper.walked(model, x, paper.plan(grid, RF, **ALL | options), draws.block(6, "step", x))
    torch.testing.assert_close(torch.stack(states), torch.stack(run.memory), rtol=1e-12, atol=1e-12)
    assert torch.equal(states[0], x)


def test_the_objective_is_reinforce_with_each_group_s_mean_and_spread():
    """Its value is minus the advantage, its gradient that of -A log p, a mean over the noisy steps; no other rows."""
    theta = torch.tensor(0.3, **F64, requires_grad=True)
    policy = Predictor("mean", lambda x, t: (x * theta).tanh())
    grid, x, noise = MARGINAL.grid(5, RF), normals("starts", 8, 2), normals("noise", 5, 8, 2)

    def reward(ends):
        assert not ends.requires_grad
        return ends.sum(1)

    loss = paper.grpo_loss(policy, x, grid, noise, process=RF, reward=reward, budget=0.05, group=4)
    rows = paper.plan(grid, RF, **ALL | {"budget": 0.05})
    states = paper.walked(policy, x, rows, noise)
    advantage = paper.advantages(states[-1].sum(1), group=4)
    torch.testing.assert_close(loss, -advantage)
    log_p = paper.step_log_densities(policy, states, rows)
    (expected,) = torch.autograd.grad(-(log_p.mean(0) * advantage).sum(), theta)
    (found,) = torch.autograd.grad(loss.sum(), theta, retain_graph=True)
    torch.testing.assert_close(found, expected)
    assert found.abs() > 1e-3
    (alone,) = torch.autograd.grad(loss[:4].sum(), theta)
    half = paper.grpo_loss(policy, x[:4], grid, noise[:, :4], process=RF, reward=reward, budget=0.05, group=4)
    torch.testing.assert_close(alone, torch.autograd.grad(half.sum(), theta)[0])


def test_the_objective_refuses_walks_without_noise():
    silent = Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    grid, x, noise = MARGINAL.grid(5, RF), normals("starts", 8, 2), normals("noise", 5, 8, 2)
    with pytest.raises(ValueError, match="eta_max: 0.0 with 'cos', expected noise"):
        paper.grpo_loss(silent, x, grid, noise, process=RF, reward=torch.clone, eta_max=0.0)


def test_the_objective_refuses_what_does_not_fit_before_the_first_evaluation():
    silent = Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    grid, x, noise = MARGINAL.grid(5, RF), normals("starts", 8, 2), normals("noise", 5, 8, 2)
    for made, options, said in (
        (noise[:4], {}, r"noise: \(4, 8, 2\), expected \(5, 8, 2\)"),
        (noise[:, :7], {}, r"noise: \(5, 7, 2\), expected \(5, 8, 2\)"),
        (noise, {"group": 3}, r"rewards, group: \(8,\), 3, expected .B. with B a multiple"),
        (noise, {"group": 2.0}, r"rewards, group: \(8,\), 2.0"),
        (noise, {"clip": -1.0}, "clip: -1.0, expected a positive number"),
        (noise, {"clip": math.nan}, "clip: nan, expected a positive number"),
    ):
        with pytest.raises(ValueError, match=said):
            paper.grpo_loss(silent, x, grid, made, process=RF, reward=torch.clone, **{"group": 4} | options)
    for reward, said in (
        (lambda ends: ends[:4, 0], r"reward: gives \(4,\), expected one number for each of 8 samples"),
        (lambda ends: ends[:, 0] / 0 * 0, "rewards: 8 of 8 are not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            paper.grpo_loss(exact_model(RF, "ring-2d"), x, grid, noise, process=RF, reward=reward, group=4)
    for clip in (0.0, -1.0):
        with pytest.raises(ValueError, match="clip: "):
            paper.clipped_objective(noise[0], noise[0, 0], clip=clip)


def test_densities_are_refused_where_there_are_none():
    silent, x = Predictor("mean", lambda x, t: pytest.fail("evaluated")), normals("x", 5, 2)
    grid = torch.tensor([0.9, 0.5, 0.1], **F64)
    with pytest.raises(ValueError, match="rows: no step has noise"):
        paper.step_log_densities(silent, [x] * 3, paper.plan(grid, RF, **ALL | {"eta_max": 0.0}))
    for count in (2, 4):
        with pytest.raises(ValueError, match=f"states: {count}, expected 3, one more than the plan has steps"):
            paper.step_log_densities(silent, [x] * count, paper.plan(grid, RF, **ALL))


def test_clipping_stops_what_pays_and_keeps_what_costs():
    """min(q A, clip(q) A), averaged over steps: a gain stops at 1 + c, a loss is not bounded by it."""
    log_ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0]], **F64).log()
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0], **F64)
    expected = torch.tensor([(2.4 + 2) / 2, (-3.0 - 2) / 2, (1.0 + 2) / 2, (-1.6 - 2) / 2], **F64)
    torch.testing.assert_close(paper.clipped_objective(log_ratio, advantage), expected)


def test_advantages_are_standardised_by_group():
    rewards = torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 5.0], **F64)
    found = paper.advantages(rewards, group=3)
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 1.0, 0.0, 0.0, 0.0], **F64))
    for bad in (4, 1, 3.0):
        with pytest.raises(ValueError, match="expected .B. with B a multiple"):
            paper.advantages(rewards, group=bad)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="rewards: 1 of 6 are not finite"):
            paper.advantages(torch.where(rewards == 2, bad, rewards), group=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "sine"}, "schedule: 'sine', expected one of cos, late, uniform, box"),
        ({"eta_min": 2.0}, "eta_min, eta_max: 2.0, 1.0"),
        ({"budget": -1.0}, "budget: -1.0, expected 0"),
        ({"budget": 1.0, "eta_max": 0.0}, "budget: 1.0 with a schedule that is 0"),
        ({"budget": math.nan}, "budget: nan, expected 0"),
        ({"budget": math.inf}, "budget: inf, expected 0"),
        ({"eta_max": math.inf}, "eta_min, eta_max: 0.0, inf, expected 0 <= eta_min <= eta_max, finite"),
        ({"eta_max": math.nan}, "eta_min, eta_max: 0.0, nan"),
        ({"schedule": "box", "low": 0.5, "high": 0.2}, "low, high: 0.5, 0.2, expected low < high"),
        ({"schedule": "box", "low": 0.3}, "low, high: 0.3, 0.3, expected low < high"),
        ({"schedule": "box", "low": math.nan}, "low, high: nan, 0.3, expected low < high"),
    ],
)
def test_bad_input_is_refused_before_the_first_evaluation(options, said):
    x, silent = normals("x", 2, 1), Predictor("mean", lambda x, t: pytest.fail("evaluated"))
    with pytest.raises(ValueError, match=said):
        MARGINAL.sample(silent, x, MARGINAL.grid(4, RF), process=RF, draws=Philox(1, 2), **options)
    for card in (MARGINAL, LITERAL):
        with pytest.raises(grids.BadGrid, match="begins at 1, where alpha = 0 on condot"):
            card.sample(silent, x, grids.uniform_t(4, RF), process=RF, draws=Philox(1, 2))
    with pytest.raises(ValueError, match="budget: 9"):
        paper.bang_bang(torch.ones(2, **F64), torch.ones(2, **F64), budget=9.0, eta_max=1.0)
    with pytest.raises(ValueError, match="budget: 0.6, expected 0 to eta_max.2 times the grid's length, 0.5"):
        paper.bang_bang(torch.ones(2, **F64), torch.ones(2, **F64), budget=0.6, eta_max=0.5)
    for budget, squared in ((0.0, 0.0), (0.5, 0.25)):  # both ends are allowed
        found = paper.bang_bang(torch.ones(2, **F64), torch.ones(2, **F64), budget=budget, eta_max=0.5)
        assert found.tolist() == [squared] * 2


def test_grid_begins_one_interval_below_the_top():
    torch.testing.assert_close(MARGINAL.grid(4, RF.between(0.0, 1.0)), torch.tensor([0.8, 0.6, 0.4, 0.2, 0.0], **F64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", [2, 10, 12, 16])
def test_equal_rewards_have_no_advantage_whatever_their_mean_rounds_to(dtype, group):
    """Of 200 values: the mean of a group of .1 in float32 is not .1, and the quotient of two roundings was 1e29."""
    for reward in torch.linspace(0.01, 1.99, 200, dtype=torch.float64):
        assert not paper.advantages(reward.to(dtype).expand(2 * group), group).any()
    one = torch.full((group,), 0.1, dtype=dtype)
    one[0] = 0.2
    assert paper.advantages(one, group).std() == pytest.approx(1, rel=1e-5)
