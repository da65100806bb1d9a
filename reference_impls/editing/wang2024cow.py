"""wang2024cow - COW: noise and denoise between two levels in cycles, the seed put back each time, so that it spreads.

Wang, Yang, Qian, Zhu, Wu, "Diffusion in Diffusion: Cyclic One-Way Diffusion for Text-Vision-Conditioned Generation",
ICLR 2024, arXiv:2306.08247. Official code: wangruoyu02/COW (no licence file; formulas only).
Path        x_t = alpha_t x0 + sigma_t eps on the linear chain of 1,000 betas at t = i/1000. Index k counts the steps
            that remain: of S intervals tau_k = grid[S - k], tau_0 the image's level. r = int(.5 S), b = int(.7 S), f =
            int(.4 S). The image x is at tau_0, which carries noise (the code's last level is the chain's first). The
            code's chain is Stable Diffusion 2.1's instead (see Differs).
Loss        none of its own: the denoiser of any paper; under guidance 7.5 of one with labels.
Step        Seed: the known region on grey, inverted by DDIM from 0 to b; its latents s_0 .. s_b are kept. The canvas x,
            inverted from 0 to r. Ten times: x <- (alpha_b/alpha_r) x + sqrt(sigma_b^2 - (alpha_b/alpha_r)^2 sigma_r^2)
            z; known region <- s_b; DDIM with eta = 1 down to r, known region <- s_k after each step. Last: DDIM with
            eta = .1 from r to 0, known region <- s_f once. Guided: D = n + g (D(x | label) - n), n = D(x); inside the
            cycles n = D(x) + D(x | suppress) - D(x | diverse), which the known region, put back after, never shows.
Cost        NFE = b + r + 10 (b - r) + r: 37 at S = 10; guided twice that, four in the cycles with suppress, diverse.
            Stochastic; no order: it does not converge to the data's law but to a chain's that is kept at the seed.
Exact when  re-noising composes: a sample of p_r becomes one of p_b. No known region: a cycle with many steps leaves p_r
            invariant. All known: the state at k is s_k bit for bit, whatever the noise. No cycles and no known region:
            the round trip of DDIM inversion and DDIM(.1). A point mass comes back exactly for eta_last = 0. A seed is
            kept as well as inversion keeps it: off the atoms of an exact denoiser not at all, by a small network to .2.
Differs     The code's network is Stable Diffusion 2.1 base (run_COW.py); in the published configurations of Stable
            Diffusion 2 the betas are linspace(.00085^.5, .012^.5)^2: sigma is .760 at r and .917 at b, S = 10, on our
            linear chain .899 and .987, so that our cycles walk in more noise. Any chain of 1,000 betas is taken.
            The code takes the re-noising factor at inverse_timesteps[r], [b], and these are one step noisier than the
            levels that r and b remaining steps have in its DDIM scheduler. diffusers 0.27.1 (recommended by the README)
            inverts to the right levels, with the network called at the level that a step reaches; 0.17.1 (named by the
            README too) takes the image for tau_1 and inverts to tau_(r+1), so that re-noising composes but DDIM does
            not. Neither holds end to end (`levels`: "0.27.1", "0.17.1"; "consistent" is the mathematics and the
            default). In the ledger neither costs quality on a plane mixture: they end nearer to the conditional law.
            The code inverts the seed's crop alone, at its own size: here the known region on grey at full size, which
            is the code's case of a seed as large as the image. Its prompts are labels here, the empty and the negative
            prompt none. Under guidance 7.5 an inversion does not invert, and with exact denoisers of digits the class
            asked for comes less often than under 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.options import counts, fitting
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Guide, Model, Paper, Run, Sampler, require

TRAINED = 1000  # length of the training chain
GREY = 2 * 128 / 255 - 1  # the code's canvas, in [-1, 1]
LEVELS = ("consistent", "0.27.1", "0.17.1")  # the last two: releases of diffusers


class Turns(NamedTuple):
    """Indices (remaining steps) of a cycle's cleaner end, its noisier end, and where the seed is put back last."""

    rest: int  # r
    turn: int  # b
    last: int  # f


