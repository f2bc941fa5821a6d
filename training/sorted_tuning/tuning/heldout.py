"""KL and top-1 agreement on the held-out documents while tuning: quick, against the stored teacher."""

from __future__ import annotations

import torch
from torch import nn

from sorted_tuning.exits import Exit
from sorted_tuning.targets import Targets


@torch.no_grad()
def held_out_scores(
    objective: nn.Module, exits: tuple[Exit, ...], targets: Targets, batch: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """{"kl": {exit: mean}, "agreement": {exit: share}} over all real tokens of the held-out documents.

    The KL is that of top-k and rest bucket (loss.py): a lower bound of the full one, tight for K = 32.
    """
    sums = torch.zeros(len(exits), 2)
    for start in range(0, len(targets.test_ids), batch):
        part = slice(start, start + batch)
        ids = targets.test_ids[part].long().to(device)
        real = (torch.arange(ids.shape[1]) < targets.test_length[part, None]).to(device)
        top = targets.test_top_ids[part].to(device), targets.test_top_p[part].view(torch.int16).to(device)
        sums += objective(ids, *top, real, exits, False, score=True).float().cpu()
    means = sums / int(targets.test_length.sum())
    names = [str(e) for e in exits]
    return {
        "kl": {n: round(v, 4) for n, v in zip(names, means[:, 0].tolist())},
        "agreement": {n: round(v, 4) for n, v in zip(names, means[:, 1].tolist())},
    }
