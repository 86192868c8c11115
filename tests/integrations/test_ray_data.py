"""The actor of Ray Data, without Ray: Arrow in, Arrow with vectors out."""

import numpy as np
import pytest

from elmo_deploy.integrations.ray_data import EmbedText

pyarrow = pytest.importorskip("pyarrow")

TEXTS = ["the cat sat", "", "dogs"]


@pytest.fixture(scope="module")
def actor(tiny_bundle):
    return EmbedText(tiny_bundle, outputs=("elmo", "default"), backend="onnxruntime-cpu")


@pytest.mark.parametrize("make", [pyarrow.table, pyarrow.record_batch])
@pytest.mark.parametrize("texts", [TEXTS, [text.split() for text in TEXTS]])
def test_a_batch_gains_the_vectors_of_the_library(actor, make, texts):
    out = actor(make({"id": [1, 2, 3], "text": texts}))
    expected = actor._embedder.embed(texts, outputs=("elmo", "default"))
    assert (type(out), out.schema.names) == (type(make({})), ["id", "text", "elmo", "default"])
    for row, vectors, pooled in zip(out.to_pylist(), *expected.values(), strict=True):
        np.testing.assert_array_equal(np.array(row["elmo"], np.float32).reshape(-1, 16), vectors)
        np.testing.assert_array_equal(row["default"], pooled)


def test_a_batch_of_nothing_keeps_its_columns(actor):
    out = actor(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}))
    assert (out.num_rows, out.schema.names) == (0, ["text", "elmo", "default"])
