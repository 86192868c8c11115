"""A bundle is verified and written atomically, and the same model gives the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import random_models
from elmo_deploy.model.reference import reference
from elmo_export.export import export_bundle, verify_bundle
from elmo_export.verify.cases import own_sentences, sentence_inputs
from elmo_export.verify.recover import recover_checkpoint
from elmo_runtime.bundle.manifest import NATIVE, Bundle
from elmo_runtime.errors import BundleError, InputError, VerificationError


@pytest.fixture(scope="module")
def small_matrix():
    """Fewer and smaller cases, for tests that do not need a thorough comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elmo_export.verify.cases.SHAPES", [(1, 2), (5, 7)])
        yield


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint, tmp_path_factory, small_matrix):
    return export_bundle(
        tiny_checkpoint,
        tmp_path_factory.mktemp("export") / "bundle",
        reference=reference(tiny_checkpoint),
        precisions=("fp32", "fp16"),
        joined=True,
    )


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_contains_the_documented_files(bundle):
    assert files_of(bundle.path) >= {
        "README.md",
        "config.json",
        "graphs/bilm.packed.fp32.onnx",
        "graphs/bilm.padded.fp16.onnx",
        "graphs/bilm.padded.fp32.onnx",
        "graphs/joined.padded.fp16.onnx",
        "graphs/joined.padded.fp32.onnx",
        "graphs/token_encoder.padded.fp16.onnx",
        "graphs/token_encoder.padded.fp32.onnx",
        "manifest.json",
        "samples/inputs.npz",
        "samples/outputs.npz",
        "state/warm.safetensors",
    }
    assert bundle.precisions == ("fp32", "fp16")


def test_the_parity_table_has_every_output_of_every_graph(bundle):
    rows = {(row["precision"], row["graph"], row["output"]) for row in bundle.manifest.parity}
    graphs = {row for row in rows if row[1] != NATIVE}  # native needs its library
    assert len(graphs) == 5 * 8  # seven outputs and batch invariance
    assert ("fp32", "packed", "final_c") in rows
    assert all(row["passed"] for row in bundle.manifest.parity)


def test_the_golden_sentences_hold_the_outputs_of_the_reference(bundle, tiny_checkpoint):
    inputs = np.load(bundle.path / "samples" / "inputs.npz")
    outputs = np.load(bundle.path / "samples" / "outputs.npz")
    expected = sentence_inputs(tiny_checkpoint.config, own_sentences()[: len(inputs["lengths"])])
    assert (inputs["char_ids"] == expected["char_ids"]).all()
    assert set(outputs) == {
        output.name for output in bundle.graph("bilm", "fp32", forms=["packed"]).outputs
    }
    assert outputs["elmo"].shape == (1, *inputs["char_ids"].shape[:2], 16)


def test_the_warm_state_is_the_mean_state_after_a_sentence(tiny_checkpoint, tmp_path, small_matrix):
    sentences = [["a", "b"], ["the", "end", "."]]
    run = reference(tiny_checkpoint)
    export_bundle(tiny_checkpoint, tmp_path / "b", reference=run, warm_sentences=sentences)
    warm = load_file(tmp_path / "b" / "state" / "warm.safetensors")
    outputs = [run(**sentence_inputs(tiny_checkpoint.config, [one])) for one in sentences]
    assert np.allclose(
        warm["c"], np.mean([out["final_c"][:, :, 0] for out in outputs], axis=0), atol=1e-6
    )
    assert warm["h"].shape == (2, 2, 8)


