"""What came out: one schema for every record, and the store that never loses one.

A store is a folder: ``records/*.jsonl``, one file per writing process and one line per record, and ``artefacts/``.
Records that are kept for good may be packed, ``records/*.jsonl.xz``.
An artefact lies on the disk under its digest before the line that names it is written; a line is written by one call,
flushed and fsynced. So after a kill at any moment a line names only files that are there, and what is lost is at most
one line, which is torn and ignored.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from benchmarks.digests import ROOT, digest, file_digest
from benchmarks.jobs import ALONE, Job, JobKind, Option
from benchmarks.statistics import Interval

VERSION = 1
Status = Literal["ok", "failed", "timeout", "oom", "nonfinite", "skipped"]
RecordKind = Literal[JobKind, "score"]
RUNS = ROOT / "results" / "runs"
REFERENCE = ROOT / "results" / "reference"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Value = Interval | bool | int | float | str | list[float]  # an Interval wherever a number has one


class Artefact(_Frozen):
    file: str  # relative to the store's folder
    sha256: str
    bytes: int


class Place(_Frozen):
    """Where a record was made. Never part of a sample job's identity; the whole of it is part of a timing job's."""

    device: str
    hardware: str
    threads: int
    python: str
    torch: str
    platform: str


class Score(_Frozen):
    """What a score record asks beyond its job: the metric, its options, and which samples (digest of their record)."""

    metric: str
    options: dict[str, Option] = {}
    samples: str


class Record(_Frozen):
    """One job (or one score of one job) and what answered it.

    id: job.id, for a score the digest of (job.id, score). made_of: role -> sha256 of what answered.
    values: name -> number or Interval. seconds: wall time of the work itself. reason: one line where status is not ok.
    """

    version: Literal[1] = VERSION
    id: str
    kind: RecordKind
    job: Job
    score: Score | None = None
    made_of: dict[str, str]
    status: Status
    reason: str = ""
    values: dict[str, Value] = {}
    artefacts: dict[str, Artefact] = {}
    place: Place
    seconds: float
    commit: str
    dirty: bool
    written: str  # UTC, ISO 8601, seconds

    @model_validator(mode="after")
    def _named_by_what_it_asks(self) -> Record:
        asked = self.job.id if self.score is None else score_id(self.job, self.score)
        if asked != self.id:
            raise ValueError(f"id is {self.id[:12]}, but what it asks has {asked[:12]}: the line was edited")
        return self

    @cached_property
    def key(self) -> tuple[str, str]:
        """(id, digest of made_of): one question answered by one state of code and data."""
        return self.id, digest(self.made_of)

    @cached_property
    def samples_digest(self) -> str:
        """What a score of this record is a score of: its made_of and its artefacts' digests."""
        return digest({"made_of": self.made_of, "artefacts": {name: a.sha256 for name, a in self.artefacts.items()}})

    @cached_property
    def answer(self) -> str:
        """Digest of (status, values, artefact digests): equal for two runs that say the same."""
        values = self.model_dump(include={"status", "values"})
        return digest({**values, "artefacts": {name: a.sha256 for name, a in self.artefacts.items()}})

    @cached_property
    def identity(self) -> tuple[str, str, str]:
        """What "the same records" compares: (id, made_of, status + values + artefact digests)."""
        return *self.key, self.answer


def record_files(folder: Path) -> list[Path]:
    """The files of a store's records, plain and packed, in the order in which they are read."""
    return sorted([*folder.glob("records/*.jsonl"), *folder.glob("records/*.jsonl.xz")])


def score_id(job: Job, score: Score) -> str:
    return digest({"job": job.id, "score": score.model_dump()})


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class StoreError(OSError):
    """A store that cannot be read or written; the message names the path and what to do."""


