"""Lines become records; a line that gives no sentence is named by file and line."""

import gzip
import json

import pytest

from elmo_runtime.bulk import BadRecord, Corpus, Fields, Record, find_sources, readers
from elmo_runtime.errors import InputError

pyarrow = pytest.importorskip("pyarrow")


def read(path, **fields):
    return list(Corpus(find_sources([str(path)]), fields=Fields(**fields)))


def written(path, content: bytes):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_are_split_on_spaces_and_called_by_their_number(tmp_path, name):
    path = written(tmp_path / name, b"the  cat\r\n\nsat\n")
    assert read(path) == [
        Record(f"{name}:1", ("the", "cat"), f"{name}:1"),
        Record(f"{name}:2", (), f"{name}:2"),
        Record(f"{name}:3", ("sat",), f"{name}:3"),
    ]


def test_only_newlines_end_a_line(tmp_path):
    """str.splitlines also cuts at U+2028, form feeds and lone carriage returns."""
    path = written(tmp_path / "a.txt", "a\u2028b\x0cc\rd\x85e".encode())
    assert [record.tokens for record in read(path)] == [("a\u2028b\x0cc\rd\x85e",)]


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    path = written(tmp_path / "a.txt", b"\xef\xbb\xbfthe cat\n\xef\xbb\xbf")
    assert [record.tokens for record in read(path)] == [("the", "cat"), ("\ufeff",)]


def test_a_line_that_is_not_utf8_is_named_and_the_next_one_read(tmp_path):
    path = written(tmp_path / "a.txt", b"fine\nbad \xff\nfine\n")
    first, bad, last = read(path)
    assert str(bad) == "a.txt:2: not UTF-8: invalid start byte at byte 4 of the line"
    assert (first.tokens, last.tokens) == (("fine",), ("fine",))


def test_an_endless_line_is_named_and_never_held(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 10)
    path = written(tmp_path / "a.txt", b"0123456789\n" + b"x" * 35 + b"\nok\n" + b"y" * 11)
    whole, long, ok, last = read(path)
    assert (whole.tokens, ok.tokens) == (("0123456789",), ("ok",))
    assert [bad.where for bad in (long, last)] == ["a.txt:2", "a.txt:4"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_gzip_file_gives_its_first_lines_and_then_a_bad_record(tmp_path, damage):
    path = tmp_path / "a.txt.gz"
    packed = bytearray(gzip.compress(b"first\nsecond\n"))
    packed = packed[:-6] if damage == "cut" else packed[:-6] + b"\0\0" + packed[-4:]
    path.write_bytes(bytes(packed))
    *good, bad = read(path)
    assert isinstance(bad, BadRecord)
    assert "cannot be read from here to its end" in bad.reason
    assert all(isinstance(record, Record) for record in good)


def test_json_lines_give_text_or_tokens_and_an_id(tmp_path):
    lines = [{"text": "the cat", "key": 7}, {"text": ["a b", "c"], "key": "x"}]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)).encode())
    assert [(r.id, r.tokens) for r in read(path, id="key")] == [
        ("7", ("the", "cat")),
        ("x", ("a b", "c")),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", "holds list, must be a JSON object"),
        ('{"body": "x"}', "has no field 'text', its fields are ['body']"),
        ('{"text": 3, "id": 1}', "'text' is int, must be a string or a list of strings"),
        ('{"text": ["a", null], "id": 1}', "'text' is list"),
        ('{"text": "a"}', "'id' is None, must be a string or an integer"),
        ('{"text": "a", "id": true}', "'id' is True"),
        ('{"text": "a \\ud800", "id": 1}', "lone surrogate at character 2"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_json_line_says_what_is_wrong(tmp_path, line, reason):
    path = written(tmp_path / "a.jsonl", line.encode() + b"\n" + b'{"text": "ok", "id": 2}')
    bad, ok = read(path, id="id")
    assert bad.where == "a.jsonl:1"
    assert reason in bad.reason
    assert ok.tokens == ("ok",)


def parquet_file(path, **columns):
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_rows_give_text_or_tokens(tmp_path):
    texts = parquet_file(tmp_path / "a.parquet", text=["the cat", None], id=[1, 2])
    good, bad = read(texts, id="id")
    assert (good.id, good.tokens) == ("1", ("the", "cat"))
    assert str(bad) == "a.parquet:2: 'text' is NoneType, must be a string or a list of strings"
    lists = parquet_file(tmp_path / "b.parquet", words=[["the", "cat"], []])
    assert [record.tokens for record in read(lists, text="words")] == [("the", "cat"), ()]


def test_a_parquet_file_without_the_column_is_refused_with_its_columns(tmp_path):
    path = parquet_file(tmp_path / "a.parquet", body=["x"])
    with pytest.raises(InputError, match=r"a.parquet has no column 'text'; its columns are body"):
        read(path)


def test_what_is_no_parquet_file_is_a_bad_record(tmp_path):
    (bad,) = read(written(tmp_path / "a.parquet", b"PAR1 but no more"))
    assert bad.where == "a.parquet:1"
    assert "not a Parquet file" in bad.reason


def test_a_flipped_byte_in_parquet_is_no_crash(tmp_path):
    path = parquet_file(tmp_path / "a.parquet", text=[f"word{i} word" for i in range(200)])
    content = path.read_bytes()
    for position in range(4, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        try:
            read(written(path, bytes(flipped)))
        except InputError as error:
            assert "has no column" in str(error)


def test_the_fraction_read_grows_to_one(tmp_path):
    paths = [written(tmp_path / name, b"line\n" * 50_000) for name in ("a.txt", "b.txt.gz")]
    corpus = Corpus(find_sources([str(path) for path in paths]))
    seen = [corpus.fraction_read for _ in corpus]
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.5
    assert corpus.fraction_read == 1


def test_the_fraction_of_standard_input_is_unknown():
    assert Corpus(find_sources(["-"])).fraction_read is None
