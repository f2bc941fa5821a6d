"""Every setting of a run that tunes a prompt exit, checked. Written beside the checkpoints."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from sorted_tuning.errors import TuningError

POSITIVE = ("total_tokens", "batch", "lr", "clip", "checkpoint_minutes", "eval_tokens")
NOT_NEGATIVE = ("head_sample", "warmup_tokens", "fit_tokens")

MACHINE = ("targets", "threads", "checkpoint_minutes")
"""Settings that may differ where a run continues: text may grow, and another machine has its own."""


@dataclass(frozen=True)
class PromptConfig:
    """See the command line's help for what each field does."""

    model: str
    targets: tuple[str, ...]
    exit: int
    group: int = 1
    total_tokens: int = 2_000_000
    batch: int = 8
    positions: float = 0.5
    head_sample: int = 0
    lr: float = 3e-4
    min_lr: float = 0.02
    warmup_tokens: int = 20_000
    clip: float = 1.0
    fit_tokens: int = 60_000
    precision: str = "fp32"
    threads: int | None = None
    checkpoint_minutes: float = 5.0
    eval_tokens: int = 250_000
    seed: int = 1

    def check(self) -> None:
        """Raise a TuningError that names the first setting that can't work with any model."""
        if not self.targets:
            raise TuningError("targets: must name at least one file, got none")
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise TuningError(f"{name}: must be over 0, got {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise TuningError(f"{name}: must be 0 or more, got {getattr(self, name)}")
        if not 0 < self.positions <= 1:
            raise TuningError(f"positions: must be over 0 and at most 1, got {self.positions}")
        if not 0 <= self.min_lr <= 1:
            raise TuningError(f"min_lr: must be between 0 and 1, got {self.min_lr}")

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")

    def must_continue(self, path: Path) -> None:
        """A TuningError where a run's saved settings differ: another setting is another run."""
        if not path.is_file():
            raise TuningError(f"run: must be a folder that `prompt` wrote, found no {path}")
        saved = json.loads(path.read_text("utf-8"))
        for name, value in dataclasses.asdict(self).items():
            if name not in MACHINE and saved.get(name) != value:
                raise TuningError(
                    f"{name}: must stay {saved.get(name)!r} in a run that has a checkpoint, got {value!r}; "
                    "another setting is another run"
                )
