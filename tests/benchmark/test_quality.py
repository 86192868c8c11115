"""The quality benchmark: every measure on a small treebank, and its controls."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SENTENCES = (
    (("they", "PRON"), ("left", "VERB"), ("the", "DET"), ("house", "NOUN")),
    (("my", "PRON"), ("left", "ADJ"), ("hand", "NOUN")),
    (("she", "PRON"), ("left", "VERB"), ("early", "ADV")),
)


@pytest.fixture(scope="module", autouse=True)
def benchmarks_are_importable():
    folders = [str(ROOT / "benchmarks"), str(ROOT / "examples")]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """UD EWT in miniature, with a multiword range and an empty node."""
    folder = tmp_path_factory.mktemp("treebank")
    noise = "1-2\tdon't\t_\t_\n8.1\tnothing\t_\tVERB\n"
    blocks = [
        noise + "".join(f"{n}\t{w}\t_\t{tag}\n" for n, (w, tag) in enumerate(sentence, start=1))
        for sentence in SENTENCES
    ]
    for part, times in (("train", 25), ("dev", 3), ("test", 4)):
        with gzip.open(folder / f"en_ewt-ud-{part}.conllu.gz", "wt", encoding="utf-8") as stream:
            stream.write("\n".join(blocks * times) + "\n")
    return folder


@pytest.fixture(scope="module")
def treebank(folder):
    from treebank import read_treebank

    return read_treebank(folder)


def test_ranges_and_empty_nodes_are_no_words(treebank):
    assert treebank["train"][1] == (["my", "left", "hand"], ["PRON", "ADJ", "NOUN"])
    assert len(treebank["test"]) == 4 * len(SENTENCES)


def test_the_most_frequent_tag_is_wrong_for_the_other_tag_of_a_word(treebank):
    from controls import most_frequent_tag

    assert most_frequent_tag(treebank) == pytest.approx(90.0)  # one of ten words is "left", ADJ


def test_a_control_sees_only_its_features(treebank):
    from controls import linear, two_neighbors, word_and_neighbors

    assert linear(treebank, word_and_neighbors) == 100
    assert two_neighbors(["a", "b", "c"], 0) == ["-1 <end>", "+1 b"]


def test_homographs_are_words_with_several_tags(treebank):
    from homographs import homographs, most_frequent

    (left,) = homographs(treebank)
    assert left.word == "left"
    assert (len(left.train), len(left.test)) == (75, 12)
    assert most_frequent([left]) == pytest.approx(100 * 2 / 3, abs=0.01)


def test_neighbors_decide_between_the_tags(treebank):
    from homographs import by_neighbors, homographs, share_right

    assert share_right(homographs(treebank), by_neighbors(treebank)) == 100


def test_equal_vectors_count_by_the_share_of_the_tag(treebank):
    """The first of equally near uses was taken, which made the order of the file a feature."""
    from homographs import by_cosine, homographs, share_right

    constant = np.ones((1000, 4), np.float16)
    found = share_right(homographs(treebank), by_cosine(constant, constant))
    assert found == pytest.approx(100 * (4 / 9 + 1 / 9), abs=0.01)


def test_all_figures_have_their_controls(
    folder, tiny_checkpoint, tiny_bundle, tmp_path, monkeypatch, capsys
):
    import quality

    tiny_checkpoint.write(tmp_path / "checkpoint")
    output = tmp_path / "quality.json"
    words = [tiny_bundle, "--checkpoint", tmp_path / "checkpoint", "--treebank", folder]
    words += ["--draws", 1]
    monkeypatch.setattr(sys, "argv", ["quality.py", *map(str, words), "-o", str(output)])
    quality.main()
    found = json.loads(output.read_text("utf-8"))
    assert found["random weights, draw 0"].keys() == found["trained"].keys()
    assert len(found["tags without ELMo"]) == 5
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "| random |" in capsys.readouterr().out
