"""Inverse problems: golden values in the plane, exact posteriors by other routes, operators, measured digits."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws import inverse as laws
from reference_impls import targets
from reference_impls.core.draws import Philox
from reference_impls.core.types import Noised
from reference_impls.targets import cascaded, inverse
from reference_impls.targets.atoms import Atoms
from reference_impls.targets.inverse import Mask, Matrix, Measurement

F64 = dict(dtype=torch.float64)


def test_plane_problem_has_its_golden_values():
    problem = targets.named("linear-gaussian-2d")
    log_evidence, weights, means, _ = problem.conditioned
    assert log_evidence.item() == pytest.approx(-1.92579306777, abs=1e-11)
    assert torch.allclose(weights[0], torch.tensor([0.01870591, 0.11968852, 0.86160557], **F64), rtol=0, atol=5e-9)
    expected = [[-0.8, 0.68571429], [0.94, 0.52], [1.13714286, -1.93142857]]
    assert torch.allclose(means[0], torch.tensor(expected, **F64), rtol=0, atol=5e-9)
    mean, covariance = moments(problem.posterior)
    assert torch.allclose(mean, torch.tensor([1.0773111, -1.5890647], **F64), rtol=0, atol=5e-8)
    expected = [[0.17514095, -0.16661751], [-0.16661751, 0.89350504]]
    assert torch.allclose(covariance, torch.tensor(expected, **F64), rtol=0, atol=5e-9)


def test_plane_problem_with_mild_noise_has_its_golden_values():
    problem = replace(targets.named("linear-gaussian-2d"), noise_std=2.0)
    log_evidence, weights, _, _ = problem.conditioned
    assert log_evidence.item() == pytest.approx(-1.96793870, abs=5e-9)
    assert torch.allclose(weights[0], torch.tensor([0.24796566, 0.40986538, 0.34216896], **F64), rtol=0, atol=5e-9)
    assert torch.allclose(problem.posterior_mean[0], torch.tensor([0.48574254, -0.26841967], **F64), rtol=0, atol=5e-9)


def moments(mixture):
    mean = mixture.weights @ mixture.means
    second = mixture.covariances + mixture.means[:, :, None] * mixture.means[:, None]
    return mean, (mixture.weights[:, None, None] * second).sum(0) - mean[:, None] * mean


def test_plane_problem_by_quadrature():
    """Evidence, mean and covariance from prior times likelihood on a grid, with no formula of conditioning."""
    problem = targets.named("linear-gaussian-2d")
    axis = torch.linspace(-7, 7, 561, **F64)
    x = torch.cartesian_prod(axis, axis)
    cell = (axis[1] - axis[0]) ** 2
    residual = problem.y[0] - x @ problem.matrix.T
    s = problem.noise_std
    log_likelihood = -residual[:, 0] ** 2 / (2 * s**2) - math.log(s * math.sqrt(2 * math.pi))
    joint = (problem.prior.log_prob(x) + log_likelihood).exp() * cell
    assert joint.sum().log().item() == pytest.approx(problem.log_evidence.item(), abs=1e-11)
    share = joint / joint.sum()
    mean, covariance = moments(problem.posterior)
    assert torch.allclose(share @ x, mean, rtol=0, atol=1e-11)
    assert torch.allclose((share[:, None] * (x - mean)).T @ (x - mean), covariance, rtol=0, atol=1e-11)


@given(st.integers(0, 2**20), st.integers(1, 5), st.integers(1, 5))
def test_gaussian_posterior_equals_its_information_form(seed, d, m):
    """Precision C^-1 + A^T A/s^2 and its mean: no matrix of the gain form occurs."""
    problem = laws.random_problem(seed, d, m, 1)
    inverse_prior, A, s = problem.covariances[0].inverse(), problem.matrix, problem.noise_std
    covariance = (inverse_prior + A.T @ A / s**2).inverse()
    means = (problem.means @ inverse_prior + problem.y @ A / s**2) @ covariance
    assert torch.allclose(problem.posterior_mean, means, rtol=0, atol=1e-9)
    assert torch.allclose(problem.conditioned[3][0], covariance, rtol=0, atol=1e-9)
    one = problem.rows([1]).posterior
    assert torch.allclose(one.mean(means[:1] * 0, 0.0, 1.0), means[1:2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["linear-gaussian-2d", "digits-inpainting"])
def test_prior_times_likelihood_is_posterior_times_evidence(name):
    laws.prior_times_likelihood_is_posterior_times_evidence(targets.named(name))


@given(st.integers(0, 2**20), st.integers(1, 4), st.integers(1, 3))
def test_random_problems_obey_bayes(seed, d, K):
    laws.prior_times_likelihood_is_posterior_times_evidence(laws.random_problem(seed, d, min(d, 2), K))


@pytest.mark.parametrize("name", ["linear-gaussian-2d", "digits-inpainting"])
def test_posterior_is_a_target(name):
    """Tweedie: alpha E[x0|x] = x + sigma^2 grad log p(x), by autograd, each row with its own alpha and sigma."""
    problem = targets.named(name)
    problem = problem if problem.measurement.y.shape[0] == 1 else problem.rows(range(4))
    assert problem.posterior.shape == problem.shape
    column = (4, *[1] * len(problem.shape))
    alpha = torch.tensor([0.9, 0.5, 0.2, 0.0], **F64).reshape(column)
    sigma = torch.tensor([0.3, 0.8, 1.0, 1.0], **F64).reshape(column)
    x0 = problem.posterior.sample(Philox(0, 4), torch.empty(4, *problem.shape, **F64))
    x = (alpha * x0 + sigma * Philox(1, 4).normal("eps", x0)).requires_grad_()
    score = torch.autograd.grad(problem.posterior.log_prob(x, alpha, sigma).sum(), x)[0]
    mean = problem.posterior.mean(x, alpha, sigma)
    assert torch.allclose(alpha * mean, x + sigma**2 * score, rtol=0, atol=1e-10)
    assert torch.allclose(mean[3], problem.posterior_mean[-1], rtol=0, atol=1e-12)  # alpha = 0 tells nothing


def test_posterior_of_atoms_is_the_softmax_of_their_misfits():
    problem = targets.named("digits-inpainting").rows([0, 5, 899])
    atoms, y = problem.prior.atoms, problem.measurement.y
    for b in range(3):
        misfit = [((y[b].reshape(8, 4) - atom[0, :, :4]) ** 2).sum().item() for atom in atoms]
        weight = torch.tensor([-value / (2 * 0.2**2) for value in misfit], **F64).softmax(0)
        expected = (weight[:, None, None, None] * atoms).sum(0)
        assert torch.allclose(problem.posterior_mean[b], expected, rtol=0, atol=1e-12)
        assert torch.allclose(problem.posterior.log_weights[b].exp(), weight, rtol=0, atol=1e-12)


def test_weighted_atoms_equal_the_mixture_of_their_spikes():
    """Mean and density from the joint p(x, a_k) with distances written out, each row its own alpha and sigma."""
    atoms, x = laws.normals(1, "atoms", 5, 3).cpu(), laws.normals(2, "x", 4, 3).cpu()
    log_weights = laws.normals(3, "weights", 4, 5).cpu().log_softmax(1)
    alpha, sigma = torch.tensor([[0.9], [0.5], [0.2], [0.7]], **F64), torch.tensor([[0.3], [0.8], [1.0], [0.5]], **F64)
    distance = (x[:, None] - alpha[:, :, None] * atoms).square().sum(2)
    joint = log_weights.exp() * (-distance / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2) ** 1.5
    law = inverse.WeightedAtoms("law", atoms, log_weights)
    assert torch.allclose(law.log_prob(x, alpha, sigma), joint.sum(1).log(), rtol=0, atol=1e-12)
    assert torch.allclose(law.mean(x, alpha, sigma), joint @ atoms / joint.sum(1, keepdim=True), rtol=0, atol=1e-12)


class Given:
    """Draws whose uniforms are given."""

    def __init__(self, values):
        self.values = torch.tensor(values, **F64)

    def uniform(self, tag, shape):
        return self.values.reshape(shape)


def test_atoms_are_drawn_by_their_own_row_of_weights():
    atoms = torch.tensor([[1.0], [2.0], [3.0]], **F64)
    posterior = inverse.WeightedAtoms("law", atoms, torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.0, 0.3]], **F64).log())
    x = posterior.sample(Given([0.19, 0.71]), torch.empty(2, 1, **F64))
    assert x.flatten().tolist() == [1.0, 3.0]
    x = posterior.sample(Given([0.21, 0.69]), torch.empty(2, 1))
    assert x.flatten().tolist() == [2.0, 1.0] and x.dtype == torch.float32
    x = posterior.sample(Given([1 - 1e-16, 1e-16]), torch.empty(2, 1, **F64))
    assert x.flatten().tolist() == [3.0, 1.0]


def test_digit_measurements_are_left_halves_plus_noise_keyed_by_the_digit():
    problem = targets.named("digits-inpainting")
    y, truth = problem.measurement.y, problem.truth
    assert y.shape == (900, 32) and truth.shape == (900, 1, 8, 8)
    noise = y - truth[:, 0, :, :4].flatten(1)
    standard_error = 0.2 / math.sqrt(noise.numel())
    assert abs(noise.mean().item()) < 5 * standard_error
    assert abs(noise.std().item() - 0.2) < 5 * standard_error / math.sqrt(2)
    alone = 0.2 * Philox(inverse.MEASUREMENT_SEED, range(7, 8)).normal("measurement", noise[7:8])
    assert torch.allclose(alone[0], noise[7], rtol=0, atol=1e-15)
    seen = {tuple(atom.flatten().tolist()) for atom in problem.prior.atoms}
    assert problem.prior.atoms.shape[0] == 897 and sum(tuple(x.flatten().tolist()) in seen for x in truth) == 0


RANK_TWO = [[1.0, 2.0, 0.0, 1.0], [2.0, 4.0, 0.0, 2.0], [0.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("operator", [
    Matrix(torch.tensor([[1.0, 0.5, 0.0, 2.0], [0.0, -1.0, 3.0, 1.0]], **F64), (2, 2)),
    Matrix(torch.tensor(RANK_TWO, **F64), (4,)),
    Mask(torch.tensor([[True, False], [True, True]])),
])  # fmt: skip
def test_transpose_and_inverse_belong_to_the_operator(operator):
    """<A x, r> = <x, A^T r> and the four equations of Moore and Penrose, all from the three maps."""
    shape = getattr(operator, "shape", (2, 2))
    A = operator.forward(torch.eye(4, **F64).reshape(4, *shape)).T
    assert torch.equal(operator.transpose(torch.eye(A.shape[0], **F64)).flatten(1), A)
    P = operator.pinv(torch.eye(A.shape[0], **F64)).flatten(1).T
    for left, right in ((A @ P @ A, A), (P @ A @ P, P), ((A @ P).T, A @ P), ((P @ A).T, P @ A)):
        assert torch.allclose(left, right, rtol=0, atol=1e-12)


def test_measurement_moves_to_the_state_and_refuses_other_batches():
    measurement = Measurement(Matrix(torch.ones(1, 2, **F64), (2,)), torch.zeros(3, 1, **F64), 0.1)
    matched = measurement.matching(torch.zeros(3, 2))
    assert matched.y.dtype == matched.operator.matrix.dtype == torch.float32
    assert measurement.rows([2]).matching(torch.zeros(5, 2)).y.shape == (5, 1)
    with pytest.raises(ValueError, match="measurement: y has 3 rows, expected 1 or 5"):
        measurement.matching(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="posterior: y has 4 rows, expected 1"):
        laws.random_problem(1, 2, 1).posterior  # noqa: B018


@pytest.mark.parametrize("law", [law for law in laws.LAWS if law.subject == "sampler"], ids=lambda law: law.name)
def test_textbook_guidance_passes_every_law(law):
    assert law.applies(laws.GUIDED)
    law.check(laws.GUIDED)


@given(laws.problems, st.floats(0.05, 1.0), st.floats(0.05, 3.0))
def test_conditional_mean_is_the_posteriors_own_denoiser(problem, alpha, sigma):
    """Row by row, against the target that is the posterior of one measurement."""
    x = laws.normals(5, "x", laws.ROWS, problem.shape[0])
    found = problem.conditional_mean(x, alpha, sigma, problem.y)
    for b in range(laws.ROWS):
        expected = problem.rows([b]).posterior.mean(x[b : b + 1], alpha, sigma)
        assert (found[b] - expected[0]).abs().max() <= 1e-9 * (1 + expected.abs().max())
    wide = problem.conditional_mean(x, 1e-9, 1.0, problem.y)  # a state that tells nothing
    torch.testing.assert_close(wide, problem.mean_given(problem.y), rtol=0, atol=1e-6)


@given(laws.problems, st.floats(0.1, 1.0), st.floats(0.05, 3.0))
def test_a_noised_condition_is_a_measurement_with_more_noise(problem, alpha, sigma):
    x = laws.normals(5, "x", laws.ROWS, problem.shape[0])
    noised = Noised(alpha * problem.y, alpha, sigma, lambda y: y)
    wider = replace(problem, noise_std=math.hypot(problem.noise_std, sigma / alpha))
    found, expected = (p.conditional_mean(x, 0.7, 0.6, c) for p, c in ((problem, noised), (wider, problem.y)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * (1 + expected.abs().max().item()))


def test_atoms_given_a_picture_are_weighed_by_its_density():
    """log weights from torch's own multivariate normal; a lifted and noised picture of singular signal as well."""
    problem = targets.named("digits-superresolution").rows([3, 4])
    problem = replace(problem, prior=replace(problem.prior, atoms=problem.prior.atoms[:9]))
    torch.testing.assert_close(
        problem.log_weights(problem.measurement.picture), problem.log_joint.log_softmax(1), rtol=0, atol=1e-9
    )

    def lift(y):
        return torch.nn.functional.interpolate(y, (8, 8), mode="bilinear", align_corners=True)

    image = lift(problem.measurement.picture) * 0.8 + 0.1
    clean = problem.measurement.operator.forward(problem.prior.atoms).reshape(-1, 1, 4, 4)
    unit = lift(torch.eye(16, **F64).reshape(16, 1, 4, 4)).flatten(1).T
    covariance = 0.8**2 * problem.measurement.noise_std**2 * unit @ unit.T + 0.5**2 * torch.eye(64, **F64)
    law = torch.distributions.MultivariateNormal(0.8 * lift(clean).flatten(1), covariance)
    expected = law.log_prob(image.flatten(1)[:, None]).log_softmax(1)
    found = problem.log_weights(Noised(image, 0.8, 0.5, lift))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    mean = problem.conditional_mean(torch.zeros(2, 1, 8, 8, **F64), 1e-9, 1.0, Noised(image, 0.8, 0.5, lift))
    torch.testing.assert_close(mean, problem.mean_given(Noised(image, 0.8, 0.5, lift)), rtol=0, atol=1e-7)


