"""The arrays of bilm-tf's weights, by the names of its HDF5 files."""

from __future__ import annotations

from elmo_deploy.importers.weight_layout import AS_IS, CONVOLUTION, STACKED, TRANSPOSED, ArraySpec
from elmo_export.checkpoint import SOFTMAX
from elmo_runtime.characters import N_RAW_CHARACTERS
from elmo_runtime.config import ElmoConfig


def entries(config: ElmoConfig) -> list[ArraySpec]:
    """Every array that the weights of an ELMo of this config must have."""
    return character_entries(config) + lstm_entries(config)


def character_entries(config: ElmoConfig) -> list[ArraySpec]:
    """The arrays of the character CNN."""
    P, F, d = config.projection_dim, config.n_filters, config.char_embedding_dim
    embedding = ("char_cnn.embedding",)
    found = [ArraySpec("char_embed", (N_RAW_CHARACTERS, d), AS_IS, embedding, padded=True)]
    for i, (width, count) in enumerate(config.filters):
        tensor = f"char_cnn.convolutions.{i}"
        shape = (1, width, d, count)
        found += [
            ArraySpec(f"CNN/W_cnn_{i}", shape, CONVOLUTION, (f"{tensor}.weight",)),
            ArraySpec(f"CNN/b_cnn_{i}", (count,), AS_IS, (f"{tensor}.bias",)),
        ]
    for i in range(config.n_highway):
        for name, part in (("carry", "gate"), ("transform", "transform")):
            tensor = f"char_cnn.highways.{i}.{part}"
            found += [
                ArraySpec(f"CNN_high_{i}/W_{name}", (F, F), TRANSPOSED, (f"{tensor}.weight",)),
                ArraySpec(f"CNN_high_{i}/b_{name}", (F,), AS_IS, (f"{tensor}.bias",)),
            ]
    return [
        *found,
        ArraySpec("CNN_proj/W_proj", (F, P), TRANSPOSED, ("char_cnn.projection.weight",)),
        ArraySpec("CNN_proj/b_proj", (P,), AS_IS, ("char_cnn.projection.bias",)),
    ]


def lstm_entries(config: ElmoConfig) -> list[ArraySpec]:
    """The arrays of both directions and every layer."""
    P, C = config.projection_dim, config.lstm_dim
    found = []
    for number, direction in enumerate(("forward", "backward")):
        for depth in range(config.n_layers):
            cell = f"RNN_{number}/RNN/MultiRNNCell/Cell{depth}/LSTMCell"
            layer = f"bilm.{direction}_stack.layers.{depth}"
            kernel = (f"{layer}.input_weight", f"{layer}.recurrent_weight")
            found += [
                ArraySpec(f"{cell}/W_0", (2 * P, 4 * C), STACKED, kernel),
                ArraySpec(f"{cell}/B", (4 * C,), AS_IS, (f"{layer}.bias",)),
                ArraySpec(f"{cell}/W_P_0", (C, P), AS_IS, (f"{layer}.projection_weight",)),
            ]
    return found


def softmax_entries(config: ElmoConfig, n_words: int) -> list[ArraySpec]:
    """The arrays of the language model's softmax over n_words; most files lack them."""
    return [
        ArraySpec("softmax/W", (n_words, config.projection_dim), AS_IS, (SOFTMAX[0],)),
        ArraySpec("softmax/b", (n_words,), AS_IS, (SOFTMAX[1],)),
    ]
