"""The calibration against x x^T summed by hand from the layers' own inputs, and the ranges of a real KV cache."""

import torch
from safetensors.torch import load_file

from sorted_tuning.calibrate import calibrate
from sorted_tuning.exits import parse_exits
from sorted_tuning.model import SortedModel

DOCUMENTS = [[5, 80, 130, 7], [44, 91], [3]]


def test_against_a_naive_sum(base, tmp_path):
    model = SortedModel(base, parse_exits("1+1,4"))
    assert calibrate(model, DOCUMENTS, tmp_path / "h.safetensors") == 7
    found = load_file(tmp_path / "h.safetensors")
    assert found["tokens"] == 7
    assert len(found) == 2 + (4 + 2) * (4 + 1)

    expected = torch.zeros(32, 32)
    block_in = torch.zeros(32, 32)
    head_in = torch.zeros(32, 32)
    for ids in DOCUMENTS:
        for x in torch.cat([x[0] for x in model(torch.tensor([ids])).values()]):
            head_in += torch.outer(x, x)
        states = base(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for x in base.model.layers[1].input_layernorm(states[1])[0]:
            expected += torch.outer(x, x)
        for x in model.blocks["1"].layers[0].input_layernorm(states[1])[0]:
            block_in += torch.outer(x, x)
    torch.testing.assert_close(found["layers.1.attn_in.hessian"], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["exits.1.layers.0.attn_in.hessian"], block_in, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["head_in.hessian"], head_in, atol=1e-4, rtol=1e-4)
    assert found["layers.2.attn_out.hessian"].shape == (64, 64)
    assert found["layers.3.mlp_out.hessian"].shape == (64, 64)
    for name, h in found.items():
        if name.endswith(".hessian"):
            torch.testing.assert_close(h, h.T)
            assert h.diagonal().min() >= 0


def test_ranges_are_those_of_the_cache(base, tmp_path):
    model = SortedModel(base, parse_exits("1+1,4"))
    calibrate(model, DOCUMENTS, tmp_path / "h.safetensors")
    found = load_file(tmp_path / "h.safetensors")
    caches = [base(torch.tensor([ids]), use_cache=True).past_key_values for ids in DOCUMENTS]
    for layer in range(4):
        keys = torch.cat([cache.layers[layer].keys[0] for cache in caches], dim=1)
        values = torch.cat([cache.layers[layer].values[0] for cache in caches], dim=1)
        torch.testing.assert_close(found[f"layers.{layer}.k_max"], keys.abs().amax(1).flatten())
        torch.testing.assert_close(found[f"layers.{layer}.v_max"], values.abs().amax(1).flatten())
    assert found["exits.1.layers.0.k_max"].shape == found["layers.0.k_max"].shape
