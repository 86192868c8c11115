"""`--mix`, `--mix-weights` and `--gamma` -> the arguments of `Embedder.embed`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elmo_runtime.errors import InputError
from elmo_runtime.inference.request import MIXED


def mix_options(
    mix: str | None, mix_weights: str | None, gamma: float | None, *, outputs: Sequence[str]
) -> dict[str, Any]:
    """The arguments. InputError: weights that are not numbers, or no output is a mix."""
    given = {"--mix": mix, "--mix-weights": mix_weights, "--gamma": gamma}
    named = [option for option, value in given.items() if value is not None]
    if named and not set(MIXED) & set(outputs):
        raise InputError(
            f"{named[0]} has no effect on the outputs {', '.join(outputs)}",
            hint="add elmo or default to --outputs, or omit the option",
        )
    weights = None if mix_weights is None else _numbers(mix_weights)
    return {"mix": mix, "mix_weights": weights, "gamma": gamma}


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"--mix-weights is {text!r}, but must be numbers separated by commas",
            hint="give one weight per layer, for example --mix-weights 0,1,2",
        ) from error
