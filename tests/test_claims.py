"""The ledger: every claim is frozen and askable, verdicts follow from records alone, and what is missing is said."""

import math
from dataclasses import replace

import pytest

from benchmarks import claims, metrics, suites
from benchmarks.claims import Claim, Evidence, Missing, NotRun, paired_over
from benchmarks.jobs import Job, job
from benchmarks.records import Record, Score, Store
from benchmarks.run import record_of
from benchmarks.statistics import EQUALITIES, Interval, claim_level
from reference_impls import catalogue

CLAIMS = list(claims.claims().values())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_claim_is_frozen_and_can_be_asked(claim):
    assert claim.paper in catalogue.papers()
    assert claim.says.endswith(".") and claim.locus and claim.estimand
    assert (claim.direction == "within") == (claim.kind in EQUALITIES)
    assert claim.missing or (claim.jobs() and claim.judge)
    for name in claim.metrics:
        metrics.named(name)
    for each in claim.jobs():
        assert job(**each.asked) == each, "every job passes the checks of a user's job"


def test_a_claim_or_a_paper_brings_all_jobs_that_it_is_judged_by():
    """Contrasts have jobs of other papers' methods: to ask for the claim must not leave one side out."""
    made = suites.plan(suites.named("ledger"))
    claim = next(c for c in CLAIMS if c.evidence == "A" and len({j.method for j in c.jobs()}) > 1)
    for pattern in (claim.key, claim.paper, f"{claim.paper}*"):
        assert {job.id for job in claim.jobs()} <= {job.id for job in made.only(pattern).jobs()}, pattern
    assert {job.id for job in made.only(claim.key).jobs()} == {job.id for job in claim.jobs()}


def asked(seed: int) -> Job:
    return job(kind="sample", method="song2020ddim.ddim", target="g3", process="ve-edm", grid="lam", steps=4, n=20,
               shards=10, seed=seed, start="exact")  # fmt: skip


def answered(each: Job, value: float | None, status: str = "ok") -> tuple[Record, Record]:
    """A sample record and its score by flow_error."""
    sample = record_of(each, "cpu", status="ok", reason="", values={"nfe": 4.0}, made_of={"method": "x"}, seconds=0.0)
    score = Score(metric="flow_error", samples=sample.samples_digest)
    values = {} if value is None else {"flow_error": value}
    reason = "" if status == "ok" else "it broke"
    return sample, record_of(
        each, "cpu", status=status, reason=reason, values=values, score=score, made_of={"metric": "x"}, seconds=0.0
    )


def evidence(values: dict[int, float | None], status: str = "ok") -> Evidence:
    records = {seed: answered(asked(seed), value, status) for seed, value in values.items()}
    samples = {pair[0].job.id: pair[0] for pair in records.values()}
    scores = {(pair[1].job.id, "flow_error"): pair[1] for pair in records.values()}
    return Evidence(claim_level(2), samples, scores)


def test_evidence_reads_scores_and_the_jobs_own_values():
    found = evidence({0: 0.25})
    assert found.number(asked(0), "flow_error") == 0.25
    assert found.number(asked(0), "nfe") == 4.0
    assert len(found.used) == 2


def test_what_is_missing_is_said():
    with pytest.raises(NotRun, match="not run here: flow_error of sample song2020ddim.ddim"):
        evidence({0: 0.25}).value(asked(1), "flow_error")
    with pytest.raises(Missing, match="it broke"):
        evidence({0: None}, "failed").value(asked(0), "flow_error")


def test_paired_differences_use_the_level_of_the_paper():
    found = evidence({seed: 0.1 + 0.01 * seed for seed in range(6)})
    ours, theirs = [asked(s) for s in (3, 4, 5)], [asked(s) for s in (0, 1, 2)]
    interval = paired_over(found, "flow_error", ours, theirs)
    assert interval.estimate == pytest.approx(0.03) and interval.level == claim_level(2) == 0.975
    logs = paired_over(found, "flow_error", ours, theirs, change=math.log)
    assert logs.low < logs.estimate < logs.high


def one(judge, **fields) -> Claim:
    return Claim(key="song2020ddim/test", says="It holds.", locus="here", kind="ranking", evidence="A", estimand="x",
                 jobs=lambda: [asked(0)], judge=judge, **fields)  # fmt: skip


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, n=20, level=0.999, method="t over seeds", blocks=10)


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [((0.1, 0.3), "reproduced"), ((-0.3, -0.1), "refuted here"), ((-0.1, 0.3), "inconclusive")],
)
def test_verdicts_follow_the_interval(bounds, outcome):
    finding = claims._finding(one(lambda _: interval(*bounds)), {}, {}, set())
    assert finding.outcome == outcome and (finding.low, finding.high) == bounds and finding.n == 20


