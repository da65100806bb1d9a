"""Claims about ho2020ddpm."""

import math

from benchmarks.claims import Claim, Evidence, contrast, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, t_interval

SEEDS = range(10)


def g3(method: str, steps: int, seeds: range = SEEDS) -> list[Job]:
    """20,000 samples of G3 from exact p_1 down to t = .01, lam grid, for each seed."""
    return [
        job(kind="sample", method=method, target="g3", process="vp-linear[0.01,1]", grid="lam", steps=steps, n=20_000,
            shards=10, seed=seed, start="exact")
        for seed in seeds
    ]  # fmt: skip


def digits(method: str, steps: int, seeds: range = SEEDS) -> list[Job]:
    """300 digits from the exact denoiser, exact p_1, lam grid, for each seed."""
    return [
        job(kind="sample", method=method, target="digits", process="vp-linear", grid="lam", steps=steps, n=300,
            shards=10, seed=seed, start="exact")
        for seed in seeds
    ]  # fmt: skip


def whole_chain(method: str, seeds: range = range(5)) -> list[Job]:
    """1,000 samples of G3 by all 1,000 knots, from exact p_1 to clean data, for each seed."""
    return [
        job(kind="sample", method=method, target="g3", process="discrete-linear", grid="own", steps=1000, n=1000,
            shards=10, seed=seed, start="exact")
        for seed in seeds
    ]  # fmt: skip


def bound(method: str) -> list[Job]:
    """Lower bounds of log p of 200 exact draws of G3, all 1,000 knots, continuous decoder, for each of 5 seeds."""
    return [
        job(kind="likelihood", method=method, options={"decoder": "density"}, target="g3", process="discrete-linear",
            n=200, shards=10, seed=seed)
        for seed in range(5)
    ]  # fmt: skip


def decoded(decoder: str) -> list[Job]:
    """The decoder's term alone, of 20 digits as if of 256 levels, for each of 10 seeds."""
    return [
        job(kind="likelihood", method="ho2020ddpm.bound_small", options={"decoder": decoder, "high": 0.001},
            target="digits", process="discrete-linear", n=20, shards=10, seed=seed)
        for seed in range(10)
    ]  # fmt: skip


def _below_the_likelihood(evidence: Evidence) -> Interval:
    gaps = [
        evidence.number(each, "log_p_exact") - evidence.number(each, "log_p")
        for each in bound("ho2020ddpm.bound_large")
    ]
    return t_interval(gaps, evidence.level, n=200, over="seeds")


def _bits(nats: float) -> float:
    return -nats / (64 * math.log(2))


def _few_steps(steps: int) -> Claim:
    numbers = {8: ".113 against .086", 16: ".058 against .045", 32: ".030 against .022"}
    return contrast(
        f"ho2020ddpm/ancestral-sampling-is-worse-than-ddim-at-{steps}-steps",
        "ks",
        lambda: g3("ho2020ddpm.ancestral", steps),
        lambda: g3("song2020ddim.ddim", steps),
        says=f"At {steps} steps ancestral sampling is worse than DDIM without noise from the same denoiser.",
        locus="claim a of the card; the DDIM paper's table 1 is its source",
        kind="ranking",
        evidence="A",
        paper_number=f"Kolmogorov-Smirnov distance {numbers[steps]} on G3 [derived]; CIFAR-10 FID 41.07 against 13.36 at "
        "10 steps [recall]",
        scaled="images to a one-dimensional mixture with an exact denoiser",
        transfer="strong",
        estimand="KS(ancestral) - KS(DDIM), share, mean over 10 seeds of n = 20,000",
    )


