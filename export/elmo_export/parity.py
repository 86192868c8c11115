"""Reference against graph on ONNX Runtime CPU, every output over many shapes, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_export.cases import Case, batch_changes, nudged

Array = NDArray[Any]
Reference = Callable[..., Mapping[str, Array]]  # inputs of the `joined` graph by name -> outputs
Runner = Callable[[Mapping[str, Array]], Mapping[str, Array]]

COMPANY = "all, in other company"  # the row that compares a graph with itself
COMPANY_CASE = "5x7"
BATCH_AXES = {"elmo": 1, "default": 1, "final_h": 2, "final_c": 2}  # 0 for the others
PADLESS = ("default", "final_h", "final_c")
LARGE = 10  # beyond it an error is judged by a tenth of the value's size: a cell that no clip binds
# counts up over a sentence, and float32 resolves a value of 50 only to 4e-6
CHAOS_MARGIN = 16  # a graph rounds at every step, a nudge comes once


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a graph may be from the reference; None leaves a figure unjudged.

    nudge: the relative size of one rounding in this precision.
    """

    max_abs_error: float | None = None
    min_cosine: float | None = None
    mean_cosine: float | None = None
    nudge: float


TOLERANCES = {
    "fp32": Tolerance(max_abs_error=1e-5, nudge=2.0**-23),
    "fp16": Tolerance(min_cosine=0.9995, nudge=2.0**-11),
    "int8": Tolerance(min_cosine=0.97, mean_cosine=0.99, nudge=2.0**-7),
}


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far one array is from another; cosines are those of vectors along the last axis."""

    max_abs_error: float
    min_cosine: float
    mean_cosine: float


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One output of one graph, over all cases but the chaotic ones.

    In a chaotic case the model itself amplifies a change in the last bit of its initial state
    beyond the tolerance. It is judged by that amplification and left out of the other figures.
    """

    precision: str
    graph: str
    output: str
    cases: int
    max_abs_error: float
    worst_case: str
    min_cosine: float
    mean_cosine: float
    chaotic_cases: int
    passed: bool


class References:
    """The reference's answers to all cases, computed once for all graphs."""

    def __init__(self, reference: Reference, cases: Iterable[Case]) -> None:
        self._reference = reference
        self.cases = tuple(cases)
        self.answers = [reference(**case.inputs) for case in self.cases]
        self._sensitivities: dict[tuple[int, float], dict[str, Deviation]] = {}

    def sensitivity(self, number: int, nudge: float) -> dict[str, Deviation]:
        """How far the reference itself moves, by output, when its initial state is nudged."""
        key = (number, nudge)
        if key not in self._sensitivities:
            moved = self._reference(**nudged(self.cases[number], nudge).inputs)
            answer = self.answers[number]
            self._sensitivities[key] = {
                name: deviation(moved[name], answer[name]) for name in answer
            }
        return self._sensitivities[key]


def compare(
    run: Runner, references: References, *, precision: str, graph: str, tolerance: Tolerance
) -> list[ParityRow]:
    """A row for each output of the graph, and one for the same sentences in other company."""
    verdicts: dict[str, list[_Verdict]] = {}
    for number, case in enumerate(references.cases):
        outputs = run(case.inputs)
        for name, expected in references.answers[number].items():
            seen = deviation(outputs[name], expected)
            chaotic = not within(seen, tolerance)
            passed = not chaotic or within(
                seen, _widened(tolerance, references.sensitivity(number, tolerance.nudge)[name])
            )
            verdicts.setdefault(name, []).append(_Verdict(case.name, seen, chaotic, passed))
    verdicts[COMPANY] = _in_other_company(run, references.cases, tolerance)
    return [_row(precision, graph, output, found) for output, found in verdicts.items()]


