"""Runs schemathesis over openapi.json against the real server: `python run_schemathesis.py REPORT.xml`.

It runs every check except positive_data_acceptance, which fails on a 400 for a request that the schema allows. A JSON
schema cannot state rules between fields ("top_logprobs only with logprobs: true") or limits of the model (ids below the
vocabulary, prompt and answer within the context). The exit code is schemathesis's.
"""

import os
import subprocess
import sys
from pathlib import Path

from conftest import API_KEY, ROOT, serving

HERE = Path(__file__).parent
SCHEMA = ROOT / "openapi" / "openapi.json"
LIMIT_S = 540


def main(report: str) -> int:
    with serving("--max-tokens-default", "3") as server:
        command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", "schemathesis.toml", "run"]
        command += [str(SCHEMA), "--url", server.url]
        command += ["--header", f"Authorization: Bearer {API_KEY}", "--checks", "all"]
        command += ["--exclude-checks", "positive_data_acceptance"]
        # The first answer with a grammar loads the grammar library, which takes seconds. The default limit is 10 s.
        command += ["--max-response-time", "60"]
        command += ["--report", "junit", "--report-junit-path", str(Path(report).resolve())]
        environment = {**os.environ, "SORTIE_MODEL_NAME": server.model, "PYTHONPATH": str(HERE)}
        code = subprocess.run(command, cwd=HERE, env=environment, check=False, timeout=LIMIT_S).returncode
        server.wait_idle()
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
