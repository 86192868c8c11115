"""Too little memory is reported with advice, in the API and on the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from elmo_deploy.cli._terminal.failures import known_error
from elmo_runtime.errors import DeviceMemoryError

EMBED_TOO_MUCH = """
import resource, sys
from elmo_runtime import CpuOptions, DeviceMemoryError, Embedder
elmo = Embedder.load(sys.argv[1], backend="onnxruntime-cpu", cpu=CpuOptions(threads=1))
elmo.embed(["a b"])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
try:
    elmo.embed([["word"] * 1000] * 2000, outputs=["layers"])
except DeviceMemoryError as error:
    print(error.what, "|", error.hint)
print(elmo.embed(["a b"])["elmo"][0].shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is a limit of Linux")
def test_a_call_without_enough_memory_gives_advice(tiny_bundle):
    """A plain MemoryError gave the caller of `embed` no advice."""
    done = subprocess.run(
        [sys.executable, "-c", EMBED_TOO_MUCH, str(tiny_bundle)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    told, after = done.stdout.splitlines()
    assert "memory" in told and "token_budget" in told
    assert after == "(2, 16)"  # The embedder still works.


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1.00 TiB for an array with shape (1,)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError("std::bad_alloc"),
    ],
)
def test_a_command_without_memory_gives_advice(error):
    """Every such failure was reported as unexpected, with the hint to show a traceback."""
    known = known_error(error)
    assert isinstance(known, DeviceMemoryError) and "smaller" in known.hint
