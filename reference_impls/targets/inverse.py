"""Linear inverse problems y = A x0 + s z whose posterior p(x0 | y) is known exactly, evidence included.

Gaussian components N(m_k, C_k) with weights w_k stay such: with S_k = A C_k A^T + s^2 I and K_k = C_k A^T S_k^-1
    m_k' = m_k + K_k (y - A m_k),  C_k' = (I - K_k A) C_k,  w_k' = w_k N(y; A m_k, S_k) / p(y),  p(y) = sum of the tops.
Equally likely atoms a_k stay atoms: w_k' = softmax_k(-|y - A a_k|^2 / (2 s^2)).
A problem carries y [B,m], one measurement a row, so that a batch of B states solves B problems at once; y [1,m] serves
any batch. What a sampler sees of it is its `measurement` alone, or a conditional model and its condition: y as a
picture, in the operator's own shape. That model is conditional_mean, E[x0 | x_t, y], also for a y noised once more:
    image = alpha lift(A x0 + s z) + sigma z' = alpha L A x0 + N(0, alpha^2 s^2 L L^T + sigma^2 I),  L the lift.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor

from reference_impls.core.convert import Coefficient
from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws, Noised, Pairs
from reference_impls.targets.atoms import Atoms, digits
from reference_impls.targets.gaussian import gaussian
from reference_impls.targets.mixtures import Mixture

Rows = Tensor | range | list[int]  # which of a problem's measurements, repeats allowed
MEASUREMENT_SEED = 20230507  # of the noise on the measured digits, keyed by the digit's place in the held-out half
REFERENCE = 100  # the last so many of a problem's truths are its reference set


class Operator(Protocol):
    """A linear map from [B,*D] to [B,m], its transpose and its Moore-Penrose inverse back to [B,*D]."""

    def forward(self, x: Tensor) -> Tensor: ...

    def transpose(self, r: Tensor) -> Tensor: ...

    def pinv(self, y: Tensor) -> Tensor: ...

    def to(self, like: Tensor) -> Operator: ...


@dataclass(frozen=True)
class Matrix:
    """x -> A x with A [m,d] float64, acting on samples of shape [*D], d pixels. picture: of what shape y is one."""

    matrix: Tensor
    shape: tuple[int, ...]
    picture: tuple[int, ...] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def transpose(self, r: Tensor) -> Tensor:
        return (r @ self.matrix).reshape(-1, *self.shape)

    def pinv(self, y: Tensor) -> Tensor:
        return (y @ self.inverse.T).reshape(-1, *self.shape)

    @cached_property
    def inverse(self) -> Tensor:
        return torch.linalg.pinv(self.matrix.double()).to(self.matrix)

    def to(self, like: Tensor) -> Matrix:
        return replace(self, matrix=self.matrix.to(like))


@dataclass(frozen=True)
class Mask:
    """Keeps the entries where `keep` (bool [*D]) is true, in row-major order; transpose and inverse fill in zeros."""

    keep: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.keep]

    def transpose(self, r: Tensor) -> Tensor:
        x = r.new_zeros(r.shape[0], *self.keep.shape)
        x[:, self.keep] = r
        return x

    pinv = transpose

    def to(self, like: Tensor) -> Mask:
        return replace(self, keep=self.keep.to(like.device))


@dataclass(frozen=True)
class Measurement:
    """What is known of the unknown: y [B,m] (or [1,m] for any batch), the operator, the noise's standard deviation."""

    operator: Operator
    y: Tensor
    noise_std: float

    def matching(self, x: Tensor) -> Measurement:
        """In x's dtype and device, one row of y for each of x [B,*D]; raises ValueError where rows cannot match."""
        if self.y.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"measurement: y has {self.y.shape[0]} rows, expected 1 or {x.shape[0]}, one for each row of x; "
                "choose them with problem.rows(...)"
            )
        return Measurement(self.operator.to(x), self.y.to(x).expand(x.shape[0], -1), self.noise_std)

    def rows(self, index: Rows) -> Measurement:
        return replace(self, y=self.y[torch.as_tensor(index)])

    @property
    def picture(self) -> Tensor:
        """y [B,m] in the operator's picture shape, where it has one."""
        return self.y.reshape(self.y.shape[0], *(getattr(self.operator, "picture", None) or self.y.shape[1:]))


