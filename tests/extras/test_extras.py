"""What each extra installs, and how commands report a missing extra."""

from __future__ import annotations

import importlib.metadata
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from pages import EXTRAS, ROOT

pytestmark = pytest.mark.extras
HEAVY = ("torch", "onnx", "onnxruntime", "h5py", "pyarrow", "matplotlib", "tensorrt_rtx")
BRINGS = {
    "base": set(),
    "cpu": {"onnxruntime", "h5py"},
    "parquet": {"onnxruntime", "h5py", "pyarrow"},
    "export": {"onnxruntime", "h5py", "torch", "onnx"},
    "tensorrt-rtx": {"tensorrt_rtx", "h5py"},
}
ENGINE = "--compiler tensorrt-rtx --precision fp32 --compute-capability 8.6 --length 16 --batch 1"
QUICK = "--batch 1 --length 2 --ragged 0 --rounds 1 --seconds 0 --system cpu-packed"
WORKS = [
    ("base", "elmo-deploy --version && elmo-deploy --help"),
    ("base", "elmo-deploy inspect bundle && elmo-deploy inspect checkpoint"),
    ("base", "elmo-deploy vocabulary 'shards/*.txt.gz' -o counted.txt"),
    ("cpu", "elmo-deploy doctor"),
    ("cpu", "elmo-deploy import --options options.json --weights weights.hdf5 -o imported"),
    ("cpu", "elmo-deploy embed bundle sentences.txt -o vectors.hdf5"),
    ("cpu", "elmo-deploy embed english-small sentences.txt -o vectors.npz"),
    ("cpu", "elmo-deploy embed bundle - -o vectors.npz --outputs default < sentences.txt"),
    ("cpu", "elmo-deploy embed bundle sentences.txt -o vectors.safetensors --state warm"),
    ("cpu", f"elmo-deploy benchmark bundle {QUICK}"),
    ("parquet", "elmo-deploy embed bundle corpus/ -o vectors --outputs elmo,default"),
    ("export", "elmo-deploy import --archive model.tar.gz -o imported"),
    ("export", "elmo-deploy export checkpoint -o new"),
    ("export", "elmo-deploy verify bundle --checkpoint checkpoint"),
    ("tensorrt-rtx", f"elmo-deploy build-engine bundle {ENGINE} && elmo-deploy inspect bundle"),
    ("tensorrt-rtx", "elmo-deploy doctor | grep -F 'elmo-deploy[cpu]'"),
    ("tensorrt-rtx", "elmo-deploy import --options options.json --weights weights.hdf5 -o i"),
]
NEEDS_MORE = [
    ("base", "elmo-deploy embed bundle sentences.txt -o vectors.npz", "cpu"),
    ("base", "elmo-deploy import --options options.json --weights weights.hdf5 -o i", "hdf5"),
    ("cpu", "elmo-deploy embed bundle sentences.txt -o vectors", "parquet"),
    ("cpu", "elmo-deploy export checkpoint -o new", "export"),
    ("cpu", "elmo-deploy verify bundle", "export"),
    ("cpu", f"elmo-deploy benchmark bundle -o measured {QUICK}", "plots"),
    ("cpu", "elmo-deploy evaluate checkpoint --text 'heldout/*'", "train"),
    ("cpu", f"elmo-deploy build-engine bundle {ENGINE}", "tensorrt-rtx"),
]


@pytest.mark.parametrize("name", BRINGS)
def test_an_extra_installs_exactly_its_packages(environment, tmp_path, name):
    program = f"import importlib.util as u; print([n for n in {HEAVY} if u.find_spec(n)])"
    found = set(eval(environment(name).python(program, tmp_path).stdout))
    assert found == BRINGS[name]


@pytest.mark.parametrize(("name", "script"), WORKS)
def test_an_extra_is_enough_for(environment, workplace, name, script):
    """`embed`, `vocabulary` and `build-engine` ended with exit code 4 in their own extras."""
    answer = environment(name).shell(script, workplace)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(("name", "script", "extra"), NEEDS_MORE)
def test_a_command_names_the_extra_that_it_needs(environment, workplace, name, script, extra):
    answer = environment(name).shell(script, workplace)
    assert answer.returncode == 4, answer.stderr
    assert f"elmo-deploy[{extra}" in answer.stderr


def test_the_environments_contain_the_wheel_and_not_the_clone(environment, tmp_path):
    program = "import elmo_deploy, elmo_export, elmo_runtime as r; print(r.__file__)"
    answer = environment("base").python(program, tmp_path)
    assert Path(answer.stdout.strip()).is_relative_to(environment("base").folder)


def test_pypi_takes_the_wheel_and_it_holds_the_operators(wheel):
    """The wheel was tagged linux_x86_64, which PyPI refuses."""
    tags = wheel.stem.split("-")[-1].split(".")
    assert all(tag.startswith("manylinux_") for tag in tags)
    assert "manylinux_2_28_x86_64" in tags
    names = zipfile.ZipFile(wheel).namelist()
    assert "elmo_runtime/backends/native/libelmo_native.so" in names


def test_the_sdist_contains_the_files_of_its_tests_and_its_demo():
    """models/ and fuzz/ were missing, so `make demo` and the fuzzers' test failed in it."""
    if not (ROOT / ".git").exists():
        pytest.skip("git lists the files of the repository")
    (sdist,) = (ROOT / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(listed.stdout.splitlines()) <= found


def test_the_version_is_that_of_the_wheel(environment, wheel, tmp_path):
    answer = environment("base").shell("elmo-deploy --version", tmp_path)
    assert answer.stdout.split() == ["elmo-deploy", wheel.name.split("-")[1]]


def test_every_environment_uses_existing_extras():
    known = set(importlib.metadata.metadata("elmo-deploy").get_all("Provides-Extra"))
    assert set().union(*EXTRAS.values()) <= known
