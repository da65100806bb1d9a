"""jiang2025sada - SADA: a sign test after every step decides whether the next network call can be left out.

Jiang, Wang, Ye, Shao, Sun, Zhang, Chen, Zhang, Chen, Li, "SADA: Stability-guided Adaptive Diffusion Acceleration",
ICML 2025, arXiv:2507.17135. Official code: Ting-Justin-Jiang/sada-icml (MIT).
Path        x_t = alpha_t x0 + sigma_t eps on the linear chain of 1,000 betas at t = i/1000 (the code's index i is our
            t = (i+1)/1000), which the cards take as vp-linear, its limit; the flow form on condot. Any path with
            alpha_t > 0 works; flow anywhere.
Loss        none: training free.
Step        x_s by DPM-Solver++(2M) from the data prediction m, order 1 in the last step below 15 steps or to sigma = 0:
            x_s = (sigma_s/sigma_t) x - alpha_s expm1(-h) (m + (m - m_1) h/(2 h_1)); e = (x - alpha_t D)/sigma_t.
            f = dx/dt; xhat = x - a (w0 f + w1 f_1 + w2 f_2), f_1 and f_2 of the two steps before (i >= 2);
            C = mean over the sample of (x_s - xhat) ((f - f_1) - (f_1 - f_2)). Step i + 1 is skipped if C <= 0 and i
            lies in [first, last), but not after `most` skips in a row. It keeps e, and m = (xhat - sigma e)/alpha.
            Lagrange: from lag_first on, step i + 1 is skipped unless lag_every divides i, with m from the polynomial
            in the step's index through the last lag_terms of the m of steps i with i mod lag_every = 1.
            Weights: "code" .625, .75, -.375 and a f = one step of the 1,000-step chain; "paper" 5/6, 5/6, -2/3; "ab3"
            23/12, -4/3, 5/12 (Adams-Bashforth), both with a = t - s; "reuse" the paper's C, but m = (x_s - sigma e)/
            alpha. Flow: x_s = x + (s - t) f, f the velocity, or 2 f_1 - f_2 if skipped (then f_1 enters the memory
            again); C = mean of -((f - f_1) - (f_1 - f_2)).
            network = "v": the network predicts v = alpha e - sigma D, and a skipped step keeps v instead of e: f and m
            are made of x and v. even = n: n skips spread evenly over [first, last) instead of the test and Lagrange.
            Tokens: a block runs on one random token of every window and on all tokens whose channel mean of C's
            integrand is >= 0; the others take the block's output of before; a full pass every `most` steps.
Cost        NFE <= steps, known afterwards; in steps [lag_first, last) one call in lag_every. Order: none declared.
Exact when  first >= last, and lag_terms = 0 or last <= lag_first: the base solver bit for bit. Lagrange: m a polynomial
            in i of degree < lag_terms. "reuse" on a point mass. Flow on a point mass, on condot: straight lines.
            Tokens: all kept, or a cache of this call.
Differs     Paper and code extrapolate differently: both sets of weights sum to 1, the paper's have local error O(dt^3),
            the code's O(dt^2), and the code's a f advances 1/1000 where the sampler advances 1/steps (20 times too
            short for 50). In a whole run of 50 steps the code's err less all the same (claims ledger). Its f is (-beta
            x + beta e/sigma)/2 with the chain's beta; here, on any path, one chain step of t_max/1000. Its C is one
            mean over the batch, so that a sample depends on its neighbours: here per sample, batch_global = True as
            coded. In a flow step that was skipped C = 0 in exact arithmetic, and the code lets rounding decide: here it
            is 0, so "skip". Its flow form extrapolates linearly with Lagrange, too. The paper's test is C < 0 with its
            own xhat. first, last, lag_first are the README's for 50 steps; the code counts its steps by them whatever
            their number (scaled = False), here they scale with it, first and lag_first to at least 3 (three f are
            needed). The code stops where lag_terms predictions are not yet there: here the polynomial
            takes those there are. Its Euler form is order = 1, with the polynomial through m/alpha (over_alpha); with a
            network of v its skipped steps take x_s for xhat (not offered). The README's SD-2 is a network of v
            (`official_v`). Its tokens assume one sample a batch: here, too, all rows share the mask; no network here is
            made of such blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.options import counts
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Paper, Predictor, Reduction, Run, Sampler, Time, Transform

TRAINED = 1000  # length of the training chain [code]
FINAL_BELOW = 15  # lower_order_final acts below this many steps [code]
PUBLISHED = 50  # steps for which first, last and lag_first are given [README]
NEVER, TESTED, LAGRANGE, FORCED = range(4)  # may the next call be skipped: if C <= 0; in any case, m by Lagrange or not
NETWORKS = ("noise", "v")
WEIGHTS = {
    "code": (0.625, 0.75, -0.375),
    "paper": (5 / 6, 5 / 6, -2 / 3),
    "ab3": (23 / 12, -16 / 12, 5 / 12),
    "reuse": (5 / 6, 5 / 6, -2 / 3),
}


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x + now m + before m_1
    now: Tensor
    before: Tensor
    out_x: Tensor  # the network's output, e or v: out_x x + out_mean D
    out_mean: Tensor
    f_x: Tensor  # f = f_x x + f_out out
    f_out: Tensor
    stride: Tensor  # xhat = x - stride (w0 f + w1 f_1 + w2 f_2)
    ghost_x: Tensor  # m of a skipped next step: ghost_x xhat + ghost_out out
    ghost_out: Tensor
    may_skip: Tensor  # NEVER, TESTED, LAGRANGE or FORCED
    stored: Tensor  # stored m enters Lagrange's memory; 0: nothing does
    lagrange: Tensor  # [steps,terms], newest last


class FlowPlan(NamedTuple):
    t: Tensor
    step: Tensor  # s - t
    f_x: Tensor  # f = f_x x + f_mean D
    f_mean: Tensor
    may_skip: Tensor


class Memory(NamedTuple):
    mean: Tensor  # m of the step before
    out: Tensor
    f1: Tensor
    f2: Tensor | None
    ghost: Tensor  # m of the step to come, for the rows that skip it
    skip: Tensor  # bool [B]
    streak: Tensor  # int64 [B]: skips in a row
    kept: tuple[Tensor, ...]  # Lagrange's predictions, newest last


class FlowMemory(NamedTuple):
    f1: Tensor
    f2: Tensor | None
    skip: Tensor
    streak: Tensor


def schedule(
    steps: int, first: int, last: int, lag_terms: int, lag_every: int, lag_first: int, even: int = 0,
    scaled: bool = True,
) -> Tensor:  # fmt: skip
    """may_skip of every step. The indices are for 50 steps and scale with `steps`, or are not `scaled` and taken as
    they are; even is a number of skips."""
    counts(0, first=first, last=last, lag_terms=lag_terms, lag_every=lag_every, lag_first=lag_first, even=even)
    if lag_every < 2 or lag_first % lag_every:
        raise ValueError(
            f"lag_every, lag_first: {lag_every}, {lag_first}, expected every >= 2 and lag_first a multiple of lag_every"
        )
    if scaled and last > PUBLISHED:
        raise ValueError(f"last: {last}, expected at most {PUBLISHED}, from which it is scaled, or scaled=False")
    of = PUBLISHED if scaled else steps
    begin, end, lag = max(3, first * steps // of), min(steps, last * steps // of), lag_first * steps // of
    three = -(-3 // lag_every) * lag_every  # the first multiple from which there are three f
    lag = max(three, lag // lag_every * lag_every) if lag_terms else steps
    end = min(end, steps - 1) if even else end  # none of these is spent on the last step, which has no next
    window = max(0, end - begin)
    if not 0 <= even <= window:
        raise ValueError(f"even: {even!r}, expected 0 (the test) to {window} skips in steps {begin} to {end - 1}")
    i = torch.arange(steps)
    inside = (i >= begin) & (i < end)
    if even:
        spread = begin + (2 * torch.arange(even) + 1) * window // (2 * even)
        return torch.where((i[:, None] == spread).any(1), FORCED, NEVER).double()
    forced = (i >= lag) & (i < end) & (i % lag_every != 0)
    return torch.where(forced, LAGRANGE, torch.where(inside & (i < lag), TESTED, NEVER)).double()


def lagrange_weights(steps: int, terms: int, every: int) -> Tensor:
    """[steps,terms]: of the stored predictions at i, newest last, in the polynomial's value at i + 1; 0 for those that
    are not there yet."""
    rows = torch.zeros(steps, max(terms, 1), dtype=torch.float64)
    for i in range(steps):
        nodes = [j for j in range(i + 1) if j % every == 1][-terms:] if terms else []
        for k, a in enumerate(reversed(nodes)):
            rows[i, -1 - k] = math.prod((i + 1 - b) / (a - b) for b in nodes if b != a)
    return rows


def chain_step(t: Tensor, process: Process) -> tuple[Tensor, Tensor]:
    """f = f_x x + f_eps e, the displacement by one step of t_max/1000: (-beta x + beta e/sigma)/2 on a VP chain."""
    s = (t - process.t_max / TRAINED).clamp(min=0)
    ratio = (process.alpha(t) / process.alpha(s)) ** 2
    added = process.sigma(t) ** 2 - ratio * process.sigma(s) ** 2
    return (ratio - 1) / 2, added / (2 * process.sigma(t))


def plan(
    grid: Tensor, process: Process, may_skip: Tensor, *, weights: str, order: int, lower_order_final: bool,
    lag_terms: int, lag_every: int, network: str, over_alpha: bool,
) -> Plan:  # fmt: skip
    """Coefficients of every step. Raises ValueError, BadGrid."""
    if weights not in WEIGHTS or order not in (1, 2):
        raise ValueError(f"weights, order: {weights!r}, {order!r}, expected one of {', '.join(WEIGHTS)}, and 1 or 2")
    if network not in NETWORKS:
        raise ValueError(f"network: {network!r}, expected one of {', '.join(NETWORKS)}: what it predicts")
    t, s = grids.checked(grid)[:-1], grid[1:]
    alpha, sigma = process.alpha(t), process.sigma(t)
    if alpha[0] <= 0:
        raise grids.BadGrid(f"grid: starts at {t[0].item():g}, where alpha = 0; start lower or use the flow form")
    h = process.lam(s) - process.lam(t)
    weight = torch.zeros_like(h)
    if order == 2:
        weight[1:] = torch.where(h[1:].isinf(), 0.0, h[1:] / h[:-1] / 2)
        weight[-1] *= not (lower_order_final and h.shape[0] < FINAL_BELOW)
    pull = -process.alpha(s) * torch.expm1(-h)
    alpha_rate, sigma_rate = process.rates(t)
    growth = alpha_rate / alpha
    f_x, f_out = chain_step(t, process) if weights == "code" else (growth, sigma_rate - growth * sigma)
    stride = torch.ones_like(t) if weights == "code" else t - s
    i = torch.arange(t.shape[0])
    lagrange, stored = lagrange_weights(t.shape[0], lag_terms, lag_every), (i % lag_every == 1).double()
    if over_alpha:
        lagrange, stored = lagrange * process.alpha(s)[:, None], stored / alpha
    out_x, out_mean = 1 / sigma, -alpha / sigma
    ghost_x, ghost_out = 1 / process.alpha(s), -process.sigma(s) / process.alpha(s)
    if network == "v":  # x = alpha D + sigma e and v = alpha e - sigma D, solved for e and D
        square, square_s = alpha**2 + sigma**2, process.alpha(s) ** 2 + process.sigma(s) ** 2
        out_x, out_mean = alpha / sigma, -square / sigma
        f_x, f_out = f_x + f_out * sigma / square, f_out * alpha / square
        ghost_x, ghost_out = process.alpha(s) / square_s, -process.sigma(s) / square_s
    return Plan(
        t, process.sigma(s) / sigma, pull * (1 + weight), -pull * weight, out_x, out_mean, f_x, f_out, stride, ghost_x,
        ghost_out, may_skip, stored, lagrange,
    )  # fmt: skip


def rows_mean(momentum: Tensor, batch_global: bool) -> Tensor:
    """C, [B]: the mean of its integrand [B,*D] over each sample, or over all of them."""
    return momentum.mean().expand(momentum.shape[0]) if batch_global else momentum.flatten(1).mean(1)


def decided(c: Tensor, may_skip: float, streak: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Whether each row skips the next call, and its skips in a row. c [B], streak int64 [B]."""
    wanted = c <= 0 if may_skip == TESTED else torch.full_like(c, may_skip != NEVER, dtype=torch.bool)
    skip = wanted if may_skip == FORCED else wanted & (streak < most)
    return skip, torch.where(skip, streak + 1, 0)


