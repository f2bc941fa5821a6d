"""Samples many rows together with the model itself: all rows stand at the same position of their own texts.

A batch begins with one prefix, whose keys and values are computed once. Every step adds a token to every row, so no row
is padded or waits for another row's prompt. A finished row leaves.
Knows how a model is stepped and how a token is drawn. Must not know the texts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from sorted_tuning.architectures import head_dim, head_inputs, passage, trunk_states
from sorted_tuning.notes import Lesson, Notes
from sorted_tuning.sampling import Draw, draw_tokens
from sorted_tuning.topk import top_k


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention of a prefix, or of one query [B, heads, 1, D], over keys and values [B, KV heads, S, D].

    sliding_window: positions that a query sees, its own included.

    For one query, the heads that share a KV head are passed as queries of a single head. Otherwise PyTorch on a CPU
    reads the keys and values once for each of them.
    """
    if query.shape[2] > 1:
        mask = None if sliding_window is None else _window(query.shape[2], sliding_window, query.device)
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
        return out.transpose(1, 2), None
    if sliding_window is not None:
        key, value = key[:, :, -sliding_window:], value[:, :, -sliding_window:]
    grouped = query.squeeze(2).unflatten(1, (key.shape[1], -1))
    return F.scaled_dot_product_attention(grouped, key, value, scale=scaling).flatten(1, 2).unsqueeze(1), None


def _window(length: int, window: int, device: torch.device) -> torch.Tensor:
    """bool [S, S]: whether a position sees another."""
    ago = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (ago >= 0) & (ago < window)


AttentionInterface.register("lockstep", _attend)


class _KeysAndValues:
    """The cache that the layers use: keys and values [B, heads, room, head size] for each layer, in place."""

    def __init__(self, model: PreTrainedModel, rows: int, room: int, dtype: torch.dtype):
        config = model.config

        def empty(shape: tuple[int, ...]) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=model.device)

        shape = (rows, config.num_key_value_heads, room, head_dim(config))
        self.layers = [[empty(shape), empty(shape)] for _ in range(config.num_hidden_layers)]
        self.length = 0

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_, **__) -> tuple[torch.Tensor, ...]:
        """Append keys and values [B or 1, heads, S, head size] (1: the same for all rows); returns all there are."""
        end = self.length + keys.shape[2]
        for held, new in zip(self.layers[layer], (keys, values)):
            held[:, :, self.length : end] = new
        return tuple(held[: len(keys), :, :end] for held in self.layers[layer])

    def keep(self, order: Sequence[int]) -> None:
        """Only these rows, by number, in this order; those that keep their number are not copied."""
        moved = [(to, row) for to, row in enumerate(order) if to != row]
        into, of = torch.tensor(moved, dtype=torch.long, device=self.layers[0][0].device).view(-1, 2).unbind(1)
        for pair in self.layers:
            for i, held in enumerate(pair):
                held[into, :, : self.length] = held[of, :, : self.length]
                pair[i] = held[: len(order)]


class Lockstep:
    """A batch of rows that begin with the same tokens. Its probabilities are the model's."""

    def __init__(
        self,
        model: PreTrainedModel,
        prefix: Sequence[int],
        rows: int,
        room: int,
        generator: torch.Generator,
        *,
        dtype: torch.dtype | None = None,
        notes: Notes | None = None,
    ):
        """`rows` rows that all begin with the prefix; room: the most tokens of a row, with the prefix.

        dtype: the type of products, if not the model's own. notes: collects the model's states and distributions at
        each position. Sets the model's attention.
        """
        self.model, self.rows, self.generator, self.notes = model, rows, generator, notes
        self.dtype = dtype or model.dtype
        model.set_attn_implementation("lockstep")
        self.cache = _KeysAndValues(model, rows, room, self.dtype)
        if prefix:
            self._run(torch.tensor([prefix], device=model.device), notes is not None)

    @torch.inference_mode()
    def step(self, ids: Sequence[int], draws: Sequence[Draw]) -> list[int]:
        """Feed each row its token; returns the next one of each, drawn as its Draw says."""
        values, tokens = self._run(torch.tensor(ids, device=self.model.device).unsqueeze(1), True, draws)
        return draw_tokens(values[:, 0], tokens[:, 0], draws, self.generator).tolist()

    def lesson(self, row: int, ids: list[int]) -> Lesson:
        """The notes of a row, whose tokens so far are these."""
        if self.notes is None:
            raise ValueError("a batch without notes has no lessons")
        return self.notes.lesson(row, ids)

    @torch.inference_mode()
    def leave(self, rows: Collection[int]) -> list[int]:
        """These rows leave; returns the old numbers of the others in their new order: the last ones fill the gaps."""
        left = self.rows - len(rows)
        last = [row for row in range(left, self.rows) if row not in rows]
        order = [last.pop() if row in rows else row for row in range(left)]
        self.cache.keep(order)
        if self.notes is not None:
            self.notes.keep(order)
        self.rows = left
        return order

    @torch.inference_mode()
    def _run(
        self, ids: torch.Tensor, read: bool, draws: Sequence[Draw] = ()
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Feeds ids [B or 1, S]. read: returns the largest logits f32 and their tokens [B or 1, S, k], noted, too."""
        decoder, start = self.model.model, self.cache.length
        with torch.autocast(ids.device.type, self.dtype, enabled=self.dtype != self.model.dtype):
            positions = torch.arange(start, start + ids.shape[1], device=ids.device).unsqueeze(0)
            passed = passage(decoder, ids, positions=positions).with_cache(self.cache)
            for n, x in trunk_states(decoder, passed, len(decoder.layers)):
                if self.notes is not None:
                    self.notes.state(n, start, x)
            self.cache.length += ids.shape[1]
            if not read:
                return None
            logits = self.model.lm_head(head_inputs(self.model, x))
        noted = 0 if self.notes is None else self.notes.k
        most = min(max([noted, *(draw.top_k for draw in draws)]), logits.shape[-1])
        values, tokens = (part.unflatten(0, logits.shape[:2]) for part in top_k(logits.flatten(0, 1), most))
        values = values.float()
        if self.notes is not None:
            p = (values[..., :noted] - logits.float().logsumexp(-1, keepdim=True)).exp()
            self.notes.likely(start, tokens[..., :noted], p)
        return values, tokens
