"""ho2022cfg: the combination, its Gaussian closed form, training without a condition, what is evaluated and refused."""

import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from reference_impls import targets
from reference_impls.continuous import ho2022cfg as cfg
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Conditional, Predictor, WrongKind, expand, require

VE, VP = process.named("ve-edm"), process.named("vp-linear").between(0.05, 0.9)
LABELS = torch.tensor([0, 2, 1, 1, -1, 0])


def normals(*shape: int, tag: str = "x") -> torch.Tensor:
    return Philox(3, shape[0]).normal(tag, torch.empty(shape, dtype=torch.float64))


def classes(path=VP, name: str = "mixture-2d"):
    return targets.ExactGiven(targets.named(name), path)


def run(sample, model, x, grid, path=VP, seed=0, **options):
    return sample(model, x, grid, process=path, draws=Philox(seed, x.shape[0]), **options)


class Watched:
    """A conditional model that keeps the rows of every evaluation and the labels they were evaluated under."""

    kind = "mean"

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, x, t):
        self.seen.append((x.shape[0], None))
        return self.model(x, t)

    def given(self, condition):
        told = self.model.given(condition)
        return Predictor("mean", lambda x, t: self.seen.append((x.shape[0], condition)) or told(x, t))


# the combination


@pytest.mark.parametrize("guidance", [-0.5, 0.0, 0.3, 1.0, 1.5, 7.0])
def test_the_guided_mean_is_the_combination(guidance):
    model, x = classes(), normals(6, 2)
    c, u = model.given(LABELS)(x, 0.4), model(x, 0.4)
    found = cfg.guided(model, LABELS, guidance)(x, 0.4)
    torch.testing.assert_close(found, u + guidance * (c - u), rtol=1e-12, atol=1e-12)
    rows = torch.full((6,), 0.4, dtype=torch.float64)
    torch.testing.assert_close(cfg.guided(model, LABELS, guidance)(x, rows), found, rtol=1e-12, atol=1e-12)


