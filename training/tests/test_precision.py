import pytest
import torch

from sorted_tuning import precision
from sorted_tuning.errors import TuningError
from sorted_tuning.precision import dtype_of, resolve


@pytest.mark.parametrize(
    ("has", "bf16", "chosen"), [(True, 1, "bf16"), (True, 3, "fp32"), (False, 1, "fp32"), (False, 3, "fp32")]
)
def test_auto_is_bf16_only_where_the_processor_is_faster_with_it(monkeypatch, has, bf16, chosen):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    monkeypatch.setattr(precision, "_seconds", lambda dtype: bf16 if dtype is torch.bfloat16 else 2)
    assert resolve("auto") == chosen


def test_both_are_timed():
    assert 0 < precision._seconds(torch.float32) < 10


def test_a_named_precision_stays_and_another_is_refused():
    assert dtype_of(resolve("bf16")) is torch.bfloat16
    assert dtype_of(resolve("fp32")) is torch.float32
    with pytest.raises(TuningError, match="must be auto, bf16 or fp32, got 'fp64'"):
        resolve("fp64")
