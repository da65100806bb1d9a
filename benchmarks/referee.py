"""The referee: hold any sampler, objective, likelihood or transform to the laws; say what fails and by how much.

What is held is a card (reference_impls.core.types) or a bare function

    sample(model, x, grid, *, process, draws) -> end state [B,*D], or a Run

for which `card_of` makes one that declares nothing: it is then held to the laws that ask for no trait, and `observed`
measures the traits that it could declare. Imports torch, hypothesis and the reference implementations only.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import inspect
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
from hypothesis import settings
from torch import Tensor

from benchmarks.laws import Law, laws
from reference_impls import catalogue
from reference_impls.core import grids
from reference_impls.core.types import Likelihood, Objective, Paper, Run, Sampler, Transform, require

SUBJECTS = {Sampler: "sampler", Objective: "objective", Likelihood: "likelihood", Transform: "transform"}
Outcome = Literal["holds", "fails", "raises", "fails as declared", "holds against its card"]
GOOD = {"holds", "fails as declared"}


class UsageError(ValueError):
    """What was asked to be checked cannot be found or called; one line with the argument and the mend."""


@dataclass(frozen=True)
class Verdict:
    """What one law says of one card.

    why: of a failure, what was expected and found; example: the smallest input that shows it, as hypothesis found it;
    again: the arguments after `trilemma` that show it again.
    """

    card: str
    law: str
    outcome: Outcome
    why: str
    example: str
    again: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.outcome in GOOD


def loaded(reference: str, **traits: Any) -> list[Any]:
    """The cards that a reference names: package.module:object, path/to/file.py:object, or the id of a known one.

    object: a card, a Paper (all its cards), a sequence of these, or a function (see `card_of`, which takes the traits).
    Raises UsageError.
    """
    if ":" not in reference:
        found = _known().get(reference)
        if found is None:
            near = get_close_matches(reference, _known(), n=3, cutoff=0.4)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise UsageError(
                f"object: {reference!r}, expected package.module:object, file.py:object or the id of a method{hint}"
            )
        return [found]
    place, _, name = reference.partition(":")
    module = _module(place)
    try:
        made = getattr(module, name)
    except AttributeError:
        public = [each for each in vars(module) if not each.startswith("_")]
        near = get_close_matches(name, public, n=3, cutoff=0.4) or public[:8]
        raise UsageError(f"object: {name!r} is not in {place}, expected for example {', '.join(near)}") from None
    return _cards(made, reference, traits)


def _known() -> dict[str, Any]:
    from benchmarks import peers

    ours = (catalogue.samplers, catalogue.objectives, catalogue.likelihoods, catalogue.transforms)
    kinds = (*ours, peers.samplers, peers.objectives)
    return {id: card for kind in kinds for id, card in kind().items()}


def _module(place: str) -> Any:
    """A module by its dotted name, seen from the working folder, or by the path of its file."""
    path = Path(place)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise UsageError(f"file: {place!r} is not there, expected a Python file")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            spec.loader.exec_module(module)
            return module
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    except UsageError:
        raise
    except Exception as error:  # whatever a stranger's module does when it is imported
        raise UsageError(f"module: {place!r} cannot be imported: {type(error).__name__}: {error}") from None


def _cards(made: Any, reference: str, traits: Mapping[str, Any]) -> list[Any]:
    if isinstance(made, tuple(SUBJECTS)):
        return [made]
    if isinstance(made, Paper):
        return [*made.samplers, *made.objectives, *made.likelihoods, *made.transforms]
    if isinstance(made, list | tuple) and made:
        return [card for each in made for card in _cards(each, reference, traits)]
    if callable(made):
        return [card_of(made, id=reference.rpartition(":")[2], **traits)]
    kind = type(made).__name__
    says = "expected a card, a Paper, a list of cards or a function"
    raise UsageError(f"object: {reference!r} is of type {kind}, {says}")


def card_of(
    function: Callable[..., Any], *, id: str = "", path: str = "vp-linear", evaluations_per_step: float | None = None,
    **traits: Any,
) -> Sampler:  # fmt: skip
    """A card for a bare sampler of means: it declares nothing but `traits`, which are fields of types.Sampler.

    function(model, x, grid, *, process, draws): x [B,*D], grid float64 [steps+1] decreasing, model(x, t) = E[x0|x_t];
    returns the state at grid[-1] or a Run. evaluations_per_step: declares the NFE. Raises UsageError.
    """
    known = inspect.signature(function).parameters
    free = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
    missing = [name for name in ("process", "draws") if name not in known and not free]
    if missing:
        raise UsageError(
            f"object: {id or function!r} takes no {' and no '.join(missing)}, expected a function "
            "(model, x, grid, *, process, draws) -> end state; a thin adapter of that form will do"
        )

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, **options: Any) -> Run:
        meter = require(model, "mean", x.shape[0])
        grids.checked(grid)
        end = function(meter, x, grid, process=process, draws=draws, **options)
        return end if isinstance(end, Run) else Run(end, meter.nfe, meter.vjps)

    each = evaluations_per_step
    return Sampler(
        id=id or function.__name__, sample=sample, grid=grids.uniform_lam, consumes="mean", path=path,
        nfe=None if each is None else lambda grid: each * (grid.shape[0] - 1), **traits,
    )  # fmt: skip


def asked(card: Any, only: str = "*") -> list[Law]:
    """The laws that this card's traits call for, by name; `only` is a pattern with * and ?. Raises UsageError."""
    subject = next(name for kind, name in SUBJECTS.items() if isinstance(card, kind))
    whole = [law for _, law in sorted(laws().items()) if law.subject == subject]
    if only != "*" and not fnmatch.filter([law.name for law in whole], only):
        raise UsageError(f"law: {only!r} matches none of {', '.join(law.name for law in whole)}")
    return [law for law in whole if fnmatch.fnmatch(law.name, only) and law.applies(card)]


