"""Token sequences: distance to an exact table, cross-entropy under an n-gram model, entropy within a sequence.

token_tv       total variation between the empirical law of whole sequences and the exact table: the mean of 10 blocks,
               t. The plug-in is biased upwards (about sqrt(cells / n) while cells << n, towards 1 beyond): read it
               against the floor, exact draws at the same n. pooled: from all samples at once. pairs: the same for
               neighbouring positions, mean over the pairs, which says more where K^L exceeds n.
source_bits    excess of the mean of -log2 p per token under the exact table over the source's entropy: 0 for exact
               samples, negative for too likely ones (read it beside token_tv).
text_bits      mean of -log2 p per token under the n-gram model fitted to the training text. Dull text scores low:
               read it beside token_entropy, and against the floor, the held-out text.
token_entropy  mean entropy of the tokens within one sequence, in bits (plug-in, so at most log2 L).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.metrics import ADDRESS, Context, Metric, Scores, Shards, blocks_of, shuffled
from benchmarks.metrics.modes import total_variation
from benchmarks.statistics import t_interval
from reference_impls.core.draws import Philox

BLOCKS = 10
ORDER = 5  # of the n-gram model


def codes(tokens: Tensor, classes: int) -> Tensor:
    """int64 [..,L] -> [..]: the place of a sequence among all K^L, the first token counting most."""
    power = classes ** torch.arange(tokens.shape[-1] - 1, -1, -1, device=tokens.device)
    return (tokens * power).sum(-1)


def law_gap(tokens: Tensor, table: Tensor) -> float:
    """Total variation between the law of tokens [n,L] and a table [K,..,K]; a token outside 0..K-1 is mass off it."""
    classes = table.shape[0]
    known = ((tokens >= 0) & (tokens < classes)).all(1)
    counts = torch.bincount(codes(tokens[known], classes), minlength=table.numel()).double()
    return total_variation(counts / tokens.shape[0], table.flatten()) + (~known).double().mean().item() / 2


def pair_tables(table: Tensor) -> list[Tensor]:
    """The laws [K,K] of positions (l, l+1)."""
    length = table.ndim
    return [table.sum([m for m in range(length) if m not in (k, k + 1)]) for k in range(length - 1)]


def score_tv(samples: Shards, context: Context) -> Scores:
    table = context.once("table", lambda: context.target.table().double().cpu())
    blocks = [block.cpu() for block in blocks_of(samples, BLOCKS)]
    n = blocks[0].shape[0]
    scores: Scores = {
        "token_tv": t_interval([law_gap(block, table) for block in blocks], context.level, n=n),
        "token_tv_pooled": law_gap(torch.cat(blocks), table),
    }
    if table.ndim > 2:
        pairs = context.once("pair tables", lambda: pair_tables(table))
        gaps = [[law_gap(block[:, k : k + 2], pair) for k, pair in enumerate(pairs)] for block in blocks]
        scores["token_tv_pairs"] = t_interval([sum(gap) / len(gap) for gap in gaps], context.level, n=n)
    return scores


def exact_tokens(context: Context) -> Shards:
    """Exact draws in the samples' place, by shard."""
    sizes = context.sizes()
    like = torch.zeros(sum(sizes), *context.target.shape, dtype=torch.int64)
    return context.target.sample(Philox(context.seed, sum(sizes)).at(ADDRESS), like).split(sizes)


