"""berner2024dis: the numbered invariants of its card, and numbers of the official implementation."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from benchmarks.laws import control as laws
from benchmarks.laws.control import affine, loss_moments, weight_moments
from benchmarks.laws.steered import objective, specimen
from reference_impls import catalogue, targets
from reference_impls.control import berner2024dis as dis
from reference_impls.core import fit, grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, WrongKind, prior_of_process
from reference_impls.targets.densities import Gaussian, Grid, exact_control

VP, BRIDGE = process.named("vp-10"), process.named("brownian-bridge")
SAMPLERS = {card.id.split(".")[1]: card for card in dis.PAPER.samplers}
LOSSES = {card.id.split(".")[1]: card for card in dis.PAPER.objectives}
CARD = Gaussian((1.3,), 0.6, 0.8)  # the Gaussian of invariants 1 and 2
STEPS = (25, 50, 100, 200, 400, 800)


def normals(tag, *shape):
    return Philox(7, shape[0]).normal(tag, torch.empty(shape, dtype=torch.float64))


def given(noise):
    return dis.Given(noise)


def fine_moments(sample, model, steps, where, target):
    """Mean, variance and log E exp of the log weight, exactly, at any number of steps.

    A quadratic form c + b.z + z'Hz/2 has the gradient b at 0 and b + H e_i at e_i: one run of steps + 2 rows.
    """
    size = steps + 1
    z = torch.cat([torch.zeros(1, size), torch.eye(size)]).double().requires_grad_()
    grid = grids.uniform_t(steps, where)
    x, noise = where.prior_std * z[:, :1], z[:, 1:].T[:, :, None]
    weight = sample(model, x, grid, process=where, draws=given(noise), log_density=target.log_density).log_weight
    gradient = torch.autograd.grad(weight.sum(), z)[0]
    slope, curve = gradient[0], gradient[1:] - gradient[0]
    assert (curve - curve.T).abs().max() <= 1e-9 * curve.abs().max()
    rest = torch.eye(size).double() - (curve + curve.T) / 2
    assert torch.linalg.eigvalsh(rest)[0] > 0
    log_mean = weight[0] - torch.logdet(rest) / 2 + slope @ torch.linalg.solve(rest, slope) / 2
    mean, variance = weight[0] + curve.trace() / 2, slope @ slope + (curve**2).sum() / 2
    return mean.item(), variance.item(), log_mean.item()


@pytest.fixture(scope="module")
def table():
    """Mean, variance and log E exp of the published weights at the optimal control, for each of STEPS."""
    return [fine_moments(dis.dis, exact_control(CARD, VP), steps, VP, CARD) for steps in STEPS]


def test_table_at_the_optimal_control(table):
    """Invariant 1. The card's numbers are Monte Carlo; ours have the error of rounding alone."""
    card = {
        "mean": (0.410, 0.613, 0.706, 0.751, 0.773, 0.783),
        "variance": (1.11, 0.49, 0.235, 0.120, 0.0645, 0.0375),
    }
    exact = (0.4085591436, 0.6101272229, 0.7043549454, 0.7499443035, 0.7723711292, 0.7834941764)
    exact_variance = (1.1125210349, 0.4923782695, 0.2364152588, 0.1200944691, 0.0646448256, 0.0375737426)
    means, variances, _ = zip(*table, strict=True)
    assert means == pytest.approx(exact, abs=1e-9) and variances == pytest.approx(exact_variance, abs=1e-9)
    assert means == pytest.approx(card["mean"], abs=0.004) and variances == pytest.approx(card["variance"], rel=0.01)


def test_errors_are_linear_in_dt_down_to_the_mismatch_of_the_prior(table):
    """Invariant 1: -mean -> log Z - KL(prior || p_T), variance -> Var log(prior / p_T)."""
    mu = 1.3 * VP.alpha(1.0)
    variance = (0.6 * VP.alpha(1.0)) ** 2 + VP.sigma(1.0) ** 2
    divergence = ((1 + mu**2) / variance - 1 + math.log(variance)) / 2
    floor = laws.floor_of(VP, CARD)
    assert (mu, divergence, floor) == pytest.approx((0.104, 0.0054, 0.011), abs=6e-4)
    means, variances, _ = zip(*table, strict=True)
    for values, limit in ((means, 0.8 - divergence), (variances, floor)):
        # Richardson twice: what is left is O(dt^3) of an error of order 1 that is .01 at the finest
        once = [2 * b - a for a, b in zip(values, values[1:], strict=False)]
        twice = [(4 * b - a) / 3 for a, b in zip(once, once[1:], strict=False)]
        assert twice[-1] == pytest.approx(limit, abs=1e-4)


