"""The models of runs, for evaluation and export."""

from __future__ import annotations

from pathlib import Path

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import parse_exits
from sorted_tuning.export import export, load_sorted
from sorted_tuning.load import licence_of, load_tokenizer
from sorted_tuning.model import SortedModel
from sorted_tuning.targets import held_out_of
from sorted_tuning.tuning import checkpoint
from sorted_tuning.tuning.config import TuneConfig
from sorted_tuning.tuning.parameters import freeze


def tuned_model(run: Path) -> tuple[SortedModel, TuneConfig]:
    """The model at the newest checkpoint of a run."""
    config = TuneConfig.load(Path(run) / "config.json")
    model = load_sorted(Path(config.model), parse_exits(config.exits))
    freeze(model, config)
    last = checkpoint.latest(run)
    if last is None:
        raise TuningError(f"run: must have a checkpoint, found none in {run}")
    checkpoint.load(last, model)
    return model.requires_grad_(False).eval(), config


def must_hold_out(run: Path, data: Path, documents: list[list[int]], vocab: int) -> None:
    """A TuningError where a run has other held-out documents than these, the first ones of `data` or all.

    It may have learnt them. Without its targets file the check is skipped.
    """
    config = TuneConfig.load(Path(run) / "config.json")
    targets = Path(config.targets[0])
    if not targets.is_file():
        return
    theirs = [document for document in held_out_of(targets, vocab) if len(document) > 1]
    for number, document in enumerate(documents):
        if theirs[number : number + 1] != [document]:
            raise TuningError(
                f"data: {data} must begin with the {len(theirs)} documents that the run holds out, those of {targets}, "
                f"got another as number {number + 1}, which it may have learnt"
            )


def mean_model(runs: list[Path], with_start: bool = False) -> tuple[SortedModel, TuneConfig]:
    """The mean of the weights at the newest checkpoints of runs that continued one another (arXiv 2203.05482).

    with_start includes the model that the first run began with, so that the mean forgets less of other kinds of text
    (arXiv 2109.01903).
    """
    model, config = tuned_model(runs[0])
    total = model.state_dict()
    count = len(runs) + with_start
    if with_start:
        start = load_sorted(Path(config.model), parse_exits(config.exits)).state_dict()
        total = {name: value + start[name] for name, value in total.items()}
    for run in runs[1:]:
        other, its = tuned_model(run)
        if its.exits != config.exits:
            raise TuningError(f"run: {run} must have the exits of {runs[0]}, {config.exits}, got {its.exits}")
        total = {name: value + total[name] for name, value in other.state_dict().items()}
    model.load_state_dict({name: value / count for name, value in total.items()})
    return model, config


def export_runs(runs: list[Path], out: Path, with_start: bool = False) -> None:
    """Export the mean of runs as a Hugging Face folder with exit-blocks.safetensors."""
    model, config = mean_model(runs, with_start)
    source = Path(config.model)
    export(model, load_tokenizer(source), out, licence_of(source))
