"""Jobs, suites and digests: identity that lasts, and mistakes that are found before anything is evaluated."""

import json
import textwrap
from itertools import pairwise

import pytest

from benchmarks import digests, flow_reference, problems, provenance, recipes, suites
from benchmarks.jobs import Job, UsageError, job, options_of
from reference_impls import catalogue, targets

GOOD = dict(
    kind="sample", method="song2020ddim.ddim", target="g3", process="vp-linear", grid="lam", steps=20, n=64,
    start="exact",
)  # fmt: skip


def test_the_id_of_a_question_never_changes():
    """Records are paired on ids for years: this digest was taken when the first job was written down."""
    assert Job(**GOOD).id == "fa56e67448d61dbe64ba817e113121f3cad70dd8fb070c5ae500f4031aaa9fec"


def test_the_id_depends_on_what_is_asked_and_on_nothing_else():
    asked = job(**GOOD)
    assert Job(**dict(reversed(GOOD.items()))).id == asked.id
    assert Job.model_validate_json(json.dumps(asked.asked)).id == asked.id
    assert job(**GOOD, options={"eta": 0}).id == job(**GOOD, options={"eta": 0.0}).id
    others = [
        {"steps": 21}, {"n": 65}, {"seed": 1}, {"shards": 2}, {"dtype": "float32"}, {"options": {"eta": 0.5}},
        {"grid": "t"}, {"start": "card"}, {"target": "product-2d"}, {"process": "cosine"},
        {"process": "vp-linear[0.01,1]"}, {"kind": "timing"}, {"method": "lu2022dpmsolverpp.2m"},
    ]  # fmt: skip
    assert len({job(**{**GOOD, **other}).id for other in others} | {asked.id}) == len(others) + 1


def test_a_job_is_not_changed_by_who_looked_at_its_id_first():
    first = Job(**GOOD)
    assert first.id and first.asked
    assert first == Job(**GOOD) and hash(first) == hash(Job(**GOOD))


