"""Compares what lm_eval logged in its three ways of asking with each other and with a reference.

    python compare.py HOME --log ITEMS.jsonl            per-item log of `terrace eval`
    python compare.py HOME --table TABLE.json --url URL closed form, tokens by the server's /tokenize
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path

from items import STOPS

TOLERANCE = 1e-3
NEW_TOKENS = 32


def logged(home, way, task):
    """By item: (log-probability, greedy) of each option, or the text."""
    found = sorted((home / way).rglob(f"samples_{task}_*.jsonl"))
    if not found:
        sys.exit(f"compare: {way} has logged no {task}")
    items = {}
    for line in found[-1].read_text().splitlines():
        sample = json.loads(line)
        answers = [answer for (answer,) in sample["resps"]]
        if task == "terrace_choice":
            answers = [(float(number), str(greedy) == "True") for number, greedy in answers]
        items[sample["doc_id"]] = answers
    return items


class Ours:
    """The log of `terrace eval`."""

    def __init__(self, path):
        self.items = {}
        for line in Path(path).read_text().splitlines():
            record = json.loads(line)
            if "task" in record:
                self.items[record["task"], record["index"]] = record["detail"]

    def choice(self, index, _):
        detail = self.items["terrace_choice", index]
        return list(zip(detail["log_probabilities"], detail["is_greedy"]))

    def generation(self, index, _):
        return self.items["terrace_generation", index]["texts"]


class ClosedForm:
    """Sums of the bigram model's table."""

    def __init__(self, table, url):
        table = json.loads(Path(table).read_text())
        self.pieces, self.rows, self.url = table["pieces"], table["log_probabilities"], url
        self.likeliest = [row.index(max(row)) for row in self.rows]

    def ids(self, text):
        body = json.dumps({"prompt": text, "add_special_tokens": False}).encode()
        with urllib.request.urlopen(f"{self.url}/tokenize", body) as reply:
            return json.load(reply)["tokens"]

    def choice(self, _, item):
        context = f"Question: {item['question']}\nAnswer:"
        start = len(self.ids(context))
        answers = []
        for option in item["options"]:
            ids = self.ids(f"{context} {option}")
            pairs = [(ids[place - 1], ids[place]) for place in range(start, len(ids))]
            number = sum(self.rows[before][token] for before, token in pairs)
            answers.append((number, all(self.likeliest[before] == token for before, token in pairs)))
        return answers

    def generation(self, _, item):
        token, text = self.ids(f"Question: {item['question']}\nAnswer:")[-1], ""
        for _ in range(NEW_TOKENS):
            token = self.likeliest[token]
            if token == 0:
                break
            text += self.pieces[token]
            ends = [text.find(stop) for stop in STOPS if stop in text]
            if ends:
                return [text[: min(ends)]]
        return [text]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--log")
    parser.add_argument("--table")
    parser.add_argument("--url")
    options = parser.parse_args()
    exact = options.table is not None
    reference = ClosedForm(options.table, options.url) if exact else Ours(options.log)

    faults, furthest, compared = [], 0.0, 0
    for task, ways in [("terrace_choice", ["ids", "texts"]), ("terrace_generation", ["ids", "texts", "bare"])]:
        form = task.removeprefix("terrace_")
        lines = (options.home / "tasks" / f"{form}.jsonl").read_text().splitlines()
        for way in ways:
            found = logged(options.home, way, task)
            if sorted(found) != list(range(len(lines))):
                faults.append(f"{way}: {task} has {len(found)} of {len(lines)} items")
            for index, answers in found.items():
                expected = getattr(reference, form)(index, json.loads(lines[index]))
                compared += len(expected)
                if form == "choice":
                    gaps = [abs(a - b) for (a, _), (b, _) in zip(answers, expected, strict=True)]
                    furthest = max(furthest, *gaps)
                    greedy = [g for _, g in answers] == [bool(g) for _, g in expected]
                    if max(gaps) > (0 if exact else TOLERANCE) or not greedy:
                        faults.append(f"{way}: {task} {index}: {answers} instead of {expected}")
                elif answers != expected:
                    faults.append(f"{way}: {task} {index}: {answers} instead of {expected}")
    print(f"compare: {compared} answers, the furthest log-probability {furthest:.2g} away")
    for fault in faults[:20]:
        print(f"compare: {fault}", file=sys.stderr)
    sys.exit(f"compare: {len(faults)} differences" if faults else 0)


main()
