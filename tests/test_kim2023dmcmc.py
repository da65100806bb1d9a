"""kim2023dmcmc: the notebook's integrators and chain, invariance of the joint law, Langevin's variance, classifier."""

import inspect
import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from reference_impls import catalogue, targets
from reference_impls.continuous import kim2023dmcmc as dmcmc
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor, require
from reference_impls.targets.gaussian import Gaussian

VE = process.named("ve-edm").between(0.01, 50.0)
GMM = targets.named("gmm-64")


def normals(rows, *shape, seed=7, tag="start"):
    return Philox(seed, rows).normal(tag, torch.empty(rows, *shape, dtype=torch.float64))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def scaled(law, rows, path=VE):
    return dmcmc.Scaled(require(targets.exact(law, path), "mean", rows), path)


def logits_of(law):
    return lambda y, rho: torch.stack([law.log_prob(y, 1.0, r) for r in rho.tolist()], 1)


def logits_of_gmm(y, rho):
    """The same of gmm-64 for all levels at once."""
    gaps = (y[:, None] - GMM.means).flatten(2).square().sum(2)[:, None]
    spread = (GMM.std**2 + rho**2)[:, None]
    return (GMM.weights.log() - gaps / (2 * spread) - 32 * spread.log()).logsumexp(2)


def places(steps):
    return torch.linspace(1, 0, steps, dtype=torch.float64)


# The integrators


@pytest.mark.parametrize(
    ("integrator", "official"),
    [  # karras_alg1, karras_alg2 (N = 12) in float64 from sigma 50, 3, .4, .06, draws Philox(3, 4); sums of the ends
        ("kar1", -14.711427027902278),
        ("kar2", -8.77267178106762),
    ],
)
def test_official_numbers_of_the_integrators(integrator, official):
    rho, draws = column(50.0, 3.0, 0.4, 0.06), Philox(3, 4)
    y = rho.reshape(-1, 1, 1, 1) * draws.normal("x", torch.empty(4, 1, 8, 8, dtype=torch.float64))
    levels = dmcmc.levels_from(rho, 0.01, places(11), True)
    assert dmcmc.integrated(scaled(GMM, 4), y, levels, draws, integrator).sum().item() == pytest.approx(
        official, rel=1e-11
    )


def test_kar1_before_its_last_step_is_of_order_2():
    """Invariant 5: N(0, diag) from 50 to .01 on power(7): slopes near 2 against the closed flow."""
    law = Gaussian("g", torch.zeros(4, dtype=torch.float64), column(0.1, 0.5, 1.0, 2.0))
    y = 50 * normals(6, 4)
    exact, errors = law.flow(y, 1.0, 50.0, 1.0, 0.01), []
    for steps in (40, 80, 160, 320):
        levels = dmcmc.levels_from(torch.full((6,), 50.0, dtype=torch.float64), 0.01, places(steps), False)
        found = dmcmc.integrated(scaled(law, 6), y, levels, Silence(), "kar1")
        errors.append((found - exact).square().mean().sqrt().item())
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(slope == pytest.approx(2, abs=0.15) for slope in slopes), slopes


def test_levels_keep_the_grid_s_spacing():
    """From the grid's own start they are the grid; from elsewhere evenly placed in rho^(1/7), as in the notebook."""
    grid = grids.power_to_zero(7.0)(9, VE)
    where, to_clean = dmcmc.spacing(grid, VE)
    assert to_clean
    rows = dmcmc.levels_from(column(50.0, 0.7, 0.005), 0.01, where, to_clean)
    torch.testing.assert_close(rows[0], grid, rtol=1e-13, atol=0)
    gaps = (rows[1, :-1] ** (1 / 7)).diff()
    torch.testing.assert_close(gaps, gaps[:1].expand(8), rtol=1e-10, atol=0)
    assert rows[1, 0] == 0.7 and rows[1, -2].item() == pytest.approx(0.01) and rows[:, -1].tolist() == [0.0] * 3
    assert (rows[2, :-1] - 0.005).abs().max() <= 1e-15  # cleaner than the grid's last level: it stays there
    assert dmcmc.spacing(column(50.0, 0.0), VE)[0].tolist() == [0.0]  # one noisy time
    near = dmcmc.levels_from(column(0.05), 0.01, *dmcmc.spacing(column(0.05, 0.03, 0.01), VE))[0]
    torch.testing.assert_close(near, column(0.05, 0.03, 0.01), rtol=1e-13, atol=0)
    uneven = column(50.0, 20.0, 0.3, 0.01)
    torch.testing.assert_close(
        dmcmc.levels_from(column(50.0), 0.01, *dmcmc.spacing(uneven, VE))[0], uneven, rtol=1e-13, atol=0
    )


