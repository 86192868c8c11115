"""Models in the native library, closed after each test."""

from __future__ import annotations

import pytest

from elmo_runtime.backends.native import library
from native_models import NativeModel


@pytest.fixture
def native():
    """Make a NativeModel; all of them are closed after the test."""
    made = []

    def make(checkpoint, **options):
        made.append(NativeModel(checkpoint, **options))
        return made[-1]

    yield make
    for model in made:
        model.close()


@pytest.fixture
def choose(monkeypatch):
    """Choose an instruction set by its environment variable."""
    return lambda name: monkeypatch.setenv(library.CHOICE, name)
