"""Schedule, batches and the reference's dequantizer, each against its definition."""

import dataclasses

import numpy as np
import pytest
import torch

from sorted_tuning.reference.converted import dequantize_blocks
from sorted_tuning.tuning.batches import batch_rows, sampled_positions
from sorted_tuning.tuning.parameters import rate_at


def test_the_rate_goes_by_tokens(config):
    config = dataclasses.replace(config, lr=1, total_tokens=1000, warmup_tokens=100, min_lr=0.1)
    at = lambda tokens: rate_at(config, tokens)  # noqa: E731
    assert 0 < at(0) < at(50) < at(99) <= 1
    assert at(100) == 1
    assert at(550) == pytest.approx(0.55)
    assert at(1000) == at(9999) == pytest.approx(0.1)


def test_an_epoch_sees_each_window_once():
    rows = torch.cat([batch_rows(12, 4, step, seed=5) for step in range(3)])
    assert sorted(rows.tolist()) == list(range(12))
    later = torch.cat([batch_rows(12, 4, step, seed=5) for step in range(3, 6)])
    assert rows.tolist() != later.tolist() and sorted(later.tolist()) == list(range(12))


def test_positions_are_distinct_per_exit_and_step():
    a = sampled_positions(3, 100, 0.25, 2, step=1, seed=5)
    assert a.shape == (2, 3, 25) and all(len(set(row.tolist())) == 25 for row in a.flatten(0, 1))
    assert int(a.max()) < 100
    assert not torch.equal(a[0], a[1]) and not torch.equal(a[0, 0], a[0, 1])
    assert not torch.equal(a, sampled_positions(3, 100, 0.25, 2, step=2, seed=5))
    assert torch.equal(a, sampled_positions(3, 100, 0.25, 2, step=1, seed=5))


def test_positions_that_come_first_are_taken_before_any_other():
    first = torch.zeros(3, 90, dtype=torch.bool)
    first[1, 40:50], first[2] = True, True
    rows = sampled_positions(3, 90, 0.2, 2, step=1, seed=5, first=first)
    assert rows.shape == (2, 3, 18) and int(rows.max()) < 90
    assert all(len(set(row.tolist())) == 18 for row in rows.flatten(0, 1))
    assert all(set(range(40, 50)) < set(row.tolist()) for row in rows[:, 1])
    assert not torch.equal(rows[0, 1].sort().values, rows[1, 1].sort().values)
    alike = sampled_positions(3, 90, 0.2, 2, step=1, seed=5)
    assert torch.equal(rows[:, [0, 2]], alike[:, [0, 2]])


def test_dequantizing_four_bits_low_nibble_first():
    packed = np.array([[[0x80, 0xF7]]], np.uint8)  # 0, 8, 7, 15
    scales = np.array([0.5], np.float32)
    assert dequantize_blocks(packed, scales, 4, 4).tolist() == [[-4, 0, -0.5, 3.5]]
    assert dequantize_blocks(packed, scales, 4, 3).tolist() == [[-4, 0, -0.5]]
    assert dequantize_blocks(packed, scales, 8, 2).tolist() == [[0, 59.5]]
    zero = np.array([[0x01]], np.uint8)
    assert dequantize_blocks(packed, scales, 4, 2, zero).tolist() == [[-0.5, 3.5]]
