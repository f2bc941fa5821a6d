"""The notes that a model takes while it samples equal its distributions over the finished text."""

import json

import pytest
import torch
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.converse import Conversations
from sorted_tuning.errors import TuningError
from sorted_tuning.generate import generate
from sorted_tuning.notes import Lesson, LessonWindows
from sorted_tuning.reference.tiny import byte_tokenizer
from sorted_tuning.targets import read_targets, teach, write_lessons


class Kept(LessonWindows):
    """Windows that remember the rows that were put into them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.rows = []

    def add(self, lesson):
        self.rows.append(lesson)
        super().add(lesson)


def test_notes_of_a_row_equal_the_models_own_distributions(talker, tmp_path):
    tokenizer, lessons = byte_tokenizer(), Kept(64, (1, 3), 8)
    attempts = Conversations(talker, tokenizer, rows=16, seed=5, lessons=lessons).attempts
    generate(attempts, tmp_path / "rows.jsonl", 12)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(lessons.rows) >= 12
    texts = [tokenizer.decode(lesson.ids, skip_special_tokens=True) for lesson in lessons.rows]
    for row in rows:
        assert any(row["q"] in text and text.endswith(row["a"]) for text in texts)
    for lesson in lessons.rows:
        ids = torch.tensor([lesson.ids], dtype=torch.int32)
        talker.set_attn_implementation("sdpa")
        top_ids, top_p, states = teach(talker, ids, 8, 1, "fp32", (1, 3))
        assert torch.equal(lesson.top_ids, top_ids[0])
        torch.testing.assert_close(lesson.top_p, top_p[0], atol=1e-3, rtol=1e-2)
        for n in (1, 3):
            torch.testing.assert_close(lesson.states[n], states[n][0], atol=0.02, rtol=0.02)


def lesson(*ids):
    held = torch.tensor(ids)
    return Lesson(list(ids), {2: held.view(-1, 1).bfloat16()}, held.view(-1, 1).int(), held.view(-1, 1).half())


def test_each_window_begins_with_a_row_and_ends_at_its_length():
    lessons = LessonWindows(4, (2,), 1)
    for row in (lesson(1, 2, 3), lesson(4, 5, 6), lesson(7, 8, 9, 10), lesson(11, 12)):
        lessons.add(row)
    found = lessons.tensors()
    assert found["ids"].tolist() == [[1, 2, 3, 4], [7, 8, 9, 10]]
    assert found["top_ids"].squeeze(-1).tolist() == found["ids"].tolist()
    assert found["state.2"].shape == (2, 4, 1) and found["top_p"].shape == (2, 4, 1)


def test_rows_that_fill_no_window_are_a_clear_error(base, files, tmp_path):
    lessons = LessonWindows(4, (2,), 1)
    lessons.add(lesson(1, 2, 3))
    settings = {"batch": 8, "precision": "fp32"}
    with pytest.raises(TuningError, match="must fill one window of 4 tokens, got 3 tokens"):
        write_lessons(base, byte_tokenizer(), lessons, files / "rows.jsonl", tmp_path / "out", **settings)


def options(files, tmp_path, *more):
    (tmp_path / "starts.txt").write_text("Which {n} is it?\nWho is {n}?\n")
    (tmp_path / "words.json").write_text('{"n": ["one", "two", "three", "four"]}')
    given = ["generate", "--model", str(files / "base"), "--out", str(tmp_path / "rows.jsonl"), "--precision", "fp32"]
    given += ["--starts", str(tmp_path / "starts.txt"), "--words", str(tmp_path / "words.json"), "--whole"]
    return [*given, *more]


def test_generate_writes_targets_that_a_run_can_learn_from(files, tmp_path):
    held = [json.loads(line) for line in (files / "rows.jsonl").read_text().splitlines()][:39]
    held.append({"q": "Who is two?", "a": "It is me."})
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, held)))
    out = tmp_path / "targets.safetensors"
    more = ["--short", "48", "--cut", "--targets", str(out), "--held-out", str(tmp_path / "held.jsonl")]
    more += ["--boundaries", "1,3", "--length", "128", "--top-k", "8", "--rows", "5", "--batch", "16"]
    result = CliRunner().invoke(app, options(files, tmp_path, *more))
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 5 and "Who is two?" not in {row["q"] for row in rows}
    assert not all(row["done"] for row in rows)
    found = read_targets([out], 260)
    assert f"{len(found.ids) * 128} training tokens" in result.output
    assert set(found.states) == {1, 3} and found.trunk and len(found.test_ids) == 40
    answers = byte_tokenizer().decode(found.ids[found.first].tolist())
    assert len(answers) > 50 and "Who is" not in answers and "Which" not in answers
    again = CliRunner().invoke(app, options(files, tmp_path, *more))
    assert isinstance(again.exception, TuningError) and "must be a new file" in str(again.exception)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--cut"], "cut: must be given with --short"),
        (["--targets", "out"], "must be given with --model and --held-out"),
        (["--boundaries", "1"], "must be given with --targets"),
        (["--length", "32"], "must be given with --targets"),
        (["--top-k", "8"], "must be given with --targets"),
        (["--targets", "out", "--held-out", "ROWS", "--boundaries", "9"], "trunk layers 1 to 3, got 9"),
    ],
)
def test_options_that_do_not_fit_are_a_clear_error(files, tmp_path, monkeypatch, more, error):
    monkeypatch.chdir(tmp_path)
    more = [str(files / "rows.jsonl") if each == "ROWS" else each for each in more]
    result = CliRunner().invoke(app, options(files, tmp_path, *more))
    assert isinstance(result.exception, TuningError) and error in str(result.exception)
