"""The parameters that learn in each mode, and the learning rate."""

from __future__ import annotations

import math

from sorted_tuning.exits import Exit
from sorted_tuning.model import SortedModel
from sorted_tuning.tuning.config import TuneConfig


def freeze(model: SortedModel, config: TuneConfig) -> None:
    """Set requires_grad: the blocks of exits of positive weight; in soft mode the trunk's layers below, and the norm.

    The blocks' own norms may stay frozen: a converted folder keeps them beside the head, whose file stays the same.
    """
    model.requires_grad_(False)
    learning = learning_exits(model.exits, config)
    if config.mode == "soft":
        model.base.model.layers[: max(exit_.layer for exit_ in learning)].requires_grad_(True)
        model.base.model.norm.requires_grad_(True)
        return
    for exit_ in learning:
        block = model.blocks[str(exit_.layer)]
        block.layers.requires_grad_(True)
        block.norm.requires_grad_(config.train_norms)


def learning_exits(exits: tuple[Exit, ...], config: TuneConfig) -> tuple[Exit, ...]:
    """The exits of positive weight that can learn: with a frozen trunk, only those with blocks."""
    return tuple(e for e, weight in zip(exits, config.weights()) if weight > 0 and (config.mode == "soft" or e.block))


def rate_at(config: TuneConfig, tokens: int) -> float:
    """The learning rate after this many tokens: a linear warm-up, then a cosine down to `min_lr` of the peak.

    It goes by tokens, not by time: a run that was paused or moved to a slower machine stays the same run.
    """
    if tokens < config.warmup_tokens:
        return config.lr * (tokens + 1) / config.warmup_tokens
    progress = min(1.0, (tokens - config.warmup_tokens) / max(1, config.total_tokens - config.warmup_tokens))
    return config.lr * (config.min_lr + (1 - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress)))
