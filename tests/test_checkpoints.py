"""Pinned weights: they are what the lock says, found, refused, fetched and trained as promised, and good enough."""

from __future__ import annotations

import hashlib
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks import checkpoints, data, recipes
from reference_impls import catalogue, targets
from reference_impls.core import fit, process
from reference_impls.core.draws import Philox

MEBIBYTE = 2**20
DIGITS = ("digits-edm", "digits-fm")
LETTERS = ("characters-absorbing", "characters-uniform")
TINY = """
task = "labels"
data = "digits"
[net]
kind = "classifier"
channels = 2
width = 4
[fit]
steps = 12
batch = 8
rate = 1e-2
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """An empty lock, cache and folder of checkpoints, and one recipe, `tiny`."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "recipes")
    monkeypatch.setattr(checkpoints, "LOCK", tmp_path / "checkpoints.lock")
    monkeypatch.setattr(checkpoints, "COMMITTED", tmp_path / "checkpoints")
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRILEMMA_MIRROR", raising=False)
    recipes.named.cache_clear()
    yield tmp_path
    recipes.named.cache_clear()


# what is committed


def test_every_checkpoint_is_what_the_lock_says():
    assert checkpoints.names(), "checkpoints.lock pins nothing"
    assert [verdict.says for verdict in checkpoints.verify() if verdict.ok is False] == []


def test_committed_weights_are_small_and_all_pinned():
    committed = {file.name: file.stat().st_size for file in checkpoints.COMMITTED.iterdir()}
    pinned = {pinned.file: pinned.bytes for pinned in checkpoints.entries().values() if pinned.seed == 0}
    assert committed == pinned
    assert max(committed.values()) <= 2 * MEBIBYTE
    assert sum(committed.values()) <= 12 * MEBIBYTE


def test_every_recipe_has_its_checkpoint():
    assert set(recipes.names()) <= set(checkpoints.names())


def test_digits_are_the_data_that_the_networks_saw():
    known = data.named("digits")
    assert known.train.shape == (897, 1, 8, 8)
    assert known.held_out.shape == (900, 1, 8, 8)
    assert {checkpoints.entry(name).data_sha256 for name in (*DIGITS, checkpoints.CLASSIFIER)} == {known.digest}


# how good they are: tables should speak of samplers, not of a bad net


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Plug-in Frechet distance of two samples, written out here: tr sqrt(S1 S2) by the eigenvalues of S1 S2."""
    a, b = a.double(), b.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * roots).item()


def test_the_classifier_generalises():
    known, net = data.named("digits"), checkpoints.net(checkpoints.CLASSIFIER)
    assert (net(known.held_out).argmax(1) == known.held_out_labels).double().mean() > 0.98
    features = checkpoints.features()(known.held_out)
    assert features.shape == (900, 48)
    torch.testing.assert_close(net.last(features), net(known.held_out))


@pytest.mark.parametrize(
    ("name", "sampler"), [("digits-edm", "karras2022edm.heun"), ("digits-fm", "lipman2022fm.heun")]
)
def test_digit_networks_are_within_three_noise_floors(name, sampler, device):
    """Plug-in Frechet distance to the held-out half at 49 NFE and n = 900; the floor is the train half's."""
    known, of = data.named("digits"), checkpoints.features(device=device)
    floor = frechet(of(known.train), of(known.held_out))
    card, own = catalogue.samplers()[sampler], recipes.named(name).own_process()
    draws, like, grid = Philox(7, 900, device), torch.empty(900, 1, 8, 8, device=device), card.grid(25, own)
    model = checkpoints.model(name, device=device)
    with torch.no_grad():
        run = card.sample(model, card.start(draws, like, grid, own, {}), grid, process=own, draws=draws)
    assert run.nfe <= 50
    assert frechet(of(run.x), of(known.held_out)) < 3 * floor
    nearest = torch.cdist(run.x.flatten(1).double().cpu(), known.train.flatten(1)).min(1).values.median()
    usual = torch.cdist(known.held_out.flatten(1), known.train.flatten(1)).min(1).values.median()
    assert nearest > 0.8 * usual, "samples are copies of training images"


