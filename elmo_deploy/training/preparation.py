"""Checks before the first step: the size of the text and whether the vocabulary fits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from elmo_deploy.training.data.coverage import (
    MAX_UNKNOWN,
    MUCH_UNKNOWN,
    Coverage,
    describe,
    require_coverage,
)
from elmo_deploy.training.data.shards import Shard, bytes_of, read_all_sentences
from elmo_deploy.training.data.vocabulary import Vocabulary
from elmo_deploy.training.options import DEFAULT_NEGATIVES, TrainingOptions
from elmo_runtime.errors import ConfigError

SAMPLE = 50_000  # sentences that are compared with the vocabulary
COUNTED = 64 * 2**20  # bytes of text that are counted to estimate the remainder
FAR = 1.1  # a stated size that is wrong by this factor gives a remark


class Prepared(NamedTuple):
    """The complete options, and remarks about them for the user."""

    options: TrainingOptions
    remarks: tuple[str, ...]


def prepare(
    options: TrainingOptions,
    shards: Sequence[Shard],
    vocabulary: Vocabulary,
    *,
    max_unknown: float = MAX_UNKNOWN,
) -> Prepared:
    """Complete the options from the text and the vocabulary.

    Raises ConfigError for options that contradict the vocabulary. Raises VocabularyError if more
    than the share `max_unknown` of the first words is unknown or if, for a sampled softmax, the
    vocabulary is not sorted by frequency.
    """
    if options.n_tokens_vocab not in (None, len(vocabulary)):
        raise ConfigError(
            f"options: n_tokens_vocab is {options.n_tokens_vocab}, {vocabulary.source} has"
            f" {len(vocabulary)} lines",
            hint="correct it, or leave it out",
        )
    decided = options.for_vocabulary(len(vocabulary))
    coverage = Coverage.measure(vocabulary, islice(read_all_sentences(shards), SAMPLE))
    require_coverage(coverage, vocabulary, limit=max_unknown)
    if decided.sample_softmax:
        vocabulary.require_frequency_order(islice(read_all_sentences(shards), SAMPLE))
    remarks = [
        _remark_on_unknown(coverage, vocabulary),
        _remark_on_softmax(options, decided, len(vocabulary)),
    ]
    n_tokens = options.n_train_tokens
    if n_tokens is None:
        n_tokens = count_tokens(shards)
    else:
        remarks.append(_remark_on_tokens(options, estimate_tokens(shards)))
    complete = replace(decided, n_train_tokens=n_tokens, n_tokens_vocab=len(vocabulary))
    return Prepared(complete, tuple(filter(None, remarks)))


def count_tokens(shards: Sequence[Shard]) -> int:
    """The tokens of all files."""
    return sum(map(len, read_all_sentences(shards)))


def estimate_tokens(shards: Sequence[Shard]) -> int:
    """Estimate the tokens of all files from the tokens per byte of some; exact for small texts.

    It counts complete files, evenly spread over the list, until they add up to 64 MiB.
    """
    sizes = [bytes_of(shard) for shard in shards]
    counted: list[int] = []
    for place in _spread(len(shards)):
        if sum(sizes[counted_place] for counted_place in counted) >= COUNTED:
            break
        counted.append(place)
    n_bytes = sum(sizes[place] for place in counted)
    n_tokens = count_tokens([shards[place] for place in counted])
    return round(n_tokens * sum(sizes) / max(n_bytes, 1))


def _spread(count: int) -> Iterator[int]:
    """Yield every number below `count` once: 0, then the middle, then the quarters, and so on."""
    seen: set[int] = set()
    step = count
    while len(seen) < count:
        places = [place for place in range(0, count, step) if place not in seen]
        seen.update(places)
        yield from places
        step = max(1, step // 2)


def _remark_on_unknown(coverage: Coverage, vocabulary: Vocabulary) -> str:
    if coverage.unknown_share <= MUCH_UNKNOWN:
        return ""
    return (
        f"{vocabulary.source} fits the text badly: {describe(coverage, vocabulary)}; the reported"
        " perplexities show how well <UNK> is predicted; make a vocabulary from the text by:"
        " elmo-deploy vocabulary"
    )


def _remark_on_softmax(options: TrainingOptions, decided: TrainingOptions, size: int) -> str:
    if options.sample_softmax == decided.sample_softmax:
        return ""
    return (
        f"the vocabulary has {size:,} words, not more than the usual {DEFAULT_NEGATIVES:,}"
        " negatives, so training uses the full softmax; --negatives N samples it"
    )


def _remark_on_tokens(options: TrainingOptions, in_text: int) -> str:
    stated = options.n_train_tokens or 0
    if in_text / FAR <= stated <= in_text * FAR:
        return ""
    passes = options.n_epochs * stated / max(in_text, 1)
    return (
        f"options: n_train_tokens is {stated:,}, but the text has about {in_text:,} tokens, so"
        f" n_epochs = {options.n_epochs} reads it {passes:,.4g} times; leave n_train_tokens out to"
        f" have the tokens counted, or set it to {in_text}"
    )
