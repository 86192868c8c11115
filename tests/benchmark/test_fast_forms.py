"""The table of docs/speed.md comes from the script, which measures both forms."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from elmo_deploy.model import Elmo
from random_models import tiny_config

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "fast_forms.py"


def test_both_forms_are_measured_in_inference_and_in_fine_tuning():
    spec = importlib.util.spec_from_file_location("fast_forms", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    models = {fast: Elmo(tiny_config(), fast=fast, requires_grad=True) for fast in (True, False)}
    results = dict(script.measure(models, 2, 1))
    assert list(results) == ["inference", "fine-tuning"]
    assert all(set(seconds) == {"fast", "equations"} for seconds in results.values())


def test_the_page_shows_the_committed_figures():
    figures = json.loads((ROOT / "benchmarks/results/fast-forms.json").read_text("utf-8"))
    page = (ROOT / "docs/speed.md").read_text("utf-8")
    for row in figures["results"]:
        cells = (row["size"], row["batch"], row["work"])
        seconds = (f"{row[form]:.3f}" for form in ("fast", "equations"))
        assert f"| {' | '.join(map(str, (*cells, *seconds)))} |" in page
