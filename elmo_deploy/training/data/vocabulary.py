"""The vocabulary of the softmax: counted from text, read from and written to `vocab.txt`.

One token per line: <S>, </S>, <UNK>, then words by decreasing count. Characters do not matter here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elmo_runtime.errors import ArtifactError, InputError
from elmo_runtime.files.atomic import atomic_file
from elmo_runtime.text.vocabulary import read_words, words_as_bytes

BEGIN, END, UNKNOWN = "<S>", "</S>", "<UNK>"
MARKS = (BEGIN, END, UNKNOWN)
N_FREQUENT = 10  # words whose lines show whether a vocabulary is sorted by frequency


class VocabularyError(ArtifactError):
    """A vocabulary cannot be used for training."""


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids, which are line numbers from 0; messages name the `source`."""

    words: tuple[str, ...]
    source: str = "the vocabulary"
    ids: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a vocabulary without one of the special tokens or with a word twice."""
        ids: dict[str, int] = {}
        for line, word in enumerate(self.words, start=1):
            if not word.strip():
                raise VocabularyError(f"{self.source}:{line}: no token", hint="one token per line")
            if ids.setdefault(word, line - 1) != line - 1:
                raise VocabularyError(
                    f"{self.source}:{line}: {word!r} is already in line {ids[word] + 1}"
                )
        missing = [mark for mark in MARKS if mark not in ids]
        if missing:
            raise VocabularyError(
                f"{self.source} lacks {', '.join(missing)}",
                hint="its first lines must be <S>, </S>, <UNK>; or make one by:"
                " elmo-deploy vocabulary",
            )
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def unknown(self) -> int:
        """The id of <UNK>, which stands for every word outside the vocabulary."""
        return self.ids[UNKNOWN]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read `vocab.txt` or `vocab.txt.gz` as bilm-tf does, without white space around a word.

        Raises VocabularyError or TextError with file and line.
        """
        return cls(read_words(path), source=str(path))

    @classmethod
    def count(
        cls, sentences: Iterable[Sequence[str]], *, max_size: int | None = None, min_count: int = 1
    ) -> Vocabulary:
        """The vocabulary of a text: special tokens, then words by decreasing count.

        Words of equal count keep the order of the text. `max_size` includes the special tokens.
        Words that occur fewer than `min_count` times are left out.
        """
        if max_size is not None and max_size <= len(MARKS):
            raise InputError(f"max_size is {max_size}, must exceed the {len(MARKS)} special tokens")
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(sentence)
        for mark in MARKS:
            counts.pop(mark, None)
        room = None if max_size is None else max_size - len(MARKS)
        words = (word for word, count in counts.most_common(room) if count >= min_count)
        return cls((*MARKS, *words))

    def write(self, path: Path) -> None:
        """Write one token per line, atomically; a name that ends in .gz is compressed."""
        with atomic_file(path) as scratch:
            scratch.write_bytes(words_as_bytes(self.words, path))

    def require_frequency_order(self, sentences: Iterable[Sequence[str]]) -> None:
        """Raise VocabularyError if one of the most frequent words of the text is in a late line.

        Sampled softmax draws low ids often and corrects for it. With an alphabetical vocabulary
        the draws and their correction concern the wrong words.
        """
        counts = Counter(word for sentence in sentences for word in sentence)
        total = counts.total()
        for word, count in counts.most_common(N_FREQUENT):
            if self.ids.get(word, 0) > len(self) // 10 + 10 * N_FREQUENT:
                raise VocabularyError(
                    f"{self.source}:{self.ids[word] + 1}: {word!r} is {count / total:.1%} of the"
                    f" first {total} tokens of the text but is in line {self.ids[word] + 1} of"
                    f" {len(self)}; the vocabulary is not sorted by decreasing frequency",
                    hint="sort it, or make one by: elmo-deploy vocabulary",
                )
