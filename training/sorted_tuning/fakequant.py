"""Fake quantization of linear layers as the served kernels round, with a straight-through gradient.

    y = W~ x~,   v~ = v + stop_gradient(quantize(v) - v)      so that d v~ / d v = 1   (arXiv 1308.3432)

- w8a8: weights in L levels a side (127, or fewer by the converter's weight bits), one scale per output row
  (max |w| / L); activations 8 bits, one scale per token (max |x| / 127).
- int4: weights in blocks of 32 along the input, values -8..7, scale = code x the row's unit, code the nearest to
  (the entry of largest magnitude / -8) / unit; activations 8 bits, one scale per token and block of 32.
Rounding is half to even, like ONNX Runtime's; of int4 weights half up, like the converter's. Norms, attention and the
(frozen) head stay as they are. Levelling and GPTQ, for which the converter needs measured inputs, are not simulated.
Knows number formats. Must not know models beyond "has nn.Linear children".
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

BLOCK = 32
"""Weights per scale of the int4 kernel."""

MAX_CODE = 127
"""Largest code of an int4 scale."""

COARSEST = 1.148
"""The converter's coarsest int4 scale, as a multiple of (largest weight / 8): the value of the largest code."""


def _straight_through(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    return exact + (rounded - exact).detach()


def levels_of(bits: float) -> int:
    """Levels on each side of zero that hold this many bits of information, as the converter counts them: 127 for 8."""
    return int((2**bits - 1) / 2)


def round_rows(x: torch.Tensor, levels: int = 127) -> torch.Tensor:
    """Symmetric rounding to levels -levels..levels with one scale per last-dimension row."""
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / levels
    return (x / scale).round().clamp(-levels, levels) * scale


def _blocks(x: torch.Tensor) -> torch.Tensor:
    return F.pad(x, (0, -x.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))


def round_row_blocks(x: torch.Tensor) -> torch.Tensor:
    """Symmetric 8-bit rounding with one scale per row and block of 32."""
    return round_rows(_blocks(x)).flatten(-2)[..., : x.shape[-1]]


def round_int4(w: torch.Tensor) -> torch.Tensor:
    """4-bit rounding in blocks of 32, as the converter rounds to nearest without measured inputs.

    unit  = 1.148 max |w of the row| / 8 / 127
    scale = unit x code,  code = the integer nearest to (entry of largest magnitude / -8) / unit, 1 in place of 0
    w~    = scale x clamp(round(w / scale), -8, 7)
    """
    blocks = _blocks(w.float())
    unit = blocks.abs().amax((-2, -1), keepdim=True) * (COARSEST / 8 / MAX_CODE)
    unit = torch.where(unit == 0, 1.0, unit)
    code = _half_up(blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)) / -8 / unit).clamp(-MAX_CODE, MAX_CODE)
    scale = torch.where(code == 0, 1.0, code) * unit
    return (_half_up(blocks / scale).clamp(-8, 7) * scale).flatten(-2)[..., : w.shape[-1]].to(w.dtype)


def _half_up(x: torch.Tensor) -> torch.Tensor:
    return (x + 0.5).floor()


class W8A8Linear(nn.Linear):
    """nn.Linear that computes what the w8a8 kernel will, its weights in `levels` on each side of zero."""

    levels = 127

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = _straight_through(self.weight, round_rows(self.weight, self.levels))
        return F.linear(_straight_through(x, round_rows(x)), weight, self.bias)


class Int4Linear(nn.Linear):
    """nn.Linear that computes what the int4 kernel will."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = _straight_through(self.weight, round_int4(self.weight))
        return F.linear(_straight_through(x, round_row_blocks(x)), weight, self.bias)


KERNELS = {"w8a8": W8A8Linear, "int4": Int4Linear}


def quantize_layers(layers: list[nn.Module], kernel: str, weight_bits: float = 8) -> None:
    """Make every nn.Linear inside `layers` round as the kernel does, in place. weight_bits: the converter's, of w8a8.

    The module stays and its class changes. Sharding (FSDP2) puts gathered weights into the modules that it has seen,
    so a replacement module would hold only a shard.
    """
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = KERNELS[kernel]
                if isinstance(module, W8A8Linear):
                    module.levels = levels_of(weight_bits)
