"""The last layer of an exit block, which may answer at some positions alone.

A step reads an exit at a sample of its positions, and no layer follows its last one. So every position needs keys and
values, and only the sampled ones need queries, output and MLP. At a quarter of the positions that leaves 30% of the
work of a layer of SmolLM2-135M's shape, and the gradient is the same. Layers of another form than Llama's compute all
positions.
Knows the parts of one decoder layer. Must not know losses or how positions are chosen.
"""

from __future__ import annotations

import functools
import sys

import torch
from torch import nn
from torch.nn import functional as F

PLAIN = ("llama", "mistral", "qwen2", "qwen3")
"""Modules of transformers whose layers have Llama's form: norms in front, q, k, v and o apart, maybe norms of heads."""


class LastLayer:
    """A part of a decoder layer's class: the parameters, and without `at` the results, of the layer."""

    def forward(self, hidden_states: torch.Tensor, at: torch.Tensor | None = None, **arguments) -> torch.Tensor:
        """hidden_states [B, S, H] of whole windows, without padding -> [B, S, H]; or [B, n, H] at positions `at`.

        at: i64 [B, n], positions in each window, in any order. arguments: those of the layer.
        """
        if at is None:
            return super().forward(hidden_states, **arguments)
        # A mask is that of a window.
        if not self.is_plain or arguments.get("attention_mask") is not None:
            return take(super().forward(hidden_states, **arguments), at)
        return self._at(hidden_states, at, *arguments["position_embeddings"])

    def _at(self, hidden_states: torch.Tensor, at: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        own, attention = take(hidden_states, at), self.self_attn
        x = self.input_layernorm(hidden_states)
        q = _heads(attention.q_proj(take(x, at)), attention.head_dim)
        k = _heads(attention.k_proj(x), attention.head_dim)
        v = _heads(attention.v_proj(x), attention.head_dim)
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, _ = self.rotate(q, q, cos[0][at], sin[0][at])
        k, _ = self.rotate(k, k, cos, sin)
        seen = torch.arange(k.shape[2], device=at.device) <= at[:, None, :, None]
        k, v = (t.repeat_interleave(attention.num_key_value_groups, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=attention.scaling)
        own = own + attention.o_proj(y.transpose(1, 2).flatten(2))
        return own + self.mlp(self.post_attention_layernorm(own))


@functools.cache
def last_layer(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a last layer, for the class of a decoder layer."""
    module = sys.modules[kind.__module__]
    plain = kind.__module__.rsplit(".", 1)[-1].removeprefix("modeling_") in PLAIN
    rotate = staticmethod(getattr(module, "apply_rotary_pos_emb", None))
    return type("LastLayer", (LastLayer, kind), {"is_plain": plain, "rotate": rotate})


def take(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of x [B, S, ...] at positions `at` [B, n] of each window: [B, n, ...]."""
    return x[torch.arange(len(at), device=at.device)[:, None], at]


def _heads(x: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[B, S, heads x head_dim] -> [B, heads, S, head_dim]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)
