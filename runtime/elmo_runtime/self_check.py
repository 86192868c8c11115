"""The golden sentences of a bundle: what a backend must compute before it serves."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bundle import Bundle
from elmo_runtime.errors import BundleVersionError, VerificationError
from elmo_runtime.outputs import Embeddings
from elmo_runtime.request import MIXED

INPUTS, OUTPUTS = "samples/inputs.npz", "samples/outputs.npz"
# The largest |difference| / |expected| (Frobenius norms over an output). Another kernel's order
# of sums gives 1e-6; this leaves room for random models that amplify rounding, and is far below
# what a wrong graph, a wrong weight or a missing clip gives.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "int8": 2e-1}

Arrays = Mapping[str, NDArray[Any]]


def golden_char_ids(bundle: Bundle) -> NDArray[Any]:
    """(batch, length, characters) ids of the golden sentences."""
    return _read(bundle.path / INPUTS, ("char_ids",))["char_ids"]


def check_golden(bundle: Bundle, out: Embeddings, *, backend: str, precision: str) -> None:
    """Compare the embeddings of the golden sentences (zero state, equal shares) with the stored.

    Raises VerificationError naming the output that differs by more than the precision allows.
    """
    expected = _read(bundle.path / OUTPUTS, tuple(out))
    for name in out:
        golden = expected[name][0] if name in MIXED else expected[name]
        difference = np.linalg.norm(out.padded(name) - golden) / np.linalg.norm(golden)
        if not difference <= TOLERANCES[precision]:  # also when it is not a number
            raise VerificationError(
                f"{backend} {precision}: {name} of the golden sentences is off by"
                f" {difference:.2g}, at most {TOLERANCES[precision]:.2g} is right",
                hint="use another backend or precision, or export the bundle anew",
            )


def _read(path: Path, names: tuple[str, ...]) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleVersionError(
            f"{path} lacks golden samples: {error}", hint="export anew"
        ) from error
