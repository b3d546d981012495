#!/usr/bin/env bash
# Lets 64 clients loose on a server for a minute: prompts of mixed lengths, streams, clients that go away,
# oversized and malformed bodies. Expects that
#   1. every answer is the one that the same request gets alone: texts equal, log-probabilities within
#      TOLERANCE (0 for exactly), first tokens that differ where two are that close counted apart;
#   2. every bad request is refused with the right 4xx, and nothing is answered with 5xx;
#   3. afterwards nothing is pending, nothing has panicked, the server is healthy, and its memory is
#      what it was after the first quarter of the time, give or take a sixteenth and 16 MiB;
#   4. on SIGTERM it ends by itself with code 0, where it is `terrace serve`.
# Prints the latencies' percentiles by kind of request, and the memory before and after.
#
#   scripts/checks/load.sh [MODEL]      default: the closed-form bigram model of terrace-serve's example
#   TERRACE=path/to/terrace             default: target/release/terrace, built if absent
#   BIGRAM=path/to/bigram               default: the example, built
#   DURATION=60 CLIENTS=64 TOLERANCE=0.001 MAX_TOKENS=16
set -euo pipefail
cd "$(dirname "$0")/../.."
home=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    wait
    rm -rf "$home"
}
trap cleanup EXIT

fail() {
    echo "load: $*" >&2
    tail -n 20 "$home/server.log" >&2 || true
    exit 1
}

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
if [ $# -gt 0 ]; then
    terrace=${TERRACE:-target/release/terrace}
    [ -x "$terrace" ] || cargo build --release --package terrace-cli
    "$terrace" serve "$1" --port "$port" >"$home/server.log" 2>&1 &
else
    bigram=${BIGRAM:-}
    if [ -z "$bigram" ]; then
        cargo build --release --package terrace-serve --example bigram
        bigram=${CARGO_TARGET_DIR:-target}/release/examples/bigram
    fi
    "$bigram" "$home/bigram" "$port" >"$home/server.log" 2>&1 &
fi
server=$!

python3 scripts/checks/load_client.py --port "$port" --pid "$server" \
    --seconds "${DURATION:-60}" --clients "${CLIENTS:-64}" --tolerance "${TOLERANCE:-0.001}" \
    --max-tokens "${MAX_TOKENS:-16}" || fail "see above"
if grep -n "panicked at" "$home/server.log" >&2; then fail "a panic"; fi

kill "$server"
status=0
wait "$server" || status=$?
server=
# The example has no handler and is ended by the signal itself.
if [ $# -gt 0 ] && [ "$status" != 0 ]; then fail "exit code $status after SIGTERM"; fi
echo "load: passed" >&2
