#!/usr/bin/env bash
# Trains into disks that fill up at the third checkpoint, in two ways: there is no room for it to
# begin with, or it ends while the files are being written (the disk runs out of inodes, which
# nobody looks at before). Expects each time that
#   1. the save is refused with exit code 3 and an error that names the checkpoint;
#   2. the two checkpoints before it are whole, and nothing half written is left;
#   3. once there is room again, `terrace resume` ends in the very state of an undisturbed run.
# Then prepares a source into a full disk and expects exit code 3, the path, and nothing left.
# Mounts tmpfs, so it needs root. Takes about three times as long as the training itself.
#
#   scripts/checks/disk_full.sh [CONFIG [KEY=VALUE...]]   default: a short configs/quickstart.toml
#   TERRACE=path/to/terrace                               default: target/release/terrace, built if absent
#   EVERY_STEPS=10                                        how often a checkpoint is saved
set -euo pipefail
cd "$(dirname "$0")/../.."

terrace=${TERRACE:-target/release/terrace}
[ $# -gt 0 ] || set -- configs/quickstart.toml stages.0.budget_tokens=24_000 stages.1.budget_tokens=24_000
config=$1
settings=(--set "checkpoint.every_steps=${EVERY_STEPS:-10}")
for setting in "${@:2}"; do settings+=(--set "$setting"); done

fail() {
    echo "disk_full: $*" >&2
    exit 1
}

field() { # field NAME < JSON: the value of the first field of that name
    grep -o "\"$1\": *[^,}]*" | head -n 1 | sed 's/^[^:]*: *//; s/"//g; s/ *$//'
}

said() { # said FILE: an error message without the line breaks of the terminal's width
    sed 's/│/ /g' "$1" | tr -s ' \n' ' '
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

# The run that nothing happens to: what it ends in, and what its checkpoints take.
echo "disk_full: the undisturbed run" >&2
undisturbed=$home/undisturbed
expected=$("$terrace" train "$config" "${settings[@]}" --set "run_directory=$undisturbed" \
    --set checkpoint.keep_last=1000 --json 2>"$home/stderr" | field state_digest) ||
    fail "$(said "$home/stderr")"
[ -n "$expected" ] || fail "the undisturbed run reports no state_digest"
first=$(find "$undisturbed/checkpoints" -mindepth 1 -maxdepth 1 | sort | head -n 1)
bytes=$(du --apparent-size --bytes --summarize "$first" | cut -f 1)
files=$(find "$first" | wc -l)
# The up-scaled model that the run begins with lies in its directory too.
begun=$(du --apparent-size --bytes --summarize "$undisturbed/upscaled" 2>/dev/null | cut -f 1 || true)
others=$(find "$undisturbed" -path "$undisturbed/checkpoints/*" -prune -o -print | wc -l)
[ "$(find "$undisturbed/checkpoints" -mindepth 1 -maxdepth 1 | wc -l)" -ge 4 ] ||
    fail "the run is too short: it saves fewer than four checkpoints"
rm -rf "$undisturbed"

fill() { # fill NAME MOUNT_OPTIONS WORDS: a run on such a disk stops with the words, and resumes
    echo "disk_full: $1" >&2
    mount -t tmpfs -o "$2" tmpfs "$disk"
    local run=$disk/run status=0 saved checkpoint found
    "$terrace" train "$config" "${settings[@]}" --set "run_directory=$run" \
        --set checkpoint.keep_last=1000 >"$home/stdout" 2>"$home/stderr" || status=$?
    [ "$status" = 3 ] || fail "exit code $status, expected 3: $(said "$home/stderr" | tail -c 600)"
    said "$home/stderr" | grep -q -- "$3" ||
        fail "the error does not say '$3': $(said "$home/stderr" | tail -c 600)"
    said "$home/stderr" | grep -q "$run/checkpoints/" || fail "the error does not name the checkpoint"
    echo "disk_full: $(said "$home/stderr" | tail -c 300)" >&2

    saved=$(find "$run/checkpoints" -mindepth 1 -maxdepth 1 | sort)
    [ "$(wc -l <<<"$saved")" = 2 ] || fail "expected two checkpoints, found: $saved"
    if grep -q '/\.' <<<"$saved"; then fail "something half written is left: $saved"; fi
    while read -r checkpoint; do
        "$terrace" inspect "$checkpoint" >/dev/null 2>&1 || fail "$checkpoint is damaged"
    done <<<"$saved"

    mount -o remount,size=100%,nr_inodes=0 "$disk"
    found=$("$terrace" resume "$run" --set checkpoint.keep_last=1 --json 2>"$home/stderr" |
        field state_digest) || fail "$(said "$home/stderr")"
    [ "$found" = "$expected" ] || fail "resumed to state $found, expected $expected"
    echo "disk_full: resumed with room to state $found" >&2
    umount "$disk"
}

fill "no room to begin with" "size=$((bytes * 5 / 2 + ${begun:-0} + (4 << 20)))" "no room to save"
# The root of the disk is an inode too; of the third checkpoint, half the files fit.
fill "no room half way" "nr_inodes=$((1 + others + files * 2 + files / 2))" "No space left"

echo "disk_full: preparing a source" >&2
mount -t tmpfs -o size=2m tmpfs "$disk"
for spill in "" "$home/spill"; do # the disk fills up with what is set aside, or with the shards
    status=0
    "$terrace" prepare configs/prepare/english.toml --output "$disk/edition" \
        ${spill:+--set "spill_directory=$spill"} >"$home/stdout" 2>"$home/stderr" || status=$?
    [ "$status" = 3 ] || fail "prepare: exit code $status, expected 3: $(said "$home/stderr")"
    said "$home/stderr" | grep -q "$disk" || fail "prepare names no path: $(said "$home/stderr")"
    said "$home/stderr" | grep -q "No space left" || fail "prepare: $(said "$home/stderr")"
    [ -z "$(ls -A "$disk")" ] || fail "prepare left $(find "$disk" | head)"
    echo "disk_full: $(said "$home/stderr")" >&2
done
umount "$disk"

upscale() { # upscale NAME MOUNT_OPTIONS WORDS: on such a disk it stops with the words, leaving nothing
    echo "disk_full: up-scaling, $1" >&2
    mount -t tmpfs -o "$2" tmpfs "$disk"
    local status=0
    "$terrace" upscale --source data/base --layers 3..7 --output "$disk/deep" --shard-size 1MB \
        >"$home/stdout" 2>"$home/stderr" || status=$?
    [ "$status" = 3 ] || fail "upscale: exit code $status, expected 3: $(said "$home/stderr")"
    said "$home/stderr" | grep -q "$disk" || fail "upscale names no path: $(said "$home/stderr")"
    said "$home/stderr" | grep -q -- "$3" || fail "upscale: $(said "$home/stderr")"
    [ -z "$(ls -A "$disk")" ] || fail "upscale left $(find "$disk" | head)"
    echo "disk_full: $(said "$home/stderr" | tail -c 300)" >&2
    umount "$disk"
}

upscale "no room to begin with" "size=8m" "8 MiB free"
upscale "no room half way" "nr_inodes=8" "No space left"
echo "disk_full: passed" >&2
