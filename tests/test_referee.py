"""The referee: verdicts on strangers' samplers, with the number and the smallest example; mistakes are one line."""

import json
import re
import shlex
from dataclasses import replace

import pytest
import torch

from benchmarks import cli, peers, referee
from benchmarks.laws import accuracy, conduct, laws, specimens
from reference_impls import catalogue
from reference_impls.core.types import Run, Sampler

STRANGER = '''
import math
import torch

from reference_impls.core.grids import checked
from reference_impls.core.types import Run

print("imported")

def ddim(model, x, grid, *, process, draws):
    """A first-order solver as a stranger would write it: no card, a tensor for an answer."""
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist()):
        keep = process.sigma(s) / process.sigma(t)
        x = keep * x + FACTOR * (process.alpha(s) - keep * process.alpha(t)) * model(x, t)
    return x

def without_draws(model, x, grid, *, process):
    return x

def without_x(model, *, process, draws):
    return 0

def nothing(model, x, grid, *, process, draws):
    ddim(model, x, grid, process=process, draws=draws)

def pair(model, x, grid, *, process, draws):
    return ddim(model, x, grid, process=process, draws=draws), 3

def array(model, x, grid, *, process, draws):
    return ddim(model, x, grid, process=process, draws=draws).numpy()

def one_row(model, x, grid, *, process, draws):
    return ddim(model, x, grid, process=process, draws=draws)[:1]

def not_a_number(model, x, grid, *, process, draws):
    return x * math.nan

def leaves(model, x, grid, *, process, draws):
    raise SystemExit(3)

def leaves_for_good(model, x, grid, *, process, draws):
    raise BaseException("gone")

def interrupted(model, x, grid, *, process, draws):
    raise KeyboardInterrupt

def flat(model, x, grid, *, process, draws):
    return ddim(model, x, grid, process=process, draws=draws).flatten(1)

def half(model, x, grid, *, process, draws):
    return ddim(model, x.float(), grid, process=process, draws=draws)

def asks_at_the_end_of_the_step(model, x, grid, *, process, draws):
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist()):
        keep = process.sigma(s) / process.sigma(t)
        x = keep * x + (process.alpha(s) - keep * process.alpha(t)) * model(x, s)
    return x

def asks_twice(model, x, grid, *, process, draws):
    model(x, grid[0].item())
    return Run(ddim(model, x, grid, process=process, draws=draws), len(grid) - 1, 0.0)

def counts_in_words(model, x, grid, *, process, draws):
    return Run(ddim(model, x, grid, process=process, draws=draws), "four", None)

KEPT = {}

def keeps_the_first_grid(model, x, grid, *, process, draws):
    checked(grid)
    return ddim(model, x, KEPT.setdefault(len(grid), grid.clone()), process=process, draws=draws)

def says_a_lot(model, x, grid, *, process, draws):
    print("step by step")
    return ddim(model, x, grid, process=process, draws=draws)

def multistep(model, x, grid, *, process, draws):
    """2M of DPM-Solver++ with the last step of few of first order; the ratio of two steps to the power RATIO."""
    before = None
    lam = process.lam(grid).tolist()
    for i, (t, s) in enumerate(zip(grid[:-1].tolist(), grid[1:].tolist())):
        mean = guess = model(x, t)
        if before is not None and (i < len(grid) - 2 or len(grid) > 10):
            r = ((lam[i] - lam[i - 1]) / (lam[i + 1] - lam[i])) ** RATIO
            guess = mean + (mean - before) / (2 * r)
        keep = process.sigma(s) / process.sigma(t)
        x, before = keep * x + (process.alpha(s) - keep * process.alpha(t)) * guess, mean
    return x

def pulls_too_much(model, x, grid, *, process, draws):
    return 1.3 * ddim(model, x, grid, process=process, draws=draws)

class Solver:
    def __call__(self, model, x, grid, *, process, draws):
        return ddim(model, x, grid, process=process, draws=draws)

solver = Solver()

def still(model, x, grid, *, process, draws):
    return x

number = 3
'''


@pytest.fixture
def stranger(tmp_path):
    def written(factor: str = "1", ratio: str = "1"):
        path = tmp_path / "stranger.py"
        path.write_text(STRANGER.replace("FACTOR", factor).replace("RATIO", ratio))
        return path

    return written


