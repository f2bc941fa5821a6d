"""The training loop of a prompt exit: distils the base's own distribution into the layers behind the exit.

The base stays as it is, so its states at the exit and its distribution come from a targets file, and a step runs the
deeper layers alone. Knows the order of operations within a step and a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sorted_tuning.architectures import passage, trunk_states
from sorted_tuning.errors import TuningError
from sorted_tuning.last_layer import take
from sorted_tuning.data import answer_positions
from sorted_tuning.load import load_base, load_tokenizer
from sorted_tuning.loss import Sampling, kl_and_hits, kl_head_loss
from sorted_tuning.prompt.config import PromptConfig
from sorted_tuning.prompt.fit import fit
from sorted_tuning.prompt.model import PromptExit
from sorted_tuning.targets import Targets, fingerprint, read_targets
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.batches import batch_rows, sampled_positions, vocabulary_order
from sorted_tuning.tuning.metrics import MetricsFile
from sorted_tuning.tuning.schedule import lr_factor

Say = Callable[[str], None]


class PromptTuner:
    """One run: prompt exit, optimizer, data and how far it is."""

    def __init__(self, config: PromptConfig, run: Path, say: Say):
        config.check()
        self.config, self.run, self.say = config, Path(run), say
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.base = load_base(Path(config.model)).requires_grad_(False)
        self.prompt = PromptExit(self.base, config.exit, config.group, config.keys_only)
        self.targets = self._targets()
        self.tokenizer = load_tokenizer(Path(config.model))
        self.optimizer = torch.optim.AdamW(self.prompt.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.step = self.tokens = 0
        self._resume()

    def _targets(self) -> Targets:
        files = list(map(Path, self.config.targets))
        targets = read_targets(files, self.base.config.vocab_size)
        named = ", ".join(self.config.targets)
        if targets.top_ids is None or self.config.exit not in targets.states:
            raise TuningError(
                f"targets: must hold probabilities and the states after layer {self.config.exit} "
                f"(`sorted-tuning targets --boundaries {self.config.exit}`), got {named}"
            )
        if targets.trunk != fingerprint(self.base):
            raise TuningError(f"targets: the states in {named} must be of the model that is tuned")
        return targets

    def _resume(self) -> None:
        last, saved = checkpoint.latest(self.run), self.run / "config.json"
        if last:
            self.config.must_continue(saved)
            progress = checkpoint.load(last, self.prompt, self.optimizer)
            self.step, self.tokens = progress["step"], progress["tokens"]
            self.say(f"resumed from {last.name}: step {self.step}, {self.tokens} tokens")
        else:
            self.run.mkdir(parents=True, exist_ok=True)
            self._start()
        self.config.save(saved)
        self.metrics = MetricsFile(self.run / "metrics.jsonl", self.tokens if last else -1)

    def _start(self) -> None:
        """Fit the projections to the base's keys and values; 0 fit tokens leave copies of the base's projections."""
        states, config = self.targets.states[self.config.exit], self.config
        windows = config.fit_tokens // states.shape[1]
        if windows:
            rows = batch_rows(len(states), min(windows, len(states)), 0, config.seed)
            counted = torch.ones(states[rows].shape[:2], dtype=torch.bool)
            if config.keys_only:
                counted = ~answer_positions(self.tokenizer, self.targets.ids[rows])
            fit(self.prompt, states[rows], counted, config.batch)

    def train(self) -> PromptExit:
        """Run until total_tokens; checkpoints by the clock, scores by tokens."""
        config, saved_at = self.config, time.monotonic()
        if self.step == 0:
            self._score()
        while self.tokens < config.total_tokens:
            before = self.tokens
            self._one_step()
            if before // config.eval_tokens < self.tokens // config.eval_tokens and self.tokens < config.total_tokens:
                self._score()
            if time.monotonic() - saved_at > config.checkpoint_minutes * 60:
                self._save()
                saved_at = time.monotonic()
        self._save()
        self._score()
        return self.prompt

    def _one_step(self) -> None:
        config, started = self.config, time.monotonic()
        rows = batch_rows(len(self.targets.ids), config.batch, self.step, config.seed)
        loss = self._loss(rows)
        seen = len(rows) * self.targets.ids.shape[1]
        self.step, self.tokens = self.step + 1, self.tokens + seen
        if loss is None:
            return
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.prompt.parameters(), config.clip))
        if not math.isfinite(float(loss.detach()) + norm):
            raise TuningError(
                f"loss: must stay finite, got {float(loss.detach())} at step {self.step}; lower the rate"
            )
        rate = config.lr * lr_factor(
            self.tokens - seen, start=0, total=config.total_tokens, warmup=config.warmup_tokens, minimum=config.min_lr
        )
        for part in self.optimizer.param_groups:
            part["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        speed = round(seen / (time.monotonic() - started), 1)
        own = {"loss": {str(config.exit): round(float(loss.detach()), 6)}, "gradient": round(norm, 4)}
        self._record({"step": self.step, "tokens": self.tokens, **own, "lr": rate, "tokens_per_second": speed})

    def _loss(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Of sampled positions of some windows; None where keys alone are tuned and no position is an answer's."""
        config, targets = self.config, self.targets
        answers = answer_positions(self.tokenizer, targets.ids[rows])
        first = None if targets.first is None else targets.first[rows]
        first = answers if config.keys_only else first
        length = targets.ids.shape[1]
        at = sampled_positions(len(rows), length, config.positions, 1, self.step, config.seed, 0, first)[0]
        counted = take(answers, at).flatten() if config.keys_only else torch.ones(at.numel(), dtype=torch.bool)
        if not counted.any():
            return None
        sampling = None
        if config.head_sample:
            order = vocabulary_order(self.base.config.vocab_size, self.step, config.seed)
            sampling = Sampling(order, config.head_sample)
        with self._autocast():
            hidden = take(self.prompt(targets.states[config.exit][rows].to(self._dtype), answers), at)
            weight = self.base.lm_head.weight.to(self._dtype)
            taught = (take(part[rows], at).flatten(0, 1)[counted] for part in (targets.top_ids, targets.top_p))
            rows_of_head = hidden.flatten(0, 1)[counted].to(self._dtype)
            return kl_head_loss(rows_of_head, weight, *taught, sampling=sampling)

    def _score(self) -> None:
        kl, agreement = prompt_scores(self.prompt, self.targets, self.tokenizer, self.config.batch)
        name = str(self.config.exit)
        self._record({"step": self.step, "tokens": self.tokens, "kl": {name: kl}, "agreement": {name: agreement}})

    def _save(self) -> None:
        checkpoint.save(self.run, self.prompt, self.optimizer, {"step": self.step, "tokens": self.tokens})

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.config.precision == "bf16" else torch.float32

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16")

    def _record(self, record: dict) -> None:
        self.metrics.write(record)
        if "kl" in record or self.step % 20 == 0:
            self.say(" ".join(f"{name}={value}" for name, value in record.items()))


