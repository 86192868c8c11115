"""`elmo-deploy build-engine`: its table, its second run, and missing libraries."""

import json
import shutil
import sys

import pytest

from elmo_runtime.backends.tensorrt import library as trt_library


@pytest.fixture
def own_bundle(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return shutil.copytree(bundle, tmp_path / "bundle")


@pytest.fixture
def no_library(monkeypatch):
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    trt_library._load.cache_clear()
    yield
    trt_library._load.cache_clear()


def test_an_engine_is_built_once(run, own_bundle):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: no real engines")
    words = ["build-engine", own_bundle, "--precision", "fp32", "--compute-capability", "8.6"]
    words += ["--length", "16", "--batch", "1:2:4"]
    first = run(*words, "--json")
    assert first.code == 0, first.stderr
    report = json.loads(first.stdout)
    assert report["built"] and [plan["plan"] for plan in report["plans"]] == [
        "token_encoder",
        "bilm-16",
    ]
    second = run(*words)
    assert second.code == 0 and "nothing to do" in second.stdout
    assert report["digest"] in second.stdout and "not executed" in second.stdout


def test_without_a_library_the_hint_names_the_extras(run, own_bundle, no_library):
    answer = run("build-engine", own_bundle)
    assert answer.code == 4 and answer.stdout == ""
    error, hint = answer.stderr.splitlines()
    assert error.startswith("error: neither tensorrt nor tensorrt_rtx")
    assert 'pip install "elmo-deploy[tensorrt]"' in hint
    assert 'pip install "elmo-deploy[tensorrt-rtx]"' in hint


@pytest.mark.parametrize("compiler", ["tensorrt", "tensorrt-rtx"])
def test_the_requested_compiler_is_the_one_in_the_hint(run, own_bundle, no_library, compiler):
    answer = run("build-engine", own_bundle, "--compiler", compiler)
    assert answer.code == 4
    assert answer.stderr.splitlines()[1] == f'hint: pip install "elmo-deploy[{compiler}]"'


@pytest.mark.parametrize(
    "words",
    [
        ["--length", "8:16"],
        ["--length", "x"],
        ["--compiler", "cuda"],
        ["--length", "0"],  # Raised ZeroDivisionError.
        ["--batch", "0"],
        ["--precision", "int8"],  # The hint asked for an int8 export, which has no engines.
        ["--precision", "fp8"],
    ],
)
def test_an_invalid_option_is_a_usage_error(run, own_bundle, words):
    answer = run("build-engine", own_bundle, *words)
    assert answer.code == 2 and words[1] in answer.stderr


def test_a_default_export_can_be_compiled(run, own_bundle):
    """`export` writes fp32 and `build-engine` required fp16, so the defaults failed together."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: no real engines")
    words = ["--compute-capability", "8.6", "--length", "16", "--batch", "1:2:4"]
    answer = run("build-engine", own_bundle, *words)
    assert answer.code == 0, answer.stderr
    assert "--precision fp16" in answer.stdout
