"""`trilemma`: from suites to records, scores, claims and the report. A user's mistake is one line and exit code 2.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="trilemma", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A reproducibility benchmark suite for fast diffusion and flow generative models.",
)  # fmt: skip
lock = typer.Typer(no_args_is_help=True, help="The checkpoints that the suite may load: verify them, train one again.")
app.add_typer(lock, name="lock")


def positive(value: str) -> int:
    """An option's integer >= 1."""
    if not str(value).isdecimal() or int(value) < 1:
        raise typer.BadParameter(f"{value!r}, expected an integer >= 1")
    return int(value)


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder of records; default results/runs.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>.")]
Workers = Annotated[
    int | None, typer.Option(parser=positive, metavar="N", help="Worker processes; default one per core, one on a GPU.")
]
NetDtype = Annotated[str, typer.Option("--dtype", help="Of the networks: float32, bfloat16 (bf16) or float16 (fp16).")]
Again = Annotated[bool, typer.Option("--again", help="Repeat what is already there.")]
KeepFailed = Annotated[bool, typer.Option("--keep-failed", help="Do not try again what failed.")]
Only = Annotated[str, typer.Option(help="A method, paper, target, model, table or claim; * and ? stand for any text.")]
SuiteName = Annotated[str, typer.Argument(help="A suite by name, or the path of a .toml file.")]
ThenReport = Annotated[bool, typer.Option("--then-report", help="Score, judge claims and write the report as well.")]

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
INTERRUPTED = 130
# click's ClickException; click is a package of its own for some versions of typer and a part of it for others
REFUSED = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Entry point of the console script."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")  # torch.func.jvp on torch 2.15
    sys.exit(code_of(sys.argv[1:]))


def code_of(arguments: list[str]) -> int:
    """Run a command line; its exit code. Mistakes of the user are one line on stderr."""
    try:
        return app(arguments, prog_name="trilemma", standalone_mode=False) or 0
    except typer.Exit as exit:
        return exit.exit_code
    except typer.Abort:
        return say("interrupted", INTERRUPTED)
    except REFUSED as error:
        return say(f"{error.format_message()}; `trilemma --help` shows what there is", 2)
    except KeyboardInterrupt:
        return say("interrupted; what was done is kept, the same command goes on from there", INTERRUPTED)
    except Exception as error:
        if type(error).__name__ in MISTAKES and type(error).__module__.startswith("benchmarks."):
            return say(str(error), 2)
        raise


# by name, so that none is imported
MISTAKES = {"UsageError", "StoreError", "BadCheckpoint", "BadRecipe", "EngineError", "TooLarge"}


def say(line: str, code: int) -> int:
    print(f"trilemma: {line}", file=sys.stderr)
    return code


def show(rows: list[dict[str, Any]], title: str = "") -> None:
    """Rows as a table on stdout; plain tab-separated lines where stdout is no terminal."""
    if not rows:
        print(f"{title}: none" if title else "none")
        return
    columns = list(rows[0])
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(str(row[name]) for name in columns))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(row[name]) for name in columns))
    Console().print(table)


def emit(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, targets, papers, metrics, suites, models, ...")] = "methods",
    as_json: AsJson = False,
) -> None:
    """What there is."""
    from benchmarks import listings
    from benchmarks.jobs import expected

    known = listings.kinds()
    if what not in known:
        raise expected("what", what, known)
    emit(known[what]()) if as_json else show(known[what](), what)


def planned(suite: str, only: str, dtype: str) -> Any:
    """A suite's plan, or the part of it that is asked for."""
    from benchmarks import suites
    from benchmarks.jobs import expected

    dtype = DTYPES.get(dtype, dtype)
    if dtype not in DTYPES.values():
        raise expected("dtype", dtype, [*DTYPES, *DTYPES.values()])
    made = suites.plan(suites.named(suite), net_dtype=dtype)
    return made if only == "*" else made.only(only)


@app.command()
def plan(suite: SuiteName = "default", only: Only = "*", dtype: NetDtype = "float32", as_json: AsJson = False) -> None:
    """The jobs of a suite, and what could not be asked and why; nothing is run."""
    made = planned(suite, only, dtype)
    if as_json:
        fields = ("table", "budget", "metrics")
        cells = [{"id": c.job.id, "job": c.job.asked} | {name: getattr(c, name) for name in fields} for c in made.cells]
        emit({"suite": made.suite, "digest": made.digest, "cells": cells, "excluded": [vars(e) for e in made.excluded]})
        return
    show([{"table": cell.table, "job": str(cell.job)} for cell in made.cells], made.suite)
    for each in made.excluded:
        print(f"excluded from {each.table}: {each.what}: {each.reason}")
    print(f"{len(made.jobs())} jobs in {len(made.cells)} cells, {len(made.excluded)} combinations excluded")


