"""Large inputs: a directory of parts that survives signals and full disks, and can be divided."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from elmo_runtime import Embedder
from guarantee_kit.jobs import content

parquet = pytest.importorskip("pyarrow.parquet")

SENTENCES = [f"sentence {number} of {'many ' * (number % 9)}words" for number in range(60)]
PARTS = ["--part-rows", "7", "--part-tokens", "60", "--backend", "onnxruntime-cpu"]
MAIN = "import sys; from elmo_deploy.cli import main; main(sys.argv[1:])"
WITH_SMALL_FILES = (
    "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    f"resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); {MAIN}"
)

WITH_SIGTERM = f"""
import os, signal, sys

def stop(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("part-00001.parquet"):
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(stop)
{MAIN}
"""


@pytest.fixture
def corpus(tmp_path):
    """The sentences in a plain, a compressed and a JSON lines file."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("\n".join(SENTENCES[:20]))
    (folder / "b.txt.gz").write_bytes(gzip.compress("\n".join(SENTENCES[20:40]).encode()))
    lines = [json.dumps({"text": text, "n": n}) for n, text in enumerate(SENTENCES[40:])]
    (folder / "c.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def whole(run, bundle, corpus, tmp_path):
    """The result of an undisturbed run."""
    assert run("embed", bundle, corpus, "-o", tmp_path / "whole", *PARTS).code == 0
    return content(tmp_path / "whole")


def test_the_directory_contains_the_vectors_of_the_library(run, bundle, corpus, tmp_path):
    out = tmp_path / "out"
    answer = run("embed", bundle, corpus, "-o", out, *PARTS, "--outputs", "elmo,default", "--json")
    assert json.loads(answer.stdout)["sentences"] == len(SENTENCES)
    rows = parquet.read_table(out).to_pylist()
    assert [" ".join(row["tokens"]) for row in rows] == [" ".join(s.split()) for s in SENTENCES]
    assert [rows[0]["id"], rows[20]["id"], rows[59]["id"]] == [
        "a.txt:1",
        "b.txt.gz:1",
        "c.jsonl:20",
    ]
    with Embedder.load(bundle, backend="onnxruntime-cpu") as elmo:
        expected = elmo.embed(SENTENCES, outputs=["elmo", "default"])
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(row["elmo"], expected["elmo"][number])
        np.testing.assert_array_equal(row["default"], expected["default"][number])


def test_several_workers_write_the_same_as_one(run, bundle, corpus, tmp_path, whole):
    for index in range(3):
        words = ["--shard", f"{index}/3"]
        assert run("embed", bundle, corpus, "-o", tmp_path / "out", *PARTS, *words).code == 0
    assert content(tmp_path / "out") == whole


def test_sigterm_stops_after_the_part_and_resume_continues(run, bundle, corpus, tmp_path):
    """The job sends the signal itself: a busy machine sent it after the end of the job."""
    many, out = tmp_path / "many.txt", tmp_path / "out"
    many.write_text("\n".join(SENTENCES * 20))
    words = ["embed", bundle, many, "-o", out, *PARTS, "--json"]
    command = [sys.executable, "-c", WITH_SIGTERM, *map(str, words)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    summary = json.loads(process.stdout)
    assert (process.returncode, summary["stopped"]) == (0, True)
    assert run(*words, "--resume").code == 0
    assert run(*["embed", bundle, many, "-o", tmp_path / "whole", *PARTS]).code == 0
    assert content(out) == content(tmp_path / "whole")


def test_a_full_disk_is_reported_and_resume_continues(run, bundle, corpus, tmp_path, whole):
    words = ["embed", bundle, corpus, "-o", tmp_path / "out", *PARTS]
    full = subprocess.run(
        [sys.executable, "-c", WITH_SMALL_FILES, *map(str, words)], capture_output=True, text=True
    )
    assert full.returncode == 5
    assert (
        "part-00000.parquet cannot be written: the file size limit is reached\nhint: raise"
        in full.stderr
    )
    assert run(*words, "--resume").code == 0
    assert content(tmp_path / "out") == whole


def test_skipped_lines_are_reported(run, bundle, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"good\nbad \xff\ngood")
    for out in (tmp_path / "folder", tmp_path / "file.npz"):
        answer = run("embed", bundle, tmp_path / "bad.txt", "-o", out, "--on-error", "skip")
        assert answer.code == 0
        assert "skipped bad.txt:2: not UTF-8: byte 0xff at column 5" in answer.stderr


def test_fields_are_named(run, bundle, corpus, tmp_path):
    words = ["--id-field", "n", *PARTS]
    assert run("embed", bundle, corpus / "c.jsonl", "-o", tmp_path / "out", *words).code == 0
    assert parquet.read_table(tmp_path / "out")["id"].to_pylist() == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "out.npz", "--resume"], "out.npz is one file, which cannot be resumed"),
        (["-o", "out.npz", "--shard", "0/2"], "one file"),
        (["-o", "out", "--shard", "2/2"], "write i/n with i from 0 to n - 1"),
        (["-o", "out", "--state", "carry"], "parts of a directory cannot carry a state"),
        (["-o", "out", "--rows", "64"], "--rows has no effect on out"),
        (["-o", "out", "--forget-sentences"], "--forget-sentences has no effect on out"),
        (["-o", "out", "--use-sentence-keys"], "--use-sentence-keys has no effect on out"),
        (["-o", "out", "--outputs", "layers"], "name word_emb, lstm_outputs1, lstm_outputs2"),
        (["-o", "out", "--on-error", "ignore"], "use fail or skip"),
        (["-o", "out", "--format", "csv"], "use auto, text, jsonl, parquet"),
        (["-o", "out", "--text-field", "body"], "has no field 'body'"),
    ],
)
def test_invalid_options_are_rejected(run, bundle, corpus, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    answer = run("embed", bundle, corpus / "c.jsonl", *words, "--backend", "onnxruntime-cpu")
    assert answer.code == 2 and said in answer.stderr
