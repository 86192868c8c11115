"""What the caller names is read once, in a fixed order, under names that do not clash."""

import pytest

from elmo_runtime.bulk import find_sources
from elmo_runtime.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.txt", "a.jsonl", "deep/c.txt.gz", "deep/d.parquet", "_job.json", ".hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.md").touch()
    return tmp_path


def test_a_folder_gives_its_known_files_in_order(folder):
    found = find_sources([str(folder)])
    assert [(source.name, source.format) for source in found] == [
        ("a.jsonl", "jsonl"),
        ("b.txt", "text"),
        ("deep/c.txt.gz", "text"),
        ("deep/d.parquet", "parquet"),
    ]
    assert [source.compressed for source in found] == [False, False, True, False]


def test_a_glob_is_expanded_in_order(folder):
    found = find_sources([str(folder / "**" / "*.txt*")])
    assert [source.name for source in found] == ["b.txt", "c.txt.gz"]


def test_any_file_named_by_itself_is_taken_as_text(folder):
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
def test_what_cannot_be_read_once_is_refused(folder, arguments, message):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_sources([argument.format(folder) for argument in arguments])


def test_an_unknown_format_is_refused(folder):
    with pytest.raises(InputError, match="use auto, text, jsonl, parquet"):
        find_sources([str(folder)], format="csv")