def refreshed(x: Tensor, t: float, old: Tensor | None, skip: Tensor | None, model: Model) -> Tensor:
    """D of the rows that do not skip, `old` in the others; asks the device once which these are."""
    if skip is None or not skip.any():
        return model(x, t)
    if skip.all():
        return old
    return old.index_put(((~skip).nonzero()[:, 0],), model(x[~skip], t))


def by_row(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.ndim - 1))


def sada_step(
    x: Tensor, row: Plan, memory: Memory | None, *, model: Model, draws: Draws, weights: str, most: int,
    batch_global: bool,
) -> tuple[Tensor, Memory]:  # fmt: skip
    """One step of the base solver, and the decision about the next call."""
    skip = memory and memory.skip
    mean = refreshed(x, row.t, memory and memory.ghost, skip, model)
    out = torch.mul(x, row.out_x).add_(mean, alpha=row.out_mean)
    if memory is not None:
        out = torch.where(by_row(skip, x), memory.out, out)
    x_s = torch.mul(x, row.keep).add_(mean, alpha=row.now)
    x_s = x_s.add_(memory.mean, alpha=row.before) if row.before else x_s
    f = torch.mul(x, row.f_x).add_(out, alpha=row.f_out)
    kept = memory.kept if memory else ()
    kept = (*kept, row.stored * mean)[-len(row.lagrange) :] if row.stored else kept
    if memory is None or memory.f2 is None:
        nothing = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        return x_s, Memory(mean, out, f, memory and memory.f1, mean, nothing, nothing.long(), kept)
    guess = x
    for w, each in zip(WEIGHTS[weights], (f, memory.f1, memory.f2), strict=True):
        guess = guess.add(each, alpha=-w * row.stride)
    momentum = (x_s - guess) * ((f - memory.f1) - (memory.f1 - memory.f2))
    skip, streak = decided(rows_mean(momentum, batch_global), row.may_skip, memory.streak, most)
    if row.may_skip == LAGRANGE:
        ghost = sum(w * m for w, m in zip(row.lagrange[-len(kept) :], kept, strict=True))
    else:
        ghost = torch.mul(x_s if weights == "reuse" else guess, row.ghost_x).add_(out, alpha=row.ghost_out)
    return x_s, Memory(mean, out, f, memory.f1, ghost, skip, streak, kept)


