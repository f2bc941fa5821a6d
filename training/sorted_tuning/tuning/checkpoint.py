"""Checkpoints: parameters that learn, their optimizer state and the run's progress, in torch's distributed format.

A checkpoint written by eight sharded processes loads into one, and the other way round. Frozen weights are not
stored: they are the base's. A checkpoint folder appears whole or not at all (written beside, then renamed).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from sorted_tuning.errors import TuningError

KEPT = 2
"""Newest checkpoints that stay on disk."""

_OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)

_WRAPPERS = {"module", "_checkpoint_wrapped_module", "_orig_mod"}
"""Parts of a parameter's name from DistributedDataParallel, activation checkpointing and torch.compile."""


def stored_name(name: str) -> str:
    """A parameter's name in a checkpoint, from that in a model which may be wrapped: torch stores the bare names."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def latest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    found = sorted(Path(run).glob("checkpoint-*"))
    return found[-1] if found else None


def save(run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict) -> Path:
    """Write checkpoint-<step>; every process calls it, the first one does the renaming and the clearing up."""
    final = Path(run) / f"checkpoint-{progress['step']:08d}"
    partial = final.with_name(f".partial-{final.name}")
    first = not dist.is_initialized() or dist.get_rank() == 0
    if first:
        for torn in Path(run).glob(".partial-*"):
            shutil.rmtree(torn)
    state = {
        "model": get_model_state_dict(model, options=_OPTIONS),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=_OPTIONS),
    }
    dcp.save(state, checkpoint_id=partial, no_dist=not dist.is_initialized())
    if first:
        (partial / "progress.json").write_text(json.dumps(progress) + "\n", "utf-8")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in sorted(Path(run).glob("checkpoint-*"))[:-KEPT]:
            shutil.rmtree(old)
    if dist.is_initialized():
        dist.barrier()
    return final


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict:
    """Load weights (and optimizer state, where one is given) in place; returns the progress."""
    progress = Path(checkpoint) / "progress.json"
    if not progress.is_file():
        raise TuningError(f"checkpoint: must be a folder that `tune` wrote, found no {progress}")
    state = {"model": get_model_state_dict(model, options=_OPTIONS)}
    stored = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    missing = [name for name in state["model"] if f"model.{name}" not in stored]
    if missing:
        raise TuningError(f"checkpoint: {checkpoint} must hold what the run tunes, lacks {missing[0]}")
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer, options=_OPTIONS)
    # Partial: parameters that had not been tuned yet have no optimizer state.
    planner = DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(state, checkpoint_id=checkpoint, planner=planner, no_dist=not dist.is_initialized())
    set_model_state_dict(model, state["model"], options=_OPTIONS)
    if optimizer is not None:
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=_OPTIONS)
        # Loading gives every parameter a state, also where none was stored: the run would continue differently with it.
        for name, parameter in model.named_parameters():
            if not any(key.startswith(f"optimizer.state.{stored_name(name)}.") for key in stored):
                optimizer.state.pop(parameter, None)
    return json.loads(progress.read_text("utf-8"))
