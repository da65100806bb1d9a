"""xue2023raphael: who is chosen by time and by word, where a word may act, and when outlines are taught."""

import math

import pytest
import torch

from benchmarks.laws.accuracy import Silence
from benchmarks.laws.conduct import exact_model
from reference_impls.core import grids, process
from reference_impls.core.draws import Philox
from reference_impls.core.types import Predictor
from reference_impls.systems import xue2023raphael as raphael

VP = process.named("vp-linear")


def normals(*shape: int, tag: str = "x") -> torch.Tensor:
    return Philox(3, shape[0]).normal(tag, torch.empty(shape, dtype=torch.float64))


EXPERTS = [lambda h: h + 1, lambda h: 2 * h, lambda h: h**2]


def sample(model, x, grid, **options):
    return raphael.sample(model, x, grid, process=VP, draws=Silence(), **options).x


# who is chosen


def test_without_noise_the_largest_logit_is_chosen_and_noise_is_on_the_probabilities():
    logits = torch.tensor([[0.1, 2.0, 1.9], [5.0, -1.0, 0.0]], dtype=torch.float64)
    assert raphael.chosen(logits).tolist() == [1, 0]
    gap = (logits[0].softmax(0)[1] - logits[0].softmax(0)[2]).item()  # .045: what noise must exceed
    for push, expected in ((gap - 1e-6, 1), (gap + 1e-6, 2)):
        noise = torch.tensor([0.0, 0.0, push], dtype=torch.float64)
        assert raphael.chosen(logits[0], noise).item() == expected
    assert gap < 0.1 < 2.0 - 1.9 + 1e-12  # on the logits it would have to exceed .1


def test_one_time_expert_serves_all_rows_of_a_batch():
    h, seen = normals(5, 3), []
    experts = [lambda x, k=k: seen.append((k, x.shape[0])) or EXPERTS[k](x) for k in range(3)]
    assert torch.equal(raphael.by_time(h, torch.tensor([0.0, 0.3, -1.0]), experts), 2 * h)
    assert seen == [(1, 5)]


def test_rows_with_times_of_their_own_have_experts_of_their_own():
    h, logits = normals(6, 3), normals(6, 3, tag="logits")
    found = raphael.by_time(h, logits, EXPERTS)
    for row, k in enumerate(logits.argmax(1).tolist()):
        assert torch.equal(found[row], EXPERTS[k](h[row]))


def test_permuting_experts_with_the_table_changes_nothing():
    h, logits, order = normals(6, 3), normals(6, 3, tag="logits"), [2, 0, 1]
    moved = raphael.by_time(h, logits[:, order], [EXPERTS[k] for k in order])
    assert torch.equal(moved, raphael.by_time(h, logits, EXPERTS))
    words, masks = normals(6, 4, 3, tag="words"), torch.ones(6, 4, 2, 2, dtype=torch.float64)
    h = normals(6, 3, 2, 2)
    moved = raphael.by_word(h, masks, words[..., order], [EXPERTS[k] for k in order])
    assert torch.equal(moved, raphael.by_word(h, masks, words, EXPERTS))


# where a word acts


def test_a_word_acts_where_its_attention_exceeds_a_fifth_of_its_largest():
    attention = torch.tensor([[[[1.0, 0.2], [0.21, 0.0]], [[0.01, 0.04], [0.05, 0.002]]]], dtype=torch.float64)
    assert raphael.masks_of(attention).tolist() == [[[[1, 0], [1, 0]], [[0, 1], [1, 0]]]]
    assert torch.equal(raphael.masks_of(attention), raphael.masks_of(7 * attention))
    assert raphael.masks_of(attention, threshold=0.5)[0, 1].tolist() == [[0, 1], [1, 0]]
    assert raphael.masks_of(attention, threshold=0.0).tolist() == (attention > 0).double().tolist()
    flat = raphael.masks_of(attention.flatten(2))
    assert torch.equal(flat, raphael.masks_of(attention).flatten(2))
    with pytest.raises(ValueError, match="^threshold: 1.0, expected a number in"):
        raphael.masks_of(attention, threshold=1.0)


