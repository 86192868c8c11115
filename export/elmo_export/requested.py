"""The graphs that an export writes, from the precisions and forms that a caller asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from elmo_export.verify.native import why_unusable
from elmo_runtime.bundle.manifest import NATIVE
from elmo_runtime.errors import BackendUnavailableError, InputError

# The forms of each precision. `native` has no graph: it packs the weights of fp32.
FORMS = {
    "fp32": ("padded", "packed", NATIVE),
    "fp16": ("padded",),
    "bf16": (NATIVE,),
    "int8": ("packed", NATIVE),
}


class RequestedGraph(NamedTuple):
    """What identifies a graph in a bundle."""

    part: str
    form: str
    precision: str


def requested_graphs(
    precisions: Sequence[str], forms: Sequence[str], *, joined: bool
) -> Iterator[RequestedGraph]:
    """Yield the graphs of every precision, in the order in which they are written.

    Raises InputError for a precision or form that does not exist, BackendUnavailableError for one
    that only the native backend has where its library cannot run.
    """
    if not precisions:
        raise InputError("precisions is empty", hint=f"use some of {', '.join(FORMS)}")
    for precision in dict.fromkeys(precisions):
        if precision not in FORMS:
            raise InputError(
                f"precision {precision!r} does not exist", hint=f"use {', '.join(FORMS)}"
            )
        possible = [form for form in FORMS[precision] if form in forms]
        if not possible:
            raise InputError(
                f"{precision} has no form {' or '.join(forms) or 'at all'}",
                hint=f"its forms are {', '.join(FORMS[precision])}",
            )
        graphs = [form for form in possible if form != NATIVE]
        if not graphs:
            _check_native_only(precision, precisions)
            continue
        yield RequestedGraph("token_encoder", "padded", precision)
        yield from (RequestedGraph("bilm", form, precision) for form in graphs)
        if joined:
            yield RequestedGraph("joined", graphs[0], precision)


def _check_native_only(precision: str, precisions: Sequence[str]) -> None:
    """A precision without graphs needs the weights of fp32, and the library that computes it."""
    if "fp32" not in precisions:
        raise InputError(
            f"{precision} is computed from the weights of fp32", hint="add --precision fp32"
        )
    if reason := why_unusable():
        raise BackendUnavailableError(
            f"{precision} needs the native backend, which cannot run here: {reason}",
            hint="export on Linux on x86-64 with AVX2, or without this precision",
        )
