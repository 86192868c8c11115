"""Compiles the library of the backend `native`. Standard library only: hatch_build.py calls it.

By hand: python build_native.py [--sanitize] [--output PATH]
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("runtime/elmo_runtime/backends/native")
NAME = "libelmo_native.so"
# -ffp-contract=off: only the FMAs that are written, or instruction sets would give other bits.
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-pthread")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-maybe-uninitialized")
# GCC 12 warns of __Y in its own avx512fintrin.h, hence the last one, and one more below.
SANITIZERS = (
    "-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all", "-DELMO_POISON", "-Wno-uninitialized",
)  # fmt: skip
ELF = b"\x7fELF"  # the first bytes of a Linux library
AVX2 = ("-mavx2", "-mfma")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq")
INSTRUCTION_SETS = {  # name: the object in the library, and what the compiler may use for it
    "avx2": ("kAvx2", AVX2),
    "avx512": ("kAvx512", AVX512),
    "avx512_vnni": ("kAvx512Vnni", (*AVX512, "-mavx512vnni", "-mavx512bf16")),
}


@dataclass(frozen=True)
class BuildError(Exception):
    """The library cannot be built here; the reason is in `what`."""

    what: str

    def __str__(self) -> str:
        return self.what


def build(
    source: Path, output: Path, *, compiler: Sequence[str], extra_flags: Sequence[str] = ()
) -> None:
    """Compile the folder `source` into the library `output`, which appears complete or not at all.

    compiler: the words of its command. Raises BuildError.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise BuildError("it is for Linux on x86-64")
    if not compiler:
        raise BuildError("no C++ compiler was found (g++ or clang++)")
    flags = [*compiler, *FLAGS, *extra_flags]
    with tempfile.TemporaryDirectory(prefix="elmo-native-") as scratch:
        objects = Path(scratch)
        _run_all([
            *(
                [*flags, *target, f"-DELMO_ISA={name}", f"-DELMO_KERNELS={kernels}",
                 "-c", str(source / "kernels.cpp"), "-o", str(objects / f"{name}.o")]
                for name, (kernels, target) in INSTRUCTION_SETS.items()
            ),
            *(
                [*flags, "-c", str(source / f"{name}.cpp"), "-o", str(objects / f"{name}.o")]
                for name in ("api", "team")
            ),
        ])  # fmt: skip
        part = output.with_suffix(".part")
        names = [str(path) for path in sorted(objects.glob("*.o"))]
        _run_all([[*flags, "-shared", "-o", str(part), *names]])
        if not part.exists() or not part.read_bytes().startswith(ELF):
            part.unlink(missing_ok=True)
            raise BuildError(f"{compiler[0]} reported success but wrote no library")
    part.replace(output)


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run the commands at the same time; raise BuildError with what the first failing one says."""
    try:
        started = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
    except OSError as error:
        raise BuildError(f"{commands[0][0]} cannot be started: {error}") from error
    said = [process.communicate()[1] for process in started]
    for process, text in zip(started, said, strict=True):
        if process.returncode:
            raise BuildError(f"{commands[0][0]} failed: {text.strip()[:4000]}")


def main() -> None:
    """Build the library into the source tree, or elsewhere, with warnings as errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sanitize", action="store_true", help="ASan, UBSan, poisoned memory")
    parser.add_argument("--output", type=Path, default=FOLDER / NAME)
    options = parser.parse_args()
    flags = (*WARNINGS, *SANITIZERS) if options.sanitize else WARNINGS
    compiler = shlex.split(os.environ.get("CXX") or shutil.which("g++") or "clang++")
    build(FOLDER / "source", options.output, compiler=compiler, extra_flags=flags)


if __name__ == "__main__":
    main()
