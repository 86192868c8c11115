"""Tagged sentences: read from a file, counted, and turned into tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PADDING, UNKNOWN = 0, 1  # ids of words; known words begin at 2
LONGEST_WORD = 20  # bytes of a word that the character convolution reads


class Sentence(NamedTuple):
    """Words and their tags."""

    words: list[str]
    tags: list[str]


class Batch(NamedTuple):
    """Some sentences as tensors, padded to the longest."""

    numbers: list[int]  # of the sentences
    words: Tensor  # (batch, length) ids, PADDING past a sentence
    characters: Tensor  # (batch, length, LONGEST_WORD) bytes + 1
    tags: Tensor  # (batch, length)
    mask: Tensor  # (batch, length): True for words


def read_conll(path: Path) -> list[Sentence]:
    """Lines of a word, a tab and a tag; blank lines end sentences."""
    sentences, words, tags = [], [], []
    for line in [*path.read_text("utf-8").splitlines(), ""]:
        if line.strip():
            word, *_, tag = line.split("\t")
            words.append(word)
            tags.append(tag.strip())
        elif words:
            sentences.append(Sentence(words, tags))
            words, tags = [], []
    return sentences


@dataclass(frozen=True)
class Inventory:
    """The words and tags that a tagger knows."""

    words: dict[str, int]  # seen twice or more: the others teach what unknown words do
    tags: list[str]

    @classmethod
    def of(cls, sentences: Iterable[Sentence]) -> Inventory:
        """Lower-case words and tags of the training sentences."""
        counts: Counter[str] = Counter()
        tags: set[str] = set()
        for sentence in sentences:
            counts.update(word.lower() for word in sentence.words)
            tags.update(sentence.tags)
        known = sorted(word for word, count in counts.items() if count > 1)
        return cls({word: number for number, word in enumerate(known, start=2)}, sorted(tags))

    def batch(self, sentences: Sequence[Sentence], numbers: Sequence[int]) -> Batch:
        """The sentences of these numbers; a tag that training never saw counts as the first."""
        chosen = [sentences[number] for number in numbers]
        known = {tag: number for number, tag in enumerate(self.tags)}
        rows = [[self.words.get(word.lower(), UNKNOWN) for word in s.words] for s in chosen]
        words = _padded(torch.tensor(row) for row in rows)
        characters = _padded(torch.stack([_bytes(word) for word in s.words]) for s in chosen)
        tags = _padded(torch.tensor([known.get(tag, 0) for tag in s.tags]) for s in chosen)
        return Batch(list(numbers), words, characters, tags, words != PADDING)


def _padded(rows: Iterable[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)


def _bytes(word: str) -> Tensor:
    raw = [byte + 1 for byte in word.encode()[:LONGEST_WORD]]
    return torch.tensor(raw + [0] * (LONGEST_WORD - len(raw)))


def in_batches(
    sentences: Sequence[Sentence],
    numbers: Sequence[int],
    size: int,
    generator: torch.Generator | None = None,
) -> Iterator[list[int]]:
    """Numbers of similarly long sentences; shuffled by a generator, in order of length without."""
    lengths = torch.tensor([float(len(sentences[number].words)) for number in numbers])
    if generator is not None:
        lengths += 3 * torch.rand(len(lengths), generator=generator)
    groups = lengths.argsort(stable=True).split(size)
    order = range(len(groups))
    if generator is not None:
        order = torch.randperm(len(groups), generator=generator).tolist()
    yield from ([numbers[place] for place in groups[number].tolist()] for number in order)


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(first, past the last, type) of each entity in B-, I- and O tags."""
    found, first = set(), 0
    kinds = [tag.partition("-")[2] for tag in tags]
    for place, tag in enumerate(tags):
        goes_on = tag.startswith("I-") and place > 0 and kinds[place] == kinds[place - 1]
        first = first if goes_on else place
        ends = place + 1 == len(tags) or not (
            tags[place + 1].startswith("I-") and kinds[place + 1] == kinds[place]
        )
        if ends and kinds[place]:
            found.add((first, place + 1, kinds[place]))
    return found


def entity_f1(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> float:
    """F1 in percent over whole entities of the right extent and type."""
    pairs = [(entities(t), entities(g)) for t, g in zip(truth, guesses, strict=True)]
    right = sum(len(t & g) for t, g in pairs)
    total = sum(len(t) + len(g) for t, g in pairs)
    return 200 * right / max(total, 1)


def accuracy(truth: Sequence[Sequence[str]], guesses: Sequence[Sequence[str]]) -> float:
    """Percent of words with the right tag."""
    pairs = [pair for t, g in zip(truth, guesses, strict=True) for pair in zip(t, g, strict=True)]
    return 100 * sum(t == g for t, g in pairs) / max(len(pairs), 1)
