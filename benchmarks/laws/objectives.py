"""What an objective over data must satisfy: one number per sample, and the exact mean as its stationary point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from benchmarks.laws.specimens import objective, squared_error
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Model, Objective, Predictor, Shared, expand


def learns_a_mean(card: Objective) -> bool:
    return card.minimiser == "mean" and card.times is not None and card.needs <= {"share"}


def _model(card: Objective, predict: Callable[..., Tensor]) -> Model:
    """A model of means, with a share of the variance of a third where the objective asks for one."""
    if "share" not in card.needs:
        return Predictor("mean", predict)
    return Shared("mean", lambda x, t: (predict(x, t), torch.full_like(x, 1 / 3)))


def _normals(seed: int, count: int, *shape: int) -> Tensor:
    like = torch.empty(count, *shape, dtype=torch.float64, device=device())
    return Philox(seed, count, device()).normal("law", like)


def one_number_per_sample(card: Objective) -> None:
    process = processes.named(card.path)
    x0, noise = _normals(1, 6, 1, 4), _normals(2, 6, 1, 4)
    t = card.times(torch.linspace(0.1, 0.9, 6, dtype=torch.float64, device=device()), process)
    model = _model(card, lambda x, _: x * 0.3)
    together = card.loss(model, x0, t, noise, process=process)
    assert together.shape == (6,), f"loss has shape {tuple(together.shape)}, expected (6,)"
    for i in range(6):
        alone = card.loss(model, x0[i : i + 1], t[i : i + 1], noise[i : i + 1], process=process)
        gap = (alone[0] - together[i]).abs().item()
        assert gap <= 1e-12 * (1 + together[i].abs().item()), f"a sample's loss depends on its batch by {gap:.2e}"


def _expected_gradient(card: Objective, u: float, seed: int, shift: float) -> Tensor:
    """Gradient of E[loss | x_t = x] in the prediction at the exact mean + shift, with 5 atoms and no Monte Carlo."""
    process = processes.named(card.path)
    t = card.times(torch.tensor([u], dtype=torch.float64, device=device()), process).expand(5)
    atoms, share = _normals(seed, 5, 2), torch.softmax(_normals(seed + 1, 5, 1)[:, 0], 0)
    alpha, sigma = expand(process.alpha(t), atoms), expand(process.sigma(t), atoms)
    x = (alpha[:1] * atoms[:1] + sigma[:1] * _normals(seed + 2, 1, 2)).expand(5, 2)
    noise = (x - alpha * atoms) / sigma
    posterior = torch.softmax(share.log() - noise.square().sum(1) / 2, 0)
    mean = ((posterior[:, None] * atoms).sum(0) + shift).requires_grad_()
    model = _model(card, lambda y, _: mean.expand_as(y))
    loss = (posterior * card.loss(model, atoms, t, noise, process=process)).sum()
    return torch.autograd.grad(loss, mean)[0]


def exact_mean_is_stationary(card: Objective) -> None:
    @given(st.floats(0.02, 0.98), st.integers(0, 10**6))
    def holds(u: float, seed: int) -> None:
        here = _expected_gradient(card, u, seed, 0.0).norm().item()
        there = _expected_gradient(card, u, seed, 0.3).norm().item()
        assert here <= 1e-8 * there, f"gradient at the exact mean is {here / there:.2e} of that at a displaced point"

    holds()


def loss_grows_away_from_the_minimiser(card: Objective) -> None:
    @given(st.floats(0.02, 0.98), st.integers(0, 10**6))
    def holds(u: float, seed: int) -> None:
        for shift in (0.3, -0.3):
            slope = _expected_gradient(card, u, seed, shift)
            assert (slope * shift > 0).all(), (
                f"moving the prediction by {shift} from the mean does not raise the loss: {slope}"
            )

    holds()


def gradient_is_finite_at_t_min_and_t_max(card: Objective) -> None:
    process = processes.named(card.path)
    ends = torch.tensor([1e-12, 1 - 1e-12], dtype=torch.float64, device=device())
    for dtype in (torch.float64, torch.float32):
        x0, noise = _normals(1, 2, 3).to(dtype), _normals(2, 2, 3).to(dtype)
        guess = torch.zeros(2, 3, dtype=dtype, device=device(), requires_grad=True)
        model = _model(card, lambda x, _, guess=guess: guess + 0 * x)
        loss = card.loss(model, x0, card.times(ends, process), noise, process=process)
        slope = torch.autograd.grad(loss.sum(), guess)[0]
        assert torch.isfinite(loss).all() and torch.isfinite(slope).all(), (
            f"{dtype}: loss {loss.tolist()} at the ends of t"
        )


# ---- mutants -----------------------------------------------------------------------------------------------------
def _mean_over_the_batch(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Any) -> Tensor:
    return squared_error(model, x0, t, noise, process=process).mean().expand(x0.shape[0])


def _target_is_the_state(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Any) -> Tensor:
    x = process.noised(x0, t, noise)
    return (model(x, t) - x).flatten(1).square().mean(1)


def _absolute_error(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Any) -> Tensor:
    return (model(process.noised(x0, t, noise), t) - x0).flatten(1).abs().mean(1)


def _wrong_sign(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Any) -> Tensor:
    return -squared_error(model, x0, t, noise, process=process)


def _divides_by_the_distance_to_t_max(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Any) -> Tensor:
    weight = (1 / (process.t_max - t.float())).to(x0.dtype)
    return weight * squared_error(model, x0, t, noise, process=process)


def _law(check: Any, **mutants: Any) -> Law:
    return Law(
        name=check.__name__, subject="objective", check=check, applies=learns_a_mean,
        mutants={name: (lambda loss=loss: objective(loss)) for name, loss in mutants.items()},
    )  # fmt: skip


LAWS = (
    _law(one_number_per_sample, mean_over_the_batch=_mean_over_the_batch),
    _law(exact_mean_is_stationary, target_is_the_state=_target_is_the_state, absolute_error=_absolute_error),
    _law(loss_grows_away_from_the_minimiser, wrong_sign=_wrong_sign),
    _law(gradient_is_finite_at_t_min_and_t_max, divides_by_the_distance_to_t_max=_divides_by_the_distance_to_t_max),
)
