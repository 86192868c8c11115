"""The FP16 table of docs/accuracy.md comes from the script, and every model in it passes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "benchmarks" / "results" / "fp16-parity.json"


@pytest.fixture(scope="module")
def script():
    path = ROOT / "benchmarks" / "fp16_parity.py"
    spec = importlib.util.spec_from_file_location("fp16_parity", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models():
    return json.loads(FIGURES.read_text("utf-8"))["models"]


def test_the_page_shows_the_committed_figures(script, models):
    assert script.table(models) in (ROOT / "docs" / "accuracy.md").read_text("utf-8")


def test_every_output_of_every_model_is_within_tolerance(models):
    rows = [row for model in models.values() for row in model["parity"]]
    assert all(row["passed"] and row["min_cosine"] >= 0.9995 for row in rows)


def test_a_model_is_compared_by_the_check_of_export(script, tiny_checkpoint):
    found = script.compare(tiny_checkpoint)
    assert {row["output"] for row in found["parity"]} > set(script.SHOWN)
    assert 0 < found["parity"][0]["max_abs_error"] < 0.01
