"""`trilemma`: from suites to records, scores, claims and the report. A user's mistake is one line and exit code 2.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="trilemma", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A reproducibility benchmark suite for fast diffusion and flow generative models.",
)  # fmt: skip
lock = typer.Typer(no_args_is_help=True, help="The checkpoints that the suite may load: verify them, train one again.")
app.add_typer(lock, name="lock")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder of records and artefacts; default results/runs.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:<index>.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes; default one per core, one on a GPU.")]
NetDtype = Annotated[str, typer.Option("--dtype", help="Of the networks: float32, bfloat16 (bf16) or float16 (fp16).")]
Again = Annotated[bool, typer.Option("--again", help="Repeat what is already there.")]
KeepFailed = Annotated[bool, typer.Option("--keep-failed", help="Do not try again what failed.")]
Methods = Annotated[str, typer.Option(help="Only methods that match, e.g. 'karras2022edm.*'.")]
Targets = Annotated[str, typer.Option(help="Only targets that match.")]
Tables = Annotated[str, typer.Option(help="Only tables (selects of the suite) that match.")]
SuiteName = Annotated[str, typer.Argument(help="A suite by name, or the path of a .toml file.")]

DTYPES = {"float32": "float32", "fp32": "float32", "bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "fp16": "float16"}
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


MISTAKES = {"UsageError", "StoreError", "BadCheckpoint", "BadRecipe", "EngineError"}  # named, so that none is imported


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


# what there is


def _methods() -> list[dict[str, Any]]:
    from reference_impls import catalogue

    def order(card) -> str:
        return f"{card.order:g}" if card.order else f"weak {card.weak_order:g}" if card.weak_order else "-"

    return [
        {
            "id": card.id, "consumes": card.consumes, "order": order(card), "path": card.path,
            "needs": " ".join(sorted(card.needs)) or "-", "nfe": "of the grid" if card.nfe else "metered",
            "kind": ("stochastic" if card.stochastic else "deterministic") + (", baseline" if card.baseline else ""),
        }
        for card in catalogue.samplers().values()
    ]  # fmt: skip


def _targets() -> list[dict[str, Any]]:
    from benchmarks import data, problems
    from reference_impls import targets

    names = [*targets.makers(), *(name for name in data.NAMED if name not in targets.makers())]
    made = {name: problems.target_of(name) for name in names}
    return [
        {"target": name, "family": problems.family_of(target), "shape": "x".join(map(str, problems.shape_of(target)))}
        for name, target in made.items()
    ]


def _listing(what: str) -> list[dict[str, Any]]:
    """Rows of one kind of thing there is."""
    from benchmarks import checkpoints, metrics, recipes, suites
    from benchmarks.jobs import expected
    from reference_impls import catalogue
    from reference_impls.core import grids, process, tokens

    kinds = {
        "methods": _methods,
        "targets": _targets,
        "papers": lambda: [{"key": p.key, "title": p.title, "venue": p.venue, "arxiv": p.arxiv} for p in catalogue.papers().values()],
        "objectives": lambda: [{"id": o.id, "minimiser": o.minimiser, "path": o.path} for o in catalogue.objectives().values()],
        "likelihoods": lambda: [{"id": c.id, "kind": c.kind, "consumes": c.consumes} for c in catalogue.likelihoods().values()],
        "metrics": lambda: [{"metric": m.name, "title": m.title, "unit": m.unit, "better": m.better} for m in metrics.metrics().values()],
        "models": lambda: [
            {"model": name, "recipe": "yes" if name in recipes.names() else "-", "pinned": "yes" if name in checkpoints.names() else "no"}
            for name in sorted({*recipes.names(), *checkpoints.names()})
        ],
        "processes": lambda: [{"process": n, "kind": k} for k, m in (("gaussian", process), ("token", tokens)) for n in m.NAMED],
        "grids": lambda: [{"grid": name} for name in [*grids.NAMED, "power(E)", "power(E)_to_zero", "own"]],
        "suites": lambda: [{"suite": name, "about": suites.named(name).about} for name in suites.names()],
    }  # fmt: skip
    if what not in kinds:
        raise expected("what", what, kinds)
    return kinds[what]()


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, targets, papers, metrics, suites, models, ...")] = "methods",
    as_json: AsJson = False,
) -> None:
    """What there is."""
    rows = _listing(what)
    emit(rows) if as_json else show(rows, what)


def planned(suite: str, methods: str = "*", targets: str = "*", tables: str = "*", dtype: str = "float32") -> Any:
    from benchmarks import suites
    from benchmarks.jobs import expected

    if dtype not in DTYPES:
        raise expected("dtype", dtype, DTYPES)
    plan = suites.plan(suites.named(suite), net_dtype=DTYPES[dtype])
    return plan if methods == targets == tables == "*" else plan.only(methods=methods, targets=targets, tables=tables)


@app.command()
def plan(
    suite: SuiteName = "default", methods: Methods = "*", targets: Targets = "*", tables: Tables = "*",
    dtype: NetDtype = "float32", store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The jobs of a suite, and what could not be asked and why; nothing is run."""
    made = planned(suite, methods, targets, tables, dtype)
    if as_json:
        cells = [
            {"id": c.job.id, "table": c.table, "budget": c.budget, "metrics": list(c.metrics), "job": c.job.asked} for c in made.cells
        ]
        emit({"suite": made.suite, "digest": made.digest, "cells": cells, "excluded": [vars(e) for e in made.excluded]})
        return
    show([{"table": c.table, "job": str(c.job)} for c in made.cells], made.suite)
    for each in made.excluded:
        print(f"excluded from {each.table}: {each.what}: {each.reason}")
    print(f"{len(made.jobs())} jobs in {len(made.cells)} cells")


