"""The base's states and distributions, kept while it samples: tuning on its text then needs no second run of the base.

A targets file (targets.py) needs the trunk's states and the most likely tokens at each position. Sampling a row
computes both, so they are noted, and finished rows are laid out in windows.
Knows positions of rows and windows. Must not know how a model is stepped, texts or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Lesson:
    """A row of S tokens: the trunk's states bf16 [S, H] by layer, top-k ids i32 [S, K] and probabilities f16 [S, K]."""

    ids: list[int]
    states: dict[int, torch.Tensor]
    top_ids: torch.Tensor
    top_p: torch.Tensor


class Notes:
    """Notes of a batch of rows that stand at the same position. Rows may leave; the others keep their notes."""

    def __init__(self, boundaries: Sequence[int], k: int, rows: int, room: int, hidden: int):
        """`rows` rows of at most `room` tokens; states [H] after the trunk layers in `boundaries`."""
        self.states = {n: torch.empty(rows, room, hidden, dtype=torch.bfloat16) for n in boundaries}
        self.top_ids = torch.empty(rows, room, k, dtype=torch.int32)
        self.top_p = torch.empty(rows, room, k, dtype=torch.float16)
        self.k, self.row = k, torch.arange(rows)

    def state(self, layer: int, start: int, x: torch.Tensor) -> None:
        """x [B or 1, S, H] after a layer, from position `start` on; 1: the same for all rows."""
        if layer in self.states:
            self.states[layer][self.row, start : start + x.shape[1]] = x.to(torch.bfloat16).cpu()

    def likely(self, start: int, ids: torch.Tensor, p: torch.Tensor) -> None:
        """The most likely tokens [B or 1, S, K] and their probabilities, from position `start` on."""
        at = slice(start, start + ids.shape[1])
        self.top_ids[self.row, at] = ids.int().cpu()
        self.top_p[self.row, at] = p.half().cpu()

    def keep(self, order: Sequence[int]) -> None:
        """Only these rows stay, by number, in this order."""
        self.row = self.row[torch.tensor(order, dtype=torch.long)]

    def lesson(self, number: int, ids: list[int]) -> Lesson:
        """A copy of a row's notes, whose tokens were these."""
        row, end = self.row[number], len(ids)
        states = {n: held[row, :end].clone() for n, held in self.states.items()}
        return Lesson(ids, states, self.top_ids[row, :end].clone(), self.top_p[row, :end].clone())


class LessonWindows:
    """Windows of `length` tokens, each of which begins with a row. The last row of a window is cut off at its end.

    A row's states do not depend on the previous rows in its window, as a request's do not depend on other requests.

    boundaries, k: the layers whose states, and the number of likely tokens, that are noted.
    """

    def __init__(self, length: int, boundaries: Sequence[int], k: int):
        self.length, self.boundaries, self.k = length, tuple(boundaries), k
        self.held = 0
        self.open: list[Lesson] = []
        self.full: list[dict[str, torch.Tensor]] = []

    def add(self, lesson: Lesson) -> None:
        """Append a row."""
        self.open.append(lesson)
        self.held += len(lesson.ids)
        if self.held >= self.length:
            self.full.append(self._joined())
            self.open, self.held = [], 0

    def tensors(self) -> dict[str, torch.Tensor]:
        """As a targets file names them: ids, top_ids, top_p and state.{n}, of the windows that are full."""
        return {name: torch.stack([window[name] for window in self.full]) for name in (self.full or [{}])[0]}

    def _joined(self) -> dict[str, torch.Tensor]:
        ids = torch.tensor([token for lesson in self.open for token in lesson.ids], dtype=torch.int32)
        parts = {"ids": ids, "top_ids": torch.cat([lesson.top_ids for lesson in self.open])}
        parts["top_p"] = torch.cat([lesson.top_p for lesson in self.open])
        for n in self.open[0].states:
            parts[f"state.{n}"] = torch.cat([lesson.states[n] for lesson in self.open])
        return {name: part[: self.length].clone() for name, part in parts.items()}
