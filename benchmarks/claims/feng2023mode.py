"""Claims about feng2023mode: what more experts of the same active size buy.

The exact denoiser has no defects that experts could mend, so their capacity is limited on purpose: a frozen expert does
not see t and answers as the denoiser does in the middle of its block (a stand-in that the paper's file labels so). The
trained experts are small perceptrons, all of one size: digits-experts1 is one for all times, digits-experts4 four at the
same updates and batch, so that each sees a quarter of the data, digits-experts4-each four at four times the batch. The
estimands were frozen before these networks were trained; a pilot of small U-Nets had been seen, in which four
experts at a quarter of the updates lost in every block. Samples of such perceptrons are no digits (of the noise, they
diverge from t = 1), so that the Frechet distance is asked of small U-Nets, digits-unet-expert and
digits-unet-experts4(-each), which are as many and see as much data; it was frozen before these were trained.

Two and eight perceptrons were frozen before they were trained; not blind: four had left some block's loss at [-.26, .008]
and every block's at [-.06, .11] over five training seeds, so that ten seeds are asked, of which digits-experts1@5 to @9
are new. What edges cost 2m is asked of differences of one number between step sizes: any smooth function of the end
states, here the error against the exact flow, which is not the mixture's own, nears its limit with the solver's order.
Not blind: the paper's test has these orders on another mixture, an audit had them on a third, and a pilot on seeds 101 to
104 gave .94 and 2.01; the claims have seeds 20 to 29. The jump itself is asked of the same solver, with and without a
restart, on seeds 30 to 39: not blind, for the orders say as much.
"""

import math
from collections.abc import Callable

from benchmarks.claims import Claim, Evidence, contrast_of_networks, paired_over, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, extreme_of, paired_difference, shared_level, t_interval

NETS, MORE = range(5), range(10)
STEPS, JUMPS = (160, 320, 640), (160, 640)
SCALED = "ten text-to-image networks of billions of parameters to {} perceptrons of 21,952 on digits, 2,000 updates"
COUNTS = {2: "two", 4: "four", 8: "eight"}
TRAINED = {
    "locus": "section 4.3 of the paper [recall]; the card's small claim and its pitfall", "kind": "ranking",
    "direction": "below", "transfer": "weak",
}  # fmt: skip


def g3(experts: int, frozen: bool = True) -> list[Job]:
    """256 exact starts of G3 under each of 10 seeds, DDIM with 50 steps in lam on vp-linear."""
    return [
        job(kind="sample", method="feng2023mode.ddim", options={"experts": experts, "frozen": frozen}, target="g3",
            process="vp-linear", grid="lam", steps=50, n=256, shards=10, seed=seed, start="exact")
        for seed in range(10)
    ]  # fmt: skip


def jumping(steps: int, restart: bool, *, frozen: bool = True, first: int = 20) -> list[Job]:
    """2m on four experts whose edges the grid has: 256 exact starts of G3 under each of 10 seeds, t from 1 to .05."""
    return [
        job(kind="sample", method="feng2023mode.2m", options={"experts": 4, "frozen": frozen, "restart": restart},
            target="g3", process="vp-linear[.05,1]", grid="t", steps=steps, n=256, shards=10, seed=seed, start="exact")
        for seed in range(first, first + 10)
    ]  # fmt: skip


def _order(restart: bool) -> Callable[[Evidence], Interval]:
    """log2 of (E(h) - E(h/2))/(E(h/2) - E(h/4)), E any smooth function of the end states."""

    def judge(evidence: Evidence) -> Interval:
        levels = ([evidence.number(each, "flow_error") for each in jumping(steps, restart)] for steps in STEPS)
        orders = [math.log2(abs((a - b) / (b - c))) for a, b, c in zip(*levels, strict=True)]
        return t_interval(orders, evidence.level, n=256, over="seeds")

    return judge


def jumps(frozen: bool) -> list[Job]:
    return [each for steps in JUMPS for restart in (False, True) for each in jumping(steps, restart, frozen=frozen, first=30)]


def _jump_kept(frozen: bool) -> Callable[[Evidence], Interval]:
    """What 2m counts as a slope at the edges, per step: its share that is left with the shorter steps, by seeds."""

    def judge(evidence: Evidence) -> Interval:
        def per_step(steps: int) -> list[float]:
            ends = [
                [evidence.number(each, "flow_error") for each in jumping(steps, restart, frozen=frozen, first=30)]
                for restart in (False, True)
            ]
            return [steps * abs(a - b) for a, b in zip(*ends, strict=True)]

        long, short = (per_step(steps) for steps in JUMPS)
        return t_interval([b / a for a, b in zip(long, short, strict=True)], evidence.level, n=256, over="seeds")

    return judge


