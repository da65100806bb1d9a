"""karras2022edm: the numbered invariants of its card."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence, relative_variance_error
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.continuous import karras2022edm as edm
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor

VE = process.named("ve-edm")
CHURN = catalogue.samplers()["karras2022edm.churn"]
levels = st.floats(-6, 4.3).map(math.exp)


@given(levels, st.sampled_from([0.3, 0.5, 1.0]))
def test_preconditioning_keeps_unit_variances(rho, sd):
    """Invariant 1: Var(c_in x) = 1 and the effective target of the net has variance 1, at every level."""
    probe = {}

    def net(x, c_noise):
        probe["in"], probe["level"] = x, c_noise
        return torch.ones_like(x)

    zero_net = edm.precondition(lambda x, c: torch.zeros_like(x), process=VE, sigma_data=sd)
    one = torch.ones(1, 1, dtype=torch.float64)
    skip = zero_net(one, rho).item()
    out = edm.precondition(net, process=VE, sigma_data=sd)(one, rho).item() - skip
    c_in = probe["in"].item()
    assert c_in**2 * (sd**2 + rho**2) == pytest.approx(1, rel=1e-12)
    assert ((1 - skip) ** 2 * sd**2 + skip**2 * rho**2) / out**2 == pytest.approx(1, rel=1e-10)
    assert probe["level"].item() == pytest.approx(math.log(rho) / 4, abs=1e-12)


@given(levels)
def test_zero_net_is_optimal_on_its_gaussian_and_the_loss_is_one_per_dimension(rho):
    """Invariant 2: on N(0, sd^2 I) the zero net is the exact mean; E loss = 1 per dimension, by Gauss-Hermite."""
    sd = 0.5
    model = edm.precondition(lambda x, c: torch.zeros_like(x), process=VE, sigma_data=sd)
    x = torch.tensor([[1.3]], dtype=torch.float64)
    assert model(x, rho).item() == pytest.approx(sd**2 / (sd**2 + rho**2) * 1.3, rel=1e-12)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)  # two-point rule: exact for quadratics
    loss = edm.loss(model, sd * signs[:, :1], torch.full((2,), rho, dtype=torch.float64), signs[:, 1:], process=VE)
    assert loss.mean().item() == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("path", ["vp-linear", "condot", "ve-geo"])
def test_the_preconditioned_mean_is_common_to_all_paths(path):
    """Notation section: D(alpha y, t) depends on y and rho alone."""
    other = process.named(path).between(0.1, 0.8)
    net = lambda x, c: torch.tanh(x) * (1 + c[:, None])  # noqa: E731
    y = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    for t in (0.2, 0.7):
        ours = edm.precondition(net, process=other)(other.alpha(t) * y, t)
        torch.testing.assert_close(ours, edm.precondition(net, process=VE)(y, other.rho(t)), rtol=1e-12, atol=1e-12)


def test_last_step_is_the_mean_and_one_step_is_defined():
    """Invariant 3: the interval to 0 lands on D, and steps = 1 is [t_max, 0]."""
    grid = grids.power_to_zero(7.0)(1, VE)
    assert grid.tolist() == [80.0, 0.0]
    x = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    run = edm.sample(exact_model(VE), x, grid, process=VE, draws=Silence())
    assert run.nfe == 1
    torch.testing.assert_close(run.x, targets.named("g3").mean(x, 1.0, 80.0), rtol=1e-14, atol=1e-14)


def test_grid_is_the_paper_s():
    """Equation 5 with rho = 7: (80^(1/7) + i/(N-1) (.002^(1/7) - 80^(1/7)))^7, then 0."""
    i = torch.arange(18, dtype=torch.float64) / 17
    expected = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    found = grids.power_to_zero(7.0)(18, VE)
    torch.testing.assert_close(found[:-1], expected, rtol=1e-12, atol=0)
    assert found[-1] == 0 and edm.evaluations(found) == 35


def test_no_churn_is_the_deterministic_sampler_bit_for_bit():
    """Invariant 5, and outside [S_min, S_max] nothing is churned either."""
    grid = grids.power_to_zero(7.0)(8, VE)
    x = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    plain = edm.sample(exact_model(VE), x, grid, process=VE, draws=Philox(0, 5)).x
    for options in ({"churn": 0.0, "churn_noise": 1.3}, {"churn": 40.0, "churn_min": 100.0}):
        assert torch.equal(plain, edm.sample(exact_model(VE), x, grid, process=VE, draws=Philox(0, 5), **options).x)


def test_churn_s_range_has_its_ends():
    """S_min <= t_i <= S_max: of five levels those from the third to the second are churned."""
    grid = grids.uniform_lam(5, VE)
    low, high = grid[2].item(), grid[1].item()
    assert (edm.plan(grid, VE, churn=1.0, churn_min=low, churn_max=high).noise > 0).tolist() == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_churn_s_defaults_are_the_code_s():
    """generate.py: S_min 0, S_max inf, S_noise 1."""
    grid = grids.power_to_zero(7.0)(6, VE)
    x = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    ends = [
        edm.sample(exact_model(VE), x, grid, process=VE, draws=Philox(0, 5), churn=2.0, **options).x
        for options in ({}, {"churn_min": 0.0, "churn_max": math.inf, "churn_noise": 1.0})
    ]
    assert torch.equal(*ends)


@given(st.floats(0.5, 60), st.floats(0, 3), st.sampled_from(["ve-edm", "vp-linear"]))
def test_the_churn_step_alone_maps_the_marginal_up(churn, c, name):
    """Invariant 5: with S_noise = 1, alpha_h/alpha_t x + noise z maps N(0, alpha_t^2 c + sigma_t^2) to that at h."""
    path = VE if name == "ve-edm" else process.named(name).between(0.05, 0.6)
    rows = edm.plan(grids.uniform_lam(6, path), path, churn=churn)
    t = grids.uniform_lam(6, path)[:-1]
    before = path.alpha(t) ** 2 * c + path.sigma(t) ** 2
    after = path.alpha(rows.t) ** 2 * c + path.sigma(rows.t) ** 2
    torch.testing.assert_close(rows.scale**2 * before + rows.noise**2, after, rtol=1e-9, atol=0)
    assert (rows.t > t).all() and (path.rho(rows.t) / path.rho(t) <= math.sqrt(2) * (1 + 1e-9)).all()


def test_variance_error_is_second_order_for_fixed_churn_and_first_for_fixed_gamma():
    """Invariant 5: c = .25, sigma 20 -> .05: slope 2.00 with S_churn fixed, falling to 1.18 with gamma fixed."""
    path = VE.between(0.05, 20.0)

    def errors(churn_of):
        found = []
        for steps in (128, 256, 512):
            options = {"churn_noise": 1.0, "churn": churn_of(steps)}
            found.append(abs(relative_variance_error(CHURN, path, grids.power(7.0)(steps, path), 0.25, **options)))
        return found

    fixed, per_step = errors(lambda steps: 8.0), errors(lambda steps: 0.1 * steps)
    assert math.log2(fixed[1] / fixed[2]) == pytest.approx(2.0, abs=0.1)
    assert math.log2(per_step[1] / per_step[2]) < 1.4


def test_churn_triples_the_variance_error_of_the_exact_denoiser():
    """Claim c of the card: from 1.1e-2 to 3.6e-2 with S_churn = 8 at 32 steps, sigma 20 -> .05, c = .25."""
    path = VE.between(0.05, 20.0)
    found = [
        relative_variance_error(CHURN, path, grids.power(7.0)(32, path), 0.25, churn_noise=1.0, churn=churn)
        for churn in (0.0, 8.0)
    ]
    assert found == pytest.approx([1.1e-2, 3.6e-2], rel=0.05)  # two digits printed


def error_at_quantiles(steps, exponent=7.0, order=2):
    """RMS error against the exact flow of G3 from sigma 80 to .002, over 32 quantiles of p_80."""
    g3 = targets.named("g3")
    levels = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    x = g3.flow(torch.special.ndtri(levels)[:, None], 0.0, 1.0, 1.0, 80.0)
    grid = grids.power(exponent)(steps, VE)
    found = edm.sample(exact_model(VE), x, grid, process=VE, draws=Silence(), order=order).x
    return (found - g3.flow(x, 1.0, 80.0, 1.0, 0.002)).square().mean().sqrt().item()


def test_errors_of_the_card_s_first_two_claims():
    """Claims a and b: Euler at 100, 300 evaluations and Heun at 60, 100, 120; 18 grid points with rho 1 .. 20."""
    euler = [error_at_quantiles(steps, order=1) for steps in (100, 300)]
    heun = [error_at_quantiles(evaluations // 2) for evaluations in (60, 100, 120)]
    assert euler + heun == pytest.approx(
        [4.39e-2, 1.19e-2, 1.30e-2, 4.70e-3, 3.26e-3], rel=5e-3
    )  # three digits printed
    exponents = [error_at_quantiles(17, exponent) for exponent in (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0)]
    assert exponents == pytest.approx([1.47, 0.133, 0.0551, 0.0415, 0.0409, 0.0426, 0.0463], rel=5e-3)


@pytest.mark.parametrize("churn", [0.0, 1.5, 40.0])
def test_sampler_is_algorithm_two(churn):
    """Algorithm 2 in the paper's letters: (x - D)/t, S_churn over the number of levels, capped, Euler to 0."""
    levels, draws, model = grids.power_to_zero(7.0)(6, VE).tolist(), Philox(4, 5), exact_model(VE)
    x = start = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    for i in range(6):
        t, s = levels[i : i + 2]
        gamma = min(churn / 6, math.sqrt(2) - 1) if 0.05 <= t <= 50 else 0
        h = t + gamma * t
        if gamma:
            x = x + math.sqrt(h**2 - t**2) * 1.003 * draws.at(i).normal("churn", x)
        d = (x - model(x, h)) / h
        ahead = x + (s - h) * d
        x = ahead if s == 0 else x + (s - h) * (d / 2 + (ahead - model(ahead, s)) / s / 2)
    options = {"churn": churn, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}
    found = edm.sample(model, start, grids.power_to_zero(7.0)(6, VE), process=VE, draws=draws, **options)
    torch.testing.assert_close(found.x, x, rtol=1e-11, atol=1e-11)
    assert found.nfe == 11


