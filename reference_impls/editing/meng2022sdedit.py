"""meng2022sdedit - SDEdit: noise a guide image to an intermediate level and run the reverse process from there.

Meng, He, Song, Song, Wu, Zhu, Ermon, "SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
Equations", ICLR 2022, arXiv:2108.01073. Official code: ermongroup/SDEdit (MIT).
Refiner: Podell et al., "SDXL", arXiv:2307.01952.
Path        x_t = alpha_t x0 + sigma_t eps on the linear chain of 1,000 betas at t = i/1000; the code's args.t = k is
            the level t0 = k/1000 where the grid begins (400 by default, 500 in the README and here), its index i our
            t = (i+1)/1000. Any path works.
Loss        none of its own: the denoiser of any paper.
Step        x_t0 = alpha_t0 g + sigma_t0 e. Then e_hat = (x_t - alpha_t D)/sigma_t, v = eta sigma_s sqrt(1 - exp(-2h)),
            h = lam_s - lam_t, x_s = alpha_s D + sqrt(sigma_s^2 - v^2) e_hat + v z: eta = 1 is the SDE (ancestral DDPM),
            eta = 0 the ODE (DDIM). At sigma_s = 0 it lands on D. Where a region of g is known, x_s there becomes
            alpha_s g + sigma_s e with the e of the start. The whole is repeated from its own output, with a new e; the
            known region of that guide stays g.
            Refiner: the denoiser of another network for the least noisy fifth of the interval (`experts`).
Cost        NFE = repetitions x steps (`official`: 3 steps). SDE weak order 1, ODE order 1. An img2img run of strength w
            walks the last int(w steps) intervals of its grid (`tail`).
Exact when  no known region and one repetition: the SDE is DDPM, the ODE DDIM, whatever the guide. Point masses. Known
            pixels end equal to the guide bit for bit at clean data. Gaussian data N(0, c) on ve-edm, level s0, guide g:
            ODE end N(g k, c (1 - k^2)), k = sqrt(c/(c + s0^2)): mean g k, variance k^2 s0^2; SDE mean g k^2, variance
            k^4 s0^2 + k^2 s0^2. s0 -> 0 returns the guide, s0 -> inf forgets it. Refiner = base: the base, bitwise.
Differs     The code puts the known region at the level that the step leaves (t), while the rest is at the one it
            reaches (s): one level too noisy, and the image that it saves has known pixels alpha_1 g + sigma_1 e instead
            of g (option `lag`); the mathematics has the level s, and so have `sde` and `ode`. The ledger finds no cost
            in the shift: on a plane mixture it is slightly better. It repeats three times where the algorithm is one
            pass (`official`: both). Its masked region is the unknown one's complement: our `known` True is its mask 1.
            Its steps are the chain's own: other grids are respaced. A repeated run whose grid ends above clean data
            divides its end by alpha there before it becomes the next guide. The bound |g - x|^2 <= s0^2 (C s0^2 + d + 2
            sqrt(d log 1/p) + 2 log 1/p), as our source restates the paper's, counts the noise of the way down but
            neither that of the way up nor the cross term: with a score of 0 it fails for most samples (ledger); with
            (a + b)^2 in place of a^2 + b^2, and twice s0^2 for the noise, it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.options import counts, fitting
from reference_impls.core.process import Process
from reference_impls.core.types import (
    Draws,
    Guide,
    Model,
    Paper,
    Predictor,
    Reduction,
    Run,
    Sampler,
    Time,
    Transform,
)

STRENGTH = 0.5  # share of the interval at which a guide is noised: --t 500 of 1000 in the official README
REFINED = 0.8  # share of the interval that the base model walks: denoising_end of SDXL [text]


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D + noise z
    pull: Tensor
    noise: Tensor
    begin: Tensor  # where a repetition begins: x_t = begin g + fresh e, g the last end over alpha there
    fresh: Tensor  # 0 elsewhere
    end: Tensor  # alpha at the end of the grid
    known_guide: Tensor  # after the step the known region is known_guide g + known_fresh e
    known_fresh: Tensor


def plan(grid: Tensor, process: Process, *, eta: float, large: bool, repetitions: int, lag: bool) -> Plan:
    """Coefficients of every step of every repetition, float64 [repetitions steps].

    eta in [0, 1]: 1 the SDE, 0 the ODE. large: the forward variance b instead of the posterior's ("fixedlarge").
    lag: the known region at the level that a step leaves, as in the code. Raises ValueError, BadGrid.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: {eta!r}, expected a number in [0, 1] (1 is the SDE, 0 the ODE)")
    if large and eta != 1:
        raise ValueError(f"large: True with eta {eta!r}, expected eta = 1; only the SDE has two published variances")
    counts(1, repetitions=repetitions)
    t, s = grids.checked(grid)[:-1], grid[1:]
    h = process.lam(s) - process.lam(t)
    shrink = torch.log1p(eta**2 * torch.expm1(-2 * h)) / 2  # log sqrt(1 - (v/sigma_s)^2)
    spread = process.sigma(t) if large else process.sigma(s)
    nothing, known = torch.zeros_like(t), t if lag else s
    rows = Plan(
        t,
        process.sigma(s) / process.sigma(t) * shrink.exp(),
        -process.alpha(s) * torch.expm1(shrink - h),
        torch.where(process.sigma(s) > 0, eta * spread * (-torch.expm1(-2 * h)).sqrt(), nothing),
        nothing,
        nothing,
        process.alpha(s[-1:]).expand_as(t),
        process.alpha(known),
        process.sigma(known),
    )
    whole = Plan(*(column.repeat(repetitions) for column in rows))
    whole.begin[t.shape[0] :: t.shape[0]] = process.alpha(t[0])
    whole.fresh[t.shape[0] :: t.shape[0]] = process.sigma(t[0])
    return whole


