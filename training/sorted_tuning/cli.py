"""The command line: one subcommand per step of the recipe. Knows options; the work is in the modules it calls."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from sorted_tuning.errors import TuningError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def _place(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Check, before the work, that the option's file can be written."""
    from sorted_tuning.files import place_for

    return path and place_for(param.name, path)


Model = Annotated[Path, typer.Option(help="GGUF file or Hugging Face folder (with exit-blocks.safetensors, if any).")]
Tokenizer = Annotated[Path, typer.Option(help="GGUF file or folder whose chat template is used.")]
Exits = Annotated[str | None, typer.Option(help='Exits as "10,15,30", or "8+2,13+2,30" with block layers.')]
Data = Annotated[list[Path], typer.Option(help="JSONL of questions and answers; may be repeated.")]
Questions = Annotated[Path, typer.Option(help="JSON of questions with right answers, such as data/questions.json.")]
Out = Annotated[Path, typer.Option(help="File to write.", callback=_place)]
Appended = Annotated[Path, typer.Option(help="JSONL file to append to.", callback=_place)]
Server = Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server.")]
Workers = Annotated[int, typer.Option(min=1, help="Requests in flight.")]
Precision = Annotated[
    str, typer.Option(help="bf16 (weights that learn stay fp32), fp32, or auto: the faster of the two.")
]


