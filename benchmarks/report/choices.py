"""Which sampler at a budget: of all methods at their default settings the best one, and those not told from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.statistics import paired_difference, shared_level
from benchmarks.tables import views
from benchmarks.tables.table import Cell, Column, Row, Table, marks

if TYPE_CHECKING:
    import pandas as pd

NAMED = 3  # of those that are tied so many are named
CAPPED = 100  # times the best error: a method that diverges on some shards is not as good for being erratic
CAPTION = (
    "All methods at their default settings, an adaptive one at any tolerance, each at its largest metered NFE within "
    "the budget (printed where it is less). 'Not told from it': the {how}, at 95 % for all the methods together; the "
    f"nearest {NAMED} are named, the tables below hold every method. Where many are tied, these samples do not tell "
    "them apart, and cost or simplicity may choose."
)
BY_INTERVALS = "interval of the difference to the best, joined from both intervals, covers 0"
BY_SHARDS = "log error, paired over the shards of start states, is not above the best's (at the wall all are alike)"


def choices(
    rows: pd.DataFrame, measure: views.Measure, budgets: Sequence[int], by_shard: Mapping[str, Sequence[float]],
    walls: Mapping[str, float], *, id: str, title: str,
) -> Table:  # fmt: skip
    """A row for each path's grid and each budget. by_shard: job -> its error by shards, of a measure that has no
    interval; walls: process -> the error below which none is told from another."""
    rows = rows[(rows.series == rows.method) & (rows.value == measure.name)]
    columns = (Column("best", "Best"), Column(measure.name, measure.title, measure.unit),
               Column("tied", "Not told from it"))  # fmt: skip
    made = [
        Row((key["grid"], str(budget)), chosen(views.within(part, budget), budget, by_shard, walls[key["process"]]))
        for key, part in views.settled(rows, ["process", "grid"])
        for budget in views.asked_of(part, budgets)
    ]
    caption = CAPTION.format(how=BY_INTERVALS)
    if rows.low.isna().any():
        sizes = ", ".join(f"{size:g}" for size in sorted(set(rows["size"])))
        said = CAPTION.format(how=BY_SHARDS)
        caption = f"{said} n = {sizes} start states, the same for all; an error has no interval of its own."
    return Table(id, title, caption, ("Grid", "NFE up to"), columns, tuple(made))


def chosen(
    rows: pd.DataFrame, budget: int, by_shard: Mapping[str, Sequence[float]], wall: float
) -> tuple[Cell, Cell, Cell]:
    """The best of these rows of one value, its value, and who is not told from it."""
    rows = rows.sort_values(["estimate", "series"], kind="stable").drop_duplicates("series")
    each = list(rows.itertuples())
    paired = rows.low.isna().any()
    found = alike(rows, by_shard, wall) if paired else marks({row.series: views.cell(row) for row in each}, "lower")
    best = next((row for row in each if found.get(row.series) == "best"), each[0])
    nfe = {row.series: "" if row.nfe == budget else f" (NFE {row.nfe:g})" for row in each}
    tied = [row.series for row in each if found.get(row.series) == "tied"]
    at_wall = "wall" if paired and best.estimate <= wall else ""
    said = f"{len(tied)} of {len(each) - 1}: {named(tied, nfe)}" if tied else f"none of {len(each) - 1}"
    return Cell(best.series + nfe[best.series]), views.cell(best, note=at_wall), Cell(said)


def alike(rows: pd.DataFrame, by_shard: Mapping[str, Sequence[float]], wall: float) -> dict[str, str]:
    """Marks of errors without intervals, least first: tied are those at the wall with the best, and those whose log
    error is not above the best's, paired over shards. To nine digits: two forms of one method differ by round-off."""
    each = list(rows.itertuples())
    first, level, most = each[0], shared_level(0.95, max(1, len(each) - 1)), CAPPED * each[0].estimate
    logs = {row.series: [math.log(float(f"{min(e, most):.9g}")) for e in by_shard.get(row.job, ()) if min(e, most) > 0]
            for row in each}  # fmt: skip
    found = {first.series: "best"}
    for row in each[1:]:
        paired = len(logs[row.series]) == len(logs[first.series]) > 1
        known = paired and paired_difference(logs[row.series], logs[first.series], level).low <= 0
        found[row.series] = "tied" if row.estimate <= wall or row.estimate == first.estimate or known else ""
    return found


def named(names: Sequence[str], said: Mapping[str, str]) -> str:
    """`a.x, .y (NFE 7), b.z and 3 more`: a paper's key is not repeated."""
    shown, last = [], ""
    for name in names[:NAMED]:
        paper, dot, form = name.partition(".")
        shown.append((f".{form}" if dot and paper == last else name) + said[name])
        last = paper
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
