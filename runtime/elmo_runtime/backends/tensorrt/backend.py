"""TensorRT and TensorRT-RTX engines as a backend, which divides batches among sessions."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import BackendOptions, BiLmInputs, FloatArray
from elmo_runtime.backends.tensorrt.buckets import choose_plan, chunks
from elmo_runtime.backends.tensorrt.engine import OpenEngine, OpenPlan, open_engine
from elmo_runtime.backends.tensorrt.session import FloatOutputs, Session
from elmo_runtime.bundle.engines import engine_folders
from elmo_runtime.bundle.manifest import Bundle

WORKERS = 2  # one computes while the other one copies
KEPT_WORDS = 32_768  # token vectors that stay on the device, per worker: 64 MB at P = 512
BATCH_AXIS = {"elmo": 1, "default": 1, "final_h": 2, "final_c": 2}  # of all others it is the first
PER_MIX = ("elmo", "default")


class TensorRtBackend:
    """An engine of a bundle on the first GPU; `workers` threads can compute at the same time."""

    name = "tensorrt"

    def __init__(
        self, engine: OpenEngine, *, workers: int = WORKERS, kept_words: int = KEPT_WORDS
    ) -> None:
        self.precision = engine.record.precision
        self._engine = engine
        self._kept_words = kept_words
        self.longest: int | None = max(plan.plan.sizes["marked_length"][2] for plan in engine.bilm)
        self._plans = {plan.plan.file: plan for plan in engine.bilm}
        # None is a session that is opened when it is needed, also after a failure.
        self._sessions: queue.LifoQueue[Session | None] = queue.LifoQueue()
        for _ in range(workers):
            self._sessions.put(None)

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """(words, max_characters) ids, at least one word -> (words, P)."""
        largest = self._engine.encoder.plan.sizes["words"][2]
        with self._session() as session:
            parts = chunks(len(char_ids), largest)
            return np.concatenate([session.encode_words(char_ids[part]) for part in parts])

    def run_bilm(
        self, inputs: BiLmInputs, outputs: Sequence[str], *, half: bool = False
    ) -> FloatOutputs:
        """A batch -> the requested outputs; with `half`, vectors are float16."""
        plan = self._choose_plan(inputs.word_index.shape[1])
        computed: FloatOutputs = {}
        names = list(outputs)
        with self._session() as session:
            for part in chunks(len(inputs.gamma), plan.plan.sizes["mixes"][2]):
                of_part = _run_batch(session, plan, _some_mixes(inputs, part), names, half)
                for name, array in of_part.items():
                    before = [computed[name]] if name in computed else []
                    computed[name] = np.concatenate([*before, array])
                names = [name for name in names if name in PER_MIX]
        return computed

    def close(self) -> None:
        """Free the sessions and the engine; no computation is running or follows."""
        with self._engine.device.current():
            while not self._sessions.empty():
                session = self._sessions.get()
                if session is not None:
                    session.close()
        del self._engine, self._plans

    def _choose_plan(self, marked_length: int) -> OpenPlan:
        plans = [plan.plan for plan in self._plans.values()]
        return self._plans[choose_plan(plans, marked_length).file]

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        """A session for one call. A session that failed is closed and its memory is freed."""
        idle = self._sessions.get()
        kept: Session | None = None
        try:
            with self._engine.device.current():
                session = idle or Session(self._engine, kept_words=self._kept_words)
                try:
                    yield session
                    kept = session
                finally:
                    if kept is None:
                        session.close()
        finally:
            self._sessions.put(kept)


def has_engine(bundle: Bundle) -> bool:
    """Whether the bundle contains an engine, so that the user expects it to be used."""
    return bool(engine_folders(bundle))


def open_tensorrt(bundle: Bundle, precision: str, options: BackendOptions) -> TensorRtBackend:
    """Raises BackendUnavailableError or EngineError with the reason why no engine can be used."""
    return TensorRtBackend(open_engine(bundle, precision, trusted=options.trusted_engines))


def _run_batch(
    session: Session, plan: OpenPlan, inputs: BiLmInputs, names: Sequence[str], half: bool
) -> FloatOutputs:
    """A batch of any number of sentences -> its outputs, in calls that fit the plan."""
    parts = list(chunks(len(inputs.lengths), plan.plan.sizes["batch"][2]))
    if len(parts) == 1:
        return session.run_bilm(plan, inputs, names, half=half)
    computed = [
        session.run_bilm(plan, _some_sentences(inputs, part), names, half=half) for part in parts
    ]
    return {
        name: np.concatenate([each[name] for each in computed], axis=BATCH_AXIS.get(name, 0))
        for name in names
    }


def _some_sentences(inputs: BiLmInputs, part: slice) -> BiLmInputs:
    """A part of a batch with only the words that occur in it."""
    words, index = np.unique(inputs.word_index[part], return_inverse=True)
    return dataclasses.replace(
        inputs,
        word_vectors=inputs.word_vectors[words],
        word_ids=None if inputs.word_ids is None else inputs.word_ids[words],
        word_index=index.reshape(inputs.word_index[part].shape).astype(np.int32),
        lengths=inputs.lengths[part],
        initial_h=inputs.initial_h[:, :, part],
        initial_c=inputs.initial_c[:, :, part],
    )


def _some_mixes(inputs: BiLmInputs, part: slice) -> BiLmInputs:
    some: dict[str, Any] = {name: array[part] for name, array in inputs.of_mixes().items()}
    return dataclasses.replace(inputs, **some)
