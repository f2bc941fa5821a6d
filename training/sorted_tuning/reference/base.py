"""The trunk of a converted model folder as a checkpoint of transformers, dequantized to fp32.

Its values are those that the folder's graphs multiply with, smoothed inputs included: what is tuned on this checkpoint
fits the folder's own weights. Knows both namings. Must not know training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import Exit
from sorted_tuning.export import export
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.converted import Tensors, read_manifest, read_weights
from sorted_tuning.reference.plain import LLAMA

_PARTS = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj", "o": "self_attn.o_proj"}
_NORMS = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


def base_of(manifest: dict, weights: Tensors) -> PreTrainedModel:
    """The full depth of a converted Llama without biases, scaled positions or a head of its own."""
    arch = manifest["architecture"]
    rules = LLAMA | {"tiedHead": True, "qkvBias": False, "outputBias": False}
    wrong = [name for name, value in rules.items() if arch.get(name, value) != value]
    rotary = arch["rotary"][0]
    if wrong or rotary["scaling"] is not None:
        raise TuningError(f"model folder: must hold a plain Llama, got another {(wrong or ['rotary'])[0]}")
    config = AutoConfig.for_model(
        "llama",
        vocab_size=arch["vocab"],
        hidden_size=arch["hidden"],
        intermediate_size=arch["ffn"],
        num_hidden_layers=arch["layers"],
        num_attention_heads=arch["heads"],
        num_key_value_heads=arch["kvHeads"],
        head_dim=arch["headDim"],
        max_position_embeddings=arch["context"],
        rms_norm_eps=arch["normEps"],
        rope_parameters={"rope_type": "default", "rope_theta": rotary["theta"]},
        tie_word_embeddings=True,
        bos_token_id=manifest["bosToken"],
        eos_token_id=manifest["eosTokens"][0],
        attn_implementation="sdpa",
    )
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(_state(arch, weights))
    model.config.use_cache = False
    return model.eval()


def _state(arch: dict, weights: Tensors) -> dict[str, torch.Tensor]:
    """Converted weights by the names of a Llama in transformers."""
    found = {name: torch.from_numpy(value) for name, value in weights.items()}
    head = found.get("head.weight", found["embed"])
    state = {"model.embed_tokens.weight": head, "lm_head.weight": head, "model.norm.weight": found["norms"][0]}
    q, kv = arch["heads"] * arch["headDim"], arch["kvHeads"] * arch["headDim"]
    for i in range(arch["layers"]):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        for name, rows in zip("qkv", found[f"{ours}.qkv.weight"].split([q, kv, kv])):
            state[f"{theirs}.self_attn.{name}_proj.weight"] = rows.contiguous()
        for part, name in _PARTS.items():
            state[f"{theirs}.{name}.weight"] = found[f"{ours}.{part}.weight"]
        for part, name in _NORMS.items():
            state[f"{theirs}.{name}.weight"] = found[f"{ours}.{part}"]
    return state


def export_base(folder: Path, out: Path) -> None:
    """Write the base of a folder with its tokenizer, as a checkpoint that all commands read."""
    folder, manifest = Path(folder), read_manifest(folder)
    model = base_of(manifest, read_weights(folder, manifest["kernels"][0]))
    template = manifest["chatTemplate"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / manifest["tokenizer"]),
        chat_template=(folder / template).read_text("utf-8") if template else None,
    )
    for name in ("bos", "eos"):
        number = manifest["bosToken"] if name == "bos" else manifest["eosTokens"][0]
        if number is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(number))
    tokenizer.pad_token = tokenizer.eos_token
    layers = manifest["architecture"]["layers"]
    export(SortedModel(model, (Exit(layers),)), tokenizer, Path(out), torch.float32, manifest["licence"])
