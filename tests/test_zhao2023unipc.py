"""zhao2023unipc: the invariants of its card, the anchors of the suite's design, and numbers of the official code."""

import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from reference_impls import catalogue, targets
from reference_impls.continuous import zhao2023unipc as unipc
from reference_impls.core import grids, process
from reference_impls.core.drive import drive
from reference_impls.core.types import Predictor

VP = process.named("vp-linear").between(0.05, 0.9)
G3 = targets.named("g3")
UNEVEN = torch.tensor([0.9, 0.72, 0.6, 0.41, 0.33, 0.2], dtype=torch.float64)
X = torch.tensor([[0.3], [-1.1]], dtype=torch.float64)
FULL = dict(lower_order_final=False)


def run(grid, path=VP, x=X, model=None, **options):
    return unipc.sample(model or exact_model(path), x, grid, process=path, draws=Silence(), **options)


def starts(path, t):
    """The nine starts of toolkit T1."""
    spread = math.sqrt(1.2 * path.alpha(t) ** 2 + path.sigma(t) ** 2)
    return torch.linspace(-2.2, 2.2, 9, dtype=torch.float64)[:, None] * spread


def flowed(x, path, t, s):
    return G3.flow(x, path.alpha(t), path.sigma(t), path.alpha(s), path.sigma(s))


def error(steps, path=VP, **options):
    grid = grids.uniform_lam(steps, path)
    x = starts(path, grid[0].item())
    return (run(grid, path, x, **options).x - flowed(x, path, grid[0].item(), grid[-1].item())).abs().max().item()


def predicted(prediction, x, t, path=VP):
    mean = exact_model(path)(x, t)
    return mean if prediction == "data" else (x - path.alpha(t) * mean) / path.sigma(t)


# ---- anchors -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({"order": 2, "variant": "bh2"}, (3.2e-4, 6.2e-7)),
        ({"order": 3, "variant": "bh2"}, (9.2e-6, 8.6e-9)),
    ],
)
def test_error_on_vp_at_64_and_512_steps(options, printed):
    """A1: corrector also on the last step, no lower final order; two digits."""
    found = [error(steps, correct_last=True, **options, **FULL) for steps in (64, 512)]
    assert found == pytest.approx(printed, rel=0.06)


def test_the_variant_matters_at_order_two_and_not_at_three():
    """Claim b of the card: 1.3e-4 against 3.2e-4, and 9.2e-6 for both, at 64 steps."""
    found = {
        (order, variant): error(64, order=order, variant=variant, correct_last=True, **FULL)
        for order in (2, 3)
        for variant in ("bh1", "bh2")
    }
    assert found[2, "bh1"] == pytest.approx(1.3e-4, rel=0.06) and found[2, "bh2"] == pytest.approx(3.2e-4, rel=0.06)
    assert found[3, "bh1"] == pytest.approx(9.2e-6, rel=0.06) and found[3, "bh2"] == pytest.approx(9.2e-6, rel=0.06)


A2 = {  # RMS error over 64 quantiles of p_80, ve-edm 80 -> .002, at 6, 12, 24, 36, 60 evaluations, bh2
    (2, "power(7)"): (0.308, 0.104, 1.34e-2, 4.02e-3, 9.07e-4),
    (2, "lam"): (0.168, 4.56e-2, 9.30e-3, 3.06e-3, 7.09e-4),
    (3, "power(7)"): (1.09, 0.264, 9.45e-3, 1.83e-3, 2.05e-4),
    (3, "lam"): (0.334, 6.50e-2, 4.92e-3, 9.30e-4, 1.01e-4),
}


@pytest.mark.parametrize(("order", "grid"), A2)
def test_endpoint_error_from_sigma_80(order, grid):
    path = process.named("ve-edm")
    levels = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    x = G3.flow(torch.special.ndtri(levels)[:, None], 0.0, 1.0, 1.0, 80.0)
    found = []
    for steps in (6, 12, 24, 36, 60):
        result = run(grids.named(grid)(steps, path), path, x, order=order, variant="bh2", **FULL)
        assert result.nfe == steps
        found.append((result.x - G3.flow(x, 1.0, 80.0, 1.0, 0.002)).square().mean().sqrt().item())
    assert found == pytest.approx(A2[order, grid], rel=0.01)


