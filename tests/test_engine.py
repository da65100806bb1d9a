"""Runs that are killed, workers that die, jobs that hang: no record is lost, and no undisturbed record changes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import engine, run, score
from benchmarks.digests import ROOT
from benchmarks.jobs import job
from benchmarks.records import Store
from benchmarks.suites import Cell, Plan
from reference_impls import catalogue

SUITE = """
about = "Small jobs of every kind, enough of them to be killed among."
timeout_seconds = 60

[[select]]
name = "flow"
methods = { consumes = "mean", needs = [], variant = false }
targets = ["g3"]
paths = [["ve-edm", "power(7)"]]
nfe = [8]
adaptive = [{ rtol = 1e-2, atol = 1e-2 }]
n = 200
shards = 10
start = "exact"
metrics = ["flow_error", "sliced_w1"]

[[select]]
name = "tokens"
methods = { consumes = "ratio" }
targets = ["joint-3x3"]
paths = [["uniform-loglinear", "t"]]
steps = [4]
n = 200
shards = 10
metrics = ["token_tv"]

[[select]]
name = "bound"
kind = "likelihood"
methods = { consumes = "ratio" }
targets = ["joint-3x3"]
paths = [["uniform-loglinear", "t"]]
n = 20
shards = 2
"""
RUN_AND_SCORE = """
import sys
from benchmarks import cli
sys.exit(cli.code_of(["run", *sys.argv[1:]]) or cli.code_of(["score", *sys.argv[1:]]))
"""
KILLS = 5


def identities(folder: Path) -> set[tuple[str, str, str]]:
    store = Store(folder)
    assert store.problems == []
    found = store.records()
    assert all(record.status == "ok" for record in found), [r.reason for r in found if r.status != "ok"]
    for record in found:
        for name in record.artefacts:
            store.tensors(record, name)  # is there, and is what the record names
    return {record.identity for record in found}


def lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("records/*.jsonl"))


def begin(suite: Path, folder: Path, workers: int) -> subprocess.Popen:
    arguments = [str(suite), "--store", str(folder), "--workers", str(workers)]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN_AND_SCORE, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    _, said = process.communicate(timeout=250)
    assert process.returncode == 0, said


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
        except (OSError, ValueError):
            continue  # it ended while it was looked at
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, Path]:
    """(suite, store of a run by one worker that nobody disturbed)."""
    folder = tmp_path_factory.mktemp("engine")
    suite = folder / "killed.toml"
    suite.write_text(SUITE)
    finish(begin(suite, folder / "undisturbed", workers=1))
    return suite, folder / "undisturbed"


@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers through /proc")
def test_a_run_killed_again_and_again_ends_in_the_same_records(undisturbed, tmp_path):
    """SIGKILL to the run, or to one of its workers, at random moments between its first and its last record."""
    suite, calm = undisturbed
    whole, chance = lines(calm), random.Random(20240601)
    orphans: set[int] = set()
    for kill in range(KILLS):
        wanted = lines(tmp_path) + chance.randint(0, max(1, whole // KILLS))
        process = begin(suite, tmp_path, workers=2)
        while process.poll() is None and (lines(tmp_path) < wanted or (kill % 2 and not children(process.pid))):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.05)
        workers = children(process.pid) if process.poll() is None else []
        if kill % 2 and workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
            time.sleep(chance.random())
            workers = children(process.pid)
        process.kill()
        process.communicate()
        orphans |= set(workers)
    limit = time.monotonic() + 20
    while any(map(alive, orphans)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not any(map(alive, orphans)), "a worker outlived its run"
    finish(begin(suite, tmp_path, workers=2))
    assert identities(tmp_path) == identities(calm)
    assert not list(tmp_path.glob("artefacts/*/*.tmp")), "a draft was left behind"


def test_a_run_with_nothing_to_do_starts_nothing_and_writes_nothing(undisturbed):
    suite, calm = undisturbed
    before = {path: path.read_bytes() for path in calm.glob("records/*")}
    process = begin(suite, calm, workers=2)
    seen = set()
    while process.poll() is None:
        seen |= set(children(process.pid)) if Path("/proc").is_dir() else set()
        time.sleep(0.01)
    finish(process)
    assert not {pid for pid in seen if alive(pid)}
    assert {path: path.read_bytes() for path in calm.glob("records/*")} == before


# failures are results

FAULTS = """
import os, signal, time, dataclasses, torch
from reference_impls import catalogue
from reference_impls.core.types import Run

