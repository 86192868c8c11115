"""The golden sentences of a bundle: what a backend must compute before it serves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BundleVersionError, VerificationError
from elmo_runtime.inference.request import MIXED
from elmo_runtime.outputs import Embeddings

INPUTS, OUTPUTS = "samples/inputs.npz", "samples/outputs.npz"
# The largest |difference| / |expected| (Frobenius norms over an output). Another kernel's order
# of sums gives 1e-6; this leaves room for random models that amplify rounding, and is far below
# what a wrong graph, a wrong weight or a missing clip gives.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1, "int8": 2e-1}

Arrays = Mapping[str, NDArray[Any]]


def golden_char_ids(bundle: Bundle) -> NDArray[Any]:
    """(batch, length, characters) ids of the golden sentences."""
    return _read(bundle, INPUTS, ("char_ids",))["char_ids"]


def check_golden(bundle: Bundle, out: Embeddings, *, backend: str, precision: str) -> None:
    """Compare the embeddings of the golden sentences, from the zero state, with the stored ones.

    `out` holds every mix of the bundle by name, or without mixes the equal shares. Raises
    VerificationError naming the output that differs by more than the precision allows.
    """
    expected = _read(bundle, OUTPUTS, tuple({key.partition(":")[0]: None for key in out}))
    mixes = [mix.name for mix in bundle.mixes] or [""]
    for key in out:
        output, _, mix = key.partition(":")
        golden = expected[output]
        if output in MIXED:
            golden = golden[mixes.index(mix)]
        size = np.linalg.norm(golden) or 1.0  # a mix of gamma 0 gives zeros
        difference = np.linalg.norm(out.padded(key) - golden) / size
        if not difference <= TOLERANCES[precision]:  # also when it is not a number
            raise VerificationError(
                f"{backend} {precision}: golden-sample check failed for {key!r}:"
                f" relative error {difference:.2g} exceeds {TOLERANCES[precision]:.2g}",
                hint="use another backend or precision, or export the bundle again",
            )


def _read(bundle: Bundle, name: str, arrays: tuple[str, ...]) -> Arrays:
    try:
        with np.load(io.BytesIO(bundle.read(name)), allow_pickle=False) as archive:
            return {array: archive[array] for array in arrays}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleVersionError(
            f"{bundle.path / name} lacks golden samples: {error}", hint="export the bundle again"
        ) from error
