"""NAF-DPM: the card's invariants, both samplers and the loss in the residual's own terms."""

import copy
import math

import pytest
import torch

from benchmarks import checkpoints
from benchmarks.laws import inverse as laws
from reference_impls import nets, targets
from reference_impls.core import grids
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Conditional, Predictor, WrongKind
from reference_impls.inverse import cicchetti2024nafdpm as paper
from reference_impls.nets import gated

F64 = dict(dtype=torch.float64)
CHAIN = processes.named("discrete-linear-100")
ABAR = torch.cumprod(1 - torch.linspace(1e-5, 0.2, 100, **F64), 0)
Z, Y = laws.normals(1, "z", 2, 1, 8, 8), laws.normals(2, "y", 2, 1, 8, 8) / 4
WHOLE = paper.whole_chain(100, CHAIN)


class Pair:
    """Two functions in the place of networks; `labels` keeps what the second was told of the time."""

    def __init__(self):
        self.labels = []

    def first(self, y):
        return 0.8 * torch.tanh(y)

    def second(self, x, label):
        self.labels.append(label)
        noisy, first = x.chunk(2, dim=1)
        return 0.3 * torch.sin(noisy) - 0.2 * first + 0.001 * label[:, None, None, None]


def restore(model, grid, x=Z, condition=Y, **options):
    return paper.sample(model, x, grid, process=CHAIN, draws=Philox(0, x.shape[0]), condition=condition, **options)


# networks


def test_both_networks_together_have_the_papers_parameters():
    assert nets.parameters_of(nets.build("gated_pair", seed=0)) == 9_394_786
    assert nets.parameters_of(nets.build("gated_pair", seed=0, channels=3)) == 9_397_670


def test_without_its_norms_a_block_is_a_polynomial_of_degree_8():
    """No pointwise nonlinearity: gate 2, times channel means 4, a second gate 8: ninth differences vanish."""
    block = gated.Gated(4, 8, torch.Generator().manual_seed(0)).double()
    block.norm_places = block.norm_channels = torch.nn.Identity()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3)
    x, v, context = (laws.normals(k, "line", 1, *shape) for k, shape in ((3, (4, 3, 3)), (4, (4, 3, 3)), (5, (8,))))
    values = torch.stack([block(x + k / 4 * v, context) for k in range(-5, 5)])
    ninth, eighth = values.diff(n=9, dim=0), values.diff(n=8, dim=0)
    assert ninth.abs().max() < 1e-9 * values.abs().max()
    assert eighth.abs().max() > 1e-6 * values.abs().max()


def test_the_codes_norms_of_other_dtypes_are_another_network():
    """Differs: 1e-5 on the variance in float32, 1e-3 elsewhere; in float64 ours stays what it is in float32."""
    problem = targets.named("digits-blurred").rows(range(20))
    seen = problem.measurement.picture
    x = CHAIN.noised(problem.truth, 0.3, Philox(1, 20).normal("x", problem.truth))

    def mean(dtype, floor=None):
        pair = copy.deepcopy(checkpoints.net("digits-restore", dtype=dtype))
        for norm in (part for part in pair.modules() if isinstance(part, gated.ChannelNorm)):
            norm.floor = norm.floor if floor is None else floor
        with torch.no_grad():
            return paper.residual(pair, process=CHAIN).given(seen.to(dtype))(x.to(dtype), 0.3).double()

    here = mean(torch.float64)
    assert (here - mean(torch.float32)).abs().max() < 1e-5
    assert torch.equal(here, mean(torch.float64, 1e-5))
    assert (here - mean(torch.float64, 1e-3)).square().mean().sqrt() > 5e-4


# samplers


def test_the_chain_is_the_codes():
    torch.testing.assert_close(CHAIN.alpha((torch.arange(100).double() + 1) / 100), ABAR.sqrt(), rtol=1e-12, atol=0)
    assert ABAR[-1].item() == pytest.approx(2.2e-5, abs=5e-7)  # the card's
    assert torch.equal(WHOLE, torch.arange(100, -1, -1).double() / 100)
    torch.testing.assert_close(paper.knots(10, CHAIN), torch.linspace(1, 0.01, 11, **F64), rtol=0, atol=1e-15)
    assert paper.whole_chain(3, CHAIN).tolist() == [1.0, 0.66, 0.33, 0.0]
    assert paper.whole_chain(1, CHAIN).tolist() == [1.0, 0.0]


