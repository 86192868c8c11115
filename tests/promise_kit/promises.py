"""The promises by id, in the order of the table. The tests tell the figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """One line of the table.

    gpu: what of it needs a GPU, and was therefore not measured. kept_in: modules whose tests all
    belong to it and tell no figure of their own.
    """

    id: str
    text: str
    gpu: str = ""
    kept_in: tuple[str, ...] = ()


PROMISES = (
    Promise(
        "I1", "Any list of lists of strings gives vectors or InputError, never a crash or a hang"
    ),
    Promise(
        "I2",
        "No sentences, or sentences of no tokens, give empty arrays of the right shape and dtype;"
        " the backend is never called with an empty batch",
        gpu="TensorRT and CUDA",
    ),
    Promise("I3", "Character ids equal bilm-tf's and AllenNLP's for every string"),
    Promise(
        "I4",
        "Ids out of range, a wrong dtype or width, or a gap in the mask raise InputError that names"
        " the cell",
    ),
    Promise("I5", "A 100,000-token sentence and 100,000 sentences run in bounded memory"),
    Promise("I6", "The output is finite for every input", gpu="fp16 engines"),
    Promise(
        "B1",
        "One changed byte, a missing file or an unexpected file in a bundle raises"
        " BundleCorruptError before any parser runs",
    ),
    Promise(
        "B2",
        "Another schema, opset, shape or dtype raises BundleVersionError with both versions and the"
        " fix",
    ),
    Promise(
        "B3",
        "Nothing is parsed but bytes with a listed digest, and no name leads out of the bundle"
        " directory",
    ),
    Promise(
        "B4", "Load cost is bounded by the size of the bundle; sizes are checked before reading"
    ),
    Promise("B5", "Writing a bundle is atomic; the old one stays until the new one is complete"),
    Promise(
        "C1",
        "Training resumes after SIGKILL with bit-identical losses and weights (CPU)",
        gpu="CUDA training",
    ),
    Promise(
        "C2",
        "Bulk embedding resumes after SIGKILL: each input once, in order, byte-identical to"
        " an uninterrupted run",
    ),
    Promise("C3", "The last two checkpoints are kept; a corrupt newest one is named and skipped"),
    Promise(
        "T1", "One Embedder serves many threads, bit-identical to serial (CPU)", gpu="TensorRT"
    ),
    Promise(
        "T2",
        "A fork after loading raises a clear error, spawn works; close() waits for running calls, a"
        " second close() does nothing",
        kept_in=("tests.runtime.test_lifecycle",),
    ),
    Promise(
        "R1", "After warm-up, memory grows by at most 8 MiB over random shapes", gpu="TensorRT"
    ),
    Promise(
        "R2", "Loading and closing leave at most 8 MiB of memory, no open files and no threads"
    ),
    Promise(
        "F1",
        "If TensorRT or CUDA cannot run for any reason, the next backend answers, with exactly one"
        " BackendFallbackWarning",
        gpu="real causes",
    ),
    Promise("F2", "A backend that is requested by name raises an error and never degrades"),
    Promise("F3", "The provider in use is read from the session; nothing is printed to stdout"),
    Promise(
        "F4",
        "Without enough device memory, the batch is halved down to one sentence, then the next"
        " backend is used; the vectors are the same",
        gpu="real exhaustion",
    ),
    Promise(
        "D1",
        "The vectors of a sentence do not depend on the rest of the batch, order, padding or"
        " history: bit-identical on CPU",
        gpu="CUDA and TensorRT",
    ),
    Promise(
        "D3", "The same bundle and input give the same bits in every process and thread count (CPU)"
    ),
    Promise(
        "D4",
        "Reference, graph and backend agree at each stage, with binding clips",
        gpu="engines",
        kept_in=(
            "tests.export.test_parity",
            "tests.test_golden_bundle",
        ),
    ),
    Promise(
        "D5",
        "Exporting twice gives byte-identical graphs and manifests",
        kept_in=("tests.export.test_package",),
    ),
    Promise("X1", "Imported weights run no code: they are rejected or converted"),
    Promise(
        "X2",
        "An engine of unknown origin is not opened; the digest is computed from the bytes that are"
        " passed to the library",
        gpu="running an engine",
        kept_in=(
            "tests.runtime.test_tensorrt_opening",
            "tests.runtime.test_engines",
        ),
    ),
    Promise(
        "X3",
        "A command without a URL uses no network, starts no shell and writes only to its outputs",
        kept_in=("tests.cli",),
    ),
    Promise("X4", "`import elmo_runtime` needs numpy only", kept_in=("tests.runtime.test_import",)),
)
