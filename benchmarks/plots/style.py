"""One look for each method on every page, and colours that CSS decides: light, dark, print.

Colours follow Okabe & Ito's principle (hue and lightness differ together), darkened or lightened until each has a
contrast of at least 4.5 against its page; marker and dashes carry the same information without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

LIGHT = ("#0062a8", "#b04a00", "#00735a", "#9b3d86", "#6b6100", "#c01f3a", "#2b2b2b")
DARK = ("#62b5f2", "#f2a35e", "#45c9a0", "#e59ad0", "#d9cc4e", "#ff8a93", "#dedede")
PAGES = {"light": "#fdfcfa", "dark": "#16181b"}
INKS = {"light": "#1d2126", "dark": "#e4e2dd"}
QUIET = {"light": "#5a6068", "dark": "#a7a9ac"}
RULES = {"light": "#d9d6cf", "dark": "#3a3e44"}
BANDS = {"light": "#e9e5da", "dark": "#2b2f36"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))

# Stand-ins that matplotlib draws with; the SVG gets a CSS variable in their place.
SERIES_MARK = tuple(f"#a1b2c{k}" for k in range(len(LIGHT)))
INK_MARK, QUIET_MARK, RULE_MARK, BAND_MARK, PAGE_MARK = "#a1b2d0", "#a1b2d1", "#a1b2d2", "#a1b2d3", "#a1b2d4"
VARIABLES = {
    **{mark: f"var(--s{k})" for k, mark in enumerate(SERIES_MARK)},
    INK_MARK: "var(--ink)", QUIET_MARK: "var(--quiet)", RULE_MARK: "var(--rule)", BAND_MARK: "var(--band)",
    PAGE_MARK: "var(--page)",
}  # fmt: skip


def literal(theme: str = "light") -> dict[str, str]:
    """Stand-in -> colour, for a file of its own that no style sheet reaches."""
    series = LIGHT if theme == "light" else DARK
    inks = (INKS, QUIET, RULES, BANDS, PAGES)
    marks = (INK_MARK, QUIET_MARK, RULE_MARK, BAND_MARK, PAGE_MARK)
    return dict(zip(SERIES_MARK, series, strict=True)) | {m: of[theme] for m, of in zip(marks, inks, strict=True)}


def variables(theme: str) -> dict[str, str]:
    """CSS custom property -> colour."""
    return {VARIABLES[mark][4:-1]: colour for mark, colour in literal(theme).items()}


class Look(NamedTuple):
    colour: str  # a stand-in
    marker: str
    dashes: object
    filled: bool = True


def looks(ids: Iterable[str], labels: Iterable[str]) -> Mapping[str, Look]:
    """label -> look: a colour for each paper, marker and dashes the first that the colour has left.

    ids: of the catalogue; labels: of the records (a method id, then options, which hollow the marker). So a method
    looks the same on every page of one catalogue, and methods of one paper are recognised as such. A colour has
    MARKERS x DASHES looks; beyond that they repeat.
    """
    labels = sorted(set(labels))
    known = sorted({*ids, *(label.split(" ", 1)[0] for label in labels)})
    papers = sorted({id.split(".", 1)[0] for id in known})
    own = _places(papers, known)
    found = {}
    for label in labels:
        id = label.split(" ", 1)[0]
        colour, marker, dashes = own[id]
        variants = [other for other in labels if other.split(" ", 1)[0] == id and other != id]
        variant = variants.index(label) + 1 if label in variants else 0
        look = MARKERS[marker], DASHES[(dashes + variant) % len(DASHES)], variant == 0
        found[label] = Look(SERIES_MARK[colour], *look)
    return found


def _places(papers: list[str], known: list[str]) -> dict[str, tuple[int, int, int]]:
    """id -> (colour, marker, dashes) by place: a paper takes the colour that has the fewest methods so far, and its
    methods walk on through that colour's looks. Marker and dashes step together, so that neighbours differ in both; as
    their numbers share no factor, every pair of them comes once before any comes again."""
    taken, found = [0] * len(SERIES_MARK), {}
    for paper in papers:
        colour = taken.index(min(taken))
        for id in (id for id in known if id.split(".", 1)[0] == paper):
            found[id] = colour, taken[colour] % len(MARKERS), taken[colour] % len(DASHES)
            taken[colour] += 1
    return found


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
