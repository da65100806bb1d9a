"""What every target on real vectors must satisfy: density, denoiser, samples and flow map are one and the same law."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from reference_impls.core.convert import velocity_of_mean
from reference_impls.core.draws import Philox
from reference_impls.targets import named
from reference_impls.targets.atoms import Atoms
from reference_impls.targets.gaussian import Gaussian
from reference_impls.targets.labelled import Given, class_log_prob
from reference_impls.targets.mixtures import Mixture, Product

lams = st.floats(-3.0, 3.0)  # half log signal-to-noise ratio
scales = st.floats(0.3, 3.0)  # sqrt(alpha^2 + sigma^2)
SEED = 11


def real_vectors(card: Any) -> bool:
    return all(hasattr(card, name) for name in ("mean", "log_prob", "sample", "shape"))


def flowing(card: Any) -> bool:
    return real_vectors(card) and hasattr(card, "flow")


def labelled(card: Any) -> bool:
    return getattr(card, "class_laws", None) is not None


def plane(card: Any) -> bool:
    return real_vectors(card) and tuple(card.shape) in ((1,), (2,))


def level(lam: float, scale: float) -> tuple[float, float]:
    """alpha and sigma."""
    return scale / math.sqrt(1 + math.exp(-2 * lam)), scale / math.sqrt(1 + math.exp(2 * lam))


def noised(
    card: Any, alpha: float | Tensor, sigma: float | Tensor, rows: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """x0 and alpha x0 + sigma eps, [rows,*D]."""
    draws = Philox(SEED, rows, device())
    like = torch.empty(rows, *card.shape, dtype=dtype, device=device())
    x0 = card.sample(draws, like)
    return x0, alpha * x0 + sigma * draws.normal("law", like)


def score_of_log_prob_is_that_of_the_mean(card: Any) -> None:
    @given(lams, scales)
    def holds(lam: float, scale: float) -> None:
        alpha, sigma = level(lam, scale)
        x = noised(card, alpha, sigma, 5)[1].requires_grad_()
        score = torch.autograd.grad(card.log_prob(x, alpha, sigma).sum(), x)[0]
        x = x.detach()
        gap = (sigma**2 * score - alpha * card.mean(x, alpha, sigma) + x).abs().max().item()
        allowed = 1e-10 * (1 + x.abs().max().item())
        assert gap <= allowed, f"{card.name}: sigma^2 score and alpha mean - x differ by {gap}"

    holds()


def density_and_mean_are_integrals(card: Any) -> None:
    """Against sums over a square of x0: exponentially accurate, as the spacing is below half of every deviation."""
    dimensions = card.shape[0]
    spacing, reach = 0.06, 9.0
    line = torch.arange(-reach, reach + spacing, spacing, dtype=torch.float64, device=device())
    x0 = torch.stack([axis.flatten() for axis in torch.meshgrid(*[line] * dimensions, indexing="ij")], dim=1)
    log_p0 = card.log_prob(x0) + dimensions * math.log(spacing)

    @given(st.floats(-2.0, 1.5), scales)
    def holds(lam: float, scale: float) -> None:
        alpha, sigma = level(lam, scale)
        x = noised(card, alpha, sigma, 3)[1]
        residual = (x[:, None] - alpha * x0).square().sum(2)
        log_joint = log_p0 - residual / (2 * sigma**2) - dimensions / 2 * math.log(2 * math.pi * sigma**2)
        for found, expected, what in (
            (card.log_prob(x, alpha, sigma), log_joint.logsumexp(1), "log_prob"),
            (card.mean(x, alpha, sigma), log_joint.softmax(1) @ x0, "mean"),
        ):
            gap = (found - expected).abs().max().item()
            assert gap <= 1e-9, f"{card.name}: {what} is {gap} away from its integral at alpha {alpha}, sigma {sigma}"

    holds()


def samples_are_orthogonal_to_the_error(card: Any) -> None:
    """E[(x0 - mean(x)) g(x)] = 0 for every g: for g = 1, x and tanh(x/scale), at 7 standard errors (1e-11 each)."""
    for lam in (-2.0, 0.0, 2.0):
        alpha, sigma = level(lam, 1.0)
        x0, x = noised(card, alpha, sigma, 4000)
        error, state = (x0 - card.mean(x, alpha, sigma)).flatten(1), x.flatten(1)
        for name, values in {
            "1": error,
            "x": (error * state).sum(1, keepdim=True),
            "tanh(x)": (error * torch.tanh(2 * state)).sum(1, keepdim=True),
        }.items():
            error_of_mean = values.std(0) / values.shape[0] ** 0.5
            z = (values.mean(0).abs() / error_of_mean.clamp(min=1e-12)).max().item()
            assert z <= 7, f"{card.name}: E[(x0 - mean) {name}] is {z:.1f} standard errors from 0 at lam = {lam}"


def each_row_stands_alone(card: Any) -> None:
    """Per-row alpha and sigma mean the same as floats, and a row does not see the others."""

    @given(st.lists(st.tuples(lams, scales), min_size=3, max_size=3))
    def holds(places: list[tuple[float, float]]) -> None:
        levels = torch.tensor([level(*place) for place in places], dtype=torch.float64, device=device())
        alpha, sigma = (levels[:, k].reshape(-1, *[1] * len(card.shape)) for k in range(2))
        x = noised(card, alpha, sigma, 3)[1]
        for method in (card.mean, card.log_prob):
            rows = method(x, alpha, sigma)
            for b, (a, s) in enumerate(levels.tolist()):
                alone = method(x[b : b + 1], a, s)[0]
                gap = ((rows[b] - alone).abs() / (1 + alone.abs())).max().item()
                assert gap <= 1e-11, f"{card.name}: row {b} of {method.__name__} is {gap} away from that row alone"

    holds()


def float32_is_float64_rounded(card: Any) -> None:
    """Within 32 times what one rounding of x, and one of the result, do to the float64 mean."""

    @given(lams)
    def holds(lam: float) -> None:
        alpha, sigma = level(lam, 1.0)
        x = noised(card, alpha, sigma, 32, torch.float32)[1]
        mean, exact = card.mean(x, alpha, sigma), card.mean(x.double(), alpha, sigma)
        assert mean.dtype == torch.float32, f"{card.name}: mean of float32 is {mean.dtype}"
        rounding = 2.0**-24
        sign = Philox(SEED, 32, device()).normal("sign", x.double()).sign()
        response = (card.mean(x.double() * (1 + rounding * sign), alpha, sigma) - exact).abs().max().item()
        allowed = 32 * (response + rounding * (1 + exact.abs().max().item()))
        gap = (mean - exact).abs().max().item()
        assert gap <= allowed, f"{card.name}: float32 mean off by {gap} at lam {lam}, expected at most {allowed}"

    holds()


def flow_composes(card: Any) -> None:
    @given(st.tuples(lams, scales), st.tuples(lams, scales), st.tuples(lams, scales))
    def holds(s: tuple, r: tuple, t: tuple) -> None:
        s, r, t = level(*s), level(*r), level(*t)
        x = noised(card, *s, 5)[1]
        direct, by_way = card.flow(x, *s, *t), card.flow(card.flow(x, *s, *r), *r, *t)
        for found, expected, what in ((by_way, direct, "s to r to t"), (card.flow(x, *s, *s), x, "s to s")):
            gap = (found - expected).abs().max().item()
            assert gap <= 1e-11 * (1 + expected.abs().max().item()), f"{card.name}: {what} is off by {gap}"

    holds()


def flow_follows_the_velocity(card: Any) -> None:
    """The flow's derivative in its end time is alpha' mean + sigma' eps: with flow_composes, the flow is the ODE's."""

    @given(lams, scales, st.floats(-1, 1), st.floats(-1, 1))
    def holds(lam: float, scale: float, alpha_rate: float, sigma_rate: float) -> None:
        alpha, sigma = level(lam, scale)
        x = noised(card, alpha, sigma, 5)[1]
        h = 2e-3 * min(alpha, sigma)

        def moved(k: int) -> Tensor:
            return card.flow(x, alpha, sigma, alpha + k * h * alpha_rate, sigma + k * h * sigma_rate)

        found = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * h)
        expected = velocity_of_mean(x, card.mean(x, alpha, sigma), alpha, sigma, alpha_rate, sigma_rate)
        gap, allowed = (found - expected).abs().max().item(), 1e-7 * (1 + expected.abs().max().item())
        assert gap <= allowed, f"{card.name}: flow leaves along {found.tolist()}, not {expected.tolist()}"

    holds()


def labels_of(card: Any, rows: int) -> Tensor:
    """-1, 0, 1, .. in turn, int64 [rows]."""
    return torch.arange(rows, device=device()) % (len(card.class_laws) + 1) - 1


def classes_make_up_the_whole(card: Any) -> None:
    """Density and denoiser are those of the classes, put together by Bayes; samples of a class are likelier there."""
    K = len(card.class_laws)

    @given(lams, scales)
    def holds(lam: float, scale: float) -> None:
        alpha, sigma = level(lam, scale)
        x = noised(card, alpha, sigma, 5)[1]
        each = [card.given(torch.tensor([c], device=device())) for c in range(K)]
        joint = torch.stack([law.log_prob(x, alpha, sigma) for law in each]) + card.class_weights.log().to(x)[:, None]
        share = joint.softmax(0).reshape(K, -1, *[1] * len(card.shape))
        mean = (share * torch.stack([law.mean(x, alpha, sigma) for law in each])).sum(0)
        for found, expected, what in (
            (mean, card.mean(x, alpha, sigma), "mean"),
            (joint.logsumexp(0), card.log_prob(x, alpha, sigma), "log_prob"),
            (joint.log_softmax(0).T, class_log_prob(card, x, alpha, sigma), "class_log_prob"),
        ):
            gap = ((found - expected).abs() / (1 + expected.abs())).max().item()
            assert gap <= 1e-10, f"{card.name}: {what} of the whole and of its classes differ by {gap}"

    holds()
    labels = torch.arange(K, device=device()).repeat_interleave(40)
    alpha, sigma = level(2.0, 1.0)
    draws, like = Philox(SEED, 40 * K, device()), torch.empty(40 * K, *card.shape, dtype=torch.float64, device=device())
    x = alpha * card.given(labels).sample(draws, like) + sigma * draws.normal("law", like)
    own = class_log_prob(card, x, alpha, sigma)[torch.arange(40 * K), labels].reshape(K, 40).mean(1)
    prior = card.class_weights.log().to(own)
    assert (own > prior).all(), f"{card.name}: samples of a class are no likelier in it: {own.tolist()}"


def each_row_has_its_label(card: Any) -> None:
    """A row's label is its own, -1 is the whole law, and one label serves all rows."""
    rows = 2 * len(card.class_laws) + 3
    labels = labels_of(card, rows)
    together = card.given(labels)

    @given(st.lists(st.tuples(lams, scales), min_size=rows, max_size=rows))
    def holds(places: list[tuple[float, float]]) -> None:
        levels = torch.tensor([level(*place) for place in places], dtype=torch.float64, device=device())
        alpha, sigma = (levels[:, k].reshape(-1, *[1] * len(card.shape)) for k in range(2))
        x = noised(card, alpha, sigma, rows)[1]
        for name in ("mean", "log_prob"):
            found = getattr(together, name)(x, alpha, sigma)
            for b, c in enumerate(labels.tolist()):
                law = card if c < 0 else card.class_laws[c]
                alone = getattr(law, name)(x[b : b + 1], alpha[b : b + 1], sigma[b : b + 1])[0]
                gap = ((found[b] - alone).abs() / (1 + alone.abs())).max().item()
                assert gap <= 1e-10, f"{card.name}: {name} of row {b} is {gap} away from that of its label {c}"

    holds()
    draws, like = Philox(SEED, rows, device()), torch.empty(rows, *card.shape, dtype=torch.float64, device=device())
    found = together.sample(draws, like)
    for b, c in enumerate(labels.tolist()):
        law = card if c < 0 else card.class_laws[c]
        alone = law.sample(Philox(SEED, range(b, b + 1), device()), like[:1])[0]
        gap = (found[b] - alone).abs().max().item()
        assert gap <= 1e-12, f"{card.name}: the sample of row {b} is not that of its label {c} alone"