def flow_step(
    x: Tensor, row: FlowPlan, memory: FlowMemory | None, *, model: Model, draws: Draws, most: int, batch_global: bool
) -> tuple[Tensor, FlowMemory]:
    """Euler's step with the velocity, or with the line through the last two, and the decision about the next call."""
    if memory is None or memory.f2 is None:  # nothing is skipped yet
        f = torch.mul(x, row.f_x).add_(model(x, row.t), alpha=row.f_mean)
        nothing = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        return x.add(f, alpha=row.step), FlowMemory(f, memory and memory.f1, nothing, nothing.long())
    skip, line = by_row(memory.skip, x), 2 * memory.f1 - memory.f2
    mean = refreshed(x, row.t, torch.zeros_like(x), memory.skip, model)
    f = torch.where(skip, line, torch.mul(x, row.f_x).add_(mean, alpha=row.f_mean))
    momentum = torch.where(skip, 0.0, (memory.f1 - memory.f2) - (f - memory.f1))
    goes, streak = decided(rows_mean(momentum, batch_global), row.may_skip, memory.streak, most)
    return x.add(f, alpha=row.step), FlowMemory(torch.where(skip, memory.f1, f), memory.f1, goes, streak)


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, weights: str = "code", order: int = 2,
    first: int = 10, last: int = 47, most: int = 4, lag_terms: int = 4, lag_every: int = 4, lag_first: int = 24,
    batch_global: bool = False, lower_order_final: bool = True, network: str = "noise", over_alpha: bool = False,
    even: int = 0, scaled: bool = True,
) -> Run:  # fmt: skip
    """SADA over DPM-Solver++ from grid[0] to grid[-1]. x [B,*D]. Defaults: sd_demo.py (acc_range, max_interval, ..) and
    "code" weights; lag_terms = 0 is without Lagrange. Raises ValueError, and BadGrid for a start where alpha = 0."""
    counts(0, most=most)
    may_skip = schedule(grids.checked(grid).shape[0] - 1, first, last, lag_terms, lag_every, lag_first, even, scaled)
    rows = plan(
        grid, process, may_skip, weights=weights, order=order, lower_order_final=lower_order_final, lag_terms=lag_terms,
        lag_every=lag_every, network=network, over_alpha=over_alpha,
    )  # fmt: skip
    return drive(rows, partial(sada_step, weights=weights, most=most, batch_global=batch_global), model, x, draws=draws)


