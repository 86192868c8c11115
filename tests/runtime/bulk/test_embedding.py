"""The bulk job of an Embedder: which outputs get a column, and what is in it."""

import numpy as np
import pytest

from elmo_runtime.bulk.embedding import embedding_job
from elmo_runtime.errors import InputError
from elmo_runtime.text.records import Record


def test_layer_means_fill_one_flat_column(embedder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [Record(where=str(n), tokens=("a", "b")[:n], id=str(n)) for n in range(3)]
    embedding_job(embedder, tmp_path / "out", outputs=["layer_means"]).run(records)
    table = parquet.read_table(next((tmp_path / "out").glob("*.parquet")))
    found = np.array(table["layer_means"].to_pylist(), np.float32).reshape(3, 3, 16)
    expected = embedder.embed([record.tokens for record in records], outputs=["layer_means"])
    assert np.array_equal(found, expected.layer_means)


def test_layers_have_no_column(embedder, tmp_path):
    with pytest.raises(InputError, match="layers has no column of its own; name word_emb"):
        embedding_job(embedder, tmp_path / "out", outputs=["layers"])