class InverseProblem(Protocol):
    """prior: a Target; posterior: a Target too, conditioned on y, row b on y's row b.

    posterior_mean [B,*D] and log_evidence [B] (log p(y) in nats) are exact, one for each row of y.
    """

    name: str
    shape: tuple[int, ...]
    prior: Any
    posterior: Any
    measurement: Measurement
    posterior_mean: Tensor
    log_evidence: Tensor

    def rows(self, index: Rows) -> InverseProblem: ...


def log_gaussian(residual: Tensor, covariance: Tensor) -> Tensor:
    """log N(residual; 0, covariance): residual [...,m], covariance [...,m,m]."""
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, residual[..., None], upper=False)[..., 0]
    log_volume = root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + residual.shape[-1] / 2 * math.log(2 * math.pi)
    return -white.square().sum(-1) / 2 - log_volume


@dataclass(frozen=True)
class LinearGaussian:
    """Prior: weights [K], means [K,d], covariances [K,d,d]; y = matrix x0 + noise_std z with matrix [m,d]; y [B,m].

    truth [B,d]: what was measured, where it is known, for the metrics and for methods that are tuned on a few pairs.
    """

    name: str
    weights: Tensor
    means: Tensor
    covariances: Tensor
    matrix: Tensor
    noise_std: float
    y: Tensor
    truth: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.means.shape[1],)

    @property
    def measurement(self) -> Measurement:
        return Measurement(Matrix(self.matrix, self.shape), self.y, self.noise_std)

    def rows(self, index: Rows) -> LinearGaussian:
        index = torch.as_tensor(index)
        return replace(self, y=self.y[index], truth=None if self.truth is None else self.truth[index])

    @property
    def reference(self) -> Pairs | None:
        """The last truths and what was seen of them."""
        return None if self.truth is None else Pairs(self.truth[-REFERENCE:], self.y[-REFERENCE:])

    @cached_property
    def prior(self) -> Any:
        return mixture_of(f"{self.name} prior", self.weights, self.means, self.covariances)

    @cached_property
    def conditioned(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log_evidence [B], and the posterior's weights [B,K], means [B,K,d], covariances [K,d,d]."""
        unit = partial(torch.eye, dtype=torch.float64, device=self.y.device)
        noise = self.noise_std**2 * unit(self.matrix.shape[0])
        seen = self.matrix @ self.covariances  # A C, [K,m,d]
        evidence = seen @ self.matrix.T + noise
        gain = torch.linalg.solve(evidence, seen).mT  # C A^T S^-1, [K,d,m]
        residual = self.y[:, None] - self.means @ self.matrix.T
        joint = self.weights.log() + log_gaussian(residual, evidence)
        means = self.means + (gain @ residual[..., None])[..., 0]
        left = unit(self.shape[0]) - gain @ self.matrix
        covariances = left @ self.covariances @ left.mT + self.noise_std**2 * gain @ gain.mT  # Joseph: symmetric, >= 0
        return joint.logsumexp(1), joint.softmax(1), means, (covariances + covariances.mT) / 2

    @property
    def log_evidence(self) -> Tensor:
        return self.conditioned[0]

    @property
    def posterior_mean(self) -> Tensor:
        return (self.conditioned[1][..., None] * self.conditioned[2]).sum(1)

    def conditional_mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient, condition: Tensor | Noised) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x, condition], [B,d]: condition y [B,m], or a noised one of the same shape."""
        _, weights, means, covariances = self.seen(condition).conditioned
        variances, basis = torch.linalg.eigh(covariances)
        variances = variances.clamp(min=0)
        alpha, sigma = (
            torch.as_tensor(c, dtype=torch.float64, device=x.device).reshape(-1, 1, 1) for c in (alpha, sigma)
        )
        spread = (alpha**2 * variances + sigma**2).clamp(min=1e-100)
        centred = torch.einsum("bki,kij->bkj", x.double()[:, None] - alpha * means, basis)
        joint = weights.log() - (centred.square() / spread + spread.log()).sum(2) / 2
        each = means + torch.einsum("bkj,kij->bki", alpha * variances / spread * centred, basis)
        return (joint.softmax(1)[..., None] * each).sum(1).to(x.dtype)

    def mean_given(self, condition: Tensor | Noised) -> Tensor:
        """E[x0 | condition], [B,d]."""
        return self.seen(condition).posterior_mean

    def seen(self, condition: Tensor | Noised) -> LinearGaussian:
        """The problem whose y is this condition [B,m], on its device."""
        image, alpha, sigma = condition[:3] if isinstance(condition, Noised) else (condition, 1.0, 0.0)
        there = {name: getattr(self, name).to(image.device) for name in ("weights", "means", "covariances")}
        matrix, noise = alpha * self.matrix.to(image.device), math.hypot(alpha * self.noise_std, sigma)
        return replace(self, **there, y=image.double(), matrix=matrix, noise_std=noise)

    @cached_property
    def posterior(self) -> Any:
        if self.y.shape[0] != 1:
            raise ValueError(f"posterior: y has {self.y.shape[0]} rows, expected 1; take problem.rows([b]).posterior")
        _, weights, means, covariances = self.conditioned
        return mixture_of(f"{self.name} posterior", weights[0], means[0], covariances)


def mixture_of(name: str, weights: Tensor, means: Tensor, covariances: Tensor) -> Any:
    """A Gaussian if there is one component, else a mixture."""
    if weights.shape[0] == 1:
        return gaussian(means[0], covariances[0], name)
    return Mixture(name, weights, means, covariances)


@dataclass(frozen=True)
class WeightedAtoms:
    """Atoms [K,*D] with log weights [B,K] (or [1,K] for any batch) that sum to 1: row b of a batch has its own law."""

    name: str
    atoms: Tensor
    log_weights: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.atoms.shape[1:])

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """x0 with like's shape [B,*D], dtype and device: row b from the law of row b, by inverse CDF."""
        cdf = self.log_weights.exp().cumsum(1).expand(like.shape[0], -1).contiguous()
        u = draws.uniform("atom", (like.shape[0], 1)).to(cdf) * cdf[:, -1:]
        index = torch.searchsorted(cdf, u)[:, 0].clamp_(max=self.atoms.shape[0] - 1)
        return self.atoms[index].to(like)

    def mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x], [B,*D]; weights in float64, at sigma = 0 the nearest atom, its limit."""
        atoms = self.atoms.to(x.device)
        weights = self._logits(x, alpha, sigma).softmax(1)
        return (weights @ atoms.flatten(1)).to(x.dtype).reshape(x.shape)

    def log_prob(self, x: Tensor, alpha: Coefficient = 1.0, sigma: Coefficient = 0.0) -> Tensor:
        """log density of alpha x0 + sigma eps at x, [B] in nats; needs sigma > 0."""
        variance = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).reshape(-1).square()
        square = x.flatten(1).double().square().sum(1)
        log_volume = x[0].numel() / 2 * (2 * math.pi * variance).log()
        return (self._logits(x, alpha, sigma).logsumexp(1) - square / (2 * variance) - log_volume).to(x.dtype)

    def _logits(self, x: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """log weight - |x - alpha a|^2/(2 sigma^2) without the term in |x|^2, float64 [B,K]."""
        alpha, sigma = (torch.as_tensor(c, dtype=torch.float64, device=x.device).reshape(-1, 1) for c in (alpha, sigma))
        atoms = self.atoms.to(x.device).flatten(1)
        near = alpha * (x.flatten(1).double() @ atoms.T) - alpha**2 * atoms.square().sum(1) / 2
        return self.log_weights.to(x.device) + near / sigma.square().clamp(min=1e-100)


@dataclass(frozen=True)
class AtomProblem:
    """Prior: equally likely atoms without blur. truth [B,*D]: what was measured, for the metrics only."""

    name: str
    prior: Atoms
    measurement: Measurement
    truth: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.prior.shape

    def rows(self, index: Rows) -> AtomProblem:
        return replace(self, measurement=self.measurement.rows(index), truth=self.truth[torch.as_tensor(index)])

    @cached_property
    def log_joint(self) -> Tensor:
        """log p(y, a_k), float64 [B,K]."""
        y, s = self.measurement.y, self.measurement.noise_std
        residual = y[:, None] - self.measurement.operator.forward(self.prior.atoms)
        log_volume = y.shape[1] / 2 * math.log(2 * math.pi * s**2) + math.log(self.prior.atoms.shape[0])
        return -residual.square().sum(2) / (2 * s**2) - log_volume

    @property
    def log_evidence(self) -> Tensor:
        return self.log_joint.logsumexp(1)

    @cached_property
    def posterior(self) -> WeightedAtoms:
        return WeightedAtoms(f"{self.name} posterior", self.prior.atoms, self.log_joint.log_softmax(1))

    @property
    def posterior_mean(self) -> Tensor:
        atoms = self.prior.atoms
        return (self.log_joint.softmax(1) @ atoms.flatten(1)).reshape(-1, *self.shape)

    def conditional_mean(self, x: Tensor, alpha: Coefficient, sigma: Coefficient, condition: Tensor | Noised) -> Tensor:
        """E[x0 | alpha x0 + sigma eps = x, condition], [B,*D]: condition y or a picture [B,..], or a noised one."""
        return WeightedAtoms(self.name, self.prior.atoms, self.log_weights(condition)).mean(x, alpha, sigma)

    def mean_given(self, condition: Tensor | Noised) -> Tensor:
        """E[x0 | condition], [B,*D]."""
        weights = self.log_weights(condition).exp()
        return (weights @ self.prior.atoms.to(weights.device).flatten(1)).reshape(-1, *self.shape)

    def log_weights(self, condition: Tensor | Noised) -> Tensor:
        """log p(atom | condition), float64 [B,K]; where a condition has no noise at all, of the nearest atoms."""
        image = condition.image if isinstance(condition, Noised) else condition
        pictures = replace(self.measurement, y=self._clean).picture.to(image.device)
        spread = self.measurement.noise_std**2
        unit = partial(torch.eye, dtype=torch.float64, device=image.device)
        if not isinstance(condition, Noised):
            return _log_weights(image, pictures, spread * unit(pictures[0].numel()))
        root = condition.alpha * condition.lift(unit(pictures[0].numel()).reshape(-1, *pictures.shape[1:])).flatten(1).T
        lifted = condition.alpha * condition.lift(pictures)
        own = condition.sigma**2 * unit(root.shape[0])
        return _log_weights(condition.image, lifted, spread * root @ root.T + own)

    @cached_property
    def _clean(self) -> Tensor:
        return self.measurement.operator.forward(self.prior.atoms)

    @property
    def reference(self) -> Pairs:
        """The last truths and what was seen of them: for methods that are tuned on a few pairs before they are used."""
        return Pairs(self.truth[-REFERENCE:], self.measurement.picture[-REFERENCE:])

    def degraded(self, x0: Tensor, noise: Tensor) -> Tensor:
        """What is seen of samples x0 [B,*D]: their pictures with the measurement's noise; noise: unit normals [B,m]."""
        operator = self.measurement.operator.to(x0)
        y = operator.forward(x0) + self.measurement.noise_std * noise
        return replace(self.measurement, y=y).picture


