"""Records and the store: nothing written is lost, nothing torn is read, and what counts is decided by rule."""

import json
import lzma
import os
import re

import pytest
import torch
from pydantic import ValidationError

from benchmarks import digests
from benchmarks.jobs import job
from benchmarks.records import Place, Record, Score, Store, StoreError, score_id
from benchmarks.statistics import Interval

PLACE = Place(device="cpu", hardware="abacus", threads=1, python="3.11", torch="2.6", platform="linux")


def asked(**changes):
    fields = dict(kind="sample", method="song2020ddim.ddim", target="g3", process="vp-linear", grid="lam", steps=4, n=8)
    return job(**fields | changes)


def record(status="ok", nfe=4.0, made_of=None, question=None, **changes):
    question = question or asked()
    fields = dict(
        id=question.id, kind=question.kind, job=question, made_of=made_of or {"method": "a" * 64}, status=status,
        values={"nfe": nfe} if status == "ok" else {}, reason="" if status == "ok" else "why", place=PLACE, seconds=0.1,
        commit="c", dirty=False, written="2025-01-01T00:00:00Z",
    )  # fmt: skip
    return Record(**fields | changes)


def lines_of(folder):
    return [path.read_bytes() for path in sorted(folder.glob("records/*.jsonl"))]


def test_packed_records_are_read_and_a_torn_pack_is_named(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "kept.jsonl.xz").write_bytes(lzma.compress(record().model_dump_json().encode() + b"\n"))
    assert [each.identity for each in Store(tmp_path).records()] == [record().identity]
    (folder / "kept.jsonl.xz").write_bytes(b"torn")
    store = Store(tmp_path)
    assert store.records() == [] and re.match(r"kept.jsonl.xz: cannot be unpacked \(.*\), ignored", store.problems[0])


def test_a_record_survives_json_exactly():
    interval = Interval(0.1 + 0.2, -1e-300, 1e300, 900, 0.95, "t over 20 shards", 20)
    one = record(values={"a": interval, "b": 1 / 3, "c": 7, "d": "device", "e": True, "f": [0.1, 5e-324]})
    again = Record.model_validate_json(one.model_dump_json())
    assert again == one and again.identity == one.identity
    assert [type(value) for value in again.values.values()] == [Interval, float, int, str, bool, list]
    shuffled = json.loads(one.model_dump_json())
    shuffled = {name: shuffled[name] for name in sorted(shuffled, reverse=True)}
    assert Record.model_validate(shuffled).identity == one.identity


def test_what_a_record_says_is_told_apart_from_when_and_where():
    one = record()
    there = PLACE.model_copy(update={"device": "cuda"})
    same = record(seconds=9.0, commit="d", dirty=True, written="2026-01-01T00:00:00Z", place=there)
    assert same.identity == one.identity
    assert record(nfe=5.0).identity != one.identity
    assert record(made_of={"method": "b" * 64}).identity != one.identity
    assert record("failed").identity == record("failed", reason="another").identity != one.identity


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [1.0, float("nan")]])
def test_no_number_that_is_not_finite_is_recorded(bad):
    with pytest.raises(ValidationError):
        record(values={"nfe": bad})
    with pytest.raises(ValueError):
        digests.canonical({"a": bad})


def test_a_line_that_was_edited_is_not_read(tmp_path):
    store = Store(tmp_path)
    store.append(record())
    path = next(tmp_path.glob("records/*.jsonl"))
    path.write_text(path.read_text().replace('"steps":4', '"steps":5'))
    again = Store(tmp_path)
    assert again.records() == [] and "edited" in again.problems[0]


def test_every_line_is_on_the_disk_when_append_returns(tmp_path):
    store = Store(tmp_path)
    for steps in range(1, 6):
        store.append(record(question=asked(steps=steps)))
        assert len(Store(tmp_path).records()) == steps
    assert len(lines_of(tmp_path)) == 1, "one file per process"


