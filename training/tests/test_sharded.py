"""torch's FSDP2 on two CPU processes: the objective steps on sharded weights, and one process reads its checkpoint."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from accelerate import FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sorted_tuning.exits import parse_exits
from sorted_tuning.export import load_sorted
from sorted_tuning.fakequant import quantize_layers
from sorted_tuning.targets import read_targets
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.heldout import held_out_scores
from sorted_tuning.tuning.objective import SortedObjective
from sorted_tuning.tuning.parameters import freeze, groups, layers
from sorted_tuning.tuning.sharding import BF16, set_precision
from sorted_tuning.tuning.tune import tuned_model


def two_steps(rank, config, run, meeting_point):
    """One process: shard, step once with a still trunk and once with all, save; the first writes what it scored.

    The scores are of what was saved, as it is and as a kernel rounds it; then a step learns through the rounding.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    model = load_sorted(Path(config.model), parse_exits(config.exits))
    freeze(model, config)
    objective = SortedObjective(model, config.loss)
    mesh = init_device_mesh("cpu", (2,))
    for module in (*layers(model), objective):
        fully_shard(module, mesh=mesh, mp_policy=BF16)
    optimizer = torch.optim.AdamW([{**g, "lr": 1e-2} for g in groups(model, config)])
    targets = read_targets([Path(file) for file in config.targets], 260)

    def step(exits, trunk_grad):
        ids, top_ids, top_p = (t[rank * 4 : rank * 4 + 4] for t in (targets.ids, targets.top_ids, targets.top_p))
        at = torch.arange(8).expand(len(exits), 4, -1)
        losses = objective(ids.long(), top_ids, top_p.view(torch.int16), at, exits, trunk_grad)
        assert losses.dtype == torch.float32
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(model.exits[:1], False)
    step(model.exits, True)
    checkpoint.save(run, objective, optimizer, {"step": 2, "tokens": 512})
    scores = [held_out_scores(objective, model.exits, targets, 8, torch.device("cpu"))]
    quantize_layers(layers(model), "w8a8")
    scores.append(held_out_scores(objective, model.exits, targets, 8, torch.device("cpu")))
    weight = model.base.model.layers[0].mlp.up_proj.weight
    before = weight.to_local().clone()
    step(model.exits, True)
    assert not torch.equal(weight.to_local(), before)
    if rank == 0:
        torch.save(scores, run / "scores.pt")
    dist.destroy_process_group()


def test_a_sharded_run_is_read_by_one_process(config, tmp_path):
    config = dataclasses.replace(config, mode="hybrid", exits="1+1,4")
    run = tmp_path / "run"
    run.mkdir()
    config.save(run / "config.json")
    untuned = load_sorted(Path(config.model), parse_exits(config.exits))
    mp.spawn(two_steps, (config, run, tmp_path / "meet"), nprocs=2)

    model, _ = tuned_model(run)
    assert not torch.equal(model.blocks["1"].norm.weight, untuned.blocks["1"].norm.weight)
    assert not torch.equal(
        model.base.model.layers[0].mlp.up_proj.weight, untuned.base.model.layers[0].mlp.up_proj.weight
    )
    sharded = torch.load(run / "scores.pt")
    targets = read_targets([Path(file) for file in config.targets], 260)

    def scored(model):
        return held_out_scores(SortedObjective(model, "kl"), model.exits, targets, 8, torch.device("cpu"))["kl"]

    before, alone = scored(untuned), [scored(model)]
    quantize_layers(layers(model), "w8a8")
    alone.append(scored(model))
    for theirs, ours in zip(sharded, alone, strict=True):
        for exit_, kl in theirs["kl"].items():
            assert abs(kl - ours[exit_]) < 0.02 * kl + 2e-3  # bf16 against fp32
            assert abs(before[exit_] - kl) > 5e-3


def test_a_sharded_run_sums_gradients_in_fp32():
    def policy(version, precision):
        plugin = FullyShardedDataParallelPlugin(fsdp_version=version)
        plugin.set_mixed_precision("bf16")
        sharded = version == 2
        state = SimpleNamespace(fsdp_plugin=plugin)
        set_precision(SimpleNamespace(is_fsdp2=sharded, mixed_precision=precision, state=state))
        return plugin.mixed_precision_policy

    assert policy(2, "bf16") == BF16 and BF16.reduce_dtype == torch.float32 and BF16.output_dtype is None
    assert policy(2, "no") != BF16 and policy(1, "bf16") != BF16
    set_precision(SimpleNamespace(mixed_precision="bf16"))  # an accelerate that doesn't know FSDP2
