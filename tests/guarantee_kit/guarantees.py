"""The guarantees by id, in the order of the table. The tests report the figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guarantee:
    """One line of the table.

    gpu: the part that needs a GPU and is therefore not measured. kept_in: modules whose tests all
    belong to the guarantee and only count.
    """

    id: str
    text: str
    gpu: str = ""
    kept_in: tuple[str, ...] = ()


GUARANTEES = (
    Guarantee(
        "I1", "Any list of lists of strings gives vectors or InputError, never a crash or a hang"
    ),
    Guarantee(
        "I2",
        "No sentences, or sentences of no tokens, give empty arrays of the right shape and dtype;"
        " the backend is never called with an empty batch",
        gpu="TensorRT and CUDA",
    ),
    Guarantee("I3", "Character ids equal bilm-tf's and AllenNLP's for every string"),
    Guarantee(
        "I4",
        "Ids out of range, a wrong dtype or width, or a gap in the mask raise InputError that names"
        " the cell",
    ),
    Guarantee("I5", "A 100,000-token sentence and 100,000 sentences run in bounded memory"),
    Guarantee("I6", "The output is finite for every input", gpu="fp16 engines"),
    Guarantee(
        "B1",
        "One changed byte, a missing file or an unexpected file in a bundle raises"
        " BundleCorruptError before any parser runs",
    ),
    Guarantee(
        "B2",
        "Another schema, opset, shape or dtype raises BundleVersionError with both versions and the"
        " fix",
    ),
    Guarantee(
        "B3",
        "Nothing is parsed but bytes with a listed digest, and no name leads out of the bundle"
        " directory",
    ),
    Guarantee(
        "B4", "Load cost is bounded by the size of the bundle; sizes are checked before reading"
    ),
    Guarantee("B5", "Writing a bundle is atomic; the old one stays until the new one is complete"),
    Guarantee(
        "C1",
        "Training resumes after SIGKILL with bit-identical losses and weights (CPU)",
        gpu="CUDA training",
    ),
    Guarantee(
        "C2",
        "Bulk embedding resumes after SIGKILL: each input once, in order, byte-identical to"
        " an uninterrupted run",
    ),
    Guarantee("C3", "The last two checkpoints are kept; a corrupt newest one is named and skipped"),
    Guarantee(
        "T1", "One Embedder serves many threads, bit-identical to serial (CPU)", gpu="TensorRT"
    ),
    Guarantee(
        "T2",
        "A fork after loading raises a clear error, spawn works; close() waits for running calls, a"
        " second close() does nothing",
        kept_in=("tests.runtime.inference.test_call_gate",),
    ),
    Guarantee(
        "R1", "After warm-up, memory grows by at most 8 MiB over random shapes", gpu="TensorRT"
    ),
    Guarantee(
        "R2", "Loading and closing leave at most 8 MiB of memory, no open files and no threads"
    ),
    Guarantee(
        "F1",
        "If TensorRT or CUDA cannot run for any reason, the next backend answers, with exactly one"
        " BackendFallbackWarning",
        gpu="real causes",
    ),
    Guarantee("F2", "A backend that is requested by name raises an error and never degrades"),
    Guarantee("F3", "The provider in use is read from the session; nothing is printed to stdout"),
    Guarantee(
        "F4",
        "Without enough device memory, the batch is halved down to one sentence, then the next"
        " backend is used; the vectors are the same",
        gpu="real exhaustion",
    ),
    Guarantee(
        "D1",
        "The vectors of a sentence do not depend on the rest of the batch, order, padding or"
        " history: bit-identical on CPU",
        gpu="CUDA and TensorRT",
    ),
    Guarantee(
        "D3", "The same bundle and input give the same bits in every process and thread count (CPU)"
    ),
    Guarantee(
        "D4",
        "Reference, graph and backend agree at each stage, with binding clips",
        gpu="engines",
        kept_in=(
            "tests.export.verify.test_parity",
            "tests.test_golden_bundle",
        ),
    ),
    Guarantee(
        "D5",
        "Exporting twice gives byte-identical graphs and manifests",
        kept_in=("tests.export.test_export",),
    ),
    Guarantee("X1", "Imported weights run no code: they are rejected or converted"),
    Guarantee(
        "X2",
        "An engine of unknown origin is not opened; the digest is computed from the bytes that are"
        " passed to the library",
        gpu="running an engine",
        kept_in=(
            "tests.runtime.backends.test_tensorrt_opening",
            "tests.runtime.bundle.test_engines",
        ),
    ),
    Guarantee(
        "X3",
        "A command without a URL uses no network, starts no shell and writes only to its outputs",
        kept_in=("tests.cli",),
    ),
    Guarantee(
        "X4", "`import elmo_runtime` needs numpy only", kept_in=("tests.runtime.test_import",)
    ),
)
