"""zhang2023deis: the invariants of its card, the anchors of the suite's design, and numbers of the official code."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model, own_process, random_grids
from reference_impls import catalogue, targets
from reference_impls.continuous import zhang2023deis as deis
from reference_impls.core import grids, process
from reference_impls.core.drive import drive
from reference_impls.core.types import Predictor

SAMPLERS = catalogue.samplers()
CARD = SAMPLERS["zhang2023deis.tab3"]
VP = process.named("vp-linear").between(0.05, 0.9)
G3 = targets.named("g3")


def columns(grid, path, variable: str, degree: int) -> deis.Plan:
    return deis.plan(grid, path, variable=variable, degree=degree)


def starts(path, t: float) -> torch.Tensor:
    """The nine starts of toolkit T1."""
    spread = math.sqrt(1.2 * path.alpha(t) ** 2 + path.sigma(t) ** 2)
    return torch.linspace(-2.2, 2.2, 9, dtype=torch.float64)[:, None] * spread


def flowed(x, path, t: float, s: float) -> torch.Tensor:
    return G3.flow(x, path.alpha(t), path.sigma(t), path.alpha(s), path.sigma(s))


def eps_at(x, path, t: float) -> torch.Tensor:
    return (x - path.alpha(t) * exact_model(path)(x, t)) / path.sigma(t)


def error(run, path, steps: int, grid=grids.uniform_lam) -> float:
    times = grid(steps, path)
    x = starts(path, times[0].item())
    end = run(exact_model(path), x, times, process=path, draws=Silence()).x
    return (end - flowed(x, path, times[0].item(), times[-1].item())).abs().max().item()


def started_exactly(variable: str, degree: int):
    """The multistep method whose first `degree` states and predictions are exact."""

    def run(model, x, grid, *, process, draws):
        rows = columns(grid, process, variable, degree)
        times = grid.tolist()
        before = [eps_at(flowed(x, process, times[0], t), process, t) for t in times[:degree]]
        rest = deis.Plan(*(column[degree:] for column in rows))
        x = flowed(x, process, times[0], times[degree])
        return drive(rest, deis.multistep, model, x, draws=draws, memory=tuple(reversed(before)))

    return run


def tab(degree: int, variable: str = "t"):
    return lambda *each, **rest: deis.sample(*each, degree=degree, variable=variable, **rest)


def rk(tableau: str):
    return lambda *each, **rest: deis.sample_rk(*each, tableau=tableau, **rest)


A1 = {  # largest error over 9 starts, vp-linear .9 -> .05, lam grid, at 64 and 512 steps; two digits
    "tab1": (tab(1), 7.8e-3, 1.3e-4),
    "tab2": (tab(2), 1.1e-3, 2.8e-6),
    "tab3-exact-start": (started_exactly("t", 3), 3.2e-4, 1.1e-7),
    "rhoab2": (tab(2, "rho"), 2.4e-3, 6.1e-6),
    "rhoab3-exact-start": (started_exactly("rho", 3), 7.6e-4, 2.7e-7),
    "heun2": (rk("heun2"), 2.2e-3, 3.4e-5),
    "kutta3": (rk("kutta3"), 1.6e-5, 3.2e-8),
    "rk4": (rk("rk4"), 8.7e-7, 2.1e-10),
    "ipndm": (deis.sample_ipndm, 1.0e-3, 1.9e-5),
}


@pytest.mark.parametrize("name", A1)
def test_error_on_vp_at_64_and_512_steps(name):
    run, *printed = A1[name]
    assert [error(run, VP, steps) for steps in (64, 512)] == pytest.approx(printed, rel=0.06)


A2 = {  # RMS error over 64 quantiles of p_80, ve-edm 80 -> .002, at 6, 12, 24, 36, 60 evaluations
    ("rhoab3", "power(7)"): (0.304, 8.39e-2, 1.47e-2, 4.98e-3, 1.08e-3),
    ("rhoab3", "lam"): (0.355, 0.112, 2.07e-2, 6.69e-3, 1.37e-3),
    ("ipndm", "power(7)"): (0.149, 4.78e-2, 7.99e-3, 2.70e-3, 8.81e-4),
    ("ipndm", "lam"): (0.124, 5.47e-2, 8.76e-3, 3.24e-3, 1.13e-3),
    ("rhork_rk4", "power(7)"): (12.2, 0.591, 5.79e-2, 8.81e-3, 1.37e-3),
    ("rhork_rk4", "lam"): (12.2, 0.629, 6.36e-2, 1.39e-2, 2.16e-3),
}
# RMS error of kutta3 on the power(7) grid at 6 and 12 evaluations: claim a of the card
KUTTA = (0.578, 0.226)


def endpoint_error(id: str, grid: str, evaluations: int) -> float:
    path, card = process.named("ve-edm"), SAMPLERS[f"zhang2023deis.{id}"]
    levels = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    x = G3.flow(torch.special.ndtri(levels)[:, None], 0.0, 1.0, 1.0, 80.0)
    times = grids.named(grid)(round(evaluations / card.nfe(torch.zeros(2))), path)
    result = card.sample(exact_model(path), x, times, process=path, draws=Silence())
    assert result.nfe == evaluations
    return (result.x - G3.flow(x, 1.0, 80.0, 1.0, 0.002)).square().mean().sqrt().item()


@pytest.mark.parametrize(("id", "grid"), A2)
def test_endpoint_error_from_sigma_80(id, grid):
    steps = (6, 12, 24, 36, 60) if id != "rhork_rk4" else (12, 24, 36, 60)
    printed = A2[id, grid][-len(steps) :]  # 6 is no multiple of rk4's four stages: the printed number is at 4 or 8
    assert [endpoint_error(id, grid, each) for each in steps] == pytest.approx(printed, rel=0.01)


def test_endpoint_error_of_kutta3():
    assert [endpoint_error("rhork_kutta3", "power(7)", each) for each in (6, 12)] == pytest.approx(KUTTA, rel=0.01)


# ---- the weights -------------------------------------------------------------------------------------------------
def integral(path, variable: str, power: int, t: float, s: float) -> float:
    """int e drho from t to s for e = y^power, y = t or rho, by quadrature of its own: Simpson on 20,000 intervals."""
    if variable == "rho":
        return (path.rho(s) ** (power + 1) - path.rho(t) ** (power + 1)) / (power + 1)
    u = torch.linspace(t, s, 20_001, dtype=torch.float64)
    alpha_rate, sigma_rate = path.rates(u)
    value = (sigma_rate * path.alpha(u) - path.sigma(u) * alpha_rate) / path.alpha(u) ** 2 * u**power
    simpson = torch.full_like(u, 2.0)
    simpson[1::2], simpson[0], simpson[-1] = 4.0, 1.0, 1.0
    return ((simpson * value).sum() * (s - t) / 60_000).item()


@pytest.mark.parametrize("variable", ["t", "rho"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["vp-linear", "condot", "cosine"])
def test_polynomial_predictions_are_integrated_exactly_up_to_the_degree(name, degree, variable):
    """T2: e = y^k, k <= degree, once as many nodes are there; not one degree further."""
    path = process.named(name).between(0.05, 0.9)
    grid = torch.tensor([0.9, 0.7, 0.62, 0.4, 0.33, 0.2], dtype=torch.float64)
    y = grid if variable == "t" else path.rho(grid)
    weights = columns(grid, path, variable, degree).weights
    for i in range(degree, 5):
        for power in range(degree + 2):
            found = sum(weights[i, j].item() * y[i - j].item() ** power for j in range(degree + 1))
            truth = path.alpha(grid[i + 1].item()) * integral(path, variable, power, *grid[i : i + 2].tolist())
            gap = abs(found - truth) / abs(truth)
            assert gap <= 1e-10 if power <= degree else gap > 1e-4, (i, power, gap)


@given(random_grids(own_process(CARD), most=6), st.sampled_from(["t", "rho"]), st.integers(0, 3))
def test_weights_sum_to_the_change_of_rho(grid, variable, degree):
    """Invariant 4, on any nodes, the warm-up's rows included."""
    path = own_process(CARD)
    weights = columns(grid, path, variable, degree).weights.sum(1) / path.alpha(grid[1:])
    rho = path.rho(grid)
    scale = columns(grid, path, variable, degree).weights.abs().sum(1) / path.alpha(grid[1:])
    assert ((weights - (rho[1:] - rho[:-1])).abs() <= 1e-12 * scale).all()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_on_ve_edm_both_variables_are_one(degree):
    """Invariant 1: rho = t there."""
    path = process.named("ve-edm")
    grid = grids.power(7.0)(9, path)
    one, other = (columns(grid, path, variable, degree).weights for variable in ("t", "rho"))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_on_a_grid_even_in_rho_ipndm_is_rhoab():
    """Invariant 5, the start-up included."""
    grid = grids.power(1.0)(7, VP)
    for order in (1, 2, 3, 4):
        one = deis.ipndm_plan(grid, VP, order=order).weights
        torch.testing.assert_close(one, columns(grid, VP, "rho", order - 1).weights, rtol=1e-9, atol=1e-9)


