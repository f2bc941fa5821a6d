"""A tiny random Llama from a seed, as the files that `sortie convert` reads, and its golden logits.

Big enough to have every mechanism (grouped KV heads, several stages, blocks of one and two layers), small enough to
be committed. Knows Hugging Face files. The logits come from transformers' own Llama.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from sorted_tuning.exits import format_exits, parse_exits
from sorted_tuning.export import export
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.golden import golden, write_golden

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, after three special ones."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[2], pad_token=SPECIAL[2], chat_template=CHAT
    )


def tiny_llama(seed: int, layers: int = 4) -> PreTrainedModel:
    """About 50,000 random fp32 weights, large enough for logits that differ."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
        attn_implementation="sdpa",
    )
    return randomize(AutoModelForCausalLM.from_config(config)).eval()


def randomize(module: torch.nn.Module) -> torch.nn.Module:
    """Norms at 1 would hide a swapped norm: give each its own gains."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "norm" in name:
                value.uniform_(0.5, 1.5)
    return module


def write_tiny(folder: Path, seed: int = 11) -> None:
    """Write `folder`/tiny (the checkpoint and its exit blocks), tiny.json and tiny-blocks.json."""
    folder = Path(folder)
    base = tiny_llama(seed, layers=5)
    plain = SortedModel(base, parse_exits("1,2,5"))
    blocks = SortedModel(base, parse_exits("1+1,2+2,5"))
    with torch.no_grad():
        for name, value in blocks.blocks.named_parameters():
            value.uniform_(0.5, 1.5) if "norm" in name else value.normal_(0, 0.15)
    export(blocks, byte_tokenizer(), folder / "tiny")

    rng = random.Random(seed)
    prompts = [(None, [rng.randrange(3, 259) for _ in range(length)]) for length in (1, 2, 7, 33, 64)]
    for name, model in (("tiny", plain), ("tiny-blocks", blocks)):

        @torch.no_grad()
        def logits(ids: list[int], model: SortedModel = model) -> dict[int, torch.Tensor]:
            hidden = model(torch.tensor([ids]))
            return {e.executed: model.head @ hidden[e.layer][0, -1] for e in model.exits}

        about = {
            "about": "transformers' Llama, fp32, over the checkpoint in tiny/; written by `sorted-tuning golden-tiny`.",
            "model": "tiny",
            "kernel": "fp32",
            "exits": format_exits(model.exits),
        }
        write_golden(folder / f"{name}.json", about, golden(logits, prompts))
