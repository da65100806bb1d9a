"""Claims about lu2022dpmsolver.

The orders under FRESH seeds were added after an audit: claim c of the card names one for every scheme, and three alone
had been asked. Not blind: the card's slopes over nine starts and the repository's tests of them were known.
"""

import math
from collections.abc import Callable
from functools import partial

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, t_interval

DPM2, DPM3, DDIM = "lu2022dpmsolver.singlestep2", "lu2022dpmsolver.singlestep3", "song2020ddim.ddim"
SEEDS, FRESH = range(10), range(20, 30)


def g3(
    method: str, steps: int, path: str = "ve-edm", grid: str = "power(7)", shards: int = 10, seeds: range = SEEDS,
    **options,
) -> list[Job]:  # fmt: skip
    """Error against the exact flow for 256 exact starts under each of the seeds; ve-edm runs from 80 to .002.

    Adaptive methods run in one shard: the code's control is of the batch, and one of 256 is what is meant.
    """
    return [
        job(kind="sample", method=method, options=options, target="g3", process=path, grid=grid, steps=steps, n=256,
            shards=shards, seed=seed, start="exact")
        for seed in seeds
    ]  # fmt: skip


def log_ratio(
    sentence: str, ours: Callable[[], list[Job]], theirs: Callable[[], list[Job]], *, name: str = "flow_error", **fields
) -> Claim:
    """A claim about the mean over seeds of log(value of ours / value of theirs)."""
    return Claim(
        key=f"lu2022dpmsolver/{sentence}", evidence="A", metrics=("flow_error",),
        jobs=lambda: [*ours(), *theirs()],
        judge=lambda evidence: paired_over(evidence, name, ours(), theirs(), change=math.log), **fields,
    )  # fmt: skip


def slope(evidence: Evidence, first: list[Job], last: list[Job]) -> Interval:
    """Slope of log error against log steps, seed by seed."""
    octaves = math.log2(last[0].steps / first[0].steps)
    pairs = [[evidence.number(each, "flow_error") for each in pair] for pair in zip(first, last, strict=True)]
    return t_interval([math.log2(a / b) / octaves for a, b in pairs], evidence.level, n=256, over="seeds")


def order(
    sentence: str, method: str, steps: tuple[int, int], grid: str = "lam", seeds: range = SEEDS, **fields
) -> Claim:  # fmt: skip
    first, last = (partial(g3, method, n, "vp-linear[0.05,0.9]", grid, seeds=seeds) for n in steps)
    return Claim(
        key=f"lu2022dpmsolver/{sentence}", kind="order", evidence="A", metrics=("flow_error",),
        jobs=lambda: [*first(), *last()], judge=lambda evidence: slope(evidence, first(), last()),
        estimand=f"slope of log error against log steps from {steps[0]} to {steps[1]}, mean over 10 seeds of n = 256",
        **fields,
    )  # fmt: skip


