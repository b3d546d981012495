#!/usr/bin/env bash
# Up-scales a Yi-6B-shaped checkpoint (12.1 GB) to Yi-9B's shape (17.7 GB), and compares its time with
# that of `cp --reflink=never` and `sync` for the same bytes, both with a cold page cache. Prints peak
# resident memory, both rates and their ratio.
#
#   TERRACE=target/release/terrace scripts/bench/upscale.sh FOLDER
#
# FOLDER needs 48 GB; what this makes is removed again. Dropping the page cache needs root; without it,
# the script says that the cache was warm. Needs python3 and GNU time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
terrace=$(realpath "${TERRACE:-$here/../../target/release/terrace}")
folder=$(mkdir -p "${1:?the folder to work in}" && cd "$1" && pwd)
base=$folder/yi-6b-shape deep=$folder/yi-9b-shape copy=$folder/copy
trap 'rm -rf "$base" "$deep" "$copy"' EXIT

cold() {
  sync
  if ! (echo 3 >/proc/sys/vm/drop_caches) 2>/dev/null; then echo "the page cache is warm: not root"; fi
}
seconds() { date +%s.%N; }

"$here/synthetic_checkpoint.py" "$base"
cold
start=$(seconds)
/usr/bin/time -f '%M %e %U %S' -o "$folder/time" \
  "$terrace" upscale --source "$base" --layers 12..28 --output "$deep" --json
sync
upscaled=$(echo "$(seconds) - $start" | bc)
bytes=$(cat "$deep"/*.safetensors | wc -c)
rm -rf "$base"
cold
start=$(seconds)
cp -r --reflink=never "$deep" "$copy"
sync
copied=$(echo "$(seconds) - $start" | bc)
read -r peak wall user system <"$folder/time"
rm "$folder/time"
python3 - "$bytes" "$upscaled" "$copied" "$peak" "$user" "$system" <<'PY'
import sys
bytes_, upscaled, copied, peak, user, system = map(float, sys.argv[1:])
print(f"up-scale: {upscaled:.1f} s, {bytes_ / upscaled / 1e6:.0f} MB/s, peak {peak / 1024:.0f} MiB, "
      f"processor {user:.1f} s and {system:.1f} s for the system")
print(f"cp and sync: {copied:.1f} s, {bytes_ / copied / 1e6:.0f} MB/s")
print(f"speed against cp: {copied / upscaled:.2f}")
PY
