"""Tables: every number is that of a record, in each of the four faces; failures are words; nothing is lost in print."""

import csv
import io
from dataclasses import replace

import pytest

from benchmarks.jobs import Job
from benchmarks.records import Place, Record, Score, score_id
from benchmarks.statistics import Interval
from benchmarks.tables import files, kinds, views
from benchmarks.tables.cells import cells, counting
from benchmarks.tables.table import Cell, Column, Row, Table, interval, number, ranked

PLACE = Place(device="cpu", hardware="a processor", threads=1, python="3.11", torch="2.13", platform="linux")
DDIM, HEUN = "song2020ddim.ddim", "karras2022edm.heun"
HOW = "t on the jackknife over 20 shards"


def job(method=DDIM, steps=10, **fields):
    given = dict(kind="sample", method=method, target="digits", process="ve-edm", model="a-net", grid="power(7)",
                 steps=steps, n=900, shards=20, start="card", dtype="float32", net_dtype="float32")  # fmt: skip
    return Job(**{**given, **fields})


def record(asked, *, score=None, written="2026-01-01T00:00:00Z", **fields):
    given = dict(made_of={"method": "1"}, status="ok", values={}, place=PLACE, seconds=1.0, commit="c", dirty=False)
    id = asked.id if score is None else score_id(asked, score)
    kind = asked.kind if score is None else "score"
    return Record(id=id, kind=kind, job=asked, score=score, written=written, **{**given, **fields})


def scored(asked, value, *, nfe=10.0, metric="frechet", **fields):
    """A sample record and the score of these samples."""
    sample = record(asked, values={"nfe": nfe, "vjps": 0.0}, **fields)
    score = Score(metric=metric, samples=sample.samples_digest)
    values = {metric: Interval(value, value - 0.2, value + 0.2, 900, 0.95, HOW, 20)}
    return [sample, record(asked, score=score, values=values, **fields)]


MEASURE = views.Measure("frechet", "Frechet distance", "", "lower", 0.0, frozenset({"features"}), "frechet")


def by_budget(records):
    return views.by_budget(cells(records), MEASURE, id="t", title="T", caption="Of what.")


def entries(table):
    return {row.labels[0]: [cell.text for cell in row.cells] for row in table.rows}


def test_a_cell_is_what_its_record_says():
    table = by_budget(scored(job(), 3.25))
    assert entries(table)[DDIM] == ["3.25 [3.05, 3.45]"]
    changed = by_budget(scored(job(), 4.5))
    assert entries(changed)[DDIM] == ["4.50 [4.30, 4.70]"]
    assert table.digest != changed.digest and table.id == changed.id
    assert table.rows[0].cells[0].record == scored(job(), 3.25)[1].id


def test_every_number_of_a_csv_names_its_record():
    records = scored(job(), 3.25) + scored(job(HEUN, 10), 2.5, nfe=19.0)
    rows = list(csv.DictReader(line for line in files.as_csv(by_budget(records)).splitlines() if line[0] != "#"))
    by_id = {r.id[:12]: r for r in records}
    found = 0
    for row in rows:
        for budget in (10, 20):
            if row[f"nfe_{budget}"]:
                value = by_id[row[f"nfe_{budget}_record"]].values["frechet"]
                assert float(row[f"nfe_{budget}"]) == value.estimate
                assert float(row[f"nfe_{budget}_low"]) == value.low
                assert float(row[f"nfe_{budget}_high"]) == value.high
                assert int(row[f"nfe_{budget}_n"]) == value.n
                found += 1
    assert found == 3  # DDIM's ten evaluations stand under twenty too


def test_a_budget_holds_the_largest_metered_nfe_and_prints_it():
    table = by_budget(scored(job(HEUN, 10), 2.5, nfe=19.0) + scored(job(HEUN, 8), 2.9, nfe=15.0))
    assert entries(table)[HEUN] == ["2.50 [2.30, 2.70] (NFE 19)"]


def test_a_method_of_fewer_evaluations_is_ranked_under_every_larger_budget():
    """NFE 8 with the better value against NFE 16: of 20 evaluations both are within the budget."""
    records = scored(job(steps=8), 1.0, nfe=8.0) + scored(job(HEUN, 8), 9.0, nfe=16.0)
    table = by_budget(records)
    assert [column.title for column in table.columns] == ["NFE up to 10", "NFE up to 20"]
    assert entries(table)[DDIM] == ["1.00 [0.80, 1.20] (NFE 8)"] * 2 and entries(table)[HEUN][0] == ""
    assert [row.cells[1].mark for row in table.rows] == ["", "best"]  # HEUN's row comes first
    table = views.by_metric(cells(records), [MEASURE], 20, id="t", title="T", caption="")
    assert entries(table)[DDIM] == ["8", "1.00 [0.80, 1.20]"]
    assert [row.cells[1].mark for row in table.rows] == ["", "best"]


