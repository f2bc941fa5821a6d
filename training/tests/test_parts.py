"""Schedule, batches, fake quantization and the reference's dequantizer, each against its definition."""

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


def test_rounding_keeps_what_its_grid_holds():
    rows = torch.tensor([[127.0, -64, 3, 0.4], [0, 0, 0, 0]])
    assert round_rows(rows).tolist() == [[127, -64, 3, 0], [0, 0, 0, 0]]
    block = torch.zeros(1, 40)
    block[0, :3], block[0, 32:35] = torch.tensor([-8.0, 7, 2.4]), torch.tensor([4.0, -3, 0.2])
    out = round_int4(block)
    assert out[0, :3].tolist() == [-8, 7, 2]
    assert out[0, 32:35].tolist() == [4, -3, 0]  # scale -0.5: the largest entry is hit whatever its sign


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