def test_second_step_is_the_formula_by_hand():
    """rhoAB-1: x = (alpha_s/alpha_t) x + alpha_s (C_0 e_0 + C_1 e_1), the closed integrals of two linear bases."""
    grid, x = torch.tensor([0.9, 0.55, 0.4], dtype=torch.float64), torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    a, r = [VP.alpha(t) for t in grid.tolist()], [VP.rho(t) for t in grid.tolist()]
    e0 = eps_at(x, VP, 0.9)
    x1 = a[1] / a[0] * x + a[1] * (r[1] - r[0]) * e0
    e1, step = eps_at(x1, VP, 0.55), r[2] - r[1]
    slope = step**2 / 2 / (r[1] - r[0])
    x2 = a[2] / a[1] * x1 + a[2] * (step * e1 + slope * (e1 - e0))
    run = deis.sample(exact_model(VP), x, grid, process=VP, draws=Silence(), degree=1, variable="rho")
    torch.testing.assert_close(run.x, x2, rtol=1e-12, atol=1e-12)
    ipndm = a[2] / a[1] * x1 + a[2] * step * (1.5 * e1 - 0.5 * e0)
    run = deis.sample_ipndm(exact_model(VP), x, grid, process=VP, draws=Silence())
    torch.testing.assert_close(run.x, ipndm, rtol=1e-12, atol=1e-12)


