"""The examples in the docstrings of the public names."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["characters", "outputs", "state"])
def test_the_examples_of_a_module_are_right(module):
    result = doctest.testmod(importlib.import_module(f"elmo_runtime.{module}"))
    assert result.attempted and not result.failed
