"""The report: static pages that are a pure function of the records. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digests import ROOT
from benchmarks.report.inputs import Inputs, inputs_digest, made_by_this_code
from benchmarks.report.ledger import Finding

if TYPE_CHECKING:
    from benchmarks.records import Record, Store

REPORTS = ROOT / "reports"
MANIFEST = "manifest.json"
SESSION = "session.json"
LARGEST = 3_000_000  # bytes of index.html


class TooLarge(ValueError):
    """A page that grew beyond its budget; the message says by how much and what to do."""


def build(
    plan: Any,
    store: Store | Path | str,
    out_dir: Path | str = REPORTS,
    *,
    verdicts: Sequence[Finding] = (),
    session: Mapping[str, Any] | None = None,
    current: Callable[[Record], bool] | None = made_by_this_code,
    tables_dir: Path | str | None = None,
    again: bool = False,
) -> Path:
    """out_dir/index.html, a page per paper and, as CSV, Markdown and LaTeX, the tables of a store.

    plan: of the suite that was run, or None; it says what was left out and why. store: a store or its folder.
    session: {"seconds": {stage: seconds}, "workers", "device"} of the run; kept beside the records with the time that the
    report took, so that the page can be made again byte for byte. current: which records count (default: those made by
    the code as it is). tables_dir: by default `tables` in the store's folder.
    Nothing is made again while the digest of all inputs and the files are unchanged, unless `again`.
    Raises TooLarge where index.html would exceed 3 MB.
    """
    begun = time.perf_counter()
    out_dir, folder, beside = Path(out_dir), *_folders(store)
    wanted = inputs_digest((folder, *beside), plan, verdicts)
    if not again and _unchanged(out_dir, wanted):
        return out_dir / "index.html"

    from benchmarks.records import Store
    from benchmarks.report.pages import Pages
    from benchmarks.tables import files

    known = store if isinstance(store, Store) else Store(folder)
    known.refresh()
    inputs = Inputs(known, plan, verdicts, current=current)
    pages = Pages(inputs, wanted)
    for table in pages.tables:
        files.write(table, Path(tables_dir) if tables_dir else folder / "tables", {"store": folder.name, "inputs": wanted})
    inputs.session = _session(folder / SESSION, wanted, session, time.perf_counter() - begun)
    _write(out_dir, pages.rendered(), wanted)
    return out_dir / "index.html"


def _folders(store: Store | Path | str) -> tuple[Path, Iterable[Path]]:
    return (Path(store), ()) if isinstance(store, Path | str) else (store.folder, store.beside)


def _session(path: Path, wanted: str, session: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
    """What is known of the run behind these inputs: what was kept when they were first rendered, else what is given now."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if kept.get("inputs") == wanted or session is None:
        return kept
    stages = {name: round(value, 1) for name, value in session.get("seconds", {}).items()}
    made = {**session, "inputs": wanted, "seconds": {**stages, "report": round(seconds, 1)}}
    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    return made


def _write(out_dir: Path, pages: Mapping[str, str], wanted: str) -> None:
    size = len(pages["index.html"].encode())
    if size > LARGEST:
        raise TooLarge(f"index.html: {size} bytes, expected at most {LARGEST}; run a smaller suite, or fewer of its tables")
    out_dir.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out_dir / name).write_text(text, encoding="utf-8")
    digests = {name: sha256(text.encode()).hexdigest() for name, text in sorted(pages.items())}
    (out_dir / MANIFEST).write_text(json.dumps({"inputs": wanted, "pages": digests}, indent=1) + "\n")


def _unchanged(out_dir: Path, wanted: str) -> bool:
    path = out_dir / MANIFEST
    made = json.loads(path.read_text()) if path.is_file() else {}
    return made.get("inputs") == wanted and all(
        (out_dir / name).is_file() and sha256((out_dir / name).read_bytes()).hexdigest() == digest
        for name, digest in made["pages"].items()
    )
