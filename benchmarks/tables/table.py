"""A table as data: cells that know their interval, their n, their status and the record they come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from benchmarks.digests import digest

Number = float | int


@dataclass(frozen=True)
class Cell:
    """One entry. value None: empty, unless status is not ok, whose word is then shown.

    low, high: the interval; n: samples behind the value; blocks, level, how: of the interval; mark: "best", "tied", "".
    record: id of the record that says so; "" where the cell is computed from several (then note says from what).
    """

    value: Number | str | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    blocks: int | None = None
    level: float | None = None
    how: str = ""
    status: str = "ok"
    reason: str = ""
    mark: str = ""
    note: str = ""
    record: str = ""

    @property
    def text(self) -> str:
        """What is printed: value, value [low, high], or the status word of a failure; the marks are the renderer's."""
        if self.status != "ok":
            return self.status
        if self.value is None:
            return ""
        if isinstance(self.value, str):
            return self.value
        shown = interval(self.value, self.low, self.high)
        return f"{shown} ({self.note})" if self.note else shown


@dataclass(frozen=True)
class Column:
    """name: of the CSV's column; title and unit: of the printed head; better: which way the best is marked."""

    name: str
    title: str
    unit: str = ""
    better: str = "ideal"


@dataclass(frozen=True)
class Row:
    """labels: one for each of the table's heads; kind "floor" is a noise floor: shown, never ranked."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """id is stable over runs; caption says what is measured, against what, at which n and with which intervals."""

    id: str
    title: str
    caption: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for row in self.rows:
            if len(row.labels) != len(self.heads) or len(row.cells) != len(self.columns):
                raise ValueError(
                    f"table {self.id}: row {row.labels} does not fit {self.heads} and {len(self.columns)} columns"
                )

    @cached_property
    def digest(self) -> str:
        """sha256 of everything the table says."""
        return digest(asdict(self))

    @property
    def numbers(self) -> int:
        return sum(cell.value is not None for row in self.rows for cell in row.cells)

    @property
    def failures(self) -> list[tuple[str, str, str, str]]:
        """(row, columns, status, reason) of failed cells; those of one row with one reason stand together."""
        found: dict[tuple[str, str, str], list[str]] = {}
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if cell.status != "ok":
                    found.setdefault((" ".join(filter(None, row.labels)), cell.status, cell.reason), []).append(
                        column.title
                    )
        return [
            (label, columns[0] if len(columns) == 1 else f"{len(columns)} columns", status, reason)
            for (label, status, reason), columns in found.items()
        ]

    @cached_property
    def texts(self) -> tuple[bool, ...]:
        """Column by column whether it holds words."""
        return tuple(any(isinstance(row.cells[k].value, str) for row in self.rows) for k in range(len(self.columns)))

    @cached_property
    def said_of_intervals(self) -> tuple[str, ...]:
        """n and interval method, each said once where it holds for a whole table, else for each column."""
        said = []
        every = {cell.n for cell in self._measured()} - {None}
        if len(every) == 1:
            said.append(f"n = {every.pop()} per estimate.")
        elif every:
            parts = (f"{column.title}: {_few(ns)}" for column, ns in self._by_column(lambda cell: cell.n))
            said.append("n per estimate: " + "; ".join(parts) + ".")
        hows = {cell.how for cell in self._measured()} - {""}
        if len(hows) == 1:
            said.append(f"Intervals: {hows.pop()}.")
        elif hows:
            parts = (f"{column.title}: {_few(how)}" for column, how in self._by_column(lambda cell: cell.how))
            said.append("Intervals: " + "; ".join(parts) + ".")
        return tuple(said)

    def _measured(self) -> Iterable[Cell]:
        return (cell for row in self.rows for cell in row.cells if cell.status == "ok" and cell.value is not None)

    def _by_column(self, of) -> Iterable[tuple[Column, set]]:
        for k, column in enumerate(self.columns):
            found = {of(row.cells[k]) for row in self.rows if row.cells[k].value is not None} - {None, ""}
            if found:
                yield column, found


def _few(values: set) -> str:
    shown = [str(value) for value in sorted(values)]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")


def interval(value: Number, low: float | None, high: float | None) -> str:
    """`value [low, high]`, to two significant digits of the shorter side of the interval; counts as they are."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return number(value)
    scale = max(abs(value), abs(low), abs(high))
    sides = [side for side in (high - value, value - low) if side > 0]
    if not sides or scale == 0:
        return f"{number(value)} [{number(low)}, {number(high)}]"
    exponent = math.floor(math.log10(scale))
    shortest = float(f"{min(sides):.1e}")  # 9.99..e-7 is 1e-6
    decimals = max(1 - math.floor(math.log10(shortest)), -exponent)
    if 1e-3 <= scale < 1e6 and decimals <= 6:
        return " ".join([_rounded(value, decimals), f"[{_rounded(low, decimals)}, {_rounded(high, decimals)}]"])
    places = max(0, min(6, decimals + exponent))
    a, b, c = (f"{part / 10.0**exponent:.{places}f}" for part in (value, low, high))
    return f"{a} [{b}, {c}] e{exponent}"


def _rounded(value: float, decimals: int) -> str:
    return f"{round(value, decimals):.{max(0, decimals)}f}"


def number(value: Number) -> str:
    """Small integers in full, other numbers to four significant digits, the smallest and largest ones as 1.2e-5."""
    if isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e7:
        return str(int(value))
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.4g}" if abs(value) < 1e4 else str(round(value, 3 - math.floor(math.log10(abs(value)))))[:-2]
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def marks(cells: Mapping[str, Cell], better: str) -> dict[str, str]:
    """name -> "best", "tied" or "" by the cells' intervals; failures and words have no mark."""
    from benchmarks.statistics import Interval, tied_best

    def bounds(cell: Cell):
        if cell.status != "ok" or not isinstance(cell.value, int | float):
            return None
        if cell.low is None or cell.high is None:
            return float(cell.value)
        low, high = min(cell.low, cell.value), max(cell.high, cell.value)
        return Interval(cell.value, low, high, cell.n or 0, cell.level or 0.95, cell.how, cell.blocks or 0)

    entries = {name: bounds(cell) for name, cell in cells.items()}
    return tied_best(entries, better) if sum(entry is not None for entry in entries.values()) > 1 else {}


def ranked(table: Table) -> Table:
    """The same table with best and statistically tied best marked in every column that has a better direction."""
    rows = [list(row.cells) for row in table.rows]
    for k, column in enumerate(table.columns):
        if column.better not in ("lower", "higher"):
            continue
        entries = {str(i): row.cells[k] for i, row in enumerate(table.rows) if row.kind == ""}
        for i, mark in marks(entries, column.better).items():
            rows[int(i)][k] = replace(rows[int(i)][k], mark=mark)
    kept = (replace(row, cells=tuple(cells)) for row, cells in zip(table.rows, rows, strict=True))
    return replace(table, rows=tuple(kept))
