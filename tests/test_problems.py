"""From a job's names to numbers: start states, batches, the exact flow, times."""

import dataclasses

import pytest
import torch

from benchmarks import flow_reference, problems, provenance, run, score, suites, timing
from benchmarks.jobs import UsageError, job
from benchmarks.records import Store
from reference_impls import catalogue
from reference_impls.core.draws import Philox
from reference_impls.core.types import Run
from reference_impls.targets.labelled import spread_labels

CPU = torch.device("cpu")
GOOD = dict(kind="sample", method="song2020ddim.ddim", target="g3", process="vp-linear", grid="lam", steps=6, n=60)


def asked(**changes):
    return job(**GOOD | changes)


def start(question):
    """Start states of a whole job, as `run.sampled` takes them."""
    target, process = problems.target_of(question.target), problems.process_of(question.process)
    card = problems.method_of("sample", question.method)
    grid = problems.grid_of(question.grid, question.steps, card, process)
    draws, like = Philox(question.seed, question.n), problems.like_of(question, target, question.n, CPU)
    return problems.start_of(question, card, target, process, grid, range(question.n), draws, like, {})


def test_all_methods_of_a_seed_start_from_the_same_normals():
    """card: prior_std times the unit normals; exact: alpha x0 plus sigma times the very same."""
    unit = Philox(3, 60).normal("start", torch.empty(60, 1, dtype=torch.float64))
    for method in ("song2020ddim.ddim", "karras2022edm.heun", "ho2020ddpm.ancestral"):
        assert torch.equal(start(asked(method=method, seed=3, start="card")), unit)
        assert torch.equal(start(asked(method=method, seed=3, process="ve-edm", start="card")), 80 * unit)
        exact = start(asked(method=method, seed=3, process="ve-edm", start="exact"))
        x0 = problems.target_of("g3").sample(Philox(3, 60), unit)
        assert torch.equal(exact, x0 + 80 * unit)
    assert not torch.equal(start(asked(seed=4, start="card")), unit)


def test_an_exact_start_is_the_marginal_where_the_grid_begins():
    """DDIM's own list begins at index 900 of 1,000: an exact flow from t = 1 would be charged to the solver."""
    own = asked(process="discrete-linear", grid="own", steps=10, start="exact")
    process = problems.process_of("discrete-linear")
    first, last = problems.span_of(own)
    assert first == 0.901 and last == 0.0
    unit = Philox(0, 60).normal("start", torch.empty(60, 1, dtype=torch.float64))
    x0 = problems.target_of("g3").sample(Philox(0, 60), unit)
    assert torch.equal(start(own), process.alpha(0.901) * x0 + process.sigma(0.901) * unit)


def test_a_shared_start_is_the_exact_one_of_the_shard_s_first_sample():
    """Six shards of ten: six states, each ten times; and no batch, here three shards and three, changes any."""
    asked_for = dict(process="ve-edm", shards=6)
    exact, shared = (start(asked(start=kind, **asked_for)) for kind in ("exact", "shared"))
    assert torch.equal(shared, exact[::10].repeat_interleave(10, 0))
    assert problems.firsts(asked(start="shared", **asked_for), range(30, 60)) == [0] * 10 + [10] * 10 + [20] * 10
    assert score.traits_of(asked(start="shared", **asked_for)) == {"shared_start"}


@pytest.mark.parametrize("method", ["song2020ddim.stochastic", "karras2022edm.churn", "lipman2022fm.dopri5"])
def test_batches_and_shards_never_change_a_sample(method, monkeypatch):
    fields = dict(method=method, process="ve-edm", grid="power(7)", start="exact")
    whole = run.sampled(asked(**fields), CPU)
    monkeypatch.setattr(problems, "EXACT_ROWS", 20)
    parts = run.sampled(asked(**fields, shards=6), CPU)
    assert [len(rows) for rows in problems.batches(asked(**fields, shards=6), CPU)] == [20, 20, 20]
    largest = start(asked(**fields)).abs().max().item()  # round-off is relative to the states on the way
    assert torch.allclose(whole[1]["x"], parts[1]["x"], rtol=0, atol=1e-12 * (1 + largest))
    assert whole[0]["nfe"] == pytest.approx(parts[0]["nfe"], abs=1e-9)


