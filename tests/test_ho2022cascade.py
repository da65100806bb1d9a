"""Cascades with noise conditioning: the card's invariants, the official steps in other words, its golden numbers."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import checkpoints, recipes
from benchmarks.laws import inverse as laws
from reference_impls import targets
from reference_impls.core import fit, grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Conditional, Noised, Predictor, Run, Shared, WrongKind
from reference_impls.systems import ho2022cascade as paper

F64 = dict(dtype=torch.float64)
CHAIN = processes.named("discrete-cosine")
ABAR = torch.cumprod(1 - processes.cosine_betas(), 0)
LOW = laws.normals(7, "low", 2, 1, 4, 4)
X = laws.normals(8, "x", 2, 1, 8, 8)


def told(**changes):
    usual = dict(
        image=LOW, label=None, level=0.25, fixed=False, guidance=1.0, quantile=0.0, ceiling=1.0, share=0.0,
        learned=False,
    )  # fmt: skip
    return paper.Settings(**(usual | changes))


def run(model, grid, x=X, **options):
    options = dict(quantile=0.0, condition=LOW) | options
    return paper.sample(model, x, grid, process=CHAIN, draws=Philox(3, x.shape[0]), **options)


def recorder(seen, predict=lambda x, t: 0.5 * x):
    """A conditional model that keeps every condition it is given."""

    class Recorder:
        kind = "mean"

        def __call__(self, x, t):
            return predict(x, t)

        def given(self, condition):
            seen.append(condition)
            return Predictor("mean", predict)

    return Recorder()


# noise conditioning


def test_the_augmentation_is_the_codes():
    """Index int(1000 a) of its arrays: sqrt(abar_250) = .9197216896957923 by running them."""
    noise = laws.normals(1, "noise", 2, 1, 8, 8)
    found = paper.augmented(LOW, X, 0.25, noise)
    assert found.alpha == pytest.approx(0.9197216896957923, abs=1e-13)
    up = torch.nn.functional.interpolate(LOW, (8, 8), mode="bilinear", align_corners=True)
    expected = ABAR[250].sqrt() * up + (1 - ABAR[250]).sqrt() * noise
    torch.testing.assert_close(found.image, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.lift(LOW), up, rtol=0, atol=0)
    assert paper.augmented(LOW, X, 0.0, noise).sigma == pytest.approx((1 - ABAR[0]).sqrt().item(), rel=1e-9)
    rows = paper.augmented(LOW, X, torch.tensor([0.25, 0.9999], **F64), noise)
    torch.testing.assert_close(rows.alpha, ABAR[[250, 999]].sqrt(), rtol=1e-9, atol=0)
    torch.testing.assert_close(rows.image[:1], expected[:1], rtol=0, atol=1e-12)


def test_enlarging_keeps_corners_and_straight_lines():
    ramp = torch.linspace(-1, 1, 4, **F64).expand(1, 1, 4, 4)
    up = paper.lifted(ramp, X)
    torch.testing.assert_close(up, torch.linspace(-1, 1, 8, **F64).expand(1, 1, 8, 8), rtol=0, atol=1e-14)
    assert paper.lifted(X, X) is X
    label = torch.arange(3)
    assert paper.lifted(label, X) is label


@given(laws.problems, st.floats(0.0, 0.999))
def test_linear_gaussian_minimiser_is_the_mean_of_two_observations(problem, level):
    """Invariant: E[x0 | x_t, low~] has the gain S H^T (H S H^T + R)^-1 with H = [alpha I; alpha_a A]."""
    problem = replace(
        problem, weights=torch.ones(1, **F64), means=problem.means[:1], covariances=problem.covariances[:1]
    )
    x, noise = laws.normals(5, "x", laws.ROWS, problem.shape[0]), laws.normals(6, "n", *problem.y.shape)
    given_low = paper.augmented(problem.y, x, level, noise)
    alpha, sigma, S, m = 0.6, 0.8, problem.covariances[0], problem.means[0]
    H = torch.cat([alpha * torch.eye(len(m), **F64), given_low.alpha * problem.matrix])
    noise_low = (given_low.alpha * problem.noise_std) ** 2 + given_low.sigma**2
    R = torch.diag(torch.tensor([sigma**2] * len(m) + [noise_low] * len(problem.matrix), **F64))
    gain = S @ H.T @ torch.linalg.inv(H @ S @ H.T + R)
    expected = m + (torch.cat([x, given_low.image], 1) - m @ H.T) @ gain.T
    found = problem.conditional_mean(x, alpha, sigma, given_low)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 * (1 + expected.abs().max().item()))


@given(laws.problems)
def test_no_signal_forgets_the_image_and_no_noise_forces_it(problem):
    x = laws.normals(5, "x", laws.ROWS, problem.shape[0])
    forgotten = problem.conditional_mean(x, 0.6, 0.8, Noised(problem.y, 0.0, 1.0, lambda y: y))
    torch.testing.assert_close(forgotten, problem.prior.mean(x, 0.6, 0.8), rtol=0, atol=1e-10)
    exact = replace(problem, noise_std=0.0)
    forced = exact.conditional_mean(x, 0.6, 0.8, Noised(problem.y, 1.0, 1e-7, lambda y: y))
    torch.testing.assert_close(forced @ problem.matrix.T, problem.y, rtol=0, atol=1e-6 * problem.y.abs().max().item())


def test_the_loss_is_least_at_the_mean_given_state_and_image():
    """Four atoms; state, image and level held: the gradient of the expected loss vanishes there, not beside it."""
    atoms, small = laws.normals(1, "atoms", 4, 1, 8, 8) / 4, laws.normals(2, "small", 4, 1, 4, 4) / 4
    t, level = torch.full((4,), 0.6, **F64), torch.full((4,), 0.45, **F64)
    alpha, sigma = CHAIN.alpha(0.6), CHAIN.sigma(0.6)
    a, s = ABAR[450].sqrt(), (1 - ABAR[450]).sqrt()
    state, up = laws.normals(3, "state", 1, 1, 8, 8), paper.lifted(small, atoms)
    image = a * up[:1] + s * laws.normals(4, "image", 1, 1, 8, 8)
    noise, image_noise = (state - alpha * atoms) / sigma, (image - a * up) / s
    posterior = (-(noise.square() + image_noise.square()).flatten(1).sum(1) / 2).softmax(0)
    assert posterior.max() < 0.99
    truth = (posterior[:, None, None, None] * atoms).sum(0, keepdim=True)

    def gradient(shift):
        mean = (truth + shift).requires_grad_()
        seen = []

        class Model:
            def given(self, condition):
                seen.append(condition)
                return lambda x, time: (seen.append(x), mean.expand_as(x))[1]

        losses = paper.loss(Model(), atoms, t, noise, process=CHAIN, condition=small, augmentation=(level, image_noise))
        assert (seen[0].image - image).abs().max() < 1e-12
        assert (seen[1] - state).abs().max() < 1e-12
        return torch.autograd.grad((posterior * losses).sum(), mean)[0].norm()

    assert gradient(0.0) < 1e-12 * gradient(0.3)


def test_the_loss_is_that_of_the_noise_and_may_go_without_augmentation():
    x0, noise = laws.normals(1, "x0", 2, 1, 8, 8), laws.normals(2, "noise", 2, 1, 8, 8)
    t, seen = torch.tensor([0.3, 0.8], **F64), []
    augmentation = torch.tensor([0.2, 0.7], **F64), laws.normals(3, "z", 2, 1, 8, 8)
    model = recorder(seen, lambda x, time: 0.3 * x)
    found = paper.loss(model, x0, t, noise, process=CHAIN, condition=LOW, augmentation=augmentation, augment=False)
    x = CHAIN.noised(x0, t, noise)
    alpha, sigma = (c(t)[:, None, None, None] for c in (CHAIN.alpha, CHAIN.sigma))
    expected = ((x - alpha * 0.3 * x) / sigma - noise).flatten(1).square().mean(1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    assert seen[0][1:3] == (1.0, 0.0)
    torch.testing.assert_close(seen[0].image, paper.lifted(LOW, X), rtol=0, atol=0)


# steps


def test_steps_are_the_codes_posterior():
    """Its arrays of the respaced chain: betas from ratios of abar, posterior mean, both bounds of the variance."""
    grid = paper.grouped("super40")(40, CHAIN)
    abar = torch.cat([torch.ones(1, **F64), ABAR[paper.indices_of(paper.GROUPS["super40"])]])
    before, here = abar[:-1].flip(0), abar[1:].flip(0)
    beta = 1 - here / before
    rows = paper.plan(grid, CHAIN)
    torch.testing.assert_close(rows.keep, (1 - before) * (1 - beta).sqrt() / (1 - here), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(rows.pull, beta * before.sqrt() / (1 - here), rtol=1e-9, atol=0)
    low = (beta * (1 - before) / (1 - here)).sqrt()
    torch.testing.assert_close(rows.log_low.exp()[:-1], low[:-1], rtol=1e-9, atol=0)
    torch.testing.assert_close(rows.log_high.exp()[:-1], beta.sqrt()[:-1], rtol=1e-9, atol=0)
    assert rows.log_low[-1] == rows.log_high[-1] == -math.inf


def test_indices_are_the_codes():
    """By running its respacing: the first of smart50, for every name the sums of the indices and of their squares."""
    assert paper.indices_of(paper.GROUPS["smart50"])[:12] == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99, 100, 120]
    found = {name: paper.indices_of(groups) for name, groups in paper.GROUPS.items()}
    assert {name: (len(kept), sum(kept), sum(i * i for i in kept)) for name, kept in found.items()} == {
        "fast27": (27, 8687, 4482173), "smart27": (27, 13426, 10064954), "smart50": (50, 24976, 18705112),
        "smart100": (100, 70152, 55393502), "smart185": (185, 130152, 101325044), "super27": (27, 20190, 17385220),
        "super40": (40, 27880, 22852496), "super100": (100, 66750, 52324102),
    }  # fmt: skip
    grid = paper.spread_indices(5, CHAIN)
    assert [round(1000 * t) for t in grid.tolist()] == [1000, 750, 501, 251, 1, 0]  # 499.5 to even
    assert [round(1000 * t) for t in paper.spread_indices(2, CHAIN).tolist()] == [1000, 1, 0]
    assert [round(1000 * t) for t in paper.spread_indices(1, CHAIN).tolist()] == [1000, 0]


@pytest.mark.parametrize("ceiling", [1.0, 1.5])
def test_thresholds_are_each_samples_own(ceiling):
    """c = 1 clips; the third sample's quantile is 1.2 + .8 (2.5 - 1.2) = 2.24."""
    x = torch.tensor([[0.2, -0.5, 0.1, 0.4, -0.9], [0.0, 1.1, 0.0, 0.0, 0.0], [0.2, -2.5, 1.2, 0.4, -0.9]], **F64)
    found = paper.thresholded(x, 0.95, ceiling)
    assert torch.equal(found[0], x[0])
    torch.testing.assert_close(paper.thresholded(x, 1.0, 9.0)[2], x[2] / 2.5, rtol=0, atol=1e-14)
    scale = [1.0, min(ceiling, 0.8 * 1.1), min(ceiling, 2.24)]
    for b in (1, 2):
        q = max(1.0, scale[b])
        torch.testing.assert_close(found[b], x[b].clamp(-q, q) / q, rtol=0, atol=1e-14)


