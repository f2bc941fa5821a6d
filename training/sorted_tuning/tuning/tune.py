"""The training loop: every step all exits, on accelerate, so that one process or many sharded ones run the same code.

Knows the order of operations within a step and a run. The parts are in this package's other files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import Exit, parse_exits
from sorted_tuning.export import export, load_sorted
from sorted_tuning.fakequant import quantize_layers
from sorted_tuning.load import licence_of, load_tokenizer
from sorted_tuning.loss import EAGER, compiled
from sorted_tuning.model import SortedModel, compile_layers
from sorted_tuning.precision import dtype_of
from sorted_tuning.targets import Targets, fingerprint, held_out_of, read_targets
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.batches import batch_rows, sampled_positions, vocabulary_order
from sorted_tuning.tuning.config import TuneConfig
from sorted_tuning.tuning.heldout import held_out_scores
from sorted_tuning.tuning.metrics import MetricsFile, plot
from sorted_tuning.tuning.objective import SortedObjective
from sorted_tuning.tuning.parameters import active_exits, freeze, groups, layers, set_rates, trunk_learns
from sorted_tuning.tuning.sharding import set_precision

Say = Callable[[str], None]


class Tuner:
    """One run: model, optimizer, data and how far it is."""

    def __init__(self, config: TuneConfig, run: Path, say: Say):
        self.config, self.run, self.say = config, Path(run), say
        if config.threads:
            torch.set_num_threads(config.threads)
        # A hybrid's trunk has no gradient at first; plain data parallelism needs this flag for it.
        replicas = DistributedDataParallelKwargs(find_unused_parameters=config.mode == "hybrid")
        mixed = "bf16" if config.precision == "bf16" else "no"
        self.accelerator = Accelerator(mixed_precision=mixed, kwargs_handlers=[replicas])
        set_precision(self.accelerator)
        self.sorted = load_sorted(Path(config.model), parse_exits(config.exits))
        self.exits = self.sorted.exits
        config.check(self.sorted.base.config.num_hidden_layers)
        self.targets = self._targets()
        self.step = self.tokens = 0
        freeze(self.sorted, config)
        if config.compile:
            compile_layers(layers(self.sorted))
        self.quantized = False
        optimizer = torch.optim.AdamW(
            groups(self.sorted, config), betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
        )
        objective = SortedObjective(
            self.sorted, config.loss, compiled() if config.compile else EAGER, config.head_sample
        )
        self.objective, self.optimizer = self.accelerator.prepare(objective.train(), optimizer)
        self._resume()

    def _targets(self) -> Targets:
        files = self.config.targets
        targets = read_targets([Path(file) for file in files], self.sorted.base.config.vocab_size)
        if self.config.loss == "kl" and targets.top_ids is None:
            raise TuningError(f"targets: kl needs the teacher's top-k, and {', '.join(files)} has windows alone")
        if targets.states and targets.trunk != fingerprint(self.sorted.base):
            raise TuningError(f"targets: the states in {', '.join(files)} must be of the trunk that is tuned")
        return targets

    def _resume(self) -> None:
        last = checkpoint.latest(self.run)
        if last:
            progress = checkpoint.load(last, self.objective, self.optimizer.optimizer)
            self.step, self.tokens = progress["step"], progress["tokens"]
            self.say(f"resumed from {last.name}: step {self.step}, {self.tokens} tokens")
        elif self.accelerator.is_main_process:
            self.run.mkdir(parents=True, exist_ok=True)
            self.config.save(self.run / "config.json")
        # Without a checkpoint no earlier line counts, not even the score of the start: its settings may have differed.
        kept = self.tokens if last else -1
        self.metrics = MetricsFile(self.run / "metrics.jsonl", kept) if self.accelerator.is_main_process else None

    def train(self) -> None:
        """Run until total_tokens; checkpoints by the clock (a pause costs nothing), scores by tokens."""
        config, saved_at, saved_tokens = self.config, time.monotonic(), self.tokens
        if self.step == 0:
            self._score_once()
        while self.tokens < config.total_tokens:
            before = self.tokens
            self._quantize_when_due()
            self._one_step()
            if before // config.eval_tokens < self.tokens // config.eval_tokens and self.tokens < config.total_tokens:
                self._score()
            # One clock for all processes: the first one's.
            due = torch.tensor(float(time.monotonic() - saved_at > config.checkpoint_minutes * 60))
            if self._agreed(due):
                self._save()
                saved_at, saved_tokens = time.monotonic(), self.tokens
        if self.tokens > saved_tokens:
            self._save()
        # Also if the last step's checkpoint exists already, written by the clock or ahead of a kill.
        self._quantize_when_due()
        self._score_once()
        self._plot()

    def _one_step(self) -> None:
        config, device, started = self.config, self.accelerator.device, time.monotonic()
        rows = self._rows()
        ids, top_ids, top_p = self._batch(rows)
        active = active_exits(self.exits, config, self.tokens)
        length = ids.shape[1] - (config.loss == "ce")  # the last position of a window has no next token
        rank = self.accelerator.process_index
        first = None if self.targets.first is None else self.targets.first[rows]
        at = sampled_positions(len(ids), length, config.positions, len(active), self.step, config.seed, rank, first)
        wanted = tuple(self.exits[i] for i in active)
        learns = trunk_learns(config, self.tokens)
        states = None if learns else self._states(rows, wanted)
        order = None
        if config.head_sample:
            order = vocabulary_order(self.sorted.base.config.vocab_size, self.step, config.seed).to(device)
        losses = self.objective(ids, top_ids, top_p, at.to(device), wanted, learns, states=states, order=order)
        weights = torch.tensor([config.weights()[i] for i in active], device=device)
        loss = (losses * weights).sum() / weights.sum()
        # Reduced over all processes: if one stopped alone, the others would wait for its gradient.
        reduced = self.accelerator.reduce(losses.detach(), "mean")
        self._must_be_finite("loss", float((reduced * weights).sum() / weights.sum()))
        self.accelerator.backward(loss)
        rates = set_rates(self.optimizer.param_groups, config, self.tokens)
        norm = float(self.accelerator.clip_grad_norm_(self.objective.parameters(), config.clip))
        self._must_be_finite("gradient norm", norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        seen = ids.numel() * self.accelerator.num_processes
        self.step, self.tokens = self.step + 1, self.tokens + seen
        self._record(
            {
                "step": self.step,
                "tokens": self.tokens,
                "loss": {str(e): round(v, 6) for e, v in zip(wanted, reduced.tolist())},
                "gradient": round(norm, 4),
                "lr": rates,
                "tokens_per_second": round(seen / (time.monotonic() - started), 1),
            }
        )

    def _rows(self) -> torch.Tensor:
        """This process's windows of the step."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = batch_rows(len(self.targets.ids), self.config.batch * world, self.step, self.config.seed)
        return rows.tensor_split(world)[rank]

    def _states(self, rows: torch.Tensor, wanted: tuple[Exit, ...]) -> dict[int, torch.Tensor] | None:
        """The untouched trunk's states for the wanted exits, or None if the trunk has to run (or to round) itself."""
        kept = self.targets.states
        if self.quantized or not all(e.layer in kept for e in wanted):
            return None
        dtype = dtype_of(self.config.precision)
        return {e.layer: kept[e.layer][rows].to(self.accelerator.device, dtype) for e in wanted}

    def _batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        device = self.accelerator.device
        parts = (self.targets.ids, self.targets.top_ids, self.targets.top_p)
        ids, top_ids, top_p = (None if part is None else part[rows].to(device) for part in parts)
        return ids.long(), top_ids, None if top_p is None else top_p.view(torch.int16)

    def _must_be_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            last = checkpoint.latest(self.run)
            advice = (
                f"the last good checkpoint is {last}; a new run with a lower rate may start from its export"
                if last
                else "no checkpoint had been written yet; lower the rate"
            )
            raise TuningError(f"{what}: must stay finite, got {value} at step {self.step + 1}; {advice}")

    def _quantize_when_due(self) -> None:
        if self.config.quantize and not self.quantized and self.tokens >= self.config.quantize_from:
            quantize_layers(layers(self.sorted), self.config.quantize, self.config.weight_bits)
            self.quantized = True
            self.say(f"fake quantization {self.config.quantize} from {self.tokens} tokens on")

    def _agreed(self, flag: torch.Tensor) -> bool:
        return bool(self.accelerator.reduce(flag.to(self.accelerator.device), "sum").item() > 0)

    def _save(self) -> None:
        checkpoint.save(self.run, self.objective, self.optimizer.optimizer, {"step": self.step, "tokens": self.tokens})
        self._plot()

    def _plot(self) -> None:
        if self.metrics:
            plot(self.metrics.path, self.run / "loss.png")

    def _score_once(self) -> None:
        """Score unless the metrics, which the first process alone has, hold the score at these tokens."""
        lacks = self.metrics is not None and not self.metrics.has_scores(self.tokens)
        if self._agreed(torch.tensor(float(lacks))):
            self._score()

    def _score(self) -> None:
        if self.targets.test_top_ids is not None:
            self.objective.eval()
            scores = held_out_scores(
                self.objective, self.exits, self.targets, self.config.batch, self.accelerator.device
            )
            self.objective.train()
            self._record({"step": self.step, "tokens": self.tokens, **scores})

    def _record(self, record: dict) -> None:
        if self.metrics:
            self.metrics.write(record)
            if "kl" in record or self.step % 20 == 0:
                self.say(" ".join(f"{name}={value}" for name, value in record.items()))


