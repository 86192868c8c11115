"""The vocabulary: special tokens, then words by decreasing count; errors name the line."""

import gzip

import pytest

from elmo_deploy.training.data.vocabulary import Vocabulary, VocabularyError
from elmo_runtime.errors import InputError

SENTENCES = [["b", "a", "c"], ["c", "b", "c", "<S>"], ["d"]]


def test_words_follow_the_special_tokens_by_decreasing_count():
    assert Vocabulary.count(SENTENCES).words == ("<S>", "</S>", "<UNK>", "c", "b", "a", "d")


def test_rare_words_and_words_beyond_the_size_are_left_out():
    assert Vocabulary.count(SENTENCES, min_count=2).words[3:] == ("c", "b")
    assert Vocabulary.count(SENTENCES, max_size=4).words[3:] == ("c",)
    with pytest.raises(InputError, match="max_size is 3"):
        Vocabulary.count(SENTENCES, max_size=3)


def test_a_vocabulary_survives_the_disk(tmp_path):
    vocabulary = Vocabulary.count(SENTENCES)
    vocabulary.write(tmp_path / "vocab.txt")
    vocabulary.write(tmp_path / "vocab.txt.gz")  # this was plain text under the name of a .gz
    assert gzip.decompress((tmp_path / "vocab.txt.gz").read_bytes()).startswith(b"<S>\n</S>\n")
    assert Vocabulary.read(tmp_path / "vocab.txt").words == vocabulary.words
    assert Vocabulary.read(tmp_path / "vocab.txt.gz").ids == vocabulary.ids


@pytest.mark.parametrize(
    "content",
    [
        "<S> \n</S>\t\n <UNK>\nthe \ncat\n",
        "\ufeff<S>\r\n</S>\r\n<UNK>\r\nthe\r\ncat\r\n",
        "<S>\r</S>\r<UNK>\rthe\rcat",
        "<S>\n</S>\n<UNK>\n!!!MAXTERMID\nthe\u00a0\ncat",
    ],
)
def test_white_space_around_a_word_is_dropped_as_in_bilm_tf(tmp_path, content):
    """A blank behind each word made all words unknown, and training report a perplexity of 1.4."""
    (tmp_path / "vocab.txt").write_bytes(content.encode())
    words = ("<S>", "</S>", "<UNK>", "the", "cat")
    assert Vocabulary.read(tmp_path / "vocab.txt").words == words


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"<S>\n</S>\na\n", r"vocab\.txt lacks <UNK>"),
        (b"<S>\n</S>\n<UNK>\na\nb\na\n", r"vocab\.txt:6: 'a' is already in line 4"),
        (b"<S>\n</S>\n<UNK>\n\na\n", r"vocab\.txt:4: no token"),
        (b"<S>\n</S>\n<UNK>\ncaf\xe9\n", r"vocab\.txt:4: not UTF-8"),
        (b"", r"vocab\.txt lacks <S>, </S>, <UNK>"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, lines, message):
    (tmp_path / "vocab.txt").write_bytes(lines)
    with pytest.raises(Exception, match=message):
        Vocabulary.read(tmp_path / "vocab.txt")


def test_an_alphabetical_vocabulary_is_refused_with_the_line_that_shows_it():
    words = [f"w{number:04}" for number in range(2000)]
    text = [[words[1999 - min(rank % 50, rank % 7)] for rank in range(5000)]]
    Vocabulary.count(text).require_frequency_order(text)
    alphabetical = Vocabulary(("<S>", "</S>", "<UNK>", *words), source="vocab.txt")
    with pytest.raises(VocabularyError, match=r"vocab\.txt:2003: 'w1999' is .* not sorted"):
        alphabetical.require_frequency_order(text)