def test_no_floor_from_the_exact_start():
    """Invariant 1: x_T drawn from p_T and scored with it; the variance itself falls linearly."""
    centred = Gaussian((0.0,), 0.6, 0.8)
    where = replace(VP, prior_std=math.hypot(0.6 * VP.alpha(1.0), VP.sigma(1.0)))
    found = [fine_moments(dis.dis, exact_control(centred, VP), steps, where, centred) for steps in (100, 200, 400)]
    ratios = [found[i][1] / found[i + 1][1] for i in range(2)]
    assert ratios == pytest.approx([2, 2], abs=0.15) and abs(ratios[1] - 2) < abs(ratios[0] - 2)
    assert 2 * found[2][0] - found[1][0] == pytest.approx(0.8, abs=1e-3)


def test_published_weights_are_biased_to_first_order(table):
    """Invariant 2; the card's biases are of 4e5 paths, whose standard error is up to .0014."""
    bias = [log_mean - 0.8 for _, _, log_mean in table]
    exact = (0.0632462125, 0.0330625503, 0.0169226603, 0.0085635110, 0.0043078700, 0.0021605366)
    assert bias == pytest.approx(exact, abs=1e-9)
    assert bias == pytest.approx((0.064, 0.035, 0.018, 0.009, 0.0045, 0.002), abs=0.002)
    assert bias[4] / bias[5] == pytest.approx(2, abs=0.01)


def test_divergence_must_be_integrated_exactly(table):
    """Pitfall: with the divergence at the left end the bias at N = 25 grows by dt (beta_T - beta_0) / 4 = .099.

    The card prints .18 for the sum of .063 and .099.
    """
    plan = dis.euler_plan(grids.uniform_t(25, VP), VP)
    exact = -plan.back.log().sum().item()
    left = (plan.keep - 1).sum().item()
    assert exact == pytest.approx((0.1 + 10) / 4, abs=1e-12)
    assert left - exact == pytest.approx(9.9 / 4 / 25, abs=1e-12)
    assert table[0][2] - 0.8 + left - exact == pytest.approx(0.1622, abs=1e-4)


@pytest.mark.parametrize("name", ["dis_unbiased", "pis", "dds"])
@pytest.mark.parametrize("steps", [1, 2, 20, 128])
def test_unbiased_on_a_gaussian(name, steps):
    """Invariants 3 and 4: E exp(log_weight) = Z and E log_weight <= log Z, optimal and arbitrary affine controls."""
    card = SAMPLERS[name]
    where = process.named(card.path)
    for model in (exact_control(CARD, where, card.base), affine((0.3, -0.2, 0.5)), affine((0.0, 0.0, 0.0))):
        mean, variance, log_mean = fine_moments(card.sample, model, steps, where, CARD)
        assert log_mean == pytest.approx(0.8, abs=1e-11)
        assert 0.8 - mean > 0 and variance > 0


def hermite(points):
    """Nodes and weights of N(0, 1) (Golub & Welsch)."""
    off = torch.arange(1, points, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0] ** 2


def quadrature(points, variables):
    """[points^variables, variables] nodes and their weights."""
    nodes, weights = hermite(points)
    z = torch.stack(torch.meshgrid(*[nodes] * variables, indexing="ij"), -1).reshape(-1, variables)
    w = torch.stack(torch.meshgrid(*[weights] * variables, indexing="ij"), -1).reshape(-1, variables).prod(1)
    return z, w


def bumpy(x):
    """log of a density that is no Gaussian: quartic tails and a ripple."""
    return (0.4 * torch.sin(2 * x) - x**2 / 3 - x**4 / 50).sum(1)


