"""CoNLL-U -> one record per sentence: the FORM column of its syntactic words.

Ranges of multiword tokens (1-2) and empty nodes (1.1) are skipped, because their words have
separate lines or are not in the text. The id is the comment `# sent_id = ...`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from elmo_runtime.text.lines import Line
from elmo_runtime.text.records import BadRecord, Record

_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
_SENT_ID = re.compile(r"#\s*sent_id\s*=\s*(.*\S)")


def read(lines: Iterable[Line | BadRecord]) -> Iterator[Record | BadRecord]:
    """The sentences in order; a sentence with a bad line is a BadRecord."""
    sentence = _Sentence()
    for line in lines:
        if isinstance(line, BadRecord) or line.text.strip():
            sentence.add(line)
            continue
        yield from sentence.close()
        sentence = _Sentence()
    yield from sentence.close()


class _Sentence:
    def __init__(self) -> None:
        self._id: str | None = None
        self._where = ""
        self._forms: list[str] = []
        self._failure: BadRecord | None = None

    def add(self, line: Line | BadRecord) -> None:
        """Add a comment or a word; the error of the first bad line is kept."""
        if isinstance(line, BadRecord):
            self._failure = self._failure or line
            return
        self._where = self._where or line.where
        if line.text.startswith("#"):
            if found := _SENT_ID.match(line.text):
                self._id = found[1]
            return
        columns = line.text.split("\t")
        if len(columns) < 2 or not _ID.fullmatch(columns[0]) or not columns[1].strip():
            reason = f"{line.text[:60]!r} is not a CoNLL-U word: ID, tab, FORM, tab, ..."
            self._failure = self._failure or BadRecord(line.where, reason)
        elif columns[0].isdigit():
            self._forms.append(columns[1].strip())

    def close(self) -> Iterator[Record | BadRecord]:
        """The sentence, unless there are only comments."""
        if self._failure:
            yield self._failure
        elif self._forms:
            yield Record(self._id or self._where, tuple(self._forms), self._where, self._id)