def test_a_trained_classifier_of_levels_is_asked_for_as_a_model(monkeypatch):
    """The same job with model = "digits-levels" has the same exact denoiser and evaluations, and other levels; the
    exact posterior, which the method's card needs of the target, is then never asked."""
    fields = dict(
        method="kim2023dmcmc.dlg", target="digits", process="ve-edm[0.01,50]", grid="power(7)", steps=2, n=2,
        start="exact", options={"warm": 0, "burn": 0, "n_skip": 1},
    )  # fmt: skip

    def never(target, y, rho):
        raise AssertionError("the exact posterior was asked")

    exact, _ = run.sampled(asked(**fields), CPU), monkeypatch.setattr(problems, "_noise_logits", never)
    learnt = run.sampled(asked(**fields, model="digits-levels", net_dtype="float32"), CPU)
    assert learnt[0]["nfe"] == exact[0]["nfe"] == 37 + 1 + 4
    assert not torch.equal(learnt[1]["x"], exact[1]["x"])
    assert provenance.model_parts("digits-levels").keys() == {"checkpoint", "model"}
    other = asked(**fields | {"process": "ve-edm[0.02,50]"}, model="digits-levels", net_dtype="float32")
    with pytest.raises(ValueError, match="levels: 1000 from 50 to .*, expected the model's own 1000 from 50 to 0.01"):
        run.sampled(other, CPU)


def test_a_population_method_keeps_its_shards(monkeypatch):
    question = asked(shards=6)
    assert len(problems.batches(question, CPU)) == 1
    card = dataclasses.replace(catalogue.samplers()["song2020ddim.ddim"], per_sample=False)
    monkeypatch.setitem(catalogue.samplers(), "song2020ddim.ddim", card)
    assert problems.batches(question, CPU) == question.rows()


def test_each_measurement_is_answered_once_in_every_shard():
    inpainting = dict(method="mardani2024reddiff.dps", target="digits-inpainting", process="discrete-linear")
    question = asked(**inpainting, grid="own", n=900, shards=20)
    assert problems.measurement_of(question, 900, range(900)) == 20 * list(range(45))
    assert problems.measurement_of(question, 30, range(40, 50)) == [10, 11, 12, 13, 14, 0, 1, 2, 3, 4]


def taking(monkeypatch, *needs, sample):
    """The id of a card, in the catalogue for this test, whose sampler takes these aids."""
    card = dataclasses.replace(
        catalogue.samplers()["song2020ddim.ddim"], id="probe.probe", sample=sample, needs=frozenset(needs), reduces=()
    )
    monkeypatch.setitem(catalogue.samplers(), card.id, card)
    return card.id


def prediction_under(seen):
    """A sampler that keeps what it was given and returns the model's prediction at the grid's start."""

    def sample(model, x, grid, *, process, draws, **aids):
        seen.append(aids)
        told = model.given(aids["condition"]) if "condition" in aids else model
        return Run(told(x, grid[0].item()), 1.0)

    return sample


def test_a_condition_is_a_label_by_sample_index(monkeypatch):
    """On every labelled target: the same label for sample k in every job, and the exact denoiser of its class."""
    seen = []
    method = taking(monkeypatch, "condition", sample=prediction_under(seen))
    for name in ("g3", "mixture-2d", "digits"):
        law, process = problems.target_of(name), problems.process_of("vp-linear[0.3,0.6]")
        monkeypatch.setattr(problems, "EXACT_ROWS", 20)
        found = run.sampled(asked(method=method, target=name, process="vp-linear[0.3,0.6]", shards=6), CPU)[1]["x"]
        labels = torch.cat([aids.pop("condition") for aids in seen])
        seen.clear()
        assert torch.equal(labels, spread_labels(law.class_weights, range(60)))
        x = Philox(0, 60).normal("start", torch.empty(60, *law.shape, dtype=torch.float64))
        each = torch.stack([each.mean(x, process.alpha(0.6), process.sigma(0.6)) for each in law.class_laws])
        assert (found - each[labels, torch.arange(60)]).abs().max() < 1e-11


def test_an_exact_start_under_labels_is_the_marginal_of_the_class(monkeypatch):
    ends = []
    method = taking(monkeypatch, "condition", sample=lambda model, x, grid, **aids: ends.append(x) or Run(x, 1.0))
    run.sampled(asked(method=method, target="mixture-2d", process="ve-edm[0.002,0.5]", start="exact"), CPU)
    law = problems.target_of("mixture-2d")
    labels, like = spread_labels(law.class_weights, range(60)), torch.empty(60, 2, dtype=torch.float64)
    x0 = law.given(labels).sample(Philox(0, 60), like)
    assert torch.equal(torch.cat(ends), x0 + 0.5 * Philox(0, 60).normal("start", like))