def test_quadrature_left_is_the_official_sum():
    """get_ab_eps_coef of th_deis/multistep.py at commit a30709f, run in float64: beta .1 to 20, ts_phase t, ts_order 2,
    5 steps from 1 to 1e-3, ab_order 2."""
    coded = [
        [-16.994402400773836, 0.0, 0.0],
        [-4.107055050290857, 0.889139348651722, 0.0],
        [-1.514934668296329, 0.6736203249146687, -0.15794628169139244],
        [-0.6442110804427407, 0.2653209881146019, -0.05652894310820668],
        [-0.21686939168755034, 0.061183210132430964, -0.010415596879168897],
    ]
    path = process.named("vp-linear")
    grid = deis.time_grid()(5, path)
    coded = torch.tensor(coded, dtype=torch.float64)
    left = deis.plan(grid, path, degree=2, quadrature="left").weights
    torch.testing.assert_close(left, coded, rtol=1e-10, atol=1e-12)
    exact = deis.plan(grid, path, degree=2).weights
    gap = ((exact - coded) / coded.abs().clamp(min=1e-300)).abs()[coded != 0].max().item()
    assert 1e-4 < gap < 1e-2  # a left sum of 10,000 points is off by (f(start) - f(end))/20,000 times the interval


def test_left_sums_are_those_of_their_definition():
    """Constant basis in t: the sum misses the integral by the endpoint term of Euler and Maclaurin, to second order."""
    path, grid = VP, torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    for variable, curve in (("t", deis.in_t(grid, path)), ("rho", deis.in_rho(grid, path))):
        miss = deis.left_moments(curve, 1) - deis.exact_moments(curve, 1)
        width = (curve.at[1:] - curve.at[:-1]) / deis.LEFT_POINTS
        ends = torch.stack([curve.slope(curve.at[:-1]) - curve.slope(curve.at[1:]), -curve.slope(curve.at[1:])], 1)
        torch.testing.assert_close(miss, width[:, None] * ends / 2, rtol=2e-3, atol=1e-9, msg=variable)


