#!/usr/bin/env bash
# Trains the same model in Terrace and in PyTorch, eager and compiled, one after the other and several
# times in turn, and prints medians and ratios.
#
#   scripts/bench/compare.sh
#   TERRACE=path/to/terrace     default: target/release/terrace, built if absent
#   PYTHON=path/to/python       with torch; default: a new environment of 2 GB and more
#   ROUNDS=3 STEPS=5 BATCHES="4x256 1x1024 1x4096" LAYERS=6 DEVICE=cpu COMPILE=1
set -euo pipefail
cd "$(dirname "$0")/../.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python=${PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install -q torch==2.15.0
    python=$home/venv/bin/python
fi
steps=${STEPS:-5} layers=${LAYERS:-6} device=${DEVICE:-cpu}
for batch in ${BATCHES:-4x256 1x1024 1x4096}; do
    for round in $(seq "${ROUNDS:-3}"); do
        echo "$batch, round $round" >&2
        "$terrace" bench train --batch "$batch" --layers "$layers" --steps "$steps" --recompute none \
            --device "$device" --json -q >"$home/$batch.$round.terrace.json"
        peer=(scripts/bench/peer_torch.py --batch "$batch" --layers "$layers" --steps "$steps" --device "$device")
        "$python" "${peer[@]}" >"$home/$batch.$round.eager.json"
        if [ "${COMPILE:-1}" = 1 ]; then
            "$python" "${peer[@]}" --compile >"$home/$batch.$round.compiled.json"
        fi
    done
done
python3 - "$home" ${BATCHES:-4x256 1x1024 1x4096} <<'PY'
import json, statistics, sys
from pathlib import Path

home = Path(sys.argv[1])
print("| batch | engine | tokens/s, each round | median | Terrace / it | peak MiB |")
print("|---|---|---|---|---|---|")
for batch in sys.argv[2:]:
    rows = {}
    for engine in ["terrace", "eager", "compiled"]:
        found = []
        for path in sorted(home.glob(f"{batch}.*.{engine}.json")):
            value = json.loads(path.read_text())
            found.append(value["results"][0] if engine == "terrace" else value)
        if found:
            rows[engine] = found
    ours = statistics.median(r["tokens_per_second"] for r in rows["terrace"])
    sizes = {r["parameters"] for found in rows.values() for r in found}
    assert len(sizes) == 1, f"the models differ: {sizes}"
    for engine, found in rows.items():
        rates = [r["tokens_per_second"] for r in found]
        median = statistics.median(rates)
        peak = max(r["peak_memory_bytes"] for r in found) / 2**20
        each = ", ".join(f"{rate:,.0f}" for rate in rates)
        ratio = "" if engine == "terrace" else f"{ours / median:.2f}"
        print(f"| {batch} | {engine} | {each} | {median:,.0f} | {ratio} | {peak:,.0f} |")
PY