def deviation(actual: Array, expected: Array) -> Deviation:
    """How far `actual` is from `expected`; what is not finite is infinitely far."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return Deviation(max_abs_error=np.inf, min_cosine=-1.0, mean_cosine=-1.0)
    cosines = _cosines(actual.astype(np.float64), expected.astype(np.float64))
    return Deviation(
        max_abs_error=float(
            (np.abs(actual - expected) / np.maximum(1, np.abs(expected) / LARGE)).max(initial=0.0)
        ),
        min_cosine=float(cosines.min(initial=1.0)),
        mean_cosine=float(cosines.mean()) if cosines.size else 1.0,
    )


def as_text(rows: Sequence[ParityRow]) -> str:
    """The table for people, without colours."""
    lines = [
        f"{'precision':9} {'graph':7} {'output':21} {'max abs':>9} {'min cosine':>11}  worst case"
    ]
    for row in rows:
        mark = "" if row.passed else "  BEYOND TOLERANCE"
        chaos = f", {row.chaotic_cases} chaotic" if row.chaotic_cases else ""
        lines.append(
            f"{row.precision:9} {row.graph:7} {row.output:21} {row.max_abs_error:9.1e}"
            f" {row.min_cosine:11.7f}  {row.worst_case} of {row.cases}{chaos}{mark}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Verdict:
    case: str
    seen: Deviation
    chaotic: bool
    passed: bool


def within(seen: Deviation, tolerance: Tolerance) -> bool:
    """Whether every figure that the tolerance names is good enough, and all values finite."""
    near = tolerance.max_abs_error is None or seen.max_abs_error <= tolerance.max_abs_error
    along = tolerance.min_cosine is None or seen.min_cosine >= tolerance.min_cosine
    mostly = tolerance.mean_cosine is None or seen.mean_cosine >= tolerance.mean_cosine
    return near and along and mostly and bool(np.isfinite(seen.max_abs_error))


def _widened(tolerance: Tolerance, sensitivity: Deviation) -> Tolerance:
    """The tolerance for a case in which the reference itself moves by `sensitivity`.

    A trained model forgets a change in the last bit; one of large random weights doubles it at
    every step, and no two correct programs agree on its long sentences. It is asked to agree as
    well as the reference agrees with itself; its short sentences are judged as usual.
    """
    error, least, mean = tolerance.max_abs_error, tolerance.min_cosine, tolerance.mean_cosine
    if error is not None:
        error = max(error, CHAOS_MARGIN * sensitivity.max_abs_error)
    if least is not None:
        least = min(least, 1 - CHAOS_MARGIN * (1 - sensitivity.min_cosine))
    if mean is not None:
        mean = min(mean, 1 - CHAOS_MARGIN * (1 - sensitivity.mean_cosine))
    return replace(tolerance, max_abs_error=error, min_cosine=least, mean_cosine=mean)


def _in_other_company(run: Runner, cases: Sequence[Case], tolerance: Tolerance) -> list[_Verdict]:
    """Each sentence of the case COMPANY_CASE in another order, with more padding and alone."""
    case = next(case for case in cases if case.name == COMPANY_CASE)
    whole = run(case.inputs)
    verdicts = []
    for changed, numbers in batch_changes(case):
        for name, actual in run(changed.inputs).items():
            expected = np.take(whole[name], numbers, axis=BATCH_AXES.get(name, 0))
            seen = deviation(*_common_length(name, actual, expected))
            passed = within(seen, tolerance)
            verdicts.append(_Verdict(f"{name} of {case.name}", seen, False, passed))
    return verdicts


def _common_length(name: str, actual: Array, expected: Array) -> tuple[Array, Array]:
    """Both with the longer padding: what only one of them has must be zero."""
    if name in PADLESS:
        return actual, expected
    longest = max(actual.shape[-2], expected.shape[-2])

    def fill(array: Array) -> Array:
        padding = [(0, 0)] * array.ndim
        padding[-2] = (0, longest - array.shape[-2])
        return np.pad(array, padding)

    return fill(actual), fill(expected)


def _cosines(actual: Array, expected: Array) -> Array:
    """One a vector; a vector of zeros agrees with nothing but zeros."""
    norms = np.linalg.norm(actual, axis=-1) * np.linalg.norm(expected, axis=-1)
    zeros = (actual == 0).all(axis=-1) & (expected == 0).all(axis=-1)
    dots = (actual * expected).sum(axis=-1)
    return np.where(zeros, 1.0, dots / np.where(norms > 0, norms, 1.0))


def _row(precision: str, graph: str, output: str, verdicts: Sequence[_Verdict]) -> ParityRow:
    """An output passes if every case does, and if some case is calm enough to tell anything."""
    chaotic = [verdict for verdict in verdicts if verdict.chaotic and verdict.passed]
    calm = [verdict for verdict in verdicts if verdict not in chaotic] or verdicts
    worst = max(calm, key=lambda verdict: verdict.seen.max_abs_error)
    return ParityRow(
        precision=precision,
        graph=graph,
        output=output,
        cases=len(verdicts),
        max_abs_error=worst.seen.max_abs_error,
        worst_case=worst.case,
        min_cosine=min(verdict.seen.min_cosine for verdict in calm),
        mean_cosine=float(np.mean([verdict.seen.mean_cosine for verdict in calm])),
        chaotic_cases=len(chaotic),
        passed=all(verdict.passed for verdict in verdicts) and len(chaotic) < len(verdicts),
    )