IN_ONE_DIMENSION = dict(
    scaled="images to a one-dimensional mixture with an exact denoiser; FID to the RMS error against the exact flow",
    transfer="strong",
)
CLAIMS = (
    log_ratio(
        "order-three-beats-order-two-at-24-evaluations", partial(g3, DPM3, 8), partial(g3, DPM2, 12),
        says="At 24 evaluations DPM-Solver-3 is more exact than DPM-Solver-2.",
        locus="table 1 and figure 2 of the paper [recall]; claim a of the card", kind="ranking", direction="below",
        paper_number="G3: 2.49e-2 against 6.09e-2 [derived]",
        estimand="log of (RMS error of order 3)/(of order 2) at 24 evaluations, mean over 10 seeds of n = 256",
        **IN_ONE_DIMENSION,
    ),
    log_ratio(
        "order-two-beats-ddim-at-24-evaluations", partial(g3, DPM2, 12), partial(g3, DDIM, 24),
        says="At 24 evaluations DPM-Solver-2 is more exact than DDIM.",
        locus="table 1 and figure 2 of the paper [recall]; claim a of the card", kind="ranking", direction="below",
        paper_number="G3: 6.09e-2 against .105 [derived]",
        estimand="log of (RMS error of order 2)/(of DDIM) at 24 evaluations, mean over 10 seeds of n = 256",
        **IN_ONE_DIMENSION,
    ),
    log_ratio(
        "order-two-loses-to-ddim-at-12-evaluations", partial(g3, DPM2, 6), partial(g3, DDIM, 12),
        says="At a dozen evaluations DPM-Solver-2 is worse than DDIM: the paper's advantage does not reach so far.",
        locus="no statement of the paper; claim b of the card sets this limit", kind="negative",
        paper_number="G3: .291 against .198 at 12 [derived]; CIFAR-10 FID 145.98 against 66.76 at 4 [text, third party]",
        estimand="log of (RMS error of order 2)/(of DDIM) at 12 evaluations, mean over 10 seeds of n = 256",
        **IN_ONE_DIMENSION,
    ),
    log_ratio(
        "order-two-loses-to-ddim-at-6-evaluations", partial(g3, DPM2, 3), partial(g3, DDIM, 6),
        says="At half a dozen evaluations DPM-Solver-2 has at least twice the error of DDIM.",
        locus="no statement of the paper; claim b of the card sets this limit", kind="negative", margin=math.log(2),
        paper_number="G3: .948 against .376 at 6 [derived]",
        estimand="log of (RMS error of order 2)/(of DDIM) at 6 evaluations, mean over 10 seeds of n = 256",
        **IN_ONE_DIMENSION,
    ),
    log_ratio(
        "order-three-beats-order-two-at-60-evaluations", partial(g3, DPM3, 20), partial(g3, DPM2, 30),
        says="At 60 evaluations DPM-Solver-3 has at most a quarter of the error of DPM-Solver-2.",
        locus="table 1 and figure 2 of the paper [recall]; claim a of the card", kind="ranking", direction="below",
        margin=math.log(0.25), paper_number="G3: 8.24e-4 against 7.23e-3 [derived]",
        estimand="log of (RMS error of order 3)/(of order 2) at 60 evaluations, mean over 10 seeds of n = 256",
        **IN_ONE_DIMENSION,
    ),
    log_ratio(
        "the-clip-of-the-cosine-chain-pays-at-10-steps",
        partial(g3, "lu2022dpmsolver.2m_clipped", 10, "discrete-cosine[0.001,1]", "own"),
        partial(g3, "lu2022dpmsolver.2m", 10, "discrete-cosine[0.001,1]", "lam"),
        says="On the cosine chain ten steps that begin at log-SNR -5.1, four levels late, have less than half the error.",
        locus="no statement of the paper; the code's numerical_clip_alpha, whose comment promises stability",
        kind="ranking", direction="below", margin=math.log(0.5),
        estimand="log of (RMS error from the clip)/(from the chain's end), 2M, 10 steps, mean over 10 seeds of n = 256",
        scaled="images to a one-dimensional mixture; each is compared with the exact flow from its own start",
        transfer="weak",
    ),
    order(
        "singlestep-three-is-third-order", DPM3, (64, 256),
        says="DPM-Solver-3 converges with order 3.",
        locus="theorem 3.2 of the paper [recall]; claim c of the card", margin=2.85,
        paper_number="2.98 on G3 [derived]; the paper proves order 3",
    ),
    order(
        "fast-is-second-order-where-it-ends-in-order-one", "lu2022dpmsolver.fast", (192, 768), "own",
        says="DPM-Solver-fast converges with order 2, not 3, where its evaluations divide by 3: its last step costs one.",
        locus="no statement of the paper, whose appendix defines the tail; invariant 1 of the card",
        direction="below", margin=2.3, paper_number="2.00 on G3 [derived]",
    ),
    order(
        "fast-is-second-order-where-one-evaluation-is-left", "lu2022dpmsolver.fast", (193, 769), "own", FRESH,
        says="DPM-Solver-fast converges with order 2 where one evaluation is left over: it pays for a step of order 1.",
        locus="no statement of the paper, whose appendix defines the tail; invariant 1 of the card",
        direction="below", margin=2.3, paper_number="2.00 on G3 [derived]",
    ),
    order(
        "fast-is-third-order-where-two-evaluations-are-left", "lu2022dpmsolver.fast", (194, 770), "own", FRESH,
        says="DPM-Solver-fast converges with order 3 where two evaluations are left over: no step of it is of order 1.",
        locus="no statement of the paper, whose appendix defines the tail; invariant 1 of the card", margin=2.7,
        paper_number="3.0 on G3 [derived]",
    ),
    order(
        "singlestep-two-is-second-order", DPM2, (128, 512), seeds=FRESH,
        says="DPM-Solver-2 converges with order 2.",
        locus="theorem 3.2 of the paper [recall]; claim c of the card", margin=1.85,
        paper_number="2.01 on G3 [derived]; the paper proves order 2",
    ),
    order(
        "the-taylor-form-of-order-two-is-second-order", "lu2022dpmsolver.singlestep2_taylor", (128, 512), seeds=FRESH,
        says="The Taylor form of DPM-Solver-2 converges with order 2.",
        locus="solver_type 'taylor' of dpm_solver_pytorch.py; claim c of the card", margin=1.85,
        paper_number="1.97 on G3 [derived]",
    ),
    order(
        "the-taylor-form-of-order-three-is-third-order", "lu2022dpmsolver.singlestep3_taylor", (64, 256), seeds=FRESH,
        says="The Taylor form of DPM-Solver-3 converges with order 3.",
        locus="solver_type 'taylor' of dpm_solver_pytorch.py; claim c of the card", margin=2.85,
        paper_number="2.98 on G3 [derived]",
    ),
    order(
        "multistep-two-is-second-order", "lu2022dpmsolver.2m", (128, 512), seeds=FRESH,
        says="The multistep solver 2M in noise prediction converges with order 2.",
        locus="method 'multistep' of dpm_solver_pytorch.py; claim c of the card", margin=1.85,
        paper_number="1.99 to 2.00 on G3 [derived]",
    ),
    order(
        "third-order-multistep-as-coded-is-second-order", "lu2022dpmsolver.3m_official", (128, 512),
        says="The code's multistep solver of order 3 converges with order 2: its second difference lacks a factor 2.",
        locus="no statement of the paper; disagreement 1 of the cards, dpm_solver_pytorch.py", direction="below",
        margin=2.3, paper_number="2.04 on G3 [derived]",
    ),
    log_ratio(
        "the-adaptive-pair-of-order-three-needs-fewer-evaluations",
        partial(g3, "lu2022dpmsolver.adaptive3_shared", 1, grid="lam", shards=1, rtol=1e-3, atol=1.56e-4),
        partial(g3, "lu2022dpmsolver.adaptive2_shared", 1, grid="lam", shards=1, rtol=1e-3, atol=1.56e-4), name="nfe",
        says="At the relative tolerance 1e-3 the adaptive pair 2-3 needs fewer evaluations than the pair 1-2.",
        locus="appendix of the paper [recall]; claim d of the card", kind="ratio", direction="below",
        paper_number="G3: 117 against 156 [derived, other starts]",
        scaled="images to a one-dimensional mixture", transfer="strong",
        estimand="log of (evaluations of the pair 2-3)/(of the pair 1-2), mean over 10 seeds of n = 256",
    ),
    log_ratio(
        "one-step-size-for-the-batch-costs-more",
        partial(g3, "lu2022dpmsolver.adaptive3_shared", 1, grid="lam", shards=1, rtol=1e-3, atol=1.56e-4),
        partial(g3, "lu2022dpmsolver.adaptive3", 1, grid="lam", shards=1, rtol=1e-3, atol=1.56e-4), name="nfe",
        says="The code's step size, ruled by the largest error of the batch, costs more than one for every sample.",
        locus="no statement of the paper, whose control is of one sample; card, the code's batch maximum", kind="negative",
        estimand="log of (evaluations with the code's control)/(with one for each sample), mean over 10 seeds of n = 256",
        scaled="images to a one-dimensional mixture, whose error is of one coordinate", transfer="weak",
    ),
    log_ratio(
        "lower-order-final-changes-nothing-at-12-steps",
        partial(g3, "lu2022dpmsolver.2m", 12, lower_order_final=True), partial(g3, "lu2022dpmsolver.2m", 12, lower_order_final=False),
        says="lower_order_final, said to act below 15 steps, does nothing at 12: the code's limit is 10.",
        locus="docstring against code of dpm_solver_pytorch.py; disagreement 7 of the cards", kind="invariance",
        direction="within", margin=1e-12,
        estimand="log of (RMS error with)/(without lower_order_final) at 12 steps, mean over 10 seeds of n = 256",
    ),
    Claim(
        key="lu2022dpmsolver/fid-4.70-at-10-evaluations",
        says="On CIFAR-10 DPM-Solver reaches FID 4.70 with 10 evaluations and 2.87 with 20.",
        locus="abstract of the paper [text]", kind="threshold", evidence="C", direction="below", margin=4.7,
        paper_number="4.70 and 2.87", scaled="nothing", transfer="exact", estimand="FID of 50,000 samples at 10 evaluations",
        missing="needs the authors' CIFAR-10 network and InceptionV3; nearest in reach: "
        "order-three-beats-order-two-at-24-evaluations and order-two-beats-ddim-at-24-evaluations",
    ),
)  # fmt: skip
