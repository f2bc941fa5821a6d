"""The sorted model: one Llama trunk whose exits share its head, and optionally carry a block of layers of their own.

Sub-model of exit n with a block of k layers (k = 0 is SoFT, arXiv 2309.08968 section 3; k > 0 is Balcony,
arXiv 2503.05005 section 3), x_0 the embedding:

    x_i     = layer_i(x_{i-1})                        i = 1..n      (trunk, shared by all exits)
    y_0     = x_n,  y_j = block_{n,j}(y_{j-1})        j = 1..k      (the exit's own)
    h_n     = RMSNorm_n(y_k)                          the shared final norm where k = 0, the exit's own where k > 0
    logits  = W_head h_n                              (shared)

Knows how hidden states reach the exits. Must not know losses, data or optimizers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel, LlamaRMSNorm

from sorted_tuning.exits import Exit, check_exits
from sorted_tuning.last_layer import LastLayer, take

Rope = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines [1, S, head size] of the positions."""


def rope_of(llama: LlamaModel, x: torch.Tensor) -> Rope:
    """For hidden states x [B, S, H] that begin at position 0."""
    return llama.rotary_emb(x, torch.arange(x.shape[1], device=x.device).unsqueeze(0))


def trunk_states(llama: LlamaModel, x: torch.Tensor, rope: Rope, depth: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(n, x_n [B, S, H]) after each trunk layer n = 1..depth, from the embeddings x [B, S, H]."""
    for n, layer in enumerate(llama.layers[:depth], 1):
        x = layer(x, position_embeddings=rope)
        yield n, x


def compile_layers(layers: list[nn.Module]) -> None:
    """Fuse each layer in place, for one shape of input at a time: needs a C++ compiler on a CPU."""
    for layer in layers:
        layer.compile(dynamic=False)


class ExitBlock(nn.Module):
    """k decoder layers and a norm that branch off the trunk after layer n."""

    def __init__(self, config: LlamaConfig, exit_: Exit):
        super().__init__()
        # layer_idx continues the trunk's count, so that a cache of n + k layers fits the sub-model.
        kinds = [LlamaDecoderLayer] * (exit_.block - 1) + [LastLayer]
        self.layers = nn.ModuleList(kind(config, exit_.layer + i) for i, kind in enumerate(kinds))
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def copy_last_layers(self, base: LlamaForCausalLM) -> None:
        """Start as a copy of the base's last k layers and final norm (Balcony's initialization)."""
        sources = base.model.layers[len(base.model.layers) - len(self.layers) :]
        for own, source in zip(self.layers, sources):
            own.load_state_dict(source.state_dict())
        self.norm.load_state_dict(base.model.norm.state_dict())


class SortedLlama(nn.Module):
    """A base Llama with exits. `blocks` maps str(layer) to the exit's block; exits without one share the final norm."""

    def __init__(self, base: LlamaForCausalLM, exits: tuple[Exit, ...]):
        super().__init__()
        check_exits(exits, base.config.num_hidden_layers)
        self.base, self.exits = base, exits
        self.blocks = nn.ModuleDict({str(e.layer): ExitBlock(base.config, e) for e in exits if e.block})
        for block in self.blocks.values():
            block.copy_last_layers(base)
        self.blocks.to(base.dtype)

    @property
    def head(self) -> nn.Parameter:
        """The LM head, [vocab, hidden], shared by all exits."""
        return self.base.lm_head.weight

    def forward(
        self,
        ids: torch.Tensor,
        wanted: tuple[Exit, ...] | None = None,
        *,
        trunk_grad: bool = True,
        trunk_input: Callable[[torch.Tensor], torch.Tensor] | None = None,
        states: dict[int, torch.Tensor] | None = None,
        at: dict[int, torch.Tensor] | None = None,
    ) -> dict[int, torch.Tensor]:
        """Normalized hidden states [B, S, H] by exit layer, for ids [B, S] without padding (causal attention).

        Runs no trunk layer beyond the deepest wanted exit.
        trunk_grad: without it no graph through the trunk is recorded, and only blocks learn.
        trunk_input: applied to the embeddings before the first layer.
        states: the trunk's outputs [B, S, H] by exit layer, with which the trunk doesn't run.
        at: positions i64 [B, n] by exit layer; the result then has only these, [B, n, H].
        """
        wanted = self.exits if wanted is None else wanted
        at = at or {}
        if states is not None:
            rope = rope_of(self.base.model, states[wanted[0].layer])
            return {e.layer: self.finish(e, states[e.layer], rope, at.get(e.layer)) for e in wanted}
        llama, by_layer = self.base.model, {e.layer: e for e in wanted}
        with torch.set_grad_enabled(trunk_grad and torch.is_grad_enabled()):
            x = llama.embed_tokens(ids)
            if trunk_input is not None:
                x = trunk_input(x)
            rope = rope_of(llama, x)
            found = {n: x for n, x in trunk_states(llama, x, rope, max(by_layer)) if n in by_layer}
        return {i: self.finish(by_layer[i], x, rope, at.get(i)) for i, x in found.items()}

    def finish(self, exit_: Exit, x: torch.Tensor, rope: Rope, at: torch.Tensor | None = None) -> torch.Tensor:
        """From the trunk's output at an exit's boundary to the normalized hidden states that the head reads.

        At the positions `at` alone, where given.
        """
        if not exit_.block:
            return self.base.model.norm(x if at is None else take(x, at))
        block = self.blocks[str(exit_.layer)]
        for layer in block.layers[:-1]:
            x = layer(x, position_embeddings=rope)
        return block.norm(block.layers[-1](x, position_embeddings=rope, at=at))

    def sub_model(self, exit_: Exit) -> LlamaForCausalLM:
        """The exit as a causal LM of its own that shares these very modules: for generation."""
        config = copy.deepcopy(self.base.config)
        config.num_hidden_layers, config.use_cache = exit_.executed, True
        with torch.device("meta"):
            view = LlamaForCausalLM(config)
        own = self.blocks[str(exit_.layer)] if exit_.block else None
        trunk = list(self.base.model.layers[: exit_.layer])
        view.model.embed_tokens = self.base.model.embed_tokens
        view.model.layers = nn.ModuleList(trunk + (list(own.layers) if own else []))
        view.model.norm = own.norm if own else self.base.model.norm
        view.model.rotary_emb = self.base.model.rotary_emb
        view.lm_head = self.base.lm_head
        return view.eval()
