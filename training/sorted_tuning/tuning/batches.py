"""Windows, positions and tokens of a step as a function of (seed, step), so that resuming needs no generator."""

from __future__ import annotations

import torch


def batch_rows(count: int, batch: int, step: int, seed: int) -> torch.Tensor:
    """Window numbers [batch] of a step. Each epoch is a new permutation; a remainder under a batch is skipped."""
    batch = min(batch, count)
    per_epoch = count // batch
    epoch, place = divmod(step, per_epoch)
    order = torch.randperm(count, generator=_generator(seed, epoch, 0))
    return order[place * batch : (place + 1) * batch]


def sampled_positions(
    windows: int, length: int, share: float, exits: int, step: int, seed: int, first: torch.Tensor | None = None
) -> torch.Tensor:
    """For each exit and window its own random `share` of positions 0..length-1, [exits, windows, n].

    An unbiased gradient for less work. Each window has equally many, so that batches keep one shape. first: bool
    [windows, length], the positions that are taken before any other: the gradient then leans to them.
    """
    n = max(1, round(length * share))
    order = torch.rand(exits, windows, length, generator=_generator(seed, step, 1))
    if first is not None:
        order += ~first
    return order.argsort(-1)[..., :n]


def vocabulary_order(vocab: int, step: int, seed: int) -> torch.Tensor:
    """A step's random permutation of the vocabulary, i64 [V], of which a sample is the beginning."""
    return torch.randperm(vocab, generator=_generator(seed, step, -1))


def _generator(seed: int, a: int, b: int) -> torch.Generator:
    # A linear mix keeps (seed, a, b) apart for any run shorter than a million steps.
    return torch.Generator().manual_seed((seed * 1_000_003 + a) * 1_000_003 + b)
