"""The one source of randomness: Philox4x32-10 addressed by place, so that a draw never depends on what else was drawn.

A draw is a function of (seed, sample index, where, tag, element) alone: not of batch size, order, device, workers or
history. Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Random123).
    key      = (seed, sample index)
    counter  = (element // 2, where[0] or 0, crc32(tag), where[1] or 0)
Its four 32-bit words make two uniforms k / 2^53 with k odd (exact, symmetric about 1/2, strictly inside (0, 1)), and
these two normals by Box & Muller in float64. Integers and uniforms agree bitwise across devices, normals to 2 ulp.
"""

from __future__ import annotations

import math
from functools import lru_cache
from zlib import crc32

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
LANES = {"cpu": 2**14}  # counters per pass on a device: on a CPU the six words of a pass stay in the cache
OTHER_LANES = 2**23

code_of_tag = lru_cache(maxsize=None)(lambda tag: crc32(tag.encode()))


class BadDraw(ValueError):
    """A seed, sample, address or shape that names no draw; the message says which and what was expected."""


def _word(value: int, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= WORD:
        raise BadDraw(f"{argument}: {value!r}, expected an integer from 0 to 2^32 - 1")
    return value


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, ...], rounds: int = 10) -> tuple[Tensor, ...]:
    """Philox4x32: four words of counter and two of key, int64 tensors in [0, 2^32) that broadcast, to four words.

    Products wrap modulo 2^64, which leaves their 64 bits right; the sign that >> drags in is masked away. Words 1 and 3
    carry their product's high half until the next mask, as only their low half is ever used.
    """
    w0, w1, w2, w3 = counter
    k0, k1 = key
    for i in range(rounds):
        if i:
            k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
        even, odd = w0 * MULTIPLIERS[0], w2 * MULTIPLIERS[1]
        w0 = ((odd >> 32) ^ (w1 ^ k0)).bitwise_and_(WORD)
        w2 = ((even >> 32) ^ (w3 ^ k1)).bitwise_and_(WORD)
        w1, w3 = odd, even
    return w0, w1 & WORD, w2, w3 & WORD


