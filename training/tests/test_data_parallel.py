"""Two data-parallel CPU processes through accelerate, as `accelerate launch` starts them: DDP over gloo."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
from runs import curve, quiet, spawn, stop_after

from sorted_tuning.errors import TuningError
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.tuning.tune import Tuner, tune


def whole_and_resumed(config, every_step, folder):
    """The same run in one go and with two interruptions, before and after the hybrid's trunk begins to learn."""
    tune(config, folder / "whole", quiet)
    for steps in (2, 5):
        tuner = Tuner(every_step, folder / "cut", quiet)
        assert isinstance(tuner.objective, torch.nn.parallel.DistributedDataParallel)
        stop_after(tuner, steps)
    tune(config, folder / "cut", quiet)


def test_a_data_parallel_run_resumes_with_the_same_curve(config, every_step, tmp_path):
    settings = {"mode": "hybrid", "exits": "1+1,2,4", "trunk_from": 800, "batch": 2, "total_tokens": 8 * 128}
    config, every_step = (dataclasses.replace(c, **settings) for c in (config, every_step))
    spawn(whole_and_resumed, tmp_path, config, every_step, tmp_path)
    assert len(curve(tmp_path / "whole")) == 8
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    scores = [
        [r for r in read_whole_lines(tmp_path / name / "metrics.jsonl") if "kl" in r] for name in ("whole", "cut")
    ]
    assert scores[0] == scores[1] and [r["tokens"] for r in scores[0]] == [0, 8 * 128]


UNREAD = (("blocks", "1+1,2+1,4", "0,1,0"), ("soft", "1,2,4", "1,1,0"))
"""Modes, exits and weights that leave a block, or the trunk's end and its norm, without a gradient."""


def with_unread_exits(config, folder):
    for mode, exits, weights in UNREAD:
        config = dataclasses.replace(config, mode=mode, exits=exits, exit_weights=weights)
        tune(config, folder / mode, quiet)


def test_exits_of_weight_0_keep_no_process_waiting(config, tmp_path):
    spawn(with_unread_exits, tmp_path, dataclasses.replace(config, batch=2, total_tokens=3 * 128), tmp_path)
    assert [set(loss) for _, loss, _ in curve(tmp_path / "blocks")] == [{"2+1"}] * 3
    assert [set(loss) for _, loss, _ in curve(tmp_path / "soft")] == [{"1", "2"}] * 3


def with_a_loss_that_one_process_lost(config, folder):
    tuner = Tuner(config, folder / "run", quiet)
    if dist.get_rank() == 1:
        with torch.no_grad():
            tuner.sorted.base.model.norm.weight[0] = float("nan")
    with pytest.raises(TuningError, match="loss: must stay finite, got nan at step 1; no checkpoint"):
        tuner.train()


def test_a_loss_that_one_process_lost_stops_them_all(config, tmp_path):
    config = dataclasses.replace(config, batch=2)
    spawn(with_a_loss_that_one_process_lost, tmp_path, config, tmp_path)
    assert not curve(tmp_path / "run")