@pytest.mark.parametrize("name", ["vp-linear", "condot", "subvp"])
def test_general_form_is_heun_on_the_velocity(name):
    """x_h + (s - h) (u + u')/2 with u = alpha' D + sigma' e on any path (the paper's eq. 4 with s(t) = alpha)."""
    path = process.named(name)

    def u(x, t):
        mean, (alpha_rate, sigma_rate) = exact_model(path)(x, t), path.rates(t)
        return alpha_rate * mean + sigma_rate * (x - path.alpha(t) * mean) / path.sigma(t)

    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    ahead = x - 0.3 * u(x, 0.7)
    grid = torch.tensor([0.7, 0.4], dtype=torch.float64)
    found = edm.sample(exact_model(path), x, grid, process=path, draws=Silence())
    torch.testing.assert_close(found.x, x - 0.15 * (u(x, 0.7) + u(ahead, 0.4)), rtol=1e-12, atol=1e-12)
    assert found.nfe == 2


@pytest.mark.parametrize("name", ["ve-edm", "condot", "vp-linear", "discrete-linear", "cosine", "ve-geo"])
def test_the_interval_to_zero_has_one_evaluation_on_every_path(name):
    """The declared cost holds whether or not sigma(0) = 0."""
    path = process.named(name)
    grid = torch.linspace(path.t_max, 0, 4, dtype=torch.float64)
    x = torch.ones(1, 1, dtype=torch.float64)
    assert edm.sample(exact_model(path), x, grid, process=path, draws=Silence()).nfe == edm.evaluations(grid) == 5


