"""Sentences in, one file of vectors out, the same vectors as the library gives."""

import json
from itertools import pairwise

import h5py
import numpy as np
import pytest
import safetensors.numpy

from elmo_runtime import Embedder

TEXT = b"the cat is on the mat\n\ndogs are in the fog\r\nthe cat is on the mat\n"
SENTENCES = TEXT.decode().splitlines()
OUTPUTS = ["word_emb", "lstm_outputs1", "lstm_outputs2", "elmo", "layers", "default", "layer_means"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "sentences.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture(scope="module")
def expected(bundle):
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        return elmo.embed(SENTENCES, outputs=OUTPUTS)


def read(path, output):
    """The vectors of each sentence in any format."""
    if path.suffix == ".hdf5":
        with h5py.File(path) as file:
            return [file[str(index)][:] for index in range(len(SENTENCES))]
    load = np.load if path.suffix == ".npz" else safetensors.numpy.load_file
    arrays = load(path)
    vectors, offsets = arrays["vectors"], arrays["offsets"]
    if output in ("default", "layer_means"):
        return list(vectors)
    cut = [vectors[begin:end] for begin, end in pairwise(offsets)]
    return [rows.swapaxes(0, 1) for rows in cut] if output == "layers" else cut


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".safetensors"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_format_contains_the_vectors_of_the_library(
    run, bundle, text, expected, tmp_path, suffix, output
):
    out = tmp_path / f"out{suffix}"
    assert run("embed", bundle, text, "-o", out, "--outputs", output).code == 0
    for actual, reference in zip(read(out, output), expected[output], strict=True):
        np.testing.assert_array_equal(actual, reference)


def test_stdin_and_half_precision_and_the_summary_as_json(run, bundle, expected, tmp_path):
    out = tmp_path / "out.npz"
    answer = run("embed", bundle, "-", "-o", out, "--dtype", "float16", "--json", typed=TEXT)
    summary = json.loads(answer.stdout)
    assert (summary["sentences"], summary["tokens"]) == (4, 17)
    assert summary["backend"] == "onnxruntime-cpu"
    vectors = read(out, "elmo")[0]
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, expected["elmo"][0].astype(np.float16))


def test_hdf5_indexes_sentences_as_allennlp_does(run, bundle, text, tmp_path):
    out = tmp_path / "out.hdf5"
    run("embed", bundle, text, "-o", out)
    with h5py.File(out) as file:
        index = json.loads(file["sentence_to_index"].asstr()[0])
    assert index == {"the cat is on the mat": "3", "": "1", "dogs are in the fog": "2"}


def lookup(file, sentence):
    """Read as scripts for AllenNLP files do, from Python 2 and h5py 2 to today."""
    index = json.loads(file.get("sentence_to_index")[0])
    assert json.loads(file["sentence_to_index"][0]) == index
    vectors = file[index[sentence]]
    np.testing.assert_array_equal(vectors[...], vectors[()])
    return vectors[()]


def test_scripts_for_allennlp_find_each_line_of_the_input(run, bundle, tmp_path):
    """The index contained tokens joined by single spaces, not lines with other white space."""
    lines = ["  the\tcat  is on the mat ", "dogs are\u00a0in the fog", 'a "quoted"  d\u00e9j\u00e0']
    (tmp_path / "in.txt").write_text("\n".join(lines), "utf-8")
    assert run("embed", bundle, tmp_path / "in.txt", "-o", tmp_path / "out.hdf5").code == 0
    with (
        h5py.File(tmp_path / "out.hdf5") as file,
        (tmp_path / "in.txt").open(encoding="utf-8") as text,
        Embedder.load(bundle, backend="onnxruntime-cpu") as elmo,
    ):
        assert len(file) - 1 == len(lines) and len(list(file.values())[:-1]) == len(lines)
        for number, line in enumerate(text):
            expected = elmo.embed([line.split()])["elmo"][0]
            np.testing.assert_array_equal(lookup(file, line.strip()), expected)
            np.testing.assert_array_equal(file[str(number)], expected)


def test_datasets_are_named_by_the_sentences_with_the_options_of_old_scripts(run, bundle, tmp_path):
    """Both options together, as used with AllenNLP, were rejected."""
    out, options = tmp_path / "out.hdf5", ("--use-sentence-keys", "--forget-sentences")
    typed = b" the  cat\nand/or\n"
    answer = run("embed", bundle, "-", "-o", out, "--outputs", "layers", *options, typed=typed)
    assert answer.code == 0, answer.stderr
    with h5py.File(out) as file:
        assert file["the  cat"].shape[:2] == (3, 2) and file["and/or"][()].shape[:2] == (3, 1)
        assert "sentence_to_index" not in file


