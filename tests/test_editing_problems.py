"""Editing problems: where guides come from, and what exact answers say of them."""

import pytest
import torch

from reference_impls import targets
from reference_impls.core.draws import Philox
from reference_impls.targets import corruptions, editing
from reference_impls.targets.atoms import digits

NAMES = [name for name in targets.makers() if hasattr(targets.named(name), "guide")]


@pytest.mark.parametrize("name", NAMES)
def test_rows_belong_together(name):
    problem = targets.named(name)
    image, known = problem.guide
    chosen = problem.rows([2, 0, 2])
    assert image.dtype == torch.float64 and image.shape[1:] == problem.shape == tuple(problem.prior.shape)
    assert torch.equal(chosen.guide.image, image[[2, 0, 2]])
    if known is not None:
        assert known.dtype == torch.bool and known.any() and not known.all()
        assert torch.equal(chosen.guide.known.expand(3, *problem.shape), known.expand(image.shape)[[2, 0, 2]])
        truth = problem.truth
        assert torch.equal(image[known.expand(image.shape)], truth[known.expand(image.shape)])
    for whole, part in ((problem.labels, chosen.labels), (problem.truth, chosen.truth)):
        assert (whole is None) == (part is None) and (whole is None or torch.equal(part, whole[[2, 0, 2]]))


@pytest.mark.parametrize("by", ["flow", "sde"])
@pytest.mark.parametrize("alpha, sigma", [(1.0, 0.5), (0.8, 0.6), (1.0, 30.0)])
def test_edited_gaussians_are_the_linear_maps_of_flow_and_posterior(by, alpha, sigma):
    """By the flow map and, for the SDE, a draw from N(D(x), (sigma^2/alpha) dD/dx): from the prior's own functions."""
    problem = targets.named("gaussian-2d-guides")
    prior, image = problem.prior, problem.guide.image

    def end(x):
        return prior.flow(x, alpha, sigma, 1.0, 0.0) if by == "flow" else prior.mean(x, alpha, sigma)

    slope = torch.autograd.functional.jacobian(lambda x: end(x[None])[0], torch.zeros(2, dtype=torch.float64))
    covariance = slope @ slope.T * sigma**2 + (0 if by == "flow" else sigma**2 / alpha * slope)
    mean, found = editing.edited(prior, image, alpha, sigma, by=by)
    assert (mean - end(alpha * image)).abs().max() < 1e-12 and (found - covariance).abs().max() < 1e-12
    if sigma == 30.0:  # nothing of the guide is left but 1/30 (flow) or 1/900 (SDE) of it; the law is the prior's
        law = prior.basis * prior.variances @ prior.basis.T
        assert (found - law).abs().max() < 0.01 and (mean - prior.mu).abs().max() < 0.2


def test_an_unknown_way_back_is_refused():
    problem = targets.named("gaussian-2d-guides")
    with pytest.raises(ValueError, match="^by: 'ode', expected 'flow' or 'sde'"):
        editing.edited(problem.prior, problem.guide.image, 1.0, 1.0, by="ode")


def test_gaussian_guides_are_two_to_five_deviations_away():
    problem = targets.named("gaussian-2d-guides")
    white = (problem.guide.image - problem.prior.mu) @ problem.prior.basis / problem.prior.variances.sqrt()
    assert 2 <= white.norm(dim=1).min() < 2.5 and 4.5 < white.norm(dim=1).max() <= 5


def test_the_rest_given_what_is_known_is_the_joint_density_over_its_integral():
    problem = targets.named("mixture-2d-half")
    line = torch.arange(-6.0, 6.0, 1e-3, dtype=torch.float64)
    for row in (0, 7, 29):
        a = problem.guide.image[row, 0]
        joint = problem.prior.log_prob(torch.stack([a.expand_as(line), line], dim=1))
        exact = joint - joint.logsumexp(0) - torch.log(torch.tensor(1e-3))
        assert (editing.rest_given_known(problem, row).log_prob(line[:, None]) - exact).abs().max() < 1e-7


