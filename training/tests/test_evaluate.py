"""The table's measures, each against its definition on the tiny model."""

import dataclasses
import json
import math

import torch
from conftest import sub_model
from torch.nn import functional as F
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.scores import score, scores
from sorted_tuning.evaluation.table import markdown
from sorted_tuning.exits import parse_exits
from sorted_tuning.model import SortedModel
from sorted_tuning.tuning.tune import tune

DOCUMENTS = [[5, 80, 130, 7, 44], [9, 10, 11]]


def test_scores(base):
    model = SortedModel(base, parse_exits("1+1,4"))
    found = score(model, base, DOCUMENTS, "x")
    assert abs(found["4"]["kl"]) < 1e-6 and found["4"]["agreement"] == 1
    kl = nll = same = 0.0
    for ids in DOCUMENTS:
        t = torch.tensor([ids])
        p = base(t).logits[0, :-1].softmax(-1)
        q = sub_model(model, model.exits[0])(t).logits[0, :-1].softmax(-1)
        kl += (p * (p / q).log()).sum().item()
        nll += F.nll_loss(q.log(), t[0, 1:], reduction="sum").item()
        same += (p.argmax(-1) == q.argmax(-1)).sum().item()
    own = found["1+1"]
    assert abs(own["kl"] - kl / 6) < 1e-5
    assert abs(own["perplexity"] - math.exp(nll / 6)) < 1e-3 * own["perplexity"]
    assert own["agreement"] == same / 6


def test_the_base_leaves_early_at_the_same_depths(base):
    found = scores(SortedModel(base, parse_exits("1+1,3,4")), base, DOCUMENTS)
    assert list(found["base exits"]) == ["2", "3", "4"] and list(found["sorted"]) == ["1+1", "3", "4"]
    assert found["base exits"]["3"] == found["sorted"]["3"]


def test_a_run_is_measured_on_its_held_out_documents(files, tmp_path, config):
    tune(dataclasses.replace(config, total_tokens=128), tmp_path / "run", lambda _line: None)
    rows = (files / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "other.jsonl").write_text("".join([*rows[:2], rows[-1] + "\n", *rows[2:-1]]))

    def evaluate(data, *options, documents="3"):
        arguments = ["evaluate", "--base", str(files / "base"), "--data", str(data), "--precision", "fp32"]
        return CliRunner().invoke(app, [*arguments, "--documents", documents, *options])

    run = ("--run-dir", str(tmp_path / "run"))
    refused = evaluate(tmp_path / "other.jsonl", *run)
    assert isinstance(refused.exception, TuningError), refused.output
    assert "must begin with the 40 documents that the run holds out" in str(refused.exception)
    assert "got another as number 3" in str(refused.exception)
    assert evaluate(tmp_path / "other.jsonl", *run, documents="2").exit_code == 0
    result = evaluate(files / "rows.jsonl", *run)
    assert result.exit_code == 0 and "| sorted | 4 |" in result.output and "| base exits | 1 |" in result.output
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings | {"targets": ["gone.safetensors"]}))
    assert evaluate(tmp_path / "other.jsonl", *run).exit_code == 0, "nothing is known of a run whose targets are gone"
    for options in ((), (*run, "--model", str(files / "base"))):
        assert "exactly one of --run-dir and --model" in str(evaluate(files / "rows.jsonl", *options).exception)


def test_markdown():
    table = {"m": {"1": {"kl": 0.5, "agreement": 1.0}}}
    assert markdown(table).splitlines() == [
        "| model | exit | kl | agreement |",
        "|---|---|---|---|",
        "| m | 1 | 0.500 | 1.000 |",
    ]
