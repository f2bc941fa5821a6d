"""The architectures that can be tuned, and what their classes in transformers have in common.

A model of any of them is a decoder `model` (embed_tokens, layers, norm) and an `lm_head`. The decoder's own forward
prepares what its layers read: scaled embeddings, one or two rotary tables, masks of windows. So it runs once with
probes in the place of its layers (`passage`), and the layers run afterwards, as far as they are needed.
Knows classes of transformers by their parts. Must not know exits or training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from sorted_tuning.errors import TuningError

ARCHITECTURES = (
    "llama",
    "mistral",
    "ministral",
    "ministral3",
    "qwen2",
    "qwen3",
    "smollm3",
    "granite",
    "granitemoehybrid",
    "phi3",
    "olmo2",
    "gemma3_text",
)
"""Values of `model_type`, those of `sortie convert`, but for Gemma 2: its bounded logits are not a linear head."""


def check_architecture(config: PreTrainedConfig, source: object) -> None:
    """A TuningError for an architecture that is not in the table, or for layers that no exit can share."""
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise TuningError(f"model: architecture must be one of {known}, got {config.model_type!r} in {source}")
    if getattr(config, "num_local_experts", 0):
        raise TuningError(f"model: must be dense, got {config.num_local_experts} experts in {source}")
    recurrent = set(getattr(config, "layer_types", None) or ()) & {"mamba", "linear_attention"}
    if recurrent:
        raise TuningError(f"model: layers must be attention, got {recurrent.pop()} in {source}")


@dataclass(frozen=True)
class Passage:
    """What a decoder passes to its layers: the embeddings [B, S, H], and the keyword arguments of each layer."""

    x: torch.Tensor
    arguments: list[dict[str, object]]


class _Probe(nn.Module):
    """Stands in the place of a layer, whose attributes it shows, and notes what it gets."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        # Not as a submodule: the layer has a place in the model already.
        object.__setattr__(self, "stood_for", layer)
        self.seen: tuple[torch.Tensor, dict[str, object]] | None = None

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "stood_for"), name)

    def forward(self, hidden_states: torch.Tensor, **arguments: object) -> torch.Tensor:
        self.seen = (hidden_states, arguments)
        return hidden_states


def passage(decoder: nn.Module, ids: torch.Tensor | None = None, embeddings: torch.Tensor | None = None) -> Passage:
    """Of ids i64 [B, S]. With `embeddings` [B, S, H] instead, x is unused."""
    layers, norm = decoder.layers, decoder.norm
    probes = nn.ModuleList(_Probe(layer) for layer in layers)
    # The registered modules stay as they are for every other reader: hooks, optimizers.
    decoder._modules["layers"], decoder._modules["norm"] = probes, nn.Identity()
    try:
        decoder.forward(input_ids=ids, inputs_embeds=embeddings, use_cache=False)
    finally:
        decoder._modules["layers"], decoder._modules["norm"] = layers, norm
    seen = [probe.seen for probe in probes]
    return Passage(seen[0][0], [arguments for _, arguments in seen])


def trunk_states(decoder: nn.Module, at: Passage, depth: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(n, x_n [B, S, H]) after each trunk layer n = 1..depth."""
    x = at.x
    for n, (layer, arguments) in enumerate(zip(decoder.layers[:depth], at.arguments), 1):
        x = layer(x, **arguments)
        yield n, x


def head_inputs(base: PreTrainedModel, x: torch.Tensor, norm: nn.Module | None = None) -> torch.Tensor:
    """What the head reads of hidden states, behind the model's norm or another one; logits are its plain product.

    Granite divides its logits, so here the inputs are divided.
    """
    normed = (norm or base.model.norm)(x)
    divisor = getattr(base.config, "logits_scaling", 1.0)
    return normed if divisor == 1 else normed * (1 / divisor)
