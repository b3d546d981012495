#!/usr/bin/env bash
# Drives the server with the released lm_eval, the way its users do, and expects that
#   1. all three ways of asking agree: ids in batches, texts from four clients at once, both with the
#      server's own tokenizer, and texts without any tokenizer (generation only);
#   2. each item's log-probabilities are, within 1e-3, those of `terrace eval` on the same items, and each
#      generated text is the same;
#   3. with the closed-form bigram model, where every log-probability is known, each comes out exact.
#
#   scripts/lm_eval.sh MODEL            MODEL: a folder in Hugging Face's format, or a run's checkpoint
#   scripts/lm_eval.sh bigram           the closed-form model of terrace-serve's example
#   TERRACE=path/to/terrace             default: target/release/terrace, built if absent
#   BIGRAM=path/to/bigram               default: the example, built
#   PYTHON=path/to/python               with lm_eval[api] 0.4.13; default: a new environment, 770 MB
#   MAX_LENGTH=512                      the most tokens that the client sends at once
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 1 ] || { sed -n '2,/^set/p' "$0" | grep '^#' >&2; exit 2; }
home=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    wait
    rm -rf "$home"
}
trap cleanup EXIT

fail() {
    echo "lm_eval: $*" >&2
    exit 1
}

if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install -q 'lm_eval[api]==0.4.13'
    PYTHON=$home/venv/bin/python
fi
port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
if [ "$1" = bigram ]; then
    bigram=${BIGRAM:-}
    if [ -z "$bigram" ]; then
        cargo build --release --package terrace-serve --example bigram
        bigram=${CARGO_TARGET_DIR:-target}/release/examples/bigram
    fi
    "$bigram" "$home/bigram" "$port" >"$home/server.log" 2>&1 &
else
    terrace=${TERRACE:-target/release/terrace}
    [ -x "$terrace" ] || cargo build --release --package terrace-cli
    "$terrace" serve "$1" --port "$port" --batch-invariant >"$home/server.log" 2>&1 &
fi
server=$!
for _ in $(seq 600); do
    if "$PYTHON" -c "import urllib.request as r; r.urlopen('$url/health')" 2>/dev/null; then break; fi
    kill -0 "$server" 2>/dev/null || fail "no server: $(tail -n 5 "$home/server.log")"
    sleep 0.5
done
model=$("$PYTHON" -c "import json, urllib.request as r
print(json.load(r.urlopen('$url/v1/models'))['data'][0]['id'])")

"$PYTHON" scripts/lm_eval/items.py "$home/tasks"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME=$home/cache TOKENIZERS_PARALLELISM=false

ask() { # ask NAME TASKS BATCH ARGUMENTS: one way of asking
    "$PYTHON" -m lm_eval --model local-completions --batch_size "$3" \
        --model_args "model=$model,base_url=$url/v1/completions,max_length=${MAX_LENGTH:-512},$4" \
        --include_path "$home/tasks" --tasks "$2" --output_path "$home/$1" --log_samples \
        >"$home/$1.log" 2>&1 || fail "$1: $(tail -n 30 "$home/$1.log")"
    echo "lm_eval: $1 asked" >&2
}

both=terrace_choice,terrace_generation
ask ids "$both" 4 "tokenized_requests=True"
ask texts "$both" 1 "tokenized_requests=False,num_concurrent=4"
ask bare terrace_generation 1 "tokenizer_backend=None,tokenized_requests=False"

if [ "$1" = bigram ]; then
    reference=(--table "$home/bigram/table.json" --url "$url")
else
    "$terrace" eval "$1" --tasks "$home/tasks/choice.toml" "$home/tasks/generation.toml" \
        --batch-invariant --context "${MAX_LENGTH:-512}" --log-items "$home/items.jsonl" >"$home/eval.log" 2>&1 || fail "eval: $(tail -n 30 "$home/eval.log")"
    reference=(--log "$home/items.jsonl")
fi
"$PYTHON" scripts/lm_eval/compare.py "$home" "${reference[@]}" || fail "see above"
echo "lm_eval: passed" >&2