def test_the_official_run_has_its_golden_numbers():
    """smart50, level .25, guidance 7, quantile .95, c 1.5, learned variance; the code itself gave the same to 2e-14."""
    draws, like = Philox(5, 3), torch.empty(3, 1, 8, 8, **F64)
    low = Philox(7, 3).normal("low", torch.empty(3, 1, 4, 4, **F64))

    class Net:
        kind = "mean"

        def given(self, c):
            def predict(x, t):
                eps = 0.9 * torch.sin(1.3 * x + 0.4 * c.image) + 0.1 * x * t + 0.05 + 0.3 * (c.label is not None)
                mean = (x - CHAIN.sigma(t) * eps) / CHAIN.alpha(t)
                return mean, (1.2 * torch.tanh(x - c.image) + 1) / 2

            return Shared("mean", predict)

    run = paper.sample(
        Net(), draws.normal("start", like), paper.grouped("smart50")(50, CHAIN), process=CHAIN, draws=draws,
        condition=paper.Labelled(low, torch.zeros(3, dtype=torch.int64)), guidance=7.0, ceiling=1.5, learned=True,
    )  # fmt: skip
    assert run.x[0, 0, 0, :2].tolist() == pytest.approx([-0.9645238793541528, -0.8951245329785076], abs=1e-11)
    assert run.nfe == 100