def test_the_noise_classifier_reads_levels(device):
    """Cross entropy of 120 digits at all levels against that of the exact posterior, written out here: sixths of the
    levels from the noisy end. Above rho = .7 it is within half a nat; below .17, where digits lie between the atoms, it
    misses a nat, and still knows more than nothing (6.9)."""
    model, atoms = checkpoints.model("digits-levels", device=device), data.named("digits").train
    k = torch.arange(120) * 1000 // 120 + 4
    rho = model.rho
    y = atoms[:120] + rho[k].reshape(-1, 1, 1, 1) * Philox(11, 120).normal("noise", atoms[:120])
    gaps = torch.cdist(y.flatten(1), atoms.flatten(1)).square()
    exact = torch.stack([torch.logsumexp(-gaps / (2 * r**2), 1) - 64 * r.log() for r in rho], 1)
    learnt = model.noise_logits(y.to(device), rho).double().cpu()
    each = [torch.nn.functional.cross_entropy(logits, k, reduction="none") for logits in (learnt, exact)]
    nats = [loss.reshape(6, 20).mean(1) for loss in each]
    more = nats[0] - nats[1]
    assert more[:3].max() < 0.5 and more[4:].min() > 1.0, more
    assert nats[0].max() < 5.9 and (more > -0.1).all(), nats


def test_the_labelled_network_heeds_labels(device):
    """On held-out digits at two levels: the right label lowers the error of the denoiser, a wrong one raises it."""
    known, own = data.named("digits"), recipes.named("digits-edm-labels").own_process()
    model = checkpoints.model("digits-edm-labels", device=device)
    x0, labels = known.held_out[::2].float().to(device), known.held_out_labels[::2].to(device)
    noise = Philox(1, len(x0), device).normal("noise", x0)
    for lam in (-1.0, 0.0):
        t = own.time_of_logsnr(lam)
        x = own.noised(x0, t, noise)

        def error(told, x=x, t=t):
            with torch.no_grad():
                return (told(x, t) - x0).flatten(1).square().mean(1)

        right, none = error(model.given(labels)), error(model)
        wrong = error(model.given((labels + 1) % 10))
        for better, worse in ((right, none), (none, wrong)):
            gap = (worse - better).double()
            assert gap.mean() > 4 * gap.std() / len(gap) ** 0.5, (lam, gap.mean())
        torch.testing.assert_close(error(model.given(torch.full_like(labels, -1))), none, rtol=1e-4, atol=1e-6)


def test_the_labelled_network_draws_the_digit_asked_for(device):
    """300 digits by class at 20 evaluations: the classifier, right on 98 % of held-out digits, agrees with 90 %."""
    own, model = recipes.named("digits-edm-labels").own_process(), checkpoints.model("digits-edm-labels", device=device)
    draws, like = Philox(7, 300, device), torch.empty(300, 1, 8, 8, device=device)
    card = catalogue.samplers()["karras2022edm.heun"]
    labels, grid = torch.arange(300, device=device) % 10, card.grid(10, own)
    with torch.no_grad():
        start = card.start(draws, like, grid, own, {})
        run = card.sample(model.given(labels), start, grid, process=own, draws=draws)
    said = checkpoints.classes(device=device)(run.x)
    assert (said == labels.cpu()).double().mean() > 0.9


def bound_of(name: str, x0: torch.Tensor, strata: int, device) -> torch.Tensor:
    """Upper bound of -log p in nats per letter, [B]."""
    own, model = recipes.named(name).own_process(), checkpoints.model(name, device=device)
    bound = next(card for card in catalogue.likelihoods().values() if card.id.startswith("lou2024sedd."))
    with torch.no_grad():
        draws = Philox(3, len(x0), device)
        return -bound.log_prob(model, x0.to(device), process=own, draws=draws, strata=strata) / x0.shape[1]


def test_the_markov_network_is_near_its_entropy(device):
    """Within 3% of the exact entropy per letter (claim a of lou2024sedd), up to 4 standard errors."""
    source = targets.named("markov")
    bound = bound_of("markov-absorbing", data.named("markov").held_out[:2000], 32, device)
    error = bound.std().item() / len(bound) ** 0.5
    assert bound.mean().item() - 4 * error < 1.03 * source.entropy() / source.shape[0]
    assert bound.mean().item() + 4 * error > source.entropy() / source.shape[0]


