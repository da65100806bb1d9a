"""The vocabulary of the suite: models, draws, runs, and the cards by which papers declare what holds for them.

Shapes: B samples, *D one sample, K classes, L length. Times are float64 and larger t = more noise.
Nothing here computes; the laws in ``benchmarks/laws`` turn every declared field into a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

Time = float | Tensor  # a python float, or float64 [B] where each row has its own time
Kind = Literal["mean", "posterior", "ratio", "jump", "control"]
ExactClass = Literal["delta", "standard", "isotropic", "gaussian", "single_token"]
# What a control is added to: the reversed noising drift, so that the optimum is g grad log p_t; or the time reversal of
# the noising process of a Gaussian reference, so that the optimum is g grad log(p_t / p_t of the reference).
Base = Literal["noising", "reference"]
Evidence = Literal["E", "A", "S", "C"]


class Model(Protocol):
    """What a sampler consumes. Returns a fresh tensor that it never writes again.

    mean       E[x0 | x_t = x]                     (x [B,*D], t)        -> [B,*D]
    posterior  p(x0^l = k | x_t = x)               (x [B,L] int64, t)   -> [B,L,K], rows sum to 1
    ratio      p_t(x with x^l := k) / p_t(x)       (x [B,L] int64, t)   -> [B,L,K], 1 at k = x^l
    jump       solution map from t to s            (x, t, s)            -> [B,*D]
    control    u with generative drift base + g u  (x [B,*D], t)        -> [B,*D]; the base stands on the paper's card
    """

    kind: Kind

    def __call__(self, x: Tensor, t: Time) -> Tensor: ...


@dataclass(frozen=True)
class Predictor:
    """A function that says what it predicts: the plainest Model."""

    kind: Kind
    predict: Callable[..., Tensor]

    def __call__(self, x: Tensor, *times: Time) -> Tensor:
        return self.predict(x, *times)


class ConditionalModel(Model, Protocol):
    """A model that also predicts under a condition: given(condition) is the Model of x0 given it, one per row.

    Called itself it is the unconditional model. Labels are int64 [B] and -1 stands for "no condition"; any other
    condition is what the network was trained with (a low-resolution image [B,*C], say).
    """

    def given(self, condition: Any) -> Model: ...


@dataclass(frozen=True)
class Conditional:
    """A function of (x, t, condition) that says what it predicts; condition is None where there is none.

    first: condition -> [B,*D], an estimate of x0 from the condition alone, for the methods that start from one.
    """

    kind: Kind
    predict: Callable[..., Tensor]
    first: Callable[[Any], Tensor] | None = None

    def __call__(self, x: Tensor, *times: Time) -> Tensor:
        return self.predict(x, *times, None)

    def given(self, condition: Any) -> Predictor:
        return Predictor(self.kind, lambda x, *times: self.predict(x, *times, condition))


class ShareModel(Model, Protocol):
    """A model of the mean whose one evaluation also places the log variance of a reverse step between two bounds.

    with_share(x, t) -> (mean, share), both [B,*D]: share 0 is the lower bound, 1 the upper; the method sets them, for
    they depend on where the step ends. Called itself it gives the mean alone.
    """

    def with_share(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Shared:
    """A function of (x, t) that returns (prediction, share) and says what it predicts: the plainest ShareModel."""

    kind: Kind
    predict: Callable[..., tuple[Tensor, Tensor]]

    def __call__(self, x: Tensor, *times: Time) -> Tensor:
        return self.predict(x, *times)[0]

    def with_share(self, x: Tensor, *times: Time) -> tuple[Tensor, Tensor]:
        return self.predict(x, *times)


class Noised(NamedTuple):
    """A condition that carries noise of its own: image = alpha lift(c) + sigma z, where c is what x0 was seen as.

    alpha, sigma: numbers, or float64 [B]; lift: from what was seen to the image's size; label: int64 [B], or None.
    """

    image: Tensor
    alpha: Time
    sigma: Time
    lift: Callable[[Tensor], Tensor]
    label: Tensor | None = None


class Pairs(NamedTuple):
    """A reference set: clean samples [R,*D] and, row by row, the condition that each was seen as."""

    x0: Tensor
    condition: Tensor


class Guide(NamedTuple):
    """What an editing method starts from. image: [B,*D] in data space; known: bool, broadcasts to it, True where the
    image must be kept, or None where nothing must."""

    image: Tensor
    known: Tensor | None = None


class Draws(Protocol):
    """A noise source addressed by place: equal addresses give equal noise, whatever was drawn before."""

    def at(self, *where: int) -> Draws: ...

    def normal(self, tag: str, like: Tensor) -> Tensor: ...

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor: ...

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor: ...


class Run(NamedTuple):
    """The end of a sampling run.

    x: state at the grid's last time; nfe: network evaluations per sample; vjps: backward passes per sample;
    log_weight: [B] in nats, for samplers whose paths carry an importance weight; memory: what the last step returned.
    """

    x: Tensor
    nfe: float
    vjps: float = 0.0
    log_weight: Tensor | None = None
    memory: Any = None


class WrongKind(TypeError):
    """A model of one kind was given to a method that consumes another."""


class Meter:
    """A model that counts: rows evaluated and rows pulled back, both per sample of the batch it was made for."""

    __slots__ = ("kind", "model", "batch", "counts")

    def __init__(self, model: Model, batch: int, counts: list[int] | None = None):
        self.kind, self.model, self.batch = model.kind, model, batch
        self.counts = [0, 0] if counts is None else counts  # rows evaluated, rows pulled back

    def __call__(self, x: Tensor, *times: Time) -> Tensor:
        self.counts[0] += x.shape[0]
        return self.model(x, *times)

    def given(self, condition: Any) -> Meter:
        """The model under a condition, counted together with this one; raises WrongKind if it takes no condition."""
        if not callable(getattr(self.model, "given", None)):
            raise WrongKind("model: takes no condition, expected one with given(condition), see types.Conditional")
        return Meter(self.model.given(condition), self.batch, self.counts)

    def first(self, condition: Any) -> Tensor:
        """The model's estimate from the condition alone, counted as an evaluation; raises WrongKind if it has none."""
        if not callable(getattr(self.model, "first", None)):
            raise WrongKind("model: has no estimate of its own, expected first(condition), see types.Conditional")
        estimate = self.model.first(condition)
        self.counts[0] += estimate.shape[0]
        return estimate

    def with_share(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """Mean and share by one evaluation; raises WrongKind if the model gives no share."""
        if not callable(getattr(self.model, "with_share", None)):
            raise WrongKind("model: gives no share of the variance, expected with_share(x, t), see types.Shared")
        self.counts[0] += x.shape[0]
        return self.model.with_share(x, t)

    def vjp(self, x: Tensor, t: Time) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The prediction and the function that maps a cotangent to its product with the Jacobian.

        Both are differentiable where x carries a graph; otherwise they are detached.
        """
        kept = x.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            leaf = x if kept else x.detach().requires_grad_()
            out = self(leaf, t)

        def pull(cotangent: Tensor) -> Tensor:
            self.counts[1] += x.shape[0]
            if not out.requires_grad:
                return torch.zeros_like(x)  # a constant prediction
            # the graph is retained because some pull once per dimension
            return torch.autograd.grad(out, leaf, cotangent, retain_graph=True, create_graph=kept)[0]

        return out if kept else out.detach(), pull

    @property
    def nfe(self) -> float:
        return self.counts[0] / max(1, self.batch)

    @property
    def vjps(self) -> float:
        return self.counts[1] / max(1, self.batch)


def require(model: Model, kind: Kind, batch: int) -> Meter:
    """Meter `model` after checking that it predicts `kind`; raises WrongKind. Once per run: by drive or an own loop."""
    found = getattr(model, "kind", None)
    if found != kind:
        raise WrongKind(f"model: kind is {found!r}, expected {kind!r}; wrap it with types.Predictor or convert it")
    return Meter(model, batch)


Grid = Callable[[int, Any], Tensor]  # (steps, process) -> float64 [steps+1], strictly decreasing
Start = Callable[..., Tensor]  # (draws, like, grid, process, aids) -> state at grid[0]


def prior_of_process(draws: Draws, like: Tensor, grid: Tensor, process: Any, aids: Mapping[str, Any]) -> Tensor:
    """N(0, prior_std^2 I), whatever the grid's first time: what the papers do. `like` gives shape, dtype, device."""
    return draws.normal("start", like) * process.prior_std


class Reduction(NamedTuple):
    """With `options` this method equals the method `to` with `to_options`, to `tolerance`, on the same draws.

    With on="own" the statement is for the method's own path only; with on="any" for every Gaussian path.
    given: of a method that needs a condition, what the other one, which does not, is run on: the model given that
    condition, or the model without one. By default the model does not heed its condition at all.
    """

    options: Mapping[str, Any]
    to: str
    to_options: Mapping[str, Any] = {}
    tolerance: float = 1e-12
    on: str = "any"
    given: Literal["condition", "none"] | None = None


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """The card of a sampler. All that the harness calls is

    sample(model, x, grid, *, process, draws, <options>, <aids>) -> Run
    """

    id: str
    sample: Callable[..., Run]
    grid: Grid
    consumes: Kind
    path: str  # name of the paper's own process, see process.named
    start: Start = prior_of_process
    needs: frozenset[str] = frozenset()  # aids: "log_density", "measurement", "condition", "guide", "reference"
    # (Pairs), "noise_logits"; "share" is no aid but asks for a ShareModel
    condition: Literal["any", "label", "image"] = "any"  # what the aid of that name may be, where it is needed
    defined_on: frozenset[str] = frozenset({"gaussian"})  # kinds of process
    paths: frozenset[str] = frozenset()  # if any: names of the only processes on which it is defined
    even: bool = False  # defined on evenly spaced times alone, see grids.evenly
    nfe: Callable[[Tensor], float] | None = None  # of the grid; None: metered only (adaptive)
    vjps: Callable[[Tensor], float] | None = None  # backward passes, of the grid
    order: float | None = None  # deterministic: observed, start-up included, least over the law's paths
    weak_order: float | None = None  # stochastic: by impulses
    stochastic: bool = False
    walks: Literal["down", "up"] = "down"  # "up": from data at grid[-1] to noise at grid[0] (inversion)
    exact_options: Mapping[str, Any] = field(default_factory=dict)  # where order and exactness are declared, if the
    # published defaults are biased on purpose (noise inflation, clipping)
    exact_on: frozenset[ExactClass] = frozenset()
    transitions: Callable[..., Any] | None = (
        None  # tokens: (model, grid, process) -> for each step a map from x [B,L] to
    )
    # next-token weights [B,L,K'], float64; tokens.clipped of them is the law that the step draws from
    symmetric: frozenset[str] = frozenset()  # "rotation", "paths" (same x/alpha on every path with the same rho)
    shapes: str = "any"
    reduces: tuple[Reduction, ...] = ()
    per_sample: bool = True  # False only for population methods
    base: Base | None = None  # of a control: see Base
    unbiased: bool = False  # E[exp(log_weight)] = Z for every control and every grid
    baseline: bool = False  # a labelled relative that the paper's table needs, not the paper's method
    variant: bool = False  # a further form of another card here: everyday suites leave it out, the suite `solvers` not
    known_failures: Mapping[str, str] = field(default_factory=dict)  # law -> reason; strict: a pass is a failure


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The card of a training objective.

    loss: a Loss (data: one number per sample, no randomness inside) or a PathLoss (controls).
    times: the law of t as an inverse CDF: (u [B] uniform on (0,1), process) -> t [B]; None for path losses.
    minimiser: what the population minimiser predicts. reduce: how a batch of losses becomes one number.
    """

    id: str
    loss: Callable[..., Tensor]
    minimiser: Kind
    path: str
    times: Callable[[Tensor, Any], Tensor] | None = None
    reduce: Literal["mean", "variance"] = "mean"
    needs: frozenset[str] = frozenset()
    base: Base | None = None  # of a control: see Base
    reduces: tuple[Reduction, ...] = ()
    known_failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The card of a likelihood: log_prob(model, x0, *, process, draws) -> [B] nats; an exact value or a lower bound.

    levels: its x0 lie on so many levels, evenly spaced in [-1,1], and it speaks of their probability; None: a density.
    """

    id: str
    log_prob: Callable[..., Tensor]
    kind: Literal["exact", "bound"]
    consumes: Kind
    path: str
    levels: int | None = None
    known_failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The card of a change to a model or a schedule (quantisation, caching, distillation) and where it does nothing.

    identity_at: there, in words or numbers. limit: (model, *, condition, process) -> (the model changed at identity_at,
    the one that it must equal there), from a ConditionalModel and labels int64 [B] of the rows that both are called on.
    """

    id: str
    apply: Callable[..., Any]
    identity_at: Mapping[str, Any]
    limit: Callable[..., tuple[Model, Model]]
    known_failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """The falsifiable half of a paper file; the module docstring is the other half."""

    key: str
    title: str
    authors: str
    venue: str
    arxiv: str
    code: str
    licence: str
    samplers: tuple[Sampler, ...] = ()
    objectives: tuple[Objective, ...] = ()
    likelihoods: tuple[Likelihood, ...] = ()
    transforms: tuple[Transform, ...] = ()
    parametrisations: Mapping[str, Callable[..., Model]] = field(default_factory=dict)  # name -> raw net to Model


def expand(value: Time, like: Tensor) -> Time:
    """A per-row value [B] shaped [B,1,..,1] in like's dtype and device; a float stays a float."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value if not isinstance(value, Tensor) else value.item()
    return value.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))
