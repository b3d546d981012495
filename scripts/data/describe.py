#!/usr/bin/env python3
"""Write the tables of data/README.md, data/LICENSES.md and data/licences/ from what was built.

    python3 describe.py [--cache DIR] [--data DIR]
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from fetch import LOCK, default_cache, read_packages

HERE = Path(__file__).resolve().parent
# The full texts that the licences below refer to; Debian keeps them here.
COMMON = Path("/usr/share/common-licenses")
TEXTS = ["Apache-2.0", "Artistic", "CC0-1.0", "GFDL-1.2", "GPL-1", "GPL-2", "GPL-3", "LGPL-2.1", "MPL-2.0"]
# Libraries inside a package that have a licence file of their own.
INNER = {"pynacl": "src/libsodium/LICENSE", "pycares": "deps/c-ares/LICENSE.md", "zstandard": "zstd/LICENSE"}
LICENCE_NAME = re.compile(r"(copying|licen[cs]e|notice|copyright)([-._].*)?$", re.I)


def licence_files(folder: Path, package: dict) -> list[Path]:
    if package["registry"] == "debian":
        return [folder / "usr/share/doc" / package["name"] / "copyright"]
    depth = {"npm": 2, "pypi-sdist": 2, "pypi-wheel": 3}[package["registry"]]
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and len(path.relative_to(folder).parts) <= depth and LICENCE_NAME.match(path.name)
        and (depth == 2 or ".dist-info" in str(path))
    ]  # fmt: skip
    if package["registry"] == "pypi-wheel" and not found:
        found = sorted(path for path in folder.rglob("*.dist-info/**/*") if path.is_file() and LICENCE_NAME.match(path.name))
    if inner := INNER.get(package["name"]):
        found += sorted(folder.glob(f"*/{inner}"))
    return found


def write_licences(data: Path, unpacked: Path, packages: list[dict]) -> None:
    folder = data / "licences"
    (folder / "packages").mkdir(parents=True, exist_ok=True)
    for package in packages:
        paths = licence_files(unpacked / package["name"], package)
        assert paths, package["name"]
        texts = [path.read_text("utf-8", "replace").replace("\r\n", "\n").strip("\n") for path in paths]
        texts = ["\n".join(line.rstrip() for line in text.split("\n")) for text in dict.fromkeys(texts)]
        (folder / "packages" / f"{package['name']}.txt").write_text("\n\n----\n\n".join(texts) + "\n", "utf-8")
    for name in TEXTS:
        shutil.copyfile(COMMON / name, folder / f"{name}.txt")


def number(value: int) -> str:
    return f"{value:,}"


def tables(packages: list[dict], statistics: dict) -> str:
    about = {package["name"]: package for package in packages}
    out = []
    for source in ("english", "chinese", "code", "math"):
        entry = statistics[source]
        out.append(f"### {source}\n")
        out.append("| split | documents | bytes of text | bytes of parquet |\n|---|---:|---:|---:|")
        for split in ("train", "held-out"):
            part = entry[split]
            out.append(f"| {split} | {number(part['documents'])} | {number(part['bytes'])} | {number(part['file'])} |")
        for column in ("language", "kind"):
            if column in entry["train"]:
                shares = [f"{key} {number(size)} + {number(entry['held-out'][column].get(key, 0))}"
                          for key, size in entry["train"][column].items()]  # fmt: skip
                out.append(f"\nBytes by `{column}`, train + held-out: " + "; ".join(shares) + ".")
        out.append("\n| package | version | licence | train documents | train bytes | held-out documents | held-out bytes |")
        out.append("|---|---|---|---:|---:|---:|---:|")
        none = {"documents": 0, "bytes": 0}
        for name, parts in entry["packages"].items():
            package, train, held = about[name], parts.get("train", none), parts.get("held-out", none)
            out.append(
                f"| `{name}` — {package['title']} | {package['version']} | {package['licence']} | {number(train['documents'])} "
                f"| {number(train['bytes'])} | {number(held['documents'])} | {number(held['bytes'])} |"
            )
        out.append("")
    return "\n".join(out)


def tokenizer_table(statistics: dict) -> str:
    out = ["| source | train tokens | held-out bytes | held-out tokens | bytes per token |", "|---|---:|---:|---:|---:|"]
    for source, measured in statistics["tokenizer"]["held-out"].items():
        out.append(
            f"| {source} | {number(measured['train_tokens'])} | {number(measured['bytes'])} | {number(measured['tokens'])} "
            f"| {measured['bytes_per_token']:.2f} |"
        )
    return "\n".join(out) + "\n"


def attributions(packages: list[dict]) -> str:
    registries = {"debian": "Debian 12", "pypi-sdist": "PyPI, source", "pypi-wheel": "PyPI, wheel", "npm": "npm"}
    locked = json.loads(LOCK.read_text())
    out = ["| package | what | holders | licence | from | archive, SHA-256 |", "|---|---|---|---|---|---|"]
    for package in sorted(packages, key=lambda package: package["name"]):
        lock = locked[package["name"]]
        out.append(
            f"| [`{package['name']}`](licences/packages/{package['name']}.txt) {package['version']} | {package['title']} "
            f"| {package['rights']} | {package['licence']} | {registries[package['registry']]} "
            f"| `{lock['file']}` `{lock['sha256'][:16]}…` |"
        )
    return "\n".join(out) + "\n"


def fill(path: Path, name: str, text: str) -> None:
    """Replace what stands between <!-- name --> and <!-- /name -->."""
    page = path.read_text("utf-8")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    assert start in page and end in page, f"{path} has no {start}"
    before, rest = page.split(start)
    path.write_text(before + start + "\n" + text + end + rest.split(end)[1], "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="the folder given to fetch.py")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "data")
    options = parser.parse_args()

    packages = [package for package in read_packages() if package["sources"]]
    statistics = json.loads((options.data / "statistics.json").read_text())
    write_licences(options.data, options.cache / "unpacked", packages)
    fill(options.data / "README.md", "sources", tables(packages, statistics))
    fill(options.data / "README.md", "tokenizer", tokenizer_table(statistics))
    fill(options.data / "LICENSES.md", "packages", attributions(packages))


if __name__ == "__main__":
    main()
