"""Writes the golden files of this folder: a tiny random model of each architecture, by transformers' own class.

    python test/golden/architectures/make.py [--check]

A file has the config, the shapes of the weights, and the logits of two prompts in fp32. It also has the header of a
GGUF file that the `gguf` package writes, the origin of its tensors, and the checksum of the whole file. The weights
follow from their names (`values`), and the tests compute them as well. With --check, the script compares shapes and
logits instead.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent))
from golden import values  # noqa: E402

FOLDER = Path(__file__).parent
COMPARED = ("shapes", "prompts")
"""The config and the GGUF header differ between versions of the packages."""
TOP = 8
SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "partial_rotary_factor": 0.5,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0 + i / 16 for i in range(8)],
    "long_factor": [1.0 + i / 2 for i in range(8)],
}
PHI = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": None}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
MINISTRAL = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32.0, "beta_slow": 1.0}
FULL, SLIDING = "full_attention", "sliding_attention"
GEMMA4 = {
    "hidden_size": 48,
    "sliding_window": 12,
    "global_head_dim": 32,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 96,
}
GRANITE = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.3,
    "attention_multiplier": 0.2,
    "logits_scaling": 2.0,
}

MODELS: dict[str, tuple[str, dict, dict]] = {
    # name: class, config, and the test's options
    "llama-linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}, {}),
    "llama-llama3": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 1e4,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
        {},
    ),
    "mistral": ("Mistral", {"sliding_window": 12}, {}),
    "ministral": (
        "Ministral",
        {"sliding_window": 12, "layer_types": ["full_attention"] + ["sliding_attention"] * 3},
        {},
    ),
    "ministral3": ("Ministral3", {"rope_parameters": {**MINISTRAL, "llama_4_scaling_beta": 0.5}}, {}),
    "qwen2": ("Qwen2", {"head_dim": None, "hidden_size": 64, "tie_word_embeddings": True}, {}),
    "qwen2-window": (
        "Qwen2",
        {"head_dim": None, "hidden_size": 64, "use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2},
        {},
    ),
    "qwen3": ("Qwen3", {"rope_parameters": YARN, "tie_word_embeddings": True}, {}),
    "smollm3": ("SmolLM3", {"head_dim": None, "hidden_size": 64}, {}),
    "granite": ("Granite", {"head_dim": None, "hidden_size": 64, **GRANITE}, {}),
    "granite4": (
        "GraniteMoeHybrid",
        {
            "head_dim": None,
            "hidden_size": 64,
            **GRANITE,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 40,
            "layer_types": ["full_attention"] * 4,
            "position_embedding_type": "rope",
            "mamba_n_heads": 2,
            "tie_word_embeddings": True,
        },
        {},
    ),
    "phi3": ("Phi3", {**PHI, "sliding_window": 12, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, {}),
    "phi3-narrow": (
        "Phi3",
        {**PHI, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}},
        {},
    ),
    "phi4-long": ("Phi3", {**PHI, "rope_parameters": LONG, "original_max_position_embeddings": 32}, {"from": 40}),
    "phi4-short": (
        "Phi3",
        {**PHI, "rope_parameters": LONG, "original_max_position_embeddings": 32},
        {"context": 32, "to": 32},
    ),
    "olmo2": ("Olmo2", {"head_dim": None, "hidden_size": 64}, {}),
    "gemma2": (
        "Gemma2",
        {
            "hidden_size": 48,
            "sliding_window": 12,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 0.5,
            "final_logit_softcapping": 2.0,
        },
        {"norm": 0},
    ),
    "gemma3": (
        "Gemma3",
        {
            "num_hidden_layers": 7,
            "hidden_size": 48,
            "sliding_window": 12,
            "query_pre_attn_scalar": 16,
            "rope_parameters": GEMMA_ROPE,
        },
        {"norm": 0},
    ),
    "gemma4": (
        "Gemma4",
        {
            **GEMMA4,
            "num_hidden_layers": 7,
            "num_key_value_heads": 1,
            "layer_types": [SLIDING, FULL, FULL, SLIDING, SLIDING, SLIDING, FULL],
            "num_kv_shared_layers": 3,
            "hidden_size_per_layer_input": 16,
            "use_double_wide_mlp": True,
            "final_logit_softcapping": 2.0,
        },
        {"greedy": 16},
    ),
    "gemma4-dense": (
        "Gemma4",
        {
            **GEMMA4,
            "layer_types": [SLIDING, FULL, SLIDING, FULL],
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
        },
        {"greedy": 16},
    ),
    "gemma4-shared": (
        "Gemma4",
        {
            **GEMMA4,
            "global_head_dim": 16,
            "num_hidden_layers": 6,
            "layer_types": [FULL, SLIDING, SLIDING, SLIDING, FULL, FULL],
            "num_kv_shared_layers": 2,
        },
        {"greedy": 16},
    ),
}


def model_of(kind: str, changes: dict, norm: float) -> torch.nn.Module:
    """The model with the weights of their names; norms are `norm` larger."""
    config_class = getattr(transformers, f"{kind}TextConfig", None) or getattr(transformers, f"{kind}Config")
    sizes = {key: value for key, value in {**SIZES, **changes}.items() if value is not None}
    config = config_class(**sizes, attn_implementation="eager")
    # Gemma 4 has heads of two sizes, and its config then names no size of all.
    config.allow_global_per_layer_attribute_access = True
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, weight in weights_of(model).items():
            offset = norm if "norm" in name or name.endswith("layer_scalar") else 0
            weight.copy_(torch.from_numpy(values(name, tuple(weight.shape)) + np.float32(offset)))
    model.config.architectures = [f"{kind}ForCausalLM"]
    return model


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds: parameters, and the multipliers of Gemma 4's layers."""
    scalars = {name: buffer for name, buffer in model.named_buffers() if name.endswith("layer_scalar")}
    return {**dict(model.named_parameters()), **scalars}


