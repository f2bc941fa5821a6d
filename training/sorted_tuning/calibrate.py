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
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sorted_tuning.model import SortedModel


def named_layers(model: SortedModel) -> Iterator[tuple[str, nn.Module]]:
    """All decoder layers by the name that the file uses: the trunk's, then the exit blocks'."""
    for i, layer in enumerate(model.base.model.layers):
        yield f"layers.{i}", layer
    for exit_layer, block in model.blocks.items():
        for i, layer in enumerate(block.layers):
            yield f"exits.{exit_layer}.layers.{i}", layer


LINEAR = {
    "attn_in": ("self_attn.q_proj", "self_attn.qkv_proj"),
    "attn_out": ("self_attn.o_proj",),
    "mlp_in": ("mlp.gate_proj", "mlp.gate_up_proj", "shared_mlp.input_linear"),
    "mlp_out": ("mlp.down_proj", "shared_mlp.output_linear"),
}
"""Inputs of linear layers, with the names of a layer that receives each: packed in Phi-3 and Granite 4."""


def linear_inputs(model: SortedModel) -> Iterator[tuple[str, nn.Module]]:
    """Each distinct linear input by its name, with a module that receives it."""
    for name, layer in named_layers(model):
        for part, names in LINEAR.items():
            yield f"{name}.{part}", next(module for own, module in layer.named_modules() if own in names)


def head_norms(model: SortedModel) -> list[nn.Module]:
    """The norms whose outputs the head reads."""
    return [model.base.model.norm, *(block.norm for block in model.blocks.values())]


@torch.no_grad()
def measure(model: SortedModel, documents: list[list[int]]) -> dict[str, torch.Tensor]:
    """Run the documents one by one through all exits; sum x x^T at every linear input, keep the ranges of K and V."""
    sums: dict[str, torch.Tensor] = {}
    ranges: dict[str, torch.Tensor] = {}

    def add(name: str, inputs: torch.Tensor) -> None:
        x = inputs.reshape(-1, inputs.shape[-1]).float()
        product = x.T @ x
        sums[name] = sums[name].add_(product) if name in sums else product

    def add_moments(name: str):
        def hook(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            add(name, args[0])

        return hook

    def widen(name: str, values: torch.Tensor) -> None:
        """values [1, kv_heads, T, head_dim], as a cache holds them."""
        largest = values.float().abs().amax(dim=(0, 2)).flatten()
        ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest

    names = {layer.self_attn: name for name, layer in named_layers(model)}
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend_measured(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest, **more):
        widen(f"{names[module]}.k_max", key)
        widen(f"{names[module]}.v_max", value)
        return attend(module, query, key, value, *rest, **more)

    def add_normed(_module: nn.Module, _args: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        add("head_in", out)

    hooks = [module.register_forward_pre_hook(add_moments(name)) for name, module in linear_inputs(model)]
    hooks += [norm.register_forward_hook(add_normed) for norm in head_norms(model)]
    AttentionInterface.register("measured", attend_measured)
    AttentionMaskInterface.register("measured", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    implementation = model.base.config._attn_implementation
    model.base.set_attn_implementation("measured")
    try:
        for ids in tqdm(documents, desc="calibrate", unit="doc"):
            model(torch.tensor([ids]))
    finally:
        model.base.set_attn_implementation(implementation)
        for hook in hooks:
            hook.remove()
    result = {f"{name}.hessian": value for name, value in sums.items()} | ranges
    result["tokens"] = torch.tensor(float(sum(map(len, documents))))
    return result


def calibrate(model: SortedModel, documents: list[list[int]], out: Path) -> int:
    """Write the calibration file; returns how many tokens it saw."""
    result = measure(model, documents)
    save_file(result, out)
    return int(result["tokens"])
