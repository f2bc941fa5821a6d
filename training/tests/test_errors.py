"""Every clear error: it names the parameter, the rule and the value."""

import dataclasses
import gzip

import pytest
import torch
from conftest import TEACHING
from typer.testing import CliRunner

from sorted_tuning.chat_template import Template
from sorted_tuning.cli import app
from sorted_tuning.completions import Sampler
from sorted_tuning.data import read_rows, training_documents
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.questions import read_questions
from sorted_tuning.exits import check_exits, parse_exits
from sorted_tuning.export import put_blocks
from sorted_tuning.load import load_base
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer, tiny_llama
from sorted_tuning.targets import read_targets, write_targets
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.tune import Tuner, tune


@pytest.mark.parametrize(
    "exits, message",
    [
        ("2,4,x", "LAYER.*'x'"),
        ("2,2,4", "strictly increasing, got 2,2,4"),
        ("0,4", "at least 1"),
        ("1,2", "last layer 4, got 2"),
        ("1,5", "last layer 4, got 5"),
        ("1,4+1", r"no block.*got 4\+1"),
        ("1+9,4", r"at most the model's 4 layers together, got 1\+9"),
    ],
)
def test_exits_that_do_not_fit(exits, message):
    with pytest.raises(TuningError, match=message):
        check_exits(parse_exits(exits), 4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mode": "fast"}, "mode: must be one of soft, blocks, got 'fast'"),
        ({"mode": "blocks"}, "exits: must be such that at least one carries a block"),
        ({"exits": "1+1,4"}, "exits: must be without blocks in soft mode, got '1\\+1,4'"),
        ({"exit_weights": "1,2"}, "exit_weights: must be 3 numbers"),
        ({"exit_weights": "1,a,2"}, "exit_weights: must be numbers"),
        ({"exit_weights": "0,0,0"}, "exit_weights: must be not negative, and not all 0"),
        (
            {"mode": "blocks", "exits": "1+1,2+1,4", "exit_weights": "0,0,1"},
            "exit_weights: must be over 0 at an exit with a block while the trunk is still, got '0,0,1'",
        ),
        ({"positions": 0.0}, "positions: must be over 0"),
        ({"lr": -1.0}, "lr: must be over 0, got -1.0"),
        ({"min_lr": 2.0}, "min_lr: must be between 0 and 1"),
    ],
)
def test_settings(config, tmp_path, change, message):
    with pytest.raises(TuningError, match=message):
        Tuner(dataclasses.replace(config, **change), tmp_path, print)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"q": "", "a": "long enough"}\n{"q": "x", "a": "y"}\n', "no usable row"),
        ("\n\n", "no usable row"),
        ('{"q": "x"}', 'rows.jsonl:1 must be an object with strings "q" and "a"'),
        ('\n{"q": 5, "a": "five"}', 'rows.jsonl:2 must be an object with strings "q" and "a": .*q is 5'),
        ('{"q": "x", "a": ["five"]}', 'rows.jsonl:1 must be an object with strings "q" and "a": .*a is .\'five\''),
        ('{"q": "x", "a": null}', 'rows.jsonl:1 must be an object with strings "q" and "a": .*a is None'),
        ("[1]", 'rows.jsonl:1 must be an object with strings "q" and "a"'),
        ("not json", "rows.jsonl:1 must be"),
    ],
)
def test_data_without_a_usable_row(tmp_path, text, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(TuningError, match=message):
        read_rows(path)


def test_data_that_is_no_text_file(tmp_path):
    for name in ("none.jsonl", "none.jsonl.gz"):
        with pytest.raises(TuningError, match=f"data: must be a JSONL file or a gzip file of one, found no .*{name}"):
            read_rows(tmp_path / name)
    (tmp_path / "latin").write_bytes('{"q": "wo?", "a": "hüben"}'.encode("latin-1"))
    with pytest.raises(TuningError, match="latin must be UTF-8 text"):
        read_rows(tmp_path / "latin")


def test_data_in_a_torn_gzip_file(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"q": "x", "a": "yes"}\n')[:-9])
    with pytest.raises(TuningError, match="must be a whole gzip file"):
        read_rows(path)


def test_data_that_is_all_held_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "x", "a": "yes"}\n' * 40)
    with pytest.raises(TuningError, match="beyond the 40 held out"):
        training_documents(byte_tokenizer(), [path])


def test_models_that_are_none(tmp_path):
    with pytest.raises(TuningError, match="model: must be a .gguf file or a folder"):
        load_base(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TuningError, match="architecture must be one of llama, .*, got 'gpt2'"):
        load_base(tmp_path)


def test_targets_of_another_vocabulary_or_none(files, tmp_path):
    with pytest.raises(TuningError, match="vocabulary 999, got 260"):
        read_targets([files / "targets.safetensors"], 999)
    with pytest.raises(TuningError, match="written by `sorted-tuning targets`"):
        read_targets([tmp_path / "none"], 260)


