"""The golden sentences of a bundle: a backend must compute them before it serves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.backends.base import Backend
from elmo_runtime.backends.chain import BackendChain
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BundleVersionError, VerificationError
from elmo_runtime.inference.pipeline import Pipeline, host_limits
from elmo_runtime.inference.request import MIXED, Request
from elmo_runtime.inference.word_cache import words_of_ids
from elmo_runtime.mixes import Mixes
from elmo_runtime.outputs import Embeddings, Output
from elmo_runtime.state import State

INPUTS, OUTPUTS = "samples/inputs.npz", "samples/outputs.npz"
# The largest |difference| / |expected| (Frobenius norms over an output). Another order of sums
# gives 1e-6. The rest is room for random models that amplify rounding, and it is far below the
# error of a wrong graph, a wrong weight or a missing clip.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1, "int8": 2e-1}

Arrays = Mapping[str, NDArray[Any]]


def golden_char_ids(bundle: Bundle) -> NDArray[Any]:
    """(batch, length, characters) ids of the golden sentences."""
    return _read(bundle, INPUTS, ("char_ids",))["char_ids"]


def check_golden(bundle: Bundle, backend: Backend) -> None:
    """Compute the golden sentences, from the zero state, and compare every output.

    Raises VerificationError with the output that differs by more than the precision allows.
    """
    out = _computed(bundle, backend)
    expected = _read(bundle, OUTPUTS, tuple({key.partition(":")[0]: None for key in out}))
    mixes = [mix.name for mix in bundle.mixes] or [""]
    for key in out:
        output, _, mix = key.partition(":")
        golden = expected[output]
        if output in MIXED:
            golden = golden[mixes.index(mix)]
        size = np.linalg.norm(golden) or 1.0  # a mix with gamma 0 gives zeros
        difference = np.linalg.norm(out.padded(key) - golden) / size
        tolerance = TOLERANCES[backend.precision]
        if not difference <= tolerance:  # also true for NaN
            raise VerificationError(
                f"{backend.name} {backend.precision}: the golden sentences differ in {key!r}:"
                f" relative error {difference:.2g} exceeds {tolerance:.2g}",
                hint="use another backend or precision, or export the bundle again",
            )


def _computed(bundle: Bundle, backend: Backend) -> Embeddings:
    """Every mix of the bundle by name; without stored mixes all layers have equal weights."""
    config = bundle.config
    names = [mix.name for mix in bundle.mixes] or None
    request = Request.of(
        config,
        outputs=(Output.WORD_EMB, *config.layer_names, Output.ELMO, Output.DEFAULT),
        mixes=Mixes.of(config, bundle.mixes, mixes=names),
        dtype="float32",
    )
    words = words_of_ids(golden_char_ids(bundle), config)
    start = State.zeros(config, len(words))
    pipeline = Pipeline(BackendChain.of(bundle, backend), backend, config)
    with host_limits(len(words)):
        return pipeline.continue_from(words, request, start=start)


def _read(bundle: Bundle, name: str, arrays: tuple[str, ...]) -> Arrays:
    try:
        with np.load(io.BytesIO(bundle.read(name)), allow_pickle=False) as archive:
            return {array: archive[array] for array in arrays}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleVersionError(
            f"{bundle.path / name} lacks golden samples: {error}", hint="export the bundle again"
        ) from error
