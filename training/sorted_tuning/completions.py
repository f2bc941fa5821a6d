"""A client of POST /v1/completions. Knows HTTP. Must not know questions."""

from __future__ import annotations

import requests

from sorted_tuning.errors import TuningError

TIMEOUT_S = 1800
"""A full batch of slots on two cores takes minutes for one answer, and the server may be paused for measurements."""


class Sampler:
    """Asks a server for completions."""

    def __init__(self, url: str, model: str):
        self.url, self.model, self.session = url.rstrip("/") + "/v1/completions", model, requests.Session()

    def complete(self, prompt: str, stop: str, seed: int, settings: dict) -> tuple[str, bool]:
        """The text, and whether it ended by itself."""
        # Stated, because a model folder may have another default.
        body = {"model": self.model, "prompt": prompt, "stop": [stop], "seed": seed, "top_p": 1, **settings}
        try:
            reply = self.session.post(self.url, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise TuningError(f"server: {self.url} must be reachable: {error}") from error
        if not reply.ok:
            raise TuningError(f"server: {self.url} must answer with 200, got {reply.status_code}: {reply.text[:200]}")
        choice = reply.json()["choices"][0]
        return choice["text"], choice["finish_reason"] == "stop"
