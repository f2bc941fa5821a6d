"""Python clients as documented, which retry by themselves, get the end of a budget as the server sent it."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import openai
import pytest

from conftest import API_KEY, Server, serving

# A retry waits longer.
AT_ONCE_S = 0.3
MESSAGES = [{"role": "user", "content": "Name a color."}]


class Silent(BaseHTTPRequestHandler):
    """An upstream that takes requests and never answers."""

    asked = 0
    left = threading.Event()

    def do_POST(self) -> None:
        type(self).asked += 1
        self.left.wait(60)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def gateway() -> Iterator[Server]:
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{upstream.server_address[1]}/v1"
    with serving("--upstream", url, "--upstream-model", "silent") as server:
        yield server
    Silent.left.set()
    upstream.shutdown()


def seconds_to_error(sdk: str, url: str, model: str, budget_ms: int, status: int, stream: bool) -> float:
    headers = {"X-Latency-Budget-Ms": str(budget_ms), "X-Net": "land"}
    fields = {"model": model, "messages": MESSAGES, "max_tokens": 50, "stream": stream, "extra_headers": headers}
    if sdk == "openai":
        create = openai.OpenAI(base_url=f"{url}/v1", api_key=API_KEY).chat.completions.create
    else:
        create = anthropic.Anthropic(base_url=url, api_key=API_KEY).messages.create
    started = time.monotonic()
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as raised:
        create(**fields)
    seconds = time.monotonic() - started
    assert raised.value.status_code == status
    return seconds


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_no_client_repeats_a_refused_budget(gateway, sdk, stream):
    # The least of three: a busy machine delays the client as well.
    assert min(seconds_to_error(sdk, gateway.url, gateway.model, 5, 503, stream) for _ in range(3)) < AT_ONCE_S


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_no_client_repeats_a_request_behind_its_deadline(gateway, sdk, stream):
    before = Silent.asked
    assert min(seconds_to_error(sdk, gateway.url, "silent", 500, 504, stream) for _ in range(3)) < 0.5 + AT_ONCE_S
    assert Silent.asked - before == 3
