"""The looped miniature: its task, its loops, and what it writes."""

import json
import random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from sorted_tuning.looped import IGNORED, SPECIALS, Looped, Shape, batch, export, line, losses, tokenizer, tune

SMALL = Shape(layers=1, loops=3, hidden=32, ffn=32)


def test_a_line_says_where_the_walk_ends():
    text, places = line(random.Random(3), 5)
    pairs, questions = text.split(":")
    step = dict(zip(pairs[::2], pairs[1::2], strict=True))
    for i in range(5):
        start, count, end = questions[3 * i : 3 * i + 3]
        for _ in range(int(count)):
            start = step[start]
        assert start == end
    assert [text[place] for place in places] == list(questions[2::3])


def test_answers_stand_at_the_position_in_front():
    ids, answers, steps = batch(random.Random(4), 2, 3)
    rows, at = (answers != IGNORED).nonzero(as_tuple=True)
    assert torch.equal(ids[rows, at + 1], answers[rows, at])
    assert torch.equal(ids[rows, at] - len(SPECIALS) - ord("0"), steps[rows, at])


def test_loops_share_weights_and_differ_in_states():
    model = Looped(SMALL)
    states = model(torch.tensor([[5, 6, 7]]))
    assert len(states) == 3
    assert not torch.allclose(states[0], states[1])
    # A position reads none behind it.
    changed = model(torch.tensor([[5, 6, 9]]))
    assert all(torch.allclose(a[:, :2], b[:, :2], atol=1e-6) for a, b in zip(states, changed, strict=True))


def test_tuning_lowers_the_loss_of_all_loops():
    torch.manual_seed(0)
    model = Looped(SMALL)
    held_out = batch(random.Random(9), 16, 4)[:2]
    before = losses(model, *held_out).item()
    tune(model, 30, 8, 4, 3e-3, 0, lambda _: None)
    assert losses(model, *held_out).item() < 0.8 * before


def test_the_folder_has_the_names_of_ouro(tmp_path):
    model = Looped(SMALL)
    export(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["OuroForCausalLM"]
    assert config["total_ut_steps"] == 3
    weights = load_file(tmp_path / "model.safetensors")
    layer = "model.layers.0."
    for name in ("input_layernorm", "input_layernorm_2", "post_attention_layernorm", "post_attention_layernorm_2"):
        assert weights[f"{layer}{name}.weight"].shape == (32,)
    assert weights["model.early_exit_gate.weight"].shape == (1, 32)
    assert weights["model.early_exit_gate.bias"].shape == (1,)


def test_the_tokenizer_has_a_token_for_each_byte():
    encoder = Tokenizer.from_str(json.dumps(tokenizer()))
    text = "ab: é a3b"
    assert encoder.encode(text).ids == [len(SPECIALS) + byte for byte in text.encode()]
