"""Training reads the formats of `embed`; an error names file and line."""

import gzip
import json
import os

import pytest

from elmo_deploy.training.data.shards import (
    find_shards,
    identity_of,
    read_all_sentences,
    read_records,
    read_sentences,
)
from elmo_runtime.errors import InputError, TextError
from elmo_runtime.text import Fields
from elmo_runtime.text.lines import read_lines


def test_a_gz_shard_reads_as_the_plain_one(tmp_path):
    text = "\ufeffthe cat .\r\nété 東京\rlast line".encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text))
    lines = list(read_lines(tmp_path / "a.txt"))
    assert (
        lines == list(read_lines(tmp_path / "a.txt.gz")) == ["the cat .", "été 東京", "last line"]
    )


def test_blank_lines_are_left_out_but_keep_their_records(tmp_path):
    (tmp_path / "a").write_text("a b\n\n \t\nc\n")
    assert list(read_sentences(tmp_path / "a")) == [["a", "b"], ["c"]]
    assert [r.tokens for r in read_records(tmp_path / "a")] == [("a", "b"), (), (), ("c",)]


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "parquet", "fasta", "conllu"])
def test_every_format_that_is_embedded_is_trained_on(tmp_path, suffix):
    """Training took the lines of any file for sentences: keys of JSON became words."""
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"body": ["A C"]}), path)
    else:
        content = {
            "txt": "\ufeffA\tC\n",
            "jsonl": json.dumps({"body": "A C"}) + "\n",
            "fasta": ">id\nAC\n",
            "conllu": "1\tA\t_\n2\tC\t_\n",
        }
        path.write_text(content[suffix], "utf-8")
    shards = find_shards([str(tmp_path)], fields=Fields(text="body"))
    assert list(read_all_sentences(shards)) == [["A", "C"]]


def test_bytes_that_are_not_utf8_are_named_with_file_and_line(tmp_path):
    (tmp_path / "a").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(TextError, match=r"a:2: not UTF-8: byte 0xe9 at column 4.*iconv"):
        list(read_sentences(tmp_path / "a"))


def test_a_nul_byte_is_named_with_file_and_line(tmp_path):
    (tmp_path / "a").write_bytes(b"good\nb\0d\n")
    with pytest.raises(TextError, match="a:2: holds a NUL byte"):
        list(read_sentences(tmp_path / "a"))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:20] + b"\xff" + b[21:]])
def test_a_damaged_gz_is_named(tmp_path, damage):
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(999)))
    (tmp_path / "a.gz").write_bytes(damage(whole))
    with pytest.raises(TextError, match=r"a\.gz:\d+: cannot be read"):
        list(read_lines(tmp_path / "a.gz"))


def test_patterns_that_name_no_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\*.txt does not exist"):
        find_shards([str(tmp_path / "*.txt")])


def test_shards_are_sorted_and_each_comes_once(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    found = find_shards([str(tmp_path / "*"), str(tmp_path / "b")])
    assert [shard.path.name for shard in found] == ["a", "b"]


def test_what_can_be_read_only_once_is_refused_before_the_work(tmp_path):
    """A pipe was empty when training read it the second time, and was waited for."""
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), "-"):
        with pytest.raises(InputError, match="can be read only once"):
            find_shards([name])


def test_a_run_recognizes_shards_that_earlier_versions_wrote(tmp_path):
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "a.jsonl").write_text("{}\n")
    plain, structured = (find_shards([str(tmp_path / name)])[0] for name in ("a.txt", "a.jsonl"))
    assert identity_of(plain) == identity_of(tmp_path / "a.txt") == ["a.txt", 2]
    assert identity_of(structured) == ["a.jsonl", 3, "jsonl", "text"]


def test_a_name_may_hold_the_characters_of_a_pattern(tmp_path):
    """a[1].txt was read as a pattern, which it does not match itself."""
    (tmp_path / "a[1].txt").write_text("x y\n")
    assert list(read_all_sentences(find_shards([str(tmp_path / "a[1].txt")]))) == [["x", "y"]]