def test_space_experts_are_the_mean_over_the_words():
    """(1/n_y) sum_i e_route(i)(h * M_i), word by word."""
    h, masks = normals(2, 3, 4, 4), (normals(2, 5, 4, 4, tag="masks") > 0).double()
    logits = normals(2, 5, 3, tag="words")
    found = raphael.by_word(h, masks, logits, EXPERTS)
    for b in range(2):
        each = [EXPERTS[logits[b, i].argmax()](h[b] * masks[b, i]) for i in range(5)]
        torch.testing.assert_close(found[b], torch.stack(each).mean(0), rtol=1e-13, atol=1e-13)


def test_full_masks_and_equal_experts_leave_one_expert():
    h, logits = normals(2, 3, 4, 4), normals(2, 5, 3, tag="words")
    found = raphael.by_word(h, torch.ones(2, 5, 4, 4, dtype=torch.float64), logits, [torch.tanh] * 3)
    torch.testing.assert_close(found, torch.tanh(h), rtol=1e-13, atol=1e-13)


# outlines


def test_edge_loss_is_the_focal_loss_and_stops_at_half_the_chain():
    """At logit 0, p = 1/2: .25 (1/2)^2 log 2 at an edge, .75 of it elsewhere; t = T_c still counts."""
    edges = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    t = torch.tensor([0.1, 0.5, 0.5 + 1e-9], dtype=torch.float64)
    found = raphael.edge_loss(torch.zeros(3, 2, dtype=torch.float64), edges, t, process=VP)
    unit = math.log(2) / 4
    torch.testing.assert_close(found, torch.tensor([unit / 2, unit / 4, 0.0], dtype=torch.float64))
    sure = torch.tensor([[4.0, -4.0]], dtype=torch.float64)
    p = 1 / (1 + math.exp(-4.0))
    expected = (0.25 + 0.75) / 2 * (1 - p) ** 2 * -math.log(p)
    assert raphael.edge_loss(sure, edges[:1], t[:1], process=VP).item() == pytest.approx(expected, rel=1e-10)
    shorter = raphael.edge_loss(torch.zeros(3, 2, dtype=torch.float64), edges, 0.8 * t, process=VP.between(0.0, 0.8))
    torch.testing.assert_close(shorter, found)  # half of its own chain


def test_edge_loss_has_finite_gradients_where_the_map_is_sure():
    maps = torch.tensor([[400.0, -400.0, 400.0, -400.0]], dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    loss = raphael.edge_loss(maps, edges, torch.tensor([0.2], dtype=torch.float64), process=VP)
    assert torch.isfinite(torch.autograd.grad(loss.sum(), maps)[0]).all() and torch.isfinite(loss).all()


# whole denoisers


def test_the_nearest_level_is_a_partition_into_equal_lengths_of_lam():
    centres = raphael.level_centres(4, VP)
    low, high = VP.lam(1.0), VP.lam(VP.t_min)
    edges = torch.linspace(low, high, 5, dtype=torch.float64)
    torch.testing.assert_close(centres, (edges[1:] + edges[:-1]) / 2)
    gate = raphael.nearest_level(centres, VP)
    for k in range(4):
        inside = VP.time_of_logsnr(edges[k] + torch.tensor([0.001, 0.5, 0.999]) * (edges[k + 1] - edges[k]))
        assert raphael.chosen(gate(inside)).tolist() == [k] * 3


@pytest.mark.parametrize("name", ["condot", "discrete-linear"])
def test_levels_without_an_end_are_grouped_too(name):
    """lam is infinite at t_max of condot, at t_min of both here: all times have their expert, in order."""
    path = process.named(name).between(0.0, 1.0)
    centres = raphael.level_centres(6, path)
    assert torch.isfinite(centres).all() and (centres.diff() > 0).all()
    choice = raphael.chosen(raphael.nearest_level(centres, path)(torch.linspace(1, 0, 1001, dtype=torch.float64)))
    assert choice[0] == 0 and choice[-1] == 5 and (choice.diff() >= 0).all() and choice.unique().numel() == 6
    grid, x = torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64), normals(3, 1)
    found = raphael.sample(exact_model(path), x, grid, process=path, draws=Silence(), frozen=True).x
    assert torch.isfinite(found).all()


