"""Words with several tags in a treebank, and how often the nearest other use has the same tag.

This stands in for word senses: the treebank does not label them, but the tag of "left", "saw" or
"that" follows from the sentence as its sense does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from treebank import Treebank

LEAST = 20  # occurrences of a tag in train that make it one of the word's tags
MOST = 500  # occurrences of a word in train to choose the nearest from, the first ones

Similarity = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]]


class Homograph(NamedTuple):
    """Where a word occurs, as numbers of tokens, and its tags there."""

    word: str
    train: NDArray[np.intp]
    train_tags: NDArray[np.str_]
    test: NDArray[np.intp]
    test_tags: NDArray[np.str_]


def homographs(treebank: Treebank) -> list[Homograph]:
    """The words with two tags or more, each at least `LEAST` times in train."""
    places = {part: _places(treebank, part) for part in ("train", "test")}
    found = []
    for word, train in sorted(places["train"].items()):
        counts = Counter(tag for _, tag in train)
        kept = {tag for tag, count in counts.items() if count >= LEAST}
        test = [pair for pair in places["test"].get(word, []) if pair[1] in kept]
        if len(kept) > 1 and test:
            train = [pair for pair in train if pair[1] in kept][:MOST]
            found.append(Homograph(word, *_arrays(train), *_arrays(test)))
    return found


def _places(treebank: Treebank, part: str) -> dict[str, list[tuple[int, str]]]:
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, (word, tag) in enumerate(_tokens(treebank, part)):
        places[word.lower()].append((number, tag))
    return places


def _tokens(treebank: Treebank, part: str) -> Iterator[tuple[str, str]]:
    for sentence in treebank[part]:
        yield from zip(sentence.words, sentence.tags, strict=True)


def _arrays(pairs: list[tuple[int, str]]) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    return np.array([n for n, _ in pairs]), np.array([tag for _, tag in pairs])


def share_right(words: list[Homograph], similarity: Similarity) -> float:
    """Percent of test occurrences whose nearest training occurrences have the same tag.

    Equally near ones count by the share of them that has the same tag.
    """
    right, total = 0.0, 0
    for one in words:
        scores = similarity(one.test, one.train)
        ties = scores >= scores.max(axis=1, keepdims=True) - 1e-6
        same = one.test_tags[:, None] == one.train_tags
        right += float(((ties & same).sum(axis=1) / ties.sum(axis=1)).sum())
        total += len(one.test)
    return round(100 * right / total, 2)


def most_frequent(words: list[Homograph]) -> float:
    """Percent right of the most frequent tag of each word in train."""
    right = sum(
        int((one.test_tags == Counter(one.train_tags.tolist()).most_common(1)[0][0]).sum())
        for one in words
    )
    return round(100 * right / sum(len(one.test) for one in words), 2)


def by_cosine(test: NDArray[np.float16], train: NDArray[np.float16]) -> Similarity:
    """Cosines of vectors (tokens, 2P), after the mean of the word in train is subtracted."""

    def similarity(queries: NDArray[np.intp], memory: NDArray[np.intp]) -> NDArray[np.float32]:
        known = train[memory].astype(np.float32)
        mean = known.mean(axis=0)
        return _unit(test[queries].astype(np.float32) - mean) @ _unit(known - mean).T

    return similarity


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def by_neighbors(treebank: Treebank) -> Similarity:
    """How many of the two neighboring words are the same: 0, 1 or 2."""
    train, test = (_neighbors(treebank, part) for part in ("train", "test"))

    def similarity(queries: NDArray[np.intp], memory: NDArray[np.intp]) -> NDArray[np.float32]:
        equal = test[queries][:, None] == train[memory][None]
        return np.asarray(equal.sum(axis=2), np.float32)

    return similarity


def _neighbors(treebank: Treebank, part: str) -> NDArray[np.str_]:
    """(tokens, 2): the lower-case words before and after each token."""
    pairs = []
    for words, _ in treebank[part]:
        marked = ["<end>", *(word.lower() for word in words), "<end>"]
        pairs += list(zip(marked, marked[2:], strict=False))
    return np.array(pairs)
