"""nichol2021iddpm: the numbered invariants of its card (with ho2020ddpm), its grids, variances, losses and times."""

import math
from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import recipes
from benchmarks.laws.impulses import output_law
from reference_impls import catalogue, targets
from reference_impls.continuous import ho2020ddpm as ddpm
from reference_impls.continuous import nichol2021iddpm as iddpm
from reference_impls.core import fit, grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, Shared, WrongKind, require

CHAIN = process.named("discrete-cosine")
LINEAR = process.named("discrete-linear")
CARDS = catalogue.samplers()

knots = st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True).map(
    lambda indices: torch.tensor(sorted(indices, reverse=True), dtype=torch.float64) / 1000
)


class Fixed:
    """Draws that are .3, -.7, 1.1, .2 at the four steps, as the official code was fed them."""

    def at(self, i):
        return self

    def block(self, steps, tag, like):
        return torch.stack([torch.full_like(like, (0.3, -0.7, 1.1, 0.2)[i]) for i in steps])


def with_share(share, mean=lambda x, t: 0.8 * torch.sin(x)):
    return Shared("mean", lambda x, t: (mean(x, t), torch.full_like(x, share)))


# ---- chains and kept knots


def test_chain_anchors():
    """beta_1, beta_T, alpha-bar_500, alpha-bar_T of the cosine chain; the linear one's ends times 1000/T."""
    betas = process.cosine_betas()
    found = [betas[0].item(), betas[-1].item(), CHAIN.alpha(0.5) ** 2, CHAIN.alpha(1.0) ** 2]
    assert found == pytest.approx([4.128422e-5, 0.999, 4.938436e-1, 2.428767e-9], rel=3e-7)
    assert (betas[:-1] < 0.999).all()
    for name in ("linear", "cosine"):
        same = iddpm.chain(name)
        at = torch.arange(1, 1001, dtype=torch.float64) / 1000
        assert torch.equal(same.alpha(at), process.named(f"discrete-{name}").alpha(at)) and same.name.endswith(name)
    long = iddpm.chain("linear", 4000)
    first, last = 1 - long.alpha(1 / 4000) ** 2, 1 - (long.alpha(1.0) / long.alpha(3999 / 4000)) ** 2
    assert [first, last] == pytest.approx([2.5e-5, 5e-3], rel=1e-9)
    with pytest.raises(ValueError, match="schedule: 'quad' is not known; expected one of linear, cosine"):
        iddpm.chain("quad")
    with pytest.raises(ValueError, match=r"betas: 1.05\d* at 19 of 19, expected numbers in \(0, 1\]; more knots"):
        iddpm.chain("linear", 19)
    assert iddpm.chain("linear", 20).alpha(1.0) == 0
    with pytest.raises(ValueError, match="knots: 2.5, expected an integer >= 1"):
        iddpm.chain("cosine", 2.5)


def test_cosine_chain_is_the_squared_cosine_at_its_knots():
    """alpha-bar = f(t)/f(0) wherever no beta was cut."""
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000
    f = (math.pi / 2 * (torch.cat([t.new_zeros(1), t]) + 0.008) / 1.008).cos() ** 2
    torch.testing.assert_close(CHAIN.alpha(t) ** 2, f[1:] / f[0], rtol=1e-10, atol=0)


def test_kept_indices_are_the_official_ones():
    """space_timesteps of improved_diffusion/respace.py (MIT), run: accumulated sums, rounded half to even."""
    assert (
        iddpm.kept("21") == iddpm.kept(21) == [*range(0, 451, 50), *range(499, 1000, 50)]
    )  # closed form: 500, 550, ..
    assert iddpm.kept([10, 15, 20], 300)[8:28] == [
        88, 99, 100, 107, 114, 121, 128, 135, 142, 149, 157, 164, 171, 178, 185, 192, 199, 200, 205, 210,
    ]  # fmt: skip
    assert iddpm.kept("10,15,20", 300) == iddpm.kept([10, 15, 20], 300)
    assert iddpm.kept("2,0,3", 10) == [0, 3, 7, 8, 9]  # 10 = 4 + 3 + 3
    assert iddpm.kept("1,1", 10) == [0, 5]
    assert iddpm.kept(1000) == iddpm.kept("ddim1000") == list(range(1000))
    assert iddpm.kept("ddim10") == list(range(0, 1000, 100)) and iddpm.kept("ddim15") == list(range(0, 1000, 67))
    assert iddpm.kept("ddim3", 7) == [0, 3, 6] and iddpm.kept("ddim2", 7) == [0, 4]
    for bad, says in (
        ("ddim37", "'ddim37', expected N = ceil"),
        ("ddim1", "'ddim1', expected"),
        ("ddim", "'ddim', expected"),
        ("10,x", "'10,x', expected 'ddim50'"),
        ([400, 1, 1], "400 of 334 knots in part 0, expected at most 334"),
        ([335, 1, 1], "335 of 334 knots in part 0"),
        ([-1], "-1 of 1000"),
        (2.5, "2.5, expected 50,"),
    ):
        with pytest.raises(grids.BadGrid, match=f"sections: {says}"):
            iddpm.kept(bad)


