"""Weights that follow from their names, and the difference of golden values: for the scripts make.py."""

from __future__ import annotations

import zlib

import numpy as np


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/128 in [-1/4, 1/4], from the name (mulberry32 of its CRC-32)."""
    count, seed = int(np.prod(shape)), zlib.crc32(name.encode())
    with np.errstate(over="ignore"):
        state = np.uint32(seed) + np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)
        t = (state ^ (state >> np.uint32(15))) * (np.uint32(1) | state)
        t = (t + (t ^ (t >> np.uint32(7))) * (np.uint32(61) | t)) ^ t
        bits = t ^ (t >> np.uint32(14))
    unit = bits.astype(np.float64) / 2**31 - 1
    return (np.floor(unit * 32 + 0.5) / 128).astype(np.float32).reshape(shape)


def difference(a, b) -> float:
    """Greatest difference of two values of equal form."""
    if isinstance(a, dict):
        return max((difference(a[key], b[key]) for key in a), default=0)
    if isinstance(a, list):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0)
    return abs(a - b)
