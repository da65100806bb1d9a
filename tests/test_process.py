"""Noising processes and grids: the laws over every named one, anchors, and the closed forms that the papers print."""

import math
from decimal import Decimal, localcontext

import pytest
import torch

from benchmarks.laws import laws
from benchmarks.laws.processes import NamedGrid
from reference_impls import catalogue
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.grids import BadGrid
from reference_impls.core.phi import phi
from reference_impls.core.types import Predictor

GRIDS = [NamedGrid(name, grids.named(name)) for name in (*grids.NAMED, "power(7)", "power(2.5)", "power(7)_to_zero")]
CARDS = {"process": [process.named(name) for name in process.NAMED], "grid": GRIDS}
CASES = [
    pytest.param(law, card, id=f"{card.name}-{law.name}")
    for law in laws().values()
    for card in CARDS.get(law.subject, ())
    if law.applies(card)
]


@pytest.mark.parametrize(("law", "card"), CASES)
def test_law(law, card):
    law.check(card)


def test_anchors_of_vp_linear():
    """solvers.md, "Paths used in the suite": all printed digits."""
    vp = process.named("vp-linear")
    anchors = ((1.0, -5.024978), (1e-3, 4.557715), (1e-4, 5.751510))
    for t, lam in anchors:
        assert abs(vp.lam(t) - lam) <= 5e-7
    assert abs(vp.alpha(1.0) - 6.571586e-3) <= 5e-10
    assert abs(vp.rho(1.0) - 152.16697) <= 5e-6
    assert abs(vp.rho(1e-3) - 0.010485993) <= 5e-10


def test_anchors_off_the_shelf():
    """Each path's own identity, in numbers that its closed form gives by hand."""
    vp, sub = process.named("vp-linear"), process.named("subvp")
    for t in (0.01, 0.3, 0.9):
        assert abs(vp.alpha(t) ** 2 + vp.sigma(t) ** 2 - 1) <= 1e-15
        assert sub.alpha(t) == vp.alpha(t) and abs(sub.sigma(t) - vp.sigma(t) ** 2) <= 1e-15
        cosine = process.named("cosine")
        assert abs(cosine.alpha(t) - math.cos(math.pi / 2 * (t + 0.008) / 1.008)) <= 1e-15
        assert abs(math.hypot(cosine.alpha(t), cosine.sigma(t)) - 1) <= 1e-15
        condot = process.named("condot")
        assert (condot.alpha(t), condot.sigma(t)) == (1 - t, t)
        assert process.named("ve-edm").lam(t) == -math.log(t)
        geo = process.named("ve-geo")
        assert abs(geo.sigma(t) - 0.01 * 5000**t) <= 1e-13 * geo.sigma(t) and geo.alpha(t) == 1
    assert abs(process.named("ve-geo").prior_std - 50) <= 1e-12 and process.named("ve-edm").prior_std == 80


def test_rates_by_hand():
    vp = process.named("vp-linear")
    for t in (0.05, 0.4, 1.0):
        beta = 0.1 + t * 19.9
        alpha_rate, sigma_rate = vp.rates(t)
        assert abs(alpha_rate + beta / 2 * vp.alpha(t)) <= 1e-14
        assert abs(sigma_rate - beta / 2 * vp.alpha(t) ** 2 / vp.sigma(t)) <= 1e-13
    assert process.named("condot").rates(0.3) == (-1.0, 1.0)
    assert process.named("ve-edm").rates(7.0) == (0.0, 1.0)


def test_lam_keeps_its_digits_at_the_clean_end():
    """sigma is built with expm1: lam at t = 1e-5 to 1e-12 of its series log(1/sqrt(b0 t + (b1-b0) t^2/2 - ..))."""
    vp, t = process.named("vp-linear"), 1e-5
    minus_two_log_alpha = t * t * 19.9 / 2 + t * 0.1
    series = minus_two_log_alpha - minus_two_log_alpha**2 / 2 + minus_two_log_alpha**3 / 6
    assert abs(vp.lam(t) + (minus_two_log_alpha + math.log(series)) / 2) <= 1e-12


