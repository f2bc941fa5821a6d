"""Each architecture of the table, as a tiny random model of transformers' own class: exits, blocks and all commands."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import sub_model
from transformers import AutoConfig, AutoModelForCausalLM

from sorted_tuning.architectures import ARCHITECTURES, check_architecture
from sorted_tuning.calibrate import measure
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.scores import score
from sorted_tuning.exits import parse_exits
from sorted_tuning.export import export, load_sorted
from sorted_tuning.load import load_base
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer
from sorted_tuning.targets import write_targets
from sorted_tuning.tuning.config import TuneConfig
from sorted_tuning.tuning.runs import tuned_model
from sorted_tuning.tuning.tune import tune

SIZES = {
    **{"vocab_size": 260, "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.15},
    **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2, "tie_word_embeddings": True},
}
WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.3, "attention_multiplier": 0.2, "logits_scaling": 2.0}
HYBRID = {"num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 40, "mamba_n_heads": 2}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
CHANGES = {
    "mistral": {"sliding_window": 8, "head_dim": 16},
    "ministral": {**WINDOW, "head_dim": 16},
    "ministral3": {"head_dim": 16, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.5}},
    "qwen3": {"head_dim": 16},
    "smollm3": {"no_rope_layers": [1, 0, 1, 0]},
    "granite": GRANITE,
    "granitemoehybrid": {**GRANITE, **HYBRID, "layer_types": ["full_attention"] * 4, "position_embedding_type": "rope"},
    "gemma3_text": {**WINDOW, "head_dim": 16, "query_pre_attn_scalar": 16, "rope_parameters": GEMMA_ROPE},
}
EXITS = parse_exits("1+2,2,4")
ROOT = Path(__file__).parents[2]


def tiny(kind: str) -> torch.nn.Module:
    torch.manual_seed(5)
    config = AutoConfig.for_model(kind, **SIZES, **CHANGES.get(kind, {}), attn_implementation="sdpa")
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


@pytest.fixture(params=ARCHITECTURES, scope="module")
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def ids():
    return torch.randint(3, 259, (2, 24), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_exits_are_those_of_the_sub_models(kind, ids):
    model = SortedModel(tiny(kind), EXITS)
    for weight in model.blocks.parameters():
        weight.add_(torch.randn_like(weight) * 0.02)
    hidden = model(ids)
    assert torch.allclose(hidden[4] @ model.head.T, model.base(ids).logits, atol=1e-4)
    for exit_ in EXITS:
        logits = sub_model(model, exit_)(ids, use_cache=False).logits
        assert torch.allclose(hidden[exit_.layer] @ model.head.T, logits, atol=1e-4), exit_


def test_a_folder_goes_through_all_commands(kind, files, tmp_path):
    base, tokenizer = tiny(kind), byte_tokenizer()
    folder = tmp_path / "base"
    export(SortedModel(base, parse_exits("4")), tokenizer, folder)
    base = load_base(folder)
    targets, settings = tmp_path / "targets.safetensors", {"length": 16, "k": 8, "batch": 16, "seed": 1}
    write_targets(base, tokenizer, [files / "rows.jsonl"], targets, **settings, precision="fp32", boundaries=(1,))
    config = TuneConfig(
        **{"model": str(folder), "targets": (str(targets),), "batch": 2, "total_tokens": 2 * 32, "eval_tokens": 1024},
        **{"exits": "1+1,3,4", "mode": "blocks", "warmup_tokens": 32, "precision": "fp32"},
    )
    soft = dataclasses.replace(config, mode="soft", exits="1,3,4")
    for settings, moved in ((soft, "base"), (config, "blocks")):
        tune(settings, tmp_path / settings.mode, lambda _: None)
        tuned, _ = tuned_model(tmp_path / settings.mode)
        before = SortedModel(base, tuned.exits).state_dict()
        changed = {name for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
        assert {name.split(".")[0] for name in changed} == {moved}
    export(tuned, tokenizer, tmp_path / "tuned")
    again = load_sorted(tmp_path / "tuned", None)
    documents = [list(range(3, 30)), list(range(40, 90))]
    assert score(tuned, base, documents, "tuned") == score(again, base, documents, "again")
    assert {"layers.0.k_max", "exits.1.layers.0.mlp_out.hessian"} <= measure(again, documents).keys()
    convert(tmp_path / "tuned", tmp_path / "converted")


def convert(tuned: Path, out: Path) -> None:
    """By the converter, where it is built."""
    main = ROOT / "dist" / "src" / "main.js"
    if not main.exists():
        return
    options = [
        "--exits",
        "1,3,4",
        "--exit-blocks",
        tuned / "exit-blocks.safetensors",
        "--kernels",
        "fp32",
        "--out",
        out,
    ]
    done = subprocess.run(["node", main, "convert", tuned, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    exits = json.loads((out / "manifest.json").read_text())["exits"]
    assert [(each["layer"], each["block"] is not None) for each in exits] == [(2, True), (3, False), (4, False)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "architecture must be one of llama, .*, got 'gpt2' in here"),
        ({"model_type": "gemma2"}, "got 'gemma2'"),
        ({"model_type": "granitemoehybrid", "num_local_experts": 8}, "must be dense, got 8 experts in here"),
        ({"model_type": "granitemoehybrid", "num_local_experts": 0, "layer_types": ["mamba"]}, "attention, got mamba"),
    ],
)
def test_other_architectures_are_named(changes, message):
    config = type("Config", (), changes)
    with pytest.raises(TuningError, match=message):
        check_architecture(config, "here")
