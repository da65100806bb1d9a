"""Claims about zhang2023deis. The design's own numbers (error tables on G3) were known when they were frozen; the jobs
(other starts, other seeds) were not run before."""

import math

from benchmarks.claims import Claim, Evidence, paired_over
from benchmarks.jobs import Job, job
from benchmarks.statistics import Interval, t_interval

TAB, RHOAB, IPNDM = "zhang2023deis.tab3", "zhang2023deis.rhoab3", "zhang2023deis.ipndm"
KUTTA, RK4, EULER = "zhang2023deis.rhork_kutta3", "zhang2023deis.rhork_rk4", "lipman2022fm.euler"
G3_IMAGES = "images to a one-dimensional mixture with an exact denoiser"


def ve(method: str, steps: int, **options) -> list[Job]:
    """256 exact starts of G3 on ve-edm from 80 to .002, power(7) grid, under each of 10 seeds."""
    return [
        job(kind="sample", method=method, target="g3", process="ve-edm", grid="power(7)", steps=steps, n=256,
            shards=10, seed=seed, start="exact", options=options)
        for seed in range(10)
    ]  # fmt: skip


def vp(method: str, steps: int, process: str = "vp-linear", grid: str = "t^2", **options) -> list[Job]:
    """256 exact starts of G3 on vp-linear from 1 to 1e-3 on the published quadratic grid, under each of 10 seeds."""
    return [
        job(kind="sample", method=method, target="g3", process=process, grid=grid, steps=steps, n=256, shards=10,
            seed=seed, start="exact", options=options)
        for seed in range(10)
    ]  # fmt: skip


def _compared(sentence: str, ours, theirs, **fields) -> Claim:
    """log(RMS error of ours / RMS error of theirs); ours and theirs make jobs."""

    def judge(evidence: Evidence) -> Interval:
        return paired_over(evidence, "flow_error", ours(), theirs(), change=math.log)

    return Claim(
        key=f"zhang2023deis/{sentence}", evidence="A", metrics=("flow_error",), judge=judge, transfer="strong",
        jobs=lambda: [*ours(), *theirs()], **fields,
    )  # fmt: skip


def _slope(make) -> dict:
    def judge(evidence: Evidence) -> Interval:
        first, last = ([evidence.number(each, "flow_error") for each in make(steps)] for steps in (128, 512))
        slopes = [math.log2(a / b) / 2 for a, b in zip(first, last, strict=True)]
        return t_interval(slopes, evidence.level, n=256, over="seeds")

    return dict(
        jobs=lambda: [*make(128), *make(512)], judge=judge, metrics=("flow_error",), evidence="A", kind="order",
        estimand="slope of log error against log steps between 128 and 512 steps, mean over 10 seeds of n = 256",
    )  # fmt: skip


RATIO = "log of (RMS error of {})/(RMS error of {}), mean over 10 seeds of n = 256"

