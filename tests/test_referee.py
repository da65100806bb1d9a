"""The referee: verdicts on strangers' samplers, with the number and the smallest example; mistakes are one line."""

import json
from dataclasses import replace

import pytest

from benchmarks import cli, referee
from benchmarks.laws import laws, specimens
from reference_impls import catalogue

STRANGER = '''
import math

def ddim(model, x, grid, *, process, draws):
    """A first-order solver as a stranger would write it: no card, a tensor for an answer."""
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist()):
        keep = process.sigma(s) / process.sigma(t)
        x = keep * x + FACTOR * (process.alpha(s) - keep * process.alpha(t)) * model(x, t)
    return x

def without_draws(model, x, grid, *, process):
    return x

number = 3
'''


@pytest.fixture
def stranger(tmp_path):
    def written(factor: str = "1"):
        path = tmp_path / "stranger.py"
        path.write_text(STRANGER.replace("FACTOR", factor))
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


def test_a_wrong_one_is_told_by_how_much_and_on_which_input(stranger, capsys):
    path = stranger("1.0001")
    code, out, _ = said(capsys, "check", f"{path}:ddim", "--exact-on", "delta", "--law", "exact*")
    assert code == 1 and "0 of 1 laws hold" in out
    assert "point mass at 1: off by 1.00e-04" in out  # what the factor adds to the point in one long step
    example = next(line for line in out.splitlines() if "smallest example" in line)
    assert "point=1.0" in example and "dtype=torch.float64" in example and "000000" in example  # every digit
    again = next(line for line in out.splitlines() if "again:" in line).split("trilemma ")[1].split()
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
    "no id": ("no-such.method", "expected package.module:object, file.py:object or the id of a method"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(name, stranger, capsys):
    what, part = (text.replace("FILE", str(stranger())) for text in MISTAKES[name])
    code, _, err = said(capsys, "check", what)
    assert code == 2 and part in err and err.count("\n") == 1, err


def test_a_law_that_is_not_known_or_asks_nothing(stranger, capsys):
    code, _, err = said(capsys, "check", f"{stranger()}:ddim", "--law", "nothing*")
    assert code == 2 and "law: 'nothing*' matches none of" in err
    code, _, err = said(capsys, "check", f"{stranger()}:ddim", "--law", "order*")
    assert code == 2 and "its card has not the traits" in err
