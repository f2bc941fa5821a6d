"""A run on the tiny model: it learns, it resumes to the bit, and each mode moves only its own parameters."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import TEACHING
from runs import curve, quiet, stop_after
from safetensors.torch import load_file
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.errors import TuningError
from sorted_tuning.exits import parse_exits
from sorted_tuning.export import export, load_sorted
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.load import load_base
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer, tiny_llama
from sorted_tuning.targets import read_targets, write_targets
from sorted_tuning.tuning.config import TuneConfig
from sorted_tuning.tuning.runs import mean_model, tuned_model
from sorted_tuning.tuning.tune import Tuner, tune


@pytest.mark.parametrize("mode, exits, sample", [("soft", "1,2,4", 0), ("blocks", "1+1,4", 128)])
def test_resume_gives_the_same_curve(config, every_step, tmp_path, mode, exits, sample):
    config, every_step = (
        dataclasses.replace(c, mode=mode, exits=exits, head_sample=sample) for c in (config, every_step)
    )
    tune(config, tmp_path / "whole", quiet)
    for steps in (2, 6):
        stop_after(Tuner(every_step, tmp_path / "cut", quiet), steps)
    tune(config, tmp_path / "cut", quiet)
    assert len(curve(tmp_path / "whole")) == 12
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


def test_it_learns_and_leaves_metrics(config, tmp_path):
    tuner = Tuner(dataclasses.replace(config, total_tokens=60 * 128, lr=3e-3), tmp_path, quiet)
    tuner.train()
    scores = [r for r in read_whole_lines(tmp_path / "metrics.jsonl") if "kl" in r]
    assert scores[-1]["kl"]["1"] < 0.6 * scores[0]["kl"]["1"]
    assert scores[0]["agreement"]["4"] > 0.95


@pytest.mark.parametrize(
    "mode, exits, options, moved",
    [
        ("soft", "1,2,4", {}, {"layers", "norm"}),
        ("blocks", "1+1,2+1,4", {}, {"blocks", "block norms"}),
        ("blocks", "1+1,2+1,4", {"train_norms": False}, {"blocks"}),
        ("blocks", "1+1,2+1,4", {"exit_weights": "0,1,0"}, {"blocks", "block norms"}),
        ("soft", "1,2,4", {"exit_weights": "1,1,0"}, {"layers", "norm"}),
    ],
)
def test_each_mode_moves_only_its_own_parameters(config, tmp_path, files, mode, exits, options, moved):
    config = dataclasses.replace(config, mode=mode, exits=exits, total_tokens=2 * 128, **options)
    tune(config, tmp_path, quiet)
    model, _ = tuned_model(tmp_path)
    before = load_base(files / "base")
    pairs = list(zip(before.model.layers, model.base.model.layers))
    changed = {
        "embed": not torch.equal(before.lm_head.weight, model.head),
        "layers": any(not _equal(a, b) for a, b in pairs[:2]),
        "norm": not _equal(before.model.norm, model.base.model.norm),
        "blocks": any(not _equal(before.model.layers[3], b.layers[0]) for b in model.blocks.values()),
        "block norms": any(not _equal(before.model.norm, b.norm) for b in model.blocks.values()),
    }
    assert {name for name, yes in changed.items() if yes} == moved
    assert _equal(*pairs[3]) == ("layers" not in moved or "exit_weights" in options), "no exit below it has a weight"


def test_kept_states_replace_the_frozen_trunk(config, tmp_path, files):
    """States are kept in bf16, so the curves agree to its rounding; a run on another trunk refuses them."""
    config = dataclasses.replace(config, mode="blocks", exits="1+1,2+2,4")
    kept = dataclasses.replace(config, targets=(str(tmp_path / "states.safetensors"),))
    base = load_base(files / "base")
    write_targets(base, byte_tokenizer(), [files / "rows.jsonl"], Path(kept.targets[0]), **TEACHING, boundaries=(1, 2))
    tune(config, tmp_path / "runs", quiet)
    tuner = Tuner(kept, tmp_path / "kept", quiet)
    for layer in tuner.sorted.base.model.layers:
        layer.forward = None  # would fail where the trunk ran
    for _ in range(12):
        tuner._one_step()
    for (_, runs, _), (_, stands_in, _) in zip(curve(tmp_path / "runs"), curve(tmp_path / "kept"), strict=True):
        for name, loss in runs.items():
            assert stands_in[name] == pytest.approx(loss, abs=2e-2)
    with pytest.raises(TuningError, match="of the trunk that is tuned"):
        export(SortedModel(tiny_llama(seed=4), parse_exits("4")), byte_tokenizer(), tmp_path / "other")
        Tuner(dataclasses.replace(kept, model=str(tmp_path / "other")), tmp_path / "refused", quiet)
    with pytest.raises(TuningError, match="trunk layers 1 to 3, got 4"):
        write_targets(base, byte_tokenizer(), [files / "rows.jsonl"], tmp_path / "no", **TEACHING, boundaries=(4,))


def test_targets_learn_no_question_that_they_must_never(tmp_path, files):
    arguments = ["targets", "--model", str(files / "base"), "--data", str(files / "rows.jsonl"), "--length", "12"]
    arguments += ["--top-k", "1", "--precision", "fp32"]
    for name, numbers in {"never": range(42, 50), "nor": range(50, 60)}.items():
        (tmp_path / name).write_text(json.dumps([{"instruction": f"Q{n}?", "right": []} for n in numbers]))
        arguments += ["--never", str(tmp_path / name)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    text = byte_tokenizer().decode(load_file(tmp_path / "out")["ids"].flatten().tolist())
    assert "q40" in text and "q41" in text and text.count("<|im_start|>user") == 2


def test_targets_of_several_files_are_one_after_the_other(config, tmp_path, files):
    """States are those that all files have; a run learns from all windows and remembers its files."""
    rows = (files / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "fewer.jsonl").write_text("".join(rows[:50]))
    more, fewer = tmp_path / "more.safetensors", tmp_path / "fewer.safetensors"
    base, tokenizer = load_base(files / "base"), byte_tokenizer()
    write_targets(base, tokenizer, [files / "rows.jsonl"], more, **TEACHING, boundaries=(1, 2))
    write_targets(base, tokenizer, [tmp_path / "fewer.jsonl"], fewer, **TEACHING, boundaries=(2, 3))
    first, second, both = (read_targets(paths, 260) for paths in ([more], [fewer], [more, fewer]))
    assert len(both.ids) == len(first.ids) + len(second.ids) and set(both.states) == {2}
    assert torch.equal(both.ids, torch.cat([first.ids, second.ids]))
    assert torch.equal(both.top_p, torch.cat([first.top_p, second.top_p]))
    assert torch.equal(both.states[2], torch.cat([first.states[2], second.states[2]]))
    assert torch.equal(both.test_ids, first.test_ids)
    assert both.first is None
    write_targets(base, tokenizer, [tmp_path / "fewer.jsonl"], fewer, **TEACHING, answers_first=True)
    marked = read_targets([more, fewer], 260).first
    assert marked[: len(first.ids)].all() and 0 < int(marked[len(first.ids) :].sum()) < second.ids.numel()
    config = dataclasses.replace(config, mode="blocks", exits="2+1,4", targets=(str(more), str(fewer)))
    tuner = Tuner(config, tmp_path / "run", quiet)
    tuner.train()
    assert len(tuner.targets.ids) == len(both.ids)
    assert TuneConfig.load(tmp_path / "run" / "config.json") == config


def test_the_mean_of_runs(config, tmp_path):
    for name, lr in (("one", 1e-3), ("two", 3e-3)):
        tune(dataclasses.replace(config, mode="blocks", exits="1+1,4", lr=lr), tmp_path / name, quiet)
    tune(dataclasses.replace(config, total_tokens=128), tmp_path / "other", quiet)
    one, two, mean = (mean_model([tmp_path / n for n in names])[0] for names in (["one"], ["two"], ["one", "two"]))
    for (name, a), b, m in zip(one.state_dict().items(), two.state_dict().values(), mean.state_dict().values()):
        assert torch.allclose(m, (a + b) / 2, atol=1e-7), name
    assert not _equal(one.blocks, two.blocks) and _equal(one.base, mean.base)
    start = load_sorted(Path(config.model), parse_exits("1+1,4")).state_dict()
    half = mean_model([tmp_path / "one"], with_start=True)[0].state_dict()
    for (name, a), m in zip(one.state_dict().items(), half.values()):
        assert torch.allclose(m, (a + start[name]) / 2, atol=1e-7), name
    with pytest.raises(TuningError, match="must have the exits of .*one, 1[+]1,4, got 1,2,4"):
        mean_model([tmp_path / "one", tmp_path / "other"])


def _equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))


def scored(run):
    return [r["tokens"] for r in read_whole_lines(run / "metrics.jsonl") if "kl" in r]


def test_the_last_score_is_there_once(config, every_step, tmp_path):
    tune(every_step, tmp_path / "by the clock", quiet)  # the last step's checkpoint, too, is the clock's
    wanted = [0, 1024, 12 * 128]
    assert scored(tmp_path / "by the clock") == wanted
    tune(every_step, tmp_path / "by the clock", quiet)
    assert scored(tmp_path / "by the clock") == wanted, "a finished run is not scored again"
    tuner = Tuner(config, tmp_path / "killed", quiet)
    save = tuner._save

    def save_and_die():
        save()
        raise KeyboardInterrupt

    tuner._save = save_and_die
    with pytest.raises(KeyboardInterrupt):
        tuner.train()
    assert scored(tmp_path / "killed") == wanted[:2]
    tune(config, tmp_path / "killed", quiet)
    assert scored(tmp_path / "killed") == wanted


def test_metrics_beyond_a_checkpoint_are_dropped_on_resume(every_step, tmp_path):
    stop_after(Tuner(every_step, tmp_path, quiet), 5)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2  # the older ones are cleared up
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 99, "tokens": 99 * 128, "loss": {"1": 0.0}, "gradient": 0.0}) + "\n")
        file.write('{"step": 100, "tok')  # torn by a kill
    Tuner(every_step, tmp_path, quiet)
    assert [r["step"] for r in read_whole_lines(tmp_path / "metrics.jsonl") if "loss" in r] == [1, 2, 3, 4, 5]


def command_line(config, run, *options):
    arguments = ["tune", "--run-dir", run, "--model", config.model, "--targets", config.targets[0]]
    arguments += ["--exits", config.exits, "--precision", "fp32", "--total-tokens", 512]
    return CliRunner().invoke(app, [*map(str, arguments), *options])


def test_a_run_that_failed_before_its_first_checkpoint_may_have_other_settings(config, tmp_path):
    failed = command_line(config, tmp_path, "--lr", "1e38", "--warmup-tokens", "0")
    assert re.search("must stay finite, .*no checkpoint had been written yet; lower the rate", str(failed.exception))
    assert command_line(config, tmp_path, "--lr", "1e-3").exception is None
    assert TuneConfig.load(tmp_path / "config.json").lr == 1e-3
    assert [tokens for tokens, _, _ in curve(tmp_path)] == [128, 256, 384, 512]


def test_a_run_with_a_checkpoint_keeps_its_settings(config, tmp_path):
    assert command_line(config, tmp_path, "--lr", "1e-3").exception is None
    assert command_line(config, tmp_path, "--lr", "1e-3").exception is None, "the same command goes on"
    other = command_line(config, tmp_path, "--lr", "1e-4")
    assert isinstance(other.exception, TuningError)
    assert re.search(r"^lr: must stay 0.001 in a run that has a checkpoint \(.*\), got 0.0001", str(other.exception))
    elsewhere = command_line(config, tmp_path, "--lr", "1e-3", "--threads", "1")
    assert elsewhere.exception is None, "another machine has threads of its own"
    assert TuneConfig.load(tmp_path / "config.json").threads == 1
