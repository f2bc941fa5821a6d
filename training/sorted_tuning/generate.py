"""Self-generated instruction data, Magpie style (arXiv 2406.08464): the model writes the question, then the answer.

A server runs the base. The chat template up to where the user's words begin is the prompt of the question. The sampled
question is put into the template and answered. Resumable: rows are appended, each with its attempt number `n`, and a
new start continues after the highest. Knows filters, the file and how many requests are in flight.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from sorted_tuning.chat_template import Template
from sorted_tuning.completions import Sampler
from sorted_tuning.data import same_question
from sorted_tuning.errors import TuningError
from sorted_tuning.jsonl import read_whole_lines

# The teacher writes its own text, without the rule against loops of a model folder.
QUESTION = {"max_tokens": 120, "temperature": 1.0, "top_k": 64, "min_p": 0.02, "dry_multiplier": 0}
ANSWER = {"max_tokens": 320, "temperature": 0.7, "top_k": 50, "min_p": 0.02, "dry_multiplier": 0}

STARTS = (
    "", "What", "How", "Write", "Explain", "Can you", "I", "Give me", "Why", "Describe", "Create", "Tell me", "Is",
    "Please", "Compare", "List", "Summarize", "Suggest", "Translate", "Who", "When", "Which", "Help me", "My",
    "Compose", "Identify", "Rewrite", "Design", "Find", "Calculate",
)  # fmt: skip
"""First words of questions of any kind, so that a small model's questions don't all begin alike."""

LOOP_GRAM, LOOP_TIMES = 4, 4
"""A text loops when one 4-gram of its words occurs more than 4 times."""

GIVE_UP = 20_000
"""Failed attempts in succession after which `generate` stops: questions are used up, or the model has no answers."""


def loops(text: str) -> bool:
    """Whether some 4-gram of words occurs more than 4 times."""
    words = text.split()
    grams = (tuple(words[i : i + LOOP_GRAM]) for i in range(len(words) - LOOP_GRAM + 1))
    return max(Counter(grams).values(), default=0) > LOOP_TIMES


def attempt(sampler: Sampler, template: Template, seed: int, n: int, known: Callable[[str], bool]) -> dict | None:
    """One question and answer; None where the question has no end or is known, or either is empty or loops."""
    rng = random.Random(seed * 1_000_003 + n)
    start = rng.choice(STARTS)
    rest, ended = sampler.complete(template.before + start, template.stop, rng.getrandbits(31), QUESTION)
    question = (start + rest).strip()
    if not ended or not rest.strip() or len(question) < 8 or loops(question) or known(question):
        return None
    prompt = template.before + question + template.after
    answer, done = sampler.complete(prompt, template.stop, rng.getrandbits(31), ANSWER)
    if len(answer.strip()) < 2 or loops(answer):
        return None
    return {"n": n, "q": question, "a": answer, "done": done}


def attempts(
    sampler: Sampler, template: Template, workers: int, seed: int, first: int, known: Callable[[str], bool]
) -> Iterator[dict | None]:
    """Attempts from number `first` as they come, `workers` in flight, until the iterator is closed."""
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future] = set()
        n = first
        try:
            while True:
                while len(running) < workers:
                    running.add(pool.submit(attempt, sampler, template, seed, n, known))
                    n += 1
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from [future.result() for future in done]
        finally:
            for future in running:
                future.cancel()


def generate(sampler: Sampler, template: Template, out: Path, rows: int, workers: int, seed: int) -> int:
    """Append rows to `out` until it holds `rows` of them; returns how many are new.

    A TuningError if attempts no longer make rows; the finished rows stay.
    """
    out = Path(out)
    old = read_whole_lines(out)
    seen = {same_question(row["q"]) for row in old}
    first = 1 + max((row.get("n", 0) for row in old), default=0)
    written = failed = 0
    with out.open("a", encoding="utf-8") as file, tqdm(total=rows, initial=len(old), unit="row", mininterval=10) as bar:
        found = attempts(sampler, template, workers, seed, first, lambda question: same_question(question) in seen)
        while len(old) + written < rows:
            row = next(found)
            if row is None or same_question(row["q"]) in seen:
                failed += 1
                if failed == GIVE_UP:
                    raise TuningError(
                        f"rows: {rows} must be made, got {len(old) + written}, and none by the last {GIVE_UP} attempts"
                    )
                continue
            failed = 0
            seen.add(same_question(row["q"]))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            written += 1
            bar.update()
        found.close()
    return written
