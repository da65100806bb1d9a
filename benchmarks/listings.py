"""What there is, as rows of plain data: methods, targets, models, papers, metrics, suites, by name and trait.

Nothing heavy is imported before a list is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def methods() -> list[dict[str, Any]]:
    from reference_impls import catalogue

    def order(card: Any) -> str:
        return f"{card.order:g}" if card.order else f"weak {card.weak_order:g}" if card.weak_order else "-"

    return [
        {
            "id": card.id, "consumes": card.consumes, "order": order(card), "path": card.path,
            "needs": " ".join(sorted(card.needs)) or "-", "nfe": "of the grid" if card.nfe else "metered",
            "kind": ("stochastic" if card.stochastic else "deterministic") + (", baseline" if card.baseline else ""),
        }
        for card in catalogue.samplers().values()
    ]  # fmt: skip


def known_targets() -> list[dict[str, Any]]:
    from benchmarks import data, problems
    from reference_impls import targets

    made = {name: problems.target_of(name) for name in dict.fromkeys([*targets.makers(), *data.NAMED])}
    return [
        {"target": name, "family": problems.family_of(target), "shape": "x".join(map(str, problems.shape_of(target)))}
        for name, target in made.items()
    ]


def models() -> list[dict[str, Any]]:
    from benchmarks import checkpoints, recipes

    pinned, known = checkpoints.names(), recipes.names()
    return [
        {"model": name, "recipe": "yes" if name in known else "-", "pinned": "yes" if name in pinned else "no"}
        for name in sorted({*known, *pinned})
    ]


def other_libraries() -> list[dict[str, Any]]:
    """Their samplers and objectives, and of those that are not installed, how to get them."""
    from benchmarks import peers

    known = {**peers.samplers(), **peers.objectives()}
    here = [{"id": id, "library": peers.version_of(id), "path": card.path} for id, card in known.items()]
    return here + [{"id": f"{name}.*", "library": why, "path": "-"} for name, why in peers.missing().items()]


def rows(found: Mapping[str, Any], *fields: str) -> list[dict[str, Any]]:
    return [{name: getattr(each, name) for name in fields} for each in found.values()]


def kinds() -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """Kind of thing -> rows."""
    from benchmarks import metrics, suites
    from reference_impls import catalogue
    from reference_impls.core import grids, process, tokens

    return {
        "methods": methods,
        "peers": other_libraries,
        "targets": known_targets,
        "models": models,
        "papers": lambda: rows(catalogue.papers(), "key", "title", "venue", "arxiv"),
        "objectives": lambda: rows(catalogue.objectives(), "id", "minimiser", "path"),
        "likelihoods": lambda: rows(catalogue.likelihoods(), "id", "kind", "consumes"),
        "metrics": lambda: rows(metrics.metrics(), "name", "title", "unit", "better"),
        "suites": lambda: [{"suite": name, "about": suites.named(name).about} for name in suites.names()],
        "grids": lambda: [{"grid": name} for name in [*grids.NAMED, "power(E)", "power(E)_to_zero", "own"]],
        "processes": lambda: [{"process": name} for name in [*process.NAMED, *tokens.NAMED]],
    }
