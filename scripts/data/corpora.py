"""The documents of each source, package by package.

A generator yields `Document`s. `unit` names the thing that must stay on one side of the split between
train and held-out: a book chapter, a manual page, a source file, a section of set.mm.
"""

import ast
import gzip
import hashlib
import re
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markup import ansi, dedent, html, mallard, man, pari, pod, rst, split_sections, tidy, unmark, unwrap


@dataclass
class Document:
    id: str
    unit: str
    text: str
    package: str
    columns: dict = field(default_factory=dict)
    notices: tuple[str, ...] = ()  # copyright notices taken out of the text


def rank(name: str) -> int:
    """A stable pseudo-random number for a name: what is sampled and split is decided by it."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def capped(documents: Iterator[Document], limit: int, largest_unit: int | None = None) -> Iterator[Document]:
    """About `limit` bytes of the documents: whole units, chosen by rank, kept in their order."""
    documents = list(documents)
    sizes: dict[str, int] = {}
    for document in documents:
        sizes[document.unit] = sizes.get(document.unit, 0) + len(document.text.encode())
    chosen, total = set(), 0
    for unit in sorted(sizes, key=rank):
        if total + sizes[unit] <= limit and sizes[unit] <= (largest_unit or limit):
            chosen.add(unit)
            total += sizes[unit]
    return (document for document in documents if document.unit in chosen)


def read(path: Path) -> str:
    data = gzip.decompress(path.read_bytes()) if path.suffix in (".gz", ".dz") else path.read_bytes()
    return data.decode("utf-8")


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())


def pieces(text: str, size: int, boundary: str = "\n\n") -> list[str]:
    """Cut a long text at paragraph boundaries into pieces of about `size` characters."""
    out, current = [], ""
    for block in text.split(boundary):
        if current and len(current) + len(block) > size:
            out.append(current)
            current = ""
        current = current + boundary + block if current else block
    out.append(current)
    return out


# ======================================================================================= English

_BASE64 = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}


def _dictd_number(text: str) -> int:
    number = 0
    for character in text:
        number = number * 64 + _BASE64[character]
    return number


def _dictionary(root: Path, package: str, name: str) -> Iterator[Document]:
    folder = root / package / "usr/share/dictd"
    data = gzip.decompress((folder / f"{name}.dict.dz").read_bytes())
    spans: dict[tuple[int, int], str] = {}
    for line in (folder / f"{name}.index").read_text("utf-8").splitlines():
        word, start, length = line.split("\t")
        if not word.startswith(("00-database", "00database")):
            spans.setdefault((_dictd_number(start), _dictd_number(length)), word)
    for (start, length), word in sorted(spans.items()):
        text = data[start : start + length].decode("utf-8", "replace").replace("\r", "")
        if "00-database" in text or "�" in text:
            continue
        yield Document(f"{package}/{word}", word, text, package)


def _foldoc(root: Path) -> Iterator[Document]:
    for document in _dictionary(root, "dict-foldoc", "foldoc"):
        text = re.sub(r"\n +\(\d{4}-\d\d-\d\d\)\s*$", "", document.text)
        text = re.sub(r"\{([^{}]*?)\s*\(\s*((?:https?|ftp|news|mailto):[^{}]*)\)\}", r"\1 (\2)", text, flags=re.S)
        text = re.sub(r"\{([^{}\n]*(?:\n[^{}\n]*)?)\}", r"\1", text)
        document.text = unwrap(dedent(tidy(text), 3), 40)
        yield document


def _jargon(root: Path) -> Iterator[Document]:
    for document in _dictionary(root, "dict-jargon", "jargon"):
        text = re.sub(r"\{\s*([^{}]*?)\s*\}", r"\1", document.text)
        document.text = unwrap(dedent(tidy(text), 4), 50)
        yield document


def _bible(root: Path) -> Iterator[Document]:
    program = next(path for path in files(root / "bible-kjv", "bible") if path.parent.name == "bin")
    library = root / "bible-kjv-text/usr/lib"
    printed = subprocess.run(
        [program.resolve(), "-f", "-p", str(library), "gen1:1-rev22:21"],
        cwd=library, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True,
    ).stdout  # fmt: skip
    chapters: dict[str, list[str]] = {}
    for line in printed.splitlines():
        if match := re.match(r"\s*([1-3]?[A-Za-z]+)(\d+):(\d+)\s+(.*)", line):
            chapters.setdefault(f"{match[1]} {match[2]}", []).append(f"{match[3]} {match[4].strip()}")
    for chapter, verses in chapters.items():
        yield Document(f"bible-kjv-text/{chapter}", chapter, "\n".join(verses), "bible-kjv-text")


def _docbook_skip(tag, classes, attrs):
    return bool(
        classes & {"docnav", "navheader", "navfooter", "toc", "list-of-tables", "list-of-figures", "list-of-examples",
                   "footnotes", "headerlink", "mediaobject", "figure", "legalnotice", "related", "sphinxsidebar"}
    ) or attrs.get("id") in ("banner", "title")  # fmt: skip


def _handbook(root: Path, language: str) -> Iterator[Document]:
    package = "debian-handbook"
    for path in files(root / package / f"usr/share/doc/{package}/html/{language}", "*.html"):
        if path.name == "index.html":
            continue
        text = unmark(html(read(path), _docbook_skip))
        yield Document(f"{package}/{language}/{path.name}", path.name, text, package)


def _debian_reference(root: Path, package: str) -> Iterator[Document]:
    for path in files(root / package / "usr/share/debian-reference", "ch*.html"):
        text = html(read(path), _docbook_skip)
        # How popular and how large each package is: columns of numbers.
        text = re.sub(r"\| +(?:popcon|流行度) +\| +(?:size|大小) +\|", "|", text)
        text = re.sub(r"\| +(?:V:\d+, I:\d+|-) +\| +(?:[\d-]+) +\|", "|", text)
        for number, section in enumerate(split_sections(text, 2)):
            for part, piece in enumerate(pieces(section, 12_000)):
                yield Document(f"{package}/{path.name}#{number}.{part}", f"{path.name}#{number}", piece, package)


def _developers_reference(root: Path) -> Iterator[Document]:
    package = "developers-reference"
    for path in files(root / package, "*.html"):
        if path.name in ("index.html", "genindex.html", "search.html") or re.search(r"/[a-z]{2}(-[a-z]+)?/", str(path.relative_to(root / package / "usr/share"))):
            continue
        text = html(read(path), _docbook_skip, lambda tag, classes, attrs: attrs.get("role") == "main" or "body" in classes)
        for number, section in enumerate(split_sections(text.replace("¶", ""), 2)):
            yield Document(f"{package}/{path.name}#{number}", f"{path.name}#{number}", section, package)


def _installation_guide(root: Path, language: str) -> Iterator[Document]:
    package = "installation-guide-amd64"
    for path in files(root / package / f"usr/share/doc/{package}/{language}", "*.html"):
        # Appendix F is the GPL; index and chapter pages are tables of contents.
        if not re.match(r"(ch|ap)\d+s?\w*\.html|(ch|ap)\w+s\d+\.html", path.name) or path.name.startswith("apf"):
            continue
        yield Document(f"{package}/{language}/{path.name}", path.name, unmark(html(read(path), _docbook_skip)), package)


def _gnome(root: Path, language: str) -> Iterator[Document]:
    package = "gnome-user-docs"
    pages = {path: read(path) for path in files(root / package / f"usr/share/help/{language}", "*.page")}
    titles = {}
    for path, page in pages.items():
        if title := re.search(r"<title>(.*?)</title>", page, re.S):
            titles[path.stem] = " ".join(title[1].split())
    for path, page in pages.items():
        text = mallard(page, titles)
        yield Document(f"{package}/{language}/{path.parent.name}/{path.name}", path.name, text, package)


_PERL_SKIP = re.compile(
    r"perl(\d.*delta|delta|artistic|gpl|cn|jp|ko|tw|toc|uniprops|hist|api|intern|boot|bot|toot|tooc|repository|todo"
    r"|util|modlib|bs2000|os390|os400|vms|vos|ebcdic|haiku|hpux|irix|aix|riscos|plan9|tru64|qnx|cheat|ref|perl)$"
)


def _perl(root: Path) -> Iterator[Document]:
    package = "perl-doc"
    for path in files(root / package, "perl*.pod"):
        if _PERL_SKIP.match(path.stem):
            continue
        text = pod(path.read_text("utf-8", "replace"))
        text = re.split("\x021\x02(?:AUTHORS?|COPYRIGHT|BUGS|SEE ALSO|AUTHOR AND COPYRIGHT)[^\n]*\n", text)[0]
        for number, section in enumerate(split_sections(text, 2)):
            for part, piece in enumerate(pieces(section, 12_000)):
                yield Document(f"{package}/{path.name}#{number}.{part}", f"{path.name}#{number}", piece, package)


def english(root: Path) -> Iterator[Document]:
    yield from _foldoc(root)
    yield from _jargon(root)
    yield from capped(_bible(root), 1_200_000)
    yield from _handbook(root, "en-US")
    yield from _debian_reference(root, "debian-reference-en")
    yield from _developers_reference(root)
    yield from _installation_guide(root, "en")
    yield from _gnome(root, "C")
    yield from capped(_perl(root), 1_600_000)


# ======================================================================================= Chinese

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


def _mostly_chinese(text: str) -> str:
    """Drop untranslated English lines; drop the document if little Chinese is left ('')."""
    kept = []
    for line in text.split("\n"):
        if not _HAN.search(line):
            words = re.findall(r"[A-Za-z]{2,}", line)
            common = sum(word.lower() in _ENGLISH for word in words)
            if len(words) >= 5 and common >= len(words) / 10:
                continue
        kept.append(line)
    text = tidy("\n".join(kept))
    han, latin = len(_HAN.findall(text)), len(re.findall("[A-Za-z]", text))
    return text if han >= 30 and han >= 0.45 * (han + latin) else ""


_ENGLISH = set("the a an of to and in is are you your for on be that this it with or as can will if from by".split())


def _fortunes(root: Path) -> Iterator[Document]:
    """Short entries are gathered: poems by their author, sayings by the work they are from."""
    package = "fortunes-zh"
    folder = root / package / "usr/share/games/fortunes"
    groups: dict[str, list[str]] = {}
    for name in ("chinese", "song100", "tang300"):
        for number, entry in enumerate(ansi(read(folder / name)).split("\n%\n")):
            entry = tidy(entry.rstrip("%\n "))
            # Modern poems may still be under copyright; box drawings are cut-outs of the Debian
            # Reference, which is here in full.
            if re.search("毛泽东|毛澤東|毛主席|Debian 参考手册|[┌│├┬]|^\\d+\\.\\d+", entry) or len(_HAN.findall(entry)) < 10:
                continue
            author = re.search(r"作者：\s*(\S+)", entry)
            work = re.search(r"--+\s*(?:[^\n《]*)《([^》\n]+?)(?:[・·‧．.][^》\n]*)?》\s*$", entry)
            if len(entry) >= 600:
                key = f"{name}/{number}"
            elif author:
                key = f"{name}/{author[1]}"
            elif work:
                key = f"{name}/{work[1]}"
            else:
                key = f"{name}/{number // 40}"
            groups.setdefault(key, []).append(entry)
    for key, entries in groups.items():
        for number, text in enumerate(pieces("\n\n\n".join(entries), 3_000, "\n\n\n")):
            yield Document(f"{package}/{key}#{number}", f"{key}#{number}", text.replace("\n\n\n", "\n\n"), package)


def _manpages_zh(root: Path) -> Iterator[Document]:
    package = "manpages-zh"
    for path in files(root / package / "usr/share/man/zh_CN", "*.gz"):
        text = man(read(path))
        # Drop the closing remarks on who translated the page and where it came from.
        ending = "译者|跋|(?:COPYRIGHT|AUTHORS?|SEE ALSO|REPORTING BUGS|COLOPHON|HISTORY)?\\s*[\"“]?(?:版权|作者|参见|另见|参阅|报告错误|报告缺陷|又见|参见条目|更新|中文版维护人|中文版最新更新|中文翻译|中文手册页)"
        text = re.split("\x021\x02[^\n]*?(?:\\[)?(?:" + ending + ")[^\n]*(?:\n|$)", text)[0]
        text = re.split("\x021\x02(?:AUTHOR|COPYRIGHT|SEE ALSO|REPORTING BUGS|COLOPHON)[^\n]*(?:\n|$)", text)[0]
        text = re.split("\n[^\n]*(?:手册页项目|中文 man 手册页|Linux论坛|manpages-zh|man-pages-zh)", text)[0]
        yield Document(f"{package}/{path.parent.name}/{path.name[:-3]}", path.name, unmark(text), package)


def _libreoffice(root: Path) -> Iterator[Document]:
    package = "libreoffice-help-zh-cn"
    folder = root / package / "usr/share/libreoffice/help/zh-CN/text"
    for path in files(folder, "*.html"):
        text = html(
            read(path),
            lambda tag, classes, attrs: bool(classes & {"noteicon", "relatedtopics", "related", "embedded", "MAC"}),
            lambda tag, classes, attrs: attrs.get("id") == "DisplayArea",
        )
        text = re.split("\n[^\n]*(?:相关主题|请支持我们)[^\n]*$", text)[0]
        yield Document(f"{package}/{path.relative_to(folder)}", str(path.relative_to(folder)), unmark(text), package)


def _debian_faq(root: Path) -> Iterator[Document]:
    package = "debian-faq-zh-cn"
    for path in files(root / package, "*.html"):
        if not path.name.startswith(("index", "faqinfo")):
            for number, text in enumerate(split_sections(html(read(path), _docbook_skip), 2)):
                yield Document(f"{package}/{path.name}#{number}", f"{path.name}#{number}", text, package)


def _maint_guide(root: Path) -> Iterator[Document]:
    package = "maint-guide-zh-cn"
    for path in files(root / package, "*.html"):
        if not path.name.startswith("index"):
            for number, text in enumerate(split_sections(html(read(path), _docbook_skip), 2)):
                yield Document(f"{package}/{path.name}#{number}", f"{path.name}#{number}", text, package)


def _debian_edu(root: Path) -> Iterator[Document]:
    package = "debian-edu-doc-zh-cn"
    path = next(path for path in files(root / package, "*bookworm-manual.html"))
    for number, text in enumerate(split_sections(html(read(path), _docbook_skip), 2)):
        if "GNU GENERAL PUBLIC LICENSE" not in text:
            yield Document(f"{package}/{path.name}#{number}", f"{path.name}#{number}", text, package)


def chinese(root: Path) -> Iterator[Document]:
    for documents in (
        _fortunes(root),
        _manpages_zh(root),
        _libreoffice(root),
        _handbook(root, "zh-CN"),
        _debian_reference(root, "debian-reference-zh-cn"),
        _installation_guide(root, "zh_CN"),
        _gnome(root, "zh_CN"),
        _debian_faq(root),
        _maint_guide(root),
        _debian_edu(root),
    ):
        for document in documents:
            document.text = _mostly_chinese(document.text)
            yield document


# ========================================================================================== Code

_LEGAL = re.compile(r"copyright|licen[cs]|all rights reserved|permission is hereby|spdx|public domain", re.I)
_NOTICE = re.compile(
    r"copyright (?:\(c\) |© )?\d{4}|all rights reserved|permission (?:is hereby granted|to use, copy)|licensed under the|"
    r"redistribution and use in|spdx-license|software is provided .as is|distributed under (?:the )?(?:mit|bsd)",
    re.I,
)
_GENERATED = re.compile(
    r"do not (?:edit|modify)|@generated|(?:auto-?|automatically )generated|generated (?:by|from|with|using)|"
    r"this file (?:is|was|has been) generated|machine generated",
    re.I,
)


def without_licence(text: str, language: str) -> tuple[str, tuple[str, ...]]:
    """Take the comments that only speak of copyright out of a file; also return those comments."""
    first, _, rest = text.partition("\n")
    shebang = first + "\n" if first.startswith("#!") and not first.startswith("#![") else ""
    text = rest if shebang else text
    line = {"Python": r"(?:#[^\n]*\n)+", "Go": r"(?://(?!go:)[^\n]*\n)+", "Rust": r"(?://(?![!/])[^\n]*\n)+"}.get(
        language, r"(?://[^\n]*\n)+"
    )
    notices = []
    for _ in range(3):
        match = re.match(r"\s*(/\*.*?\*/[ \t]*\n?)", text, re.S) if language != "Python" else None
        match = match or re.match(rf"\s*({line})", text)
        if not match or not _LEGAL.search(match[1]):
            break
        notices.append(match[1])
        text = text[: match.start(1)] + text[match.end(1) :]

    # Notices further down: behind an include guard, or of code that was taken over.
    def remove(match):
        if not _NOTICE.search(match[0]):
            return match[0]
        notices.append(match[0])
        return ""

    if language != "Python":
        text = re.sub(r"/\*.*?\*/[ \t]*\n?", remove, text, flags=re.S)
    run = r"(?:^[ \t]*#(?!!)[^\n]*\n){2,}" if language == "Python" else r"(?:^[ \t]*//[^\n]*\n){2,}"
    text = re.sub(run, remove, text, flags=re.M)
    return shebang + text.lstrip("\n"), tuple(notices)


def source_file(path: Path, language: str) -> tuple[str, tuple[str, ...]] | None:
    """The text of a source file worth reading and the notices taken out of it, or None."""
    if path.stat().st_size > 100_000 or path.stat().st_size < 200:
        return None
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _GENERATED.search(text[:1_500]) or '"__esModule"' in text:
        return None
    text, notices = without_licence(text.replace("\r\n", "\n").replace("\f", ""), language)
    text = re.sub(r"\n{4,}", "\n\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip("\n") + "\n"
    lines = text.split("\n")
    if len(lines) < 8 or max(map(len, lines)) > 500 or len(text) / len(lines) > 80:
        return None
    solid = re.sub(r"\s", "", text)
    if sum(c.isdigit() for c in solid) > 0.2 * len(solid) or sum(c.isalpha() for c in solid) < 0.45 * len(solid):
        return None
    if text.count("0x") > len(lines) / 2:  # a table
        return None
    return text, notices


def _sources(
    root: Path, package: str, language: str, patterns: list[str], skip: str = r"(?!)", under: str = ""
) -> Iterator[Document]:
    base = root / package
    for path in sorted({path for pattern in patterns for path in files(base / under, pattern)}):
        relative = str(path.relative_to(base))
        if re.search(skip, relative) or (found := source_file(path, language)) is None:
            continue
        text, notices = found
        # foo.go and foo_test.go, foo.c and foo.h belong together.
        stem = re.sub(r"^test_|_test$|[-_.]test$|[-_.]spec$|_tests$", "", path.stem)
        name = re.sub(r"^usr/(share/cargo/registry|share/go-1\.19/src|src)/", "", relative)
        unit = f"{package}/{Path(name).parent}/{stem}"
        yield Document(f"{package}/{name}", unit, text, package, {"language": language}, notices)


_TESTDATA = r"(^|/)(testdata|vendor|node_modules|third_party|fixtures?|corpus|locale|locales|dist|build|min|umd|cjs)/"


def code(root: Path) -> Iterator[Document]:
    def rust():
        yield from capped(
            _sources(root, "rust-src", "Rust", ["*.rs"], r"stdarch|portable-simd|backtrace/|unicode_data|/benches/|core/tests/num/|libm"),
            1_000_000,
        )
        for folder in sorted(root.glob("librust-*")):
            yield from capped(_sources(root, folder.name, "Rust", ["*.rs"], r"unicode_tables|/debian/|build\.rs$|/tables?\.rs$"), 65_000)

    def go():
        skip = _TESTDATA + r"|/zerrors|/zsys|/ztypes|tables\.go$|/ssa/rewrite|/opGen|_string\.go$|/internal/obj/(?!x86)|/syscall/|/test/|/misc/|anames"
        return _sources(root, "golang-1.19-src", "Go", ["*.go"], skip, "usr/share/go-1.19/src")

    def c():
        skip = _TESTDATA.replace("|build", "").replace("|vendor", "") + r"|/include/sodium/.*export|config\.h$|/autom4te|/m4/|msvc|\.xcodeproj|/x64/|/contrib/|/samples/|ref10/base"
        for package, limit in (
            ("pynacl", 380_000), ("pyuv", 480_000), ("brotli", 300_000), ("hiredis", 160_000), ("lz4", 200_000),
            ("psutil", 200_000), ("pycares", 330_000), ("zstandard", 180_000),
        ):  # fmt: skip
            yield from capped(_sources(root, package, "C", ["*.c", "*.h"], skip), limit)

    def python():
        skip = _TESTDATA + r"|/_vendor/|/migrations/|emoji_codes|_emoji|cell_widths|/docs?/|conf\.py$|setup\.py$"
        for package, limit in (
            ("django", 650_000), ("sqlalchemy", 350_000), ("tornado", 190_000), ("attrs", 50_000), ("click", 100_000),
            ("flask", 70_000), ("httpx", 70_000), ("jinja2", 110_000), ("packaging", 60_000), ("pytest", 150_000),
            ("requests", 60_000), ("rich", 120_000), ("starlette", 60_000), ("urllib3", 80_000), ("werkzeug", 130_000),
        ):  # fmt: skip
            yield from capped(_sources(root, package, "Python", ["*.py"], skip), limit)

    def javascript():
        skip = _TESTDATA + r"|\.min\.js$|\.d\.ts$|/examples/jsm/libs/|/examples/fonts|shaders/ShaderChunk|/bin/|/internal/umd"
        for package, limit, under in (
            ("three", 450_000, "package/src"), ("eslint", 320_000, "package/lib"), ("webpack", 330_000, "package/lib"),
            ("svelte", 240_000, "package/src"), ("preact", 70_000, "package"), ("mocha", 80_000, "package/lib"),
            ("handlebars", 60_000, "package/lib"), ("express", 60_000, "package/lib"), ("koa", 40_000, "package/lib"),
            ("chai", 60_000, "package/lib"), ("underscore", 50_000, "package/modules"),
            ("d3-array", 40_000, "package/src"), ("d3-geo", 60_000, "package/src"), ("d3-scale", 30_000, "package/src"),
        ):  # fmt: skip
            yield from capped(_sources(root, package, "JavaScript", ["*.js", "*.mjs"], skip, under), limit)
        yield from capped(_sources(root, "rxjs", "TypeScript", ["*.ts"], skip, "package/src"), 450_000)

    yield from rust()
    yield from capped(go(), 2_200_000)
    yield from c()
    yield from python()
    yield from javascript()


# ========================================================================================== Math


def _metamath(root: Path) -> Iterator[Document]:
    """Sections of set.mm: each theorem's comment, hypotheses and statement, and what its proof uses.

    The proofs are stored compressed, as letters that index the list of labels. The letters are left
    out, the list is kept.
    """
    package = "metamath-databases"
    text = read(root / package / "usr/share/metamath/databases/set.mm")
    header = re.compile(r"^\s*\$\(\s*\n?\s*(#\*#\*|=-=-|-\.-\.|#\s*#\s*#)[^\n]*\n\s*([^\n]*)\n[^\n]*\n?", re.M)
    marks = list(header.finditer(text))
    # Labels of steps that only build a formula ("wff", "class") say nothing of the argument.
    syntax = set(re.findall(r"(\S+)\s+\$[af]\s+(?:wff|class|setvar)\s", text))
    for index, mark in enumerate(marks):
        body = text[mark.start() : marks[index + 1].start() if index + 1 < len(marks) else len(text)]
        title = mark[2].strip()
        introduction = re.match(r"\s*\$\(\s*\S+\s*\n[^\n]*\n\s*\S+\s*\n?(.*?)\$\)", body, re.S)
        blocks = [title]
        if introduction and introduction[1].strip():
            blocks.append(unwrap(textwrap.dedent(introduction[1]).strip("\n"), 50))
        hypotheses: list[list[str]] = [[]]
        statements = re.compile(
            r"\$\((?P<comment>.*?)\$\)|(?P<open>\$\{)|(?P<close>\$\})|"
            r"(?P<label>\S+)\s+(?P<kind>\$[epa])\s+(?P<formula>.*?)\s+(?:\$=\s*(?P<proof>.*?)\s*)?\$\.|"
            r"\$[dcv]\s.*?\$\.",
            re.S,
        )
        start = introduction.end() if introduction else 0
        comment = ""
        for match in statements.finditer(body, start):
            if match["comment"] is not None:
                comment = " ".join(match["comment"].split())
            elif match["open"]:
                hypotheses.append([])
            elif match["close"]:
                if len(hypotheses) > 1:
                    hypotheses.pop()
            elif match["kind"] == "$e":
                hypotheses[-1].append(f"  {match['label']} $e {' '.join(match['formula'].split())} $.")
            elif match["kind"] in ("$p", "$a"):
                # "(Contributed by …)" and "(New usage is discouraged.)" say nothing of mathematics.
                note = re.sub(r"\s*\((?:Contributed|Revised|Proof shortened|Proof modification|New usage|Proposed by)"
                              r"[^()]*(?:\([^()]*\)[^()]*)*\)", "", comment)
                note = re.sub(r"<HTML>.*?</HTML>|<[A-Z/][^>]*>", "", re.sub(r"~ (\S+)", r"\1", note), flags=re.S)
                formula = " ".join(match["formula"].split())
                lines = [f"$( {note.strip()} $)"] if note.strip() else []
                lines += [line for scope in hypotheses for line in scope]
                uses = re.match(r"\(\s*(.*?)\s*\)", match["proof"] or "", re.S)
                lines.append(f"  {match['label']} {match['kind']} {formula} $.")
                labels = [label for label in uses[1].split() if label not in syntax] if uses else []
                if 0 < len(labels) <= 30:
                    lines.append("  $( Uses: " + ", ".join(labels) + ". $)")
                blocks.append("\n".join(lines))
                comment = ""
        if len(blocks) < 3:
            continue
        for number, piece in enumerate(pieces("\n\n".join(blocks), 8_000)):
            yield Document(f"{package}/set.mm/{title}#{number}", f"set.mm/{index}", tidy(piece), package, {"kind": "formal"})


def _formal_files(root: Path, package: str, pattern: str, skip: str) -> Iterator[Document]:
    base = root / package
    for path in files(base, pattern):
        relative = str(path.relative_to(base))
        if re.search(skip, relative):
            continue
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        notices = []
        for _ in range(4):
            match = re.match(r"\s*((?:\(\*(?:(?!\*\)).)*\*\)[ \t]*\n?)+?)(?=\s*\n|\S|\()", text, re.S)
            if not match or not re.search(r"copyright|licen[cs]e|INRIA|Author", match[1], re.I):
                # Coq's box is a row of one-line comments: look at the first dozen together.
                box = re.match(r"(?:[ \t]*\(\*.*\*\)[ \t]*\n){5,14}", text)
                if not (box and re.search(r"copyright|INRIA", box[0], re.I)):
                    break
                match = box
            notices.append(match[0])
            text = text[match.end() :].lstrip("\n")
        text = re.sub(r"^\(\*[\s*]*i?\*+\)\n", "", text, flags=re.M) if package == "libcoq-stdlib" else text
        name = relative.removeprefix("usr/lib/ocaml/coq/").removeprefix("usr/share/hol-light/")
        for number, piece in enumerate(pieces(tidy(text), 24_000)):
            yield Document(f"{package}/{name}#{number}", name, piece, package, {"kind": "formal"}, tuple(notices))


def _docstrings(root: Path, package: str, module: str, skip: str) -> Iterator[Document]:
    """One document per public class or function of a Python package: signature and docstring."""
    base = next(path for path in sorted(root.glob(f"{package}/**/{module}")) if path.is_dir() and (path / "__init__.py").exists())
    for path in files(base, "*.py"):
        relative = path.relative_to(base.parent)
        if re.search(skip, str(relative)):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        dotted = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        if intro := ast.get_docstring(tree):
            yield Document(f"{package}/{dotted}", str(relative), f"{dotted}\n\n{rst(intro)}", package, {"kind": "informal"})
        for node in tree.body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            blocks = [_documented(node)]
            if isinstance(node, ast.ClassDef):
                blocks += [_documented(item, "  ") for item in node.body if isinstance(item, ast.FunctionDef)]
            blocks = [block for block in blocks if block]
            text = "\n\n".join(blocks)
            if len(text) >= 400:
                yield Document(f"{package}/{dotted}.{node.name}", str(relative), tidy(text), package, {"kind": "informal"})


def _documented(node, indent: str = "") -> str:
    docstring = ast.get_docstring(node)
    if not docstring or len(docstring) < 60 or (node.name.startswith("_") and indent):
        return ""
    signature = ast.unparse(node.args) if isinstance(node, ast.FunctionDef) else ", ".join(map(ast.unparse, node.bases))
    heading = f"{'def' if isinstance(node, ast.FunctionDef) else 'class'} {node.name}({signature})"
    body = re.sub(r"\n(?:Notes|See Also)\n-+\n(?=\S[^\n]*\n-{3,}|\s*$)", "\n", rst(docstring))
    body = re.split(r"\n *References\n *[-=]{5,}\n", body)[0].rstrip()
    return textwrap.indent(f"{heading}\n\n{body}", indent)


def _rst_files(root: Path, package: str, folder: str, skip: str) -> Iterator[Document]:
    base = next(iter(sorted(root.glob(f"{package}/{folder}"))))
    for path in files(base, "*.rst"):
        relative = str(path.relative_to(base))
        if not re.search(skip, relative):
            text = rst(path.read_text("utf-8"))
            for number, piece in enumerate(pieces(text, 12_000)):
                yield Document(f"{package}/{relative}#{number}", relative, piece, package, {"kind": "informal"})


def _texinfo_skip(tag, classes, attrs):
    return bool(classes & {"header", "contents", "shortcontents", "footnotes-segment", "menu", "categorybox", "copiable-anchor", "index-entry"})


def _texinfo(root: Path, package: str, folder: str, skip: str) -> Iterator[Document]:
    for path in sorted((root / package / folder).glob("*.html")):  # translations lie in folders
        if re.search(skip, path.name):
            continue
        text = html(read(path), _texinfo_skip, pre=("pre",))
        heading = re.search("\x02\\d\x02(\\d+|[A-Z])\\b", text)
        if not heading:
            continue
        text = unmark(text)
        text = re.sub(r"\n+(?:See also|See): [^\n]*$", "", text)
        for number, piece in enumerate(pieces(text, 12_000)):
            yield Document(f"{package}/{path.name}#{number}", path.name, piece, package, {"kind": "informal"})


def _gap(root: Path) -> Iterator[Document]:
    package = "gap-doc"
    base = root / package / "usr/share/gap/doc"
    for path in files(base, "chap*.html"):
        if "_mj" in path.name or not re.match(r"chap\d+\.html", path.name) or path.parent.name == "hpc" or path.stem == "chap0":
            continue
        text = html(
            read(path),
            lambda tag, classes, attrs: bool(classes & {"chlinktop", "chlinkbot", "chlinkprevnexttop", "chlinkprevnextbot", "ContChap", "ContSect", "ContSSBlock", "pcenter"}),
        )
        for number, section in enumerate(split_sections(text, 3)):
            section = re.sub(r"‣ ?", "", section)
            for part, piece in enumerate(pieces(section, 12_000)):
                unit = f"{path.parent.name}/{path.name}#{number}"
                yield Document(f"{package}/{unit}.{part}", unit, piece, package, {"kind": "informal"})


def _pari(root: Path) -> Iterator[Document]:
    package = "pari-doc"
    for path in files(root / package, "*.tex"):
        # Chapters 4 and 5 and the rest describe the C library.
        if path.name not in ("usersch1.tex", "usersch2.tex", "usersch3.tex", "tutorial.tex", "tutorial-mf.tex"):
            continue
        data = path.read_bytes()
        text = pari(data.decode("utf-8", "replace"))
        for number, section in enumerate(split_sections(text, 3)):
            if "\ufffd" not in section and section.count("\\") < len(section) / 25:
                for part, piece in enumerate(pieces(section, 12_000)):
                    yield Document(f"{package}/{path.name}#{number}.{part}", f"{path.name}#{number}", piece, package, {"kind": "informal"})


def math(root: Path) -> Iterator[Document]:
    yield from capped(_metamath(root), 3_000_000, 120_000)
    yield from capped(_formal_files(root, "libcoq-stdlib", "*.v", r"(?!)"), 1_500_000, 100_000)
    yield from capped(
        _formal_files(root, "hol-light", "*.ml", r"pa_j|update_database|database\.ml|/Minisat|/ProofTrace|/Proofrecording|make\.ml|holtest|/QBF|/miz3|/TacticRecording|ocaml"),
        1_300_000, 100_000,
    )  # fmt: skip
    yield from _rst_files(root, "sympy", "sympy-*/doc/src", r"contributing|release|citing|install|changelog")
    yield from capped(_docstrings(root, "sympy", "sympy", r"/tests/|/parsing/|benchmarks|/testing/|conftest"), 1_400_000)
    yield from _docstrings(root, "mpmath", "mpmath", r"/tests/")
    yield from capped(_docstrings(root, "networkx", "networkx", r"/tests/|drawing|readwrite"), 500_000)
    yield from capped(_docstrings(root, "scipy", "scipy", r"/tests/|_lib|/io/|conftest|/misc/"), 1_200_000)
    yield from capped(_gap(root), 900_000)
    yield from capped(_pari(root), 1_300_000)
    yield from capped(_texinfo(root, "maxima-doc", "usr/share/doc/maxima-doc/html", r"toc|_37[4-9]|_abt|_0\.html|singlepage|figures|intromax"), 1_300_000)
    yield from capped(_texinfo(root, "octave-doc", "usr/share/doc/octave/octave.html", r"^XREF|^index|Copying|Index\.html|^fig_|_005findex"), 900_000)


SOURCES = {"english": english, "chinese": chinese, "code": code, "math": math}