@pytest.mark.parametrize("needs", [("guide",), ("guide", "condition")])
def test_a_guide_goes_with_its_sample(monkeypatch, needs):
    """Image, mask and label of one row belong together; each guide once in every shard."""
    seen = []
    method = taking(monkeypatch, *needs, sample=prediction_under(seen))
    problem = problems.target_of("digits-patched")
    monkeypatch.setattr(problems, "EXACT_ROWS", 30)
    run.sampled(asked(method=method, target=problem.name, dtype="float32", shards=2), CPU)
    assert len(seen) == 2
    for aids in seen:
        assert aids.keys() == set(needs)
        assert torch.equal(aids["guide"].image, problem.guide.image[:30].float())
        assert torch.equal(aids["guide"].known, problem.guide.known[:30])
        assert "condition" not in needs or torch.equal(aids["condition"], problem.labels[:30])


def test_a_measurement_may_come_as_a_condition(monkeypatch):
    """The exact denoiser given y is that of the prior where it is not given, and of the posterior where it is."""
    seen = []
    method = taking(monkeypatch, "condition", sample=prediction_under(seen))
    problem = problems.target_of("linear-gaussian-2d")

    def conditional_mean(self, x, alpha, sigma, y):
        return self.posterior.mean(x, alpha, sigma) + 0 * y

    monkeypatch.setattr(type(problem), "conditional_mean", conditional_mean, raising=False)
    question = asked(method=method, target="linear-gaussian-2d", start="card")
    found = run.sampled(question, CPU)[1]["x"]
    assert torch.equal(seen[0]["condition"], torch.full((60, 1), 0.4, dtype=torch.float64))
    x, process = start(question), problems.process_of("vp-linear")
    expected = problem.posterior.mean(x, process.alpha(1.0), process.sigma(1.0))
    assert (found - expected).abs().max() < 1e-12
    model = problems.model_of(question, catalogue.samplers()[method], problem, process, CPU)
    prior = problem.prior.mean(x, process.alpha(0.5), process.sigma(0.5))
    assert (model(x, 0.5) - prior).abs().max() < 1e-12


def test_what_is_offered_need_not_be_taken(monkeypatch):
    """Labels and measurements-as-conditions are offers; guides, measurements and densities are what a target is."""
    suits = {
        "digits": [set(), {"condition"}],
        "product-2d": [set()],
        "digits-strokes": [{"guide"}, {"guide", "condition"}],
        "gaussian-2d-guides": [{"guide"}],
        "grid9": [{"log_density"}],
    }
    every = ({"condition"}, {"guide"}, {"measurement"}, {"log_density"}, {"guide", "condition"}, set())
    for name, good in suits.items():
        found = [needs for needs in every if problems.suits(frozenset(needs), problems.target_of(name))]
        assert sorted(map(sorted, found)) == sorted(map(sorted, good)), name
    inverse = problems.target_of("digits-inpainting")
    monkeypatch.setattr(type(inverse), "conditional_mean", lambda *a: None, raising=False)
    for needs, good in (({"measurement"}, True), ({"condition"}, True), (set(), False), ({"guide"}, False)):
        assert problems.suits(frozenset(needs), inverse) == good


def test_a_method_for_pictures_is_not_given_labels(monkeypatch):
    """Nor one for labels a measurement: said when the job is made, and no suite selects it."""
    method = taking(monkeypatch, "condition", sample=prediction_under([]))
    card, aids = catalogue.samplers()[method], frozenset({"condition"})
    for takes, target, other in (("image", "digits-inpainting", "g3"), ("label", "g3", "digits-inpainting")):
        told = dataclasses.replace(card, condition=takes)
        monkeypatch.setitem(catalogue.samplers(), method, told)
        asked(method=method, target=target)
        assert suites.fits(told, problems.target_of(target), "exact", aids)
        assert not suites.fits(told, problems.target_of(other), "exact", aids)
        with pytest.raises(UsageError, match=f"^target: the condition of '{other}' is of kind .*needs '{takes}'"):
            asked(method=method, target=other)