def _log_weights(image: Tensor, centres: Tensor, covariance: Tensor) -> Tensor:
    """log softmax_k of log N(image; centre_k, covariance), float64 [B,K], in one GEMM: what is common to all cancels.

    Directions without noise, in which image and centres agree by construction, are left out.
    """
    variances, basis = torch.linalg.eigh(covariance)
    most = variances[-1].clamp(min=1e-100)
    root = basis * torch.where(variances > 1e-12 * most, variances.clamp(min=1e-100).rsqrt(), 0.0)
    root = torch.where(variances[-1] > 0, root, basis * 1e50)
    white, centres = image.flatten(1).double() @ root, centres.flatten(1) @ root
    return (white @ centres.T - centres.square().sum(1) / 2).log_softmax(1)


def linear_gaussian_2d() -> LinearGaussian:
    """Three components in the plane seen through one number: two of them explain it, the third hardly."""
    table = dict(dtype=torch.float64)
    covariances = [[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.05], [-0.05, 0.4]], [[0.15, 0.0], [0.0, 0.15]]]
    return LinearGaussian(
        name="linear-gaussian-2d",
        weights=torch.tensor([0.35, 0.40, 0.25], **table),
        means=torch.tensor([[-2.0, 0.0], [1.5, 1.0], [1.0, -2.0]], **table),
        covariances=torch.tensor(covariances, **table),
        matrix=torch.tensor([[1.0, 0.5]], **table),
        noise_std=0.5,
        y=torch.tensor([[0.4]], **table),
    )


