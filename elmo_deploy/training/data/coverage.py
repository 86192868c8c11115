"""The share of a text that the vocabulary knows. Every other word is <UNK> to the softmax."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elmo_deploy.training.data.vocabulary import UNKNOWN, Vocabulary, VocabularyError

MUCH_UNKNOWN = 1 / 3  # a larger share of unknown words gives a warning with every perplexity
# Training refuses a larger share. In the fixture of bilm-tf (134 tokens) 36 % are unknown.
MAX_UNKNOWN = 2 / 3


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coverage:
    """The words of a text, how many of them are unknown, and the most frequent unknown one."""

    n_words: int
    n_unknown: int
    example: str = ""

    @classmethod
    def measure(cls, vocabulary: Vocabulary, sentences: Iterable[Sequence[str]]) -> Coverage:
        """Count the tokens of the sentences. <UNK> in a text counts as an unknown word."""
        n_words = 0
        unknown: Counter[str] = Counter()
        known = vocabulary.ids.keys() - {UNKNOWN}
        for sentence in sentences:
            n_words += len(sentence)
            unknown.update(word for word in sentence if word not in known)
        example = max(unknown, key=unknown.__getitem__, default="")
        return cls(n_words, unknown.total(), example)

    @property
    def unknown_share(self) -> float:
        """The number of unknown words divided by the number of words."""
        return self.n_unknown / max(self.n_words, 1)


def require_coverage(coverage: Coverage, vocabulary: Vocabulary, *, limit: float) -> None:
    """Raise VocabularyError if the share of unknown words exceeds `limit`.

    A model that reads <UNK> almost everywhere predicts it almost everywhere, and then reports a
    low perplexity.
    """
    if coverage.unknown_share <= limit:
        return
    raise VocabularyError(
        f"{vocabulary.source} does not fit the text: {describe(coverage, vocabulary)}",
        hint="make one from the text by: elmo-deploy vocabulary; or accept it by --max-unknown 1",
    )


def describe(coverage: Coverage, vocabulary: Vocabulary) -> str:
    """The share of unknown words and the most frequent one, with an entry that looks like it."""
    return (
        f"{coverage.unknown_share:.1%} of its first {coverage.n_words:,} words are unknown, and the"
        f" most frequent one is {coverage.example!r}{_similar(coverage.example, vocabulary)}"
    )


def warn_of_unknown(share: float) -> None:
    """Log a warning if so many words are unknown that a perplexity or a score means little."""
    if share > MUCH_UNKNOWN:
        logger.warning(
            "%.1f%% of the words are unknown to the vocabulary of the checkpoint: these figures"
            " show how well it predicts %s, not words; check that the text is tokenized and cased"
            " as the training text was",
            100 * share,
            UNKNOWN,
        )


def _similar(word: str, vocabulary: Vocabulary) -> str:
    """Describe an entry of the vocabulary that differs only in case or white space."""
    for line, entry in enumerate(vocabulary.words, start=1):
        if entry.strip().casefold() == word.casefold():
            return f", while line {line} of the vocabulary is {entry!r}"
    return ""
