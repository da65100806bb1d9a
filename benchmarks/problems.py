"""The names in a job made into what they name: target, process, method, model, grid, aids and start states.

Everything that decides a number between a job and a method's `sample` stands here, and nothing else does: this file's
digest is part of every record's `made_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import checkpoints, data, peers, recipes
from benchmarks.jobs import Job, UsageError, expected
from reference_impls import catalogue, targets
from reference_impls.core import grids, tokens
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Conditional, Guide, Likelihood, Pairs, Predictor, Sampler, Time, expand
from reference_impls.targets import densities, editing
from reference_impls.targets.labelled import spread_labels

LEVEL_ENTRIES = 2**17  # states at all noise levels at once: 1 MiB, before a mixture multiplies it by its components
EXACT_ROWS = 1024
NET_ROWS = {"cpu": 64}  # the activations of a small net then stay in the cache: 0.42 ms a digit, 0.61 ms at 900 rows
OTHER_NET_ROWS = 4096
INTERVAL = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<t_min>[^,\]]+),(?P<t_max>[^,\]]+)\])?")


@cache
def target_of(name: str) -> Any:
    """A target, or else a data set, by its name."""
    if name in targets.makers():
        return targets.named(name)
    if name in data.NAMED:
        return data.named(name)
    raise expected("target", name, {*targets.makers(), *data.NAMED}, "`trilemma list targets` shows what each one is")


def family_of(target: Any) -> str:
    """What kind of problem a target is: "tokens", "inverse", "editing", "density" or "samples"."""
    if letters_of(target) is not None:
        return "tokens"
    if hasattr(target, "measurement"):
        return "inverse"
    if hasattr(target, "guide"):
        return "editing"
    return "density" if hasattr(target, "log_density") else "samples"


def letters_of(target: Any) -> int | None:
    """K of a token target or a data set of tokens; None where states are not tokens."""
    if isinstance(target, data.Data):
        return len(data.ALPHABET) if target.train.dtype == torch.int64 else None
    return getattr(target, "K", None)


def shape_of(target: Any) -> tuple[int, ...]:
    """*D of one sample."""
    if isinstance(target, data.Data):
        return tuple(target.train.shape[1:])
    return tuple(target.shape)


@cache
def process_of(name: str, letters: int | None = None) -> Any:
    """A process by name or name[t_min,t_max]; a token process over `letters` letters where that is given."""
    match = INTERVAL.fullmatch(name)
    known = tokens.NAMED if letters is not None else processes.NAMED
    if match is None or match["name"] not in known:
        raise expected("process", name, known, "an interval is written name[t_min,t_max]")
    process = processes.named(match["name"]) if letters is None else tokens.named(match["name"], letters)
    if match["t_min"] is None:
        return process
    try:
        t_min, t_max = float(match["t_min"]), float(match["t_max"])
    except ValueError:
        t_min = t_max = float("nan")
    if not 0 <= t_min < t_max:
        raise UsageError(f"process: {name!r}, expected two numbers 0 <= t_min < t_max in the brackets")
    return process.between(t_min, t_max)


def method_of(kind: str, id: str) -> Sampler | Likelihood:
    """The card of a job's method: a likelihood for jobs of that kind, otherwise a sampler."""
    known = catalogue.likelihoods() if kind == "likelihood" else catalogue.samplers()
    if peers.is_peer(id):
        known = peers.samplers()
        if not known.keys() & {id} and (why := peers.missing().get(id.partition(".")[0])):
            raise UsageError(f"method: {id!r}: {why}")
    if id not in known:
        raise expected("method", id, known, "`trilemma list` shows what each one is")
    return known[id]


def law_of(target: Any) -> Any:
    """The law whose denoiser is asked: of an inverse or an editing problem the prior, else the target itself."""
    return target.prior if family_of(target) in ("inverse", "editing") else target


def labelled(target: Any) -> bool:
    """Whether a condition on this target is a class label."""
    return getattr(law_of(target), "class_laws", None) is not None and not hasattr(target, "measurement")


def needs_of(target: Any) -> frozenset[str]:
    """The aids that methods on a target are given unless a suite says otherwise."""
    usual = {"density": {"log_density"}, "inverse": {"measurement"}, "editing": {"guide"}}
    return frozenset(usual.get(family_of(target), ()))


def aids_offered(target: Any) -> frozenset[str]:
    """All the aids that a target can hand to a method.

    condition: a class label; of an inverse problem y, as a picture where it is one. reference: Pairs to be tuned on.
    noise_logits: log p(noise level | x/alpha) of equally likely levels, from the exact density.
    """
    conditioned = callable(getattr(target, "conditional_mean", None))
    if labelled(target):
        conditioned = family_of(target) != "editing" or target.labels is not None
    more = {
        "condition": conditioned,
        "reference": getattr(target, "reference", None) is not None,
        "noise_logits": family_of(target) == "samples" and callable(getattr(target, "log_prob", None)),
    }
    return needs_of(target) | {name for name, there in more.items() if there}


