import pytest
import torch

from sorted_tuning.errors import TuningError
from sorted_tuning.precision import dtype_of, resolve


@pytest.mark.parametrize(("has", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_only_where_the_processor_multiplies_it(monkeypatch, has, chosen):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    assert resolve("auto") == chosen


def test_a_named_precision_stays_and_another_is_refused():
    assert dtype_of(resolve("bf16")) is torch.bfloat16
    assert dtype_of(resolve("fp32")) is torch.float32
    with pytest.raises(TuningError, match="must be auto, bf16 or fp32, got 'fp64'"):
        resolve("fp64")
