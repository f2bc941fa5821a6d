"""The plain reference against transformers, and a model folder's graphs read back."""

import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import LlamaConfig, LlamaForCausalLM

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import parse_exits
from sorted_tuning.model import SortedModel
from sorted_tuning.reference import blocks
from sorted_tuning.reference.blocks import read_blocks
from sorted_tuning.reference.converted import read_manifest, read_weights
from sorted_tuning.reference.golden import TOP, golden
from sorted_tuning.reference.plain import PlainModel
from sorted_tuning.reference.tiny import randomize

IDS = list(range(3, 120))


def as_folder(model):
    """The manifest's parts and the weights that a converter would have written."""
    c = model.base.config
    rope = c.rope_parameters
    scaling = None
    if rope["rope_type"] == "llama3":
        names = {
            "factor": "factor",
            "lowFreqFactor": "low_freq_factor",
            "highFreqFactor": "high_freq_factor",
            "originalContext": "original_max_position_embeddings",
        }
        scaling = {ours: rope[theirs] for ours, theirs in names.items()}
    arch = {
        "layers": c.num_hidden_layers, "heads": c.num_attention_heads, "kvHeads": c.num_key_value_heads,
        "headDim": c.head_dim, "normEps": c.rms_norm_eps,
        "rotary": [{"theta": rope["rope_theta"], "scaling": scaling}],
    }  # fmt: skip
    weights, norms, exits = {"embed": model.base.model.embed_tokens.weight, "head.weight": model.head}, [], []
    layers = [(f"layers.{i}", layer) for i, layer in enumerate(model.base.model.layers)]
    norms.append(model.base.model.norm.weight)
    for e in model.exits:
        block = model.blocks[str(e.layer)] if e.block else None
        exits.append(
            {"layer": e.executed, "block": {"layers": e.block} if block else None, "norm": len(norms) if block else 0}
        )
        if block:
            norms.append(block.norm.weight)
            layers += [(f"exits.{e.layer}.layers.{j}", layer) for j, layer in enumerate(block.layers)]
    for name, layer in layers:
        a, m = layer.self_attn, layer.mlp
        weights[f"{name}.qkv.weight"] = torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight])
        if c.attention_bias:
            weights[f"{name}.qkv.bias"] = torch.cat([a.q_proj.bias, a.k_proj.bias, a.v_proj.bias])
            weights[f"{name}.o.bias"] = a.o_proj.bias
        weights |= {f"{name}.o.weight": a.o_proj.weight, f"{name}.gate.weight": m.gate_proj.weight}
        weights |= {f"{name}.up.weight": m.up_proj.weight, f"{name}.down.weight": m.down_proj.weight}
        weights[f"{name}.attn_norm"] = layer.input_layernorm.weight
        weights[f"{name}.mlp_norm"] = layer.post_attention_layernorm.weight
    weights["norms"] = torch.stack(norms)
    return {"architecture": arch, "exits": exits}, {n: w.detach().numpy() for n, w in weights.items()}


def other_llama():
    """Untied, biased, multi-head, llama3 rope."""
    torch.manual_seed(5)
    rope = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    config = LlamaConfig(
        vocab_size=130, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, head_dim=16,
        attention_bias=True, tie_word_embeddings=False, initializer_range=0.2, rope_parameters=rope,
        max_position_embeddings=512, rms_norm_eps=1e-5,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.2)
    return randomize(model).eval()


@pytest.mark.parametrize("exits", ["1,2,4", "1+2,4"])
def test_plain_equals_transformers(base, exits):
    check(SortedModel(base, parse_exits(exits)))


def test_plain_equals_transformers_on_the_other_shapes():
    check(SortedModel(other_llama(), parse_exits("1+1,3")))


@torch.no_grad()
def check(model):
    randomize(model.blocks)
    plain = PlainModel(*as_folder(model)).logits(IDS)
    assert list(plain) == [e.executed for e in model.exits]
    hidden = model(torch.tensor([IDS]))
    for e in model.exits:
        torch.testing.assert_close(plain[e.executed], model.head @ hidden[e.layer][0, -1], atol=2e-5, rtol=1e-4)


def test_golden_entries_hold_the_highest_logits():
    row = torch.arange(20.0)
    [entry] = golden(lambda ids: {3: row}, [("text", [1, 2])])
    assert entry["ids"] == [1, 2]
    assert entry["exits"]["3"] == {"ids": [19 - i for i in range(TOP)], "logits": [19.0 - i for i in range(TOP)]}


