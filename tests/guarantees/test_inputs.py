"""I1 to I6: every input is answered or rejected, without a crash and in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from elmo_runtime import Embedder, InputError
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids
from guarantee_kit import memory
from guarantee_kit.backends import Watched
from guarantee_kit.children import HANG, run_child
from guarantee_kit.requests import CHARACTERS, HOSTILE, answer_anything, memory_of_sizes
from oracle import character_ids

WITHOUT_SHRINKING = [Phase.explicit, Phase.generate]
BUDGET = 2048
RATIO = 1.5  # relative to the memory of one full batch


@pytest.mark.slow
def test_i1_and_i6_every_input_gets_finite_vectors_or_an_input_error(
    bundle, tmp_path, seed, cases, kept
):
    examples = cases(5_000, 200_000)
    note = tmp_path / "input"
    outcome = run_child(answer_anything, bundle, seed, examples, note, timeout=HANG + examples / 10)
    assert outcome.code == 0, f"{outcome} at {note.read_text()[:2000]}"
    kept("I1", f"{examples:,} inputs, {outcome.answer:,} answered, the rest InputError")
    kept("I6", f"{outcome.answer:,} answers, all finite")


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), [("crash", -6), ("overflow", 1)])
def test_i1_and_i6_control_a_crash_and_an_infinity(bundle, tmp_path, seed, fault, code, caught):
    note = tmp_path / "input"
    outcome = run_child(answer_anything, bundle, seed, 500, note, fault)
    assert outcome.code == code
    said = outcome.error.strip().splitlines()[-1:] or ["the process died"]
    identity = "I6" if fault == "overflow" else "I1"
    caught(identity, f"{fault}: exit code {code}, {said[0]}, at {note.read_text()[:60]}")


@pytest.mark.slow
def test_i1_control_a_hang(bundle, tmp_path, seed, caught):
    """The wait is longer where the first one ended before the fault, as on a busy machine."""
    note = tmp_path / "input"
    for timeout in (10, 60, HANG):
        outcome = run_child(answer_anything, bundle, seed, 500, note, "hang", timeout=timeout)
        assert outcome.code is None
        if note.with_suffix(".hang").exists():
            break
    assert note.with_suffix(".hang").exists()
    caught("I1", f"hang: no answer in {timeout} s, at {note.read_text()[:60]}")


EMPTY = {"no sentences": [], "one without tokens": [[]], "only spaces": ["", "   "]}
WIDTHS = {"word_emb": (8,), "elmo": (16,), "layers": (16,), "default": (16,)}


def wrong_empty_answers(embedder: Embedder) -> list[str]:
    """The cases without an empty array of the right shape and dtype."""
    wrong = []
    for case, sentences in EMPTY.items():
        for output, width in WIDTHS.items():
            for dtype in ("float32", "float16"):
                try:
                    out = embedder.embed(sentences, outputs=[output], dtype=dtype)[output]
                except (AssertionError, ValueError) as error:
                    wrong.append(f"{case}, {output}: {error}")
                    continue
                lead = {"layers": (3, 0), "default": ()}.get(output, (0,))
                right = len(out) == len(sentences) and all(
                    (v.shape, v.dtype.name) == ((*lead, *width), dtype) for v in out
                )
                if not right:
                    wrong.append(f"{case}, {output}, {dtype}")
    return wrong


@pytest.fixture
def never_called(bundle):
    """An embedder whose backend must not be called."""

    def refuse(inputs):
        raise AssertionError("the backend was called")

    with Embedder(Bundle.open(bundle), Watched(bundle, before=refuse)) as elmo:
        yield elmo


def test_i2_empty_input_gives_empty_arrays_and_no_call(embedder, never_called, kept):
    assert wrong_empty_answers(embedder) == []
    assert wrong_empty_answers(never_called) == []
    kept("I2", f"{len(EMPTY) * len(WIDTHS) * 2} cases on ONNX Runtime CPU")


def test_i2_control_empty_sentences_that_reach_the_backend(never_called, monkeypatch, caught):
    monkeypatch.setattr(np, "flatnonzero", lambda lengths: np.arange(len(lengths)))
    wrong = wrong_empty_answers(never_called)
    assert len(wrong) > len(EMPTY)
    caught("I2", wrong[0])


def differing_ids(examples: int, limit: int = 50) -> list[str]:
    """The tokens whose ids differ from the independent mapper; 100 tokens per example."""
    differing = list[str]()

    @settings(max_examples=max(examples // 100, 1), phases=WITHOUT_SHRINKING)
    @given(st.lists(st.text(CHARACTERS, max_size=60), min_size=100, max_size=100))
    def compare(tokens: list[str]) -> None:
        for token, row in zip(tokens, char_ids(tokens), strict=True):
            if row.tolist() != character_ids(token, limit):
                differing.append(ascii(token))

    for token, row in zip(HOSTILE, char_ids(HOSTILE), strict=True):
        if row.tolist() != character_ids(token, limit):
            differing.append(ascii(token))
    compare()
    return differing


def test_i3_character_ids_are_those_of_an_independent_mapper(cases, kept):
    examples = cases(20_000, 2_000_000)
    assert differing_ids(examples) == []
    kept("I3", f"{examples:,} tokens, 0 differing")


def test_i3_control_a_wrong_end_of_word(caught, monkeypatch):
    monkeypatch.setattr("elmo_runtime.characters.END_WORD", 260)
    differing = differing_ids(100)
    assert differing
    caught("I3", f"{len(differing)} differing, e.g. {differing[0][:60]}")


DTYPES = st.sampled_from([np.int32, np.int64, np.uint8, np.float32, np.bool_])
SHAPES = st.one_of(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.just(50)),
    st.sampled_from([(2, 50), (1, 2, 49), (50,), (1, 1, 50, 1)]),
)
CELLS = st.one_of(st.integers(1, 261), st.sampled_from([0, -1, 262, 2**31 - 1, -(2**31)]))


@st.composite
def id_arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of ids, perhaps with a wrong cell, row, dtype or shape."""
    dtype, shape = draw(DTYPES), draw(SHAPES)
    ids = draw(arrays.arrays(np.int64, shape, elements=st.integers(1, 250), fill=st.just(7)))
    if ids.ndim == 3 and ids.size:
        for _ in range(draw(st.integers(0, 2))):
            row, token = (draw(st.integers(0, size - 1)) for size in ids.shape[:2])
            if draw(st.booleans()):
                ids[row, token:] = 0
            elif draw(st.booleans()):
                ids[row, token] = 0
            else:
                ids[row, token, draw(st.integers(0, ids.shape[2] - 1))] = draw(CELLS)
    return ids.astype(dtype)


