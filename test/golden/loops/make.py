"""Writes the golden files of this folder: tiny random looped models by the public modeling file of Ouro.

    python test/golden/loops/make.py MODELING [--check]

MODELING is a folder with modeling_ouro.py and configuration_ouro.py of github.com/LoopedLMs/ouro_rl at commit COMMIT.
They run with transformers 4.57. A golden file has the config, the shapes of the weights, and for two prompts the highest
logits and the gate's value of each loop in fp32. The weights follow from their names, as in ../architectures. With
--check, the script compares instead.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from golden import difference, values  # noqa: E402

FOLDER = Path(__file__).parent
COMMIT = "531187ba2862d53c4cd9b2fe74fa5970d6c4e3f6"
TOP = 8
SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "rope_theta": 1e4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
MODELS = {
    "ouro-1": {"num_hidden_layers": 3, "total_ut_steps": 1, "tie_word_embeddings": True},
    "ouro-2": {"num_hidden_layers": 2, "total_ut_steps": 2, "tie_word_embeddings": False},
    "ouro-4": {"num_hidden_layers": 2, "total_ut_steps": 4, "tie_word_embeddings": False},
    "ouro-4-tied": {"num_hidden_layers": 1, "total_ut_steps": 4, "tie_word_embeddings": True, "num_key_value_heads": 2},
}


def model_of(modeling, configuration, changes: dict) -> torch.nn.Module:
    config = configuration.OuroConfig(**{**SIZES, **changes}, attn_implementation="eager")
    model = modeling.OuroForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            offset = 1 if "norm" in name else 0
            weight.copy_(torch.from_numpy(values(name, tuple(weight.shape)) + np.float32(offset)))
    model.config.architectures = ["OuroForCausalLM"]
    return model


@torch.no_grad()
def prompts_of(model: torch.nn.Module) -> list[dict]:
    """Two prompts with the highest logits and the gate of each loop at some positions."""
    prompts = []
    for seed, length in ((7, 21), (8, 100)):
        ids = [int(i) for i in (values(f"prompt {seed}", (length,)) * 128 + 40)]
        tensor = torch.tensor([ids])
        _, states, gates = model.model(tensor, use_cache=False)
        logits = [model.lm_head(state)[0] for state in states]
        assert torch.equal(logits[-1], model(tensor, use_cache=False).logits[0])
        positions = sorted({p for p in (0, 1, 12, 20, 31, 63, length - 1) if p < length})
        tops = []
        for position in positions:
            loops = []
            for loop, gate in zip(logits, gates):
                top, at = loop[position].topk(TOP)
                rounded = [round(v, 5) for v in (*top.tolist(), gate[0, position, 0].item())]
                loops.append({"ids": at.tolist(), "logits": rounded[:TOP], "gate": rounded[TOP]})
            tops.append({"at": position, "loops": loops})
        prompts.append({"ids": ids, "positions": tops})
    return prompts


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(folder.parent))
    configuration = importlib.import_module(f"{folder.name}.configuration_ouro")
    modeling = importlib.import_module(f"{folder.name}.modeling_ouro")
    for name, changes in MODELS.items():
        model = model_of(modeling, configuration, changes)
        shapes = {key: list(weight.shape) for key, weight in model.named_parameters()}
        golden = {
            "about": f"modeling_ouro.py of LoopedLMs/ouro_rl at {COMMIT}, fp32; written by make.py",
            "norm": 1,
            "config": {**model.config.to_diff_dict(), "tie_word_embeddings": changes["tie_word_embeddings"]},
            "shapes": shapes,
            "gguf": None,
            "prompts": prompts_of(model),
        }
        file = FOLDER / f"{name}.json"
        if "--check" in sys.argv:
            known = json.loads(file.read_text())
            print(name, difference(known["prompts"], golden["prompts"]))
        else:
            file.write_text(json.dumps(golden) + "\n")


main()
