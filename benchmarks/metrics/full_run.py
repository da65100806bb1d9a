"""Distance of a shortened run to the whole one: how acceleration without training is judged, image by image.

The whole run takes context.full() from the same start states: the method with nothing left out, see score.full_run. No
truth enters: a run may keep close to the whole one and both be far from the flow (flow_error), or the other way round.
full_run_error is the root mean square over coordinates and samples, full_run_error_median the median over the samples
of the root mean square over coordinates: few samples that end in another mode do not move it.
"""

from __future__ import annotations

from benchmarks.metrics import Context, Metric, Scores, Shards
from benchmarks.metrics.flow_error import errors


def full_run_error(samples: Shards, context: Context) -> Scores:
    error = errors(samples, context.full())
    return {"full_run_error": error.square().mean().sqrt().item(), "full_run_error_median": error.quantile(0.5).item()}


METRICS = (
    Metric(
        name="full_run_error", title="RMS distance to the whole run", unit="state", better="lower", ideal=0.0,
        needs=frozenset({"full_run"}), score=full_run_error,
    ),
)  # fmt: skip