def test_a_row_of_metrics_is_about_one_nfe():
    """The Frechet distance was asked of 10 and 19 evaluations, the kernel distance of 10 alone."""
    kid = views.Measure("kid", "Kernel distance", metric="kid")
    ten = scored(job(HEUN, 5), 2.9) + scored(job(HEUN, 5), 0.5, metric="kid")[1:]
    frame = cells(ten + scored(job(HEUN, 10), 2.5, nfe=19.0))
    table = views.by_metric(frame, [MEASURE, kid], 20, id="t", title="T", caption="")
    assert entries(table)[HEUN] == ["19", "2.50 [2.30, 2.70]", ""]


def test_a_budget_that_buys_nobody_more_has_no_column():
    frame = cells(scored(job(), 3.25) + scored(job(HEUN, 50), 2.5, nfe=50.0))
    assert views.asked_of(frame) == [10, 50] and views.asked_of(frame, (9, 200)) == [200]


def test_failed_samples_stand_as_words_in_the_row_where_their_number_would():
    failed = record(job(HEUN, 10), status="timeout", reason="no answer within 120 s")
    frame = cells([*scored(job(), 3.25), failed], declared=lambda asked: 19.0)
    table = views.by_budget(frame, MEASURE, id="t", title="T", caption="")
    assert entries(table)[HEUN] == ["", "timeout"]
    assert table.failures == [(HEUN, "NFE up to 20", "timeout", "no answer within 120 s")]
    assert (
        "timeout" in files.as_csv(table)
        and "timeout" in files.as_markdown(table)
        and "timeout" in files.as_latex(table)
    )
    long = views.long(frame, [MEASURE], id="t", title="T", caption="")
    assert entries(long)[HEUN] == ["10", "19", "timeout"]


def test_a_failed_score_is_shown_beside_the_metrics_that_have_numbers():
    sample, score = scored(job(), 3.25)
    failed = record(job(), score=Score(metric="kid", samples=sample.samples_digest), status="failed", reason="why")
    kid = views.Measure("kid", "Kernel distance", metric="kid")
    table = views.by_metric(cells([sample, score, failed]), [MEASURE, kid], 10, id="t", title="T", caption="")
    assert entries(table)[DDIM] == ["10", "3.25 [3.05, 3.45]", "failed"]


def test_the_noise_floor_is_a_row_that_is_never_ranked():
    floor = Job(kind="floor", method="target", target="digits", n=900, shards=20)
    of_truth = record(floor, score=Score(metric="frechet", samples="none"), values={"frechet": 0.5})
    table = by_budget([*scored(job(), 3.0), *scored(job(HEUN), 9.0), of_truth])
    assert [row.kind for row in table.rows] == ["", "", "floor"]
    assert [row.cells[0].mark for row in table.rows] == ["", "best", ""]  # HEUN's row comes first


def test_only_the_latest_record_of_a_question_and_the_scores_of_its_samples_count():
    old = scored(job(), 9.0)
    new = scored(job(), 3.0, made_of={"method": "2"}, written="2026-01-02T00:00:00Z")
    for order in (old + new, new + old, [old[1], new[1], new[0], old[0]]):
        frame = cells(counting(order))
        assert list(frame[frame.value == "frechet"].estimate) == [3.0]
    assert list(cells(counting(old + new, lambda r: r.made_of["method"] == "1")).estimate.dropna()) == [10.0, 0.0, 9.0]


def test_cells_do_not_depend_on_the_order_of_records():
    records = [r for k in range(1, 6) for r in scored(job(steps=k), 3.0 + k, nfe=float(k))]
    assert cells(records).equals(cells(records[::-1]))


def test_adaptive_methods_make_one_series_of_all_their_tolerances():
    dopri = "lipman2022fm.dopri5"
    records = [
        r for nfe, tolerance in ((20.0, 1e-2), (48.0, 1e-3))
        for r in scored(job(dopri, 1, options={"rtol": tolerance}), 3.0, nfe=nfe)
    ]  # fmt: skip
    frame = cells(records, adaptive=frozenset({dopri}))
    assert {label: len(points) for label, points in views.series(frame, "frechet", "nfe").items()} == {dopri: 2}
    assert set(frame.label) == {f"{dopri} rtol=0.01", f"{dopri} rtol=0.001"}


@pytest.mark.parametrize(
    "given, printed",
    [
        ((3.254, 3.05, 3.4567), "3.25 [3.05, 3.46]"),
        ((0.5, 0.4, 9.0), "0.50 [0.40, 9.00]"),
        ((1234.5, 1100.0, 1400.0), "1230 [1100, 1400]"),
        ((3.2e-5, 3.1e-5, 3.4e-5), "3.20 [3.10, 3.40] e-5"),
        ((2.0, 2.0, 2.0), "2 [2, 2]"),
        ((0.25, None, None), "0.25"),
    ],
)
def test_intervals_are_printed_to_two_digits_of_their_shorter_side(given, printed):
    assert interval(*given) == printed


