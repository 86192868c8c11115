"""`import elmo_deploy` serves every step from weights to vectors, with types."""

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import elmo_deploy
from elmo_deploy.importers.bilm_hdf5 import export_hdf5
from random_models import random_checkpoint, tiny_config

SCRIPT = """
from typing import assert_type

import elmo_deploy
from elmo_deploy import (
    Bundle, Checkpoint, Embedder, EngineReport, ParityRow, build_engine, export, verify
)

checkpoint = Checkpoint.from_hdf5("options.json", "weights.hdf5")
assert_type(checkpoint, Checkpoint)
assert_type(Checkpoint.read("checkpoint"), Checkpoint)
checkpoint.write("checkpoint")
assert_type(export(checkpoint, "bundle", precisions=["fp32", "fp16"]), Bundle)
assert_type(verify("bundle"), tuple[ParityRow, ...])
assert_type(build_engine("bundle", compute_capability="8.6"), EngineReport)
assert_type(elmo_deploy.__version__, str)
with Embedder.load("bundle") as elmo:
    assert_type(elmo, Embedder)
"""


@pytest.fixture
def small_matrix(monkeypatch):
    monkeypatch.setattr("elmo_export.verify.cases.SHAPES", [(1, 2), (5, 7)])


def test_published_weights_become_vectors_with_names_of_one_package(
    tiny_checkpoint, tmp_path, small_matrix
):
    """Export needed a reference from elmo_deploy.model, and import a module of importers."""
    export_hdf5(tiny_checkpoint, tmp_path / "options.json", tmp_path / "weights.hdf5")
    checkpoint = elmo_deploy.Checkpoint.from_hdf5(
        tmp_path / "options.json", str(tmp_path / "weights.hdf5")
    )
    bundle = elmo_deploy.export(checkpoint, tmp_path / "bundle")
    assert bundle.precisions == ("fp32",)
    assert all(row.passed for row in elmo_deploy.verify(tmp_path / "bundle"))
    with elmo_deploy.Embedder.load(tmp_path / "bundle", backend="onnxruntime-cpu") as elmo:
        assert elmo.embed(["the cat"])["elmo"][0].shape == (2, 16)


def test_export_and_verify_take_directories_and_one_precision(
    tiny_checkpoint, tmp_path, small_matrix
):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    elmo_deploy.export(str(tmp_path / "checkpoint"), str(tmp_path / "bundle"), precisions="fp32")
    assert elmo_deploy.verify(str(tmp_path / "bundle"), checkpoint=tmp_path / "checkpoint")


def test_the_python_example_of_the_export_guide_runs(tiny_checkpoint, tmp_path, small_matrix):
    tiny_checkpoint.write(tmp_path / "checkpoint")
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "export.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S)
    with contextlib.chdir(tmp_path):
        exec(compile(block, "export.md", "exec"), {})
    assert elmo_deploy.Bundle.open(tmp_path / "bundle").precisions == ("fp32", "fp16")


def test_verify_rejects_another_checkpoint(tiny_bundle, small_matrix):
    other = random_checkpoint(tiny_config(), seed=7)
    with pytest.raises(elmo_deploy.VerificationError, match="beyond tolerance"):
        elmo_deploy.verify(tiny_bundle, checkpoint=other)


def test_without_elmo_deploy_from_hdf5_names_the_import():
    program = "from elmo_export import Checkpoint; Checkpoint.from_hdf5('a', 'b')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "no importer for hdf5 is registered" in done.stderr


def test_the_version_is_that_of_the_distribution():
    assert elmo_deploy.__version__ == version("elmo-deploy")


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "elmo_deploy", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"elmo-deploy {elmo_deploy.__version__}"


REPOSITORY = Path(__file__).parents[1]
PACKAGES = [str(REPOSITORY / folder) for folder in ("runtime", "export", "")]


def type_errors(checker: str, script: Path) -> str:
    """The report of a type checker on a script; empty if it finds no error."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    config = script.parent / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": PACKAGES}))
    options = {
        "mypy": ["--config-file", str(REPOSITORY / "pyproject.toml")],
        "pyright": ["--project", str(script.parent), "--pythonpath", sys.executable],
    }[checker]
    files = [str(script)] if checker == "mypy" else []
    command = [sys.executable, "-m", checker, *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_script_of_a_user_is_type_checked(checker, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert type_errors(checker, tmp_path / "script.py") == ""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_errors_in_a_script_of_a_user_are_found(checker, tmp_path):
    """Every name was Any, so that a type checker accepted every misspelling."""
    lines = ["elmo_deploy.exprot", "elmo_deploy.export(3, 'bundle')", "elmo_deploy.verify()"]
    (tmp_path / "script.py").write_text("\n".join(["import elmo_deploy", *lines, ""]))
    report = type_errors(checker, tmp_path / "script.py")
    assert all(f"script.py:{line}:" in report for line in (2, 3, 4)), report
