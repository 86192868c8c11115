"""Vectors -> Arrow columns: fixed-size lists, or lists of them where a sentence has many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.text.parquet import import_pyarrow


def sentence_vectors(vectors: Sequence[NDArray[Any]], *, width: int, dtype: Any) -> Any:
    """One (width,) vector a sentence -> fixed_size_list<dtype>[width]."""
    pyarrow, _ = import_pyarrow()
    rows = np.array(vectors, dtype).reshape(-1)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows), width)


def token_vectors(vectors: Sequence[NDArray[Any]], *, width: int, dtype: Any) -> Any:
    """A sentence's (tokens, width) vectors -> list<fixed_size_list<dtype>[width]>."""
    pyarrow, _ = import_pyarrow()
    lengths = [len(rows) for rows in vectors]
    offsets = pyarrow.array(np.cumsum([0, *lengths]), pyarrow.int32())
    rows = np.concatenate([np.empty((0, width), dtype), *vectors], dtype=dtype, casting="unsafe")
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), width)
    return pyarrow.ListArray.from_arrays(offsets, flat)