def test_a_wrong_graph_is_never_written(tiny_checkpoint, tmp_path, small_matrix):
    """A reference with other weights simulates an export that lost something."""
    other = reference(random_models.random_checkpoint(tiny_checkpoint.config, seed=7))
    with pytest.raises(VerificationError, match="BEYOND TOLERANCE"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", reference=other)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_old_bundle(bundle, tiny_checkpoint, tmp_path, small_matrix):
    run = reference(tiny_checkpoint)
    old = export_bundle(tiny_checkpoint, tmp_path / "bundle", reference=run)
    other = reference(random_models.random_checkpoint(tiny_checkpoint.config, seed=7))
    with pytest.raises(VerificationError):
        export_bundle(tiny_checkpoint, old.path, reference=other)
    assert Bundle.open(old.path).manifest == old.manifest


def test_verify_repeats_the_check(bundle, tiny_checkpoint, small_matrix):
    rows = verify_bundle(bundle.path, reference=reference(tiny_checkpoint))
    assert len(rows) == len(bundle.manifest.parity)
    other = reference(random_models.random_checkpoint(tiny_checkpoint.config, seed=7))
    with pytest.raises(VerificationError):
        verify_bundle(bundle.path, reference=other)


def test_the_recovered_checkpoint_is_bit_identical(bundle, tiny_checkpoint):
    back = recover_checkpoint(bundle)
    assert back.config == tiny_checkpoint.config
    assert {n: t.tobytes() for n, t in back.tensors.items()} == {
        n: t.tobytes() for n, t in tiny_checkpoint.tensors.items()
    }


def test_no_checkpoint_is_recovered_from_a_bundle_without_fp32(
    tiny_checkpoint, tmp_path, small_matrix
):
    run = reference(tiny_checkpoint)
    half = export_bundle(tiny_checkpoint, tmp_path / "b", reference=run, precisions=["fp16"])
    with pytest.raises(BundleError, match="no fp32 graphs"):
        recover_checkpoint(half)


@pytest.mark.parametrize(
    "options", [{"precisions": ["fp8"]}, {"precisions": ["fp16"], "forms": ["packed"]}]
)
def test_unknown_precisions_and_forms_are_rejected(options, tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"fp8|fp16 has no form packed"):
        export_bundle(tiny_checkpoint, tmp_path / "b", reference=dict, **options)
    assert not (tmp_path / "b").exists()


def test_an_int8_bundle_has_only_the_packed_form(tiny_checkpoint, tmp_path, small_matrix):
    run = reference(tiny_checkpoint)
    small = export_bundle(tiny_checkpoint, tmp_path / "b", reference=run, precisions=["int8"])
    graphs = {(graph.part, graph.form) for graph in small.manifest.graphs}
    assert graphs == {("token_encoder", "padded"), ("bilm", "packed")}
    assert min(row["min_cosine"] for row in small.manifest.parity) > 0.97


def test_the_progress_never_decreases(tiny_checkpoint, tmp_path, small_matrix):
    shares = []
    export_bundle(
        tiny_checkpoint,
        tmp_path / "b",
        reference=reference(tiny_checkpoint),
        on_progress=lambda what, share: shares.append(share),
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1


EXPORT = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
import elmo_export.verify.cases
elmo_export.verify.cases.SHAPES = [(1, 2), (5, 7)]
from elmo_deploy.model.reference import reference
from elmo_export import export_bundle
from random_models import random_checkpoint, tiny_config
checkpoint = random_checkpoint(tiny_config())
export_bundle(checkpoint, Path(sys.argv[1]), reference=reference(checkpoint), joined=True,
              precisions=["fp32", "fp16"])
"""


def test_another_process_elsewhere_writes_the_same_bytes(bundle, tmp_path):
    """Guarantee D5: the working directory and the hash seed differ."""
    paths = os.pathsep.join([str(Path(random_models.__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": paths}
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(tmp_path / "bundle")],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert files_of(tmp_path / "bundle") == files_of(bundle.path)
    for name in files_of(bundle.path):
        assert (tmp_path / "bundle" / name).read_bytes() == (bundle.path / name).read_bytes(), name


def test_an_export_without_precisions_is_rejected(tiny_checkpoint, tmp_path):
    """A bundle without a graph was written and counted as verified."""
    with pytest.raises(InputError, match="precisions is empty"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", reference=dict, precisions=[])
    assert not (tmp_path / "bundle").exists()