def test_groups_of_endless_levels_end_a_thousandth_before():
    path = process.named("condot").between(0.0, 1.0)
    low, high = path.lam(0.999), path.lam(0.001)
    expected = [low + (k + 0.5) / 3 * (high - low) for k in range(3)]
    assert raphael.level_centres(3, path).tolist() == pytest.approx(expected, rel=1e-12)
    half = process.named("condot").between(0.0, 0.5)  # a thousandth of its own length, at the end that needs it
    low, high = half.lam(0.5), half.lam(0.0005)
    expected = [low + (k + 0.5) / 3 * (high - low) for k in range(3)]
    assert raphael.level_centres(3, half).tolist() == pytest.approx(expected, rel=1e-12)


def test_no_rows_are_no_rows():
    none, model = normals(4, 3)[:0], exact_model(VP)
    made = raphael.routed([model] * 3, raphael.nearest_level(raphael.level_centres(3, VP), VP))
    assert made(none[:, :1], torch.zeros(0, dtype=torch.float64)).shape == (0, 1)
    assert raphael.by_time(none, torch.zeros(0, 3), EXPERTS).shape == (0, 3)


def test_equal_experts_are_one_and_a_row_goes_to_one_expert():
    model, x = exact_model(VP), normals(30, 1)
    centres, seen = raphael.level_centres(5, VP), []
    experts = [Predictor("mean", lambda y, t, k=k: seen.append((k, len(y))) or model(y, t)) for k in range(5)]
    made = raphael.routed(experts, raphael.nearest_level(centres, VP))
    t = torch.linspace(1.0, VP.t_min, 30, dtype=torch.float64)
    assert (made(x, t) - model(x, t)).abs().max() < 1e-14
    assert sum(rows for _, rows in seen) == 30 and len({k for k, _ in seen}) == len(seen) > 1
    mixed = VP.t_min + Philox(5, 30).uniform("t", (30,)) * (VP.t_max - VP.t_min)  # in no order
    assert (made(x, mixed) - model(x, mixed)).abs().max() < 1e-14
    seen.clear()
    assert torch.equal(made(x, 0.3), model(x, 0.3)) and len(seen) == 1
    order = [3, 1, 4, 0, 2]
    moved = raphael.routed([experts[k] for k in order], raphael.nearest_level(centres[order], VP))
    assert torch.equal(moved(x, t), made(x, t))


def test_exact_experts_are_ddim_and_frozen_ones_come_nearer_with_their_number():
    grid, x, model = grids.uniform_lam(200, VP), normals(64, 1), exact_model(VP)
    end = x
    for t, s in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        mean = model(end, t)
        end = VP.alpha(s) * mean + VP.sigma(s) * (end - VP.alpha(t) * mean) / VP.sigma(t)
    torch.testing.assert_close(sample(model, x, grid), end, rtol=1e-11, atol=1e-11)
    errors = [(sample(model, x, grid, experts=n, frozen=True) - end).square().mean().sqrt() for n in (1, 4, 16, 64)]
    assert all(fine < coarse / 2 for coarse, fine in zip(errors, errors[1:], strict=False)), errors


