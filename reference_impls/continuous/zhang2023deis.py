"""zhang2023deis - DEIS: exact linear part, and a polynomial or Runge-Kutta rule for the noise prediction that remains.

Zhang, Chen, "Fast Sampling of Diffusion Models with Exponential Integrator", ICLR 2023, arXiv:2204.13902.
Official code: qsh-zh/deis (no licence file; formulas only).
Path        x_t = alpha_t x0 + sigma_t eps, vp-linear, t in [1e-3, 1]; rho = sigma/alpha (the code's alpha is our
            alpha^2). With v = x/alpha the flow is dv/drho = e(alpha v, t(rho)), e = (x - alpha D)/sigma. Any path with
            alpha > 0 at its start works.
Loss        none: training free.
Step        x_s = (alpha_s/alpha_t) x_t + alpha_s sum_j C_j e_j, e_0 at t, e_1, .. at the nodes before; memory: those.
            tAB-r: C_j = int_t^s rho'(u) l_j(u) du, l_j the Lagrange basis of degree r in t on the last r + 1 nodes.
            rhoAB-r: the same with basis and integral in rho. iPNDM: C_j = (rho_s - rho_t) times the Adams-Bashforth
            weights of even steps. rhoRK: an explicit Runge-Kutta rule on dv/drho.  Warm-up: degree i in step i.
            At sigma_s = 0 (rho_s = 0) all is finite but a stage of rhoRK at s, which is refused.
Cost        NFE = steps; rhoRK stages times that. r is the degree: r + 1 evaluations and, started exactly, order r + 1.
            The warm-up's one step of order 1 holds the observed order near 2 where its error is not negligible.
Exact when  point mass: any step. r = 0 is DDIM; on ve-edm (t = rho) tAB is rhoAB; rhoRK heun2 is Heun's method in rho.
            Noise predictions polynomial in t or rho up to degree r. All but tAB give the same x/alpha on every path
            with the same rho.
Differs     The integrals of the code are left sums over 10,000 points, in float32 unless told otherwise: with 5 steps
            its output is off by up to 8e-3 (tAB) and 4e-5 (rhoAB). The float32, which moves its weights by 7e-7 at 5
            steps and 6e-5 at 200, less than the sums do, is not offered. Here the integrals are exact to rounding:
            moments agree with 30 digits to 7e-15 of rho's change on every path of the suite, steps to t = 0, starts
            near alpha = 0 and the knots of chains included; where rho itself rounds (cosine from .999, steps of 1e-5),
            to that (2e-13, 2e-12). Chains of more than 4,000 knots are not split at them. quadrature = "left" sums as
            the code does. Both integrate by moments, the same numbers in exact arithmetic. The code's iPNDM runs on the
            grid t only. Its README sets beta_0 = .01, everyone else .1: here the path decides. zju-pi/diff-sampler
            counts nodes, not the degree, in its "tab". Discrete models: the code rounds its times to integers and fills
            up lists that became too short; here any grid on the chain's piecewise curve is used as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Grid, Model, Paper, Reduction, Run, Sampler

LEFT_POINTS = 10_000  # of the official sums (th_deis/multistep.py)
GAUSS_POINTS, GROWTH, HALVINGS = 12, 1.5, 28  # of a panel: nodes, the most that rho grows in it, halvings to get there
PROBES = 8192  # times at which corners of log alpha are looked for: enough for chains of 4,000 knots
# Adams-Bashforth weights of even steps, newest first (th_deis/sampler.py; Hairer, Norsett & Wanner, ODEs I, III.1)
EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


class Tableau(NamedTuple):
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]  # of the second stage and the later ones
    weights: tuple[float, ...]


# th_deis/rk.py; names there 1euler, 2heun, 3kutta, 3ral, 3heun, 3vdh, 3ssprk, 4rk
TABLEAUX = {
    "euler": Tableau((0.0,), (), (1.0,)),
    "heun2": Tableau((0.0, 1.0), ((1.0,),), (1 / 2, 1 / 2)),
    "kutta3": Tableau((0.0, 1 / 2, 1.0), ((1 / 2,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6)),
    "ral3": Tableau((0.0, 1 / 2, 3 / 4), ((1 / 2,), (0.0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9)),
    "heun3": Tableau((0.0, 1 / 3, 2 / 3), ((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4)),
    "vdh3": Tableau((0.0, 8 / 15, 2 / 3), ((8 / 15,), (1 / 4, 5 / 12)), (1 / 4, 0.0, 3 / 4)),
    "ssp3": Tableau((0.0, 1.0, 1 / 2), ((1.0,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3)),
    "rk4": Tableau((0.0, 1 / 2, 1 / 2, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 2 / 6, 2 / 6, 1 / 6)),
}


class Curve(NamedTuple):
    """The variable y in which e is a polynomial, at the grid's times, with rho(y), its slope, and where that jumps."""

    at: Tensor
    rho: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    corners: Tensor