# int z^k drho over one step t -> s, z = 0 at t and 1 at s, k = 0..3, by tanh-sinh quadrature in 30 digits, on chains
# piece by piece
MOMENTS = {
    ("vp-linear", 1.0, 0.001): (-152.15648429115973, -17.33491620259708, -4.5570007398741375, -1.975519366501718),
    ("vp-linear", 0.04, 0.001): (
        -0.13135803135288107, -0.06806522921987943, -0.04671848624164555, -0.03590820158738332,
    ),
    ("vp-linear", 0.3, 0.0): (-1.2341513317962287, -0.5530842973839937, -0.35567694514016074, -0.26380553602719026),
    ("condot", 0.999, 0.001): (-998.9989989989981, -5.919594969588731, -0.9891380852302821, -0.49901382001167743),
    ("cosine", 0.99, 0.001): (-64.15205265141364, -2.686162280653805, -0.8348971504613506, -0.4987237334263554),
    ("ve-sqrt", 100.0, 0.0): (-10.0, -6.666666666666667, -5.333333333333333, -4.571428571428571),
    ("subvp", 0.2, 0.0): (-0.4210497628868435, -0.14311261773520556, -0.07311414001154558, -0.0448389540542059),
    ("discrete-linear", 0.65, 0.375): (
        -6.6707121450043045, -2.3408829806983764, -1.302262184074529, -0.8785906803797838,
    ),
    ("discrete-linear", 0.05, 0.001): (
        -0.16276940921866623, -0.08354013778235261, -0.05698360842745121, -0.04360297073213749,
    ),
    ("discrete-cosine", 0.998, 0.8): (-317.72666354283473, -11.800633480387415, -3.007008439893425, -1.585253209082512),
    ("discrete-linear-100", 0.0123, 0.0): (
        -0.02185204447898374, -0.0044877970811387485, -0.0021777041306816217, -0.0016507019279749836,
    ),
}  # fmt: skip


@pytest.mark.parametrize("step", MOMENTS)
def test_moments_are_exact_on_every_path(step):
    """At t = 0, where rho is a root, near alpha = 0, where it has a pole, and across the knots of a chain."""
    name, *times = step
    path, exact = process.named(name), torch.tensor(MOMENTS[step], dtype=torch.float64)
    found = deis.exact_moments(deis.in_t(torch.tensor(times, dtype=torch.float64), path), 3)[0]
    assert (found - exact).abs().max() <= 4e-15 * exact.abs()[0], found


def test_moments_of_a_step_do_not_depend_on_the_others():
    path = process.named("discrete-linear")
    grid = torch.tensor([0.9, 0.65, 0.375, 0.05, 0.001, 0.0], dtype=torch.float64)
    whole = deis.exact_moments(deis.in_t(grid, path), 3)
    alone = torch.cat([deis.exact_moments(deis.in_t(pair, path), 3) for pair in grid.unfold(0, 2, 1)])
    torch.testing.assert_close(whole, alone, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["discrete-linear", "discrete-cosine", "discrete-linear-100"])
def test_corners_are_the_knots_of_a_chain(name):
    path, size = process.named(name), 100 if name.endswith("100") else 1000
    found = deis.corners(torch.tensor([0.9005, 0.3, 0.0], dtype=torch.float64), path)
    knots = torch.arange(1, int(0.9005 * size) + 1, dtype=torch.float64) / size
    torch.testing.assert_close(found, knots, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["vp-linear", "subvp", "cosine", "condot", "ve-edm", "ve-sqrt", "ve-geo"])
