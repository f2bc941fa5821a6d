"""Every setting of a tuning run, checked. Written beside the checkpoints, so that a run resumes from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import check_exits, parse_exits
from sorted_tuning.fakequant import KERNELS
from sorted_tuning.precision import Precision
from sorted_tuning.settings import Settings, rule

MODES = {
    "soft": "the paper: all layers, shared norm and head",
    "blocks": "frozen trunk, only the exits' own blocks learn",
    "hybrid": "blocks at `lr`, trunk at `trunk_lr`",
}


# Settings of the machine, not of the run: another machine may continue with its own.
MACHINE = ("compile", "threads", "checkpoint_minutes")


@dataclass(frozen=True)
class TuneConfig(Settings):
    """See the command line's help for what each field does."""

    model: str
    targets: tuple[str, ...]
    exits: str
    mode: str = "soft"
    loss: str = "kl"
    exit_weights: str | None = None
    total_tokens: int = 1_000_000
    batch: int = 4
    positions: float = 0.25
    head_sample: int = 0
    lr: float = 1e-3
    trunk_lr: float = 1e-4
    trunk_from: int = 0
    trunk_layers: int | None = None
    min_lr: float = 0.02
    warmup_tokens: int = 20_000
    weight_decay: float = 0.0
    clip: float = 1.0
    train_embeddings: bool = False
    train_norms: bool = True
    quantize: str | None = None
    quantize_from: int = 0
    weight_bits: float = 8
    precision: Precision = "bf16"
    compile: bool = True
    threads: int | None = None
    checkpoint_minutes: float = 5.0
    eval_tokens: int = 500_000
    seed: int = 1

    def check(self, layers: int) -> None:
        """Raise a TuningError that names the first setting that can't work with a model of this many layers."""
        exits = parse_exits(self.exits)
        check_exits(exits, layers)
        has_blocks = any(e.block for e in exits)
        rule("mode", self.mode in MODES, f"one of {', '.join(MODES)}", self.mode)
        rule("loss", self.loss in ("kl", "ce"), "kl or ce", self.loss)
        rule("precision", self.precision in ("bf16", "fp32"), "bf16 or fp32", self.precision)
        if self.mode == "soft":
            rule("exits", not has_blocks, "without blocks in soft mode", self.exits)
        else:
            rule("exits", has_blocks, f"such that at least one carries a block in {self.mode} mode", self.exits)
        weights = self.weights()
        rule("exit_weights", len(weights) == len(exits), f"{len(exits)} numbers, one per exit", self.exit_weights)
        rule("exit_weights", min(weights) >= 0 and sum(weights) > 0, "not negative, and not all 0", self.exit_weights)
        # With a frozen trunk, an exit without a block learns nothing, and a step needs an exit that learns.
        still = self.mode == "blocks" or (self.mode == "hybrid" and self.trunk_from > 0)
        learns = any(weight > 0 and (e.block or not still) for e, weight in zip(exits, weights))
        rule("exit_weights", learns, "over 0 at an exit with a block while the trunk is still", self.exit_weights)
        rule("positions", 0 < self.positions <= 1, "over 0 and at most 1", self.positions)
        for name in ("total_tokens", "batch", "lr", "clip", "checkpoint_minutes", "eval_tokens"):
            rule(name, getattr(self, name) > 0, "over 0", getattr(self, name))
        for name in ("trunk_lr", "trunk_from", "warmup_tokens", "weight_decay", "quantize_from", "head_sample"):
            rule(name, getattr(self, name) >= 0, "0 or more", getattr(self, name))
        rule("min_lr", 0 <= self.min_lr <= 1, "between 0 and 1", self.min_lr)
        if self.trunk_layers is not None:
            rule("trunk_layers", self.mode == "hybrid", "given in hybrid mode only", self.trunk_layers)
            rule("trunk_layers", 1 <= self.trunk_layers <= layers, f"between 1 and {layers}", self.trunk_layers)
        if self.train_embeddings:
            rule("train_embeddings", self.mode == "soft", "used in soft mode only", self.mode)
        if not self.train_norms:
            rule("train_norms", has_blocks, "off only where exits carry blocks", self.exits)
        if self.quantize is not None:
            rule("quantize", self.quantize in KERNELS, f"one of {', '.join(KERNELS)}", self.quantize)
        rule("weight_bits", 5 <= self.weight_bits <= 8, "between 5 and 8", self.weight_bits)
        if self.weight_bits != 8:
            rule("weight_bits", self.quantize == "w8a8", "8 unless quantize is w8a8", self.weight_bits)

    def weights(self) -> list[float]:
        """The exits' weights in the loss; all 1 where none are given."""
        exits = parse_exits(self.exits)
        if self.exit_weights is None:
            return [1.0] * len(exits)
        try:
            return [float(w) for w in self.exit_weights.split(",")]
        except ValueError as error:
            raise TuningError(f"exit_weights: must be numbers with commas, got {self.exit_weights!r}") from error

    @staticmethod
    def load(path: Path) -> TuneConfig:
        """Read what `save` wrote."""
        if not path.is_file():
            raise TuningError(f"run: must be a folder that `tune` wrote, found no {path}")
        saved = json.loads(path.read_text("utf-8"))
        targets = saved["targets"]  # one string in runs that began before there could be several
        return TuneConfig(**saved | {"targets": (targets,) if isinstance(targets, str) else tuple(targets)})
