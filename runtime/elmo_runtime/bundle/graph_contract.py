"""The axes that the graphs of a bundle must have, as in docs/reference/graphs.md.

A graph with other shapes would fail, or compute wrong values, only with the first sentence.
"""

from __future__ import annotations

from elmo_runtime.config import ElmoConfig
from elmo_runtime.errors import BundleVersionError

OPSET = 20
Axes = tuple[int | str, ...]


def check_opset(file: str, opset: int) -> None:
    """Raise BundleVersionError unless the graph has the opset that this version exports."""
    if opset != OPSET:
        raise BundleVersionError(
            f"{file} is of opset {opset}, this elmo-deploy reads {OPSET}",
            hint="export the checkpoint again",
        )


def check_axes(file: str, name: str, axes: Axes, config: ElmoConfig) -> None:
    """Raise BundleVersionError unless an input or output has the rank and widths of the config."""
    expected = expected_axes(name, config)
    fits = expected is None or (
        len(axes) == len(expected)
        and all(size is None or size == axis for axis, size in zip(axes, expected, strict=True))
    )
    if not fits:
        raise BundleVersionError(
            f"{file}: {name} has axes {axes}, this elmo-deploy reads {expected} (None: free)",
            hint="export the checkpoint again",
        )


def expected_axes(name: str, config: ElmoConfig) -> tuple[int | None, ...] | None:
    """The sizes of the axes, None for a free axis; None for an unknown input or output."""
    P, C, L = config.projection_dim, config.lstm_dim, config.n_layers
    layers = dict.fromkeys(config.layer_names, (None, None, 2 * P))
    known: dict[str, tuple[int | None, ...]] = {
        "char_ids": (None, None),
        "word_vectors": (None, P),
        "word_index": (None, None),
        "lengths": (None,),
        "mix_weights": (None, L + 1),
        "gamma": (None,),
        "layer_norm": (None,),
        "initial_h": (L, 2, None, P),
        "initial_c": (L, 2, None, C),
        "word_emb": (None, None, P),
        **layers,
        "elmo": (None, None, None, 2 * P),
        "default": (None, None, 2 * P),
        "final_h": (L, 2, None, P),
        "final_c": (L, 2, None, C),
    }
    return known.get(name)
