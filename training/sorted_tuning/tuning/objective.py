"""The losses of a step, and the scores on the held-out documents, against the stored teacher.

Knows the sorted model and the losses. Must not know optimizers, schedules or files.
"""

from __future__ import annotations

import torch

from sorted_tuning.exits import Exit
from sorted_tuning.loss import Sampling, kl_and_hits, kl_head_loss
from sorted_tuning.model import SortedModel
from sorted_tuning.targets import Targets


def exit_losses(
    model: SortedModel,
    ids: torch.Tensor,
    top_ids: torch.Tensor,
    top_p: torch.Tensor,
    positions: torch.Tensor,
    exits: tuple[Exit, ...],
    *,
    trunk_grad: bool,
    states: dict[int, torch.Tensor] | None = None,
    sampling: Sampling | None = None,
) -> torch.Tensor:
    """ids i64 [B, T]; top-k [B, T, K]; positions i64 [E, B, n] in each window -> losses f32 [E] of the exits.

    With states [B, T, H] by exit layer the trunk doesn't run (model.py).
    """
    weight = _head(model, ids.device)
    hidden = model(ids, exits, trunk_grad=trunk_grad, states=states)
    losses = []
    for exit_, at in zip(exits, positions):
        h, own_ids, own_p = (_take(part, at) for part in (hidden[exit_.layer], top_ids, top_p))
        losses.append(kl_head_loss(h.to(weight.dtype), weight, own_ids, own_p, sampling))
    return torch.stack(losses)


@torch.no_grad()
def held_out_scores(
    model: SortedModel, targets: Targets, batch: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """{"kl": {exit: mean}, "agreement": {exit: share}} over all real tokens of the held-out documents.

    The KL is that of top-k and rest bucket (loss.py): a lower bound of the full one, tight for K = 32.
    """
    weight = _head(model, device)
    sums = torch.zeros(len(model.exits), 2)
    for start in range(0, len(targets.test_ids), batch):
        part = slice(start, start + batch)
        ids = targets.test_ids[part].long().to(device)
        real = (torch.arange(ids.shape[1]) < targets.test_length[part, None]).to(device)
        taught = [top[part].to(device)[real] for top in (targets.test_top_ids, targets.test_top_p)]
        hidden = model(ids)
        parts = (hidden[exit_.layer][real].to(weight.dtype) for exit_ in model.exits)
        sums += torch.stack([kl_and_hits(h, weight, *taught) for h in parts]).cpu()
    means = sums / int(targets.test_length.sum())
    names = [str(e) for e in model.exits]
    return {
        "kl": {n: round(v, 4) for n, v in zip(names, means[:, 0].tolist())},
        "agreement": {n: round(v, 4) for n, v in zip(names, means[:, 1].tolist())},
    }


def _head(model: SortedModel, device: torch.device) -> torch.Tensor:
    """The head in the type of the matrix products."""
    if torch.is_autocast_enabled(device.type):
        return model.head.to(torch.get_autocast_dtype(device.type))
    return model.head


def _take(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Rows of x [B, T, ...] at positions `at` [B, n] of each window: [B x n, ...]."""
    return x[torch.arange(len(at), device=at.device)[:, None], at].flatten(0, 1)