class Store:
    """Records and artefacts of one folder, and read-only those of the folders in `beside` (committed references).

    The record of a key: of several the first with status ok in (file name, line) order, else the last.
    A record of the folder itself that is ok goes before one beside it. `problems` has one line for each unreadable line
    and for each pair of ok records of one folder and key that differ.
    """

    def __init__(self, folder: Path | str = RUNS, *, beside: Iterable[Path | str] = ()):
        self.folder = Path(folder)
        self.beside = tuple(Path(path) for path in beside)
        self._problems: list[str] = []
        self._file = None
        self._records: dict[tuple[str, str], tuple[Record, Path]] | None = None

    # reading

    @property
    def _resolved(self) -> dict[tuple[str, str], tuple[Record, Path]]:
        if self._records is None:
            self._records = {}
            for folder in (self.folder, *self.beside):
                for path in record_files(folder):
                    for record in self._lines(path):
                        self._take(record, folder)
        return self._records

    def _lines(self, path: Path) -> Iterable[Record]:
        try:
            lines = (lzma.decompress if path.suffix == ".xz" else bytes)(path.read_bytes()).split(b"\n")
        except lzma.LZMAError as error:
            self._problems.append(f"{path.name}: cannot be unpacked ({error}), ignored")
            return
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn, or nothing
            try:
                yield Record.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "line"
                self._problems.append(f"{path.name}:{number}: unreadable record ({where}: {first['msg']}), ignored")

    def _take(self, record: Record, folder: Path) -> None:
        found = self._records.get(record.key)
        own = folder == self.folder and record.status == "ok"
        if found is None or found[0].status != "ok" or (own and found[1] != folder):
            self._records[record.key] = record, folder
        elif record.status != "ok" or record.kind in ALONE or found[1] != folder:
            return
        elif record.answer != found[0].answer:
            self._problems.append(
                f"conflict: two ok records of {record.job} differ ({record.kind} {record.id[:12]}, made_of "
                f"{record.key[1][:12]}; {found[0].written} on {found[0].place.device} counts, {record.written} on "
                f"{record.place.device} does not)"
            )

    def records(self) -> list[Record]:
        """The record of every key, in order of first appearance."""
        return [record for record, _ in self._resolved.values()]

    @property
    def problems(self) -> list[str]:
        """What was wrong with the lines of all files, which are read for it if they were not."""
        self.records()
        return self._problems

    def find(self, id: str, made_of: Mapping[str, str]) -> Record | None:
        """This folder's record of this id and made_of, whatever its status; None if there is none.

        A committed record beside it never stands in for a run: it only answers where nobody asks to run.
        """
        found = self._resolved.get((id, digest(dict(made_of))))
        return found[0] if found and found[1] == self.folder else None

    def is_beside(self, record: Record) -> bool:
        """Whether a record comes from a folder beside this one (committed) and not from this one."""
        found = self._resolved.get(record.key)
        return found is not None and found[1] != self.folder

    def refresh(self) -> None:
        """Forget what was read, so that lines written by other processes are seen."""
        self._records, self._problems = None, []

    def path(self, record: Record, artefact: str) -> Path:
        """The file of a record's artefact; raises StoreError if it is not there."""
        name = record.artefacts[artefact].file
        for folder in (self.folder, *self.beside):
            if (folder / name).is_file():
                return folder / name
        raise StoreError(f"artefact: {self.folder / name} is missing; run its job again: {record.job}")

    def tensors(self, record: Record, artefact: str = "samples") -> dict[str, Any]:
        """name -> tensor of a record's artefact, checked against the digest that the record names."""
        from safetensors.torch import load

        path = self.path(record, artefact)
        data = path.read_bytes()
        found, named = hashlib.sha256(data).hexdigest(), record.artefacts[artefact].sha256
        if found != named:
            raise StoreError(f"artefact: {path} has sha256 {found[:12]}, expected {named[:12]}; delete it, run --again")
        return load(data)

    # writing

    def append(self, record: Record) -> Record:
        """One line, in one write, on the disk when this returns."""
        if self._file is None:
            self._open()
        os.write(self._file, record.model_dump_json(exclude_defaults=False).encode() + b"\n")
        os.fsync(self._file)
        if self._records is not None:
            self._take(record, self.folder)
        return record

    def _open(self) -> None:
        folder = self.folder / "records"
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            self._file = os.open(folder / f"{stamp}-{os.getpid()}.jsonl", flags, 0o644)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"store: {self.folder} cannot be written ({error.strerror}); give --store a folder that can")

    def save(self, tensors: Mapping[str, Any]) -> Artefact:
        """Tensors as safetensors under their digest: written to a temporary file, fsynced, then renamed."""
        from safetensors.torch import save

        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"artefacts/{sha256[:2]}/{sha256}.safetensors"
        path = self.folder / name
        if not path.is_file() or file_digest(path) != sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            with open(draft, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        return Artefact(file=name, sha256=sha256, bytes=len(data))

    def prepare(self) -> None:
        """Make the folder, or raise StoreError; delete drafts that processes which are no more have left behind."""
        try:
            (self.folder / "records").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None
        for draft in self.folder.glob("artefacts/*/*.tmp"):
            try:
                os.kill(int(draft.suffixes[-2][1:]), 0)
            except ProcessLookupError:
                draft.unlink(missing_ok=True)
            except PermissionError:
                continue  # another user's process, and alive

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
