"""Right answers, and how an exit's right answers are counted against the base's."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.data import read_rows, same_question
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.evaluate import read_instructions
from sorted_tuning.evaluation.questions import Question, is_right, read_questions, rightness, sure_of

DATA = Path(__file__).parents[1] / "data"


def test_an_answer_is_right_by_whole_words_in_any_case_and_wrong_by_any_wrong_one():
    water = Question("facts", ("H2O",))
    assert is_right("It is h2o.", water) and not is_right("It is H2O2.", water) and not is_right("", water)
    review = Question("choices", ("positive",), ("negative",))
    assert is_right("Positive.", review) and not is_right("positive or negative", review)
    assert is_right("Is it (5)?", Question("numbers", ("5",))) and not is_right("15", Question("numbers", ("5",)))
    assert is_right("a c++ file", Question("facts", ("c++",)))


def test_right_answers_are_counted_among_those_that_the_base_has_right():
    asked = [Question("a", ("yes",)), Question("a", ("yes",)), Question("b", ("yes",)), Question("c", ("yes",))]
    found = rightness(asked, ["yes", "no", "yes", "yes"], ["yes", "yes", "yes", "no"])
    assert found == {"right": 0.75, "of_base": 2 / 3, "a": 0.5, "b": 1.0}
    assert rightness(asked, ["yes"] * 4, ["no"] * 4) == {"right": 1.0}


def test_the_base_is_sure_where_it_draws_four_right_answers_of_five():
    asked = [Question("a", ("yes",)), Question("a", ("yes",)), Question("b", ("yes",))]
    sure = sure_of(asked, [["yes"] * 4 + ["no"], ["yes"] * 3 + ["no"] * 2, ["yes"] * 5])
    assert sure == [True, False, True]
    found = rightness(asked, ["yes", "yes", "no"], ["no", "yes", "no"], sure)
    assert found == {"right": 2 / 3, "of_base": 1.0, "sure": 2.0, "of_sure": 0.5, "a": 1.0}


@pytest.mark.parametrize("name", ["questions.json", "questions-more.json"])
def test_the_questions_that_come_along_are_twenty_of_each_kind_once(name):
    questions = read_questions(DATA / name)
    assert len(questions) == len(read_instructions(DATA / name)) == 140
    assert set(Counter(question.kind for question in questions).values()) == {20}
    for question in questions:
        assert is_right(f"It is {question.right[0]}.", question), question


def test_the_third_examination_has_a_right_answer_to_each_question():
    questions = read_questions(DATA / "questions-asked.json")
    asked = read_instructions(DATA / "questions-asked.json")
    assert len(questions) == len(asked) == 175
    for question, text in zip(questions, asked, strict=True):
        assert is_right(f"{question.right[0]}.", question), question
        assert question.kind == "reading" or not is_right(text, question), f"repeating it would be right: {text}"


@pytest.mark.parametrize("name", ["questions-more.json", "questions-asked.json"])
def test_no_run_has_learnt_from_a_question_of_a_later_examination(name):
    asked = {same_question(text) for text in read_instructions(DATA / name)}
    assert asked.isdisjoint(same_question(text) for text in read_instructions(DATA / "questions.json"))
    for file in DATA.glob("selfgen-*.jsonl.gz"):
        assert asked.isdisjoint(same_question(row.question) for row in read_rows(file)), file


def test_a_file_without_right_answers_has_no_questions(tmp_path):
    file = tmp_path / "asked.json"
    file.write_text('[{"instruction": "Say hi."}, {"instruction": "2+2?", "right": ["4"]}]')
    assert read_questions(file) is None
    file.write_text('[{"instruction": "2+2?", "right": ["4"]}, {"instruction": "2+2?", "right": ["4"]}]')
    with pytest.raises(TuningError, match=r"each question once, asks twice: '2\+2\?'"):
        read_questions(file)


def test_the_table_has_the_right_answers(files, tmp_path):
    (tmp_path / "asked.json").write_text(
        '[{"instruction": "Say", "right": ["yes"]}, {"instruction": "2?", "right": ["2"]}]'
    )
    rows = [("base", "4", 0, "yes"), ("base", "4", 1, "3"), ("served", "1", 0, "no"), ("served", "1", 1, "2")]
    lines = [json.dumps(dict(zip(("variant", "exit", "n", "text"), row)) | {"ended": True}) for row in rows]
    (tmp_path / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines))
    drawn = [("base", "4", 0, "no", 0), ("base", "4", 1, "2", 0)]
    lines = [json.dumps(dict(zip(("variant", "exit", "n", "text", "sample"), row)) | {"ended": True}) for row in drawn]
    (tmp_path / "drawn.jsonl").write_text("".join(f"{line}\n" for line in lines))
    arguments = ["evaluate", "--base", str(files / "base"), "--instructions", str(tmp_path / "asked.json")]
    arguments += ["--answers", str(tmp_path / "answers.jsonl"), "--samples", str(tmp_path / "drawn.jsonl")]
    arguments += ["--precision", "fp32", "--out", str(tmp_path / "table")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "table" / "evaluation.json").read_text())["greedy answers"]
    base, served = found["base"]["4"], found["served"]["1"]
    assert (base["right"], base["of_base"], served["right"], served["of_base"]) == (0.5, 1, 0.5, 0)
    assert (base["sure"], base["of_sure"], served["of_sure"]) == (1, 0, 1)
