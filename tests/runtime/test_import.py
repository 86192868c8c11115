"""The modules that `import elmo_runtime` loads, in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys

import elmo_runtime

HEAVY = {"torch", "onnx", "onnxruntime", "typer", "rich", "h5py", "safetensors", "tensorrt", "cuda"}
LOADED = "import sys, json; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"


def modules_after(statement: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{LOADED}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return set(json.loads(run.stdout))


def test_the_runtime_and_all_its_names_need_numpy_only():
    loaded = modules_after("from elmo_runtime import *; Embedder, State, Bundle")
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_the_check_sees_what_is_loaded():
    assert "safetensors" in modules_after("import elmo_runtime, safetensors")


def test_a_help_text_does_not_import_numpy():
    assert "numpy" not in modules_after("from elmo_runtime import InputError")


def test_every_public_name_exists():
    assert all(hasattr(elmo_runtime, name) for name in elmo_runtime.__all__)
    assert set(elmo_runtime.__all__) <= set(dir(elmo_runtime))
