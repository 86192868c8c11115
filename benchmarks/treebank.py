"""Tagged sentences of a Universal Dependencies treebank."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PARTS = ("train", "dev", "test")


class Tagged(NamedTuple):
    """The words of a sentence and their universal tags."""

    words: list[str]
    tags: list[str]


Treebank = dict[str, list[Tagged]]


def read_treebank(folder: Path) -> Treebank:
    """The three parts of UD English EWT, from `en_ewt-ud-*.conllu.gz`."""
    return {part: list(_read(folder / f"en_ewt-ud-{part}.conllu.gz")) for part in PARTS}


def _read(path: Path) -> Iterator[Tagged]:
    """Multiword ranges and empty nodes are skipped."""
    words: list[str] = []
    tags: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            columns = line.rstrip("\n").split("\t")
            if columns[0].isdigit():
                words.append(columns[1])
                tags.append(columns[3])
            elif not line.strip() and words:
                yield Tagged(words, tags)
                words, tags = [], []


def tags_of(sentences: list[Tagged]) -> list[str]:
    """The tag of every word, sentence after sentence."""
    return [tag for sentence in sentences for tag in sentence.tags]
