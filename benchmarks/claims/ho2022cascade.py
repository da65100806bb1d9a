"""Claims about ho2022cascade: the second stage on 8x8 digits from 4x4 pictures, exact denoiser of 897 atoms.

"Flawed" pictures carry three times the noise that the denoiser takes them to have: they stand for an earlier stage's
samples. On faithful pictures the cost of noise at level .25 had been seen on one seed before the claims were frozen.
What the code does otherwise than the papers was frozen later, on seeds 10 to 19 of the draws. Not blind in part: that
guidance without a label costs .6 to 1.1 dB under the threshold, and that networks are "not much good" at t = 1, stood in
the ledger and in the tests. The exact denoiser's means lie in [-1, 1], so that for it a threshold before guidance is none.

The cascade itself was frozen last, on training seeds 5 to 14: its first stage has so few evaluations that its pictures
are at .25 of Frechet distance (16 pixels, n = 900) to those of real digits, where as many exact ones are at .03. That
and the floors, exact posterior samples at .44 and -.05 of the training digits, had been seen, of networks nothing.
"""

from collections.abc import Callable
from statistics import fmean

from benchmarks.claims import Claim, Evidence, contrast, contrast_of_networks, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, extreme_of, paired_difference, shared_level

FAITHFUL, FLAWED = "digits-superresolution", "digits-superresolution-flawed"
LEVELS = (0.05, 0.1, 0.15, 0.25)
MADE, FRESH = "digits-cascade", range(5, 15)  # of training seeds
SCALED = "64 to 256 pixels, text and FID to 8x8 digits, an exact denoiser and PSNR; 50 steps to 10"

Values = Callable[[Evidence, float | None], list[float]]  # (evidence, level) -> a value for each seed
CASCADED = (
    "64 to 256 pixels, text and FID in Inception's features to 8x8 digits and pixels, U-Nets of 95,289; a first stage of 5 "
    "evaluations by the exact denoiser of 4x4 pictures, 10 in the second: 11.25 weighed by pixels, whatever the level. Both "
    "networks were trained on pictures with noise of .2, an augmentation of its own"
)


def enlarged(
    target: str, level: float, *, model: str = "exact", n: int = 60, steps: int = 10, first: int = 0, seeds: int = 10,
    **options: float,
) -> list[Job]:  # fmt: skip
    """n measured digits, ancestral, under each of so many seeds."""
    return [
        job(kind="sample", method="ho2022cascade.ancestral", target=target, process="discrete-cosine", grid="own",
            steps=steps, n=n, seed=seed, start="card", model=model, net_dtype=None if model == "exact" else "float32",
            options={"level": level} | options)
        for seed in range(first, first + seeds)
    ]  # fmt: skip


def cascaded(target: str, seed: int, level: float | None) -> list[Job]:
    """900 pictures enlarged under 2 seeds by the network of that training seed that knows noise; None: the plain one."""
    recipe, level = ("digits-enlarge-plain", -1.0) if level is None else ("digits-enlarge", level)
    return enlarged(target, level, model=trained(recipe, seed), n=900, first=20, seeds=2)


def _against(sentence: str, ours, theirs, **fields) -> Claim:
    common = {"evidence": "A", "kind": "ranking", "transfer": "weak", "scaled": SCALED}
    return contrast(f"ho2022cascade/{sentence}", "psnr", ours, theirs, **common | fields)


def _psnr(target: str, n: int) -> Values:
    """By seed; level None: no noise."""
    return lambda evidence, level: [
        evidence.number(j, "psnr") for j in enlarged(target, -1.0 if level is None else level, n=n)
    ]


def _frechet(target: str) -> Values:
    """By training seed, the mean over the seeds of draws; level None: of the plain network."""
    return lambda evidence, level: [
        fmean(evidence.number(j, "prior_frechet") for j in cascaded(target, seed, level)) for seed in FRESH
    ]