def sample_flow(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, first: int = 10, last: int = 47,
    most: int = 4, lag_terms: int = 3, lag_every: int = 4, lag_first: int = 20, batch_global: bool = False,
    even: int = 0, scaled: bool = True,
) -> Run:  # fmt: skip
    """SADA over Euler's method on the velocity. x [B,*D]. Defaults: flux_demo.py; lag_terms > 0 only sets which steps
    are skipped from lag_first on."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    counts(0, most=most)
    may_skip = schedule(t.shape[0], first, last, lag_terms, lag_every, lag_first, even, scaled)
    alpha_rate, sigma_rate = process.rates(t)
    growth = sigma_rate / process.sigma(t)
    rows = FlowPlan(t, s - t, growth, alpha_rate - growth * process.alpha(t), may_skip)
    return drive(rows, partial(flow_step, most=most, batch_global=batch_global), model, x, draws=draws)


def token_pass(i: int, first: int, last: int, last_skip: int, most: int) -> Literal["dense", "refresh", "pruned"]:
    """What blocks do at call i: all tokens outside [first, last); all tokens, into the cache, at `first` or after the
    last skipped call, and every `most` calls from there; otherwise the pruned set (sada/prune.py)."""
    if not first <= i < last:
        return "dense"
    since = i - first if first > last_skip else i - last_skip - 1
    return "refresh" if since % most == 0 else "pruned"


def unstable_tokens(momentum: Tensor, most: int) -> Tensor:
    """bool [L]: tokens whose channel mean is >= 0, but at most the `most` largest. momentum: C's integrand [L,C]."""
    mean = momentum.mean(1)
    chosen = mean >= 0
    if int(chosen.sum()) > most:
        chosen = torch.zeros_like(chosen).index_fill(0, mean.topk(most).indices, True)
    return chosen


