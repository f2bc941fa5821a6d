"""Write and read a sorted model: a Hugging Face folder for the trunk, a safetensors file for the exit blocks.

Names in exit-blocks.safetensors: `exits.{layer}.layers.{i}.<names of a layer in Hugging Face's folder>` and
`exits.{layer}.norm.weight`. Metadata: `exits`, e.g. "9+1,14+1,30".
Knows names and dtypes. Must not know training.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from sorted_tuning.errors import TuningError
from sorted_tuning.exits import Exit, format_exits, parse_exits
from sorted_tuning.load import licence_of, load_base, load_tokenizer
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.blocks import read_blocks

EXIT_BLOCKS = "exit-blocks.safetensors"


def export(model: SortedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, licence: str | None = None) -> None:
    """Write config.json, model.safetensors, the tokenizer and, where there are blocks, exit-blocks.safetensors.

    A known licence goes into a model card, where `sortie convert` reads it. Blocks and a card of an earlier export that
    this one doesn't have are removed; a card with further text is not ours and stays.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card, blocks = folder / "README.md", folder / EXIT_BLOCKS
    if licence:
        card.write_text(f"---\nlicense: {licence}\n---\n", "utf-8")
    elif card.is_file() and re.fullmatch(r"---\nlicense: [^\n]+\n---\n", card.read_text("utf-8")):
        card.unlink()
    if model.blocks:
        tensors = {f"exits.{name}": value.contiguous() for name, value in model.blocks.state_dict().items()}
        save_file(tensors, blocks, metadata={"exits": format_exits(model.exits)})
    else:
        blocks.unlink(missing_ok=True)


def load_sorted(source: Path, exits: tuple[Exit, ...] | None) -> SortedModel:
    """Load an exported folder, or put fresh exits onto a base.

    Blocks in the folder are loaded; exits=None then means those they were trained with, and other exits are an error.
    """
    source = Path(source)
    blocks = source / EXIT_BLOCKS
    saved = _saved_blocks(blocks) if source.is_dir() and blocks.is_file() else None
    if exits is None and saved is None:
        raise TuningError(f"exits: must be given, since {source} has no {EXIT_BLOCKS} that names them")
    if saved is not None:
        if exits is not None and [e for e in exits if e.block] != [e for e in saved[0] if e.block]:
            raise TuningError(f"exits: {blocks} was trained for {format_exits(saved[0])}, got {format_exits(exits)}")
        exits = exits or saved[0]
    model = SortedModel(load_base(source), exits)
    if saved is not None:
        put_blocks(model, {name.removeprefix("exits."): value for name, value in saved[1].items()}, blocks)
    return model.eval()


def export_with_blocks(base: Path, blocks_from: Path, folder: Path) -> None:
    """Export a base with the exits and blocks of a converted model folder."""
    exits, blocks = read_blocks(blocks_from)
    model = load_sorted(base, exits)
    put_blocks(model, blocks, blocks_from)
    export(model, load_tokenizer(base), folder, licence_of(base))


def put_blocks(model: SortedModel, blocks: dict[str, torch.Tensor], where: Path) -> None:
    """Load the exit blocks that `where` holds; those of a model of another shape are an error."""
    try:
        model.blocks.load_state_dict(blocks)
    except RuntimeError as error:
        # One line for each tensor, below a title.
        first = str(error).splitlines()[1].strip()
        raise TuningError(f"{where}: blocks must be of the model's shape: {first}") from error


def _saved_blocks(path: Path) -> tuple[tuple[Exit, ...], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            exits = (file.metadata() or {}).get("exits")
            if exits is None:
                raise TuningError(f"{path}: must name its exits in the metadata, found none")
            return parse_exits(exits), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable)
    except SafetensorError as error:
        raise TuningError(f"{path}: must be a readable safetensors file: {error}") from error
