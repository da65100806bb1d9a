"""Claims about ho2020ddpm."""

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

SEEDS = range(10)


def g3(method: str, steps: int) -> list[Job]:
    """20,000 samples of G3 from exact p_1 down to t = .01, lam grid, for each seed."""
    return [
        job(kind="sample", method=method, target="g3", process="vp-linear[0.01,1]", grid="lam", steps=steps, n=20_000,
            shards=10, seed=seed, start="exact")
        for seed in SEEDS
    ]  # fmt: skip


def digits(method: str, steps: int) -> list[Job]:
    """300 digits from the exact denoiser, exact p_1, lam grid, for each seed."""
    return [
        job(kind="sample", method=method, target="digits", process="vp-linear", grid="lam", steps=steps, n=300,
            shards=10, seed=seed, start="exact")
        for seed in SEEDS
    ]  # fmt: skip


def _ks(steps: int):
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, "ks", g3("ho2020ddpm.ancestral", steps), g3("song2020ddim.ddim", steps))

    return judge


def _transport(evidence: Evidence) -> Interval:
    return paired_over(evidence, "sliced_w1", digits("ho2020ddpm.ancestral", 10), digits("song2020ddim.ddim", 10))


def _few_steps(steps: int) -> Claim:
    numbers = {8: ".113 against .086", 16: ".058 against .045"}
    return Claim(
        key=f"ho2020ddpm/ancestral-sampling-is-worse-than-ddim-at-{steps}-steps",
        says=f"At {steps} steps ancestral sampling is worse than DDIM without noise from the same denoiser.",
        locus="claim a of the card; the DDIM paper's table 1 is its source",
        kind="ranking",
        evidence="A",
        paper_number=f"Kolmogorov-Smirnov distance {numbers[steps]} on G3 [derived]; CIFAR-10 FID 41.07 against 13.36 at "
        "10 steps [recall]",
        scaled="images to a one-dimensional mixture with an exact denoiser",
        transfer="strong",
        estimand="KS(ancestral) - KS(DDIM), share, mean over 10 seeds of n = 20,000",
        jobs=lambda: [*g3("ho2020ddpm.ancestral", steps), *g3("song2020ddim.ddim", steps)],
        metrics=("ks",),
        judge=_ks(steps),
    )


CLAIMS = (
    _few_steps(8),
    _few_steps(16),
    Claim(
        key="ho2020ddpm/ancestral-sampling-is-worse-than-ddim-on-digits",
        says="At 10 steps on the digits' exact denoiser ancestral sampling is worse than DDIM without noise.",
        locus="claim a of the card",
        kind="ranking",
        evidence="A",
        paper_number="CIFAR-10 FID 41.07 against 13.36 at 10 steps [recall]",
        scaled="CIFAR-10 to 897 digits of 8x8 pixels as atoms; FID to sliced W1",
        transfer="weak",
        estimand="sliced W1(ancestral) - sliced W1(DDIM), mean over 10 seeds of n = 300",
        jobs=lambda: [*digits("ho2020ddpm.ancestral", 10), *digits("song2020ddim.ddim", 10)],
        metrics=("sliced_w1",),
        judge=_transport,
    ),
)