@pytest.mark.parametrize("name", LETTERS)
def test_character_networks_know_more_than_pairs_of_letters(name, device):
    """The bound on held-out modules lies below the entropy of a letter given the one before, counted there."""
    held_out = data.named("characters").held_out
    pairs = torch.zeros(96, 96, dtype=torch.float64)
    places = held_out[:, :-1].flatten(), held_out[:, 1:].flatten()
    pairs.index_put_(places, torch.ones((), dtype=torch.float64), accumulate=True)
    joint = pairs / pairs.sum()
    given_one = -torch.xlogy(joint, joint).sum() + torch.xlogy(joint.sum(1), joint.sum(1)).sum()
    assert bound_of(name, held_out[::45], 8, device).mean() < given_one


@pytest.mark.parametrize(("name", "sampler"), [("grid9-dis", "dis_unbiased"), ("grid9-dds", "dds")])
def test_control_networks_keep_nine_modes_and_their_mass(name, sampler, device):
    """2,000 paths of 50 steps: each of nine modes holds at least half its share, log Z = 0 within 5 standard errors."""
    target, own, card = targets.named("grid9"), recipes.named(name).own_process(), f"berner2024dis.{sampler}"
    card = catalogue.samplers()[card]
    draws, like, grid = Philox(5, 2000, device), torch.empty(2000, 2, device=device), card.grid(50, own)
    start = card.start(draws, like, grid, own, {})
    with torch.no_grad():
        model = checkpoints.model(name, device=device)
        run = card.sample(model, start, grid, process=own, draws=draws, log_density=target.log_density)
    nearest = torch.cdist(run.x.double().cpu(), target.modes).argmin(1)
    assert torch.bincount(nearest, minlength=9).min() > 2000 / 9 / 2
    weights = run.log_weight.double().exp()
    assert (weights.mean() - 1).abs() < 5 * weights.std() / 2000**0.5


# models


def test_a_model_answers_alike_on_paths_of_equal_noise():
    """D(alpha y; rho) is the same on every path: the EDM net on condot at t is that on ve-edm at t / (1 - t)."""
    y, t = Philox(0, 4).normal("y", torch.empty(4, 1, 8, 8, dtype=torch.float64)), 0.4
    own = checkpoints.model("digits-edm")(y, t / (1 - t))
    there = checkpoints.model("digits-edm", process=process.named("condot"))((1 - t) * y, t)
    torch.testing.assert_close(there, own, rtol=1e-5, atol=1e-5)
    assert own.dtype == torch.float64


@pytest.mark.parametrize("name", DIGITS)
def test_a_bfloat16_network_costs_little(name, device):
    """2^-8 relative per operation, averaged: the mean moves by under .03 of the RMS of a digit."""
    own = recipes.named(name).own_process()
    x0 = data.named("digits").held_out[:64].float().to(device)
    t = own.time_of_logsnr(torch.linspace(-2, 2, 64, dtype=torch.float64))
    x = own.noised(x0, t, Philox(0, 64).normal("noise", x0))
    full, low = (checkpoints.model(name, device=device, dtype=dtype)(x, t) for dtype in (torch.float32, torch.bfloat16))
    assert low.dtype == torch.float32
    assert not torch.equal(full, low)
    assert (full - low).square().mean().sqrt() < 0.03 * x0.square().mean().sqrt()


def test_a_network_without_parametrisation_is_no_model():
    with pytest.raises(checkpoints.BadCheckpoint, match="checkpoint: 'digits-classifier' has no parametrisation"):
        checkpoints.model(checkpoints.CLASSIFIER)


def test_loading_moves_no_global_state():
    before = torch.random.get_rng_state()
    checkpoints.features()(data.named("digits").held_out[:2])
    assert torch.equal(before, torch.random.get_rng_state())


# training


def averaged(name: str, seed: int, stored: dict[str, torch.Tensor]) -> bool:
    """Whether `stored` is what `fit` averages from the recipe's first weights and draws of this seed."""
    recipe = recipes.named(name)
    raw = recipe.untrained(seed)
    *_, last = fit.fit(raw, recipes.losses(recipe, raw, torch.device("cpu")), recipe.plan, seed=seed)
    return all(torch.equal(stored[name], value) for name, value in last.ema().items())


