"""The directory of a bulk job has the same bytes for any number of workers and interruptions."""

import hashlib
import json

import numpy as np
import pytest

from elmo_runtime.bulk import BlockLimits, BulkJob, Columns, Corpus, Shard, find_sources
from elmo_runtime.errors import ArtifactError, InputError

parquet = pytest.importorskip("pyarrow.parquet")

WIDTH = 6
COLUMNS = Columns(widths={"elmo": WIDTH, "default": WIDTH}, pooled=("default",))


def vectors_of(sentences):
    """Vectors from which the tokens can be read."""
    for tokens in sentences:
        rows = [
            np.frombuffer(hashlib.sha256(t.encode()).digest()[:WIDTH], np.uint8) for t in tokens
        ]
        elmo = np.array(rows, np.float32).reshape(-1, WIDTH)
        yield {"elmo": elmo, "default": elmo.sum(axis=0)}


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"sentence {i} of {'many ' * (i % 7)}words\n" for i in range(100)))
    return path


def job(target, **options):
    options = {"limits": BlockLimits(rows=9, tokens=50), "settings": {"bundle": "b1"}} | options
    return BulkJob(
        target, vectors_of=vectors_of, columns=options.pop("columns", COLUMNS), **options
    )


def run(target, path, *, stop=lambda: False, **options):
    return job(target, **options).run(Corpus(find_sources([str(path)])), stop=stop)