def test_a_torn_line_is_ignored_wherever_it_is_cut(tmp_path):
    store = Store(tmp_path)
    first, second = record(), record(question=asked(steps=5))
    store.append(first), store.append(second)
    path = next(tmp_path.glob("records/*.jsonl"))
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for cut in {start, start + 1, start + 100, len(whole) - 2, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        torn = Store(tmp_path)
        assert torn.records() == [first] and torn.problems == []
    path.write_bytes(whole[: start + 50] + b"\n" + whole[start:])
    broken = Store(tmp_path)
    assert broken.records() == [first, second], "a broken line in the middle loses no other line"
    assert len(broken.problems) == 1 and ":2:" in broken.problems[0]


def test_a_writer_after_a_torn_line_starts_a_file_of_its_own(tmp_path):
    Store(tmp_path).append(record())
    path = next(tmp_path.glob("records/*.jsonl"))
    path.write_bytes(path.read_bytes()[:-10])
    Store(tmp_path).append(record())
    assert Store(tmp_path).records() == [record()]


def test_the_first_that_is_ok_counts_and_else_the_last(tmp_path):
    store = Store(tmp_path)
    for one in (record("failed", reason="1"), record("timeout", reason="2")):
        store.append(one)
    assert Store(tmp_path).records()[0].reason == "2"
    for one in (record(seconds=3.0), record(seconds=4.0), record("failed", reason="5")):
        store.append(one)
    again = Store(tmp_path)
    assert [each.seconds for each in again.records()] == [3.0] and again.problems == []


def test_order_is_by_file_name_and_then_by_line(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for name, seconds in (("20250101T000002.0-1", 2.0), ("20250101T000001.0-9", 1.0)):
        (folder / f"{name}.jsonl").write_text(record(seconds=seconds).model_dump_json() + "\n")
    assert Store(tmp_path).records()[0].seconds == 1.0


def test_two_answers_to_one_question_are_reported(tmp_path):
    store = Store(tmp_path)
    store.append(record(nfe=4.0)), store.append(record(nfe=5.0)), store.append(record(made_of={"method": "b"}, nfe=6.0))
    again = Store(tmp_path)
    assert [each.values["nfe"] for each in again.records()] == [4.0, 6.0]
    assert len(again.problems) == 1 and again.problems[0].startswith("conflict")
    timed = asked(kind="timing")
    store.append(record(question=timed, nfe=1.0)), store.append(record(question=timed, nfe=2.0))
    assert len(Store(tmp_path).problems) == 1, "two times are no conflict"


def test_records_beside_are_read_and_never_written_nor_taken_for_a_run(tmp_path):
    Store(tmp_path / "reference").append(record())
    store = Store(tmp_path / "runs", beside=[tmp_path / "reference"])
    assert store.records() == [record()] and store.is_beside(record())
    assert store.find(asked().id, {"method": "a" * 64}) is None
    other = record(values={"nfe": 5.0})
    store.append(other)
    assert store.find(asked().id, {"method": "a" * 64}) == other and not store.is_beside(other)
    assert Store(tmp_path / "runs", beside=[tmp_path / "reference"]).records() == [other] and not store.problems
    (tmp_path / "runs").rename(tmp_path / "gone")
    store = Store(tmp_path / "runs", beside=[tmp_path / "reference"])
    store.append(record(question=asked(steps=5)))
    assert len(Store(tmp_path / "reference").records()) == 1 and len(Store(tmp_path / "runs").records()) == 1


def test_a_score_is_a_record_of_its_own():
    samples = record()
    score = Score(metric="ks", samples=samples.samples_digest)
    one = record(id=score_id(samples.job, score), kind="score", score=score)
    assert one.id != samples.id
    other = score_id(samples.job, Score(metric="ks", samples=record(made_of={"method": "b"}).samples_digest))
    assert other != one.id
    with pytest.raises(ValidationError):
        record(kind="score", score=score)


# artefacts


def test_an_artefact_is_named_by_its_bytes(tmp_path):
    store = Store(tmp_path)
    x = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    first, again = store.save({"x": x, "w": x[:, 0]}), store.save({"w": x[:, 0].clone(), "x": x.clone()})
    assert first == again and len(list(tmp_path.glob("artefacts/*/*"))) == 1
    assert digests.file_digest(tmp_path / first.file) == first.sha256
    one = record(artefacts={"samples": first})
    assert torch.equal(store.tensors(one)["x"], x) and store.tensors(one)["x"].dtype == torch.float64
    assert store.save({"x": x + 1}).sha256 != first.sha256


def test_an_artefact_that_is_not_what_its_record_names_is_refused(tmp_path):
    store = Store(tmp_path)
    one = record(artefacts={"samples": store.save({"x": torch.zeros(3)})})
    path = tmp_path / one.artefacts["samples"].file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="sha256"):
        store.tensors(one)
    assert store.save({"x": torch.zeros(3)}) == one.artefacts["samples"], "written again over the broken file"
    assert torch.equal(store.tensors(one)["x"], torch.zeros(3))
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        store.tensors(one)


def test_the_artefact_is_there_before_the_line_that_names_it(tmp_path, monkeypatch):
    """Killed between the two, a store has a file that nothing names; never a line that names no file."""
    order = []
    replace, write = os.replace, os.write
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("artefact"), replace(a, b))[1])
    monkeypatch.setattr(os, "write", lambda f, data: (order.append("line"), write(f, data))[1])
    store = Store(tmp_path)
    store.append(record(artefacts={"samples": store.save({"x": torch.zeros(3)})}))
    assert order == ["artefact", "line"]


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    folder = tmp_path / "artefacts" / "ab"
    folder.mkdir(parents=True)
    dead, living = folder / f"abc.{2**22 + 1}.tmp", folder / f"abd.{os.getpid()}.tmp"
    dead.touch(), living.touch()
    Store(tmp_path).prepare()
    assert not dead.exists() and living.exists()


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    for attempt in (Store.prepare, lambda store: store.append(record())):
        with pytest.raises(StoreError, match="file cannot be written .*--store"):
            attempt(Store(tmp_path / "file"))
