"""What cards declare and what is pinned, as tables: the claims of the code itself, before anything is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.report.blocks import Missing, Pairs, Shown
from benchmarks.tables.table import Cell, Column, Row, Table
from benchmarks.tables.views import slug

if TYPE_CHECKING:
    from reference_impls.core.types import Paper

NO_LAWS = Missing("The laws need the package hypothesis, which is not installed here: `pip install hypothesis`.")

GIVEN = {None: "", "condition": ", on the model given the condition", "none": ", on the model without a condition"}


def blocks(paper: Paper) -> list[object]:
    made: list[object] = []
    if paper.samplers:
        made.append(Shown(sampler_table(paper)))
    if paper.objectives:
        made.append(Shown(objective_table(paper)))
    others = [(f"Likelihood {item.id}", item.kind) for item in paper.likelihoods]
    nothing_at = [(item.id, _options(item.identity_at, " at")) for item in paper.transforms]
    others += [(f"Transform {id}", f"does nothing{place}") for id, place in nothing_at]
    others += [(f"Parametrisation {name}", "raw network to model") for name in sorted(paper.parametrisations)]
    if others:
        made.append(Pairs(tuple(others)))
    made.append(law_table(paper))
    return made


def sampler_table(paper: Paper) -> Table:
    """Traits x samplers: what the cards say, trait by trait; a trait that no sampler of the paper has is left out."""
    said = [_traits(sampler) for sampler in paper.samplers]
    names = [name for name in said[0] if any(traits[name] not in ("", None) for traits in said)]
    rows = tuple(
        Row((name,), tuple(Cell(None if traits[name] in ("", None) else str(traits[name])) for traits in said))
        for name in names
    )
    columns = tuple(
        Column(slug(s.id), s.id.split(".", 1)[1] + (" (baseline)" if s.baseline else "")) for s in paper.samplers
    )
    return Table(f"{paper.key}-samplers", "Samplers", "As declared on the cards.", ("Trait",), columns, rows)


def _traits(card: Any) -> dict[str, Any]:
    reduces = (f"{r.to}{_options(r.to_options)}{_options(r.options, ' with')}{GIVEN[r.given]}" for r in card.reduces)
    return {
        "consumes": card.consumes,
        "path": card.path,
        "order": card.order and f"{card.order:g}",
        "weak order": card.weak_order and f"{card.weak_order:g}",
        "noise": "stochastic" if card.stochastic else "deterministic",
        "exact on": ", ".join(sorted(card.exact_on)),
        "symmetric under": ", ".join(sorted(card.symmetric)),
        "needs": ", ".join(sorted(card.needs)),
        "reduces to": "; ".join(reduces),
        "known failures": "; ".join(f"{law}: {why}" for law, why in sorted(card.known_failures.items())),
    }


def objective_table(paper: Paper) -> Table:
    columns = tuple(Column(slug(name), name) for name in ("Minimiser predicts", "Path", "Reduced by", "Needs"))
    rows = tuple(
        Row((o.id,), tuple(Cell(part or None) for part in (o.minimiser, o.path, o.reduce, ", ".join(sorted(o.needs)))))
        for o in paper.objectives
    )
    return Table(f"{paper.key}-objectives", "Objectives", "As declared on the card.", ("Objective",), columns, rows)


def _options(options: Any, before: str = "") -> str:
    said = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(options.items())
    )
    return f"{before} {said}" if said else ""


def law_table(paper: Paper) -> object:
    """Law by law the methods of this paper that it applies to, by their traits."""
    if find_spec("hypothesis") is None:
        return NO_LAWS
    from benchmarks.laws import laws

    held = {"sampler": paper.samplers, "objective": paper.objectives, "likelihood": paper.likelihoods,
            "transform": paper.transforms}  # fmt: skip
    rows = []
    for name, law in sorted(laws().items()):
        of = [card.id.split(".", 1)[1] for card in held.get(law.subject, ()) if law.applies(card)]
        if of:
            rows.append(
                Row((name.replace("_", " "),), (Cell(law.subject), Cell(", ".join(of)), Cell(len(law.mutants))))
            )
    if not rows:
        return Missing("No analytic law applies to what this paper declares.")
    columns = (
        Column("subject", "Holds for a"),
        Column("methods", "Applied to"),
        Column("mutants", "Broken versions it rejects"),
    )
    caption = "Chosen by traits, run by tests/test_laws.py; a broken version is one that the law must reject."
    return Shown(Table(f"{paper.key}-laws", "Laws that apply", caption, ("Law",), columns, tuple(rows)))


def laws_over(papers: Iterable[Paper]) -> Table | Missing:
    """Law by law the cards of the catalogue that it applies to and the failures that cards declare."""
    if find_spec("hypothesis") is None:
        return NO_LAWS
    from benchmarks.laws import laws

    papers = list(papers)
    cards = {
        kind: [card for paper in papers for card in getattr(paper, kind + "s")]
        for kind in ("sampler", "objective", "likelihood", "transform")
    }
    rows = []
    for name, law in sorted(laws().items()):
        held = [card for card in cards.get(law.subject, ()) if law.applies(card)]
        known = [
            f"{card.id}: {card.known_failures[name]}" for card in held if name in getattr(card, "known_failures", {})
        ]
        applies = Cell(len(held)) if law.subject in cards else Cell()
        said = (Cell(law.subject), applies, Cell(len(law.mutants)), Cell("; ".join(known) or None))
        rows.append(Row((name.replace("_", " "),), said))
    columns = tuple(Column(*names) for names in (
        ("subject", "About a"), ("applies", "Methods it applies to"), ("mutants", "Broken versions it rejects"),
        ("known", "Declared failures"),
    ))  # fmt: skip
    caption = (
        "Laws select themselves by what a card declares. They run as tests (`tox -e tests`), not as part of this page; "
        "a declared failure that passes fails the tests too."
    )
    return Table("laws-over-the-catalogue", "Laws over the catalogue", caption, ("Law",), columns, tuple(rows))


def checkpoints(entries: Sequence[dict[str, Any]]) -> Table:
    columns = tuple(Column(*names) for names in (
        ("bytes", "Bytes"), ("sha256", "sha256"), ("licence", "Licence"), ("recipe", "Recipe"), ("seed", "Seed"),
        ("parent", "Parent"), ("trained", "Trained"),
    ))  # fmt: skip
    rows = []
    for entry in sorted(entries, key=lambda e: e["name"]):
        said = {**entry, "sha256": entry["sha256"][:16]}
        rows.append(Row((entry["name"],), tuple(Cell(said.get(column.name) or None) if column.name != "seed"
                                                 else Cell(said.get("seed")) for column in columns)))  # fmt: skip
    caption = "Pinned in checkpoints.lock: `trilemma lock verify` compares, `trilemma lock train NAME` makes one again."
    return Table("checkpoints", "Pinned weights", caption, ("Name",), columns, tuple(rows))
