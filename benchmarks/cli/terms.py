"""What the commands have in common: their options, and how they say things."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


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


def there(device: str) -> str:
    """The name of a device that is here. Raises UsageError for any other."""
    import torch

    from benchmarks.jobs import UsageError

    name, _, index = device.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and not (name == "cuda" and (index or "0").isdecimal() and int(index or 0) < count):
        found = f"{count} of which are here; `trilemma doctor` shows what torch sees"
        raise UsageError(f"device: {device!r}, expected 'cpu' or a CUDA device, {found}")
    return device


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
