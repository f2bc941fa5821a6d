"""Runs schemathesis over openapi.json against the real server: `python run_schemathesis.py REPORT.xml`.

Every check that schemathesis has but one: it may not call a 400 for a request that is valid by the schema a failure.
Rules between fields ("top_logprobs only with logprobs: true") and limits of the model (ids below the vocabulary, prompt
and answer within the context) are no part of a JSON schema. Ends with schemathesis's exit code.
"""

import os
import subprocess
import sys
from pathlib import Path

from conftest import API_KEY, ROOT, serving

HERE = Path(__file__).parent
SCHEMA = ROOT / "openapi" / "openapi.json"
LIMIT_S = 420


def main(report: str) -> int:
    with serving("--max-tokens-default", "3") as server:
        command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", "schemathesis.toml", "run"]
        command += [str(SCHEMA), "--url", server.url]
        command += ["--header", f"Authorization: Bearer {API_KEY}", "--checks", "all"]
        command += ["--exclude-checks", "positive_data_acceptance"]
        # The first answer that keeps to a grammar loads its library: seconds on a busy machine, and 10 s are the default.
        command += ["--max-response-time", "60"]
        command += ["--report", "junit", "--report-junit-path", str(Path(report).resolve())]
        environment = {**os.environ, "SORTIE_MODEL_NAME": server.model, "PYTHONPATH": str(HERE)}
        code = subprocess.run(command, cwd=HERE, env=environment, check=False, timeout=LIMIT_S).returncode
        server.wait_idle()
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
