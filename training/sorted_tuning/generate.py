"""Self-generated instruction data, Magpie style (arXiv 2406.08464): the model writes the question, then the answer.

The chat template up to where the user's words begin is the prompt of the question; what comes back is put into the
template and answered. Any OpenAI-compatible server samples (POST /v1/completions): the served engine or llama-server.
Resumable: rows are appended, each with its attempt number `n`; a new start goes on after the highest.
Knows prompts, filters and HTTP. Must not know how models are run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sorted_tuning.data import prompt_text
from sorted_tuning.errors import TuningError
from sorted_tuning.jsonl import read_whole_lines
from sorted_tuning.text import loops

STARTS = (
    "", "What", "How", "Write", "Explain", "Can you", "I", "Give me", "Why", "Describe", "Create", "Tell me", "Is",
    "Please", "Compare", "List", "Summarize", "Suggest", "Translate", "Who", "When", "Which", "Help me", "My",
    "Compose", "Identify", "Rewrite", "Design", "Find", "Calculate",
)  # fmt: skip
"""First words of questions, so that a small model's questions don't all begin alike."""

QUESTION = {"max_tokens": 120, "temperature": 1.0, "top_k": 64, "min_p": 0.02}
ANSWER = {"max_tokens": 320, "temperature": 0.7, "top_k": 50, "min_p": 0.02}
TIMEOUT_S = 1800
"""A full batch of slots on two cores takes minutes for one answer, and the server may be paused for measurements."""


@dataclass(frozen=True)
class Template:
    """A chat template around the user's words."""

    before: str
    after: str
    stop: str

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> Template:
        """Split the rendered template at a marker."""
        marker = "QUESTION-GOES-HERE"
        before, after = prompt_text(tokenizer, marker).split(marker)
        return Template(before, after, str(tokenizer.eos_token))


class Sampler:
    """Asks a server for completions."""

    def __init__(self, url: str, model: str):
        self.url, self.model, self.session = url.rstrip("/") + "/v1/completions", model, requests.Session()

    def complete(self, prompt: str, stop: str, seed: int, settings: dict) -> tuple[str, bool]:
        """The text, and whether it ended by itself."""
        body = {"model": self.model, "prompt": prompt, "stop": [stop], "seed": seed, **settings}
        reply = self.session.post(self.url, json=body, timeout=TIMEOUT_S)
        if not reply.ok:
            raise TuningError(f"server: {self.url} must answer with 200, got {reply.status_code}: {reply.text[:200]}")
        choice = reply.json()["choices"][0]
        return choice["text"], choice["finish_reason"] == "stop"


def attempt(sampler: Sampler, template: Template, seed: int, n: int) -> dict | None:
    """One question and answer; None where the question has no end, or either is empty or loops."""
    rng = random.Random(seed * 1_000_003 + n)
    start = rng.choice(STARTS)
    rest, ended = sampler.complete(template.before + start, template.stop, rng.getrandbits(31), QUESTION)
    question = (start + rest).strip()
    if not ended or not rest.strip() or len(question) < 8 or loops(question.split()):
        return None
    prompt = template.before + question + template.after
    answer, done = sampler.complete(prompt, template.stop, rng.getrandbits(31), ANSWER)
    if len(answer.strip()) < 2 or loops(answer.split()):
        return None
    return {"n": n, "q": question, "a": answer, "done": done}


def same_question(question: str) -> str:
    """What two questions that count as one share."""
    return " ".join(question.lower().split())


def generate(sampler: Sampler, template: Template, out: Path, *, rows: int, workers: int, seed: int) -> int:
    """Append rows to `out` until it holds `rows` of them; returns how many are new."""
    out = Path(out)
    old = read_whole_lines(out)
    seen = {same_question(row["q"]) for row in old}
    first = 1 + max((row.get("n", 0) for row in old), default=0)
    written = 0
    with out.open("a", encoding="utf-8") as file, tqdm(total=rows, initial=len(old), unit="row", mininterval=10) as bar:
        for row in _attempts(sampler, template, seed, first, workers, lambda: len(old) + written >= rows):
            if row is None or same_question(row["q"]) in seen or len(old) + written >= rows:
                continue
            seen.add(same_question(row["q"]))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            written += 1
            bar.update()
    return written


def _attempts(sampler, template, seed, first, workers, enough) -> Iterator[dict | None]:
    """Results as they come, `workers` attempts in flight, until enough() says so."""
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future] = set()
        n = first
        while not enough():
            while len(running) < workers:
                running.add(pool.submit(attempt, sampler, template, seed, n))
                n += 1
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
        for future in running:
            future.cancel()
