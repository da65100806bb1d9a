"""Every model: a float time and the same time for each row agree, and a model's output is never written again."""

import pytest
import torch

from benchmarks import checkpoints, data, problems, recipes
from reference_impls import targets
from reference_impls.core import process
from reference_impls.core.draws import Philox

TRAINED = {name: recipes.named(checkpoints.entry(name).recipe) for name in checkpoints.names() if "@" not in name}
NETS = [name for name, recipe in TRAINED.items() if recipe.parametrisation]
EXACT = ["g3", "gaussian-2d", "product-2d", "product-64d", "mixture-2d", "digits", "grid9"]


def agree(model, x, t):
    alone = model(x, t)
    kept = alone.clone()
    rows = model(x, torch.full((x.shape[0],), t, dtype=torch.float64))
    scale = 1 + alone.abs().max()
    exact = 1e-12 if alone.dtype == torch.float64 else 1e-4  # a network computes in float32
    assert (alone - rows).abs().max() <= exact * scale
    one_other = torch.full((x.shape[0],), t, dtype=torch.float64)
    one_other[1:] *= 0.7
    assert (model(x, one_other)[0] - alone[0]).abs().max() <= exact * scale
    assert torch.equal(alone, kept), "a later call wrote to an earlier output"


@pytest.mark.parametrize("path", ["vp-linear", "ve-edm", "condot"])
@pytest.mark.parametrize("name", EXACT)
def test_exact_denoisers(name, path):
    target = targets.named(name)
    x = Philox(0, 4).normal("x", torch.empty(4, *target.shape, dtype=torch.float64))
    agree(targets.exact(target, process.named(path)), x, 0.4)


@pytest.mark.parametrize("name", NETS)
def test_networks(name):
    recipe = TRAINED[name]
    own = recipe.own_process()
    model = checkpoints.model(name, process=own)
    if recipe.task == "tokens":
        x = data.named(recipe.data).train[:4]
    else:
        shape = problems.shape_of(problems.target_of(recipe.data))
        x = Philox(0, 4).normal("x", torch.empty(4, *shape))
    if recipe.task == "restore":  # it answers under a picture alone
        problem = targets.named(recipe.data).rows(range(4))
        model = model.given(problem.measurement.picture.float())
    agree(model, x, 0.4)
