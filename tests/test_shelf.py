"""The solver shelf's pages and the referee's sections: what is said of records, and of records that are not there."""

import math
import re

import pytest

import benchmarks.report as report
from benchmarks import suites
from benchmarks.jobs import Job, UsageError, job
from benchmarks.records import Place, Record, Score, Store, score_id
from benchmarks.report import choices, solvers
from benchmarks.statistics import Interval
from benchmarks.suites import Suite, plan
from benchmarks.tables.table import Cell
from reference_impls import catalogue

PLACE = Place(device="cpu", hardware="a processor", threads=1, python="3.11", torch="2.13", platform="linux")
FIRST, SECOND, NOISY = "song2020ddim.ddim", "lu2022dpmsolverpp.2m", "song2020ddim.stochastic"
EXACT = {"flow_error": 1e-14, "flow_error_max": 1e-14}


def add(store, asked, *, score=None, **fields):
    given = dict(made_of={"method": "1"}, status="ok", place=PLACE, seconds=1.0, commit="c0ffee", dirty=False)
    id, kind = (asked.id, asked.kind) if score is None else (score_id(asked, score), "score")
    written = "2026-01-01T00:00:00Z"
    return store.append(Record(id=id, kind=kind, job=asked, score=score, written=written, **{**given, **fields}))


def cell(store, method, steps, values):
    asked = Job(kind="sample", method=method, target="g3", process="ve-edm", grid="power(7)", steps=steps, n=40,
                shards=4, start="exact")  # fmt: skip
    sample = add(store, asked, values={"nfe": float(steps), "vjps": 0.0})
    metric = next(iter(values))
    add(store, asked, score=Score(metric=metric, samples=sample.samples_digest), values=values)


def errors(order, steps):
    """Errors C steps^-order of four shards, whose constants differ."""
    each = [c * steps**-order for c in (0.9, 1.0, 1.1, 1.2)]
    return {"flow_error": sum(each) / 4, "flow_error_max": max(each), "flow_error_by_shard": each}


@pytest.fixture
def shelf(tmp_path):
    store = Store(tmp_path / "store")
    for steps in (6, 12, 24, 48, 96):
        cell(store, FIRST, steps, errors(1.0, steps))
        cell(store, SECOND, steps, errors(2.0, steps) if steps < 96 else EXACT)
        cell(store, NOISY, steps, {"sliced_w1": Interval(1 / steps, 0.9 / steps, 1.1 / steps, 40, 0.95, "t", 4)})
    store.close()
    asked = Suite(name="solvers", about="x", select=[{
        "name": "solvers", "methods": [FIRST, SECOND, NOISY], "targets": ["g3"], "paths": [["ve-edm", "power(7)"]],
        "nfe": [6, 12, 24, 48, 96], "n": 40, "shards": 4, "start": "exact",
    }])  # fmt: skip
    report.build(store.folder, tmp_path / "reports", plan=plan(asked), current=None, findings=())
    return tmp_path


def test_a_page_for_each_target_says_measured_orders_and_walls(shelf):
    page = (shelf / "reports" / "solvers-g3-ve-edm.html").read_text()
    assert "first order" in page and "second order" in page and "with noise" in page
    orders = (shelf / "store" / "tables" / "g3-ve-edm-orders.csv").read_text()
    for method, order in ((FIRST, 1.0), (SECOND, 2.0)):
        line = next(line for line in orders.splitlines() if line.startswith(method))
        declared, measured = line.split(",")[1:3]
        assert float(declared) == order and float(measured) == pytest.approx(order)
    table = (shelf / "store" / "tables" / "g3-ve-edm-grid-power-7-flow-error.csv").read_text()
    assert "wall" in next(line for line in table.splitlines() if line.startswith(SECOND))
    assert "wall" not in next(line for line in table.splitlines() if line.startswith(FIRST))


def test_orders_are_read_above_the_wall_and_have_an_interval_over_shards():
    import pandas as pd

    rows = pd.DataFrame(
        [dict(value="flow_error", label=FIRST, steps=s, estimate=s**-2.0, job=f"j{s}") for s in (8, 16, 32, 64)]
    )
    shards = {f"j{s}": [c * s**-2.0 * (1 + 0.01 * k) for k, c in enumerate((1.0, 2.0, 3.0))] for s in (8, 16, 32, 64)}
    shards["j64"] = [1e-9, 1e-9, 1e-9]
    found = solvers.slopes(shards, rows, wall=32**-2.0 / 1.5)[FIRST]
    assert "16 to 32 steps" in found.method and found.low <= 2.0 <= found.high and found.n == 3
    assert solvers.slopes(shards, rows, wall=1.0) == {}


