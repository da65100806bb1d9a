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
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
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
from reference_impls.core import process as processes
from reference_impls.core.types import Likelihood, Objective, Paper, Reduction, Run, Sampler, Transform, require

SUBJECTS = {Sampler: "sampler", Objective: "objective", Likelihood: "likelihood", Transform: "transform"}
Outcome = Literal["holds", "fails", "raises", "fails as declared", "holds against its card", "not asked"]
GOOD = {"holds", "fails as declared"}
# What may be claimed of a bare function, and how `trilemma check` calls it.
FLAGS = {
    "path": "--path", "order": "--order", "weak_order": "--weak-order", "stochastic": "--stochastic",
    "exact_on": "--exact-on", "evaluations_per_step": "--evaluations", "same_as": "--same-as",
}  # fmt: skip
FORM = "expected a function (model, x, grid, *, process, draws) -> end state; a thin adapter of that form will do"


class UsageError(ValueError):
    """What was asked to be checked cannot be found or called; one line with the argument and the mend."""


@dataclass(frozen=True)
class Verdict:
    """What one law says of one card.

    why: of a failure, what was expected and found; example: the smallest input that shows it, as hypothesis found it,
    as arguments in Python; again: the arguments after `trilemma` that show it again, quoted for a shell.
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

    object: a card, a Paper (all its cards), a sequence of these, or a function (see `card_of`, which takes the traits
    that are given: not None, False or empty). Raises UsageError, also on traits that a card would declare itself.
    """
    traits = given(traits)
    if ":" not in reference:
        found = _known().get(reference)
        if found is None:
            from benchmarks import peers

            lacking = peers.missing().get(reference.partition(".")[0])
            if lacking:
                raise UsageError(f"object: {reference!r}: {lacking}")
            near = get_close_matches(reference, _known(), n=3, cutoff=0.4)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise UsageError(
                f"object: {reference!r}, expected package.module:object, file.py:object or the id of a method{hint}"
            )
        return _cards(found, reference, traits)
    place, _, name = reference.partition(":")
    module = _module(place)
    try:
        made = getattr(module, name)
    except AttributeError:
        named = {each: made for each, made in vars(module).items() if not each.startswith("_")}
        public = [each for each, made in named.items() if not inspect.ismodule(made)]
        near = get_close_matches(name, public, n=3, cutoff=0.4) or public[:8]
        hint = f"expected for example {', '.join(near)}" if near else "which names no object that could be meant"
        raise UsageError(f"object: {name!r} is not in {place}, {hint}") from None
    return _cards(made, reference, traits)


def given(traits: Mapping[str, Any]) -> dict[str, Any]:
    """Those that say something. 0 does: it is refused."""
    said = {name: value for name, value in traits.items() if value is not None and value is not False}
    return {name: value for name, value in said.items() if value != frozenset()}


def arguments(reference: str, **traits: Any) -> str:
    """What `trilemma check` is given to get the cards of `loaded(reference, **traits)`, quoted for a shell."""
    words = [reference]
    for name, value in given(traits).items():
        each = sorted(value) if name == "exact_on" else [value]
        words += [word for one in each for word in (FLAGS[name], *([] if one is True else [str(one)]))]
    return shlex.join(words)


def _known() -> dict[str, Any]:
    from benchmarks import peers

    ours = (catalogue.samplers, catalogue.objectives, catalogue.likelihoods, catalogue.transforms)
    kinds = (*ours, peers.samplers, peers.objectives)
    return {id: card for kind in kinds for id, card in kind().items()}


def _module(place: str) -> Any:
    """A module by its dotted name, seen from the working folder, or by the path of its file."""
    path = Path(place)
    with redirect_stdout(sys.stderr):
        return _imported(path, place)


def _imported(path: Path, place: str) -> Any:
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
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever a stranger's module does when it is imported
        raise UsageError(f"module: {place!r} cannot be imported: {type(error).__name__}: {error}") from None


def _cards(made: Any, reference: str, traits: Mapping[str, Any]) -> list[Any]:
    if isinstance(made, tuple(SUBJECTS)):
        if traits:
            said = f"{', '.join(FLAGS[name] for name in traits)}: of a bare function, and {made.id} is a card"
            raise UsageError(f"{said}, which declares this itself; leave it out")
        return [_of_known_classes(made)]
    if isinstance(made, Paper):
        made = [*made.samplers, *made.objectives, *made.likelihoods, *made.transforms]
    if isinstance(made, list | tuple) and made:
        return [card for each in made for card in _cards(each, reference, traits)]
    if callable(made):
        return [card_of(made, id=reference.rpartition(":")[2], **traits)]
    kind = type(made).__name__
    says = "expected a card, a Paper, a list of cards or a function"
    raise UsageError(f"object: {reference!r} is of type {kind}, {says}")


