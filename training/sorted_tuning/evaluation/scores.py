"""Teacher-forced scores on given documents: KL to the base's full depth, top-1 agreement, perplexity of the text.

    KL(p || q) = sum over the whole vocabulary of p_v log(p_v / q_v), p the base at full depth, mean over positions
Knows logits. Must not know where documents come from.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from sorted_tuning.evaluation.table import Table
from sorted_tuning.exits import Exit
from sorted_tuning.model import SortedModel


def scores(model: SortedModel, base: PreTrainedModel, documents: list[list[int]]) -> Table:
    """Scores of every exit, and of the untouched base that leaves early at the same executed depths."""
    depths = sorted({e.executed for e in model.exits})
    untuned = SortedModel(base, tuple(Exit(depth) for depth in depths)).eval()
    return {name: score(each, base, documents, name) for name, each in (("base exits", untuned), ("sorted", model))}


@torch.no_grad()
def score(
    model: SortedModel, base: PreTrainedModel, documents: list[list[int]], name: str
) -> dict[str, dict[str, float]]:
    """Means over positions by exit name; perplexity is that of the document's own next token."""
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
    found = {}
    for exit_ in model.exits:
        kl, agreement, nll = (sums[exit_.layer] / positions).tolist()
        found[str(exit_)] = {"kl": kl, "agreement": agreement, "perplexity": math.exp(nll)}
    return found
