"""Lines become records; a line that gives no sentence is named by file and line."""

import contextlib
import gzip
import json
import os
import threading

import pytest

from elmo_runtime.errors import InputError
from elmo_runtime.text import BadRecord, Corpus, Fields, Record, find_sources, lines

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


@pytest.mark.parametrize(
    "white", ["\t", "\u00a0", "\u3000", "\u2028", "\x0b", "\x0c", "\x1c", "\x85", " \t "]
)
def test_a_line_is_split_at_any_white_space(tmp_path, white):
    """`embed` split files at U+0020 only: three tokens where train and AllenNLP saw six."""
    path = written(tmp_path / "a.txt", f"old{white}dogs{white}\n{white}\n".encode())
    assert [record.tokens for record in read(path)] == [("old", "dogs"), ()]
    (record, _) = read(path)
    assert record.tokens == tuple(f"old{white}dogs{white}".split())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 16])
def test_lines_end_as_in_the_text_mode_of_python(tmp_path, monkeypatch, end, piece):
    r"""A lone \r was a part of a token, and only one line of such a file was read."""
    monkeypatch.setattr(lines, "_PIECE_BYTES", piece)
    text = f"\ufeffold dogs{end}{end}sleep{end}here"
    path = written(tmp_path / "a.txt", text.encode())
    with path.open(encoding="utf-8-sig") as stream:
        expected = [tuple(line.split()) for line in stream]
    assert [record.tokens for record in read(path)] == expected
    assert expected == [("old", "dogs"), (), ("sleep",), ("here",)]


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    path = written(tmp_path / "a.txt", b"\xef\xbb\xbfthe cat\n\xef\xbb\xbf")
    assert [record.tokens for record in read(path)] == [("the", "cat"), ("\ufeff",)]


def test_a_line_that_is_not_utf8_is_named_and_the_next_one_read(tmp_path):
    path = written(tmp_path / "a.txt", b"fine\nbad \xff\nfine\n")
    first, bad, last = read(path)
    assert str(bad).startswith("a.txt:2: not UTF-8: byte 0xff at column 5 (invalid start byte)")
    assert (first.tokens, last.tokens) == (("fine",), ("fine",))


def test_an_endless_line_is_named_and_never_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named_and_not_read_as_text(tmp_path, encoding):
    """Without its mark it is UTF-8 full of NUL bytes, and was embedded."""
    path = written(tmp_path / "a.txt", "old dogs\n".encode(encoding))
    assert all(isinstance(bad, BadRecord) for bad in read(path))


def test_compressed_text_under_the_name_of_a_text_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(b"old dogs\n"))
    assert "this is compressed; unpack it" in str(read(path)[0])


def test_blank_lines_of_json_lines_are_skipped(tmp_path):
    """They ended the run, or were counted as skipped lines."""
    path = written(
        tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "old dogs"}\n\n \r\n{"text": "sleep"}\n\n'
    )
    assert [(r.tokens, r.where) for r in read(path)] == [
        (("old", "dogs"), "a.jsonl:1"),
        (("sleep",), "a.jsonl:4"),
    ]


def test_a_carriage_return_inside_a_json_line_is_white_space_of_json(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"text":\r"old dogs"}\r\n{"text": "sleep\\ttoo"}')
    assert [record.tokens for record in read(path)] == [("old", "dogs"), ("sleep", "too")]


FASTA = b""">prot1 made up
TVSTi
TK*

; a comment
>empty
>sp|P2|X gaps
AC-D.E *G
"""


@pytest.mark.parametrize("name", ["a.fasta", "a.fa", "a.faa.gz", "a.FASTA"])
def test_fasta_gives_residues_under_the_id_of_the_header(tmp_path, name):
    """The header was embedded as a sentence, and each line of residues as one word."""
    records = read(written(tmp_path / name, FASTA.replace(b"\n", b"\r\n")))
    assert [(r.id, r.tokens, r.key) for r in records] == [
        ("prot1", tuple("TVSTiTK"), "prot1"),
        ("empty", (), "empty"),
        ("sp|P2|X", tuple("ACDE*G"), "sp|P2|X"),
    ]
    assert [r.where.rpartition(":")[2] for r in records] == ["1", "6", "7"]


def test_a_wrong_fasta_line_is_named_once_per_sequence(tmp_path):
    path = written(tmp_path / "a.fasta", b"ACD\nEFG\n>a\nAC1D\n?\n>b\nAC\xff\nD\n>\nAC\n")
    *bad, good = read(path)
    assert [str(each).partition(";")[0] for each in bad] == [
        "a.fasta:1: a FASTA file begins with a header line, >ID",
        "a.fasta:4: '1' is not a residue",
        "a.fasta:7: not UTF-8: byte 0xff at column 3 (invalid start byte)",
    ]
    assert (good.id, good.tokens) == ("a.fasta:9", ("A", "C"))


def test_an_endless_sequence_is_named_and_never_held(tmp_path, monkeypatch):
    from elmo_runtime.text import fasta

    monkeypatch.setattr(fasta, "MAX_LINE_BYTES", 10)
    path = written(tmp_path / "a.fa", b">long\n" + b"ACDEF\n" * 9 + b">short\nACDEF\nACDEF\n")
    bad, good = read(path)
    assert str(bad) == "a.fa:1: the sequence is longer than 10 residues"
    assert len(good.tokens) == 10


CONLLU = """# newdoc

# sent_id = weblog-1
# text = Don't vámonos
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_
2.1\tsleep\tsleep\tVERB\t_\t_\t_\t_\t_\t_
3\tv\u00e1monos\tir\tVERB\t_\t_\t0\troot\t_\t_

1\t10 000\t10000\tNUM\t_\t_\t0\troot\t_\t_
"""


@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz"])
def test_conllu_gives_the_forms_of_the_syntactic_words(tmp_path, name):
    """Each line, comments too, was embedded as a sentence."""
    first, second = read(written(tmp_path / name, CONLLU.encode()))
    assert (first.id, first.tokens) == ("weblog-1", ("Do", "n't", "v\u00e1monos"))
    assert (second.id, second.tokens) == (f"{name}:11", ("10 000",))


@pytest.mark.parametrize("line", ["The DT B-NP", "1 The the", "x\tThe\t_", "1\t\t_"])
def test_a_wrong_conllu_line_is_named(tmp_path, line):
    path = written(tmp_path / "a.conllu", f"1\tOld\n{line}\n\n1\tdogs\n".encode())
    bad, good = read(path)
    assert str(bad) == f"a.conllu:2: {line!r} is not a CoNLL-U word: ID, tab, FORM, tab, ..."
    assert good.tokens == ("dogs",)


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
def test_a_bad_json_line_names_the_problem(tmp_path, line, reason):
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


def test_a_file_that_is_not_parquet_is_a_bad_record(tmp_path):
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


@pytest.fixture
def pipe(tmp_path):
    """A FIFO that gives one line."""
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)

    def write():
        with contextlib.suppress(BrokenPipeError):  # its reader may refuse it
            path.write_bytes(b"from a pipe\n")

    writer = threading.Thread(target=write)
    writer.start()
    yield path
    writer.join()


def test_a_pipe_may_be_one_of_the_files(tmp_path, pipe):
    """Reading the position of the pipe raised OSError, Illegal seek."""
    path = written(tmp_path / "a.txt", b"from a file\n")
    corpus = Corpus(find_sources([str(path), str(pipe)]))
    assert [(record.tokens, corpus.fraction_read) for record in corpus] == [
        (("from", "a", "file"), None),
        (("from", "a", "pipe"), None),
    ]


def test_parquet_from_a_pipe_is_refused(pipe):
    """It ended in a message of pyarrow about a seek."""
    with pytest.raises(InputError, match="is a pipe, but Parquet is read from its end"):
        list(Corpus(find_sources([str(pipe)], format="parquet")))


def test_the_fraction_of_standard_input_is_unknown():
    assert Corpus(find_sources(["-"])).fraction_read is None