def test_discrete_chain_is_the_product_of_its_betas():
    betas = process.linear_betas()
    chain = process.discrete(betas)
    product, knots = torch.cumprod(1 - betas, 0), torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert ((chain.alpha(knots) ** 2 - product) / product).abs().max() <= 1e-12
    assert (chain.sigma(knots) ** 2 - (1 - product)).abs().max() <= 1e-14
    assert (chain.alpha(0.0), chain.sigma(0.0), chain.lam(0.0)) == (1.0, 0.0, math.inf)
    assert (betas[0].item(), betas[-1].item()) == (1e-4, 0.02)
    for i in (1, 500, 999):  # between knots log alpha is a straight line
        ends = [math.log(chain.alpha(k / 1000)) for k in (i, i + 1)]
        assert abs(math.log(chain.alpha((i + 0.25) / 1000)) - (0.75 * ends[0] + 0.25 * ends[1])) <= 1e-15
    assert (chain.time_of_logsnr(chain.lam(knots)) - knots).abs().max() <= 1e-12


@pytest.mark.parametrize("beta", [1.5, 0.0, -0.1, math.nan, 1 + 1e-12])
def test_betas_that_make_no_chain_are_refused(beta):
    betas = torch.tensor([0.5, beta, 2.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"betas: {beta:g} at 2 of 3, expected numbers in \(0, 1\]; more knots or"):
        process.discrete(betas)


def test_a_chain_may_end_in_pure_noise():
    chain = process.discrete(torch.tensor([0.5, 1.0], dtype=torch.float64))
    assert (chain.alpha(1.0), chain.sigma(1.0)) == (0.0, 1.0) and chain.alpha(0.5) ** 2 == pytest.approx(0.5)


def test_other_interval_same_curves():
    part = process.named("vp-linear").between(0.05, 0.9)
    assert (part.t_min, part.t_max, part.prior_std) == (0.05, 0.9, 1.0)
    assert part.alpha(0.3) == process.named("vp-linear").alpha(0.3)


def test_noised_rows_have_their_own_times():
    vp = process.named("vp-linear")
    x0, eps = torch.ones(3, 2), torch.full((3, 2), 2.0)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    rows = vp.noised(x0, t, eps)
    assert rows.dtype == torch.float32
    for b in range(3):
        alone = vp.noised(x0[b], t[b].item(), eps[b])
        assert (rows[b] - alone).abs().max() <= 3e-7


def test_unknown_names_are_refused_with_the_list():
    with pytest.raises(KeyError, match="process: 'vp' is not known; expected one of .*vp-linear"):
        process.named("vp")
    for name in ("karras", "power(0)", "power(-1)", "power", "power(7)_to_one"):
        with pytest.raises(BadGrid, match=r"grid: .* is not known; expected t, t\^2, lam"):
            grids.named(name)


def test_published_grid_of_edm():
    """sigma_i = (smax^(1/7) + i/(n-1) (smin^(1/7) - smax^(1/7)))^7 and a last 0: Karras et al. 2022, eq. 5, n = 18."""
    found = grids.named("power(7)_to_zero")(18, process.named("ve-edm"))
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = [(high + i / 17 * (low - high)) ** 7 for i in range(18)] + [0.0]
    assert (found - torch.tensor(expected, dtype=torch.float64)).abs().max() <= 1e-12
    assert grids.named("power(7)_to_zero")(1, process.named("ve-edm")).tolist() == [80.0, 0.0]


@pytest.mark.parametrize("path", ["vp-linear", "ve-edm", "subvp", "cosine"])
def test_grids_are_even_in_their_variable(path):
    p = process.named(path)
    even = {
        "t": lambda t: t,
        "t^2": lambda t: t**0.5,
        "lam": p.lam,
        "power(7)": lambda t: p.rho(t) ** (1 / 7),
        "power(1)": p.rho,
        "t_to_zero": lambda t: t,
    }
    for name, variable in even.items():
        gaps = variable(grids.named(name)(13, p)).diff()
        assert (gaps / gaps.mean() - 1).abs().max() <= 1e-9, name
    assert grids.named("t_to_zero")(4, p)[-1] == 0


def test_steps_must_be_a_positive_integer():
    for steps in (0, -1, 2.0, "3"):
        with pytest.raises(BadGrid, match=r"^steps: .*, expected an integer >= 1$"):
            grids.named("t")(steps, process.named("condot"))


def test_paths_without_signal_or_noise_are_refused_where_a_grid_needs_them():
    condot, chain = process.named("condot"), process.named("discrete-linear")
    for name in ("lam", "power(7)", "power(7)_to_zero"):
        with pytest.raises(BadGrid, match=r"^grid: .* needs alpha\(t_max\) > 0, but condot has alpha\(1\) = 0; use "):
            grids.named(name)(4, condot)
        grids.checked(grids.named(name)(4, condot.between(1e-3, 0.999)))
    for name in ("lam", "power(7)_to_zero"):
        with pytest.raises(BadGrid, match=r"^grid: .* needs sigma\(t_min\) > 0, but discrete-linear has sigma\(0\) = "):
            grids.named(name)(4, chain)
    grids.checked(grids.named("power(7)")(4, chain))
    grids.checked(grids.named("t")(4, chain))


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (torch.tensor([0.1, 0.5], dtype=torch.float64), "not strictly decreasing at index 0 (0.1 -> 0.5)"),
        (torch.tensor([0.5, 0.5], dtype=torch.float64), "not strictly decreasing at index 0"),
        (torch.tensor([0.5, 0.2, math.nan], dtype=torch.float64), "not strictly decreasing at index 2 (nan)"),
        (torch.tensor([1.0, 0.5]), "dtype is torch.float32, expected torch.float64"),
        (torch.tensor([1.0], dtype=torch.float64), "shape is (1,), expected [steps+1]"),
        (torch.ones(2, 2, dtype=torch.float64), "shape is (2, 2), expected [steps+1]"),
    ],
)
def test_bad_grids_are_refused(grid, says):
    with pytest.raises(BadGrid) as caught:
        grids.checked(grid)
    assert str(caught.value).startswith("grid: ") and says in str(caught.value) and "\n" not in str(caught.value)


