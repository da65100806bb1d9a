"""Claims about ho2022cfg: what guidance buys and what it costs, on exact conditional denoisers.

The sweep is the card's, {1, 1.5, 2, 3, 5, 8}. Classes are the components of mixture-2d, which overlap, told apart by
Bayes' rule; labels are stratified. A class narrows and its samples move away from the other classes. On digits a pinned
classifier tells the classes apart, and the exact denoiser of a class knows its training digits alone.

Not blind: guidance 3 against 1 on digits, exact and by networks, was run under seeds 0 to 9 and 0 to 2 before the sweeps
on them were frozen, which have seeds of their own; their other guidances had not been run. The networks' sweep has four
of the six guidances and margins as wide as five training seeds can tell apart. That a network gains class accuracy was
left by these five at [-.0011, .026] and is judged on ten others alone.
"""

import math
from dataclasses import replace
from itertools import pairwise

from benchmarks.claims import Claim, Evidence, contrast_of_networks, left_open, paired_over, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, extreme_of, paired_difference, shared_level, t_interval

SWEEP = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
SEEDS = range(10)
FRESH = range(20, 30)
NETWORKS = range(5)
SHORT_SWEEP = (1.0, 2.0, 3.0, 8.0)  # of the networks, 2 seconds a job


def plane(guidance: float) -> list[Job]:
    """1,000 samples of mixture-2d by class under each of 10 seeds: 2M, 30 steps in lam on the cosine path."""
    return [
        job(kind="sample", method="ho2022cfg.2m", options={"guidance": guidance}, target="mixture-2d", process="cosine",
            grid="lam", steps=30, n=1000, shards=10, seed=seed, start="card")
        for seed in SEEDS
    ]  # fmt: skip


def digits(guidance: float, seeds: range = SEEDS) -> list[Job]:
    """300 digits by class from the exact denoiser of each class under each of 10 seeds: 2M, 15 steps."""
    return [
        job(kind="sample", method="ho2022cfg.2m", options={"guidance": guidance}, target="digits", process="ve-edm",
            grid="power(7)", steps=15, n=300, shards=10, seed=seed, start="card")
        for seed in seeds
    ]  # fmt: skip


def fresh(guidance: float) -> list[Job]:
    """digits, under 10 seeds that no older claim had used."""
    return digits(guidance, FRESH)


def once(guidance: float, training: int) -> list[Job]:
    """200 digits by class from a network of that training seed under one seed: 2M, 8 steps."""
    return [
        job(kind="sample", method="ho2022cfg.2m", options={"guidance": guidance}, target="digits", process="ve-edm",
            grid="power(7)", steps=8, n=200, shards=10, seed=20, start="card", dtype="float32", net_dtype="float32",
            model=trained("digits-edm-labels", training))
    ]  # fmt: skip


def ancestral(interpolation: float) -> list[Job]:
    """1,000 samples of mixture-2d by class, not guided, under each of 10 seeds: 20 ancestral steps, cosine path."""
    return [
        job(kind="sample", method="ho2022cfg.ancestral", options={"guidance": 1.0, "interpolation": interpolation},
            target="mixture-2d", process="cosine", grid="t", steps=20, n=1000, shards=10, seed=seed, start="card")
        for seed in FRESH
    ]  # fmt: skip


def range_of(least: float, most: float) -> list[Job]:
    """1,000 samples of mixture-2d by class, not guided, from sigma = most to least: 2M, 60 steps in lam."""
    return [
        job(kind="sample", method="ho2022cfg.2m", options={"guidance": 1.0}, target="mixture-2d",
            process=f"ve-edm[{least},{most}]", grid="lam", steps=60, n=1000, shards=10, seed=seed, start="exact")
        for seed in FRESH
    ]  # fmt: skip


