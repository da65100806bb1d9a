"""Claims about lipman2022fm."""

import math

from benchmarks.claims import Claim, Evidence
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, median_interval
from reference_impls.targets.random_mixtures import NAMED


def solved(process: str) -> list[Job]:
    """dopri5 at its default tolerance 1e-5 on 20 random mixtures: 64 exact starts each."""
    return [
        job(
            kind="sample",
            method="lipman2022fm.dopri5",
            target=target,
            process=process,
            grid="t",
            steps=1,
            n=64,
            start="exact",
        )
        for target in NAMED
    ]


def _evaluations(evidence: Evidence) -> Interval:
    straight, curved = (
        [evidence.number(each, "nfe") for each in solved(process)] for process in ("condot", "vp-linear")
    )
    return median_interval([math.log(a / b) for a, b in zip(straight, curved, strict=True)], evidence.level)


CLAIMS = (
    Claim(
        key="lipman2022fm/the-ot-path-needs-fewer-evaluations",
        says="At equal tolerance an adaptive solver needs fewer evaluations on the optimal-transport path than on the VP path.",
        locus="section 6 and figure 5 of the paper [recall]; claim a of the card",
        kind="ranking",
        evidence="A",
        direction="below",
        paper_number="CIFAR-10: 142 evaluations against 183 [recall]",
        scaled="trained networks on images to exact velocities of 20 random two-dimensional mixtures, t from 1 to 1e-3",
        transfer="strong",
        estimand="median over 20 targets of log of (NFE on condot)/(NFE on vp-linear), n = 64 starts each",
        jobs=lambda: [*solved("condot"), *solved("vp-linear")],
        judge=_evaluations,
    ),
)
