"""Every reader that docs/guides/large-inputs.md names reads the directory of the parts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from elmo_runtime.bulk import BlockLimits, BulkJob, Columns, Corpus, find_sources, journal
from elmo_runtime.errors import InputError

pytest.importorskip("pyarrow")
SENTENCES = 20


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("a few words\n" * SENTENCES)
    return path


def run(target, path, *, resume=False):
    """Write two vectors per sentence into four parts."""
    job = BulkJob(
        target,
        vectors_of=lambda sentences: (
            {"elmo": np.ones((len(tokens), 6), np.float32), "default": np.ones(6, np.float32)}
            for tokens in sentences
        ),
        columns=Columns(widths={"elmo": 6, "default": 6}, pooled=("default",)),
        limits=BlockLimits(rows=5, tokens=50),
        settings={"bundle": "b1"},
        resume=resume,
    )
    return job.run(Corpus(find_sources([str(path)])))


def with_pyarrow(folder):
    from pyarrow import dataset

    return dataset.dataset(folder).to_table().num_rows


def with_pandas(folder):
    return len(pytest.importorskip("pandas").read_parquet(folder))


def with_polars(folder):
    polars = pytest.importorskip("polars")
    assert polars.scan_parquet(folder).collect().height == SENTENCES
    return polars.read_parquet(folder).height


def with_duckdb(folder):
    duckdb = pytest.importorskip("duckdb")
    return len(duckdb.sql(f"SELECT id FROM '{folder}/*.parquet'").fetchall())


def with_datasets(folder):
    datasets = pytest.importorskip("datasets")
    cache = str(folder.parent / "cache")
    read = datasets.load_dataset("parquet", data_dir=str(folder), split="train", cache_dir=cache)
    return read.num_rows


def with_ray(folder):
    ray = pytest.importorskip("ray")
    return ray.data.read_parquet(str(folder)).count()


@pytest.mark.filterwarnings("ignore")  # of the readers
@pytest.mark.parametrize(
    "read", [with_pyarrow, with_pandas, with_polars, with_duckdb, with_datasets, with_ray]
)
def test_a_reader_takes_the_directory(tmp_path, corpus_file, read):
    """Polars and datasets refused it: they read every file, also the job file and the journal."""
    run(tmp_path / "out", corpus_file)
    assert read(tmp_path / "out") == SENTENCES


def test_a_directory_of_the_earlier_layout_is_resumed(tmp_path, corpus_file):
    """The job file and the journal were in the directory of the parts."""
    out, job = tmp_path / "out", tmp_path / "out.job"
    run(out, corpus_file)
    for path in list(job.iterdir()):
        shutil.move(path, out / path.name)
    job.rmdir()
    (out / "part-00001.parquet").unlink()
    assert run(out, corpus_file, resume=True).parts_written == 1
    assert not job.exists()


def test_parts_that_lost_their_job_are_refused_by_name(tmp_path, corpus_file):
    run(tmp_path / "out", corpus_file)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"elsewhere\.job/_job\.json does not exist"):
        run(tmp_path / "elsewhere", corpus_file, resume=True)


def test_the_files_of_a_mount_point_are_inside_it(tmp_path, corpus_file, monkeypatch):
    """A directory next to a mounted volume is lost together with the container."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(journal.os.path, "ismount", lambda path: path == out)
    run(out, corpus_file)
    assert (out / "_job.json").exists() and not (tmp_path / "out.job").exists()
