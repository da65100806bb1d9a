"""Keyed noise: published vectors, addresses, independence of the batch, ranges, and refusals."""

import math
from zlib import crc32

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.laws.impulses import output_law, output_moments
from reference_impls.core import draws as draws_module
from reference_impls.core.draws import BadDraw, Philox, philox

# Known-answer vectors of Random123 (kat_vectors, philox4x32 10): counter, key, output
VECTORS = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def plain_philox(counter, key):
    """Philox4x32-10 in python integers, one counter at a time."""
    (w0, w1, w2, w3), (k0, k1) = counter, key
    for _ in range(10):
        even, odd = w0 * 0xD2511F53, w2 * 0xCD9E8D57
        w0, w1, w2, w3 = (odd >> 32) ^ w1 ^ k0, odd % 2**32, (even >> 32) ^ w3 ^ k1, even % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return w0, w1, w2, w3


def words(counter, key, device):
    as_tensors = [[torch.tensor([v], device=device) for v in values] for values in (counter, key)]
    return tuple(int(w) for w in philox(*map(tuple, as_tensors)))


@pytest.mark.parametrize("name", VECTORS)
def test_published_vectors(name, device):
    counter, key, expected = VECTORS[name]
    assert words(counter, key, device) == expected == plain_philox(counter, key)


def test_nine_rounds_miss_the_published_vectors():
    counter, key, expected = VECTORS["pi"]
    tensors = (tuple(torch.tensor([v]) for v in values) for values in (counter, key))
    assert tuple(int(w) for w in philox(*tensors, rounds=9)) != expected


word = st.integers(0, 2**32 - 1)