def test_without_any_noise_a_condition_leaves_the_nearest_atom():
    problem = targets.named("digits-superresolution").rows([3, 4])
    problem = replace(problem, measurement=replace(problem.measurement, noise_std=0.0))
    seen = problem.degraded(problem.prior.atoms[5:7], torch.ones(2, 16, **F64))
    torch.testing.assert_close(problem.mean_given(seen), problem.prior.atoms[5:7], rtol=0, atol=1e-12)
    noised = Noised(0.5 * seen, 0.5, 0.0, lambda y: y)
    torch.testing.assert_close(problem.mean_given(noised), problem.prior.atoms[5:7], rtol=0, atol=1e-12)


def test_degraded_digits_are_what_the_problem_measured():
    """Pooling by torch's own, the blur by its own convolution; the reference set lies at the end."""
    noise = torch.zeros(5, 16, **F64)
    problem = targets.named("digits-superresolution")
    expected = torch.nn.functional.avg_pool2d(problem.truth[:5], 2)
    torch.testing.assert_close(problem.degraded(problem.truth[:5], noise), expected, rtol=0, atol=1e-14)
    gap = problem.measurement.picture[:5] - expected
    assert 0.1 < gap.square().mean().sqrt() < 0.3  # 80 numbers of standard deviation .2
    blurred = targets.named("digits-blurred")
    kernel = torch.tensor([1.0, 2.0, 1.0], **F64) / 4
    expected = torch.nn.functional.conv2d(blurred.truth[:5], (kernel[:, None] * kernel)[None, None], padding=1)
    torch.testing.assert_close(blurred.degraded(blurred.truth[:5], torch.zeros(5, 64, **F64)), expected)
    assert torch.equal(problem.reference.x0, problem.truth[800:])
    assert torch.equal(problem.reference.condition, problem.measurement.picture[800:])


