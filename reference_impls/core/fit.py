"""The one training loop: Adam with an exponential moving average of the weights, resumable, all its draws addressed.

`fit` knows neither data nor objective: it asks `losses(draws)` for one number per sample, where `draws` is a Philox at
address (step,), and reduces them. `data_losses`, `token_losses` and `path_losses` make that function from an objective.
Training therefore depends on (first weights, losses, Plan, seed) alone: a run that was stopped and resumed from its
state ends in the same bits as an undisturbed one on the same machine and number of threads. Losses that remember
(AdaptiveLosses) have their memory in that state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from reference_impls.core.draws import Philox
from reference_impls.core.types import Draws, Model, Objective, Start, prior_of_process

Losses = Callable[[Draws], Tensor]
State = dict[str, Tensor]  # "step", perhaps "times", and net/, ema/, first/, second/ + name of the parameter

DECAYS: dict[str, Callable[[float, float], float]] = {  # (fraction of the run, final factor) -> factor of the rate
    "constant": lambda fraction, final: 1.0,
    "linear": lambda fraction, final: 1 + fraction * (final - 1),
    "cosine": lambda fraction, final: final + (1 - final) * (1 + math.cos(math.pi * fraction)) / 2,
    "exponential": lambda fraction, final: final**fraction,
}


class BadPlan(ValueError):
    """A training plan or a state that cannot be used; the message names the field, its value and what was expected."""


class Diverged(FloatingPointError):
    """The loss is no longer finite; the message says by which step and what to change."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train. Defaults are Adam's own (Kingma & Ba 2015) where it has one.

    steps: updates in all, 0 to keep the weights as they are; batch: samples per update; rate: step size after `warmup`
    updates of linear growth, then multiplied by DECAYS[decay] down to `final`; clip: largest Euclidean norm of the
    whole gradient (inf: none);
    ema: decay per update of the averaged weights, ramped as min(ema, (1 + k) / (10 + k)) after k updates.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 0
    decay: str = "constant"
    final: float = 0.01
    clip: float = math.inf
    ema: float = 0.999
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self):
        for name, held, wanted in (
            ("steps", self.steps >= 0, ">= 0"),
            ("batch", self.batch >= 1, ">= 1"),
            ("rate", self.rate > 0, "> 0"),
            ("warmup", 0 <= self.warmup <= self.steps, "from 0 to steps"),
            ("decay", self.decay in DECAYS, f"one of {', '.join(DECAYS)}"),
            ("final", 0 < self.final <= 1, "in (0, 1]"),
            ("clip", self.clip > 0, "> 0"),
            ("ema", 0 <= self.ema < 1, "in [0, 1)"),
        ):
            if not held:
                raise BadPlan(f"{name}: {getattr(self, name)!r}, expected {wanted}")

    def rate_at(self, step: int) -> float:
        """The step size of update `step`, counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        return self.rate * DECAYS[self.decay]((step - self.warmup) / max(1, self.steps - self.warmup), self.final)


class Progress(NamedTuple):
    """Where a run stands. loss and gradient (norm before clipping) are means over the updates since the last report,
    NaN in the one report of a run of no steps.

    state() copies all that a resumed run needs, ema() the averaged weights by name: both detached, on the net's device.
    """

    step: int
    loss: float
    gradient: float
    rate: float
    state: Callable[[], State]
    ema: Callable[[], State]


@runtime_checkable
class Adaptive(Protocol):
    """The `times` of an objective that follow the losses seen so far; what they remember is one tensor on the CPU.

    Called like any times they give the law whose mean loss they keep. fresh: the memory before training. weighted: of
    u [B] uniform on (0,1) the times [B] and the weights [B] of their losses. remembered: the memory after losses [B],
    unweighted, at times [B]; a new tensor.
    """

    def __call__(self, u: Tensor, process: Any) -> Tensor: ...

    def fresh(self) -> Tensor: ...

    def weighted(self, u: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]: ...

    def remembered(self, memory: Tensor, t: Tensor, losses: Tensor) -> Tensor: ...


@dataclass
class AdaptiveLosses:
    """Losses that remember, see Adaptive: their memory belongs to the state of the training."""

    weighted: Callable[[Draws, Tensor], tuple[Tensor, Tensor]]  # (draws, memory) -> losses [B], memory
    memory: Tensor

    def __call__(self, draws: Draws) -> Tensor:
        losses, self.memory = self.weighted(draws, self.memory)
        return losses


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "variance": torch.var}


def fit(
    net: nn.Module,
    losses: Losses,
    plan: Plan,
    *,
    seed: int,
    reduce: Literal["mean", "variance"] = "mean",
    state: Mapping[str, Tensor] | None = None,
    every: int = 100,
) -> Iterator[Progress]:
    """Train `net` in place, yielding Progress each `every` updates and at the end; the caller shows, saves, may stop.

    losses(draws) -> [plan.batch]; draws is Philox(seed, plan.batch) at (step,) on the net's device.
    reduce: mean, or the unbiased variance over the batch. state: where to go on, from Progress.state(); its weights
    replace the net's. Raises BadPlan for a state of another net, Diverged when a loss is not finite.
    """
    weights = dict(net.named_parameters())
    device = next(iter(weights.values())).device
    ema, first, second = _memory(weights, state, plan, losses)
    start = int(state["step"]) if state else 0
    source = Philox(seed, plan.batch, device)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    net.train()
    since = start

    def report(done: int, loss: float, norm: float) -> Progress:
        return Progress(
            done, loss, norm, plan.rate_at(max(0, done - 1)),
            lambda: _state(done, weights, ema, first, second, losses), lambda: {k: v.clone() for k, v in ema.items()},
        )  # fmt: skip

    for step in range(start, plan.steps):
        loss = REDUCTIONS[reduce](losses(source.at(step)))
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients.values()]))
        shrink = (plan.clip / norm).clamp(max=1.0) if plan.clip < math.inf else None
        with torch.no_grad():
            for name, gradient in gradients.items():
                gradient = gradient if shrink is None else gradient * shrink
                _adam(weights[name], gradient, first[name], second[name], step, plan)
                ema[name].lerp_(weights[name].to(ema[name].dtype), 1 - min(plan.ema, (1 + step) / (10 + step)))
            sums += torch.stack([loss.double(), norm.double()])
        done = step + 1
        if done % every == 0 or done == plan.steps:
            mean_loss, mean_norm = (sums / (done - since)).tolist()
            if not math.isfinite(mean_loss + mean_norm):
                raise Diverged(f"loss: {mean_loss} by step {done}, expected finite; lower rate ({plan.rate:g}) or clip")
            sums.zero_()
            since = done
            yield report(done, mean_loss, mean_norm)
    if plan.steps == 0:
        yield report(0, math.nan, math.nan)


def _memory(
    weights: State, state: Mapping[str, Tensor] | None, plan: Plan, losses: Losses
) -> tuple[State, State, State]:
    """Averaged weights and Adam's two moments: fresh, or from `state`, which also replaces weights and memory."""
    if not state:
        zeros = [{name: torch.zeros_like(w) for name, w in weights.items()} for _ in range(2)]
        return {name: w.detach().clone() for name, w in weights.items()}, *zeros
    expected = {"step"} | {f"{part}/{name}" for part in ("net", "ema", "first", "second") for name in weights}
    expected |= {"times"} if isinstance(losses, AdaptiveLosses) else set()
    if set(state) != expected:
        odd = sorted(set(state) ^ expected)
        raise BadPlan(f"state: {len(odd)} names differ from this net's, first {odd[0]!r}; it belongs to another net")
    if int(state["step"]) > plan.steps:
        raise BadPlan(f"state: at step {int(state['step'])}, expected at most {plan.steps}; raise steps or start anew")
    with torch.no_grad():
        for name, w in weights.items():
            w.copy_(state[f"net/{name}"])
    if isinstance(losses, AdaptiveLosses):
        losses.memory = state["times"].clone()
    parts = "ema", "first", "second"
    return tuple({name: state[f"{part}/{name}"].to(w, copy=True) for name, w in weights.items()} for part in parts)


