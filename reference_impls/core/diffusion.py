"""A Gaussian path as a diffusion dx = f x dt + g dw, and its probability flow dx/dt = u = f x - g^2/2 grad log p_t.

f = alpha'/alpha, g^2 = 2 sigma (sigma' - f sigma). With the mean D of the model the score is (alpha D - x)/sigma^2.
Needs alpha, sigma > 0. The flow's change of log density is int div u dt, along each row's own trajectory
(Chen, Rubanova, Bettencourt, Duvenaud, NeurIPS 2018), its trace exact or by Hutchinson's estimate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reference_impls.core import ode
from reference_impls.core.process import Process
from reference_impls.core.types import Meter, expand


def drift(t: Tensor, process: Process) -> tuple[Tensor, Tensor]:
    """f and g^2 at times t."""
    alpha_rate, sigma_rate = process.rates(t)
    f, sigma = alpha_rate / process.alpha(t), process.sigma(t)
    return f, 2 * sigma * (sigma_rate - f * sigma)


def transition(t: Tensor, s: Tensor, process: Process) -> tuple[Tensor, Tensor]:
    """a and b of x_t = a x_s + sqrt(b) z for s < t: alpha_t/alpha_s and sigma_t^2 - a^2 sigma_s^2."""
    fresh = -torch.expm1(2 * (process.lam(t) - process.lam(s)))  # share of sigma_t^2 that came between s and t
    return process.alpha(t) / process.alpha(s), process.sigma(t) ** 2 * fresh


def slopes(t: Tensor, process: Process) -> tuple[Tensor, Tensor]:
    """c and k of u = c x + k D: sigma'/sigma = f + g^2/(2 sigma^2), and alpha' - c alpha = -g^2 alpha/(2 sigma^2)."""
    alpha_rate, sigma_rate = process.rates(t)
    growth = sigma_rate / process.sigma(t)
    return growth, alpha_rate - growth * process.alpha(t)


def flow(model: Meter, x: Tensor, start: float, end: float, *, process: Process, rtol: float, atol: float) -> Tensor:
    """x [B,*D] at time start carried to time end, either way, by Dormand-Prince with a step size for each row."""

    def field(y: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        growth, pull = (expand(slope, y) for slope in slopes(t, process))
        return growth * y + pull * model(y.reshape(-1, *x.shape[1:]), t).flatten(1)

    return ode.integrate(field, x.flatten(1), start, end, rtol=rtol, atol=atol).reshape(x.shape)


def flow_with_divergence(
    model: Meter,
    x: Tensor,
    start: float,
    end: float,
    *,
    process: Process,
    probe: Tensor | None = None,
    rtol: float,
    atol: float,
) -> tuple[Tensor, Tensor]:
    """The same, and int div u dt from start to end [B]: log p_start(x) = log p_end(x carried) + that.

    probe: v [B,*D] with E v v^T = I, one per row along all of its trajectory: div u is estimated by v^T (du/dx) v,
    unbiased. None: the exact trace, by one backward pass per dimension. Detached unless x carries a graph.
    """
    size = math.prod(x.shape[1:])
    unit = torch.eye(size, dtype=x.dtype, device=x.device)

    def field(y: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        growth, force = (expand(slope, y) for slope in slopes(t, process))
        mean, pull = model.vjp(y[:, :-1].reshape(-1, *x.shape[1:]), t)
        probes = [e.expand(len(rows), -1) for e in unit] if probe is None else [probe.flatten(1)[rows]]
        products = [(pull(v.reshape(mean.shape)).flatten(1) * v).sum(1, keepdim=True) for v in probes]
        squares = sum(v.square().sum(1, keepdim=True) for v in probes)
        return torch.cat([growth * y[:, :-1] + force * mean.flatten(1), growth * squares + force * sum(products)], 1)

    y = torch.cat([x.flatten(1), torch.zeros_like(x.flatten(1)[:, :1])], 1)
    y = ode.integrate(field, y, start, end, rtol=rtol, atol=atol)
    return y[:, :-1].reshape(x.shape), y[:, -1]
