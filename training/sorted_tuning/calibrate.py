"""Second moments of every linear layer's input: what a GPTQ-like quantizer needs (arXiv 2210.17323 section 3).

    H = sum over tokens t of x_t x_t^T,  f32 [K, K], K the input width of the linear layer

Written as safetensors: `layers.{i}.{attn_in,attn_out,mlp_in,mlp_out}.hessian` for the trunk,
`exits.{layer}.layers.{i}.{...}.hessian` for exit blocks, and `tokens` (f32 scalar): how many x were summed.
attn_in feeds q, k and v; attn_out feeds o; mlp_in feeds gate and up; mlp_out feeds down.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from sorted_tuning.model import SortedLlama


def linear_inputs(model: SortedLlama) -> Iterator[tuple[str, nn.Module]]:
    """Each distinct linear input by its name, with a module that receives it."""
    trunk = [(f"layers.{i}", layer) for i, layer in enumerate(model.base.model.layers)]
    blocks = [(f"exits.{e}.layers.{i}", layer) for e, b in model.blocks.items() for i, layer in enumerate(b.layers)]
    for name, layer in trunk + blocks:
        yield f"{name}.attn_in", layer.self_attn.q_proj
        yield f"{name}.attn_out", layer.self_attn.o_proj
        yield f"{name}.mlp_in", layer.mlp.gate_proj
        yield f"{name}.mlp_out", layer.mlp.down_proj


@torch.no_grad()
def hessians(model: SortedLlama, documents: list[list[int]]) -> dict[str, torch.Tensor]:
    """Run the documents one by one through all exits and sum x x^T at every linear input."""
    sums: dict[str, torch.Tensor] = {}

    def watch(name: str):
        def hook(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0].reshape(-1, args[0].shape[-1]).float()
            product = x.T @ x
            sums[name] = sums[name].add_(product) if name in sums else product

        return hook

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in linear_inputs(model)]
    try:
        for ids in tqdm(documents, desc="calibrate", unit="doc"):
            model(torch.tensor([ids]))
    finally:
        for hook in hooks:
            hook.remove()
    result = {f"{name}.hessian": value for name, value in sums.items()}
    result["tokens"] = torch.tensor(float(sum(map(len, documents))))
    return result


def calibrate(model: SortedLlama, documents: list[list[int]], out: Path) -> int:
    """Write the calibration file; returns how many tokens it saw."""
    result = hessians(model, documents)
    save_file(result, out)
    return int(result["tokens"])