def _state(step: int, weights: Mapping[str, Tensor], ema: State, first: State, second: State, losses: Losses) -> State:
    parts = {"net": weights, "ema": ema, "first": first, "second": second}
    named = {f"{part}/{name}": w.detach().clone() for part, held in parts.items() for name, w in held.items()}
    kept = {"times": losses.memory.clone()} if isinstance(losses, AdaptiveLosses) else {}
    return named | kept | {"step": torch.tensor(step)}


def _adam(weight: Tensor, gradient: Tensor, first: Tensor, second: Tensor, step: int, plan: Plan) -> None:
    """One update by Adam (Kingma & Ba 2015, algorithm 1), in place."""
    beta_1, beta_2 = plan.betas
    first.lerp_(gradient, 1 - beta_1)
    second.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
    rate = plan.rate_at(step) / (1 - beta_1 ** (step + 1))
    scale = (1 - beta_2 ** (step + 1)) ** 0.5
    weight.addcdiv_(first, (second.sqrt() / scale).add_(plan.epsilon), value=-rate)


def chosen(draws: Draws, data: Tensor, batch: int) -> Tensor:
    """`batch` rows of `data`, drawn with replacement."""
    rows = (draws.uniform("row", (batch,)) * data.shape[0]).long()
    return data[rows.to(data.device)]


