"""The reference model with the inputs and outputs of docs/reference/graphs.md, as numpy arrays.

An exported graph or engine is correct if it agrees with this function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elmo_deploy.model.elmo import Elmo
from elmo_deploy.model.layer_mix import mix
from elmo_deploy.model.lstm import LstmState
from elmo_deploy.model.pooling import mean_over_tokens
from elmo_export.checkpoint import Checkpoint
from elmo_runtime.errors import InputError

Array = NDArray[Any]
Reference = Callable[..., dict[str, Array]]


def reference(checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32) -> Reference:
    """Return a function from the inputs of the `joined` graph to its outputs, both by name.

    char_ids (B, T, characters) int32, 0 past each length; lengths (B,); initial_h (L, 2, B, P);
    initial_c (L, 2, B, C); mix_weights (M, L+1), gamma (M,), layer_norm (M,), by default 0.
    Without mix_weights the checkpoint's own mixes are used. The function raises InputError if
    lengths and char_ids disagree.
    """
    with torch.device("cpu"):  # a caller may have set another default device
        model = Elmo.from_checkpoint(checkpoint).to(dtype).eval()
    tensor = partial(torch.tensor, dtype=dtype, device="cpu")

    @torch.inference_mode()
    def run(
        char_ids: Array,
        lengths: Array,
        initial_h: Array,
        initial_c: Array,
        mix_weights: Array | None = None,
        gamma: Array | None = None,
        layer_norm: Array | None = None,
    ) -> dict[str, Array]:
        state = LstmState(tensor(initial_h), tensor(initial_c))
        out = model(torch.tensor(char_ids, device="cpu"), state)
        if not np.array_equal(out.mask.sum(dim=-1).numpy(), lengths):
            raise InputError(f"lengths are {lengths}, char_ids hold {out.mask.sum(dim=-1)} tokens")
        if mix_weights is None or gamma is None:
            mixes, default = out.elmo, out.default
        else:
            flags = _flags(layer_norm, len(mix_weights))
            mixes = mix(out.layers, out.mask, tensor(mix_weights), tensor(gamma), flags)
            default = [mean_over_tokens(vectors, out.mask) for vectors in mixes]
        outputs = {
            "word_emb": out.word_emb,
            **dict(zip(checkpoint.config.layer_names, out.layers[1:], strict=True)),
            "elmo": torch.stack(mixes),
            "default": torch.stack(default),
            "final_h": out.state.h,
            "final_c": out.state.c,
        }
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run


def _flags(layer_norm: Array | None, n_mixes: int) -> list[bool]:
    return [False] * n_mixes if layer_norm is None else layer_norm.astype(bool).tolist()