def test_ddim_is_the_codes_loop_over_the_residual():
    """Residual from pure noise, noise estimate from the clean one, the last call's estimate is the end."""
    pair = Pair()
    first, r = pair.first(Y), Z
    for i in range(99, -1, -1):
        clean = pair.second(torch.cat([r, first], 1), torch.full((2,), float(i), **F64))
        if i:
            eps = (r - ABAR[i].sqrt() * clean) / (1 - ABAR[i]).sqrt()
            r = ABAR[i - 1].sqrt() * clean + (1 - ABAR[i - 1]).sqrt() * eps
        else:
            r = clean
    run = restore(paper.residual(pair, process=CHAIN), WHOLE, quantile=0.0, low=0.0, high=1.0)
    torch.testing.assert_close(run.x, (first + r).clamp(0, 1), rtol=0, atol=1e-11)
    assert run.nfe == 101
    assert (run.x == 0).any()


@pytest.mark.parametrize("solver_labels", [True, False])
def test_first_order_is_the_codes_solver(solver_labels):
    """Its formula in lam with clipped residuals of range 1, stopped at t = 1/100; labels ten times the index."""
    pair, plain = Pair(), Pair()
    first, r, times = plain.first(Y), Z, torch.linspace(1, 0.01, 11, **F64)
    for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        label = (t - 0.01) * (1000 if solver_labels else 100)
        clean = plain.second(torch.cat([r, first], 1), torch.full((2,), label, **F64))
        q = torch.quantile(clean.flatten(1).abs(), 0.995, dim=1).clamp(min=1)[:, None, None, None]
        clean = clean.clamp(-q, q) / q
        h = CHAIN.lam(s) - CHAIN.lam(t)
        r = CHAIN.sigma(s) / CHAIN.sigma(t) * r - CHAIN.alpha(s) * math.expm1(-h) * clean
    model = paper.residual(pair, process=CHAIN, solver_labels=solver_labels)
    run = restore(model, paper.knots(10, CHAIN), low=0.0, high=1.0, clip=False)
    torch.testing.assert_close(run.x, first + r, rtol=0, atol=1e-11)
    half = restore(paper.residual(plain, process=CHAIN, solver_labels=solver_labels), paper.knots(10, CHAIN), low=0.0,
                   high=1.0, clip=False, share=0.5)  # fmt: skip
    torch.testing.assert_close(half.x, first + r / 2, rtol=0, atol=1e-11)
    for seen, expected in zip(pair.labels, plain.labels[:10], strict=True):
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-9)
    assert run.nfe == 11


def test_quantile_0_clips_nothing_and_1_the_largest():
    """One step to clean data ends at D: first estimate 0, residual 3 in one pixel and 1 elsewhere, range 1."""
    residual = torch.ones(2, 1, 8, 8, **F64)
    residual[:, 0, 2, 3] = 3.0
    model = Conditional("mean", lambda x, t, c: residual, lambda c: torch.zeros_like(residual))
    options = dict(clip=False, low=0.0, high=1.0)
    free, whole = (restore(model, paper.whole_chain(1, CHAIN), quantile=q, **options).x for q in (0.0, 1.0))
    torch.testing.assert_close(free, residual, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole, residual / 3, rtol=0, atol=1e-12)


def test_clipping_scales_with_the_range():
    """Images mapped from [0, 1] to [-1, 1] are restored to the mapped restoration."""
    pair = Pair()

    class Unit:
        kind = "mean"

        def first(self, y):
            return pair.first(y)

        def given(self, y):
            return Predictor("mean", lambda x, t: pair.first(y) + 3 * torch.sin(x))

    class Wide:
        kind = "mean"

        def first(self, y):
            return 2 * pair.first(y) - 1

        def given(self, y):  # of the state 2 x - alpha, with twice the noise
            return Predictor("mean", lambda x, t: 2 * (pair.first(y) + 3 * torch.sin((x + CHAIN.alpha(t)) / 2)) - 1)

    grid = paper.knots(4, CHAIN)
    unit = restore(Unit(), grid, low=0.0, high=1.0)
    wide = restore(Wide(), grid, x=2 * Z)
    torch.testing.assert_close(wide.x, 2 * unit.x - 1, rtol=0, atol=1e-11)
    clipped = paper.thresholded(torch.tensor([[0.5, -4.0, 0.1], [0.2, 0.3, 0.0]], **F64), 1.0, 2.0)
    assert clipped.tolist() == [[0.25, -2.0, 0.05], [0.2, 0.3, 0.0]]