def strata(draws: Draws, batch: int) -> Tensor:
    """float64 [batch] uniforms, one in each of `batch` equal strata: their mean over the batch varies far less."""
    u = draws.uniform("t", (batch,))
    return (torch.arange(batch, device=u.device) + u) / batch


def data_losses(
    objective: Objective, model: Model, data: Tensor, batch: int, *, process: Any, **aids: Any
) -> Losses:
    """Losses of an objective on data [n,*D] under a Gaussian process: x0 by `chosen`, t from `strata`, eps normal."""

    def at(draws: Draws, t: Tensor) -> Tensor:
        x0 = chosen(draws, data, batch)
        return objective.loss(model, x0, t, draws.normal("noise", x0), process=process, **aids)

    times = objective.times
    if not isinstance(times, Adaptive):
        return lambda draws: at(draws, times(strata(draws, batch), process))

    def weighted(draws: Draws, memory: Tensor) -> tuple[Tensor, Tensor]:
        t, weights = times.weighted(strata(draws, batch), memory)
        each = at(draws, t)
        return weights.to(each) * each, times.remembered(memory, t, each.detach())

    return AdaptiveLosses(weighted, times.fresh())


def token_losses(
    objective: Objective, model: Model, data: Tensor, batch: int, *, process: Any, **aids: Any
) -> Losses:
    """Losses of an objective on tokens [n,L] int64: the noise is process.corrupt(x0, t, u) with u uniform [batch,L]."""

    def losses(draws: Draws) -> Tensor:
        x0 = chosen(draws, data, batch)
        t = objective.times(strata(draws, batch), process)
        u = draws.uniform("corruption", tuple(x0.shape))
        return objective.loss(model, x0, t, process.corrupt(x0, t, u), process=process, **aids)

    return losses


def path_losses(
    objective: Objective,
    model: Model,
    like: Tensor,
    grid: Tensor,
    *,
    process: Any,
    log_density: Callable[[Tensor], Tensor],
    start: Start = prior_of_process,
) -> Losses:
    """Path losses of a control: x from `start` (as on a sampler's card), one standard normal per interval of the grid.

    like: [batch,*D], gives shape, dtype and device. log_density: x [B,*D] -> log rho [B] in nats.
    """
    steps = grid.shape[0] - 1

    def losses(draws: Draws) -> Tensor:
        x = start(draws, like, grid, process, {"log_density": log_density})
        noise = draws.block(steps, "step", like)
        return objective.loss(model, x, grid, noise, process=process, log_density=log_density)

    return losses
