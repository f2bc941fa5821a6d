"""Long prompts out of rows that the base wrote: passages, and a request whose answer one of them holds.

The passages are answers of the base; the taught answer is a sentence of a passage, or a fact that stands between them.
Knows rows and words. Must not know models.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from sorted_tuning.data import HELD_OUT, read_rows
from sorted_tuning.errors import TuningError

NAMES = ("Anna", "Boris", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Irene", "Jonas", "Karin", "Liam")
PLACES = ("Lisbon", "Oslo", "Cairo", "Lima", "Kyoto", "Dublin", "Nairobi", "Vienna", "Toronto", "Madrid", "Seoul")
THINGS = ("a lamp", "a map", "a violin", "a bicycle", "two books", "a red coat", "a clock", "three apples", "a kite")
FACTS = (
    ("{name} lives in {place}.", "Where does {name} live?", "{name} lives in {place}."),
    ("{name} bought {thing} in {place}.", "What did {name} buy?", "{name} bought {thing}."),
    ("{name} bought {thing} in {place}.", "Where did {name} go shopping?", "{name} went shopping in {place}."),
    ("The room of {name} has the number {number}.", "What is the number of {name}'s room?", "{number}."),
    ("{name} was born in {year}.", "When was {name} born?", "{name} was born in {year}."),
    ("{name} paid {number} dollars for {thing}.", "How much did {name} pay?", "{name} paid {number} dollars."),
)
"""A sentence between the passages, a question about it, and the answer."""

ASKED = (
    "Read the text and answer the question.\n\n{text}\n\nQuestion: {question}",
    "{text}\n\n{question}",
    "Text:\n{text}\n\nAnswer from the text: {question}",
    "{question}\n\n{text}",
    "Use the following passages.\n\n{text}\n\n{question} Answer in one short sentence.",
)


def write_passages(data: list[Path], out: Path, rows: int, words: int, seed: int) -> int:
    """Write rows {"q", "a", "done"} whose passages have at most `words` words; returns their number."""
    texts = [row for path in data for row in read_rows(path)[HELD_OUT:] if 25 <= len(row.answer.split()) <= words]
    if not texts:
        raise TuningError(f"data: must hold answers of 25 to {words} words, found none")
    rng = random.Random(seed)
    with Path(out).open("w", encoding="utf-8") as file:
        for number in range(rows):
            question, answer = _row(rng, texts, words)
            file.write(json.dumps({"n": number, "q": question, "a": answer, "done": True}) + "\n")
    return rows


def _row(rng: random.Random, texts: list, words: int) -> tuple[str, str]:
    """A prompt and its answer."""
    limit, chosen = rng.randint(40, words), []
    while True:
        row = rng.choice(texts)
        if chosen and sum(len(each.answer.split()) for each in (*chosen, row)) > limit:
            break
        chosen.append(row)
    parts = [row.answer.strip() for row in chosen]
    kind = rng.random()
    if kind < 0.5:
        question, answer = _fact(rng, parts)
    elif kind < 0.8:
        question, answer = _sentence(rng, parts)
    else:
        row = rng.choice(chosen)
        question, answer = row.question.strip(), row.answer.strip()
    return rng.choice(ASKED).format(text="\n\n".join(parts), question=question), answer


def _fact(rng: random.Random, parts: list[str]) -> tuple[str, str]:
    """Puts one to three facts among the parts, and asks for one of them."""
    asked: tuple[str, str] = ("", "")
    for name in rng.sample(NAMES, rng.randint(1, 3)):
        told, question, answer = rng.choice(FACTS)
        words = {
            "name": name,
            "place": rng.choice(PLACES),
            "thing": rng.choice(THINGS),
            "number": rng.randint(2, 999),
            "year": rng.randint(1850, 2020),
        }
        at = rng.randrange(len(parts) + 1)
        parts.insert(at, told.format(**words))
        asked = question.format(**words), answer.format(**words)
    return asked


def _sentence(rng: random.Random, parts: list[str]) -> tuple[str, str]:
    """Asks for the sentence of a part that begins with some words."""
    sentences = [each for part in parts for each in re.split(r"(?<=[.!?])\s+", part) if 6 <= len(each.split()) <= 40]
    if not sentences:
        return "What is the first sentence of the text?", re.split(r"(?<=[.!?])\s+", parts[0])[0]
    sentence = rng.choice(sentences)
    begin = " ".join(sentence.split()[:3])
    return f'Which sentence begins with "{begin}"?', sentence
