"""Every setting of a tuning run, checked. Written beside the checkpoints, so that a run resumes from its folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import check_exits, parse_exits
from sorted_tuning.precision import Precision

MODES = {"soft": "the paper: all layers, shared norm and head", "blocks": "frozen trunk, only the exits' blocks learn"}

# Settings of the machine, not of the run: another machine may continue with its own.
MACHINE = ("threads", "checkpoint_minutes")


@dataclass(frozen=True)
class TuneConfig:
    """See the command line's help for what each field does."""

    model: str
    targets: tuple[str, ...]
    exits: str
    mode: str = "soft"
    exit_weights: str | None = None
    total_tokens: int = 1_000_000
    batch: int = 4
    positions: float = 0.25
    head_sample: int = 0
    lr: float = 1e-3
    min_lr: float = 0.02
    warmup_tokens: int = 20_000
    clip: float = 1.0
    train_norms: bool = True
    precision: Precision = "bf16"
    threads: int | None = None
    checkpoint_minutes: float = 5.0
    eval_tokens: int = 500_000
    seed: int = 1

    def check(self, layers: int) -> None:
        """Raise a TuningError that names the first setting that can't work with a model of this many layers."""
        exits = parse_exits(self.exits)
        check_exits(exits, layers)
        has_blocks = any(e.block for e in exits)
        _rule("mode", self.mode in MODES, f"one of {', '.join(MODES)}", self.mode)
        _rule("precision", self.precision in ("bf16", "fp32"), "bf16 or fp32", self.precision)
        if self.mode == "soft":
            _rule("exits", not has_blocks, "without blocks in soft mode", self.exits)
        else:
            _rule("exits", has_blocks, f"such that at least one carries a block in {self.mode} mode", self.exits)
        weights = self.weights()
        _rule("exit_weights", len(weights) == len(exits), f"{len(exits)} numbers, one per exit", self.exit_weights)
        _rule("exit_weights", min(weights) >= 0 and sum(weights) > 0, "not negative, and not all 0", self.exit_weights)
        # With a frozen trunk, an exit without a block learns nothing, and a step needs an exit that learns.
        learns = any(weight > 0 and (e.block or self.mode == "soft") for e, weight in zip(exits, weights))
        _rule("exit_weights", learns, "over 0 at an exit with a block while the trunk is still", self.exit_weights)
        _rule("positions", 0 < self.positions <= 1, "over 0 and at most 1", self.positions)
        for name in ("total_tokens", "batch", "lr", "clip", "checkpoint_minutes", "eval_tokens"):
            _rule(name, getattr(self, name) > 0, "over 0", getattr(self, name))
        for name in ("warmup_tokens", "head_sample"):
            _rule(name, getattr(self, name) >= 0, "0 or more", getattr(self, name))
        _rule("min_lr", 0 <= self.min_lr <= 1, "between 0 and 1", self.min_lr)
        _rule("train_norms", self.train_norms or has_blocks, "off only where exits carry blocks", self.exits)

    def weights(self) -> list[float]:
        """The exits' weights in the loss; all 1 where none are given."""
        if self.exit_weights is None:
            return [1.0] * len(parse_exits(self.exits))
        try:
            return [float(w) for w in self.exit_weights.split(",")]
        except ValueError as error:
            raise TuningError(f"exit_weights: must be numbers with commas, got {self.exit_weights!r}") from error

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")

    @staticmethod
    def load(path: Path) -> TuneConfig:
        """Read what `save` wrote."""
        if not path.is_file():
            raise TuningError(f"run: must be a folder that `tune` wrote, found no {path}")
        saved = json.loads(path.read_text("utf-8"))
        return TuneConfig(**saved | {"targets": tuple(saved["targets"])})


def _rule(name: str, holds: bool, must_be: str, value: object) -> None:
    """Raise a TuningError that names the setting, its rule and the value, unless the rule holds."""
    if not holds:
        raise TuningError(f"{name}: must be {must_be}, got {value!r}")