def test_a_grid_does_not_go_beyond_clean_data():
    with pytest.raises(BadGrid, match="ends at -0.1, expected at least 0"):
        grids.checked(torch.tensor([0.5, -0.1], dtype=torch.float64))


def test_an_empty_batch_costs_nothing():
    x = torch.empty(0, 2, dtype=torch.float64)
    model = Predictor("mean", lambda y, t: y)
    for id, card in catalogue.samplers().items():
        if card.consumes == "mean" and not card.needs and card.walks == "down" and card.nfe:
            path = process.named(card.path if card.paths else "vp-linear")
            grid = (card.grid if card.paths else grids.uniform_lam)(24, path)  # a chain of some paths has its own times
            run = card.sample(model, x, grid, process=path, draws=Philox(0, 0))
            assert run.x.shape == (0, 2) and run.nfe == 0, id


def phi_in_sixty_digits(order: int, z: float) -> float:
    with localcontext() as context:
        context.prec = 60
        point = Decimal(z)
        value = point.exp()
        for k in range(order):
            value = (value - 1 / Decimal(math.factorial(k))) / point
        return float(value)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_phi_functions(order):
    """Against the recursion in 60 digits, over both branches; the limits at 0 and at -inf."""
    z = torch.cat([torch.linspace(-20, 5, 102), torch.tensor([1e-9, -0.999999, 1.0])]).double()
    exact = torch.tensor([phi_in_sixty_digits(order, point) for point in z.tolist()], dtype=torch.float64)
    torch.testing.assert_close(phi(order, z), exact, rtol=5e-15, atol=0)
    assert phi(order, torch.tensor([0.0, -math.inf])).tolist() == [1 / math.factorial(order), 0.0]


def test_rates_do_not_depend_on_what_the_caller_records():
    """Under inference_mode nothing is recorded, and a slope by autograd would be 0."""
    for name in ("vp-linear", "cosine", "ve-edm", "condot"):
        path = process.named(name)
        t = torch.tensor([0.3, 0.6], dtype=torch.float64)
        with torch.inference_mode():
            inside = path.rates(t.clone())
        with torch.no_grad():
            outside = path.rates(t)
        assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))
        assert any((rate != 0).any() for rate in inside)