def _layers(boundaries: str | None) -> tuple[int, ...]:
    """Trunk layers of "9,14"; none where none are given."""
    if not boundaries:
        return ()
    parts = [part.strip() for part in boundaries.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise TuningError(f"boundaries: must be trunk layers with commas, got {boundaries!r}")
    return tuple(map(int, parts))


@app.command()
def generate(
    server: Server,
    server_model: Annotated[str, typer.Option(help="Name of the base there.")],
    tokenizer: Tokenizer,
    out: Appended,
    rows: Annotated[int, typer.Option(min=1, help="How many rows the file shall hold.")] = 1000,
    workers: Workers = 32,
    seed: Annotated[int, typer.Option(help="Seed of the questions' first words and of the sampling.")] = 1,
) -> None:
    """Self-generated questions and answers from a server that runs the base; continues an existing file."""
    from sorted_tuning.chat_template import Template
    from sorted_tuning.completions import Sampler
    from sorted_tuning.generate import generate as run
    from sorted_tuning.load import load_tokenizer

    template = Template.of(load_tokenizer(tokenizer))
    typer.echo(f"{run(Sampler(server, server_model), template, out, rows, workers, seed)} new rows -> {out}")


@app.command()
def targets(
    model: Model,
    data: Data,
    out: Out,
    length: Annotated[int, typer.Option(min=2, help="Tokens per window.")] = 512,
    top_k: Annotated[int, typer.Option(min=1, help="Teacher probabilities kept per position.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Windows per teacher step.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the documents' order.")] = 1,
    boundaries: Annotated[
        str | None,
        typer.Option(help='Keep the trunk\'s states after these layers, e.g. "8,13,18,23": blocks learn without it.'),
    ] = None,
    answers_first: Annotated[
        bool,
        typer.Option("--answers-first", help="Let a step that samples positions take those that write answers first."),
    ] = False,
    never: Annotated[
        list[Path] | None, typer.Option(help="Questions, as of `answers`, that must not be learnt; may be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the teacher, e.g. cpu or cuda.")] = "cpu",
    precision: Precision = "auto",
) -> None:
    """The base's top-k distribution at every position, once; also cuts the data into windows."""
    from sorted_tuning.evaluation.questions import read_questions
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.precision import resolve
    from sorted_tuning.targets import write_targets

    settings = {"length": length, "k": top_k, "batch": batch, "seed": seed, "precision": resolve(precision, device)}
    settings |= {"boundaries": _layers(boundaries), "answers_first": answers_first}
    settings["never"] = [question.text for file in never or () for question in read_questions(file)]
    count = write_targets(load_base(model).to(device), load_tokenizer(model), data, out, **settings)
    typer.echo(f"{count} training tokens -> {out}")


@app.command()
def tune(
    ctx: typer.Context,
    run: Annotated[
        Path, typer.Option("--run-dir", help="Folder of checkpoints and metrics. Resumed where it has a checkpoint.")
    ],
    model: Annotated[Path | None, typer.Option(help="GGUF file or Hugging Face folder to start from.")] = None,
    targets: Annotated[
        list[Path] | None, typer.Option(help="File written by `targets`; may be repeated, as text grows.")
    ] = None,
    exits: Exits = None,
    mode: Annotated[str, typer.Option(help="soft (the paper: all layers) or blocks (frozen trunk).")] = "soft",
    exit_weights: Annotated[str | None, typer.Option(help="Weight of each exit's loss, e.g. 1,1,1,1,4.")] = None,
    total_tokens: Annotated[int, typer.Option(help="Tokens of the whole run: the schedule's length.")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Windows per step.")] = 4,
    positions: Annotated[float, typer.Option(help="Share of positions each exit's loss is computed on.")] = 0.25,
    head_sample: Annotated[
        int, typer.Option(help="Tokens of the vocabulary whose logits a step computes; 0: all (vocabulary.py).")
    ] = 0,
    lr: Annotated[float, typer.Option(help="Peak rate.")] = 1e-3,
    min_lr: Annotated[float, typer.Option(help="Rate at the end, as a share of the peak.")] = 0.02,
    warmup_tokens: Annotated[int, typer.Option(help="Tokens of linear warm-up.")] = 20_000,
    clip: Annotated[float, typer.Option(help="Largest gradient norm.")] = 1.0,
    train_norms: Annotated[bool, typer.Option(help="Tune the norms of exits with blocks along with these.")] = True,
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    checkpoint_minutes: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 5.0,
    eval_tokens: Annotated[int, typer.Option(help="Tokens between held-out scores.")] = 500_000,
    seed: Annotated[int, typer.Option(help="Seed of order and positions.")] = 1,
) -> None:
    """Tune all exits together.

    A run that has a checkpoint continues from there with its own settings; only --targets may name other data.
    """
    from sorted_tuning.precision import default_device, resolve
    from sorted_tuning.tuning import checkpoint
    from sorted_tuning.tuning.config import MACHINE, TuneConfig
    from sorted_tuning.tuning.tune import tune as train

    given = {name for name in TuneConfig.__dataclass_fields__ if ctx.get_parameter_source(name).name == "COMMANDLINE"}
    if precision == "auto":
        given.discard("precision")  # another machine may resolve auto to another precision
    precision = resolve(precision, default_device())
    options = locals() | {"model": str(model) if model else None, "targets": tuple(map(str, targets or ()))}
    if checkpoint.latest(run):
        # A schedule that changes mid-run makes another run, so the settings of its start hold; data may grow.
        saved = run / "config.json"
        config = TuneConfig.load(saved)
        free = {"targets", *MACHINE}
        for name in sorted(given - free):
            if options[name] != getattr(config, name):
                raise TuningError(
                    f"{name}: must stay {getattr(config, name)!r} in a run that has a checkpoint ({run}), "
                    f"got {options[name]!r}; another setting is another run"
                )
        config = dataclasses.replace(config, **{name: options[name] for name in given & free})
        config.save(saved)
    else:
        for name in ("model", "targets", "exits"):
            if not options[name]:
                raise TuningError(f"{name}: must be given to start a run, got none")
        config = TuneConfig(**{name: options[name] for name in TuneConfig.__dataclass_fields__})
    train(config, run, lambda line: print(line, flush=True))


@app.command()
def evaluate(
    base: Annotated[Path, typer.Option(help="The untouched base: GGUF file or folder.")],
    data: Annotated[Path, typer.Option(help="JSONL whose first 40 rows are the held-out documents.")],
    run: Annotated[Path | None, typer.Option("--run-dir", help="Run whose newest checkpoint is evaluated.")] = None,
    model: Annotated[Path | None, typer.Option(help="Or an exported folder or GGUF file.")] = None,
    exits: Exits = None,
    documents: Annotated[int, typer.Option(min=1, help="How many of them.")] = 40,
    precision: Precision = "auto",
) -> None:
    """KL, agreement and perplexity at every exit, of the sorted model and of the base that leaves early."""
    from sorted_tuning.data import held_out
    from sorted_tuning.evaluation.scores import scores
    from sorted_tuning.evaluation.table import markdown
    from sorted_tuning.exits import parse_exits
    from sorted_tuning.export import load_sorted
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.precision import dtype_of, resolve
    from sorted_tuning.targets import TEST_LENGTH
    from sorted_tuning.tuning.runs import must_hold_out, tuned_model

    if (run is None) == (model is None):
        raise TuningError("evaluate: must be given exactly one of --run-dir and --model")
    dtype = dtype_of(resolve(precision))
    teacher = load_base(base).to(dtype)
    held = held_out(load_tokenizer(base), data)[:documents]
    texts = [ids[:TEST_LENGTH] for ids in held if len(ids) > 1]
    if run is not None:
        must_hold_out(run, data, texts, teacher.config.vocab_size)
    tuned = tuned_model(run)[0] if run else load_sorted(model, parse_exits(exits) if exits else None)
    typer.echo(markdown(scores(tuned.to(dtype), teacher, texts)))


@app.command()
def answers(
    server: Server,
    server_model: Annotated[str, typer.Option(help="Name of its routed model: NAME:EXIT pins the depth.")],
    exits: Annotated[str, typer.Option(help="The exits that answer, as the server numbers them, with commas.")],
    tokenizer: Tokenizer,
    questions: Questions,
    out: Appended,
    variant: Annotated[str, typer.Option(help="Their name in `right`; `base` is the reference of all others.")],
    workers: Workers = 32,
    samples: Annotated[
        int, typer.Option(min=0, help="Draws of each answer (temperature 0.7), for the questions it can do; 0: greedy.")
    ] = 0,
) -> None:
    """Answers of a served model to questions, for `right`; continues an existing file."""
    from sorted_tuning.evaluation.answers import ask
    from sorted_tuning.evaluation.questions import read_questions
    from sorted_tuning.load import load_tokenizer

    numbers = [exit_.strip() for exit_ in exits.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise TuningError(f"exits: must be numbers with commas, as the server has them, got {exits!r}")
    settings = {"variant": variant, "exits": numbers, "workers": workers, "samples": samples}
    new = ask(server, server_model, load_tokenizer(tokenizer), read_questions(questions), out, **settings)
    typer.echo(f"{new} new answers -> {out}")


@app.command()
def right(
    answers: Annotated[Path, typer.Option(help="File written by `answers`.")],
    questions: Questions,
) -> None:
    """Shares of right answers of every variant and exit: of all, and of those that the base has right."""
    from sorted_tuning.evaluation.answers import right_answers
    from sorted_tuning.evaluation.questions import read_questions
    from sorted_tuning.evaluation.table import markdown

    typer.echo(markdown(right_answers(answers, read_questions(questions))))


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run-dir",
            help="Run whose newest checkpoint is exported. Repeated: the mean of runs that went on from one another.",
        ),
    ] = None,
    with_start: Annotated[
        bool,
        typer.Option("--with-start", help="The model that the first run began with counts as a run of the mean."),
    ] = False,
    model: Annotated[Path | None, typer.Option(help="Or a base, for --blocks-from.")] = None,
    blocks_from: Annotated[
        Path | None, typer.Option(help="A converted model folder whose exits and blocks are put onto --model.")
    ] = None,
) -> None:
    """A Hugging Face folder (plus exit-blocks.safetensors) that `sortie convert` reads."""
    from sorted_tuning.export import export_with_blocks
    from sorted_tuning.tuning.runs import export_runs

    if (model is None) != (blocks_from is None) or bool(run) == bool(model) or (with_start and not run):
        raise TuningError("export: must be given --run-dir, maybe with --with-start, or --model and --blocks-from")
    if run:
        export_runs(run, out, with_start)
    else:
        export_with_blocks(model, blocks_from, out)
    typer.echo(f"exported to {out}")


@app.command()
def calibrate(
    model: Model,
    data: Data,
    out: Out,
    documents: Annotated[int, typer.Option(min=1, help="How many training documents to run.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens used of each document.")] = 1024,
) -> None:
    """Second moments of every linear layer's input and the ranges of keys and values, for the converter."""
    from sorted_tuning.calibrate import calibrate as run
    from sorted_tuning.data import training_documents
    from sorted_tuning.exits import Exit
    from sorted_tuning.export import EXIT_BLOCKS, load_sorted
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.model import SortedModel

    texts = [ids[:max_tokens] for ids in training_documents(load_tokenizer(model), data)[:documents]]
    if (model / EXIT_BLOCKS).is_file():
        loaded = load_sorted(model, None)
    else:
        # Without blocks every exit runs the same trunk layers: full depth alone sees every linear input.
        base = load_base(model)
        loaded = SortedModel(base, (Exit(base.config.num_hidden_layers),))
    typer.echo(f"{run(loaded, texts, out)} tokens of {len(texts)} documents -> {out}")


@app.command()
def golden(
    folder: Annotated[Path, typer.Argument(help="Converted model folder (with manifest.json).")],
    out: Out,
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
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 11,
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
