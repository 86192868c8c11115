"""Build hook of hatchling: compiles the operators of the runtime, where there is a C++ compiler.

Without one the package is pure Python and computes by stock operators. ELMO_DEPLOY_OPERATORS=off
leaves them out, =required makes a missing compiler an error (for wheels that are published).
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("runtime/elmo_runtime/operators")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden")
TARGET = ("-mavx2", "-mfma")  # the library asks the processor before it uses them


class OperatorsHook(BuildHookInterface):
    """Adds the compiled library to a wheel, or puts it beside its source for an editable one."""

    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        """Compile; called by hatchling before it collects files."""
        if self.target_name != "wheel":
            return
        library = compile_operators(Path(self.root) / FOLDER)
        if library is None:
            return
        build_data["artifacts"].append(f"{FOLDER.as_posix()}/{library.name}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"


def compile_operators(folder: Path) -> Path | None:
    """The library in `folder`, or None with a message where it cannot be built."""
    wish = os.environ.get("ELMO_DEPLOY_OPERATORS", "auto")
    library = folder / "libpacked_lstmp.so"
    library.unlink(missing_ok=True)
    if wish == "off":
        return None
    reason = _compile(folder / "packed_lstmp.cpp", library)
    if reason is None:
        return library
    if wish == "required":
        raise RuntimeError(f"the operators were not built: {reason}")
    print(f"elmo-deploy goes without compiled operators: {reason}", file=sys.stderr)  # noqa: T201
    return None


def _compile(source: Path, library: Path) -> str | None:
    """What went wrong, if something did. The file appears whole or not at all."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86-64"
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return "no C++ compiler (g++ or clang++)"
    part = library.with_suffix(".part")
    command = [*compiler.split(), *FLAGS, *TARGET, "-o", str(part), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler} cannot be started: {error}"
    if done.returncode:
        return f"{compiler} says {done.stderr.strip()[:2000]}"
    part.replace(library)
    return None