CLAIMS = (
    _compared(
        "ipndm-beats-runge-kutta-at-6-evaluations",
        lambda: ve(IPNDM, 6), lambda: ve(KUTTA, 2),
        says="With 6 evaluations the multistep iPNDM is better than the Runge-Kutta form rhoRK of order 3.",
        locus="claim a of the card; section 4 of the paper prefers multistep forms below 10 evaluations [recall]",
        kind="ranking", direction="below",
        paper_number="G3: .149 against .578 [derived]",
        scaled=G3_IMAGES + "; FID to the RMS error against the exact flow",
        estimand=RATIO.format("iPNDM", "kutta3"),
    ),
    *(
        _compared(
            f"{name}-beats-runge-kutta-of-order-{order}-at-{evaluations}-evaluations", ours, theirs,
            says=f"With {evaluations} evaluations {title} is better than rhoRK of order {order}.",
            locus="claim a of the card (added after the other claims had been run)",
            kind="ranking", direction="below",
            paper_number=f"G3: {number} of {rule} [derived]",
            scaled=G3_IMAGES + "; FID to the RMS error against the exact flow",
            estimand=RATIO.format(title, rule),
        )
        for name, title, order, rule, evaluations, number, ours, theirs in (
            ("rhoab2", "rhoAB-2", 3, "kutta3", 6, ".578", lambda: ve(RHOAB, 6, degree=2), lambda: ve(KUTTA, 2)),
            ("ipndm", "iPNDM", 3, "kutta3", 12, ".226", lambda: ve(IPNDM, 12), lambda: ve(KUTTA, 4)),
            ("ipndm", "iPNDM", 4, "rk4", 12, ".591", lambda: ve(IPNDM, 12), lambda: ve(RK4, 3)),
        )
    ),
    _compared(
        "rhoab2-beats-runge-kutta-of-order-3-at-12-evaluations",
        lambda: ve(RHOAB, 12, degree=2), lambda: ve(KUTTA, 4),
        says="With 12 evaluations rhoAB of degree 2 is better than rhoRK of order 3.",
        locus="claim a of the card",
        kind="ranking", direction="below",
        paper_number="G3: .226 of kutta3 [derived]",
        scaled=G3_IMAGES + "; FID to the RMS error against the exact flow",
        estimand=RATIO.format("rhoAB-2", "kutta3"),
    ),
    _compared(
        "rhoab2-beats-runge-kutta-of-order-4-at-12-evaluations",
        lambda: ve(RHOAB, 12, degree=2), lambda: ve(RK4, 3),
        says="With 12 evaluations rhoAB of degree 2 is better than rhoRK of order 4.",
        locus="claim a of the card",
        kind="ranking", direction="below",
        paper_number="G3: .591 of rk4 [derived]",
        scaled=G3_IMAGES + "; FID to the RMS error against the exact flow",
        estimand=RATIO.format("rhoAB-2", "rk4"),
    ),
    _compared(
        "the-exponential-integrator-matters",
        lambda: vp(TAB, 10), lambda: vp(EULER, 10),
        says="With 10 steps tAB of degree 3 has at most half of the error of a plain Euler step on the velocity.",
        locus="section 3 of the paper; claim b of the card",
        kind="threshold", direction="below", margin=-math.log(2),
        paper_number="none on an exact target",
        scaled=G3_IMAGES + "; FID to the RMS error against the exact flow",
        estimand=RATIO.format("tAB-3", "Euler"),
    ),
    _compared(
        "degree-3-beats-degree-1-at-10-steps",
        lambda: vp(TAB, 10), lambda: vp(TAB, 10, degree=1),
        says="With 10 steps on the quadratic grid tAB of degree 3 is better than of degree 1.",
        locus="table 2 of the paper [recall]; claim c of the card",
        kind="ranking", direction="below",
        paper_number="CIFAR-10 FID 4.17 at 10 evaluations with degree 3 [text]",
        scaled=G3_IMAGES + "; FID to the RMS error against the exact flow",
        estimand=RATIO.format("tAB-3", "tAB-1"),
    ),
    _compared(
        "the-left-sums-do-not-matter",
        lambda: vp(TAB, 10, quadrature="left"), lambda: vp(TAB, 10),
        says="Coefficients by the code's left sums of 10,000 points give the same error as exact ones, within 5 %.",
        locus="register 9 of the design: their error is 1e-4",
        kind="invariance", direction="within", margin=0.05,
        paper_number="the output moves by up to 2.9e-3 at 5 steps [code-run]",
        scaled=G3_IMAGES,
        estimand=RATIO.format("tAB-3 by left sums", "tAB-3 by exact integrals"),
    ),
    Claim(
        key="zhang2023deis/the-float32-of-the-weights-does-not-matter",
        says="Weights computed in the float32 of JAX as it comes give the same error as exact ones, within 5 %.",
        locus="register 9 of the design, its second half: multistep.py without jax_enable_x64",
        kind="invariance", evidence="A", direction="within", margin=0.05,
        paper_number="the weights move by 7e-7 at 5 steps, 9e-7 at 10, 1e-5 at 50 and 6e-5 at 200 of a row's largest, the "
        "left sums in float64 by 1e-4 to 2e-4 [code-run]",
        estimand="log of (RMS error of tAB-3 with float32 weights)/(of tAB-3), 10 steps",
        missing="JAX's own roundings, which are no formula (the same sums in torch's float32 are as far from JAX's as "
        "float64 is); test_float32_of_the_code_moves_its_weights_less_than_its_sums_do has the code's numbers; nearest in "
        "reach: zhang2023deis/the-left-sums-do-not-matter",
    ),
    Claim(
        key="zhang2023deis/r-counts-the-degree",
        says="tAB-1 converges with order 2: the index is the degree, one less than the number of nodes.",
        locus="register 8 of the design: another library counts nodes", margin=1.85,
        paper_number="1.98 on G3 [derived]",
        **_slope(lambda steps: vp(TAB, steps, "vp-linear[0.05,0.9]", "lam", degree=1)),
    ),
    Claim(
        key="zhang2023deis/rhork-is-of-third-order",
        says="rhoRK with the rule kutta3 converges with order 3.",
        locus="section 3.4 of the paper [recall]; invariant 3 of the card", margin=2.85,
        paper_number="2.99-3.00 on G3 [derived]",
        **_slope(lambda steps: vp(KUTTA, steps, "vp-linear[0.05,0.9]", "lam")),
    ),
    Claim(
        key="zhang2023deis/ipndm-is-of-order-2-off-even-grids",
        says="On a grid that is not even in rho iPNDM converges with order 2 only, not 4.",
        locus="invariant 5 of the card; the paper derives its weights for even steps", direction="below", margin=2.15,
        paper_number="1.96-2.00 on G3 [derived]",
        **_slope(lambda steps: vp(IPNDM, steps, "vp-linear[0.05,0.9]", "lam")),
    ),
    Claim(
        key="zhang2023deis/beta-of-the-readme",
        says="The README's beta_0 = .01 and the usual .1 describe the same model.",
        locus="register 8 of the design",
        kind="invariance", evidence="C", direction="within", margin=0.05,
        estimand="log ratio of FIDs of one checkpoint sampled on the two paths",
        missing="the authors' checkpoint; nearest in reach: the path is an argument of every sampler here, so a net is "
        "sampled on the path it was trained on",
    ),
    Claim(
        key="zhang2023deis/fid-at-10-evaluations",
        says="CIFAR-10 FID 4.17 with 10 evaluations and 2.86 with 20.",
        locus="abstract of the paper",
        kind="ratio", evidence="C", direction="below", margin=math.log(1.1),
        estimand="log of FID at 10 evaluations over 4.17",
        paper_number="4.17 and 2.86 [text]; a third party has 4.68 and 3.69 at 9 and 8 with degree 3 and iPNDM [text]",
        missing="the authors' checkpoint; nearest in reach: zhang2023deis/degree-3-beats-degree-1-at-10-steps",
    ),
)  # fmt: skip
