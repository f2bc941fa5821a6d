"""The command line: one subcommand per step of the recipe. Knows options; the work is in the modules it calls."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from sorted_tuning.errors import TuningError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Model = Annotated[Path, typer.Option(help="GGUF file or Hugging Face folder (with exit-blocks.safetensors, if any).")]
Exits = Annotated[str | None, typer.Option(help='Exits as "10,15,30", or "9+1,14+1,30" with block layers.')]
Precision = Annotated[
    str, typer.Option(help="bf16 (weights that learn stay fp32), fp32, or auto: the faster of the two.")
]

Data = Annotated[list[Path], typer.Option(help="JSONL of questions and answers; may be repeated.")]


def _place(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Check, before the work, that the option's file can be written."""
    from sorted_tuning.files import place_for

    return path and place_for(param.name, path)


def _layers(boundaries: str | None) -> tuple[int, ...]:
    """Trunk layers of "9,14"; none where none are given."""
    if not boundaries:
        return ()
    parts = [part.strip() for part in boundaries.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise TuningError(f"boundaries: must be trunk layers with commas, got {boundaries!r}")
    return tuple(map(int, parts))


def _texts(files: list[Path] | None) -> list[str]:
    """The instructions of all these files."""
    from sorted_tuning.evaluation.evaluate import read_instructions

    return [text for file in files or () for text in read_instructions(file)]


@app.command()
def calibrate(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="safetensors file to write.", callback=_place)],
    exits: Exits = None,
    documents: Annotated[int, typer.Option(min=1, help="How many training documents to run.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens used of each document.")] = 1024,
) -> None:
    """Second moments of every linear layer's input and the ranges of keys and values, for the converter."""
    from sorted_tuning.calibrate import calibrate as run
    from sorted_tuning.data import training_documents
    from sorted_tuning.exits import Exit, parse_exits
    from sorted_tuning.export import EXIT_BLOCKS, load_sorted
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.model import SortedModel

    texts = [ids[:max_tokens] for ids in training_documents(load_tokenizer(model), data)[:documents]]
    if exits is None and not (model / EXIT_BLOCKS).is_file():
        # Without blocks every exit runs the same trunk layers: full depth alone sees every linear input.
        base = load_base(model)
        loaded = SortedModel(base, (Exit(base.config.num_hidden_layers),))
    else:
        loaded = load_sorted(model, parse_exits(exits) if exits else None)
    typer.echo(f"{run(loaded, texts, out)} tokens of {len(texts)} documents -> {out}")


@app.command()
def targets(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="Targets file (safetensors) to write.", callback=_place)],
    length: Annotated[int, typer.Option(min=2, help="Tokens per window.")] = 512,
    top_k: Annotated[int, typer.Option(min=0, help="Teacher probabilities kept per position; 0 for the ce loss.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Windows per teacher step.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the documents' order.")] = 1,
    boundaries: Annotated[
        str | None,
        typer.Option(help='Keep the trunk\'s states after these layers, e.g. "9,14,19,24": blocks learn without it.'),
    ] = None,
    from_starts: Annotated[
        bool, typer.Option("--from-starts", help="Begin each window with a document, as a request begins its sequence.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="With --from-starts: a document that a window held whole begins no other.")
    ] = False,
    answers_first: Annotated[
        bool,
        typer.Option("--answers-first", help="Let a step that samples positions take those that write answers first."),
    ] = False,
    never: Annotated[
        list[Path] | None,
        typer.Option(help="Instructions, as `evaluate` reads them, that must not be learnt; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the teacher, e.g. cpu or cuda.")] = "cpu",
    precision: Precision = "auto",
    compile: Annotated[bool, typer.Option(help="Compile the layers.")] = True,
) -> None:
    """The base's top-k distribution at every position, once; also cuts the data into windows."""
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.precision import resolve
    from sorted_tuning.targets import write_targets

    settings = {"length": length, "k": top_k, "batch": batch, "seed": seed, "precision": resolve(precision, device)}
    base = load_base(model).to(device)
    choices = {"compile": compile, "from_starts": from_starts, "once": once, "answers_first": answers_first}
    choices["never"] = _texts(never)
    count = write_targets(base, load_tokenizer(model), data, out, **settings, boundaries=_layers(boundaries), **choices)
    typer.echo(f"{count} training tokens -> {out}")


