"""The library is compiled three times, and no function is shared between the three."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from elmo_runtime.backends.native import library

ROOT = Path(__file__).parents[4]
COMPILER = shlex.split(os.environ.get("CXX") or shutil.which("g++") or "")
needs_compiler = pytest.mark.skipif(
    not COMPILER or sys.platform != "linux" or not shutil.which("nm"), reason="no C++ compiler"
)


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_native", ROOT / "build_native.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_native"] = module
    spec.loader.exec_module(module)
    return module


@needs_compiler
def test_an_instruction_set_keeps_its_functions_to_itself(builder, tmp_path):
    """The linker merges inline functions of one name, of which it keeps any one.

    A function of the standard library that kernels.cpp compiled for AVX-512 could so be called on
    a processor that has none.
    """
    name, (kernels, target) = "avx512_vnni", builder.INSTRUCTION_SETS["avx512_vnni"]
    output = tmp_path / "kernels.o"
    subprocess.run(
        [*COMPILER, *builder.FLAGS, "-O1", *target, f"-DELMO_ISA={name}",
         f"-DELMO_KERNELS={kernels}", "-c", str(ROOT / builder.FOLDER / "source/kernels.cpp"),
         "-o", str(output)],
        check=True,
    )  # fmt: skip
    symbols = subprocess.run(["nm", "-C", output], capture_output=True, text=True, check=True)
    shared = [
        line.split(maxsplit=2)[1:] for line in symbols.stdout.splitlines() if line[17] in "WVu"
    ]
    names = [symbol for _, symbol in shared if not symbol.startswith("DW.ref.")]
    assert names and all(f"elmo::{name}::" in symbol for symbol in names)


def test_a_missing_compiler_is_reported(builder, tmp_path):
    with pytest.raises(builder.BuildError, match=r"no C\+\+ compiler was found|Linux on x86-64"):
        builder.build(ROOT / builder.FOLDER / "source", tmp_path / "x.so", compiler=[])


@needs_compiler
def test_a_compiler_that_fails_leaves_no_library(builder, tmp_path):
    with pytest.raises(builder.BuildError, match="cannot be started"):
        builder.build(tmp_path, tmp_path / "x.so", compiler=["/no/such/compiler"])
    with pytest.raises(builder.BuildError, match="failed: "):
        builder.build(tmp_path / "nothing", tmp_path / "x.so", compiler=COMPILER)
    with pytest.raises(builder.BuildError, match="reported success but wrote no library"):
        builder.build(tmp_path, tmp_path / "x.so", compiler=["true"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_says_what_to_do(monkeypatch, tmp_path):
    from elmo_runtime.errors import BackendUnavailableError

    monkeypatch.setattr(library, "LIBRARY", tmp_path / "missing.so")
    with pytest.raises(BackendUnavailableError, match=r"was not built .*install g\+\+"):
        library.load_library()
    (tmp_path / "missing.so").write_bytes(b"\x7fELF but not really")
    with pytest.raises(
        BackendUnavailableError, match=r"cannot be loaded.*--no-cache-dir --force-reinstall"
    ):
        library.load_library()
