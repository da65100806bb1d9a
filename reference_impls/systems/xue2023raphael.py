"""xue2023raphael - RAPHAEL: experts chosen by noise level, and experts chosen by word for the region it speaks of.

Xue, Song, Guo, Liu, Zong, Liu, Luo, "RAPHAEL: Text-to-Image Generation via Large Mixture of Diffusion Paths",
NeurIPS 2023, arXiv:2305.18295. Official code: none published (none).
Path        x_t = alpha_t x0 + sigma_t eps on a chain of 1,000 steps; any path works.
Loss        |e(x_t, c) - eps|^2, and for t <= T_c = 500 an edge term on the cross-attention maps of the words: above T_c
            a picture has no outline yet. Stand-in for its edge term: the focal loss between the maps and an edge map.
Step        In a block with hidden state h, two mixtures in turn:
            time    h' = te_j(h),  j = argmax(softmax(G'(E'(t))) + noise): by t alone, one expert for all rows at t;
            space   h'' = (1/n_y) sum_i e_(route(y_i))(h' * M_i): word y_i of n_y has one expert, route(y_i) =
                    argmax(softmax(G(E(y_i))) + noise); M_i is 1 where its cross-attention exceeds .2 of its largest.
            A choice of time and space experts in every block is a "diffusion path". As a card here: time experts that
            are whole denoisers, D = D_j(x, t), in DDIM.
Cost        NFE = steps. One time expert and one expert a word are active in each block, however many there are.
Exact when  equal experts are one; the order of experts means nothing if the router's table is permuted with them; noise
            0 makes the choice one by the largest logit. A mask of ones and equal experts leave e(h'). Point masses:
            any step.
Differs     alpha = .2 and T_c = 500 [text: a published summary]; that the threshold is relative to each map's largest
            value, the focal loss and its constants (2, .25 of its own paper) are [recall]. Networks E', G', E, G, te, e
            are the caller's: this file holds the rules by which they are put together. `frozen` as in any study of
            experts without defects: that of a group of levels answers as the model does in the middle of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
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

THRESHOLD = 0.2  # alpha, of the largest value of a map [text]
EDGES_UNTIL = 0.5  # T_c = 500 of 1,000 [text]
TRAINED = 1000
Expert = Callable[[Tensor], Tensor]


def chosen(logits: Tensor, noise: Tensor | float = 0.0) -> Tensor:
    """argmax(softmax(logits) + noise) over the last dimension, int64; noise 0, as at inference: the largest logit."""
    return (logits.softmax(-1) + noise).argmax(-1)


def by_time(h: Tensor, logits: Tensor, experts: Sequence[Expert], noise: Tensor | float = 0.0) -> Tensor:
    """te_j(h), h [B,*D]: logits [n] for one t for all rows, or [B,n]; each row goes through one expert."""
    _count(logits, experts)
    choice = chosen(logits, noise)
    if choice.ndim == 0:
        return experts[int(choice)](h)
    return _each(h, choice, experts)


def _each(h: Tensor, choice: Tensor, experts: Sequence[Expert]) -> Tensor:
    """experts[choice[b]](h[b]) for every row b, the rows of an expert in one call."""
    present = choice.unique().tolist()
    if len(present) <= 1:
        return experts[present[0] if present else 0](h)
    places = [(choice == k).nonzero()[:, 0] for k in present]
    parts = [experts[k](h[rows]) for k, rows in zip(present, places, strict=True)]
    return torch.cat(parts)[torch.cat(places).argsort()]


def _count(logits: Tensor, experts: Sequence[Any]) -> None:
    _some(experts)
    if logits.shape[-1] != len(experts):
        raise ValueError(f"logits: {logits.shape[-1]} for {len(experts)} experts, expected one for each")


def _some(experts: Sequence[Any]) -> None:
    if not experts:
        raise ValueError("experts: none, expected at least one to choose from")


def masks_of(attention: Tensor, *, threshold: float = THRESHOLD) -> Tensor:
    """M: cross-attention [B,n_y,*S] of the words -> the same of 0 and 1, 1 above `threshold` of the word's largest."""
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: {threshold!r}, expected a number in [0, 1), a share of the largest value")
    largest = attention.flatten(2).amax(2).reshape(*attention.shape[:2], *[1] * (attention.ndim - 2))
    return (attention > threshold * largest).to(attention)


def by_word(h: Tensor, masks: Tensor, logits: Tensor, experts: Sequence[Expert], noise: Tensor | float = 0.0) -> Tensor:
    """(1/n_y) sum_i e_(route(y_i))(h * M_i): h [B,C,*S], masks [B,n_y,*S], logits [B,n_y,n] of the words."""
    _count(logits, experts)
    words = masks.shape[1]
    fits = masks.shape[0] == h.shape[0] and masks.shape[2:] == h.shape[2:] and logits.shape[:2] == masks.shape[:2]
    if not fits or words < 1:
        raise ValueError(
            f"masks: {tuple(masks.shape)} for h {tuple(h.shape)} and logits {tuple(logits.shape)}, expected [B,n_y,*S] "
            "with at least one word"
        )
    regions = (h[:, None] * masks[:, :, None]).flatten(0, 1)
    return _each(regions, chosen(logits, noise).flatten(), experts).unflatten(0, (-1, words)).mean(1)


