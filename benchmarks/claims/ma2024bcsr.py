"""Claims about ma2024bcsr: 8x8 digits from 4x4 pictures with noise, exact denoiser of 897 atoms, pairs beyond the measured;
and the same for the Gaussian of the digits' mean and covariance, for which the theory is exact.

32 noises are scored on 20 known pairs; the 60 measured digits are others. A pair of jobs shares its seed, which is
also that of the noises. That four steps beat twenty had been seen on one seed of these digits before it was frozen;
the claims on the Gaussian were added after those on digits had come out inconclusive, before they were run. Ten seeds
had left two claims within a factor of two of a verdict: with an exact denoiser there are 24 now, set once. The claims on
one noise against the best, and on one pair against twenty, were frozen with them, before any of it was run.
"""

import math
from statistics import NormalDist

from benchmarks.claims import Claim, Evidence, contrast, contrast_of_networks, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

NOISES = 24  # of the claims on ranks
SEEDS = 24  # with an exact denoiser
NETS = range(5)
DIGITS, GAUSSIAN = "digits-superresolution", "gaussian-superresolution"


def restored(name: str, steps: int, *, target: str = DIGITS, model: str = "exact", **options: int) -> list[Job]:
    """60 measured digits twice, under each of 24 seeds, of a network under each of 10."""
    chosen = name == "chosen"
    return [
        job(kind="sample", method=f"ma2024bcsr.{name}", target=target, process="discrete-cosine",
            grid="own", steps=steps, n=120, shards=2, seed=seed, start="card", model=model,
            net_dtype=None if model == "exact" else "float32",
            options={"candidates": 32, "references": 20, "pool_seed": seed} | options if chosen else {})
        for seed in range(SEEDS if model == "exact" else 10)
    ]  # fmt: skip


def one_noise(k: int, measured: int, target: str) -> Job:
    """Noise k, chosen from itself alone, on the first so many measured digits."""
    return job(
        kind="sample", method="ma2024bcsr.chosen", target=target, process="discrete-cosine",
        grid="own", steps=4, n=measured, start="card",
        options={"candidates": 1, "references": 1, "pool_seed": k},
    )  # fmt: skip


def ranks(values: list[float]) -> list[int]:
    order = sorted(range(len(values)), key=values.__getitem__)
    return [order.index(k) for k in range(len(values))]


def rank_correlation(evidence: Evidence, target: str = DIGITS) -> Interval:
    """Spearman's between the noises' mean PSNR on digits 0..59 and on 60..119; interval by Fisher's z (Bonett & Wright).

    PSNR is a mean over digits, so that the second half's is twice the whole's less the first's.
    """
    first = [evidence.number(one_noise(k, 60, target), "psnr") for k in range(NOISES)]
    whole = [evidence.number(one_noise(k, 120, target), "psnr") for k in range(NOISES)]
    second = [2 * b - a for a, b in zip(first, whole, strict=True)]
    gaps = [a - b for a, b in zip(ranks(first), ranks(second), strict=True)]
    rho = 1 - 6 * sum(gap**2 for gap in gaps) / (NOISES * (NOISES**2 - 1))
    half = NormalDist().inv_cdf((1 + evidence.level) / 2) * math.sqrt((1 + rho**2 / 2) / (NOISES - 3))
    z = math.atanh(min(rho, 1 - 1e-12))
    ends = math.tanh(z - half), math.tanh(z + half)
    return Interval(rho, *ends, n=60, level=evidence.level, method="Fisher z over noises", blocks=NOISES)


def most_diverse(evidence: Evidence) -> float:
    return max(evidence.number(each, "diversity") for each in restored("chosen", 4))


def _against(sentence: str, metric: str, ours, theirs, **fields) -> Claim:
    common = {"evidence": "A", "kind": "ranking", "transfer": "weak", "scaled": SCALED}
    return contrast(f"ma2024bcsr/{sentence}", metric, ours, theirs, **common | fields)