def turns(steps: int) -> Turns:
    """int(.5 S), int(.7 S), int(.4 S) [code]; of a single interval 1, 1, 0, where the code would do nothing at all."""
    return Turns(max(1, int(0.5 * steps)), max(1, int(0.7 * steps)), int(0.4 * steps))


class Inversion(NamedTuple):
    t: Tensor  # where D is evaluated
    keep: Tensor  # x_w = keep x_u + pull D(x_u, t), w noisier than u
    pull: Tensor


def inversion_plan(grid: Tensor, process: Process, upto: int, *, levels: str) -> Inversion:
    """Rows of DDIM inversion from index 0 to index `upto`, with the levels and network times of each variant."""
    tau = grids.checked(grid).flip(0)
    if process.sigma(tau[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: ends at {tau[0].item():g}, where sigma = 0 and the noise prediction is 0/0; to invert end at t > 0"
        )
    if levels not in LEVELS:
        raise ValueError(f"levels: {levels!r}, expected one of {', '.join(LEVELS)}")
    if levels != "consistent" and tau.shape[0] < 3:
        raise grids.BadGrid(f"grid: 1 step, expected 2 or more for levels {levels!r}, which reach one step higher")
    shift = 1 if levels == "0.17.1" else 0
    u, w = tau[shift : shift + upto], tau[shift + 1 : shift + upto + 1]
    t = w if levels == "0.27.1" else u
    ratio = process.alpha(w) / process.alpha(u)
    push = (process.sigma(w) - ratio * process.sigma(u)) / process.sigma(t)  # of x - alpha_t D, which is sigma_t eps
    return Inversion(t, ratio + push, -push * process.alpha(t))


class Plan(NamedTuple):
    t: Tensor
    scale: Tensor  # a cycle's first row: x <- scale x + fresh z
    fresh: Tensor
    before: Tensor  # index of the seed's latent that is put into the known region before the step; -1: none
    keep: Tensor  # x_s = keep x_t + pull D + noise z
    pull: Tensor
    noise: Tensor
    after: Tensor  # as before, after the step
    inside: Tensor  # 1 in the cycles


def route(steps: int, cycles: int, eta: float, eta_last: float) -> Tensor:
    """float64 [rows,6]: index left, eta, first of a cycle, index put before, index put after, inside a cycle."""
    r, b, f = turns(steps)
    cycle = [(k, eta, k == b, b if k == b else -1, k - 1, True) for k in range(b, r, -1)]
    last = [(k, eta_last, False, f if k == f == r else -1, f if k - 1 == f else -1, False) for k in range(r, 0, -1)]
    return torch.tensor(cycle * cycles + last, dtype=torch.float64).reshape(-1, 6)


def plan(grid: Tensor, process: Process, *, cycles: int, eta: float, eta_last: float, levels: str) -> Plan:
    """Coefficients of every step of the cycles and of the last way down. Raises ValueError, BadGrid."""
    counts(0, cycles=cycles)
    if not (0 <= eta <= 1 and 0 <= eta_last <= 1):
        raise ValueError(f"eta, eta_last: {eta!r}, {eta_last!r}, expected numbers in [0, 1]")
    tau = grids.checked(grid).flip(0)
    r, b, _ = turns(grid.shape[0] - 1)
    left, eta_of, first, before, after, inside = route(grid.shape[0] - 1, cycles, eta, eta_last).T
    t, s = tau[left.long()], tau[left.long() - 1]
    h = process.lam(s) - process.lam(t)
    shrink = torch.log1p(eta_of**2 * torch.expm1(-2 * h)) / 2  # log sqrt(1 - (v/sigma_s)^2)
    low, high = (tau[k + (levels != "consistent")] for k in (r, b))
    grown = process.sigma(high) * (-torch.expm1(2 * (process.lam(high) - process.lam(low)))).sqrt()
    return Plan(
        t,
        torch.where(first > 0, process.alpha(high) / process.alpha(low), 1.0),
        first * grown,
        before,
        process.sigma(s) / process.sigma(t) * shrink.exp(),
        -process.alpha(s) * torch.expm1(shrink - h),
        eta_of * process.sigma(s) * (-torch.expm1(-2 * h)).sqrt(),
        after,
        inside,
    )


Predict = Callable[[Model, Tensor, float, bool], Tensor]  # (model, x, t, inside a cycle) -> D


def plain(model: Model, x: Tensor, t: float, inside: bool) -> Tensor:
    return model(x, t)


def guided(
    model: Model, x: Tensor, t: float, inside: bool, *, condition: Tensor, guidance: float, suppress: int, diverse: int
) -> Tensor:
    """n + g (D(x | condition) - n); in the cycles n is moved from `diverse` to `suppress`.

    The code leaves n alone in the known region, where each step of a cycle ends with the seed's latent in any case.
    """
    base = model(x, t)
    if inside and suppress != diverse:
        away, near = (model.given(torch.full_like(condition, label))(x, t) for label in (suppress, diverse))
        base = base + away - near
    return torch.lerp(base, model.given(condition)(x, t), guidance)


def inversion_step(
    x: Tensor, row: Inversion, memory: list[Tensor] | None, *, model: Model, draws: Draws, predict: Predict
) -> tuple[Tensor, list[Tensor] | None]:
    """One step up; memory collects the states where there is one."""
    x_w = torch.mul(x, row.keep).add_(predict(model, x, row.t, False), alpha=row.pull)
    return x_w, memory if memory is None else [*memory, x_w]


def cow_step(
    x: Tensor, row: Plan, memory: None, *, model: Model, draws: Draws, predict: Predict, known: Tensor | None,
    seed: list[Tensor],
) -> tuple[Tensor, None]:  # fmt: skip
    """One step of DDIM, with what happens at the beginning of a cycle and to the known region."""
    if row.fresh > 0:
        x = torch.mul(x, row.scale).add_(draws.normal("churn", x), alpha=row.fresh)
    if known is not None and row.before >= 0:
        x = torch.where(known, seed[int(row.before)], x)
    x_s = torch.mul(x, row.keep).add_(predict(model, x, row.t, row.inside > 0), alpha=row.pull)
    if row.noise > 0:
        x_s.add_(draws.normal("step", x), alpha=row.noise)
    return (x_s if known is None or row.after < 0 else torch.where(known, seed[int(row.after)], x_s)), None


def walk(
    model: Model, x: Tensor, grid: Tensor, predict: Predict, *, process: Process, draws: Draws, guide: Guide,
    levels: str, cycles: int, eta: float, eta_last: float,
) -> Run:  # fmt: skip
    """Three walks on one grid: the seed up to b, the canvas up to r, the cycles with the way down."""
    r, b, _ = turns(grid.shape[0] - 1)
    climb, ascent = (inversion_plan(grid, process, k, levels=levels) for k in (b, r))
    rows = plan(grid, process, cycles=cycles, eta=eta, eta_last=eta_last, levels=levels)
    pasted = canvas(guide, x)
    known = None if guide.known is None else guide.known.to(x.device)
    up = partial(inversion_step, predict=predict)
    # the seed is walked up without a known region too: the cost depends on the grid alone
    seed = drive(climb, up, model, pasted, draws=draws, memory=[pasted])
    begin = drive(ascent, up, model, x, draws=draws)
    step = partial(cow_step, predict=predict, known=known, seed=seed.memory)
    tags = ("step",) if eta > 0 or eta_last > 0 else ()
    run = drive(rows, step, model, begin.x, draws=draws, tags=tags)
    return Run(run.x, seed.nfe + begin.nfe + run.nfe)


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    guide: Guide,
    levels: str = "consistent",
    cycles: int = 10,
    eta: float = 1.0,
    eta_last: float = 0.1,
) -> Run:
    """COW without labels. x [B,*D]: the canvas at grid[-1], which must carry noise; so is the end.

    guide: the image and its known region, the seed. levels: see Differs. cycles 10, eta 1 inside them, eta_last .1:
    pipeline_COW.py. Raises ValueError, BadGrid, before the model is evaluated.
    """
    return walk(
        model, x, grid, plain, process=process, draws=draws, guide=guide, levels=levels, cycles=cycles, eta=eta,
        eta_last=eta_last,
    )  # fmt: skip


