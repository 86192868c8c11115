"""The texts of training and evaluation -> sentences, by the readers of all commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from elmo_runtime.errors import InputError, TextError
from elmo_runtime.text import BadRecord, Fields, Record, Source
from elmo_runtime.text.readers import read_source
from elmo_runtime.text.sources import files_of, printable, source_at

Shard = Source | Path  # the suffix of a path decides its format


def find_shards(
    patterns: Sequence[str], *, format: str = "auto", fields: Fields | None = None
) -> tuple[Source, ...]:
    """The files that match the patterns, sorted by path, each once.

    Raises InputError if there is no file, and for standard input and pipes, because training and
    perplexity read a text several times.
    """
    paths = [path for pattern in patterns for _, path in files_of(pattern, format=format)]
    if not all(path and path.is_file() for path in paths):
        raise InputError(
            "standard input and pipes can be read only once, but this text is read several times",
            hint="save it to a file first",
        )
    by_file = {path.resolve(): path for path in sorted((p for p in paths if p), reverse=True)}
    return tuple(source_at(path, format=format, fields=fields) for path in sorted(by_file.values()))


def read_records(shard: Shard) -> Iterator[Record]:
    """Yield the sentences with their names, including empty ones.

    Raises TextError with file and line for a line that cannot be read.
    """
    for record in read_source(_source(shard)):
        if isinstance(record, BadRecord):
            raise TextError(str(record), hint="correct the line or remove it")
        yield record


def read_sentences(shard: Shard) -> Iterator[list[str]]:
    """Yield the tokens of each sentence that is not empty. Raises TextError."""
    return (list(record.tokens) for record in read_records(shard) if record.tokens)


def read_all_sentences(shards: Sequence[Shard]) -> Iterator[list[str]]:
    """Yield the sentences of all files once and in order, without empty ones."""
    for shard in shards:
        yield from read_sentences(shard)


def identity_of(shard: Shard) -> list[Any]:
    """What a resumed run compares: name and size, and for formats with fields the field."""
    source = _source(shard)
    identity = [printable(source.path.name) if source.path else source.name, source.size]
    structured = source.format in ("jsonl", "parquet")
    return [*identity, source.format, source.fields.text] if structured else identity


def bytes_of(shard: Shard) -> int:
    """The size of the file on disk."""
    return _source(shard).size or 0


def _source(shard: Shard) -> Source:
    return shard if isinstance(shard, Source) else source_at(shard)
