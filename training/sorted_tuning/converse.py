"""Questions and answers from the model itself, a batch of attempts together: each step adds a token to every attempt.

Knows the turns of an attempt. Must not know how a model is stepped (lockstep.py) or files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import count

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sorted_tuning.chat_template import Template
from sorted_tuning.generate import Style, usable_answer, usable_question
from sorted_tuning.lockstep import Lockstep
from sorted_tuning.notes import LessonWindows, Notes
from sorted_tuning.sampling import Draw

CHECK_EVERY = 32
"""Tokens of an answer between two checks for loops. A looping answer is dropped."""


class Conversations:
    """Attempts of one model. `rows`: the number of attempts that a batch begins with.

    dtype: the type of products, if not the model's own. lessons: collects the model's distribution at each position
    of the finished rows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int,
        seed: int,
        style: Style | None = None,
        dtype: torch.dtype | None = None,
        lessons: LessonWindows | None = None,
    ):
        self.dtype, self.lessons = dtype, lessons
        template = Template.of(tokenizer)
        self.model, self.tokenizer, self.rows, self.seed, self.style = model, tokenizer, rows, seed, style or Style()
        self.before, self.after = self._encode(template.before), self._encode(template.after)
        draws = [draw for draw in (self.style.question, self.style.answer) if draw]
        self.room = len(self.before) + len(self.after) + sum(draw.max_tokens for draw in draws)

    def attempts(self, first: int, known: Callable[[str], bool]) -> Iterator[dict | None]:
        """As `generate` asks for them, batch after batch."""
        for n in count(first, self.rows):
            yield from self._batch(n, known)

    def _batch(self, first: int, known: Callable[[str], bool]) -> Iterator[dict | None]:
        begun = [(n, *self.style.first_words(self.seed, n)) for n in range(first, first + self.rows)]
        chance = begun[0][2].getrandbits(62)
        if self.style.question is None:
            # A whole question may be known already, or occur twice in the same batch.
            new = {start: n for n, start, _ in reversed(begun) if not known(start)}
            yield from [None] * (len(begun) - len(new))
            begun = [attempt for attempt in begun if new.get(attempt[1]) == attempt[0]]
            if not begun:
                return
        generator = torch.Generator(self.model.device).manual_seed(chance)
        room = self.room + max(len(self._encode(start)) for _, start, _ in begun)
        notes = self._notes(len(begun), room)
        prefix = self.before[:-1]
        steps = Lockstep(self.model, prefix, len(begun), room, generator, dtype=self.dtype, notes=notes)
        turns = [self._turns(n, start, known) for n, start, _ in begun]
        said = [next(turn) for turn in turns]
        fed = [list(prefix) for _ in turns]
        while turns:
            for ids, (token, _) in zip(fed, said):
                ids.append(token)
            drawn, over = steps.step([token for token, _ in said], [draw for _, draw in said]), []
            for i, turn in enumerate(turns):
                try:
                    said[i] = turn.send(drawn[i])
                except StopIteration as end:
                    over.append(i)
                    if self.lessons is not None and end.value is not None:
                        self.lessons.add(steps.lesson(i, fed[i]))
                    yield end.value
            if over:
                left = steps.leave(over)
                turns, said, fed = ([each[i] for i in left] for each in (turns, said, fed))

    def _notes(self, rows: int, room: int) -> Notes | None:
        if self.lessons is None:
            return None
        return Notes(self.lessons.boundaries, self.lessons.k, rows, room, self.model.config.hidden_size)

    def _turns(self, n: int, start: str, known: Callable[[str], bool]) -> Generator[tuple[int, Draw], int, dict | None]:
        """One attempt: yields its next token and how to draw the one after it, receives that one, returns the row."""
        question = yield from self._question(start)
        if question is None or (self.style.question and known(question)):
            return None
        draw = self.style.answer
        for token in self.after:
            drawn = yield token, draw
        answer = []
        while drawn != self.tokenizer.eos_token_id and len(answer) < draw.max_tokens:
            answer.append(drawn)
            if len(answer) % CHECK_EVERY == 0 and not usable_answer(self._decode(answer)):
                return None
            drawn = yield drawn, draw
        return self.style.row(n, question, self._decode(answer), drawn == self.tokenizer.eos_token_id)

    def _question(self, start: str) -> Generator[tuple[int, Draw], int, str | None]:
        """The part of an attempt that asks; None where the question has no end, is empty or loops."""
        draw = self.style.question
        for token in self.before[-1:] + self._encode(start):
            drawn = yield token, draw or self.style.answer
        if draw is None:
            return start
        rest = []
        while drawn != self.tokenizer.eos_token_id:
            rest.append(drawn)
            if len(rest) == draw.max_tokens:
                return None
            drawn = yield drawn, draw
        return usable_question(start, self._decode(rest))

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)
