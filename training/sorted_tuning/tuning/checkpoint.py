"""Checkpoints: parameters that learn, their optimizer state and the run's progress, one file each.

Frozen weights are not stored: they are the base's. A file appears whole or not at all (written beside, then renamed).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sorted_tuning.errors import TuningError

KEPT = 2
"""Newest checkpoints that stay on disk."""


def all_of(run: Path) -> list[Path]:
    """The checkpoints of a run, by their step."""
    return sorted(Path(run).glob("checkpoint-*.pt"))


def latest(run: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    return next(reversed(all_of(run)), None)


def save(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, int]) -> None:
    """Write checkpoint-<step>.pt and remove those beyond the newest KEPT."""
    final = Path(run) / f"checkpoint-{progress['step']:08d}.pt"
    partial = Path(run) / "partial.pt"
    learnt = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    torch.save({"model": learnt, "optimizer": optimizer.state_dict(), "progress": progress}, partial)
    partial.rename(final)
    for old in all_of(run)[:-KEPT]:
        old.unlink()


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, int]:
    """Load weights (and optimizer state, where one is given) in place; returns the progress."""
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    missing = [n for n, value in model.named_parameters() if value.requires_grad and n not in stored["model"]]
    if missing:
        raise TuningError(f"checkpoint: {checkpoint} must hold what the run tunes, lacks {missing[0]}")
    model.load_state_dict(stored["model"], strict=False)
    if optimizer is not None:
        optimizer.load_state_dict(stored["optimizer"])
    return stored["progress"]
