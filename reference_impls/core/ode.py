"""Dormand-Prince 5(4) with a time and a step size of its own for every row, so that a batch never changes a sample."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Dormand & Prince 1980: nodes, stages, fifth-order weights are the last stage (first same as last), error weights.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

Field = Callable[[Tensor, Tensor, Tensor], Tensor]  # (y [R,d], t [R] float64, rows [R] int64) -> dy/dt [R,d]


def _rms(y: Tensor) -> Tensor:
    return y.square().mean(1).sqrt()


@torch.no_grad()
def _first_step(field: Field, y: Tensor, slope: Tensor, t: Tensor, span: float, rtol: float, atol: float) -> Tensor:
    """Starting step size of each row (Hairer, Norsett & Wanner, Solving ODEs I, II.4); costs one evaluation."""
    scale = atol + rtol * y.double().abs()
    size, speed = _rms(y / scale), _rms(slope / scale)
    trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed).clamp(max=abs(span))
    sign = math.copysign(1.0, span)
    rows = torch.arange(y.shape[0], device=y.device)
    moved = field(y + (sign * trial).to(y.dtype)[:, None] * slope, t + sign * trial, rows)
    bend = torch.maximum(speed, _rms((moved - slope) / scale) / trial)
    refined = torch.where(bend <= 1e-15, (trial * 1e-3).clamp(min=1e-6), (0.01 / bend) ** 0.2)
    return torch.minimum(100 * trial, refined)


def integrate(field: Field, y: Tensor, start: float, end: float, *, rtol: float, atol: float) -> Tensor:
    """dopri5 from start to end with a time and a step size for every row; only unfinished rows are evaluated.

    y [B,d]. Step control (the book's II.4, in float64): factor .9 err^(-1/5) within [.2, 10], at most 1 right after a
    rejection. Gradients flow through the states, not through the step sizes. Raises ValueError if a tolerance is
    negative or both are 0, FloatingPointError if a step size underflows or the field is not finite.
    """
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
        raise ValueError(f"rtol, atol: {rtol!r}, {atol!r}, expected numbers >= 0, not both 0")
    y, sign = y.clone(), math.copysign(1.0, end - start)
    t = torch.full((y.shape[0],), start, dtype=torch.float64, device=y.device)
    slope = field(y, t, torch.arange(y.shape[0], device=y.device))
    size = _first_step(field, y, slope, t, end - start, rtol, atol)
    rows = torch.arange(y.shape[0], device=y.device)
    rejected = torch.zeros_like(rows, dtype=torch.bool)
    while rows.numel():
        left = (end - t[rows]).abs()
        h = torch.where(size[rows] >= left * (1 - 1e-10), left, size[rows])  # leaves no sliver; nan stays nan
        if not (h > 1e-14 * abs(end - start)).all():
            where = f"{h.min().item():g} at t = {t[rows][h.argmin()].item():g}"
            raise FloatingPointError(f"dopri5: step size {where}, expected above 0; loosen rtol, atol or fix the model")
        slopes_at, base, signed = [slope[rows]], y[rows], (sign * h).to(y.dtype)[:, None]
        for node, weights in zip(NODES[1:], STAGES[1:], strict=True):
            moved = base + signed * sum(w * k for w, k in zip(weights, slopes_at, strict=True) if w)
            slopes_at.append(field(moved, t[rows] + sign * node * h, rows))
        error = h[:, None] * sum(w * k.detach().double() for w, k in zip(ERROR, slopes_at, strict=True) if w)
        ratio = _rms(error / (atol + rtol * torch.maximum(base.abs(), moved.abs()).detach().double()))
        good = ratio <= 1
        accepted = rows[good]
        y[accepted], slope[accepted] = moved[good], slopes_at[-1][good]
        t[accepted] = torch.where(h[good] >= left[good], torch.full_like(h[good], end), t[accepted] + sign * h[good])
        factor = (0.9 * ratio.clamp(min=1e-10) ** -0.2).clamp(0.2, 10.0)
        size[rows] = h * torch.where(rejected[rows], factor.clamp(max=1.0), factor)
        rejected[rows] = ~good
        rows = rows[t[rows] != end]
    return y
