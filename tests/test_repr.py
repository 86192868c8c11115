"""The repr of a result fits on one line."""

from __future__ import annotations

import pytest

from elmo_runtime import Bundle, Embedder, State
from elmo_runtime.mixes import Mixes


@pytest.fixture
def shown(tiny_bundle, tiny_checkpoint):
    """Every public object that a caller holds."""
    with Embedder.load(tiny_bundle) as elmo:
        sentences = ["a b c"] * 500
        mixes = {str(n): ([0.0, 0.0, 1.0], 1.0) for n in range(100)}
        state = State.zeros(elmo.config, 500)
        yield {
            "embedder": elmo,
            "embeddings": elmo.embed(sentences, outputs=["elmo", "default"]),
            "state": elmo.embed(sentences, state=state).state,
            "mixes": Mixes.of(elmo.config, mixes=mixes),
            "bundle": Bundle.open(tiny_bundle),
            "checkpoint": tiny_checkpoint,
        }


def test_no_result_prints_its_numbers(shown):
    """The repr of Embeddings contained every vector, which froze notebooks and filled logs."""
    for name, value in shown.items():
        assert len(repr(value)) < 300 and "array" not in repr(value), name


def test_the_repr_names_the_contents(shown):
    text = "Embeddings of 500 sentences, 1500 tokens: elmo, default (float32)"
    assert repr(shown["embeddings"]) == text
