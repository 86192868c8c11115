"""The cases of the parity check."""

from elmo_export.verify.cases import parity_cases, too_large, trial_words
from elmo_runtime.config import ElmoConfig
from random_models import tiny_config

ORIGINAL = {"projection_dim": 512, "lstm_dim": 4096}
SMALL = {"projection_dim": 128, "lstm_dim": 1024}


def test_the_cases_have_the_documented_shapes():
    names = {case.name for case in parity_cases(tiny_config())}
    documented = {f"{batch}x{length}" for batch in (1, 2, 5, 32) for length in (1, 2, 7, 50)}
    assert names > documented


def test_every_case_has_states_mixes_and_an_empty_sentence():
    *drawn, english = parity_cases(tiny_config())
    assert english.inputs["lengths"].min() > 0
    for case in drawn:
        assert case.inputs["initial_c"].any()
        assert len(case.inputs["lengths"]) == 1 or (case.inputs["lengths"] == 0).any()


def test_only_the_largest_batch_of_the_original_size_is_too_large():
    original, small = tiny_config(**ORIGINAL), tiny_config(**SMALL)
    assert too_large(original, 32, 50)
    assert not too_large(original, 5, 50)
    assert not too_large(small, 32, 50)


def test_the_trial_words_include_a_word_of_every_byte():
    words = trial_words(tiny_config())
    assert words.shape[1] == ElmoConfig.max_characters_per_token
    assert {tuple(set(row[1:-1])) for row in words[:256].tolist()} == {(n,) for n in range(1, 257)}
