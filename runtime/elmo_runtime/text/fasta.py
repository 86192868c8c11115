"""FASTA -> one record per sequence: its residues are the tokens, as in SeqVec.

The id is the first word of the header. Gaps (- and .) and a final * (the stop) are omitted; upper
and lower case are kept. A header without a sequence is an empty sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from elmo_runtime.text.lines import MAX_LINE_BYTES, Line
from elmo_runtime.text.records import BadRecord, Record

_HEADER, _COMMENT = ">", ";"
_GAPS = str.maketrans("", "", "-.")
_NO_RESIDUE = re.compile(r"[^A-Za-z*]")


def read(lines: Iterable[Line | BadRecord]) -> Iterator[Record | BadRecord]:
    """The sequences in order; a sequence with a bad line is a BadRecord."""
    sequence: _Sequence | None = None
    for line in lines:
        if isinstance(line, Line) and line.text.startswith(_HEADER):
            if sequence:
                yield sequence.close()
            sequence = _Sequence(line)
        elif isinstance(line, BadRecord) or _is_sequence(line):
            sequence = sequence or _headless(line)
            sequence.add(line)
    if sequence:
        yield sequence.close()


class _Sequence:
    def __init__(self, header: Line) -> None:
        words = header.text.removeprefix(_HEADER).split()
        self._id = words[0] if words else None
        self._where = header.where
        self._pieces: list[str] = []
        self._size = 0
        self.failure: BadRecord | None = None

    def add(self, line: Line | BadRecord) -> None:
        """Append a line; the error of the first bad one is kept."""
        if isinstance(line, BadRecord):
            self.failure = self.failure or line
            return
        residues = "".join(line.text.split()).translate(_GAPS)
        self._size += len(residues)
        if wrong := _NO_RESIDUE.search(residues):
            reason = f"{wrong[0]!r} is not a residue; use letters only"
            self.failure = self.failure or BadRecord(line.where, reason)
        elif self._size > MAX_LINE_BYTES:
            reason = f"the sequence is longer than {MAX_LINE_BYTES} residues"
            self.failure = self.failure or BadRecord(self._where, reason)
        else:
            self._pieces.append(residues)

    def close(self) -> Record | BadRecord:
        """The complete sequence."""
        if self.failure:
            return self.failure
        residues = "".join(self._pieces).removesuffix("*")
        return Record(self._id or self._where, tuple(residues), self._where, self._id)


def _is_sequence(line: Line) -> bool:
    return bool(line.text.strip()) and not line.text.startswith(_COMMENT)


def _headless(line: Line | BadRecord) -> _Sequence:
    """The text before the first header, reported once."""
    sequence = _Sequence(Line(_HEADER, line.where))
    if isinstance(line, Line):
        reason = f"a FASTA file begins with a header line, {_HEADER}ID"
        sequence.failure = BadRecord(line.where, reason)
    return sequence
