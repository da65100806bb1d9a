"""Which numbers stand beside each other: the frame of cells arranged into tables and into the series of plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.tables.table import Cell, Column, Row, Table, ranked

if TYPE_CHECKING:
    import pandas as pd

BUDGETS = (5, 10, 20, 50)


@dataclass(frozen=True)
class Measure:
    """How a value is called: title and unit of its column, which way is better, its ideal, what its metric needs."""

    name: str
    title: str
    unit: str = ""
    better: str = "ideal"
    ideal: float | None = None
    needs: frozenset[str] = frozenset()
    metric: str = ""


class Measures(dict):
    """value -> Measure. A companion (metric's name + "_...") is titled by its metric, an unknown value by its name."""

    def __missing__(self, value: str) -> Measure:
        parent = max((name for name in self if value.startswith(name + "_")), key=len, default=None)
        words = value.replace("_", " ")
        if parent is None:
            return Measure(value, words)
        known = self[parent]
        rest = value[len(parent) + 1 :].replace("_", " ")
        return Measure(value, f"{known.title}, {rest}", needs=known.needs, metric=parent)


def measures() -> Measures:
    """Of every metric there is."""
    from benchmarks.metrics import metrics

    return Measures(
        (name, Measure(name, m.title, m.unit, m.better, m.ideal, m.needs, name)) for name, m in metrics().items()
    )


class Point(NamedTuple):
    x: float
    y: float
    low: float | None
    high: float | None
    n: int | None


def plain(value: Any, kind: type = float) -> Any:
    """A python number, or None for what is missing."""
    from pandas import isna

    return None if isna(value) else kind(value)


def cell(row: Any, **changes: Any) -> Cell:
    """The cell of one row of the frame."""
    if row.status != "ok":
        return Cell(status=row.status, reason=row.reason, record=row.record)
    made = Cell(
        value=plain(row.estimate), low=plain(row.low), high=plain(row.high), n=plain(row.n, int),
        blocks=plain(row.blocks, int), level=plain(row.level), record=row.record,
        how=f"{100 * row.level:g} %, {row.how}" if plain(row.level) and isinstance(row.how, str) else "",
    )  # fmt: skip
    return replace(made, **changes)


def of_value(frame: pd.DataFrame, value: str, metric: str = "") -> pd.DataFrame:
    """Rows of one value, with the failures of its metric and of the samples that it would have scored."""
    failed = (frame.status != "ok") & frame.metric.isin({"", metric or value})
    return frame[(frame.value == value) | failed]


def values_of(frame: pd.DataFrame, metric: str) -> list[str]:
    """The metric's own value first, then its companions."""
    found = set(frame[(frame.metric == metric) & (frame.value != "")].value)
    return sorted(found, key=lambda value: (value != metric, value))


def series(frame: pd.DataFrame, value: str, x: str) -> dict[str, list[Point]]:
    """series -> points in the order of x, which is a column of the frame."""
    rows = frame[(frame.value == value) & frame[x].notna() & (frame.kind != "floor")]
    found: dict[str, list[Point]] = {}
    for row in rows.sort_values([x, "seed"], kind="stable").drop_duplicates(["series", "process", x]).itertuples():
        point = Point(float(getattr(row, x)), row.estimate, plain(row.low), plain(row.high), plain(row.n, int))
        found.setdefault(row.series, []).append(point)
    return dict(sorted(found.items()))


def varied(frame: pd.DataFrame) -> tuple[str, ...]:
    """The settings in which these jobs differ, beside method and steps: what a table must print to tell them apart."""
    return tuple(name for name in ("process", "grid", "seed", "size") if frame[name].nunique() > 1)


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.status != "ok"]


def floor_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """What the metrics say of the truth: jobs of kind floor, or the exact flow's own error."""
    return frame[(frame.method == "target") | (frame.method == "flow")]


def methods(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame.method != "target") & (frame.method != "flow")]


def within(frame: pd.DataFrame, budget: int, below: float = 0) -> pd.DataFrame:
    """Per series the rows with the largest metered NFE in (below, budget]."""
    rows = frame[(frame.nfe <= budget) & (frame.nfe > below)]
    return rows[rows.nfe == rows.groupby("series").nfe.transform("max")]


def spans(budgets: Sequence[int] = BUDGETS) -> list[tuple[int, float]]:
    """(budget, the budget below it)."""
    return list(zip(budgets, [0, *budgets[:-1]], strict=True))


def asked_of(frame: pd.DataFrame, budgets: Sequence[int] = BUDGETS) -> list[int]:
    """The budgets that buy any method more than the budget below: the others would say the same again."""
    nfe = methods(frame).nfe
    return [budget for budget, below in spans(budgets) if ((nfe > below) & (nfe <= budget)).any()]


