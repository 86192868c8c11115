"""Vectors of sentences, one sentence after another -> one file, written atomically.

`.hdf5` has the layout of `allennlp elmo`: one dataset per sentence, named by its number. `.npz` and
`.safetensors` contain two arrays: `vectors` (tokens, ...) of all sentences in sequence, and
`offsets` (sentences + 1): sentence i is vectors[offsets[i]:offsets[i + 1]]. With one vector per
sentence, row i is sentence i.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
import zipfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.errors import InputError
from elmo_runtime.files.atomic import atomic_file, check_file
from elmo_runtime.hdf5 import Hdf5Output, import_h5py

HDF5_SUFFIXES = (".hdf5", ".h5")
SUFFIXES = (*HDF5_SUFFIXES, ".npz", ".safetensors")
DTYPES = ("float32", "float16")
KEYS = ("index", "sentence", "forget")
SENTENCES = "sentence_to_index"  # AllenNLP's dataset: JSON, sentence -> number
_SAFETENSORS_HEADER = 512  # reserved bytes: the shapes in the header are known only at the end


class VectorWriter(Protocol):
    """Accepts one sentence after another and keeps at most one in memory."""

    def add(self, sentence: str, vectors: NDArray[Any]) -> None:
        """Append one sentence: (n, dim), (layers, n, dim) or, if pooled, a single row."""

    def finish(self) -> None:
        """Write the parts that depend on the last sentence."""

    def close(self) -> None:
        """Close the file."""


def check_target(target: Path, *, dtype: str = "float32", keys: str = "index") -> None:
    """Raise InputError or ArtifactError unless such a file can be written; call it before work."""
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{target.name} has no known suffix", hint=f"use {', '.join(SUFFIXES)}")
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}", hint=f"use {' or '.join(DTYPES)}")
    if keys not in KEYS or (keys != "index" and suffix not in HDF5_SUFFIXES):
        raise InputError(f"{suffix} files have no {keys} keys", hint="only .hdf5 files have keys")
    if suffix in HDF5_SUFFIXES:
        import_h5py()
    check_file(target)


@contextlib.contextmanager
def open_writer(
    target: Path, *, row_shape: tuple[int, ...], dtype: str = "float32", keys: str = "index"
) -> Iterator[VectorWriter]:
    """Yield the writer for the suffix; the file appears when the block ends without an error.

    row_shape: the shape of one row, (dim,) or (layers, dim). keys, for HDF5: "index"; "sentence",
    the sentences name the datasets; "forget", numbers, and the sentences are not stored.
    """
    check_target(target, dtype=dtype, keys=keys)
    with atomic_file(target) as scratch:
        writer = _writer_for(target.suffix.lower(), scratch, np.dtype(dtype), row_shape, keys)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


def _writer_for(
    suffix: str, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...], keys: str
) -> VectorWriter:
    if suffix in HDF5_SUFFIXES:
        return _Hdf5Writer(path, dtype, keys)
    if suffix == ".npz":
        return _NpzWriter(path, dtype, row_shape)
    return _SafetensorsWriter(path, dtype, row_shape)


class _Hdf5Writer:
    """The layout of `allennlp elmo`, with its --use-sentence-keys and --forget-sentences."""

    def __init__(self, path: Path, dtype: np.dtype[Any], keys: str) -> None:
        h5py = import_h5py()
        self._file = Hdf5Output(path)
        self._text, self._dataset, self._group = h5py.string_dtype(), h5py.Dataset, h5py.Group
        self._dtype, self._keys = dtype, keys
        self._count = 0
        self._index: dict[str, str] = {}

    def add(self, sentence: str, vectors: NDArray[Any]) -> None:
        key = str(self._count)
        self._count += 1
        if self._keys == "index":
            self._index[sentence] = key  # the last of equal sentences counts, as in AllenNLP
        elif self._keys == "sentence":
            key = self._checked_name(sentence)
            if isinstance(self._file.get(key), self._dataset):
                warnings.warn(f"sentence {self._count} repeats one: skipped", stacklevel=2)
                return
        self._file.add(key, data=vectors.astype(self._dtype, copy=False))

    def _checked_name(self, sentence: str) -> str:
        """The sentence as the name of a dataset; a "/" creates groups, as in AllenNLP.

        f[sentence] must find it again: "a//b" and "a/./b" would be "a/b", and "a" must not be a
        dataset if "a/b" is one.
        """
        parts = sentence.split("/")
        heads = ("/".join(parts[:end]) for end in range(1, len(parts)))
        if (
            "\0" in sentence
            or not {"", "."}.isdisjoint(parts)
            or any(isinstance(self._file.get(head), self._dataset) for head in heads)
            or isinstance(self._file.get(sentence), self._group)
        ):
            raise InputError(
                f"sentence {self._count} cannot name an HDF5 dataset: {sentence[:60]!r}",
                hint="number the sentences instead: omit --use-sentence-keys",
            )
        return sentence

    def finish(self) -> None:
        if self._keys == "index":
            text = json.dumps(self._index)
            self._file.add(SENTENCES, data=[text], shape=(1,), dtype=self._text)

    def close(self) -> None:
        self._file.close()


class _FlatRows:
    """All rows in sequence in `stream`, and the start of each sentence."""

    def __init__(self, stream: IO[bytes], dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        self._stream, self._dtype, self._row_shape = stream, dtype, row_shape
        self._offsets = array("q", [0])

    def add(self, sentence: str, vectors: NDArray[Any]) -> None:
        if vectors.ndim == len(self._row_shape):
            vectors = vectors[None]  # one vector per sentence: one row
        elif vectors.ndim == 3:
            vectors = vectors.transpose(1, 0, 2)  # tokens first: sentences follow each other
        self._stream.write(np.ascontiguousarray(vectors, self._dtype).data)
        self._offsets.append(self._offsets[-1] + len(vectors))

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self._offsets[-1], *self._row_shape)

    def close(self) -> None:
        self._stream.close()


class _SafetensorsWriter(_FlatRows):
    """Space for the header, then the rows, the offsets, and at last the header."""

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        super().__init__(path.open("wb"), dtype, row_shape)
        self._stream.seek(_SAFETENSORS_HEADER)

    def finish(self) -> None:
        end = self._stream.tell() - _SAFETENSORS_HEADER
        self._stream.write(self._offsets)
        header = {
            "vectors": {
                "dtype": {"float16": "F16", "float32": "F32"}[self._dtype.name],
                "shape": self._shape,
                "data_offsets": [0, end],
            },
            "offsets": {
                "dtype": "I64",
                "shape": [len(self._offsets)],
                "data_offsets": [end, end + 8 * len(self._offsets)],
            },
        }
        text = json.dumps(header).encode().ljust(_SAFETENSORS_HEADER - 8)
        self._stream.seek(0)
        self._stream.write(len(text).to_bytes(8, "little") + text)


class _NpzWriter(_FlatRows):
    """The rows are first in an unnamed file next to the target: an .npy begins with its shape."""

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
        super().__init__(spool, dtype, row_shape)
        self._path = path

    def finish(self) -> None:
        self._stream.seek(0)
        layout = {"descr": self._dtype.str, "fortran_order": False, "shape": self._shape}
        with zipfile.ZipFile(self._path, "w") as archive:
            with archive.open("vectors.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, layout)
                shutil.copyfileobj(self._stream, entry, 1 << 20)
            with archive.open("offsets.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(self._offsets, np.int64))
