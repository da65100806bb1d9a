"""Scoring, a stage of its own: stored samples, and what a metric may need beside them, into score records."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import checkpoints, data, flow_reference, metrics, problems, provenance
from benchmarks.digests import digest, merged, module_digest, sources_digest
from benchmarks.jobs import Job, UsageError
from benchmarks.metrics import Context, Metric
from benchmarks.records import Record, Score, Store, score_id
from benchmarks.run import NonFinite, reason_of, record_of, sampled
from reference_impls.targets.labelled import class_log_prob

TABLE_CELLS = 2**20  # largest table of all token sequences that is formed
FULL_STEPS = 50  # of the run that a shortened one is compared with, as papers on acceleration have it
SCORING = ("score", "flow_reference", "problems")  # modules that decide what a metric is given
NO_SAMPLES = "none"  # what a floor is a score of: the reference itself


def floor_job(job: Job) -> Job | None:
    """The noise floor that stands beside a sample job: the same for all methods of a table. None for other kinds."""
    if job.kind != "sample":
        return None
    common = dict(kind="floor", method="target", target=job.target, n=job.n, shards=job.shards, seed=job.seed)
    if job.start != "exact":
        return Job(**common)
    end = "t" if problems.span_of(job)[1] > 0 else "t_to_zero"
    return Job(**common, process=job.process, start="exact", grid=end)


def traits_of(job: Job) -> frozenset[str]:
    """What can be said of a job's samples before they are looked at; keys of metrics.TRAITS."""
    target, family = problems.target_of(job.target), problems.family_of(problems.target_of(job.target))
    found = {
        "samples": _traits_of_samples, "tokens": _traits_of_tokens, "density": _traits_of_density,
        "inverse": _traits_of_problem, "editing": _traits_of_guides,
    }[family](job, target)  # fmt: skip
    return frozenset(found)


def _traits_of_samples(job: Job, target: Any) -> set[str]:
    found = _traits_of_law(target)
    if job.kind == "floor":
        return found | ({"exact_flow"} if job.start == "exact" else set())
    if job.start == "shared":
        return {"shared_start"}
    card = problems.method_of("sample", job.method)
    if "condition" not in card.needs:
        found.discard("labels")
        found |= {"exact_flow"} if job.start == "exact" and not card.stochastic else set()
        found |= {"full_run"} if "exact_flow" in found and job.grid != "own" else set()
    return found


def _traits_of_law(law: Any) -> set[str]:
    found = {"train"} if law.name in data.NAMED else set()
    found |= {"features"} if law.name in data.NAMED and extractor_for(law.name) else set()
    found |= {"exact_samples"} if callable(getattr(law, "sample", None)) else set()
    found |= {"modes"} if getattr(law, "modes", None) is not None else set()
    found |= {"total_variance"} if hasattr(law, "total_variance") else set()
    found |= {"reward"} if callable(getattr(law, "reward", None)) else set()
    found |= {"atoms"} if problems.data_of(law) is not None and not getattr(law, "blur", 0) else set()
    normal_components = all(hasattr(law, name) for name in ("weights", "means", "variances"))
    found |= {"mixture_1d"} if tuple(law.shape) == (1,) and normal_components else set()
    seen = "atoms" not in found or "features" in found  # what tells classes apart: densities, or a classifier
    return found | ({"labels"} if problems.labelled(law) and seen else set())


def _traits_of_guides(job: Job, target: Any) -> set[str]:
    found = _traits_of_law(target.prior) - {"mixture_1d"}
    if target.labels is None:
        found.discard("labels")
    found |= {"rest"} if target.rest is not None else set()
    return found | {"guides"} | ({"known"} if target.guide.known is not None else set())


def _traits_of_tokens(job: Job, target: Any) -> set[str]:
    if not callable(getattr(target, "table", None)):
        return {"tokens", "text"}
    small = target.K ** target.shape[0] <= TABLE_CELLS
    return {"tokens", "token_table"} if small else {"tokens"}


def _traits_of_density(job: Job, target: Any) -> set[str]:
    found = {"modes"} if getattr(target, "modes", None) is not None else set()
    found |= {"exact_samples"} if callable(getattr(target, "sample", None)) else set()
    return found | ({"log_weight"} if job.kind == "sample" else set())


def _traits_of_problem(job: Job, target: Any) -> set[str]:
    return {"posterior", "truth"} if getattr(target, "truth", None) is not None else {"posterior"}


def wanted(job: Job, names: Sequence[str]) -> list[Metric]:
    """Those of the named metrics ("all": every one there is) that apply to a job and, for a floor, have a floor."""
    chosen = metrics.metrics().values() if "all" in names else [metrics.named(name) for name in names]
    traits = traits_of(job)
    return [metric for metric in chosen if metric.applies(traits) and (job.kind != "floor" or metric.floor)]


