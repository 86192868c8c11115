"""Character ids of every word in about fifty languages equal those of the independent mapper."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import oracle
from elmo_runtime.characters import char_ids

KEPT_BYTES = 48  # of a word; begin-word and end-word fill the 50


def universal_declaration(shared_data: Path) -> Iterator[str]:
    """Words of `udhr2`, separated by white space."""
    for path in sorted((shared_data / "udhr2").glob("*.txt")):
        yield from path.read_text("utf-8").split()


def parallel_treebanks(shared_data: Path) -> Iterator[str]:
    """Words of `multilingual-ud-pud`: the FORM column of CoNLL-U."""
    for path in sorted((shared_data / "multilingual-ud-pud").glob("*.conllu.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = (line.split("\t") for line in lines if line[0].isdigit())
            yield from (row[1] for row in rows)


def cut_inside_a_character(word: str) -> bool:
    kept = word.encode()[:KEPT_BYTES]
    return kept.decode(errors="ignore").encode() != kept


@pytest.fixture(scope="module")
def words(shared_data) -> Counter[str]:
    return Counter(universal_declaration(shared_data)) + Counter(parallel_treebanks(shared_data))


def test_the_ids_of_every_word_equal_the_oracle(words):
    distinct = list(words)
    found = char_ids(distinct)
    expected = np.array([oracle.character_ids(word) for word in distinct])
    wrong = [distinct[row] for row in np.flatnonzero((found != expected).any(axis=1))]
    assert len(distinct) > 40_000
    assert wrong == []


def test_the_words_exercise_the_limit_of_48_bytes(words):
    """1.33 % of the words are longer, and 0.066 % are cut inside a character."""
    long = {word: n for word, n in words.items() if len(word.encode()) > KEPT_BYTES}
    inside = {word: n for word, n in long.items() if cut_inside_a_character(word)}
    assert sum(long.values()) / words.total() > 0.01
    assert sum(inside.values()) / words.total() > 0.0005
