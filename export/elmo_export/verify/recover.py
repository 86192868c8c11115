"""fp32 graphs of a bundle -> the checkpoint that they were built from, bit-identical."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from elmo_export.checkpoint import LAYER_MIX, Checkpoint, MixLabel
from elmo_export.shapes import expected_shapes
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.errors import BundleError
from elmo_runtime.mixes import NamedMix

FORMS = ("padded", "packed")


def recover_checkpoint(bundle: Bundle) -> Checkpoint:
    """The weights of the fp32 graphs and the mixes of the manifest, without a softmax.

    Args:
        bundle: An opened bundle that was exported with fp32.

    Returns:
        The checkpoint; its tensors are bit-identical to the exported ones.

    Raises:
        BundleError: The bundle has no fp32 graphs.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for part in ("token_encoder", "bilm"):
        graph = bundle.graph(part, "fp32", forms=FORMS)
        if graph is None:
            raise BundleError(
                f"{bundle.path} has no fp32 graphs to read the weights from",
                hint="use the checkpoint that it was exported from",
            )
        model = onnx.load_from_string(bundle.read(graph.file))
        tensors |= {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
    shapes = expected_shapes(bundle.config)
    weights = {name: tensors[name].reshape(shape) for name, shape in shapes.items()}
    return Checkpoint(
        config=bundle.config,
        tensors=weights | _mix_tensors(bundle.mixes),
        provenance=dict(bundle.manifest.provenance),
        mix_labels=tuple(
            MixLabel(name=mix.name, do_layer_norm=mix.layer_norm) for mix in bundle.mixes
        ),
    )


def _mix_tensors(mixes: Sequence[NamedMix]) -> dict[str, NDArray[np.float32]]:
    """(M, layers + 1) and (M,) by their names in a checkpoint; empty without mixes."""
    if not mixes:
        return {}
    arrays = [mix.weights for mix in mixes], [mix.gamma for mix in mixes]
    return {
        name: np.array(array, np.float32) for name, array in zip(LAYER_MIX, arrays, strict=True)
    }