def network(guidance: float, training: int) -> list[Job]:
    """300 digits by class from a network of that training seed under each of 3 seeds: 2M, 8 steps."""
    return [
        job(kind="sample", method="ho2022cfg.2m", options={"guidance": guidance}, target="digits", process="ve-edm",
            grid="power(7)", steps=8, n=300, shards=10, seed=seed, start="card", dtype="float32", net_dtype="float32",
            model=trained("digits-edm-labels", training))
        for seed in range(3)
    ]  # fmt: skip


def _of_networks(sentence: str, metric: str, *, nets: range = range(5), **fields) -> Claim:
    return contrast_of_networks(
        f"ho2022cfg/{sentence}", metric, lambda seed: network(3.0, seed), lambda seed: network(1.0, seed), nets,
        kind="ranking", transfer="strong", locus="section 4 of the paper; the card's small claim",
        paper_number="on ImageNet 64x64 the FID is best at w = .1, the Inception score at w = 4 [recall]",
        scaled="ImageNet to 8x8 digits, networks of 139,673 parameters"
        + (left_open("five training seeds", "[-.0011, .026]") if len(nets) > 5 else ""), **fields,
    )  # fmt: skip


def line(guidance: float) -> list[Job]:
    """4,000 samples of N(0, 2) guided towards N(1, .3) under each of 10 seeds: 2M, 200 steps from sigma 80 to .002.

    n was 1,000 in the first run, whose interval, [-.020, .055] against the margin .05, asked for 1,337.
    """
    return [
        job(kind="sample", method="ho2022cfg.2m", options={"guidance": guidance}, target="gaussian-1d-seen",
            process="ve-edm", grid="power(7)", steps=200, n=4000, shards=10, seed=seed, start="card")
        for seed in SEEDS
    ]  # fmt: skip


def _paired(make, metric: str, ours: float, theirs: float, change=float):
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, metric, make(ours), make(theirs), change=change)

    return judge


def _worst(metric: str, sign: int, change=float, make=plane):
    """The least of the five successive differences along the sweep, times sign."""

    def judge(evidence: Evidence) -> Interval:
        stricter, steps = replace(evidence, level=shared_level(evidence.level, len(SWEEP) - 1)), []
        for low, high in pairwise(SWEEP):
            pair = (make(high), make(low)) if sign > 0 else (make(low), make(high))
            steps.append(paired_over(stricter, metric, *pair, change=change))
        return extreme_of(steps, min, evidence.level)

    return judge


def _worst_of_networks(metric: str, sign: int, change=float):
    """The same along SHORT_SWEEP, over training seeds."""

    def judge(evidence: Evidence) -> Interval:
        level, steps = shared_level(evidence.level, len(SHORT_SWEEP) - 1), []
        for pair in pairwise(SHORT_SWEEP):
            low, high = (
                [change(evidence.number(each, metric)) for seed in NETWORKS for each in once(guidance, seed)]
                for guidance in pair
            )
            first, second = (high, low) if sign > 0 else (low, high)
            steps.append(paired_difference(first, second, level, n=200, over="training seeds"))
        return extreme_of(steps, min, evidence.level)

    return judge


def _sweep(make=plane) -> list[Job]:
    return [each for guidance in SWEEP for each in make(guidance)]


def _sweep_of_networks() -> list[Job]:
    return [each for seed in NETWORKS for guidance in SHORT_SWEEP for each in once(guidance, seed)]


def _variance(evidence: Evidence) -> Interval:
    """log of (variance / closed form) over the seeds."""
    exact = 0.3**2.5 / 2**1.5
    values = [2 * math.log(evidence.number(each, "diversity")) - math.log(exact) for each in line(2.5)]
    return t_interval(values, evidence.level, n=4000, over="seeds")


def _against_tilted(evidence: Evidence) -> Interval:
    tilted = 1 / (2.5 / 0.3 - 1.5 / 2)
    values = [2 * math.log(evidence.number(each, "diversity")) - math.log(tilted) for each in line(2.5)]
    return t_interval(values, evidence.level, n=4000, over="seeds")


