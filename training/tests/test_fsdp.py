"""The launch on several GPUs, on two CPU processes: accelerate's launcher, its configuration file, the command line."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from runs import curve, quiet, spawn

from sorted_tuning.fakequant import quantize_layers
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.targets import read_targets
from sorted_tuning.tuning.heldout import held_out_scores
from sorted_tuning.tuning.objective import SortedObjective
from sorted_tuning.tuning.parameters import layers
from sorted_tuning.tuning.sharding import BF16, set_precision
from sorted_tuning.tuning.tune import tune, tuned_model

TRAINING = Path(__file__).parents[1]


def launch(config, run, stop_after=None):
    """Run `tune` with the settings of `config` on two sharded processes; returns the exit code and the output."""
    options = ["--run-dir", run]
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if value is True or value is False:
            options += [flag if value else flag.replace("--", "--no-", 1)]
        elif isinstance(value, tuple):
            options += [part for one in value for part in (flag, one)]
        elif value is not None:
            options += [flag, str(value)]
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate-fsdp.yaml"]
    accelerate += ["--num_processes", "2", "--main_process_port", "0"]
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAINING)}
    if stop_after:
        env["STOP_AFTER"] = str(stop_after)
    command = [*accelerate, "tests/fsdp_on_cpu.py", "tune", *options]
    done = subprocess.run(command, cwd=TRAINING, env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_sharded_run_that_was_killed_ends_as_a_data_parallel_one(config, tmp_path):
    settings = {"mode": "hybrid", "exits": "1+1,2,4", "trunk_from": 800, "batch": 2, "total_tokens": 10 * 128}
    config = dataclasses.replace(config, **settings, quantize="w8a8", quantize_from=512, checkpoint_minutes=1e-6)
    spawn(tune, tmp_path, config, tmp_path / "whole", quiet)
    code, said = launch(config, tmp_path / "cut", stop_after=6)
    assert code and "step=6" not in said, said
    assert len(curve(tmp_path / "cut")) == 6, said
    code, said = launch(config, tmp_path / "cut")
    assert code == 0 and "resumed from checkpoint-00000006: step 6, 768 tokens" in said, said

    whole, cut = curve(tmp_path / "whole"), curve(tmp_path / "cut")
    assert len(cut) == len(whole) == 10
    for (tokens, losses, norm), (its_tokens, its_losses, its_norm) in zip(whole, cut, strict=True):
        assert (tokens, list(losses)) == (its_tokens, list(its_losses))
        assert its_norm == pytest.approx(norm, rel=0.01)
        assert list(its_losses.values()) == pytest.approx(list(losses.values()), rel=0.01, abs=1e-5)


def test_one_process_reads_what_sharded_ones_saved_in_bf16(config, tmp_path):
    config = dataclasses.replace(config, precision="bf16", total_tokens=4 * 256, quantize="w8a8", quantize_from=512)
    run = tmp_path / "run"
    code, said = launch(config, run)
    assert code == 0, said
    first, last = (r["kl"] for r in read_whole_lines(run / "metrics.jsonl") if "kl" in r)

    model, _ = tuned_model(run)
    quantize_layers(layers(model), "w8a8")
    targets = read_targets([Path(file) for file in config.targets], 260)
    alone = held_out_scores(SortedObjective(model, "kl"), model.exits, targets, 8, torch.device("cpu"))["kl"]
    for exit_, kl in last.items():
        assert abs(kl - alone[exit_]) < 0.02 * kl + 2e-3  # bf16 against fp32
        assert exit_ == "4" or first[exit_] - kl > 5e-3


def test_a_sharded_run_sums_gradients_in_fp32():
    def policy(version, precision):
        plugin = FullyShardedDataParallelPlugin(fsdp_version=version)
        plugin.set_mixed_precision("bf16")
        state = SimpleNamespace(fsdp_plugin=plugin)
        set_precision(SimpleNamespace(is_fsdp2=version == 2, mixed_precision=precision, state=state))
        return plugin.mixed_precision_policy

    assert policy(2, "bf16") == BF16 and BF16.reduce_dtype == torch.float32 and BF16.output_dtype is None
    assert policy(2, "no") != BF16 and policy(1, "bf16") != BF16
