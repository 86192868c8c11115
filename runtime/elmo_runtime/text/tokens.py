r"""The rule for white space, and sentences from Python -> lists of tokens.

A line of a file is split at any white space, as bilm-tf and AllenNLP do. A string from Python is
split at U+0020, as TF Hub does, and at line ends, which no token keeps. Tokens that a caller has
split are kept as they are. A token with white space inside is reported in one warning.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set

from elmo_runtime.errors import InputError, TextWarning

_SEPARATORS = re.compile("[ \r\n]+")


def split_line(text: str) -> list[str]:
    """A line of a file -> tokens: cut at any white space, as str.split() does."""
    return text.split()


def split_text(text: str) -> list[str]:
    """A string from Python -> tokens: cut at spaces U+0020 and line ends, empty pieces dropped."""
    return [piece for piece in _SEPARATORS.split(text) if piece]


def token_lists(sentences: Iterable[str | Sequence[str]]) -> Iterator[list[str]]:
    """Yield the tokens of each sentence: a string is split, a list of tokens is kept as it is.

    Lists, tuples, arrays and pandas Series of either are accepted, and generators of sentences.
    Warns once, after the last sentence, about tokens with white space. Raises InputError with the
    sentence and the token that is not a string.
    """
    found = _InnerWhiteSpace()
    for number, sentence in enumerate(_checked_sentences(sentences)):
        tokens = split_text(sentence) if isinstance(sentence, str) else _tokens(sentence, number)
        found.look_at(tokens, number)
        yield tokens
    found.report()


class _InnerWhiteSpace:
    """Counts tokens with white space, and remembers the position of the first one."""

    def __init__(self) -> None:
        self._count = 0
        self._first = ""

    def look_at(self, tokens: Sequence[str], sentence: int) -> None:
        """Count the tokens of one sentence."""
        text = "".join(tokens)
        if "".join(text.split()) == text:  # passes in C, which nearly always find none
            return
        for position, token in enumerate(tokens):
            if any(map(str.isspace, token)):
                self._first = self._first or f"{token!r} in sentence {sentence}, token {position}"
                self._count += 1

    def report(self) -> None:
        """Warn if there were any."""
        if self._count:
            warnings.warn(
                f"{self._count} tokens hold white space, the first is {self._first}; strings are"
                " split at spaces and line ends only, tokens are taken as they are: split the"
                " text first, by text.split() for example",
                TextWarning,
                stacklevel=4,
            )


def _checked_sentences(sentences: object) -> Iterable[str | Sequence[str]]:
    kind = type(sentences).__name__
    if isinstance(sentences, str | bytes) or not isinstance(sentences, Iterable):
        raise InputError(
            f"sentences is one {kind}, must hold strings or lists of tokens",
            hint="put a single sentence into a list",
        )
    if isinstance(sentences, set | frozenset):
        raise InputError(f"sentences is a {kind}, which has no order", hint="use a list")
    if isinstance(sentences, Mapping) or hasattr(sentences, "columns"):
        raise InputError(
            f"sentences is a {kind}, whose iteration gives its keys",
            hint='pass the sentences in it: a column, such as frame["text"], or .values()',
        )
    if getattr(sentences, "ndim", 1) == 0:
        raise InputError("sentences is an array without axes", hint="put it into a list")
    return sentences


def _tokens(sentence: object, number: int) -> list[str]:
    unordered = isinstance(sentence, Set | Mapping | bytes | bytearray | memoryview)
    if unordered or not isinstance(sentence, Collection):
        raise InputError(
            f"sentence {number} is a {type(sentence).__name__}, must be a string or a list of"
            " tokens"
        )
    try:
        tokens = list(sentence)
    except TypeError as error:  # an array without axes
        raise InputError(f"sentence {number} holds no tokens: {error}") from error
    for position, token in enumerate(tokens):
        if not isinstance(token, str):
            raise InputError(
                f"sentence {number}, token {position} is a {type(token).__name__}, must be a str"
            )
    return tokens
