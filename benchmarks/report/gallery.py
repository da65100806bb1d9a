"""Samples of image jobs as strips: each method from the same noise, and the training images nearest to its samples."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from benchmarks.report.blocks import Gallery, Strip
from benchmarks.tables.views import BUDGETS, spans, within

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from benchmarks.report.inputs import Inputs

SHOWN = 12  # samples of a strip: the first ones, which are not chosen
GAP = 1  # pixels between them


def strip_png(images: Tensor) -> tuple[str, int, int]:
    """(data URI, width, height) of images [b,1,H,W] in [-1,1] side by side, one byte a pixel."""
    import torch
    from PIL import Image

    grey = ((images[:, 0].double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    count, high, wide = grey.shape
    canvas = torch.full((high, count * (wide + GAP) - GAP), 128, dtype=torch.uint8)
    for k in range(count):
        canvas[:, k * (wide + GAP) : k * (wide + GAP) + wide] = grey[k]
    out = io.BytesIO()
    Image.fromarray(canvas.numpy()).save(out, "PNG", optimize=False)
    uri = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    return uri, canvas.shape[1], canvas.shape[0]


def nearest(images: Tensor, known: Tensor) -> Tensor:
    """The nearest row of `known` to each image, root mean square over the pixels."""
    import torch

    gaps = torch.cdist(images.double().flatten(1), known.double().flatten(1))
    return known[gaps.argmin(1)]


def gallery(inputs: Inputs, rows: pd.DataFrame, target: str) -> tuple[Gallery | None, list[str]]:
    """Strips of the sample records in `rows` (one target and model), and a line for each that cannot be shown."""
    from benchmarks import data

    records = {record.id: record for record in inputs.records}
    known = data.named(target).train if target in data.NAMED else None
    strips, problems, seeds = [], [], set()
    samples = rows[(rows.kind == "sample") & (rows.value == "nfe")]
    to_zero = samples.grid.str.endswith("_to_zero")
    samples = samples if to_zero.all() else samples[~to_zero]  # one grid for all, as in the plots
    for label in sorted(set(samples.label)):
        last: Any = None
        for budget, below in spans(BUDGETS):
            for row in within(samples[samples.label == label], budget, below).head(1).itertuples():
                images, problem = _images(inputs, records[row.record])
                if problem:
                    problems.append(f"{label}, NFE {row.nfe:g}: {problem}")
                    continue
                last, nfe = images, f"{row.nfe:g}"
                seeds.add(row.seed)
                strips.append(Strip(label, nfe, *_described(images, f"{len(images)} samples of {label} at NFE {nfe}")))
        if last is not None and known is not None:
            alt = f"the training image nearest to each sample of {label} at its largest NFE"
            strips.append(Strip(label, "nearest training image", *_described(nearest(last, known), alt)))
    if not strips:
        return None, problems
    caption = (
        f"The first {SHOWN} samples of each job, not chosen; column k starts from the same normals in every row "
        f"(seed {', '.join(map(str, sorted(seeds)))}). The last row of each method holds the training image nearest to "
        "its sample at the largest NFE (root mean square over pixels): equal rows would be memorisation."
    )
    return Gallery(tuple(strips), caption), problems


def _described(images: Tensor, alt: str) -> tuple[str, str, int, int]:
    uri, width, height = strip_png(images)
    return uri, alt, width, height


def _images(inputs: Inputs, record: Any) -> tuple[Tensor | None, str]:
    """The first samples of a record, or why there are none: artefacts may have been swept away while records stay."""
    from benchmarks.records import StoreError

    if "samples" not in record.artefacts:
        return None, "no artefact"
    try:
        tensors = inputs.store.tensors(record)
    except StoreError as error:
        return None, str(error)
    x = tensors.get("x")
    if x is None or x.ndim != 4 or x.shape[1] != 1:
        return None, "its states were not kept or are no grey images"
    return x[:SHOWN], ""