@pytest.mark.parametrize(
    "value, printed",
    [(20, "20"), (20.0, "20"), (0.12345, "0.1235"), (1.2345e-5, "1.23e-5"), (52842.3, "52840"), (float("nan"), "nan")],
)
def test_numbers_without_interval_are_printed_to_four_digits(value, printed):
    assert number(value) == printed


def made(*cells_of_a_column, better="lower"):
    rows = tuple(Row((f"m{k}",), (cell,)) for k, cell in enumerate(cells_of_a_column))
    return Table("id", "Title", "Caption.", ("Method",), (Column("x", "X", better=better),), rows)


def test_best_and_tied_best_are_marked_and_failures_never_are():
    cell = Cell(1.0, 0.9, 1.1, 900, 20, 0.95, "t over 20 shards")
    near, far = replace(cell, value=1.05, low=0.95, high=1.15), replace(cell, value=9.0, low=8.9, high=9.1)
    table = ranked(made(cell, near, far, Cell(status="oom")))
    assert [row.cells[0].mark for row in table.rows] == ["best", "tied", "", ""]
    higher = ranked(made(cell, replace(cell, value=9.0, low=8.9, high=9.1), better="higher"))
    assert [row.cells[0].mark for row in higher.rows] == ["", "best"]


def test_no_face_of_a_table_lets_a_hostile_string_out():
    evil = 'a|b & c_d $x$ 100% \\input{/etc} <script>alert("1")</script>\nnext'
    table = replace(made(Cell(evil), Cell(status="failed", reason=evil)), title=evil, caption=evil)
    latex = files.as_latex(table, {"store": evil})
    body = [line for line in latex.splitlines() if not line.startswith("%")]
    assert not any("\\input{" in line or " & c_d" in line or "$x$" in line or " 100% " in line for line in body)
    assert all(line.startswith("%") for line in latex.splitlines()[:3])
    assert "<script>" not in files.as_markdown(table).replace("\\<", "")
    rows = list(csv.reader(io.StringIO(files.as_csv(table).split("digest", 1)[1].split("\n", 1)[1])))
    assert rows[1][1] == evil


def test_the_same_table_gives_the_same_files_with_its_provenance(tmp_path):
    table = by_budget(scored(job(), 3.25))
    first = {k: p.read_bytes() for k, p in files.write(table, tmp_path / "a", {"store": "s"}).items()}
    second = {k: p.read_bytes() for k, p in files.write(table, tmp_path / "b", {"store": "s"}).items()}
    assert first == second and set(first) == {"csv", "md", "tex"}
    assert all(table.digest.encode() in text for text in first.values())
    assert b"\\toprule" in first["tex"] and b"3.25 [3.05, 3.45]" in first["tex"]


def test_small_numbers_in_latex_are_powers_of_ten():
    assert files.latex("1.23e-5") == "1.23$\\times 10^{-5}$"


def test_the_said_n_and_interval_method_are_those_of_the_cells():
    table = by_budget(scored(job(), 3.25))
    assert table.said_of_intervals == ("n = 900 per estimate.", f"Intervals: 95 %, {HOW}.")
    cells_ = [replace(table.rows[0].cells[0], n=n) for n in (897, 900)]
    several = replace(table, rows=tuple(Row((label,), (cell,)) for label, cell in zip("ab", cells_, strict=True)))
    assert several.said_of_intervals[0] == "n per estimate: NFE up to 10: 897, 900."


def test_rates_at_other_nfe_are_computed_from_the_timed_cell_and_carry_its_ratio_s_interval():
    asked = job(kind="timing", n=16)
    values = {
        "nfe": 20.0, "batch": 16, "ratio": Interval(1.25, 1.0, 2.5, 6, 0.95, "order statistics 1 of 6", 6),
        "anchor_seconds_per_sample": 0.008, "seconds_per_sample": 0.01, "samples_per_second": 100.0,
    }  # fmt: skip
    table = kinds.speeds(cells([record(asked, values=values)]), "s", "Speed")
    row = dict(zip([c.name for c in table.columns], table.rows[0].cells, strict=True))
    assert (row["samples_per_second"].low, row["samples_per_second"].high) == (50.0, 125.0)
    assert row["computed_5"].value == 400.0 and row["computed_50"].value == 40.0
    assert "computed" in table.columns[-1].title


def test_bits_per_character_are_nats_over_length_and_log_2():
    from math import log

    asked = Job(
        kind="likelihood", method="lou2024sedd.bound", target="characters", process="absorbing-loglinear", n=200
    )
    values = {
        "n": 200,
        "dimensions": 64,
        "log_p": Interval(-64 * log(2), -80.0, -40.0, 200, 0.95, "t over 10 shards", 10),
    }
    table = kinds.likelihoods(cells([record(asked, values=values)]))
    bits = table.rows[0].cells[1]
    assert bits.value == pytest.approx(1.0) and bits.low < 1 < bits.high