# running


def settings_of(
    store: Path | None, device: str = "cpu", workers: int | None = None, again: bool = False, keep_failed: bool = False,
    quiet: bool = False,
) -> Any:  # fmt: skip
    """Checked settings of a run, the store ready to be written."""
    import torch

    from benchmarks import engine, records
    from benchmarks.jobs import UsageError
    from benchmarks.progress import Shown

    name, _, index = device.partition(":")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and not (name == "cuda" and (index or "0").isdecimal() and int(index or 0) < there):
        found = f"{there} of which are here; `trilemma doctor` shows what torch sees"
        raise UsageError(f"device: {device!r}, expected 'cpu' or a CUDA device, {found}")
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


@app.command()
def run(
    suite: SuiteName = "default", only: Only = "*", device: Device = "cpu", dtype: NetDtype = "float32",
    workers: Workers = None, again: Again = False, keep_failed: KeepFailed = False, store: StoreFolder = None,
    as_json: AsJson = False, then_report: ThenReport = False,
) -> None:  # fmt: skip
    """Run a suite's jobs; those that have a record are skipped. Timing comes last and alone."""
    clock = Clock()
    settings = settings_of(store, device, workers, again, keep_failed, quiet=as_json)
    tell(carried_out(suite, only, dtype, settings, clock, whole=then_report), as_json)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command("keep")
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


