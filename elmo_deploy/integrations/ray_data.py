"""ELMo as an actor of Ray Data; the same class serves Spark's mapInArrow.

See docs/guides/large-inputs.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elmo_runtime import Embedder
from elmo_runtime.bulk.arrow import sentence_vectors, token_vectors
from elmo_runtime.outputs import column_width, is_pooled
from elmo_runtime.text.tokens import split_line


class EmbedText:
    """Adds a column of vectors for each output to Arrow tables with a column of texts or tokens.

    Texts are split at white space, as `elmo-deploy embed` splits the same column of a file.

    Leave at least one CPU without an actor: Ray's reading tasks need it, or all tasks wait.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        text: str = "text",
        outputs: Sequence[str] = ("default",),
        **load: Any,
    ) -> None:
        self._embedder = Embedder.load(bundle, **load)
        self._text, self._outputs = text, outputs

    def __call__(self, table: Any) -> Any:
        """A pyarrow Table or RecordBatch -> the same with columns of float32 vectors."""
        column = table.column(self._text).to_pylist()
        sentences = [split_line(cell) if isinstance(cell, str) else cell for cell in column]
        out = self._embedder.embed(sentences, outputs=self._outputs)
        for name, vectors in out.items():
            width = column_width(name, out.config)
            as_column = sentence_vectors if is_pooled(name) else token_vectors
            table = table.append_column(name, as_column(vectors, width=width, dtype=out.dtype))
        return table
