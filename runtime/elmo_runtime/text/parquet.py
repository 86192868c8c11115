"""Parquet -> one record per row, with the text or the tokens in a column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from elmo_runtime.errors import BackendUnavailableError, InputError
from elmo_runtime.text.json_lines import record
from elmo_runtime.text.records import BadRecord, Record
from elmo_runtime.text.sources import Fields

ROWS_AT_ONCE = 1024


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
    """The rows in order. Raises InputError for a pipe and a file without the columns."""
    if not stream.seekable():
        raise InputError(
            f"{name} is a pipe, but Parquet is read from its end", hint="save it to a file first"
        )
    number = 0
    try:
        for number, row in enumerate(_rows(stream, name, fields), start=1):
            where = f"{name}:{number}"
            try:
                identity = row[fields.id].as_py() if fields.id else None
                yield record(row[fields.text].as_py(), identity, where, fields)
            except ValueError as error:  # a string that is not UTF-8 among them
                yield BadRecord(where, str(error))
    except OSError as error:  # also what pyarrow raises for a damaged page
        yield BadRecord(f"{name}:{number + 1}", f"cannot be read from here to its end: {error}")


def _rows(stream: BinaryIO, name: str, fields: Fields) -> Iterator[dict[str, Any]]:
    """Rows as Arrow scalars, so that a bad value affects one row only."""
    pyarrow, parquet = import_pyarrow()
    wanted = [field for field in (fields.text, fields.id) if field is not None]
    try:
        file = parquet.ParquetFile(stream)
        _refuse_other_columns(name, file.schema_arrow.names, wanted)
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted):
            columns = [(field, batch.column(field)) for field in wanted]
            for row in range(batch.num_rows):
                yield {field: column[row] for field, column in columns}
    except pyarrow.ArrowException as error:
        raise OSError(f"damaged, or not a Parquet file: {error}") from error


def _refuse_other_columns(source: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in names:
            raise InputError(
                f"{source} has no column {name!r}", hint=f"its columns are {', '.join(names)}"
            )