def test_share_goes_from_the_posteriors_variance_to_beta():
    grid = torch.tensor([0.6, 0.3], **F64)
    rows = paper.plan(grid, CHAIN)
    noise = Philox(3, 2).at(0).normal("step", X)
    silent = run(recorder([]), grid, ddim=True).x
    ratio = CHAIN.sigma(0.3) / CHAIN.sigma(0.6)
    torch.testing.assert_close(silent, 0.5 * CHAIN.alpha(0.3) * X + ratio * (1 - 0.5 * CHAIN.alpha(0.6)) * X)
    for share in (0.0, 0.25, 1.0):
        std = rows.log_low.exp() ** (1 - share) * rows.log_high.exp() ** share
        expected = (rows.keep + 0.5 * rows.pull) * X + std * noise
        torch.testing.assert_close(run(recorder([]), grid, share=share).x, expected, rtol=0, atol=1e-12)
        assert (silent - expected).abs().max() > 0.1

    class Learned:
        kind = "mean"

        def given(self, condition):
            return Shared("mean", lambda x, t: (0.5 * x, torch.full_like(x, 0.25)))

    constant = run(recorder([]), grid, share=0.25)
    torch.testing.assert_close(run(Learned(), grid, learned=True).x, constant.x, rtol=0, atol=1e-12)


