"""Answers of a served model in a JSONL file: the answers that a client gets, with the served kernels, and fast.

A row is {"variant", "exit", "n", "q", "plain", "text", "ended"}. `n` and `q` are the instruction's place in the list
and its text, `plain` is true without the rules against loops, `ended` is true if the answer ended by itself. A drawn
answer has a "sample", the draw's number; others are greedy. Resumable: an answer in the file is not asked for again. An
answer to another instruction in that place, or with other rules, is an error. Rows of older files without `q` and
`plain` cannot be compared and are accepted.
Knows the file and HTTP. Must not know measures.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sorted_tuning.chat_template import prompt_text
from sorted_tuning.completions import Sampler
from sorted_tuning.errors import TuningError
from sorted_tuning.evaluation.answers import LIMIT, Answer
from sorted_tuning.jsonl import read_whole_lines

GREEDY = {"max_tokens": LIMIT, "temperature": 0}
DRAWN = {"max_tokens": 96, "temperature": 0.7}
"""Draws are for short questions, whose right answers are short."""

Answers = dict[str, dict[str, list[Answer]]]
"""variant -> exit -> answers in the order of the instructions"""


def ask(
    url: str,
    model: str,
    tokenizer: PreTrainedTokenizerBase,
    instructions: list[str],
    out: Path,
    *,
    variant: str,
    exits: list[str],
    workers: int,
    plain: bool = False,
    samples: int = 0,
    prompt_depth: int | None = None,
) -> int:
    """Append the answers that `out` lacks, of each exit through the model name `model:exit`; returns how many.

    `plain`: without the rules against loops that a model folder may hold. `samples`: that many draws of each answer
    instead of the greedy one. `prompt_depth`: the layers that prompts run, of a folder with a prompt exit.
    Raises a TuningError, and sends nothing, if an answer in the file belongs to another instruction.
    """
    rows = [row for row in read_whole_lines(out) if row["variant"] == variant and row["exit"] in exits]
    for row in rows:
        _must_answer(out, row, instructions, plain)
    known = {(row["exit"], row["n"], row.get("sample")) for row in rows}
    draws = range(samples) if samples else [None]
    every = ((e, n, draw) for e in exits for n in range(len(instructions)) for draw in draws)
    wanted = [one for one in every if one not in known]
    headers = {} if prompt_depth is None else {"X-Prompt-Depth": str(prompt_depth)}
    samplers = {e: Sampler(url, f"{model}:{e}", headers) for e in exits}
    stop = str(tokenizer.eos_token)

    def one(exit_: str, n: int, draw: int | None) -> dict:
        prompt = prompt_text(tokenizer, instructions[n])
        settings = (GREEDY if draw is None else DRAWN) | ({"dry_multiplier": 0} if plain else {})
        text, ended = samplers[exit_].complete(prompt, stop, draw or 0, settings)
        asked = {"variant": variant, "exit": exit_, "n": n, "q": instructions[n], "plain": plain}
        return asked | ({} if draw is None else {"sample": draw}) | {"text": text, "ended": ended}

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


def read_answers(path: Path, tokenizer: PreTrainedTokenizerBase, instructions: list[str]) -> Answers:
    """The greedy answers of every variant and exit of the file, the exits by their depth.

    Raises a TuningError where one lacks the answer to an instruction, or answers another one in its place, or has
    answers with the rules against loops and without.
    """
    rows = [row for row in read_whole_lines(path) if "sample" not in row]
    if not rows:
        raise TuningError(f"answers: {path} must hold answers written by `sorted-tuning answers`, got none")
    texts: dict[tuple[str, str], dict[int, dict]] = {}
    ways: dict[tuple[str, str], bool | None] = {}
    for row in rows:
        whose = (row["variant"], row["exit"])
        _must_answer(path, row, instructions, ways.setdefault(whose, row.get("plain")))
        texts.setdefault(whose, {})[row["n"]] = row
    found: Answers = {variant: {} for variant, _ in texts}
    # Rows have the order of their answers. Of two written numbers, the longer one is the larger.
    for (variant, exit_), by_number in sorted(texts.items(), key=lambda item: (len(item[0][1]), item[0][1])):
        missing = [n for n in range(len(instructions)) if n not in by_number]
        if missing:
            raise TuningError(
                f"answers: {path} must answer all {len(instructions)} instructions at {variant} {exit_}, "
                f"lacks {len(missing)}, first number {missing[0]}"
            )
        found[variant][exit_] = [_answer(tokenizer, text, by_number[n]) for n, text in enumerate(instructions)]
    return found


def read_draws(path: Path, instructions: list[str]) -> list[list[str]]:
    """The texts that one exit of one variant drew, equally many for each instruction.

    Raises a TuningError if the file holds several exits or variants, or unequal numbers of draws.
    """
    rows = [row for row in read_whole_lines(path) if "sample" in row]
    if len({(row["variant"], row["exit"]) for row in rows}) != 1:
        raise TuningError(f"samples: {path} must hold what one exit drew (`sorted-tuning answers --samples`)")
    for row in rows:
        _must_answer(path, row, instructions, None)
    texts = [[row["text"] for row in rows if row["n"] == n] for n in range(len(instructions))]
    counts = {len(each) for each in texts}
    if len(counts) != 1:
        raise TuningError(f"samples: {path} must draw each answer as often, has {min(counts)} to {max(counts)} draws")
    return texts


def _must_answer(path: Path, row: dict, instructions: list[str], plain: bool | None) -> None:
    """Check that a row answers the instruction at its place, with the same rules as the others (None: unknown)."""
    where = f"number {row['n']} at {row['variant']} {row['exit']}"
    wanted = instructions[row["n"]] if row["n"] < len(instructions) else None
    if wanted is not None and row.get("q", wanted) != wanted:
        raise TuningError(f"answers: {path} must answer {wanted!r} as {where}, answers {row['q']!r}")
    if plain is not None and row.get("plain", plain) != plain:
        kinds = {True: "plain", False: "with the exits' rules against loops"}
        raise TuningError(f"answers: {path} must be {kinds[plain]} as {where}, is {kinds[row['plain']]}")


def _answer(tokenizer: PreTrainedTokenizerBase, instruction: str, row: dict) -> Answer:
    prompt = tokenizer.encode(prompt_text(tokenizer, instruction), add_special_tokens=False)
    return Answer(prompt, tokenizer.encode(row["text"], add_special_tokens=False), row["ended"])
