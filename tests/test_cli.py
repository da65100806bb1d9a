"""The command line: what it prints, its exit codes, and that a mistake is one line and never a traceback."""

import importlib.metadata
import json
import re

import pytest

from benchmarks import cli, doctor, engine, listings, records, suites
from benchmarks.jobs import UsageError
from reference_impls import catalogue

TINY = """
about = "As little as can be run."

[[select]]
name = "flow"
methods = ["song2020ddim.ddim", "song2020ddim.stochastic"]
targets = ["g3"]
paths = [["vp-linear", "lam"]]
steps = [3, 6]
n = 40
shards = 20
start = "exact"
metrics = ["flow_error"]
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def said(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    code = cli.code_of(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


MISTAKES = {
    "command": (["rum"], "rum"),
    "flag": (["run", "--wrokers", "2"], "--wrokers"),
    "suite": (["run", "defualt"], "suite: 'defualt' is not known; expected one of default"),
    "suite file": (["plan", "/no/such.toml"], "suite"),
    "only": (["plan", "smoke", "--only", "nothing*"], "only: 'nothing*'"),
    "dtype": (["plan", "smoke", "--dtype", "float8"], "dtype: 'float8'"),
    "device": (["run", "smoke", "--device", "gpu"], "device: 'gpu', expected 'cpu'"),
    "device of a check": (["check", "song2020ddim.ddim", "--device", "gpu"], "device: 'gpu', expected 'cpu'"),
    "device of a training": (["lock", "train", "ring-flow", "--device", "gpu"], "device: 'gpu', expected 'cpu'"),
    "device of a worker": (["work", "--device", "gpu"], "device: 'gpu', expected 'cpu'"),
    "workers": (["run", "smoke", "--workers", "0"], "'--workers': '0', expected an integer >= 1"),
    "workers, no number": (["run", "smoke", "--workers", "many"], "'many', expected an integer >= 1"),
    "listing": (["list", "mehtods"], "what: 'mehtods' is not known; expected one of methods"),
    "claim": (["claims", "nobody/knows"], "claim: 'nobody/knows'"),
    "paper of claims": (["claims", "lou2024sed"], "claim: 'lou2024sed' is not known; expected one of lou2024sedd,"),
    "recipe": (["lock", "train", "digits-edn"], "digits-edn"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(name, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RUNS", tmp_path)
    arguments, part = MISTAKES[name]
    code, out, err = said(capsys, *arguments)
    assert code == 2 and part in err, (code, out, err)
    assert err.count("\n") == 1 and err.startswith("trilemma: ") and "Traceback" not in err


def test_a_suite_is_called_like_its_file(tmp_path, capsys):
    (tmp_path / "bad.toml").write_text('name = "x"\nabout = "y"\n')
    code, _, err = said(capsys, "plan", str(tmp_path / "bad.toml"))
    assert code == 2 and err == "trilemma: suite: bad.toml: name: 'x', a suite is called like its file; leave it out\n"


@pytest.mark.parametrize("line", [b'{"bad\n', b"3\n", b'{"kind": "job"}\n', b'{"kind": "job", "job": {"kind": "?"}}\n'])
def test_what_is_no_task_is_a_mistake(line):
    with pytest.raises(UsageError, match="expected a line of JSON with kind and job"):
        engine.task_of(line)


def test_a_task_is_read_with_its_job(tiny):
    job = suites.plan(suites.named(tiny)).jobs()[0]
    task = {"kind": "job", "job": job.asked}
    assert engine.task_of(json.dumps(task).encode() + b"\n") == (task, job)


def test_an_empty_store_is_said_and_none_is_made_to_read(tiny, tmp_path, capsys, monkeypatch):
    from benchmarks import report

    monkeypatch.setattr(report, "build", lambda *given, **more: tmp_path / "index.html")
    code, out, err = said(capsys, "report", tiny, "--store", str(tmp_path / "store"))
    assert code == 0 and out.endswith("index.html\n") and f"has no record of {tiny}" in err and err.count("\n") == 1
    code, _, _ = said(capsys, "claims", "lou2024sedd", "--store", str(tmp_path / "none"))
    assert code == 0 and not (tmp_path / "none").exists()


def test_a_part_of_a_suite_is_kept_with_a_warning(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(records, "REFERENCE", tmp_path / "reference")
    store = ["--store", str(tmp_path / "store")]
    assert said(capsys, "run", tiny, *store, "--workers", "1", "--only", "*.ddim")[0] == 0
    code, out, err = said(capsys, "keep", tiny, *store)
    assert code == 0 and ": 2 records, " in out and " bytes" in out
    assert f"has no record of 2 of 4 jobs of {tiny}: what was kept is a part" in err


def test_an_error_of_ours_is_not_dressed_up_as_a_mistake(monkeypatch):
    monkeypatch.setattr(suites, "named", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.code_of(["plan", "smoke"])


def test_an_unwritable_store_is_one_line(tiny, tmp_path, capsys):
    (tmp_path / "file").touch()
    code, _, err = said(capsys, "run", tiny, "--store", str(tmp_path / "file" / "below"))
    assert code == 2 and err.count("\n") == 1 and "cannot be written" in err, err


@pytest.mark.parametrize("what", listings.kinds())
def test_list_shows_what_there_is(what, capsys):
    code, out, _ = said(capsys, "list", what, "--json")
    rows = json.loads(out)
    assert code == 0 and rows and len({json.dumps(row) for row in rows}) == len(rows)
    code, text, _ = said(capsys, "list", what)
    assert code == 0 and all(str(next(iter(row.values()))) in text for row in rows)


def test_list_finds_every_method(capsys):
    assert {row["id"] for row in json.loads(said(capsys, "list", "--json")[1])} == set(catalogue.samplers())


def test_plan_says_what_would_be_run(tiny, capsys):
    code, out, _ = said(capsys, "plan", tiny, "--json")
    plan = json.loads(out)
    made = suites.plan(suites.named(tiny))
    assert code == 0 and plan["digest"] == made.digest
    assert [cell["id"] for cell in plan["cells"]] == [job.id for job in made.jobs()]
    assert "4 jobs in 4 cells" in said(capsys, "plan", tiny)[1]
    assert "2 jobs in 2 cells" in said(capsys, "plan", tiny, "--only", "*.stochastic")[1]
    assert "4 jobs in 4 cells" in said(capsys, "plan", tiny, "--only", "song2020ddim")[1]


def test_networks_in_bfloat16_are_other_jobs_and_exact_ones_are_not():
    plain = suites.plan(suites.named("smoke"))
    half = suites.plan(suites.named("smoke"), net_dtype="bfloat16")
    for before, after in zip(plain.cells, half.cells, strict=True):
        trained = before.job.model != "exact"
        assert (before.job.id != after.job.id) == trained == (after.job.net_dtype == "bfloat16")


def test_from_a_run_to_its_scores(tiny, tmp_path, capsys):
    """Run, score, run again: the second run has nothing to do. Rows that fail leave the exit code 0."""
    store = ["--store", str(tmp_path / "store"), "--json"]
    code, out, err = said(capsys, "run", tiny, *store, "--workers", "1")
    first = json.loads(out)
    assert code == 0 and first["jobs"] == {"ok": 4} and first["done"] == {"jobs": {"ok": 4}}, err
    assert first["evaluations"] == 2 * (3 + 6) * 40
    code, out, _ = said(capsys, "score", tiny, *store, "--workers", "1")
    assert code == 0 and json.loads(out)["done"] == {"scores": {"ok": 3}}, "two of DDIM and their floor"
    made = records.Store(tmp_path / "store").records()
    errors = {record.job.steps: record.values["flow_error"] for record in made if record.score and record.job.steps}
    assert 0 < errors[6] < errors[3]
    code, out, _ = said(capsys, "run", tiny, *store)
    assert code == 0 and json.loads(out)["done"] == {} and json.loads(out)["jobs"] == {"ok": 4}


def test_what_is_kept_is_read_again_packed_or_plain(tiny, tmp_path, capsys, monkeypatch):
    """The same records with and without claims: text beside every store, or packed in a folder of the suite's own."""
    monkeypatch.setattr(records, "REFERENCE", tmp_path / "reference")
    store = ["--store", str(tmp_path / "store"), "--json"]
    code, _, err = said(capsys, "keep", tiny, *store)
    assert code == 2 and err.count("\n") == 1 and "has no current record of" in err
    for command in ("run", "score"):
        assert said(capsys, command, tiny, *store, "--workers", "1")[0] == 0
    made = {record.identity for record in records.Store(tmp_path / "store").records()}
    code, out, _ = said(capsys, "keep", tiny, *store)
    row = json.loads(out)
    assert code == 0 and row["records"] == len(made) == 7 and row["jobs without a record"] == 0
    assert row["file"].endswith("reference/tiny/records/tiny.jsonl.xz")
    assert {record.identity for record in records.Store(tmp_path / "reference" / "tiny").records()} == made
    (tmp_path / "tiny.toml").write_text('claims = ["C"]\n' + TINY)
    code, out, _ = said(capsys, "keep", tiny, *store)
    assert code == 0 and json.loads(out)["file"].endswith("reference/records/tiny.jsonl")
    assert {record.identity for record in records.Store(tmp_path / "reference").records()} == made


