#!/usr/bin/env bash
# The peak of training steps with the state in each of its number formats, beside what the plan says.
#
#   cargo build --release && scripts/bench/memory_formats.sh
#   BATCHES="4x256 2x320" LAYERS="6 12" scripts/bench/memory_formats.sh
#
# TERRACE names the binary. What the process held before there was a model is taken off the peak.
set -euo pipefail
cd "$(dirname "$0")/../.."
TERRACE=${TERRACE:-target/release/terrace}
FORMATS=(
    "--precision f32 --moments f32"
    "--precision f32 --moments bf16"
    "--precision f32 --moments 8-bit"
    "--precision f32 --moments 8-bit --gradient-release"
    "--precision bf16-mixed --moments f32"
    "--precision bf16 --moments bf16"
    "--precision bf16 --moments 8-bit"
    "--precision bf16 --moments 8-bit --gradient-release"
    "--precision bf16 --moments 8-bit --micro-batches 2"
)
echo "| layers | batch | format | none | all |"
echo "|---|---|---|---|---|"
for layers in ${LAYERS:-6}; do
    for batch in ${BATCHES:-4x256}; do
        for format in "${FORMATS[@]}"; do
            # shellcheck disable=SC2086
            "$TERRACE" bench train --json --quiet --steps 2 --recompute none,all \
                --layers "$layers" --batch "$batch" $format |
                python3 -c '
import json, sys
layers, batch, format = sys.argv[1:]
cells = []
for m in json.load(sys.stdin)["results"]:
    measured = (m["peak_memory_bytes"] - m["baseline_memory_bytes"]) / 2**20
    planned = m["predicted_peak_memory_bytes"] / 2**20
    cells.append(f"{measured:.0f}, {planned:.0f} ({planned / measured - 1:+.0%})")
print("|", " | ".join([layers, batch, format.replace("--", "")] + cells), "|")
' "$layers" "$batch" "$format"
        done
    done
done
