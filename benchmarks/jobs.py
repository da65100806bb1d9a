"""What is asked: a job names a method and the problem it is run on, and nothing about where, when or why it is run.

``job.id`` is the digest of the canonical JSON of its fields. Fields that are None do not enter it, so that a new
optional field leaves every older id as it is. Nothing here evaluates a model or imports torch before it must.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache, cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.digests import digest

JobKind = Literal["sample", "likelihood", "timing", "overhead", "law", "reference", "floor"]
ALONE = ("timing", "overhead")  # kinds that are measured last and one at a time, and belong to a place
Option = bool | int | float | str


class UsageError(ValueError):
    """A user's mistake, in one line: the argument, its value, what was expected, what to do."""


class Job(BaseModel):
    """One question to one method.

    kind       sample      run a sampler from n start states; artefact: the end states
               likelihood  log p of n points of the target by a Likelihood; artefact: nats per point
               timing      seconds of a sampler against the bare network in alternation; n is the batch
               overhead    seconds of a sampler's own work on states of `shape` against a bare loop; no target
               law         whether a law holds of a method, and if not by how much and where; no target
               reference   the exact probability flow of a target without a closed map, from the same start states
               floor       what a metric says of the truth: n exact draws of the target, the train half of a data set
    method     id of a sampler or likelihood; "flow" for reference, "target" for floor
    options    options of `sample` that differ from their defaults
    target     name of a target or data set; process: name, or name[t_min,t_max]; None for a floor
    model      "exact" (the target's own denoiser, posterior or ratio) or the name of a checkpoint
    grid       name of a grid, or "own": the card's; steps: intervals
    n, shards  samples, and the number of blocks into which they are split for uncertainty and for batches
    seed       of every draw; sample k of every method with this seed has the same start normals
    dtype      of the state; net_dtype: of a network's weights and activations, None for model "exact"
    start      "card": the card's start; "exact": x_T = alpha x0 + sigma eps, a draw from the marginal at t_max;
               "shared": such a draw for each shard, from which all samples of the shard start
    law        name of a law; shape: name of a shape of states, for example 64x2
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: JobKind
    method: str
    options: dict[str, Option] = {}
    target: str = ""
    process: str | None = None
    model: str = "exact"
    grid: str | None = None
    steps: int | None = Field(default=None, ge=1)
    n: int = Field(ge=1)
    shards: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    dtype: Literal["float64", "float32"] = "float64"
    net_dtype: Literal["float32", "bfloat16", "float16"] | None = None
    start: Literal["card", "exact", "shared"] | None = None
    law: str | None = None
    shape: str | None = None

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The fields that are not None, as plain data: what the id is a digest of."""
        return self.model_dump(exclude_none=True)

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of what is asked."""
        return digest(self.asked)

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        """A line for people: method on target, with the fields that differ from job to job."""
        options = "".join(f" {name}={value}" for name, value in sorted(self.options.items()))
        if self.kind in ("law", "overhead"):
            return f"{self.kind} {self.law or self.shape} of {self.method}{options}"
        place = f" {self.process}" if self.process else ""
        grid = f" {self.grid}x{self.steps}" if self.grid else ""
        model = "" if self.model == "exact" else f" net={self.model}"
        return f"{self.kind} {self.method}{options} on {self.target}{place}{grid}{model} n={self.n} seed={self.seed}"

    def rows(self) -> list[range]:
        """Sample indices of each shard: contiguous, sizes equal or differing by one."""
        ends = [k * self.n // self.shards for k in range(self.shards + 1)]
        return [range(first, last) for first, last in zip(ends, ends[1:], strict=False)]


def expected(argument: str, value: Any, names: Iterable[str], mend: str = "") -> UsageError:
    """The error for a name that is not among `names`: lists the nearest ones first, at most twelve."""
    names = sorted(names)
    near = get_close_matches(str(value), names, n=3, cutoff=0.5)
    shown = near + [name for name in names if name not in near]
    rest = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    said = f"{argument}: {value!r} is not known; expected one of {', '.join(shown[:12])}{rest}"
    return UsageError(said + (f"; {mend}" if mend else ""))


def job(**fields: Any) -> Job:
    """A checked job. Raises UsageError, before anything is evaluated, on every field that cannot be answered."""
    try:
        made = Job(**fields)
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "finite_number")  # of an option, one for each type
        name = ".".join(str(part) for part in first["loc"][:2]) or "job"
        value = first.get("input")
        said = first["msg"][0].lower() + first["msg"][1:]
        raise UsageError(f"{name}: {value!r}, {said}; mend this field of the job") from None
    return checked(made)


def checked(job: Job) -> Job:
    """The same job with its options in the types of their defaults; raises UsageError if it cannot be answered."""
    from benchmarks import problems

    if job.kind in ("law", "overhead"):
        return _without_target(job)
    if job.shards > job.n:
        raise UsageError(f"shards: {job.shards}, expected at most n = {job.n}; use fewer shards or more samples")
    target = problems.target_of(job.target)
    if job.kind == "floor":
        return job
    if job.process is None:
        raise UsageError(f"process: None, expected the name of a process for a job of kind {job.kind!r}")
    process = problems.process_of(job.process, problems.letters_of(target))
    if job.kind == "reference":
        return job
    card = problems.method_of(job.kind, job.method)
    typed = Job(**{**job.asked, "options": _typed(card, job.options)})
    problems.check_fit(typed, card, target, process)
    return typed


def _without_target(job: Job) -> Job:
    """A checked job about a method alone."""
    from benchmarks import problems

    card = problems.method_of(job.kind, job.method)
    if job.kind == "law":
        from benchmarks.referee import asked

        names = [law.name for law in asked(card)]
        if job.law not in names:
            raise expected("law", job.law, names, f"these are what the card of {card.id} calls for")
    else:
        from benchmarks.overhead import SHAPES

        if job.shape not in SHAPES:
            raise expected("shape", job.shape, SHAPES)
        if card.needs or card.consumes != "mean" or card.walks != "down":
            raise UsageError(f"method: {card.id!r}, expected a sampler of means that needs no aid, to be run alone")
    return Job(**{**job.asked, "options": _typed(card, job.options)})


@cache
def options_of(function: Callable[..., Any], aids: frozenset[str] = frozenset()) -> Mapping[str, Any]:
    """name -> default of a method's options: keyword-only with a plain default, without process, draws and its aids."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        and name not in {"process", "draws", *aids}
        and isinstance(parameter.default, bool | int | float | str)
    }


def _typed(card: Any, options: Mapping[str, Any]) -> dict[str, Option]:
    known = options_of(getattr(card, "sample", None) or card.log_prob, getattr(card, "needs", frozenset()))
    typed = {}
    for name, value in options.items():
        if name not in known:
            raise expected(f"option of {card.id}", name, known, "options stand in the signature of its function")
        if isinstance(value, int) and not isinstance(value, bool) and isinstance(known[name], float):
            value = float(value)  # 0 and 0.0 ask the same
        if type(value) is not type(known[name]):
            kind = type(known[name]).__name__
            raise UsageError(f"option {name} of {card.id}: {value!r}, expected {kind} like its default {known[name]!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"option {name} of {card.id}: {value!r}, expected a finite number or none at all")
        typed[name] = value
    return typed
