"""Rules for the settings of a run, and the file beside its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from sorted_tuning.errors import TuningError


def rule(name: str, holds: bool, must_be: str, value: object) -> None:
    """Raise a TuningError that names the setting, its rule and the value, unless the rule holds."""
    if not holds:
        raise TuningError(f"{name}: must be {must_be}, got {value!r}")


class Settings:
    """The base of a dataclass of settings."""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")
