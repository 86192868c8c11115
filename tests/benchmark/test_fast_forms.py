"""The script of the fast forms measures both forms of every kind of work."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from elmo_deploy.model import Elmo
from random_models import tiny_config

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fast_forms.py"


def test_both_forms_are_measured_in_inference_and_in_fine_tuning():
    spec = importlib.util.spec_from_file_location("fast_forms", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    models = {fast: Elmo(tiny_config(), fast=fast, requires_grad=True) for fast in (True, False)}
    results = dict(script.measure(models, 2, 1))
    assert list(results) == ["inference", "fine-tuning"]
    assert all(set(seconds) == {"fast", "equations"} for seconds in results.values())