def test_churn_stops_at_the_last_knot_of_a_chain():
    """There is no level above it: the first step adds no noise, the others map the marginal up exactly."""
    chain = process.named("discrete-linear").between(1e-3, 1.0)
    grid = grids.uniform_lam(6, chain)
    rows = edm.plan(grid, chain, churn=3.0)
    assert rows.t[0] == 1 and rows.noise[0] == 0 and rows.scale[0] == 1
    after = chain.alpha(rows.t) ** 2 + chain.sigma(rows.t) ** 2
    before = chain.alpha(grid[:-1]) ** 2 + chain.sigma(grid[:-1]) ** 2
    torch.testing.assert_close(rows.scale**2 * before + rows.noise**2, after, rtol=1e-9, atol=0)
    assert (rows.noise[1:] > 0).all()


def test_data_deviation_defaults_to_one_half():
    """training/networks.py: D of the zero net at rho = .5 is x/2."""
    zero = edm.precondition(lambda x, c: torch.zeros_like(x), process=VE)
    assert zero(torch.ones(1, 1, dtype=torch.float64), 0.5).item() == pytest.approx(0.5)


def test_cards_are_the_published_settings():
    """README: S_churn 40, S_min .05, S_max 50, S_noise 1.003; rho 7; algorithm 3's stages; a schedule a column."""
    cards = {id.split(".")[1]: card for id, card in catalogue.samplers().items() if id.startswith("karras2022edm.")}
    options = {name: getattr(card.sample, "keywords", {}) for name, card in cards.items()}
    assert options.pop("churn") == {"churn": 40.0, "churn_min": 0.05, "churn_max": 50.0, "churn_noise": 1.003}
    assert {name: given for name, given in options.items() if given} == {
        "euler": {"order": 1}, "midpoint": {"stage": 1 / 2}, "ralston": {"stage": 2 / 3},
    }  # fmt: skip
    columns = {
        "vp": ("vp-linear", edm.vp_to_zero),
        "ve": ("ve-sqrt", edm.ve_to_zero),
        "iddpm": ("ve-edm", edm.iddpm_to_zero),
    }
    for name, card in cards.items():
        path, grid = columns.get(name, ("ve-edm", grids.power_to_zero(7.0)))
        assert card.path == path and torch.equal(card.grid(5, process.named(path)), grid(5, process.named(path)))
    own = {card.id.split(".")[1]: (card.path, card.loss, card.times) for card in edm.PAPER.objectives}
    assert own == {
        "loss": ("ve-edm", edm.loss, edm.lognormal_times), "vp_loss": ("vp-linear", edm.eps_loss, edm.vp_times),
        "ve_loss": ("ve-sqrt", edm.eps_loss, edm.ve_times), "iddpm_loss": ("ve-edm", edm.eps_loss, edm.iddpm_times),
    }  # fmt: skip