def test_targets_that_don_t_go_together(files, base, tmp_path):
    def written(name, model, rows="rows.jsonl", folder=files, **settings):
        out = tmp_path / name
        write_targets(model, byte_tokenizer(), [folder / rows], out, **TEACHING | settings)
        return out

    one = files / "targets.safetensors"
    for length, k in ((16, 8), (32, 4)):
        other = written("other", base, length=length, k=k)
        with pytest.raises(TuningError, match=f"of 32 tokens with the top 8, got of {length} tokens with the top {k}"):
            read_targets([one, other], 260)
    rows = (files / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text("\n".join(reversed(rows)))
    other = written("other", base, folder=tmp_path)
    with pytest.raises(TuningError, match=f"{other} must hold out the documents that {one} does"):
        read_targets([one, other], 260)
    one, other = (written(str(seed), tiny_llama(seed=seed), boundaries=(1,)) for seed in (3, 4))
    with pytest.raises(TuningError, match=f"states in {other} must be of the trunk that those in"):
        read_targets([one, other], 260)


def test_nan_stops_and_keeps_the_last_good_checkpoint(every_step, tmp_path):
    tuner = Tuner(every_step, tmp_path, print)
    one_step = tuner._one_step

    def poisoned():
        if tuner.step == 4:
            with torch.no_grad():
                tuner.sorted.base.model.norm.weight[0] = float("nan")
        one_step()

    tuner._one_step = poisoned
    with pytest.raises(TuningError, match="loss: must stay finite, got nan at step 5.*checkpoint-00000004"):
        tuner.train()
    assert checkpoint.latest(tmp_path).name == "checkpoint-00000004.pt"
    Tuner(every_step, tmp_path, print)  # and the run can go on from it


def test_a_checkpoint_of_another_mode_is_refused(config, tmp_path):
    tune(dataclasses.replace(config, mode="blocks", exits="1+1,4", total_tokens=128), tmp_path, print)
    with pytest.raises(TuningError, match="must hold what the run tunes, lacks"):
        Tuner(dataclasses.replace(config, exits="1,4"), tmp_path, print)


def test_the_command_line_names_the_missing_options_of_a_new_run(tmp_path):
    result = CliRunner().invoke(app, ["tune", "--run-dir", str(tmp_path)])
    assert isinstance(result.exception, TuningError)
    assert str(result.exception) == "model: must be given to start a run, got none"


def test_blocks_of_another_shape(tmp_path):
    small = SortedModel(tiny_llama(seed=3), parse_exits("1+1,4"))
    blocks = {name: value[..., :8] for name, value in small.blocks.state_dict().items()}
    with pytest.raises(TuningError, match=f"^{tmp_path}: blocks must be of the model's shape: size mismatch"):
        put_blocks(small, blocks, tmp_path)


@pytest.mark.parametrize("command", ["calibrate", "targets", "generate", "answers"])
def test_an_unwritable_path_is_an_error_before_the_work(tmp_path, command):
    (tmp_path / "file").touch()
    for place, rule in [(tmp_path, "be a file to write"), (tmp_path / "file" / "out", "lie in a folder")]:
        result = CliRunner().invoke(app, [command, "--out", str(place), *REQUIRED[command]])
        assert isinstance(result.exception, TuningError)
        assert str(result.exception).startswith(f"out: must {rule}, got ")


REQUIRED = {
    "calibrate": ["--model", "none", "--data", "none"],
    "targets": ["--model", "none", "--data", "none"],
    "generate": ["--server", "none", "--server-model", "m", "--tokenizer", "none"],
    "answers": ["--server", "none", "--server-model", "m", "--exits", "1", "--tokenizer", "none"]
    + ["--questions", "none", "--variant", "v"],
}
"""Options without which a command does not begin."""


def test_the_folder_of_a_result_is_made(files, tmp_path):
    out = tmp_path / "new" / "folder" / "targets.safetensors"
    arguments = ["targets", "--model", files / "base", "--data", files / "rows.jsonl", "--length", 8, "--out", out]
    arguments += ["--precision", "fp32", "--top-k", 1]
    assert CliRunner().invoke(app, [str(argument) for argument in arguments]).exception is None
    assert out.is_file()


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "questions: must be a file of UTF-8 text, got .*asked.json: .*No such file"),
        ('{"q": 1}\n{"q": 2}', "questions: .*asked.json must be JSON: Extra data"),
        ('{"q": 1}', "questions: .*asked.json must be a list of objects with a string"),
        ("[]", "questions: .*asked.json must be a list of objects with a string"),
        ('[{"instruction": "Say hi."}]', "questions: .*asked.json must be a list of objects .* and a list .right"),
        ('[{"instruction": "2?", "right": ["2"]}, {"instruction": "2?", "right": ["2"]}]', "twice: '2\\?'"),
    ],
)
def test_questions_that_are_none(tmp_path, text, message):
    if text is not None:
        (tmp_path / "asked.json").write_text(text)
    with pytest.raises(TuningError, match=message):
        read_questions(tmp_path / "asked.json")


def test_an_unreachable_server():
    with pytest.raises(TuningError, match="server: http://127.0.0.1:1/v1/completions must be reachable: "):
        Sampler("http://127.0.0.1:1", "m").complete("hi", "stop", 0, {})


@pytest.mark.parametrize("boundaries", ["x", "1,", "1+1"])
def test_boundaries_that_are_no_layers(files, tmp_path, boundaries):
    arguments = ["targets", "--model", files / "base", "--data", files / "rows.jsonl"]
    arguments += ["--boundaries", boundaries, "--out", tmp_path / "out", "--precision", "fp32"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert str(result.exception) == f"boundaries: must be trunk layers with commas, got {boundaries!r}"


def test_a_model_without_a_chat_template():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(TuningError, match="model: must have a chat template, found none"):
        Template.of(tokenizer)
