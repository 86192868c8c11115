"""The controls of the demo count what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from elmo_deploy import Elmo

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module", autouse=True)
def examples_are_importable():
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def examples():
    from senses import read_examples

    return read_examples(EXAMPLES / "sentences.tsv")


def test_vectors_of_the_senses_themselves_reach_every_sentence(examples):
    from sense_controls import same_sense

    senses = sorted({example.sense for example in examples})
    one_hot = np.eye(len(senses), dtype=np.float32)
    vectors = one_hot[[senses.index(example.sense) for example in examples]]
    assert same_sense(examples, vectors) == pytest.approx(len(examples))


def test_equal_vectors_reach_what_chance_reaches(examples):
    """The first of equally near neighbors was chosen, and the file is sorted by sense."""
    from sense_controls import chance

    assert chance(examples) == pytest.approx(72 * 5 / 11, abs=1e-3)


def test_the_neighbors_of_a_word_are_the_words_before_and_after(examples):
    from sense_controls import two_neighbors

    vectors = two_neighbors(examples)
    assert (vectors.sum(axis=1) == 2).all()
    after = [i for i, e in enumerate(examples) if e.word == "kind" and "kind of" in _text(e)]
    shared = vectors[after].min(axis=0)
    assert shared.sum() == 1  # "of" after it, and no common word before it


def _text(example) -> str:
    return " ".join(example.tokens)


def test_layer_0_without_context_is_chance(examples, tiny_checkpoint):
    from sense_controls import controls

    found = controls(examples, Elmo.from_checkpoint(tiny_checkpoint))
    assert found["layer 0, which sees no context"] == pytest.approx(found["chance"], abs=1e-3)
    assert set(map(type, found.values())) == {float}