def by_budget(
    frame: pd.DataFrame, measure: Measure, *, id: str, title: str, caption: str, budgets: Sequence[int] = BUDGETS
) -> Table:
    """Methods x budgets for one value, each method at its largest metered NFE within the budget; the metered NFE is
    printed where it is below the budget."""
    mine = of_value(methods(frame), measure.name, measure.metric)
    budgets = asked_of(mine, budgets)
    columns = tuple(Column(f"nfe_{budget}", f"NFE up to {budget}", better=measure.better) for budget in budgets)
    found = {}
    for budget in budgets:
        for row in within(mine, budget).itertuples():
            note = f"NFE {row.nfe:g}" if row.nfe != budget else ""
            found[row.series, budget] = cell(row, note=note)
    labels = sorted({label for label, _ in found})
    rows = [Row((label,), tuple(found.get((label, b), Cell()) for b in budgets)) for label in labels]
    floor = of_value(floor_rows(frame), measure.name, measure.metric)
    rows += [Row(("noise floor",), tuple(cell(row) for _ in budgets), "floor") for row in floor.head(1).itertuples()]
    return ranked(Table(id, title, caption, ("Method",), columns, tuple(rows)))


def by_metric(
    frame: pd.DataFrame, chosen: Sequence[Measure], budget: int, *, id: str, title: str, caption: str
) -> Table:
    """Methods x metrics, each method at its largest metered NFE within the budget, which is printed."""
    columns = [Column("nfe", "NFE"), *(Column(m.name, m.title, m.unit, m.better) for m in chosen)]
    mine = methods(frame)
    scored = within(mine[(mine.status != "ok") | mine.value.isin({m.name for m in chosen})], budget)
    parts = {m.name: of_value(scored, m.name, m.metric).groupby("series") for m in chosen}
    labels = sorted({label for groups in parts.values() for label in groups.groups})
    rows = []
    for label in labels:
        firsts = [next(parts[m.name].get_group(label).itertuples(), None) if label in parts[m.name].groups else None
                  for m in chosen]  # fmt: skip
        nfe = next(row.nfe for row in firsts if row is not None)
        rows.append(Row((label,), (Cell(plain(nfe)), *(Cell() if row is None else cell(row) for row in firsts))))
    rows += floor_row(frame, chosen, blank=1)
    return ranked(Table(id, title, caption, ("Method",), tuple(columns), tuple(rows)))


def floor_row(
    frame: pd.DataFrame, chosen: Sequence[Measure], blank: int, labels: Sequence[str] = ("noise floor",)
) -> list[Row]:
    """The noise-floor row of a table whose first `blank` columns say nothing of it; none where nothing is known."""
    truth = floor_rows(frame)
    found = [next(of_value(truth, m.name, m.metric).itertuples(), None) for m in chosen]
    if not any(found):
        return []
    cells = (Cell(),) * blank + tuple(Cell() if row is None else cell(row) for row in found)
    return [Row(tuple(labels), cells, "floor")]


def long(
    frame: pd.DataFrame, chosen: Sequence[Measure], *, id: str, title: str, caption: str, settings: Sequence[str] = ()
) -> Table:
    """A row per job: method, the `settings` that vary, steps, metered NFE (backward passes, where there are any) and
    every chosen value. What a plot shows."""
    mine = methods(frame).copy()
    counts = {"steps": "Steps", "nfe": "NFE"} | ({"vjps": "Backward passes"} if (mine.vjps > 0).any() else {})
    counts |= {"per_sample": "Seconds per sample, computed"} if "per_sample" in mine else {}
    keys = ["label", *settings, *counts, "seed"]
    for name in counts:
        mine[name] = mine[name].astype(float).fillna(-1)
    rows: dict[tuple, dict[str, Cell]] = {}
    for measure in chosen:
        for row in of_value(mine, measure.name, measure.metric).itertuples():
            key = tuple(getattr(row, name) for name in keys)
            rows.setdefault(key, {}).setdefault(measure.name, cell(row))
    made = []
    for key in sorted(rows):
        labels, numbers = key[: 1 + len(settings)], key[1 + len(settings) : -1]
        printed = (Cell(None if number < 0 else number) for number in numbers)
        made.append(Row(tuple(map(str, labels)), (*printed, *(rows[key].get(m.name, Cell()) for m in chosen))))
    made += floor_row(frame, chosen, blank=len(counts), labels=("noise floor", *[""] * len(settings)))
    heads = ("Method", *(name.capitalize() for name in settings))
    columns = (*(Column(*pair) for pair in counts.items()), *(Column(m.name, m.title, m.unit) for m in chosen))
    return Table(id, title, caption, heads, columns, tuple(made))


def slug(*parts: Any) -> str:
    """An id of letters, digits and hyphens from names: what files, anchors and labels are called."""
    words = "-".join(str(part) for part in parts if part not in ("", None))
    return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in words).lower().split())


def settled(frame: pd.DataFrame, by: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The groups of the frame by these columns, in order: ({column: value}, rows)."""
    if frame.empty:
        return []
    return [(dict(zip(by, key, strict=True)), rows) for key, rows in frame.groupby(list(by), sort=True, dropna=False)]


def extent(points: Mapping[str, Sequence[Point]]) -> tuple[float, float] | None:
    """Least and largest positive y of all series."""
    found = [p.y for line in points.values() for p in line if p.y > 0 and math.isfinite(p.y)]
    return (min(found), max(found)) if found else None