def test_other_paths_have_no_corners(name):
    path = process.named(name)
    path = path.between(path.t_min, 0.999) if name == "condot" else path
    assert deis.corners(grids.uniform_t(5, path), path).numel() == 0


def test_float32_of_the_code_moves_its_weights_less_than_its_sums_do():
    """get_ab_eps_coef at commit a30709f run with JAX as it comes, in float32: ab_order 3, 10 steps, rows 0, 4 and 9."""
    coded = [
        [-4.334375381469727, 0.0, 0.0, 0.0],
        [-0.994178295135498, 0.7899124026298523, -0.39975792169570923, 0.07946737855672836],
        [-0.08006393164396286, 0.03356578201055527, -0.010530793108046055, 0.001419209293089807],
    ]
    path, coded = process.named("vp-linear"), torch.tensor(coded, dtype=torch.float64)
    grid = deis.time_grid()(10, path)
    left, exact = (deis.plan(grid, path, quadrature=each).weights[[0, 4, 9]] for each in ("left", "exact"))
    scale = coded.abs().max(1, keepdim=True).values
    single, sums = ((a - b).abs().div(scale).max().item() for a, b in ((coded, left), (left, exact)))
    assert 1e-7 < single < 2e-6 and 3e-5 < sums < 3e-4


def test_gauss_legendre_integrates_polynomials_up_to_twice_its_points():
    nodes, weights = deis.gauss_legendre(5)
    for power in range(10):
        assert (weights * nodes**power).sum().item() == pytest.approx(1 / (power + 1), rel=1e-13)


