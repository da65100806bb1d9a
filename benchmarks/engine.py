"""From a plan to records: long-lived worker processes, each killed and replaced alone when its job does not end.

A worker is `trilemma work`: one task per line of JSON on its input, one line of JSON back when the task's record is in
the store. Arrays never pass through a pipe, and any other engine can feed it: a job that the store holds is not run
again. A worker that dies or is killed loses only the task it had, which the run records as failed or timeout; a run
that is killed takes its workers with it.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks import checkpoints, provenance, score
from benchmarks.jobs import ALONE, Job, UsageError
from benchmarks.records import Record, Status, Store
from benchmarks.run import answered, record_of
from benchmarks.suites import Plan

START_SECONDS = 180.0  # for a worker's imports on a busy machine
START_ATTEMPTS = 3
SCORE_SECONDS = 120.0  # for all metrics of one job
REFERENCE_SECONDS = 900.0
WORKER = (sys.executable, "-m", "benchmarks.cli", "work")


class EngineError(RuntimeError):
    """Workers that cannot be started; the message holds the last line they wrote."""


@dataclass(frozen=True)
class Task:
    """One line for a worker. kind "job": run the job. kind "score": score the record (a floor has none)."""

    kind: str
    job: Job
    seconds: float
    record: Record | None = None
    reference: Record | None = None
    metrics: tuple[str, ...] = ()

    def line(self) -> bytes:
        parts: dict[str, Any] = {"kind": self.kind, "job": self.job.asked, "again": True}  # the run has looked already
        if self.kind == "score":
            parts["metrics"] = list(self.metrics)
            for name in ("record", "reference"):
                found = getattr(self, name)
                parts[name] = None if found is None else found.model_dump(mode="json")
        return json.dumps(parts).encode() + b"\n"


class Watcher(Protocol):
    """Whoever shows progress."""

    def begin(self, stage: str, tasks: int) -> None: ...

    def done(self, task: Task, reply: dict[str, Any]) -> None: ...

    def end(self) -> None: ...


class Quiet:
    """Shows nothing."""

    def begin(self, stage: str, tasks: int) -> None:
        pass

    def done(self, task: Task, reply: dict[str, Any]) -> None:
        pass

    def end(self) -> None:
        pass


@dataclass(frozen=True)
class Settings:
    """How a run is carried out; none of it is part of a job's identity."""

    store: Store
    device: str = "cpu"
    workers: int = 1
    again: bool = False  # repeat what is there
    keep_failed: bool = False  # do not try again what failed
    watcher: Watcher = Quiet()
    command: Sequence[str] = WORKER

    def worker_command(self) -> list[str]:
        where = ["--store", str(self.store.folder), "--device", self.device]
        return [*self.command, *where, "--parent", str(os.getpid())]


