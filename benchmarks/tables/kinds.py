"""Tables of one kind of record: timings, likelihoods."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from benchmarks.tables.table import Cell, Column, Row, Table
from benchmarks.tables.views import BUDGETS, cell

if TYPE_CHECKING:
    import pandas as pd

TIMED = 20  # the NFE at which the suites time


def failed_row(labels: tuple[str, ...], row: object, width: int) -> Row:
    """A row whose first cell says how the job failed."""
    return Row(labels, (cell(row), *(Cell(),) * (width - 1)))


def speeds(rows: pd.DataFrame, id: str, title: str) -> Table:
    """Methods x measured samples per second, the ratio to the bare network, and what follows at other NFE."""
    computed = [budget for budget in BUDGETS if budget != TIMED]
    columns = (
        Column("nfe", "NFE timed"), Column("ratio", "Time / bare network", "", "lower"),
        Column("samples_per_second", "Samples per second", "1/s", "higher"), Column("batch", "Batch"),
        *(Column(f"computed_{budget}", f"NFE {budget}, computed", "1/s") for budget in computed),
    )  # fmt: skip
    made = []
    for (label, _), of in rows.groupby(["label", "record"]):
        first = next(of.itertuples())
        if first.status != "ok":
            made.append(failed_row((label,), first, len(columns)))
            continue
        values = {row.value: row for row in of.itertuples()}
        ratio, rate, nfe = cell(values["ratio"]), cell(values["samples_per_second"]), values["nfe"].estimate
        if ratio.low and ratio.high:
            low, high = rate.value * ratio.value / ratio.high, rate.value * ratio.value / ratio.low
            how = f"{ratio.how}; of the ratio alone"
            rate = Cell(rate.value, low, high, ratio.n, ratio.blocks, ratio.level, how, record=rate.record)
        others = (Cell(rate.value * nfe / budget) for budget in computed)
        batch = Cell(int(values["batch"].estimate)) if "batch" in values else Cell()
        made.append(Row((label,), (Cell(nfe), ratio, rate, batch, *others)))
    caption = (
        "One timed cell per method, in alternation with as many bare evaluations of the network (ABBA): the ratio is "
        "robust to a busy machine, the rate is not, and its bracket carries the ratio's uncertainty alone. Rates at "
        "other NFE are computed, rate x timed NFE / NFE. n counts pairs."
    )
    return Table(id, title, caption, ("Method",), columns, tuple(made))


def likelihoods(rows: pd.DataFrame, id: str = "likelihoods") -> Table:
    """log p per sample, and in bits per coordinate or character."""
    columns = (
        Column("log_p", "log p", "nats per sample"), Column("bits", "Bits per coordinate or character", "bit"),
        Column("log_p_exact", "exact log p", "nats per sample"), Column("error", "Largest error", "nats"),
        Column("n", "n"),
    )  # fmt: skip
    made = []
    for _, of in rows.groupby(["label", "target", "process", "model", "record"]):
        first = next(of.itertuples())
        labels = (first.label, first.target, first.process, first.model)
        if first.status != "ok":
            made.append(failed_row(labels, first, len(columns)))
            continue
        values = {row.value: cell(row) for row in of.itertuples()}
        nats, n = values["log_p"], values.get("n", Cell())
        known = (values.get("log_p_exact", Cell()), values.get("log_p_error_max", Cell()))
        count = Cell(None if n.value is None else int(n.value))
        made.append(Row(labels, (nats, in_bits(nats, values.get("dimensions", Cell()).value), *known, count)))
    caption = (
        "Of held-out data or of exact draws. A bound lies below log p, so that its bits lie above those of the data."
    )
    return Table(id, "Likelihoods and bounds", caption, ("Method", "Target", "Path", "Model"), columns, tuple(made))


def in_bits(nats: Cell, size: float | None) -> Cell:
    """-log2 p per coordinate, from nats per sample of `size` coordinates."""
    if not size:
        return Cell()
    low, high = (None if bound is None else -bound / log(2) / size for bound in (nats.high, nats.low))
    return Cell(-nats.value / log(2) / size, low, high, nats.n, nats.blocks, nats.level, nats.how, record=nats.record)
