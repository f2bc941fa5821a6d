"""Data generation against a server that answers from a script."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from sorted_tuning.chat_template import Template
from sorted_tuning.cli import app
from sorted_tuning.completions import Sampler
from sorted_tuning.data import document, read_rows
from sorted_tuning.errors import TuningError
from sorted_tuning.generate import STARTS, generate, loops
from sorted_tuning.reference.tiny import byte_tokenizer

TEMPLATE = Template.of(byte_tokenizer())


def run(server, out, rows):
    return generate(Sampler(f"http://127.0.0.1:{server.server_port}/", "m"), TEMPLATE, out, rows, workers=2, seed=1)


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
    assert all(row["q"].startswith(STARTS) for row in rows)
    assert run(server, out, 5) == 0
    assert [r.done for r in read_rows(out)] == [False] * 5
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(out.read_bytes()))
    assert read_rows(packed) == read_rows(out)


def test_prompts_are_the_chat_template(server, files, tmp_path):
    server.reply = lambda b: (" is it so?", "stop") if asks(b) else ("yes, it is", "stop")
    options = ["--server", f"http://127.0.0.1:{server.server_port}", "--server-model", "m", "--rows", "1"]
    options += ["--tokenizer", str(files / "base"), "--out", str(tmp_path / "rows.jsonl")]
    result = CliRunner().invoke(app, ["generate", *options])
    assert result.exit_code == 0, result.output
    question = next(b for b in server.bodies if asks(b))
    answer = next(b for b in server.bodies if not asks(b))
    assert question["prompt"].startswith("<|im_start|>user\n") and question["stop"] == ["<|im_end|>"]
    assert answer["prompt"].endswith(" is it so?<|im_end|>\n<|im_start|>assistant\n")
    assert {(body["top_p"], body["dry_multiplier"]) for body in server.bodies} == {(1, 0)}
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


def test_questions_that_are_used_up_are_a_clear_error(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sorted_tuning.generate.GIVE_UP", 200)
    monkeypatch.setattr("sorted_tuning.generate.STARTS", ("Which", "What"))
    server.reply = lambda b: (f" number {b['seed'] % 2}?", "stop") if asks(b) else ("it is", "stop")
    with pytest.raises(TuningError, match="rows: 9 must be made, got 4, and none by the last 200 attempts"):
        run(server, tmp_path / "rows.jsonl", 9)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 4


def test_a_failing_server_is_a_clear_error(server, tmp_path):
    server.reply = lambda b: 503
    with pytest.raises(TuningError, match="server: .*must answer with 200, got 503"):
        run(server, tmp_path / "rows.jsonl", 1)


def test_loops():
    assert loops("a b c d " * 6) and not loops("a b c d " * 2)
    assert not loops("")
