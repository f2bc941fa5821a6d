"""The whole table (models, documents, measures) as JSON and as Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.answers import Answer, answer, qualities
from sorted_tuning.evaluation.judge import Judge, pairwise
from sorted_tuning.evaluation.questions import Question, rightness
from sorted_tuning.evaluation.scores import score
from sorted_tuning.evaluation.served import Answers
from sorted_tuning.evaluation.variants import base_exits, in_kernel
from sorted_tuning.exits import Exit
from sorted_tuning.files import read_json
from sorted_tuning.model import SortedModel

Table = dict[str, dict[str, dict[str, float]]]
"""variant -> exit -> measure -> value"""

BASE = "base"
"""The untouched model at full depth, the reference of all others."""


def read_instructions(path: Path) -> list[str]:
    """The PandaLM test set's distinct instructions, each with its input below it."""
    rows = read_json("instructions", path)
    if not isinstance(rows, list) or not all(_is_instruction(row) for row in rows):
        raise TuningError(f'instructions: {path} must be a list of objects with a string "instruction"')
    texts = ["\n\n".join(filter(None, (row["instruction"], row.get("input")))) for row in rows]
    if not texts:
        raise TuningError(f"instructions: {path} must hold at least one, got none")
    return list(dict.fromkeys(texts))


def _is_instruction(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("instruction"), str)


def variants(
    model: SortedModel, base: PreTrainedModel, kernels: list[str], weight_bits: float = 8, head_bits: float = 8
) -> dict[str, SortedModel]:
    """The models of the table, by name. The bits are the converter's options."""
    table = {"base exits": base_exits(base, model.exits), "sorted": model}
    return table | {f"sorted {kernel}": in_kernel(model, kernel, weight_bits, head_bits) for kernel in kernels}


def teacher_forced(models: dict[str, SortedModel], base: PreTrainedModel, documents: list[list[int]]) -> Table:
    """KL, agreement and perplexity of every exit of every model."""
    return {
        name: {e: dataclasses.asdict(s) for e, s in score(model, base, documents, name).items()}
        for name, model in models.items()
    }


def greedy(
    models: dict[str, SortedModel],
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    instructions: list[str],
    judge: Judge | None,
    batch: int,
    served: Answers,
    keep: Callable[[Table], None],
    questions: list[Question] | None = None,
    sure: list[bool] | None = None,
) -> tuple[Table, list[Answer]]:
    """Measures of greedy answers, on their own and against the base's; also the base's answers.

    With `questions`, one for each instruction, also how many are right; with `sure`, of those that it marks, too.

    `keep` gets the table after each exit, about once a minute, so that a stopped run keeps its finished exits.

    Answers of the models are generated here, except those in `served`, which a server gave under the same name.
    If `served` holds a variant "base", its deepest exit is the base; else the base answers here.
    """
    full = SortedModel(base, (Exit(base.config.num_hidden_layers),))
    given = list(served.get(BASE, {}).values())
    theirs = given[-1] if given else answer(full.sub_model(full.exits[0]), tokenizer, instructions, batch, BASE)
    answers: Answers = {
        name: {str(e): answer(model.sub_model(e), tokenizer, instructions, batch, f"{name} {e}") for e in model.exits}
        for name, model in models.items()
        if name not in served
    }

    known = _texts(tokenizer, theirs)

    def right(ours: list[Answer]) -> dict[str, float]:
        return rightness(questions, _texts(tokenizer, ours), known, sure) if questions else {}

    table: Table = {BASE: {str(full.exits[0]): qualities(theirs, base) | right(theirs)}}
    for name, exits in (answers | {name: exits for name, exits in served.items() if name != BASE}).items():
        table[name] = {}
        for exit_, ours in exits.items():
            found = qualities(ours, base) | right(ours)
            if judge:
                found["pairwise"] = pairwise(judge, tokenizer, instructions, ours, theirs, f"judge {name} {exit_}")
            table[name][exit_] = found
            keep(table)
    return table, theirs


def markdown(title: str, table: Table) -> str:
    """One Markdown table: a row per model and exit."""
    names = list(dict.fromkeys(name for exits in table.values() for values in exits.values() for name in values))
    lines = [f"### {title}", "", "| model | exit | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 2)]
    for model, exits in table.items():
        for exit_, values in exits.items():
            cells = (f"{values[n]:.3f}" if n in values else "" for n in names)
            lines.append(f"| {model} | {exit_} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_report(out: Path, tables: dict[str, Table]) -> None:
    """evaluation.json and evaluation.md in folder `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(tables, indent=2) + "\n", "utf-8")
    (out / "evaluation.md").write_text("\n".join(markdown(t, table) for t, table in tables.items() if table), "utf-8")


def write_answers(
    out: Path, tokenizer: PreTrainedTokenizerBase, instructions: list[str], answers: list[Answer]
) -> None:
    """answers.jsonl in folder `out`: rows in the format of data, for other measurements on the same text."""
    texts = _texts(tokenizer, answers)
    rows = [{"q": q, "a": text, "done": a.ended} for q, text, a in zip(instructions, texts, answers, strict=True)]
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _texts(tokenizer: PreTrainedTokenizerBase, answers: list[Answer]) -> list[str]:
    return [tokenizer.decode(a.ids, skip_special_tokens=True) for a in answers]


def cut(documents: list[list[int]], tokens: int) -> list[list[int]]:
    """The first `tokens` of each document that has at least two."""
    return [d[:tokens] for d in documents if len(d) > 1]
