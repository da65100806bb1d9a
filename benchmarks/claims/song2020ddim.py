"""Claims about song2020ddim."""

import math

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.claims.ho2020ddpm import g3
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, t_interval

NOISY, PLAIN = "song2020ddim.stochastic", "song2020ddim.ddim"


def _ks(steps: int):
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, "ks", g3(NOISY, steps), g3(PLAIN, steps))

    return judge


COMMON = dict(
    locus="table 1 of the paper; claim a of the card",
    evidence="A",
    scaled="images to a one-dimensional mixture with an exact denoiser; FID to the Kolmogorov-Smirnov distance",
    transfer="strong",
    estimand="KS(eta = 1) - KS(eta = 0), share, mean over 10 seeds of n = 20,000",
    metrics=("ks",),
)

# Variance of a coordinate of the target product-64d, averaged: that of G3 times the mean square of its scales 64^(-i/126).
G3_VARIANCE = 0.3 * (1.44 + 0.09) + 0.45 * (0.16 + 0.04) + 0.25 * (2.25 + 0.16) - (-0.36 + 0.18 + 0.375) ** 2
VARIANCE = G3_VARIANCE * sum(0.125 ** (2 * i / 63) for i in range(64)) / 64


def paths(steps: int) -> list[Job]:
    """256 exact starts in 64 dimensions on vp-linear, t grid, under each of 10 seeds, with their error against the flow."""
    return [
        job(kind="sample", method=PLAIN, target="product-64d", process="vp-linear", grid="t", steps=steps, n=256,
            shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def round_trip(steps: int) -> Job:
    """30 guides outside Gaussian data, encoded up to t = .9 and decoded on vp-linear: nothing is random."""
    return job(
        kind="sample", method="song2020ddim.round_trip", target="gaussian-2d-guides", process="vp-linear[0.05,0.9]",
        grid="lam", steps=steps, n=30, shards=2, seed=0, start="card",
    )  # fmt: skip


def _slope(evidence: Evidence) -> float:
    coarse, fine = (evidence.number(round_trip(steps), "guide_distance") for steps in (128, 256))
    return math.log2(coarse / fine)


def _likeness(evidence: Evidence) -> Interval:
    """1 - (RMS error)^2/(2 variance): the correlation of two states of that variance at that distance."""
    found = [1 - evidence.number(each, "flow_error") ** 2 / (2 * VARIANCE) for each in paths(20)]
    return t_interval(found, evidence.level, n=256, over="seeds")


CLAIMS = (
    Claim(
        key="song2020ddim/no-noise-is-better-at-16-steps",
        says="At few steps (16 here) sampling without noise, eta = 0, is better than with eta = 1.",
        kind="ranking",
        paper_number="CIFAR-10 FID 6.84 against 18.36 at 20 steps [recall]",
        jobs=lambda: [*g3(NOISY, 16), *g3(PLAIN, 16)],
        judge=_ks(16),
        **COMMON,
    ),
    Claim(
        key="song2020ddim/noise-ties-at-200-steps",
        says="At many steps (200 here) eta = 0 and eta = 1 are as good as each other.",
        kind="limit-equality",
        direction="within",
        margin=0.005,
        paper_number="CIFAR-10 FID 4.16 against 5.78 at 100 steps and 4.04 against 4.73 at 1000 [recall]",
        jobs=lambda: [*g3(NOISY, 200), *g3(PLAIN, 200)],
        judge=_ks(200),
        **COMMON,
    ),
    Claim(
        key="song2020ddim/a-start-keeps-its-content-from-20-steps-to-many",
        says="From one start 20 steps and very many give alike samples: they correlate by more than .9.",
        locus="section 5.2 and figure 5 of the paper; claim b of the card",
        kind="threshold",
        evidence="A",
        margin=0.9,
        paper_number="images that look alike from 20 to 1,000 steps; no number",
        scaled="CelebA to a mixture in 64 dimensions with an exact denoiser; 1,000 steps to the exact flow; of the claim "
        "one half: that samples of other starts do not correlate is not measured, for the starts are independent",
        transfer="weak",
        estimand="1 - MSE/(2 variance) between 20 steps and the exact flow, mean over 10 seeds of n = 256",
        jobs=lambda: paths(20),
        metrics=("flow_error",),
        judge=_likeness,
    ),
    Claim(
        key="song2020ddim/the-round-trip-error-falls-as-one-over-the-steps",
        says="Encoding and decoding with N steps each returns the sample up to an error of order 1/N.",
        locus="table 2 and section 5.4 of the paper; claim c of the card",
        kind="order",
        evidence="A",
        margin=0.7,
        paper_number="CIFAR-10 MSE 0.014 at 10 steps to 0.0001 at 1,000 [recall]; slopes .85, 1.02, 1.03 on G3 [derived]",
        scaled="images to guides outside plane Gaussian data, with an exact denoiser; mean square to root mean square",
        transfer="strong",
        estimand="log2 of (RMS error at 128 steps)/(RMS error at 256 steps), mean of two halves of 30 guides",
        jobs=lambda: [round_trip(128), round_trip(256)],
        metrics=("guide_distance",),
        judge=_slope,
    ),
    Claim(
        key="song2020ddim/the-official-grids-start-too-low",
        says="Ten official steps begin at index 900 or 800 of 999, where noise still holds signal: from N(0, I) they are biased.",
        locus="runners/diffusion.py, skip_type; entry 11 of the card's register and pitfalls of the card",
        kind="ranking",
        evidence="A",
        paper_number="abar 2.70e-4 (uniform) and 1.51e-3 (quadratic) at the first index [derived]; no number in the paper",
        estimand="sliced W1 from N(0, I) - the same from the exact marginal at that index",
        missing="at ten steps the solver's own error hides it from distances of samples at any n of seconds; nearest in reach: "
        "test_ten_official_steps_start_from_noise_that_is_none_yet, which has the bias of the mean in closed form",
    ),
    Claim(
        key="song2020ddim/cifar-10-fid-falls-from-13-36-to-4-04-without-noise",
        says="Without noise 10, 20, 50, 100 and 1,000 steps reach FID 13.36, 6.84, 4.67, 4.16 and 4.04 on CIFAR-10.",
        locus="table 1 of the paper [recall]",
        kind="threshold",
        direction="below",
        evidence="C",
        margin=4.1,
        paper_number="FID 13.36, 6.84, 4.67, 4.16, 4.04 at eta = 0; 41.07, 18.36, 8.01, 5.78, 4.73 at eta = 1 [recall]",
        scaled="not run",
        transfer="weak",
        estimand="FID of 50,000 samples at 1,000 steps",
        missing="CIFAR-10, its features and the checkpoint of DDPM that the paper samples from; nearest in reach: "
        "no-noise-is-better-at-16-steps and noise-ties-at-200-steps",
    ),
)
