"""Pairwise score against the base's full depth by a model that knows nothing of ours.

    score = (W - L) / N        W: answers whose NLL per token under the judge is lower by more than a margin

A looping or empty answer loses against one that is neither. The score measures how likely an unrelated small language
model finds the text after the instruction: fluency and being on topic, not truth.
Knows answers as text and the judge. Must not know exits.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from sorted_tuning.evaluation.answers import Answer
from sorted_tuning.load import located

MARGIN = 0.1
"""Nats per token that count as a tie."""


class Judge:
    """A causal LM from a GGUF file or a folder."""

    def __init__(self, source: Path):
        where, kind = located(source, "judge")
        self.tokenizer = AutoTokenizer.from_pretrained(where, **kind)
        self.model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **kind).eval()
        self._known: dict[tuple[str, str], float] = {}

    def nll(self, instruction: str, text: str) -> float:
        """Nats per token of `text` after the instruction. The base's answers are asked for at every exit."""
        key = (instruction, text)
        if key not in self._known:
            self._known[key] = self._nll(instruction, text)
        return self._known[key]

    @torch.no_grad()
    def _nll(self, instruction: str, text: str) -> float:
        before = self.tokenizer.encode(f"Instruction:\n{instruction}\n\nResponse:\n")
        after = self.tokenizer.encode(text, add_special_tokens=False)
        ids = torch.tensor([before + after])
        # Logits of the answer alone: a vocabulary of 262,144 costs as much as the layers.
        logits = self.model(ids, logits_to_keep=len(after) + 1).logits[0, :-1].float()
        return float(torch.nn.functional.cross_entropy(logits, ids[0, len(before) :]))


def _spoilt(answer: Answer) -> bool:
    """Whether the answer loses against any other."""
    return not answer.ids or answer.looping


def verdict(ours: Answer, theirs: Answer, our_nll: float, their_nll: float) -> int:
    """+1 win, 0 tie, -1 loss of ours."""
    bad, worse = _spoilt(ours), _spoilt(theirs)
    if bad or worse:
        return int(worse) - int(bad)
    difference = their_nll - our_nll
    return 0 if abs(difference) <= MARGIN else (1 if difference > 0 else -1)


def pairwise(
    judge: Judge, tokenizer, instructions: list[str], ours: list[Answer], theirs: list[Answer], name: str = "judge"
) -> float:
    """(W - L) / N over the instructions; `name` is for the progress bar."""
    total = 0
    pairs = list(zip(instructions, ours, theirs))
    for text, a, b in tqdm(pairs, desc=name, unit="pair", mininterval=10):
        # Half of a small model's answers loop: the judge need not read them.
        read = not _spoilt(a) and not _spoilt(b) and a.ids != b.ids
        a_nll, b_nll = (judge.nll(text, tokenizer.decode(x.ids)) if read else 0.0 for x in (a, b))
        total += verdict(a, b, a_nll, b_nll)
    return total / len(instructions)
