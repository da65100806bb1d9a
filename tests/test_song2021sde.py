"""song2021sde: the numbered invariants of its card, the code's chain, likelihood, conditions, refusals."""

import math
import re
from itertools import product

import pytest
import torch

from benchmarks import suites
from benchmarks.jobs import UsageError, job
from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from benchmarks.laws.impulses import output_law
from reference_impls import catalogue, targets
from reference_impls.continuous import song2021sde as sde
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Guide, Predictor, expand

VP, SUBVP, VE = (process.named(name) for name in ("vp-linear", "subvp", "ve-geo"))
CONDOT = process.named("condot").between(1e-3, 0.999)
G3 = targets.named("g3")
SAMPLERS = catalogue.samplers()
X3 = torch.tensor([[0.3, -0.4], [1.1, 0.2], [-0.7, 2.0]], dtype=torch.float64)


def beta(t):
    return 0.1 + 19.9 * t


def gaussian(path, c: float) -> Predictor:
    def predict(x, t):
        alpha, sigma = expand(path.alpha(t), x), expand(path.sigma(t), x)
        return alpha * c / (alpha**2 * c + sigma**2) * x

    return Predictor("mean", predict)


def score_of(path, mean):
    return lambda x, t: (path.alpha(t) * mean(x, t) - x) / path.sigma(t) ** 2


# ---- the process -------------------------------------------------------------------------------------------------
def test_subvp_has_less_variance_than_vp():
    """Invariant 1, second half, at every time but 0."""
    t = torch.linspace(1e-5, 1, 200, dtype=torch.float64)
    assert (SUBVP.sigma(t) < VP.sigma(t)).all() and torch.equal(SUBVP.alpha(t), VP.alpha(t))


def test_discrete_vp_chain_is_the_published_one_and_tends_to_the_process():
    """beta_i = linspace(b0/N, b1/N, N); one step of the exact form on it is the chain's own; N -> infinity is VP."""
    betas = torch.linspace(0.1, 20.0, 100, dtype=torch.float64) / 100
    chain = sde.vp_chain(100)
    knots = torch.arange(100, -1, -1, dtype=torch.float64) / 100
    torch.testing.assert_close(chain.alpha(knots[:-1]).flip(0) ** 2, torch.cumprod(1 - betas, 0), rtol=1e-12, atol=0)
    step = sde.intervals(knots[:-1], knots[1:], chain)
    torch.testing.assert_close(step.b.flip(0), betas, rtol=1e-10, atol=0)
    torch.testing.assert_close(step.a.flip(0), (1 - betas).sqrt(), rtol=1e-12, atol=0)
    gaps = [(sde.vp_chain(n).lam(0.5) - VP.lam(0.5)) * n for n in (1000, 4000)]
    assert gaps[0] == pytest.approx(gaps[1], rel=0.02) and abs(gaps[0]) < 10
    with pytest.raises(ValueError, match="steps: 20, expected more than beta_max = 20"):
        sde.vp_chain(20)


# ---- predictors in exact form ------------------------------------------------------------------------------------
def by_hand(name: str, path, model, x, t, s, z):
    """One step in the paper's letters, for VP (beta, alpha-bar) and VE (sigma_i, sigma_{i-1})."""
    score, dt = score_of(path, model)(x, t), t - s
    if path is VE:
        drift, g2 = 0.0 * x, 2 * math.log(5000) * VE.sigma(t) ** 2
        a, b = 1.0, VE.sigma(t) ** 2 - VE.sigma(s) ** 2
        spread = math.sqrt(VE.sigma(s) ** 2 * b / VE.sigma(t) ** 2)
    else:
        drift, g2 = -beta(t) / 2 * x, beta(t)
        b = 1 - (VP.alpha(t) / VP.alpha(s)) ** 2  # the beta_i of a chain with these two knots
        a, spread = math.sqrt(1 - b), math.sqrt(b)
    return {
        "euler_maruyama": x - dt * (drift - g2 * score) + math.sqrt(g2 * dt) * z,
        "reverse_diffusion": (2 - a) * x + b * score + math.sqrt(b) * z,
        "ancestral_small" if path is VE else "ancestral_large": (x + b * score) / a + spread * z,
    }[name]


@pytest.mark.parametrize(
    ("name", "path"),
    [("euler_maruyama", VP), ("euler_maruyama", VE), ("reverse_diffusion", VP), ("reverse_diffusion", VE),
     ("ancestral_large", VP), ("ancestral_small", VE)],
)  # fmt: skip
@pytest.mark.parametrize("denoise", [False, True])
def test_predictors_are_the_published_steps(name, path, denoise):
    """Two steps with their noise at its own address; with noise removal the last one is a mean."""
    model, x, draws = exact_model(path), X3[:, :1], Philox(3, 3)
    times = (0.8, 0.45, 0.2)
    found = sde.sample(
        model, x, torch.tensor(times, dtype=torch.float64), process=path, draws=draws, predictor=name, denoise=denoise
    )
    for i in range(2):
        z = draws.at(i).normal("step", x) * float(not (denoise and i == 1))
        x = by_hand(name, path, model, x, times[i], times[i + 1], z)
    torch.testing.assert_close(found.x, x, rtol=1e-10, atol=1e-10)
    assert found.nfe == 2


@pytest.mark.parametrize("path", [VP, VE, SUBVP], ids=lambda path: path.name)
def test_flow_predictors_halve_the_score_and_drop_the_noise(path):
    model, x, t, s = exact_model(path), X3[:, :1], 0.6, 0.5
    grid = torch.tensor([t, s], dtype=torch.float64)
    score = score_of(path, model)(x, t)
    (f, g2), a = sde.diffusion.drift(grid[:1], path), path.alpha(t) / path.alpha(s)
    b = path.sigma(t) ** 2 - a**2 * path.sigma(s) ** 2
    for name, expected in (
        ("euler_maruyama", x - (t - s) * (f * x - g2 / 2 * score)),
        ("reverse_diffusion", (2 - a) * x + b / 2 * score),
    ):
        options = dict(process=path, draws=Philox(0, 3), predictor=name, flow=True)
        torch.testing.assert_close(sde.sample(model, x, grid, **options).x, expected, rtol=1e-10, atol=1e-10)


# ---- the code's chain --------------------------------------------------------------------------------------------
def shipped_error(c: float, steps: int, predictor: str, **options) -> float:
    """Relative variance error at eps = 1e-3, from N(0, 1), without noise removal (toolkit T5)."""
    grid = sde.chain_times(steps, VP)

    def run(x, draws):
        options_ = dict(process=VP, draws=draws, predictor=predictor, shipped=True, **options)
        return sde.sample(gaussian(VP, c), x, grid, **options_).x

    return output_law(run, 0.0, 1.0)[1] / (VP.alpha(1e-3) ** 2 * c + VP.sigma(1e-3) ** 2) - 1


