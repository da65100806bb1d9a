"""Claims about yang2026hicogen-dss. No code is published: "marginal" and "literal" are two readings of the printed SDE.

Those on GRPO were frozen before the policies were trained; a pilot with even noise had shown that at the published rate,
1e-4, 200 updates are far from the end, which they are not at 1e-3. The two on a floor under the noise were added when
early noise was seen to learn next to nothing with eta_min = 0, before their policies were trained: the last steps' noise
is then 3e-4, and the gradient of a step's log density grows like one over its noise. One policy of the fifteen first ones,
ring-grpo-uniform@2, had been trained from first weights by mistake; its reward, 0, was seen before it was trained again.
Three comparisons with even noise, left open by five training seeds, [-.52, .01], [-.55, .04] and [-.26, .03], which asked
for 6, 7 and 9, are judged on ten others alone.

A second group of claims, under fresh seeds, was frozen after an audit had asked for them: the influence W on Gaussian
data, the smaller budget of the card, and its trade-off at few steps. Not blind: the integrals of eta^2 W of the printed
SDE on gaussian-2d had been computed, 2.44 (the box), 1.47 (even) and 1.38 (early) per unit of budget; the card has 9.7
against 4.6 at budget .02; that early noise costs less than late at 10 steps had been seen under seeds 0 to 9. The peaks of W were frozen last; what
a parabola makes of the formula's W had been computed, no job had been run.
"""

from collections.abc import Callable

from benchmarks.claims import Claim, Evidence, contrast, contrast_of_networks, left_open, trained
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, extreme_of, paired_difference, shared_level, t_interval

SEEDS, FRESH, SECOND = range(10), range(20, 30), range(200, 240)
OTHERS = range(5, 15)  # training seeds
PEAKS, BESIDE = {"normal-.04-8d": 0.12, "normal-1-8d": 0.5, "normal-9-8d": 0.8}, 0.05
FEW = (10, 20, 50)  # steps of the card's trade-off


def g3(
    family: str, steps: int, *, n: int = 20_000, seeds: range = SEEDS, **options: float | str | bool
) -> list[Job]:
    """n samples of G3 from the exact law at the grid's start, for each seed."""
    return [
        job(kind="sample", method=f"yang2026hicogen-dss.{family}", options=options, target="g3", process="condot",
            grid="own", steps=steps, n=n, shards=10, seed=seed, start="exact")
        for seed in seeds
    ]  # fmt: skip


def shared(target: str, family: str, steps: int, *, n: int = 1000, **options: float | str | bool) -> list[Job]:
    """n / 10 samples from each of 10 exact states at the grid's start, for each fresh seed."""
    return [
        job(kind="sample", method=f"yang2026hicogen-dss.{family}", options=options, target=target, process="condot",
            grid="own", steps=steps, n=n, shards=10, seed=seed, start="shared")
        for seed in FRESH
    ]  # fmt: skip


def _between(ours: Callable[[], list[Job]], theirs: Callable[[], list[Job]], sentence: str, **fields) -> Claim:
    common = {"kind": "ranking", "evidence": "A", "transfer": "strong"}
    return contrast(f"yang2026hicogen-dss/{sentence}", "ks", ours, theirs, **common | fields)


def ring(schedule: str, **options: float | bool) -> list[Job]:
    """100 samples from each of 10 exact states of eight modes at the grid's start, 200 steps, for each seed."""
    return [
        job(kind="sample", method="yang2026hicogen-dss.marginal", options={"schedule": schedule, **options},
            target="ring-2d", process="condot", grid="own", steps=200, n=1000, shards=10, seed=seed, start="shared")
        for seed in SEEDS
    ]  # fmt: skip


def _diversity(sentence: str, budget: dict[str, float | bool], other: str, **fields) -> Claim:
    return contrast(
        f"yang2026hicogen-dss/{sentence}", "start_diversity",
        lambda: ring("cos", **budget), lambda: ring(other, **budget),
        kind="ranking", evidence="A", transfer="strong",
        scaled="text-to-image flow to eight modes in the plane with an exact denoiser; of the card's 400 steps 200",
        estimand=f"Tr Cov(x0 | x_T), early minus {other}, mean over 10 seeds of 10 starts with 100 samples each", **fields,
    )  # fmt: skip


