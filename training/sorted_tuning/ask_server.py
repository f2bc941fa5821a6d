"""Questions and answers from an OpenAI-compatible server: the served engine or llama-server.

Knows how many requests are in flight. Must not know files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict

from sorted_tuning.chat_template import Template
from sorted_tuning.completions import Sampler
from sorted_tuning.generate import Attempts, Style, usable_question

PLAIN = {"dry_multiplier": 0}
"""The teacher writes its own text, without the rule against loops of a model folder."""


def attempt(
    sampler: Sampler, template: Template, style: Style, seed: int, n: int, known: Callable[[str], bool]
) -> dict | None:
    """One question and answer; None where the question has no end or is known, or either is empty or loops."""
    start, rng = style.first_words(seed, n)
    question: str | None = start
    if style.question:
        prompt = template.before + start
        rest, ended = sampler.complete(prompt, template.stop, rng.getrandbits(31), asdict(style.question) | PLAIN)
        question = usable_question(start, rest) if ended else None
    if question is None or known(question):
        return None
    prompt = template.before + question + template.after
    answer, done = sampler.complete(prompt, template.stop, rng.getrandbits(31), asdict(style.answer) | PLAIN)
    return style.row(n, question, answer, done)


def server_attempts(
    sampler: Sampler, template: Template, *, workers: int, seed: int, style: Style | None = None
) -> Attempts:
    """Attempts as they come, `workers` in flight, until the iterator is closed."""

    style = style or Style()

    def run(first: int, known: Callable[[str], bool]) -> Iterator[dict | None]:
        with ThreadPoolExecutor(workers) as pool:
            running: set[Future] = set()
            n = first
            try:
                while True:
                    while len(running) < workers:
                        running.add(pool.submit(attempt, sampler, template, style, seed, n, known))
                        n += 1
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from [future.result() for future in done]
            finally:
                for future in running:
                    future.cancel()

    return run
