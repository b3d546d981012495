#!/usr/bin/env bash
# Shows that the peak memory of `terrace prepare` does not grow with its input: prepares 0.25, 0.5
# and 1 GB of real code (the crate sources that cargo has fetched on this machine) and prints peak
# resident memory and rates. Needs python3; with FORMAT=parquet also pyarrow.
#
#   scripts/bench/prepare_memory.sh [GIGABYTES...]
#   FORMAT=jsonl|jsonl.gz|parquet  PACKING=concat-and-chunk|best-fit  MEMORY=256MiB
#   TERRACE=path/to/terrace        WORK=folder for inputs and outputs (kept; default: a temporary one)
set -euo pipefail
cd "$(dirname "$0")/../.."

format=${FORMAT:-jsonl}
packing=${PACKING:-concat-and-chunk}
memory=${MEMORY:-256MiB}
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
sizes=("$@")
[ ${#sizes[@]} -gt 0 ] || sizes=(0.25 0.5 1)

if [ -z "${WORK:-}" ]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
fi
if [ -z "${TERRACE:-}" ]; then
    cargo build --release -p terrace-cli
    TERRACE=target/release/terrace
fi

# Writes documents until there are so many bytes of text; where the sources hold less, goes on with
# variants of them (a line in front), so that no document is a duplicate by construction. The order
# is by hash, the largest hundred within the first quarter: inputs of all sizes are samples of one
# thing with the same largest documents, so that only the amount differs.
corpus() {
    python3 - "$sources" "$1" "$2" "$format" <<'PYTHON'
import gzip, hashlib, json, pathlib, sys

root, target, path, form = sys.argv[1], float(sys.argv[2]) * 1e9, sys.argv[3], sys.argv[4]
files = sorted(p for p in pathlib.Path(root).rglob("*.rs") if p.is_file())
largest = set(sorted(files, key=lambda p: (-p.stat().st_size, p))[:100])

def place(file):
    digest = hashlib.sha256(str(file.relative_to(root)).encode()).digest()
    return int.from_bytes(digest[:8]) // (4 if file in largest else 1)

files.sort(key=place)

def documents():
    written, turn = 0, 0
    while written < target:
        for file in files:
            if written >= target:
                return
            text = file.read_text(errors="replace")
            if turn:
                text = f"// variant {turn}\n{text}"
            written += len(text.encode())
            yield str(file.relative_to(root)), text
        turn += 1

if form == "parquet":
    import pyarrow as pa, pyarrow.parquet as pq
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = []
        for row in documents():
            rows.append(row)
            if len(rows) == 1000:
                writer.write_table(pa.table(list(map(list, zip(*rows))), schema=schema))
                rows = []
        if rows:
            writer.write_table(pa.table(list(map(list, zip(*rows))), schema=schema))
else:
    opener = gzip.open if form == "jsonl.gz" else open
    with opener(path, "wt", encoding="utf-8") as out:
        for name, text in documents():
            out.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
PYTHON
}

# Runs the command and prints one row: peak memory is the operating system's own count.
measure() {
    python3 - "$1" "${@:2}" <<'PYTHON'
import json, resource, subprocess, sys

size, command = sys.argv[1], sys.argv[2:]
done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
report = json.loads(done.stdout)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
counts = report["counts"]
print(f"{size:>6} {usage.ru_maxrss / 1024:>10.0f} {report['seconds']:>9.1f} "
      f"{report['documents_per_second']:>11.0f} {report['tokens_per_second']:>11.0f} "
      f"{counts['read']:>9} {counts['dropped']['duplicate']:>10} {report['windows']:>9}  "
      f"{report['fingerprint'][:12]}")
PYTHON
}

echo "format $format, packing $packing, memory_budget $memory, $(nproc) cores"
echo "    GB   peak MiB   seconds documents/s    tokens/s documents duplicates   windows  fingerprint"
for size in "${sizes[@]}"; do
    input=$WORK/code-$size.$format
    [ -f "$input" ] || corpus "$size" "$input"
    cat > "$WORK/prepare-$size.toml" <<TOML
source = "code"
tokenizer = "$PWD/data/tokenizer/tokenizer.json"
sequence_length = 4096
packing = "$packing"
append_eos = "<|endoftext|>"
minimum_characters = 1
memory_budget = "$memory"
[[inputs]]
paths = ["$input"]
TOML
    measure "$size" "$TERRACE" prepare "$WORK/prepare-$size.toml" \
        --output "$WORK/edition-$size" --force --json
done
