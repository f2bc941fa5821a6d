"""The exit blocks of a converted model folder as a Hugging Face state dict, from which a later run may start.

Dequantized, so as exact as the folder's kernel (a w8a8 block is within 0.01 nats of the tuned one).
Knows both namings. Must not know training.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import Exit
from sorted_tuning.reference.converted import read_manifest, read_weights

_PARTS = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
_NORMS = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def read_blocks(folder: Path) -> tuple[tuple[Exit, ...], dict[str, torch.Tensor]]:
    """The folder's exits, and its blocks' tensors fp32 by the names of `SortedModel.blocks`."""
    manifest = read_manifest(folder)
    arch, exits = manifest["architecture"], _exits(manifest)
    if not any(e.block for e in exits):
        raise TuningError(f"blocks-from: must be a model folder with exit blocks, got {folder}")
    weights = {n: torch.from_numpy(w) for n, w in read_weights(folder, manifest["kernels"][0]).items()}
    q, kv = arch["heads"] * arch["headDim"], arch["kvHeads"] * arch["headDim"]
    state = {}
    for exit_, entry in zip(exits, manifest["exits"]):
        if not exit_.block:
            continue
        state[f"{exit_.layer}.norm.weight"] = weights["norms"][entry["norm"]]
        for i in range(exit_.block):
            ours, theirs = f"exits.{exit_.layer}.layers.{i}", f"{exit_.layer}.layers.{i}"
            for kind in ("weight", "bias") if f"{ours}.qkv.bias" in weights else ("weight",):
                for name, rows in zip("qkv", weights[f"{ours}.qkv.{kind}"].split([q, kv, kv])):
                    state[f"{theirs}.self_attn.{name}_proj.{kind}"] = rows.contiguous()
                state[f"{theirs}.self_attn.o_proj.{kind}"] = weights[f"{ours}.o.{kind}"]
            for part, name in _PARTS.items():
                state[f"{theirs}.{name}.weight"] = weights[f"{ours}.{part}.weight"]
            for part, name in _NORMS.items():
                state[f"{theirs}.{name}.weight"] = weights[f"{ours}.{part}"]
    return exits, state


def _exits(manifest: dict) -> tuple[Exit, ...]:
    layers, exits = 0, []
    for stage, entry in zip(manifest["stages"], manifest["exits"]):
        layers += stage["layers"]
        exits.append(Exit(layers, entry["block"]["layers"] if entry["block"] else 0))
    return tuple(exits)
