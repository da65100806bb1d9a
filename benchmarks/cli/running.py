"""Commands that make records, scores and reports."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli.terms import (
    DTYPES,
    Again,
    AsJson,
    Device,
    KeepFailed,
    NetDtype,
    Only,
    StoreFolder,
    SuiteName,
    ThenReport,
    Workers,
    emit,
    say,
    there,
)  # fmt: skip


def planned(suite: str, only: str, dtype: str) -> Any:
    """A suite's plan, or the part of it that is asked for."""
    from benchmarks import suites
    from benchmarks.jobs import expected

    dtype = DTYPES.get(dtype, dtype)
    if dtype not in DTYPES.values():
        raise expected("dtype", dtype, [*DTYPES, *DTYPES.values()])
    made = suites.plan(suites.named(suite), net_dtype=dtype)
    return made if only == "*" else made.only(only)


def settings_of(
    store: Path | None, device: str = "cpu", workers: int | None = None, again: bool = False, keep_failed: bool = False,
    quiet: bool = False,
) -> Any:  # fmt: skip
    """Checked settings of a run, the store ready to be written. Raises UsageError."""
    import torch

    from benchmarks import engine, records
    from benchmarks.progress import Shown

    there(device)
    torch.set_num_threads(1)  # as in a worker: part of the place
    made = records.Store(store or records.RUNS, beside=[records.REFERENCE])
    made.prepare()
    return engine.Settings(
        store=made, device=device, workers=workers or (os.cpu_count() or 1 if device == "cpu" else 1), again=again,
        keep_failed=keep_failed, watcher=Shown(quiet=quiet),
    )  # fmt: skip


class Clock:
    """Wall seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self.last, 2)
        self.last = now


def summary_of(made: Any, run: Any, seconds: dict[str, float]) -> dict[str, Any]:
    """What a run did and what is there now, by status."""
    watcher = run.settings.watcher
    there: dict[str, int] = {}
    failed: dict[tuple[str, str], list[str]] = {}
    for job in made.jobs():
        record = run.found(job)
        status = record.status if record else "not run"
        there[status] = there.get(status, 0) + 1
        if record is not None and status != "ok":
            failed.setdefault((status, record.reason), []).append(str(job))
    return {
        "suite": made.suite,
        "plan": made.digest,
        "jobs": there,
        "failed": [{"status": status, "reason": reason, "jobs": jobs} for (status, reason), jobs in failed.items()],
        "excluded": len(made.excluded),
        "done": {stage: dict(counts) for stage, counts in watcher.counts.items()},
        "evaluations": sum(watcher.evaluations.values()),
        "seconds": seconds,
        "workers": run.settings.workers,
        "device": run.settings.device,
        "problems": run.store.problems,
    }


def tell(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(summary)
        return
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary["jobs"].items()))
    excluded = f"; {summary['excluded']} combinations excluded" if summary["excluded"] else ""
    print(f"{summary['suite']}: {counts}{excluded}")
    for each in summary["failed"]:
        more = f" (and {len(each['jobs']) - 1} more)" if len(each["jobs"]) > 1 else ""
        print(f"  {each['status']}: {each['jobs'][0]}{more}: {each['reason']}")
    for line in summary["problems"]:
        print(f"  {line}")
    print("  " + ", ".join(f"{name} {value:.1f} s" for name, value in summary["seconds"].items()))
    if "report" in summary:
        print(f"  {summary['report']}")


def run(
    suite: SuiteName = "default", only: Only = "*", device: Device = "cpu", dtype: NetDtype = "float32",
    workers: Workers = None, again: Again = False, keep_failed: KeepFailed = False, store: StoreFolder = None,
    as_json: AsJson = False, then_report: ThenReport = False,
) -> None:  # fmt: skip
    """Run a suite's jobs; those that have a record are skipped. Timing comes last and alone."""
    clock = Clock()
    settings = settings_of(store, device, workers, again, keep_failed, quiet=as_json)
    tell(carried_out(suite, only, dtype, settings, clock, whole=then_report), as_json)