def _as(kind: type, card: Any) -> Any:
    return kind(**{f.name: getattr(card, f.name) for f in fields(card) if f.init})


class _Unweighted(Product):
    """The denoiser forgets the components' weights."""

    def mean(self, x, alpha, sigma):
        return Product.mean(replace(_as(Product, self), weights=torch.full_like(self.weights, 1 / 3)), x, alpha, sigma)


class _StdForVariance(Gaussian):
    """Samples are spread by the variance in place of its root."""

    def sample(self, draws, like):
        return Gaussian.sample(replace(_as(Gaussian, self), variances=self.variances**2), draws, like)


class _SquaredSignal(Gaussian):
    """The denoiser's gain has alpha^2 where alpha belongs."""

    def mean(self, x, alpha, sigma):
        return self.mu.to(x) + alpha * (super().mean(x, alpha, sigma) - self.mu.to(x))


class _Squared(Gaussian):
    """The flow stretches by the ratio of variances."""

    def flow(self, x, alpha_s, sigma_s, alpha_t, sigma_t):
        mu, variances = self.mu.to(x), self.variances.to(x)
        ratio = (alpha_t**2 * variances + sigma_t**2) / (alpha_s**2 * variances + sigma_s**2)
        return alpha_t * mu + self._rotated(ratio * self._centred(x, alpha_s, mu))


