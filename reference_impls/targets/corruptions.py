"""Editing problems whose guides are held-out digits corrupted in one of five ways, of which a method is told none.

Pixels lie in [-1, 1]; the corruptions are those of common benchmarks (Hendrycks & Dietterich 2019: blur, contrast,
impulse noise, pixelation) and a mask. A digit of 8 x 8 pixels bears less than a photograph: the strengths are such
that a classifier of clean digits still reads most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide
from reference_impls.targets.editing import GUIDE_SEED, Editing, of_digits, painted_over

CONTRAST, SALTED = 0.4, 0.15


def blurred(images: Tensor) -> Tensor:
    """[G,1,H,W] under the binomial kernel (1, 2, 1)/4 along rows and columns, edges mirrored."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=images.dtype)
    mirrored = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    return torch.nn.functional.conv2d(mirrored, torch.outer(line, line)[None, None])


def faded(images: Tensor) -> Tensor:
    """CONTRAST of each pixel's distance from its picture's mean."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(images), images, CONTRAST)


def salted(images: Tensor) -> Tensor:
    """A share SALTED of the pixels is -1 or 1, either as often as the other."""
    u = Philox(GUIDE_SEED, images.shape[0]).uniform("salt", tuple(images.shape)).to(images)
    return torch.where(u < SALTED / 2, -1.0, torch.where(u > 1 - SALTED / 2, 1.0, images))


def masked(images: Tensor) -> Tensor:
    """The guides of "digits-patched", of which nobody is told where the patch lies."""
    return painted_over(images).image


def pixelated(images: Tensor) -> Tensor:
    """Means over blocks of 2 x 2 pixels."""
    return torch.nn.functional.avg_pool2d(images, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)


CORRUPTIONS = {each.__name__: each for each in (blurred, faded, salted, masked, pixelated)}


def corrupted_digits(how: str) -> Editing:
    """Held-out digits as one of CORRUPTIONS leaves them; `truth` has them clean."""
    return of_digits(f"digits-{how}-guides", lambda images: Guide(CORRUPTIONS[how](images)))


NAMED: dict[str, Callable[[], Editing]] = {
    f"digits-{how}-guides": partial(corrupted_digits, how) for how in CORRUPTIONS
}
