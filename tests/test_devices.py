"""Nothing crosses between host and device, held without a GPU: a tensor on the device meta has no value to be read or
copied, and an operation on it and on a host tensor raises, as it does on a GPU."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import problems, suites
from reference_impls import catalogue
from reference_impls.core import process
from reference_impls.core.draws import Philox
from reference_impls.core.drive import prepared
from reference_impls.core.types import Noised, Predictor
from reference_impls.targets import inverse

META = torch.device("meta")
ROWS = range(4)
READERS = ("jiang2025sada", "kim2023dmcmc", "ma2024bcsr.chosen")  # by a criterion, a drawn level, a choice
COPIES = {"aten::_to_copy", "aten::copy_"}


class Crossings(TorchDispatchMode):
    """Collects the operations with tensors on host and device: all of them, and those whose operands are `mixed`.
    A host number may be an operand, as it is one of a kernel, but not be copied."""

    def __init__(self):
        super().__init__()
        self.found, self.mixed = [], []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result, name = function(*arguments, **(keywords or {})), function._schema.name
        given = [each for each in arguments if isinstance(each, torch.Tensor)]
        ends = [*given, result] if isinstance(result, torch.Tensor) else given
        if len({each.device for each in ends if each.ndim or name in COPIES}) > 1:
            self.found.append(name)
        if len({each.device for each in given if each.ndim}) > 1 and name not in COPIES:
            self.mixed.append(name)
        return result


def reads_values(question):
    """Whether a value decides what the job does next, so that there is nothing to see on a device without values."""
    target, card = problems.target_of(question.target), problems.method_of(question.kind, question.method)
    by_label = "condition" in getattr(card, "needs", ()) and problems.labelled(target)
    by_mask = question.target == "digits-inpainting"
    return question.method.startswith(READERS) or by_label or by_mask


def questions():
    """Jobs of the suite `default`: one for each method on each target with its exact model, one for each network."""
    found = {}
    for each in suites.plan(suites.named("default")).jobs():
        if each.kind in ("sample", "likelihood") and not reads_values(each):
            found.setdefault((each.method, each.target) if each.model == "exact" else each.model, each)
    return list(found.values())


def end_of(question):
    """What a job of four rows ends in, from the card's own start: states, or nats."""
    target = problems.target_of(question.target)
    path = problems.process_of(question.process, problems.letters_of(target))
    card = problems.method_of(question.kind, question.method)
    model = problems.model_of(question, card, target, path, META)
    draws, like = problems.draws_of(question, ROWS, META), problems.like_of(question, target, len(ROWS), META)
    if question.kind == "likelihood":
        x0 = problems.points_of(target, ROWS, draws, like)
        return card.log_prob(model, x0, process=path, draws=draws, **question.options)
    question = question.model_copy(update={"start": None if question.start is None else "card"})
    grid = problems.grid_of(question.grid, question.steps, card, path)
    aids = problems.aids_of(card, question, target, ROWS, META)
    x = problems.start_of(question, card, target, path, grid, ROWS, draws, like, aids)
    return card.sample(model, x, grid, process=path, draws=draws, **question.options, **aids).x


@pytest.mark.parametrize("question", questions(), ids=str)
def test_a_job_stays_on_its_device(question):
    """Constants may be copied there, and nothing of the host is an operand (of a product meta itself does not tell)."""
    with Crossings() as crossings:
        assert end_of(question).device == META
    assert crossings.mixed == []


@pytest.mark.parametrize("name", [name for name in inverse.NAMED if hasattr(inverse.NAMED[name](), "conditional_mean")])
@pytest.mark.parametrize("noised", [False, True])
def test_conditioned_means_are_where_they_are_asked(name, noised):
    problem = inverse.NAMED[name]()
    seen = problem.measurement
    y = seen.picture[:1].to(META).expand(len(ROWS), *[-1] * (seen.picture.ndim - 1))
    condition = Noised(y, 0.8, 0.6, lambda picture: picture) if noised else y
    x = torch.zeros(len(ROWS), *problem.shape, dtype=torch.float64, device=META)
    with Crossings() as crossings:
        ends = problem.conditional_mean(x, 0.6, 0.8, condition), problem.mean_given(condition)
    assert all(end.shape == x.shape and end.device == META for end in ends)
    assert crossings.mixed == []


class Uploads(TorchFunctionMode):
    """Collects the tensors that are made on the device from Python's numbers: each is a copy, and stops a capture."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and result.device == META:
            self.found += [] if isinstance(arguments[-1], torch.Tensor) else [function.__name__]
        return result


def loop_of(card, steps=6):
    """The loop of a sampler on its own path and grid, prepared on the host; and its model."""
    path, x = process.named(card.path), torch.zeros(len(ROWS), 2)
    model, draws = Predictor(card.consumes, lambda x, t: 0.3 * x), Philox(0, len(ROWS))
    return prepared(card.sample, model, x, card.grid(steps, path), process=path, draws=draws), model


FIXED = [
    id
    for id, card in catalogue.samplers().items()
    if card.nfe and not card.needs and "gaussian" in card.defined_on and card.consumes in ("mean", "velocity", "noise")
]


def crossings_of(loop, model):
    """What crosses while the loop walks over states on the device; raises where a value is read."""
    x, draws = torch.zeros(len(ROWS), 2, device=META), Philox(0, len(ROWS), META)
    with Uploads() as uploads, Crossings() as crossings:
        end = loop(model, x, draws).x
    assert end.device == META
    return uploads.found + crossings.found


@pytest.mark.parametrize("id", FIXED)
def test_a_loop_neither_reads_nor_copies(id):
    """What a CUDA graph asks of every sampler of fixed evaluations, and of the keyed noise that it draws."""
    assert crossings_of(*loop_of(catalogue.samplers()[id])) == []


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (lambda x: x * torch.tensor([1.0, 2.0], device=x.device), ["tensor"] * 6),
        (lambda x: x * x.new_tensor([1.0, 2.0]), ["new_tensor"] * 6),
        (lambda x: x * torch.ones(2).to(x), ["aten::_to_copy"] * 6),
        (lambda x: x * torch.tensor(2.0).to(x), ["aten::_to_copy"] * 6),
    ],
)
def test_a_crossing_is_seen(broken, found):
    loop, _ = loop_of(catalogue.samplers()["song2020ddim.ddim"])
    assert crossings_of(loop, Predictor("mean", lambda x, t: broken(x))) == found


@pytest.mark.parametrize("broken", [lambda x: x * x.max().item(), lambda x: x * torch.ones(2)])
def test_a_read_and_a_mixture_of_devices_raise(broken):
    loop, _ = loop_of(catalogue.samplers()["song2020ddim.ddim"])
    with pytest.raises(RuntimeError, match="meta"):
        crossings_of(loop, Predictor("mean", lambda x, t: broken(x)))