SHIPPED = {  # invariant 3: at 100 and at 1,000 steps
    ("euler_maruyama", 0.25): (1.649e-2, 1.080e-3),
    ("reverse_diffusion", 0.25): (2.827e-2, 7.630e-3),
    ("ancestral_large", 0.25): (2.993e-3, 5.108e-3),
    ("euler_maruyama", 1.0): (1.421e-2, 1.400e-3),
    ("reverse_diffusion", 1.0): (2.916e-2, 2.807e-3),
    ("ancestral_large", 1.0): (0.0, 0.0),
}


@pytest.mark.parametrize(("predictor", "c"), SHIPPED)
def test_variance_errors_of_the_shipped_chains(predictor, c):
    found = [shipped_error(c, steps, predictor) for steps in (100, 1000)]
    assert found == pytest.approx(SHIPPED[predictor, c], abs=1e-14, rel=5e-4)  # four digits printed


@pytest.mark.parametrize("path", [VP, VE], ids=lambda path: path.name)
def test_the_ancestral_card_is_the_code_s_on_both_its_paths(path):
    """The third row of invariant 3 comes out of the card: v = beta_i on VP; the smaller v on VE, as by its name."""
    card, own = SAMPLERS["song2021sde.ancestral_shipped"], {VP: "ancestral_large", VE: "ancestral_small"}[path]
    assert path.name in card.paths
    grid, options = sde.chain_times(30, path), dict(process=path, draws=Philox(5, 3))
    start = X3[:, :1] * path.prior_std
    found = card.sample(exact_model(path), start, grid, **options).x
    named = sde.sample(exact_model(path), start, grid, predictor=own, shipped=True, denoise=True, **options).x
    assert torch.equal(found, named)
    found = sde.sample(exact_model(path), start, grid, predictor="ancestral", **options).x
    assert torch.equal(found, sde.sample(exact_model(path), start, grid, predictor=own, **options).x)
    if path is VP:
        for c in (0.25, 1.0):
            errors = []
            for steps in (100, 1000):
                grid = sde.chain_times(steps, VP)

                def run(x, z, c=c, grid=grid):
                    return card.sample(gaussian(VP, c), x, grid, process=VP, draws=z, denoise=False).x

                end = VP.alpha(1e-3) ** 2 * c + VP.sigma(1e-3) ** 2
                errors.append(output_law(run, 0.0, 1.0)[1] / end - 1)
            assert errors == pytest.approx(SHIPPED["ancestral_large", c], abs=1e-14, rel=5e-4)


def test_the_truncated_index_is_most_of_reverse_diffusion_s_error():
    """Invariant 3: with the nearest beta the error at 1,000 steps is +1.100e-3 instead of +7.630e-3."""
    assert shipped_error(0.25, 1000, "reverse_diffusion", nearest=True) == pytest.approx(1.100e-3, rel=5e-4)


def shipped_by_hand(path, name, model, x, t, steps, z, nearest=False):
    """One update of the code at time t with N = steps, from its own arrays, by index."""
    score, N = score_of(path, model)(x, t), steps
    index = round(t * (N - 1)) if nearest else int(t * (N - 1))
    if name == "euler_maruyama" or path is SUBVP:  # the code's reverse diffusion of sub-VP is Euler's
        whole = 0.1 * t + 19.9 * t**2 / 2
        g2 = {VP: beta(t), VE: 2 * math.log(5000) * VE.sigma(t) ** 2, SUBVP: -beta(t) * math.expm1(-2 * whole)}[path]
        drift = 0.0 * x if path is VE else -beta(t) / 2 * x
        return x - (drift - g2 * score) / N + math.sqrt(g2 / N) * z
    if path is VP:
        b = torch.linspace(0.1, 20.0, N, dtype=torch.float64)[index].item() / N
        root = math.sqrt(1 - b)
        return ((2 - root) * x + b * score if name == "reverse_diffusion" else (x + b * score) / root) + math.sqrt(
            b
        ) * z
    sigmas = torch.exp(torch.linspace(math.log(0.01), math.log(50.0), N, dtype=torch.float64))
    lower = sigmas[index - 1].item() if index else 0.0
    b = sigmas[index].item() ** 2 - lower**2
    spread = b if name == "reverse_diffusion" else b * (lower / sigmas[index].item()) ** 2
    return x + b * score + math.sqrt(spread) * z