@app.command()
def states(
    model: Model,
    of: Annotated[Path, typer.Option(help="File written by `targets`, whose windows and probabilities are taken.")],
    out: Annotated[Path, typer.Option(help="Targets file (safetensors) to write.", callback=_place)],
    boundaries: Annotated[str, typer.Option(help='Keep the trunk\'s states after these layers, e.g. "9,14,19,24".')],
    batch: Annotated[int, typer.Option(min=1, help="Windows per step.")] = 16,
    device: Annotated[str, typer.Option(help="Device of the trunk, e.g. cpu or cuda.")] = "cpu",
    precision: Precision = "auto",
    compile: Annotated[bool, typer.Option(help="Compile the layers.")] = True,
) -> None:
    """The same targets with the trunk's states after other layers; neither the head nor later layers run."""
    from sorted_tuning.load import load_base
    from sorted_tuning.precision import resolve
    from sorted_tuning.targets import write_states

    settings = {"batch": batch, "precision": resolve(precision, device), "compile": compile}
    kept = _layers(boundaries)
    count = write_states(load_base(model).to(device), of, out, boundaries=kept, **settings)
    typer.echo(f"{count} training tokens -> {out}")


@app.command()
def tune(
    ctx: typer.Context,
    run: Annotated[
        Path,
        typer.Option(
            "--run-dir", help="Folder of the run: checkpoints, metrics, plot. Resumed where it has a checkpoint."
        ),
    ],
    model: Annotated[Path | None, typer.Option(help="GGUF file or Hugging Face folder to start from.")] = None,
    targets: Annotated[
        list[Path] | None, typer.Option(help="File written by `targets`; may be repeated, as text grows.")
    ] = None,
    exits: Exits = None,
    mode: Annotated[str, typer.Option(help="soft (the paper), blocks (frozen trunk) or hybrid.")] = "soft",
    loss: Annotated[str, typer.Option(help="kl (self-distillation) or ce (the paper).")] = "kl",
    exit_weights: Annotated[str | None, typer.Option(help="Weight of each exit's loss, e.g. 1,1,1,1,4.")] = None,
    total_tokens: Annotated[int, typer.Option(help="Tokens of the whole run: the schedule's length.")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Windows per process and step.")] = 4,
    positions: Annotated[float, typer.Option(help="Share of positions each exit's loss is computed on.")] = 0.25,
    head_sample: Annotated[
        int, typer.Option(help="Tokens of the vocabulary whose logits a step computes; 0: all (vocabulary.py).")
    ] = 0,
    lr: Annotated[float, typer.Option(help="Peak rate: of everything in soft mode, of the blocks otherwise.")] = 1e-3,
    trunk_lr: Annotated[float, typer.Option(help="Peak rate of the trunk in hybrid mode.")] = 1e-4,
    trunk_from: Annotated[int, typer.Option(help="Hybrid: tokens after which the trunk begins to learn.")] = 0,
    trunk_layers: Annotated[int | None, typer.Option(help="Hybrid: tune only this many first layers.")] = None,
    min_lr: Annotated[float, typer.Option(help="Rate at the end, as a share of the peak.")] = 0.02,
    warmup_tokens: Annotated[int, typer.Option(help="Tokens of linear warm-up.")] = 20_000,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.")] = 0.0,
    clip: Annotated[float, typer.Option(help="Largest gradient norm.")] = 1.0,
    train_embeddings: Annotated[
        bool, typer.Option(help="Soft: tune embeddings and head too, as the paper does.")
    ] = False,
    train_norms: Annotated[bool, typer.Option(help="Tune the norms of exits with blocks along with these.")] = True,
    quantize: Annotated[str | None, typer.Option(help="Fake quantization: w8a8 or int4.")] = None,
    quantize_from: Annotated[int, typer.Option(help="Tokens after which fake quantization begins.")] = 0,
    weight_bits: Annotated[
        float, typer.Option(help="With --quantize w8a8: as given to `sortie convert`.", min=5, max=8)
    ] = 8,
    precision: Precision = "auto",
    compile: Annotated[bool, typer.Option(help="Compile the layers.")] = True,
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
        fields = TuneConfig.__dataclass_fields__
        config = TuneConfig(**{name: value for name, value in options.items() if name in fields})
    train(config, run, lambda line: print(line, flush=True))


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="JSONL file to append to.", callback=_place)],
    model: Annotated[
        Path | None, typer.Option(help="The base model, which samples here: GGUF file or Hugging Face folder.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Or the base URL of an OpenAI-compatible server that runs the base model.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="With --server: GGUF file or folder whose chat template is used.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows the file shall hold.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="With --model: rows sampled together.")] = 384,
    server_model: Annotated[str, typer.Option(help="With --server: model name sent to it.")] = "default",
    workers: Annotated[int, typer.Option(min=1, help="With --server: requests in flight.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the questions' first words and of the sampling.")] = 1,
    starts: Annotated[
        Path | None, typer.Option(help="Text file of first words of questions, one a line, in place of the usual ones.")
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="With --starts: JSON object of the words for each gap, {name}, in its lines.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="With --starts: its lines are whole questions, to which nothing is added.")
    ] = False,
    short: Annotated[
        int | None, typer.Option(min=1, help="Keep only questions and answers that end within this many tokens.")
    ] = None,
    cut: Annotated[
        bool, typer.Option("--cut", help="With --short: keep the beginnings of longer answers, too.")
    ] = False,
    targets: Annotated[
        Path | None,
        typer.Option(
            help="With --model: a new targets file (safetensors) of this start's rows. The base has computed its "
            "distribution at each position when it samples them, so `targets` needn't run.",
            callback=_place,
        ),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="With --targets: JSONL whose first 40 rows are the test set, never asked here.")
    ] = None,
    boundaries: Annotated[
        str | None, typer.Option(help="With --targets: keep the trunk's states after these layers, as `targets` does.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=2, help="With --targets: tokens per window; 256 where none are given.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="With --targets: probabilities per position; 32 where none are given."),
    ] = None,
    question_temperature: Annotated[
        float | None, typer.Option(min=0.01, help="Of sampling questions; 1 where none is given.")
    ] = None,
    answer_temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling answers.")] = 0.7,
    never: Annotated[
        list[Path] | None,
        typer.Option(help="Instructions, as `evaluate` reads them, that must not be among the questions; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of --model, e.g. cpu or cuda.")] = "cpu",
    precision: Precision = "auto",
) -> None:
    """Self-generated questions and answers from the base model; continues an existing file."""
    from sorted_tuning.ask_server import server_attempts
    from sorted_tuning.chat_template import Template
    from sorted_tuning.completions import Sampler
    from sorted_tuning.converse import Conversations
    from sorted_tuning.data import HELD_OUT, read_rows
    from sorted_tuning.first_words import FirstWords, read_first_words
    from sorted_tuning.generate import ANSWER, QUESTION, Style
    from sorted_tuning.generate import generate as run
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.notes import LessonWindows
    from sorted_tuning.precision import dtype_of, resolve
    from sorted_tuning.sampling import Draw
    from sorted_tuning.targets import check_boundaries, write_lessons

    if (model is None) == (server is None):
        raise TuningError("generate: must be given exactly one of --model and --server")
    if (tokenizer is None) != (server is None):
        raise TuningError("tokenizer: must be given with --server, and not with --model, which has its own")
    if words and not starts:
        raise TuningError("words: must be given with --starts, whose gaps they fill")
    if whole and not starts:
        raise TuningError("whole: must be given with --starts, whose lines are the questions")
    if cut and short is None:
        raise TuningError("cut: must be given with --short, which drops longer answers otherwise")
    if targets and (model is None or held_out is None):
        raise TuningError("targets: must be given with --model and --held-out")
    if (held_out or boundaries or length or top_k) and targets is None:
        raise TuningError("held_out, boundaries, length, top_k: must be given with --targets")
    if targets and targets.exists():
        raise TuningError(f"targets: must be a new file for the rows of this start, found {targets}")
    if whole and question_temperature:
        raise TuningError("question_temperature: must not be given with --whole, whose questions are not sampled")
    temperature = question_temperature or QUESTION.temperature
    style = Style(
        read_first_words(starts, words) if starts else FirstWords(),
        None if whole else Draw(short or QUESTION.max_tokens, temperature, QUESTION.top_k, QUESTION.min_p),
        Draw(short or ANSWER.max_tokens, answer_temperature, ANSWER.top_k, ANSWER.min_p),
        ended=short is not None and not cut,
    )
    taboo = _texts(never)
    lessons = None
    if targets:
        lessons = LessonWindows(length or 256, _layers(boundaries), top_k or 32)
        taboo += [row.question for row in read_rows(held_out)[:HELD_OUT]]
    if model:
        kind = dtype_of(resolve(precision, device))
        base = load_base(model).to(device, None if lessons else kind)
        if lessons:
            check_boundaries(base, lessons.boundaries)
        own = {"rows": batch, "seed": seed, "style": style, "dtype": kind, "lessons": lessons}
        attempts = Conversations(base, load_tokenizer(model), **own).attempts
    else:
        template = Template.of(load_tokenizer(tokenizer))
        attempts = server_attempts(Sampler(server, server_model), template, workers=workers, seed=seed, style=style)
    typer.echo(f"{run(attempts, out, rows, taboo)} new rows -> {out}")
    if lessons:
        settings = {"batch": 16, "precision": resolve(precision, device)}
        count = write_lessons(base, load_tokenizer(model), lessons, held_out, targets, **settings)
        typer.echo(f"{count} training tokens -> {targets}")


