"""Right answers, and how an exit's right answers are counted against the base's."""

from collections import Counter
from pathlib import Path

import pytest

from sorted_tuning.data import read_rows, same_question
from sorted_tuning.evaluation.questions import Question, is_right, read_questions, rightness, sure_of

DATA = Path(__file__).parents[1] / "data"


def asking(kind, right, wrong=()):
    return Question("", kind, right, wrong)


def test_an_answer_is_right_by_whole_words_in_any_case_and_wrong_by_any_wrong_one():
    water = asking("facts", ("H2O",))
    assert is_right("It is h2o.", water) and not is_right("It is H2O2.", water) and not is_right("", water)
    review = asking("choices", ("positive",), ("negative",))
    assert is_right("Positive.", review) and not is_right("positive or negative", review)
    assert is_right("Is it (5)?", asking("numbers", ("5",))) and not is_right("15", asking("numbers", ("5",)))
    assert is_right("a c++ file", asking("facts", ("c++",)))


def test_right_answers_are_counted_among_those_that_the_base_has_right():
    asked = [asking(kind, ("yes",)) for kind in "aabc"]
    found = rightness(asked, ["yes", "no", "yes", "yes"], ["yes", "yes", "yes", "no"])
    assert found == {"right": 0.75, "of_base": 2 / 3, "a": 0.5, "b": 1.0}
    assert rightness(asked, ["yes"] * 4, ["no"] * 4) == {"right": 1.0}


def test_the_base_is_sure_where_it_draws_four_right_answers_of_five():
    asked = [asking(kind, ("yes",)) for kind in "aab"]
    sure = sure_of(asked, [["yes"] * 4 + ["no"], ["yes"] * 3 + ["no"] * 2, ["yes"] * 5])
    assert sure == [True, False, True]
    found = rightness(asked, ["yes", "yes", "no"], ["no", "yes", "no"], sure)
    assert found == {"right": 2 / 3, "of_base": 1.0, "sure": 2.0, "of_sure": 0.5, "a": 1.0}


@pytest.mark.parametrize("name", ["questions.json", "questions-more.json"])
def test_the_questions_that_come_along_are_twenty_of_each_kind_once(name):
    questions = read_questions(DATA / name)
    assert len(questions) == 140
    assert set(Counter(question.kind for question in questions).values()) == {20}
    for question in questions:
        assert is_right(f"It is {question.right[0]}.", question), question


def test_the_third_examination_has_a_right_answer_to_each_question():
    questions = read_questions(DATA / "questions-asked.json")
    assert len(questions) == 175
    for question in questions:
        assert is_right(f"{question.right[0]}.", question), question
        assert question.kind == "reading" or not is_right(question.text, question), (
            f"repeating it would be right: {question}"
        )


def test_no_run_has_learnt_from_a_question_of_a_later_examination():
    first, *later = (
        {same_question(question.text) for question in read_questions(DATA / name)}
        for name in ("questions.json", "questions-more.json", "questions-asked.json")
    )
    asked = set().union(*later)
    assert asked.isdisjoint(first)
    for file in DATA.glob("selfgen-*.jsonl.gz"):
        assert asked.isdisjoint(same_question(row.question) for row in read_rows(file)), file
