"""The names and shapes of the tensors of an ELMo, which follow from its options."""

from __future__ import annotations

from elmo_runtime.characters import N_RAW_CHARACTERS
from elmo_runtime.config import ElmoConfig


def expected_shapes(config: ElmoConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that an ELMo of this config must have."""
    P, C, F = config.projection_dim, config.lstm_dim, config.n_filters
    shapes: dict[str, tuple[int, ...]] = {
        "char_cnn.embedding": (N_RAW_CHARACTERS, config.char_embedding_dim),
        "char_cnn.projection.weight": (P, F),
        "char_cnn.projection.bias": (P,),
    }
    for index, (width, count) in enumerate(config.filters):
        convolution = f"char_cnn.convolutions.{index}"
        shapes[f"{convolution}.weight"] = (count, config.char_embedding_dim, width)
        shapes[f"{convolution}.bias"] = (count,)
    for index in range(config.n_highway):
        for part in ("transform", "gate"):
            shapes[f"char_cnn.highways.{index}.{part}.weight"] = (F, F)
            shapes[f"char_cnn.highways.{index}.{part}.bias"] = (F,)
    for direction in ("forward", "backward"):
        for depth in range(config.n_layers):
            layer = f"bilm.{direction}_stack.layers.{depth}"
            shapes[f"{layer}.input_weight"] = (P, 4 * C)
            shapes[f"{layer}.recurrent_weight"] = (P, 4 * C)
            shapes[f"{layer}.bias"] = (4 * C,)
            shapes[f"{layer}.projection_weight"] = (C, P)
    return shapes
