"""How a token is drawn from logits. Knows no model and no text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Draw:
    """Each token is drawn among the top_k, those of at least min_p times the best one's probability."""

    max_tokens: int
    temperature: float
    top_k: int
    min_p: float


def draw_tokens(
    values: torch.Tensor, tokens: torch.Tensor, draws: Sequence[Draw], generator: torch.Generator
) -> torch.Tensor:
    """One token i64 [B] for each row of the largest logits f32 [B, k], in falling order, of these tokens.

    k must be every draw's top_k or more, or the vocabulary. Temperature comes last, as in llama.cpp.
    """
    settings = torch.tensor([(d.temperature, d.top_k, math.log(d.min_p)) for d in draws], device=values.device)
    temperature, top_k, floor = settings.unsqueeze(2).unbind(1)
    rank = torch.arange(values.shape[1], device=values.device)
    out = (rank >= top_k) | (values < values[:, :1] + floor)
    p = (values / temperature).masked_fill(out, -math.inf).softmax(-1)
    return tokens.gather(1, torch.multinomial(p, 1, generator=generator)).squeeze(1)
