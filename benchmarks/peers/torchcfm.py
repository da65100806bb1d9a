"""The conditional flow matching target of atong01/conditional-flow-matching (torchcfm, MIT) as an objective.

Its time runs from noise to data, t = 1 - ours, and its flow is minus ours. Its samplers are those of torchdiffeq.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

from reference_impls.core import convert
from reference_impls.core.process import Process
from reference_impls.core.types import Objective, expand


def loss(model: Any, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """Squared error of the velocity against the library's target at the library's x_t, [B]; on condot."""
    matcher, theirs = ConditionalFlowMatcher(sigma=0.0), (1 - t).to(x0)
    x = matcher.sample_xt(noise, x0, theirs, torch.zeros_like(x0))
    target = -matcher.compute_conditional_flow(noise, x0, theirs, x)
    terms = (process.alpha(t), process.sigma(t), *process.rates(t))
    velocity = convert.velocity_of_mean(x, model(x, t), *(expand(term, x) for term in terms))
    return (velocity - target).flatten(1).square().mean(1)


def uniform_times(u: Tensor, process: Process) -> Tensor:
    return process.t_min + u.double() * (process.t_max - process.t_min)


CARDS = ()
OBJECTIVES = (Objective(id="torchcfm.cfm", loss=loss, minimiser="mean", path="condot", times=uniform_times),)
