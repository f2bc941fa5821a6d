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


@pytest.mark.parametrize("length", [2, 8, 12, 20, 44])
def test_windows_begin_with_a_document_and_go_on_with_the_next(length):
    rows = windows(DOCUMENTS, length, seed=1).tolist()
    whole = windows(DOCUMENTS, 44, seed=1)[0].tolist()
    order = list(dict.fromkeys(token // 100 for token in whole))
    assert sorted(order) == list(range(5)) != order
    place = 0
    for row in rows:
        joined = [token for doc in order[place:] + order[:place] for token in DOCUMENTS[doc]]
        assert row == joined[:length]
        held = sum(len(DOCUMENTS[doc]) and 100 * doc + len(DOCUMENTS[doc]) - 1 in row for doc in order[place:])
        place += max(held, 1)
    assert place >= len(order), "each document begins a window, or the window behind which it stands holds it whole"


def test_text_that_fills_no_window_is_an_error():
    with pytest.raises(TuningError, match="must fill one window of 45 tokens, got 44"):
        windows(DOCUMENTS, 45, seed=1)


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