def suits(needs: frozenset[str], target: Any) -> bool:
    """Whether a method with these needs can be meant on a target: it must be given all it needs, and must use what
    makes the target a problem. A label is only offered; of a measurement either form will do."""
    must = needs_of(target) | ({"condition"} if family_of(target) == "inverse" else set())
    return needs <= aids_offered(target) and (not must or bool(needs & must))


def takes_condition(card: Any, target: Any) -> bool:
    """Whether the target's condition, a label or a picture, is one that the method may be given, if it needs any."""
    if "condition" not in getattr(card, "needs", ()):
        return True
    return getattr(card, "condition", "any") in ("any", "label" if labelled(target) else "image")


def aids_of(
    card: Any, job: Job, target: Any, rows: range, device: torch.device = torch.device("cpu")
) -> dict[str, Any]:
    """name -> aid for the aids that the card needs, those that go with a sample for these `rows`; on the device."""
    needs = getattr(card, "needs", ())
    made: dict[str, Callable[[], Any]] = {
        "log_density": lambda: target.log_density,
        "measurement": lambda: _measured(job, target, rows).measurement,
        "guide": lambda: _guide(job, target, rows, device),
        "condition": lambda: _condition(job, target, rows, device),
        "noise_logits": lambda: partial(_noise_logits, target),
        "reference": lambda: Pairs(*(part.to(device, getattr(torch, job.dtype)) for part in target.reference)),
    }
    return {name: made[name]() for name in sorted(needs)}


def _measured(job: Job, target: Any, rows: range) -> Any:
    known = target.measurement.y.shape[0]
    return target if known == 1 else target.rows(measurement_of(job, known, rows))


def _guide(job: Job, target: Any, rows: range, device: torch.device) -> Guide:
    chosen = target.rows(measurement_of(job, target.guide.image.shape[0], rows))
    return editing.matching(chosen.guide, torch.empty(0, dtype=getattr(torch, job.dtype), device=device))


def _condition(job: Job, target: Any, rows: range, device: torch.device) -> Tensor:
    if family_of(target) == "inverse":
        seen = _measured(job, target, rows).measurement
        y = getattr(seen, "picture", seen.y).to(device, getattr(torch, job.dtype))
        return y.expand(len(rows), *y.shape[1:])
    return labels_of(job, target, rows).to(device)


