"""The acceptance script on a machine without a GPU: nothing is invented, everything is listed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from elmo_deploy.benchmark.systems.table import SYSTEMS
from elmo_export.engines.target import local_gpu

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_acceptance.py"


@pytest.fixture(scope="module")
def acceptance():
    spec = importlib.util.spec_from_file_location("gpu_acceptance", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_acceptance"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_acceptance"]


@pytest.mark.skipif(local_gpu() is not None, reason="there is a GPU here: run the script itself")
def test_without_a_gpu_everything_is_listed_with_its_reason(acceptance, tiny_bundle, tmp_path):
    out = tmp_path / "acceptance.json"
    acceptance.main(["-o", str(out), "--bundle", str(tiny_bundle), "--work", str(tmp_path)])
    report = json.loads(out.read_text("utf-8"))
    assert report["found"] == {} and report["machine"]["versions"]
    missing = {entry["what"]: entry["reason"] for entry in report["not_run"]}
    assert {"gpu", "build tensorrt-fp16", "open onnxruntime-cuda-fp32", "latency"} <= set(missing)
    assert all(missing.values())


def test_every_candidate_can_be_timed(acceptance, tiny_bundle, tmp_path):
    findings = acceptance.Findings()
    candidates = [
        *acceptance.build_engines(tiny_bundle, tmp_path, findings),
        *acceptance.onnxruntime_candidates(tiny_bundle),
    ]
    assert len(candidates) == 6
    assert {acceptance.system_of(candidate) for candidate in candidates} <= set(SYSTEMS)


def test_the_checks_find_nothing_wrong_with_the_cpu(acceptance, tiny_bundle, monkeypatch):
    monkeypatch.setattr(acceptance, "BATCHES", (1,))
    findings = acceptance.Findings()
    cpu = acceptance.Candidate("cpu", tiny_bundle, "onnxruntime-cpu", "fp32")
    sentences = [("the", "cat"), ("a", "b", "c")]
    acceptance.examine(cpu, tiny_bundle, sentences, findings)
    assert findings.found["parity cpu"]["elmo"]["max_abs"] == 0
    assert findings.found["invariance cpu"]["differing"] == 0
    assert findings.found["finite cpu"]["not_finite"] == 0


def test_a_difference_is_seen(acceptance):
    expected = np.ones((3, 4))
    found = expected.copy()
    found[1, 2] = -1
    seen = acceptance.differences(found, expected)
    assert (seen["max_abs"], seen["differing"], seen["min_cosine"]) == (2, 1, 0.5)


def test_what_breaks_costs_no_other_figure(acceptance, capsys):
    findings = acceptance.Findings()
    findings.attempt("first", lambda: 1 / 0)
    findings.attempt("second", lambda: {"fine": True})
    assert findings.found == {"second": {"fine": True}}
    assert "ZeroDivisionError" in findings.not_run[0]["reason"]