def test_gaussian_pictures_have_their_truths_and_reference():
    problem = targets.named("gaussian-superresolution")
    gap = problem.y - problem.truth @ problem.matrix.T
    assert gap.std().item() == pytest.approx(0.2, rel=5 / math.sqrt(2 * gap.numel()))
    image = problem.truth[:2].reshape(2, 1, 8, 8)
    torch.testing.assert_close(
        problem.truth[:2] @ problem.matrix.T, torch.nn.functional.avg_pool2d(image, 2).flatten(1), rtol=0, atol=1e-14
    )
    assert torch.equal(problem.reference.x0, problem.truth[300:])
    assert torch.equal(problem.rows([7, 3]).truth, problem.truth[[7, 3]])
    assert laws.random_problem(1, 3, 2).reference is None
    error = (problem.mean_given(problem.y) - problem.truth).square().sum(1)
    trace = problem.rows([0]).posterior.variances.sum()  # of the posterior covariance, the same for every y
    assert error.mean().item() == pytest.approx(trace.item(), rel=5 * (error.std() / error.mean() / 20).item())


def test_a_first_stage_of_one_step_makes_the_mean_and_of_many_the_law_of_the_pictures():
    """Of 2,000 pictures by 200 steps mean and covariance are those of the 897 with their noise; by five steps they have
    lost variance, in every pixel that varies."""
    real = targets.named("digits-superresolution")
    small = real.measurement.operator.forward(real.prior.atoms)
    law = Atoms("small", small.reshape(-1, 1, 4, 4), blur=real.measurement.noise_std)
    one = cascaded.first_stage(law, 1, 3).flatten(1)
    torch.testing.assert_close(one, small.mean(0).expand(3, 16), rtol=0, atol=1e-12)
    many = cascaded.first_stage(law, 200, 2000).flatten(1)
    covariance = torch.cov(small.T, correction=0) + 0.04 * torch.eye(16, **F64)
    spread = covariance.diagonal()
    assert ((many.mean(0) - small.mean(0)).abs() < 5 * (spread / 2000).sqrt()).all()
    error = (spread.outer(spread) + covariance**2).sqrt() / math.sqrt(2000)  # of a normal law's covariance
    assert ((torch.cov(many.T) - covariance).abs() < 5 * error + 0.01).all()  # .01: 200 steps are not the limit
    assert (cascaded.first_stage(law, 5, 2000).flatten(1).var(0) < 0.9 * spread).all()


def test_pictures_of_a_first_stage_have_no_truth_and_are_enlarged_as_real_ones_are():
    real, made = targets.named("digits-superresolution"), targets.named("digits-cascade")
    assert made.truth is None and made.reference is None and made.name == real.name
    assert made.measurement.picture.shape == real.measurement.picture.shape == (900, 1, 4, 4)
    assert torch.equal(made.rows([5, 2]).measurement.y, made.measurement.y[[5, 2]])
    seen = made.measurement.picture[:4]
    assert torch.equal(made.mean_given(seen), real.mean_given(seen))
    torch.testing.assert_close(made.posterior_mean[:4], made.mean_given(seen), rtol=0, atol=1e-12)
