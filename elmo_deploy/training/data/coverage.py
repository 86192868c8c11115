"""How much of a text the vocabulary knows. Every other word is <UNK> to the softmax."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elmo_deploy.training.data.vocabulary import UNKNOWN, Vocabulary, VocabularyError

MUCH_UNKNOWN = 1 / 3  # above this share of unknown words a perplexity is warned about
# Training refuses more than this. The fixture of bilm-tf, 134 tokens, lacks 36 % of its words.
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
        """Count the tokens of the sentences; <UNK> in a text is an unknown word too."""
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
        """Unknown words per word of the text."""
        return self.n_unknown / max(self.n_words, 1)


def require_coverage(coverage: Coverage, vocabulary: Vocabulary, *, limit: float) -> None:
    """Raise VocabularyError where the share of unknown words is above `limit`.

    A model that meets <UNK> almost everywhere predicts it almost everywhere, and reports a low
    perplexity for it.
    """
    if coverage.unknown_share <= limit:
        return
    raise VocabularyError(
        f"{vocabulary.source} does not fit the text: {describe(coverage, vocabulary)}",
        hint="make one from the text by: elmo-deploy vocabulary; or insist with --max-unknown 1",
    )


def describe(coverage: Coverage, vocabulary: Vocabulary) -> str:
    """The share of unknown words and the most frequent one, with an entry that looks like it."""
    return (
        f"{coverage.unknown_share:.1%} of its first {coverage.n_words:,} words are unknown, and the"
        f" most frequent one is {coverage.example!r}{_similar(coverage.example, vocabulary)}"
    )


def warn_of_unknown(share: float) -> None:
    """Log that a perplexity or a score says little where so many words are unknown."""
    if share > MUCH_UNKNOWN:
        logger.warning(
            "%.1f%% of the words are unknown to the vocabulary of the checkpoint: these figures"
            " show how well it predicts %s, not words; check that the text is tokenized and cased"
            " as the training text was",
            100 * share,
            UNKNOWN,
        )


def _similar(word: str, vocabulary: Vocabulary) -> str:
    """An entry of the vocabulary that differs from the word in case or white space only."""
    for line, entry in enumerate(vocabulary.words, start=1):
        if entry.strip().casefold() == word.casefold():
            return f", while line {line} of the vocabulary is {entry!r}"
    return ""
