"""feng2023mode - Mixture of denoising experts: one network for each block of noise levels, one active at a time.

Feng, Zhang, Yu, Fang, Li, Chen, Lu, Liu, Yin, Feng, Sun, Chen, Tian, Wu, Wang, "ERNIE-ViLG 2.0: Improving
Text-to-Image Diffusion Model with Knowledge-Enhanced Mixture-of-Denoising-Experts", CVPR 2023, arXiv:2210.15257.
Official code: none published (none).
Path        x_t = alpha_t x0 + sigma_t eps on a chain of 1,000 steps; block k of n holds the steps kT/n + 1 .. (k+1)T/n,
            here the times (edge_k, edge_(k+1)], the first with its lower end: every time has one expert. Grids, chains
            and edges are rounded apart: what is nearer to an edge than 2^-48 of the largest is on it. Any path.
Loss        |e_k(x_t) - eps|^2 with k the block of t. With t uniform it is the sum of the blocks' own losses, each times
            its share of the times, and an expert's gradient comes from its block alone: without shared weights, joint
            training is independent training, in which an expert sees 1/n of the data.
Step        D(x, t) = D_k(x, t) in any sampler; as cards here in DDIM and 2M, with h = lam_s - lam_t:
            ddim  x_s = (sigma_s/sigma_t) x_t - alpha_s expm1(-h) D;
            2m    the same of D + (D - D_before) h/(2 h_before); memory: D_before, which at an edge is another expert's:
                  the jump then counts as a slope; with `restart` the first step of each block is DDIM's.
Cost        NFE = steps; active parameters are those of one expert whatever n is, all parameters n times that.
            Orders 1 and 2, of experts that agree at their edges. Where they jump 2m is of order 1, and of order 2 only
            with `restart` and on a grid that has the edges, up to rounding.
Exact when  equal experts are the single denoiser bitwise; exact experts give the samples of the exact denoiser; the
            order of the experts means nothing if the table is permuted with them. Point masses: any step.
Differs     The number of experts (10) and the linear chain are [recall]. The text-conditional network, its knowledge-
            enhanced attention and losses are out of reach here. `frozen` is a labelled stand-in for experts of little
            capacity, where the model has no defects of its own: expert k does not see t, it answers as the model does
            in the middle of its block. What more blocks buy, and what a jump at their edges costs, shows in it. 2m is
            no sampler of the paper: a solver that remembers meets the edges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import convert, grids
from reference_impls.core.drive import drive
from reference_impls.core.options import counts
from reference_impls.core.process import Process
from reference_impls.core.types import (
    Draws,
    Model,
    Objective,
    Paper,
    Predictor,
    Reduction,
    Run,
    Sampler,
    Time,
    Transform,
    expand,
)

EXPERTS = 10  # of the published model [recall]
TRAINED = 1000  # length of the training chain [recall]
ON_EDGE = 2.0**-48  # of the largest edge: 16 units in its last place; grids and edges differ by three at most


def uniform_edges(experts: int, process: Process) -> Tensor:
    """float64 [experts+1]: t_min .. t_max in blocks of equal length."""
    counts(1, experts=experts)
    share = torch.linspace(0, 1, experts + 1, dtype=torch.float64)
    return process.t_min + share * (process.t_max - process.t_min)


def block_of(t: Tensor, edges: Tensor) -> Tensor:
    """int64, like t: the k with edges[k] < t <= edges[k+1]; what lies beyond an end belongs to the block there.

    A time that is an edge up to rounding, nearer than ON_EDGE of the largest edge, belongs to the block below it.
    """
    return torch.bucketize(t, (edges[1:-1] + ON_EDGE * edges[-1].abs()).to(t.device))


def mixture(experts: Sequence[Model], edges: Tensor) -> Predictor:
    """The model that is experts[k] on block k of `edges`, float64 [n+1] rising; each row is evaluated once."""
    _fit(experts, edges)

    def predict(x: Tensor, t: Time) -> Tensor:
        if not isinstance(t, Tensor) or t.ndim == 0:
            return experts[int(block_of(torch.as_tensor(t, dtype=torch.float64), edges))](x, t)
        blocks = block_of(t, edges)
        present = blocks.unique().tolist()
        if len(present) <= 1:
            return experts[present[0] if present else 0](x, t)
        places = [(blocks == k).nonzero()[:, 0] for k in present]
        means = [experts[k](x[rows.to(x.device)], t[rows]) for k, rows in zip(present, places, strict=True)]
        return torch.cat(means)[torch.cat(places).argsort().to(x.device)]

    return Predictor(experts[0].kind, predict)


def _fit(experts: Sequence[Model], edges: Tensor) -> None:
    if not experts:
        raise ValueError("experts: none, expected one for each block of edges")
    if edges.ndim != 1 or edges.shape[0] != len(experts) + 1 or not (edges.diff() > 0).all():
        count = len(experts)
        raise ValueError(f"edges: {edges.tolist()}, expected {count + 1} rising times for {count} experts")
    kinds = {expert.kind for expert in experts}
    if len(kinds) > 1:
        raise ValueError(f"experts: of kinds {', '.join(sorted(kinds))}, expected one kind for all")


def frozen_experts(model: Model, edges: Tensor) -> list[Model]:
    """Expert k answers as the model does in the middle of block k, whatever its t: a stand-in for little capacity."""
    return [Predictor(model.kind, lambda x, t, middle=t: model(x, middle)) for t in _middles(edges)]


def _middles(edges: Tensor) -> list[float]:
    return ((edges[1:] + edges[:-1]) / 2).tolist()


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull (D + slope (D - D_before))
    pull: Tensor
    slope: Tensor


def plan(grid: Tensor, process: Process, *, edges: Tensor, order: int, restart: bool) -> Plan:
    """Coefficients of the step in lam; options as in `sample`. A block of `edges` is an expert. Raises ValueError."""
    if order not in (1, 2):
        raise ValueError(f"order: {order!r}, expected 1 (ddim) or 2 (2m)")
    t, s = grids.checked(grid)[:-1], grid[1:]
    h = process.lam(s) - process.lam(t)
    slope = torch.zeros_like(h)
    if order == 2:
        blocks = block_of(t, edges)
        kept = h[1:].isfinite() & ((blocks[1:] == blocks[:-1]) | (not restart))
        slope[1:] = torch.where(kept, h[1:] / h[:-1] / 2, 0.0)
    return Plan(t, process.sigma(s) / process.sigma(t), -process.alpha(s) * torch.expm1(-h), slope)


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, experts: int = EXPERTS,
    frozen: bool = False, order: int = 1, restart: bool = False,
) -> Run:  # fmt: skip
    """DDIM (order 1) or 2M (order 2) with `experts` blocks of equal length over the process's times. x [B,*D].

    frozen: no expert sees t (see frozen_experts); otherwise each is the model itself on its block. restart: 2M forgets
    the mean of another expert. Raises ValueError, BadGrid.
    """
    edges = uniform_edges(experts, process)

    def step(x: Tensor, row: Plan, memory: Any, *, model: Model, draws: Draws) -> tuple[Tensor, Any]:
        made, before = memory or (mixture(frozen_experts(model, edges) if frozen else [model] * experts, edges), None)
        mean = made(x, row.t)
        x_s = torch.mul(x, row.keep).add_(mean, alpha=row.pull * (1 + row.slope))
        return (x_s.add_(before, alpha=-row.pull * row.slope) if row.slope else x_s), (made, mean)

    return drive(plan(grid, process, edges=edges, order=order, restart=restart), step, model, x, draws=draws)


def from_eps(bank: Callable[..., Tensor], *, process: Process, experts: int = EXPERTS) -> Predictor:
    """A bank of networks of the noise, bank(x, t - 1/1000, which) -> [B,*D], as the mixture over equal blocks."""

    def expert(x: Tensor, t: Time, which: int) -> Tensor:
        rows = t if isinstance(t, Tensor) else torch.full((x.shape[0],), t, dtype=torch.float64)
        raw = bank(x, (rows - 1 / TRAINED).to(x.device, x.dtype), which=which).to(x.dtype)
        return convert.mean_of_eps(x, raw, expand(process.alpha(rows), x), expand(process.sigma(rows), x))

    edges = uniform_edges(experts, process)
    return mixture([Predictor("mean", partial(expert, which=k)) for k in range(experts)], edges)


def loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """Squared error of the noise prediction, [B], mean over the sample; of a mixture or of one of its experts."""
    error = model(process.noised(x0, t, noise), t) - x0
    return (expand(process.alpha(t) / process.sigma(t), x0) * error).flatten(1).square().mean(1)


def chain_times(u: Tensor, process: Process) -> Tensor:
    """t uniform on the 1,000 steps of the chain, those of every block alike: u [B] in (0,1) -> t [B]."""
    return ((u.double() * TRAINED).floor() + 1) / TRAINED * process.t_max


def block_times(u: Tensor, process: Process, *, block: int, experts: int) -> Tensor:
    """t uniform on the steps floor(1000 k/n) + 1 .. floor(1000 (k+1)/n) of block k of n: u [B] in (0,1) -> t [B].

    For an expert trained alone. Where n divides 1,000 it is [k/n, (k+1)/n) of the law of `chain_times`.
    """
    counts(1, experts=experts)
    if block not in range(experts):
        raise ValueError(f"block: {block!r}, expected 0 .. {experts - 1}, one of {experts} experts")
    first, last = block * TRAINED // experts, (block + 1) * TRAINED // experts
    if first == last:
        raise ValueError(f"experts: {experts}, expected at most {TRAINED}: block {block} has none of the chain's steps")
    step = first + (u.double() * (last - first)).floor().clamp(max=last - first - 1)
    return (step + 1) / TRAINED * process.t_max


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="feng2023mode",
    title="ERNIE-ViLG 2.0: Improving Text-to-Image Diffusion Model with Knowledge-Enhanced "
    "Mixture-of-Denoising-Experts",
    authors="Zhida Feng, Zhenyu Zhang, Xintong Yu, Yewei Fang, Lanxin Li, Xuyi Chen, Yuxiang Lu, Jiaxiang Liu, "
    "Weichong Yin, Shikun Feng, Yu Sun, Li Chen, Hao Tian, Hua Wu, Haifeng Wang",
    venue="CVPR 2023",
    arxiv="2210.15257",
    code="none",
    licence="none",
    samplers=(
        Sampler(
            id="feng2023mode.ddim",
            sample=sample,
            grid=grids.uniform_t,
            consumes="mean",
            path="vp-linear",
            nfe=evaluations,
            order=1.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(Reduction({}, "song2020ddim.ddim"), Reduction({"experts": 1}, "song2020ddim.ddim")),
            variant=True,
        ),
        Sampler(
            id="feng2023mode.2m",
            sample=partial(sample, order=2),
            grid=grids.uniform_lam,
            consumes="mean",
            path="vp-linear",
            nfe=evaluations,
            order=2.0,
            exact_on=frozenset({"delta"}),
            symmetric=frozenset({"rotation", "paths"}),
            reduces=(
                Reduction({}, "lu2022dpmsolverpp.2m", {"lower_order_final": False}),
                Reduction({"order": 1}, "song2020ddim.ddim"),
            ),
            variant=True,
        ),
    ),
    objectives=(
        Objective(
            id="feng2023mode.loss",
            loss=loss,
            minimiser="mean",
            path="discrete-linear",
            times=chain_times,
        ),
    ),
    transforms=(
        Transform(
            id="feng2023mode.mixture",
            apply=mixture,
            identity_at={"experts": 1},
            limit=lambda model, *, condition, process: (mixture([model], uniform_edges(1, process)), model),
        ),
    ),
    parametrisations={"eps": from_eps},
)
