"""The TensorRT backend on a fake GPU: padding, splitting, memory, recordings and failures.

No engine is run: the fake computes each plan's ONNX graph on the CPU.
"""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from elmo_export.checkpoint import MixLabel
from elmo_runtime.backends.base import BackendOptions, BiLmInputs
from elmo_runtime.backends.onnxruntime.backend import open_cpu
from elmo_runtime.backends.tensorrt import library as trt_library
from elmo_runtime.backends.tensorrt.backend import TensorRtBackend, open_tensorrt
from elmo_runtime.backends.tensorrt.engine import open_engine
from elmo_runtime.bundle.manifest import Bundle
from elmo_runtime.characters import char_ids
from elmo_runtime.embedder import Embedder
from elmo_runtime.errors import BackendError, DeviceMemoryError
from engine_bundles import write_fake_engine, write_graphs
from fake_gpu import FakeCudart, FakeTensorRt

OUTPUTS = ("word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "default", "final_h", "final_c")
P, C, LAYERS = 8, 24, 2  # of the tiny model


@pytest.fixture(scope="module")
def graphs(tiny_checkpoint, tmp_path_factory):
    return write_graphs(tiny_checkpoint, tmp_path_factory.mktemp("graphs") / "b", precision="fp32")


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A fake GPU with TensorRT, and a separate home for the ledger of engines."""
    cudart = FakeCudart()
    tensorrt = FakeTensorRt(cudart)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cudart)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    trt_library._load.cache_clear()
    yield SimpleNamespace(cudart=cudart, tensorrt=tensorrt)
    trt_library._load.cache_clear()


@pytest.fixture
def bundle(graphs, gpu, tmp_path):
    """A bundle with an engine: buckets of 8 and 16, a plan for 3..64, batches up to 8."""
    shutil.copytree(graphs, tmp_path / "bundle")
    write_fake_engine(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def backend(bundle):
    backend = open_tensorrt(Bundle.open(bundle), "auto", BackendOptions())
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def onnx(graphs):
    return open_cpu(Bundle.open(graphs), "fp32", BackendOptions(threads=1))


def batch_of(lengths, *, seed=0, mixes=1, words=20, zero_state=True) -> BiLmInputs:
    generator = np.random.default_rng(seed)
    index = np.zeros((len(lengths), max(lengths) + 2), np.int32)
    for row, length in zip(index, lengths, strict=True):
        row[: length + 2] = generator.integers(0, words, length + 2)
    states = (LAYERS, 2, len(lengths))
    scale = 0.0 if zero_state else 1.0
    return BiLmInputs(
        word_vectors=generator.normal(size=(words, P)).astype(np.float32),
        word_index=index,
        lengths=np.array(lengths, np.int32),
        mix_weights=generator.normal(size=(mixes, LAYERS + 1)).astype(np.float32),
        gamma=generator.normal(size=mixes).astype(np.float32),
        initial_h=scale * generator.normal(size=(*states, P)).astype(np.float32),
        initial_c=scale * generator.normal(size=(*states, C)).astype(np.float32),
    )


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        np.testing.assert_allclose(found[name], array, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("lengths", [[1], [6], [5, 3, 1], [14, 2], [40, 7], [0, 4], [6] * 8])
def test_a_padded_batch_gives_the_vectors_of_the_graph(backend, onnx, lengths):
    batch = batch_of(lengths, zero_state=False)
    assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_a_batch_beyond_the_plan_is_computed_in_parts(backend, onnx):
    batch = batch_of([6, 5, 4] * 7, zero_state=False)
    assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_an_engine_gets_the_layer_norm_of_each_mix(tiny_checkpoint, gpu, tmp_path):
    """Mixes beyond the plan are computed in parts, and each part needs its own flags."""
    mixes = {"layer_mix.weights": np.zeros((1, 3), "f4"), "layer_mix.gamma": np.ones(1, "f4")}
    checkpoint = replace(
        tiny_checkpoint,
        tensors={**tiny_checkpoint.tensors, **mixes},
        mix_labels=(MixLabel(name="ner", do_layer_norm=True),),
    )
    folder = write_graphs(checkpoint, tmp_path / "bundle", precision="fp32")
    write_fake_engine(folder)
    flags = np.arange(9, dtype=np.float32) % 2
    batch = replace(batch_of([6, 5], mixes=9), layer_norm=flags)
    engine = open_tensorrt(Bundle.open(folder), "auto", BackendOptions())
    graph = open_cpu(Bundle.open(folder), "fp32", BackendOptions(threads=1))
    found, expected = engine.run_bilm(batch, OUTPUTS), graph.run_bilm(batch, OUTPUTS)
    engine.close()
    assert_same(found, expected)
    without = graph.run_bilm(replace(batch, layer_norm=0 * flags), OUTPUTS)
    assert np.abs(expected["elmo"] - without["elmo"])[flags == 1].max() > 0.1
    assert (expected["elmo"] == without["elmo"])[flags == 0].all()


def test_more_mixes_than_the_plan_takes_are_computed_in_parts(backend, onnx):
    batch = batch_of([6, 5], mixes=9)
    assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_shapes_and_recordings_work_in_any_order(backend, onnx, gpu):
    """Growing memory moves, and a recording of the old addresses must not be replayed."""
    for seed, lengths in enumerate([[3], [3], [3], [14] * 8, [3], [3], [40, 2], [3], [14] * 8] * 3):
        batch = batch_of(lengths, seed=seed, zero_state=seed % 2 == 0)
        assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))
    assert gpu.cudart.launches > 5


def test_words_are_encoded_as_by_the_graph(backend, onnx):
    ids = np.random.default_rng(0).integers(1, 262, (150, 50), dtype=np.int32)
    np.testing.assert_allclose(backend.encode_words(ids), onnx.encode_words(ids), atol=1e-6)


def test_columns_cut_after_the_longest_word_change_nothing(backend):
    ids = char_ids(["a", "word", "words"], max_characters=50)
    np.testing.assert_array_equal(
        backend.encode_words(ids[:, :12]), backend.encode_words(ids), strict=True
    )


def test_float16_is_copied_from_the_device(backend, onnx, gpu):
    batch = batch_of([6, 5, 3])
    whole = backend.run_bilm(batch, ("elmo", "final_h"))
    before = gpu.cudart.bytes_out
    found = backend.run_bilm(batch, ("elmo", "final_h"), half=True)
    assert found["elmo"].dtype == np.float16 and found["final_h"].dtype == np.float32
    assert gpu.cudart.bytes_out - before == whole["elmo"].nbytes / 2 + whole["final_h"].nbytes
    np.testing.assert_allclose(found["elmo"], whole["elmo"], atol=1e-3)


def test_only_the_unpadded_part_of_the_requested_outputs_is_copied(backend, gpu):
    found = backend.run_bilm(batch_of([5, 3, 1]), ("default", "elmo"))
    assert gpu.cudart.bytes_out == found["default"].nbytes + found["elmo"].nbytes


def test_known_words_are_not_copied_again(backend, onnx, gpu):
    batch = replace(batch_of([6, 5]), word_ids=np.arange(20, dtype=np.int64))
    backend.run_bilm(batch, ("elmo",))
    first = gpu.cudart.bytes_in
    assert_same(backend.run_bilm(batch, ("elmo",)), onnx.run_bilm(batch, ("elmo",)))
    assert gpu.cudart.bytes_in - first == first - batch.word_vectors.nbytes


def test_a_word_keeps_its_vector_after_any_other_words(bundle, onnx):
    """Ids 1 and 1 + kept share a row: the replaced one is copied again."""
    backend = TensorRtBackend(open_engine(Bundle.open(bundle), "auto"), workers=1, kept_words=8)
    for seed in range(12):
        ids = np.random.default_rng(seed).permutation(40)[:20].astype(np.int64)
        all_vectors = np.random.default_rng(99).normal(size=(40, P)).astype(np.float32)
        batch = replace(batch_of([6, 5], seed=seed), word_vectors=all_vectors[ids], word_ids=ids)
        assert_same(backend.run_bilm(batch, ("elmo",)), onnx.run_bilm(batch, ("elmo",)))
    backend.close()


def test_a_state_shared_by_all_sentences_is_copied_once(backend, onnx, gpu):
    rows = {
        name: np.full((LAYERS, 2, 1, width), 0.25, np.float32)
        for name, width in (("initial_h", P), ("initial_c", C))
    }
    warm = {name: np.broadcast_to(row, (LAYERS, 2, 2, row.shape[3])) for name, row in rows.items()}
    batch = replace(batch_of([6, 5]), **warm)
    backend.run_bilm(batch, ("elmo",))
    first = gpu.cudart.bytes_in
    found = backend.run_bilm(batch, ("elmo",))
    sent_again = gpu.cudart.bytes_in - first
    assert first - sent_again == sum(states.nbytes for states in warm.values())
    assert_same(found, onnx.run_bilm(batch, ("elmo",)))


def test_a_shared_state_fills_every_size_of_batch(backend, onnx):
    row = np.random.default_rng(0).normal(size=(LAYERS, 2, 1, C)).astype(np.float32)
    for lengths in ([6, 5, 4, 3], [6], [6, 5], [6, 5, 4, 3]):
        warm = np.broadcast_to(row, (LAYERS, 2, len(lengths), C))
        batch = replace(batch_of(lengths), initial_c=warm)
        assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_a_state_does_not_outlive_its_batch(backend, onnx):
    """The memory of a state is filled once with zeros, and must be so again after another state."""
    for zero_state in (True, False, True, False, True):
        batch = batch_of([6, 5], zero_state=zero_state)
        assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_a_refused_recording_is_not_replayed(backend, onnx, gpu):
    """TensorRT answers False and leaves an empty recording, which would launch without an error."""
    gpu.tensorrt.refuses_capture = True
    for seed in range(4):
        batch = batch_of([6, 5], seed=seed)
        assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))
    assert gpu.cudart.launches == 0


def test_a_plan_of_free_length_is_never_recorded(backend, gpu):
    for _ in range(3):
        backend.run_bilm(batch_of([40, 7]), ("elmo",))
    assert gpu.cudart.launches == 0


def test_one_context_serves_one_shape(backend, gpu):
    for lengths in ([3], [4], [6], [3, 4], [5, 6], [2, 2, 2], [1, 1, 1, 1]):
        backend.run_bilm(batch_of(lengths), ("elmo",))
    assert gpu.tensorrt.contexts == 3  # batches of 1, 2 and 4 in the bucket of 8


def test_many_threads_get_the_answers_of_one(backend, onnx):
    batches = [batch_of([1 + n % 14, 3], seed=n) for n in range(24)]
    expected = [onnx.run_bilm(batch, ("elmo",)) for batch in batches]
    wrong = []

    def work(first):
        for number in range(first, 24, 4):
            found = backend.run_bilm(batches[number], ("elmo",))["elmo"]
            if not np.allclose(found, expected[number]["elmo"], atol=1e-6):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lack_of_memory_is_reported_and_a_smaller_batch_still_works(backend, onnx, gpu):
    backend.run_bilm(batch_of([6]), ("elmo",))
    gpu.cudart.memory -= gpu.cudart.cudaMemGetInfo()[1]
    with pytest.raises(DeviceMemoryError):
        backend.run_bilm(batch_of([6] * 8), ("elmo",))
    assert not gpu.cudart.blocks  # a failed call frees its memory for the next attempt
    gpu.cudart.memory = 1 << 30
    batch = batch_of([6])
    assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_a_failed_computation_gives_its_reason_and_the_next_one_works(backend, onnx, gpu):
    gpu.tensorrt.fails_at = 0
    batch = batch_of([6])
    with pytest.raises(BackendError, match="unspecified failure"):
        backend.run_bilm(batch, ("elmo",))
    assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))


def test_a_sentence_beyond_every_plan_is_refused_with_a_fix(backend):
    with pytest.raises(BackendError, match="62") as caught:
        backend.run_bilm(batch_of([70]), ("elmo",))
    assert "--length" in caught.value.hint


def test_closing_frees_everything(bundle, gpu):
    backend = open_tensorrt(Bundle.open(bundle), "auto", BackendOptions())
    for _ in range(3):
        backend.run_bilm(batch_of([6, 5]), OUTPUTS)
    backend.encode_words(np.ones((3, 50), np.int32))
    assert gpu.cudart.blocks and gpu.cudart.graphs == 1
    backend.close()
    left = (gpu.cudart.blocks, gpu.cudart.pinned, gpu.cudart.streams, gpu.cudart.graphs)
    assert left == ({}, {}, {}, 0)


def test_the_device_of_the_thread_is_restored(backend, gpu):
    gpu.cudart.current = 3
    backend.run_bilm(batch_of([6]), ("elmo",))
    assert gpu.cudart.current == 3


def test_an_embedder_over_it_gives_the_vectors_of_onnx_runtime(backend, onnx, bundle):
    """With a sentence beyond every plan, which is computed in segments, and with repeated words."""
    texts = ["a b c", "b c d e f g", "", "x y " * 90, "a b c"]
    found, expected = (Embedder(Bundle.open(bundle), each) for each in (backend, onnx))
    for number in range(3):
        sentences = [f"{text} {number}" for text in texts]
        pairs = zip(found.embed(sentences)["elmo"], expected.embed(sentences)["elmo"], strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_two_embedders_over_one_backend_do_not_mix_up_their_words(backend, onnx, bundle):
    """Both number their words, as the one that checks the golden sentences and the user's do."""
    opened = Bundle.open(bundle)
    expected = Embedder(opened, onnx)
    for text in ("a b c d", "w x y z"):
        found = Embedder(opened, backend).embed([text])["elmo"][0]
        np.testing.assert_allclose(found, expected.embed([text])["elmo"][0], atol=1e-5)


def test_tensorrt_rtx_is_driven_in_the_same_way(graphs, gpu, onnx, tmp_path, monkeypatch):
    rtx = FakeTensorRt(gpu.cudart, rtx=True, version="1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", rtx)
    shutil.copytree(graphs, tmp_path / "bundle")
    write_fake_engine(tmp_path / "bundle", flavour="tensorrt-rtx", version="1.7.1")
    backend = open_tensorrt(Bundle.open(tmp_path / "bundle"), "auto", BackendOptions())
    batch = batch_of([6, 5])
    assert_same(backend.run_bilm(batch, OUTPUTS), onnx.run_bilm(batch, OUTPUTS))
    backend.close()
