#!/usr/bin/env python3
"""Download and unpack every package named in packages.toml.

    python3 fetch.py [--cache DIR] [--lock] [--other-versions]

Needs a Debian 12 machine (apt-get, dpkg-deb), pip and npm; nothing is installed. Archives go to
DIR/archives, their contents to DIR/unpacked/<package>, and what was fetched, with hashes, to
DIR/fetched.json. A file whose hash differs from packages.lock.json is an error, unless
--other-versions allows whatever the registries serve now (the corpora then differ from those in
data/). --lock writes packages.lock.json afresh.

pip asks a source archive for its metadata before it lets go of it, which runs that package's own
setup code in a throw-away environment. That is slow (a minute or two in all) but needs no compiler.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "packages.lock.json"
# rust-src is 150 MB unpacked, nearly all of it compiler tests.
PARTIAL = {"rust-src": ["*/library/*"]}


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "terrace-data"


def read_packages() -> list[dict]:
    with open(HERE / "packages.toml", "rb") as file:
        return tomllib.load(file)["package"]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commands(package: dict, other_versions: bool) -> list[list[str]]:
    """What to run, in order of preference, to get the archive into the current folder."""
    name, version = package["name"], package["version"]
    match package["registry"]:
        case "debian":
            tries = [["apt-get", "-q", "download", f"{name}={version}"]]
            if other_versions:
                tries.append(["apt-get", "-q", "download", name])
        case "pypi-sdist":
            tries = [["pip", "download", "-q", "--no-deps", "--no-binary", ":all:", f"{name}=={version}"]]
        case "pypi-wheel":
            tries = [
                ["pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]
                + ["--platform", "manylinux2014_x86_64", "--platform", "any", f"{name}=={version}"]
            ]
        case "npm":
            tries = [["npm", "pack", "--silent", f"{name}@{version}"]]
        case other:
            sys.exit(f"packages.toml: {name} names an unknown registry, {other!r}")
    return tries


def download(package: dict, archives: Path, other_versions: bool) -> Path:
    with tempfile.TemporaryDirectory(dir=archives) as folder:
        # apt drops its rights while it downloads, and has to be able to write here.
        os.chmod(folder, 0o777)
        for command in commands(package, other_versions):
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            found = sorted(Path(folder).iterdir())
            if result.returncode == 0 and len(found) == 1:
                target = archives / found[0].name
                shutil.move(found[0], target)
                return target
        sys.exit(
            f"{package['name']} {package['version']}: {' '.join(command)} failed\n{result.stderr.strip()}\n"
            "If the registry no longer serves this version, --other-versions takes what it has now."
        )


def unpack(archive: Path, package: dict, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if archive.suffix == ".deb":
        if wanted := PARTIAL.get(package["name"]):
            wanted = [*wanted, "*/copyright"]
            stream = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
            subprocess.run(["tar", "-x", "-C", folder, "--wildcards", *wanted], stdin=stream.stdout, check=True)
            stream.wait()
        else:
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    else:
        with tarfile.open(archive) as file:
            # Debian 12's own Python may be too old to know filters.
            file.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="work folder (default: %(default)s)")
    parser.add_argument("--lock", action="store_true", help="write packages.lock.json from what was fetched")
    parser.add_argument("--other-versions", action="store_true", help="accept versions other than the pinned ones")
    options = parser.parse_args()

    archives = options.cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    record = options.cache / "fetched.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    locked = json.loads(LOCK.read_text()) if LOCK.exists() else {}
    fetched = {}
    for package in read_packages():
        name = package["name"]
        entry = known.get(name)
        archive = archives / entry["file"] if entry else None
        unpacked = options.cache / "unpacked" / name
        if not (entry and entry["pinned"] == package["version"] and archive.exists() and unpacked.exists()):
            archive = download(package, archives, options.other_versions)
            unpack(archive, package, unpacked)
        entry = {"pinned": package["version"], "file": archive.name, "sha256": sha256(archive)}
        expected = locked.get(name)
        if expected and expected != entry and not (options.lock or options.other_versions):
            sys.exit(f"{name}: got {entry}, packages.lock.json says {expected}")
        print(f"{name} {package['version']}: {archive.name}", file=sys.stderr)
        fetched[name] = entry
        record.write_text(json.dumps(known | fetched, indent=1, sort_keys=True) + "\n")
    record.write_text(json.dumps(fetched, indent=1, sort_keys=True) + "\n")
    if options.lock:
        shutil.copy(record, LOCK)


if __name__ == "__main__":
    main()