@cache
def extractor_for(name: str) -> str | None:
    """The checkpoint whose features serve the metrics on this data set; None where there is none."""
    pinned = checkpoints.entries().get(checkpoints.CLASSIFIER)
    return checkpoints.CLASSIFIER if pinned and problems.recipe_of(pinned.name).data == name else None


def needs_reference(job: Job, chosen: Sequence[Metric]) -> bool:
    """Whether these metrics want an exact flow that has no closed form."""
    wants = any("exact_flow" in metric.needs for metric in chosen)
    return wants and not flow_reference.is_closed(problems.target_of(job.target))


def reference_for(job: Job) -> Job:
    return flow_reference.reference_job(job)


def full_run(job: Job) -> Job:
    """The whole run that a shortened one is compared with: FULL_STEPS steps on its grid, with nothing left out.

    Of a method whose evaluations are known only afterwards it is what its card reduces to first, that is without its
    skips; of any other the method itself.
    """
    card = problems.method_of("sample", job.method)
    method, options = job.method, job.options
    if card.nfe is None and card.reduces:
        method, options = card.reduces[0].to, dict(card.reduces[0].to_options)
    return Job(**job.asked | {"method": method, "options": options, "steps": FULL_STEPS})


@cache
def _metric_parts(name: str) -> str:
    return sources_digest(metrics.named(name).score.__module__)


def made_of(metric: Metric, job: Job, reference: Record | None) -> dict[str, str]:
    """What would answer a score now: the metric's file, the target, the reference and the features it uses."""
    parts = {
        "metric": _metric_parts(metric.name),
        "scoring": merged({name: module_digest(f"benchmarks.{name}") for name in SCORING}),
        **provenance.target_parts(job.target),
    }
    law = problems.law_of(problems.target_of(job.target)).name
    if job.target in data.NAMED:
        parts["data"] = _data_digest(job.target)
    if "features" in metric.needs or ("labels" in metric.needs and law in data.NAMED):
        weights = checkpoints.digest(extractor_for(law))
        parts["features"] = merged({"weights": weights, "net": sources_digest("reference_impls.nets.classifier")})
    if "full_run" in metric.needs:
        parts["full run"] = merged(provenance.method_parts(full_run(job)))
    if "exact_flow" in metric.needs and reference is not None:
        parts["reference"] = reference.samples_digest
    return parts


@cache
def _data_digest(name: str) -> str:
    return data.named(name).digest


def is_current(record: Record) -> bool:
    """provenance.is_current, for scores too. Whether a reference is current is said by the reference's own record."""
    if record.score is None:
        return provenance.is_current(record)
    try:
        found = made_of(metrics.named(record.score.metric), record.job, None)
    except (UsageError, KeyError):  # its metric or target is no more
        return False
    return found == {role: sha256 for role, sha256 in record.made_of.items() if role != "reference"}


def score_of(metric: Metric, record: Record | None) -> Score:
    """What is asked of a record's samples; of a floor, which has none, with record None."""
    return Score(metric=metric.name, samples=record.samples_digest if record else NO_SAMPLES)


def key_of(metric: Metric, job: Job, record: Record | None, reference: Record | None) -> tuple[str, dict[str, str]]:
    """(id, made_of) of the score record that would be written now."""
    return score_id(job, score_of(metric, record)), made_of(metric, job, reference)


