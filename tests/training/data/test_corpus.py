"""Streams of sentences, rows without gaps, and positions that can be restored."""

import json
from collections import Counter
from itertools import islice

import pytest

from elmo_deploy.training.data import corpus
from elmo_deploy.training.data.corpus import PackedRows, ShuffledSentences, TrainingStreams
from elmo_deploy.training.data.shards import read_all_sentences
from elmo_runtime.errors import InputError

SENTENCES = [["a", "b"], ["c"], ["d", "e", "f"]]


def test_rows_hold_sentences_without_gaps_or_padding():
    rows = PackedRows(iter(SENTENCES), n_rows=1)
    first, second = rows.window(4), rows.window(4)
    assert (first.inputs, first.targets) == ([["<S>", "a", "b", "<S>"]], [["a", "b", "</S>", "c"]])
    assert second.inputs == [["c", "<S>", "d", "e"]]
    assert second.targets == [["</S>", "d", "e", "f"]]
    assert rows.window(4) is None


def test_the_backward_direction_reads_from_the_end_and_never_reads_its_begin_token():
    window = PackedRows(iter(SENTENCES), n_rows=1, backward=True).window(5)
    assert window.inputs == [["</S>", "b", "a", "</S>", "c"]]
    assert window.targets == [["b", "a", "<S>", "c", "<S>"]]


def test_a_row_takes_the_next_sentence_of_the_stream_when_it_needs_one():
    window = PackedRows(iter(SENTENCES), n_rows=2).window(4)
    assert window.inputs == [["<S>", "a", "b", "<S>"], ["<S>", "d", "e", "f"]]


def epoch(sentences, count):
    return [" ".join(tokens) for tokens in islice(sentences, count)]


def test_every_epoch_reads_every_sentence_once_in_its_own_order(shards):
    everything = Counter(" ".join(tokens) for tokens in read_all_sentences(shards))
    stream = ShuffledSentences(shards, seed=0, direction=0)
    first, second = (epoch(stream, everything.total()) for _ in range(2))
    assert Counter(first) == Counter(second) == everything
    assert first != second


def test_the_directions_read_in_different_orders(shards):
    orders = [epoch(ShuffledSentences(shards, seed=0, direction=d), 120) for d in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


@pytest.mark.parametrize("block", [7, 500_000])
@pytest.mark.parametrize("windows", [0, 1, 13, 40])
def test_streams_continue_from_a_saved_state(shards, monkeypatch, block, windows):
    monkeypatch.setattr(corpus, "BLOCK", block)
    streams = TrainingStreams(shards, n_rows=3, seed=5)
    for _ in range(windows):
        streams.windows(20)
    state = json.loads(json.dumps(streams.state()))
    resumed = TrainingStreams(shards, n_rows=3, seed=5, state=state)
    for _ in range(20):
        assert streams.windows(20) == resumed.windows(20)


def test_a_state_of_an_earlier_version_is_read(shards):
    """Its positions call the epoch a passage."""
    streams = TrainingStreams(shards, n_rows=3, seed=5)
    streams.windows(20)
    state = streams.state()
    for position in state["positions"]:
        position["passage"] = position.pop("epoch")
    resumed = TrainingStreams(shards, n_rows=3, seed=5, state=state)
    assert streams.windows(20) == resumed.windows(20)


def test_all_of_a_shard_larger_than_a_block_is_read(shards, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK", 7)
    test_every_epoch_reads_every_sentence_once_in_its_own_order(shards)


def test_empty_shards_are_passed_over_but_not_all_may_be_empty(tmp_path):
    for name, content in (("a", "\n\n"), ("b", "x y\n"), ("c", "")):
        (tmp_path / name).write_text(content)
    paths = [tmp_path / name for name in "abc"]
    assert epoch(ShuffledSentences(paths, seed=0, direction=0), 3) == ["x y"] * 3
    with pytest.raises(InputError, match="contain no sentence"):
        next(ShuffledSentences([paths[0], paths[2]], seed=0, direction=0))
