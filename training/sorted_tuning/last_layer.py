"""The last layer of an exit block, which may answer at some positions alone.

A step reads an exit at a sample of its positions, and no layer follows its last one. So every position needs keys and
values, and only the sampled ones need queries, output and MLP. At a quarter of the positions that leaves 30% of the
work of a layer of SmolLM2-135M's shape, and the gradient is the same.
Knows one decoder layer. Must not know losses or how positions are chosen.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb, repeat_kv


class LastLayer(LlamaDecoderLayer):
    """A decoder layer with the parameters, and without `at` the results, of its base class."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        *args,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        at: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """hidden_states [B, S, H] of whole windows, without padding -> [B, S, H]; or [B, n, H] at positions `at`.

        at: i64 [B, n], positions in each window, in any order.
        """
        if at is None:
            return super().forward(hidden_states, *args, position_embeddings=position_embeddings, **kwargs)
        own, attention = take(hidden_states, at), self.self_attn
        x, (cos, sin) = self.input_layernorm(hidden_states), position_embeddings
        q = _heads(attention.q_proj(take(x, at)), attention.head_dim)
        k = _heads(attention.k_proj(x), attention.head_dim)
        v = _heads(attention.v_proj(x), attention.head_dim)
        q, _ = apply_rotary_pos_emb(q, q, cos[0][at], sin[0][at])
        k, _ = apply_rotary_pos_emb(k, k, cos, sin)
        seen = torch.arange(k.shape[2], device=at.device) <= at[:, None, :, None]
        k, v = (repeat_kv(t, attention.num_key_value_groups) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=attention.scaling)
        own = own + attention.o_proj(y.transpose(1, 2).flatten(2))
        return own + self.mlp(self.post_attention_layernorm(own))


def take(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of x [B, S, ...] at positions `at` [B, n] of each window: [B, n, ...]."""
    return x[torch.arange(len(at), device=at.device)[:, None], at]


def _heads(x: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[B, S, heads x head_dim] -> [B, heads, S, head_dim]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)