WALKS: dict[str, dict[str, float | str]] = {
    "early": {"schedule": "cos"}, "uniform": {"schedule": "uniform"}, "late": {"schedule": "late"},
    "early-floor": {"schedule": "cos", "eta_min": 0.3},
}  # fmt: skip


def policy(schedule: str, seed: int, *, own: bool) -> list[Job]:
    """4,000 samples of a policy trained by rewards: by its own walk of 16 steps, or by the flow without noise in 50."""
    options = WALKS[schedule] | {"budget": 0.05} if own else {"eta_max": 0.0}
    return [
        job(kind="sample", method="yang2026hicogen-dss.marginal", options=options, target="ring-2d-rewarded",
            process="condot[0.001,0.94]", grid="t", steps=16 if own else 50, n=4000, shards=10, seed=0, start="exact",
            model=trained(f"ring-grpo-{schedule}", seed), net_dtype="float32")
    ]  # fmt: skip


def _learnt(
    sentence: str, other: str, *, own: bool = True, ours: str = "early", nets: range = range(5), first: str = "", **fields: str
) -> Claim:  # fmt: skip
    said = {"uniform": "even noise", "late": "late noise", "early": "early noise", "early-floor": "early noise on a floor"}
    walked = "its own walk of 16 steps" if own else "the flow without noise in 50 steps"
    common = {"locus": "experiments of the paper [text]; claim d of the card"}
    return contrast_of_networks(
        f"yang2026hicogen-dss/{sentence}", "reward", lambda seed: policy(ours, seed, own=own),
        lambda seed: policy(other, seed, own=own), nets, **common | fields,
        says=f"After 200 updates by GRPO the mean reward by {walked} is higher with {said[ours]} than with {said[other]}.",
        kind="ranking",
        paper_number="HiCoPrompt accuracy exist/attribute/relation .7127/.7673/.8203 against .6292/.6907/.7829 [text]",
        transfer="weak",
        scaled="text to image to a perceptron of eight modes in the plane of which one is rewarded; groups of 16 that share "
        "their start, 16 of them an update; integral of eta^2 .05 for all, eta_min 0 (open in the paper) but on the floor"
        + (left_open("five training seeds", first) if first else ""),
        estimand=f"mean reward, {ours} minus {other}, n = 4,000, mean over {len(nets)} training seeds",
    )


def _one_law(evidence: Evidence) -> float:
    pairs = zip(g3("literal", 100, schedule="uniform"), g3("marginal", 100, schedule="uniform"), strict=True)
    return max(abs(evidence.number(ours, "ks") - evidence.number(theirs, "ks")) for ours, theirs in pairs)


def _kept(evidence: Evidence) -> Interval:
    return t_interval([evidence.number(each, "ks") for each in g3("marginal", 100)], evidence.level, n=20_000)


BUDGET, INJECTED = {"budget": 0.05}, {"budget": 0.3, "injected": True}
MIDDLE = {"schedule": "box", "low": 0.3625, "high": 0.7375}  # three eighths of the way: with a budget, the cosine's eta_max


def traded(metric: str, schedule: str, steps: int) -> list[Job]:
    """The jobs on G3 that the card's trade-off is read from, at the budget .05."""
    if metric == "start_diversity":
        return shared("g3", "marginal", steps, schedule=schedule, **BUDGET)
    return g3("marginal", steps, seeds=FRESH, schedule=schedule, **BUDGET)


def _least_lead(metric: str, sign: float) -> Callable[[Evidence], Interval]:
    """The least of sign * (early - other) over even and late noise at each number of steps."""

    def judge(evidence: Evidence) -> Interval:
        pairs = [(other, steps) for other in ("uniform", "late") for steps in FEW]
        level, leads = shared_level(evidence.level, len(pairs)), []
        for other, steps in pairs:
            ours, theirs = traded(metric, "cos", steps), traded(metric, other, steps)
            values = [[sign * evidence.number(each, metric) for each in jobs] for jobs in (ours, theirs)]
            leads.append(paired_difference(*values, level, n=ours[0].n))
        return extreme_of(leads, min, evidence.level)

    return judge


def boxed(data: str, shift: float) -> list[Job]:
    """Noise of the printed SDE in a box about the peak on that data, moved by `shift`; 8 dimensions."""
    place, first = PEAKS[data] + shift, 400 / 401  # the grid's first time
    box = {"schedule": "box", "low": (place - 0.02) / first, "high": (place + 0.02) / first}
    return shared(data, "literal", 400, n=10_000, **box, budget=0.01)


