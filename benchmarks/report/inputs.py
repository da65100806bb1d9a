"""Everything that a report is made of, read once; and the digest by which an unchanged report is not made again."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digests import ROOT, digest
from benchmarks.report import ledger

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.records import Record, Store
    from benchmarks.tables.views import Measures
    from reference_impls.core.types import Paper

# JSON files beside the records, all optional: claims (ledger.Finding each), laws ({method, law, outcome, reason} each),
# stages (name -> seconds of the last run that did work).
BESIDE = (ledger.FILE, "laws.json", "stages.json")
CODE = ("benchmarks/report", "benchmarks/tables", "benchmarks/plots", "benchmarks/laws", "benchmarks/metrics", "reference_impls")


def inputs_digest(folders: Iterable[Path], root: Path = ROOT) -> str:
    """Over the bytes of all record files, of what lies beside them, of the code that renders and of the papers."""
    total = {}
    for number, folder in enumerate(folders):
        for path in [*sorted(folder.glob("records/*.jsonl")), *(folder / name for name in BESIDE)]:
            if path.is_file():
                total[f"{number}/{path.name}"] = _bytes_digest(path)
    for folder in CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".j2", ".css") and path.is_file():
                total[path.relative_to(root).as_posix()] = _bytes_digest(path)
    lock = root / "checkpoints.lock"
    if lock.is_file():
        total[lock.name] = _bytes_digest(lock)
    return digest(total)


def _bytes_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Inputs:
    """Records as a frame, claims, laws, stages, cards and pinned checkpoints."""

    store: Store
    current: Callable[[Record], bool] | None = None
    folders: tuple[Path, ...] = ()
    root: Path = field(default=ROOT)

    @cached_property
    def records(self) -> list[Record]:
        from benchmarks.tables.cells import counting

        return counting(self.store.records(), self.current)

    @cached_property
    def frame(self) -> pd.DataFrame:
        from benchmarks.tables.cells import cells

        return cells(self.store, self.current)

    @cached_property
    def measures(self) -> Measures:
        from benchmarks.tables.views import measures

        return measures()

    @cached_property
    def findings(self) -> list[ledger.Finding]:
        return ledger.read(self.folders)

    @cached_property
    def papers(self) -> Mapping[str, Paper]:
        from reference_impls import catalogue

        return catalogue.papers()

    @cached_property
    def stages(self) -> dict[str, float]:
        return self._beside("stages.json", {})

    @cached_property
    def laws(self) -> list[dict[str, str]]:
        return self._beside("laws.json", [])

    @cached_property
    def checkpoints(self) -> list[dict[str, Any]]:
        path = self.root / "checkpoints.lock"
        return tomllib.loads(path.read_text()).get("checkpoint", []) if path.is_file() else []

    def _beside(self, name: str, empty: Any) -> Any:
        path = next((folder / name for folder in self.folders if (folder / name).is_file()), None)
        return json.loads(path.read_text()) if path else empty
