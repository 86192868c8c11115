"""Which weights of a model must stay FP32 in a smaller format, so that its vectors stay correct."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.build import build_joined
from elmo_export.graphs.weight_formats import FP32, Fp16Weights, Int8Weights, WeightFormat
from elmo_export.quantize.ranges import kept_in_fp32
from elmo_export.verify.cases import text_case
from elmo_export.verify.parity import TOLERANCES, Reference, deviation, within
from elmo_export.verify.sessions import open_session, run_session

# What int8 may keep in FP32, tried in this order. Measured on random and trained models: the cell's
# projection dominates the error of the layers, the character CNN that of the token vectors.
INT8_KEEPS = ((), ("projection_weight",), ("projection_weight", "char_cnn."))


def choose_format(
    precision: str, checkpoint: Checkpoint, reference: Reference
) -> tuple[WeightFormat, Mapping[str, str]]:
    """The format of that name for this model, and each weight kept in FP32 with the reason."""
    if precision == "fp16":
        kept: Mapping[str, str] = kept_in_fp32(checkpoint)
        return Fp16Weights(kept), kept
    if precision == "int8":
        kept = _kept_by_int8(checkpoint, reference)
        return Int8Weights(kept), kept
    return FP32, {}


def _kept_by_int8(checkpoint: Checkpoint, reference: Reference) -> dict[str, str]:
    """The smallest set with which English passes the tolerance; if none passes, the largest.

    In that case the parity check rejects the export and prints the table.
    """
    inputs = text_case(checkpoint.config, checkpoint.mixes).inputs
    expected = reference(**inputs)
    for parts in INT8_KEEPS:
        kept = _weights(checkpoint, parts)
        graph = build_joined(checkpoint, form="packed", weight_format=Int8Weights(kept))
        found = run_session(open_session(graph.SerializeToString()), inputs)
        seen = [deviation(found[name], expected[name]) for name in expected]
        if all(within(one, TOLERANCES["int8"]) for one in seen):
            break
    return dict.fromkeys(kept, "kept in fp32: in int8 it turns vectors too far")


def _weights(checkpoint: Checkpoint, parts: Collection[str]) -> list[str]:
    """Names of the matrices whose name contains one of `parts`."""
    return [
        name
        for name in checkpoint.tensors
        if name.endswith("weight") and any(part in name for part in parts)
    ]