def crash(model, x, grid, *, process, draws): os.kill(os.getpid(), signal.SIGKILL)
def hang(model, x, grid, *, process, draws): time.sleep(1000)
def loud(model, x, grid, *, process, draws): print("not a reply"); return Run(x, 0.0)
def wrong(model, x, grid, *, process, draws): raise ValueError("eta: 7, expected less\\nand more")
def large(model, x, grid, *, process, draws): return Run(torch.empty(2**60), 0.0)
def lost(model, x, grid, *, process, draws): return Run(x * float("nan"), 1.0)
def leave(model, x, grid, *, process, draws): os._exit(7)

def install():
    like = catalogue.samplers()["song2020ddim.ddim"]
    for sample in (crash, hang, loud, wrong, large, lost, leave):
        id = "faulty." + sample.__name__
        catalogue.samplers()[id] = dataclasses.replace(like, id=id, sample=sample, reduces=())
    catalogue.modules()["faulty"] = "reference_impls.continuous.song2020ddim"
"""
FAULTY_WORKER = FAULTS + """
import sys
from benchmarks import cli
install()
sys.exit(cli.code_of(["work", *sys.argv[1:]]))
"""
ENDS = {
    "faulty.crash": ("failed", "signal 9"),
    "faulty.leave": ("failed", "exit code 7"),
    "faulty.hang": ("timeout", "not done after 2 s"),
    "faulty.wrong": ("failed", "ValueError: eta: 7, expected less ("),
    "faulty.large": ("oom", ""),
    "faulty.lost": ("nonfinite", "16 of 16 rows"),
    "faulty.loud": ("ok", ""),
    "song2020ddim.ddim": ("ok", ""),
}


@pytest.fixture
def faulty(monkeypatch):
    """The same cards here as in the workers."""
    names = {}
    exec(FAULTS, names)
    samplers, modules = catalogue.samplers(), catalogue.modules()
    before = dict(samplers), dict(modules)
    names["install"]()
    yield
    for now, then in zip((samplers, modules), before, strict=True):
        now.clear(), now.update(then)


def plan_of(*methods: str, seconds: float = 60.0, **changes) -> Plan:
    fields = dict(kind="sample", target="g3", process="vp-linear", grid="lam", steps=4, n=16, start="card")
    cells = tuple(
        Cell(job(**fields | changes, method=method), "t", None, (), 2.0 if method == "faulty.hang" else seconds)
        for method in methods
    )
    return Plan("faults", "", cells)


def settings_of(folder: Path, **changes) -> engine.Settings:
    command = [sys.executable, "-W", "ignore", "-c", FAULTY_WORKER]
    return engine.Settings(**dict(store=Store(folder), workers=2, command=command) | changes)


def test_a_worker_that_dies_or_hangs_loses_its_own_job_only(tmp_path, faulty, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = plan_of(*ENDS, *("song2020ddim.ddim",))
    with engine.Run(plan, settings_of(tmp_path)) as first:
        done = first.samples()
        found = {task.job.method: first.found(task.job) for task, _ in done}
    assert len(done) == len(ENDS)
    for method, (status, reason) in ENDS.items():
        record = found[method]
        assert record.status == status and reason in record.reason, (method, record.status, record.reason)
        assert "\n" not in record.reason and (status == "ok") == (record.reason == "")
        assert (status == "ok") == ("samples" in record.artefacts)
    assert Store(tmp_path).problems == []

    with engine.Run(plan, settings_of(tmp_path, keep_failed=True)) as kept:
        assert kept.samples() == []
    with engine.Run(plan_of("faulty.lost", "faulty.loud"), settings_of(tmp_path)) as again:
        assert [task.job.method for task, _ in again.samples()] == ["faulty.lost"], "failures are tried again"
    with engine.Run(plan_of("faulty.loud"), settings_of(tmp_path, again=True)) as again:
        assert len(again.samples()) == 1


def test_a_metric_that_fails_is_a_row_and_the_others_are_scored(tmp_path, monkeypatch):
    from benchmarks import metrics

    store = Store(tmp_path)
    question = plan_of("song2020ddim.ddim", shards=2, n=40, start="exact").cells[0].job
    record = run.answered(question, "cpu", store)
    for name, value in (("bad", float("nan")), ("huge", [4e56])):  # float32 ends at 3e38
        made = metrics.Metric(
            name=name, title="", unit="", better="lower", ideal=0.0, needs=frozenset({"exact_samples"}),
            score=lambda samples, context, name=name, value=value: {name: value},
        )  # fmt: skip
        monkeypatch.setitem(metrics.metrics(), name, made)
    monkeypatch.setattr(score, "_metric_parts", lambda name: "0" * 64)
    written = score.Scorer(store, "cpu").score(question, record, None, ["bad", "huge", "flow_error", "sliced_w1"])
    found = {each.score.metric: each for each in written}
    assert found["flow_error"].status == "ok"
    assert (found["bad"].status, found["sliced_w1"].status) == ("nonfinite", "failed")
    assert (found["huge"].status, found["huge"].values) == ("ok", {"huge": [4e56]})
    assert "20 shards" in found["sliced_w1"].reason


def test_workers_that_cannot_start_end_the_run_with_their_last_words(tmp_path):
    broken = [sys.executable, "-c", "raise SystemExit('no torch here')"]
    with pytest.raises(engine.EngineError, match="no torch here.*doctor"):
        with engine.Run(plan_of("song2020ddim.ddim"), settings_of(tmp_path, command=broken)) as first:
            first.samples()


def test_a_missing_checkpoint_is_a_skipped_row_without_a_worker(tmp_path, monkeypatch):
    from benchmarks import checkpoints

    def missing(name):
        raise checkpoints.BadCheckpoint(f"checkpoint: {name}.safetensors is missing")

    monkeypatch.setattr(checkpoints, "content_of", missing)
    trained = dict(model="digits-edm", target="digits", process="ve-edm", grid="power(7)", net_dtype="float32")
    plan = plan_of("song2020ddim.ddim", **trained)
    broken = settings_of(tmp_path, command=["/no/such/command"])
    for _ in range(2):
        with engine.Run(plan, broken) as first:
            assert first.samples() == []
            record = first.found(plan.jobs()[0])
        assert record.status == "skipped" and "is missing" in record.reason
    assert lines(tmp_path) == 1, "the same skip is written once"


def test_timing_comes_last_alone_and_belongs_to_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = plan_of("song2020ddim.ddim", "karras2022edm.heun", kind="timing")
    with engine.Run(plan, settings_of(tmp_path)) as first:
        assert first.samples() == []
        assert len(first.timings()) == 2 and len(first.pool.workers) == 1
        record = first.found(plan.jobs()[0])
        assert record.values["ratio"].blocks == 6 and record.place.threads == torch.get_num_threads() == 1
        assert first.timings() == []
    elsewhere = dict(record.made_of, place="0" * 64)
    assert Store(tmp_path).find(record.id, elsewhere) is None


def test_a_worker_runs_nothing_that_the_store_holds(tmp_path):
    """What makes any engine that feeds lines of jobs idempotent."""
    question = plan_of("song2020ddim.ddim").cells[0].job
    task = engine.Task("job", question, 60.0).line().replace(b'"again": true', b'"again": false')
    for expected in (1, 1):
        replies = []
        engine.work([task], Store(tmp_path), "cpu", replies.append)
        assert replies[0]["ready"] and replies[1]["status"] == "ok"
        assert lines(tmp_path) == expected
    engine.work([engine.Task("job", question, 60.0).line()], Store(tmp_path), "cpu", replies.append)
    assert lines(tmp_path) == 2


def test_labels_are_classified_whatever_was_scored_on_the_target_before(tmp_path):
    from benchmarks.score import Scorer

    shared = dict(kind="sample", target="digits", process="ve-edm", grid="power(7)", steps=4, n=40, shards=20)
    plain, labelled = (job(**shared, method=id, start="card") for id in ("song2020ddim.ddim", "ho2022cfg.2m"))
    scorer = Scorer(Store(tmp_path), "cpu")
    assert "classify" not in scorer._asked(plain) and scorer._shared(plain).classify is None
    asked = scorer._asked(labelled)
    images = torch.zeros(3, 1, 8, 8)
    assert asked["classify"](images).shape == (3,) and len(asked["labels"]) == 20
    assert scorer._asked(labelled)["classify"] is asked["classify"]  # loaded once


def test_a_likelihood_of_atoms_has_no_exact_value_beside_it():
    from benchmarks import run

    asked = job(
        kind="likelihood", method="ho2020ddpm.bound_small", target="digits", process="discrete-linear", n=2,
        options={"levels": 17, "steps": 5},
    )  # fmt: skip
    with torch.no_grad():
        values, _ = run.likelihood(asked, torch.device("cpu"))
    assert "log_p" in values and "log_p_exact" not in values
