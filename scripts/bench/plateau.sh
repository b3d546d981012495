#!/usr/bin/env bash
# The tables of crates/policy/README.md: how often plateau tests err and how late they are, and what the
# controller costs on a model whose best schedule is known. About a minute on two cores.
#
#   TERRACE=target/release/terrace scripts/bench/plateau.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
"$terrace" simulate configs/simulate/acceptance.toml
"$terrace" simulate configs/simulate/yi.toml
"$terrace" bench plateau --curves 5000 --quiet
