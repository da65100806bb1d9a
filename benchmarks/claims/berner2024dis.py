"""Claims about berner2024dis. Networks of seeds 1 and 2 are not committed: `trilemma lock train NAME@SEED` makes them."""

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

SEEDS = (0, 1, 2)


def trained(recipe: str) -> list[Job]:
    """2,000 samples of the grid of nine modes, 50 steps as in training, by the network of each training seed."""
    return [
        job(kind="sample", method="berner2024dis.dis", target="grid9", process="vp-10", grid="t", steps=50, n=2_000,
            shards=20, seed=seed, start="card", dtype="float32", net_dtype="float32",
            model=f"{recipe}@{seed}" if seed else recipe)
        for seed in SEEDS
    ]  # fmt: skip


def _kept(evidence: Evidence) -> Interval:
    return paired_over(
        evidence, "mode_weights_kept", trained("grid9-dis"), trained("grid9-dis-kl"), metric="mode_weights"
    )


CLAIMS = (
    Claim(
        key="berner2024dis/log-variance-keeps-modes-that-kl-loses",
        says="Trained alike, the log-variance loss keeps modes of a nine-mode grid that the KL loss loses.",
        locus="README of the official code [text]: the log-variance loss is better in most experiments; claim a of the card",
        kind="ranking",
        evidence="S",
        scaled="60,000 updates of 2,048 paths of 200 steps to 1,500 of 256 paths of 50 steps; a network of two layers; 3 seeds",
        transfer="weak",
        estimand="modes with more than 1 % of the samples, log-variance minus KL, mean over 3 training seeds of n = 2,000",
        jobs=lambda: [*trained("grid9-dis"), *trained("grid9-dis-kl")],
        metrics=("mode_weights",),
        judge=_kept,
    ),
)
