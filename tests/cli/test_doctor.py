"""doctor tries what it reports."""

import json

import pytest

from elmo_deploy import environment
from elmo_deploy.environment import find_traps, try_onnxruntime


def test_the_cpu_backend_works_here(run):
    answer = run("doctor")
    assert answer.code == 0 and "onnxruntime-cpu" in answer.stdout


def test_json_is_all_that_stdout_holds(run):
    answer = run("doctor", "--json")
    report = json.loads(answer.stdout)
    assert report["usable"] and report["packages"]["onnxruntime"]


def test_no_usable_backend_is_exit_code_4(run, monkeypatch):
    def broken(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(environment, "_compute_exp", broken)
    answer = run("doctor")
    assert answer.code == 4 and "no backend can be used here" in answer.stderr


def test_a_provider_that_is_not_there_is_not_reported_as_working():
    finding = try_onnxruntime("onnxruntime-rocm", "ROCMExecutionProvider", extra="gpu")
    assert not finding.ok


@pytest.mark.parametrize(
    ("cpu", "gpu", "trapped"),
    [("1.32", "1.31", True), ("1.32", None, False), (None, "1.31", False)],
)
def test_both_onnxruntimes_at_once_are_a_trap(cpu, gpu, trapped):
    assert bool(find_traps({"onnxruntime": cpu, "onnxruntime-gpu": gpu})) is trapped