def _jump(sentence: str, frozen: bool, **fields) -> Claim:
    return Claim(
        key=f"feng2023mode/{sentence}",
        locus="the card's hard-boundary artefact: jump of D across block edges against step size",
        kind="ratio",
        evidence="A",
        margin=0.5,
        transfer="weak",
        scaled="ten networks to four exact denoisers on a one-dimensional mixture; the jump as 2m meets it, (E - E') N with E "
        "and E' the RMS distance of its ends from the exact flow without and with a restart at the edges: of first order in "
        "the jump",
        estimand=f"ratio of (E - E') N with {JUMPS[1]} steps to that with {JUMPS[0]}: 1 where the jump stays, 1/4 where the "
        "mean is continuous; mean over 10 seeds of n = 256",
        jobs=lambda: jumps(frozen),
        metrics=("flow_error",),
        judge=_jump_kept(frozen),
        **fields,
    )


def terms(recipe: str, seed: int, block: int, blocks: int = 4) -> Job:
    """The terms of the bound whose times lie in a block of the chain, 30 digits, by a network of that training seed."""
    return job(kind="likelihood", method="ho2020ddpm.bound_small", target="digits", process="discrete-linear", n=30,
               shards=10, model=trained(recipe, seed), dtype="float32", net_dtype="float32",
               options={"levels": 17, "low": block / blocks, "high": (block + 1) / blocks})  # fmt: skip


def parts(recipe: str, seeds: range, blocks: int) -> list[Job]:
    """The terms of every block of that mixture and of the single network."""
    names = (recipe, "digits-experts1")
    return [terms(name, seed, block, blocks) for seed in seeds for name in names for block in range(blocks)]


def _log_ratio(ours: int, theirs: int) -> Callable[[Evidence], Interval]:
    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, "flow_error", g3(ours), g3(theirs), change=math.log)

    return judge


def _over_blocks(recipe: str, pick: Callable[..., float], seeds: range, blocks: int) -> Callable[[Evidence], Interval]:
    """log of (terms of that mixture)/(terms of one network), the least or largest of the blocks: `pick` is min or max.

    The blocks' intervals over training seeds hold together at the level asked for, and so does the pick of their ends.
    """

    def judge(evidence: Evidence) -> Interval:
        level, found = shared_level(evidence.level, blocks), []
        for block in range(blocks):
            first, second = (
                [math.log(-evidence.number(terms(name, seed, block, blocks), "log_p")) for seed in seeds]
                for name in (recipe, "digits-experts1")
            )
            found.append(paired_difference(first, second, level, n=30, over="training seeds"))
        return extreme_of(found, pick, evidence.level)

    return judge


def digits(model: str) -> list[Job]:
    """900 digits by DDIM with 50 steps down the whole chain, for each of 4 seeds."""
    return [
        job(kind="sample", method="song2020ddim.ddim", target="digits", process="discrete-linear", grid="t", steps=50,
            n=900, shards=20, seed=seed, start="card", model=model, dtype="float32", net_dtype="float32")
        for seed in range(4)
    ]  # fmt: skip


def _fewer(sentence: str, recipe: str, says: str) -> Claim:
    return contrast_of_networks(
        f"feng2023mode/{sentence}", "frechet", lambda seed: digits(trained(recipe, seed)),
        lambda seed: digits(trained("digits-unet-expert", seed)), NETS, change=math.log, **TRAINED,
        says=says,
        paper_number="zero-shot FID 6.75 on COCO [text]; more experts, better FID [recall]",
        scaled="ten text-to-image networks of billions of parameters to four U-Nets of 36,769 on digits, 1,500 updates",
        estimand="log of (Frechet distance, 4 experts)/(1 network), mean over 4 seeds of n = 900, over 5 training seeds",
    )


def _nearer(ours: int, theirs: int, margin: float, says: str) -> Claim:
    return Claim(
        key=f"feng2023mode/{ours}-experts-are-nearer-than-{theirs}",
        says=says,
        locus="section 3.3 of the paper [recall]; the card's small claim",
        kind="threshold" if margin else "ranking",
        evidence="A",
        direction="below",
        margin=margin,
        paper_number="more experts, better FID on COCO [recall]",
        scaled="text to image by ten networks to frozen exact denoisers on a one-dimensional mixture; FID to the error "
        "against the exact flow",
        transfer="weak",
        estimand=f"log of (RMS error with {ours} experts)/(with {theirs}), mean over 10 seeds of n = 256",
        jobs=lambda: [*g3(ours), *g3(theirs)],
        metrics=("flow_error",),
        judge=_log_ratio(ours, theirs),
    )


def _lower(
    sentence: str, recipe: str, pick: Callable[..., float], says: str, *, seeds: range = NETS, blocks: int = 4
) -> Claim:
    which = "least" if pick is min else "largest"
    part = {2: "half", 4: "quarter", 8: "eighth"}[blocks]
    return Claim(
        key=f"feng2023mode/{sentence}",
        says=says,
        evidence="S",
        **TRAINED,
        paper_number="more experts, better FID on COCO [recall]",
        scaled=SCALED.format(COUNTS[blocks]),
        estimand=f"log of (terms of the bound, {blocks} experts)/(1 network), in the {part} of the chain where it is {which}, "
        f"mean over {len(seeds)} training seeds of n = 30",
        jobs=lambda: parts(recipe, seeds, blocks),
        judge=_over_blocks(recipe, pick, seeds, blocks),
    )


