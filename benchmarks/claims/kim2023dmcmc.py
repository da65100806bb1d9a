"""Claims about kim2023dmcmc. NFE is metered: the chains' descent and burn-in are paid for by their outputs.

Not blind: the published tables do not say how evaluations are split between moves and denoising, and three moves with
two steps, frozen first, lost to KAR1 alone. Its blocks held two chains each, whose outputs the unbiased estimator took
for independent; pooled in a pilot on another seed (20 chains) three moves with two steps still lost (.62 against .30 at
10 evaluations), one move with three steps did not (.17). The claims below were frozen then, with blocks of 20 chains;
their directions and margins are the first ones.

The claims "as the paper counts" were frozen later, before they were run: the code's own count leaves out the chain's
start, so that every sample may have a chain of its own; the card's numbers [derived] are of that kind.
"""

from collections.abc import Callable

from benchmarks.claims import Claim, Evidence
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval

CHAINS, KAR1 = "kim2023dmcmc.chains", "kim2023dmcmc.dlg"
Asked = Callable[[], list[Job]]


def gmm(method: str, steps: int, **options) -> list[Job]:
    """4,000 samples of gmm-64 from sigma 50, the paper's levels; each block of 400 holds 20 chains of 20 outputs."""
    return [
        job(kind="sample", method=method, target="gmm-64", process="ve-edm[0.01,50]", grid="power(7)_to_zero",
            steps=steps, n=4000, shards=10, seed=seed, start="exact", options=options)
        for seed in (0,)
    ]  # fmt: skip


def chains(steps: int, n_skip: int, integrator: str = "kar1", gibbs: str = "sample") -> list[Job]:
    """n_skip + (2 steps - 1, euler: steps) + 1 evaluations an output, and 57/20 for the chain's start."""
    return gmm(CHAINS, steps, outputs=20, n_skip=n_skip, levels=40, integrator=integrator, gibbs=gibbs)


def plain(steps: int, integrator: str = "kar1") -> list[Job]:
    """The integrator alone, as the notebook's "Vanilla": from sigma 50, with Tweedie's step."""
    return gmm(KAR1, steps, chain=False, integrator=integrator)


def alone(method: str, steps: int, **options) -> list[Job]:
    """1,000 samples of gmm-64, each of a chain of its own or of none: blocks of 100 independent rows."""
    return [
        job(kind="sample", method=method, target="gmm-64", process="ve-edm[0.01,50]", grid="power(7)_to_zero",
            steps=steps, n=1000, shards=10, seed=0, start="exact", options=options)
    ]  # fmt: skip


def own_chains(steps: int, n_skip: int) -> list[Job]:
    """The paper's count: n_skip + 2 steps - 1; what the chain's start costs (57) is left out, as is Tweedie's step."""
    return alone(KAR1, steps, n_skip=n_skip, levels=40)


def kar1(steps: int) -> list[Job]:
    return alone(KAR1, steps, chain=False)


def _claim(sentence: str, ours: Asked, theirs: Asked, says: str, **fields) -> Claim:
    return Claim(
        key=f"kim2023dmcmc/{sentence}", says=says, kind="ranking", evidence="A", direction="below", metrics=("energy",),
        scaled="FID of CIFAR-10 to the energy distance on ten balls in 64 dimensions; exact score, exact posterior of "
        "40 levels", transfer="weak",
        estimand="energy distance of the first minus that of the second, blocks of n = 400",
        jobs=lambda: [*ours(), *theirs()],
        judge=lambda evidence: _gap(evidence, ours(), theirs()), **fields,
    )  # fmt: skip


def _gap(evidence: Evidence, ours: list[Job], theirs: list[Job], metric: str = "energy") -> Interval:
    """Difference of two t intervals over 10 blocks each, at half the error, so that both hold at the claim's level."""
    level = 1 - (1 - evidence.level) / 2
    a, b = (evidence.value(jobs[0], metric).at(level) for jobs in (ours, theirs))
    return Interval(
        a.estimate - b.estimate, a.low - b.high, a.high - b.low, a.n, evidence.level, "two t intervals over 10 blocks"
    )


def _most_evaluations(evidence: Evidence) -> float:
    return max(evidence.number(each, "nfe") for each in chains(3, 1))


def _uniform(evidence: Evidence) -> Interval:
    return _gap(evidence, chains(3, 1, gibbs="argmax"), chains(3, 1))