# uni_pc.py at commit cf9de85, run in float64: exact noise prediction of G3, vp-linear 1 -> 1e-3, 6 steps even in t,
# order 3, lower_order_final, from (.3, -1.1)
CODED = {
    ("bh1", "data"): (0.5713090863176347, -1.1541520107466816),
    ("bh1", "noise"): (0.5785673304500316, -1.2955227198789614),
    ("bh2", "data"): (0.5591960826507822, -1.1213920579808045),
    ("bh2", "noise"): (0.5706463002116702, -1.275691639207449),
    ("vary_official", "data"): (0.5528594239757326, -1.0992409915900534),
    ("vary_official", "noise"): (0.531500737662473, -1.0476927067768944),
}


@pytest.mark.parametrize(("variant", "prediction"), CODED)
def test_is_the_official_code(variant, prediction):
    path = process.named("vp-linear")
    found = run(grids.uniform_t(6, path), path, variant=variant, prediction=prediction).x
    assert found.flatten().tolist() == pytest.approx(CODED[variant, prediction], rel=1e-11)


def test_defaults_are_those_of_the_published_script():
    """default_cifar10_configs.py: order 3, bh1, data prediction, lower_order_final; no corrector on the last step."""
    path, card = process.named("vp-linear"), catalogue.samplers()["zhao2023unipc.unipc3"]
    found = card.sample(exact_model(path), X, grids.uniform_t(6, path), process=path, draws=Silence())
    assert found.x.flatten().tolist() == pytest.approx(CODED["bh1", "data"], rel=1e-11) and found.nfe == 6


# the same with dynamic thresholding at .995, bh1, data, each coordinate a G3 of its own, from (.9, -.4, .1) and
# (-3.3, 2, -1); False: as it ends, True: denoise_to_zero
CLIPPED = {
    False: (1.0050125255842801, -0.07051577141234198, 0.4186793246684268, -0.986618736148106, 1.0189174499329021,
            -0.6076183496040966),
    True: (1.0, -0.06924587384664259, 0.4186567855878634, -0.9686622319625199, 1.0, -0.5971115691780656),
}  # fmt: skip


@pytest.mark.parametrize("denoised", CLIPPED)
def test_thresholding_is_that_of_the_official_code(denoised):
    path, card = process.named("vp-linear"), catalogue.samplers()["zhao2023unipc.unipc3_thresholded"]
    alone = exact_model(path)
    model = Predictor("mean", lambda y, t: alone(y.reshape(-1, 1), t).reshape(y.shape))
    x = torch.tensor([[0.9, -0.4, 0.1], [-3.3, 2.0, -1.0]], dtype=torch.float64)
    options = dict(process=path, draws=Silence(), denoise_to_zero=denoised)
    found = card.sample(model, x, grids.uniform_t(6, path), **options)
    assert found.x.flatten().tolist() == pytest.approx(CLIPPED[denoised], rel=1e-11) and found.nfe == 6 + denoised


def test_the_bound_of_the_threshold_and_what_it_leaves_alone():
    """q is at least the bound: the first row, below it, is only halved; the second is clipped at its median."""
    wide = Predictor("mean", lambda y, t: torch.tensor([[0.5, -1.0], [1.5, 4.0]], dtype=torch.float64))
    found = unipc.thresholded(wide, 0.5, 2.0)(torch.ones(2, 2), 0.3)
    q = 2.75  # the median of 1.5 and 4
    assert found.flatten().tolist() == pytest.approx([0.25, -0.5, 1.5 / q, 1.0], rel=1e-14)
    x, grid = torch.ones(2, 2, dtype=torch.float64), grids.uniform_t(3, VP)
    loose, tight = (run(grid, x=x, model=wide, threshold=1.0, bound=bound).x for bound in (9.0, 1.0))
    assert torch.equal(tight, run(grid, x=x, model=wide, threshold=1.0).x) and not torch.equal(loose, tight)
    empty = run(grid, x=x[:0], model=Predictor("mean", lambda y, t: y), threshold=0.9).x
    assert empty.shape == (0, 2)


# ---- the weights -----------------------------------------------------------------------------------------------------
def integral(prediction, power, t, s):
    """What the prediction lam^power adds over t -> s: w int e^{..} l^power dl, Simpson on 2,000 intervals."""
    lam = torch.linspace(VP.lam(t), VP.lam(s), 2_001, dtype=torch.float64)
    sign = 1 if prediction == "data" else -1
    value = (sign * (lam - lam[-1])).exp() * lam**power
    simpson = torch.full_like(lam, 2.0)
    simpson[1::2], simpson[0], simpson[-1] = 4.0, 1.0, 1.0
    total = ((simpson * value).sum() * (lam[-1] - lam[0]) / 6_000).item()
    return total * (VP.alpha(s) if prediction == "data" else -VP.sigma(s))


