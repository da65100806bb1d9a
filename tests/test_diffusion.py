"""core/diffusion: the coefficients against the published ones, transport against closed maps, divergence by hand."""

import math

import pytest
import torch

from benchmarks.laws.conduct import exact_model
from reference_impls import targets
from reference_impls.core import convert, diffusion, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Meter, Predictor

TIMES = torch.tensor([1e-5, 1e-3, 0.03, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
B0, B1 = 0.1, 20.0


def published(name: str, t):
    """f and g^2 as Song et al. 2021 write them (equations 30 to 32, 29), in the suite's default constants."""
    if name == "ve-geo":
        return torch.zeros_like(t), 2 * math.log(5000) * (0.01 * 5000**t) ** 2
    beta, whole = B0 + t * (B1 - B0), B0 * t + t**2 * (B1 - B0) / 2
    return -beta / 2, beta * (1 if name == "vp-linear" else -torch.expm1(-2 * whole))


@pytest.mark.parametrize("name", ["vp-linear", "subvp", "ve-geo"])
def test_drift_is_the_published_one(name):
    found = diffusion.drift(TIMES, process.named(name))
    torch.testing.assert_close(found, published(name, TIMES), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["vp-linear", "subvp", "ve-geo", "ve-edm", "cosine", "condot"])
def test_velocity_is_drift_less_half_the_score(name):
    """u = f x - g^2/2 (alpha D - x)/sigma^2, and core/convert's velocity of the mean."""
    path = process.named(name)
    t = path.t_min + torch.linspace(0.01, 0.98, 7, dtype=torch.float64) * (path.t_max - path.t_min)
    x, mean = (Philox(1, 7).normal(tag, torch.empty(7, dtype=torch.float64)) for tag in ("x", "mean"))
    (f, g2), (c, k) = diffusion.drift(t, path), diffusion.slopes(t, path)
    alpha, sigma = path.alpha(t), path.sigma(t)
    torch.testing.assert_close(c * x + k * mean, f * x - g2 / 2 * (alpha * mean - x) / sigma**2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        c * x + k * mean, convert.velocity_of_mean(x, mean, alpha, sigma, *path.rates(t)), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", ["vp-linear", "subvp", "ve-geo", "condot"])
def test_transition_takes_the_marginal_at_s_to_that_at_t(name):
    """a alpha_s = alpha_t and a^2 sigma_s^2 + b = sigma_t^2; two transitions in a row are one."""
    path = process.named(name)
    t, r, s = (torch.tensor([time], dtype=torch.float64) for time in (0.8, 0.5, 0.1))
    a, b = diffusion.transition(t, s, path)
    torch.testing.assert_close(a * path.alpha(s), path.alpha(t), rtol=1e-13, atol=0)
    torch.testing.assert_close(a**2 * path.sigma(s) ** 2 + b, path.sigma(t) ** 2, rtol=1e-13, atol=0)
    (a1, b1), (a2, b2) = diffusion.transition(r, s, path), diffusion.transition(t, r, path)
    torch.testing.assert_close((a2 * a1, a2**2 * b1 + b2), (a, b), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_transport_and_its_divergence_on_a_gaussian(shape):
    """The flow of correlated Gaussian data is linear: div u integrates to its log det; both ways, any shape."""
    path, target = process.named("vp-linear"), targets.named("gaussian-2d")
    flat = targets.exact(target, path)
    model = Predictor("mean", lambda x, t: flat(x.flatten(1), t).reshape(x.shape))
    x = torch.tensor([[0.3, -0.2], [3.0, 1.0], [-4.0, 2.5]], dtype=torch.float64)
    ends = {t: (path.alpha(t), path.sigma(t)) for t in (0.02, 0.9)}
    options = dict(process=path, rtol=1e-10, atol=1e-10)
    for start, end in ((0.02, 0.9), (0.9, 0.02)):
        exact = target.flow(x, *ends[start], *ends[end])
        variance = [alpha**2 * target.variances + sigma**2 for alpha, sigma in (ends[start], ends[end])]
        log_det = (variance[1].log() - variance[0].log()).sum() / 2
        meter = Meter(model, 3)
        moved, gained = diffusion.flow_with_divergence(meter, x.reshape(3, *shape), start, end, **options)
        torch.testing.assert_close(moved.reshape(3, 2), exact, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(gained, log_det.expand(3), rtol=0, atol=1e-8)
        assert meter.vjps == 2 * meter.nfe
        plain = diffusion.flow(Meter(model, 3), x.reshape(3, *shape), start, end, **options)
        torch.testing.assert_close(plain.reshape(3, 2), exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("probe", [[1.0, 1.0], [1.0, -1.0], [0.3, -2.0], [1.7, 0.0]])
def test_a_probe_is_its_quadratic_form(probe):
    """v^T (du/dx) v integrated, where D = x M^T and du/dx = c I + k M does not depend on x, |v|^2 and all."""
    path = process.named("condot").between(0.1, 0.9)
    matrix = torch.tensor([[0.7, 0.3], [-0.2, 0.4]], dtype=torch.float64)
    model, v = Predictor("mean", lambda x, t: x @ matrix.T), torch.tensor([probe], dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 4001, dtype=torch.float64)
    c, k = (torch.trapezoid(slope, t) for slope in diffusion.slopes(t, path))
    expected = (c * v.square().sum() + k * (v @ matrix @ v.T).sum()).item()
    x = torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    options = dict(process=path, rtol=1e-9, atol=1e-9)
    found = diffusion.flow_with_divergence(Meter(model, 1), x, 0.1, 0.9, probe=v, **options)[1]
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_batch_never_changes_a_row_s_density():
    """Rows end their steps at different times: each has its own probe all the way."""
    path = process.named("vp-linear").between(0.02, 0.9)
    x = torch.tensor([[0.3], [3.0], [-4.0]], dtype=torch.float64)
    v = torch.tensor([[1.0], [0.5], [-2.0]], dtype=torch.float64)
    options = dict(process=path, rtol=1e-5, atol=1e-5)
    model = exact_model(path)
    together = diffusion.flow_with_divergence(Meter(model, 3), x, 0.02, 0.9, probe=v, **options)
    for i in range(3):
        rows = slice(i, i + 1)
        alone = diffusion.flow_with_divergence(Meter(model, 1), x[rows], 0.02, 0.9, probe=v[rows], **options)
        torch.testing.assert_close([part[rows] for part in together], list(alone), rtol=1e-12, atol=1e-12)