def test_grids_are_kept_knots_and_clean_data():
    """Index i is the knot (i+1)/1000; all knots are the chain itself; alpha stays where it was (invariant 6)."""
    assert iddpm.stride_subsequence(4, CHAIN).tolist() == pytest.approx([0.751, 0.501, 0.251, 0.001, 0.0])
    assert iddpm.even_subsequence(3, CHAIN).tolist() == pytest.approx([1.0, 0.501, 0.001, 0.0])  # 499.5 rounds to even
    assert iddpm.even_subsequence(1, CHAIN).tolist() == [0.001, 0.0]
    assert iddpm.in_sections([2, 1])(3, CHAIN).tolist() == pytest.approx([0.501, 0.5, 0.001, 0.0])
    whole = iddpm.even_subsequence(1000, CHAIN)
    torch.testing.assert_close(whole, torch.arange(1000, -1, -1, dtype=torch.float64) / 1000, rtol=1e-14, atol=0)
    few = iddpm.even_subsequence(21, CHAIN)
    bar = torch.cumprod(1 - process.cosine_betas(), 0)[torch.tensor(iddpm.kept(21)).flip(0)]
    torch.testing.assert_close(CHAIN.alpha(few[:-1]) ** 2, bar, rtol=1e-10, atol=0)
    assert iddpm.even_subsequence(4, iddpm.chain("cosine", 7), knots=7).tolist() == pytest.approx(
        [1.0, 5 / 7, 3 / 7, 1 / 7, 0.0]
    )
    for steps in (0, 1001, 2.5):
        with pytest.raises(grids.BadGrid, match=f"steps: {steps!r}, expected 1..1000"):
            iddpm.even_subsequence(steps, CHAIN)
    with pytest.raises(grids.BadGrid, match="steps: 4, expected 3, the sum of the sections"):
        iddpm.in_sections([2, 1])(4, CHAIN)
    with pytest.raises(grids.BadGrid, match="ve-edm starts at 80"):
        iddpm.even_subsequence(4, process.named("ve-edm"))


# ---- the model


def test_label_is_the_index_in_thousandths_of_the_chain():
    """rescale_timesteps: index times 1000/T; without it the index."""
    assert iddpm.label(1 / 4000, 4000) == 0 and iddpm.label(1.0, 4000) == pytest.approx(3999 / 4)
    assert iddpm.label(1.0, 4000, rescaled=False) == 3999 and iddpm.label(0.5) == 499
    assert iddpm.label(torch.tensor([0.25, 1.0]), 100).tolist() == pytest.approx([240, 990])


