"""`elmo-deploy doctor` runs every backend that it reports."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from elmo_deploy import environment
from elmo_deploy.environment import find_traps, try_onnxruntime
from elmo_runtime.backends.onnxruntime.installation import missing_cuda_libraries
from elmo_runtime.errors import BackendUnavailableError


def test_the_cpu_backend_works_here(run):
    answer = run("doctor")
    assert answer.code == 0 and "onnxruntime-cpu" in answer.stdout


def test_stdout_contains_only_json(run):
    answer = run("doctor", "--json")
    report = json.loads(answer.stdout)
    assert report["usable"] and report["packages"]["onnxruntime"]


def test_no_usable_backend_is_exit_code_4(run, monkeypatch):
    def broken(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(environment, "_compute_exp", broken)
    monkeypatch.setenv("ELMO_DEPLOY_NATIVE_ISA", "none")
    answer = run("doctor")
    assert answer.code == 4 and "no backend can be used here" in answer.stderr


def test_a_missing_provider_is_not_reported_as_working():
    finding = try_onnxruntime("onnxruntime-rocm", "ROCMExecutionProvider", extra="gpu")
    assert not finding.ok


@pytest.mark.parametrize(
    ("cpu", "gpu", "trapped"),
    [("1.32", "1.31", True), ("1.32", None, False), (None, "1.31", False)],
)
def test_two_installed_onnxruntimes_are_reported(cpu, gpu, trapped):
    assert bool(find_traps({"onnxruntime": cpu, "onnxruntime-gpu": gpu})) is trapped


DAMAGED = {
    "an empty folder": {},
    "no library in it": {"__init__.py": "from onnxruntime.capi import nothing\n"},
    "another error": {"__init__.py": "raise SystemError('initialization failed')\n"},
    "an attribute that is gone": {"__init__.py": "import sys\nsys.no_such_name\n"},
    "half of the names": {"__init__.py": "__version__ = '1.0'\n"},
}


# Python prefers an installed package to an empty directory, so the test imports the directory.
WITH_A_FOLDER = """
import pathlib, sys, types
for folder in map(pathlib.Path, sys.argv[1:]):
    module = sys.modules[folder.name] = types.ModuleType(folder.name)
    module.__path__ = [str(folder)]
from elmo_deploy.cli import main
main(["doctor", "--json"])
"""


@pytest.mark.parametrize("package", ["onnxruntime", "tensorrt", "tensorrt_rtx", "cuda"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_installation_is_reported(tmp_path, package, content):
    """The remains of an uninstalled package ended `doctor` with AttributeError or SystemError."""
    (tmp_path / package).mkdir()
    for name, text in content.items():
        (tmp_path / package / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_FOLDER, *([] if content else [tmp_path / package])],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": ":".join([str(tmp_path), *sys.path]),
            "ELMO_DEPLOY_NATIVE_ISA": "none",  # or the native backend would be usable
        },
    )
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    findings = {finding["subject"]: finding for finding in report["backends"]}
    if package != "onnxruntime":
        assert done.returncode == 0
        return
    assert done.returncode == 4
    assert "onnxruntime" in findings["onnxruntime-cpu"]["detail"]
    assert "--force-reinstall onnxruntime" in findings["onnxruntime-cpu"]["hint"]


def test_missing_cuda_libraries_are_named(tmp_path, monkeypatch):
    """`doctor` said "onnxruntime took CPUExecutionProvider instead" and not which file is missing.

    onnxruntime prints the CUDA libraries that it cannot load, but not that cuDNN is missing.
    """
    provider = tmp_path / "capi" / "libonnxruntime_providers_cuda.so"
    provider.parent.mkdir()
    provider.write_bytes(b"\x7fELF\0libcudart.so.99\0libm.so.6\0")

    def preload_dlls():
        print("Failed to load x: libcublas.so.99: cannot open shared object file: No such file")

    library = SimpleNamespace(__file__=str(tmp_path / "__init__.py"), preload_dlls=preload_dlls)
    missing = missing_cuda_libraries(library)
    assert {"libcublas.so.99", "libcudart.so.99"} <= set(missing) and "libm.so.6" not in missing
    with pytest.raises(BackendUnavailableError, match=r"libcublas\.so\.99, libcudart\.so\.99"):
        environment._compute_exp(library_of_doctor(library), "CUDAExecutionProvider")


def library_of_doctor(library):
    """The fake module with everything that `doctor` reads before it looks for libraries."""
    return SimpleNamespace(**vars(library), SessionOptions=SimpleNamespace)


@pytest.mark.parametrize(
    ("is_built", "compiler", "expected"),
    [
        (False, None, "install g++"),
        (False, "/usr/bin/g++", "pip install"),
        (True, None, "pip install"),
    ],
)
def test_the_hint_fits_the_reason(monkeypatch, is_built, compiler, expected):
    """The hint was always "install g++", even with g++ installed or the library built."""
    monkeypatch.setattr(environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(environment.shutil, "which", lambda name: compiler)
    hint = environment._hint_for_native(is_built)
    assert expected in hint
    assert ("install g++" in hint) == (expected == "install g++")


def test_the_onnxruntime_in_use_is_named(monkeypatch):
    """`doctor` reported the CPU build even if the GPU build was installed last."""
    import onnxruntime

    (trap,) = find_traps({"onnxruntime": "1.32", "onnxruntime-gpu": "1.31"})
    assert "onnxruntime (without CUDA) was installed last" in trap.detail
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    (trap,) = find_traps({"onnxruntime": "1.32", "onnxruntime-gpu": "1.31"})
    assert "onnxruntime-gpu was installed last" in trap.detail
