"""Claims about cicchetti2024nafdpm: 8x8 digits with bled ink and noise as documents, exact denoiser of 897 atoms.

The exact first estimate is the posterior mean. That the residual's diffusion lowers its PSNR, and that 10 and 100 steps
are about .1 dB apart, had been seen on one seed of these digits before the claims were frozen; margins are the card's.
n = 600 where steps are compared was fixed once, after n = 60 had left ten steps open. The claim on gates was frozen
before the networks without them were trained; five training seeds had left it open, [-.15, .53] dB, and it is judged on
the ten after them alone. The claim on the solver's labels was frozen before any network had been asked with them; it
was refuted (PSNR rises), and whether the labels move the samples from the exact posterior was asked after that, before
anything of it was known.
"""

from collections.abc import Sequence

from benchmarks.claims import Claim, contrast, contrast_of_networks, trained
from benchmarks.jobs import Job, job

SCALED = "documents of 256 pixels to 8x8 digits, trained networks to the exact denoiser"
NETS, FRESH = range(5), range(5, 15)


def restored(
    name: str, steps: int, *, n: int = 60, model: str = "exact", seeds: Sequence[int] = range(10), **options: float
) -> list[Job]:
    """n measured digits under each of the seeds."""
    return [
        job(kind="sample", method=f"cicchetti2024nafdpm.{name}", target="digits-blurred", process="discrete-linear-100",
            grid="own", steps=steps, n=n, seed=seed, start="card", model=model,
            net_dtype=None if model == "exact" else "float32", options=options)
        for seed in seeds
    ]  # fmt: skip


def answered(model: str) -> list[Job]:
    """Two samples for each of the 900 measurements, under a seed of its own."""
    return restored("first_order", 10, n=1800, model=model, seeds=(20,))


def _against(sentence: str, metric: str, ours, theirs, **fields) -> Claim:
    common = {"evidence": "A", "transfer": "weak", "scaled": SCALED}
    return contrast(f"cicchetti2024nafdpm/{sentence}", metric, ours, theirs, **common | fields)


