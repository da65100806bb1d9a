"""Editing problems: guides that a method starts from, on priors whose denoiser is exact.

A guide is an image that is not, or not yet, a sample of the prior: strokes, a picture with a part painted over, one
quarter of a picture. Each problem holds G of them; sample k answers guide k of its shard, modulo G. `known` marks what
must be kept. `labels` (or None) says what class each guide shows, `truth` (or None) what it was made from: for metrics
and for methods that take a condition, never for those that take the guide alone. All is drawn from Philox, keyed by
the guide's place.

The exact denoiser of the 897 digits is no network: a held-out digit lies .29 (RMS over pixels) from the nearest of
them, where the noise it predicts at sigma = .01 is 29. Inversion along the flow does not bring such a guide back, on
the pixels to be kept of "digits-patched" it leaves .6 from 200 levels, a network trained on the same digits .02. What
inversion keeps is asked with networks, therefore; methods that noise their guide may be asked with either.

Noised to (alpha, sigma) and brought back to data, a guide g on the prior N(mu, C) ends, along the eigenvectors of C
with variance c and v = alpha^2 c + sigma^2, with the law N(m, s^2):
    by the flow                  m = mu + sqrt(c / v) alpha (g - mu),     s^2 = c sigma^2 / v
    by the time-reversed SDE     m = mu + (alpha c / v) alpha (g - mu),   s^2 = (alpha c sigma / v)^2 + c sigma^2 / v
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide
from reference_impls.targets.atoms import Atoms, digits, labelled_digits
from reference_impls.targets.gaussian import Gaussian, gaussian_2d
from reference_impls.targets.mixtures import Product, mixture_2d

Rows = Tensor | range | list[int]
GUIDE_SEED = 20220801


@dataclass(frozen=True)
class Editing:
    """prior: a target; guide.image [G,*D] float64, guide.known bool [G,*D], [1,*D] or None; labels int64 [G].

    rest: (problem, row) -> the exact law, on the line, of the one coordinate that is not known given those that are.
    """

    name: str
    prior: Any
    guide: Guide
    labels: Tensor | None = None
    truth: Tensor | None = None
    rest: Callable[[Editing, int], Product] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.prior.shape)

    def rows(self, index: Rows) -> Editing:
        """The same problem with these of its guides, repeats allowed."""
        index = torch.as_tensor(index)
        image, known = self.guide
        known = known[index] if known is not None and known.shape[0] > 1 else known
        labels, truth = (None if part is None else part[index] for part in (self.labels, self.truth))
        return replace(self, guide=Guide(image[index], known), labels=labels, truth=truth)


def matching(guide: Guide, like: Tensor) -> Guide:
    """The guide in like's dtype and device."""
    known = None if guide.known is None else guide.known.to(like.device)
    return Guide(guide.image.to(like), known)


def edited(prior: Gaussian, guide: Tensor, alpha: float, sigma: float, *, by: str) -> tuple[Tensor, Tensor]:
    """Mean [G,d] and covariance [d,d] of guides [G,d] noised to (alpha, sigma) and brought back; by "flow" or "sde"."""
    if by not in ("flow", "sde"):
        raise ValueError(f"by: {by!r}, expected 'flow' or 'sde'")
    c = prior.variances
    v = alpha**2 * c + sigma**2
    gain = (c / v).sqrt() if by == "flow" else alpha * c / v
    spread = (gain * sigma) ** 2 + (0 if by == "flow" else c * sigma**2 / v)
    basis = torch.eye(len(c), dtype=torch.float64) if prior.basis is None else prior.basis
    return prior.mu + ((guide - prior.mu) @ basis * (alpha * gain)) @ basis.T, (basis * spread) @ basis.T


def gaussian_guides() -> Editing:
    """30 guides well outside gaussian-2d: at 2 to 5 of its standard deviations, in all directions."""
    prior, count = gaussian_2d(), 30
    angle = torch.arange(count, dtype=torch.float64) * (2 * torch.pi / count)
    radius = 2 + 3 * Philox(GUIDE_SEED, count).uniform("radius", (count,))
    white = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return Editing("gaussian-2d-guides", prior, Guide(prior.mu + (white * prior.variances.sqrt()) @ prior.basis.T))


def mixture_half() -> Editing:
    """30 exact samples of mixture-2d of which the first coordinate must be kept and the second is 0."""
    prior, count = mixture_2d(), 30
    truth = prior.sample(Philox(GUIDE_SEED, count), torch.empty(count, 2, dtype=torch.float64))
    known = torch.tensor([[True, False]])
    return Editing("mixture-2d-half", prior, Guide(truth * known, known), truth=truth, rest=rest_given_known)


def rest_given_known(problem: Editing, row: int) -> Product:
    """Of "mixture-2d-half": the exact law of the second coordinate given the first, a mixture on the line."""
    prior, a = problem.prior, problem.guide.image[row, 0]
    spread, cross, rest = (prior.covariances[:, i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    residual = a - prior.means[:, 0]
    weights = (prior.weights.log() - residual**2 / (2 * spread) - spread.log() / 2).softmax(0)
    means, variances = prior.means[:, 1] + cross / spread * residual, rest - cross**2 / spread
    return Product(f"{problem.name} {row}", weights[:, None], means[:, None], variances[:, None])


def strokes(images: Tensor) -> Tensor:
    """Broad strokes in three tones: means over blocks of 2 x 2 pixels, rounded to -1, 0 or 1, spread out again."""
    blocks = torch.nn.functional.avg_pool2d(images, 2).round() + 0.0  # no -0
    return blocks.repeat_interleave(2, -1).repeat_interleave(2, -2)


def painted_over(images: Tensor) -> Guide:
    """A patch of 3 x 5 or 5 x 3 pixels in each image, at a place of its own, is of one tone; the rest is known."""
    count, _, height, width = images.shape
    u = Philox(GUIDE_SEED, count).uniform("patch", (count, 4))
    tall = u[:, 0] < 0.5
    size = torch.where(tall[:, None], torch.tensor([5, 3]), torch.tensor([3, 5]))
    top = (u[:, 1:3] * (torch.tensor([height, width]) - size + 1)).long()
    row, column = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    inside = (row >= top[:, 0, None, None]) & (row < (top + size)[:, 0, None, None])
    inside = inside & (column >= top[:, 1, None, None]) & (column < (top + size)[:, 1, None, None])
    tone = 2 * u[:, 3] - 1
    return Guide(torch.where(inside[:, None], tone[:, None, None, None], images), ~inside[:, None])


def first_quarter(images: Tensor) -> Guide:
    """The upper left quarter of each image on middle grey; only it is known."""
    known = torch.zeros(1, *images.shape[1:], dtype=torch.bool)
    known[..., : images.shape[-2] // 2, : images.shape[-1] // 2] = True
    return Guide(images * known, known)


def of_digits(name: str, make: Callable[[Tensor], Guide]) -> Editing:
    """Guides made from the 900 held-out digits, with their labels; the prior is that of the training digits."""
    truth, labels = digits("held_out")
    prior: Atoms = labelled_digits()
    return Editing(name, prior, make(truth), labels, truth)


NAMED: dict[str, Callable[[], Editing]] = {
    "gaussian-2d-guides": gaussian_guides,
    "mixture-2d-half": mixture_half,
    "digits-strokes": partial(of_digits, "digits-strokes", lambda images: Guide(strokes(images))),
    "digits-patched": partial(of_digits, "digits-patched", painted_over),
    "digits-quarter": partial(of_digits, "digits-quarter", first_quarter),
}
