"""Instruction data: JSONL rows {"q": question, "a": answer, "done": ended by itself} into token sequences.

Knows rows, documents and windows. Must not know models or losses.
The first `HELD_OUT` usable rows of a file are the test set. Training and calibration use neither these rows nor others
that ask the same.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from sorted_tuning.chat_template import Template, prompt_text
from sorted_tuning.errors import TuningError

HELD_OUT = 40
"""Rows at a file's start that stay out of training. Every table of the project is measured on them."""


@dataclass(frozen=True)
class Row:
    """One question and answer; done is False where the length limit cut the answer off."""

    question: str
    answer: str
    done: bool


def read_rows(path: Path) -> list[Row]:
    """Usable rows of a JSONL file (a non-empty question, an answer of at least two characters), in order.

    A name that ends in .gz is a gzip file of one.
    """
    rows = []
    for number, line in enumerate(_text(Path(path)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            row = Row(_string(raw, "q"), _string(raw, "a"), bool(raw.get("done", True)))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise TuningError(f'data: {path}:{number} must be an object with strings "q" and "a": {error!r}') from error
        if row.question.strip() and len(row.answer) > 1:
            rows.append(row)
    if not rows:
        raise TuningError(f'data: {path} has no usable row (non-empty "q", "a" of two characters or more)')
    return rows


def _string(raw: dict, name: str) -> str:
    if not isinstance(raw[name], str):
        raise TypeError(f"{name} is {raw[name]!r}")
    return raw[name]


def _text(path: Path) -> str:
    if not path.is_file():
        raise TuningError(f"data: must be a JSONL file or a gzip file of one, found no {path}")
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TuningError(f"data: {path} must be UTF-8 text: {error}") from error


def _bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise TuningError(f"data: {path} must be a whole gzip file: {error}") from error


def same_question(question: str) -> str:
    """The words and signs of a question, without case, spaces and ending: equal for questions that count as one."""
    return " ".join(question.lower().split()).rstrip(".?! ")


def document(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[int]:
    """Token ids of a row as a chat; an answer that was cut off gets no end-of-turn."""
    turns = [{"role": "user", "content": row.question}, {"role": "assistant", "content": row.answer}]
    prompt = prompt_text(tokenizer, row.question)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    text = whole if row.done else prompt + row.answer
    return tokenizer.encode(text, add_special_tokens=False)


def held_out(tokenizer: PreTrainedTokenizerBase, path: Path) -> list[list[int]]:
    """The test documents of a data file."""
    return [document(tokenizer, row) for row in read_rows(path)[:HELD_OUT]]


def training_documents(
    tokenizer: PreTrainedTokenizerBase, paths: list[Path], never: Collection[str] = ()
) -> list[list[int]]:
    """Every document of the files whose question is neither that of one held out nor one of `never`.

    The test set is the first file's alone; its questions are kept out of all files.
    """
    kept_out = {same_question(row.question) for row in read_rows(paths[0])[:HELD_OUT]} | set(map(same_question, never))
    rows = [row for path in paths for row in read_rows(path) if same_question(row.question) not in kept_out]
    if not rows:
        raise TuningError(f"data: {paths[0]} has no usable row beyond the {HELD_OUT} held out for the test set")
    return [document(tokenizer, row) for row in rows]


def windows(documents: list[list[int]], length: int, seed: int) -> torch.Tensor:
    """Shuffled int32 windows [N, length]. Each begins with a document, as a request begins its sequence.

    After a short document the window holds the beginning of the next ones, and the next window begins with the first of
    them that was cut off. The end of a document that is longer than a window is dropped.
    """
    order = list(documents)
    random.Random(seed).shuffle(order)
    if sum(map(len, order)) < length:
        raise TuningError(f"data: must fill one window of {length} tokens, got {sum(map(len, order))} tokens")
    rows = []
    first = 0
    while first < len(order):
        row: list[int] = []
        held = 0
        for doc in chain(order[first:], cycle(order)):
            if len(row) >= length:
                break
            row += doc
            held += len(row) <= length
        rows.append(row[:length])
        first += max(held, 1)
    return torch.tensor(rows, dtype=torch.int32)


def answer_positions(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> torch.Tensor:
    """Bool [N, T]: where in windows i32 [N, T] the next token is one of an answer, or ends it.

    Tokens before the first beginning in a window do not count as an answer, since they may be a question.
    """
    template = Template.of(tokenizer)
    head = torch.tensor(tokenizer.encode(template.after.removeprefix(template.stop), add_special_tokens=False))
    turn = tokenizer.encode(template.before, add_special_tokens=False)[0]
    begins = (ids.unfold(1, len(head), 1) == head).all(-1)
    begins = F.pad(begins, (len(head) - 1, 0))
    # An answer that was cut off ends where the next turn begins.
    ends = (ids == tokenizer.eos_token_id) | F.pad(ids[:, 1:] == turn, (0, 1))
    # Of the last beginning and the last end up to a position, the later one decides.
    at = torch.arange(1, ids.shape[1] + 1)
    return (begins * at).cummax(1).values > (ends * at).cummax(1).values