def errors_of(*methods):
    """Rows and shards of (series, NFE, errors by shard)."""
    import pandas as pd

    rms = [math.sqrt(sum(e * e for e in each) / len(each)) for _, _, each in methods]
    rows = pd.DataFrame([
        dict(series=name, method=name, job=name, nfe=float(nfe), status="ok", reason="", record="r", estimate=e,
             low=None, high=None, n=None, blocks=None, level=None, how=None)
        for (name, nfe, _), e in zip(methods, rms, strict=True)
    ])  # fmt: skip
    return rows, {name: each for name, _, each in methods}


def test_the_best_at_a_budget_is_named_with_those_not_told_from_it():
    """b.x wins on two shards of four and loses on two, b.y is another form of the best, b.z always worse by a tenth."""
    base = [0.10, 0.12, 0.11, 0.13]
    rows, shards = errors_of(
        ("a.x", 10, base),
        ("b.x", 10, [e * c for e, c in zip(base, (0.9, 1.15, 0.95, 1.05), strict=True)]),
        ("b.y", 7, [e * (1 + 1e-13) for e in base]),
        ("b.z", 10, [1.1 * e for e in base]),
    )
    best, value, tied = choices.chosen(rows, 10, shards, wall=1e-3)
    assert (best.value, tied.value) == ("a.x", "2 of 3: b.y (NFE 7), .x")
    assert value.value == pytest.approx(math.sqrt(0.01335)) and value.note == ""
    best, value, tied = choices.chosen(rows, 10, shards, wall=1.0)
    assert value.note == "wall" and tied.value.startswith("3 of 3")


def test_a_method_that_diverges_on_some_shards_is_not_as_good_for_being_erratic():
    good = [1e-4 * (1 + 0.1 * k) for k in range(6)]
    rows, shards = errors_of(("a.x", 10, good), ("b.x", 10, [1e-2, 1e120, 1e-2, 1e118, 1e-2, 1.0]))
    assert choices.chosen(rows, 10, shards, wall=1e-9)[2].value == "none of 1"


def test_many_that_are_tied_are_counted():
    names = [f"a.m{k}" for k in range(9)]
    assert choices.named(names, dict.fromkeys(names, "")) == "a.m0, .m1, .m2 and 6 more"


def test_a_page_opens_with_the_best_method_of_each_budget(shelf):
    page = (shelf / "reports" / "solvers-g3-ve-edm.html").read_text()
    assert page.index('id="budget"') < page.index('id="orders"')
    assert re.search(r"n = \d+ start states, the same for all", page)
    for value, best in (("flow-error", SECOND), ("sliced-w1", NOISY)):
        table = (shelf / "store" / "tables" / f"g3-ve-edm-budget-{value}.csv").read_text()
        rows = [line.split(",")[:3] for line in table.splitlines() if line.startswith("power(7)")]
        assert rows == [["power(7)", budget, best] for budget in ("6", "12", "24", "48", "96")]
    assert "Best is bold" in page.split('id="g3-ve-edm-grid-power-7-flow-error"')[1].split("</details>")[0]


def test_orders_that_differ_from_the_declared_by_more_than_the_law_allows_are_marked():
    """The law allows .15: an interval that reaches into it is not marked."""
    said = [solvers.against(Cell(1.0, low, high), 2.0).note for low, high in ((1.0, 1.84), (1.0, 1.86), (2.16, 3.0))]
    assert said == ["below", "", "above"]
    assert solvers.against(Cell(1.0, 0.9, 1.1), None).note == solvers.against(Cell(), 2.0).note == ""


def test_committed_records_are_said_to_be(tmp_path, shelf, monkeypatch):
    from benchmarks import records

    (tmp_path / "reference").mkdir()
    (shelf / "store").rename(tmp_path / "reference" / "solvers")
    monkeypatch.setattr(records, "REFERENCE", tmp_path / "reference")
    (tmp_path / "empty" / "records").mkdir(parents=True)
    asked = plan(Suite(name="other", about="x", shelf=True))
    report.build(tmp_path / "empty", tmp_path / "other", plan=asked, current=None, findings=())
    page = (tmp_path / "other" / "solvers-g3-ve-edm.html").read_text()
    assert "30 committed records, made 2026-01-01 by commit c0ffee." in page and "<svg" in page
    assert "solvers-g3-ve-edm.html" in (tmp_path / "other" / "index.html").read_text()


