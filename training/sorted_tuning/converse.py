"""Questions and answers from the model itself, a batch of attempts at once: each step is a token of every one.

Knows the turns of an attempt. Must not know how a model is stepped (lockstep.py) or files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import count

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from sorted_tuning.generate import ANSWER, QUESTION, STARTS, Template, first_words, usable_answer, usable_question
from sorted_tuning.lockstep import Lockstep
from sorted_tuning.sampling import Draw

CHECK_EVERY = 32
"""Tokens of an answer between two looks at whether it loops: such an answer is given up."""


class Conversations:
    """Attempts of one model. `rows`: how many a batch begins with."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, *, rows: int, seed: int):
        template = Template.of(tokenizer)
        self.model, self.tokenizer, self.rows, self.seed = model, tokenizer, rows, seed
        self.before, self.after = self._encode(template.before), self._encode(template.after)
        starts = max(len(self._encode(start)) for start in STARTS)
        self.room = len(self.before) + starts + QUESTION.max_tokens + len(self.after) + ANSWER.max_tokens

    def attempts(self, first: int, known: Callable[[str], bool]) -> Iterator[dict | None]:
        """As `generate` asks for them, batch after batch."""
        for n in count(first, self.rows):
            yield from self._batch(n, known)

    def _batch(self, first: int, known: Callable[[str], bool]) -> Iterator[dict | None]:
        generator = torch.Generator(self.model.device).manual_seed(first_words(self.seed, first)[1].getrandbits(62))
        steps = Lockstep(self.model, self.before[:-1], self.rows, self.room, generator)
        turns = [self._turns(n, known) for n in range(first, first + self.rows)]
        said = [next(turn) for turn in turns]
        while turns:
            drawn, over = steps.step([token for token, _ in said], [draw for _, draw in said]), []
            for i, turn in enumerate(turns):
                try:
                    said[i] = turn.send(drawn[i])
                except StopIteration as end:
                    over.append(i)
                    yield end.value
            if over:
                left = steps.leave(over)
                turns, said = [turns[i] for i in left], [said[i] for i in left]

    def _turns(self, n: int, known: Callable[[str], bool]) -> Generator[tuple[int, Draw], int, dict | None]:
        """One attempt: says which token comes next and how to draw the one after it, is sent that, returns the row."""
        start, _ = first_words(self.seed, n)
        for token in self.before[-1:] + self._encode(start):
            drawn = yield token, QUESTION
        rest = []
        while drawn != self.tokenizer.eos_token_id:
            rest.append(drawn)
            if len(rest) == QUESTION.max_tokens:
                return None
            drawn = yield drawn, QUESTION
        question = usable_question(start, self._decode(rest))
        if question is None or known(question):
            return None
        for token in self.after:
            drawn = yield token, ANSWER
        answer = []
        while drawn != self.tokenizer.eos_token_id and len(answer) < ANSWER.max_tokens:
            answer.append(drawn)
            if len(answer) % CHECK_EVERY == 0 and not usable_answer(self._decode(answer)):
                return None
            drawn = yield drawn, ANSWER
        text, done = self._decode(answer), drawn == self.tokenizer.eos_token_id
        return {"n": n, "q": question, "a": text, "done": done} if usable_answer(text) else None

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)
