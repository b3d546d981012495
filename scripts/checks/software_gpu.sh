#!/usr/bin/env bash
# Runs what is made for a card on a Vulkan device that is none: Mesa's, which computes on the processor.
# Expects that
#   1. every kernel of crates/kernels/src/cube agrees with its composed form and with the slopes of its
#      definition, at sizes that no tile divides;
#   2. a few steps of a tiny model on that device give the losses and gradient norms of the processor,
#      with every layer kept and with every layer run again: relative to them within TOLERANCE;
#   3. so do steps with moments in eight bits, whose gradients are clipped by layer and given up. A moment
#      halfway between two codes may fall to either side, so these may lie LEAN_TOLERANCE apart;
#   4. a run whose weights are bf16, which that device has not, is read there as on the processor.
#
#   scripts/checks/software_gpu.sh            builds with the features cpu and wgpu, unoptimised
#   TOLERANCE=1e-4 LEAN_TOLERANCE=1e-3 VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
#
# Needs Debian's mesa-vulkan-drivers and python3. The first step measures which products are fastest, which
# takes minutes there; the cache of that goes to a folder of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
export VK_ICD_FILENAMES=${VK_ICD_FILENAMES:-/usr/share/vulkan/icd.d/lvp_icd.x86_64.json}
tolerance=${TOLERANCE:-1e-4}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
fail() {
    echo "software_gpu: $*" >&2
    exit 1
}
[ -e "$VK_ICD_FILENAMES" ] || fail "no driver at $VK_ICD_FILENAMES: install mesa-vulkan-drivers"

# One selection of crates for both parts, so that the tensor library is built once.
cargo test --workspace --features terrace-cli/wgpu --test cube
cargo build --workspace --features terrace-cli/wgpu
terrace=${CARGO_TARGET_DIR:-target}/debug/terrace

python3 - "$home" "$PWD/crates/tokenizer/tests/fixtures/byte_level.json" <<'PYTHON'
import json, pathlib, sys

home, tokenizer = pathlib.Path(sys.argv[1]), sys.argv[2]
with open(home / "counts.jsonl", "w") as out:
    for i in range(200):
        out.write(json.dumps({"text": f"{i} counts: {'and so on ' * (i % 7)}."}) + "\n")
(home / "counts.toml").write_text(f"""
source = "counts"
tokenizer = "{tokenizer}"
sequence_length = 100
[[inputs]]
paths = ["counts.jsonl"]
""")
(home / "run.toml").write_text(f"""
name = "software-gpu"
run_directory = "unused"
model.tokenizer = "{tokenizer}"
[model.architecture]
# Large enough for moments in eight bits, but for those of keys and values.
hidden_size = 64
intermediate_size = 88
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
vocab_size = 641
max_position_embeddings = 100
rms_norm_eps = 1e-6
rope_theta = 10000.0
initializer_range = 0.2
[training]
sequence_length = 100
micro_batch_sequences = 2
[optimizer]
learning_rate = 1e-2
[batch]
mode = "fixed"
initial_tokens = 400
[checkpoint]
every_tokens = 1000000
[sources.counts]
edition = "counts"
prepare = "counts.toml"
[[stages]]
name = "only"
budget_tokens = 2400
mixture = {{ counts = 1.0 }}
""")
PYTHON

train() { # NAME DEVICE RECOMPUTE [--set KEY=VALUE]...
    local name=$1 device=$2 recompute=$3
    shift 3
    "$terrace" train "$home/run.toml" --device "$device" --set "training.recompute=$recompute" \
        --set "run_directory=$home/$name" "$@" --quiet >/dev/null ||
        fail "training on $device, recompute $recompute $*"
}
lean=(--set training.gradient_release=true --set training.gradient_clipping=per-layer
    --set spikes.policy=rewind --set spikes.rewind_after_steps=1)
train processor cpu none
train kept wgpu none
train again wgpu all
train exact-processor cpu none "${lean[@]}"
train lean-processor cpu none "${lean[@]}" --set optimizer.moments=8-bit
train lean wgpu none "${lean[@]}" --set optimizer.moments=8-bit
python3 - "$home" "$tolerance" "${LEAN_TOLERANCE:-1e-3}" <<'PYTHON'
import json, sys

home, tolerance, lean_tolerance = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
def steps(name):
    with open(f"{home}/{name}/metrics.jsonl") as lines:
        return [step for step in map(json.loads, lines) if "gradient_norm" in step]
for name, other, limit in [("kept", "processor", tolerance), ("again", "processor", tolerance),
                           ("lean", "lean-processor", lean_tolerance)]:
    expected, found, worst = steps(other), steps(name), {}
    assert len(expected) == 6, f"{len(expected)} steps"
    assert len(found) == len(expected), f"{name}: {len(found)} steps"
    for a, b in zip(found, expected):
        for key in ["nats", "gradient_norm"]:
            difference = abs(a[key] - b[key]) / abs(b[key])
            worst[key] = max(worst.get(key, 0), difference)
            assert difference <= limit, f"{name}, step {a['step']}: {key} {a[key]}, on the processor {b[key]}"
    largest = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
    print(f"{name}: largest relative difference: {largest}")
last = [steps(name)[-1]["nats"] for name in ["lean-processor", "exact-processor"]]
assert last[0] != last[1], "moments in eight bits train as f32 ones do"
PYTHON
train half cpu none --set training.precision=bf16
for device in cpu wgpu; do
    "$terrace" generate "$home/half" --device "$device" --prompt counts --max-new-tokens 4 --quiet \
        >"$home/$device.txt" || fail "a run in bf16 cannot be read on $device"
done
cmp "$home/cpu.txt" "$home/wgpu.txt" || fail "a run in bf16 goes on otherwise on wgpu"
echo passed
