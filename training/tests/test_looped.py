"""The looped miniature: its task, its loops, and what it writes."""

import json
import random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from sorted_tuning.looped import (
    IDS,
    IGNORED,
    LETTERS,
    MOST_STEPS,
    SPECIALS,
    Looped,
    Shape,
    batch,
    export,
    line,
    losses,
    tokenizer,
    tune,
)

SMALL = Shape(layers=1, loops=3, hidden=32, ffn=32)


def test_a_line_says_where_the_walk_ends():
    words = line(random.Random(3), 9)
    step = dict(word.strip() for word in words[: len(LETTERS)])
    assert sorted(step) == list(LETTERS)
    for question, answer in zip(words[len(LETTERS) :: 2], words[len(LETTERS) + 1 :: 2], strict=True):
        place = question[1]
        for _ in range(int(question[2])):
            place = step[place]
        assert answer == f" {place}"


def test_places_stand_at_their_questions():
    lines = batch(random.Random(4), 2, 6)
    words = {id_: word for word, id_ in IDS.items()}
    rows, at = (lines.steps > 0).nonzero(as_tuple=True)
    assert len(rows) == 12
    assert torch.equal(lines.ids[rows, at + 1], lines.places[-1][rows, at])
    assert [int(words[id_][-1]) for id_ in lines.ids[rows, at].tolist()] == lines.steps[rows, at].tolist()
    for row, place in zip(rows.tolist(), at.tolist(), strict=True):
        step = dict(words[id_].strip() for id_ in lines.ids[row, : len(LETTERS)].tolist())
        reached = [words[places[row, place].item()][1:] for places in lines.places]
        assert reached[0] == step[words[lines.ids[row, place].item()][1]]
        for loop in range(1, MOST_STEPS):
            more = loop < lines.steps[row, place]
            assert reached[loop] == (step[reached[loop - 1]] if more else reached[loop - 1])
    rows, at = (lines.following != IGNORED).nonzero(as_tuple=True)
    assert torch.equal(lines.ids[rows, at + 1], lines.following[rows, at])


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
    held_out = batch(random.Random(9), 16, 4)
    before = losses(model, held_out).item()
    tune(model, 30, 8, 4, 3e-3, 0, lambda _: None)
    assert losses(model, held_out).item() < 0.9 * before


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


def test_the_tokenizer_has_the_words_of_the_task():
    encoder = Tokenizer.from_str(json.dumps(tokenizer()))
    words = line(random.Random(5), 6)
    assert encoder.encode("".join(words)).ids == [IDS[word] for word in words]
    assert encoder.encode("é!").ids == [len(SPECIALS) + byte for byte in "é!".encode()]
    assert encoder.decode(encoder.encode(" ab a3 c").ids) == " ab a3 c"