# ---- orders and stages -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("variable", "degree"), [("t", 1), ("t", 2), ("t", 3), ("rho", 1), ("rho", 2), ("rho", 3)])
def test_order_is_degree_plus_one_from_exact_starting_values(variable, degree):
    """Invariant 3."""
    errors = [error(started_exactly(variable, degree), VP, steps) for steps in (256, 512)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(degree + 1, abs=0.1)


def test_warm_up_caps_the_order_at_two():
    """Invariant 3, on ve-edm, where the first step's error is not hidden by high noise."""
    path = process.named("ve-edm").between(0.05, 0.9)
    for run in (tab(3), tab(3, "rho")):
        errors = [error(run, path, steps) for steps in (256, 512)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("name", deis.TABLEAUX)
def test_tableaux_satisfy_the_order_conditions(name):
    """Hairer, Norsett & Wanner, Solving ODEs I, II.2: sums over b, c and A, up to the order in the name."""
    rule = deis.TABLEAUX[name]
    size, order = len(rule.nodes), {"euler": 1, "rk4": 4}.get(name) or int(name[-1])
    b, c = (torch.tensor(each, dtype=torch.float64) for each in (rule.weights, rule.nodes))
    a = torch.zeros(size, size, dtype=torch.float64)
    for k, row in enumerate(rule.stages, 1):
        a[k, :k] = torch.tensor(row, dtype=torch.float64)
    assert torch.allclose(a.sum(1), c, atol=1e-15)
    conditions = [
        (1, b.sum(), 1), (2, b @ c, 1 / 2), (3, b @ c**2, 1 / 3), (3, b @ (a @ c), 1 / 6), (4, b @ c**3, 1 / 4),
        (4, (b * c) @ (a @ c), 1 / 8), (4, b @ (a @ c**2), 1 / 12), (4, b @ (a @ (a @ c)), 1 / 24),
    ]  # fmt: skip
    held = [abs(found.item() - wanted) < 1e-14 for at, found, wanted in conditions if at <= order]
    missed = [abs(found.item() - wanted) > 1e-3 for at, found, wanted in conditions if at == order + 1]
    assert all(held) and (any(missed) or order == 4)


DEGREES = {"euler": 0, "heun2": 1, "ral3": 2, "heun3": 2, "vdh3": 2, "kutta3": 3, "ssp3": 3, "rk4": 3}


@pytest.mark.parametrize("name", DEGREES)
def test_runge_kutta_integrates_polynomials_in_rho(name):
    """T2: exact up to the printed degree and no further (Simpson's rule in kutta3, ssp3 and rk4)."""
    grid, x = torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64)
    for power in range(DEGREES[name] + 2):
        model = Predictor("mean", lambda y, t, k=power: (y - VP.sigma(t) * VP.rho(t) ** k) / VP.alpha(t))
        found = deis.sample_rk(model, x, grid, process=VP, draws=Silence(), tableau=name).x.item() / VP.alpha(0.3)
        total = (VP.rho(0.3) ** (power + 1) - VP.rho(0.9) ** (power + 1)) / (power + 1)
        gap = abs(found - 0.8 / VP.alpha(0.9) - total) / abs(total)
        assert gap <= 1e-10 if power <= DEGREES[name] else gap > 1e-4, (power, gap)


def test_one_kutta_step_by_hand():
    grid, x = torch.tensor([0.8, 0.5], dtype=torch.float64), torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    r_t, r_s, v = VP.rho(0.8), VP.rho(0.5), x / VP.alpha(0.8)
    d, middle = r_s - r_t, VP.time_of_logsnr(-math.log((VP.rho(0.8) + VP.rho(0.5)) / 2))

    def e(v, t):
        return eps_at(VP.alpha(t) * v, VP, t)

    k1 = e(v, 0.8)
    k2 = e(v + d / 2 * k1, middle)
    k3 = e(v + d * (2 * k2 - k1), 0.5)
    expected = VP.alpha(0.5) * (v + d * (k1 + 4 * k2 + k3) / 6)
    found = deis.sample_rk(exact_model(VP), x, grid, process=VP, draws=Silence(), tableau="kutta3")
    torch.testing.assert_close(found.x, expected, rtol=1e-12, atol=1e-12)
    assert found.nfe == 3


def test_heun_in_rho_is_heun_of_the_ve_path():
    """Invariant 1, on ve-edm, where rho is the time."""
    path, grid = process.named("ve-edm"), grids.power(7.0)(8, process.named("ve-edm"))
    x = 80 * torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    one = deis.sample_rk(exact_model(path), x, grid, process=path, draws=Silence(), tableau="heun2").x
    other = SAMPLERS["karras2022edm.heun"].sample(exact_model(path), x, grid, process=path, draws=Silence()).x
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_defaults_are_those_of_the_code():
    """tAB of degree 3 with exact integrals, iPNDM of order 4, rhoRK with kutta3."""
    grid, x = grids.uniform_lam(6, VP), starts(VP, 0.9)
    for sample, plan, stated in (
        (deis.sample, deis.plan, {"degree": 3, "variable": "t", "quadrature": "exact"}),
        (deis.sample_ipndm, deis.ipndm_plan, {"order": 4}),
        (deis.sample_rk, deis.stages_plan, {"tableau": "kutta3"}),
    ):
        for found, whole in zip(plan(grid, VP), plan(grid, VP, **stated), strict=True):
            assert torch.equal(found, whole)
        common = dict(process=VP, draws=Silence())
        found, whole = (sample(exact_model(VP), x, grid, **common, **each).x for each in ({}, stated))
        assert torch.equal(found, whole)


# ---- grids, ends and refusals ------------------------------------------------------------------------------------
def test_time_grids_are_the_published_ones():
    """get_rev_ts of th_deis/sde.py at commit a30709f in float64: vp-linear from 1 to 1e-3 (the code's inverse of rho
    loses five digits at small times)."""
    path = process.named("vp-linear")
    published = {
        ("t", 2.0, 5): [1.0, 0.6501592885125388, 0.3753389327688082, 0.17553893276880816, 0.050759288512538796, 0.001],
        ("log", 1.0, 4): [1.0, 0.7223333113724318, 0.30463140976877806, 0.031686417908587665, 0.001],
        ("rho", 7.0, 4): [1.0, 0.8434351601334276, 0.5921412655589796, 0.14263297374888248, 0.001],
    }
    for (phase, exponent, steps), times in published.items():
        assert deis.time_grid(phase, exponent)(steps, path).tolist() == pytest.approx(times, rel=1e-10)
    assert CARD.grid(5, path).tolist() == deis.time_grid("t", 2.0)(5, path).tolist()  # the README's setting
    times = deis.time_grid("t", 2.0)(4, process.named("ve-edm").between(0.25, 16.0)).sqrt()  # where no end is 1
    assert times.tolist() == pytest.approx([4.0, 3.125, 2.25, 1.375, 0.5], rel=1e-14)
    for bad in (("T", 2.0), ("t", 0.0)):
        with pytest.raises(ValueError, match="phase, exponent"):
            deis.time_grid(*bad)


@pytest.mark.parametrize("name", ["condot", "vp-linear", "discrete-linear"])
def test_ends_on_clean_data(name):
    """sigma_s = 0: the multistep forms and the rules without a stage at s stay finite; one step lands on D."""
    path = process.named(name)
    grid = torch.tensor([0.9, 0.5, 0.2, 0.0], dtype=torch.float64)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    point = Predictor("mean", lambda y, t: torch.full_like(y, 0.4))
    common = dict(process=path, draws=Silence())
    ends = [
        *(deis.sample(point, x, grid, degree=k, variable=v, **common).x for k in range(4) for v in ("t", "rho")),
        deis.sample_ipndm(point, x, grid, **common).x,
        *(deis.sample_rk(point, x, grid, tableau=each, **common).x for each in ("ral3", "heun3", "vdh3")),
    ]
    for end in ends:
        torch.testing.assert_close(end, torch.full_like(x, 0.4), rtol=0, atol=1e-10)
    one = deis.sample(exact_model(path), x, grid[[0, 3]], **common).x
    torch.testing.assert_close(one, exact_model(path)(x, 0.9), rtol=1e-12, atol=1e-12)
    for tableau in ("heun2", "kutta3", "ssp3", "rk4"):
        with pytest.raises(grids.BadGrid, match="sigma = 0"):
            deis.stages_plan(grid, path, tableau=tableau)


def test_refuses_a_start_without_signal_before_it_evaluates():
    path, x = process.named("condot"), torch.zeros(2, 1, dtype=torch.float64)
    grid = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)

    def never(y, t):
        raise AssertionError("evaluated")

    for sample in (deis.sample, deis.sample_ipndm, deis.sample_rk):
        with pytest.raises(grids.BadGrid, match="alpha = 0"):
            sample(Predictor("mean", never), x, grid, process=path, draws=Silence())