@pytest.mark.parametrize(("steps", "gamma"), [(1, math.sqrt(2) - 1), (399, 0.2)])
def test_kar2_churns_between_its_bounds(steps, gamma):
    """From noise level .05 to 1, both included, by min(80/(steps + 1), sqrt 2 - 1)."""
    seen, rho = [], column(0.0499, 0.05, 0.3, 1.0, 1.001)

    def model(y, level):
        seen.append(level)
        return y * 0

    levels = torch.cat([rho[:, None], torch.full((5, steps), 0.01, dtype=torch.float64)], 1)
    dmcmc.integrated(model, torch.zeros(5, 2, dtype=torch.float64), levels, Philox(1, 5), "kar2")
    torch.testing.assert_close(seen[0], rho * (1 + gamma * column(0, 1, 1, 1, 0)), rtol=1e-14, atol=0)


def test_the_noise_of_kar2_is_inflated():
    """Impulse: with D = y the step keeps what was added, 1.007 sqrt(raised^2 - rho^2) z."""

    class Ones(Silence):
        def at(self, *where):
            return self

        def normal(self, tag, like):
            return torch.ones_like(like)

    levels = column(0.5, 0.0)[None]
    found = dmcmc.integrated(lambda y, rho: y, torch.zeros(1, 1, dtype=torch.float64), levels, Ones(), "kar2").item()
    assert found == pytest.approx(1.007 * 0.5, rel=1e-12)  # (1 + gamma)^2 - 1 = 1 at gamma = sqrt 2 - 1


# The chain


def test_official_chain_with_argmax():
    """Six moves of eta .3 of the notebook's loop with the exact posterior, from sigma 50, 3, .4, .06: x_min, s_min."""
    rho, draws = column(50.0, 3.0, 0.4, 0.06), Philox(3, 4)
    y = rho.reshape(-1, 1, 1, 1) * draws.normal("x", torch.empty(4, 1, 8, 8, dtype=torch.float64))
    model, states = scaled(GMM, 4), [dmcmc.State(y, rho)]
    for j in range(6):
        states.append(
            dmcmc.moved(
                model, states[-1], 0.3, draws.at(j), 4, noise_logits=logits_of_gmm, rho=dmcmc.noise_levels(0.01, 50.0),
                gibbs="argmax",
            )
        )  # fmt: skip
    best = dmcmc.cleanest(states)
    assert best.rho.tolist() == pytest.approx([50.0, 2.810076498749761, 0.4, 0.06], rel=1e-12)
    assert best.y.sum().item() == pytest.approx(-302.549003031197, rel=1e-11)


@pytest.mark.parametrize(
    ("card", "highest", "official", "nfe"),
    [  # the notebook from its first line to Tweedie's in float64, N = 6: starts Philox(9, 3), draws Philox(11, 3)
        ("official", 50.0, (0.8260913242946457, 0.3061142398360103, 0.5483981217240856), 37 + 20 + 10 + 9 + 1),
        ("official_celebahq", 348.0, (-4.671790208699058, -0.7949579854506404, 0.21837890690442321), 37 + 80 + 9 + 1),
    ],
)
def test_official_numbers_of_the_whole_sampler(card, highest, official, nfe):
    path, card = VE.between(0.01, highest), catalogue.samplers()[f"kim2023dmcmc.{card}"]
    x, grid = highest * normals(3, 1, 8, 8, seed=9), card.grid(5, path)
    found = card.sample(
        targets.exact(GMM, path), x, grid, process=path, draws=Philox(11, 3), noise_logits=logits_of_gmm
    )
    y = found.x
    assert (y.sum().item(), y[0, 0, 0, 0].item(), y[2, 0, 7, 7].item()) == pytest.approx(official, rel=1e-11)
    assert found.nfe == nfe == card.nfe(grid)


