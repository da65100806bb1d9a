"""The report: static pages that are a pure function of the records. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.digests import ROOT
from benchmarks.report.inputs import Inputs, inputs_digest

if TYPE_CHECKING:
    from benchmarks.records import Record

REPORTS = ROOT / "reports"
MANIFEST = "manifest.json"
LARGEST = 3_000_000  # bytes of index.html


class TooLarge(ValueError):
    """A page that grew beyond its budget; the message says by how much and what to do."""


def build(
    store_dir: Path | str,
    out_dir: Path | str = REPORTS,
    *,
    beside: Iterable[Path | str] = (),
    current: Callable[[Record], bool] | None = None,
    tables_dir: Path | str | None = None,
    again: bool = False,
) -> Path:
    """out_dir/index.html, a page per paper and, as CSV, Markdown and LaTeX, the tables of a store.

    beside: folders with committed records that are read too. current: whether a record was made by what the code is now
    (default: the latest record of each question counts). tables_dir: by default the store's own folder `tables`.
    Nothing is made again while the digest of all inputs and the files themselves are unchanged, unless `again`.
    Raises TooLarge where index.html would exceed 3 MB.
    """
    store_dir, out_dir = Path(store_dir), Path(out_dir)
    folders = (store_dir, *map(Path, beside))
    tables_dir = Path(tables_dir) if tables_dir else store_dir / "tables"
    wanted = inputs_digest(folders)
    if not again and _unchanged(out_dir, wanted):
        return out_dir / "index.html"

    from benchmarks.records import Store
    from benchmarks.report.pages import render
    from benchmarks.tables import files

    inputs = Inputs(Store(store_dir, beside=beside), current=current, folders=folders)
    pages, tables = render(inputs, wanted)
    if len(pages["index.html"].encode()) > LARGEST:
        size = len(pages["index.html"].encode())
        raise TooLarge(f"index.html: {size} bytes, expected at most {LARGEST}; run a smaller suite or move a table to a paper's page")
    provenance = {"store": store_dir.name, "inputs": wanted}
    for table in tables:
        files.write(table, tables_dir, provenance)
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out_dir / name).write_text(text)
    digests = {name: sha256(text.encode()).hexdigest() for name, text in sorted(pages.items())}
    (out_dir / MANIFEST).write_text(json.dumps({"inputs": wanted, "pages": digests}, indent=1) + "\n")
    return out_dir / "index.html"


def _unchanged(out_dir: Path, wanted: str) -> bool:
    path = out_dir / MANIFEST
    if not path.is_file():
        return False
    made = json.loads(path.read_text())
    return made.get("inputs") == wanted and all(
        (out_dir / name).is_file() and sha256((out_dir / name).read_bytes()).hexdigest() == digest
        for name, digest in made.get("pages", {}).items()
    )
