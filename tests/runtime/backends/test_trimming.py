"""The probe that decides whether padding after the longest word may be cut."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_export.graphs.build import build_token_encoder
from elmo_runtime.backends.onnxruntime.installation import import_onnxruntime
from elmo_runtime.backends.onnxruntime.trimming import trimming_is_exact
from elmo_runtime.characters import char_ids
from random_models import random_checkpoint, tiny_config

PUBLISHED = ((1, 4), (2, 4), (3, 8), (4, 16), (5, 16), (6, 32), (7, 64))


@pytest.fixture
def encoder_of():
    def make(config):
        model = build_token_encoder(random_checkpoint(config)).SerializeToString()
        session = import_onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
        return lambda ids: session.run(None, {"char_ids": ids})[0]

    return make


def test_the_published_filters_may_be_trimmed(encoder_of):
    config = tiny_config(filters=PUBLISHED, char_embedding_dim=16)
    assert trimming_is_exact(encoder_of(config), config)


def test_an_encoder_that_sees_the_width_may_not(encoder_of):
    config = tiny_config(filters=PUBLISHED, char_embedding_dim=16)
    exact = encoder_of(config)

    def rounds_by_width(ids):
        return exact(ids) * np.float32(1 + ids.shape[1] * 1e-7)

    assert not trimming_is_exact(rounds_by_width, config)


@pytest.mark.parametrize("dim", [4, 16, 50, 64])
def test_what_it_allows_holds_for_other_words(encoder_of, dim):
    """Filters that sum over more than 128 numbers may or may not be exact, by machine."""
    config = tiny_config(filters=PUBLISHED, char_embedding_dim=dim)
    encode = encoder_of(config)
    words = ["a", "der", "Haus", "naïve", "Donaudampfschiff", "ß" * 15]
    ids = char_ids(words)
    trimmed = encode(np.ascontiguousarray(ids[:, :40]))
    if trimming_is_exact(encode, config):
        assert (trimmed == encode(ids)).all()
