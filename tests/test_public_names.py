"""The public names of each package, and the cost of importing it."""

import subprocess
import sys

import pytest

import elmo_deploy
import elmo_export
import elmo_runtime


@pytest.mark.parametrize("package", [elmo_runtime, elmo_export, elmo_deploy])
def test_every_public_name_exists(package):
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))


def test_every_step_of_the_pipeline_is_public():
    """build_engine, a name of the design, was not."""
    assert {"Checkpoint", "export_bundle", "build_engine", "verify_bundle"} <= set(
        elmo_export.__all__
    )
    assert {"Elmo", "train", "evaluate", "Embedder"} <= set(elmo_deploy.__all__)


def test_elmo_deploy_offers_everything():
    for package in (elmo_runtime, elmo_export):
        for name in package.__all__:
            assert getattr(elmo_deploy, name) is getattr(package, name)


@pytest.mark.parametrize("package", ["elmo_runtime", "elmo_export", "elmo_deploy"])
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Elmos'"):
        _ = sys.modules[package].Elmos


@pytest.mark.parametrize("package", ["elmo_runtime", "elmo_export", "elmo_deploy"])
def test_importing_a_package_loads_no_heavy_library(package):
    program = f"""
import sys
import {package}
heavy = {{"torch", "onnx", "onnxruntime", "h5py", "typer", "rich", "tensorrt_rtx"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", [elmo_runtime, elmo_deploy])
def test_the_old_spelling_of_artifact_error_warns(package):
    """The public name was spelled the British way; code that catches it must still work."""
    with pytest.warns(DeprecationWarning, match="ArtefactError is now ArtifactError"):
        assert package.ArtefactError is elmo_runtime.ArtifactError