def sample_guided(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    guide: Guide,
    condition: Tensor,
    guidance: float = 7.5,
    suppress: int = -1,
    diverse: int = -1,
    levels: str = "consistent",
    cycles: int = 10,
    eta: float = 1.0,
    eta_last: float = 0.1,
) -> Run:
    """COW under labels, everywhere, in the inversions too. condition: int64 [B]; guidance 7.5: pipeline_COW.py.

    suppress, diverse: the labels whose difference is added to the unconditional mean inside the cycles (the code:
    "human face" against "a high quality and colorful image"); -1 and -1, none, by default. Raises ValueError, BadGrid,
    WrongKind, before the model is evaluated.
    """
    check_labels(model, condition, x.shape[0])
    if not math.isfinite(guidance):
        raise ValueError(f"guidance: {guidance!r}, expected a finite number; 1 is none, the code has 7.5")
    predict = partial(
        guided, condition=condition.to(x.device), guidance=guidance, suppress=suppress, diverse=diverse
    )  # fmt: skip
    return walk(
        model, x, grid, predict, process=process, draws=draws, guide=guide, levels=levels, cycles=cycles, eta=eta,
        eta_last=eta_last,
    )  # fmt: skip


def check_labels(model: Model, condition: Any, rows: int) -> None:
    """Raises ValueError unless the condition is a label for each row, WrongKind if the model takes none."""
    found = (tuple(condition.shape), condition.dtype) if isinstance(condition, Tensor) else type(condition).__name__
    if found != ((rows,), torch.int64):
        raise ValueError(f"condition: {found}, expected int64 of shape {(rows,)}, one label for each row of x")
    require(model, "mean", rows).given(condition)


