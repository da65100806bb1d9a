"""One page per paper: its card, what it declares, the laws that hold it to that, its claims and all of its cells."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.report import declared
from benchmarks.report.blocks import Claims, Missing, Prose, Section, Shown, Verbatim
from benchmarks.report.ledger import tabled
from benchmarks.report.panels import Panels
from benchmarks.tables import kinds, views

if TYPE_CHECKING:
    from reference_impls.core.types import Paper

WIDTH = 120 - 12  # of a card's text in a file: the line less the column of labels
LABELS = ("Path", "Loss", "Step", "Cost", "Exact when", "Differs")


def card_of(text: str) -> tuple[str, list[tuple[str, str]]]:
    """(what stands before the first label, (label, text) of each labelled paragraph) of a paper file's docstring."""
    pattern = re.compile(rf"^({'|'.join(LABELS)}) {{2,}}")
    head: list[str] = []
    parts: list[tuple[str, list[str]]] = []
    for line in inspect.cleandoc(text).splitlines():
        found = pattern.match(line)
        if found:
            parts.append((found[1], [line[found.end() :]]))
        elif parts:
            parts[-1][1].append(line)
        else:
            head.append(line)
    return "\n".join(head).strip(), [(label, inspect.cleandoc("\n".join(lines)).rstrip()) for label, lines in parts]


def flowing(text: str, width: int = WIDTH) -> str:
    """A card's text with the breaks taken out that the width of the source alone had made.

    A break stays before an indented line, and where the next word would still have fitted: that one was meant.
    """
    lines = text.split("\n")
    made = lines[:1]
    for before, line in pairwise(lines):
        fits = len(before) + 1 + len(line.partition(" ")[0]) <= width
        if fits or line[:1].isspace() or not before:
            made.append(line)
        else:
            made[-1] += f" {line}"
    return "\n".join(made)


def page(paper: Paper, panels: Panels) -> list[Section]:
    """The sections of a paper's page."""
    from reference_impls import catalogue

    text = import_module(catalogue.modules()[paper.key]).__doc__ or ""
    head, parts = card_of(text)
    idea = " ".join(head.partition("\n\n")[0].split()).removeprefix(f"{paper.key} - ")
    card: list[object] = [Prose(idea[:1].upper() + idea[1:])]
    card += [Verbatim(label, re.sub(r"(?<=\S) {3,}", "   ", flowing(said))) for label, said in parts]
    return [
        Section("card", "Card", "The paper in the suite's notation, as it stands at the head of its file.", card),
        Section(
            "declares", "What it declares", "Each of these is a law that fails if it is not so.", declared.blocks(paper)
        ),
        Section("claims", "Claims", "What the paper says, and what these records say of it.", claims(paper, panels)),
        Section(
            "cells",
            "All its numbers",
            "Every job of this paper in this store, failures included.",
            numbers(paper, panels),
        ),
        Section("reproduce", "Reproduce", "The commands that make these records and this page.", [commands(paper)]),
    ]


def claims(paper: Paper, panels: Panels) -> list[object]:
    found = tuple(f for f in panels.inputs.findings if f.of_paper == paper.key)
    if not found:
        return [Missing("No claim of this paper was evaluated for this store.")]
    return [Claims(found, tabled(found, f"{paper.key}-claims-ledger"))]


def numbers(paper: Paper, panels: Panels) -> list[object]:
    frame = panels.frame[panels.frame.paper == paper.key]
    if frame.empty:
        return [Missing(f"No job of this paper is in the store. {panels.why()}")]
    blocks: list[object] = []
    failed = frame[frame.status != "ok"].drop_duplicates("record")
    said = f"{frame.record.nunique()} records, {len(failed)} of them without a number."
    blocks.append(Prose(said))
    for key, rows in views.settled(frame[frame.kind.isin({"score", "sample"})], ["target", "model"]):
        metrics = sorted(set(rows.metric) - {""})
        chosen = [panels.named[value] for metric in metrics for value in views.values_of(rows, metric)]
        id = views.slug(paper.key, key["target"], key["model"])
        if not chosen:
            chosen = (
                [views.Measure("", "Samples")]
                if (rows.status != "ok").any()
                else [views.Measure("nfe", "Samples at NFE")]
            )
        title = f"{key['target']}, model {key['model']}"
        settings = ("process", "grid")
        table = views.long(rows, chosen, id=id, title=title, settings=settings, caption="One row for each job.")
        blocks.append(Shown(table, folded=True))
    timing, bounds = frame[frame.kind == "timing"], frame[frame.kind == "likelihood"]
    for key, rows in views.settled(timing, ["target", "model", "device"]):
        id = views.slug(paper.key, "speed", key["target"], key["model"], key["device"])
        blocks.append(Shown(kinds.speeds(rows, id, f"Speed: {key['target']}, network {key['model']}, {key['device']}")))
    if not bounds.empty:
        blocks.append(Shown(kinds.likelihoods(bounds, f"{paper.key}-likelihoods")))
    return blocks


def commands(paper: Paper) -> object:
    return Verbatim("", f"trilemma bench default --only {paper.key}\npython -m pytest tests -k {paper.key}")
