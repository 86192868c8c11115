"""Build hook of hatchling: compiles the operators of the runtime, where there is a C++ compiler.

Without one the package is pure Python and uses stock operators. ELMO_DEPLOY_OPERATORS=off leaves
them out; =required makes a missing compiler an error (for wheels that are published); =auto is the
default. CXX names another compiler.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("runtime/elmo_runtime/operators")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden")
TARGET = ("-mavx2", "-mfma")  # the library asks the processor before it uses them
MODES = ("auto", "off", "required")
ELF, X86_64 = b"\x7fELF", 62  # the magic number of a Linux library, and e_machine in its header


class OperatorsHook(BuildHookInterface):
    """Adds the compiled library to a wheel; an editable one has it next to its source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        """Compile; called by hatchling before it collects files."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        built = [compile_operators(root / FOLDER), compile_native(root)]
        libraries = [library for library in built if library]
        if not libraries:
            return
        build_data["artifacts"] += [path.relative_to(root).as_posix() for path in libraries]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"


def compile_operators(folder: Path) -> Path | None:
    """The library in `folder`, or None with a message where it cannot be built.

    Raises RuntimeError for an unknown ELMO_DEPLOY_OPERATORS, and where =required fails.
    """
    mode = _mode()
    library = folder / "libpacked_lstmp.so"
    library.unlink(missing_ok=True)
    if mode == "off":
        return None
    reason = _compile(folder / "packed_lstmp.cpp", library)
    if reason is None:
        return library
    if mode == "required":
        raise RuntimeError(f"the operators were not built: {reason}")
    print(f"elmo-deploy goes without compiled operators: {reason}", file=sys.stderr)  # noqa: T201
    return None


def compile_native(root: Path) -> Path | None:
    """The library of the backend `native`, or None with a message where it cannot be built.

    Raises RuntimeError as `compile_operators` does.
    """
    mode, builder = _mode(), _load_builder(root / "build_native.py")
    library = root / builder.FOLDER / builder.NAME
    library.unlink(missing_ok=True)
    if mode == "off":
        return None
    try:
        compiler = find_compiler(os.environ.get("CXX", ""))
        builder.build(root / builder.FOLDER / "source", library, compiler=compiler)
    except (builder.BuildError, ValueError) as error:
        if mode == "required":
            raise RuntimeError(f"the native library was not built: {error}") from error
        print(f"elmo-deploy goes without its native library: {error}", file=sys.stderr)  # noqa: T201
        return None
    return library


def _mode() -> str:
    mode = os.environ.get("ELMO_DEPLOY_OPERATORS") or "auto"
    if mode not in MODES:
        raise RuntimeError(f"ELMO_DEPLOY_OPERATORS is {mode!r}; use one of {', '.join(MODES)}")
    return mode


def _load_builder(path: Path):
    """The module next to this file, which is not on the path of an isolated build."""
    spec = importlib.util.spec_from_file_location("build_native", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_native"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def _compile(source: Path, library: Path) -> str | None:
    """The reason if it fails; the library appears whole or not at all."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86-64"
    part = library.with_suffix(".part")
    try:
        compiler = find_compiler(os.environ.get("CXX", ""))
        if not compiler:
            return "no C++ compiler (g++ or clang++)"
        reason = _run_compiler([*compiler, *FLAGS, *TARGET, "-o", str(part), str(source)], part)
        if reason is None:
            part.replace(library)
        return reason
    except ValueError as error:
        return f"CXX is {os.environ['CXX']!r}: {error}"
    finally:
        part.unlink(missing_ok=True)


def find_compiler(cxx: str) -> list[str]:
    """The words of the compiler's command; none where there is no compiler.

    `cxx` is a program, whose path may hold blanks, or a command as a shell would read it. Raises
    ValueError for a quotation that is not closed.
    """
    if not cxx.strip():
        found = shutil.which("g++") or shutil.which("clang++")
        return [found] if found else []
    return [cxx] if shutil.which(cxx) else shlex.split(cxx)


def _run_compiler(command: list[str], part: Path) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{command[0]} cannot be started: {error}"
    if done.returncode:
        return f"{command[0]} failed: {done.stderr.strip()[:2000]}"
    if not part.exists():
        return f"{command[0]} reported success but wrote no file"
    header = part.read_bytes()[:20]
    if header[:4] != ELF or int.from_bytes(header[18:], "little") != X86_64:
        return f"{command[0]} reported success but wrote no library for Linux on x86-64"
    return None
