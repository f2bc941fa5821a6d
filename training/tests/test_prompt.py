"""A prompt exit on the tiny model: it learns, the base stays, and the saved checkpoint is what was tuned."""

import json
import random

import pytest
import torch
from runs import quiet
from safetensors.torch import load_file
from test_reference import as_folder
from torch.nn import functional as F
from typer.testing import CliRunner

from sorted_tuning.cli import app
from sorted_tuning.data import HELD_OUT, read_rows
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.served import ask
from sorted_tuning.exits import parse_exits
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.load import load_base
from sorted_tuning.model import SortedModel
from sorted_tuning.prompt.config import PromptConfig
from sorted_tuning.prompt.export import export_prompt, read_prompt
from sorted_tuning.prompt.model import PromptExit
from sorted_tuning.prompt.tune import PromptTuner
from sorted_tuning.reference.base import base_of
from sorted_tuning.reference.tiny import byte_tokenizer, tiny_llama
from sorted_tuning.targets import write_targets

EXIT = 2


@pytest.fixture(scope="module")
def targets(files):
    """Windows of the tiny model with its states at the exit."""
    path = files / "prompt-targets.safetensors"
    settings = {"length": 32, "k": 8, "batch": 8, "seed": 1, "precision": "fp32"}
    base = load_base(files / "base")
    write_targets(base, byte_tokenizer(), [files / "rows.jsonl"], path, boundaries=(EXIT,), **settings)
    return path


@pytest.fixture
def settings(files, targets):
    return {
        "model": str(files / "base"), "targets": (str(targets),), "exit": EXIT, "batch": 4, "lr": 3e-3,
        "total_tokens": 40 * 128, "warmup_tokens": 256, "eval_tokens": 10_000,
    }  # fmt: skip


def scores(run):
    return [line["kl"][str(EXIT)] for line in read_whole_lines(run / "metrics.jsonl") if "kl" in line]