BUMPY_LOG_Z = math.log(
    (bumpy(torch.linspace(-12, 12, 4801, dtype=torch.float64)[:, None]).exp().sum() * 24 / 4800).item()
)


@pytest.mark.parametrize("name", ["dis_unbiased", "pis", "dds"])
@pytest.mark.parametrize("steps", [1, 2])
def test_unbiased_on_any_density(name, steps):
    """Invariant 3 without Gaussians or straight controls, by Gauss-Hermite over start and noise.

    In the hardest case the error falls as 9e-7, 6e-9, 8e-11 with 40, 60 and 80 nodes: it is the quadrature's.
    """
    card = SAMPLERS[name]
    where = process.named(card.path)
    grid = torch.tensor([0.9, 0.55, 0.3] if steps == 2 else [0.5, 0.3], dtype=torch.float64) * where.t_max
    if name == "pis":  # its reference starts as a point: any start is its own law's, so let it start later, and spread
        where = replace(where, prior_std=math.sqrt(1 - grid[0].item()))
    model = Predictor("control", lambda x, t: 0.3 * torch.tanh(x) - 0.4 * t * torch.cos(x))
    z, w = quadrature(60, steps + 1)
    x, noise = where.prior_std * z[:, :1], z[:, 1:].T[:, :, None]
    run = card.sample(model, x, grid, process=where, draws=given(noise), log_density=bumpy)
    assert (w.log() + run.log_weight).logsumexp(0).item() == pytest.approx(BUMPY_LOG_Z, abs=1e-7)


@pytest.mark.parametrize("name", ["dis_unbiased", "pis", "dds"])
def test_unbiased_on_nine_modes_within_five_standard_errors(name):
    """Invariant 3 as the card tests it: the log of the mean weight, here on the modes with 2e4 paths of 10 steps."""
    card, target, n = SAMPLERS[name], Grid(), 20_000
    where = process.named(card.path)
    grid, draws = grids.uniform_t(10, where), Philox(11, n)
    x = prior_of_process(draws, torch.empty(n, 2, dtype=torch.float64), grid, where, {})
    model = exact_control(target, where, card.base)
    run = card.sample(model, x, grid, process=where, draws=draws, log_density=target.log_density)
    weight = run.log_weight.exp()
    assert (weight.mean() - 1).abs() <= 5 * weight.std() / n**0.5