def test_the_image_is_noised_anew_at_each_step_or_once():
    seen, grid = [], torch.tensor([0.9, 0.5, 0.2], **F64)
    run(recorder(seen), grid)
    for i, condition in enumerate(seen):
        expected = paper.augmented(LOW, X, 0.25, Philox(3, 2).at(i).normal("augment", X))
        torch.testing.assert_close(condition.image, expected.image, rtol=0, atol=1e-12)
    seen.clear()
    run(recorder(seen), grid, fixed=True)
    once = paper.augmented(LOW, X, 0.25, Philox(3, 2).normal("augment", X)).image
    assert len(seen) == 2
    assert all(torch.equal(condition.image, once) for condition in seen)
    seen.clear()
    run(recorder(seen), grid, level=-1.0)
    assert all(condition.sigma == 0 and torch.equal(condition.image, paper.lifted(LOW, X)) for condition in seen)


def test_a_small_image_is_noised_at_its_own_size():
    """Imagen's pseudo-code: sixteen normals, and the network sees up(alpha low + sigma z)."""
    seen, grid, asked = [], torch.tensor([0.9, 0.5, 0.2], **F64), []
    run(recorder(seen), grid, small=True)
    for i, condition in enumerate(seen):
        noise = Philox(3, 2).at(i).normal("augment", LOW)
        expected = ABAR[250].sqrt() * LOW + (1 - ABAR[250]).sqrt() * noise
        torch.testing.assert_close(condition.image, expected, rtol=0, atol=1e-12)
        assert condition.alpha == pytest.approx(ABAR[250].sqrt().item()) and torch.equal(condition.lift(LOW), LOW)
    net = paper.from_v(lambda x, embedding, image, level: asked.append(image) or x, process=CHAIN)
    run(net, grid, small=True)
    torch.testing.assert_close(asked[0], paper.lifted(seen[0].image, X), rtol=0, atol=1e-14)
    seen.clear()
    run(recorder(seen), grid, small=True, level=-1.0)
    assert all(condition.sigma == 0 and torch.equal(condition.image, LOW) for condition in seen)