def test_suites_give_labels_only_where_they_say_so(monkeypatch, tmp_path):
    method = taking(monkeypatch, "condition", sample=prediction_under([]))
    text = 'about = "a"\n[[select]]\nname = "a"\ntargets = ["g3", "digits-strokes", "product-2d"]\nsteps = [5]\n'
    found = []
    for extra in ("", 'aids = ["condition"]\n'):
        path = tmp_path / f"one{len(extra)}.toml"
        path.write_text(text + 'methods = { consumes = "mean" }\n' + extra)
        found.append({(c.job.method, c.job.target) for c in suites.plan(suites.named(str(path))).cells})
    plain, told = found
    assert (method, "g3") in told and not any(id == method for id, _ in plain)
    assert {target for _, target in told} == {"g3"}
    assert ("song2020ddim.ddim", "g3") in plain and not any(id == "song2020ddim.ddim" for id, _ in told)


@pytest.mark.parametrize("name", ["mixture-2d", "digits"])
def test_samples_of_classes_are_scored_by_class(monkeypatch, tmp_path, name):
    """The class's exact denoiser at hardly any noise gives samples of that class: the metrics see them so."""
    method = taking(monkeypatch, "condition", sample=prediction_under([]))
    where = dict(target=name, process="ve-edm[0.002,0.05]", grid="t", start="exact")
    question = asked(method=method, n=900, shards=20, **where)
    monkeypatch.setattr(provenance, "method_parts", lambda job: {"method": "probe"})
    store = Store(tmp_path)
    record, names = run.answered(question, "cpu", store), ["class_accuracy", "class_spread", "sliced_w1"]
    assert record.status == "ok", record.reason
    scored, floor_job = score.Scorer(store, "cpu"), score.floor_job(question)
    assert "exact_flow" not in score.traits_of(question)
    for found, floor in zip(
        scored.score(question, record, None, names), scored.score(floor_job, None, None, names), strict=True
    ):
        assert found.status == floor.status == "ok", found.reason + floor.reason
        metric = found.score.metric
        ours, exact = found.values[metric], floor.values[metric]
        assert ours.estimate == pytest.approx(exact.estimate, rel=0.25, abs=0.02), metric
    plain = asked(target=name, n=900, shards=20)
    assert "labels" not in score.traits_of(plain) and "labels" in score.traits_of(score.floor_job(plain))


def test_edited_samples_are_scored_against_guide_and_data(monkeypatch, tmp_path):
    """A sampler that returns its guide: at no distance from it, and as far from the data as strokes are."""
    method = taking(monkeypatch, "guide", sample=lambda model, x, grid, *, process, draws, guide: Run(guide.image, 0.0))
    monkeypatch.setattr(provenance, "method_parts", lambda job: {"method": "probe"})
    store, names = Store(tmp_path), ["guide_distance", "known_error", "frechet", "sliced_w1", "class_accuracy"]
    values = {}
    for target in ("digits-strokes", "digits-patched", "gaussian-2d-guides"):
        question = asked(method=method, target=target, n=900, shards=20)
        record = run.answered(question, "cpu", store)
        assert record.status == "ok", record.reason
        found = score.Scorer(store, "cpu").score(question, record, None, names)
        assert all(each.status == "ok" for each in found), [each.reason for each in found]
        values[target] = {each.score.metric: each.values[each.score.metric].estimate for each in found}
    assert set(values["digits-strokes"]) == set(names) - {"known_error"}
    assert set(values["gaussian-2d-guides"]) == {"guide_distance", "sliced_w1"}
    assert all(each["guide_distance"] == 0 for each in values.values()) and values["digits-patched"]["known_error"] == 0
    assert values["digits-strokes"]["frechet"] > values["digits-patched"]["frechet"] > 1
    assert 0.3 < values["digits-strokes"]["class_accuracy"] < values["digits-patched"]["class_accuracy"] < 1


@pytest.mark.parametrize("process", ["vp-linear", "ve-edm", "condot"])
@pytest.mark.parametrize("to_zero", [False, True])
def test_the_flow_by_brute_force_is_the_closed_one(process, to_zero):
    """Heun's error falls fourfold when the steps double; on condot the first interval has no log-SNR."""
    target, path = problems.target_of("product-2d"), problems.process_of(process)
    like = torch.empty(32, 2, dtype=torch.float64)
    x = problems.exact_start(target, path, path.t_max, Philox(5, 32), like)
    end = 0.0 if to_zero else path.t_min
    exact = target.flow(x, *problems.levels(path, path.t_max), *problems.levels(path, end))
    found = [flow_reference.flowed(target, path, x, steps, to_zero) for steps in (200, 400, 800)]
    errors = [(each - exact).square().mean().sqrt() for each in found]
    assert errors[2] < 1e-4
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 3.5 < coarse / fine < 4.5, errors


