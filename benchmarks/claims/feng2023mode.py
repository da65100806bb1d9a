"""Claims about feng2023mode: what more experts of the same active size buy.

The exact denoiser has no defects that experts could mend, so their capacity is limited on purpose: a frozen expert does
not see t and answers as the denoiser does in the middle of its block (a stand-in that the paper's file labels so).
"""

import math

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval


def g3(experts: int, frozen: bool = True) -> list[Job]:
    """256 exact starts of G3 under each of 10 seeds, DDIM with 50 steps in lam on vp-linear."""
    return [
        job(kind="sample", method="feng2023mode.ddim", options={"experts": experts, "frozen": frozen}, target="g3",
            process="vp-linear", grid="lam", steps=50, n=256, shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def _log_ratio(ours: int, theirs: int):
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, "flow_error", g3(ours), g3(theirs), change=math.log)

    return judge


def _claim(ours: int, theirs: int, margin: float, says: str) -> Claim:
    return Claim(
        key=f"feng2023mode/{ours}-experts-are-nearer-than-{theirs}",
        says=says,
        locus="section 3.3 of the paper [recall]; the card's small claim",
        kind="threshold" if margin else "ranking",
        evidence="A",
        direction="below",
        margin=margin,
        paper_number="more experts, better FID on COCO [recall]",
        scaled="text to image by ten networks to frozen exact denoisers on a one-dimensional mixture; FID to the error "
        "against the exact flow",
        transfer="weak",
        estimand=f"log of (RMS error with {ours} experts)/(with {theirs}), mean over 10 seeds of n = 256",
        jobs=lambda: [*g3(ours), *g3(theirs)],
        metrics=("flow_error",),
        judge=_log_ratio(ours, theirs),
    )


CLAIMS = (
    _claim(2, 1, 0.0, "Two experts that do not see t within their blocks come nearer to the exact flow than one."),
    _claim(10, 1, -math.log(2), "Ten such experts, the published number, at least halve the error of one."),
    Claim(
        key="feng2023mode/exact-experts-cost-nothing",
        says="Experts that are exact on their blocks give the samples of the one exact denoiser.",
        locus="invariant 4 of the card [derived]",
        kind="limit-equality",
        evidence="E",
        direction="within",
        margin=1e-9,
        scaled="nothing",
        estimand="largest difference over seeds of the flow error with ten exact experts and with one",
        jobs=lambda: [*g3(10, False), *g3(1, False)],
        metrics=("flow_error",),
        judge=lambda evidence: max(
            (evidence.number(a, "flow_error") - evidence.number(b, "flow_error")
             for a, b in zip(g3(10, False), g3(1, False), strict=True)), key=abs
        ),
    ),
    Claim(
        key="feng2023mode/trained-experts-lower-the-loss-of-some-block",
        says="At equal total updates n > 1 trained experts lower the denoising loss in at least one block.",
        locus="section 4.3 of the paper [recall]; the card's small claim",
        kind="ranking",
        evidence="S",
        transfer="weak",
        estimand="log of (loss of n experts)/(loss of one) in the block where it is least, mean over 3 training seeds",
        missing="networks of 1, 2, 4 and 8 experts with three training seeds; the nearest in reach is "
        "feng2023mode/2-experts-are-nearer-than-1",
    ),
)  # fmt: skip
