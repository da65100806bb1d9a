"""Networks: what a sampler may rely on whatever the weights, and what training may rely on before it starts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reference_impls import nets
from reference_impls.nets import activated_pair, gated
from reference_impls.nets.layers import Fourier

OPTIONS = {
    "unet": {},
    "mlp": {"dim": 3, "outputs": 4},
    "transformer": {"states": 7, "classes": 6, "length": 12, "width": 32, "depth": 2},
    "classifier": {},
    "gated": {"width": 8, "down": [1, 1], "up": [1, 1]},
    "gated_pair": {"width": 8, "down": [1], "up": [2]},
    "activated_pair": {"width": 8, "down": [1], "up": [2]},
    "bank": {"experts": 2, "dim": 64},
    "pooled": {},
}
TIMELESS = {"classifier", "pooled"}
SMALL_PAIR = {"width": 16, "down": [1], "up": [1]}  # of the recipes digits-restore and digits-restore-activated
NOISED = [kind for kind in OPTIONS if kind not in TIMELESS]


def inputs(kind: str, batch: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if kind == "transformer":
        return torch.randint(0, 7, (batch, 12), generator=generator)
    shape = (3,) if kind == "mlp" else (1, 8, 8)
    return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)


def levels(batch: int = 5) -> torch.Tensor:
    return torch.linspace(-1.2, 1.1, batch, dtype=torch.float64)


def stirred(kind: str, device: torch.device) -> nn.Module:
    """The network in float64 with every weight moved, so that no silent layer hides what lies before it."""
    net, generator = nets.build(kind, seed=0, **OPTIONS[kind]).double(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net.to(device)


def outputs(net: nn.Module, kind: str, rows=slice(None), device="cpu") -> torch.Tensor:
    x = inputs(kind)[rows].to(device)
    if kind == "bank":
        return torch.stack([net(x, levels()[rows].to(device), which=k) for k in range(2)], dim=1)
    return net(x) if kind in TIMELESS else net(x, levels()[rows].to(device))


def test_every_network_is_tested():
    assert set(nets.kinds()) == set(OPTIONS)


@pytest.mark.parametrize("kind", OPTIONS)
def test_first_weights_depend_on_the_seed_alone(kind):
    before = torch.random.get_rng_state()
    first, again, other = (nets.build(kind, seed=seed, **OPTIONS[kind]).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", OPTIONS)
def test_first_weights_keep_the_scale_of_their_input(kind):
    """Normal weights with variance 1/fan_in: of a layer's n weights the mean square is 1/fan_in up to 5 sqrt(2/n)."""
    for name, layer in nets.build(kind, seed=0, **OPTIONS[kind]).named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.any():
            size, fan_in = layer.weight.numel(), layer.weight[0].numel()
            assert (layer.weight.square().mean() * fan_in - 1).abs() < 5 * math.sqrt(2 / size), name


