"""A worker with the token vectors and the initial states that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import BiLmInputs, FloatArray
from elmo_runtime.backends.tensorrt.buckets import pad, padded_count, padded_length, shape_of
from elmo_runtime.backends.tensorrt.device_states import DeviceStates
from elmo_runtime.backends.tensorrt.device_words import DeviceWords
from elmo_runtime.backends.tensorrt.engine import OpenEngine, OpenPlan
from elmo_runtime.backends.tensorrt.worker import Call, Worker
from elmo_runtime.bundle.engines import HALF_SUFFIX
from elmo_runtime.bundle.manifest import Tensor
from elmo_runtime.characters import PADDING
from elmo_runtime.inference.word_cache import NO_ID

FloatOutputs = dict[str, NDArray[np.floating[Any]]]


class Session:
    """Pads a batch to a plan, runs it and removes the padding. One call at a time."""

    def __init__(self, engine: OpenEngine, *, kept_words: int) -> None:
        self._encoder = engine.encoder
        self._worker = Worker(engine.library, engine.device)
        self._states = {name: DeviceStates(engine.device) for name in ("initial_h", "initial_c")}
        # A batch has at most as many distinct words as padded tokens.
        largest = max(
            plan.plan.sizes["batch"][2] * plan.plan.sizes["marked_length"][2]
            for plan in engine.bilm
        )
        self._words = DeviceWords(
            engine.device,
            width=int(engine.encoder.outputs[0].axes[-1]),
            kept=kept_words,
            passing=largest,
        )

    def encode_words(self, char_ids: NDArray[np.int32]) -> FloatArray:
        """(words, characters) ids, at most as many as fit the plan -> (words, P)."""
        sizes = self._encoder.plan.sizes
        words = padded_count(len(char_ids), sizes["words"])
        # Trimmed columns after the end of each word are restored; a padding row can be any word.
        padded = np.full((words, sizes["characters"][2]), PADDING + 1, np.int32)
        padded[: char_ids.shape[0], : char_ids.shape[1]] = char_ids
        output = self._encoder.outputs[0]
        call = Call(
            plan=self._encoder,
            sizes={"words": words, "characters": padded.shape[1]},
            uploads={"char_ids": padded},
            resident={},
            wanted={output.name: shape_of(output.axes, {"words": len(char_ids)})},
        )
        return self._worker.run(call)[output.name]

    def run_bilm(
        self, plan: OpenPlan, inputs: BiLmInputs, names: Sequence[str], *, half: bool
    ) -> FloatOutputs:
        """A batch within the sizes of the plan -> the requested outputs, without padding."""
        (batch, marked), mixes = inputs.word_index.shape, len(inputs.gamma)
        sizes = self._padded_sizes(plan, batch, marked, mixes)
        shape = (sizes["batch"], sizes["marked_length"])
        tensors = {tensor.name: tensor for tensor in plan.outputs}
        real = sizes | {"batch": batch, "marked_length": marked, "length": marked - 2}
        given = {name: _given_as(name, tensors, half=half) for name in names}
        rows = self._place_words(inputs)
        call = Call(
            plan=plan,
            sizes=sizes,
            uploads={
                "word_index": pad(rows[inputs.word_index], shape),
                "lengths": pad(inputs.lengths, shape[:1]),
                **inputs.of_mixes(),
            },
            resident={
                "word_vectors": self._words.pointer,
                "initial_h": self._place_state("initial_h", inputs.initial_h, sizes["batch"]),
                "initial_c": self._place_state("initial_c", inputs.initial_c, sizes["batch"]),
            },
            wanted={name: shape_of(tensors[name].axes, real) for name in given.values()},
        )
        computed = self._worker.run(call)
        return {name: computed[given[name]] for name in names}

    def close(self) -> None:
        """Free all memory."""
        self._worker.close()
        self._words.free()
        for states in self._states.values():
            states.free()

    def _padded_sizes(self, plan: OpenPlan, batch: int, marked: int, mixes: int) -> dict[str, int]:
        length = padded_length(plan.plan, marked)
        return {
            "batch": padded_count(batch, plan.plan.sizes["batch"]),
            "marked_length": length,
            "length": length - 2,
            "words": self._words.n_rows,
            "mixes": mixes,
        }

    def _place_words(self, inputs: BiLmInputs) -> NDArray[np.int32]:
        ids = inputs.word_ids
        if ids is None:
            ids = np.full(len(inputs.word_vectors), NO_ID, np.int64)
        return self._words.place(inputs.word_vectors, ids, self._worker.stream)

    def _place_state(self, name: str, states: FloatArray, batch: int) -> int:
        return self._states[name].place(states, batch, self._worker.stream)


def _given_as(name: str, tensors: Mapping[str, Tensor], *, half: bool) -> str:
    """The name of an output in the engine: with `half` its float16 copy, if it has one."""
    return name + HALF_SUFFIX if half and name + HALF_SUFFIX in tensors else name
