"""What methods ask of their options before the first evaluation, in one wording; all raise ValueError."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from reference_impls.core.types import Guide


def counts(least: int, **named: Any) -> None:
    """Refuses, by its name, what is no integer of at least `least`."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: {value!r}, expected an integer >= {least}")


def one_of(name: str, value: str, known: Collection[str]) -> str:
    """The value; refuses what is none of the known."""
    if value not in known:
        raise ValueError(f"{name}: {value!r} is not known; expected one of {', '.join(known)}")
    return value


def fitting(guide: Any, x: Tensor) -> Guide:
    """The guide as x [B,*D] is, in shape, dtype and device; refuses an image that is not one for each row of x or for
    all of them, and a mask that does not broadcast to x."""
    if not isinstance(guide, Guide) or not isinstance(guide.image, Tensor):
        raise ValueError(f"guide: {type(guide).__name__}, expected Guide(image, known), see types.Guide")
    image, known = guide
    if known is not None and (not isinstance(known, Tensor) or known.dtype != torch.bool):
        found = getattr(known, "dtype", type(known).__name__)
        raise ValueError(f"guide.known: {found}, expected torch.bool, True where it is kept; give mask > 0")
    shape, wanted = tuple(image.shape), tuple(x.shape)
    if shape not in (wanted, (1, *wanted[1:]), wanted[1:]):
        raise ValueError(f"guide.image: shape {shape}, expected {wanted}, that of x, or one row for all")
    if known is not None and not _broadcasts(known, x):
        raise ValueError(f"guide.known: shape {tuple(known.shape)}, expected one that broadcasts to x, {wanted}")
    return Guide(image.to(x.device, x.dtype).expand_as(x), None if known is None else known.to(x.device))


def _broadcasts(part: Tensor, x: Tensor) -> bool:
    own = part.shape[::-1]
    return len(own) <= x.ndim and all(a in (1, b) for a, b in zip(own, x.shape[::-1], strict=False))
