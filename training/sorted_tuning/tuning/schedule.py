"""Learning rate by tokens, not by time: a run that was paused or moved to a slower machine stays the same run."""

from __future__ import annotations

import math


def lr_factor(tokens: int, *, start: int, total: int, warmup: int, minimum: float) -> float:
    """Linear warm-up over `warmup` tokens after `start`, then a cosine from 1 down to `minimum` at `total`.

    0 up to `start`, while the part is not tuned yet.
    """
    if tokens < start:
        return 0.0
    if tokens - start < warmup:
        return (tokens - start + 1) / warmup
    progress = min(1.0, (tokens - start - warmup) / max(1, total - start - warmup))
    return minimum + (1 - minimum) * 0.5 * (1 + math.cos(math.pi * progress))