def test_scale_equivariance():
    """Invariant 6: data k x0 on a grid times k returns k x."""
    g3, k = targets.named("g3"), 3.0
    scaled = Predictor("mean", lambda x, t: k * g3.mean(x / k, 1.0, t / k))
    wide = process.ve_edm(t_min=0.002 * k, t_max=80.0 * k)
    x = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    plain = edm.sample(exact_model(VE), x, grids.power_to_zero(7.0)(9, VE), process=VE, draws=Silence()).x
    other = edm.sample(scaled, k * x, grids.power_to_zero(7.0)(9, wide), process=wide, draws=Silence()).x
    torch.testing.assert_close(other, k * plain, rtol=1e-10, atol=1e-10)


def test_training_levels_are_lognormal():
    """log rho ~ N(-1.2, 1.2^2) on any path."""
    u = torch.tensor([0.5, 0.8413447460685429, 0.15865525393145707], dtype=torch.float64)
    for path in (VE, process.named("vp-linear")):
        found = path.rho(edm.lognormal_times(u, path)).log()
        torch.testing.assert_close(found, torch.tensor([-1.2, 0.0, -2.4], dtype=torch.float64), rtol=0, atol=1e-9)


def test_weight_cancels_the_output_scale():
    """lambda c_out^2 = 1: the loss is the plain squared error of the net's own target."""
    sd, t = 0.5, torch.tensor([0.01, 0.7, 30.0], dtype=torch.float64)
    weight = (t**2 + sd**2) / (t * sd) ** 2
    c_out = t * sd / (t**2 + sd**2).sqrt()
    torch.testing.assert_close(weight * c_out**2, torch.ones_like(t), rtol=1e-14, atol=0)
    guess = Predictor("mean", lambda x, _: torch.zeros_like(x))
    x0 = torch.ones(3, 2, dtype=torch.float64)
    found = edm.loss(guess, x0, t, torch.zeros_like(x0), process=VE, sigma_data=sd)
    torch.testing.assert_close(found, 2 * weight, rtol=1e-13, atol=0)