@pytest.mark.parametrize(
    ("plan", "options"),
    [
        (deis.plan, {"degree": 4}), (deis.plan, {"degree": -1}), (deis.plan, {"degree": 2.0}),
        (deis.ipndm_plan, {"order": 4.0}), (deis.plan, {"variable": "lam"}),
        (deis.plan, {"quadrature": "right"}), (deis.ipndm_plan, {"order": 0}), (deis.ipndm_plan, {"order": 5}),
        (deis.stages_plan, {"tableau": "3kutta"}),
    ],
)  # fmt: skip
def test_bad_options_are_named(plan, options):
    (name, value), = options.items()  # fmt: skip
    with pytest.raises(ValueError, match=f"{name}: {value!r}, expected"):
        plan(torch.tensor([0.9, 0.1], dtype=torch.float64), VP, **options)


def test_ipndm_walks_even_times():
    """get_sampler_ipndm asks for ts_phase "t" of order 1: .750, .5005, .251 in four steps of vp-linear to .001."""
    card = next(card for card in deis.PAPER.samplers if card.id == "zhang2023deis.ipndm")
    grid = card.grid(4, process.named("vp-linear").between(1e-3, 1.0))
    assert grid.tolist() == pytest.approx([1, 0.75025, 0.5005, 0.25075, 0.001])