CLAIMS = (
    _few_steps(8),
    _few_steps(16),
    _few_steps(32),
    contrast(
        "ho2020ddpm/ancestral-sampling-is-worse-than-ddim-on-digits",
        "sliced_w1",
        lambda: digits("ho2020ddpm.ancestral", 10),
        lambda: digits("song2020ddim.ddim", 10),
        says="At 10 steps on the digits' exact denoiser ancestral sampling is worse than DDIM without noise.",
        locus="claim a of the card",
        kind="ranking",
        evidence="A",
        paper_number="CIFAR-10 FID 41.07 against 13.36 at 10 steps [recall]",
        scaled="CIFAR-10 to 897 digits of 8x8 pixels as atoms; FID to sliced W1",
        transfer="weak",
        estimand="sliced W1(ancestral) - sliced W1(DDIM), mean over 10 seeds of n = 300",
    ),
    contrast(
        "ho2020ddpm/at-a-thousand-steps-the-variance-hardly-matters",
        "ks",
        lambda: whole_chain("ho2020ddpm.ancestral_large"),
        lambda: whole_chain("ho2020ddpm.ancestral"),
        says="With all 1,000 steps the small and the large variance give similar samples.",
        locus="section 3.2 of the paper",
        kind="invariance",
        direction="within",
        evidence="A",
        margin=0.01,
        paper_number="'similar results', no number",
        scaled="images to a one-dimensional mixture with an exact denoiser",
        transfer="strong",
        estimand="KS(large) - KS(small) at 1,000 steps, share, mean over 5 seeds of n = 1,000",
    ),
    contrast(
        "ho2020ddpm/the-official-clip-changes-nothing-on-pictures",
        "sliced_w1",
        lambda: digits("ho2020ddpm.official", 10, range(3)),
        lambda: digits("ho2020ddpm.ancestral_large", 10, range(3)),
        says="The code's clipping of the mean to [-1,1], which the paper has not, changes no sample of an exact denoiser "
        "of pictures.",
        locus="algorithm 2 of the paper against clip_denoised of diffusion_utils_2.py",
        kind="invariance",
        direction="within",
        evidence="A",
        margin=1e-6,
        paper_number="none; a mean of data in [-1,1] lies there [derived]",
        scaled="CIFAR-10 to digits as atoms, a trained network to their exact denoiser",
        transfer="weak",
        estimand="sliced W1(clipped) - sliced W1(not clipped), mean over 3 seeds of n = 300",
    ),
    contrast(
        "ho2020ddpm/the-official-clip-harms-data-beyond-it",
        "ks",
        lambda: g3("ho2020ddpm.official", 16),
        lambda: g3("ho2020ddpm.ancestral_large", 16),
        says="On data beyond [-1,1] the official sampler's clipping is wrong.",
        locus="clip_denoised of diffusion_utils_2.py; pitfalls of the card",
        kind="negative",
        evidence="A",
        paper_number="none; an eighth of G3 lies above 1.5 and .15 below -1.2 [derived]",
        scaled="images to a one-dimensional mixture whose outer modes are at -1.2 and 1.5",
        transfer="exact",
        estimand="KS(clipped) - KS(not clipped) at 16 steps, share, mean over 10 seeds of n = 20,000",
    ),
    Claim(
        key="ho2020ddpm/the-bound-lies-below-the-log-likelihood",
        says="With the exact denoiser and a fixed variance the bound is below the log-likelihood, and not on it.",
        locus="equation 3 of the paper; invariant 3 of the card",
        kind="ranking",
        evidence="A",
        paper_number="N(0, .25): .115 nats below with the large variance [derived]",
        scaled="images to a one-dimensional mixture; the decoder of pixels to a density",
        transfer="strong",
        estimand="log p - bound (large variance), nats, mean over 5 seeds of n = 200",
        jobs=lambda: bound("ho2020ddpm.bound_large"),
        judge=_below_the_likelihood,
    ),
    Claim(
        key="ho2020ddpm/the-large-variance-bounds-more-tightly",
        says="At 1,000 knots the bound with the large variance is tighter than with the small one.",
        locus="no statement of the paper; invariant 3 of the card",
        kind="ranking",
        evidence="A",
        paper_number="N(0, .25): .570 against .115 nats from the entropy [derived]",
        scaled="images to a one-dimensional mixture; the decoder of pixels to a density",
        transfer="weak",
        estimand="bound(large) - bound(small), nats, mean over 5 seeds of n = 200",
        jobs=lambda: [*bound("ho2020ddpm.bound_large"), *bound("ho2020ddpm.bound_small")],
        judge=lambda evidence: paired_over(
            evidence, "log_p", bound("ho2020ddpm.bound_large"), bound("ho2020ddpm.bound_small")
        ),
    ),
    Claim(
        key="ho2020ddpm/the-official-decoder-s-tanh-costs-no-thousandth-of-a-bit",
        says="The official code's tanh in place of the normal distribution function does not change bits per dimension.",
        locus="equation 13 of the paper against utils.py of the code; the card puts their difference at 1.8e-4",
        kind="invariance",
        direction="within",
        evidence="A",
        margin=1e-3,
        scaled="CIFAR-10 to digits, whose grey levels are read as if there were 256",
        transfer="strong",
        estimand="bits per dimension by tanh minus by Phi, decoder's term, mean over 10 seeds of n = 20",
        jobs=lambda: [*decoded("tanh"), *decoded("phi")],
        judge=lambda evidence: paired_over(evidence, "log_p", decoded("tanh"), decoded("phi"), change=_bits),
    ),
    Claim(
        key="ho2020ddpm/cifar-10-fid-is-3-17",
        says="A U-Net trained with L_simple reaches FID 3.17 on unconditional CIFAR-10 with 1,000 steps.",
        locus="abstract and table 1 of the paper [recall]",
        kind="threshold",
        direction="below",
        evidence="C",
        margin=3.3,
        paper_number="FID 3.17, IS 9.46 [recall]",
        scaled="not run",
        transfer="weak",
        estimand="FID of 50,000 samples",
        missing="CIFAR-10, its features and the authors' TensorFlow checkpoint; nearest in reach: "
        "at-a-thousand-steps-the-variance-hardly-matters",
    ),
    Claim(
        key="ho2020ddpm/cifar-10-nll-is-at-most-3-75-bits",
        says="Trained with L_simple the same network bounds the negative log-likelihood by 3.75 bits per dimension.",
        locus="table 1 of the paper [recall]",
        kind="threshold",
        direction="below",
        evidence="C",
        margin=3.76,
        paper_number="at most 3.75 bits per dimension [recall]",
        scaled="not run",
        transfer="weak",
        estimand="L_vlb in bits per dimension of the test images, all 1,000 knots, 256 levels",
        missing="CIFAR-10 and the authors' TensorFlow checkpoint; that the bound is the official one is in "
        "tests/test_ho2020ddpm.py; nearest in reach: the-bound-lies-below-the-log-likelihood",
    ),
)
