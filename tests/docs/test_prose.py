"""The text of the repository uses the terms of docs/glossary.md and American spelling."""

import re
import subprocess
import sys

import pytest

from prose import REPOSITORY, findings, pattern, phrases, prose, prose_files, rate

# Uses of replaced phrases per 10,000 words. It falls as the text is rewritten, and never rises.
LIMIT = 2.0
# Every file below these paths is free of the phrases. Add a path when its text is rewritten.
CLEAN = (
    ".github/",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "README.md",
    "RELEASE.md",
    "SECURITY.md",
    "benchmarks/",
    "docs/",
    "elmo_deploy/benchmark/",
    "elmo_deploy/cli/",
    "elmo_deploy/demo/",
    "elmo_deploy/environment.py",
    "elmo_deploy/fast/",
    "elmo_deploy/importers/",
    "elmo_deploy/integrations/",
    "elmo_deploy/model/",
    "elmo_deploy/training/",
    "examples/",
    "fuzz/",
    "runtime/",
    "tests/benchmark/",
    "export/",
    "tests/cli/",
    "tests/export/",
    "tests/extras/",
    "tests/fast/",
    "tests/importers/",
    "tests/integrations/",
    "tests/model/",
    "tests/runtime/",
    "tests/training/",
    "tests/typing/",
)


def test_the_rate_of_replaced_phrases_is_below_its_limit():
    files = prose_files()
    found = findings(files)
    places = "\n".join(map(str, found))
    assert rate(found, files) <= LIMIT, f"use the terms of docs/glossary.md\n{places}"


def test_rewritten_files_contain_no_replaced_phrase():
    found = findings(name for name in prose_files() if name.startswith(CLEAN))
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("page.md", "One\nexport it\nanew.\n", 3),
        ("code.py", '"""One.\n\nExport it anew.\n"""\n', 3),
        ("code.py", "\n# Export it anew.\n", 2),
        ("code.py", '\nhint = "export the checkpoint anew"\n', 2),
        ("tests/test_code.py", "\n\ndef test_a_bundle_is_exported_anew():\n    pass\n", 3),
    ],
)
def test_a_replaced_phrase_is_found(name, text, line):
    """Negative control: the rules see each kind of prose, and count its lines."""
    rule = pattern("anew")
    found = [
        first + passage.count("\n", 0, match.start())
        for first, passage in prose(name, text)
        for match in rule.finditer(passage)
    ]
    assert found == [line]


def test_code_in_markdown_is_not_prose():
    text = "Use `anew` or [this](anew.md):\n```sh\nanew\n```\n"
    assert not any("anew" in passage for _, passage in prose("page.md", text))


def test_the_glossary_is_read_by_its_last_column():
    table = "| Term | Do not write |\n| --- | --- |\n| `fp32` | |\n| fix | `cure*`, `mend` |\n"
    assert phrases(table + "\n| `a` | `b` |\n") == ("cure*", "mend")
    assert pattern("cure*").search("It cures them.") and not pattern("mend").search("mended")


def test_the_spelling_is_american():
    command = [sys.executable, "-m", "codespell_lib", "."]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, re.sub(r"(?m)^.*WARNING.*\n", "", done.stdout + done.stderr)