def test_a_stopped_training_ends_in_the_same_file(workshop):
    whole = checkpoints.train("tiny", every=3)

    class Stop(Exception):
        pass

    def stop(progress, plan):
        if progress.step == 6:
            raise Stop

    (workshop / "checkpoints" / whole.file).unlink()
    with pytest.raises(Stop):
        checkpoints.train("tiny", every=3, show=stop)
    steps = []
    again = checkpoints.train("tiny", every=3, show=lambda progress, plan: steps.append(progress.step))
    assert steps == [9, 12], "it must go on where it was stopped"
    assert again == whole
    assert [verdict.ok for verdict in checkpoints.verify()] == [True]
    assert averaged("tiny", 0, checkpoints.weights_of("tiny"))


def test_other_seeds_are_pinned_but_lie_in_the_cache(workshop):
    second = [checkpoints.train(name) for name in ("tiny", "tiny@2")][1]
    assert (second.recipe, second.seed, second.file) == ("tiny", 2, "tiny@2.safetensors")
    assert averaged("tiny", 2, checkpoints.weights_of("tiny@2"))
    assert (workshop / "cache" / "checkpoints" / second.file).exists()
    assert not (workshop / "checkpoints" / second.file).exists()
    (workshop / "cache" / "checkpoints" / second.file).unlink()
    assert {verdict.name: verdict.ok for verdict in checkpoints.verify()} == {"tiny": True, "tiny@2": None}


def test_a_child_starts_from_its_parent_of_the_same_seed(workshop):
    (workshop / "recipes" / "child.toml").write_text('parent = "tiny"\n' + TINY.replace("steps = 12", "steps = 1"))
    with pytest.raises(checkpoints.BadCheckpoint, match="'tiny@2' is not in .*; `trilemma lock train tiny@2` makes it"):
        checkpoints.train("child@2")
    assert checkpoints.train("tiny@2").parent == ""
    assert checkpoints.train("child@2").parent == "tiny@2"
    first, child = checkpoints.net("tiny@2"), checkpoints.weights_of("child@2")
    recipe = recipes.named("child")
    raw = checkpoints.net("tiny@2").requires_grad_(True)
    *_, last = fit.fit(raw, recipes.losses(recipe, raw, torch.device("cpu")), recipe.plan, seed=2)
    assert all(torch.equal(child[name], value) for name, value in last.ema().items())
    assert any(not torch.equal(child[name], value) for name, value in first.state_dict().items())
    checkpoints.pin(replace(checkpoints.entry("child@2"), parent=""))
    (odd,) = (verdict for verdict in checkpoints.verify() if verdict.ok is False)
    assert "child@2.safetensors was trained from first weights, expected from tiny@2; train it again" in odd.says


def test_a_child_of_no_steps_is_its_parent_and_needs_one(workshop):
    still = TINY.replace("steps = 12", "steps = 0")
    (workshop / "recipes" / "child.toml").write_text('parent = "tiny"\n' + still)
    (workshop / "recipes" / "orphan.toml").write_text(still)
    checkpoints.train("tiny"), checkpoints.train("child")
    parent, child = checkpoints.weights_of("tiny"), checkpoints.weights_of("child")
    assert all(torch.equal(child[name], value) for name, value in parent.items())
    with pytest.raises(recipes.BadRecipe, match=r"steps: 0 in \[fit\] of recipes/orphan.toml, expected at least 1"):
        recipes.named("orphan")


def test_a_classifier_of_levels_stands_beside_the_exact_denoiser():
    """The task `levels`: the mean is the target's own on whatever path is asked, the logits are the network's of y."""
    recipe = recipes.named("digits-levels")
    raw, digits = recipe.untrained(0), targets.named("digits")
    x = Philox(0, 3).normal("x", torch.empty(3, 1, 8, 8, dtype=torch.float64))
    for path in (recipe.own_process(), process.named("vp-linear")):
        model = recipe.joined(raw, path)
        assert torch.equal(model(x, 0.4), targets.exact(digits, path)(x, 0.4)) and model.kind == "mean"
        assert torch.equal(model.noise_logits(x, model.rho), raw(x))
        assert (len(model.rho), model.rho[0].item()) == (1000, pytest.approx(50.0))  # its own, not the path's
    losses = recipes.losses(recipe, raw, torch.device("cpu"))(Philox(0, recipe.plan.batch))
    assert losses.shape == (200,) and losses.requires_grad


