"""Small trained networks, pinned by digest in checkpoints.lock: find, verify, fetch, load, and train again.

A checkpoint is looked for in the repository's checkpoints/, then in the folder TRILEMMA_MIRROR, then in the cache
(TRILEMMA_CACHE, by default results/cache/), and only then fetched from its url, if it has one. Whatever is found must
have the size and sha256 of the lock. Only safetensors are read: nothing is unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from benchmarks import data, recipes
from reference_impls import targets
from reference_impls.core import fit
from reference_impls.core.types import Model

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "checkpoints.lock"
COMMITTED = ROOT / "checkpoints"
CLASSIFIER = "digits-classifier"  # its features serve the digit metrics
LICENCE = "Apache-2.0"

LOCK_HEAD = """\
# Every set of weights that the suite may load. `trilemma lock verify` checks them, `trilemma lock train NAME` makes one
# again by its recipe (benchmarks/recipes/<recipe>.toml) and rewrites its entry here.
"""


class BadCheckpoint(ValueError):
    """A checkpoint that is unknown, missing or not what the lock says; the message names file, digests and mend."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One checkpoint of the lock.

    bytes, sha256: of the file. recipe, recipe_sha256, seed: how it was trained. parent: the checkpoint it was distilled
    or fine-tuned from. data_sha256: of the data set it saw. trained: versions and length of the run, for people.
    """

    name: str
    file: str
    sha256: str
    bytes: int
    licence: str
    recipe: str
    recipe_sha256: str
    seed: int
    data_sha256: str = ""
    parent: str = ""
    url: str = ""
    parameters: int = 0
    trained: str = ""


class Verdict(NamedTuple):
    """ok is None where an uncommitted checkpoint (a seed other than 0) is simply not here."""

    name: str
    ok: bool | None
    says: str


def cache_folder() -> Path:
    return Path(os.environ.get("TRILEMMA_CACHE") or ROOT / "results" / "cache")


def entries() -> dict[str, Entry]:
    """name -> entry of checkpoints.lock; raises BadCheckpoint where the lock is missing or not readable."""
    if not LOCK.exists():
        return {}
    written = LOCK.stat()
    return dict(_read(LOCK, (written.st_ino, written.st_mtime_ns, written.st_size)))


@lru_cache(maxsize=4)
def _read(lock: Path, state: tuple[int, int, int]) -> dict[str, Entry]:
    """The entries of a lock file in that state: it is asked for with every job on a network, and long."""
    try:
        return {row["name"]: Entry(**row) for row in tomllib.loads(lock.read_text()).get("checkpoint", [])}
    except (tomllib.TOMLDecodeError, TypeError, KeyError) as error:
        says = f"lock: {lock} cannot be read ({error}); restore it with `git checkout -- {lock.name}`"
        raise BadCheckpoint(says) from None


def names() -> list[str]:
    return sorted(entries())


def entry(name: str) -> Entry:
    """The lock's entry of a checkpoint; raises BadCheckpoint with the names there are."""
    found = entries()
    if name not in found:
        recipe, _, seed = name.partition("@")
        trainable = recipe in recipes.names() and (seed.isdecimal() or not seed)
        mend = f"; `trilemma lock train {name}` makes it" if trainable else ""
        known = _nearest(name, found)
        raise BadCheckpoint(f"checkpoint: {name!r} is not in {LOCK.name}; expected one of {known}{mend}")
    return found[name]


def _nearest(name: str, known: Iterable[str]) -> str:
    """The names most like this one, at most six, and how many more there are."""
    shown = get_close_matches(name, known := sorted(known), n=6, cutoff=0.0)
    more = f" and {len(known) - len(shown)} more; `trilemma list models` shows them" if len(known) > len(shown) else ""
    return (", ".join(shown) or "none") + more


def digest(name: str) -> str:
    """sha256 of the checkpoint's file, as pinned: what a record's made_of names."""
    return entry(name).sha256


def _how_to_mend(pinned: Entry) -> str:
    again = f"train it again with `trilemma lock train {pinned.name}`"
    return f"fetch it again from {pinned.url} or {again}" if pinned.url else f"restore it from git or {again}"


def checked(pinned: Entry, file: Path) -> bytes:
    """The file's bytes if they are those of the lock; raises BadCheckpoint otherwise."""
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != pinned.sha256:
        raise BadCheckpoint(
            f"checkpoint: {file} has sha256 {found} ({len(content)} bytes), expected {pinned.sha256} "
            f"({pinned.bytes} bytes) by {LOCK.name}; {_how_to_mend(pinned)}"
        )
    return content


