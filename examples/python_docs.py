"""The reference manual inside every Python (pydoc's topics) -> one tokenized sentence per line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

TOKEN = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
MARKUP = re.compile(r"[*`_]+|\[\d+\]")
LEAST_WORDS = 0.7  # share of words among the tokens; below it are code, tables and grammars


def write_corpus(path: Path) -> None:
    """Write every distinct sentence of the manual once, in order."""
    sentences = dict.fromkeys(sentence for text in topics.values() for sentence in prose(text))
    path.write_text("".join(f"{sentence}\n" for sentence in sentences), "utf-8")


def prose(text: str) -> Iterator[str]:
    """Yield sentences of at least five tokens that are mostly words."""
    for paragraph in re.split(r"\n\s*\n", text):
        flat = MARKUP.sub("", " ".join(paragraph.split()))
        for sentence in SENTENCE_END.split(flat):
            tokens = TOKEN.findall(sentence)
            words = sum(token[0].isalpha() for token in tokens)
            if len(tokens) >= 5 and words >= LEAST_WORDS * len(tokens):
                yield " ".join(tokens)
