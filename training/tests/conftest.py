"""A tiny random Llama, its tokenizer, data and targets, built once per test run."""

import dataclasses
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch import nn

from sorted_tuning.exits import parse_exits
from sorted_tuning.export import export
from sorted_tuning.model import SortedModel
from sorted_tuning.reference.tiny import byte_tokenizer, tiny_llama
from sorted_tuning.targets import write_targets
from sorted_tuning.tuning.config import TuneConfig

torch.set_num_threads(1)

TEACHING = {"length": 32, "k": 8, "batch": 8, "seed": 1, "precision": "fp32"}
"""Settings of targets."""


def sub_model(model, exit_):
    """The exit as a causal language model of its own, of the same modules."""
    fields = model.base.config.to_dict() | {"num_hidden_layers": exit_.executed}
    for name in ("layer_types", "no_rope_layers"):
        if fields.get(name):
            fields[name] = fields[name][: exit_.executed]
    config = type(model.base.config).from_dict(fields)
    config._attn_implementation = model.base.config._attn_implementation
    with torch.device("meta"):
        view = type(model.base)(config)
    for name, module in model.base.model.named_children():
        setattr(view.model, name, module)
    own = model.blocks[str(exit_.layer)] if exit_.block else None
    view.model.layers = nn.ModuleList([*model.base.model.layers[: exit_.layer], *(own.layers if own else [])])
    view.model.norm = own.norm if own else model.base.model.norm
    view.lm_head = model.base.lm_head
    return view.eval()


@pytest.fixture
def base():
    return tiny_llama(seed=3)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Folder with base/ (a Hugging Face checkpoint), rows.jsonl and targets.safetensors (20 windows, no states)."""
    folder = tmp_path_factory.mktemp("files")
    model, tokenizer = tiny_llama(seed=3), byte_tokenizer()
    export(SortedModel(model, parse_exits("4")), tokenizer, folder / "base")
    rng = random.Random(0)
    rows = [{"q": f"q{i}", "a": "".join(rng.choice("abcd ") for _ in range(40)), "done": i % 5 > 0} for i in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_targets(model, tokenizer, [folder / "rows.jsonl"], folder / "targets.safetensors", **TEACHING)
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
    )


@pytest.fixture
def every_step(config):
    """The same with a checkpoint after every step."""
    return dataclasses.replace(config, checkpoint_minutes=1e-6)


@pytest.fixture
def server():
    """Calls `reply(body) -> (text, finish_reason)` or a status number; keeps the bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            http.bodies.append(body)
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
    http.bodies, http.reply = [], None
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()
