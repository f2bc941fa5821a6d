"""The parameters that learn in each mode, and their rates."""

from __future__ import annotations

from torch import nn

from sorted_tuning.exits import Exit
from sorted_tuning.model import SortedModel
from sorted_tuning.tuning.config import TuneConfig
from sorted_tuning.tuning.schedule import lr_factor


def freeze(model: SortedModel, config: TuneConfig) -> None:
    """Set requires_grad: the trunk's layers and norm unless mode is blocks, the blocks, the embeddings if asked.

    The blocks' own norms may stay frozen: a converted folder keeps them beside the head, whose file stays the same.
    Layers that run for no exit of positive weight stay frozen: data-parallel processes would wait for their gradient.
    """
    model.requires_grad_(False)
    read = [exit_ for exit_, weight in zip(model.exits, config.weights()) if weight > 0]
    for exit_ in read:
        if exit_.block:
            block = model.blocks[str(exit_.layer)]
            block.layers.requires_grad_(True)
            block.norm.requires_grad_(config.train_norms)
    if config.mode != "blocks":
        deepest = max(exit_.layer for exit_ in read)
        model.base.model.layers[: min(config.trunk_layers or deepest, deepest)].requires_grad_(True)
        shared = any(not exit_.block for exit_ in read)
        model.base.model.norm.requires_grad_(shared and config.trunk_layers is None)
    if config.train_embeddings:
        model.base.model.embed_tokens.requires_grad_(True)
        model.base.lm_head.requires_grad_(True)


def groups(model: SortedModel, config: TuneConfig) -> list[dict]:
    """Optimizer groups by name: blocks at lr; the trunk at lr (soft) or trunk_lr (hybrid)."""
    blocks = [p for p in model.blocks.parameters() if p.requires_grad]
    trunk = [p for p in model.base.parameters() if p.requires_grad]
    trunk_lr = config.trunk_lr if config.mode == "hybrid" else config.lr
    pairs = [("blocks", blocks, config.lr), ("trunk", trunk, trunk_lr)]
    return [{"name": name, "params": params, "lr": 0.0, "peak": peak} for name, params, peak in pairs if params]


def set_rates(optimizer_groups: list[dict], config: TuneConfig, tokens: int) -> dict[str, float]:
    """Set each group's learning rate for this many tokens seen; in hybrid mode the trunk starts at trunk_from."""
    rates = {}
    for group in optimizer_groups:
        start = config.trunk_from if group["name"] == "trunk" and config.mode == "hybrid" else 0
        factor = lr_factor(
            tokens, start=start, total=config.total_tokens, warmup=config.warmup_tokens, minimum=config.min_lr
        )
        group["lr"] = rates[group["name"]] = group["peak"] * factor
    return rates


def trunk_learns(config: TuneConfig, tokens: int) -> bool:
    """Whether the trunk needs a gradient at this point of the run."""
    return config.mode == "soft" or (config.mode == "hybrid" and tokens >= config.trunk_from)


def active_exits(exits: tuple[Exit, ...], config: TuneConfig, tokens: int) -> list[int]:
    """Indices of the exits that can learn at this point: with a frozen trunk, only those with blocks."""
    weights = config.weights()
    learns = trunk_learns(config, tokens)
    return [i for i, e in enumerate(exits) if weights[i] > 0 and (learns or e.block)]


def layers(model: SortedModel) -> list[nn.Module]:
    """Every decoder layer of trunk and blocks, to be compiled and fake-quantized."""
    return [*model.base.model.layers, *(layer for block in model.blocks.values() for layer in block.layers)]
