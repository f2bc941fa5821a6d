"""The converter's golden files of other architectures are those that transformers gives today."""

import subprocess
import sys
from pathlib import Path


def test_the_converters_golden_files_are_current():
    script = Path(__file__).parents[2] / "test" / "golden" / "architectures" / "make.py"
    ran = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