class _DdimFlow(Gaussian):
    """The flow is one step with the mean held fixed."""

    def flow(self, x, alpha_s, sigma_s, alpha_t, sigma_t):
        mean = self.mean(x, alpha_s, sigma_s)
        return alpha_t * mean + sigma_t / sigma_s * (x - alpha_s * mean)


class _ScaledFlow(Product):
    """The flow scales by sigma: it composes, and is no transport."""

    def flow(self, x, alpha_s, sigma_s, alpha_t, sigma_t):
        return x * (sigma_t / sigma_s)


class _NoDeterminants(Mixture):
    """Density and denoiser forget the determinants of the components, alike: only an integral shows it."""

    def _joint(self, x, alpha, sigma):
        spread, y, log_joint = super()._joint(x, alpha, sigma)
        return spread, y, log_joint + spread.log().sum(2) / 2


class _FirstComponents(Atoms):
    """Samples come from the first half of the atoms."""

    def sample(self, draws, like):
        return Atoms("half", self.atoms[: self.atoms.shape[0] // 2]).sample(draws, like)


class _FirstRow(Atoms):
    """All rows use the first row's alpha and sigma."""

    def mean(self, x, alpha, sigma):
        alpha, sigma = (c.flatten()[0].item() if isinstance(c, Tensor) else c for c in (alpha, sigma))
        return super().mean(x, alpha, sigma)


class _OwnPrecision(Atoms):
    """The denoiser computes its weights in x's precision, from coordinates with a far origin."""

    def mean(self, x, alpha, sigma):
        y = self.atoms.flatten(1).to(x)
        far_x, far_y = x.flatten(1) + 100, alpha * y + 100
        square = far_x.square().sum(1)[:, None] - 2 * far_x @ far_y.T + far_y.square().sum(1)
        return ((-square / (2 * sigma**2)).softmax(1) @ y).reshape(x.shape)


class _EqualClasses(Mixture):
    """The classes' weights are forgotten."""

    @property
    def class_weights(self):
        return torch.full_like(self.weights, 1 / self.weights.shape[0])


class _LabelsShifted(Atoms):
    """Every label stands for the class after it."""

    def given(self, label):
        return Given(self, torch.where(label < 0, label, (label + 1) % len(self.class_laws)))


class _FirstLabel(Atoms):
    """All rows have the label of the first."""

    def given(self, label):
        return Given(self, label[:1].expand_as(label))


class _NoneIsTheLast(Mixture):
    """No label is read as the last one."""

    def given(self, label):
        return Given(self, label % len(self.class_laws))


LAWS = (
    Law(
        name="classes_make_up_the_whole",
        subject="target",
        check=classes_make_up_the_whole,
        applies=labelled,
        mutants={
            "equal_weights": lambda: _as(_EqualClasses, named("mixture-2d")),
            "labels_shifted": lambda: _as(_LabelsShifted, named("digits")),
        },
    ),
    Law(
        name="each_row_has_its_label",
        subject="target",
        check=each_row_has_its_label,
        applies=labelled,
        mutants={
            "first_label_for_all": lambda: _as(_FirstLabel, named("digits")),
            "none_is_the_last": lambda: _as(_NoneIsTheLast, named("mixture-2d")),
        },
    ),
    Law(
        name="score_of_log_prob_is_that_of_the_mean",
        subject="target",
        check=score_of_log_prob_is_that_of_the_mean,
        applies=real_vectors,
        mutants={
            "weights_forgotten": lambda: _as(_Unweighted, named("g3")),
            "alpha_squared": lambda: _as(_SquaredSignal, named("gaussian-2d")),
        },
    ),
    Law(
        name="density_and_mean_are_integrals",
        subject="target",
        check=density_and_mean_are_integrals,
        applies=plane,
        mutants={
            "weights_forgotten": lambda: _as(_Unweighted, named("product-2d")),
            "determinants_forgotten": lambda: _as(_NoDeterminants, named("mixture-2d")),
        },
    ),
    Law(
        name="samples_are_orthogonal_to_the_error",
        subject="target",
        check=samples_are_orthogonal_to_the_error,
        applies=real_vectors,
        mutants={
            "variance_for_std": lambda: _as(_StdForVariance, named("gaussian-2d")),
            "half_of_the_atoms": lambda: _as(_FirstComponents, named("digits")),
            "weights_forgotten": lambda: _as(_Unweighted, named("product-64d")),
        },
    ),
    Law(
        name="each_row_stands_alone",
        subject="target",
        check=each_row_stands_alone,
        applies=real_vectors,
        mutants={"first_row_for_all": lambda: _as(_FirstRow, named("digits"))},
    ),
    Law(
        name="float32_is_float64_rounded",
        subject="target",
        check=float32_is_float64_rounded,
        applies=real_vectors,
        mutants={"weights_in_float32": lambda: _as(_OwnPrecision, named("digits"))},
    ),
    Law(
        name="flow_composes",
        subject="target",
        check=flow_composes,
        applies=flowing,
        mutants={"mean_held_fixed": lambda: _as(_DdimFlow, named("gaussian-2d"))},
    ),
    Law(
        name="flow_follows_the_velocity",
        subject="target",
        check=flow_follows_the_velocity,
        applies=flowing,
        mutants={
            "ratio_of_variances": lambda: _as(_Squared, named("gaussian-2d")),
            "sigma_alone": lambda: _as(_ScaledFlow, named("g3")),
        },
    ),
)
