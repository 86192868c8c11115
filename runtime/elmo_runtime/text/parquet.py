"""Parquet -> one record per row, with the text or the tokens in a column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from elmo_runtime.errors import BackendUnavailableError, InputError
from elmo_runtime.text.json_lines import record
from elmo_runtime.text.records import BadRecord, Record
from elmo_runtime.text.sources import Fields

ROWS_AT_ONCE = 1024
OWN_TOKENS = "tokens"  # the column of the tokens in the Parquet parts that `embed` writes


def import_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet, at their first use."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            "Parquet needs the package pyarrow", hint='pip install "elmo-deploy[parquet]"'
        ) from error
    return pyarrow, pyarrow.parquet


def read(stream: BinaryIO, name: str, fields: Fields) -> Iterator[Record | BadRecord]:
    """The rows in order. Raises InputError for a pipe and for a file without the columns."""
    if not stream.seekable():
        raise InputError(
            f"{name} is a pipe, but Parquet is read from its end", hint="save it to a file first"
        )
    number = 0
    try:
        for number, (text, identity) in enumerate(_rows(stream, name, fields), start=1):
            where = f"{name}:{number}"
            try:
                yield record(text.as_py(), identity.as_py() if fields.id else None, where, fields)
            except ValueError as error:  # including a string that is not UTF-8
                yield BadRecord(where, str(error))
    except OSError as error:  # also what pyarrow raises for a damaged page
        yield BadRecord(f"{name}:{number + 1}", f"cannot be read from here to its end: {error}")


def _rows(stream: BinaryIO, name: str, fields: Fields) -> Iterator[tuple[Any, Any]]:
    """Text and id (or None) of each row as Arrow scalars: a bad value affects one row only."""
    pyarrow, parquet = import_pyarrow()
    try:
        file = parquet.ParquetFile(stream)
        wanted = _columns(name, file.schema_arrow.names, fields)
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted):
            columns = [batch.column(column) for column in wanted]
            for row in range(batch.num_rows):
                values = [column[row] for column in columns]
                yield values[0], values[1] if fields.id else None
    except pyarrow.ArrowException as error:
        raise OSError(f"damaged, or not a Parquet file: {error}") from error


def _columns(source: str, names: Sequence[str], fields: Fields) -> list[str]:
    """The columns to read; a directory that `embed` wrote has its text in `tokens`."""
    text = OWN_TOKENS if fields.text == Fields().text and fields.text not in names else fields.text
    for name in (text, fields.id):
        if name is not None and name not in names:
            raise InputError(
                f"{source} has no column {(fields.text if name == OWN_TOKENS else name)!r}",
                hint=f"its columns are {', '.join(names)}",
            )
    return [text] if fields.id is None else [text, fields.id]