def test_a_reference_job_answers_for_the_grid_that_asks(tmp_path):
    """The same start states and the same last time, on a process of its own if the grid begins below t_max."""
    question = asked(target="mixture-2d", process="ve-edm", grid="power(7)", n=16, start="exact")
    reference = flow_reference.reference_job(question)
    short = reference.model_copy(update={"steps": 64})
    values, found = run.referenced(short, CPU)
    assert torch.equal(start(question), torch.cat(flow_reference.starts(reference, CPU)))
    assert 0 < values["coarse_error"] < 0.1 and found["x"].shape == (16, 2)
    own = asked(target="mixture-2d", process="discrete-linear", grid="own", n=16, start="exact")
    first, last = problems.span_of(own)
    assert problems.span_of(flow_reference.reference_job(own)) == (first, last)
    assert torch.allclose(start(own), torch.cat(flow_reference.starts(flow_reference.reference_job(own), CPU)))


def test_the_error_of_a_solver_is_its_distance_from_the_exact_flow(tmp_path):
    """A job to its record to its score, against the same number computed here."""
    store = Store(tmp_path)
    question = asked(process="ve-edm", grid="power(7)", steps=12, shards=3, start="exact")
    record = run.answered(question, "cpu", store)
    (found,) = score.Scorer(store, "cpu").score(question, record, None, ["flow_error"])
    process, target = problems.process_of("ve-edm"), problems.target_of("g3")
    ends = target.flow(start(question), *problems.levels(process, 80.0), *problems.levels(process, 0.002))
    error = (store.tensors(record)["x"] - ends).square().mean().sqrt().item()
    assert found.status == "ok" and found.values["flow_error"] == pytest.approx(error, rel=1e-12)
    assert found.score.samples == record.samples_digest and 0.01 < error < 1


def test_large_jobs_leave_moments(monkeypatch):
    monkeypatch.setattr(run, "KEPT_BYTES", 100)
    question = asked(target="product-2d", shards=4)
    x = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = run.kept(question, {"x": x})
    assert set(kept) == {"shard_n", "shard_mean", "shard_m2"} and kept["shard_n"].tolist() == [15] * 4
    centred = x[15:30] - x[15:30].mean(0)
    assert torch.allclose(kept["shard_m2"][1], centred.T @ centred)


def test_times_are_ratios_to_the_network_alone():
    values = timing.summary([2.0, 2.2, 1.8, 2.0, 2.0, 4.0], [1.0, 1.1, 0.9, 1.0, 1.0, 2.0], batch=10, nfe=19.0)
    assert values["ratio"].estimate == pytest.approx(2.0) and values["ratio"].blocks == timing.PAIRS
    assert values["anchor_seconds_per_sample"].estimate == pytest.approx(0.1)
    assert values["samples_per_second"] == pytest.approx(5.0)


def test_a_timed_run_alternates_and_times_nothing_else(monkeypatch):
    """A B B A ..: and the anchor evaluates the network as often as the sampler did."""
    order = []
    monkeypatch.setattr(timing, "seconds_of", lambda work, device: (order.append(work.__name__), work(), 1.0)[2])
    timed = dict(kind="timing", method="karras2022edm.heun", process="ve-edm", grid="power(7)_to_zero")
    values = timing.timed(asked(**timed), CPU)
    assert order == ["anchor", "<lambda>", "<lambda>", "anchor"] * 3
    assert values["nfe"] == 11.0 and values["noise"] == "device"