def kept_tokens(u: Tensor, unstable: Tensor, height: int, width: int, window: tuple[int, int] = (3, 3)) -> Tensor:
    """bool [L], L = height x width: one token of every window and the unstable ones. u [windows]: uniforms, row by row;
    window (3, 3): sy, sx of the demos. Rows and columns beyond the last whole window have no random token."""
    sy, sx = window
    down, across = height // sy, width // sx
    place = (u.reshape(down, across) * (sy * sx)).long()
    y = torch.arange(down, device=u.device)[:, None] * sy + place // sx
    x = torch.arange(across, device=u.device) * sx + place % sx
    return unstable.index_fill(0, (y * width + x).flatten(), True)


def pruned(block: Callable[[Tensor], Tensor], tokens: Tensor, keep: Tensor, cache: Tensor) -> Tensor:
    """The block's output [B,L,C] with only the kept tokens computed, among themselves; it is also the next cache.

    block: [B,l,C] -> [B,l,C] for any l. keep: bool [L]. cache: the output at the call before, where keep is False.
    """
    index = keep.nonzero()[:, 0]
    return cache.index_copy(1, index, block(tokens[:, index]))


def _all_kept(model: Model, *, condition: Any, process: Process) -> tuple[Model, Model]:
    def changed(x: Tensor, t: Time) -> Tensor:
        keep = torch.ones(x.shape[1], dtype=torch.bool, device=x.device)
        return pruned(lambda tokens: model(tokens, t), x, keep, torch.zeros_like(x))

    return Predictor(model.kind, changed), model


