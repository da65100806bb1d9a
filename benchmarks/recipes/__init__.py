"""Training recipes: one TOML file per network says what is trained on what and how; `trilemma lock train` obeys.

task        what a loss is made of, a key of TASKS: labels | data | labelled | levels | tokens | paths | restore |
            rewards
data        name of a data set (benchmarks/data.py); for levels it is that of a target too, whose exact denoiser and the
            network, a classifier of noise levels, make one model; for paths the name of a target with a log density,
            for rewards that of one with a reward, for restore that of an inverse problem, whose prior's atoms are
            trained on, each beside a fresh picture of it
parent      the recipe whose network of the same training seed is trained on; without it training begins anew. With
            steps = 0 in [fit] the child is its parent, asked with other [options]
objective   id in the catalogue, for data also one whose times follow its losses (core.fit.Adaptive);
parametrisation  <paper>.<name> that turns the raw net into a Model
process     by name, on `interval` = [t_min, t_max] if given; of tokens over so many `letters`
grid, steps of the simulated paths, for paths and rewards
[net]       kind (a module of reference_impls/nets) and its options
[fit]       fields of core.fit.Plan
[options]   of the parametrisation; [objective_options] of the loss
storage     dtype of the committed file
dropout     of labelled data, the share of samples whose label is dropped, so that the network also learns to do without
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import data
from reference_impls import catalogue, nets, targets
from reference_impls.core import fit, grids, process, tokens
from reference_impls.core.types import Conditional, Draws, Model

FOLDER = Path(__file__).parent


class BadRecipe(ValueError):
    """A recipe that is missing or says something unknown; the message names file, field and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One parsed recipe. sha256 is that of its content as canonical JSON: comments and order do not count."""

    name: str
    task: str
    data: str
    net: Mapping[str, Any]
    fit: Mapping[str, Any]
    sha256: str
    parent: str = ""
    objective: str | None = None
    parametrisation: str | None = None
    process: str | None = None
    letters: int = 0
    interval: tuple[float, float] | None = None
    grid: str = "t"
    steps: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    storage: str = "float32"
    dropout: float = 0.0

    @property
    def conditional(self) -> bool:
        """Whether the network also predicts under a condition: a class label, or a picture to restore."""
        return self.task == "restore" or self.labelled

    @property
    def labelled(self) -> bool:
        """Whether the network also predicts under a class label."""
        return bool(self.net.get("classes")) and self.task != "labels"

    @property
    def plan(self) -> fit.Plan:
        return fit.Plan(**self.fit)

    def untrained(self, seed: int) -> nn.Module:
        """The raw network with its first weights."""
        return nets.build(**self.net, seed=seed)

    def own_process(self) -> Any:
        """The process it is trained on; None for a classifier."""
        if self.process is None:
            return None
        if self.task == "tokens":
            return tokens.named(self.process, self.letters)
        made = process.named(self.process)
        return made.between(*self.interval) if self.interval else made

    def joined(self, net: nn.Module, on: Any = None) -> Model:
        """The raw net as a Model, by the recipe's parametrisation; `on` replaces the recipe's own process.

        A network that takes labels becomes a types.ConditionalModel.
        """
        key, name = self.parametrisation.split(".", 1)
        aids: dict[str, Any] = {"score": targets.named(self.data).score} if self.task == "paths" else {}
        if self.task == "levels":
            own = self.own_process()
            aids = {"mean": targets.exact(targets.named(self.data), on or own), "trained": own}
        join = partial(catalogue.papers()[key].parametrisations[name], process=on or self.own_process(), **self.options)
        if self.task != "labelled":
            return join(net, **aids)

        def told(x: Tensor, *rest: Any) -> Tensor:
            *times, label = rest
            return join(net if label is None else partial(net, label=label))(x, *times)

        return Conditional(catalogue.objectives()[self.objective].minimiser, told)


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


@cache
def named(name: str) -> Recipe:
    """A recipe by name; raises BadRecipe with the names there are."""
    if name not in names():
        raise BadRecipe(f"recipe: {name!r} is not known; expected one of {', '.join(names())}")
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    if content.get("task") not in TASKS:
        raise BadRecipe(f"task: {content.get('task')!r} in recipes/{name}.toml, expected one of {', '.join(TASKS)}")
    known = {f.name for f in fields(Recipe)} - {"name", "sha256"}
    if odd := sorted(set(content) - known) + sorted({"data", "net", "fit"} - set(content)):
        raise BadRecipe(f"{odd[0]}: unknown or missing in recipes/{name}.toml, expected of {', '.join(sorted(known))}")
    if content["fit"].get("steps") == 0 and not content.get("parent"):
        raise BadRecipe(f"steps: 0 in [fit] of recipes/{name}.toml, expected at least 1 where there is no parent")
    sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Recipe(name=name, sha256=sha256, **content)


def _labels(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    """Cross-entropy with the labels of the train half; objective_options: smoothing, weight of the uniform label."""
    known = data.named(recipe.data)
    images, labels = known.train.float().to(device), known.train_labels.to(device)
    smoothing = recipe.objective_options.get("smoothing", 0.0)

    def losses(draws):
        rows = fit.chosen(draws, torch.arange(images.shape[0], device=device), batch)
        return nn.functional.cross_entropy(net(images[rows]), labels[rows], reduction="none", label_smoothing=smoothing)

    return losses


def _data(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    objective = catalogue.objectives()[recipe.objective]
    x0 = data.named(recipe.data).train.float().to(device)
    model, own = recipe.joined(net), recipe.own_process()
    return fit.data_losses(objective, model, x0, batch, process=own, **recipe.objective_options)


def _labelled(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    """The losses of `data`, of the model under each sample's label, which is dropped (-1) for a share of them."""
    objective, model, own = catalogue.objectives()[recipe.objective], recipe.joined(net), recipe.own_process()
    known = data.named(recipe.data)
    x0, labels = known.train.float().to(device), known.train_labels.to(device)

    def losses(draws):
        rows = fit.chosen(draws, torch.arange(x0.shape[0], device=device), batch)
        dropped = draws.uniform("drop", (batch,)).to(device) < recipe.dropout
        told = model.given(torch.where(dropped, -1, labels[rows]))
        t, noise = objective.times(fit.strata(draws, batch), own), draws.normal("noise", x0[rows])
        return objective.loss(told, x0[rows], t, noise, process=own, **recipe.objective_options)

    return losses