def edit_step(
    x: Tensor, row: Plan, memory: Tensor | None, *, model: Model, draws: Draws, guide: Guide
) -> tuple[Tensor, Tensor | None]:
    """One interval; memory is the e that the known region of this repetition is noised with."""
    image, known = guide
    if row.fresh > 0:
        last = x / row.end
        memory = draws.normal("start", x)
        last = last if known is None else torch.where(known, image, last)
        x = torch.mul(last, row.begin).add_(memory, alpha=row.fresh)
    x_s = torch.mul(x, row.keep).add_(model(x, row.t), alpha=row.pull)
    if row.noise > 0:
        x_s.add_(draws.normal("step", x), alpha=row.noise)
    if known is not None:
        x_s = torch.where(known, torch.mul(image, row.known_guide).add_(memory, alpha=row.known_fresh), x_s)
    return x_s, memory


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    guide: Guide,
    eta: float = 1.0,
    large: bool = False,
    repetitions: int = 1,
    lag: bool = False,
) -> Run:
    """SDEdit from the noised guide x [B,*D] at grid[0] to grid[-1].

    guide: image [B,*D] and its known region; the e that this region keeps is the one in x. Without a known region the
    image is not looked at: x holds it. eta, large, repetitions, lag: see plan; var_type of the official configs is
    "fixedsmall", its sample_step 3. Raises ValueError, BadGrid.
    """
    rows = plan(grid, process, eta=eta, large=large, repetitions=repetitions, lag=lag)
    image, known = guide = fitting(guide, x)
    t0 = grid[0].item()
    noise = None if known is None else (x - process.alpha(t0) * image) / process.sigma(t0)
    step = partial(edit_step, guide=guide)
    return drive(rows, step, model, x, draws=draws, memory=noise, tags=("step",) if eta > 0 else ())


def start_noised(draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]) -> Tensor:
    """alpha_t g + sigma_t e at t = grid[0], [B,*D]. Raises ValueError if the guide does not fit `like`."""
    return process.noised(fitting(aids["guide"], like).image, grid[0].item(), draws.normal("start", like))


