"""The prose of the repository, and the phrases that the glossary replaces by other words.

    python tests/prose.py [FILE...]   print every place that uses such a phrase, and their rate

Prose is Markdown without code, docstrings, comments, messages (string literals of three words or
more) and the names of tests.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
GLOSSARY = REPOSITORY / "docs" / "glossary.md"
# These files list the phrases.
EXEMPT = ("docs/glossary.md", "tests/docs/test_prose.py", "tests/prose.py")
GENERATED = (".", "out/", "build/", "dist/", "site/", "node_modules/")
LAST_COLUMN = "Do not write"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Finding:
    """One use of a phrase that the glossary replaces."""

    file: str
    line: int
    phrase: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.phrase!r}; see docs/glossary.md"


def phrases(glossary: str) -> tuple[str, ...]:
    """The phrases in the last column of the tables whose header ends with "Do not write"."""
    found: list[str] = []
    in_table = False
    for line in glossary.splitlines():
        in_table = line.startswith("|") and (in_table or line.endswith(f"| {LAST_COLUMN} |"))
        if in_table:
            found += re.findall(r"`([^`]+)`", line.split("|")[-2])
    return tuple(found)


def pattern(phrase: str) -> re.Pattern[str]:
    """A regular expression for a phrase; an asterisk matches any ending of a word."""
    words = r"\s+".join(re.escape(word).replace(r"\*", r"\w*") for word in phrase.split())
    return re.compile(rf"(?<![\w-]){words}(?![\w-])", re.IGNORECASE)


def prose(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line number and the text of every passage of prose in a file."""
    if name.endswith(".md"):
        yield 1, _without_code(text)
    elif name.endswith(".py"):
        yield from _python_prose(text, messages=not name.startswith(("tests/", "benchmarks/")))


def _without_code(text: str) -> str:
    """Markdown in which code, HTML comments and link targets are blank; lines are kept."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    for code in (r"^```.*?^```", r"<!--.*?-->", r"`[^`\n]+`", r"\]\([^)]*\)"):
        text = re.sub(code, blank, text, flags=re.DOTALL | re.MULTILINE)
    return text


def _python_prose(source: str, *, messages: bool) -> Iterator[tuple[int, str]]:
    documentation: set[int] = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False):
            docstring = node.body[0]
            assert isinstance(docstring, ast.Expr)
            documentation.add(id(docstring.value))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_message = messages and node.value.count(" ") >= 2
            if id(node) in documentation or is_message:
                yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def findings(files: Iterable[str]) -> list[Finding]:
    """Every use of a replaced phrase in these files of the repository."""
    rules = {phrase: pattern(phrase) for phrase in phrases(GLOSSARY.read_text("utf-8"))}
    found: list[Finding] = []
    for name in files:
        for first, text in prose(name, (REPOSITORY / name).read_text("utf-8")):
            for phrase, rule in rules.items():
                for match in rule.finditer(text):
                    line = first + text.count("\n", 0, match.start())
                    found.append(Finding(name, line, phrase))
    return found


def prose_files() -> list[str]:
    """Every Markdown and Python file of the repository, less those that list the phrases."""
    paths = (path for suffix in ("md", "py") for path in REPOSITORY.rglob(f"*.{suffix}"))
    names = sorted(path.relative_to(REPOSITORY).as_posix() for path in paths)
    return [name for name in names if not name.startswith((*EXEMPT, *GENERATED))]


def rate(found: Iterable[Finding], files: Iterable[str]) -> float:
    """The number of findings per 10,000 words of prose."""
    texts = (
        text for name in files for _, text in prose(name, (REPOSITORY / name).read_text("utf-8"))
    )
    words = sum(len(re.findall(r"[A-Za-z']+", text)) for text in texts)
    return 1e4 * len(list(found)) / max(words, 1)


if __name__ == "__main__":
    chosen = sys.argv[1:] or prose_files()
    everything = findings(chosen)
    print(*everything, sep="\n")
    print(f"{rate(everything, chosen):.1f} per 10,000 words")