def first_wrong_cell(ids: np.ndarray) -> str | None:
    """The cell or property that the message must name; None for valid ids."""
    if ids.dtype.kind not in "iu":
        return "dtype"
    if ids.ndim != 3 or ids.shape[2] != 50:
        return "shape"
    for row, sentence in enumerate(ids.tolist()):
        for token, cells in enumerate(sentence):
            for column, cell in enumerate(cells):
                if any(cells) and not 1 <= cell <= 261:
                    return f"[{row}, {token}, {column}]"
    for row, sentence in enumerate(ids.tolist()):
        for token in range(len(sentence) - 1):
            if not any(sentence[token]) and any(sentence[token + 1]):
                return f"[{row}, {token}]"
    return None


def wrong_checks(embedder: Embedder, examples: int) -> list[str]:
    """Arrays that were wrongly rejected, wrongly accepted or badly described."""
    wrong = list[str]()

    @settings(max_examples=examples, phases=WITHOUT_SHRINKING)
    @given(id_arrays())
    def check(ids: np.ndarray) -> None:
        reason = first_wrong_cell(ids)
        try:
            embedder.embed_char_ids(ids)
            message = None
        except InputError as error:
            message = str(error)
        if (reason is None) != (message is None) or (reason and reason not in str(message)):
            wrong.append(f"{ids.dtype} {ids.shape}: expected {reason}, got {message}")

    check()
    return wrong


@pytest.mark.slow
def test_i4_wrong_ids_are_rejected_by_cell(embedder, cases, kept):
    examples = cases(2_000, 20_000)
    assert wrong_checks(embedder, examples) == []
    kept("I4", f"{examples:,} arrays, each checked cell by cell")


def test_i4_control_unchecked_ids(embedder, monkeypatch, caught):
    monkeypatch.setattr(
        "elmo_runtime.inference.word_cache.checked_char_ids",
        lambda ids, max_characters: np.zeros((0, 0, 50), np.int32),
    )
    wrong = wrong_checks(embedder, 50)
    assert wrong
    caught("I4", wrong[0])


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sentence", "sentences"])
def test_i5_long_and_many_run_in_the_memory_of_one_batch(bundle, what, kept):
    outcome = run_child(memory_of_sizes, bundle, what, BUDGET)
    assert outcome.code == 0, outcome.error
    assert outcome.answer["count"] > 99_999
    ratio = outcome.answer["all"] / outcome.answer["one batch"]
    assert ratio <= RATIO
    size = outcome.answer["all"] / memory.MIB
    kept("I5", f"100,000-token sentence: {size:.0f} MiB, {ratio:.2f} of one batch"
         if what == "sentence" else f"100,000 sentences: {ratio:.2f} of one batch")  # fmt: skip


@pytest.mark.slow
def test_i5_control_a_sentence_without_segments(bundle, caught):
    outcome = run_child(memory_of_sizes, bundle, "sentence", 200_000)
    ratio = outcome.answer["all"] / outcome.answer["one batch"]
    assert ratio > RATIO
    caught("I5", f"without segments {ratio:.2f} of one batch")
