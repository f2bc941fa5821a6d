"""Answers of a served model to questions, in a JSONL file, and the table of how many are right.

A row is {"variant", "exit", "n", "q", "text"}. `n` and `q` are the question's place in the list and its text. A drawn
answer has a "sample", the draw's number; others are greedy. Resumable: an answer in the file is not asked for again. An
answer to another question in that place is an error.
Knows the file and HTTP. Must not know models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sorted_tuning.chat_template import prompt_text
from sorted_tuning.completions import Sampler
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.questions import Question, rightness, sure_of
from sorted_tuning.evaluation.table import Table
from sorted_tuning.jsonl import read_whole_lines

GREEDY = {"max_tokens": 256, "temperature": 0}
DRAWN = {"max_tokens": 96, "temperature": 0.7}
"""Draws are for short questions, whose right answers are short."""

BASE = "base"
"""The variant whose deepest exit is the reference of all others."""


def ask(
    url: str,
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    out: Path,
    *,
    variant: str,
    exits: list[str],
    workers: int,
    samples: int = 0,
) -> int:
    """Append the answers that `out` lacks, of each exit through the model name `model:exit`; returns how many.

    `samples`: that many draws of each answer instead of the greedy one. Raises a TuningError, and sends nothing, if an
    answer in the file belongs to another question.
    """
    rows = _rows(out, questions)
    known = {(row["exit"], row["n"], row.get("sample")) for row in rows if row["variant"] == variant}
    draws = range(samples) if samples else [None]
    every = ((e, n, draw) for e in exits for n in range(len(questions)) for draw in draws)
    wanted = [one for one in every if one not in known]
    samplers = {e: Sampler(url, f"{model}:{e}") for e in exits}
    stop = str(tokenizer.eos_token)

    def one(exit_: str, n: int, draw: int | None) -> dict:
        text = questions[n].text
        settings = GREEDY if draw is None else DRAWN
        said, _ = samplers[exit_].complete(prompt_text(tokenizer, text), stop, draw or 0, settings)
        asked = {"variant": variant, "exit": exit_, "n": n, "q": text}
        return asked | ({} if draw is None else {"sample": draw}) | {"text": said}

    with Path(out).open("a", encoding="utf-8") as file, ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(one, *which) for which in wanted]
        try:
            for future in tqdm(as_completed(running), total=len(wanted), desc=variant, unit="answer", mininterval=10):
                file.write(json.dumps(future.result(), ensure_ascii=False) + "\n")
                file.flush()
        finally:
            # After an error or Ctrl+C no answer would be kept, so no further request is sent.
            pool.shutdown(wait=False, cancel_futures=True)
    return len(wanted)


def right_answers(path: Path, questions: list[Question]) -> Table:
    """Shares of right greedy answers of every variant and exit of the file that has answered all questions.

    With draws of one exit in the file, also of the questions that it is sure of.
    """
    answers: dict[tuple[str, str], dict[int, str]] = {}
    draws: dict[tuple[str, str], list[list[str]]] = {}
    for row in _rows(path, questions):
        whose = row["variant"], row["exit"]
        if "sample" in row:
            draws.setdefault(whose, [[] for _ in questions])[row["n"]].append(row["text"])
        else:
            answers.setdefault(whose, {})[row["n"]] = row["text"]
    # Of two written numbers, the longer one is the larger.
    order = sorted((whose for whose, texts in answers.items() if len(texts) == len(questions)), key=_depth)
    texts = {whose: [answers[whose][n] for n in range(len(questions))] for whose in order}
    reference = next((texts[whose] for whose in reversed(order) if whose[0] == BASE), None)
    if reference is None:
        raise TuningError(f"answers: {path} must hold answers of the variant {BASE!r} to all questions, got none")
    if len(draws) > 1 or any(not drawn for each in draws.values() for drawn in each):
        raise TuningError(f"answers: {path} must hold draws of one exit, to all questions, got those of {[*draws]}")
    sure = sure_of(questions, *draws.values()) if draws else None
    table: Table = {}
    for (variant, exit_), ours in texts.items():
        table.setdefault(variant, {})[exit_] = rightness(questions, ours, reference, sure)
    return table


def _depth(whose: tuple[str, str]) -> tuple[int, str]:
    return len(whose[1]), whose[1]


def _rows(path: Path, questions: Sequence[Question]) -> list[dict]:
    """The rows of the file, all of which answer the question at their place."""
    rows = read_whole_lines(path)
    for row in rows:
        wanted = questions[row["n"]].text if row["n"] < len(questions) else None
        if row["q"] != wanted:
            where = f"number {row['n']} at {row['variant']} {row['exit']}"
            raise TuningError(f"answers: {path} must answer {wanted!r} as {where}, answers {row['q']!r}")
    return rows
