"""What is wrong with this installation, if anything, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.digests import ROOT

PACKAGES = (
    "torch", "torchvision", "torch-fidelity", "numpy", "scipy", "scikit-learn", "pydantic", "safetensors", "typer",
)  # fmt: skip
MISMATCH = "operator torchvision::nms does not exist"
FREE_BYTES = 2 * 2**30  # of disk: records, artefacts and the report take far less, training states a little
Row = dict[str, str]


def row(what: str, verdict: str, says: str) -> Row:
    return {"what": what, "verdict": verdict, "says": says}


def importing(module: str) -> tuple[bool, str]:
    """Whether a module imports, in a process of its own, and the last line that it said if not."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


def versions() -> Iterator[Row]:
    good = sys.version_info >= (3, 11)
    found = platform.python_version()
    yield row("python", "ok" if good else "bad", found + ("" if good else ", expected 3.11 or later"))
    for name in PACKAGES:
        try:
            yield row(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield row(name, "bad", f"not installed; `pip install -e {ROOT}` installs it")


def torch_and_vision(imports: Callable[[str], tuple[bool, str]] = importing) -> Iterator[Row]:
    """The trap of a torch of one build beside a torchvision of another."""
    good, said = imports("torchvision")
    if good:
        yield row("torch with torchvision", "ok", "they are builds that match")
        return
    if MISMATCH not in said:
        yield row("torch with torchvision", "bad", f"import torchvision says: {said}")
        return
    torch, vision = (importlib.metadata.version(name) for name in ("torch", "torchvision"))
    yield row(
        "torch with torchvision", "bad",
        f"torch {torch} and torchvision {vision} are builds for different devices ({said}), so torch-fidelity fails "
        "too; install both from the same index: "
        "`pip install --force-reinstall torch torchvision`, or for CPU only both with `--index-url` of the CPU builds",
    )  # fmt: skip


def device() -> Iterator[Row]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield row("device", "ok", f"cuda: {names}; use --device cuda")
    else:
        yield row("device", "ok", f"cpu: {os.cpu_count()} cores, no CUDA device")


def lock_state() -> Iterator[Row]:
    from benchmarks import checkpoints

    try:
        verdicts = checkpoints.verify()
    except checkpoints.BadCheckpoint as error:
        yield row("checkpoints.lock", "bad", str(error))
        return
    bad = [each for each in verdicts if each.ok is False]
    absent = sum(each.ok is None for each in verdicts)  # of other training seeds: never committed, trained on demand
    for each in bad:
        yield row(f"checkpoint {each.name}", "bad", each.says)
    says = f"{len(verdicts) - len(bad) - absent} of {len(verdicts)} checkpoints are as pinned"
    says += f", {absent} of other training seeds are not here (only the suite claims wants them)" if absent else ""
    yield row("checkpoints.lock", "bad" if bad else "ok", says)


def disk() -> Iterator[Row]:
    free = shutil.disk_usage(ROOT).free
    good = free >= FREE_BYTES
    says = f"{free / 2**30:.1f} GiB free" + ("" if good else ", expected at least 2")
    yield row("disk", "ok" if good else "bad", says)


def findings() -> list[Row]:
    """One row per thing looked at; verdict ok or bad. A torch that does not import ends the list."""
    rows = [*versions(), *disk()]
    good, said = importing("torch")
    if not good:
        return [*rows, row("torch", "bad", f"import torch says: {said}")]
    return [*rows, *torch_and_vision(), *device(), *lock_state()]
