#!/usr/bin/env bash
# How time grows with the work: sequence length, model size, checkpoint size. Prints tables and, for each,
# the exponent of time against work (1 is in proportion; less is better), fitted to logarithms.
#
#   scripts/bench/curves.sh
#   TERRACE=path/to/terrace     default: target/release/terrace, built if absent
#   LENGTHS="256 512 1024 2048 4096 8192" SIZES="1 3 10 30 100" STEPS=3
# The checkpoints need the quickstart's prepared English text (`terrace train configs/quickstart.toml`).
set -euo pipefail
cd "$(dirname "$0")/../.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
TERRACE=$terrace LENGTHS=${LENGTHS:-256 512 1024 2048 4096 8192} SIZES=${SIZES:-1 3 10 30 100} \
    STEPS=${STEPS:-3} python3 - "$home" <<'PY'
import json, math, os, subprocess, sys
from pathlib import Path

home, terrace = Path(sys.argv[1]), os.environ["TERRACE"]
lengths = [int(n) for n in os.environ["LENGTHS"].split()]
sizes = [float(n) for n in os.environ["SIZES"].split()]
steps = os.environ["STEPS"]


def run(*arguments):
    done = subprocess.run([terrace, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def exponent(points):
    logs = [(math.log(work), math.log(seconds)) for work, seconds in points]
    mean = [sum(axis) / len(logs) for axis in zip(*logs)]
    square = sum((x - mean[0]) ** 2 for x, _ in logs)
    return sum((x - mean[0]) * (y - mean[1]) for x, y in logs) / square


def shape(millions):
    """Layers of heads of 64 with two of three as queries' width, an MLP of 8/3, and 8,192 tokens."""
    best = None
    for width in range(64, 2049, 64):
        layers = max(2, width // 64)
        heads, mlp = width // 64, max(64, width * 8 // 3 // 64 * 64)
        kv_heads = max(k for k in (1, 2, 4) if heads % k == 0)
        layer = 2 * width * width + 2 * width * 64 * kv_heads + 3 * width * mlp
        count = 2 * 8192 * width + layers * layer
        if best is None or abs(count - millions * 1e6) < abs(best[0] - millions * 1e6):
            best = (count, dict(hidden_size=width, intermediate_size=mlp, num_hidden_layers=layers,
                                num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=64))
    return best[1] | dict(vocab_size=8192, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=1e4,
                          tie_word_embeddings=False)


def measure(batch, *more):
    answer = json.loads(run("bench", "train", "--batch", batch, "--recompute", "none", "--steps", steps, "--json",
                            "-q", *more))
    return answer["results"][0]


print("| batch | tokens/s | model GFLOP/s | s/step | peak MiB |\n|---|---|---|---|---|")
points = []
for length in lengths:
    m = measure(f"1x{length}")
    points.append((m["model_flops_per_second"] * m["seconds_per_step"], m["seconds_per_step"]))
    print(f"| 1x{length} | {m['tokens_per_second']:,.0f} | {m['model_flops_per_second'] / 1e9:.1f} | "
          f"{m['seconds_per_step']:.3f} | {m['peak_memory_bytes'] / 2**20:,.0f} |", flush=True)
print(f"\nTime grows with the {exponent(points):.2f}th power of the operations.\n")

print("| parameters | tokens/s | model GFLOP/s | s/step at 1x256 |\n|---|---|---|---|")
points, folders = [], []
for millions in sizes:
    folder = home / f"{millions}"
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", **shape(millions)}
    (folder / "config.json").write_text(json.dumps(config))
    m = measure("1x256", "--shape", folder)
    folders.append((folder, shape(millions), m["parameters"]))
    points.append((m["model_flops_per_second"] * m["seconds_per_step"], m["seconds_per_step"]))
    print(f"| {m['parameters']:,} | {m['tokens_per_second']:,.0f} | {m['model_flops_per_second'] / 1e9:.1f} | "
          f"{m['seconds_per_step']:.3f} |", flush=True)
print(f"\nTime grows with the {exponent(points):.2f}th power of the operations.\n")

edition = Path("data/prepared/english").resolve()
if not edition.is_dir():
    sys.exit("data/prepared/english is not there: run `terrace train configs/quickstart.toml` for the checkpoints")


def saving(folder, architecture, asynchronous):
    """Medians: of what a save keeps the step loop from, and of the writing itself."""
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in architecture.items())
    name = f"run-{asynchronous}"
    (folder / "run.toml").write_text(f"""
name = "curve"
seed = 1
run_directory = "{folder / name}"
[model.architecture]
{rows}
[training]
sequence_length = 256
micro_batch_sequences = 1
[optimizer]
learning_rate = 1e-5
[batch]
mode = "fixed"
initial_tokens = 256
[checkpoint]
every_steps = 2
keep_last = 1
asynchronous = {json.dumps(asynchronous)}
[validation]
sequences_per_source = 1
[sources.english]
edition = "{edition}"
[[stages]]
name = "one"
budget_tokens = 2048
mixture = {{ english = 1 }}
""")
    run("train", folder / "run.toml", "-q", "--profile", folder / "trace.json")
    spans, open_spans = {}, {}
    for event in json.loads((folder / "trace.json").read_text()):
        if event["ph"] == "B":
            open_spans.setdefault((event["tid"], event["name"]), []).append(event["ts"])
        elif event["ph"] == "E":
            began = open_spans[(event["tid"], event["name"])].pop()
            spans.setdefault(event["name"], []).append((event["ts"] - began) / 1e6)
    middle = lambda name: sorted(spans[name])[len(spans[name]) // 2]
    return middle("snapshot"), middle("write_checkpoint")


print("| parameters | checkpoint MiB | written in s | MB/s | step loop held, asynchronous, ms |\n|---|---|---|---|---|")
points = []
for folder, architecture, parameters in folders:
    held, _ = saving(folder, architecture, True)
    _, seconds = saving(folder, architecture, False)
    size = 12 * parameters
    points.append((size, seconds))
    print(f"| {parameters:,} | {size / 2**20:,.0f} | {seconds:.3f} | {size / seconds / 1e6:,.0f} | {held * 1e3:.1f} |",
          flush=True)
print(f"\nTime grows with the {exponent(points):.2f}th power of the bytes.")
PY
