"""Claims about wang2024cow: the published 10 steps (37 evaluations) on problems of which a part is known.

Digits are asked of trained networks: off its atoms their exact denoiser is too steep for inversion (targets/editing),
and a seed that it loses, an error of .7 with ten cycles as with none, says nothing of cycles. That a network loses .2
had been seen on one training seed before the margin was taken over from the card's claim on exact denoisers.

On the mixture the card asks for the distance to the exact conditional law. Seeds 0 to 9 had been scored by the sliced W1 to
the joint law, which stands for it badly; the claims are asked anew of ten fresh seeds, with n = 3,000 as before.
"""

from collections.abc import Callable

from benchmarks.claims import Claim, Evidence, contrast, contrast_of_networks, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, extreme_of, paired_difference, shared_level

SEEDS, FRESH = range(10), range(10, 20)
HALF, QUARTER = "mixture-2d-half", "digits-quarter"
CYCLES = (0, 1, 3, 10, 30)
MANY = 3000
NETS = range(5)
PLANE = "text-to-image models to a plane mixture whose first coordinate is known"


def cow(target: str, n: int, steps: int = 10, method: str = "cow", **options: float | str) -> list[Job]:
    return [
        job(kind="sample", method=f"wang2024cow.{method}", options=options, target=target, process="discrete-linear",
            grid="own", steps=steps, n=n, shards=10, seed=seed, start="card")
        for seed in (FRESH if target == HALF else SEEDS)
    ]  # fmt: skip


def grown(seed: int, cycles: int) -> list[Job]:
    """200 digits grown from their upper left quarters by the network of a training seed."""
    return [
        job(kind="sample", method="wang2024cow.cow", options={"cycles": cycles}, target=QUARTER, process="discrete-linear",
            grid="own", steps=10, n=200, shards=10, start="card", dtype="float32", net_dtype="float32",
            model=trained("digits-simple", seed))
    ]  # fmt: skip


def replaced(steps: int) -> list[Job]:
    """SDEdit with the known region put back after each step, from half the chain: replacement without cycles."""
    return [
        job(kind="sample", method="meng2022sdedit.sde", target=HALF, process="discrete-linear[0,0.5]", grid="t",
            steps=steps, n=MANY, shards=10, seed=seed, start="card")
        for seed in FRESH
    ]  # fmt: skip


def _between(
    metric: str, ours: Callable[[], list[Job]], theirs: Callable[[], list[Job]], sentence: str, **fields
) -> Claim:
    common = {"kind": "ranking", "evidence": "A"}
    return contrast(f"wang2024cow/{sentence}", metric, ours, theirs, **common | fields)


def _least_gain(evidence: Evidence) -> Interval:
    """The least of the falls from one number of cycles to the next."""
    curves = [[evidence.number(each, "rest_energy") for each in cow(HALF, MANY, cycles=c)] for c in CYCLES]
    level = shared_level(evidence.level, len(CYCLES) - 1)
    falls = [paired_difference(few, more, level, n=MANY) for few, more in zip(curves, curves[1:], strict=False)]
    return extreme_of(falls, min, evidence.level)


CLAIMS = (
    _between(
        "rest_energy", lambda: cow(HALF, MANY, cycles=0), lambda: cow(HALF, MANY), "cycles-approach-the-conditional-law",
        says="Ten cycles bring the unknown part nearer to its law given the known one than none.",
        locus="section 3 of the paper [text]: information flows out of the seed; the card's claim on mixtures",
        scaled=PLANE,
        transfer="strong",
        estimand="energy distance (no cycles) - energy distance (ten), mean over 10 seeds of n = 3,000",
    ),
    Claim(
        key="wang2024cow/every-further-cycle-helps",
        says="0, 1, 3, 10, 30 cycles: each number is nearer to the conditional law than the one before.",
        locus="section 4 of the paper [text]; the card's claim on cycles",
        kind="ranking",
        evidence="A",
        scaled=PLANE,
        transfer="strong",
        estimand="least of the mean falls of energy distance from one number of cycles to the next, 10 seeds of n = 3,000",
        jobs=lambda: [each for c in CYCLES for each in cow(HALF, MANY, cycles=c)],
        metrics=("rest_energy",),
        judge=_least_gain,
    ),
    contrast_of_networks(
        "wang2024cow/cycles-are-more-realistic-on-digits", "sliced_w1",
        lambda seed: grown(seed, 0), lambda seed: grown(seed, 10), NETS,
        says="A digit grown from its upper left quarter is nearer to the digits after ten cycles than after none.",
        locus="section 4 of the paper [text]; the card's claim on digits",
        kind="ranking",
        scaled="text-to-image models to 8x8 digits and small networks; seam energy to sliced W1",
        transfer="weak",
        estimand="sliced W1 (no cycles) - sliced W1 (ten), mean over 5 training seeds, n = 200 each",
    ),
    contrast_of_networks(
        "wang2024cow/cycles-leave-the-seed-as-it-is", "known_error",
        lambda seed: grown(seed, 10), lambda seed: grown(seed, 0), NETS,
        says="The seed survives ten cycles as well as none: its error after decoding hardly changes.",
        locus="the card's claim: at fixed seed MSE; section 3 of the paper [text]",
        kind="invariance",
        direction="within",
        margin=0.05,
        scaled="text-to-image models to 8x8 digits in [-1, 1] and small networks",
        transfer="weak",
        estimand="RMS error on the seed (ten cycles) - (none), mean over 5 training seeds, n = 200 each",
    ),
    _between(
        "rest_energy", lambda: replaced(37), lambda: cow(HALF, MANY), "better-than-replacement-without-cycles",
        says="At 37 evaluations the cycles come nearer to the conditional law than replacement without cycles.",
        locus="section 4 of the paper [text]: inpainting and SDEdit baselines; the card's claim",
        scaled=PLANE + "; the guide's rest is 0",
        transfer="weak",
        estimand="energy distance (SDEdit with the known part) - energy distance (COW), mean over 10 seeds of n = 3,000",
    ),
    _between(
        "rest_energy", lambda: cow(HALF, MANY, levels="0.27.1"), lambda: cow(HALF, MANY), "levels-of-diffusers-0-27-1-cost-quality",
        says="Re-noising by the factor of one step higher, as with diffusers 0.27.1, is worse than by the right one.",
        locus="differs: inject_noise reads inverse_timesteps, which are one step off in the README's recommended release",
        scaled=PLANE,
        transfer="strong",
        estimand="energy distance (0.27.1) - energy distance (consistent), mean over 10 seeds of n = 3,000",
    ),
    _between(
        "rest_energy", lambda: cow(HALF, MANY, levels="0.17.1"), lambda: cow(HALF, MANY), "levels-of-diffusers-0-17-1-cost-quality",
        says="Denoising from one level too low, as with diffusers 0.17.1, is worse than from the right one.",
        locus="differs: that release inverts to one level above the one where the pipeline's scheduler goes on",
        scaled=PLANE,
        transfer="strong",
        estimand="energy distance (0.17.1) - energy distance (consistent), mean over 10 seeds of n = 3,000",
    ),
    _between(
        "class_accuracy", lambda: cow(QUARTER, 100, method="guided"), lambda: cow(QUARTER, 100, method="guided", guidance=1.0),
        "guidance-raises-the-share-of-the-class-asked-for",
        says="Guidance 7.5 raises the share of results that show the class asked for over guidance 1.",
        locus="pipeline_COW.py: 7.5 everywhere; the card's claim on class accuracy",
        scaled="text prompts to the labels of 8x8 digits, their exact conditional denoiser, off whose atoms the guides lie",
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