PREDICTOR = {
    ("bh1", 1): 0, ("bh2", 1): 0, ("vary", 1): 0, ("bh1", 2): 0, ("bh2", 2): 0, ("vary", 2): 1,
    ("bh1", 3): 2, ("bh2", 3): 2, ("vary", 3): 2, ("bh1", 4): 3, ("vary", 4): 3,
}  # fmt: skip
CORRECTOR = {
    ("bh1", 1): 0, ("bh2", 1): 0, ("vary", 1): 1, ("bh1", 2): 2, ("bh2", 2): 2, ("vary", 2): 2,
    ("bh1", 3): 3, ("bh2", 3): 3, ("vary", 3): 3, ("bh2", 4): 4, ("vary", 4): 4, ("vary_official", 1): 1,
    ("vary_official", 2): 0, ("vary_official", 3): 0,
}  # fmt: skip


def misses(weights, nodes, prediction, t, s, power):
    found = sum(w * VP.lam(node) ** power for w, node in zip(weights.tolist(), nodes, strict=False))
    truth = integral(prediction, power, t, s)
    return abs(found - truth) / abs(truth)


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize(("variant", "order"), PREDICTOR)
def test_predictor_is_exact_on_polynomials(variant, order, prediction):
    """T2: predictions lam^k; UniP-2 of bh1 and bh2 only up to 0, of vary 1; UniP-p else p - 1; not one further."""
    rows, last = unipc.plan(UNEVEN, VP, order=order, variant=variant, prediction=prediction, **FULL), 4
    nodes = UNEVEN[: last + 1].flip(0).tolist()
    for power in range(PREDICTOR[variant, order] + 2):
        gap = misses(rows.ahead[last], nodes, prediction, *UNEVEN[last:].tolist(), power)
        assert gap <= 1e-10 if power <= PREDICTOR[variant, order] else gap > 1e-4, (power, gap)


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize(("variant", "order"), CORRECTOR)
def test_corrector_is_exact_on_polynomials(variant, order, prediction):
    """T2 and invariant 5: UniC-p up to p, UniC-1 of bh1 and bh2 up to 0; the code's vary only up to 0 for p >= 2."""
    options = dict(order=order, variant=variant, prediction=prediction, correct_last=True, **FULL)
    rows, last = unipc.plan(UNEVEN, VP, **options), 5
    nodes = UNEVEN[: last + 1].flip(0).tolist()
    for power in range(CORRECTOR[variant, order] + 2):
        gap = misses(rows.corrected[last], nodes, prediction, *UNEVEN[last - 1 :].tolist(), power)
        assert gap <= 1e-10 if power <= CORRECTOR[variant, order] else gap > 1e-4, (power, gap)


