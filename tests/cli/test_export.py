"""`export` compares a bundle with the reference model, and `verify` compares it again."""

import json
import sys

import numpy as np
import pytest

from elmo_runtime.bundle.manifest import Bundle


def test_export_prints_the_parity_table_with_time_and_memory(run, model, bundle, tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat\non the mat\n")
    other = tmp_path / "bundle"
    answer = run("export", model, "-o", other, "--joined", "--warm", tmp_path / "text.txt")
    assert answer.code == 0
    assert "lstm_outputs2" in answer.stdout and "beyond" not in answer.stdout
    assert "peak memory" in " ".join(answer.stdout.split())  # lines wrap
    graphs = Bundle.open(other).manifest.graphs
    assert {graph.part for graph in graphs} == {"token_encoder", "bilm", "joined"}
    warm = "state/warm.safetensors"
    assert (other / warm).read_bytes() != (bundle / warm).read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_without_onnxruntime_export_names_the_extras(run, model, tmp_path, monkeypatch, precision):
    """The extra `export` does not install it, because [cpu] and [gpu] exclude each other."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = run("export", model, "-o", tmp_path / "bundle", "--precision", precision)
    assert answer.code == 4 and not (tmp_path / "bundle").exists()
    what, hint = answer.stderr.splitlines()
    assert "verified with ONNX Runtime" in what and "elmo-deploy[cpu,export]" in hint


def test_an_unknown_precision_is_a_usage_error(run, model, tmp_path):
    answer = run("export", model, "-o", tmp_path / "bundle", "--precision", "fp7")
    assert answer.code == 2 and "fp7" in answer.stderr


def test_verify_repeats_the_comparison(run, bundle):
    answer = run("verify", bundle, "--json")
    report = json.loads(answer.stdout)
    assert answer.code == 0 and all(row["passed"] for row in report["parity"])


def test_verify_rejects_the_weights_of_another_model(run, bundle, other_model):
    answer = run("verify", bundle, "--checkpoint", other_model)
    assert answer.code == 3
    assert answer.stderr.startswith("error: ") and "BEYOND TOLERANCE" in answer.stderr


def test_verify_names_the_file_that_changed(run, bundle, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(bundle)).parent.mkdir(exist_ok=True)
            (copy / file.relative_to(bundle)).write_bytes(file.read_bytes())
    graph = next((copy / "graphs").glob("bilm*"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    answer = run("verify", copy)
    assert answer.code == 5 and graph.name in answer.stderr


@pytest.mark.parametrize("kind", ["bundle", "model"])
def test_inspect_prints_the_contents(run, request, kind):
    answer = run("inspect", request.getfixturevalue(kind), "--json")
    description = json.loads(answer.stdout)
    assert description["model"]["projection_dim"] == 8
    assert description["parameters"] == 12_208
    table = run("inspect", request.getfixturevalue(kind))
    assert table.code == 0 and "12,208 parameters" in table.stdout


def test_inspect_counts_the_weights_of_the_checkpoint(run, model, tiny_checkpoint):
    held = sum(np.size(tensor) for tensor in tiny_checkpoint.tensors.values())
    assert json.loads(run("inspect", model, "--json").stdout)["parameters"] == held
