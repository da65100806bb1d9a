"""Commands on the checkpoints that the suite may load."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from benchmarks.cli.terms import AsJson, Device, emit, show, there


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
    entry = checkpoints.train(name, device=there(device), show=shown)
    row = {"checkpoint": entry.name, "file": entry.file, "sha256": entry.sha256, "bytes": entry.bytes}
    emit(row) if as_json else show([row], "trained")
