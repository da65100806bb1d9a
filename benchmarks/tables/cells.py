"""Records as one flat frame: a row per number, and a row per failure. Tables and plots read nothing else.

A frame has the columns of COLUMNS. `label` is how a method is called everywhere: id and options; `series` is the same,
or the id alone for adaptive methods, whose tolerances take the place of steps. A score's nfe and vjps come from the
record of its samples. A record that is not ok gives one row without a number: metric is that of the
score, or "" where the samples themselves are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from benchmarks.jobs import ALONE

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.jobs import Job
    from benchmarks.records import Record

COLUMNS = (
    "kind", "paper", "method", "options", "label", "series", "target", "process", "model", "grid", "steps", "nfe",
    "vjps", "metric", "value", "estimate", "low", "high", "n", "blocks", "level", "how", "status", "reason", "seed",
    "start", "dtype", "net_dtype", "size", "job", "record", "made_of", "seconds", "device", "hardware", "written",
    "commit",
)  # fmt: skip
NO_SAMPLES = "none"  # what the score of a floor is a score of: the reference itself
ORDER = ["kind", "target", "process", "model", "label", "grid", "steps", "seed", "size", "metric", "value", "record"]


def cells(
    records: Iterable[Record], *, adaptive: frozenset[str] = frozenset(),
    declared: Callable[[Job], float | None] = lambda job: None,
) -> pd.DataFrame:  # fmt: skip
    """All numbers of these records, in an order that does not depend on theirs.

    adaptive: ids of methods whose options set their cost; all their options make one series.
    declared: the NFE of a job whose record has none, because it failed.
    """
    import pandas as pd

    records = list(records)
    made = {record.job.id: record for record in records if record.score is None and record.kind not in ALONE}
    rows = [row for record in records for row in _rows(record, made.get(record.job.id))]
    for row in rows:
        row["series"] = row["method"] if row["method"] in adaptive else row["label"]
    nfe = {record.job.id: declared(record.job) for record in records if record.score is None and record.status != "ok"}
    for row in rows:
        row["nfe"] = row["nfe"] if row["nfe"] is not None else nfe.get(row["job"])
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("nfe", "vjps", "estimate", "low", "high", "level", "seconds"):
        frame[name] = frame[name].astype(float)
    for name in ("steps", "n", "blocks", "seed", "size"):
        frame[name] = frame[name].astype("Int64")
    return frame.sort_values(ORDER, kind="stable", na_position="first", ignore_index=True)


def counting(records: Iterable[Record], current: Callable[[Record], bool] | None = None) -> list[Record]:
    """One record per question: the current one, else the latest; and the scores of exactly these samples.

    current tells whether a record's made_of is what the code of today would answer with; records that are not are
    left out. Without it the latest record of each question counts.
    """
    kept = [record for record in records if current is None or current(record)]
    asked = _latest((r for r in kept if r.score is None), lambda r: (r.id, r.place if r.kind in ALONE else None))
    samples = {record.samples_digest for record in asked} | {NO_SAMPLES}
    scores = (r for r in kept if r.score is not None and r.score.samples in samples)
    return asked + _latest(scores, lambda r: r.id)


def _latest(records: Iterable[Record], key: Callable[[Record], Any]) -> list[Record]:
    found: dict[Any, Record] = {}
    for record in sorted(records, key=lambda r: (r.written, r.key)):
        found[key(record)] = record
    return sorted(found.values(), key=lambda r: r.key)


def label_of(method: str, options: dict[str, Any]) -> str:
    """How a method with its options is called in every table, plot and legend."""
    return method + "".join(f" {name}={value:g}" if isinstance(value, float) else f" {name}={value}"
                            for name, value in sorted(options.items()))  # fmt: skip


def _rows(record: Record, samples: Record | None) -> Iterable[dict[str, Any]]:
    from benchmarks.statistics import Interval

    job, values = record.job, (samples.values if samples else record.values)
    options = label_of("", dict(job.options)).strip()
    shared = {
        "kind": record.kind, "paper": job.method.split(".", 1)[0] if "." in job.method else "", "method": job.method,
        "options": options, "label": label_of(job.method, dict(job.options)), "target": job.target,
        "process": job.process or "", "model": job.model, "grid": job.grid or "", "steps": job.steps,
        "nfe": _plain(values.get("nfe")), "vjps": _plain(values.get("vjps")),
        "metric": record.score.metric if record.score else "", "status": record.status, "reason": record.reason,
        "seed": job.seed, "start": job.start or "", "dtype": job.dtype, "net_dtype": job.net_dtype or "", "size": job.n,
        "job": job.id, "record": record.id, "made_of": record.key[1], "seconds": record.seconds,
        "device": record.place.device, "hardware": record.place.hardware, "written": record.written,
        "commit": record.commit,
    }  # fmt: skip
    if record.status != "ok":
        yield {**shared, "value": ""}
        return
    for name, value in record.values.items():
        if isinstance(value, Interval):
            bounds = {"low": value.low, "high": value.high, "n": value.n, "blocks": value.blocks, "level": value.level}
            yield {**shared, "value": name, "estimate": value.estimate, "how": value.method, **bounds}
        elif isinstance(value, int | float):
            yield {**shared, "value": name, "estimate": float(value)}


def _plain(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else getattr(value, "estimate", None)
