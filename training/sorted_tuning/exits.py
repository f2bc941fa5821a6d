"""Exits, and how a command line writes a list of them.

Knows only numbers: which trunk layer an exit follows and how many layers of its own it carries.
Must not know tensors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sorted_tuning.errors import TuningError


@dataclass(frozen=True)
class Exit:
    """An exit after `layer` trunk layers (1-based), with `block` layers of its own; block 0 is the paper's."""

    layer: int
    block: int = 0

    @property
    def executed(self) -> int:
        """Layers that run for one token of this exit; its speed depends on them."""
        return self.layer + self.block

    def __str__(self) -> str:
        return f"{self.layer}+{self.block}" if self.block else str(self.layer)


def parse_exits(text: str) -> tuple[Exit, ...]:
    """Read "9+1,14+1,30": exits after 9 and 14 trunk layers with one block layer each, and a plain one after 30."""
    exits = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\+(\d+))?\s*", part)
        if not match:
            raise TuningError(f"exits: each must be LAYER or LAYER+BLOCK_LAYERS, got {part.strip()!r} in {text!r}")
        exits.append(Exit(int(match[1]), int(match[2] or 0)))
    return tuple(exits)


def format_exits(exits: tuple[Exit, ...]) -> str:
    """The inverse of parse_exits."""
    return ",".join(map(str, exits))


def check_exits(exits: tuple[Exit, ...], layers: int) -> None:
    """Exits must increase, begin at layer 1 or later and end at the model's last layer, which carries no block."""
    if not exits:
        raise TuningError("exits: at least one is needed, got none")
    numbers = [e.layer for e in exits]
    if numbers[0] < 1 or any(b <= a for a, b in zip(numbers, numbers[1:])):
        raise TuningError(f"exits: layers must be at least 1 and strictly increasing, got {format_exits(exits)}")
    if numbers[-1] != layers:
        raise TuningError(f"exits: the last must be the model's last layer {layers}, got {numbers[-1]}")
    if exits[-1].block:
        raise TuningError(f"exits: full depth carries no block (it is the base's own answer), got {exits[-1]}")
    for e in exits:
        if e.executed > layers:
            raise TuningError(f"exits: layer and block must be at most the model's {layers} layers together, got {e}")
