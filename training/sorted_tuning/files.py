"""Files of a command line: read with an error that names the option, and checked paths for results.

Knows text and JSON. Must not know their contents.
"""

from __future__ import annotations

import json
from pathlib import Path

from sorted_tuning.errors import TuningError


def read_json(option: str, path: Path) -> object:
    """A file's JSON."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TuningError(f"{option}: must be a file of UTF-8 text, got {path}: {error}") from error
    except json.JSONDecodeError as error:
        raise TuningError(f"{option}: {path} must be JSON: {error}") from error


def place_for(option: str, path: Path) -> Path:
    """A path to write a file to; makes its folder. An unwritable path is an error before the work starts."""
    if path.is_dir():
        raise TuningError(f"{option}: must be a file to write, got the folder {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TuningError(f"{option}: must lie in a folder, got {path}: {error}") from error
    return path
