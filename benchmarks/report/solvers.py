"""A page for each analytic target and path of the suite `solvers`: error against evaluations and time on every grid.

Solver, path and grid are separate axes: a setting is a path with a grid, and all methods of a setting share start
states and noise. Methods stand in panels by their declared order, so that a slope can be read against its guide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks.report.blocks import Heading, Prose, Section
from benchmarks.report.choices import choices
from benchmarks.report.inputs import SHELF, Inputs
from benchmarks.report.panels import Panels
from benchmarks.report.results import BOUGHT, MARKED
from benchmarks.statistics import Interval, t_interval
from benchmarks.tables import views
from benchmarks.tables.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    import pandas as pd

SUITE = SHELF  # the suite is called like its table
ERROR, TIMES_THE_REFERENCE = "flow_error", 3.0
ROUNDING = 1e-12  # of a closed flow map, relative to states of order one
LARGEST_ERROR = 0.5  # beyond it a slope says nothing
ORDER_TOLERANCE = 0.15  # as the law order_is_as_declared allows below the declared order
SAID_OF_ORDERS = (
    f"'below', 'above': the whole interval lies more than {ORDER_TOLERANCE:g}, the law's tolerance, under or over the "
    "declared order. A law may hold where this table says 'below': it asks for steady slopes of errors from 1e-11 to "
    ".1 on nine pairs of path and grid, away from the ends of the path and with the options that make a card exact; "
    "here one pair of step counts on this grid is all, the path's ends and the defaults included. More than declared "
    "is no fault: a declared order is a bound that holds on every grid."
)
GROUPS = ("first order", "second order", "third order and higher", "no declared order", "adaptive", "with noise")


def group_of(card: Any) -> str:
    """The panel in which a method stands."""
    if card is None or (not card.stochastic and card.order is None and card.nfe is not None):
        return "no declared order"
    if card.stochastic:
        return "with noise"
    if card.nfe is None:
        return "adaptive"
    return GROUPS[0] if card.order < 1.5 else GROUPS[1] if card.order < 2.5 else GROUPS[2]


class Shelf:
    """The rows of one target on one path, and what is said of them."""

    def __init__(self, panels: Panels, target: str, process: str, rows: pd.DataFrame, drawn: bool):
        self.panels, self.target, self.process, self.rows = panels, target, process, rows
        self.budgets, self.name, self.drawn = budgets(), f"{target} {process.partition('[')[0]}", drawn

    @cached_property
    def walls(self) -> Mapping[str, float]:
        """process -> error of the reference itself, below which no error can be told from it."""
        flow = self.panels.frame
        flow = flow[(flow.method == "flow") & (flow.target == self.target) & (flow.value == "coarse_error")]
        return {row.process: TIMES_THE_REFERENCE * row.estimate for row in flow.itertuples()}

    def wall(self, process: str) -> float:
        return max(self.walls.get(process, 0.0), ROUNDING)

    def sections(self) -> list[Section]:
        made = [
            Section("budget", "Which sampler at your budget", BUDGET_ASK, self.choices()),
            Section("orders", "Measured orders", ORDERS_ASK, self.orders()),
        ]
        for key, rows in views.settled(self.rows, ["process", "grid"]):
            title = f"{key['process']}, grid {key['grid']}"
            made.append(Section(views.slug(self.target, title), title, SETTING_ASK, self.setting(title, key, rows)))
        return made

    def choices(self) -> list[object]:
        """The best method at each budget by every metric that the shelf has, the error first."""
        metrics = sorted(set(self.rows.metric) - {""}, key=lambda name: (name != ERROR, name))
        measures = [self.panels.named[metric] for metric in metrics if self.panels.named[metric].better == "lower"]
        walls = {process: self.wall(process) for process in set(self.rows.process)}
        tables = [
            choices(self.rows, measure, self.budgets, self.by_shard, walls,
                    id=views.slug(self.name, "budget", measure.name),
                    title=f"Best by {measure.title}: {self.target}, {self.process}")
            for measure in measures
        ]  # fmt: skip
        shown = [self.panels.keep(table) for table in tables if table.rows]
        return shown or [Prose("No method at its default settings was scored here.")]

    def setting(self, title: str, key: Mapping[str, str], rows: pd.DataFrame) -> list[object]:
        blocks: list[object] = []
        metrics = sorted(set(rows.metric) - {""}, key=lambda name: (name != ERROR, name))
        for metric in metrics:
            chosen = self.table(metric, title, key, rows)
            if chosen is not None:
                blocks.append(self.panels.keep(chosen, True))
        if not self.drawn:
            return [*blocks, Prose(NOT_DRAWN)]
        for group in GROUPS:
            part = rows[rows.method.map(lambda id: group_of(self.panels.inputs.methods.get(id))) == group]
            if part.empty:
                continue
            shown = [metric for metric in metrics if metric in set(part.metric)]
            id = views.slug(self.target, title, group)
            guides = sorted({1, 2, *_orders(self.panels, part)} - {0}) if group != "with noise" else (1, 2)
            plots = self.panels.plots(part, shown, "nfe", id, guides=guides, always_log=True)
            if plots:
                blocks += [Heading(id, group), self.panels.key(id, part), plots]
            timed = part.assign(per_sample=part.nfe * part.method.map(self.seconds_per_evaluation))
            timed = timed[timed.per_sample.notna()]
            plots = self.panels.plots(timed, shown[:1], "per_sample", id + "-time", always_log=True)
            if plots:
                blocks += [plots, Prose(TIMED)]
        return blocks

    @cached_property
    def seconds_per_evaluation(self) -> Mapping[str, float]:
        """method -> seconds per sample and evaluation in its timed cell on this target, its own work included."""
        rows = self.panels.frame
        rows = rows[(rows.kind == "timing") & (rows.value == "seconds_per_sample") & (rows.target == self.target)]
        return {row.method: row.estimate / row.nfe for row in rows.itertuples()}

    def table(self, metric: str, title: str, key: Mapping[str, str], rows: pd.DataFrame) -> Table | None:
        """Methods x evaluations, the wall flagged."""
        measure, wall = self.panels.named[metric], self.wall(key["process"])
        both = self.panels.with_floors(rows)
        made = views.by_budget(
            both, measure, id=views.slug(self.target, title, metric), title=f"{measure.title}: {self.target}, {title}",
            caption=f"Exact denoiser, same start states and noise for all; n = {_one(rows['size'])}, seed "
            f"{_one(rows.seed)}. {BOUGHT} {MARKED} {WALL}",
            budgets=self.budgets,
        )  # fmt: skip
        if metric == ERROR:
            flagged = [replace(row, cells=tuple(_flagged(cell, wall) for cell in row.cells)) for row in made.rows]
            made = replace(made, rows=tuple(flagged))
        return made if any(row.kind == "" for row in made.rows) else None

    def orders(self) -> list[object]:
        """Declared and measured orders, methods x settings."""
        settings = [(key, rows) for key, rows in views.settled(self.rows, ["process", "grid"])]
        columns = [Column("declared", "Declared")]
        columns += [Column(views.slug(*key.values()), f"{key['process']}, {key['grid']}") for key, _ in settings]
        found: dict[str, dict[int, Cell]] = {}
        for place, (key, rows) in enumerate(settings):
            for label, slope in slopes(self.by_shard, rows, self.wall(key["process"])).items():
                found.setdefault(label, {})[place] = Cell(
                    slope.estimate, slope.low, slope.high, slope.n, slope.blocks, slope.level, slope.method
                )
        cards, rows = self.panels.inputs.methods, []
        for label in sorted(found):
            card = cards.get(label.split(" ", 1)[0])
            order = card.order if card is not None and card.order else None
            cells = (against(found[label].get(k, Cell()), order) for k in range(len(settings)))
            rows.append(Row((label,), (Cell(order), *cells)))
        if not rows:
            return [Prose("No pair of errors above the reference's own in these records: no order can be read off.")]
        caption = (
            "Minus the slope of log error in log steps between the last two step counts, one the double of the other, "
            f"whose errors lie above the wall and below {LARGEST_ERROR:g}; [interval] over the shards of start states. "
            f"{SAID_OF_ORDERS}"
        )
        title = f"Measured orders: {self.target}, {self.process}"
        return [self.panels.keep(Table(views.slug(self.name, "orders"), title, caption, ("Method",), tuple(columns),
                                       tuple(rows)))]  # fmt: skip

    @cached_property
    def by_shard(self) -> Mapping[str, list[float]]:
        """job id -> RMS error of every shard."""
        return {
            record.job.id: record.values[f"{ERROR}_by_shard"]
            for record in self.panels.inputs.records
            if record.score is not None and record.score.metric == ERROR and f"{ERROR}_by_shard" in record.values
        }


BUDGET_ASK = "Which sampler comes nearest to the exact answer within a budget of evaluations, and which are as good?"
ORDERS_ASK = "With what power of the number of steps does each method's error fall, and is it its declared one?"
SETTING_ASK = "How far from the exact answer is each method at equal evaluations, on this path and this grid?"
# of committed records other suites' reports show a slice: all pages take six minutes
SHOWN, DRAWN = "ve-edm", ("g3", "product-64d")  # the path that has pages, and the targets that have plots on them
SLICE = f"Other paths than {SHOWN} have their pages in the report of a run of the suite."
NOT_DRAWN = "Plots come with a run of the suite: `trilemma bench solvers`, 25 minutes on two cores."
TIMED = "Seconds are computed: those of the method's timed cell on this target, scaled by its evaluations."
WALL = "'wall': not to be told from the error of the reference itself."


def against(cell: Cell, declared: float | None) -> Cell:
    """The cell with a word where its whole interval lies further from the declared order than the law allows."""
    if declared is None or cell.low is None or cell.high is None:
        return cell
    if cell.high < declared - ORDER_TOLERANCE:
        return replace(cell, note="below")
    return replace(cell, note="above") if cell.low > declared + ORDER_TOLERANCE else cell


def _flagged(cell: Cell, wall: float) -> Cell:
    if not isinstance(cell.value, int | float) or cell.value > wall:
        return cell
    return replace(cell, note=", ".join(filter(None, (cell.note, "wall"))))


def _one(values: pd.Series) -> str:
    return ", ".join(str(value) for value in sorted(set(values.dropna())))


def _orders(panels: Panels, rows: pd.DataFrame) -> set[int]:
    cards = panels.inputs.methods
    return {int(cards[id].order) for id in set(rows.method) if id in cards and cards[id].order}


def slopes(by_shard: Mapping[str, Sequence[float]], rows: pd.DataFrame, wall: float) -> dict[str, Interval]:
    """label -> minus the slope between the last usable pair of step counts, with an interval over shards."""
    errors: dict[str, dict[int, Sequence[float]]] = {}
    for row in rows[rows.value == ERROR].itertuples():
        if row.job in by_shard and wall < row.estimate < LARGEST_ERROR:
            errors.setdefault(row.label, {})[int(row.steps)] = by_shard[row.job]
    found = {}
    for label, of in errors.items():
        pairs = [(steps, 2 * steps) for steps in sorted(of) if 2 * steps in of]
        if pairs:
            coarse, fine = (of[steps] for steps in pairs[-1])
            each = [math.log2(a / b) for a, b in zip(coarse, fine, strict=True) if a > 0 and b > 0]
            if len(each) > 1:
                found[label] = t_interval(each, over=f"shards, {pairs[-1][0]} to {pairs[-1][1]} steps")
    return found


def budgets() -> list[int]:
    """All evaluations that the suite gives to a method."""
    from benchmarks import suites

    return sorted({int(nfe) for select in suites.named(SUITE).select for nfe in select.nfe or ()})


def inputs_of(inputs: Inputs) -> tuple[Inputs | None, bool]:
    """Inputs that hold the suite's records, if any, and whether these are committed ones.

    A run of the suite speaks for itself; a suite that asks for the shelf shows what is committed.
    """
    if inputs.plan is not None and inputs.plan.suite == SUITE:
        return inputs, False
    return inputs.committed(SUITE), True


def shelves(panels: Panels, committed: bool = False) -> list[Shelf]:
    """One for each target and path that the suite's records are about; of committed records a slice."""
    rows = panels.inputs.shelved
    rows = views.methods(rows[rows.kind.isin({"score", "sample"})])
    rows = rows[rows.process == SHOWN] if committed else rows
    pages = views.settled(rows, ["target", "process"])
    return [Shelf(panels, *key.values(), part, not committed or key["target"] in DRAWN) for key, part in pages]
