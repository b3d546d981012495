#!/usr/bin/env bash
# What growing the batch on a plateau is worth: trains the quickstart's model on its data and tokens with
# a small fixed batch, a large fixed batch, the plateau controller and a ramp that was declared before,
# three seeds each, then puts held-out bits per byte against steps and time into a table and a picture.
# Runs that are complete are not trained again.
#
#   scripts/bench/batch_study.sh FOLDER
#   SEEDS="17 18 19"  TERRACE=path/to/terrace (default: target/release/terrace, built if absent)
#
# Needs python3 with matplotlib, 1 GB in FOLDER, and an hour to two on two cores. Time is only comparable if
# nothing else runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?the folder for the runs}
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# What an arm is told, beside the quickstart's own values (which are the plateau arm).
arm() {
    case $1 in
    small) settings=(--set batch.mode=fixed --set batch.initial_tokens=1024) ;;
    large) settings=(--set batch.mode=fixed --set batch.initial_tokens=4096) ;;
    plateau) settings=() ;;
    ramp) settings=(--set batch.mode=steps --set 'batch.schedule="0:1024 200000:2048 400000:4096"') ;;
    esac
}

# Seeds outside, arms inside: a machine that slows down slows all arms down.
for seed in ${SEEDS:-17 18 19}; do
    for name in small large plateau ramp; do
        run=$folder/$name-$seed
        [ ! -e "$run/report.json" ] || continue
        rm -rf "$run"
        arm "$name"
        echo "$name, seed $seed" >&2
        "$terrace" train configs/quickstart.toml --quiet \
            --set "run_directory=$run" --set "seed=$seed" --set validation.every_tokens=50000 \
            --set checkpoint.keep_last=1 --set checkpoint.keep_best=false "${settings[@]}"
    done
done
python3 scripts/bench/batch_study.py "$folder"
