"""Analytic laws: properties that every method with the right traits must satisfy, and the mutants each law must reject.

A law never names a method: `applies` reads the card's traits. Each module lists its own in ``LAWS``.
Imports torch, hypothesis and the reference implementations only, so that laws run on a bare machine.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, max_examples=15, suppress_health_check=list(HealthCheck)
)
settings.register_profile("mutants", parent=settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
settings.register_profile("search", parent=settings.get_profile("ci"), derandomize=False, max_examples=300)

Subject = Literal["sampler", "objective", "likelihood", "transform", "process", "grid", "target", "token_process"]


@dataclass(frozen=True, kw_only=True)
class Law:
    """A sentence about cards.

    check(card) raises AssertionError with what was expected and what was found; applies(card) reads traits only.
    mutants: name -> maker of a card that differs from a right one in one sign, index, factor or tag, passes shape
    and finiteness (unless these are the law), and must be rejected by this law. first: asked before the others of its
    subject, which mean nothing where it does not hold. own: of this suite's contract alone, which other libraries
    (benchmarks.peers) have not signed; a stranger who asks is held to it.
    """

    name: str
    subject: Subject
    check: Callable[[Any], None]
    mutants: dict[str, Callable[[], Any]]
    applies: Callable[[Any], bool] = lambda card: True
    first: bool = False
    own: bool = False


def device() -> torch.device:
    """Where laws run: TRILEMMA_DEVICE (for example cuda), or the CPU."""
    return torch.device(os.environ.get("TRILEMMA_DEVICE", "cpu"))


@cache
def laws() -> dict[str, Law]:
    """name -> law, of every module in this folder."""
    found = {}
    for file in pkgutil.iter_modules(__path__):
        for law in getattr(importlib.import_module(f"{__name__}.{file.name}"), "LAWS", ()):
            if law.name in found:
                raise ValueError(f"law: {law.name!r} is defined twice")
            found[law.name] = law
    return found