def test_one_langevin_move_by_hand():
    law = targets.named("g3")
    state, z = dmcmc.State(column(0.3, -1.0)[:, None], column(0.5, 2.0)), column(1.0, -2.0)[:, None]
    score = torch.autograd.functional.jacobian(
        lambda y: torch.stack([law.log_prob(y[b : b + 1], 1.0, state.rho[b].item()).sum() for b in range(2)]).sum(),
        state.y,
    )
    found = dmcmc.langevin(scaled(law, 2), state, 0.2, z)
    torch.testing.assert_close(found, state.y + 0.1 * score + math.sqrt(0.2) * z, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eta", [0.1, 1.0, 3.0])
def test_langevin_s_stationary_variance(eta):
    """Invariant 3: on N(0, v) the move is y -> (1 - eta/(2 v)) y + sqrt(eta) z, of variance v/(1 - eta/(4 v))."""
    v = 0.6 + 0.5**2
    law = Gaussian("g", torch.zeros(1, dtype=torch.float64), column(0.6))
    state = dmcmc.State(column(1.0)[:, None], column(0.5))
    gain = dmcmc.langevin(scaled(law, 1), state, eta, torch.zeros(1, 1, dtype=torch.float64)).item()
    noise = dmcmc.langevin(
        scaled(law, 1), dmcmc.State(state.y * 0, state.rho), eta, torch.ones(1, 1, dtype=torch.float64)
    ).item()
    assert noise**2 / (1 - gain**2) == pytest.approx(v / (1 - eta / (4 * v)), rel=1e-12)
    assert (abs(gain) < 1) is (eta < 4 * v)


def stationary(gibbs, rows=4000, moves=12):
    """Levels after `moves` exact Gibbs sweeps from the joint law, Gaussian data in 8 dimensions; [rows] indices."""
    law = Gaussian("g", torch.zeros(8, dtype=torch.float64), torch.full((8,), 0.25, dtype=torch.float64))
    rho = dmcmc.noise_levels(0.01, 50.0, 60)
    k = dmcmc.level_of(Philox(1, rows).uniform("k", (rows,)), 60)
    for j in range(moves):
        spread = (0.25 + rho[k] ** 2).sqrt()[:, None]
        y = spread * Philox(2, rows).at(j).normal("y", torch.empty(rows, 8, dtype=torch.float64))  # y | k exactly
        u = Philox(2, rows).at(j).uniform("level", (rows,)) if gibbs == "sample" else None
        k = dmcmc.gibbs_level(logits_of(law)(y, rho), u)
    return k.double()


def test_gibbs_by_sampling_keeps_the_levels_uniform_and_argmax_does_not():
    """Invariants 1, 2: mean and variance of k over 60 levels, 4,000 chains, at five standard errors."""
    mean, variance = 59 / 2, (60**2 - 1) / 12
    error = (variance / 4000) ** 0.5
    spread = (variance**2 * 0.8 / 4000) ** 0.5  # kurtosis of a uniform law is 1.8
    drawn, chosen = stationary("sample"), stationary("argmax")
    assert abs(drawn.mean() - mean) <= 5 * error and abs(drawn.var() - variance) <= 5 * spread
    assert abs(chosen.var() - variance) > 5 * spread


@pytest.mark.parametrize(("n_skip", "biased"), [(0, False), (10, True)])
def test_the_smallest_level_of_several_is_no_draw(n_skip, biased):
    """Exact sweeps y | k, k | y from the joint law of N(0, 1/4 I) in 8 dimensions, and the states that are kept:
    |y|^2/v(rho) has mean 8 and variance 16 if y is a draw of p(y | rho); 4,000 chains, five standard errors."""
    rows, rho = 4000, dmcmc.noise_levels(0.01, 50.0, 60)
    law = Gaussian("g", torch.zeros(8, dtype=torch.float64), torch.full((8,), 0.25, dtype=torch.float64))
    k, states = dmcmc.level_of(Philox(1, rows).uniform("k", (rows,)), 60), []
    for j in range(n_skip + 1):
        draws = Philox(2, rows).at(j)
        y = (0.25 + rho[k] ** 2).sqrt()[:, None] * draws.normal("y", torch.empty(rows, 8, dtype=torch.float64))
        k = dmcmc.gibbs_level(logits_of(law)(y, rho), draws.uniform("level", (rows,)))
        states.append(dmcmc.State(y, rho[k]))
    kept = dmcmc.cleanest(states)
    off = (kept.y.square().sum(1) / (0.25 + kept.rho**2)).mean().item() - 8
    error = (16 / rows) ** 0.5
    assert (off > 5 * error) if biased else (abs(off) < 5 * error), off / error


def test_an_unstable_move_is_followed_by_a_higher_level():
    """Balls of gmm-64's std .15 at rho = .01, v = .0226: eta = .5 > 4 v overshoots tenfold, and every level drawn then
    is one at which it is stable (4 v(rho) > .5 above rho = .32); eta = .08 < 4 v leaves them below."""
    rows, rho = 500, dmcmc.noise_levels(0.01, 50.0, 200)
    law = Gaussian("g", torch.zeros(64, dtype=torch.float64), torch.full((64,), 0.0225, dtype=torch.float64))
    y, draws = 0.0226**0.5 * normals(rows, 64), Philox(3, rows)
    state = dmcmc.State(y, torch.full((rows,), 0.01, dtype=torch.float64))
    found = {}
    for eta in (0.5, 0.08):
        ahead = dmcmc.langevin(scaled(law, rows), state, eta, draws.normal("langevin", y))
        found[eta] = rho[dmcmc.gibbs_level(logits_of(law)(ahead, rho), draws.uniform("level", (rows,)))]
    assert found[0.5].min() > (0.5 / 4 - 0.0225) ** 0.5 > found[0.08].mean()


def test_gibbs_draws_the_posterior_by_inverse_cdf():
    logits = column(0.2, 0.3, 0.5).log()[None].expand(5, 3) + 700.0
    assert dmcmc.gibbs_level(logits, column(0.1, 0.21, 0.49, 0.51, 1 - 1e-16)).tolist() == [0, 1, 1, 2, 2]
    assert dmcmc.gibbs_level(logits, None).tolist() == [2] * 5


def test_the_cleanest_state_is_the_first_of_the_smallest():
    states = [
        dmcmc.State(torch.full((3, 2), float(j)), column(*rho))
        for j, rho in enumerate([(1, 1, 1), (2, 0.5, 1), (0.1, 0.5, 3)])
    ]
    best = dmcmc.cleanest(states)
    assert best.rho.tolist() == [0.1, 0.5, 1.0] and best.y[:, 0].tolist() == [2.0, 1.0, 0.0]


def test_noise_levels():
    """u from 1 to .001 evenly: 50 down to .01 (5000)^.001."""
    rho = dmcmc.noise_levels(0.01, 50.0)
    assert dmcmc.level_of(column(0.9989, 0.9991)).tolist() == [998, 999]  # of as many by default
    assert (
        rho[0].item() == pytest.approx(50) and rho[-1].item() == pytest.approx(0.01 * 5000**0.001) and len(rho) == 1000
    )
    torch.testing.assert_close(rho.log().diff(), (rho[1] / rho[0]).log().expand(999), rtol=1e-9, atol=0)


# A whole run


def sampled(rows=6, grid=None, **options):
    grid = grids.power_to_zero(7.0)(5, VE) if grid is None else grid
    law = targets.named("mixture-2d")
    options = {"levels": 100, "warm": 2, "burn": 1, "n_skip": 3} | options
    return dmcmc.sample(
        targets.exact(law, VE), 50 * normals(rows, 2), grid, process=VE, draws=Philox(5, rows),
        **{"noise_logits": logits_of(law)} | options,
    )  # fmt: skip


def test_no_skips_and_the_noisiest_level_is_the_plain_integrator():
    """Invariant 4 bitwise: chain = False, and integrated() from the grid's start."""
    grid = grids.power_to_zero(7.0)(5, VE)
    levels = dmcmc.levels_from(torch.full((6,), 50.0, dtype=torch.float64), 0.01, *dmcmc.spacing(grid, VE))
    y = dmcmc.integrated(scaled(targets.named("mixture-2d"), 6), 50 * normals(6, 2), levels, Philox(5, 6), "kar1")
    assert torch.equal(sampled(chain=False, tweedie=0.0).x, y)
    t = torch.full((6,), 0.01, dtype=torch.float64)
    mean = targets.exact(targets.named("mixture-2d"), VE)(y, 0.01)
    torch.testing.assert_close(sampled(chain=False).x, mean, rtol=1e-12, atol=1e-12)
    score = scaled(targets.named("mixture-2d"), 6).score(y, t)
    torch.testing.assert_close(sampled(chain=False).x, y + 0.01**2 * score, rtol=1e-12, atol=1e-12)  # invariant 6


@pytest.mark.parametrize("claim", catalogue.samplers()["kim2023dmcmc.dlg"].reduces, ids=lambda claim: claim.to)
@pytest.mark.parametrize("ending", ["card", "noisy"])
def test_reductions_hold_on_the_card_s_own_grid_to_clean_data(claim, ending):
    """The generic law stops at noisy data, where there is no Tweedie's step; on the card's own grid there is one."""
    card, other = catalogue.samplers()["kim2023dmcmc.dlg"], catalogue.samplers()[claim.to]
    law = targets.named("mixture-2d")
    model, x = targets.exact(law, VE), 50 * normals(6, 2)
    grid = (card.grid if ending == "card" else grids.power(7.0))(8, VE)
    ours = card.sample(
        model, x, grid, process=VE, draws=Philox(5, 6), noise_logits=logits_of(law), **claim.options
    )  # fmt: skip
    theirs = other.sample(model, x, grid, process=VE, draws=Philox(5, 6), **claim.to_options)
    torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-12 * (1 + theirs.x.abs().max().item()))
    assert ours.nfe == theirs.nfe


