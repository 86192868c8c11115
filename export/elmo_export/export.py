"""Checkpoint -> verified bundle: graphs, config, warm state, golden samples, model card."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.build import build_bilm, build_joined, build_token_encoder
from elmo_export.graphs.describe import describe_graph
from elmo_export.graphs.weight_formats import WeightFormat
from elmo_export.model_card import model_card
from elmo_export.own_files import BUNDLE_FORMAT, CONFIG, README, SAMPLES, WARM_STATE
from elmo_export.quantize.choose import choose_format
from elmo_export.verify.cases import (
    SHAPES,
    Case,
    own_sentences,
    parity_cases,
    sentence_inputs,
    too_large,
)
from elmo_export.verify.native import possible_forms, verify_native, why_unusable, without_failed
from elmo_export.verify.parity import TOLERANCES, ParityRow, Reference, References, as_text, compare
from elmo_export.verify.sessions import GraphRunner, ReadFile, load_onnxruntime
from elmo_runtime.bundle.manifest import NATIVE, Bundle, Graph, Manifest, write_manifest
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BackendUnavailableError, InputError, VerificationError
from elmo_runtime.files.atomic import atomic_directory

Progress = Callable[[str, float], None]  # what is being done, and the share 0..1 that is done
N_SAMPLES = 4  # golden sentences; a few, for they are compared at every load
FORMS = {  # that exist in each precision; native has no graph, but the weights of fp32
    "fp32": ("padded", "packed", NATIVE),
    "fp16": ("padded",),
    "bf16": (NATIVE,),
    "int8": ("packed", NATIVE),
}


@np.errstate(all="ignore")  # rounding to FP16 underflows; a caller may have made that an error
def export_bundle(
    checkpoint: Checkpoint,
    path: Path,
    *,
    reference: Reference,
    precisions: Sequence[str] = ("fp32",),
    joined: bool = False,
    forms: Sequence[str] = ("padded", "packed", NATIVE),
    warm_sentences: Sequence[Sequence[str]] | None = None,
    on_progress: Progress | None = None,
) -> Bundle:
    """Write the bundle `path` and return it opened. It appears whole and verified, or not at all.

    `reference` computes the outputs of the `joined` graph from its inputs, all by name, as
    `elmo_deploy.model.reference.reference(checkpoint)` does. `warm_sentences` (tokens) give the
    warm state; by default some of our own. Raises VerificationError with the parity table,
    InputError where files that we did not write would be lost, ArtifactError when the disk is
    full, BackendUnavailableError without ONNX Runtime.
    """
    load_onnxruntime()  # now, not after the minutes that the graphs take
    report = on_progress or (lambda what, share: None)
    wanted = list(_wanted(precisions, forms, joined))
    path = Path(path).absolute()  # the current folder may be the one that is replaced
    with atomic_directory(path, kind=BUNDLE_FORMAT) as folder:
        graphs, notes = [], _left_out(checkpoint.config)
        formats: dict[str, WeightFormat] = {}
        for number, (part, form, precision) in enumerate(wanted):
            report(f"write {part} {form} {precision}", 0.3 * number / len(wanted))
            if precision not in formats:
                formats[precision], kept = choose_format(precision, checkpoint, reference)
                notes |= {f"{precision}: {name}": reason for name, reason in kept.items()}
            graphs.append(_write_graph(folder, checkpoint, part, form, formats[precision]))
        report("run the reference", 0.3)
        _write_config(folder, checkpoint)
        _write_warm_state(folder, checkpoint, reference, warm_sentences or own_sentences())
        _write_samples(folder, checkpoint, reference)
        manifest = Manifest(
            config=checkpoint.config,
            mixes=checkpoint.mixes,
            graphs=tuple(graphs),
            provenance={**checkpoint.provenance, **_versions()},
            notes=notes,
        )
        references = References(reference, parity_cases(checkpoint.config, checkpoint.mixes))
        rows = _verify(_reader(folder), manifest, references, report)
        native = possible_forms(precisions) if NATIVE in forms else ()
        native_rows, reasons = _try_native(_reader(folder), manifest, references, native)
        manifest = replace(
            manifest,
            parity=tuple(asdict(row) for row in (*rows, *native_rows)),
            notes=notes | reasons,
        )
        (folder / README).write_text(model_card(manifest, checkpoint), "utf-8")
        write_manifest(folder, manifest)
    return Bundle.open(path)


@np.errstate(all="ignore")
def verify_bundle(
    path: Path, *, reference: Reference, on_progress: Progress | None = None
) -> tuple[ParityRow, ...]:
    """Open a bundle, digests first, and repeat the parity check of its export.

    `reference` must come from the weights that the bundle holds; `recover_checkpoint` gives them
    back. Raises VerificationError with the parity table.
    """
    bundle = Bundle.open(Path(path))
    report = on_progress or (lambda what, share: None)
    references = References(reference, parity_cases(bundle.config, bundle.mixes))
    rows = _verify(bundle.read, bundle.manifest, references, report)
    if why_unusable() is None:
        rows += verify_native(bundle.read, bundle.manifest, references, bundle.native_forms)
    return tuple(_passed(rows))


def _wanted(
    precisions: Sequence[str], forms: Sequence[str], joined: bool
) -> Iterator[tuple[str, str, str]]:
    """(part, form, precision) of every graph."""
    if not precisions:
        raise InputError("precisions is empty", hint=f"use some of {', '.join(FORMS)}")
    for precision in dict.fromkeys(precisions):
        if precision not in FORMS:
            raise InputError(
                f"precision {precision!r} does not exist", hint=f"use {', '.join(FORMS)}"
            )
        possible = [form for form in FORMS[precision] if form in forms]
        if not possible:
            raise InputError(
                f"{precision} has no form {' or '.join(forms) or 'at all'}",
                hint=f"its forms are {', '.join(FORMS[precision])}",
            )
        graphs = [form for form in possible if form != NATIVE]
        if not graphs:
            _refuse_alone(precision, precisions)
            continue
        yield "token_encoder", "padded", precision
        yield from (("bilm", form, precision) for form in graphs)
        if joined:
            yield "joined", graphs[0], precision


def _refuse_alone(precision: str, precisions: Sequence[str]) -> None:
    """A precision without graphs needs those of fp32, and the library that computes it."""
    if "fp32" not in precisions:
        raise InputError(
            f"{precision} is computed from the weights of fp32", hint="add --precision fp32"
        )
    if reason := why_unusable():
        raise BackendUnavailableError(
            f"{precision} is a form of the backend native, which cannot run here: {reason}",
            hint="export on Linux on x86-64 with AVX2, or without this precision",
        )


def _write_graph(
    folder: Path, checkpoint: Checkpoint, part: str, form: str, weight_format: WeightFormat
) -> Graph:
    if part == "token_encoder":
        model = build_token_encoder(checkpoint, weight_format=weight_format)
    else:
        build = {"bilm": build_bilm, "joined": build_joined}[part]
        model = build(checkpoint, form=form, weight_format=weight_format)
    graph = describe_graph(model, part=part, form=form, precision=weight_format.name)
    file = folder / graph.file
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(model.SerializeToString(deterministic=True))
    return graph


def _write_config(folder: Path, checkpoint: Checkpoint) -> None:
    text = json.dumps(checkpoint.config.to_options(), indent=2) + "\n"
    (folder / CONFIG).write_text(text, "utf-8")


def _write_warm_state(
    folder: Path, checkpoint: Checkpoint, reference: Reference, sentences: Sequence[Sequence[str]]
) -> None:
    """The mean state after one sentence from zero: h (L, 2, P) and c (L, 2, C)."""
    outputs = reference(**sentence_inputs(checkpoint.config, sentences))
    mean = {key: outputs[f"final_{key}"].mean(axis=2).astype(np.float32) for key in ("h", "c")}
    (folder / WARM_STATE).parent.mkdir()
    (folder / WARM_STATE).write_bytes(save(mean))


def _write_samples(folder: Path, checkpoint: Checkpoint, reference: Reference) -> None:
    """Golden sentences: what a backend is given at load, and what the reference answers.

    With the mixes of the checkpoint as the reference has them, or else with one of equal shares.
    """
    case = Case("samples", sentence_inputs(checkpoint.config, own_sentences()[:N_SAMPLES]))
    inputs = replace(case, trained_mixes=bool(checkpoint.mixes)).reference_inputs
    (folder / SAMPLES).mkdir()
    tokens: dict[str, Any] = {name: inputs[name] for name in ("char_ids", "lengths")}
    answers: dict[str, Any] = dict(reference(**inputs))
    np.savez(folder / SAMPLES / "inputs.npz", **tokens)
    np.savez(folder / SAMPLES / "outputs.npz", **answers)


def _reader(folder: Path) -> ReadFile:
    return lambda name: (folder / name).read_bytes()


def _verify(
    read: ReadFile, manifest: Manifest, references: References, report: Progress
) -> list[ParityRow]:
    """Compare every graph, given the mixes of the manifest, with the reference.

    Raises VerificationError with the table.
    """
    rows: list[ParityRow] = []
    groups = list(_runnable(manifest.graphs))
    for number, group in enumerate(groups):
        last = group[-1]
        report(f"verify {last.part} {last.form} {last.precision}", 0.5 + 0.5 * number / len(groups))
        name = last.form if last.part == "bilm" else last.part
        rows += _compare(GraphRunner(read, group), references, last, name)
    report("verified", 1.0)
    return _passed(rows)


def _passed(rows: list[ParityRow]) -> list[ParityRow]:
    """The rows. Raises VerificationError with the table if one is beyond its tolerance."""
    if failed := [row for row in rows if not row.passed]:
        raise VerificationError(
            f"{len(failed)} of {len(rows)} outputs are beyond tolerance\n{as_text(rows)}"
        )
    return rows


def _try_native(
    read: ReadFile, manifest: Manifest, references: References, forms: Sequence[str]
) -> tuple[list[ParityRow], dict[str, str]]:
    """Rows of the forms of the backend native, and why which are left out of the bundle.

    fp32 must pass, and bf16, which only native computes. int8 has its graph: where native's own
    rounding turns vectors too far, the graph serves alone.
    """
    if not forms:
        return [], {}
    if reason := why_unusable():
        return [], {"native": f"not verified: {reason}"}
    rows = verify_native(read, manifest, references, forms)
    kept = list(without_failed(rows, ["int8"]))
    if len(kept) < len(rows):
        return _passed(kept), {"native: int8": "not verified: it turns vectors too far"}
    return _passed(kept), {}


def _compare(
    runner: GraphRunner, references: References, graph: Graph, name: str
) -> Sequence[ParityRow]:
    tolerance = TOLERANCES[graph.precision]
    return compare(runner, references, precision=graph.precision, graph=name, tolerance=tolerance)


def _runnable(graphs: Sequence[Graph]) -> Iterator[tuple[Graph, ...]]:
    """Graphs that give all outputs together: a biLM after its token encoder, or a joined one."""
    encoders = {graph.precision: graph for graph in graphs if graph.part == "token_encoder"}
    for graph in graphs:
        if graph.part == "bilm":
            yield encoders[graph.precision], graph
        elif graph.part == "joined":
            yield (graph,)


def _left_out(config: ElmoConfig) -> dict[str, str]:
    shapes = [f"{batch}x{length}" for batch, length in SHAPES if too_large(config, batch, length)]
    return {"parity cases left out for their size": ", ".join(shapes)} if shapes else {}


def _versions() -> dict[str, str]:
    versions = {package: version(package) for package in ("elmo-deploy", "onnx", "numpy")}
    return versions | {"onnxruntime": load_onnxruntime().__version__}  # of either distribution
