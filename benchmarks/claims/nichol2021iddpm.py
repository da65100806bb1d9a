"""Claims about nichol2021iddpm. Networks of seeds other than 0 are not committed: `trilemma lock train NAME@SEED`.

Those on importance-sampled times were frozen before their networks were trained.
"""

import math
import statistics

from benchmarks.claims import Claim, Evidence, contrast, contrast_of_networks, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, paired_difference

NETS = range(5)
FIFTHS = range(5)


def g3(method: str, steps: int = 16) -> list[Job]:
    """20,000 samples of G3 from exact p_1 down to t = .01, lam grid, for each of 10 seeds."""
    return [
        job(kind="sample", method=method, target="g3", process="vp-linear[0.01,1]", grid="lam", steps=steps, n=20_000,
            shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def fifth(process: str, seed: int, which: int) -> Job:
    """The bound's terms with t in one fifth of the chain, large variance, 10 digits, exact denoiser."""
    return job(kind="likelihood", method="ho2020ddpm.bound_large", target="digits", process=process, n=10, shards=10,
               options={"levels": 17, "low": which / 5, "high": (which + 1) / 5}, seed=seed)  # fmt: skip


def unevenness(evidence: Evidence, process: str, seed: int) -> float:
    """Coefficient of variation of the five parts of the bound."""
    parts = [-evidence.number(fifth(process, seed, which), "log_p") for which in FIFTHS]
    return statistics.pstdev(parts) / statistics.mean(parts)


def _evenness(evidence: Evidence) -> Interval:
    linear, cosine = ([unevenness(evidence, f"discrete-{name}", seed) for seed in range(4)]
                      for name in ("linear", "cosine"))  # fmt: skip
    return paired_difference(linear, cosine, evidence.level, n=10)


def bound(method: str, recipe: str, steps: int, seed: int) -> Job:
    """The bound of 30 digits by the network of that training seed, at evenly kept knots, 17 grey levels."""
    return job(kind="likelihood", method=method, target="digits", process="discrete-linear", n=30, shards=10,
               model=trained(recipe, seed), options={"levels": 17, "steps": steps}, dtype="float32",
               net_dtype="float32")  # fmt: skip


def bounds(method: str, recipe: str, steps: int) -> list[Job]:
    """The same by a network of each of 5 training seeds."""
    return [bound(method, recipe, steps, seed) for seed in NETS]


def learned(steps: int) -> list[Job]:
    return bounds("nichol2021iddpm.bound", "digits-hybrid", steps)


def fixed(steps: int) -> tuple[list[Job], list[Job]]:
    return tuple(bounds(f"ho2020ddpm.bound_{size}", "digits-simple", steps) for size in ("small", "large"))


def _bits(evidence: Evidence, each: Job) -> float:
    return -evidence.number(each, "log_p") / (64 * math.log(2))


def _learned_against_the_better(steps: int):
    def judge(evidence: Evidence) -> Interval:
        small, large = fixed(steps)
        better = [min(_bits(evidence, one), _bits(evidence, other)) for one, other in zip(small, large, strict=True)]
        return paired_difference([_bits(evidence, each) for each in learned(steps)], better, evidence.level, n=30,
                                 over="training seeds")  # fmt: skip

    return judge


def _hybrid(steps: int, sentence: str, says: str) -> Claim:
    return Claim(
        key=f"nichol2021iddpm/{sentence}",
        says=says,
        locus="section 3 of the paper; claim c of the card" if steps == 1000 else "section 4 of the paper [recall]",
        kind="ranking",
        direction="below",
        evidence="S",
        paper_number="CIFAR-10 and ImageNet-64, about 3.7 to 3.5 bits per dimension [recall]",
        scaled="a U-Net of 36,000 parameters, 1,500 updates, digits of 17 grey levels; training images, for the "
        "likelihood jobs of this target draw from them; the linear chain",
        transfer="weak",
        estimand=f"bits per dimension, L_hybrid with learned variance minus L_simple with the better fixed one, {steps} "
        "knots, mean over 5 training seeds of n = 30",
        jobs=lambda: [*learned(steps), *(each for jobs in fixed(steps) for each in jobs)],
        judge=_learned_against_the_better(steps),
    )


def _importance(sentence: str, other: str, says: str) -> Claim:
    return contrast_of_networks(
        f"nichol2021iddpm/{sentence}", "log_p",
        lambda seed: [bound("nichol2021iddpm.bound", "digits-bound-importance", 1000, seed)],
        lambda seed: [bound("nichol2021iddpm.bound", other, 1000, seed)], NETS,
        change=lambda log_p: -log_p / (64 * math.log(2)), metrics=(),
        says=says,
        locus="section 3.3 and tables 1 and 2 of the paper [recall]",
        kind="ranking",
        direction="below",
        paper_number="CIFAR-10: 2.94 bits per dimension by L_vlb, 3.17 by L_hybrid [recall]",
        scaled="a U-Net of 36,000 parameters, 1,500 updates, digits of 17 grey levels, training images, the linear chain; "
        "uniform times are stratified over a batch here, which already evens their gradients out",
        transfer="weak",
        estimand=f"bits per dimension, digits-bound-importance minus {other}, all 1,000 knots, mean over 5 training seeds of "
        "n = 30",
    )


def _matched(other: str, size: str) -> Claim:
    return contrast(
        f"nichol2021iddpm/at-16-steps-the-right-variance-beats-the-{size}-one",
        "ks",
        lambda: g3("ho2020ddpm.ancestral_matched"),
        lambda: g3(other),
        says=f"At 16 steps the variance of the exact reverse kernel gives better samples than the {size} one.",
        locus="section 3.1 and 4 of the paper: learned variances lie between the two and save steps [recall]",
        kind="ranking",
        direction="below",
        evidence="A",
        paper_number="none for an exact denoiser",
        scaled="a learned variance to the exact one (ho2020ddpm.ancestral_matched), images to a one-dimensional mixture",
        transfer="weak",
        estimand=f"KS(matched) - KS({size}), share, mean over 10 seeds of n = 20,000",
    )


CLAIMS = (
    _matched("ho2020ddpm.ancestral", "small"),
    _matched("ho2020ddpm.ancestral_large", "large"),
    Claim(
        key="nichol2021iddpm/the-cosine-chain-spreads-the-bound-more-evenly",
        says="The terms of the bound are more even over the cosine chain than over the linear one.",
        locus="claim b of the card; section 3.2 of the paper argues by the loss of information, not by this number",
        kind="ranking",
        evidence="A",
        scaled="28x28 images to digits with an exact denoiser; single terms to sums over fifths of the chain",
        transfer="weak",
        estimand="coefficient of variation of the bound's five parts, linear minus cosine, mean over 4 seeds of n = 10",
        jobs=lambda: [
            fifth(f"discrete-{name}", seed, which)
            for name in ("linear", "cosine") for seed in range(4) for which in FIFTHS
        ],
        judge=_evenness,
    ),
    _hybrid(
        1000,
        "the-hybrid-loss-lowers-the-bound",
        "At equal updates L_hybrid with its learned variance reaches a lower L_vlb than L_simple with a fixed one.",
    ),
    _hybrid(
        50,
        "learned-variances-keep-the-bound-at-50-steps",
        "On 50 of the 1,000 knots the learned variance keeps a lower L_vlb than any fixed one.",
    ),
    Claim(
        key="nichol2021iddpm/the-weight-is-a-thousandth-of-bits-per-dimension",
        says="The weight .001 of L_vlb in L_hybrid multiplies bits per dimension; read as nats it differs by log 2.",
        locus="disagreement 14 of the card; gaussian_diffusion.py",
        kind="limit-equality",
        direction="within",
        evidence="E",
        margin=1e-9,
        estimand="relative difference from the official loss",
        missing="a loss has no job; the repository's tests hold the numbers of the official code; nearest in reach: "
        "the-hybrid-loss-lowers-the-bound",
    ),
    _importance(
        "importance-sampled-times-lower-the-trained-bound", "digits-bound",
        "Trained on L_vlb with importance-sampled times a network reaches a lower bound than with uniform ones.",
    ),
    _importance(
        "the-bound-with-importance-sampling-beats-the-hybrid-loss", "digits-hybrid",
        "Trained on L_vlb with importance-sampled times a network reaches a lower bound than by L_hybrid.",
    ),
    Claim(
        key="nichol2021iddpm/cifar-10-and-imagenet-64-bits",
        says="The best networks reach 2.94 bits per dimension on CIFAR-10 and 3.53 on ImageNet-64.",
        locus="tables of the paper [recall, seen in a secondary summary]",
        kind="threshold",
        direction="below",
        evidence="C",
        margin=2.95,
        paper_number="2.94 and 3.53 bits per dimension [recall]",
        scaled="not run",
        transfer="weak",
        estimand="bits per dimension of the test images, all 4,000 knots",
        missing="the data sets and the authors' networks; nearest in reach: the-hybrid-loss-lowers-the-bound",
    ),
)  # fmt: skip
