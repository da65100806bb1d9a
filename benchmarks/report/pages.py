"""Pages from sections: jinja2 with everything escaped, the style sheet inside, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.plots import figures, style
from benchmarks.report import ledger, overview, papers, referee, results, solvers
from benchmarks.report.blocks import Section
from benchmarks.report.panels import Panels
from benchmarks.tables.table import interval
from benchmarks.tables.views import slug

if TYPE_CHECKING:
    from jinja2 import Environment

    from benchmarks.report.inputs import Inputs
    from benchmarks.tables.table import Table

SECTIONS = (  # after the summary, which tells how long these took
    overview.claims, results.precision, results.quality, results.speed, results.tokens, results.control,
    results.inverse, results.same_noise, referee.verdicts, referee.overhead, overview.laws, overview.provenance,
    overview.missing,
)  # fmt: skip
FOLDER = Path(__file__).parent / "templates"


def environment() -> Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters["slug"] = slug
    made.globals["counted"] = ledger.counts
    made.globals["numbered"] = lambda finding: interval(finding.estimate, finding.low, finding.high)
    return made


def style_sheet() -> str:
    """style.css after the colours of both themes: those of the plots, so that there is one list of them."""

    def block(theme: str) -> str:
        return "".join(f"--{name}:{colour};" for name, colour in _named(theme))

    light, dark = block("light"), block("dark")
    head = f":root{{color-scheme:light dark;{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    printed = f"@media print{{:root{{color-scheme:light;{light}}}}}\n"
    return head + printed + (FOLDER / "style.css").read_text()


def _named(theme: str) -> list[tuple[str, str]]:
    return [(name.removeprefix("--"), colour) for name, colour in style.variables(theme).items()]


class Pages:
    """All pages over one set of inputs; sections come first, so that their tables can be written before them."""

    def __init__(self, inputs: Inputs, digest: str):
        self.inputs, self.digest = inputs, digest
        frame = inputs.frame
        self.looks = style.looks(inputs.methods, {*frame.label, *frame.series})
        self.panels = Panels(inputs, self.looks)
        self.failures = overview.failed(self.panels)
        self.shown = [section(self.panels) for section in SECTIONS]
        self.shelf = ShelfPages(inputs)

    @property
    def tables(self) -> list[Table]:
        """Of the first page, in order of appearance, then of the shelf's where this run is one of it."""
        return [*self.panels.tables, *self.shelf.tables]

    def rendered(self) -> dict[str, str]:
        """file name -> page."""
        inputs, made, labels = self.inputs, environment(), _labels(self.shown)
        shared = {
            "css": style_sheet(), "digest": self.digest, "store": inputs.store.folder.name,
            "papers": sorted(inputs.papers), "swatch": figures.KEY_BOX,
            "shelf": {n: f"solvers-{slug(n)}.html" for n in self.shelf.sections},
        }  # fmt: skip
        keys = _keys(labels, self.looks)
        shown = [overview.summary(self.panels, self.failures), *self.shown]
        index = made.get_template("index.html.j2").render(**shared, title="trilemma report", sections=shown, keys=keys)
        pages = {"index.html": index}
        for key, paper in inputs.papers.items():
            pages[f"{key}.html"] = made.get_template("paper.html.j2").render(
                **shared, title=f"{key} - trilemma", sections=papers.page(paper, self.panels), keys={}, paper=paper
            )
        return pages | self.shelf_pages(made, shared)

    def shelf_pages(self, made: Environment, shared: dict) -> dict[str, str]:
        """A page for each target and path of the solver shelf."""
        pages = {}
        for name, sections in self.shelf.sections.items():
            keys = _keys(_labels(sections), self.shelf.panels.looks)
            pages[shared["shelf"][name]] = made.get_template("solvers.html.j2").render(
                **shared, title=f"{name} - trilemma", sections=sections, keys=keys, name=name,
                said=self.shelf.said,
            )  # fmt: skip
        return pages


class ShelfPages:
    """Sections for each target and path of the shelf: of this run if it is one of it, else of the committed records."""

    def __init__(self, inputs: Inputs):
        found, committed = solvers.inputs_of(inputs)
        self.sections, self.tables = {}, []
        if found is None:
            return
        self.said = f"{found.made} {solvers.SLICE}" if committed else ""
        self.panels = Panels(found, style.looks(found.methods, {*found.frame.label, *found.frame.series}))
        self.sections = {shelf.name: shelf.sections() for shelf in solvers.shelves(self.panels, committed)}
        if not committed:
            self.tables = self.panels.tables


class Drawn(NamedTuple):
    """A legend's line and marker, drawn once on a page and used wherever the method is named: its id and the SVG."""

    id: str
    drawn: str


def _keys(labels: Iterable[str], looks: Mapping[str, style.Look]) -> dict[str, Drawn]:
    ids = {label: slug("key", label) for label in sorted(labels)}
    return {label: Drawn(id, figures.key(label, looks[label], id)) for label, id in ids.items()}


def _labels(sections: list[Section]) -> set[str]:
    return {label for section in sections for block in section.blocks if block.kind == "key" for label in block.labels}