def _furthest_peak(evidence: Evidence) -> Interval:
    """The largest over PEAKS of |vertex - place|, by intervals over seeds that hold together."""
    level, found = shared_level(evidence.level, len(PEAKS)), []
    for data in PEAKS:
        before, there, after = (
            [evidence.number(each, "start_diversity") for each in boxed(data, shift)] for shift in (-BESIDE, 0.0, BESIDE)
        )
        off = [BESIDE / 2 * (a - c) / (a - 2 * b + c) for a, b, c in zip(before, there, after, strict=True)]
        found += [t_interval([sign * value for value in off], level, n=10_000, over="seeds") for sign in (1, -1)]
    return extreme_of(found, max, evidence.level)


def _traded(sentence: str, metric: str, sign: float, **fields: str) -> Claim:
    return Claim(
        key=f"yang2026hicogen-dss/{sentence}", metrics=(metric,), judge=_least_lead(metric, sign),
        jobs=lambda: [each for name in ("cos", "uniform", "late") for steps in FEW for each in traded(metric, name, steps)],
        locus="the card's claim c: quality against diversity per schedule at 10 to 50 steps; the paper has no number",
        kind="ranking", evidence="A", transfer="strong",
        scaled="text-to-image flow to a one-dimensional mixture with an exact denoiser; integral of eta^2 .05", **fields,
    )  # fmt: skip

