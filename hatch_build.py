"""Build hook of hatchling that compiles the native library if there is a C++ compiler.

Without a compiler the package is pure Python, and ONNX Runtime computes on the CPU.
ELMO_DEPLOY_NATIVE=off omits the library; =required makes a missing compiler an error, for published
wheels; =auto is the default. CXX names another compiler.
"""

import importlib.util
import os
import platform
import shlex
import shutil
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODES = ("auto", "off", "required")


class NativeHook(BuildHookInterface):
    """Adds the compiled library to a wheel. An editable install has it next to its source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        """Compile; called by hatchling before it collects files."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        library = compile_native(root)
        if library is None:
            return
        build_data["artifacts"].append(library.relative_to(root).as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"


def compile_native(root: Path) -> Path | None:
    """Build the native library; return None with a message if that is not possible.

    Raises RuntimeError for an unknown ELMO_DEPLOY_NATIVE, and if =required fails.
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
        print(f"elmo-deploy is installed without its native library: {error}", file=sys.stderr)  # noqa: T201
        return None
    return library


def _mode() -> str:
    mode = os.environ.get("ELMO_DEPLOY_NATIVE") or "auto"
    if mode not in MODES:
        raise RuntimeError(f"ELMO_DEPLOY_NATIVE is {mode!r}; use one of {', '.join(MODES)}")
    return mode


def _load_builder(path: Path):
    """The module next to this file, which is not on the path of an isolated build."""
    spec = importlib.util.spec_from_file_location("build_native", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_native"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def find_compiler(cxx: str) -> list[str]:
    """The words of the compiler's command; empty if there is no compiler.

    `cxx` is a program, whose path may contain blanks, or a command in the syntax of a shell. Raises
    ValueError for an unclosed quotation.
    """
    if not cxx.strip():
        found = shutil.which("g++") or shutil.which("clang++")
        return [found] if found else []
    return [cxx] if shutil.which(cxx) else shlex.split(cxx)
