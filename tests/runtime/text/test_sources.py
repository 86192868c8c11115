"""Every named input is read once, in a fixed order, under a unique name."""

import os

import pytest

from elmo_runtime.errors import InputError
from elmo_runtime.text import find_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.jsonl", "deep/c.txt.gz", "deep/d.parquet", "_job.json", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.md").touch()
    return tmp_path


def test_a_directory_gives_its_known_files_in_order(folder):
    found = find_sources([str(folder)])
    assert [(source.name, source.format) for source in found] == [
        ("a.jsonl", "jsonl"),
        ("b.txt", "text"),
        ("deep/c.txt.gz", "text"),
        ("deep/d.parquet", "parquet"),
    ]


def test_a_glob_is_expanded_in_order(folder):
    found = find_sources([str(folder / "**" / "*.txt*")])
    assert [source.name for source in found] == ["b.txt", "c.txt.gz"]


def test_any_file_that_is_named_is_read_as_text(folder):
    assert find_sources([str(folder / "notes.md")])[0].format == "text"


def test_files_of_one_name_are_called_as_they_were_given(folder):
    (folder / "deep" / "b.txt").touch()
    arguments = [str(folder / "b.txt"), str(folder / "deep" / "b.txt")]
    assert [source.name for source in find_sources(arguments)] == arguments


def test_standard_input_is_text_of_unknown_size():
    source = find_sources(["-"])[0]
    assert (source.path, source.format, source.size) == (None, "text", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no input"),
        (["{}/absent.txt"], "does not exist"),
        (["{}/empty"], "holds no input"),
        (["{}/b.txt", "{}"], "named 2 times"),
        (["-", "-"], "standard input is named 2 times"),
    ],
)
def test_an_input_that_cannot_be_read_once_is_refused(folder, arguments, message):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_sources([argument.format(folder) for argument in arguments])


def test_an_unknown_format_is_refused(folder):
    with pytest.raises(InputError, match="use auto, text, jsonl, parquet, fasta, conllu"):
        find_sources([str(folder)], format="csv")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.csv", "write its sentences"),
        ("a.TSV", "write its sentences"),
        ("a.csv.gz", "write its sentences"),
        ("a.json", "one JSON object per line"),
        ("a.html", "extract its text"),
        ("a.pdf", "extract its text"),
        ("a.docx", "extract its text"),
        ("a.conll", "convert it to .conllu"),
        ("a.fastq", "convert it to .fasta"),
        ("a.txt.bz2", "only .gz"),
        ("a.tar.gz", "only .gz"),
        ("a.npz", "name the text"),
        ("a.hdf5", "name the text"),
    ],
)
def test_a_suffix_that_names_another_kind_of_file_is_refused(tmp_path, name, advice):
    """Tables and archives were embedded as if they had one sentence per line."""
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"(?s){name} does not .*{advice}.*--format text"):
        find_sources([str(tmp_path / name)])
    with pytest.raises(InputError, match="does not hold one sentence per line"):
        find_sources([str(tmp_path / "a*")])
    assert find_sources([str(tmp_path / name)], format="text")[0].format == "text"


def test_names_of_corpora_that_have_no_known_suffix_are_text(tmp_path):
    for name in ("news.en-00001-of-00100", "wiki.en", "README", "notes.md", "v1.2"):
        (tmp_path / name).touch()
        assert find_sources([str(tmp_path / name)])[0].format == "text"


def test_links_to_directories_are_followed_and_loops_end(folder):
    """A linked subdirectory was skipped without a message."""
    elsewhere = folder.parent / f"{folder.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far.txt").touch()
    (elsewhere / "back").symlink_to(folder)
    (folder / "link").symlink_to(elsewhere)
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "again.txt").symlink_to(folder / "b.txt")
    names = [source.name for source in find_sources([str(folder)])]
    assert names == ["a.jsonl", "again.txt", "deep/c.txt.gz", "deep/d.parquet", "link/far.txt"]


def test_a_broken_link_is_named(folder):
    """It was skipped without a message."""
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    for argument in (folder, folder / "gone.txt"):
        with pytest.raises(InputError, match=r"gone.txt is a broken link"):
            find_sources([str(argument)])


def test_a_format_chooses_among_the_files_of_a_folder(folder):
    """With --format jsonl every file of the folder was read as JSON lines."""
    assert [s.name for s in find_sources([str(folder)], format="jsonl")] == ["a.jsonl"]


@pytest.mark.parametrize("name", ["a[1].txt", "a b.txt", "-x.txt", "a\nb.txt", "*.txt", "~", "é"])
def test_unusual_names_are_files_and_not_patterns(tmp_path, name):
    for other in (name, "a1.txt", "b.txt"):
        (tmp_path / other).touch()
    assert [source.name for source in find_sources([str(tmp_path / name)])] == [name]


def test_a_name_that_is_not_utf8_can_be_written_to_any_file(tmp_path):
    """Ids contained the name as Python spells it, and writing them to Parquet failed."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "wb") as stream:
        stream.write(b"x")
    (source,) = find_sources([os.fsdecode(path)])
    assert source.name == "caf\\xe9.txt"
    assert source.path.read_bytes() == b"x"
