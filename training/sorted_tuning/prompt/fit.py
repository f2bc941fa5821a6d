"""Where the projections of a prompt exit begin: the linear maps of its states nearest to the base's keys and values.

For states s = norm(x_L) as rows of S, and the base's own keys and values of the deeper layers as rows of Y, the map W
minimizes sum_t w_t |W s_t - y_t|^2 + r |W|^2, which has a closed form. Few thousand tokens determine it, where a
gradient needs millions. Knows layers of transformers by their parts. Must not know losses or optimizers.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sorted_tuning.architectures import passage
from sorted_tuning.prompt.model import PromptExit

FIRST_WEIGHT = 16.0
"""Weight of a window's first position, which most heads of a trained model read."""

RIDGE = 1e-4
"""r as a share of the mean square of the states."""


@torch.no_grad()
def fit(prompt: PromptExit, states: torch.Tensor, counted: torch.Tensor, batch: int) -> None:
    """Fit norm, keys and values in place to the base's over states [N, T, H] after the exit's layers.

    counted: bool [N, T], the positions that have weight.

    The norm divides each channel by the square root of its size, so that no channel rules a row's rounding to bytes.
    """
    decoder = prompt.base.model
    _level(prompt, states)
    width = states.shape[-1]
    gram = torch.zeros(width, width, dtype=torch.float64)
    cross: list[torch.Tensor | int] = [0] * len(prompt.layers)
    for x, counts in zip(states.split(batch), counted.split(batch)):
        x = x.to(prompt.base.dtype)
        weights = counts.float().index_fill_(1, torch.tensor([0]), FIRST_WEIGHT).flatten()
        rows = prompt.norm(x).flatten(0, 1)
        weighted = rows * weights.unsqueeze(1)
        gram += (weighted.T @ rows).double()
        arguments = passage(decoder, embeddings=x).arguments[prompt.exit :]
        for i, (layer, passed) in enumerate(zip(decoder.layers[prompt.exit :], arguments)):
            if hasattr(prompt.layers[i], "k_proj"):
                cross[i] = cross[i] + (weighted.T @ _keys_and_values(layer, x).flatten(0, 1)).double()
            x = layer(x, **passed)
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    factor = torch.linalg.cholesky(gram)
    for own, right in zip(prompt.layers, cross):
        if isinstance(right, torch.Tensor):
            keys, values = torch.cholesky_solve(right, factor).T.split(right.shape[1] // 2)
            own.k_proj.weight.copy_(keys)
            own.v_proj.weight.copy_(values)


def _keys_and_values(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The base's own keys and values [B, T, 2 * kv width] of a layer's input, without biases, which stay."""
    attention, rows = layer.self_attn, layer.input_layernorm(x)
    return torch.cat([F.linear(rows, attention.k_proj.weight), F.linear(rows, attention.v_proj.weight)], -1)


def _level(prompt: PromptExit, states: torch.Tensor) -> None:
    """Set the norm's gains to the root of the inverse of each channel's root mean square."""
    prompt.norm.weight.fill_(1)
    squares = torch.stack([prompt.norm(x.to(prompt.base.dtype)).square().mean((0, 1)) for x in states.split(64)])
    rms = squares.mean(0).sqrt().clamp_min(1e-3)
    prompt.norm.weight.copy_(rms.rsqrt())
