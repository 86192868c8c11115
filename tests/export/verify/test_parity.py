"""The parity check finds its faults, and accepts what a sensitive model cannot avoid."""

import dataclasses

import numpy as np
import pytest

from elmo_deploy.model.reference import reference
from elmo_export.checkpoint import Checkpoint
from elmo_export.graphs.build import build_joined
from elmo_export.graphs.weight_formats import Fp16Weights
from elmo_export.verify.cases import parity_cases
from elmo_export.verify.fp16_rounding import with_roundings
from elmo_export.verify.parity import (
    BATCH_INVARIANCE,
    TOLERANCES,
    References,
    as_text,
    compare,
    deviation,
)
from random_models import random_checkpoint, tiny_config

SHORT = ("1x1", "2x2", "5x7", "1x3 of no tokens")


@pytest.fixture(scope="module")
def references(tiny_checkpoint):
    cases = [case for case in parity_cases(tiny_checkpoint.config) if case.name in SHORT]
    return References(reference(tiny_checkpoint), cases)


@pytest.fixture(scope="module")
def rows_of(references, tiny_checkpoint):
    """A function that corrupts outputs -> the rows by output."""

    def rows_of(corrupt, precision="fp32"):
        right = reference(tiny_checkpoint)

        def run(inputs):
            outputs = {name: array.copy() for name, array in right(**inputs).items()}
            corrupt(inputs, outputs)
            return outputs

        tolerance = TOLERANCES[precision]
        rows = compare(run, references, precision=precision, graph="padded", tolerance=tolerance)
        return {row.output: row for row in rows}

    return rows_of


def shift(name, amount):
    def corrupt(inputs, outputs):
        outputs[name] += np.float32(amount)

    return corrupt


def test_the_reference_agrees_with_itself(rows_of):
    assert all(row.passed for row in rows_of(lambda inputs, outputs: None).values())


@pytest.mark.parametrize("name", ["word_emb", "lstm_outputs2", "elmo", "default", "final_c"])
def test_an_error_above_the_tolerance_fails_only_its_output(name, rows_of):
    rows = rows_of(shift(name, 2e-5))
    assert [
        output for output, row in rows.items() if not row.passed and output != BATCH_INVARIANCE
    ] == [name]


def test_an_output_that_is_not_finite_fails_in_every_precision(rows_of):
    assert not rows_of(shift("elmo", np.nan), "fp16")["elmo"].passed


def test_a_small_vector_past_a_sentence_fails(rows_of):
    def corrupt(inputs, outputs):
        outputs["lstm_outputs1"][-1, -1] += 1e-6 * (inputs["lengths"][-1] < 7)

    assert not rows_of(corrupt, "fp16")["lstm_outputs1"].passed


def test_a_rotated_vector_fails_by_its_cosine(rows_of):
    def corrupt(inputs, outputs):
        outputs["lstm_outputs1"][0, 0, 0] += 0.5

    assert not rows_of(corrupt, "fp16")["lstm_outputs1"].passed


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_vector_of_the_correct_direction_and_the_wrong_length_fails(precision, rows_of):
    """Only cosines were compared, and no cosine depends on gamma."""

    def corrupt(inputs, outputs):
        outputs["elmo"] /= np.abs(inputs["gamma"])[:, None, None, None]

    rows = rows_of(corrupt, precision)
    assert rows["elmo"].min_cosine == pytest.approx(1)
    assert not rows["elmo"].passed


def test_an_output_that_depends_on_the_rest_of_the_batch_fails(rows_of):
    def corrupt(inputs, outputs):
        outputs["default"] += np.float32(1e-4) * len(inputs["lengths"])

    assert not rows_of(corrupt)[BATCH_INVARIANCE].passed


@pytest.fixture(scope="module")
def sensitive():
    """Large random weights: a change in the last bit doubles at every step."""
    calm = random_checkpoint(tiny_config())
    tensors = {n: 4 * t if n.startswith("bilm") else t for n, t in calm.tensors.items()}
    return Checkpoint(config=calm.config, tensors=tensors)


def sensitive_rows(sensitive, graph, session_of, precision="fp32"):
    cases = [case for case in parity_cases(sensitive.config) if case.name in (*SHORT, "2x50")]
    session = session_of(graph)
    names = [output.name for output in session.get_outputs()]

    def run(inputs):
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    references = References(reference(sensitive), cases)
    tolerance = TOLERANCES[precision]
    return compare(run, references, precision=precision, graph="joined", tolerance=tolerance)


def test_a_sensitive_model_is_compared_on_its_short_sentences(sensitive, session_of):
    rows = sensitive_rows(sensitive, build_joined(sensitive), session_of)
    assert all(row.passed for row in rows)
    assert all(row.max_abs_error <= 1e-5 for row in rows)
    assert max(row.sensitive_cases for row in rows) > 0


@pytest.mark.parametrize("lost", ["cell_clip", "proj_clip"])
def test_sensitivity_does_not_hide_a_missing_clip(lost, sensitive, session_of):
    config = dataclasses.replace(sensitive.config, **{lost: None})
    wrong = build_joined(Checkpoint(config=config, tensors=sensitive.tensors))
    rows = {row.output: row for row in sensitive_rows(sensitive, wrong, session_of)}
    assert not rows["lstm_outputs1"].passed
    assert rows["word_emb"].passed


def test_wild_weights_do_not_hide_a_missing_clip(session_of):
    """Every vector of this graph passed: one rounding moves some words as far as the clip."""
    calm = random_checkpoint(tiny_config())
    tensors = {n: 15 * t if n.startswith("bilm") else t for n, t in calm.tensors.items()}
    wild = Checkpoint(config=calm.config, tensors=tensors)
    config = dataclasses.replace(calm.config, cell_clip=None)
    wrong = build_joined(Checkpoint(config=config, tensors=tensors))
    rows = {row.output: row for row in sensitive_rows(wild, wrong, session_of)}
    assert not any(rows[name].passed for name in ("lstm_outputs1", "lstm_outputs2", "elmo"))


def test_no_case_is_sensitive_in_fp16(sensitive, session_of):
    """No measured model needs a wider tolerance, so a lost bit is a fault."""
    graph = with_roundings(build_joined(sensitive, weight_format=Fp16Weights()))
    rows = {row.output: row for row in sensitive_rows(sensitive, graph, session_of, "fp16")}
    assert rows["word_emb"].passed and not rows["lstm_outputs2"].passed
    assert not any(row.sensitive_cases for row in rows.values())


def test_cosines_compare_vectors_and_zero_only_with_zero():
    ones, zeros = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    assert deviation(ones, 2 * ones).min_cosine == pytest.approx(1)
    assert deviation(zeros, zeros).min_cosine == 1
    assert deviation(zeros, ones).min_cosine == 0


def test_a_deviation_measures_values_large_values_and_vectors():
    expected = np.array([[3.0, 4.0], [0.0, 50.0]], np.float32)
    seen = deviation(expected + np.array([[0.0, 0.5], [0.0, 1.0]], np.float32), expected)
    assert (seen.max_abs_error, seen.max_scaled_error) == (1, 0.5)
    assert seen.max_relative_error == pytest.approx(0.1)
    assert deviation(expected, np.zeros_like(expected)).max_relative_error == np.inf


def test_the_table_names_what_failed(rows_of):
    rows = rows_of(shift("elmo", 1.0))
    lines = as_text(list(rows.values())).splitlines()
    failed = [line.split()[2] for line in lines if line.endswith("BEYOND TOLERANCE")]
    assert failed[0] == "elmo"
