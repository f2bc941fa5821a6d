"""A sample of the vocabulary, by which a softmax over all of it is estimated.

Most of a step's arithmetic is the head: 49,152 tokens, of which a few thousand matter to a batch. Importance sampling
(arXiv 1412.2007 section 3) estimates the normalizer. The taught tokens A count as they are, and n of the N others are
drawn uniformly:
    Z = sum over v in A of e^z_v + sum over the drawn v of (N / n) e^z_v.
The estimate is unbiased for the whole sum. log(N / n), added to the drawn tokens' logits, makes every formula of a
softmax hold as it stands, gradients included. The gradient of a token that no target names appears in n / N of the
steps, with a weight of N / n.
Knows token ids. Must not know losses or models.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class VocabularySample:
    """ids i64 [S]: the tokens whose logits are computed. bias f32 [S]: added to these logits. place i64 [V]: a token's
    place in ids; only taught tokens have one."""

    ids: torch.Tensor
    bias: torch.Tensor
    place: torch.Tensor


def sample_vocabulary(taught: torch.Tensor, order: torch.Tensor, size: int) -> VocabularySample | None:
    """`size` tokens of the vocabulary: all in `taught` (ids of any shape) and the first others in `order`.

    order: i64 [V], a random permutation of the vocabulary. Returns None, with a warning, if the taught tokens alone
    fill half of the sample. Few tokens would then stand for many, and the whole vocabulary is the better choice.
    """
    vocab = len(order)
    used = torch.zeros(vocab, dtype=torch.bool, device=order.device)
    used[taught.flatten().long()] = True
    count = int(used.sum())
    if size >= vocab or 2 * count > size:
        warnings.warn(
            f"head_sample: {size} is no use with what a step teaches; all {vocab} tokens are computed", stacklevel=2
        )
        return None
    drawn = order[~used[order]][: size - count]
    ids = torch.cat([used.nonzero().flatten(), drawn])
    bias = torch.zeros(size, device=order.device)
    bias[count:] = math.log((vocab - count) / len(drawn))
    place = torch.zeros(vocab, dtype=torch.int64, device=order.device)
    place[ids] = torch.arange(size, device=order.device)
    return VocabularySample(ids, bias, place)