@given(word, word, word, word, st.integers(0, 9), st.text(max_size=5))
def test_a_draw_is_the_documented_function_of_its_address(seed, sample, i, j, element, tag):
    w = plain_philox((element // 2, i, crc32(tag.encode()), j), (seed, sample))
    u = [((w[2 * k] << 21 | w[2 * k + 1] >> 11) | 1) * 2.0**-53 for k in range(2)]
    source = Philox(seed, torch.tensor([sample])).at(i, j)
    assert source.uniform(tag, (1, 10))[0, element].item() == u[element % 2]
    angle = 2 * math.pi * u[1]
    z = math.sqrt(-2 * math.log(u[0])) * (math.sin(angle) if element % 2 else math.cos(angle))
    found = source.normal(tag, torch.empty(1, 2, 5, dtype=torch.float64)).flatten()[element].item()
    assert abs(found - z) <= 4e-15 * (1 + abs(z))


addresses = st.sampled_from([(), (3,), (2, 5)])


@given(st.permutations(range(6)), st.integers(1, 7), addresses, st.sampled_from([2**14, 2, 1]))
def test_neither_batch_nor_order_nor_pass_size_changes_a_draw(order, width, where, lanes):
    whole = Philox(9, range(100, 106)).at(*where)
    like = torch.empty(6, width, dtype=torch.float64)
    expected = whole.normal("a", like), whole.uniform("b", (6, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(draws_module.LANES, "cpu", lanes)
        part = Philox(9, 100 + torch.tensor(order[:4])).at(*where)
        part.uniform("b", (4, 1)), part.normal("c", like[:4])  # whatever was drawn before
        assert torch.equal(part.normal("a", like[:4]), expected[0][order[:4]])
        assert torch.equal(part.uniform("b", (4, width)), expected[1][order[:4]])
        assert torch.equal(part.normal("a", like[:4, :1]), expected[0][order[:4], :1])  # an element knows no later ones


@given(st.integers(0, 5), st.integers(0, 4), st.integers(1, 3), st.sampled_from([(3, 2), (4,), (2, 1, 3)]))
def test_block_equals_the_single_draws(first, length, stride, shape):
    span = range(first, first + length * stride, stride)
    for source in (Philox(1, shape[0]), Philox(1, shape[0]).at(7)):
        for dtype in (torch.float64, torch.float32):
            like = torch.empty(shape, dtype=dtype)
            found = source.block(span, "step", like)
            assert found.shape == (length, *shape) and found.dtype == dtype
            for row, i in zip(found, span, strict=True):
                assert torch.equal(row, source.at(i).normal("step", like))
    source, like = Philox(1, 3), torch.empty(3, 2)
    assert torch.equal(source.block(2, "s", like), source.block(range(2), "s", like))


def test_an_address_grows_and_all_parts_of_it_matter():
    source, like = Philox(3, 4), torch.empty(4, 3, dtype=torch.float64)
    assert torch.equal(source.at(1).at(2).normal("a", like), source.at(1, 2).normal("a", like))
    assert torch.equal(source.at(0).normal("a", like), source.normal("a", like))  # a missing part counts as 0
    drawn = [
        source.normal("a", like),
        source.normal("b", like),
        source.at(1).normal("a", like),
        source.at(0, 1).normal("a", like),
        Philox(4, 4).normal("a", like),
        Philox(3, range(4, 8)).normal("a", like),
    ]
    values = torch.stack(drawn).flatten()
    assert values.unique().numel() == values.numel()


def test_normals_are_standard_and_independent():
    """Deterministic, at 6 standard errors: moments, tails, and correlation across elements, samples, steps and tags."""
    count, like = 4000, torch.empty(4000, 50, dtype=torch.float64)
    source = Philox(2**32 - 1, count)
    z = source.normal("a", like)
    limit = 6 / math.sqrt(z.numel())
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean().item() - expected) <= limit * math.sqrt(variance)
    for bound in (1.0, 2.0, 3.0, 4.0):
        tail = math.erfc(bound / math.sqrt(2))
        assert abs((z.abs() > bound).double().mean().item() - tail) <= limit * math.sqrt(tail)
    others = {
        "element": z.roll(1, 1),
        "sample": z.roll(1, 0),
        "step": source.at(1).normal("a", like),
        "tag": source.normal("b", like),
    }
    for name, other in others.items():
        assert abs((z * other).mean().item()) <= limit, name
        assert abs((z**2 * other**2).mean().item() - 1) <= limit * math.sqrt(8), name
    u = source.uniform("c", (count, 50)).flatten().sort().values
    expected = (torch.arange(u.numel(), dtype=torch.float64) + 0.5) / u.numel()
    assert (u - expected).abs().max().item() * math.sqrt(u.numel()) <= 2.7  # Kolmogorov: exceeded once in 1e6


def test_uniforms_stay_inside_at_the_extreme_words():
    for extreme, expected in ((0, 2.0**-53), (2**32 - 1, 1 - 2.0**-53)):
        four = tuple(torch.full((1, 1), extreme) for _ in range(4))
        out = torch.empty(1, 1, 2, dtype=torch.float64)
        draws_module.uniforms(four, out)
        assert out.flatten().tolist() == [expected, expected]
        draws_module.normals(four, out)
        assert torch.isfinite(out).all() and out.abs().max() <= 8.58


def test_draws_follow_like_and_stay_contiguous(device):
    source = Philox(1, 3, device)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        z = source.normal("a", torch.empty(3, 5, dtype=dtype, device=device))
        assert z.dtype == dtype and z.device.type == device.type and z.is_contiguous()
        assert torch.equal(z, source.normal("a", torch.empty(3, 5, dtype=torch.float64, device=device)).to(dtype))
    u = source.uniform("a", (3,))
    assert u.dtype == torch.float64 and u.device.type == device.type
    cpu = Philox(1, 3).uniform("a", (3, 40))
    assert torch.equal(source.uniform("a", (3, 40)).cpu(), cpu)  # bitwise across devices
    near = Philox(1, 3).normal("a", torch.empty(3, 40, dtype=torch.float64))
    far = source.normal("a", torch.empty(3, 40, dtype=torch.float64, device=device)).cpu()
    assert (near - far).abs().max() <= 4e-15


def test_no_draw_touches_the_global_generator():
    before = torch.random.get_rng_state()
    Philox(1, 3).block(2, "a", torch.empty(3, 2))
    assert torch.equal(before, torch.random.get_rng_state())


LIKE = torch.empty(3, 2)
REFUSED = {
    "seed beyond 32 bits": (lambda: Philox(2**32, 3), f"seed: {2**32}"),
    "negative seed": (lambda: Philox(-1, 3), "seed: -1"),
    "seed no integer": (lambda: Philox(1.0, 3), "seed: 1.0"),
    "negative sample": (lambda: Philox(1, range(-1, 3)), "samples: holds -1"),
    "sample beyond 32 bits": (lambda: Philox(1, torch.tensor([2**32])), f"samples: holds {2**32}"),
    "negative count": (lambda: Philox(1, -3), "samples: -3"),
    "float samples": (lambda: Philox(1, torch.tensor([1.0])), "samples: torch.float32"),
    "table of samples": (lambda: Philox(1, torch.zeros(2, 2, dtype=torch.int64)), "samples: torch.int64 (2, 2)"),
    "rows": (lambda: Philox(1, 4).normal("a", LIKE), "like: shape is (3, 2), expected 4 rows"),
    "no rows": (lambda: Philox(1, 4).uniform("a", ()), "shape: shape is (), expected 4 rows"),
    "block rows": (lambda: Philox(1, 4).block(2, "a", LIKE), "like: shape is (3, 2), expected 4 rows"),
    "negative block": (lambda: Philox(1, 3).block(-2, "a", LIKE), "steps: -2"),
    "block from below zero": (lambda: Philox(1, 3).block(range(-1, 2), "a", LIKE), "steps: -1"),
    "deep address": (lambda: Philox(1, 3).at(1, 2, 3), "where: (1, 2, 3)"),
    "deep block": (lambda: Philox(1, 3).at(1, 2).block(2, "a", LIKE), "where: (1, 2, range(0, 2))"),
    "negative address": (lambda: Philox(1, 3).at(-1), "where: -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_line_and_name_the_value(name):
    call, begins = REFUSED[name]
    with pytest.raises(BadDraw) as caught:
        call()
    assert str(caught.value).startswith(begins) and "expected" in str(caught.value) and "\n" not in str(caught.value)


def test_empty_draws_are_empty():
    assert Philox(1, 0).normal("a", torch.empty(0, 3)).shape == (0, 3)
    assert Philox(1, 3).normal("a", torch.empty(3, 0)).shape == (3, 0)
    assert Philox(1, 3).block(0, "a", LIKE).shape == (0, 3, 2)
    assert Philox(1, 3).normal("a", torch.empty(3)).shape == (3,)


# The impulse toolkit on recursions whose law is known by hand


def test_impulses_give_the_law_of_an_autoregression():
    """x <- a x + b z + c (z of the step before): each noise is used twice, and its two effects must add up."""
    a, b, c, steps = 0.8, 0.5, -0.3, 6

    def run(x, draws):
        ahead = draws.block(steps, "step", x)
        for i in range(steps):
            x = a * x + b * ahead[i] + (c * draws.at(i - 1).normal("step", x) if i else 0.0) + 0.1
        return x + draws.at(steps, 3).normal("last", x)

    mean, variance = output_law(run, 2.0, 0.49)
    weights = [b * a ** (steps - 1 - i) + (c * a ** (steps - 2 - i) if i < steps - 1 else 0.0) for i in range(steps)]
    assert abs(mean - (2.0 * a**steps + 0.1 * sum(a**i for i in range(steps)))) <= 1e-14
    assert abs(variance - (0.49 * a ** (2 * steps) + sum(w**2 for w in weights) + 1)) <= 1e-14


def test_impulses_give_a_covariance():
    factor = torch.tensor([[1.0, 0.0], [0.6, 0.5]], dtype=torch.float64)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.3]], dtype=torch.float64)
    law = output_moments(lambda x, draws: x @ turn.T + 2 * draws.normal("a", x), torch.zeros(2).double(), factor)
    expected = turn @ factor @ factor.T @ turn.T + 4 * torch.eye(2)
    assert (law.covariance - expected).abs().max() <= 1e-14 and law.impulses == 4


@pytest.mark.parametrize(
    "run",
    [
        lambda x, draws: x + draws.normal("a", x) ** 2,
        lambda x, draws: x.clamp(-1, 1),
        lambda x, draws: x * draws.normal("a", x),
        lambda x, draws: x + draws.uniform("a", (x.shape[0], 1)),
        lambda x, draws: x + (draws.normal("b" if x.shape[0] > 1 else "a", x)),
    ],
    ids=["square", "clipped", "multiplied", "uniform", "unrecorded"],
)
def test_impulses_refuse_what_is_not_affine(run):
    with pytest.raises(AssertionError):
        output_law(run, 0.5, 1.0)