def test_the_walks_of_a_group_share_their_start_and_not_their_noise(monkeypatch):
    """What `rewards` gives the objective: exact states of the first time, a group from each, on the recipe's grid."""
    recipe, seen = recipes.named("ring-grpo-early"), {}

    def loss(model, x, grid, noise, **rest):
        seen.update(x=x, grid=grid, noise=noise, **rest)
        return x.sum(1)

    card = catalogue.objectives()[recipe.objective]
    monkeypatch.setitem(catalogue.objectives(), recipe.objective, replace(card, loss=loss))
    assert recipes.losses(recipe, recipe.untrained(0), torch.device("cpu"))(Philox(0, 256)).shape == (256,)
    groups = seen["x"].unflatten(0, (16, 16))
    assert torch.equal(groups, groups[:, :1].expand_as(groups))
    assert len(groups[:, 0].unique(dim=0)) == 16
    assert (seen["grid"][0].item(), seen["grid"].shape, seen["noise"].shape) == (0.94, (17,), (16, 256, 2))
    assert len(seen["noise"].flatten(0, 1).unique(dim=0)) == 16 * 256
    assert seen["reward"] == targets.named("ring-2d-rewarded").reward
    assert (seen["schedule"], seen["budget"], seen["group"]) == ("cos", 0.05, 16)


def test_a_recipe_that_changed_after_training_is_reported(workshop):
    checkpoints.train("tiny")
    (workshop / "recipes" / "tiny.toml").write_text(TINY.replace("steps = 12", "steps = 13"))
    recipes.named.cache_clear()
    (verdict,) = checkpoints.verify()
    assert verdict.ok is False
    assert "trained by another version of recipes/tiny.toml" in verdict.says
    (workshop / "recipes" / "tiny.toml").write_text(TINY.replace("width = 4", "width = 5"))
    recipes.named.cache_clear()
    with pytest.raises(checkpoints.BadCheckpoint, match="tiny.safetensors does not fit the network of recipes/"):
        checkpoints.net("tiny")


def test_comments_do_not_change_a_recipe(workshop):
    before = recipes.named("tiny").sha256
    (workshop / "recipes" / "tiny.toml").write_text("# a remark\n" + TINY)
    recipes.named.cache_clear()
    assert recipes.named("tiny").sha256 == before


# what may go wrong


def test_a_corrupted_file_is_refused_with_both_digests(workshop):
    pinned = checkpoints.train("tiny")
    file = workshop / "checkpoints" / pinned.file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(checkpoints.BadCheckpoint) as error:
        checkpoints.net("tiny")
    mend = "restore it from git or train it again with `trilemma lock train tiny`"
    assert all(part in str(error.value) for part in (str(file), found, pinned.sha256, mend))
    assert "\n" not in str(error.value)
    assert [verdict.ok for verdict in checkpoints.verify()] == [False]


def test_a_missing_file_is_looked_for_in_mirror_and_cache(workshop, monkeypatch):
    pinned = checkpoints.train("tiny")
    file = workshop / "checkpoints" / pinned.file
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(checkpoints.BadCheckpoint, match=rf"{pinned.file} is missing .*{pinned.sha256}.*train tiny"):
        checkpoints.net("tiny")
    monkeypatch.setenv("TRILEMMA_MIRROR", str(workshop / "mirror"))
    for place in ("mirror", "cache/checkpoints"):
        there = workshop / place / pinned.file
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)
        assert checkpoints.content_of("tiny") == content
        there.unlink()


