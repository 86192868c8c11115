"""Embedder: sentences in, vectors out, equal to the reference."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest

from elmo_deploy.model.reference import reference
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import (
    BackendUnavailableError,
    BundleCorruptError,
    DeviceMemoryError,
    InputError,
    VerificationError,
)
from elmo_runtime.inference.golden_check import OUTPUTS
from elmo_runtime.mixes import LARGEST_GAMMA
from elmo_runtime.options import CpuOptions, GpuOptions, Limits
from elmo_runtime.outputs import STACKED, output_names
from elmo_runtime.state import State, read_warm
from guarantee_kit.corruption import replace_file
from tolerances import BUNDLE_FLOAT32

TEXTS = ["the cat is on the mat", "dogs are in the fog", "cat", "naïve café ☕ " + "x" * 99]
TOKENS = [text.split() for text in TEXTS]


def ids_of(sentences: list[list[str]]) -> np.ndarray:
    batch = np.zeros((len(sentences), max(map(len, sentences)), 50), np.int32)
    for row, tokens in zip(batch, sentences, strict=True):
        row[: len(tokens)] = char_ids(tokens)
    return batch


@pytest.fixture(scope="session")
def expected(tiny_checkpoint):
    """What the reference computes of sentences: outputs by name, padded."""
    run = reference(tiny_checkpoint)

    def compute(sentences, *, weights=(0.0, 0.0, 0.0), gamma=1.0, state=None):
        state = state or State.zeros(tiny_checkpoint.config, len(sentences))
        return run(
            char_ids=ids_of(sentences),
            lengths=np.array([len(tokens) for tokens in sentences], np.int32),
            mix_weights=np.array([weights], np.float32),
            gamma=np.array([gamma], np.float32),
            initial_h=state.h,
            initial_c=state.c,
        )

    return compute


def assert_near(actual, wanted):
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=BUNDLE_FLOAT32)


def test_every_output_is_that_of_the_reference(embedder, expected):
    names = [name for name in output_names(embedder.config) if name not in STACKED]
    out, wanted = embedder.embed(TEXTS, outputs=names), expected(TOKENS)
    for name in names:
        assert_near(
            out.padded(name), wanted[name][0] if name in ("elmo", "default") else wanted[name]
        )


def test_tokens_texts_and_ids_give_the_same_bits(embedder):
    texts = embedder.embed(TEXTS)["elmo"]
    for other in (embedder.embed(TOKENS), embedder.embed_char_ids(ids_of(TOKENS))):
        assert all(map(np.array_equal, texts, other["elmo"]))


def test_a_call_can_bring_its_own_mix(embedder, expected):
    out = embedder.embed(TEXTS, outputs=["elmo", "default"], mix_weights=[0, 1, -2], gamma=0.5)
    wanted = expected(TOKENS, weights=(0, 1, -2), gamma=0.5)
    assert_near(out.padded("elmo"), wanted["elmo"][0])
    assert_near(out["default"], wanted["default"][0])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_largest_numbers_that_a_mix_takes_give_finite_vectors(embedder, dtype):
    """A gamma of 3e38 was taken and gave infinite vectors."""
    extreme = {"mix_weights": [3e38, 0, -3e38], "gamma": -LARGEST_GAMMA}
    out = embedder.embed(TEXTS, outputs=["elmo", "default"], dtype=dtype, **extreme)
    assert np.isfinite(out.padded("elmo")).all() and np.isfinite(out["default"]).all()
    assert np.abs(out["default"]).max() > 60_000  # negative control: the values are large


def test_several_mixes_share_one_pass(spy_on, embedder):
    spy, elmo = spy_on()
    out = elmo.embed(TEXTS, mixes={"ner": ([0, 0, 9], 1.0), "pos": ([9, 0, 0], 2.0)})
    assert len(spy.batches) == 1
    for name, weights, gamma in (("ner", [0, 0, 9], 1.0), ("pos", [9, 0, 0], 2.0)):
        alone = embedder.embed(TEXTS, mix_weights=weights, gamma=gamma)["elmo"]
        assert all(map(np.array_equal, out[f"elmo:{name}"], alone))


def test_word_vectors_never_run_the_bilm(spy_on):
    spy, elmo = spy_on()
    elmo.embed(TEXTS, outputs=["word_emb"])
    assert spy.batches == [] and len(spy.words) == 1


def test_the_backend_computes_only_the_requested_outputs(spy_on):
    spy, elmo = spy_on()
    elmo.embed(TEXTS, outputs=["layers", "word_emb"])
    assert spy.outputs == [("lstm_outputs1", "lstm_outputs2")]


def test_a_word_is_encoded_once(spy_on):
    spy, elmo = spy_on()
    elmo.embed(["a b", "b a"])
    elmo.embed(["b c"])
    assert spy.words == [4, 1]  # a, b and the boundary tokens; then c
    stats = elmo.stats()
    assert (stats.word_hits, stats.word_misses, stats.cached_words) == (3, 5, 5)
    assert (stats.sentences, stats.tokens, stats.batches) == (3, 6, 2)


def test_batches_keep_to_the_token_budget(spy_on):
    spy, elmo = spy_on(token_budget=40)
    elmo.embed(["a " * length for length in (1, 30, 3, 2, 9, 9, 12)])
    assert spy.batches == [(1, 32), (2, 14), (3, 11), (1, 3)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("sentences", [[], [""], [[]], ["", [], "  "]])
@pytest.mark.parametrize("output", ["word_emb", "elmo", "default", "layers", "layer_means"])
def test_without_tokens_the_backend_is_not_called(spy_on, sentences, output, dtype):
    spy, elmo = spy_on()
    out = elmo.embed(sentences, outputs=[output], dtype=dtype)
    tails = {"word_emb": (0, 8), "elmo": (0, 16), "default": (16,), "layers": (3, 0, 16)}
    tail = {**tails, "layer_means": (3, 16)}[output]
    assert out.padded(output).shape == (len(sentences), *tail)
    assert {vectors.shape for vectors in out[output]} <= {tail}
    assert out.padded(output).dtype == dtype
    assert spy.batches == [] and spy.words == []


def test_an_empty_array_of_ids_gives_no_sentences(embedder):
    assert embedder.embed_char_ids(np.zeros((0, 0, 50), np.int32)).padded("elmo").shape == (
        0,
        0,
        16,
    )
    assert embedder.embed_char_ids(np.zeros((2, 3, 50), int)).lengths.tolist() == [0, 0]


def test_empty_sentences_keep_their_positions(embedder):
    out = embedder.embed(["", "a b", "", "c"])
    assert out.lengths.tolist() == [0, 2, 0, 1]
    assert (out["elmo"][1] == embedder.embed(["a b"])["elmo"][0]).all()


def test_carry_continues_each_row(bundle, expected):
    with Embedder.load(bundle, state="carry") as elmo:
        first, second = elmo.embed(TEXTS), elmo.embed(TEXTS[:2])
    wanted = expected(TOKENS)
    final = State(wanted["final_h"], wanted["final_c"])
    assert_near(first.padded("elmo"), wanted["elmo"][0])
    assert_near(first.state.h, final.h)
    again = expected(TOKENS[:2], state=final.first(2))
    assert_near(second.padded("elmo"), again["elmo"][0])
    assert_near(second.state.c[:, :, 2:], final.c[:, :, 2:])  # the rows that were not reached


def test_a_carried_batch_without_tokens_still_moves_the_state(bundle):
    with Embedder.load(bundle, state="carry") as elmo:
        out = elmo.embed(["", ""])
        assert out.padded("elmo").shape == (2, 0, 16)
        assert out.state.h.any()


def test_a_caller_that_changes_a_state_does_not_change_the_carried_one(bundle):
    """`out.state` was the very arrays that the next call started from."""
    seconds = []
    for value in (0, 9):
        with Embedder.load(bundle, state="carry") as elmo:
            elmo.embed(["a b"]).state.h[:] = value
            seconds.append(elmo.embed(["a b"])["elmo"][0])
    assert (seconds[0] == seconds[1]).all()


def test_reset_state_forgets(bundle):
    with Embedder.load(bundle, state="carry") as elmo:
        first = elmo.embed(["a b"])["elmo"][0]
        second = elmo.embed(["a b"])["elmo"][0]
        elmo.reset_state()
        third = elmo.embed(["a b"])["elmo"][0]
    assert (first == third).all() and (first != second).any()


def test_an_explicit_state_is_continued_and_returned(bundle, embedder):
    with Embedder.load(bundle, state="carry") as carrying:
        wanted = [carrying.embed(TEXTS)["elmo"] for _ in range(2)]
    first = embedder.embed(TEXTS, state=State.zeros(embedder.config, 0))
    second = embedder.embed(TEXTS, state=first.state)
    for out, carried in zip((first, second), wanted, strict=True):
        assert all(map(np.array_equal, out["elmo"], carried))


def test_word_vectors_alone_still_move_a_carried_state(bundle):
    with Embedder.load(bundle, state="carry") as elmo:
        assert elmo.embed(["a"], outputs=["word_emb"]).state.h.any()


def test_the_warm_state_starts_every_sentence(bundle, embedder):
    warm = read_warm(Bundle.open(bundle))
    with Embedder.load(bundle, state="warm") as elmo:
        out = elmo.embed(TEXTS)
    explicit = embedder.embed(TEXTS, state=warm.take(np.zeros(len(TEXTS), int)))
    assert all(map(np.array_equal, out["elmo"], explicit["elmo"]))
    assert (out["elmo"][0] != embedder.embed(TEXTS)["elmo"][0]).any()


def test_without_a_state_none_is_returned(embedder):
    assert embedder.embed(TEXTS).state is None


def test_states_of_a_split_batch_find_their_rows(bundle):
    calls = []
    for budget in (1000, 9):
        with Embedder.load(bundle, state="carry", token_budget=budget) as elmo:
            calls.append([elmo.embed(TEXTS), elmo.embed(TEXTS[::-1])])
    for whole, split in zip(*calls, strict=True):
        assert all(map(np.array_equal, whole["elmo"], split["elmo"]))
        assert (whole.state.c == split.state.c).all()


def test_a_stream_gives_each_sentence_in_order(bundle, embedder):
    sentences = [f"w{number} " * (number % 7) for number in range(60)]
    whole = embedder.embed(sentences, outputs=["elmo", "default"])
    with Embedder.load(bundle, token_budget=10) as elmo:
        stream = list(elmo.embed_stream(iter(sentences), outputs=["elmo", "default"]))
    assert len(stream) == 60
    for number, one in enumerate(stream):
        assert (one["elmo"][0] == whole["elmo"][number]).all()
        assert (one["default"][0] == whole["default"][number]).all()


def test_a_stream_reads_no_further_than_its_chunk(bundle):
    read = []

    def endless():
        while True:
            read.append("a b")
            yield "a b"

    with Embedder.load(bundle, token_budget=40) as elmo:
        stream = elmo.embed_stream(endless())
        for _ in range(100):
            next(stream)
    assert len(read) <= 100 + 8 * 40 // 4


def test_a_stream_rejects_wrong_arguments_at_once(embedder, bundle):
    with pytest.raises(InputError, match="'elno' does not exist"):
        embedder.embed_stream(["a"], outputs=["elno"])
    with (
        Embedder.load(bundle, state="carry") as elmo,
        pytest.raises(InputError, match="does not support"),
    ):
        elmo.embed_stream(["a"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"state": "cold"}, "use one of zero, warm, carry"),
        ({"backend": "gpu"}, "backend 'gpu' does not exist"),
        ({"token_budget": 0}, "token_budget is 0"),
        ({"cache_words": -1}, "cache_words is -1"),
    ],
)
def test_wrong_options_are_named(bundle, options, named):
    with pytest.raises(InputError, match=named):
        Embedder.load(bundle, **options)


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        (CpuOptions, "threads", 0),
        (CpuOptions, "threads", 1.5),
        (GpuOptions, "mem_limit", 0),
        (Limits, "max_sentence_tokens", True),
    ],
)
def test_wrong_grouped_options_are_named(group, option, value):
    with pytest.raises(InputError, match=f"{option} is {value}, must be an integer"):
        group(**{option: value})


def test_options_of_earlier_versions_are_accepted_with_a_warning_each(bundle):
    old = {"threads": 1, "spinning": False, "max_running": 1, "max_waiting": 0}
    with pytest.warns(DeprecationWarning) as caught:
        elmo = Embedder.load(bundle, max_sentence_tokens=3, **old)
    assert [warning.filename for warning in caught] == [__file__] * 5
    assert "use cpu=CpuOptions(threads=1)" in {str(w.message).partition("; ")[2] for w in caught}
    with elmo, pytest.raises(InputError, match="more than the 3 of max_sentence_tokens"):
        elmo.embed(["a b c d"])


def test_an_unknown_option_is_a_type_error(bundle):
    with pytest.raises(TypeError, match="unexpected keyword argument 'thread'"):
        Embedder.load(bundle, thread=1)


def test_a_missing_precision_is_named(bundle):
    with pytest.raises(BackendUnavailableError, match="--precision fp8"):
        Embedder.load(bundle, precision="fp8")


def test_sentences_beyond_the_limit_are_refused(bundle):
    with Embedder.load(bundle, limits=Limits(max_sentence_tokens=3)) as elmo:
        elmo.embed(["a b c"])
        with pytest.raises(InputError, match="sentence 1 has 4 tokens"):
            elmo.embed(["a", "a b c d"])


def test_a_wrong_state_is_rejected(embedder):
    with pytest.raises(InputError, match="state is a str"):
        embedder.embed(["a"], state="zero")


@pytest.fixture
def spoil_golden(bundle, tmp_path):
    """A copy of the bundle with changed golden vectors and matching digests."""

    def spoil(change) -> str:
        folder = shutil.copytree(bundle, tmp_path / "bundle")
        changed = io.BytesIO()
        np.savez(changed, **change(dict(np.load(folder / OUTPUTS))))
        replace_file(folder, OUTPUTS, changed.getvalue())
        return str(folder)

    return spoil


@pytest.mark.parametrize("name", ["word_emb", "lstm_outputs1", "elmo", "default"])
def test_a_backend_that_misses_the_golden_vectors_does_not_serve(spoil_golden, name):
    folder = spoil_golden(lambda golden: {**golden, name: golden[name] * 2})
    with pytest.raises(VerificationError, match=f"differ in '{name}': relative error 0.5 "):
        Embedder.load(folder)
    Embedder.load(folder, self_check=False).close()


@pytest.mark.parametrize("state", ["zero", "warm", "carry"])
def test_the_golden_sentences_can_be_compared_at_any_time(bundle, state):
    """From another state than zero they differed, and they moved the state that was carried."""
    with Embedder.load(bundle, state=state) as elmo:
        first = elmo.embed(["a b"])
        elmo.check_golden_sentences()
        if state == "carry":
            again = elmo.embed(["c"], state=first.state)["elmo"][0]
            assert (elmo.embed(["c"])["elmo"][0] == again).all()


def test_golden_vectors_of_nan_match_nothing(spoil_golden):
    folder = spoil_golden(lambda golden: {**golden, "elmo": golden["elmo"] * np.nan})
    with pytest.raises(VerificationError):
        Embedder.load(folder)


def test_a_changed_bundle_is_not_opened(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "README.md").write_text("changed")
    with pytest.raises(BundleCorruptError):
        Embedder.load(folder)


def test_a_batch_too_large_for_memory_is_halved(spy_on, embedder):
    def only_small_ones(rows):
        if rows > 1:
            raise DeviceMemoryError("out of memory")

    spy, elmo = spy_on(trouble=only_small_ones)
    out = elmo.embed(TEXTS)
    assert [rows for rows, _ in spy.batches] == [4, 2, 1, 1, 2, 1, 1]
    assert all(map(np.array_equal, out["elmo"], embedder.embed(TEXTS)["elmo"]))


def test_one_sentence_too_large_for_memory_is_an_error(spy_on):
    def none_at_all(rows):
        raise DeviceMemoryError("out of memory")

    _, elmo = spy_on(trouble=none_at_all)
    with pytest.raises(DeviceMemoryError):
        elmo.embed(TEXTS)
