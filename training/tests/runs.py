"""Runs of the tests: their curves and interruptions."""

import pytest

from sorted_tuning.jsonl import read_whole_lines


def quiet(_line):
    pass


def curve(run):
    return [(r["tokens"], r["loss"], r["gradient"]) for r in read_whole_lines(run / "metrics.jsonl") if "loss" in r]


def stop_after(tuner, steps):
    """Interrupt a run as a kill would: between two steps."""
    one_step = tuner._one_step

    def step():
        if tuner.step == steps:
            raise KeyboardInterrupt
        one_step()

    tuner._one_step = step
    with pytest.raises(KeyboardInterrupt):
        tuner.train()