def _edges(sentence: str, restart: bool, **fields) -> Claim:
    return Claim(
        key=f"feng2023mode/{sentence}",
        kind="order",
        evidence="A",
        transfer="weak",
        metrics=("flow_error",),
        scaled="ten networks to four frozen exact denoisers on a one-dimensional mixture",
        estimand=f"log2 of (E(h) - E(h/2))/(E(h/2) - E(h/4)), E the RMS distance of the ends from the exact flow of the "
        f"target, {', '.join(map(str, STEPS))} steps, mean over 10 seeds of n = 256",
        jobs=lambda: [each for steps in STEPS for each in jumping(steps, restart)],
        judge=_order(restart),
        **fields,
    )


CLAIMS = (
    _nearer(2, 1, 0.0, "Two experts that do not see t within their blocks come nearer to the exact flow than one."),
    _nearer(10, 1, -math.log(2), "Ten such experts, the published number, at least halve the error of one."),
    Claim(
        key="feng2023mode/exact-experts-cost-nothing",
        says="Experts that are exact on their blocks give the samples of the one exact denoiser.",
        locus="invariant 4 of the card [derived]",
        kind="limit-equality",
        evidence="E",
        direction="within",
        margin=1e-9,
        scaled="nothing",
        estimand="largest difference over seeds of the flow error with ten exact experts and with one",
        jobs=lambda: [*g3(10, False), *g3(1, False)],
        metrics=("flow_error",),
        judge=lambda evidence: max(
            (evidence.number(a, "flow_error") - evidence.number(b, "flow_error")
             for a, b in zip(g3(10, False), g3(1, False), strict=True)), key=abs
        ),
    ),
    _lower(
        "trained-experts-lower-the-loss-of-some-block", "digits-experts4", min,
        "At equal total updates and data four trained experts lower the denoising loss in at least one block.",
    ),
    _lower(
        "trained-experts-of-equal-data-lower-the-loss-of-every-block", "digits-experts4-each", max,
        "Where each of four trained experts sees as much data as the single network, the loss is lower in every block.",
    ),
    _fewer(
        "trained-experts-lower-the-frechet-distance", "digits-unet-experts4",
        "At equal total updates and data samples of four trained experts are nearer to the held-out digits.",
    ),
    _fewer(
        "trained-experts-of-equal-data-lower-the-frechet-distance", "digits-unet-experts4-each",
        "Where each of four trained experts sees as much data as the single network, their samples are nearer to the "
        "held-out digits.",
    ),
    _lower(
        "two-trained-experts-lower-the-loss-of-some-block", "digits-experts2", min,
        "At equal total updates and data two trained experts lower the denoising loss in at least one block.",
        seeds=MORE, blocks=2,
    ),
    _lower(
        "eight-trained-experts-lower-the-loss-of-some-block", "digits-experts8", min,
        "At equal total updates and data eight trained experts lower the denoising loss in at least one block.",
        seeds=MORE, blocks=8,
    ),
    _edges(
        "hard-edges-cost-a-solver-with-memory-its-order", False,
        says="A second-order multistep solver falls to order 1 on experts that jump at the edges of their blocks.",
        locus="the card's hard-boundary artefact; the file's Differs: the paper has no solver that remembers",
        direction="below",
        margin=1.5,
    ),
    _edges(
        "a-restart-on-the-edges-gives-the-order-back", True,
        says="If it forgets the other expert's mean at an edge that its grid has, the solver is of order 2.",
        locus="derived; the file's Differs: the paper has no solver that remembers",
        margin=1.8,
    ),
    _jump(
        "the-jump-at-an-edge-does-not-shrink-with-the-step", True,
        says="Two experts disagree at their edge by an amount that finer steps leave as it is.",
    ),
    _jump(
        "one-denoiser-has-no-jump-at-an-edge", False,
        says="Where all experts are the one exact denoiser, what a restart changes shrinks with the step.",
        direction="below",
    ),
    Claim(
        key="feng2023mode/zero-shot-fid-6.75-on-coco",
        says="Ten experts reach a zero-shot FID of 6.75 on MS-COCO.",
        locus="headline of the paper [text]",
        kind="threshold",
        evidence="C",
        direction="below",
        margin=7.0,
        paper_number="6.75 [text]",
        transfer="strong",
        estimand="FID on MS-COCO 256x256",
        missing="the authors' checkpoints (none published), MS-COCO and its captions; no test decides it; nearest: "
        "feng2023mode/trained-experts-of-equal-data-lower-the-frechet-distance",
    ),
)  # fmt: skip
