"""JSON-lines files that are appended to by runs which may be killed at any moment."""

from __future__ import annotations

import json
from pathlib import Path


def read_whole_lines(path: Path) -> list[dict]:
    """Every record; empty where there is no file. A last line without its end, torn by a kill, is cut off the file."""
    if not path.is_file():
        return []
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    # Not splitlines: U+2028 and its like end a line there, and may stand in a JSON string.
    return [json.loads(line) for line in whole.split("\n") if line]