CLAIMS = (
    _claim(
        "the-chain-beats-kar1-at-10-evaluations", lambda: chains(3, 1), lambda: plain(5),
        "At 10 evaluations, the chain's start shared by 20 outputs, DLG with KAR1 is better than KAR1 alone (both with "
        "Tweedie's step).",
        locus="figure 1 and table of the paper, README [text]; claim of the card",
        paper_number="CIFAR-10 FID 3.86 at about 10 [text]; gmm-64 .053 against .31 [derived]",
    ),
    _claim(
        "the-chain-beats-kar2-at-10-evaluations", lambda: chains(3, 1, "kar2"), lambda: plain(5, "kar2"),
        "At 10 evaluations DLG with KAR2 is better than KAR2 alone.",
        locus="the paper: every integrator is accelerated [text]; claim of the card",
        paper_number="CIFAR-10 FID 3.86 at about 10 [text]",
    ),
    _claim(
        "the-chain-beats-euler-at-10-evaluations", lambda: chains(5, 1, "euler"), lambda: plain(9, "euler"),
        "At 10 evaluations DLG with Euler's method is better than Euler's method alone.",
        locus="the paper: every integrator is accelerated [text]; claim of the card",
        paper_number="none read",
    ),
    _claim(
        "the-chain-beats-kar1-at-20-evaluations", lambda: chains(7, 3), lambda: plain(10),
        "At 20 evaluations DLG with KAR1 is better than KAR1 alone.",
        locus="README [text]; claim of the card, which expects the opposite",
        paper_number="CIFAR-10 FID 2.63 at about 20 [text]; gmm-64 .054 against .028 at 15 [derived]",
    ),
    _claim(
        "the-chain-beats-kar1-at-9-evaluations-as-the-paper-counts", lambda: own_chains(3, 3), lambda: kar1(5),
        "Counted as in the code, without the chain's start, DLG with KAR1 is better at 8 evaluations than KAR1 at 9.",
        locus="README [text]; claim of the card, \"n\" of the notebook [code]",
        paper_number="CIFAR-10 FID 3.86 at about 10 [text]; gmm-64 .053 against .31 [derived]",
    ),
    _claim(
        "the-chain-beats-kar1-at-19-evaluations-as-the-paper-counts", lambda: own_chains(7, 6), lambda: kar1(10),
        "Counted as in the code, DLG with KAR1 is better at 19 evaluations than KAR1 at 19.",
        locus="README [text]; claim of the card, which expects the opposite",
        paper_number="CIFAR-10 FID 2.63 at about 20 [text]; gmm-64 .054 at 19 against .028 at 15 [derived]",
    ),
    Claim(
        key="kim2023dmcmc/the-chain-is-less-diverse",
        says="At 19 evaluations as the paper counts DLG misses the shares of the modes by more than KAR1 does.",
        locus="claim of the card: faster, less diverse",
        kind="ranking",
        evidence="A",
        paper_number="gmm-64, total variation .10 to .16 against .04 to .06 [derived]",
        scaled="diversity of CIFAR-10 to the shares of ten balls in 64 dimensions",
        transfer="weak",
        estimand="total variation of the shares, DLG minus KAR1, blocks of n = 100",
        jobs=lambda: [*own_chains(7, 6), *kar1(10)],
        metrics=("mode_weights",),
        judge=lambda evidence: _gap(evidence, own_chains(7, 6), kar1(10), "mode_weights"),
    ),
    Claim(
        key="kim2023dmcmc/ten-evaluations-are-ten",
        says="An output of these chains costs at most 10 evaluations, descent and burn-in included.",
        locus="NFE of the card: burn-in must be amortised or reported",
        kind="threshold",
        evidence="E",
        direction="below",
        margin=10.0,
        paper_number="none; the paper counts neither burn-in nor Tweedie's step",
        estimand="metered NFE per sample",
        jobs=lambda: chains(3, 1),
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
        estimand="energy distance with argmax minus that with draws, 10 evaluations, blocks of n = 400",
        jobs=lambda: [*chains(3, 1, gibbs="argmax"), *chains(3, 1)],
        metrics=("energy",),
        judge=_uniform,
    ),
    Claim(
        key="kim2023dmcmc/a-small-classifier-suffices-at-256-pixels",
        says="A classifier of five layers reads the noise level of 256x256 images well enough.",
        locus="section 4 of the paper [text]",
        kind="ranking",
        evidence="C",
        paper_number="CelebA-HQ-256 FID 6.99 at about 160 [text]",
        estimand="FID",
        missing="image networks, and a trained noise classifier; nearest: the-chain-beats-kar1-at-10-evaluations",
    ),
)  # fmt: skip