@pytest.mark.parametrize(("integrator", "each"), [("kar1", 9), ("kar2", 9), ("euler", 5)])
def test_evaluations(integrator, each):
    """n_skip + (2 steps - 1 or steps) + 1 for an output, 37 + warm + burn for a chain, shared by its outputs."""
    assert sampled(integrator=integrator).nfe == 37 + 3 + 3 + each + 1
    three, four = (sampled(integrator=integrator, outputs=n).nfe for n in (3, 4))
    assert three == pytest.approx((37 + 3) * 2 / 6 + 3 + each + 1)
    assert four == pytest.approx((2 * (37 + 3) + 2 * 4 * 3) / 6 + each + 1)  # 6 of 8 are kept
    noisy = sampled(integrator=integrator, grid=grids.power(7.0)(5, VE))
    assert noisy.nfe == 37 + 3 + 3 + (5 if integrator == "euler" else 10)


def test_a_chain_by_hand():
    """Descent by KAR2, kick, a level, two warm moves of .7 and one of eta; then the cleanest of three moves and the
    state before them, twice."""
    law, rows = targets.named("mixture-2d"), 5
    model, draws, y = scaled(law, rows), Philox(5, rows), 50 * normals(rows, 2)
    levels = dmcmc.levels_from(torch.full((rows,), 50.0, dtype=torch.float64), 0.01, places(19), True)
    z = dmcmc.integrated(model, y, levels, draws, "kar2", tag="descent") + 0.2 * draws.normal("kick", y)
    state, found = dmcmc.State(z, z[:0]), []
    for j, eta in enumerate([0.0, 0.7, 0.7, 0.3, *[0.3] * 6]):
        state = dmcmc.moved(
            model, state, eta, draws.at(j), rows, noise_logits=logits_of(law), rho=dmcmc.noise_levels(0.01, 50.0, 80),
            gibbs="sample",
        )  # fmt: skip
        found.append(state)
    options = dict(
        eta=0.3, kick=0.2, warm=2, warm_size=0.7, burn=1, levels=80, gibbs="sample", noise_logits=logits_of(law)
    )
    one = dmcmc.outputs_of_chains(model, y, 50.0, 0.01, draws, outputs=1, n_skip=3, **options)
    best = dmcmc.cleanest(found[3:7])
    assert torch.equal(one.rho, best.rho)
    torch.testing.assert_close(one.y, best.y, rtol=1e-9, atol=1e-9)
    lowest = [dmcmc.cleanest(found[3 + k : 7 + k]).rho for k in range(4)]
    assert all((a != b).any() for a, b in zip(lowest, lowest[1:], strict=False))  # every end of the window matters
    two = dmcmc.outputs_of_chains(model, y.repeat(2, 1), 50.0, 0.01, Twice(draws), outputs=2, n_skip=3, **options)
    assert torch.equal(two.rho, torch.cat([best.rho, dmcmc.cleanest(found[6:10]).rho]))


