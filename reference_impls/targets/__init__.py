"""Distributions and problems with exact answers. A target knows nothing of time: it takes alpha and sigma.

Each module lists its own targets in ``NAMED`` (name -> maker); ``named`` finds them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from reference_impls.core.process import Process
from reference_impls.core.types import Predictor, Time, expand


@cache
def makers() -> dict[str, Callable[[], Any]]:
    """name -> maker of every target in this folder."""
    found: dict[str, Callable[[], Any]] = {}
    for file in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{file.name}").NAMED
    return dict(sorted(found.items()))


@cache
def named(name: str) -> Any:
    """A target by name, made once; raises KeyError with the names there are."""
    if name not in makers():
        raise KeyError(f"target: {name!r} is not known; expected one of {', '.join(makers())}")
    return makers()[name]()


def exact(target: Any, process: Process) -> Predictor:
    """The exact denoiser of `target` under `process`: (x [B,*D], t) -> E[x0 | x_t = x]."""

    def predict(x, t: Time):
        return target.mean(x, expand(process.alpha(t), x), expand(process.sigma(t), x))

    return Predictor("mean", predict)


@dataclass(frozen=True)
class ExactGiven:
    """The exact denoiser of a labelled target, and under labels (int64 [B], -1 for none) that of each row's class."""

    target: Any
    process: Process
    kind: str = field(default="mean", init=False)

    def __call__(self, x, t: Time):
        return exact(self.target, self.process)(x, t)

    def given(self, condition: Any) -> Predictor:
        return exact(self.target.given(condition), self.process)
