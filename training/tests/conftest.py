"""A tiny random Llama, its tokenizer, data and targets, built once per test run."""

import dataclasses
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from sorted_tuning.exits import parse_exits
from sorted_tuning.export import export
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer, tiny_llama
from sorted_tuning.targets import write_targets
from sorted_tuning.tuning.config import TuneConfig

torch.set_num_threads(1)


@pytest.fixture
def base():
    return tiny_llama(seed=3)


@pytest.fixture
@torch.no_grad()
def talker(base):
    """The tiny model, whose texts come to an end: random weights hardly ever end one."""
    ids = torch.randint(3, 259, (8, 200), generator=torch.Generator().manual_seed(1))
    h = base.model(ids).last_hidden_state.flatten(0, 1)
    mean = h.mean(0)
    base.lm_head.weight[base.config.eos_token_id] = mean * (2.6 / (h @ mean).mean())
    return base


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Folder with base/ (a Hugging Face checkpoint), rows.jsonl and targets.safetensors (1,300 training tokens)."""
    folder = tmp_path_factory.mktemp("files")
    model, tokenizer = tiny_llama(seed=3), byte_tokenizer()
    export(SortedModel(model, parse_exits("4")), tokenizer, folder / "base", torch.float32)
    rng = random.Random(0)
    rows = [{"q": f"q{i}", "a": "".join(rng.choice("abcd ") for _ in range(40)), "done": i % 5 > 0} for i in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"length": 32, "k": 8, "batch": 8, "seed": 1, "precision": "fp32"}
    write_targets(model, tokenizer, [folder / "rows.jsonl"], folder / "targets.safetensors", **settings)
    return folder


@pytest.fixture
def config(files):
    """Settings of a run of a dozen steps in fp32."""
    return TuneConfig(
        model=str(files / "base"),
        targets=(str(files / "targets.safetensors"),),
        exits="1,2,4",
        total_tokens=12 * 128,
        warmup_tokens=128,
        eval_tokens=1024,
        precision="fp32",
        compile=False,
    )


@pytest.fixture
def every_step(config):
    """The same with a checkpoint after every step."""
    return dataclasses.replace(config, checkpoint_minutes=1e-6)


@pytest.fixture
def server():
    """Calls `reply(body) -> (text, finish_reason)` or a status number; keeps the bodies and the headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            http.bodies.append(body)
            http.headers.append(self.headers)
            out = http.reply(body)
            status = out if isinstance(out, int) else 200
            text = json.dumps({} if status != 200 else {"choices": [{"text": out[0], "finish_reason": out[1]}]})
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.bodies, http.headers, http.reply = [], [], None
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()
