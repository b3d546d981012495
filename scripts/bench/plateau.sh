#!/usr/bin/env bash
# The tables of crates/policy/README.md: how often plateau tests err and how late they are, and what the
# controller costs on a model whose best schedule is known. About a minute on two cores.
#
#   TERRACE=target/release/terrace scripts/bench/plateau.sh [FOLDER]
#
# With a folder, the figures go there: schedules, yi and alarms, each as SVG and PNG.
set -euo pipefail
cd "$(dirname "$0")/../.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
figures=()
figure() { figures=(); [ -z "$folder" ] || figures=(--picture "$folder/$1"); }
folder=${1:-}
[ -z "$folder" ] || mkdir -p "$folder"

figure schedules
"$terrace" simulate configs/simulate/acceptance.toml "${figures[@]}"
figure yi
"$terrace" simulate configs/simulate/yi.toml "${figures[@]}"
figure alarms
"$terrace" bench plateau --curves 5000 --quiet "${figures[@]}"
