"""The README's plot, from committed records alone: `python -m benchmarks.plots.readme` writes reports/sample/."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.digests import ROOT
from benchmarks.plots import figures, style
from benchmarks.plots.svg import drawing, finished
from benchmarks.tables import views
from benchmarks.tables.cells import cells, counting

FILE = ROOT / "reports" / "sample" / "quality.svg"
METRIC = "frechet"
ID = "readme-quality"
DRAWN = "<!-- drawn from results/reference by matplotlib "


class NoRecords(ValueError):
    """The committed records hold nothing to plot; the message says what to do."""


def panel(folder: Path) -> figures.Lines:
    """Frechet distance against NFE for the network with the most scored methods in the folder's records."""
    from benchmarks.records import Store
    from reference_impls import catalogue

    adaptive = frozenset(card.id for card in catalogue.samplers().values() if card.nfe is None)
    frame = cells(counting(Store(folder).records()), adaptive=adaptive)
    scored = views.methods(frame[(frame.value == METRIC) & (frame.model != "exact")])
    groups = views.settled(scored, ["target", "model"])
    if not groups:
        raise NoRecords(
            f"records: none in {folder} scores {METRIC} of a trained network; run the suite `default` into it"
        )
    key, rows = max(groups, key=lambda group: (group[1].series.nunique(), group[0]["model"]))
    floors = views.floor_rows(frame)
    floors = floors[
        (floors.value == METRIC) & (floors.target == key["target"]) & floors["size"].isin(set(rows["size"]))
    ]
    band = None if floors.empty else (float(floors.low.min()), float(floors.high.max()))
    sizes = ", ".join(str(n) for n in sorted(set(rows["size"])))
    return figures.Lines(
        id=ID, title=f"Sample quality against network evaluations: {key['target']}, network {key['model']}",
        series=views.series(rows, METRIC, "nfe"), x_title="network evaluations per sample (NFE)",
        y_title=f"Frechet distance, {key['target']}, n = {sizes}, 95 % intervals (lower is better)",
        ticks=views.BUDGETS,
        band=band, apart=True,
    )  # fmt: skip


def plot(folder: Path) -> str:
    """The SVG file: literal colours on its own page colour, a legend beside the lines."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = panel(folder)
    looks = style.looks(_ids(), lines.series)
    with drawing(ID):
        figure = Figure(figsize=(7.6, 3.6), facecolor=style.PAGE_MARK)
        axes = figure.add_axes((0.07, 0.13, 0.6, 0.78))
        figures.draw(axes, lines, looks)
        last = {label: points[-1].y for label, points in lines.series.items()}
        handles = []
        for label in sorted(last, key=last.get, reverse=True):
            look = looks[label]
            handles += axes.plot([], [], color=look.colour, linestyle=look.dashes, label=label, **figures.marker(look))
        axes.legend(
            handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8.5, handlelength=3
        )
        drawn = finished(figure, ID, lines.title, lines.desc, colours=style.literal(), alone=True)
    return f"{DRAWN}{matplotlib.__version__} -->\n{drawn}"


def drawn_with(text: str) -> str:
    """The matplotlib that drew the file: another one may place a tick elsewhere, from the same numbers."""
    return text.partition("\n")[0].removeprefix(DRAWN)


def _ids() -> list[str]:
    from reference_impls import catalogue

    return list(catalogue.samplers())


def main() -> int:
    from benchmarks.records import REFERENCE

    try:
        text = plot(REFERENCE)
    except NoRecords as error:
        print(f"trilemma: {error}", file=sys.stderr)
        return 2
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(text, encoding="utf-8")
    print(FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