def test_reading_a_folder_with_compressed_external_data(tmp_path):
    weight = np.arange(12, dtype=np.int8).reshape(3, 4)
    scale = np.array([0.5, 1, 2, 4], np.float32)
    (tmp_path / "weights.bin.gz").write_bytes(gzip.compress(b"\0" * 8 + weight.tobytes()))
    external = TensorProto(name="layers.0.o.weight_q8", data_type=TensorProto.INT8, dims=[3, 4])
    external.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "8"), ("length", "12")):
        external.external_data.add(key=key, value=value)
    others = [
        numpy_helper.from_array(np.float32(1 / 127), "unit"),
        numpy_helper.from_array(scale, "layers.0.o.scale_q8"),
    ]
    node = helper.make_node(
        "MatMulIntegerToFloat", ["x", external.name, "unit", "layers.0.o.scale_q8"], ["y"], domain="com.microsoft"
    )
    empty = helper.make_graph([], "empty", [], [])
    onnx.save(helper.make_model(helper.make_graph([node], "stage", [], [], [external, *others])), tmp_path / "s.onnx")
    onnx.save(helper.make_model(empty), tmp_path / "empty.onnx")
    manifest = {
        "format": "sortie", "version": 3, "kernels": ["w8a8"], "embed": "empty.onnx", "head": "empty.onnx",
        "stages": [{"graphs": {"w8a8": "s.onnx"}}], "exits": [{"block": None}],
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_weights(tmp_path, "w8a8")["layers.0.o.weight"].tolist() == (weight * scale).T.tolist()
    with pytest.raises(TuningError, match="kernel: must be one of"):
        read_weights(tmp_path, "int4")
    with pytest.raises(TuningError, match="must hold a manifest.json"):
        read_weights(tmp_path / "none", "int4")


def test_scales_that_the_graph_unpacks_itself(tmp_path):
    packed = np.array([[[0x80, 0xF7]], [[0x80, 0xF7]]], np.uint8)
    constants = {
        "head.weight_q4": packed,
        "codes": np.array([[2], [4]], np.int8),
        "units": np.array([[0.25], [0.25]], np.float32),
        "flat": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["codes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "units"], ["scales"]),
        helper.make_node("Reshape", ["scales", "flat"], ["scale"]),
        helper.make_node(
            "MatMulNBits",
            ["x", "head.weight_q4", "scale"],
            ["y"],
            domain="com.microsoft",
            K=4,
            N=2,
            bits=4,
            block_size=4,
        ),
    ]
    graph = helper.make_graph(nodes, "head", [], [], [numpy_helper.from_array(v, n) for n, v in constants.items()])
    onnx.save(helper.make_model(graph), tmp_path / "head.onnx")
    onnx.save(helper.make_model(helper.make_graph([], "empty", [], [])), tmp_path / "empty.onnx")
    manifest = {"format": "sortie", "version": 3, "kernels": ["int4"], "embed": "empty.onnx", "head": "head.onnx"}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "stages": [], "exits": []}))
    assert read_weights(tmp_path, "int4")["head.weight"].tolist() == [[-4, 0, -0.5, 3.5], [-8, 0, -1, 7]]


