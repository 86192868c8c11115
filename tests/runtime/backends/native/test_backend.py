"""The backend `native` in the chain: a bundle that was verified with it, on a fitting machine."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from elmo_deploy.model.reference import reference
from elmo_export.export import export_bundle, verify_bundle
from elmo_runtime import Bundle, Embedder, State
from elmo_runtime.backends.base import BackendOptions
from elmo_runtime.backends.native import library
from elmo_runtime.backends.native.backend import open_native
from elmo_runtime.backends.native.cores import usable_cores
from elmo_runtime.errors import BackendUnavailableError, BundleVersionError, InputError
from elmo_runtime.options import CpuOptions
from native_models import needs_library
from random_models import random_checkpoint, tiny_config

pytestmark = needs_library
SENTENCES = ["the cat is on the mat", "", "dogs are in the fog", "x" * 60, "a b c d e f g h"]
OPTIONS = BackendOptions(threads=2)
FORMS = ("fp32", "bf16", "int8")


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(tiny_config(projection_dim=32, lstm_dim=48))


@pytest.fixture(scope="module")
def native_bundle(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("native") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmo_export.verify.cases.SHAPES", [(1, 2), (5, 7)])
        return export_bundle(checkpoint, path, reference=reference(checkpoint), precisions=FORMS)


def test_export_records_the_forms_that_it_verified(native_bundle):
    assert native_bundle.native_forms == FORMS
    rows = [row for row in native_bundle.manifest.parity if row["graph"] == "native"]
    assert len(rows) == 3 * 8 and all(row["passed"] for row in rows)


def test_verify_checks_them_again(native_bundle, checkpoint, monkeypatch):
    monkeypatch.setattr("elmo_export.verify.cases.SHAPES", [(5, 7)])
    rows = verify_bundle(native_bundle.path, reference=reference(checkpoint))
    assert {row.precision for row in rows if row.graph == "native"} == set(FORMS)


def test_auto_takes_it_and_gives_the_vectors_of_onnxruntime(native_bundle):
    with Embedder.load(native_bundle.path) as elmo:
        assert (elmo.backend, elmo.precision) == ("native", "fp32")
        found = elmo.embed(SENTENCES, outputs=["elmo", "default", "layers", "word_emb"])
    with Embedder.load(native_bundle.path, backend="onnxruntime-cpu") as elmo:
        expected = elmo.embed(SENTENCES, outputs=["elmo", "default", "layers", "word_emb"])
    for name in expected:
        np.testing.assert_allclose(found.padded(name), expected.padded(name), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_sentence_is_the_same_alone_and_in_any_batch(native_bundle, form):
    """Guarantee D1 and D3 for every form: bits are independent of batch, order and budget."""
    names = ["elmo", "default", "layers"]
    options = {"backend": "native", "precision": form}
    with Embedder.load(native_bundle.path, **options) as elmo:
        together = elmo.embed(SENTENCES, outputs=names)
        alone = [elmo.embed([sentence], outputs=names) for sentence in SENTENCES]
    with Embedder.load(native_bundle.path, token_budget=10, **options) as elmo:
        backwards = elmo.embed(SENTENCES[::-1], outputs=names)
    for number in range(len(SENTENCES)):
        for name in names:
            assert (together[name][number] == alone[number][name][0]).all()
            assert (together[name][number] == backwards[name][-1 - number]).all()


def test_states_go_in_and_out(native_bundle):
    with Embedder.load(native_bundle.path, backend="native") as elmo:
        whole = elmo.embed(["a b c d"], state=State.zeros(elmo.config, 1))
        again = elmo.embed(["a b c d"], state=whole.state)
        assert whole.state.h.any() and (again["elmo"][0] != whole["elmo"][0]).any()
    with Embedder.load(native_bundle.path, backend="onnxruntime-cpu") as elmo:
        expected = elmo.embed(["a b c d"], state=whole.state)
    np.testing.assert_allclose(again["elmo"][0], expected["elmo"][0], atol=1e-5)
    np.testing.assert_allclose(again.state.c, expected.state.c, atol=1e-5)


def test_several_mixes_in_one_pass(native_bundle):
    mixes = {"ner": ([0.0, 1.0, 2.0], 0.5), "pos": ([3.0, 0.0, 0.0], 2.0)}
    with Embedder.load(native_bundle.path, backend="native") as elmo:
        both = elmo.embed(SENTENCES, mixes=mixes, outputs=["elmo", "default"])
        for name, (weights, gamma) in mixes.items():
            one = elmo.embed(
                SENTENCES, mix_weights=weights, gamma=gamma, outputs=["elmo", "default"]
            )
            assert (one["default"] == both[f"default:{name}"]).all()
            assert all((one["elmo"][n] == both[f"elmo:{name}"][n]).all() for n in range(5))


def test_many_threads_and_embedders_at_once(native_bundle):
    texts = [" ".join(f"w{n % 7}" for n in range(length)) for length in range(1, 25)]
    with Embedder.load(native_bundle.path, cpu=CpuOptions(threads=2)) as one:
        expected = [one.embed([text])["elmo"][0] for text in texts]
        with (
            Embedder.load(native_bundle.path, cpu=CpuOptions(threads=2, spinning=False)) as two,
            ThreadPoolExecutor(6) as pool,
        ):
            jobs = [(elmo, text) for text in texts for elmo in (one, two)]
            found = list(pool.map(lambda job: job[0].embed([job[1]])["elmo"][0], jobs))
    for number, vectors in enumerate(found):
        assert (vectors == expected[number // 2]).all()


def test_close_ends_every_thread(native_bundle):
    before = set(os.listdir("/proc/self/task"))
    backend = open_native(native_bundle, "fp32", BackendOptions(threads=4))
    started = set(os.listdir("/proc/self/task")) - before
    assert len(started) == 3
    backend.close()
    assert not started & set(os.listdir("/proc/self/task"))


def test_a_fork_starts_its_own_threads(native_bundle):
    """A fork copies no threads: a child that waited for them would wait forever."""
    backend = open_native(native_bundle, "fp32", OPTIONS)
    ids = np.full((300, 50), 261, np.int32)
    expected = backend.encode_words(ids)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = int((backend.encode_words(ids) != expected).any())
            backend.close()
        finally:
            os._exit(status)
    alarm = threading.Timer(900, os.kill, (child, 9))
    alarm.start()
    assert os.waitpid(child, 0)[1] == 0
    alarm.cancel()
    assert (backend.encode_words(ids) == expected).all()
    backend.close()


def test_an_unverified_form_is_refused_with_the_command_that_verifies_it(native_bundle):
    parity = [row for row in native_bundle.manifest.parity if row["precision"] != "bf16"]
    less = replace(native_bundle, manifest=replace(native_bundle.manifest, parity=tuple(parity)))
    with pytest.raises(BackendUnavailableError, match=r"not in bf16; .*--precision bf16"):
        open_native(less, "bf16", OPTIONS)


def test_a_failed_parity_row_verifies_nothing(native_bundle):
    parity = [dict(row) for row in native_bundle.manifest.parity]
    for row in parity:
        row["passed"] = row["passed"] and (row["graph"], row["output"]) != ("native", "elmo")
    less = replace(native_bundle, manifest=replace(native_bundle.manifest, parity=tuple(parity)))
    assert less.native_forms == ()


def test_an_unverified_bundle_uses_onnxruntime_without_a_warning(tiny_bundle):
    assert Bundle.open(tiny_bundle).native_forms == ()
    with Embedder.load(tiny_bundle) as elmo:
        assert elmo.backend == "onnxruntime-cpu"


def test_a_machine_without_the_library_uses_onnxruntime_without_a_warning(
    native_bundle, monkeypatch, tmp_path
):
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "missing.so")
    with Embedder.load(native_bundle.path) as elmo:
        assert elmo.backend == "onnxruntime-cpu"
    with pytest.raises(BackendUnavailableError, match="was not built"):
        Embedder.load(native_bundle.path, backend="native")


def test_a_missing_instruction_set_makes_the_backend_unavailable(native_bundle, monkeypatch):
    monkeypatch.setenv(library.CHOICE, "avx1024")
    with Embedder.load(native_bundle.path) as elmo:
        assert elmo.backend == "onnxruntime-cpu"
    with pytest.raises(BackendUnavailableError, match="lacks what ELMO_DEPLOY_NATIVE_ISA asks for"):
        Embedder.load(native_bundle.path, backend="native")


def test_bf16_is_exported_with_the_weights_of_fp32_only(checkpoint, tmp_path):
    with pytest.raises(InputError, match="computed from the weights of fp32; add --precision fp32"):
        export_bundle(checkpoint, tmp_path / "b", reference=dict, precisions=["bf16"])


def test_bf16_is_exported_where_the_library_runs_only(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "missing.so")
    with pytest.raises(BackendUnavailableError, match="bf16 needs the native backend"):
        export_bundle(checkpoint, tmp_path / "b", reference=dict, precisions=["fp32", "bf16"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 3}, r"hold no tensor bilm\.forward_stack\.layers\.2"),
        ({"lstm_dim": 64}, r"input_weight is \(32, 192\), the config says \(32, 256\)"),
        ({"filters": ((1, 4), (2, 6), (3, 8), (4, 10))}, r"is \(10, 4, 1, 5\), .* \(10, 4, 4\)"),
    ],
)
def test_a_bundle_whose_tensors_do_not_fit_its_config_is_refused(native_bundle, changes, message):
    config = replace(native_bundle.config, **changes)
    wrong = replace(native_bundle, manifest=replace(native_bundle.manifest, config=config))
    with pytest.raises(BundleVersionError, match=message):
        open_native(wrong, "fp32", OPTIONS)


def test_hyperthreads_of_one_core_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr("elmo_runtime.backends.native.cores.usable_cpus", lambda root: 4)
    for cpu in range(4):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    assert usable_cores(tmp_path) == 2
    assert usable_cores(tmp_path / "without topology") == 4