CLAIMS = (
    _against(
        "ten-steps-are-within-a-tenth-of-a-decibel-of-a-hundred", "psnr",
        lambda: restored("first_order", 10, n=600), lambda: restored("first_order", 100, n=600),
        says="Ten steps of the first-order solver restore as well as a hundred.",
        locus="abstract: converges in at most 20 iterations [text]; claim b of the card",
        kind="invariance",
        direction="within",
        margin=0.1,
        paper_number="within 20 steps",
        estimand="PSNR, dB, of 10 steps minus that of 100, mean over 10 seeds of n = 600",
    ),
    _against(
        "twenty-steps-are-within-a-tenth-of-a-decibel-of-a-hundred", "psnr",
        lambda: restored("first_order", 20, n=600), lambda: restored("first_order", 100, n=600),
        says="Twenty steps of the first-order solver restore as well as a hundred.",
        locus="abstract: converges in at most 20 iterations [text]",
        kind="invariance",
        direction="within",
        margin=0.1,
        paper_number="within 20 steps",
        estimand="PSNR, dB, of 20 steps minus that of 100, mean over 10 seeds of n = 600",
    ),
    _against(
        "an-exact-first-estimate-has-lower-psnr-with-its-residual-diffused", "psnr",
        lambda: restored("first_order", 10), lambda: restored("first_order", 10, share=0.0),
        says="If the first estimate is the posterior mean, sampling the residual lowers PSNR: it buys realism.",
        locus="no statement of the paper; derived: a posterior sample has twice the squared error of the mean",
        kind="negative",
        direction="below",
        estimand="PSNR, dB, with the residual minus that of the first estimate alone, 10 steps, mean over 10 seeds of n = 60",
    ),
    _against(
        "the-residual-lowers-the-error-at-high-frequencies-of-an-exact-first-estimate", "edge_error",
        lambda: restored("first_order", 10), lambda: restored("first_order", 10, share=0.0),
        says="Diffusing the residual restores the high frequencies that the first estimate misses.",
        locus="the paper's motive [text]; claim a of the card, here with the exact first estimate",
        kind="ranking",
        direction="below",
        estimand="RMS of the Laplacian of the error, with the residual minus without, 10 steps, mean over 10 seeds of n = 60",
    ),
    _against(
        "clipping-the-residual-changes-nothing", "psnr",
        lambda: restored("first_order", 10), lambda: restored("first_order", 10, quantile=0.0),
        says="The solver's dynamic threshold hardly acts on residuals, which seldom leave the range of the data.",
        locus="the card: dynamic thresholding, quantile .995, s >= 1 [code]",
        kind="invariance",
        direction="within",
        margin=0.05,
        estimand="PSNR, dB, with the threshold minus that without, 10 steps, mean over 10 seeds of n = 60",
    ),
    _against(
        "stopping-at-the-first-knot-costs-nothing", "psnr",
        lambda: restored("first_order", 100, quantile=0.0), lambda: restored("ddim", 100),
        says="The fast solver's end, still noised by sigma .003, is as good as the chain's last clean estimate.",
        locus="the card's disagreement: the solver stops at t = 1/100, the loop at clean data [code]",
        kind="invariance",
        direction="within",
        margin=0.05,
        estimand="PSNR, dB, of 100 first-order steps to 1/100 minus that of 100 DDIM steps to 0, mean over 10 seeds of n = 60",
    ),
    contrast_of_networks(
        "cicchetti2024nafdpm/a-trained-residual-lowers-the-error-at-high-frequencies", "edge_error",
        lambda seed: restored("first_order", 10, model=trained("digits-restore", seed)),
        lambda seed: restored("first_order", 10, model=trained("digits-restore", seed), share=0.0), NETS,
        says="Diffusing the residual restores the high frequencies that a trained first network misses.",
        locus="the paper's motive [text]; claim a of the card",
        kind="ranking",
        direction="below",
        transfer="weak",
        scaled="documents of 256 pixels to 8x8 digits, 9.4 million parameters to 49,266",
        estimand="RMS of the Laplacian of the error, with the residual minus without, 10 steps, mean over 10 seeds of n = 60, "
        "over 5 training seeds",
    ),
    contrast_of_networks(
        "cicchetti2024nafdpm/the-solver-s-labels-harm", "psnr",
        lambda seed: restored("first_order", 10, model=trained("digits-restore-solver-labels", seed)),
        lambda seed: restored("first_order", 10, model=trained("digits-restore", seed)), range(10),
        says="The code's fast solver tells its network times ten times too large, and restores worse for it.",
        locus="the card's pitfall [code]: labels 0..990 where training used 0..99",
        kind="ranking",
        direction="below",
        transfer="weak",
        scaled="documents of 256 pixels to 8x8 digits, 9.4 million parameters to 49,266; the same weights on either side",
        estimand="PSNR, dB, with the code's labels minus that with the trained ones, 10 steps, mean over 10 seeds of n = 60, "
        "over 10 training seeds",
    ),
    contrast_of_networks(
        "cicchetti2024nafdpm/the-solver-s-labels-move-the-samples-from-the-posterior", "posterior_energy",
        lambda seed: answered(trained("digits-restore-solver-labels", seed)),
        lambda seed: answered(trained("digits-restore", seed)), range(10),
        says="With times ten times too large the samples are farther from the posterior.",
        locus="the card's pitfall [code]: labels 0..990 where training used 0..99",
        kind="ranking",
        transfer="weak",
        scaled="documents of 256 pixels to 8x8 digits, 9.4 million parameters to 49,266; the same weights on either side",
        estimand="energy distance to the exact posterior, with the code's labels minus with the trained ones, 10 steps, mean "
        "over 900 measurements of 2 samples, over 10 training seeds",
    ),
    contrast_of_networks(
        "cicchetti2024nafdpm/gates-beat-activation-functions-at-equal-parameters", "psnr",
        lambda seed: restored("first_order", 10, model=trained("digits-restore", seed)),
        lambda seed: restored("first_order", 10, model=trained("digits-restore-activated", seed)), FRESH,
        says="A network of gates restores better than one with activation functions and attention of the same size.",
        locus="claim c of the card; the paper's motive [text]",
        kind="ranking",
        transfer="weak",
        scaled="documents of 256 pixels to 8x8 digits, 9.4 million parameters to 49,266 against 48,562 of the block with "
        "GELU and channel attention from which the gated one was simplified; batch, rate and updates are those chosen for "
        "the gates",
        estimand="PSNR, dB, of gates minus that of activation functions, 10 steps, mean over 10 seeds of n = 60, over 10 "
        "training seeds",
    ),
    Claim(
        key="cicchetti2024nafdpm/training-the-first-network-by-the-residual-too-changes-what-is-restored",
        says="The residual is not detached in its own loss, so that the first network learns what leaves an easy residual.",
        locus="the file's Differs; the card: r is NOT detached in the first two terms [code]",
        kind="ranking",
        evidence="S",
        transfer="weak",
        estimand="PSNR, dB, of networks trained on the code's loss minus that on the loss with f detached in its first terms, "
        "over training seeds",
        missing="a loss that detaches f, and networks trained on it (digits-restore is not); test_cicchetti2024nafdpm.py::"
        "test_the_residuals_loss_trains_the_first_network_too has the gradient; nearest: "
        "cicchetti2024nafdpm/a-trained-residual-lowers-the-error-at-high-frequencies",
    ),
    Claim(
        key="cicchetti2024nafdpm/the-norms-of-other-dtypes-are-another-network",
        says="In any dtype but float32 the code's norms add 1e-3 instead of 1e-5 to the variance: the same weights answer "
        "otherwise.",
        locus="the file's Differs; Corrections of the card [code]",
        kind="negative",
        evidence="S",
        transfer="weak",
        margin=5e-4,
        estimand="RMS difference of D with 1e-3 and with 1e-5 in float64, t = .3, over training seeds",
        missing="a recipe's option for what norms add, and a metric of two networks' difference; "
        "test_cicchetti2024nafdpm.py::test_the_codes_norms_of_other_dtypes_are_another_network has more than 5e-4 of the "
        "pinned network; nearest: cicchetti2024nafdpm/gates-beat-activation-functions-at-equal-parameters",
    ),
    Claim(
        key="cicchetti2024nafdpm/blurred-text-at-34.4-decibels",
        says="PSNR 34.377, SSIM .994, LPIPS .0046 and CER 1.55 on blurred text; PSNR 15.39 on DIBCO 2019.",
        locus="tables of the repository's README [text]",
        kind="threshold",
        evidence="C",
        margin=34.0,
        paper_number="34.377 dB; DocDiff 29.787",
        estimand="PSNR, dB, on the blurry document set",
        missing="its data sets and weights are not at hand; nearest: "
        "cicchetti2024nafdpm/ten-steps-are-within-a-tenth-of-a-decibel-of-a-hundred",
    ),
)  # fmt: skip
