"""fp32 graphs of a bundle -> the checkpoint that they were built from, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from elmo_export.checkpoint import Checkpoint
from elmo_export.panels import SUFFIX, as_matrix
from elmo_export.shapes import expected_shapes
from elmo_runtime.bundle import Bundle
from elmo_runtime.errors import BundleError

FORMS = ("padded", "packed")


def recover_checkpoint(bundle: Bundle) -> Checkpoint:
    """The fp32 graphs keep the checkpoint's tensors under their names.

    Raises BundleError for a bundle that was exported without fp32.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for part in ("token_encoder", "bilm"):
        graph = bundle.graph(part, "fp32", forms=FORMS)
        if graph is None:
            raise BundleError(
                f"{bundle.path} holds no fp32 graphs to read the weights from",
                hint="name the checkpoint that it was exported from",
            )
        model = onnx.load(bundle.path / graph.file)
        tensors |= dict(map(_named_tensor, model.graph.initializer))
    shapes = expected_shapes(bundle.config)
    return Checkpoint(
        config=bundle.config,
        tensors={name: tensors[name].reshape(shape) for name, shape in shapes.items()},
        provenance=dict(bundle.manifest.provenance),
    )


def _named_tensor(initializer: onnx.TensorProto) -> tuple[str, NDArray[np.float32]]:
    array = numpy_helper.to_array(initializer)
    if initializer.name.endswith(SUFFIX):
        return initializer.name.removesuffix(SUFFIX), as_matrix(array)
    return initializer.name, array
