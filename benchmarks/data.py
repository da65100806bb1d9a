"""Data sets as tensors, with digests and splits. Nothing is downloaded: scikit-learn's digits, also dequantised, the
Python standard library's own source text, and samples of the suite's Markov source and of a mixture in the plane.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from reference_impls import targets
from reference_impls.core.draws import Philox

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # newline and the 95 printable ASCII characters: 96
WINDOW = 64

# Files of the standard library that every Python since 3.11 has. The split is by file, so that no text is in both.
CORPUS_TRAIN = """
argparse ast base64 bdb calendar cmd codecs collections/__init__ configparser contextlib copy csv dataclasses difflib
doctest email/feedparser email/header email/message enum filecmp fileinput fractions ftplib functools gettext glob
gzip hashlib http/client http/cookiejar http/server imaplib inspect ipaddress json/decoder json/encoder
logging/__init__ logging/handlers mailbox mimetypes multiprocessing/managers multiprocessing/pool operator optparse os
pdb pickle pickletools platform plistlib poplib posixpath pprint queue random runpy selectors shelve shlex shutil
socket socketserver statistics string subprocess tarfile tempfile textwrap threading timeit tokenize trace traceback
types typing unittest/case unittest/mock urllib/parse urllib/request uuid warnings wave weakref webbrowser
xml/dom/minidom xml/etree/ElementTree xmlrpc/client
""".split()
CORPUS_HELD_OUT = """
asyncio/base_events asyncio/streams asyncio/tasks concurrent/futures/process heapq http/cookies logging/config
multiprocessing/connection pstats smtplib
""".split()

DEQUANTISE_SEED, DEQUANTISED = 17, 32  # the noise, and how often each digit to train on is there, with noise of its own
SAMPLED_SEED = 20260  # of the data sets that are samples of a target
MARKOV_SAMPLES, RING_SAMPLES = 2**16, 2**14  # the training half; the held-out half has the sample indices after it


@dataclass(frozen=True)
class Data:
    """A data set. train, held_out: [n,*D]; labels, where it has them, are int64 [n] in the same two parts.

    digest: sha256 over both parts (and labels), their dtypes and shapes: what a record's `made_of` names.
    """

    name: str
    train: Tensor
    held_out: Tensor
    digest: str
    train_labels: Tensor | None = None
    held_out_labels: Tensor | None = None


def digest_of(*tensors: Tensor) -> str:
    """sha256 over dtype, shape and bytes of each tensor in turn; views and copies give the same."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        total.update(tensor.detach().cpu().numpy().tobytes())
    return total.hexdigest()


def digits() -> Data:
    """Scikit-learn's 8x8 digits in [-1,1], float64 [n,1,8,8]: 897 to train on, 900 held out (targets/atoms.py)."""
    from reference_impls.targets import atoms

    (train, train_labels), (held_out, held_out_labels) = atoms.digits("train"), atoms.digits("held_out")
    digest = digest_of(train, train_labels, held_out, held_out_labels)
    return Data("digits", train, held_out, digest, train_labels, held_out_labels)


def dequantised_digits() -> Data:
    """The digits with their 17 grey levels spread to intervals that fill [-1,1]: x = 2 (level + u)/17 - 1, u uniform.

    32 times 897 to train on, 900 held out. A density of x in nats is bits per dimension by `bits_per_dimension` of
    song2021sde with levels 17 and width 2.
    """
    known = digits()
    parts = [known.train.repeat(DEQUANTISED, 1, 1, 1), known.held_out]
    for half, images in enumerate(parts):
        u = Philox(DEQUANTISE_SEED, len(images)).at(half).uniform("dequantise", tuple(images.shape))
        parts[half] = 2 * (8 * (images + 1) + u) / 17 - 1
    return Data("digits-dequantised", *parts, digest_of(*parts))


def source_text(modules: list[str]) -> str:
    """The standard library's source of `modules` in turn; tabs expanded, characters outside ALPHABET dropped.

    Raises FileNotFoundError, naming the file, in a Python that was installed without its sources.
    """
    folder, known, parts = Path(sysconfig.get_paths()["stdlib"]), set(ALPHABET), []
    for module in modules:
        file = folder / f"{module}.py"
        if not file.exists():
            raise FileNotFoundError(f"corpus: {file} is missing; the character corpus needs a Python with its sources")
        text = file.read_text(encoding="utf-8").expandtabs(4)
        parts.append("".join(c for c in text if c in known))
    return "\n".join(parts)


def tokens_of(text: str) -> Tensor:
    """int64 [n]: each character's place in ALPHABET."""
    lookup = torch.full((128,), -1)
    lookup[[ord(c) for c in ALPHABET]] = torch.arange(len(ALPHABET))
    return lookup[torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8).long()]


def text_of(tokens: Tensor) -> str:
    """The characters of int64 [n]; tokens that are no character (a mask) show as the black square."""
    return "".join(ALPHABET[k] if k < len(ALPHABET) else "\N{BLACK SQUARE}" for k in tokens.tolist())


def characters() -> Data:
    """Windows of 64 characters of Python source: all offsets of the train text (a view), disjoint ones of the held-out.

    The text differs between Python's patch versions and so does the digest, which is that of the two texts.
    """
    train, held_out = tokens_of(source_text(CORPUS_TRAIN)), tokens_of(source_text(CORPUS_HELD_OUT))
    digest = digest_of(train.to(torch.uint8), held_out.to(torch.uint8))
    return Data("characters", train.unfold(0, WINDOW, 1), held_out.unfold(0, WINDOW, WINDOW), digest)


def sampled(name: str, samples: int, dtype: torch.dtype) -> Data:
    """Samples of a target, [n,*D]: two equal halves, drawn at different sample indices."""
    source = targets.named(name)
    like = torch.empty(samples, *source.shape, dtype=dtype)
    halves = [source.sample(Philox(SAMPLED_SEED, range(k * samples, (k + 1) * samples)), like) for k in range(2)]
    return Data(name, *halves, digest_of(*halves))


NAMED: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "digits-dequantised": dequantised_digits,
    "characters": characters,
    "markov": lambda: sampled("markov", MARKOV_SAMPLES, torch.int64),
    "ring-2d-rewarded": lambda: sampled("ring-2d-rewarded", RING_SAMPLES, torch.float64),
}


@cache
def named(name: str) -> Data:
    """A data set by name, made once; raises KeyError with the names there are."""
    if name not in NAMED:
        raise KeyError(f"data: {name!r} is not known; expected one of {', '.join(NAMED)}")
    return NAMED[name]()
