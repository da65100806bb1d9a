"""Every paper, sampler, objective, likelihood and transform there is, found by looking: no hand-kept list."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import reference_impls
from reference_impls.core.types import Likelihood, Objective, Paper, Sampler, Transform

BELOW = {"core", "targets", "nets"}  # folders that hold no papers


@cache
def modules() -> dict[str, str]:
    """key -> module name of every paper file, in the order of keys."""
    found = {}
    for family in pkgutil.iter_modules(reference_impls.__path__):
        if not family.ispkg or family.name in BELOW:
            continue
        package = importlib.import_module(f"reference_impls.{family.name}")
        for file in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{file.name}")
            if isinstance(getattr(module, "PAPER", None), Paper):
                found[module.PAPER.key] = module.__name__
    return dict(sorted(found.items()))


@cache
def papers() -> dict[str, Paper]:
    return {key: importlib.import_module(name).PAPER for key, name in modules().items()}


def _collect(field: str) -> dict:
    return {item.id: item for paper in papers().values() for item in getattr(paper, field)}


@cache
def samplers() -> dict[str, Sampler]:
    return _collect("samplers")


@cache
def objectives() -> dict[str, Objective]:
    return _collect("objectives")


@cache
def likelihoods() -> dict[str, Likelihood]:
    return _collect("likelihoods")


@cache
def transforms() -> dict[str, Transform]:
    return _collect("transforms")


def paper_of(id: str) -> Paper:
    """The paper that declares this method; ids are <key>.<name>."""
    key = id.split(".", 1)[0]
    if key not in papers():
        raise KeyError(f"paper: {key!r} is not known; expected one of {', '.join(papers())}")
    return papers()[key]