def test_gap_of_the_bound_is_a_divergence_of_path_laws():
    """Invariant 4: with u = 0 the paths are the reference's and the gap is KL(reference || p)."""
    for name, where in (("pis", BRIDGE), ("dds", VP)):
        grid = grids.uniform_t(7, where)
        mean = weight_moments(SAMPLERS[name], affine((0.0, 0.0, 0.0)), grid, where, CARD).mean.item()
        divergence = math.log(0.6) + (1 + 1.3**2) / (2 * 0.36) - 0.5
        assert 0.8 - mean == pytest.approx(divergence, abs=1e-10)
        flat = weight_moments(SAMPLERS[name], affine((0.0, 0.0, 0.0)), grid, where, Gaussian((0.0,), 1.0, 0.8))
        assert flat.variance.item() <= 1e-20 and flat.mean.item() == pytest.approx(0.8, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_constants_move_no_gradient(name):
    """Invariant 5: + c in log rho is - c in every loss, and nothing in the variance or in a gradient."""
    card, where = LOSSES[name], process.named(LOSSES[name].path)
    x, noise = normals("x", 6, 2), normals("noise", 6, 9, 2).transpose(0, 1)
    theta = torch.tensor([0.4, -0.1, 0.3], dtype=torch.float64, requires_grad=True)
    grid, target, results = grids.uniform_t(9, where), Grid(), []
    for c in (0.0, 3.5):
        model = Predictor("control", lambda y, t: theta[0] * torch.tanh(y) + theta[1] * y + theta[2] * t)
        loss = card.loss(model, x, grid, noise, process=where, log_density=lambda y, c=c: target.log_density(y) + c)
        reduced = loss.var() if card.reduce == "variance" else loss.mean()
        results.append((loss.detach(), torch.autograd.grad(reduced, theta)[0]))
    scale = results[0][0].abs().max().item()
    assert (results[0][0] - results[1][0] - 3.5).abs().max() <= 1e-13 * scale
    assert (results[0][1] - results[1][1]).abs().max() <= 1e-12 * results[0][1].abs().max()


@pytest.mark.parametrize("pair", [("kl", "log_variance"), ("kl_ito", "log_variance"), ("pis_kl", "pis_log_variance"),
                                  ("dds_kl", "dds_log_variance")], ids=lambda pair: pair[0])  # fmt: skip
def test_log_variance_gradient_is_twice_that_of_kl(pair):
    """Invariant 6 (G14: 2 exactly), by Gauss-Hermite over the start and two steps, with a control that bends."""
    where = process.named(LOSSES[pair[0]].path)
    grid = torch.tensor([0.62, 0.5, 0.41], dtype=torch.float64)
    z, w = quadrature(32, 3)
    x, noise = 0.8 * z[:, :1], z[:, 1:].T[:, :, None]
    gradients = []
    for name in pair:
        theta = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
        model = Predictor(
            "control", lambda y, t, p=theta: p[0] * torch.tanh(y) + p[1] * y + p[2] * t * torch.cos(y + p[0])
        )
        loss = LOSSES[name].loss(model, x, grid, noise, process=where, log_density=bumpy)
        mean = (w * loss).sum()
        reduced = (w * (loss - mean) ** 2).sum() if LOSSES[name].reduce == "variance" else mean
        gradients.append(torch.autograd.grad(reduced, theta)[0])
    assert (gradients[1] - 2 * gradients[0]).norm() <= 1e-6 * gradients[1].norm()


@pytest.mark.parametrize(("name", "where"), [("pis", BRIDGE), ("dds", VP)])
def test_weights_are_log_z_where_nothing_is_to_be_done(name, where):
    """Invariant 7: u = 0 on rho = Z N(0, 1), the law of the uncontrolled process."""
    x, noise = where.prior_std * normals("x", 5, 3), normals("noise", 5, 8, 3).transpose(0, 1)
    nothing = Predictor("control", lambda y, t: torch.zeros_like(y))
    target = Gaussian((0.0, 0.0, 0.0), 1.0, -2.5)
    for grid in (grids.uniform_t(8, where), grids.quadratic_t(8, where)):
        run = SAMPLERS[name].sample(nothing, x, grid, process=where, draws=given(noise), log_density=target.log_density)
        assert (run.log_weight + 2.5).abs().max() <= 1e-13


@pytest.mark.parametrize("name", SAMPLERS)
def test_turning_the_target_turns_the_samples(name):
    """Invariant 8 on the nine modes with their exact control: samples turn, weights stay."""
    card = SAMPLERS[name]
    where, target = process.named(card.path), Grid()
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.9], [-0.9, 0.0]], dtype=torch.float64))
    model = exact_control(target, where, card.base)
    turned = Predictor("control", lambda y, t: model(y @ turn, t) @ turn.T)
    grid = grids.uniform_t(12, where)
    x, noise = where.prior_std * normals("x", 6, 2), normals("noise", 6, 12, 2).transpose(0, 1)
    runs = [
        card.sample(model, x, grid, process=where, draws=given(noise), log_density=target.log_density),
        card.sample(turned, x @ turn.T, grid, process=where, draws=given(noise @ turn.T),
                    log_density=lambda y: target.log_density(y @ turn)),
    ]  # fmt: skip
    torch.testing.assert_close(runs[0].x @ turn.T, runs[1].x, rtol=0, atol=1e-11)
    torch.testing.assert_close(runs[0].log_weight, runs[1].log_weight, rtol=1e-12, atol=1e-10)