def _of_known_classes(card: Any) -> Any:
    """The card, if all data that it says to be exact on are of a kind that a law asks about."""
    from benchmarks.laws import accuracy

    known = ["single_token"] if "token" in getattr(card, "defined_on", ()) else [*accuracy.CLASSES]
    for name in sorted(getattr(card, "exact_on", ())):
        if name not in known:
            raise UsageError(f"exact-on: {name!r} is not known to any law; expected one of {', '.join(known)}")
    return card


def _above_zero(**claims: float | None) -> None:
    for name, value in claims.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name}: {value}, expected a number above 0; leave it out where nothing is claimed")


def card_of(
    function: Callable[..., Any], *, id: str = "", path: str = "vp-linear", evaluations_per_step: float | None = None,
    same_as: str | None = None, **traits: Any,
) -> Sampler:  # fmt: skip
    """A card for a bare sampler of means: it declares nothing but `traits`, which are fields of types.Sampler.

    function(model, x, grid, *, process, draws): x [B,*D], grid float64 [steps+1] decreasing, model(x, t) = E[x0|x_t];
    returns the state at grid[-1] or a Run. evaluations_per_step: declares the NFE. A weak order is of a stochastic one.
    same_as: id of a sampler of the catalogue that it equals with its defaults, on the path. Raises UsageError.
    """
    name = id or getattr(function, "__name__", repr(function))
    if path not in processes.NAMED:
        raise UsageError(f"path: {path!r} is not known; expected one of {', '.join(sorted(processes.NAMED))}")
    _above_zero(order=traits.get("order"), weak_order=traits.get("weak_order"), evaluations=evaluations_per_step)
    _takes_what_it_is_given(function, name)
    traits.setdefault("stochastic", traits.get("weak_order") is not None)
    if same_as is not None:
        traits["reduces"] = (_same_as(same_as, path),)

    def sample(model: Any, x: Tensor, grid: Tensor, *, process: Any, draws: Any, **options: Any) -> Run:
        meter = require(model, "mean", x.shape[0])
        grids.checked(grid)
        end = function(meter, x, grid, process=process, draws=draws, **options)
        return end if isinstance(end, Run) else Run(end, meter.nfe, meter.vjps)

    each = evaluations_per_step
    card = Sampler(
        id=name, sample=sample, grid=even_in_lam, consumes="mean", path=path,
        nfe=None if each is None else lambda grid: each * (grid.shape[0] - 1), **traits,
    )  # fmt: skip
    return _of_known_classes(card)


def _same_as(id: str, path: str) -> Reduction:
    """To the rounding of another order of operations. Raises UsageError where the two cannot be compared."""
    from benchmarks.laws import conduct

    plain = {each: card for each, card in catalogue.samplers().items() if conduct.plain(card) and not card.needs}
    fit = {each: card for each, card in plain.items() if card.walks == "down" and not card.even}
    if id not in fit:
        near = get_close_matches(id, fit, n=3, cutoff=0.4)
        hint = f", for example {', '.join(near)}" if near else ""
        says = "expected a sampler of the catalogue that consumes means, needs no aid and takes any grid"
        raise UsageError(f"same-as: {id!r}, {says}{hint}")
    if fit[id].paths and path not in fit[id].paths:
        raise UsageError(f"same-as: {id} is defined on {', '.join(sorted(fit[id].paths))}, not on {path}; set --path")
    return Reduction({}, id, tolerance=1e-9, on="own")


def even_in_lam(steps: int, process: Any) -> Tensor:
    """Times even in lam over the part of the path where alpha and sigma are above 0: all of it on most paths."""
    from benchmarks.laws import conduct

    return grids.uniform_lam(steps, conduct.usable(process))


def claims_nothing(card: Any) -> bool:
    """Whether no law asks what a sampler of means computes, for its card declares nothing of it."""
    from benchmarks.laws import conduct

    if not isinstance(card, Sampler) or not conduct.plain(card):
        return False
    return not any((card.order, card.weak_order, card.exact_on, card.symmetric, card.reduces))


def _takes_what_it_is_given(function: Callable[..., Any], name: str) -> None:
    """Raises UsageError if the function cannot be called as a sampler is, before a law calls it."""
    if inspect.isclass(function):
        says = "expected a function or an instance that is called like one; give the instance a name in its module"
        raise UsageError(f"object: {name} is a class, {says}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a builtin: the first law that calls it will tell
        return
    free = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values())
    missing = [each for each in ("process", "draws") if each not in signature.parameters and not free]
    if missing:
        raise UsageError(f"object: {name} takes no {' and no '.join(missing)}, {FORM}")
    try:
        signature.bind("model", "x", "grid", process="process", draws="draws")
    except TypeError as error:
        raise UsageError(f"object: {name}{signature} is not called like that: {error}, {FORM}") from None


