#!/usr/bin/env bash
# Prepares one corpus from local files, from an S3 server and from a web server, and expects that
#   1. all of them give the same edition, manifest and shards byte for byte;
#   2. a wrong bucket, a missing key and an object that is cut end with code 2 and name the place;
#   3. denied or absent credentials, a server that does not answer and one that sends whole files
#      only end with code 3 and say what to do;
#   4. nothing of the refused preparations is left at their outputs.
# The S3 server is moto's, on loopback; it and pyarrow go to a temporary environment of their own.
#
#   scripts/checks/object_store.sh
#   TERRACE=path/to/terrace        default: target/release/terrace, built if absent
#   PYTHON=path/to/python          one that has moto[server], boto3 and pyarrow; default: made here
set -euo pipefail
cd "$(dirname "$0")/../.."

root=$PWD
terrace=${TERRACE:-target/release/terrace}
[ -x "$terrace" ] || cargo build --release --package terrace-cli
terrace=$(realpath "$terrace")
home=$(mktemp -d)
servers=()
cleanup() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
    wait
    rm -rf "$home"
}
trap cleanup EXIT

fail() {
    echo "object_store: $*" >&2
    exit 1
}

if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" --quiet install 'moto[server]==5.2.5' boto3==1.44.5 pyarrow
    PYTHON=$home/venv/bin/python
fi
cd "$home"

free_port() {
    "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() { # start PORT COMMAND...: runs a server and waits until it listens
    local port=$1
    "${@:2}" >>servers.log 2>&1 &
    servers+=($!)
    for _ in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
        sleep 0.2
    done
    fail "no server on port $port: $(tail -n 5 servers.log)"
}

