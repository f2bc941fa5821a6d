"""The command line: one subcommand per step of the recipe. Knows options; the work is in the modules it calls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sorted_tuning.errors import TuningError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Model = Annotated[Path, typer.Option(help="GGUF file or Hugging Face folder (with exit-blocks.safetensors, if any).")]
Exits = Annotated[str | None, typer.Option(help='Exits as "10,15,30", or "9+1,14+1,30" with block layers.')]
Data = Annotated[list[Path], typer.Option(help="JSONL of questions and answers; may be repeated.")]


@app.command()
def calibrate(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="safetensors file to write.")],
    exits: Exits = None,
    documents: Annotated[int, typer.Option(min=1, help="How many training documents to run.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens used of each document.")] = 1024,
) -> None:
    """Second moments of every linear layer's input, for the converter's GPTQ-like quantizer."""
    from sorted_tuning.calibrate import calibrate as run
    from sorted_tuning.data import training_documents
    from sorted_tuning.exits import Exit, parse_exits
    from sorted_tuning.export import EXIT_BLOCKS, load_sorted
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.model import SortedLlama

    texts = [ids[:max_tokens] for ids in training_documents(load_tokenizer(model), data)[:documents]]
    if exits is None and not (model / EXIT_BLOCKS).is_file():
        # Without blocks every exit runs the same trunk layers: full depth alone sees every linear input.
        base = load_base(model)
        loaded = SortedLlama(base, (Exit(base.config.num_hidden_layers),))
    else:
        loaded = load_sorted(model, parse_exits(exits) if exits else None)
    typer.echo(f"{run(loaded, texts, out)} tokens of {len(texts)} documents -> {out}")


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    exits: Exits = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """A Hugging Face folder (plus exit-blocks.safetensors) that `sortie convert` reads."""
    import torch

    from sorted_tuning.exits import parse_exits
    from sorted_tuning.export import export as run
    from sorted_tuning.export import load_sorted
    from sorted_tuning.load import load_tokenizer

    if dtype not in ("float32", "bfloat16", "float16"):
        raise TuningError(f"dtype: must be float32, bfloat16 or float16, got {dtype!r}")
    run(load_sorted(model, parse_exits(exits) if exits else None), load_tokenizer(model), out, getattr(torch, dtype))
    typer.echo(f"exported to {out}")


@app.command()
def golden(
    folder: Annotated[Path, typer.Argument(help="Converted model folder (with manifest.json).")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    kernel: Annotated[str | None, typer.Option(help="Whose weights; the folder's first kernel by default.")] = None,
) -> None:
    """Golden logits of a converted folder, by plain PyTorch over its dequantized weights."""
    from sorted_tuning.reference.converted import read_manifest
    from sorted_tuning.reference.golden import golden_of_folder

    golden_of_folder(folder, kernel or read_manifest(folder)["kernels"][0], out)
    typer.echo(f"wrote {out}")


@app.command("golden-tiny")
def golden_tiny(
    out: Annotated[Path, typer.Option(help="Folder to write tiny/, tiny.json and tiny-blocks.json into.")],
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 7,
) -> None:
    """A tiny random checkpoint with exit blocks, and its golden logits with and without them."""
    from sorted_tuning.reference.tiny import write_tiny

    write_tiny(out, seed)
    typer.echo(f"wrote {out}/tiny, tiny.json, tiny-blocks.json")


def main() -> None:
    """Run the command line; a TuningError is one line on stderr and exit code 2."""
    try:
        app()
    except TuningError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