class Scorer:
    """Scores records on one device; contexts are kept, as what depends on the reference alone is computed once."""

    def __init__(self, store: Store, device: str):
        self.store, self.device = store, device
        self._contexts: dict[str, Context] = {}
        self._flows: dict[str, dict[str, Any]] = {}
        self._full: tuple[str, list[Tensor]] = "", []  # of the last job that asked, and its ends
        self._classes: Callable[[Tensor], Tensor] | None = None  # of the data set's pinned classifier

    def score(self, job: Job, record: Record | None, reference: Record | None, names: Sequence[str]) -> list[Record]:
        """One appended record per metric: of `record`'s samples, or of the floor where record is None."""
        written, context = [], None
        for metric in wanted(job, names):
            begun = time.perf_counter()
            status, reason, values = "ok", "", {}
            try:
                if context is None:
                    context, shards = self._context(job, record, reference)
                if "exact_flow" in metric.needs and context.ends is None:
                    raise ValueError("reference: the exact flow of these start states is missing, see its own row")
                found = metric.score(shards, context) if record else metric.floor(context)
                values = _checked(found)
            except Exception as error:  # the job boundary: a failure is a result
                status, reason = reason_of(error)
            new = record_of(
                job, self.device, status=status, reason=reason, values=values, score=score_of(metric, record),
                made_of=made_of(metric, job, reference), seconds=time.perf_counter() - begun,
            )  # fmt: skip
            written.append(self.store.append(new))
        return written

    def _context(self, job: Job, record: Record | None, reference: Record | None) -> tuple[Context, list[Tensor]]:
        tensors = self.store.tensors(record) if record else {}
        if record and "x" not in tensors:
            raise ValueError("samples: only their moments were kept, expected the states; ask for a smaller n")
        sizes = [len(rows) for rows in job.rows()]
        parts: dict[str, Any] = self._flow(job, reference) | self._groups(job) | self._asked(job)
        parts["full"] = partial(self._whole, job)
        if "log_weight" in tensors:
            parts["log_weight"] = list(tensors["log_weight"].split(sizes))
        return replace(self._shared(job), **parts), list(tensors["x"].split(sizes)) if record else []

    def _shared(self, job: Job) -> Context:
        """What all jobs on one target and seed share."""
        key = digest([job.target, job.seed])
        if key not in self._contexts:
            target = problems.target_of(job.target)
            family, law = problems.family_of(target), problems.law_of(target)
            parts: dict[str, Any] = {"target": law if family == "editing" else target, "seed": job.seed}
            if family == "inverse":
                parts["problem"] = target
            elif "text" in traits_of(job):
                parts |= {"text": text_of(target.train), "held_out_text": target.held_out.flatten()}
                parts["classes"] = problems.letters_of(target)
            elif family in ("samples", "editing") and law.name in data.NAMED:
                known = data.named(law.name)
                parts |= {"reference": known.held_out, "train": known.train}
                if extractor_for(law.name):
                    parts["features"] = checkpoints.features(device=self.device)
            self._contexts[key] = Context(**parts)
        return self._contexts[key]

    def _flow(self, job: Job, reference: Record | None) -> dict[str, Any]:
        """Start states, the law at the end, and the ends of the exact flow: shared by all methods on one path."""
        target, cpu = problems.target_of(job.target), torch.device("cpu")
        if job.start != "exact":  # a floor takes sizes and shapes from its start states, and nothing else
            return {"start": [problems.like_of(job, target, len(rows), cpu) for rows in job.rows()]}
        span = problems.span_of(job)
        key = digest([job.target, job.process, span, job.n, job.shards, job.seed, job.dtype])
        if key not in self._flows:
            end = problems.levels(problems.process_of(job.process), span[1])
            self._flows[key] = {"start": flow_reference.starts(job, cpu), "end": end}
            if flow_reference.is_closed(target):
                self._flows[key]["ends"] = flow_reference.closed_ends(job)
        if flow_reference.is_closed(target) or reference is None:
            return self._flows[key]
        sizes, found = [len(rows) for rows in job.rows()], self.store.tensors(reference)
        ends = {"ends": list(found["x"].split(sizes)), "coarse_ends": list(found["coarse"].split(sizes))}
        return {**self._flows[key], **ends}

    def _whole(self, job: Job) -> list[Tensor]:
        """End states of the whole run; the last one is kept, since jobs that share it are scored in turn."""
        full = full_run(job)
        if self._full[0] != full.id:
            _, made = sampled(full, torch.device(self.device))
            self._full = full.id, list(made["x"].split([len(rows) for rows in full.rows()]))
        return self._full[1]

    def _classifier(self, law: Any) -> Callable[[Tensor], Tensor]:
        """[b,*D] -> int64 [b]: the pinned classifier's choice where the law has one, else the likeliest class."""
        if law.name in data.NAMED:
            self._classes = self._classes or checkpoints.classes(device=self.device)
            return self._classes
        return lambda x: class_log_prob(law, x).argmax(1)

    def _asked(self, job: Job) -> dict[str, Any]:
        """The label and the guide of every sample, by shard, where the job's target has them."""
        target, found = problems.target_of(job.target), {}
        if "labels" in traits_of(job):
            found["labels"] = [problems.labels_of(job, target, rows) for rows in job.rows()]
            found["classify"] = self._classifier(problems.law_of(target))  # not all on a target have it
        if problems.family_of(target) == "editing":
            count = target.guide.image.shape[0]
            group = [torch.tensor(problems.measurement_of(job, count, rows)) for rows in job.rows()]
            guides = [target.rows(rows).guide for rows in group]
            found |= {"group": group, "guides": [guide.image for guide in guides]}
            if target.rest is not None:
                found["rest"] = [target.rest(target, row) for row in range(count)]
            if target.guide.known is not None:
                found["known"] = [guide.known.expand(guide.image.shape) for guide in guides]
        return found

    def _groups(self, job: Job) -> dict[str, Any]:
        target = problems.target_of(job.target)
        if problems.family_of(target) != "inverse":
            return {}
        known = target.measurement.y.shape[0]
        group = [torch.tensor(problems.measurement_of(job, known, rows)) for rows in job.rows()]
        truth = getattr(target, "truth", None)
        return {"group": group} if truth is None else {"group": group, "truth": [truth[rows] for rows in group]}


def text_of(windows: Tensor) -> Tensor:
    """The text whose windows at all offsets are the rows: int64 [m] from [m-L+1,L]."""
    return torch.cat([windows[:, 0], windows[-1, 1:]])


def _checked(found: metrics.Scores) -> dict[str, Any]:
    for name, value in found.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, float) and not math.isfinite(each):
                raise NonFinite(f"{name}: {each}, expected a finite number")
    return dict(found)
