"""Read a converted model folder back into fp32 tensors, whatever kernel its graphs use.

Knows the manifest and the ONNX operators that hold weights. Must not know ONNX Runtime: no graph runs here.
Linear weights come back as [out, in]; names are those of the initializers without their kernel's suffix.
"""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sorted_tuning.errors import TuningError

Tensors = dict[str, np.ndarray]

CONSTANT = {
    "Cast": lambda x: x.astype(np.float32),
    "Mul": lambda a, b: a * b,
    "Reshape": lambda x, shape: x.reshape(shape),
    "Transpose": np.transpose,
}
"""Operators that a graph may apply to its own constants before it uses them; of matrices, when it turns them."""


MANIFEST_VERSION = 3


def read_manifest(folder: Path) -> dict:
    """manifest.json of a model folder."""
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise TuningError(f"model folder: must hold a manifest.json, got {folder}")
    manifest = json.loads(path.read_text("utf-8"))
    if manifest.get("format") != "sortie" or manifest.get("version") != MANIFEST_VERSION:
        raise TuningError(
            f"{path}: must be format sortie version {MANIFEST_VERSION}, "
            f"got {manifest.get('format')!r} {manifest.get('version')!r}"
        )
    return manifest


def read_weights(folder: Path, kernel: str) -> Tensors:
    """Every weight of the embedding, the head and one kernel's stages and exit blocks, dequantized to fp32."""
    folder, manifest = Path(folder), read_manifest(folder)
    if kernel not in manifest["kernels"]:
        raise TuningError(f"kernel: must be one of {manifest['kernels']} in {folder}, got {kernel!r}")
    blocks = [e["block"] for e in manifest["exits"] if e["block"]]
    files = [entry["graphs"][kernel] for entry in manifest["stages"] + blocks]
    weights: Tensors = {}
    for name in [manifest["embed"], manifest["head"], *files]:
        weights.update(_graph_weights(folder / name))
    # A levelled head's input is multiplied by this before it is multiplied by a norm: back to the head it was.
    undo = weights.pop("head.undo", None)
    if undo is not None and "head.weight" in weights:
        weights["head.weight"] = weights["head.weight"] * undo
    return weights


def _graph_weights(path: Path) -> Tensors:
    graph = onnx.load(path, load_external_data=False).graph
    raw = {t.name: _values(t, path.parent) for t in graph.initializer}
    found: Tensors = {}
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [raw.get(name) for name in node.input]
        if node.op_type in CONSTANT and all(value is not None for value in inputs):
            # Packed constants that the graph unpacks, such as scales in 8-bit codes.
            raw[node.output[0]] = CONSTANT[node.op_type](*inputs)
            continue
        match node.op_type:
            case "MatMul":
                found[_key(node.input[1])] = inputs[1].T
            case "Gemm":
                found[_key(node.input[1])] = inputs[1] if attributes.get("transB") else inputs[1].T
            case "MatMulNBits":
                found[_key(node.input[1])] = dequantize_blocks(
                    inputs[1], inputs[2], attributes["bits"], attributes["K"], _fourth(inputs)
                )
            case "MatMulIntegerToFloat":
                # Inputs: x, weight [in, out], x's scale, weight's scale per column, zero points (weights have none).
                found[_key(node.input[1])] = (inputs[1].astype(np.float32) * inputs[3]).T
            case "Gather" if _ends(node.input[0], "weight"):
                found["embed"] = _embedding(raw, node.input[0])
            case "Gather" if _ends(node.input[0], "scale"):
                pass  # of the embedding's bytes
            case "GatherBlockQuantized":
                width = raw[node.input[0]].size // raw[node.input[0]].shape[0] * 8 // attributes["bits"]
                found["embed"] = dequantize_blocks(inputs[0], inputs[2], attributes["bits"], width, _fourth(inputs))
            case "Add" if _ends(node.input[1], "bias"):
                found[node.input[1]] = inputs[1]
            case "Gather":
                found["norms"] = inputs[0]
            case "SimplifiedLayerNormalization":
                found[_key(node.input[1])] = inputs[1]
            case "SkipSimplifiedLayerNormalization":
                found[_key(node.input[2])] = inputs[2]
    found = {name: np.array(value, dtype=np.float32, order="C") for name, value in found.items()}
    for node in graph.node:
        if node.op_type == "GroupQueryAttention":
            _unscale_queries(found, node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
    return found


def _embedding(raw: Tensors, name: str) -> np.ndarray:
    """A tensor that tokens' rows are gathered from; bytes have a scale for each row, and maybe one for each channel."""
    if raw[name].dtype != np.int8:
        return raw[name]
    rows = raw[name] * raw[name.replace(".weight_", ".scale_")][:, None]
    return rows * raw.get("embed.undo", np.float32(1))


def _unscale_queries(found: Tensors, node: onnx.NodeProto, attributes: dict) -> None:
    """Removes the part of attention's 1 / sqrt(head size) that the queries' rows carry."""
    layer = node.output[0].removesuffix(".attention.out")
    heads, kv_heads = attributes["num_heads"], attributes["kv_num_heads"]
    for name in (f"{layer}.qkv.weight", f"{layer}.qkv.bias"):
        if name in found:
            size = len(found[name]) // (heads + 2 * kv_heads)
            found[name][: heads * size] *= np.float32(attributes["scale"] * size**0.5)


def dequantize_blocks(
    packed: np.ndarray, scales: np.ndarray, bits: int, width: int, zero_points: np.ndarray | None = None
) -> np.ndarray:
    """MatMulNBits' and GatherBlockQuantized's layout, [N, blocks, bytes] and a scale per block, to fp32 [N, width].

    Values are unsigned, the low nibble first; without zero points the zero is the middle, 2^(bits-1).
    """
    rows = packed.shape[0]
    scales = scales.astype(np.float32).reshape(rows, -1, 1)
    values = packed.reshape(rows, scales.shape[1], -1)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], -1).reshape(rows, scales.shape[1], -1)
    zero: np.ndarray | int = 1 << (bits - 1)
    if zero_points is not None:
        flat = zero_points.reshape(rows, -1)
        if bits == 4:
            flat = np.stack([flat & 15, flat >> 4], -1).reshape(rows, -1)[:, : scales.shape[1]]
        zero = flat[..., None].astype(np.float32)
    return ((values.astype(np.float32) - zero) * scales).reshape(rows, -1)[:, :width]


def _fourth(inputs: list[np.ndarray | None]) -> np.ndarray | None:
    return inputs[3] if len(inputs) > 3 else None


def _ends(name: str, word: str) -> bool:
    return re.search(rf"\.{word}(_\w+)?$", name) is not None


def _key(name: str) -> str:
    """`layers.0.qkv.weight_q4`, or the tensor that the graph makes of it at load -> `layers.0.qkv.weight`."""
    return re.sub(r"\.weight(_\w+)?$", ".weight", name.removesuffix(".turned"))


def _values(tensor: onnx.TensorProto, folder: Path) -> np.ndarray:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    where = {entry.key: entry.value for entry in tensor.external_data}
    start = int(where.get("offset", 0))
    data = _file(folder / where["location"])[start : start + int(where["length"])]
    return np.frombuffer(data, dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tuple(tensor.dims))


@cache
def _file(path: Path) -> bytes:
    """External data, which a model folder may hold gzip-compressed."""
    return path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
