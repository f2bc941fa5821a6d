"""The models a table compares: the base's own early exits, the sorted model, and that in each kernel's rounding."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sorted_tuning.exits import Exit
from sorted_tuning.fakequant import quantize_layers, round_rows
from sorted_tuning.model import SortedLlama
from sorted_tuning.tuning.parameters import layers


def base_exits(base, exits: tuple[Exit, ...]) -> SortedLlama:
    """The untouched base leaving early at the same executed depths, with its final norm and head."""
    depths = sorted({e.executed for e in exits})
    return SortedLlama(base, tuple(Exit(depth) for depth in depths)).eval()


def in_kernel(model: SortedLlama, kernel: str) -> SortedLlama:
    """A copy that rounds like a served kernel: linears as the kernel does, embedding and head to 8 bits a row."""
    rounded = copy.deepcopy(model)
    quantize_layers(layers(rounded), kernel)
    with torch.no_grad():
        for module in (rounded.base.model.embed_tokens, rounded.base.lm_head):
            module.weight = nn.Parameter(round_rows(module.weight), requires_grad=False)
    return rounded.eval()
