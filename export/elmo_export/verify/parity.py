"""The parity table: every output of a graph, compared with the reference over many cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elmo_export.verify.cases import Case, batch_changes, perturbed

Array = NDArray[Any]
# Inputs of the `joined` graph by name -> outputs. Without the inputs of mixes: the trained mixes.
Reference = Callable[..., Mapping[str, Array]]
Runner = Callable[[Mapping[str, Array]], Mapping[str, Array]]

BATCH_INVARIANCE = "batch invariance"  # the row that compares a graph with itself
INVARIANCE_CASE = "5x7"
BATCH_AXES = {"elmo": 1, "default": 1, "final_h": 2, "final_c": 2}  # 0 for the others
PADLESS = ("default", "final_h", "final_c")
# The error of a larger value is divided by a tenth of the value: a cell without a clip grows over a
# sentence, and float32 resolves a value of 50 only to 4e-6.
LARGE = 10
SENSITIVITY_MARGIN = 16  # a graph rounds at every step, but a perturbation happens once
SHORT = 2  # tokens; errors have no time to grow in such a sentence, so its tolerance hardly widens
SHORT_SLACK = 10  # times the tolerance


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest deviation from the reference that passes; None does not limit a figure.

    perturbation: the relative size of one rounding in this precision. None: no case counts as
    sensitive.
    """

    max_scaled_error: float | None = None
    max_relative_error: float | None = None
    min_cosine: float | None = None
    mean_cosine: float | None = None
    perturbation: float | None = None


# A vector of the wrong length has a cosine of 1, so the length of the error is limited as well.
TOLERANCES = {
    "fp32": Tolerance(max_scaled_error=1e-5, perturbation=2.0**-23),
    "fp16": Tolerance(max_relative_error=0.015, min_cosine=0.9999),
    "bf16": Tolerance(max_relative_error=0.06, min_cosine=0.998, perturbation=2.0**-8),
    "int8": Tolerance(
        max_relative_error=0.25, min_cosine=0.97, mean_cosine=0.99, perturbation=2.0**-7
    ),
}


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """The distance of one array from another.

    max_abs_error is that of a value. max_scaled_error is the same, divided by a tenth of the value
    if it exceeds LARGE. The others are those of vectors along the last axis: max_relative_error is
    the length of the error divided by the length of the vector.
    """

    max_abs_error: float
    max_scaled_error: float
    max_relative_error: float
    min_cosine: float
    mean_cosine: float


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One output of one graph, over all cases except the sensitive ones.

    In a sensitive case the model amplifies a change in the last bit of its initial state beyond
    the tolerance. The case is compared with that amplification, and not part of the other figures.
    For sentences of at most SHORT tokens the tolerance hardly widens.
    """

    precision: str
    graph: str
    output: str
    cases: int
    max_abs_error: float
    worst_case: str
    max_relative_error: float
    min_cosine: float
    mean_cosine: float
    sensitive_cases: int
    passed: bool


class References:
    """The reference outputs of all cases, computed once for all graphs."""

    def __init__(self, reference: Reference, cases: Iterable[Case]) -> None:
        self._reference = reference
        self.cases = tuple(cases)
        self.answers = [reference(**case.reference_inputs) for case in self.cases]
        self._sensitivities: dict[tuple[int, float], dict[str, Deviation]] = {}

    def sensitivity(self, number: int, perturbation: float) -> dict[str, Deviation]:
        """How far each output of the reference moves when its initial state is perturbed."""
        key = (number, perturbation)
        if key not in self._sensitivities:
            moved = self._reference(**perturbed(self.cases[number], perturbation).reference_inputs)
            answer = self.answers[number]
            self._sensitivities[key] = {
                name: deviation(moved[name], answer[name]) for name in answer
            }
        return self._sensitivities[key]


def compare(
    run: Runner, references: References, *, precision: str, graph: str, tolerance: Tolerance
) -> list[ParityRow]:
    """One row per output of the graph, and one for the same sentences in other batches."""
    verdicts: dict[str, list[_Verdict]] = {}
    for number, case in enumerate(references.cases):
        outputs = run(case.inputs)
        for name in references.answers[number]:
            verdict = _verdict(outputs[name], name, number, references, tolerance)
            verdicts.setdefault(name, []).append(verdict)
    verdicts[BATCH_INVARIANCE] = _in_other_batches(run, references.cases, tolerance)
    return [_row(precision, graph, output, found) for output, found in verdicts.items()]


def deviation(actual: Array, expected: Array) -> Deviation:
    """The distance of `actual` from `expected`; infinite if a value is not finite."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        far = dict.fromkeys(("max_abs_error", "max_scaled_error", "max_relative_error"), np.inf)
        return Deviation(**far, min_cosine=-1.0, mean_cosine=-1.0)
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    errors, cosines = np.abs(actual - expected), _cosines(actual, expected)
    return Deviation(
        max_abs_error=float(errors.max(initial=0.0)),
        max_scaled_error=float((errors / np.maximum(1, np.abs(expected) / LARGE)).max(initial=0.0)),
        max_relative_error=float(_relative(actual - expected, expected).max(initial=0.0)),
        min_cosine=float(cosines.min(initial=1.0)),
        mean_cosine=float(cosines.mean()) if cosines.size else 1.0,
    )