def reference(tensors, config, ids, on, answer=0):
    """Logits [S, V] of a checkpoint of SwiftKV, from its formulas and the names in its file.

    answer: the first position that has the base's own projections; 0: none.
    """
    exit_, group = config["num_key_value_layers"], config["key_value_group_size"]
    heads, kv_heads, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    theta = config["rope_parameters"]["rope_theta"]
    angles = torch.outer(torch.arange(len(ids)), theta ** (-torch.arange(0, size, 2) / size))

    def norm(x, name):
        return tensors[name] * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"])

    def turned(x):
        a, b = x[..., : size // 2], x[..., size // 2 :]
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    x = tensors["model.embed_tokens.weight"][ids]
    shared = None
    for i in range(config["num_hidden_layers"]):
        def own(part, layer=i):
            return tensors[f"model.layers.{layer}.{part}.weight"]

        deep = on and i >= exit_
        if deep and i == exit_:
            shared = norm(x, "model.norm_swiftkv.weight")
        suffix = "_swiftkv" if deep else ""
        rows = norm(x, f"model.layers.{i}.input_layernorm.weight")
        leader = i - (i - exit_) % group if deep else i
        source = shared if deep else rows
        q = rows @ own("self_attn.q_proj" + ("" if answer else suffix)).T
        k, v = (source @ own(f"self_attn.{part}_proj{suffix}", leader).T for part in "kv")
        if answer:
            k[answer:], v[answer:] = (rows[answer:] @ own(f"self_attn.{part}_proj").T for part in "kv")
        q, k = turned(q.view(-1, heads, size)), turned(k.view(-1, kv_heads, size))
        v = v.view(-1, kv_heads, size)
        k, v = (part.repeat_interleave(heads // kv_heads, 1) for part in (k, v))
        weights = torch.einsum("shd,thd->hst", q, k) / size**0.5
        weights = weights.masked_fill(~torch.ones(len(ids), len(ids), dtype=torch.bool).tril(), -torch.inf).softmax(-1)
        x = x + torch.einsum("hst,thd->shd", weights, v).flatten(1) @ own("self_attn.o_proj").T
        rows = norm(x, f"model.layers.{i}.post_attention_layernorm.weight")
        x = x + (F.silu(rows @ own("mlp.gate_proj").T) * (rows @ own("mlp.up_proj").T)) @ own("mlp.down_proj").T
    return norm(x, "model.norm.weight") @ tensors["model.embed_tokens.weight"].T


@pytest.mark.parametrize("keys_only", [False, True])
def test_kl_falls_while_the_base_stays_as_it_is(settings, tmp_path, keys_only):
    settings["keys_only"] = keys_only
    copies = PromptTuner(PromptConfig(**settings, fit_tokens=0), tmp_path / "copies", quiet)
    copies._score()
    tuner = PromptTuner(PromptConfig(**settings), tmp_path / "fitted", quiet)
    before = {name: value.clone() for name, value in tuner.base.state_dict().items()}
    tuner.train()
    start, end = scores(tmp_path / "fitted")[0], scores(tmp_path / "fitted")[-1]
    assert start < scores(tmp_path / "copies")[0]
    assert end < 0.9 * start
    assert all(torch.equal(value, before[name]) for name, value in tuner.base.state_dict().items())


@pytest.mark.parametrize("group, answer", [(1, 0), (2, 0), (1, 20)])
@torch.no_grad()
def test_a_saved_checkpoint_is_what_was_tuned(base, tmp_path, group, answer):
    prompt = PromptExit(base, 1, group, keys_only=answer > 0)
    for name, value in prompt.named_parameters():
        value.uniform_(0.5, 1.5) if "norm" in name else value.normal_(0, 0.2)
    export_prompt(prompt, byte_tokenizer(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaSwiftKVForCausalLM"]
    tensors, ids = load_file(tmp_path / "model.safetensors"), torch.arange(3, 40)
    assert all(torch.equal(tensors[name], value) for name, value in base.state_dict().items() if name in tensors)
    assert {name for name in base.state_dict() if name not in tensors} <= {"lm_head.weight"}
    states = base.model(ids[None], output_hidden_states=True).hidden_states[1]
    answers = (torch.arange(len(ids)) >= answer)[None]
    ours = base.lm_head(prompt(states, answers))[0][answer:]
    taught = reference(tensors, config, ids, on=True, answer=answer)[answer:]
    torch.testing.assert_close(ours, taught, atol=1e-4, rtol=1e-4)
    full = base(ids[None]).logits[0]
    torch.testing.assert_close(full, reference(tensors, config, ids, on=False), atol=1e-4, rtol=1e-4)
    assert config.get("swiftkv_answers", True) is (answer == 0)
    assert any("q_proj_swiftkv" in name for name in tensors) is (answer == 0)
    again = PromptExit(base, 1, group, keys_only=answer > 0)
    read_prompt(again, tmp_path)
    assert torch.equal(again(states, answers), prompt(states, answers))


def test_a_run_continues_with_its_own_settings(settings, tmp_path):
    short = settings | {"total_tokens": 8 * 128, "fit_tokens": 256}
    whole = PromptTuner(PromptConfig(**short), tmp_path / "whole", quiet).train()
    tuner = PromptTuner(PromptConfig(**short), tmp_path / "cut", quiet)
    for _ in range(5):
        tuner._one_step()
    tuner._save()
    resumed = PromptTuner(PromptConfig(**short), tmp_path / "cut", quiet).train()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    with pytest.raises(TuningError, match="lr: must stay 0.003 in a run that has a checkpoint, got 0.1"):
        PromptTuner(PromptConfig(**short | {"lr": 0.1}), tmp_path / "cut", quiet)


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"exit": 4}, "exit: must be one of the trunk layers 1 to 3, got 4"),
        ({"group": 3}, "group: must be 1 to 2 layers behind exit 2, got 3"),
        ({"group": 2, "keys_only": True}, "group: must be 1 with keys_only, since answers keep keys of their own, got 2"),
        ({"exit": 1}, "targets: must hold probabilities and the states after layer 1"),
        ({"positions": 0}, "positions: must be over 0 and at most 1, got 0"),
    ],
)
def test_settings_that_can_not_work_are_named(settings, tmp_path, changes, fault):
    with pytest.raises(TuningError) as caught:
        PromptTuner(PromptConfig(**settings | changes), tmp_path, quiet)
    assert fault in str(caught.value)


def test_the_command_writes_a_checkpoint(settings, tmp_path):
    options = {"run-dir": tmp_path / "run", "model": settings["model"], "targets": settings["targets"][0], "exit": EXIT}
    options |= {"out": tmp_path / "out", "total-tokens": 128, "batch": 4, "fit-tokens": 256, "precision": "fp32"}
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    result = CliRunner().invoke(app, ["prompt", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "model.layers.3.self_attn.v_proj_swiftkv.weight" in load_file(tmp_path / "out" / "model.safetensors")


def test_passages_hold_what_their_questions_ask(tmp_path):
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefgh", k=5)) for _ in range(50)]
    answer = [". ".join(" ".join(rng.sample(words, 9)) for _ in range(4)) + "." for _ in range(HELD_OUT + 20)]
    lines = [json.dumps({"q": f"q{i}", "a": a}) for i, a in enumerate(answer)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    arguments = ["passages", "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl", "--rows", "60"]
    assert CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False).exit_code == 0
    rows = read_rows(tmp_path / "out.jsonl")
    assert len(rows) == 60
    told = [set(row.answer.rstrip(".").split()) & set(row.question.replace(".", " ").split()) for row in rows]
    assert all(told)
    assert not any(held in row.question for row in rows for held in answer[:HELD_OUT])


def test_answers_of_a_folder_choose_the_depth_of_their_prompts(server, files, tmp_path):
    server.reply = lambda body: ("Yes.", "stop")
    url, out = f"http://127.0.0.1:{server.server_port}", tmp_path / "answers.jsonl"
    for depth in (None, 2):
        settings = {"variant": str(depth), "exits": ["4"], "workers": 1, "prompt_depth": depth}
        ask(url, "tiny", byte_tokenizer(), ["Is it?"], out, **settings)
    assert [headers.get("X-Prompt-Depth") for headers in server.headers] == [None, "2"]


def test_the_base_of_a_folder_has_its_weights():
    model = SortedModel(tiny_llama(seed=5), parse_exits("2,4"))
    manifest, weights = as_folder(model)
    manifest["architecture"] |= {"vocab": 260, "hidden": 32, "ffn": 64, "kvHeads": 2, "context": 256}
    manifest |= {"bosToken": 0, "eosTokens": [2]}
    found = base_of(manifest, weights).state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.base.state_dict().items())
    manifest["architecture"]["rotary"][0]["scaling"] = {"factor": 2}
    with pytest.raises(TuningError, match="must hold a plain Llama, got another rotary"):
        base_of(manifest, weights)