def test_with_an_exact_model_the_residuals_diffusion_is_the_images_own():
    """From a start moved by alpha f the end is that of DDIM on the conditional mean; share 0 is f alone."""
    problem = targets.named("digits-blurred").rows([3, 8])
    condition = problem.measurement.picture
    model = Conditional(
        "mean", lambda x, t, c: problem.conditional_mean(x, CHAIN.alpha(t), CHAIN.sigma(t), c), problem.mean_given
    )
    grid, first = paper.whole_chain(7, CHAIN), problem.mean_given(condition)
    x = Z + CHAIN.alpha(1.0) * first
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        mean = model.given(condition)(x, t)
        eps = (x - CHAIN.alpha(t) * mean) / CHAIN.sigma(t)
        x = CHAIN.alpha(s) * mean + CHAIN.sigma(s) * eps
    run = restore(model, grid, condition=condition, quantile=0.0)
    torch.testing.assert_close(run.x, x.clamp(-1, 1), rtol=0, atol=1e-10)
    alone = restore(model, grid, condition=condition, share=0.0)
    torch.testing.assert_close(alone.x, first.clamp(-1, 1), rtol=0, atol=1e-12)
    half = restore(model, grid, condition=condition, quantile=0.0, share=0.5, clip=False)
    torch.testing.assert_close(half.x, (first + x) / 2, rtol=0, atol=1e-10)


def test_the_pinned_pair_has_learnt_to_restore():
    """On held-out digits the first estimate is nearer than what was seen, and D at t = .3 nearer yet."""
    problem = targets.named("digits-blurred").rows(range(200))
    model, seen = checkpoints.model("digits-restore"), problem.measurement.picture.float()
    x = CHAIN.noised(problem.truth, 0.3, Philox(1, 200).normal("x", problem.truth)).float()
    with torch.no_grad():
        guesses = seen, model.first(seen), model.given(seen)(x, 0.3)
    errors = [(guess - problem.truth).square().mean().item() for guess in guesses]
    assert errors == sorted(errors, reverse=True)


# losses


def test_the_edge_filter_is_the_laplacian_with_zeros_outside():
    x = torch.zeros(1, 2, 4, 4, **F64)
    x[0, 0, 0, 0], x[0, 1, 2, 2] = 1.0, 2.0
    found = paper.edges(x)
    assert found[0, 0].tolist() == [[8, -1, 0, 0], [-1, -1, 0, 0], [0] * 4, [0] * 4]
    assert found[0, 1].tolist() == [[0] * 4, [0, -2, -2, -2], [0, -2, 16, -2], [0, -2, -2, -2]]
    flat = paper.edges(torch.ones(1, 1, 5, 5, **F64))
    assert flat[0, 0, 1:-1, 1:-1].abs().max() == 0


def small_pair():
    """A trained-looking pair: every weight moved, so that no gain is zero."""
    pair = nets.build("gated_pair", seed=0, width=8, down=[1], up=[1]).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return pair


def official_loss(pair, x0, t, noise, pixels=True):
    """The trainer's lines in the residual's own terms, for a batch of one."""

    def mse(a, b):
        return (a - b).square().mean()

    first = pair.first(Y[:1])
    residual = x0 - first
    noisy = CHAIN.alpha(t) * residual + CHAIN.sigma(t) * noise
    guess = pair.second(torch.cat([noisy, first.clone().detach()], 1), torch.full((1,), 100 * t - 1, **F64))
    total = 2 * mse(paper.edges(guess), paper.edges(residual)) + mse(guess, residual)
    low = mse(first - paper.edges(first), x0 - paper.edges(x0))
    return total + (50 / 100 * (mse(first, x0) + 2 * low) if pixels else 0.0)


def test_loss_and_gradient_are_the_trainers():
    pair, x0, noise = small_pair(), laws.normals(3, "x0", 1, 1, 8, 8), laws.normals(4, "noise", 1, 1, 8, 8)
    model = paper.residual(pair, process=CHAIN)
    weights = list(pair.parameters())
    for t in (0.03, 0.61):
        found = paper.loss(model, x0, torch.tensor([t], **F64), noise, process=CHAIN, condition=Y[:1])
        expected = official_loss(pair, x0, t, noise)
        torch.testing.assert_close(found, expected[None], rtol=1e-11, atol=0)
        pairs = zip(torch.autograd.grad(found.sum(), weights), torch.autograd.grad(expected, weights), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10 * (1 + theirs.abs().max().item()))


