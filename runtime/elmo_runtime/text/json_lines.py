"""One JSON object per line, with the text or the tokens in a field; blank lines are skipped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from elmo_runtime.text.lines import Line
from elmo_runtime.text.records import BadRecord, Record
from elmo_runtime.text.sources import Fields
from elmo_runtime.text.tokens import split_line


def read(lines: Iterable[Line | BadRecord], fields: Fields) -> Iterator[Record | BadRecord]:
    """One record per line that is not blank."""
    for line in lines:
        if isinstance(line, BadRecord):
            yield line
        elif line.text.strip():
            yield parse(line, fields)


def parse(line: Line, fields: Fields) -> Record | BadRecord:
    """A line -> the record that its object describes."""
    try:
        content = json.loads(line.text)
        if not isinstance(content, dict):
            raise ValueError(f"holds {type(content).__name__}, must be a JSON object")
        if fields.text not in content:
            raise ValueError(f"has no field {fields.text!r}, its fields are {sorted(content)[:10]}")
        return record(content[fields.text], content.get(fields.id or ""), line.where, fields)
    except (ValueError, RecursionError) as error:
        return BadRecord(line.where, str(error))


def record(text: object, identity: object, where: str, fields: Fields) -> Record:
    """The values of two fields -> a record. Raises ValueError for values of other types."""
    name = None if fields.id is None else _identity(identity, fields.id)
    if isinstance(text, str):
        tokens, name = split_line(_encodable(text)), text.strip() if name is None else name
    elif isinstance(text, list) and all(isinstance(token, str) for token in text):
        tokens = [_encodable(token) for token in text]
    else:
        raise ValueError(
            f"{fields.text!r} is {type(text).__name__}, must be a string or a list of strings"
        )
    identified = where if fields.id is None or name is None else name
    return Record(identified, tuple(tokens), where, name)


def _identity(value: object, field: str) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return _encodable(str(value))
    raise ValueError(f"{field!r} is {value!r}, must be a string or an integer")


def _encodable(text: str) -> str:
    r"""JSON can spell "\ud800", which is not a character and which no output file can contain."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"lone surrogate at character {error.start}: not a text") from error
    return text
