"""One sentence per line, its tokens separated by white space; a blank line is an empty sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from elmo_runtime.text.lines import Line
from elmo_runtime.text.records import BadRecord, Record
from elmo_runtime.text.tokens import split_line


def read(lines: Iterable[Line | BadRecord]) -> Iterator[Record | BadRecord]:
    """One record per line, so that results line up with the input."""
    for line in lines:
        yield line if isinstance(line, BadRecord) else parse(line)


def parse(line: Line) -> Record:
    """A line -> its tokens; its id is its file and number."""
    return Record(line.where, tuple(split_line(line.text)), line.where, line.text.strip())
