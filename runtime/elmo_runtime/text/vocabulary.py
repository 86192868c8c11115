"""`vocab.txt`, plain or .gz -> words, by the rule of bilm-tf; and back."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from elmo_runtime.text.lines import read_lines

_NO_WORD = "!!!MAXTERMID"  # a token of old vocabularies, which bilm-tf skips


def read_words(path: Path) -> tuple[str, ...]:
    """One word per line, without the white space around it. Raises TextError."""
    lines = (line.strip() for line in read_lines(path))
    return tuple(line for line in lines if line != _NO_WORD)


def words_as_bytes(words: Sequence[str], path: Path) -> bytes:
    """The content of a vocabulary file with this name, compressed if it ends in .gz."""
    content = "".join(f"{word}\n" for word in words).encode()
    return gzip.compress(content, mtime=0) if path.suffix.lower() == ".gz" else content
