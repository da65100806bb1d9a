"""Where and of what a record is made: role -> sha256 of what answers a job, the place, and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache, partial

import torch

from benchmarks import checkpoints, data, peers, problems
from benchmarks.digests import ROOT, digest, merged, module_digest, sources_digest
from benchmarks.jobs import Job, UsageError
from benchmarks.records import Place, Record
from reference_impls import catalogue, targets

DRAWS = "reference_impls.core.draws"
GRIDS = "reference_impls.core.grids"


@cache
def target_parts(name: str) -> dict[str, str]:
    """The target's file with all behind it, and the digest of its data where it is made of data."""
    target = problems.target_of(name)
    if isinstance(target, data.Data):
        return {"target": sources_digest("benchmarks.data"), "data": target.digest}
    maker = targets.makers()[name]
    while isinstance(maker, partial):
        maker = maker.func
    parts = {"target": sources_digest(maker.__module__)}
    behind = problems.data_of(target)
    return parts if behind is None else {**parts, "data": data.digest_of(behind)}


@cache
def model_parts(name: str) -> dict[str, str]:
    """A checkpoint's digest, and that of the sources that turn it into a model: network and parametrisation."""
    recipe = problems.recipe_of(name)
    key = recipe.parametrisation.split(".", 1)[0]
    network = f"reference_impls.nets.{recipe.net['kind']}"
    pinned = checkpoints.digest(name) if name in checkpoints.names() else "not in checkpoints.lock"
    return {
        "checkpoint": pinned,
        "model": merged({"net": sources_digest(network), "join": sources_digest(catalogue.modules()[key])}),
    }


@cache
def problem_part() -> str:
    """What turns names into start states and noise."""
    return merged({"problem": module_digest("benchmarks.problems"), "draws": sources_digest(DRAWS)})


def method_parts(job: Job) -> dict[str, str]:
    """The file of the method; for the jobs that the harness answers itself, the file that does it."""
    if job.kind in ("reference", "floor"):
        return {"method": module_digest("benchmarks.flow_reference")} if job.kind == "reference" else {}
    key = job.method.split(".", 1)[0]
    if peers.is_peer(job.method):
        return {"method": sources_digest(f"benchmarks.peers.{key}"), "library": digest(peers.version_of(job.method))}
    return {"method": sources_digest(catalogue.modules()[key])}


def made_of(job: Job, place: Place | None = None) -> dict[str, str]:
    """What would answer `job` now. place: of a job that is measured in seconds, whose answer it is part of."""
    if job.kind == "law":
        from benchmarks.laws import laws  # hypothesis, which nothing else here needs

        checks = laws()[job.law].check.__module__
        return {**method_parts(job), "law": sources_digest(checks), "referee": module_digest("benchmarks.referee")}
    if job.kind == "overhead":
        ours = {"overhead": module_digest("benchmarks.overhead"), "place": digest(place.model_dump())}
        return {**method_parts(job), **ours}
    parts = {
        **method_parts(job),
        **target_parts(job.target),
        **({} if job.model == "exact" else model_parts(job.model)),
        "problem": problem_part(),
    }
    if job.grid not in (None, "own"):
        parts["grid"] = sources_digest(GRIDS)
    if job.kind == "timing":
        parts["timing"] = module_digest("benchmarks.timing")
        parts["place"] = digest(place.model_dump())
    return parts


@cache
def place(device: str) -> Place:
    """This machine, as far as it can change a number or a time."""
    at = torch.device(device)
    hardware = torch.cuda.get_device_name(at) if at.type == "cuda" else cpu_name()
    return Place(
        device=at.type,
        hardware=hardware,
        threads=torch.get_num_threads() if at.type == "cpu" else 0,
        python=platform.python_version(),
        torch=torch.__version__,
        platform=f"{sys.platform}-{platform.machine()}",
    )


def cpu_name() -> str:
    """The processor's name and how many of it there are."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux: the platform's own name stays
    return f"{name} x{os.cpu_count()}"


@cache
def commit() -> tuple[str, bool]:
    """(commit, dirty) of the repository; ("unknown", True) outside one."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip(), bool(git("status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def is_current(record: Record) -> bool:
    """Whether what made a record (no score: see score.py) is what would answer its question now."""
    try:
        return record.made_of == made_of(record.job, record.place)
    except (UsageError, KeyError):  # its method, target or model is no more
        return False
