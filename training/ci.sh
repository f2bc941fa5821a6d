#!/bin/sh
# Install the package with its test extras into a virtual environment of its own, and run its tests.
# VENV names another place for the environment; a ready one is used again.
set -eu
cd "$(dirname "$0")"
venv=${VENV:-.venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -e '.[test]'
exec "$venv/bin/python" -m pytest -q
