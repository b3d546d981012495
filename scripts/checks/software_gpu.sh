#!/usr/bin/env bash
# Runs what is made for a card on a Vulkan device that is none: Mesa's, which computes on the processor.
# Expects that
#   1. every kernel of crates/kernels/src/cube agrees with its composed form and with the slopes of its
#      definition, at sizes that no tile divides;
#   2. a few steps of a tiny model on that device give the losses and gradient norms of the processor,
#      with every layer kept and with every layer run again: relative to them within TOLERANCE.
#
#   scripts/checks/software_gpu.sh            builds with the features cpu and wgpu, unoptimised
#   TOLERANCE=1e-4 VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
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
hidden_size = 32
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

train() { # NAME DEVICE RECOMPUTE
    "$terrace" train "$home/run.toml" --device "$2" --set "training.recompute=$3" \
        --set "run_directory=$home/$1" --quiet >/dev/null || fail "training on $2, recompute $3"
}
train processor cpu none
train kept wgpu none
train again wgpu all
python3 - "$home" "$tolerance" <<'PYTHON'
import json, sys

home, tolerance = sys.argv[1], float(sys.argv[2])
def steps(name):
    with open(f"{home}/{name}/metrics.jsonl") as lines:
        return [step for step in map(json.loads, lines) if "gradient_norm" in step]
expected = steps("processor")
assert len(expected) == 6, f"{len(expected)} steps"
worst = {}
for name in ["kept", "again"]:
    found = steps(name)
    assert len(found) == len(expected), f"{name}: {len(found)} steps"
    for a, b in zip(found, expected):
        for key in ["nats", "gradient_norm"]:
            difference = abs(a[key] - b[key]) / abs(b[key])
            worst[key] = max(worst.get(key, 0), difference)
            assert difference <= tolerance, f"{name}, step {a['step']}: {key} {a[key]}, on the processor {b[key]}"
print("largest relative difference:", ", ".join(f"{key} {value:.1e}" for key, value in worst.items()))
PYTHON
echo passed