def tune(config: TuneConfig, run: Path, say: Say) -> None:
    """Start the run in folder `run`, or continue from its last checkpoint."""
    Tuner(config, run, say).train()


def tuned_model(run: Path) -> tuple[SortedModel, TuneConfig]:
    """The model at the newest checkpoint of a run, for evaluation and export."""
    config = TuneConfig.load(Path(run) / "config.json")
    model = load_sorted(Path(config.model), parse_exits(config.exits))
    freeze(model, config)
    last = checkpoint.latest(run)
    if last is None:
        raise TuningError(f"run: must have a checkpoint, found none in {run}")
    checkpoint.load(last, SortedObjective(model, config.loss), None)
    return model.requires_grad_(False).eval(), config


def must_hold_out(run: Path, data: Path, documents: list[list[int]], vocab: int) -> None:
    """A TuningError where a run has other held-out documents than these, the first ones of `data` or all.

    It may have learnt them. Without its targets file the check is skipped.
    """
    config = TuneConfig.load(Path(run) / "config.json")
    targets = Path(config.targets[0])
    if not targets.is_file():
        return
    theirs = [document for document in held_out_of(targets, vocab) if len(document) > 1]
    for number, document in enumerate(documents):
        if theirs[number : number + 1] != [document]:
            raise TuningError(
                f"data: {data} must begin with the {len(theirs)} documents that the run holds out, those of {targets}, "
                f"got another as number {number + 1}, which it may have learnt"
            )


