"""The few kinds of plot there are: lines against evaluations or steps, and a row of estimates with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from benchmarks.plots.style import BAND_MARK, PAGE_MARK, QUIET_MARK, Look
from benchmarks.plots.svg import drawing, finished
from benchmarks.tables.views import Point

WIDE, HIGH = 4.5, 3.2  # inches; 324 x 230 units of the SVG, readable at the width of a phone


@dataclass(frozen=True)
class Lines:
    """Values against x for several series.

    band: (low, high) of the noise floor; guides: slopes drawn as orders; missing: label -> x of failed jobs;
    ideal: a horizontal line where a perfect sampler is. Values beyond the `ceiling` stand at the upper edge, zeros
    of a logarithmic axis at the lower one.
    """

    id: str
    title: str
    x_title: str
    y_title: str
    series: Mapping[str, Sequence[Point]]
    log_x: bool = True
    log_y: bool = True
    ticks: Sequence[float] = ()
    band: tuple[float, float] | None = None
    band_title: str = "noise floor"
    ideal: float | None = None
    ideal_title: str = "exact"
    guides: Sequence[int] = ()
    missing: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reach: float = 100.0  # of a logarithmic axis, see `ceiling`
    apart: bool = False  # series shifted sideways by up to 4 %, so that intervals at equal x do not hide each other

    @cached_property
    def ceiling(self) -> float:
        """Of a logarithmic axis: so many times the median of the series' largest values, so that one method that
        diverges does not flatten the others."""
        if not self.log_y:
            return math.inf
        largest = [y for points in self.series.values() if (y := max((p.y for p in points), default=0.0)) > 0]
        return self.reach * median(largest) if largest else math.inf

    @cached_property
    def positive(self) -> list[float]:
        """The values that a logarithmic axis shows."""
        return [p.y for points in self.series.values() for p in points if 0 < p.y <= self.ceiling]

    @property
    def logarithmic(self) -> bool:
        return self.log_y and bool(self.positive)

    @property
    def beyond(self) -> dict[str, list[Point]]:
        """label -> points above the ceiling."""
        found = {label: [p for p in points if p.y > self.ceiling] for label, points in self.series.items()}
        return {label: points for label, points in found.items() if points}

    @property
    def nought(self) -> dict[str, list[Point]]:
        """label -> points at or below 0, where the axis is logarithmic."""
        found = {label: [p for p in points if p.y <= 0] for label, points in self.series.items()}
        return {label: points for label, points in found.items() if points and self.logarithmic}

    @property
    def desc(self) -> str:
        """What a reader who does not see the plot is told."""
        parts = [f"{self.y_title} against {self.x_title.lower()}, {len(self.series)} series."]
        for label, points in self.series.items():
            if points:
                first, last = points[0], points[-1]
                parts.append(f"{label}: {first.y:.3g} at {first.x:g}, {last.y:.3g} at {last.x:g}.")
        if self.band:
            parts.append(f"{self.band_title}: {self.band[0]:.3g} to {self.band[1]:.3g}.")
        off = sum(map(len, self.beyond.values()))
        parts += [f"{off} values above {self.ceiling:.3g} are marked at the upper edge."] if off else []
        low = sum(map(len, self.nought.values()))
        parts += [f"{low} values of 0 or less are marked at the lower edge."] if low else []
        failed = sum(map(len, self.missing.values()))
        return " ".join(parts + ([f"{failed} failed jobs are marked at the upper edge."] if failed else []))


def lines(plot: Lines, looks: Mapping[str, Look]) -> str:
    """The plot as an SVG element."""
    from matplotlib.figure import Figure

    with drawing(plot.id):
        figure = Figure(figsize=(WIDE, HIGH))
        draw(
            figure.add_axes((0.115, 0.135, 0.87, 0.79)), plot, looks
        )  # fixed: fitting to the text takes most of the time
        return finished(figure, plot.id, plot.title, plot.desc)


POWERS = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")


def said(value: float, place: int | None = None) -> str:
    """A tick's label: plain between a thousandth and ten thousand, else as mantissa and power of ten."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(POWERS)
    return power if mantissa == "1.0" else f"{float(mantissa):g}·{power}"


