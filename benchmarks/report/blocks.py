"""What a section of a page is made of. Templates know these kinds and nothing of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.report.ledger import Finding
from benchmarks.tables.table import Table


@dataclass(frozen=True)
class Prose:
    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True)
class Missing:
    """What this section would show, and why it does not."""

    kind: ClassVar[str] = "missing"
    text: str


@dataclass(frozen=True)
class Heading:
    kind: ClassVar[str] = "heading"
    id: str
    text: str


@dataclass(frozen=True)
class Shown:
    """A table in the page; folded: behind its title; files: suffix -> name beside the records."""

    kind: ClassVar[str] = "table"
    table: Table
    folded: bool = False


@dataclass(frozen=True)
class Key:
    """A legend: the labels of the series that follow; id keeps the ids inside its lines apart from other legends'."""

    kind: ClassVar[str] = "key"
    id: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Plots:
    """SVG elements side by side, and the table of what they show."""

    kind: ClassVar[str] = "plots"
    figures: tuple[tuple[str, str], ...]  # (svg, caption)
    table: Table | None = None


@dataclass(frozen=True)
class Strip:
    label: str
    nfe: str
    source: str  # data URI
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """Rows of images, one for each (method, NFE)."""

    kind: ClassVar[str] = "gallery"
    strips: tuple[Strip, ...]
    caption: str


@dataclass(frozen=True)
class Pairs:
    """A description list."""

    kind: ClassVar[str] = "pairs"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Verbatim:
    """Text whose line breaks stay, under a label."""

    kind: ClassVar[str] = "verbatim"
    label: str
    text: str


@dataclass(frozen=True)
class Claims:
    """Claims with their verdicts; the table says the same in files."""

    kind: ClassVar[str] = "claims"
    findings: tuple[Finding, ...]
    table: Table


@dataclass(frozen=True)
class Section:
    """id: the anchor; asks: the question that it answers, in one or two sentences."""

    id: str
    title: str
    asks: str
    blocks: Sequence[object]