def test_strokes_are_broad_and_of_three_tones():
    images = digits("held_out")[0]
    strokes = editing.strokes(images)
    assert set(strokes.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.equal(strokes[..., ::2, ::2], strokes[..., 1::2, 1::2])
    assert (torch.nn.functional.avg_pool2d(strokes - images, 2).abs() <= 0.5).all()
    assert torch.equal(editing.strokes(strokes), strokes)


def test_patches_hide_fifteen_pixels_each_in_a_place_of_its_own():
    images = digits("held_out")[0]
    guide = editing.painted_over(images)
    hidden = ~guide.known
    assert (hidden.flatten(1).sum(1) == 15).all()
    rows, columns = hidden[:, 0].any(2).sum(1), hidden[:, 0].any(1).sum(1)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(3, 5), (5, 3)}
    assert hidden.any(0).all()  # every pixel is hidden somewhere
    tones = [image[mask].unique() for image, mask in zip(guide.image, hidden, strict=True)]
    assert all(len(tone) == 1 and -1 <= tone <= 1 for tone in tones)
    few = editing.painted_over(images[:7])  # keyed by place alone
    assert torch.equal(few.image, guide.image[:7]) and torch.equal(few.known, guide.known[:7])


def test_a_quarter_is_the_upper_left_one():
    image, known = targets.named("digits-quarter").guide
    truth = targets.named("digits-quarter").truth
    assert known.shape == (1, 1, 8, 8) and known.sum() == 16 and known[0, 0, :4, :4].all()
    assert torch.equal(image[..., :4, :4], truth[..., :4, :4]) and not image[..., 4:, :].any()


def test_corruptions_are_what_they_are_called():
    """Of a picture that is 0 but for one pixel, and of the held-out digits; `known` tells a method nothing."""
    point = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    point[..., 3, 4] = 1
    kernel = corruptions.blurred(point)[0, 0, 2:5, 3:6]
    assert torch.equal(16 * kernel, torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=torch.float64))
    assert torch.equal(corruptions.blurred(point * 0 - 0.5), point * 0 - 0.5)  # also at the edges
    assert corruptions.faded(point).sum().item() == pytest.approx(1) and corruptions.faded(point).max() < 0.41
    images = digits("held_out")[0]
    salt = corruptions.salted(images)
    changed = salt != images
    assert set(salt[changed].tolist()) == {-1.0, 1.0}
    u = Philox(editing.GUIDE_SEED, 900).uniform("salt", (900, 1, 8, 8))
    assert torch.equal(salt == images, ~changed) and (changed <= ((u < 0.075) | (u > 0.925))).all()
    low, high = (u < 0.075).double().mean(), (u > 0.925).double().mean()
    assert abs(low - 0.075) < 0.005 and abs(high - 0.075) < 0.005  # four deviations of 57,600 draws
    blocks = torch.nn.functional.avg_pool2d(images, 2)
    assert torch.equal(torch.nn.functional.max_pool2d(corruptions.pixelated(images), 2), blocks)
    assert torch.equal(targets.named("digits-masked-guides").guide.image, targets.named("digits-patched").guide.image)
    for how in corruptions.CORRUPTIONS:
        problem = targets.named(f"digits-{how}-guides")
        assert problem.guide.known is None and not torch.equal(problem.guide.image, problem.truth)
        few = corruptions.CORRUPTIONS[how](images[:7])  # keyed by place alone
        assert torch.equal(few, problem.guide.image[:7])
        assert problem.guide.image.abs().max() <= 1


def test_guides_come_in_the_dtype_of_the_state():
    guide = editing.matching(targets.named("digits-patched").guide, Philox(0, 2).normal("x", torch.empty(2, 1)))
    assert guide.image.dtype == torch.float32 and guide.known.dtype == torch.bool
