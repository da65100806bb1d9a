"""What a reward says of samples.

reward  mean of context.target.reward over the samples: the mean of 10 blocks, t. Higher is what training by rewards is
        after, and not nearer to the target: the floor is what exact samples of the target get.
"""

from __future__ import annotations

from benchmarks.metrics import Context, Metric, Scores, Shards, blocks_of, flat
from benchmarks.statistics import t_interval


def score_reward(samples: Shards, context: Context) -> Scores:
    blocks = blocks_of([context.target.reward(flat(shard)) for shard in samples])
    return {"reward": t_interval([block.mean().item() for block in blocks], context.level, n=blocks[0].shape[0])}


METRICS = (
    Metric(
        name="reward", title="Mean reward", unit="", better="higher", ideal=None,
        needs=frozenset({"reward"}), score=score_reward,
        floor=lambda context: score_reward(context.exact_samples(0), context),
    ),
)  # fmt: skip
