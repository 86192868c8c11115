"""All models here are tiny."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def tiny_models_need_one_thread(one_thread):
    yield
