"""The table of systems that can be measured, with one entry per system."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from elmo_deploy.benchmark.loads import Sentence
from elmo_deploy.benchmark.subject import Subject
from elmo_runtime.backends.base import Backend, BackendOptions, BiLmInputs, FloatArray
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import BackendUnavailableError
from elmo_runtime.inference.pipeline import CACHE_WORDS

STAGES = ("characters", "CNN", "LSTM", "whole graph", "copy")


class Runner(Protocol):
    """An open system."""

    def embed(self, sentences: Sequence[Sentence]) -> object:
        """One batch of token lists -> its ELMo vectors in host memory."""

    def stages(self, sentences: Sequence[Sentence]) -> dict[str, float]:
        """Seconds of one such call per stage of STAGES."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One way to compute ELMo vectors, or the vectors of a model that may replace ELMo."""

    name: str
    label: str
    open: Callable[[Subject], Runner]
    exact: bool = True  # whether it computes ELMo, up to rounding
    is_elmo: bool = True  # False for another model
    on_device: bool = False


class EmbedderRunner:
    """An Embedder with a clock around its backend."""

    def __init__(self, bundle: Bundle, backend: Backend, *, cache_words: int) -> None:
        self.clock = ClockedBackend(backend)
        self.embedder = Embedder(bundle, self.clock, cache_words=cache_words)
        self.max_characters = bundle.config.max_characters_per_token

    def embed(self, sentences: Sequence[Sentence]) -> object:
        """The `elmo` output, as `Embedder.embed` gives it."""
        return self.embedder.embed(sentences)

    def stages(self, sentences: Sequence[Sentence]) -> dict[str, float]:
        """Time the ids separately; copy is the remainder: indexing, gathering, cutting."""
        start = time.perf_counter()
        words = {token for sentence in sentences for token in sentence}
        char_ids(list(words), max_characters=self.max_characters)
        seconds = {"characters": time.perf_counter() - start}
        self.clock.seconds = {"CNN": 0.0, "LSTM": 0.0}
        start = time.perf_counter()
        self.embed(sentences)
        total = time.perf_counter() - start
        seconds |= self.clock.seconds
        return {**seconds, "copy": max(total - sum(seconds.values()), 0.0)}


class ClockedBackend:
    """A backend that sums the time it computes. One caller at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.precision = backend.name, backend.precision
        self.longest = backend.longest
        self.seconds = {"CNN": 0.0, "LSTM": 0.0}

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """As the backend does."""
        start = time.perf_counter()
        vectors = self._backend.encode_words(char_ids)
        self.seconds["CNN"] += time.perf_counter() - start
        return vectors

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> dict[str, NDArray[np.floating[Any]]]:
        """As the backend does."""
        start = time.perf_counter()
        answer = self._backend.run_bilm(inputs, outputs, half=half)
        self.seconds["LSTM"] += time.perf_counter() - start
        return answer

    def close(self) -> None:
        """As the backend does."""
        self._backend.close()


def _open_reference(subject: Subject) -> Runner:
    from elmo_deploy.benchmark.systems.pytorch import open_reference

    return open_reference(subject)


def _open_substitute(subject: Subject) -> Runner:
    from elmo_deploy.benchmark.systems.pytorch import open_substitute

    return open_substitute(subject)


def _open_openvino(subject: Subject) -> Runner:
    from elmo_deploy.benchmark.systems.openvino import open_openvino

    return open_openvino(subject)


def _transformer(*, int8: bool) -> Callable[[Subject], Runner]:
    """Return a function that opens the transformer."""

    def open_(subject: Subject) -> Runner:
        try:
            from elmo_deploy.benchmark.systems.transformer import open_transformer
        except ImportError as error:  # onnx is optional
            raise BackendUnavailableError(
                f"the graph of the transformer cannot be built: {error}",
                hint='pip install "elmo-deploy[benchmark]"',
            ) from error
        return open_transformer(subject, int8=int8)

    return open_


def _embedder(
    backend: str,
    precision: str,
    *,
    form: str | None = None,
    cache_words: int = 0,
) -> Callable[[Subject], Runner]:
    """Return a function that opens an Embedder; `form` restricts the graphs of the biLM.

    With `cache_words` 0 every batch computes its words. A repeated load would otherwise not run the
    CNN.
    """

    def open_(subject: Subject) -> Runner:
        bundle = Bundle.open(subject.bundle)
        if form is not None:
            bundle = _only(bundle, form)
        options = BackendOptions(threads=subject.threads)
        opened = BackendChain(bundle, backend, precision, options).open()
        return EmbedderRunner(bundle, opened, cache_words=cache_words)

    return open_


def _only(bundle: Bundle, form: str) -> Bundle:
    graphs = [
        graph for graph in bundle.manifest.graphs if graph.part != "bilm" or graph.form == form
    ]
    return replace(bundle, manifest=replace(bundle.manifest, graphs=tuple(graphs)))


SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        System(
            name="torch-lstm",
            label="torch nn.LSTM(proj_size), not exact",
            open=_open_substitute,
            exact=False,
        ),
        System(name="torch-eager", label="torch eager, the reference", open=_open_reference),
        System(
            name="cpu-padded",
            label="ONNX Runtime CPU, padded",
            open=_embedder("onnxruntime-cpu", "fp32", form="padded"),
        ),
        System(
            name="cpu-packed",
            label="ONNX Runtime CPU, packed",
            open=_embedder("onnxruntime-cpu", "fp32", form="packed"),
        ),
        System(
            name="cpu-packed-cached",
            label="ONNX Runtime CPU, packed, words seen before",
            open=_embedder("onnxruntime-cpu", "fp32", form="packed", cache_words=CACHE_WORDS),
        ),
        System(
            name="cpu-int8",
            label="ONNX Runtime CPU, packed, int8",
            open=_embedder("onnxruntime-cpu", "int8"),
            exact=False,
        ),
        System(
            name="native-fp32",
            label="native, fp32",
            open=_embedder("native", "fp32"),
        ),
        System(
            name="native-bf16",
            label="native, bf16",
            open=_embedder("native", "bf16"),
            exact=False,
        ),
        System(
            name="native-int8",
            label="native, int8",
            open=_embedder("native", "int8"),
            exact=False,
        ),
        System(
            name="cuda-fp32",
            label="ONNX Runtime CUDA, fp32",
            open=_embedder("onnxruntime-cuda", "fp32"),
            on_device=True,
        ),
        System(
            name="cuda-fp16",
            label="ONNX Runtime CUDA, fp16",
            open=_embedder("onnxruntime-cuda", "fp16"),
            exact=False,
            on_device=True,
        ),
        System(
            name="tensorrt-fp32",
            label="TensorRT, fp32",
            open=_embedder("tensorrt", "fp32"),
            on_device=True,
        ),
        System(
            name="tensorrt-fp16",
            label="TensorRT, fp16",
            open=_embedder("tensorrt", "fp16"),
            exact=False,
            on_device=True,
        ),
        System(
            name="openvino-fp32",
            label="OpenVINO, the joined graph, fp32",
            open=_open_openvino,
        ),
        System(
            name="minilm-fp32",
            label="a transformer of MiniLM-L6's size in ONNX Runtime, not ELMo, fp32",
            open=_transformer(int8=False),
            exact=False,
            is_elmo=False,
        ),
        System(
            name="minilm-int8",
            label="a transformer of MiniLM-L6's size in ONNX Runtime, not ELMo, int8",
            open=_transformer(int8=True),
            exact=False,
            is_elmo=False,
        ),
    )
}