def _card(name: str, options: Mapping[str, Any], **traits: Any) -> Sampler:
    return Sampler(
        id=f"jiang2025sada.{name}", sample=partial(sample, **options), grid=grids.uniform_t, consumes="mean",
        path="vp-linear", symmetric=frozenset({"rotation"}), **traits,
    )  # fmt: skip


OF_CODE = {"variant": True, "per_sample": False}

PAPER = Paper(
    key="jiang2025sada",
    title="SADA: Stability-guided Adaptive Diffusion Acceleration",
    authors="Ting Jiang, Yixiao Wang, Hancheng Ye, Zishan Shao, Jingwei Sun, Jingyang Zhang, Zekai Chen, Jianyi Zhang, "
    "Yiran Chen, Hai Li",
    venue="ICML 2025",
    arxiv="2507.17135",
    code="Ting-Justin-Jiang/sada-icml",
    licence="MIT",
    samplers=(
        _card(
            "sada",
            {},
            reduces=(
                Reduction(
                    {"last": 0, "lower_order_final": False}, "lu2022dpmsolverpp.2m", {"lower_order_final": False}
                ),
                Reduction({"last": 0, "order": 1}, "song2020ddim.ddim"),
            ),
        ),
        _card("paper", {"weights": "paper", "lag_terms": 0}),
        _card("ab3", {"weights": "ab3", "lag_terms": 0}, variant=True),
        _card("reuse", {"weights": "reuse", "lag_terms": 0}, variant=True, exact_on=frozenset({"delta"})),
        _card("official", {"batch_global": True}, **OF_CODE),
        _card("official_euler", {"batch_global": True, "order": 1, "over_alpha": True}, **OF_CODE),
        _card("official_v", {"batch_global": True, "network": "v"}, **OF_CODE),
        Sampler(
            id="jiang2025sada.flow",
            sample=sample_flow,
            grid=grids.t_to_zero,
            consumes="mean",
            path="condot",
            exact_on=frozenset({"delta"}),
            reduces=(Reduction({"last": 0}, "lipman2022fm.euler"),),
        ),
    ),  # fmt: skip
    transforms=(
        Transform(id="jiang2025sada.tokens", apply=pruned, identity_at={"keep": "all tokens"}, limit=_all_kept),
    ),
)
