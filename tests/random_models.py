"""Checkpoints of small random ELMos, with gains that do not amplify rounding."""

from __future__ import annotations

import numpy as np

from elmo_export.checkpoint import Checkpoint
from elmo_export.shapes import expected_shapes
from elmo_runtime.config import ElmoConfig


def tiny_config(**changes: object) -> ElmoConfig:
    """An ELMo of about 20,000 weights with the published structure; `changes` replace fields."""
    fields: dict[str, object] = {
        "projection_dim": 8,
        "lstm_dim": 24,
        "n_layers": 2,
        "use_skip_connections": True,
        "char_embedding_dim": 4,
        "filters": ((1, 4), (2, 6), (3, 8), (5, 10)),
        "n_highway": 2,
        "cell_clip": 3.0,
        "proj_clip": 3.0,
    }
    return ElmoConfig(**{**fields, **changes})  # type: ignore[arg-type]


def random_checkpoint(config: ElmoConfig, *, seed: int = 0) -> Checkpoint:
    """Weights drawn so that signals keep their size from layer to layer."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        fan_in = shape[0] if name.startswith("bilm") else int(np.prod(shape[1:]))
        scale = 0.1 if name.endswith("bias") else 1 / np.sqrt(fan_in)
        if name == "char_cnn.embedding":
            scale = 1.0
        tensors[name] = generator.normal(0, scale, shape).astype(np.float32)
    return Checkpoint(config=config, tensors=tensors, provenance={"random seed": str(seed)})


def clipped_checkpoint() -> Checkpoint:
    """Tight clips, which bind for over 5 % of the cells and of the projections.

    The gains stay as they are. Clips also bind with larger gains, but such a model is sensitive: it
    amplifies the rounding of float32 to 6e-4, which hides the errors that a parity test looks for.
    """
    return random_checkpoint(tiny_config(cell_clip=0.7, proj_clip=0.3), seed=1)
