"""The precision in which a device multiplies.

Knows: PyTorch's devices. Must not know: models, losses.
"""

from __future__ import annotations

from time import perf_counter
from typing import Literal

import torch

from sorted_tuning.errors import TuningError

Precision = Literal["bf16", "fp32"]


def resolve(precision: str, device: str = "cpu") -> Precision:
    """Resolve `auto` for a device; an unknown name is a TuningError.

    A processor with bf16 products need not be faster with them. Without bf16 products, PyTorch's emulation is a hundred
    times slower than fp32. So on a CPU both are timed.
    """
    if precision == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if precision == "bf16":
        return "bf16"
    if precision == "fp32":
        return "fp32"
    raise TuningError(f"precision: must be auto, bf16 or fp32, got {precision!r}")


def dtype_of(precision: Precision) -> torch.dtype:
    """The element type of products."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def default_device() -> str:
    """The device of a run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _multiplies_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return has and _seconds(torch.bfloat16) < _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """The best of five times of a product as layers have them, on the threads that are set."""
    x, weight = torch.ones(1024, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
    times = []
    for _ in range(6):
        start = perf_counter()
        torch.nn.functional.linear(x, weight)
        times.append(perf_counter() - start)
    return min(times[1:])
