"""Which plan serves a batch, and how far the batch is padded for it. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elmo_runtime.bundle.engines import Plan
from elmo_runtime.errors import BackendError

Axes = Sequence[int | str]


def choose_plan(plans: Sequence[Plan], marked_length: int) -> Plan:
    """The shortest exact bucket that holds the length; where there is none, a plan of a range.

    Raises BackendError if the length is beyond every plan.
    """
    holding = [plan for plan in plans if plan.sizes["marked_length"][2] >= marked_length]
    if not holding:
        longest = max(plan.sizes["marked_length"][2] for plan in plans)
        raise BackendError(
            f"a sentence of {marked_length - 2} tokens is longer than the engine's {longest - 2}",
            hint=f"build one with --length 3:64:{marked_length}, or use an ONNX Runtime backend",
        )
    return min(holding, key=lambda plan: (not plan.exact_length, plan.sizes["marked_length"][2]))


def padded_length(plan: Plan, marked_length: int) -> int:
    """The length that a batch is padded to for this plan."""
    low, _, high = plan.sizes["marked_length"]
    return high if plan.exact_length else max(low, marked_length)


def padded_count(count: int, sizes: tuple[int, int, int]) -> int:
    """A power of two within the plan's range: few shapes, each with its own recorded work."""
    low, _, high = sizes
    return max(low, min(high, 1 << (count - 1).bit_length()))


def chunks(count: int, largest: int) -> Iterator[slice]:
    """Cut `count` rows into as few slices as the plan's largest batch allows."""
    for start in range(0, count, largest):
        yield slice(start, min(start + largest, count))


def shape_of(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor from its axes in the manifest."""
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in axes)


def pad(array: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The array with zeros behind it on every axis."""
    padded = np.zeros(shape, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


@dataclass(frozen=True)
class Region:
    """The leading corner of a padded array in memory: rows of `width` bytes, `pitch` apart.

    blocks: where each group of `rows` such rows begins.
    """

    width: int
    pitch: int
    rows: int
    blocks: tuple[int, ...]

    @classmethod
    def corner(cls, full: tuple[int, ...], wanted: tuple[int, ...], itemsize: int) -> Region:
        """The corner `wanted` of a C-ordered array `full`.

        At most the last axis that differs and the one before it may be shorter than in `full`.
        """
        shorter = [axis for axis in range(len(full)) if full[axis] != wanted[axis]]
        last = shorter[-1] if shorter else 0
        if last == 0:
            return cls(math.prod(wanted) * itemsize, math.prod(full) * itemsize, 1, (0,))
        assert set(shorter) <= {last - 1, last}, (full, wanted)
        pitch = math.prod(full[last:]) * itemsize
        block = full[last - 1] * pitch
        n_blocks = math.prod(full[: last - 1])
        return cls(
            width=math.prod(wanted[last:]) * itemsize,
            pitch=pitch,
            rows=wanted[last - 1],
            blocks=tuple(number * block for number in range(n_blocks)),
        )
