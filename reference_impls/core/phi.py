"""phi-functions of exponential integrators: phi_1(z) = expm1(z)/z, phi_{k+1}(z) = (phi_k(z) - 1/k!)/z, phi_k(0) = 1/k!.

phi_k(z) = int_0^1 e^{(1-u) z} u^{k-1}/(k-1)! du. See Hochbruck & Ostermann, Acta Numerica 19 (2010), section 2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TERMS = 20  # of the series below |z| = 1: the first one left out is 1/20! = 4e-19


def phi(order: int, z: Tensor) -> Tensor:
    """phi_order(z), order >= 1, float64 of z's shape; 0 at z = -inf.

    By its Taylor series where |z| < 1, else by the recursion, which loses at most one digit for each order there.
    """
    z = z.double()
    inner = z.clamp(-1, 1)
    series = torch.zeros_like(z)
    for j in reversed(range(TERMS)):
        series = series * inner + 1 / math.factorial(j + order)
    outer = torch.where(z.abs() < 1, 1.0, z)
    value = torch.expm1(outer) / outer
    for k in range(1, order):
        value = (value - 1 / math.factorial(k)) / outer
    return torch.where(z.abs() < 1, series, value)
