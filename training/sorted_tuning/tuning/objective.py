"""One step's losses as a module: the unit that accelerate wraps, so that sharded weights are whole where they are used.

Knows the sorted model and the losses. Must not know optimizers, schedules or files.
"""

from __future__ import annotations

import torch
from torch import nn

from sorted_tuning.exits import Exit
from sorted_tuning.last_layer import take
from sorted_tuning.loss import EAGER, LogitKernels, Sampling, ce_head_loss, kl_and_hits, kl_head_loss
from sorted_tuning.model import SortedModel


class SortedObjective(nn.Module):
    """Loss of each wanted exit on its own sample of positions."""

    def __init__(self, model: SortedModel, loss: str, kernels: LogitKernels = EAGER, sample: int = 0):
        """sample: tokens of the vocabulary that a step computes (vocabulary.py); 0: all."""
        super().__init__()
        self.model, self.loss, self.kernels, self.sample = model, loss, kernels, sample

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
        order: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """ids i64 [B, T]; top-k [B, T, K] (kl); positions i64 [E, B, n] in each window -> losses f32 [E].

        top_p_bits is top_p (f16) viewed as int16: sharded mixed precision casts every floating input to bf16.
        With cross entropy, positions end before the last one, which has no next token. With score: positions are bool
        [B, T], and the held-out sums [E, 2] of KL and of agreeing positions come back. With states [B, T, H] by exit
        layer the trunk doesn't run (model.py). For a sampled vocabulary, order i64 [V] is a random permutation of it.
        """
        top_p = None if top_p_bits is None else top_p_bits.view(torch.float16)
        weight, losses = self.model.head, []
        if torch.is_autocast_enabled(ids.device.type):
            weight = weight.to(torch.get_autocast_dtype(ids.device.type))
        if score:
            hidden = self.model(ids, exits, trunk_grad=trunk_grad, states=states)
            taught = top_ids[positions], top_p[positions]
            parts = (hidden[exit_.layer][positions].to(weight.dtype) for exit_ in exits)
            return torch.stack([kl_and_hits(h, weight, *taught, self.kernels) for h in parts])
        sampling = None if order is None else Sampling(order, self.sample)
        read = {exit_.layer: at for exit_, at in zip(exits, positions)}
        hidden = self.model(ids, exits, trunk_grad=trunk_grad, states=states, at=read)
        for layer, at in read.items():
            h = hidden[layer].to(weight.dtype).flatten(0, 1)
            if self.loss == "ce":
                losses.append(ce_head_loss(h, weight, ids.gather(1, at + 1).flatten(), self.kernels, sampling))
            else:
                taught = (take(top_ids, at).flatten(0, 1), take(top_p, at).flatten(0, 1))
                losses.append(kl_head_loss(h, weight, *taught, self.kernels, sampling))
        return torch.stack(losses)