def test_the_level_counts_every_claim_of_a_paper(monkeypatch):
    """Those out of reach too, as the design has it: what is within reach changes, and a verdict must not with it."""
    kept = one(lambda e: interval(0.1, 0.3))
    row = replace(kept, key="song2020ddim/row", jobs=list, judge=None, missing="the authors' weights")
    seen = []
    asking = replace(kept, key="song2020ddim/asks", judge=lambda e: seen.append(e.level) or interval(0.1, 0.3))
    other = replace(kept, key="karras2022edm/other")
    monkeypatch.setattr(claims, "claims", lambda: {c.key: c for c in (kept, asking, row, other)})
    claims._finding(asking, {}, {}, set())
    assert seen == [claim_level(3)]


def test_a_failed_job_is_out_of_reach_and_an_unrun_one_is_not():
    found = evidence({0: None}, "failed")
    claim = one(lambda e: e.value(asked(0), "flow_error"))
    assert claims._finding(claim, found.samples, found.scores, set()).outcome == "out of reach here"
    unrun = claims._finding(claim, {}, {}, set())
    assert unrun.outcome == "inconclusive" and unrun.why.startswith("not run here")


def test_an_empty_store_leaves_every_claim_unrun(tmp_path):
    findings = claims.judge(Store(tmp_path))
    assert [finding.key for finding in findings] == [claim.key for claim in CLAIMS]
    assert all(finding.outcome in ("inconclusive", "out of reach here") for finding in findings)


def test_a_score_of_samples_that_were_made_again_does_not_answer(tmp_path, monkeypatch):
    """A network is trained again: its old score, which the same code would give those old samples, is another's."""
    monkeypatch.setattr("benchmarks.score.is_current", lambda record: record.made_of.get("method", "new") == "new")
    wanted = next(j for claim in CLAIMS for j in claim.jobs() if j.kind == "sample" and "flow_error" in claim.metrics)
    store = Store(tmp_path)
    for day, method, value in ((1, "old", 0.25), (2, "new", 0.5), (3, "older", 0.75)):
        made = {"status": "ok", "reason": "", "seconds": 0.0}
        sample = record_of(wanted, "cpu", values={"nfe": float(day)}, made_of={"method": method}, **made)
        asks = Score(metric="flow_error", samples=sample.samples_digest)
        score = record_of(wanted, "cpu", values={"flow_error": value}, score=asks, made_of={"metric": "x"}, **made)
        for record in (sample, score):
            store.append(record.model_copy(update={"written": f"2026-01-0{day}T00:00:00Z"}))
    samples, scores, dated = claims._by_job(store)
    assert samples[wanted.id].values["nfe"] == 2.0
    assert scores[wanted.id, "flow_error"].values["flow_error"] == 0.5 and not dated


def test_a_score_of_older_samples_answers_dated_where_there_is_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.score.is_current", lambda record: record.made_of.get("method", "new") == "new")
    wanted = next(j for claim in CLAIMS for j in claim.jobs() if j.kind == "sample" and "flow_error" in claim.metrics)
    store, made = Store(tmp_path), {"status": "ok", "reason": "", "seconds": 0.0}
    old = record_of(wanted, "cpu", values={"nfe": 1.0}, made_of={"method": "old"}, **made)
    asks = Score(metric="flow_error", samples=old.samples_digest)
    score = record_of(wanted, "cpu", values={"flow_error": 0.25}, score=asks, made_of={"metric": "x"}, **made)
    fresh = record_of(wanted, "cpu", values={"nfe": 2.0}, made_of={"method": "new"}, **made)
    for record in (old, score, fresh):
        store.append(record)
    samples, scores, dated = claims._by_job(store)
    assert samples[wanted.id].values["nfe"] == 2.0
    assert scores[wanted.id, "flow_error"].values["flow_error"] == 0.25 and dated == {score.id}


def test_of_dated_records_the_latest_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.score.is_current", lambda record: False)
    wanted, store = next(j for claim in CLAIMS for j in claim.jobs() if j.kind == "sample"), Store(tmp_path)
    for day in (2, 3, 1):
        made = {"status": "ok", "reason": "", "seconds": 0.0, "values": {"nfe": float(day)}}
        record = record_of(wanted, "cpu", made_of={"method": f"{day}"}, **made)
        store.append(record.model_copy(update={"written": f"2026-01-0{day}T00:00:00Z"}))
    samples, _, dated = claims._by_job(store)
    assert samples[wanted.id].values["nfe"] == 3.0 and dated == {wanted.id}


def test_dated_records_answer_with_their_date_and_commit():
    found = evidence({0: 0.25})
    old = {record.id for record in (*found.samples.values(), *found.scores.values())}
    finding = claims._finding(one(lambda e: float(e.number(asked(0), "flow_error"))), found.samples, found.scores, old)
    assert finding.made and finding.commit
    assert not claims._finding(one(lambda e: 1.0), {}, {}, set()).made
