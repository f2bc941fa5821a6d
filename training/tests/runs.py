"""Runs of the tests: their curves, interruptions, and two processes that share one run."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sorted_tuning.jsonl import read_whole_lines


def quiet(_line):
    pass


def curve(run):
    return [(r["tokens"], r["loss"], r["gradient"]) for r in read_whole_lines(run / "metrics.jsonl") if "loss" in r]


def stop_after(tuner, steps):
    """Interrupt a run as a kill would: between two steps, in every process at the same one."""
    one_step = tuner._one_step

    def step():
        if tuner.step == steps:
            raise KeyboardInterrupt
        one_step()

    tuner._one_step = step
    with pytest.raises(KeyboardInterrupt):
        tuner.train()


def in_process(rank, work, meeting_point, *arguments):
    """One of the two processes: sets the launcher's environment, then does the work."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"ACCELERATE_USE_CPU": "true"}
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    work(*arguments)
    dist.barrier()
    dist.destroy_process_group()


def spawn(work, folder, *arguments):
    """Do the work in two data-parallel CPU processes, which meet in this folder."""
    mp.spawn(in_process, (work, folder / "meet", *arguments), nprocs=2)
