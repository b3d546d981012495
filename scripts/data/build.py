#!/usr/bin/env python3
"""Turn the fetched packages into data/<source>/{train,held-out}.parquet.

    python3 build.py [--cache DIR] [--out DIR] [source ...]

Nothing here is random: documents come in the order of their files, what is sampled and what is held
out is decided by hashes of names, and the same archives give byte-identical parquet files with the
same pyarrow.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpora import SOURCES, Document, rank
from fetch import default_cache

SHORTEST = 100  # characters
HELD_OUT_SHARE = 0.03
HELD_OUT_BYTES = (150_000, 400_000)
EXTRA_COLUMNS = {"code": "language", "math": "kind"}


def size(documents: list[Document]) -> int:
    return sum(len(document.text.encode()) for document in documents)


def clean(documents) -> list[Document]:
    """Long enough, each text once, each id once."""
    kept, seen, ids = [], set(), Counter()
    for document in documents:
        document.text = document.text.strip("\n")
        if len(document.text) < SHORTEST:
            continue
        digest = hashlib.blake2b(" ".join(document.text.split()).encode(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            ids[document.id] += 1
            if ids[document.id] > 1:  # homonyms in a dictionary
                document.id += f" ({ids[document.id]})"
            kept.append(document)
    return kept


def stratum(document: Document) -> str:
    return document.columns.get("language") or document.package


def split(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """Hold out whole units, from every package its share (of code: from every language), chosen by rank."""
    low, high = HELD_OUT_BYTES
    target = min(max(HELD_OUT_SHARE * size(documents), 1.1 * low), 0.95 * high)
    share = target / size(documents)
    strata: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        strata[stratum(document)].append(document)
    held_units = set()
    carry = 0.0  # what a small package could not give, the next one does
    for key in sorted(strata):
        units: dict[str, int] = Counter()
        for document in strata[key]:
            units[document.unit] += len(document.text.encode())
        wanted = share * sum(units.values()) + carry
        largest = max(wanted / 5, 8_000)  # many units rather than a few large ones
        for unit in sorted(units, key=lambda unit: rank("held-out " + unit)):
            # Up to half a unit too much, or small units would be preferred.
            if units[unit] <= min(largest, 1.5 * wanted):
                held_units.add((key, unit))
                wanted -= units[unit]
        carry = wanted
    train, held_out = [], []
    for document in documents:
        (held_out if (stratum(document), document.unit) in held_units else train).append(document)
    return train, without_near_copies(held_out, train)


def long_lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.split("\n") if len(line.strip()) >= 30]


def without_near_copies(held_out: list[Document], train: list[Document]) -> list[Document]:
    """Drop from held-out what shares more than half of its long lines with train."""
    lines = {line for document in train for line in long_lines(document.text)}
    kept = []
    for document in held_out:
        own = long_lines(document.text)
        shared = sum(len(line) for line in own if line in lines)
        if shared <= 0.5 * sum(map(len, own)) or not own:
            kept.append(document)
    return kept


def write(path: Path, documents: list[Document], column: str | None) -> None:
    columns = {"text": [d.text for d in documents], "id": [d.id for d in documents]}
    if column:
        columns[column] = [d.columns[column] for d in documents]
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", compression_level=19,
                   use_dictionary=[column] if column else False, row_group_size=2_048)  # fmt: skip


def write_notices(path: Path, documents: list[Document]) -> None:
    """Every copyright notice that was taken out of a text, once per package."""
    packages: dict[str, dict[str, str]] = defaultdict(dict)
    for document in documents:
        for notice in document.notices:
            packages[document.package].setdefault(" ".join(notice.split()), notice.strip("\n"))
    if packages:
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = [
            f"{'=' * 20} {package}\n\n" + "\n\n".join(notices[key] for key in sorted(notices))
            for package, notices in sorted(packages.items())
        ]
        path.write_text("\n\n".join(blocks) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", choices=[*SOURCES, []], help="which sources to build (default: all)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="the folder given to fetch.py")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[2] / "data")
    options = parser.parse_args()
    root = options.cache / "unpacked"

    statistics_path = options.out / "statistics.json"
    statistics = json.loads(statistics_path.read_text()) if statistics_path.exists() else {}
    for source in options.sources or SOURCES:
        train, held_out = split(clean(SOURCES[source](root)))
        column = EXTRA_COLUMNS.get(source)
        entry = {"packages": {}}
        for name, part in (("train", train), ("held-out", held_out)):
            path = options.out / source / f"{name}.parquet"
            write(path, part, column)
            entry[name] = {"documents": len(part), "bytes": size(part), "file": path.stat().st_size}
            if column:
                entry[name][column] = {
                    value: size([d for d in part if d.columns[column] == value])
                    for value in sorted({d.columns[column] for d in part})
                }
            for package in sorted({d.package for d in part}):
                own = [d for d in part if d.package == package]
                entry["packages"].setdefault(package, {})[name] = {"documents": len(own), "bytes": size(own)}
            print(source, name, entry[name], file=sys.stderr)
        statistics[source] = entry
        write_notices(options.out / "licences" / f"notices-{source}.txt", train + held_out)
    statistics_path.write_text(json.dumps({s: statistics[s] for s in SOURCES if s in statistics}, indent=1) + "\n")


if __name__ == "__main__":
    main()
