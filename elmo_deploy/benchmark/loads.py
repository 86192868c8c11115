"""The loads of a benchmark: batches of a fixed shape, and batches as ragged as real text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elmo_deploy.training.data.shards import read_all_sentences
from elmo_runtime.errors import InputError
from elmo_runtime.text import find_sources

Sentence = tuple[str, ...]  # tokens

# Without a text, sentence lengths are lognormal with the mean and spread of English news. Words
# follow Zipf's law over as many types as a corpus of a few million tokens has.
MEAN_LENGTH, LENGTH_SIGMA, MAX_LENGTH = 20.0, 0.6, 100
N_TYPES, ZIPF_EXPONENT = 60_000, 1.05
N_DRAWN = 2000  # sentences; a grid that needs more words repeats them
N_RAGGED = 3  # calls of a ragged load


@dataclass(frozen=True, kw_only=True)
class Load:
    """Consecutive calls; a call is one batch of sentences."""

    name: str
    batch: int
    length: int | None  # tokens of every sentence; None: ragged
    calls: tuple[tuple[Sentence, ...], ...]

    @property
    def n_sentences(self) -> int:
        """Sentences of one pass over the calls."""
        return sum(len(call) for call in self.calls)

    @property
    def n_tokens(self) -> int:
        """Tokens of one pass over the calls, without boundary tokens and padding."""
        return sum(len(sentence) for call in self.calls for sentence in call)


def read_sentences(path: Path) -> list[Sentence]:
    """The sentences of a text in any format that `embed` reads, without empty ones.

    Raises InputError if there is no sentence, and TextError for a line that cannot be read.
    """
    sources = find_sources([str(path)])
    sentences = [tuple(tokens) for tokens in read_all_sentences(sources)]
    if not sentences:
        raise InputError(f"{path} contains no sentence", hint="give a text, one sentence per line")
    return sentences


def drawn_sentences(count: int, generator: np.random.Generator) -> list[Sentence]:
    """Sentences of Zipf-distributed nonsense words with lognormal lengths."""
    vocabulary = _vocabulary(generator)
    ranks = np.arange(1, N_TYPES + 1, dtype=np.float64)
    cumulative = np.cumsum(ranks**-ZIPF_EXPONENT)
    center = np.log(MEAN_LENGTH) - LENGTH_SIGMA**2 / 2  # makes the mean 20, not the median
    lengths = generator.lognormal(center, LENGTH_SIGMA, count).round().clip(1, MAX_LENGTH)
    return [
        tuple(
            vocabulary[rank]
            for rank in cumulative.searchsorted(generator.random(int(length)) * cumulative[-1])
        )
        for length in lengths
    ]


def grid_load(batch: int, length: int, sentences: Sequence[Sentence], *, n_calls: int = 1) -> Load:
    """Batches in which every sentence has `length` tokens: the text, split again."""
    words = itertools.cycle(itertools.chain.from_iterable(sentences))
    calls = tuple(
        tuple(tuple(itertools.islice(words, length)) for _ in range(batch)) for _ in range(n_calls)
    )
    return Load(name=f"{batch} x {length}", batch=batch, length=length, calls=calls)


def ragged_load(
    batch: int, sentences: Sequence[Sentence], *, n_calls: int, by_length: bool = False
) -> Load:
    """Batches of the text's sentences in order; `by_length` sorts the same sentences first."""
    chosen = list(itertools.islice(itertools.cycle(sentences), batch * n_calls))
    if by_length:
        chosen.sort(key=len)
    name = f"{'sorted' if by_length else 'ragged'} {n_calls} x {batch}"
    return Load(
        name=name,
        batch=batch,
        length=None,
        calls=tuple(tuple(chosen[start : start + batch]) for start in range(0, len(chosen), batch)),
    )


def sentences_for(text: Path | None, *, seed: int = 0) -> list[Sentence]:
    """The sentences of a text; without a text, random ones that the seed decides."""
    if text is None:
        return drawn_sentences(N_DRAWN, np.random.default_rng(seed))
    return read_sentences(text)


def standard_loads(
    text: Path | None, *, batches: Sequence[int], lengths: Sequence[int], ragged: int
) -> list[Load]:
    """The grid of batch sizes and lengths, then three ragged batches in text order and sorted.

    Without a text, words and lengths are random. With `ragged` 0, the grid is all.
    """
    sentences = sentences_for(text)
    loads = [grid_load(batch, length, sentences) for length in lengths for batch in batches]
    if ragged:
        loads += [
            ragged_load(ragged, sentences, n_calls=N_RAGGED, by_length=by_length)
            for by_length in (False, True)
        ]
    return loads


def _vocabulary(generator: np.random.Generator) -> list[str]:
    """Distinct lower-case words; frequent words are short, as in natural language."""
    typical = np.minimum(2.3 + 0.55 * np.log(np.arange(1, N_TYPES + 1)), 7.5)
    lengths = generator.lognormal(np.log(typical), 0.35).round().clip(1, 30).astype(int)
    letters = generator.integers(ord("a"), ord("z") + 1, lengths.sum(), dtype=np.uint8)
    drawn = _cut(letters.tobytes().decode("ascii"), lengths.tolist())
    seen: set[str] = set()
    words = []
    for rank, word in enumerate(drawn):
        word = f"{word}{rank}" if word in seen else word
        seen.add(word)
        words.append(word)
    return words


def _cut(text: str, lengths: Sequence[int]) -> Iterator[str]:
    start = 0
    for length in lengths:
        yield text[start : start + length]
        start += length
