"""The layers behind a prompt exit, with projections of their own.

With L the prompt exit, x_L the trunk's states after L layers, and layers i = L..N-1 counted from 0:

    s          = RMSNorm_swiftkv(x_L)                            once, for all deeper layers
    K_i, V_i   = k_swiftkv_g s, v_swiftkv_g s                    g = the first layer of i's group
    Q_i        = q_swiftkv_i RMSNorm_i(x_i)
    x_{i+1}    = the base's layer i with these Q, K and V        its output projection, MLP and norms stay

Learnt are q_swiftkv, k_swiftkv, v_swiftkv and the norm.

With `keys_only` these K_i and V_i are those of prompts alone, and group is 1. The last position of a prompt and those of
an answer run the base's layers, so nothing but the prompt's keys and values differs. Learnt are k_swiftkv,
v_swiftkv and the norm. Knows layers of transformers by their parts. Must not know
losses, data or optimizers.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from sorted_tuning.architectures import head_dim, head_inputs, passage
from sorted_tuning.errors import TuningError
from sorted_tuning.last_layer import take

CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""Values of `model_type` that have a class of SwiftKV, and that class's name."""


class PromptProjections(nn.Module):
    """Copies of one layer's projections: of queries, and of keys and values where the layer leads its group."""

    def __init__(self, attention: nn.Module, leads: bool, keys_only: bool):
        super().__init__()
        names = [] if keys_only else ["q_proj", "q_norm"]
        names += ["k_proj", "k_norm", "v_proj"] if leads else []
        for name in names:
            if hasattr(attention, name):
                setattr(self, name, copy.deepcopy(getattr(attention, name)))


class PromptExit(nn.Module):
    """What a prompt exit adds to a base; the base itself is no part of this module, and stays as it is."""

    def __init__(self, base: PreTrainedModel, exit_: int, group: int, keys_only: bool = False):
        """A TuningError for a base or an exit that can't have a prompt exit."""
        super().__init__()
        check_prompt_exit(base, exit_, group, keys_only)
        object.__setattr__(self, "base", base)
        self.exit, self.group, self.keys_only = exit_, group, keys_only
        deeper = base.model.layers[exit_:]
        self.norm = copy.deepcopy(deeper[0].input_layernorm)
        self.layers = nn.ModuleList(
            PromptProjections(each.self_attn, i % group == 0, keys_only) for i, each in enumerate(deeper)
        )
        self.requires_grad_(True)

    def forward(self, states: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """From the trunk's states [B, S, H] after `exit` layers to what the head reads, [B, S, H]; causal attention.

        answers: bool [B, S], positions whose next token is one of an answer. Only `keys_only` reads it, and its result
        at other positions means nothing.
        """
        if self.keys_only:
            return self._behind_keys(states, answers)
        decoder = self.base.model
        # States of any layer do: they tell the length, the type and the device.
        turns = passage(decoder, embeddings=states).arguments[self.exit]["position_embeddings"]
        x, shared = states, self.norm(states)
        keys = values = None
        for layer, own in zip(decoder.layers[self.exit :], self.layers):
            if hasattr(own, "k_proj"):
                readers = layer.self_attn.num_key_value_groups
                keys, values = (part.repeat_interleave(readers, 1) for part in self._pair(own, shared, turns))
            queries = self._heads(own.q_proj(layer.input_layernorm(x)), getattr(own, "q_norm", None))
            queries = _turned(queries, turns)
            scale = layer.self_attn.scaling
            out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
            x = x + layer.self_attn.o_proj(out.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return head_inputs(self.base, x)

    def _behind_keys(self, states: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """The base's layers at answer positions alone, behind the exit's keys and values of the prompt."""
        decoder = self.base.model
        turns = passage(decoder, embeddings=states).arguments[self.exit]["position_embeddings"]
        # Rows with fewer answers run some positions of their prompts too, which count nowhere.
        at = (~answers).to(torch.int8).argsort(dim=1, stable=True)[:, : max(1, int(answers.sum(1).max()))]
        real = answers.gather(1, at)
        seen = (torch.arange(states.shape[1]) <= at.unsqueeze(-1)).unsqueeze(1)
        own_turns = tuple(part[0][at] for part in turns)
        x, shared = take(states, at), self.norm(states)
        for layer, own in zip(decoder.layers[self.exit :], self.layers):
            attention, rows = layer.self_attn, layer.input_layernorm(x)
            readers = attention.num_key_value_groups
            queries = self._heads(attention.q_proj(rows), getattr(attention, "q_norm", None))
            made = []
            for prompts, these in zip(self._pair(own, shared, turns), self._pair(attention, rows, own_turns)):
                place = at[:, None, :, None].expand_as(these)
                these = torch.where(real[:, None, :, None], these, prompts.gather(2, place))
                made.append(prompts.scatter(2, place, these).repeat_interleave(readers, 1))
            turned, scale = _turned(queries, own_turns), attention.scaling
            out = F.scaled_dot_product_attention(turned, *made, attn_mask=seen, scale=scale)
            x = x + attention.o_proj(out.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        found = torch.zeros_like(states).scatter(1, at.unsqueeze(-1).expand_as(x), x)
        return head_inputs(self.base, found)

    def _pair(
        self, projections: nn.Module, rows: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turned keys and values [B, kv heads, S, D]."""
        keys = self._heads(projections.k_proj(rows), getattr(projections, "k_norm", None))
        return _turned(keys, turns), self._heads(projections.v_proj(rows), None)

    def _heads(self, x: torch.Tensor, norm: nn.Module | None) -> torch.Tensor:
        """[B, S, heads * D] to [B, heads, S, D], each head normalized where the class does so."""
        heads = x.unflatten(-1, (-1, head_dim(self.base.config)))
        return (heads if norm is None else norm(heads)).transpose(1, 2)


def check_prompt_exit(base: PreTrainedModel, exit_: int, group: int, keys_only: bool) -> None:
    """A TuningError for a class without a twin of SwiftKV, or for a layer or group that the base does not have."""
    config = base.config
    if config.model_type not in CLASSES:
        raise TuningError(f"model: architecture must be one of {', '.join(CLASSES)}, got {config.model_type!r}")
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        raise TuningError(f"model: layers must see the whole sequence, got {sorted(set(config.layer_types))}")
    layers = config.num_hidden_layers
    if not 1 <= exit_ < layers:
        raise TuningError(f"exit: must be one of the trunk layers 1 to {layers - 1}, got {exit_}")
    if not 1 <= group <= layers - exit_:
        raise TuningError(f"group: must be 1 to {layers - exit_} layers behind exit {exit_}, got {group}")
    if keys_only and group > 1:
        raise TuningError(f"group: must be 1 with keys_only, since answers keep keys of their own, got {group}")


def _turned(x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Heads [B, heads, S, D] turned by their positions (RoPE by halves); cosines and sines are [1, S, D]."""
    cos, sin = (part.unsqueeze(1).to(x.dtype) for part in turns)
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