def test_guiding_the_noise_or_the_score_is_guiding_the_mean():
    """Equation 6 is on the noise: (1 + w) e_c - w e_u with w = guidance - 1; its mean is the guided one."""
    model, x, w = classes(), normals(6, 2), 1.7
    alpha, sigma = VP.alpha(0.4), VP.sigma(0.4)
    e_c, e_u = ((x - alpha * mean) / sigma for mean in (model.given(LABELS)(x, 0.4), model(x, 0.4)))
    guided = (x - sigma * ((1 + w) * e_c - w * e_u)) / alpha
    torch.testing.assert_close(cfg.guided(model, LABELS, 1 + w)(x, 0.4), guided, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("guidance, mixer", [(7.0, 0.15), (4.0, 0.5), (1.0, 0.15), (2.0, 0.0), (2.0, 1.0), (0.0, 0.3)])
def test_the_third_branch_is_mixed_into_the_condition(guidance, mixer):
    """u + g ((1 - m) c + m c_pos - u), by the definition in IF's base.py; m = 0 is guidance as ever."""
    model, x, positive = classes(), normals(6, 2), torch.tensor([1, 1, 0, 2, 0, 2])
    c, p, u = model.given(LABELS)(x, 0.4), model.given(positive)(x, 0.4), model(x, 0.4)
    found = cfg.guided(model, cfg.Mixed(LABELS, positive), guidance, mixer=mixer)(x, 0.4)
    torch.testing.assert_close(found, u + guidance * (c * (1 - mixer) + p * mixer - u), rtol=1e-12, atol=1e-12)


def test_the_third_branch_as_run_in_the_official_code():
    """model_fn of IF's modules/base.py, run on eps = [1, 2], [3, 5], [-1, 4] (c, positive, none), g 7, m .15."""
    values = {0: torch.tensor([1.0, 2.0]), 1: torch.tensor([3.0, 5.0]), -1: torch.tensor([-1.0, 4.0])}
    model = Conditional("mean", lambda x, t, label: torch.stack([values[k] for k in label.tolist()]).double())
    mixed = cfg.Mixed(torch.tensor([0]), torch.tensor([1]))
    found = cfg.guided(model, mixed, 7.0)(torch.zeros(1, 2), 0.5)
    torch.testing.assert_close(found, torch.tensor([[15.1, -6.85]], dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sample", [cfg.ancestral, cfg.flow])
def test_samplers_take_the_third_branch(sample):
    """A Mixed condition is the guided mean of both in every step, .15 of it the second where nothing else is said."""
    model, x, grid = classes(), normals(6, 2), torch.tensor([0.8, 0.4], dtype=torch.float64)
    mixed = cfg.Mixed(LABELS, torch.tensor([1, 1, 0, 2, 0, 2]))
    rows = (cfg.ancestral_plan if sample is cfg.ancestral else cfg.flow_plan)(grid, VP)
    noise = rows.noise[0] * Philox(0, 6).at(0).normal("step", x)
    for options, mixer in (({}, 0.15), ({"mixer": 0.5}, 0.5)):
        found = run(sample, model, x, grid, condition=mixed, guidance=3.0, **options)
        mean = cfg.guided(model, mixed, 3.0, mixer=mixer)(x, 0.8)
        torch.testing.assert_close(found.x, rows.keep[0] * x + rows.now[0] * mean + noise, rtol=1e-12, atol=1e-12)
        assert found.nfe == 3.0


# what is evaluated


@pytest.mark.parametrize("sample", [cfg.ancestral, cfg.flow])
@pytest.mark.parametrize("guidance, rows, nfe", [(3.0, 12, 2.0), (1.0, 6, 1.0), (0.0, 6, 1.0)])
def test_both_branches_are_one_call_and_none_is_evaluated_without_weight(sample, guidance, rows, nfe):
    model = Watched(classes())
    found = run(sample, model, normals(6, 2), grids.uniform_t(5, VP), condition=LABELS, guidance=guidance)
    assert found.nfe == 5 * nfe and [count for count, _ in model.seen] == [rows] * 5
    label = model.seen[0][1]
    if guidance == 3.0:
        assert torch.equal(label, torch.cat([LABELS, torch.full((6,), -1)]))
    else:
        assert label is None if guidance == 0 else torch.equal(label, LABELS)


def test_other_conditions_than_labels_take_two_calls():
    model = Watched(Conditional("mean", lambda x, t, c: x * 0.3 if c is None else x * 0.3 + c))
    c = normals(6, 2, tag="c")
    found = run(cfg.flow, model, normals(6, 2), grids.uniform_t(4, VP), condition=c, guidance=2.0)
    assert found.nfe == 8.0 and [rows for rows, _ in model.seen] == [6] * 8
    mean = cfg.guided(model, c, 2.0)(normals(6, 2), 0.3)
    torch.testing.assert_close(mean, normals(6, 2) * 0.3 + 2 * c, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("sample", [cfg.ancestral, cfg.flow])
def test_one_is_the_conditional_and_nought_the_unconditional_sampler_bitwise(sample):
    """And at neither is a model told anything else: the plain method is the same code on model.given or model."""
    x, grid = normals(6, 2), grids.uniform_t(7, VP)
    model = classes()
    plain = {1.0: model.given(LABELS), 0.0: Predictor("mean", model)}
    for guidance, alone in plain.items():
        unheeding = Conditional("mean", lambda y, t, c, alone=alone: alone(y, t))
        found = run(sample, model, x, grid, condition=LABELS, guidance=guidance).x
        assert torch.equal(found, run(sample, unheeding, x, grid, condition=LABELS, guidance=guidance).x)
    ends = [run(sample, model, x, grid, condition=LABELS, guidance=g).x for g in (0.0, 1.0, 2.0)]
    assert (ends[0] - ends[1]).abs().max() > 0.1 and (ends[1] - ends[2]).abs().max() > 0.1


def test_no_label_is_not_guided():
    """Where the label is -1 both branches agree, whatever the guidance."""
    x, grid = normals(6, 2), grids.uniform_t(7, VP)
    ends = [run(cfg.flow, classes(), x, grid, condition=LABELS, guidance=g).x for g in (0.0, 1.0, 8.0)]
    assert (ends[2][4] - ends[0][4]).abs().max() < 1e-12 and (ends[1][4] - ends[0][4]).abs().max() < 1e-12


# Gaussians: the guided flow is linear


def gaussians(mean: float, narrow: float, wide: float) -> Conditional:
    """c ~ N(mean, narrow), u ~ N(0, wide) on ve-edm; the condition is one label."""

    def predict(x, t, label):
        noise = expand(VE.sigma(t), x) ** 2
        told = mean + narrow / (narrow + noise) * (x - mean)
        alone = wide / (wide + noise) * x
        return alone if label is None else torch.where((label >= 0)[:, None], told, alone)

    return Conditional("mean", predict)


def ends(guidance: float, steps: int, t_max: float, mean: float = 0.0) -> tuple[float, float]:
    """Slope d x(0) / d x(T) and the end of x(T) = 0, by 2M on the grid power(7) down to 1e-4."""
    path = VE.between(1e-4, t_max)
    x = torch.tensor([[0.0], [t_max]], dtype=torch.float64)
    label = torch.zeros(2, dtype=torch.int64)
    model, grid = gaussians(mean, 0.3, 2.0), grids.named("power(7)")(steps, path)
    found = run(cfg.flow, model, x, grid, path, condition=label, guidance=guidance, order=2).x
    return ((found[1] - found[0]) / t_max).item(), found[0].item()


@pytest.mark.parametrize("w", [0.0, 0.5, 1.5])
def test_the_guided_flow_of_gaussians_in_closed_form(w):
    """(s/(s + T^2))^((1+w)/2) (S/(S + T^2))^(-w/2) from T = 80; order 2: a quarter of the error at twice the steps."""
    exact = (0.3 / (0.3 + 6400)) ** ((1 + w) / 2) * (2 / (2 + 6400)) ** (-w / 2)
    errors = [abs(ends(1 + w, steps, 80.0)[0] / exact - 1) for steps in (200, 400)]
    assert errors[1] < 2e-3 and 3 < errors[0] / errors[1] < 5, errors


def test_guidance_does_not_sample_the_tilted_density():
    """The card's golden numbers: from T = 80 the variance is .017434, T -> inf .3^2.5/2^1.5 = .017428, not .1319."""
    slope, _ = ends(2.5, 3000, 80.0)
    variance = (80.0 * slope) ** 2
    assert abs(variance - 0.017434) < 2e-5
    assert abs(0.3**2.5 / 2**1.5 - 0.017428) < 1e-6
    tilted = 1 / (2.5 / 0.3 - 1.5 / 2)
    assert abs(tilted - 0.1319) < 5e-5 and variance < tilted / 7


def test_the_guided_mean_of_gaussians_overshoots_the_condition():
    """The end of x(T) = 0, where it leaves the narrow law's mean m behind; by quadrature with the integrating factor.

    x' = a(s) x - b(s), a = (1+w) s/(v+s^2) - w s/(V+s^2), b = (1+w) m s/(v+s^2): x(0) = int_0^T b(s) f(s) ds with
    f(s) = (v/(v+s^2))^((1+w)/2) (V/(V+s^2))^(-w/2).
    """
    w, m = 1.5, 1.0
    s = torch.linspace(1e-4**0.25, 80**0.25, 400_001, dtype=torch.float64) ** 4
    b = (1 + w) * m * s / (0.3 + s**2)
    f = (0.3 / (0.3 + s**2)) ** ((1 + w) / 2) * (2 / (2 + s**2)) ** (-w / 2)
    exact = torch.trapezoid(b * f, s).item()
    found = ends(1 + w, 3000, 80.0, mean=m)[1]
    assert abs(found - exact) < 1e-4 and exact > m


# algorithm 2


def test_ancestral_steps_are_the_gaussian_posterior():
    """q(x_s | x_t, x0) by Bayes' rule on the two Gaussian factors; its variance, at v = 1 that of q(x_t | x_s)."""
    grid = torch.tensor([0.8, 0.5, 0.3], dtype=torch.float64)
    for path in (VP, process.named("subvp")):
        a_t, a_s, s_t, s_s = (f(time).item() for f in (path.alpha, path.sigma) for time in (grid[1], grid[2]))
        ratio = a_t / a_s
        noising = s_t**2 - (ratio * s_s) ** 2
        variance = 1 / (1 / s_s**2 + ratio**2 / noising)
        for v, spread in ((0.0, variance), (1.0, noising), (0.3, variance**0.7 * noising**0.3)):
            rows = cfg.ancestral_plan(grid, path, interpolation=v)
            assert rows.keep[1].item() == pytest.approx(variance * ratio / noising, rel=1e-12)
            assert rows.now[1].item() == pytest.approx(variance * a_s / s_s**2, rel=1e-12)
            assert rows.noise[1].item() == pytest.approx(spread**0.5, rel=1e-12)


@pytest.mark.parametrize("interpolation", [0.0, 0.3, 1.0])
def test_the_last_step_to_clean_data_is_the_guided_mean(interpolation):
    grid, path = torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64), process.named("condot")
    x, model = normals(6, 2), classes(path)
    told = cfg.guided(model, LABELS, 3.0)
    found = run(cfg.ancestral, model, x, grid, path, condition=LABELS, guidance=3.0, interpolation=interpolation).x
    first = cfg.ancestral_plan(grid, path, interpolation=interpolation)
    noise = Philox(0, 6).at(0).normal("step", x)
    middle = first.keep[0].item() * x + first.now[0].item() * told(x, 0.7) + first.noise[0].item() * noise
    torch.testing.assert_close(found, told(middle, 0.3), rtol=1e-12, atol=1e-12)


def test_a_start_without_signal_and_an_end_without_noise_are_survived():
    path = process.named("condot")
    grid = torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64)
    for sample, options in ((cfg.flow, {}), (cfg.flow, {"order": 2}), (cfg.ancestral, {})):
        found = run(sample, classes(path), normals(6, 2), grid, path, condition=LABELS, guidance=2.0, **options).x
        assert torch.isfinite(found).all()


def test_the_last_interval_of_order_2_to_clean_data_is_of_order_1():
    path, x = process.named("condot"), normals(6, 2)
    told, h = cfg.guided(classes(path), LABELS, 2.0), path.lam(0.3) - path.lam(0.7)
    x1 = path.sigma(0.3) / path.sigma(0.7) * x - path.alpha(0.3) * math.expm1(-h) * told(x, 0.7)
    grid = torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64)
    found = run(cfg.flow, classes(path), x, grid, path, condition=LABELS, guidance=2.0, order=2).x
    torch.testing.assert_close(found, told(x1, 0.3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sample", [cfg.ancestral, cfg.flow])
def test_no_samples_are_no_samples(sample):
    found = run(sample, classes(), normals(0, 2), grids.uniform_t(3, VP), condition=LABELS[:0], guidance=3.0)
    assert found.x.shape == (0, 2)


def test_second_order_is_the_midpoint_of_a_line_through_two_means():
    """Toolkit T2: exact for a constant mean; the second step by hand on an uneven grid, guided."""
    grid = torch.tensor([0.9, 0.55, 0.4], dtype=torch.float64)
    x, told = normals(6, 2), cfg.guided(classes(), LABELS, 2.0)
    lam = VP.lam(grid).tolist()
    h = [lam[1] - lam[0], lam[2] - lam[1]]
    d0 = told(x, 0.9)
    x1 = VP.sigma(0.55) / VP.sigma(0.9) * x - VP.alpha(0.55) * math.expm1(-h[0]) * d0
    d1 = told(x1, 0.55)
    slope = (d1 - d0) / h[0]
    x2 = VP.sigma(0.4) / VP.sigma(0.55) * x1 - VP.alpha(0.4) * math.expm1(-h[1]) * (d1 + slope * h[1] / 2)
    found = run(cfg.flow, classes(), x, grid, condition=LABELS, guidance=2.0, order=2).x
    torch.testing.assert_close(found, x2, rtol=1e-12, atol=1e-12)


def test_default_guidance_is_that_of_the_first_stage():
    x, grid = normals(6, 2), grids.uniform_t(5, VP)
    for sample in (cfg.flow, cfg.ancestral):
        default, seven = (run(sample, classes(), x, grid, condition=LABELS, **o).x for o in ({}, {"guidance": 7.0}))
        assert torch.equal(default, seven)


# training


def test_labels_are_dropped_for_their_share():
    u = torch.tensor([0.0, 0.05, 0.0999, 0.1, 0.5, 0.999], dtype=torch.float64)
    assert cfg.dropped(torch.arange(6), u).tolist() == [-1, -1, -1, 3, 4, 5]
    assert cfg.dropped(torch.arange(6), u, 0.0).tolist() == list(range(6))
    assert cfg.dropped(torch.arange(6), u, 1.0).tolist() == [-1] * 6
    with pytest.raises(ValueError, match="^share: 1.5, expected"):
        cfg.dropped(torch.arange(6), u, 1.5)


@pytest.mark.parametrize("label", [0, 2, -1])
def test_the_loss_is_least_at_the_mean_of_the_class_or_of_all(label):
    """No Monte Carlo: five atoms with classes, x_t held, losses weighed by the exact posterior given the label."""
    path = process.named("cosine")
    atoms, own = normals(5, 2), torch.tensor([0, 0, 1, 2, 2])
    t = torch.full((5,), 0.4, dtype=torch.float64)
    alpha, sigma = path.alpha(0.4), path.sigma(0.4)
    x = (alpha * atoms[:1] + sigma * normals(1, 2, tag="eps")).expand(5, 2)
    noise = (x - alpha * atoms) / sigma
    inside = torch.ones(5, dtype=torch.bool) if label < 0 else own == label
    posterior = torch.where(inside, -noise.square().sum(1) / 2, -math.inf).softmax(0)

    def gradient(shift):
        mean = ((posterior[:, None] * atoms).sum(0) + shift).requires_grad_()
        model = Conditional("mean", lambda y, time, c: mean.expand_as(y))
        each = cfg.loss(model, atoms, t, noise, process=path, condition=torch.full((5,), label))
        return torch.autograd.grad((posterior * each).sum(), mean)[0]

    assert gradient(0.0).norm() < 1e-10 * gradient(0.3).norm() and (gradient(0.3) > 0).all()


def test_the_loss_is_the_squared_error_of_the_noise_under_the_condition():
    path, x0, noise = process.named("cosine"), normals(6, 2), normals(6, 2, tag="eps")
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    model = classes(path)
    x = path.noised(x0, t, noise)
    eps = (x - expand(path.alpha(t), x) * model.given(LABELS)(x, t)) / expand(path.sigma(t), x)
    expected = (eps - noise).square().sum(1)
    found = cfg.loss(model, x0, t, noise, process=path, condition=LABELS)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_times_are_uniform_in_the_angle_of_the_cosine_path():
    """The paper's law: tan(a u + b) = sigma/alpha, a u + b uniform."""
    path = process.named("cosine")
    u = torch.linspace(0, 1, 9, dtype=torch.float64)
    angle = torch.atan(path.rho(cfg.uniform_times(u, path)))
    torch.testing.assert_close(angle.diff(), angle.diff().mean().expand(8), rtol=1e-9, atol=0)
    assert cfg.uniform_times(u, path)[[0, -1]].tolist() == [path.t_min, path.t_max]


# refusals


@pytest.mark.parametrize("sample", [cfg.ancestral, cfg.flow])
def test_bad_input_is_refused_before_anything_is_evaluated(sample):
    watched = Watched(classes())
    x, grid = normals(6, 2), grids.uniform_t(3, VP)
    for options, said in (
        (dict(condition=LABELS, guidance=math.inf), "^guidance: inf, expected a finite number"),
        (dict(condition=LABELS[:4]), "^condition: 4 rows, expected 6"),
        (dict(condition=None), "^condition: None, expected labels"),
        (dict(condition=cfg.Mixed(LABELS, None)), "^condition: None, expected labels"),
        (dict(condition=cfg.Mixed(LABELS, LABELS[:4])), "^condition: 4 rows, expected 6"),
        (dict(condition=LABELS, mixer=-0.1), "^mixer: -0.1, expected a number in"),
        (dict(condition=LABELS, **({"order": 3} if sample is cfg.flow else {"interpolation": 1.2})), "1.2|3, expected"),
    ):
        with pytest.raises(ValueError, match=said):
            run(sample, watched, x, grid, **options)
    with pytest.raises(grids.BadGrid):
        run(sample, watched, x, grid.flip(0), condition=LABELS)
    assert not watched.seen
    with pytest.raises(WrongKind, match="takes no condition"):
        run(sample, Predictor("mean", lambda y, t: y), x, grid, condition=LABELS)


def test_the_transform_refuses_too_and_serves_any_sampler():
    with pytest.raises(ValueError, match="^mixer: 1.5"):
        cfg.guided(classes(), cfg.Mixed(LABELS, LABELS), 2.0, mixer=1.5)
    with pytest.raises(ValueError, match="^guidance: nan"):
        cfg.guided(classes(), LABELS, math.nan)
    with pytest.raises(ValueError, match="^condition: None"):
        cfg.guided(classes(), None, 2.0)
    with pytest.raises(ValueError, match="^condition: 6 labels, expected 4"):
        cfg.guided(classes(), LABELS, 2.0)(normals(4, 2), 0.4)
    assert require(cfg.guided(classes(), LABELS, 2.0), "mean", 6).kind == "mean"
    rows = cfg.flow_plan(grids.uniform_t(5, VP), VP)
    x = normals(6, 2)
    told = cfg.guided(classes(), LABELS, 2.0)
    end = x
    for i in range(5):
        end = rows.keep[i].item() * end + rows.now[i].item() * told(end, rows.t[i].item())
    found = cfg.flow(
        classes(), x, grids.uniform_t(5, VP), process=VP, draws=Silence(), condition=LABELS, guidance=2.0
    ).x
    torch.testing.assert_close(found, end, rtol=1e-12, atol=1e-12)