def test_a_levelled_head_in_bytes_that_the_embedding_shares(tmp_path):
    """Stored by tokens; the head turns it, and both multiply what levelling did out of it again."""
    stored, undo = np.array([[10, -20], [3, 4], [0, 127]], np.int8), np.array([0.5, 4], np.float32)
    scale, norms = np.array([0.5, 2, 1], np.float32), np.array([[1, 2], [3, 4]], np.float32)
    w, s = "head.weight_q8", "head.scale_q8"
    graphs = {
        "embed": [
            helper.make_node("Gather", [w, "ids"], ["rows"]),
            helper.make_node("Gather", [s, "ids"], ["scales"]),
            helper.make_node("Mul", ["levelled", "embed.undo"], ["hidden"]),
        ],
        "head": [
            helper.make_node("SimplifiedLayerNormalization", ["hidden", "head.undo"], ["unit"]),
            helper.make_node("Gather", ["head.norms", "norm"], ["norm_rows"]),
            helper.make_node("Transpose", [w], [f"{w}.turned"], perm=[1, 0]),
            helper.make_node(
                "MatMulIntegerToFloat", ["bytes", f"{w}.turned", "step", s], ["logits"], domain="com.microsoft"
            ),
        ],
    }
    constants = {w: stored, s: scale, "embed.undo": undo, "head.undo": undo, "head.norms": norms}
    constants["step"] = np.float32(1 / 127)
    for name, nodes in graphs.items():
        initializers = [numpy_helper.from_array(v, n) for n, v in constants.items()]
        onnx.save(helper.make_model(helper.make_graph(nodes, name, [], [], initializers)), tmp_path / f"{name}.onnx")
    manifest = {"format": "sortie", "version": 3, "kernels": ["w8a8"], "embed": "embed.onnx", "head": "head.onnx"}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "stages": [], "exits": []}))
    found = read_weights(tmp_path, "w8a8")
    assert set(found) == {"embed", "head.weight", "norms"}
    expected = stored * scale[:, None] * undo
    assert found["embed"].tolist() == expected.tolist()
    assert found["head.weight"].tolist() == expected.tolist()
    assert found["norms"].tolist() == norms.tolist()


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_queries_that_carry_attentions_scale(tmp_path, scale):
    # 1 head and 1 KV head of 4: attention scales by 0.5, and what it does not is in the queries' rows.
    true = np.arange(24, dtype=np.float32).reshape(12, 2)
    stored = true.copy()
    stored[:4] *= np.float32(0.5 / scale)
    nodes = [
        helper.make_node("MatMul", ["x", "layers.0.qkv.weight"], ["layers.0.qkv.out"]),
        helper.make_node(
            "GroupQueryAttention",
            ["layers.0.qkv.out"],
            ["layers.0.attention.out"],
            domain="com.microsoft",
            num_heads=1,
            kv_num_heads=1,
            scale=scale,
        ),
    ]
    constants = [numpy_helper.from_array(stored.T.copy(), "layers.0.qkv.weight")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "stage", [], [], constants)), tmp_path / "s.onnx")
    onnx.save(helper.make_model(helper.make_graph([], "empty", [], [])), tmp_path / "empty.onnx")
    manifest = {"format": "sortie", "version": 3, "kernels": ["fp32"], "embed": "empty.onnx", "head": "empty.onnx"}
    (tmp_path / "manifest.json").write_text(
        json.dumps({**manifest, "stages": [{"graphs": {"fp32": "s.onnx"}}], "exits": []})
    )
    assert read_weights(tmp_path, "fp32")["layers.0.qkv.weight"].tolist() == true.tolist()


def test_blocks_of_the_embedded_model_go_back_onto_a_base(tmp_path):
    """Names and shapes are those of the model that was tuned; the norms are their own."""
    folder = Path(__file__).parents[2] / "models" / "smollm2-135m-sorted"
    exits, found = read_blocks(folder)
    arch = read_manifest(folder)["architecture"]
    config = LlamaConfig(
        hidden_size=arch["hidden"], intermediate_size=arch["ffn"], num_hidden_layers=arch["layers"],
        num_attention_heads=arch["heads"], num_key_value_heads=arch["kvHeads"], head_dim=arch["headDim"],
        vocab_size=8, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = SortedModel(LlamaForCausalLM(config), exits)
    assert {n: w.shape for n, w in found.items()} == {n: w.shape for n, w in model.blocks.state_dict().items()}
    norms = [found[f"{e.layer}.norm.weight"] for e in exits if e.block]
    assert all(not torch.equal(a, b) for a, b in zip(norms, norms[1:]))
    stages, plain = [{"layers": 30}], [{"block": None}]
    manifest = {"format": "sortie", "version": 3, "architecture": arch, "stages": stages, "exits": plain}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TuningError, match="blocks-from: must be a model folder with exit blocks"):
        read_blocks(tmp_path)


def test_blocks_with_biases_go_back_onto_a_base(monkeypatch, tmp_path):
    model = SortedModel(other_llama(), parse_exits("1+1,3"))
    model.blocks.load_state_dict({n: torch.randn_like(w) for n, w in model.blocks.state_dict().items()})
    parts, weights = as_folder(model)
    manifest = parts | {"kernels": ["fp32"], "stages": [{"layers": 1}, {"layers": 2}]}
    monkeypatch.setattr(blocks, "read_manifest", lambda _: manifest)
    monkeypatch.setattr(blocks, "read_weights", lambda *_: weights)
    exits, found = read_blocks(tmp_path)
    assert exits == model.exits
    expected = model.blocks.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
