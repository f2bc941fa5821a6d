"""A looped model in miniature, tuned by sorted fine-tuning: every loop of one block is an exit, and each loop pays.

The task is a walk. A line defines a function over letters by pairs, and asks where some steps lead: in

     ae bd ca dc ed fb a1 e c2 e a3 c

` a3 c` says that three steps from a end at c. One loop has the layers for about one step, so a longer walk needs more
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
LEARNT = 0.95
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPACE = "Ġ"
"""A space, in the characters of byte-level tokenizers."""
PAIRS = [a + b for a in LETTERS for b in (*LETTERS, *map(str, range(1, MOST_STEPS + 1)))]
WORDS = [*PAIRS, *(SPACE + word for word in (*PAIRS, *LETTERS))]
FIRST_WORD = len(SPECIALS) + 256
IDS = {word.replace(SPACE, " "): FIRST_WORD + i for i, word in enumerate(WORDS)}


@dataclass(frozen=True)
class Shape:
    layers: int = 1
    loops: int = 4
    hidden: int = 64
    heads: int = 4
    ffn: int = 128
    vocab: int = FIRST_WORD + len(WORDS)
    context: int = 512
    theta: float = 1e4
    eps: float = 1e-6


def line(rng: random.Random, questions: int, most: int = MOST_STEPS) -> list[str]:
    """The words of a line with walks of at most `most` steps; the last ones are questions and answers in turn."""
    step = {letter: rng.choice(LETTERS) for letter in LETTERS}
    words = [f" {letter}{target}" for letter, target in step.items()]
    rng.shuffle(words)
    for _ in range(questions):
        start, count = rng.choice(LETTERS), rng.randint(1, most)
        end = start
        for _ in range(count):
            end = step[end]
        words += [f" {start}{count}", f" {end}"]
    return words


def batch(
    rng: random.Random, rows: int, questions: int, most: int = MOST_STEPS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens [R, T], the answers at the questions in front of them [R, T], and the steps of these [R, T]."""
    lines = [line(rng, questions, most) for _ in range(rows)]
    ids = torch.tensor([[IDS[word] for word in words] for words in lines])
    answers, steps = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    at = slice(len(LETTERS), None, 2)
    answers[:, at] = ids[:, len(LETTERS) + 1 :: 2]
    steps[:, at] = torch.tensor([[int(word[2]) for word in words[at]] for words in lines])
    return ids, answers, steps


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

    def forward(self, ids: torch.Tensor, loops: int | None = None) -> list[torch.Tensor]:
        """The normed states [R, T, H] of each loop, or of the first `loops`; the head is the embedding."""
        half = self.shape.hidden // self.shape.heads // 2
        angles = torch.arange(ids.shape[1])[:, None] * self.shape.theta ** (-torch.arange(half) / half)
        turn = (angles.cos(), angles.sin())
        x, states = self.embed_tokens(ids), []
        for _ in range(loops or self.shape.loops):
            for layer in self.layers:
                x = layer(x, turn)
            x = self.norm(x)
            states.append(x)
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return F.linear(states, self.embed_tokens.weight)


def losses(
    model: Looped, ids: torch.Tensor, answers: torch.Tensor, loops: int | None = None
) -> tuple[torch.Tensor, float]:
    """The mean loss of the first `loops` exits, cross entropy of answers and gate, and the last one's accuracy."""
    at = answers != IGNORED
    wanted = answers[at]
    states = model(ids, loops)
    total, right = torch.zeros(()), torch.zeros(())
    for each in states:
        logits = model.logits(each[at])
        right = (logits.argmax(-1) == wanted).float()
        gate = model.early_exit_gate(each[at].detach())[:, 0]
        total = total + F.cross_entropy(logits, wanted) + F.binary_cross_entropy_with_logits(gate, right)
    return total / len(states), right.mean().item()


def tune(model: Looped, steps: int, rows: int, questions: int, rate: float, seed: int, report=print) -> None:
    """Walks begin with one step, and loops with one. Both grow once the last loop is right at LEARNT of the answers."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    ramp = lambda step: min(1, (step + 1) / 50, 5 * (1 - step / steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    started = time.monotonic()
    most, recent = 1, 0.0
    for step in range(1, steps + 1):
        ids, answers, _ = batch(rng, rows, questions, min(most, MOST_STEPS))
        loss, right = losses(model, ids, answers, min(most, model.shape.loops))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent = 0.9 * recent + 0.1 * right
        if recent > LEARNT and most < max(MOST_STEPS, model.shape.loops):
            report(f"step {step}, {time.monotonic() - started:.0f} s: walks of {most} steps are learnt")
            most, recent = most + 1, 0.0
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
