"""The teacher's next-token distribution, computed once, from which self-distillation learns.

A targets file (safetensors) holds:

- `ids` i32 [N, T], and of the base's distribution p at each position `top_ids` i32 [N, T, K] and `top_p` f16 [N, T, K]:
  true probabilities by falling p, not renormalized.
- The held-out documents: `test.ids` [40, T] (padded at the end), `test.length` i32 [40], `test.top_ids`, `test.top_p`.
- `first` bool [N, T], optional: the positions that a step samples before any other (positions of answers).
- `state.{n}` bf16 [N, T, H] for each boundary n: the states of the untouched trunk after n layers. A run with a frozen
  trunk (mode `blocks`) then never runs it.

Knows the file. Must not know exits or optimizers.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sorted_tuning.architectures import head_inputs, passage, trunk_states
from sorted_tuning.data import answer_positions, held_out, training_documents, windows
from sorted_tuning.errors import TuningError
from sorted_tuning.loss import CHUNK
from sorted_tuning.precision import Precision, dtype_of
from sorted_tuning.topk import top_k

TEST_LENGTH = 256
"""Tokens used of each held-out document: the same for every table of the project."""


@dataclass(frozen=True)
class Targets:
    """Windows with the teacher's top-k at each position.

    first: positions to take before any other; None if no file marks any. A file without marks marks all alike.
    states: trunk layer -> hidden states [N, T, H] after it, for the kept boundaries.
    trunk: the fingerprint of their model.
    """

    ids: torch.Tensor
    top_ids: torch.Tensor
    top_p: torch.Tensor
    test_ids: torch.Tensor
    test_length: torch.Tensor
    test_top_ids: torch.Tensor
    test_top_p: torch.Tensor
    first: torch.Tensor | None
    states: dict[int, torch.Tensor]
    trunk: str | None


def fingerprint(base: PreTrainedModel) -> str:
    """A hash of the embedding and the layers: equal only for the same trunk."""
    digest = hashlib.sha256()
    for parameter in (*base.model.embed_tokens.parameters(), *base.model.layers.parameters()):
        digest.update(parameter.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


@torch.no_grad()
def teach(
    base: PreTrainedModel,
    ids: torch.Tensor,
    k: int,
    batch: int,
    precision: Precision,
    boundaries: tuple[int, ...] = (),
) -> tuple[torch.Tensor, torch.Tensor, dict[int, torch.Tensor]]:
    """Top-k ids and probabilities of the base at every position of ids [N, T], softmax in fp32.

    Third: the hidden states bf16 [N, T, H] after each of the trunk layers in `boundaries`.
    """
    dtype, device = dtype_of(precision), base.device
    weight = base.lm_head.weight.to(dtype)
    top_ids = torch.empty(*ids.shape, k, dtype=torch.int32)
    top_p = torch.empty(*ids.shape, k, dtype=torch.float16)
    states = {n: torch.empty(*ids.shape, base.config.hidden_size, dtype=torch.bfloat16) for n in boundaries}
    for start in tqdm(range(0, len(ids), batch), desc="targets", unit="batch", mininterval=30):
        at = slice(start, start + batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            passed = passage(base.model, ids[at].long().to(device))
            for n, x in trunk_states(base.model, passed, len(base.model.layers)):
                if n in states:
                    states[n][at] = x.to(torch.bfloat16).cpu()
            h = head_inputs(base, x).to(dtype).flatten(0, 1)
            rows = [_most_likely(F.linear(chunk, weight), k) for chunk in h.split(CHUNK)]
        top_p[at] = torch.cat([p for p, _ in rows]).view(*x.shape[:2], k).half().cpu()
        top_ids[at] = torch.cat([ids for _, ids in rows]).view(*x.shape[:2], k).int().cpu()
    return top_ids, top_p, states


def _most_likely(z: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids [R, k] of the most likely tokens by logits [R, V]."""
    values, ids = top_k(z, k)
    return (values.float() - torch.logsumexp(z.float(), -1, keepdim=True)).exp(), ids


