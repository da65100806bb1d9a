"""The report: static pages that are a pure function of the records. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digests import ROOT
from benchmarks.report.inputs import STAGES, Inputs, inputs_digest, made_by_this_code
from benchmarks.report.ledger import Finding

if TYPE_CHECKING:
    from benchmarks.records import Record, Store

REPORTS = ROOT / "reports"
MANIFEST = "manifest.json"
REPORTED = "report-seconds.json"
LARGEST = 3_000_000  # bytes of index.html


class TooLarge(ValueError):
    """A page that grew beyond its budget; the message says by how much and what to do."""


def build(
    store: Store | Path | str,
    out_dir: Path | str = REPORTS,
    *,
    plan: Any = None,
    beside: Iterable[Path | str] = (),
    current: Callable[[Record], bool] | None = made_by_this_code,
    findings: Sequence[Finding] | None = None,
    tables_dir: Path | str | None = None,
    again: bool = False,
) -> Path:
    """out_dir/index.html, a page per paper and, as CSV, Markdown and LaTeX, the tables of a store.

    store: a store or its folder; beside: folders of committed records that are read too. plan: of the suite that was
    run, to say what it left out and why. current: which records count (default: those that today's code would make).
    findings: claims with verdicts (default: all claims, judged by these records). tables_dir: by default `tables` in
    the store's folder. Where the store has a stages.json (stage -> wall seconds of the last run that did work), the
    seconds of this report are kept beside it, so that pages that print them can be made again byte for byte.
    Nothing is made again while the digest of all inputs and the files are unchanged, unless `again`.
    Raises TooLarge where index.html would exceed 3 MB.
    """
    begun, out_dir = time.perf_counter(), Path(out_dir)
    folder = Path(store) if isinstance(store, Path | str) else store.folder
    beside = tuple(Path(path) for path in (beside or getattr(store, "beside", ())))
    wanted = inputs_digest((folder, *beside), plan, findings)
    if not again and _unchanged(out_dir, wanted):
        return out_dir / "index.html"

    from benchmarks.records import Store
    from benchmarks.report.pages import Pages
    from benchmarks.tables import files

    known = Store(folder, beside=beside)
    pages = Pages(Inputs(known, plan, _judged(known) if findings is None else findings, current=current), wanted)
    for table in pages.tables:
        files.write(
            table, Path(tables_dir) if tables_dir else folder / "tables", {"store": folder.name, "inputs": wanted}
        )
    pages.inputs.stages = _stages(folder, wanted, time.perf_counter() - begun)
    _write(out_dir, pages.rendered(), wanted)
    return out_dir / "index.html"


def _judged(store: Store) -> list[Finding]:
    from benchmarks import claims

    return claims.judge(store)


def _stages(folder: Path, wanted: str, seconds: float) -> dict[str, float]:
    """stage -> wall seconds, the report's own included: those kept when these inputs were first rendered."""
    stages, kept = folder / STAGES, folder / REPORTED
    if not stages.is_file():
        return {}
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    if known.get("inputs") != wanted:
        known = {"inputs": wanted, "seconds": round(seconds, 1)}
        kept.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return {**json.loads(stages.read_text()), "report": known["seconds"]}


def _write(out_dir: Path, pages: Mapping[str, str], wanted: str) -> None:
    size = len(pages["index.html"].encode())
    if size > LARGEST:
        raise TooLarge(
            f"index.html: {size} bytes, expected at most {LARGEST}; run a smaller suite, or fewer of its tables"
        )
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