def test_iddpm_levels_are_the_card_s():
    """u_0, u_8, u_999 and how many lie within [.002, 81] (anchors of the card, from the published recursion)."""
    u = edm.iddpm_levels()
    assert u.shape == (1001,) and u[1000] == 0 and (u[1:] < u[:-1]).all()
    assert [u[0].item(), u[8].item(), u[999].item()] == pytest.approx([20291.17, 80.2037, 6.4254e-3], rel=1e-5)
    assert ((u >= 0.002) & (u <= 81)).sum() == 992


def rho_of(grid, path):
    return path.rho(grid[:-1])


@pytest.mark.parametrize("name", ["vp-linear", "ve-edm", "condot"])
def test_vp_and_ve_grids_are_the_table_s(name):
    """VP: even in t of the VP schedule; VE: geometric. On any path they run from rho(t_max) to rho(t_min), then 0."""
    path = process.named(name).between(1e-3, 0.95) if name == "condot" else process.named(name)
    high, low = path.rho(path.t_max), path.rho(path.t_min)
    vp = rho_of(edm.vp_to_zero(7, path), path)
    # on the VP schedule log(1 + rho^2) is a quadratic in t without constant, and t is even
    curve, t = torch.log1p(vp**2), torch.linspace(1, 1e-3, 7, dtype=torch.float64)
    slope = 2 * (math.log1p(low**2) / 1e-3 - math.log1p(high**2)) / (1e-3 - 1)
    torch.testing.assert_close(curve, slope / 2 * t**2 + (math.log1p(high**2) - slope / 2) * t, rtol=1e-7, atol=1e-12)
    ve = rho_of(edm.ve_to_zero(7, path), path)
    torch.testing.assert_close(ve[1:] / ve[:-1], torch.full((6,), (low / high) ** (1 / 6)).double(), rtol=1e-6, atol=0)
    for made in (edm.vp_to_zero, edm.ve_to_zero):
        assert rho_of(made(7, path), path)[[0, -1]].tolist() == pytest.approx([high, low], rel=1e-9)
        assert made(7, path)[-1] == 0 and made(1, path).tolist() == pytest.approx([path.t_max, 0])


def test_vp_grid_is_even_on_the_vp_path():
    """Table 1: t = 1 + i/(N-1) (1e-3 - 1), to the ends of sig(t): 152.167 and .010486."""
    grid = edm.vp_to_zero(6, process.named("vp-linear"))
    torch.testing.assert_close(grid[:-1], torch.linspace(1, 1e-3, 6, dtype=torch.float64), rtol=1e-9, atol=0)
    levels = edm.vp_level(torch.tensor([1.0, 1e-3], dtype=torch.float64))
    assert levels.tolist() == pytest.approx([152.167, 0.010486], rel=1e-4)