class Plan(NamedTuple):
    t: Tensor
    eps_x: Tensor  # e = eps_x x + eps_mean D
    eps_mean: Tensor
    keep: Tensor  # x_s = keep x_t + sum_j weights_j e_j
    weights: Tensor  # [steps, nodes], newest first


class Stages(NamedTuple):
    """One row per step; the columns are [steps, stages], the last one [steps, stages, stages]."""

    t: Tensor
    eps_x: Tensor
    eps_mean: Tensor
    keep: Tensor  # state after stage k = keep_k x_t + sum_{j <= k} pull_kj e_j: the next stage's, or x_s
    pull: Tensor


def finite_rho(grid: Tensor, process: Process) -> Tensor:
    """The grid, if it decreases and rho is finite at its start; else BadGrid."""
    if process.alpha(grids.checked(grid)[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: starts at {grid[0].item():g}, where alpha = 0 and rho = sigma/alpha has no value; "
            "start below, as process.between(t_min, .999) does"
        )
    return grid


def corners(grid: Tensor, process: Process) -> Tensor:
    """Where straight pieces of log alpha meet within the grid: the knots of a chain. None if it bends everywhere."""
    t = torch.linspace(grid[-1].item(), grid[0].item(), PROBES, dtype=torch.float64)
    slope, level = process.rates(t)[0] / process.alpha(t), process.log_alpha(t)
    turns = ((slope[1:] - slope[:-1]).abs() > 1e-9 * slope[1:].abs()).nonzero().flatten()
    if len(turns) > PROBES / 2:
        return grid.new_empty(0)
    a, b, before, after = t[turns], t[turns + 1], slope[turns], slope[turns + 1]
    met = a + (level[turns + 1] - level[turns] - after * (b - a)) / (before - after)
    return met.clamp(a, b)


def in_t(grid: Tensor, process: Process) -> Curve:
    def slope(t: Tensor) -> Tensor:
        alpha, (alpha_rate, sigma_rate) = process.alpha(t), process.rates(t)
        return (sigma_rate - process.rho(t) * alpha_rate) / alpha

    return Curve(grid, process.rho, slope, corners(grid, process))


def in_rho(grid: Tensor, process: Process) -> Curve:
    return Curve(process.rho(grid), torch.clone, torch.ones_like, grid.new_empty(0))


@cache
def gauss_legendre(points: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0,1], float64, from the eigenvectors of the Jacobi matrix (Golub & Welsch 1969)."""
    k = torch.arange(1, points, dtype=torch.float64)
    side = torch.diag(k / (4 * k**2 - 1).sqrt(), 1)
    nodes, vectors = torch.linalg.eigh(side + side.T)
    return (1 + nodes) / 2, vectors[0] ** 2


def panels(curve: Curve) -> Tensor:
    """The grid with more edges: at the corners, and so many that rho grows by half at most between two of them.

    What is not smooth near an interval (a root at t = 0, a pole where alpha = 0) lies where rho grows without end. A
    panel that still has rho = 0 at its end after the last halving is 4e-9 of its interval.
    """
    edges = torch.cat([curve.at, curve.corners]).sort(descending=True).values
    for _ in range(HALVINGS):
        rho = curve.rho(edges)
        wide = rho[:-1] > GROWTH * rho[1:]
        if not wide.any():
            break
        middle = (edges[:-1] + edges[1:])[wide] / 2
        edges = torch.cat([edges, middle]).sort(descending=True).values
    return edges


def exact_moments(curve: Curve, degree: int) -> Tensor:
    """int_0^1 z^k (d rho/dz) dz over every interval, y = y_t + z (y_s - y_t), k = 0..degree: [steps, degree+1].

    By parts, rho_s - rho_t - int k z^{k-1} (rho - rho_t) dz, panel by panel: finite where rho' is not.
    """
    edges = panels(curve)
    owner = (torch.searchsorted(-curve.at, -edges[:-1], right=True) - 1).clamp(max=curve.at.shape[0] - 2)
    y_t, rho_t = curve.at[owner, None], curve.rho(curve.at)[owner, None]
    length, width = y_t - curve.at[owner + 1, None], edges[:-1, None] - edges[1:, None]
    place, share = gauss_legendre(GAUSS_POINTS)
    y = edges[:-1, None] - place * width
    z, rise = (y_t - y) / length, (curve.rho(y) - rho_t) * share * width / length
    lost = torch.stack([(k * z ** max(k - 1, 0) * rise).sum(1) for k in range(degree + 1)], 1)
    whole = curve.rho(curve.at[1:]) - curve.rho(curve.at[:-1])
    return whole[:, None] - torch.zeros(len(whole), degree + 1, dtype=torch.float64).index_add_(0, owner, lost)


def left_moments(curve: Curve, degree: int) -> Tensor:
    """The same by the official left sum over 10,000 points, in float64: [steps, degree+1]."""
    z = torch.arange(LEFT_POINTS, dtype=torch.float64) / LEFT_POINTS
    powers = z ** torch.arange(degree + 1)[:, None]
    rows = []
    for y_t, y_s in zip(curve.at[:-1], curve.at[1:], strict=True):
        rows.append(powers @ curve.slope(y_t + z * (y_s - y_t)) * (y_s - y_t) / LEFT_POINTS)
    return torch.stack(rows)


def adams_weights(y: Tensor, moments: Tensor) -> Tensor:
    """C_j with sum_j C_j z_j^k = moments_k on the nodes z_j of each step, k up to its degree: [steps, degree+1].

    That is int l_j drho for the Lagrange basis l_j. Step i has the nodes i, i-1, .., so that its degree is at most i.
    """
    weights = torch.zeros_like(moments)
    steps, most = moments.shape[0], min(moments.shape[0], moments.shape[1]) - 1
    for degree in range(most + 1):
        rows = torch.arange(degree, steps if degree == most else degree + 1)[:, None]
        reach, powers = torch.arange(degree + 1), torch.arange(degree + 1)[:, None]
        z = (y[rows - reach] - y[rows]) / (y[rows + 1] - y[rows])
        weights[rows, reach] = torch.linalg.solve(z[:, None] ** powers, moments[rows, reach])
    return weights


def _rows(grid: Tensor, process: Process, weights: Tensor) -> Plan:
    t, s = grid[:-1], grid[1:]
    alpha_t, sigma_t, alpha_s = process.alpha(t), process.sigma(t), process.alpha(s)
    return Plan(t, 1 / sigma_t, -alpha_t / sigma_t, alpha_s / alpha_t, alpha_s[:, None] * weights)


def plan(grid: Tensor, process: Process, *, degree: int = 3, variable: str = "t", quadrature: str = "exact") -> Plan:
    """tAB and rhoAB. variable: "t" or "rho", that of the polynomial; quadrature: "exact", or "left" as in the code."""
    if degree not in range(4) or not isinstance(degree, int):
        raise ValueError(f"degree: {degree!r}, expected 0..3 (0 is DDIM; order is degree + 1)")
    if variable not in ("t", "rho"):
        raise ValueError(f"variable: {variable!r}, expected 't' or 'rho'")
    if quadrature not in ("exact", "left"):
        raise ValueError(f"quadrature: {quadrature!r}, expected 'exact' or 'left' (the official left sums)")
    curve = {"t": in_t, "rho": in_rho}[variable](finite_rho(grid, process), process)
    moments = {"exact": exact_moments, "left": left_moments}[quadrature](curve, degree)
    return _rows(grid, process, adams_weights(curve.at, moments))


def ipndm_plan(grid: Tensor, process: Process, *, order: int = 4) -> Plan:
    """Adams-Bashforth weights of even steps whatever the grid; order 1..4, start-up with 1, 2, .."""
    if order not in range(1, 5) or not isinstance(order, int):
        raise ValueError(f"order: {order!r}, expected 1..4 (1 is DDIM)")
    rho = process.rho(finite_rho(grid, process))
    shares = torch.zeros(rho.shape[0] - 1, order, dtype=torch.float64)
    for i in range(shares.shape[0]):
        row = EVEN[min(i + 1, order) - 1]
        shares[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return _rows(grid, process, shares * (rho[1:] - rho[:-1])[:, None])


def multistep(
    x: Tensor, row: Plan, memory: tuple[Tensor, ...], *, model: Model, draws: Draws
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One interval of any Adams-Bashforth form; memory: the noise predictions of the steps before, newest first."""
    eps = torch.mul(x, row.eps_x).add_(model(x, row.t), alpha=row.eps_mean)
    held = (eps, *memory[: len(row.weights) - 1])
    x_s = torch.mul(x, row.keep)
    for weight, each in zip(row.weights, held, strict=False):  # held is shorter while it fills up
        x_s.add_(each, alpha=weight)
    return x_s, held


def stages_plan(grid: Tensor, process: Process, *, tableau: str = "kutta3") -> Stages:
    """rhoRK. tableau: a name in TABLEAUX. Stage k is evaluated at rho_t + c_k (rho_s - rho_t)."""
    if tableau not in TABLEAUX:
        raise ValueError(f"tableau: {tableau!r}, expected one of {', '.join(TABLEAUX)}")
    rule, (rho_t, rho_s) = TABLEAUX[tableau], process.rho(finite_rho(grid, process)).unfold(0, 2, 1).unbind(1)
    if 1.0 in rule.nodes and rho_s[-1] == 0:
        raise grids.BadGrid(
            f"grid: ends at {grid[-1].item():g}, where sigma = 0 and a stage of {tableau!r} has no noise prediction; "
            "end at t > 0, or use ral3, heun3 or vdh3"
        )
    step, size = (rho_s - rho_t)[:, None], len(rule.nodes)
    inner = process.time_of_logsnr(-(rho_t[:, None] + step * torch.tensor(rule.nodes, dtype=torch.float64)).log())
    ends = {0.0: grid[:-1], 1.0: grid[1:]}  # inverses round: the ends are the grid's own, exactly
    t = torch.stack([ends.get(c, inner[:, k]) for k, c in enumerate(rule.nodes)], 1)
    alpha = process.alpha(torch.cat([t, grid[1:, None]], 1))
    alpha_k, after, sigma_k = alpha[:, :-1], alpha[:, 1:], process.sigma(t)
    rows = [(*row, *[0.0] * (size - len(row))) for row in (*rule.stages, rule.weights)]
    pull = (after * step)[:, :, None] * torch.tensor(rows, dtype=torch.float64)
    return Stages(t, 1 / sigma_k, -alpha_k / sigma_k, after / alpha[:, :1], pull)


def runge_kutta(x: Tensor, row: Stages, memory: None, *, model: Model, draws: Draws) -> tuple[Tensor, None]:
    """One interval of rhoRK."""
    state, slopes = x, []
    for k, t in enumerate(row.t):
        slopes.append(torch.mul(state, row.eps_x[k]).add_(model(state, t), alpha=row.eps_mean[k]))
        state = torch.mul(x, row.keep[k])
        for pull, eps in zip(row.pull[k], slopes, strict=False):
            if pull:
                state.add_(eps, alpha=pull)
    return state, None


def sample(
    model: Model,
    x: Tensor,
    grid: Tensor,
    *,
    process: Process,
    draws: Draws,
    degree: int = 3,
    variable: str = "t",
    quadrature: str = "exact",
) -> Run:
    """tAB (or rhoAB) from grid[0] to grid[-1]. x [B,*D]. degree 3: the README's ab_order."""
    rows = plan(grid, process, degree=degree, variable=variable, quadrature=quadrature)
    return drive(rows, multistep, model, x, draws=draws, memory=())


def sample_ipndm(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, order: int = 4) -> Run:
    """iPNDM from grid[0] to grid[-1]. x [B,*D]. order 4: the only one of the code."""
    return drive(ipndm_plan(grid, process, order=order), multistep, model, x, draws=draws, memory=())


def sample_rk(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, tableau: str = "kutta3") -> Run:
    """rhoRK from grid[0] to grid[-1]. x [B,*D]. kutta3: the code's default."""
    return drive(stages_plan(grid, process, tableau=tableau), runge_kutta, model, x, draws=draws)


def time_grid(phase: str = "t", exponent: float = 2.0) -> Grid:
    """The official time grids: "t" (t^(1/exponent) even), "log" (log rho even), "rho" (rho^(1/exponent) even).

    Defaults: ts_phase t and ts_order 2 of the README. "log" has no exponent. Raises ValueError on another phase.
    """
    if phase not in ("t", "log", "rho") or not 0 < exponent < math.inf:
        raise ValueError(f"phase, exponent: {phase!r}, {exponent!r}, expected 't', 'log' or 'rho' and a number above 0")

    def even_power_of_t(steps: int, process: Process) -> Tensor:
        high, low = process.t_max ** (1 / exponent), process.t_min ** (1 / exponent)
        times = (high + grids.fractions(steps) * (low - high)) ** exponent
        times[0], times[-1] = process.t_max, process.t_min
        return times

    return {"t": even_power_of_t, "log": grids.uniform_lam, "rho": grids.power(exponent)}[phase]


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


def _evaluations(stages: int) -> Callable[[Tensor], float]:
    return lambda grid: stages * (grid.shape[0] - 1.0)


def _adams(name: str, symmetric: tuple[str, ...], sampler: Callable[..., Run], **fields) -> Sampler:
    return Sampler(
        id=f"zhang2023deis.{name}", sample=sampler, consumes="mean", path="vp-linear", nfe=evaluations, order=2.0,
        exact_on=frozenset({"delta"}), symmetric=frozenset(symmetric), **{"grid": time_grid()} | fields,
    )  # fmt: skip


def _rk(tableau: str, order: float, **fields) -> Sampler:
    return Sampler(
        id=f"zhang2023deis.rhork_{tableau}", sample=partial(sample_rk, tableau=tableau), grid=time_grid(),
        consumes="mean", path="vp-linear", nfe=_evaluations(len(TABLEAUX[tableau].nodes)), order=order,
        exact_on=frozenset({"delta"}), symmetric=frozenset({"rotation", "paths"}), **fields,
    )  # fmt: skip


DDIM = "song2020ddim.ddim"
BOTH = ("rotation", "paths")
NO_WINDOW = {
    "order_is_as_declared": "On vp-linear the order falls from 4 to the warm-up's 2 without a steady slope in between."
}

PAPER = Paper(
    key="zhang2023deis",
    title="Fast Sampling of Diffusion Models with Exponential Integrator",
    authors="Qinsheng Zhang, Yongxin Chen",
    venue="ICLR 2023",
    arxiv="2204.13902",
    code="qsh-zh/deis",
    licence="none stated",
    samplers=(
        _adams("tab3", ("rotation",), sample, reduces=(Reduction({"degree": 0}, DDIM),), known_failures=NO_WINDOW),
        _adams("tab2", ("rotation",), partial(sample, degree=2), variant=True),
        _adams("tab1", ("rotation",), partial(sample, degree=1), variant=True),
        _adams(
            "rhoab3", BOTH, partial(sample, variable="rho"), reduces=(Reduction({"degree": 0}, DDIM),),
            known_failures=NO_WINDOW,
        ),
        _adams("rhoab2", BOTH, partial(sample, variable="rho", degree=2), variant=True),
        _adams("rhoab1", BOTH, partial(sample, variable="rho", degree=1), variant=True),
        _adams("ipndm", BOTH, sample_ipndm, grid=grids.uniform_t, reduces=(Reduction({"order": 1}, DDIM),)),
        _rk("kutta3", 3.0, reduces=(Reduction({"tableau": "euler"}, DDIM),)),
        _rk("heun2", 2.0, variant=True),
        *(_rk(tableau, 3.0, variant=True) for tableau in ("ral3", "heun3", "vdh3", "ssp3")),
        _rk("rk4", 4.0, variant=True),
    ),
)  # fmt: skip
