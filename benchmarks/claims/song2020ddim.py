"""Claims about song2020ddim."""

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.claims.ho2020ddpm import g3
from benchmarks.statistics import Interval

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
)
