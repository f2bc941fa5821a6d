"""Teacher-forced scores on given documents: KL to the base's full depth, top-1 agreement, perplexity of the text.

    KL(p || q) = sum over the whole vocabulary of p_v log(p_v / q_v), p the base at full depth, mean over positions
Knows logits. Must not know where documents come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from sorted_tuning.model import SortedModel


@dataclass
class Score:
    """Means over positions; perplexity is that of the document's own next token."""

    kl: float
    agreement: float
    perplexity: float


@torch.no_grad()
def score(model: SortedModel, base: PreTrainedModel, documents: list[list[int]], name: str) -> dict[str, Score]:
    """Scores of every exit, by exit name."""
    sums = {e.layer: torch.zeros(3, dtype=torch.float64) for e in model.exits}
    positions = 0
    for ids in tqdm(documents, desc=name, unit="doc", mininterval=30):
        tokens = torch.tensor([ids])
        log_p = base(tokens).logits[0, :-1].float().log_softmax(-1)
        for layer, h in model(tokens).items():
            log_q = F.linear(h[0, :-1], model.head).float().log_softmax(-1)
            kl = (log_p.exp() * (log_p - log_q)).sum()
            same = (log_q.argmax(-1) == log_p.argmax(-1)).sum()
            nll = F.nll_loss(log_q, tokens[0, 1:], reduction="sum")
            sums[layer] += torch.stack([kl.double(), same.double(), nll.double()])
        positions += len(ids) - 1
    result = {}
    for exit_ in model.exits:
        kl, agreement, nll = (sums[exit_.layer] / positions).tolist()
        result[str(exit_)] = Score(kl, agreement, math.exp(nll))
    return result