def test_variants_agree_where_the_system_is_solved():
    """Invariant 3: UniP-3, and the correctors of order 2 and 3; they differ in UniP-2 and UniC-1."""
    plans = [unipc.plan(UNEVEN, VP, variant=variant, **FULL) for variant in ("bh1", "bh2", "vary")]
    for one, other in ((plans[0], plans[1]), (plans[0], plans[2])):
        torch.testing.assert_close(one.ahead[2:], other.ahead[2:], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(one.corrected[2:], other.corrected[2:], rtol=1e-11, atol=1e-12)
        assert (one.ahead[1] - other.ahead[1]).abs().max() > 1e-3
        assert (one.corrected[1] - other.corrected[1]).abs().max() > 1e-3


def test_third_order_predictor_is_the_corrected_multistep_scheme():
    """Equivalence 5 of the DPM++ card: 3M whose second difference has its factor 2, written with r0, r1, D1, D2."""
    lam = VP.lam(UNEVEN)
    weights = unipc.plan(UNEVEN, VP, corrector=False, **FULL).ahead[3]
    h, r0, r1 = (lam[4] - lam[3]).item(), *((lam[k + 1] - lam[k]).item() for k in (2, 1))
    r0, r1 = r0 / h, r1 / h
    z = -h
    phi1 = math.expm1(z) / z
    phi2 = (phi1 - 1) / z
    phi3 = (phi2 - 0.5) / z

    def added(m0, m1, m2):
        a, b = (m0 - m1) / r0, (m1 - m2) / r1
        d1, d2 = a + r0 / (r0 + r1) * (a - b), 2 * (a - b) / (r0 + r1)
        return VP.alpha(UNEVEN[4].item()) * h * (phi1 * m0 + phi2 * d1 + phi3 * d2)

    assert weights.tolist() == pytest.approx([added(1, 0, 0), added(0, 1, 0), added(0, 0, 1)], rel=1e-10)


@pytest.mark.parametrize("prediction", ["data", "noise"])
def test_two_steps_of_bh2_by_hand(prediction):
    """Order 2 on an uneven grid: UniP-1, UniC-1 (half), UniP-2 (half); without and with the last corrector."""
    t0, t1, t2 = 0.9, 0.55, 0.4
    sign = -1 if prediction == "data" else 1

    def pieces(t, s):
        h = VP.lam(s) - VP.lam(t)
        if prediction == "data":
            return h, VP.sigma(s) / VP.sigma(t), VP.alpha(s), math.expm1(-h) / -h
        return h, VP.alpha(s) / VP.alpha(t), -VP.sigma(s), math.expm1(h) / h

    h0, l0, w0, p0 = pieces(t0, t1)
    m0 = predicted(prediction, X, t0)
    base = l0 * X + w0 * h0 * p0 * m0
    m1 = predicted(prediction, base, t1)
    x1 = base + w0 * h0 * p0 * 0.5 * (m1 - m0)
    h1, l1, w1, p1 = pieces(t1, t2)
    r = (VP.lam(t0) - VP.lam(t1)) / h1
    x2 = l1 * x1 + w1 * h1 * p1 * (m1 + 0.5 * (m0 - m1) / r)
    grid = torch.tensor([t0, t1, t2], dtype=torch.float64)
    options = dict(order=2, variant="bh2", prediction=prediction, **FULL)
    found = run(grid, **options)
    torch.testing.assert_close(found.x, x2, rtol=1e-11, atol=1e-11)
    # and the corrector of the last interval, of order 2: the system for nodes r and 1
    phi2 = (p1 - 1) / (sign * h1)
    phi3 = (phi2 - 0.5) / (sign * h1)
    g_new = (2 * phi3 - r * phi2) / (1 - r)
    g_old = phi2 - g_new
    m2 = predicted(prediction, x2, t2)
    corrected = l1 * x1 + w1 * h1 * (p1 * m1 + g_old * (m0 - m1) / r + g_new * (m2 - m1))
    last = run(grid, correct_last=True, **options)
    torch.testing.assert_close(last.x, corrected, rtol=1e-11, atol=1e-11)
    assert (found.nfe, last.nfe) == (2, 3)


# ---- orders ------------------------------------------------------------------------------------------------------
def started_exactly(steps, path, order, **options):
    """Error of UniP or UniPC whose first order - 1 states and predictions are exact."""
    grid, first = grids.uniform_lam(steps, path), order - 1
    times, x = grid.tolist(), starts(path, path.t_max)
    before = [exact_model(path)(flowed(x, path, times[0], t), t) for t in times[:first]]
    rows = unipc.plan(grid, path, order=order, **options)
    rest = unipc.Plan(*(column[first:] for column in rows))

    def step(*each, **rest):
        return unipc.predict_correct(*each, corrector=options.get("corrector", True), **rest)

    memory = unipc.Memory(None, tuple(reversed(before)))
    end = drive(rest, step, exact_model(path), flowed(x, path, times[0], times[first]), draws=Silence(), memory=memory)
    return (end.x - flowed(x, path, times[0], times[-1])).abs().max().item()


@pytest.mark.parametrize(("order", "corrector"), [(2, False), (3, False), (2, True), (3, True)])
def test_order_from_exact_starting_values(order, corrector):
    """UniP-p has order p, UniPC-p order p + 1, on ve-edm where the start-up's error shows."""
    path = process.named("ve-edm").between(0.05, 0.9)
    options = dict(order=order, variant="vary", corrector=corrector, **FULL)
    errors = [started_exactly(steps, path, **options) for steps in (128, 256)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order + corrector, abs=0.15)


def test_shipped_start_caps_the_third_order_at_three():
    """The first interval's corrector is of order 2: one local error of third order.

    On vp-linear from high noise it lies below 1e-8 and the order is 3.8; on ve-edm it decides.
    """
    path = process.named("ve-edm").between(0.05, 0.9)
    for where, expected in ((path, 3.0), (VP, 3.8)):
        errors = [error(steps, where, correct_last=True, **FULL) for steps in (256, 512)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(expected, abs=0.15)


def test_the_coded_vary_corrector_has_order_1_at_p_2_as_well():
    """Disagreement 2 says p = 2 and 3; the card of order 3 declares the other."""
    path = process.named("ve-edm").between(0.05, 0.9)
    for where in (path, VP):
        errors = [error(steps, where, order=2, variant="vary_official", **FULL) for steps in (256, 512)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


def test_lower_order_final_caps_the_order_at_two():
    """Invariant 1: its last step is of order 1."""
    for order in (2, 3):
        errors = [error(steps, order=order) for steps in (128, 256)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    ("steps", "order", "final", "expected"),
    [
        (6, 3, True, [1, 2, 3, 3, 2, 1]),
        (6, 3, False, [1, 2, 3, 3, 3, 3]),
        (4, 3, True, [1, 2, 2, 1]),
        (3, 3, True, [1, 2, 1]),
        (4, 4, True, [1, 2, 3, 1]),  # the code lowers no order while it starts up
        (2, 3, True, [1, 1]),  # refused by the code
        (1, 3, False, [1]),
        (3, 1, True, [1, 1, 1]),
    ],
)
def test_orders_of_the_steps(steps, order, final, expected):
    assert unipc.step_orders(steps, order, final) == expected


# ---- ends and refusals -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("options", [{}, FULL, {"corrector": False}, {"order": 4}])
def test_ends_on_clean_data(prediction, options):
    """At sigma_s = 0 the last step is of order 1 and lands on the last prediction of the mean."""
    path, seen = process.named("condot"), []
    grid = torch.tensor([0.9, 0.6, 0.4, 0.2, 0.0], dtype=torch.float64)
    model = Predictor("mean", lambda y, t: seen.append(exact_model(path)(y, t)) or seen[-1])
    result = run(grid, path, model=model, prediction=prediction, **options)
    assert result.nfe == 4 and torch.isfinite(result.x).all()
    if options.get("corrector", True) is False:  # corrected, the state is no longer the one that was evaluated
        torch.testing.assert_close(result.x, seen[-1], rtol=1e-11, atol=1e-11)
    elif prediction == "data":
        torch.testing.assert_close(result.x, seen[-1], rtol=1e-13, atol=1e-13)
    with pytest.raises(grids.BadGrid, match="nothing can be corrected"):
        run(grid, path, correct_last=True)
    with pytest.raises(grids.BadGrid, match="denoise_to_zero: True"):
        run(grid, path, denoise_to_zero=True)


def test_refuses_a_start_without_signal_before_it_evaluates():
    def never(y, t):
        raise AssertionError("evaluated")

    with pytest.raises(grids.BadGrid, match="alpha = 0"):
        run(torch.tensor([1.0, 0.5], dtype=torch.float64), process.named("condot"), model=Predictor("mean", never))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order: 0, expected 1..4"),
        ({"order": 5}, "order: 5, expected 1..4"),
        ({"order": 2.0}, "order: 2.0, expected 1..4"),
        ({"variant": "vary_coeff"}, "variant: 'vary_coeff', expected one of bh1"),
        ({"prediction": "eps"}, "prediction: 'eps', expected 'data' or 'noise'"),
        ({"correct_last": True, "corrector": False}, "correct_last: True, expected False"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        unipc.plan(UNEVEN, VP, **options)


@pytest.mark.parametrize(
    "options",
    [{"threshold": 1.5}, {"threshold": 0.9, "bound": 0.0}, {"threshold": 0.9, "bound": math.inf},
     {"threshold": 0.9, "prediction": "noise"}],
)
def test_bad_thresholds_are_refused_before_the_first_evaluation(options):
    def never(y, t):
        raise AssertionError("evaluated")

    with pytest.raises(ValueError, match=f"threshold: {options['threshold']}"):
        run(UNEVEN, model=Predictor("mean", never), **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_threshold_works_in_half_precision(dtype):
    mean = torch.tensor([[0.5, -4.0, 2.0]], dtype=dtype)
    found = unipc.thresholded(Predictor("mean", lambda x, t: mean), 0.5, 1.0)(mean, 0.5)
    assert found.dtype == dtype and torch.equal(found, torch.tensor([[0.25, -1.0, 1.0]], dtype=dtype))
