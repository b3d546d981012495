#!/usr/bin/env bash
# Checks and measures inference on a CUDA card: that bf16 and eight-bit weights answer there as they do
# on the processor, and how fast they decode and prefill at Yi-9B's shape with random weights. Prints the
# tables for scripts/bench/RESULTS.md on stdout, with the card and the commit.
#
#   scripts/bench/cuda_inference.sh                         # builds with --features cpu,cuda
#   TERRACE=path/to/terrace scripts/bench/cuda_inference.sh
#   DEVICE=cpu SHAPE=small BATCH=1,2 PROMPT=32 scripts/bench/cuda_inference.sh   # tries the script itself
#
# Needs the driver and NVRTC, `jq`, and for building either network or scripts/llvm.sh beforehand (then
# CXX=clang++-19 and LD_LIBRARY_PATH as it says). What does not fit, as an f32 model of Yi-9B's size (35 GB)
# on a card of 24 GB, is refused before it is drawn, and left out of the tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${DEVICE:-cuda} shape=${SHAPE:-yi-9b} batch=${BATCH:-1,8,32} prompt=${PROMPT:-2048}
model=${MODEL:-data/base}
if [ -z "${TERRACE:-}" ]; then
  features=cpu; [ "$device" = cpu ] || features=cpu,${device%%:*}
  cargo build --release --package terrace-cli --no-default-features --features "$features"
  [ "$device" = cpu ] || cargo test --release --package terrace-kernels --features "${device%%:*}" --test int8_tensor
  TERRACE=target/release/terrace
fi
terrace() { "$TERRACE" "$@"; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
command -v jq >/dev/null || fail "jq is not there"

say() { echo "$*" >&2; }
say "== the device"
terrace doctor >&2 || true

say "== answers, beside those of the processor"
terrace quantize "$model" --output "$work/int8" --quiet
printf '%s\n' '{"prompt": "def add(a, b):\n    return"}' '{"prompt": "The sun is"}' \
  '{"prompt": "1 + 1 ="}' '{"prompt": "今天"}' >"$work/prompts.jsonl"
# Greedy tokens of a small model depend on ties: what is asked is that most of them agree with f32.
answers() { # FOLDER DEVICE PRECISION FILE
  terrace generate "$1" --input "$work/prompts.jsonl" --output "$4" --max-new-tokens 16 \
    --device "$2" --precision "$3" --quiet
}
agree() { # FILE FILE: the share of tokens up to the first difference of each answer
  jq -rn --slurpfile a "$1" --slurpfile b "$2" '
    [range($a | length) as $i | $a[$i].tokens as $x | $b[$i].tokens as $y
      | ([range($x | length) | select($x[.] != $y[.])] | first // ($x | length)) / ($x | length)]
    | add / length'
}
answers "$model" cpu f32 "$work/cpu.jsonl"
answers "$work/int8" cpu f32 "$work/cpu8.jsonl"
{
  echo "| weights | precision | share of greedy tokens as on the processor in f32 |"
  echo "|---|---|---|"
  for precision in f32 bf16; do
    answers "$model" "$device" $precision "$work/a.jsonl"
    echo "| float | $precision | $(agree "$work/cpu.jsonl" "$work/a.jsonl") |"
    answers "$work/int8" "$device" $precision "$work/b.jsonl"
    echo "| int8 | $precision | $(agree "$work/cpu8.jsonl" "$work/b.jsonl") |"
  done
} >"$work/agreement.md"
awk -F'|' 'NR > 2 && $3 ~ /f32/ && $4 < 0.9 { exit 1 }' "$work/agreement.md" \
  || { cat "$work/agreement.md" >&2; fail "f32 on $device does not answer as on the processor"; }

# Each format in a process of its own, so that one that does not fit leaves the others.
say "== decoding and prefill at the shape $shape"
for weights in f32 bf16 int8; do
  terrace bench decode --shape "$shape" --weights $weights --batch "$batch" --device "$device" \
    --json >"$work/decode-$weights.json" || say "decode in $weights: not measured"
  terrace bench prefill --shape "$shape" --weights $weights --prompt "$prompt" --chunk "$prompt" \
    --device "$device" --json >"$work/prefill-$weights.json" || say "prefill in $weights: not measured"
done
table() { # VERB: the rows of those that were measured
  for weights in f32 bf16 int8; do
    jq -e .results "$work/$1-$weights.json" >/dev/null 2>&1 || continue
    jq -r --arg verb "$1" 'def n: if . == null then "-" else (. * 10 | round) / 10 | tostring end;
      .results[] | [.weights, (if $verb == "decode" then .batch else .prompt_tokens end),
      (.tokens_per_second | n), (.tokens_per_second_ceiling | n),
      (if .tokens_per_second_ceiling then "\(100 * .tokens_per_second / .tokens_per_second_ceiling | round)%"
       else "-" end), ((.memory.device_bytes // .memory.resident_bytes) / 1e9 | n)]
      | "| " + (map(tostring) | join(" | ")) + " |"' "$work/$1-$weights.json"
  done
}
first=$(ls "$work"/decode-*.json | while read -r f; do jq -e .results "$f" >/dev/null 2>&1 && echo "$f" && break; done)
[ -n "$first" ] || fail "nothing was measured"
echo "### Inference on $(jq -r '.card // .device' "$first"), $(git rev-parse --short HEAD 2>/dev/null || echo '?'), $(date -u +%F)"
echo
cat "$work/agreement.md"
echo
echo "Shape $shape, $(jq .parameters "$first") random weights; decoding with prompts of 64 tokens, medians of 32 steps:"
echo
echo "| weights | batch | tokens/s | ceiling | share | GB held |"
echo "|---|---|---|---|---|---|"
table decode
echo
echo "| weights | prompt | tokens/s | ceiling | share | GB held |"
echo "|---|---|---|---|---|---|"
table prefill
