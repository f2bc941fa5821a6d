"""Self-generated instruction data, Magpie style (arXiv 2406.08464): the model writes the question, then the answer.

The chat template up to where the user's words begin is the prompt of the question. The sampled question is put into
the template and answered. Resumable: rows are appended, each with its attempt number `n`, and a new start continues
after the highest. Knows styles, filters and the file. Must not know the sampler: a server (ask_server.py), or the model
itself with many rows together (converse.py).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sorted_tuning.errors import TuningError
from sorted_tuning.first_words import FirstWords
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.sampling import Draw
from sorted_tuning.text import loops, same_question

QUESTION = Draw(max_tokens=120, temperature=1.0, top_k=64, min_p=0.02)
ANSWER = Draw(max_tokens=320, temperature=0.7, top_k=50, min_p=0.02)

GIVE_UP = 20_000
"""Failed attempts in succession after which `generate` stops: questions are used up, or the model has no answers."""

Attempts = Callable[[int, Callable[[str], bool]], Iterator[dict | None]]
"""From the first attempt's number and whether a question is known already: rows without end, None for a failed one."""


@dataclass(frozen=True)
class Style:
    """Which conversations: how questions begin, how both are drawn, whether answers must end by themselves.

    question: None where the first words are the whole question.
    """

    starts: FirstWords = FirstWords()
    question: Draw | None = QUESTION
    answer: Draw = ANSWER
    ended: bool = False

    def first_words(self, seed: int, n: int) -> tuple[str, random.Random]:
        """How attempt n's question begins, and the attempt's own source of chance."""
        rng = random.Random(seed * 1_000_003 + n)
        return self.starts.draw(rng), rng

    def row(self, n: int, question: str, answer: str, done: bool) -> dict | None:
        """The row of attempt n; None if its answer is empty, loops, or lacks a required end."""
        usable = usable_answer(answer) and (done or not self.ended)
        return {"n": n, "q": question, "a": answer, "done": done} if usable else None


def usable_question(start: str, rest: str) -> str | None:
    """The whole question, from its first words and the sampled rest; None if it is empty or loops."""
    question = (start + rest).strip()
    return None if not rest.strip() or len(question) < 8 or loops(question.split()) else question


def usable_answer(answer: str) -> bool:
    """Whether an answer says something and doesn't loop."""
    return len(answer.strip()) >= 2 and not loops(answer.split())


def generate(attempts: Attempts, out: Path, rows: int, never: Collection[str] = ()) -> int:
    """Append rows to `out` until it holds `rows` of them; returns how many are new. `never`: questions of no row.

    A TuningError if attempts no longer make rows; the finished rows stay.
    """
    out = Path(out)
    old = read_whole_lines(out)
    seen = {same_question(row["q"]) for row in old} | {same_question(question) for question in never}
    first = 1 + max((row.get("n", 0) for row in old), default=0)
    written = failed = 0
    with out.open("a", encoding="utf-8") as file, tqdm(total=rows, initial=len(old), unit="row", mininterval=10) as bar:
        found = attempts(first, lambda question: same_question(question) in seen)
        while len(old) + written < rows:
            row = next(found)
            if row is None or same_question(row["q"]) in seen:
                failed += 1
                if failed == GIVE_UP:
                    raise TuningError(
                        f"rows: {rows} must be made, got {len(old) + written}, and none by the last {GIVE_UP} attempts"
                    )
                continue
            failed = 0
            seen.add(same_question(row["q"]))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            written += 1
            bar.update()
        found.close()
    return written
