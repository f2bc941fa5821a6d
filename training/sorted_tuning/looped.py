"""A looped model in miniature, tuned by sorted fine-tuning: every loop of one block is an exit, and each loop pays.

The task is a walk. A line defines a permutation of letters by pairs, and asks where some steps lead: in

     ae bd ca dc eb fg gf a1 e b2 a c3 b

` b2 a` says that two steps from b end at a. Questions have an order, so that a line goes on by itself. An exit learns
the place that as many steps reach as it has loops, or all steps of a shorter walk. So a loop is a step, and a longer walk
needs more loops. The loss is the mean of the exits' losses (arXiv 2309.08968, equation 3). The gate learns, from fixed
states, whether a loop's answer is right.

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

LETTERS = "abcdefg"
MOST_STEPS = 4
IGNORED = -100
FOLLOWING = 0.2
"""Weight of the next question's loss."""
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPACE = "Ġ"
"""A space, in the characters of byte-level tokenizers."""
PAIRS = [a + b for a in LETTERS for b in (*LETTERS, *map(str, range(1, MOST_STEPS + 1)))]
WORDS = [*PAIRS, *(SPACE + word for word in (*PAIRS, *LETTERS))]
FIRST_WORD = len(SPECIALS) + 256
IDS = {word.replace(SPACE, " "): FIRST_WORD + i for i, word in enumerate(WORDS)}


@dataclass(frozen=True)
class Shape:
    layers: int = 2
    loops: int = 4
    hidden: int = 64
    heads: int = 4
    ffn: int = 128
    vocab: int = FIRST_WORD + len(WORDS)
    context: int = 512
    theta: float = 1e4
    eps: float = 1e-6


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor
    """[R, T], as all others; those have IGNORED where nothing is asked."""
    steps: torch.Tensor
    """Of the walks, at the questions; 0 elsewhere."""
    places: list[torch.Tensor]
    """At the questions, the place after at most 1, 2, ... steps; the last one is the answer."""
    following: torch.Tensor
    """At the answers, the next question."""


def walk(step: dict[str, str], start: str, steps: int) -> str:
    for _ in range(steps):
        start = step[start]
    return start


def line(rng: random.Random, questions: int) -> list[str]:
    """The words of a line; the last ones are questions and answers in turn."""
    step = dict(zip(LETTERS, rng.sample(LETTERS, len(LETTERS)), strict=True))
    words = [f" {letter}{target}" for letter, target in step.items()]
    rng.shuffle(words)
    first = rng.randrange(len(LETTERS) * MOST_STEPS)
    for i in range(first, first + questions):
        start, count = LETTERS[i % len(LETTERS)], i % MOST_STEPS + 1
        words += [f" {start}{count}", f" {walk(step, start, count)}"]
    return words


def batch(rng: random.Random, rows: int, questions: int) -> Batch:
    lines = [line(rng, questions) for _ in range(rows)]
    ids = torch.tensor([[IDS[word] for word in words] for words in lines])
    empty = torch.full_like(ids, IGNORED)
    at = slice(len(LETTERS), None, 2)
    steps = torch.zeros_like(ids)
    steps[:, at] = torch.tensor([[int(word[2]) for word in words[at]] for words in lines])
    places = []
    for most in range(1, MOST_STEPS + 1):
        place = empty.clone()
        for row, words in enumerate(lines):
            step = dict(word.strip() for word in words[: len(LETTERS)])
            asked = [walk(step, word[1], min(most, int(word[2]))) for word in words[at]]
            place[row, at] = torch.tensor([IDS[f" {letter}"] for letter in asked])
        places.append(place)
    following = empty.clone()
    following[:, len(LETTERS) + 1 : -1 : 2] = ids[:, len(LETTERS) + 2 :: 2]
    return Batch(ids, steps, places, following)


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
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
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


def losses(model: Looped, lines: Batch) -> torch.Tensor:
    """The mean loss of all exits: cross entropy of places, gate and next questions."""
    asked, told = lines.steps > 0, lines.following != IGNORED
    total = torch.zeros(())
    states = model(lines.ids)
    for loop, each in enumerate(states):
        logits = model.logits(each[asked])
        right = (logits.argmax(-1) == lines.places[-1][asked]).float()
        gate = model.early_exit_gate(each[asked].detach())[:, 0]
        total = total + F.cross_entropy(logits, lines.places[min(loop, MOST_STEPS - 1)][asked])
        total = total + F.binary_cross_entropy_with_logits(gate, right)
        total = total + FOLLOWING * F.cross_entropy(model.logits(each[told]), lines.following[told])
    return total / len(states)


def tune(model: Looped, steps: int, rows: int, questions: int, rate: float, seed: int, report=print) -> None:
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    ramp = lambda step: min(1, (step + 1) / 50, 2 * (1 - step / steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    started = time.process_time()
    for step in range(1, steps + 1):
        loss = losses(model, batch(rng, rows, questions))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            seconds = time.process_time() - started
            report(f"step {step}, {seconds:.0f} s of processor time, loss {loss.item():.3f}, {accuracy(model, 32)[0]}")


@torch.no_grad()
def accuracy(model: Looped, rows: int, seed: int = 1) -> tuple[list[float], list[list[float]]]:
    """Shares of right answers by loop, and by loop and steps."""
    lines = batch(random.Random(seed), rows, 12)
    whole, parts = [], []
    for states in model(lines.ids):
        right = (model.logits(states).argmax(-1) == lines.places[-1]).float()
        whole.append(round(right[lines.steps > 0].mean().item(), 3))
        parts.append([round(right[lines.steps == count].mean().item(), 3) for count in range(1, MOST_STEPS + 1)])
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
    """Special tokens, bytes in the order of their values, and the words of the task."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    character = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": i, "content": text, **flags, "special": True} for i, text in enumerate(SPECIALS)]
    vocabulary = {text: i for i, text in enumerate(SPECIALS)}
    vocabulary |= {character[byte]: len(SPECIALS) + byte for byte in range(256)}
    vocabulary |= {word: FIRST_WORD + i for i, word in enumerate(WORDS)}
    merges = [[word[0], word[1:]] for word in WORDS]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }
