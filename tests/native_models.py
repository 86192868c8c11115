"""Small random models in the native library, and functions that run them."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_export.verify.cases import parity_cases
from elmo_export.verify.sessions import distinct_words
from elmo_runtime.backends.base import BackendOptions, BiLmInputs
from elmo_runtime.backends.native import library
from elmo_runtime.backends.native.backend import NativeBackend

INSTRUCTION_SETS = ("avx2", "avx512", "avx512_vnni")
FORMS = ("fp32", "bf16", "int8")
OTHERS = ("initial_h", "initial_c", "lengths", "mix_weights", "gamma", "layer_norm")


def usable_sets() -> list[str]:
    """Instruction sets that the library has and this processor too; none where it is not built."""
    if not library.LIBRARY.exists():
        return []
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for name in INSTRUCTION_SETS:
            patch.setenv(library.CHOICE, name)
            found += [name] * (library.instruction_set() == name)
        return found


needs_library = pytest.mark.skipif(
    not usable_sets(), reason="the native library is not built, or this processor lacks AVX2"
)


class NativeModel(NativeBackend):
    """A checkpoint in the library, without a bundle, behind the inputs of the joined graph."""

    def __init__(self, checkpoint, *, form="fp32", threads=1, spinning=True):
        options = BackendOptions(threads=threads, spinning=spinning)
        super().__init__(checkpoint.config, checkpoint.tensors, form, options)

    def __call__(self, inputs):
        words, word_index = distinct_words(inputs["char_ids"], inputs["lengths"])
        others = {name: inputs[name] for name in OTHERS if name in inputs}
        vectors = self.encode_words(words)
        names = ["word_emb", *self._config.layer_names, "elmo", "default", "final_h", "final_c"]
        inputs = BiLmInputs(word_vectors=vectors, word_index=word_index, **others)
        return self.run_bilm(inputs, names)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def case_of(config, name="5x7"):
    return next(case for case in parity_cases(config) if case.name == name)


def same_bits(found, expected):
    assert found.keys() == expected.keys()
    return [name for name in expected if found[name].tobytes() != expected[name].tobytes()] == []


def random_inputs(config, generator, *, batch, length):
    """Inputs of the joined graph: random words, ragged lengths, states up to the clips."""
    lengths = generator.integers(0, length + 1, batch).astype(np.int32)
    lengths[0] = length
    width = config.max_characters_per_token
    char_ids = generator.integers(1, 262, (batch, length, width)).astype(np.int32)
    char_ids[:, :, 8:] = 261
    char_ids[np.arange(length) >= lengths[:, None]] = 0
    mixes = int(generator.integers(1, 4))
    state = (config.n_layers, 2, batch)
    sizes = {
        "h": (config.projection_dim, config.proj_clip),
        "c": (config.lstm_dim, config.cell_clip),
    }
    return {
        "char_ids": char_ids,
        "lengths": lengths,
        "mix_weights": generator.normal(size=(mixes, config.n_layers + 1)).astype(np.float32),
        "gamma": generator.normal(1, 0.5, mixes).astype(np.float32),
        **{
            f"initial_{key}": generator.uniform(-1, 1, (*state, size)).astype(np.float32)
            * np.float32(clip or 4)
            for key, (size, clip) in sizes.items()
        },
    }