# running


def settings_of(store: Path | None, device: str, workers: int | None, again: bool, keep_failed: bool, quiet: bool) -> Any:
    import torch

    from benchmarks import engine, records
    from benchmarks.jobs import UsageError
    from benchmarks.progress import Shown

    if device != "cpu" and not (device.partition(":")[0] == "cuda" and torch.cuda.is_available()):
        found = f"cuda:0..{torch.cuda.device_count() - 1}" if torch.cuda.is_available() else "no CUDA device here"
        raise UsageError(f"device: {device!r}, expected 'cpu' or 'cuda' ({found}); `trilemma doctor` shows what torch sees")
    if workers is not None and workers < 1:
        raise UsageError(f"workers: {workers}, expected an integer >= 1")
    torch.set_num_threads(1)  # as in a worker: part of the place
    made = records.Store(store or records.RUNS, beside=[records.REFERENCE])
    made.sweep()
    count = workers or (os.cpu_count() or 1 if device == "cpu" else 1)
    return engine.Settings(
        store=made, device=device, workers=count, again=again, keep_failed=keep_failed, watcher=Shown(quiet=quiet)
    )


def summary_of(made: Any, run: Any, seconds: dict[str, float]) -> dict[str, Any]:
    """What a run did and what is there now, by status."""
    watcher = run.settings.watcher
    there: dict[str, int] = {}
    failed = []
    for job in made.jobs():
        record = run.found(job)
        status = record.status if record else "not run"
        there[status] = there.get(status, 0) + 1
        if record is not None and status != "ok":
            failed.append({"job": str(job), "status": status, "reason": record.reason})
    return {
        "suite": made.suite,
        "plan": made.digest,
        "jobs": there,
        "failed": failed,
        "excluded": len(made.excluded),
        "done": {stage: dict(counts) for stage, counts in watcher.counts.items()},
        "evaluations": sum(watcher.evaluations.values()),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "workers": run.settings.workers,
        "device": run.settings.device,
        "problems": run.store.problems,
    }


def tell(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(summary)
        return
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary["jobs"].items()))
    print(f"{summary['suite']}: {counts}" + (f"; {summary['excluded']} combinations excluded" if summary["excluded"] else ""))
    for each in summary["failed"]:
        print(f"  {each['status']}: {each['job']}: {each['reason']}")
    for line in summary["problems"]:
        print(f"  {line}")
    print("  " + ", ".join(f"{name} {value:.1f} s" for name, value in summary["seconds"].items()))


class Clock:
    """Wall seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now


@app.command()
def run(
    suite: SuiteName = "default", methods: Methods = "*", targets: Targets = "*", tables: Tables = "*",
    device: Device = "cpu", dtype: NetDtype = "float32", workers: Workers = None, again: Again = False,
    keep_failed: KeepFailed = False, store: StoreFolder = None, as_json: AsJson = False,
    then_report: Annotated[bool, typer.Option("--then-report", help="Score, judge claims and write the report as well.")] = False,
) -> None:  # fmt: skip
    """Run a suite's jobs; those that have a record are skipped. Timing comes last and alone."""
    _run(suite, methods, targets, tables, device, dtype, workers, again, keep_failed, store, as_json, whole=then_report)


