"""What the loop costs: operations per step, no synchronisation, one graph; and time beside a bare loop, side by side.

The timed part (pytest-benchmark) is no gate: asv and the suite `peers` track the ratio. Run it alone, with
``python -m pytest tests/test_overhead.py``; under xdist the benchmarks run once and time nothing.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.jobs import UsageError, job
from benchmarks.overhead import SHAPES, bare_loop, measured, null_model, terms_of
from benchmarks.speed import network
from benchmarks.speed.samplers import means, run_of
from benchmarks.timing import DeviceNoise
from reference_impls import catalogue
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.drive import prepared
from reference_impls.core.types import Predictor

STEADY = [id for id in means() if not catalogue.samplers()[id].stochastic]


@pytest.mark.benchmark(group="200 steps of 64x2 float32")
def test_bare_loop(benchmark):
    result = benchmark(bare_loop(torch.ones(SHAPES["64x2"])))
    assert torch.isfinite(result).all()


@pytest.mark.benchmark(group="200 steps of 64x2 float32")
@pytest.mark.parametrize("id", means())
def test_sampler(benchmark, id):
    result = benchmark(run_of(id, SHAPES["64x2"]))
    assert result.nfe >= 200


@pytest.mark.parametrize(
    ("id", "terms"),
    [
        ("song2020ddim.ddim", 2),  # x, D
        ("lu2022dpmsolverpp.2m", 3),  # x, D, D before
        ("zhang2023deis.tab3", 7),  # x and D make the noise; x and the noise of four steps
        ("zhao2023unipc.unipc3", 10),  # x and three means to predict; x and four means to correct
    ],
)
def test_a_step_combines_what_its_formula_names_and_no_more(id, terms):
    """Every operation of a state's size is a term of the formula: nothing is copied, cast or formed twice."""
    assert terms_of(catalogue.samplers()[id]) <= terms


def loop_of(id, steps=4):
    card, x = catalogue.samplers()[id], torch.linspace(-1, 1, 8).reshape(4, 2)
    path = process.named(card.path)
    path = path.between(max(path.t_min, 1e-3), path.t_max if path.alpha(path.t_max) > 0 else 0.999 * path.t_max)
    grid, model = grids.uniform_lam(steps, path), Predictor("mean", lambda x, t: 0.3 * x)
    draws = DeviceNoise(0, x.device)
    whole = card.sample(model, x, grid, process=path, draws=draws).x
    return prepared(card.sample, model, x, grid, process=path, draws=draws), model, x, whole


class Reads(TorchDispatchMode):
    """Counts the operations that hand a tensor's value to Python: each waits for the device."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self.count += function._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal")
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("id", STEADY)
def test_the_loop_never_waits_for_the_device(id):
    loop, model, x, whole = loop_of(id)
    with Reads() as reads:
        found = loop(model, x, DeviceNoise(0, x.device))
    assert reads.count == 0
    assert torch.equal(found.x, whole)  # nothing of the sampler is lost by preparing it


@pytest.mark.parametrize("id", STEADY)
def test_the_loop_is_one_graph(id):
    """Traced from one state, run on it and on another: nothing of the first is left in the graph."""
    loop, model, x, whole = loop_of(id, steps=3)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: loop(model, x, None).x, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(compiled(x.flip(0)), whole.flip(0), rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("id", means())
def test_the_loop_fits_one_cuda_graph(id):
    """Captured once with its keyed noise, replayed on the state that it was captured with and on another."""
    card, x = catalogue.samplers()[id], torch.linspace(-1, 1, 8, device="cuda").reshape(4, 2)
    path, model, draws = process.named(card.path), Predictor("mean", lambda x, t: 0.3 * x), Philox(0, 4, "cuda")
    loop = prepared(card.sample, model, x, card.grid(4, path), process=path, draws=draws)
    ends = [loop(model, start, draws).x for start in (x, 2 * x)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what a first call sets up must not be part of the graph
        loop(model, x, draws)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        end = loop(model, x, draws).x
    for factor, expected in zip((1, 2), ends, strict=True):
        x.mul_(factor)
        graph.replay()
        torch.testing.assert_close(end, expected, rtol=1e-6, atol=1e-6)


def test_a_loop_of_its_own_cannot_be_prepared():
    path = process.named("condot").between(0.05, 0.9)
    x, sample = torch.ones(2, 2), catalogue.samplers()["lipman2022fm.dopri5"].sample
    with pytest.raises(TypeError, match="walks in a loop of its own"):
        prepared(sample, null_model(x), x, grids.uniform_t(2, path), process=path, draws=None)


def test_an_overhead_job_says_how_it_compares():
    asked = job(kind="overhead", method="song2020ddim.ddim", shape="64x2", dtype="float32", n=1)
    found = measured(asked, torch.device("cpu"))
    assert found["terms"] == 2 and found["ratio"].low <= found["ratio"].estimate <= found["ratio"].high
    assert found["microseconds_per_step"].estimate > 0
    with pytest.raises(UsageError, match="shape: '7x7' is not known; expected one of 64x1x8x8"):
        job(kind="overhead", method="song2020ddim.ddim", shape="7x7", n=1)
    with pytest.raises(UsageError, match="expected a sampler of means that needs no aid"):
        job(kind="overhead", method="lou2024sedd.analytic", shape="64x2", n=1)


def test_the_large_network_has_the_published_size_and_heun_is_the_one_on_its_path():
    net = network.Large()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(55.7e6, rel=0.01)
    assert net(torch.zeros(1, 3, 8, 8), 0.5).shape == (1, 3, 8, 8)
    assert network.heun().order == 2.0 and network.heun().path == "ve-edm"
