"""Checkpoints of wrapped models: wrapping a layer changes no name in them."""

from pathlib import Path

import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from sorted_tuning.exits import parse_exits
from sorted_tuning.export import load_sorted
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.objective import SortedObjective
from sorted_tuning.tuning.parameters import freeze, groups


def wrapped(config):
    """An objective whose trunk layers recompute their activations, as accelerate wraps them, and its optimizer."""
    model = load_sorted(Path(config.model), parse_exits(config.exits))
    freeze(model, config)
    optimizer = torch.optim.AdamW([{**g, "lr": 1e-2} for g in groups(model, config)])
    trunk = model.base.model.layers
    for i, layer in enumerate(trunk):
        trunk[i] = checkpoint_wrapper(layer)
    return SortedObjective(model, config.loss), optimizer


def step(objective, optimizer, parameters):
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.zero_grad()


def test_optimizer_state_comes_back_under_activation_checkpointing(config, tmp_path):
    objective, optimizer = wrapped(config)
    learns = [p for p in objective.parameters() if p.requires_grad]
    step(objective, optimizer, learns[1:])  # the first one had no gradient yet: it has no state
    checkpoint.save(tmp_path, objective, optimizer, {"step": 1, "tokens": 1})
    again, fresh = wrapped(config)
    checkpoint.load(checkpoint.latest(tmp_path), again, fresh)
    theirs = [p for p in again.parameters() if p.requires_grad]
    assert theirs[0] not in fresh.state
    for ours, other in zip(learns[1:], theirs[1:], strict=True):
        assert torch.equal(ours, other)
        assert fresh.state[other]["step"] == 1
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[ours][moment], fresh.state[other][moment])