def _tokens(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    objective = catalogue.objectives()[recipe.objective]
    x0 = data.named(recipe.data).train
    x0 = x0 if device.type == "cpu" else x0.to(device)
    model, own = recipe.joined(net), recipe.own_process()
    return fit.token_losses(objective, model, x0, batch, process=own, **recipe.objective_options)


def _paths(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    objective, target, own = catalogue.objectives()[recipe.objective], targets.named(recipe.data), recipe.own_process()
    like = torch.empty(batch, *target.shape, device=device)
    grid = grids.named(recipe.grid)(recipe.steps, own)
    return fit.path_losses(objective, recipe.joined(net), like, grid, process=own, log_density=target.log_density)


def _rewards(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    """Walks from exact states at the grid's first time, a group from each; objective_options has their `group`."""
    objective, target, own = catalogue.objectives()[recipe.objective], targets.named(recipe.data), recipe.own_process()
    grid, group = grids.named(recipe.grid)(recipe.steps, own), recipe.objective_options["group"]
    first = torch.arange(batch, device=device) // group * group
    model, like, t = recipe.joined(net), torch.empty(batch, *target.shape, device=device), grid[0].item()

    def losses(draws: Draws) -> Tensor:
        x = own.noised(target.sample(draws, like), t, draws.normal("start", like))[first]
        noise = draws.block(recipe.steps, "step", like)
        return objective.loss(model, x, grid, noise, process=own, reward=target.reward, **recipe.objective_options)

    return losses


def _restore(recipe: Recipe, net: nn.Module, batch: int, device: torch.device) -> fit.Losses:
    """Each x0 beside its picture, degraded anew; an objective that noises the picture gets uniforms and normals too."""
    objective, problem = catalogue.objectives()[recipe.objective], targets.named(recipe.data)
    x0, model, own = problem.prior.atoms.float().to(device), recipe.joined(net), recipe.own_process()
    like = torch.empty(batch, problem.measurement.y.shape[1], device=device)

    def losses(draws: Draws) -> Tensor:
        rows = fit.chosen(draws, x0, batch)
        aids: dict[str, Any] = {"condition": problem.degraded(rows, draws.normal("seen", like))}
        if "augmentation" in objective.needs:
            aids["augmentation"] = draws.uniform("level", (batch,)), draws.normal("augment", rows)
        t = objective.times(fit.strata(draws, batch), own)
        noise = draws.normal("noise", rows)
        return objective.loss(model, rows, t, noise, process=own, **aids, **recipe.objective_options)

    return losses


TASKS: dict[str, Callable[..., fit.Losses]] = {
    "labels": _labels, "data": _data, "labelled": _labelled, "levels": _data, "tokens": _tokens, "paths": _paths,
    "restore": _restore, "rewards": _rewards,
}  # fmt: skip


def losses(recipe: Recipe, net: nn.Module, device: torch.device) -> fit.Losses:
    """What `fit` minimises for this recipe, on `device`."""
    times = catalogue.objectives()[recipe.objective].times if recipe.objective else None
    if isinstance(times, fit.Adaptive) and recipe.task != "data":
        raise BadRecipe(
            f"objective: the times of {recipe.objective} follow its losses, which the task {recipe.task!r} of "
            f"recipes/{recipe.name}.toml does not keep; expected the task 'data', or another objective of that paper"
        )
    return TASKS[recipe.task](recipe, net, recipe.plan.batch, device)


def reduction(recipe: Recipe) -> str:
    return catalogue.objectives()[recipe.objective].reduce if recipe.objective else "mean"