def test_fixed_and_fresh_noise_take_other_ways_on_a_model_that_sees():
    problem = targets.named("digits-superresolution").rows([0, 1])
    model = Conditional("mean", lambda x, t, c: problem.conditional_mean(x, CHAIN.alpha(t), CHAIN.sigma(t), c))
    grid, low = paper.spread_indices(4, CHAIN), problem.measurement.picture
    ends = [run(model, grid, condition=low, level=0.3, ddim=True, fixed=fixed).x for fixed in (True, False)]
    again = run(model, grid, condition=low, level=0.3, ddim=True, fixed=True).x
    assert (ends[0] - ends[1]).abs().max() > 0.01
    assert torch.equal(ends[0], again)


def test_guidance_goes_beyond_the_labelled_prediction():
    class Net:
        kind = "mean"

        def given(self, condition):
            value = -0.2 if condition.label is None else 0.1
            return Predictor("mean", lambda x, t: torch.full_like(x, value))

    labelled = paper.Labelled(LOW, torch.zeros(2, dtype=torch.int64))
    grid = torch.tensor([0.5, 0.0], **F64)
    for g in (0.0, 1.0, 4.0):
        end = run(Net(), grid, condition=labelled, guidance=g, fixed=True)
        torch.testing.assert_close(end.x, torch.full_like(X, -0.2 + g * 0.3), rtol=0, atol=1e-14)
        assert end.nfe == (1 if g == 1 else 2)
    clipped = run(Net(), grid, condition=labelled, guidance=7.0, quantile=0.95)
    torch.testing.assert_close(clipped.x, torch.ones_like(X), rtol=0, atol=1e-14)  # of 1.9


@pytest.mark.parametrize("guidance", [1.0, 7.0])
def test_the_first_stage_has_labels_and_no_image(guidance):
    """The code's stage I: a step by hand with guidance, threshold 1.5, posterior's noise; nothing is augmented."""
    labels, asked = torch.tensor([3, 5]), []

    def predict(x, t, label):
        asked.append(None if label is None else label.tolist())
        return 0.5 * x + (0.0 if label is None else 0.1 * label.double()[:, None, None, None])

    grid = torch.tensor([0.9, 0.4], **F64)
    model = Conditional("mean", predict)
    found = run(model, grid, condition=labels, guidance=guidance, quantile=0.95, ceiling=1.5)
    mean = 0.5 * X + guidance * 0.1 * labels.double()[:, None, None, None]
    size = torch.quantile(mean.flatten(1).abs(), 0.95, dim=1).clamp(1, 1.5)[:, None, None, None]
    mean = mean.clamp(-size, size) / size
    h = CHAIN.lam(0.4) - CHAIN.lam(0.9)
    ratio, fresh = CHAIN.sigma(0.4) / CHAIN.sigma(0.9), -math.expm1(-2 * h)
    expected = math.exp(-h) * ratio * X + CHAIN.alpha(0.4) * fresh * mean
    expected = expected + CHAIN.sigma(0.4) * math.sqrt(fresh) * Philox(3, 2).at(0).normal("step", X)
    torch.testing.assert_close(found.x, expected, rtol=0, atol=1e-12)
    assert asked == [[3, 5]] + [None] * (guidance != 1) and found.nfe == len(asked)
    for options in ({"fixed": True}, {"level": -1.0}):
        again = run(model, grid, condition=labels, guidance=guidance, quantile=0.95, ceiling=1.5, **options)
        assert torch.equal(again.x, found.x)
    with pytest.raises(ValueError, match="condition: 3 rows, expected 2"):
        run(model, grid, condition=torch.tensor([1, 2, 3]))


