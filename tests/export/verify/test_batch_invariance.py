"""Guarantee D1 on the graphs: the bits of a sentence do not depend on the rest of the batch."""

import numpy as np
import pytest

from elmo_export.graphs.build import build_bilm, build_joined, build_token_encoder
from elmo_export.graphs.weight_formats import FP32, Int8Weights
from elmo_export.verify.cases import batch_changes, parity_cases
from elmo_runtime.characters import char_ids, trim
from random_models import random_checkpoint, tiny_config

# Kernels divide the widths of real models into blocks, which a tiny model would not show.
PUBLISHED_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
MODELS = {
    "tiny": {},
    "odd": {"projection_dim": 13, "lstm_dim": 37, "filters": ((2, 7), (6, 9))},
    "broad": {"projection_dim": 128, "lstm_dim": 520, "filters": ((1, 32), (7, 64))},
}


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request):
    return random_checkpoint(tiny_config(**MODELS[request.param]))


GRAPHS = {"padded": ("padded", FP32), "packed": ("packed", FP32), "int8": ("packed", Int8Weights())}


@pytest.fixture(params=GRAPHS)
def run(request, checkpoint, session_of):
    """The joined graph as a function of a case and a number of threads."""
    form, weight_format = GRAPHS[request.param]
    model = build_joined(checkpoint, form=form, weight_format=weight_format)

    def run(case, threads=1):
        session = session_of(model, threads)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(case.inputs)), strict=True))

    return run


def ragged_case(config):
    return next(case for case in parity_cases(config) if case.name == "5x7")


def test_order_padding_and_the_rest_of_the_batch_change_no_bit(checkpoint, run):
    case = ragged_case(checkpoint.config)
    together = run(case)
    for changed, numbers in batch_changes(case):
        for name, vectors in run(changed).items():
            assert same_bits(vectors, taken(together[name], name, numbers)), (name, numbers)


def test_a_changed_sentence_is_found(checkpoint, run):
    case = ragged_case(checkpoint.config)
    together = run(case)
    case.inputs["char_ids"][0, 0, 1] ^= 1
    assert not same_bits(run(case)["elmo"], together["elmo"])


def test_the_number_of_threads_changes_no_bit(checkpoint, run):
    case = ragged_case(checkpoint.config)
    one, two = run(case, threads=1), run(case, threads=2)
    assert all(same_bits(one[name], two[name]) for name in one)


def taken(vectors, name, numbers):
    axis = {"elmo": 1, "default": 1, "final_h": 2, "final_c": 2}.get(name, 0)
    return np.take(vectors, numbers, axis=axis)


def same_bits(vectors, expected):
    """Whether common rows are equal and the padding of the longer array is zero."""
    length = min(vectors.shape[-2], expected.shape[-2])
    rest = [array[..., length:, :].any() for array in (vectors, expected)]
    bits = [array[..., :length, :].tobytes() for array in (vectors, expected)]
    return bits[0] == bits[1] and not any(rest)


WORDS = ["", "a", "of", "word", "naïve", "日本語", "antidisestablishmentarianism", "x" * 60]


@pytest.mark.parametrize("filters", [PUBLISHED_FILTERS, ((1, 4), (3, 6), (8, 5))])
@pytest.mark.parametrize("dim", [16, 40])
def test_trimmed_characters_and_other_words_change_no_bit_of_a_word(filters, dim, session_of):
    config = tiny_config(filters=filters, char_embedding_dim=dim)
    session = session_of(build_token_encoder(random_checkpoint(config)), 2)
    rows = char_ids(WORDS)
    (together,) = session.run(None, {"char_ids": rows})
    for number, row in enumerate(rows):
        trimmed = trim(row[None], max(width for width, _ in filters))
        (one_word,) = session.run(None, {"char_ids": trimmed})
        assert one_word.tobytes() == together[number : number + 1].tobytes(), WORDS[number]


def test_words_that_no_sentence_uses_change_no_bit(tiny_checkpoint, session_of):
    session = session_of(build_bilm(tiny_checkpoint, form="packed"))
    rng = np.random.default_rng(0)
    config = tiny_checkpoint.config
    inputs = {
        "word_vectors": rng.standard_normal((9, config.projection_dim), np.float32),
        "word_index": np.array([[0, 3, 4, 1], [0, 5, 1, 0]], np.int32),
        "lengths": np.array([2, 1], np.int32),
        "mix_weights": np.zeros((1, 3), np.float32),
        "gamma": np.ones(1, np.float32),
        "initial_h": np.zeros((2, 2, 2, config.projection_dim), np.float32),
        "initial_c": np.zeros((2, 2, 2, config.lstm_dim), np.float32),
    }
    few = {**inputs, "word_vectors": inputs["word_vectors"][:6]}
    for one, other in zip(session.run(None, inputs), session.run(None, few), strict=True):
        assert one.tobytes() == other.tobytes()
