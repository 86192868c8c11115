"""The vectors of a block -> one Parquet file: `id`, `tokens` and one column per output.

A token's vector is a fixed-size list of float16 or float32; a column of token vectors is a list
of those, a column of sentence vectors (`default`) is one. The bytes depend only on the rows and the
version of pyarrow: no time, host or random name is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bulk.arrow import sentence_vectors, token_vectors
from elmo_runtime.text.parquet import import_pyarrow

ROW_GROUP_TOKENS = 8_192  # kept in memory until they are written: 32 MB of float32 of width 1024
ROW_GROUP_ROWS = 1_024


class ParquetPart:
    """Writes rows to `path`; use it in a `with` block, whose end completes the file.

    columns: output name -> width of its vectors. pooled: outputs with one vector per sentence.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Mapping[str, int],
        pooled: Sequence[str],
        dtype: str,
    ) -> None:
        self._pyarrow, parquet = import_pyarrow()
        self._columns, self._pooled, self._dtype = dict(columns), frozenset(pooled), np.dtype(dtype)
        schema = self._schema()
        self._stream: BinaryIO = path.open("wb")
        text = {"id": "zstd", "tokens.list.element": "zstd"}
        self._writer = parquet.ParquetWriter(
            self._stream,
            schema,
            use_dictionary=["tokens.list.element"],
            write_statistics=["id"],
            compression={name: text.get(name, "none") for name in _leaves(schema)},
        )
        self._empty()

    def add(self, id: str, tokens: Sequence[str], vectors: Mapping[str, NDArray[Any]]) -> None:
        """Append one sentence; vectors[name] is (n_tokens, width), or one array if it is pooled."""
        self._ids.append(id)
        self._tokens.append(list(tokens))
        for name, rows in self._vectors.items():
            rows.append(vectors[name])
        self._n_tokens += len(tokens)
        if self._n_tokens >= ROW_GROUP_TOKENS or len(self._ids) >= ROW_GROUP_ROWS:
            self._write_row_group()

    def __enter__(self) -> ParquetPart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_row_group()
            self._writer.close()
            self._stream.close()
            return
        for resource in (self._writer, self._stream):
            with contextlib.suppress(OSError):  # the disk is full, as the first error says
                resource.close()

    def _empty(self) -> None:
        self._ids: list[str] = []
        self._tokens: list[list[str]] = []
        self._vectors: dict[str, list[NDArray[Any]]] = {name: [] for name in self._columns}
        self._n_tokens = 0

    def _write_row_group(self) -> None:
        arrow = self._pyarrow
        arrays = [
            arrow.array(self._ids, arrow.string()),
            arrow.array(self._tokens, arrow.list_(arrow.string())),
        ]
        for name, width in self._columns.items():
            column = sentence_vectors if name in self._pooled else token_vectors
            arrays.append(column(self._vectors[name], width=width, dtype=self._dtype))
        self._writer.write_batch(arrow.RecordBatch.from_arrays(arrays, schema=self._writer.schema))
        self._empty()

    def _schema(self) -> Any:
        arrow = self._pyarrow
        number = arrow.float16() if self._dtype == np.float16 else arrow.float32()
        fields = [("id", arrow.string()), ("tokens", arrow.list_(arrow.string()))]
        for name, width in self._columns.items():
            vector = arrow.list_(number, width)
            fields.append((name, vector if name in self._pooled else arrow.list_(vector)))
        return arrow.schema(fields)


def _leaves(schema: Any) -> list[str]:
    """The names of the Parquet columns with values, such as tokens.list.element."""
    names = []
    for field in schema:
        name, kind = field.name, field.type
        while hasattr(kind, "value_type"):
            name, kind = f"{name}.list.element", kind.value_type
        names.append(name)
    return names