def gaussian_1d_seen() -> LinearGaussian:
    """N(0, 2) seen with so much noise that the posterior is N(1, .3): guidance towards it has a closed form."""
    variance, mean, narrow = 2.0, 1.0, 0.3
    noise_variance = 1 / (1 / narrow - 1 / variance)
    table = dict(dtype=torch.float64)
    return LinearGaussian(
        name="gaussian-1d-seen",
        weights=torch.ones(1, **table),
        means=torch.zeros(1, 1, **table),
        covariances=torch.full((1, 1, 1), variance, **table),
        matrix=torch.ones(1, 1, **table),
        noise_std=noise_variance**0.5,
        y=torch.full((1, 1), mean * (variance + noise_variance) / variance, **table),
    )


def digits_inpainting(noise_std: float = 0.2) -> AtomProblem:
    """The left half (4 of 8 columns) of each of the 900 held-out digits plus N(0, .2^2); prior: the training digits.

    Row b belongs to held-out digit b: its noise is keyed by b alone. Images are 1x8x8 in [-1,1].
    """
    truth = digits("held_out")[0]
    keep = torch.zeros(1, 8, 8, dtype=torch.bool)
    keep[..., :4] = True
    clean = Mask(keep).forward(truth)
    y = clean + noise_std * Philox(MEASUREMENT_SEED, truth.shape[0]).normal("measurement", clean)
    prior = Atoms("digits", digits("train")[0])
    return AtomProblem("digits-inpainting", prior, Measurement(Mask(keep), y, noise_std), truth)


