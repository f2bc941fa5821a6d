"""Answers of a server: requested once, read back, and counted when right."""

import json
import time

import pytest
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.data import read_rows
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.answers import ask, right_answers
from sorted_tuning.evaluation.questions import Question
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.reference.tiny import byte_tokenizer

TOKENIZER = byte_tokenizer()
ASKED = [Question("Say yes.", "all", ("yes",)), Question("Say no.", "all", ("no",))]


def ask_for(server, out, exits=("1", "4"), variant="served", asked=ASKED, **settings):
    url = f"http://127.0.0.1:{server.server_port}"
    return ask(url, "m", TOKENIZER, asked, out, variant=variant, exits=list(exits), workers=2, **settings)


def test_each_exit_is_asked_once_and_greedily(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: (f"from {body['model']}", "stop")
    assert ask_for(server, out, ("1",)) == 2
    assert ask_for(server, out) == 2
    assert ask_for(server, out) == 0
    assert sorted(body["model"] for body in server.bodies) == ["m:1", "m:1", "m:4", "m:4"]
    assert all(body["temperature"] == 0 and body["max_tokens"] == 256 for body in server.bodies)
    assert {body["prompt"].endswith("<|im_end|>\n<|im_start|>assistant\n") for body in server.bodies} == {True}
    assert {(row["exit"], row["q"], row["text"]) for row in read_whole_lines(out)} == {
        (exit_, question.text, f"from m:{exit_}") for exit_ in "14" for question in ASKED
    }


def test_draws_are_asked_for_each_once_beside_the_greedy_answers(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: (f"{body['seed']} at {body['temperature']}", "stop")
    assert ask_for(server, out, ("4",)) == 2
    assert ask_for(server, out, ("4",), samples=2) == 4
    assert ask_for(server, out, ("4",), samples=3) == 2
    assert ask_for(server, out, ("4",)) == 0
    drawn = sorted((row["n"], row["sample"], row["text"]) for row in read_whole_lines(out) if "sample" in row)
    assert drawn == [(n, draw, f"{draw} at 0.7") for n in range(2) for draw in range(3)]


def test_line_separators_within_an_answer_end_no_line_of_the_file(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("one\u2028two\u0085three", "stop")
    ask_for(server, out, ("1",))
    assert ask_for(server, out, ("1",)) == 0, "both were read back"
    data = tmp_path / "rows.jsonl"
    data.write_text('{"q": "What\u2028is it?", "a": "A line\u0085separator."}\n', "utf-8")
    assert [row.answer for row in read_rows(data)] == ["A line\u0085separator."]


def test_right_answers_are_counted_by_exit_against_the_base(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("no" if body["model"] == "m:9" else "yes", "stop")
    ask_for(server, out, ("10", "9"))
    with pytest.raises(TuningError, match="must hold answers of the variant 'base' to all questions, got none"):
        right_answers(out, ASKED)
    ask_for(server, out, ("4",), "base")
    table = right_answers(out, ASKED)
    assert list(table["served"]) == ["9", "10"], "by depth"
    assert table["base"] == {"4": {"right": 0.5, "of_base": 1, "all": 1}}
    assert table["served"]["9"] == {"right": 0.5, "of_base": 0, "all": 0}
    ask_for(server, out, ("4",), "base", samples=2)
    assert right_answers(out, ASKED)["served"]["10"] == {"right": 0.5, "of_base": 1, "sure": 1, "of_sure": 1, "all": 1}
    ask_for(server, out, ("9",), samples=2)
    with pytest.raises(TuningError, match="must hold draws of one exit"):
        right_answers(out, ASKED)


def test_a_variant_that_has_not_answered_all_questions_is_left_out(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("yes", "stop")
    ask_for(server, out, ("4",), "base")
    ask_for(server, out, ("4",))
    out.write_text("".join(out.read_text().splitlines(keepends=True)[:-1]))
    assert list(right_answers(out, ASKED)) == ["base"]


def test_answers_to_other_questions_count_neither_as_given_nor_as_read(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("yes", "stop")
    ask_for(server, out, ("4",))
    other = [ASKED[0], Question("Say nothing.", "all", ("",))]
    message = "must answer 'Say nothing.' as number 1 at served 4, answers 'Say no.'"
    with pytest.raises(TuningError, match=message):
        ask_for(server, out, ("4",), asked=other)
    with pytest.raises(TuningError, match=message):
        right_answers(out, other)
    assert len(server.bodies) == 2, "nothing was asked"


def test_a_failing_server_ends_the_work_with_what_it_has_answered(server, tmp_path):
    def reply(_body):
        time.sleep(0.02)
        return ("yes", "stop") if len(server.bodies) < 20 else 503

    server.reply = reply
    asked = [Question(f"Say {n}.", "all", ()) for n in range(300)]
    with pytest.raises(TuningError, match="must answer with 200, got 503"):
        ask_for(server, tmp_path / "answers.jsonl", ("4",), asked=asked)
    assert len(server.bodies) < len(asked)


def command(files, tmp_path, *options):
    arguments = ["answers", "--server-model", "m", "--tokenizer", files / "base", "--variant", "base"]
    arguments += ["--questions", tmp_path / "asked.json", "--out", tmp_path / "answers.jsonl", *options]
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_commands_ask_and_print_the_table(server, files, tmp_path):
    server.reply = lambda body: ("yes", "stop")
    (tmp_path / "asked.json").write_text(
        '[{"instruction": "Say", "right": ["yes"]}, {"instruction": "2?", "right": []}]'
    )
    url = f"http://127.0.0.1:{server.server_port}"
    assert "2 new answers" in command(files, tmp_path, "--server", url, "--exits", "1").output
    files = ["--answers", str(tmp_path / "answers.jsonl"), "--questions", str(tmp_path / "asked.json")]
    result = CliRunner().invoke(app, ["right", *files])
    assert result.exit_code == 0, result.output
    assert "| base | 1 | 0.500 | 1.000 |" in result.output


@pytest.mark.parametrize("exits", ["x", "10,", "8+2"])
def test_exits_to_ask_are_numbers(files, tmp_path, exits):
    (tmp_path / "asked.json").write_text(json.dumps([{"instruction": "Say hi.", "right": []}]))
    result = command(files, tmp_path, "--server", "none", "--exits", exits)
    assert str(result.exception) == f"exits: must be numbers with commas, as the server has them, got {exits!r}"
