"""Windows of words become tensors with the same content."""

import numpy as np
import torch

from elmo_deploy.training.data.batches import Lexicon
from elmo_deploy.training.data.corpus import Window
from elmo_deploy.training.data.vocabulary import Vocabulary
from elmo_runtime.characters import char_ids
from random_models import tiny_config

VOCABULARY = Vocabulary(("<S>", "</S>", "<UNK>", "the", "cat"))
FORWARD = Window([["<S>", "the"], ["the", "ocelot"]], [["the", "cat"], ["ocelot", "</S>"]])
BACKWARD = Window([["</S>", "x" * 60], ["cat", "the"]], [["cat", "the"], ["the", "<S>"]])


def rows_of(batch):
    """The character ids of each position, with the columns that were cut off."""
    words = [F for group in batch.words for F in torch.nn.functional.pad(
        group, (0, 50 - group.shape[1]), value=261)]  # fmt: skip
    return torch.stack(words)[batch.positions]


def test_every_position_holds_the_characters_of_its_word():
    batch = Lexicon(VOCABULARY, tiny_config()).batch(FORWARD, BACKWARD)
    expected = [[char_ids(row) for row in window.inputs] for window in (FORWARD, BACKWARD)]
    assert np.array_equal(rows_of(batch), np.array(expected))


def test_a_word_occurs_once_and_no_wider_than_its_group_needs():
    batch = Lexicon(VOCABULARY, tiny_config()).batch(FORWARD, BACKWARD)
    assert sum(map(len, batch.words)) == 6
    assert [group.shape[1] for group in batch.words] == [8, 12, 16, 50]


def test_targets_outside_the_vocabulary_are_unknown():
    batch = Lexicon(VOCABULARY, tiny_config()).batch(FORWARD, BACKWARD)
    assert batch.targets.tolist() == [[[3, 4], [2, 1]], [[4, 3], [3, 0]]]
