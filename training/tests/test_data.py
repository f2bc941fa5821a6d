"""The choice of training documents, and windows of their tokens."""

import json

import pytest
import torch

from sorted_tuning.data import (
    HELD_OUT,
    Row,
    answer_positions,
    document,
    held_out,
    training_documents,
    windows,
    windows_from_starts,
)
from sorted_tuning.errors import TuningError
from sorted_tuning.reference.tiny import byte_tokenizer

DOCUMENTS = [[100 * doc + i for i in range(length)] for doc, length in enumerate([9, 3, 5, 7, 20])]


def write_rows(path, questions):
    path.write_text("".join(json.dumps({"q": q, "a": f"An answer in {path.name}."}) + "\n" for q in questions))
    return path


def test_no_document_of_any_file_asks_a_held_out_question(tmp_path):
    tokenizer = byte_tokenizer()
    first = write_rows(tmp_path / "first", [f"Test {n}?" for n in range(HELD_OUT)] + ["test  3", "New?"])
    more = write_rows(tmp_path / "more", ["Newer?", "TEST 39.", "What is the capital of France?"])
    texts = [
        tokenizer.decode(ids) for ids in training_documents(tokenizer, [first, more], ["what is the capital of france"])
    ]
    assert ["New?" in texts[0], "Newer?" in texts[1], len(texts)] == [True, True, 2]
    assert len(training_documents(tokenizer, [first, more])) == 3
    assert [f"Test {n}?" in tokenizer.decode(ids) for n, ids in enumerate(held_out(tokenizer, first))] == [
        True
    ] * HELD_OUT


def test_joined_windows_hold_the_documents_in_a_shuffled_order():
    rows = windows(DOCUMENTS, 8, seed=1)
    assert rows.shape == (5, 8) and rows.dtype == torch.int32
    flat = rows.flatten().tolist()
    order = list(dict.fromkeys(token // 100 for token in flat))
    assert flat == [token for doc in order for token in DOCUMENTS[doc]][:40]


@pytest.mark.parametrize("length", [2, 8, 44])
def test_windows_from_starts_begin_with_each_document_once_and_go_on_with_the_next(length):
    rows = windows_from_starts(DOCUMENTS, length, seed=1).tolist()
    assert sorted(row[0] for row in rows) == [100 * doc for doc in range(5)]
    order = [row[0] // 100 for row in rows]
    assert order != sorted(order)
    for i, row in enumerate(rows):
        joined = [token for doc in order[i:] + order[:i] for token in DOCUMENTS[doc]]
        assert row == joined[:length]


@pytest.mark.parametrize("length", [2, 8, 12, 20, 44])
def test_once_no_window_begins_with_a_document_that_the_one_before_held_whole(length):
    every = windows_from_starts(DOCUMENTS, length, seed=1).tolist()
    once = windows_from_starts(DOCUMENTS, length, seed=1, once=True).tolist()
    wanted = iter(every)
    for row in once:
        assert row in wanted  # in the same order: `in` takes the iterator on
        held = [doc for doc in {token // 100 for token in row} if row.count(100 * doc + len(DOCUMENTS[doc]) - 1)]
        for _ in range(len(held) - 1):
            next(wanted, None)
    assert {token for row in every for token in row} == {token for row in once for token in row}


@pytest.mark.parametrize("cut", [windows, windows_from_starts])
def test_text_that_fills_no_window_is_an_error(cut):
    with pytest.raises(TuningError, match="must fill one window of 45 tokens, got 44"):
        cut(DOCUMENTS, 45, seed=1)


def test_answer_positions_are_those_whose_next_token_writes_or_ends_an_answer():
    tokenizer = byte_tokenizer()
    documents = [document(tokenizer, Row(f"question {n}?", f"answer {n}", done)) for n, done in enumerate([1, 0])]
    ids = windows(documents, len(documents[0]) + len(documents[1]), seed=1)
    text = "".join(
        tokenizer.decode([token]) if marked else "~"
        for token, marked in zip(ids[0, 1:].tolist(), answer_positions(tokenizer, ids)[0, :-1].tolist())
    )
    assert [part for part in text.split("~") if part] in (
        ["answer 0<|im_end|>", "answer 1"],
        ["answer 1", "answer 0<|im_end|>"],
    )
    later = ids[:, 60:]
    assert torch.equal(answer_positions(tokenizer, later)[:, 80:], answer_positions(tokenizer, ids)[:, 140:])
