"""Metrics of a run: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from sorted_tuning.jsonl import read_whole_lines


class MetricsFile:
    """Append-only JSONL. On resume, lines beyond the checkpoint are dropped: they will be written again."""

    def __init__(self, path: Path, tokens: int):
        self.path = path
        kept = [line for line in read_whole_lines(path) if line["tokens"] <= tokens]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

    def write(self, record: dict) -> None:
        """Append one record; it holds `tokens` and either `loss` per exit (training) or `kl` and `agreement` (test)."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def has_scores(self, tokens: int) -> bool:
        """Whether the held-out documents were scored after this many tokens."""
        return any("kl" in line and line["tokens"] == tokens for line in read_whole_lines(self.path))
