"""Claims about karras2022edm. Euler in its frame is DDIM on ve-edm (a reduction law), so that sampler stands for it.

Those about networks were frozen before any of their jobs was run, and before the two columns were trained.
"""

import math

from benchmarks.claims import Claim, Evidence, contrast_of_networks, paired_over, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

HEUN, EULER = "karras2022edm.heun", "song2020ddim.ddim"
VP, VE, CHURN = "karras2022edm.vp", "karras2022edm.ve", "karras2022edm.churn"
ONLY_NOISE = {"churn": 8.0, "churn_noise": 1.0}  # of the card's claim c: no inflated noise


def g3(method: str, steps: int, grid: str = "power(7)") -> list[Job]:
    """Error against the exact flow from sigma 80 to .002 for 256 exact starts under each of 10 seeds."""
    return [
        job(kind="sample", method=method, target="g3", process="ve-edm", grid=grid, steps=steps, n=256, shards=10,
            seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def _log_ratio(ours: list[Job], theirs: list[Job]):
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, "flow_error", ours, theirs, change=math.log)

    return judge


def _claim(sentence: str, ours: tuple, theirs: tuple, **fields) -> Claim:
    return Claim(
        key=f"karras2022edm/{sentence}", evidence="A", metrics=("flow_error",),
        jobs=lambda: [*g3(*ours), *g3(*theirs)],
        judge=lambda evidence: _log_ratio(g3(*ours), g3(*theirs))(evidence), **fields,
    )  # fmt: skip


def ks(method: str, steps: int, **options) -> list[Job]:
    """20,000 samples of G3 from exact p_20 down to sigma = .05, power(7) grid, for each of 10 seeds."""
    return [
        job(kind="sample", method=method, options=options, target="g3", process="ve-edm[0.05,20]", grid="power(7)",
            steps=steps, n=20_000, shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def own(method: str, steps: int) -> list[Job]:
    """Error at clean data on a column's own path and time steps, for 256 exact starts under each of 10 seeds."""
    path = {HEUN: "ve-edm", VP: "vp-linear", VE: "ve-sqrt"}[method]
    return [
        job(kind="sample", method=method, target="g3", process=path, grid="own", steps=steps, n=256, shards=10,
            seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def digits(model: str, method: str, steps: int, **options: float) -> list[Job]:
    """900 digits from a network on ve-edm, power(7) to clean data, under each of 3 seeds."""
    return [
        job(kind="sample", method=method, options=options, target="digits", process="ve-edm", grid="own", steps=steps,
            n=900, shards=10, seed=seed, start="card", dtype="float32", net_dtype="float32", model=model)
        for seed in range(3)
    ]  # fmt: skip


def _column(name: str, method: str) -> Claim:
    return Claim(
        key=f"karras2022edm/edm-s-schedule-beats-that-of-{name}",
        says=f"With Heun and 35 evaluations to clean data the EDM column's schedule is more exact than the {name.upper()} "
        "column's.",
        locus="section 3 and figure 2 of the paper [recall]; table 1", kind="ranking", evidence="A", direction="below",
        scaled="FID of images to the RMS error against each column's own exact flow, a one-dimensional mixture",
        transfer="strong", metrics=("flow_error",),
        estimand=f"log of (RMS error of EDM)/(of {name.upper()}) at 18 steps, mean over 10 seeds of n = 256",
        jobs=lambda: [*own(HEUN, 18), *own(method, 18)],
        judge=lambda evidence: _log_ratio(own(HEUN, 18), own(method, 18))(evidence),
    )  # fmt: skip


CLAIMS = (
    _claim(
        "heun-needs-an-eighth-of-euler-s-evaluations",
        (HEUN, 62), (EULER, 1000),
        says="Heun on the power(7) grid with 124 evaluations is at least as exact as Euler with 1,000.",
        locus="section 3 and figure 2 of the paper; claim a of the card",
        kind="ratio",
        direction="below",
        paper_number="G3: 3.26e-3 at 120 evaluations against 3.41e-3 at 1,000, over 32 quantiles [derived]; over 64 Euler leads",
        scaled="images to a one-dimensional mixture with an exact denoiser; FID to the RMS error against the exact flow",
        transfer="strong",
        estimand="log of (RMS error of Heun at 124)/(RMS error of Euler at 1,000), mean over 10 seeds of n = 256",
    ),
    _claim(
        "heun-loses-at-six-evaluations",
        (HEUN, 3), (EULER, 6),
        says="Below about a dozen evaluations Heun is worse than Euler: the paper's advantage does not reach so far.",
        locus="no statement of the paper; claim a of the card sets this limit",
        kind="negative",
        paper_number="G3: 2.55 against .376 at 6 evaluations [derived]; CIFAR-10 FID 319.87 against 66.76 at 4 [text, third party]",
        scaled="images to a one-dimensional mixture with an exact denoiser",
        transfer="strong",
        estimand="log of (RMS error of Heun at 6)/(RMS error of Euler at 6), mean over 10 seeds of n = 256",
    ),
    _claim(
        "exponent-2-is-far-worse-than-7",
        (HEUN, 17, "power(2)"), (HEUN, 17, "power(7)"),
        says="With 18 grid points the exponent 2 of the time grid is at least twice as inexact as 7.",
        locus="appendix D.1 and figure 13 of the paper [recall]; claim b of the card",
        kind="threshold",
        margin=math.log(2),
        paper_number="G3: .133 at exponent 2 against .0415 at 7 [derived]",
        scaled="truncation error on images to the error against the exact flow on a one-dimensional mixture",
        transfer="strong",
        estimand="log of (RMS error at exponent 2)/(RMS error at exponent 7), mean over 10 seeds of n = 256",
    ),
    _claim(
        "exponents-5-to-10-are-alike",
        (HEUN, 17, "power(5)"), (HEUN, 17, "power(10)"),
        says="Around its minimum the error hardly depends on the exponent: 5 and 10 differ by less than 10 %.",
        locus="appendix D.1 of the paper [recall]; claim b of the card",
        kind="invariance",
        direction="within",
        margin=0.1,
        paper_number="G3: .0415, .0409, .0426 at exponents 5, 7, 10 [derived]",
        scaled="truncation error on images to the error against the exact flow on a one-dimensional mixture",
        transfer="strong",
        estimand="log of (RMS error at exponent 5)/(RMS error at exponent 10), mean over 10 seeds of n = 256",
    ),
    _column("vp", VP),
    _column("ve", VE),
    Claim(
        key="karras2022edm/churn-only-hurts-an-exact-denoiser",
        says="With the exact denoiser churn 8 at 16 steps makes the samples worse: it mends errors of networks only.",
        locus="section 4 of the paper; claim c of the card", kind="ranking", evidence="A", metrics=("ks",),
        paper_number="variance error of N(0, .25) from 1.1e-2 to 3.6e-2 at 32 steps [derived]",
        scaled="FID of images to the Kolmogorov-Smirnov distance on a one-dimensional mixture; 32 steps to 16, where the effect "
        "on the variance is more than three times as large", transfer="strong",
        estimand="KS(churn 8) - KS(no churn), share, at 16 steps, mean over 10 seeds of n = 20,000",
        jobs=lambda: [*ks(CHURN, 16, **ONLY_NOISE), *ks(HEUN, 16)],
        judge=lambda evidence: paired_over(evidence, "ks", ks(CHURN, 16, **ONLY_NOISE), ks(HEUN, 16)),
    ),
    contrast_of_networks(
        "karras2022edm/moderate-churn-helps-a-trained-network", "sliced_w1",
        lambda seed: digits(trained("digits-edm-labels", seed), CHURN, 32, **ONLY_NOISE),
        lambda seed: digits(trained("digits-edm-labels", seed), HEUN, 32), range(5),
        says="With a trained network moderate churn makes the samples better.", kind="ranking", direction="below",
        locus="section 4 and table 2 of the paper [recall]; claim c of the card", transfer="weak",
        scaled="ImageNet to 8x8 digits, networks of 139,673 parameters without a label; FID to sliced W1",
        estimand="sliced W1 with churn 8 less that without, 32 steps, mean over 5 training seeds of 3 seeds of n = 900",
    ),
    contrast_of_networks(
        "karras2022edm/its-loss-trains-faster-than-the-vp-weighting", "sliced_w1",
        lambda seed: digits(trained("digits-edm-column", seed), HEUN, 18),
        lambda seed: digits(trained("digits-vp-column", seed), HEUN, 18), range(5),
        says="At equal images seen the EDM loss and preconditioning give better samples than the VP column's.",
        locus="section 5 and table 2 of the paper [recall]; claim d of the card", kind="ranking", direction="below",
        scaled="CIFAR-10 to 8x8 digits, 200 Mimg to 96,000 images, small networks; FID to sliced W1", transfer="weak",
        estimand="sliced W1 of EDM's column less that of the VP column, Heun with 18 steps, mean over 5 training seeds of "
        "3 seeds of n = 900",
    ),
    *(
        Claim(
            key=f"karras2022edm/{key}", says=says, locus=locus, kind="ratio", evidence="C", direction="below",
            margin=math.log(1.1), paper_number=number, estimand=f"log of FID over {number.split()[0]}",
            missing=f"{needs}, with InceptionV3; the samplers and columns are compared with generate.py and networks.py by "
            f"the tests of the paper's file; nearest in reach: {nearest}",
        )
        for key, says, locus, number, needs, nearest in (
            ("fid-1-79-with-35-evaluations",
             "Class-conditional CIFAR-10 FID 1.79 with 35 evaluations, Heun without churn.",
             "abstract and table 2 of the paper [text]", "1.79 [text]", "the authors' checkpoint and CIFAR-10",
             "its-loss-trains-faster-than-the-vp-weighting"),
            ("fid-1-97-with-35-evaluations", "Unconditional CIFAR-10 FID 1.97 with 35 evaluations, Heun without churn.",
             "abstract and table 2 of the paper [text]", "1.97 [text]", "the authors' checkpoint and CIFAR-10",
             "its-loss-trains-faster-than-the-vp-weighting"),
            ("fid-1-36-on-imagenet-64", "ImageNet-64 FID 1.36 with 511 evaluations, trained anew, with churn 40.",
             "abstract and section 5 of the paper [text]", "1.36 [text]", "the authors' checkpoint and ImageNet-64",
             "moderate-churn-helps-a-trained-network"),
            ("from-2-07-to-1-55-without-training",
             "The stochastic sampler alone takes a pre-trained ImageNet-64 network (ADM) from FID 2.07 to 1.55.",
             "abstract of the paper [text]", "1.55 [text], from 2.07", "ADM's checkpoint and ImageNet-64",
             "moderate-churn-helps-a-trained-network"),
        )
    ),
)  # fmt: skip