@torch.no_grad()
def prompts_of(model: torch.nn.Module, first: int, last: int, greedy: int) -> list[dict]:
    """Two prompts with the highest logits at some of their positions, and at those of greedy tokens behind them."""
    prompts = []
    for seed, length in ((7, min(21, last)), (8, min(100, last))):
        ids = [int(i) for i in (values(f"prompt {seed}", (length,)) * 128 + 40)]
        for _ in range(greedy):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        positions = sorted({p for p in (0, 1, 11, 12, 20, 31, 40, 63, 98, length - 1) if p < length})
        positions += range(length, length + greedy)
        tops = []
        for position in positions:
            if position < first:
                continue
            top, at = logits[position].topk(TOP)
            tops.append({"at": position, "ids": at.tolist(), "logits": [round(v, 5) for v in top.tolist()]})
        if tops:
            prompts.append({"ids": ids, "positions": tops})
    return prompts


def alternate(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of rotary rows (conversion of LlamaModel)."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


GGUF_ARCH = {
    "Llama": gguf.MODEL_ARCH.LLAMA,
    "Mistral": gguf.MODEL_ARCH.LLAMA,
    "Ministral3": gguf.MODEL_ARCH.MISTRAL3,
    "Qwen2": gguf.MODEL_ARCH.QWEN2,
    "Qwen3": gguf.MODEL_ARCH.QWEN3,
    "SmolLM3": gguf.MODEL_ARCH.SMOLLM3,
    "Granite": gguf.MODEL_ARCH.GRANITE,
    "GraniteMoeHybrid": gguf.MODEL_ARCH.GRANITE,
    "Phi3": gguf.MODEL_ARCH.PHI3,
    "Olmo2": gguf.MODEL_ARCH.OLMO2,
    "Gemma2": gguf.MODEL_ARCH.GEMMA2,
    "Gemma3": gguf.MODEL_ARCH.GEMMA3,
    "Gemma4": gguf.MODEL_ARCH.GEMMA4,
}
ALTERNATES = {"Llama", "Mistral", "Ministral3", "SmolLM3", "Granite", "GraniteMoeHybrid"}
PRE = {
    "Qwen2": "qwen2",
    "Qwen3": "qwen2",
    "SmolLM3": "smaug-bpe",
    "Ministral3": "tekken",
    "Phi3": "gpt-4o",
}


def gguf_of(kind: str, model: torch.nn.Module) -> dict | None:
    """The GGUF file: header, size, checksum, and how each tensor follows from those of the folder."""
    arch = GGUF_ARCH.get(kind)
    c = model.config
    # llama.cpp has no window for Qwen 2.
    if arch is None or getattr(c, "use_sliding_window", False):
        return None
    layers = c.num_hidden_layers
    path = Path(tempfile.mkdtemp()) / "model.gguf"
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    own = list(range(layers)) if kind == "Gemma4" else []
    by_layer = [c.per_layer_config[i] for i in own]
    writer.add_block_count(layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    ffn = getattr(c, "shared_intermediate_size", c.intermediate_size)
    writer.add_feed_forward_length([model.model.layers[i].mlp.intermediate_size for i in own] or ffn)
    writer.add_head_count(c.num_attention_heads)
    heads_kv = c.num_key_value_heads
    same = [heads_kv] * layers if kind == "GraniteMoeHybrid" else heads_kv
    writer.add_head_count_kv([each.num_key_value_heads for each in by_layer] or same)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    if own:
        writer.add_key_length(by_layer[c.layer_types.index(FULL)].head_dim)
        writer.add_key_length_swa(head_dim)
        writer.add_sliding_window_pattern([each == SLIDING for each in c.layer_types])
        writer.add_shared_kv_layers(c.num_kv_shared_layers)
        writer.add_embedding_length_per_layer_input(c.hidden_size_per_layer_input)
        writer.add_rope_freq_base_swa(c.rope_parameters[SLIDING]["rope_theta"])
        if c.final_logit_softcapping:
            writer.add_final_logit_softcapping(c.final_logit_softcapping)
    else:
        writer.add_key_length(head_dim)
    rope = c.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    extra: list[tuple[str, np.ndarray]] = []
    match rope["rope_type"]:
        case "proportional":
            frequencies = model.model.rotary_emb.full_attention_inv_freq.numpy()
            extra.append(("rope_freqs.weight", np.where(frequencies > 0, 1, 1e30).astype(np.float32)))
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            if "mscale_all_dim" in rope:
                writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        case "longrope":
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            factor = c.max_position_embeddings / rope["original_max_position_embeddings"]
            log = np.log(factor) / np.log(rope["original_max_position_embeddings"])
            writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + log)))
            for part in ("long", "short"):
                extra.append((f"rope_factors_{part}.weight", np.float32(rope[f"{part}_factor"])))
        case "llama3":
            plain = 1 / rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
            factors = plain / model.model.rotary_emb.inv_freq.numpy()
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
            extra.append(("rope_freqs.weight", factors.astype(np.float32)))
    if getattr(c, "sliding_window", None) and kind in ("Mistral", "Phi3", "Gemma2", "Gemma3", "Gemma4"):
        writer.add_sliding_window(c.sliding_window)
    if kind == "Gemma2":
        writer.add_attn_logit_softcapping(c.attn_logit_softcapping)
        writer.add_final_logit_softcapping(c.final_logit_softcapping)
    if kind == "Ministral3":
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    if hasattr(c, "embedding_multiplier"):
        writer.add_attention_scale(c.attention_multiplier)
        writer.add_embedding_scale(c.embedding_multiplier)
        writer.add_residual_scale(c.residual_multiplier)
        writer.add_logit_scale(c.logits_scaling)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE.get(kind, "llama-bpe"))
    writer.add_token_list([f"t{i}" for i in range(c.vocab_size)])
    writer.add_token_merges(["t 0"])
    writer.add_token_types([1] * c.vocab_size)

    names = gguf.get_tensor_name_map(arch, layers)
    sources: dict[str, list] = {}

    def add(name: str, stored: str, weight: np.ndarray, **how: int) -> None:
        suffix = name.rsplit(".", 1)[1]
        target = f"{names.get_name(name.rsplit('.', 1)[0])}.{suffix}"
        sources[target] = [stored, how] if how else [stored]
        writer.add_tensor(target, np.ascontiguousarray(weight))

    for name, parameter in weights_of(model).items():
        weight = parameter.detach().numpy()
        part = name.split(".")[-2]
        if name.endswith("layer_scalar"):
            add(f"{name}.weight", name, weight)
        elif kind in ALTERNATES and part in ("q_proj", "k_proj"):
            heads = c.num_attention_heads if part == "q_proj" else heads_kv
            add(name, name, alternate(weight, heads), heads=heads)
        elif kind in ("Gemma2", "Gemma3") and "norm" in name:
            add(name, name, weight + 1, plus=1)
        elif part == "input_linear":
            half = weight.shape[0] // 2
            mlp = name.replace("shared_mlp.input_linear", "mlp.{}")
            add(mlp.format("gate_proj"), name, weight[:half], start=0, count=half)
            add(mlp.format("up_proj"), name, weight[half:], start=half, count=half)
        elif part == "output_linear":
            add(name.replace("shared_mlp.output_linear", "mlp.down_proj"), name, weight)
        else:
            add(name, name, weight)
    for name, weight in extra:
        writer.add_tensor(name, weight)
        sources[name] = ["", {"values": weight.tolist()}]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = path.read_bytes()
    length = gguf.GGUFReader(path).data_offset
    return {
        "header": base64.b64encode(gzip.compress(data[:length], mtime=0)).decode(),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "tensors": short(sources),
    }