def test_failed_rows_are_told_and_leave_the_exit_code_0(tiny, tmp_path, capsys, monkeypatch):
    from benchmarks import run

    store = records.Store(tmp_path / "store")
    for job in suites.plan(suites.named(tiny)).jobs():
        store.append(run.record_of(job, "cpu", status="timeout", reason="not done after 1 s", seconds=1.0))
    code, out, _ = said(capsys, "run", tiny, "--keep-failed", "--store", str(tmp_path / "store"))
    assert code == 0 and "4 timeout" in out and "(and 3 more): not done after 1 s" in out


def test_progress_is_silent_without_a_terminal(tiny, tmp_path, capsys):
    code, out, err = said(capsys, "run", tiny, "--store", str(tmp_path), "--workers", "1", "--only", "*.ddim")
    assert code == 0 and err == "" and len(out.splitlines()) == 2
    assert re.search(r"plan \d+\.\d s, jobs \d+\.\d s", out)


# doctor


def test_doctor_recognises_builds_of_torch_and_torchvision_that_do_not_match(monkeypatch):
    error = "RuntimeError: operator torchvision::nms does not exist"
    found = {"torch": "2.6.0+cpu", "torchvision": "0.21.0"}
    monkeypatch.setattr(importlib.metadata, "version", found.__getitem__)
    (row,) = doctor.torch_and_vision(lambda module: (False, error))
    assert row["verdict"] == "bad" and "2.6.0+cpu" in row["says"] and "0.21.0" in row["says"]
    assert "pip install --force-reinstall torch torchvision" in row["says"]
    (other,) = doctor.torch_and_vision(lambda module: (False, "ModuleNotFoundError: No module named 'torchvision'"))
    assert other["verdict"] == "bad" and "No module" in other["says"] and "force-reinstall" not in other["says"]
    (good,) = doctor.torch_and_vision(lambda module: (True, ""))
    assert good["verdict"] == "ok"


