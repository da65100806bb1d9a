"""One job in, one record out: the boundary at which every failure becomes a result."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import checkpoints, flow_reference, overhead, peers, problems, provenance, timing
from benchmarks.jobs import Job
from benchmarks.records import Artefact, Record, Score, Status, Store, Value, now, score_id
from benchmarks.statistics import Moments, t_interval

KEPT_BYTES = 4 * 2**20  # end states up to this size are kept; of larger jobs each shard leaves its moments
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")

Answer = tuple[dict[str, Value], dict[str, Tensor]]  # values, tensors of the artefact "samples"


class NonFinite(ArithmeticError):
    """A method returned values that are not finite; the message says how many."""


def finite(values: Tensor, what: str) -> Tensor:
    """The values themselves; raises NonFinite."""
    bad = int((~torch.isfinite(values)).flatten(1).any(1).sum()) if values.is_floating_point() else 0
    if bad:
        raise NonFinite(f"{what}: {bad} of {values.shape[0]} rows are not finite")
    return values


def sampled(job: Job, device: torch.device) -> Answer:
    """Run the sampler, batch by batch."""
    target = problems.target_of(job.target)
    process = problems.process_of(job.process, problems.letters_of(target))
    card = problems.method_of(job.kind, job.method)
    grid = problems.grid_of(job.grid, job.steps, card, process)
    model = problems.model_of(job, card, target, process, device)
    parts: dict[str, list[Tensor]] = {"x": [], "log_weight": []}
    nfe = vjps = 0.0
    for rows in problems.batches(job, device):
        draws, like = problems.draws_of(job, rows, device), problems.like_of(job, target, len(rows), device)
        aids = problems.aids_of(card, job, target, rows, device)
        x = problems.start_of(job, card, target, process, grid, rows, draws, like, aids)
        run = card.sample(model, x, grid, process=process, draws=draws, **job.options, **aids)
        nfe, vjps = nfe + run.nfe * len(rows), vjps + run.vjps * len(rows)
        parts["x"].append(run.x.detach().cpu())
        if run.log_weight is not None:
            parts["log_weight"].append(run.log_weight.detach().cpu())
    whole = {name: torch.cat(found) for name, found in parts.items() if found}
    finite(whole["x"], "samples")
    values: dict[str, Value] = {"nfe": nfe / job.n, "vjps": vjps / job.n, "n": job.n}
    values |= {"t_start": grid[0].item(), "t_end": grid[-1].item()}
    return values, kept(job, whole)


def kept(job: Job, whole: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is stored: all states in sample order while they are small, else each shard's n, mean and M2."""
    x = whole["x"]
    if x.numel() * x.element_size() <= KEPT_BYTES:
        return whole
    moments = [Moments.of(x[rows.start : rows.stop].flatten(1)) for rows in job.rows()]
    return {name: rows for name, rows in whole.items() if name != "x"} | {
        "shard_n": torch.tensor([each.n for each in moments]),
        "shard_mean": torch.stack([each.mean for each in moments]),
        "shard_m2": torch.stack([each.m2 for each in moments]),
    }


def likelihood(job: Job, device: torch.device) -> Answer:
    """log p of n points: held-out rows of a data set, or exact draws of a target."""
    target = problems.target_of(job.target)
    process = problems.process_of(job.process, problems.letters_of(target))
    card = problems.method_of(job.kind, job.method)
    model = problems.model_of(job, card, target, process, device)
    nats, known = [], []
    for rows in problems.batches(job, device):
        draws, like = problems.draws_of(job, rows, device), problems.like_of(job, target, len(rows), device)
        x0 = problems.points_of(target, rows, draws, like)
        log_p = card.log_prob(model, x0, process=process, draws=draws, **job.options)
        nats.append(finite(log_p[:, None], "log p")[:, 0].detach().cpu().double())
        if callable(getattr(target, "log_prob", None)) and problems.data_of(target) is None:  # atoms have no density
            known.append(target.log_prob(x0).detach().cpu().double())
    whole = torch.cat(nats)
    means = [whole[rows.start : rows.stop].mean().item() for rows in job.rows()]
    values: dict[str, Value] = {"n": job.n, "dimensions": math.prod(problems.shape_of(target))}
    values["log_p"] = t_interval(means, n=job.n, over="shards") if job.shards > 1 else whole.mean().item()
    if known:
        values["log_p_exact"] = torch.cat(known).mean().item()
        values["log_p_error_max"] = (whole - torch.cat(known)).abs().max().item()
    return values, {"log_p": whole}


