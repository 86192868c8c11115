"""Sentences in every common form become lists of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from elmo_runtime.errors import InputError, TextWarning
from elmo_runtime.text.tokens import split_line, split_text, token_lists


def test_a_string_from_python_is_split_at_spaces_and_line_ends():
    r"""The rule of TF Hub left a line end in the last token: "dogs\n" got another vector."""
    assert split_text(" old  dogs\n") == ["old", "dogs"]
    assert split_text("old dogs\r\nsleep\rhere\n") == ["old", "dogs", "sleep", "here"]
    assert split_text("  a  b\tc\u00a0d e ") == ["a", "b\tc\u00a0d", "e"]


def test_a_line_of_a_file_is_split_at_any_white_space():
    assert split_line("old\tdogs\u00a0sleep\u3000well here\n") == [
        "old",
        "dogs",
        "sleep",
        "well",
        "here",
    ]


def test_strings_and_token_lists_may_be_mixed():
    sentences = ["a b", ["a", ""], ("c",), np.array(["d"]), []]
    assert list(token_lists(sentences)) == [["a", "b"], ["a", ""], ["c"], ["d"], []]


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        iter,
        np.array,
        lambda lines: np.array(lines, object),
        lambda lines: (line for line in lines),
        lambda lines: {"text": lines}["text"],
    ],
)
def test_every_ordered_form_of_lines_gives_the_same_tokens(form):
    """Lines of an open file keep their ends, which became a part of the last token."""
    lines = ["old dogs\n", "sleep\r\n"]
    assert list(token_lists(form(lines))) == [["old", "dogs"], ["sleep"]]


def test_an_open_file_gives_its_lines(tmp_path):
    (tmp_path / "a.txt").write_text("old dogs\nsleep\n")
    with (tmp_path / "a.txt").open() as stream:
        assert list(token_lists(stream)) == [["old", "dogs"], ["sleep"]]


def test_a_series_of_pandas_is_taken_and_a_frame_refused():
    """A frame was iterated: the names of its columns were embedded."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["old dogs\n", "sleep"]}, index=[7, 7])
    assert list(token_lists(frame["text"])) == [["old", "dogs"], ["sleep"]]
    with pytest.raises(InputError, match="sentences is a DataFrame, whose iteration gives"):
        list(token_lists(frame))


@pytest.mark.parametrize(
    ("sentences", "said"),
    [
        (["a b", "c d\te f\u00a0g"], r"2 tokens hold white space.*'d\\te' in sentence 1, token 1"),
        ([["old dogs sleep"]], r"1 tokens hold.*'old dogs sleep' in sentence 0, token 0"),
        ([["old", "dogs\n"]], r"1 tokens hold.*'dogs\\n' in sentence 0, token 1"),
        ([["old", " "]], r"1 tokens hold.*' ' in sentence 0, token 1"),
    ],
)
def test_tokens_with_white_space_are_reported_once(sentences, said):
    """Text with tabs was embedded as a few long words, without a word about it."""
    with pytest.warns(TextWarning, match=said) as warned:
        list(token_lists(sentences))
    assert len(warned) == 1


def test_the_warning_points_at_the_line_of_the_caller(embedder):
    with pytest.warns(TextWarning) as warned:
        embedder.embed(["a\tb"])
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    ("sentences", "named"),
    [
        ("a b", "sentences is one str"),
        (b"a", "sentences is one bytes"),
        (None, "sentences is one NoneType"),
        (7, "sentences is one int"),
        ({"a b", "c"}, "sentences is a set, which has no order"),
        ([None], "sentence 0 is a NoneType"),
        (["a", 1.5], "sentence 1 is a float"),
        ([b"a"], "sentence 0 is a bytes"),
        ([{"a"}], "sentence 0 is a set"),
        ([{"a": 1}], "sentence 0 is a dict"),
        ([np.array(3)], "sentence 0 holds no tokens"),
        (np.array("a b"), "an array without axes"),
        ({"a b": 1}, "sentences is a dict, whose iteration gives its keys"),
        ([["a", None]], "sentence 0, token 1 is a NoneType"),
        ([["a"], [["b"]]], "sentence 1, token 0 is a list"),
    ],
)
def test_a_value_that_is_not_text_is_named(sentences, named):
    with pytest.raises(InputError, match=named):
        list(token_lists(sentences))