def logarithmic(axis, least: float, most: float, decades: float) -> None:
    """Ticks of a logarithmic axis: powers of ten, or 1-2-5 where the data span less than so many decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    narrow = most < 10**decades * least
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=12 if narrow else 8))
    axis.set_major_formatter(FuncFormatter(said))
    axis.set_minor_formatter(NullFormatter())


def _two_ticks(axis, least: float, most: float) -> None:
    """Ticks at the ends of the data where a logarithmic axis has fewer than two, for one alone gives no scale; one
    between them stays if there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_view_interval()
    inside = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
    if len(inside) > 1 or not least < most:
        return
    apart = (high / low) ** 0.12
    kept = [tick for tick in inside if least * apart <= tick <= most / apart]
    axis.set_major_locator(FixedLocator([least, *kept, most]))
    axis.set_major_formatter(FuncFormatter(lambda value, place: said(float(f"{value:.3g}"))))
    axis.set_minor_locator(NullLocator())


def draw(axes, plot: Lines, looks: Mapping[str, Look]) -> None:
    """One panel: series over band and guides."""
    from matplotlib.ticker import FixedLocator, NullLocator

    if plot.log_x:
        axes.set_xscale("log")
    positive, log_y = plot.positive, plot.logarithmic
    if log_y:
        axes.set_yscale("log", nonpositive="clip")
    middle = (len(plot.series) - 1) / 2
    for order, (label, points) in enumerate(plot.series.items()):
        shift = 1 + 0.08 * (order - middle) / max(1, len(plot.series) - 1) if plot.apart and plot.log_x else 1
        within = [point._replace(x=shift * point.x) for point in points if point.y <= plot.ceiling]
        _series(axes, within, looks[label], order, log_y, positive, plot.ceiling)
    if plot.band:
        _band(axes, plot.band, plot.band_title, log_y)
    if plot.ideal is not None and not (log_y and plot.ideal <= 0):
        axes.axhline(plot.ideal, color=QUIET_MARK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(plot.ideal_title, (1, plot.ideal), xycoords=("axes fraction", "data"), fontsize=8, ha="right",
                      va="bottom", color=QUIET_MARK)  # fmt: skip
    if plot.guides and log_y and plot.log_x:
        _guides(axes, plot)
    for label, places in plot.missing.items():
        _at_the_edge(axes, places, "x", looks[label])
    for label, points in plot.beyond.items():
        _at_the_edge(axes, [p.x for p in points], "^", looks[label])
    for label, points in plot.nought.items():
        _at_the_edge(axes, [p.x for p in points], "v", looks[label], 1 - EDGE)
    if plot.ticks:
        axes.xaxis.set_major_locator(FixedLocator(list(plot.ticks)))
        axes.set_xticklabels([f"{tick:g}" for tick in plot.ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    if plot.log_x:
        least, most = _range(p.x for points in plot.series.values() for p in points)
        axes.set_xlim(least / (1.12 if least < most else 2), most * (1.12 if least < most else 2))
    if plot.log_x and not plot.ticks:
        logarithmic(axes.xaxis, *_range(p.x for points in plot.series.values() for p in points), decades=2.6)
    if log_y:
        floor = [bound for bound in plot.band or () if bound > 0]
        logarithmic(axes.yaxis, *_range([*positive, *floor]), decades=2)
        _two_ticks(axes.yaxis, *_range(positive))
    if plot.log_x:
        _two_ticks(axes.xaxis, *_range(p.x for points in plot.series.values() for p in points))
    axes.set_xlabel(plot.x_title)
    axes.set_title(plot.y_title, fontsize=9.5)


EDGE = 0.985  # the height, of 1, at which marks at the upper edge stand


def _at_the_edge(axes, places: Sequence[float], mark: str, look: Look, high: float = EDGE) -> None:
    """Marks at an edge for what has no place in the panel."""
    axes.plot(places, [high] * len(places), linestyle="none", marker=mark, color=look.colour, markersize=6,
              transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip


def _range(values: Iterable[float]) -> tuple[float, float]:
    found = sorted(values)
    return found[0], found[-1]


def _series(
    axes, points: Sequence[Point], look: Look, order: int, log_y: bool, positive: Sequence[float], ceiling: float
) -> None:
    bottom = min(positive) / 3 if log_y else None
    shown = [p for p in points if math.isfinite(p.y) and not (log_y and p.y <= 0)]
    x, y = [p.x for p in shown], [p.y for p in shown]
    axes.plot(x, y, color=look.colour, linestyle=look.dashes, zorder=3 + order / 100, **marker(look))
    held = [p for p in shown if p.low is not None and p.high is not None]
    if held:
        lows = [max(p.low, bottom) if log_y else p.low for p in held]
        axes.vlines(
            [p.x for p in held], lows, [min(p.high, ceiling) for p in held], color=look.colour, linewidth=1, zorder=2.5
        )


def marker(look: Look) -> dict[str, object]:
    if look.filled:
        return {"marker": look.marker, "markeredgecolor": PAGE_MARK, "markeredgewidth": 0.5}
    return {"marker": look.marker, "markerfacecolor": PAGE_MARK, "markeredgecolor": look.colour}


def _band(axes, band: tuple[float, float], title: str, log_y: bool) -> None:
    low, high = band
    if log_y and high <= 0:
        return
    if log_y and low <= 0:
        low = high / 10
    if high - low < 1e-3 * abs(high):
        axes.axhline(high, color=QUIET_MARK, linewidth=3, alpha=0.35, zorder=0.5)
    else:
        axes.axhspan(low, high, color=BAND_MARK, linewidth=0, zorder=0.5)
    axes.annotate(
        title, (0.01, low), xycoords=("axes fraction", "data"), xytext=(0, -2), textcoords="offset points", fontsize=8,
        va="top", color=QUIET_MARK,
    )  # fmt: skip
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom=min(bottom, low / (top / bottom) ** 0.08 if log_y else low - 0.08 * (top - bottom)))


def _guides(axes, plot: Lines) -> None:
    """Dotted lines of slope -p from a common point above most of the data, each named at its end."""
    points = [p for line in plot.series.values() for p in line if p.y > 0]
    if len(points) < 2:
        return
    left, right, least = min(p.x for p in points), max(p.x for p in points), min(p.y for p in points)
    firsts = sorted(line[0].y for line in plot.series.values() if line and line[0].y > 0)
    start = 2 * firsts[len(firsts) // 2] if firsts else least
    for order in plot.guides:
        x, y = right, start * (right / left) ** -order
        if y < least < start:
            x, y = left * (start / least) ** (1 / order), least
        axes.plot([left, x], [start, y], color=QUIET_MARK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(f"order {order}", (x, y), fontsize=8, color=QUIET_MARK, ha="right", va="bottom")


def dots(id: str, title: str, x_title: str, series: Mapping[str, Sequence[Point]], looks: Mapping[str, Look]) -> str:
    """One row for each label: its estimate(s) with intervals on a common axis, sorted by the estimate."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows = sorted(((label, p) for label, points in series.items() for p in points), key=lambda row: row[1].y)
    desc = f"{x_title}. " + " ".join(f"{label}: {p.y:.3g}." for label, p in reversed(rows))
    with drawing(id):
        high = 0.6 + 0.24 * len(rows)
        figure = Figure(figsize=(WIDE, high))
        left = min(0.6, 0.04 + 0.0155 * max(len(label) for label, _ in rows))  # about the width of the longest label
        axes = figure.add_axes((left, 0.45 / high, 0.98 - left, 1 - 0.5 / high))
        for place, (label, point) in enumerate(rows):
            look = looks[label]
            if point.low is not None and point.high is not None:
                axes.plot([point.low, point.high], [place, place], color=look.colour, linewidth=1.6)
            axes.plot([point.y], [place], color=look.colour, markersize=5.5, **marker(look))
        axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        ends = [bound for _, p in rows for bound in (p.low or p.y, p.high or p.y)]
        if min(ends) > 0 and max(ends) > 10 * min(ends):
            axes.set_xscale("log")
            logarithmic(axes.xaxis, min(ends), max(ends), decades=1.5)
        else:
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_major_formatter(FuncFormatter(said))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_title)
        return finished(figure, id, title, desc)


KEY_BOX = "0 0 36 10.8"  # of half an inch by .15


def key(label: str, look: Look, id: str) -> str:
    """The line and marker of one series, as it stands in a legend: an SVG of that id, KEY_BOX large, to be used."""
    from matplotlib.figure import Figure

    with drawing(id):
        figure = Figure(figsize=(0.5, 0.15))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot(
            [0, 1, 2],
            [0, 0, 0],
            color=look.colour,
            linestyle=look.dashes,
            markevery=[1],
            markersize=5.5,
            **marker(look),
        )
        axes.set_xlim(-0.1, 2.1)
        axes.set_ylim(-1, 1)
        drawn = finished(figure, id, label, f"line and marker of {label}")
    return drawn.replace("<svg ", f'<svg id="{id}" ', 1)
