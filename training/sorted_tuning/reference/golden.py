"""Golden files: for five prompts the token ids and the eight highest logits of the last position at every exit.

Knows prompts and the golden files' shape. The engine's tests read these files alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer

from sorted_tuning.reference.converted import read_manifest, read_weights
from sorted_tuning.reference.plain import PlainModel

TOP = 8

PROMPTS = (
    "The capital of France is",
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWrite a haiku about the sea at night.<|im_end|>\n<|im_start|>assistant\nThe waves",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "In 1969, two astronauts walked on the Moon. Naïve café owners — 东京, Ελλάδα 🚀 — watched it on",
)
"""One plain, one chat, one mid-answer, one of code, one with digits, accents, other scripts and an emoji."""

Logits = Callable[[list[int]], dict[int, torch.Tensor]]


def golden(logits: Logits, prompts: list[tuple[str | None, list[int]]]) -> list[dict]:
    """One entry per prompt: text (None for raw ids), ids, and per exit the top ids and logits."""
    entries = []
    for text, ids in prompts:
        exits = {}
        for layer, row in logits(ids).items():
            values, top = row.topk(TOP)
            exits[str(layer)] = {"ids": top.tolist(), "logits": [round(v, 5) for v in values.tolist()]}
        entries.append({"text": text, "ids": ids, "exits": exits})
    return entries


def write_golden(path: Path, about: dict, entries: list[dict]) -> None:
    """Write one golden file, a prompt a line so that a diff is readable."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps(about, indent=2, ensure_ascii=False)[:-2]
    lines = ",\n".join("    " + json.dumps(entry, ensure_ascii=False) for entry in entries)
    path.write_text(f'{head},\n  "prompts": [\n{lines}\n  ]\n}}\n', "utf-8")


def golden_of_folder(folder: Path, kernel: str, out: Path) -> None:
    """The golden file of a converted model folder: bound by checksum to the very weights it was computed from."""
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.from_file(str(Path(folder) / manifest["tokenizer"]))
    prompts = [(text, tokenizer.encode(text, add_special_tokens=False).ids) for text in PROMPTS]
    weights = {f["path"]: f["sha256"] for f in manifest["files"] if f["path"].startswith("weights-")}
    about = {
        "about": "Plain PyTorch, fp32, over the folder's dequantized weights; written by `sorted-tuning golden`.",
        "model": manifest["name"],
        "kernel": kernel,
        "weights": weights,
    }
    write_golden(out, about, golden(PlainModel(manifest, read_weights(folder, kernel)).logits, prompts))
