"""The law of transforms: where its card says so, a change to a model changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.laws import Law, device
from benchmarks.laws.conduct import heeding, usable
from reference_impls.core import process as processes
from reference_impls.core.types import Conditional, Predictor, Time, Transform, expand

PATHS = ("vp-linear", "ve-edm", "condot")
TOLERANCE = 1e-12


def _curved(process: Any) -> Conditional:
    """A mean of no symmetry, a function of x, t and the label, defined for states of any shape."""
    return heeding(Predictor("mean", lambda x, t: torch.sin(x + expand(process.sigma(t), x)) + 0.3 * x))


def identity_at_its_limit(card: Transform) -> None:
    """Same values, for a float time and for rows of times, and a mean stays a mean. States are [5,3,2]."""
    for path in PATHS:
        _is_the_identity(card, usable(processes.named(path)))


def _is_the_identity(card: Transform, process: Any) -> None:
    labels = torch.arange(5, device=device()) % 3
    changed, same = card.limit(_curved(process), condition=labels, process=process)
    assert changed.kind == same.kind, f"at {dict(card.identity_at)} it predicts {changed.kind}, not {same.kind}"

    @given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.booleans(), st.floats(-3, 3))
    def holds(shares: list[float], rows: bool, shift: float) -> None:
        times = process.t_min + (process.t_max - process.t_min) * torch.tensor(shares, dtype=torch.float64)
        x = torch.linspace(-2, 2, 30, dtype=torch.float64, device=device()).reshape(5, 3, 2) + shift
        t: Time = times.to(device()) if rows else times[0].item()
        found, expected = changed(x, t), same(x, t)
        assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
        gap = ((found - expected).abs() / (1 + expected.abs())).max().item()
        assert gap <= TOLERANCE, f"on {process.name} at {dict(card.identity_at)} it moves the model by {gap:.2e}"

    holds()


# ---- mutants -----------------------------------------------------------------------------------------------------
def _stretched(change: Callable[[Conditional, Tensor], Any]) -> Transform:
    """A transform that says it does nothing at factor 1, and there makes change(model, labels) of the model."""

    def limit(model: Conditional, *, condition: Tensor, process: Any) -> tuple[Any, Any]:
        return change(model, condition), model.given(condition)

    return Transform(id="specimen.transform", apply=change, identity_at={"factor": 1.0}, limit=limit)


def _mean(predict: Callable[[Tensor, Time], Tensor]) -> Predictor:
    return Predictor("mean", predict)


def _first_time_for_all(x: Tensor, t: Time) -> Time:
    return t[:1].expand(x.shape[0]) if isinstance(t, Tensor) else t


HEALTHY = _stretched(lambda model, labels: _mean(lambda x, t: model.predict(x, t, labels)))

LAWS = (
    Law(name="identity_at_its_limit", subject="transform", check=identity_at_its_limit, mutants={
        "stretches_by_a_millionth": lambda: _stretched(
            lambda model, labels: _mean(lambda x, t: model.predict(x, t, labels) * (1 + 1e-6))),
        "forgets_the_condition": lambda: _stretched(lambda model, labels: _mean(lambda x, t: model(x, t))),
        "takes_the_next_condition": lambda: _stretched(
            lambda model, labels: _mean(lambda x, t: model.predict(x, t, labels.roll(1)))),
        "first_time_for_all": lambda: _stretched(
            lambda model, labels: _mean(lambda x, t: model.predict(x, _first_time_for_all(x, t), labels))),
        "another_kind": lambda: _stretched(
            lambda model, labels: Predictor("eps", lambda x, t: model.predict(x, t, labels))),
    }),
)  # fmt: skip
