"""Questions whose right answers are known: of what the base answers rightly, how much does an exit answer rightly?

An answer is right when it holds one of the words or phrases that are right, as whole words in any case, and none of
those that are wrong. So it measures knowledge and understanding of short questions, not style. An answer with the right
word among others counts, as in exact-match scores of other question sets.
Knows texts. Must not know models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sorted_tuning.errors import TuningError
from sorted_tuning.files import read_json


@dataclass(frozen=True)
class Question:
    """Right and wrong words of an answer to a text; `kind` groups questions."""

    text: str
    kind: str
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()


def read_questions(path: Path) -> list[Question]:
    """The questions of a file, each with its input below it."""
    rows = read_json("questions", path)
    if not isinstance(rows, list) or not rows or not all(_is_question(row) for row in rows):
        raise TuningError(f'questions: {path} must be a list of objects with a string "instruction" and a list "right"')
    texts = ["\n\n".join(filter(None, (row["instruction"], row.get("input")))) for row in rows]
    for n, text in enumerate(texts):
        if text in texts[:n]:
            raise TuningError(f"questions: {path} must ask each question once, asks twice: {text!r}")
    return [
        Question(text, row.get("kind", "all"), tuple(row["right"]), tuple(row.get("wrong", ())))
        for text, row in zip(texts, rows)
    ]


def _is_question(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("instruction"), str) and isinstance(row.get("right"), list)


def is_right(text: str, question: Question) -> bool:
    """Whether the text holds something right and nothing wrong."""
    return _holds(text, question.right) and not _holds(text, question.wrong)


def _holds(text: str, phrases: Sequence[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) for phrase in phrases)


def rightness(
    questions: list[Question], ours: list[str], base: list[str], sure: list[bool] | None = None
) -> dict[str, float]:
    """Share of right answers: of all questions, of those that the base has right (`of_base`), and the latter by kind.

    `of_base` is left out where the base answers nothing (of a kind) rightly. With `sure` (sure_of) also how many the
    base is sure of, and the share of right answers to them (`of_sure`).
    """
    right = [is_right(text, question) for text, question in zip(ours, questions, strict=True)]
    known = [is_right(text, question) for text, question in zip(base, questions, strict=True)]
    found = {"right": _share(right), "of_base": _share([r for r, k in zip(right, known) if k])}
    if sure is not None:
        found |= {"sure": float(sum(sure)), "of_sure": _share([r for r, s in zip(right, sure) if s])}
    for kind in dict.fromkeys(question.kind for question in questions):
        found[kind] = _share([r for r, k, question in zip(right, known, questions) if k and question.kind == kind])
    return {name: share for name, share in found.items() if share is not None}


SURE = 0.8
"""Least share of right draws of a question that the base can do, and not by luck."""


def sure_of(questions: list[Question], draws: list[list[str]]) -> list[bool]:
    """Which questions have a share of SURE right draws or more."""
    rights = ([is_right(text, q) for text in each] for each, q in zip(draws, questions, strict=True))
    return [sum(right) >= SURE * len(right) for right in rights]


def _share(flags: list[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None