def mean_model(runs: list[Path], with_start: bool = False) -> tuple[SortedModel, TuneConfig]:
    """The mean of the weights at the newest checkpoints of runs that continued one another (arXiv 2203.05482).

    with_start includes the model that the first run began with, so that the mean forgets less of other kinds of text
    (arXiv 2109.01903).
    """
    model, config = tuned_model(runs[0])
    total = model.state_dict()
    count = len(runs) + with_start
    if with_start:
        start = load_sorted(Path(config.model), parse_exits(config.exits)).state_dict()
        total = {name: value + start[name] for name, value in total.items()}
    for run in runs[1:]:
        other, its = tuned_model(run)
        if its.exits != config.exits:
            raise TuningError(f"run: {run} must have the exits of {runs[0]}, {config.exits}, got {its.exits}")
        total = {name: value + total[name] for name, value in other.state_dict().items()}
    model.load_state_dict({name: value / count for name, value in total.items()})
    return model, config


def export_runs(runs: list[Path], out: Path, dtype: torch.dtype, with_start: bool = False) -> None:
    """Export the mean of runs as a Hugging Face folder with exit-blocks.safetensors."""
    model, config = mean_model(runs, with_start)
    export(model, load_tokenizer(Path(config.model)), out, dtype, licence_of(Path(config.model)))