def from_half(steps: int, process: Process) -> Tensor:
    """Times evenly spaced from half of t_max to t_min; on the chain with steps = 500 the official steps, each knot."""
    return grids.uniform_t(steps, process.between(process.t_min, STRENGTH * process.t_max))


def tail(grid: Tensor, strength: float) -> Tensor:
    """The last int(strength steps) intervals of a grid: what an img2img run of that strength walks (diffusers)."""
    if not 0 < strength <= 1 or int((grid.shape[0] - 1) * strength) < 1:
        raise ValueError(f"strength: {strength!r}, expected a share in (0, 1] that leaves one of the steps or more")
    return grids.checked(grid)[-1 - int((grid.shape[0] - 1) * strength) :]


def experts(base: Model, refiner: Model, *, process: Process, share: float = REFINED) -> Predictor:
    """The denoiser that is base in the noisiest share of [t_min, t_max], refiner in the rest, its upper end included.

    share .8: SDXL's denoising_end, so that the refiner has the levels below 200 of 1,000 that it was trained on. A [B]
    of times is split by rows: each is evaluated once.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share!r}, expected a number in [0, 1]; 1 leaves the refiner only t_min")
    reach = share * (process.t_max - process.t_min) * (1 - 1e-12)  # a time on the boundary is the refiner's

    def predict(x: Tensor, t: Time) -> Tensor:
        if not isinstance(t, Tensor) or t.ndim == 0:
            return (base if process.t_max - t < reach else refiner)(x, t)
        noisy = (process.t_max - t < reach).to(x.device)
        mean = torch.empty_like(x)
        for rows, expert in ((noisy, base), (~noisy, refiner)):
            mean[rows] = expert(x[rows], t[rows.to(t.device)])
        return mean

    return Predictor(base.kind, predict)


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


def thrice(grid: Tensor) -> float:
    return 3 * evaluations(grid)


PAPER = Paper(
    key="meng2022sdedit",
    title="SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations",
    authors="Chenlin Meng, Yutong He, Yang Song, Jiaming Song, Jiajun Wu, Jun-Yan Zhu, Stefano Ermon",
    venue="ICLR 2022",
    arxiv="2108.01073",
    code="ermongroup/SDEdit",
    licence="MIT",
    samplers=(
        Sampler(
            id="meng2022sdedit.sde",
            sample=sample,
            grid=from_half,
            consumes="mean",
            path="discrete-linear",
            start=start_noised,
            needs=frozenset({"guide"}),
            nfe=evaluations,
            stochastic=True,
            weak_order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(
                Reduction({}, "ho2020ddpm.ancestral"),
                Reduction({"large": True}, "ho2020ddpm.ancestral", {"large": True}),
                Reduction({"eta": 0.0}, "song2020ddim.ddim"),
                Reduction({"eta": 0.4}, "song2020ddim.stochastic", {"eta": 0.4}),
            ),
        ),
        Sampler(
            id="meng2022sdedit.ode",
            sample=partial(sample, eta=0.0),
            grid=from_half,
            consumes="mean",
            path="discrete-linear",
            start=start_noised,
            needs=frozenset({"guide"}),
            nfe=evaluations,
            order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(Reduction({}, "song2020ddim.ddim"),),
        ),
        Sampler(
            id="meng2022sdedit.official",
            sample=partial(sample, repetitions=3, lag=True),
            grid=from_half,
            consumes="mean",
            path="discrete-linear",
            start=start_noised,
            needs=frozenset({"guide"}),
            nfe=thrice,
            stochastic=True,
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(Reduction({"repetitions": 1}, "ho2020ddpm.ancestral"),),
            variant=True,
        ),
    ),
    transforms=(
        Transform(
            id="meng2022sdedit.experts",
            apply=experts,
            identity_at={"refiner": "base"},
            limit=lambda model, *, condition, process: (experts(model, model, process=process), model),
        ),
    ),
)