CLAIMS = (
    Claim(
        key="yang2026hicogen-dss/schedule-keeps-the-marginals",
        says="With the score's share of the drift following eta, the decaying schedule keeps the data's law.",
        locus="family A of the card; the paper's text is silent about the drift",
        kind="threshold",
        evidence="A",
        direction="below",
        margin=0.025,
        scaled="text-to-image flow to a one-dimensional mixture with an exact denoiser; 100 steps; an exact sample of n has .006",
        transfer="strong",
        estimand="Kolmogorov-Smirnov distance, mean over 10 seeds of n = 20,000",
        jobs=lambda: g3("marginal", 100),
        metrics=("ks",),
        judge=_kept,
    ),
    _between(
        lambda: g3("literal", 100), lambda: g3("marginal", 100), "printed-sde-does-not-keep-the-marginals",
        says="The SDE as printed, eta on the noise alone, leaves the data's law where the other reading keeps it.",
        locus="differs: dz = [f - g^2 score] dt + g eta dw [text]",
        paper_number="within-mode variance .011 against .09 on eight modes [derived]",
        scaled="text-to-image flow to a one-dimensional mixture with an exact denoiser",
        estimand="KS(literal) - KS(marginal), mean over 10 seeds of n = 20,000",
    ),
    Claim(
        key="yang2026hicogen-dss/readings-agree-at-eta-1",
        says="With eta = 1 throughout, the printed SDE and the marginal-preserving one are the same sampler.",
        locus="derived for the card: f - g^2 score = u - g^2 score/2",
        kind="limit-equality",
        evidence="E",
        direction="within",
        margin=2e-3,
        scaled="text-to-image flow to a one-dimensional mixture; a sample that rounds across another moves KS by 1/n",
        estimand="largest |KS(literal) - KS(marginal)| over 10 seeds of n = 20,000",
        jobs=lambda: [*g3("literal", 100, schedule="uniform"), *g3("marginal", 100, schedule="uniform")],
        metrics=("ks",),
        judge=_one_law,
    ),
    _between(
        lambda: g3("marginal", 10, schedule="late", **BUDGET), lambda: g3("marginal", 10, **BUDGET),
        "early-costs-less-than-late-at-its-budget",
        says="At 10 steps and equal integral of eta^2, early noise costs less quality than late noise.",
        locus="the card's claim c, quality at few steps; the paper's theorem weighs eta^2 alone [text]",
        scaled="text-to-image flow to a one-dimensional mixture with an exact denoiser; budget .05",
        estimand="KS(late) - KS(early), mean over 10 seeds of n = 20,000",
    ),
    _between(
        lambda: g3("marginal", 10, n=120_000, seeds=SECOND, schedule="late", **INJECTED),
        lambda: g3("marginal", 10, n=120_000, seeds=SECOND, **INJECTED),
        "early-costs-less-than-late-at-equal-noise",
        says="At 10 steps and equal injected noise, the integral of g^2 eta^2, early noise costs less quality than late.",
        locus="the card's claim c with its second budget",
        scaled="text-to-image flow to a one-dimensional mixture with an exact denoiser; budget .3; ten "
        "seeds of n = 20,000 had left it at [-.0014, .0035] and of n = 120,000 at [-.0001, .0030], which asked for 12: it is "
        "judged on 40 others alone",
        estimand="KS(late) - KS(early), mean over 40 seeds of n = 120,000",
    ),
    _diversity(
        "early-noise-is-more-diverse-than-late", {"budget": 0.49}, "late",
        says="At equal integral of eta^2 early noise gives more diversity among samples of one start than late noise.",
        locus="theorem of the paper [text]; claim a and invariant 6 of the card",
        paper_number="Tr Cov(x0 | x_T) at .49: 16.1 early, 1.43 late [derived]",
    ),
    _diversity(
        "early-noise-is-more-diverse-than-late-at-equal-noise", {"budget": 0.3, "injected": True}, "late",
        says="At equal injected noise too, the integral of g^2 eta^2, early noise gives more diversity than late noise.",
        locus="claim b of the card: the loss of late noise is real",
        paper_number="5.8 early, 1.2 late at .3 [derived]",
    ),
    _diversity(
        "early-noise-is-more-diverse-than-uniform", {"budget": 0.05}, "uniform",
        says="At equal integral of eta^2 the decaying schedule gives more diversity than a constant one.",
        locus="theorem of the paper [text]; claim b of the card, at a budget that does not saturate",
        paper_number="15.1 (standard error .2) against 9.4 (.9) at .05 [derived]",
    ),
    _diversity(
        "early-noise-is-more-diverse-than-uniform-at-equal-noise", {"budget": 0.1, "injected": True}, "uniform",
        says="At equal injected noise the decaying schedule gives more diversity than a constant one.",
        locus="claim b of the card: the gain over a constant is mostly the weight g^2 that the budget of eta^2 leaves out",
        paper_number="2.26 (.41) against 2.13 (.38) at .1 [derived]",
    ),
    contrast(
        "yang2026hicogen-dss/early-noise-is-more-diverse-than-uniform-at-the-smaller-budget", "start_diversity",
        lambda: shared("ring-2d", "marginal", 200, schedule="cos", budget=0.02),
        lambda: shared("ring-2d", "marginal", 200, schedule="uniform", budget=0.02),
        says="At an integral of eta^2 of .02 too, the decaying schedule gives more diversity than a constant one.",
        locus="theorem of the paper [text]; claim b of the card, at its smaller budget",
        paper_number="9.7 (standard error .9) against 4.6 (.8) at .02 [derived]",
        kind="ranking", evidence="A", transfer="strong",
        scaled="text-to-image flow to eight modes in the plane with an exact denoiser; of the card's 400 steps 200",
        estimand="Tr Cov(x0 | x_T), early minus uniform, mean over 10 seeds of 10 starts with 100 samples each",
    ),
    contrast(
        "yang2026hicogen-dss/a-box-where-influence-is-largest-is-more-diverse-than-the-schedule", "start_diversity",
        lambda: shared("gaussian-2d", "literal", 200, **MIDDLE, **BUDGET),
        lambda: shared("gaussian-2d", "literal", 200, **BUDGET),
        says="Where the influence W of the printed SDE peaks in the middle, noise in a box about the peak gives more "
        "diversity than the decaying schedule of the same integral of eta^2 and the same largest eta.",
        locus="differs; invariants 4 and 5 of the card [derived]: the budget problem is linear in eta^2, its optimum bang-bang",
        kind="ranking", evidence="A", transfer="strong",
        scaled="text-to-image flow to Gaussian data of variances .08 and 1.38, W of which peaks at t = .55; exact denoiser",
        estimand="Tr Cov(x0 | x_T), box minus early, mean over 10 seeds of 10 starts with 100 samples each",
    ),
    contrast(
        "yang2026hicogen-dss/even-noise-is-more-diverse-than-early-where-influence-peaks-in-the-middle", "start_diversity",
        lambda: shared("gaussian-2d", "literal", 200, n=10_000, schedule="uniform", **BUDGET),
        lambda: shared("gaussian-2d", "literal", 200, n=10_000, **BUDGET),
        says="The argument for early noise needs W increasing in t: where W peaks in the middle, constant noise of the "
        "same integral of eta^2 gives more diversity than the decaying schedule.",
        locus="differs; invariant 5 of the card [derived]: early noise is not universally best",
        kind="ranking", evidence="A", transfer="strong",
        scaled="text-to-image flow to Gaussian data of variances .08 and 1.38, W of which peaks at t = .55; exact denoiser",
        estimand="Tr Cov(x0 | x_T), uniform minus early, mean over 10 seeds of 10 starts with 1,000 samples each",
    ),
    Claim(
        key="yang2026hicogen-dss/influence-peaks-where-the-scale-of-the-data-says",
        says="On data N(0, c) the influence W of the printed SDE peaks at t = .12, .50 and .80 for c = .04, 1 and 9.",
        locus="differs; invariant 5 of the card [derived]",
        kind="threshold",
        evidence="A",
        direction="below",
        margin=0.01,
        scaled="text-to-image flow to normal laws in 8 dimensions, exact denoiser; W between the boxes by a parabola, whose "
        "vertex is off by .005, 0 and .0005",
        transfer="strong",
        estimand="largest distance from .12, .50 and .80 of the vertex of the parabola through Tr Cov(x0 | x_T) of noise in boxes "
        "of width .04 there, .05 before and .05 after, of one integral of eta^2; means over 10 seeds of 10 starts with 1,000 "
        "samples each, 400 steps",
        jobs=lambda: [each for data in PEAKS for shift in (-BESIDE, 0.0, BESIDE) for each in boxed(data, shift)],
        metrics=("start_diversity",),
        judge=_furthest_peak,
    ),
    _traded(
        "early-noise-is-most-diverse-at-ten-to-fifty-steps", "start_diversity", 1.0,
        says="At 10, 20 and 50 steps early noise gives more diversity than constant and than late noise of its budget.",
        estimand="least lead in Tr Cov(x0 | x_T) of early noise, over two schedules and three numbers of steps, means over "
        "10 seeds of 10 starts with 100 samples each",
    ),
    _traded(
        "early-noise-costs-least-quality-at-ten-to-fifty-steps", "ks", -1.0,
        says="At 10, 20 and 50 steps early noise costs less quality than constant and than late noise of its budget.",
        estimand="least of KS(other) - KS(early), over two schedules and three numbers of steps, means over 10 seeds of "
        "n = 20,000",
    ),
    Claim(
        key="yang2026hicogen-dss/compositional-accuracy-rises",
        says="Trained so, a text-to-image model composes what a prompt asks for more often than its best rival.",
        locus="experiments of the paper on HiCoPrompt [text: two summaries, which disagree about a rival's number]",
        kind="ranking",
        evidence="C",
        paper_number="accuracy exist/attribute/relation .7127/.7673/.8203 against .6292/.6907/.7829 or .7442 [text]",
        estimand="HiCoPrompt accuracy, HiCoGen minus Qwen-Image",
        missing="FLUX with UNO, the reward models and HiCoPrompt, none of which is at hand; nearest claim: "
        "grpo-learns-more-with-the-schedule-than-with-even-noise",
    ),
    _learnt(
        "grpo-learns-more-with-the-schedule-than-with-even-noise", "uniform", nets=OTHERS, first="[-.52, .01]",
    ),
    _learnt("grpo-learns-more-with-the-schedule-than-with-late-noise", "late", own=True),
    _learnt(
        "grpo-with-the-schedule-moves-the-flow-further-than-with-even-noise", "uniform", own=False, nets=OTHERS,
        first="[-.55, .04]",
    ),
    _learnt("grpo-with-the-schedule-moves-the-flow-further-than-with-late-noise", "late", own=False),
    _learnt(
        "grpo-learns-more-where-no-step-is-without-noise", "early", ours="early-floor",
        locus="no statement of the paper, which leaves eta_min open; here 0, and .3 of eta_max with the floor",
    ),
    _learnt(
        "grpo-learns-more-with-the-floored-schedule-than-with-even-noise", "uniform", ours="early-floor", nets=OTHERS,
        first="[-.26, .03]",
        locus="experiments of the paper [text], with an eta_min that it leaves open",
    ),
)  # fmt: skip