def _over_levels(pick: Callable[..., float], values: Values, n: int, over: str = "pairs") -> Callable[[Evidence], Interval]:
    """The least or largest over LEVELS of (with that noise - without), by intervals that hold together."""

    def judge(evidence: Evidence) -> Interval:
        plain, level = values(evidence, None), shared_level(evidence.level, len(LEVELS))
        found = [paired_difference(values(evidence, noise), plain, level, n=n, over=over) for noise in LEVELS]
        return extreme_of(found, pick, evidence.level)

    return judge


def _gap(one: Values, other: Values, n: int, over: str = "pairs") -> Callable[[Evidence], Interval]:
    """(one - other) at level .25 less the same without noise, seed by seed."""

    def judge(evidence: Evidence) -> Interval:
        gaps = [
            [a - b for a, b in zip(one(evidence, level), other(evidence, level), strict=True)] for level in (0.25, None)
        ]
        return paired_difference(*gaps, evidence.level, n=n, over=over)

    return judge


CLAIMS = (
    _against(
        "noise-helps-on-flawed-pictures",
        lambda: enlarged(FLAWED, 0.25, n=120, first=200, seeds=40),
        lambda: enlarged(FLAWED, -1.0, n=120, first=200, seeds=40),
        says="Told that its picture is noisier than it is trusted to be, a stage restores flawed pictures better.",
        locus="noise-conditioning augmentation of the cascades [recall]; the card's small claim",
        scaled=f"{SCALED}; ten seeds of n = 60 had left it at [-.37, .05] and of n = 120 at [-.364, .084], which asked for 26: it "
        "is judged on 40 others alone",
        estimand="PSNR, dB, at level .25 minus that without noise on flawed pictures, mean over 40 seeds of n = 120",
    ),
    Claim(
        key="ho2022cascade/some-noise-helps-on-flawed-pictures",
        says="There is a level of noise at which a stage restores flawed pictures better than without.",
        locus="the card's small claim: refuted if no level above 0 helps on generated pictures",
        kind="ranking",
        evidence="A",
        scaled=SCALED,
        transfer="weak",
        estimand="largest over the levels .05, .1, .15, .25 of PSNR, dB, with noise minus without, mean over 10 seeds of n = 120",
        jobs=lambda: [j for level in (-1.0, *LEVELS) for j in enlarged(FLAWED, level, n=120)],
        metrics=("psnr",),
        judge=_over_levels(max, _psnr(FLAWED, 120), 120),
    ),
    _against(
        "noise-costs-detail-on-faithful-pictures",
        lambda: enlarged(FAITHFUL, 0.25), lambda: enlarged(FAITHFUL, -1.0),
        says="On pictures that are what they seem the same noise only hides detail.",
        locus="the price of the augmentation, derived: the posterior given less",
        direction="below",
        estimand="PSNR, dB, at level .25 minus that without noise on faithful pictures, mean over 10 seeds of n = 60",
    ),
    Claim(
        key="ho2022cascade/noise-closes-the-gap-to-flawed-pictures",
        says="With noise on the picture a stage suffers less from an earlier stage's flaws.",
        locus="the card's small claim: augmentation should close the gap on generated pictures",
        kind="ranking",
        evidence="A",
        direction="below",
        scaled=SCALED,
        transfer="weak",
        estimand="(PSNR faithful - flawed) at level .25 minus the same without noise, dB, mean over 10 seeds of n = 60",
        jobs=lambda: [j for target in (FAITHFUL, FLAWED) for level in (0.25, -1.0) for j in enlarged(target, level)],
        metrics=("psnr",),
        judge=_gap(_psnr(FAITHFUL, 60), _psnr(FLAWED, 60), 60),
    ),
    _against(
        "noise-drawn-anew-sees-more-than-one-draw",
        lambda: enlarged(FAITHFUL, 0.25), lambda: enlarged(FAITHFUL, 0.25, fixed=True),
        says="Drawn anew at each call the noise averages out: the code sees more of the picture than one noised picture shows.",
        locus="the card's disagreement: the code redraws the augmentation at every network call",
        estimand="PSNR, dB, with noise drawn anew minus that with one draw, mean over 10 seeds of n = 60",
    ),
    _against(
        "guidance-without-a-label-follows-the-noise",
        lambda: enlarged(FAITHFUL, 0.25, guidance=4.0), lambda: enlarged(FAITHFUL, 0.25),
        says="The code noises the two halves of guidance apart: with nothing to guide it still extrapolates their difference.",
        locus="the card's disagreement: separately for the conditional and the unconditional half",
        direction="below",
        estimand="PSNR, dB, at guidance 4 without labels minus that at 1, mean over 10 seeds of n = 60",
    ),
    Claim(
        key="ho2022cascade/one-noise-for-both-halves-guides-by-the-label-alone",
        says="With one noised picture for both halves guidance without a label does nothing.",
        locus="derived",
        kind="limit-equality",
        evidence="E",
        direction="within",
        margin=1e-9,
        estimand="PSNR, dB, at guidance 4 minus that at 1, one draw for both halves, largest of 10 seeds",
        jobs=lambda: [*enlarged(FAITHFUL, 0.25, fixed=True, guidance=4.0), *enlarged(FAITHFUL, 0.25, fixed=True)],
        metrics=("psnr",),
        judge=lambda evidence: max(
            abs(evidence.number(a, "psnr") - evidence.number(b, "psnr"))
            for a, b in zip(
                enlarged(FAITHFUL, 0.25, fixed=True, guidance=4.0), enlarged(FAITHFUL, 0.25, fixed=True), strict=True
            )
        ),
    ),
    contrast_of_networks(
        "ho2022cascade/a-network-trained-with-noise-stands-flaws-better", "psnr",
        lambda seed: enlarged(FLAWED, 0.25, model=trained("digits-enlarge", seed)),
        lambda seed: enlarged(FLAWED, -1.0, model=trained("digits-enlarge-plain", seed)), range(5),
        says="A network trained with noise on its pictures restores flawed ones better than one trained without.",
        locus="the card's small claim: stage 2 trained with and without augmentation",
        kind="ranking",
        transfer="weak",
        scaled=SCALED,
        estimand="PSNR, dB, of the noise-trained network at level .25 minus that of the plain one, flawed pictures, mean over "
        "10 seeds of n = 60, over 5 training seeds",
    ),
    _against(
        "the-first-knot-s-noise-costs-nothing",
        lambda: enlarged(FAITHFUL, 0.0, first=10), lambda: enlarged(FAITHFUL, -1.0, first=10),
        says="The noise of the first knot, which the code adds at level 0, is as good as none.",
        locus="the file's Differs: at level 0 the code noises by the chain's first knot (sigma .0064) [code]",
        kind="invariance",
        direction="within",
        margin=0.05,
        estimand="PSNR, dB, at level 0 minus that without noise on faithful pictures, mean over 10 seeds of n = 60",
    ),
    _against(
        "noise-on-the-enlarged-picture-hides-less-than-on-the-small-one",
        lambda: enlarged(FAITHFUL, 0.25, first=10), lambda: enlarged(FAITHFUL, 0.25, first=10, small=True),
        says="The code noises 64 pixels of an enlarged picture of 16, which shows more of it than noise on the 16 would.",
        locus="the file's Differs: the code noises up(low) [code], Imagen's pseudo-code low itself [recall]",
        estimand="PSNR, dB, with noise on the enlarged picture minus that with noise on the small one, level .25, faithful "
        "pictures, mean over 10 seeds of n = 60",
    ),
    _against(
        "a-threshold-after-guidance-brings-back-what-guidance-pushes-out",
        lambda: enlarged(FAITHFUL, 0.25, first=10, guidance=4.0),
        lambda: enlarged(FAITHFUL, 0.25, first=10, guidance=4.0, quantile=0.0),
        says="Clipped after guidance a sample is nearer to the truth than clipped before it, which here is not at all.",
        locus="the file's Differs: the quantile is of D after guidance [code]",
        estimand="PSNR, dB, with the threshold minus that without at guidance 4 without labels, level .25, faithful pictures, "
        "mean over 10 seeds of n = 60",
    ),
    contrast_of_networks(
        "ho2022cascade/what-a-network-says-of-pure-noise-is-hardly-trained", "psnr",
        lambda seed: enlarged(FAITHFUL, 0.0, first=10, steps=1, model=trained("digits-enlarge", seed)),
        lambda seed: enlarged(FAITHFUL, 0.0, first=10, model=trained("digits-enlarge", seed)), FRESH,
        says="One step from pure noise restores worse than ten, where an exact mean, being no sample, would restore better.",
        locus="the file's Differs, derived: the loss weighs D by (alpha_t/sigma_t)^2, 2e-9 at t = 1",
        kind="negative",
        direction="below",
        transfer="weak",
        scaled="64 to 256 pixels, text and FID to 8x8 digits, U-Nets of the noise's v and PSNR; training seeds 0 to 4 had left "
        "it at [-.977, .054] and asked for 7: it is judged on ten others alone",
        estimand="PSNR, dB, of one step minus that of ten, level 0, faithful pictures, mean over 10 seeds of n = 60, over 10 "
        "training seeds",
    ),
    Claim(
        key="ho2022cascade/augmentation-lowers-the-frechet-distance-of-a-cascade",
        says="A cascade whose second stage is trained and asked with some noise on its pictures is nearer to the data.",
        locus="tables of the papers [recall]; the card's small claim, refuted if no level above 0 helps on a stage's samples",
        kind="ranking",
        evidence="S",
        direction="below",
        transfer="weak",
        scaled=CASCADED,
        estimand="least over the levels .05, .1, .15, .25 of Frechet distance (pixels) to the training digits of the network "
        "trained with noise minus that of the plain one, on a first stage's pictures, mean over 2 seeds of n = 900, over 10 "
        "training seeds",
        jobs=lambda: [j for seed in FRESH for level in (None, *LEVELS) for j in cascaded(MADE, seed, level)],
        metrics=("prior_frechet",),
        judge=_over_levels(min, _frechet(MADE), 1800, "training seeds"),
    ),
    Claim(
        key="ho2022cascade/augmentation-closes-the-frechet-gap-to-a-stage-s-pictures",
        says="With noise on its pictures a stage loses less by having an earlier stage's instead of real ones.",
        locus="the card's small claim: augmentation should close the gap on generated pictures",
        kind="ranking",
        evidence="S",
        direction="below",
        transfer="weak",
        scaled=CASCADED,
        estimand="Frechet distance (pixels) to the training digits, on a first stage's pictures minus on real ones, of the "
        "network trained with noise at level .25 minus the same of the plain one, mean over 2 seeds of n = 900, over 10 "
        "training seeds",
        jobs=lambda: [
            j for seed in FRESH for target in (MADE, FAITHFUL) for level in (None, 0.25) for j in cascaded(target, seed, level)
        ],
        metrics=("prior_frechet",),
        judge=_gap(_frechet(MADE), _frechet(FAITHFUL), 1800, "training seeds"),
    ),
    contrast_of_networks(
        "ho2022cascade/augmentation-costs-frechet-distance-on-real-pictures", "prior_frechet",
        lambda seed: cascaded(FAITHFUL, seed, 0.25), lambda seed: cascaded(FAITHFUL, seed, None), FRESH,
        says="On real pictures the same noise takes the samples away from the data.",
        locus="the price of the augmentation, derived: a posterior given less is harder for a network",
        kind="negative",
        transfer="weak",
        scaled=CASCADED,
        estimand="Frechet distance (pixels) to the training digits of the network trained with noise at level .25 minus that "
        "of the plain one, on real pictures, mean over 2 seeds of n = 900, over 10 training seeds",
    ),
)  # fmt: skip