@pytest.mark.parametrize("kind", NOISED)
def test_a_noise_network_says_zero_before_training(kind):
    """So EDM starts at c_skip x, a token net at "any letter alike" and a control at its base drift."""
    assert not outputs(nets.build(kind, seed=0, **OPTIONS[kind]), kind).any()


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_row_never_depends_on_the_other_rows(kind, device):
    net = stirred(kind, device)
    whole = outputs(net, kind, device=device)
    for rows in ([2], [4, 0, 3]):
        torch.testing.assert_close(outputs(net, kind, rows, device), whole[rows], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", NOISED)
def test_a_float_noise_level_is_that_level_in_each_row(kind, device):
    net, x = stirred(kind, device), inputs(kind).to(device)
    rows = net(x, torch.full((5,), 0.3, dtype=torch.float64, device=device))
    torch.testing.assert_close(net(x, 0.3), rows, rtol=1e-12, atol=1e-12)
    assert (net(x, 0.31) - rows).abs().max() > 1e-4


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_weight_matters(kind, device):
    net = stirred(kind, device)
    outputs(net, kind, device=device).square().sum().backward()
    for name, parameter in net.named_parameters():
        used = parameter.grad[:7] if name == "tokens.weight" else parameter.grad
        assert used.abs().max() > 1e-9, name


@pytest.mark.parametrize("kind", ["unet", "mlp", "classifier", "gated", "gated_pair", "activated_pair"])
def test_gradients_are_those_of_finite_differences(kind, device):
    """What guidance, controls and likelihoods ask of a network: J v and v J at a point agree with differences."""
    net, x = stirred(kind, device), inputs(kind)[:2].to(device)
    level = levels(2).to(device)

    def call(x):
        return net(x) if kind == "classifier" else net(x, level)

    generator = torch.Generator().manual_seed(5)
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(device)
    out, slope = torch.func.jvp(call, (x,), (v,))
    h = 1e-5
    torch.testing.assert_close(slope, (call(x + h * v) - call(x - h * v)) / (2 * h), rtol=1e-6, atol=1e-7)
    w = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(device)
    pulled = torch.func.vjp(call, x)[1](w)[0]
    torch.testing.assert_close((pulled * v).sum(), (slope * w).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", OPTIONS)
def test_low_precision_stays_inside_the_network(kind, device):
    """bfloat16 has 8 bits: outputs come back as float32 and within a few per cent (RMS) of the float64 network's."""
    net = stirred(kind, device)
    exact = outputs(net, kind, device=device)
    low = outputs(net.bfloat16(), kind, device=device)
    assert low.dtype == torch.float32
    assert exact.dtype == torch.float64
    assert (low - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


def test_a_bank_asks_the_network_that_is_named_and_they_differ(device):
    bank, x = stirred("bank", device), inputs("bank").to(device)
    for k, expert in enumerate(bank.experts):
        assert torch.equal(bank(x, 0.3, which=k), expert(x.flatten(1), 0.3).reshape(x.shape))
    assert torch.equal(bank(x, 0.3), bank(x, 0.3, which=0))
    assert (bank(x, 0.3, which=1) - bank(x, 0.3)).abs().max() > 1e-3
    first = nets.build("bank", seed=0, **OPTIONS["bank"]).experts
    assert not torch.equal(first[0].enter.weight, first[1].enter.weight)


def test_a_bank_of_u_nets_sees_images_as_they_are(device):
    bank = nets.build("bank", seed=0, experts=2, of="unet", width=8, inner=8).double().to(device)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(device))
    x = inputs("unet").to(device)
    for k, expert in enumerate(bank.experts):
        assert torch.equal(bank(x, 0.3, which=k), expert(x, 0.3))
    assert (bank(x, 0.3, which=1) - bank(x, 0.3)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="of: 'transformer' is not known; expected one of mlp, unet"):
        nets.build("bank", seed=0, experts=2, of="transformer")


def test_fourier_features_are_what_they_say():
    c = torch.tensor([0.0, -0.7, 1.9], dtype=torch.float64)
    found = Fourier(pairs=3, low=0.5, high=8.0)(c)
    for row, value in zip(found.tolist(), c.tolist(), strict=True):
        angles = [2 * math.pi * f * value for f in (0.5, 2.0, 8.0)]
        assert row == pytest.approx([value, *map(math.cos, angles), *map(math.sin, angles)], abs=1e-12)


def test_fourier_features_keep_float32_of_a_bfloat16_level():
    """At c = 1 bfloat16 steps by 2^-7: a phase of 2 pi 8 c in bfloat16 would be off by more than a radian."""
    c = torch.tensor([0.99609375])  # 1 - 2^-8, a bfloat16 number
    low, exact = Fourier()(c.bfloat16()), Fourier()(c.double())
    assert low.dtype == torch.float32
    assert (low - exact).abs().max() < 1e-4


def test_the_transformer_sees_both_ways_and_knows_places(device):
    net, x = stirred("transformer", device), inputs("transformer").to(device)
    level = levels().to(device)
    changed = x.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 7
    moved = (net(changed, level) - net(x, level)).abs().amax(dim=(0, 2))
    assert (moved > 1e-6).all()
    shifted = (net(x.roll(1, 1), level).roll(-1, 1) - net(x, level)).abs().amax(dim=(0, 2))
    assert (shifted > 1e-6).all()


def test_the_digit_network_keeps_its_budget():
    assert nets.parameters_of(nets.build("unet", seed=0)) == 139_033  # at most 150,000
    assert nets.build("classifier", seed=0).last.in_features <= 64  # dimension of the digit metrics


def test_a_network_that_sees_an_image_heeds_it_and_its_noise():
    net = nets.build("unet", seed=0, seen=1).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)
    x, seen = inputs("unet"), inputs("unet").flip(0)
    before = net(x, 0.3, seen, 0.2)
    assert (net(x, 0.3, seen + 0.1, 0.2) - before).abs().max() > 1e-6
    assert (net(x, 0.3, seen, 0.5) - before).abs().max() > 1e-6


def test_labels_are_heeded_row_by_row_and_none_is_as_if_there_were_no_labels():
    """-1 adds nothing: such rows are those of the call without labels, which are those of a net that has none."""
    told = nets.build("unet", seed=0, classes=10).double()
    plain = nets.build("unet", seed=0).double()
    first = plain.state_dict()
    assert all(torch.equal(weight, first[name]) for name, weight in told.state_dict().items() if name in first)
    assert set(told.state_dict()) - set(first) == {"labels.weight"}
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            told.get_parameter(name).copy_(parameter)
    x, label = inputs("unet"), torch.tensor([3, -1, 3, 7, -1])
    found, bare = told(x, 0.3, label=label), plain(x, 0.3)
    torch.testing.assert_close(told(x, 0.3), bare, rtol=0, atol=0)
    torch.testing.assert_close(found[label < 0], bare[label < 0], rtol=1e-12, atol=1e-12)
    for row in (0, 2, 3):
        assert (found[row] - bare[row]).abs().max() > 1e-3
        torch.testing.assert_close(told(x[row : row + 1], 0.3, label=label[row : row + 1])[0], found[row])


def test_gates_and_norms_are_what_they_say():
    """The gate is of degree 2, the norm of degree 0 up to its floor; nothing else in the block bends."""
    x = inputs("gated").expand(-1, 6, -1, -1)
    assert torch.equal(gated.gate(2 * x), 4 * gated.gate(x))
    torch.testing.assert_close(gated.gate(x), x[:, :3] * x[:, 3:])
    norm = gated.ChannelNorm(6).double()
    rows = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    normed = norm(rows)
    assert normed.mean(1).abs().max() < 1e-12
    expected = rows.var(1, correction=0) / (rows.var(1, correction=0) + 1e-5)
    torch.testing.assert_close(normed.var(1, correction=0), expected, rtol=1e-12, atol=0)


def test_a_gated_block_starts_as_the_identity():
    block = gated.Gated(4, 8, torch.Generator().manual_seed(0)).double()
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(block(x, torch.ones(3, 8, dtype=torch.float64)), x)


def test_the_block_with_activations_is_the_gated_one_s_equal():
    """It starts as the identity, is as large within 2 % at every width, and is what its formula says."""
    for width in (16, 32):
        sizes = [
            nets.parameters_of(block(width, 64, torch.Generator().manual_seed(0)))
            for block in (gated.Gated, activated_pair.Activated)
        ]
        assert abs(sizes[1] / sizes[0] - 1) < 0.02
    pairs = [nets.parameters_of(nets.build(f"{kind}_pair", seed=0, **SMALL_PAIR)) for kind in ("gated", "activated")]
    assert abs(pairs[1] / pairs[0] - 1) < 0.02
    block = activated_pair.Activated(4, 8, torch.Generator().manual_seed(0)).double()
    x = inputs("gated").expand(-1, 4, -1, -1) * torch.arange(1.0, 5.0, dtype=torch.float64)[:, None, None]
    context = torch.randn(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.equal(block(x, context), x)
    with torch.no_grad():
        block.gain_places.fill_(0.7)
        block.gain_channels.fill_(0.4)
        block.squeeze.bias.fill_(-0.55)  # so that ReLU has something to do
    shift_p, scale_p, shift_c, scale_c = block.modulation(nn.functional.gelu(context))[..., None, None].chunk(4, 1)
    h = nn.functional.gelu(block.look(block.widen(block.norm_places(x) * (1 + scale_p) + shift_p)))
    squeezed = block.squeeze(h.mean((2, 3), keepdim=True))
    assert squeezed.min() < 0 < squeezed.max()
    h = h * torch.sigmoid(block.attend(torch.relu(squeezed)))
    y = x + 0.7 * block.narrow(h)
    h = nn.functional.gelu(block.mix_in(block.norm_channels(y) * (1 + scale_c) + shift_c))
    torch.testing.assert_close(block(x, context), y + 0.4 * block.mix_out(h), rtol=1e-12, atol=1e-12)


def test_a_gated_network_takes_any_size_and_fills_below_and_right():
    net = stirred("gated", torch.device("cpu"))
    x = torch.randn(2, 1, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    filled = nn.functional.pad(x, (0, 3, 0, 1))
    torch.testing.assert_close(net(x, 0.5), net(filled, 0.5)[..., :7, :5], rtol=1e-12, atol=1e-12)


def test_an_unknown_kind_is_named_with_those_there_are():
    with pytest.raises(
        KeyError, match="net: 'resnet' is not known; expected one of activated_pair, bank, classifier, gated, "
    ):
        nets.build("resnet", seed=0)


def test_the_pooled_network_is_four_convolutions_and_a_linear_layer():
    """Written out with torch's functions: ReLU after each, halved after all but the first, one pixel at the end."""
    net, x = stirred("pooled", torch.device("cpu")), inputs("pooled")
    assert [layer.weight.shape[0] for layer in net.convolutions] == [8, 16, 32, 64] and net.last.in_features == 64
    found = x
    for k, layer in enumerate(net.convolutions):
        found = nn.functional.conv2d(found, layer.weight, layer.bias, padding=1).clamp(min=0)
        found = found.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)) if k else found
    assert found.shape == (5, 64, 1, 1)
    torch.testing.assert_close(net(x), found[:, :, 0, 0] @ net.last.weight.T + net.last.bias, rtol=1e-11, atol=1e-12)
