"""lu2022dpmsolverpp: what of its card's invariants concerns 2M (orders stand in the laws, anchors in test_anchors)."""

import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from reference_impls import targets
from reference_impls.continuous import lu2022dpmsolverpp as dpmpp
from reference_impls.core import grids, process
from reference_impls.core.types import Predictor

VP = process.named("vp-linear").between(0.05, 0.9)


def polynomial(degree: int) -> Predictor:
    """A mean that ignores x and is a polynomial in lam (toolkit T2)."""
    return Predictor("mean", lambda x, t: torch.full_like(x, 1.0 + 0.7 * VP.lam(t) ** degree if degree else 1.0))


def integral(degree: int, lam_t: float, lam_s: float) -> float:
    """int e^l (1 + .7 l^degree) dl in closed form for degrees 0 and 1."""
    if degree == 0:
        return math.exp(lam_s) - math.exp(lam_t)
    return sum(sign * math.exp(q) * (1 + 0.7 * (q - 1)) for sign, q in ((1, lam_s), (-1, lam_t)))


@pytest.mark.parametrize(("degree", "exact"), [(0, True), (1, False)])
def test_polynomial_exactness(degree, exact):
    """T2: the midpoint form of 2M is exact for a constant mean and not for one linear in lam."""
    grid = grids.uniform_t(7, VP)
    x = torch.tensor([[0.8]], dtype=torch.float64)
    found = dpmpp.sample(polynomial(degree), x, grid, process=VP, draws=Silence(), lower_order_final=False).x.item()
    lam = VP.lam(grid)
    truth = VP.sigma(0.05) * (0.8 / VP.sigma(0.9) + integral(degree, lam[0].item(), lam[-1].item()))
    assert (abs(found - truth) <= 1e-12 * abs(truth)) is exact


def test_second_step_is_the_published_formula():
    """x = (sigma_s/sigma_t) x - alpha_s expm1(-h) [(1 + 1/(2 r)) D_0 - D_{-1}/(2 r)] on an uneven grid, by hand."""
    grid = torch.tensor([0.9, 0.55, 0.4], dtype=torch.float64)
    model = exact_model(VP)
    x = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
    d0 = model(x, 0.9)
    h0, h1 = (VP.lam(grid[i + 1].item()) - VP.lam(grid[i].item()) for i in (0, 1))
    x1 = VP.sigma(0.55) / VP.sigma(0.9) * x - VP.alpha(0.55) * math.expm1(-h0) * d0
    d1, r = model(x1, 0.55), h0 / h1
    bracket = (1 + 1 / (2 * r)) * d1 - d0 / (2 * r)
    x2 = VP.sigma(0.4) / VP.sigma(0.55) * x1 - VP.alpha(0.4) * math.expm1(-h1) * bracket
    found = dpmpp.sample(model, x, grid, process=VP, draws=Silence(), lower_order_final=False).x
    torch.testing.assert_close(found, x2, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("steps", "lowered"), [(9, True), (10, False)])
def test_lower_order_final_acts_below_ten_steps(steps, lowered):
    """The code's rule, not its docstring's."""
    rows = dpmpp.plan(grids.uniform_lam(steps, VP), VP)
    assert (rows.before[-1].item() == 0) is lowered
    assert rows.before[0].item() == 0 and (rows.before[1:-1] != 0).all()
    x, grid = torch.ones(1, 1, dtype=torch.float64), grids.uniform_lam(steps, VP)
    options = ({}, {"lower_order_final": False})
    ends = [dpmpp.sample(exact_model(VP), x, grid, process=VP, draws=Silence(), **each).x for each in options]
    assert (ends[0] != ends[1]).item() is lowered  # it is the default, as in the code


@pytest.mark.parametrize("lower_order_final", [False, True])
def test_survives_both_ends_of_condot(lower_order_final):
    """lam = -inf at t = 1 and +inf at t = 0: the first and the last step are first order, and the end is D."""
    path = process.named("condot")
    grid = torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    seen = []
    model = Predictor("mean", lambda y, t: seen.append(targets.exact(targets.named("g3"), path)(y, t)) or seen[-1])
    found = dpmpp.sample(model, x, grid, process=path, draws=Silence(), lower_order_final=lower_order_final).x
    torch.testing.assert_close(found, seen[-1], rtol=1e-14, atol=1e-14)


def test_order_is_one_or_two():
    with pytest.raises(ValueError, match="order: 3, expected 1 or 2"):
        dpmpp.plan(grids.uniform_lam(3, VP), VP, order=3)
