"""The training loop: every step all exits.

Knows the order of operations within a step and a run. The parts are in this package's other files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import parse_exits
from sorted_tuning.export import load_sorted
from sorted_tuning.loss import Sampling
from sorted_tuning.precision import default_device, dtype_of
from sorted_tuning.targets import Targets, fingerprint, read_targets
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.batches import batch_rows, sampled_positions, vocabulary_order
from sorted_tuning.tuning.config import TuneConfig
from sorted_tuning.tuning.metrics import MetricsFile
from sorted_tuning.tuning.objective import exit_losses, held_out_scores
from sorted_tuning.tuning.parameters import freeze, learning_exits, rate_at

Say = Callable[[str], None]


class Tuner:
    """One run: model, optimizer, data and how far it is."""

    def __init__(self, config: TuneConfig, run: Path, say: Say):
        self.config, self.run, self.say = config, Path(run), say
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = torch.device(default_device())
        self.sorted = load_sorted(Path(config.model), parse_exits(config.exits))
        config.check(self.sorted.base.config.num_hidden_layers)
        self.targets = self._targets()
        self.step = self.tokens = 0
        freeze(self.sorted, config)
        self.wanted = learning_exits(self.sorted.exits, config)
        weights = dict(zip(self.sorted.exits, config.weights()))
        self.weights = torch.tensor([weights[exit_] for exit_ in self.wanted], device=self.device)
        self.sorted.to(self.device)
        self.learning = [p for p in self.sorted.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.learning, betas=(0.9, 0.95), weight_decay=0, fused=True)
        self._resume()

    def _targets(self) -> Targets:
        files = self.config.targets
        targets = read_targets([Path(file) for file in files], self.sorted.base.config.vocab_size)
        if targets.states and targets.trunk != fingerprint(self.sorted.base):
            raise TuningError(f"targets: the states in {', '.join(files)} must be of the trunk that is tuned")
        return targets

    def _resume(self) -> None:
        last = checkpoint.latest(self.run)
        if last:
            progress = checkpoint.load(last, self.sorted, self.optimizer)
            self.step, self.tokens = progress["step"], progress["tokens"]
            self.say(f"resumed from {last.name}: step {self.step}, {self.tokens} tokens")
        else:
            self.run.mkdir(parents=True, exist_ok=True)
            self.config.save(self.run / "config.json")
        # Without a checkpoint no earlier line counts, not even the score of the start: its settings may have differed.
        self.metrics = MetricsFile(self.run / "metrics.jsonl", self.tokens if last else -1)

    def train(self) -> None:
        """Run until total_tokens; checkpoints by the clock (a pause costs nothing), scores by tokens."""
        config, saved_at, saved_tokens = self.config, time.monotonic(), self.tokens
        if self.step == 0:
            self._score()
        while self.tokens < config.total_tokens:
            before = self.tokens
            self._one_step()
            if before // config.eval_tokens < self.tokens // config.eval_tokens and self.tokens < config.total_tokens:
                self._score()
            if time.monotonic() - saved_at > config.checkpoint_minutes * 60:
                self._save()
                saved_at, saved_tokens = time.monotonic(), self.tokens
        if self.tokens > saved_tokens:
            self._save()
        # Also if the last step's checkpoint exists already, written by the clock or ahead of a kill.
        self._score()

    def _one_step(self) -> None:
        config, targets, started = self.config, self.targets, time.monotonic()
        rows = batch_rows(len(targets.ids), config.batch, self.step, config.seed)
        ids, top_ids, top_p = (part[rows].to(self.device) for part in (targets.ids, targets.top_ids, targets.top_p))
        first = None if targets.first is None else targets.first[rows]
        at = sampled_positions(*ids.shape, config.positions, len(self.wanted), self.step, config.seed, first)
        options = {"trunk_grad": config.mode == "soft", "states": self._states(rows), "sampling": self._sampling()}
        with self._products():
            losses = exit_losses(self.sorted, ids.long(), top_ids, top_p, at.to(self.device), self.wanted, **options)
        loss = (losses * self.weights).sum() / self.weights.sum()
        self._must_be_finite("loss", loss.item())
        loss.backward()
        rate = rate_at(config, self.tokens)
        self.optimizer.param_groups[0]["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.learning, config.clip).item()
        self._must_be_finite("gradient norm", norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step, self.tokens = self.step + 1, self.tokens + ids.numel()
        self._record(
            {
                "loss": {str(e): round(v, 6) for e, v in zip(self.wanted, losses.tolist())},
                "gradient": round(norm, 4),
                "lr": rate,
                "tokens_per_second": round(ids.numel() / (time.monotonic() - started), 1),
            }
        )

    def _products(self) -> torch.autocast:
        """The precision of matrix products."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _states(self, rows: torch.Tensor) -> dict[int, torch.Tensor] | None:
        """The untouched trunk's states for the exits that learn, or None if the trunk has to run."""
        kept = self.targets.states
        if self.config.mode == "soft" or not all(e.layer in kept for e in self.wanted):
            return None
        return {e.layer: kept[e.layer][rows].to(self.device, dtype_of(self.config.precision)) for e in self.wanted}

    def _sampling(self) -> Sampling | None:
        if not self.config.head_sample:
            return None
        order = vocabulary_order(self.sorted.base.config.vocab_size, self.step, self.config.seed)
        return Sampling(order.to(self.device), self.config.head_sample)

    def _must_be_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            last = checkpoint.latest(self.run)
            advice = (
                f"the last good checkpoint is {last}; a new run with a lower rate may start from its export"
                if last
                else "no checkpoint had been written yet; lower the rate"
            )
            raise TuningError(f"{what}: must stay finite, got {value} at step {self.step + 1}; {advice}")

    def _save(self) -> None:
        checkpoint.save(self.run, self.sorted, self.optimizer, {"step": self.step, "tokens": self.tokens})

    def _score(self) -> None:
        """Score the held-out documents, unless the metrics hold the score at these tokens."""
        if not self.metrics.has_scores(self.tokens):
            with self._products():
                self._record(held_out_scores(self.sorted, self.targets, self.config.batch, self.device))

    def _record(self, record: dict) -> None:
        record = {"step": self.step, "tokens": self.tokens, **record}
        self.metrics.write(record)
        if "kl" in record or self.step % 20 == 0:
            self.say(" ".join(f"{name}={value}" for name, value in record.items()))


def tune(config: TuneConfig, run: Path, say: Say) -> None:
    """Start the run in folder `run`, or continue from its last checkpoint."""
    Tuner(config, run, say).train()