def test_least_squares_on_samples_finds_the_gain():
    """Invariant: the linear map that a stage learns from samples is the gain of two observations, up to their number.

    x0 = L z on 2x2 from its mean pixel; 200,000 samples: an entry's error is about sqrt(var x0 / n / var of its input
    given the others), here at most .005, of which six are allowed.
    """
    n = 200_000
    L = torch.tensor([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0], [0.3, -0.5, 0.7, 0], [0.2, 0.4, -0.3, 0.5]], **F64)
    x0 = laws.normals(1, "z", n, 4) @ L.T
    A = torch.full((4, 4), 0.25, **F64)  # the mean pixel, enlarged
    x = CHAIN.noised(x0, 0.5, laws.normals(2, "eps", n, 4))
    image = paper.augmented(x0 @ A.T, x, 0.4, laws.normals(3, "aug", n, 4))
    found = torch.linalg.lstsq(torch.cat([x, image.image], 1), x0).solution.T
    S, H = L @ L.T, torch.cat([CHAIN.alpha(0.5) * torch.eye(4, **F64), image.alpha * A])
    R = torch.diag(torch.tensor([CHAIN.sigma(0.5) ** 2] * 4 + [image.sigma**2] * 4, **F64))
    gain = S @ H.T @ torch.linalg.inv(H @ S @ H.T + R)
    assert gain[:, 4:].abs().min() > 0.02
    assert (found - gain).abs().max() < 0.03


def test_without_a_label_the_codes_guidance_follows_the_noises_difference():
    """Differs: fresh noise for each half moves the end with nothing to guide; one noise for both does not."""
    model = Conditional("mean", lambda x, t, c: c.image)
    grid, plain = torch.tensor([0.5, 0.0], **F64), {}
    for fixed in (True, False):
        plain[fixed], guided = (run(model, grid, guidance=g, fixed=fixed).x for g in (1.0, 4.0))
        moved = (guided - plain[fixed]).abs().max()
        assert moved == 0 if fixed else moved > 0.1
    tags = "augment", "augment-free"
    pair = [paper.augmented(LOW, X, 0.25, Philox(3, 2).at(0).normal(tag, X)).image for tag in tags]
    torch.testing.assert_close(run(model, grid, guidance=4.0).x, 4 * pair[0] - 3 * pair[1], rtol=0, atol=1e-12)


# cascades and networks


def test_a_cascade_hands_each_end_to_the_next_stage():
    first = Predictor("mean", lambda x, t: torch.tanh(x))
    seen = []
    second = recorder(seen, lambda x, t: 0.1 * x)
    grid = torch.tensor([0.9, 0.4, 0.0], **F64)

    def unconditional(model, x, grid, *, process, draws):
        from reference_impls.core.drive import drive

        step = lambda x, row, memory, *, model, draws: (row.keep * x + row.pull * model(x, row.t), None)  # noqa: E731
        return drive(paper.plan(grid, process, ddim=True), step, model, x, draws=draws)

    stages = [
        paper.Stage(unconditional, first, grid, CHAIN, (1, 4, 4)),
        paper.Stage(partial(paper.sample, level=-1.0), second, grid, CHAIN, (1, 8, 8)),
    ]
    draws, like = Philox(1, 2), torch.empty(2, **F64)
    runs = paper.cascade(stages, like, draws=draws)
    start = draws.at(0).normal("start", torch.empty(2, 1, 4, 4, **F64))
    torch.testing.assert_close(runs[0].x, unconditional(first, start, grid, process=CHAIN, draws=draws.at(0)).x)
    torch.testing.assert_close(seen[0].image, paper.lifted(runs[0].x, X))
    start = draws.at(1).normal("start", X)
    alone = paper.sample(second, start, grid, process=CHAIN, draws=draws.at(1), condition=runs[0].x, level=-1.0)
    assert torch.equal(runs[1].x, alone.x)
    assert paper.cost_of(runs) == 2 * 16 / 64 + 2
    assert paper.cost_of(runs[:1]) == 2


