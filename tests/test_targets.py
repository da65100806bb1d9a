"""Exact targets: the laws over every named one, independent formulas, an independent ODE solver, and the digits."""

import importlib
import math
import pkgutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy.integrate import solve_ivp

from benchmarks.laws import laws
from reference_impls import targets
from reference_impls.core import process
from reference_impls.core.convert import velocity_of_mean
from reference_impls.core.draws import Philox
from reference_impls.targets import atoms as atoms_module
from reference_impls.targets.atoms import Atoms, digits
from reference_impls.targets.gaussian import gaussian, isotropic
from reference_impls.targets.labelled import spread_labels
from reference_impls.targets.mixtures import Mixture, Product, g3, normal_quantile, rotation

CASES = [
    pytest.param(law, targets.named(name), id=f"{name}-{law.name}")
    for law in laws().values()
    if law.subject == "target"
    for name in targets.makers()
    if law.applies(targets.named(name))
]


def float64(*shape: int, tag: str = "x") -> torch.Tensor:
    return Philox(5, shape[0]).normal(tag, torch.empty(shape, dtype=torch.float64))


def test_no_two_modules_name_a_target_alike():
    """The registry would keep the last of them."""
    names = [f"{targets.__name__}.{file.name}" for file in pkgutil.iter_modules(targets.__path__)]
    modules = [importlib.import_module(name) for name in names]
    assert sum(len(module.NAMED) for module in modules) == len(targets.makers())


@pytest.mark.parametrize(("law", "card"), CASES)
def test_law(law, card):
    law.check(card)


# The probability-flow map