class Worker:
    """One `trilemma work` process and the task it has."""

    def __init__(self, settings: Settings):
        self.errors = tempfile.TemporaryFile()
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        if settings.device == "cpu":
            environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            settings.worker_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self.task: Task | None = None
        self.ready = False
        self.since = time.monotonic()
        self.rest = b""

    def give(self, task: Task) -> None:
        self.task, self.since = task, time.monotonic()
        try:
            self.process.stdin.write(task.line())
        except BrokenPipeError:
            pass  # it died while idle: its closed output says so, and the task is recorded as failed

    def overdue(self) -> bool:
        limit = START_SECONDS if not self.ready else self.task.seconds if self.task else float("inf")
        return time.monotonic() - self.since > limit

    def replies(self) -> tuple[list[dict[str, Any]], bool]:
        """(complete lines that have come, whether the worker is gone)."""
        data = os.read(self.process.stdout.fileno(), 2**16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line], not data

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def last_words(self) -> str:
        """The last line that it wrote to its error output."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


@dataclass
class Pool:
    """The workers of a run. Tasks go to whoever is free; `run` returns when each has been answered or recorded lost."""

    settings: Settings
    workers: list[Worker] = field(default_factory=list)
    attempts: int = 0

    def run(self, stage: str, tasks: Iterable[Task], workers: int) -> list[tuple[Task, dict[str, Any]]]:
        """Replies in order of completion; a lost task's reply is made here and its record written."""
        waiting = deque(tasks)
        answered: list[tuple[Task, dict[str, Any]]] = []
        if not waiting:
            return answered
        self.settings.watcher.begin(stage, len(waiting))
        try:
            for task, reply in self._answers(waiting, min(workers, len(waiting))):
                answered.append((task, reply))
                self.settings.watcher.done(task, reply)
        finally:  # an interrupted run gives the terminal back
            self.settings.watcher.end()
        return answered

    def _answers(self, waiting: deque[Task], most: int) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Hand out tasks to at most `most` workers until each has its reply."""
        while waiting or any(worker.task for worker in self.workers):
            while len(self.workers) < most and waiting:
                self.workers.append(Worker(self.settings))
            for worker in self.workers[:most]:
                if worker.ready and worker.task is None and waiting:
                    worker.give(waiting.popleft())
            yield from self._listen()

    def _listen(self) -> Iterator[tuple[Task, dict[str, Any]]]:
        """What came within a fifth of a second; the dead and the overdue are buried, and what they had is answered."""
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            heard = [key.data for key, _ in selector.select(0.2)]
        for worker in list(self.workers):
            gone = False
            if worker in heard:
                lines, gone = worker.replies()
                for line in lines:
                    if line.get("ready"):
                        worker.ready, self.attempts = True, 0
                    elif worker.task is not None:
                        task, worker.task = worker.task, None
                        yield task, line
            if gone or worker.overdue():
                lost = self._bury(worker, gone)
                if lost is not None:
                    yield lost

    def _bury(self, worker: Worker, gone: bool) -> tuple[Task, dict[str, Any]] | None:
        worker.kill()
        self.workers.remove(worker)
        words = worker.last_words()
        if not worker.ready:
            self.attempts += 1
            if self.attempts >= START_ATTEMPTS:
                raise EngineError(
                    f"workers: {self.attempts} in a row died at their start, expected one that answers; the last "
                    f"said: {words or 'nothing'}; `trilemma doctor` looks for the cause"
                )
        if worker.task is None:
            return None
        task, seconds = worker.task, time.monotonic() - worker.since
        code = worker.process.returncode
        if gone:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            status, reason = "failed", f"its worker died ({how})" + (f": {words}" if words else "")
        else:
            status, reason = "timeout", f"not done after {task.seconds:g} s; raise timeout_seconds of its suite"
        return task, self._record_lost(task, status, reason, seconds)

    def _record_lost(self, task: Task, status: Status, reason: str, seconds: float) -> dict[str, Any]:
        """The record that the worker could not write; of a score, one for each metric that it had."""
        lost: list[dict[str, Any]] = [{}]
        if task.kind == "score":
            lost = [
                {"score": score.score_of(m, task.record), "made_of": score.made_of(m, task.job, task.reference)}
                for m in score.wanted(task.job, task.metrics)
            ]
        for parts in lost:
            record = record_of(task.job, self.settings.device, status=status, reason=reason, seconds=seconds, **parts)
            self.settings.store.append(record)
        return {"status": status, "reason": reason, "seconds": seconds}

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.workers.clear()


class Run:
    """One run of a plan over a store: `samples`, `scores` and `timings` can be called in this order, or alone."""

    def __init__(self, plan: Plan, settings: Settings):
        self.plan, self.settings, self.store = plan, settings, settings.store
        self.pool = Pool(settings)
        self.metrics, self.limits = plan.metrics_of(), plan.limits()
        self._verdicts: dict[str, str | None] = {}

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.close()

    def made_of(self, job: Job) -> dict[str, str]:
        return provenance.made_of(job, provenance.place(self.settings.device))

    def found(self, job: Job) -> Record | None:
        """The record that answers a job with code and data as they are."""
        return self.store.find(job.id, self.made_of(job))

    def _open(self, record: Record | None) -> bool:
        """Whether a question with this record, if any, is still to be answered."""
        if record is None or self.settings.again:
            return True
        return record.status != "ok" and not self.settings.keep_failed

    def references(self) -> list[Job]:
        """The exact flows without closed form that the plan's scores need."""
        found: dict[str, Job] = {}
        for job in self.plan.jobs():
            if job.kind == "sample" and score.needs_reference(job, score.wanted(job, self.metrics[job.id])):
                reference = score.reference_for(job)
                found[reference.id] = reference
        return list(found.values())

    def samples(self) -> list[tuple[Task, dict[str, Any]]]:
        """References first, as they take longest, then all jobs but timing."""
        long = [Task("job", job, REFERENCE_SECONDS) for job in self.references() if self._open(self.found(job))]
        rest = [Task("job", job, self.limits[job.id]) for job in self.plan.jobs() if job.kind not in ALONE]
        done = self.pool.run("jobs", [*long, *self._possible(rest)], self.settings.workers)
        self.store.refresh()
        return done

    def _possible(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The open tasks whose checkpoint is there. The others are skipped rows, and need no worker to say so."""
        for task in tasks:
            found = self.found(task.job)
            if not self._open(found):
                continue
            missing = None if task.job.model == "exact" else self._missing(task.job.model)
            if missing is None:
                yield task
            elif found is None or (found.status, found.reason) != ("skipped", missing):
                record = record_of(task.job, self.settings.device, status="skipped", reason=missing, seconds=0.0)
                self.store.append(record)

    def _missing(self, model: str) -> str | None:
        """Why a checkpoint cannot be loaded; None if it can."""
        if model not in self._verdicts:
            try:
                checkpoints.content_of(model)
                self._verdicts[model] = None
            except checkpoints.BadCheckpoint as error:
                self._verdicts[model] = str(error).partition("\n")[0]
        return self._verdicts[model]

    def scores(self) -> list[tuple[Task, dict[str, Any]]]:
        """Every metric of every sample that is there, and the floors beside them."""
        done = self.pool.run("scores", list(self._scores()), self.settings.workers)
        self.store.refresh()
        return done

    def _scores(self) -> Iterator[Task]:
        floors: dict[str, tuple[Job, dict[str, None]]] = {}
        beside = self.plan.metrics_of(floor=True)
        for job in self.plan.jobs():
            if job.kind != "sample" or not self.metrics[job.id]:
                continue
            if beside.get(job.id):
                floor = score.floor_job(job)
                floors.setdefault(floor.id, (floor, {}))[1].update(dict.fromkeys(beside[job.id]))
            record = self.found(job)
            if record is not None and record.status == "ok":
                yield from self._score(job, record, self.metrics[job.id])
        for floor, names in floors.values():
            yield from self._score(floor, None, list(names))

    def _score(self, job: Job, record: Record | None, names: Sequence[str]) -> Iterator[Task]:
        chosen = score.wanted(job, names)
        reference = self.found(score.reference_for(job)) if score.needs_reference(job, chosen) else None
        if reference is not None and reference.status != "ok":
            reference = None
        keys = {metric.name: score.key_of(metric, job, record, reference) for metric in chosen}
        missing = tuple(name for name, key in keys.items() if self._open(self.store.find(*key)))
        if missing:
            yield Task("score", job, SCORE_SECONDS, record, reference, missing)

    def timings(self) -> list[tuple[Task, dict[str, Any]]]:
        """What is measured in seconds, last and one at a time, while all other workers wait."""
        tasks = [Task("job", job, self.limits[job.id]) for job in self.plan.jobs() if job.kind in ALONE]
        done = self.pool.run("timing", self._possible(tasks), 1)
        self.store.refresh()
        return done


def work(lines: Iterable[bytes], store: Store, device: str, reply: Callable[[dict[str, Any]], None]) -> None:
    """The worker's loop: one task per line, one reply when its records are in the store. Raises UsageError."""
    scorer = score.Scorer(store, device)
    reply({"ready": os.getpid()})
    for line in lines:
        task, job = task_of(line)
        if task["kind"] == "score":
            reply(_scored(scorer, job, task))
            continue
        there = None if task.get("again") else store.find(job.id, provenance.made_of(job, provenance.place(device)))
        record = there if there is not None and there.status == "ok" else answered(job, device, store)
        evaluations = record.values.get("nfe", 0) * job.n if record.status == "ok" else 0
        reply({"status": record.status, "reason": record.reason, "seconds": record.seconds, "evaluations": evaluations})


def task_of(line: bytes) -> tuple[dict[str, Any], Job]:
    """The task of a line and its job. Raises UsageError where it is none."""
    try:
        task = json.loads(line)
        return {"kind": task["kind"], **task}, Job(**task["job"])  # KeyError where either is missing
    except (ValueError, KeyError, TypeError) as error:  # pydantic's are ValueErrors
        shown = line.decode(errors="replace").strip()[:80]
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise UsageError(f"task: {shown!r}, expected a line of JSON with kind and job ({why})") from None


def _scored(scorer: score.Scorer, job: Job, task: Mapping[str, Any]) -> dict[str, Any]:
    begun = time.perf_counter()
    record, reference = (Record.model_validate(task[name]) if task[name] else None for name in ("record", "reference"))
    written = scorer.score(job, record, reference, task["metrics"])
    bad = next((each for each in written if each.status != "ok"), None)
    status, reason = (bad.status, bad.reason) if bad else ("ok", "")
    return {"status": status, "reason": reason, "seconds": time.perf_counter() - begun, "scores": len(written)}


def leave_with(parent: int) -> None:
    """End this process, wherever it is, once `parent` is no longer its parent."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.25)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