def asked(card: Any, only: str = "*") -> list[Law]:
    """The laws that this card's traits call for, by name; `only` is a pattern with * and ?. Raises UsageError."""
    subject = next(name for kind, name in SUBJECTS.items() if isinstance(card, kind))
    whole = [law for _, law in sorted(laws().items()) if law.subject == subject]
    if only != "*" and not fnmatch.filter([law.name for law in whole], only):
        raise UsageError(f"law: {only!r} matches none of {', '.join(law.name for law in whole)}")
    chosen = [law for law in whole if fnmatch.fnmatch(law.name, only) and law.applies(card)]
    return [law for law in chosen if not (law.own and _is_a_peer(card))]


# What brings a law whose name begins like this to a bare function.
BRINGS = {
    "order": "--order", "weak_order": "--weak-order", "exact_on": "--exact-on delta", "asks_at": "--exact-on delta",
    "nfe": "--evaluations", "every_interval": "--evaluations", "reduces": "--same-as",
}  # fmt: skip


def brings(only: str) -> list[str]:
    """The flags of a bare function that bring the laws of this pattern."""
    names = fnmatch.filter(laws(), only)
    return sorted({flag for start, flag in BRINGS.items() if any(name.startswith(start) for name in names)})


def _is_a_peer(card: Any) -> bool:
    from benchmarks import peers

    return peers.is_peer(card.id) and peers.samplers().get(card.id) is card


def law_named(name: str) -> Law:
    return laws()[name]


def verdict(law: Law, card: Any, reference: str = "") -> Verdict:
    """Hold one card to one law. Whatever the card's code raises is part of the verdict.

    reference: what `trilemma check` is given, flags included, to get this card again; by default its id.
    """
    begun, why, example, outcome = time.monotonic(), "", "", "holds"
    with _all_digits(), _profile("ci"), redirect_stdout(sys.stderr):  # whatever it prints is none of our lines
        try:
            law.check(card)
        except AssertionError as error:
            outcome, why, example = "fails", _line(error), _example(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an outside sampler may raise anything, and may want to end the process
            outcome, why, example = "raises", f"{type(error).__name__}: {_line(error)}", _example(error)
    if law.name in card.known_failures if hasattr(card, "known_failures") else False:
        declared = card.known_failures[law.name]
        outcome = "holds against its card" if outcome == "holds" else "fails as declared"
        why = f"{declared}{f' ({why})' if why else ''}"
    again = f"check {reference or shlex.quote(card.id)} --law {law.name}"
    return Verdict(card.id, law.name, outcome, why, example, again, round(time.monotonic() - begun, 2))


def verdicts(card: Any, only: str = "*", reference: str = "") -> Iterator[Verdict]:
    """One after the other, so that a caller can show each as it comes.

    Laws that come first are always asked; where one does not hold it is told, and the others are not asked.
    """
    chosen, sound = asked(card, only), True
    for law in asked(card) if chosen else ():
        if law.first:
            found = verdict(law, card, reference)
            sound &= found.good
            if law in chosen or not found.good:
                yield found
    for law in chosen:
        if not law.first:
            yield verdict(law, card, reference) if sound else Verdict(card.id, law.name, "not asked", "", "", "", 0.0)


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
    """What hypothesis notes on the error of its smallest failing input, on one line of Python: its arguments."""
    for note in getattr(error, "__notes__", ()):
        said = re.sub(r"[ \t]*#[^'\"\n]*$", "", note, flags=re.MULTILINE)  # "# or any other generated value"
        found = re.search(r"^[^:]*: \w+\((.*)\)\s*$", said, re.DOTALL)  # "Failing test case: holds(grid=...)"
        if found:
            return re.sub(r"(?<![\w.])tensor\(", "torch.tensor(", " ".join(found[1].split()).rstrip(","))
    return ""


def observed(card: Sampler) -> list[dict[str, str]]:
    """Traits measured rather than declared: the order on each path and grid, exactness on point masses and Gaussians.

    A row has what was measured, where, and what was found; "no window" where no steady slope was seen. No rows where
    there is nothing to measure: a law that comes first does not hold.
    """
    from benchmarks.laws import accuracy, conduct

    if not conduct.plain(card) or not all(verdict(law, card).good for law in asked(card) if law.first):
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
        with redirect_stdout(sys.stderr):
            return measure()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's sampler may raise anything; one that is not affine an AssertionError
        return f"{type(error).__name__}: {_line(error)}"