def places(pinned: Entry) -> list[Path]:
    """Where a checkpoint may lie, in the order in which they are looked into."""
    mirror = os.environ.get("TRILEMMA_MIRROR")
    folders = [COMMITTED, *([Path(mirror)] if mirror else []), cache_folder() / "checkpoints"]
    return [folder / pinned.file for folder in folders]


def content_of(name: str) -> bytes:
    """The verified bytes of a checkpoint, fetched into the cache if it lies nowhere and has a url."""
    pinned = entry(name)
    for file in places(pinned):
        if file.exists():
            return checked(pinned, file)
    if not pinned.url:
        looked = ", ".join(str(file) for file in places(pinned))
        raise BadCheckpoint(
            f"checkpoint: {pinned.file} is missing (looked for {looked}; expected sha256 {pinned.sha256}); "
            f"{_how_to_mend(pinned)}"
        )
    import pooch  # only where something is downloaded

    fetched = pooch.retrieve(
        pinned.url, known_hash=None, fname=pinned.file, path=cache_folder() / "checkpoints", progressbar=False
    )
    return checked(pinned, Path(fetched))


def weights_of(name: str) -> dict[str, Tensor]:
    """The checkpoint's tensors by parameter name, on the CPU, as stored."""
    return load(content_of(name))


def net(name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """The raw network with its trained weights, frozen: (x, noise embedding) to raw output in float32 or better.

    dtype: of the weights and of the computation inside, e.g. torch.bfloat16.
    """
    pinned = entry(name)
    recipe = recipes.named(pinned.recipe)
    raw = recipe.untrained(pinned.seed)
    weights = weights_of(name)
    expected = {key: tuple(value.shape) for key, value in raw.state_dict().items()}
    if expected != {key: tuple(value.shape) for key, value in weights.items()}:
        raise BadCheckpoint(
            f"checkpoint: {pinned.file} does not fit the network of recipes/{recipe.name}.toml, which changed after it "
            f"was trained; train it again with `trilemma lock train {name}`"
        )
    raw.load_state_dict({key: value.float() for key, value in weights.items()})
    return raw.to(device=device, dtype=dtype).requires_grad_(False).eval()


def model(
    name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, process: object = None
) -> Model:
    """A checkpoint as a Model, joined to the parametrisation that its recipe names.

    dtype: of the network; its output is float32 or better before the parametrisation converts it. process: the path on
    which it is asked, by default the one it was trained on.
    """
    recipe = recipes.named(entry(name).recipe)
    if recipe.parametrisation is None:
        raise BadCheckpoint(f"checkpoint: {name!r} has no parametrisation, expected a model; use checkpoints.net")
    return recipe.joined(net(name, device=device, dtype=dtype), process)


def features(*, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """The digit metrics' features: images [n,1,8,8] in [-1,1] -> float32 [n,48], by the pinned classifier."""
    classifier = net(CLASSIFIER, device=device)

    @torch.no_grad()
    def of(images: Tensor) -> Tensor:
        return torch.cat([classifier.features(part.to(device)) for part in images.split(1024)])

    return of


def classes(*, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """Which digit an image shows: images [n,1,8,8] in [-1,1] -> int64 [n] on the CPU, by the pinned classifier."""
    classifier = net(CLASSIFIER, device=device)

    @torch.no_grad()
    def of(images: Tensor) -> Tensor:
        return torch.cat([classifier(part.to(device)).argmax(1).cpu() for part in images.split(1024)])

    return of


def verify() -> list[Verdict]:
    """A verdict on each checkpoint of the lock: is it there, whole, and trained by the recipe as it stands?"""
    return [_verdict(pinned) for _, pinned in sorted(entries().items())]


def parent_of(recipe: recipes.Recipe, seed: int) -> str:
    """The checkpoint from which a network of that recipe and seed starts; "" where it has no parent."""
    return f"{recipe.parent}@{seed}" if recipe.parent and seed else recipe.parent


def _verdict(pinned: Entry) -> Verdict:
    if pinned.seed and not pinned.url and not any(file.exists() for file in places(pinned)):
        return Verdict(pinned.name, None, f"{pinned.file} is not here; `trilemma lock train {pinned.name}` makes it")
    try:
        content, recipe = content_of(pinned.name), recipes.named(pinned.recipe)
    except (BadCheckpoint, recipes.BadRecipe) as error:
        return Verdict(pinned.name, False, str(error))
    if recipe.sha256 != pinned.recipe_sha256:
        says = (
            f"checkpoint: {pinned.file} was trained by another version of recipes/{recipe.name}.toml (sha256 "
            f"{recipe.sha256}, expected {pinned.recipe_sha256}); restore the recipe or train again with "
            f"`trilemma lock train {pinned.name}`"
        )
        return Verdict(pinned.name, False, says)
    if pinned.parent != parent_of(recipe, pinned.seed):
        says = (
            f"checkpoint: {pinned.file} was trained from {pinned.parent or 'first weights'}, expected from "
            f"{parent_of(recipe, pinned.seed) or 'first weights'}; train it again with `trilemma lock train "
            f"{pinned.name}`"
        )
        return Verdict(pinned.name, False, says)
    return Verdict(pinned.name, True, f"{pinned.file}: {len(content)} bytes, sha256 {pinned.sha256}")


def _written(file: Path, content: bytes) -> None:
    """Replace a file at once: a reader sees the old or the new content, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as part:
        part.write(content)
    os.chmod(part.name, 0o644)
    os.replace(part.name, file)


def pin(new: Entry) -> None:
    """Write an entry to the lock in place of the one of the same name; entries stand in the order of names.

    Trainings that end at the same moment wait for each other, so that none loses its entry.
    """
    guard = cache_folder() / "pin.guard"
    guard.parent.mkdir(parents=True, exist_ok=True)
    with guard.open("w") as held_open:
        fcntl.flock(held_open, fcntl.LOCK_EX)
        held = entries() | {new.name: new}
        rows = []
        for name in sorted(held):
            fields = {key: value for key, value in asdict(held[name]).items() if value != ""}
            rows.append("[[checkpoint]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
        _written(LOCK, (LOCK_HEAD + "\n" + "\n".join(rows)).encode())


def split_name(name: str) -> tuple[str, int]:
    """(recipe, seed) of a name: `digits-edm` is its recipe with seed 0, `digits-edm@2` the same with seed 2."""
    if name in entries():
        return entry(name).recipe, entry(name).seed
    recipe, _, seed = name.partition("@")
    if seed and not seed.isdecimal():
        raise BadCheckpoint(f"checkpoint: {name!r}, expected <recipe> or <recipe>@<seed> with an integer seed >= 0")
    return recipe, int(seed or 0)


Show = Callable[[fit.Progress, fit.Plan], None]


def train(name: str, *, device: torch.device | str = "cpu", every: int = 200, show: Show | None = None) -> Entry:
    """Train a checkpoint by its recipe, write its file and pin it; `name` as in split_name.

    The state is saved at each report, so a killed run goes on where it was; a finished one starts anew. The averaged
    weights are what is kept. Other seeds than 0 go to the cache, uncommitted. show: called at each report.
    On one kind of processor, torch version and thread number the result is bitwise the same (`trilemma lock train` is
    of one thread); elsewhere it differs by round-off.
    """
    recipe_name, seed = split_name(name)
    recipe = recipes.named(recipe_name)
    device = torch.device(device)
    parent = parent_of(recipe, seed)
    raw = (net(parent).requires_grad_(True) if parent else recipe.untrained(seed)).to(device)
    mark = f"{recipe.sha256[:12]}-{device.type}"  # a state belongs to one recipe
    saved = cache_folder() / "training" / f"{name}-{mark}.safetensors"
    state = load(saved.read_bytes()) if saved.exists() else None
    losses, reduce = recipes.losses(recipe, raw, device), recipes.reduction(recipe)
    for progress in fit.fit(raw, losses, recipe.plan, seed=seed, reduce=reduce, state=state, every=every):
        _written(saved, save(progress.state()))
        if show:
            show(progress, recipe.plan)
    ema = load(saved.read_bytes())
    storage = getattr(torch, recipe.storage)
    weights = {key.removeprefix("ema/"): value.to(storage) for key, value in ema.items() if key.startswith("ema/")}
    content = save(weights)
    new = Entry(
        name=name, file=f"{name}.safetensors", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content),
        licence=LICENCE, recipe=recipe.name, recipe_sha256=recipe.sha256, seed=seed, data_sha256=_data_digest(recipe),
        parent=parent,
        parameters=sum(value.numel() for value in weights.values()),
        trained=f"{recipe.plan.steps} updates by torch {torch.__version__} on {device.type}"
        + (f", {torch.get_num_threads()} thread(s)" if device.type == "cpu" else ""),
    )  # fmt: skip
    folder = COMMITTED if seed == 0 else cache_folder() / "checkpoints"
    _written(folder / new.file, content)
    pin(new)
    saved.unlink()
    return new


def _data_digest(recipe: recipes.Recipe) -> str:
    if recipe.task == "restore":
        return data.digest_of(targets.named(recipe.data).prior.atoms)
    return "" if recipe.task in ("paths", "rewards") else data.named(recipe.data).digest