def gaussian_superresolution(noise_std: float = 0.2) -> LinearGaussian:
    """digits-superresolution for the Gaussian of the training digits' mean and covariance, truths drawn from it."""
    images = digits("train")[0].flatten(1)
    # corners that are never inked get a standard deviation of .01: without it the law has no density
    covariance = torch.cov(images.T) + 1e-4 * torch.eye(64, dtype=torch.float64)
    prior = gaussian(images.mean(0), covariance, "digits-gaussian")
    halves = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 1) / 2
    matrix, draws = torch.kron(halves, halves), Philox(MEASUREMENT_SEED, 400)
    truth = prior.sample(draws, torch.empty(400, 64, dtype=torch.float64))
    noise = draws.normal("gaussian-superresolution", torch.empty(400, 16, dtype=torch.float64))
    return LinearGaussian(
        name="gaussian-superresolution",
        weights=torch.ones(1, dtype=torch.float64),
        means=prior.mu[None],
        covariances=covariance[None],
        matrix=matrix,
        noise_std=noise_std,
        y=truth @ matrix.T + noise_std * noise,
        truth=truth,
    )


def _measured_digits(
    name: str, matrix: Tensor, picture: tuple[int, ...], noise_std: float, believed: float | None = None
) -> AtomProblem:
    """The held-out digits seen through matrix [m,64] plus N(0, noise_std^2); row b's noise is keyed by b alone.

    believed: the noise that the problem and its posterior take it to be, if another: the problem keeps its name.
    """
    truth, operator = digits("held_out")[0], Matrix(matrix, (1, 8, 8), picture)
    clean = operator.forward(truth)
    tag = name if believed is None else f"{name}-flawed"
    y = clean + noise_std * Philox(MEASUREMENT_SEED, truth.shape[0]).normal(tag, clean)
    measurement = Measurement(operator, y, noise_std if believed is None else believed)
    return AtomProblem(name, Atoms("digits", digits("train")[0]), measurement, truth)


def digits_superresolution(noise_std: float = 0.2) -> AtomProblem:
    """4x4 pictures of the held-out 8x8 digits: means over 2x2 pixels plus N(0, .2^2); prior: the training digits."""
    halves = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 1) / 2
    return _measured_digits("digits-superresolution", torch.kron(halves, halves), (1, 4, 4), noise_std)


def digits_superresolution_flawed(noise_std: float = 0.6, believed: float = 0.2) -> AtomProblem:
    """The same pictures with three times the noise that the posterior takes them to have: an earlier stage's flaws."""
    halves = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 1) / 2
    return _measured_digits("digits-superresolution", torch.kron(halves, halves), (1, 4, 4), noise_std, believed)


def digits_blurred(noise_std: float = 0.3) -> AtomProblem:
    """Held-out digits with bled ink: blurred by [1 2 1]/4 along both axes, zero outside, plus N(0, .3^2)."""
    line = torch.eye(8, dtype=torch.float64) / 2
    line = line + torch.diag(torch.full((7,), 0.25), 1) + torch.diag(torch.full((7,), 0.25), -1)
    return _measured_digits("digits-blurred", torch.kron(line, line), (1, 8, 8), noise_std)


NAMED: dict[str, Callable[[], Any]] = {
    "linear-gaussian-2d": linear_gaussian_2d,
    "gaussian-1d-seen": gaussian_1d_seen,
    "digits-inpainting": digits_inpainting,
    "digits-superresolution": digits_superresolution,
    "digits-superresolution-flawed": digits_superresolution_flawed,
    "digits-blurred": digits_blurred,
    "gaussian-superresolution": gaussian_superresolution,
}
