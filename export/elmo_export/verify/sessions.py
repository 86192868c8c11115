"""Graphs of a bundle on ONNX Runtime CPU, with the interface of the `joined` graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from elmo_export.verify.fp16_rounding import with_roundings
from elmo_runtime.backends.onnxruntime.backend import EXTERNAL_DATA
from elmo_runtime.backends.onnxruntime.installation import import_onnxruntime
from elmo_runtime.bundle.manifest import Graph
from elmo_runtime.characters import BEGIN_SENTENCE, END_SENTENCE, boundary_row
from elmo_runtime.errors import BackendUnavailableError

Array = NDArray[Any]
ReadFile = Callable[[str], bytes]


class GraphRunner:
    """Runs the inputs of the `joined` graph through that graph, or through the other two.

    read: the name of a graph's file -> its bytes.
    """

    def __init__(self, read: ReadFile, graphs: Sequence[Graph]) -> None:
        self._sessions = {graph.part: _open_graph(read(graph.file), graph) for graph in graphs}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of the `joined` graph by name -> its outputs by name."""
        if "joined" in self._sessions:
            return run_session(self._sessions["joined"], inputs)
        words, word_index = distinct_words(inputs["char_ids"], inputs["lengths"])
        vectors = run_session(self._sessions["token_encoder"], {"char_ids": words})
        rest = {name: value for name, value in inputs.items() if name != "char_ids"}
        return run_session(self._sessions["bilm"], {**rest, **vectors, "word_index": word_index})


def _open_graph(model: bytes, graph: Graph) -> Any:
    if graph.precision != "fp16":
        return open_session(model)
    return open_session(with_roundings(onnx.load_from_string(model)).SerializeToString())


def distinct_words(char_ids: Array, lengths: Array) -> tuple[Array, Array]:
    """(batch, length, characters) -> distinct words with boundary tokens, and word_index."""
    batch, length, width = char_ids.shape
    real = np.arange(length) < lengths[:, None]
    marks = [boundary_row(mark, width) for mark in (BEGIN_SENTENCE, END_SENTENCE)]
    rows = np.concatenate([marks, char_ids[real]])
    words, numbers = np.unique(rows, axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    index = np.zeros((batch, length + 2), np.int32)
    index[:, 0] = numbers[0]
    index[:, 1:-1][real] = numbers[2:]
    index[np.arange(batch), lengths + 1] = numbers[1]
    return np.ascontiguousarray(words), index


def load_onnxruntime() -> ModuleType:
    """The library. Raises BackendUnavailableError with the extras to install."""
    try:
        return import_onnxruntime()
    except BackendUnavailableError as error:
        extras = error.hint.replace("[cpu]", "[cpu,export]").replace("[gpu]", "[gpu,export]")
        raise BackendUnavailableError(
            f"a bundle is verified with ONNX Runtime: {error.what}", hint=extras
        ) from error


def open_session(model: bytes) -> Any:
    """An InferenceSession on the CPU; the serialized model must hold all its tensors."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(EXTERNAL_DATA, os.devnull)
    options.log_severity_level = 3  # its warnings would break the progress lines
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs by name -> all outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
