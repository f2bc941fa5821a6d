"""Exits of the sorted model: what they compute, where their gradients go, and that they survive export."""

import pytest
import torch
from conftest import sub_model
from safetensors import safe_open

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import parse_exits
from sorted_tuning.export import EXIT_BLOCKS, export, load_sorted
from sorted_tuning.load import licence_of
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer, randomize

IDS = torch.tensor([[5, 80, 130, 7, 44, 91]])


def touched(module):
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_full_depth_is_the_base(base):
    model = SortedModel(base, parse_exits("1+1,2,4"))
    torch.testing.assert_close(model(IDS)[4] @ model.head.T, base(IDS).logits)


@pytest.mark.parametrize("exits", ["1,2,4", "1+1,2+2,4"])
def test_each_exit_is_a_causal_lm_of_its_own(base, exits):
    model = SortedModel(base, parse_exits(exits))
    randomize(model.blocks)
    for exit_ in model.exits:
        torch.testing.assert_close(model(IDS)[exit_.layer] @ model.head.T, sub_model(model, exit_)(IDS).logits)


def test_a_block_starts_as_the_last_layers_and_norm(base):
    block = SortedModel(base, parse_exits("1+2,4")).blocks["1"]
    for own, last in zip(block.layers, base.model.layers[2:]):
        assert all(torch.equal(a, b) for a, b in zip(own.parameters(), last.parameters()))
    assert torch.equal(block.norm.weight, base.model.norm.weight)


def test_an_exit_teaches_only_the_layers_below_it(base):
    model = SortedModel(base, parse_exits("2,4"))
    model(IDS)[2].sum().backward()
    names = touched(base.model)
    assert any(n.startswith("layers.1.") for n in names) and "norm.weight" in names
    assert not any(n.startswith(("layers.2.", "layers.3.")) for n in names)


def test_a_frozen_trunk_gets_no_gradient_but_blocks_do(base):
    model = SortedModel(base, parse_exits("1+1,2+1,4"))
    sum(h.sum() for n, h in model(IDS, trunk_grad=False).items() if n != 4).backward()
    assert not touched(base)
    assert {n.split(".")[0] for n in touched(model.blocks)} == {"1", "2"}


def test_export_round_trip(base, tmp_path):
    model = SortedModel(base, parse_exits("1+1,2+2,4"))
    randomize(model.blocks)
    export(model, byte_tokenizer(), tmp_path, "apache-2.0")
    assert licence_of(tmp_path) == "apache-2.0"
    again = load_sorted(tmp_path, None)
    assert again.exits == model.exits
    for layer, h in model(IDS).items():
        assert torch.equal(h, again(IDS)[layer])
    with safe_open(tmp_path / EXIT_BLOCKS, "pt") as file:
        names = set(file.keys())
    assert {"exits.1.norm.weight", "exits.2.layers.1.self_attn.q_proj.weight"} <= names
    assert len(names) == 3 * 9 + 2


def test_an_export_leaves_nothing_of_the_one_before(base, tmp_path):
    card = tmp_path / "README.md"
    export(SortedModel(base, parse_exits("1+1,4")), byte_tokenizer(), tmp_path, "apache-2.0")
    export(SortedModel(base, parse_exits("2,4")), byte_tokenizer(), tmp_path)
    assert not (tmp_path / "exit-blocks.safetensors").exists() and not card.exists()
    assert load_sorted(tmp_path, parse_exits("2,4")).exits == parse_exits("2,4")
    card.write_text("---\nlicense: mit\n---\n\nOurs.\n")
    export(SortedModel(base, parse_exits("2,4")), byte_tokenizer(), tmp_path)
    assert "Ours." in card.read_text(), "a card that is more than an export's stays"


def test_exported_blocks_keep_to_their_exits(base, tmp_path):
    export(SortedModel(base, parse_exits("1+1,4")), byte_tokenizer(), tmp_path)
    with pytest.raises(TuningError, match=r"trained for 1\+1,4, got 2\+1,4"):
        load_sorted(tmp_path, parse_exits("2+1,4"))