def test_iddpm_grid_takes_levels_evenly_by_index():
    path = process.ve_edm(t_max=81.0)
    grid, u = edm.iddpm_to_zero(18, path), edm.iddpm_levels()
    kept = u[(u >= 0.002) & (u <= 81)]
    expected = [kept[round(991 * i / 17)].item() for i in range(18)]
    assert grid.tolist() == pytest.approx([*expected, 0.0], rel=1e-12) and grid[0].item() == pytest.approx(
        80.2037, rel=1e-5
    )
    assert edm.iddpm_to_zero(1, path).tolist() == pytest.approx([80.20370, 0], rel=1e-6)
    assert edm.iddpm_to_zero(5, VE)[0].item() == pytest.approx(u[9].item(), rel=1e-12)  # where t_max is 80
    assert u[9].item() == pytest.approx(71.29, abs=5e-3)
    like = torch.empty(3, 1, dtype=torch.float64)
    start = catalogue.samplers()["karras2022edm.iddpm"].start(Philox(0, 3), like, grid, path, {})
    torch.testing.assert_close(start, grid[0] * Philox(0, 3).normal("start", like), rtol=1e-15, atol=0)
    coarse = edm.iddpm_to_zero(5, process.ve_edm(t_min=0.02, t_max=81.0))
    assert coarse[-2].item() == pytest.approx(u[u >= 0.02].min().item(), rel=1e-12)
    ends = edm.iddpm_to_zero(2, process.ve_edm(t_min=u[900].item(), t_max=u[100].item()))
    torch.testing.assert_close(ends[:2], u[[100, 900]], rtol=1e-14, atol=0)  # both ends are in the range
    with pytest.raises(grids.BadGrid, match="steps: 993, expected at most 992"):
        edm.iddpm_to_zero(993, path)
    with pytest.raises(grids.BadGrid, match=r"alpha\(t_max\) > 0"):
        edm.vp_to_zero(4, process.named("condot"))


@pytest.mark.parametrize("stage", [1.0, 0.5, 2 / 3, 0.3])
@pytest.mark.parametrize("name", ["vp-linear", "ve-edm", "ve-sqrt", "condot"])
def test_two_stages_are_algorithm_three(name, stage):
    """One interval by hand with the paper's own right-hand side, (sig'/sig + s'/s) x - sig' s/sig D(x/s; sig)."""
    path = process.named(name)
    t, end = (0.6, 0.4) if path.t_max <= 1 else (9.0, 5.0)
    model, x = exact_model(path), torch.tensor([[0.3], [-1.1]], dtype=torch.float64)

    def slope(y, at):
        scale, (alpha_rate, sigma_rate) = path.alpha(at), path.rates(at)
        level = path.sigma(at) / scale
        level_rate = (sigma_rate - level * alpha_rate) / scale
        return (level_rate / level + alpha_rate / scale) * y - level_rate * scale / level * model(y, at)

    h, d = end - t, slope(x, t)
    d_m = slope(x + stage * h * d, t + stage * h)
    expected = x + h * ((1 - 1 / (2 * stage)) * d + 1 / (2 * stage) * d_m)
    grid = torch.tensor([t, end], dtype=torch.float64)
    found = edm.sample(model, x, grid, process=path, draws=Silence(), stage=stage).x
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    euler = edm.sample(model, x, grid, process=path, draws=Silence(), order=1)
    torch.testing.assert_close(euler.x, x + h * d, rtol=1e-11, atol=1e-11)
    assert euler.nfe == 1


