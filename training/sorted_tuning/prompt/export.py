"""Write a base with a prompt exit as a checkpoint of SwiftKV's class, which `sortie convert` reads.

Beside the base's tensors, which stay as they are, the file holds `model.norm_swiftkv.weight` and for each deeper layer
`q_proj_swiftkv`, and `k_proj_swiftkv` and `v_proj_swiftkv` where the layer leads its group. With `swiftkv_answers`
false, a field of `sortie convert` alone, the exit makes the keys and values of prompts, and has no `q_proj_swiftkv`.
Knows names and dtypes. Must not know training.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from sorted_tuning.errors import TuningError
from sorted_tuning.export import export
from sorted_tuning.model import SortedModel
from sorted_tuning.exits import Exit
from sorted_tuning.prompt.model import CLASSES, PromptExit

WEIGHTS = "model.safetensors"


def prompt_tensors(prompt: PromptExit) -> dict[str, torch.Tensor]:
    """What a prompt exit adds to a checkpoint, by its names there."""
    found = {"model.norm_swiftkv.weight": prompt.norm.weight.detach().contiguous()}
    for i, own in enumerate(prompt.layers, prompt.exit):
        for name, value in own.named_parameters():
            part, kind = name.split(".")
            found[f"model.layers.{i}.self_attn.{part}_swiftkv.{kind}"] = value.detach().contiguous()
    return found


def export_prompt(
    prompt: PromptExit, tokenizer: PreTrainedTokenizerBase, folder: Path, licence: str | None = None
) -> None:
    """Write config.json, model.safetensors and the tokenizer; weights keep the base's dtype."""
    base, folder = prompt.base, Path(folder)
    export(SortedModel(base, (Exit(base.config.num_hidden_layers),)), tokenizer, folder, base.dtype, licence)
    own = {name: value.to(base.dtype) for name, value in prompt_tensors(prompt).items()}
    save_file(load_file(folder / WEIGHTS) | own, folder / WEIGHTS, metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    kind = base.config.model_type
    config |= {
        "architectures": [f"{CLASSES[kind]}SwiftKVForCausalLM"],
        "model_type": f"{kind}_swiftkv",
        "swiftkv": True,
        "num_key_value_layers": prompt.exit,
        "key_value_group_size": prompt.group,
        **({"swiftkv_answers": False} if prompt.keys_only else {}),
    }
    path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def read_prompt(prompt: PromptExit, folder: Path) -> None:
    """Load what a prompt exit adds from a folder that `export_prompt` wrote, in place."""
    try:
        with safe_open(Path(folder) / WEIGHTS, "pt") as file:
            for name, own in prompt_tensors(prompt).items():
                own.copy_(file.get_tensor(name))
    except (SafetensorError, FileNotFoundError, RuntimeError) as error:
        raise TuningError(f"model: {folder} must hold this prompt exit: {error}") from error