def test_reasons_are_one_line_and_statuses_are_told_apart():
    def status(error):
        try:
            raise error
        except Exception as raised:
            found, line = run.reason_of(raised)
            assert line and "\n" not in line
            return found

    assert status(run.NonFinite("samples: 3 of 8 rows are not finite")) == "nonfinite"
    assert status(MemoryError()) == "oom"
    assert status(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..\nmore")) == "oom"
    assert status(ValueError("first\nsecond")) == "failed"
    assert status(problems.checkpoints.BadCheckpoint("gone")) == "skipped"


def test_what_a_target_knows_of_its_samples_decides_their_metrics():
    """A reward, and the exact law of what a guide leaves open, are traits of the targets that have them alone."""
    common = dict(grid="t", steps=4, n=60, shards=10)
    half = job(kind="sample", method="meng2022sdedit.sde", target="mixture-2d-half", process="vp-linear", **common)
    quarter = job(kind="sample", method="meng2022sdedit.sde", target="digits-quarter", process="vp-linear", **common)
    rewarded, ring = (
        job(kind="sample", method="song2020ddim.ddim", target=name, process="vp-linear", **common)
        for name in ("ring-2d-rewarded", "ring-2d")
    )
    assert {"guides", "known", "rest"} <= score.traits_of(half) and "rest" not in score.traits_of(quarter)
    assert {"reward", "modes"} <= score.traits_of(rewarded) and "reward" not in score.traits_of(ring)


def test_the_rest_is_scored_against_the_law_that_each_guide_leaves(monkeypatch, tmp_path):
    """Completions that are exact, nearly, score about 0; the same completions one guide further do not."""
    problem = problems.target_of("mixture-2d-half")
    asked_for = dict(target="mixture-2d-half", process="vp-linear", grid="t", steps=1, n=600, shards=10)
    question = job(kind="sample", method="meng2022sdedit.sde", **asked_for)
    whole = problem.prior.sample(Philox(3, 20_000), torch.empty(20_000, 2, dtype=torch.float64))
    near = torch.cdist(problem.guide.image[:, :1], whole[:, :1]).argsort(1)[:, :20]
    rest, found = whole[near][..., 1].T.flatten(), []  # 20 rounds of 30 guides, two in a shard
    for shift in (0, 1):
        x = torch.stack([problem.guide.image[:, 0].repeat(20), rest.roll(shift)], 1)
        monkeypatch.setattr(Store, "tensors", lambda self, record, x=x: {"x": x})
        made = run.record_of(question, "cpu", status="ok", reason="", values={"n": 600}, made_of={}, seconds=0.0)
        (scored,) = score.Scorer(Store(tmp_path), "cpu").score(question, made, None, ["rest_energy"])
        assert scored.status == "ok", scored.reason
        found.append(scored.values["rest_energy"])
    assert abs(found[0].estimate) < 0.1 and found[1].low > 0.2


def test_a_shortened_run_is_compared_with_the_whole_one(tmp_path):
    """Nothing skipped in 50 steps is the whole run; fewer steps are as far from it as two runs side by side are."""
    common = dict(kind="sample", target="gmm-64", process="discrete-linear[0.001,1]", grid="t", n=12, shards=2,
                  seed=4, start="exact")  # fmt: skip
    base = dict(method="lu2022dpmsolverpp.2m", options={"lower_order_final": False})
    asked = {
        "plain": job(steps=50, **base, **common), "fewer": job(steps=20, **base, **common),
        "no skips": job(steps=50, method="jiang2025sada.sada", options={"last": 0, "weights": "ab3"}, **common),
        "skips": job(steps=50, method="jiang2025sada.sada", options={"weights": "paper", "lag_terms": 0}, **common),
    }  # fmt: skip
    store, found, ends = Store(tmp_path), {}, {}
    scorer = score.Scorer(store, "cpu")
    for name, question in asked.items():
        record = run.answered(question, "cpu", store)
        (scored,) = scorer.score(question, record, None, ["full_run_error"])
        assert scored.status == "ok" and score.is_current(scored), scored.reason
        found[name], ends[name] = scored.values, store.tensors(record)["x"]
    assert found["plain"]["full_run_error"] == 0 and found["no skips"]["full_run_error"] < 1e-15
    for name in ("fewer", "skips"):
        gap = (ends[name] - ends["plain"]).square().flatten(1).mean(1)
        assert found[name]["full_run_error"] == pytest.approx(gap.mean().sqrt().item(), abs=0)
        assert found[name]["full_run_error_median"] == pytest.approx(gap.quantile(0.5).sqrt().item(), rel=1e-2)
    euler = score.full_run(job(steps=50, method="jiang2025sada.flow", **common))
    assert (euler.method, euler.options, euler.steps) == ("lipman2022fm.euler", {}, 50)


def test_only_runs_from_shared_starts_on_a_named_grid_have_a_whole_run():
    common = dict(kind="sample", target="gmm-64", process="vp-linear", steps=10, n=12)

    def of(method, grid, start):
        return "full_run" in score.traits_of(job(method=method, grid=grid, start=start, **common))

    assert of("lu2022dpmsolverpp.2m", "lam", "exact")
    assert not of("lu2022dpmsolverpp.2m", "own", "exact") and not of("lu2022dpmsolverpp.2m", "lam", "card")
    assert not of("ho2020ddpm.ancestral", "lam", "exact")  # its noise is another in every run