def law_named(name: str) -> Law:
    return laws()[name]


def verdict(law: Law, card: Any, reference: str = "") -> Verdict:
    """Hold one card to one law. Whatever the card's code raises is part of the verdict.

    reference: what `trilemma check` is given, flags included, to get this card again; by default its id.
    """
    begun, why, example, outcome = time.monotonic(), "", "", "holds"
    with _all_digits(), _profile("ci"):
        try:
            law.check(card)
        except AssertionError as error:
            outcome, why, example = "fails", _line(error), _example(error)
        except Exception as error:  # an outside sampler may raise anything
            outcome, why, example = "raises", f"{type(error).__name__}: {_line(error)}", _example(error)
    if law.name in card.known_failures if hasattr(card, "known_failures") else False:
        declared = card.known_failures[law.name]
        outcome = "holds against its card" if outcome == "holds" else "fails as declared"
        why = f"{declared}{f' ({why})' if why else ''}"
    again = f"check {reference or card.id} --law {law.name}"
    return Verdict(card.id, law.name, outcome, why, example, again, round(time.monotonic() - begun, 2))


def verdicts(card: Any, only: str = "*", reference: str = "") -> Iterator[Verdict]:
    """One after the other, so that a caller can show each as it comes."""
    for law in asked(card, only):
        yield verdict(law, card, reference)


@contextmanager
def _profile(name: str) -> Iterator[None]:
    """Hypothesis without deadline, database or chance: a verdict is the same tomorrow."""
    before = settings.get_current_profile_name()
    settings.load_profile(name)
    try:
        yield
    finally:
        settings.load_profile(before)


@contextmanager
def _all_digits() -> Iterator[None]:
    """Tensors in an example are printed whole, so that it can be typed in again."""
    before = torch._tensor_str.PRINT_OPTS.precision
    torch.set_printoptions(precision=17)
    try:
        yield
    finally:
        torch.set_printoptions(precision=before)


def _line(error: BaseException) -> str:
    said = str(error).strip()
    return (said.splitlines() or [type(error).__name__])[0]


def _example(error: BaseException) -> str:
    """What hypothesis notes on the error of its smallest failing input, on one line: its arguments."""
    for note in getattr(error, "__notes__", ()):
        found = re.search(r"^[^:]*: \w+\((.*)\)\s*$", note, re.DOTALL)  # "Failing test case: holds(grid=...)"
        if found:
            return " ".join(found[1].split()).rstrip(",")
    return ""


def observed(card: Sampler) -> list[dict[str, str]]:
    """Traits measured rather than declared: the order on each path and grid, exactness on point masses and Gaussians.

    A row has what was measured, where, and what was found; "no window" where no steady slope was seen.
    """
    from benchmarks.laws import accuracy, conduct

    if not conduct.plain(card):
        return []
    rows = []
    for path in accuracy.PATHS if not card.stochastic else ():
        for grid in accuracy.GRIDS:
            found = _or_reason(lambda path=path, grid=grid: accuracy.observed_order(card, path, grid, most=1024)[0])
            shown = found if isinstance(found, str) else "no window" if found is None else f"{found:.2f}"
            rows.append({"trait": "order", "where": f"{path} x {grid}", "found": shown})
    rows += [
        {"trait": f"relative variance error, N(0, {variance:g}) data", "where": f"{steps} steps in lam", "found": found}
        for variance in (0.0, 0.25, 1.0)
        for steps in (8, 64)
        if (found := _variance_error(card, variance, steps))
    ]
    return rows


def _variance_error(card: Sampler, variance: float, steps: int) -> str:
    from benchmarks.laws import accuracy

    process = accuracy.own_process(card)

    def measure() -> float:
        grid = grids.uniform_lam(steps, process)
        return accuracy.relative_variance_error(card, process, grid, variance, **card.exact_options)

    found = _or_reason(measure)
    return found if isinstance(found, str) else f"{found:+.2e}" if math.isfinite(found) else "not finite"


def _or_reason(measure: Callable[[], float | None]) -> float | None | str:
    try:
        return measure()
    except Exception as error:  # a stranger's sampler may raise anything; one that is not affine an AssertionError
        return f"{type(error).__name__}: {_line(error)}"
