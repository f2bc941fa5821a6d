"""lm-eval's local-completions: its scores from echo and logprobs must equal the server's token log-probabilities.

The reference sums come from requests of one text each, as token ids. So the comparison covers the batching, the order and
the context lengths of the harness.
"""

from pathlib import Path

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from transformers import PreTrainedTokenizerFast

from conftest import API_KEY, MODEL_DIR, Server

TASKS = Path(__file__).parent / "tasks"
# The values are sums of a few float32 terms, printed and parsed once.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    PreTrainedTokenizerFast(tokenizer_file=str(MODEL_DIR / "tokenizer.json"), **special).save_pretrained(path)
    return path


@pytest.fixture
def evaluate(server: Server, tokenizer_dir: Path, monkeypatch):
    monkeypatch.chdir(TASKS)
    monkeypatch.setenv("OPENAI_API_KEY", API_KEY)

    def run(task: str, **model_args) -> list[dict]:
        result = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={
                "model": server.model,
                "base_url": f"{server.url}/v1/completions",
                "tokenizer_backend": "huggingface",
                "tokenizer": str(tokenizer_dir),
                "max_length": 2048,
                "max_retries": 1,
                **model_args,
            },
            tasks=[task],
            task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
        )
        assert len(result["samples"][task]) == 8
        return result["samples"][task]

    return run


def tokens_of(server: Server, text: str) -> list[int]:
    return server.post("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def score(server: Server, ids: list[int], start: int) -> tuple[float, bool]:
    """Log-likelihood of ids[start:] after ids[:start], and whether each of them is the most likely token."""
    body = {"model": server.model, "prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 1}
    logprobs = server.post("/v1/completions", body)["choices"][0]["logprobs"]
    own = logprobs["token_logprobs"][start:]
    best = [max(top.values()) for top in logprobs["top_logprobs"][start:]]
    assert len(logprobs["token_logprobs"]) == len(ids)
    return sum(own), own == best


@pytest.mark.parametrize(
    "how",
    [
        {"tokenized_requests": True, "batch_size": 1},
        {"tokenized_requests": True, "batch_size": 4},
        {"tokenized_requests": False, "batch_size": 4, "num_concurrent": 2},
    ],
    ids=["token ids", "batches of token ids", "batches of text, concurrently"],
)
def test_multiple_choice(server, evaluate, how):
    right = 0
    for sample in evaluate("sortie_capitals", **how):
        likelihoods = []
        for choice, response in zip(sample["doc"]["choices"], sample["filtered_resps"], strict=True):
            context = tokens_of(server, sample["doc"]["question"])
            whole = tokens_of(server, f"{sample['doc']['question']} {choice}")
            likelihood, greedy = float(response[0]), str(response[1]) == "True"
            expected, best = score(server, whole, len(context))
            assert likelihood == pytest.approx(expected, abs=TOLERANCE)
            assert greedy == best
            likelihoods.append(likelihood)
        assert len(set(likelihoods)) == len(likelihoods)
        right += sample["acc"] == (likelihoods.index(max(likelihoods)) == sample["doc"]["answer"])
    assert right == 8


def test_the_model_knows_something(evaluate):
    assert sum(sample["acc"] for sample in evaluate("sortie_capitals", tokenized_requests=True)) >= 4


def test_generate_until(server, evaluate):
    for sample in evaluate("sortie_continue", tokenized_requests=False):
        text = sample["filtered_resps"][0]
        body = {"model": server.model, "prompt": sample["doc"]["question"], "max_tokens": 6, "temperature": 0}
        expected = server.post("/v1/completions", {**body, "stop": ["\n"]})["choices"][0]["text"]
        assert text == expected
        assert "\n" not in text


def test_perplexity(server, evaluate, tokenizer_dir):
    start = tokens_of(server, "<|im_start|>")
    assert len(start) == 1
    for sample in evaluate("sortie_perplexity", tokenized_requests=True):
        text = f"{sample['doc']['question']} {sample['doc']['choices'][sample['doc']['answer']]}."
        expected, _ = score(server, start + tokens_of(server, text), 1)
        response = sample["filtered_resps"][0]
        likelihood = float(response[0] if isinstance(response, (list, tuple)) else response)
        assert likelihood == pytest.approx(expected, abs=TOLERANCE)

