"""Give a tuned exit block more layers at the same executed depth, without changing what it answers.

The new exit leaves the trunk one layer earlier and carries one layer more, a copy of the trunk layer between. It
computes the same function, with one more layer that can learn.
Knows blocks' weights by name. Must not know training or files.
"""

from __future__ import annotations

import re

import torch
from transformers import PreTrainedModel

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import Exit, format_exits


def lengthen_blocks(
    base: PreTrainedModel,
    blocks: dict[str, torch.Tensor],
    found: tuple[Exit, ...],
    wanted: tuple[Exit, ...],
) -> dict[str, torch.Tensor]:
    """The blocks of exits `found`, as those of exits `wanted`, which must run as many layers each.

    Names are those of SortedModel.blocks: `{layer}.layers.{i}.<weight>` and `{layer}.norm.weight`.
    A wanted exit may leave the trunk earlier than the one found, not later.
    """
    if [e.executed for e in wanted] != [e.executed for e in found] or any(
        w.layer > f.layer or bool(w.block) != bool(f.block) for w, f in zip(wanted, found)
    ):
        raise TuningError(
            f"exits: must run as many layers as those of the blocks, {format_exits(found)}, "
            f"and leave the trunk no later, got {format_exits(wanted)}"
        )
    result = {}
    for old, new in zip(found, wanted):
        more = old.layer - new.layer
        for i, layer in enumerate(base.model.layers[new.layer : old.layer]):
            result |= {f"{new.layer}.layers.{i}.{name}": value.clone() for name, value in layer.state_dict().items()}
        own = f"{old.layer}."
        for name, value in blocks.items():
            if name.startswith(own):
                result[f"{new.layer}.{_moved(name.removeprefix(own), more)}"] = value
    return result


def _moved(name: str, by: int) -> str:
    """`layers.{i}.rest` as `layers.{i + by}.rest`; the norm's name stays."""
    return re.sub(r"^layers\.(\d+)", lambda found: f"layers.{int(found[1]) + by}", name)