def test_the_interval_to_zero_is_euler_s_whatever_the_stage():
    grid = torch.tensor([3.0, 0.5, 0.0], dtype=torch.float64)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    for stage in (0.5, 1.0):
        first = edm.sample(exact_model(VE), x, grid[:2], process=VE, draws=Silence(), stage=stage).x
        run = edm.sample(exact_model(VE), x, grid, process=VE, draws=Silence(), stage=stage)
        torch.testing.assert_close(run.x, exact_model(VE)(first, 0.5), rtol=1e-13, atol=1e-13)
        assert run.nfe == 3


@given(levels)
def test_columns_are_the_table_s(rho):
    """c_skip, c_out, c_in, c_noise of table 1 as formulas; VP's c_noise inverts sig(t)."""
    at, unit = torch.tensor([rho], dtype=torch.float64), 1 / math.sqrt(rho**2 + 1)
    spread = math.sqrt(rho**2 + 0.25)
    u = edm.iddpm_levels().tolist()
    nearest = min(range(1001), key=lambda j: abs(u[j] - rho))
    t = (math.sqrt(0.01 + 2 * 19.9 * math.log1p(rho**2)) - 0.1) / 19.9
    expected = {
        "vp": (1, -rho, unit, 999 * t),
        "ve": (1, rho, 1, math.log(rho / 2)),
        "iddpm": (1, -rho, unit, 999 - nearest),
        "edm": (0.25 / spread**2, rho * 0.5 / spread, 1 / spread, math.log(rho) / 4),
    }
    for name, numbers in expected.items():
        assert [c.item() for c in edm.column(name, at, 0.5)] == pytest.approx(numbers, rel=1e-9, abs=1e-12)
    assert edm.vp_level(torch.tensor(t).double()).item() == pytest.approx(rho, rel=1e-6)


@pytest.mark.parametrize("name", ["vp", "ve", "iddpm", "edm"])
def test_every_column_is_a_parametrisation(name):
    """D = c_skip x + c_out F(c_in x; c_noise) on a path with alpha != 1: D depends on x/alpha and rho alone."""
    path, seen = process.named("vp-linear"), []
    net = lambda y, c: seen.append((y, c)) or torch.tanh(y)  # noqa: E731
    x, rho, alpha = torch.tensor([[0.7], [-0.4]], dtype=torch.float64), path.rho(0.4), path.alpha(0.4)
    found = catalogue.papers()["karras2022edm"].parametrisations[name](net, process=path)(x, 0.4)
    skip, out, level, noise = (c.item() for c in edm.column(name, torch.tensor([rho], dtype=torch.float64), 0.5))
    torch.testing.assert_close(found, skip * x / alpha + out * torch.tanh(level * x / alpha), rtol=1e-13, atol=0)
    torch.testing.assert_close(seen[0][1], torch.full((2,), noise, dtype=torch.float64), rtol=1e-13, atol=0)
    wide = catalogue.papers()["karras2022edm"].parametrisations[name](lambda y, c: y.double(), process=path)
    assert wide(x.float(), 0.4).dtype == torch.float32  # whatever the net computes in


