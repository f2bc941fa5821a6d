"""Sortie as a deployment of Ray Serve. Tested with Ray 2.60: pip install 'ray[serve]'.

    export RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING=0 # before `ray start`, on each node
    SORTIE_COMMAND="node dist/src/main.js serve --model models/NAME" serve run --app-dir deploy/ray sortie:app

By default a proxy of Ray gives a replica of its own node all requests up to max_ongoing_requests, and others none.
Each replica starts its own server on a free port of its node, and passes requests and streams on. The number of replicas
follows the requests that a server holds, and attainment, as deploy/kubernetes/autoscaling.yaml does. Node.js, the build
and the model must be on each node.
"""

import asyncio
import json
import math
import os
import re
import shlex
import signal
from collections import deque

import aiohttp
from ray import serve
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

COMMAND = os.environ.get("SORTIE_COMMAND", "sortie serve")
MAX_REPLICAS = int(os.environ.get("SORTIE_MAX_REPLICAS", "3"))
# Requests that a replica serves at the depth that you want: the threshold of deploy/kubernetes/autoscaling.yaml.
LOAD_TARGET = float(os.environ.get("SORTIE_LOAD_TARGET", "4"))
ATTAINMENT_TARGET = 0.95
DRAIN_S = 40
# Headers of one connection, which are not those of the next.
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


def desired(loads: list[float], attainments: list[float]) -> int:
    """The number of replicas for these of each replica. A share of budgets met is 1 without a budget."""
    needed = max(1, math.ceil(sum(loads) / LOAD_TARGET))
    if min(attainments, default=1) < ATTAINMENT_TARGET:
        needed = max(needed, len(loads) + 1)
    return needed


def policy(context):
    """Ray Serve's hook: the number of replicas, and the state that the next call gets."""
    metrics = context.aggregated_metrics or {}
    loads = list(metrics.get("load", {}).values())
    if not loads:
        return max(1, context.target_num_replicas), context.policy_state
    return desired(loads, list(metrics.get("attainment", {}).values())), context.policy_state


@serve.deployment(
    max_ongoing_requests=1000,
    health_check_period_s=2,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=DRAIN_S,
    ray_actor_options={"num_cpus": 1},
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": MAX_REPLICAS,
        "policy": {"policy_function": policy},
        "metrics_interval_s": 1,
        "look_back_period_s": 3,
        "upscale_delay_s": 2,
        "downscale_delay_s": 15,
    },
)
class Sortie:
    async def __init__(self):
        arguments = ["--host", "127.0.0.1", "--port", "0", "--trusted-proxies", "127.0.0.1"]
        # In a session of its own: a signal to the worker is not one to the server, which drains by SIGTERM alone.
        self.process = await asyncio.create_subprocess_exec(
            *shlex.split(COMMAND), *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
        self.url = f"http://127.0.0.1:{await self.port()}"
        self.log = asyncio.create_task(self.process.stdout.read())
        self.outcomes = deque([(0.0, 0.0)], maxlen=10)
        while (await self.status("/health/ready")) != 200:
            if self.process.returncode is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}")
            await asyncio.sleep(0.1)

    async def port(self) -> int:
        async for line in self.process.stdout:
            if line.startswith(b"{") and (port := json.loads(line).get("port")):
                return port
        raise RuntimeError(f"the server exited with {await self.process.wait()}")

    async def status(self, path: str) -> int:
        async with self.session.get(self.url + path) as response:
            return response.status

    async def check_health(self):
        """Liveness. A server that is not ready answers 503, and its gateway restarts a lost engine."""
        if self.process.returncode is not None:
            raise RuntimeError(f"the server exited with {self.process.returncode}")
        await self.status("/health")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        async with self.session.get(self.url + "/load") as response:
            load = (await response.json())["server_load"]
        async with self.session.get(self.url + "/metrics") as response:
            lines = re.findall(r'^sortie_answers_total\{(.*)\} (\S+)$', await response.text(), re.M)
        lines = [(labels, value) for labels, value in lines if 'budget_class="none"' not in labels]
        met = sum(float(value) for labels, value in lines if re.search(r'outcome="(whole|landed)"', labels))
        self.outcomes.append((met, sum(float(value) for _, value in lines)))
        met, total = (last - first for first, last in zip(self.outcomes[0], self.outcomes[-1]))
        return {"load": load, "attainment": met / total if total > 0 else 1.0}

    async def __call__(self, request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in HOP]
        answer = await self.session.request(
            request.method,
            self.url + request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            headers=headers,
            data=await request.body(),
        )

        async def parts():
            # A client that disconnects ends this generator, and the closed connection cancels the answer.
            try:
                async for part in answer.content.iter_any():
                    yield part
            finally:
                answer.close()

        passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
        return StreamingResponse(parts(), status_code=answer.status, headers=passed)

    async def __del__(self):
        """Ray waits for open requests first. The server then drains and exits."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self.process.wait(), DRAIN_S)
        await self.session.close()


app = Sortie.bind()
