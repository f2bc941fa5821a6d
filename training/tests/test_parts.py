"""Schedule, batches, fake quantization and the reference's dequantizer, each against its definition."""

import math

import numpy as np
import pytest
import torch

from sorted_tuning.fakequant import quantize_layers, round_int4, round_rows
from sorted_tuning.reference.converted import dequantize_blocks
from sorted_tuning.tuning.batches import batch_rows, sampled_positions
from sorted_tuning.tuning.schedule import lr_factor


def test_schedule_goes_by_tokens():
    def at(tokens):
        return lr_factor(tokens, start=100, total=1100, warmup=100, minimum=0.1)

    assert at(0) == at(99) == 0
    assert 0 < at(100) < at(150) < at(199) <= 1
    assert at(200) == 1
    assert at(650) == pytest.approx(0.55)
    assert at(1100) == at(9999) == pytest.approx(0.1)


def test_an_epoch_sees_each_window_once():
    rows = torch.cat([batch_rows(12, 4, step, seed=5) for step in range(3)])
    assert sorted(rows.tolist()) == list(range(12))
    later = torch.cat([batch_rows(12, 4, step, seed=5) for step in range(3, 6)])
    assert rows.tolist() != later.tolist() and sorted(later.tolist()) == list(range(12))


def test_positions_are_distinct_per_exit_step_and_rank():
    def sample(step, rank):
        return sampled_positions(3, 100, 0.25, 2, step=step, seed=5, rank=rank)

    a = sample(step=1, rank=0)
    assert a.shape == (2, 3, 25) and all(len(set(row.tolist())) == 25 for row in a.flatten(0, 1))
    assert int(a.max()) < 100
    assert not torch.equal(a[0], a[1]) and not torch.equal(a[0, 0], a[0, 1])
    assert not torch.equal(a, sample(step=2, rank=0))
    assert not torch.equal(a, sample(step=1, rank=1))
    assert torch.equal(a, sample(step=1, rank=0))


def test_positions_that_come_first_are_taken_before_any_other():
    first = torch.zeros(3, 100, dtype=torch.bool)
    first[1, 40:50], first[2] = True, True
    rows = sampled_positions(3, 90, 0.2, 2, step=1, seed=5, rank=0, first=first)
    assert rows.shape == (2, 3, 18) and int(rows.max()) < 90
    assert all(len(set(row.tolist())) == 18 for row in rows.flatten(0, 1))
    assert all(set(range(40, 50)) < set(row.tolist()) for row in rows[:, 1])
    assert not torch.equal(rows[0, 1].sort().values, rows[1, 1].sort().values)
    alike = sampled_positions(3, 90, 0.2, 2, step=1, seed=5, rank=0)
    assert torch.equal(rows[:, [0, 2]], alike[:, [0, 2]])


def test_rounding_keeps_values_of_its_grid():
    rows = torch.tensor([[127.0, -64, 3, 0.4], [0, 0, 0, 0]])
    assert round_rows(rows).tolist() == [[127, -64, 3, 0], [0, 0, 0, 0]]


def int4_as_converted(row):
    """src/convert/quantize/int4.ts, quantizeToNearest, of one row, in plain numbers."""
    unit = np.float32(max(map(abs, row)) * (0.62 + 0.024 * 22) / 8 / 127)
    out = []
    for start in range(0, len(row), 32):
        block = row[start : start + 32]
        code = math.floor(max(block, key=abs) / -8 / unit + 0.5) if unit else 0
        scale = float(max(-127, min(127, code)) or 1) * float(unit or 1)
        out += [max(-8, min(7, math.floor(value / scale + 0.5))) * scale for value in block]
    return out


def test_four_bits_round_as_the_converter_stores_them():
    weights = torch.randn(6, 72, generator=torch.Generator().manual_seed(4)) * 0.1
    weights[1, :32] *= 1e-4  # a block whose scale is nearest to code 0
    weights[2, 40] = -3.0  # a row whose other blocks have few codes
    weights[3, 32:64] = 0
    weights[4] = 0
    rounded = round_int4(weights)
    for row, expected in zip(rounded, map(int4_as_converted, weights.tolist()), strict=True):
        torch.testing.assert_close(row, torch.tensor(expected), atol=1e-6, rtol=1e-6)
    assert round_int4(weights.bfloat16()).dtype == torch.bfloat16
    # A scale is one of 127 of the row: the entry of largest magnitude is hit to half of a code.
    largest = weights.abs().amax()
    assert 0 < (rounded[2, 40] + largest).abs() < largest * 1.148 / 127


def test_fewer_weight_bits_are_fewer_levels_while_tuning(base):
    linear = base.model.layers[0].mlp.up_proj
    x, exact = torch.eye(linear.in_features), linear.weight.detach().clone()
    for bits, levels in ((8, 127), (7.6, 96), (5, 15)):
        quantize_layers([base.model.layers[0]], "w8a8", bits)
        assert torch.allclose(linear(x).T, round_rows(exact, levels), atol=1e-6)


@pytest.mark.parametrize("kernel", ["w8a8", "int4"])
def test_fake_quantization_is_close_and_passes_the_gradient_straight(base, kernel):
    ids = torch.tensor([[5, 80, 130, 7]])
    exact = base(ids).logits
    names = [name for name, _ in base.named_parameters()]
    quantize_layers(list(base.model.layers), kernel)
    rounded = base(ids).logits
    error = (rounded - exact).pow(2).mean() / exact.pow(2).mean()
    assert 0 < error < (0.01 if kernel == "w8a8" else 0.5)
    assert [name for name, _ in base.named_parameters()] == names
    linear = base.model.layers[0].mlp.up_proj
    x = torch.randn(3, 32, requires_grad=True)
    linear(x).sum().backward()
    used = torch.autograd.functional.vjp(lambda v: linear(v).sum(), x)[1]
    assert torch.equal(x.grad, used)
    assert linear.weight.grad.abs().min() > 0


def test_dequantizing_four_bits_low_nibble_first():
    packed = np.array([[[0x80, 0xF7]]], np.uint8)  # 0, 8, 7, 15
    scales = np.array([0.5], np.float32)
    assert dequantize_blocks(packed, scales, 4, 4).tolist() == [[-4, 0, -0.5, 3.5]]
    assert dequantize_blocks(packed, scales, 4, 3).tolist() == [[-4, 0, -0.5]]
    assert dequantize_blocks(packed, scales, 8, 2).tolist() == [[0, 59.5]]
    zero = np.array([[0x01]], np.uint8)
    assert dequantize_blocks(packed, scales, 4, 2, zero).tolist() == [[-0.5, 3.5]]
