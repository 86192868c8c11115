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
        "I1", "Any list of lists of strings gives an answer or InputError, never a crash or hang"
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
        "Ids out of range, a wrong dtype or width, a hole in the mask: InputError naming the cell",
    ),
    Promise("I5", "A 100,000-token sentence and 100,000 sentences run in bounded memory"),
    Promise("I6", "The output is finite for every input", gpu="fp16 engines"),
    Promise(
        "B1",
        "One changed byte, a missing or a surplus file in a bundle gives BundleCorruptError before"
        " any parser runs",
    ),
    Promise(
        "B2",
        "Another schema, opset, shape or dtype gives BundleVersionError with both versions and the"
        " cure",
    ),
    Promise("B3", "Nothing outside the bundle's folder is read or written"),
    Promise("B4", "Loading costs no more than the folder's size; sizes are checked before reading"),
    Promise("B5", "A bundle is whole or absent; the old one stays until the new one is whole"),
    Promise(
        "C1",
        "Training resumes after SIGKILL to the bit-identical losses and weights (CPU)",
        gpu="CUDA training",
    ),
    Promise(
        "C2",
        "Bulk embedding resumes after SIGKILL: each input once, in order, byte for byte the"
        " unbroken run",
    ),
    Promise("C3", "The last two checkpoints are kept; a corrupt newest one is named and skipped"),
    Promise(
        "T1", "One Embedder serves many threads, bit-identical to serial (CPU)", gpu="TensorRT"
    ),
    Promise(
        "T2",
        "Fork after loading is a clear error, spawn works; close() waits for calls that run, a"
        " second close() is free",
        kept_in=("tests.runtime.test_lifecycle",),
    ),
    Promise("R1", "After warm-up memory grows by at most 8 MiB over random shapes", gpu="TensorRT"),
    Promise("R2", "Loading and closing leaves no memory over 8 MiB, no open files, no threads"),
    Promise(
        "F1",
        "Whatever keeps TensorRT or CUDA from running, the next backend answers, with exactly one"
        " BackendFallbackWarning",
        gpu="real causes",
    ),
    Promise("F2", "A backend asked for by name raises instead and never degrades"),
    Promise("F3", "The provider in use is read from the session; nothing is printed to stdout"),
    Promise(
        "F4",
        "Out of device memory: the batch is halved down to one sentence, then the next backend; the"
        " same answers",
        gpu="real exhaustion",
    ),
    Promise(
        "D1",
        "A sentence's vectors do not depend on batch mates, order, padding or history:"
        " bit-identical on CPU",
        gpu="CUDA and TensorRT",
    ),
    Promise("D3", "Same bundle, same input, same bits in every process and thread count (CPU)"),
    Promise(
        "D4",
        "Reference, graph and backend agree at each stage, clips binding",
        gpu="engines",
        kept_in=(
            "tests.export.test_parity",
            "tests.test_golden_bundle",
        ),
    ),
    Promise(
        "D5",
        "Exporting twice gives byte-identical graphs and manifest",
        kept_in=("tests.export.test_package",),
    ),
    Promise("X1", "Foreign weights run no code: refused or converted"),
    Promise(
        "X2",
        "An engine of unknown origin is not opened; the digest is checked on the bytes handed over",
        gpu="running an engine",
        kept_in=(
            "tests.runtime.test_tensorrt_opening",
            "tests.runtime.test_engines",
        ),
    ),
    Promise(
        "X3",
        "No network, no shell, no stray write in any command that names no URL",
        kept_in=("tests.cli",),
    ),
    Promise("X4", "`import elmo_runtime` needs numpy only", kept_in=("tests.runtime.test_import",)),
)