def _noise_logits(target: Any, y: Tensor, rho: Tensor) -> Tensor:
    """[B,K]: log density of x0 + rho_k eps at y, for many rows and levels at a time."""
    most = max(1, LEVEL_ENTRIES // (len(rho) * max(1, y[0].numel())))

    def of(rows: Tensor) -> Tensor:
        sigma = rho.to(rows).repeat(len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
        return target.log_prob(rows.repeat_interleave(len(rho), 0), 1.0, sigma).reshape(len(rows), len(rho))

    return torch.cat([of(rows) for rows in y.split(most)])


def labels_of(job: Job, target: Any, rows: range) -> Tensor:
    """int64, the class that each sample of a labelled target should have: that of its guide, or by its index alone."""
    if family_of(target) == "editing":
        return target.labels[measurement_of(job, target.guide.image.shape[0], rows)]
    return spread_labels(target.class_weights, rows)


def measurement_of(job: Job, known: int, rows: range) -> list[int]:
    """Which measurement or guide each sample answers: in every shard the k-th one the k-th, modulo how many there are.

    So a job of 20 shards of 45 holds 20 posterior samples of each of 45 measurements.
    """
    place = [k % known for shard in job.rows() for k in range(len(shard))]
    return place[rows.start : rows.stop]


def batches(job: Job, device: torch.device) -> list[range]:
    """Sample indices that go through the model together: consecutive shards up to as many rows as suit the place.

    Neither shards nor workers depend on it, nor does any sample beyond round-off. A population method has its shards.
    """
    alone = job.kind == "sample" and not method_of(job.kind, job.method).per_sample
    most = 0 if alone else EXACT_ROWS if job.model == "exact" else NET_ROWS.get(device.type, OTHER_NET_ROWS)
    joined: list[range] = []
    for rows in job.rows():
        if joined and rows.stop - joined[-1].start <= most:
            joined[-1] = range(joined[-1].start, rows.stop)
        else:
            joined.append(rows)
    return joined


def offered(target: Any) -> frozenset[str]:
    """Kinds of exact model that a target has."""
    if law_of(target) is not target:
        return offered(law_of(target))
    kinds = {name for name in ("mean", "posterior", "ratio") if callable(getattr(target, name, None))}
    kinds |= {"jump"} if callable(getattr(target, "flow", None)) else set()
    return frozenset(kinds | ({"control"} if "mean" in kinds and family_of(target) == "density" else set()))


def check_fit(job: Job, card: Any, target: Any, process: Any) -> None:
    """UsageError if the method is not defined on the job's process, target, model or grid. Evaluates no model."""
    defined_on = getattr(card, "defined_on", frozenset({"token" if family_of(target) == "tokens" else "gaussian"}))
    needs = getattr(card, "needs", frozenset())
    if getattr(card, "walks", "down") != "down":
        raise UsageError(f"method: {card.id!r} walks from data to noise, expected a sampler from noise to data")
    if process.kind not in defined_on:
        kinds = " or ".join(sorted(defined_on))
        raise UsageError(f"process: {job.process!r} is of kind {process.kind!r}, expected {kinds} for {card.id}")
    only = getattr(card, "paths", frozenset())
    if only and process.name not in only:
        names = " or ".join(sorted(only))
        raise UsageError(f"process: {job.process!r}, expected {names}, on which alone {card.id} is defined")
    if not suits(needs, target):
        raise UsageError(
            f"target: {job.target!r} gives {', '.join(sorted(aids_offered(target))) or 'no aid'}, but {card.id} needs "
            f"{', '.join(sorted(needs)) or 'none'}; choose a target of the method's kind"
        )
    if not takes_condition(card, target):
        found = "label" if labelled(target) else "image"
        raise UsageError(
            f"target: the condition of {job.target!r} is of kind {found!r}, but {card.id} needs {card.condition!r}; "
            "choose a target of the method's kind"
        )
    if job.model == "exact" and "condition" in needs and card.consumes != "mean":
        raise UsageError(f"model: 'exact' under a condition gives 'mean', expected {card.consumes!r} for {card.id}")
    if job.model == "exact" and card.consumes not in offered(target):
        raise UsageError(
            f"model: 'exact' of {job.target} gives {', '.join(sorted(offered(target))) or 'nothing'}, expected "
            f"{card.consumes!r} for {card.id}; name a checkpoint that predicts it"
        )
    if job.model != "exact":
        check_model(job, card, target)
    if job.start in ("exact", "shared") and not (
        callable(getattr(target, "sample", None)) and process.kind == "gaussian"
    ):
        raise UsageError(f"start: {job.start!r} on {job.target!r}, expected 'card': it has no exact draws to be noised")
    if job.kind in ("sample", "timing"):
        if job.grid is None or job.steps is None:
            raise UsageError(f"grid, steps: {job.grid!r}, {job.steps!r}, expected both for a job of kind {job.kind!r}")
        try:
            grid = grid_of(job.grid, job.steps, card, process)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if getattr(card, "even", False) and not grids.evenly(grid[:-1]):
            raise UsageError(f"grid: {job.grid!r} has no evenly spaced times, on which alone {card.id} is defined")


@cache
def recipe_of(model: str) -> recipes.Recipe:
    """The recipe of a checkpoint that is in the lock, or that could be: a recipe's name or recipe@seed."""
    try:
        return recipes.named(checkpoints.split_name(model)[0])
    except (checkpoints.BadCheckpoint, recipes.BadRecipe):
        raise expected("model", model, {*checkpoints.names(), *recipes.names(), "exact"}) from None


def laws_of(target: Any) -> tuple[str, ...]:
    """Names of the laws that a network for this target may have learnt: its own, a problem's prior."""
    return tuple(dict.fromkeys((target.name, law_of(target).name)))


def check_model(job: Job, card: Any, target: Any) -> None:
    """UsageError if a checkpoint's network does not predict what the card consumes, for this target on this process."""
    recipe = recipe_of(job.model)
    if recipe.objective is None:
        raise UsageError(f"model: {job.model!r} is no generative model (task {recipe.task!r}), expected one that is")
    objective = catalogue.objectives()[recipe.objective]
    if objective.minimiser != card.consumes:
        found = objective.minimiser
        raise UsageError(f"model: {job.model!r} predicts {found!r}, expected {card.consumes!r} for {card.id}")
    if objective.base != getattr(card, "base", None):
        raise UsageError(f"model: {job.model!r} controls {objective.base!r}, expected {card.base!r} for {card.id}")
    if job.process.partition("[")[0] != recipe.process:
        raise UsageError(f"process: {job.process!r}, expected {recipe.process!r}, on which {job.model} was trained")
    if recipe.data not in laws_of(target):
        raise UsageError(f"target: {job.target!r}, expected {recipe.data!r}, on which {job.model} was trained")
    if "condition" in getattr(card, "needs", ()) and not recipe.conditional:
        raise UsageError(f"model: {job.model!r} takes no condition, expected one trained with labels for {card.id}")


def grid_of(name: str, steps: int, card: Any, process: Any) -> Tensor:
    """Times, float64 [steps+1] on the CPU; "own" is the card's grid. Raises BadGrid (a ValueError)."""
    grid = card.grid if name == "own" else grids.named(name)
    return grids.checked(grid(steps, process))


def model_of(job: Job, card: Any, target: Any, process: Any, device: torch.device) -> Any:
    """The job's model: the target's exact one or a checkpoint's network in its parametrisation.

    Under a condition it is a types.ConditionalModel.
    """
    if job.model != "exact":
        dtype = getattr(torch, job.net_dtype or "float32")
        return checkpoints.model(job.model, process=process, device=device, dtype=dtype)
    source = law_of(target)
    if "condition" in getattr(card, "needs", ()):
        return targets.ExactGiven(source, process) if labelled(target) else exact_given_y(target, process)
    if card.consumes == "jump":
        return Predictor("jump", lambda x, t, s: source.flow(x, *levels(process, t), *levels(process, s)))
    if card.consumes == "mean":
        return targets.exact(source, process)
    if card.consumes == "control":
        return densities.exact_control(source, process, card.base)
    predict = getattr(source, card.consumes)
    return Predictor(card.consumes, lambda x, t: predict(x, t, process))


def exact_given_y(problem: Any, process: Any) -> Conditional:
    """The exact denoiser of an inverse problem's prior, and given y that of its posterior; first: its mean given y."""
    prior = targets.exact(problem.prior, process)

    def predict(x: Tensor, t: Time, y: Tensor | None) -> Tensor:
        if y is None:
            return prior(x, t)
        return problem.conditional_mean(x, expand(process.alpha(t), x), expand(process.sigma(t), x), y)

    return Conditional("mean", predict, getattr(problem, "mean_given", None))


def levels(process: Any, t: float) -> tuple[float, float]:
    return process.alpha(t), process.sigma(t)


def like_of(job: Job, target: Any, rows: int, device: torch.device) -> Tensor:
    """An empty state of `rows` samples: shape, dtype and device for draws."""
    dtype = torch.int64 if family_of(target) == "tokens" else getattr(torch, job.dtype)
    return torch.empty(rows, *shape_of(target), dtype=dtype, device=device)


def draws_of(job: Job, rows: range, device: torch.device) -> Philox:
    return Philox(job.seed, rows, device)


def start_of(
    job: Job, card: Any, target: Any, process: Any, grid: Tensor, rows: range, draws: Philox, like: Tensor,
    aids: Mapping[str, Any],
) -> Tensor:  # fmt: skip
    """State at grid[0] of the samples `rows`, whole shards.

    Unit normals carry the tag "start" in all cases, so that all methods of a seed share them. An exact start of a
    method that is given labels is a draw from the marginal of each row's class. A shared one is that of the first
    sample of each row's shard.
    """
    if job.start in ("exact", "shared"):
        law = target.given(aids["condition"]) if "condition" in aids else target
        x = exact_start(law, process, grid[0].item(), draws, like)
        return x[firsts(job, rows)] if job.start == "shared" else x
    return card.start(draws, like, grid, process, aids)


def firsts(job: Job, rows: range) -> list[int]:
    """Of each sample among `rows`, whole shards, the place of its shard's first one."""
    return [shard.start - rows.start for shard in job.rows() for k in shard if k in rows]


def exact_start(target: Any, process: Any, t: float, draws: Philox, like: Tensor) -> Tensor:
    """A draw from the marginal at t, where the grid begins: alpha x0 + sigma eps, the same x0 and eps for all t."""
    return process.noised(target.sample(draws, like), t, draws.normal("start", like))


def span_of(job: Job) -> tuple[float, float]:
    """First and last time of a job's grid; a floor and a reference name a grid that ends where their jobs' grids do."""
    target = target_of(job.target)
    process = process_of(job.process, letters_of(target))
    if job.kind in ("floor", "reference"):
        return process.t_max, 0.0 if job.grid.endswith("_to_zero") else process.t_min
    grid = grid_of(job.grid, job.steps, method_of(job.kind, job.method), process)
    return grid[0].item(), grid[-1].item()


def points_of(target: Any, rows: range, draws: Philox, like: Tensor) -> Tensor:
    """Points to take the likelihood of: held-out rows of a data set, exact draws of a target."""
    if not isinstance(target, data.Data):
        return target.sample(draws, like)
    known = target.held_out.shape[0]
    if rows.stop > known:
        raise UsageError(f"n: {rows.stop}, expected at most {known}, the held-out rows of {target.name}")
    return target.held_out[rows.start : rows.stop].to(like)


def data_of(target: Any) -> Tensor | None:
    """The data behind a target, if it is made of data: they enter made_of. None for a law in closed form."""
    atoms = getattr(target, "atoms", None)
    return data_of(target.prior) if atoms is None and hasattr(target, "prior") else atoms
