"""Adapters of other libraries: what they hand over is what the library asks for. Needs the extra `peers`."""

import pytest
import torch

from benchmarks import peers, provenance, referee
from benchmarks.jobs import UsageError, job
from benchmarks.laws import accuracy, conduct
from reference_impls import catalogue, targets
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor

HERE = sorted(peers.samplers())
VP = process.named("vp-linear").between(0.05, 0.9)


def test_what_is_missing_is_said_with_the_way_to_get_it():
    for name, why in peers.missing().items():
        assert "tox -e peers" in why
        with pytest.raises(UsageError, match="is not installed; `tox -e peers` brings it"):
            job(kind="law", method=f"{name}.anything", law="one_step_works", n=1)
    assert {*peers.modules(), *peers.missing()} == set(peers.names())


def test_normals_are_handed_out_in_the_order_of_the_calls():
    draws = Philox(3, 4)
    with peers.keyed(draws):
        first = torch.randn((4, 2), dtype=torch.float64, generator=None)
        second = torch.randn_like(torch.empty(4, 3))
        third = torch.randn(4, 1)
    like = torch.empty(4, 2, dtype=torch.float64)
    assert torch.equal(first, draws.at(0).normal("peer", like))
    assert torch.equal(second, draws.at(1).normal("peer", torch.empty(4, 3)))
    assert third.shape == (4, 1) and torch.randn(2).shape == (2,)  # and afterwards torch is itself again


def test_overlapping_increments_share_their_path():
    """Var 1 each, and the covariance of the increments over [a, m] and [a, b] is that of one Brownian path."""
    draws = Philox(1, 20_000)
    noise = peers.Brownian(peers.Keyed(draws), torch.empty(20_000, 1, dtype=torch.float64))
    part, whole, later = noise(8.0, 4.0), noise(8.0, 2.0), noise(2.0, 1.0)
    table = torch.corrcoef(torch.cat([part, whole, later], 1).T)
    assert table[0, 1].item() == pytest.approx((4 / 6) ** 0.5, abs=0.02)
    assert table[:2, 2].abs().max() < 0.03 and abs(whole.var().item() - 1) < 0.05


def test_levels_speak_the_library_s_scaling():
    grid = grids.uniform_lam(4, VP)
    seen = []
    model = Predictor("mean", lambda x, t: seen.append((x.clone(), t)) or x)
    levels = peers.Levels(model, grid, VP, peers.ve)
    x = torch.ones(2, 1, dtype=torch.float64)
    y = levels.enter(x)
    torch.testing.assert_close(y, x / VP.alpha(0.9))
    levels.mean(y, levels.rho[0].item())
    assert seen[0][1] == 0.9  # the grid's own time, not a rounded inverse
    torch.testing.assert_close(seen[0][0], x)
    with pytest.raises(grids.BadGrid, match="alpha = 0 and there is no noise level"):
        peers.Levels(model, torch.tensor([1.0, 0.5], dtype=torch.float64), process.named("condot"), peers.ve)


# A peer's first-order samplers against ours on the same grid: what is compared is the adapter.
TWINS = {
    "diffusers.ddim": "song2020ddim.ddim",
    "azula.ddim": "song2020ddim.ddim",
    "diffusers.ddpm": "ho2020ddpm.ancestral",
    "k_diffusion.euler": "song2020ddim.ddim",
    "k_diffusion.heun": "karras2022edm.heun",
    "k_diffusion.dpmpp_2m": "lu2022dpmsolverpp.2m",
    "diffusers.heun": "karras2022edm.heun",
    "torchdiffeq.midpoint": "lipman2022fm.midpoint",
}


class Same:
    """Draws that know an address by its step alone, so that two libraries' tags meet."""

    def __init__(self, draws, step=0):
        self.draws, self.step = draws, step

    def at(self, *where):
        return Same(self.draws, where[0])

    def normal(self, tag, like):
        return self.draws.at(self.step).normal("same", like)

    def block(self, steps, tag, like):
        span = range(steps) if isinstance(steps, int) else steps
        return torch.stack([self.at(i).normal(tag, like) for i in span])


@pytest.mark.parametrize("id", [id for id in TWINS if id in HERE])
def test_a_peer_equals_its_twin(id):
    own, theirs = catalogue.samplers()[TWINS[id]], peers.samplers()[id]
    path = process.named(theirs.path if theirs.path != "condot" else "condot").between(0.05, 0.9)
    grid, model = grids.uniform_lam(12, path), targets.exact(targets.named("g3"), path)
    x = conduct.starts(path, 0.9)
    options = {"lower_order_final": False} if id.endswith("2m") else {}
    ends = [
        card.sample(model, x, grid, process=path, draws=Same(Philox(1, len(x))), **more).x
        for card, more in ((own, options), (theirs, {}))
    ]
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-5, atol=1e-5)  # some round to float32 inside


@pytest.mark.parametrize("id", HERE)
def test_a_peer_s_record_names_library_and_version(id):
    laws = referee.asked(peers.samplers()[id])
    made_of = provenance.made_of(job(kind="law", method=id, law=laws[0].name, n=1))
    assert set(made_of) == {"method", "library", "law", "referee"}
    assert peers.version_of(id).split()[0] == peers.library_of(id.partition(".")[0])


@pytest.mark.skipif("k_diffusion.dpmpp_2m" not in HERE, reason="k-diffusion is not installed; `tox -e peers` brings it")
def test_a_peer_s_order_can_be_measured():
    order, _ = accuracy.observed_order(peers.samplers()["k_diffusion.dpmpp_2m"], "ve-edm", "lam", most=512)
    assert order == pytest.approx(2.0, abs=0.15)