def canvas(guide: Guide, like: Tensor) -> Tensor:
    """The known region on grey, [B,*D]; the image itself where nothing is known. Raises ValueError."""
    image, known = fitting(guide, like)
    return image if known is None else torch.where(known, image, GREY)


def start_at_canvas(draws: Draws, like: Tensor, grid: Tensor, process: Process, aids: Mapping[str, Any]) -> Tensor:
    return canvas(aids["guide"], like)


def leading(steps: int, process: Process) -> Tensor:
    """Chain indices (k-1) (1000 // S) + 1 for k = S .. 1, then 0: diffusers' "leading" spacing with offset 1."""
    if steps not in range(1, TRAINED):
        raise grids.BadGrid(f"steps: {steps!r}, expected 1..{TRAINED - 1} on the trained chain; else use the grid t")
    if process.t_max != 1:
        raise grids.BadGrid(
            f"grid: the chain starts at t = 1, but {process.name} at {process.t_max:g}; use the grid t, lam or power(7)"
        )
    indices = [(k - 1) * (TRAINED // steps) + 1 for k in range(steps, 0, -1)]
    return (torch.tensor([*indices, 0], dtype=torch.float64) + 1) / TRAINED


def evaluations(grid: Tensor) -> float:
    r, b, _ = turns(grid.shape[0] - 1)
    return float(b + r + 10 * (b - r) + r)


def evaluations_guided(grid: Tensor) -> float:
    return 2 * evaluations(grid)


TOP = "the cycles never climb above seven tenths of the grid, as in the code"

PAPER = Paper(
    key="wang2024cow",
    title="Diffusion in Diffusion: Cyclic One-Way Diffusion for Text-Vision-Conditioned Generation",
    authors="Ruoyu Wang, Yongqi Yang, Zhihao Qian, Ye Zhu, Yu Wu",
    venue="ICLR 2024",
    arxiv="2306.08247",
    code="wangruoyu02/COW",
    licence="none stated",
    samplers=(
        Sampler(
            id="wang2024cow.cow",
            sample=sample,
            grid=leading,
            consumes="mean",
            path="discrete-linear",
            start=start_at_canvas,
            needs=frozenset({"guide"}),
            nfe=evaluations,
            stochastic=True,
            symmetric=frozenset({"rotation"}),
            known_failures={"every_interval_is_used": TOP},
        ),
        Sampler(
            id="wang2024cow.guided",
            sample=sample_guided,
            grid=leading,
            consumes="mean",
            path="discrete-linear",
            start=start_at_canvas,
            needs=frozenset({"guide", "condition"}),
            nfe=evaluations_guided,
            stochastic=True,
            symmetric=frozenset({"rotation"}),
            known_failures={"every_interval_is_used": TOP},
        ),
    ),
)
