"""A looped model in miniature, tuned by sorted fine-tuning: every loop of one block is an exit, and each loop pays.

The task is a walk. A line defines a function over letters by pairs, and asks where k steps lead: in

    aebdcadcedfb:a1ec2ea3cd1c

`a3c` says that three steps from a end at c. One loop has the layers for about one step, so a longer walk needs more
loops. The loss is the mean of the exits' losses (arXiv 2309.08968, equation 3) on the answers. The gate learns, from
fixed states, whether a loop's answer is right.

The model has the formulas and the names of Ouro: norms around attention and MLP, and one norm that ends every loop.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

LETTERS = "abcdef"
MOST_STEPS = 4
IGNORED = -100
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@dataclass(frozen=True)
class Shape:
    layers: int = 2
    loops: int = 4
    hidden: int = 64
    heads: int = 4
    ffn: int = 128
    vocab: int = len(SPECIALS) + 256
    context: int = 512
    theta: float = 1e4
    eps: float = 1e-6


def line(rng: random.Random, questions: int, most: int = MOST_STEPS) -> tuple[str, list[int]]:
    """A line of the task with walks of at most `most` steps, and the places of its answers."""
    step = {letter: rng.choice(LETTERS) for letter in LETTERS}
    pairs = [f"{letter}{target}" for letter, target in step.items()]
    rng.shuffle(pairs)
    text, places = "".join(pairs) + ":", []
    for _ in range(questions):
        start, count = rng.choice(LETTERS), rng.randint(1, most)
        end = start
        for _ in range(count):
            end = step[end]
        text += f"{start}{count}{end}"
        places.append(len(text) - 1)
    return text, places


def batch(
    rng: random.Random, rows: int, questions: int, most: int = MOST_STEPS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens [R, T], the answers at the places in front of them [R, T], and their steps [R, T]."""
    ids, answers, steps = [], [], []
    for _ in range(rows):
        text, places = line(rng, questions, most)
        tokens = [len(SPECIALS) + byte for byte in text.encode()]
        wanted, counts = [IGNORED] * len(tokens), [0] * len(tokens)
        for place in places:
            wanted[place - 1], counts[place - 1] = tokens[place], int(text[place - 1])
        ids.append(tokens), answers.append(wanted), steps.append(counts)
    return torch.tensor(ids), torch.tensor(answers), torch.tensor(steps)


class Norm(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(shape.hidden)), shape.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        h = shape.hidden
        self.heads = shape.heads
        self.self_attn = nn.ModuleDict({f"{part}_proj": nn.Linear(h, h, bias=False) for part in "qkvo"})
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(h, shape.ffn, bias=False),
                "up_proj": nn.Linear(h, shape.ffn, bias=False),
                "down_proj": nn.Linear(shape.ffn, h, bias=False),
            }
        )
        self.input_layernorm, self.input_layernorm_2 = Norm(shape), Norm(shape)
        self.post_attention_layernorm, self.post_attention_layernorm_2 = Norm(shape), Norm(shape)

    def forward(self, x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        rows, length, width = x.shape
        split = lambda y: y.view(rows, length, self.heads, -1).transpose(1, 2)  # noqa: E731
        y = self.input_layernorm(x)
        q, k, v = (split(self.self_attn[f"{part}_proj"](y)) for part in "qkv")
        y = F.scaled_dot_product_attention(rotated(q, turn), rotated(k, turn), v, is_causal=True)
        x = x + self.input_layernorm_2(self.self_attn["o_proj"](y.transpose(1, 2).reshape(rows, length, width)))
        y = self.post_attention_layernorm(x)
        y = self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y))
        return x + self.post_attention_layernorm_2(y)


def rotated(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Looped(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        nn.init.normal_(self.embed_tokens.weight, std=0.1)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)
        self.early_exit_gate = nn.Linear(shape.hidden, 1)

    def forward(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """The normed states [R, T, H] of each loop; the head is the embedding."""
        half = self.shape.hidden // self.shape.heads // 2
        angles = torch.arange(ids.shape[1])[:, None] * self.shape.theta ** (-torch.arange(half) / half)
        turn = (angles.cos(), angles.sin())
        x, states = self.embed_tokens(ids), []
        for _ in range(self.shape.loops):
            for layer in self.layers:
                x = layer(x, turn)
            x = self.norm(x)
            states.append(x)
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return F.linear(states, self.embed_tokens.weight)


def losses(model: Looped, ids: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """The mean over the exits of the cross entropy of the answers, and that of the gate."""
    at = answers != IGNORED
    wanted = answers[at]
    total = torch.zeros(())
    for states in model(ids):
        logits = model.logits(states[at])
        right = (logits.argmax(-1) == wanted).float()
        gate = model.early_exit_gate(states[at].detach())[:, 0]
        total = total + F.cross_entropy(logits, wanted) + F.binary_cross_entropy_with_logits(gate, right)
    return total / model.shape.loops


def tune(model: Looped, steps: int, rows: int, questions: int, rate: float, seed: int, report=print) -> None:
    """Walks begin with one step and grow: each further step has to be found from the last."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    started = time.monotonic()
    for step in range(1, steps + 1):
        most = min(MOST_STEPS, 1 + int(step / steps * 6))
        loss = losses(model, *batch(rng, rows, questions, most)[:2])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            report(f"step {step}, {time.monotonic() - started:.0f} s, loss {loss.item():.3f}, {accuracy(model, 64)[0]}")


@torch.no_grad()
def accuracy(model: Looped, rows: int, seed: int = 1) -> tuple[list[float], list[list[float]]]:
    """Shares of right answers by loop, and by loop and steps."""
    ids, answers, steps = batch(random.Random(seed), rows, 16)
    whole, parts = [], []
    for states in model(ids):
        right = (model.logits(states).argmax(-1) == answers).float()
        whole.append(round(right[answers != IGNORED].mean().item(), 3))
        parts.append([round(right[steps == count].mean().item(), 3) for count in range(1, MOST_STEPS + 1)])
    return whole, parts


def export(model: Looped, out: Path) -> None:
    """Writes a Hugging Face folder in the form of Ouro's."""
    out.mkdir(parents=True, exist_ok=True)
    shape = asdict(model.shape)
    config = {
        "architectures": ["OuroForCausalLM"],
        "model_type": "ouro",
        "num_hidden_layers": shape["layers"],
        "total_ut_steps": shape["loops"],
        "hidden_size": shape["hidden"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["heads"],
        "intermediate_size": shape["ffn"],
        "vocab_size": shape["vocab"],
        "max_position_embeddings": shape["context"],
        "rope_theta": shape["theta"],
        "rms_norm_eps": shape["eps"],
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer()) + "\n")
    weights = {f"model.{name}": weight.data.contiguous() for name, weight in model.named_parameters()}
    save_file(weights, out / "model.safetensors")


def tokenizer() -> dict:
    """Bytes, in the order of their values, behind the special tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    character = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": i, "content": text, **flags, "special": True} for i, text in enumerate(SPECIALS)]
    vocabulary = {text: i for i, text in enumerate(SPECIALS)}
    vocabulary |= {character[byte]: len(SPECIALS) + byte for byte in range(256)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