def test_minus_log_density_solves_the_control_equation():
    """V = -log p_t in generative time: V' = - g^2 (Laplace V)/2 - m.grad V + div m + |g grad V|^2/2, m = -f x."""
    target = Grid()
    for where in (VP, process.named("subvp"), process.named("ve-edm")):
        for t in (0.3, 0.6):
            x = (2 * normals("x", 8, 2)).requires_grad_()
            time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
            value = -target.log_prob(x, where.alpha(time), where.sigma(time))
            slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
            laplace = sum(torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
            in_time = torch.stack([torch.autograd.grad(v, time, retain_graph=True)[0] for v in value])
            f, g = dis.drift_and_diffusion(time.detach(), where)
            rest = -(g**2) * laplace / 2 + f * (x * slope).sum(1) - 2 * f + g**2 * slope.square().sum(1) / 2
            assert (-in_time - rest).abs().max() <= 1e-10 * in_time.abs().max()


def test_reference_weights_are_the_ratio_of_kernels():
    """By Bayes the two ways to weigh a PIS or DDS path agree: exact kernels forwards, or the noising backwards."""
    for where in (VP, process.brownian_bridge(t_max=0.999)):
        grid, x = grids.uniform_t(9, where), where.prior_std * normals("x", 4, 2)
        draws, target = Philox(3, 4), Grid()
        model = Predictor("control", lambda y, t: torch.tanh(y) - t)
        run = dis.reference(model, x, grid, process=where, draws=draws, log_density=target.log_density)
        ratio = dis.drive(
            dis.reference_plan(grid, where), dis.ratio_step, model, x, draws=draws, consumes="control",
            memory=torch.zeros(4, dtype=torch.float64),
        )  # fmt: skip
        start = dis.log_normal(x, where.prior_std)
        weight = target.log_density(ratio.x) - start - ratio.memory
        torch.testing.assert_close(weight, run.log_weight, rtol=1e-11, atol=1e-9)


def test_pis_is_brownian_motion_and_dds_is_stationary():
    grid = grids.uniform_t(10, BRIDGE)
    plan = dis.reference_plan(grid, BRIDGE)
    torch.testing.assert_close(plan.keep, torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(plan.kick, (-grid.diff()).sqrt(), rtol=1e-9, atol=0)
    torch.testing.assert_close(plan.push, plan.kick, rtol=1e-9, atol=0)  # g = 1
    plan = dis.reference_plan(grids.uniform_t(10, VP), VP)
    torch.testing.assert_close(plan.keep**2 + plan.kick**2, torch.ones(10, dtype=torch.float64), rtol=0, atol=1e-14)
    betas = dis.cosine_betas()
    assert betas.shape == (129,) and betas.sum().item() == pytest.approx(6.4, abs=1e-12)
    plan = dis.reference_plan(grids.uniform_t(129, process.discrete(betas)), process.discrete(betas))
    torch.testing.assert_close(plan.kick**2, betas.flip(0), rtol=1e-10, atol=1e-15)


def bent(t_generative, x):
    return 0.5 * torch.tanh(x) + math.sin(3 * t_generative) - 0.2 * x.flip(1)


# log rho-weights of juliusberner/sde_sampler in float64, Philox(7, 2) noise, its GMM "grid", control `bent`
OFFICIAL = {
    "kl": (633.1323308872938, 136.22634275879582),
    "kl_ito": (630.9401797644831, 136.742669141414),
    "log_variance": (622.5778451817469, 128.83202597225224),
    "x": (-15.295022531752544, -13.731928396063505),
    "pis": (7.357815612433538, 1.435721093305376),
    "pis_x": (-0.28941414011042965, -1.1644646636159397),
    "dds": (6.202045901943419, 9.124806659853963),
    "dds_x": (-3.167854044680453, -1.1612626737098648),
}


def same(found, name):
    assert found.tolist() == pytest.approx(OFFICIAL[name], rel=1e-11), name


def test_official_numbers():
    x, target = normals("start", 2, 2), Grid()

    def noise(steps):
        return Philox(7, 2).block(steps, "step", x)

    model = Predictor("control", lambda y, t: bent(1 - t, y))
    grid = grids.uniform_t(4, VP)
    run = dis.dis(model, x, grid, process=VP, draws=given(noise(4)), log_density=target.log_density)
    same(-run.log_weight, "log_variance")
    same(run.x[:, 0], "x")
    for name in ("kl", "kl_ito", "log_variance"):
        same(LOSSES[name].loss(model, x, grid, noise(4), process=VP, log_density=target.log_density), name)
    bridge = process.brownian_bridge(t_max=1 - 2.0**-44)  # theirs: from the point 0 over T = 5 with sigma^2 = .2
    scaled = Predictor("control", lambda y, t: math.sqrt(5) * bent(5 * (1 - t), y))
    aids = {"process": bridge, "draws": given(noise(4)), "log_density": target.log_density}
    run = dis.reference(scaled, torch.zeros_like(x), grids.uniform_t(4, bridge), **aids)
    same(-run.log_weight, "pis")
    same(run.x[:, 0], "pis_x")
    betas = dis.cosine_betas()
    chain, times = process.discrete(betas), torch.cat([torch.zeros(1).double(), betas.flip(0).cumsum(0)])

    def unscaled(y, t):  # their DDS control is u / g
        g = dis.drift_and_diffusion(torch.tensor(t, dtype=torch.float64), chain)[1].item()
        return g * bent(times[round((1 - t) * 129)].item(), y)

    aids = {"process": chain, "draws": given(noise(129)), "log_density": target.log_density}
    run = dis.reference(Predictor("control", unscaled), x, grids.uniform_t(129, chain), **aids)
    same(-run.log_weight, "dds")
    same(run.x[:, 0], "dds_x")


def test_estimates_of_log_z():
    weight = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)
    ito = torch.tensor([0.3, 0.0, -0.2, 0.7], dtype=torch.float64)
    run = dis.Run(torch.zeros(4, 1), 3.0, 0.0, weight, dis.Path(ito, ito))
    w = weight.exp()
    expected = (0.4 + 0.2, 0.4, math.log(w.mean().item()), (w.sum() ** 2 / (w**2).sum()).item())
    assert [value.item() for value in dis.log_z(run)] == pytest.approx(expected, rel=1e-14)
    same_weights = dis.log_z(run._replace(log_weight=torch.full((4,), 900.0)))  # beyond exp in float64
    assert same_weights.effective.item() == pytest.approx(4) and same_weights.importance.item() == pytest.approx(900.0)


def test_parametrisations():
    x, target = 3 * normals("x", 5, 2), Grid()

    def silent(y, t):
        return torch.zeros(len(y), 3, dtype=y.dtype)

    lerp = dis.interpolated_score(silent, process=VP, score=target.score)
    torch.testing.assert_close(lerp(x, 1.0), -math.sqrt(10) * x)  # the prior's score, times g
    wide = process.named("ve-edm").between(0.01, 3.0)
    g = math.sqrt(2 * 3.0)  # of x_t = x0 + t eps: g^2 = 2 t
    at_top = dis.interpolated_score(silent, process=wide, score=target.score)(x, 3.0)
    torch.testing.assert_close(at_top, -g * x / wide.prior_std**2)
    near = 1e-10  # at t = 0 itself g is 0/0, and no path is evaluated there
    torch.testing.assert_close(lerp(x, near), math.sqrt(0.1) * target.score(x))
    half = (target.score(x) - x) / 2
    g = math.sqrt(5.05)
    clipped = dis.interpolated_score(silent, process=VP, score=target.score, clip=2.0, scale=0.7)
    torch.testing.assert_close(clipped(x, 0.5), g * 0.7 * half.clamp(-2, 2))
    plain = dis.target_score(silent, process=VP, score=target.score)
    torch.testing.assert_close(plain(x, 0.5), g * 0.01 * target.score(x))

    def speaking(y, t):
        return torch.cat([5 * y, t[:, None]], 1)

    full = dis.interpolated_score(speaking, process=VP, score=target.score, clip=2.0)
    rows = torch.full((5,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(full(x, 0.5), (5 * x).clamp(-2, 2) + g * 1.5 * half.clamp(-2, 2))
    torch.testing.assert_close(full(x, 0.5), full(x, rows), rtol=1e-14, atol=1e-14)
    full = dis.target_score(speaking, process=VP, score=target.score, clip=2.0)
    torch.testing.assert_close(full(x, 0.5), g * ((5 * x).clamp(-2, 2) + 0.51 * target.score(x).clamp(-2, 2)))
    torch.testing.assert_close(full(x, 0.5), full(x, rows), rtol=1e-14, atol=1e-14)
    with pytest.raises(ValueError, match=r"net: output is \(5, 2\), expected \(5, 3\)"):
        dis.target_score(lambda y, t: y, process=VP, score=target.score)(x, 0.5)


class Line(torch.nn.Module):
    """The least net: a control affine in x and t, and a scale of t alone, so that weights stay quadratic."""

    def __init__(self):
        super().__init__()
        self.control = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.scale = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x, t):
        one = torch.ones_like(t)
        return torch.stack(
            [torch.stack([x[:, 0], t, one], 1) @ self.control, torch.stack([t, one], 1) @ self.scale], 1
        )


@pytest.mark.parametrize("name", ["kl", "log_variance", "pis_kl", "dds_log_variance"])
def test_training_reaches_the_optimal_control(name):
    """With the training loop, each loss closes 99 % of its distance to the loss of the optimal control, or beats that:
    with 8 steps the optimum of continuous time is not the best."""
    card = LOSSES[name]
    where, target = process.named(card.path), Gaussian((0.8,), 0.7, 0.4)
    net = Line()
    wrap = dis.interpolated_score if card.base == "noising" else dis.target_score
    model = wrap(net, process=where, score=target.score)
    grid, like = grids.uniform_t(8, where), torch.zeros(64, 1, dtype=torch.float64)

    def expected(control):
        return getattr(loss_moments(card, control, grid, where, target), card.reduce).item()

    before, optimal = expected(model), expected(exact_control(target, where, card.base))
    losses = fit.path_losses(card, model, like, grid, process=where, log_density=target.log_density)
    plan = fit.Plan(steps=60, batch=64, rate=0.1, ema=0.0)
    for _ in fit.fit(net, losses, plan, seed=1, reduce=card.reduce):
        pass
    assert before > optimal and expected(model) - optimal <= 0.01 * (before - optimal)


def test_bad_input_is_named():
    x, grid = torch.zeros(2, 1, dtype=torch.float64), grids.uniform_t(3, VP)
    model, target = affine((0.0, 0.0, 0.0)), CARD
    with pytest.raises(ValueError, match=r"noise: shape is \(2, 2, 1\), expected \(3, 2, 1\)"):
        dis.kl(model, x, grid, torch.zeros(2, 2, 1), process=VP, log_density=target.log_density)
    condot, aids = process.named("condot"), {"draws": Philox(0, 2), "log_density": target.log_density}
    with pytest.raises(grids.BadGrid, match="condot has alpha = 0"):
        dis.dis(model, x, grids.uniform_t(3, condot), process=condot, **aids)
    with pytest.raises(WrongKind):
        dis.dis(Predictor("mean", lambda y, t: y), x, grid, process=VP, **aids)


def test_cards():
    assert set(SAMPLERS) == {"dis", "dis_unbiased", "pis", "dds"}
    assert {name for name, card in SAMPLERS.items() if card.baseline} == {"pis", "dds"}
    assert {name for name, card in SAMPLERS.items() if card.unbiased} == {"dis_unbiased", "pis", "dds"}
    assert catalogue.papers()["berner2024dis"] is dis.PAPER
    assert targets.named("grid9").log_Z == 0.0


@pytest.mark.parametrize(("law", "card"), [
    pytest.param(law, card, id=f"{law.name}-{card.id}-{getattr(card, 'reduce', '')}")
    for law, card in product(laws.LAWS, (specimen(), objective("mean"), objective("variance")))
    if law.subject == ("sampler" if hasattr(card, "sample") else "objective") and law.applies(card)
])  # fmt: skip
def test_healthy_specimens_pass(law, card):
    law.check(card)


def test_losses_and_weights_are_of_one_functional():
    """The variance of the published weights is the value of the log-variance loss, exactly, at any control."""
    for name, weights in (("log_variance", "dis"), ("pis_log_variance", "pis"), ("dds_log_variance", "dds")):
        where = process.named(LOSSES[name].path)
        grid, model = grids.uniform_t(6, where), affine((0.3, -0.2, 0.5))
        found = loss_moments(LOSSES[name], model, grid, where, CARD)
        other = weight_moments(SAMPLERS[weights], model, grid, where, CARD)
        assert found.variance.item() == pytest.approx(other.variance.item(), rel=1e-11)
        assert found.mean.item() == pytest.approx(-other.mean.item(), rel=1e-11)
