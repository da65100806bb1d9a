"""Claims about wang2024cow: the published 10 steps (37 evaluations) on problems of which a part is known."""

from collections.abc import Callable

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, t_interval

SEEDS = range(10)
HALF, QUARTER = "mixture-2d-half", "digits-quarter"
CYCLES = (0, 1, 3, 10)


def cow(target: str, n: int, steps: int = 10, method: str = "cow", **options: float | str) -> list[Job]:
    return [
        job(kind="sample", method=f"wang2024cow.{method}", options=options, target=target, process="discrete-linear",
            grid="own", steps=steps, n=n, shards=10, seed=seed, start="card")
        for seed in SEEDS
    ]  # fmt: skip


def replaced(target: str, n: int, steps: int) -> list[Job]:
    """SDEdit with the known region put back after each step, from half the chain: replacement without cycles."""
    return [
        job(kind="sample", method="meng2022sdedit.sde", target=target, process="discrete-linear[0,0.5]", grid="t",
            steps=steps, n=n, shards=10, seed=seed, start="card")
        for seed in SEEDS
    ]  # fmt: skip


def _between(
    metric: str, ours: Callable[[], list[Job]], theirs: Callable[[], list[Job]], sentence: str, **fields
) -> Claim:
    return Claim(
        key=f"wang2024cow/{sentence}", evidence="A", jobs=lambda: [*ours(), *theirs()], metrics=(metric,),
        judge=lambda evidence: paired_over(evidence, metric, ours(), theirs()), **{"kind": "ranking", **fields},
    )  # fmt: skip


def _least_gain(evidence: Evidence) -> Interval:
    curves = [[evidence.number(each, "sliced_w1") for each in cow(HALF, 1500, cycles=c)] for c in CYCLES]
    least = [
        min(few - more for few, more in zip(curve, curve[1:], strict=False)) for curve in zip(*curves, strict=True)
    ]
    return t_interval(least, evidence.level, n=1500)


CLAIMS = (
    _between(
        "sliced_w1", lambda: cow(HALF, 1500, cycles=0), lambda: cow(HALF, 1500), "cycles-approach-the-conditional-law",
        says="Ten cycles bring the unknown part nearer to its law given the known one than none.",
        locus="section 3 of the paper [text]: information flows out of the seed; the card's claim on mixtures",
        scaled="text-to-image models to a plane mixture of which one coordinate is known",
        transfer="strong",
        estimand="sliced W1 (no cycles) - sliced W1 (ten), mean over 10 seeds of n = 1,500",
    ),
    Claim(
        key="wang2024cow/every-further-cycle-helps",
        says="0, 1, 3, 10 cycles: each number is nearer to the conditional law than the one before.",
        locus="section 4 of the paper [text]; the card's claim on cycles",
        kind="ranking",
        evidence="A",
        scaled="text-to-image models to a plane mixture of which one coordinate is known; 30 cycles left out",
        transfer="strong",
        estimand="least fall of sliced W1 from one number of cycles to the next, mean over 10 seeds of n = 1,500",
        jobs=lambda: [each for c in CYCLES for each in cow(HALF, 1500, cycles=c)],
        metrics=("sliced_w1",),
        judge=_least_gain,
    ),
    _between(
        "sliced_w1", lambda: cow(QUARTER, 100, cycles=0), lambda: cow(QUARTER, 100), "cycles-are-more-realistic-on-digits",
        says="A digit grown from its upper left quarter is nearer to the digits after ten cycles than after none.",
        locus="section 4 of the paper [text]; the card's claim on digits",
        scaled="text-to-image models to 8x8 digits and their exact denoiser; seam energy to sliced W1",
        transfer="weak",
        estimand="sliced W1 (no cycles) - sliced W1 (ten), mean over 10 seeds of n = 100",
    ),
    _between(
        "known_error", lambda: cow(QUARTER, 100), lambda: cow(QUARTER, 100, cycles=0), "cycles-leave-the-seed-as-it-is",
        says="The seed survives ten cycles as well as none: its error after decoding hardly changes.",
        locus="the card's claim: at fixed seed MSE; section 3 of the paper [text]",
        kind="invariance",
        direction="within",
        margin=0.05,
        scaled="text-to-image models to 8x8 digits in [-1, 1] and their exact denoiser",
        transfer="weak",
        estimand="RMS error on the seed (ten cycles) - (none), mean over 10 seeds of n = 100",
    ),
    _between(
        "sliced_w1", lambda: replaced(HALF, 1500, 37), lambda: cow(HALF, 1500), "better-than-replacement-without-cycles",
        says="At 37 evaluations the cycles come nearer to the conditional law than replacement without cycles.",
        locus="section 4 of the paper [text]: inpainting and SDEdit baselines; the card's claim",
        scaled="text-to-image models to a plane mixture of which one coordinate is known; the guide's rest is 0",
        transfer="weak",
        estimand="sliced W1 (SDEdit with the known part) - sliced W1 (COW), mean over 10 seeds of n = 1,500",
    ),
    _between(
        "sliced_w1", lambda: cow(HALF, 1500, levels="0.27.1"), lambda: cow(HALF, 1500), "levels-of-diffusers-0-27-1-cost-quality",
        says="Re-noising by the factor of one step higher, as with diffusers 0.27.1, is worse than by the right one.",
        locus="differs: inject_noise reads inverse_timesteps, which are one step off in the README's recommended release",
        scaled="text-to-image models to a plane mixture of which one coordinate is known",
        transfer="strong",
        estimand="sliced W1 (0.27.1) - sliced W1 (consistent), mean over 10 seeds of n = 1,500",
    ),
    _between(
        "sliced_w1", lambda: cow(HALF, 1500, levels="0.17.1"), lambda: cow(HALF, 1500), "levels-of-diffusers-0-17-1-cost-quality",
        says="Denoising from one level too low, as with diffusers 0.17.1, is worse than from the right one.",
        locus="differs: that release inverts to one level above the one where the pipeline's scheduler goes on",
        scaled="text-to-image models to a plane mixture of which one coordinate is known",
        transfer="strong",
        estimand="sliced W1 (0.17.1) - sliced W1 (consistent), mean over 10 seeds of n = 1,500",
    ),
    _between(
        "class_accuracy", lambda: cow(QUARTER, 100, method="guided"), lambda: cow(QUARTER, 100, method="guided", guidance=1.0),
        "guidance-raises-the-share-of-the-class-asked-for",
        says="Guidance 7.5 raises the share of results that show the class asked for over guidance 1.",
        locus="pipeline_COW.py: 7.5 everywhere; the card's claim on class accuracy",
        scaled="text prompts to the labels of 8x8 digits, their exact conditional denoiser, a small classifier",
        transfer="weak",
        estimand="share of the class asked for (7.5) - (1), mean over 10 seeds of n = 100",
    ),
    Claim(
        key="wang2024cow/faces-are-kept-in-scenes",
        says="Prompt and face are both kept better than by DreamBooth, Textual Inversion, ControlNet and SD inpainting.",
        locus="table 1 of the paper; not read",
        kind="ranking",
        evidence="C",
        estimand="face and text similarity",
        missing="a text-to-image model and face networks; nearest claim: cycles-are-more-realistic-on-digits",
    ),
)  # fmt: skip
