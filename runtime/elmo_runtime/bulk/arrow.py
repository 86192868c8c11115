"""Vectors -> Arrow columns: one fixed-size list per sentence, or one per token."""

from __future__ import annotations

from typing import Any

import numpy as np

from elmo_runtime.outputs import Rows
from elmo_runtime.text.parquet import import_pyarrow


def sentence_vectors(vectors: Rows, *, width: int, dtype: Any) -> Any:
    """One vector of `width` numbers per sentence -> fixed_size_list<dtype>[width]."""
    pyarrow, _ = import_pyarrow()
    rows = np.array(list(vectors), dtype).reshape(-1)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows), width)


def token_vectors(vectors: Rows, *, width: int, dtype: Any) -> Any:
    """(tokens, width) per sentence -> list<fixed_size_list<dtype>[width]>."""
    pyarrow, _ = import_pyarrow()
    lengths = [len(rows) for rows in vectors]
    offsets = pyarrow.array(np.cumsum([0, *lengths]), pyarrow.int32())
    rows = np.concatenate([np.empty((0, width), dtype), *vectors], dtype=dtype, casting="unsafe")
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), width)
    return pyarrow.ListArray.from_arrays(offsets, flat)