@app.command()
def bench(
    suite: SuiteName = "default", methods: Methods = "*", targets: Targets = "*", tables: Tables = "*",
    device: Device = "cpu", dtype: NetDtype = "float32", workers: Workers = None, again: Again = False,
    keep_failed: KeepFailed = False, store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """All of it: run, score, claims and report in one go, and how long each took."""
    _run(suite, methods, targets, tables, device, dtype, workers, again, keep_failed, store, as_json, whole=True)


def _run(suite, methods, targets, tables, device, dtype, workers, again, keep_failed, store, as_json, *, whole: bool) -> None:
    clock = Clock()
    settings = settings_of(store, device, workers, again, keep_failed, quiet=as_json)
    clock.lap("imports")
    made = planned(suite, methods, targets, tables, dtype)
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
    after = _judged_and_reported(made, settings, clock) if whole else {}
    summary = summary_of(made, run, clock.seconds) | after
    remember(settings.store.folder, summary)
    tell(summary, as_json)


def _judged_and_reported(made: Any, settings: Any, clock: Clock) -> dict[str, Any]:
    from benchmarks import claims
    from benchmarks import report as pages

    verdicts = claims.judged(settings.store)
    clock.lap("claims")
    session = {"seconds": clock.seconds, "workers": settings.workers, "device": settings.device}
    written = pages.build(made, settings.store, verdicts=verdicts, session=session)
    clock.lap("report")
    return {"verdicts": counted(verdicts), "report": str(written)}


def counted(verdicts: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in verdicts:
        found[each.outcome] = found.get(each.outcome, 0) + 1
    return found


def remember(folder: Path, summary: dict[str, Any]) -> None:
    """One line per session: what a run took, stage by stage."""
    from benchmarks import records

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "sessions.jsonl", "a") as file:
        file.write(json.dumps({"ended": records.now(), **summary}) + "\n")


@app.command()
def score(
    suite: SuiteName = "default", methods: Methods = "*", targets: Targets = "*", tables: Tables = "*",
    device: Device = "cpu", dtype: NetDtype = "float32", workers: Workers = None, again: Again = False,
    keep_failed: KeepFailed = False, store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Score the samples that a suite's jobs have left; nothing is generated."""
    clock = Clock()
    settings = settings_of(store, device, workers, again, keep_failed, quiet=as_json)
    made = planned(suite, methods, targets, tables, dtype)
    clock.lap("plan")
    from benchmarks import engine

    with engine.Run(made, settings) as run:
        run.scores()
        clock.lap("scores")
    tell(summary_of(made, run, clock.seconds), as_json)


@app.command()
def report(
    suite: SuiteName = "default", methods: Methods = "*", targets: Targets = "*", tables: Tables = "*",
    device: Device = "cpu", dtype: NetDtype = "float32", store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write reports/index.html and a page per paper from the records."""
    from benchmarks import claims
    from benchmarks import report as pages

    settings = settings_of(store, device, None, False, False, quiet=as_json)
    made = planned(suite, methods, targets, tables, dtype)
    written = pages.build(made, settings.store, verdicts=claims.judged(settings.store))
    emit({"report": str(written)}) if as_json else print(written)


@app.command("claims")
def claims_(
    keys: Annotated[list[str] | None, typer.Argument(help="Claims by key or by paper; default all.")] = None,
    store: StoreFolder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """The claims ledger: what each paper claims and what the records say of it."""
    from benchmarks import claims, records
    from benchmarks.jobs import expected

    known = claims.claims()
    for key in keys or ():
        if not any(key in (name, claim.paper) for name, claim in known.items()):
            raise expected("claim", key, known)
    made = records.Store(store or records.RUNS, beside=[records.REFERENCE])
    verdicts = [each for each in claims.judged(made) if not keys or each.key in keys or known[each.key].paper in keys]
    rows = [{"claim": each.key, "evidence": known[each.key].evidence, "outcome": each.outcome, "why": each.why} for each in verdicts]
    emit(rows) if as_json else show(rows, "claims")


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


# checkpoints and machine


@lock.command("verify")
def verify(as_json: AsJson = False) -> None:
    """Check every checkpoint of checkpoints.lock: there, whole, and trained by the recipe as it stands."""
    from benchmarks import checkpoints

    verdicts = checkpoints.verify()
    rows = [{"checkpoint": each.name, "ok": each.ok, "says": each.says} for each in verdicts]
    emit(rows) if as_json else show(rows, "checkpoints.lock")
    if not all(each.ok for each in verdicts):
        raise typer.Exit(1)


@lock.command("train")
def train(
    name: Annotated[str, typer.Argument(help="A recipe, or <recipe>@<seed>.")], device: Device = "cpu", as_json: AsJson = False
) -> None:
    """Train a checkpoint again by its recipe and pin it. A killed training goes on where it was."""
    from rich.console import Console

    from benchmarks import checkpoints

    console = Console(stderr=True)
    begun = time.monotonic()

    def shown(progress: Any, plan: Any) -> None:
        if console.is_terminal and not as_json:
            rate = progress.step / max(1e-9, time.monotonic() - begun)
            console.print(f"{name}: {progress.step} of {plan.steps} updates, loss {progress.loss:.4f}, {rate:.0f}/s", end="\r")

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
