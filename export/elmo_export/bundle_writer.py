"""The files of a bundle: graphs, config, warm state, golden sentences, model card, manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.build import build_bilm, build_joined, build_token_encoder
from elmo_export.graphs.describe import describe_graph
from elmo_export.graphs.weight_formats import WeightFormat
from elmo_export.model_card import model_card
from elmo_export.own_files import CONFIG, README, SAMPLES, WARM_STATE
from elmo_export.requested import RequestedGraph
from elmo_export.verify.cases import Case, own_sentences, sentence_inputs
from elmo_export.verify.parity import Reference
from elmo_runtime.bundle.manifest import Graph, Manifest, write_manifest

N_SAMPLES = 4  # golden sentences; few, because every load computes them


@dataclass(frozen=True)
class BundleWriter:
    """Writes the files of one checkpoint into the directory of a bundle."""

    folder: Path
    checkpoint: Checkpoint
    reference: Reference

    def read(self, name: str) -> bytes:
        """The bytes of a file that was written, by its name in the manifest."""
        return (self.folder / name).read_bytes()

    def write_graph(self, requested: RequestedGraph, weight_format: WeightFormat) -> Graph:
        """Write one ONNX file; returns its entry in the manifest."""
        part, form, precision = requested
        if part == "token_encoder":
            model = build_token_encoder(self.checkpoint, weight_format=weight_format)
        else:
            build = {"bilm": build_bilm, "joined": build_joined}[part]
            model = build(self.checkpoint, form=form, weight_format=weight_format)
        graph = describe_graph(model, part=part, form=form, precision=precision)
        self._write(graph.file, model.SerializeToString(deterministic=True))
        return graph

    def write_config(self) -> None:
        """Write config.json, with the keys of the published options.json."""
        text = json.dumps(self.checkpoint.config.to_options(), indent=2) + "\n"
        self._write(CONFIG, text.encode())

    def write_warm_state(self, sentences: Sequence[Sequence[str]]) -> None:
        """Write the mean state after one sentence from zero: h (L, 2, P) and c (L, 2, C)."""
        outputs = self.reference(**sentence_inputs(self.checkpoint.config, sentences))
        mean = {key: outputs[f"final_{key}"].mean(axis=2).astype(np.float32) for key in ("h", "c")}
        self._write(WARM_STATE, save(mean))

    def write_samples(self) -> None:
        """Write the golden sentences: inputs, and the outputs of the reference.

        They use the mixes of the checkpoint, as the reference has them, or one of equal weights.
        """
        sentences = own_sentences()[:N_SAMPLES]
        case = Case("samples", sentence_inputs(self.checkpoint.config, sentences))
        inputs = replace(case, trained_mixes=bool(self.checkpoint.mixes)).reference_inputs
        tokens: dict[str, Any] = {name: inputs[name] for name in ("char_ids", "lengths")}
        outputs: dict[str, Any] = dict(self.reference(**inputs))
        (self.folder / SAMPLES).mkdir()
        np.savez(self.folder / SAMPLES / "inputs.npz", **tokens)
        np.savez(self.folder / SAMPLES / "outputs.npz", **outputs)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the model card, then manifest.json with the digests of all files."""
        self._write(README, model_card(manifest, self.checkpoint).encode())
        write_manifest(self.folder, manifest)

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