def test_a_cascade_of_exact_stages_makes_digits_that_its_small_pictures_show():
    """4x4 to 8x8, the second stage fed with the first one's samples. Of an exact cascade the small picture less the
    digit's own is the measurement's noise: 16 x 50 of unit deviation, whose mean square is 1 within .05; 60 steps
    leave it .13 too small, 120 nothing that shows."""
    problem = targets.named("digits-superresolution")
    small, spread = problem.measurement.operator.forward(problem.prior.atoms), problem.measurement.noise_std**2

    def first(x, t, label):  # of atoms with the measurement's noise
        alpha, sigma = CHAIN.alpha(t), CHAIN.sigma(t)
        flat, variance = x.flatten(1), alpha**2 * spread + sigma**2
        weights = (-(flat[:, None] - alpha * small).square().sum(2) / (2 * variance)).softmax(1)
        centre = weights @ small
        return (centre + alpha * spread / variance * (flat - alpha * centre)).reshape(x.shape)

    def second(x, t, low):
        return problem.conditional_mean(x, CHAIN.alpha(t), CHAIN.sigma(t), low)

    grid, n = paper.spread_indices(120, CHAIN), 50
    labels = torch.zeros(n, dtype=torch.int64)
    stages = [
        paper.Stage(partial(paper.sample, condition=labels, quantile=0.0), Conditional("mean", first), grid, CHAIN,
                    (1, 4, 4)),
        paper.Stage(partial(paper.sample, level=-1.0, quantile=0.0), Conditional("mean", second), grid, CHAIN,
                    (1, 8, 8)),
    ]  # fmt: skip
    runs = paper.cascade(stages, torch.empty(n, **F64), draws=Philox(1, n))
    low, made = runs[0].x, runs[1].x
    nearest = (made.flatten(1)[:, None] - problem.prior.atoms.flatten(1)).square().sum(2).min(1).values
    assert nearest.max() < 1e-6
    residual = (low.flatten(1) - problem.measurement.operator.forward(made)) / problem.measurement.noise_std
    assert residual.square().mean().item() == pytest.approx(1.0, abs=0.15)  # three deviations
    assert paper.cost_of(runs) == 120 * 16 / 64 + 120


def test_a_stage_begins_at_the_noise_of_its_own_process():
    draws, like = Philox(1, 2), torch.empty(2, **F64)
    stage = paper.Stage(
        lambda model, x, grid, *, process, draws: Run(x, 0.0), None, None, processes.named("ve-edm"), (3,)
    )
    (found,) = paper.cascade([stage], like, draws=draws)
    assert torch.equal(found.x, 80 * draws.at(0).normal("start", like.new_empty(2, 3)))


def test_training_times_are_the_knots_alike():
    u = (torch.arange(1000, **F64) + 0.5) / 1000
    assert (1000 * paper.chain_times(u, CHAIN)).round().tolist() == list(range(1, 1001))
    assert paper.chain_times(torch.tensor([0.0, 1.0], **F64), CHAIN).tolist() == pytest.approx([0.001, 1.0])


def test_both_parametrisations_give_one_mean_for_one_answer():
    """A network that answers with the noise, or with v, of a known x0 gives x0; it sees image, level and time."""
    x0, noise, told_net = laws.normals(1, "x0", 2, 1, 8, 8), laws.normals(2, "noise", 2, 1, 8, 8), []
    alpha, sigma = CHAIN.alpha(0.4), CHAIN.sigma(0.4)
    answers = {paper.from_eps: noise, paper.from_v: alpha * noise - sigma * x0}
    for join, answer in answers.items():

        def net(x, embedding, image, level, answer=answer):
            told_net.append((embedding, image, level))
            return answer

        given_low = paper.augmented(LOW, X, 0.25, noise)
        model = join(net, process=CHAIN).given(given_low)
        torch.testing.assert_close(model(alpha * x0 + sigma * noise, 0.4), x0, rtol=0, atol=1e-12)
        embedding, image, level = told_net[-1]
        torch.testing.assert_close(embedding, torch.full((2,), -0.2, **F64), rtol=0, atol=1e-14)
        assert image is given_low.image
        expected = math.log(given_low.sigma / given_low.alpha) / 4
        torch.testing.assert_close(level, torch.full((2,), expected, **F64), rtol=1e-12, atol=0)
        plain = join(net, process=CHAIN).given(LOW)
        plain(X, torch.tensor([0.4, 0.2], **F64))
        assert told_net[-1][2].tolist() == pytest.approx([math.log(3.4e-4) / 4] * 2)
        torch.testing.assert_close(told_net[-1][1], paper.lifted(LOW, X))
        with pytest.raises(ValueError, match="condition: None, expected an image"):
            join(net, process=CHAIN)(X, 0.4)


