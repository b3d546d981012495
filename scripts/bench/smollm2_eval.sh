#!/usr/bin/env bash
# Evaluates SmolLM2-135M, as scripts/smollm2.sh obtains it, in f32 and with eight-bit weights, sets both
# side by side item by item, and measures the speed of both and of transformers one after the other.
#
#   scripts/bench/smollm2_eval.sh
#   TERRACE=path/to/terrace     default: target/release/terrace, built if absent
#   PYTHON=path/to/python       with torch and transformers; default: a new environment of 2 GB and more
#   MODEL=data/prepared/smollm2/model LIMIT=200 TASKS="hellaswag arc-easy piqa"
#
# Published for the instruct model, 0 shots, all items, by others with lm-evaluation-harness:
# HellaSwag acc_norm 42.99, ARC-e acc 54.12, PIQA acc_norm 66.92. Our weights went through Q4_1.
set -euo pipefail
cd "$(dirname "$0")/../.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
model=${MODEL:-data/prepared/smollm2/model}
[ -e "$model/config.json" ] || { echo "scripts/smollm2.sh makes $model" >&2; exit 2; }
[ -d data/tasks/hellaswag ] || scripts/fetch_tasks.sh
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
python=${PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install -q torch==2.15.0 transformers==5.23.0
    python=$home/venv/bin/python
fi
tasks=()
for task in ${TASKS:-hellaswag arc-easy piqa}; do tasks+=("configs/tasks/$task.toml"); done

"$terrace" quantize "$model" --output "$home/int8" -q
for weights in f32 int8; do
    folder=$model
    [ $weights = f32 ] || folder=$home/int8
    echo "== $weights"
    # The published HellaSwag is without examples.
    "$terrace" eval "$folder" --tasks "${tasks[@]}" --limit "${LIMIT:-200}" --set fewshot.shots=0 \
        --context 2048 --batch 16 --log-items "$home/$weights.jsonl" 2>&1 | grep -v " of [0-9]* ([0-9]*%)"
done
echo "== int8 against f32"
"$terrace" compare "$home/f32.jsonl" "$home/int8.jsonl" 2>&1

echo "== speed, twice in turn"
for _ in 1 2; do
    "$terrace" bench prefill --shape "$model" --weights f32,int8 --prompt 512 2>&1
    "$terrace" bench decode --shape "$model" --weights f32,int8 --batch 1,8 2>&1
    "$python" scripts/bench/peer_transformers.py "$model"
done
