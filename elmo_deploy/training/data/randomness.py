"""Every random choice of a run is a function of its seed, its purpose and a few counters.

No generator is kept from step to step, so a resumed run needs only its counters.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The use of random numbers; two purposes never share numbers."""

    SENTENCES = 0  # counters: direction, epoch, shard, block
    NEGATIVES = 1  # counters: direction, window
    DROPOUT = 2  # counters: process, window
    WEIGHTS = 3
    ZERO_STATES = 4  # counters: window


def numbers_for(purpose: Purpose, seed: int, *counters: int) -> np.random.Generator:
    """The generator of one purpose at one point of the run."""
    return np.random.default_rng((seed, int(purpose), *counters))


def torch_seed(purpose: Purpose, seed: int, *counters: int) -> int:
    """The seed of a torch generator, by the same rule."""
    return int(numbers_for(purpose, seed, *counters).integers(2**63))