THEORY = "images to Gaussian vectors of 64 pixels, whose exact denoiser is linear"
SCALED = (
    "SR3 and StableSR to 8x8 digits with an exact denoiser; LPIPS to squared error; 1,000 noises to 32, 300 pairs to 20"
)

CLAIMS = (
    _against(
        "chosen-noise-at-four-steps-beats-random-noise-at-twenty", "psnr",
        lambda: restored("chosen", 4), lambda: restored("random", 20),
        says="One chosen starting noise restores better in four steps than fresh noise in twenty.",
        locus="abstract [text]; claim b of the card",
        estimand="PSNR, dB, of the chosen noise at 4 steps minus that of random noise at 20, mean over 24 seeds of n = 120",
    ),
    _against(
        "chosen-noise-beats-random-noise-at-equal-steps", "psnr",
        lambda: restored("chosen", 4), lambda: restored("random", 4),
        says="One chosen starting noise restores better than fresh noise with the same solver.",
        locus="abstract [text]",
        estimand="PSNR, dB, of the chosen noise minus that of random noise, 4 steps, mean over 24 seeds of n = 120",
    ),
    _against(
        "more-noises-restore-better", "psnr",
        lambda: restored("chosen", 4), lambda: restored("chosen", 4, candidates=2),
        says="The more noises there are to choose from, the better the chosen one restores images that it was not chosen on.",
        locus="invariant 4 of the card [derived]: exact on the reference set, here on other images",
        estimand="PSNR, dB, of the best of 32 noises minus that of the best of 2, mean over 24 seeds of n = 120",
    ),
    Claim(
        key="ma2024bcsr/noises-rank-alike-on-disjoint-images",
        says="Which noises restore well hardly depends on the image: ranks on two disjoint sets agree.",
        locus="the paper's premise [text]; claim a of the card",
        kind="threshold",
        evidence="A",
        margin=0.3,
        paper_number="no number read",
        scaled=SCALED,
        transfer="weak",
        estimand=f"Spearman's rank correlation of {NOISES} noises' PSNR on two disjoint sets of 60 digits",
        jobs=lambda: [one_noise(k, measured, DIGITS) for k in range(NOISES) for measured in (60, 120)],
        metrics=("psnr",),
        judge=rank_correlation,
    ),
    _against(
        "on-gaussian-images-chosen-noise-at-four-steps-beats-random-noise-at-twenty", "psnr",
        lambda: restored("chosen", 4, target=GAUSSIAN), lambda: restored("random", 20, target=GAUSSIAN),
        says="On Gaussian images one chosen starting noise restores better in four steps than fresh noise in twenty.",
        locus="abstract [text]; invariant 2 of the card [derived]",
        scaled=THEORY, transfer="strong",
        estimand="PSNR, dB, of the chosen noise at 4 steps minus that of random noise at 20, mean over 24 seeds of n = 120",
    ),
    _against(
        "on-gaussian-images-more-noises-restore-better", "psnr",
        lambda: restored("chosen", 4, target=GAUSSIAN), lambda: restored("chosen", 4, target=GAUSSIAN, candidates=2),
        says="On Gaussian images the more noises there are to choose from, the better the chosen one restores other images.",
        locus="invariants 2 and 4 of the card [derived]",
        scaled=THEORY, transfer="strong",
        estimand="PSNR, dB, of the best of 32 noises minus that of the best of 2, mean over 24 seeds of n = 120",
    ),
    Claim(
        key="ma2024bcsr/on-gaussian-images-noises-rank-alike",
        says="On Gaussian images the ranks of noises on two disjoint sets of images agree.",
        locus="the paper's premise [text]; invariant 2 of the card [derived]: exact in the limit",
        kind="threshold",
        evidence="A",
        margin=0.3,
        scaled=THEORY,
        transfer="strong",
        estimand=f"Spearman's rank correlation of {NOISES} noises' PSNR on two disjoint sets of 60 images",
        jobs=lambda: [one_noise(k, measured, GAUSSIAN) for k in range(NOISES) for measured in (60, 120)],
        metrics=("psnr",),
        judge=lambda evidence: rank_correlation(evidence, GAUSSIAN),
    ),
    Claim(
        key="ma2024bcsr/one-image-for-each-measurement",
        says="The method gives up diversity: of one measurement it knows a single restoration.",
        locus="invariant 5 of the card [derived]; the paper calls its sampling stable [text]",
        kind="limit-equality",
        evidence="E",
        direction="within",
        margin=1e-9,
        scaled=SCALED,
        estimand="largest spread among the restorations of one measurement over 24 seeds",
        jobs=lambda: restored("chosen", 4),
        metrics=("diversity",),
        judge=most_diverse,
    ),
    *(
        _against(
            f"{prefix}the-best-noise-lies-nearer-to-the-posterior-mean", "posterior_error",
            lambda target=target: restored("chosen", 4, target=target),
            lambda target=target: restored("chosen", 4, target=target, candidates=1),
            says=f"{where}the noise chosen by squared error leads nearer to the posterior mean than one noise taken at random.",
            locus="invariant 3 of the card [derived]: the method moves along the distortion axis",
            direction="below", scaled=scaled, transfer=transfer,
            estimand="RMS distance of a restoration to the exact posterior mean, best of 32 noises minus a single one, 4 "
            "steps, mean over 24 seeds",
        )
        for prefix, where, target, scaled, transfer in (
            ("", "", DIGITS, SCALED, "weak"),
            ("on-gaussian-images-", "On Gaussian images ", GAUSSIAN, THEORY, "strong"),
        )
    ),
    _against(
        "on-gaussian-images-more-pairs-choose-better", "psnr",
        lambda: restored("chosen", 4, target=GAUSSIAN), lambda: restored("chosen", 4, target=GAUSSIAN, references=1),
        says="On Gaussian images a noise chosen on twenty known pairs restores other images better than one chosen on one.",
        locus="invariant 4 of the card [derived]: the rank of the chosen noise falls with R",
        scaled=THEORY, transfer="strong",
        estimand="PSNR, dB, chosen on 20 pairs minus chosen on 1, best of 32 noises, 4 steps, mean over 24 seeds of n = 120",
    ),
    _against(
        "squared-error-chooses-what-lies-near-the-posterior-mean", "posterior_error",
        lambda: restored("chosen", 4), lambda: restored("random", 4),
        says="Chosen by squared error the noise leads nearer to the posterior mean than the average of two random ones.",
        locus="invariant 3 of the card [derived]: the method moves along the distortion axis",
        direction="below",
        estimand="RMS distance to the exact posterior mean, chosen minus mean of two random, 4 steps, mean over 24 seeds",
    ),
    contrast_of_networks(
        "ma2024bcsr/a-network-s-chosen-noise-at-four-steps-beats-random-noise-at-twenty", "psnr",
        lambda seed: restored("chosen", 4, model=trained("digits-enlarge", seed)),
        lambda seed: restored("random", 20, model=trained("digits-enlarge", seed)), NETS,
        says="The same with a trained network in the place of the exact denoiser.",
        locus="abstract [text]; claim b of the card",
        kind="ranking",
        transfer="weak",
        scaled=SCALED,
        estimand="PSNR, dB, of the chosen noise at 4 steps minus that of random noise at 20, mean over 10 seeds of n = 120, "
        "over 5 training seeds",
    ),
    Claim(
        key="ma2024bcsr/lower-lpips-than-the-networks-own-samplers",
        says="Chosen by LPIPS the noise improves LPIPS more than PSNR for SR3 and StableSR.",
        locus="abstract and tables [text: abstract and reviews]",
        kind="ranking",
        evidence="C",
        direction="below",
        estimand="LPIPS of the chosen noise minus that of random noise",
        missing="needs SR3's or StableSR's weights and LPIPS; the nearest claims in reach choose by squared error: "
        "ma2024bcsr/chosen-noise-at-four-steps-beats-random-noise-at-twenty",
    ),
)  # fmt: skip
