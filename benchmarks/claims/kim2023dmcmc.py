"""Claims about kim2023dmcmc. Margins, jobs and directions were set before running; the card's author had looked at one
seed. NFE is metered: the chains' descent and burn-in are paid for by their outputs."""

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

CHAINS, KAR1 = "kim2023dmcmc.chains", "kim2023dmcmc.dlg"
SEEDS = range(5)


def gmm(method: str, steps: int, **options) -> list[Job]:
    """500 samples of gmm-64 from sigma 50, the paper's levels, for each of 5 seeds; shards of 50 are 2 chains of 25."""
    return [
        job(kind="sample", method=method, target="gmm-64", process="ve-edm[0.01,50]", grid="power(7)_to_zero",
            steps=steps, n=500, shards=10, seed=seed, start="exact", options=options)
        for seed in SEEDS
    ]  # fmt: skip


def chains(steps: int, n_skip: int, integrator: str = "kar1", gibbs: str = "sample") -> list[Job]:
    """n_skip + (2 steps - 1, euler: steps) + 1 evaluations an output, and 57/25 for the chain's start."""
    return gmm(CHAINS, steps, outputs=25, n_skip=n_skip, levels=50, integrator=integrator, gibbs=gibbs)


def plain(steps: int, integrator: str = "kar1") -> list[Job]:
    """The integrator alone, as the notebook's "Vanilla": from sigma 50, with Tweedie's step."""
    return gmm(KAR1, steps, chain=False, integrator=integrator)


def _claim(sentence: str, ours: list[Job], theirs: list[Job], says: str, **fields) -> Claim:
    return Claim(
        key=f"kim2023dmcmc/{sentence}", says=says, kind="ranking", evidence="A", direction="below", metrics=("energy",),
        scaled="FID of CIFAR-10 to the energy distance on ten balls in 64 dimensions; exact score, exact posterior of "
        "50 levels", transfer="weak",
        estimand="energy distance of the first minus that of the second, mean over 5 seeds of n = 500",
        jobs=lambda: [*ours, *theirs],
        judge=lambda evidence: paired_over(evidence, "energy", ours, theirs), **fields,
    )  # fmt: skip


def _most_evaluations(evidence: Evidence) -> float:
    return max(evidence.number(each, "nfe") for each in chains(2, 3))


def _uniform(evidence: Evidence) -> Interval:
    return paired_over(evidence, "energy", chains(2, 3, gibbs="argmax"), chains(2, 3))


CLAIMS = (
    _claim(
        "the-chain-beats-kar1-at-9-evaluations", chains(2, 3), plain(5),
        "At 9 evaluations, the chain's start shared by 25 outputs, DLG with KAR1 is better than KAR1 alone (10 with "
        "Tweedie's).",
        locus="figure 1 and table of the paper, README [text]; claim of the card",
        paper_number="CIFAR-10 FID 3.86 at about 10 [text]; gmm-64 .053 against .31 [derived]",
    ),
    _claim(
        "the-chain-beats-kar2-at-9-evaluations", chains(2, 3, "kar2"), plain(5, "kar2"),
        "At 9 evaluations DLG with KAR2 is better than KAR2 alone.",
        locus="the paper: every integrator is accelerated [text]; claim of the card",
        paper_number="CIFAR-10 FID 3.86 at about 10 [text]",
    ),
    _claim(
        "the-chain-beats-euler-at-9-evaluations", chains(3, 3, "euler"), plain(9, "euler"),
        "At 9 evaluations DLG with Euler's method is better than Euler's method alone.",
        locus="the paper: every integrator is accelerated [text]; claim of the card",
        paper_number="none read",
    ),
    _claim(
        "the-chain-beats-kar1-at-20-evaluations", chains(5, 8), plain(10),
        "At 20 evaluations DLG with KAR1 is better than KAR1 alone.",
        locus="README [text]; claim of the card, which expects the opposite",
        paper_number="CIFAR-10 FID 2.63 at about 20 [text]; gmm-64 .054 against .028 at 15 [derived]",
    ),
    Claim(
        key="kim2023dmcmc/nine-evaluations-are-nine",
        says="An output of these chains costs at most 9.3 evaluations, descent and burn-in included.",
        locus="NFE of the card: burn-in must be amortised or reported",
        kind="threshold",
        evidence="E",
        direction="below",
        margin=9.3,
        paper_number="none; the paper counts neither burn-in nor Tweedie's step",
        estimand="largest metered NFE per sample over 5 seeds",
        jobs=lambda: chains(2, 3),
        judge=_most_evaluations,
    ),
    Claim(
        key="kim2023dmcmc/argmax-is-as-good-as-the-draw",
        says="Taking the likeliest level, as coded, is as good as drawing it, as the paper has it.",
        locus="algorithm of the paper against net(x).argmax in the notebook; invariant 2 of the card",
        kind="invariance",
        evidence="A",
        direction="within",
        margin=0.01,
        paper_number="none",
        scaled="FID of CIFAR-10 to the energy distance on ten balls in 64 dimensions",
        transfer="weak",
        estimand="energy distance with argmax minus that with draws, 9 evaluations, mean over 5 seeds of n = 500",
        jobs=lambda: [*chains(2, 3, gibbs="argmax"), *chains(2, 3)],
        metrics=("energy",),
        judge=_uniform,
    ),
    Claim(
        key="kim2023dmcmc/a-small-classifier-suffices-at-256-pixels",
        says="A classifier of five layers reads the noise level of 256x256 images well enough.",
        locus="section 4 of the paper [text]",
        kind="ranking",
        evidence="A",
        paper_number="CelebA-HQ-256 FID 6.99 at about 160 [text]",
        estimand="FID",
        missing="image networks, and a trained noise classifier; nearest: the-chain-beats-kar1-at-9-evaluations",
    ),
)  # fmt: skip