@pytest.mark.parametrize("predicted", ["eps", "x0"])
def test_net_with_range_splits_its_channels(predicted):
    """First half the prediction, second half r in [-1,1] as share (r+1)/2; at float and row times; one evaluation."""
    x0, noise = (Philox(2, 3).normal(tag, torch.empty(3, 2, 2, 2, dtype=torch.float64)) for tag in ("x0", "noise"))
    for t in (0.3, torch.tensor([0.001, 0.4, 0.999], dtype=torch.float64)):
        seen = []

        def net(x, embedding, seen=seen):
            seen.append(embedding)
            return torch.cat([noise if predicted == "eps" else x0, 2 * x0 - 1], 1)

        meter = require(iddpm.net_with_range(net, process=CHAIN, predicted=predicted), "mean", 3)
        x = CHAIN.noised(x0, t, noise)
        mean, share = meter.with_share(x, t)
        torch.testing.assert_close(mean, x0, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(share, x0, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(seen[0], torch.as_tensor(t, dtype=torch.float64).expand(3) - 1e-3)
        assert meter.nfe == 1 and torch.equal(meter(x, t), mean) and meter.nfe == 2
    with pytest.raises(ValueError, match="predicted: 'v', expected 'eps' or 'x0'"):
        iddpm.net_with_range(net, process=CHAIN, predicted="v")


def test_a_model_without_a_share_is_refused():
    x, grid = torch.zeros(2, 1, dtype=torch.float64), iddpm.even_subsequence(3, CHAIN)
    plain = Predictor("mean", lambda x, t: x)
    for call in (
        lambda: iddpm.sample(plain, x, grid, process=CHAIN, draws=Philox(0, 2)),
        lambda: iddpm.log_prob(plain, x, process=CHAIN, draws=Philox(0, 2)),
    ):
        with pytest.raises(WrongKind, match="gives no share of the variance, expected with_share"):
            call()
    with pytest.raises(ValueError, match="clip: -1, expected a positive bound"):
        iddpm.sample(with_share(0.5), x, grid, process=CHAIN, draws=Philox(0, 2), clip=-1)


# ---- the sampler


@given(knots, st.booleans(), st.sampled_from(["discrete-cosine", "discrete-linear"]))
def test_the_ends_of_the_range_are_the_fixed_variances(grid, clean, name):
    """Share 0 is DDPM's small variance and share 1 its large one, on the same draws, on any kept knots."""
    path = process.named(name)
    grid = torch.cat([grid, grid.new_zeros(1)]) if clean else grid
    x = torch.tensor([[0.3], [-1.4]], dtype=torch.float64)
    for share, other in ((0.0, "ho2020ddpm.ancestral"), (1.0, "ho2020ddpm.ancestral_large")):
        found = iddpm.sample(with_share(share), x, grid, process=path, draws=Philox(3, 2)).x
        same = CARDS[other].sample(
            Predictor("mean", lambda x, t: 0.8 * torch.sin(x)), x, grid, process=path, draws=Philox(3, 2)
        )
        torch.testing.assert_close(found, same.x, rtol=1e-11, atol=1e-11)


def test_log_variance_is_interpolated_by_coordinate():
    """v = beta'^share beta~^(1 - share), beta' = 1 - abar_t/abar_s, beta~ = beta' (1 - abar_s)/(1 - abar_t)."""
    grid, draws = torch.tensor([0.7, 0.2], dtype=torch.float64), Philox(5, 2)
    bar_t, bar_s = (CHAIN.alpha(t) ** 2 for t in (0.7, 0.2))
    beta = 1 - bar_t / bar_s
    tilde = beta * (1 - bar_s) / (1 - bar_t)
    share = torch.tensor([[0.0, 0.25, 1.0, 1.3], [0.5, -0.2, 0.9, 0.1]], dtype=torch.float64)
    x = Philox(1, 2).normal("x", share)
    model = Shared("mean", lambda x, t: (0.4 * x, share))
    found = iddpm.sample(model, x, grid, process=CHAIN, draws=draws).x
    mean = beta * math.sqrt(bar_s) / (1 - bar_t) * 0.4 * x + (1 - bar_s) * math.sqrt(1 - beta) / (1 - bar_t) * x
    expected = mean + (beta**share * tilde ** (1 - share)).sqrt() * draws.at(0).normal("step", x)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("c", [0.09, 0.25, 4.0])
def test_the_right_share_is_exact_on_isotropic_gaussians(c):
    """log v of the exact reverse kernel lies in the range, and with it the output law is the target's (invariant 2)."""
    path, times = LINEAR, [1.0, 0.6, 0.35, 0.1, 0.02]
    below = dict(zip(times, times[1:], strict=False))

    def predict(x, t):
        alpha, sigma, s = path.alpha(t), path.sigma(t), below[t]
        total = alpha**2 * c + sigma**2
        kernel = ddpm.posterior(*(torch.tensor(time, dtype=torch.float64) for time in (t, s)), path)
        v = kernel.small + kernel.c_mean**2 * c * sigma**2 / total
        share = (v / kernel.small).log() / (kernel.large / kernel.small).log()
        assert share >= 0 and (share <= 1) == (c <= 1)
        return alpha * c / total * x, torch.full_like(x, share.item())

    def go(x, draws):
        grid = torch.tensor(times, dtype=torch.float64)
        return iddpm.sample(Shared("mean", predict), x, grid, process=path, draws=draws).x

    _, variance = output_law(go, 0.0, path.alpha(1.0) ** 2 * c + path.sigma(1.0) ** 2)
    assert variance == pytest.approx(path.alpha(0.02) ** 2 * c + path.sigma(0.02) ** 2, rel=1e-12)


def test_sampler_is_the_official_one():
    """Four kept knots of the cosine chain, LEARNED_RANGE, clip_denoised, constant draws .3, -.7, 1.1.

    Numbers of SpacedDiffusion.p_sample_loop (openai/improved-diffusion, MIT) in float64: eps = tanh x, r = sin x. Its
    table of c_x takes sqrt(1 - beta') of a beta' of .99999999, which leaves eight digits.
    """

    net = iddpm.net_with_range(lambda x, _: torch.cat([x.tanh(), x.sin()], 1), process=CHAIN)
    x = torch.tensor([[0.4, -1.3]], dtype=torch.float64)
    found = CARDS["nichol2021iddpm.official"].sample(
        net, x, iddpm.even_subsequence(4, CHAIN), process=CHAIN, draws=Fixed()
    )
    assert found.x[0].tolist() == pytest.approx([0.03198362159836725, -0.29211855175504375], rel=1e-8)
    assert found.nfe == 4


def test_sampler_with_a_learned_log_variance_is_the_official_one():
    """The same run with LEARNED, log v = sin x - 3, the net told which four knots are kept."""
    grid = iddpm.even_subsequence(4, CHAIN)
    net = iddpm.net_with_log_variance(lambda x, _: torch.cat([x.tanh(), x.sin() - 3], 1), process=CHAIN, grid=grid)
    x = torch.tensor([[0.4, -1.3]], dtype=torch.float64)
    found = iddpm.sample(net, x, grid, process=CHAIN, draws=Fixed(), clip=1.0)
    assert found.x[0].tolist() == pytest.approx([0.31428005297032324, 0.0017979406730855999], rel=1e-8)


@pytest.mark.parametrize("predicted", ["eps", "x0"])
def test_a_learned_log_variance_is_that_of_every_step(predicted):
    """On the whole chain v = exp(second output) at every knot, in float32 too; told another grid, on that grid."""
    x0, noise = (Philox(2, 3).normal(tag, torch.empty(3, 2, 2, 2, dtype=torch.float64)) for tag in ("x0", "noise"))
    log_v = -4 + x0
    target = noise if predicted == "eps" else x0
    few = torch.tensor([0.9, 0.4, 0.001, 0.0], dtype=torch.float64)
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        for grid, times in ((None, [1.0, 0.9, 0.4, 0.002]), (few, [0.9, 0.4])):
            net = iddpm.net_with_log_variance(
                lambda x, _: torch.cat([target, log_v], 1).to(x), process=CHAIN, predicted=predicted, grid=grid
            )
            for t in times:
                s = t - 1e-3 if grid is None else few[few.tolist().index(t) + 1].item()
                row = iddpm.plan(torch.tensor([t, s], dtype=torch.float64), CHAIN)
                x = CHAIN.noised(x0, t, noise).to(dtype)
                mean, share = net.with_share(x, t)
                found = 2 * (row.root.log() + row.shrink * (1 - share.double()))
                torch.testing.assert_close(found, log_v, rtol=close, atol=close)
                torch.testing.assert_close(net(x, t), mean, rtol=0, atol=0)
                if t < 0.95:
                    torch.testing.assert_close(mean.double(), x0, rtol=close, atol=close)
    with pytest.raises(ValueError, match="predicted: 'v', expected 'eps' or 'x0'"):
        iddpm.net_with_log_variance(net, process=CHAIN, predicted="v")
    with pytest.raises(grids.BadGrid, match="ve-edm starts at 80"):
        iddpm.net_with_log_variance(net, process=process.named("ve-edm"))


# ---- losses and the bound

# x0 and noise of four coordinates, index 0, 10, 500, 999; eps = .9 x + t/1000 - .3, r = sin x. Numbers of
# training_losses in improved_diffusion/gaussian_diffusion.py (openai/improved-diffusion, MIT), run in float64.
PIXELS = torch.tensor([[0.0, 64.0, 128.0, 255.0]], dtype=torch.float64).expand(4, 4) / 127.5 - 1
NOISE = torch.tensor([[0.5, -1.0, 0.25, 2.0]], dtype=torch.float64).expand(4, 4)
AT = torch.tensor([1, 11, 501, 1000], dtype=torch.float64) / 1000


def official_net(x, embedding):
    return torch.cat([0.9 * x + embedding[:, None] - 0.3, x.sin()], 1)


@pytest.mark.parametrize(
    ("name", "hybrid", "bound"),
    [
        (
            "discrete-linear",
            [3.2483927788995155, 1.3351411925200334, 0.029908074832237248, 0.4456383704490767],
            [1963.4583129359908, 131.51634123304774, 0.23606713363724963, 6.465493506444412],
        ),
        (
            "discrete-cosine",
            [2.7620128496864815, 1.360587014430421, 0.11513691923409097, 318.0265657229315],
            [1470.6427354703642, 122.30403993497684, 0.5177242792636163, 317585.8580651781],
        ),
    ],
)
def test_losses_are_the_official_ones(name, hybrid, bound):
    path = process.named(name)
    model = iddpm.net_with_range(official_net, process=path)
    how = dict(process=path, decoder="tanh")
    assert iddpm.hybrid_loss(model, PIXELS, AT, NOISE, **how).tolist() == pytest.approx(hybrid, rel=1e-10)
    assert iddpm.bound_loss(model, PIXELS, AT, NOISE, **how).tolist() == pytest.approx(bound, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "hybrid", "bound"),
    [
        (
            "discrete-linear",
            [5.860860037319819, 6.36168037453306, 2.69901202350473, 2.6963325080480933],
            [4575.925571356293, 5158.055523246075, 2669.34001580613, 2257.159631105461],
        ),
        (
            "discrete-cosine",
            [5.865921716386925, 7.25178288539948, 3.519358560015813, 395.9553086241096],
            [4574.551602170808, 6013.499910904036, 3404.7393650609856, 395514.6009663562],
        ),
    ],
)
def test_losses_of_a_learned_log_variance_are_the_official_ones(name, hybrid, bound):
    """The same with LEARNED: the second output sin x is log v itself."""
    path = process.named(name)
    model = iddpm.PAPER.parametrisations["log_variance"](official_net, process=path)
    how = dict(process=path, decoder="tanh")
    assert iddpm.hybrid_loss(model, PIXELS, AT, NOISE, **how).tolist() == pytest.approx(hybrid, rel=1e-10)
    assert iddpm.bound_loss(model, PIXELS, AT, NOISE, **how).tolist() == pytest.approx(bound, rel=1e-10)


def test_losses_of_a_net_that_predicts_x0_are_the_official_ones():
    """predict_xstart: L_simple compares x0, and the bound sees the prediction itself."""
    model = iddpm.net_with_range(official_net, process=LINEAR, predicted="x0")
    how = dict(process=LINEAR, decoder="tanh")
    found = iddpm.hybrid_loss(model, PIXELS, AT, NOISE, predicted="x0", **how)
    assert found.tolist() == pytest.approx(
        [29.982408073886493, 3.4305638118625374, 0.889203590294488, 1.9477069050833888], rel=1e-10
    )
    assert iddpm.bound_loss(model, PIXELS, AT, NOISE, **how).tolist() == pytest.approx(
        [29897.352853986264, 3360.5582543054675, 0.5961206065592833, 0.0011572836693382142], rel=1e-9
    )


def test_bound_of_a_clipped_model_is_the_official_one():
    """calc_bpd_loop clips by default: four kept knots of the cosine chain, constant draws .3, -.7, 1.1, .2."""
    model = iddpm.net_with_range(lambda x, _: torch.cat([2 * x.tanh(), x.sin()], 1), process=CHAIN)
    found = iddpm.log_prob(model, PIXELS[:1], process=CHAIN, draws=Fixed(), steps=4, decoder="tanh", clip=1.0)
    assert -found.item() / (4 * math.log(2)) == pytest.approx(216.91924725322454, rel=1e-10)
    free = iddpm.log_prob(model, PIXELS[:1], process=CHAIN, draws=Fixed(), steps=4, decoder="tanh")
    assert free.item() < found.item()


def test_hybrid_loss_is_the_simple_one_and_a_thousandth_of_the_bound():
    """weight T bits; unscaled it is 1000 weight, whatever the chain's length; the decoder is Phi unless asked."""
    path = iddpm.chain("cosine", 40)
    t, model = torch.tensor([1, 2, 20, 40], dtype=torch.float64) / 40, with_share(0.3)
    simple = ddpm.simple_loss(model, PIXELS, t, NOISE, process=path)
    bound = iddpm.bound_loss(model, PIXELS, t, NOISE, process=path, knots=40)
    for scaled, factor in (({}, 1.0), ({"scaled": True}, 1.0), ({"scaled": False}, 1000 / 40)):
        found = iddpm.hybrid_loss(model, PIXELS, t, NOISE, process=path, weight=0.01, knots=40, **scaled)
        torch.testing.assert_close(found, simple + 0.01 * factor * bound, rtol=1e-12, atol=0)
    tanh = iddpm.bound_loss(model, PIXELS, t, NOISE, process=path, knots=40, decoder="tanh")
    assert (tanh != bound).tolist() == [True, False, False, False]


def test_the_bound_teaches_the_share_alone():
    """Invariant 7: the mean's gradient of L_hybrid is that of L_simple exactly; the share's is that of the bound."""
    mean = (PIXELS + 0.01).requires_grad_()
    share = torch.full_like(PIXELS, 0.4).requires_grad_()
    model = Shared("mean", lambda x, t: (mean, share))
    hybrid = iddpm.hybrid_loss(model, PIXELS, AT, NOISE, process=CHAIN).sum()
    simple = ddpm.simple_loss(model, PIXELS, AT, NOISE, process=CHAIN).sum()
    bound = iddpm.bound_loss(model, PIXELS, AT, NOISE, process=CHAIN).sum()
    of_mean, of_share = torch.autograd.grad(hybrid, [mean, share])
    assert torch.equal(of_mean, torch.autograd.grad(simple, mean)[0])
    also_mean, of_bound = torch.autograd.grad(bound, [mean, share])
    torch.testing.assert_close(of_share, 1e-3 * of_bound, rtol=1e-9, atol=0)
    assert (of_share != 0).all() and also_mean.abs().max() > 0


def test_the_share_of_the_bound_is_least_at_the_exact_variance():
    """One term over x0 given x_t, in closed form by two atoms: the best log v is that of the mean squared gap."""
    t, s = torch.tensor([0.4], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    rung = iddpm.rungs(t, s, t + 0.1, LINEAR)
    kernel = ddpm.posterior(t, s, LINEAR)
    atoms = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    best = (kernel.small + kernel.c_mean**2 * 0.25).log()
    share = ((best - kernel.small.log()) / (kernel.large / kernel.small).log()).expand(2, 1).clone().requires_grad_()
    nats = iddpm.bound_term(atoms, torch.zeros_like(atoms), share, rung).sum()
    assert torch.autograd.grad(nats, share)[0].sum().abs().item() < 1e-11
    normal = torch.distributions.Normal
    q = normal(kernel.c_mean * atoms, kernel.small.sqrt())
    p = normal(torch.zeros_like(atoms), (best / 2).exp())
    kl = torch.distributions.kl_divergence(q, p).sum()
    assert nats.item() == pytest.approx(kl.item(), rel=1e-10)


@given(st.floats(-1.5, 1.5), st.floats(-6, 1), st.sampled_from(["phi", "tanh"]), st.sampled_from([256, 17]))
def test_levels_have_mass_one(mean, log_deviation, decoder, levels):
    """Invariant 4, of this file's own decoder, and it agrees with the other file's, level by level."""
    x0 = torch.linspace(-1, 1, levels, dtype=torch.float64)
    deviation = torch.tensor(math.exp(log_deviation), dtype=torch.float64)
    log_v = torch.full_like(x0, 2 * log_deviation)
    nats = iddpm.level_nats(x0, torch.full_like(x0, mean), log_v, levels, iddpm.CDFS[decoder])
    assert (-nats).exp().sum().item() == pytest.approx(1.0, abs=1e-12 * (levels + 1))  # P is at least 1e-12
    same = ddpm.DECODERS[decoder](x0, torch.full_like(x0, mean), deviation, levels)
    torch.testing.assert_close((-nats).exp(), (-same).exp(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("side", [-1, 1])
def test_far_levels_keep_their_digits(side):
    """6.6 deviations above or below the mean, by erfc; as a difference of numbers near 1 it would lose ten digits."""
    mean, x0 = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.3 + side * 0.066]], dtype=torch.float64)
    near, far = (math.erfc(z / math.sqrt(2)) / 2 for z in (6.6 - 1 / 2.55, 6.6 + 1 / 2.55))
    nats = iddpm.level_nats(x0, mean, torch.full_like(x0, 2 * math.log(0.01)), 256, iddpm.CDFS["phi"])
    assert (-nats).exp().item() == pytest.approx(near - far, rel=1e-10, abs=0)


@pytest.mark.parametrize("steps", [7, 1000])
def test_bound_at_share_zero_is_that_of_the_small_variance(steps):
    """Two files, two derivations, the same draws; share 1 differs in the first knot alone, where its end is beta_1."""
    draws, path = Philox(6, 2), LINEAR
    plain = Predictor("mean", lambda x, t: 0.99 * x)
    found = iddpm.log_prob(with_share(0.0, plain), PIXELS[:2], process=path, draws=draws, steps=steps)
    same = ddpm.log_prob(plain, PIXELS[:2], process=path, draws=draws, steps=steps)
    torch.testing.assert_close(found, same, rtol=1e-9, atol=0)
    upper = iddpm.log_prob(with_share(1.0, plain), PIXELS[:2], process=path, draws=draws, steps=steps)
    large = ddpm.log_prob(plain, PIXELS[:2], process=path, draws=draws, steps=steps, large=True)
    first = 1e-3 * torch.ones(2, dtype=torch.float64)
    noise = draws.at(steps - 1).normal("step", PIXELS[:2])
    mean = 0.99 * path.noised(PIXELS[:2], first, noise)
    kept = iddpm.even_subsequence(steps, path)
    variances = 1 - path.alpha(1e-3) ** 2, ddpm.posterior(kept[-3], kept[-2], path).small.item()
    nats = [-ddpm.chance_of_level(PIXELS[:2], mean, torch.tensor(v).double().sqrt()).log().sum(1) for v in variances]
    torch.testing.assert_close(upper - large, nats[1] - nats[0], rtol=1e-6, atol=1e-6)


def never(x, t):
    raise AssertionError("the model was evaluated")


@pytest.mark.parametrize("steps", [20, 1000])
def test_the_bound_on_ve_has_the_prior_that_samples_start_from(steps):
    """A model that knows x0 has no KL at share 0, so the bound is L_0 and L_T = KL(N(x0, 50^2) || N(0, 50^2))."""
    path, c, n = process.named("ve-geo"), 0.25, 400
    x0 = Philox(8, n).normal("data", torch.empty(n, 1, dtype=torch.float64)) * math.sqrt(c)
    far = Shared("mean", lambda x, t: (x0, torch.full_like(x, 0.0)))  # knows x0: every KL is 0 at share 0
    grid = iddpm.even_subsequence(steps, path)
    rung = iddpm.rungs(grid[-2], grid[-1], grid[-3], path)
    first = iddpm.bound_term(x0, x0, torch.zeros_like(x0), rung)
    found = iddpm.log_prob(far, x0, process=path, draws=Philox(3, n), steps=steps)
    torch.testing.assert_close(found, -first - x0[:, 0] ** 2 / (2 * 50**2), rtol=1e-10, atol=1e-10)


def test_bad_options_of_the_bound_are_refused():
    for call, says in (
        (lambda: iddpm.bound_loss(with_share(0.1), PIXELS, AT, NOISE, process=CHAIN, decoder="erf"), "decoder: 'erf'"),
        (lambda: iddpm.hybrid_loss(with_share(0.1), PIXELS, AT, NOISE, process=CHAIN, predicted="v"), "predicted: 'v'"),
        (
            lambda: iddpm.log_prob(with_share(0.1), PIXELS, process=CHAIN, draws=Philox(0, 4), steps=1),
            "steps: 1, expected at least 2",
        ),
        (
            lambda: iddpm.log_prob(with_share(0.1), PIXELS, process=CHAIN, draws=Philox(0, 4), clip=0.0),
            "clip: 0.0, expected a positive bound",
        ),
        (
            lambda: iddpm.log_prob(with_share(0.1, never), PIXELS, process=CHAIN, draws=Philox(0, 4), levels=1),
            "levels: 1, expected an integer >= 2",
        ),
        (
            lambda: iddpm.log_prob(with_share(0.1, never), PIXELS, process=CHAIN, draws=Philox(0, 4), decoder="erf"),
            "decoder: 'erf'",
        ),
        (
            lambda: iddpm.bound_loss(with_share(0.1, never), PIXELS, AT, NOISE, process=CHAIN, levels=0),
            "levels: 0, expected an integer >= 2",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            call()


# ---- times


def test_importance_is_the_official_rule():
    """Uniform until every knot has ten losses, then the root mean square of the last ten, mixed with a thousandth."""
    times = iddpm.Importance(knots=3)
    memory = times.fresh()
    t = torch.tensor([1, 2, 3], dtype=torch.float64) / 3
    for i in range(12):
        assert times.chances(memory).tolist() == pytest.approx([1 / 3] * 3) or i >= 10
        before = memory.clone()
        losses = torch.tensor([1 + 0.1 * i, 2 - 0.1 * i, 0.5], dtype=torch.float64)
        after = times.remembered(memory, t, losses)
        assert torch.equal(memory.nan_to_num(-1), before.nan_to_num(-1))
        memory = after
    assert memory[0].tolist() == pytest.approx([1 + 0.1 * i for i in range(2, 12)])
    # LossSecondMomentResampler of improved_diffusion/resample.py (MIT), fed the same
    assert times.chances(memory).tolist() == pytest.approx(
        [0.4709730281029736, 0.38818852663226006, 0.1408384452647664], rel=1e-12
    )
    assert (iddpm.Importance().knots, iddpm.Importance().losses, iddpm.Importance().uniform) == (1000, 10, 1e-3)


def test_repeated_knots_are_remembered_in_order():
    times = iddpm.Importance(knots=2, losses=2)
    memory = times.remembered(times.fresh(), torch.tensor([1.0, 0.5, 1.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert memory[1].tolist() == [3.0, 4.0] and memory[0, 1] == 2 and memory[0, 0].isnan()
    assert times.chances(memory).tolist() == [0.5, 0.5]


@given(st.integers(0, 10**6))
def test_importance_weights_keep_the_mean(seed):
    """E over the drawn knots of weight times loss is the uniform mean: by the inverse CDF on a fine grid of u."""
    draws, times = Philox(seed, 5), iddpm.Importance(knots=5)
    memory = draws.normal("memory", torch.empty(5, 10, dtype=torch.float64)).abs() + 0.1
    p = times.chances(memory)
    assert p.sum().item() == pytest.approx(1.0, abs=1e-12) and p.min() >= 1e-3 / 5
    losses = draws.normal("loss", torch.empty(5, dtype=torch.float64))
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    t, weight = times.weighted(u, memory)
    index = (t * 5).round().long() - 1
    share = torch.bincount(index, minlength=5) / u.shape[0]
    torch.testing.assert_close(share.double(), p, rtol=0, atol=1e-5)
    assert torch.equal(weight, 1 / (5 * p[index]))
    assert (p / (5 * p) * losses).sum().item() == pytest.approx(losses.mean().item(), rel=1e-12)
    ends = times.weighted(torch.tensor([1e-12, 1 - 1e-16], dtype=torch.float64), memory)[0]
    assert ends.tolist() == [0.2, 1.0]


@given(st.integers(0, 10**6))
def test_importance_has_the_least_second_moment(seed):
    """Section 3.3: sum p (weight loss)^2 is least at p ~ sqrt(E loss^2), up to the thousandth that stays uniform."""
    draws, times = Philox(seed, 6), iddpm.Importance(knots=6)
    memory = (1.5 * draws.normal("memory", torch.empty(6, 10, dtype=torch.float64))).exp()
    square, p = memory.square().mean(1), times.chances(memory)

    def second_moment(p):
        return (square / p).sum().item() / 36

    least = square.sqrt().mean().item() ** 2  # Cauchy-Schwarz
    assert least <= second_moment(p) <= least / (1 - 1e-3) * (1 + 1e-12)
    assert second_moment(p) <= second_moment(torch.full((6,), 1 / 6, dtype=torch.float64)) * (1 + 1e-3)


def test_training_by_importance_remembers_and_resumes():
    """Times by what fit remembers, losses weighted; a stopped run ends in the bits of an undisturbed one."""
    card = catalogue.objectives()["nichol2021iddpm.bound_importance"]
    times = iddpm.Importance(knots=4, losses=2)
    card, path = replace(card, times=times, loss=partial(iddpm.bound_loss, knots=4)), iddpm.chain("cosine", 4)
    data, plan = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None], fit.Plan(steps=12, batch=8, rate=1e-2)

    def run(stop, state=None):
        net = torch.nn.Linear(1, 2).double()
        torch.nn.init.constant_(net.weight, 0.3)
        torch.nn.init.zeros_(net.bias)
        model = iddpm.net_with_range(lambda x, _: net(x), process=path, knots=4)
        losses = fit.data_losses(card, model, data, 8, process=path)
        return losses, list(islice(fit.fit(net, losses, plan, seed=3, state=state, every=1), stop))[-1].state()

    losses, whole = run(12)
    assert not losses.memory.isnan().any() and times.chances(losses.memory).max() > 0.5  # it no longer is uniform
    torch.testing.assert_close(losses.memory, whole["times"], rtol=0, atol=0)
    for stop in (1, 7):
        resumed = run(12 - stop, run(stop)[1])[1]
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[name].nan_to_num(-1), whole[name].nan_to_num(-1)) for name in whole)
    model, draws, memory = with_share(0.3), Philox(9, 8), losses.memory
    again = fit.data_losses(card, model, data, 8, process=path)
    again.memory = memory
    t, weight = times.weighted(fit.strata(draws, 8), memory)
    x0 = fit.chosen(draws, data, 8)
    expected = iddpm.bound_loss(model, x0, t, draws.normal("noise", x0), process=path, knots=4)
    assert (weight != 1).any()
    torch.testing.assert_close(again(draws), weight * expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(again.memory, times.remembered(memory, t, expected), rtol=1e-12, atol=0)


def test_only_plain_data_is_trained_by_importance():
    """A task whose losses keep no memory refuses, in one line, rather than draw uniform times."""
    recipe = replace(
        recipes.named("digits-edm-labels"), objective="nichol2021iddpm.bound_importance",
        parametrisation="nichol2021iddpm.range", process="discrete-cosine",
    )  # fmt: skip
    with pytest.raises(recipes.BadRecipe, match="follow its losses, which the task 'labelled'.*expected the"):
        recipes.losses(recipe, torch.nn.Identity(), torch.device("cpu"))


def test_times_are_the_knots():
    u = torch.tensor([1e-9, 0.4995, 0.5005, 1 - 1e-9], dtype=torch.float64)
    for objective in iddpm.PAPER.objectives:
        assert objective.times(u, CHAIN).tolist() == pytest.approx([0.001, 0.5, 0.501, 1.0], rel=1e-14)
    for times in (partial(iddpm.knot_times, knots=4), iddpm.Importance(knots=4)):
        assert times(u, CHAIN).tolist() == [0.25, 0.5, 0.75, 1.0]


def test_hybrid_loss_reaches_the_floor_of_the_simple_one():
    """With the exact mean of G3 the eps part is below that of a displaced mean, whatever the share."""
    g3, n = targets.named("g3"), 20_000
    draws = Philox(11, n)
    like = torch.empty(n, 1, dtype=torch.float64)
    x0, noise = g3.sample(draws, like), draws.normal("noise", like)
    t = torch.full((n,), 0.3, dtype=torch.float64)
    exact = targets.exact(g3, CHAIN)
    here, there = (
        iddpm.hybrid_loss(with_share(0.5, lambda x, t, d=d: exact(x, t) + d), x0, t, noise, process=CHAIN).mean()
        for d in (0.0, 0.1)
    )
    rise = (CHAIN.alpha(0.3) / CHAIN.sigma(0.3) * 0.1) ** 2
    assert (there - here).item() == pytest.approx(rise, rel=0.25)


def test_bound_of_a_short_chain_is_the_sum_of_its_terms():
    path = iddpm.chain("cosine", 100)
    x0 = Philox(2, 40).normal("x", torch.empty(40, 1, dtype=torch.float64))
    plain = targets.exact(targets.named("g3"), path)

    class Half:
        kind = "mean"

        def __call__(self, x, t):
            return plain(x, t)

        def with_share(self, x, t):
            return plain(x, t), torch.full_like(x, 0.5)

    bits = sum(
        iddpm.bound_loss(
            Half(), x0, torch.full((40,), i / 100, dtype=torch.float64), Philox(4, 40).at(100 - i).normal("step", x0),
            process=path, knots=100,
        )
        for i in range(1, 101)
    )  # fmt: skip
    whole = -iddpm.log_prob(Half(), x0, process=path, draws=Philox(4, 40), steps=100, knots=100)
    signal, noise = path.alpha(1.0) ** 2, path.sigma(1.0) ** 2
    prior = (signal * x0[:, 0].square() + noise - 1 - math.log(noise)) / 2
    assert (whole - bits / 100 * math.log(2) - prior).abs().max() < 1e-10


def test_importance_is_uniform_where_no_loss_is_left():
    law = iddpm.Importance(knots=5)
    assert torch.equal(law.chances(torch.zeros(5, 10, dtype=torch.float64)), torch.full((5,), 0.2, dtype=torch.float64))
