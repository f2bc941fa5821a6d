"""Runs deploy/ray on a cluster of three raylets on this machine, and prints what happened as one line of JSON.

SORTIE_COMMAND starts the server. A burst scales from 1 to 3 replicas, one node is killed under load, and the fleet scales
back when the burst is over.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# As deploy/ray/sortie.py says.
os.environ["RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING"] = "0"

import aiohttp
import ray
from ray import serve
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "ray"))
os.environ["PYTHONPATH"] = str(ROOT / "deploy" / "ray")

PORT = int(sys.argv[1])
URL = f"http://127.0.0.1:{PORT}"
MEMORY = 80 * 1024 * 1024
BUDGET_MS = 5000
BODY = {"prompt": "Count: one, two,", "max_tokens": 60, "ignore_eos": True}


def running() -> int:
    states = serve.status().applications["default"].deployments["Sortie"].replica_states
    return states.get("RUNNING", 0)


async def ask(session: aiohttp.ClientSession, url: str = URL, **more) -> str:
    """Returns `met`, `missed` or the fault."""
    started = time.monotonic()
    try:
        headers = {"X-Latency-Budget-Ms": str(BUDGET_MS)}
        async with session.post(f"{url}/v1/completions", json=BODY | more, headers=headers) as response:
            text = await response.text()
            if response.status != 200 or '"completion_tokens":' not in text:
                return f"{response.status} {text[:80]}"
            return "met" if time.monotonic() - started <= BUDGET_MS / 1000 else "missed"
    except aiohttp.ClientError as error:
        return type(error).__name__


async def until(what: str, done, seconds: float) -> float:
    started = time.monotonic()
    while not done():
        if time.monotonic() - started > seconds:
            raise TimeoutError(what)
        await asyncio.sleep(0.25)
    return time.monotonic() - started


async def stream_gaps(session: aiohttp.ClientSession) -> tuple[float, float]:
    """Seconds to the first event of a stream, and to its end."""
    started = time.monotonic()
    first = None
    body = BODY | {"stream": True, "max_tokens": 200}
    async with session.post(f"{URL}/v1/completions", json=body) as response:
        async for part in response.content.iter_any():
            first = first or (time.monotonic() - started if b"data:" in part else None)
    return first or 0.0, time.monotonic() - started


async def added_ms(session: aiohttp.ClientSession, direct: str) -> float:
    """Median time of a request through Ray less that of one without, in turns."""
    times = {URL: [], direct: []}
    for _ in range(30):
        for url, taken in times.items():
            started = time.monotonic()
            await ask(session, url, max_tokens=1)
            taken.append(1000 * (time.monotonic() - started))
    return statistics.median(times[URL]) - statistics.median(times[direct])


async def main(cluster: Cluster, nodes: list) -> dict:
    result: dict = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        result["before"] = [await ask(session) for _ in range(10)]
        result["first_s"], result["whole_s"] = await stream_gaps(session)
        if len(sys.argv) > 2:
            result["added_ms"] = await added_ms(session, sys.argv[2])
        answers: list[str] = []
        over = asyncio.Event()

        async def client():
            while not over.is_set():
                answers.append(await ask(session))

        clients = [asyncio.create_task(client()) for _ in range(12)]
        result["up_s"] = await until("three replicas", lambda: running() == 3, 240)
        await asyncio.sleep(3)
        result["burst"] = list(answers)
        answers.clear()
        cluster.remove_node(nodes[-1], allow_graceful=False)
        await asyncio.sleep(10)
        over.set()
        await asyncio.gather(*clients)
        result["killed"] = list(answers)
        result["down_s"] = await until("one replica", lambda: running() == 1, 120)
        result["after"] = [await ask(session) for _ in range(10)]
    return result


if __name__ == "__main__":
    # Ray replaces a loopback address by that of the machine.
    node = {"num_cpus": 1, "object_store_memory": MEMORY}
    head = node | {"include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**node) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        import sortie

        serve.start(http_options={"host": "127.0.0.1", "port": PORT, "location": "HeadOnly"})
        serve.run(sortie.app)
        print("RESULT " + json.dumps(asyncio.run(main(cluster, nodes))), flush=True)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