MISTAKES = {
    "unknown method": (dict(method="song2020ddim.dim"), "method", "'song2020ddim.dim'", "song2020ddim.ddim"),
    "unknown target": (dict(target="g4"), "target", "'g4'", "g3"),
    "unknown process": (dict(process="vp"), "process", "'vp'", "vp-linear"),
    "bad interval": (dict(process="vp-linear[1,0.1]"), "process", "[1,0.1]", "t_min < t_max"),
    "unknown grid": (dict(grid="uniform"), "grid", "'uniform'", "power(E)"),
    "no steps": (dict(steps=0), "steps", "0", "greater than or equal to 1"),
    "no grid": (dict(grid=None), "grid", "None", "expected both"),
    "grid that does not exist there": (dict(process="condot"), "grid", "lam", "alpha(t_max) > 0"),
    "too many steps for the chain": (
        dict(grid="own", process="discrete-linear", steps=1001), "steps", "1001", "1..1000"),
    "unknown option": (dict(options={"etta": 1.0}), "option", "'etta'", "eta"),
    "option of the wrong type": (dict(options={"eta": "big"}), "option eta", "'big'", "float"),
    "infinite option": (dict(options={"eta": float("inf")}), "", "inf", "finite"),
    "unknown model": (dict(model="digits-edn"), "model", "'digits-edn'", "digits-edm"),
    "a classifier for a model": (dict(model="digits-classifier"), "model", "digits-classifier", "generative"),
    "model on another process": (
        dict(model="digits-edm", target="digits"), "process", "'vp-linear'", "'ve-edm'"),
    "model of another target": (dict(model="digits-edm", process="ve-edm"), "target", "'g3'", "'digits'"),
    "method on tokens": (dict(target="markov", process="uniform-loglinear"), "process", "'token'", "gaussian"),
    "tokens without their process": (
        dict(method="lou2024sedd.euler", target="markov"), "process", "'vp-linear'", "uniform-loglinear"),
    "method without the aid": (dict(target="digits-inpainting"), "target", "measurement", "none"),
    "aid without the method": (
        dict(method="mardani2024reddiff.dps", target="product-2d"), "target", "gives noise_logits", "measurement"),
    "wrong kind of model": (dict(method="berner2024dis.dis"), "target", "gives condition", "log_density"),
    "guide unused": (dict(target="digits-strokes", start="card"), "target", "condition, guide", "needs none"),
    "a method that walks up": (dict(method="song2020ddim.inversion"), "method", "inversion", "noise to data"),
    "no samples": (dict(n=0), "n", "0", "greater than or equal to 1"),
    "more shards than samples": (dict(shards=65), "shards", "65", "at most n = 64"),
    "seed out of range": (dict(seed=2**32), "seed", str(2**32), "less than"),
    "unknown field": (dict(step=3), "step", "3", "extra"),
    "unknown kind": (dict(kind="smaple"), "kind", "'smaple'", "'sample'"),
    "no exact draws": (
        dict(method="lou2024sedd.euler", target="markov", process="uniform-loglinear", grid="t"),
        "start", "'exact'", "'card'"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_argument_value_and_expectation(name, monkeypatch):
    monkeypatch.setattr(problems, "model_of", lambda *a: pytest.fail("something was evaluated"))
    fields, *parts = MISTAKES[name]
    with pytest.raises(UsageError) as error:
        job(**{**GOOD, **fields})
    line = str(error.value)
    assert "\n" not in line and line.startswith(parts[0]), line
    for part in parts[1:]:
        assert part in line, line


def test_shards_partition_the_samples_in_order():
    for n, shards in ((900, 20), (256, 10), (7, 3), (5, 5)):
        rows = job(**{**GOOD, "n": n, "shards": shards}).rows()
        assert [k for part in rows for k in part] == list(range(n))
        assert len(rows) == shards and max(map(len, rows)) - min(map(len, rows)) <= 1


# sources


def written(folder, files):
    for name, text in files.items():
        path = folder / "reference_impls" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def test_sources_are_hashed_without_words_about_them():
    code = 'def f(x):\n    return x + 1\n'
    same = '"""Module."""\n\n# why\ndef f(x):\n    """What."""\n\n    return (x\n            + 1)  # how\n'
    other = 'def f(x):\n    return x - 1\n'
    assert digests.code_of(code) == digests.code_of(same) != digests.code_of(other)
    assert digests.code_of('def f():\n    """Only words."""\n') == digests.code_of("def f():\n    pass\n")
    assert digests.code_of('x = """kept"""\n') != digests.code_of('x = """changed"""\n')


def test_files_behind_a_module_are_found_from_its_imports(tmp_path):
    root = written(
        tmp_path,
        {
            "__init__": "",
            "core/__init__": "",
            "core/deep": "DEPTH = 1",
            "core/near": "def f():\n    from reference_impls.core import deep\n    return deep",
            "core/beside": "",
            "few/__init__": "",
            "few/paper": "import torch\nfrom ..core.near import f\nfrom . import other",
            "few/other": "",
        },
    )
    behind = digests.modules_behind("reference_impls.few.paper", root)
    assert set(behind) == {
        "reference_impls", "reference_impls.core", "reference_impls.core.near", "reference_impls.core.deep",
        "reference_impls.few", "reference_impls.few.paper", "reference_impls.few.other",
    }  # fmt: skip


def test_made_of_changes_with_the_code_that_answers_and_with_no_other(tmp_path):
    files = {"__init__": "", "a": "from reference_impls import b", "b": "B = 1", "c": "C = 1"}

    def digest(change):
        root = written(tmp_path / digests.digest(change)[:8], files | change)
        return digests.sources_digest("reference_impls.a", root)

    first, words, other, deep = map(digest, ({}, {"b": "B = 1  # one"}, {"c": "C = 2"}, {"b": "B = 2"}))
    assert first == words == other != deep


def test_made_of_names_every_file_that_decides_a_number():
    asked = job(**GOOD)
    parts = provenance.made_of(asked)
    assert set(parts) == {"method", "target", "grid", "problem"}
    behind = digests.modules_behind("reference_impls.continuous.song2020ddim")
    assert {"reference_impls.core.drive", "reference_impls.core.process", "reference_impls.core.grids"} <= set(behind)
    assert "grid" not in provenance.made_of(job(**{**GOOD, "grid": "own", "process": "discrete-linear"}))
    real = provenance.made_of(job(**{**GOOD, "target": "digits"}))
    assert "data" in real and real["target"] != parts["target"]
    trained = {"target": "digits", "model": "digits-edm", "process": "ve-edm", "start": "card"}
    assert {"checkpoint", "model"} <= set(provenance.made_of(job(**GOOD | trained)))
    here = provenance.place("cpu")
    timed = job(**{**GOOD, "kind": "timing"})
    there = here.model_copy(update={"hardware": "another"})
    assert provenance.made_of(timed, here) != provenance.made_of(timed, there)
    assert provenance.made_of(asked, here) == provenance.made_of(asked, there)


@pytest.mark.parametrize("name", targets.makers())
def test_every_target_knows_what_it_is_made_of(name):
    assert set(provenance.target_parts(name)) <= {"target", "data"}
    with pytest.raises(ModuleNotFoundError, match="functools"):
        digests.sources_digest("functools")


# suites


def planned(tmp_path, text):
    path = tmp_path / "one.toml"
    path.write_text('about = "a test"\n' + textwrap.dedent(text))
    return suites.plan(suites.named(str(path)))


@pytest.mark.parametrize("id", ["song2020ddim.ddim", "karras2022edm.heun", "lipman2022fm.midpoint"])
@pytest.mark.parametrize("grid", ["power(7)", "power(7)_to_zero", "t"])
def test_a_budget_is_met_by_the_most_steps(id, grid):
    card, process = catalogue.samplers()[id], problems.process_of("ve-edm")
    cost = {steps: card.nfe(problems.grid_of(grid, steps, card, process)) for steps in range(1, 130)}
    assert all(a <= b for a, b in pairwise(cost.values()))
    for budget in (1, 2, 3, 5, 10, 20, 21, 50, 101):
        most = max((steps for steps, nfe in cost.items() if nfe <= budget), default=0)
        assert suites.most_steps(id, "ve-edm", grid, budget) == most


def test_a_budget_stops_where_the_grid_does():
    """The quadratic list of DDIM ends at 29 steps, the chain at 1,000: no budget asks for more."""
    assert suites.most_steps("song2020ddim.ddim", "discrete-linear", "own", 5000) == 1000


def test_methods_are_selected_by_traits_and_by_what_the_target_gives(tmp_path):
    plan = planned(
        tmp_path,
        """
        [[select]]
        name = "a"
        methods = { consumes = "mean", stochastic = false }
        targets = ["g3"]
        paths = [["ve-edm", "power(7)"]]
        nfe = [10]
        adaptive = [{ rtol = 1e-3, atol = 1e-3 }]
        """,
    )
    found = {cell.job.method for cell in plan.cells}
    cards = catalogue.samplers()
    fit = {
        id for id, card in cards.items()
        if card.consumes == "mean" and not card.stochastic and not card.needs and card.walks == "down"
    }  # fmt: skip
    assert found == fit and len(found) >= 4
    unpriced = [cell.job for cell in plan.cells if cards[cell.job.method].nfe is None]
    tolerant = [each for each in unpriced if "rtol" in options_of(cards[each.method].sample)]
    assert tolerant and all(each.options and each.steps == 1 for each in tolerant)
    assert all(each.steps == 10 for each in unpriced if each not in tolerant)  # the budget: no tolerance to set
    inverse = planned(tmp_path, '[[select]]\nname = "b"\ntargets = ["linear-gaussian-2d"]\nsteps = [5]\n')
    needing = {id for id, card in cards.items() if card.needs == {"measurement"}}
    assert {cell.job.method for cell in inverse.cells} == needing


def test_what_a_grid_refuses_is_excluded_with_its_reason(tmp_path):
    plan = planned(
        tmp_path,
        """
        [[select]]
        name = "a"
        methods = ["song2020ddim.ddim"]
        targets = ["g3"]
        paths = [["condot", "lam"], ["vp-linear", "lam"]]
        steps = [5]
        """,
    )
    assert [cell.job.process for cell in plan.cells] == ["vp-linear"]
    assert len(plan.excluded) == 1 and "alpha(t_max) > 0" in plan.excluded[0].reason


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[[select]]\nname = "a"\ntargets = ["g3"]\nmethods = { consume = "mean" }', ["trait", "consume"]),
        ('[[select]]\nname = "a"\ntargets = ["g3"]\nmetrics = ["fid"]\nsteps = [1]', ["metric", "'fid'"]),
        ('[[select]]\nname = "a"\ntargets = ["g4"]', ["target", "'g4'"]),
        ('[[select]]\nname = "a"\ntargets = ["g3"]\nmethods = ["nobody.knows"]', ["method", "nobody.knows"]),
        ('[[select]]\nname = "a"\ntarget = ["g3"]', ["target"]),
        ('[[select]\nname = "a"', ["TOML"]),
    ],
)
def test_mistakes_in_a_suite_are_one_line(tmp_path, text, parts):
    with pytest.raises(UsageError) as error:
        planned(tmp_path, text)
    assert "\n" not in str(error.value) and all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize("name", ["smoke", "default"])
