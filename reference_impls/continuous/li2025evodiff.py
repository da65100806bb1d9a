"""li2025evodiff - EVODiff: a two-step predictor-corrector whose weights are inner products of consecutive denoisings.

Li, Chen, Zeng, "EVODiff: Entropy-aware Variance Optimized Diffusion Inference", NeurIPS 2025, arXiv:2509.26096.
Official code: ShiguiLi/EVODiff (MIT).
Path        x_t = x0 + t eps on [.002, 80] (ve-edm, the only driver published); any path, through rho = sigma/alpha (the
            paper's kappa). A step goes p -> s; u is the time before p. t_0 > .. > t_N, evenly spaced in log rho.
Loss        none: training free.
Step        E(m) = (sigma_s/sigma_p) x + q m, q = alpha_s (1 - rho_s/rho_p): DDIM. First interval x = E(D). Then, with
            m0 = D at p and m1 = D at u, h = 1/rho_s - 1/rho_p, r = log(rho_u/rho_p)/log(rho_p/rho_s),
            b^2 = (sigma_s/sigma_p)/(sigma_p/sigma_u), w = (1 - ((s + t_N)/(t_0 + t_N))^2)/2, clip = clamp to [-2, 2],
              r1 = (1-w) b + w clip(<m0,m1>/<m1,m1>), d1 = m0 - r1 m1, ri = r sigmoid(|r1|/4)
              mt = D(E(m0) + q d1/(2 ri), s)                                                        the one evaluation
              r2 = (1-w) b + w clip(<mt,m0>/<m0,m0>), d2 = mt - r2 m0
              eta = sigmoid(|P(r d2 + d1/r, r d2 - d1/r)|/2)/2, P(a, c) = clip(<a,c>/<c,c>), B = r (1-eta) d2 - eta d1/r
              z = |P(q (d1 - B)/(2 ri), d1)/q| - 1/2, zeta = sigmoid(z), and for N > 20 zeta = sigmoid(-k z) with
              k = sigmoid(P(m0, (m0 - m1)/h) (2 - (sigma_s/sigma_p)^2))
              x = E(m0) + q B/(2 zeta);  memory (m0, m1) := (mt, m0): the corrected x is never evaluated.
            Inner products act per sample and per channel of an image [B,C,H,W]; a state of fewer dimensions is one
            channel. 0/0 := 0.
            Last interval: final = "code" x = (1 - sqrt(sigma_s sigma_p)) E(m0) + q (m0 - g m1)/2 with g = 1 -
            sqrt(c)/2, c = sigma_s/sigma_p if that is below 1/2, else less 1/2; "plain" x = E(m0); "full" as any other.
Cost        NFE = steps; one more for final = "full" beyond one step, and for denoise_to_zero. Order 1 for "plain" and
            "full" wherever zeta behaves (see Differs), none for "code". Deterministic.
Exact when  point mass, VE and a grid even in log rho, with final = "plain" (b = 1, so d1 = d2 = 0). Scaling the data
            on the scaled grid scales the result for "plain"; "code" is not consistent. Moving the data does not move
            the result: raw predictions are projected.
Differs     The paper claims second order: neither form has it, and the code's last step has no order at all, as it
            multiplies a constant prediction by (1 - sqrt(sigma_s sigma_p)) + (1-c)(1-g)/2, on 80 -> .002 by 1.0705
            with 5 steps, at most 1.0928 (10), and 1.0280 with 20. The paper's summary gives eta = sigmoid(|eta*|), zeta
            = sigmoid(-(|zeta*| - mu)): weights = "paper"; the code halves eta and takes the minus sign for N > 20 only:
            weights = "code". With that sign 1/zeta = 1 + exp(k z), and z reaches 2/q where d1 almost vanishes: in one
            dimension, and in the code too, single samples are then thrown off by 1e5 to 1e25 or to nan; in 64
            dimensions none was. The code divides 0 by 0 where predictions vanish or agree: here the quotient is 0. It
            refuses one step at order 2: here that is E. Its clamp of ri to [r/4, 3r/2] never acts, as the sigmoid of
            |r1|/4 lies in [1/2, 1): left out. Its driver takes one step off when denoise_to_zero is set; here the grid
            says how many. A grid may end at sigma = 0 under "code" and "plain" alone: "full" would evaluate there.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Paper, Run, Sampler

FINALS = ("code", "plain", "full")
WEIGHTS = ("code", "paper")
MANY = 20  # beyond so many steps zeta changes its sign and gains a consistency factor [code]
SHIFT, TEMPERATURE = 0.5, 0.25  # mu and the temperature of ri [code]
CLIP = 2.0
START, PROBE, END, CLEAN = range(4)  # what a row is: first interval, predictor-corrector, last interval, D alone


class Plan(NamedTuple):
    t: Tensor  # p
    s: Tensor
    what: Tensor
    keep: Tensor  # E(m) = keep x + pull m
    pull: Tensor
    step: Tensor  # h
    ratio: Tensor  # r
    base: Tensor  # (1 - w) b
    share: Tensor  # w
    decay: Tensor  # 2 - (sigma_s/sigma_p)^2
    end_x: Tensor  # the last interval: x = end_x E(m0) + end_now m0 + end_before m1
    end_now: Tensor
    end_before: Tensor


class Memory(NamedTuple):
    now: Tensor | None  # D at p, None before it is known
    before: Tensor


def closing(final: str, keep: Tensor, pull: Tensor, sigma_p: Tensor, sigma_s: Tensor) -> tuple[Tensor, ...]:
    """Weights of E(m0), m0 and m1 on the last interval, for every interval as if it were the last: [steps] each."""
    if final != "code":
        return torch.ones_like(keep), torch.zeros_like(keep), torch.zeros_like(keep)
    g = 1 - torch.where(keep < 0.5, keep, keep - 0.5).sqrt() / 2
    return 1 - (sigma_s * sigma_p).sqrt(), pull / 2, -g * pull / 2


def checked(grid: Tensor, process: Process, evaluates_at: str) -> Tensor:
    """The grid, if it has signal at its start and noise wherever the model is called; else BadGrid.

    evaluates_at: the option that calls the model at the grid's last time, or "".
    """
    if process.alpha(grids.checked(grid)[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: starts at {grid[0].item():g}, where alpha = 0 and the step in log-SNR has no size; start below, as "
            "process.between(t_min, .999) does"
        )
    if evaluates_at and process.sigma(grid[-1].item()) <= 0:
        raise grids.BadGrid(f"grid: ends at sigma = 0, where {evaluates_at} would call the model; end it at t > 0")
    return grid


def plan(grid: Tensor, process: Process, *, final: str = "code", denoise_to_zero: bool = False) -> Plan:
    """Coefficients of every interval, and a last row that only denoises where denoise_to_zero asks for it."""
    if final not in FINALS:
        raise ValueError(f"final: {final!r}, expected one of {', '.join(FINALS)}")
    evaluates_at = "final = 'full'" if final == "full" else "denoise_to_zero" if denoise_to_zero else ""
    times = checked(grid, process, evaluates_at)
    p, s = times[:-1], times[1:]
    u = torch.cat([p[:1], p[:-1]])  # the first row has none and is not used
    sigma_u, sigma_p, sigma_s = process.sigma(u), process.sigma(p), process.sigma(s)
    lam_u, lam_p, lam_s = process.lam(u), process.lam(p), process.lam(s)
    keep, pull = sigma_s / sigma_p, -process.alpha(s) * torch.expm1(lam_p - lam_s)
    tau = (s + times[-1]) / (times[0] + times[-1])
    share = (1 - tau**2) / 2
    what = torch.full_like(p, PROBE)
    if final != "full":
        what[-1] = END
    what[0] = START
    columns = [
        p, s, what, keep, pull, 1 / process.rho(s) - 1 / process.rho(p), (lam_p - lam_u) / (lam_s - lam_p),
        (1 - share) * (keep * sigma_u / sigma_p).sqrt(), share, 2 - keep**2,
        *closing(final, keep, pull, sigma_p, sigma_s),
    ]  # fmt: skip
    if denoise_to_zero:
        last = {"t": times[-1].item(), "what": CLEAN}
        columns = [torch.cat([c, c.new_tensor([last.get(f, 0.0)])]) for f, c in zip(Plan._fields, columns, strict=True)]
    return Plan(*columns)


def inner(a: Tensor, b: Tensor, per_channel: bool) -> Tensor:
    """<a, b> of states [B,*D], shaped to broadcast: [B,C,1,..] per channel of an image, else [B,1,..]."""
    first = 2 if per_channel and a.ndim > 3 else 1
    return (a * b).sum(dim=tuple(range(first, a.ndim)), keepdim=True)


def share_of(a: Tensor, b: Tensor, per_channel: bool) -> Tensor:
    """P(a, b): the coefficient of a's projection on b, clamped to [-2, 2]; 0 where b = 0."""
    size = inner(b, b, per_channel)
    return (inner(a, b, per_channel) / torch.where(size > 0, size, 1.0)).clamp(-CLIP, CLIP)


