"""Text files are read as lines of UTF-8; what is wrong is named with file and line."""

import gzip

import pytest

from elmo_deploy.training.shards import TextError, find_shards, read_lines, read_sentences
from elmo_runtime.errors import InputError


def test_a_gz_shard_reads_as_the_plain_one(tmp_path):
    text = "the cat .\r\nété 東京\nlast line".encode()
    (tmp_path / "a.txt").write_bytes(text)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text))
    lines = list(read_lines(tmp_path / "a.txt"))
    assert (
        lines == list(read_lines(tmp_path / "a.txt.gz")) == ["the cat .", "été 東京", "last line"]
    )


def test_blank_lines_are_passed_over(tmp_path):
    (tmp_path / "a").write_text("a b\n\n \t\nc\n")
    assert list(read_sentences(tmp_path / "a")) == [["a", "b"], ["c"]]


def test_bytes_that_are_not_utf8_are_named_with_file_and_line(tmp_path):
    (tmp_path / "a").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(TextError, match=r"a:2: not UTF-8: byte 0xe9 at column 4.*iconv"):
        list(read_lines(tmp_path / "a"))


def test_a_nul_byte_is_named_with_file_and_line(tmp_path):
    (tmp_path / "a").write_bytes(b"good\nb\0d\n")
    with pytest.raises(TextError, match="a:2: holds a NUL byte"):
        list(read_sentences(tmp_path / "a"))


@pytest.mark.parametrize("spoilt", [lambda b: b[:-9], lambda b: b[:20] + b"\xff" + b[21:]])
def test_a_spoilt_gz_is_named(tmp_path, spoilt):
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(999)))
    (tmp_path / "a.gz").write_bytes(spoilt(whole))
    with pytest.raises(TextError, match=r"a\.gz:\d+: cannot be read"):
        list(read_lines(tmp_path / "a.gz"))


def test_patterns_that_name_no_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file matches"):
        find_shards([str(tmp_path / "*.txt")])


def test_shards_are_sorted_and_each_comes_once(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).touch()
    found = find_shards([str(tmp_path / "*"), str(tmp_path / "b")])
    assert [path.name for path in found] == ["a", "b"]
