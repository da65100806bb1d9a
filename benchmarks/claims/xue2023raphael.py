"""Claims about xue2023raphael: time experts whose groups a router chooses.

As in the claims about experts for equal blocks, an expert is the exact denoiser frozen in the middle of its group; the
router prefers the nearest group of equal length in lam.
"""

import math

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval


def g3(experts: int, method: str = "xue2023raphael.ddim") -> list[Job]:
    """256 exact starts of G3 under each of 10 seeds, DDIM with 50 steps in lam on vp-linear; frozen experts."""
    return [
        job(kind="sample", method=method, options={"experts": experts, "frozen": True}, target="g3",
            process="vp-linear", grid="lam", steps=50, n=256, shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def _log_ratio(ours: list[Job], theirs: list[Job], evidence: Evidence) -> Interval:
    return paired_over(evidence, "flow_error", ours, theirs, change=math.log)


COMMON = dict(
    evidence="A", metrics=("flow_error",), transfer="weak", direction="below",
    scaled="a text-to-image network to frozen exact denoisers on a one-dimensional mixture; FID to the error against "
    "the exact flow",
)  # fmt: skip

CLAIMS = (
    Claim(
        key="xue2023raphael/four-time-experts-halve-the-error-of-one", kind="threshold", margin=-math.log(2),
        says="Four time experts that do not see t within their groups at least halve the error of one.",
        locus="the ablation of the time experts [recall]", paper_number="time experts lower the FID on COCO [recall]",
        estimand="log of (RMS error with 4 experts)/(with 1), mean over 10 seeds of n = 256",
        jobs=lambda: [*g3(4), *g3(1)], judge=lambda evidence: _log_ratio(g3(4), g3(1), evidence), **COMMON,
    ),
    Claim(
        key="xue2023raphael/groups-by-level-beat-equal-blocks-of-steps", kind="ranking",
        says="At four experts a router that groups by log-SNR comes nearer than blocks of equal numbers of steps.",
        locus="no statement of the paper: what a router may choose and a fixed partition may not",
        estimand="log of (RMS error, groups in lam)/(RMS error, blocks in t), mean over 10 seeds of n = 256",
        jobs=lambda: [*g3(4), *g3(4, "feng2023mode.ddim")],
        judge=lambda evidence: _log_ratio(g3(4), g3(4, "feng2023mode.ddim"), evidence), **COMMON,
    ),
    Claim(
        key="xue2023raphael/zero-shot-fid-on-coco", kind="ranking", evidence="C", transfer="strong",
        says="Zero-shot FID on MS-COCO is lower than that of the earlier mixture of denoising experts.",
        locus="table of the paper [recall]", paper_number="6.61 [recall] against 6.75 [text]",
        estimand="difference of the FID on MS-COCO 256x256",
        missing="the authors' checkpoints (none published) and MS-COCO; the nearest in reach is "
        "xue2023raphael/four-time-experts-halve-the-error-of-one",
    ),
    Claim(
        key="xue2023raphael/an-outline-s-loss-below-half-the-chain-sharpens-pictures", kind="ranking", evidence="S",
        says="Experts for words, each where its word is attended to, and an edge loss for t <= 500 make better pictures.",
        locus="the paper's space experts and edge supervision [text: a published summary]; the file's Differs: that the "
        "threshold .2 is relative to each map's largest value, the focal loss and its constants are [recall]",
        direction="below", transfer="weak", scaled="a text-to-image network to one of digits with labels for words",
        estimand="Frechet distance with both minus that with neither, over training seeds",
        missing="a network with cross-attention to words; test_xue2023raphael.py::"
        "test_a_word_acts_where_its_attention_exceeds_a_fifth_of_its_largest and "
        "test_edge_loss_is_the_focal_loss_and_stops_at_half_the_chain have the rules; the nearest in reach is "
        "xue2023raphael/four-time-experts-halve-the-error-of-one",
    ),
)  # fmt: skip