def test_recipes_train_on_the_very_loss():
    """A digit beside its own picture, degraded anew; level and noises from the addressed draws."""
    recipe = recipes.named("digits-enlarge")
    net, batch = recipe.untrained(0), recipe.plan.batch
    with torch.no_grad():
        net.leave.weight.add_(0.1)
    problem, draws = targets.named(recipe.data), Philox(5, batch).at(3)
    x0 = fit.chosen(draws, problem.prior.atoms.float(), batch)
    low = problem.degraded(x0, draws.normal("seen", torch.empty(batch, 16)))
    expected = paper.loss(
        recipe.joined(net), x0, paper.chain_times(fit.strata(draws, batch), CHAIN), draws.normal("noise", x0),
        process=CHAIN, condition=low, augmentation=(draws.uniform("level", (batch,)), draws.normal("augment", x0)),
    )  # fmt: skip
    assert torch.equal(recipes.losses(recipe, net, torch.device("cpu"))(draws), expected)


@pytest.mark.parametrize("name", ["digits-enlarge", "digits-enlarge-plain"])
@pytest.mark.parametrize("t", [0.2, 0.5])
def test_the_pinned_networks_beat_the_best_linear_estimate(name, t):
    """That of the Gaussian with the digits' moments, on held-out digits; at t = 1 the loss weighs nothing, and neither
    are they much good there."""
    problem = targets.named("digits-superresolution").rows(range(200))
    linear = targets.named("gaussian-superresolution")
    x = CHAIN.noised(problem.truth, t, Philox(1, 200).normal("x", problem.truth))
    mean = linear.conditional_mean(x.flatten(1), CHAIN.alpha(t), CHAIN.sigma(t), problem.measurement.y).reshape(x.shape)
    with torch.no_grad():
        found = checkpoints.model(name).given(problem.measurement.picture.float())(x.float(), t)
    assert (found - problem.truth).square().mean() < (mean - problem.truth).square().mean()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": 1.0}, "level: 1.0, expected below 1"),
        ({"ceiling": 0.5}, "ceiling: 0.5, expected at least 1"),
        ({"quantile": 1.5}, r"quantile: 1.5, expected in \[0, 1\]"),
        ({"condition": LOW[:1]}, "condition: 1 rows, expected 2"),
        ({"condition": None}, "condition: None, expected an image"),
        ({"condition": [LOW, None]}, "condition: a list, expected an image, Labelled"),
        ({"condition": LOW.repeat(1, 3, 1, 1)}, "condition: an image of 3 channels, expected 1"),
        ({"guidance": math.nan}, "guidance: nan, expected a finite number"),
        ({"guidance": math.inf}, "guidance: inf, expected a finite number"),
        ({"share": math.nan}, "share: nan, expected a finite number"),
        ({"level": math.nan}, "level: nan, expected below 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(options, says):
    def never(x, t):
        raise AssertionError("evaluated")

    with pytest.raises(ValueError, match=says):
        run(recorder([], never), torch.tensor([0.5, 0.0], **F64), **options)


def test_grids_that_the_chain_does_not_have_are_refused():
    with pytest.raises(grids.BadGrid, match="steps: 49, expected 50"):
        paper.grouped("smart50")(49, CHAIN)
    with pytest.raises(grids.BadGrid, match="name: 'nope' is not known; expected one of fast27"):
        paper.grouped("nope")
    with pytest.raises(grids.BadGrid, match="expected 1..1000"):
        paper.spread_indices(1001, CHAIN)
    with pytest.raises(grids.BadGrid, match="ve-edm at 80"):
        paper.spread_indices(5, processes.named("ve-edm"))
    with pytest.raises(WrongKind):
        paper.sample(
            Predictor("mean", lambda x, t: x), X, torch.tensor([0.5, 0.0], **F64), process=CHAIN, draws=Philox(0, 2),
            condition=LOW,
        )  # fmt: skip
