"""Measurements of a model's activations, for the converter.

Second moments of every linear layer's input, for a GPTQ-like quantizer (arXiv 2210.17323 section 3).

    H = sum over tokens t of x_t x_t^T,  f32 [K, K], K the input width of the linear layer

The largest magnitude of every channel of the keys (rotated, as a KV cache holds them) and of the values, for a KV cache
of bytes: f32 [kv_heads * head_dim] as `{layer}.k_max` and `{layer}.v_max`.

The file (safetensors) holds `layers.{i}.{attn_in,attn_out,mlp_in,mlp_out}.hessian` for the trunk,
`exits.{layer}.layers.{i}.{...}.hessian` for exit blocks, and `tokens` (f32 scalar), the number of summed x.
attn_in feeds q, k and v; attn_out feeds o; mlp_in feeds gate and up; mlp_out feeds down.
`head_in.hessian` is the same of the head's input, summed over all exits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from sorted_tuning.model import SortedLlama


def named_layers(model: SortedLlama) -> Iterator[tuple[str, nn.Module]]:
    """All decoder layers by the name that the file uses: the trunk's, then the exit blocks'."""
    for i, layer in enumerate(model.base.model.layers):
        yield f"layers.{i}", layer
    for exit_layer, block in model.blocks.items():
        for i, layer in enumerate(block.layers):
            yield f"exits.{exit_layer}.layers.{i}", layer


def linear_inputs(model: SortedLlama) -> Iterator[tuple[str, nn.Module]]:
    """Each distinct linear input by its name, with a module that receives it."""
    for name, layer in named_layers(model):
        yield f"{name}.attn_in", layer.self_attn.q_proj
        yield f"{name}.attn_out", layer.self_attn.o_proj
        yield f"{name}.mlp_in", layer.mlp.gate_proj
        yield f"{name}.mlp_out", layer.mlp.down_proj


def head_norms(model: SortedLlama) -> list[nn.Module]:
    """The norms whose outputs the head reads."""
    return [model.base.model.norm, *(block.norm for block in model.blocks.values())]


@torch.no_grad()
def measure(model: SortedLlama, documents: list[list[int]]) -> dict[str, torch.Tensor]:
    """Run the documents one by one through all exits; sum x x^T at every linear input, keep the ranges of K and V."""
    sums: dict[str, torch.Tensor] = {}
    ranges: dict[str, torch.Tensor] = {}
    rotary = model.base.model.rotary_emb
    head_dim = model.base.config.head_dim

    def add(name: str, inputs: torch.Tensor) -> None:
        x = inputs.reshape(-1, inputs.shape[-1]).float()
        product = x.T @ x
        sums[name] = sums[name].add_(product) if name in sums else product

    def add_moments(name: str):
        def hook(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            add(name, args[0])

        return hook

    def widen(name: str, rotate: bool):
        def hook(_module: nn.Module, _args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            # [1, T, kv_heads * head_dim] -> [1, kv_heads, T, head_dim]
            heads = out.unflatten(-1, (-1, head_dim)).transpose(1, 2)
            if rotate:
                cos, sin = rotary(out, torch.arange(out.shape[1])[None])
                heads = apply_rotary_pos_emb(heads, heads, cos, sin)[1]
            largest = heads.float().abs().amax(dim=(0, 2)).flatten()
            ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

        return hook

    def add_normed(_module: nn.Module, _args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        add("head_in", out)

    hooks = [module.register_forward_pre_hook(add_moments(name)) for name, module in linear_inputs(model)]
    hooks += [norm.register_forward_hook(add_normed) for norm in head_norms(model)]
    for name, layer in named_layers(model):
        hooks.append(layer.self_attn.k_proj.register_forward_hook(widen(f"{name}.k_max", rotate=True)))
        hooks.append(layer.self_attn.v_proj.register_forward_hook(widen(f"{name}.v_max", rotate=False)))
    try:
        for ids in tqdm(documents, desc="calibrate", unit="doc"):
            model(torch.tensor([ids]))
    finally:
        for hook in hooks:
            hook.remove()
    result = {f"{name}.hessian": value for name, value in sums.items()} | ranges
    result["tokens"] = torch.tensor(float(sum(map(len, documents))))
    return result


def calibrate(model: SortedLlama, documents: list[list[int]], out: Path) -> int:
    """Write the calibration file; returns how many tokens it saw."""
    result = measure(model, documents)
    save_file(result, out)
    return int(result["tokens"])
