"""The command that holds a sampler to the laws."""

from __future__ import annotations

import os
from collections import Counter
from typing import Annotated, Any

import typer

from benchmarks.cli.terms import AsJson, emit, show, there


def check(
    what: Annotated[str, typer.Argument(help="package.module:object, file.py:object, or the id of a method.")],
    law: Annotated[str, typer.Option(help="Only laws of this name; * and ? stand.")] = "*",
    path: Annotated[
        str | None, typer.Option(help="Of a bare function: the noising process it is meant for; default vp-linear.")
    ] = None,
    order: Annotated[float | None, typer.Option(help="Of a bare function: the order it claims.")] = None,
    weak_order: Annotated[float | None, typer.Option(help="Of a bare stochastic function: the weak order.")] = None,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Of a bare function: it draws noise.")] = False,
    exact_on: Annotated[
        list[str] | None, typer.Option(help="Of a bare function: delta, standard, isotropic or gaussian; repeatable.")
    ] = None,
    evaluations: Annotated[float | None, typer.Option(help="Of a bare function: NFE per step.")] = None,
    same_as: Annotated[
        str | None, typer.Option(help="Of a bare function: a method here that ends where it does, by id.")
    ] = None,
    observe: Annotated[bool, typer.Option("--observe", help="Measure its orders and its exactness as well.")] = False,
    device: Annotated[str, typer.Option(envvar="TRILEMMA_DEVICE", help="cpu, cuda or cuda:<index>.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Hold a sampler (or objective, likelihood, transform) to the laws: what holds, what fails, by how much, and where.

    Exit code 0: all laws hold; 1: one fails; 2: it cannot be checked.
    """
    from benchmarks import referee

    claims = {"path": path, "order": order, "weak_order": weak_order, "stochastic": stochastic,
              "exact_on": frozenset(exact_on or ()), "evaluations_per_step": evaluations,
              "same_as": same_as}  # fmt: skip
    os.environ["TRILEMMA_DEVICE"] = there(device)
    cards, again = referee.loaded(what, **claims), referee.arguments(what, **claims)
    again += "" if device == "cpu" else f" --device {device}"
    if not any(referee.asked(card, law) for card in cards):
        flags = " or ".join(referee.brings(law))
        mend = f"; {flags} brings it to a bare function" if flags else ""
        raise referee.UsageError(f"law: {law!r} asks nothing of {what}: its card has not the traits{mend}")
    found = [each for card in cards for each in judged(card, law, again, quiet=as_json)]
    measured = {card.id: referee.observed(card) for card in cards if observe and hasattr(card, "exact_on")}
    if as_json:
        emit({"verdicts": [vars(each) | {"good": each.good} for each in found], "observed": measured})
    else:
        for id, rows in measured.items():
            show(rows, f"{id}, measured")
        print(sum_of(found))
        unasked = law == "*" and any(referee.claims_nothing(card) for card in cards)
        if unasked and not any(each.outcome == "not asked" for each in found):
            print(UNASKED)
    if not all(each.good for each in found):
        raise typer.Exit(1)


UNASKED = (
    "nothing was asked of what it computes, for nothing of it is claimed: no order, exactness or method that it equals "
    "(of a bare function: --order, --weak-order, --exact-on delta, --same-as); --observe measures"
)


def sum_of(found: list[Any]) -> str:
    """One line of counts: what holds, what fails as declared, what was not asked."""
    counts = Counter(each.outcome for each in found)
    declared, silent = counts["fails as declared"], counts["not asked"]
    line = f"{counts['holds']} of {len(found)} laws hold"
    line += f", {declared} {'fails' if declared == 1 else 'fail'} as declared" if declared else ""
    return line + (f"; {silent} not asked, for what comes first does not hold" if silent else "")


def judged(card: Any, law: str, again: str, quiet: bool) -> list[Any]:
    """Verdicts on one card, each printed as it comes. again: the arguments that name this card."""
    from benchmarks import referee

    made = []
    for each in referee.verdicts(card, law, again):
        made.append(each)
        if quiet or each.outcome == "not asked":  # the last line counts them
            continue
        print(f"{each.outcome:22}{each.law} ({each.card}, {each.seconds:.1f} s)", flush=True)
        if each.why:
            print(f"    {each.why}")
        if not each.good and each.example:
            print(f"    smallest example: {each.example}")
        if not each.good and each.again:
            print(f"    again: trilemma {each.again}")
    return made