COMMON = dict(locus="sections 3 and 4 of the paper; the card's sweep", evidence="A", transfer="strong")
DIGITS = "ImageNet and a trained network to digits and the exact denoisers of their classes"
NETS = "ImageNet to 8x8 digits, networks of 139,673 parameters; four guidances of the six"
PLANE = "ImageNet and a trained network to three overlapping classes in the plane and their exact denoisers"

CLAIMS = (
    Claim(
        key="ho2022cfg/guidance-raises-the-class-accuracy", kind="ranking", metrics=("class_accuracy",),
        says="Guided with 3 more samples are of the class asked for than with 1, the conditional sampler.",
        paper_number="the Inception score on ImageNet 64x64 grows with w up to 4 [recall]", scaled=PLANE,
        estimand="share of samples in their class, guidance 3 minus guidance 1, mean over 10 seeds of n = 1,000",
        jobs=lambda: [*plane(3.0), *plane(1.0)], judge=_paired(plane, "class_accuracy", 3.0, 1.0), **COMMON,
    ),
    Claim(
        key="ho2022cfg/guidance-narrows-the-classes", kind="ranking", direction="below", metrics=("class_spread",),
        says="Guided with 3 the samples of a class vary less than with 1.", scaled=PLANE,
        estimand="log of (spread within a class at guidance 3)/(at 1), mean over 10 seeds of n = 1,000",
        jobs=lambda: [*plane(3.0), *plane(1.0)], judge=_paired(plane, "class_spread", 3.0, 1.0, math.log), **COMMON,
    ),
    Claim(
        key="ho2022cfg/accuracy-never-falls-along-the-sweep", kind="threshold", margin=-0.005,
        metrics=("class_accuracy",), scaled=PLANE,
        says="Along 1, 1.5, 2, 3, 5, 8 the class accuracy falls nowhere by more than half a per cent.",
        estimand="least of five successive differences of the class accuracy, mean over 10 seeds of n = 1,000",
        jobs=_sweep, judge=_worst("class_accuracy", 1), **COMMON,
    ),
    Claim(
        key="ho2022cfg/spread-never-grows-along-the-sweep", kind="threshold", margin=-0.01,
        metrics=("class_spread",), scaled=PLANE,
        says="Along 1, 1.5, 2, 3, 5, 8 the spread within a class grows nowhere by more than one per cent.",
        estimand="least of five successive differences of -log spread within a class, mean over 10 seeds of n = 1,000",
        jobs=_sweep, judge=_worst("class_spread", -1, math.log), **COMMON,
    ),
    Claim(
        key="ho2022cfg/guidance-costs-coverage-on-digits", kind="ranking", direction="below", metrics=("coverage",),
        says="Guided with 3 the samples cover fewer of the held-out digits than with 1.",
        scaled=DIGITS,
        estimand="coverage at guidance 3 minus coverage at 1, mean over 10 seeds of n = 300",
        jobs=lambda: [*digits(3.0), *digits(1.0)], judge=_paired(digits, "coverage", 3.0, 1.0), **COMMON,
    ),
    Claim(
        key="ho2022cfg/guidance-narrows-the-classes-of-digits", kind="ranking", direction="below",
        metrics=("class_spread",),
        says="Guided with 3 the samples of a class of digits vary less than with 1.",
        scaled=DIGITS,
        estimand="log of (spread within a class at guidance 3)/(at 1), mean over 10 seeds of n = 300",
        jobs=lambda: [*digits(3.0), *digits(1.0)], judge=_paired(digits, "class_spread", 3.0, 1.0, math.log), **COMMON,
    ),
    Claim(
        key="ho2022cfg/variance-of-guided-gaussians", kind="limit-equality", direction="within", margin=0.05,
        metrics=("diversity",),
        scaled="nothing: Gaussians c ~ N(1, .3), u ~ N(0, 2), w = 1.5; n was raised after a first run left it open",
        says="The guided flow of Gaussians ends with variance s^(1+w)/S^w.", locus="invariants of the card [derived]",
        paper_number=".017428 [derived]", evidence="A", transfer="exact",
        estimand="log of (variance of the samples)/.017428, mean over 10 seeds of n = 4,000",
        jobs=lambda: line(2.5), judge=_variance,
    ),
    Claim(
        key="ho2022cfg/guided-flows-do-not-sample-the-tilted-density", kind="negative", direction="below",
        margin=-1.0, metrics=("diversity",), scaled="nothing: Gaussians c ~ N(1, .3), u ~ N(0, 2), w = 1.5",
        says="Guidance follows the score of p_c^(1+w) p_u^-w at each level, and does not sample that density: its "
        "variance is less than 1/e of that law's.", locus="invariants of the card [derived]",
        paper_number=".017428 against .1319 [derived]", evidence="A", transfer="exact",
        estimand="log of (variance of the samples)/(variance of the tilted density), mean over 10 seeds of n = 4,000",
        jobs=lambda: line(2.5), judge=_against_tilted,
    ),
    _of_networks(
        "a-network-gains-class-accuracy", "class_accuracy", nets=range(5, 15),
        says="A network trained with dropped labels shows the class asked for more often at guidance 3 than at 1.",
        estimand="class accuracy at guidance 3 minus that at 1, mean over 10 training seeds of 3 seeds of n = 300",
    ),
    _of_networks(
        "a-network-loses-coverage", "coverage", direction="below",
        says="A network trained with dropped labels covers fewer of the held-out digits at guidance 3 than at 1.",
        estimand="coverage at guidance 3 minus that at 1, mean over 5 training seeds of 3 seeds of n = 300",
    ),
    Claim(
        key="ho2022cfg/guidance-raises-the-class-accuracy-on-digits", kind="ranking", metrics=("class_accuracy",),
        says="Guided with 3 more samples are of the digit asked for than with 1, the conditional sampler.", scaled=DIGITS,
        estimand="share of samples in their class, guidance 3 minus guidance 1, mean over 10 seeds of n = 300",
        jobs=lambda: [*fresh(3.0), *fresh(1.0)], judge=_paired(fresh, "class_accuracy", 3.0, 1.0), **COMMON,
    ),
    Claim(
        key="ho2022cfg/accuracy-never-falls-along-the-sweep-on-digits", kind="threshold", margin=-0.01,
        metrics=("class_accuracy",), scaled=DIGITS,
        says="Along 1, 1.5, 2, 3, 5, 8 the accuracy of digits falls nowhere by more than one per cent.",
        estimand="least of five successive differences of the class accuracy, mean over 10 seeds of n = 300",
        jobs=lambda: _sweep(fresh), judge=_worst("class_accuracy", 1, make=fresh), **COMMON,
    ),
    Claim(
        key="ho2022cfg/spread-never-grows-along-the-sweep-on-digits", kind="threshold", margin=-0.02,
        metrics=("class_spread",), scaled=DIGITS,
        says="Along 1, 1.5, 2, 3, 5, 8 the spread within a class of digits grows nowhere by more than two per cent.",
        estimand="least of five successive differences of -log spread within a class, mean over 10 seeds of n = 300",
        jobs=lambda: _sweep(fresh), judge=_worst("class_spread", -1, math.log, fresh), **COMMON,
    ),
    Claim(
        key="ho2022cfg/coverage-never-grows-along-the-sweep-on-digits", kind="threshold", margin=-0.02,
        metrics=("coverage",), scaled=DIGITS,
        says="Along 1, 1.5, 2, 3, 5, 8 the coverage of the held-out digits grows nowhere by more than .02.",
        estimand="least of five successive differences of -coverage, mean over 10 seeds of n = 300",
        jobs=lambda: _sweep(fresh), judge=_worst("coverage", -1, make=fresh), **COMMON,
    ),
    Claim(
        key="ho2022cfg/a-network-s-accuracy-never-falls-along-the-sweep", kind="threshold", margin=-0.03,
        metrics=("class_accuracy",), scaled=NETS,
        says="Along 1, 2, 3, 8 the class accuracy of a network trained with dropped labels falls nowhere by more than .03.",
        estimand="least of three successive differences of the class accuracy, mean over 5 training seeds of n = 200",
        jobs=_sweep_of_networks, judge=_worst_of_networks("class_accuracy", 1), **COMMON | {"evidence": "S"},
    ),
    Claim(
        key="ho2022cfg/a-network-s-spread-never-grows-along-the-sweep", kind="threshold", margin=-0.03,
        metrics=("class_spread",), scaled=NETS,
        says="Along 1, 2, 3, 8 the spread within a class of a network trained with dropped labels grows nowhere by more than "
        "three per cent.",
        estimand="least of three successive differences of -log spread within a class, mean over 5 training seeds of n = 200",
        jobs=_sweep_of_networks, judge=_worst_of_networks("class_spread", -1, math.log), **COMMON | {"evidence": "S"},
    ),
    Claim(
        key="ho2022cfg/interpolating-the-variance-helps-in-few-steps", kind="ranking", metrics=("sliced_w1",),
        says="With v = .3, as the paper has it, ancestral sampling is nearer to the data than with the lower bound, v = 0.",
        locus="differs: the paper's v is .2 to .3 [recall], ours 0, DDPM's lower bound", evidence="A", transfer="weak",
        scaled="ImageNet and 256 steps to three overlapping classes in the plane and 20 steps; not guided, so that the data "
        "are what should come out",
        estimand="sliced W1 (v = 0) - sliced W1 (v = .3), mean over 10 seeds of n = 1,000",
        jobs=lambda: [*ancestral(0.0), *ancestral(0.3)],
        judge=lambda evidence: paired_over(evidence, "sliced_w1", ancestral(0.0), ancestral(0.3)),
    ),
    Claim(
        key="ho2022cfg/the-shorter-range-of-levels-costs-nothing", kind="threshold", direction="below", margin=0.01,
        metrics=("sliced_w1",),
        says="At equal steps the levels from lam = -6.5 to 4.2, those of the cosine path here, are no worse than the paper's "
        "from -10 to 10.",
        locus="differs: the paper's log-SNR, 2 lam, runs over [-20, 20]", evidence="A", transfer="weak",
        scaled="ImageNet to three overlapping classes in the plane; both ranges on ve-edm, where a sampler does the same at "
        "equal signal-to-noise ratios",
        estimand="sliced W1 (sigma 640 to .015) - sliced W1 (22,026 to 4.54e-5), mean over 10 seeds of n = 1,000",
        jobs=lambda: [*range_of(0.015, 640.0), *range_of(0.0000454, 22026.0)],
        judge=lambda evidence: paired_over(
            evidence, "sliced_w1", range_of(0.015, 640.0), range_of(0.0000454, 22026.0)
        ),
    ),
    Claim(
        key="ho2022cfg/clipping-and-the-learned-variance-of-if-improve-guided-samples", kind="ranking", evidence="S",
        says="Clipping the guided mean, and the variance that the conditional branch has learned, improve samples at "
        "guidance 7.",
        locus="differs: deepfloyd_if/modules/base.py [code]",
        estimand="Frechet distance at guidance 7, without minus with each",
        missing="a card of ho2022cascade's first stage that may be given labels (its samplers are declared for images), and a "
        "class-conditional network with a share of the variance; that both are computed as in the code is tested: "
        "test_thresholds_are_each_samples_own, test_share_goes_from_the_posteriors_variance_to_beta and "
        "test_the_first_stage_has_labels_and_no_image of ho2022cascade; nearest claim: a-network-gains-class-accuracy",
    ),
)  # fmt: skip