def bench(
    suite: SuiteName = "default", only: Only = "*", device: Device = "cpu", dtype: NetDtype = "float32",
    workers: Workers = None, again: Again = False, keep_failed: KeepFailed = False, store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """All of it: run, score, claims and report in one go, and how long each took."""
    clock = Clock()
    settings = settings_of(store, device, workers, again, keep_failed, quiet=as_json)
    tell(carried_out(suite, only, dtype, settings, clock, whole=True), as_json)


def carried_out(suite: str, only: str, dtype: str, settings: Any, clock: Clock, *, whole: bool) -> dict[str, Any]:
    """Jobs and timing; if `whole` scores, claims and report too. Returns the summary."""
    clock.lap("imports")
    made = planned(suite, only, dtype)
    clock.lap("plan")
    from benchmarks import engine

    with engine.Run(made, settings) as run:
        run.samples()
        clock.lap("jobs")
        if whole:
            run.scores()
            clock.lap("scores")
        run.timings()
        clock.lap("timing")
    after = judged_and_reported(made, settings, clock) if whole else {}
    return summary_of(made, run, clock.seconds) | after


def judged_and_reported(made: Any, settings: Any, clock: Clock) -> dict[str, Any]:
    """Verdicts, then the report. The stages' seconds are written down by a run that did work, and else left alone."""
    from benchmarks import claims

    findings = claims.judge(settings.store)
    clock.lap("claims")
    if any(settings.watcher.counts.values()):
        replaced(settings.store.folder / "stages.json", json.dumps(clock.seconds, indent=1).encode() + b"\n")
    written = written_report(made, settings.store, findings, settings.again)
    clock.lap("report")
    outcomes: dict[str, int] = {}
    for finding in findings:
        outcomes[finding.outcome] = outcomes.get(finding.outcome, 0) + 1
    return {"claims": outcomes, "report": str(written)}


def written_report(made: Any, store: Any, findings: Any, again: bool) -> Path:
    """The report of the current records of a plan: its jobs, their scores, and what stands beside them."""
    from benchmarks import report as pages
    from benchmarks import score

    asked = {job.id for job in made.jobs()}

    def counts(record: Any) -> bool:
        beside = record.job.kind in ("floor", "reference")
        return (beside or record.job.id in asked) and score.is_current(record)

    return pages.build(store, plan=made, findings=findings, current=counts, again=again)


def replaced(path: Path, content: bytes) -> None:
    """Write a file at once: a reader sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    os.replace(draft, path)


def score(
    suite: SuiteName = "default", only: Only = "*", device: Device = "cpu", dtype: NetDtype = "float32",
    workers: Workers = None, again: Again = False, keep_failed: KeepFailed = False, store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Score the samples that a suite's jobs have left; nothing is generated."""
    clock = Clock()
    settings = settings_of(store, device, workers, again, keep_failed, quiet=as_json)
    made = planned(suite, only, dtype)
    clock.lap("plan")
    from benchmarks import engine

    with engine.Run(made, settings) as run:
        run.scores()
        clock.lap("scores")
    tell(summary_of(made, run, clock.seconds), as_json)


def report(
    suite: SuiteName = "default", only: Only = "*", dtype: NetDtype = "float32", again: Again = False,
    store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write reports/index.html and a page per paper from the records of a suite."""
    from benchmarks import claims

    made = settings_of(store).store
    asked = planned(suite, only, dtype)
    written = written_report(asked, made, claims.judge(made), again)
    emit({"report": str(written)}) if as_json else print(written)
    if not {job.id for job in asked.jobs()} & {record.job.id for record in made.records()}:
        say(f"store: {made.folder} has no record of {suite}; `trilemma bench {suite}` makes them", 0)


def keep(suite: SuiteName, store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Write a suite's current records under results/reference/, one file without samples, to be committed.

    Those of a suite with claims stand beside every store and answer the ledger, as text; those of others are packed,
    each in a folder of its own.
    """
    import lzma

    from benchmarks import records, score
    from benchmarks.jobs import UsageError
    from benchmarks.tables.cells import counting

    made = planned(suite, "*", "float32")
    asked = {job.id for job in made.jobs()}
    known = records.Store(store or records.RUNS)

    def counts(record: Any) -> bool:
        beside = record.job.kind in ("floor", "reference")
        there = record.status != "skipped"  # a checkpoint that was not here says nothing of the method
        return there and (beside or record.job.id in asked) and score.is_current(record)

    found = sorted(counting(known.records(), counts), key=lambda record: record.key)
    if not found:
        raise UsageError(f"store: {known.folder} has no current record of {suite}; `trilemma bench {suite}` makes them")
    lines = "".join(record.model_dump_json(exclude_defaults=True) + "\n" for record in found).encode()
    if made.claims:
        path = records.REFERENCE / "records" / f"{made.suite}.jsonl"
        replaced(path, lines)
    else:
        path = records.REFERENCE / made.suite / "records" / f"{made.suite}.jsonl.xz"
        replaced(path, lzma.compress(lines))
    lacking = len(asked) - len({record.job.id for record in found if record.score is None} & asked)
    row = {"file": str(path), "records": len(found), "bytes": path.stat().st_size, "jobs without a record": lacking}
    if as_json:
        emit(row)
    else:
        print(f"{path}: {len(found)} records, {row['bytes']} bytes")
    if lacking:
        mend = f"what was kept is a part; `trilemma bench {suite}` makes the rest"
        say(f"store: {known.folder} has no record of {lacking} of {len(asked)} jobs of {suite}: {mend}", 0)


def work(
    store: StoreFolder = None, device: Device = "cpu",
    parent: Annotated[int | None, typer.Option(help="Process without which this one ends.", hidden=True)] = None,
) -> None:  # fmt: skip
    """A worker: tasks as lines of JSON on stdin, one reply per task on stdout, records in the store."""
    from benchmarks import engine, records

    if parent is not None:
        engine.leave_with(parent)
    there(device)
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not look like a reply
    import torch

    torch.set_num_threads(1)
    engine.work(
        sys.stdin.buffer,
        records.Store(store or records.RUNS, beside=[records.REFERENCE]),
        device,
        lambda reply: os.write(out, json.dumps(reply).encode() + b"\n") and None,
    )
