"""The models a table compares: the base's own early exits, the sorted model, and that in each kernel's rounding."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sorted_tuning.exits import Exit
from sorted_tuning.fakequant import levels_of, quantize_layers, round_rows
from sorted_tuning.model import SortedModel
from sorted_tuning.tuning.parameters import layers


def base_exits(base, exits: tuple[Exit, ...]) -> SortedModel:
    """The untouched base leaving early at the same executed depths, with its final norm and head."""
    depths = sorted({e.executed for e in exits})
    return SortedModel(base, tuple(Exit(depth) for depth in depths)).eval()


def in_kernel(model: SortedModel, kernel: str, weight_bits: float = 8, head_bits: float = 8) -> SortedModel:
    """A copy that rounds like a served kernel: linear layers as the kernel, embedding and head in their weights alone.

    These have a scale for each token with w8a8, for each 64 columns with int4. weight_bits (w8a8) and head_bits are the
    converter's options of these names.
    """
    rounded = copy.deepcopy(model)
    quantize_layers(layers(rounded), kernel, weight_bits)
    with torch.no_grad():
        for module in (rounded.base.model.embed_tokens, rounded.base.lm_head):
            weight = round_vocabulary(module.weight, kernel, levels_of(head_bits))
            module.weight = nn.Parameter(weight, requires_grad=False)
    return rounded.eval()


def round_vocabulary(weight: torch.Tensor, kernel: str, levels: int) -> torch.Tensor:
    """Embedding or head [V, H] as the converter stores it beside a kernel."""
    if kernel == "w8a8":
        return round_rows(weight, levels)
    return round_rows(weight.unflatten(-1, (-1, _head_block(weight.shape[-1]))), levels).flatten(-2)


def _head_block(hidden: int) -> int:
    """Columns that share a scale: the converter's choice where it pads none, else a whole row."""
    return next((block for block in (64, 32) if hidden % block == 0), hidden)
