"""The sorted model: one trunk whose exits share its head, and optionally carry a block of layers of their own.

Sub-model of exit n with a block of k layers (k = 0 is SoFT, arXiv 2309.08968 section 3; k > 0 is Balcony,
arXiv 2503.05005 section 3), x_0 the embedding:

    x_i     = layer_i(x_{i-1})                        i = 1..n      (trunk, shared by all exits)
    y_0     = x_n,  y_j = block_{n,j}(y_{j-1})        j = 1..k      (the exit's own)
    h_n     = RMSNorm_n(y_k)                          the shared final norm where k = 0, the exit's own where k > 0
    logits  = W_head h_n                              (shared)

Knows how hidden states reach the exits. Must not know architectures, losses, data or optimizers.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from sorted_tuning.architectures import Passage, head_inputs, passage, trunk_states
from sorted_tuning.exits import Exit, check_exits


class ExitBlock(nn.Module):
    """k decoder layers and a norm that branch off the trunk after layer n: copies of the base's last k and its norm.

    So Balcony begins.
    """

    def __init__(self, base: PreTrainedModel, exit_: Exit):
        super().__init__()
        sources = base.model.layers[len(base.model.layers) - exit_.block :]
        self.layers = nn.ModuleList(
            # layer_idx continues the trunk's count: it tells a layer its kind, and its place in a cache.
            type(source)(base.config, exit_.layer + i)
            for i, source in enumerate(sources)
        )
        for own, source in zip(self.layers, sources):
            own.load_state_dict(source.state_dict())
        self.norm = copy.deepcopy(base.model.norm)


class SortedModel(nn.Module):
    """A base with exits. `blocks` maps str(layer) to the exit's block; exits without one share the final norm."""

    def __init__(self, base: PreTrainedModel, exits: tuple[Exit, ...]):
        super().__init__()
        check_exits(exits, base.config.num_hidden_layers)
        self.base, self.exits = base, exits
        self.blocks = nn.ModuleDict({str(e.layer): ExitBlock(base, e) for e in exits if e.block})
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
        states: dict[int, torch.Tensor] | None = None,
    ) -> dict[int, torch.Tensor]:
        """Normalized hidden states [B, S, H] by exit layer, for ids [B, S] without padding (causal attention).

        Runs no trunk layer beyond the deepest wanted exit.
        trunk_grad: without it no graph through the trunk is recorded, and only blocks learn.
        states: the trunk's outputs [B, S, H] by exit layer, with which the trunk doesn't run.
        """
        wanted = self.exits if wanted is None else wanted
        decoder = self.base.model
        if states is not None:
            # States of any layer do: they tell the length, the type and the device.
            passed = passage(decoder, embeddings=states[wanted[0].layer])
        else:
            layers = {e.layer for e in wanted}
            with torch.set_grad_enabled(trunk_grad and torch.is_grad_enabled()):
                passed = passage(decoder, ids)
                states = {n: x for n, x in trunk_states(decoder, passed, max(layers)) if n in layers}
        return {e.layer: self._finish(e, states[e.layer], passed) for e in wanted}

    def _finish(self, exit_: Exit, x: torch.Tensor, passed: Passage) -> torch.Tensor:
        """From the trunk's output at an exit's boundary to the normalized hidden states that the head reads."""
        if not exit_.block:
            return head_inputs(self.base, x)
        block = self.blocks[str(exit_.layer)]
        for layer, own in zip(block.layers, passed.arguments[exit_.layer : exit_.executed]):
            x = layer(x, **own)
        return head_inputs(self.base, x, block.norm)
