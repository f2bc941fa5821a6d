"""Data generation against a server that answers from a script."""

import gzip
import json

import pytest

from sorted_tuning.data import document, read_rows
from sorted_tuning.errors import TuningError
from sorted_tuning.generate import Sampler, Template, generate
from sorted_tuning.reference.tiny import byte_tokenizer
from sorted_tuning.text import distinct, loops

TEMPLATE = Template.of(byte_tokenizer())


def run(server, out, rows):
    sampler = Sampler(f"http://127.0.0.1:{server.server_port}/", "m")
    return generate(sampler, TEMPLATE, out, rows=rows, workers=2, seed=1)


def asks(body):
    return not body["prompt"].endswith(TEMPLATE.after)


def test_it_writes_goes_on_and_never_repeats_a_question(server, tmp_path):
    out = tmp_path / "rows.jsonl"
    server.reply = lambda b: (f" number {b['seed'] % 7}?", "stop") if asks(b) else (f"answer {b['seed']}", "length")
    assert run(server, out, 3) == 3
    first = out.read_text()
    assert run(server, out, 5) == 2
    assert out.read_text().startswith(first)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({row["q"].lower() for row in rows}) == 5
    assert len({row["n"] for row in rows}) == 5
    assert run(server, out, 5) == 0
    assert [r.done for r in read_rows(out)] == [False] * 5
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(out.read_bytes()))
    assert read_rows(packed) == read_rows(out)


def test_prompts_are_the_chat_template(server, tmp_path):
    server.reply = lambda b: (" is it so?", "stop") if asks(b) else ("yes, it is", "stop")
    run(server, tmp_path / "rows.jsonl", 1)
    question = next(b for b in server.bodies if asks(b))
    answer = next(b for b in server.bodies if not asks(b))
    assert question["prompt"].startswith("<|im_start|>user\n") and question["stop"] == ["<|im_end|>"]
    assert answer["prompt"].endswith(" is it so?<|im_end|>\n<|im_start|>assistant\n")
    tokenizer = byte_tokenizer()
    [row] = read_rows(tmp_path / "rows.jsonl")
    assert tokenizer.decode(document(tokenizer, row)).endswith("assistant\nyes, it is<|im_end|>\n")


def test_filters(server, tmp_path):
    def reply(body):
        kind = body["seed"] % 5
        if asks(body):
            return (
                [(" unended", "length"), ("", "stop"), (" a b c d" * 6, "stop")][kind % 3]
                if kind
                else (f" good {body['seed']}", "stop")
            )
        return ("", "stop") if kind == 1 else (("x y z w " * 6, "stop") if kind == 2 else ("fine answer", "stop"))

    server.reply = reply
    run(server, tmp_path / "rows.jsonl", 4)
    for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines()):
        assert "good" in row["q"] and row["a"] == "fine answer"


def test_a_failing_server_is_a_clear_error(server, tmp_path):
    server.reply = lambda b: 503
    with pytest.raises(TuningError, match="server: .*must answer with 200, got 503"):
        run(server, tmp_path / "rows.jsonl", 1)


def test_loops_and_distinct():
    assert loops(["a", "b", "c", "d"] * 6) and not loops(["a", "b", "c", "d"] * 2)
    assert not loops([])
    assert distinct(["a", "b", "c", "a", "b", "c"]) == 3 / 4 and distinct(["a", "b"]) == 1