def test_frozen_experts_answer_in_the_middle_of_their_group():
    model, seen = exact_model(VP), []
    watched = Predictor("mean", lambda x, t: seen.append(t) or model(x, t))
    sample(watched, normals(3, 1), grids.uniform_lam(14, VP), experts=3, frozen=True)  # i/14 of lam: none on an edge
    middles = VP.time_of_logsnr(raphael.level_centres(3, VP)).tolist()
    assert seen == pytest.approx([middles[3 * i // 14] for i in range(14)], rel=1e-12)


def test_four_experts_are_the_default():
    grid, x, model = grids.uniform_lam(9, VP), normals(5, 1), exact_model(VP)
    assert torch.equal(sample(model, x, grid, frozen=True), sample(model, x, grid, experts=4, frozen=True))


# refusals


def test_bad_input_is_refused_before_anything_is_evaluated():
    model = Predictor("mean", lambda x, t: pytest.fail("something was evaluated"))
    x, grid = normals(3, 1), grids.uniform_t(3, VP)
    with pytest.raises(ValueError, match="^experts: 0, expected an integer >= 1"):
        sample(model, x, grid, experts=0)
    with pytest.raises(ValueError, match="^experts: True, expected an integer >= 1"):
        sample(model, x, grid, experts=True)
    for asked in (
        lambda: raphael.routed([], lambda t: t[:, None]),
        lambda: raphael.by_time(x, torch.zeros(0), []),
        lambda: raphael.by_word(normals(2, 3, 4, 4), torch.ones(2, 5, 4, 4), torch.zeros(2, 5, 0), []),
    ):
        with pytest.raises(ValueError, match="^experts: none, expected at least one"):
            asked()
    with pytest.raises(ValueError, match="^logits: 2 for 3 experts"):
        raphael.by_time(x, torch.zeros(2), EXPERTS)
    with pytest.raises(ValueError, match="^logits: 2 for 3 experts"):
        raphael.by_word(normals(2, 3, 4, 4), torch.ones(2, 5, 4, 4), torch.zeros(2, 5, 2), EXPERTS)
    with pytest.raises(ValueError, match="^logits: 4 for 2 experts"):
        raphael.routed([model] * 2, raphael.nearest_level(raphael.level_centres(4, VP), VP))(x, 0.5)
    with pytest.raises(ValueError, match="^experts: of kinds jump, mean"):
        raphael.routed([model, Predictor("jump", model.predict)], raphael.nearest_level(torch.zeros(2), VP))
    with pytest.raises(ValueError, match="^masks: .*expected"):
        raphael.by_word(normals(2, 3, 4, 4), torch.ones(2, 5, 4, 3), torch.zeros(2, 5, 3), EXPERTS)
    with pytest.raises(grids.BadGrid):
        sample(model, x, grid.flip(0))


def test_the_loss_is_the_squared_error_of_the_noise_on_the_steps_of_the_chain():
    chain = process.named("discrete-linear")
    t = raphael.chain_times((torch.arange(1000).double() + 0.5) / 1000, chain)
    assert torch.equal((t * 1000).round().long(), torch.arange(1, 1001))
    ve = process.named("ve-edm")
    assert raphael.chain_times(torch.tensor([0.0, 0.9999]), ve).tolist() == pytest.approx([0.08, 80.0])
    t, x0, noise = t[::150], normals(7, 2, 3), normals(7, 2, 3, tag="eps")
    x, model = chain.noised(x0, t, noise), Predictor("mean", lambda x, t: 0.3 * x)
    eps = (x - chain.alpha(t)[:, None, None] * 0.3 * x) / chain.sigma(t)[:, None, None]
    expected = (eps - noise).square().mean((1, 2))
    torch.testing.assert_close(raphael.loss(model, x0, t, noise, process=chain), expected, rtol=1e-9, atol=1e-12)


def test_the_gate_of_levels_moves_its_centres_to_the_time_s_device():
    path = process.named("vp-linear")
    gate = raphael.nearest_level(raphael.level_centres(4, path), path)
    assert gate(torch.full((3,), 0.5, dtype=torch.float64, device="meta")).shape == (3, 4)


def test_a_picture_without_words_is_refused():
    with pytest.raises(ValueError, match="at least one word"):
        raphael.by_word(torch.zeros(2, 1, 2, 2), torch.zeros(2, 0, 2, 2), torch.zeros(2, 0, 3), [lambda h: h] * 3)
