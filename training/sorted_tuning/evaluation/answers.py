"""Greedy answers of each exit to instructions, and their measures.

Knows generation and the base's likelihood of an answer. Must not know judges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sorted_tuning.chat_template import prompt_text
from sorted_tuning.text import distinct, loops

LIMIT = 256
"""Most tokens of an answer."""


@dataclass
class Answer:
    """One greedy answer; ids hold no end token."""

    prompt: list[int]
    ids: list[int]
    ended: bool

    @property
    def looping(self) -> bool:
        """A 4-gram of tokens occurs more than 4 times."""
        return loops(self.ids)


@torch.no_grad()
def answer(
    lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, instructions: list[str], batch: int, name: str
) -> list[Answer]:
    """Greedy answers of at most LIMIT tokens, in the order of the instructions."""
    prompts = [tokenizer.encode(prompt_text(tokenizer, text), add_special_tokens=False) for text in instructions]
    end, answers = tokenizer.eos_token_id, []
    for start in tqdm(range(0, len(prompts), batch), desc=name, unit="batch", mininterval=30):
        part = prompts[start : start + batch]
        width = max(map(len, part))
        ids = torch.tensor([[end] * (width - len(p)) + p for p in part])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in part])
        out = lm.generate(
            ids, attention_mask=mask, max_new_tokens=LIMIT, do_sample=False, eos_token_id=end, pad_token_id=end
        )
        for prompt, row in zip(part, out[:, width:].tolist()):
            ended = end in row
            answers.append(Answer(prompt, row[: row.index(end)] if ended else row, ended))
    return answers


@torch.no_grad()
def qualities(answers: list[Answer], base: PreTrainedModel) -> dict[str, float]:
    """Mean NLL per token under the base at full depth, share ended, mean distinct-3, share looping, share empty."""
    nll, tokens = 0.0, 0
    for a in answers:
        if a.ids:
            ids = torch.tensor([a.prompt + a.ids])
            logits = base(ids).logits[0, len(a.prompt) - 1 : -1].float()
            nll += float(torch.nn.functional.cross_entropy(logits, ids[0, len(a.prompt) :], reduction="sum"))
            tokens += len(a.ids)
    count = len(answers)
    return {
        "nll_under_base": nll / max(1, tokens),
        "ended": sum(a.ended for a in answers) / count,
        "distinct_3": sum(distinct(a.ids) for a in answers) / count,
        "loops": sum(a.looping for a in answers) / count,
        "empty": sum(not a.ids for a in answers) / count,
    }
