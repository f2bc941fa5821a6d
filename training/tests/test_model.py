"""Exits of the sorted model: what they compute, where their gradients go, and that they survive export."""

import pytest
import torch
from safetensors import safe_open

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import parse_exits
from sorted_tuning.export import EXIT_BLOCKS, export, load_sorted
from sorted_tuning.lengthen import lengthen_blocks
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
        torch.testing.assert_close(model(IDS)[exit_.layer] @ model.head.T, model.sub_model(exit_)(IDS).logits)


@pytest.mark.parametrize("exits", ["1+1,2+2,4", "2,4"])
def test_reading_some_positions_changes_neither_results_nor_gradients(base, exits):
    model = SortedModel(base, parse_exits(exits))
    randomize(model.blocks)
    ids, at = IDS.view(2, 3), torch.tensor([[2, 0], [1, 2]])
    rows = torch.arange(2)[:, None]
    results, gradients = [], []
    for read in ({}, {e.layer: at for e in model.exits}):
        model.zero_grad()
        hidden = model(ids, at=read)
        hidden = hidden if read else {layer: h[rows, at] for layer, h in hidden.items()}
        sum((h * torch.arange(h.numel()).view_as(h).cos()).sum() for h in hidden.values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        results.append(hidden)
    for layer, h in results[0].items():
        torch.testing.assert_close(results[1][layer], h)
    assert len(gradients[0]) == len(gradients[1]) > 20
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_generation_with_a_cache_equals_recomputing(base):
    model = SortedModel(base, parse_exits("1+1,4"))
    exit_ = model.exits[0]
    ids = IDS
    for _ in range(5):
        ids = torch.cat([ids, (model(ids)[1][:, -1] @ model.head.T).argmax(-1, keepdim=True)], 1)
    answer = model.sub_model(exit_).generate(IDS, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert answer.tolist() == ids.tolist()


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
    export(model, byte_tokenizer(), tmp_path, torch.float32, "apache-2.0")
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
    export(SortedModel(base, parse_exits("1+1,4")), byte_tokenizer(), tmp_path, torch.float32, "apache-2.0")
    export(SortedModel(base, parse_exits("2,4")), byte_tokenizer(), tmp_path, torch.float32)
    assert not (tmp_path / "exit-blocks.safetensors").exists() and not card.exists()
    assert load_sorted(tmp_path, parse_exits("2,4")).exits == parse_exits("2,4")
    card.write_text("---\nlicense: mit\n---\n\nOurs.\n")
    export(SortedModel(base, parse_exits("2,4")), byte_tokenizer(), tmp_path, torch.float32)
    assert "Ours." in card.read_text(), "a card that is more than an export's stays"


def test_exported_blocks_keep_to_their_exits(base, tmp_path):
    export(SortedModel(base, parse_exits("1+1,4")), byte_tokenizer(), tmp_path, torch.float32)
    with pytest.raises(TuningError, match=r"trained for 1\+1,4, got 2\+1,4"):
        load_sorted(tmp_path, parse_exits("2+1,4"))


@pytest.mark.parametrize(
    ("found", "wanted"), [("1+1,3+1,4", "1+1,2+2,4"), ("3+1,4", "1+3,4"), ("1+1,3+1,4", "1+1,3+1,4"), ("2,4", "2,4")]
)
def test_a_longer_block_answers_as_before(base, found, wanted):
    short, model = (SortedModel(base, parse_exits(exits)) for exits in (found, wanted))
    randomize(short.blocks)
    model.blocks.load_state_dict(lengthen_blocks(base, dict(short.blocks.state_dict()), short.exits, model.exits))
    for before, after in zip(short.exits, model.exits):
        torch.testing.assert_close(model(IDS)[after.layer], short(IDS)[before.layer])


@pytest.mark.parametrize(
    ("found", "wanted"), [("1+1,4", "1+2,4"), ("2+1,4", "3,4"), ("2,4", "1+1,4"), ("1+2,4", "2+1,4"), ("2+1,4", "4")]
)
def test_blocks_are_lengthened_at_the_same_depth_alone(base, found, wanted):
    short = SortedModel(base, parse_exits(found))
    with pytest.raises(TuningError, match="must run as many layers as those of the blocks"):
        lengthen_blocks(base, dict(short.blocks.state_dict()), short.exits, parse_exits(wanted))