def test_proteins_are_found_by_their_ids(run, bundle, tmp_path):
    (tmp_path / "in.fasta").write_text(">sp|P1|X an enzyme\nACD\nEF*\n>P2\nGHI\n")
    assert run("embed", bundle, tmp_path / "in.fasta", "-o", tmp_path / "out.hdf5").code == 0
    with (
        h5py.File(tmp_path / "out.hdf5") as file,
        Embedder.load(bundle, backend="onnxruntime-cpu") as elmo,
    ):
        np.testing.assert_array_equal(
            lookup(file, "sp|P1|X"), elmo.embed([list("ACDEF")])["elmo"][0]
        )
        assert lookup(file, "P2").shape[0] == 3


@pytest.mark.parametrize("out", ["out.npz", "folder"])
def test_tokens_that_are_cut_are_counted_and_reported_once(run, bundle, tmp_path, out):
    """Words longer than 48 bytes got the vector of their beginning without a message."""
    typed = f"{'x' * 48} {'x' * 49} {'é' * 25}\n{'x' * 49} {'é' * 24}\n".encode()
    answer = run("embed", bundle, "-", "-o", tmp_path / out, "--json", typed=typed)
    assert json.loads(answer.stdout)["cut_tokens"] == 3
    assert answer.stderr.count("3 tokens are longer than 48 bytes") == 1
    answer = run("embed", bundle, "-", "-o", tmp_path / f"other-{out}", typed=b"short words\n")
    assert "longer than" not in answer.stderr


def test_a_carried_state_continues_row_by_row(run, bundle, tmp_path):
    out = tmp_path / "out.hdf5"
    words = ["--state", "carry", "--rows", 1]
    assert run("embed", bundle, "-", "-o", out, *words, typed=b"the cat\nthe cat\n").code == 0
    with Embedder.load(bundle, state="carry") as elmo, h5py.File(out) as file:
        for index in ("0", "1"):
            carried = elmo.embed(["the cat"])["elmo"][0]
            np.testing.assert_array_equal(file[index], carried)
        assert (file["0"][:] != file["1"][:]).any()


def test_a_line_that_is_not_utf8_is_named_and_no_file_is_left(run, bundle, tmp_path):
    out = tmp_path / "out.npz"
    answer = run("embed", bundle, "-", "-o", out, typed=b"good\nbad \xff line\n")
    assert answer.code == 2 and "-:2: not UTF-8" in answer.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "out.txt"], 2, "out.txt has no known suffix"),
        (["-o", "out.npz", "--outputs", "elmos"], 2, "output 'elmos' does not exist"),
        (["-o", "out.npz", "--dtype", "int8"], 2, "dtype is 'int8'"),
        (["-o", "out.npz", "--on-error", "ignore"], 2, "on_error is 'ignore'"),
        (["-o", "out.npz", "--use-sentence-keys"], 2, "only .hdf5 files have keys"),
        (["-o", "out.npz", "--state", "cold"], 2, "state is 'cold'"),
        (["-o", "out.npz", "--precision", "fp16"], 4, "fp16"),
        (["-o", "out.npz", "--backend", "onnxruntime-cuda"], 4, "CUDA provider"),
        (["-o", "out.npz", "--token-budget", "0"], 2, "--token-budget"),
    ],
)
def test_invalid_options_have_their_exit_codes(
    run, bundle, text, words, code, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where the relative output path may be written
    answer = run("embed", bundle, text, *words)
    assert answer.code == code and said in answer.stderr


def test_a_path_may_contain_brackets(run, bundle, text, tmp_path):
    """The file was written, then its path was read as markup and raised MarkupError."""
    (tmp_path / "a[").mkdir()
    out = tmp_path / "a[" / "b].npz"
    answer = run("embed", bundle, text, "-o", out)
    assert answer.code == 0
    assert str(out) in answer.stderr.replace("\n", "")


def test_a_missing_input_and_a_missing_bundle_are_named(run, bundle, text, tmp_path):
    answer = run("embed", bundle, tmp_path / "absent.txt", "-o", tmp_path / "out.npz")
    assert answer.code == 2 and "absent.txt does not exist" in answer.stderr
    answer = run("embed", tmp_path / "absent", text, "-o", tmp_path / "out.npz")
    assert answer.code == 5 and "is not a bundle directory" in answer.stderr


def test_the_summary_counts_in_plain_words(run, bundle, tmp_path):
    """The summary of one sentence said "1 sentences"."""
    answer = run("embed", bundle, "-", "-o", tmp_path / "out.npz", typed=b"cat\n")
    assert answer.stderr.startswith("1 sentence, 1 token, ")
    answer = run("embed", bundle, "-", "-o", tmp_path / "out", typed=b"the cat\n")
    assert "1 sentence, 2 tokens" in answer.stderr and "1 part written" in answer.stderr