def test_the_residuals_loss_trains_the_first_network_too():
    pair, x0, noise = small_pair(), laws.normals(3, "x0", 1, 1, 8, 8), laws.normals(4, "noise", 1, 1, 8, 8)
    slopes = torch.autograd.grad(official_loss(pair, x0, 0.4, noise, pixels=False), list(pair.first.parameters()))
    assert all(slope.abs().max() > 1e-8 for slope in slopes)


def test_the_loss_is_least_at_the_conditional_means():
    """Three images under one state: in D the minimum is their posterior mean, in f their mean; edges do not move it."""
    atoms, shares = laws.normals(5, "atoms", 3, 1, 4, 4), torch.tensor([0.5, 0.3, 0.2], **F64)
    truth = (shares[:, None, None, None] * atoms).sum(0, keepdim=True)

    def slopes(first, mean):
        first, mean = (truth + first).requires_grad_(), (truth + mean).requires_grad_()
        total = (shares * paper.loss_of(first.expand_as(atoms), mean.expand_as(atoms), atoms)).sum()
        return [slope.norm() for slope in torch.autograd.grad(total, (first, mean))]

    here, (first, mean) = slopes(0.0, 0.0), slopes(0.1, 0.1)
    assert here[0] < 1e-13 * first
    assert here[1] < 1e-13 * mean


def test_fine_tuning_adds_what_the_reader_says():
    """With torch's CTC on columns as a reader, per sample; its gradient reaches both networks."""
    pair, x0, noise = small_pair(), laws.normals(3, "x0", 2, 1, 8, 8), laws.normals(4, "noise", 2, 1, 8, 8)
    model, t = paper.residual(pair, process=CHAIN), torch.tensor([0.2, 0.7], **F64)

    def reader(images):
        scores = images[:, 0].permute(2, 0, 1).log_softmax(2)  # columns are time, rows are letters, letter 0 is blank
        words, lengths = torch.tensor([[1, 2, 3], [4, 4, 1]]), torch.tensor([3, 3])
        return torch.nn.functional.ctc_loss(scores, words, torch.tensor([8, 8]), lengths, reduction="none")

    aids = dict(process=CHAIN, condition=Y)
    with torch.no_grad():
        mean = model.given(Y)(CHAIN.noised(x0, t, noise), t)
    found = paper.reading_loss(model, x0, t, noise, **aids, reader=reader)
    plain = paper.loss(model, x0, t, noise, **aids)
    torch.testing.assert_close(found - plain, reader(mean), rtol=1e-10, atol=1e-10)
    extra = torch.autograd.grad((found - plain).sum(), [*pair.parameters()], allow_unused=True)
    assert sum(slope is not None and bool(slope.abs().max() > 1e-9) for slope in extra) > 0.9 * len(extra)


def test_times_are_the_chains_knots():
    u = torch.tensor([0.0, 0.009, 0.01, 0.5, 1 - 1e-12], **F64)
    assert paper.chain_times(u, CHAIN).tolist() == [0.01, 0.01, 0.02, 0.51, 1.0]


# what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quantile": -0.1}, "quantile: -0.1, expected in"),
        ({"low": 1.0}, "low: 1.0, expected below high = 1.0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(options, says):
    def never(*_):
        raise AssertionError("evaluated")

    with pytest.raises(ValueError, match=says):
        restore(Conditional("mean", never, never), WHOLE, **options)


def test_models_and_grids_that_it_cannot_use_are_refused():
    with pytest.raises(WrongKind, match=r"expected first\(condition\)"):
        restore(Conditional("mean", lambda x, t, c: x), WHOLE)
    with pytest.raises(ValueError, match="there is no unconditional model"):
        paper.residual(Pair(), process=CHAIN)(Z, 0.5)
    for grid in (paper.knots, paper.whole_chain):
        with pytest.raises(grids.BadGrid, match="ve-edm at 80"):
            grid(5, processes.named("ve-edm"))
        with pytest.raises(grids.BadGrid):
            grid(0, CHAIN)
    with pytest.raises(grids.BadGrid, match="expected 1..100"):
        paper.whole_chain(101, CHAIN)
