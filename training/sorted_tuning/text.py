"""Properties of a piece of text as a sequence of words or tokens. Must not know models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

LOOP_GRAM, LOOP_TIMES = 4, 4
"""A text loops when one 4-gram occurs more than 4 times."""


def grams(items: Sequence[Hashable], n: int) -> list[tuple]:
    """All n-grams in order."""
    return [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]


def loops(items: Sequence[Hashable]) -> bool:
    """Whether some 4-gram occurs more than 4 times."""
    return max(Counter(grams(items, LOOP_GRAM)).values(), default=0) > LOOP_TIMES


def distinct(items: Sequence[Hashable], n: int = 3) -> float:
    """Share of n-grams that are different ones; 1 where there are none."""
    found = grams(items, n)
    return len(set(found)) / len(found) if found else 1.0


def same_question(question: str) -> str:
    """The words and signs of a question, without case, spaces and ending: equal for questions that count as one."""
    return " ".join(question.lower().split()).rstrip(".?! ")