@app.command()
def answers(
    server: Annotated[str, typer.Option(help="Base URL of a Sortie server.")],
    server_model: Annotated[str, typer.Option(help="Name of its routed model: NAME:EXIT pins the depth.")],
    exits: Annotated[str, typer.Option(help="The exits that answer, as the server numbers them, with commas.")],
    tokenizer: Annotated[Path, typer.Option(help="GGUF file or folder whose chat template is used.")],
    instructions: Annotated[Path, typer.Option(help="PandaLM's test set, or data/questions.json.")],
    out: Annotated[Path, typer.Option(help="JSONL file to append to.", callback=_place)],
    variant: Annotated[str, typer.Option(help="Their name in `evaluate`; `base` is the reference of all others.")],
    limit: Annotated[int | None, typer.Option(min=1, help="How many instructions; all when not given.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 32,
    plain: Annotated[
        bool, typer.Option("--plain", help="Without the rules against loops that the exits have.")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=0, help="Draws of each answer (temperature 0.7), for `evaluate --samples`; 0: greedy.")
    ] = 0,
    prompt_depth: Annotated[
        int | None, typer.Option(min=1, help="Layers that prompts run, of a folder with a prompt exit.")
    ] = None,
) -> None:
    """Answers of a served model to instructions, for `evaluate --answers`; continues an existing file."""
    from sorted_tuning.evaluation.evaluate import read_instructions
    from sorted_tuning.evaluation.served import ask
    from sorted_tuning.load import load_tokenizer

    asked = read_instructions(instructions)[:limit]
    numbers = [exit_.strip() for exit_ in exits.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise TuningError(f"exits: must be numbers with commas, as the server has them, got {exits!r}")
    settings = {"variant": variant, "exits": numbers, "workers": workers, "plain": plain, "samples": samples}
    settings["prompt_depth"] = prompt_depth
    new = ask(server, server_model, load_tokenizer(tokenizer), asked, out, **settings)
    typer.echo(f"{new} new answers -> {out}")


@app.command()
def evaluate(
    base: Annotated[Path, typer.Option(help="The untouched base: GGUF file or folder.")],
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json, evaluation.md and the base's answers.jsonl.")],
    run: Annotated[Path | None, typer.Option("--run-dir", help="Run whose newest checkpoint is evaluated.")] = None,
    model: Annotated[Path | None, typer.Option(help="Or an exported folder or GGUF file.")] = None,
    exits: Exits = None,
    data: Annotated[Path | None, typer.Option(help="JSONL whose first 40 rows are the held-out documents.")] = None,
    documents: Annotated[int, typer.Option(min=1, help="How many of them.")] = 40,
    instructions: Annotated[
        Path | None, typer.Option(help="PandaLM's test set, or data/questions.json, for greedy answers.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many instructions; all when not given.")] = None,
    answers: Annotated[Path | None, typer.Option(help="With --instructions: a file written by `answers`.")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="The base's draws (`answers --samples`), which show the questions it can do.")
    ] = None,
    kernels: Annotated[str, typer.Option(help="Kernels whose rounding is measured too, with commas.")] = "w8a8,int4",
    weight_bits: Annotated[float, typer.Option(help="As given to `sortie convert`.", min=5, max=8)] = 8,
    head_bits: Annotated[float, typer.Option(help="As given to `sortie convert`.", min=5, max=8)] = 8,
    judge: Annotated[Path | None, typer.Option(help="GGUF file or folder of a model that judges answers.")] = None,
    precision: Precision = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Answers generated together.")] = 16,
) -> None:
    """KL, agreement, perplexity and measures of greedy answers, at every exit and for every kernel."""
    from sorted_tuning.data import held_out
    from sorted_tuning.evaluation import evaluate as steps
    from sorted_tuning.evaluation.judge import Judge
    from sorted_tuning.evaluation.questions import read_questions, sure_of
    from sorted_tuning.evaluation.served import read_answers, read_draws
    from sorted_tuning.exits import parse_exits
    from sorted_tuning.export import load_sorted
    from sorted_tuning.fakequant import KERNELS
    from sorted_tuning.load import load_base, load_tokenizer
    from sorted_tuning.precision import dtype_of, resolve
    from sorted_tuning.targets import TEST_LENGTH
    from sorted_tuning.tuning.tune import must_hold_out, tuned_model

    dtype = dtype_of(resolve(precision))
    if answers is not None and instructions is None:
        raise TuningError("answers: must come with the --instructions that they are answers to")
    for name, value in {"judge": judge, "limit": limit, "samples": samples}.items():
        if value is not None and instructions is None:
            raise TuningError(f"{name}: must come with the --instructions whose answers it is for, got {value}")
    if run is not None and model is not None or (run is None and model is None and answers is None):
        raise TuningError("evaluate: must be given one of --run-dir and --model, or neither and --answers")
    if data is None and instructions is None:
        raise TuningError("evaluate: must be given --data or --instructions or both")
    names = [name for name in kernels.split(",") if name]
    for name in names:
        if name not in KERNELS:
            raise TuningError(f"kernels: must be of {', '.join(KERNELS)}, got {name!r}")
    tokenizer = load_tokenizer(base)
    texts = steps.cut(held_out(tokenizer, data)[:documents], TEST_LENGTH) if data is not None else []
    judged = Judge(judge) if judge else None
    teacher = load_base(base).to(dtype)
    if run is not None and data is not None:
        must_hold_out(run, data, texts, teacher.config.vocab_size)
    models, tables = {}, {}
    if run or model:
        tuned = tuned_model(run)[0] if run else load_sorted(model, parse_exits(exits) if exits else None)
        models = steps.variants(tuned.to(dtype), teacher, names, weight_bits, head_bits)
    if data is not None:
        tables["held-out documents"] = steps.teacher_forced(models, teacher, texts)
    if instructions is not None:
        asked = steps.read_instructions(instructions)[:limit]
        questions = read_questions(instructions)
        questions = questions and questions[:limit]
        if samples and not questions:
            raise TuningError(f"samples: must come with questions that say what is right, {instructions} has none")
        sure = sure_of(questions, read_draws(samples, asked)) if samples and questions else None
        served = read_answers(answers, tokenizer, asked) if answers else {}

        def keep(table: steps.Table) -> None:
            steps.write_report(out, tables | {"greedy answers": table})

        tables["greedy answers"], theirs = steps.greedy(
            models, teacher, tokenizer, asked, judged, batch, served, keep, questions, sure
        )
        steps.write_answers(out, tokenizer, asked, theirs)
        texts = steps.cut([a.prompt + a.ids for a in theirs], TEST_LENGTH)
        tables["instructions with the base's answers"] = steps.teacher_forced(models, teacher, texts)
    steps.write_report(out, tables)
    typer.echo(f"wrote {out}/evaluation.md and evaluation.json")


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
    model: Annotated[
        Path | None, typer.Option(help="Or a model as for `tune`, to which fresh exits are added.")
    ] = None,
    exits: Exits = None,
    blocks_from: Annotated[
        Path | None,
        typer.Option(
            help="With --model: a converted model folder whose exits and blocks are put onto it. With --exits too, "
            "blocks become longer: an exit that leaves the trunk earlier at the same depth starts with copies of the "
            "layers between."
        ),
    ] = None,
    with_start: Annotated[
        bool,
        typer.Option(
            "--with-start",
            help="With --run-dir: the model that the first run began with counts as one of the runs of the mean.",
        ),
    ] = False,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """A Hugging Face folder (plus exit-blocks.safetensors) that `sortie convert` reads."""
    import torch

    from sorted_tuning.exits import parse_exits
    from sorted_tuning.export import export as write
    from sorted_tuning.export import load_sorted, put_blocks
    from sorted_tuning.lengthen import lengthen_blocks
    from sorted_tuning.load import licence_of, load_tokenizer
    from sorted_tuning.reference.blocks import read_blocks
    from sorted_tuning.tuning.tune import export_runs

    if dtype not in ("float32", "bfloat16", "float16"):
        raise TuningError(f"dtype: must be float32, bfloat16 or float16, got {dtype!r}")
    if bool(run) == (model is not None):
        raise TuningError("export: must be given exactly one of --run-dir and --model")
    if blocks_from is not None and model is None:
        raise TuningError("blocks-from: must be given with --model")
    if with_start and not run:
        raise TuningError("with-start: must be given with --run-dir")
    if run:
        if exits is not None:
            raise TuningError(f"exits: are those of the run, so must not be given with --run-dir, got {exits!r}")
        export_runs(run, out, getattr(torch, dtype), with_start)
    elif blocks_from is not None:
        found, blocks = read_blocks(blocks_from)
        wanted = parse_exits(exits) if exits else found
        sorted_model = load_sorted(model, wanted)
        put_blocks(sorted_model, lengthen_blocks(sorted_model.base, blocks, found, wanted), blocks_from)
        write(sorted_model, load_tokenizer(model), out, getattr(torch, dtype), licence_of(model))
    else:
        fresh = load_sorted(model, parse_exits(exits) if exits else None)
        write(fresh, load_tokenizer(model), out, getattr(torch, dtype), licence_of(model))
    typer.echo(f"exported to {out}")


@app.command()
def prompt(
    run: Annotated[Path, typer.Option("--run-dir", help="Folder of the run. Resumed where it has a checkpoint.")],
    model: Annotated[Path, typer.Option(help="Llama, Qwen2 or Qwen3: GGUF file or Hugging Face folder.")],
    targets: Annotated[list[Path], typer.Option(help="File of `targets` with --boundaries of the exit; repeatable.")],
    exit_: Annotated[int, typer.Option("--exit", help="Layers that the tokens of a prompt run.")],
    out: Annotated[Path, typer.Option(help="Hugging Face folder of SwiftKV's class to write at the end.")],
    group: Annotated[int, typer.Option(help="Neighbouring layers that share keys and values.")] = 1,
    keys_only: Annotated[
        bool, typer.Option("--keys-only", help="Own keys and values of prompts; answers run the base's layers.")
    ] = False,
    total_tokens: Annotated[int, typer.Option(help="Tokens of the whole run: the schedule's length.")] = 2_000_000,
    batch: Annotated[int, typer.Option(help="Windows per step.")] = 8,
    positions: Annotated[float, typer.Option(help="Share of positions the loss is computed on.")] = 0.5,
    head_sample: Annotated[int, typer.Option(help="Tokens of the vocabulary of a step (vocabulary.py); 0: all.")] = 0,
    lr: Annotated[float, typer.Option(help="Peak rate.")] = 3e-4,
    min_lr: Annotated[float, typer.Option(help="Rate at the end, as a share of the peak.")] = 0.02,
    warmup_tokens: Annotated[int, typer.Option(help="Tokens of linear warm-up.")] = 20_000,
    clip: Annotated[float, typer.Option(help="Largest gradient norm.")] = 1.0,
    fit_tokens: Annotated[
        int, typer.Option(help="Tokens to whose keys and values a run first fits its own; 0: begin with copies.")
    ] = 60_000,
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    checkpoint_minutes: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 5.0,
    eval_tokens: Annotated[int, typer.Option(help="Tokens between held-out scores.")] = 250_000,
    seed: Annotated[int, typer.Option(help="Seed of order and positions.")] = 1,
) -> None:
    """Tune a prompt exit (SwiftKV): deeper keys and values of the states at one layer; the base stays."""
    from sorted_tuning.load import licence_of, load_tokenizer
    from sorted_tuning.precision import resolve
    from sorted_tuning.prompt.config import PromptConfig
    from sorted_tuning.prompt.export import export_prompt
    from sorted_tuning.prompt.tune import PromptTuner

    options = locals() | {"model": str(model), "targets": tuple(map(str, targets)), "exit": exit_}
    options["precision"] = resolve(precision)
    fields = PromptConfig.__dataclass_fields__
    config = PromptConfig(**{name: value for name, value in options.items() if name in fields})
    tuned = PromptTuner(config, run, lambda line: print(line, flush=True)).train()
    export_prompt(tuned, load_tokenizer(model), out, licence_of(model))
    typer.echo(f"exported to {out}")


@app.command()
def passages(
    data: Data,
    out: Annotated[Path, typer.Option(help="JSONL file to write.", callback=_place)],
    rows: Annotated[int, typer.Option(min=1, help="How many rows to write.")] = 1000,
    words: Annotated[int, typer.Option(min=20, help="Most words of a row's passages.")] = 260,
    seed: Annotated[int, typer.Option(help="Seed of passages and questions.")] = 1,
) -> None:
    """Long prompts of rows that the base wrote: passages, and a question whose answer one of them holds."""
    from sorted_tuning.prompt.passages import write_passages

    typer.echo(f"{write_passages(data, out, rows, words, seed)} rows -> {out}")


@app.command("base-of")
def base_of(
    folder: Annotated[Path, typer.Argument(help="Converted model folder (with manifest.json).")],
    out: Annotated[Path, typer.Option(help="Hugging Face folder to write.")],
) -> None:
    """The trunk of a converted Llama as a checkpoint, dequantized: a base whose prompt exit suits that folder."""
    from sorted_tuning.reference.base import export_base

    export_base(folder, out)
    typer.echo(f"exported to {out}")


@app.command()
def golden(
    folder: Annotated[Path, typer.Argument(help="Converted model folder (with manifest.json).")],
    out: Annotated[Path, typer.Option(help="JSON file to write.", callback=_place)],
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


@app.command()
def loops(
    out: Annotated[Path, typer.Option(help="Hugging Face folder to write, in the form of Ouro's.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of 24 lines with 12 answers each.")] = 2500,
    rate: Annotated[float, typer.Option(min=0.0, help="Highest learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights and lines.")] = 0,
) -> None:
    """A looped model in miniature, tuned on walks through a permutation: each loop is an exit."""
    import torch

    from sorted_tuning.looped import Looped, Shape, accuracy, export, tune

    torch.manual_seed(seed)
    model = Looped(Shape())
    tune(model, steps, 24, 12, rate, seed, typer.echo)
    whole, parts = accuracy(model, 256)
    typer.echo("loops | all | by steps of the walk, from 1 on")
    for loop, (all_, by_steps) in enumerate(zip(whole, parts, strict=True), 1):
        typer.echo(f"{loop} | {all_} | {by_steps}")
    export(model, out)


def main() -> None:
    """Run the command line; a TuningError is one line on stderr and exit code 2."""
    try:
        app()
    except TuningError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