@torch.no_grad()
def states_after(base: PreTrainedModel, ids: torch.Tensor, layers: int) -> torch.Tensor:
    """The trunk's states [B, S, H] of ids i64 [B, S] after this many layers."""
    for _, x in trunk_states(base.model, passage(base.model, ids), layers):
        pass
    return x


@torch.no_grad()
def prompt_scores(
    prompt: PromptExit, targets: Targets, tokenizer: PreTrainedTokenizerBase, batch: int
) -> tuple[float, float]:
    """Mean KL and share of agreement over the real tokens of the held-out documents, all in fp32.

    With `keys_only` those of answers count alone.
    The KL is that of the teacher's top tokens and one bucket for the rest (loss.py).
    """
    sums, count = torch.zeros(2), 0
    for start in range(0, len(targets.test_ids), batch):
        part = slice(start, start + batch)
        ids, length = targets.test_ids[part].long(), targets.test_length[part]
        real = torch.arange(ids.shape[1]) < length[:, None]
        answers = answer_positions(tokenizer, targets.test_ids[part])
        real = real & answers if prompt.keys_only else real
        hidden = prompt(states_after(prompt.base, ids, prompt.exit), answers)[real]
        taught = targets.test_top_ids[part][real], targets.test_top_p[part][real]
        sums += kl_and_hits(hidden, prompt.base.lm_head.weight, *taught)
        count += int(real.sum())
    kl, hits = (sums / count).tolist()
    return round(kl, 4), round(hits, 4)
