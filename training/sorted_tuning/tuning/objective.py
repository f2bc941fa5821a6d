"""One step's losses as a module: the unit that accelerate wraps, so that sharded weights are whole where they are used.

Knows the sorted model and the losses. Must not know optimizers, schedules or files.
"""

from __future__ import annotations

import torch
from torch import nn

from sorted_tuning.exits import Exit
from sorted_tuning.loss import EAGER, LogitKernels, ce_head_loss, kl_and_hits, kl_head_loss
from sorted_tuning.model import SortedLlama


class SortedObjective(nn.Module):
    """Loss of each wanted exit on its own sample of positions."""

    def __init__(self, model: SortedLlama, loss: str, kernels: LogitKernels = EAGER):
        super().__init__()
        self.model, self.loss, self.kernels = model, loss, kernels

    def forward(
        self,
        ids: torch.Tensor,
        top_ids: torch.Tensor | None,
        top_p_bits: torch.Tensor | None,
        positions: torch.Tensor,
        exits: tuple[Exit, ...],
        trunk_grad: bool,
        score: bool = False,
        states: dict[int, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """ids i64 [B, T]; top-k [B, T, K] (kl); positions [E, n] into B x T (kl) or B x (T-1) (ce) -> losses f32 [E].

        top_p_bits is top_p (f16) viewed as int16: sharded mixed precision casts every floating input to bf16.
        With score: the held-out sums [E, 2] of KL and of agreeing positions instead. With states [B, T, H] by exit
        layer the trunk doesn't run (model.py).
        """
        top_p = None if top_p_bits is None else top_p_bits.view(torch.float16)
        hidden = self.model(ids, exits, trunk_grad=trunk_grad, states=states)
        weight, losses = self.model.head, []
        if torch.is_autocast_enabled(ids.device.type):
            weight = weight.to(torch.get_autocast_dtype(ids.device.type))
        for exit_, at in zip(exits, positions):
            h = hidden[exit_.layer].to(weight.dtype)
            if self.loss == "ce" and not score:
                # The last position of a window has no next token.
                losses.append(ce_head_loss(h[:, :-1].flatten(0, 1)[at], weight, ids[:, 1:].flatten()[at], self.kernels))
            else:
                kl = kl_and_hits if score else kl_head_loss
                taught = (top_ids.flatten(0, 1)[at], top_p.flatten(0, 1)[at])
                losses.append(kl(h.flatten(0, 1)[at], weight, *taught, self.kernels))
        return torch.stack(losses)
