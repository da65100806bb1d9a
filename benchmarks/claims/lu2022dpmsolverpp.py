"""Claims about lu2022dpmsolverpp."""

import math

from benchmarks.claims import Claim, Evidence
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, t_interval

STEPS = (128, 256, 512)
METHOD = "lu2022dpmsolverpp.2m"


def errors(steps: int) -> list[Job]:
    """256 exact starts of G3 on vp-linear from .9 to .05, lam grid, under each of 10 seeds."""
    return [
        job(kind="sample", method=METHOD, target="g3", process="vp-linear[0.05,0.9]", grid="lam", steps=steps, n=256,
            shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def _slope(evidence: Evidence) -> Interval:
    first, last = ([evidence.number(job, "flow_error") for job in errors(steps)] for steps in (STEPS[0], STEPS[-1]))
    octaves = math.log2(STEPS[-1] / STEPS[0])
    slopes = [math.log2(a / b) / octaves for a, b in zip(first, last, strict=True)]
    return t_interval(slopes, evidence.level, n=256, over="seeds")


CLAIMS = (
    Claim(
        key="lu2022dpmsolverpp/2m-is-second-order",
        says="The multistep solver 2M converges with order 2, its first-order start included.",
        locus="theorem of section 4 and algorithm 2 of the paper; invariant 1 of the card",
        kind="order",
        evidence="A",
        margin=1.85,
        paper_number="2.00 on G3 [derived]; the paper proves order 2",
        estimand="slope of log error against log steps between 128 and 512 steps, mean over 10 seeds of n = 256",
        jobs=lambda: [each for steps in STEPS for each in errors(steps)],
        metrics=("flow_error",),
        judge=_slope,
    ),
)
