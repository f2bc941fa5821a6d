"""The Llama forward pass, written out in fp32 with nothing but tensor algebra: slow, short and easy to check.

    RMSNorm(x)  = g * x / sqrt(mean(x^2) + eps)
    RoPE        = pairs (i, i + D/2) of a head turned by position * theta^(-2i/D)   (half rotation)
    attention   = softmax(q k^T / sqrt(D) + causal mask) v,  each KV head shared by heads / kvHeads query heads
    MLP(x)      = down(silu(gate x) * up x)

Knows the converted folder's tensor names. Must not know transformers or ONNX Runtime.
"""

from __future__ import annotations

import math

import torch

from sorted_tuning.errors import TuningError
from sorted_tuning.reference.converted import Tensors

LLAMA = {
    "qkNorm": "none",
    "norms": "pre",
    "activation": "silu",
    "softcap": None,
    "logitSoftcap": None,
    "embeddingScale": 1,
    "queryGrowth": None,
    "pattern": [{"rotary": 0, "window": None}],
}
"""The fields of an architecture in which every Llama is the same."""


class PlainModel:
    """A manifest and fp32 weights as a function from token ids to the last position's logits at every exit."""

    def __init__(self, manifest: dict, weights: Tensors):
        self.manifest, self.arch = manifest, manifest["architecture"]
        for field, value in LLAMA.items():
            if self.arch.get(field, value) != value:
                raise TuningError(f"model folder: must hold a Llama, whose {field} is {value}, got {self.arch[field]}")
        self.weights = {name: torch.from_numpy(value) for name, value in weights.items()}
        self.head = self.weights["head.weight"] if "head.weight" in self.weights else self.weights["embed"]

    @torch.no_grad()
    def logits(self, ids: list[int]) -> dict[int, torch.Tensor]:
        """fp32 logits [V] of the last position by exit: the number of layers that run for it, its block included."""
        x = self.weights["embed"][torch.tensor(ids)]
        rope = self._rope(len(ids))
        # The manifest numbers exits by all layers that run; a block's tensors are named after its trunk layer.
        exits = {e["layer"] - (e["block"]["layers"] if e["block"] else 0): e for e in self.manifest["exits"]}
        found = {}
        for i in range(self.arch["layers"]):
            x = self._layer(f"layers.{i}", x, rope)
            if i + 1 in exits:
                exit_ = exits[i + 1]
                y = x
                for j in range(exit_["block"]["layers"] if exit_["block"] else 0):
                    y = self._layer(f"exits.{i + 1}.layers.{j}", y, rope)
                found[exit_["layer"]] = self.head @ self._norm(y[-1], self.weights["norms"][exit_["norm"]])
        return found

    def _norm(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return gain * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.arch["normEps"])

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weights[f"{name}.weight"].T
        return y + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else y

    def _layer(self, name: str, x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x = x + self._attention(name, self._norm(x, self.weights[f"{name}.attn_norm"]), rope)
        y = self._norm(x, self.weights[f"{name}.mlp_norm"])
        gate, up = self._linear(f"{name}.gate", y), self._linear(f"{name}.up", y)
        return x + self._linear(f"{name}.down", torch.nn.functional.silu(gate) * up)

    def _attention(self, name: str, x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        heads, kv, width, length = self.arch["heads"], self.arch["kvHeads"], self.arch["headDim"], x.shape[0]
        q, k, v = self._linear(f"{name}.qkv", x).split([heads * width, kv * width, kv * width], -1)
        q = _turn(q.view(length, heads, width).transpose(0, 1), rope)
        k = _turn(k.view(length, kv, width).transpose(0, 1), rope).repeat_interleave(heads // kv, 0)
        v = v.view(length, kv, width).transpose(0, 1).repeat_interleave(heads // kv, 0)
        scores = q @ k.transpose(1, 2) / math.sqrt(width)
        scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(length, heads * width)
        return self._linear(f"{name}.o", mixed)

    def _rope(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        width = self.arch["headDim"]
        rotary = self.arch["rotary"][0]
        turns = rotary["theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        if rotary["scaling"]:
            turns = _llama3(turns, rotary["scaling"])
        angles = torch.outer(torch.arange(length, dtype=torch.float64), turns)
        return angles.cos().float(), angles.sin().float()


def _turn(x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = rope
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _llama3(turns: torch.Tensor, scaling: dict) -> torch.Tensor:
    """Llama 3's scaling: long waves are slowed by `factor`, short ones kept, those between blended."""
    waves = 2 * math.pi / turns
    context = scaling["originalContext"]
    blend = (context / waves - scaling["lowFreqFactor"]) / (scaling["highFreqFactor"] - scaling["lowFreqFactor"])
    blend = blend.clamp(0, 1)
    return (1 - blend) * turns / scaling["factor"] + blend * turns
