"""Graphs of random models as sessions, and their distance from the reference."""

from __future__ import annotations

import onnxruntime
import pytest

from elmo_deploy.model.reference import reference
from elmo_export.verify.cases import sentence_inputs

SENTENCES = [
    ["the", "cat", "sat", "on", "the", "mat"],
    [],
    ["naïve", "日本語", "x" * 60, "", "!"],
    ["word"],
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"],
]


@pytest.fixture(autouse=True, scope="module")
def small_torch(one_thread):
    return one_thread


@pytest.fixture(scope="session")
def sentences():
    return SENTENCES


@pytest.fixture(scope="session")
def session_of():
    """A function: model and number of threads -> session on the CPU."""

    def make(model, threads=1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    return make


@pytest.fixture(scope="session")
def joined_difference(session_of):
    """A function: joined graph and checkpoint -> the largest difference per output."""

    def measure(model, checkpoint):
        inputs = sentence_inputs(checkpoint.config, SENTENCES)
        session = session_of(model)
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, inputs), strict=True))
        expected = reference(checkpoint)(**inputs)
        assert found.keys() == expected.keys()
        return {name: abs(found[name] - expected[name]).max() for name in expected}

    return measure
