"""The table's measures, each against its definition on the tiny model."""

import dataclasses
import json
import math

import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.answers import Answer, answer, qualities
from sorted_tuning.evaluation.evaluate import markdown, read_instructions
from sorted_tuning.evaluation.judge import verdict
from sorted_tuning.evaluation.scores import score
from sorted_tuning.evaluation.variants import base_exits, in_kernel, round_vocabulary
from sorted_tuning.exits import parse_exits
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer
from sorted_tuning.tuning.tune import tune

DOCUMENTS = [[5, 80, 130, 7, 44], [9, 10, 11]]


def test_scores(base):
    model = SortedModel(base, parse_exits("1+1,4"))
    found = score(model, base, DOCUMENTS, "x")
    assert abs(found["4"].kl) < 1e-6 and found["4"].agreement == 1
    kl = nll = same = 0.0
    for ids in DOCUMENTS:
        t = torch.tensor([ids])
        p = base(t).logits[0, :-1].softmax(-1)
        q = model.sub_model(model.exits[0])(t).logits[0, :-1].softmax(-1)
        kl += (p * (p / q).log()).sum().item()
        nll += F.nll_loss(q.log(), t[0, 1:], reduction="sum").item()
        same += (p.argmax(-1) == q.argmax(-1)).sum().item()
    assert abs(found["1+1"].kl - kl / 6) < 1e-5
    assert abs(found["1+1"].perplexity - math.exp(nll / 6)) < 1e-3 * found["1+1"].perplexity
    assert found["1+1"].agreement == same / 6


def test_variants(base):
    model = SortedModel(base, parse_exits("1+1,3,4"))
    assert [e.layer for e in base_exits(base, model.exits).exits] == [2, 3, 4]
    before = model.head.clone()
    kl = {k: score(in_kernel(model, k), base, DOCUMENTS, k)["4"].kl for k in ("w8a8", "int4")}
    assert kl["w8a8"] < score(in_kernel(model, "w8a8", weight_bits=5), base, DOCUMENTS, "5")["4"].kl
    assert kl["w8a8"] < score(in_kernel(model, "w8a8", head_bits=5), base, DOCUMENTS, "5")["4"].kl
    assert 0 < kl["w8a8"] < kl["int4"]
    assert torch.equal(model.head, before)  # the original stays as it was


def test_a_vocabulary_has_a_scale_for_each_token_or_for_each_64_columns():
    row = torch.tensor([100.0] + [1.0] * 127)[None]
    assert round_vocabulary(row, "w8a8", 10).tolist() == [[100.0] + [0.0] * 127]
    assert round_vocabulary(row, "int4", 10).tolist() == [[100.0] + [0.0] * 63 + [1.0] * 64]


def test_batched_greedy_answers_equal_single_ones(base):
    tokenizer = byte_tokenizer()
    lm = SortedModel(base, parse_exits("1+1,4")).sub_model(parse_exits("1+1,4")[0])
    texts = ["hi", "a much longer instruction"]
    together = answer(lm, tokenizer, texts, 2, "x")
    assert together == answer(lm, tokenizer, texts, 1, "x")
    assert all(len(a.ids) <= 256 and 2 not in a.ids for a in together)
    found = qualities(together, base)
    assert found["nll_under_base"] > 0 and 0 <= found["distinct_3"] <= 1


def test_verdict():
    good, empty, loop = Answer([1], [1, 2, 3], True), Answer([1], [], True), Answer([1], [1, 2, 3, 4] * 6, False)
    assert verdict(good, good, 1.0, 2.0) == 1 and verdict(good, good, 2.0, 1.0) == -1
    assert verdict(good, good, 1.0, 1.05) == 0
    assert verdict(good, empty, 9.0, 0.0) == 1 and verdict(loop, good, 0.0, 9.0) == -1
    assert verdict(loop, empty, 0.0, 0.0) == 0


def test_the_command_writes_the_table(files, tmp_path):
    (tmp_path / "asked.json").write_text(
        '[{"instruction": "Say hi.", "input": "x"}, {"instruction": "Say hi.", "input": "x"}]'
    )
    assert read_instructions(tmp_path / "asked.json") == ["Say hi.\n\nx"]
    base, rows = str(files / "base"), str(files / "rows.jsonl")
    arguments = ["evaluate", "--base", base, "--model", base, "--exits", "1,4", "--data", rows, "--documents", "2"]
    arguments += ["--instructions", str(tmp_path / "asked.json"), "--precision", "fp32", "--kernels", "w8a8"]
    result = CliRunner().invoke(app, [*arguments, "--judge", base, "--out", str(tmp_path / "table")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "table" / "evaluation.md").read_text()
    assert "| sorted w8a8 | 4 |" in text and "pairwise" in text and "| base exits | 1 |" in text
    given = [json.loads(line) for line in (tmp_path / "table" / "answers.jsonl").read_text().splitlines()]
    assert [row["q"] for row in given] == ["Say hi.\n\nx"] and set(given[0]) == {"q", "a", "done"}


def test_a_run_is_measured_on_its_held_out_documents(files, tmp_path, config):
    tune(dataclasses.replace(config, total_tokens=128), tmp_path / "run", lambda _line: None)
    rows = (files / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other.jsonl").write_text("".join([*rows[:2], rows[-1] + "\n", *rows[2:-1]]))

    def evaluate(data, run=tmp_path / "run", documents="3"):
        arguments = [
            "evaluate",
            "--base",
            str(files / "base"),
            "--run-dir",
            str(run),
            "--data",
            str(data),
            "--kernels",
            "",
        ]
        arguments += ["--documents", documents, "--precision", "fp32", "--out", str(tmp_path / "table")]
        return CliRunner().invoke(app, arguments)

    refused = evaluate(tmp_path / "other.jsonl")
    assert isinstance(refused.exception, TuningError), refused.output
    assert "must begin with the 40 documents that the run holds out" in str(refused.exception)
    assert "got another as number 3" in str(refused.exception)
    assert evaluate(tmp_path / "other.jsonl", documents="2").exit_code == 0
    assert evaluate(files / "rows.jsonl").exit_code == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings | {"targets": ["gone.safetensors"]}))
    assert evaluate(tmp_path / "other.jsonl").exit_code == 0, "nothing is known of a run whose targets are gone"


def test_a_stopped_evaluation_keeps_its_finished_exits(files, tmp_path, monkeypatch):
    (tmp_path / "asked.json").write_text('[{"instruction": "Say hi.", "input": ""}]')
    base = str(files / "base")
    asked = []

    def stopped(answers, model):
        asked.append(answers)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return {"loops": 0.25}

    monkeypatch.setattr("sorted_tuning.evaluation.evaluate.qualities", stopped)
    arguments = ["evaluate", "--base", base, "--model", base, "--exits", "1,4", "--kernels", ""]
    arguments += ["--instructions", str(tmp_path / "asked.json"), "--precision", "fp32"]
    CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "table")])
    done = json.loads((tmp_path / "table" / "evaluation.json").read_text())["greedy answers"]
    assert done == {"base": {"4": {"loops": 0.25}}, "base exits": {"1": {"loops": 0.25}, "4": {"loops": 0.25}}}


def test_markdown():
    table = {"m": {"1": {"kl": 0.5, "agreement": 1.0}}}
    assert markdown("T", table).splitlines()[2:] == [
        "| model | exit | kl | agreement |",
        "|---|---|---|---|",
        "| m | 1 | 0.500 | 1.000 |",
    ]
