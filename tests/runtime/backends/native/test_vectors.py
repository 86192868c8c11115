"""The native library: the vectors of the reference, and the same bits on every processor."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_deploy.model.reference import reference
from elmo_export.verify.cases import batch_changes, parity_cases
from elmo_export.verify.parity import TOLERANCES, References, compare, deviation
from elmo_runtime.errors import BackendError
from elmo_runtime.mixes import NamedMix
from native_models import (
    FORMS,
    INSTRUCTION_SETS,
    case_of,
    needs_library,
    random_inputs,
    same_bits,
    usable_sets,
)
from oracle_cases import MODELS
from random_models import clipped_checkpoint, random_checkpoint, tiny_config

pytestmark = needs_library
WITHIN = {"fp32": 1e-5, "bf16": 0.05, "int8": 0.1}  # of random models; a trained one is closer
ODD = {"projection_dim": 17, "lstm_dim": 33, "filters": ((1, 3), (7, 70), (4, 130))}
SIZES = {"tiny": {}, "whole panels": {"projection_dim": 64, "lstm_dim": 112}, "odd": ODD}


QUICK = ("1x1", "2x7", "5x7", "1x3 of no tokens", "English")


def failed_rows(model, checkpoint):
    """Rows of the parity table, as export makes it, that are beyond their tolerance."""
    cases = [case for case in parity_cases(checkpoint.config) if case.name in QUICK]
    references = References(reference(checkpoint), cases)
    rows = compare(
        model, references, precision="fp32", graph="native", tolerance=TOLERANCES["fp32"]
    )
    return [row for row in rows if not row.passed]


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_every_structure_gives_the_vectors_of_the_reference(native, changes):
    checkpoint = random_checkpoint(tiny_config(**changes))
    assert failed_rows(native(checkpoint), checkpoint) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changes", SIZES.values(), ids=SIZES)
def test_every_form_and_size_is_near_the_reference(native, form, changes):
    checkpoint = random_checkpoint(tiny_config(**changes))
    model, compute = native(checkpoint, form=form), reference(checkpoint)
    case = case_of(checkpoint.config)
    found, expected = model(case.inputs), compute(**case.inputs)
    for name in expected:
        assert deviation(found[name], expected[name]).max_scaled_error <= WITHIN[form], name


def test_mixes_with_layer_norm_equal_the_reference(native):
    """The library does not implement layer norm and would have mixed unnormalized layers."""
    checkpoint = random_checkpoint(tiny_config())
    stored = [NamedMix(name="ner", weights=(0.0, 1.0, 2.0), gamma=1.0, layer_norm=True)]
    cases = [case for case in parity_cases(checkpoint.config, stored) if case.name in QUICK]
    assert all("layer_norm" in case.inputs for case in cases)
    references, tolerance = References(reference(checkpoint), cases), TOLERANCES["fp32"]
    rows = compare(
        native(checkpoint), references, precision="fp32", graph="native", tolerance=tolerance
    )
    assert [row for row in rows if not row.passed] == []


def test_the_clips_bind(native):
    checkpoint = clipped_checkpoint()
    assert failed_rows(native(checkpoint), checkpoint) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("changes", SIZES.values(), ids=SIZES)
def test_instruction_sets_and_threads_change_no_bit(native, choose, form, changes):
    checkpoint = random_checkpoint(tiny_config(**changes))
    inputs, expected = case_of(checkpoint.config).inputs, None
    for name in usable_sets():
        choose(name)
        for threads in (1, 2, 24):  # more than there are cores: many come late
            found = native(checkpoint, form=form, threads=threads)(inputs)
            expected = expected or found
            assert same_bits(found, expected), (name, threads)


@pytest.mark.parametrize("form", FORMS)
def test_order_padding_and_the_rest_of_the_batch_change_no_bit(native, form):
    checkpoint = random_checkpoint(tiny_config(**ODD))
    case, model = case_of(checkpoint.config), native(checkpoint, form=form, threads=2)
    whole = model(case.inputs)
    for changed, numbers in batch_changes(case):
        found = model(changed.inputs)
        assert (found["default"] == whole["default"][:, numbers]).all()
        assert (found["final_c"] == whole["final_c"][:, :, numbers]).all()
        for row, number in enumerate(numbers):
            length = changed.inputs["lengths"][row]
            for name in checkpoint.config.layer_names:
                assert (found[name][row, :length] == whole[name][number, :length]).all()


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("form", FORMS)
def test_every_number_of_rows_gives_the_same_bits(native, choose, form, name):
    """Kernels of 1 to 6 rows, and blocks of them, must not differ."""
    if name not in usable_sets():
        pytest.skip(f"this processor lacks {name}")
    choose(name)
    checkpoint = random_checkpoint(tiny_config())
    model, inputs = native(checkpoint, form=form), case_of(checkpoint.config, "1x7").inputs
    one = model(inputs)
    for count in (*range(2, 14), 241):
        found = model({name: repeated(array, name, count) for name, array in inputs.items()})
        for sentence in range(count):
            assert (found["elmo"][:, sentence] == one["elmo"][:, 0]).all(), count


def repeated(array, name, count):
    """The input of one sentence, `count` times."""
    if name in ("mix_weights", "gamma"):
        return array
    return np.repeat(array, count, axis=2 if name.startswith("initial") else 0)


def test_words_have_the_same_bits_in_any_batch(native):
    checkpoint = random_checkpoint(tiny_config())
    model = native(checkpoint, threads=2)
    ids = np.random.default_rng(0).integers(1, 262, (1100, 50)).astype(np.int32)
    ids[::2, 5:] = 261
    crowd = model.encode_words(ids)
    alone = np.concatenate([model.encode_words(ids[word : word + 1]) for word in (0, 1, 600, 1099)])
    assert (crowd[[0, 1, 600, 1099]] == alone).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_random_shapes(native, seed):
    """Sizes that fill no vector, one to three layers, clips on and off, states at the clips."""
    generator = np.random.default_rng(seed)
    config = tiny_config(
        projection_dim=int(generator.integers(1, 90)),
        lstm_dim=int(generator.integers(1, 130)),
        n_layers=int(generator.integers(1, 4)),
        use_skip_connections=bool(generator.integers(2)),
        char_embedding_dim=int(generator.integers(1, 9)),
        filters=tuple(
            (int(w), int(generator.integers(1, 70))) for w in generator.integers(1, 8, 3)
        ),
        n_highway=int(generator.integers(0, 3)),
        cell_clip=[None, 0.5, 3.0][generator.integers(3)],
        proj_clip=[None, 0.5, 3.0][generator.integers(3)],
    )
    checkpoint = random_checkpoint(config, seed=seed)
    batch, length = int(generator.integers(1, 33)), int(generator.integers(1, 40))
    inputs = random_inputs(config, generator, batch=batch, length=length)
    found, expected = native(checkpoint, threads=2)(inputs), reference(checkpoint)(**inputs)
    for name in expected:
        assert deviation(found[name], expected[name]).max_scaled_error <= 3e-5, (config, name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, 1e-42])
def test_nan_weights_do_not_end_the_process(native, form, value):
    checkpoint = random_checkpoint(tiny_config())
    for tensor in checkpoint.tensors.values():
        tensor.flat[:: max(tensor.size // 7, 1)] = value
    with np.errstate(all="ignore"):
        native(checkpoint, form=form)(case_of(checkpoint.config).inputs)


def test_a_state_that_is_the_same_for_all_rows_need_not_be_copied(native):
    """The pipeline passes one row with a stride of 0."""
    checkpoint = random_checkpoint(tiny_config())
    model, inputs = native(checkpoint), dict(case_of(checkpoint.config).inputs)
    for name in ("initial_h", "initial_c"):
        inputs[name] = np.repeat(inputs[name][:, :, :1], 5, axis=2)
    expected = model(inputs)
    for name in ("initial_h", "initial_c"):
        inputs[name] = np.broadcast_to(inputs[name][:, :, :1], inputs[name].shape)
    assert same_bits(model(inputs), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["input_weight", "recurrent_weight", "projection_weight"])
def test_a_nan_weight_is_visible_in_the_vectors(native, form, name):
    """In int8 it became an ordinary number, and sums of such rows overflowed."""
    checkpoint = random_checkpoint(tiny_config())
    checkpoint.tensors[f"bilm.forward_stack.layers.0.{name}"].flat[3] = np.nan
    found = native(checkpoint, form=form)(case_of(checkpoint.config).inputs)
    assert np.isnan(found["final_h"][0, 0]).any() and not np.isnan(found["final_h"][0, 1]).any()


WRONG_IDS = {"negative": -1, "beyond the table": 262, "huge": 2**31 - 1}


@pytest.mark.parametrize("wrong", WRONG_IDS.values(), ids=WRONG_IDS)
def test_a_character_id_that_does_not_exist_is_refused(native, wrong):
    model = native(random_checkpoint(tiny_config()))
    ids = np.full((3, 50), 261, np.int32)
    ids[1, 4] = wrong
    with pytest.raises(BackendError, match=f"character id {wrong} is not in 0..261"):
        model.encode_words(ids)


def test_words_narrower_than_a_filter_are_refused(native):
    with pytest.raises(BackendError, match="2 words of 4 characters, at least 1 of 5 are needed"):
        native(random_checkpoint(tiny_config())).encode_words(np.ones((2, 4), np.int32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": 4}, "sentence 1 has length 4 in a batch of length 3"),
        ({"lengths": -1}, "sentence 1 has length -1"),
        ({"lengths": 2**31 - 1}, "sentence 1 has length 2147483647"),
        ({"word_index": 7}, "sentence 1 has word 7 of 7"),
        ({"word_index": -1}, "sentence 1 has word -1 of 7"),
    ],
)
def test_an_index_beyond_an_array_is_refused(native, change, message):
    from elmo_runtime.backends.base import BiLmInputs

    config = tiny_config()
    arrays = {
        "word_vectors": np.zeros((7, 8), np.float32),
        "word_index": np.zeros((2, 5), np.int32),
        "lengths": np.full(2, 3, np.int32),
        "mix_weights": np.zeros((1, 3), np.float32),
        "gamma": np.ones(1, np.float32),
        "initial_h": np.zeros((2, 2, 2, 8), np.float32),
        "initial_c": np.zeros((2, 2, 2, 24), np.float32),
    }
    for name, value in change.items():
        arrays[name][1] = value
    with pytest.raises(BackendError, match=message):
        native(random_checkpoint(config)).run_bilm(BiLmInputs(**arrays), ["elmo"])
    arrays["initial_c"] = arrays["initial_c"][..., :-1]
    with pytest.raises(BackendError, match=r"initial_c is float32 \(2, 2, 2, 23\)"):
        native(random_checkpoint(config)).run_bilm(BiLmInputs(**arrays), ["elmo"])


def test_late_threads_change_no_bit_of_many_short_calls(native):
    """A thread that misses phases, or an entire call, must not compute in the next one."""
    checkpoint = random_checkpoint(tiny_config())
    inputs = case_of(checkpoint.config, "2x7").inputs
    expected = native(checkpoint)(inputs)
    model = native(checkpoint, threads=8)
    assert all(same_bits(model(inputs), expected) for _ in range(150))