def content(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def stop_after(parts):
    remaining = iter([False] * parts)
    return lambda: next(remaining, True)


def test_every_sentence_occurs_once_in_order_with_its_vectors(tmp_path, corpus_file):
    summary = run(tmp_path / "out", corpus_file)
    table = parquet.read_table(tmp_path / "out")
    assert table["id"].to_pylist() == [f"corpus.txt:{i}" for i in range(1, 101)]
    tokens = [line.split() for line in corpus_file.read_text().splitlines()]
    assert table["tokens"].to_pylist() == tokens
    for row, expected in zip(table.to_pylist(), vectors_of(tokens), strict=True):
        assert np.array_equal(row["elmo"], expected["elmo"])
        assert np.array_equal(row["default"], expected["default"])
    assert (summary.sentences, summary.tokens) == (100, sum(map(len, tokens)))
    assert summary.parts_written == len(list((tmp_path / "out").glob("*.parquet"))) > 10


def test_a_stopped_and_resumed_run_leaves_the_bytes_of_an_unbroken_one(tmp_path, corpus_file):
    whole = run(tmp_path / "whole", corpus_file)
    first = run(tmp_path / "out", corpus_file, stop=stop_after(3))
    assert (first.stopped, first.parts_written) == (True, 3)
    second = run(tmp_path / "out", corpus_file, resume=True)
    assert (second.stopped, second.parts_found) == (False, 3)
    assert (second.sentences, second.tokens) == (whole.sentences, whole.tokens)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_workers_that_share_the_input_leave_the_bytes_of_one(tmp_path, corpus_file):
    run(tmp_path / "whole", corpus_file)
    for index in (2, 0, 1):
        run(tmp_path / "out", corpus_file, shard=Shard.parse(f"{index}/3"))
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_finished_part_is_not_computed_again(tmp_path, corpus_file):
    run(tmp_path / "out", corpus_file)
    before = {p: p.stat().st_ino for p in (tmp_path / "out").glob("*.parquet")}
    assert run(tmp_path / "out", corpus_file, resume=True).parts_written == 0
    assert {p: p.stat().st_ino for p in before} == before


@pytest.mark.parametrize("damage", ["no entry", "torn entry", "cut part", "leftovers"])
def test_an_incomplete_part_is_written_again(tmp_path, corpus_file, damage):
    out = tmp_path / "out"
    run(out, corpus_file)
    whole = content(out)
    home = tmp_path / "out.job"
    entry, part = home / "_journal" / "part-00002.json", out / "part-00002.parquet"
    match damage:
        case "no entry":
            entry.unlink()
        case "torn entry":
            entry.write_bytes(entry.read_bytes()[:40])
        case "cut part":
            part.write_bytes(part.read_bytes()[:-1])
        case "leftovers":
            part.unlink()
            for name in (out / f".{part.name}", entry.parent / ".part-00002.json", home / "._job"):
                scratch = name.with_name(f"{name.name}.elmo-partial")
                scratch.mkdir()
                (scratch / "owner").write_text('{"pid": 1, "host": "another"}')
                (scratch / "half").write_text("half")
    assert run(out, corpus_file, resume=True).parts_written == 1
    assert content(out) == whole
    assert not [*out.rglob(".*"), *home.rglob(".*")]


def test_a_directory_is_not_written_twice_by_mistake(tmp_path, corpus_file):
    run(tmp_path / "out", corpus_file)
    with pytest.raises(InputError, match=r"part-00000.parquet exists already; resume, or write"):
        run(tmp_path / "out", corpus_file)


def test_other_settings_are_refused_by_name(tmp_path, corpus_file):
    run(tmp_path / "out", corpus_file)
    with pytest.raises(InputError, match="was begun with bundle 'b1', now it is 'b2'"):
        run(tmp_path / "out", corpus_file, resume=True, settings={"bundle": "b2"})
    half = Columns(widths=COLUMNS.widths, pooled=COLUMNS.pooled, dtype="float16")
    with pytest.raises(InputError, match="begun with dtype 'float32', now it is 'float16'"):
        run(tmp_path / "out", corpus_file, resume=True, columns=half)


def test_other_input_is_refused(tmp_path, corpus_file):
    run(tmp_path / "out", corpus_file, stop=stop_after(3))
    corpus_file.write_text(corpus_file.read_text().replace("sentence 3 ", "sentence X "))
    with pytest.raises(InputError, match=r"the input of .*part-0000\d.parquet has changed"):
        run(tmp_path / "out", corpus_file, resume=True)


def with_bad_line(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[41] = b"caf\xe9\n"
    path.write_bytes(b"".join(lines))


def test_a_bad_line_ends_the_run_with_its_position_and_a_fixed_line_resumes(tmp_path, corpus_file):
    good = corpus_file.read_bytes()
    run(tmp_path / "whole", corpus_file)
    with_bad_line(corpus_file)
    with pytest.raises(InputError, match=r"corpus.txt:42: not UTF-8"):
        run(tmp_path / "out", corpus_file)
    corpus_file.write_bytes(good)
    run(tmp_path / "out", corpus_file, resume=True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_skipped_line_is_reported_after_resuming_too(tmp_path, corpus_file):
    with_bad_line(corpus_file)
    for resume in (False, True):
        summary = run(tmp_path / "out", corpus_file, on_error="skip", resume=resume)
        (told,) = summary.skipped
        assert told.startswith("corpus.txt:42: not UTF-8")
        assert summary.sentences == 99
    assert "corpus.txt:42" not in parquet.read_table(tmp_path / "out")["id"].to_pylist()


def test_a_sentence_that_the_model_refuses_is_a_bad_line(tmp_path, corpus_file):
    def refuses(tokens):
        return "too long" if len(tokens) > 9 else ""

    with pytest.raises(InputError, match=r"corpus.txt:7: too long"):
        run(tmp_path / "out", corpus_file, refuses=refuses)
    summary = run(tmp_path / "skip", corpus_file, refuses=refuses, on_error="skip")
    assert summary.sentences + len(summary.skipped) == 100


def test_an_empty_input_leaves_one_part_without_rows(tmp_path):
    (tmp_path / "empty.txt").touch()
    run(tmp_path / "out", tmp_path / "empty.txt")
    table = parquet.read_table(tmp_path / "out")
    assert (table.num_rows, table.column_names) == (0, ["id", "tokens", "elmo", "default"])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_are_fixed_size_lists_of_the_requested_type(tmp_path, corpus_file, dtype):
    columns = Columns(widths=COLUMNS.widths, pooled=COLUMNS.pooled, dtype=dtype)
    run(tmp_path / "out", corpus_file, columns=columns)
    schema = parquet.read_schema(tmp_path / "out" / "part-00000.parquet")
    number = {"float16": "halffloat", "float32": "float"}[dtype]
    assert f"fixed_size_list<element: {number}>[{WIDTH}]" == str(schema.field("default").type)
    assert f"fixed_size_list<element: {number}>[{WIDTH}]" in str(schema.field("elmo").type)


def test_large_blocks_are_written_in_row_groups(tmp_path, corpus_file):
    corpus_file.write_text("a b c d e f g h\n" * 3000)
    run(tmp_path / "out", corpus_file, limits=BlockLimits())
    file = parquet.ParquetFile(tmp_path / "out" / "part-00000.parquet")
    assert file.metadata.num_row_groups == 3
    assert file.metadata.num_rows == 3000


def test_the_journal_has_the_digest_of_each_part(tmp_path, corpus_file):
    run(tmp_path / "out", corpus_file)
    for entry in (tmp_path / "out.job" / "_journal").iterdir():
        part = tmp_path / "out" / f"{entry.stem}.parquet"
        told = json.loads(entry.read_text())["part_sha256"]
        assert told == hashlib.sha256(part.read_bytes()).hexdigest()


def test_a_directory_that_cannot_be_written_gives_one_line(tmp_path, corpus_file):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"cannot be written: Not a directory; check the path"):
        run(tmp_path / "file" / "out", corpus_file)


def test_progress_grows_sentence_by_sentence_to_the_end(tmp_path, corpus_file):
    seen = []
    embedding = job(tmp_path / "out")
    lines = Corpus(find_sources([str(corpus_file)]))
    embedding.run(lines, on_sentence=lambda tokens: seen.append((tokens, embedding.fraction_read)))
    lengths = [len(line.split()) for line in corpus_file.read_text().splitlines()]
    assert [tokens for tokens, _ in seen] == lengths
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert (fractions[-1], len(set(fractions))) == (1, 100)


@pytest.mark.parametrize("text", ["4/4", "-1/4", "1", "a/b", "1/0", ""])
def test_a_shard_that_does_not_exist_is_refused(text):
    with pytest.raises(InputError, match="from 0 to n - 1"):
        Shard.parse(text)


def test_parts_of_another_program_are_not_overwritten(tmp_path, corpus_file):
    """`--resume` into a Parquet data set of someone else replaced its parts of the same names."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-00000.parquet").write_text("the only copy")
    with pytest.raises(InputError, match=r"part-00000\.parquet, but .*_job\.json does not exist"):
        run(out, corpus_file, resume=True)
    assert (out / "part-00000.parquet").read_text() == "the only copy"
