"""Five predictions of one object: the mean E[x0|x_t] is the hub, each other one a spoke.

x = alpha mean + sigma eps. alpha, sigma (and their rates) are floats or tensors that broadcast over x.
The mean is the hub because it alone is finite at both ends of a path.
"""

from __future__ import annotations

from torch import Tensor

Coefficient = float | Tensor


def eps_of_mean(x: Tensor, mean: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    return (x - alpha * mean) / sigma


def mean_of_eps(x: Tensor, eps: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    return (x - sigma * eps) / alpha


def score_of_mean(x: Tensor, mean: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    return (alpha * mean - x) / sigma**2


def mean_of_score(x: Tensor, score: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    return (x + sigma**2 * score) / alpha


def velocity_of_mean(
    x: Tensor, mean: Tensor, alpha: Coefficient, sigma: Coefficient, alpha_rate: Coefficient, sigma_rate: Coefficient
) -> Tensor:
    """alpha' mean + sigma' eps, the velocity of the probability-flow ODE in t."""
    growth = sigma_rate / sigma
    return growth * x + (alpha_rate - growth * alpha) * mean


def mean_of_velocity(
    x: Tensor,
    velocity: Tensor,
    alpha: Coefficient,
    sigma: Coefficient,
    alpha_rate: Coefficient,
    sigma_rate: Coefficient,
) -> Tensor:
    """sigma u = sigma' x + (alpha' sigma - sigma' alpha) mean, solved for the mean: finite at sigma = 0."""
    return (sigma * velocity - sigma_rate * x) / (alpha_rate * sigma - sigma_rate * alpha)


def v_of_mean(x: Tensor, mean: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    """v = alpha eps - sigma mean."""
    return (alpha * x - (alpha**2 + sigma**2) * mean) / sigma


def mean_of_v(x: Tensor, v: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
    return (alpha * x - sigma * v) / (alpha**2 + sigma**2)
