"""A tiny real bundle, and a backend that records its calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from elmo_runtime.backends.base import BackendOptions
from elmo_runtime.backends.onnxruntime.backend import open_cpu
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.embedder import Embedder


@pytest.fixture(scope="session")
def bundle(tiny_bundle) -> Path:
    """A random two-layer ELMo in both forms; never written to."""
    return tiny_bundle


@pytest.fixture(scope="session")
def embedder(bundle):
    """An embedder of this bundle on the CPU, from the zero state."""
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        yield elmo


class Spy:
    """The real backend with a record of its inputs; `trouble` may raise instead."""

    def __init__(self, bundle: Path, trouble=lambda rows: None) -> None:
        self._backend = open_cpu(Bundle.open(bundle), "fp32", BackendOptions(threads=1))
        self.name, self.precision = self._backend.name, self._backend.precision
        self.longest = self._backend.longest
        self._trouble = trouble
        self.words: list[int] = []  # words of each call
        self.batches: list[tuple[int, int]] = []  # (batch, marked length) of each call
        self.outputs: list[tuple[str, ...]] = []
        self.closed = 0

    def encode_words(self, char_ids):
        self.words.append(len(char_ids))
        return self._backend.encode_words(char_ids)

    def run_bilm(self, inputs, outputs: Sequence[str], *, half: bool = False):
        self.batches.append(inputs.word_index.shape)
        self.outputs.append(tuple(outputs))
        self._trouble(len(inputs.lengths))
        return self._backend.run_bilm(inputs, outputs, half=half)

    def close(self) -> None:
        self.closed += 1
        self._backend.close()


@pytest.fixture
def spy_on(bundle):
    """Make a Spy and an Embedder over it, with the options of the Embedder."""
    made = []

    def make(trouble=lambda rows: None, **options) -> tuple[Spy, Embedder]:
        spy = Spy(bundle, trouble)
        made.append(Embedder(Bundle.open(bundle), spy, **options))
        return spy, made[-1]

    yield make
    for embedder in made:
        embedder.close()
