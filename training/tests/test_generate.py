"""Data generation: against a server that answers from a script, and by a tiny model of its own."""

import gzip
import json
import random

import pytest
import torch
from typer.testing import CliRunner

from sorted_tuning.ask_server import server_attempts
from sorted_tuning.chat_template import Template
from sorted_tuning.cli import app
from sorted_tuning.completions import Sampler
from sorted_tuning.converse import Conversations
from sorted_tuning.data import document, read_rows
from sorted_tuning.errors import TuningError
from sorted_tuning.first_words import STARTS, read_first_words
from sorted_tuning.generate import ANSWER, QUESTION, Style, generate
from sorted_tuning.lockstep import Lockstep
from sorted_tuning.reference.tiny import byte_tokenizer
from sorted_tuning.sampling import Draw, draw_tokens
from sorted_tuning.text import distinct, loops

TEMPLATE = Template.of(byte_tokenizer())


def run(server, out, rows):
    sampler = Sampler(f"http://127.0.0.1:{server.server_port}/", "m")
    return generate(server_attempts(sampler, TEMPLATE, workers=2, seed=1), out, rows)


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


GREEDY = Draw(max_tokens=100, temperature=1, top_k=1, min_p=0.01)


@torch.no_grad()
def greedy(base, ids, steps):
    ids = list(ids)
    for _ in range(steps):
        ids.append(int(base(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize("prefix", [[], [7], [7, 8, 9, 10]])
def test_rows_in_lockstep_equal_the_model_alone(base, prefix):
    firsts = [20, 30, 40, 50, 60]
    alone = {first: greedy(base, [*prefix, first], 12) for first in firsts}
    steps = Lockstep(base, prefix, len(firsts), len(prefix) + 13, torch.Generator())
    texts = [[*prefix, first] for first in firsts]
    for i in range(12):
        drawn = steps.step([text[-1] for text in texts], [GREEDY] * len(texts))
        for text, token in zip(texts, drawn):
            text.append(token)
        if i in (3, 4):
            over = [0, 1] if i == 3 else [1]
            texts = [texts[row] for row in steps.leave(over)]
    assert len(texts) == 2
    for text in texts:
        assert text == alone[text[len(prefix)]]


def test_tokens_are_drawn_by_each_rows_own_rules():
    logits = torch.tensor([3.0, 2.0, 1.0, -9.0]).log_softmax(0).repeat(4000, 1)
    rules = [Draw(1, 1.0, 4, 0.01), Draw(1, 1.0, 2, 0.01), Draw(1, 1.0, 4, 0.3), Draw(1, 0.5, 4, 0.01)]
    largest = logits.topk(4)
    drawn = draw_tokens(*largest, rules * 1000, torch.Generator().manual_seed(1)).view(1000, 4)
    shares = [drawn[:, i].bincount(minlength=4) / 1000 for i in range(4)]
    for share, scores in zip(shares, ([3, 2, 1], [3, 2], [3, 2], [6, 4, 2])):
        wanted = torch.zeros(4)
        wanted[: len(scores)] = torch.tensor(scores, dtype=torch.float32).softmax(0)
        assert (share - wanted).abs().max() < 0.05


def test_a_model_writes_its_own_rows_and_goes_on(talker, tmp_path):
    tokenizer, out = byte_tokenizer(), tmp_path / "rows.jsonl"
    attempts = Conversations(talker, tokenizer, rows=16, seed=5).attempts
    assert generate(attempts, out, 6) == 6
    first = out.read_text()
    assert generate(attempts, out, 20) == 14
    assert out.read_text().startswith(first)
    rows = [json.loads(line) for line in out.read_text().split("\n") if line]
    assert len({row["n"] for row in rows}) == 20
    assert all(row["q"].startswith(STARTS) and len(row["q"]) >= 8 and len(row["a"].strip()) >= 2 for row in rows)
    assert {row["done"] for row in rows} == {True, False}
    assert all(row["done"] or len(tokenizer.encode(row["a"])) >= 0.9 * ANSWER.max_tokens for row in rows)
    again = tmp_path / "again.jsonl"
    generate(Conversations(talker, tokenizer, rows=16, seed=5).attempts, again, 6)
    assert again.read_text() == first


def test_a_known_question_is_not_answered(talker):
    asked = []

    def known(question):
        asked.append(question)
        return True

    found = Conversations(talker, byte_tokenizer(), rows=16, seed=5).attempts(1, known)
    assert [next(found) for _ in range(16)] == [None] * 16
    assert asked and all(len(question) <= QUESTION.max_tokens + max(map(len, STARTS)) for question in asked)


def test_short_answers_to_questions_that_begin_as_asked(server, files, tmp_path):
    (tmp_path / "starts.txt").write_text("Which river\n\nWho\n")
    (tmp_path / "never.json").write_text('[{"instruction": "who  is it 1."}]')

    def reply(body):
        if asks(body):
            return f" is it {body['seed'] % 4}?", "stop"
        return ("yes", "stop") if body["seed"] % 2 else ("no end", "length")

    server.reply = reply
    url = f"http://127.0.0.1:{server.server_port}/"
    options = ["--server", url, "--tokenizer", str(files / "base"), "--out", str(tmp_path / "rows.jsonl")]
    options += ["--starts", str(tmp_path / "starts.txt"), "--never", str(tmp_path / "never.json"), "--rows", "7"]
    options += ["--short", "9", "--answer-temperature", "0.2"]
    result = CliRunner().invoke(app, ["generate", *options])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    every = {f"{start} is it {n}?" for start in ("Which river", "Who") for n in range(4)}
    assert {row["q"] for row in rows} == every - {"Who is it 1?"}
    assert all(row["done"] and row["a"] == "yes" for row in rows)
    assert all(body["max_tokens"] == 9 for body in server.bodies)
    assert {body["temperature"] for body in server.bodies} == {1.0, 0.2}
    assert {(body["top_p"], body["dry_multiplier"]) for body in server.bodies} == {(1, 0)}


WHOLE = "Which {n} is it?\nWho is {n}?\n"


def whole_options(tmp_path):
    (tmp_path / "starts.txt").write_text(WHOLE)
    (tmp_path / "words.json").write_text('{"n": ["one", "two", "three", "four"]}')
    (tmp_path / "never.json").write_text('[{"instruction": "Who is two?"}]')
    options = ["--starts", str(tmp_path / "starts.txt"), "--words", str(tmp_path / "words.json"), "--whole"]
    return [*options, "--never", str(tmp_path / "never.json"), "--out", str(tmp_path / "rows.jsonl"), "--rows", "7"]


EVERY = {f"{words} {n} {end}".replace(" ?", "?") for words, end in (("Which", "is it?"), ("Who is", "?"))
         for n in ("one", "two", "three", "four")} - {"Who is two?"}  # fmt: skip


def test_whole_questions_are_asked_as_they_are(server, files, tmp_path):
    server.reply = lambda body: ("yes", "stop")
    url = f"http://127.0.0.1:{server.server_port}/"
    options = ["--server", url, "--tokenizer", str(files / "base"), "--short", "9", *whole_options(tmp_path)]
    result = CliRunner().invoke(app, ["generate", *options])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["q"] for row in rows} == EVERY
    assert not any(asks(body) for body in server.bodies)


def test_a_model_answers_whole_questions_each_once(talker, tmp_path):
    tokenizer, out = byte_tokenizer(), tmp_path / "rows.jsonl"
    starts = first_words(tmp_path, WHOLE, '{"n": ["one", "two", "three", "four"]}')
    style = Style(starts, question=None)
    assert (
        generate(Conversations(talker, tokenizer, rows=16, seed=5, style=style).attempts, out, 7, {"Who is two?"}) == 7
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["q"] for row in rows} == EVERY and all(row["a"].strip() for row in rows)


def test_questions_that_are_used_up_are_a_clear_error(talker, tmp_path, monkeypatch):
    monkeypatch.setattr("sorted_tuning.generate.GIVE_UP", 200)
    style = Style(first_words(tmp_path, WHOLE, '{"n": ["one", "two"]}'), question=None)
    attempts = Conversations(talker, byte_tokenizer(), rows=16, seed=5, style=style).attempts
    with pytest.raises(TuningError, match="rows: 9 must be made, got 4, and none by the last 200 attempts"):
        generate(attempts, tmp_path / "rows.jsonl", 9)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 4


def first_words(tmp_path, lines, words=None):
    (tmp_path / "starts.txt").write_text(lines)
    (tmp_path / "words.json").write_text(words or "{}")
    return read_first_words(tmp_path / "starts.txt", tmp_path / "words.json" if words else None)


def test_gaps_in_first_words_are_filled_and_the_same_gap_alike(tmp_path):
    starts = first_words(tmp_path, "Is {n} odd?\\n\\n{n} is\nAdd {n} and {n2}", '{"n": ["1", "2", "3"]}')
    drawn = {starts.draw(random.Random(seed)) for seed in range(200)}
    assert drawn == {f"Is {n} odd?\n\n{n} is" for n in "123"} | {f"Add {n} and {m}" for n in "123" for m in "123"}


@pytest.mark.parametrize(
    ("lines", "words", "error"),
    [
        ("\n \n", None, "starts: .* must hold at least one line, got none"),
        ("Is {n2} odd", None, "words: must hold words for every gap of .*starts.txt, got none for 'n'"),
        ("Is {n} odd", '{"m": ["1"]}', "words: must hold words for every gap of .*starts.txt, got none for 'n'"),
        ("Is {n} odd", '{"n": []}', r"words: .*words.json must be a JSON object of non-empty .*, got \[\] for 'n'"),
        ("Is {n} odd", '{"n": [1]}', r"words: .*words.json must be a JSON object of non-empty .*, got \[1\] for 'n'"),
        ("Is {n} odd", "[]", "words: .*words.json must be a JSON object of non-empty lists of words, got a list"),
        ("Is {n} odd", "{", "words: .*words.json must be JSON: Expecting"),
    ],
)
def test_first_words_must_be_there(tmp_path, lines, words, error):
    with pytest.raises(TuningError, match=error):
        first_words(tmp_path, lines, words)


def test_whole_questions_need_starts(files, tmp_path):
    options = ["--model", str(files / "base"), "--out", str(tmp_path / "rows.jsonl"), "--whole"]
    result = CliRunner().invoke(app, ["generate", *options])
    assert result.exit_code != 0
    assert "whole: must be given with --starts" in str(result.output) + str(result.exception)


def test_whole_questions_have_no_temperature(files, tmp_path):
    options = ["--model", str(files / "base"), *whole_options(tmp_path), "--question-temperature", "0.5"]
    result = CliRunner().invoke(app, ["generate", *options])
    assert result.exit_code != 0
    assert "question_temperature: must not be given with --whole" in str(result.output) + str(result.exception)


def test_words_need_starts(files, tmp_path):
    words = tmp_path / "words.json"
    words.write_text("{}")
    options = ["--model", str(files / "base"), "--out", str(tmp_path / "rows.jsonl"), "--words", str(words)]
    result = CliRunner().invoke(app, ["generate", *options])
    assert isinstance(result.exception, TuningError) and "words: must be given with --starts" in str(result.exception)