def said(capsys, *arguments):
    code = cli.code_of(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_right_sampler_without_a_card_passes_every_law_it_claims(stranger, capsys):
    flags = ("--order", "1", "--exact-on", "delta", "--evaluations", "1")
    code, out, _ = said(capsys, "check", f"{stranger()}:ddim", *flags, "--json")
    found = json.loads(out)["verdicts"]
    asked = {each["law"] for each in found}
    assert code == 0 and all(each["good"] for each in found)
    assert {"order_is_as_declared", "exact_on_declared_targets", "nfe_is_as_declared"} <= asked


def test_a_wrong_one_is_told_by_how_much_and_on_which_input(stranger, tmp_path, capsys):
    path = stranger("1.0001").rename(tmp_path / "a stranger's.py")
    code, out, _ = said(capsys, "check", f"{path}:ddim", "--exact-on", "delta", "--law", "exact*")
    assert code == 1 and "0 of 1 laws hold" in out
    assert "point mass at 1: off by 1.00e-04" in out  # what the factor adds to the point in one long step
    example = next(line for line in out.splitlines() if "smallest example" in line)
    assert "point=1.0" in example and "dtype=torch.float64" in example and "000000" in example  # every digit
    shown = eval(f"dict({example.split(':', 1)[1]})", {"torch": torch})  # Python as it stands, without comments
    assert shown["point"] == 1.0 and shown["grid"].dtype == torch.float64
    again = shlex.split(next(line for line in out.splitlines() if "again:" in line).split("trilemma ")[1])
    assert again == ["check", f"{path}:ddim", "--exact-on", "delta", "--law", "exact_on_declared_targets"]
    assert said(capsys, *again)[1] == out or "off by 1.00e-04" in said(capsys, *again)[1]


def test_what_is_not_claimed_can_be_measured(stranger):
    rows = referee.observed(referee.loaded(f"{stranger()}:ddim")[0])
    orders = [float(row["found"]) for row in rows if row["trait"] == "order"]
    assert len(orders) == 9 and all(0.9 <= order <= 1.2 for order in orders)
    exact = {(row["trait"], row["where"]): float(row["found"]) for row in rows if row["trait"] != "order"}
    assert abs(exact["relative variance error, N(0, 0) data", "8 steps in lam"]) < 1e-11
    assert exact["relative variance error, N(0, 0.25) data", "8 steps in lam"] < -0.1  # its variance is too small


def test_an_exception_of_the_sampler_is_a_verdict(stranger):
    card = referee.card_of(lambda model, x, grid, *, process, draws: x @ grid)
    found = referee.verdict(laws()["one_step_works"], card)
    assert found.outcome == "raises" and not found.good and "RuntimeError" in found.why


RETURNS = {
    "nothing": "it returned None, expected the end state, a Tensor of the start's shape (5, 1), or a Run of it",
    "pair": "it returned a tuple (Tensor, int), expected",
    "array": "it returned a numpy.ndarray, expected",
    "one_row": "it returned a Tensor (1, 1), expected the end state, a Tensor of the start's shape (5, 1)",
    "not_a_number": "5 of 5 numbers of the end state are not finite",
    "leaves": "SystemExit: 3",
    "leaves_for_good": "BaseException: gone",
}


@pytest.mark.parametrize("name", RETURNS)
def test_what_returns_no_end_state_is_told_once_and_asked_nothing_more(name, stranger, capsys):
    code, out, err = said(capsys, "check", f"{stranger()}:{name}", "--order", "1", "--observe")
    assert code == 1 and err in ("", "imported\n") and out.count(RETURNS[name]) == 1, out + err
    outcomes = [line[:22].strip() for line in out.splitlines() if line[:22].strip() in referee.Outcome.__args__]
    assert outcomes in (["fails"], ["raises"]) and out.count("again:") == 1
    laws_, silent = re.search(r"0 of (\d+) laws hold; (\d+) not asked", out).groups()
    assert int(laws_) == int(silent) + 1 > 10 and "nothing was asked" not in out
    code, out, _ = said(capsys, "check", f"{stranger()}:{name}", "--exact-on", "delta", "--law", "exact*", "--json")
    found = [(each["law"], each["outcome"]) for each in json.loads(out)["verdicts"]]
    assert code == 1 and found[0][0] == "returns_the_end_state" and found[1:] == [
        ("exact_on_declared_targets", "not asked")
    ]


def test_an_interrupt_is_one_and_no_verdict(stranger, capsys):
    code, out, err = said(capsys, "check", f"{stranger()}:interrupted")
    assert code == cli.INTERRUPTED and out == "" and "Traceback" not in err


def why(capsys, what, law, *flags):
    code, out, _ = said(capsys, "check", what, "--law", law, *flags, "--json")
    (found,) = json.loads(out)["verdicts"]
    return code, found["outcome"], found["why"]


def test_shapes_are_told_whole_and_a_model_that_is_not_asked_is_told(stranger, capsys):
    found = why(capsys, f"{stranger()}:flat", "accepts_its_sample_shapes")
    assert found == (1, "fails", "states (3, 4, 4) came back as (3, 16)")
    found = why(capsys, f"{stranger()}:still", "evaluates_inside_the_grid")
    assert found == (1, "fails", "the model was never evaluated")


def test_a_state_comes_back_in_its_own_precision(stranger, capsys):
    found = why(capsys, f"{stranger()}:half", "state_keeps_its_dtype")
    assert found == (1, "fails", "a state of torch.float64 came back as torch.float32")
    assert why(capsys, f"{stranger()}:ddim", "state_keeps_its_dtype") == (0, "holds", "")


@pytest.mark.parametrize("law", [
    conduct.seed_matters_only_if_stochastic, conduct.second_run_equals_a_fresh_one, conduct.float32_follows_float64,
])  # fmt: skip
def test_what_is_not_finite_is_not_compared(law):
    with pytest.raises(AssertionError, match="numbers of the end state are not finite"):
        law(conduct._ending(lambda x: x * float("nan")))


def test_other_libraries_are_not_held_to_a_contract_of_ours(monkeypatch):
    card = replace(specimens.HEALTHY, id="azula.ours")
    names = [law.name for law in referee.asked(card)]
    monkeypatch.setattr(peers, "samplers", lambda: {card.id: card})
    assert set(names) - {law.name for law in referee.asked(card)} == {"state_keeps_its_dtype"}
    stranger = replace(card, order=2.0)  # of the same name and not that card
    assert [law.name for law in referee.asked(stranger)] == names


def exact_on_gaussians(model, x, grid, *, process, draws) -> Run:
    """The flow map of the Gaussian whose affine denoiser is read off the model at the origin and at unit vectors."""
    t, s = grid[0].item(), grid[-1].item()
    points = torch.cat([torch.zeros(1, x.shape[1]), torch.eye(x.shape[1])]).to(x)
    values = model(points, t)
    slope = (values[1:] - values[0]).T
    eye = torch.eye(len(slope)).to(x)
    alpha, sigma = process.alpha(t), process.sigma(t)
    covariance = sigma**2 / alpha * torch.linalg.solve(eye - alpha * slope, slope)
    centre = torch.linalg.solve(eye - alpha * slope, values[0])
    spread, axes = torch.linalg.eigh((covariance + covariance.T) / 2)
    width = [(process.alpha(u) ** 2 * spread + process.sigma(u) ** 2).sqrt() for u in (t, s)]
    moved = (x - alpha * centre) @ axes * (width[1] / width[0]) @ axes.T
    return Run(process.alpha(s) * centre + moved, 1.0)


def test_a_solver_that_is_exact_on_gaussians_is_seen_to_be():
    traits = dict(order=None, symmetric=frozenset())
    for name in (*accuracy.CLASSES, "delta"):
        card: Sampler = replace(specimens.HEALTHY, sample=exact_on_gaussians, exact_on=frozenset({name}), **traits)
        found = referee.verdict(laws()["exact_on_declared_targets"], card)
        assert found.good, (name, found.why)


def test_declared_failures_are_strict_both_ways():
    law = laws()["exact_on_declared_targets"]
    healthy = replace(specimens.HEALTHY, known_failures={law.name: "for the test"})
    pulled = specimens.scaled("pull", lambda g, p, e: 1.1)
    broken = specimens.sampler(rows=pulled, known_failures={law.name: "as known"})
    assert referee.verdict(law, healthy).outcome == "holds against its card"
    found = referee.verdict(law, broken)
    assert found.outcome == "fails as declared" and found.good and found.why.startswith("as known")


def test_cards_papers_lists_and_ids_are_all_taken():
    id, card = next(iter(catalogue.samplers().items()))
    assert referee.loaded(id) == [card]
    paper = catalogue.paper_of(id)
    module = catalogue.modules()[paper.key]
    assert card in referee.loaded(f"{module}:PAPER")
    assert referee.loaded("benchmarks.laws.specimens:HEALTHY") == [specimens.HEALTHY]


MISTAKES = {
    "no file": ("/no/such.py:ddim", "file: '/no/such.py' is not there"),
    "no module": ("no_such_module:ddim", "module: 'no_such_module' cannot be imported: ModuleNotFoundError"),
    "no object": ("FILE:didm", "object: 'didm' is not in FILE, expected for example ddim"),
    "no sampler": ("FILE:number", "is of type int, expected a card, a Paper, a list of cards or a function"),
    "no draws": ("FILE:without_draws", "takes no draws, expected a function (model, x, grid, *, process, draws)"),
    "no x": ("FILE:without_x", "without_x(model, *, process, draws) is not called like that: too many positional"),
    "a class": ("FILE:Solver", "object: Solver is a class, expected a function or an instance that is called like one"),
    "no id": ("no-such.method", "expected package.module:object, file.py:object or the id of a method"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(name, stranger, capsys):
    what, part = (text.replace("FILE", str(stranger())) for text in MISTAKES[name])
    code, _, err = said(capsys, "check", what)
    assert code == 2 and part in err and err.replace("imported\n", "").count("\n") == 1, err
    assert "math" not in err and "torch," not in err  # modules are no samplers


FLAGS = {
    "no class": (["FILE:ddim", "--exact-on", "delt"],
                 "exact-on: 'delt' is not known to any law; expected one of delta, standard, isotropic, gaussian"),
    "of tokens": (["FILE:ddim", "--exact-on", "single_token"], "exact-on: 'single_token' is not known"),
    "negative": (["FILE:ddim", "--order", "-1"], "order: -1.0, expected a number above 0; leave it out"),
    "zero": (["FILE:ddim", "--order", "0"], "order: 0.0, expected a number above 0"),
    "not a number": (["FILE:ddim", "--weak-order", "nan"], "weak_order: nan, expected a number above 0"),
    "infinite": (["FILE:ddim", "--evaluations", "inf"], "evaluations: inf, expected a number above 0"),
    "no path": (["FILE:ddim", "--path", "vp-linaer"], "path: 'vp-linaer' is not known; expected one of"),
    "no method": (["FILE:ddim", "--same-as", "song2020ddim.dim"],
                  "same-as: 'song2020ddim.dim', expected a sampler of the catalogue that consumes means"),
    "of a known card": (["song2020ddim.ddim", "--order", "5", "--exact-on", "foo"],
                        "--order, --exact-on: of a bare function, and song2020ddim.ddim is a card"),
    "of a card": (["benchmarks.laws.specimens:HEALTHY", "--stochastic"],
                  "--stochastic: of a bare function, and specimen.exponential is a card"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAGS)
def test_a_claim_that_cannot_be_asked_is_refused(name, stranger, capsys):
    arguments, part = FLAGS[name]
    code, out, err = said(capsys, "check", *(each.replace("FILE", str(stranger())) for each in arguments))
    assert code == 2 and out == "" and part in err and err.replace("imported\n", "").count("\n") == 1, out + err


def test_a_card_that_is_exact_on_what_no_law_knows_is_refused(monkeypatch):
    monkeypatch.setattr(specimens, "HEALTHY", replace(specimens.HEALTHY, exact_on=frozenset({"delt"})))
    with pytest.raises(referee.UsageError, match="exact-on: 'delt' is not known to any law; expected one of delta"):
        referee.loaded("benchmarks.laws.specimens:HEALTHY")
    for id in catalogue.samplers():
        assert referee.loaded(id)


def test_a_module_that_leaves_when_it_is_imported_is_one_line(tmp_path, capsys):
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    code, _, err = said(capsys, "check", f"{tmp_path / 'leaves.py'}:ddim")
    assert code == 2 and "cannot be imported: SystemExit: 3" in err and err.count("\n") == 1


def test_a_law_that_is_not_known_or_asks_nothing(stranger, capsys):
    code, _, err = said(capsys, "check", f"{stranger()}:ddim", "--law", "nothing*")
    assert code == 2 and "law: 'nothing*' matches none of" in err
    code, out, err = said(capsys, "check", f"{stranger()}:ddim", "--law", "order*")
    assert code == 2 and out == "" and "its card has not the traits; --order brings it to a bare function" in err
    _, _, err = said(capsys, "check", f"{stranger()}:ddim", "--order", "1", "--law", "every_interval_is_used")
    assert "--evaluations brings it" in err


@pytest.mark.parametrize(("name", "law", "flags", "part"), [
    ("asks_at_the_end_of_the_step", "asks_at_the_time_of_its_state", ["--exact-on", "delta"], "asked at time 0.001"),
    ("asks_twice", "nfe_is_as_declared", ["--evaluations", "1"], "was asked 2 times, the Run says 1"),
    ("asks_twice", "counts_its_evaluations", [], "was asked 2 times, the Run says 1"),
    ("counts_in_words", "returns_the_end_state", [], "nfe of the Run that it returned is 'four', expected a number"),
    ("keeps_the_first_grid", "second_run_equals_a_fresh_one", [], "two grids of as many steps gave the same end"),
])  # fmt: skip
def test_what_an_outsider_found_to_pass_fails(name, law, flags, part, stranger, capsys):
    code, outcome, said_ = why(capsys, f"{stranger()}:{name}", law, *flags)
    assert (code, outcome) == (1, "fails") and part in said_
    assert why(capsys, f"{stranger()}:solver", law, *flags) == (0, "holds", "")


def test_a_stranger_can_be_held_to_a_method_here(stranger, capsys):
    """For example: an inverted ratio of two steps, which is 1 on grids even in lam."""
    law, flags = "reduces_as_declared", ["--same-as", "lu2022dpmsolverpp.2m"]
    assert why(capsys, f"{stranger()}:multistep", law, *flags) == (0, "holds", "")
    code, outcome, found = why(capsys, f"{stranger(ratio='-1')}:multistep", law, *flags)
    assert (code, outcome) == (1, "fails") and "it differs from lu2022dpmsolverpp.2m by" in found
    assert why(capsys, f"{stranger()}:ddim", law, "--same-as", "song2020ddim.ddim")[0] == 0
    assert why(capsys, f"{stranger('1.0001')}:ddim", law, "--same-as", "song2020ddim.ddim")[0] == 1


@pytest.mark.parametrize("path", ["condot", "brownian-bridge", "vp-10", "discrete-linear"])
def test_a_right_sampler_is_right_where_the_path_ends_without_noise_or_signal(path, stranger, capsys):
    flags = ["--path", path, "--evaluations", "1", "--exact-on", "delta", "--json"]
    code, out, _ = said(capsys, "check", f"{stranger()}:ddim", *flags)
    assert code == 0, [each for each in json.loads(out)["verdicts"] if not each["good"]]


def test_that_nothing_was_claimed_is_said(stranger, capsys):
    code, out, _ = said(capsys, "check", f"{stranger()}:pulls_too_much")
    assert code == 0 and "nothing was asked of what it computes" in out and "--exact-on delta" in out.splitlines()[-1]
    code, out, _ = said(capsys, "check", f"{stranger()}:pulls_too_much", "--exact-on", "delta")
    assert code == 1 and "nothing was asked" not in out
    cards = catalogue.samplers()  # of what is no sampler of means, other laws ask
    assert not any(referee.claims_nothing(cards[id]) for id in ("song2020ddim.ddim", "mardani2024reddiff.reddiff"))
    assert referee.claims_nothing(referee.card_of(lambda model, x, grid, *, process, draws: x))


def test_what_a_sampler_prints_is_none_of_our_lines(stranger, capsys):
    code, out, err = said(capsys, "check", f"{stranger()}:says_a_lot", "--law", "one_step*", "--json")
    assert code == 0 and json.loads(out)["verdicts"] and "step by step" in err and "imported" in err


def test_what_fails_as_declared_is_not_counted_as_holding(monkeypatch, capsys):
    card = specimens.sampler(
        rows=specimens.scaled("pull", lambda g, p, e: 1.1), known_failures={"exact_on_declared_targets": "as known"}
    )
    monkeypatch.setattr(specimens, "HEALTHY", card)
    code, out, _ = said(capsys, "check", "benchmarks.laws.specimens:HEALTHY", "--law", "e*_*")
    assert code == 0 and "fails as declared" in out and re.search(r"^2 of 3 laws hold, 1 fails as declared$", out, re.M)


def test_a_peer_whose_library_is_not_here_is_told_how_to_get(monkeypatch, capsys):
    monkeypatch.setattr(peers, "missing", lambda: {"azula": "azula is not installed; `tox -e peers` brings it"})
    code, _, err = said(capsys, "check", "azula.heun_of_theirs")
    assert code == 2 and err == "trilemma: object: 'azula.heun_of_theirs': " + peers.missing()["azula"] + "\n"