@dataclass(frozen=True, eq=False)
class _Grams:
    """Counts of all (c+1)-grams of a text: sorted codes and counts, and per context its code, count and followers."""

    codes: Tensor
    counts: Tensor
    contexts: Tensor
    totals: Tensor
    followers: Tensor

    @classmethod
    def of(cls, text: Tensor, length: int, classes: int) -> _Grams:
        found, counts = codes(text.unfold(0, length, 1), classes).unique(return_counts=True)
        contexts, place, followers = (found // classes).unique_consecutive(return_inverse=True, return_counts=True)
        return cls(found, counts, contexts, torch.zeros_like(contexts).index_add_(0, place, counts), followers)


def _looked_up(keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
    """values at the places of `query` among the sorted keys, 0 where it is not there."""
    place = torch.searchsorted(keys, query).clamp_(max=keys.numel() - 1)
    return torch.where(keys[place] == query, values[place], 0)


@dataclass(frozen=True, eq=False)
class NGram:
    """Interpolated Witten-Bell model: p(w|h) = (c(hw) + T(h) p(w|h')) / (c(h) + T(h)), down to the uniform law.

    c counts in the training text, T(h) is the number of different followers of h, h' is h without its oldest token; an
    unseen h leaves p(w|h'). Witten & Bell, IEEE Trans. Inf. Theory 37 (1991), method C; Chen & Goodman 1998, eq. 16.
    At the start of a sequence the context is as long as there are tokens.
    """

    classes: int
    grams: tuple[_Grams, ...]

    @classmethod
    def fitted(cls, text: Tensor, classes: int, order: int = ORDER) -> NGram:
        """text: int64 [m], m >= order, tokens in 0..classes-1."""
        if classes**order >= 2**63:
            raise ValueError(f"order: {order} with {classes} classes, expected classes^order < 2^63; use a lower order")
        text = _checked(text, classes)
        return cls(classes, tuple(_Grams.of(text, length, classes) for length in range(1, order + 1)))

    def log_prob(self, tokens: Tensor) -> Tensor:
        """tokens int64 [B,L] -> float64 [B,L], log p(token | the tokens before it) in nats."""
        tokens = _checked(tokens, self.classes)
        p = torch.full(tokens.shape, 1 / self.classes, dtype=torch.float64)
        for length, grams in enumerate(self.grams[: tokens.shape[1]], 1):
            gram = codes(tokens.unfold(1, length, 1), self.classes)
            context = gram // self.classes
            count = _looked_up(grams.codes, grams.counts, gram)
            total = _looked_up(grams.contexts, grams.totals, context)
            followers = _looked_up(grams.contexts, grams.followers, context)
            shorter = p[:, length - 1 :]
            mixed = (count + followers * shorter) / (total + followers)
            p[:, length - 1 :] = torch.where(total > 0, mixed, shorter)
        return p.log()


def _checked(tokens: Tensor, classes: int) -> Tensor:
    tokens = tokens.detach().cpu().long()
    bad = int(((tokens < 0) | (tokens >= classes)).sum())
    if bad:
        raise ValueError(f"tokens: {bad} of {tokens.numel()} outside 0..{classes - 1}; a mask was left in the samples")
    return tokens


def _over_shards(name: str, values: Shards, context: Context) -> Scores:
    means = [part.mean().item() for part in values]
    return {name: t_interval(means, context.level, n=sum(map(len, values)), over="shards")}


def score_source(samples: Shards, context: Context) -> Scores:
    """Raises ValueError where a sample is impossible under the source: its bits are infinite."""
    table = context.once("table", lambda: context.target.table().double().cpu())
    length, flat_table = table.ndim, table.flatten()
    entropy = -(torch.xlogy(flat_table, flat_table).sum() / math.log(2)).item()
    bits = [-flat_table[codes(_checked(shard, table.shape[0]), table.shape[0])].log2() - entropy for shard in samples]
    return _over_shards("source_bits", [part / length for part in bits], context)


def score_text(samples: Shards, context: Context) -> Scores:
    model = context.once("n-gram", lambda: NGram.fitted(context.text, context.classes))
    bits = -model.log_prob(torch.cat(list(samples))).mean(1) / torch.log(torch.tensor(2.0, dtype=torch.float64))
    return _over_shards("text_bits", bits.split([len(shard) for shard in samples]), context)


def held_out_shards(context: Context) -> list[Tensor]:
    """Disjoint windows of the held-out text in random order, as many as the job's samples if there are so many."""
    sizes, length = context.sizes(), context.start[0].shape[1]
    windows = shuffled(context.held_out_text.unfold(0, length, length), context.seed)
    return list(windows[: sum(sizes)].tensor_split(len(sizes)))


def entropies(tokens: Tensor) -> Tensor:
    """[B,L] -> [B] entropy of the empirical law of the tokens within each row, bits: log2 L - mean log2(count)."""
    same = (tokens[:, :, None] == tokens[:, None, :]).sum(2)
    return torch.log2(torch.tensor(tokens.shape[1], dtype=torch.float64)) - same.double().log2().mean(1)


def score_entropy(samples: Shards, context: Context) -> Scores:
    return _over_shards("token_entropy", [entropies(shard.cpu()) for shard in samples], context)


METRICS = (
    Metric(
        name="token_tv", title="Total variation to the exact table", unit="share", better="lower", ideal=0.0,
        needs=frozenset({"tokens", "token_table"}), score=score_tv,
        floor=lambda context: score_tv(exact_tokens(context), context),
    ),
    Metric(
        name="source_bits", title="Excess bits under the exact source", unit="bits per token", better="ideal",
        ideal=0.0,
        needs=frozenset({"tokens", "token_table"}), score=score_source,
        floor=lambda context: score_source(exact_tokens(context), context),
    ),
    Metric(
        name="text_bits", title="Cross-entropy under a 5-gram model", unit="bits per token", better="lower", ideal=None,
        needs=frozenset({"tokens", "text"}), score=score_text,
        floor=lambda context: score_text(held_out_shards(context), context),
    ),
    Metric(
        name="token_entropy", title="Entropy within a sequence", unit="bits", better="ideal", ideal=None,
        needs=frozenset({"tokens", "text"}), score=score_entropy,
        floor=lambda context: score_entropy(held_out_shards(context), context),
    ),
)  # fmt: skip