def test_a_network_trained_for_one_claim_does_not_enter_the_everyday_suites(name):
    """One unconditional network per data and path: each further one adds a minute and 400 kB to the report."""
    asked = {cell.job.model for cell in suites.plan(suites.named(name)).cells} & set(recipes.names())
    kinds = [(r.task, r.data, r.process) for r in map(recipes.named, asked) if r.task == "data"]
    assert kinds and sorted(kinds) == sorted(set(kinds))


@pytest.mark.parametrize("name", suites.names())
def test_every_suite_can_be_planned(name):
    plan = suites.plan(suites.named(name))
    assert plan.digest == suites.plan(suites.named(name)).digest
    assert len({(cell.job.id, cell.table, cell.budget) for cell in plan.cells}) == len(plan.cells)
    known = ("alpha", "on which alone")  # what a grid or a card refuses
    assert not [each for each in plan.excluded if not any(why in each.reason for why in known)], plan.excluded


def test_every_method_that_can_be_asked_is_asked_by_a_suite():
    """A method that neither the everyday suite nor the shelf nor the ledger shows is a hole, wherever its paper was
    added; the everyday suite has a method of every paper."""
    by_suite = {name: {c.job.method for c in suites.plan(suites.named(name)).cells} for name in ("default", "solvers")}
    asked = set().union(*by_suite.values())
    trained = {recipes.named(name).objective for name in recipes.names()} - {None}
    kinds = {catalogue.objectives()[objective].minimiser for objective in trained} | {"mean", "ratio"}
    able = {
        id for id, card in catalogue.samplers().items()
        if card.walks == "down" and card.consumes in kinds and not (card.variant and card.needs)
        and "share" not in card.needs  # no target offers an exact one
    }  # fmt: skip
    assert able <= asked, able - asked
    papers = {id.split(".")[0] for id in able}
    assert papers == {id.split(".")[0] for id in by_suite["default"]} & papers


def test_the_reference_is_shared_by_all_methods_on_a_path():
    asked = [
        job(**{**GOOD, "target": "mixture-2d", "process": "ve-edm", "grid": "power(7)", "method": id})
        for id in ("song2020ddim.ddim", "karras2022edm.heun")
    ]
    references = {flow_reference.reference_job(each).id for each in asked}
    assert len(references) == 1
    to_zero = asked[1].asked | {"grid": "power(7)_to_zero"}
    assert flow_reference.reference_job(job(**to_zero)).id not in references