def test_doctor_looks_at_everything_and_its_exit_code_says_whether_all_is_well(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "importing", lambda module: (True, ""))
    code, out, _ = said(capsys, "doctor", "--json")
    rows = {row["what"]: row for row in json.loads(out)}
    assert {"python", "torch", "device", "disk", "checkpoints.lock", "torch with torchvision"} <= set(rows)
    assert code == int(any(row["verdict"] == "bad" for row in rows.values()))


def test_lock_verify_fails_where_a_file_is_not_what_is_pinned(capsys, monkeypatch):
    from benchmarks import checkpoints

    bad = checkpoints.Verdict("digits-edm", False, "checkpoint: digits-edm.safetensors has sha256 aa, expected bb")
    monkeypatch.setattr(checkpoints, "verify", lambda: [bad])
    code, out, _ = said(capsys, "lock", "verify", "--json")
    assert code == 1 and json.loads(out)[0]["says"] == bad.says
    assert "BAD" in said(capsys, "lock", "verify")[1]
    monkeypatch.setattr(checkpoints, "verify", lambda: [bad._replace(ok=True), bad._replace(ok=None)])
    code, out, _ = said(capsys, "lock", "verify")
    assert code == 0 and [line.split("\t")[1] for line in out.splitlines()] == ["ok", "not here"]