# A web server with range requests, which the standard library's lacks.
cat >ranges.py <<'PYTHON'
import http.server, os, re, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = self.translate_path(self.path)
        if not wanted or not os.path.isfile(path):
            return super().do_GET()
        begin, end, size = int(wanted[1]), int(wanted[2]), os.path.getsize(path)
        end = min(end, size - 1)
        with open(path, "rb") as file:
            file.seek(begin)
            body = file.read(end - begin + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", self.date_time_string(int(os.path.getmtime(path))))
        self.end_headers()
        self.wfile.write(body)

os.chdir(sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON

moto() { exec "$(dirname "$PYTHON")/moto_server" -H 127.0.0.1 -p "$1"; }
s3=$(free_port)
start "$s3" moto "$s3"
denying=$(free_port)
INITIAL_NO_AUTH_ACTION_COUNT=0 start "$denying" moto "$denying"
ranges=$(free_port)
mkdir files
start "$ranges" "$PYTHON" ranges.py "$ranges" files
whole=$(free_port)
start "$whole" "$PYTHON" -m http.server "$whole" --bind 127.0.0.1 --directory files
nobody=$(free_port)

# Some of each format, from the sample corpora; larger than one request in sum.
"$PYTHON" - "$root/data" "$s3" <<'PYTHON'
import glob, json, os, sys
import boto3, pyarrow as pa, pyarrow.ipc as ipc, pyarrow.parquet as pq

data, port = sys.argv[1:]
texts = []
for path in sorted(glob.glob(f"{data}/**/*.parquet", recursive=True)):
    texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
third = len(texts) // 3
pq.write_table(pa.table({"text": texts[:third]}), "files/a.parquet", row_group_size=200)
with open("files/b.jsonl", "w") as out:
    out.writelines(json.dumps({"text": text}) + "\n" for text in texts[third : 2 * third])
table = pa.table({"text": texts[2 * third :]})
with ipc.new_file("files/c.arrow", table.schema) as out:
    out.write_table(table, max_chunksize=200)
print("object_store:", len(texts), "documents,", sum(map(os.path.getsize, glob.glob("files/*"))),
      "bytes in three files", file=sys.stderr)

client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                      aws_access_key_id="key", aws_secret_access_key="secret")
client.create_bucket(Bucket="texts")
for path in glob.glob("files/*"):
    client.upload_file(path, "texts", f"deep/{os.path.basename(path)}", {"ACL": "public-read"})
client.put_object(Bucket="texts", Key="deep/_SUCCESS", Body=b"")
intact = open("files/a.parquet", "rb").read()
client.put_object(Bucket="texts", Key="cut/a.parquet", Body=intact[: len(intact) // 2])
PYTHON

export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_REGION=us-east-1
export AWS_ALLOW_HTTP=true AWS_ENDPOINT=http://127.0.0.1:$s3

prepare() { # prepare NAME PATHS...: leaves its messages in NAME.said, joined to one line
    local name=$1 paths
    shift
    paths=$(printf '"%s", ' "$@")
    cat >"$name.toml" <<TOML
source = "texts"
tokenizer = "$root/data/tokenizer/tokenizer.json"
sequence_length = 512
append_eos = "<|endoftext|>"
inputs = [{ paths = [${paths%, }] }]
TOML
    local status=0
    "$terrace" prepare "$name.toml" --output "out/$name" --json >"$name.json" 2>"$name.stderr" || status=$?
    sed 's/│/ /g' "$name.stderr" | tr -s ' \n' ' ' >"$name.said"
    return "$status"
}

same() { # same NAME PATHS...: gives the edition of the local files
    prepare "$@" || fail "$1: $(cat "$1.said")"
    diff -r out/local "out/$1" >&2 || fail "$1 gives another edition"
    echo "object_store: $1 gives the same edition" >&2
}

refused() { # refused CODE WORDS NAME PATHS...: ends with the code, says the words, leaves nothing
    local code=$1 words=$2 status=0
    shift 2
    prepare "$@" || status=$?
    [ "$status" = "$code" ] || fail "$1: exit code $status, expected $code: $(cat "$1.said")"
    grep -q -- "$words" "$1.said" || fail "$1 does not say '$words': $(cat "$1.said")"
    [ -z "$(find out -name "*$1*")" ] || fail "$1 left something behind"
    echo "object_store: $1 is refused: $(cut -c 1-160 "$1.said")" >&2
}

prepare local files/ || fail "local: $(cat local.said)"
same s3-folder s3://texts/deep/
same s3-pattern 's3://texts/deep/*.*'
same s3-files s3://texts/deep/c.arrow s3://texts/deep/a.parquet s3://texts/deep/b.jsonl
web=http://127.0.0.1:$ranges
same web-files "$web/a.parquet" "$web/b.jsonl" "$web/c.arrow"

refused 2 "NoSuchBucket" wrong-bucket s3://nowhere/deep/
refused 2 "s3://nowhere/a.parquet" wrong-bucket-file s3://nowhere/a.parquet
refused 2 "s3://texts/deep/z.parquet" missing-key s3://texts/deep/z.parquet
refused 2 "no file of a known format" empty-prefix s3://texts/nothing/
refused 2 "s3://texts/cut/a.parquet is cut or damaged" cut-object s3://texts/cut/a.parquet
refused 2 "/z.parquet" web-missing "$web/z.parquet"
refused 3 "range requests" web-whole-only "http://127.0.0.1:$whole/a.parquet"
refused 3 "name each file" web-folder "$web/"
AWS_ENDPOINT=http://127.0.0.1:$denying refused 3 "denies access" denied-folder s3://texts/deep/
AWS_ENDPOINT=http://127.0.0.1:$denying refused 3 "denies access" denied-file s3://texts/deep/a.parquet
AWS_ENDPOINT=http://127.0.0.1:$nobody refused 3 "does not answer" nobody-there s3://texts/deep/
(
    unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
    # Stands for the address that hands out keys on a cloud machine.
    AWS_METADATA_ENDPOINT=http://127.0.0.1:$nobody refused 3 "AWS_ACCESS_KEY_ID" no-credentials s3://texts/deep/
    AWS_SKIP_SIGNATURE=true same s3-public s3://texts/deep/
)
echo "object_store: passed" >&2
