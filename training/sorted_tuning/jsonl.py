"""JSON-lines files to which runs append that may be killed at any moment."""

from __future__ import annotations

import json
from pathlib import Path


def read_whole_lines(path: Path) -> list[dict]:
    """Every record; none without a file. An incomplete last line, left by a kill, is removed from the file."""
    if not path.is_file():
        return []
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    # Not splitlines: U+2028 and its like end a line there, and may stand in a JSON string.
    return [json.loads(line) for line in whole.split("\n") if line]
