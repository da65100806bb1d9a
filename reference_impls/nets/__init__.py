"""Small reference networks, trained in minutes. A net maps (x, noise embedding) to raw output: no paper's formula here.

A net casts its input to the dtype of its weights and returns float32 or better, so that a network in bfloat16 is joined
to its parametrisation without loss. Each module names its network in ``NET``.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

import torch
from torch import nn


@cache
def kinds() -> dict[str, type[nn.Module]]:
    """module name -> network class, of every module in this folder that has one."""
    modules = {file.name: importlib.import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)}
    return {name: module.NET for name, module in sorted(modules.items()) if hasattr(module, "NET")}


def build(kind: str, *, seed: int, **options: Any) -> nn.Module:
    """A freshly initialised network on the CPU: the same weights for the same kind, seed, options and torch.

    Raises KeyError with the kinds there are. The global random state is neither read nor moved.
    """
    if kind not in kinds():
        raise KeyError(f"net: {kind!r} is not known; expected one of {', '.join(kinds())}")
    return kinds()[kind](torch.Generator().manual_seed(seed), **options)


def parameters_of(net: nn.Module) -> int:
    """How many numbers the network has learnt."""
    return sum(parameter.numel() for parameter in net.parameters())