def short(table: dict) -> dict:
    """One entry for the tensors of all layers, with {} for the layer, where the layers are alike."""
    texts: dict[str, list[str]] = {}
    for name, value in table.items():
        layer = re.search(r"\.(\d+)\.", name)
        if layer is not None:
            text = json.dumps(value).replace(layer[0], ".{}.")
            texts.setdefault(name.replace(layer[0], ".{}."), []).append(text)
    most = max(map(len, texts.values()))
    found: dict = {}
    for name, value in table.items():
        layer = re.search(r"\.(\d+)\.", name)
        key = name if layer is None else name.replace(layer[0], ".{}.")
        same = texts.get(key, [])
        if len(same) == most and len(set(same)) == 1:
            found[key] = json.loads(same[0])
        else:
            found[name] = value
    return found


def golden(name: str) -> str:
    kind, changes, options = MODELS[name]
    norm = options.get("norm", 1)
    model = model_of(kind, changes, norm)
    prompts = prompts_of(model, options.get("from", 0), options.get("to", 128), options.get("greedy", 0))
    config = json.loads(model.config.to_json_string(use_diff=False))
    for name in ("transformers_version", "allow_global_per_layer_attribute_access"):
        config.pop(name, None)
    about = {
        "about": f"transformers' {kind}ForCausalLM, fp32; written by make.py",
        **({"context": options["context"]} if "context" in options else {}),
        "norm": norm,
    }
    fields = {
        **{key: json.dumps(value) for key, value in about.items()},
        "config": json.dumps(config, sort_keys=True),
        "shapes": json.dumps(short({key: list(value.shape) for key, value in weights_of(model).items()})),
        "gguf": json.dumps(gguf_of(kind, model)),
        "prompts": json.dumps(prompts),
    }
    return "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in fields.items()) + "\n}\n"


def main() -> None:
    check, stale = "--check" in sys.argv, []
    for name in MODELS:
        path, text = FOLDER / f"{name}.json", golden(name)
        if not check:
            path.write_text(text, "utf-8")
        elif any(not equal(json.loads(path.read_text("utf-8"))[key], json.loads(text)[key]) for key in COMPARED):
            stale.append(path.name)
    if stale:
        sys.exit(f"stale: {', '.join(stale)}")


def equal(a: object, b: object) -> bool:
    """Equal but for the rounding of logits, which differs between processors."""
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) < 1e-3
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return a == b


main()
