"""Markup in, plain text out: HTML, Mallard, POD, roff, reStructuredText, PARI's TeX, ANSI colours.

Every function here is pure: a string goes in, a string comes out.
"""

import re
import unicodedata
from html.parser import HTMLParser

CJK = "\u2e80-\u303f\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef"
_CJK_BREAK = re.compile(f"(?<=[{CJK}])[ \t]*\n[ \t]*(?=[{CJK}])")
# A heading keeps a mark in front of it until split_sections has looked at it.
_HEADING = re.compile("\x02([1-9])\x02")


def tidy(text: str) -> str:
    """Unix newlines, no trailing blanks, at most one empty line in a row, no control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\u00a0", " ")
    text = text.replace("\u200b", "").replace("\ufeff", "").replace("\u2028", "\n").replace("\u00ad", "")
    text = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return unicodedata.normalize("NFC", text.strip("\n")).rstrip()


def unwrap(text: str, shortest: int = 45) -> str:
    """Join the hard-wrapped lines of prose paragraphs; leave lists, tables and drawings alone."""
    paragraphs = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        lines = paragraph.split("\n")
        body = [line.strip() for line in lines]
        indents = {len(line) - len(line.lstrip()) for line in lines[1:]}
        prose = (
            len(lines) > 1
            and len(indents) == 1
            and all(len(line.rstrip()) >= shortest for line in lines[:-1])
            and not re.search(r"\S {3,}\S|[|_=+#*-]{3,}|^\s*[*+o-] ", paragraph, re.M)
        )
        if prose:
            first = len(lines[0]) - len(lines[0].lstrip())
            paragraph = " " * min(first, *indents) + " ".join(" ".join(body).split())
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def dedent(text: str, columns: int) -> str:
    return re.sub(rf"^ {{1,{columns}}}", "", text, flags=re.M)


# ------------------------------------------------------------------------------------------ HTML


class _Page(HTMLParser):
    VOID = set("area base br col embed hr img input link meta param source track wbr".split())
    SKIP = set("head script style nav header footer aside noscript button svg select form input".split())
    SKIP |= set("info links media mal:credit colgroup indexterm".split())
    PARAGRAPH = set("p div section article blockquote table ul ol dl pre h1 h2 h3 h4 h5 h6 hr".split())
    PARAGRAPH |= set("title screen code-block note list steps terms table".split())
    LINE = set("li dt dd tr br item caption summary".split())

    def __init__(self, skip, root, pre):
        super().__init__(convert_charrefs=True)
        self.skip, self.root, self.pre_tags = skip, root, pre
        self.stack: list[tuple[str, bool, bool]] = []  # (tag, it began a skip, it began the root)
        self.skipping = 0
        self.inside = 0 if root else 1
        self.pre = 0
        self.out: list[str] = []
        self.gap = 0  # newlines owed before the next text
        self.space = False
        self.bullet = ""
        self.row_has_text = self.new_cell = False

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        classes = set((attrs.get("class") or "").split())
        skipped = tag in self.SKIP or self.skip(tag, classes, attrs)
        if tag in self.VOID:
            if tag in self.LINE and not self.skipping and self.inside:
                self._break(1)
            return
        rooted = bool(self.root) and self.root(tag, classes, attrs)
        self.stack.append((tag, skipped, rooted))
        self.skipping += skipped
        self.inside += rooted
        if self.skipping or not self.inside:
            return
        if tag in self.pre_tags:
            self._break(2)
            self.pre += 1
        elif tag in self.PARAGRAPH:
            self._break(2)
        elif tag in self.LINE:
            self._break(1)
        if tag in ("li", "item"):
            self.bullet = "- "
        elif tag == "tr":
            self.row_has_text = self.new_cell = False
        elif tag in ("td", "th"):
            self.new_cell = True
        elif len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.bullet = f"\x02{tag[1]}\x02"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID or not any(entry[0] == tag for entry in self.stack):
            return
        while self.stack:
            name, skipped, rooted = self.stack.pop()
            self.skipping -= skipped
            self.inside -= rooted
            if not self.skipping and self.inside:
                if name in self.pre_tags:
                    self.pre -= 1
                    self._break(2)
                elif name in self.PARAGRAPH:
                    self._break(2)
                elif name in self.LINE:
                    self._break(1)
            if name == tag:
                break

    def _break(self, newlines):
        self.gap = max(self.gap, newlines)
        self.space = False

    def _emit(self, text):
        if self.new_cell:
            if self.row_has_text:
                self.out.append(" | ")
                text = text.lstrip()
                self.gap = 0
            self.row_has_text, self.new_cell = True, False
        if self.gap and self.out:
            self.out.append("\n" * self.gap)
        self.gap = 0
        if self.bullet:
            self.out.append(self.bullet)
            self.bullet = ""
        self.out.append(text)

    def handle_data(self, data):
        if self.skipping or not self.inside:
            return
        if self.pre:
            if data.strip("\n") or self.out:
                self._emit(data if not self.gap else data.lstrip("\n"))
            return
        data = _CJK_BREAK.sub("", data)
        words = data.split()
        if not words:
            self.space = self.space or bool(data)
            return
        lead = (self.space or data[0].isspace()) and not self.gap
        self._emit((" " if lead and self.out else "") + " ".join(words))
        self.space = data[-1].isspace()


def html(page: str, skip=lambda tag, classes, attrs: False, root=None, pre=("pre",)) -> str:
    """Text of a page. `skip` says which elements to leave out, `root` which to stay inside.

    Headings come out marked; pass the text through split_sections or unmark.
    """
    parser = _Page(skip, root, set(pre))
    parser.feed(page)
    parser.close()
    text = tidy_marked("".join(parser.out))
    return re.sub(r"(?<=\n)(- [^\n]*)\n\n(?=- )", r"\1\n", text)


def tidy_marked(text: str) -> str:
    return tidy(text.replace("\x02", "\ue000")).replace("\ue000", "\x02")


def unmark(text: str) -> str:
    return _HEADING.sub("", text).strip()


def split_sections(text: str, level: int) -> list[str]:
    """Cut before every heading of `level` or higher up (h2 is higher up than h3)."""
    cuts = [match.start() for match in _HEADING.finditer(text) if int(match[1]) <= level]
    cuts = sorted({0, *cuts})
    return [unmark(text[a:b]) for a, b in zip(cuts, [*cuts[1:], len(text)]) if text[a:b].strip()]


def mallard(page: str, titles: dict[str, str]) -> str:
    """A GNOME help page (Mallard XML); an empty link shows the title of the page it leads to."""
    page = re.sub(
        r'<link\b[^>]*?\bxref="([^"#]*)[^"]*"[^>]*/>',
        lambda match: f"“{titles[match[1]]}”" if match[1] in titles else "",
        page.replace("<info>", "<info >"),
    )
    page = re.sub(r"</key>\s*\+?\s*<key>", "+", page)
    page = re.sub(r"<code( [^>]*)?>([^<]*\n[^<]*)</code>", r"<screen>\2</screen>", page)
    return unmark(html(page, pre=("screen",)))


# ------------------------------------------------------------------------------------------- POD

_POD_ESCAPES = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/", "eacute": "é", "nbsp": " ", "mdash": "—"}


def _pod_inline(text: str) -> str:
    def render(match):
        code, body = match[1], match[2].strip("<>") if match[0][1:3] == "<<" else match[2]
        if code == "E":
            if re.fullmatch(r"0?x[0-9a-fA-F]+|\d+", body):
                return chr(int(body.removeprefix("0").removeprefix("x"), 16 if "x" in body else 8 if body[0] == "0" else 10))
            return _POD_ESCAPES.get(body, body)
        if code == "L":
            if "|" in body:
                return body.split("|")[0]
            return body.strip("/").strip('"')
        return "" if code in "XZ" else body.strip()

    for _ in range(6):
        changed = re.sub(r"\b([BCFILXZSE])<<+\s(.*?)\s>+>", lambda m: m[2].replace("<", "\x0e").replace(">", "\x0f")
                         if m[1] not in "XZ" else "", text, flags=re.S)
        changed = re.sub(r"([BCFILXZSE])<([^<>]*)>", render, changed, flags=re.S)
        if changed == text:
            break
        text = changed
    return text.replace("\x0e", "<").replace("\x0f", ">")


def pod(text: str) -> str:
    blocks, ignoring, cut = [], None, False
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        block = block.strip("\n")
        if block.startswith("="):
            command, _, rest = block.partition(" ") if " " in block.split("\n")[0] else block.partition("\n")
            rest = rest.strip()
            if command in ("=begin", "=for"):
                ignoring = rest.split()[0] if command == "=begin" and rest else None
            elif command == "=end":
                ignoring = None
            elif command == "=cut":
                cut = True
            elif command == "=pod":
                cut = False
            elif command.startswith("=head"):
                cut = False
                if not ignoring:
                    blocks.append(f"\x02{command[5]}\x02" + " ".join(_pod_inline(rest).split()))
            elif command == "=item" and not ignoring:
                label = " ".join(_pod_inline(rest).split())
                if label not in ("", "*"):
                    blocks.append(label if not re.match(r"\*\s", label) else "- " + label[1:].strip())
            continue
        if ignoring or cut or not block.strip():
            continue
        if block[0] in " \t":
            blocks.append(block.expandtabs(8))
        else:
            blocks.append(" ".join(_pod_inline(block).split()))
    return tidy_marked("\n\n".join(blocks))


# ------------------------------------------------------------------------------------------ roff


def _roff_inline(text: str) -> str:
    text = re.sub(r'\\".*', "", text)
    text = re.sub(r"\\f(\[[^\]]*\]|\(..|.)", "", text)
    text = re.sub(r"\\s[-+]?\d+", "", text)
    text = re.sub(r"\\m\[[^\]]*\]|\\[hvwlLXZ]'[^']*'|\\n\[[^\]]*\]|\\\*\[[^\]]*\]|\\\*\(..|\\k.", "", text)
    named = {"em": "—", "en": "–", "bu": "•", "co": "©", "aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘",
             "cq": "’", "ga": "`", "ha": "^", "ti": "~", "rs": "\\", "->": "→", "<=": "≤", ">=": "≥", "mu": "×",
             "pl": "+", "mi": "−", "hy": "-", "at": "@", "sh": "#", "bv": "|", "ba": "|", "or": "|", "lB": "[",
             "rB": "]", "lC": "{", "rC": "}", "Do": "$", "+-": "±", "de": "°", "tm": "™", "rg": "®"}
    text = re.sub(r"\\\((..)|\\\[([^\]]*)\]", lambda m: named.get(m[1] or m[2], ""), text)
    text = re.sub(r"\\[&|^/,:%!)dutc]", "", text)
    text = text.replace("\\-", "-").replace("\\ ", " ").replace("\\0", " ").replace("\\~", " ").replace("\\'", "'")
    text = text.replace("\\`", "`").replace("\\.", ".").replace("\\e", "\\").replace("\\\\", "\\")
    return text


def _roff_words(line: str) -> list[str]:
    return [a or b for a, b in re.findall(r'"((?:[^"]|"")*)"|(\S+)', line)]


def man(source: str) -> str:
    """A manual page (man or simple mdoc macros) as paragraphs; tables and conditionals are left out."""
    blocks: list[str] = []
    current: list[str] = []
    verbatim = tagged = False
    skip_until = None

    def flush():
        nonlocal current
        if current:
            if verbatim:
                blocks.append("\n".join(current))
            else:
                text = _CJK_BREAK.sub("", "\n".join(line.strip() for line in current))
                blocks.append(" ".join(text.split()))
            current = []

    for line in source.replace("\r\n", "\n").split("\n"):
        if skip_until:
            if line.startswith(skip_until):
                skip_until = None
            continue
        if not line.startswith((".", "'")) or line.startswith(("...", "'.")):
            text = _roff_inline(line)
            if not verbatim and not text.strip():
                flush()
            elif verbatim or text.strip():
                current.append(text)
                if tagged:
                    flush()
                    tagged = False
            continue
        name, _, rest = line[1:].strip().partition(" ")
        if name.startswith('\\"') or not name:
            continue
        words = _roff_words(rest)
        match name:
            case "TH" | "Dt" | "Dd" | "Os" | "so" | "nh" | "ad" | "hy" | "ll" | "ta" | "tm" | "ds" | "nr" | "IX":
                pass
            case "TS":
                flush()
                skip_until = ".TE"
            case "de" | "ig" | "am" | "de1":
                skip_until = ".."
            case "if" | "ie" | "el":
                if rest.rstrip().endswith("\\{") or "\\{" in rest:
                    skip_until = ".\\}"
                    if "\\}" in rest:
                        skip_until = None
            case "SH" | "Sh" | "SS" | "Ss":
                flush()
                if words:
                    blocks.append(("\x021\x02" if name in ("SH", "Sh") else "") + _roff_inline(" ".join(words)))
            case "nf" | "EX" | "Bd":
                flush()
                verbatim = True
            case "fi" | "EE" | "Ed":
                flush()
                verbatim = False
            case "PP" | "P" | "LP" | "Pp" | "sp" | "RS" | "RE" | "HP":
                if verbatim and name == "sp":
                    current.append("")
                elif not verbatim:
                    flush()
            case "TP" | "TQ":
                flush()
                tagged = True
            case "br":
                if current and not verbatim:
                    flush()
            case "IP" | "It":
                flush()
                if words and _roff_inline(words[0]).strip():
                    blocks.append(_roff_inline(words[0]))
            case "B" | "I" | "SM" | "SB" | "R":
                current.append(_roff_inline(" ".join(words)))
            case "BI" | "BR" | "IB" | "IR" | "RB" | "RI":
                current.append(_roff_inline("".join(words)))
            case "UR" | "MT" | "UE" | "ME":
                current.extend(_roff_inline(word) for word in words[:1])
            case _:
                continue
        if tagged and name not in ("TP", "TQ") and current:
            flush()
            tagged = False
    flush()
    return tidy_marked("\n\n".join(block for block in blocks if block.strip()))


# ------------------------------------------------------------------------------- reStructuredText

def rst(text: str) -> str:
    """Keep the prose, formulas and examples of reStructuredText; drop what only a builder needs."""
    text = text.replace("\r\n", "\n").expandtabs(8)
    lines, out, index = text.split("\n"), [], 0
    directive = re.compile(r"( *)\.\. (?:([\w:-]+)::|_[^:]+:|\||\[|$|[^\s])(.*)")
    keep = {"math", "note", "warning", "code-block", "code", "versionadded", "versionchanged", "deprecated", "seealso",
            "admonition", "topic", "rubric", "function", "class", "method", "attribute", "data", "math-block", "tip",
            "important", "caution", "hint", "parsed-literal", "doctest", "ipython", "quote", "table", "math::"}
    while index < len(lines):
        line = lines[index]
        match = directive.match(line)
        if match and not (match[2] and match[2] in keep):
            indent = len(match[1])
            index += 1
            while index < len(lines) and (not lines[index].strip() or len(lines[index]) - len(lines[index].lstrip()) > indent):
                index += 1
            out.append("")
            continue
        if match and match[2] in ("note", "warning", "seealso", "tip", "important", "caution", "hint"):
            out.append(f"{match[1]}{match[2].capitalize()}:{match[3]}")
        elif match and match[2] in ("versionadded", "versionchanged", "deprecated"):
            index += 1
            indent = len(match[1])
            while index < len(lines) and (not lines[index].strip() or len(lines[index]) - len(lines[index].lstrip()) > indent):
                index += 1
            continue
        elif match and match[2] in ("function", "class", "method", "attribute", "data", "rubric", "topic", "admonition"):
            out.append(match[1] + match[3].strip())
        elif re.match(r"\s*:(?:[\w-]+):\s*\S*\s*$", line) and out and not out[-1].strip().endswith("."):
            pass  # an option of a directive
        else:
            out.append(line)
        index += 1
    text = "\n".join(out)
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    text = re.sub(r"(?<!`)`([^`\n]*\\[^`\n]*)`(?!`)", r"$\1$", text)
    text = re.sub(r":[\w:+-]+:`~?([^`<]*?)\s*<[^`>]*>`", r"\1", text)
    text = re.sub(r":[\w:+-]+:`[~!]?([^`]*)`", r"\1", text)
    text = re.sub(r"`([^`<]+?)\s*<[^`>]*>`__?", r"\1", text)
    text = re.sub(r"\|([\w -]+)\|_?", r"\1", text)
    text = re.sub(r"\[([\w]+)\]_", r"[\1]", text)
    text = re.sub(r"\s*# doctest: ?\+?[A-Z_]+", "", text)
    text = re.sub(r"^( *)(.+?)::$", r"\1\2:", text, flags=re.M)
    text = tidy(re.sub(r"^ *::$", "", text, flags=re.M))
    # A heading with nothing under it before the next heading of its level.
    return re.sub(r"^[^\n]+\n([=~^*-])\1{2,}\n+(?=[^\n]+\n\1{3,}(?:\n|$))", "", text, flags=re.M)


# ------------------------------------------------------------------------------------ PARI's TeX


def pari(text: str) -> str:
    """PARI's plain TeX manual: its few macros undone, formulas left in TeX."""
    text = re.sub(r"(?<!\\)%(?!\d|=| =|`).*", "", text)
    text = re.sub(r"\\(?:label|sidx|kbdsidx|ssidx|varsidx|vfill|newpage|vskip|vbox|advance|input|def|let)\b"
                  r"(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\\w+|#?[-\w.]*)", "", text)
    text = re.sub(r"\\(section|subsecidx|subsec|subsubsec|subsubsecidx|subsecref|subseckbd|chapter)\{"
                  r"((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}",
                  lambda m: f"\n\n\x02{1 if m[1] == 'chapter' else 2 if m[1] == 'section' else 3}\x02{m[2]}\n\n", text)
    text = re.sub(r"The library syntax is.*?(?=\n\n|\n\\|\x02|\Z)|\\synt\{[^\n]*", "", text, flags=re.S)
    text = re.sub(r"(?<=\w)~(?=[\w$\\])", " ", text)
    text = re.sub(r"\\bprog(?:file)?\b\w*|\\eprog\w*|@eprog\w*|\\bbox|\\Bprog\b", "\n", text)
    for _ in range(4):
        text = re.sub(r"\\(?:kbd|tet|teb|emph|ev|var|key|typ|tec|idx|vinf|url|B|fl|misc|text|sc|tt|bf|em|it|rm|fun|cw"
                      r"|kbdidx|tex|mathit|code|low)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\{\\(?:bf|it|em|tt|sc|rm|sl)\b\s*([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\fun\{([^{}]*)\}\{([^{}]*)\}\{([^{}]*)\}", r"\1 \2(\3)", text)
    text = re.sub(r"\\(?:noindent|smallskip|medskip|bigskip|par|quad|hfill|hfil|break|item|itemitem|fi|goodbreak|null"
                  r"|kern|hskip|relax|ifPDF|else|misctitle|obr|cbr)\b ?", " ", text)
    text = text.replace("\\dots", "...").replace("\\ldots", "...").replace("\\obr", "{").replace("\\cbr", "}")
    text = re.sub(r"\\([_&#$%{}])", r"\1", text).replace("\\til", "~").replace("\\pow", "^").replace("\\bs", "\\")
    text = text.replace("``", "“").replace("''", "”")
    return tidy_marked(text)


# ------------------------------------------------------------------------------------------ ANSI


def ansi(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
