"""How self-generated questions begin, so that a small model's questions don't all begin alike.

Knows the lines and the words that fill the gaps in them. Must not know sampling.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sorted_tuning.errors import TuningError
from sorted_tuning.files import read_json, read_text

STARTS = (
    "", "What", "How", "Write", "Explain", "Can you", "I", "Give me", "Why", "Describe", "Create", "Tell me", "Is",
    "Please", "Compare", "List", "Summarize", "Suggest", "Translate", "Who", "When", "Which", "Help me", "My",
    "Compose", "Identify", "Rewrite", "Design", "Find", "Calculate",
)  # fmt: skip
"""First words of questions of any kind."""

_GAP = re.compile(r"\{(([a-z_]+)\d*)\}")


@dataclass(frozen=True)
class FirstWords:
    """Lines to draw from; a gap in one, `{name}` or `{name2}`, is filled by one of the words of `name`."""

    lines: tuple[str, ...] = STARTS
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def draw(self, rng: random.Random) -> str:
        """One line, and a word for each of its gaps: the same one where a gap comes again."""
        line = rng.choice(self.lines)
        filled = {gap: rng.choice(self.words[name]) for gap, name in dict.fromkeys(_GAP.findall(line))}
        return _GAP.sub(lambda gap: filled[gap[1]], line)


def read_first_words(lines: Path, words: Path | None) -> FirstWords:
    r"""First words from a text file, one of them a line (`\n`: a line break); repeated ones are drawn more often.

    words: JSON object of the words for each gap.
    """
    read = tuple(line.replace("\\n", "\n") for line in read_text("starts", lines).split("\n") if line.strip())
    if not read:
        raise TuningError(f"starts: {lines} must hold at least one line, got none")
    known = _read_words(words) if words else {}
    for line in read:
        for _, name in _GAP.findall(line):
            if name not in known:
                raise TuningError(f"words: must hold words for every gap of {lines}, got none for {name!r}")
    return FirstWords(read, known)


def _read_words(path: Path) -> dict[str, tuple[str, ...]]:
    rule = f"words: {path} must be a JSON object of non-empty lists of words"
    read = read_json("words", path)
    if not isinstance(read, dict):
        raise TuningError(f"{rule}, got a {type(read).__name__}")
    for name, words in read.items():
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise TuningError(f"{rule}, got {words!r:.80} for {name!r}")
    return {name: tuple(words) for name, words in read.items()}