CASES = [
    (VP, "euler_maruyama"), (VE, "euler_maruyama"), (SUBVP, "euler_maruyama"), (VP, "reverse_diffusion"),
    (VE, "reverse_diffusion"), (SUBVP, "reverse_diffusion"), (VP, "ancestral_large"), (VE, "ancestral_small"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "name"), CASES, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("nearest", [False, True])
def test_shipped_predictors_are_the_code_s_updates(path, name, nearest):
    """All 25 updates, last time t_min = .05 so that truncation and rounding differ; then the last mean alone."""
    path_, steps = path.between(0.05, 1.0), 25
    model, draws, start = exact_model(path), Philox(5, 3), X3[:, :1] * path.sigma(1.0)
    grid = sde.chain_times(steps, path_)
    for denoise in (False, True):
        x = start
        for i, t in enumerate(grid[:-1].tolist()):
            z = draws.at(i).normal("step", x) * float(not (denoise and i == steps - 1))
            x = shipped_by_hand(path, name, model, x, t, steps, z, nearest)
        options = dict(process=path_, draws=draws, predictor=name, shipped=True, nearest=nearest, denoise=denoise)
        torch.testing.assert_close(sde.sample(model, start, grid, **options).x, x, rtol=1e-9, atol=1e-9)


def test_shipped_chains_of_two_and_one_updates_have_their_ends_for_knots():
    """Their indices are the chain's last and first; VE and sub-VP, whose coefficients exist for so few."""
    for path, steps in ((VE, 2), (SUBVP, 2), (VE, 1)):
        path_, model, draws = path.between(0.05, 1.0), exact_model(path), Philox(5, 3)
        start, grid = X3[:, :1] * path.sigma(1.0), sde.chain_times(steps, path_)
        x = start
        for i, t in enumerate(grid[:-1].tolist()):
            x = shipped_by_hand(path, "reverse_diffusion", model, x, t, steps, draws.at(i).normal("step", x))
        options = dict(process=path_, draws=draws, predictor="reverse_diffusion", shipped=True, denoise=False)
        torch.testing.assert_close(sde.sample(model, start, grid, **options).x, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", [VP, VE, SUBVP], ids=lambda path: path.name)
def test_the_code_s_chain_is_on_even_times_alone(path):
    """Each of its N updates is 1/N long: elsewhere that is not the time to the next one, and no step count mends it."""

    def run(grid, model=None):
        model = model or gaussian(path, 0.25)
        return sde.sample(model, X3[:, :1], grid, process=path, draws=Philox(5, 3), shipped=True).x

    for name in ("lam", "t^2", "power(7)"):
        if (path.name, name) == ("ve-geo", "lam"):
            continue  # even times
        with pytest.raises(grids.BadGrid, match="grid: from 1, expected even times from 1 down; use chain_times"):
            run(grids.named(name)(25, path), Predictor("mean", never))
    nudged = sde.chain_times(25, path)
    nudged[7] += 1e-4
    with pytest.raises(grids.BadGrid, match="grid: from 1, expected even times"):
        run(nudged, Predictor("mean", never))
    for steps in (1, 2, 25, 1000):
        assert run(sde.chain_times(steps, path)).isfinite().all()
    for grid in (grids.uniform_t(25, path), sde.chain_times(25, path).float().double()):  # the code's are float32
        assert run(grid).isfinite().all()


def test_a_job_on_uneven_times_is_refused():
    fields = dict(
        kind="sample", method="song2021sde.euler_maruyama_shipped", target="g3", process="vp-linear", steps=48, n=20
    )
    for grid in ("own", "t"):
        assert job(grid=grid, **fields).grid == grid
    for grid in ("lam", "power(7)"):
        with pytest.raises(UsageError, match=f"grid: '{re.escape(grid)}' has no evenly spaced times, on which alone"):
            job(grid=grid, **fields)


def test_the_shelf_asks_the_code_s_chains_only_where_they_are_defined():
    """Every job of them in the suite `solvers` has a plan: even times, on VP more than 20."""
    asked = []
    for select in suites.named("solvers").select:
        ids = [card.id for card in suites.chosen_methods(select) if card.id in SAMPLERS and card.paths]
        cells = suites.cells_of(select.model_copy(update={"methods": ids}), 1.0)
        asked += [cell.job for cell in cells if isinstance(cell, suites.Cell)]
    assert {(each.method, each.process) for each in asked} == {
        (f"song2021sde.{name}_shipped", path)
        for name in ("euler_maruyama", "reverse_diffusion", "ancestral", "pc")
        for path in SAMPLERS[f"song2021sde.{name}_shipped"].paths
    }  # fmt: skip
    for name, path, grid, steps in {(each.method, each.process, each.grid, each.steps) for each in asked}:
        path = process.named(path)
        times = (SAMPLERS[name].grid if grid == "own" else grids.named(grid))(steps, path)
        assert len(sde.plan(times, path, **SAMPLERS[name].sample.keywords).t) == steps
        assert steps < 3 or times[:-1].diff(n=2).abs().max() < 1e-12, f"{name} on {path.name} {grid}: no even times"


def test_chain_times_are_the_code_s():
    found = sde.chain_times(5, VP)
    torch.testing.assert_close(found[:-1], torch.linspace(1.0, 1e-3, 5, dtype=torch.float64), rtol=0, atol=0)
    assert found[-1] == 0 and sde.chain_times(1, VP).tolist() == [1.0, 0.0]
    with pytest.raises(grids.BadGrid):
        sde.chain_times(0, VP)


# ---- correctors --------------------------------------------------------------------------------------------------
def length(rows):
    return rows.flatten(1).norm(dim=1)[:, None]


@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize("path", [VP, VE], ids=lambda path: path.name)
@pytest.mark.parametrize("corrector", ["langevin", "langevin_batch", "ald"])
def test_correctors_run_before_the_predictor_with_the_published_step(corrector, path, shipped):
    """d = 2 a_i (r |z|/|s|)^2, a_i = 1 - beta_i (VP) or 1; norms per row, or averaged, or their ratio sigma; M = 2."""
    draws, x, snr = Philox(5, 3), X3, 0.2
    grid = torch.linspace(0.8, 0.1, 31 if shipped else 4, dtype=torch.float64)  # enough for beta < 1
    model = targets.exact(targets.named("mixture-2d"), path)
    rows = sde.plan(grid, path, predictor="reverse_diffusion", corrector=corrector, shipped=shipped)
    found = sde.sample(
        model, x, grid, process=path, draws=draws, predictor="reverse_diffusion", corrector=corrector, snr=snr,
        corrections=2, shipped=shipped,
    )  # fmt: skip
    steps = len(grid) - 1
    for i, t in enumerate(grid[:-1].tolist()):
        s = grid[i + 1].item()
        damp = 1.0
        if path is VP:
            chain = torch.linspace(0.1, 20.0, steps, dtype=torch.float64) / steps
            damp = 1 - chain[int(t * (steps - 1))].item() if shipped else (VP.alpha(t) / VP.alpha(s)) ** 2
        for k in range(2):
            z, score = draws.at(i, k).normal("corrector", x), score_of(path, model)(x, t)
            ratio = {
                "langevin": length(z) / length(score),
                "langevin_batch": length(z).mean() / length(score).mean(),
                "ald": torch.tensor(path.sigma(t), dtype=torch.float64),
            }[corrector]
            d = 2 * damp * (snr * ratio) ** 2
            x = x + d * score + (2 * d).sqrt() * z
        x = rows.keep[i] * x + rows.pull[i] * model(x, t) + rows.noise[i] * draws.at(i).normal("step", x)
    torch.testing.assert_close(found.x, x, rtol=1e-9, atol=1e-9)
    assert found.nfe == 3 * steps


def test_corrector_alone_settles_at_its_biased_variance():
    """Invariant 7: v/(1 - d/(2v)) for a fixed d, here ALD on point data (v = sigma^2, d = 2 r^2 v); also PC's floor."""
    path = process.named("ve-edm").between(0.5, 1.0)
    still = torch.tensor([0.5 + 1e-12, 0.5], dtype=torch.float64)
    options = dict(process=path, predictor="none", corrector="ald", snr=0.3, corrections=100)
    run = output_law(lambda x, draws: sde.sample(gaussian(path, 0.0), x, still, draws=draws, **options).x, 0.0, 1.0)
    assert run[1] / 0.25 == pytest.approx(1 / (1 - 0.3**2), rel=1e-6)


@pytest.mark.parametrize("steps", [100, 400])
def test_the_corrector_s_bias_does_not_vanish_with_the_steps(steps):
    """Cost: an exact predictor multiplies the excess u of variance by q, ALD maps it to (1-e)^2 u + e^2, e = 2r^2.

    On point data and VE u tends to q e^2/(1 - q (1-e)^2), so with q -> 1 to r^2/(1 - r^2), not to 0.
    """
    path, snr = process.named("ve-edm").between(0.05, 20.0), 0.16
    grid, errors = grids.uniform_lam(steps, path), {}
    for corrector in ("none", "ald"):
        options = dict(process=path, predictor="ancestral_small", corrector=corrector, snr=snr)
        run = output_law(lambda x, z, o=options: sde.sample(gaussian(path, 0.0), x, grid, draws=z, **o).x, 0.0, 400.0)
        errors[corrector] = run[1] / 0.05**2 - 1
    q, e = (0.05 / 20) ** (2 / steps), 2 * snr**2
    assert abs(errors["none"]) < 1e-11
    assert errors["ald"] == pytest.approx(q * e**2 / (1 - q * (1 - e) ** 2), rel=1e-3)  # (q (1-e)^2)^100 = 3e-5 left
    assert errors["ald"] < snr**2 / (1 - snr**2)


def test_a_score_of_zero_moves_nothing():
    x = torch.zeros(2, 3, dtype=torch.float64)
    still = Predictor("mean", lambda y, t: y)  # VE: the score is 0
    for corrector in ("langevin", "langevin_batch"):
        options = dict(process=VE, draws=Philox(0, 2), predictor="none", corrector=corrector)
        found = sde.sample(still, x, grids.uniform_t(3, VE), **options).x
        assert torch.equal(found, x)


def test_batch_norms_couple_rows_and_norms_per_row_do_not():
    """Register entry 10: with the code's norms a sample depends on its batch."""
    model, x, grid = targets.exact(targets.named("mixture-2d"), VE), X3 * 50, grids.uniform_t(6, VE)
    for corrector, alike in (("langevin", True), ("langevin_batch", False)):
        options = dict(process=VE, predictor="reverse_diffusion", corrector=corrector)
        whole = sde.sample(model, x, grid, draws=Philox(1, 3), **options).x[:1]
        alone = sde.sample(model, x[:1], grid, draws=Philox(1, 1), **options).x
        assert torch.allclose(whole, alone, rtol=1e-10, atol=1e-10) is alike


# ---- the probability flow ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [VP, SUBVP, VE.between(1e-3, 1.0)], ids=lambda path: path.name)
def test_encoding_keeps_quantiles_and_is_undone_by_the_flow(path):
    """Invariant 6: x_0 -> x_1 is the CDF map, x_1 -> x_0 its inverse, to the solver's tolerance."""
    x, grid = torch.linspace(-1.5, 1.8, 7, dtype=torch.float64)[:, None], grids.uniform_t(1, path)
    options = dict(process=path, draws=Silence(), rtol=1e-8, atol=1e-8)
    latent = sde.encode(exact_model(path), x, grid, **options)
    ends = [curve(t) for t in (path.t_min, path.t_max) for curve in (path.alpha, path.sigma)]
    torch.testing.assert_close(latent.x, G3.flow(x, *ends), rtol=1e-5, atol=1e-5)
    back = sde.probability_flow(exact_model(path), latent.x, grid, **options)
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-5)
    assert latent.nfe > 0 and back.nfe > 0


@pytest.mark.parametrize(("path", "shrink"), [(VP, None), (VE, None), (SUBVP, None)], ids=["VP", "VE", "sub-VP"])
def test_the_flow_s_end_can_be_denoised(path, shrink):
    """Tweedie's mean; or the code's step with beta_0 = .1/1000 (VP), sigma_0 (VE), Euler's 1/1000 (sub-VP)."""
    x, grid = X3[:, :1], grids.uniform_t(1, path.between(path.t_min, 0.5))
    run = {
        denoise: sde.probability_flow(exact_model(path), x, grid, process=path, draws=Silence(), denoise=denoise)
        for denoise in ("none", "mean", "chain")
    }
    end, t = run["none"].x, grid[-1].item()
    score = score_of(path, exact_model(path))(end, t)
    torch.testing.assert_close(run["mean"].x, exact_model(path)(end, t), rtol=1e-12, atol=1e-12)
    code = {
        VP: lambda: (2 - math.sqrt(1 - 1e-4)) * end + 1e-4 * score,
        VE: lambda: end + 0.01**2 * score,
        SUBVP: lambda: shipped_by_hand(SUBVP, "reverse_diffusion", exact_model(SUBVP), end, t, 1000, 0.0),
    }[path]()
    torch.testing.assert_close(run["chain"].x, code, rtol=1e-9, atol=1e-9)
    assert run["mean"].nfe == run["chain"].nfe == run["none"].nfe + 1


# ---- likelihood --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "tolerance"),
    [
        (VP.between(1e-5, 1.0), 1e-13),
        (VE, 1e-13),
        (SUBVP, 1e-11),
        (process.named("condot").between(1e-3, 0.999), 1e-11),
    ],
    ids=["VP", "VE", "sub-VP", "condot"],
)
def test_log_density_through_the_flow_is_the_closed_one(path, tolerance):
    """Invariant 4: with the exact p_T for the prior. The card measures 4e-13 .. 2e-12; bound: 20 step tolerances."""
    x = torch.tensor([[-1.5], [0.5], [1.5]], dtype=torch.float64)
    meter = sde.types.require(exact_model(path), "mean", 3)
    latent, gained = sde.diffusion.flow_with_divergence(
        meter, x, path.t_min, path.t_max, process=path, rtol=tolerance, atol=tolerance
    )
    ends = [(path.alpha(t), path.sigma(t)) for t in (path.t_min, path.t_max)]
    found = G3.log_prob(latent, *ends[1]) + gained
    assert (found - G3.log_prob(x, *ends[0])).abs().max().item() <= 20 * tolerance


