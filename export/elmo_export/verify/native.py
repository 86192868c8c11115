"""The native backend with the interface of the `joined` graph, and its parity check."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from elmo_export.verify.parity import TOLERANCES, ParityRow, References, compare
from elmo_export.verify.sessions import ReadFile, distinct_words
from elmo_runtime.backends.base import BackendOptions, BiLmInputs
from elmo_runtime.backends.native.backend import NativeBackend, read_tensors
from elmo_runtime.backends.native.library import FORMS, instruction_set
from elmo_runtime.bundle.manifest import NATIVE, Manifest
from elmo_runtime.errors import BackendUnavailableError

Array = NDArray[Any]
CHAR_IDS = "char_ids"


class NativeRunner:
    """Computes the inputs of the `joined` graph in one precision of the library."""

    def __init__(self, read: ReadFile, manifest: Manifest, form: str) -> None:
        tensors = read_tensors(read, manifest)
        self._backend = NativeBackend(manifest.config, tensors, form, BackendOptions())
        layers = manifest.config.layer_names
        self._outputs = ("word_emb", *layers, "elmo", "default", "final_h", "final_c")

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of the `joined` graph by name -> its outputs by name."""
        words, word_index = distinct_words(inputs[CHAR_IDS], inputs["lengths"])
        others = {name: value for name, value in inputs.items() if name != CHAR_IDS}
        vectors = self._backend.encode_words(words)
        batch = BiLmInputs(word_vectors=vectors, word_index=word_index, **others)
        return self._backend.run_bilm(batch, self._outputs)

    def close(self) -> None:
        """Free the weights."""
        self._backend.close()


def verify_native(
    read: ReadFile, manifest: Manifest, references: References, forms: Collection[str]
) -> list[ParityRow]:
    """The rows of each precision; the runtime uses only precisions with rows that passed."""
    rows: list[ParityRow] = []
    for form in forms:
        runner = NativeRunner(read, manifest, form)
        try:
            rows += compare(
                runner, references, precision=form, graph=NATIVE, tolerance=TOLERANCES[form]
            )
        finally:
            runner.close()
    return rows


def possible_forms(precisions: Collection[str]) -> tuple[str, ...]:
    """The precisions that the library can compute; each packs the FP32 weights."""
    return tuple(form for form in FORMS if form in precisions and "fp32" in precisions)


def why_unusable() -> str | None:
    """The reason why the library cannot run on this machine, or None."""
    try:
        return None if instruction_set() else "this processor has no AVX2"
    except BackendUnavailableError as error:
        return error.what


def without_failed(rows: Sequence[ParityRow], forms: Collection[str]) -> Iterator[ParityRow]:
    """Yield all rows except those of native precisions among `forms` that failed."""
    failed = {row.precision for row in rows if row.graph == NATIVE and not row.passed}
    for row in rows:
        if not (row.graph == NATIVE and row.precision in failed and row.precision in forms):
            yield row
