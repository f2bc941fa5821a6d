"""Read a base model and its tokenizer from a GGUF file or a Hugging Face folder.

Knows file formats (through transformers). Must not know exits or training.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sorted_tuning.architectures import check_architecture
from sorted_tuning.errors import TuningError


def _located(source: Path) -> tuple[str, dict[str, str]]:
    """Arguments for from_pretrained: the folder, and the file's name where the source is a GGUF file."""
    source = Path(source)
    if source.is_file() and source.suffix == ".gguf":
        return str(source.parent), {"gguf_file": source.name}
    if source.is_dir() and (source / "config.json").is_file():
        return str(source), {}
    raise TuningError(f"model: must be a .gguf file or a folder with config.json, got {source}")


def load_base(source: Path) -> PreTrainedModel:
    """Load the causal LM in fp32 (GGUF blocks are dequantized). An architecture outside of the table is an error."""
    where, kind = _located(source)
    check_architecture(AutoConfig.from_pretrained(where, **kind), source)
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, attn_implementation="sdpa", **kind)
    # A dequantized model is a plain one: keep the origin's quantization out of the export.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # transformers 5.2x marks the model itself, too, and then refuses to save it.
    model.hf_quantizer = None
    model.config.use_cache = False
    return model.eval()


def load_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer and its chat template from the same place as the model."""
    where, kind = _located(source)
    tokenizer = AutoTokenizer.from_pretrained(where, **kind)
    if kind and _gguf_text(Path(source), "tokenizer.ggml.pre") == "smollm":
        # transformers drops the digit splitting of this pre-tokenizer when it reads a GGUF file.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    return tokenizer


def licence_of(source: Path) -> str | None:
    """The licence that the file, or the model card of the folder, names."""
    where, kind = _located(source)
    if kind:
        return _gguf_text(Path(source), "general.license")
    card = Path(where) / "README.md"
    named = re.search(r"^license:\s*(\S+)", card.read_text("utf-8"), re.MULTILINE) if card.is_file() else None
    return named[1] if named else None


def _gguf_text(path: Path, field: str) -> str | None:
    from gguf import GGUFReader

    found = GGUFReader(path).fields.get(field)
    return found.contents() if found else None
