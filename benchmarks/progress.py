"""Progress on a terminal: jobs done, network evaluations per second, time left. Silent where there is no terminal."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.engine import Task


class Shown:
    """A Watcher that draws on stderr if that is a terminal, and counts in any case.

    counts: stage -> how many tasks ended with each status; seconds: stage -> wall time; evaluations: per stage, rows
    through the network.
    """

    def __init__(self, *, quiet: bool = False):
        self.console = Console(stderr=True)
        self.shown = self.console.is_terminal and not quiet
        self.counts: dict[str, Counter[str]] = {}
        self.seconds: dict[str, float] = {}
        self.evaluations: dict[str, float] = {}
        self.stage = ""
        self._bar: Progress | None = None

    def begin(self, stage: str, tasks: int) -> None:
        self.stage, self.begun = stage, time.monotonic()
        self.counts.setdefault(stage, Counter())
        self.evaluations.setdefault(stage, 0.0)
        if self.shown:
            self._bar = Progress(
                TextColumn("[bold]{task.description:>8}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TextColumn("left"), TimeRemainingColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[failed]}"), console=self.console, transient=True,
            )  # fmt: skip
            self._bar.start()
            self._row = self._bar.add_task(stage, total=tasks, rate="", failed="")

    def done(self, task: Task, reply: dict[str, Any]) -> None:
        self.counts[self.stage][reply["status"]] += 1
        self.evaluations[self.stage] += reply.get("evaluations", 0)
        if self._bar is not None:
            bad = sum(count for status, count in self.counts[self.stage].items() if status != "ok")
            rate = self.evaluations[self.stage] / max(1e-9, time.monotonic() - self.begun)
            shown = f"{rate:,.0f} NFE/s" if rate else ""
            self._bar.update(self._row, advance=1, rate=shown, failed=f"[red]{bad} not ok" if bad else "")

    def end(self) -> None:
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + time.monotonic() - self.begun
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
