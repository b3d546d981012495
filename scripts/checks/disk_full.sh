#!/usr/bin/env bash
# Trains into a disk that has room for two and a half checkpoints, and expects that
#   1. the third save is refused with an error that says what it takes and what is free;
#   2. the two checkpoints before it are whole, and nothing half written is left;
#   3. once there is room again, `terrace resume` ends in the very state of an undisturbed run.
# Mounts a tmpfs, so it needs root. Takes about twice as long as the training itself.
#
#   scripts/checks/disk_full.sh [CONFIG]      default: configs/quickstart.toml
#   TERRACE=path/to/terrace                   default: target/release/terrace, built if absent
#   EVERY_STEPS=20                            how often a checkpoint is saved
set -euo pipefail
cd "$(dirname "$0")/../.."

config=${1:-configs/quickstart.toml}
terrace=${TERRACE:-target/release/terrace}
settings=(--set "checkpoint.every_steps=${EVERY_STEPS:-20}")

fail() {
    echo "disk_full: $*" >&2
    exit 1
}

field() { # field NAME < JSON: the value of the first field of that name
    grep -o "\"$1\": *[^,}]*" | head -n 1 | sed 's/^[^:]*: *//; s/"//g; s/ *$//'
}

[ "$(id -u)" = 0 ] || fail "only root can mount a small disk"
[ -x "$terrace" ] || cargo build --release --package terrace-cli

home=$(mktemp -d)
disk=$home/disk
mkdir "$disk"
cleanup() {
    if mountpoint -q "$disk"; then umount "$disk"; fi
    rm -rf "$home"
}
trap cleanup EXIT

bytes=$("$terrace" plan "$config" "${settings[@]}" --json | field checkpoint_bytes)
[ "$bytes" -gt 0 ] || fail "the plan does not say how large a checkpoint is"
slack=$((4 << 20)) # for the logs and the plan

echo "disk_full: the undisturbed run" >&2
expected=$("$terrace" train "$config" "${settings[@]}" \
    --set "run_directory=$home/undisturbed" --json | field state_digest)
[ -n "$expected" ] || fail "the undisturbed run reports no state_digest"
rm -rf "$home/undisturbed"

echo "disk_full: the run whose disk fills up" >&2
mount -t tmpfs -o "size=$((bytes * 5 / 2 + slack))" tmpfs "$disk"
run=$disk/run
status=0
"$terrace" train "$config" "${settings[@]}" --set "run_directory=$run" \
    --set checkpoint.keep_last=1000 >"$home/stdout" 2>"$home/stderr" || status=$?
[ "$status" != 0 ] || fail "the run ended well on a disk that is too small"
[ "$status" = 3 ] || fail "exit code $status, expected 3 (environment); $(tail -n 5 "$home/stderr")"
# An error message is wrapped to the width of the terminal, hence the joined lines.
tr -s ' \n│' ' ' <"$home/stderr" | grep -q "no room to save" ||
    fail "the error does not say that there is no room: $(tail -n 5 "$home/stderr")"

saved=$(find "$run/checkpoints" -mindepth 1 -maxdepth 1 | sort)
[ "$(wc -l <<<"$saved")" = 2 ] || fail "expected two checkpoints, found: $saved"
if grep -q '/\.tmp-' <<<"$saved"; then fail "something half written is left: $saved"; fi
while read -r checkpoint; do
    "$terrace" inspect "$checkpoint" >/dev/null 2>&1 || fail "$checkpoint is damaged"
done <<<"$saved"

echo "disk_full: resumed with room" >&2
mount -o remount,size=100% "$disk"
found=$("$terrace" resume "$run" --set checkpoint.keep_last=1 --json | field state_digest)
[ "$found" = "$expected" ] || fail "resumed to state $found, expected $expected"
echo "disk_full: passed" >&2