@app.command("claims")
def claims_(
    keys: Annotated[list[str] | None, typer.Argument(help="Claims by key or by paper; default all.")] = None,
    store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The claims ledger: what each paper claims and what the records say of it."""
    from benchmarks import claims, records
    from benchmarks.jobs import expected

    findings = claims.judge(records.Store(store or records.RUNS, beside=[records.REFERENCE]))
    for key in keys or ():
        if not any(key in (finding.key, finding.of_paper) for finding in findings):
            raise expected("claim", key, {name for each in findings for name in (each.key, each.of_paper)})
    chosen = [finding for finding in findings if not keys or finding.key in keys or finding.of_paper in keys]
    rows = [{"claim": each.key, "grade": each.grade, "outcome": each.outcome, "why": each.why} for each in chosen]
    emit([vars(each) for each in chosen]) if as_json else show(rows, "claims")


@app.command()
def work(
    store: StoreFolder = None, device: Device = "cpu",
    parent: Annotated[int | None, typer.Option(help="Process without which this one ends.", hidden=True)] = None,
) -> None:  # fmt: skip
    """A worker: tasks as lines of JSON on stdin, one reply per task on stdout, records in the store."""
    from benchmarks import engine, records

    if parent is not None:
        engine.leave_with(parent)
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


# the referee


@app.command()
def check(
    what: Annotated[str, typer.Argument(help="package.module:object, file.py:object, or the id of a method.")],
    law: Annotated[str, typer.Option(help="Only laws of this name; * and ? stand.")] = "*",
    path: Annotated[
        str | None, typer.Option(help="Of a bare function: the noising process it is meant for; default vp-linear.")
    ] = None,
    order: Annotated[float | None, typer.Option(help="Of a bare function: the order it claims.")] = None,
    weak_order: Annotated[float | None, typer.Option(help="Of a bare stochastic function: the weak order.")] = None,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Of a bare function: it draws noise.")] = False,
    exact_on: Annotated[
        list[str] | None, typer.Option(help="Of a bare function: delta, standard, isotropic or gaussian; repeatable.")
    ] = None,
    evaluations: Annotated[float | None, typer.Option(help="Of a bare function: NFE per step.")] = None,
    same_as: Annotated[
        str | None, typer.Option(help="Of a bare function: a method here that ends where it does, by id.")
    ] = None,
    observe: Annotated[bool, typer.Option("--observe", help="Measure its orders and its exactness as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold a sampler (or objective, likelihood, transform) to the laws: what holds, what fails, by how much, and where.

    Exit code 0: all laws hold; 1: one fails; 2: it cannot be checked.
    """
    from benchmarks import referee

    claims = {"path": path, "order": order, "weak_order": weak_order, "stochastic": stochastic,
              "exact_on": frozenset(exact_on or ()), "evaluations_per_step": evaluations,
              "same_as": same_as}  # fmt: skip
    cards, again = referee.loaded(what, **claims), referee.arguments(what, **claims)
    if not any(referee.asked(card, law) for card in cards):
        flags = " or ".join(referee.brings(law))
        mend = f"; {flags} brings it to a bare function" if flags else ""
        raise referee.UsageError(f"law: {law!r} asks nothing of {what}: its card has not the traits{mend}")
    found = [each for card in cards for each in judged(card, law, again, quiet=as_json)]
    measured = {card.id: referee.observed(card) for card in cards if observe and hasattr(card, "exact_on")}
    if as_json:
        emit({"verdicts": [vars(each) | {"good": each.good} for each in found], "observed": measured})
    else:
        for id, rows in measured.items():
            show(rows, f"{id}, measured")
        print(sum_of(found))
        unasked = law == "*" and any(referee.claims_nothing(card) for card in cards)
        if unasked and not any(each.outcome == "not asked" for each in found):
            print(UNASKED)
    if not all(each.good for each in found):
        raise typer.Exit(1)


UNASKED = (
    "nothing was asked of what it computes, for nothing of it is claimed: no order, exactness or method that it equals "
    "(of a bare function: --order, --weak-order, --exact-on delta, --same-as); --observe measures"
)


def sum_of(found: list[Any]) -> str:
    """One line of counts: what holds, what fails as declared, what was not asked."""
    counts = Counter(each.outcome for each in found)
    declared, silent = counts["fails as declared"], counts["not asked"]
    line = f"{counts['holds']} of {len(found)} laws hold"
    line += f", {declared} {'fails' if declared == 1 else 'fail'} as declared" if declared else ""
    return line + (f"; {silent} not asked, for what comes first does not hold" if silent else "")


def judged(card: Any, law: str, again: str, quiet: bool) -> list[Any]:
    """Verdicts on one card, each printed as it comes. again: the arguments that name this card."""
    from benchmarks import referee

    made = []
    for each in referee.verdicts(card, law, again):
        made.append(each)
        if quiet or each.outcome == "not asked":  # the last line counts them
            continue
        print(f"{each.outcome:22}{each.law} ({each.card}, {each.seconds:.1f} s)", flush=True)
        if each.why:
            print(f"    {each.why}")
        if not each.good and each.example:
            print(f"    smallest example: {each.example}")
        if not each.good and each.again:
            print(f"    again: trilemma {each.again}")
    return made


# checkpoints and machine


@lock.command("verify")
def verify(as_json: AsJson = False) -> None:
    """Check every checkpoint of checkpoints.lock: there, whole, and trained by the recipe as it stands.

    Exit code 1 where one is bad. Those of other training seeds are not committed, and may not be here.
    """
    from benchmarks import checkpoints

    verdicts = checkpoints.verify()
    if as_json:
        emit([{"checkpoint": each.name, "ok": each.ok, "says": each.says} for each in verdicts])
    else:
        shown = {True: "ok", None: "not here", False: "BAD"}
        rows = [{"checkpoint": each.name, "verdict": shown[each.ok], "says": each.says} for each in verdicts]
        show(rows, "checkpoints.lock")
    if any(each.ok is False for each in verdicts):
        raise typer.Exit(1)


@lock.command("train")
def train(
    name: Annotated[str, typer.Argument(help="A recipe, or <recipe>@<seed>.")],
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train a checkpoint again by its recipe and pin it. A killed training goes on where it was."""
    import torch
    from rich.console import Console

    from benchmarks import checkpoints

    console = Console(stderr=True)
    begun = time.monotonic()

    def shown(progress: Any, plan: Any) -> None:
        if console.is_terminal and not as_json:
            seconds = time.monotonic() - begun
            said = f"{name}: {progress.step} of {plan.steps} updates, loss {progress.loss:.4f}, {seconds:.0f} s"
            console.print(said, end="\r")

    torch.set_num_threads(1)  # sums are then those of any machine with such a processor, however many cores it has
    entry = checkpoints.train(name, device=device, show=shown)
    row = {"checkpoint": entry.name, "file": entry.file, "sha256": entry.sha256, "bytes": entry.bytes}
    emit(row) if as_json else show([row], "trained")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Versions, device, checkpoints, disk, and known traps of the installation."""
    from benchmarks import doctor as checks

    rows = checks.findings()
    emit(rows) if as_json else show(rows, "doctor")
    if any(row["verdict"] == "bad" for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