def edge_loss(
    maps: Tensor, edges: Tensor, t: Tensor, *, process: Process, until: float = EDGES_UNTIL, focus: float = 2.0,
    weight: float = 0.25,
) -> Tensor:  # fmt: skip
    """[B]: focal loss of maps [B,*S] (logits of an edge) against edges [B,*S] of 0 and 1; 0 where t > until t_max.

    -w_p (1 - p)^focus log p, p the probability of what is there, w_p = weight at edges, 1 - weight elsewhere.
    """
    log_p = torch.nn.functional.logsigmoid(torch.where(edges > 0.5, maps, -maps))
    share = torch.where(edges > 0.5, weight, 1 - weight)
    each = -(share * (1 - log_p.exp()) ** focus * log_p).flatten(1).mean(1)
    return torch.where(t.to(each.device) <= until * process.t_max, each, 0.0)


def routed(experts: Sequence[Model], gate: Callable[[Tensor], Tensor]) -> Predictor:
    """The denoiser whose expert is chosen by t alone: gate maps t, float64 [B], to logits [B,n]. Raises ValueError."""
    _some(experts)
    if len({expert.kind for expert in experts}) > 1:
        raise ValueError(f"experts: of kinds {', '.join(sorted(e.kind for e in experts))}, expected one kind for all")

    def predict(x: Tensor, t: Time) -> Tensor:
        alone = not isinstance(t, Tensor) or t.ndim == 0
        rows = torch.as_tensor(t, dtype=torch.float64).reshape(-1)
        logits = gate(rows)
        _count(logits, experts)
        choice = chosen(logits)
        if alone or rows.shape[0] == 0:
            return experts[int(choice[0]) if alone else 0](x, t)
        present = choice.unique().tolist()
        places = [(choice == k).nonzero()[:, 0] for k in present]
        means = [experts[k](x[rows_.to(x.device)], t[rows_]) for k, rows_ in zip(present, places, strict=True)]
        return torch.cat(means)[torch.cat(places).argsort().to(x.device)]

    return Predictor(experts[0].kind, predict)


def nearest_level(centres: Tensor, process: Process) -> Callable[[Tensor], Tensor]:
    """The gate that prefers the centre, float64 [n] in lam, nearest to lam(t): logits -(lam - centre)^2.

    Beyond the outer centres lam is held, so that it may be infinite.
    """
    low, high = centres.min().item(), centres.max().item()
    return lambda t: -((process.lam(t)[:, None].clamp(low, high) - centres.to(t.device)) ** 2)


def level_centres(experts: int, process: Process) -> Tensor:
    """float64 [experts]: the middles of groups of equal length in lam, noisiest first; raises ValueError.

    Where lam is infinite at an end of the process, the groups end a thousandth of its interval before.
    """
    counts(1, experts=experts)
    slack = 1e-3 * (process.t_max - process.t_min)
    first = process.t_max - slack * (process.alpha(process.t_max) <= 0)
    last = process.t_min + slack * (process.sigma(process.t_min) <= 0)
    low, high = process.lam(first), process.lam(last)
    return low + (torch.arange(experts, dtype=torch.float64) + 0.5) / experts * (high - low)


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + pull D
    pull: Tensor


def plan(grid: Tensor, process: Process) -> Plan:
    """Coefficients of DDIM's step in lam."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    h = process.lam(s) - process.lam(t)
    return Plan(t, process.sigma(s) / process.sigma(t), -process.alpha(s) * torch.expm1(-h))


def sample(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, experts: int = 4, frozen: bool = False
) -> Run:
    """DDIM whose denoiser has `experts` experts (4 [recall]), chosen by the nearest group of lam. x [B,*D].

    frozen: an expert answers as the model does in the middle of its group; otherwise each is the model itself.
    """
    centres = level_centres(experts, process)
    middles = process.time_of_logsnr(centres).tolist()

    def step(x: Tensor, row: Plan, memory: Any, *, model: Model, draws: Draws) -> tuple[Tensor, Any]:
        if memory is None:
            whole = [Predictor(model.kind, lambda x, t, middle=middle: model(x, middle)) for middle in middles]
            memory = routed(whole if frozen else [model] * experts, nearest_level(centres, process))
        return torch.mul(x, row.keep).add_(memory(x, row.t), alpha=row.pull), memory

    return drive(plan(grid, process), step, model, x, draws=draws)


def loss(model: Model, x0: Tensor, t: Tensor, noise: Tensor, *, process: Process) -> Tensor:
    """Squared error of the noise prediction, [B], mean over the sample, without the edge term (see edge_loss)."""
    error = model(process.noised(x0, t, noise), t) - x0
    return (expand(process.alpha(t) / process.sigma(t), x0) * error).flatten(1).square().mean(1)


def chain_times(u: Tensor, process: Process) -> Tensor:
    """t uniform on the 1,000 steps of the chain: u [B] in (0,1) -> t [B]."""
    return ((u.double() * TRAINED).floor() + 1) / TRAINED * process.t_max


def evaluations(grid: Tensor) -> float:
    return float(grid.shape[0] - 1)


PAPER = Paper(
    key="xue2023raphael",
    title="RAPHAEL: Text-to-Image Generation via Large Mixture of Diffusion Paths",
    authors="Zeyue Xue, Guanglu Song, Qiushan Guo, Boxiao Liu, Zhuofan Zong, Yu Liu, Ping Luo",
    venue="NeurIPS 2023",
    arxiv="2305.18295",
    code="none",
    licence="none",
    samplers=(
        Sampler(
            id="xue2023raphael.ddim",
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
    ),
    objectives=(
        Objective(
            id="xue2023raphael.loss",
            loss=loss,
            minimiser="mean",
            path="discrete-linear",
            times=chain_times,
        ),
    ),
    transforms=(
        Transform(
            id="xue2023raphael.routed",
            apply=routed,
            identity_at={"experts": 1},
            limit=lambda model, *, condition, process: (routed([model], lambda t: t[:, None]), model),
        ),
    ),
)
