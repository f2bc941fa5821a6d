"""Runs the built server (dist/, or SORTIE_MAIN) as a process on a free port, for tests of clients."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAIN = Path(os.environ.get("SORTIE_MAIN", ROOT / "dist" / "src" / "main.js"))
MODEL_DIR = Path(os.environ.get("SORTIE_TEST_MODEL", ROOT / "models" / "smollm2-135m-sorted"))
API_KEY = "sesame"
READY_S = 120

# Hugging Face's libraries read these at import: they use no network and no shared folder.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="sortie-hf-")


@dataclass(frozen=True)
class Server:
    url: str
    model: str
    exits: list[int]

    def get(self, path: str) -> str:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {API_KEY}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read().decode()

    def post(self, path: str, body: dict) -> dict:
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)

    def metric(self, name: str) -> float:
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def wait_idle(self) -> None:
        for _ in range(600):
            if self.metric("sortie_num_requests_running") + self.metric("sortie_num_requests_waiting") == 0:
                return
            time.sleep(0.1)
        raise TimeoutError("something still runs after a minute")


@contextmanager
def serving(*options: str) -> Iterator[Server]:
    """A ready server. It must exit with code 0 on SIGTERM."""
    # Tests run beside each other: threads of the runtime spin, and two processes of two would stall each other.
    command = ["node", str(MAIN), "serve", "--port", "0", "--host", "127.0.0.1", "--threads", "1"]
    command += ["--model", str(MODEL_DIR), "--api-key", API_KEY, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        entry: dict = {}
        while "port" not in entry:
            line = process.stdout.readline()
            assert line, f"the server exited with code {process.wait()}"
            entry = json.loads(line)
        threading.Thread(target=process.stdout.read, daemon=True).start()
        url = f"http://127.0.0.1:{entry['port']}"
        wait_ready(url)
        manifest = json.loads((MODEL_DIR / "manifest.json").read_text())
        yield Server(url, manifest["name"], [exit["layer"] for exit in manifest["exits"]])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()


def wait_ready(url: str) -> None:
    for _ in range(READY_S * 2):
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"not ready within {READY_S} s")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