def test_groups_follow_the_cards():
    cards = catalogue.samplers()
    assert solvers.group_of(cards[FIRST]) == "first order" and solvers.group_of(cards[SECOND]) == "second order"
    assert solvers.group_of(cards[NOISY]) == "with noise"
    assert solvers.group_of(cards["lipman2022fm.dopri5"]) == "adaptive"
    assert solvers.group_of(None) == "no declared order"


def test_the_suite_asks_every_sampler_of_means_without_aids():
    cells = plan(suites.named("solvers")).cells
    known = catalogue.samplers().items()
    wanted = {id for id, c in known if c.consumes == "mean" and not c.needs and c.walks == "down"}
    assert {c.job.method for c in cells if c.job.target == "g3"} == wanted


def test_the_referee_s_sections_show_numbers_examples_and_commands(tmp_path):
    store = Store(tmp_path / "store")
    law = dict(kind="law", method=FIRST, n=1)
    good = {
        "holds": True,
        "good": True,
        "outcome": "holds",
        "why": "",
        "example": "",
        "again": "check a --law b",
        "library": "stranger 1.2",
    }
    bad = {**good, "holds": False, "good": False, "outcome": "fails", "why": "off by 1.00e-04", "example": "point=1.0"}
    add(store, Job(**law, law="one_step_works"), values=good)
    add(store, Job(**law, law="exact_on_declared_targets"), values=bad)
    add(store, Job(**law, law="order_is_as_declared"), status="timeout", reason="not done after 120 s")
    ratio, micro = (Interval(v, 0.9 * v, 1.1 * v, 8, 0.95, "order statistics 1 of 8", 8) for v in (1.25, 20.0))
    add(store, Job(kind="overhead", method=FIRST, shape="64x2", dtype="float32", n=1), values={
        "ratio": ratio, "ratio_same_terms": ratio, "terms": 2, "steps": 200, "microseconds_per_step": micro,
        "bare_microseconds_per_step": micro})  # fmt: skip
    slow = Interval(50.0, 45.0, 55.0, 8, 0.95, "order statistics 1 of 8", 8)
    add(store, Job(kind="overhead", method="stranger.walk", shape="64x2", dtype="float32", n=1), values={
        "ratio": slow, "ratio_same_terms": slow, "terms": 2, "steps": 200, "microseconds_per_step": slow,
        "bare_microseconds_per_step": micro, "twin": FIRST})  # fmt: skip
    store.close()
    index = report.build(store.folder, tmp_path / "reports", current=None, findings=()).read_text()
    assert "1 of 3 verdicts are good. Libraries: stranger 1.2." in index
    ids = re.findall(r' id="([^"]+)"', index)
    assert len(ids) == len(set(ids)), sorted(id for id in set(ids) if ids.count(id) > 1)
    assert re.search(r"stranger\.walk.*?>2\.5\d*<.*?" + re.escape(FIRST), index, re.S), "50 us are 2.5 times ours"
    for part in ("off by 1.00e-04", "point=1.0", "trilemma check a --law b", "timeout", "1.25", "64x2"):
        assert part in index, part


def test_no_verdict_no_overhead_no_shelf_is_said(tmp_path):
    (tmp_path / "store" / "records").mkdir(parents=True)
    index = report.build(tmp_path / "store", tmp_path / "reports", current=None, findings=()).read_text()
    assert "No law was held against a sampler" in index and "No overhead was measured" in index


def test_jobs_about_a_method_alone_are_checked():
    assert job(kind="law", method=FIRST, law="one_step_works", n=1).target == ""
    with pytest.raises(UsageError, match="law: 'weak_order_is_as_declared' is not known; .*calls for"):
        job(kind="law", method=FIRST, law="weak_order_is_as_declared", n=1)


def test_each_paper_gives_its_first_samplers(tmp_path):
    select = {"name": "a", "methods": {"consumes": "mean", "needs": []}, "targets": ["g3"], "steps": [4],
              "paths": [["ve-edm", "power(7)"]], "each_paper": 1}  # fmt: skip
    methods = [c.job.method for c in plan(Suite(name="x", about="x", select=[select])).cells]
    papers = [method.split(".")[0] for method in methods]
    assert len(papers) == len(set(papers)) and FIRST in methods and NOISY not in methods