@pytest.mark.parametrize("name", ["vp-linear", "ve-edm", "condot", "cosine", "subvp"])
@pytest.mark.parametrize("ends", ["noise_to_data", "data_to_noise", "inside"])
def test_flow_of_g3_is_the_ode_of_a_high_accuracy_solver(name, ends):
    """DOP853 at rtol 1e-13 from 7 points within 3.5 standard deviations; the flow's own error is below the solver's."""
    path, target = process.named(name), g3()
    t_max = path.t_max if path.alpha(path.t_max) > 0 else 0.999  # the ODE's velocity is 0/0 where alpha = 0
    s, t = {"noise_to_data": (t_max, path.t_min), "data_to_noise": (path.t_min, t_max), "inside": (0.9, 0.05)}[ends]
    x = torch.linspace(-3.5, 3.5, 7, dtype=torch.float64)[:, None] * math.sqrt(
        1.2 * path.alpha(s) ** 2 + path.sigma(s) ** 2
    )

    def velocity(time, y):
        y, alpha, sigma = torch.tensor(y)[:, None], path.alpha(time), path.sigma(time)
        return velocity_of_mean(y, target.mean(y, alpha, sigma), alpha, sigma, *path.rates(time))[:, 0].numpy()

    solved = solve_ivp(velocity, (s, t), x[:, 0].numpy(), method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    found = target.flow(x, path.alpha(s), path.sigma(s), path.alpha(t), path.sigma(t))[:, 0]
    gap = (found - torch.tensor(solved)).abs() / (1 + found.abs())
    assert gap.max() <= 1e-12


def test_flow_of_one_component_is_the_gaussian_flow():
    line, plane = isotropic(torch.tensor([0.3], dtype=torch.float64), 0.49), targets.named("gaussian-2d")
    one = Product("one", *(torch.tensor([[v]], dtype=torch.float64) for v in (1.0, 0.3, 0.49)))
    straight = (plane.mu @ plane.basis)[None]
    turned = Product("turned", torch.ones(1, 2, dtype=torch.float64), straight, plane.variances[None], plane.basis)
    for product, exact, x in ((one, line, float64(40, 1) * 3), (turned, plane, float64(40, 2) * 3)):
        for ends in ((0.0, 1.0, 1.0, 0.0), (0.6, 0.8, 0.9, 0.1), (1.0, 1e-4, 1.0, 200.0), (1.0, 200.0, 1.0, 1e-4)):
            found, expected = product.flow(x, *ends), exact.flow(x, *ends)
            assert (found - expected).abs().max() <= 2e-13 * (1 + expected.abs().max())


@pytest.mark.parametrize("ends", [(200.0, 1e-4), (1e-4, 200.0), (1.0, 0.5), (80.0, 0.002), (1.0, 0.999)])
def test_flow_reaches_far_tails(ends):
    """From -50 to 50 standard deviations: increasing, and there and back to 1e-13."""
    s, t = ends
    x = torch.linspace(-50, 50, 2001, dtype=torch.float64)[:, None] * (s + 1)
    y = g3().flow(x, 1.0, s, 1.0, t)
    assert torch.isfinite(y).all() and (y.diff(dim=0) > 0).all()
    assert ((g3().flow(y, 1.0, t, 1.0, s) - x).abs() / (s + 1)).max() <= 1e-13


def test_flow_from_alpha_zero_is_the_quantile_transform():
    """F_t(x_t) = Phi(x_s / sigma_s), checked with scipy's normal distribution function."""
    x = torch.linspace(-8, 8, 41, dtype=torch.float64)[:, None]
    y = g3().flow(2 * x, 0.0, 2.0, 0.7, 0.0)
    weights, means, stds = g3().weights, 0.7 * g3().means, 0.7 * g3().variances.sqrt()
    for sign in (1, -1):  # each tail by its own logarithm
        z = (sign * (y.T - means) / stds).numpy()
        found = special.logsumexp(special.log_ndtr(z), axis=0, b=weights.numpy())
        expected = special.log_ndtr(sign * x[:, 0].numpy())
        smaller = expected <= math.log(0.5) + 1e-12
        assert smaller.sum() == 21 and abs(found / expected - 1)[smaller].max() <= 1e-12


def test_normal_quantile_inverts_the_log_distribution_function():
    log_p = -torch.logspace(math.log10(math.log(2)), 6, 400, dtype=torch.float64)
    back = torch.tensor(special.log_ndtr(normal_quantile(log_p).numpy()))
    assert (back / log_p - 1).abs().max() <= 2e-14


# Independent formulas for one and the same law


def test_a_product_is_a_mixture_of_all_combinations():
    product = targets.named("product-2d")
    pairs = [(i, j) for i in range(3) for j in range(3)]
    weights = torch.stack([product.weights[i, 0] * product.weights[j, 1] for i, j in pairs])
    means = torch.stack([torch.stack([product.means[i, 0], product.means[j, 1]]) for i, j in pairs])
    variances = torch.stack([torch.stack([product.variances[i, 0], product.variances[j, 1]]) for i, j in pairs])
    turn = product.rotation
    mixture = Mixture("same", weights, means @ turn.T, turn @ torch.diag_embed(variances) @ turn.T)
    x = float64(50, 2) * 1.5
    for alpha, sigma in ((1.0, 0.05), (0.7, 0.7), (0.0, 1.0), (1.0, 80.0)):
        assert (product.mean(x, alpha, sigma) - mixture.mean(x, alpha, sigma)).abs().max() <= 1e-12
        assert (product.log_prob(x, alpha, sigma) - mixture.log_prob(x, alpha, sigma)).abs().max() <= 1e-10


def test_blurred_atoms_are_a_mixture():
    points = float64(12, 3)
    for blur in (0.3, 1.2):
        atoms = Atoms("blurred", points, blur)
        balls = blur**2 * torch.eye(3, dtype=torch.float64).expand(12, 3, 3)
        mixture = Mixture("same", torch.full((12,), 1 / 12, dtype=torch.float64), points, balls)
        x = float64(30, 3, tag="y") * 2
        for alpha, sigma in ((1.0, 0.0), (0.8, 0.2), (0.0, 1.0), (1.0, 40.0)):
            assert (atoms.mean(x, alpha, sigma) - mixture.mean(x, alpha, sigma)).abs().max() <= 1e-12
            assert (atoms.log_prob(x, alpha, sigma) - mixture.log_prob(x, alpha, sigma)).abs().max() <= 1e-11
        like = torch.empty(20000, 3, dtype=torch.float64)
        x0 = atoms.sample(Philox(1, 20000), like)
        gap = (x0.var(0) - points.var(0, correction=0) - blur**2).abs()
        assert gap.max() <= 6 * x0.var(0).max() * math.sqrt(3 / 20000)


def test_gaussians_and_one_component_mixtures_against_matrix_formulas():
    """In three dimensions too: in the plane eigenvectors often form a symmetric matrix, and a transposed one hides."""
    skew = float64(3, 3, tag="skew")
    plane = torch.tensor([[1.21, 0.44], [0.44, 0.25]], dtype=torch.float64)
    for centre, covariance in (((0.7, -0.4), plane), ((1.0, -2.0, 0.5), skew @ skew.T)):
        mu = torch.tensor(centre, dtype=torch.float64)
        d, x = mu.shape[0], float64(20, mu.shape[0])
        spread = 0.36 * covariance + 0.64 * torch.eye(d, dtype=torch.float64)
        log_prob = torch.distributions.MultivariateNormal(0.6 * mu, spread).log_prob(x)
        mean = mu + (x - 0.6 * mu) @ (0.6 * covariance @ torch.linalg.inv(spread)).T
        one = Mixture("one", torch.ones(1, dtype=torch.float64), mu[None], covariance[None])
        for target in (targets.named("gaussian-2d") if d == 2 else gaussian(mu, covariance), one):
            assert (target.mean(x, 0.6, 0.8) - mean).abs().max() <= 1e-12
            assert (target.log_prob(x, 0.6, 0.8) - log_prob).abs().max() <= 1e-12
            x0 = target.sample(Philox(2, 40000), torch.empty(40000, d, dtype=torch.float64))
            scale = covariance.diagonal().sqrt()
            assert ((x0.mean(0) - mu) / scale).abs().max() <= 6 / 200
            assert ((x0.T.cov() - covariance) / scale / scale[:, None]).abs().max() <= 6 * math.sqrt(2 / 40000)


def test_point_mass_is_known_at_every_noise_level():
    point, x = isotropic(torch.tensor([[0.5, -1.0]]), 0.0), float64(4, 1, 2)
    for alpha, sigma in ((1.0, 0.0), (0.3, 0.9), (0.0, 1.0)):
        assert (point.mean(x, alpha, sigma) == torch.tensor([[0.5, -1.0]])).all()
    expected = 0.9 * point.mu + 0.1 / 0.9 * (x - 0.3 * point.mu)  # eps is kept
    assert (point.flow(x, 0.3, 0.9, 0.9, 0.1) - expected).abs().max() <= 1e-15


@pytest.mark.parametrize("name", ["g3", "gaussian-2d", "product-2d", "product-64d", "mixture-2d", "digits"])
def test_limits_of_the_denoiser(name):
    """alpha = 0 knows nothing: the data's mean, alike for all x. sigma -> 0 knows all: x/alpha at samples."""
    target = targets.named(name)
    x0 = target.sample(Philox(3, 400), torch.empty(400, *target.shape, dtype=torch.float64))
    blind = target.mean(x0, 0.0, 1.0)
    assert (blind - blind[0]).abs().max() <= 1e-13
    assert (blind[0] - x0.mean(0)).abs().max() <= 6 * x0.std(0).max() / math.sqrt(400)
    assert (target.mean(0.5 * x0, 0.5, 1e-6) - x0).abs().max() <= 1e-9
    if name == "digits":
        assert (blind[0] - target.atoms.mean(0)).abs().max() <= 1e-13  # 897 roundings of 2^-53


def test_the_rotation_is_orthogonal_and_pinned():
    """QR signs and the determinant are fixed, so these numbers hold on every platform."""
    for d in (2, 3, 64):
        turn = rotation(d, d)
        assert (turn.T @ turn - torch.eye(d)).abs().max() <= 1e-14 and abs(torch.linalg.det(turn) - 1) <= 1e-13
    cos, sin = 0.882473475133744, 0.47036216438545875
    expected = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    assert (targets.named("product-2d").rotation - expected).abs().max() <= 1e-14
    corner = torch.tensor([0.2653732995886884, -0.13753957385131757, -0.2705063130432137], dtype=torch.float64)
    assert (targets.named("product-64d").rotation[0, :3] - corner).abs().max() <= 1e-13


def test_bad_covariances_are_refused():
    mu = torch.zeros(2)
    with pytest.raises(ValueError, match="^covariance: not symmetric .*expected"):
        gaussian(mu, torch.tensor([[1.0, 0.5], [0.4, 1.0]]))
    with pytest.raises(ValueError, match="^covariance: smallest eigenvalue is -1, expected none below 0$"):
        gaussian(mu, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


# Atoms and digits


def brute(atoms: torch.Tensor, x: torch.Tensor, alpha: float, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log_prob from explicit differences x - alpha y_i."""
    points, flat = atoms.flatten(1), x.flatten(1)
    logits = -(flat[:, None] - alpha * points).square().sum(2) / (2 * sigma**2)
    d, n = points.shape[1], points.shape[0]
    log_p = logits.logsumexp(1) - math.log(n) - d / 2 * math.log(2 * math.pi * sigma**2)
    return (logits.softmax(1) @ points).reshape(x.shape), log_p


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.3, 1.0, 10.0, 80.0])
def test_digits_against_explicit_differences(sigma):
    """One GEMM instead of differences loses |x|^2/v of 1e-16: 1e-8 of log_prob and nothing of the mean at 1e-3."""
    target = targets.named("digits")
    for alpha in (1.0, 0.4, 0.0):
        x0 = target.sample(Philox(7, 12), torch.empty(12, 1, 8, 8, dtype=torch.float64))
        x = alpha * (x0 + x0.roll(1, 0)) / 2 + sigma * float64(12, 1, 8, 8)  # between two atoms too
        mean, log_p = brute(target.atoms, x, alpha, sigma)
        lost = 1e-15 * (1 + 64 / sigma**2)
        assert (target.mean(x, alpha, sigma) - mean).abs().max() <= 1e-13 + 10 * lost
        assert (target.log_prob(x, alpha, sigma) - log_p).abs().max() <= 1e-12 + 100 * lost
        single = target.mean(x.float(), alpha, sigma)
        assert single.dtype == torch.float32
        # a float32 sum of 897 terms: a random walk of roundings ends sqrt(897) 2^-24 = 1.8e-6 away; five times that
        assert (single.double() - target.mean(x.float().double(), alpha, sigma)).abs().max() <= 9e-6


def test_without_noise_the_mean_is_the_nearest_atom():
    target = targets.named("digits")
    x = target.atoms[:9] + 0.1 * float64(9, 1, 8, 8)
    index, distance = target.nearest(x)
    gaps = torch.cdist(x.flatten(1), target.atoms.flatten(1))
    assert torch.equal(index, gaps.argmin(1)) and (distance - gaps.amin(1)).abs().max() <= 1e-12
    assert torch.equal(target.mean(x, 1.0, 0.0), target.atoms[index])
    assert torch.equal(target.mean(0.3 * x, 0.3, 0.0), target.atoms[index])
    rows = target.mean(x, torch.ones(9, 1, 1, 1).double(), torch.zeros(9, 1, 1, 1).double())
    assert torch.equal(rows, target.atoms[index])
    assert target.nearest(target.atoms)[1].max() == 0 and target.nearest(x.float())[1].dtype == torch.float32


def test_rows_in_passes_equal_rows_at_once(monkeypatch):
    target = Atoms("few", float64(50, 4), 0.2)
    x = float64(23, 4, tag="y")
    alpha, sigma = Philox(6, 23).uniform("alpha", (23, 1)), torch.full((23, 1), 0.4, dtype=torch.float64)
    whole = target.mean(x, alpha, sigma), target.mean(x, 0.9, 0.4), target.log_prob(x, alpha, sigma)
    monkeypatch.setitem(atoms_module.ENTRIES, "cpu", 200)
    parts = target.mean(x, alpha, sigma), target.mean(x, 0.9, 0.4), target.log_prob(x, alpha, sigma)
    for a, b in zip(whole, parts, strict=True):
        assert (a - b).abs().max() <= 1e-13


def test_jacobian_of_the_atoms_is_a_covariance():
    """dD/dx = alpha/sigma^2 Cov[x0|x]: symmetric, no negative eigenvalue (solvers.md)."""
    target, x = Atoms("few", float64(20, 4)), float64(1, 4, tag="y")
    alpha, sigma = 0.8, 0.6
    jacobian = torch.func.jacrev(lambda y: target.mean(y[None], alpha, sigma)[0])(x[0])
    logits = -(x - alpha * target.atoms).square().sum(1) / (2 * sigma**2)
    weights, points = logits.softmax(0), target.atoms
    centred = points - weights @ points
    assert (jacobian - alpha / sigma**2 * (centred.T * weights) @ centred).abs().max() <= 1e-12


def test_atoms_are_drawn_alike():
    target = Atoms("few", torch.arange(7.0).double()[:, None])
    x0 = target.sample(Philox(4, 70000), torch.empty(70000, 1))
    counts = x0[:, 0].long().bincount(minlength=7).double()
    assert x0.dtype == torch.float32 and ((counts - 10000).abs() <= 6 * math.sqrt(10000 * 6 / 7)).all()


def test_split_of_the_digits():
    (train, labels), (held_out, other), (everything, total) = (digits(part) for part in ("train", "held_out", "all"))
    assert train.shape == (897, 1, 8, 8) and held_out.shape == (900, 1, 8, 8) and everything.dtype == torch.float64
    assert (everything.min(), everything.max()) == (-1, 1)
    for k in range(10):  # each class in its share, to one image
        assert abs((labels == k).sum().item() - 897 / 1797 * (total == k).sum().item()) < 1
    both = torch.cat([train, held_out]).flatten(1)
    assert torch.equal(both.unique(dim=0), everything.flatten(1).unique(dim=0))
    assert torch.equal(torch.cat([labels, other]).bincount(), total.bincount())
    assert labels[:20].tolist() == [0, 1, 3, 7, 9, 0, 1, 4, 5, 6, 7, 9, 4, 5, 7, 9, 0, 5, 5, 5]
    train.zero_()  # a caller's copy, not the data
    assert digits("train")[0].abs().sum() > 0
    with pytest.raises(ValueError, match="^part: 'test' is not known; expected 'train', 'held_out' or 'all'$"):
        digits("test")


def test_unknown_targets_are_refused_with_the_list():
    with pytest.raises(KeyError, match="target: 'g4' is not known; expected one of .*g3"):
        targets.named("g4")


@given(st.integers(0, 2**32 - 1))
def test_samples_are_keyed_by_their_index(seed):
    for name in ("g3", "gaussian-2d", "product-64d", "mixture-2d", "digits"):
        target = targets.named(name)
        like = torch.empty(5, *target.shape, dtype=torch.float64)
        whole, part = target.sample(Philox(seed, 5), like), target.sample(Philox(seed, range(2, 4)), like[:2])
        assert (whole[2:4] - part).abs().max() <= 1e-13


# Labels

LABELLED = [name for name in targets.makers() if getattr(targets.named(name), "class_laws", None) is not None]
GIVEN = [
    pytest.param(law, targets.named(name).given(torch.tensor([label])), id=f"{name}-given-{label}-{law.name}")
    for law in laws().values()
    if law.subject == "target"
    for name, label in (("g3", 2), ("mixture-2d", 1), ("digits", 4))
    if law.applies(targets.named(name).given(torch.tensor([label])))
]


@pytest.mark.parametrize(("law", "card"), GIVEN)
def test_law_given_a_label(law, card):
    law.check(card)


def test_the_suite_has_labelled_targets():
    assert {"g3", "mixture-2d", "digits"} <= set(LABELLED) and "product-2d" not in LABELLED


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_spread_by_sample_index_alone(name):
    """Any run of consecutive samples holds each class in its share; cutting the samples elsewhere changes no label."""
    weights = targets.named(name).class_weights
    whole = spread_labels(weights, range(5000))
    assert torch.equal(torch.cat([spread_labels(weights, range(a, a + 500)) for a in range(0, 5000, 500)]), whole)
    for first, count in ((0, 45), (17, 45), (123, 300), (0, 5000)):
        shares = whole[first : first + count].bincount(minlength=len(weights))
        assert ((shares - weights * count).abs() <= 3).all(), (first, count, shares)  # discrepancy of a Kronecker set


def test_labels_that_do_not_fit_are_refused():
    digit = targets.named("digits")
    for label, said in (
        (torch.tensor([10]), "^label: 10 .. 10, expected 0 .. 9"),
        (torch.tensor([-2]), "^label: -2"),
        (torch.tensor([1.0]), "^label: torch.float32"),
        (torch.tensor(3), "expected int64"),
    ):
        with pytest.raises(ValueError, match=said):
            digit.given(label)
    with pytest.raises(ValueError, match="no classes"):
        targets.named("product-2d").given(torch.tensor([0]))
    with pytest.raises(ValueError, match="^label: 3 labels, expected 1 or 2"):
        digit.given(torch.tensor([1, 2, 3])).mean(torch.zeros(2, 1, 8, 8), 1.0, 0.5)


def test_classes_of_the_digits_are_those_of_the_file():
    images, labels = digits("train")
    digit = targets.named("digits")
    assert torch.equal(digit.class_laws[7].atoms, images[labels == 7])
    assert torch.allclose(digit.class_weights * 897, labels.bincount().double(), rtol=0, atol=1e-12)
    near = digit.given(labels).mean(images, 1.0, 1e-3)  # at so little noise each digit is its own denoised self
    assert (near - images).abs().max() <= 1e-12


# Laws of several scales


def test_normal_laws_are_of_the_scale_they_are_called_by():
    for written, variance in ((".04", 0.04), ("1", 1.0), ("9", 9.0)):
        law = targets.named(f"normal-{written}-8d")
        assert law.total_variance == pytest.approx(8 * variance) and law.mu.abs().max() == 0 and law.shape == (8,)


def test_a_point_is_its_own_mean_and_sample():
    law, x = targets.named("point-4d"), float64(3, 1, 2, 2)
    for sigma in (0.0, 1.0, 80.0):
        assert torch.equal(law.mean(x, 1.0, sigma), law.mu.expand(3, 1, 2, 2))
    assert torch.equal(law.sample(Philox(1, 3), x), law.mu.expand(3, 1, 2, 2)) and law.mu.square().mean() == 1


def test_a_flat_law_has_no_score_where_its_guides_are():
    problem = targets.named("flat-64d-guides")
    x = problem.guide.image * 10
    score = (problem.prior.mean(x, 1.0, 1.0) - x) / 1.0
    assert problem.guide.image.shape == (20, 64) and score.norm(dim=1).max() < 1e-5
