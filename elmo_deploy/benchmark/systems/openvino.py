"""OpenVINO on the joined graph of a bundle: another runtime for the same ELMo."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_deploy.benchmark.loads import Sentence
from elmo_deploy.benchmark.subject import Subject
from elmo_runtime.bundle.manifest import Bundle, Graph
from elmo_runtime.characters import char_ids
from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BackendUnavailableError


class OpenVinoRunner:
    """A compiled joined graph on the CPU, with zero states and one mix of equal weights."""

    def __init__(self, compiled: Any, config: ElmoConfig, graph: Graph) -> None:
        self.compiled, self.config = compiled, config
        self.request = compiled.create_infer_request()
        self.inputs = {tensor.name for tensor in graph.inputs}

    def embed(self, sentences: Sequence[Sentence]) -> NDArray[np.float32]:
        """(mixes, batch, length, 2P), 0 past each sentence."""
        return self.run(joined_inputs(self.config, sentences))

    def run(self, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Inputs of the joined graph by name -> its `elmo` output."""
        given = {name: array for name, array in inputs.items() if name in self.inputs}
        self.request.infer(given)
        vectors: NDArray[np.float32] = self.request.get_tensor("elmo").data.copy()
        return vectors

    def stages(self, sentences: Sequence[Sentence]) -> dict[str, float]:
        """Seconds of the ids and of the graph, which cannot be divided."""
        start = time.perf_counter()
        inputs = joined_inputs(self.config, sentences)
        prepared = time.perf_counter()
        self.run(inputs)
        return {"characters": prepared - start, "whole graph": time.perf_counter() - prepared}


def joined_inputs(config: ElmoConfig, sentences: Sequence[Sentence]) -> dict[str, NDArray[Any]]:
    """Tokens -> inputs of the joined graph, named and shaped as in docs/reference/graphs.md."""
    lengths = np.array([len(sentence) for sentence in sentences], np.int32)
    ids = np.zeros((len(lengths), lengths.max(), config.max_characters_per_token), np.int32)
    tokens = [token for sentence in sentences for token in sentence]
    real = np.arange(ids.shape[1]) < lengths[:, None]
    ids[real] = char_ids(tokens, max_characters=config.max_characters_per_token)
    states = (config.n_layers, 2, len(lengths))
    return {
        "char_ids": ids,
        "lengths": lengths,
        "mix_weights": np.zeros((1, config.n_layers + 1), np.float32),
        "gamma": np.ones(1, np.float32),
        "layer_norm": np.zeros(1, np.float32),
        "initial_h": np.zeros((*states, config.projection_dim), np.float32),
        "initial_c": np.zeros((*states, config.lstm_dim), np.float32),
    }


def open_openvino(subject: Subject) -> OpenVinoRunner:
    """Raises BackendUnavailableError without openvino, or without a joined FP32 graph."""
    openvino = _import_openvino()
    bundle = Bundle.open(subject.bundle)
    graph = _joined_graph(bundle)
    # FP32 on request, because OpenVINO computes in BF16 where the processor has it.
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if subject.threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(subject.threads)
    try:
        compiled = openvino.Core().compile_model(str(bundle.path / graph.file), "CPU", options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BackendUnavailableError(f"OpenVINO cannot compile {graph.file}: {reason}") from error
    return OpenVinoRunner(compiled, bundle.config, graph)


def _joined_graph(bundle: Bundle) -> Graph:
    for graph in bundle.manifest.graphs:
        if (graph.part, graph.form, graph.precision) == ("joined", "padded", "fp32"):
            return graph
    raise BackendUnavailableError(
        f"{bundle.path} has no joined graph in fp32, which OpenVINO needs",
        hint="export the checkpoint again with --joined --precision fp32",
    )


def _import_openvino() -> ModuleType:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise BackendUnavailableError(
            f"OpenVINO cannot be imported: {error}", hint='pip install "elmo-deploy[benchmark]"'
        ) from error
