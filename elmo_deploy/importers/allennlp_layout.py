"""The tensors of AllenNLP's `Elmo` module, by the names in its state dict.

AllenNLP adds the forget bias of 1 to the stored bias and orders the gates i, f, g, o. Its highway
gate multiplies the input, not the transform, so weight and bias of the gate are negated.
"""

from __future__ import annotations

import numpy as np

from elmo_deploy.importers.weight_layout import AS_IS, Array, ArraySpec, Layout
from elmo_runtime.characters import N_RAW_CHARACTERS
from elmo_runtime.config import ElmoConfig

TOKENS = "_elmo_lstm._token_embedder."
LSTMS = "_elmo_lstm._elmo_lstm."
EMBEDDING = f"{TOKENS}_char_embedding_weights"
CACHED_WORDS = "_elmo_lstm._word_embedding.weight"  # token vectors of `vocab_to_cache`


def _swap_gates(x: Array) -> Array:
    """(..., 4C) in the order i, g, f, o <-> i, f, g, o."""
    first, second, third, fourth = np.split(x, 4, axis=-1)
    return np.concatenate([first, third, second, fourth], axis=-1)


def _forget_bias(bias: Array) -> Array:
    """(4C,) in the order i, f, g, o: 1 for the forget gate, 0 elsewhere."""
    one = np.zeros_like(bias)
    size = len(bias) // 4
    one[size : 2 * size] = 1
    return one


def _negate_gate(*halves: Array) -> list[Array]:
    transform, gate = halves
    return [transform, -gate]


PADDED_ROW = Layout(lambda x: (x,), lambda x: np.pad(x, [(1, 0), (0, 0)]))
HIGHWAY = Layout(
    lambda x: _negate_gate(*np.split(x, 2)), lambda *parts: np.concatenate(_negate_gate(*parts))
)
GATES = Layout(lambda x: (_swap_gates(x.T),), lambda x: _swap_gates(x).T)  # (4C, P) <-> (P, 4C)
BIAS = Layout(
    lambda x: (_swap_gates(x - _forget_bias(x)),),
    lambda x: _swap_gates(x) + _forget_bias(x),
)
TRANSPOSED = Layout(lambda x: (x.T,), lambda x: x.T)


def entries(config: ElmoConfig) -> list[ArraySpec]:
    """Every tensor of the biLM in the state dict of an `Elmo` of this config."""
    P, F, d = config.projection_dim, config.n_filters, config.char_embedding_dim
    embedding = ("char_cnn.embedding",)
    found = [ArraySpec(EMBEDDING, (N_RAW_CHARACTERS, d), PADDED_ROW, embedding, padded=True)]
    for i, (width, count) in enumerate(config.filters):
        name, tensor = f"{TOKENS}char_conv_{i}", f"char_cnn.convolutions.{i}"
        found += [
            ArraySpec(f"{name}.weight", (count, d, width), AS_IS, (f"{tensor}.weight",)),
            ArraySpec(f"{name}.bias", (count,), AS_IS, (f"{tensor}.bias",)),
        ]
    for i in range(config.n_highway):
        name, tensor = f"{TOKENS}_highways._layers.{i}", f"char_cnn.highways.{i}"
        for kind, shape in (("weight", (2 * F, F)), ("bias", (2 * F,))):
            parts = (f"{tensor}.transform.{kind}", f"{tensor}.gate.{kind}")
            found.append(ArraySpec(f"{name}.{kind}", shape, HIGHWAY, parts))
    return [
        *found,
        ArraySpec(f"{TOKENS}_projection.weight", (P, F), AS_IS, ("char_cnn.projection.weight",)),
        ArraySpec(f"{TOKENS}_projection.bias", (P,), AS_IS, ("char_cnn.projection.bias",)),
        *_lstm_entries(config),
    ]


def _lstm_entries(config: ElmoConfig) -> list[ArraySpec]:
    P, C = config.projection_dim, config.lstm_dim
    found = []
    for direction in ("forward", "backward"):
        for depth in range(config.n_layers):
            name = f"{LSTMS}{direction}_layer_{depth}"
            layer = f"bilm.{direction}_stack.layers.{depth}"
            recurrent = (f"{layer}.recurrent_weight",)
            projection = (f"{layer}.projection_weight",)
            found += [
                ArraySpec(
                    f"{name}.input_linearity.weight", (4 * C, P), GATES, (f"{layer}.input_weight",)
                ),
                ArraySpec(f"{name}.state_linearity.weight", (4 * C, P), GATES, recurrent),
                ArraySpec(f"{name}.state_linearity.bias", (4 * C,), BIAS, (f"{layer}.bias",)),
                ArraySpec(f"{name}.state_projection.weight", (P, C), TRANSPOSED, projection),
            ]
    return found
