"""Laws of likelihoods of means: each number is its own sample's, what is called exact is exact, and a bound a bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.laws import Law, device
from reference_impls import targets
from reference_impls.core import process as processes
from reference_impls.core.draws import Philox
from reference_impls.core.types import Likelihood, Shared

PATHS = ("vp-linear", "ve-edm", "condot")
DRAWS, MOST = 32, 1.05  # of a bound that strays by 1.5 nats exp(mean) is high by a factor 1 + 1.5^2/64 at most
TOLERANCE = 1e-3  # nats: a hundred steps of the 1e-5 to which official codes integrate


def _mean(process: Any) -> Shared:
    """The exact mean of G3; of methods that ask for a share of the variance as well, a third."""
    alone = targets.exact(targets.named("g3"), process)
    return Shared("mean", lambda x, *times: (alone(x, *times), torch.full_like(x, 1 / 3)))


def _asked(card: Likelihood, x0: Tensor, process: Any, samples: Any) -> Tensor:
    return card.log_prob(_mean(process), x0, process=process, draws=Philox(3, samples, device()))


def _closed(process: Any, x0: Tensor) -> Tensor:
    """G3's at t_min given its exact mean, and the prior's over G3's at t_max, where the exact flow leads."""
    law = targets.named("g3")
    ends = [at(t) for t in (process.t_min, process.t_max) for at in (process.alpha, process.sigma)]
    top = law.flow(x0, *ends)
    prior = torch.distributions.Normal(0.0, process.prior_std).log_prob(top)[:, 0]
    return law.log_prob(x0, *ends[:2]) + prior - law.log_prob(top, *ends[2:])


def log_prob_belongs_to_its_sample(card: Likelihood) -> None:
    """[B], the same for a row alone; x0 is not written to."""
    process, x0 = _inside(card.path), torch.linspace(-1, 1, 4, dtype=torch.float64, device=device())[:, None]
    before = x0.clone()
    together = _asked(card, x0, process, len(x0))
    assert torch.equal(x0, before), "x0 was written to"
    assert together.shape == (len(x0),), f"shape {tuple(together.shape)}, expected {(len(x0),)}"
    alone = torch.cat([_asked(card, x0[i : i + 1], process, range(i, i + 1)) for i in range(len(x0))])
    gap = (together - alone).abs().max().item()
    assert gap <= 1e-9 * (1 + alone.abs().max().item()), f"a row alone differs from its row in a batch by {gap:.2e}"


def exact_log_prob_is_exact(card: Likelihood) -> None:
    """See `_closed`; nine x0."""
    for path in PATHS:
        process, x0 = _inside(path), torch.linspace(-2.4, 2.4, 9, dtype=torch.float64, device=device())[:, None]
        gaps = (_asked(card, x0, process, len(x0)) - _closed(process, x0)).abs()
        worst, where = gaps.max().item(), x0[gaps.argmax()].item()
        assert worst <= TOLERANCE, f"on {process.name} it is off by {worst:.2e} nats at x0 = {where:g}"


def bound_leaves_room_for_every_level(card: Likelihood) -> None:
    """Whatever the model, exp(bound) is at most its probability: over all levels of one pixel they sum to at most 1."""
    x0 = torch.linspace(-1, 1, card.levels, dtype=torch.float64, device=device())
    bounds = _asked(card, x0.repeat(DRAWS)[:, None], _inside(card.path), DRAWS * card.levels)
    total = bounds.reshape(DRAWS, -1).mean(0).exp().sum().item()
    assert total <= MOST, f"exp of the bounds of all {card.levels} levels sums to {total:.4f}, expected at most 1"


def _inside(path: str) -> Any:
    """The process without the ends at which the flow's velocity is not defined."""
    process = processes.named(path)
    return process.between(max(process.t_min, 1e-3), process.t_max if process.alpha(process.t_max) else 0.98)


# ---- mutants -----------------------------------------------------------------------------------------------------
def likelihood(change: Callable[[Tensor, Tensor, Any], Tensor], kind: str = "exact") -> Likelihood:
    """The density in closed form, changed: change(log p [B], x0, process)."""

    def log_prob(model: Any, x0: Tensor, *, process: Any, draws: Any) -> Tensor:
        return change(_closed(process, x0), x0, process)

    return Likelihood(id="specimen.likelihood", log_prob=log_prob, kind=kind, consumes="mean", path="vp-linear")


def _writes(log_p: Tensor, x0: Tensor, process: Any) -> Tensor:
    x0.mul_(2)
    return log_p


def bound(change: Callable[[Tensor, Tensor], Tensor]) -> Likelihood:
    """The log probability of 64 levels of G3 in [-1,1], conditional on lying there, changed: change(log P [B], x0)."""

    def log_prob(model: Any, x0: Tensor, *, process: Any, draws: Any) -> Tensor:
        levels = torch.linspace(-1, 1, 64, dtype=x0.dtype, device=x0.device)[:, None]
        return change(_closed(process, x0) - _closed(process, levels).logsumexp(0), x0)

    return Likelihood(
        id="specimen.bound", log_prob=log_prob, kind="bound", consumes="mean", path="vp-linear", levels=64
    )


HEALTHY = likelihood(lambda log_p, x0, process: log_p)


def of_means(card: Likelihood) -> bool:
    return card.consumes == "mean"


HEALTHY_BOUND = bound(lambda log_p, x0: log_p)

LAWS = (
    Law(name="bound_leaves_room_for_every_level", subject="likelihood",
        check=bound_leaves_room_for_every_level, mutants={
        "a_density_on_two_units": lambda: bound(lambda log_p, x0: log_p + math.log(64 / 2)),
        "a_tenth_of_a_nat_too_much": lambda: bound(lambda log_p, x0: log_p + 0.1),
    }, applies=lambda card: of_means(card) and card.kind == "bound" and card.levels is not None),
    Law(name="log_prob_belongs_to_its_sample", subject="likelihood", check=log_prob_belongs_to_its_sample, mutants={
        "mean_over_the_batch": lambda: likelihood(lambda log_p, x0, process: log_p.mean().expand(len(log_p))),
        "one_number": lambda: likelihood(lambda log_p, x0, process: log_p.sum()),
        "writes_to_x0": lambda: likelihood(_writes),
    }, applies=of_means),
    Law(name="exact_log_prob_is_exact", subject="likelihood", check=exact_log_prob_is_exact, mutants={
        "forgets_half_of_log_2_pi": lambda: likelihood(lambda log_p, x0, process: log_p + math.log(2 * math.pi) / 2),
        "unit_prior_whatever_the_path": lambda: likelihood(
            lambda log_p, x0, process: log_p + math.log(process.prior_std)),
        "tilted_by_a_hundredth": lambda: likelihood(
            lambda log_p, x0, process: log_p + 0.01 * x0[:, 0]),
    }, applies=lambda card: of_means(card) and card.kind == "exact"),
)  # fmt: skip
