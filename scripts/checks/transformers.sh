#!/usr/bin/env bash
# Loads what Terrace writes with `transformers` and expects
#   1. no missing, unexpected or mismatched tensor, in one file and in shards, f32 and bf16, untied and
#      tied, for `terrace upscale` and, where a run is named, for `terrace export`;
#   2. the up-scaled model's logits to be, bit for bit, those of the base with its layers repeated in
#      `transformers` itself; with `--initialization zero-out`, those of the base.
#
#   scripts/checks/transformers.sh [RUN]
#   TERRACE=path/to/terrace     default: target/release/terrace, built if absent
#   PYTHON=path/to/python       with torch and transformers; default: a new environment, which takes
#                               minutes and gigabytes
set -euo pipefail
cd "$(dirname "$0")/../.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install -q -r scripts/golden/requirements.txt
    PYTHON=$home/venv/bin/python
fi

check() { # check BASE LAYERS INITIALIZATION [OPTION...]
    rm -rf "$home/deep"
    "$terrace" upscale --source "$1" --layers "$2" --initialization "$3" --output "$home/deep" "${@:4}" -q
    "$PYTHON" scripts/checks/transformers_check.py "$home/deep" --base "$1" --initialization "$3"
}

check data/base 3..7 copy
check data/base 3..7 zero-out --shard-size 1MB
check data/base "interleave 2" zero-out
check data/base "solar 2" copy --shard-size 4MB
check tests/golden/tied/model "stack 2" copy
check tests/golden/sharded/model "0..1" copy --shard-size 100KB
if [ $# -gt 0 ]; then
    for dtype in f32 bf16; do
        "$terrace" export "$1" --output "$home/$dtype" --dtype "$dtype" --shard-size 4MB -q
        "$PYTHON" scripts/checks/transformers_check.py "$home/$dtype"
    done
fi
echo "transformers: passed" >&2