def test_a_url_is_fetched_once_and_checked(workshop):
    pinned = checkpoints.train("tiny")
    file = workshop / "checkpoints" / pinned.file
    (workshop / "served").mkdir()
    file.rename(workshop / "served" / pinned.file)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=workshop / "served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{pinned.file}"
        checkpoints.pin(replace(pinned, url=url))
        assert hashlib.sha256(checkpoints.content_of("tiny")).hexdigest() == pinned.sha256
        checkpoints.content_of("tiny")
        assert asked == [f"/{pinned.file}"]
        (workshop / "cache" / "checkpoints" / pinned.file).unlink()
        (workshop / "served" / pinned.file).write_bytes(b"something else")
        with pytest.raises(checkpoints.BadCheckpoint, match=f"expected {pinned.sha256}.*fetch it again from {url}"):
            checkpoints.content_of("tiny")
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("nothing", recipes.BadRecipe, "recipe: 'nothing' is not known; expected one of tiny"),
        ("tiny@x", checkpoints.BadCheckpoint, "checkpoint: 'tiny@x', expected <recipe> or <recipe>@<seed>"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line(workshop, name, error, says):
    with pytest.raises(error, match=says):
        checkpoints.train(name)
    with pytest.raises(checkpoints.BadCheckpoint, match=rf"'{name}' is not in checkpoints.lock; expected one of none"):
        checkpoints.net(name)


def test_an_unknown_checkpoint_is_told_the_nearest_names():
    with pytest.raises(checkpoints.BadCheckpoint, match="expected one of digits-edm,") as told:
        checkpoints.entry("digit-edm")
    assert len(str(told.value)) < 300 and "more; `trilemma list models` shows them" in str(told.value)


def test_an_unreadable_lock_and_an_odd_recipe_are_named(workshop):
    (workshop / "recipes" / "odd.toml").write_text(TINY + "momentum = 1\n[nett]\n")
    with pytest.raises(recipes.BadRecipe, match="nett: unknown or missing in recipes/odd.toml"):
        recipes.named("odd")
    checkpoints.LOCK.write_text("[[checkpoint]\n")
    with pytest.raises(checkpoints.BadCheckpoint, match=r"lock: .*checkpoints.lock cannot be read .*git checkout"):
        checkpoints.names()


def test_a_lock_survives_being_written_twice(workshop):
    checkpoints.train("tiny")
    first = checkpoints.LOCK.read_bytes()
    for pinned in checkpoints.entries().values():
        checkpoints.pin(pinned)
    assert checkpoints.LOCK.read_bytes() == first


def test_trainings_that_end_together_lose_no_entry(workshop):
    first = checkpoints.train("tiny")
    others = [replace(first, name=f"tiny@{seed}", seed=seed) for seed in range(1, 17)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(checkpoints.pin, others))
    assert set(checkpoints.names()) == {"tiny", *(other.name for other in others)}


# data


def test_the_corpus_has_no_text_in_both_halves():
    assert not set(data.CORPUS_TRAIN) & set(data.CORPUS_HELD_OUT)
    known = data.named("characters")
    assert known.train.shape[1] == known.held_out.shape[1] == 64
    assert (int(known.train[:, 0].min()), int(known.train[:, 0].max())) == (0, 95)
    text = data.text_of(known.held_out[0]) + data.text_of(known.held_out[1])
    assert text == data.source_text(data.CORPUS_HELD_OUT)[:128]  # windows are disjoint and decode to the source


def test_digests_see_every_change():
    x = torch.arange(6.0).reshape(2, 3)
    same = data.digest_of(x.T.contiguous().T)
    assert same == data.digest_of(x)
    others = [x.reshape(3, 2), x.double(), x + torch.eye(2, 3) * 1e-6]
    assert len({same, *map(data.digest_of, others)}) == 4


def test_dequantised_digits_round_to_the_digits():
    """Their noise is uniform over a grey level, anew in each copy, and rounding takes it off."""
    known, digits = data.named("digits-dequantised"), data.named("digits")
    for noised, images, copies in ((known.train, digits.train, 32), (known.held_out, digits.held_out, 1)):
        place = 17 * (noised + 1) / 2
        level, u = place.floor(), place - place.floor()
        assert torch.equal(level / 8 - 1, images.repeat(copies, 1, 1, 1))
        assert 0 < u.min() < u.max() < 1 and (u.mean() - 0.5).abs() < 5 / (12 * u.numel()) ** 0.5
    assert (known.train[:897] != known.train[897:1794]).all()
    noise = [(17 * (part[:897] + 1) / 2) % 1 for part in (known.train, known.held_out)]
    assert ((noise[0] - noise[1]).abs() > 1e-6).double().mean() > 0.99


def test_halves_of_the_markov_data_share_no_draw():
    known = data.named("markov")
    assert not torch.equal(known.train, known.held_out)
    table = targets.named("markov")
    for half in (known.train, known.held_out):
        scores = -table.log_prob(half)
        error = scores.std() / len(scores) ** 0.5
        assert (scores.mean() - table.entropy()).abs() < 5 * error