def test_the_prior_s_mismatch_and_the_last_time_are_as_they_must():
    """Invariant 4: with the Gaussian prior it is off by log prior - log p_T at the latent, thousandths of a nat on VP.

    |log p_eps - log p_0| is the card's 4e-5 at eps = 1e-5.
    """
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None]
    path = VP.between(1e-5, 1.0)
    ends = [(path.alpha(t), path.sigma(t)) for t in (1e-5, 1.0)]
    closed = G3.log_prob(x, *ends[0])
    assert (closed - G3.log_prob(x)).abs().max().item() == pytest.approx(4e-5, rel=0.1)
    latent = G3.flow(x, *ends[0], *ends[1])
    mismatch = torch.distributions.Normal(0.0, 1.0).log_prob(latent[:, 0]) - G3.log_prob(latent, *ends[1])
    found = sde.log_prob(exact_model(path), x, process=path, draws=Silence(), rtol=1e-7, atol=1e-7)
    assert 1e-3 < mismatch.abs().max().item() < 7e-3
    torch.testing.assert_close(found - closed, mismatch, rtol=0, atol=1e-5)  # a hundred times that of a step


@pytest.mark.parametrize("path", [VP, VE], ids=lambda path: path.name)
def test_log_prob_adds_the_process_s_prior(path):
    x = torch.linspace(-1.8, 1.8, 3, dtype=torch.float64)[:, None].expand(3, 2)
    model = gaussian(path, 0.4)
    variance = [path.alpha(t) ** 2 * 0.4 + path.sigma(t) ** 2 for t in (path.t_min, path.t_max)]
    latent = x * math.sqrt(variance[1] / variance[0])
    prior = torch.distributions.Normal(0.0, 1.0 if path is VP else 50.0).log_prob(latent).sum(1)
    found = sde.log_prob(model, x, process=path, draws=Silence(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, prior + math.log(variance[1] / variance[0]), rtol=0, atol=1e-6)


SIGNS = [list(signs) for signs in product((1.0, -1.0), repeat=2)]


class Probe:
    def __init__(self, v):
        self.v = v

    def normal(self, tag, like):
        assert tag == "probe"
        return torch.tensor([self.v], dtype=like.dtype)


def moments_of_probes(divergence):
    """Mean and variance of log p over probes, for data N(0, S): by all signs, or by Gauss-Hermite with 3 x 3 nodes."""
    path, target = VP.between(0.05, 0.9), targets.named("gaussian-2d")
    model, x = targets.exact(target, path), torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    options = dict(process=path, rtol=1e-7, atol=1e-7)
    exact = sde.log_prob(model, x, draws=Silence(), **options).item()
    if divergence == "rademacher":
        nodes = [(v, 0.25) for v in SIGNS]
    else:  # exact for polynomials of degree 5: v v^T squared has degree 4 in each
        one = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
        nodes = [([a, b], p * q) for (a, p), (b, q) in product(one, repeat=2)]
    found = [sde.log_prob(model, x, draws=Probe(v), divergence=divergence, **options).item() for v, _ in nodes]
    mean = sum(w * value for value, (_, w) in zip(found, nodes, strict=True))
    variance = sum(w * (value - mean) ** 2 for value, (_, w) in zip(found, nodes, strict=True))
    t = torch.linspace(0.05, 0.9, 2001, dtype=torch.float64)
    c, k = sde.diffusion.slopes(t, path)
    gains = path.alpha(t)[:, None] * target.variances
    gains = gains / (path.alpha(t)[:, None] * gains + path.sigma(t)[:, None] ** 2)
    spectrum = torch.trapezoid(c[:, None] + k[:, None] * gains, t, dim=0)  # of the integrated Jacobian of u
    jacobian = target.basis @ spectrum.diag() @ target.basis.T
    squares = jacobian.square().sum().item()
    if divergence == "rademacher":
        squares -= jacobian.diagonal().square().sum().item()
    return mean, variance, exact, 2 * squares


@pytest.mark.parametrize("divergence", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_with_the_published_variance(divergence):
    """Invariant 5, for the integral over a linear flow: variance 2 (|J|_F^2 - sum J_ii^2), or 2 |J|_F^2."""
    mean, variance, exact, expected = moments_of_probes(divergence)
    assert mean == pytest.approx(exact, abs=1e-5)
    assert variance == pytest.approx(expected, rel=1e-4) and variance > 0.01


def test_signs_are_exact_in_one_dimension_and_the_probe_is_the_draw():
    path = VP.between(0.05, 0.9)
    x = torch.tensor([[0.4], [-0.3]], dtype=torch.float64)
    options = dict(process=path, rtol=1e-7, atol=1e-7)
    exact = sde.log_prob(exact_model(path), x, draws=Silence(), **options)
    signs = sde.log_prob(exact_model(path), x, draws=Philox(3, 2), divergence="rademacher", **options)
    torch.testing.assert_close(signs, exact, rtol=0, atol=1e-12)
    normal = sde.log_prob(exact_model(path), x, draws=Philox(3, 2), divergence="gaussian", **options)
    assert ((normal - exact).abs() > 1e-3).all()


def test_bits_per_dimension_have_the_code_s_offsets():
    """7 bits for data on [-1,1), 8 on [0,1): a uniform law over all 256 levels costs 8 bits, whatever the scale."""
    for width, offset in ((2.0, 7.0), (1.0, 8.0)):
        assert sde.bits_per_dimension(torch.zeros(1), 3, width=width).item() == offset
        uniform = torch.tensor([-12 * math.log(width)], dtype=torch.float64)
        assert sde.bits_per_dimension(uniform, 12, width=width).item() == pytest.approx(8.0, abs=1e-12)


# ---- conditions --------------------------------------------------------------------------------------------------
IMAGE = torch.tensor([[0.6, -1.0], [0.2, 0.9], [-0.4, 0.1]], dtype=torch.float64)
PC = dict(predictor="reverse_diffusion", corrector="langevin")


@pytest.mark.parametrize("path", [VP, VE], ids=lambda path: path.name)
@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("shipped", [False, True])
def test_all_known_returns_the_image_at_the_last_level(path, denoise, shipped):
    """Invariant 8: alpha_eps y + sigma_eps z, or alpha_eps y where the mean is returned."""
    grid = grids.uniform_t(30, path)
    if shipped:
        grid = sde.chain_times(30, path)
    draws, guide = Philox(2, 3), Guide(IMAGE, torch.tensor(True))
    model = targets.exact(targets.named("mixture-2d"), path)
    options = dict(process=path, draws=draws, guide=guide, denoise=denoise, shipped=shipped, **PC)
    found = sde.sample(model, X3, grid, **options).x
    z = draws.at(29).normal("known", X3) * float(not denoise)
    expected = path.alpha(path.t_min) * IMAGE + path.sigma(path.t_min) * z
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_known_coordinates_are_put_back_after_each_move():
    """The exact form by hand: alpha_t y + sigma_t z after the corrector, alpha_s y + sigma_s z after the predictor."""
    path, times, draws = VP, (0.8, 0.5), Philox(2, 3)
    known = torch.tensor([True, False])
    model = targets.exact(targets.named("mixture-2d"), path)
    grid = torch.tensor(times, dtype=torch.float64)
    common = dict(process=path, draws=draws, **PC)
    for shipped, level in ((False, 0.5), (True, 0.8)):
        if shipped:  # the code leaves them at the level of t; N = 1 has beta_0 alone
            rows = sde.plan(grid, path, shipped=True, **PC)
        else:
            rows = sde.plan(grid, path, **PC)
        z, score = draws.at(0).normal("corrector", X3), score_of(path, model)(X3, 0.8)
        d = 2 * rows.damp[0] ** 2 * (0.16 * length(z) / length(score)) ** 2
        x = X3 + d * score + (2 * d).sqrt() * z
        x = torch.where(known, path.alpha(0.8) * IMAGE + path.sigma(0.8) * draws.at(0).normal("known corrected", x), x)
        x = rows.keep[0] * x + rows.pull[0] * model(x, 0.8) + rows.noise[0] * draws.at(0).normal("step", x)
        x = torch.where(known, path.alpha(level) * IMAGE + path.sigma(level) * draws.at(0).normal("known", x), x)
        found = sde.sample(model, X3, grid, guide=Guide(IMAGE, known), shipped=shipped, **common).x
        torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-10)


def test_noise_removal_reaches_unknown_coordinates_but_not_in_the_code():
    """Register entry 10: the code's inpainter builds its mean from the noised state."""
    known, model = torch.tensor([True, False]), targets.exact(targets.named("mixture-2d"), VE)
    ends = {}
    for shipped, denoise in product((False, True), repeat=2):
        grid = sde.chain_times(10, VE) if shipped else grids.uniform_t(10, VE)
        options = dict(process=VE, draws=Philox(2, 3), guide=Guide(IMAGE, known), **PC)
        ends[shipped, denoise] = sde.sample(model, X3, grid, shipped=shipped, denoise=denoise, **options).x
    assert torch.equal(ends[True, True][:, 1], ends[True, False][:, 1])
    noise = sde.plan(grids.uniform_t(10, VE), VE, predictor="reverse_diffusion").noise[-1]
    expected = noise * Philox(2, 3).at(9).normal("step", X3)[:, 1]
    torch.testing.assert_close((ends[False, False] - ends[False, True])[:, 1], expected, rtol=1e-9, atol=1e-12)
    for shipped in (False, True):
        torch.testing.assert_close(ends[shipped, True][:, 0], IMAGE[:, 0], rtol=1e-12, atol=0)


def test_grey_is_kept_and_colours_are_drawn():
    """Colourisation: an orthonormal basis whose first channel is the grey; known all over it, the grey level stays."""
    basis = sde.COLOURS
    torch.testing.assert_close(basis.T @ basis, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-15)
    published = torch.tensor([1 / math.sqrt(3), -math.sqrt(2 / 3), 0, math.sqrt(1 / 6), math.sqrt(1 / 2)])
    torch.testing.assert_close(basis[[0, 0, 0, 1, 1], [0, 1, 2, 1, 2]].float(), published, rtol=1e-6, atol=1e-6)
    image = Philox(7, 2).normal("image", torch.empty(2, 3, 2, 2, dtype=torch.float64))
    x, card = Philox(7, 2).normal("x", image), SAMPLERS["song2021sde.colourise"]
    model = gaussian(VE, 0.3)
    guide = Guide(image, sde.GREY)
    end = card.sample(model, x, grids.uniform_t(8, VE), process=VE, draws=Philox(1, 2), guide=guide, denoise=True).x
    torch.testing.assert_close(end.mean(1), image.mean(1), rtol=1e-12, atol=1e-12)
    free = SAMPLERS["song2021sde.pc"].sample(model, x, grids.uniform_t(8, VE), process=VE, draws=Philox(1, 2)).x
    assert ((end - end.mean(1, keepdim=True)).abs().amax() > 0.1) and not torch.allclose(end, free)
    whole = Guide(image, torch.tensor(True))
    end = card.sample(model, x, grids.uniform_t(8, VE), process=VE, draws=Philox(1, 2), guide=whole, denoise=True).x
    torch.testing.assert_close(end, image, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"guide: image \(3, 2\), expected \[B,3,..\]"):
        card.sample(model, X3, grids.uniform_t(8, VE), process=VE, draws=Philox(1, 3), guide=Guide(IMAGE, sde.GREY))


def test_starts_hold_the_image_where_it_is_known():
    """Noised to the first level; in the code clean. In the grey basis the grey alone."""
    known = torch.tensor([True, False])
    prior = 50 * Philox(4, 3).normal("start", X3)
    aids, grid = {"guide": Guide(IMAGE, known)}, grids.uniform_t(4, VE)
    found = SAMPLERS["song2021sde.inpaint"].start(Philox(4, 3), X3, grid, VE, aids)
    z = Philox(4, 3).normal("start known", X3)
    torch.testing.assert_close(found, torch.where(known, IMAGE + 50 * z, prior), rtol=1e-9, atol=0)
    found = SAMPLERS["song2021sde.inpaint_shipped"].start(Philox(4, 3), X3, grid, VE, aids)
    torch.testing.assert_close(found, torch.where(known, IMAGE, prior), rtol=1e-9, atol=0)
    image = Philox(7, 2).normal("image", torch.empty(2, 3, 2, 2, dtype=torch.float64))
    found = SAMPLERS["song2021sde.colourise"].start(Philox(4, 2), image, grid, VE, {"guide": Guide(image, sde.GREY)})
    prior, z = (Philox(4, 2).normal(tag, image) for tag in ("start", "start known"))
    expected = 50 * (prior - prior.mean(1, keepdim=True)) + image.mean(1, keepdim=True)
    expected = expected + 50 * z[:, :1] / math.sqrt(3)  # the noise of the first channel, back in the colours
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", [VP, VE, process.named("condot").between(0.01, 0.99)], ids=lambda path: path.name)
def test_guidance_by_a_linear_measurement_is_the_posterior(path):
    """y = x_0 + N(0, s^2), x_0 ~ N(0, c) make p(y|x_t) Gaussian: the guided mean is E[x_0 | x_t, y] in closed form."""
    c, s2, y = 0.7, 0.09, torch.tensor([[0.9], [-0.2]], dtype=torch.float64)
    x = torch.tensor([[0.4], [1.3]], dtype=torch.float64)

    def gradient(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        gain, left = alpha * c / (alpha**2 * c + sigma**2), c * sigma**2 / (alpha**2 * c + sigma**2)
        return gain * (y - gain * x) / (left + s2)

    for t in (0.05, 0.4, 0.9):
        precision = 1 / c + path.alpha(t) ** 2 / path.sigma(t) ** 2 + 1 / s2
        expected = (path.alpha(t) / path.sigma(t) ** 2 * x + y / s2) / precision
        found = sde.guided(gaussian(path, c), gradient, process=path)
        torch.testing.assert_close(found(x, t), expected, rtol=1e-11, atol=1e-11)
        rows = torch.full((2,), t, dtype=torch.float64)
        plain = sde.guided(gaussian(path, c), lambda x, t: torch.ones_like(x), process=path, scale=0.0)
        assert torch.equal(plain(x, rows), gaussian(path, c)(x, rows))
        twice = sde.guided(gaussian(path, c), gradient, process=path, scale=2.0)
        step = found(x, t) - gaussian(path, c)(x, t)
        torch.testing.assert_close(twice(x, t) - gaussian(path, c)(x, t), 2 * step, rtol=1e-10, atol=1e-12)


def test_guided_sampling_has_the_posterior_s_law():
    """The reverse SDE with that score ends at N(m, v) of x_0 given y, to its weak order."""
    path, c, s2, y = VP.between(1e-3, 1.0), 0.7, 0.09, 0.9

    def gradient(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        gain, left = alpha * c / (alpha**2 * c + sigma**2), c * sigma**2 / (alpha**2 * c + sigma**2)
        return gain * (y - gain * x) / (left + s2)

    guided = sde.guided(gaussian(path, c), gradient, process=path)
    errors = []
    for steps in (100, 200):
        grid = grids.uniform_lam(steps, path)
        law = output_law(lambda x, z, g=grid: sde.sample(guided, x, g, process=path, draws=z).x, 0.0, 1.0)
        variance = 1 / (1 / c + 1 / s2)
        errors.append([law[0] - variance * y / s2, law[1] - variance])
    assert all(abs(b) < 0.6 * abs(a) for a, b in zip(*errors, strict=True))
    assert abs(errors[1][0]) < 5e-3 and abs(errors[1][1]) < 5e-3


# ---- objective, networks -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [VP, SUBVP, VE], ids=lambda path: path.name)
@pytest.mark.parametrize(("likelihood", "mean"), list(product((False, True), repeat=2)))
def test_losses_are_the_published_ones(path, likelihood, mean):
    """|sigma s + z|^2, or g^2 |s + z/sigma|^2; mean, or half the sum."""
    x0, noise = (Philox(3, 3).normal(tag, torch.empty(3, 2, 2, dtype=torch.float64)) for tag in ("x0", "noise"))
    t = torch.tensor([0.01, 0.4, 0.95], dtype=torch.float64)
    options = dict(process=path, likelihood_weighting=likelihood, reduce_mean=mean)
    found = sde.loss(Predictor("mean", lambda x, _: 0.3 * x), x0, t, noise, **options)
    for i, at in enumerate(t.tolist()):
        sigma = path.sigma(at)
        score = score_of(path, lambda x, t: 0.3 * x)(path.alpha(at) * x0[i] + sigma * noise[i], at)
        whole = 0.1 * at + 19.9 * at**2 / 2
        g2 = {VP: beta(at), VE: 2 * math.log(5000) * sigma**2, SUBVP: -beta(at) * math.expm1(-2 * whole)}[path]
        squares = g2 * (score + noise[i] / sigma).square() if likelihood else (sigma * score + noise[i]).square()
        expected = squares.mean() if mean else squares.sum() / 2
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-9)


def test_objectives_are_the_configurations():
    """VP and sub-VP average, VE takes half the sum; t is uniform from 1e-5 whatever the sampler's last time."""
    found = {card.id.split(".")[1]: card for card in sde.PAPER.objectives}
    for name, (path, likelihood, mean) in {
        "score_vp": (VP, False, True), "score_vp_likelihood": (VP, True, True), "score_subvp": (SUBVP, False, True),
        "score_subvp_likelihood": (SUBVP, True, True), "score_ve": (VE, False, False),
        "score_ve_likelihood": (VE, True, False),
    }.items():  # fmt: skip
        t = torch.tensor([0.01, 0.4, 0.95], dtype=torch.float64)
        args = Predictor("mean", lambda x, _: 0.3 * x), X3, t, IMAGE
        expected = sde.loss(*args, process=path, likelihood_weighting=likelihood, reduce_mean=mean)
        assert torch.equal(found[name].loss(*args, process=path), expected) and found[name].path == path.name
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(sde.training_times(u, VP), 1e-5 + u * (1 - 1e-5), rtol=1e-15, atol=0)


def test_networks_become_means():
    """VP, sub-VP: s = -net(x, 999 t)/sigma_t; VE: s = net(x, sigma_t); floats and rows of times alike."""
    rows = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    for path, join, label in ((VP, sde.noise_net, lambda t: 999 * t), (SUBVP, sde.noise_net, lambda t: 999 * t),
                              (VE, sde.score_net, VE.sigma)):  # fmt: skip
        net = lambda x, c: x.sin() * c[:, None] / 100  # noqa: E731
        model = join(net, process=path)
        raw = X3.sin() * label(rows)[:, None] / 100
        alpha, sigma = path.alpha(rows)[:, None], path.sigma(rows)[:, None]
        score = raw if path is VE else -raw / sigma
        torch.testing.assert_close(model(X3, rows), (X3 + sigma**2 * score) / alpha, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(model(X3, 0.5)[1], model(X3, rows)[1], rtol=1e-13, atol=0)


# ---- refusals ----------------------------------------------------------------------------------------------------
def never(x, t):
    raise AssertionError("the model was evaluated")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (VP, {"predictor": "heun"}, "predictor: 'heun' is not known; expected one of euler_maruyama"),
        (VP, {"corrector": "mala"}, "corrector: 'mala' is not known; expected one of langevin"),
        (VP, {"predictor": "none"}, "'none' twice"),
        (
            VP,
            {"predictor": "ancestral_large", "flow": True},
            "flow: True with 'ancestral_large', which has none",
        ),
        (VP, {"flow": True, "shipped": True}, "flow: True with 'euler_maruyama', which has none or raises"),
        (VP, {"snr": 0.0}, "snr, corrections: 0.0, 1"),
        (VP, {"corrections": 0}, "snr, corrections: 0.16, 0"),
        (VP, {"corrections": 1.5}, "snr, corrections: 0.16, 1.5, expected a number > 0 and an integer"),
        (VP, {"snr": math.inf}, "snr, corrections: inf, 1"),
        (VP, {"corrections": 1.5, "corrector": "langevin"}, "snr, corrections: 0.16, 1.5"),
        (VP, {"nearest": True}, "nearest: True without shipped"),
        (VE, {"grey": True}, r"guide: None, expected \[B,3,..\] to keep grey"),
        (SUBVP, {"predictor": "ancestral"}, "process for 'ancestral': 'sub-VP' is not known; expected one of VP, VE"),
        (SUBVP, {"predictor": "ancestral", "shipped": True}, "process for 'ancestral': 'sub-VP' is not known"),
        (CONDOT, {"predictor": "ancestral"}, "process: 'condot' is none of VE, VP and sub-VP; use .* no 'ancestral'"),
        (SUBVP, {"shipped": True, "corrector": "langevin"}, "'langevin' raises on sub-VP in the code, expected 'none'"),
        (SUBVP, {"shipped": True, "predictor": "ancestral_large"}, "the code's on sub-VP, expected one that"),
        (VE, {"shipped": True, "predictor": "ancestral_large"}, "on VE, expected ancestral_small, or shipped=False"),
        (VP, {"shipped": True, "predictor": "ancestral_small"}, "on VP, expected ancestral_large, or shipped=False"),
        (
            process.named("condot").between(0.1, 0.9),
            {"shipped": True},
            "process: 'condot' is none of VE, VP and sub-VP",
        ),
    ],
)
def test_what_is_not_defined_is_refused_before_anything_is_evaluated(path, options, message):
    grid, x = grids.uniform_t(20, path), torch.zeros(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        sde.sample(Predictor("mean", never), x, grid, process=path, draws=Silence(), **options)


def test_grids_that_are_not_defined_are_refused_before_anything_is_evaluated():
    x, broken = torch.zeros(1, 1, dtype=torch.float64), Predictor("mean", never)
    condot, edm = process.named("condot"), process.named("ve-edm")
    start, end = (torch.tensor(times, dtype=torch.float64) for times in ((1.0, 0.5), (0.9, 0.0)))
    for predictor in ("euler_maruyama", "ancestral_large"):  # 1/alpha
        with pytest.raises(grids.BadGrid, match="grid: 1 .. 0.5 on condot meets alpha = 0 or sigma = 0"):
            sde.sample(broken, x, start, process=condot, draws=Silence(), predictor=predictor)
    for sample in (sde.probability_flow, sde.encode):
        with pytest.raises(grids.BadGrid, match="0 on condot meets alpha = 0 or sigma = 0"):
            sample(broken, x, end, process=condot, draws=Silence())
    with pytest.raises(grids.BadGrid, match="grid: from 80, expected even times from 1 down"):
        sde.sample(broken, x, grids.uniform_t(5, edm), process=edm, draws=Silence(), shipped=True)
    for predictor, corrector in (("reverse_diffusion", "none"), ("euler_maruyama", "langevin")):
        options = dict(process=VP, draws=Silence(), shipped=True, predictor=predictor, corrector=corrector)
        with pytest.raises(grids.BadGrid, match="steps: 20, too few for the code's"):
            sde.sample(broken, x, sde.chain_times(20, VP), **options)
    assert sde.plan(sde.chain_times(21, VP), VP, predictor="reverse_diffusion", shipped=True).noise.isfinite().all()
    with pytest.raises(ValueError, match="denoise: 'both' is not known; expected one of none, mean, chain"):
        sde.probability_flow(broken, x, grids.uniform_t(1, VP), process=VP, draws=Silence(), denoise="both")
    with pytest.raises(ValueError, match="divergence: 'sliced' is not known; expected one of exact"):
        sde.log_prob(broken, x, process=VP, draws=Silence(), divergence="sliced")
    with pytest.raises(grids.BadGrid, match="grid: 0.9 .. 0 on condot meets alpha = 0 or sigma = 0"):
        sde.log_prob(broken, x, process=condot.between(0.0, 0.9), draws=Silence())
    for options in ({"rtol": -1e-5}, {"atol": -1.0}, {"rtol": 0.0, "atol": 0.0}, {"rtol": math.nan}):
        for call in (sde.probability_flow, sde.encode):
            with pytest.raises(ValueError, match="rtol, atol: .*, expected numbers >= 0, not both 0"):
                call(broken, x, grids.uniform_t(1, VP), process=VP, draws=Silence(), **options)
        with pytest.raises(ValueError, match="rtol, atol: .*, expected numbers >= 0, not both 0"):
            sde.log_prob(broken, x, process=VP, draws=Silence(), **options)


def test_what_is_finite_at_pure_noise_starts_there():
    """At alpha = 0 reverse diffusion and the flow are defined: x_s = 2 x - x + 0 D there, and dx/dt = x - D."""
    path, x, grid = process.named("condot"), X3[:, :1], torch.tensor([1.0, 0.4], dtype=torch.float64)
    options = dict(process=path, draws=Silence(), predictor="reverse_diffusion")
    run = sde.sample(exact_model(path), x, grid, **options)
    torch.testing.assert_close(run.x, x, rtol=1e-14, atol=0)
    assert run.nfe == 1  # evaluated, though D enters with the factor 0
    found = sde.probability_flow(exact_model(path), x, grid, process=path, draws=Silence(), rtol=1e-9, atol=1e-9).x
    torch.testing.assert_close(found, G3.flow(x, 0.0, 1.0, 0.6, 0.4), rtol=0, atol=1e-6)


def test_the_published_options_are_the_cards_defaults():
    """snr .16, one correction; the code removes noise; rtol = atol = 1e-5."""
    assert {name: sde.sample.__kwdefaults__[name] for name in ("snr", "corrections", "denoise")} == {
        "snr": 0.16, "corrections": 1, "denoise": False,
    }  # fmt: skip
    shipped = [card for card in sde.PAPER.samplers if card.id.endswith("_shipped")]
    assert len(shipped) == 5 and all(
        card.sample.keywords["denoise"] and card.sample.keywords["shipped"] for card in shipped
    )
    for function in (sde.probability_flow, sde.encode, sde.log_prob):
        assert function.__kwdefaults__["rtol"] == function.__kwdefaults__["atol"] == 1e-5


@pytest.mark.parametrize("shape", [(1, 2), (2,), (5, 2)])
def test_a_guide_fits_the_state_in_shape_and_dtype(shape):
    path, image = process.named("vp-linear"), torch.ones(shape, dtype=torch.float64)
    model, x = targets.exact(targets.named("mixture-2d"), path), torch.zeros(5, 2)
    guide = Guide(image, torch.tensor([True, False]))
    grid = torch.linspace(1, 1e-3, 5, dtype=torch.float64)
    end = sde.sample(model, x, grid, process=path, draws=Philox(0, 5), guide=guide).x
    assert end.dtype == torch.float32 and (end[:, 0] - 1).abs().max() < 0.2
    with pytest.raises(ValueError, match=r"guide\.known"):
        sde.sample(model, x, grid, process=path, draws=Philox(0, 5), guide=Guide(image, torch.ones(5, 2)))
