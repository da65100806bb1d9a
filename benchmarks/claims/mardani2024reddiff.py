"""Claims about mardani2024reddiff: against DPS at equal cost, NFE + 2 backward passes, on digits with half the pixels known.

RED-diff with 150 steps costs 150; DPS with 50 steps costs 50 + 2 x 50. Both at their papers' defaults: nothing is tuned.
"""

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

REDDIFF, DPS = ("mardani2024reddiff.reddiff", 150), ("mardani2024reddiff.dps", 50)


def restored(method: str, steps: int) -> list[Job]:
    """10 posterior samples of each of 30 measured digits, exact denoiser, under each of 10 seeds."""
    return [
        job(kind="sample", method=method, target="digits-inpainting", process="discrete-linear", grid="own", steps=steps,
            n=300, shards=10, seed=seed, start="card")
        for seed in range(10)
    ]  # fmt: skip


def _difference(metric: str):
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, metric, restored(*REDDIFF), restored(*DPS))

    return judge


def _claim(sentence: str, metric: str, what: str, **fields) -> Claim:
    return Claim(
        key=f"mardani2024reddiff/{sentence}",
        locus="experiments of the paper [text]; the card's small claim",
        kind="ranking",
        evidence="A",
        scaled="ImageNet and a trained network to 8x8 digits and the exact denoiser of 897 atoms; wall time to NFE + 2 backward",
        transfer="weak",
        estimand=f"{what} of RED-diff minus that of DPS at cost 150, mean over 10 seeds of n = 300",
        jobs=lambda: [*restored(*REDDIFF), *restored(*DPS)],
        metrics=(metric,),
        judge=_difference(metric),
        **fields,
    )


CLAIMS = (
    _claim("higher-psnr-than-dps-at-equal-cost", "psnr", "PSNR, dB,", says="RED-diff restores with a higher PSNR than DPS at equal cost."),
    _claim(
        "less-diverse-than-dps-at-equal-cost", "diversity", "spread across posterior samples",
        says="RED-diff seeks a mode: its samples of one posterior are less diverse than those of DPS.",
        direction="below",
    ),
    _claim(
        "nearer-to-the-posterior-mean-than-dps-at-equal-cost", "posterior_error", "error to the exact posterior mean",
        says="RED-diff's restorations average nearer to the exact posterior mean than those of DPS at equal cost.",
        direction="below",
    ),
)  # fmt: skip
