"""The clients of load.sh; only the standard library."""

import argparse
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import Counter, defaultdict

KINDS = (["whole"] * 6 + ["stream"] * 3 + ["batch"] * 2 + ["tokenize"] * 2
         + ["leave", "leave stream", "oversized", "malformed", "wrong"])
MALFORMED = [b"", b"{", b"[]", b'{"prompt": ', b'{"prompt": 3}', b'{"prompt": [1, "a"]}', b"\xff\xfe",
             b'{"prompt": "\\ud800"}', b'{"prompt": "a", "max_tokens": -1}',
             b'{"prompt": "a", "max_tokens": 1e9}', b'{"prompt": {"a": [', b"null",
             b'{"prompt": "a", "temperature": "hot"}', b'{"prompt": ' + b"[" * 5000]
WORDS = "the model reads in a line and answers 数据 模型 x = y + 1; def f(n): return n\n".split(" ")


class Server:
    def __init__(self, port):
        self.port = port
        self.model = None

    def request(self, method, path, body=None, timeout=300):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Connection": "close"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def post(self, path, fields):
        return self.request("POST", path, json.dumps(fields).encode())

    def metric(self, name):
        page = self.request("GET", "/metrics")[1].decode()
        values = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith(name + " ")]
        return float(values[0])


def memory(pid):
    """Resident MiB."""
    with open(f"/proc/{pid}/status") as file:
        lines = [line for line in file if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1024


def asks(context, max_tokens, draw):
    """Requests of mixed lengths, which a text and its model fix."""
    for number in range(24):
        length = min(draw.choice([1, 5, 20, 80, 300]), context // 4)
        text = " ".join(draw.choice(WORDS) for _ in range(length))
        yield {"prompt": text, "temperature": 0, "echo": number % 2 == 0, "logprobs": 1,
               "max_tokens": 1 + number % max_tokens, "stop": ["\n\n", "zq", "数x"]}


class Load:
    def __init__(self, server, references, tolerance, body_limit):
        self.server, self.references = server, references
        self.tolerance, self.body_limit = tolerance, body_limit
        self.lock = threading.Lock()
        self.times, self.counts, self.faults = defaultdict(list), Counter(), []
        self.ties = 0

    def fault(self, text):
        with self.lock:
            self.faults.append(text)

    def check(self, expected, found, what):
        """Holds a choice against the one that came alone."""
        left, right = expected["logprobs"], found["logprobs"]
        for place, (a, b) in enumerate(zip(left["token_logprobs"], right["token_logprobs"])):
            if left["tokens"][place] != right["tokens"][place]:
                # Behind two tokens that are as likely as each other, another text goes on.
                top = left["top_logprobs"][place]
                gap = abs(max(top.values()) - b)
                if gap <= self.tolerance:
                    with self.lock:
                        self.ties += 1
                    return
                return self.fault(f"{what}: another token at {place}, {gap} apart")
            if (a is None) != (b is None) or (a is not None and abs(a - b) > self.tolerance):
                return self.fault(f"{what}: {a} became {b} at {place}")
        if len(left["tokens"]) != len(right["tokens"]) or expected["text"] != found["text"]:
            self.fault(f"{what}: {expected['text'][-80:]!r} became {found['text'][-80:]!r}")

    def client(self, number, end):
        draw = random.Random(number)
        while time.time() < end:
            kind = draw.choice(KINDS)
            begun = time.time()
            try:
                status = getattr(self, kind.split()[0])(draw, kind)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.fault(f"{kind}: {error!r}")
                continue
            with self.lock:
                self.times[kind].append(time.time() - begun)
                self.counts[kind, status] += 1
            if status == 429:
                time.sleep(draw.uniform(0.2, 1))

    def pick(self, draw):
        return draw.choice(self.references)

    def expect(self, wanted, status, body, what):
        if status not in (wanted, 429):
            self.fault(f"{what}: {status}: {body[:200]}")
        elif status != 200 and not json.loads(body)["error"]["message"]:
            self.fault(f"{what}: {status} without a message")
        return status == wanted

    def whole(self, draw, what):
        fields, expected = self.pick(draw)
        status, body = self.server.post("/v1/completions", fields)
        if self.expect(200, status, body, what):
            self.check(expected, json.loads(body)["choices"][0], what)
        return status

    def batch(self, draw, what):
        fields, _ = self.pick(draw)
        alike = [ask for ask in self.references
                 if {**ask[0], "prompt": ""} == {**fields, "prompt": ""}]
        chosen = [draw.choice(alike) for _ in range(draw.randint(2, 5))]
        prompts = [ask["prompt"] for ask, _ in chosen]
        status, body = self.server.post("/v1/completions", {**fields, "prompt": prompts})
        if self.expect(200, status, body, what):
            choices = json.loads(body)["choices"]
            for (_, expected), found in zip(chosen, choices, strict=True):
                self.check(expected, found, what)
        return status

    def stream(self, draw, what):
        fields, expected = self.pick(draw)
        status, body = self.server.post("/v1/completions", {**fields, "stream": True})
        if not self.expect(200, status, body, what):
            return status
        lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
        if lines[-1] != "[DONE]":
            self.fault(f"{what}: ends in {lines[-1]}")
            return status
        found = {"text": "", "logprobs": defaultdict(list)}
        for line in lines[:-1]:
            choice = json.loads(line)["choices"][0]
            found["text"] += choice["text"]
            for key, values in (choice["logprobs"] or {}).items():
                found["logprobs"][key] += values
        self.check(expected, found, what)
        return status

    def tokenize(self, draw, what):
        text = self.pick(draw)[0]["prompt"]
        status, body = self.server.post("/tokenize", {"prompt": text, "add_special_tokens": False})
        if self.expect(200, status, body, what):
            tokens = json.loads(body)["tokens"]
            status, body = self.server.post("/detokenize", {"tokens": tokens})
            if self.expect(200, status, body, what) and json.loads(body)["prompt"].strip() != text.strip():
                self.fault(f"{what}: {text[:80]!r} became {body[:80]}")
        return status

    def leave(self, draw, what):
        """Goes away before the answer, or in the middle of it."""
        fields = {**self.pick(draw)[0], "max_tokens": 64, "stream": what.endswith("stream")}
        body = json.dumps(fields).encode()
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=300) as connection:
            head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            sent = head.encode() + body
            connection.sendall(sent[: draw.choice([len(sent), len(sent), len(sent) // 2])])
            connection.settimeout(draw.uniform(0, 0.3))
            try:
                connection.recv(draw.choice([1, 200, 4000]))
            except TimeoutError:
                pass
        return "gone"

    def oversized(self, draw, what):
        body = b'{"prompt": "' + b"x" * (self.body_limit + draw.randint(0, 100_000)) + b'"}'
        status, body = self.server.request("POST", "/v1/completions", body)
        self.expect(413, status, body, what)
        return status

    def malformed(self, draw, what):
        body = draw.choice(MALFORMED)
        if draw.random() < 0.3:
            body = bytes(draw.randrange(256) for _ in range(draw.randint(1, 200)))
        path = draw.choice(["/v1/completions", "/tokenize", "/detokenize"])
        # Each route knows its own fields, and what it does not know may hold anything.
        if path != "/v1/completions":
            body = b"{" + body
        status, body = self.server.request("POST", path, body)
        self.expect(400, status, body, f"{what} {path}")
        return status

    def wrong(self, draw, what):
        method, path, wanted = draw.choice([("GET", "/v1/completions", 405), ("POST", "/health", 405),
                                            ("GET", "/v1/none", 404), ("PUT", "/%00%ff", 404)])
        status, body = self.server.request(method, path)
        self.expect(wanted, status, body, f"{what} {method} {path}")
        return status


def percentiles(times):
    ordered = sorted(times)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.9, 0.99)] + ordered[-1:]


def wait(what, seconds, so):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if so():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    sys.exit(f"load: {what} did not come within {seconds} seconds")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--body-limit", type=int, default=4 << 20)
    options = parser.parse_args()

    server = Server(options.port)
    wait("the server", 300, lambda: server.request("GET", "/health")[0] == 200)
    model = json.loads(server.request("GET", "/v1/models")[1])["data"][0]
    begin = memory(options.pid)
    references = []
    for fields in asks(model["max_model_len"], options.max_tokens, random.Random(0)):
        status, body = server.post("/v1/completions", fields)
        if status != 200:
            sys.exit(f"load: {status} for {fields}: {body}")
        references.append((fields, json.loads(body)["choices"][0]))

    load = Load(server, references, options.tolerance, options.body_limit)
    end = time.time() + options.seconds
    threads = [threading.Thread(target=load.client, args=(number, end)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    time.sleep(options.seconds / 4)
    warm = memory(options.pid)
    for thread in threads:
        thread.join()
    wait("an empty queue", 60, lambda: server.metric("terrace_queue_length") == 0)
    after = memory(options.pid)

    print(f"{'kind':14}{'requests':>9}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'most ms':>9}  statuses")
    for kind, times in sorted(load.times.items()):
        statuses = {str(status): count for (k, status), count in load.counts.items() if k == kind}
        numbers = "".join(f"{1000 * time:9.1f}" for time in percentiles(times))
        print(f"{kind:14}{len(times):9}{numbers}  {statuses}")
    print(f"memory: {begin:.1f} MiB at the start, {warm:.1f} after a quarter, {after:.1f} at the end")
    print(f"cancelled: {server.metric('terrace_cancelled_total'):.0f}, near ties: {load.ties}")
    if after > warm * 17 / 16 + 16:
        load.fault(f"memory grew from {warm:.1f} to {after:.1f} MiB")
    for name in ("terrace_handler_failures_total", "terrace_model_failures_total"):
        if server.metric(name):
            load.fault(f"{name} is not zero")
    if server.request("GET", "/health")[0] != 200:
        load.fault("the server is not healthy")
    for text in load.faults[:20]:
        print(f"load: {text}", file=sys.stderr)
    sys.exit(f"load: {len(load.faults)} faults" if load.faults else 0)


main()
