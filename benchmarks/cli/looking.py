"""Commands that show what there is; none of them writes."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.cli.running import planned
from benchmarks.cli.terms import AsJson, NetDtype, Only, StoreFolder, SuiteName, emit, show


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


def doctor(as_json: AsJson = False) -> None:
    """Versions, device, checkpoints, disk, and known traps of the installation."""
    from benchmarks import doctor as checks

    rows = checks.findings()
    emit(rows) if as_json else show(rows, "doctor")
    if any(row["verdict"] == "bad" for row in rows):
        raise typer.Exit(1)
