"""The plan and the padded shape for a batch. Pure arithmetic."""

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
    """The shortest exact bucket that fits the length, or else a plan for a range of lengths.

    Raises BackendError if the length exceeds every plan.
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
    """The length to which this plan pads a batch."""
    low, _, high = plan.sizes["marked_length"]
    return high if plan.exact_length else max(low, marked_length)


def padded_count(count: int, sizes: tuple[int, int, int]) -> int:
    """A power of two within the range of the plan, so that there are few shapes to record."""
    low, _, high = sizes
    return max(low, min(high, 1 << (count - 1).bit_length()))


def chunks(count: int, largest: int) -> Iterator[slice]:
    """Cut `count` rows into as few slices as the largest batch of the plan allows."""
    for start in range(0, count, largest):
        yield slice(start, min(start + largest, count))


def shape_of(axes: Axes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor from its axes in the manifest."""
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in axes)


def pad(array: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The array with zeros at the end of every axis."""
    padded = np.zeros(shape, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


@dataclass(frozen=True)
class Region:
    """The leading corner of a padded array in memory: rows of `width` bytes, `pitch` apart.

    blocks: the start of each group of `rows` such rows.
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
