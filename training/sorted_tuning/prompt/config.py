"""Every setting of a run that tunes a prompt exit, checked. Written beside the checkpoints."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from sorted_tuning.errors import TuningError
from sorted_tuning.settings import Settings, rule

POSITIVE = ("total_tokens", "batch", "lr", "clip", "checkpoint_minutes", "eval_tokens")
NOT_NEGATIVE = ("head_sample", "warmup_tokens", "fit_tokens")

MACHINE = ("targets", "threads", "checkpoint_minutes")
"""Settings that may differ where a run continues: text may grow, and another machine has its own."""


@dataclass(frozen=True)
class PromptConfig(Settings):
    """See the command line's help for what each field does."""

    model: str
    targets: tuple[str, ...]
    exit: int
    group: int = 1
    keys_only: bool = False
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
            rule(name, getattr(self, name) > 0, "over 0", getattr(self, name))
        for name in NOT_NEGATIVE:
            rule(name, getattr(self, name) >= 0, "0 or more", getattr(self, name))
        rule("positions", 0 < self.positions <= 1, "over 0 and at most 1", self.positions)
        rule("min_lr", 0 <= self.min_lr <= 1, "between 0 and 1", self.min_lr)

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