class Twice:
    """Draws for 2 rows of each of another source's, the first halves its own."""

    def __init__(self, draws):
        self.draws = draws

    def at(self, *where):
        return Twice(self.draws.at(*where))

    def normal(self, tag, like):
        half = self.draws.normal(tag, like[: len(like) // 2])
        return torch.cat([half, half])

    def uniform(self, tag, shape):
        half = self.draws.uniform(tag, (shape[0] // 2, *shape[1:]))
        return torch.cat([half, half])


def test_outputs_of_one_chain_follow_each_other():
    """Row b belongs to chain b mod 2 of the first two starts: the first outputs are those of the chains alone."""
    together = sampled(outputs=3, tweedie=0.0).x
    other = sampled(outputs=3, tweedie=0.0, n_skip=3, burn=4).x  # three moves later each chain gives its next output
    torch.testing.assert_close(together[2:6], other[:4], rtol=1e-12, atol=1e-12)


def autocorrelation_time(y):
    """1 + 2 sum_l r_l up to the first r_l below .05, of y [outputs,chains,d]; r_l is that of all together."""
    y = y - y.mean((0, 1))
    r = [(y[: len(y) - lag] * y[lag:]).mean() / y.square().mean() for lag in range(len(y))]
    last = next((lag for lag, value in enumerate(r) if value < 0.05), len(r))
    return 1 + 2 * float(sum(r[1:last]))


@pytest.mark.parametrize(("outputs", "correlated"), [(15, True), (1, False)])
def test_outputs_of_one_chain_are_correlated(outputs, correlated):
    """Ten chains of 15 outputs on gmm-64, three moves apart: two outputs are worth less than one; 150 chains of one
    output each, in the same order, are independent."""
    rows, grid = 150, grids.power_to_zero(7.0)(2, VE)
    found = dmcmc.sample(
        targets.exact(GMM, VE), 50 * normals(rows, 1, 8, 8, seed=33), grid, process=VE, draws=Philox(33, rows),
        noise_logits=logits_of_gmm, levels=40, outputs=outputs, n_skip=3, integrator="euler",
    ).x  # fmt: skip
    time = autocorrelation_time(found.flatten(1).unflatten(0, (15, 10)))
    assert (time > 2) if correlated else (time < 1.5), time


def test_a_run_on_another_path_is_the_same_in_y():
    """x/alpha and rho are all there is: VP and VE agree, draws and posterior being in y."""
    vp = process.named("vp-linear").between(1e-3, 0.9)
    grid = grids.uniform_lam(6, vp)
    wide = process.named("ve-edm").between(vp.rho(1e-3), vp.rho(0.9))
    law, y = targets.named("mixture-2d"), vp.rho(0.9) * normals(4, 2)
    ends = [
        dmcmc.sample(
            targets.exact(law, path), y * path.alpha(times[0].item()), times, process=path, draws=Philox(5, 4),
            noise_logits=logits_of(law), levels=50, warm=1, burn=1,
        ).x / path.alpha(times[-1].item())
        for path, times in ((vp, grid), (wide, vp.rho(grid)))
    ]  # fmt: skip
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-7, atol=1e-7)


# The classifier


def told(logits, rho, path=VE):
    """A model whose classifier is logits(y) for the levels rho."""
    return dmcmc.Levelled("mean", lambda x, t: x, rho, logits)


def _noised_by_another_level(model, x0, t, noise, *, process):
    return dmcmc.classifier_loss(model, x0, t, 1.1 * noise, process=process)


def _smoothed(model, x0, t, noise, *, process):
    level = (process.rho(t)[:, None] - model.rho).abs().argmin(1)
    logits = model.logits(x0 + model.rho[level][:, None] * noise)
    return torch.nn.functional.cross_entropy(logits, level, reduction="none", label_smoothing=0.1)


def _next_level(model, x0, t, noise, *, process):
    later = dmcmc.Levelled(model.kind, model.predict, model.rho, lambda y: model.logits(y).roll(1, 1))
    return dmcmc.classifier_loss(later, x0, t, noise, process=process)


@pytest.mark.parametrize(
    ("loss", "shift", "still"),
    [
        (dmcmc.classifier_loss, 0.0, True), (dmcmc.classifier_loss, 0.3, False),
        (_noised_by_another_level, 0.0, False), (_smoothed, 0.0, False), (_next_level, 0.0, False),
    ],
)  # fmt: skip
def test_the_posterior_minimises_the_classifier_s_loss(loss, shift, still):
    """Gradient of the expected loss at the exact posterior of every y on a grid, by sums: three atoms, seven levels.

    E over (k, a, e) of the loss of a classifier that is a free table over y: quadrature over y in place of e. Of a
    loss that noises by another level, smooths or shifts labels, the posterior is no stationary point.
    """
    law, rho = column(-1.0, 0.4, 1.5), dmcmc.noise_levels(0.1, 3.0, 7)
    at = torch.linspace(-9, 9, 61, dtype=torch.float64)
    everywhere = torch.meshgrid(torch.arange(7), torch.arange(3), torch.arange(61), indexing="ij")
    k, a, y = (each.flatten() for each in everywhere)
    noise = (at[y] - law[a]) / rho[k]  # the e that leads from atom a to y at level k
    weight = (-(noise**2) / 2).exp() / rho[k]
    joint = torch.zeros(61, 7, dtype=torch.float64).index_put_((y, k), weight, accumulate=True)
    table = ((joint / joint.sum(1, keepdim=True)).clamp(min=1e-300).log() + shift * torch.arange(7)).requires_grad_()
    model = told(lambda state: table[(state - at).abs().argmin(1)], rho)  # the table's row of the nearest y
    each = loss(model, law[a][:, None], rho[k], noise[:, None], process=VE)
    slope = torch.autograd.grad((weight * each).sum() / weight.sum(), table)[0].abs().max().item()
    assert (slope <= 1e-14) if still else (slope > 1e-4), slope


def test_classifier_loss_is_the_cross_entropy_at_the_noised_state():
    """On VE at the time of each level, and on VP, where y = x/alpha has the same levels at other times."""
    x0, noise, rho = normals(3, 2), normals(3, 2, seed=9), dmcmc.noise_levels(0.1, 3.0, 4)
    k, table = torch.tensor([0, 2, 3]), normals(3, 4, seed=10)
    for path in (VE, process.named("vp-linear")):
        seen = []
        model = told(lambda y, seen=seen: seen.append(y) or table, rho)
        loss = dmcmc.classifier_loss(model, x0, path.time_of_logsnr(-rho.log())[k], noise, process=path)
        torch.testing.assert_close(loss, table.logsumexp(1) - table[torch.arange(3), k])
        torch.testing.assert_close(seen[0], x0 + rho[k][:, None] * noise)
    assert dmcmc.level_of(column(0.0, 0.2499, 0.25, 1 - 1e-16, 1.0), 4).tolist() == [0, 0, 1, 3, 3]


def test_the_objective_s_times_are_those_of_the_levels_all_alike():
    """Two u in each of 1,000 strata: every level of the notebook's list twice, and the loss finds its index again."""
    card = catalogue.objectives()["kim2023dmcmc.noise_classifier"]
    rho, u = dmcmc.noise_levels(0.01, 50.0), (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    t = card.times(u, VE)
    torch.testing.assert_close(t, rho.repeat_interleave(2), rtol=1e-9, atol=0)
    tables = torch.eye(1000, dtype=torch.float64).log().clamp(min=-50.0)[torch.arange(2000) // 2]
    x0 = torch.zeros(2000, 1, dtype=torch.float64)
    assert card.loss(told(lambda y: tables, rho), x0, t, x0, process=VE).abs().max() <= 1e-12
    assert torch.equal(dmcmc.level_times(u[::500], VE, 4).log().argsort(), torch.tensor([3, 2, 1, 0]))


def levelled(levels=100, trained=VE):
    """The exact denoiser of mixture-2d beside its exact posterior as a network."""
    law = targets.named("mixture-2d")
    rho = dmcmc.noise_levels(0.01, 50.0, levels)
    return dmcmc.levelled(
        lambda y: logits_of(law)(y, rho), process=VE, mean=targets.exact(law, VE), trained=trained, levels=levels
    )


def test_a_classifier_knows_a_thousand_levels_unless_said():
    model = dmcmc.levelled(lambda y: y, process=VE, mean=told(None, None), trained=VE.between(0.01, 50.0))
    assert torch.equal(model.rho, dmcmc.noise_levels(0.01, 50.0, 1000))


def test_a_model_that_knows_levels_is_asked_instead_of_the_aid():
    """With the exact posterior in its net a Levelled model gives what the aid gives; the aid then is not called."""

    def never(y, rho):
        raise AssertionError("the aid was asked")

    grid = grids.power_to_zero(7.0)(5, VE)
    for aid in ({}, {"noise_logits": never}):
        found = dmcmc.sample(
            levelled(), 50 * normals(6, 2), grid, process=VE, draws=Philox(5, 6), levels=100, warm=2, burn=1, n_skip=3,
            **aid,
        )  # fmt: skip
        assert torch.equal(found.x, sampled().x) and found.nfe == sampled().nfe


@pytest.mark.parametrize(
    ("model", "process_"),
    [({"levels": 99}, VE), ({"trained": VE.between(0.02, 50.0)}, VE), ({}, VE.between(0.01, 49.0))],
)
def test_a_classifier_of_other_levels_is_refused_before_the_first_call(model, process_):
    known = levelled(**model)

    def never(*_):
        raise AssertionError("evaluated")

    silent = dmcmc.Levelled("mean", never, known.rho, never)
    with pytest.raises(ValueError, match="levels: 100 from .* expected the model's own .* set levels and the process"):
        dmcmc.sample(
            silent, 50 * normals(2, 2), grids.power_to_zero(7.0)(3, process_), process=process_, draws=Philox(1, 2),
            levels=100,
        )  # fmt: skip


def test_defaults_are_the_notebook_s_but_for_the_draw_of_levels():
    found = {name: option.default for name, option in inspect.signature(dmcmc.sample).parameters.items()}
    assert (
        dict(integrator="kar1", gibbs="sample", chain=True, outputs=1, n_skip=10, levels=1000).items() <= found.items()
    )
    burning = dict(eta=0.5, kick=0.5, warm=10, warm_size=0.5, burn=10, tweedie=0.01)
    assert burning.items() <= found.items()


# Refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"integrator": "heun"}, "integrator: 'heun', expected one of kar1, kar2, euler"),
        ({"gibbs": "draw"}, "gibbs: 'draw', expected one of sample, argmax"),
        ({"noise_logits": None}, "noise_logits: None, expected log p"),
        *(({name: 0}, f"{name}: 0, expected an integer >= 1") for name in ("outputs", "levels")),
        *(({name: -1}, f"{name}: -1, expected an integer >= 0") for name in ("n_skip", "warm", "burn")),
        *(
            ({name: bad}, f"{name}: {bad!r}, expected an integer")
            for name in ("outputs", "levels", "n_skip", "warm", "burn") for bad in (1.5, math.nan, True, "2")
        ),
        *(
            ({name: bad}, f"{name}: {bad!r}, expected a finite number of at least 0")
            for name in ("eta", "kick", "warm_size", "tweedie") for bad in (-0.1, math.nan, math.inf, "2")
        ),
    ],
)  # fmt: skip
def test_bad_options(options, said):
    """Each names its argument and value, before the first evaluation."""

    def never(x, t):
        raise AssertionError("evaluated")

    with pytest.raises(ValueError, match=said):
        dmcmc.sample(
            Predictor("mean", never), 50 * normals(2, 2), grids.power_to_zero(7.0)(5, VE), process=VE,
            draws=Philox(5, 2), **{"noise_logits": lambda y, rho: y[:, :1] * rho} | options,
        )  # fmt: skip


def test_a_start_without_signal_is_refused_before_the_first_call():
    def never(x, t):
        raise AssertionError("evaluated")

    path = process.named("condot")
    with pytest.raises(grids.BadGrid, match="noise levels"):
        dmcmc.sample(
            Predictor("mean", never), normals(2, 2), grids.uniform_t(4, path), process=path, draws=Philox(1, 2),
            noise_logits=logits_of(targets.named("mixture-2d")),
        )  # fmt: skip