def weights_of(
    d1: Tensor, d2: Tensor, row: Plan, reach: Tensor, m0: Tensor, m1: Tensor, *, weights: str, many: bool, per: bool
) -> tuple[Tensor, Tensor]:
    """B and zeta. reach = pull/(2 ri): what multiplies d1 in the probe."""
    back, ahead = d1 / row.ratio, d2 * row.ratio  # r h B of the code's two differences: h drops out of the quotient
    eta = torch.sigmoid(share_of(ahead + back, ahead - back, per).abs() / 2)
    eta = eta / 2 if weights == "code" else eta
    bend = ahead * (1 - eta) - back * eta
    z = (share_of(reach * (d1 - bend), d1, per) / row.pull).abs() - SHIFT
    if weights == "paper":
        return bend, torch.sigmoid(-z)
    if not many:
        return bend, torch.sigmoid(z)
    return bend, torch.sigmoid(-z * torch.sigmoid(share_of(m0, (m0 - m1) / row.step, per) * row.decay))


def evodiff_step(
    x: Tensor, row: Plan, memory: Memory | None, *, model: Model, draws: Draws, weights: str, many: bool, per: bool
) -> tuple[Tensor, Memory | None]:
    """One interval: E alone at first, predictor and corrector between, the closing formula at the end."""
    if row.what == CLEAN:
        return model(x, row.t), None
    if row.what == START:
        mean = model(x, row.t)
        return torch.mul(x, row.keep).add_(mean, alpha=row.pull), Memory(None, mean)
    m1, m0 = memory.before, model(x, row.t) if memory.now is None else memory.now
    euler = torch.mul(x, row.keep).add_(m0, alpha=row.pull)
    if row.what == END:
        return torch.mul(euler, row.end_x).add_(m0, alpha=row.end_now).add_(m1, alpha=row.end_before), None
    r1 = row.base + row.share * share_of(m0, m1, per)
    d1 = m0 - r1 * m1
    reach = row.pull / (2 * row.ratio * torch.sigmoid(TEMPERATURE * r1.abs()))
    m_t = model(euler + reach * d1, row.s)
    d2 = m_t - (row.base + row.share * share_of(m_t, m0, per)) * m0
    bend, zeta = weights_of(d1, d2, row, reach, m0, m1, weights=weights, many=many, per=per)
    return euler.addcmul(bend, 1 / zeta, value=row.pull / 2), Memory(m_t, m0)


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, final: str = "code",
    weights: str = "code", denoise_to_zero: bool = False, per_channel: bool = True,
) -> Run:  # fmt: skip
    """EVODiff from grid[0] to grid[-1]. x [B,*D].

    final "code" (lower_order_final as coded, the default of sample.py), "plain" or "full"; weights "code" or "paper";
    denoise_to_zero ends on D(x, grid[-1]) (the flag's default is off); per_channel False takes a sample as one channel.
    Raises ValueError for other names; BadGrid where the grid starts at alpha = 0, or ends at sigma = 0 and the model
    would be called there.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights: {weights!r}, expected one of {', '.join(WEIGHTS)}")
    rows = plan(grid, process, final=final, denoise_to_zero=denoise_to_zero)
    step = partial(evodiff_step, weights=weights, many=grid.shape[0] - 1 > MANY, per=per_channel)
    return drive(rows, step, model, x, draws=draws)


def evaluations(grid: Tensor, *, extra: int = 0) -> float:
    return float(grid.shape[0] - 1 + (extra if grid.shape[0] > 2 else 0))


CHANNELS = {
    "accepts_its_sample_shapes": "inner products are taken per channel, so that [C,H,W] and its flattening differ"
}

PAPER = Paper(
    key="li2025evodiff",
    title="EVODiff: Entropy-aware Variance Optimized Diffusion Inference",
    authors="Shigui Li, Wei Chen, Delu Zeng",
    venue="NeurIPS 2025",
    arxiv="2509.26096",
    code="ShiguiLi/EVODiff",
    licence="MIT",
    samplers=(
        Sampler(
            id="li2025evodiff.evodiff",
            sample=sample,
            grid=grids.uniform_lam,
            consumes="mean",
            path="ve-edm",
            nfe=evaluations,
            known_failures=CHANNELS,
        ),
        Sampler(
            id="li2025evodiff.plain",
            sample=partial(sample, final="plain"),
            grid=grids.uniform_lam,
            consumes="mean",
            path="ve-edm",
            nfe=evaluations,
            order=1.0,
            known_failures=CHANNELS,
        ),
        Sampler(
            id="li2025evodiff.full",
            sample=partial(sample, final="full", per_channel=False),
            grid=grids.uniform_lam,
            consumes="mean",
            path="ve-edm",
            nfe=partial(evaluations, extra=1),
            order=1.0,
            symmetric=frozenset({"rotation"}),
            variant=True,
        ),
        Sampler(
            id="li2025evodiff.paper",
            sample=partial(sample, weights="paper", final="plain"),
            grid=grids.uniform_lam,
            consumes="mean",
            path="ve-edm",
            nfe=evaluations,
            variant=True,
            known_failures=CHANNELS,
        ),
    ),
)