def as_text(rows: Sequence[ParityRow]) -> str:
    """The table as plain text, without colors."""
    lines = [
        f"{'precision':9} {'graph':7} {'output':21} {'max abs':>9} {'min cosine':>11}  worst case"
    ]
    for row in rows:
        mark = "" if row.passed else "  BEYOND TOLERANCE"
        sensitive = f", {row.sensitive_cases} sensitive" if row.sensitive_cases else ""
        lines.append(
            f"{row.precision:9} {row.graph:7} {row.output:21} {row.max_abs_error:9.1e}"
            f" {row.min_cosine:11.7f}  {row.worst_case} of {row.cases}{sensitive}{mark}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Verdict:
    """The result for one output of one case.

    informative: it passed, and a graph that computes zeros would not have.
    """

    case: str
    seen: Deviation
    _: KW_ONLY
    passed: bool
    sensitive: bool = False
    informative: bool = False


def within(seen: Deviation, tolerance: Tolerance) -> bool:
    """Whether every limit of the tolerance is kept, and all values are finite."""
    most = (
        (seen.max_scaled_error, tolerance.max_scaled_error),
        (seen.max_relative_error, tolerance.max_relative_error),
    )
    least = (
        (seen.min_cosine, tolerance.min_cosine),
        (seen.mean_cosine, tolerance.mean_cosine),
    )
    near = all(limit is None or figure <= limit for figure, limit in most)
    along = all(limit is None or figure >= limit for figure, limit in least)
    return near and along and bool(np.isfinite(seen.max_abs_error))


def _verdict(
    actual: Array, output: str, number: int, references: References, tolerance: Tolerance
) -> _Verdict:
    """Compare one output of one case; a sensitive case has a wider tolerance."""
    case, expected = references.cases[number], references.answers[number][output]
    seen = deviation(actual, expected)
    if within(seen, tolerance):
        return _Verdict(case.name, seen, passed=True, informative=bool(expected.any()))
    if tolerance.perturbation is None:
        return _Verdict(case.name, seen, passed=False)
    sensitivity = references.sensitivity(number, tolerance.perturbation)[output]
    slack = SHORT_SLACK if case.inputs["lengths"].max() <= SHORT else np.inf
    passes = within(seen, _widened(tolerance, sensitivity, slack))
    return _Verdict(case.name, seen, sensitive=passes, passed=passes)


def _widened(tolerance: Tolerance, sensitivity: Deviation, slack: float) -> Tolerance:
    """The tolerance for a case in which the reference itself moves by `sensitivity`.

    A trained model forgets a change in the last bit. A model of large random weights doubles it at
    every step, so that no two correct programs agree on long sentences. The graph must agree with
    the reference as well as the reference agrees with its perturbed self, within `slack` times the
    tolerance.
    """
    limits = {}
    for name in ("max_scaled_error", "max_relative_error"):
        if (limit := getattr(tolerance, name)) is not None:
            moved = SENSITIVITY_MARGIN * getattr(sensitivity, name)
            limits[name] = max(limit, min(moved, slack * limit))
    for name in ("min_cosine", "mean_cosine"):
        if (limit := getattr(tolerance, name)) is not None:
            moved = SENSITIVITY_MARGIN * (1 - getattr(sensitivity, name))
            limits[name] = min(limit, 1 - min(moved, slack * (1 - limit)))
    return replace(tolerance, **limits)


def _in_other_batches(run: Runner, cases: Sequence[Case], tolerance: Tolerance) -> list[_Verdict]:
    """The sentences of INVARIANCE_CASE in another order, with more padding and one by one."""
    case = next(case for case in cases if case.name == INVARIANCE_CASE)
    together = run(case.inputs)
    verdicts = []
    for changed, numbers in batch_changes(case):
        for name, actual in run(changed.inputs).items():
            expected = np.take(together[name], numbers, axis=BATCH_AXES.get(name, 0))
            seen = deviation(*_common_length(name, actual, expected))
            passed = within(seen, tolerance)
            verdict = _Verdict(
                f"{name} of {case.name}",
                seen,
                passed=passed,
                informative=passed and bool(expected.any()),
            )
            verdicts.append(verdict)
    return verdicts


def _common_length(name: str, actual: Array, expected: Array) -> tuple[Array, Array]:
    """Both arrays with the longer padding: positions that one array lacks become zeros."""
    if name in PADLESS:
        return actual, expected
    longest = max(actual.shape[-2], expected.shape[-2])

    def fill(array: Array) -> Array:
        padding = [(0, 0)] * array.ndim
        padding[-2] = (0, longest - array.shape[-2])
        return np.pad(array, padding)

    return fill(actual), fill(expected)


def _cosines(actual: Array, expected: Array) -> Array:
    """One cosine per vector; a vector of zeros agrees only with zeros."""
    norms = np.linalg.norm(actual, axis=-1) * np.linalg.norm(expected, axis=-1)
    zeros = (actual == 0).all(axis=-1) & (expected == 0).all(axis=-1)
    dots = (actual * expected).sum(axis=-1)
    return np.where(zeros, 1.0, dots / np.where(norms > 0, norms, 1.0))


def _relative(errors: Array, expected: Array) -> Array:
    """The lengths of errors, divided by those of the vectors; infinite where zeros are expected."""
    lengths, sizes = (np.linalg.norm(vectors, axis=-1) for vectors in (errors, expected))
    wrong_zeros = np.where(lengths > 0, np.inf, 0.0)
    return np.where(sizes > 0, lengths / np.where(sizes > 0, sizes, 1.0), wrong_zeros)


def _row(precision: str, graph: str, output: str, verdicts: Sequence[_Verdict]) -> ParityRow:
    """An output passes if every case passes, and if at least one is informative."""
    sensitive = [verdict for verdict in verdicts if verdict.sensitive]
    others = [verdict for verdict in verdicts if verdict not in sensitive] or verdicts
    worst = max(others, key=lambda verdict: verdict.seen.max_abs_error)
    return ParityRow(
        precision=precision,
        graph=graph,
        output=output,
        cases=len(verdicts),
        max_abs_error=worst.seen.max_abs_error,
        worst_case=worst.case,
        max_relative_error=max(verdict.seen.max_relative_error for verdict in others),
        min_cosine=min(verdict.seen.min_cosine for verdict in others),
        mean_cosine=float(np.mean([verdict.seen.mean_cosine for verdict in others])),
        sensitive_cases=len(sensitive),
        passed=all(v.passed for v in verdicts) and any(v.informative for v in verdicts),
    )
