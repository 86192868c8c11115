"""Checkpoint -> verified bundle, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from elmo_export.bundle_writer import BundleWriter
from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.weight_formats import WeightFormat
from elmo_export.own_files import BUNDLE_FORMAT
from elmo_export.quantize.choose import choose_format
from elmo_export.requested import RequestedGraph, requested_graphs
from elmo_export.verify.cases import omitted_shapes, own_sentences, parity_cases
from elmo_export.verify.graphs import Progress, passed, try_native, verify_graphs
from elmo_export.verify.native import possible_forms, verify_native, why_unusable
from elmo_export.verify.parity import ParityRow, Reference, References
from elmo_export.verify.sessions import load_onnxruntime
from elmo_runtime.bundle.manifest import NATIVE, Bundle, Graph, Manifest
from elmo_runtime.files.atomic import atomic_directory


@np.errstate(all="ignore")  # rounding to FP16 underflows, which a caller may have made an error
def export_bundle(
    checkpoint: Checkpoint,
    path: str | Path,
    *,
    reference: Reference,
    precisions: Sequence[str] = ("fp32",),
    joined: bool = False,
    forms: Sequence[str] = ("padded", "packed", NATIVE),
    warm_sentences: Sequence[Sequence[str]] | None = None,
    on_progress: Progress | None = None,
) -> Bundle:
    """Write a bundle atomically, after the comparison of every output with the reference.

    `elmo_deploy.export` passes the reference model itself.

    Args:
        checkpoint: The model.
        path: The directory of the bundle. A bundle there is replaced; engines that fit stay.
        reference: A function of the inputs of the `joined` graph, by name, that returns its
            outputs by name, such as `elmo_deploy.model.reference.reference(checkpoint)`.
        precisions: Some of fp32, fp16, bf16 and int8.
        joined: Add one self-contained graph from character ids to vectors per precision.
        forms: The forms to write, where a precision has them: padded, packed and native.
        warm_sentences: Tokenized sentences; the mean of their last states becomes the warm state.
            By default, built-in sentences are used.
        on_progress: A function of the current work and the finished share, 0 to 1.

    Returns:
        The opened bundle.

    Raises:
        VerificationError: An output exceeds its tolerance; the message holds the parity table.
        InputError: A precision or form does not exist, or files of others would be lost.
        ArtifactError: The disk is full.
        BackendUnavailableError: ONNX Runtime is not installed.
    """
    load_onnxruntime()  # now, and not after the minutes that the graphs take
    report = on_progress or _no_report
    requested = list(requested_graphs(precisions, forms, joined=joined))
    path = Path(path).absolute()  # the current directory may be the one that is replaced
    with atomic_directory(path, kind=BUNDLE_FORMAT) as folder:
        writer = BundleWriter(folder, checkpoint, reference)
        graphs, notes = _write_graphs(writer, requested, report)
        report("run the reference", 0.3)
        writer.write_config()
        writer.write_warm_state(warm_sentences or own_sentences())
        writer.write_samples()
        manifest = Manifest(
            config=checkpoint.config,
            mixes=checkpoint.mixes,
            graphs=graphs,
            provenance={**checkpoint.provenance, **_versions()},
        )
        references = References(reference, parity_cases(checkpoint.config, checkpoint.mixes))
        rows = verify_graphs(writer.read, manifest, references, report)
        native_forms = possible_forms(precisions) if NATIVE in forms else ()
        native_rows, reasons = try_native(writer.read, manifest, references, native_forms)
        parity = tuple(asdict(row) for row in (*rows, *native_rows))
        writer.write_manifest(replace(manifest, parity=parity, notes=notes | reasons))
    return Bundle.open(path)


@np.errstate(all="ignore")
def verify_bundle(
    path: str | Path, *, reference: Reference, on_progress: Progress | None = None
) -> tuple[ParityRow, ...]:
    """Open a bundle, digests first, and repeat the parity check of its export.

    `elmo_deploy.verify` passes the reference model itself.

    Args:
        path: The directory of the bundle.
        reference: See `export_bundle`. It must use the weights that the bundle holds;
            `recover_checkpoint` returns them.
        on_progress: A function of the current work and the finished share, 0 to 1.

    Returns:
        The parity table: one row per output and graph.

    Raises:
        VerificationError: An output exceeds its tolerance; the message holds the parity table.
        BundleError: The bundle is missing, corrupt or of another version.
    """
    bundle = Bundle.open(Path(path))
    references = References(reference, parity_cases(bundle.config, bundle.mixes))
    rows = verify_graphs(bundle.read, bundle.manifest, references, on_progress or _no_report)
    if why_unusable() is None:
        rows += verify_native(bundle.read, bundle.manifest, references, bundle.native_forms)
    return tuple(passed(rows))


def _write_graphs(
    writer: BundleWriter, requested: Sequence[RequestedGraph], report: Progress
) -> tuple[tuple[Graph, ...], dict[str, str]]:
    """The entries of the graphs, and notes on what they leave out or keep in FP32."""
    graphs: list[Graph] = []
    notes: dict[str, str] = {}
    if shapes := omitted_shapes(writer.checkpoint.config):
        notes["parity cases left out for their size"] = ", ".join(shapes)
    formats: dict[str, WeightFormat] = {}
    for number, graph in enumerate(requested):
        report(f"write {' '.join(graph)}", 0.3 * number / len(requested))
        name = graph.precision
        if name not in formats:
            formats[name], kept = choose_format(name, writer.checkpoint, writer.reference)
            notes |= {f"{name}: {weight}": reason for weight, reason in kept.items()}
        graphs.append(writer.write_graph(graph, formats[name]))
    return tuple(graphs), notes


def _versions() -> dict[str, str]:
    versions = {package: version(package) for package in ("elmo-deploy", "onnx", "numpy")}
    return versions | {"onnxruntime": load_onnxruntime().__version__}  # of either distribution


def _no_report(what: str, share: float) -> None:
    return