class Philox:
    """Draws of the samples `samples` of a job: row b of every draw belongs to sample index samples[b].

    seed: integer in [0, 2^32). samples: an integer n for range(n), a range, or an int64 [B], all in [0, 2^32).
    device: where `uniform` lives; `normal` and `block` follow their `like`. Raises BadDraw.
    An address has at most two parts, missing parts count as 0, and `normal` and `uniform` of one tag use the same
    words: different uses take different tags.
    """

    __slots__ = ("seed", "samples", "device", "where")

    def __init__(self, seed: int, samples: int | range | Tensor, device: torch.device | str = "cpu"):
        self.seed = _word(seed, "seed")
        if isinstance(samples, Tensor):
            if samples.ndim != 1 or samples.dtype != torch.int64:
                raise BadDraw(f"samples: {samples.dtype} {tuple(samples.shape)}, expected a vector of torch.int64")
        else:
            span = samples if isinstance(samples, range) else range(_word(samples, "samples"))
            samples = torch.arange(span.start, span.stop, span.step) if span else torch.empty(0, dtype=torch.int64)
        if samples.numel() and (samples.min() < 0 or samples.max() > WORD):
            bad = samples.min() if samples.min() < 0 else samples.max()
            raise BadDraw(f"samples: holds {bad.item()}, expected sample indices from 0 to 2^32 - 1")
        self.device = torch.device(device)
        self.samples = samples.to(self.device)
        self.where: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.samples.shape[0]

    def at(self, *where: int) -> Philox:
        """The same source at a deeper address: at(i).at(j) is at(i, j)."""
        path = (*self.where, *(_word(part, "where") for part in where))
        if len(path) > 2:
            raise BadDraw(f"where: {path}, expected at most two parts; put what is deeper into the tag")
        there = Philox.__new__(Philox)
        there.seed, there.samples, there.device, there.where = self.seed, self.samples, self.device, path
        return there

    def normal(self, tag: str, like: Tensor) -> Tensor:
        """Standard normals with the shape [B,*D], dtype and device of `like`."""
        size = self._size(like.shape, "like")
        return self._pairs(self.where, tag, size, like.device, normals).to(like.dtype).reshape(like.shape)

    def uniform(self, tag: str, shape: tuple[int, ...]) -> Tensor:
        """float64 uniforms strictly inside (0, 1) of shape (B, ...), on this source's device."""
        return self._pairs(self.where, tag, self._size(shape, "shape"), self.device, uniforms).reshape(shape)

    def block(self, steps: int | range, tag: str, like: Tensor) -> Tensor:
        """[steps,B,*D]: the draws at(i).normal(tag, like) for i in steps (an integer n is range(n)), in one call."""
        span = steps if isinstance(steps, range) else range(_word(steps, "steps"))
        size = self._size(like.shape, "like")
        if len(self.where) == 2:
            raise BadDraw(f"where: {(*self.where, span)}, expected at most two parts; draw the block one level higher")
        if not span:
            return like.new_empty(0, *like.shape)
        _word(min(span), "steps"), _word(max(span), "steps")
        index = torch.arange(span.start, span.stop, span.step, device=like.device)
        rows = index.repeat_interleave(len(self))[:, None]
        values = self._pairs((*self.where, rows), tag, size, like.device, normals, len(span))
        return values.to(like.dtype).reshape(len(span), *like.shape)

    def _size(self, shape: tuple[int, ...], argument: str) -> int:
        if len(shape) == 0 or shape[0] != len(self):
            raise BadDraw(f"{argument}: shape is {tuple(shape)}, expected {len(self)} rows, one per sample drawn")
        return math.prod(shape[1:])

    def _pairs(self, where, tag: str, size: int, device: torch.device, values, copies: int = 1) -> Tensor:
        """float64 [copies B, size]: `values` of the counters' words, LANES counters at a time."""
        lanes = LANES.get(device.type, OTHER_LANES)
        width = (size + 1) // 2
        samples = self.samples.to(device).repeat(copies)[:, None]
        parts = *(*where, 0, 0)[:2], code_of_tag(tag), self.seed
        first, second, code, seed = (_column(part, device) for part in parts)
        out = torch.empty(samples.shape[0], width, 2, dtype=torch.float64, device=device)
        height = max(1, lanes // max(1, width))
        for left in range(0, width, lanes):
            element = torch.arange(left, min(left + lanes, width), device=device)[None]
            for top in range(0, samples.shape[0], height):
                part = slice(top, top + height)
                counter = element, _rows(first, part), code, _rows(second, part)
                values(philox(counter, (seed, samples[part])), out[part, left : left + lanes])
        return out.flatten(1)[:, :size].contiguous()


def _column(value: int | Tensor, device: torch.device) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full((1, 1), value, dtype=torch.int64, device=device)


def _rows(column: Tensor, part: slice) -> Tensor:
    return column[part] if column.shape[0] > 1 else column


def uniforms(words: tuple[Tensor, ...], out: Tensor) -> None:
    """Write two uniforms per counter to out [rows,width,2]: the leading 53 bits of two words, the last of them set."""
    for k in range(2):
        bits = (words[2 * k] << 21) | (words[2 * k + 1] >> 11) | 1
        out[..., k] = bits.double().mul_(2.0**-53)  # bits * float would pass through float32


def normals(words: tuple[Tensor, ...], out: Tensor) -> None:
    """Write two normals per counter to out [rows,width,2], by Box & Muller; |z| <= sqrt(2 53 log 2) = 8.57."""
    uniforms(words, out)
    radius = out[..., 0].log().mul_(-2).sqrt_()
    angle = out[..., 1] * (2 * math.pi)
    torch.mul(radius, angle.cos(), out=out[..., 0])
    torch.mul(radius, angle.sin_(), out=out[..., 1])
