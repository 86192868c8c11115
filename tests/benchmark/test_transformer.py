"""The transformer has MiniLM-L6's size, and padding does not change its vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elmo_deploy.benchmark.loads import drawn_sentences
from elmo_deploy.benchmark.subject import Subject
from elmo_deploy.benchmark.systems.transformer import (
    CLS,
    SEP,
    build_transformer,
    open_transformer,
    piece_ids,
    word_pieces,
)
from tolerances import TORCH_FLOAT32

MINILM_WEIGHTS = 22.7e6  # all-MiniLM-L6-v2, without the pooler
SENTENCES = [("the", "cat", "sat"), ("dogs",)]


@pytest.fixture(scope="module")
def runner():
    return open_transformer(Subject(Path("unused"), threads=1))


def test_the_number_of_weights_is_that_of_minilm():
    weights = sum(np.prod(tensor.dims) for tensor in build_transformer().graph.initializer)
    assert weights == pytest.approx(MINILM_WEIGHTS, rel=0.01)


def test_a_word_has_one_point_three_pieces_on_average():
    words = {w for sentence in drawn_sentences(500, np.random.default_rng(0)) for w in sentence}
    assert np.mean([len(word_pieces(word)) for word in words]) == pytest.approx(1.3, abs=0.03)


def test_ids_have_boundary_pieces_and_a_mask():
    ids, mask = piece_ids(SENTENCES)
    assert (ids[:, 0] == CLS).all()
    assert [ids[n, sum(mask[n]) - 1] for n in range(2)] == [SEP, SEP]
    assert mask.sum(axis=1).tolist() == [
        2 + sum(len(word_pieces(word)) for word in sentence) for sentence in SENTENCES
    ]


def test_a_long_sentence_is_cut_to_the_positions_of_the_model():
    ids, _ = piece_ids([("word",) * 600])
    assert ids.shape == (1, 512)


def test_padding_does_not_change_the_vectors(runner):
    batch, alone = runner.embed(SENTENCES), runner.embed(SENTENCES[1:])
    assert abs(batch[1, : alone.shape[1]] - alone[0]).max() < TORCH_FLOAT32


def test_int8_is_close_to_fp32_and_opens_without_a_warning(runner, caplog):
    """The quantization of ONNX Runtime wrote a recommendation to the user's terminal."""
    int8 = open_transformer(Subject(Path("unused"), threads=1), int8=True)
    a, b = (each.embed(SENTENCES)[0].ravel() for each in (runner, int8))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.98
    assert caplog.records == []


def test_the_stages_are_the_ids_and_the_graph(runner):
    assert set(runner.stages(SENTENCES)) == {"characters", "whole graph"}