def referenced(job: Job, device: torch.device) -> Answer:
    """The exact flow by brute force, and its own error."""
    found = {name: finite(rows, "reference").cpu() for name, rows in flow_reference.ends(job, device).items()}
    gap = (found["x"] - found["coarse"]).flatten(1).square().mean(1).sqrt()
    return {"n": job.n, "coarse_error": gap.square().mean().sqrt().item(), "coarse_error_max": gap.max().item()}, found


def timed(job: Job, device: torch.device) -> Answer:
    return timing.timed(job, device), {}


def held(job: Job, device: torch.device) -> Answer:
    """A law held against a method. That it fails is an answer, and so is what its code raised."""
    from benchmarks import referee  # hypothesis, which nothing else here needs

    card = problems.method_of(job.kind, job.method)
    with torch.enable_grad():
        found = referee.verdict(referee.law_named(job.law), card)
    said = {"outcome": found.outcome, "why": found.why, "example": found.example, "again": found.again}
    library = {"library": peers.version_of(job.method)} if peers.is_peer(job.method) else {}
    return {"holds": found.outcome == "holds", "good": found.good, **said, **library}, {}


def overheads(job: Job, device: torch.device) -> Answer:
    return overhead.measured(job, device), {}


ANSWERS: dict[str, Callable[[Job, torch.device], Answer]] = {
    "sample": sampled,
    "likelihood": likelihood,
    "reference": referenced,
    "timing": timed,
    "overhead": overheads,
    "law": held,
}


def reason_of(error: BaseException) -> tuple[Status, str]:
    """Status and one line for whatever a method raised."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, NonFinite):
        return "nonfinite", first
    if isinstance(error, checkpoints.BadCheckpoint):
        return "skipped", first
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in first for text in OUT_OF_MEMORY):
        return "oom", first
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return "failed", f"{type(error).__name__}: {first}{where}"


def record_of(
    job: Job,
    device: str,
    *,
    status: Status,
    seconds: float,
    reason: str = "",
    values: dict[str, Value] | None = None,
    artefacts: dict[str, Artefact] | None = None,
    score: Score | None = None,
    made_of: dict[str, str] | None = None,
) -> Record:
    """A record made here and now."""
    place = provenance.place(device)
    commit, dirty = provenance.commit()
    return Record(
        id=job.id if score is None else score_id(job, score), kind=job.kind if score is None else "score", job=job,
        score=score, made_of=made_of or provenance.made_of(job, place), status=status, reason=reason,
        values=values or {}, artefacts=artefacts or {}, place=place, seconds=seconds, commit=commit, dirty=dirty,
        written=now(),
    )  # fmt: skip


def answered(job: Job, device: str, store: Store) -> Record:
    """Run a job and write its record, whatever happens short of the process's death."""
    begun = time.perf_counter()
    values: dict[str, Any] = {}
    artefacts: dict[str, Artefact] = {}
    status, reason = "ok", ""
    try:
        with torch.no_grad():
            values, tensors = ANSWERS[job.kind](job, torch.device(device))
        if tensors:
            artefacts = {"samples": store.save(tensors)}
    except Exception as error:  # the job boundary: a failure is a result
        status, reason = reason_of(error)
        values = {}
    seconds = time.perf_counter() - begun
    record = record_of(job, device, status=status, reason=reason, values=values, artefacts=artefacts, seconds=seconds)
    return store.append(record)