def write_targets(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: list[Path],
    out: Path,
    *,
    length: int,
    k: int,
    batch: int,
    seed: int,
    precision: Precision,
    boundaries: tuple[int, ...] = (),
    answers_first: bool = False,
    never: Collection[str] = (),
) -> int:
    """Cut the data into windows, run the teacher and write the targets file; returns the number of training tokens.

    answers_first: mark the positions of answers. never: questions that no training document may ask.
    """
    layers = base.config.num_hidden_layers
    for n in boundaries:
        if not 1 <= n < layers:
            raise TuningError(f"boundaries: must lie after one of the trunk layers 1 to {layers - 1}, got {n}")
    ids = windows(training_documents(tokenizer, data, never), length, seed)
    tensors = {"ids": ids}
    if answers_first:
        tensors["first"] = answer_positions(tokenizer, ids)
    tensors["top_ids"], tensors["top_p"], states = teach(base, ids, k, batch, precision, boundaries)
    tensors |= {f"state.{n}": kept for n, kept in states.items()}
    documents = [doc[:TEST_LENGTH] for doc in held_out(tokenizer, data[0])]
    pad = tokenizer.eos_token_id or 0
    test = torch.tensor([doc + [pad] * (TEST_LENGTH - len(doc)) for doc in documents], dtype=torch.int32)
    tensors |= {"test.ids": test, "test.length": torch.tensor([len(d) for d in documents], dtype=torch.int32)}
    tensors["test.top_ids"], tensors["test.top_p"], _ = teach(base, test, k, batch, precision)
    metadata = {"vocab": str(base.config.vocab_size)} | ({"trunk": fingerprint(base)} if boundaries else {})
    save_file(tensors, out, metadata=metadata)
    return ids.numel()


def read_targets(paths: Sequence[Path], vocab: int) -> Targets:
    """Read one targets file or several (their windows one after the other), made for a model of this vocabulary.

    The held-out documents must be the same in all, since one file may train on what another holds out. Of the states,
    those boundaries are kept that every file has.
    """
    read = [_read(path, vocab) for path in paths]
    first = read[0]
    for path, other in zip(paths[1:], read[1:]):
        ours, theirs = _windows(first), _windows(other)
        if ours != theirs:
            raise TuningError(f"targets: {path} must have windows as {paths[0]} has, {ours}, got {theirs}")
        if not (torch.equal(first.test_ids, other.test_ids) and torch.equal(first.test_length, other.test_length)):
            raise TuningError(f"targets: {path} must hold out the documents that {paths[0]} does, got others")
        if first.states and other.states and first.trunk != other.trunk:
            raise TuningError(f"targets: the states in {path} must be of the trunk that those in {paths[0]} are of")
    if len(read) == 1:
        return first
    marks = [torch.ones_like(t.ids, dtype=torch.bool) if t.first is None else t.first for t in read]
    return dataclasses.replace(
        first,
        ids=torch.cat([t.ids for t in read]),
        top_ids=torch.cat([t.top_ids for t in read]),
        top_p=torch.cat([t.top_p for t in read]),
        first=torch.cat(marks) if any(t.first is not None for t in read) else None,
        states={n: torch.cat([t.states[n] for t in read]) for n in first.states if all(n in t.states for t in read)},
    )


def held_out_of(path: Path, vocab: int) -> list[list[int]]:
    """The held-out documents of a targets file, up to TEST_LENGTH tokens of each."""
    with _opened(path, vocab) as file:
        ids, length = file.get_tensor("test.ids"), file.get_tensor("test.length")
    return [row[:n] for row, n in zip(ids.tolist(), length.tolist(), strict=True)]


def _windows(targets: Targets) -> str:
    return f"of {targets.ids.shape[1]} tokens with the top {targets.top_ids.shape[-1]}"


@contextmanager
def _opened(path: Path, vocab: int) -> Iterator[safe_open]:
    """A targets file for this vocabulary, open. A read error is a TuningError, too."""
    try:
        with safe_open(path, "pt") as file:
            own = (file.metadata() or {}).get("vocab")
            if own != str(vocab):
                raise TuningError(f"targets: {path} must be of the model's vocabulary {vocab}, got {own}")
            yield file
    except (SafetensorError, FileNotFoundError) as error:
        raise TuningError(f"targets: {path} must be a file written by `sorted-tuning targets`: {error}") from error


def _read(path: Path, vocab: int) -> Targets:
    with _opened(path, vocab) as file:
        trunk = file.metadata().get("trunk")
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
    if not len(found["ids"]):
        raise TuningError(f"targets: {path} must hold at least one window, got none")
    states = {int(name.removeprefix("state.")): kept for name, kept in found.items() if name.startswith("state.")}
    fields = {name.replace(".", "_"): kept for name, kept in found.items() if not name.startswith("state.")}
    return Targets(**{"first": None} | fields, states=states, trunk=trunk)
