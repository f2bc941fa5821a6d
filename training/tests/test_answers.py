"""Answers of a server: requested once, read back, and measured like generated ones."""

import json
import time

import pytest
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.data import read_rows
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.evaluate import greedy
from sorted_tuning.evaluation.served import ask, read_answers, read_draws
from sorted_tuning.exits import parse_exits
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer

TOKENIZER = byte_tokenizer()
ASKED = ["Say hi.", "Say something longer."]


def ask_for(server, out, exits=("1", "4"), variant="served", asked=ASKED, **settings):
    url = f"http://127.0.0.1:{server.server_port}"
    return ask(url, "m", TOKENIZER, asked, out, variant=variant, exits=list(exits), workers=2, **settings)


def test_each_exit_is_asked_once_and_greedily(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: (f"from {body['model']}", "stop" if body["model"] == "m:1" else "length")
    assert ask_for(server, out, ("1",)) == 2
    assert ask_for(server, out) == 2
    assert ask_for(server, out) == 0
    assert sorted(body["model"] for body in server.bodies) == ["m:1", "m:1", "m:4", "m:4"]
    assert all(body["temperature"] == 0 and body["max_tokens"] == 256 for body in server.bodies)
    found = read_answers(out, TOKENIZER, ASKED)["served"]
    assert [TOKENIZER.decode(a.ids) for a in found["4"]] == ["from m:4"] * 2
    assert [a.ended for a in found["1"]] == [True, True] and [a.ended for a in found["4"]] == [False, False]
    assert TOKENIZER.decode(found["1"][1].prompt).endswith("Say something longer.<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(("options", "count"), [([], 180), (["--limit", "3"], 3)])
def test_all_instructions_are_asked_unless_fewer_are_wanted(server, files, tmp_path, options, count):
    server.reply = lambda body: ("yes", "stop")
    (tmp_path / "asked.json").write_text(json.dumps([{"instruction": f"Say {n}."} for n in range(180)]))
    arguments = ["answers", "--server", f"http://127.0.0.1:{server.server_port}", "--server-model", "m", "--exits", "1"]
    arguments += ["--tokenizer", str(files / "base"), "--instructions", str(tmp_path / "asked.json")]
    arguments += ["--variant", "served", "--workers", "2", "--out", str(tmp_path / "answers.jsonl"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == count


def test_the_exits_rules_against_loops_hold_unless_plain_answers_are_asked_for(server, tmp_path):
    server.reply = lambda body: ("yes", "stop")
    ask_for(server, tmp_path / "own.jsonl", ("1",))
    assert all("dry_multiplier" not in body for body in server.bodies)
    server.bodies.clear()
    ask_for(server, tmp_path / "plain.jsonl", ("1",), plain=True)
    assert [body["dry_multiplier"] for body in server.bodies] == [0, 0]


def test_draws_are_asked_for_each_once_beside_the_greedy_answers(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: (f"{body['seed']} at {body['temperature']}", "stop")
    assert ask_for(server, out, ("4",)) == 2
    assert ask_for(server, out, ("4",), samples=2) == 4
    assert ask_for(server, out, ("4",), samples=3) == 2
    assert ask_for(server, out, ("4",)) == 0
    assert sorted(map(sorted, read_draws(out, ASKED))) == [["0 at 0.7", "1 at 0.7", "2 at 0.7"]] * 2
    assert [TOKENIZER.decode(a.ids) for a in read_answers(out, TOKENIZER, ASKED)["served"]["4"]] == ["0 at 0"] * 2
    with pytest.raises(TuningError, match="draw each answer as often, has 0 to 3 draws"):
        read_draws(out, [*ASKED, "Say more."])
    ask_for(server, out, ("1",), samples=3)
    with pytest.raises(TuningError, match="hold what one exit drew"):
        read_draws(out, ASKED)


def test_line_separators_within_an_answer_end_no_line_of_the_file(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("one\u2028two\u0085three", "stop")
    ask_for(server, out, ("1",))
    assert ask_for(server, out, ("1",)) == 0, "both were read back"
    data = tmp_path / "rows.jsonl"
    data.write_text('{"q": "What\u2028is it?", "a": "A line\u0085separator."}\n', "utf-8")
    assert [row.answer for row in read_rows(data)] == ["A line\u0085separator."]


def test_served_answers_are_rows_of_the_table(server, tmp_path, base):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("yes" if body["model"] == "m:4" else "no no no no no no no no no no no no no", "stop")
    ask_for(server, out)
    ask_for(server, out, ("4",), "base")
    kept = []
    served = read_answers(out, TOKENIZER, ASKED)
    unused = SortedModel(base, parse_exits("4"))
    unused.sub_model = None  # would fail where it had to answer
    table, theirs = greedy(
        {"served": unused},
        base,
        TOKENIZER,
        ASKED,
        None,
        2,
        served,
        lambda part: kept.append(list(part.get("served", {}))),
    )
    assert kept == [["1"], ["1", "4"]], "the file has the finished exits"
    assert set(table) == {"base", "served"} and set(table["served"]) == {"1", "4"}
    assert [TOKENIZER.decode(a.ids) for a in theirs] == ["yes", "yes"]
    assert table["served"]["4"] == table["base"]["4"]
    assert table["served"]["1"]["loops"] == 1 and table["served"]["4"]["loops"] == 0


def test_a_missing_answer_is_named(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("yes", "stop")
    ask_for(server, out, ("4",))
    rows = [line for line in out.read_text().splitlines() if json.loads(line)["n"] == 0]
    out.write_text(rows[0] + "\n")
    with pytest.raises(TuningError, match="must answer all 2 instructions at served 4, lacks 1, first number 1"):
        read_answers(out, TOKENIZER, ASKED)
    with pytest.raises(TuningError, match="got none"):
        read_answers(tmp_path / "nothing.jsonl", TOKENIZER, ASKED)


def test_answers_to_other_questions_count_neither_as_given_nor_as_read(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("yes", "stop")
    ask_for(server, out, ("4",))
    other = [ASKED[0], "Say nothing."]
    message = "must answer 'Say nothing.' as number 1 at served 4, answers 'Say something longer.'"
    with pytest.raises(TuningError, match=message):
        ask_for(server, out, ("4",), asked=other)
    with pytest.raises(TuningError, match=message):
        read_answers(out, TOKENIZER, other)
    assert len(server.bodies) == 2, "nothing was asked"
    assert ask_for(server, out, ("4",), "another", asked=other) == 2
    assert len(read_answers(out, TOKENIZER, ASKED[:1])["served"]["4"]) == 1, "a beginning of the list"
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    old = [{name: row[name] for name in ("variant", "exit", "n", "text", "ended")} for row in rows]
    out.write_text("".join(json.dumps(row) + "\n" for row in old))
    assert ask_for(server, out, ("4",), asked=other) == 0, "rows from before the question was kept"
    assert set(read_answers(out, TOKENIZER, other)) == {"served", "another"}


def test_plain_answers_and_others_do_not_mix(server, tmp_path):
    out = tmp_path / "answers.jsonl"
    server.reply = lambda body: ("yes", "stop")
    ask_for(server, out, ("4",), plain=True, asked=ASKED[:1])
    with pytest.raises(TuningError, match="must be with the exits' rules .* as number 0 at served 4, is plain"):
        ask_for(server, out, ("4",))
    (row,) = map(json.loads, out.read_text().splitlines())
    with out.open("a") as file:
        file.write(json.dumps(row | {"n": 1, "q": ASKED[1], "plain": False}) + "\n")
    with pytest.raises(TuningError, match="must be plain as number 1 at served 4, is with the exits' rules"):
        read_answers(out, TOKENIZER, ASKED)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--answers", "x"], "must come with the --instructions"),
        (["--data", "x", "--judge", "x"], "judge: must come with the --instructions whose answers it is for, got x"),
        (["--data", "x", "--limit", "3"], "limit: must come with the --instructions whose answers it is for, got 3"),
        (["--data", "x"], "one of --run-dir and --model"),
        (["--data", "x", "--model", "a", "--run-dir", "b"], "one of --run-dir and --model"),
    ],
)
def test_evaluate_names_missing_options(files, tmp_path, options, message):
    out = CliRunner().invoke(app, ["evaluate", "--base", str(files / "base"), "--out", str(tmp_path), *options])
    assert isinstance(out.exception, TuningError) and message in str(out.exception)


def test_after_an_error_no_further_request_is_sent(server, tmp_path):
    def reply(_body):
        time.sleep(0.01)
        return 503

    server.reply = reply
    asked = [f"Say {n}." for n in range(300)]
    with pytest.raises(TuningError, match="must answer with 200, got 503"):
        ask_for(server, tmp_path / "answers.jsonl", ("4",), asked=asked)
    assert len(server.bodies) < len(asked)


def test_exits_are_read_by_depth_in_any_order_of_answers(tmp_path):
    rows = [
        {"variant": "base", "exit": exit_, "n": 0, "q": ASKED[0], "plain": False, "text": exit_, "ended": True}
        for exit_ in ("30", "9", "10")
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_answers(tmp_path / "answers.jsonl", TOKENIZER, ASKED[:1])["base"]) == ["9", "10", "30"]


@pytest.mark.parametrize("exits", ["x", "10,", "8+2"])
def test_exits_to_ask_are_numbers(files, tmp_path, exits):
    (tmp_path / "asked.json").write_text(json.dumps([{"instruction": "Say hi."}]))
    arguments = ["answers", "--server", "none", "--server-model", "m", "--exits", exits]
    arguments += ["--tokenizer", str(files / "base"), "--instructions", str(tmp_path / "asked.json")]
    arguments += ["--variant", "served", "--out", str(tmp_path / "answers.jsonl")]
    result = CliRunner().invoke(app, arguments)
    assert str(result.exception) == f"exits: must be numbers with commas, as the server has them, got {exits!r}"