def test_the_other_columns_train_by_their_own_laws():
    """training/loss.py: VP t ~ U(1e-5, 1), VE log rho ~ U(log .02, log 100); iDDPM: levels, each equally often."""
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    t = torch.tensor([1e-5, 0.5 + 0.5e-5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        VE.rho(edm.vp_times(u, VE)), (19.9 * t**2 / 2 + 0.1 * t).expm1().sqrt(), rtol=1e-9, atol=0
    )
    assert edm.ve_times(u, VE).tolist() == pytest.approx([0.02, math.sqrt(2), 100], rel=1e-12)
    places = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    torch.testing.assert_close(edm.iddpm_times(places, VE), edm.iddpm_levels()[:1000].flip(0), rtol=1e-12, atol=0)
    assert edm.iddpm_times(u, VE)[[0, 2]].tolist() == pytest.approx([6.4254e-3, 20291.17], rel=1e-4)


@pytest.mark.parametrize("name", ["vp-linear", "ve-sqrt"])
def test_weight_of_the_other_columns_is_the_noise_s(name):
    """1/rho^2 |D - x0|^2 = |eps_hat - eps|^2, summed over the sample."""
    path, t = process.named(name), torch.tensor([0.2, 0.7], dtype=torch.float64)
    x0, noise = (
        torch.tensor([[0.3, 1.0], [-0.5, 0.1]], dtype=torch.float64),
        torch.tensor([[0.1, -1.0], [2.0, 0.4]]).double(),
    )
    guess = Predictor("mean", lambda x, _: 0.4 * x)
    x = path.noised(x0, t, noise)
    alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
    eps = (x - alpha * 0.4 * x) / sigma
    found = edm.eps_loss(guess, x0, t, noise, process=path)
    torch.testing.assert_close(found, (eps - noise).square().sum(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"order": 3}, "order, stage: 3, 1.0"), ({"stage": 0.0}, "a share in"), ({"stage": 1.2}, "stage: 2, 1.2"),
     ({"churn": -1.0}, "churn: -1.0, expected a number >= 0"), ({"churn_noise": 0.0}, "churn_noise: 0.0, expected"),
     ({"order": 2.0}, "order, stage: 2.0, 1.0"), ({"churn_noise": math.inf}, "churn_noise: inf, expected a finite"),
     ({"churn_min": 5.0, "churn_max": 1.0}, "churn_min, churn_max: 5.0, 1.0, expected levels with"),
     ({"churn_min": math.nan}, "churn_min, churn_max: nan, inf"), ({"churn_max": math.nan}, "churn_max: 0.0, nan")],
)  # fmt: skip
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        edm.plan(grids.power_to_zero(7.0)(3, VE), VE, **options)
    condot = process.named("condot")
    with pytest.raises(grids.BadGrid, match="grid: starts at 1, where alpha = 0: no level for churn above"):
        edm.plan(grids.uniform_t(3, condot), condot, churn=1.0)
    assert all(column.isfinite().all() for column in edm.plan(grids.uniform_t(3, condot), condot))
    with pytest.raises(ValueError, match="name: 'v', expected 'vp', 've', 'iddpm' or 'edm'"):
        edm.precondition(lambda x, c: x, process=VE, name="v")


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, math.nan, math.inf])
def test_a_deviation_that_is_none_is_refused_before_anything_is_evaluated(sigma_data):
    def never(x, t):
        raise AssertionError("evaluated")

    with pytest.raises(ValueError, match=f"sigma_data: {sigma_data!r}, expected a number > 0"):
        edm.precondition(never, process=VE, sigma_data=sigma_data)
    one = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"sigma_data: {sigma_data!r}, expected a number > 0"):
        edm.loss(Predictor("mean", never), one, one[0], one, process=VE, sigma_data=sigma_data)
    for name in ("vp", "ve", "iddpm"):  # those columns have no deviation
        edm.precondition(never, process=VE, sigma_data=sigma_data, name=name)


@pytest.mark.parametrize(("steps", "index"), [(21, 842), (29, 884), (37, 908)])
def test_iddpm_levels_round_as_in_generate(steps, index):
    """991 levels lie in [.002, 80]: at a tie the code's stride times the step lies on the other side of the half."""
    u = edm.iddpm_levels()
    kept = u[(u >= 0.002) & (u <= 80)]
    code = (990 / (steps - 1) * torch.arange(steps, dtype=torch.float64)).round().long()
    grid = edm.iddpm_to_zero(steps, process.named("ve-edm"))
    assert len(kept) == 991 and torch.equal(grid[:-1], process.named("ve-edm").time_of_logsnr(-kept[code].log()))
    plain = (torch.linspace(0, 1, steps, dtype=torch.float64) * 990).round().long()
    assert not torch.equal(code, plain)
